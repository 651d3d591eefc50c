/* Records by key and revision. */
#include "server/machine/machine_internal.h"

#include "common/assert.h"
#include "server/machine/deadlines.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct kv_record *kv_keyspace_get(const struct kv_machine *machine, struct kv_slice key)
{
    struct kv_record *record = kv_tree_find(&machine->tree, key);

    return record && !record->tombstone ? record : NULL;
}

const struct kv_record *kv_record_at(const struct kv_record *newest, int64_t revision)
{
    const struct kv_record *record = newest;

    while (record && record->mod_revision > revision) {
        record = record->older;
    }
    return record && !record->tombstone ? record : NULL;
}

const struct kv_record *
kv_machine_record_at(struct kv_machine *machine, const struct kv_record *newest, int64_t revision)
{
    const struct kv_record *record = newest;

    while (record && record->mod_revision > revision) {
        record = record->older;
        machine->passed++;
    }
    return record && !record->tombstone ? record : NULL;
}

const struct kv_record *
kv_keyspace_get_at(struct kv_machine *machine, struct kv_slice key, int64_t revision)
{
    if (revision == 0) {
        return kv_keyspace_get(machine, key);
    }
    return kv_machine_record_at(machine, kv_tree_find(&machine->tree, key), revision);
}

int kv_keyspace_check_revision(const struct kv_machine *machine,
                               int64_t revision,
                               struct kv_answer *answer)
{
    if (revision == 0) {
        return 0;
    }
    if (revision < 0) {
        return kv_error_set(
            &answer->error, KV_INVALID, "revision %" PRId64 " is negative", revision);
    }
    if (revision > machine->revision) {
        answer->hint.newest_revision = machine->revision;
        return kv_error_set(&answer->error,
                            KV_FUTURE_REVISION,
                            "revision %" PRId64 " is not reached, the newest is %" PRId64,
                            revision,
                            machine->revision);
    }
    if (revision < machine->history.oldest_revision) {
        answer->hint.oldest_revision = machine->history.oldest_revision;
        return kv_error_set(&answer->error,
                            KV_COMPACTED,
                            "revision %" PRId64
                            " is compacted, the oldest that can be read is %" PRId64,
                            revision,
                            machine->history.oldest_revision);
    }
    return 0;
}

struct kv_record *kv_keyspace_begin(struct kv_machine *machine,
                                    struct kv_slice key,
                                    enum kv_type type,
                                    size_t value_size)
{
    return kv_keyspace_begin_living(machine, key, type, value_size, &(struct kv_life){0});
}

struct kv_record *kv_keyspace_begin_living(struct kv_machine *machine,
                                           struct kv_slice key,
                                           enum kv_type type,
                                           size_t value_size,
                                           const struct kv_life *life)
{
    struct kv_record *record = kv_record_new_living(key, value_size, life);

    record->type = type & 0xf;
    record->mod_revision = machine->revision + 1;
    return record;
}

static void uncount(struct kv_machine *machine, const struct kv_record *record)
{
    machine->data_bytes -= kv_record_data_bytes(record);
    machine->state_hash -= kv_record_hash(record);
}

static bool is_same_collection(const struct kv_record *a, const struct kv_record *b)
{
    return a->is_large && b->is_large && kv_record_large(a).id == kv_record_large(b).id;
}

static void commit(struct kv_machine *machine, struct kv_record *record, bool keeps_collection)
{
    struct kv_record *older = kv_tree_put(&machine->tree, record);
    bool was_live = older && !older->tombstone;

    record->older = older;
    if (!record->tombstone) {
        record->create_revision = was_live ? older->create_revision : record->mod_revision;
        record->version = (was_live ? older->version + 1 : 1) & KV_VERSION_MAX;
        machine->data_bytes += kv_record_data_bytes(record);
        machine->state_hash += kv_record_hash(record);
        if (record->type == KV_TYPE_LIST) {
            kv_waiters_note(&machine->waiters, kv_record_key(record));
        }
    }
    if (was_live) {
        uncount(machine, older);
        kv_deadlines_remove(machine, older);
        record->drops = older->is_large && !keeps_collection && !is_same_collection(older, record);
    }
    if (!record->tombstone) {
        kv_deadlines_add(machine, record);
    }
    kv_history_note(&machine->history, record);
    machine->written_bytes += kv_record_cost(record);
    machine->changed = true;
}

void kv_keyspace_commit(struct kv_machine *machine, struct kv_record *record)
{
    commit(machine, record, false);
}

static struct kv_record *new_tombstone(struct kv_machine *machine, struct kv_slice key)
{
    struct kv_record *tombstone = kv_keyspace_begin(machine, key, KV_TYPE_NONE, 0);

    tombstone->tombstone = 1;
    return tombstone;
}

void kv_keyspace_delete(struct kv_machine *machine, struct kv_slice key)
{
    commit(machine, new_tombstone(machine, key), false);
}

void kv_keyspace_expire(struct kv_machine *machine, struct kv_slice key)
{
    struct kv_record *tombstone = new_tombstone(machine, key);

    tombstone->expired = 1;
    commit(machine, tombstone, false);
}

void kv_keyspace_rename(struct kv_machine *machine,
                        const struct kv_record *record,
                        struct kv_slice to)
{
    const struct kv_life life = kv_record_life(record);
    struct kv_record *renamed =
        kv_keyspace_begin_living(machine, to, record->type, record->value_size, &life);

    renamed->is_large = record->is_large;
    memcpy(renamed->bytes + to.size, kv_record_value(record).data, record->value_size);
    commit(machine, new_tombstone(machine, kv_record_key(record)), true);
    commit(machine, renamed, false);
}

void kv_keyspace_restore(struct kv_machine *machine, struct kv_record *record, bool drops)
{
    commit(machine, record, !drops);
}

int kv_wrong_type(struct kv_answer *answer, const struct kv_record *record, enum kv_type wanted)
{
    return kv_error_set(&answer->error,
                        KV_WRONG_TYPE,
                        "the key holds a %s, not a %s",
                        kv_type_name(record->type),
                        kv_type_name(wanted));
}

int kv_machine_work(struct kv_machine *machine, uint64_t n, struct kv_answer *answer)
{
    machine->work += n + machine->passed / KV_VERSIONS_PER_ELEMENT;
    machine->passed %= KV_VERSIONS_PER_ELEMENT;
    if (machine->work <= machine->settings.work_elements) {
        return 0;
    }
    answer->hint.limit = (char *)(uintptr_t) "work-limit";
    answer->hint.limit_value = machine->settings.work_elements;
    return kv_error_set(&answer->error,
                        KV_TOO_LARGE,
                        "the command would touch more than %" PRIu64
                        " elements (setting work-limit): do it in pieces",
                        machine->settings.work_elements);
}

int kv_machine_check_written(const struct kv_machine *machine,
                             uint64_t more,
                             struct kv_answer *answer)
{
    const uint64_t written = machine->written_bytes;

    if (more <= KV_COMMAND_WRITTEN_BYTES_MAX && written <= KV_COMMAND_WRITTEN_BYTES_MAX - more) {
        return 0;
    }
    answer->hint.limit = (char *)(uintptr_t) "written-bytes";
    answer->hint.limit_value = KV_COMMAND_WRITTEN_BYTES_MAX;
    return kv_error_set(&answer->error,
                        KV_TOO_LARGE,
                        "the command would write more than %llu bytes: do it in pieces",
                        KV_COMMAND_WRITTEN_BYTES_MAX);
}

void *kv_reply_alloc(struct kv_machine *machine, size_t size)
{
    void *memory = kv_arena_alloc(&machine->arena, size > 0 ? size : 1);

    if (!memory) {
        kv_assert_failed("memory for the reply of a committed command", __FILE__, __LINE__);
    }
    return memory;
}

void *
kv_reply_grow(struct kv_machine *machine, void *array, size_t n, size_t *capacity, size_t item_size)
{
    void *larger;

    if (n < *capacity) {
        return array;
    }
    *capacity = *capacity > 0 ? 2 * *capacity : 16;
    larger = kv_reply_alloc(machine, *capacity * item_size);
    if (n > 0) {
        memcpy(larger, array, n * item_size);
    }
    return larger;
}

uint64_t kv_reply_room(const struct kv_machine *machine)
{
    uint64_t bytes = machine->settings.reply_bytes;

    return bytes - (bytes / 2 < 4096 ? bytes / 2 : 4096);
}

int kv_reply_too_large(const struct kv_machine *machine,
                       struct kv_answer *answer,
                       const char *advice)
{
    answer->hint.limit = (char *)(uintptr_t) "reply-limit";
    answer->hint.limit_value = machine->settings.reply_bytes;
    return kv_error_set(&answer->error,
                        KV_TOO_LARGE,
                        "the reply would have more than %" PRIu64
                        " bytes (setting reply-limit): %s",
                        machine->settings.reply_bytes,
                        advice);
}

void kv_key_value_fill(Kv__KeyValue *kv, const struct kv_record *record, bool keys_only)
{
    struct kv_slice key = kv_record_key(record);
    struct kv_slice value = kv_record_value(record);

    kv__key_value__init(kv);
    kv->key = (ProtobufCBinaryData){key.size, (uint8_t *)(uintptr_t)key.data};
    if (!keys_only && record->type == KV_TYPE_STRING) {
        kv->value = (ProtobufCBinaryData){value.size, (uint8_t *)(uintptr_t)value.data};
    }
    kv->type = (Kv__Type)record->type;
    kv->create_revision = record->create_revision;
    kv->mod_revision = record->mod_revision;
    kv->version = (int64_t)record->version;
    kv->lease_id = kv_record_life(record).lease_id;
    kv->expires_at_ms = kv_record_life(record).expires_at_ms;
    kv->counter = record->type == KV_TYPE_COUNTER ? (int64_t)kv_get_u64(value.data) : 0;
    kv->elements = kv_record_elements(record);
}

/* The least key behind all that begin with the prefix; false: there is none. */
static bool prefix_end(struct kv_slice prefix, struct kv_bounds *bounds)
{
    size_t size = prefix.size;

    while (size > 0 && prefix.data[size - 1] == 0xff) {
        size--;
    }
    if (size == 0) {
        return false;
    }
    memcpy(bounds->end_memory, prefix.data, size);
    bounds->end_memory[size - 1]++;
    bounds->end = kv_slice_of(bounds->end_memory, size);
    return true;
}

void kv_bounds_of(const Kv__KeyRange *range, struct kv_bounds *ret_bounds)
{
    ret_bounds->start = kv_slice_of_proto(range->start);
    ret_bounds->has_end = false;
    ret_bounds->end = kv_slice_of(NULL, 0);
    switch (range->special) {
    case KV__KEY_RANGE__SPECIAL__PREFIX:
        ret_bounds->has_end = prefix_end(ret_bounds->start, ret_bounds);
        return;
    case KV__KEY_RANGE__SPECIAL__FROM_KEY:
        return;
    case KV__KEY_RANGE__SPECIAL__ALL:
        ret_bounds->start = kv_slice_of(NULL, 0);
        return;
    default:
        break;
    }
    ret_bounds->has_end = true;
    if (range->end.len > 0) {
        ret_bounds->end = kv_slice_of_proto(range->end);
        return;
    }
    /* One key: up to its least successor. */
    memcpy(ret_bounds->end_memory, range->start.data, range->start.len);
    ret_bounds->end_memory[range->start.len] = 0;
    ret_bounds->end = kv_slice_of(ret_bounds->end_memory, range->start.len + 1);
}

void kv_machine_reserve_kvs(struct kv_machine *machine, size_t n)
{
    size_t capacity = machine->kvs_capacity ? machine->kvs_capacity : 16;
    Kv__KeyValue *kvs = machine->kvs;

    if (n <= machine->kvs_capacity) {
        return;
    }
    while (capacity < n) {
        capacity *= 2;
    }
    machine->kvs = kv_reply_alloc(machine, capacity * sizeof *machine->kvs);
    machine->kv_pointers = kv_reply_alloc(machine, capacity * sizeof(Kv__KeyValue *));
    if (machine->kvs_capacity > 0) {
        memcpy(machine->kvs, kvs, machine->kvs_capacity * sizeof *kvs);
    }
    for (size_t i = 0; i < capacity; i++) {
        machine->kv_pointers[i] = &machine->kvs[i];
    }
    machine->kvs_capacity = capacity;
}

void kv_machine_reserve_records(struct kv_machine *machine, size_t n)
{
    size_t capacity = machine->records_capacity ? machine->records_capacity : 64;

    if (n <= machine->records_capacity) {
        return;
    }
    while (capacity < n) {
        capacity *= 2;
    }
    machine->records = realloc(machine->records, capacity * sizeof(struct kv_record *));
    KV_ASSERT(machine->records);
    machine->records_capacity = capacity;
}
