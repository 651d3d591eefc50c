#include "tests/sim/replay.h"

#include "common/assert.h"
#include "common/limits.h"

#include <inttypes.h>
#include <stdlib.h>

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size);

    KV_ASSERT(memory);
    return memory;
}

static const struct kv_op_info *info_of(const struct kv_replay *replay, size_t op)
{
    return &replay->touches->infos[op];
}

/* A key to name in a complaint about the operation. */
static const struct kv_slice *some_key(const struct kv_replay *replay, size_t op)
{
    const struct kv_op_info *info = info_of(replay, op);

    if (info->count > 0) {
        return &replay->touches->keys[replay->touches->touches[info->first].key];
    }
    return info->key_from < info->key_to ? &replay->touches->keys[info->key_from] : NULL;
}

static void add_op(const struct kv_replay *replay, size_t op)
{
    kv_report_add_op(replay->report, replay->history, &replay->history->ops[op]);
}

/* --- revisions --- */

/* False: the replies do not tell enough to replay, or (complained) too much. */
static bool find_newest(struct kv_replay *replay)
{
    replay->newest = KV_REVISION_FIRST;
    for (size_t i = 0; i < replay->history->n_ops; i++) {
        const struct kv_op_info *info = info_of(replay, i);
        int64_t told = info->answer_revision > info->state_revision ? info->answer_revision
                                                                    : info->state_revision;

        if (info->changes && info->answer_revision == 0) {
            return false;
        }
        if (told >
            (int64_t)(replay->history->n_ops + replay->history->n_timely) + KV_REVISION_FIRST) {
            kv_report_bad(replay->report,
                          some_key(replay, i),
                          "revision %" PRId64 " was told, more than all requests can have made",
                          told);
            add_op(replay, i);
            return false;
        }
        replay->newest = told > replay->newest ? told : replay->newest;
    }
    return true;
}

static bool find_makers(struct kv_replay *replay)
{
    for (size_t i = 0; i < replay->history->n_timely; i++) {
        if (replay->history->timely[i] <= replay->newest) {
            replay->may_foreign[replay->history->timely[i]] = true;
        }
    }
    for (size_t i = 0; i < replay->history->n_ops; i++) {
        const struct kv_op_info *info = info_of(replay, i);
        int64_t revision = info->answer_revision;

        if (info->outcome == KV_OUTCOME_OPEN) {
            replay->open[replay->n_open++] = i;
        }
        if (info->may_change && revision > 0) {
            replay->may_next[i] = replay->may_makers[revision];
            replay->may_makers[revision] = i + 1;
        }
        if (info->foreign && info->outcome == KV_OUTCOME_ANSWERED && revision > 0) {
            replay->may_foreign[revision] = true;
        }
        if (!info->changes) {
            continue;
        }
        if (revision <= KV_REVISION_FIRST || replay->makers[revision]) {
            kv_report_bad(replay->report,
                          some_key(replay, i),
                          "revision %" PRId64 " was made twice",
                          revision);
            add_op(replay, i);
            if (replay->makers[revision]) {
                add_op(replay, replay->makers[revision] - 1);
            }
            return false;
        }
        replay->makers[revision] = i + 1;
    }
    return true;
}

static void find_told(struct kv_replay *replay)
{
    uint64_t first = KV_HISTORY_NEVER;
    size_t teller = 0;

    for (int64_t r = 0; r <= replay->newest; r++) {
        replay->told[r] = KV_HISTORY_NEVER;
    }
    for (size_t i = 0; i < replay->history->n_ops; i++) {
        const struct kv_op_info *info = info_of(replay, i);
        const struct kv_history_op *op = &replay->history->ops[i];
        int64_t told = info->answer_revision > info->state_revision ? info->answer_revision
                                                                    : info->state_revision;

        if (told > 0 && op->end < replay->told[told]) {
            replay->told[told] = op->end;
            replay->tellers[told] = i + 1;
        }
    }
    for (int64_t r = replay->newest; r >= 0; r--) {
        if (replay->told[r] < first) {
            first = replay->told[r];
            teller = replay->tellers[r];
        }
        replay->told[r] = first;
        replay->tellers[r] = teller;
    }
}

/* --- real time --- */

/* What one client was told by one node, by serializable reads. */
struct pair_floor {
    uint64_t client, node;
    int64_t revision;
    size_t op;
    bool taken;
};

struct clock {
    int64_t floor; /* newest revision told so far */
    size_t teller;
    int64_t *floors; /* by operation: when it began */
    size_t *tellers;
    struct pair_floor *pairs;
    size_t n_pairs; /* power of two, at least twice the operations */
};

static struct pair_floor *find_pair(struct clock *clock, const struct kv_history_op *op)
{
    size_t i = (size_t)((op->client * UINT64_C(0x9e3779b97f4a7c15) ^ op->node) *
                            UINT64_C(0xff51afd7ed558ccd) >>
                        20);

    for (i &= clock->n_pairs - 1; clock->pairs[i].taken; i = (i + 1) & (clock->n_pairs - 1)) {
        if (clock->pairs[i].client == op->client && clock->pairs[i].node == op->node) {
            break;
        }
    }
    clock->pairs[i].taken = true;
    clock->pairs[i].client = op->client;
    clock->pairs[i].node = op->node;
    return &clock->pairs[i];
}

static bool complain_order(struct kv_replay *replay, size_t op, size_t earlier, const char *what)
{
    kv_report_bad(replay->report, some_key(replay, op), "%s", what);
    kv_report_add(replay->report, "  first:");
    add_op(replay, earlier);
    kv_report_add(replay->report, "  then, begun after that had ended:");
    add_op(replay, op);
    return false;
}

/* A serializable read may be old, but not older than the one before it. One client waits for one
 * such read at a time, or else only those that do not overlap are compared. */
static bool check_serializable(struct kv_replay *replay, struct clock *clock, size_t number)
{
    const struct kv_history_op *op = &replay->history->ops[number];
    struct pair_floor *pair = find_pair(clock, op);
    int64_t revision = info_of(replay, number)->answer_revision;

    if (revision < pair->revision && replay->history->ops[pair->op].end < op->begin) {
        return complain_order(
            replay, number, pair->op, "a client's serializable reads at one node went back");
    }
    if (revision > pair->revision) {
        pair->revision = revision;
        pair->op = number;
    }
    return true;
}

static bool check_end(struct kv_replay *replay, struct clock *clock, size_t number)
{
    const struct kv_op_info *info = info_of(replay, number);
    int64_t revision = info->answer_revision;

    if (info->outcome != KV_OUTCOME_ANSWERED || revision == 0) {
        return true;
    }
    if (replay->history->ops[number].request->serializable && !info->is_write) {
        if (!check_serializable(replay, clock, number)) {
            return false;
        }
    } else if (revision < clock->floors[number]) {
        return complain_order(
            replay,
            number,
            clock->tellers[number],
            info->is_write ? "a write took a revision below one that was told before it was asked"
                           : "stale: an answer of a revision below one that was told before");
    } else if (info->changes && revision == clock->floors[number]) {
        return complain_order(replay,
                              number,
                              clock->tellers[number],
                              "a revision was told before the write that made it was asked");
    }
    if (revision > clock->floor) {
        clock->floor = revision;
        clock->teller = number;
    }
    return true;
}

/* Events in their order: what was told before a request began is the least that it may see. */
static bool check_real_time(struct kv_replay *replay)
{
    const struct kv_history *history = replay->history;
    struct clock clock = {.n_pairs = 64};
    size_t *events = allocate(history->n_events + 1, sizeof *events);
    bool good = true;

    while (clock.n_pairs < 2 * history->n_ops) {
        clock.n_pairs *= 2;
    }
    clock.pairs = allocate(clock.n_pairs, sizeof *clock.pairs);
    clock.floors = allocate(history->n_ops, sizeof *clock.floors);
    clock.tellers = allocate(history->n_ops, sizeof *clock.tellers);
    for (size_t i = 0; i < history->n_ops; i++) {
        events[history->ops[i].begin] = i + 1;
        if (history->ops[i].end != KV_HISTORY_NEVER) {
            events[history->ops[i].end] = i + 1;
        }
    }
    for (uint64_t e = 1; e <= history->n_events && good; e++) {
        size_t op = events[e] - 1;

        if (history->ops[op].begin == e) {
            clock.floors[op] = clock.floor;
            clock.tellers[op] = clock.teller;
        } else {
            good = check_end(replay, &clock, op);
        }
    }
    free(events);
    free(clock.pairs);
    free(clock.floors);
    free(clock.tellers);
    return good;
}

/* --- states --- */

static bool complain_state(struct kv_replay *replay, const struct kv_touch *touch, int64_t revision)
{
    const struct kv_key_state *state = &replay->states[touch->key];
    char text[512];

    kv_key_state_describe(state, text, sizeof text);
    kv_report_bad(replay->report,
                  &replay->touches->keys[touch->key],
                  "at revision %" PRId64 " it held %s; this answer does not fit:",
                  revision,
                  text);
    kv_report_add_op(replay->report, replay->history, touch->op);
    if (state->mod > 0 && state->mod <= replay->newest && replay->makers[state->mod]) {
        kv_report_add(replay->report, "  its last change before was:");
        add_op(replay, replay->makers[state->mod] - 1);
    }
    return false;
}

static bool complain_count(struct kv_replay *replay, size_t op, uint64_t least, uint64_t most)
{
    kv_report_bad(replay->report,
                  some_key(replay, op),
                  "a count of %" PRId64 ", but %" PRIu64 " to %" PRIu64 " keys fit at revision "
                  "%" PRId64,
                  info_of(replay, op)->counted,
                  least,
                  most,
                  info_of(replay, op)->state_revision);
    add_op(replay, op);
    return false;
}

static bool check_count(struct kv_replay *replay, size_t op)
{
    const struct kv_op_info *info = info_of(replay, op);
    const Kv__Request *request = replay->history->ops[op].request;
    const Kv__Range *range =
        request->command_case == KV__REQUEST__COMMAND_RANGE ? request->range : NULL;
    uint64_t least = 0;
    uint64_t most = 0;

    for (uint32_t key = info->key_from; key < info->key_to; key++) {
        const struct kv_key_state *state = &replay->states[key];
        bool may = state->presence != KV_PRESENCE_ABSENT &&
                   (!range || kv_model_passes(range, state->create, state->mod));
        bool must = may && state->presence == KV_PRESENCE_PRESENT &&
                    (!range || kv_range_is_plain(range) || (state->create && state->mod));

        least += must;
        most += may;
    }
    if (range && range->limit) {
        least = least < range->limit ? least : range->limit;
        most = most < range->limit ? most : range->limit;
    }
    replay->report->unsure += least != most;
    if ((uint64_t)info->counted < least || (uint64_t)info->counted > most) {
        return complain_count(replay, op, least, most);
    }
    return true;
}

/* The operation on the present states. made: the revision is its own. */
static bool carry_out(struct kv_replay *replay, size_t op, int64_t revision, bool made)
{
    const struct kv_op_info *info = info_of(replay, op);
    uint64_t changed = 0;
    uint64_t unsure = 0;

    for (size_t i = info->first; i < info->first + info->count; i++) {
        const struct kv_touch *touch = &replay->touches->touches[i];
        struct kv_key_state *state = &replay->states[touch->key];
        struct kv_key_state next;
        enum kv_step step = kv_model_step(
            &replay->touches->values, touch, made ? revision : revision + 1, 0, state, &next);

        if (step == KV_STEP_MISMATCH || (step == KV_STEP_CHANGED && !made)) {
            return complain_state(replay, touch, made ? revision - 1 : revision);
        }
        unsure += state->presence == KV_PRESENCE_UNKNOWN;
        changed += step == KV_STEP_CHANGED;
        *state = next;
    }
    replay->report->unsure += unsure;
    if (info->is_write) {
        if (info->counted >= 0 && unsure == 0 && (uint64_t)info->counted != changed) {
            return complain_count(replay, op, changed, changed);
        }
        return true;
    }
    return info->counted < 0 || check_count(replay, op);
}

/* An append of nothing made the revision if its key was absent; a write on unknown keys may have.
 */
static bool may_make(struct kv_replay *replay, int64_t revision, bool *ret_made)
{
    bool in_doubt = false;

    *ret_made = false;
    for (size_t op = replay->may_makers[revision]; op != 0; op = replay->may_next[op - 1]) {
        const struct kv_op_info *info = info_of(replay, op - 1);
        const struct kv_touch *touch = &replay->touches->touches[info->first];

        if (replay->states[touch->key].presence == KV_PRESENCE_ABSENT) {
            *ret_made = true;
            replay->makers[revision] = op;
            return carry_out(replay, op - 1, revision, true);
        }
        in_doubt = in_doubt || replay->states[touch->key].presence == KV_PRESENCE_UNKNOWN;
    }
    if (in_doubt || replay->may_foreign[revision]) {
        *ret_made = true;
        kv_replay_doubt(replay, revision);
    }
    return true;
}

static bool make_revision(struct kv_replay *replay, int64_t revision)
{
    bool made;

    if (replay->makers[revision]) {
        return carry_out(replay, replay->makers[revision] - 1, revision, true);
    }
    if (!may_make(replay, revision, &made)) {
        return false;
    }
    return made || kv_replay_gap(replay, revision);
}

static bool replay_all(struct kv_replay *replay)
{
    size_t *first = allocate((size_t)replay->newest + 1, sizeof *first);
    size_t *next = allocate(replay->history->n_ops, sizeof *next);
    bool good = true;

    for (size_t i = replay->history->n_ops; i-- > 0;) {
        const struct kv_op_info *info = info_of(replay, i);

        if (info->outcome == KV_OUTCOME_ANSWERED && info->state_revision > 0 && !info->changes) {
            next[i] = first[info->state_revision];
            first[info->state_revision] = i + 1;
        }
    }
    for (int64_t r = KV_REVISION_FIRST; r <= replay->newest && good; r++) {
        good = r == KV_REVISION_FIRST || make_revision(replay, r);
        for (size_t op = first[r]; op != 0 && good; op = next[op - 1]) {
            if (replay->makers[r] != op) {
                good = carry_out(replay, op - 1, r, false);
            }
        }
    }
    free(first);
    free(next);
    return good;
}

void kv_replay_check(struct kv_touches *touches, struct kv_report *report)
{
    struct kv_replay replay = {.touches = touches, .history = touches->history, .report = report};
    size_t n_ops = touches->history->n_ops;
    size_t n_revisions;

    if (!find_newest(&replay)) {
        return;
    }
    report->replayed = true;
    report->n_revisions = (uint64_t)replay.newest;
    n_revisions = (size_t)replay.newest + 2;
    replay.states = allocate(touches->n_keys, sizeof *replay.states);
    replay.makers = allocate(n_revisions, sizeof *replay.makers);
    replay.may_makers = allocate(n_revisions, sizeof *replay.may_makers);
    replay.may_foreign = allocate(n_revisions, sizeof *replay.may_foreign);
    replay.may_next = allocate(n_ops, sizeof *replay.may_next);
    replay.told = allocate(n_revisions, sizeof *replay.told);
    replay.tellers = allocate(n_revisions, sizeof *replay.tellers);
    replay.open = allocate(n_ops, sizeof *replay.open);
    replay.used_at = allocate(n_ops, sizeof *replay.used_at);
    replay.seen = allocate(n_revisions, sizeof(struct kv_touch *));
    for (size_t i = 0; i < touches->n_keys; i++) {
        kv_key_state_init(&replay.states[i]);
    }
    if (find_makers(&replay)) {
        find_told(&replay);
        if (check_real_time(&replay) && kv_replay_gather(&replay) &&
            kv_replay_match_gaps(&replay)) {
            (void)replay_all(&replay);
        }
    }
    free(replay.states);
    free(replay.makers);
    free(replay.may_makers);
    free(replay.may_foreign);
    free(replay.may_next);
    free(replay.told);
    free(replay.tellers);
    free(replay.open);
    free(replay.used_at);
    free(replay.seen);
}
