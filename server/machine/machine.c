#include "server/machine/machine.h"

#include "common/assert.h"
#include "server/machine/machine_internal.h"

#include <stdlib.h>

int kv_machine_open(struct kv_machine **ret_machine)
{
    struct kv_machine *machine = calloc(1, sizeof *machine);

    if (!machine) {
        return KV_NO_MEMORY;
    }
    machine->command_hash = XXH3_createState();
    if (!machine->command_hash) {
        free(machine);
        return KV_NO_MEMORY;
    }
    kv_tree_init(&machine->tree);
    kv_history_init(&machine->history);
    kv_sessions_init(&machine->sessions);
    kv_settings_init(&machine->settings);
    machine->revision = KV_REVISION_FIRST;
    machine->reclaim_per_entry = KV_RECLAIM_PER_ENTRY;
    *ret_machine = machine;
    return 0;
}

void kv_machine_close(struct kv_machine *machine)
{
    if (!machine) {
        return;
    }
    kv_history_deinit(&machine->history);
    kv_tree_deinit(&machine->tree);
    kv_sessions_deinit(&machine->sessions);
    (void)XXH3_freeState(machine->command_hash);
    free(machine->kvs);
    free(machine->kv_pointers);
    free(machine->records);
    free(machine);
}

int kv_machine_begin(struct kv_machine *machine,
                     uint64_t index,
                     uint32_t machine_version,
                     int64_t cluster_time_ms)
{
    KV_ASSERT(index > machine->applied_index);
    if (machine_version > KV_MACHINE_VERSION) {
        return KV_UNSUPPORTED;
    }
    machine->applied_index = index;
    if (cluster_time_ms > machine->cluster_time_ms) {
        machine->cluster_time_ms = cluster_time_ms;
    }
    machine->entry_changed = false;
    kv_sessions_expire(&machine->sessions, machine->cluster_time_ms);
    return 0;
}

void kv_machine_answer(struct kv_machine *machine,
                       const Kv__Request *request,
                       enum kv_command_class cls,
                       kv_machine_reply_fn fn,
                       void *arg)
{
    const struct kv_command *command = kv_command_find(request);
    struct kv_answer answer;
    int status;

    kv__reply__init(&answer.reply);
    kv__hint__init(&answer.hint);
    answer.error.message[0] = '\0';
    status = kv_command_validate(request, &machine->settings, &answer.error);
    if (status == 0 && (!command || command->cls != cls || !command->run)) {
        status = kv_error_set(&answer.error, KV_INVALID, "the command does not belong here");
    }
    if (status == 0) {
        status = command->run(machine, request, &answer);
    }
    if (status != 0) {
        answer.reply.code = (Kv__Code)-status;
        answer.reply.message = answer.error.message;
        answer.reply.hint = &answer.hint;
    }
    if (machine->changed) {
        KV_ASSERT(status == 0);
        machine->revision++;
        machine->changed = false;
        machine->entry_changed = true;
    }
    answer.reply.id = request->id;
    answer.reply.revision = machine->revision;
    if (fn) {
        fn(arg, &answer.reply);
    }
}

void kv_machine_execute(struct kv_machine *machine,
                        const Kv__Request *request,
                        kv_machine_reply_fn fn,
                        void *arg)
{
    if (request->session) {
        kv_execute_stamped(machine, request, fn, arg);
    } else {
        kv_machine_answer(machine, request, KV_COMMAND_WRITE, fn, arg);
    }
}

void kv_machine_read(struct kv_machine *machine,
                     const Kv__Request *request,
                     kv_machine_reply_fn fn,
                     void *arg)
{
    kv_machine_answer(machine, request, KV_COMMAND_READ, fn, arg);
}

void kv_machine_end(struct kv_machine *machine)
{
    const struct kv_history_limits limits = {
        .now_ms = machine->cluster_time_ms,
        .age_ms = machine->settings.history_age_ms,
        .bytes = machine->settings.history_bytes,
    };

    if (machine->entry_changed) {
        kv_history_mark(&machine->history, machine->revision, machine->cluster_time_ms);
    }
    kv_history_trim(&machine->history, &limits);
    (void)kv_machine_reclaim(machine);
}

bool kv_machine_reclaim(struct kv_machine *machine)
{
    bool history =
        kv_history_reclaim(&machine->history, &machine->tree, machine->reclaim_per_entry);
    bool tree = kv_tree_reclaim(&machine->tree, machine->reclaim_per_entry);

    return history || tree;
}

int64_t kv_machine_revision(const struct kv_machine *machine)
{
    return machine->revision;
}

int64_t kv_machine_oldest_revision(const struct kv_machine *machine)
{
    return machine->history.oldest_revision;
}

int64_t kv_machine_next_due_ms(const struct kv_machine *machine)
{
    return kv_sessions_next_due_ms(&machine->sessions);
}

int64_t kv_machine_cluster_time_ms(const struct kv_machine *machine)
{
    return machine->cluster_time_ms;
}

uint64_t kv_machine_applied_index(const struct kv_machine *machine)
{
    return machine->applied_index;
}

const struct kv_machine_settings *kv_machine_settings_of(const struct kv_machine *machine)
{
    return &machine->settings;
}

uint64_t kv_machine_state_hash(const struct kv_machine *machine)
{
    return machine->state_hash + kv_sessions_hash(&machine->sessions);
}

void kv_machine_stats(const struct kv_machine *machine, struct kv_machine_stats *ret_stats)
{
    *ret_stats = (struct kv_machine_stats){
        .keys = kv_tree_count(&machine->tree),
        .data_bytes = machine->data_bytes,
        .history_bytes = machine->history.bytes,
        .versions = machine->history.versions,
        .sessions = machine->sessions.n,
        .session_bytes = machine->sessions.bytes,
        .unreclaimed_bytes = machine->tree.retired_bytes,
    };
}

/* M1 to M10, M13, M14. */
void kv_machine_check_invariants(const struct kv_machine *machine)
{
    struct kv_tree_cursor cursor;
    uint64_t data_bytes = 0;
    uint64_t hash = 0;

    kv_tree_check_invariants(&machine->tree);
    kv_history_check_invariants(&machine->history, machine->revision);
    kv_sessions_check_invariants(&machine->sessions);
    kv_tree_seek(&machine->tree, kv_slice_of(NULL, 0), &cursor);
    for (const struct kv_record *record; (record = kv_tree_cursor_get(&cursor));
         kv_tree_next(&cursor)) {
        if (!record->tombstone) {
            data_bytes += record->key_size + (uint64_t)record->value_size;
            hash += kv_record_hash(record);
        }
        KV_ASSERT(record->mod_revision <= machine->revision);
        for (const struct kv_record *version = record; version->older; version = version->older) {
            KV_ASSERT(version->older->mod_revision <= version->mod_revision);
        }
    }
    KV_ASSERT(data_bytes == machine->data_bytes);
    KV_ASSERT(hash == machine->state_hash);
}
