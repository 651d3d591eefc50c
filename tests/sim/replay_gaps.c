/* Revisions that no answered write made: which write of unknown outcome did? */
#include "tests/sim/replay.h"

#include "common/limits.h"

#include <inttypes.h>

static const struct kv_op_info *open_info(const struct kv_replay *replay, size_t place)
{
    return &replay->touches->infos[replay->open[place]];
}

static bool is_gap(const struct kv_replay *replay, int64_t revision)
{
    return !replay->makers[revision] && !replay->may_makers[revision] &&
           !replay->may_foreign[revision];
}

/* Does the write that made the revision touch the key? */
static bool makes_key(const struct kv_replay *replay, int64_t revision, uint32_t key)
{
    const struct kv_op_info *info = &replay->touches->infos[replay->makers[revision] - 1];

    for (size_t i = info->first; i < info->first + info->count; i++) {
        if (replay->touches->touches[i].key == key) {
            return true;
        }
    }
    return false;
}

static bool complain(struct kv_replay *replay,
                     const struct kv_touch *touch,
                     const struct kv_history_op *other,
                     const char *what)
{
    kv_report_bad(replay->report,
                  &replay->touches->keys[touch->key],
                  "%s (mod_revision %" PRId64 ")",
                  what,
                  touch->pair->mod_revision);
    kv_report_add_op(replay->report, replay->history, touch->op);
    if (other) {
        kv_report_add_op(replay->report, replay->history, other);
    }
    return false;
}

/* Two looks at what one revision made must agree. */
static bool agree(const struct kv_touch *a, const struct kv_touch *b)
{
    return a->key == b->key && (!a->seen || !b->seen || a->seen == b->seen) &&
           a->pair->version == b->pair->version &&
           a->pair->create_revision == b->pair->create_revision;
}

static bool note(struct kv_replay *replay, const struct kv_touch *touch)
{
    const struct kv_op_info *info = &replay->touches->infos[touch->op - replay->history->ops];
    int64_t mod = touch->pair->mod_revision;
    const struct kv_touch *other;

    if (mod <= KV_REVISION_FIRST || mod > replay->newest ||
        (info->state_revision > 0 && mod > info->state_revision)) {
        return complain(
            replay, touch, NULL, "a change that the revision of the answer cannot show");
    }
    if (replay->makers[mod]) {
        return makes_key(replay, mod, touch->key) ||
               complain(replay,
                        touch,
                        &replay->history->ops[replay->makers[mod] - 1],
                        "a change at a revision that was made on another key");
    }
    other = replay->seen[mod];
    if (other && !agree(other, touch)) {
        return complain(replay, touch, other->op, "one revision, two changes");
    }
    if (!other || !other->seen) {
        replay->seen[mod] = touch;
    }
    return true;
}

/* May the write have put there what was seen? */
static bool may_leave(const struct kv_replay *replay, size_t place, const struct kv_touch *seen)
{
    const struct kv_op_info *info = open_info(replay, place);

    for (size_t i = info->first; i < info->first + info->count; i++) {
        const struct kv_touch *touch = &replay->touches->touches[i];

        if (touch->key == seen->key && touch->kind != KV_TOUCH_DELETE &&
            (touch->kind != KV_TOUCH_PUT || touch->argument == seen->seen)) {
            return true;
        }
    }
    return false;
}

/* A write that alone can have put the value there did make the revision; no other one, too. */
static bool claim(struct kv_replay *replay, int64_t revision)
{
    const struct kv_touch *seen = replay->seen[revision];
    size_t n_found = 0;
    size_t place = 0;

    for (size_t i = 0; i < replay->n_open && n_found < 2; i++) {
        if (may_leave(replay, i, seen)) {
            place = i;
            n_found++;
        }
    }
    if (n_found != 1) {
        return true;
    }
    if (replay->used_at[place] != 0) {
        kv_report_bad(replay->report,
                      &replay->touches->keys[seen->key],
                      "a write took effect twice, at revisions %" PRId64 " and %" PRId64,
                      replay->used_at[place],
                      revision);
        kv_report_add_op(
            replay->report, replay->history, &replay->history->ops[replay->open[place]]);
        kv_report_add_op(replay->report, replay->history, replay->seen[replay->used_at[place]]->op);
        kv_report_add_op(replay->report, replay->history, seen->op);
        return false;
    }
    replay->used_at[place] = revision;
    return true;
}

bool kv_replay_gather(struct kv_replay *replay)
{
    for (size_t i = 0; i < replay->touches->n_touches; i++) {
        const struct kv_touch *touch = &replay->touches->touches[i];

        if (touch->answered && touch->pair && !note(replay, touch)) {
            return false;
        }
    }
    for (int64_t r = KV_REVISION_FIRST + 1; r <= replay->newest; r++) {
        if (replay->seen[r] && replay->seen[r]->seen && is_gap(replay, r) && !claim(replay, r)) {
            return false;
        }
    }
    return true;
}

bool kv_replay_match_gaps(struct kv_replay *replay)
{
    size_t n_gaps = 0;
    size_t n_sent = 0;

    for (int64_t r = KV_REVISION_FIRST + 1; r <= replay->newest; r++) {
        if (!is_gap(replay, r)) {
            continue;
        }
        replay->report->gaps++;
        n_gaps++;
        /* The writes that can have made a revision can have made any later one, too: counting is
         * enough to know that each gap has one of its own. */
        while (n_sent < replay->n_open &&
               replay->history->ops[replay->open[n_sent]].begin < replay->told[r]) {
            n_sent++;
        }
        if (n_gaps > n_sent) {
            const struct kv_history_op *teller = &replay->history->ops[replay->tellers[r] - 1];
            const struct kv_op_info *info = &replay->touches->infos[replay->tellers[r] - 1];

            kv_report_bad(
                replay->report,
                info->count > 0 ? &replay->touches->keys[replay->touches->touches[info->first].key]
                                : NULL,
                "revision %" PRId64 " was told, but nothing that was asked by then made it",
                r);
            kv_report_add_op(replay->report, replay->history, teller);
            return false;
        }
    }
    return true;
}

/* Can the write have made the gap, as far as is known? */
static bool can_make(struct kv_replay *replay,
                     const struct kv_op_info *info,
                     const struct kv_touch *evidence,
                     int64_t revision)
{
    bool changes = info->foreign;
    bool fits = !evidence;

    for (size_t i = info->first; i < info->first + info->count; i++) {
        const struct kv_touch *touch = &replay->touches->touches[i];
        struct kv_key_state next, seen;

        if (kv_model_step(
                &replay->touches->values, touch, revision, 0, &replay->states[touch->key], &next) !=
            KV_STEP_CHANGED) {
            continue;
        }
        changes = true;
        if (evidence && touch->key == evidence->key) {
            struct kv_touch look = *evidence;

            look.kind = KV_TOUCH_LOOK;
            fits = kv_model_step(&replay->touches->values, &look, 0, 0, &next, &seen) !=
                   KV_STEP_MISMATCH;
        }
    }
    return changes && fits;
}

/* It did: so its keys are as it leaves them. */
static void carry_out_open(struct kv_replay *replay, size_t place, int64_t revision)
{
    const struct kv_op_info *info = open_info(replay, place);

    replay->used_at[place] = revision;
    replay->report->gaps_resolved++;
    for (size_t i = info->first; i < info->first + info->count; i++) {
        const struct kv_touch *touch = &replay->touches->touches[i];
        struct kv_key_state next;

        if (kv_model_step(
                &replay->touches->values, touch, revision, 0, &replay->states[touch->key], &next) ==
            KV_STEP_CHANGED) {
            replay->states[touch->key] = next;
        }
    }
}

static void forget(struct kv_key_state *state)
{
    int64_t floor = kv_key_state_floor(state);

    kv_key_state_forget(state);
    state->mod_min = floor;
}

/* It may have: so its keys may be as they were, or as it leaves them. */
static void forget_keys(struct kv_replay *replay, const struct kv_op_info *info)
{
    for (size_t i = info->first; i < info->first + info->count; i++) {
        const struct kv_touch *touch = &replay->touches->touches[i];
        struct kv_key_state *state = &replay->states[touch->key];
        struct kv_key_state next;

        if (kv_model_step(&replay->touches->values, touch, 0, 0, state, &next) == KV_STEP_CHANGED) {
            forget(state);
        }
    }
}

/* What was seen of it adds to what is known. sure: which write it was is known, too. */
static void
adopt(struct kv_replay *replay, const struct kv_touch *evidence, bool sure, int64_t revision)
{
    struct kv_key_state *state = &replay->states[evidence->key];
    struct kv_touch look = *evidence;
    struct kv_key_state next;

    if (!sure) {
        kv_key_state_forget(state);
        state->mod_min = revision;
    }
    look.kind = KV_TOUCH_LOOK;
    if (kv_model_step(&replay->touches->values, &look, 0, 0, state, &next) != KV_STEP_MISMATCH) {
        *state = next;
    }
}

static bool no_maker(struct kv_replay *replay, const struct kv_touch *evidence, int64_t revision)
{
    const struct kv_history_op *teller = &replay->history->ops[replay->tellers[revision] - 1];
    const struct kv_op_info *info = &replay->touches->infos[replay->tellers[revision] - 1];
    const struct kv_slice *key =
        evidence          ? &replay->touches->keys[evidence->key]
        : info->count > 0 ? &replay->touches->keys[replay->touches->touches[info->first].key]
                          : NULL;

    kv_report_bad(replay->report,
                  key,
                  "revision %" PRId64 " was told, but no write that was asked can have made it%s",
                  revision,
                  evidence ? " as it was seen" : "");
    kv_report_add_op(replay->report, replay->history, evidence ? evidence->op : teller);
    return false;
}

/* The writes that can have made the gap; at least every one that did. */
static size_t find_makers(struct kv_replay *replay, int64_t revision, size_t *ret_place)
{
    size_t n_found = 0;

    for (size_t i = 0; i < replay->n_open; i++) {
        if (replay->history->ops[replay->open[i]].begin >= replay->told[revision]) {
            break;
        }
        if ((replay->used_at[i] == 0 || replay->used_at[i] == revision) &&
            can_make(replay, open_info(replay, i), replay->seen[revision], revision)) {
            *ret_place = i;
            n_found++;
        }
    }
    return n_found;
}

static void forget_all(struct kv_replay *replay, int64_t revision)
{
    for (size_t i = 0; i < replay->n_open; i++) {
        if (replay->used_at[i] == 0 &&
            replay->history->ops[replay->open[i]].begin < replay->told[revision]) {
            forget_keys(replay, open_info(replay, i));
        }
    }
}

void kv_replay_doubt(struct kv_replay *replay, int64_t revision)
{
    forget_all(replay, revision);
    if (replay->seen[revision]) {
        adopt(replay, replay->seen[revision], false, revision);
    }
}

bool kv_replay_gap(struct kv_replay *replay, int64_t revision)
{
    const struct kv_touch *evidence = replay->seen[revision];
    size_t place = 0;
    size_t n_found = find_makers(replay, revision, &place);

    if (n_found == 0) {
        return no_maker(replay, evidence, revision);
    }
    if (n_found == 1) {
        carry_out_open(replay, place, revision);
    }
    if (n_found > 1 && !evidence) {
        forget_all(replay, revision);
    }
    if (evidence) {
        adopt(replay, evidence, n_found == 1, revision);
    }
    return true;
}
