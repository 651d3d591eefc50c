/* Bounds of watches that only rare ways come to: a largest item, a second time without a leader. */
#include "tests/support/cluster.h"

#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

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
static void no_leader_is_counted_from_the_watch_on(void **state)
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
    cluster_isolate(cluster, follower, true);
    cluster_run_ms(cluster, 3000);
    demands = watch_all(cluster, follower, 4000);
    cluster_run_ms(cluster, 3000);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_leader_is_counted_from_the_watch_on),
        cmocka_unit_test(an_item_never_outgrows_a_frame),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
