/* The judge of histories on counters, and beside writes that its model does not follow: what it
 * must refuse, each with a twin that is good. */
#include "tests/sim/linear.h"
#include "tests/sim/replay.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct kv_history *history;

static size_t ask(Kv__Request__CommandCase command, void *body)
{
    Kv__Request request = KV__REQUEST__INIT;
    size_t op;

    request.command_case = command;
    request.counter_add = body;
    assert_int_equal(kv_history_begin(history, 1, 0, &request, &op), 0);
    return op;
}

static void tell(size_t op, int status, int64_t revision, int64_t value)
{
    Kv__CounterResult result = KV__COUNTER_RESULT__INIT;
    Kv__Reply reply = KV__REPLY__INIT;

    result.value = value;
    reply.code = (Kv__Code)-status;
    reply.revision = revision;
    reply.result_case = status == 0 ? KV__REPLY__RESULT_COUNTER_ADD : KV__REPLY__RESULT__NOT_SET;
    reply.counter_add = status == 0 ? &result : NULL;
    if (status == 0 && history->ops[op].request->command_case == KV__REQUEST__COMMAND_COUNTER_GET) {
        reply.result_case = KV__REPLY__RESULT_COUNTER_GET;
    }
    assert_int_equal(kv_history_end(history, op, 0, 1, status, &reply), 0);
}

static size_t ask_add(int64_t delta, const int64_t *max)
{
    Kv__CounterAdd add = KV__COUNTER_ADD__INIT;
    Kv__Int64Bound bound = KV__INT64_BOUND__INIT;

    add.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "n"};
    add.delta = delta;
    bound.value = max ? *max : 0;
    add.max = max ? &bound : NULL;
    return ask(KV__REQUEST__COMMAND_COUNTER_ADD, &add);
}

static void get(int status, int64_t revision, int64_t value)
{
    Kv__CounterGet get = KV__COUNTER_GET__INIT;

    get.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "n"};
    tell(ask(KV__REQUEST__COMMAND_COUNTER_GET, &get), status, revision, value);
}

static void set(int64_t value, int64_t revision)
{
    Kv__CounterSet set = KV__COUNTER_SET__INIT;

    set.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "n"};
    set.value = value;
    tell(ask(KV__REQUEST__COMMAND_COUNTER_SET, &set), 0, revision, value);
}

static size_t ask_foreign(void)
{
    Kv__Txn txn = KV__TXN__INIT;

    return ask(KV__REQUEST__COMMAND_TXN, &txn);
}

/* ---------------------------------------------------------------- bad ones, and their twins */

static void done_twice(bool bad)
{
    tell(ask_add(3, NULL), 0, 2, 3);
    tell(ask_add(2, NULL), 0, 3, bad ? 7 : 5);
}

static void retried_and_done_twice(bool bad)
{
    (void)ask_add(2, NULL);
    get(0, bad ? 3 : 2, bad ? 4 : 2);
}

static void lost(bool bad)
{
    tell(ask_add(3, NULL), 0, 2, 3);
    get(bad ? KV_NOT_FOUND : 0, 2, 3);
}

static void stale(bool bad)
{
    tell(ask_add(3, NULL), 0, 2, 3);
    set(70, 3);
    get(0, 3, bad ? 3 : 70);
}

static void refused_below_its_bound(bool bad)
{
    const int64_t max = 5;

    tell(ask_add(3, NULL), 0, 2, 3);
    tell(ask_add(bad ? 2 : 3, &max), KV_OUT_OF_BOUNDS, 2, 0);
}

static void done_beyond_its_bound(bool bad)
{
    const int64_t max = 5;

    tell(ask_add(3, NULL), 0, 2, 3);
    tell(ask_add(bad ? 3 : 2, &max), 0, 3, bad ? 6 : 5);
}

static void overflow_where_there_is_none(bool bad)
{
    set(INT64_MAX - 1, 2);
    tell(ask_add(bad ? 1 : 2, NULL), KV_OVERFLOW, 2, 0);
}

static void revision_that_nobody_made(bool bad)
{
    tell(ask_add(1, NULL), 0, 2, 1);
    if (!bad) {
        tell(ask_foreign(), 0, 3, 0);
    }
    get(0, 3, 1);
}

static void revision_before_an_open_write_was_asked(bool bad)
{
    if (!bad) {
        (void)ask_foreign();
    }
    tell(ask_add(1, NULL), 0, 2, 1);
    get(0, 3, 1);
    if (bad) {
        (void)ask_foreign();
    }
}

static void (*const pairs[])(bool bad) = {
    done_twice,
    retried_and_done_twice,
    lost,
    stale,
    refused_below_its_bound,
    done_beyond_its_bound,
    overflow_where_there_is_none,
    revision_that_nobody_made,
    revision_before_an_open_write_was_asked,
};

static enum kv_verdict judge(void (*make)(bool bad), bool bad)
{
    struct kv_report report;

    assert_int_equal(kv_history_open(100, 1 << 20, &history), 0);
    make(bad);
    kv_check_history(history, &(struct kv_check_options){0}, &report);
    kv_history_close(history);
    if (report.verdict == KV_VERDICT_BAD && !bad) {
        print_message("%s\n", report.text);
    }
    return report.verdict;
}

static void bad_ones_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        print_message("pair %zu\n", i);
        assert_int_equal(judge(pairs[i], true), KV_VERDICT_BAD);
    }
}

static void their_good_twins_pass(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++) {
        print_message("pair %zu\n", i);
        assert_int_equal(judge(pairs[i], false), KV_VERDICT_GOOD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bad_ones_are_refused),
        cmocka_unit_test(their_good_twins_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
