#include "server/machine/record.h"

#include "common/assert.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

const char *kv_type_name(enum kv_type type)
{
    static const char *const names[] = {
        "nothing", "string", "counter", "hash", "list", "set", "zset", "limiter"};

    return (size_t)type < sizeof names / sizeof names[0] ? names[type] : "unknown type";
}

void *kv_machine_alloc(size_t size)
{
    void *memory = malloc(size);

    if (!memory) {
        kv_assert_failed("memory to apply a committed command", __FILE__, __LINE__);
    }
    return memory;
}

struct kv_record *kv_record_new(struct kv_slice key, size_t value_size)
{
    struct kv_record *record =
        kv_machine_alloc(offsetof(struct kv_record, bytes) + key.size + value_size);

    memset(record, 0, offsetof(struct kv_record, bytes));
    record->key_size = key.size & 0x1fff;
    record->value_size = (uint32_t)value_size;
    memcpy(record->bytes, key.data, key.size);
    return record;
}

void kv_record_free(struct kv_record *record)
{
    free(record);
}

static uint64_t key_hash(const struct kv_record *record)
{
    const uint64_t head[5] = {(uint64_t)record->mod_revision,
                              (uint64_t)record->create_revision,
                              record->version,
                              record->key_size,
                              record->type};

    return XXH3_64bits_withSeed(record->bytes,
                                record->key_size + (size_t)record->value_size,
                                XXH3_64bits(head, sizeof head));
}

uint64_t kv_record_hash(const struct kv_record *record)
{
    if (record->is_element) {
        return XXH3_64bits_withSeed(record->bytes,
                                    record->key_size + (size_t)record->value_size,
                                    (uint64_t)record->mod_revision);
    }
    return key_hash(record);
}
