/* Rate limiters: the generic cell rate algorithm (GCRA, ITU-T I.371, in its virtual scheduling
 * form) in integers over the cluster time.
 *
 * A limiter is one number: the theoretical arrival time (TAT), to which the permits that were given
 * have booked it. It is exact as long as the rate stays: whole milliseconds and a fraction in units
 * of 1/rate ms. With another rate the fraction is rounded up, by less than one of the new units. A
 * TAT that has passed is a full bucket, whatever it was: so the key ends then, as by a ttl. */
#include "server/machine/command.h"

#include <inttypes.h>

/* Value of the record, little endian. */
struct limiter {
    uint64_t tat_ms;
    uint64_t fraction; /* below rate */
    uint64_t rate;
};
enum { LIMITER_BYTES = 24 };

static int check_number(uint64_t value, uint64_t max, const char *what, struct kv_error *ret_error)
{
    if (value == 0) {
        return kv_error_set(
            ret_error, KV_INVALID, "the limiter's %s is 0: 1 to %" PRIu64, what, max);
    }
    if (value > max) {
        return kv_error_set(ret_error,
                            KV_OUT_OF_BOUNDS,
                            "the limiter's %s is %" PRIu64 ", at most %" PRIu64,
                            what,
                            value,
                            max);
    }
    return 0;
}

int kv_validate_limiter_acquire(const Kv__Request *request,
                                const struct kv_machine_settings *settings,
                                struct kv_error *ret_error)
{
    const Kv__LimiterAcquire *command = request->limiter_acquire;
    int status = kv_check_key(command->key, ret_error);

    (void)settings;
    if (status == 0) {
        status = check_number(command->rate, KV_LIMITER_RATE_MAX, "rate", ret_error);
    }
    if (status == 0) {
        status = check_number(command->period_ms, KV_LIMITER_PERIOD_MS_MAX, "period_ms", ret_error);
    }
    if (status == 0) {
        status = check_number(command->burst, KV_LIMITER_BURST_MAX, "burst", ret_error);
    }
    if (status != 0) {
        return status;
    }
    if (command->n > command->burst) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "n is %" PRIu64 ", more than the burst of %" PRIu64
                            ": the limiter could never allow it",
                            command->n,
                            command->burst);
    }
    if (command->burst * command->period_ms / command->rate > KV_LIMITER_FULL_MS_MAX) {
        return kv_error_set(ret_error,
                            KV_OUT_OF_BOUNDS,
                            "a burst of %" PRIu64 " would take more than %llu ms to come back: "
                            "lower it, or raise the rate",
                            command->burst,
                            KV_LIMITER_FULL_MS_MAX);
    }
    return 0;
}

bool kv_limiter_is_sound(struct kv_slice value)
{
    uint64_t rate;

    if (value.size != LIMITER_BYTES) {
        return false;
    }
    rate = kv_get_u64(value.data + 16);
    return kv_get_u64(value.data) <= INT64_MAX && rate > 0 && rate <= KV_LIMITER_RATE_MAX &&
           kv_get_u64(value.data + 8) < rate;
}

static void load(const struct kv_record *record, struct limiter *ret_limiter)
{
    const uint8_t *p = kv_record_value(record).data;

    *ret_limiter = (struct limiter){kv_get_u64(p), kv_get_u64(p + 8), kv_get_u64(p + 16)};
}

/* With its lease, when it has one; else when the bucket is full, though not at once: one that is
 * asked again and again would be made and ended with each permit. */
static struct kv_life life_of(const struct kv_machine *machine,
                              const struct kv_record *former,
                              const struct limiter *limiter)
{
    const uint64_t rested_ms = (uint64_t)machine->cluster_time_ms + KV_LIMITER_REST_MS;
    const uint64_t full_ms = limiter->tat_ms + (limiter->fraction > 0);
    const uint64_t end_ms = full_ms > rested_ms ? full_ms : rested_ms;
    struct kv_life life = kv_record_life(former);

    if (life.lease_id == 0) {
        life.expires_at_ms = end_ms < INT64_MAX ? (int64_t)end_ms : INT64_MAX;
    }
    return life;
}

static void store(struct kv_machine *machine,
                  struct kv_slice key,
                  const struct kv_record *former,
                  const struct limiter *limiter)
{
    const struct kv_life life = life_of(machine, former, limiter);
    struct kv_record *record =
        kv_keyspace_begin_living(machine, key, KV_TYPE_LIMITER, LIMITER_BYTES, &life);
    uint8_t *p = record->bytes + key.size;

    kv_put_u64(p, limiter->tat_ms);
    kv_put_u64(p + 8, limiter->fraction);
    kv_put_u64(p + 16, limiter->rate);
    kv_keyspace_commit(machine, record);
}

/* How far the TAT lies ahead, in 1/rate ms: less than KV_LIMITER_FULL_MS_MAX + 1 ms of it (limits.h
 * says why nothing here overflows). */
static uint64_t booked(const struct limiter *limiter, uint64_t now_ms, uint64_t rate)
{
    uint64_t fraction = limiter->fraction;
    uint64_t ahead_ms;

    if (limiter->tat_ms < now_ms) {
        return 0;
    }
    ahead_ms = limiter->tat_ms - now_ms;
    /* Only a snapshot that somebody made could hold more. */
    if (ahead_ms > KV_LIMITER_FULL_MS_MAX) {
        ahead_ms = KV_LIMITER_FULL_MS_MAX;
    }
    if (rate != limiter->rate) {
        fraction = (fraction * rate + limiter->rate - 1) / limiter->rate;
    }
    return ahead_ms * rate + fraction;
}

int kv_run_limiter_acquire(struct kv_machine *machine,
                           const Kv__Request *request,
                           struct kv_answer *answer)
{
    const Kv__LimiterAcquire *command = request->limiter_acquire;
    Kv__LimiterResult *result = &answer->result.limiter;
    struct kv_slice key = kv_slice_of_proto(command->key);
    const struct kv_record *record = kv_keyspace_get(machine, key);
    const uint64_t now_ms = (uint64_t)machine->cluster_time_ms;
    const uint64_t room = command->burst * command->period_ms;
    const uint64_t wanted = (command->n ? command->n : 1) * command->period_ms;
    struct limiter limiter = {now_ms, 0, command->rate};
    uint64_t before, after;

    if (record && record->type != KV_TYPE_LIMITER) {
        return kv_wrong_type(answer, record, KV_TYPE_LIMITER);
    }
    if (record) {
        load(record, &limiter);
    }
    before = booked(&limiter, now_ms, command->rate);
    after = before + wanted;
    kv__limiter_result__init(result);
    result->allowed = after <= room;
    if (result->allowed) {
        result->remaining = (room - after) / command->period_ms;
        limiter =
            (struct limiter){now_ms + after / command->rate, after % command->rate, command->rate};
        store(machine, key, record, &limiter);
    } else {
        result->remaining = before < room ? (room - before) / command->period_ms : 0;
        result->retry_after_ms = (after - room + command->rate - 1) / command->rate;
    }
    KV_ANSWER(answer, LIMITER_ACQUIRE, limiter_acquire, limiter);
    return 0;
}
