/* Exactly-once sessions in the machine: each rule of data-model.md, and what bad stamps get. */
#include "server/machine/machine_internal.h"
#include "server/machine/snapshot.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

struct got {
    Kv__Code code;
    int64_t revision;
    uint64_t id;
    uint64_t length;  /* of an append */
    uint64_t session; /* of an open */
    size_t value_size;
    bool has_result;
    char message[KV_ERROR_MESSAGE_SIZE];
};

static struct kv_machine *machine;
static uint64_t entry_index;
static int64_t time_ms;
static uint64_t request_id;

static void on_reply(void *arg, Kv__Reply *reply)
{
    struct got *got = arg;

    *got = (struct got){.code = reply->code, .revision = reply->revision, .id = reply->id};
    got->has_result = reply->result_case != KV__REPLY__RESULT__NOT_SET;
    snprintf(got->message, sizeof got->message, "%s", reply->message);
    if (reply->result_case == KV__REPLY__RESULT_APPEND) {
        got->length = reply->append->length;
    }
    if (reply->result_case == KV__REPLY__RESULT_SESSION_OPEN) {
        got->session = reply->session_open->session_id;
    }
    if (reply->result_case == KV__REPLY__RESULT_GETDEL) {
        got->value_size = reply->getdel->kv->value.len;
    }
}

static int set_up(void **state)
{
    (void)state;
    entry_index = 0;
    time_ms = 0;
    return kv_machine_open(&machine);
}

static int tear_down(void **state)
{
    (void)state;
    kv_machine_check_invariants(machine);
    kv_machine_close(machine);
    return 0;
}

static struct got run(Kv__Request *request)
{
    struct got got = {.code = KV__CODE__INTERNAL};

    request->id = ++request_id;
    request->deadline_ms = (uint32_t)(request_id * 7);
    assert_int_equal(kv_machine_begin(machine, ++entry_index, KV_MACHINE_VERSION, time_ms), 0);
    kv_machine_execute(machine, request, on_reply, &got);
    kv_machine_end(machine);
    assert_true(got.id == request->id);
    return got;
}

static void pass(int64_t ms)
{
    time_ms += ms;
    assert_int_equal(kv_machine_begin(machine, ++entry_index, KV_MACHINE_VERSION, time_ms), 0);
    kv_machine_end(machine);
}

static struct got open_with(uint64_t ttl_ms, bool ordered)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;

    open.ttl_ms = ttl_ms;
    open.ordered = ordered;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    return run(&request);
}

static uint64_t open_session(bool ordered)
{
    struct got got = open_with(0, ordered);

    assert_int_equal(got.code, KV__CODE__OK);
    return got.session;
}

static struct got renew(uint64_t id)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionRenew renew = KV__SESSION_RENEW__INIT;

    renew.session_id = id;
    request.command_case = KV__REQUEST__COMMAND_SESSION_RENEW;
    request.session_renew = &renew;
    return run(&request);
}

static struct got close_session(uint64_t id)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionClose close = KV__SESSION_CLOSE__INIT;

    close.session_id = id;
    request.command_case = KV__REQUEST__COMMAND_SESSION_CLOSE;
    request.session_close = &close;
    return run(&request);
}

static void set_setting(const char *name, uint64_t value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ConfigSet set = KV__CONFIG_SET__INIT;

    set.name = (char *)(uintptr_t)name;
    set.value = value;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &set;
    assert_int_equal(run(&request).code, KV__CODE__OK);
}

static ProtobufCBinaryData text(const char *string)
{
    return (ProtobufCBinaryData){strlen(string), (uint8_t *)(uintptr_t)string};
}

/* Appends in the session; the length that is answered tells whether it was done again. */
static struct got append(uint64_t session, uint64_t sequence, uint64_t through, const char *value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__Append append = KV__APPEND__INIT;

    stamp.session_id = session;
    stamp.sequence = sequence;
    stamp.acknowledged_through = through;
    append.key = text("key");
    append.value = text(value);
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_APPEND;
    request.append = &append;
    return run(&request);
}

static uint64_t hash(void)
{
    return kv_machine_state_hash(machine);
}

/* Refused so, and nothing is changed by it. */
static void
refuses(uint64_t session, uint64_t sequence, uint64_t through, Kv__Code code, const char *why)
{
    uint64_t before = hash();
    int64_t revision = kv_machine_revision(machine);
    struct got got = append(session, sequence, through, "refused");

    assert_int_equal(got.code, code);
    assert_non_null(strstr(got.message, why));
    assert_true(hash() == before);
    assert_int_equal(kv_machine_revision(machine), revision);
}

/* ---------------------------------------------------------------- stamps */

static void a_retry_gets_the_same_answer_and_does_nothing(void **state)
{
    uint64_t session = open_session(false);
    struct got first = append(session, 1, 0, "abc");
    struct got again;
    uint64_t before;

    (void)state;
    assert_int_equal(first.code, KV__CODE__OK);
    assert_int_equal(first.length, 3);
    assert_int_equal(append(session, 2, 0, "de").length, 5);
    before = hash();
    again = append(session, 1, 0, "abc");
    assert_int_equal(again.code, KV__CODE__OK);
    assert_int_equal(again.length, 3);
    assert_int_equal(again.revision, first.revision);
    assert_true(hash() == before);
    assert_int_equal(kv_machine_revision(machine), first.revision + 1);
}

static void an_error_is_recorded_too(void **state)
{
    uint64_t session = open_session(false);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__GetDel getdel = KV__GET_DEL__INIT;

    (void)state;
    stamp.session_id = session;
    stamp.sequence = 1;
    getdel.key = text("key");
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_GETDEL;
    request.getdel = &getdel;
    assert_int_equal(run(&request).code, KV__CODE__NOT_FOUND);
    assert_int_equal(append(session, 2, 0, "abc").code, KV__CODE__OK);
    assert_int_equal(run(&request).code, KV__CODE__NOT_FOUND);
    assert_int_equal(append(session, 3, 1, "d").length, 4);
}

static void sequences_run_in_any_order(void **state)
{
    uint64_t session = open_session(false);

    (void)state;
    assert_int_equal(append(session, 3, 0, "c").length, 1);
    assert_int_equal(append(session, 1024, 0, "d").length, 2);
    assert_int_equal(append(session, 1, 0, "a").length, 3);
    assert_int_equal(append(session, 2, 0, "b").length, 4);
    assert_int_equal(append(session, 1024, 0, "d").length, 2);
    assert_int_equal(append(session, 1030, 1000, "e").length, 5);
    assert_int_equal(append(session, 1024, 1000, "d").length, 2);
}

static void an_ordered_session_waits_for_the_one_before(void **state)
{
    uint64_t session = open_session(true);

    (void)state;
    refuses(session, 2, 0, KV__CODE__BUSY, "waits for the one before");
    assert_int_equal(append(session, 1, 0, "a").length, 1);
    assert_int_equal(append(session, 2, 0, "b").length, 2);
    assert_int_equal(append(session, 1, 0, "a").length, 1);
    refuses(session, 4, 0, KV__CODE__BUSY, "waits");
    /* The client gave 3 up. */
    assert_int_equal(append(session, 4, 3, "d").length, 3);
}

static void an_acknowledged_sequence_is_not_done_again(void **state)
{
    uint64_t session = open_session(false);

    (void)state;
    assert_int_equal(append(session, 1, 0, "a").length, 1);
    assert_int_equal(append(session, 3, 2, "c").length, 2);
    refuses(session, 1, 0, KV__CODE__INVALID, "acknowledged");
    /* Never came, and was given up: it must not be done late. */
    refuses(session, 2, 0, KV__CODE__INVALID, "acknowledged");
    assert_int_equal(append(session, 3, 0, "c").length, 2);
}

static void bad_stamps_change_nothing(void **state)
{
    uint64_t session = open_session(false);

    (void)state;
    assert_int_equal(append(session, 1, 0, "a").length, 1);
    refuses(session, 0, 0, KV__CODE__INVALID, "begin with 1");
    refuses(0, 1, 0, KV__CODE__INVALID, "begin with 1");
    refuses(session, 2, 2, KV__CODE__INVALID, "by its own stamp");
    refuses(session, UINT64_MAX, UINT64_MAX - 1, KV__CODE__INVALID, "begin with 1");
    refuses(session, 1025, 0, KV__CODE__BUSY, "1024 beyond");
    refuses(session, 5000, 0, KV__CODE__BUSY, "1024 beyond");
    refuses(session + 1, 1, 0, KV__CODE__INVALID, "never opened");
    refuses(session, 1, 0, KV__CODE__INVALID, "another command");
    assert_int_equal(append(session, 2, 1, "b").length, 2);
}

static void only_writes_carry_a_stamp(void **state)
{
    uint64_t session = open_session(false);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__Get get = KV__GET__INIT;
    Kv__SessionRenew renew_ = KV__SESSION_RENEW__INIT;
    struct kv_error error;
    struct got got;

    (void)state;
    stamp.session_id = session;
    stamp.sequence = 1;
    get.key = text("key");
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    assert_int_equal(kv_command_validate(&request, kv_machine_settings_loosest(), &error),
                     KV_INVALID);
    assert_non_null(strstr(error.message, "only a write"));
    kv_machine_read(machine, &request, on_reply, &got);
    assert_int_equal(got.code, KV__CODE__INVALID);
    assert_int_equal(run(&request).code, KV__CODE__INVALID);
    renew_.session_id = session;
    request.command_case = KV__REQUEST__COMMAND_SESSION_RENEW;
    request.session_renew = &renew_;
    assert_int_equal(run(&request).code, KV__CODE__INVALID);
}

/* What is to be tried later is not recorded. */
static void a_refusal_for_now_is_not_recorded(void **state)
{
    uint64_t session = open_session(false);

    (void)state;
    refuses(session, 1025, 0, KV__CODE__BUSY, "beyond");
    assert_int_equal(append(session, 1, 0, "a").length, 1);
    assert_int_equal(append(session, 1025, 1, "b").length, 2);
}

static struct got put_large(uint64_t session, uint64_t sequence, size_t size)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__GetDel getdel = KV__GET_DEL__INIT;
    Kv__Put put = KV__PUT__INIT;
    uint8_t *value = calloc(1, size);

    assert_non_null(value);
    put.key = getdel.key = text("large");
    put.value = (ProtobufCBinaryData){size, value};
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    assert_int_equal(run(&request).code, KV__CODE__OK);
    free(value);
    stamp.session_id = session;
    stamp.sequence = sequence;
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_GETDEL;
    request.getdel = &getdel;
    return run(&request);
}

static void large_answers_are_not_kept_for_ever(void **state)
{
    uint64_t session = open_session(false);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__GetDel getdel = KV__GET_DEL__INIT;
    struct kv_machine_stats stats;
    struct got first, second, again;

    (void)state;
    first = put_large(session, 1, 600 * KV_KIB);
    second = put_large(session, 2, 600 * KV_KIB);
    assert_int_equal(second.value_size, 600 * KV_KIB);
    kv_machine_stats(machine, &stats);
    assert_in_range(stats.session_bytes, 600 * KV_KIB, 601 * KV_KIB);
    assert_int_equal(stats.sessions, 1);
    getdel.key = text("large");
    stamp.session_id = session;
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_GETDEL;
    request.getdel = &getdel;
    stamp.sequence = 1;
    again = run(&request);
    assert_int_equal(again.value_size, 600 * KV_KIB);
    assert_int_equal(again.revision, first.revision);
    stamp.sequence = 2;
    again = run(&request);
    assert_int_equal(again.code, KV__CODE__OK);
    assert_false(again.has_result);
    assert_int_equal(again.revision, second.revision);
    assert_non_null(strstr(again.message, "done at revision"));
    /* Acknowledged, they count no more. */
    assert_int_equal(append(session, 3, 2, "x").code, KV__CODE__OK);
    kv_machine_stats(machine, &stats);
    assert_in_range(stats.session_bytes, 100, 1000);
}

/* ---------------------------------------------------------------- life of a session */

static void ids_are_never_used_again(void **state)
{
    uint64_t first = open_session(false);
    uint64_t second = open_session(false);

    (void)state;
    assert_true(second > first);
    assert_int_equal(close_session(second).code, KV__CODE__OK);
    assert_int_equal(close_session(second).code, KV__CODE__SESSION_EXPIRED);
    assert_true(open_session(false) > second);
    refuses(second, 1, 0, KV__CODE__SESSION_EXPIRED, "has ended");
    assert_int_equal(renew(second).code, KV__CODE__SESSION_EXPIRED);
    assert_int_equal(renew(77).code, KV__CODE__INVALID);
    assert_int_equal(close_session(77).code, KV__CODE__INVALID);
}

static void a_silent_session_ends_by_cluster_time(void **state)
{
    uint64_t quiet = open_with(5000, false).session;
    uint64_t renewed, writing;

    (void)state;
    time_ms += 10;
    renewed = open_with(5000, false).session;
    writing = open_with(5000, false).session;
    assert_int_equal(kv_machine_next_due_ms(machine), 5000);
    time_ms = 4999;
    assert_int_equal(renew(renewed).code, KV__CODE__OK);
    assert_int_equal(append(writing, 1, 0, "a").code, KV__CODE__OK);
    assert_int_equal(append(quiet, 1, 1, "never").code, KV__CODE__INVALID);
    pass(1);
    refuses(quiet, 1, 0, KV__CODE__SESSION_EXPIRED, "has ended");
    assert_int_equal(kv_machine_next_due_ms(machine), 9999);
    assert_int_equal(append(writing, 2, 0, "b").length, 2);
    pass(4999);
    assert_int_equal(renew(renewed).code, KV__CODE__SESSION_EXPIRED);
    /* A retry is heard, too. */
    assert_int_equal(append(writing, 2, 0, "b").length, 2);
    pass(4999);
    assert_int_equal(append(writing, 2, 0, "b").length, 2);
    pass(5000);
    refuses(writing, 2, 0, KV__CODE__SESSION_EXPIRED, "has ended");
    assert_true(kv_machine_next_due_ms(machine) == INT64_MAX);
}

static void time_never_goes_back(void **state)
{
    uint64_t session;

    (void)state;
    time_ms = 10000;
    session = open_with(1000, false).session;
    time_ms = 5000;
    assert_int_equal(renew(session).code, KV__CODE__OK);
    assert_int_equal(kv_machine_next_due_ms(machine), 11000);
}

static void bounds_are_settings(void **state)
{
    struct got got;

    (void)state;
    assert_int_equal(open_with(999, false).code, KV__CODE__OUT_OF_BOUNDS);
    got = open_with(86400001, false);
    assert_int_equal(got.code, KV__CODE__OUT_OF_BOUNDS);
    assert_non_null(strstr(got.message, "session-ttl-max"));
    set_setting("session-ttl-min", 100);
    assert_int_equal(open_with(100, false).code, KV__CODE__OK);
    set_setting("session-limit", 2);
    assert_int_equal(open_with(0, false).code, KV__CODE__OK);
    got = open_with(0, false);
    assert_int_equal(got.code, KV__CODE__BUSY);
    assert_non_null(strstr(got.message, "session-limit"));
    pass(100);
    assert_int_equal(open_with(0, false).code, KV__CODE__OK);
    set_setting("session-ttl-max", 1000);
    pass(100000);
    time_ms += 1;
    assert_int_equal(open_with(0, false).code, KV__CODE__OK);
    assert_int_equal(kv_machine_next_due_ms(machine), time_ms + 1000);
}

/* Many that are due at once go in portions, each dead at its deadline. */
static void a_crowd_ends_in_portions(void **state)
{
    enum { N = KV_SESSION_EXPIRE_PIECES + 5 };
    uint64_t last = 0;
    struct kv_machine_stats stats;

    (void)state;
    for (int i = 0; i < N; i++) {
        last = open_with(1000, false).session;
    }
    time_ms = 1000;
    assert_int_equal(renew(last).code, KV__CODE__SESSION_EXPIRED);
    kv_machine_stats(machine, &stats);
    assert_int_equal(stats.sessions, 5);
    assert_int_equal(kv_machine_next_due_ms(machine), 1000);
    pass(0);
    kv_machine_stats(machine, &stats);
    assert_int_equal(stats.sessions, 0);
}

/* ---------------------------------------------------------------- snapshots */

static void read_view(struct kv_buf *bytes)
{
    struct kv_machine_view *view;

    assert_int_equal(kv_machine_view_open(machine, &view), 0);
    while (kv_machine_view_read(view, bytes, 1 << 20) == 1) {
    }
    kv_machine_view_close(machine, view);
}

static int load(struct kv_slice items, struct kv_machine **ret_machine, struct kv_error *ret_error)
{
    struct kv_machine_loader *loader;
    int status;

    assert_int_equal(kv_machine_loader_open(&loader), 0);
    status = kv_machine_loader_feed(loader, items, ret_error);
    if (status == 0) {
        status = kv_machine_loader_finish(loader, ret_machine, ret_error);
    }
    kv_machine_loader_close(loader);
    return status;
}

static void sessions_survive_a_snapshot(void **state)
{
    uint64_t open = open_session(false);
    uint64_t ordered = open_with(7000, true).session;
    uint64_t closed = open_session(false);
    struct kv_machine *loaded;
    struct kv_buf bytes;
    struct kv_error error;
    uint64_t before;

    (void)state;
    assert_int_equal(append(open, 5, 2, "five").length, 4);
    assert_int_equal(append(open, 3, 2, "three").length, 9);
    assert_int_equal(append(ordered, 1, 0, "one").length, 12);
    assert_int_equal(close_session(closed).code, KV__CODE__OK);
    kv_buf_init(&bytes, 1 << 24);
    read_view(&bytes);
    before = hash();
    assert_int_equal(load(kv_slice_of(bytes.data, bytes.size), &loaded, &error), 0);
    kv_machine_close(machine);
    machine = loaded;
    assert_true(hash() == before);
    assert_int_equal(kv_machine_next_due_ms(machine), 7000);
    assert_int_equal(append(open, 5, 0, "five").length, 4);
    assert_int_equal(append(open, 3, 0, "three").length, 9);
    refuses(open, 2, 0, KV__CODE__INVALID, "acknowledged");
    refuses(ordered, 3, 0, KV__CODE__BUSY, "waits");
    refuses(closed, 1, 0, KV__CODE__SESSION_EXPIRED, "has ended");
    assert_true(open_session(false) > closed);
    kv_buf_deinit(&bytes);
}

/* Every byte of the sessions' items matters. */
static void damaged_sessions_are_refused(void **state)
{
    uint64_t session = open_session(false);
    struct kv_machine *loaded;
    struct kv_error error;
    struct kv_buf bytes;

    (void)state;
    assert_int_equal(append(session, 1, 0, "one").length, 3);
    kv_buf_init(&bytes, 1 << 24);
    read_view(&bytes);
    for (size_t i = 0; i < bytes.size; i++) {
        uint8_t bit = (uint8_t)(1u << i % 8);
        int status;

        bytes.data[i] ^= bit;
        status = load(kv_slice_of(bytes.data, bytes.size), &loaded, &error);
        assert_true(status == KV_CORRUPT || status == KV_UNSUPPORTED);
        bytes.data[i] ^= bit;
    }
    assert_int_equal(load(kv_slice_of(bytes.data, bytes.size), &loaded, &error), 0);
    kv_machine_close(loaded);
    kv_buf_deinit(&bytes);
}

int main(void)
{
#define SESSION_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        SESSION_TEST(a_retry_gets_the_same_answer_and_does_nothing),
        SESSION_TEST(an_error_is_recorded_too),
        SESSION_TEST(sequences_run_in_any_order),
        SESSION_TEST(an_ordered_session_waits_for_the_one_before),
        SESSION_TEST(an_acknowledged_sequence_is_not_done_again),
        SESSION_TEST(bad_stamps_change_nothing),
        SESSION_TEST(only_writes_carry_a_stamp),
        SESSION_TEST(a_refusal_for_now_is_not_recorded),
        SESSION_TEST(large_answers_are_not_kept_for_ever),
        SESSION_TEST(ids_are_never_used_again),
        SESSION_TEST(a_silent_session_ends_by_cluster_time),
        SESSION_TEST(time_never_goes_back),
        SESSION_TEST(bounds_are_settings),
        SESSION_TEST(a_crowd_ends_in_portions),
        SESSION_TEST(sessions_survive_a_snapshot),
        SESSION_TEST(damaged_sessions_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
