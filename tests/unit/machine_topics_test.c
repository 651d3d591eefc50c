/* What topics answer to bad input, at their limits, in sessions, and when their time is over. */
#include "common/limits.h"
#include "server/machine/glob.h"
#include "server/machine/machine_internal.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct machine_rig rig;

static int open_rig(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    rig.is_still = true;
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    return 0;
}

static ProtobufCBinaryData zeros(size_t size)
{
    static uint8_t bytes[KV_VALUE_BYTES_MAX + 1];

    return (ProtobufCBinaryData){size, bytes};
}

static Kv__Request *publish_of(ProtobufCBinaryData topic, ProtobufCBinaryData payload)
{
    static Kv__Publish command;
    static Kv__Request request;

    kv__publish__init(&command);
    kv__request__init(&request);
    command.topic = topic;
    command.payload = payload;
    request.command_case = KV__REQUEST__COMMAND_PUBLISH;
    request.publish = &command;
    return &request;
}

static void publish(const char *topic, size_t size)
{
    machine_rig_expect(&rig, publish_of(machine_rig_bytes(topic), zeros(size)), KV__CODE__OK);
}

static struct kv_machine_stats stats(void)
{
    struct kv_machine_stats result;

    kv_machine_stats(rig.machine, &result);
    return result;
}

static void names_and_payloads_have_bounds(void **state)
{
    (void)state;
    machine_rig_refuse(&rig, publish_of(zeros(0), zeros(1)), KV__CODE__INVALID);
    machine_rig_refuse(&rig, publish_of(zeros(4097), zeros(1)), KV__CODE__TOO_LARGE);
    machine_rig_refuse(&rig, publish_of(zeros(1), zeros(KV_MIB + 1)), KV__CODE__TOO_LARGE);
    machine_rig_expect(&rig, publish_of(zeros(4096), zeros(KV_MIB)), KV__CODE__OK);
    machine_rig_expect(&rig, publish_of(zeros(1), zeros(0)), KV__CODE__OK);
    machine_rig_reload(&rig);
    assert_int_equal(stats().topics, 2);
    assert_int_equal(stats().topic_bytes, 40 + 4096 + KV_MIB + 40 + 1);
    assert_int_equal(kv_machine_revision(rig.machine), 3);
}

static void assert_subscribe(const Kv__Subscribe *command, int status, const char *message)
{
    Kv__Request request = KV__REQUEST__INIT;
    struct kv_error error;

    request.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    request.subscribe = (Kv__Subscribe *)(uintptr_t)command;
    assert_int_equal(kv_command_validate(&request, kv_machine_settings_of(rig.machine), &error),
                     status);
    if (status != 0) {
        assert_non_null(strstr(error.message, message));
    }
}

static void subscriptions_are_checked(void **state)
{
    Kv__Subscribe command = KV__SUBSCRIBE__INIT;

    (void)state;
    assert_subscribe(&command, KV_INVALID, "the topic is empty");
    command.topic = zeros(4097);
    assert_subscribe(&command, KV_TOO_LARGE, "the topic has 4097 bytes, the limit is 4096");
    command.topic = machine_rig_bytes("a[");
    assert_subscribe(&command, 0, "");
    command.pattern = true;
    assert_subscribe(&command, KV_INVALID, "closing bracket");
    command.topic = machine_rig_bytes("a*");
    assert_subscribe(&command, 0, "");
    command.start_revision = -1;
    assert_subscribe(&command, KV_INVALID, "revision -1 is negative");
    command.start_revision = 5;
    command.last = 7;
    assert_subscribe(&command, KV_INVALID, "not both: start_revision 5, last 7");
    command.start_revision = 0;
    assert_subscribe(&command, 0, "");
    command.last = KV_TOPIC_LAST_MAX + 1;
    assert_subscribe(&command, KV_OUT_OF_BOUNDS, "at most 1000000");
    command.last = 0;
    command.progress_ms = 99;
    assert_subscribe(&command, KV_INVALID, "progress_ms is 99: 0 for none, or 100");
}

static void only_publications_may_be_in_transactions(void **state)
{
    Kv__Txn txn = KV__TXN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Request operation = KV__REQUEST__INIT;
    Kv__Request *operations[1] = {&operation};
    Kv__Subscribe subscribe = KV__SUBSCRIBE__INIT;
    Kv__TopicList list = KV__TOPIC_LIST__INIT;

    (void)state;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    txn.n_then = 1;
    txn.then = operations;
    subscribe.topic = machine_rig_bytes("a");
    operation.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
    operation.subscribe = &subscribe;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    operation.command_case = KV__REQUEST__COMMAND_TOPIC_LIST;
    operation.topic_list = &list;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    operations[0] = publish_of(machine_rig_bytes("a"), zeros(1));
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    assert_int_equal(stats().topic_messages, 1);
}

static void topics_are_bounded(void **state)
{
    Kv__Reply *reply;

    (void)state;
    machine_rig_set(&rig, "topic-limit", 2);
    publish("a", 1);
    publish("b", 1);
    reply = machine_rig_write(&rig, publish_of(machine_rig_bytes("c"), zeros(1)));
    assert_int_equal(reply->code, KV__CODE__BUSY);
    assert_string_equal(reply->hint->limit, "topic-limit");
    assert_int_equal(reply->hint->limit_value, 2);
    kv__reply__free_unpacked(reply, NULL);
    publish("a", 1);
    machine_rig_pass_time(&rig, KV_TOPIC_AGE_DEFAULT_MS + KV_TOPIC_AGE_STEP_MS);
    assert_int_equal(stats().topics, 0);
    publish("c", 1);
}

/* Where the store is full, a topic that is full goes on: what goes is as good as gone. */
static void messages_count_as_data(void **state)
{
    (void)state;
    machine_rig_set(&rig, "topic-messages", 4);
    machine_rig_set(&rig, "history-bytes", 0);
    for (int i = 0; i < 4; i++) {
        publish("a", 50000);
    }
    assert_true(stats().used_bytes >= 200000);
    machine_rig_set(&rig, "data-limit", 210000);
    machine_rig_refuse(&rig, publish_of(machine_rig_bytes("b"), zeros(20000)), KV__CODE__NO_SPACE);
    publish("a", 50000);
    machine_rig_refuse(&rig, publish_of(machine_rig_bytes("a"), zeros(80000)), KV__CODE__NO_SPACE);
    assert_int_equal(stats().topic_messages, 4);
    machine_rig_pass_time(&rig, KV_TOPIC_AGE_DEFAULT_MS + KV_TOPIC_AGE_STEP_MS);
    publish("b", 100000);
}

static void a_large_message_stays_alone(void **state)
{
    (void)state;
    machine_rig_set(&rig, "topic-bytes", 1024);
    publish("a", 100);
    publish("a", 5000);
    assert_int_equal(stats().topic_messages, 1);
    assert_true(stats().topic_bytes > 5000);
    publish("a", 100);
    assert_true(stats().topic_bytes < 1024);
}

static void a_stamped_publication_is_done_once(void **state)
{
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__Publish command = KV__PUBLISH__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *first, *second;

    (void)state;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    first = machine_rig_write(&rig, &request);
    stamp.session_id = first->session_open->session_id;
    stamp.sequence = 1;
    kv__reply__free_unpacked(first, NULL);
    command.topic = machine_rig_bytes("a");
    request.command_case = KV__REQUEST__COMMAND_PUBLISH;
    request.publish = &command;
    request.session = &stamp;
    first = machine_rig_write(&rig, &request);
    publish("b", 1);
    second = machine_rig_write(&rig, &request);
    assert_int_equal(second->code, KV__CODE__OK);
    assert_int_equal(second->publish->revision, first->publish->revision);
    assert_int_equal(stats().topic_messages, 2);
    kv__reply__free_unpacked(first, NULL);
    kv__reply__free_unpacked(second, NULL);
}

static void publish_many(const char *topic, unsigned n)
{
    rig.checks = false;
    machine_rig_set(&rig, "topic-messages", 100000);
    for (unsigned i = 0; i < n; i++) {
        publish(topic, 1);
    }
}

/* A lower limit takes hold with the next messages, so many at a time. */
static void a_lowered_limit_drops_in_pieces(void **state)
{
    enum { MESSAGES = KV_TOPIC_DROPS_PER_ENTRY + 20 };

    (void)state;
    publish_many("a", MESSAGES);
    machine_rig_set(&rig, "topic-messages", 10);
    assert_int_equal(stats().topic_messages, MESSAGES);
    publish("a", 1);
    assert_int_equal(stats().topic_messages,
                     MESSAGES + 1 - KV_TOPIC_DROPS_PER_ENTRY - KV_TOPIC_DROPS_PER_PUBLISH);
    publish("a", 1);
    assert_int_equal(stats().topic_messages, 10);
    kv_machine_check_invariants(rig.machine);
}

enum { PUBLICATIONS = 100 };

/* Of many publications; fails: the last operation does. */
static Kv__Request *transaction(bool fails)
{
    static Kv__Request *operations[PUBLICATIONS + 1];
    static Kv__Request request, failing;
    static Kv__GetDel getdel;
    static Kv__Txn txn;

    for (int i = 0; i < PUBLICATIONS; i++) {
        operations[i] = publish_of(machine_rig_bytes("a"), zeros(1));
    }
    kv__request__init(&request);
    kv__request__init(&failing);
    kv__get_del__init(&getdel);
    kv__txn__init(&txn);
    getdel.key = machine_rig_bytes("not there");
    failing.command_case = KV__REQUEST__COMMAND_GETDEL;
    failing.getdel = &getdel;
    operations[PUBLICATIONS] = &failing;
    txn.n_then = PUBLICATIONS + fails;
    txn.then = operations;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    return &request;
}

/* All commands of an entry have one number of drops besides what each publication may; one that
 * fails has used up none of it. */
static void an_entry_drops_a_bounded_number(void **state)
{
    enum { PER_ENTRY = KV_TOPIC_DROPS_PER_ENTRY, MESSAGES = 3 * PER_ENTRY };
    const unsigned each = PUBLICATIONS * (KV_TOPIC_DROPS_PER_PUBLISH - 1);

    (void)state;
    publish_many("a", MESSAGES);
    machine_rig_set(&rig, "topic-messages", 1);
    assert_int_equal(
        kv_machine_begin(rig.machine, ++rig.log_index, KV_MACHINE_VERSION, rig.cluster_time_ms), 0);
    assert_true(kv_machine_execute(rig.machine, transaction(true), NULL, NULL));
    assert_int_equal(stats().topic_messages, MESSAGES);
    assert_true(kv_machine_execute(rig.machine, transaction(false), NULL, NULL));
    assert_int_equal(stats().topic_messages, MESSAGES - PER_ENTRY - each);
    assert_true(kv_machine_execute(rig.machine, transaction(false), NULL, NULL));
    assert_int_equal(stats().topic_messages, MESSAGES - PER_ENTRY - 2 * each);
    kv_machine_end(rig.machine);
    kv_machine_check_invariants(rig.machine);
    machine_rig_expect(&rig, transaction(false), KV__CODE__OK);
    assert_int_equal(stats().topic_messages, MESSAGES - 2 * PER_ENTRY - 3 * each);
    machine_rig_reload(&rig);
}

/* By one deadline for all, in steps; and what one entry leaves is due at once. */
static void age_ends_messages_in_pieces(void **state)
{
    int64_t due_ms;

    (void)state;
    rig.checks = false;
    assert_true(kv_machine_next_due_ms(rig.machine) == INT64_MAX);
    machine_rig_set(&rig, "topic-messages", 100000);
    for (unsigned i = 0; i < KV_TOPIC_EXPIRE_MAX + 10; i++) {
        publish(i % 2 ? "a" : "b", 1);
    }
    due_ms = kv_machine_next_due_ms(rig.machine);
    assert_int_equal(due_ms % KV_TOPIC_AGE_STEP_MS, 0);
    assert_in_range(due_ms - rig.cluster_time_ms,
                    KV_TOPIC_AGE_DEFAULT_MS,
                    KV_TOPIC_AGE_DEFAULT_MS + KV_TOPIC_AGE_STEP_MS);
    machine_rig_pass_time(&rig, due_ms - 1 - rig.cluster_time_ms);
    assert_int_equal(stats().topic_messages, KV_TOPIC_EXPIRE_MAX + 10);
    machine_rig_pass_time(&rig, 1);
    assert_int_equal(stats().topic_messages, 10);
    assert_true(kv_machine_next_due_ms(rig.machine) <= rig.cluster_time_ms);
    machine_rig_pass_time(&rig, 0);
    assert_int_equal(stats().topics, 0);
    assert_true(kv_machine_next_due_ms(rig.machine) == INT64_MAX);
    kv_machine_check_invariants(rig.machine);
    machine_rig_reload(&rig);
}

static bool has_gap(const char *topic, int64_t revision, int64_t *ret_newest)
{
    const struct kv_topic_query query = {kv_slice_str(topic), NULL};
    struct kv_topic_losses losses = {0};

    assert_int_equal(kv_machine_topics_losses(
                         rig.machine, &query, (struct kv_topic_position){revision, 0}, &losses),
                     0);
    *ret_newest = losses.newest.revision;
    return losses.newest.revision >= revision;
}

/* Of a topic that is there what it lost itself; of one that is gone what any such has lost. */
static void losses_are_known(void **state)
{
    int64_t newest;

    (void)state;
    machine_rig_set(&rig, "topic-messages", 2);
    publish("quiet", 1); /* 2 */
    for (int i = 0; i < 4; i++) {
        publish("busy", 1); /* 3 to 6 */
    }
    assert_false(has_gap("quiet", 1, &newest));
    assert_true(has_gap("busy", 3, &newest));
    assert_int_equal(newest, 4);
    assert_false(has_gap("busy", 5, &newest));
    assert_false(has_gap("never", 1, &newest));
    machine_rig_pass_time(&rig, KV_TOPIC_AGE_DEFAULT_MS + KV_TOPIC_AGE_STEP_MS);
    machine_rig_reload(&rig);
    assert_true(has_gap("quiet", 1, &newest));
    assert_int_equal(newest, 6);
    assert_false(has_gap("quiet", 7, &newest));
    publish("new", 1); /* 7 */
    assert_true(has_gap("new", 6, &newest));
    assert_false(has_gap("new", 7, &newest));
}

static struct kv_glob glob;

static struct kv_topic_query pattern_of(const char *text)
{
    struct kv_error error;

    assert_int_equal(kv_glob_compile(kv_slice_str(text), &glob, &error), 0);
    return (struct kv_topic_query){kv_slice_str(text), &glob};
}

/* A pattern asks for the losses of all topics: a bounded number at a time, then for those that are
 * new alone. */
static void a_pattern_looks_at_few_losses_at_a_time(void **state)
{
    enum { LOST = 2 * KV_TOPIC_LOOKS_MAX + 10 };
    const struct kv_topic_query query = pattern_of("t*7");
    const struct kv_topic_position start = {1, 0};
    struct kv_topic_losses losses = {0};
    int64_t newest;

    (void)state;
    rig.checks = false;
    machine_rig_set(&rig, "topic-messages", 1);
    machine_rig_set(&rig, "topic-limit", 2 * LOST);
    for (unsigned i = 0; i < 2 * LOST; i++) {
        char name[16];

        snprintf(name, sizeof name, "t%u", i % LOST);
        publish(name, 1);
    }
    newest = (int64_t)LOST - LOST % 10 - 3 + 2; /* the last name with a 7, of the first round */
    assert_int_equal(kv_machine_topics_losses(rig.machine, &query, start, &losses), 1);
    publish("t7", 1);
    assert_int_equal(kv_machine_topics_losses(rig.machine, &query, start, &losses), 1);
    assert_int_equal(kv_machine_topics_losses(rig.machine, &query, start, &losses), 0);
    /* What came meanwhile was looked at, too. */
    assert_true(losses.newest.revision > newest);
    losses.newest = (struct kv_topic_position){0, 0};
    assert_int_equal(kv_machine_topics_losses(rig.machine, &query, start, &losses), 0);
    assert_int_equal(losses.newest.revision, 0);
    publish("t8", 1);
    assert_int_equal(kv_machine_topics_losses(rig.machine, &query, start, &losses), 0);
    assert_int_equal(losses.newest.revision, 0);
    publish("t17", 1);
    assert_int_equal(kv_machine_topics_losses(rig.machine, &query, start, &losses), 0);
    assert_int_equal(losses.newest.revision, LOST + 17 + 2);
    kv_machine_check_invariants(rig.machine);
    machine_rig_reload(&rig);
}

/* Costly names count for more than one look. */
static void the_work_of_matching_is_bounded(void **state)
{
    const struct kv_topic_query query = pattern_of("*x*");
    struct kv_topic_search search = {.looked = {INT64_MAX, 0}, .found = {INT64_MAX, 0}, .left = 1};
    struct kv_topic_position position = {1, 0};
    unsigned n_reads = 1;

    (void)state;
    rig.checks = false;
    for (unsigned i = 0; i < 1000; i++) {
        machine_rig_expect(&rig, publish_of(zeros(KV_KEY_BYTES_MAX), zeros(1)), KV__CODE__OK);
    }
    while (kv_machine_topics_read(rig.machine, &query, &position, 1000, NULL, NULL) == 1) {
        n_reads++;
    }
    assert_in_range(n_reads, 3, 10);
    for (n_reads = 1; kv_machine_topics_search(rig.machine, &query, &search) == 1;) {
        n_reads++;
    }
    assert_in_range(n_reads, 3, 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_and_payloads_have_bounds, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(subscriptions_are_checked, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(
            only_publications_may_be_in_transactions, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(topics_are_bounded, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(messages_count_as_data, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(a_large_message_stays_alone, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(a_stamped_publication_is_done_once, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(a_lowered_limit_drops_in_pieces, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(an_entry_drops_a_bounded_number, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(
            a_pattern_looks_at_few_losses_at_a_time, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(age_ends_messages_in_pieces, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(the_work_of_matching_is_bounded, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(losses_are_known, open_rig, close_rig),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
