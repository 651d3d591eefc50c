/* Pops that wait for an element: who waits for which key, first come, first served. Part of the
 * state: changed by committed entries only, times are cluster times. A waiter is a sequence of a
 * session that has no answer yet; it ends when it is served, at its deadline, when it is cancelled,
 * and with its session.
 *
 * This is the table; what the commands do with it is command_wait.c. Core thread. Memory that
 * cannot be had aborts the process (machine.h). */
#ifndef KV_MACHINE_WAITERS_H
#define KV_MACHINE_WAITERS_H

#include "common/bytes.h"
#include "common/limits.h"
#include "common/status.h"
#include "server/machine/heap.h"
#include "server/machine/sessions.h"

struct kv_waiters_queue;

struct kv_waiter {
    struct kv_heap_item due; /* its number ascends in the order of registration, never used again */
    uint64_t session_id;
    uint64_t sequence;
    uint64_t command_hash;
    bool last_end; /* wants the last element, not the first */
    void *tag;     /* not of the state: whoever is to be told on this node; NULL: nobody */
    uint64_t hash;
    struct kv_waiters_queue *queue;
    struct kv_waiter *next; /* of the same key, by ascending number */
    struct kv_waiter *prev;
    struct kv_waiter *newer; /* of all, by ascending number */
    struct kv_waiter *older;
    struct kv_waiter *same_slot;
};

/* Those of one key. It is there as long as somebody waits. */
struct kv_waiters_queue {
    struct kv_heap_item ready; /* while is_ready; its number is the first waiter's */
    bool is_ready;             /* its key has become a list, which was not looked at yet */
    struct kv_waiter *first;
    struct kv_waiter *last;
    struct kv_waiters_queue *same_slot;
    size_t key_size;
    uint8_t key[];
};

struct kv_waiters {
    uint64_t last_number; /* given; 0: nobody ever waited */
    size_t n;
    uint64_t bytes; /* counted */
    uint64_t hash;  /* sum over the waiters */
    struct kv_waiter *oldest;
    struct kv_waiter *newest;
    struct kv_waiter **sessions;      /* slots by session */
    struct kv_waiters_queue **queues; /* slots by key */
    struct kv_heap heap;              /* of all, by (deadline, number) */
    struct kv_heap ready;             /* keys that may hold a list: who waits longest, first */
};

void kv_waiters_init(struct kv_waiters *waiters);
void kv_waiters_deinit(struct kv_waiters *waiters);

/* NULL: the sequence does not wait. */
struct kv_waiter *
kv_waiters_find(const struct kv_waiters *waiters, uint64_t session_id, uint64_t sequence);
/* A waiter of the session, whichever; NULL: none. */
struct kv_waiter *kv_waiters_of_session(const struct kv_waiters *waiters, uint64_t session_id);
static inline bool kv_waiters_is_full(const struct kv_waiters *waiters)
{
    return waiters->n == KV_WAITERS_MAX;
}
/* Copies `like` but for number, hash and links; its number is above all former ones. The table is
 * not full, the sequence does not wait yet. */
struct kv_waiter *kv_waiters_add(struct kv_waiters *waiters,
                                 const struct kv_waiter *like,
                                 uint64_t number,
                                 struct kv_slice key);
void kv_waiters_remove(struct kv_waiters *waiters, struct kv_waiter *waiter);
static inline struct kv_slice kv_waiter_key(const struct kv_waiter *waiter)
{
    return kv_slice_of(waiter->queue->key, waiter->queue->key_size);
}

/* The key has become a list: those that wait for it are looked at when the command is done. */
void kv_waiters_note(struct kv_waiters *waiters, struct kv_slice key);
/* Is it noted, with somebody who waits for it? */
bool kv_waiters_is_noted(const struct kv_waiters *waiters, struct kv_slice key);
/* The one that waits longest of those whose keys are noted; NULL: none is. */
struct kv_waiter *kv_waiters_ready(const struct kv_waiters *waiters);
/* Its key has nothing for those that wait for it. */
void kv_waiters_unready(struct kv_waiters *waiters, struct kv_waiter *waiter);
/* No key is noted any more. */
void kv_waiters_forget_ready(struct kv_waiters *waiters);

/* The one that ends next by its deadline; NULL: nobody waits. */
struct kv_waiter *kv_waiters_next_due(const struct kv_waiters *waiters);

/* The table's part of the state hash. */
uint64_t kv_waiters_hash(const struct kv_waiters *waiters);
/* Asserts M15 of the table. */
void kv_waiters_check_invariants(const struct kv_waiters *waiters);

/* --- waiters_snapshot.c --- */
/* The waiters as of one moment, for a snapshot: bodies of its items (snapshot_format.h). */
struct kv_waiters_copy {
    uint64_t last_number;
    uint64_t n;
    struct kv_buf bodies; /* of each: u32 size, body */
};
/* KV_NO_MEMORY. */
int kv_waiters_copy(const struct kv_waiters *waiters,
                    struct kv_waiters_copy *ret_copy) KV_MUST_CHECK;
/* The body at *offset, which is moved behind it; false: there are no more. */
bool kv_waiters_copy_next(const struct kv_waiters_copy *copy,
                          size_t *offset,
                          struct kv_slice *ret_body);
void kv_waiters_copy_deinit(struct kv_waiters_copy *copy);
/* Adds what a body says, believing nothing. The sessions are there. KV_CORRUPT with a text. */
int kv_waiters_restore(struct kv_waiters *waiters,
                       const struct kv_sessions *sessions,
                       struct kv_slice body,
                       int64_t now_ms,
                       struct kv_error *ret_error) KV_MUST_CHECK;

#endif
