/* Bounds of watches that only rare ways come to: a largest item, a second time without a leader. */
#include "tests/support/cluster.h"

#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct cluster_request *
watch_all(struct cluster *cluster, unsigned node, uint64_t require_leader_ms)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;

    range.special = KV__KEY_RANGE__SPECIAL__ALL;
    watch.range = &range;
    watch.credit = KV_STREAM_CREDIT_MAX;
    watch.with_previous = true;
    watch.require_leader_ms = require_leader_ms;
    request.id = 77;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &watch;
    return cluster_submit(cluster, node, &request);
}

static void cancel(struct cluster *cluster, struct cluster_request *request)
{
    kv_node_cancel(cluster_node(cluster, request->node), &request->op);
    assert_true(request->done);
    cluster_request_free(request);
}

/* What passed before without a leader, and without a watch to see it end, is nobody's wait. */
static void a_former_time_without_a_leader_does_not_count(void **state)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = 32, .n_nodes = 3, .delay_max_us = 300, .sync_max_us = 400});
    struct cluster_request *demands;
    unsigned follower;

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
    }
    follower = cluster_await_leader(cluster, 5000) % 3 + 1;
    cluster_isolate(cluster, follower, true);
    cluster_run_ms(cluster, 3000);
    demands = watch_all(cluster, follower, 4000);
    cluster_run_ms(cluster, 100);
    cancel(cluster, demands);
    cluster_isolate(cluster, follower, false);
    cluster_run_ms(cluster, 3000);
    /* It had a leader since: what was before does not count. */
    cluster_isolate(cluster, follower, true);
    cluster_run_ms(cluster, 1500);
    demands = watch_all(cluster, follower, 4000);
    cluster_run_ms(cluster, 1500);
    assert_false(demands->done);
    assert_int_equal(cluster_await(cluster, demands, 5000), KV__CODE__NO_LEADER);
    cluster_request_free(demands);
    cluster_free(cluster);
}

static void
put_in_one(struct cluster *cluster, Kv__Put *puts, size_t n, ProtobufCBinaryData *values)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Request *operations = calloc(n, sizeof *operations);
    Kv__Request **pointers = calloc(n, sizeof(Kv__Request *));
    Kv__Txn txn = KV__TXN__INIT;
    struct cluster_request *sent;

    for (size_t i = 0; i < n; i++) {
        puts[i].value = values[i];
        kv__request__init(&operations[i]);
        operations[i].command_case = KV__REQUEST__COMMAND_PUT;
        operations[i].put = &puts[i];
        pointers[i] = &operations[i];
    }
    txn.n_then = n;
    txn.then = pointers;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    sent = cluster_submit(cluster, 1, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
    free(operations);
    free(pointers);
}

static void set_value_limit(struct cluster *cluster, uint64_t bytes)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet command = KV__CONFIG_SET__INIT;
    struct cluster_request *sent;

    command.name = (char *)(uintptr_t) "value-limit";
    command.value = bytes;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &command;
    sent = cluster_submit(cluster, 1, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
}

/* A largest value, with the previous one as large, in one revision behind others that nearly fill
 * an item by themselves. */
static void an_item_never_outgrows_a_frame(void **state)
{
    static uint8_t bytes[KV_VALUE_BYTES_MAX], long_key[KV_KEY_BYTES_MAX];
    struct cluster *cluster =
        cluster_new(&(struct cluster_options){.seed = 33,
                                              .n_nodes = 1,
                                              .delay_max_us = 300,
                                              .sync_max_us = 400,
                                              .wal_segment_bytes = 64 * KV_MIB});
    Kv__Put puts[2] = {KV__PUT__INIT, KV__PUT__INIT};
    ProtobufCBinaryData values[2] = {{65000, bytes}, {sizeof bytes, bytes}};
    struct cluster_request *request;
    size_t n = 0;

    (void)state;
    cluster_start(cluster, 1);
    assert_int_equal(cluster_await_leader(cluster, 5000), 1);
    set_value_limit(cluster, KV_VALUE_BYTES_MAX);
    puts[0].key = (ProtobufCBinaryData){5, (uint8_t *)(uintptr_t) "small"};
    puts[1].key = (ProtobufCBinaryData){sizeof long_key, long_key};
    put_in_one(cluster, &puts[1], 1, &values[1]);
    request = watch_all(cluster, 1, 0);
    cluster_run_ms(cluster, 100);
    values[1].len -= 65 * KV_KIB;
    put_in_one(cluster, puts, 2, values);
    cluster_run_ms(cluster, 100);
    for (size_t i = 0; i < request->n_items; i++) {
        assert_true(kv__stream_item__get_packed_size(request->items[i]) <=
                    KV_REPLY_FRAME_BYTES_MAX);
        n += request->items[i]->watch->n_events;
    }
    assert_int_equal(n, 2);
    cancel(cluster, request);
    cluster_free(cluster);
}

/* A copy for each group would take more memory than there may be: those that are beyond read it. */
static void a_large_event_for_many_ranges_is_read(void **state)
{
    enum { N = 2 * KV_NODE_LIVE_BYTES_MAX / KV_MIB };
    static uint8_t key[KV_KEY_BYTES_MAX], value[KV_MIB - 5000];
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = 36, .n_nodes = 1, .delay_max_us = 300, .sync_max_us = 400});
    Kv__Put put = KV__PUT__INIT;
    ProtobufCBinaryData values[1] = {{sizeof value, value}};
    struct cluster_request *requests[N];
    struct kv_node_status status;

    (void)state;
    cluster_start(cluster, 1);
    assert_int_equal(cluster_await_leader(cluster, 5000), 1);
    for (unsigned i = 0; i < N; i++) {
        Kv__Request request = KV__REQUEST__INIT;
        Kv__Watch watch = KV__WATCH__INIT;
        Kv__KeyRange range = KV__KEY_RANGE__INIT;

        range.start = (ProtobufCBinaryData){i + 1, key};
        range.special = KV__KEY_RANGE__SPECIAL__PREFIX;
        watch.range = &range;
        watch.credit = KV_STREAM_CREDIT_MAX;
        request.command_case = KV__REQUEST__COMMAND_WATCH;
        request.watch = &watch;
        requests[i] = cluster_submit(cluster, 1, &request);
    }
    cluster_run_ms(cluster, 100);
    put.key = (ProtobufCBinaryData){sizeof key, key};
    put_in_one(cluster, &put, 1, values);
    cluster_run_ms(cluster, 100);
    kv_node_status_get(cluster_node(cluster, 1), &status);
    assert_in_range(status.subscriptions_crowded, N / 2, N / 2 + 2);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(requests[i]->n_items, 2);
        assert_int_equal(requests[i]->items[1]->watch->n_events, 1);
        assert_int_equal(requests[i]->items[1]->more_fragments, false);
        assert_int_equal(requests[i]->items[1]->watch->events[0]->kv->value.len, sizeof value);
        cancel(cluster, requests[i]);
    }
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- bytes of what they ask for */

static uint8_t long_bytes[KV_KEY_BYTES_MAX];

/* The number in eight hexadecimal digits, then zeros. */
static ProtobufCBinaryData long_name(unsigned number)
{
    char digits[9];

    snprintf(digits, sizeof digits, "%08x", number);
    memcpy(long_bytes, digits, 8);
    return (ProtobufCBinaryData){sizeof long_bytes, long_bytes};
}

/* A prefix: its start and its end are kept. */
static struct cluster_request *watch_long(struct cluster *cluster, unsigned number)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;

    range.start = long_name(number);
    range.special = KV__KEY_RANGE__SPECIAL__PREFIX;
    watch.range = &range;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &watch;
    return cluster_submit(cluster, 1, &request);
}

static struct cluster_request *subscribe_long(struct cluster *cluster, unsigned number)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Subscribe subscribe = KV__SUBSCRIBE__INIT;

    subscribe.topic = long_name(number);
    subscribe.credit = 1000;
    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = &subscribe;
    return cluster_submit(cluster, 1, &request);
}

static uint64_t subscription_bytes(struct cluster *cluster)
{
    struct kv_node_status status;

    kv_node_status_get(cluster_node(cluster, 1), &status);
    return status.subscription_bytes;
}

static void expect_refused(struct cluster_request *request)
{
    const Kv__StreamItem *end = request->items[0];

    assert_true(request->done);
    assert_int_equal(request->n_items, 1);
    assert_int_equal(end->code, KV__CODE__BUSY);
    assert_string_equal(end->hint->limit, "node-subscription-bytes");
    assert_int_equal(end->hint->limit_value, KV_NODE_SUBSCRIPTION_BYTES_MAX);
    assert_non_null(strstr(end->message, "ranges, topics and patterns of 67108864 bytes"));
    assert_non_null(strstr(end->message, "use another node, or shorter ones"));
    cluster_request_free(request);
}

/* Each range and topic once, while somebody asks for it, from before it begins to its end. */
static void the_bytes_that_are_asked_for_are_counted(void **state)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = 34, .n_nodes = 1, .delay_max_us = 300, .sync_max_us = 400});
    struct cluster_request *requests[6];

    (void)state;
    cluster_start(cluster, 1);
    /* There is no leader yet: these wait with what they ask for. */
    requests[0] = watch_long(cluster, 1);
    requests[1] = subscribe_long(cluster, 1);
    requests[2] = subscribe_long(cluster, 1);
    assert_int_equal(subscription_bytes(cluster), 4 * KV_KEY_BYTES_MAX);
    assert_int_equal(cluster_await_leader(cluster, 5000), 1);
    cluster_run_ms(cluster, 100);
    assert_int_equal(subscription_bytes(cluster), 3 * KV_KEY_BYTES_MAX);
    requests[3] = watch_long(cluster, 1);
    requests[4] = subscribe_long(cluster, 1);
    requests[5] = subscribe_long(cluster, 2);
    cluster_run_ms(cluster, 100);
    assert_int_equal(subscription_bytes(cluster), 4 * KV_KEY_BYTES_MAX);
    for (unsigned i = 0; i < 3; i++) {
        cancel(cluster, requests[i]);
    }
    assert_int_equal(subscription_bytes(cluster), 4 * KV_KEY_BYTES_MAX);
    for (unsigned i = 3; i < 6; i++) {
        cancel(cluster, requests[i]);
    }
    assert_int_equal(subscription_bytes(cluster), 0);
    cluster_free(cluster);
}

static void what_is_asked_for_has_a_budget(void **state)
{
    enum { N = KV_NODE_SUBSCRIPTION_BYTES_MAX / (2 * KV_KEY_BYTES_MAX) };
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = 35, .n_nodes = 1, .delay_max_us = 300, .sync_max_us = 400});
    static struct cluster_request *requests[N];
    struct cluster_request *same;

    (void)state;
    cluster_start(cluster, 1);
    assert_int_equal(cluster_await_leader(cluster, 5000), 1);
    for (unsigned i = 0; i < N; i++) {
        requests[i] = watch_long(cluster, i);
        assert_false(requests[i]->done);
    }
    assert_int_equal(subscription_bytes(cluster), KV_NODE_SUBSCRIPTION_BYTES_MAX);
    expect_refused(watch_long(cluster, N));
    expect_refused(subscribe_long(cluster, N));
    assert_int_equal(subscription_bytes(cluster), KV_NODE_SUBSCRIPTION_BYTES_MAX);
    /* What is there already costs no more. */
    same = watch_long(cluster, 5);
    assert_false(same->done);
    cancel(cluster, requests[0]);
    requests[0] = subscribe_long(cluster, N);
    assert_false(requests[0]->done);
    assert_int_equal(subscription_bytes(cluster),
                     KV_NODE_SUBSCRIPTION_BYTES_MAX - KV_KEY_BYTES_MAX);
    cancel(cluster, same);
    for (unsigned i = N; i > 0; i--) {
        cancel(cluster, requests[i - 1]);
    }
    assert_int_equal(subscription_bytes(cluster), 0);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_former_time_without_a_leader_does_not_count),
        cmocka_unit_test(an_item_never_outgrows_a_frame),
        cmocka_unit_test(a_large_event_for_many_ranges_is_read),
        cmocka_unit_test(the_bytes_that_are_asked_for_are_counted),
        cmocka_unit_test(what_is_asked_for_has_a_budget),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
