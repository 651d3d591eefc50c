/* Watches in a cluster: each event once, in order, on any node, from any revision that is kept;
 * snapshots, leaders that go. */
#include "server/machine/machine_internal.h"
#include "server/node/node_internal.h"
#include "tests/support/watch_rig.h"

/* ---------------------------------------------------------------- beginning */

static void the_first_item_says_where_it_begins(void **state)
{
    struct cluster *cluster = new_cluster(3, 1);
    int64_t revision = put(cluster, 1, "a", "1");
    struct cluster_request *now = watch_all(cluster, 2, 0);
    struct cluster_request *past = watch_all(cluster, 3, revision);
    struct cluster_request *future = watch_all(cluster, 1, revision + 3);

    (void)state;
    await_told(cluster, now, revision);
    await_told(cluster, past, revision);
    await_told(cluster, future, revision + 2);
    assert_int_equal(now->items[0]->revision, revision);
    assert_int_equal(now->items[0]->watch->n_events, 0);
    assert_int_equal(past->items[0]->revision, revision - 1);
    assert_int_equal(past->items[0]->watch->n_events, 0);
    assert_int_equal(future->n_items, 1);
    (void)put_many(cluster, 1, 5);
    await_told(cluster, now, revision + 5);
    await_told(cluster, past, revision + 5);
    await_told(cluster, future, revision + 5);
    check_complete(now, revision + 1, revision + 5, 0);
    check_complete(past, revision, revision + 5, 0);
    check_complete(future, revision + 3, revision + 5, 0);
    cancel(cluster, now);
    cancel(cluster, past);
    cancel(cluster, future);
    cluster_free(cluster);
}

static uint64_t bytes_waiting(struct cluster *cluster, unsigned node)
{
    struct kv_node_status status;

    kv_node_status_get(cluster_node(cluster, node), &status);
    return status.request_bytes_waiting;
}

/* What it was asked with is given back at once, also while it waits for a read index. */
static void the_bytes_of_a_watch_are_counted_no_longer(void **state)
{
    struct cluster *cluster = new_cluster(3, 31);
    unsigned follower = a_follower(cluster);
    struct cluster_request *now = watch_all(cluster, follower, 0);
    struct cluster_request *ended = watch_all(cluster, follower, 0);

    (void)state;
    cancel(cluster, ended);
    await_told(cluster, now, 1);
    assert_int_equal(bytes_waiting(cluster, follower), 0);
    cancel(cluster, now);
    assert_int_equal(bytes_waiting(cluster, follower), 0);
    cluster_free(cluster);
}

/* It waits for the leader as long as it takes: that is no request with a deadline. */
static void a_watch_waits_for_a_leader(void **state)
{
    struct cluster *cluster = new_cluster(3, 2);
    unsigned follower = a_follower(cluster);
    struct cluster_request *waits, *demands;
    const Kv__StreamItem *end;

    (void)state;
    cluster_isolate(cluster, follower, true);
    cluster_run_ms(cluster, 3000);
    waits = watch_all(cluster, follower, 0);
    demands =
        watch(cluster,
              follower,
              &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .require_leader_ms = 9000});
    cluster_run_ms(cluster, 4000);
    assert_false(demands->done);
    end = await_end(cluster, demands);
    assert_int_equal(end->code, KV__CODE__NO_LEADER);
    assert_false(waits->done);
    assert_int_equal(waits->n_items, 0);
    cluster_isolate(cluster, follower, false);
    await_told(cluster, waits, 1);
    cancel(cluster, waits);
    cluster_request_free(demands);
    cluster_free(cluster);
}

static void a_live_one_is_told_of_the_leaders_loss(void **state)
{
    struct cluster *cluster = new_cluster(3, 3);
    unsigned follower = a_follower(cluster);
    struct cluster_request *request =
        watch(cluster,
              follower,
              &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .require_leader_ms = 1000});
    uint64_t cut_ms;

    (void)state;
    await_told(cluster, request, 1);
    cluster_run_ms(cluster, 5000);
    assert_false(request->done);
    cut_ms = cluster_now_ms(cluster);
    cluster_isolate(cluster, follower, true);
    assert_int_equal(await_end(cluster, request)->code, KV__CODE__NO_LEADER);
    assert_in_range(request->done_ms - cut_ms, 1000, 3000);
    cluster_request_free(request);
    /* Who asks again is told nothing first that would look like news. */
    request =
        watch(cluster,
              follower,
              &(struct want){
                  .special = KV__KEY_RANGE__SPECIAL__ALL, .from = 1, .require_leader_ms = 1000});
    assert_int_equal(await_end(cluster, request)->code, KV__CODE__NO_LEADER);
    assert_int_equal(request->n_items, 1);
    cluster_request_free(request);
    cluster_free(cluster);
}

static void a_deadline_ends_it_when_one_is_given(void **state)
{
    struct cluster *cluster = new_cluster(1, 4);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch body = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    struct cluster_request *sent;

    (void)state;
    range.special = KV__KEY_RANGE__SPECIAL__ALL;
    body.range = &range;
    body.credit = 1000;
    request.deadline_ms = 700;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &body;
    sent = cluster_submit(cluster, 1, &request);
    assert_int_equal(await_end(cluster, sent)->code, KV__CODE__DEADLINE);
    assert_in_range(sent->done_ms - sent->sent_ms, 700, 710);
    cluster_request_free(sent);
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- gaps and overlaps */

/* Watches begin at random moments while writes go on, on all nodes. */
static void joining_leaves_no_gap(void **state)
{
    enum { N = 24 };
    struct cluster *cluster = new_cluster(3, 5);
    struct cluster_request *writes[200];
    struct cluster_request *watches[N];
    int64_t begins[N], newest = 0;

    (void)state;
    for (unsigned i = 0; i < 200; i++) {
        char key[16];

        snprintf(key, sizeof key, "k%u", i % 5);
        writes[i] = cluster_put(cluster, i % 3 + 1, key, "v");
        if (i % 8 == 0) {
            unsigned n = i / 8;

            if (n < N) {
                begins[n] = n % 2 ? 2 + (int64_t)(n % 11) : 0;
                watches[n] = watch_all(cluster, n % 3 + 1, begins[n]);
            }
            cluster_run_ms(cluster, cluster_random(cluster, 3));
        }
    }
    for (unsigned i = 0; i < 200; i++) {
        assert_int_equal(cluster_await(cluster, writes[i], 6000), KV__CODE__OK);
        newest = writes[i]->reply->revision > newest ? writes[i]->reply->revision : newest;
        cluster_request_free(writes[i]);
    }
    for (unsigned n = 0; n < N; n++) {
        await_told(cluster, watches[n], newest);
        check_complete(
            watches[n], begins[n] ? begins[n] : watches[n]->items[0]->revision + 1, newest, 0);
        cancel(cluster, watches[n]);
    }
    cluster_free(cluster);
}

static void a_new_leader_goes_on_with_the_same_stream(void **state)
{
    struct cluster *cluster = new_cluster(3, 6);
    unsigned leader = cluster_await_leader(cluster, 5000);
    unsigned other = leader % 3 + 1;
    struct cluster_request *request = watch_all(cluster, other, 2);
    int64_t revision;

    (void)state;
    revision = put_many(cluster, leader, 10);
    await_told(cluster, request, revision);
    cluster_crash(cluster, leader);
    cluster_run_ms(cluster, 3000);
    revision = put_many(cluster, cluster_await_leader(cluster, 5000), 10);
    await_told(cluster, request, revision);
    check_complete(request, 2, revision, 0);
    cancel(cluster, request);
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- forms */

static void progress_comes_when_nothing_else_does(void **state)
{
    struct cluster *cluster = new_cluster(1, 12);
    struct cluster_request *request =
        watch(cluster, 1, &(struct want){.start = BYTES("quiet"), .progress_ms = 200});
    int64_t revision;

    (void)state;
    await_told(cluster, request, 1);
    cluster_run_ms(cluster, 1050);
    assert_int_equal(request->n_items, 6);
    revision = put(cluster, 1, "loud", "1");
    cluster_run_ms(cluster, 210);
    assert_int_equal(told(request), revision);
    assert_int_equal(count_events(request), 0);
    revision = put(cluster, 1, "quiet", "1");
    await_told(cluster, request, revision);
    assert_int_equal(count_events(request), 1);
    cancel(cluster, request);
    cluster_free(cluster);
}

static void each_gets_the_form_it_wants(void **state)
{
    struct cluster *cluster = new_cluster(1, 13);
    struct want wants[4] = {{.start = BYTES("key")},
                            {.start = BYTES("key"), .with_previous = true},
                            {.start = BYTES("key"), .keys_only = true},
                            {.start = BYTES("key"), .with_previous = true, .keys_only = true}};
    struct cluster_request *requests[4];
    int64_t revision;

    (void)state;
    (void)put(cluster, 1, "key", "old");
    for (unsigned i = 0; i < 4; i++) {
        requests[i] = watch(cluster, 1, &wants[i]);
        await_told(cluster, requests[i], 2);
    }
    revision = put(cluster, 1, "key", "new");
    for (unsigned i = 0; i < 4; i++) {
        const Kv__Event *event;

        await_told(cluster, requests[i], revision);
        assert_int_equal(count_events(requests[i]), 1);
        event = last_item(requests[i])->watch->events[0];
        assert_int_equal(event->kv->value.len, wants[i].keys_only ? 0 : 3);
        assert_int_equal(event->previous != NULL, wants[i].with_previous);
        if (event->previous) {
            assert_int_equal(event->previous->value.len, wants[i].keys_only ? 0 : 3);
            assert_int_equal(event->previous->mod_revision, revision - 1);
        }
        cancel(cluster, requests[i]);
    }
    cluster_free(cluster);
}

/* A revision that is too large for an item comes in fragments, all of one revision; live ones read
 * it from history. */
static void a_large_revision_comes_in_fragments(void **state)
{
    enum { KEYS = 3000 };
    struct cluster *cluster = new_cluster(1, 14);
    struct cluster_request *request = watch(
        cluster, 1, &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .with_previous = true});
    static Kv__Request operations[KEYS];
    static Kv__Put puts[KEYS];
    static char keys[KEYS][16];
    Kv__Request *pointers[KEYS];
    Kv__Request message = KV__REQUEST__INIT;
    Kv__Txn txn = KV__TXN__INIT;
    struct cluster_request *sent;
    size_t n_fragments = 0;

    (void)state;
    await_told(cluster, request, 1);
    for (unsigned i = 0; i < KEYS; i++) {
        kv__request__init(&operations[i]);
        kv__put__init(&puts[i]);
        snprintf(keys[i], sizeof keys[i], "key%u", i);
        puts[i].key = (ProtobufCBinaryData){strlen(keys[i]), (uint8_t *)keys[i]};
        puts[i].value = BYTES("a value of some bytes, so that they are more than one item holds");
        operations[i].command_case = KV__REQUEST__COMMAND_PUT;
        operations[i].put = &puts[i];
        pointers[i] = &operations[i];
    }
    txn.n_then = KEYS;
    txn.then = pointers;
    message.command_case = KV__REQUEST__COMMAND_TXN;
    message.txn = &txn;
    sent = cluster_submit(cluster, 1, &message);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
    await_told(cluster, request, 2);
    for (size_t i = 1; i < request->n_items; i++) {
        const Kv__StreamItem *item = request->items[i];

        n_fragments += item->more_fragments;
        assert_int_equal(item->more_fragments, i + 1 < request->n_items);
        assert_int_equal(item->revision, item->more_fragments ? 1 : 2);
    }
    assert_true(n_fragments >= 3);
    assert_int_equal(count_events(request), KEYS);
    /* It is live again. */
    (void)put(cluster, 1, "key0", "x");
    await_told(cluster, request, 3);
    assert_int_equal(count_events(request), KEYS + 1);
    cancel(cluster, request);
    cluster_free(cluster);
}

/* ---------------------------------------------------------------- snapshots, the end */

static void a_watch_goes_on_over_an_install(void **state)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){.seed = 15,
                                                                    .n_nodes = 3,
                                                                    .delay_max_us = 300,
                                                                    .sync_max_us = 400,
                                                                    .snapshot_log_bytes = 4096});
    struct cluster_request *keeps, *loses;
    unsigned leader, follower;
    struct kv_node_status status;
    int64_t revision, cut;

    (void)state;
    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
    }
    leader = cluster_await_leader(cluster, 5000);
    follower = leader % 3 + 1;
    cut = put_many(cluster, leader, 5);
    keeps = watch_all(cluster, follower, 2);
    loses = watch(cluster,
                  follower,
                  &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = 2, .credit = 20});
    await_told(cluster, keeps, cut);
    cluster_isolate(cluster, follower, true);
    revision = put_many(cluster, leader, 400);
    compact(cluster, leader, cut);
    cluster_isolate(cluster, follower, false);
    await_told(cluster, keeps, revision);
    kv_node_status_get(cluster_node(cluster, follower), &status);
    assert_int_equal(status.snapshots_installed, 1);
    check_complete(keeps, 2, revision, 0);
    assert_int_equal(await_end(cluster, loses)->code, KV__CODE__COMPACTED);
    revision = put_many(cluster, leader, 5);
    await_told(cluster, keeps, revision);
    check_complete(keeps, 2, revision, 0);
    cancel(cluster, keeps);
    cluster_request_free(loses);
    cluster_free(cluster);
}

static void stopping_ends_every_watch(void **state)
{
    struct cluster *cluster = new_cluster(3, 16);
    struct cluster_request *live = watch_all(cluster, 1, 0);
    struct cluster_request *future = watch_all(cluster, 1, 1000);
    struct cluster_request *blocked = watch(
        cluster, 1, &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = 2, .credit = 1});

    (void)state;
    await_told(cluster, live, 1);
    await_told(cluster, future, 999);
    await_told(cluster, blocked, 1);
    cluster_stop(cluster, 1);
    assert_int_equal(await_end(cluster, live)->code, KV__CODE__SHUTTING_DOWN);
    assert_int_equal(await_end(cluster, future)->code, KV__CODE__SHUTTING_DOWN);
    assert_int_equal(await_end(cluster, blocked)->code, KV__CODE__SHUTTING_DOWN);
    cluster_run_ms(cluster, 3000);
    assert_false(cluster_is_up(cluster, 1));
    cluster_request_free(live);
    cluster_request_free(future);
    cluster_request_free(blocked);
    cluster_free(cluster);
}

static void an_unfit_node_ends_every_watch(void **state)
{
    struct cluster *cluster = new_cluster(3, 17);
    unsigned follower = a_follower(cluster);
    struct cluster_request *live = watch_all(cluster, follower, 0);

    (void)state;
    await_told(cluster, live, 1);
    kv_node_become_unfit(cluster_node(cluster, follower), 5, 1);
    assert_int_equal(await_end(cluster, live)->code, KV__CODE__CORRUPT);
    cluster_request_free(live);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_item_says_where_it_begins),
        cmocka_unit_test(the_bytes_of_a_watch_are_counted_no_longer),
        cmocka_unit_test(a_watch_waits_for_a_leader),
        cmocka_unit_test(a_live_one_is_told_of_the_leaders_loss),
        cmocka_unit_test(a_deadline_ends_it_when_one_is_given),
        cmocka_unit_test(joining_leaves_no_gap),
        cmocka_unit_test(a_new_leader_goes_on_with_the_same_stream),
        cmocka_unit_test(progress_comes_when_nothing_else_does),
        cmocka_unit_test(each_gets_the_form_it_wants),
        cmocka_unit_test(a_large_revision_comes_in_fragments),
        cmocka_unit_test(a_watch_goes_on_over_an_install),
        cmocka_unit_test(stopping_ends_every_watch),
        cmocka_unit_test(an_unfit_node_ends_every_watch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
