/* The core of a node: takes requests, batches writes into log entries, answers reads, forwards what
 * a follower cannot do, applies what is committed. No thread, socket or file of its own: everything
 * goes through struct kv_env.
 *
 * All functions run on the core's thread. The owner of the loop calls kv_node_turn() at the end of
 * each loop iteration in which it called anything else here, and kv_node_on_timer() when the
 * clock's timer fires. */
#ifndef KV_NODE_NODE_H
#define KV_NODE_NODE_H

#include "common/bytes.h"
#include "common/shared.h"
#include "common/status.h"
#include "proto/kv.pb-c.h"
#include "raft/env.h"
#include "server/machine/machine.h"

struct kv_node;

struct kv_subscription;

/* Who takes the items of subscriptions, a connection: those that wait until it takes more. The
 * submitter's, zero-initialised; kept until no op of it is left. */
struct kv_listener {
    struct kv_subscription *waiting;
};

/* One request on its way. The submitter allocates it and keeps request and bytes alive until
 * final(); of one of class SUBSCRIBE only until kv_node_submit() returns, and then a request with
 * its id and command alone. */
struct kv_op {
    /* set by the submitter, validated by kv_command_validate and kv_command_classify */
    const Kv__Request *request;
    struct kv_slice bytes; /* the request as it was sent: what the log holds; the node empties that
                              of a subscription when it takes it */
    enum kv_command_class cls;
    uint64_t deadline_ns;         /* on the clock of kv_env; UINT64_MAX: none */
    struct kv_listener *listener; /* of one of class SUBSCRIBE */
    /* the node's own */
    struct kv_op *next;
    struct kv_op *prev;
    uint8_t state;
    bool cancelled;
    uint64_t index; /* of its entry, its read, or its forwarding */
    uint32_t slot;  /* position in its entry */
    uint64_t forwarded_to;
    uint64_t credit;
    struct kv_range_stream *stream;
    struct kv_subscription *subscription;
    void *remote; /* not NULL: it came from another node */
};

/* How answers leave. Called on the core; what is passed is borrowed for the call. After a final
 * answer the op belongs to the submitter again. */
struct kv_node_ops {
    /* Final. reply->id is the request's id. */
    void (*reply)(void *arg, struct kv_op *op, const Kv__Reply *reply);
    /* Final: a Reply already packed (a forwarded command's). */
    void (*reply_packed)(void *arg, struct kv_op *op, struct kv_slice reply);
    /* item->end says whether it is final. Returns the bytes it took from the stream's credit. */
    size_t (*stream_item)(void *arg, struct kv_op *op, const Kv__StreamItem *item);
    /* An item that many streams get: packed once, all but its id, and never the end. Takes a
     * reference of its own. Returns the bytes it took from the stream's credit. */
    size_t (*stream_shared)(void *arg, struct kv_op *op, struct kv_shared *item);
    /* Whether who listens takes more now; when not, kv_node_stream_room() is called once it does.
     * Asked of subscriptions. */
    bool (*stream_has_room)(void *arg, struct kv_op *op);
    /* The node cannot go on (storage fault, divergence, newer machine version): stop the process
     * with exit_code. */
    void (*fatal)(void *arg, int exit_code, const struct kv_error *error);
    /* kv_node_stop is complete. */
    void (*stopped)(void *arg);
    /* Leader, role or serving state changed: for hellos, metrics, goodbyes. */
    void (*changed)(void *arg);
    /* Fills what a status tells of clients and their requests; its arrays are borrowed until the
     * answer has left. NULL: nothing is told. */
    void (*clients)(void *arg, Kv__StatusResult *status);
};

struct kv_node_member {
    uint64_t id;
    const char *peer_address; /* host:port */
};

struct kv_node_options {
    uint64_t cluster_id;
    uint64_t node_id;
    const struct kv_node_member *members; /* all initial members, this one too */
    size_t n_members;
    const char *client_address; /* told to others: host:port */
    const char *version;
    unsigned election_timeout_ms; /* 0: defaults of limits.h */
    unsigned heartbeat_ms;
    uint64_t wal_segment_bytes;
    uint64_t snapshot_log_bytes;
    uint64_t max_data_bytes; /* setting data-limit of a new cluster; 0: none */
    /* For tests: small ones; 0: default. */
    size_t snapshot_slice_bytes;
    uint64_t snapshot_pin_bytes; /* of what is replaced while one is taken */
    size_t entry_cache_bytes;
    uint64_t state_hash_entries; /* between two comparisons of states */
    const struct kv_node_ops *ops;
    void *arg;
};

/* Locks and recovers the data directory, starts consensus. Errors as of kv_meta_open and
 * kv_wal_open. */
int kv_node_open(const struct kv_node_options *options,
                 const struct kv_env *env,
                 struct kv_node **ret_node,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* When no job is under way, or the process ends. */
void kv_node_close(struct kv_node *node);

/* Takes an op; it ends by reply, reply_packed or a final stream_item, maybe at once. */
void kv_node_submit(struct kv_node *node, struct kv_op *op);
/* The client wants no answer any more (Cancel, or the connection is gone): the op ends soon by a
 * final answer; a SessionClose when it is done. */
void kv_node_cancel(struct kv_node *node, struct kv_op *op);
void kv_node_credit(struct kv_node *node, struct kv_op *op, uint64_t bytes);

/* The listener, which had no room, may have some. */
void kv_node_stream_room(struct kv_node *node, struct kv_listener *listener);

void kv_node_turn(struct kv_node *node);
void kv_node_on_timer(struct kv_node *node);
/* Refuses new requests (SHUTTING_DOWN), hands leadership over, lets what is under way end, then
 * ops->stopped. */
void kv_node_stop(struct kv_node *node);

/* A copy of what others may want to know; plain values, valid for ever. */
/* How long the turns were, since the start. */
#define KV_TURN_BUCKETS 11
extern const uint64_t kv_turn_bounds_ns[KV_TURN_BUCKETS];
struct kv_node_turns {
    uint64_t counts[KV_TURN_BUCKETS + 1]; /* up to each bound, longer than the one before; above */
    uint64_t sum_ns;
};

struct kv_node_status {
    uint64_t cluster_id, node_id;
    uint64_t leader_id;
    char leader_address[280]; /* client address; "" unknown */
    char role[16];            /* leader follower candidate unavailable */
    char state[16];           /* starting serving no-leader no-space corrupt stopping */
    uint64_t term, commit_index, applied_index, last_index;
    int64_t revision, oldest_revision, cluster_time_ms;
    uint64_t keys, data_bytes, history_bytes, used_bytes, history_versions;
    uint64_t sessions, session_bytes; /* with the answers that they keep */
    uint64_t waiters;                 /* pops that wait */
    uint64_t leases;                  /* also those that ended and still have keys */
    uint64_t expiring, leased; /* keys with a time of their own, or fields that have; of leases */
    struct kv_lateness lateness;
    uint64_t topics, topic_messages, topic_bytes; /* retained */
    uint64_t topic_subscriptions, topic_patterns; /* here */
    uint64_t topic_deliveries, topic_gaps;        /* messages told and gaps named here, ever */
    uint64_t unreclaimed_bytes; /* of what is gone: held for views, or not yet freed */
    uint64_t wal_bytes, wal_syncs, wal_sync_ns_total, wal_sync_ns_max;
    uint64_t snapshot_index, snapshot_bytes; /* of the newest */
    uint64_t snapshots_taken, snapshots_installed;
    uint64_t snapshot_fetch_index, snapshot_fetch_bytes; /* being fetched from the leader */
    uint64_t entries_proposed, commands_proposed, commands_applied, reads_served, confirm_rounds;
    uint64_t forwarded, elections, requests_waiting, request_bytes_waiting, streams;
    uint64_t subscriptions;         /* watches and topics */
    uint64_t subscription_bytes;    /* of the ranges, topics and patterns that they ask for */
    uint64_t subscriptions_behind;  /* that have not been told all */
    uint64_t subscription_items;    /* given, ever */
    uint64_t subscriptions_lost;    /* ended since what they needed was compacted, ever */
    uint64_t subscriptions_crowded; /* times that a turn had too much for live ones, ever */
    uint64_t watches;
    uint64_t watch_events; /* told, ever: each once for each watch */
    uint64_t turn_ns_max;  /* longest turn since kv_node_forget_longest_turn */
    struct kv_node_turns turns;
    uint64_t uptime_ms;
    struct kv_machine_settings settings;
    bool serving; /* linearizable reads now */
};
void kv_node_status_get(struct kv_node *node, struct kv_node_status *ret_status);
void kv_node_forget_longest_turn(struct kv_node *node);

#endif
