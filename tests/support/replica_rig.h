/* One replica (node 1) over a disk in memory, with workers, network and clock that move only when
 * the test says so; the test plays its peers. For tests of what one node may answer when. */
#ifndef KV_TESTS_SUPPORT_REPLICA_RIG_H
#define KV_TESTS_SUPPORT_REPLICA_RIG_H

#include "raft/replica_internal.h"
#include "tests/support/fake_disk.h"

#define REPLICA_RIG_MEMBERS_MAX 5u
#define REPLICA_RIG_MESSAGES_MAX 1024u

struct replica_rig_worker {
    struct kv_job *first;
    struct kv_job *last;
};

struct replica_rig_message {
    uint64_t to_id;
    Kv__PeerMessage *message;
};

struct replica_rig {
    size_t n_members; /* these two as it is configured at the next start */
    uint64_t first_member;
    struct fake_disk *disk;
    struct kv_env env;
    struct kv_net_handler handler;
    struct replica_rig_worker log_worker;
    struct replica_rig_worker other_worker;
    struct kv_replica *replica;
    uint64_t now_ns;
    uint64_t timer_ms;
    uint64_t random;
    uint64_t snapshot_log_bytes; /* these two to be set before a start; 0: default */
    uint64_t wal_segment_bytes;
    uint64_t apply_ns; /* that an entry takes */
    struct replica_rig_message sent[REPLICA_RIG_MESSAGES_MAX];
    size_t n_sent;
    uint64_t applied[256]; /* term by index */
    uint64_t n_applied;
    unsigned n_fatal;
    struct kv_error error;
};

void replica_rig_init(struct replica_rig *rig, size_t n_members);
void replica_rig_deinit(struct replica_rig *rig);
/* Opens the replica and connects it to all peers; nothing is synced yet. */
void replica_rig_start(struct replica_rig *rig);
/* The same, which may fail: the status, and rig->error. */
int replica_rig_open(struct replica_rig *rig);
/* kill -9: what was written stays. */
void replica_rig_kill(struct replica_rig *rig);

/* The log worker does its next job; false: it has none. */
bool replica_rig_sync(struct replica_rig *rig);
/* So does the one for files and snapshots. */
bool replica_rig_work(struct replica_rig *rig);
/* Does all that the workers have. */
void replica_rig_settle(struct replica_rig *rig);
/* Lets time pass, then calls the timer. */
void replica_rig_wait(struct replica_rig *rig, uint64_t ms);

void replica_rig_receive(struct replica_rig *rig,
                         uint64_t from_id,
                         const struct raft_message *message);
/* The entries follow append->prev_log_index. */
void replica_rig_append(struct replica_rig *rig,
                        uint64_t from_id,
                        const struct raft_append_entries *append,
                        const struct kv_wal_entry *entries,
                        unsigned n_entries);
void replica_rig_receive_other(struct replica_rig *rig,
                               uint64_t from_id,
                               const Kv__PeerMessage *message,
                               struct kv_slice bulk);

/* A leader's offer of a snapshot, and a piece of one. */
void replica_rig_offer_snapshot(struct replica_rig *rig,
                                uint64_t from_id,
                                uint64_t term,
                                const struct kv_snapshot_descriptor *descriptor,
                                struct kv_slice configuration);
void replica_rig_send_piece(struct replica_rig *rig,
                            uint64_t from_id,
                            const struct kv_snapshot_descriptor *descriptor,
                            uint64_t offset,
                            struct kv_slice bytes);

/* Wins an election with the votes of the nodes behind it. */
void replica_rig_lead(struct replica_rig *rig);

/* A follower's answer to an AppendEntries of this leader's. */
void replica_rig_answer_append(struct replica_rig *rig,
                               uint64_t from_id,
                               raft_index rejected,
                               raft_index last_log_index);
/* Proposes eight bytes; the status. */
int replica_rig_propose(struct replica_rig *rig);

/* The newest message of a kind to a peer since the last replica_rig_forget; NULL: none. */
const Kv__PeerMessage *
replica_rig_sent(const struct replica_rig *rig, uint64_t to_id, Kv__PeerMessage__BodyCase body);
void replica_rig_forget(struct replica_rig *rig);

#endif
