/* Random commands on sorted sets against arrays, with the state of every revision kept: small and
 * large forms, all conditions, spans and combinations, reads at revisions, failed commands,
 * snapshots, forgotten history. */
#include "common/limits.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 4, MEMBERS = 300, STEPS = 400, REVISIONS_MAX = STEPS + 4, BATCH_MAX = 100 };

struct model_zset {
    bool has[MEMBERS];
    double scores[MEMBERS];
};
static struct model_zset states[REVISIONS_MAX][KEYS];
static int64_t revision;
static struct machine_rig rig;
static unsigned n_members; /* of this run: few keep sets small */

struct item {
    unsigned member;
    double score;
};

static ProtobufCBinaryData key_bytes(unsigned key)
{
    static const char *const texts[KEYS] = {"zset/a", "zset/b", "zset/c", "zset/d"};

    return machine_rig_bytes(texts[key]);
}

/* In the order of their numbers; some are long. */
static ProtobufCBinaryData member_bytes(unsigned member)
{
    static char texts[MEMBERS][192];

    snprintf(
        texts[member], sizeof texts[member], "z%03u%0*u", member, member % 31 ? 3 : 150, member);
    return machine_rig_bytes(texts[member]);
}

static unsigned choose(unsigned below)
{
    return (unsigned)machine_rig_random(&rig, below);
}

/* Few different ones, so that many are the same. */
static double choose_score(void)
{
    switch (choose(40)) {
    case 0:
        return (double)INFINITY;
    case 1:
        return -(double)INFINITY;
    case 2:
        return -0.0;
    case 3:
        return 5e-324;
    default:
        return ((double)choose(41) - 20) / 4;
    }
}

/* Bit by bit: no -0. */
static void expect_score(double score, double expected)
{
    expected += 0.0;
    assert_memory_equal(&score, &expected, sizeof score);
}

static struct model_zset *next_state(unsigned key)
{
    memcpy(states[revision + 1], states[revision], sizeof states[0]);
    return &states[revision + 1][key];
}

static unsigned length(const struct model_zset *zset)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MEMBERS; i++) {
        n += zset->has[i];
    }
    return n;
}

static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;

    if (x->score != y->score) {
        return x->score < y->score ? -1 : 1;
    }
    return x->member < y->member ? -1 : 1;
}

/* All members in one of the orders. */
static unsigned
sort_members(const struct model_zset *zset, bool by_member, bool descending, struct item *items)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MEMBERS; i++) {
        if (zset->has[i]) {
            items[n++] = (struct item){i, zset->scores[i]};
        }
    }
    if (!by_member && n > 0) {
        qsort(items, n, sizeof *items, compare_items);
    }
    for (unsigned i = 0; descending && i < n / 2; i++) {
        struct item item = items[i];

        items[i] = items[n - 1 - i];
        items[n - 1 - i] = item;
    }
    return n;
}

/* ---------------------------------------------------------------- spans */

struct span {
    Kv__ZSetSpan span;
    Kv__ZSetSpan__Ranks ranks;
    Kv__ZSetSpan__Scores scores;
    Kv__ScoreBound min, max;
    Kv__KeyRange members;
};

static void choose_scores(struct span *span)
{
    double a = choose_score(), b = choose_score();

    kv__zset_span__scores__init(&span->scores);
    kv__score_bound__init(&span->min);
    kv__score_bound__init(&span->max);
    span->min.score = a < b ? a : b;
    span->max.score = a < b ? b : a;
    span->min.exclusive = choose(2);
    span->max.exclusive = choose(2);
    span->scores.min = choose(5) ? &span->min : NULL;
    span->scores.max = choose(5) ? &span->max : NULL;
    span->span.span_case = KV__ZSET_SPAN__SPAN_SCORES;
    span->span.scores = &span->scores;
}

static void choose_range(struct span *span)
{
    unsigned a = choose(n_members), b = choose(n_members);

    kv__key_range__init(&span->members);
    span->span.span_case = KV__ZSET_SPAN__SPAN_MEMBERS;
    span->span.members = &span->members;
    switch (choose(5)) {
    case 0:
        span->members.special = KV__KEY_RANGE__SPECIAL__ALL;
        break;
    case 1:
        span->members.special = KV__KEY_RANGE__SPECIAL__PREFIX;
        span->members.start = machine_rig_bytes(choose(2) ? "z1" : "");
        break;
    case 2:
        span->members.special = KV__KEY_RANGE__SPECIAL__FROM_KEY;
        span->members.start = member_bytes(a);
        break;
    default:
        span->members.start = member_bytes(a < b ? a : b);
        span->members.end = member_bytes(a < b ? b : a);
        break;
    }
}

static void choose_span(struct span *span)
{
    const int beyond = (int)n_members + 4;

    kv__zset_span__init(&span->span);
    switch (choose(3)) {
    case 0:
        kv__zset_span__ranks__init(&span->ranks);
        span->ranks.first = (int)choose(2 * (unsigned)beyond) - beyond;
        span->ranks.last = (int)choose(2 * (unsigned)beyond) - beyond;
        span->span.span_case = KV__ZSET_SPAN__SPAN_RANKS;
        span->span.ranks = &span->ranks;
        break;
    case 1:
        choose_scores(span);
        break;
    default:
        choose_range(span);
        break;
    }
}

static bool is_in_range(const Kv__KeyRange *range, unsigned member)
{
    ProtobufCBinaryData bytes = member_bytes(member);
    const char *name = (const char *)bytes.data;

    switch (range->special) {
    case KV__KEY_RANGE__SPECIAL__ALL:
        return true;
    case KV__KEY_RANGE__SPECIAL__PREFIX:
        return memcmp(name, range->start.data, range->start.len) == 0;
    case KV__KEY_RANGE__SPECIAL__FROM_KEY:
        return strcmp(name, (const char *)range->start.data) >= 0;
    default:
        return strcmp(name, (const char *)range->start.data) >= 0 &&
               strcmp(name, (const char *)range->end.data) < 0;
    }
}

static bool is_in_scores(const struct span *span, double score)
{
    const Kv__ScoreBound *min = span->scores.min, *max = span->scores.max;

    return !(min && (score < min->score || (min->exclusive && score == min->score))) &&
           !(max && (score > max->score || (max->exclusive && score == max->score)));
}

static unsigned select_members(const struct model_zset *zset,
                               const struct span *span,
                               bool descending,
                               struct item *items)
{
    const bool by_member = span->span.span_case == KV__ZSET_SPAN__SPAN_MEMBERS;
    const int n = (int)sort_members(zset, by_member, descending, items);
    unsigned kept = 0;

    for (int i = 0; i < n; i++) {
        int64_t first = span->ranks.first, last = span->ranks.last;
        bool is_in;

        if (by_member) {
            is_in = is_in_range(&span->members, items[i].member);
        } else if (span->span.span_case == KV__ZSET_SPAN__SPAN_SCORES) {
            is_in = is_in_scores(span, items[i].score);
        } else {
            is_in = i >= (first < 0 ? first + n : first) && i <= (last < 0 ? last + n : last);
        }
        if (is_in) {
            items[kept++] = items[i];
        }
    }
    return kept;
}

static void
expect_members(const Kv__ZSetMembersResult *result, const struct item *items, uint64_t n)
{
    assert_int_equal(result->n_members, n);
    for (size_t i = 0; i < n; i++) {
        ProtobufCBinaryData name = member_bytes(items[i].member);

        assert_int_equal(result->members[i]->member.len, name.len);
        assert_memory_equal(result->members[i]->member.data, name.data, name.len);
        expect_score(result->members[i]->score, items[i].score);
    }
}

/* ---------------------------------------------------------------- changes */

/* What one member becomes; false: the score would be NaN. */
static bool model_add(struct model_zset *zset,
                      const Kv__ZSetAdd *command,
                      const struct item *item,
                      Kv__ZSetAddResult *result)
{
    const bool has = zset->has[item->member];
    const double former = has ? zset->scores[item->member] : 0;
    double score = command->increment ? former + item->score : item->score;

    if (isnan(score)) {
        return false;
    }
    result->score = command->increment ? former : 0;
    if ((has && command->if_absent) || (!has && command->if_present) ||
        (has && command->if_greater && score <= former) ||
        (has && command->if_less && score >= former) || (has && score == former)) {
        return true;
    }
    zset->has[item->member] = true;
    zset->scores[item->member] = score;
    result->added += !has;
    result->changed++;
    result->score = command->increment ? score : 0;
    return true;
}

static void choose_conditions(Kv__ZSetAdd *command)
{
    switch (choose(8)) {
    case 0:
        command->if_absent = true;
        break;
    case 1:
        command->if_present = true;
        break;
    case 2:
        command->if_greater = true;
        command->if_present = choose(2);
        break;
    case 3:
        command->if_less = true;
        command->if_present = choose(2);
        break;
    default:
        break;
    }
    command->increment = choose(4) == 0;
}

static unsigned
choose_members(struct item items[BATCH_MAX], ProtobufCBinaryData bytes[BATCH_MAX], unsigned n)
{
    unsigned first = choose(n_members);

    n = n > n_members ? n_members : n;
    for (unsigned i = 0; i < n; i++) {
        /* 7 divides none of the numbers of members. */
        items[i] = (struct item){(first + i * 7) % n_members, choose_score()};
        bytes[i] = member_bytes(items[i].member);
    }
    return n;
}

static void add(void)
{
    unsigned key = choose(KEYS);
    struct model_zset *zset = next_state(key);
    Kv__ZSetAddResult expected = KV__ZSET_ADD_RESULT__INIT;
    Kv__ZSetAdd command = KV__ZSET_ADD__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[BATCH_MAX];
    ProtobufCBinaryData bytes[BATCH_MAX];
    Kv__ZSetMember members[BATCH_MAX], *pointers[BATCH_MAX];
    uint64_t hash = kv_machine_state_hash(rig.machine);
    bool is_number = true;
    Kv__Reply *reply;

    choose_conditions(&command);
    command.n_members = choose_members(
        items, bytes, command.increment ? 1 : 1 + choose(choose(6) ? 4 : BATCH_MAX - 1));
    for (unsigned i = 0; i < command.n_members; i++) {
        kv__zset_member__init(&members[i]);
        members[i].member = bytes[i];
        members[i].score = items[i].score;
        pointers[i] = &members[i];
        is_number = model_add(zset, &command, &items[i], &expected) && is_number;
    }
    command.key = key_bytes(key);
    command.members = pointers;
    request.command_case = KV__REQUEST__COMMAND_ZSET_ADD;
    request.zset_add = &command;
    reply = machine_rig_write(&rig, &request);
    if (is_number) {
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->zset_add->added, expected.added);
        assert_int_equal(reply->zset_add->changed, expected.changed);
        expect_score(reply->zset_add->score, expected.score);
        revision += expected.changed > 0;
    } else {
        assert_int_equal(reply->code, KV__CODE__INVALID);
        assert_int_equal(kv_machine_state_hash(rig.machine), hash);
    }
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

static void expect_count(Kv__Reply *reply, const Kv__CountResult *result, unsigned count)
{
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(result->count, count);
    revision += count > 0;
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

static void take_out(void)
{
    unsigned key = choose(KEYS);
    struct model_zset *zset = next_state(key);
    Kv__ZSetRemove command = KV__ZSET_REMOVE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[BATCH_MAX];
    ProtobufCBinaryData bytes[BATCH_MAX];
    unsigned removed = 0;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.n_members = choose_members(items, bytes, 1 + choose(choose(6) ? 4 : BATCH_MAX - 1));
    command.members = bytes;
    for (unsigned i = 0; i < command.n_members; i++) {
        removed += zset->has[items[i].member];
        zset->has[items[i].member] = false;
    }
    request.command_case = KV__REQUEST__COMMAND_ZSET_REMOVE;
    request.zset_remove = &command;
    reply = machine_rig_write(&rig, &request);
    expect_count(reply, reply->zset_remove, removed);
}

static void remove_range(void)
{
    unsigned key = choose(KEYS);
    struct model_zset *zset = next_state(key);
    Kv__ZSetRemoveRange command = KV__ZSET_REMOVE_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[MEMBERS];
    struct span span;
    unsigned n;
    Kv__Reply *reply;

    choose_span(&span);
    n = select_members(zset, &span, false, items);
    for (unsigned i = 0; i < n; i++) {
        zset->has[items[i].member] = false;
    }
    command.key = key_bytes(key);
    command.span = &span.span;
    request.command_case = KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE;
    request.zset_remove_range = &command;
    reply = machine_rig_write(&rig, &request);
    expect_count(reply, reply->zset_remove_range, n);
}

static void pop(void)
{
    unsigned key = choose(KEYS);
    struct model_zset *zset = next_state(key);
    Kv__ZSetPop command = KV__ZSET_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[MEMBERS];
    unsigned n;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.count = choose(choose(8) ? 5 : 2 * MEMBERS);
    command.greatest = choose(2);
    n = sort_members(zset, false, command.greatest, items);
    if (n > (command.count ? command.count : 1)) {
        n = command.count ? (unsigned)command.count : 1;
    }
    for (unsigned i = 0; i < n; i++) {
        zset->has[items[i].member] = false;
    }
    request.command_case = KV__REQUEST__COMMAND_ZSET_POP;
    request.zset_pop = &command;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    expect_members(reply->zset_pop, items, n);
    revision += n > 0;
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

/* ---------------------------------------------------------------- combinations */

static double weight_of(const Kv__ZSetCombine *command, unsigned i)
{
    return command->n_weights ? command->weights[i] : 1;
}

/* One member over all keys; false: it is not in the result. */
static bool combine_member(const struct model_zset *sources[],
                           const Kv__ZSetCombine *command,
                           unsigned member,
                           double *score)
{
    unsigned found = 0;

    for (unsigned i = 0; i < command->n_keys; i++) {
        double mine = weight_of(command, i) * sources[i]->scores[member];

        if (!sources[i]->has[member] ||
            (i > 0 && command->combination == KV__COMBINATION__COMBINE_DIFFERENCE)) {
            continue;
        }
        if (found++ == 0) {
            *score = mine;
        } else if (isnan(mine) || isnan(*score)) {
            *score = (double)NAN;
        } else if (command->aggregate == KV__AGGREGATE__AGGREGATE_SUM) {
            *score += mine;
        } else if ((command->aggregate == KV__AGGREGATE__AGGREGATE_MIN) == (mine < *score)) {
            *score = mine;
        }
    }
    if (command->combination == KV__COMBINATION__COMBINE_DIFFERENCE) {
        for (unsigned i = 1; i < command->n_keys; i++) {
            found = sources[i]->has[member] ? 0 : found;
        }
        return sources[0]->has[member] && found > 0;
    }
    return command->combination == KV__COMBINATION__COMBINE_UNION ? found > 0
                                                                  : found == command->n_keys;
}

/* False: a score would be NaN. */
static bool combine(const Kv__ZSetCombine *command,
                    int64_t at,
                    const unsigned *keys,
                    struct model_zset *ret_result)
{
    const struct model_zset *sources[3] = {
        &states[at][keys[0]], &states[at][keys[1]], &states[at][keys[2]]};

    memset(ret_result, 0, sizeof *ret_result);
    for (unsigned member = 0; member < MEMBERS; member++) {
        double score = 0;

        if (combine_member(sources, command, member, &score)) {
            if (isnan(score)) {
                return false;
            }
            ret_result->has[member] = true;
            ret_result->scores[member] = score;
        }
    }
    return true;
}

static void expect_combination(Kv__Request *request, const struct model_zset *result)
{
    struct item items[MEMBERS];
    unsigned n = sort_members(result, false, false, items);
    Kv__Reply *reply = machine_rig_read(&rig, request);

    assert_int_equal(reply->code, KV__CODE__OK);
    expect_members(reply->zset_combine, items, n);
    kv__reply__free_unpacked(reply, NULL);
}

/* The result in place of a key. */
static void store_combination(Kv__Request *request, const struct model_zset *result)
{
    unsigned target = choose(KEYS);
    Kv__Reply *reply;

    request->zset_combine->store = key_bytes(target);
    reply = machine_rig_write(&rig, request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->zset_combine->n_members, 0);
    assert_int_equal(reply->zset_combine->stored, length(result));
    *next_state(target) = *result;
    revision += length(result) > 0 || length(&states[revision][target]) > 0;
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

static void combination(void)
{
    static const Kv__Combination combinations[] = {KV__COMBINATION__COMBINE_UNION,
                                                   KV__COMBINATION__COMBINE_INTERSECTION,
                                                   KV__COMBINATION__COMBINE_DIFFERENCE};
    unsigned keys[3] = {choose(KEYS), choose(KEYS), choose(KEYS)};
    ProtobufCBinaryData bytes[3] = {key_bytes(keys[0]), key_bytes(keys[1]), key_bytes(keys[2])};
    double weights[3] = {choose_score(), 0.5, choose_score()};
    Kv__ZSetCombine command = KV__ZSET_COMBINE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    int64_t at = kv_machine_oldest_revision(rig.machine);
    struct model_zset result;

    at += (int64_t)machine_rig_random(&rig, (uint64_t)(revision - at) + 1);
    command.combination = combinations[choose(3)];
    command.aggregate = (Kv__Aggregate)choose(3);
    command.n_keys = 1 + choose(3);
    command.keys = bytes;
    command.n_weights = choose(2) ? command.n_keys : 0;
    command.weights = weights;
    command.at_revision = choose(2) ? at : 0;
    request.command_case = KV__REQUEST__COMMAND_ZSET_COMBINE;
    request.zset_combine = &command;
    if (combine(&command, command.at_revision ? at : revision, keys, &result)) {
        expect_combination(&request, &result);
        store_combination(&request, &result);
        return;
    }
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    command.store = key_bytes(choose(KEYS));
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
}

/* ---------------------------------------------------------------- reads */

static void check_range(unsigned key, int64_t at)
{
    Kv__ZSetRange command = KV__ZSET_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[MEMBERS];
    struct span span;
    uint64_t n, limit;
    Kv__Reply *reply;

    choose_span(&span);
    command.key = key_bytes(key);
    command.span = &span.span;
    command.at_revision = at;
    command.descending = choose(2);
    command.offset = choose(3) ? 0 : choose(n_members);
    command.limit = choose(2) ? 0 : 1 + choose(n_members);
    n = select_members(&states[at][key], &span, command.descending, items);
    n = n > command.offset ? n - command.offset : 0;
    limit = command.limit && command.limit < n ? command.limit : n;
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANGE;
    request.zset_range = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    expect_members(reply->zset_range, items + (n > 0 ? command.offset : 0), limit);
    assert_int_equal(reply->zset_range->more, limit < n);
    kv__reply__free_unpacked(reply, NULL);
}

static void check_count(unsigned key, int64_t at)
{
    Kv__ZSetCount command = KV__ZSET_COUNT__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[MEMBERS];
    unsigned n = length(&states[at][key]);
    struct span span;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.at_revision = at;
    if (choose(4)) {
        choose_span(&span);
        command.span = &span.span;
        n = select_members(&states[at][key], &span, false, items);
    }
    request.command_case = KV__REQUEST__COMMAND_ZSET_COUNT;
    request.zset_count = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->zset_count->count, n);
    kv__reply__free_unpacked(reply, NULL);
}

static void check_scores(unsigned key, int64_t at)
{
    const struct model_zset *zset = &states[at][key];
    Kv__ZSetScore command = KV__ZSET_SCORE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData bytes[BATCH_MAX];
    struct item items[BATCH_MAX];
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.n_members = choose_members(items, bytes, 10);
    command.members = bytes;
    command.at_revision = at;
    request.command_case = KV__REQUEST__COMMAND_ZSET_SCORE;
    request.zset_score = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    for (unsigned i = 0; i < command.n_members; i++) {
        unsigned member = items[i].member;

        assert_int_equal(reply->zset_score->present[i], zset->has[member]);
        expect_score(reply->zset_score->scores[i], zset->has[member] ? zset->scores[member] : 0);
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void check_rank(unsigned key, int64_t at)
{
    Kv__ZSetRank command = KV__ZSET_RANK__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[MEMBERS];
    unsigned member = choose(n_members);
    unsigned n, rank = 0;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.member = member_bytes(member);
    command.at_revision = at;
    command.descending = choose(2);
    n = sort_members(&states[at][key], false, command.descending, items);
    while (rank < n && items[rank].member != member) {
        rank++;
    }
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANK;
    request.zset_rank = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, rank < n ? KV__CODE__OK : KV__CODE__NOT_FOUND);
    if (rank < n) {
        assert_int_equal(reply->zset_rank->rank, rank);
        expect_score(reply->zset_rank->score, items[rank].score);
    }
    kv__reply__free_unpacked(reply, NULL);
}

/* All of it, in order. */
static void check_all(unsigned key, int64_t at)
{
    Kv__ZSetSpan__Scores scores = KV__ZSET_SPAN__SCORES__INIT;
    Kv__ZSetSpan span = KV__ZSET_SPAN__INIT;
    Kv__ZSetRange command = KV__ZSET_RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct item items[MEMBERS];
    unsigned n = sort_members(&states[at][key], false, false, items);
    Kv__Reply *reply;

    command.key = key_bytes(key);
    span.span_case = KV__ZSET_SPAN__SPAN_SCORES;
    span.scores = &scores;
    command.span = &span;
    command.at_revision = at;
    request.command_case = KV__REQUEST__COMMAND_ZSET_RANGE;
    request.zset_range = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    expect_members(reply->zset_range, items, n);
    kv__reply__free_unpacked(reply, NULL);
}

static void check_state(int64_t at)
{
    for (unsigned key = 0; key < KEYS; key++) {
        Kv__ZSetCount command = KV__ZSET_COUNT__INIT;
        Kv__Request request = KV__REQUEST__INIT;

        if (at >= kv_machine_oldest_revision(rig.machine)) {
            check_all(key, at);
            check_range(key, at);
            check_count(key, at);
            check_scores(key, at);
            check_rank(key, at);
            continue;
        }
        command.key = key_bytes(key);
        command.at_revision = at;
        request.command_case = KV__REQUEST__COMMAND_ZSET_COUNT;
        request.zset_count = &command;
        machine_rig_expect(&rig, &request, KV__CODE__COMPACTED);
    }
}

/* ---------------------------------------------------------------- runs */

static void step(void)
{
    static void (*const steps[])(void) = {
        add, add, add, add, add, add, take_out, take_out, pop, remove_range, combination};

    steps[choose(sizeof steps / sizeof steps[0])]();
}

static void run(uint64_t seed)
{
    machine_rig_open(&rig, seed);
    revision = kv_machine_revision(rig.machine);
    memset(states[revision], 0, sizeof states[0]);
    n_members = seed % 3 == 0 ? 12 : seed % 3 == 1 ? 100 : MEMBERS;
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        check_state(1 + (int64_t)machine_rig_random(&rig, (uint64_t)revision));
        check_state(revision);
        if (choose(40) == 0) {
            machine_rig_reload(&rig);
        }
        if (seed % 2 == 0 && choose(30) == 0) {
            machine_rig_pass_time(&rig, 400000);
        }
    }
    for (int64_t at = 1; at <= revision; at++) {
        check_state(at);
    }
    machine_rig_close(&rig);
}

static void zsets_do_what_arrays_do(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zsets_do_what_arrays_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
