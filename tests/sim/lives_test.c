/* Negative controls of what is promised of times and leases. */
#include "tests/sim/follow.h"
#include "tests/sim/lives.h"
#include "tests/sim/locks.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

/* after the four above */
#include <cmocka.h>

static struct checkers checkers;
static struct truth truth;

static ProtobufCBinaryData bytes(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

static struct history history;
static struct lives lives;

static void
promised(const Kv__Request *request, uint64_t called_ns, uint64_t returned_ns, Kv__Reply *reply)
{
    size_t call = history_call(&history, 0, called_ns, request, false);

    history_return(&history, call, returned_ns, -(int)reply->code, reply);
}

/* Lease 7 is renewed for 100 ms; then somebody is told that it has ended. */
static void renewal(uint64_t called_ns, uint64_t returned_ns, uint64_t ttl_ms)
{
    int64_t ids[] = {7};
    Kv__LeaseKeepAlive command = KV__LEASE_KEEP_ALIVE__INIT;
    Kv__LeaseKeepAliveResult result = KV__LEASE_KEEP_ALIVE_RESULT__INIT;
    Kv__LeaseResult lease = KV__LEASE_RESULT__INIT;
    Kv__LeaseResult *leases[] = {&lease};
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    command.n_lease_ids = 1;
    command.lease_ids = ids;
    request.command_case = KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
    request.lease_keep_alive = &command;
    lease.lease_id = 7;
    lease.ttl_ms = ttl_ms;
    result.n_leases = 1;
    result.leases = leases;
    reply.result_case = KV__REPLY__RESULT_LEASE_KEEP_ALIVE;
    reply.lease_keep_alive = &result;
    promised(&request, called_ns, returned_ns, &reply);
}

static void revoke(uint64_t called_ns, uint64_t returned_ns)
{
    Kv__LeaseRevoke command = KV__LEASE_REVOKE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    command.lease_id = 7;
    request.command_case = KV__REQUEST__COMMAND_LEASE_REVOKE;
    request.lease_revoke = &command;
    promised(&request, called_ns, returned_ns, &reply);
}

static void weigh(const char *complaint)
{
    lives_check(&lives, &history, &truth, &checkers);
    assert_int_equal(checkers.has_failed, complaint != NULL);
    assert_true(!complaint || strstr(checkers.message, complaint));
}

static int set_up(void **state)
{
    (void)state;
    checkers_init(&checkers, 1);
    truth_init(&truth);
    history_init(&history);
    lives_init(&lives);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    checkers_deinit(&checkers);
    truth_deinit(&truth);
    history_deinit(&history);
    lives_deinit(&lives);
    return 0;
}

#define MS UINT64_C(1000000)

static void a_lease_ends_in_time(void **state)
{
    (void)state;
    renewal(1 * MS, 2 * MS, 100);
    renewal(101 * MS, 102 * MS, 0);
    weigh(NULL);
}

static void a_renewal_is_lost(void **state)
{
    (void)state;
    renewal(1 * MS, 2 * MS, 100);
    renewal(50 * MS, 51 * MS, 0);
    weigh("before the time that its last renewal gave it");
}

static void a_lease_is_revoked(void **state)
{
    (void)state;
    renewal(1 * MS, 2 * MS, 100);
    revoke(10 * MS, 11 * MS);
    renewal(50 * MS, 51 * MS, 0);
    weigh(NULL);
}

static void a_fast_clock_shortens_it(void **state)
{
    (void)state;
    lives.fastest_ppm = 2000000;
    renewal(1 * MS, 2 * MS, 100);
    renewal(60 * MS, 61 * MS, 0);
    weigh(NULL);
}

/* A key of lease 7, or with a time of its own, is taken by entry 3, which is first applied then. */
static void taken(int64_t lease_id, uint64_t applied_ns)
{
    static Kv__KeyValue before;

    kv__key_value__init(&before);
    before.mod_revision = 2;
    before.lease_id = lease_id;
    lives_applied(&lives, 3, applied_ns);
    truth.events = calloc(1, sizeof *truth.events);
    assert_non_null(truth.events);
    truth.n_events = 1;
    truth.events[0] = (struct true_event){
        .revision = 3, .index = 3, .key = kv_slice_of("k", 1), .before = &before, .by_time = true};
}

static void a_key_goes_before_its_lease(void **state)
{
    (void)state;
    renewal(1 * MS, 2 * MS, 100);
    taken(7, 50 * MS);
    weigh("ended 49000 us before its time");
}

static void put_with_ttl(void)
{
    Kv__Put command = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    command.key = bytes("k");
    command.expiry_case = KV__PUT__EXPIRY_TTL_MS;
    command.ttl_ms = 100;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &command;
    reply.revision = 2;
    promised(&request, 1 * MS, 2 * MS, &reply);
}

static void a_key_goes_early(void **state)
{
    (void)state;
    put_with_ttl();
    taken(0, 98 * MS);
    weigh("before its time, at entry 3");
}

static void a_key_goes_in_time(void **state)
{
    (void)state;
    put_with_ttl();
    taken(0, 100 * MS);
    weigh(NULL);
}

/* ---------------------------------------------------------------- locks */

static void judge_locks(struct lock_fact first, struct lock_fact second, struct lock_fact third)
{
    struct lock_fact facts[] = {first, second, third};

    locks_judge(&checkers, facts, 3);
}

static struct lock_fact taken_by(unsigned client, int64_t token, uint64_t called_ns)
{
    return (struct lock_fact){LOCK_TAKEN, client, token, token, called_ns, called_ns + 5};
}

static struct lock_fact wrote(unsigned client, int64_t token, int64_t revision)
{
    return (struct lock_fact){LOCK_WROTE, client, token, revision, 0, 0};
}

static void a_lock_goes_from_one_to_another(void **state)
{
    (void)state;
    judge_locks(taken_by(2, 9, 20), wrote(1, 5, 7), taken_by(1, 5, 10));
    assert_false(checkers.has_failed);
}

static void two_hold_a_lock(void **state)
{
    (void)state;
    judge_locks(taken_by(1, 5, 10), taken_by(2, 5, 20), wrote(1, 5, 7));
    assert_true(checkers.has_failed && strstr(checkers.message, "hold the same lock"));
}

static void a_former_holder_writes(void **state)
{
    (void)state;
    judge_locks(taken_by(1, 5, 10), taken_by(2, 9, 20), wrote(1, 5, 11));
    assert_true(checkers.has_failed && strstr(checkers.message, "behind token 9 of client 2"));
}

static void tokens_run_back(void **state)
{
    (void)state;
    judge_locks(taken_by(1, 9, 10), taken_by(2, 5, 20), wrote(1, 9, 11));
    assert_true(checkers.has_failed && strstr(checkers.message, "a greater one was given before"));
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(a_lease_ends_in_time),
        WITH(a_renewal_is_lost),
        WITH(a_lease_is_revoked),
        WITH(a_fast_clock_shortens_it),
        WITH(a_key_goes_before_its_lease),
        WITH(a_key_goes_early),
        WITH(a_key_goes_in_time),
        WITH(a_lock_goes_from_one_to_another),
        WITH(two_hold_a_lock),
        WITH(a_former_holder_writes),
        WITH(tokens_run_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
