#include "server/machine/deadlines.h"

#include "common/assert.h"

#include <string.h>

enum { NUMBER_BYTES = 8 };

struct index_key {
    size_t size;
    uint8_t bytes[2 * NUMBER_BYTES + KV_KEY_BYTES_MAX];
};

static struct kv_slice
make_key(struct index_key *key, const uint64_t *numbers, size_t n_numbers, struct kv_slice name)
{
    const size_t head = n_numbers * NUMBER_BYTES;

    KV_ASSERT(head + name.size <= sizeof key->bytes);
    for (size_t i = 0; i < n_numbers; i++) {
        kv_put_u64_be(key->bytes + i * NUMBER_BYTES, numbers[i]);
    }
    if (name.size > 0) {
        memcpy(key->bytes + head, name.data, name.size);
    }
    return kv_slice_of(key->bytes, head + name.size);
}

static void change(struct kv_tree *tree, struct kv_slice key, bool add)
{
    if (add) {
        struct kv_record *former = kv_tree_put(tree, kv_record_new(key, 0));

        KV_ASSERT(!former);
    } else {
        struct kv_record *record = kv_tree_remove(tree, key);

        KV_ASSERT(record);
        kv_record_free(record);
    }
}

static void change_all(struct kv_machine *machine, const struct kv_record *record, bool add)
{
    const struct kv_life life = kv_record_life(record);
    struct index_key key;

    if (record->is_element) {
        const uint64_t numbers[] = {kv_get_u64_be(record->bytes), (uint64_t)life.expires_at_ms};

        if (life.expires_at_ms != 0) {
            change(&machine->fields, make_key(&key, numbers, 2, kv_element_name(record)), add);
        }
        return;
    }
    if (record->has_expiry || record->has_fields) {
        const uint64_t due_ms = (uint64_t)kv_record_due_ms(record);

        change(&machine->deadlines, make_key(&key, &due_ms, 1, kv_record_key(record)), add);
    }
    if (record->has_lease) {
        const uint64_t lease_id = (uint64_t)life.lease_id;

        change(&machine->lease_keys, make_key(&key, &lease_id, 1, kv_record_key(record)), add);
    }
}

void kv_deadlines_add(struct kv_machine *machine, const struct kv_record *record)
{
    if (kv_has_life(record)) {
        change_all(machine, record, true);
    }
}

void kv_deadlines_remove(struct kv_machine *machine, const struct kv_record *record)
{
    if (kv_has_life(record)) {
        change_all(machine, record, false);
    }
}

/* The first entry at or behind `from` that begins with the number; NULL: there is none. */
static const struct kv_record *
first_of(const struct kv_tree *tree, struct kv_slice from, uint64_t number)
{
    struct kv_tree_cursor cursor;
    const struct kv_record *record;

    kv_tree_seek(tree, from, &cursor);
    record = kv_tree_cursor_get(&cursor);
    return record && kv_get_u64_be(record->bytes) == number ? record : NULL;
}

static struct kv_slice name_of(const struct kv_record *record, size_t n_numbers)
{
    const size_t head = n_numbers * NUMBER_BYTES;

    return kv_slice_of(record->bytes + head, record->key_size - head);
}

bool kv_deadlines_first(const struct kv_machine *machine,
                        int64_t *ret_due_ms,
                        struct kv_slice *ret_key)
{
    struct kv_tree_cursor cursor;
    const struct kv_record *record;

    kv_tree_seek(&machine->deadlines, kv_slice_of(NULL, 0), &cursor);
    record = kv_tree_cursor_get(&cursor);
    if (!record) {
        return false;
    }
    *ret_due_ms = (int64_t)kv_get_u64_be(record->bytes);
    *ret_key = name_of(record, 1);
    return true;
}

bool kv_fields_first(const struct kv_machine *machine,
                     uint64_t id,
                     int64_t *ret_due_ms,
                     struct kv_slice *ret_field)
{
    struct index_key key;
    const struct kv_record *record =
        first_of(&machine->fields, make_key(&key, &id, 1, kv_slice_of(NULL, 0)), id);

    if (!record) {
        return false;
    }
    *ret_due_ms = (int64_t)kv_get_u64_be(record->bytes + NUMBER_BYTES);
    *ret_field = name_of(record, 2);
    return true;
}

bool kv_lease_keys_next(const struct kv_machine *machine,
                        int64_t lease_id,
                        struct kv_slice after,
                        struct kv_slice *ret_key)
{
    const uint64_t number = (uint64_t)lease_id;
    struct kv_tree_cursor cursor;
    struct index_key key;
    struct kv_slice from = make_key(&key, &number, 1, after);
    const struct kv_record *record;

    kv_tree_seek(&machine->lease_keys, from, &cursor);
    record = kv_tree_cursor_get(&cursor);
    if (record && after.size > 0 && kv_slice_equal(kv_record_key(record), from)) {
        kv_tree_next(&cursor);
        record = kv_tree_cursor_get(&cursor);
    }
    if (!record || kv_get_u64_be(record->bytes) != number) {
        return false;
    }
    *ret_key = name_of(record, 1);
    return true;
}

uint64_t kv_lease_keys_count(const struct kv_machine *machine, int64_t lease_id)
{
    const uint64_t from = (uint64_t)lease_id, to = from + 1;
    struct index_key key;
    uint64_t before =
        kv_tree_rank(&machine->lease_keys, make_key(&key, &from, 1, kv_slice_of(NULL, 0)));

    return kv_tree_rank(&machine->lease_keys, make_key(&key, &to, 1, kv_slice_of(NULL, 0))) -
           before;
}

bool kv_deadlines_have(const struct kv_machine *machine, const struct kv_record *record)
{
    const struct kv_life life = kv_record_life(record);
    const uint64_t due_ms = (uint64_t)kv_record_due_ms(record);
    const uint64_t lease_id = (uint64_t)life.lease_id;
    struct index_key key;

    if (record->is_element) {
        const uint64_t numbers[] = {kv_get_u64_be(record->bytes), (uint64_t)life.expires_at_ms};

        return life.expires_at_ms == 0 ||
               kv_tree_find(&machine->fields, make_key(&key, numbers, 2, kv_element_name(record)));
    }
    if ((record->has_expiry || record->has_fields) &&
        !kv_tree_find(&machine->deadlines, make_key(&key, &due_ms, 1, kv_record_key(record)))) {
        return false;
    }
    return !record->has_lease ||
           kv_tree_find(&machine->lease_keys, make_key(&key, &lease_id, 1, kv_record_key(record)));
}
