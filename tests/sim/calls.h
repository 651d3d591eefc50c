/* What clients asked and were told, in the order of asking: for the checks at the end of a run. */
#ifndef KV_TESTS_SIM_CALLS_H
#define KV_TESTS_SIM_CALLS_H

#include "common/arena.h"
#include "common/bytes.h"
#include "proto/kv.pb-c.h"
#include "server/machine/machine.h"

struct checkers;
struct truth;

struct history_call {
    unsigned client;
    struct kv_slice request; /* packed, without id and deadline */
    enum kv_command_class cls;
    bool serializable;
    bool repeatable;   /* the caller allowed to do it twice */
    bool renews;       /* leases: sent again at will, and no harm when it is done after all */
    bool is_stampable; /* libkv takes it for a write, as all that it does not know */
    bool internal;     /* of the session core itself: nobody is told its end */
    bool has_returned;
    uint64_t called_ns, returned_ns;
    int status;            /* 0 or a negative kv_status */
    bool has_reply;        /* a server's own */
    uint64_t reply_id;     /* id of the try that was answered */
    int64_t revision;      /* of the reply */
    struct kv_slice reply; /* packed */
    /* of a stream: the pieces so far */
    int64_t stream_revision;
    uint64_t stream_keys, stream_hash;
    size_t recorded; /* number in the record for the search; SIZE_MAX: not there */
    /* found at the end */
    unsigned n_committed;
    unsigned n_effects; /* entries that it made a revision with */
    bool is_explained;
    uint64_t done_session, done_sequence; /* the stamp with which it was done */
    uint64_t first_wait, last_wait;       /* ids of tries of a pop that waited; 0: none did */
};

/* Tries: ids that the session chose, by client and number. */
struct history_tries {
    uint32_t *calls; /* number of the call + 1; 0: none */
    size_t n, capacity;
};

enum { HISTORY_CLIENTS_MAX = 16, HISTORY_ID_CLIENT_SHIFT = 48, HISTORY_ID_SLOT_BITS = 16 };

struct history {
    struct history_call *calls;
    size_t n_calls, capacity;
    struct history_tries tries[HISTORY_CLIENTS_MAX];
    struct kv_arena arena;
};

void history_init(struct history *history);
void history_deinit(struct history *history);
/* Returns its number. */
size_t history_call(struct history *history,
                    unsigned client,
                    uint64_t now_ns,
                    const Kv__Request *request,
                    bool repeatable);
void history_item(struct history *history, size_t call, const Kv__StreamItem *item);
void history_return(
    struct history *history, size_t call, uint64_t now_ns, int status, const Kv__Reply *reply);
/* The session sends the call under this id. */
void history_try(struct history *history, unsigned client, uint64_t wire_id, size_t call);
/* NULL: nobody sent it. */
struct history_call *history_find(struct history *history, uint64_t wire_id);
/* Hash of keys with what is known of them, continued. */
uint64_t history_hash_pairs(uint64_t hash, const Kv__RangeResult *result);

/* Runs the committed log through a fresh machine and compares: each write that was answered is in
 * the log once with that answer, what was refused is not; each read answers from the state of its
 * revision; no answer is older than what was known when it was asked. truth: gets what happened;
 * NULL: nobody wants to know. */
void history_check(struct history *history, struct checkers *checkers, struct truth *truth);

#endif
