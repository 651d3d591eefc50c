/* The newest entries of the log in memory, by index: what is to be applied and sent soon. Bounded
 * by bytes: the oldest go once they are applied and stored; what a peer or a restart needs beyond
 * is read back from the log. */
#ifndef KV_RAFT_ENTRY_CACHE_H
#define KV_RAFT_ENTRY_CACHE_H

#include "common/bytes.h"
#include "common/status.h"

/* Memory that several entries share, from raft_malloc. */
struct kv_entry_batch {
    void *memory;
    unsigned references;
};

struct kv_cached_entry {
    uint64_t term;
    uint64_t write_sequence; /* of the log: guard 4 */
    struct kv_slice data;
    struct kv_entry_batch *batch;
    uint16_t type;
};

struct kv_entry_cache {
    struct kv_cached_entry *slots; /* ring, a power of two */
    size_t capacity;
    uint64_t first_index; /* of what is held; last + 1 when empty */
    uint64_t last_index;
    size_t bytes;
};

/* Empty; the next entry is last_index + 1. */
void kv_entry_cache_init(struct kv_entry_cache *cache, uint64_t last_index);
void kv_entry_cache_deinit(struct kv_entry_cache *cache);
/* index must be last_index + 1; takes a reference of the batch. */
int kv_entry_cache_append(struct kv_entry_cache *cache,
                          uint64_t index,
                          const struct kv_cached_entry *entry) KV_MUST_CHECK;
void kv_entry_cache_truncate(struct kv_entry_cache *cache, uint64_t index);
/* NULL: not held. */
const struct kv_cached_entry *kv_entry_cache_get(const struct kv_entry_cache *cache,
                                                 uint64_t index);
/* Drops the oldest up to and including keep_behind while there are more than max_bytes. */
void kv_entry_cache_trim(struct kv_entry_cache *cache, uint64_t keep_behind, size_t max_bytes);

/* Takes memory (from raft_malloc) with one reference; NULL without memory. */
struct kv_entry_batch *kv_entry_batch_new(void *memory);
void kv_entry_batch_release(struct kv_entry_batch *batch);

#endif
