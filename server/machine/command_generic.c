/* Commands on keys of any type: delete, exists, count. */
#include "server/machine/command.h"

#include <inttypes.h>

int kv_validate_delete(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    const Kv__Delete *command = request->delete_;
    int status = 0;

    (void)settings;
    if (command->n_keys == 0 && command->n_ranges == 0) {
        return kv_error_set(ret_error, KV_INVALID, "delete names neither keys nor ranges");
    }
    for (size_t i = 0; i < command->n_keys && status == 0; i++) {
        status = kv_check_key(command->keys[i], ret_error);
    }
    for (size_t i = 0; i < command->n_ranges && status == 0; i++) {
        status = kv_check_range(command->ranges[i], ret_error);
    }
    return status;
}

int kv_validate_exists(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    int status = 0;

    (void)settings;
    if (request->exists->n_keys == 0) {
        return kv_error_set(ret_error, KV_INVALID, "exists names no keys");
    }
    for (size_t i = 0; i < request->exists->n_keys && status == 0; i++) {
        status = kv_check_key(request->exists->keys[i], ret_error);
    }
    return status;
}

int kv_validate_count(const Kv__Request *request,
                      const struct kv_machine_settings *settings,
                      struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_range(request->count->range, ret_error);
}

/* Gathers the live records of a range into machine->records behind the first *n. */
static int gather_range(struct kv_machine *machine,
                        const Kv__KeyRange *range,
                        size_t *n,
                        struct kv_answer *answer)
{
    struct kv_tree_cursor cursor;
    struct kv_bounds bounds;
    int status;

    /* The range itself, too: a command may name many that are empty. */
    status = kv_machine_work(machine, 1, answer);
    kv_bounds_of(range, &bounds);
    kv_tree_seek(&machine->tree, bounds.start, &cursor);
    for (; status == 0; kv_tree_next(&cursor)) {
        struct kv_record *record;

        kv_tree_skip_dead(&cursor, true);
        record = kv_tree_cursor_get(&cursor);
        if (!record ||
            (bounds.has_end && kv_slice_compare(kv_record_key(record), bounds.end) >= 0)) {
            break;
        }
        status = kv_machine_work(machine, 1, answer);
        if (status != 0) {
            return status;
        }
        kv_machine_reserve_records(machine, *n + 1);
        machine->records[(*n)++] = record;
    }
    return status;
}

static int gather_victims(struct kv_machine *machine,
                          const Kv__Delete *command,
                          size_t *ret_n,
                          struct kv_answer *answer)
{
    size_t n = 0;
    int status = 0;

    for (size_t i = 0; i < command->n_keys && status == 0; i++) {
        struct kv_record *record = kv_keyspace_get(machine, kv_slice_of_proto(command->keys[i]));

        status = kv_machine_work(machine, 1, answer);
        if (status == 0 && record) {
            kv_machine_reserve_records(machine, n + 1);
            machine->records[n++] = record;
        }
    }
    for (size_t i = 0; i < command->n_ranges && status == 0; i++) {
        status = gather_range(machine, command->ranges[i], &n, answer);
    }
    *ret_n = n;
    return status;
}

static int check_reply_size(const struct kv_machine *machine, size_t n, struct kv_answer *answer)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < n; i++) {
        bytes += kv_record_cost(machine->records[i]) + 32;
    }
    if (bytes <= machine->settings.reply_bytes) {
        return 0;
    }
    answer->hint.limit = (char *)(uintptr_t) "reply-limit";
    answer->hint.limit_value = machine->settings.reply_bytes;
    return kv_error_set(&answer->error,
                        KV_TOO_LARGE,
                        "the previous values take about %" PRIu64 " bytes, a reply at most %" PRIu64
                        " (setting reply-limit): delete in pieces, or without them",
                        bytes,
                        machine->settings.reply_bytes);
}

int kv_run_delete(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Delete *command = request->delete_;
    size_t n = 0;
    size_t deleted = 0;
    int status = gather_victims(machine, command, &n, answer);

    if (status == 0 && command->return_previous) {
        status = check_reply_size(machine, n, answer);
    }
    if (status != 0) {
        return status;
    }
    kv_machine_reserve_kvs(machine, command->return_previous ? n : 0);
    for (size_t i = 0; i < n; i++) {
        struct kv_record *record = machine->records[i];

        /* One that was named twice is gone by now. */
        if (kv_keyspace_get(machine, kv_record_key(record)) == record) {
            kv_keyspace_delete(machine, kv_record_key(record));
            if (command->return_previous) {
                kv_key_value_fill(&machine->kvs[deleted], record, false);
            }
            deleted++;
        }
    }
    kv__delete_result__init(&answer->result.delete_);
    answer->result.delete_.deleted = deleted;
    if (command->return_previous) {
        answer->result.delete_.n_previous = deleted;
        answer->result.delete_.previous = machine->kv_pointers;
    }
    answer->reply.result_case = KV__REPLY__RESULT_DELETE;
    answer->reply.delete_ = &answer->result.delete_;
    return 0;
}

int kv_run_exists(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Exists *command = request->exists;
    int status = kv_keyspace_check_revision(machine, command->at_revision, answer);

    if (status == 0) {
        status = kv_machine_work(machine, command->n_keys, answer);
    }
    if (status != 0) {
        return status;
    }
    kv__exists_result__init(&answer->result.exists);
    answer->result.exists.present =
        kv_reply_alloc(machine, command->n_keys * sizeof(protobuf_c_boolean));
    answer->result.exists.n_present = command->n_keys;
    for (size_t i = 0; i < command->n_keys && status == 0; i++) {
        bool present = kv_keyspace_get_at(machine,
                                          kv_slice_of_proto(command->keys[i]),
                                          command->at_revision) != NULL;

        answer->result.exists.present[i] = present;
        answer->result.exists.count += present;
        status = kv_machine_work(machine, 0, answer);
    }
    if (status != 0) {
        return status;
    }
    answer->reply.result_case = KV__REPLY__RESULT_EXISTS;
    answer->reply.exists = &answer->result.exists;
    return 0;
}

/* Keys that lived in the range at a revision; costs its size. */
static int count_at(struct kv_machine *machine,
                    const struct kv_bounds *bounds,
                    int64_t revision,
                    uint64_t *ret_count,
                    struct kv_answer *answer)
{
    struct kv_tree_cursor cursor;
    uint64_t count = 0;
    int status;

    kv_tree_seek(&machine->tree, bounds->start, &cursor);
    for (const struct kv_record *record; (record = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        if (bounds->has_end && kv_slice_compare(kv_record_key(record), bounds->end) >= 0) {
            break;
        }
        if (kv_keyspace_is_dead(machine, record)) {
            continue;
        }
        status = kv_machine_work(machine, 1, answer);
        if (status != 0) {
            return status;
        }
        count += kv_machine_record_at(machine, record, revision) != NULL;
    }
    *ret_count = count;
    return 0;
}

int kv_run_count(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Count *command = request->count;
    struct kv_bounds bounds;
    uint64_t count = 0;
    int status = kv_keyspace_check_revision(machine, command->at_revision, answer);

    if (status != 0) {
        return status;
    }
    kv_bounds_of(command->range, &bounds);
    if (command->at_revision != 0 && !kv_revision_is_now(machine, command->at_revision)) {
        status = count_at(machine, &bounds, command->at_revision, &count, answer);
    } else if (!bounds.has_end || kv_slice_compare(bounds.start, bounds.end) < 0) {
        count = (bounds.has_end ? kv_tree_rank(&machine->tree, bounds.end)
                                : kv_tree_count(&machine->tree)) -
                kv_tree_rank(&machine->tree, bounds.start);
    }
    if (status != 0) {
        return status;
    }
    kv__count_result__init(&answer->result.count);
    answer->result.count.count = count;
    answer->reply.result_case = KV__REPLY__RESULT_COUNT;
    answer->reply.count = &answer->result.count;
    return 0;
}
