#include "server/machine/machine.h"

#include "common/assert.h"
#include "server/machine/collection.h"
#include "server/machine/command.h"
#include "server/machine/deadlines.h"
#include "server/machine/zset_index.h"

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
    kv_tree_init(&machine->elements);
    kv_tree_init(&machine->scores);
    kv_tree_init(&machine->deadlines);
    kv_tree_init(&machine->fields);
    kv_tree_init(&machine->lease_keys);
    kv_leases_init(&machine->leases);
    kv_arena_init(&machine->arena, KV_REPLY_MEMORY_BYTES_MAX);
    kv_history_init(&machine->history);
    kv_sessions_init(&machine->sessions);
    kv_waiters_init(&machine->waiters);
    kv_topics_init(&machine->topics);
    machine->sessions.ended = kv_wait_session_ended;
    machine->sessions.ended_arg = machine;
    kv_settings_init(&machine->settings);
    machine->revision = KV_REVISION_FIRST;
    machine->reclaim_per_entry = KV_RECLAIM_PER_ENTRY;
    machine->expire_per_entry = KV_EXPIRE_PIECES;
    machine->serve_per_command = KV_WAITERS_SERVED_MAX;
    machine->elements_direct = KV_ELEMENTS_DIRECT;
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
    kv_tree_deinit(&machine->elements);
    kv_tree_deinit(&machine->scores);
    kv_tree_deinit(&machine->deadlines);
    kv_tree_deinit(&machine->fields);
    kv_tree_deinit(&machine->lease_keys);
    kv_leases_deinit(&machine->leases);
    kv_sessions_deinit(&machine->sessions);
    (void)XXH3_freeState(machine->command_hash);
    kv_dropped_deinit(&machine->dropped);
    kv_arena_deinit(&machine->arena);
    kv_waiters_deinit(&machine->waiters);
    kv_topics_deinit(&machine->topics);
    free(machine->records);
    kv_elements_index_free(machine->elements_index);
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
    machine->is_first_entry = machine->applied_index == 0;
    machine->applied_index = index;
    if (cluster_time_ms > machine->cluster_time_ms) {
        machine->cluster_time_ms = cluster_time_ms;
    }
    machine->entry_changed = false;
    machine->operation = 0;
    machine->expired = false;
    machine->served_rest = false;
    kv_wait_expire(machine);
    kv_sessions_expire(&machine->sessions, machine->cluster_time_ms);
    kv_topics_begin_entry(&machine->topics);
    kv_topics_expire(&machine->topics, machine->cluster_time_ms, machine->settings.topic_age_ms);
    return 0;
}

/* What a write that failed had changed is taken back. */
static int run_write(struct kv_machine *machine,
                     const struct kv_command *command,
                     const Kv__Request *request,
                     struct kv_answer *answer)
{
    const uint64_t live_bytes = kv_machine_live_bytes(machine);
    struct kv_savepoint savepoint;
    int status;

    kv_machine_save(machine, &savepoint);
    status = command->run(machine, request, answer);
    if (status == 0) {
        status = kv_machine_check_space(machine, live_bytes, answer);
    }
    if (status != 0 && machine->changed) {
        kv_machine_restore(machine, &savepoint);
        /* It may borrow from what is gone. */
        answer->reply.result_case = KV__REPLY__RESULT__NOT_SET;
    }
    machine->operation++;
    return status;
}

void kv_machine_reset_scratch(struct kv_machine *machine)
{
    machine->kvs = NULL;
    machine->kv_pointers = NULL;
    machine->kvs_capacity = 0;
}

void kv_answer_init(struct kv_answer *answer)
{
    kv__reply__init(&answer->reply);
    kv__hint__init(&answer->hint);
    answer->error.message[0] = '\0';
}

void kv_answer_finish(struct kv_answer *answer, int status)
{
    if (status != 0) {
        answer->reply.code = (Kv__Code)-status;
        answer->reply.message = answer->error.message;
        answer->reply.hint = &answer->hint;
    }
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

    kv_arena_reset(&machine->arena);
    kv_machine_reset_scratch(machine);
    machine->work = 0;
    machine->passed = 0;
    machine->written_bytes = 0;
    machine->reading = cls == KV_COMMAND_READ;
    kv_answer_init(&answer);
    status = kv_command_validate(request, &machine->settings, &answer.error);
    if (status == 0 &&
        (!command || kv_command_class_of(command, request) != cls || !command->run)) {
        status = kv_error_set(&answer.error, KV_INVALID, "the command does not belong here");
    }
    if (status == 0) {
        status = cls == KV_COMMAND_WRITE ? run_write(machine, command, request, &answer)
                                         : command->run(machine, request, &answer);
    }
    kv_answer_finish(&answer, status);
    if (machine->changed) {
        KV_ASSERT(status == 0);
        machine->revision++;
        machine->changed = false;
        machine->entry_changed = true;
        kv_topics_commit(&machine->topics);
    }
    answer.reply.id = request->id;
    answer.reply.revision = machine->revision;
    if (fn) {
        fn(arg, &answer.reply);
    }
}

bool kv_machine_execute(struct kv_machine *machine,
                        const Kv__Request *request,
                        kv_machine_reply_fn fn,
                        void *arg)
{
    bool answered = true;

    if (request->command_case != KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE) {
        kv_machine_expire(machine, KV_EXPIRE_PIECES_BESIDE);
    }
    if (request->session) {
        answered = kv_execute_stamped(machine, request, fn, arg);
    } else {
        kv_machine_answer(machine, request, KV_COMMAND_WRITE, fn, arg);
    }
    /* One that begins to wait has made nothing, and nobody can be told yet that it is served. */
    if (answered) {
        kv_wait_serve(machine);
    }
    return answered;
}

void kv_machine_read(struct kv_machine *machine,
                     const Kv__Request *request,
                     kv_machine_reply_fn fn,
                     void *arg)
{
    kv_machine_answer(machine, request, KV_COMMAND_READ, fn, arg);
}

void kv_machine_pass_time(struct kv_machine *machine)
{
    kv_machine_expire(machine, KV_EXPIRE_PIECES);
}

void kv_machine_serve_rest(struct kv_machine *machine)
{
    if (!machine->served_rest) {
        machine->served_rest = true;
        kv_wait_serve(machine);
    }
}

void kv_machine_end(struct kv_machine *machine)
{
    struct kv_history_limits limits;

    kv_machine_expire(machine, KV_EXPIRE_PIECES);
    kv_machine_serve_rest(machine);
    limits = (struct kv_history_limits){
        .now_ms = machine->cluster_time_ms,
        .age_ms = machine->settings.history_age_ms,
        .bytes = kv_machine_history_room(machine),
    };
    /* Not when all of the entry was compacted by its end. */
    if (machine->entry_changed && machine->revision > machine->history.oldest_revision) {
        kv_history_mark(&machine->history, machine->revision, machine->cluster_time_ms);
    }
    kv_history_trim(&machine->history, &limits);
    (void)kv_machine_reclaim(machine);
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
    const struct kv_waiter *waiter = kv_waiters_next_due(&machine->waiters);
    const int64_t topics_ms =
        kv_topics_next_due_ms(&machine->topics, machine->settings.topic_age_ms);
    int64_t due_ms = kv_sessions_next_due_ms(&machine->sessions);
    int64_t lease_due_ms = kv_machine_next_lease_due_ms(machine);
    int64_t key_due_ms;
    struct kv_slice key;

    if (kv_waiters_ready(&machine->waiters)) {
        return machine->cluster_time_ms;
    }
    due_ms = topics_ms < due_ms ? topics_ms : due_ms;
    if (waiter && waiter->due.deadline_ms < due_ms) {
        due_ms = waiter->due.deadline_ms;
    }
    if (lease_due_ms < due_ms) {
        due_ms = lease_due_ms;
    }
    return kv_deadlines_first(machine, &key_due_ms, &key) && key_due_ms < due_ms ? key_due_ms + 1
                                                                                 : due_ms;
}

int64_t kv_machine_next_lease_due_ms(const struct kv_machine *machine)
{
    const struct kv_lease *lease = kv_leases_first(&machine->leases);

    return lease ? lease->item.deadline_ms + 1 : INT64_MAX;
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
    return machine->state_hash + kv_sessions_hash(&machine->sessions) +
           kv_waiters_hash(&machine->waiters) + kv_topics_hash(&machine->topics) +
           machine->leases.hash;
}

void kv_machine_stats(const struct kv_machine *machine, struct kv_machine_stats *ret_stats)
{
    *ret_stats = (struct kv_machine_stats){
        .keys = kv_tree_count(&machine->tree),
        .data_bytes = machine->data_bytes,
        .history_bytes = machine->history.bytes,
        .versions = machine->history.versions,
        .used_bytes = kv_machine_used_bytes(machine),
        .sessions = machine->sessions.n,
        .session_bytes = machine->sessions.bytes,
        .waiters = machine->waiters.n,
        .leases = machine->leases.heap.n,
        .expiring = kv_tree_count(&machine->deadlines),
        .leased = kv_tree_count(&machine->lease_keys),
        .lateness = machine->lateness,
        .topics = kv_tree_count(&machine->topics.names),
        .topic_messages = kv_tree_count(&machine->topics.messages),
        .topic_bytes = machine->topics.bytes,
        .unreclaimed_bytes = machine->tree.retired_bytes + machine->elements.retired_bytes +
                             machine->topics.names.retired_bytes +
                             machine->topics.messages.retired_bytes,
    };
}
