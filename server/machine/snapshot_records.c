/* Records of a snapshot: keys and elements as they were at the oldest revision, then every change
 * as its command made it, so that costs, versions, sums and hashes are computed anew. */
#include "server/machine/collection.h"
#include "server/machine/command.h"
#include "server/machine/deadlines.h"
#include "server/machine/snapshot_load_internal.h"
#include "server/machine/zset_index.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Versions that count on from here do not overflow in the machine's life. */
#define LOADED_VERSION_MAX (KV_VERSION_MAX / 2)

static int
corrupt(const struct kv_machine_loader *loader, struct kv_error *ret_error, const char *what)
{
    return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "%s", what);
}

/* ---------------------------------------------------------------- what an item may hold */

static int check_large(const struct kv_machine_loader *loader,
                       const struct kv_item *item,
                       struct kv_error *ret_error)
{
    uint64_t id;

    if (!kv_type_is_collection(item->type) || item->value.size != KV_LARGE_BYTES) {
        return corrupt(loader, ret_error, "a large collection that is none");
    }
    id = kv_get_u64(item->value.data);
    if (id == 0 || id > loader->machine->last_collection_id) {
        return kv_loader_refuse(loader, KV_CORRUPT, ret_error, "collection %" PRIu64, id);
    }
    return 0;
}

static int check_value(const struct kv_machine_loader *loader,
                       const struct kv_item *item,
                       struct kv_error *ret_error)
{
    const struct kv_packed packed = {
        .type = item->type, .data = item->value.data, .size = item->value.size};

    switch (item->type) {
    case KV_TYPE_NONE:
        return item->value.size == 0 ? 0 : corrupt(loader, ret_error, "a value without a type");
    case KV_TYPE_COUNTER:
        return item->value.size == 8 ? 0 : corrupt(loader, ret_error, "a counter's size");
    case KV_TYPE_LIMITER:
        return kv_limiter_is_sound(item->value)
                   ? 0
                   : corrupt(loader, ret_error, "a limiter is damaged");
    case KV_TYPE_HASH:
    case KV_TYPE_LIST:
    case KV_TYPE_SET:
    case KV_TYPE_ZSET:
        return kv_packed_is_sound(&packed)
                   ? 0
                   : corrupt(loader, ret_error, "a small collection's elements are damaged");
    default:
        return 0;
    }
}

/* Key, value and type of a BASE or CHANGE. */
static int check_record(const struct kv_machine_loader *loader,
                        const struct kv_item *item,
                        struct kv_error *ret_error)
{
    if (item->key.size == 0 || item->key.size > KV_KEY_BYTES_MAX ||
        item->value.size > KV_VALUE_BYTES_MAX) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "a key of %zu and a value of %zu bytes",
                                item->key.size,
                                item->value.size);
    }
    if (item->type > KV_TYPE_LIMITER) {
        return kv_loader_refuse(loader,
                                KV_UNSUPPORTED,
                                ret_error,
                                "type %d is not known here: it was made by a newer version",
                                item->type);
    }
    if (item->kind == KV_ITEM_BASE && item->drops) {
        return corrupt(loader, ret_error, "a key of the base that ends a collection");
    }
    if (item->type == KV_TYPE_NONE && item->kind == KV_ITEM_BASE) {
        return corrupt(loader, ret_error, "a key without a type");
    }
    return item->is_large ? check_large(loader, item, ret_error)
                          : check_value(loader, item, ret_error);
}

static bool is_score(struct kv_slice value)
{
    double score;

    if (value.size != 8) {
        return false;
    }
    score = kv_score_of_bits(kv_get_u64(value.data));
    return !isnan(score) && !(score == 0 && signbit(score));
}

/* Key, value and type of an element, which is removed when `drops`. */
static int check_element(const struct kv_machine_loader *loader,
                         const struct kv_item *item,
                         struct kv_error *ret_error)
{
    const size_t name_size = item->key.size - KV_COLLECTION_ID_BYTES;
    bool sound = false;

    if (item->key.size <= KV_COLLECTION_ID_BYTES || name_size > KV_KEY_BYTES_MAX ||
        item->value.size > KV_VALUE_BYTES_MAX || !kv_type_is_collection(item->type) ||
        item->is_large) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "an element of type %d with a key of %zu and a value of %zu bytes",
                                item->type,
                                item->key.size,
                                item->value.size);
    }
    if (item->drops) {
        sound = item->kind == KV_ITEM_ELEMENT_CHANGE && item->value.size == 0;
    } else if (item->type == KV_TYPE_ZSET) {
        sound = is_score(item->value);
    } else {
        sound = item->type != KV_TYPE_SET || item->value.size == 0;
    }
    return sound && (item->type != KV_TYPE_LIST || name_size == 8)
               ? 0
               : corrupt(loader, ret_error, "an element is damaged");
}

/* What an item of this kind and type may have. */
static bool life_fits(const struct kv_item *item)
{
    const struct kv_life *life = &item->life;

    switch (item->kind) {
    case KV_ITEM_BASE:
    case KV_ITEM_CHANGE:
        return item->type != KV_TYPE_NONE && (life->expires_at_ms == 0 || life->lease_id == 0) &&
               (life->fields_due_ms == 0 || (item->type == KV_TYPE_HASH && item->is_large));
    case KV_ITEM_ELEMENT:
    case KV_ITEM_ELEMENT_CHANGE:
        return item->type == KV_TYPE_HASH && !item->drops && life->lease_id == 0 &&
               life->fields_due_ms == 0;
    default:
        return false;
    }
}

/* The next number, when the flag is set: then its bytes are there. */
static bool take_number(bool is_there, const uint8_t **p, int64_t *ret_number)
{
    if (!is_there) {
        return true;
    }
    *ret_number = (int64_t)kv_get_u64(*p);
    *p += 8;
    return *ret_number > 0;
}

int kv_loader_take_life(const struct kv_machine_loader *loader,
                        struct kv_item *item,
                        struct kv_error *ret_error)
{
    const size_t size = item->value.size;
    const unsigned which = size > 0 ? item->value.data[size - 1] : 0;
    const size_t n = (which & 1) + (which >> 1 & 1) + (which >> 2 & 1);
    struct kv_life *life = &item->life;
    const uint8_t *p;

    if (which == 0 || which > 7 || size < 8 * n + 1) {
        return corrupt(loader, ret_error, "a life is cut off, or none");
    }
    item->value.size = size - 8 * n - 1;
    p = item->value.data + item->value.size;
    if (!take_number(which & KV_ITEM_LIFE_EXPIRY, &p, &life->expires_at_ms) ||
        !take_number(which & KV_ITEM_LIFE_LEASE, &p, &life->lease_id) ||
        !take_number(which & KV_ITEM_LIFE_FIELDS, &p, &life->fields_due_ms) || !life_fits(item)) {
        return corrupt(loader, ret_error, "a life is damaged");
    }
    return 0;
}

int kv_loader_check_leases(const struct kv_machine_loader *loader, struct kv_error *ret_error)
{
    const struct kv_machine *machine = loader->machine;
    uint8_t next[8] = {0};
    struct kv_tree_cursor cursor;
    const struct kv_record *record;

    for (;;) {
        kv_tree_seek(&machine->lease_keys, kv_slice_of(next, sizeof next), &cursor);
        record = kv_tree_cursor_get(&cursor);
        if (!record) {
            return 0;
        }
        if (!kv_leases_find(&machine->leases, (int64_t)kv_get_u64_be(record->bytes))) {
            return kv_error_set(ret_error,
                                KV_CORRUPT,
                                "the snapshot is damaged: it has keys of lease %" PRIu64
                                ", which it does not have",
                                kv_get_u64_be(record->bytes));
        }
        kv_put_u64_be(next, kv_get_u64_be(record->bytes) + 1);
    }
}

static void set_value(struct kv_record *record, const struct kv_item *item)
{
    if (item->value.size > 0) {
        memcpy(record->bytes + item->key.size, item->value.data, item->value.size);
    }
}

/* ---------------------------------------------------------------- the base */

/* The elements of a large collection of the base are yet to come. */
static int expect_elements(struct kv_machine_loader *loader,
                           const struct kv_record *record,
                           struct kv_error *ret_error)
{
    const struct kv_large large = kv_record_large(record);
    const int64_t fields_due_ms = kv_record_life(record).fields_due_ms;

    if (kv_sums_find(&loader->sums, large.id)) {
        return corrupt(loader, ret_error, "two keys have one collection");
    }
    (void)kv_sums_add(&loader->sums, large.id, (enum kv_type)record->type);
    if (loader->n_expected == loader->expected_capacity) {
        size_t capacity = loader->expected_capacity ? 2 * loader->expected_capacity : 64;
        struct kv_expected_large *expected = realloc(loader->expected, capacity * sizeof *expected);

        if (!expected) {
            return kv_loader_refuse(loader, KV_NO_MEMORY, ret_error, "no memory for sums");
        }
        loader->expected = expected;
        loader->expected_capacity = capacity;
    }
    loader->expected[loader->n_expected++] = (struct kv_expected_large){large, fields_due_ms};
    return 0;
}

int kv_loader_base(struct kv_machine_loader *loader,
                   const struct kv_item *item,
                   struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    uint64_t mod = kv_item_number(item, 0);
    uint64_t create = kv_item_number(item, 1);
    uint64_t version = kv_item_number(item, 2);
    struct kv_record *record;
    int status = check_record(loader, item, ret_error);

    if (status != 0) {
        return status;
    }
    if (mod > (uint64_t)machine->history.oldest_revision || create == 0 || create > mod ||
        version == 0 || version > LOADED_VERSION_MAX) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "a key of revision %" PRIu64 ", created at %" PRIu64
                                ", version %" PRIu64,
                                mod,
                                create,
                                version);
    }
    record = kv_record_new_living(item->key, item->value.size, &item->life);
    record->type = item->type & 0xf;
    record->is_large = item->is_large;
    record->mod_revision = (int64_t)mod;
    record->create_revision = (int64_t)create;
    record->version = version & KV_VERSION_MAX;
    set_value(record, item);
    if (!kv_tree_append(&machine->tree, record)) {
        kv_record_free(record);
        return corrupt(loader, ret_error, "its key is not behind the one before");
    }
    kv_deadlines_add(machine, record);
    machine->data_bytes += kv_record_data_bytes(record);
    machine->state_hash += kv_record_hash(record);
    loader->read.base++;
    return record->is_large ? expect_elements(loader, record, ret_error) : 0;
}

static struct kv_record *new_element(const struct kv_item *item)
{
    struct kv_record *record = kv_record_new_living(item->key, item->value.size, &item->life);

    record->is_element = 1;
    record->type = item->type & 0xf;
    record->mod_revision = (int64_t)kv_item_number(item, 0);
    set_value(record, item);
    return record;
}

static void add_to_sum(struct kv_sum *sum, const struct kv_record *element)
{
    sum->large.count++;
    sum->large.bytes += kv_record_cost(element);
    sum->large.hash += kv_record_hash(element);
}

int kv_loader_element(struct kv_machine_loader *loader,
                      const struct kv_item *item,
                      struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_record *record;
    struct kv_sum *sum;
    int status = check_element(loader, item, ret_error);

    if (status != 0) {
        return status;
    }
    sum = kv_sums_find(&loader->sums, kv_get_u64_be(item->key.data));
    if (!sum || sum->type != item->type || kv_item_number(item, 0) == 0 ||
        kv_item_number(item, 0) > (uint64_t)machine->history.oldest_revision) {
        return corrupt(loader, ret_error, "an element of no collection, or of no revision");
    }
    record = new_element(item);
    if (!kv_tree_append(&machine->elements, record)) {
        kv_record_free(record);
        return corrupt(loader, ret_error, "its key is not behind the one before");
    }
    add_to_sum(sum, record);
    kv_deadlines_add(machine, record);
    if (record->type == KV_TYPE_ZSET) {
        kv_zset_index_put(machine, record);
    }
    loader->read.elements++;
    return 0;
}

/* Are the elements that there are now what a key tells? */
static bool is_whole(const struct kv_machine_loader *loader,
                     const struct kv_large *large,
                     int64_t fields_due_ms)
{
    const struct kv_sum *sum = kv_sums_find(&loader->sums, large->id);
    struct kv_slice field;
    int64_t due_ms = 0;

    (void)kv_fields_first(loader->machine, large->id, &due_ms, &field);
    return sum && memcmp(&sum->large, large, sizeof *large) == 0 && due_ms == fields_due_ms;
}

int kv_loader_check_base(struct kv_machine_loader *loader, struct kv_error *ret_error)
{
    for (size_t i = 0; i < loader->n_expected; i++) {
        const struct kv_expected_large *expected = &loader->expected[i];

        if (!is_whole(loader, &expected->large, expected->fields_due_ms)) {
            return kv_loader_refuse(loader,
                                    KV_CORRUPT,
                                    ret_error,
                                    "the elements of collection %" PRIu64
                                    " are not what its key tells",
                                    expected->large.id);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- changes */

void kv_loader_take_marks(struct kv_machine_loader *loader, int64_t revision)
{
    while (loader->marks_at < loader->read.marks &&
           loader->marks[loader->marks_at].revision < revision) {
        const struct kv_history_mark *mark = &loader->marks[loader->marks_at++];

        kv_history_restore_mark(&loader->machine->history, mark->revision, mark->time_ms);
    }
}

/* Revisions of changes ascend, behind the oldest that can be read. */
static int move_revision(struct kv_machine_loader *loader,
                         const struct kv_item *item,
                         struct kv_error *ret_error)
{
    const struct kv_machine *machine = loader->machine;
    uint64_t mod = kv_item_number(item, 0);

    if (mod > (uint64_t)machine->revision || (int64_t)mod < loader->change_revision ||
        (int64_t)mod <= machine->history.oldest_revision) {
        return kv_loader_refuse(loader,
                                KV_CORRUPT,
                                ret_error,
                                "a change of revision %" PRIu64 " behind one of %" PRId64,
                                mod,
                                loader->change_revision);
    }
    loader->change_revision = (int64_t)mod;
    kv_loader_take_marks(loader, loader->change_revision);
    return 0;
}

static int check_change(const struct kv_machine_loader *loader,
                        const struct kv_item *item,
                        struct kv_error *ret_error)
{
    const struct kv_record *older = kv_keyspace_get(loader->machine, item->key);

    if (item->expired && item->type != KV_TYPE_NONE) {
        return corrupt(loader, ret_error, "a key that expired is there");
    }
    if (item->type == KV_TYPE_NONE && !older) {
        return corrupt(loader, ret_error, "it deletes a key that is not there");
    }
    if (item->drops && !(older && older->is_large)) {
        return corrupt(loader, ret_error, "it ends a collection that is not there");
    }
    if (item->is_large) {
        const struct kv_large large = {kv_get_u64(item->value.data),
                                       kv_get_u64(item->value.data + 8),
                                       kv_get_u64(item->value.data + 16),
                                       kv_get_u64(item->value.data + 24)};

        if (!is_whole(loader, &large, item->life.fields_due_ms) ||
            kv_sums_find(&loader->sums, large.id)->type != item->type) {
            return corrupt(loader, ret_error, "a collection's elements are not what its key tells");
        }
    }
    return 0;
}

/* A collection's elements change before its key does, or ends: then the key's record is right. */
static void tell(struct kv_machine_loader *loader, uint64_t id)
{
    struct kv_sum *sum = kv_sums_find(&loader->sums, id);

    if (sum && sum->is_untold) {
        sum->is_untold = false;
        loader->n_untold--;
    }
}

int kv_loader_check_told(const struct kv_machine_loader *loader, struct kv_error *ret_error)
{
    return loader->n_untold == 0
               ? 0
               : kv_error_set(ret_error,
                              KV_CORRUPT,
                              "the snapshot is damaged: it changes elements of %zu collections "
                              "behind the last change of their keys",
                              loader->n_untold);
}

int kv_loader_change(struct kv_machine_loader *loader,
                     const struct kv_item *item,
                     struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_record *record;
    int status = check_record(loader, item, ret_error);

    if (status == 0) {
        status = move_revision(loader, item, ret_error);
    }
    if (status == 0) {
        status = check_change(loader, item, ret_error);
    }
    if (status != 0) {
        return status;
    }
    record =
        kv_keyspace_begin_living(machine, item->key, item->type, item->value.size, &item->life);
    record->mod_revision = loader->change_revision;
    record->tombstone = item->type == KV_TYPE_NONE;
    record->expired = item->expired;
    record->is_large = item->is_large;
    set_value(record, item);
    if (item->is_large) {
        tell(loader, kv_record_large(record).id);
    }
    if (item->drops) {
        tell(loader, kv_record_large(kv_keyspace_get(machine, item->key)).id);
    }
    kv_keyspace_restore(machine, record, item->drops);
    machine->changed = false;
    loader->read.changes++;
    return 0;
}

/* A collection may begin with this change. */
static struct kv_sum *sum_of_change(struct kv_machine_loader *loader, const struct kv_item *item)
{
    uint64_t id = kv_get_u64_be(item->key.data);
    struct kv_sum *sum = kv_sums_find(&loader->sums, id);

    if (!sum && id > 0 && id <= loader->machine->last_collection_id) {
        sum = kv_sums_add(&loader->sums, id, item->type);
    }
    return sum && sum->type == item->type ? sum : NULL;
}

int kv_loader_element_change(struct kv_machine_loader *loader,
                             const struct kv_item *item,
                             struct kv_error *ret_error)
{
    struct kv_machine *machine = loader->machine;
    struct kv_record *record, *older;
    struct kv_sum *sum = NULL;
    int status = check_element(loader, item, ret_error);

    if (status == 0) {
        status = move_revision(loader, item, ret_error);
    }
    if (status == 0) {
        sum = sum_of_change(loader, item);
        older = kv_tree_find(&machine->elements, item->key);
        if (!sum || (item->drops && !(older && !older->tombstone))) {
            status = corrupt(loader, ret_error, "an element of no collection, or not there");
        }
    }
    if (status != 0) {
        return status;
    }
    record = new_element(item);
    record->tombstone = item->drops;
    older = record->older = kv_tree_put(&machine->elements, record);
    kv_record_supersede(older, record);
    if (older && !older->tombstone) {
        kv_deadlines_remove(machine, older);
        sum->large.count--;
        sum->large.bytes -= kv_record_cost(older);
        sum->large.hash -= kv_record_hash(older);
        if (record->type == KV_TYPE_ZSET) {
            kv_zset_index_remove(machine, older);
        }
    }
    if (!record->tombstone) {
        add_to_sum(sum, record);
        kv_deadlines_add(machine, record);
        if (record->type == KV_TYPE_ZSET) {
            kv_zset_index_put(machine, record);
        }
    }
    loader->n_untold += !sum->is_untold;
    sum->is_untold = true;
    kv_history_note(&machine->history, record);
    loader->read.changes++;
    return 0;
}
