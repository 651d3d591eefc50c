/* Negative controls of the checkers of histories: each kind of bad history is refused, by the
 * checkers that can see it, with the name of the key; the same history without the fault passes. */
#include "common/limits.h"
#include "tests/sim/linear.h"
#include "tests/sim/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct kv_history *history;
static int64_t now_ns;

static ProtobufCBinaryData bytes_of(const char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)(uintptr_t)text};
}

/* --- a small language of histories --- */

static size_t ask(uint64_t client, const Kv__Request *request)
{
    size_t op;

    assert_int_equal(kv_history_begin(history, client, now_ns += 1000, request, &op), 0);
    return op;
}

static void tell(size_t op, int status, const Kv__Reply *reply)
{
    assert_int_equal(kv_history_end(history, op, now_ns += 1000, 1, status, reply), 0);
}

static void refuse(size_t op, int status, int64_t revision)
{
    Kv__Reply reply = KV__REPLY__INIT;

    reply.code = (Kv__Code)-status;
    reply.revision = revision;
    tell(op, status, &reply);
}

static size_t ask_put(uint64_t client, const char *key, const char *value)
{
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    put.key = bytes_of(key);
    put.value = bytes_of(value);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    return ask(client, &request);
}

static size_t ask_put_if_absent(uint64_t client, const char *key, const char *value)
{
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    put.key = bytes_of(key);
    put.value = bytes_of(value);
    put.condition_case = KV__PUT__CONDITION_IF_ABSENT;
    put.if_absent = true;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    return ask(client, &request);
}

static void tell_put(size_t op, int64_t revision, int64_t version)
{
    Kv__PutResult result = KV__PUT_RESULT__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    result.version = version;
    reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_PUT;
    reply.put = &result;
    tell(op, 0, &reply);
}

static void put(const char *key, const char *value, int64_t revision, int64_t version)
{
    tell_put(ask_put(1, key, value), revision, version);
}

static size_t ask_append(uint64_t client, const char *key, const char *value)
{
    Kv__Append append = KV__APPEND__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    append.key = bytes_of(key);
    append.value = bytes_of(value);
    request.command_case = KV__REQUEST__COMMAND_APPEND;
    request.append = &append;
    return ask(client, &request);
}

static void tell_append(size_t op, int64_t revision, uint64_t length)
{
    Kv__AppendResult result = KV__APPEND_RESULT__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    result.length = length;
    reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_APPEND;
    reply.append = &result;
    tell(op, 0, &reply);
}

static size_t ask_get(uint64_t client, const char *key, int64_t at_revision, bool serializable)
{
    Kv__Get get = KV__GET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    get.key = bytes_of(key);
    get.at_revision = at_revision;
    request.serializable = serializable;
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    return ask(client, &request);
}

static Kv__KeyValue
pair_of(const char *key, const char *value, int64_t create, int64_t mod, int64_t version)
{
    Kv__KeyValue pair = KV__KEY_VALUE__INIT;

    pair.key = bytes_of(key);
    pair.value = bytes_of(value);
    pair.type = KV__TYPE__TYPE_STRING;
    pair.create_revision = create;
    pair.mod_revision = mod;
    pair.version = version;
    return pair;
}

/* value NULL: not found. All keys of these histories are created once: mod tells version - 1
 * changes since. */
static void tell_get(
    size_t op, int64_t revision, const char *value, int64_t create, int64_t mod, int64_t version)
{
    Kv__KeyValue pair = pair_of("", value ? value : "", create, mod, version);
    Kv__GetResult result = KV__GET_RESULT__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    if (!value) {
        refuse(op, KV_NOT_FOUND, revision);
        return;
    }
    pair.key = history->ops[op].request->get->key;
    result.kv = &pair;
    reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_GET;
    reply.get = &result;
    tell(op, 0, &reply);
}

static void get(const char *key,
                int64_t revision,
                const char *value,
                int64_t create,
                int64_t mod,
                int64_t version)
{
    tell_get(ask_get(2, key, 0, false), revision, value, create, mod, version);
}

static void delete_keys(const char *a, const char *b, int64_t revision, uint64_t deleted)
{
    ProtobufCBinaryData keys[] = {bytes_of(a), bytes_of(b ? b : "")};
    Kv__Delete command = KV__DELETE__INIT;
    Kv__DeleteResult result = KV__DELETE_RESULT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    command.n_keys = b ? 2 : 1;
    command.keys = keys;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    result.deleted = deleted;
    reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_DELETE;
    reply.delete_ = &result;
    tell(ask(3, &request), 0, &reply);
}

static size_t ask_range(uint64_t client, bool stream)
{
    Kv__KeyRange bounds = KV__KEY_RANGE__INIT;
    Kv__Range range = KV__RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    bounds.special = KV__KEY_RANGE__SPECIAL__ALL;
    range.range = &bounds;
    range.stream = stream;
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &range;
    return ask(client, &request);
}

static void tell_range(size_t op, int64_t revision, size_t n, Kv__KeyValue *pairs)
{
    Kv__KeyValue *pointers[] = {&pairs[0], n > 1 ? &pairs[1] : NULL};
    Kv__RangeResult result = KV__RANGE_RESULT__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    result.n_kvs = result.count = n;
    result.kvs = pointers;
    result.revision = reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_RANGE;
    reply.range = &result;
    tell(op, 0, &reply);
}

static void tell_piece(size_t op, int64_t revision, Kv__KeyValue pair)
{
    Kv__KeyValue *pointers[] = {&pair};
    Kv__RangeResult result = KV__RANGE_RESULT__INIT;
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;

    result.n_kvs = result.count = 1;
    result.kvs = pointers;
    result.revision = item.revision = revision;
    item.item_case = KV__STREAM_ITEM__ITEM_RANGE;
    item.range = &result;
    assert_int_equal(kv_history_item(history, op, &item), 0);
}

static void count(int64_t revision, uint64_t n)
{
    Kv__KeyRange bounds = KV__KEY_RANGE__INIT;
    Kv__Count command = KV__COUNT__INIT;
    Kv__CountResult result = KV__COUNT_RESULT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    bounds.special = KV__KEY_RANGE__SPECIAL__ALL;
    command.range = &bounds;
    request.command_case = KV__REQUEST__COMMAND_COUNT;
    request.count = &command;
    result.count = n;
    reply.revision = revision;
    reply.result_case = KV__REPLY__RESULT_COUNT;
    reply.count = &result;
    tell(ask(4, &request), 0, &reply);
}

/* --- bad histories, and their good twins --- */

static void stale_read(bool bad)
{
    put("k", "one", 2, 1);
    put("k", "two", 3, 2);
    if (bad) {
        get("k", 2, "one", 2, 2, 1);
    } else {
        get("k", 3, "two", 2, 3, 2);
    }
}

static void stale_value_with_a_new_revision(bool bad)
{
    put("k", "one", 2, 1);
    put("k", "two", 3, 2);
    put("other", "x", 4, 1);
    if (bad) {
        get("k", 4, "one", 2, 2, 1);
    } else {
        get("k", 4, "two", 2, 3, 2);
    }
}

static void lost_write(bool bad)
{
    put("k", "one", 2, 1);
    get("k", 2, bad ? NULL : "one", 2, 2, 1);
}

static void write_lost_later(bool bad)
{
    put("k", "one", 2, 1);
    put("k", "two", 3, 2);
    get("k", 3, "two", 2, 3, 2);
    put("k", "three", bad ? 3 : 4, bad ? 2 : 3);
}

static void append_done_twice(bool bad)
{
    tell_append(ask_append(1, "k", "a"), 2, 1);
    if (bad) {
        get("k", 3, "aa", 2, 3, 2);
    } else {
        get("k", 2, "a", 2, 2, 1);
    }
}

static void reordered_writes(bool bad)
{
    put("k", "one", bad ? 3 : 2, bad ? 2 : 1);
    put("k", "two", bad ? 2 : 3, bad ? 1 : 2);
}

static void read_from_the_future(bool bad)
{
    size_t op;

    put("k", "one", 2, 1);
    if (bad) {
        get("k", 3, "two", 2, 3, 2);
        op = ask_put(1, "k", "two");
    } else {
        op = ask_put(1, "k", "two");
        get("k", 3, "two", 2, 3, 2);
    }
    tell_put(op, 3, 2);
}

static void open_append_done_twice(bool bad)
{
    (void)ask_append(5, "k", "x");
    get("k", 2, "x", 2, 2, 1);
    if (bad) {
        get("k", 3, "xx", 2, 3, 2);
    } else {
        get("k", 2, "x", 2, 2, 1);
    }
}

static void open_put_done_twice(bool bad)
{
    refuse(ask_put(5, "k", "open"), KV_OUTCOME_UNKNOWN, 0);
    get("k", 2, "open", 2, 2, 1);
    put("k", "two", 3, 2);
    if (bad) {
        get("k", 4, "open", 2, 4, 3);
    } else {
        get("k", 3, "two", 2, 3, 2);
    }
}

static void invented_value(bool bad)
{
    put("k", "one", 2, 1);
    get("k", 2, bad ? "invented" : "one", 2, 2, 1);
}

static void invented_key(bool bad)
{
    (void)ask_put(5, bad ? "other" : "k", "one");
    get("k", 2, "one", 2, 2, 1);
}

static void refused_write_done(bool bad)
{
    refuse(ask_put(5, "k", "one"), bad ? KV_BUSY : KV_DEADLINE, 0);
    get("k", 2, "one", 2, 2, 1);
}

static void revision_goes_back(bool bad)
{
    put("k", "one", 2, 1);
    put("other", "x", 3, 1);
    get("k", 3, "one", 2, 2, 1);
    get("k", bad ? 2 : 3, "one", 2, 2, 1);
}

static void deleted_key_returns(bool bad)
{
    put("k", "one", 2, 1);
    delete_keys("k", NULL, 3, 1);
    get("k", 3, bad ? "one" : NULL, 2, 2, 1);
}

static void created_twice(bool bad)
{
    tell_put(ask_put_if_absent(1, "k", "one"), 2, 1);
    if (bad) {
        tell_put(ask_put_if_absent(2, "k", "two"), 3, 2);
    } else {
        refuse(ask_put_if_absent(2, "k", "two"), KV_EXISTS, 2);
    }
}

static void refused_without_reason(bool bad)
{
    put("other", "x", 2, 1);
    if (bad) {
        refuse(ask_put_if_absent(2, "k", "two"), KV_EXISTS, 2);
    } else {
        tell_put(ask_put_if_absent(2, "k", "two"), 3, 1);
    }
}

static void range_of_two_revisions(bool bad)
{
    size_t op;
    Kv__KeyValue pairs[2];

    put("k", "one", 2, 1);
    put("l", "one", 3, 1);
    op = ask_range(2, false);
    put("k", "two", 4, 2);
    put("l", "two", 5, 2);
    pairs[0] = bad ? pair_of("k", "one", 2, 2, 1) : pair_of("k", "two", 2, 4, 2);
    pairs[1] = pair_of("l", "two", 3, 5, 2);
    tell_range(op, 5, 2, pairs);
}

static void range_without_a_key(bool bad)
{
    Kv__KeyValue pairs[] = {pair_of("j", "one", 2, 2, 1), pair_of("k", "one", 3, 3, 1)};

    put("j", "one", 2, 1);
    put("k", "one", 3, 1);
    tell_range(ask_range(2, false), 3, bad ? 1 : 2, pairs);
}

static void range_out_of_order(bool bad)
{
    Kv__KeyValue pairs[] = {pair_of("k", "one", 2, 2, 1), pair_of("l", "one", 3, 3, 1)};
    Kv__KeyValue first = pairs[0];

    put("k", "one", 2, 1);
    put("l", "one", 3, 1);
    if (bad) {
        pairs[0] = pairs[1];
        pairs[1] = first;
    }
    tell_range(ask_range(2, false), 3, 2, pairs);
}

static void pieces_of_two_revisions(bool bad)
{
    size_t op;

    put("j", "one", 2, 1);
    put("k", "one", 3, 1);
    op = ask_range(2, true);
    tell_piece(op, 3, pair_of("j", "one", 2, 2, 1));
    put("k", "two", 4, 2);
    tell_piece(op, bad ? 4 : 3, bad ? pair_of("k", "two", 3, 4, 2) : pair_of("k", "one", 3, 3, 1));
    tell(op, 0, NULL);
}

static void wrong_count(bool bad)
{
    put("k", "one", 2, 1);
    count(2, bad ? 2 : 1);
}

static void wrong_deleted(bool bad)
{
    put("k", "one", 2, 1);
    put("l", "one", 3, 1);
    delete_keys("k", "l", 4, bad ? 1 : 2);
}

static void one_revision_made_twice(bool bad)
{
    size_t op = ask_put(5, "j", "one");

    put("k", "one", 2, 1);
    tell_put(op, bad ? 2 : 3, 1);
}

static void revision_of_nobody(bool bad)
{
    put("k", "one", bad ? 3 : 2, 1);
}

static void serializable_reads_go_back(bool bad)
{
    put("k", "one", 2, 1);
    put("k", "two", 3, 2);
    tell_get(ask_get(2, "k", 0, true), 3, "two", 2, 3, 2);
    tell_get(ask_get(bad ? 2 : 3, "k", 0, true), 2, "one", 2, 2, 1);
}

static void serializable_read_of_no_state(bool bad)
{
    put("k", "one", 2, 1);
    put("k", "two", 3, 2);
    tell_get(ask_get(2, "k", 0, true), 2, bad ? "two" : "one", 2, 2, 1);
}

static void past_that_was_not(bool bad)
{
    put("k", "one", 2, 1);
    put("k", "two", 3, 2);
    tell_get(ask_get(2, "k", 2, false), 3, bad ? "two" : "one", 2, bad ? 3 : 2, bad ? 2 : 1);
}

static void revision_of_another_key(bool bad)
{
    put("j", "one", 2, 1);
    put("k", "one", 3, 1);
    get("k", 3, "one", bad ? 2 : 3, bad ? 2 : 3, 1);
}

enum { LINEAR = 1, REPLAY = 2, EITHER = LINEAR | REPLAY, TAKING_APART = 4 };

static const struct control {
    const char *name;
    void (*build)(bool bad);
    unsigned found_by;
} controls[] = {
    {"stale read", stale_read, EITHER},
    {"stale value with a new revision", stale_value_with_a_new_revision, EITHER},
    {"lost write", lost_write, EITHER},
    {"write lost later", write_lost_later, EITHER},
    {"append done twice", append_done_twice, EITHER},
    {"reordered writes", reordered_writes, EITHER},
    {"read from the future", read_from_the_future, EITHER},
    {"open append done twice", open_append_done_twice, EITHER},
    {"open put done twice", open_put_done_twice, EITHER},
    {"invented value", invented_value, EITHER},
    {"invented key", invented_key, EITHER},
    {"refused write done", refused_write_done, EITHER},
    {"revision goes back", revision_goes_back, EITHER},
    {"deleted key returns", deleted_key_returns, EITHER},
    {"created twice", created_twice, EITHER},
    {"refused without reason", refused_without_reason, EITHER},
    {"range of two revisions", range_of_two_revisions, EITHER},
    {"range without a key", range_without_a_key, EITHER},
    {"range out of order", range_out_of_order, TAKING_APART},
    {"pieces of two revisions", pieces_of_two_revisions, TAKING_APART},
    {"wrong count", wrong_count, REPLAY},
    {"wrong number of deleted keys", wrong_deleted, REPLAY},
    {"one revision made twice", one_revision_made_twice, REPLAY},
    {"revision of nobody", revision_of_nobody, REPLAY},
    {"serializable reads go back", serializable_reads_go_back, REPLAY},
    {"serializable read of no state", serializable_read_of_no_state, REPLAY},
    {"a past that was not", past_that_was_not, REPLAY},
    {"revision of another key", revision_of_another_key, EITHER},
};

static void build(const struct control *control, bool bad)
{
    now_ns = 0;
    assert_int_equal(kv_history_open(64, KV_MIB, &history), 0);
    control->build(bad);
}

/* Which of the checkers complain. */
static unsigned find(struct kv_report *report)
{
    static const struct kv_check_options limits = {.steps_max = 100000, .memo_max = 10000};
    struct kv_touches touches;
    struct kv_report own;
    unsigned found_by;

    memset(report, 0, sizeof *report);
    kv_touches_init(&touches, history, 10000, report);
    found_by = report->verdict == KV_VERDICT_BAD ? TAKING_APART : 0;
    memset(&own, 0, sizeof own);
    kv_linear_check(&touches, &limits, &own);
    found_by |= own.verdict == KV_VERDICT_BAD ? LINEAR : 0;
    *report = own.verdict == KV_VERDICT_BAD ? own : *report;
    memset(&own, 0, sizeof own);
    kv_replay_check(&touches, &own);
    assert_true(own.replayed || own.verdict == KV_VERDICT_BAD);
    found_by |= own.verdict == KV_VERDICT_BAD ? REPLAY : 0;
    *report = own.verdict == KV_VERDICT_BAD ? own : *report;
    kv_touches_deinit(&touches);
    return found_by;
}

static void test_each_bad_history_is_refused(void **state)
{
    static struct kv_report report;

    (void)state;
    for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
        unsigned found_by;

        build(&controls[i], true);
        found_by = find(&report);
        if ((found_by & controls[i].found_by) != controls[i].found_by ||
            strcmp(report.key, "\"k\"") != 0) {
            fail_msg(
                "%s: found by %u, key %s: %s", controls[i].name, found_by, report.key, report.text);
        }
        kv_check_history(history, NULL, &report);
        assert_int_equal(report.verdict, KV_VERDICT_BAD);
        assert_non_null(strstr(report.text, "key \"k\": "));
        kv_history_close(history);
    }
}

static void test_their_good_twins_pass(void **state)
{
    static struct kv_report report;

    (void)state;
    for (size_t i = 0; i < sizeof controls / sizeof controls[0]; i++) {
        build(&controls[i], false);
        kv_check_history(history, NULL, &report);
        if (report.verdict != KV_VERDICT_GOOD) {
            fail_msg("%s, without the fault: %s", controls[i].name, report.text);
        }
        kv_history_close(history);
    }
}

/* Among much that is good, the complaint is about the few operations that contradict. */
static void test_a_complaint_is_small(void **state)
{
    static struct kv_report report;
    size_t lines = 0;

    (void)state;
    now_ns = 0;
    assert_int_equal(kv_history_open(1000, KV_MIB, &history), 0);
    for (int64_t i = 0; i < 200; i++) {
        put("k", "value", 2 + i, 1 + i);
        get("k", 2 + i, i == 100 ? "other" : "value", 2, 2 + i, 1 + i);
    }
    kv_check_history(history, NULL, &report);
    assert_int_equal(report.verdict, KV_VERDICT_BAD);
    for (const char *c = strstr(report.text, "not linearizable"); *c; c++) {
        lines += *c == '\n';
    }
    assert_in_range(lines, 2, 6);
    assert_non_null(strstr(report.text, "#201 client 2"));
    assert_non_null(strstr(report.text, "\"other\" (version 101, created at 2, mod_revision 102)"));
    kv_history_close(history);
}

/* Many writes of unknown outcome and no revisions: there is much to try. */
static void test_the_search_gives_up(void **state)
{
    static const struct kv_check_options few_steps = {.steps_max = 1000};
    static const struct kv_check_options small_memo = {.memo_max = 100};
    static const struct kv_check_options few_touches = {.touches_max = 10};
    const struct kv_check_options *options[] = {&few_steps, &small_memo, &few_touches};
    static struct kv_report report;

    (void)state;
    assert_int_equal(kv_history_open(100, KV_MIB, &history), 0);
    for (unsigned i = 0; i < 20; i++) {
        char value[2] = {(char)('a' + i), '\0'};

        (void)ask_append(10 + i, "k", value);
    }
    tell_append(ask_append(1, "k", "z"), 0, 10);
    get("k", 0, "tsrqponmlz", 2, 12, 10);
    tell_append(ask_append(1, "k", "z"), 0, 5);
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) {
        kv_check_history(history, options[i], &report);
        assert_int_equal(report.verdict, KV_VERDICT_GAVE_UP);
        assert_int_equal(report.keys_given_up, 1);
    }
    kv_history_close(history);
}

static void test_a_full_history_says_so(void **state)
{
    Kv__Request request = KV__REQUEST__INIT;
    size_t op;

    (void)state;
    assert_int_equal(kv_history_open(1, KV_MIB, &history), 0);
    request.command_case = KV__REQUEST__COMMAND__NOT_SET;
    assert_int_equal(kv_history_begin(history, 1, 0, &request, &op), 0);
    assert_int_equal(kv_history_begin(history, 1, 0, &request, &op), KV_TOO_LARGE);
    kv_history_close(history);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_bad_history_is_refused),
        cmocka_unit_test(test_their_good_twins_pass),
        cmocka_unit_test(test_a_complaint_is_small),
        cmocka_unit_test(test_the_search_gives_up),
        cmocka_unit_test(test_a_full_history_says_so),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
