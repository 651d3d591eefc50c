#include "server/machine/history.h"

#include "common/assert.h"
#include "common/limits.h"

#include <stdlib.h>
#include <string.h>

enum {
    CHUNK_EVENTS = 1024,
    EVENT_COST = 16,
    /* Marks closer than this are one: retention is no finer. */
    MARK_MS = 100,
};

/* Full, unless it is the last. */
struct kv_history_chunk {
    struct kv_history_chunk *next;
    size_t n;
    struct kv_record *events[CHUNK_EVENTS];
};

void kv_history_init(struct kv_history *history)
{
    *history = (struct kv_history){.oldest_revision = KV_REVISION_FIRST,
                                   .marks_max = KV_HISTORY_MARKS_MAX};
}

void kv_history_deinit(struct kv_history *history)
{
    while (history->first) {
        struct kv_history_chunk *next = history->first->next;

        free(history->first);
        history->first = next;
    }
    free(history->marks);
    free(history->chunks);
    *history = (struct kv_history){0};
}

/* A tombstone is counted with the event that made it, a value with the event that replaced it. */
static uint64_t event_cost(const struct kv_record *record)
{
    const struct kv_record *older = record->older;

    return EVENT_COST + (record->tombstone ? kv_record_cost(record) : 0) +
           (older && !older->tombstone ? kv_record_cost(older) : 0) +
           (record->drops ? kv_record_large(older).bytes : 0);
}

static void index_chunk(struct kv_history *history, struct kv_history_chunk *chunk)
{
    if (history->n_chunks == history->chunks_capacity) {
        size_t capacity = history->chunks_capacity ? history->chunks_capacity * 2 : 1;
        struct kv_history_chunk **chunks =
            kv_machine_alloc(capacity * sizeof(struct kv_history_chunk *));

        for (size_t i = 0; i < history->n_chunks; i++) {
            chunks[i] = history->chunks[(history->chunks_first + i) % history->chunks_capacity];
        }
        free(history->chunks);
        history->chunks = chunks;
        history->chunks_capacity = capacity;
        history->chunks_first = 0;
    }
    history->chunks[(history->chunks_first + history->n_chunks++) % history->chunks_capacity] =
        chunk;
}

static void append_event(struct kv_history *history, struct kv_record *record)
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
        index_chunk(history, chunk);
    }
    chunk->events[chunk->n++] = record;
    history->n_events++;
    history->n_noted++;
}

void kv_history_note(struct kv_history *history, struct kv_record *record)
{
    const uint64_t cost = event_cost(record);
    const bool replaced = record->older && !record->older->tombstone;

    append_event(history, record);
    history->bytes += cost;
    history->new_bytes += cost;
    history->versions += replaced;
    history->new_versions += replaced;
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

/* Joins two and two: retention becomes coarser, never shorter. */
static void thin_marks(struct kv_history *history)
{
    size_t n = 0;

    for (size_t i = 0; i < history->n_marks; i += 2) {
        struct kv_history_mark mark = *mark_at(history, i);

        if (i + 1 < history->n_marks) {
            const struct kv_history_mark *next = mark_at(history, i + 1);

            mark.revision = next->revision;
            mark.time_ms = next->time_ms;
            mark.bytes += next->bytes;
            mark.versions += next->versions;
        }
        *mark_at(history, n++) = mark;
    }
    history->n_marks = n;
}

/* The events behind the newest mark become this one's. */
static void take_new(struct kv_history *history, struct kv_history_mark *mark)
{
    mark->bytes += history->new_bytes;
    mark->versions += history->new_versions;
    history->new_bytes = 0;
    history->new_versions = 0;
}

void kv_history_restore_mark(struct kv_history *history, int64_t revision, int64_t time_ms)
{
    if (history->n_marks == history->marks_capacity) {
        grow_marks(history);
    }
    history->n_marks++;
    *mark_at(history, history->n_marks - 1) = (struct kv_history_mark){revision, time_ms, 0, 0};
    take_new(history, mark_at(history, history->n_marks - 1));
}

void kv_history_mark(struct kv_history *history, int64_t revision, int64_t time_ms)
{
    struct kv_history_mark *last = history->n_marks ? mark_at(history, history->n_marks - 1) : NULL;

    if (last && time_ms - last->time_ms < MARK_MS && history->n_marks > 1) {
        last->revision = revision;
        take_new(history, last);
        return;
    }
    if (history->n_marks >= history->marks_max) {
        thin_marks(history);
    }
    kv_history_restore_mark(history, revision, time_ms);
}

void kv_history_copy_marks(const struct kv_history *history, struct kv_history_mark *marks)
{
    for (size_t i = 0; i < history->n_marks; i++) {
        marks[i] = *mark_at(history, i);
    }
}

/* Moves the oldest revision to the oldest mark. */
static void take_mark(struct kv_history *history)
{
    const struct kv_history_mark *mark = mark_at(history, 0);

    history->oldest_revision = mark->revision;
    history->bytes -= mark->bytes;
    history->versions -= mark->versions;
    history->marks_first = (history->marks_first + 1) % history->marks_capacity;
    history->n_marks--;
}

/* Moves the oldest revision over one mark, if the limits want that. */
static bool move_oldest(struct kv_history *history, const struct kv_history_limits *limits)
{
    const struct kv_history_mark *mark = history->n_marks ? mark_at(history, 0) : NULL;
    bool too_old = mark && limits->now_ms > mark->time_ms &&
                   (uint64_t)(limits->now_ms - mark->time_ms) > limits->age_ms;

    if (!mark || (!too_old && history->bytes <= limits->bytes)) {
        return false;
    }
    take_mark(history);
    return true;
}

void kv_history_trim(struct kv_history *history, const struct kv_history_limits *limits)
{
    while (move_oldest(history, limits)) {
    }
}

/* What the events behind `from` up to `to` cost. */
static void
sum_events(const struct kv_history *history, int64_t from, int64_t to, struct kv_history_mark *ret)
{
    const uint64_t end = kv_history_end_sequence(history);

    *ret = (struct kv_history_mark){0};
    for (uint64_t i = kv_history_find(history, from + 1); i < end; i++) {
        const struct kv_record *record = kv_history_at(history, i);

        if (record->mod_revision > to) {
            return;
        }
        ret->bytes += event_cost(record);
        ret->versions += record->older && !record->older->tombstone;
    }
}

void kv_history_compact(struct kv_history *history, int64_t revision)
{
    struct kv_history_mark part;

    while (history->n_marks > 0 && mark_at(history, 0)->revision <= revision) {
        take_mark(history);
    }
    if (revision <= history->oldest_revision) {
        return;
    }
    /* It lies within the oldest mark, or behind the newest: a part of that goes. */
    sum_events(history, history->oldest_revision, revision, &part);
    history->oldest_revision = revision;
    history->bytes -= part.bytes;
    history->versions -= part.versions;
    if (history->n_marks > 0) {
        mark_at(history, 0)->bytes -= part.bytes;
        mark_at(history, 0)->versions -= part.versions;
    } else {
        history->new_bytes -= part.bytes;
        history->new_versions -= part.versions;
    }
}

/* ---------------------------------------------------------------- memory */

/* The oldest event, or NULL. */
static struct kv_record *first_event(const struct kv_history *history)
{
    return history->n_events ? history->first->events[history->first_at] : NULL;
}

static void drop_first_event(struct kv_history *history, struct kv_tree *tree)
{
    struct kv_history_chunk *chunk = history->first;

    history->n_events--;
    if (++history->first_at == chunk->n) {
        history->first = chunk->next;
        history->first_at = 0;
        history->first_sequence += chunk->n;
        history->chunks_first = (history->chunks_first + 1) % history->chunks_capacity;
        history->n_chunks--;
        if (!chunk->next) {
            history->last = NULL;
        }
        kv_tree_retire_memory(tree, chunk, sizeof *chunk);
    }
}

struct kv_record *kv_history_take_dead(struct kv_history *history, struct kv_tree *tree)
{
    struct kv_record *record = first_event(history);

    if (!record || record->mod_revision > history->oldest_revision) {
        return NULL;
    }
    drop_first_event(history, tree);
    return record;
}

/* ---------------------------------------------------------------- by sequence */

uint64_t kv_history_first_sequence(const struct kv_history *history)
{
    return history->first_sequence + history->first_at;
}

uint64_t kv_history_end_sequence(const struct kv_history *history)
{
    return kv_history_first_sequence(history) + history->n_events;
}

struct kv_record *kv_history_at(const struct kv_history *history, uint64_t sequence)
{
    const uint64_t place = sequence - history->first_sequence;
    const size_t chunk = (history->chunks_first + place / CHUNK_EVENTS) % history->chunks_capacity;

    return history->chunks[chunk]->events[place % CHUNK_EVENTS];
}

uint64_t kv_history_find(const struct kv_history *history, int64_t revision)
{
    uint64_t low = kv_history_first_sequence(history);
    uint64_t high = kv_history_end_sequence(history);

    while (low < high) {
        const uint64_t middle = low + (high - low) / 2;

        if (kv_history_at(history, middle)->mod_revision < revision) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* ---------------------------------------------------------------- going back */

void kv_history_save(const struct kv_history *history, struct kv_history_point *ret_point)
{
    *ret_point = (struct kv_history_point){
        .last = history->last,
        .last_n = history->last ? history->last->n : 0,
        .n_events = history->n_events,
        .n_noted = history->n_noted,
        .bytes = history->bytes,
        .versions = history->versions,
        .new_bytes = history->new_bytes,
        .new_versions = history->new_versions,
    };
}

/* Takes the newest chunks away, and the events of the one at the point that came behind it. */
static void cut_events(struct kv_history *history, const struct kv_history_point *point)
{
    struct kv_history_chunk *chunk = point->last ? point->last->next : history->first;

    while (chunk) {
        struct kv_history_chunk *next = chunk->next;

        free(chunk);
        chunk = next;
        history->n_chunks--;
    }
    history->last = point->last;
    if (point->last) {
        point->last->next = NULL;
        point->last->n = point->last_n;
    } else {
        history->first = NULL;
        history->first_at = 0;
    }
}

void kv_history_undo(struct kv_history *history,
                     const struct kv_history_point *point,
                     void (*fn)(void *arg, struct kv_record *record),
                     void *arg)
{
    const uint64_t first = kv_history_first_sequence(history) + point->n_events;
    const size_t n = (size_t)(history->n_events - point->n_events);
    struct kv_record **events = kv_machine_alloc((n + 1) * sizeof(struct kv_record *));

    for (size_t i = 0; i < n; i++) {
        events[i] = kv_history_at(history, first + i);
    }
    cut_events(history, point);
    history->n_events = point->n_events;
    history->n_noted = point->n_noted;
    history->bytes = point->bytes;
    history->versions = point->versions;
    history->new_bytes = point->new_bytes;
    history->new_versions = point->new_versions;
    for (size_t i = n; i > 0; i--) {
        fn(arg, events[i - 1]);
    }
    free(events);
}

void kv_history_read(const struct kv_history *history, struct kv_history_reader *ret_reader)
{
    *ret_reader = (struct kv_history_reader){history->first, history->first_at, history->n_events};
}

const struct kv_record *kv_history_reader_get(const struct kv_history_reader *reader)
{
    return reader->left > 0 ? reader->chunk->events[reader->at] : NULL;
}

/* Looks neither at a chunk's `n` nor at the last one's `next`: the core changes those. */
void kv_history_reader_next(struct kv_history_reader *reader)
{
    if (--reader->left > 0 && ++reader->at == CHUNK_EVENTS) {
        reader->chunk = reader->chunk->next;
        reader->at = 0;
    }
}

void kv_history_check_invariants(const struct kv_history *history, int64_t revision)
{
    uint64_t bytes = history->new_bytes;
    uint64_t versions = history->new_versions;
    int64_t before = history->oldest_revision;

    for (size_t i = 0; i < history->n_marks; i++) {
        const struct kv_history_mark *mark = mark_at(history, i);

        KV_ASSERT(mark->revision > before);
        before = mark->revision;
        bytes += mark->bytes;
        versions += mark->versions;
    }
    KV_ASSERT(before == revision);
    KV_ASSERT(bytes == history->bytes && versions == history->versions);
    KV_ASSERT(history->n_marks <= history->marks_max);
}
