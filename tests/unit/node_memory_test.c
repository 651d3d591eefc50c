/* A node without memory: each thing that server/node asks memory for is refused once, in turn. The
 * node is compiled anew for this (tests/CMakeLists.txt), with these functions in the place of those
 * that give memory. Whoever is refused says so, or the node ends; nothing is lost without a word,
 * nobody crashes. */
#include "tests/support/cluster.h"

#include "common/arena.h"
#include "common/shared.h"
#include "server/machine/machine.h"
#include "server/machine/snapshot.h"

#include <raft.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- what refuses */

static struct {
    bool armed;
    unsigned at; /* the call that is refused */
    unsigned calls;
} refusal;

static bool is_refused(void)
{
    return refusal.armed && ++refusal.calls == refusal.at;
}

void *scarce_malloc(size_t size);
void *scarce_calloc(size_t n, size_t size);
void *scarce_realloc(void *memory, size_t size);
void *scarce_raft_malloc(size_t size);
void *scarce_arena_alloc(struct kv_arena *arena, size_t size);
uint8_t *scarce_buf_reserve(struct kv_buf *buf, size_t more);
struct kv_shared *scarce_shared_new(size_t size);
int scarce_machine_open(struct kv_machine **ret_machine);
int scarce_view_open(struct kv_machine *machine, struct kv_machine_view **ret_view);
int scarce_loader_open(struct kv_machine_loader **ret_loader);

void *scarce_malloc(size_t size)
{
    return is_refused() ? NULL : malloc(size);
}

void *scarce_calloc(size_t n, size_t size)
{
    return is_refused() ? NULL : calloc(n, size);
}

void *scarce_realloc(void *memory, size_t size)
{
    return is_refused() ? NULL : realloc(memory, size);
}

void *scarce_raft_malloc(size_t size)
{
    return is_refused() ? NULL : raft_malloc(size);
}

void *scarce_arena_alloc(struct kv_arena *arena, size_t size)
{
    return is_refused() ? NULL : kv_arena_alloc(arena, size);
}

uint8_t *scarce_buf_reserve(struct kv_buf *buf, size_t more)
{
    return is_refused() ? NULL : kv_buf_reserve(buf, more);
}

struct kv_shared *scarce_shared_new(size_t size)
{
    return is_refused() ? NULL : kv_shared_new(size);
}

int scarce_machine_open(struct kv_machine **ret_machine)
{
    return is_refused() ? KV_NO_MEMORY : kv_machine_open(ret_machine);
}

int scarce_view_open(struct kv_machine *machine, struct kv_machine_view **ret_view)
{
    return is_refused() ? KV_NO_MEMORY : kv_machine_view_open(machine, ret_view);
}

int scarce_loader_open(struct kv_machine_loader **ret_loader)
{
    return is_refused() ? KV_NO_MEMORY : kv_machine_loader_open(ret_loader);
}

/* ---------------------------------------------------------------- a cluster */

enum { NODES = 3, REFUSALS_LEAST = 40, SOON_MS = 8000 };

static struct cluster *new_cluster(void)
{
    struct cluster *cluster = cluster_new(&(struct cluster_options){.seed = 1,
                                                                    .n_nodes = NODES,
                                                                    .delay_max_us = 300,
                                                                    .sync_max_us = 400,
                                                                    .wal_segment_bytes = 64 * 1024,
                                                                    .snapshot_log_bytes = 16 * 1024,
                                                                    .nodes_may_die = true});

    for (unsigned i = 1; i <= NODES; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    return cluster;
}

static void arm(unsigned at)
{
    refusal.armed = true;
    refusal.at = at;
    refusal.calls = 0;
}

static void put_ok(struct cluster *cluster, unsigned node, const char *key, const char *value)
{
    struct cluster_request *sent = cluster_put(cluster, node, key, value);

    assert_int_equal(cluster_await(cluster, sent, SOON_MS), KV__CODE__OK);
    cluster_request_free(sent);
}

/* Who has died starts again; then all hold the same, and every node serves. */
static void check_whole(struct cluster *cluster)
{
    refusal.armed = false;
    for (unsigned i = 1; i <= NODES; i++) {
        if (cluster_has_died(cluster, i)) {
            cluster_crash(cluster, i);
            cluster_start(cluster, i);
        }
    }
    for (unsigned i = 1; i <= NODES; i++) {
        put_ok(cluster, i, "whole", "yes");
    }
    cluster_check_same(cluster);
}

/* ---------------------------------------------------------------- requests */

static ProtobufCBinaryData text(const char *bytes)
{
    return (ProtobufCBinaryData){strlen(bytes), (uint8_t *)(uintptr_t)bytes};
}

static struct cluster_request *watch(struct cluster *cluster, unsigned node, const char *key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch command = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;

    range.start = text(key);
    command.range = &range;
    command.credit = 1024 * 1024;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &command;
    return cluster_submit(cluster, node, &request);
}

struct place {
    int64_t revision;
    uint64_t last;
    bool is_pattern;
};

static struct cluster_request *
subscribe(struct cluster *cluster, unsigned node, const char *topic, struct place place)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Subscribe command = KV__SUBSCRIBE__INIT;

    command.topic = text(topic);
    command.pattern = place.is_pattern;
    command.last = place.last;
    command.start_revision = place.revision;
    command.credit = 1024 * 1024;
    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = &command;
    return cluster_submit(cluster, node, &request);
}

static struct cluster_request *publish(struct cluster *cluster, unsigned node, const char *payload)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Publish command = KV__PUBLISH__INIT;

    command.topic = text("t");
    command.payload = text(payload);
    request.command_case = KV__REQUEST__COMMAND_PUBLISH;
    request.publish = &command;
    return cluster_submit(cluster, node, &request);
}

/* So that a message is lost to who comes later. */
static void keep_one_message(struct cluster *cluster)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet command = KV__CONFIG_SET__INIT;
    struct cluster_request *sent;

    command.name = (char *)(uintptr_t) "topic-messages";
    command.value = 1;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &command;
    sent = cluster_submit(cluster, cluster_leader(cluster), &request);
    assert_int_equal(cluster_await(cluster, sent, SOON_MS), KV__CODE__OK);
    cluster_request_free(sent);
    for (unsigned i = 0; i < 2; i++) {
        sent = publish(cluster, cluster_leader(cluster), "former");
        assert_int_equal(cluster_await(cluster, sent, SOON_MS), KV__CODE__OK);
        cluster_request_free(sent);
    }
    cluster_run_ms(cluster, 100);
}

static struct cluster_request *range(struct cluster *cluster, unsigned node)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Range command = KV__RANGE__INIT;
    Kv__KeyRange all = KV__KEY_RANGE__INIT;

    all.special = KV__KEY_RANGE__SPECIAL__ALL;
    command.range = &all;
    command.stream = true;
    command.credit = 1024 * 1024;
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &command;
    return cluster_submit(cluster, node, &request);
}

static struct cluster_request *snapshot(struct cluster *cluster, unsigned node)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SnapshotNow command = KV__SNAPSHOT_NOW__INIT;

    request.command_case = KV__REQUEST__COMMAND_SNAPSHOT_NOW;
    request.snapshot_now = &command;
    return cluster_submit(cluster, node, &request);
}

static uint64_t open_session(struct cluster *cluster)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionOpen command = KV__SESSION_OPEN__INIT;
    struct cluster_request *sent;
    uint64_t id;

    command.ttl_ms = 600000;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &command;
    sent = cluster_submit(cluster, cluster_leader(cluster), &request);
    assert_int_equal(cluster_await(cluster, sent, SOON_MS), KV__CODE__OK);
    id = sent->reply->session_open->session_id;
    cluster_request_free(sent);
    return id;
}

static struct cluster_request *pop(struct cluster *cluster, unsigned node, uint64_t session)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__ListPop command = KV__LIST_POP__INIT;

    stamp.session_id = session;
    stamp.sequence = 1;
    command.key = text("q");
    command.block_ms = 500;
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &command;
    return cluster_submit(cluster, node, &request);
}

/* ---------------------------------------------------------------- serving */

/* A follower has streams of all kinds and writes that it forwards. */
enum {
    WATCH,
    TOPIC,
    PATTERN,
    LATE,
    GAP,
    STREAMS,
    PUT = STREAMS,
    LEADERS,
    MESSAGE,
    READ,
    RANGE,
    SNAPSHOT,
    POP,
    ALL
};

static void
send_all(struct cluster *cluster, unsigned node, uint64_t session, struct cluster_request **sent)
{
    const unsigned leader = cluster_leader(cluster);

    sent[WATCH] = watch(cluster, node, "k");
    sent[TOPIC] = subscribe(cluster, node, "t", (struct place){0});
    sent[PATTERN] = subscribe(cluster, node, "?", (struct place){.is_pattern = true});
    sent[GAP] = subscribe(cluster, node, "t", (struct place){.revision = 2});
    cluster_run_ms(cluster, 50);
    sent[PUT] = cluster_put(cluster, node, "k", "forwarded");
    sent[LEADERS] = cluster_put(cluster, leader, "k", "here");
    sent[MESSAGE] = publish(cluster, node, "hello");
    sent[READ] = cluster_get(cluster, node, "k");
    sent[RANGE] = range(cluster, node);
    sent[SNAPSHOT] = snapshot(cluster, node);
    sent[POP] = pop(cluster, node, session);
    cluster_run_ms(cluster, 50);
    sent[LATE] = subscribe(cluster, node, "t", (struct place){.last = 1});
    for (unsigned i = STREAMS; i < ALL; i++) {
        (void)cluster_await(cluster, sent[i], SOON_MS);
    }
}

static bool was_told(const struct cluster_request *stream, const char *what)
{
    for (size_t i = 0; i < stream->n_items; i++) {
        const Kv__StreamItem *item = stream->items[i];

        const bool is_watch = item->item_case == KV__STREAM_ITEM__ITEM_WATCH;
        const bool is_topic = item->item_case == KV__STREAM_ITEM__ITEM_TOPIC;

        for (size_t k = 0; is_watch && k < item->watch->n_events; k++) {
            const Kv__KeyValue *kv = item->watch->events[k]->kv;

            if (kv->value.len == strlen(what) && memcmp(kv->value.data, what, kv->value.len) == 0) {
                return true;
            }
        }
        for (size_t k = 0; is_topic && k < item->topic->n_messages; k++) {
            const Kv__TopicMessage *message = item->topic->messages[k];

            if (message->payload.len == strlen(what) &&
                memcmp(message->payload.data, what, message->payload.len) == 0) {
                return true;
            }
        }
    }
    return false;
}

/* Each request has its answer, unless its node died; who is open was told what was acknowledged. */
static void judge(struct cluster *cluster, unsigned node, struct cluster_request **sent)
{
    for (unsigned i = STREAMS; i < ALL; i++) {
        assert_true(sent[i]->done || cluster_has_died(cluster, sent[i]->node));
    }
    for (unsigned i = 0; i < STREAMS; i++) {
        const unsigned what = i == WATCH ? PUT : MESSAGE;

        if (!sent[i]->done && sent[what]->done && sent[what]->reply->code == KV__CODE__OK &&
            !cluster_has_died(cluster, node)) {
            cluster_run_ms(cluster, 100);
            assert_true(was_told(sent[i], i == WATCH ? "forwarded" : "hello"));
        }
    }
}

static void whoever_is_refused_says_so(void **state)
{
    unsigned at = 1;

    (void)state;
    do {
        struct cluster *cluster = new_cluster();
        unsigned node = cluster_leader(cluster) % NODES + 1;
        uint64_t session = open_session(cluster);
        struct cluster_request *sent[ALL];

        keep_one_message(cluster);
        arm(at++);
        send_all(cluster, node, session, sent);
        refusal.armed = false;
        judge(cluster, node, sent);
        check_whole(cluster);
        for (unsigned i = 0; i < ALL; i++) {
            if (!sent[i]->done && sent[i]->node) {
                kv_node_cancel(cluster_node(cluster, sent[i]->node), &sent[i]->op);
            }
            cluster_request_free(sent[i]);
        }
        cluster_free(cluster);
    } while (refusal.calls >= refusal.at);
    assert_true(at > REFUSALS_LEAST);
}

/* ---------------------------------------------------------------- start, and install */

static void a_start_is_refused_or_whole(void **state)
{
    struct cluster *cluster = new_cluster();
    unsigned at = 0;
    int status;

    (void)state;
    do {
        struct kv_error error = {0};

        cluster_crash(cluster, 1);
        arm(++at);
        status = cluster_try_start(cluster, 1, &error);
        refusal.armed = false;
        assert_true(status == 0 || (status == KV_NO_MEMORY && error.message[0]));
        if (status != 0) {
            cluster_start(cluster, 1);
        }
    } while (status != 0);
    assert_true(at > 5);
    check_whole(cluster);
    cluster_free(cluster);
}

static void an_install_is_done_in_the_end(void **state)
{
    unsigned at = 1;

    (void)state;
    do {
        struct cluster *cluster = new_cluster();
        unsigned node = cluster_leader(cluster) % NODES + 1;
        char value[200];

        memset(value, 'v', sizeof value - 1);
        value[sizeof value - 1] = '\0';
        cluster_crash(cluster, node);
        for (unsigned i = 0; i < 600; i++) {
            put_ok(cluster, cluster_leader(cluster), "k", value);
        }
        cluster_start(cluster, node);
        arm(at++);
        cluster_run_ms(cluster, 2000);
        check_whole(cluster);
        cluster_free(cluster);
    } while (refusal.calls >= refusal.at);
    assert_true(at > 4);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whoever_is_refused_says_so),
        cmocka_unit_test(a_start_is_refused_or_whole),
        cmocka_unit_test(an_install_is_done_in_the_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
