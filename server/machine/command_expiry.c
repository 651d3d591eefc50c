/* When a key ends: expire, persist, ttl, and what other commands need to give a key its time. */
#include "server/machine/command.h"

#include <inttypes.h>

int kv_check_ttl_given(uint64_t ttl_ms, struct kv_error *ret_error)
{
    return ttl_ms > 0 ? 0 : kv_error_set(ret_error, KV_INVALID, "a ttl of 0 ms: 1 or more");
}

int kv_check_lease_id(int64_t lease_id, struct kv_error *ret_error)
{
    return lease_id > 0
               ? 0
               : kv_error_set(
                     ret_error, KV_INVALID, "lease id %" PRId64 ": they are 1 or more", lease_id);
}

int kv_check_ttl(const struct kv_machine *machine, uint64_t ttl_ms, struct kv_answer *answer)
{
    if (ttl_ms <= machine->settings.ttl_max_ms) {
        return 0;
    }
    answer->hint.limit = (char *)(uintptr_t) "ttl-max";
    answer->hint.limit_value = machine->settings.ttl_max_ms;
    return kv_error_set(&answer->error,
                        KV_OUT_OF_BOUNDS,
                        "a ttl of %" PRIu64 " ms, at most %" PRIu64 " (setting ttl-max)",
                        ttl_ms,
                        machine->settings.ttl_max_ms);
}

int64_t kv_ttl_end_ms(const struct kv_machine *machine, uint64_t ttl_ms)
{
    return ttl_ms > 0 && ttl_ms <= KV_TTL_MAX_MS ? machine->cluster_time_ms + (int64_t)ttl_ms : 0;
}

int64_t kv_remaining_ms(const struct kv_machine *machine, int64_t end_ms)
{
    return end_ms > machine->cluster_time_ms ? end_ms - machine->cluster_time_ms : 1;
}

static int not_found(struct kv_answer *answer)
{
    return kv_error_set(&answer->error, KV_NOT_FOUND, "the key does not exist");
}

static void answer_done(struct kv_answer *answer, bool done)
{
    kv__done_result__init(&answer->result.done);
    answer->result.done.done = done;
}

/* ---------------------------------------------------------------- expire, persist */

int kv_validate_expire(const Kv__Request *request,
                       const struct kv_machine_settings *settings,
                       struct kv_error *ret_error)
{
    const Kv__Expire *command = request->expire;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    if (status != 0) {
        return status;
    }
    switch (command->expiry_case) {
    case KV__EXPIRE__EXPIRY_TTL_MS:
        return kv_check_ttl_given(command->ttl_ms, ret_error);
    case KV__EXPIRE__EXPIRY_LEASE_ID:
        return kv_check_lease_id(command->lease_id, ret_error);
    default:
        return kv_error_set(ret_error, KV_INVALID, "expire names neither a ttl nor a lease");
    }
}

int kv_validate_persist(const Kv__Request *request,
                        const struct kv_machine_settings *settings,
                        struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->persist->key, ret_error);
}

/* The key as it is, with another life. False: it has that. */
static bool
change_life(struct kv_machine *machine, const struct kv_record *record, const struct kv_life *life)
{
    const struct kv_life present = kv_record_life(record);

    if (present.expires_at_ms == life->expires_at_ms && present.lease_id == life->lease_id) {
        return false;
    }
    kv_keyspace_commit(machine, kv_keyspace_again(machine, record, kv_record_key(record), life));
    return true;
}

int kv_run_expire(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const Kv__Expire *command = request->expire;
    const struct kv_record *record = kv_keyspace_get(machine, kv_slice_of_proto(command->key));
    struct kv_life life = kv_record_life(record);
    struct kv_lease *lease;
    int status;

    if (!record) {
        return not_found(answer);
    }
    if (command->expiry_case == KV__EXPIRE__EXPIRY_TTL_MS) {
        status = kv_check_ttl(machine, command->ttl_ms, answer);
        life.expires_at_ms = kv_ttl_end_ms(machine, command->ttl_ms);
        life.lease_id = 0;
    } else {
        status = kv_lease_find_live(machine, command->lease_id, &lease, &answer->error);
        life.expires_at_ms = 0;
        life.lease_id = command->lease_id;
    }
    if (status != 0) {
        return status;
    }
    answer_done(answer, change_life(machine, record, &life));
    KV_ANSWER(answer, EXPIRE, expire, done);
    return 0;
}

int kv_run_persist(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const struct kv_record *record =
        kv_keyspace_get(machine, kv_slice_of_proto(request->persist->key));
    struct kv_life life = kv_record_life(record);

    if (!record) {
        return not_found(answer);
    }
    life.expires_at_ms = 0;
    life.lease_id = 0;
    answer_done(answer, change_life(machine, record, &life));
    KV_ANSWER(answer, PERSIST, persist, done);
    return 0;
}

/* ---------------------------------------------------------------- ttl */

int kv_validate_ttl(const Kv__Request *request,
                    const struct kv_machine_settings *settings,
                    struct kv_error *ret_error)
{
    (void)settings;
    return kv_check_key(request->ttl->key, ret_error);
}

int kv_run_ttl(struct kv_machine *machine, const Kv__Request *request, struct kv_answer *answer)
{
    const struct kv_record *record = kv_keyspace_get(machine, kv_slice_of_proto(request->ttl->key));
    const struct kv_life life = kv_record_life(record);
    Kv__TtlResult *result = &answer->result.ttl;
    const struct kv_lease *lease;

    if (!record) {
        return not_found(answer);
    }
    kv__ttl_result__init(result);
    result->lease_id = life.lease_id;
    result->remaining_ms = -1;
    if (life.lease_id != 0) {
        lease = kv_leases_find(&machine->leases, life.lease_id);
        result->remaining_ms = lease ? kv_remaining_ms(machine, lease->item.deadline_ms) : 1;
    } else if (life.expires_at_ms != 0) {
        result->remaining_ms = kv_remaining_ms(machine, life.expires_at_ms);
    }
    KV_ANSWER(answer, TTL, ttl, ttl);
    return 0;
}
