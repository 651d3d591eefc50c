/* A limiter against its definition, call by call. */
#include "common/limits.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct machine_rig rig;
static struct kv_arena arena;

static int set_up(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    rig.is_still = true;
    kv_arena_init(&arena, 64 * KV_MIB);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    kv_arena_deinit(&arena);
    return 0;
}

struct parameters {
    uint64_t rate, period_ms, burst, n;
};

static Kv__Request *request_of(const struct parameters *p)
{
    return call_acquire(
        &arena, "limiter", (const uint64_t[4]){p->rate, p->period_ms, p->burst, p->n});
}

/* At the time that the machine has. */
static Kv__LimiterResult acquire(const struct parameters *parameters)
{
    Kv__Reply *reply = machine_rig_write(&rig, request_of(parameters));
    Kv__LimiterResult result;

    assert_int_equal(reply->code, KV__CODE__OK);
    result = *reply->limiter_acquire;
    kv__reply__free_unpacked(reply, NULL);
    return result;
}

static void expect(const struct parameters *parameters,
                   bool allowed,
                   uint64_t remaining,
                   uint64_t retry_after_ms)
{
    Kv__LimiterResult result = acquire(parameters);

    assert_int_equal(result.allowed, allowed);
    assert_int_equal(result.remaining, remaining);
    assert_int_equal(result.retry_after_ms, retry_after_ms);
}

static void a_burst_and_then_the_rate(void **state)
{
    const struct parameters three = {.rate = 3, .period_ms = 1000, .burst = 3};

    (void)state;
    expect(&three, true, 2, 0);
    expect(&three, true, 1, 0);
    expect(&three, true, 0, 0);
    expect(&three, false, 0, 334);
    machine_rig_pass_time(&rig, 333);
    expect(&three, false, 0, 1);
    machine_rig_pass_time(&rig, 1);
    expect(&three, true, 0, 0);
    /* The third of a millisecond is not lost. */
    expect(&three, false, 0, 333);
    machine_rig_pass_time(&rig, 100000);
    expect(&three, true, 2, 0);
}

/* An entry with an earlier time than the one before: the machine's clock stays where it was. */
static void time_does_not_run_back(void **state)
{
    const struct parameters one = {.rate = 1, .period_ms = 100, .burst = 1};

    (void)state;
    expect(&one, true, 0, 0);
    machine_rig_pass_time(&rig, 60);
    rig.cluster_time_ms -= 50;
    expect(&one, false, 0, 40);
    machine_rig_pass_time(&rig, 90);
    expect(&one, true, 0, 0);
}

static void many_at_once(void **state)
{
    const struct parameters seven = {.rate = 10, .period_ms = 1000, .burst = 10, .n = 7};
    const struct parameters three = {.rate = 10, .period_ms = 1000, .burst = 10, .n = 3};

    (void)state;
    expect(&seven, true, 3, 0);
    expect(&seven, false, 3, 400);
    expect(&three, true, 0, 0);
    machine_rig_pass_time(&rig, 699);
    expect(&seven, false, 6, 1);
    machine_rig_pass_time(&rig, 1);
    expect(&seven, true, 0, 0);
}

static void what_is_denied_changes_nothing(void **state)
{
    const struct parameters one = {.rate = 1, .period_ms = 1000, .burst = 1};
    int64_t revision;
    uint64_t hash;

    (void)state;
    expect(&one, true, 0, 0);
    revision = kv_machine_revision(rig.machine);
    hash = kv_machine_state_hash(rig.machine);
    expect(&one, false, 0, 1000);
    assert_int_equal(kv_machine_revision(rig.machine), revision);
    assert_int_equal(kv_machine_state_hash(rig.machine), hash);
}

/* What was booked is a time: it stays when the parameters change. */
static void parameters_may_change(void **state)
{
    const struct parameters slow = {.rate = 1, .period_ms = 1000, .burst = 4, .n = 4};
    const struct parameters fast = {.rate = 10, .period_ms = 1000, .burst = 40};
    const struct parameters third = {.rate = 3, .period_ms = 1000, .burst = 30};

    (void)state;
    expect(&slow, true, 0, 0);
    expect(&fast, false, 0, 100);
    machine_rig_pass_time(&rig, 1000);
    expect(&fast, true, 9, 0);
    /* 3100 ms ahead. */
    expect(&third, true, 19, 0);
    machine_rig_reload(&rig);
    /* 3433 1/3 ms ahead, which a tenth of a millisecond rounds up. */
    expect(&fast, true, 4, 0);
    machine_rig_pass_time(&rig, 5000);
    expect(&fast, true, 39, 0);
}

static void expect_ttl(int64_t remaining_ms, int64_t lease_id)
{
    Kv__Reply *reply = machine_rig_read(&rig, call_ttl(&arena, "limiter"));

    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->ttl->remaining_ms, remaining_ms);
    assert_int_equal(reply->ttl->lease_id, lease_id);
    kv__reply__free_unpacked(reply, NULL);
}

static void a_full_bucket_is_no_key(void **state)
{
    const struct parameters third = {.rate = 3, .period_ms = 10000, .burst = 3};
    const struct parameters quick = {.rate = 100, .period_ms = 1000, .burst = 20};

    (void)state;
    expect(&third, true, 2, 0);
    expect_ttl(3334, 0);
    machine_rig_pass_time(&rig, 3334);
    expect_ttl(1, 0);
    machine_rig_pass_time(&rig, 1);
    machine_rig_expect(&rig, call_ttl(&arena, "limiter"), KV__CODE__NOT_FOUND);
    /* Full after 10 ms, but it may be asked again. */
    expect(&quick, true, 19, 0);
    expect_ttl(KV_LIMITER_REST_MS, 0);
    machine_rig_pass_time(&rig, KV_LIMITER_REST_MS);
    expect(&quick, true, 19, 0);
    expect_ttl(KV_LIMITER_REST_MS, 0);
}

static void its_life_may_be_changed(void **state)
{
    const struct parameters three = {.rate = 1, .period_ms = 2000, .burst = 3};

    (void)state;
    expect(&three, true, 2, 0);
    /* Until the next permit. */
    machine_rig_expect(&rig, call_persist(&arena, "limiter"), KV__CODE__OK);
    expect_ttl(-1, 0);
    expect(&three, true, 1, 0);
    expect_ttl(4000, 0);
    /* A bucket that ends before it is full is full. */
    machine_rig_expect(&rig, call_expire(&arena, "limiter", 10), KV__CODE__OK);
    machine_rig_pass_time(&rig, 11);
    expect(&three, true, 2, 0);
    expect_ttl(2000, 0);
    machine_rig_expect(&rig, call_lease_grant(&arena, 7, 60000), KV__CODE__OK);
    machine_rig_expect(&rig, call_expire_lease(&arena, "limiter", 7), KV__CODE__OK);
    expect(&three, true, 1, 0);
    machine_rig_pass_time(&rig, 50000);
    expect_ttl(10000, 7);
    expect(&three, true, 2, 0);
    machine_rig_pass_time(&rig, 10001);
    machine_rig_expect(&rig, call_ttl(&arena, "limiter"), KV__CODE__NOT_FOUND);
}

static void wrong_parameters(void **state)
{
    static const struct {
        struct parameters parameters;
        Kv__Code code;
        const char *word;
    } rows[] = {
        {{0, 1, 1, 1}, KV__CODE__INVALID, "rate"},
        {{1, 0, 1, 1}, KV__CODE__INVALID, "period_ms"},
        {{1, 1, 0, 0}, KV__CODE__INVALID, "burst"},
        {{KV_LIMITER_RATE_MAX + 1, 1, 1, 1}, KV__CODE__OUT_OF_BOUNDS, "1000000001"},
        {{1, KV_LIMITER_PERIOD_MS_MAX + 1, 1, 1}, KV__CODE__OUT_OF_BOUNDS, "period_ms"},
        {{1, 1, KV_LIMITER_BURST_MAX + 1, 1}, KV__CODE__OUT_OF_BOUNDS, "burst"},
        {{UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}, KV__CODE__OUT_OF_BOUNDS, "rate"},
        {{1, 1, 5, 6}, KV__CODE__INVALID, "burst of 5"},
        {{1, 1, 5, UINT64_MAX}, KV__CODE__INVALID, "never"},
        {{1, KV_LIMITER_PERIOD_MS_MAX, 4, 1}, KV__CODE__OUT_OF_BOUNDS, "come back"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        Kv__Reply *reply = machine_rig_write(&rig, request_of(&rows[i].parameters));

        assert_int_equal(reply->code, rows[i].code);
        assert_non_null(strstr(reply->message, rows[i].word));
        kv__reply__free_unpacked(reply, NULL);
    }
    machine_rig_expect(&rig, call_put(&arena, "limiter", "x"), KV__CODE__OK);
    machine_rig_expect(&rig, request_of(&(struct parameters){1, 1, 1, 1}), KV__CODE__WRONG_TYPE);
    machine_rig_expect(&rig, call_get(&arena, "limiter", 0), KV__CODE__OK);
}

static void extreme_parameters(void **state)
{
    const struct parameters most = {
        KV_LIMITER_RATE_MAX, KV_LIMITER_PERIOD_MS_MAX, KV_LIMITER_BURST_MAX, KV_LIMITER_BURST_MAX};
    const struct parameters slowest = {1, KV_LIMITER_PERIOD_MS_MAX, 3, 3};
    const struct parameters quick = {KV_LIMITER_RATE_MAX, 1, KV_LIMITER_BURST_MAX, 0};

    (void)state;
    expect(&most, true, 0, 0);
    expect(&most, false, 0, KV_LIMITER_PERIOD_MS_MAX);
    machine_rig_pass_time(&rig, (int64_t)KV_LIMITER_PERIOD_MS_MAX);
    expect(&slowest, true, 0, 0);
    /* The most that can be booked, in the finest units. */
    expect(&most, false, 0, 3 * KV_LIMITER_PERIOD_MS_MAX);
    expect(&quick, false, 0, 3 * KV_LIMITER_PERIOD_MS_MAX);
    machine_rig_pass_time(&rig, 3 * (int64_t)KV_LIMITER_PERIOD_MS_MAX);
    expect(&quick, true, KV_LIMITER_BURST_MAX - 1, 0);
    rig.cluster_time_ms = INT64_MAX - 10;
    machine_rig_pass_time(&rig, 0);
    expect(&most, true, 0, 0);
    expect(&most, false, 0, KV_LIMITER_PERIOD_MS_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_burst_and_then_the_rate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(time_does_not_run_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_denied_changes_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(parameters_may_change, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_full_bucket_is_no_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(its_life_may_be_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(extreme_parameters, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
