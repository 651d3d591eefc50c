/* History: what changed, in revision order, and how much of it is kept. An event is the record that
 * a change made: its kind (set or deleted), key, revision and, by `older`, what it replaced. What
 * watches tell is made of them (events.h).
 *
 * Two things that must not be mixed (docs/internals.md, M9 to M11):
 * - What is kept, and its size, is a function of the log alone: the events behind the oldest
 *   revision that can be read. Moving that revision takes them out of the count at once.
 * - Memory follows in bounded steps, when nothing pinned sees it. How far it has come is nobody's
 *   concern: a node restored from a snapshot holds none of it. */
#ifndef KV_MACHINE_HISTORY_H
#define KV_MACHINE_HISTORY_H

#include "server/machine/tree.h"

struct kv_history_chunk;

/* Which revision was the newest at which time, and what the events since the mark before cost. */
struct kv_history_mark {
    int64_t revision;
    int64_t time_ms;
    uint64_t bytes;
    uint64_t versions;
};

struct kv_history {
    /* Events whose memory is there. */
    struct kv_history_chunk *first; /* oldest events */
    struct kv_history_chunk *last;
    size_t first_at; /* position of the oldest event in its chunk */
    /* The chunks once more, to find an event by its sequence: the number that it has among all that
     * were ever noted here. A ring. */
    struct kv_history_chunk **chunks;
    size_t chunks_capacity;
    size_t chunks_first;
    size_t n_chunks;
    uint64_t first_sequence; /* of the first chunk's first place */
    uint64_t n_events;
    uint64_t n_noted; /* since memory was last given back */
    /* What counts. */
    int64_t oldest_revision; /* that can be read */
    uint64_t bytes; /* of the events behind it: by content, with what they replaced, tombstones */
    uint64_t versions;  /* values that they replaced */
    uint64_t new_bytes; /* of these, those behind the newest mark */
    uint64_t new_versions;
    struct kv_history_mark *marks; /* ring */
    size_t marks_capacity;
    size_t marks_first;
    size_t n_marks;
    size_t marks_max; /* at least 2; tests lower it */
};

struct kv_history_limits {
    int64_t now_ms; /* cluster time */
    uint64_t age_ms;
    uint64_t bytes;
};

void kv_history_init(struct kv_history *history);
/* Records belong to the tree; only the bookkeeping goes. */
void kv_history_deinit(struct kv_history *history);
/* Notes a change; record->older, if any, is now superseded. */
void kv_history_note(struct kv_history *history, struct kv_record *record);
/* At the end of an entry that changed something: `revision` is the newest, at this time. */
void kv_history_mark(struct kv_history *history, int64_t revision, int64_t time_ms);
/* As kv_history_mark() when a state is restored: the mark is taken as it is. */
void kv_history_restore_mark(struct kv_history *history, int64_t revision, int64_t time_ms);
/* Moves the oldest revision as the limits demand. */
void kv_history_trim(struct kv_history *history, const struct kv_history_limits *limits);
/* Moves the oldest revision to this one, if it lies behind it; it is none of the future. */
void kv_history_compact(struct kv_history *history, int64_t revision);
/* Takes out the oldest event that no read can see any more; NULL: there is none. Its chunk goes to
 * the tree, which frees it behind all pins. */
struct kv_record *kv_history_take_dead(struct kv_history *history, struct kv_tree *tree);

/* Events by sequence, from that of the oldest that there is to the one behind the newest. */
uint64_t kv_history_first_sequence(const struct kv_history *history);
uint64_t kv_history_end_sequence(const struct kv_history *history);
struct kv_record *kv_history_at(const struct kv_history *history, uint64_t sequence);
/* The first one of the revision or a later one. */
uint64_t kv_history_find(const struct kv_history *history, int64_t revision);

/* Where the log of events was, to go back there. */
struct kv_history_point {
    struct kv_history_chunk *last;
    size_t last_n;
    uint64_t n_events, n_noted;
    uint64_t bytes, versions, new_bytes, new_versions;
};
void kv_history_save(const struct kv_history *history, struct kv_history_point *ret_point);
/* Forgets what was noted since, after it gave each to fn, newest first. No mark was made, and no
 * event taken, in between. */
void kv_history_undo(struct kv_history *history,
                     const struct kv_history_point *point,
                     void (*fn)(void *arg, struct kv_record *record),
                     void *arg);
/* Copies the n_marks marks, oldest first. */
void kv_history_copy_marks(const struct kv_history *history, struct kv_history_mark *marks);

/* Walks the events that there are now, while a pin is held also on another thread. */
struct kv_history_reader {
    const struct kv_history_chunk *chunk;
    size_t at;
    uint64_t left;
};
void kv_history_read(const struct kv_history *history, struct kv_history_reader *ret_reader);
/* NULL: behind the last. */
const struct kv_record *kv_history_reader_get(const struct kv_history_reader *reader);
void kv_history_reader_next(struct kv_history_reader *reader);

/* Asserts M9 and M10. */
void kv_history_check_invariants(const struct kv_history *history, int64_t revision);

#endif
