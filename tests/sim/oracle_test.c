/* Negative controls of what is judged at the end of a run: each is shown what it must refuse. */
#include "tests/sim/queues.h"

#include "proto/entry.h"
#include "raft/replica.h"

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static struct checkers checkers;
static struct history history;

static int set_up(void **state)
{
    (void)state;
    checkers_init(&checkers, 3);
    history_init(&history);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    checkers_deinit(&checkers);
    history_deinit(&history);
    return 0;
}

static void complains(const char *of)
{
    assert_true(checkers.has_failed);
    if (!strstr(checkers.message, of)) {
        fail_msg("\"%s\" does not say \"%s\"", checkers.message, of);
    }
}

static void is_content(void)
{
    if (checkers.has_failed) {
        fail_msg("%s", checkers.message);
    }
}

/* ---------------------------------------------------------------- histories */

static char key_bytes[] = "k";

static uint64_t id_of(uint64_t number)
{
    return number << HISTORY_ID_SLOT_BITS;
}

static Kv__Request put_request(Kv__Put *put, const char *value, uint64_t id)
{
    Kv__Request request = KV__REQUEST__INIT;

    kv__put__init(put);
    put->key = (ProtobufCBinaryData){1, (uint8_t *)key_bytes};
    put->value = (ProtobufCBinaryData){strlen(value), (uint8_t *)(uintptr_t)value};
    request.id = id;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = put;
    return request;
}

/* Puts the request into the log. */
static void commit(uint64_t index, const Kv__Request *request)
{
    uint8_t packed[256], data[512];
    size_t size = kv__request__pack(request, packed);
    size_t length = kv_entry_write_head(data, KV_MACHINE_VERSION, 1000);

    length += kv_entry_write_request(data + length, kv_slice_of(packed, size));
    checkers_applies(&checkers, 1, index, 1, KV_ENTRY_COMMAND, kv_slice_of(data, length));
}

/* A put that was called, and answered as the first of the log would be. */
static size_t put_call(uint64_t number, uint64_t called_ns, uint64_t returned_ns, int64_t revision)
{
    Kv__Put put;
    Kv__Request request = put_request(&put, "v", id_of(number));
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__PutResult result = KV__PUT_RESULT__INIT;
    size_t call = history_call(&history, 0, called_ns, &request, false);

    history_try(&history, 0, request.id, call);
    reply.id = request.id;
    reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_PUT;
    reply.put = &result;
    result.version = revision - 1;
    history_return(&history, call, returned_ns, 0, &reply);
    return call;
}

static void commit_put(uint64_t index, uint64_t number)
{
    Kv__Put put;
    Kv__Request request = put_request(&put, "v", id_of(number));

    commit(index, &request);
}

/* A read of now (past: 0) or of the past, answered at this revision. */
static void
get_call_at(uint64_t number, uint64_t called_ns, int64_t revision, const char *value, int64_t past)
{
    int64_t mod_revision = past ? past : revision;
    Kv__Get get = KV__GET__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__GetResult result = KV__GET_RESULT__INIT;
    Kv__KeyValue kv = KV__KEY_VALUE__INIT;
    size_t call;

    get.at_revision = past;
    get.key = (ProtobufCBinaryData){1, (uint8_t *)key_bytes};
    request.id = id_of(number);
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    call = history_call(&history, 0, called_ns, &request, false);
    reply.id = request.id;
    reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_GET;
    reply.get = &result;
    result.kv = &kv;
    kv.key = get.key;
    kv.value = (ProtobufCBinaryData){strlen(value), (uint8_t *)(uintptr_t)value};
    kv.type = KV__TYPE__TYPE_STRING;
    kv.create_revision = 2;
    kv.mod_revision = mod_revision;
    kv.version = mod_revision - 1;
    history_return(&history, call, called_ns + 1, 0, &reply);
}

static void get_call(uint64_t number, uint64_t called_ns, int64_t revision, const char *value)
{
    get_call_at(number, called_ns, revision, value, 0);
}

static void good_history(void **state)
{
    (void)state;
    put_call(1, 10, 20, 2);
    commit_put(1, 1);
    get_call(2, 30, 2, "v");
    put_call(3, 40, 50, 3);
    commit_put(2, 3);
    history_check(&history, &checkers, NULL);
    is_content();
}

static void acknowledged_write_is_lost(void **state)
{
    (void)state;
    put_call(1, 10, 20, 2);
    history_check(&history, &checkers, NULL);
    complains("is not in the log");
}

static void write_is_done_twice(void **state)
{
    (void)state;
    put_call(1, 10, 20, 2);
    commit_put(1, 1);
    commit_put(2, 1);
    history_check(&history, &checkers, NULL);
    complains("in the log twice");
}

static void refused_write_is_done(void **state)
{
    Kv__Put put;
    Kv__Request request = put_request(&put, "v", id_of(1));
    size_t call = history_call(&history, 0, 10, &request, false);

    (void)state;
    history_try(&history, 0, request.id, call);
    history_return(&history, call, 20, KV_BUSY, NULL);
    commit_put(1, 1);
    history_check(&history, &checkers, NULL);
    complains("was refused (BUSY) and is in the log");
}

static void invented_request(void **state)
{
    (void)state;
    commit_put(1, 1);
    history_check(&history, &checkers, NULL);
    complains("nobody sent");
}

static void wrong_answer_to_a_write(void **state)
{
    (void)state;
    put_call(1, 10, 20, 3);
    commit_put(1, 1);
    history_check(&history, &checkers, NULL);
    complains("the log says");
}

static void wrong_answer_to_a_read(void **state)
{
    (void)state;
    put_call(1, 10, 20, 2);
    commit_put(1, 1);
    get_call(2, 30, 2, "w");
    history_check(&history, &checkers, NULL);
    complains("where the log says otherwise");
}

static void stale_read(void **state)
{
    (void)state;
    put_call(1, 10, 20, 2);
    commit_put(1, 1);
    put_call(2, 30, 40, 3);
    commit_put(2, 2);
    get_call(3, 50, 2, "v");
    history_check(&history, &checkers, NULL);
    complains("stale: get");
}

static void call_without_end(void **state)
{
    Kv__Put put;
    Kv__Request request = put_request(&put, "v", id_of(1));

    (void)state;
    (void)history_call(&history, 0, 10, &request, false);
    history_check(&history, &checkers, NULL);
    complains("never ended");
}

/* Compaction to revision 3, the present one. */
static void compact(uint64_t number, uint64_t index, uint64_t called_ns, uint64_t returned_ns)
{
    Kv__Compact command = KV__COMPACT__INIT;
    Kv__CompactResult result = KV__COMPACT_RESULT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply reply = KV__REPLY__INIT;
    size_t call;

    request.id = id_of(number);
    request.command_case = KV__REQUEST__COMMAND_COMPACT;
    request.compact = &command;
    command.revision = 3;
    call = history_call(&history, 0, called_ns, &request, false);
    history_try(&history, 0, request.id, call);
    commit(index, &request);
    reply.id = request.id;
    reply.revision = 3;
    reply.result_case = KV__REPLY__RESULT_COMPACT;
    reply.compact = &result;
    result.oldest_revision = 3;
    history_return(&history, call, returned_ns, 0, &reply);
}

static void a_compaction(uint64_t read_ns)
{
    put_call(1, 10, 20, 2);
    commit_put(1, 1);
    put_call(2, 30, 40, 3);
    commit_put(2, 2);
    compact(3, 3, 50, 60);
    get_call_at(4, read_ns, 3, "v", 2);
    history_check(&history, &checkers, NULL);
}

static void a_read_beside_a_compaction(void **state)
{
    (void)state;
    a_compaction(55);
    is_content();
}

static void a_read_of_what_was_compacted(void **state)
{
    (void)state;
    a_compaction(70);
    complains("before it was asked a compaction had left 3");
}

/* ---------------------------------------------------------------- queues */

static struct kv_slice slice(const char *text)
{
    return kv_slice_of(text, strlen(text));
}

static struct queue_fact
fact(enum queue_fact_kind kind, const char *value, int64_t revision, size_t place)
{
    return (struct queue_fact){.kind = kind,
                               .key = slice("q"),
                               .value = slice(value),
                               .revision = revision,
                               .place = place};
}

static void judge(const struct queue_fact *given, size_t n)
{
    struct queue_fact facts[8];

    memcpy(facts, given, n * sizeof *facts);
    queues_judge(&checkers, facts, n);
}
#define JUDGE(...)                                  \
    judge((const struct queue_fact[]){__VA_ARGS__}, \
          sizeof((const struct queue_fact[]){__VA_ARGS__}) / sizeof(struct queue_fact))

static void a_good_queue(void **state)
{
    struct queue_fact missed = fact(QUEUE_MISSED, "", 0, 0);

    (void)state;
    missed.count = 1;
    JUDGE(fact(QUEUE_PUSHED, "b", 2, 0),
          fact(QUEUE_PUSHED, "a", 2, 1),
          fact(QUEUE_PUSHED, "c", 3, 0),
          fact(QUEUE_PUSHED, "d", 0, 0),
          missed,
          fact(QUEUE_POPPED, "b", 4, 0),
          fact(QUEUE_POPPED, "a", 5, 0));
    is_content();
}

static void a_value_is_given_twice(void **state)
{
    (void)state;
    JUDGE(fact(QUEUE_PUSHED, "a", 2, 0),
          fact(QUEUE_POPPED, "a", 3, 0),
          fact(QUEUE_POPPED, "a", 4, 0));
    complains("was given twice");
}

static void a_value_is_given_and_stays(void **state)
{
    (void)state;
    JUDGE(
        fact(QUEUE_PUSHED, "a", 2, 0), fact(QUEUE_POPPED, "a", 3, 0), fact(QUEUE_LEFT, "a", 0, 0));
    complains("was given twice");
}

static void a_value_is_lost(void **state)
{
    (void)state;
    JUDGE(
        fact(QUEUE_PUSHED, "a", 2, 0), fact(QUEUE_PUSHED, "b", 2, 1), fact(QUEUE_LEFT, "b", 0, 0));
    complains("the value a of the queue q is lost");
}

static void more_is_lost_than_was_missed(void **state)
{
    struct queue_fact missed = fact(QUEUE_MISSED, "", 0, 0);

    (void)state;
    missed.count = 1;
    JUDGE(fact(QUEUE_PUSHED, "a", 2, 0), fact(QUEUE_PUSHED, "b", 2, 1), missed);
    complains("is lost");
}

static void an_invented_value(void **state)
{
    (void)state;
    JUDGE(fact(QUEUE_POPPED, "a", 2, 0));
    complains("was never pushed");
}

static void a_refused_value_comes(void **state)
{
    struct queue_fact push = fact(QUEUE_PUSHED, "a", 0, 0);

    (void)state;
    push.refused = true;
    JUDGE(push, fact(QUEUE_POPPED, "a", 2, 0));
    complains("was refused and came");
}

static void a_value_comes_before_it_was_pushed(void **state)
{
    (void)state;
    JUDGE(fact(QUEUE_PUSHED, "a", 3, 0), fact(QUEUE_POPPED, "a", 3, 0));
    complains("before it was pushed");
}

static void values_overtake(void **state)
{
    (void)state;
    JUDGE(fact(QUEUE_PUSHED, "a", 2, 0),
          fact(QUEUE_PUSHED, "b", 2, 1),
          fact(QUEUE_POPPED, "b", 3, 0),
          fact(QUEUE_POPPED, "a", 4, 0));
    complains("left behind one that was pushed later");
}

static void what_is_left_was_overtaken(void **state)
{
    (void)state;
    JUDGE(fact(QUEUE_PUSHED, "a", 2, 0),
          fact(QUEUE_PUSHED, "b", 3, 0),
          fact(QUEUE_POPPED, "b", 4, 0),
          fact(QUEUE_LEFT, "a", 0, 0));
    complains("left behind one that was pushed later");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(good_history),
        WITH(acknowledged_write_is_lost),
        WITH(write_is_done_twice),
        WITH(refused_write_is_done),
        WITH(invented_request),
        WITH(wrong_answer_to_a_write),
        WITH(wrong_answer_to_a_read),
        WITH(stale_read),
        WITH(call_without_end),
        WITH(a_read_beside_a_compaction),
        WITH(a_read_of_what_was_compacted),
        WITH(a_good_queue),
        WITH(a_value_is_given_twice),
        WITH(a_value_is_given_and_stays),
        WITH(a_value_is_lost),
        WITH(more_is_lost_than_was_missed),
        WITH(an_invented_value),
        WITH(a_refused_value_comes),
        WITH(a_value_comes_before_it_was_pushed),
        WITH(values_overtake),
        WITH(what_is_left_was_overtaken),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
