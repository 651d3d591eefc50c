/* Bounds of a node, and bytes that only a faulty peer or log has: each is refused with a word, or
 * changes nothing, and everybody else goes on. */
#include "tests/support/cluster.h"

#include "common/limits.h"
#include "proto/entry.h"
#include "server/machine/machine_internal.h"
#include "server/node/node_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SOON_MS = 8000 };

static struct cluster *new_cluster(unsigned n_nodes)
{
    struct cluster *cluster =
        cluster_new(&(struct cluster_options){.seed = n_nodes,
                                              .n_nodes = n_nodes,
                                              .delay_max_us = 300,
                                              .sync_max_us = 400,
                                              .wal_segment_bytes = 18 * KV_MIB,
                                              .nodes_may_die = true});

    for (unsigned i = 1; i <= n_nodes; i++) {
        cluster_start(cluster, i);
    }
    return cluster;
}

static struct cluster *new_led_cluster(unsigned n_nodes)
{
    struct cluster *cluster = new_cluster(n_nodes);

    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    cluster_run_ms(cluster, 100);
    return cluster;
}

static void expect(struct cluster *cluster, struct cluster_request *sent, int code)
{
    assert_int_equal(cluster_await(cluster, sent, SOON_MS), code);
    cluster_request_free(sent);
}

static ProtobufCBinaryData text(const char *bytes)
{
    return (ProtobufCBinaryData){strlen(bytes), (uint8_t *)(uintptr_t)bytes};
}

static void get_is(struct cluster *cluster, unsigned node, const char *key, const char *value)
{
    struct cluster_request *sent = cluster_get(cluster, node, key);

    assert_int_equal(cluster_await(cluster, sent, SOON_MS), KV__CODE__OK);
    assert_int_equal(sent->reply->get->kv->value.len, strlen(value));
    assert_memory_equal(sent->reply->get->kv->value.data, value, strlen(value));
    cluster_request_free(sent);
}

/* ---------------------------------------------------------------- what waits */

/* As if so many bytes waited, or so many requests. */
static void one_request_more_is_refused(void **state)
{
    struct cluster *cluster = new_led_cluster(1);
    struct kv_node *node = cluster_node(cluster, 1);

    (void)state;
    node->ops_bytes += KV_NODE_REQUEST_BYTES_MAX + 1;
    expect(cluster, cluster_put(cluster, 1, "k", "v"), KV__CODE__BUSY);
    node->ops_bytes -= KV_NODE_REQUEST_BYTES_MAX + 1;
    node->n_ops += KV_NODE_REQUESTS_MAX + 1;
    expect(cluster, cluster_get(cluster, 1, "k"), KV__CODE__BUSY);
    node->n_ops -= KV_NODE_REQUESTS_MAX + 1;
    expect(cluster, cluster_put(cluster, 1, "k", "v"), KV__CODE__OK);
    get_is(cluster, 1, "k", "v");
    cluster_free(cluster);
}

/* What has waited for a leader goes in entries of a bounded size, and answers come in more than one
 * message. */
static void what_has_waited_goes_in_pieces(void **state)
{
    enum { SMALL = 2100, LARGE = 4 };
    static struct cluster_request *sent[SMALL + LARGE];
    static char value[600 * 1024 + 1];
    struct cluster *cluster = new_cluster(3);
    struct kv_node_status status;

    (void)state;
    memset(value, 'v', sizeof value - 1);
    for (unsigned i = 0; i < SMALL + LARGE; i++) {
        sent[i] = cluster_put(cluster, 1 + i % 2, "k", i < SMALL ? "v" : value);
        assert_false(sent[i]->done);
    }
    for (unsigned i = 0; i < SMALL + LARGE; i++) {
        expect(cluster, sent[i], KV__CODE__OK);
    }
    kv_node_status_get(cluster_node(cluster, cluster_leader(cluster)), &status);
    assert_int_equal(status.commands_proposed, SMALL + LARGE);
    assert_true(status.entries_proposed >= LARGE / 2 + SMALL / KV_BATCH_COMMANDS_MAX);
    cluster_check_same(cluster);
    cluster_free(cluster);
}

/* Renewals that have waited for a leader: not more of them than an entry takes. */
static void renewals_go_in_pieces(void **state)
{
    enum { MORE = KV_RENEWAL_BYTES_MAX / (30 * KV_KIB) };
    struct cluster *cluster = new_cluster(1);
    struct cluster_request *sent[MORE];
    static int64_t ids[4000];
    Kv__Request request = KV__REQUEST__INIT;
    Kv__LeaseKeepAlive command = KV__LEASE_KEEP_ALIVE__INIT;

    (void)state;
    for (unsigned i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        ids[i] = INT64_MAX - i;
    }
    command.n_lease_ids = sizeof ids / sizeof ids[0];
    command.lease_ids = ids;
    request.command_case = KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE;
    request.lease_keep_alive = &command;
    for (unsigned i = 0; i < MORE; i++) {
        sent[i] = cluster_submit(cluster, 1, &request);
    }
    for (unsigned i = 0; i < MORE; i++) {
        expect(cluster, sent[i], KV__CODE__OK);
    }
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- streams */

static struct cluster_request *range(struct cluster *cluster, uint64_t credit, uint32_t deadline_ms)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Range command = KV__RANGE__INIT;
    Kv__KeyRange all = KV__KEY_RANGE__INIT;

    all.special = KV__KEY_RANGE__SPECIAL__ALL;
    command.range = &all;
    command.stream = true;
    command.credit = credit;
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &command;
    request.serializable = true;
    request.deadline_ms = deadline_ms;
    return cluster_submit(cluster, 1, &request);
}

static int end_of(struct cluster *cluster, struct cluster_request *stream)
{
    int code;

    (void)cluster_await(cluster, stream, SOON_MS);
    assert_true(stream->done);
    code = (int)stream->items[stream->n_items - 1]->code;
    cluster_request_free(stream);
    return code;
}

static void one_stream_more_is_refused(void **state)
{
    static struct cluster_request *streams[KV_NODE_STREAMS_MAX];
    struct cluster *cluster = new_led_cluster(1);
    struct kv_node *node = cluster_node(cluster, 1);

    (void)state;
    expect(cluster, cluster_put(cluster, 1, "k", "v"), KV__CODE__OK);
    for (unsigned i = 0; i < KV_NODE_STREAMS_MAX; i++) {
        streams[i] = range(cluster, 0, 60000);
        assert_false(streams[i]->done);
    }
    assert_int_equal(end_of(cluster, range(cluster, 1000, 0)), KV__CODE__BUSY);
    kv_node_cancel(node, &streams[0]->op);
    assert_int_equal(end_of(cluster, range(cluster, 1000, 0)), KV__CODE__OK);
    for (unsigned i = 0; i < KV_NODE_STREAMS_MAX; i++) {
        kv_node_credit(node, &streams[i]->op, streams[i]->done ? 0 : 1000);
        assert_int_equal(end_of(cluster, streams[i]), KV__CODE__OK);
    }
    cluster_free(cluster);
}

static void a_stream_without_credit_has_its_deadline(void **state)
{
    struct cluster *cluster = new_led_cluster(1);

    (void)state;
    expect(cluster, cluster_put(cluster, 1, "k", "v"), KV__CODE__OK);
    assert_int_equal(end_of(cluster, range(cluster, 0, 100)), KV__CODE__DEADLINE);
    cluster_free(cluster);
}

static struct cluster_request *watch(struct cluster *cluster, const char *key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch command = KV__WATCH__INIT;
    Kv__KeyRange one = KV__KEY_RANGE__INIT;

    one.start = text(key);
    command.range = &one;
    command.credit = KV_MIB;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &command;
    return cluster_submit(cluster, 1, &request);
}

/* One entry for more groups of watches than the node keeps memory for between two turns. */
static void all_groups_of_an_entry_are_told(void **state)
{
    enum { GROUPS = 100, NAME_BYTES = 8 };
    static Kv__Request operations[GROUPS];
    static Kv__Put puts[GROUPS];
    static char keys[GROUPS][NAME_BYTES];
    struct cluster *cluster = new_led_cluster(1);
    struct cluster_request *watches[GROUPS];
    Kv__Request *pointers[GROUPS];
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Txn txn = KV__TXN__INIT;

    (void)state;
    for (unsigned i = 0; i < GROUPS; i++) {
        snprintf(keys[i], NAME_BYTES, "k%u", i);
        watches[i] = watch(cluster, keys[i]);
        kv__request__init(&operations[i]);
        kv__put__init(&puts[i]);
        puts[i].key = puts[i].value = text(keys[i]);
        operations[i].command_case = KV__REQUEST__COMMAND_PUT;
        operations[i].put = &puts[i];
        pointers[i] = &operations[i];
    }
    cluster_run_ms(cluster, 100);
    txn.n_then = GROUPS;
    txn.then = pointers;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    expect(cluster, cluster_submit(cluster, 1, &request), KV__CODE__OK);
    for (unsigned i = 0; i < GROUPS; i++) {
        const Kv__StreamItem *last = watches[i]->items[watches[i]->n_items - 1];

        assert_int_equal(last->watch->n_events, 1);
        assert_memory_equal(last->watch->events[0]->kv->key.data, keys[i], strlen(keys[i]));
        kv_node_cancel(cluster_node(cluster, 1), &watches[i]->op);
        cluster_request_free(watches[i]);
    }
    cluster_free(cluster);
}

static struct cluster_request *subscribe(struct cluster *cluster, const char *topic)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Subscribe command = KV__SUBSCRIBE__INIT;

    command.topic = text(topic);
    command.credit = KV_MIB;
    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = &command;
    return cluster_submit(cluster, 1, &request);
}

/* An entry with an event and a message, as if it was applied in the middle of a turn: of those who
 * are to be told at its end, these go before. */
static void apply_for_who_goes(struct kv_node *node, struct cluster_request **streams, unsigned n)
{
    Kv__Request requests[2] = {KV__REQUEST__INIT, KV__REQUEST__INIT};
    Kv__Put put = KV__PUT__INIT;
    Kv__Publish publish = KV__PUBLISH__INIT;
    uint8_t packed[64], entry[256];
    size_t size = kv_entry_write_head(entry, KV_MACHINE_VERSION, 1);

    put.key = put.value = text("k");
    publish.topic = publish.payload = text("t");
    requests[0].command_case = KV__REQUEST__COMMAND_PUT;
    requests[0].put = &put;
    requests[1].command_case = KV__REQUEST__COMMAND_PUBLISH;
    requests[1].publish = &publish;
    for (unsigned i = 0; i < 2; i++) {
        const size_t packed_size = kv__request__pack(&requests[i], packed);

        size += kv_entry_write_request(entry + size, kv_slice_of(packed, packed_size));
    }
    kv_node_apply(node,
                  kv_machine_applied_index(node->machine) + 100,
                  1,
                  KV_ENTRY_COMMAND,
                  kv_slice_of(entry, size));
    for (unsigned i = 0; i < n; i++) {
        kv_node_cancel(node, &streams[i]->op);
        cluster_request_free(streams[i]);
    }
}

static void who_goes_before_the_turn_ends_is_forgotten(void **state)
{
    (void)state;
    for (unsigned closes = 0; closes < 2; closes++) {
        struct cluster *cluster = new_led_cluster(1);
        struct kv_node *node = cluster_node(cluster, 1);
        struct cluster_request *streams[] = {
            watch(cluster, "k"), subscribe(cluster, "t"), subscribe(cluster, "u")};

        cluster_run_ms(cluster, 100);
        apply_for_who_goes(node, streams, 3);
        assert_int_equal(node->watches.n + node->topics.n, 0);
        assert_non_null(node->watches.touched);
        if (closes) {
            cluster_crash(cluster, 1);
        } else {
            kv_node_turn(node);
            assert_null(node->watches.touched);
            assert_null(node->watches.index.root);
            assert_int_equal(node->watches.index.n_keys, 0);
        }
        cluster_free(cluster);
    }
}

/* Several revisions of one entry that are together more than an item: live ones get them in
 * several.
 */
static void live_ones_are_told_in_pieces(void **state)
{
    enum { REVISIONS = 4, BYTES = 40000 };
    static char value[BYTES + 1];
    static uint8_t entry[REVISIONS * (BYTES + 100)], packed[BYTES + 100];
    struct cluster *cluster = new_led_cluster(1);
    struct kv_node *node = cluster_node(cluster, 1);
    struct cluster_request *stream = watch(cluster, "k");
    size_t size = kv_entry_write_head(entry, KV_MACHINE_VERSION, 1);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    size_t n = 0;

    (void)state;
    cluster_run_ms(cluster, 100);
    memset(value, 'v', BYTES);
    put.key = text("k");
    put.value = text(value);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    for (unsigned i = 0; i < REVISIONS; i++) {
        const size_t packed_size = kv__request__pack(&request, packed);

        size += kv_entry_write_request(entry + size, kv_slice_of(packed, packed_size));
    }
    kv_node_apply(node,
                  kv_machine_applied_index(node->machine) + 100,
                  1,
                  KV_ENTRY_COMMAND,
                  kv_slice_of(entry, size));
    kv_node_turn(node);
    assert_int_equal(stream->n_items, 1 + REVISIONS / 2);
    for (size_t i = 1; i < stream->n_items; i++) {
        n += stream->items[i]->watch->n_events;
    }
    assert_int_equal(n, REVISIONS);
    kv_node_cancel(node, &stream->op);
    cluster_request_free(stream);
    cluster_crash(cluster, 1);
    cluster_free(cluster);
}

/* As if there were so many. */
static void one_subscription_more_is_refused(void **state)
{
    struct cluster *cluster = new_led_cluster(1);
    struct kv_node *node = cluster_node(cluster, 1);

    (void)state;
    node->subscriptions.n = KV_NODE_SUBSCRIPTIONS_MAX;
    assert_int_equal(end_of(cluster, subscribe(cluster, "t")), KV__CODE__BUSY);
    node->subscriptions.n = 0;
    expect(cluster, cluster_put(cluster, 1, "k", "v"), KV__CODE__OK);
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- what only a faulty one sends */

/* Of a forwarded message the commands that can be read are done. */
static void what_cannot_be_read_is_refused_alone(void **state)
{
    struct cluster *cluster = new_led_cluster(3);
    unsigned leader = cluster_leader(cluster);
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__Forward forward = KV__FORWARD__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    uint32_t sizes[3] = {3}, deadlines_ms[3] = {1000, 1000, 1000};
    uint8_t bulk[64] = {0xff, 0xff, 0xff};

    (void)state;
    put.key = text("k");
    put.value = text("v");
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    sizes[1] = (uint32_t)kv__request__pack(&request, bulk + 3);
    sizes[2] = sizeof bulk; /* more than there is */
    forward.id = 1000;
    forward.n_sizes = forward.n_deadlines_ms = 3;
    forward.sizes = sizes;
    forward.deadlines_ms = deadlines_ms;
    message.body_case = KV__PEER_MESSAGE__BODY_FORWARD;
    message.forward = &forward;
    kv_node_receive(
        cluster_node(cluster, leader), leader % 3 + 1, &message, kv_slice_of(bulk, 3 + sizes[1]));
    cluster_run_ms(cluster, 200);
    get_is(cluster, leader, "k", "v");
    expect(cluster, cluster_put(cluster, leader % 3 + 1, "k", "w"), KV__CODE__OK);
    cluster_check_same(cluster);
    cluster_free(cluster);
}

/* Of entries that no leader makes: a malformed one and a malformed request change nothing, one of a
 * newer version ends the node before it is applied. */
static void what_cannot_be_applied_is_not(void **state)
{
    struct cluster *cluster = new_led_cluster(1);
    struct kv_node *node = cluster_node(cluster, 1);
    const uint64_t index = kv_machine_applied_index(node->machine) + 100;
    const uint64_t hash = kv_machine_state_hash(node->machine);
    const uint8_t garbage[] = {0xff, 0xff, 0xff};
    uint8_t entry[64];
    size_t size;

    (void)state;
    kv_node_apply(node, index, 1, KV_ENTRY_COMMAND, kv_slice_of(garbage, sizeof garbage));
    size = kv_entry_write_head(entry, KV_MACHINE_VERSION, 1);
    size += kv_entry_write_request(entry + size, kv_slice_of(garbage, sizeof garbage));
    kv_node_apply(node, index + 1, 1, KV_ENTRY_COMMAND, kv_slice_of(entry, size));
    assert_false(cluster_has_died(cluster, 1));
    size = kv_entry_write_head(entry, KV_MACHINE_VERSION + 1, 1);
    kv_node_apply(node, index + 2, 1, KV_ENTRY_COMMAND, kv_slice_of(entry, size));
    assert_true(cluster_has_died(cluster, 1));
    kv_node_apply(node, index + 3, 1, KV_ENTRY_COMMAND, kv_slice_of(entry, size));
    assert_true(kv_machine_state_hash(node->machine) == hash);
    assert_int_equal(kv_machine_applied_index(node->machine), index + 1);
    cluster_crash(cluster, 1);
    cluster_free(cluster);
}

/* What was said of an index that is not remembered any more, or of none, is nobody's fault. */
static void old_hashes_are_forgotten(void **state)
{
    struct cluster *cluster = new_led_cluster(3);
    unsigned leader = cluster_leader(cluster);
    struct kv_node *node = cluster_node(cluster, leader);
    Kv__StateHash hash = KV__STATE_HASH__INIT;
    Kv__StateVerdict verdict = KV__STATE_VERDICT__INIT;

    (void)state;
    hash.hash = 12345;
    kv_node_receive_hash(node, leader % 3 + 1, &hash);
    for (unsigned i = 0; i < KV_STATE_HASH_NOTES; i++) {
        hash.index = 1000 + i;
        kv_node_receive_hash(node, leader % 3 + 1, &hash);
        kv_node_receive_hash(node, leader % 3 + 1, &hash);
    }
    hash.index = verdict.index = 999;
    verdict.hash = 1;
    kv_node_receive_hash(node, leader % 3 + 1, &hash);
    kv_node_note_hash(node, 999, true);
    kv_node_receive_verdict(node, &verdict);
    assert_int_equal(node->unfit_index, 0);
    for (unsigned i = 1; i <= 3; i++) {
        expect(cluster, cluster_put(cluster, i, "k", "v"), KV__CODE__OK);
    }
    cluster_free(cluster);
}

/* Three states: nobody knows which is right, so who leads stops, and says so once. */
static void without_a_majority_the_leader_stops(void **state)
{
    struct cluster *cluster = new_led_cluster(3);
    unsigned leader = cluster_leader(cluster);
    struct kv_node *node = cluster_node(cluster, leader);
    Kv__StateHash hash = KV__STATE_HASH__INIT;
    Kv__StateVerdict verdict = KV__STATE_VERDICT__INIT;
    uint64_t index;

    (void)state;
    expect(cluster, cluster_put(cluster, leader, "k", "v"), KV__CODE__OK);
    index = kv_machine_applied_index(node->machine);
    kv_node_note_hash(node, index, true);
    hash.index = verdict.index = index;
    for (unsigned i = 1; i < 3; i++) {
        assert_int_equal(node->unfit_index, 0);
        hash.hash = i;
        kv_node_receive_hash(node, (leader + i - 1) % 3 + 1, &hash);
    }
    assert_int_equal(node->unfit_index, index);
    verdict.hash = 1;
    kv_node_receive_verdict(node, &verdict);
    assert_int_equal(node->unfit_index, index);
    expect(cluster, cluster_get(cluster, leader, "k"), KV__CODE__CORRUPT);
    /* It hands over to another. */
    cluster_run_ms(cluster, 2000);
    expect(cluster, cluster_put(cluster, leader % 3 + 1, "k", "v"), KV__CODE__OK);
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- memory that a snapshot holds */

/* As if so much had been replaced while it is written. */
static void a_snapshot_that_holds_too_much_is_given_up(void **state)
{
    struct cluster *cluster = new_led_cluster(1);
    struct kv_node *node = cluster_node(cluster, 1);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SnapshotNow command = KV__SNAPSHOT_NOW__INIT;
    struct cluster_request *sent;

    (void)state;
    expect(cluster, cluster_put(cluster, 1, "k", "v"), KV__CODE__OK);
    request.command_case = KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    request.snapshot_now = &command;
    cluster_stall(cluster, 1, CLUSTER_SNAPSHOT, 500);
    sent = cluster_submit(cluster, 1, &request);
    cluster_run_ms(cluster, 100);
    assert_false(sent->done);
    node->machine->tree.retired_bytes += KV_PIN_BYTES_MAX + 1;
    expect(cluster, cluster_put(cluster, 1, "k", "w"), KV__CODE__OK);
    node->machine->tree.retired_bytes -= KV_PIN_BYTES_MAX + 1;
    assert_false(sent->done);
    expect(cluster, sent, KV__CODE__BUSY); /* not what such a job ends with inside */
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_request_more_is_refused),
        cmocka_unit_test(what_has_waited_goes_in_pieces),
        cmocka_unit_test(renewals_go_in_pieces),
        cmocka_unit_test(one_stream_more_is_refused),
        cmocka_unit_test(a_stream_without_credit_has_its_deadline),
        cmocka_unit_test(all_groups_of_an_entry_are_told),
        cmocka_unit_test(who_goes_before_the_turn_ends_is_forgotten),
        cmocka_unit_test(live_ones_are_told_in_pieces),
        cmocka_unit_test(one_subscription_more_is_refused),
        cmocka_unit_test(what_cannot_be_read_is_refused_alone),
        cmocka_unit_test(what_cannot_be_applied_is_not),
        cmocka_unit_test(old_hashes_are_forgotten),
        cmocka_unit_test(without_a_majority_the_leader_stops),
        cmocka_unit_test(a_snapshot_that_holds_too_much_is_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
