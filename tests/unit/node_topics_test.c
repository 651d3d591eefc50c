/* Topics in a cluster: the same order on every node, no message twice and none lost without a word,
 * whatever readers, nodes, leaders and snapshots do. KV_SEED replays one run. */
#include "common/limits.h"
#include "common/log.h"
#include "server/machine/glob.h"
#include "server/node/node_internal.h"
#include "tests/support/cluster.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NODES = 3, STREAMS = 10, TOPICS = 4, STEPS = 700, MESSAGES_MAX = 4 * STEPS };
enum { OPERATIONS = 4, GAPS_MAX = 4096, LARGE_BYTES = 40000, RETAINED = 6 };

static const char *const names[TOPICS] = {"a/1", "a/2", "b/1", "c"};
static const char *const queries[] = {"a/1", "b/1", "c", "*", "a/*", "?/1"};

/* What was published: the order of a revision is that of the numbers. */
struct published {
    int64_t revision; /* 0: it is not known whether it was done */
    unsigned topic;
};
static struct published published[MESSAGES_MAX];
static unsigned n_published;

struct range {
    int64_t from, to;
};
/* A subscriber that begins anew elsewhere when its node goes. */
struct stream {
    struct cluster_request *request;
    size_t n_read; /* of its items */
    const char *query;
    struct kv_glob glob;
    bool is_pattern;
    int64_t from; /* the first revision that it is to hear of */
    int64_t told; /* everything up to here */
    unsigned messages[MESSAGES_MAX];
    int64_t revisions[MESSAGES_MAX];
    size_t n_messages;
    size_t n_whole; /* those of revisions that were told as a whole */
    struct range gaps[GAPS_MAX];
    size_t n_gaps;
};
static struct stream streams[STREAMS];
static struct cluster *cluster;
static uint64_t n_gaps, n_fragments, n_resumed, n_installed;

static unsigned below(unsigned n)
{
    return (unsigned)cluster_random(cluster, n);
}

static bool is_of(const struct stream *stream, unsigned topic)
{
    struct kv_slice name = kv_slice_str(names[topic]);

    return stream->is_pattern ? kv_glob_matches(&stream->glob, name)
                              : kv_slice_equal(kv_slice_str(stream->query), name);
}

static unsigned any_node(void)
{
    unsigned node;

    do {
        node = 1 + below(NODES);
    } while (!cluster_is_up(cluster, node));
    return node;
}

/* ---------------------------------------------------------------- publishing */

static void set(const char *name, uint64_t value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet command = KV__CONFIG_SET__INIT;
    struct cluster_request *sent;

    command.name = (char *)(uintptr_t)name;
    command.value = value;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &command;
    sent = cluster_submit(cluster, any_node(), &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
}

/* One transaction of some messages; large ones now and then, so that a revision is more than an
 * item. What it comes to is known when it is answered. */
static void publish(void)
{
    static uint8_t payloads[OPERATIONS][LARGE_BYTES];
    Kv__Publish publishes[OPERATIONS];
    Kv__Request operations[OPERATIONS];
    Kv__Request *pointers[OPERATIONS];
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Txn txn = KV__TXN__INIT;
    const unsigned first = n_published;
    const unsigned n = 1 + below(OPERATIONS);
    const size_t size = below(4) ? 100 : LARGE_BYTES;
    struct cluster_request *sent;

    for (unsigned i = 0; i < n; i++) {
        unsigned topic = below(TOPICS);

        memcpy(payloads[i], &n_published, sizeof n_published);
        kv__publish__init(&publishes[i]);
        publishes[i].topic =
            (ProtobufCBinaryData){strlen(names[topic]), (uint8_t *)(uintptr_t)names[topic]};
        publishes[i].payload = (ProtobufCBinaryData){size, payloads[i]};
        kv__request__init(&operations[i]);
        operations[i].command_case = KV__REQUEST__COMMAND_PUBLISH;
        operations[i].publish = &publishes[i];
        pointers[i] = &operations[i];
        published[n_published++] = (struct published){0, topic};
    }
    txn.n_then = n;
    txn.then = pointers;
    request.id = 5;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    sent = cluster_submit(cluster, any_node(), &request);
    if (cluster_await(cluster, sent, 8000) == KV__CODE__OK) {
        for (unsigned i = first; i < n_published; i++) {
            published[i].revision = sent->reply->revision;
        }
    }
    cluster_request_free(sent);
}

/* ---------------------------------------------------------------- streams */

static void subscribe(struct stream *stream, int64_t from)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Subscribe command = KV__SUBSCRIBE__INIT;

    command.topic =
        (ProtobufCBinaryData){strlen(stream->query), (uint8_t *)(uintptr_t)stream->query};
    command.pattern = stream->is_pattern;
    command.start_revision = from;
    /* So that all are told how far they have come at the end. */
    command.progress_ms = KV_PROGRESS_MIN_MS;
    command.credit = below(3) ? 1 + below(200000) : KV_STREAM_CREDIT_MAX;
    request.id = 9;
    request.deadline_ms = 0;
    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = &command;
    stream->request = cluster_submit(cluster, any_node(), &request);
    stream->n_read = 0;
}

static void open_stream(struct stream *stream)
{
    struct kv_error error;

    memset(stream, 0, sizeof *stream);
    stream->query = queries[below(sizeof queries / sizeof queries[0])];
    stream->is_pattern = strpbrk(stream->query, "*?[") != NULL;
    if (stream->is_pattern) {
        assert_int_equal(kv_glob_compile(kv_slice_str(stream->query), &stream->glob, &error), 0);
    }
    subscribe(stream, 0);
}

static void take_message(struct stream *stream, const Kv__TopicMessage *message)
{
    unsigned number;

    assert_true(message->payload.len >= sizeof number);
    memcpy(&number, message->payload.data, sizeof number);
    assert_true(number < n_published && is_of(stream, published[number].topic));
    assert_true(message->revision > stream->told);
    assert_true(published[number].revision == 0 || published[number].revision == message->revision);
    /* From now on it is known to have been done, and where. */
    published[number].revision = message->revision;
    if (stream->n_messages > 0) {
        assert_true(stream->messages[stream->n_messages - 1] < number);
        assert_true(stream->revisions[stream->n_messages - 1] <= message->revision);
    }
    assert_true(stream->n_messages < MESSAGES_MAX);
    stream->revisions[stream->n_messages] = message->revision;
    stream->messages[stream->n_messages++] = number;
}

static void take_item(struct stream *stream, const Kv__StreamItem *item)
{
    const Kv__TopicMessages *topic = item->topic;

    assert_int_equal(item->code, KV__CODE__OK);
    assert_int_equal(item->item_case, KV__STREAM_ITEM__ITEM_TOPIC);
    assert_true(topic->revision >= stream->told);
    if (stream->from == 0) {
        assert_int_equal(topic->n_messages, 0);
        stream->from = topic->revision + 1;
    }
    if (topic->gap_from > 0) {
        assert_true(topic->gap_from <= topic->gap_to && stream->n_gaps < GAPS_MAX);
        stream->gaps[stream->n_gaps++] = (struct range){topic->gap_from, topic->gap_to};
        n_gaps++;
    }
    for (size_t i = 0; i < topic->n_messages; i++) {
        take_message(stream, topic->messages[i]);
        assert_true(topic->messages[i]->revision <= topic->revision + item->more_fragments);
    }
    stream->told = topic->revision;
    if (!item->more_fragments) {
        stream->n_whole = stream->n_messages;
    }
    n_fragments += item->more_fragments;
}

/* Takes what came. A stream that has ended goes on elsewhere, behind the last revision that was
 * whole. */
static void read_stream(struct stream *stream)
{
    struct cluster_request *request = stream->request;

    while (stream->n_read < request->n_items && !request->items[stream->n_read]->end) {
        take_item(stream, request->items[stream->n_read++]);
    }
    if (request->done || request->node == 0) {
        cluster_request_free(request);
        while (stream->n_messages > stream->n_whole &&
               stream->revisions[stream->n_messages - 1] > stream->told) {
            stream->n_messages--;
        }
        n_resumed++;
        subscribe(stream, stream->from == 0 ? 0 : stream->told + 1);
    } else if (request->n_items > CLUSTER_ITEMS_MAX - 200) {
        kv_node_cancel(cluster_node(cluster, request->node), &request->op);
    }
}

static void grant(struct stream *stream, uint64_t bytes)
{
    struct cluster_request *request = stream->request;

    if (!request->done && request->node != 0) {
        kv_node_credit(cluster_node(cluster, request->node), &request->op, bytes);
    }
}

static void set_full(struct stream *stream, bool is_full)
{
    stream->request->is_full = is_full;
    if (!is_full) {
        cluster_make_room(stream->request);
    }
}

/* All that it was to hear of, it has, or it was named as lost. */
static void check_stream(const struct stream *stream)
{
    size_t at = 0;

    for (unsigned number = 0; number < n_published; number++) {
        const int64_t revision = published[number].revision;
        bool is_named = false;

        while (at < stream->n_messages && stream->messages[at] < number) {
            at++;
        }
        if (revision < stream->from || revision > stream->told ||
            !is_of(stream, published[number].topic) ||
            (at < stream->n_messages && stream->messages[at] == number)) {
            continue;
        }
        for (size_t i = 0; i < stream->n_gaps && !is_named; i++) {
            is_named = revision >= stream->gaps[i].from && revision <= stream->gaps[i].to;
        }
        if (!is_named) {
            fail_msg("message %u of revision %ld was lost to \"%s\" without a word",
                     number,
                     (long)revision,
                     stream->query);
        }
    }
}

/* ---------------------------------------------------------------- the run */

static void step_fault(void)
{
    unsigned node = 1 + below(NODES);
    struct stream *stream = &streams[below(STREAMS)];

    switch (below(8)) {
    case 0:
        for (unsigned i = 1; i <= NODES; i++) {
            if (!cluster_is_up(cluster, i)) {
                cluster_start(cluster, i);
                return;
            }
        }
        cluster_crash(cluster, node);
        return;
    case 1:
        cluster_isolate(cluster, node, true);
        cluster_run_ms(cluster, below(1000));
        cluster_isolate(cluster, node, false);
        return;
    case 2:
        set_full(stream, true);
        return;
    case 3:
        for (unsigned i = 0; i < STREAMS; i++) {
            set_full(&streams[i], false);
        }
        return;
    default:
        /* Little, so that it ends within a revision. */
        for (unsigned i = 0; i < STREAMS; i++) {
            grant(&streams[i], 1 + below(200000));
        }
        return;
    }
}

static bool has_told_all(struct cluster *of, void *arg)
{
    bool all = true;

    (void)of;
    for (unsigned i = 0; i < STREAMS; i++) {
        read_stream(&streams[i]);
        set_full(&streams[i], false);
        grant(&streams[i], KV_STREAM_CREDIT_MAX);
        all = all && streams[i].told >= *(int64_t *)arg;
    }
    return all;
}

static void settle(void)
{
    int64_t newest = 0;

    for (unsigned i = 1; i <= NODES; i++) {
        cluster_isolate(cluster, i, false);
        if (!cluster_is_up(cluster, i)) {
            cluster_start(cluster, i);
        }
    }
    assert_int_not_equal(cluster_await_leader(cluster, 10000), 0);
    publish();
    cluster_check_same(cluster);
    for (unsigned i = 1; i <= NODES; i++) {
        struct kv_node_status status;

        kv_node_status_get(cluster_node(cluster, i), &status);
        n_installed += status.snapshots_installed;
    }
    for (unsigned i = 0; i < n_published; i++) {
        newest = published[i].revision > newest ? published[i].revision : newest;
    }
    assert_true(cluster_run_until(cluster, has_told_all, &newest, 60000));
    for (unsigned i = 0; i < STREAMS; i++) {
        check_stream(&streams[i]);
    }
}

static void run_seed(uint64_t seed)
{
    printf("KV_SEED=%llu\n", (unsigned long long)seed);
    cluster = cluster_new(&(struct cluster_options){.seed = seed,
                                                    .n_nodes = NODES,
                                                    .delay_max_us = 300,
                                                    .sync_max_us = 400,
                                                    .wal_segment_bytes = 1 << 20,
                                                    .snapshot_log_bytes = 1 << 19});
    for (unsigned i = 1; i <= NODES; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    n_published = 0;
    set("topic-messages", RETAINED);
    for (unsigned i = 0; i < STREAMS; i++) {
        open_stream(&streams[i]);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        publish();
        read_stream(&streams[below(STREAMS)]);
        if (below(8) == 0) {
            step_fault();
        }
    }
    settle();
    for (unsigned i = 0; i < STREAMS; i++) {
        struct cluster_request *request = streams[i].request;

        if (!request->done && request->node != 0) {
            kv_node_cancel(cluster_node(cluster, request->node), &request->op);
        }
        cluster_request_free(request);
    }
    cluster_free(cluster);
}

static void no_message_is_lost_without_a_word(void **state)
{
    const struct kv_test_seeds seeds = kv_test_seeds(4);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        run_seed(seed);
    }
    printf("%lu gaps, %lu fragments, %lu resumed, %lu installed\n",
           n_gaps,
           n_fragments,
           n_resumed,
           n_installed);
    assert_true(n_gaps > 0 && n_fragments > 0 && n_resumed > 0 && n_installed > 0);
}

/* ---------------------------------------------------------------- bounds */

static struct cluster_request *
subscribe_to(ProtobufCBinaryData topic, bool is_pattern, uint64_t credit)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Subscribe command = KV__SUBSCRIBE__INIT;

    command.topic = topic;
    command.pattern = is_pattern;
    command.start_revision = 1;
    command.credit = credit;
    request.id = 9;
    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = &command;
    return cluster_submit(cluster, 1, &request);
}

static void end_stream(struct cluster_request *request)
{
    kv_node_cancel(cluster_node(cluster, 1), &request->op);
    cluster_request_free(request);
}

static void publish_one(ProtobufCBinaryData topic, ProtobufCBinaryData payload)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Publish command = KV__PUBLISH__INIT;
    struct cluster_request *sent;

    command.topic = topic;
    command.payload = payload;
    request.command_case = KV__REQUEST__COMMAND_PUBLISH;
    request.publish = &command;
    sent = cluster_submit(cluster, 1, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
}

static void open_alone(uint64_t seed)
{
    cluster = cluster_new(&(struct cluster_options){
        .seed = seed, .n_nodes = 1, .delay_max_us = 300, .sync_max_us = 400});
    cluster_start(cluster, 1);
    assert_int_equal(cluster_await_leader(cluster, 5000), 1);
}

enum { LISTED = 40, PATTERNS = 200 };

/* Returns how many the reply has; all of them have the same number of subscribers. */
static size_t list_behind(char *cursor, bool *ret_more)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__TopicList command = KV__TOPIC_LIST__INIT;
    const Kv__TopicListResult *result;
    struct cluster_request *sent;
    size_t n;

    command.cursor = (ProtobufCBinaryData){strlen(cursor), (uint8_t *)cursor};
    request.command_case = KV__REQUEST__COMMAND_TOPIC_LIST;
    request.topic_list = &command;
    sent = cluster_submit(cluster, 1, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    result = sent->reply->topic_list;
    n = result->n_topics;
    assert_true(n > 0);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(result->topics[i]->subscribers, PATTERNS);
    }
    memcpy(cursor, result->topics[n - 1]->topic.data, result->topics[n - 1]->topic.len);
    *ret_more = result->more;
    cluster_request_free(sent);
    return n;
}

/* Long names and many patterns: the core would be held up for seconds. */
static void a_costly_list_comes_in_parts(void **state)
{
    static char name[KV_KEY_BYTES_MAX + 1], cursor[KV_KEY_BYTES_MAX + 1];
    struct cluster_request *listeners[PATTERNS];
    bool more = true;
    size_t n = 0, n_lists = 0;

    (void)state;
    open_alone(2);
    memset(name, 'x', KV_KEY_BYTES_MAX);
    for (unsigned i = 0; i < LISTED; i++) {
        name[0] = (char)('A' + i);
        publish_one((ProtobufCBinaryData){KV_KEY_BYTES_MAX, (uint8_t *)name},
                    (ProtobufCBinaryData){0, NULL});
    }
    for (unsigned i = 0; i < PATTERNS; i++) {
        uint8_t pattern[300];

        memset(pattern, 'x', sizeof pattern);
        pattern[0] = '*';
        listeners[i] = subscribe_to((ProtobufCBinaryData){2 + i, pattern}, true, 0);
    }
    for (; more; n_lists++) {
        n += list_behind(cursor, &more);
    }
    assert_int_equal(n, LISTED);
    assert_true(n_lists >= LISTED * (size_t)PATTERNS * KV_KEY_BYTES_MAX / (8 * KV_MIB));
    for (unsigned i = 0; i < PATTERNS; i++) {
        end_stream(listeners[i]);
    }
    cluster_free(cluster);
}

static void a_subscriber_gets_no_more_than_its_credit(void **state)
{
    uint8_t payload[100] = {0};
    const ProtobufCBinaryData topic = {1, (uint8_t *)(uintptr_t) "t"};
    struct cluster_request *request;
    size_t size = 0;

    (void)state;
    open_alone(3);
    for (unsigned i = 0; i < 50; i++) {
        publish_one(topic, (ProtobufCBinaryData){sizeof payload, payload});
    }
    request = subscribe_to(topic, false, 300);
    cluster_run_ms(cluster, 100);
    for (size_t i = 0; i < request->n_items; i++) {
        size += kv__stream_item__get_packed_size(request->items[i]);
    }
    /* One message may be begun with the rest of it. */
    assert_in_range(size, 300, 300 + 2 * sizeof payload);
    end_stream(request);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_message_is_lost_without_a_word),
        cmocka_unit_test(a_costly_list_comes_in_parts),
        cmocka_unit_test(a_subscriber_gets_no_more_than_its_credit),
    };

    kv_log_set_level(KV_LOG_ERROR);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
