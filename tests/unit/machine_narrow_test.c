/* Commands at the lowest limits of work and reply, and such that are none: what the simulator
 * seldom or never asks for. What is refused changes nothing. */
#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "server/machine/packed.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { WORK = 100, REPLY_BYTES = 64 * 1024, KEYS = 2 * WORK };

static struct machine_rig rig;
static struct kv_arena arena;
static char names[KEYS][16];

/* So many keys as two commands may touch. */
static int set_up(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    kv_arena_init(&arena, 64 * KV_MIB);
    rig.checks = false;
    for (unsigned i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof names[i], "k/%03u", i);
        machine_rig_expect(&rig, call_put(&arena, names[i], "value"), KV__CODE__OK);
    }
    rig.checks = true;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    kv_arena_deinit(&arena);
    return 0;
}

static void be_narrow(void)
{
    machine_rig_set(&rig, "work-limit", WORK);
    machine_rig_set(&rig, "reply-limit", REPLY_BYTES);
}

static void refuse(Kv__Request *request)
{
    machine_rig_refuse(&rig, request, KV__CODE__TOO_LARGE);
}

static const char *large(size_t size)
{
    char *text = kv_arena_alloc(&arena, size + 1);

    assert_non_null(text);
    memset(text, 'v', size);
    text[size] = '\0';
    return text;
}

static void ranges_of_many_keys(void **state)
{
    const int64_t then = kv_machine_revision(rig.machine);
    Kv__Request *touch = call_touch(&arena, names[0]);
    Kv__Request *range = call_range(&arena, "k/", then);
    ProtobufCBinaryData keys[KEYS];

    (void)state;
    be_narrow();
    machine_rig_expect(&rig, call_put(&arena, "later", ""), KV__CODE__OK);
    refuse(call_delete_prefix(&arena, "k/"));
    refuse(call_count(&arena, "k/", then));
    range->range->count_only = true;
    refuse(range);
    for (unsigned i = 0; i < KEYS; i++) {
        keys[i] = machine_rig_bytes(names[i]);
    }
    touch->touch->n_keys = KEYS;
    touch->touch->keys = keys;
    refuse(touch);
}

static void a_transaction_that_looks_at_many_keys(void **state)
{
    Kv__Compare *compare = call_compare(&arena, "k/", KV__COMPARISON__COMPARE_EQUAL);
    Kv__Request *txn = call_if(&arena, call_txn(&arena), compare);

    (void)state;
    be_narrow();
    compare->range->special = KV__KEY_RANGE__SPECIAL__PREFIX;
    compare->operand_case = KV__COMPARE__OPERAND_EXISTS;
    compare->exists = true;
    refuse(call_then(&arena, txn, call_put(&arena, "done", "")));
}

static void the_past_of_a_key(void **state)
{
    const int64_t first = kv_machine_revision(rig.machine) + 1;

    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        machine_rig_expect(&rig, call_append(&arena, "k", "v"), KV__CODE__OK);
    }
    be_narrow();
    refuse(call_key_history(&arena, "k", first, 0));
}

static void large_answers(void **state)
{
    Kv__Request get = KV__REQUEST__INIT;
    Kv__HashGet command = KV__HASH_GET__INIT;
    ProtobufCBinaryData fields[2] = {machine_rig_bytes("f000"), machine_rig_bytes("f001")};
    Kv__Request *victims = call_delete(&arena, "a", true);
    ProtobufCBinaryData keys[2] = {machine_rig_bytes("a"), machine_rig_bytes("b")};

    (void)state;
    be_narrow();
    machine_rig_expect(&rig, call_put(&arena, "a", large(REPLY_BYTES / 2)), KV__CODE__OK);
    machine_rig_expect(&rig, call_put(&arena, "b", large(REPLY_BYTES / 2)), KV__CODE__OK);
    victims->delete_->n_keys = 2;
    victims->delete_->keys = keys;
    refuse(victims);
    machine_rig_expect(
        &rig, call_hash_set(&arena, "h", 0, 2, large(REPLY_BYTES / 2)), KV__CODE__OK);
    refuse(call_hash_get_all(&arena, "h", 0));
    command.key = machine_rig_bytes("h");
    command.n_fields = 2;
    command.fields = fields;
    get.command_case = KV__REQUEST__COMMAND_HASH_GET;
    get.hash_get = &command;
    refuse(&get);
}

static void collections_of_many_elements(void **state)
{
    const int64_t then = kv_machine_revision(rig.machine) + 3;
    Kv__ZSetCount count = KV__ZSET_COUNT__INIT;
    Kv__SetCombine combine = KV__SET_COMBINE__INIT;
    ProtobufCBinaryData sources[2] = {machine_rig_bytes("s"), machine_rig_bytes("s")};
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    machine_rig_expect(&rig, call_hash_set(&arena, "h", 0, KEYS, ""), KV__CODE__OK);
    machine_rig_expect(&rig, call_set_add(&arena, "s", 0, KEYS), KV__CODE__OK);
    machine_rig_expect(&rig, call_zset_add(&arena, "z", 0, KEYS), KV__CODE__OK);
    machine_rig_expect(&rig, call_zset_pop(&arena, "z", 1), KV__CODE__OK);
    be_narrow();
    refuse(call_hash_get_all(&arena, "h", 0));
    combine.combination = KV__COMBINATION__COMBINE_INTERSECTION;
    combine.n_keys = 2;
    combine.keys = sources;
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &combine;
    refuse(&request);
    /* Of the past they are put in order first. */
    count.key = machine_rig_bytes("z");
    count.at_revision = then;
    count.span = &(Kv__ZSetSpan)KV__ZSET_SPAN__INIT;
    count.span->span_case = KV__ZSET_SPAN__SPAN_RANKS;
    count.span->ranks = &(Kv__ZSetSpan__Ranks)KV__ZSET_SPAN__RANKS__INIT;
    kv__request__init(&request);
    request.command_case = KV__REQUEST__COMMAND_ZSET_COUNT;
    request.zset_count = &count;
    refuse(&request);
}

/* More members than a reply has room for, whatever their size. */
static void members_in_pieces(void **state)
{
    Kv__ZSetRange range = KV__ZSET_RANGE__INIT;
    Kv__ZSetSpan__Ranks ranks = KV__ZSET_SPAN__RANKS__INIT;
    Kv__ZSetSpan span = KV__ZSET_SPAN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    enum { MEMBERS = 5000 };

    (void)state;
    machine_rig_expect(&rig, call_zset_add(&arena, "z", 0, MEMBERS), KV__CODE__OK);
    machine_rig_set(&rig, "reply-limit", REPLY_BYTES);
    ranks.last = -1;
    span.span_case = KV__ZSET_SPAN__SPAN_RANKS;
    span.ranks = &ranks;
    range.key = machine_rig_bytes("z");
    range.span = &span;
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANGE;
    request.zset_range = &range;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_true(reply->zset_range->more);
    assert_in_range(reply->zset_range->n_members, 1, MEMBERS - 1);
    assert_true(kv__reply__get_packed_size(reply) <= REPLY_BYTES);
    kv__reply__free_unpacked(reply, NULL);
}

/* What was compacted away is freed in steps: what waits for it counts no more. */
static void counting_what_is_gone(void **state)
{
    enum { MANY = 2 * KV_RECLAIM_PER_ENTRY };
    char name[16];
    int64_t then;
    Kv__Reply *reply;

    (void)state;
    rig.checks = false;
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(name, sizeof name, "gone/%u", i);
        machine_rig_expect(&rig, call_put(&arena, name, ""), KV__CODE__OK);
    }
    machine_rig_expect(&rig, call_delete_prefix(&arena, "gone/"), KV__CODE__OK);
    machine_rig_expect(&rig, call_put(&arena, "gone/not", ""), KV__CODE__OK);
    then = kv_machine_revision(rig.machine);
    machine_rig_expect(&rig, call_put(&arena, "gone/later", ""), KV__CODE__OK);
    machine_rig_expect(&rig, call_compact(&arena, then), KV__CODE__OK);
    reply = machine_rig_read(&rig, call_count(&arena, "gone/", then));
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->count->count, 1);
    kv__reply__free_unpacked(reply, NULL);
}

/* A lease that was revoked with more keys than one command ends is no lease any more, and its id is
 * not free. */
static void a_lease_that_is_taken_away(void **state)
{
    Kv__Reply *reply;

    (void)state;
    be_narrow();
    machine_rig_expect(&rig, call_lease_grant(&arena, 7, 60000), KV__CODE__OK);
    machine_rig_expect(&rig, call_lease_grant(&arena, 8, 60000), KV__CODE__OK);
    for (unsigned i = 0; i < KEYS; i++) {
        machine_rig_expect(&rig, call_put_lease(&arena, names[i], "", 7), KV__CODE__OK);
    }
    machine_rig_expect(&rig, call_lease_revoke(&arena, 7), KV__CODE__OK);
    reply = machine_rig_read(&rig, call_lease_list(&arena, 0, 0));
    assert_int_equal(reply->lease_list->n_lease_ids, 1);
    assert_int_equal(reply->lease_list->lease_ids[0], 8);
    kv__reply__free_unpacked(reply, NULL);
    machine_rig_expect(&rig, call_lease_grant(&arena, 7, 60000), KV__CODE__BUSY);
    machine_rig_pass_time(&rig, 1);
    machine_rig_expect(&rig, call_lease_grant(&arena, 7, 60000), KV__CODE__OK);
}

/* Always at one place: in the end there are more to be spread than a command may touch. */
static void a_crowded_list(void **state)
{
    Kv__ListInsert insert = KV__LIST_INSERT__INIT;
    Kv__ListPush push = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Code code = KV__CODE__OK;
    unsigned n = 0;

    (void)state;
    be_narrow();
    rig.checks = false;
    push.key = insert.key = machine_rig_bytes("l");
    push.end = KV__LIST_END__LIST_LEFT;
    push.n_elements = 1;
    push.elements = &insert.pivot;
    machine_rig_expect(&rig, call_list_push(&arena, "l", true, WORK), KV__CODE__OK);
    machine_rig_expect(&rig, call_list_push(&arena, "l", true, WORK), KV__CODE__OK);
    insert.pivot = machine_rig_bytes("first");
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &push;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    insert.element = machine_rig_bytes("next");
    insert.after = true;
    request.command_case = KV__REQUEST__COMMAND_LIST_INSERT;
    request.list_insert = &insert;
    for (; code == KV__CODE__OK && n < 1000 * WORK; n++) {
        Kv__Reply *reply = machine_rig_write(&rig, &request);

        code = reply->code;
        kv__reply__free_unpacked(reply, NULL);
    }
    assert_int_equal(code, KV__CODE__TOO_LARGE);
    refuse(&request);
    kv_machine_check_invariants(rig.machine);
}

static void expect_unsound(enum kv_type type, const char *bytes, size_t size)
{
    assert_false(kv_packed_is_sound(
        &(struct kv_packed){.type = type, .data = (uint8_t *)(uintptr_t)bytes, .size = size}));
}

/* The inline form, as a snapshot may hold it that somebody has made. */
static void packed_elements_that_are_none(void **state)
{
    (void)state;
    expect_unsound(KV_TYPE_LIST, "\x01\x81", 2);                     /* half of a size */
    expect_unsound(KV_TYPE_LIST, "\x01\x02x", 3);                    /* half of an element */
    expect_unsound(KV_TYPE_ZSET, "\x01\x01m1234567", 10);            /* half of a score */
    expect_unsound(KV_TYPE_ZSET, "\x01\x01m\0\0\0\0\0\0\0\x80", 11); /* -0 */
    expect_unsound(KV_TYPE_LIST, "", 0);
}

/* Between one score and the same, both left out, lies nothing. */
static void no_score_between(void **state)
{
    Kv__ScoreBound min = KV__SCORE_BOUND__INIT, max = KV__SCORE_BOUND__INIT;
    Kv__ZSetSpan__Scores scores = KV__ZSET_SPAN__SCORES__INIT;
    Kv__ZSetSpan span = KV__ZSET_SPAN__INIT;
    Kv__ZSetMember member = KV__ZSET_MEMBER__INIT;
    Kv__ZSetAdd add = KV__ZSET_ADD__INIT;
    Kv__ZSetRange range = KV__ZSET_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    (void)state;
    member.member = machine_rig_bytes("m");
    member.score = min.score = max.score = 1;
    min.exclusive = max.exclusive = true;
    add.key = range.key = machine_rig_bytes("z");
    add.n_members = 1;
    add.members = &(Kv__ZSetMember *){&member};
    request.command_case = KV__REQUEST__COMMAND_ZSET_ADD;
    request.zset_add = &add;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    scores.min = &min;
    scores.max = &max;
    span.span_case = KV__ZSET_SPAN__SPAN_SCORES;
    span.scores = &scores;
    range.span = &span;
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANGE;
    request.zset_range = &range;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->zset_range->n_members, 0);
    kv__reply__free_unpacked(reply, NULL);
}

static void numbers_that_overflow(void **state)
{
    (void)state;
    machine_rig_expect(&rig, call_hash_add(&arena, "h", 0, INT64_MAX), KV__CODE__OK);
    machine_rig_refuse(&rig, call_hash_add(&arena, "h", 0, 1), KV__CODE__OVERFLOW);
    refuse(call_set_range(&arena, "t", UINT64_MAX, "v"));
}

static void expect_invalid(const Kv__Request *request, int status, enum kv_command_class cls)
{
    struct kv_error error;

    assert_int_equal(kv_command_validate(request, kv_machine_settings_of(rig.machine), &error),
                     status);
    assert_int_equal(kv_command_classify(request), cls);
}

static void requests_that_are_none(void **state)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__EventKind kind = (Kv__EventKind)77;
    Kv__SessionRenew renew = KV__SESSION_RENEW__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;

    (void)state;
    expect_invalid(&request, KV_INVALID, KV_COMMAND_NONE);
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &(Kv__Delete)KV__DELETE__INIT;
    expect_invalid(&request, KV_INVALID, KV_COMMAND_WRITE);
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &watch;
    watch.range = &range;
    range.start = machine_rig_bytes("a");
    expect_invalid(&request, 0, KV_COMMAND_SUBSCRIBE);
    range.end = machine_rig_bytes("a");
    expect_invalid(&request, KV_INVALID, KV_COMMAND_SUBSCRIBE);
    range.start.len = range.end.len = 0;
    expect_invalid(&request, KV_INVALID, KV_COMMAND_SUBSCRIBE);
    range.start = machine_rig_bytes("a");
    watch.n_kinds = 1;
    watch.kinds = &kind;
    expect_invalid(&request, KV_INVALID, KV_COMMAND_SUBSCRIBE);
    request.command_case = KV__REQUEST__COMMAND_SESSION_RENEW;
    request.session_renew = &renew;
    expect_invalid(&request, 0, KV_COMMAND_WRITE);
    stamp.session_id = stamp.sequence = 1;
    request.session = &stamp;
    expect_invalid(&request, KV_INVALID, KV_COMMAND_WRITE);
}

static void an_entry_of_a_later_version(void **state)
{
    const uint64_t hash = kv_machine_state_hash(rig.machine);

    (void)state;
    assert_int_equal(
        kv_machine_begin(
            rig.machine, rig.log_index + 1, KV_MACHINE_VERSION + 1, rig.cluster_time_ms),
        KV_UNSUPPORTED);
    assert_true(kv_machine_state_hash(rig.machine) == hash);
    machine_rig_expect(&rig, call_put(&arena, "k", "goes on"), KV__CODE__OK);
}

/* An element that no inline list holds, in place of another. */
static void a_small_list_with_a_large_element(void **state)
{
    Kv__ListSet set = KV__LIST_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    machine_rig_expect(&rig, call_list_push(&arena, "l", false, 3), KV__CODE__OK);
    set.key = machine_rig_bytes("l");
    set.index = 1;
    set.element = machine_rig_bytes(large(KV_INLINE_BYTES_MAX));
    request.command_case = KV__REQUEST__COMMAND_LIST_SET;
    request.list_set = &set;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    machine_rig_reload(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ranges_of_many_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_transaction_that_looks_at_many_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_past_of_a_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_answers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(collections_of_many_elements, set_up, tear_down),
        cmocka_unit_test_setup_teardown(members_in_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(counting_what_is_gone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lease_that_is_taken_away, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_crowded_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(packed_elements_that_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_score_between, set_up, tear_down),
        cmocka_unit_test_setup_teardown(numbers_that_overflow, set_up, tear_down),
        cmocka_unit_test_setup_teardown(requests_that_are_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_entry_of_a_later_version, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_small_list_with_a_large_element, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
