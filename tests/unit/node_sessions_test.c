/* Sessions in a cluster: time is logged while there are deadlines and only then, silent sessions
 * end by it, and a write that is sent again anywhere is done once. */
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

static uint64_t open_session(struct cluster *cluster, unsigned node, uint64_t ttl_ms)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    struct cluster_request *sent;
    uint64_t id;

    open.ttl_ms = ttl_ms;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    for (unsigned try = 0; try < 20; try++) {
        sent = cluster_submit(cluster, node, &request);
        if (cluster_await(cluster, sent, 6000) == KV__CODE__OK || try == 19) {
            break;
        }
        /* A connection was lost: a session that was opened nevertheless ends by itself. */
        cluster_request_free(sent);
    }
    assert_int_equal(sent->reply->code, KV__CODE__OK);
    id = sent->reply->session_open->session_id;
    assert_int_equal(sent->reply->session_open->ttl_ms, ttl_ms);
    cluster_request_free(sent);
    return id;
}

/* NULL when the node is down. */
static struct cluster_request *
append(struct cluster *cluster, unsigned node, uint64_t session, uint64_t sequence)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__Append append_ = KV__APPEND__INIT;

    stamp.session_id = session;
    stamp.sequence = sequence;
    stamp.acknowledged_through = sequence - 1;
    append_.key = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "key"};
    append_.value = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "x"};
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_APPEND;
    request.append = &append_;
    return cluster_submit(cluster, node, &request);
}

static size_t sessions_on(struct cluster *cluster, unsigned node)
{
    return cluster_node(cluster, node)->machine->sessions.n;
}

static uint64_t last_index(struct cluster *cluster, unsigned node)
{
    struct kv_node_status status;

    kv_node_status_get(cluster_node(cluster, node), &status);
    return status.last_index;
}

static void without_deadlines_nothing_is_logged(void **state)
{
    struct cluster *cluster = new_cluster(3, 1);
    unsigned leader = cluster_leader(cluster);
    uint64_t before;

    (void)state;
    cluster_run_ms(cluster, 2000);
    before = last_index(cluster, leader);
    cluster_run_ms(cluster, 20000);
    assert_int_equal(last_index(cluster, leader), before);
    cluster_free(cluster);
}

static bool is_gone(struct cluster *cluster, void *arg)
{
    (void)arg;
    return sessions_on(cluster, 1) + sessions_on(cluster, 2) + sessions_on(cluster, 3) == 0;
}

static void a_silent_session_ends_in_time(void **state)
{
    struct cluster *cluster = new_cluster(3, 2);
    unsigned leader = cluster_leader(cluster);
    uint64_t opened_ms, before, entries;

    (void)state;
    (void)open_session(cluster, leader, 5300);
    opened_ms = cluster_now_ms(cluster);
    before = last_index(cluster, leader);
    assert_true(cluster_run_until(cluster, is_gone, NULL, 10000));
    assert_in_range(cluster_now_ms(cluster) - opened_ms, 5290, 5400);
    /* Once a second, and at the deadline. */
    entries = last_index(cluster, leader) - before;
    assert_int_equal(entries, 6);
    cluster_run_ms(cluster, 20000);
    assert_int_equal(last_index(cluster, leader), before + entries);
    cluster_free(cluster);
}

static void many_that_end_at_once_all_go(void **state)
{
    struct cluster *cluster = new_cluster(3, 3);
    struct cluster_request *requests[2000];
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;

    (void)state;
    open.ttl_ms = 1000;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    for (unsigned round = 0; round < 6; round++) {
        for (unsigned i = 0; i < 2000; i++) {
            requests[i] = cluster_submit(cluster, 1 + i % 3, &request);
        }
        for (unsigned i = 0; i < 2000; i++) {
            assert_int_equal(cluster_await(cluster, requests[i], 6000), KV__CODE__OK);
            cluster_request_free(requests[i]);
        }
    }
    assert_true(cluster_run_until(cluster, is_gone, NULL, 5000));
    cluster_free(cluster);
}

/* Time without a leader does not count, and a failover costs a second of it at most. */
static void time_without_a_leader_does_not_count(void **state)
{
    struct cluster *cluster = new_cluster(3, 4);
    uint64_t session = open_session(cluster, 1, 4000);
    struct cluster_request *request;

    (void)state;
    cluster_run_ms(cluster, 1500);
    for (unsigned i = 1; i <= 3; i++) {
        cluster_crash(cluster, i);
    }
    cluster_run_ms(cluster, 60000);
    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    request = append(cluster, 2, session, 1);
    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    cluster_request_free(request);
    cluster_run_ms(cluster, 6000);
    assert_true(is_gone(cluster, NULL));
    request = append(cluster, 2, session, 1);
    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__SESSION_EXPIRED);
    cluster_request_free(request);
    cluster_free(cluster);
}

/* Tries that wait for their answers. */
static struct cluster_request *tries[60 * 200];
static size_t n_tries;

/* Sends it anywhere until it is answered, again and again while nodes crash. */
static uint64_t
append_until_answered(struct cluster *cluster, uint64_t session, uint64_t sequence, unsigned n)
{
    for (unsigned try = 0; try < 200; try++) {
        unsigned node = 1 + (unsigned)cluster_random(cluster, n);
        struct cluster_request *request =
            cluster_is_up(cluster, node) ? append(cluster, node, session, sequence) : NULL;
        uint64_t length = 0;

        if (cluster_random(cluster, 6) == 0) {
            node = 1 + (unsigned)cluster_random(cluster, n);
            cluster_run_ms(cluster, cluster_random(cluster, 3));
            if (cluster_is_up(cluster, node)) {
                cluster_crash(cluster, node);
            }
        }
        cluster_run_ms(cluster, 1 + cluster_random(cluster, 40));
        for (unsigned i = 1; i <= n; i++) {
            if (!cluster_is_up(cluster, i) && cluster_random(cluster, 4) == 0) {
                cluster_start(cluster, i);
            }
        }
        if (request && request->done && request->reply->code == KV__CODE__OK) {
            length = request->reply->append->length;
        }
        if (request) {
            tries[n_tries++] = request;
        }
        if (length > 0) {
            return length;
        }
        cluster_run_ms(cluster, cluster_random(cluster, 200));
    }
    fail_msg("sequence %llu has no answer", (unsigned long long)sequence);
    return 0;
}

static void retries_are_done_once(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(10);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        struct cluster *cluster =
            cluster_new(&(struct cluster_options){.seed = seed,
                                                  .n_nodes = 3,
                                                  .delay_max_us = 3000,
                                                  .sync_max_us = 5000,
                                                  .drop_percent = (unsigned)(seed % 3),
                                                  .snapshot_log_bytes = seed % 2 ? 2048 : 0});
        uint64_t session;

        print_message("seed %llu\n", (unsigned long long)seed);
        for (unsigned i = 1; i <= 3; i++) {
            cluster_start(cluster, i);
        }
        assert_int_not_equal(cluster_await_leader(cluster, 20000), 0);
        session = open_session(cluster, 1, 600000);
        for (uint64_t sequence = 1; sequence <= 60; sequence++) {
            assert_int_equal(append_until_answered(cluster, session, sequence, 3), sequence);
        }
        cluster_run_ms(cluster, 8000);
        while (n_tries > 0) {
            cluster_request_free(tries[--n_tries]);
        }
        cluster_free(cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_deadlines_nothing_is_logged),
        cmocka_unit_test(a_silent_session_ends_in_time),
        cmocka_unit_test(many_that_end_at_once_all_go),
        cmocka_unit_test(time_without_a_leader_does_not_count),
        cmocka_unit_test(retries_are_done_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
