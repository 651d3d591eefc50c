#include "server/machine/history.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_EVENTS = 4096,
    EVENT_COST = 16,
    /* Marks closer than this are one: retention is no finer. */
    MARK_MS = 100,
    /* Longest retention that has its own marks; older ones are merged by dropping every second one.
     */
    MARKS_MAX = 65536,
    TRIM_EVENTS_PER_ENTRY = 4096,
};

struct kv_history_chunk {
    struct kv_history_chunk *next;
    size_t n;
    struct kv_record *events[CHUNK_EVENTS];
};

struct kv_history_mark {
    int64_t revision;
    int64_t time_ms;
};

void kv_history_init(struct kv_history *history)
{
    *history = (struct kv_history){.oldest_revision = 1};
}

void kv_history_deinit(struct kv_history *history)
{
    while (history->first) {
        struct kv_history_chunk *next = history->first->next;

        free(history->first);
        history->first = next;
    }
    free(history->marks);
    *history = (struct kv_history){0};
}

void kv_history_note(struct kv_history *history, struct kv_record *record)
{
    struct kv_history_chunk *chunk = history->last;

    if (!chunk || chunk->n == CHUNK_EVENTS) {
        chunk = kv_machine_alloc(sizeof *chunk);
        chunk->next = NULL;
        chunk->n = 0;
        if (history->last) {
            history->last->next = chunk;
        } else {
            history->first = chunk;
            history->first_at = 0;
        }
        history->last = chunk;
    }
    chunk->events[chunk->n++] = record;
    history->n_events++;
    history->bytes += EVENT_COST;
    if (record->tombstone) {
        history->bytes += kv_record_cost(record);
    }
    if (record->older) {
        history->versions++;
        /* A tombstone is counted already. */
        history->bytes += record->older->tombstone ? 0 : kv_record_cost(record->older);
    }
}

static struct kv_history_mark *mark_at(const struct kv_history *history, size_t i)
{
    return &history->marks[(history->marks_first + i) % history->marks_capacity];
}

static void grow_marks(struct kv_history *history)
{
    size_t capacity = history->marks_capacity ? history->marks_capacity * 2 : 256;
    struct kv_history_mark *marks = kv_machine_alloc(capacity * sizeof *marks);

    for (size_t i = 0; i < history->n_marks; i++) {
        marks[i] = *mark_at(history, i);
    }
    free(history->marks);
    history->marks = marks;
    history->marks_capacity = capacity;
    history->marks_first = 0;
}

/* Halves the marks: retention becomes coarser, never shorter. */
static void thin_marks(struct kv_history *history)
{
    size_t n = 0;

    for (size_t i = 1; i < history->n_marks; i += 2) {
        *mark_at(history, n++) = *mark_at(history, i);
    }
    history->n_marks = n;
}

void kv_history_mark(struct kv_history *history, int64_t revision, int64_t time_ms)
{
    struct kv_history_mark *last = history->n_marks ? mark_at(history, history->n_marks - 1) : NULL;

    if (last && time_ms - last->time_ms < MARK_MS && history->n_marks > 1) {
        last->revision = revision;
        return;
    }
    if (history->n_marks == MARKS_MAX) {
        thin_marks(history);
    }
    if (history->n_marks == history->marks_capacity) {
        grow_marks(history);
    }
    history->n_marks++;
    *mark_at(history, history->n_marks - 1) = (struct kv_history_mark){revision, time_ms};
}

/* The oldest event, or NULL. */
static struct kv_record *first_event(const struct kv_history *history)
{
    return history->n_events ? history->first->events[history->first_at] : NULL;
}

static void drop_first_event(struct kv_history *history)
{
    struct kv_history_chunk *chunk = history->first;

    history->n_events--;
    history->bytes -= EVENT_COST;
    if (++history->first_at == chunk->n) {
        history->first = chunk->next;
        history->first_at = 0;
        if (!chunk->next) {
            history->last = NULL;
        }
        free(chunk);
    }
}

/* Frees what only reads before this event's revision could see. */
static void
reclaim_event(struct kv_history *history, struct kv_tree *tree, struct kv_record *record)
{
    struct kv_record *older = record->older;

    if (older) {
        KV_ASSERT(!older->older); /* its own event came first */
        record->older = NULL;
        history->bytes -= kv_record_cost(older);
        history->versions--;
        kv_tree_retire_record(tree, older);
    }
    if (record->tombstone && kv_tree_find(tree, kv_record_key(record)) == record) {
        (void)kv_tree_remove(tree, kv_record_key(record));
        history->bytes -= kv_record_cost(record);
        kv_tree_retire_record(tree, record);
    }
}

/* Moves the oldest revision to where the limits want it, at most over the marks that there are. */
static bool move_oldest(struct kv_history *history, const struct kv_history_limits *limits)
{
    const struct kv_history_mark *mark = history->n_marks ? mark_at(history, 0) : NULL;
    bool too_old = mark && limits->now_ms > mark->time_ms &&
                   (uint64_t)(limits->now_ms - mark->time_ms) > limits->age_ms;

    if (!mark || (!too_old && history->bytes <= limits->bytes)) {
        return false;
    }
    history->oldest_revision = mark->revision;
    history->marks_first = (history->marks_first + 1) % history->marks_capacity;
    history->n_marks--;
    return true;
}

void kv_history_trim(struct kv_history *history,
                     struct kv_tree *tree,
                     const struct kv_history_limits *limits)
{
    for (unsigned budget = TRIM_EVENTS_PER_ENTRY; budget > 0; budget--) {
        struct kv_record *record = first_event(history);

        if (record && record->mod_revision <= history->oldest_revision) {
            drop_first_event(history);
            reclaim_event(history, tree, record);
        } else if (!move_oldest(history, limits)) {
            return;
        }
    }
}
