/* What sorted sets answer to bad input, with the state unchanged; infinities and limits. */
#include "common/limits.h"
#include "tests/support/machine_rig.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct machine_rig rig;

/* One command of each kind on the key "z", sound as it is. */
static ProtobufCBinaryData key, member;
static Kv__ZSetMember first, second;
static Kv__ZSetMember *members[2];
static Kv__ZSetSpan span;
static Kv__ZSetSpan__Ranks ranks;
static Kv__ZSetSpan__Scores scores;
static Kv__ScoreBound min, max;
static Kv__KeyRange range_of_members;
static Kv__ZSetAdd add;
static Kv__ZSetRemove removal;
static Kv__ZSetScore score;
static Kv__ZSetRank rank_;
static Kv__ZSetRange range;
static Kv__ZSetCount count;
static Kv__ZSetPop pop;
static Kv__ZSetRemoveRange removal_of_range;
static Kv__ZSetCombine combine;
static Kv__Request request;

static void init_spans(void)
{
    kv__zset_span__init(&span);
    kv__zset_span__ranks__init(&ranks);
    kv__zset_span__scores__init(&scores);
    kv__score_bound__init(&min);
    kv__score_bound__init(&max);
    kv__key_range__init(&range_of_members);
    ranks.last = -1;
    span.span_case = KV__ZSET_SPAN__SPAN_RANKS;
    span.ranks = &ranks;
    scores.min = &min;
    scores.max = &max;
}

static void init_commands(void)
{
    kv__zset_add__init(&add);
    kv__zset_remove__init(&removal);
    kv__zset_score__init(&score);
    kv__zset_rank__init(&rank_);
    kv__zset_range__init(&range);
    kv__zset_count__init(&count);
    kv__zset_pop__init(&pop);
    kv__zset_remove_range__init(&removal_of_range);
    kv__zset_combine__init(&combine);
    kv__zset_member__init(&first);
    kv__zset_member__init(&second);
    key = machine_rig_bytes("z");
    member = machine_rig_bytes("a");
    first.member = member;
    second.member = machine_rig_bytes("b");
    members[0] = &first;
    members[1] = &second;
    add.key = removal.key = score.key = rank_.key = range.key = count.key = key;
    pop.key = removal_of_range.key = key;
    add.members = members;
    removal.members = score.members = &member;
    add.n_members = removal.n_members = score.n_members = 1;
    rank_.member = member;
    range.span = count.span = removal_of_range.span = &span;
    combine.keys = &key;
    combine.n_keys = 1;
}

static int open_rig(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    init_spans();
    init_commands();
    kv__request__init(&request);
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    return 0;
}

static Kv__Request *request_of(Kv__Request__CommandCase command)
{
    request.command_case = command;
    switch ((int)command) {
    case KV__REQUEST__COMMAND_ZSET_ADD:
        request.zset_add = &add;
        break;
    case KV__REQUEST__COMMAND_ZSET_REMOVE:
        request.zset_remove = &removal;
        break;
    case KV__REQUEST__COMMAND_ZSET_SCORE:
        request.zset_score = &score;
        break;
    case KV__REQUEST__COMMAND_ZSET_RANK:
        request.zset_rank = &rank_;
        break;
    case KV__REQUEST__COMMAND_ZSET_RANGE:
        request.zset_range = &range;
        break;
    case KV__REQUEST__COMMAND_ZSET_COUNT:
        request.zset_count = &count;
        break;
    case KV__REQUEST__COMMAND_ZSET_POP:
        request.zset_pop = &pop;
        break;
    case KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE:
        request.zset_remove_range = &removal_of_range;
        break;
    default:
        request.zset_combine = &combine;
        break;
    }
    return &request;
}

static void refuse(Kv__Request__CommandCase command, Kv__Code code)
{
    machine_rig_refuse(&rig, request_of(command), code);
}

static void do_it(Kv__Request__CommandCase command)
{
    machine_rig_expect(&rig, request_of(command), KV__CODE__OK);
}

/* Members "m0000" and on, with their numbers as scores. */
static void add_members(unsigned n)
{
    char text[16];

    for (unsigned i = 0; i < n; i++) {
        snprintf(text, sizeof text, "m%04u", i);
        first.member = machine_rig_bytes(text);
        first.score = i;
        do_it(KV__REQUEST__COMMAND_ZSET_ADD);
    }
    first.member = member;
    first.score = 0;
}

static void other_types_stay_as_they_are(void **state)
{
    (void)state;
    machine_rig_put_string(&rig, "z");
    for (unsigned i = KV__REQUEST__COMMAND_ZSET_ADD; i <= KV__REQUEST__COMMAND_ZSET_COMBINE; i++) {
        refuse((Kv__Request__CommandCase)i, KV__CODE__WRONG_TYPE);
    }
}

static void names_are_checked(void **state)
{
    static uint8_t long_name[KV_KEY_BYTES_MAX + 1];

    (void)state;
    add.n_members = removal.n_members = score.n_members = 0;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_REMOVE, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_SCORE, KV__CODE__INVALID);
    add.n_members = 2;
    second.member = first.member;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    second.member.len = 0;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    second.member = (ProtobufCBinaryData){sizeof long_name, long_name};
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__TOO_LARGE);
    rank_.member.len = 0;
    refuse(KV__REQUEST__COMMAND_ZSET_RANK, KV__CODE__INVALID);
    add.key.len = pop.key.len = range.key.len = 0;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_POP, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID);
}

static void conditions_may_not_contradict(void **state)
{
    (void)state;
    add.if_absent = add.if_present = true;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    add.if_present = false;
    add.if_greater = true;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    add.if_greater = false;
    add.if_less = true;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    add.if_absent = false;
    add.if_greater = true;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    add.if_greater = add.if_less = false;
    add.increment = true;
    add.n_members = 2;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
}

static void nan_is_refused(void **state)
{
    const double infinity = (double)INFINITY, nan = (double)NAN;
    double weights[2] = {nan, 1};

    (void)state;
    first.score = nan;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    add.increment = true;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);
    add.increment = false;
    first.score = infinity;
    do_it(KV__REQUEST__COMMAND_ZSET_ADD);
    first.score = -infinity;
    add.increment = true;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__INVALID);

    min.score = nan;
    span.span_case = KV__ZSET_SPAN__SPAN_SCORES;
    span.scores = &scores;
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_COUNT, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE, KV__CODE__INVALID);
    min.score = 0;
    max.score = nan;
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID);

    combine.weights = weights;
    combine.n_weights = 1;
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
    weights[0] = 0; /* times infinity */
    for (unsigned i = 0; i <= KV__COMBINATION__COMBINE_DIFFERENCE; i++) {
        combine.combination = (Kv__Combination)i;
        combine.store.len = 0;
        refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
        combine.store = key;
        refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
    }
}

/* infinity - infinity of two sources. */
static void nan_of_an_aggregate_is_refused(void **state)
{
    ProtobufCBinaryData keys[3] = {key, key, machine_rig_bytes("other")};
    double weights[3] = {1, -1, 1};

    (void)state;
    first.score = (double)INFINITY;
    do_it(KV__REQUEST__COMMAND_ZSET_ADD);
    add.key = keys[2];
    first.member = machine_rig_bytes("elsewhere");
    do_it(KV__REQUEST__COMMAND_ZSET_ADD);
    combine.keys = keys;
    combine.weights = weights;
    combine.n_keys = combine.n_weights = 2;
    combine.store = key;
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
    combine.combination = KV__COMBINATION__COMBINE_INTERSECTION;
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
    combine.aggregate = KV__AGGREGATE__AGGREGATE_MIN;
    do_it(KV__REQUEST__COMMAND_ZSET_COMBINE);
    combine.aggregate = (Kv__Aggregate)3;
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
    combine.aggregate = KV__AGGREGATE__AGGREGATE_SUM;
    /* Whoever is not in the result has no score that could be refused. */
    combine.n_keys = combine.n_weights = 3;
    combine.store.len = 0;
    do_it(KV__REQUEST__COMMAND_ZSET_COMBINE);
    combine.store = key;
    combine.n_keys = 2;
    combine.n_weights = 1;
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
    combine.n_weights = 0;
    combine.n_keys = 0;
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__INVALID);
}

static void spans_are_checked(void **state)
{
    (void)state;
    range.span = removal_of_range.span = NULL;
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE, KV__CODE__INVALID);
    range.span = removal_of_range.span = &span;
    span.span_case = KV__ZSET_SPAN__SPAN__NOT_SET;
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID);
    refuse(KV__REQUEST__COMMAND_ZSET_COUNT, KV__CODE__INVALID);
    span.span_case = KV__ZSET_SPAN__SPAN_SCORES;
    span.scores = &scores;
    min.score = 1;
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID); /* ends before it starts */
    span.span_case = KV__ZSET_SPAN__SPAN_MEMBERS;
    span.members = &range_of_members;
    range_of_members.start = machine_rig_bytes("b");
    range_of_members.end = machine_rig_bytes("a");
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID);
    range.at_revision = 1000;
    range_of_members.end = machine_rig_bytes("c");
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__FUTURE_REVISION);
    range.at_revision = -1;
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__INVALID);
}

/* The least and the greatest rank that can be asked for are no trouble. */
static void ranks_do_not_overflow(void **state)
{
    Kv__Reply *reply;

    (void)state;
    add_members(3);
    ranks.first = INT64_MIN;
    ranks.last = INT64_MAX;
    reply = machine_rig_read(&rig, request_of(KV__REQUEST__COMMAND_ZSET_COUNT));
    assert_int_equal(reply->zset_count->count, 3);
    kv__reply__free_unpacked(reply, NULL);
    ranks.first = INT64_MAX;
    ranks.last = INT64_MIN;
    reply = machine_rig_read(&rig, request_of(KV__REQUEST__COMMAND_ZSET_COUNT));
    assert_int_equal(reply->zset_count->count, 0);
    kv__reply__free_unpacked(reply, NULL);
    range.offset = UINT64_MAX;
    range.limit = UINT64_MAX;
    do_it(KV__REQUEST__COMMAND_ZSET_RANGE);
}

static void what_changes_nothing_takes_no_revision(void **state)
{
    (void)state;
    first.score = 0;
    do_it(KV__REQUEST__COMMAND_ZSET_ADD);
    first.score = -0.0;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__OK);
    add.increment = true;
    refuse(KV__REQUEST__COMMAND_ZSET_ADD, KV__CODE__OK);
    rank_.member = machine_rig_bytes("absent");
    refuse(KV__REQUEST__COMMAND_ZSET_RANK, KV__CODE__NOT_FOUND);
    rank_.key = machine_rig_bytes("absent");
    refuse(KV__REQUEST__COMMAND_ZSET_RANK, KV__CODE__NOT_FOUND);
    pop.key = rank_.key;
    refuse(KV__REQUEST__COMMAND_ZSET_POP, KV__CODE__OK);
}

/* The past of a large set is read by sorting all of it; its present by trees. */
static void work_is_limited(void **state)
{
    (void)state;
    machine_rig_set(&rig, "work-limit", 150);
    add_members(200);
    rank_.member = machine_rig_bytes("m0100");
    do_it(KV__REQUEST__COMMAND_ZSET_RANK);
    do_it(KV__REQUEST__COMMAND_ZSET_RANGE);
    rank_.at_revision = range.at_revision = kv_machine_revision(rig.machine) - 1;
    refuse(KV__REQUEST__COMMAND_ZSET_RANK, KV__CODE__TOO_LARGE);
    refuse(KV__REQUEST__COMMAND_ZSET_RANGE, KV__CODE__TOO_LARGE);
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__TOO_LARGE);
    pop.count = 180;
    refuse(KV__REQUEST__COMMAND_ZSET_POP, KV__CODE__TOO_LARGE);
    ranks.first = 1;
    refuse(KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE, KV__CODE__TOO_LARGE);
    ranks.first = 0; /* all of it at once is one */
    do_it(KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE);
}

static void replies_are_limited(void **state)
{
    static uint8_t names[20][KV_KEY_BYTES_MAX];
    Kv__Reply *reply;

    (void)state;
    machine_rig_set(&rig, "reply-limit", 64 * KV_KIB);
    for (unsigned i = 0; i < 20; i++) {
        names[i][0] = (uint8_t)i;
        first.member = (ProtobufCBinaryData){KV_KEY_BYTES_MAX, names[i]};
        do_it(KV__REQUEST__COMMAND_ZSET_ADD);
    }
    reply = machine_rig_read(&rig, request_of(KV__REQUEST__COMMAND_ZSET_RANGE));
    assert_true(reply->zset_range->more);
    assert_int_equal(reply->zset_range->n_members, 14);
    kv__reply__free_unpacked(reply, NULL);
    refuse(KV__REQUEST__COMMAND_ZSET_COMBINE, KV__CODE__TOO_LARGE);
    pop.count = 20;
    refuse(KV__REQUEST__COMMAND_ZSET_POP, KV__CODE__TOO_LARGE);
    pop.count = 14;
    do_it(KV__REQUEST__COMMAND_ZSET_POP);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(other_types_stay_as_they_are, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(names_are_checked, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(conditions_may_not_contradict, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(nan_is_refused, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(nan_of_an_aggregate_is_refused, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(spans_are_checked, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(ranks_do_not_overflow, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(
            what_changes_nothing_takes_no_revision, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(work_is_limited, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(replies_are_limited, open_rig, close_rig),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
