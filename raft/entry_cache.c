#include "raft/entry_cache.h"

#include "common/assert.h"

#include <raft.h>
#include <stdlib.h>

enum { SLOTS_MIN = 256, ENTRY_OVERHEAD_BYTES = 64 };

struct kv_entry_batch *kv_entry_batch_new(void *memory)
{
    struct kv_entry_batch *batch = malloc(sizeof *batch);

    if (batch) {
        *batch = (struct kv_entry_batch){memory, 1};
    }
    return batch;
}

void kv_entry_batch_release(struct kv_entry_batch *batch)
{
    KV_ASSERT(batch->references > 0);
    if (--batch->references == 0) {
        raft_free(batch->memory);
        free(batch);
    }
}

void kv_entry_cache_init(struct kv_entry_cache *cache, uint64_t last_index)
{
    *cache = (struct kv_entry_cache){.first_index = last_index + 1, .last_index = last_index};
}

static struct kv_cached_entry *slot_of(const struct kv_entry_cache *cache, uint64_t index)
{
    return &cache->slots[index & (cache->capacity - 1)];
}

static size_t cost_of(const struct kv_cached_entry *entry)
{
    return entry->data.size + ENTRY_OVERHEAD_BYTES;
}

static void drop_slot(struct kv_entry_cache *cache, uint64_t index)
{
    struct kv_cached_entry *entry = slot_of(cache, index);

    cache->bytes -= cost_of(entry);
    kv_entry_batch_release(entry->batch);
    entry->batch = NULL;
}

void kv_entry_cache_deinit(struct kv_entry_cache *cache)
{
    kv_entry_cache_truncate(cache, cache->first_index);
    free(cache->slots);
    cache->slots = NULL;
    cache->capacity = 0;
}

static int grow(struct kv_entry_cache *cache)
{
    size_t capacity = cache->capacity ? cache->capacity * 2 : SLOTS_MIN;
    struct kv_cached_entry *slots = calloc(capacity, sizeof *slots);

    if (!slots) {
        return KV_NO_MEMORY;
    }
    for (uint64_t i = cache->first_index; i <= cache->last_index; i++) {
        slots[i & (capacity - 1)] = *slot_of(cache, i);
    }
    free(cache->slots);
    cache->slots = slots;
    cache->capacity = capacity;
    return 0;
}

int kv_entry_cache_append(struct kv_entry_cache *cache,
                          uint64_t index,
                          const struct kv_cached_entry *entry)
{
    KV_ASSERT(index == cache->last_index + 1);
    if (cache->last_index + 1 - cache->first_index == cache->capacity && grow(cache) != 0) {
        return KV_NO_MEMORY;
    }
    *slot_of(cache, index) = *entry;
    entry->batch->references++;
    cache->bytes += cost_of(entry);
    cache->last_index = index;
    return 0;
}

void kv_entry_cache_truncate(struct kv_entry_cache *cache, uint64_t index)
{
    while (cache->last_index >= index && cache->last_index >= cache->first_index) {
        drop_slot(cache, cache->last_index);
        cache->last_index--;
    }
    if (cache->last_index >= index) {
        /* Everything held is gone and the cut lies further back still. */
        cache->last_index = index - 1;
        cache->first_index = index;
    }
}

const struct kv_cached_entry *kv_entry_cache_get(const struct kv_entry_cache *cache, uint64_t index)
{
    if (index < cache->first_index || index > cache->last_index) {
        return NULL;
    }
    return slot_of(cache, index);
}

void kv_entry_cache_trim(struct kv_entry_cache *cache, uint64_t keep_behind, size_t max_bytes)
{
    while (cache->bytes > max_bytes && cache->first_index <= keep_behind &&
           cache->first_index <= cache->last_index) {
        drop_slot(cache, cache->first_index);
        cache->first_index++;
    }
}
