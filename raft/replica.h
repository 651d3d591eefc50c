/* One replica of the log: drives libraft's core (raft_step) with every guard, keeps the log on disk
 * (raft/wal.h), talks to its peers (raft/env.h) and hands committed entries up in order. Knows
 * nothing of what entries mean.
 *
 * Runs on the core's thread. Nothing here calls back into the caller from within a call of the
 * caller's, except what says so: kv_replica_ops come from kv_replica_turn, from the network's, the
 * workers' and the timer's callbacks. After any of those the owner of the loop calls
 * kv_replica_turn before it sleeps. */
#ifndef KV_RAFT_REPLICA_H
#define KV_RAFT_REPLICA_H

#include "common/bytes.h"
#include "proto/peer.pb-c.h"
#include "raft/confirm.h"
#include "raft/env.h"
#include "raft/wal.h"

struct kv_replica;

/* As raft_entry_type of the core. */
enum kv_entry_type { KV_ENTRY_COMMAND = 1, KV_ENTRY_BARRIER = 2, KV_ENTRY_CHANGE = 3 };

/* Of a disk, as members tell each other: less than the reserve is SHORT, less than half NONE. */
enum kv_room { KV_ROOM_NONE, KV_ROOM_SHORT, KV_ROOM_ENOUGH };

enum kv_role { KV_ROLE_STARTING, KV_ROLE_FOLLOWER, KV_ROLE_CANDIDATE, KV_ROLE_LEADER };

struct kv_replica_member {
    uint64_t id;
    const char *address; /* peer address, host:port */
};

struct kv_replica_ops {
    /* The next committed entry; data is borrowed for the call. */
    void (*apply)(
        void *arg, uint64_t index, uint64_t term, enum kv_entry_type type, struct kv_slice data);
    /* Own entries from first_index on were replaced by another leader's; must not call back. */
    void (*truncated)(void *arg, uint64_t first_index);
    /* Role, term or leader changed. */
    void (*changed)(void *arg);
    /* A message that is not the replica's own: forwards. Borrowed for the call. */
    void (*receive)(void *arg,
                    uint64_t from_id,
                    const Kv__PeerMessage *message,
                    struct kv_slice bulk);
    void (*peer_connected)(void *arg, uint64_t peer_id);
    void (*peer_disconnected)(void *arg, uint64_t peer_id);
    void (*peer_info)(void *arg,
                      uint64_t peer_id,
                      const char *client_address,
                      uint64_t machine_version);
    /* --- the owner's state, for snapshots --- */
    /* Roughly what a snapshot of it takes. */
    uint64_t (*state_bytes)(void *arg);
    /* Freezes a view of what is applied; NULL: not now. */
    void *(*snapshot_open)(void *arg);
    /* On the snapshot worker: appends the view's next bytes, about max_bytes, in pieces that may be
     * loaded one by one. 1: there are more, 0: those were the last, or a negative status. */
    int (*snapshot_read)(void *snapshot, struct kv_buf *buf, size_t max_bytes);
    void (*snapshot_close)(void *arg, void *snapshot);
    /* A state that is built from those pieces in order, on the snapshot worker or at start. NULL:
     * no memory. */
    void *(*restore_open)(void);
    int (*restore_feed)(void *restore, struct kv_slice piece, struct kv_error *ret_error);
    int (*restore_finish)(void *restore, struct kv_error *ret_error); /* all pieces were there */
    void (*restore_close)(void *restore);                             /* takes NULL */
    /* Takes a finished one in place of the state: everything up to index is applied. */
    void (*restore_install)(void *arg, void *restore, uint64_t index);
    /* What kv_replica_take_snapshot asked for is done, or was given up. */
    void (*snapshot_done)(
        void *arg, int status, uint64_t index, uint64_t size_bytes, const struct kv_error *error);
    /* This node cannot go on; called once. */
    void (*fatal)(void *arg, const struct kv_error *error);
};

struct kv_replica_options {
    uint64_t cluster_id;
    uint64_t node_id;
    const struct kv_replica_member *members; /* all of them, this one too */
    size_t n_members;
    unsigned election_timeout_ms;
    unsigned heartbeat_ms;
    uint64_t wal_segment_bytes;  /* 0: default */
    uint64_t snapshot_log_bytes; /* applied since the last snapshot, then a new one; 0: default */
    /* of a job of the snapshot worker, and of a piece of a transfer at most; 0: defaults */
    size_t snapshot_slice_bytes;
    size_t entry_cache_bytes; /* beyond it entries are read back from the log; 0: default */
    const struct kv_env *env; /* borrowed for the replica's life */
    const struct kv_replica_ops *ops;
    void *arg;
};

/* Locks the directory, recovers the log, or writes the first configuration into an empty one.
 * Consensus starts by itself once that is on disk. Errors of kv_meta_open and kv_wal_open;
 * KV_INVALID when the log's members are others. */
int kv_replica_open(const struct kv_replica_options *options,
                    struct kv_replica **ret_replica,
                    struct kv_error *ret_error) KV_MUST_CHECK;
void kv_replica_close(struct kv_replica *replica); /* takes NULL; when no job is under way */

/* Leader: appends a command. Takes data (from raft_malloc), also on failure.
 * KV_NOT_LEADER (or handing over), KV_BUSY (guard 18, log queue full). */
int kv_replica_propose(struct kv_replica *replica,
                       void *data,
                       size_t size,
                       uint64_t *ret_index,
                       uint64_t *ret_term) KV_MUST_CHECK;
/* Would kv_replica_propose of so many bytes be taken now? */
bool kv_replica_can_propose(const struct kv_replica *replica, size_t size);

/* 64 random bits from the environment: where a process begins its numbers, so that an answer meant
 * for an earlier one of the same node is never taken for its own. */
uint64_t kv_env_random_u64(const struct kv_env *env);

/* Asks for a read index, here or from the leader. Answered by read->done, never from within this
 * call. KV_NO_LEADER: none is known; KV_BUSY: too many wait. Then done() is not called. */
int kv_replica_read(struct kv_replica *replica, struct kv_read *read) KV_MUST_CHECK;

/* Leader: hands over to `to_id`, or to the most advanced connected voter (0).
 * KV_NOT_LEADER, KV_BUSY (one is under way), KV_NOT_FOUND (no such voter, or none connected). */
int kv_replica_transfer(struct kv_replica *replica, uint64_t to_id) KV_MUST_CHECK;

/* Writes a snapshot of what is applied now, or joins one that is being written; ops->snapshot_done
 * tells. KV_BUSY: one is being installed, or the last try failed just now. KV_NO_LEADER: nothing is
 * applied yet. */
int kv_replica_take_snapshot(struct kv_replica *replica) KV_MUST_CHECK;
/* Ends an own snapshot that is being written, to be tried again later. */
void kv_replica_give_up_snapshot(struct kv_replica *replica);
/* Gives up what is under way in the background, so that the replica becomes idle soon. */
void kv_replica_quiesce(struct kv_replica *replica);

/* The owner's state is not to be trusted: this node neither campaigns nor makes snapshots, nor
 * gives them to others, from now on. It goes on storing the log. */
void kv_replica_become_unfit(struct kv_replica *replica);
/* Another member's state is not to be trusted: leadership is not handed to it. */
void kv_replica_note_unfit(struct kv_replica *replica, uint64_t member_id);

/* Sends a message of the caller's own kind. KV_BUSY, KV_CLOSED: it is gone. */
int kv_replica_send(struct kv_replica *replica,
                    uint64_t peer_id,
                    enum kv_net_class cls,
                    const Kv__PeerMessage *message,
                    const struct kv_slice *bulk,
                    size_t n_bulk) KV_MUST_CHECK;

/* Does what the last events made due: applies (bounded in time), starts read rounds, tells
 * followers what is committed, hands writes to the log worker. True: more is due at once, call
 * again soon. */
bool kv_replica_turn(struct kv_replica *replica);
/* The timer came. */
void kv_replica_on_time(struct kv_replica *replica);
/* When kv_replica_on_time wants to be called, ms on the clock. */
uint64_t kv_replica_deadline_ms(const struct kv_replica *replica);

struct kv_replica_status {
    enum kv_role role;
    uint64_t term;
    uint64_t leader_id; /* 0: none known */
    uint64_t commit_index;
    uint64_t cluster_commit_index; /* as a leader told, or ours */
    uint64_t applied_index;
    uint64_t last_index;
    bool transferring;
    uint64_t elections; /* started by this node */
    uint64_t confirm_rounds;
    uint64_t reads_waiting;
    struct kv_wal_stats wal;
    uint64_t snapshot_index; /* of the newest, 0: none */
    uint64_t snapshot_bytes;
    uint64_t snapshots_taken;
    uint64_t snapshots_installed;
    bool snapshot_under_way;   /* an own one */
    uint64_t fetch_index;      /* of the one that is being fetched, 0: none */
    uint64_t fetch_bytes;      /* of it that are here */
    uint64_t fetch_size_bytes; /* of all of it */
    enum kv_room room;         /* of this node's disk */
    bool has_room;             /* leader: what grows may be admitted */
    bool can_write;            /* leader: anything may */
    bool idle;                 /* no disk job under way: may be closed */
};
void kv_replica_status(const struct kv_replica *replica, struct kv_replica_status *ret_status);
/* Leader only: what the member has stored; 0 when unknown. */
uint64_t kv_replica_match_index(const struct kv_replica *replica, uint64_t member_id);
bool kv_replica_is_connected(const struct kv_replica *replica, uint64_t member_id);

#endif
