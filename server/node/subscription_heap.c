/* Binary heaps of subscriptions by a number; each knows its places. */
#include "server/node/subscription.h"

#include "common/assert.h"

#include <stdlib.h>

int kv_heaps_reserve(struct kv_subscription_heaps *heaps, size_t n)
{
    size_t capacity = heaps->capacity ? heaps->capacity : 64;

    if (n <= heaps->capacity) {
        return 0;
    }
    while (capacity < n) {
        capacity *= 2;
    }
    for (int i = 0; i < KV_HEAPS; i++) {
        struct kv_heap_entry *entries =
            realloc(heaps->entries[i], capacity * sizeof(struct kv_heap_entry));

        if (!entries) {
            return KV_NO_MEMORY;
        }
        heaps->entries[i] = entries;
    }
    heaps->capacity = capacity;
    return 0;
}

void kv_heaps_deinit(struct kv_subscription_heaps *heaps)
{
    for (int i = 0; i < KV_HEAPS; i++) {
        free(heaps->entries[i]);
    }
    *heaps = (struct kv_subscription_heaps){0};
}

static void set(struct kv_heap_entry *entries,
                enum kv_subscription_heap heap,
                size_t at,
                struct kv_heap_entry entry)
{
    entries[at] = entry;
    entry.sub->heap_at[heap] = (uint32_t)at;
}

static void rise(struct kv_heap_entry *entries,
                 enum kv_subscription_heap heap,
                 size_t at,
                 struct kv_heap_entry entry)
{
    while (at > 0 && entry.key < entries[(at - 1) / 2].key) {
        set(entries, heap, at, entries[(at - 1) / 2]);
        at = (at - 1) / 2;
    }
    set(entries, heap, at, entry);
}

static void sink(struct kv_heap_entry *entries,
                 enum kv_subscription_heap heap,
                 size_t n,
                 size_t at,
                 struct kv_heap_entry entry)
{
    for (;;) {
        size_t child = 2 * at + 1;

        if (child + 1 < n && entries[child + 1].key < entries[child].key) {
            child++;
        }
        if (child >= n || entries[child].key >= entry.key) {
            break;
        }
        set(entries, heap, at, entries[child]);
        at = child;
    }
    set(entries, heap, at, entry);
}

void kv_heaps_put(struct kv_subscription_heaps *heaps,
                  enum kv_subscription_heap heap,
                  struct kv_subscription *sub,
                  uint64_t key)
{
    KV_ASSERT(sub->heap_at[heap] == KV_HEAP_NOWHERE && heaps->n[heap] < heaps->capacity);
    rise(heaps->entries[heap], heap, heaps->n[heap]++, (struct kv_heap_entry){key, sub});
}

void kv_heaps_remove(struct kv_subscription_heaps *heaps,
                     enum kv_subscription_heap heap,
                     struct kv_subscription *sub)
{
    struct kv_heap_entry *entries = heaps->entries[heap];
    const size_t at = sub->heap_at[heap];
    struct kv_heap_entry last;

    if (at == KV_HEAP_NOWHERE) {
        return;
    }
    sub->heap_at[heap] = KV_HEAP_NOWHERE;
    last = entries[--heaps->n[heap]];
    if (last.sub == sub) {
        return;
    }
    if (at > 0 && last.key < entries[(at - 1) / 2].key) {
        rise(entries, heap, at, last);
    } else {
        sink(entries, heap, heaps->n[heap], at, last);
    }
}

const struct kv_heap_entry *kv_heaps_first(const struct kv_subscription_heaps *heaps,
                                           enum kv_subscription_heap heap)
{
    return heaps->n[heap] > 0 ? &heaps->entries[heap][0] : NULL;
}
