#include "server/machine/zset_index.h"

#include "common/assert.h"

#include <string.h>

struct index_key {
    size_t size;
    uint8_t bytes[KV_ELEMENT_KEY_BYTES_MAX];
};

static struct kv_slice make_key(const struct kv_record *element, struct index_key *key)
{
    struct kv_slice member = kv_element_name(element);

    memcpy(key->bytes, element->bytes, KV_COLLECTION_ID_BYTES);
    kv_put_u64_be(key->bytes + KV_COLLECTION_ID_BYTES, kv_score_order(kv_zset_score_of(element)));
    memcpy(key->bytes + KV_SCORE_PREFIX_BYTES, member.data, member.size);
    return kv_slice_of(key->bytes, KV_SCORE_PREFIX_BYTES + member.size);
}

void kv_zset_index_put(struct kv_machine *machine, const struct kv_record *element)
{
    struct index_key key;
    struct kv_record *former =
        kv_tree_put(&machine->scores, kv_record_new(make_key(element, &key), 0));

    KV_ASSERT(!former);
}

void kv_zset_index_remove(struct kv_machine *machine, const struct kv_record *element)
{
    struct index_key key;
    struct kv_record *record = kv_tree_remove(&machine->scores, make_key(element, &key));

    KV_ASSERT(record);
    kv_record_free(record);
}

bool kv_zset_index_has(const struct kv_machine *machine, const struct kv_record *element)
{
    struct index_key key;

    return kv_tree_find(&machine->scores, make_key(element, &key)) != NULL;
}
