/* Random publications, alone and in transactions that may fail, settings, time and reloads against
 * all messages in a plain array: what is retained, listed, told when it is published, read by
 * subscribers that lag, and named as lost. */
#include "common/limits.h"
#include "server/machine/glob.h"
#include "server/machine/machine_internal.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TOPICS = 6, STEPS = 1200, OPERATIONS = 5, MESSAGES_MAX = STEPS * OPERATIONS };
enum { READERS = 8, PAYLOAD_MAX = 90 };

static const char *const names[TOPICS] = {"a", "a/1", "a/2", "b/1", "b/2", "c"};
static const char *const queries[READERS] = {"a", "a/1", "b/2", "c", "*", "a*", "?/1", "[!a]/*"};

struct model_message {
    struct kv_topic_position position;
    unsigned topic;
    size_t size; /* of the payload, whose bytes are the message's place in the array */
    int64_t time_ms;
    bool dropped;
};
static struct model_message messages[MESSAGES_MAX];
static size_t n_messages;
static size_t n_told; /* by on_publish */
static uint64_t max_messages, max_bytes, max_age_ms;
static uint64_t drops_per_entry; /* besides those that each publication may drop */
static struct kv_topic_position newest_dropped;

struct reader {
    struct kv_topic_query query;
    struct kv_glob glob;
    struct kv_topic_position position;
    struct kv_topic_losses losses;
    struct kv_topic_position gap; /* told of */
    size_t next;                  /* of the model, that may have to be told */
};
static struct reader readers[READERS];
static uint64_t n_gaps, n_dropped, n_undone, n_fragments, n_kept;
static struct machine_rig rig;

static unsigned below(unsigned n)
{
    return (unsigned)machine_rig_random(&rig, n);
}

static bool is_of(const struct reader *reader, unsigned topic)
{
    struct kv_slice name = kv_slice_str(names[topic]);

    return reader->query.glob ? kv_glob_matches(&reader->glob, name)
                              : kv_slice_equal(reader->query.topic, name);
}

static void drop(struct model_message *message)
{
    message->dropped = true;
    n_dropped++;
    if (kv_topic_position_compare(newest_dropped, message->position) < 0) {
        newest_dropped = message->position;
    }
}

/* Of the first so many messages. */
static uint64_t
count_topic_of(unsigned topic, size_t n_first, uint64_t *ret_bytes, size_t *ret_oldest)
{
    uint64_t n = 0;

    *ret_bytes = 0;
    for (size_t i = n_first; i > 0; i--) {
        if (messages[i - 1].topic == topic && !messages[i - 1].dropped) {
            n++;
            *ret_bytes += 40 + strlen(names[topic]) + messages[i - 1].size;
            *ret_oldest = i - 1;
        }
    }
    return n;
}

static uint64_t count_topic(unsigned topic, uint64_t *ret_bytes, size_t *ret_oldest)
{
    return count_topic_of(topic, n_messages, ret_bytes, ret_oldest);
}

/* What the message drives out: two, and what is left of the entry's number. */
static void trim(size_t message, uint64_t *left)
{
    const unsigned topic = messages[message].topic;
    uint64_t bytes;
    size_t oldest = 0;
    uint64_t n = count_topic_of(topic, message + 1, &bytes, &oldest);

    for (unsigned i = 0; n > 1 && (n > max_messages || bytes > max_bytes); i++) {
        if (i >= 2 && (*left)-- == 0) {
            *left = 0;
            n_kept++;
            return;
        }
        drop(&messages[oldest]);
        n = count_topic_of(topic, message + 1, &bytes, &oldest);
    }
}

/* Before an entry with the rig's time. */
static void end_old(void)
{
    for (size_t i = 0; i < n_messages; i++) {
        int64_t due_ms = messages[i].time_ms + (int64_t)max_age_ms;

        if (!messages[i].dropped && (due_ms / 1000 + 1) * 1000 <= rig.cluster_time_ms) {
            drop(&messages[i]);
        }
    }
}

static void check_message(const struct kv_topic_message *message, size_t i)
{
    size_t place;

    assert_true(i < n_messages);
    assert_int_equal(message->position.revision, messages[i].position.revision);
    assert_int_equal(message->position.number, messages[i].position.number);
    assert_true(kv_slice_equal(message->topic, kv_slice_str(names[messages[i].topic])));
    assert_int_equal(message->payload.size, messages[i].size);
    memcpy(&place, message->payload.data, sizeof place);
    assert_int_equal(place, i);
}

/* The model knows of them when the command has succeeded. */
static void on_publish(void *arg, const struct kv_topic_message *message, bool last)
{
    (void)arg;
    check_message(message, n_told++);
    assert_int_equal(last, n_told == n_messages);
}

/* Adds to the model as if it would succeed. */
static void model_publish(unsigned topic, uint64_t number, size_t size)
{
    messages[n_messages++] = (struct model_message){
        {kv_machine_revision(rig.machine) + 1, number}, topic, size, rig.cluster_time_ms, false};
}

static void publish(void)
{
    static uint8_t payloads[OPERATIONS][PAYLOAD_MAX];
    Kv__Publish publishes[OPERATIONS];
    Kv__Request operations[OPERATIONS + 1];
    Kv__Request *pointers[OPERATIONS + 1];
    Kv__GetDel getdel = KV__GET_DEL__INIT;
    Kv__Txn txn = KV__TXN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned n = below(2) ? 1 : 1 + below(OPERATIONS);
    bool fails = below(6) == 0;
    size_t before = n_messages;
    uint64_t left = drops_per_entry;

    rig.cluster_time_ms += below(40);
    end_old();
    for (unsigned i = 0; i < n; i++) {
        unsigned topic = below(TOPICS);
        size_t size = sizeof n_messages + below(PAYLOAD_MAX - sizeof n_messages);

        memcpy(payloads[i], &n_messages, sizeof n_messages);
        kv__publish__init(&publishes[i]);
        publishes[i].topic = machine_rig_bytes(names[topic]);
        publishes[i].payload = (ProtobufCBinaryData){size, payloads[i]};
        kv__request__init(&operations[i]);
        operations[i].command_case = KV__REQUEST__COMMAND_PUBLISH;
        operations[i].publish = &publishes[i];
        pointers[i] = &operations[i];
        model_publish(topic, i, size);
    }
    if (n == 1 && !fails) {
        machine_rig_expect(&rig, &operations[0], KV__CODE__OK);
    } else {
        getdel.key = machine_rig_bytes("not there");
        kv__request__init(&operations[n]);
        operations[n].command_case = KV__REQUEST__COMMAND_GETDEL;
        operations[n].getdel = &getdel;
        pointers[n] = &operations[n];
        txn.n_then = n + fails;
        txn.then = pointers;
        request.command_case = KV__REQUEST__COMMAND_TXN;
        request.txn = &txn;
        n_messages = fails ? before : n_messages;
        machine_rig_expect(&rig, &request, fails ? KV__CODE__NOT_FOUND : KV__CODE__OK);
        n_undone += fails;
    }
    for (size_t i = before; i < n_messages; i++) {
        trim(i, &left);
    }
    assert_int_equal(n_told, n_messages);
}

static void change_setting(void)
{
    switch (below(3)) {
    case 0:
        end_old();
        max_messages = 1 + below(20);
        machine_rig_set(&rig, "topic-messages", max_messages);
        return;
    case 1:
        end_old();
        max_bytes = 1024 + below(1000);
        machine_rig_set(&rig, "topic-bytes", max_bytes);
        return;
    default:
        end_old();
        max_age_ms = 1000 + below(5000);
        machine_rig_set(&rig, "topic-age-ms", max_age_ms);
        return;
    }
}

static void pass_time(void)
{
    rig.cluster_time_ms += below(1500);
    end_old();
    machine_rig_pass_time(&rig, 0);
}

/* ---------------------------------------------------------------- readers */

static struct kv_topic_position now(void)
{
    return (struct kv_topic_position){kv_machine_revision(rig.machine) + 1, 0};
}

static size_t index_of(struct kv_topic_position position)
{
    size_t i = n_messages;

    while (i > 0 && kv_topic_position_compare(messages[i - 1].position, position) >= 0) {
        i--;
    }
    return i;
}

static void open_reader(struct reader *reader)
{
    const char *query = queries[reader - readers];
    struct kv_topic_search search = {now(), now(), below(30)};
    uint64_t left = search.left;
    struct kv_error error;

    *reader = (struct reader){.query.topic = kv_slice_str(query)};
    if (strpbrk(query, "*?[")) {
        assert_int_equal(kv_glob_compile(kv_slice_str(query), &reader->glob, &error), 0);
        reader->query.glob = &reader->glob;
    }
    while (kv_machine_topics_search(rig.machine, &reader->query, &search) == 1) {
    }
    reader->position = search.found;
    reader->next = n_messages;
    for (size_t i = n_messages; i > 0 && left > 0; i--) {
        if (!messages[i - 1].dropped && is_of(reader, messages[i - 1].topic)) {
            reader->next = i - 1;
            left--;
        }
    }
    assert_int_equal(reader->next, index_of(reader->position));
}

/* Those that are not told are dropped, and within what was named as lost. */
static void pass_lost(struct reader *reader, struct kv_topic_position until)
{
    for (; reader->next < n_messages; reader->next++) {
        const struct model_message *message = &messages[reader->next];

        if (kv_topic_position_compare(message->position, until) >= 0) {
            return;
        }
        if (is_of(reader, message->topic)) {
            assert_true(message->dropped);
            assert_true(kv_topic_position_compare(message->position, reader->gap) <= 0);
        }
    }
}

static void on_message(void *arg, const struct kv_topic_message *message)
{
    struct reader *reader = arg;

    assert_true(kv_topic_position_compare(message->position, reader->position) >= 0);
    pass_lost(reader, message->position);
    assert_true(is_of(reader, messages[reader->next].topic));
    assert_false(messages[reader->next].dropped);
    check_message(message, reader->next++);
}

static void read_piece(struct reader *reader)
{
    struct kv_topic_position newest;
    struct kv_topic_position start = reader->position;
    int more;

    while (kv_machine_topics_losses(rig.machine, &reader->query, start, &reader->losses) == 1) {
    }
    newest = reader->losses.newest;
    reader->losses.newest = (struct kv_topic_position){0, 0};
    if (kv_topic_position_compare(newest, start) >= 0) {
        /* Something was dropped there, if perhaps of another topic. */
        assert_true(kv_topic_position_compare(newest, newest_dropped) <= 0);
        reader->gap = kv_topic_position_compare(newest, reader->gap) > 0 ? newest : reader->gap;
        n_gaps++;
    }
    more = kv_machine_topics_read(
        rig.machine, &reader->query, &reader->position, 1 + below(300), on_message, reader);
    pass_lost(reader, reader->position);
    n_fragments += reader->position.number > 0;
    if (!more) {
        assert_int_equal(kv_topic_position_compare(reader->position, now()), 0);
    } else {
        assert_true(kv_topic_position_compare(reader->position, start) >= 0);
    }
}

static void step_reader(void)
{
    struct reader *reader = &readers[below(READERS)];

    if (below(30) == 0) {
        open_reader(reader);
        return;
    }
    for (unsigned n = below(4); n > 0; n--) {
        read_piece(reader);
    }
}

/* ---------------------------------------------------------------- lists */

static void check_list(void)
{
    Kv__TopicList command = KV__TOPIC_LIST__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    char cursor[8] = "";
    unsigned at = 0;
    bool more = true;

    request.command_case = KV__REQUEST__COMMAND_TOPIC_LIST;
    request.topic_list = &command;
    command.limit = 1 + below(TOPICS);
    while (more) {
        Kv__Reply *reply;

        command.cursor = machine_rig_bytes(cursor);
        reply = machine_rig_read(&rig, &request);
        assert_int_equal(reply->code, KV__CODE__OK);
        for (size_t i = 0; i < reply->topic_list->n_topics; i++) {
            const Kv__TopicInfo *info = reply->topic_list->topics[i];
            uint64_t bytes;
            size_t oldest;

            while (count_topic(at, &bytes, &oldest) == 0) {
                at++;
            }
            assert_int_equal(info->messages, count_topic(at, &bytes, &oldest));
            assert_int_equal(info->bytes, bytes);
            assert_true(kv_slice_equal(kv_slice_of(info->topic.data, info->topic.len),
                                       kv_slice_str(names[at])));
            snprintf(cursor, sizeof cursor, "%s", names[at++]);
        }
        more = reply->topic_list->more;
        kv__reply__free_unpacked(reply, NULL);
    }
    for (; at < TOPICS; at++) {
        uint64_t bytes;
        size_t oldest;

        assert_int_equal(count_topic(at, &bytes, &oldest), 0);
    }
}

/* Another one numbers its losses anew. */
static void take_machine(void)
{
    kv_machine_on_publish(rig.machine, on_publish, NULL);
    rig.machine->topics.drops_per_entry = drops_per_entry;
    for (int i = 0; i < READERS; i++) {
        readers[i].losses = (struct kv_topic_losses){0};
    }
}

static void step(void)
{
    unsigned dice = below(100);

    if (dice < 50) {
        publish();
    } else if (dice < 85) {
        step_reader();
    } else if (dice < 90) {
        pass_time();
    } else if (dice < 95) {
        check_list();
    } else if (dice < 98) {
        change_setting();
    } else {
        machine_rig_reload(&rig);
        take_machine();
    }
}

static void run_seed(uint64_t seed)
{
    printf("KV_SEED=%llu\n", (unsigned long long)seed);
    n_messages = n_told = 0;
    newest_dropped = (struct kv_topic_position){0, 0};
    max_messages = KV_TOPIC_MESSAGES_DEFAULT;
    max_bytes = KV_TOPIC_BYTES_DEFAULT;
    max_age_ms = KV_TOPIC_AGE_DEFAULT_MS;
    machine_rig_open(&rig, seed);
    rig.is_still = true;
    drops_per_entry = below(3) == 0 ? KV_TOPIC_DROPS_PER_ENTRY : below(4);
    take_machine();
    for (int i = 0; i < READERS; i++) {
        open_reader(&readers[i]);
    }
    for (int i = 0; i < STEPS; i++) {
        step();
    }
    machine_rig_close(&rig);
}

static void topics_are_what_the_model_says(void **state)
{
    const struct kv_test_seeds seeds = kv_test_seeds(15);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        run_seed(seed);
    }
    assert_true(n_gaps > 0 && n_dropped > 0 && n_undone > 0 && n_fragments > 0 && n_kept > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topics_are_what_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
