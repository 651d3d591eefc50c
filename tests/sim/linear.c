#include "tests/sim/linear.h"

#include "common/assert.h"
#include "common/limits.h"

#include <stdlib.h>

enum { COMPLAINTS_MAX = 3, LISTED_MAX = 24, OPTIONAL_LISTED_MAX = 6, DROPS_MAX = 64 };

/* All keys, taken apart. */
struct linear {
    struct kv_touches *touches;
    struct kv_report *report;
    struct kv_linear_key *keys;
    const struct kv_touch **key_touches; /* memory of all keys */
    int64_t *revisions;
    int64_t *ranks;
    uint32_t *events;
    uint32_t *numbers; /* of a touch within its key */
    int64_t *next_gap;
    int64_t newest;
    struct kv_search *search;
};

static void *allocate(size_t n, size_t size)
{
    void *memory = calloc(n ? n : 1, size);

    KV_ASSERT(memory);
    return memory;
}

/* Has the touch a moment? */
static bool takes_part(const struct kv_op_info *info, const struct kv_history_op *op)
{
    return info->outcome != KV_OUTCOME_NOTHING &&
           (info->is_write || (!op->request->serializable && !info->at_revision));
}

static void add_begin(struct linear *linear, const struct kv_op_info *info)
{
    for (size_t i = info->first; i < info->first + info->count; i++) {
        const struct kv_touch *touch = &linear->touches->touches[i];
        struct kv_linear_key *key = &linear->keys[touch->key];

        linear->numbers[i] = (uint32_t)key->n_touches;
        key->touches[key->n_touches] = touch;
        key->revisions[key->n_touches] =
            touch->answered && info->is_write && (info->changes || info->may_change)
                ? info->answer_revision
                : 0;
        key->ranks[key->n_touches] = touch->answered && info->answer_revision > 0
                                         ? 2 * info->answer_revision + !info->changes
                                         : 0;
        key->events[key->n_events++] = 2 * (uint32_t)key->n_touches++;
    }
}

static void add_end(struct linear *linear, const struct kv_op_info *info)
{
    for (size_t i = info->first; i < info->first + info->count; i++) {
        struct kv_linear_key *key = &linear->keys[linear->touches->touches[i].key];

        key->events[key->n_events++] = 2 * linear->numbers[i] + 1;
    }
}

/* Deals the touches out to their keys, in the order of events. */
static void deal(struct linear *linear)
{
    const struct kv_history *history = linear->touches->history;
    size_t *counts = allocate(linear->touches->n_keys, sizeof *counts);
    size_t *events = allocate(history->n_events + 1, sizeof *events);
    size_t place = 0;

    for (size_t i = 0; i < linear->touches->n_touches; i++) {
        counts[linear->touches->touches[i].key]++;
    }
    for (size_t i = 0; i < linear->touches->n_keys; i++) {
        linear->keys[i].touches = linear->key_touches + place;
        linear->keys[i].revisions = linear->revisions + place;
        linear->keys[i].ranks = linear->ranks + place;
        linear->keys[i].events = linear->events + 2 * place;
        place += counts[i];
    }
    for (size_t i = 0; i < history->n_ops; i++) {
        events[history->ops[i].begin] = i + 1;
        if (history->ops[i].end != KV_HISTORY_NEVER) {
            events[history->ops[i].end] = i + 1;
        }
    }
    for (uint64_t e = 1; e <= history->n_events; e++) {
        const struct kv_history_op *op = &history->ops[events[e] - 1];
        const struct kv_op_info *info = &linear->touches->infos[events[e] - 1];

        if (takes_part(info, op) && op->begin == e) {
            add_begin(linear, info);
        } else if (takes_part(info, op) && info->outcome == KV_OUTCOME_ANSWERED) {
            add_end(linear, info);
        }
    }
    free(counts);
    free(events);
}

/* Which revisions are left for writes of unknown outcome? Not known when a write did not tell its
 * own, or told one that cannot be. */
static void find_gaps(struct linear *linear)
{
    size_t n_ops = linear->touches->history->n_ops;
    bool *made = allocate(n_ops + 2, sizeof *made);
    int64_t gap;

    for (size_t i = 0; i < n_ops; i++) {
        const struct kv_op_info *info = &linear->touches->infos[i];

        if (info->changes) {
            if (info->answer_revision <= 0 || info->answer_revision > (int64_t)n_ops + 1) {
                free(made);
                return;
            }
            made[info->answer_revision] = true;
            linear->newest =
                info->answer_revision > linear->newest ? info->answer_revision : linear->newest;
        }
    }
    linear->next_gap = allocate((size_t)linear->newest + 1, sizeof *linear->next_gap);
    gap = linear->newest + 1;
    for (int64_t r = linear->newest; r >= 0; r--) {
        linear->next_gap[r] = gap;
        gap = made[r] ? gap : r;
    }
    free(made);
}

/* --- explaining --- */

static bool
fails(struct linear *linear, const struct kv_linear_key *key, const struct kv_linear_window *window)
{
    return kv_search_run(linear->search, key, window) == KV_LINEAR_FITS_NOT;
}

/* The least end, then the greatest begin, of a window that still fails. */
static void shrink_window(struct linear *linear,
                          const struct kv_linear_key *key,
                          struct kv_linear_window *window)
{
    size_t low = 0;

    while (window->to - low > 1) {
        struct kv_linear_window half = *window;

        half.to = low + (window->to - low) / 2;

        if (fails(linear, key, &half)) {
            window->to = half.to;
        } else {
            low = half.to;
        }
    }
    for (size_t high = window->to; high - window->from > 1;) {
        struct kv_linear_window half = *window;

        half.from += (high - window->from) / 2;

        if (fails(linear, key, &half)) {
            window->from = half.from;
        } else {
            high = half.from;
        }
    }
}

/* Which part of the window must be done: 0 none of it, 1 all, 2 may be done or not. */
enum part { PART_NONE, PART_REQUIRED, PART_OPTIONAL };

static void find_parts(const struct kv_linear_key *key,
                       const struct kv_linear_window *window,
                       enum part *ret_parts)
{
    for (size_t i = 0; i < key->n_touches; i++) {
        ret_parts[i] = PART_NONE;
    }
    for (size_t i = 0; i < key->n_events; i++) {
        uint32_t touch = key->events[i] / 2;

        if (!(key->events[i] & 1)) {
            ret_parts[touch] = i < window->to ? PART_OPTIONAL : PART_NONE;
        } else if (i < window->to) {
            ret_parts[touch] = i < window->from ? PART_NONE : PART_REQUIRED;
        }
    }
    for (size_t i = 0; i < key->n_touches; i++) {
        if (ret_parts[i] == PART_OPTIONAL && key->touches[i]->kind <= KV_TOUCH_SLICE) {
            ret_parts[i] = PART_NONE;
        }
    }
}

/* Looks that the contradiction does not need; a history without a look is weaker, never stronger.
 */
static void drop_looks(struct linear *linear,
                       const struct kv_linear_key *key,
                       struct kv_linear_window *window,
                       const enum part *parts,
                       bool *skip)
{
    unsigned tried = 0;

    window->skip = skip;
    for (size_t i = 0; i < key->n_touches && tried < DROPS_MAX; i++) {
        if (parts[i] == PART_REQUIRED && key->touches[i]->kind <= KV_TOUCH_SLICE) {
            tried++;
            skip[i] = true;
            skip[i] = fails(linear, key, window);
        }
    }
}

static void list_part(struct linear *linear,
                      const struct kv_linear_key *key,
                      const enum part *parts,
                      const bool *skip,
                      enum part part,
                      size_t max)
{
    size_t n = 0;

    for (size_t i = 0; i < key->n_touches; i++) {
        if (parts[i] == part && !skip[i] && n++ < max) {
            kv_report_add_op(linear->report, linear->touches->history, key->touches[i]->op);
        }
    }
    if (n > max) {
        kv_report_add(linear->report, "    ... and %zu more", n - max);
    }
}

static size_t count_part(const struct kv_linear_key *key,
                         const enum part *parts,
                         const bool *skip,
                         enum part part)
{
    size_t n = 0;

    for (size_t i = 0; i < key->n_touches; i++) {
        n += parts[i] == part && !skip[i];
    }
    return n;
}

static void explain(struct linear *linear, const struct kv_linear_key *key, bool by_revision)
{
    struct kv_linear_window window = {0, key->n_events, NULL, by_revision};
    enum part *parts = allocate(key->n_touches, sizeof *parts);
    bool *skip = allocate(key->n_touches, sizeof *skip);
    struct kv_key_state state;
    const struct kv_touch *stuck;
    char text[512];

    shrink_window(linear, key, &window);
    find_parts(key, &window, parts);
    drop_looks(linear, key, &window, parts, skip);
    (void)kv_search_run(linear->search, key, &window);
    stuck = kv_search_stuck(linear->search, &state);
    kv_report_bad(linear->report,
                  &linear->touches->keys[key->touches[0]->key],
                  "not linearizable: %zu of its %zu operations have no order%s%s:",
                  count_part(key, parts, skip, PART_REQUIRED),
                  key->n_touches,
                  by_revision ? " that is that of the revisions told" : "",
                  window.from > 0 ? ", whatever it held before" : "");
    list_part(linear, key, parts, skip, PART_REQUIRED, LISTED_MAX);
    if (count_part(key, parts, skip, PART_OPTIONAL) > 0) {
        kv_report_add(linear->report, "  even if any of these was done, or not:");
        list_part(linear, key, parts, skip, PART_OPTIONAL, OPTIONAL_LISTED_MAX);
    }
    if (stuck) {
        kv_key_state_describe(&state, text, sizeof text);
        kv_report_add(
            linear->report, "  the furthest order leaves it with %s; then fits not:", text);
        kv_report_add_op(linear->report, linear->touches->history, stuck->op);
    }
    free(parts);
    free(skip);
}

static enum kv_linear_result
run_key(struct linear *linear, const struct kv_linear_key *key, bool by_revision)
{
    struct kv_linear_window whole = {0, key->n_events, NULL, by_revision};
    enum kv_linear_result result = kv_search_run(linear->search, key, &whole);
    struct kv_report *report = linear->report;

    report->steps += kv_search_steps(linear->search);
    if (kv_search_memo(linear->search) > report->memo_most) {
        report->memo_most = kv_search_memo(linear->search);
    }
    return result;
}

/* True when there is something to complain about. */
static bool check_key(struct linear *linear, const struct kv_linear_key *key, bool *ret_by_revision)
{
    enum kv_linear_result by_revision = run_key(linear, key, true);
    enum kv_linear_result by_time =
        by_revision == KV_LINEAR_FITS ? KV_LINEAR_FITS : run_key(linear, key, false);

    *ret_by_revision = by_time != KV_LINEAR_FITS_NOT;
    if (by_time == KV_LINEAR_FITS_NOT || by_revision == KV_LINEAR_FITS_NOT) {
        return true;
    }
    if (by_time == KV_LINEAR_GAVE_UP) {
        linear->report->keys_given_up++;
        if (linear->report->verdict == KV_VERDICT_GOOD) {
            linear->report->verdict = KV_VERDICT_GAVE_UP;
        }
    }
    return false;
}

static void check_keys(struct linear *linear)
{
    unsigned complaints = 0;

    for (size_t i = 0; i < linear->touches->n_keys; i++) {
        bool by_revision;

        if (check_key(linear, &linear->keys[i], &by_revision) && complaints++ < COMPLAINTS_MAX) {
            explain(linear, &linear->keys[i], by_revision);
        }
    }
}

void kv_linear_check(struct kv_touches *touches,
                     const struct kv_check_options *options,
                     struct kv_report *report)
{
    struct linear linear = {.touches = touches, .report = report, .newest = KV_REVISION_FIRST};

    linear.keys = allocate(touches->n_keys, sizeof *linear.keys);
    linear.key_touches = allocate(touches->n_touches, sizeof(struct kv_touch *));
    linear.revisions = allocate(touches->n_touches, sizeof *linear.revisions);
    linear.ranks = allocate(touches->n_touches, sizeof *linear.ranks);
    linear.events = allocate(2 * touches->n_touches, sizeof *linear.events);
    linear.numbers = allocate(touches->n_touches, sizeof *linear.numbers);
    deal(&linear);
    find_gaps(&linear);
    linear.search = kv_search_open(
        &touches->values, linear.next_gap, linear.newest, options->steps_max, options->memo_max);
    check_keys(&linear);
    kv_search_close(linear.search);
    free(linear.keys);
    free(linear.key_touches);
    free(linear.revisions);
    free(linear.ranks);
    free(linear.events);
    free(linear.numbers);
    free(linear.next_gap);
}
