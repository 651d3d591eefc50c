/* Commands on history: compaction, and the versions of a key. */
#include "server/machine/command.h"

#include <inttypes.h>

/* Bytes of a version on the wire besides key and value, at most. */
enum { VERSION_OVERHEAD_BYTES = 80 };

int kv_validate_compact(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    (void)settings;
    if (request->compact->revision < KV_REVISION_FIRST) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "revision %" PRId64 " is none: they begin with %d",
                            request->compact->revision,
                            KV_REVISION_FIRST);
    }
    return 0;
}

int kv_validate_key_history(const Kv__Request *request,
                            const struct kv_machine_settings *settings,
                            struct kv_error *ret_error)
{
    const Kv__KeyHistory *command = request->key_history;

    (void)settings;
    if (command->to_revision != 0 && command->from_revision > command->to_revision) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "revisions from %" PRId64 " to %" PRId64 " are no range",
                            command->from_revision,
                            command->to_revision);
    }
    return kv_check_key(command->key, ret_error);
}

int kv_run_compact(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const int64_t revision = request->compact->revision;

    if (revision > machine->revision) {
        answer->hint.newest_revision = machine->revision;
        return kv_error_set(&answer->error,
                            KV_OUT_OF_BOUNDS,
                            "revision %" PRId64 " is not reached, the newest is %" PRId64,
                            revision,
                            machine->revision);
    }
    kv_history_compact(&machine->history, revision);
    kv__compact_result__init(&answer->result.compact);
    answer->result.compact.oldest_revision = machine->history.oldest_revision;
    KV_ANSWER(answer, COMPACT, compact, compact);
    return 0;
}

/* Gathers the versions into machine->records, newest first: of each revision the one that it left.
 * Looks at no `older` of what was there at the oldest revision (M11). */
static int gather_versions(struct kv_machine *machine,
                           const Kv__KeyHistory *command,
                           struct kv_answer *answer,
                           size_t *ret_n)
{
    const int64_t from = command->from_revision;
    const int64_t to = command->to_revision ? command->to_revision : INT64_MAX;
    const int64_t oldest = machine->history.oldest_revision;
    struct kv_record *record = kv_tree_find(&machine->tree, kv_slice_of_proto(command->key));
    int64_t newer = INT64_MAX;
    int status = 0;

    /* Whether what is dead is still there must decide nothing (M10). */
    while (record && !kv_keyspace_is_dead(machine, record) && record->mod_revision >= from) {
        status = kv_machine_work(machine, 1, answer);
        if (status != 0) {
            break;
        }
        if (record->mod_revision <= to && record->mod_revision != newer) {
            kv_machine_reserve_records(machine, *ret_n + 1);
            machine->records[(*ret_n)++] = record;
        }
        newer = record->mod_revision;
        record = record->mod_revision > oldest ? record->older : NULL;
    }
    return status;
}

static Kv__KeyVersion *new_version(struct kv_machine *machine, const struct kv_record *record)
{
    struct kv_slice key = kv_record_key(record);
    Kv__KeyVersion *version = kv_reply_alloc(machine, sizeof *version);

    kv__key_version__init(version);
    version->kv = kv_reply_alloc(machine, sizeof *version->kv);
    version->deleted = record->tombstone;
    if (!record->tombstone) {
        kv_key_value_fill(version->kv, record, false);
        return version;
    }
    kv__key_value__init(version->kv);
    version->kv->key = (ProtobufCBinaryData){key.size, (uint8_t *)(uintptr_t)key.data};
    version->kv->mod_revision = record->mod_revision;
    return version;
}

int kv_run_key_history(struct kv_machine *machine,
                       const Kv__Request *request,
                       struct kv_answer *answer)
{
    const Kv__KeyHistory *command = request->key_history;
    const uint64_t limit = command->limit ? command->limit : UINT64_MAX;
    Kv__KeyHistoryResult *result = &answer->result.key_history;
    uint64_t room = kv_reply_room(machine);
    size_t n = 0;
    int status = kv_keyspace_check_revision(machine, command->from_revision, answer);

    if (status == 0) {
        status = kv_keyspace_check_revision(machine, command->to_revision, answer);
    }
    if (status == 0) {
        status = gather_versions(machine, command, answer, &n);
    }
    if (status != 0) {
        return status;
    }
    kv__key_history_result__init(result);
    result->versions = kv_reply_alloc(machine, n * sizeof(Kv__KeyVersion *));
    for (size_t i = 0; i < n && !result->more; i++) {
        const struct kv_record *record = machine->records[command->descending ? i : n - 1 - i];
        const uint64_t cost = VERSION_OVERHEAD_BYTES + record->key_size + record->value_size;

        if (i == limit || (i > 0 && cost > room)) {
            result->more = true;
        } else {
            result->versions[result->n_versions++] = new_version(machine, record);
            room -= cost < room ? cost : room;
        }
    }
    KV_ANSWER(answer, KEY_HISTORY, key_history, key_history);
    return 0;
}
