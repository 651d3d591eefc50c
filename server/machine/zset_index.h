/* The members of large sorted sets by (score, member): a tree without history beside that of the
 * elements, from which it can be made anew. Keys: the collection's number, the score as 8 bytes
 * whose order is its own, the member. */
#ifndef KV_MACHINE_ZSET_INDEX_H
#define KV_MACHINE_ZSET_INDEX_H

#include "server/machine/collection.h"

struct kv_zset_index_key {
    size_t size;
    uint8_t bytes[KV_ELEMENT_KEY_BYTES_MAX];
};

/* The key of a set's members of this score (kv_score_order) from this one on. */
struct kv_slice kv_zset_index_key(uint64_t id,
                                  uint64_t order,
                                  struct kv_slice member,
                                  struct kv_zset_index_key *ret_key);
/* The member is in the set `id` with this score. */
void kv_zset_index_add(struct kv_machine *machine,
                       uint64_t id,
                       double score,
                       struct kv_slice member);
/* The element is a live record of a sorted set. */
void kv_zset_index_put(struct kv_machine *machine, const struct kv_record *element);
void kv_zset_index_remove(struct kv_machine *machine, const struct kv_record *element);

bool kv_zset_index_has(const struct kv_machine *machine, const struct kv_record *element);

static inline double kv_zset_score_of(const struct kv_record *element)
{
    return kv_score_of_bits(kv_get_u64(kv_record_value(element).data));
}

enum { KV_SCORE_PREFIX_BYTES = KV_COLLECTION_ID_BYTES + 8 };

/* Score and member of a record of the index. */
static inline double kv_zset_index_score(const struct kv_record *record)
{
    return kv_score_of_order(kv_get_u64_be(record->bytes + KV_COLLECTION_ID_BYTES));
}
static inline struct kv_slice kv_zset_index_member(const struct kv_record *record)
{
    return kv_slice_of(record->bytes + KV_SCORE_PREFIX_BYTES,
                       record->key_size - (size_t)KV_SCORE_PREFIX_BYTES);
}

#endif
