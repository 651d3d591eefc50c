#include "server/machine/heap.h"

#include "common/assert.h"
#include "server/machine/record.h"

#include <stdlib.h>
#include <string.h>

void kv_heap_deinit(struct kv_heap *heap)
{
    free(heap->items);
    *heap = (struct kv_heap){0};
}

static bool is_before(const struct kv_heap_item *a, const struct kv_heap_item *b)
{
    return a->deadline_ms != b->deadline_ms ? a->deadline_ms < b->deadline_ms
                                            : a->number < b->number;
}

static void place(struct kv_heap *heap, struct kv_heap_item *item, size_t at)
{
    heap->items[at] = item;
    item->at = at;
}

static void sift_up(struct kv_heap *heap, struct kv_heap_item *item)
{
    size_t at = item->at;

    while (at > 0 && is_before(item, heap->items[(at - 1) / 2])) {
        place(heap, heap->items[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    place(heap, item, at);
}

static void sift_down(struct kv_heap *heap, struct kv_heap_item *item)
{
    size_t at = item->at;
    size_t child;

    while ((child = 2 * at + 1) < heap->n) {
        if (child + 1 < heap->n && is_before(heap->items[child + 1], heap->items[child])) {
            child++;
        }
        if (!is_before(heap->items[child], item)) {
            break;
        }
        place(heap, heap->items[child], at);
        at = child;
    }
    place(heap, item, at);
}

void kv_heap_add(struct kv_heap *heap, struct kv_heap_item *item)
{
    if (heap->n == heap->capacity) {
        const size_t capacity = heap->capacity ? 2 * heap->capacity : 64;
        struct kv_heap_item **items = kv_machine_alloc(capacity * sizeof(struct kv_heap_item *));

        if (heap->n > 0) {
            memcpy(items, heap->items, heap->n * sizeof(struct kv_heap_item *));
        }
        free(heap->items);
        heap->items = items;
        heap->capacity = capacity;
    }
    place(heap, item, heap->n++);
    sift_up(heap, item);
}

void kv_heap_remove(struct kv_heap *heap, struct kv_heap_item *item)
{
    struct kv_heap_item *last = heap->items[--heap->n];

    KV_ASSERT(item->at <= heap->n);
    if (last != item) {
        place(heap, last, item->at);
        sift_up(heap, last);
        sift_down(heap, last);
    }
}

void kv_heap_move(struct kv_heap *heap, struct kv_heap_item *item, int64_t deadline_ms)
{
    item->deadline_ms = deadline_ms;
    sift_up(heap, item);
    sift_down(heap, item);
}

void kv_heap_check_invariants(const struct kv_heap *heap)
{
    for (size_t i = 0; i < heap->n; i++) {
        KV_ASSERT(heap->items[i]->at == i);
        KV_ASSERT(i == 0 || is_before(heap->items[(i - 1) / 2], heap->items[i]));
    }
}
