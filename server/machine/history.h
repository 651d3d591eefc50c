/* History: what changed, in revision order, and how much of it is kept. An event is the record that
 * a change made: its kind (set or deleted), key, revision and, by `older`, what it replaced. Watch
 * catch-up will read the same events.
 *
 * Compacting to a revision C forgets the versions that no read at C or later can see. C moves at
 * once; memory is freed in bounded steps that cost what they drop. */
#ifndef KV_MACHINE_HISTORY_H
#define KV_MACHINE_HISTORY_H

#include "server/machine/tree.h"

struct kv_history_chunk;
struct kv_history_mark;

struct kv_history {
    struct kv_history_chunk *first; /* oldest events */
    struct kv_history_chunk *last;
    size_t first_at; /* position of the oldest event in its chunk */
    uint64_t n_events;
    struct kv_history_mark *marks; /* ring: which revision was the newest at which time */
    size_t marks_capacity;
    size_t marks_first;
    size_t n_marks;
    int64_t oldest_revision; /* that can be read */
    uint64_t bytes;          /* by content: superseded versions, tombstones, events */
    uint64_t versions;
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
/* Moves the oldest revision as the limits demand and frees a bounded amount. Tombstones that nobody
 * can see leave the tree. */
void kv_history_trim(struct kv_history *history,
                     struct kv_tree *tree,
                     const struct kv_history_limits *limits);

#endif
