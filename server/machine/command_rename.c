/* Commands that leave a key's value as it is: type, rename, copy, touch. */
#include "server/machine/command.h"
#include "server/machine/zset_index.h"

#include <string.h>

int kv_validate_type(const Kv__Request *request,
                     const struct kv_machine_settings *settings,
                     struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->type->key, ret_error);
}

static int check_two(ProtobufCBinaryData key, ProtobufCBinaryData to, struct kv_error *ret_error)
{
    int status = kv_check_key(key, ret_error);

    return status ? status : kv_check_names(&to, 1, "new name", false, ret_error);
}

int kv_validate_rename(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    (void)settings;
    return check_two(request->rename->key, request->rename->to, ret_error);
}

int kv_validate_copy(const Kv__Request *request,
                     const struct kv_machine_settings *settings,
                     struct kv_error *ret_error)
{
    (void)settings;
    return check_two(request->copy->key, request->copy->to, ret_error);
}

int kv_validate_touch(const Kv__Request *request,
                      const struct kv_machine_settings *settings,
                      struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_names(request->touch->keys, request->touch->n_keys, "key", true, ret_error);
}

int kv_run_type(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__TypeOf *command = request->type;
    const struct kv_record *record;
    int status = kv_keyspace_check_revision(machine, command->at_revision, answer);

    if (status != 0) {
        return status;
    }
    record = kv_keyspace_get_at(machine, kv_slice_of_proto(command->key), command->at_revision);
    kv__type_result__init(&answer->result.type);
    answer->result.type.type = record ? (Kv__Type)record->type : KV__TYPE__TYPE_NONE;
    KV_ANSWER(answer, TYPE, type, type);
    return 0;
}

/* The record that gets, or lends its value to, the name `to`. */
static int find_source(const struct kv_machine *machine,
                       struct kv_slice key,
                       struct kv_slice to,
                       bool if_absent,
                       struct kv_answer *answer,
                       struct kv_record **ret_record)
{
    struct kv_record *record = kv_keyspace_get(machine, key);

    if (!record) {
        return kv_error_set(&answer->error, KV_NOT_FOUND, "the key does not exist");
    }
    if (if_absent && kv_keyspace_get(machine, to)) {
        return kv_error_set(&answer->error, KV_EXISTS, "the new name exists");
    }
    *ret_record = record;
    return 0;
}

static void answer_done(struct kv_answer *answer, bool done)
{
    kv__done_result__init(&answer->result.done);
    answer->result.done.done = done;
}

int kv_run_rename(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Rename *command = request->rename;
    struct kv_slice key = kv_slice_of_proto(command->key);
    struct kv_slice to = kv_slice_of_proto(command->to);
    const bool is_same = kv_slice_equal(key, to);
    struct kv_record *record = NULL;
    int status = find_source(machine, key, to, command->if_absent, answer, &record);

    if (status != 0) {
        return status;
    }
    if (!is_same) {
        kv_keyspace_rename(machine, record, to);
    }
    answer_done(answer, !is_same);
    KV_ANSWER(answer, RENAME, rename, done);
    return 0;
}

struct kv_record *kv_keyspace_again(struct kv_machine *machine,
                                    const struct kv_record *record,
                                    struct kv_slice key,
                                    const struct kv_life *life)
{
    struct kv_record *version = kv_keyspace_begin_living(
        machine, key, (enum kv_type)record->type, record->value_size, life);

    version->is_large = record->is_large;
    if (record->value_size > 0) {
        memcpy(version->bytes + key.size, kv_record_value(record).data, record->value_size);
    }
    return version;
}

/* Gathers a large collection's elements first: changes would move them from under a cursor. */
static size_t gather_elements(struct kv_machine *machine, struct kv_collection *source)
{
    struct kv_element_cursor cursor;
    const struct kv_record *element;
    size_t n = 0;

    kv_machine_reserve_records(machine, (size_t)kv_collection_count(source));
    kv_element_seek(source, kv_slice_of(NULL, 0), &cursor);
    while ((element = kv_element_next(&cursor, NULL))) {
        machine->records[n++] = (struct kv_record *)(uintptr_t)element;
    }
    return n;
}

static int copy_large(struct kv_machine *machine,
                      const struct kv_record *record,
                      struct kv_slice to,
                      struct kv_answer *answer)
{
    const enum kv_type type = (enum kv_type)record->type;
    struct kv_collection source, copy;
    size_t n;
    int status = kv_collection_open(machine, kv_record_key(record), type, 0, answer, &source);

    if (status == 0) {
        status = kv_machine_work(machine, kv_collection_count(&source), answer);
    }
    if (status == 0) {
        status = kv_machine_check_written(machine, source.large.bytes, answer);
    }
    if (status != 0) {
        return status;
    }
    n = gather_elements(machine, &source);
    kv_collection_create(machine, to, type, &copy);
    (void)kv_collection_enlarge(&copy);
    for (size_t i = 0; i < n; i++) {
        struct kv_slice name = kv_element_name(machine->records[i]);

        (void)kv_element_put(&copy, name, kv_record_value(machine->records[i]));
        if (type == KV_TYPE_ZSET) {
            kv_zset_index_put(machine, kv_element_find(&copy, name));
        }
    }
    kv_collection_commit(&copy);
    return 0;
}

int kv_run_copy(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Copy *command = request->copy;
    struct kv_slice key = kv_slice_of_proto(command->key);
    struct kv_slice to = kv_slice_of_proto(command->to);
    const bool is_same = kv_slice_equal(key, to);
    struct kv_record *record = NULL;
    int status = find_source(machine, key, to, command->if_absent, answer, &record);

    if (status == 0 && !is_same && record->is_large) {
        status = copy_large(machine, record, to, answer);
    } else if (status == 0 && !is_same) {
        kv_keyspace_commit(machine, kv_keyspace_again(machine, record, to, &(struct kv_life){0}));
    }
    if (status != 0) {
        return status;
    }
    answer_done(answer, !is_same);
    KV_ANSWER(answer, COPY, copy, done);
    return 0;
}

int kv_run_touch(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Touch *command = request->touch;
    uint64_t count = 0;
    int status = kv_machine_work(machine, command->n_keys, answer);

    for (size_t i = 0; i < command->n_keys && status == 0; i++) {
        struct kv_slice key = kv_slice_of_proto(command->keys[i]);
        const struct kv_record *record = kv_keyspace_get(machine, key);

        if (record) {
            const struct kv_life life = kv_record_life(record);

            kv_keyspace_commit(machine, kv_keyspace_again(machine, record, key, &life));
            count++;
            status = kv_machine_check_written(machine, 0, answer);
        }
    }
    if (status != 0) {
        return status;
    }
    kv__count_result__init(&answer->result.count);
    answer->result.count.count = count;
    KV_ANSWER(answer, TOUCH, touch, count);
    return 0;
}
