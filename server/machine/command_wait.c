/* Pops that wait: registered, served, timed out and cancelled by committed entries only, so that
 * every node and a leader to come know them. The result becomes the reply of their sequence: a
 * client that lost its connection gets it by a retry, which joins what waits. */
#include "common/reached.h"
#include "server/machine/command.h"

#include <inttypes.h>

/* ---------------------------------------------------------------- the end of one */

static void wake(struct kv_machine *machine, const struct kv_waiter *waiter, Kv__Reply *reply)
{
    reply->id = 0;
    if (waiter->tag && machine->wake) {
        machine->wake(machine->wake_arg, waiter->tag, reply);
    }
}

/* Nothing came. The answer is kept when the session goes on: a retry must not wait again. */
static void
end_without(struct kv_machine *machine, struct kv_waiter *waiter, int status, const char *message)
{
    struct kv_sessions_one *one = kv_sessions_find(&machine->sessions, waiter->session_id);
    Kv__Reply reply = KV__REPLY__INIT;

    reply.code = (Kv__Code)-status;
    reply.message = (char *)(uintptr_t)message;
    reply.revision = machine->revision;
    if (status == KV_DEADLINE && one && waiter->sequence > one->acknowledged_through) {
        kv_session_keep(machine, one, waiter->sequence, waiter->command_hash, &reply);
    }
    wake(machine, waiter, &reply);
    kv_waiters_remove(&machine->waiters, waiter);
}

void kv_wait_expire(struct kv_machine *machine)
{
    struct kv_waiter *waiter;

    for (unsigned i = 0; i < KV_WAITERS_EXPIRE_MAX; i++) {
        waiter = kv_waiters_next_due(&machine->waiters);
        if (!waiter || waiter->due.deadline_ms > machine->cluster_time_ms) {
            return;
        }
        KV_REACHED("waiter-late");
        end_without(machine, waiter, KV_DEADLINE, "no element came in time; nothing was done");
    }
}

void kv_wait_session_ended(void *arg, uint64_t session_id)
{
    struct kv_machine *machine = arg;
    struct kv_waiter *waiter;

    while ((waiter = kv_waiters_of_session(&machine->waiters, session_id))) {
        KV_REACHED("waiter-session-ended");
        end_without(machine, waiter, KV_SESSION_EXPIRED, "the session has ended while it waited");
    }
}

void kv_wait_acknowledged(struct kv_machine *machine, const struct kv_sessions_one *one)
{
    struct kv_waiter *waiter = kv_waiters_of_session(&machine->waiters, one->id);

    while (waiter) {
        struct kv_waiter *next = waiter->same_slot;

        if (waiter->session_id == one->id && waiter->sequence <= one->acknowledged_through) {
            end_without(machine, waiter, KV_INVALID, "the sequence is acknowledged by its client");
        }
        waiter = next;
    }
}

int kv_run_session_cancel(struct kv_machine *machine,
                          const Kv__Request *request,
                          struct kv_answer *answer)
{
    const Kv__SessionCancel *command = request->session_cancel;
    struct kv_sessions_one *one = NULL;
    struct kv_waiter *waiter;
    int status = kv_session_find_live(machine, command->session_id, &one, &answer->error);

    if (status != 0) {
        return status;
    }
    waiter = kv_waiters_find(&machine->waiters, command->session_id, command->sequence);
    kv__done_result__init(&answer->result.done);
    answer->result.done.done = waiter != NULL;
    if (waiter) {
        KV_REACHED("waiter-cancelled");
        end_without(machine, waiter, KV_DEADLINE, "canceled while it waited; nothing was done");
    }
    KV_ANSWER(answer, SESSION_CANCEL, session_cancel, done);
    return 0;
}

/* ---------------------------------------------------------------- the beginning */

/* The key holds something, which is not for those that wait already. */
static bool is_for_everybody(const struct kv_machine *machine, struct kv_slice key)
{
    const struct kv_record *record = kv_keyspace_get(machine, key);

    return record && (record->type != KV_TYPE_LIST || !kv_waiters_is_noted(&machine->waiters, key));
}

int kv_wait_start(struct kv_machine *machine,
                  const Kv__Request *request,
                  uint64_t command_hash,
                  struct kv_error *ret_error)
{
    const Kv__SessionStamp *stamp = request->session;
    const struct kv_waiter *waiter =
        kv_waiters_find(&machine->waiters, stamp->session_id, stamp->sequence);
    struct kv_waiter like = {
        .session_id = stamp->session_id, .sequence = stamp->sequence, .command_hash = command_hash};

    if (waiter && waiter->command_hash != command_hash) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "sequence %" PRIu64 " of session %" PRIu64
                            " is another command, which waits: it is not done",
                            stamp->sequence,
                            stamp->session_id);
    }
    if (waiter) {
        KV_REACHED("waiter-joined");
        return 1;
    }
    /* What is wrong, or has an element, ends as a pop that does not wait. */
    if (request->command_case != KV__REQUEST__COMMAND_LIST_POP ||
        request->list_pop->block_ms == 0 ||
        kv_command_validate(request, &machine->settings, ret_error) != 0 ||
        is_for_everybody(machine, kv_slice_of_proto(request->list_pop->key))) {
        return 0;
    }
    if (kv_waiters_is_full(&machine->waiters)) {
        return kv_error_set(ret_error,
                            KV_BUSY,
                            "%u pops wait, which is the limit: try again later",
                            KV_WAITERS_MAX);
    }
    like.due.deadline_ms = machine->cluster_time_ms + (int64_t)request->list_pop->block_ms;
    like.last_end = request->list_pop->end == KV__LIST_END__LIST_RIGHT;
    (void)kv_waiters_add(&machine->waiters,
                         &like,
                         machine->waiters.last_number + 1,
                         kv_slice_of_proto(request->list_pop->key));
    return 1;
}

/* ---------------------------------------------------------------- serving */

struct serving {
    struct kv_machine *machine;
    const struct kv_waiter *waiter;
    struct kv_sessions_one *one;
};

static void on_served(void *arg, Kv__Reply *reply)
{
    struct serving *serving = arg;
    const struct kv_waiter *waiter = serving->waiter;

    kv_session_keep(serving->machine, serving->one, waiter->sequence, waiter->command_hash, reply);
    wake(serving->machine, waiter, reply);
}

static void serve(struct kv_machine *machine, struct kv_waiter *waiter)
{
    struct serving serving = {.machine = machine, .waiter = waiter};
    struct kv_slice key = kv_waiter_key(waiter);
    Kv__ListPop pop = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct kv_error error;

    /* Dead, and not removed yet: nobody would hear of the element. */
    if (kv_session_find_live(machine, waiter->session_id, &serving.one, &error) != 0) {
        end_without(machine, waiter, KV_SESSION_EXPIRED, "the session has ended while it waited");
        return;
    }
    pop.key = (ProtobufCBinaryData){key.size, (uint8_t *)(uintptr_t)key.data};
    pop.end = waiter->last_end ? KV__LIST_END__LIST_RIGHT : KV__LIST_END__LIST_LEFT;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &pop;
    KV_REACHED("waiter-served");
    kv_machine_answer(machine, &request, KV_COMMAND_WRITE, on_served, &serving);
    kv_waiters_remove(&machine->waiters, waiter);
}

void kv_wait_serve(struct kv_machine *machine)
{
    struct kv_waiter *waiter;
    size_t n = 0;

    while (n < machine->serve_per_command && (waiter = kv_waiters_ready(&machine->waiters))) {
        const struct kv_record *record = kv_keyspace_get(machine, kv_waiter_key(waiter));

        if (record && record->type == KV_TYPE_LIST) {
            serve(machine, waiter);
            n++;
        } else {
            kv_waiters_unready(&machine->waiters, waiter);
        }
    }
}

/* ---------------------------------------------------------------- who is told */

void kv_machine_on_wake(struct kv_machine *machine, kv_machine_wake_fn fn, void *arg)
{
    machine->wake = fn;
    machine->wake_arg = arg;
}

void *kv_machine_tag_waiter(struct kv_machine *machine, const Kv__SessionStamp *stamp, void *tag)
{
    struct kv_waiter *waiter =
        kv_waiters_find(&machine->waiters, stamp->session_id, stamp->sequence);
    void *before = waiter ? waiter->tag : NULL;

    if (waiter) {
        waiter->tag = tag;
    }
    return before;
}
