/* Exactly-once sessions: which writes of which client were done, and what they were answered, so
 * that a retry gets that answer and has no second effect (Raft thesis 6.3; the window of
 * acknowledgements as in its section on sessions of LogCabin). Part of the state: changed by
 * committed entries only, times are cluster times.
 *
 * This is the table; what a stamp means is command_session.c. Ids ascend and are never used again,
 * so an id below the counter that is not here belongs to a session that has ended. Core thread.
 * Memory that cannot be had aborts the process (machine.h). */
#ifndef KV_MACHINE_SESSIONS_H
#define KV_MACHINE_SESSIONS_H

#include "common/bytes.h"
#include "common/status.h"
#include "server/machine/heap.h"

/* A write that was done. */
struct kv_sessions_reply {
    uint64_t command_hash;
    uint64_t hash; /* of its sequence and all of this */
    int64_t revision;
    uint32_t code;
    uint32_t size;   /* 0: the answer was too large to keep */
    uint8_t bytes[]; /* a packed Reply without id */
};

struct kv_sessions_one {
    struct kv_heap_item due; /* its number is the id */
    uint64_t id;
    uint64_t ttl_ms;
    bool ordered;
    uint64_t acknowledged_through;
    uint64_t newest; /* the highest sequence done, or acknowledged_through */
    size_t n_replies;
    uint64_t reply_bytes;
    uint64_t replies_hash; /* sum */
    uint64_t hash;         /* its part of the table's */
    /* By sequence modulo ring_size, a power of two; NULL: not done. No more than newest -
     * acknowledged_through are in use. */
    struct kv_sessions_reply **ring;
    size_t ring_size;
    struct kv_sessions_one *next; /* by ascending id */
    struct kv_sessions_one *prev;
    struct kv_sessions_one *same_slot;
};

struct kv_sessions {
    uint64_t last_id; /* given; 0: none yet */
    size_t n;
    uint64_t reply_bytes; /* kept, of all */
    uint64_t bytes;       /* counted, of all: replies and a fixed sum for each thing that is kept */
    uint64_t hash;        /* sum over the sessions */
    struct kv_sessions_one *first;
    struct kv_sessions_one *last;
    struct kv_sessions_one **slots; /* by id */
    size_t n_slots;
    struct kv_heap heap;                   /* of all, by (deadline, id) */
    void (*ended)(void *arg, uint64_t id); /* is told of each that goes; may be NULL */
    void *ended_arg;
};

void kv_sessions_init(struct kv_sessions *sessions);
void kv_sessions_deinit(struct kv_sessions *sessions);

/* NULL: it is not there. */
struct kv_sessions_one *kv_sessions_find(const struct kv_sessions *sessions, uint64_t id);
/* The id is above all former ones; deadline_ms is now and ttl. */
struct kv_sessions_one *kv_sessions_add(
    struct kv_sessions *sessions, uint64_t id, uint64_t ttl_ms, int64_t deadline_ms, bool ordered);
void kv_sessions_remove(struct kv_sessions *sessions, struct kv_sessions_one *one);
/* The client was heard of at this time. */
void kv_sessions_renew(struct kv_sessions *sessions, struct kv_sessions_one *one, int64_t now_ms);
/* NULL: not done, or acknowledged. */
const struct kv_sessions_reply *kv_sessions_reply_of(const struct kv_sessions_one *one,
                                                     uint64_t sequence);
/* Forgets the answers up to a sequence; lower ones than before change nothing. */
void kv_sessions_acknowledge(struct kv_sessions *sessions,
                             struct kv_sessions_one *one,
                             uint64_t through);
/* May an answer of so many bytes be kept? */
bool kv_sessions_has_room(const struct kv_sessions *sessions,
                          const struct kv_sessions_one *one,
                          size_t size);
/* A reply with room for size bytes; the caller fills all but hash and size. */
struct kv_sessions_reply *kv_sessions_reply_new(size_t size);
/* Takes the reply of a sequence within the window that is not done yet. */
void kv_sessions_record(struct kv_sessions *sessions,
                        struct kv_sessions_one *one,
                        uint64_t sequence,
                        struct kv_sessions_reply *reply);

/* Ends those whose deadline is reached, by (deadline, id), a bounded number. */
void kv_sessions_expire(struct kv_sessions *sessions, int64_t now_ms);
/* The least deadline; INT64_MAX: none. */
int64_t kv_sessions_next_due_ms(const struct kv_sessions *sessions);

/* The table's part of the state hash. */
uint64_t kv_sessions_hash(const struct kv_sessions *sessions);
/* Asserts M13 and M14. */
void kv_sessions_check_invariants(const struct kv_sessions *sessions);

/* --- sessions_snapshot.c --- */
/* The sessions as of one moment, for a snapshot: bodies of its items (snapshot_format.h). */
struct kv_sessions_copy {
    uint64_t last_id;
    uint64_t n;
    uint64_t bytes;       /* as kv_sessions.bytes */
    struct kv_buf bodies; /* of each: u32 size, body */
};
/* Costs a copy of all answers that are kept. KV_NO_MEMORY. */
int kv_sessions_copy(const struct kv_sessions *sessions,
                     struct kv_sessions_copy *ret_copy) KV_MUST_CHECK;
/* The body at *offset, which is moved behind it; false: there are no more. */
bool kv_sessions_copy_next(const struct kv_sessions_copy *copy,
                           size_t *offset,
                           struct kv_slice *ret_body);
void kv_sessions_copy_deinit(struct kv_sessions_copy *copy);
/* Adds what a body says, believing nothing. now_ms: the cluster time. KV_CORRUPT with a text. */
int kv_sessions_restore(struct kv_sessions *sessions,
                        struct kv_slice body,
                        int64_t now_ms,
                        struct kv_error *ret_error) KV_MUST_CHECK;

#endif
