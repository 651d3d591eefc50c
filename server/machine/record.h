/* A record: one version of one key, immutable, in one allocation: header, key, value. It points to
 * the version that it replaced, as long as history keeps that. */
#ifndef KV_MACHINE_RECORD_H
#define KV_MACHINE_RECORD_H

#include "common/bytes.h"

#include <stdbool.h>

/* As enum Type of kv.proto. */
enum kv_type { KV_TYPE_NONE, KV_TYPE_STRING };

struct kv_record {
    struct kv_record *older;
    int64_t mod_revision;
    int64_t create_revision;
    uint64_t version : 46;
    uint64_t key_size : 13;
    uint64_t type : 4;
    uint64_t tombstone : 1; /* the key was deleted at mod_revision */
    uint32_t value_size;
    uint8_t bytes[]; /* key, value */
};

static inline struct kv_slice kv_record_key(const struct kv_record *record)
{
    return (struct kv_slice){record->bytes, record->key_size};
}

static inline struct kv_slice kv_record_value(const struct kv_record *record)
{
    return (struct kv_slice){record->bytes + record->key_size, record->value_size};
}

/* What it counts against limits: by content, never by allocator. */
static inline uint64_t kv_record_cost(const struct kv_record *record)
{
    return 40 + record->key_size + (uint64_t)record->value_size;
}

/* The value's bytes are not set. Never NULL: without memory the process ends, since skipping a
 * change would let nodes diverge. */
struct kv_record *kv_record_new(struct kv_slice key, size_t value_size);
void kv_record_free(struct kv_record *record); /* takes NULL */
/* Of a live record's content, for the state hash. */
uint64_t kv_record_hash(const struct kv_record *record);

/* Memory of the machine's, or the end of the process. */
void *kv_machine_alloc(size_t size);

#endif
