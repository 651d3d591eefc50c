/* Pops that wait: the order in which they are served, their ends, retries that join, snapshots. */
#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <xxhash.h>

#include <cmocka.h>

static struct machine_rig rig;
static uint64_t session;

/* What those that waited were told: "tag:code:element ", in the order of the answers. */
static char woken[4096];

static void on_wake(void *arg, void *tag, Kv__Reply *reply)
{
    const char *element = "";
    size_t size = strlen(woken);

    (void)arg;
    if (reply->code == KV__CODE__OK) {
        assert_int_equal(reply->result_case, KV__REPLY__RESULT_LIST_POP);
        assert_int_equal(reply->list_pop->n_elements, 1);
        element = (const char *)reply->list_pop->elements[0].data;
    }
    snprintf(woken + size,
             sizeof woken - size,
             "%s:%d:%.*s ",
             (const char *)tag,
             (int)reply->code,
             reply->code == KV__CODE__OK ? (int)reply->list_pop->elements[0].len : 0,
             element);
}

static void expect_woken(const char *text)
{
    assert_string_equal(woken, text);
    woken[0] = '\0';
}

static void watch(void)
{
    kv_machine_on_wake(rig.machine, on_wake, NULL);
}

static uint64_t open_session(uint64_t ttl_ms)
{
    Kv__SessionOpen command = KV__SESSION_OPEN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    uint64_t id;

    command.ttl_ms = ttl_ms;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &command;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    id = reply->session_open->session_id;
    kv__reply__free_unpacked(reply, NULL);
    return id;
}

static int set_up(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    watch();
    woken[0] = '\0';
    session = open_session(60000);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    return 0;
}

static void capture(void *arg, Kv__Reply *reply)
{
    Kv__Code *code = arg;

    *code = reply->code;
    if (reply->code == KV__CODE__OK && reply->result_case == KV__REPLY__RESULT_LIST_POP &&
        reply->list_pop->n_elements == 1) {
        snprintf(woken,
                 sizeof woken,
                 "now:%.*s",
                 (int)reply->list_pop->elements[0].len,
                 (const char *)reply->list_pop->elements[0].data);
    }
}

/* One entry with this request. True: it was answered, with *ret_code. */
static bool run(Kv__Request *request, Kv__Code *ret_code)
{
    bool answered;

    assert_int_equal(
        kv_machine_begin(rig.machine, ++rig.log_index, KV_MACHINE_VERSION, rig.cluster_time_ms), 0);
    answered = kv_machine_execute(rig.machine, request, capture, ret_code);
    kv_machine_end(rig.machine);
    kv_machine_check_invariants(rig.machine);
    return answered;
}

/* A pop of the session; its tag is the name. True: it was answered at once. */
static bool
pop(uint64_t sequence, const char *key, uint64_t block_ms, const char *name, Kv__Code *ret_code)
{
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__ListPop command = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    bool answered;

    stamp.session_id = session;
    stamp.sequence = sequence;
    command.key = machine_rig_bytes(key);
    command.block_ms = block_ms;
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &command;
    answered = run(&request, ret_code);
    if (!answered) {
        (void)kv_machine_tag_waiter(rig.machine, &stamp, (void *)(uintptr_t)name);
    }
    return answered;
}

static void wait_for(uint64_t sequence, const char *key, uint64_t block_ms, const char *name)
{
    Kv__Code code;

    assert_false(pop(sequence, key, block_ms, name, &code));
}

static void push(const char *key, const char *first, const char *second)
{
    ProtobufCBinaryData elements[2] = {machine_rig_bytes(first)};
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    if (second) {
        elements[1] = machine_rig_bytes(second);
    }
    command.key = machine_rig_bytes(key);
    command.end = KV__LIST_END__LIST_RIGHT;
    command.n_elements = second ? 2 : 1;
    command.elements = elements;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

static uint64_t length(const char *key)
{
    Kv__ListLen command = KV__LIST_LEN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    uint64_t n;

    command.key = machine_rig_bytes(key);
    request.command_case = KV__REQUEST__COMMAND_LIST_LEN;
    request.list_len = &command;
    reply = machine_rig_read(&rig, &request);
    n = reply->list_len->count;
    kv__reply__free_unpacked(reply, NULL);
    return n;
}

static void first_come_first_served(void **state)
{
    int64_t revision = kv_machine_revision(rig.machine);
    Kv__Code code;

    (void)state;
    wait_for(1, "q", 1000, "a");
    wait_for(2, "q", 1000, "b");
    wait_for(3, "other", 1000, "c");
    wait_for(4, "q", 1000, "d");
    assert_int_equal(kv_machine_revision(rig.machine), revision);
    push("q", "1", "2");
    expect_woken("a:0:1 b:0:2 ");
    assert_int_equal(length("q"), 0);
    /* The push, and each pop. */
    assert_int_equal(kv_machine_revision(rig.machine), revision + 3);
    push("q", "3", "4");
    expect_woken("d:0:3 ");
    assert_int_equal(length("q"), 1);
    /* What is there is taken at once. */
    assert_true(pop(5, "q", 1000, "e", &code));
    expect_woken("now:4");
    push("other", "5", NULL);
    expect_woken("c:0:5 ");
}

static void a_retry_gets_the_result_or_joins(void **state)
{
    Kv__Code code;

    (void)state;
    wait_for(1, "q", 1000, "lost");
    wait_for(1, "q", 1000, "retry");
    assert_int_equal(rig.machine->waiters.n, 1);
    /* Another command of the same sequence is none. */
    assert_true(pop(1, "other", 1000, "wrong", &code));
    assert_int_equal(code, KV__CODE__INVALID);
    push("q", "1", "2");
    expect_woken("retry:0:1 ");
    assert_true(pop(1, "q", 1000, "late", &code));
    assert_int_equal(code, KV__CODE__OK);
    expect_woken("now:1");
    assert_int_equal(length("q"), 1);
}

static void deadlines(void **state)
{
    Kv__Code code;

    (void)state;
    wait_for(1, "q", 500, "a");
    wait_for(2, "q", 100, "b");
    assert_int_equal(kv_machine_next_due_ms(rig.machine), rig.cluster_time_ms + 100);
    machine_rig_pass_time(&rig, 99);
    expect_woken("");
    machine_rig_pass_time(&rig, 1);
    assert_non_null(strstr(woken, "b:"));
    woken[0] = '\0';
    /* Its retry does not wait again. */
    assert_true(pop(2, "q", 100, "b", &code));
    assert_int_equal(code, KV__CODE__DEADLINE);
    push("q", "1", NULL);
    expect_woken("a:0:1 ");
    assert_int_equal(rig.machine->waiters.n, 0);
}

static void cancel(uint64_t sequence, bool done)
{
    Kv__SessionCancel command = KV__SESSION_CANCEL__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    command.session_id = session;
    command.sequence = sequence;
    request.command_case = KV__REQUEST__COMMAND_SESSION_CANCEL;
    request.session_cancel = &command;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->session_cancel->done, done);
    kv__reply__free_unpacked(reply, NULL);
}

static void cancellation(void **state)
{
    Kv__Code code;

    (void)state;
    wait_for(1, "q", 1000, "a");
    wait_for(2, "q", 1000, "b");
    cancel(1, true);
    cancel(1, false);
    cancel(7, false);
    woken[0] = '\0';
    push("q", "1", NULL);
    expect_woken("b:0:1 ");
    assert_true(pop(1, "q", 1000, "a", &code));
    assert_int_equal(code, KV__CODE__DEADLINE);
    cancel(2, false);
}

static void end_session(uint64_t id)
{
    Kv__SessionClose command = KV__SESSION_CLOSE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.session_id = id;
    request.command_case = KV__REQUEST__COMMAND_SESSION_CLOSE;
    request.session_close = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

static void the_end_of_its_session_ends_it(void **state)
{
    uint64_t first = session;

    (void)state;
    wait_for(1, "q", 600000, "silent");
    session = open_session(600000);
    wait_for(1, "q", 600000, "b");
    wait_for(2, "q", 600000, "c");
    machine_rig_pass_time(&rig, 60000);
    assert_non_null(strstr(woken, "silent:"));
    woken[0] = '\0';
    push("q", "1", NULL);
    expect_woken("b:0:1 ");
    end_session(session);
    assert_int_equal(rig.machine->waiters.n, 0);
    push("q", "2", NULL);
    assert_int_equal(length("q"), 1);
    assert_true(session > first);
}

static void what_is_acknowledged_does_not_wait(void **state)
{
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Code code;

    (void)state;
    wait_for(1, "q", 1000, "a");
    stamp.session_id = session;
    stamp.sequence = 2;
    stamp.acknowledged_through = 1;
    put.key = machine_rig_bytes("k");
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    assert_true(run(&request, &code));
    assert_int_equal(code, KV__CODE__OK);
    assert_int_equal(rig.machine->waiters.n, 0);
    push("q", "1", NULL);
    assert_int_equal(length("q"), 1);
}

static void they_survive_a_snapshot(void **state)
{
    (void)state;
    wait_for(1, "q", 1000, "a");
    wait_for(2, "q", 1000, "b");
    push("other", "x", "y");
    machine_rig_reload(&rig);
    watch();
    assert_int_equal(rig.machine->waiters.n, 2);
    /* Whom to tell is not of the state: the client asks again. */
    wait_for(2, "q", 1000, "b again");
    push("q", "1", "2");
    expect_woken("b again:0:2 ");
    machine_rig_reload(&rig);
}

/* There, a pop is the plain one; what the whole leaves is what those outside get. */
static void in_a_transaction_nobody_waits(void **state)
{
    Kv__ListPop pops[2] = {KV__LIST_POP__INIT, KV__LIST_POP__INIT};
    Kv__ListPush push_ = KV__LIST_PUSH__INIT;
    ProtobufCBinaryData elements[2] = {machine_rig_bytes("1"), machine_rig_bytes("2")};
    Kv__Request operations[3] = {KV__REQUEST__INIT, KV__REQUEST__INIT, KV__REQUEST__INIT};
    Kv__Request *pointers[3] = {&operations[0], &operations[1], &operations[2]};
    Kv__Txn txn = KV__TXN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    (void)state;
    wait_for(1, "q", 1000, "a");
    push_.key = pops[0].key = pops[1].key = machine_rig_bytes("q");
    push_.end = KV__LIST_END__LIST_RIGHT;
    pops[0].block_ms = pops[1].block_ms = 1000;
    push_.n_elements = 2;
    push_.elements = elements;
    operations[0].command_case = operations[2].command_case = KV__REQUEST__COMMAND_LIST_POP;
    operations[0].list_pop = &pops[0];
    operations[1].command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    operations[1].list_push = &push_;
    operations[2].list_pop = &pops[1];
    txn.n_then = 3;
    txn.then = pointers;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->txn->replies[0]->list_pop->n_elements, 0);
    assert_int_equal(reply->txn->replies[2]->list_pop->n_elements, 1);
    kv__reply__free_unpacked(reply, NULL);
    expect_woken("a:0:2 ");
    /* One that fails as a whole gives nobody anything. */
    wait_for(2, "q", 1000, "b");
    push_.key = machine_rig_bytes("q");
    pops[0].key = pops[1].key = machine_rig_bytes("s");
    push("s", "x", NULL);
    operations[2].command_case = KV__REQUEST__COMMAND_STRLEN;
    operations[2].strlen = &(Kv__StrLen)KV__STR_LEN__INIT;
    operations[2].strlen->key = machine_rig_bytes("q");
    machine_rig_expect(&rig, &request, KV__CODE__WRONG_TYPE);
    expect_woken("");
    kv_machine_check_invariants(rig.machine);
    assert_int_equal(length("s"), 1);
}

/* The end of the entry gives some more, the next entries the rest; a pop that comes meanwhile and
 * would wait stands behind those that do, one that would not takes what it finds. */
static void many_are_served_in_steps(void **state)
{
    enum { WAITING = 3 * KV_WAITERS_SERVED_MAX };
    static ProtobufCBinaryData elements[WAITING];
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__ListPop plain = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    for (unsigned i = 0; i < WAITING; i++) {
        wait_for(i + 1, "q", 100000, i == 2 * KV_WAITERS_SERVED_MAX ? "next" : NULL);
        elements[i] = machine_rig_bytes("x");
    }
    rig.is_still = true;
    command.key = machine_rig_bytes("q");
    command.n_elements = WAITING;
    command.elements = elements;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    assert_int_equal(rig.machine->waiters.n, KV_WAITERS_SERVED_MAX);
    assert_int_equal(length("q"), KV_WAITERS_SERVED_MAX);
    assert_int_equal(kv_machine_next_due_ms(rig.machine), rig.cluster_time_ms);
    expect_woken("");
    plain.key = machine_rig_bytes("q");
    rig.machine->serve_per_command = 1;
    wait_for(WAITING + 1, "q", 100000, NULL);
    expect_woken("next:0:x ");
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &plain;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    rig.machine->serve_per_command = KV_WAITERS_SERVED_MAX;
    machine_rig_reload(&rig);
    assert_int_equal(kv_machine_next_due_ms(rig.machine), rig.cluster_time_ms);
    machine_rig_pass_time(&rig, 0);
    assert_int_equal(rig.machine->waiters.n, 2);
    assert_int_equal(length("q"), 0);
    assert_true(kv_machine_next_due_ms(rig.machine) > rig.cluster_time_ms);
}

/* So many slots have the tables of waiters by session and by key. */
enum { SLOTS = 4096 };

static uint64_t slot_of(const char *key)
{
    return XXH3_64bits(key, strlen(key)) % SLOTS;
}

/* Sessions whose ids share a slot, and keys whose hashes do, are told apart. */
static void they_share_slots(void **state)
{
    const uint64_t first = session;
    char other[16] = "q";

    (void)state;
    rig.checks = false;
    while (session < first + SLOTS) {
        session = open_session(60000);
    }
    rig.checks = true;
    for (unsigned i = 0; strcmp(other, "q") == 0 || slot_of(other) != slot_of("q"); i++) {
        snprintf(other, sizeof other, "q%u", i);
    }
    wait_for(1, other, 60000, "a");
    wait_for(2, "gone", 60000, "c");
    session = first;
    wait_for(1, "q", 60000, "b");
    push(other, "x", NULL);
    expect_woken("a:0:x ");
    end_session(first + SLOTS);
    assert_int_equal(rig.machine->waiters.n, 1);
    woken[0] = '\0';
    push("q", "y", NULL);
    expect_woken("b:0:y ");
}

/* More sessions are due than an entry ends: one that is left is dead all the same, and gets
 * nothing.
 */
static void a_dead_session_gets_nothing(void **state)
{
    char expected[32];

    (void)state;
    rig.checks = false;
    rig.is_still = true;
    for (unsigned i = 0; i <= KV_SESSION_EXPIRE_PIECES; i++) {
        session = open_session(1000);
    }
    wait_for(1, "q", 60000, "a");
    rig.cluster_time_ms += 1000;
    push("q", "x", NULL);
    snprintf(expected, sizeof expected, "a:%d: ", (int)KV__CODE__SESSION_EXPIRED);
    expect_woken(expected);
    assert_int_equal(length("q"), 1);
}

static void bad_input(void **state)
{
    Kv__ListPop command = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    Kv__Code code;

    (void)state;
    put.key = machine_rig_bytes("s");
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    assert_true(pop(1, "s", 1000, "a", &code));
    assert_int_equal(code, KV__CODE__WRONG_TYPE);
    assert_true(pop(2, "q", KV_DEADLINE_MAX_MS + 1, "a", &code));
    assert_int_equal(code, KV__CODE__OUT_OF_BOUNDS);
    assert_true(pop(3, "", 1000, "a", &code));
    assert_int_equal(code, KV__CODE__INVALID);
    command.key = machine_rig_bytes("q");
    command.block_ms = 10;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &command;
    machine_rig_expect(&rig, &request, KV__CODE__INVALID); /* no session */
    assert_int_equal(rig.machine->waiters.n, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(first_come_first_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_retry_gets_the_result_or_joins, set_up, tear_down),
        cmocka_unit_test_setup_teardown(deadlines, set_up, tear_down),
        cmocka_unit_test_setup_teardown(cancellation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_end_of_its_session_ends_it, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_acknowledged_does_not_wait, set_up, tear_down),
        cmocka_unit_test_setup_teardown(they_survive_a_snapshot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(in_a_transaction_nobody_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(many_are_served_in_steps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(they_share_slots, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_dead_session_gets_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_input, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
