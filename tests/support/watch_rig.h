/* Watches in a cluster, as its clients see them: requests, and what was told. */
#ifndef KV_TESTS_SUPPORT_WATCH_RIG_H
#define KV_TESTS_SUPPORT_WATCH_RIG_H

#include "tests/support/cluster.h"

#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define BYTES(text) ((ProtobufCBinaryData){sizeof(text) - 1, (uint8_t *)(uintptr_t)(text)})

static inline struct cluster *new_cluster(unsigned n_nodes, uint64_t seed)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){
        .seed = seed, .n_nodes = n_nodes, .delay_max_us = 300, .sync_max_us = 400});

    for (unsigned i = 1; i <= n_nodes; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    return cluster;
}

static inline unsigned a_follower(struct cluster *cluster)
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

static inline struct cluster_request *
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

static inline struct cluster_request *
watch_all(struct cluster *cluster, unsigned node, int64_t from)
{
    return watch(
        cluster, node, &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = from});
}

static inline int64_t
put(struct cluster *cluster, unsigned node, const char *key, const char *value)
{
    struct cluster_request *request = cluster_put(cluster, node, key, value);
    int64_t revision;

    assert_int_equal(cluster_await(cluster, request, 6000), KV__CODE__OK);
    revision = request->reply->revision;
    cluster_request_free(request);
    return revision;
}

/* Keys k0, k1, ... with the number as value; the last one's revision. */
static inline int64_t put_many(struct cluster *cluster, unsigned node, unsigned n)
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

static inline void compact(struct cluster *cluster, unsigned node, int64_t revision)
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

static inline void cancel(struct cluster *cluster, struct cluster_request *request)
{
    if (!request->done && request->node != 0) {
        kv_node_cancel(cluster_node(cluster, request->node), &request->op);
        assert_true(request->done);
    }
    cluster_request_free(request);
}

/* ---------------------------------------------------------------- what was told */

static inline const Kv__StreamItem *last_item(const struct cluster_request *request)
{
    return request->n_items > 0 ? request->items[request->n_items - 1] : NULL;
}

/* Up to where all was told. */
static inline int64_t told(const struct cluster_request *request)
{
    return last_item(request) ? last_item(request)->revision : -1;
}

struct told_until {
    const struct cluster_request *request;
    int64_t revision;
};

static inline bool is_told(struct cluster *cluster, void *arg)
{
    const struct told_until *until = arg;

    (void)cluster;
    return until->request->done || told(until->request) >= until->revision;
}

static inline void
await_told(struct cluster *cluster, const struct cluster_request *request, int64_t revision)
{
    struct told_until until = {request, revision};

    assert_true(cluster_run_until(cluster, is_told, &until, 5000));
    assert_false(request->done);
}

static inline bool is_done(struct cluster *cluster, void *arg)
{
    (void)cluster;
    return ((struct cluster_request *)arg)->done;
}

static inline const Kv__StreamItem *await_end(struct cluster *cluster,
                                              struct cluster_request *request)
{
    assert_true(cluster_run_until(cluster, is_done, request, 10000));
    assert_true(last_item(request)->end);
    return last_item(request);
}

/* Items in order, every revision of the store from `from` to `to` once (each put makes one). */
static inline void
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

static inline size_t count_events(const struct cluster_request *request)
{
    size_t n = 0;

    for (size_t i = 0; i < request->n_items; i++) {
        n += request->items[i]->watch ? request->items[i]->watch->n_events : 0;
    }
    return n;
}

#endif
