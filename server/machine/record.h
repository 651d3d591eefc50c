/* A record: one version of one key, immutable, in one allocation: header, key, value, and the times
 * that it has. It points to the version that it replaced, as long as history keeps that. */
#ifndef KV_MACHINE_RECORD_H
#define KV_MACHINE_RECORD_H

#include "common/bytes.h"
#include "common/limits.h"

#include <stdbool.h>

/* As enum Type of kv.proto. */
enum kv_type {
    KV_TYPE_NONE,
    KV_TYPE_STRING,
    KV_TYPE_COUNTER,
    KV_TYPE_HASH,
    KV_TYPE_LIST,
    KV_TYPE_SET,
    KV_TYPE_ZSET,
    KV_TYPE_LIMITER,
};

#define KV_VERSION_MAX ((UINT64_C(1) << 43) - 1)

struct kv_record {
    struct kv_record *older;
    int64_t mod_revision;
    int64_t create_revision;
    uint64_t version : 43;
    uint64_t key_size : 13;
    uint64_t type : 4;
    uint64_t tombstone : 1;  /* the key was deleted at mod_revision */
    uint64_t is_element : 1; /* of the tree of elements, not a key's */
    uint64_t is_large : 1;   /* a collection whose elements are in that tree: struct kv_large */
    uint64_t drops : 1;      /* the large collection that it replaced ended with this change */
    uint32_t value_size : 24;
    uint32_t has_expiry : 1; /* it ends at a time of its own ... */
    uint32_t has_lease : 1;  /* ... or with a lease */
    uint32_t has_fields : 1; /* a large hash of which fields have times */
    uint32_t expired : 1;    /* a key's tombstone: its time, or its lease's, was over */
    uint8_t bytes[];         /* key, value, then 8 bytes for each has_*, in this order */
};
_Static_assert(KV_VALUE_BYTES_MAX < 1 << 24, "the size of a value fits its bits");

/* When a record ends; 0 each: it does not. What is 0 takes no memory. */
struct kv_life {
    int64_t expires_at_ms; /* cluster time; then lease_id is 0 */
    int64_t lease_id;
    int64_t fields_due_ms; /* of a large hash: the least expires_at_ms of its fields */
};

static inline struct kv_slice kv_record_key(const struct kv_record *record)
{
    return (struct kv_slice){record->bytes, record->key_size};
}

static inline struct kv_slice kv_record_value(const struct kv_record *record)
{
    return (struct kv_slice){record->bytes + record->key_size, record->value_size};
}

static inline size_t kv_record_life_bytes(const struct kv_record *record)
{
    return 8 * ((size_t)record->has_expiry + record->has_lease + record->has_fields);
}

/* Of NULL: it never ends. */
struct kv_life kv_record_life(const struct kv_record *record);
/* The earliest deadline that the record itself tells; INT64_MAX: none. A lease's is not known here.
 */
int64_t kv_record_due_ms(const struct kv_record *record);

/* The value of a large collection's record: four numbers, little endian. */
struct kv_large {
    uint64_t id;    /* its elements' keys begin with it; never used again */
    uint64_t count; /* live elements */
    uint64_t bytes; /* the sum of their costs ... */
    uint64_t hash;  /* ... and of their hashes */
};
enum { KV_LARGE_BYTES = 32 };

static inline struct kv_large kv_record_large(const struct kv_record *record)
{
    const uint8_t *p = kv_record_value(record).data;

    return (struct kv_large){
        kv_get_u64(p), kv_get_u64(p + 8), kv_get_u64(p + 16), kv_get_u64(p + 24)};
}

/* What it counts against limits: by content, never by allocator. */
static inline uint64_t kv_record_cost(const struct kv_record *record)
{
    return 40 + record->key_size + (uint64_t)record->value_size + kv_record_life_bytes(record);
}

/* Key, value, and the elements that belong to it. */
static inline uint64_t kv_record_data_bytes(const struct kv_record *record)
{
    return record->key_size + (uint64_t)record->value_size + kv_record_life_bytes(record) +
           (record->is_large ? kv_record_large(record).bytes : 0);
}

const char *kv_type_name(enum kv_type type);
static inline bool kv_type_is_collection(enum kv_type type)
{
    return type == KV_TYPE_HASH || type == KV_TYPE_LIST || type == KV_TYPE_SET ||
           type == KV_TYPE_ZSET;
}
/* Elements of a collection; 0 for other types. */
static inline uint64_t kv_record_elements(const struct kv_record *record)
{
    if (!kv_type_is_collection((enum kv_type)record->type)) {
        return 0;
    }
    return record->is_large ? kv_record_large(record).count : *kv_record_value(record).data;
}

/* The value's bytes are not set. Never NULL: without memory the process ends, since skipping a
 * change would let nodes diverge. */
struct kv_record *kv_record_new(struct kv_slice key, size_t value_size);
struct kv_record *
kv_record_new_living(struct kv_slice key, size_t value_size, const struct kv_life *life);
void kv_record_free(struct kv_record *record); /* takes NULL */
/* Of a live record's content, for the state hash. A large collection's tells that of its elements.
 */
uint64_t kv_record_hash(const struct kv_record *record);

/* Memory of the machine's, or the end of the process. */
void *kv_machine_alloc(size_t size);

#endif
