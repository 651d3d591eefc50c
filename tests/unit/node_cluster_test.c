/* The core of the node, several of them in one thread with simulated clock, network, workers and
 * disks. */
#include "tests/support/cluster.h"
#include "tests/support/seeds.h"

#include "common/limits.h"

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

/* Random writes on random nodes while nodes crash and restart: what was acknowledged is there at
 * the end. */
static void storm(uint64_t seed, unsigned n_nodes)
{
    struct cluster *cluster =
        cluster_new(&(struct cluster_options){.seed = seed,
                                              .n_nodes = n_nodes,
                                              .delay_max_us = 3000,
                                              .sync_max_us = 5000,
                                              .drop_percent = (unsigned)(seed % 3),
                                              .wal_segment_bytes = 256 * KV_KIB});
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
        cmocka_unit_test(storms_lose_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
