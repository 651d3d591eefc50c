/* Random pops that wait, pushes, moves, deletions, cancellations, ends of sessions, time and
 * reloads against queues in plain arrays: who gets which element, who ends without, and nobody
 * twice. */
#include "common/limits.h"
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

enum { KEYS = 3, SESSIONS = 3, STEPS = 3000, POPS_MAX = STEPS, LIST_MAX = STEPS * 3 };

enum outcome { WAITS, SERVED, ENDED, EXPIRED };

struct model_pop {
    unsigned key, session;
    uint64_t session_id, sequence;
    int64_t deadline_ms;
    bool last_end;
    enum outcome outcome;
    unsigned element; /* when served */
    bool told;
};
static struct model_pop pops[POPS_MAX]; /* in the order of registration */
static unsigned n_pops;
static unsigned lists[KEYS][LIST_MAX];
static unsigned first[KEYS], last[KEYS]; /* elements are [first, last) */
static unsigned next_element;
static uint64_t session_ids[SESSIONS], sequences[SESSIONS];
static struct machine_rig rig;

static unsigned below(unsigned n)
{
    return (unsigned)machine_rig_random(&rig, n);
}

static ProtobufCBinaryData key_bytes(unsigned key)
{
    static const char *const texts[KEYS] = {"a", "b", "c"};

    return machine_rig_bytes(texts[key]);
}

static void check_reply(struct model_pop *pop, const Kv__Reply *reply)
{
    unsigned element;

    if (pop->outcome == SERVED) {
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->list_pop->n_elements, 1);
        assert_int_equal(reply->list_pop->elements[0].len, sizeof element);
        memcpy(&element, reply->list_pop->elements[0].data, sizeof element);
        assert_int_equal(element, pop->element);
    } else {
        assert_int_equal(reply->code,
                         pop->outcome == ENDED ? KV__CODE__DEADLINE : KV__CODE__SESSION_EXPIRED);
    }
}

static void on_wake(void *arg, void *tag, Kv__Reply *reply)
{
    struct model_pop *pop = tag;

    (void)arg;
    assert_false(pop->told);
    assert_true(pop->outcome != WAITS);
    pop->told = true;
    check_reply(pop, reply);
}

static void take(unsigned key, struct model_pop *pop)
{
    pop->outcome = SERVED;
    pop->element = pop->last_end ? lists[key][--last[key]] : lists[key][first[key]++];
}

/* The model's: before the command runs, so that the answers can be checked as they come. Behind
 * each command, and at the end of its entry, a bounded number gets what is there: those first that
 * wait longest, for whatever key. */
static void serve(unsigned rounds)
{
    size_t n = rounds * rig.machine->serve_per_command;

    for (unsigned i = 0; i < n_pops && n > 0; i++) {
        const unsigned key = pops[i].key;

        if (pops[i].outcome == WAITS && first[key] < last[key]) {
            take(key, &pops[i]);
            n--;
        }
    }
}

static bool somebody_waits(unsigned key)
{
    for (unsigned i = 0; i < n_pops; i++) {
        if (pops[i].outcome == WAITS && pops[i].key == key) {
            return true;
        }
    }
    return false;
}

static void push(void)
{
    unsigned key = below(KEYS);
    unsigned n = 1 + below(3);
    ProtobufCBinaryData elements[3];
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    for (unsigned i = 0; i < n; i++) {
        lists[key][last[key]] = next_element++;
        elements[i] = (ProtobufCBinaryData){sizeof lists[0][0], (uint8_t *)&lists[key][last[key]]};
        last[key]++;
    }
    serve(2);
    command.key = key_bytes(key);
    command.end = KV__LIST_END__LIST_RIGHT;
    command.n_elements = n;
    command.elements = elements;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

/* A list gets another name, under which somebody may wait. */
static void rename_list(void)
{
    unsigned from = below(KEYS);
    unsigned to = (from + 1 + below(KEYS - 1)) % KEYS;
    Kv__Rename command = KV__RENAME__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    if (first[from] == last[from]) {
        return;
    }
    first[to] = last[to] = 0;
    while (first[from] < last[from]) {
        lists[to][last[to]++] = lists[from][first[from]++];
    }
    serve(2);
    command.key = key_bytes(from);
    command.to = key_bytes(to);
    request.command_case = KV__REQUEST__COMMAND_RENAME;
    request.rename = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

static void drop(void)
{
    unsigned key = below(KEYS);
    ProtobufCBinaryData name = key_bytes(key);
    Kv__Delete command = KV__DELETE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    first[key] = last[key];
    serve(2);
    command.n_keys = 1;
    command.keys = &name;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

static void capture(void *arg, Kv__Reply *reply)
{
    struct model_pop *pop = arg;

    pop->told = true;
    check_reply(pop, reply);
}

/* Sends a pop, for the first time or again. */
static void send(struct model_pop *pop)
{
    const bool was_told = pop->told;
    const bool waits = pop->outcome == WAITS;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__ListPop command = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    bool answered;

    stamp.session_id = pop->session_id;
    stamp.sequence = pop->sequence;
    command.key = key_bytes(pop->key);
    command.end = pop->last_end ? KV__LIST_END__LIST_RIGHT : KV__LIST_END__LIST_LEFT;
    command.block_ms = 1 + pop->sequence * 37 % 900;
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &command;
    assert_int_equal(
        kv_machine_begin(rig.machine, ++rig.log_index, KV_MACHINE_VERSION, rig.cluster_time_ms), 0);
    serve(waits ? 1 : 2);
    answered = kv_machine_execute(rig.machine, &request, capture, pop);
    assert_int_equal(answered, !waits);
    if (!answered) {
        assert_false(was_told);
        (void)kv_machine_tag_waiter(rig.machine, &stamp, pop);
    }
    kv_machine_end(rig.machine);
}

static void new_pop(void)
{
    struct model_pop *pop = &pops[n_pops];
    unsigned session = below(SESSIONS);
    unsigned key = below(KEYS);

    if (sequences[session] == KV_SESSION_WINDOW) {
        return;
    }
    *pop = (struct model_pop){.key = key,
                              .session = session,
                              .session_id = session_ids[session],
                              .sequence = ++sequences[session],
                              .last_end = below(2)};
    pop->deadline_ms = rig.cluster_time_ms + 1 + (int64_t)(pop->sequence * 37 % 900);
    /* What is there is for those that wait already. */
    if (first[key] < last[key] && !somebody_waits(key)) {
        take(key, pop);
    }
    n_pops++;
    send(pop);
}

static void retry(void)
{
    if (n_pops > 0) {
        send(&pops[below(n_pops)]);
    }
}

static void cancel(void)
{
    struct model_pop *pop = &pops[n_pops > 0 ? below(n_pops) : 0];
    Kv__SessionCancel command = KV__SESSION_CANCEL__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    if (n_pops == 0 || pop->session_id != session_ids[pop->session]) {
        return;
    }
    pop->outcome = pop->outcome == WAITS ? ENDED : pop->outcome;
    serve(2);
    command.session_id = pop->session_id;
    command.sequence = pop->sequence;
    request.command_case = KV__REQUEST__COMMAND_SESSION_CANCEL;
    request.session_cancel = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

static void pass_time(void)
{
    int64_t ms = below(120);

    for (unsigned i = 0; i < n_pops; i++) {
        if (pops[i].outcome == WAITS && pops[i].deadline_ms <= rig.cluster_time_ms + ms) {
            pops[i].outcome = ENDED;
        }
    }
    serve(1);
    machine_rig_pass_time(&rig, ms);
}

static void open_session(unsigned session)
{
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    serve(2);
    open.ttl_ms = 86400000;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    session_ids[session] = reply->session_open->session_id;
    sequences[session] = 0;
    kv__reply__free_unpacked(reply, NULL);
}

static void replace_session(void)
{
    unsigned session = below(SESSIONS);
    Kv__SessionClose command = KV__SESSION_CLOSE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    for (unsigned i = 0; i < n_pops; i++) {
        if (pops[i].session_id == session_ids[session]) {
            /* A retry hears that the session has ended, whatever it was told before. */
            pops[i].outcome = EXPIRED;
        }
    }
    serve(2);
    command.session_id = session_ids[session];
    request.command_case = KV__REQUEST__COMMAND_SESSION_CLOSE;
    request.session_close = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    open_session(session);
}

/* Whom to tell is forgotten: the clients ask again. */
static void reload(void)
{
    const size_t bound = rig.machine->serve_per_command;

    machine_rig_reload(&rig);
    rig.machine->serve_per_command = bound;
    kv_machine_on_wake(rig.machine, on_wake, NULL);
    for (unsigned i = 0; i < n_pops; i++) {
        if (!pops[i].told) {
            send(&pops[i]);
        }
    }
}

static void check_counts(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < n_pops; i++) {
        n += pops[i].outcome == WAITS;
        assert_int_equal(pops[i].told, pops[i].outcome != WAITS);
    }
    assert_int_equal(rig.machine->waiters.n, n);
    for (unsigned i = 0; i < n_pops; i++) {
        if (pops[i].outcome == WAITS && first[pops[i].key] < last[pops[i].key]) {
            /* The rest goes on at once. */
            assert_true(kv_machine_next_due_ms(rig.machine) <= rig.cluster_time_ms);
        }
    }
    kv_machine_check_invariants(rig.machine);
}

static void step(void)
{
    switch (below(40)) {
    case 0:
        rename_list();
        break;
    case 1:
        drop();
        break;
    case 2:
        cancel();
        break;
    case 3:
        replace_session();
        break;
    case 4:
        reload();
        break;
    default:
        if (below(5) == 0) {
            pass_time();
        } else if (below(4) == 0) {
            retry();
        } else if (below(2) == 0) {
            push();
        } else {
            new_pop();
        }
        break;
    }
}

static void run(uint64_t seed)
{
    machine_rig_open(&rig, seed);
    /* The model must know what is due. */
    rig.is_still = true;
    /* With the last one, all that can be are served at once. */
    rig.machine->serve_per_command = (const size_t[]){1, 2, KV_WAITERS_SERVED_MAX}[seed % 3];
    kv_machine_on_wake(rig.machine, on_wake, NULL);
    n_pops = next_element = 0;
    memset(first, 0, sizeof first);
    memset(last, 0, sizeof last);
    for (unsigned i = 0; i < SESSIONS; i++) {
        open_session(i);
    }
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        check_counts();
    }
    machine_rig_close(&rig);
}

static void each_gets_what_the_model_says(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(8);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_gets_what_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
