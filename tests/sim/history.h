/* A recorded history: what clients asked, when, and what they were told. The simulator and the
 * tests of real processes fill it; check.h judges it.
 *
 * Calls come in the order in which things happened: that order counts, the times are only printed.
 * Requests and replies are copied. Not thread safe. */
#ifndef KV_TESTS_SIM_HISTORY_H
#define KV_TESTS_SIM_HISTORY_H

#include "common/arena.h"
#include "common/bytes.h"
#include "proto/kv.pb-c.h"

#define KV_HISTORY_NEVER UINT64_MAX

struct kv_history_piece {
    Kv__RangeResult *result;
    int64_t revision;
    struct kv_history_piece *next;
};

struct kv_history_op {
    uint64_t client;
    uint64_t node;  /* that answered; 0: not told */
    uint64_t begin; /* place in the order of all events, from 1 */
    uint64_t end;   /* KV_HISTORY_NEVER: no answer */
    int64_t begin_ns;
    int64_t end_ns;
    int status; /* 0 or negative, once it has ended */
    Kv__Request *request;
    Kv__Reply *reply; /* NULL: none, or a stream */
    struct kv_history_piece *pieces;
    struct kv_history_piece *last_piece;
};

/* Read only, but for history.c. */
struct kv_history {
    struct kv_history_op *ops;
    size_t n_ops;
    size_t max_ops;
    uint64_t n_events;
    const int64_t *timely;
    size_t n_timely;
    struct kv_arena arena;
};

int kv_history_open(size_t max_ops,
                    size_t max_bytes,
                    struct kv_history **ret_history) KV_MUST_CHECK;
void kv_history_close(struct kv_history *history); /* takes NULL */

/* A client sends a request. KV_TOO_LARGE: the history is full; what is recorded up to here can be
 * judged, when the request is not sent. */
int kv_history_begin(struct kv_history *history,
                     uint64_t client,
                     int64_t now_ns,
                     const Kv__Request *request,
                     size_t *ret_op) KV_MUST_CHECK;
/* One piece of a streamed range; the end is no piece. */
int kv_history_item(struct kv_history *history,
                    size_t op,
                    const Kv__StreamItem *item) KV_MUST_CHECK;
/* The answer: status as the client saw it, with reply (NULL: a stream, or no server's word). node:
 * who answered; a node that starts anew gets a new number here, since a serializable read may see
 * an older state then. Without this call the outcome is unknown. KV_TOO_LARGE: as if not called. */
int kv_history_end(struct kv_history *history,
                   size_t op,
                   int64_t now_ns,
                   uint64_t node,
                   int status,
                   const Kv__Reply *reply) KV_MUST_CHECK;

/* Revisions that no request made, but time: keys ended by themselves, which are not the model's.
 * Borrows. */
void kv_history_timely(struct kv_history *history, const int64_t *revisions, size_t n);

/* What is known of whether it was done. */
enum kv_outcome {
    KV_OUTCOME_NOTHING,  /* not done, and it tells nothing about the state */
    KV_OUTCOME_ANSWERED, /* decided on the state: done, or a condition was not met */
    KV_OUTCOME_OPEN,     /* may have been done, or may be yet; once */
};
enum kv_outcome kv_history_outcome(const struct kv_history_op *op);
bool kv_history_is_write(const struct kv_history_op *op);
/* A transaction stands for any write on keys that the model does not follow, and that no other
 * operation of the history looks at: it may make a revision. */
bool kv_history_is_foreign(const struct kv_history_op *op);

/* One line: number, client, times, what was asked, what was answered. Long values are shortened. */
void kv_history_describe(const struct kv_history *history,
                         const struct kv_history_op *op,
                         char *ret_text,
                         size_t size);
/* Bytes as text in quotes, shortened. */
void kv_history_quote(struct kv_slice bytes, char *ret_text, size_t size);

#endif
