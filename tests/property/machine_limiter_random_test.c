/* Random acquisitions against a bucket that drains, in fractions: how many permits are taken is a
 * rational number with the rate as its unit of time. And the key is there until the bucket is full.
 */
#include "common/limits.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

__extension__ typedef unsigned __int128 wide;

/* Time until the bucket is full: numerator / denominator ms from at_ms on. */
struct model {
    int64_t at_ms;
    wide numerator, denominator;
    int64_t ends_at_ms; /* of the key; 0: it never was */
};

static struct machine_rig rig;

static uint64_t pick(uint64_t max)
{
    switch (machine_rig_random(&rig, 5)) {
    case 0:
        return max;
    case 1:
        return 1;
    case 2:
        return 1 + machine_rig_random(&rig, max);
    default:
        return 1 + machine_rig_random(&rig, 50);
    }
}

static void pass(struct model *model, int64_t now_ms)
{
    wide passed = (wide)(now_ms - model->at_ms) * model->denominator;

    model->numerator -= passed < model->numerator ? passed : model->numerator;
    model->at_ms = now_ms;
}

/* The unit becomes 1/rate ms; what does not fit is rounded up. */
static void change_rate(struct model *model, uint64_t rate)
{
    if (rate != model->denominator) {
        model->numerator = (model->numerator * rate + model->denominator - 1) / model->denominator;
        model->denominator = rate;
    }
}

static void
check(struct model *model, const Kv__LimiterAcquire *command, const Kv__LimiterResult *result)
{
    const wide wanted = (wide)(command->n ? command->n : 1) * command->period_ms;
    const wide room = (wide)command->burst * command->period_ms;
    const bool allowed = model->numerator + wanted <= room;

    assert_int_equal(result->allowed, allowed);
    if (allowed) {
        wide rest = (wide)KV_LIMITER_REST_MS, full;

        model->numerator += wanted;
        full = (model->numerator + model->denominator - 1) / model->denominator;
        model->ends_at_ms = model->at_ms + (int64_t)(full > rest ? full : rest);
        assert_int_equal(result->retry_after_ms, 0);
    } else {
        /* Then and not before. */
        wide over = model->numerator + wanted - room;

        assert_true(result->retry_after_ms > 0);
        assert_true((wide)result->retry_after_ms * command->rate >= over);
        assert_true(((wide)result->retry_after_ms - 1) * command->rate < over);
    }
    assert_true((wide)result->remaining * command->period_ms + model->numerator <= room ||
                result->remaining == 0);
    assert_true(((wide)result->remaining + 1) * command->period_ms + model->numerator > room);
}

static void acquire(struct model *model, struct kv_arena *arena, const uint64_t numbers[4])
{
    Kv__Request *request = call_acquire(arena, "limiter", numbers);
    struct kv_error error;
    Kv__Reply *reply = machine_rig_write(&rig, request);

    pass(model, rig.cluster_time_ms);
    if (reply->code == KV__CODE__OK) {
        change_rate(model, numbers[0]);
        check(model, request->limiter_acquire, reply->limiter_acquire);
    } else {
        assert_int_not_equal(
            kv_command_validate(request, kv_machine_settings_of(rig.machine), &error), 0);
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void check_end(const struct model *model, struct kv_arena *arena)
{
    Kv__Reply *reply = machine_rig_read(&rig, call_ttl(arena, "limiter"));

    const int64_t left_ms = model->ends_at_ms - rig.cluster_time_ms;

    if (left_ms < 0) {
        assert_int_equal(reply->code, KV__CODE__NOT_FOUND);
    } else {
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->ttl->remaining_ms, left_ms > 0 ? left_ms : 1);
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void run(uint64_t seed)
{
    struct model model = {.denominator = 1};
    struct kv_arena arena;
    uint64_t numbers[4];

    machine_rig_open(&rig, seed);
    kv_arena_init(&arena, KV_MIB);
    for (unsigned i = 0; i < 400; i++) {
        struct model before = model;
        int64_t revision = kv_machine_revision(rig.machine);

        if (i == 0 || machine_rig_random(&rig, 20) == 0) {
            numbers[0] = pick(KV_LIMITER_RATE_MAX);
            numbers[1] = pick(KV_LIMITER_PERIOD_MS_MAX);
            numbers[2] = pick(KV_LIMITER_BURST_MAX);
        }
        numbers[3] = machine_rig_random(&rig, 3) ? machine_rig_random(&rig, 4)
                                                 : machine_rig_random(&rig, numbers[2] + 1);
        acquire(&model, &arena, numbers);
        if (kv_machine_revision(rig.machine) == revision) {
            /* Nor was the unit changed. */
            model = before;
        }
        check_end(&model, &arena);
        if (machine_rig_random(&rig, 6) == 0) {
            machine_rig_pass_time(&rig, (int64_t)pick(numbers[1]));
            check_end(&model, &arena);
        }
        if (machine_rig_random(&rig, 30) == 0) {
            machine_rig_reload(&rig);
        }
        kv_arena_reset(&arena);
    }
    kv_arena_deinit(&arena);
    machine_rig_close(&rig);
}

static void limiters_do_what_a_bucket_does(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(40);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limiters_do_what_a_bucket_does),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
