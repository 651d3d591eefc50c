/* Watches in a cluster: each event once, in order, on any node, from any revision that is kept;
 * slow readers, compaction, snapshots, leaders that go. */
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

#define BYTES(text) ((ProtobufCBinaryData){sizeof(text) - 1, (uint8_t *)(uintptr_t)(text)})

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

static unsigned a_follower(struct cluster *cluster)
{
    return cluster_await_leader(cluster, 5000) % 3 + 1;
}

/* ---------------------------------------------------------------- requests */

struct want {
    Kv__KeyRange__Special special;
    ProtobufCBinaryData start;
    int64_t from;
    uint64_t credit; /* 0: as much as there is */
    uint64_t progress_ms, require_leader_ms;
    bool with_previous, keys_only;
};

static struct cluster_request *
watch(struct cluster *cluster, unsigned node, const struct want *want)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;

    range.start = want->start;
    range.special = want->special;
    watch.range = &range;
    watch.start_revision = want->from;
    watch.credit = want->credit ? want->credit : KV_STREAM_CREDIT_MAX;
    watch.progress_ms = want->progress_ms;
    watch.require_leader_ms = want->require_leader_ms;
    watch.with_previous = want->with_previous;
    watch.keys_only = want->keys_only;
    request.id = 77;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &watch;
    return cluster_submit(cluster, node, &request);
}

static struct cluster_request *watch_all(struct cluster *cluster, unsigned node, int64_t from)
{
    return watch(
        cluster, node, &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = from});
}

static int64_t put(struct cluster *cluster, unsigned node, const char *key, const char *value)
{
    struct cluster_request *request = cluster_put(cluster, node, key, value);
    int64_t revision;

    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    revision = request->reply->revision;
    cluster_request_free(request);
    return revision;
}

/* Keys k0, k1, ... with the number as value; the last one's revision. */
static int64_t put_many(struct cluster *cluster, unsigned node, unsigned n)
{
    int64_t revision = 0;

    for (unsigned i = 0; i < n; i++) {
        char key[16], value[16];

        snprintf(key, sizeof key, "k%u", i % 7);
        snprintf(value, sizeof value, "%u", i);
        revision = put(cluster, node, key, value);
    }
    return revision;
}

static void compact(struct cluster *cluster, unsigned node, int64_t revision)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Compact compact = KV__COMPACT__INIT;
    struct cluster_request *sent;

    compact.revision = revision;
    request.command_case = KV__REQUEST__COMMAND_COMPACT;
    request.compact = &compact;
    sent = cluster_submit(cluster, node, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
}

static void cancel(struct cluster *cluster, struct cluster_request *request)
{
    if (!request->done && request->node != 0) {
        kv_node_cancel(cluster_node(cluster, request->node), &request->op);
        assert_true(request->done);
    }
    cluster_request_free(request);
}

/* ---------------------------------------------------------------- what was told */

static const Kv__StreamItem *last_item(const struct cluster_request *request)
{
    return request->n_items > 0 ? request->items[request->n_items - 1] : NULL;
}

/* Up to where all was told. */
static int64_t told(const struct cluster_request *request)
{
    return last_item(request) ? last_item(request)->revision : -1;
}

struct told_until {
    const struct cluster_request *request;
    int64_t revision;
};

static bool is_told(struct cluster *cluster, void *arg)
{
    const struct told_until *until = arg;

    (void)cluster;
    return until->request->done || told(until->request) >= until->revision;
}

static void
await_told(struct cluster *cluster, const struct cluster_request *request, int64_t revision)
{
    struct told_until until = {request, revision};

    assert_true(cluster_run_until(cluster, is_told, &until, 5000));
    assert_false(request->done);
}

static bool is_done(struct cluster *cluster, void *arg)
{
    (void)cluster;
    return ((struct cluster_request *)arg)->done;
}

static const Kv__StreamItem *await_end(struct cluster *cluster, struct cluster_request *request)
{
    assert_true(cluster_run_until(cluster, is_done, request, 10000));
    assert_true(last_item(request)->end);
    return last_item(request);
}

/* Items in order, every revision of the store from `from` to `to` once (each put makes one). */
static void
check_complete(const struct cluster_request *request, int64_t from, int64_t to, size_t first_item)
{
    int64_t next = from;
    int64_t before = first_item > 0 ? request->items[first_item - 1]->revision : from - 1;

    for (size_t i = first_item; i < request->n_items; i++) {
        const Kv__StreamItem *item = request->items[i];

        assert_int_equal(item->id, 77);
        assert_int_equal(item->item_case, KV__STREAM_ITEM__ITEM_WATCH);
        assert_int_equal(item->revision, item->watch->revision);
        assert_true(item->revision >= before);
        for (size_t k = 0; k < item->watch->n_events; k++) {
            const Kv__KeyValue *kv = item->watch->events[k]->kv;

            assert_int_equal(kv->mod_revision, next);
            assert_true(kv->mod_revision > before && kv->mod_revision <= item->revision);
            next++;
        }
        before = item->revision;
    }
    assert_int_equal(next, to + 1);
}

static size_t count_events(const struct cluster_request *request)
{
    size_t n = 0;

    for (size_t i = 0; i < request->n_items; i++) {
        n += request->items[i]->watch ? request->items[i]->watch->n_events : 0;
    }
    return n;
}

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

/* ---------------------------------------------------------------- slow readers */

static void without_credit_it_waits_and_misses_nothing(void **state)
{
    struct cluster *cluster = new_cluster(1, 7);
    struct cluster_request *slow =
        watch(cluster,
              1,
              &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = 2, .credit = 60});
    struct cluster_request *quick = watch_all(cluster, 1, 2);
    int64_t revision = put_many(cluster, 1, 50);
    size_t had;

    (void)state;
    await_told(cluster, quick, revision);
    check_complete(quick, 2, revision, 0);
    had = count_events(slow);
    assert_in_range(had, 1, 5);
    cluster_run_ms(cluster, 2000);
    assert_int_equal(count_events(slow), had);
    for (unsigned i = 0; told(slow) < revision; i++) {
        assert_true(i < 100);
        kv_node_credit(cluster_node(cluster, 1), &slow->op, 70);
        cluster_run_ms(cluster, 1);
    }
    check_complete(slow, 2, revision, 0);
    cancel(cluster, slow);
    cancel(cluster, quick);
    cluster_free(cluster);
}

static void a_full_connection_is_given_nothing(void **state)
{
    struct cluster *cluster = new_cluster(1, 8);
    struct cluster_request *slow = watch_all(cluster, 1, 2);
    struct cluster_request *quick = watch_all(cluster, 1, 2);
    int64_t revision;
    size_t had;

    (void)state;
    revision = put_many(cluster, 1, 5);
    await_told(cluster, slow, revision);
    slow->is_full = true;
    had = slow->n_items;
    revision = put_many(cluster, 1, 50);
    await_told(cluster, quick, revision);
    assert_int_equal(slow->n_items, had);
    slow->is_full = false;
    kv_node_stream_room(cluster_node(cluster, 1));
    await_told(cluster, slow, revision);
    check_complete(slow, 2, revision, 0);
    check_complete(quick, 2, revision, 0);
    cancel(cluster, slow);
    cancel(cluster, quick);
    cluster_free(cluster);
}

/* Those at one place share what is read of the past; those at another, in another form, or with
 * less credit, do not. Each of these comes behind one that shares. */
static void they_catch_up_together_each_from_its_place(void **state)
{
    enum { KEYS_ONLY = 1, POOR = 3, LATER = 5, ALL = 7 };
    struct cluster *cluster = new_cluster(1, 8);
    struct cluster_request *watches[ALL];
    int64_t revision = put_many(cluster, 1, 5);

    (void)state;
    for (unsigned i = 0; i < ALL; i++) {
        struct want want = {
            .special = KV__KEY_RANGE__SPECIAL__ALL,
            .from = i == LATER ? 30 : 2,
            .credit = i == POOR ? 1500 : 0,
            .keys_only = i == KEYS_ONLY,
        };

        watches[i] = watch(cluster, 1, &want);
        await_told(cluster, watches[i], i == LATER ? 29 : revision);
        watches[i]->is_full = true;
    }
    revision = put_many(cluster, 1, 700);
    for (unsigned i = 0; i < ALL; i++) {
        assert_true(count_events(watches[i]) <= 5);
        watches[i]->is_full = false;
    }
    kv_node_stream_room(cluster_node(cluster, 1));
    await_told(cluster, watches[0], revision);
    assert_in_range(count_events(watches[POOR]), 6, 100);
    kv_node_credit(cluster_node(cluster, 1), &watches[POOR]->op, KV_MIB);
    for (unsigned i = 0; i < ALL; i++) {
        await_told(cluster, watches[i], revision);
        check_complete(watches[i], i == LATER ? 30 : 2, revision, 0);
        assert_int_equal(last_item(watches[i])->watch->events[0]->kv->value.len > 0,
                         i != KEYS_ONLY);
    }
    for (unsigned i = 0; i < ALL; i++) {
        cancel(cluster, watches[i]);
    }
    cluster_free(cluster);
}

static void a_compacted_start_is_told_at_once(void **state)
{
    struct cluster *cluster = new_cluster(1, 9);
    int64_t revision = put_many(cluster, 1, 20);
    struct cluster_request *lost, *kept;
    const Kv__StreamItem *end;

    (void)state;
    compact(cluster, 1, revision - 5);
    lost = watch_all(cluster, 1, revision - 5);
    kept = watch_all(cluster, 1, revision - 4);
    end = await_end(cluster, lost);
    assert_int_equal(lost->n_items, 1);
    assert_int_equal(end->code, KV__CODE__COMPACTED);
    assert_int_equal(end->hint->oldest_revision, revision - 5);
    await_told(cluster, kept, revision);
    check_complete(kept, revision - 4, revision, 0);
    cluster_request_free(lost);
    cancel(cluster, kept);
    cluster_free(cluster);
}

static void a_slow_reader_is_told_what_it_lost(void **state)
{
    struct cluster *cluster = new_cluster(1, 10);
    struct cluster_request *slow =
        watch(cluster,
              1,
              &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = 2, .credit = 60});
    struct cluster_request *quick = watch_all(cluster, 1, 2);
    int64_t revision = put_many(cluster, 1, 50);
    struct kv_node_status status;

    (void)state;
    await_told(cluster, quick, revision);
    kv_node_status_get(cluster_node(cluster, 1), &status);
    assert_int_equal(status.watches, 2);
    assert_int_equal(status.subscriptions_behind, 1);
    compact(cluster, 1, revision);
    assert_int_equal(await_end(cluster, slow)->code, KV__CODE__COMPACTED);
    assert_int_equal(last_item(slow)->hint->oldest_revision, revision);
    /* Who had all of it goes on. */
    revision = put_many(cluster, 1, 5);
    await_told(cluster, quick, revision);
    check_complete(quick, 2, revision, 0);
    kv_node_status_get(cluster_node(cluster, 1), &status);
    assert_int_equal(status.subscriptions_lost, 1);
    assert_int_equal(status.watches, 1);
    cluster_request_free(slow);
    cancel(cluster, quick);
    cluster_free(cluster);
}

/* What a watch from now was not told the beginning of, it cannot miss. */
static void what_began_nowhere_loses_nothing(void **state)
{
    struct cluster *cluster = new_cluster(1, 12);
    struct cluster_request *slow = watch_all(cluster, 1, 0);
    int64_t first, revision;

    (void)state;
    slow->is_full = true;
    first = put_many(cluster, 1, 20);
    compact(cluster, 1, first);
    cluster_run_ms(cluster, 100);
    assert_false(slow->done);
    assert_int_equal(slow->n_items, 0);
    slow->is_full = false;
    kv_node_stream_room(cluster_node(cluster, 1));
    await_told(cluster, slow, first);
    revision = put_many(cluster, 1, 5);
    await_told(cluster, slow, revision);
    check_complete(slow, first + 1, revision, 0);
    cancel(cluster, slow);
    cluster_free(cluster);
}

/* The same entry writes, and compacts all that it wrote. */
static void what_is_compacted_at_once_is_told_to_the_live(void **state)
{
    struct cluster *cluster = new_cluster(1, 11);
    struct cluster_request *request = watch_all(cluster, 1, 0);
    struct cluster_request *writes[4];
    Kv__Request message = KV__REQUEST__INIT;
    Kv__Compact body = KV__COMPACT__INIT;

    (void)state;
    await_told(cluster, request, 1);
    for (unsigned i = 0; i < 3; i++) {
        writes[i] = cluster_put(cluster, 1, "k", "v");
    }
    body.revision = 4;
    message.command_case = KV__REQUEST__COMMAND_COMPACT;
    message.compact = &body;
    writes[3] = cluster_submit(cluster, 1, &message);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(cluster_await(cluster, writes[i], 6000), KV__CODE__OK);
        cluster_request_free(writes[i]);
    }
    assert_int_equal(kv_machine_oldest_revision(cluster_node(cluster, 1)->machine), 4);
    await_told(cluster, request, 4);
    check_complete(request, 2, 4, 0);
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
        cmocka_unit_test(without_credit_it_waits_and_misses_nothing),
        cmocka_unit_test(a_full_connection_is_given_nothing),
        cmocka_unit_test(they_catch_up_together_each_from_its_place),
        cmocka_unit_test(a_compacted_start_is_told_at_once),
        cmocka_unit_test(a_slow_reader_is_told_what_it_lost),
        cmocka_unit_test(what_began_nowhere_loses_nothing),
        cmocka_unit_test(what_is_compacted_at_once_is_told_to_the_live),
        cmocka_unit_test(progress_comes_when_nothing_else_does),
        cmocka_unit_test(each_gets_the_form_it_wants),
        cmocka_unit_test(a_large_revision_comes_in_fragments),
        cmocka_unit_test(a_watch_goes_on_over_an_install),
        cmocka_unit_test(stopping_ends_every_watch),
        cmocka_unit_test(an_unfit_node_ends_every_watch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
