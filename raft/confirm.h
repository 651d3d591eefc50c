/* Confirm rounds: reads without the log (Raft thesis 6.4, ReadIndex). A leader of term T takes its
 * commit index, asks all voters "is your term still T?", and serves the reads when a majority,
 * asked after the reads came in, has said yes. One round serves all reads queued before it; the
 * next collects while one is under way. No clock.
 *
 * Pure bookkeeping: the replica sends and receives. */
#ifndef KV_RAFT_CONFIRM_H
#define KV_RAFT_CONFIRM_H

#include "common/limits.h"
#include "common/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One read (or a batch) that wants an index to wait for. The owner keeps it alive until done() is
 * called. */
struct kv_read {
    /* status 0: index is set. KV_NO_LEADER: nothing is known, safe to retry. */
    void (*done)(struct kv_read *read, int status);
    void *arg;
    uint64_t index;
    /* the queue's */
    struct kv_read *next;
    uint64_t queued_ms;
};

struct kv_read_queue {
    struct kv_read *first;
    struct kv_read *last;
    size_t count;
};

void kv_read_queue_push(struct kv_read_queue *queue, struct kv_read *read);
/* Empties the queue and calls done() of each. */
void kv_read_queue_finish(struct kv_read_queue *queue, int status, uint64_t index);

struct kv_confirm {
    struct kv_read_queue waiting; /* for the next round */
    struct kv_read_queue asking;  /* of the round under way */
    uint64_t term;
    uint64_t round; /* number of the round under way, or of the last one; never reused within a
                       process */
    uint64_t index; /* the read index of the round under way */
    uint64_t started_ms;
    uint64_t acks; /* bit per position in the voters' array */
    bool under_way;
};

/* Begins a round over what waits; the caller sends (term, round) to every voter. */
void kv_confirm_start(struct kv_confirm *confirm,
                      uint64_t term,
                      uint64_t commit_index,
                      uint64_t now_ms);
/* Notes an answer from the voter at `position`; false: not of this round and term. */
bool kv_confirm_ack(struct kv_confirm *confirm, uint64_t term, uint64_t round, unsigned position);
bool kv_confirm_has_majority(const struct kv_confirm *confirm, unsigned n_voters);
/* Ends the round: the reads get the index. */
void kv_confirm_finish(struct kv_confirm *confirm);
/* Leadership is gone, or nobody answered: all reads get KV_NO_LEADER. */
void kv_confirm_fail(struct kv_confirm *confirm);

#endif
