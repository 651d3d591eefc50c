/* Histories made by clients that overlap at the real state machine, with requests that get lost
 * before or after they are done, are accepted; the same with one reply changed are refused. KV_SEED
 * replays a run. */
#include "common/limits.h"
#include "server/machine/machine.h"
#include "tests/sim/check.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

enum { CLIENTS_MAX = 16, LIMBO_MAX = 64, OPS_MAX = 20000, REPLICA = 2 };

/* What a run is like. */
struct mix {
    unsigned clients, keys, ops;
    unsigned lost_percent; /* of writes: their outcome is never told */
    unsigned refused_percent;
    bool same_values; /* writes of one key often write the same */
    bool plain;       /* puts and gets only */
    bool forgetful;   /* replies tell no revisions */
};

enum doing { IDLE, ASKED, STREAMING, DONE };

struct actor {
    enum doing doing;
    size_t op;
    Kv__Request *request;
    Kv__Reply *reply;
    struct kv_range_stream stream;
};

static struct mix mix;
static struct actor actors[CLIENTS_MAX];
static Kv__Request *limbo[LIMBO_MAX]; /* of unknown outcome, may still be done */
static struct kv_machine *machine;
static struct kv_machine *replica; /* the same, later */
static Kv__Request *done_writes[OPS_MAX + LIMBO_MAX];
static size_t n_done_writes;
static size_t n_replica_writes;
static uint64_t log_index;
static uint64_t random_state;
static unsigned long n_values;
static int64_t now_ns;
static struct kv_history *history;
static struct kv_report report;

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

static bool percent(unsigned n)
{
    return rnd(100) < n;
}

static ProtobufCBinaryData bytes_of(char *text)
{
    return (ProtobufCBinaryData){strlen(text), (uint8_t *)text};
}

static Kv__Request *copy_request(const Kv__Request *request)
{
    size_t size = kv__request__get_packed_size(request);
    uint8_t *bytes = malloc(size + 1);
    Kv__Request *copy;

    kv__request__pack(request, bytes);
    copy = kv__request__unpack(NULL, size, bytes);
    free(bytes);
    return copy;
}

static void keep_reply(void *arg, Kv__Reply *reply)
{
    size_t size = kv__reply__get_packed_size(reply);
    uint8_t *bytes = malloc(size + 1);

    if (arg) {
        kv__reply__pack(reply, bytes);
        *(Kv__Reply **)arg = kv__reply__unpack(NULL, size, bytes);
    }
    free(bytes);
}

/* --- requests --- */

static char key_text[32], second_key_text[32], value_text[64];

static ProtobufCBinaryData random_key(char *text)
{
    snprintf(text, 32, "key/%02u", (unsigned)rnd(mix.keys));
    return bytes_of(text);
}

static ProtobufCBinaryData random_value(void)
{
    if (mix.same_values && percent(50)) {
        snprintf(value_text, sizeof value_text, "same%u", (unsigned)rnd(2));
    } else if (!mix.plain && percent(5)) {
        value_text[0] = '\0';
    } else {
        snprintf(value_text, sizeof value_text, "v%lu", ++n_values);
    }
    return bytes_of(value_text);
}

static Kv__Request *make_put(void)
{
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    put.key = random_key(key_text);
    put.value = random_value();
    put.return_previous = percent(20);
    if (!mix.plain && percent(30)) {
        put.condition_case = (Kv__Put__ConditionCase)(8 + rnd(3));
        put.if_absent = true;
        if (put.condition_case == KV__PUT__CONDITION_IF_MOD_REVISION) {
            put.if_mod_revision = (int64_t)rnd((uint64_t)kv_machine_revision(machine) + 1);
        }
    }
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    return copy_request(&request);
}

static Kv__Request *make_get(void)
{
    Kv__Get get = KV__GET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    get.key = random_key(key_text);
    if (!mix.plain && percent(15)) {
        get.at_revision = 1 + (int64_t)rnd((uint64_t)kv_machine_revision(machine) + 3);
    }
    request.serializable = percent(15);
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    return copy_request(&request);
}

static Kv__Request *make_range(void)
{
    Kv__KeyRange bounds = KV__KEY_RANGE__INIT;
    Kv__Range range = KV__RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    bounds.start = random_key(key_text);
    bounds.special = percent(50) ? KV__KEY_RANGE__SPECIAL__FROM_KEY : KV__KEY_RANGE__SPECIAL__ALL;
    if (bounds.special == KV__KEY_RANGE__SPECIAL__ALL) {
        bounds.start.len = 0;
    }
    range.range = &bounds;
    range.limit = percent(30) ? 1 + rnd(mix.keys) : 0;
    range.descending = percent(30);
    range.keys_only = percent(20);
    range.stream = percent(50);
    range.count_only = !range.stream && percent(30);
    range.min_mod_revision = percent(20) ? (int64_t)rnd(50) : 0;
    if (percent(20)) {
        range.at_revision = 1 + (int64_t)rnd((uint64_t)kv_machine_revision(machine));
    }
    request.serializable = !range.stream && percent(20);
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &range;
    return copy_request(&request);
}

static Kv__Request *make_delete(void)
{
    Kv__KeyRange bounds = KV__KEY_RANGE__INIT;
    Kv__KeyRange *ranges[] = {&bounds};
    ProtobufCBinaryData keys[] = {random_key(key_text), random_key(second_key_text)};
    Kv__Delete command = KV__DELETE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.n_keys = 1 + rnd(2);
    command.keys = keys;
    command.return_previous = percent(50);
    if (percent(20)) {
        bounds.start = keys[0];
        bounds.special = KV__KEY_RANGE__SPECIAL__PREFIX;
        command.n_ranges = 1;
        command.ranges = ranges;
    }
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    return copy_request(&request);
}

static Kv__Request *make_exists(void)
{
    ProtobufCBinaryData keys[] = {random_key(key_text), random_key(second_key_text)};
    Kv__Exists command = KV__EXISTS__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.n_keys = 2;
    command.keys = keys;
    request.command_case = KV__REQUEST__COMMAND_EXISTS;
    request.exists = &command;
    return copy_request(&request);
}

/* The other commands on one key. */
static Kv__Request *make_other(void)
{
    Kv__Append append = KV__APPEND__INIT;
    Kv__GetSet getset = KV__GET_SET__INIT;
    Kv__GetDel getdel = KV__GET_DEL__INIT;
    Kv__StrLen length = KV__STR_LEN__INIT;
    Kv__GetRange slice = KV__GET_RANGE__INIT;
    Kv__SetRange set_range = KV__SET_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    append.key = getset.key = getdel.key = length.key = slice.key = set_range.key =
        random_key(key_text);
    append.value = getset.value = set_range.value = random_value();
    slice.first = (int64_t)rnd(8) - 4;
    slice.last = (int64_t)rnd(12) - 4;
    set_range.offset = rnd(6);
    request.command_case = (Kv__Request__CommandCase[]){KV__REQUEST__COMMAND_APPEND,
                                                        KV__REQUEST__COMMAND_GETSET,
                                                        KV__REQUEST__COMMAND_GETDEL,
                                                        KV__REQUEST__COMMAND_STRLEN,
                                                        KV__REQUEST__COMMAND_GET_RANGE,
                                                        KV__REQUEST__COMMAND_SET_RANGE}[rnd(6)];
    switch (request.command_case) {
    case KV__REQUEST__COMMAND_APPEND:
        request.append = &append;
        break;
    case KV__REQUEST__COMMAND_GETSET:
        request.getset = &getset;
        break;
    case KV__REQUEST__COMMAND_GETDEL:
        request.getdel = &getdel;
        break;
    case KV__REQUEST__COMMAND_STRLEN:
        request.strlen = &length;
        break;
    case KV__REQUEST__COMMAND_GET_RANGE:
        request.get_range = &slice;
        break;
    default:
        request.set_range = &set_range;
        break;
    }
    return copy_request(&request);
}

static Kv__Request *make_request(void)
{
    uint64_t dice = rnd(100);

    if (mix.plain) {
        return percent(50) ? make_put() : make_get();
    }
    return dice < 30   ? make_put()
           : dice < 55 ? make_get()
           : dice < 80 ? make_other()
           : dice < 87 ? make_delete()
           : dice < 92 ? make_exists()
                       : make_range();
}

/* --- the store --- */

static void run_write(struct kv_machine *target, const Kv__Request *request, Kv__Reply **ret_reply)
{
    assert_int_equal(kv_machine_begin(target, ++log_index, 1, now_ns / 1000000), 0);
    kv_machine_execute(target, request, keep_reply, ret_reply);
    kv_machine_end(target);
}

static void do_write(Kv__Request *request, Kv__Reply **ret_reply)
{
    run_write(machine, request, ret_reply);
    done_writes[n_done_writes++] = copy_request(request);
}

static void advance_replica(void)
{
    size_t n = n_replica_writes + (size_t)rnd(n_done_writes - n_replica_writes + 1);

    for (; n_replica_writes < n; n_replica_writes++) {
        run_write(replica, done_writes[n_replica_writes], NULL);
    }
}

static void keep_piece(void *arg, Kv__RangeResult *result, int64_t revision)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;

    item.item_case = KV__STREAM_ITEM__ITEM_RANGE;
    item.range = result;
    item.revision = revision;
    assert_int_equal(kv_history_item(history, *(size_t *)arg, &item), 0);
}

/* --- clients --- */

static void finish(struct actor *actor, int status, const Kv__Reply *reply)
{
    uint64_t node = actor->request->serializable ? REPLICA : 1;

    assert_int_equal(kv_history_end(history, actor->op, now_ns, node, status, reply), 0);
}

static void let_go(struct actor *actor)
{
    if (actor->request) {
        kv__request__free_unpacked(actor->request, NULL);
    }
    if (actor->reply) {
        kv__reply__free_unpacked(actor->reply, NULL);
    }
    *actor = (struct actor){0};
}

static void ask(struct actor *actor, uint64_t client)
{
    actor->request = make_request();
    actor->doing = ASKED;
    assert_int_equal(kv_history_begin(history, client, now_ns, actor->request, &actor->op), 0);
}

static void stream(struct actor *actor)
{
    struct kv_error error;
    int more = kv_machine_range_piece(
        machine, actor->request->range, &actor->stream, 250, keep_piece, &actor->op, &error);

    actor->doing = STREAMING;
    if (more <= 0) {
        finish(actor, more, NULL);
        let_go(actor);
    }
}

/* The request meets the store, or something in between. */
static void serve(struct actor *actor)
{
    bool is_write = kv_command_classify(actor->request) == KV_COMMAND_WRITE;
    size_t slot = (size_t)rnd(LIMBO_MAX);

    if (percent(mix.refused_percent)) {
        finish(actor, KV_BUSY, NULL);
        let_go(actor);
    } else if (is_write && percent(mix.lost_percent) && !limbo[slot]) {
        limbo[slot] = actor->request;
        if (percent(50)) {
            finish(actor, KV_OUTCOME_UNKNOWN, NULL);
        }
        actor->request = NULL;
        let_go(actor);
    } else if (kv_command_classify(actor->request) == KV_COMMAND_STREAM) {
        stream(actor);
    } else if (is_write) {
        do_write(actor->request, &actor->reply);
        actor->doing = DONE;
    } else if (actor->request->serializable) {
        advance_replica();
        kv_machine_read(replica, actor->request, keep_reply, &actor->reply);
        actor->doing = DONE;
    } else {
        kv_machine_read(machine, actor->request, keep_reply, &actor->reply);
        actor->doing = DONE;
    }
}

static void step(uint64_t client)
{
    struct actor *actor = &actors[client];

    now_ns += 1000 + (int64_t)rnd(100000);
    switch (actor->doing) {
    case IDLE:
        ask(actor, client + 1);
        break;
    case ASKED:
        serve(actor);
        break;
    case STREAMING:
        stream(actor);
        break;
    case DONE:
        if (mix.forgetful) {
            actor->reply->revision = 0;
        }
        finish(actor, -(int)actor->reply->code, actor->reply);
        let_go(actor);
        break;
    }
}

/* One of the lost writes arrives after all, or is gone for good. */
static void stir_limbo(void)
{
    size_t slot = (size_t)rnd(LIMBO_MAX);

    if (limbo[slot]) {
        if (percent(70)) {
            do_write(limbo[slot], NULL);
        }
        kv__request__free_unpacked(limbo[slot], NULL);
        limbo[slot] = NULL;
    }
}

static void make_history(const struct mix *wanted, uint64_t seed)
{
    mix = *wanted;
    random_state = seed * 2 + 1;
    n_values = log_index = n_done_writes = n_replica_writes = 0;
    now_ns = 0;
    assert_int_equal(kv_machine_open(&machine), 0);
    assert_int_equal(kv_machine_open(&replica), 0);
    assert_int_equal(kv_history_open(mix.ops, 1024 * KV_MIB, &history), 0);
    while (history->n_ops < mix.ops) {
        step(rnd(mix.clients));
        if (percent(10)) {
            stir_limbo();
        }
    }
}

static void end_history(void)
{
    for (size_t i = 0; i < CLIENTS_MAX; i++) {
        let_go(&actors[i]);
    }
    for (size_t i = 0; i < LIMBO_MAX; i++) {
        if (limbo[i]) {
            kv__request__free_unpacked(limbo[i], NULL);
        }
        limbo[i] = NULL;
    }
    for (size_t i = 0; i < n_done_writes; i++) {
        kv__request__free_unpacked(done_writes[i], NULL);
    }
    kv_machine_close(machine);
    kv_machine_close(replica);
    kv_history_close(history);
}

static uint64_t first_seed(void)
{
    const char *text = getenv("KV_SEED");

    return text ? strtoull(text, NULL, 10) : 1;
}

static unsigned n_seeds(void)
{
    return getenv("KV_SEED") ? 1 : getenv("KV_LONG") ? 1000 : 60;
}

static void accept_all(const struct mix *wanted, const char *name)
{
    for (uint64_t seed = first_seed(); seed < first_seed() + n_seeds(); seed++) {
        make_history(wanted, seed);
        kv_check_history(history, NULL, &report);
        if (report.verdict != KV_VERDICT_GOOD) {
            kv_report_print(&report, stdout);
            printf("%s, KV_SEED=%lu:\n%s", name, (unsigned long)seed, report.text);
        }
        assert_int_equal(report.verdict, KV_VERDICT_GOOD);
        assert_int_equal(report.replayed, !wanted->forgetful);
        end_history();
    }
}

static void test_good_histories_are_accepted(void **state)
{
    static const struct mix all = {.clients = 8, .keys = 6, .ops = 600, .refused_percent = 3};

    (void)state;
    accept_all(&all, "all commands");
}

static void test_lost_requests_are_allowed_either_way(void **state)
{
    static const struct mix lossy = {
        .clients = 8, .keys = 5, .ops = 500, .lost_percent = 10, .refused_percent = 5};

    (void)state;
    accept_all(&lossy, "lossy");
}

static void test_equal_values_are_told_apart_or_left_open(void **state)
{
    static const struct mix same = {
        .clients = 6, .keys = 2, .ops = 300, .lost_percent = 8, .same_values = true};

    (void)state;
    accept_all(&same, "same values");
}

static void test_histories_without_revisions_are_searched(void **state)
{
    static const struct mix plain = {
        .clients = 5, .keys = 3, .ops = 300, .lost_percent = 5, .plain = true, .forgetful = true};

    (void)state;
    accept_all(&plain, "no revisions");
}

/* Any other value in a reply that tells one is refused, by both checkers or one of them. */
static void test_a_changed_value_is_refused(void **state)
{
    static const struct mix all = {.clients = 8, .keys = 6, .ops = 400};
    unsigned n_changed = 0;

    (void)state;
    for (uint64_t seed = 1; seed <= n_seeds(); seed++) {
        make_history(&all, seed);
        for (size_t i = (size_t)rnd(300); i < history->n_ops; i++) {
            Kv__Reply *reply = history->ops[i].reply;

            if (reply && reply->result_case == KV__REPLY__RESULT_GET && reply->get->kv &&
                reply->get->kv->value.len > 0) {
                reply->get->kv->value.data[0] ^= 1;
                n_changed++;
                break;
            }
        }
        kv_check_history(history, NULL, &report);
        assert_int_equal(report.verdict, KV_VERDICT_BAD);
        assert_non_null(strstr(report.key, "key/"));
        end_history();
    }
    assert_int_equal(n_changed, n_seeds());
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Prints what a large history takes; the limits of the search hold it, not a clock. */
static void test_a_large_history_takes_few_steps(void **state)
{
    static const struct mix kinds[] = {
        {.clients = 16, .keys = 50, .ops = OPS_MAX, .plain = true},
        {.clients = 16, .keys = 50, .ops = OPS_MAX, .lost_percent = 1},
        {.clients = 16, .keys = 1, .ops = OPS_MAX, .lost_percent = 1},
        {.clients = 16, .keys = 50, .ops = OPS_MAX, .lost_percent = 1, .forgetful = true},
    };

    (void)state;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        double began_s, took_s;

        make_history(&kinds[i], 7);
        began_s = now_s();
        kv_check_history(history, NULL, &report);
        took_s = now_s() - began_s;
        print_message("%.3f s: ", took_s);
        kv_report_print(&report, stdout);
        if (report.verdict != KV_VERDICT_GOOD) {
            print_message("%s", report.text);
        }
        assert_int_equal(report.verdict, KV_VERDICT_GOOD);
        assert_true(report.steps < 20 * report.n_touches);
        end_history();
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good_histories_are_accepted),
        cmocka_unit_test(test_lost_requests_are_allowed_either_way),
        cmocka_unit_test(test_equal_values_are_told_apart_or_left_open),
        cmocka_unit_test(test_histories_without_revisions_are_searched),
        cmocka_unit_test(test_a_changed_value_is_refused),
        cmocka_unit_test(test_a_large_history_takes_few_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
