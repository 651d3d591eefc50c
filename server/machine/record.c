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
    return kv_record_new_living(key, value_size, &(struct kv_life){0});
}

struct kv_record *
kv_record_new_living(struct kv_slice key, size_t value_size, const struct kv_life *life)
{
    const int64_t numbers[] = {life->expires_at_ms, life->lease_id, life->fields_due_ms};
    const size_t life_bytes =
        8 * ((size_t)(numbers[0] != 0) + (numbers[1] != 0) + (numbers[2] != 0));
    uint8_t *p;
    struct kv_record *record =
        kv_machine_alloc(offsetof(struct kv_record, bytes) + key.size + value_size + life_bytes);

    memset(record, 0, offsetof(struct kv_record, bytes));
    record->key_size = key.size & 0x1fff;
    record->value_size = value_size & 0xffffff;
    record->has_expiry = life->expires_at_ms != 0;
    record->has_lease = life->lease_id != 0;
    record->has_fields = life->fields_due_ms != 0;
    memcpy(record->bytes, key.data, key.size);
    p = record->bytes + key.size + value_size;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (numbers[i] != 0) {
            kv_put_u64(p, (uint64_t)numbers[i]);
            p += 8;
        }
    }
    return record;
}

static int64_t next_number(const uint8_t **p, bool is_there)
{
    int64_t number = is_there ? (int64_t)kv_get_u64(*p) : 0;

    *p += is_there ? 8 : 0;
    return number;
}

struct kv_life kv_record_life(const struct kv_record *record)
{
    struct kv_life life = {0};
    const uint8_t *p;

    if (record && kv_record_life_bytes(record) > 0) {
        p = record->bytes + record->key_size + record->value_size;
        life.expires_at_ms = next_number(&p, record->has_expiry);
        life.lease_id = next_number(&p, record->has_lease);
        life.fields_due_ms = next_number(&p, record->has_fields);
    }
    return life;
}

int64_t kv_record_due_ms(const struct kv_record *record)
{
    const struct kv_life life = kv_record_life(record);
    int64_t due_ms = life.expires_at_ms != 0 ? life.expires_at_ms : INT64_MAX;

    return life.fields_due_ms != 0 && life.fields_due_ms < due_ms ? life.fields_due_ms : due_ms;
}

void kv_record_free(struct kv_record *record)
{
    free(record);
}

static size_t content_size(const struct kv_record *record)
{
    return record->key_size + (size_t)record->value_size + kv_record_life_bytes(record);
}

/* Above the types; 0 of what never ends. */
static uint64_t life_flags(const struct kv_record *record)
{
    return (uint64_t)record->has_expiry << 8 | (uint64_t)record->has_lease << 9 |
           (uint64_t)record->has_fields << 10;
}

static uint64_t key_hash(const struct kv_record *record)
{
    const uint64_t head[5] = {(uint64_t)record->mod_revision,
                              (uint64_t)record->create_revision,
                              record->version,
                              record->key_size,
                              record->type | life_flags(record)};

    return XXH3_64bits_withSeed(
        record->bytes, content_size(record), XXH3_64bits(head, sizeof head));
}

uint64_t kv_record_hash(const struct kv_record *record)
{
    if (record->is_element) {
        return XXH3_64bits_withSeed(record->bytes,
                                    content_size(record),
                                    (uint64_t)record->mod_revision ^ life_flags(record) << 32);
    }
    return key_hash(record);
}
