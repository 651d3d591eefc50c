/* Random sessions, retries, duplicates, silence and snapshots against a naive model, which keeps
 * everything that was ever done in arrays. Each write appends to its own key, so the machine's
 * length of it counts the effects. KV_SEED replays one run. */
#include "server/machine/machine_internal.h"
#include "server/machine/snapshot.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SESSIONS = 600, SEQUENCES = 400, STEPS = 3000, COMMANDS = 3 };

struct done {
    bool was;
    unsigned command;
    int64_t revision;
    uint64_t length;
};

struct model_session {
    bool ordered;
    bool gone;
    uint64_t ttl_ms;
    int64_t deadline_ms;
    uint64_t through;
    struct done done[SEQUENCES];
};

static struct model_session model[SESSIONS + 1]; /* by id */
static uint64_t opened;
static uint64_t lengths[COMMANDS];
static int64_t revision;
static int64_t time_ms;
static uint64_t entry_index;
static struct kv_machine *machine;
static uint64_t random_state;
static uint64_t counts[64]; /* answers by code */
static uint64_t n_retries;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

struct answer {
    Kv__Code code;
    int64_t revision;
    uint64_t number; /* length, or id of a session */
};

static void on_reply(void *arg, Kv__Reply *reply)
{
    struct answer *answer = arg;

    *answer = (struct answer){.code = reply->code, .revision = reply->revision};
    if (reply->result_case == KV__REPLY__RESULT_APPEND) {
        answer->number = reply->append->length;
    } else if (reply->result_case == KV__REPLY__RESULT_SESSION_OPEN) {
        answer->number = reply->session_open->session_id;
    }
}

/* ---------------------------------------------------------------- the model */

static Kv__Code model_find(uint64_t id)
{
    if (id == 0 || id > opened) {
        return KV__CODE__INVALID;
    }
    return model[id].gone || model[id].deadline_ms <= time_ms ? KV__CODE__SESSION_EXPIRED
                                                              : KV__CODE__OK;
}

static struct answer model_append(const Kv__SessionStamp *stamp, unsigned command)
{
    struct answer answer = {.code = KV__CODE__INVALID, .revision = revision};
    struct model_session *session;
    struct done *done;
    uint64_t through;

    if (stamp->session_id == 0 || stamp->sequence == 0 ||
        stamp->sequence <= stamp->acknowledged_through) {
        return answer;
    }
    answer.code = model_find(stamp->session_id);
    if (answer.code != KV__CODE__OK) {
        return answer;
    }
    session = &model[stamp->session_id];
    through = session->through > stamp->acknowledged_through ? session->through
                                                             : stamp->acknowledged_through;
    done = stamp->sequence < SEQUENCES ? &session->done[stamp->sequence] : NULL;
    if (done && done->was && stamp->sequence > session->through) {
        if (done->command != command) {
            answer.code = KV__CODE__INVALID;
            return answer;
        }
        session->through = through;
        session->deadline_ms = time_ms + (int64_t)session->ttl_ms;
        n_retries++;
        return (struct answer){KV__CODE__OK, done->revision, done->length};
    }
    if (stamp->sequence <= through) {
        answer.code = KV__CODE__INVALID;
        return answer;
    }
    if (stamp->sequence > through + KV_SESSION_WINDOW ||
        (session->ordered && stamp->sequence - 1 > through &&
         !session->done[stamp->sequence - 1].was)) {
        answer.code = KV__CODE__BUSY;
        return answer;
    }
    session->through = through;
    session->deadline_ms = time_ms + (int64_t)session->ttl_ms;
    lengths[command]++;
    revision++;
    *done = (struct done){true, command, revision, lengths[command]};
    return (struct answer){KV__CODE__OK, revision, lengths[command]};
}

/* ---------------------------------------------------------------- steps */

static struct answer run(Kv__Request *request)
{
    struct answer answer = {0};

    request->id = rnd(1000);
    request->deadline_ms = (uint32_t)rnd(1000);
    kv_machine_execute(machine, request, on_reply, &answer);
    return answer;
}

static void check_same(struct answer is, struct answer should)
{
    assert_int_equal(is.code, should.code);
    assert_int_equal(is.revision, should.revision);
    if (should.code == KV__CODE__OK) {
        assert_int_equal(is.number, should.number);
    }
    counts[is.code]++;
}

static void step_append(void)
{
    static const char *const keys[COMMANDS] = {"a", "b", "c"};
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__Append append = KV__APPEND__INIT;
    uint64_t through;
    unsigned command = (unsigned)rnd(COMMANDS);

    stamp.session_id = opened > 4 ? opened + 1 - rnd(6) : rnd(opened + 2);
    through = stamp.session_id <= opened ? model[stamp.session_id].through : 0;
    stamp.acknowledged_through = through + rnd(4);
    stamp.acknowledged_through -= rnd(3) ? rnd(through + 1) % 4 : 0;
    stamp.sequence = rnd(60) ? stamp.acknowledged_through + rnd(12)
                             : stamp.acknowledged_through + KV_SESSION_WINDOW + 1 + rnd(5);
    if (stamp.sequence >= SEQUENCES && stamp.sequence <= through + KV_SESSION_WINDOW) {
        return;
    }
    append.key = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t)keys[command]};
    append.value = (ProtobufCBinaryData){1, (uint8_t *)(uintptr_t) "x"};
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_APPEND;
    request.append = &append;
    check_same(run(&request), model_append(&stamp, command));
}

static void step_open(void)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    struct model_session *session;

    if (opened == SESSIONS) {
        return;
    }
    open.ttl_ms = 1000 + rnd(3000);
    open.ordered = rnd(3) == 0;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    session = &model[++opened];
    *session = (struct model_session){.ordered = open.ordered, .ttl_ms = open.ttl_ms};
    session->deadline_ms = time_ms + (int64_t)open.ttl_ms;
    check_same(run(&request), (struct answer){KV__CODE__OK, revision, opened});
}

static void step_renew_or_close(void)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__SessionRenew renew = KV__SESSION_RENEW__INIT;
    Kv__SessionClose close = KV__SESSION_CLOSE__INIT;
    uint64_t id = rnd(opened + 2);
    Kv__Code code = model_find(id);

    renew.session_id = close.session_id = id;
    if (rnd(5)) {
        request.command_case = KV__REQUEST__COMMAND_SESSION_RENEW;
        request.session_renew = &renew;
        if (code == KV__CODE__OK) {
            model[id].deadline_ms = time_ms + (int64_t)model[id].ttl_ms;
        }
    } else {
        request.command_case = KV__REQUEST__COMMAND_SESSION_CLOSE;
        request.session_close = &close;
        if (code == KV__CODE__OK) {
            model[id].gone = true;
        }
    }
    check_same(run(&request), (struct answer){code, revision, 0});
}

/* The machine is replaced by one that is loaded from its snapshot. */
static void step_reload(void)
{
    struct kv_machine_loader *loader;
    struct kv_machine_view *view;
    struct kv_machine *loaded;
    struct kv_error error;
    struct kv_buf bytes;

    kv_buf_init(&bytes, 1 << 26);
    assert_int_equal(kv_machine_view_open(machine, &view), 0);
    while (kv_machine_view_read(view, &bytes, bytes.size + 1000) == 1) {
    }
    kv_machine_view_close(machine, view);
    assert_int_equal(kv_machine_loader_open(&loader), 0);
    assert_int_equal(kv_machine_loader_feed(loader, kv_slice_of(bytes.data, bytes.size), &error),
                     0);
    assert_int_equal(kv_machine_loader_finish(loader, &loaded, &error), 0);
    kv_machine_loader_close(loader);
    kv_buf_deinit(&bytes);
    assert_true(kv_machine_state_hash(loaded) == kv_machine_state_hash(machine));
    kv_machine_close(machine);
    machine = loaded;
}

static void check_machine(void)
{
    struct kv_machine_stats stats;
    int64_t due_ms = INT64_MAX;
    uint64_t n = 0;

    for (uint64_t id = 1; id <= opened; id++) {
        if (model_find(id) == KV__CODE__OK) {
            n++;
            due_ms = model[id].deadline_ms < due_ms ? model[id].deadline_ms : due_ms;
        }
    }
    kv_machine_stats(machine, &stats);
    assert_int_equal(stats.sessions, n);
    assert_int_equal(kv_machine_next_due_ms(machine), due_ms);
    kv_machine_check_invariants(machine);
}

static void step_entry(void)
{
    time_ms += (int64_t)(rnd(3) ? rnd(20) : rnd(200));
    assert_int_equal(kv_machine_begin(machine, ++entry_index, KV_MACHINE_VERSION, time_ms), 0);
    for (uint64_t i = rnd(6); i > 0; i--) {
        switch (rnd(20)) {
        case 0:
            step_open();
            break;
        case 1:
        case 2:
            step_renew_or_close();
            break;
        default:
            step_append();
            break;
        }
    }
    kv_machine_end(machine);
}

static void run_seed(uint64_t seed)
{
    print_message("seed %llu\n", (unsigned long long)seed);
    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    opened = 0;
    revision = KV_REVISION_FIRST;
    time_ms = 0;
    entry_index = 0;
    memset(lengths, 0, sizeof lengths);
    assert_int_equal(kv_machine_open(&machine), 0);
    for (unsigned i = 0; i < STEPS; i++) {
        step_entry();
        if (rnd(30) == 0) {
            step_reload();
        }
        if (rnd(20) == 0) {
            check_machine();
        }
    }
    check_machine();
    kv_machine_close(machine);
}

static void sessions_do_as_the_model(void **state)
{
    const struct kv_test_seeds seeds = kv_test_seeds(30);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        run_seed(seed);
    }
    print_message(
        "%llu done or retried, %llu of them retried, %llu invalid, %llu busy, %llu ended\n",
        (unsigned long long)counts[KV__CODE__OK],
        (unsigned long long)n_retries,
        (unsigned long long)counts[KV__CODE__INVALID],
        (unsigned long long)counts[KV__CODE__BUSY],
        (unsigned long long)counts[KV__CODE__SESSION_EXPIRED]);
    assert_true(n_retries > 0 && counts[KV__CODE__INVALID] > 0 && counts[KV__CODE__BUSY] > 0 &&
                counts[KV__CODE__SESSION_EXPIRED] > 0);
}

/* Negative control: a session that differs from the model's is seen in its hash and answers. */
static void a_lost_answer_is_seen(void **state)
{
    struct kv_sessions_reply *reply = kv_sessions_reply_new(0);
    struct kv_sessions_one *one;
    uint64_t before;

    (void)state;
    assert_int_equal(kv_machine_open(&machine), 0);
    one = kv_sessions_add(&machine->sessions, ++machine->sessions.last_id, 1000, 1000, false);
    reply->command_hash = reply->code = 0;
    reply->revision = 1;
    kv_sessions_record(&machine->sessions, one, 1, reply);
    before = kv_machine_state_hash(machine);
    kv_sessions_acknowledge(&machine->sessions, one, 1);
    assert_true(kv_machine_state_hash(machine) != before);
    kv_machine_close(machine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sessions_do_as_the_model),
        cmocka_unit_test(a_lost_answer_is_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
