/* The core of the node, several of them in one thread with simulated clock, network, workers and
 * disks. */
#include "tests/support/cluster.h"
#include "tests/support/seeds.h"

#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "server/node/node_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct cluster *new_cluster(unsigned n_nodes, uint64_t seed)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = seed, .n_nodes = n_nodes, .delay_max_us = 300, .sync_max_us = 400});

    for (unsigned i = 1; i <= n_nodes; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    return cluster;
}

static void put_ok(struct cluster *cluster, unsigned node, const char *key, const char *value)
{
    struct cluster_request *request = cluster_put(cluster, node, key, value);

    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    cluster_request_free(request);
}

static void get_is(struct cluster *cluster, unsigned node, const char *key, const char *value)
{
    struct cluster_request *request = cluster_get(cluster, node, key);

    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    assert_int_equal(request->reply->result_case, KV__REPLY__RESULT_GET);
    assert_int_equal(request->reply->get->kv->value.len, strlen(value));
    assert_memory_equal(request->reply->get->kv->value.data, value, strlen(value));
    cluster_request_free(request);
}

static void one_node_writes_and_reads(void **state)
{
    struct cluster *cluster = new_cluster(1, 1);

    (void)state;
    put_ok(cluster, 1, "a", "1");
    get_is(cluster, 1, "a", "1");
    cluster_crash(cluster, 1);
    cluster_start(cluster, 1);
    get_is(cluster, 1, "a", "1");
    cluster_free(cluster);
}

static void every_node_takes_writes_and_reads(void **state)
{
    struct cluster *cluster = new_cluster(3, 2);

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        char value[8];

        snprintf(value, sizeof value, "v%u", i);
        put_ok(cluster, i, "key", value);
        for (unsigned k = 1; k <= 3; k++) {
            get_is(cluster, k, "key", value);
        }
    }
    cluster_check_same(cluster);
    cluster_free(cluster);
}

static void a_killed_leader_loses_nothing(void **state)
{
    struct cluster *cluster = new_cluster(3, 3);
    unsigned leader = cluster_leader(cluster);
    unsigned other = leader % 3 + 1;

    (void)state;
    put_ok(cluster, leader, "a", "1");
    cluster_crash(cluster, leader);
    put_ok(cluster, other, "b", "2");
    get_is(cluster, other, "a", "1");
    cluster_start(cluster, leader);
    get_is(cluster, leader, "b", "2");
    cluster_check_same(cluster);
    cluster_free(cluster);
}

static void all_killed_at_once_lose_nothing(void **state)
{
    struct cluster *cluster = new_cluster(3, 4);

    (void)state;
    put_ok(cluster, 1, "a", "1");
    for (unsigned i = 1; i <= 3; i++) {
        cluster_crash(cluster, i);
    }
    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
    }
    get_is(cluster, 2, "a", "1");
    cluster_check_same(cluster);
    cluster_free(cluster);
}

static int64_t revision_of(struct cluster *cluster, unsigned node, const char *key)
{
    struct cluster_request *request = cluster_get(cluster, node, key);
    int64_t revision;

    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    revision = request->reply->get->kv->mod_revision;
    cluster_request_free(request);
    return revision;
}

/* What a follower forwarded in an earlier life is answered to nobody. */
static void an_answer_for_an_earlier_process_is_nobodys(void **state)
{
    for (uint64_t seed = 1; seed <= 10; seed++) {
        struct cluster *cluster = new_cluster(3, seed);
        unsigned leader = cluster_leader(cluster);
        unsigned follower = leader % 3 + 1;
        struct cluster_request *first;
        struct cluster_request *second;

        (void)state;
        cluster_crash(cluster, follower % 3 + 1);
        cluster_stall(cluster, follower, CLUSTER_LOG, 1000);
        first = cluster_put(cluster, follower, "first", "1");
        cluster_run_ms(cluster, 20);
        cluster_crash(cluster, follower);
        cluster_request_free(first);
        cluster_start(cluster, follower);
        second = cluster_put(cluster, follower, "second", "2");
        assert_int_equal(cluster_await(cluster, second, 6000), KV__CODE__OK);
        assert_int_equal(second->reply->revision, revision_of(cluster, follower, "second"));
        cluster_request_free(second);
        cluster_free(cluster);
    }
}

/* The cluster time goes on from what is logged, whatever the clock of the new leader says. */
static void cluster_time_does_not_jump_at_a_failover(void **state)
{
    struct cluster *cluster = new_cluster(3, 7);
    unsigned leader = cluster_leader(cluster);
    unsigned follower = leader % 3 + 1;
    struct cluster_request *request;
    struct kv_node_status status;

    (void)state;
    put_ok(cluster, leader, "a", "1");
    cluster_crash(cluster, leader);
    /* It waits for a leader and is in the first entry. */
    request = cluster_put(cluster, follower, "b", "2");
    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    cluster_request_free(request);
    request = cluster_put(cluster, follower % 3 + 1, "b", "3");
    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    cluster_request_free(request);
    kv_node_status_get(cluster_node(cluster, follower), &status);
    assert_in_range(status.cluster_time_ms, 0, 60000);
    cluster_free(cluster);
}

/* Followers commit meanwhile, so the window of proposals stays open. */
static void a_leader_whose_disk_stands_still_goes_on(void **state)
{
    struct cluster *cluster = new_cluster(3, 8);
    unsigned leader = cluster_leader(cluster);

    (void)state;
    cluster_stall(cluster, leader, CLUSTER_LOG, 8000);
    for (unsigned i = 0; i < 5000; i++) {
        struct cluster_request *request = cluster_put(cluster, leader, "key", "value");

        (void)cluster_await(cluster, request, 20);
        if (!request->done) {
            cluster_run_ms(cluster, 6000);
        }
        cluster_request_free(request);
    }
    cluster_run_ms(cluster, 8000);
    put_ok(cluster, leader, "key", "last");
    get_is(cluster, leader, "key", "last");
    cluster_check_same(cluster);
    cluster_free(cluster);
}

static struct cluster *new_small_cluster(unsigned n_nodes, uint64_t seed)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = seed,
        .n_nodes = n_nodes,
        .delay_max_us = 300,
        .sync_max_us = 400,
        .wal_segment_bytes = 16 * KV_KIB,
        .snapshot_log_bytes = 8 * KV_KIB,
    });

    for (unsigned i = 1; i <= n_nodes; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    return cluster;
}

static void put_many(struct cluster *cluster, unsigned node, unsigned first, unsigned last)
{
    for (unsigned i = first; i <= last; i++) {
        char key[16];
        char value[200];

        snprintf(key, sizeof key, "k%u", i % 100);
        snprintf(value, sizeof value, "%0150u", i);
        put_ok(cluster, node, key, value);
    }
}

static void check_many(struct cluster *cluster, unsigned node, unsigned last)
{
    for (unsigned i = last > 99 ? last - 99 : 1; i <= last; i++) {
        char key[16];
        char value[200];

        snprintf(key, sizeof key, "k%u", i % 100);
        snprintf(value, sizeof value, "%0150u", i);
        get_is(cluster, node, key, value);
    }
}

static struct kv_node_status status_of(struct cluster *cluster, unsigned node)
{
    struct kv_node_status status;

    kv_node_status_get(cluster_node(cluster, node), &status);
    return status;
}

static void snapshots_bound_the_log_and_survive_restarts(void **state)
{
    struct cluster *cluster = new_small_cluster(3, 11);

    (void)state;
    put_many(cluster, 1, 1, 1000);
    for (unsigned i = 1; i <= 3; i++) {
        assert_true(status_of(cluster, i).snapshots_taken > 3);
        assert_true(status_of(cluster, i).wal_bytes < 200 * KV_KIB);
    }
    for (unsigned i = 1; i <= 3; i++) {
        cluster_crash(cluster, i);
    }
    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
        assert_true(status_of(cluster, i).snapshot_index > 500);
    }
    check_many(cluster, 2, 1000);
    put_many(cluster, 2, 1001, 1300);
    check_many(cluster, 3, 1300);
    cluster_check_same(cluster);
    cluster_free(cluster);
}

static void a_follower_that_was_away_too_long_gets_a_snapshot(void **state)
{
    for (uint64_t seed = 20; seed < 30; seed++) {
        struct cluster *cluster = new_small_cluster(3, seed);
        unsigned follower = cluster_leader(cluster) % 3 + 1;
        unsigned other = follower % 3 + 1;

        (void)state;
        put_many(cluster, other, 1, 50);
        cluster_crash(cluster, follower);
        put_many(cluster, other, 51, 700);
        cluster_start(cluster, follower);
        check_many(cluster, follower, 700);
        assert_int_equal(status_of(cluster, follower).snapshots_installed, 1);
        put_many(cluster, follower, 701, 1000);
        check_many(cluster, follower, 1000);
        cluster_check_same(cluster);
        cluster_crash(cluster, follower);
        cluster_start(cluster, follower);
        check_many(cluster, follower, 1000);
        cluster_check_same(cluster);
        cluster_free(cluster);
    }
}

static bool is_fetching(struct cluster *cluster, void *arg)
{
    return status_of(cluster, *(unsigned *)arg).snapshot_fetch_index != 0;
}

/* Newer snapshots of the leader meanwhile are no reason to fetch again: the log behind the fetched
 * one is kept. */
static void who_has_installed_an_older_snapshot_goes_on_with_the_log(void **state)
{
    struct cluster *cluster = new_small_cluster(3, 14);
    unsigned leader = cluster_leader(cluster);
    unsigned follower = leader % 3 + 1;
    uint64_t taken;

    (void)state;
    put_many(cluster, leader, 1, 50);
    cluster_crash(cluster, follower);
    put_many(cluster, leader, 51, 700);
    cluster_start(cluster, follower);
    assert_true(cluster_run_until(cluster, is_fetching, &follower, 5000));
    cluster_stall(cluster, follower, CLUSTER_SNAPSHOT, 3000);
    taken = status_of(cluster, leader).snapshots_taken;
    for (unsigned i = 701; status_of(cluster, leader).snapshots_taken == taken; i++) {
        put_many(cluster, leader, i, i);
    }
    cluster_check_same(cluster);
    assert_int_equal(status_of(cluster, follower).snapshots_installed, 1);
    cluster_free(cluster);
}

static void a_snapshot_is_taken_on_request(void **state)
{
    struct cluster *cluster = new_cluster(3, 12);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SnapshotNow body = KV__SNAPSHOT_NOW__INIT;
    struct cluster_request *sent;

    (void)state;
    put_ok(cluster, 1, "a", "1");
    get_is(cluster, 2, "a", "1");
    request.id = 7;
    request.command_case = KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    request.snapshot_now = &body;
    for (int i = 0; i < 2; i++) {
        sent = cluster_submit(cluster, 2, &request);
        assert_int_equal(cluster_await(cluster, sent, 5000), KV__CODE__OK);
        assert_int_equal(sent->reply->snapshot_now->index, status_of(cluster, 2).snapshot_index);
        assert_true(sent->reply->snapshot_now->bytes > 0);
        cluster_request_free(sent);
    }
    assert_int_equal(status_of(cluster, 2).snapshots_taken, 1);
    cluster_free(cluster);
}

static bool is_corrupt(struct cluster *cluster, void *arg)
{
    return strcmp(status_of(cluster, *(unsigned *)arg).state, "corrupt") == 0;
}

static bool is_led_by_another(struct cluster *cluster, void *arg)
{
    unsigned leader = cluster_leader(cluster);

    return leader != 0 && leader != *(unsigned *)arg &&
           status_of(cluster, *(unsigned *)arg % 3 + 1).leader_id == leader;
}

/* A state that has gone another way is found by its hash, and answers nothing any more. */
static void who_differs_stops_serving(bool leader_differs)
{
    struct cluster *cluster = new_cluster(3, 13);
    unsigned leader = cluster_leader(cluster);
    unsigned odd = leader_differs ? leader : leader % 3 + 1;
    unsigned other = odd % 3 + 1;
    struct cluster_request *request;

    put_ok(cluster, other, "a", "1");
    cluster_run_ms(cluster, 100);
    cluster_node(cluster, odd)->machine->state_hash ^= 1;
    for (unsigned i = 0; i < KV_STATE_HASH_ENTRIES; i++) {
        request = cluster_put(cluster, other, "key", "value");
        (void)cluster_await(cluster, request, 6000);
        cluster_request_free(request);
    }
    assert_true(cluster_run_until(cluster, is_corrupt, &odd, 5000));
    request = cluster_get(cluster, odd, "a");
    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__CORRUPT);
    assert_non_null(strstr(request->reply->message, "replace it"));
    cluster_request_free(request);
    /* The others go on, and one of them leads. */
    assert_true(cluster_run_until(cluster, is_led_by_another, &odd, 5000));
    put_ok(cluster, other, "b", "2");
    get_is(cluster, other % 3 + 1, "b", "2");
    assert_int_not_equal(cluster_leader(cluster), odd);
    cluster_free(cluster);
}

static void a_follower_that_differs_stops_serving(void **state)
{
    (void)state;
    who_differs_stops_serving(false);
}

static void a_leader_that_differs_stops_serving(void **state)
{
    (void)state;
    who_differs_stops_serving(true);
}

static bool is_down(struct cluster *cluster, void *arg)
{
    return !cluster_is_up(cluster, *(unsigned *)arg);
}

static void a_stopped_leader_hands_over_first(void **state)
{
    struct cluster *cluster = new_cluster(3, 5);
    unsigned leader = cluster_leader(cluster);
    unsigned other = leader % 3 + 1;
    uint64_t begin;

    (void)state;
    put_ok(cluster, leader, "a", "1");
    begin = cluster_now_ms(cluster);
    cluster_stop(cluster, leader);
    assert_true(cluster_run_until(cluster, is_down, &leader, 2000));
    put_ok(cluster, other, "b", "2");
    assert_true(cluster_now_ms(cluster) - begin < 100);
    cluster_free(cluster);
}

static void without_a_majority_writes_wait_and_say_so(void **state)
{
    struct cluster *cluster = new_cluster(3, 6);
    unsigned leader = cluster_leader(cluster);
    unsigned other = leader % 3 + 1;
    unsigned third = other % 3 + 1;
    struct cluster_request *put;
    struct cluster_request *get;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Get body = KV__GET__INIT;
    int code;

    (void)state;
    put_ok(cluster, leader, "a", "1");
    cluster_check_same(cluster);
    cluster_crash(cluster, other);
    cluster_crash(cluster, third);
    put = cluster_put(cluster, leader, "b", "2");
    code = cluster_await(cluster, put, 10000);
    assert_true(code == KV__CODE__DEADLINE || code == KV__CODE__NO_LEADER);
    assert_true(put->done_ms - put->sent_ms >= KV_DEADLINE_DEFAULT_MS);
    assert_true(put->done_ms - put->sent_ms < KV_DEADLINE_DEFAULT_MS + 200);
    cluster_request_free(put);
    put = cluster_put(cluster, leader, "c", "3");
    assert_int_equal(cluster_await(cluster, put, 10000), KV__CODE__NO_LEADER);
    cluster_request_free(put);

    body.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "a"};
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &body;
    request.serializable = true;
    get = cluster_submit(cluster, leader, &request);
    assert_int_equal(cluster_await(cluster, get, 10), KV__CODE__OK);
    cluster_request_free(get);
    cluster_free(cluster);
}

static void a_follower_that_was_away_catches_up_from_the_log(void **state)
{
    struct cluster *cluster = new_cluster(3, 7);
    unsigned leader = cluster_leader(cluster);
    unsigned away = leader % 3 + 1;
    static char value[200 * 1024];
    char key[16];

    (void)state;
    memset(value, 'x', sizeof value - 1);
    cluster_crash(cluster, away);
    /* More than the entry cache holds. */
    for (unsigned i = 0; i < 400; i++) {
        snprintf(key, sizeof key, "k%u", i);
        put_ok(cluster, leader, key, value);
    }
    cluster_start(cluster, away);
    cluster_check_same(cluster);
    get_is(cluster, away, "k399", value);
    cluster_free(cluster);
}

static void a_cut_off_leader_serves_no_stale_reads(void **state)
{
    struct cluster *cluster = new_cluster(3, 8);
    unsigned leader = cluster_leader(cluster);
    unsigned other = leader % 3 + 1;
    struct cluster_request *stale;

    (void)state;
    put_ok(cluster, leader, "a", "old");
    cluster_isolate(cluster, leader, true);
    stale = cluster_get(cluster, leader, "a");
    cluster_run_ms(cluster, 1500);
    put_ok(cluster, other, "a", "new");
    cluster_isolate(cluster, leader, false);
    if (cluster_await(cluster, stale, 10000) == KV__CODE__OK) {
        /* Answered after it was back: then it must know. */
        assert_memory_equal(stale->reply->get->kv->value.data, "new", 3);
    }
    cluster_request_free(stale);
    cluster_check_same(cluster);
    cluster_free(cluster);
}

/* Followers answer a new leader at different times, so their heartbeats are not in step: a write
 * must not wait for the next one. */
static void a_write_on_an_idle_cluster_waits_for_no_heartbeat(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct cluster *cluster = new_cluster(seed % 2 ? 3 : 5, seed);

        /* The first one comes before the followers have answered. */
        for (int i = 0; i < 10; i++) {
            struct cluster_request *put = cluster_put(cluster, cluster_leader(cluster), "a", "1");

            assert_int_equal(cluster_await(cluster, put, 5000), KV__CODE__OK);
            assert_true(put->done_ms - put->sent_ms < 10);
            cluster_request_free(put);
            cluster_run_ms(cluster, 470 + cluster_random(cluster, 60));
        }
        cluster_free(cluster);
    }
}

/* Random writes on random nodes while nodes crash and restart: what was acknowledged is there at
 * the end. */
static void storm(uint64_t seed, unsigned n_nodes)
{
    struct cluster *cluster = cluster_new(
        &(struct cluster_options){.seed = seed,
                                  .n_nodes = n_nodes,
                                  .delay_max_us = 3000,
                                  .sync_max_us = 5000,
                                  .drop_percent = (unsigned)(seed % 3),
                                  .wal_segment_bytes = seed % 2 ? 16 * KV_KIB : 256 * KV_KIB,
                                  .snapshot_log_bytes = seed % 2 ? 2048 : 0});
    enum { WRITES = 300 };
    struct cluster_request *requests[WRITES] = {0};
    bool acknowledged[WRITES] = {0};
    char key[16];

    for (unsigned i = 1; i <= n_nodes; i++) {
        cluster_start(cluster, i);
    }
    for (unsigned i = 0; i < WRITES; i++) {
        unsigned node = 1 + (unsigned)cluster_random(cluster, n_nodes);

        snprintf(key, sizeof key, "k%u", i);
        if (cluster_is_up(cluster, node)) {
            requests[i] = cluster_put(cluster, node, key, key);
        }
        cluster_run_ms(cluster, cluster_random(cluster, 30));
        node = 1 + (unsigned)cluster_random(cluster, n_nodes);
        if (cluster_random(cluster, 20) == 0) {
            if (cluster_is_up(cluster, node)) {
                cluster_crash(cluster, node);
            } else {
                cluster_start(cluster, node);
            }
        }
    }
    for (unsigned i = 1; i <= n_nodes; i++) {
        if (!cluster_is_up(cluster, i)) {
            cluster_start(cluster, i);
        }
    }
    cluster_run_ms(cluster, 8000);
    for (unsigned i = 0; i < WRITES; i++) {
        if (requests[i]) {
            acknowledged[i] = requests[i]->done && requests[i]->reply->code == KV__CODE__OK;
            assert_true(requests[i]->done || requests[i]->node == 0);
            cluster_request_free(requests[i]);
        }
    }
    for (unsigned i = 0; i < WRITES; i++) {
        if (acknowledged[i]) {
            snprintf(key, sizeof key, "k%u", i);
            get_is(cluster, 1 + i % n_nodes, key, key);
        }
    }
    cluster_check_same(cluster);
    cluster_free(cluster);
}

static void storms_lose_nothing(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(20);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        storm(seed, seed % 4 == 0 ? 5 : 3);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_node_writes_and_reads),
        cmocka_unit_test(every_node_takes_writes_and_reads),
        cmocka_unit_test(a_killed_leader_loses_nothing),
        cmocka_unit_test(all_killed_at_once_lose_nothing),
        cmocka_unit_test(a_stopped_leader_hands_over_first),
        cmocka_unit_test(without_a_majority_writes_wait_and_say_so),
        cmocka_unit_test(a_follower_that_was_away_catches_up_from_the_log),
        cmocka_unit_test(a_cut_off_leader_serves_no_stale_reads),
        cmocka_unit_test(snapshots_bound_the_log_and_survive_restarts),
        cmocka_unit_test(a_follower_that_was_away_too_long_gets_a_snapshot),
        cmocka_unit_test(who_has_installed_an_older_snapshot_goes_on_with_the_log),
        cmocka_unit_test(a_snapshot_is_taken_on_request),
        cmocka_unit_test(a_follower_that_differs_stops_serving),
        cmocka_unit_test(a_leader_that_differs_stops_serving),
        cmocka_unit_test(an_answer_for_an_earlier_process_is_nobodys),
        cmocka_unit_test(cluster_time_does_not_jump_at_a_failover),
        cmocka_unit_test(a_leader_whose_disk_stands_still_goes_on),
        cmocka_unit_test(a_write_on_an_idle_cluster_waits_for_no_heartbeat),
        cmocka_unit_test(storms_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
