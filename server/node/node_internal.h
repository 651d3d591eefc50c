/* What the files of the node share. An op is in exactly one list, by its state. */
#ifndef KV_NODE_NODE_INTERNAL_H
#define KV_NODE_NODE_INTERNAL_H

#include "common/arena.h"
#include "common/limits.h"
#include "raft/replica.h"
#include "server/node/node.h"
#include "server/node/subscription.h"
#include "server/node/topic.h"
#include "server/node/watch.h"

enum kv_op_state {
    KV_OP_NONE,
    KV_OP_QUEUED,    /* a write that waits to be proposed, or forwarded */
    KV_OP_RENEWAL,   /* a LeaseKeepAlive that waits to be proposed with others */
    KV_OP_PROPOSED,  /* in an entry of ours; also in its proposal's slot */
    KV_OP_FORWARDED, /* sent to the leader; also in the forward table */
    KV_OP_READ,      /* a read that waits for the next request for an index */
    KV_OP_ASKED,     /* its index is being asked for */
    KV_OP_INDEXED,   /* waits until its index is applied */
    KV_OP_STREAM,    /* a stream under way */
    KV_OP_TRANSFER,  /* waits until another leads */
    KV_OP_SNAPSHOT,  /* waits until a snapshot is written */
    KV_OP_WAITING,   /* a pop that the machine makes wait: its tag there */
    /* Subscriptions that have begun (subscription.h): so many that nobody looks through them. */
    KV_OP_BEHIND,
    KV_OP_NO_CREDIT,
    KV_OP_NO_ROOM,
    KV_OP_FUTURE,
    KV_OP_LIVE,
    KV_OP_STATES,
};

/* Those before have deadlines that are looked at. */
#define KV_OP_BEGUN KV_OP_BEHIND

struct kv_op_list {
    struct kv_op *first;
    struct kv_op *last;
    size_t count;
};

/* One entry of ours that is not applied yet. A slot is NULL when its op has ended early. */
struct kv_proposal {
    uint64_t index;
    uint64_t term;
    struct kv_op **slots;
    uint32_t n_slots;
};

/* The window of guard 18 with room for entries of a former leadership that are not decided yet. */
#define KV_PROPOSALS_MAX 64u
_Static_assert(KV_PROPOSALS_MAX > 2 * KV_INFLIGHT_ENTRIES_MAX, "proposals of two leaderships fit");

struct kv_peer_hash {
    uint64_t id;
    uint64_t hash;
};

/* State hashes as of one index. */
struct kv_hash_note {
    uint64_t index; /* 0: unused */
    uint64_t own;
    bool has_own;
    struct kv_peer_hash peers[KV_MEMBERS_MAX]; /* on the leader */
    size_t n_peers;
};

/* Reads of one turn that share a request for an index. */
struct kv_read_batch {
    struct kv_read read;
    struct kv_node *node;
    uint64_t number;
    struct kv_read_batch *next;
};

struct kv_node_peer {
    uint64_t id;
    char client_address[280];
    /* Replies to what it forwarded, gathered during a turn. */
    struct kv_buf replies;
    uint64_t *reply_ids;
    uint32_t *reply_sizes;
    size_t n_replies;
};

struct kv_node {
    struct kv_node_options options;
    struct kv_env env;
    struct kv_replica *replica;
    struct kv_machine *machine;
    size_t n_views;                          /* of it that are open */
    struct kv_retired_machine *retired;      /* former ones, not freed yet */
    struct kv_replica_status replica_status; /* as of the start of the turn */

    struct kv_op_list lists[KV_OP_STATES];
    size_t n_ops; /* but for subscriptions that have begun */
    size_t ops_bytes;

    struct kv_proposal proposals[KV_PROPOSALS_MAX];
    size_t proposals_first;
    size_t n_proposals;

    struct kv_op **forwards; /* KV_FORWARD_MAX slots by id */
    uint64_t forward_next;   /* id of the next forwarded command */

    uint64_t read_batch_number;
    size_t n_read_batches;
    uint64_t read_retry_ms; /* no request for an index before; 0 when leadership changes */

    struct kv_node_peer peers[KV_MEMBERS_MAX];
    size_t n_peers;

    int64_t time_base_ms; /* cluster time at time_base_ns; while we lead */
    uint64_t time_base_ns;
    uint64_t led_term;        /* the term that we lead, or 0 */
    uint64_t bootstrap_term;  /* in which the settings of a new cluster were proposed */
    int64_t renewed_ms;       /* cluster time of our newest entry with renewals */
    int64_t time_proposed_ms; /* cluster time of our newest entry */
    uint64_t expiring_index;  /* of our newest entry without commands */
    uint64_t clock_wake_ms;   /* when the next one may be needed */

    struct kv_subscriptions subscriptions;
    struct kv_watches watches;
    struct kv_topic_groups topics;

    struct kv_hash_note hashes[KV_STATE_HASH_NOTES];
    uint64_t unfit_index; /* here our state was not that of the majority; 0: fit */

    bool stopping;
    bool stop_told;
    bool dead;
    bool again; /* something is left for another turn at once */
    uint64_t stop_deadline_ms;
    uint64_t started_ns;
    uint64_t expire_ms; /* next look at deadlines */
    uint64_t timer_ms;
    struct kv_arena arena;
    struct kv_buf reply_buf;

    uint64_t entries_proposed;
    uint64_t commands_proposed;
    uint64_t commands_applied;
    uint64_t reads_served;
    uint64_t forwarded;
    uint64_t turn_ns_max;
    struct kv_node_turns turns;
};

/* node.c */
uint64_t kv_node_now_ns(const struct kv_node *node);
struct kv_node_peer *kv_node_peer(struct kv_node *node, uint64_t id);
const char *kv_node_client_address(struct kv_node *node, uint64_t id); /* "" unknown */
void kv_node_die(struct kv_node *node, int status, const char *message);

/* node_op.c */
void kv_node_move(struct kv_node *node, struct kv_op *op, enum kv_op_state state);
/* Ends the op by a reply; it is the submitter's again. */
void kv_node_finish(struct kv_node *node, struct kv_op *op, Kv__Reply *reply);
void kv_node_finish_packed(struct kv_node *node, struct kv_op *op, struct kv_slice reply);
/* Ends it by an error, as a reply or the end of its stream. */
void kv_node_fail(struct kv_node *node, struct kv_op *op, int status, const char *format, ...)
    KV_PRINTF(4, 5);
/* With BUSY, and the limit in the hint. */
struct kv_node_limit {
    const char *name;
    uint64_t value;
};
void kv_node_fail_limit(struct kv_node *node,
                        struct kv_op *op,
                        const struct kv_node_limit *limit,
                        const char *format,
                        ...) KV_PRINTF(4, 5);
/* Unlinks an op whose final stream item has been given. */
void kv_node_release(struct kv_node *node, struct kv_op *op);
void kv_node_expire(struct kv_node *node);
/* A pop that waits has its time besides the request's. */
void kv_node_extend_deadline(struct kv_op *op);
/* Ends it, or everything, with CORRUPT. */
void kv_node_fail_unfit(struct kv_node *node, struct kv_op *op);
void kv_node_fail_all_unfit(struct kv_node *node);

/* node_clock.c */
int64_t kv_node_cluster_time_ms(const struct kv_node *node);
/* Role or term may have changed. */
void kv_node_clock_leads(struct kv_node *node);
/* An entry was applied. */
void kv_node_clock_applied(struct kv_node *node);
/* Proposes an empty entry when the time is due, and says when to look again. The leader's. */
void kv_node_clock_turn(struct kv_node *node);

/* node_lease.c */
/* Gathered with others. A keepalive that its client has blown up is a write like any other: many of
 * them, or one that no entry takes, would hold the rest up. */
bool kv_node_is_renewal(const struct kv_op *op);
/* How many of the renewals that wait go first into an entry of this time, and their bytes. When not
 * all of them do, the time becomes one that ends none of the others' leases. */
uint32_t kv_node_renewals(const struct kv_node *node, int64_t *time_ms, size_t *ret_bytes);
/* Some are in an entry of this time, which is under way. */
void kv_node_renewals_proposed(struct kv_node *node, int64_t time_ms);
/* We lead from now on, or no longer: a renewal waits where it has its way. */
void kv_node_renewals_lead(struct kv_node *node);
void kv_node_renewals_follow(struct kv_node *node);
/* Cluster time at which those that wait are due; INT64_MAX: none waits. */
int64_t kv_node_renewals_due_ms(const struct kv_node *node);

/* node_write.c */
/* An entry without commands, but for renewals of leases that it would end. False: not now. */
bool kv_node_propose_time(struct kv_node *node);
/* Proposes an entry with one request of the node's own; nobody hears its answer. False: not now. */
bool kv_node_propose_own(struct kv_node *node, struct kv_slice request);
/* --- node_bootstrap.c --- */
void kv_node_bootstrap_turn(struct kv_node *node);
void kv_node_propose(struct kv_node *node);
void kv_node_apply(
    void *arg, uint64_t index, uint64_t term, enum kv_entry_type type, struct kv_slice data);
void kv_node_truncated(void *arg, uint64_t first_index);
/* The machine's function for what waited. */
void kv_node_woken(void *arg, void *tag, Kv__Reply *reply);
/* Another state takes this one's place: whoever waits here asks again. */
void kv_node_fail_waiting(struct kv_node *node, const char *why);

/* node_forward.c */
void kv_node_forward(struct kv_node *node);
void kv_node_receive(void *arg,
                     uint64_t from_id,
                     const Kv__PeerMessage *message,
                     struct kv_slice bulk);
void kv_node_forward_lost(struct kv_node *node, uint64_t peer_id);
void kv_node_remote_reply(struct kv_node *node, struct kv_op *op, struct kv_slice reply);
/* Without a reply. */
void kv_node_remote_end(struct kv_node *node, struct kv_op *op);
void kv_node_flush_replies(struct kv_node *node);

/* node_snapshot.c: the replica's ops on the state */
struct kv_retired_machine;
uint64_t kv_node_state_bytes(void *arg);
void *kv_node_snapshot_open(void *arg);
int kv_node_snapshot_read(void *snapshot, struct kv_buf *buf, size_t max_bytes);
void kv_node_snapshot_close(void *arg, void *snapshot);
void *kv_node_restore_open(void);
int kv_node_restore_feed(void *restore, struct kv_slice piece, struct kv_error *ret_error);
int kv_node_restore_finish(void *restore, struct kv_error *ret_error);
void kv_node_restore_close(void *restore);
void kv_node_restore_install(void *arg, void *restore, uint64_t index);
void kv_node_snapshot_done(
    void *arg, int status, uint64_t index, uint64_t size_bytes, const struct kv_error *error);
/* At the end: those whose freeing has not run. */
void kv_node_free_retired(struct kv_node *node);

/* node_hash.c */
/* tell: the leader, too. */
void kv_node_note_hash(struct kv_node *node, uint64_t index, bool tell);
void kv_node_receive_hash(struct kv_node *node, uint64_t from_id, const Kv__StateHash *hash);
void kv_node_receive_verdict(struct kv_node *node, const Kv__StateVerdict *verdict);
/* Our state is not to be trusted: no answers from it, no leadership, no snapshots. */
void kv_node_become_unfit(struct kv_node *node, uint64_t index, uint64_t hash);

/* node_read.c */
void kv_node_start_reads(struct kv_node *node);
void kv_node_serve_reads(struct kv_node *node);
void kv_node_serve_read(struct kv_node *node, struct kv_op *op);
void kv_node_serve_streams(struct kv_node *node);

/* node_admin.c */
void kv_node_admin(struct kv_node *node, struct kv_op *op);
void kv_node_transfers_changed(struct kv_node *node);

#endif
