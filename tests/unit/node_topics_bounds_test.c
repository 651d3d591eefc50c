/* Bounds of what one turn does for subscriptions of topics: costly patterns, large messages for
 * many. Who is beyond them reads by itself, and misses nothing. */
#include "tests/support/watch_rig.h"

enum { PATTERNS = KV_NODE_PATTERNS_MAX, MESSAGES = 5, AT_ONCE = 1000 };

static struct cluster_request *
subscribe(struct cluster *cluster, const char *pattern, int64_t start_revision)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Subscribe subscribe = KV__SUBSCRIBE__INIT;

    subscribe.topic = (ProtobufCBinaryData){strlen(pattern), (uint8_t *)(uintptr_t)pattern};
    subscribe.pattern = true;
    subscribe.credit = KV_STREAM_CREDIT_MAX;
    subscribe.start_revision = start_revision;
    request.id = 77;
    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = &subscribe;
    return cluster_submit(cluster, 1, &request);
}

static int64_t publish(struct cluster *cluster, struct kv_slice topic, struct kv_slice payload)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Publish publish = KV__PUBLISH__INIT;
    struct cluster_request *sent;
    int64_t revision;

    publish.topic = (ProtobufCBinaryData){topic.size, (uint8_t *)(uintptr_t)topic.data};
    publish.payload = (ProtobufCBinaryData){payload.size, (uint8_t *)(uintptr_t)payload.data};
    request.command_case = KV__REQUEST__COMMAND_PUBLISH;
    request.publish = &publish;
    sent = cluster_submit(cluster, 1, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    revision = sent->reply->revision;
    cluster_request_free(sent);
    return revision;
}

/* Messages of the revisions from `from` to `to`, each once, in order, and no gap. */
static void check_messages(const struct cluster_request *request, int64_t from, int64_t to)
{
    int64_t next = from;

    for (size_t i = 0; i < request->n_items; i++) {
        const Kv__TopicMessages *messages = request->items[i]->topic;

        assert_int_equal(messages->gap_to, 0);
        for (size_t k = 0; k < messages->n_messages; k++) {
            assert_int_equal(messages->messages[k]->revision, next++);
        }
    }
    assert_int_equal(next, to + 1);
}

static uint64_t times_crowded(struct cluster *cluster)
{
    struct kv_node_status status;

    kv_node_status_get(cluster_node(cluster, 1), &status);
    return status.subscriptions_crowded;
}

/* All patterns that a node has, each as costly as one can be, against the longest name: 16 ms for
 * one message if nothing bounded it. */
static void costly_patterns_are_left_behind(void **state)
{
    static uint8_t name[KV_KEY_BYTES_MAX];
    static struct cluster_request *requests[PATTERNS];
    char pattern[KV_GLOB_PLACES_MAX + 8];
    struct cluster *cluster = new_cluster(1, 40);
    int64_t first = 0, last = 0;

    (void)state;
    memset(name, 'a', sizeof name);
    for (unsigned i = 0; i < PATTERNS; i++) {
        /* All but the first match nothing, and are not done before the end. */
        snprintf(pattern, sizeof pattern, "*%0*u", (int)KV_GLOB_PLACES_MAX - 10, i);
        memset(pattern + 1, 'a', KV_GLOB_PLACES_MAX - 20);
        requests[i] = subscribe(cluster, i == 0 ? "a*" : pattern, 0);
        await_told(cluster, requests[i], 1);
    }
    for (unsigned i = 0; i < MESSAGES; i++) {
        last = publish(cluster, kv_slice_of(name, sizeof name), kv_slice_str("x"));
        first = first ? first : last;
    }
    assert_true(times_crowded(cluster) > 0);
    /* Those who were left behind are live again, and are told what they want. */
    last = publish(cluster, kv_slice_str("a short one"), kv_slice_str("x"));
    await_told(cluster, requests[0], last);
    check_messages(requests[0], first, last);
    for (unsigned i = 0; i < PATTERNS; i++) {
        assert_int_equal(requests[i]->done, false);
        check_messages(requests[i], first, i == 0 ? last : first - 1);
        cancel(cluster, requests[i]);
    }
    cluster_free(cluster);
}

/* A copy for each group would take more memory than there may be. */
static void a_large_message_for_many_patterns_is_read(void **state)
{
    enum { N = 2 * KV_NODE_LIVE_BYTES_MAX / KV_MIB };
    static uint8_t payload[KV_MIB - 100];
    struct cluster *cluster =
        cluster_new(&(struct cluster_options){.seed = 41,
                                              .n_nodes = 1,
                                              .delay_max_us = 300,
                                              .sync_max_us = 400,
                                              .wal_segment_bytes = 64 * KV_MIB});
    struct cluster_request *requests[N];
    int64_t revision;

    (void)state;
    cluster_start(cluster, 1);
    assert_int_equal(cluster_await_leader(cluster, 5000), 1);
    for (unsigned i = 0; i < N; i++) {
        char pattern[16];

        snprintf(pattern, sizeof pattern, "[a-%c]%s*", (char)('b' + i % 24), &"?????"[i / 24]);
        requests[i] = subscribe(cluster, pattern, 0);
        await_told(cluster, requests[i], 1);
    }
    revision = publish(cluster, kv_slice_str("a large one"), kv_slice_of(payload, sizeof payload));
    assert_true(times_crowded(cluster) >= N / 2);
    for (unsigned i = 0; i < N; i++) {
        await_told(cluster, requests[i], revision);
        check_messages(requests[i], revision, revision);
        cancel(cluster, requests[i]);
    }
    cluster_free(cluster);
}

/* One message of each topic, in transactions. Returns the revision of the last one. */
static int64_t publish_to_all(struct cluster *cluster, unsigned n_topics)
{
    static char names[AT_ONCE][16];
    static Kv__Publish publishes[AT_ONCE];
    static Kv__Request requests[AT_ONCE];
    static Kv__Request *then[AT_ONCE];
    int64_t revision = 0;

    for (unsigned first = 0; first < n_topics; first += AT_ONCE) {
        Kv__Request request = KV__REQUEST__INIT;
        Kv__Txn txn = KV__TXN__INIT;
        struct cluster_request *sent;

        for (unsigned i = 0; i < AT_ONCE; i++) {
            int size = snprintf(names[i], sizeof names[i], "t/%u", first + i);

            kv__publish__init(&publishes[i]);
            publishes[i].topic = (ProtobufCBinaryData){(size_t)size, (uint8_t *)names[i]};
            kv__request__init(&requests[i]);
            requests[i].command_case = KV__REQUEST__COMMAND_PUBLISH;
            requests[i].publish = &publishes[i];
            then[i] = &requests[i];
        }
        txn.n_then = AT_ONCE;
        txn.then = then;
        request.command_case = KV__REQUEST__COMMAND_TXN;
        request.txn = &txn;
        sent = cluster_submit(cluster, 1, &request);
        assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
        revision = sent->reply->revision;
        cluster_request_free(sent);
    }
    return revision;
}

static void keep_one_message(struct cluster *cluster)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet set = KV__CONFIG_SET__INIT;
    struct cluster_request *sent;

    set.name = (char *)(uintptr_t) "topic-messages";
    set.value = 1;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &set;
    sent = cluster_submit(cluster, 1, &request);
    assert_int_equal(cluster_await(cluster, sent, 6000), KV__CODE__OK);
    cluster_request_free(sent);
}

/* More topics have lost something than a turn looks at: the gap is told all the same, once, before
 * the messages behind it. */
static void a_gap_of_many_topics_is_looked_for_in_pieces(void **state)
{
    enum { TOPICS = 5000 };
    struct cluster *cluster = new_cluster(1, 42);
    struct cluster_request *request;
    int64_t first, lost_to, last;
    size_t n_gaps = 0, n_messages = 0;

    (void)state;
    assert_true(TOPICS > KV_TOPIC_LOOKS_MAX);
    keep_one_message(cluster);
    lost_to = publish_to_all(cluster, TOPICS);
    first = lost_to + 1 - TOPICS / AT_ONCE;
    last = publish_to_all(cluster, TOPICS);
    request = subscribe(cluster, "t/*", first);
    await_told(cluster, request, last);
    for (size_t i = 0; i < request->n_items; i++) {
        const Kv__TopicMessages *messages = request->items[i]->topic;

        if (messages->gap_to != 0) {
            assert_int_equal(messages->gap_from, first);
            assert_int_equal(messages->gap_to, lost_to);
            assert_int_equal(n_messages, 0);
            n_gaps++;
        }
        n_messages += messages->n_messages;
    }
    assert_int_equal(n_gaps, 1);
    assert_int_equal(n_messages, TOPICS);
    cancel(cluster, request);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(costly_patterns_are_left_behind),
        cmocka_unit_test(a_large_message_for_many_patterns_is_read),
        cmocka_unit_test(a_gap_of_many_topics_is_looked_for_in_pieces),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
