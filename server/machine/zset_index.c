#include "server/machine/zset_index.h"

#include "common/assert.h"

#include <string.h>

struct kv_slice kv_zset_index_key(uint64_t id,
                                  uint64_t order,
                                  struct kv_slice member,
                                  struct kv_zset_index_key *ret_key)
{
    KV_ASSERT(member.size <= sizeof ret_key->bytes - KV_SCORE_PREFIX_BYTES);
    kv_put_u64_be(ret_key->bytes, id);
    kv_put_u64_be(ret_key->bytes + KV_COLLECTION_ID_BYTES, order);
    if (member.size > 0) {
        memcpy(ret_key->bytes + KV_SCORE_PREFIX_BYTES, member.data, member.size);
    }
    ret_key->size = KV_SCORE_PREFIX_BYTES + member.size;
    return kv_slice_of(ret_key->bytes, ret_key->size);
}

static struct kv_slice make_key(const struct kv_record *element, struct kv_zset_index_key *key)
{
    return kv_zset_index_key(kv_get_u64_be(element->bytes),
                             kv_score_order(kv_zset_score_of(element)),
                             kv_element_name(element),
                             key);
}

void kv_zset_index_add(struct kv_machine *machine,
                       uint64_t id,
                       double score,
                       struct kv_slice member)
{
    struct kv_zset_index_key key;
    struct kv_slice bytes = kv_zset_index_key(id, kv_score_order(score), member, &key);
    struct kv_record *former = kv_tree_put(&machine->scores, kv_record_new(bytes, 0));

    KV_ASSERT(!former);
}

void kv_zset_index_put(struct kv_machine *machine, const struct kv_record *element)
{
    kv_zset_index_add(machine,
                      kv_get_u64_be(element->bytes),
                      kv_zset_score_of(element),
                      kv_element_name(element));
}

void kv_zset_index_remove(struct kv_machine *machine, const struct kv_record *element)
{
    struct kv_zset_index_key key;
    struct kv_record *record = kv_tree_remove(&machine->scores, make_key(element, &key));

    KV_ASSERT(record);
    kv_record_free(record);
}

bool kv_zset_index_has(const struct kv_machine *machine, const struct kv_record *element)
{
    struct kv_zset_index_key key;

    return kv_tree_find(&machine->scores, make_key(element, &key)) != NULL;
}
