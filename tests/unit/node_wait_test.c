/* Pops that wait in a cluster: told on the node that was asked, also after the leader went, in
 * time, and in nobody's way. */
#include "tests/support/cluster.h"

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

static struct cluster *new_cluster(uint64_t seed)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = seed, .n_nodes = 3, .delay_max_us = 300, .sync_max_us = 400});

    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    return cluster;
}

static uint64_t open_session(struct cluster *cluster)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    struct cluster_request *sent;
    uint64_t id;

    open.ttl_ms = 600000;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    sent = cluster_submit(cluster, cluster_leader(cluster), &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    id = sent->reply->session_open->session_id;
    cluster_request_free(sent);
    return id;
}

static struct cluster_request *
pop(struct cluster *cluster, unsigned node, uint64_t session, uint64_t sequence, uint64_t block_ms)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__ListPop command = KV__LIST_POP__INIT;

    stamp.session_id = session;
    stamp.sequence = sequence;
    command.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "q"};
    command.block_ms = block_ms;
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &command;
    return cluster_submit(cluster, node, &request);
}

static void push(struct cluster *cluster, unsigned node, const char *text)
{
    ProtobufCBinaryData element = {strlen(text), (uint8_t *)(uintptr_t)text};
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    struct cluster_request *sent;

    command.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "q"};
    command.n_elements = 1;
    command.elements = &element;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    sent = cluster_submit(cluster, node, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
}

static void expect_element(struct cluster *cluster, struct cluster_request *sent, const char *text)
{
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    assert_int_equal(sent->reply->list_pop->n_elements, 1);
    assert_int_equal(sent->reply->list_pop->elements[0].len, strlen(text));
    assert_memory_equal(sent->reply->list_pop->elements[0].data, text, strlen(text));
    cluster_request_free(sent);
}

static void every_node_tells_who_waits_there(void **state)
{
    struct cluster *cluster = new_cluster(1);
    uint64_t session = open_session(cluster);
    struct cluster_request *sent[3];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        /* Far beyond the deadline that requests have. */
        sent[i] = pop(cluster, i + 1, session, i + 1, 30000);
        cluster_run_ms(cluster, 50);
    }
    cluster_run_ms(cluster, 20000);
    for (unsigned i = 0; i < 3; i++) {
        char text[] = {(char)('a' + i), '\0'};

        assert_false(sent[i]->done);
        push(cluster, 3 - i, text);
        expect_element(cluster, sent[i], text);
    }
    cluster_free(cluster);
}

static void a_deadline_comes_without_other_entries(void **state)
{
    struct cluster *cluster = new_cluster(2);
    uint64_t session = open_session(cluster);
    struct cluster_request *sent = pop(cluster, 1, session, 1, 7000);

    (void)state;
    assert_int_equal(cluster_await(cluster, sent, 20000), KV__CODE__DEADLINE);
    assert_in_range(sent->done_ms - sent->sent_ms, 7000, 7200);
    cluster_run_ms(cluster, 100);
    for (unsigned i = 1; i <= 3; i++) {
        assert_int_equal(cluster_node(cluster, i)->machine->waiters.n, 0);
    }
    cluster_request_free(sent);
    cluster_free(cluster);
}

/* A leader that is cut off hears of no deadline; it knows the client's. */
static void a_node_that_is_cut_off_does_not_know(void **state)
{
    struct cluster *cluster = new_cluster(7);
    unsigned leader = cluster_leader(cluster);
    uint64_t session = open_session(cluster);
    struct cluster_request *sent = pop(cluster, leader, session, 1, 500);

    (void)state;
    cluster_run_ms(cluster, 200);
    cluster_isolate(cluster, leader, true);
    assert_int_equal(cluster_await(cluster, sent, 10000), KV__CODE__DEADLINE);
    assert_non_null(strstr(sent->reply->message, "it may yet be done"));
    cluster_request_free(sent);
    cluster_free(cluster);
}

static void a_new_leader_knows_who_waits(void **state)
{
    struct cluster *cluster = new_cluster(3);
    unsigned former = cluster_leader(cluster);
    uint64_t session = open_session(cluster);
    struct cluster_request *first = pop(cluster, former, session, 1, 60000);
    struct cluster_request *second = pop(cluster, former, session, 2, 60000);
    struct cluster_request *retry;

    (void)state;
    cluster_run_ms(cluster, 500);
    cluster_crash(cluster, former);
    assert_false(first->done || second->done);
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    /* Nobody hears of the first one's element, and its client asks only later. */
    push(cluster, cluster_leader(cluster), "a");
    retry = pop(cluster, cluster_leader(cluster), session, 2, 60000);
    cluster_run_ms(cluster, 500);
    assert_false(retry->done);
    push(cluster, cluster_leader(cluster), "b");
    expect_element(cluster, retry, "b");
    expect_element(cluster, pop(cluster, former % 3 + 1, session, 1, 60000), "a");
    cluster_request_free(first);
    cluster_request_free(second);
    cluster_free(cluster);
}

static void a_newer_try_takes_the_place_of_the_one_before(void **state)
{
    struct cluster *cluster = new_cluster(4);
    unsigned leader = cluster_leader(cluster);
    uint64_t session = open_session(cluster);
    struct cluster_request *first = pop(cluster, leader, session, 1, 60000);
    struct cluster_request *retry;

    (void)state;
    cluster_run_ms(cluster, 100);
    retry = pop(cluster, leader, session, 1, 60000);
    assert_int_equal(cluster_await(cluster, first, 1000), KV__CODE__OUTCOME_UNKNOWN);
    push(cluster, leader, "a");
    expect_element(cluster, retry, "a");
    cluster_request_free(first);
    cluster_free(cluster);
}

/* It is registered: to say that nothing was done would let its client ask anew, and lose an
 * element. */
static void a_node_that_stops_does_not_know(void **state)
{
    struct cluster *cluster = new_cluster(6);
    unsigned follower = cluster_leader(cluster) % 3 + 1;
    uint64_t session = open_session(cluster);
    struct cluster_request *sent = pop(cluster, follower, session, 1, 60000);
    struct cluster_request *own = pop(cluster, cluster_leader(cluster), session, 2, 60000);

    (void)state;
    cluster_run_ms(cluster, 500);
    cluster_stop(cluster, cluster_leader(cluster));
    assert_int_equal(cluster_await(cluster, own, 1000), KV__CODE__OUTCOME_UNKNOWN);
    assert_int_equal(cluster_await(cluster, sent, 1000), KV__CODE__OUTCOME_UNKNOWN);
    cluster_request_free(sent);
    cluster_request_free(own);
    cluster_free(cluster);
}

/* The table of forwarded commands goes round once and more. */
static void forwards_pass_what_waits(void **state)
{
    struct cluster *cluster = new_cluster(5);
    unsigned follower = cluster_leader(cluster) % 3 + 1;
    uint64_t session = open_session(cluster);
    struct cluster_request *sent = pop(cluster, follower, session, 1, 600000);
    struct cluster_request *puts[1000];

    (void)state;
    cluster_run_ms(cluster, 100);
    for (unsigned round = 0; round < 2 * KV_FORWARD_MAX / 1000; round++) {
        for (unsigned i = 0; i < 1000; i++) {
            puts[i] = cluster_put(cluster, follower, "k", "v");
        }
        for (unsigned i = 0; i < 1000; i++) {
            assert_int_equal(cluster_await(cluster, puts[i], 6000), KV__CODE__OK);
            cluster_request_free(puts[i]);
        }
    }
    assert_false(sent->done);
    push(cluster, follower, "a");
    expect_element(cluster, sent, "a");
    cluster_free(cluster);
}

/* More than one command serves: the leader goes on by itself. */
static void all_are_served_without_other_entries(void **state)
{
    enum { WAITING = 3 * KV_WAITERS_SERVED_MAX };
    static ProtobufCBinaryData elements[WAITING];
    static struct cluster_request *sent[WAITING];
    struct cluster *cluster = new_cluster(7);
    uint64_t session = open_session(cluster);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    struct cluster_request *pushed;

    (void)state;
    for (unsigned i = 0; i < WAITING; i++) {
        sent[i] = pop(cluster, i % 3 + 1, session, i + 1, 600000);
        elements[i] = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "x"};
    }
    cluster_run_ms(cluster, 1000);
    command.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "q"};
    command.n_elements = WAITING;
    command.elements = elements;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    pushed = cluster_submit(cluster, 1, &request);
    assert_int_equal(cluster_await(cluster, pushed, 6000), KV__CODE__OK);
    cluster_request_free(pushed);
    /* Sooner than the time is logged. */
    cluster_run_ms(cluster, KV_TIME_LOG_MS / 2);
    for (unsigned i = 0; i < WAITING; i++) {
        assert_true(sent[i]->done);
        expect_element(cluster, sent[i], "x");
    }
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_node_tells_who_waits_there),
        cmocka_unit_test(a_deadline_comes_without_other_entries),
        cmocka_unit_test(a_node_that_is_cut_off_does_not_know),
        cmocka_unit_test(a_new_leader_knows_who_waits),
        cmocka_unit_test(a_newer_try_takes_the_place_of_the_one_before),
        cmocka_unit_test(a_node_that_stops_does_not_know),
        cmocka_unit_test(forwards_pass_what_waits),
        cmocka_unit_test(all_are_served_without_other_entries),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
