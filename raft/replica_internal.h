/* What the files of the replica share. */
#ifndef KV_RAFT_REPLICA_INTERNAL_H
#define KV_RAFT_REPLICA_INTERNAL_H

#include "common/arena.h"
#include "common/limits.h"
#include "raft/entry_cache.h"
#include "raft/guards.h"
#include "raft/outbox.h"
#include "raft/replica.h"
#include "raft/snapshot_file.h"
#include "raft/terms.h"

#include <raft.h>
#include <stdatomic.h>

/* One write of entries that the log has not reported yet. */
struct kv_pending_write {
    uint64_t sequence;
    uint64_t first_index;
    uint64_t last_index;
};

/* Writes that wait for their sync; each turn adds few, group commit takes all. */
#define KV_PENDING_WRITES_MAX 4096u

/* Reads a piece for a peer. */
struct kv_serve {
    struct kv_job job;
    struct kv_replica *replica;
    bool under_way;
    uint64_t index;
    uint64_t term;
    uint64_t offset;
    size_t size;
    struct kv_buf data;
    int status;
};

struct kv_peer {
    uint64_t id;
    char address[280];
    struct kv_outbox outbox;
    uint64_t told_commit; /* commit index that it knows, or that is on its way to it */
    uint64_t appended_ms; /* AppendEntries of whatever kind were last sent to it */
    uint64_t offered_ms;  /* a snapshot was last offered to it; 0: never */
    enum kv_room room;    /* as it said last */
    bool is_unfit;        /* leadership is not handed to it */
    struct kv_serve serve;
};

/* Committed entries that are no longer cached, read back from the log to be applied. */
struct kv_apply_reader {
    struct kv_wal_read read;
    bool active;  /* the job runs */
    bool is_void; /* and nobody wants what it brings */
    bool ready;
    size_t position;
};

/* A complete snapshot in our directory. */
struct kv_kept_snapshot {
    struct kv_snapshot_descriptor descriptor;
    struct kv_buf configuration; /* encoded */
    uint64_t fetched_ms;         /* when a peer last asked for a piece of it; 0: never */
};

/* The one own snapshot that is being written, a slice per job of the snapshot worker. */
struct kv_snapshot_take {
    struct kv_job job;
    struct kv_replica *replica;
    bool under_way;
    bool is_wanted;           /* somebody waits for ops->snapshot_done */
    atomic_bool is_cancelled; /* the next job gives up */
    void *state;              /* of ops->snapshot_open */
    uint64_t log_bytes;
    struct kv_snapshot_meta meta;
    struct kv_buf configuration;
    struct kv_snapshot_writer *writer;
    struct kv_buf raw;
    struct kv_snapshot_descriptor result;
    int status; /* 1: more, 0: done, or why not */
    struct kv_error error;
};

/* Removes one file that is not kept any more. */
struct kv_snapshot_removal {
    struct kv_job job;
    struct kv_replica *replica;
    bool under_way;
    uint64_t index;
    uint64_t term;
};

/* Reads one that is kept and may have rotted. */
struct kv_snapshot_check {
    struct kv_job job;
    struct kv_replica *replica;
    bool under_way;
    uint64_t index;
    uint64_t term;
    uint64_t size_bytes;
    uint64_t hash; /* 0: not known */
    struct kv_snapshot_reader *reader;
    struct kv_buf raw;
    int status; /* 1: more */
    struct kv_error error;
};

/* Loading a complete file into a new state: at start, or before it is installed. */
struct kv_snapshot_load {
    const struct kv_replica_ops *ops;
    struct kv_snapshot_reader *reader;
    void *restore;
    struct kv_buf raw;
    size_t slice_bytes; /* of one kv_snapshot_load_some */
};

/* A snapshot that the leader offers: fetched, loaded, then installed. */
enum kv_fetch_phase {
    KV_FETCH_NONE,
    KV_FETCH_PIECES,  /* asking, writing */
    KV_FETCH_LOADING, /* all is here: checked and loaded */
    KV_FETCH_READY,   /* waits for a message of the current term */
};

struct kv_fetched_piece {
    uint64_t offset;
    struct kv_buf data;
};

struct kv_fetch {
    struct kv_job job;
    struct kv_replica *replica;
    bool job_under_way;
    bool is_cancelled; /* the job's end clears all */
    bool is_open;      /* the part is: the offset to ask for is known */
    enum kv_fetch_phase phase;
    uint64_t from_id;
    uint64_t term; /* newest term in which it was offered */
    struct kv_snapshot_descriptor descriptor;
    struct kv_buf configuration;
    struct kv_snapshot_receiver *receiver;
    uint64_t next_offset;    /* to be asked for */
    uint64_t written_offset; /* in the file */
    bool is_asking;
    uint64_t asked_ms;
    uint64_t
        patience_ms;    /* then the piece is asked for again; grows where the network is slow ... */
    size_t piece_bytes; /* ... and what is asked for becomes less */
    uint64_t heard_ms;  /* an offer, or a piece */
    struct kv_fetched_piece pieces[KV_SNAPSHOT_PIECES_AHEAD];
    size_t n_pieces;
    struct kv_snapshot_load load;
    int status;
    struct kv_error error;
    uint64_t retry_ms; /* no new fetch before, unless it is of another than was refused */
    struct kv_snapshot_id refused;
};

/* Looks at the free space of the disk. */
struct kv_space_check {
    struct kv_job job;
    struct kv_replica *replica;
    int64_t free_bytes;
    bool under_way;
};

struct kv_replica {
    struct kv_replica_options options;
    struct kv_env env;
    struct raft raft;
    bool raft_is_open;
    bool meta_missing; /* to be written once the log has begun */
    bool is_bootstrap; /* the log's first entry is ours */
    bool started;      /* the core has had its START */
    bool stepping;
    bool dead;
    bool is_unfit; /* kv_replica_become_unfit */
    bool changed;  /* tell the owner at the end of the turn */

    struct kv_wal *wal;
    struct kv_entry_cache cache;
    struct kv_terms terms;
    struct raft_entry *log_entries; /* as recovered, until START has taken them */
    size_t n_log_entries;
    uint64_t start_sequence; /* START waits until this is synced */
    uint64_t start_term;
    uint64_t start_vote;
    uint64_t gate_sequence; /* newest term+vote record: messages wait for it */
    uint64_t synced_sequence;
    struct kv_pending_write pending[KV_PENDING_WRITES_MAX];
    size_t pending_first;
    size_t n_pending;

    struct kv_peer peers[KV_MEMBERS_MAX];
    size_t n_peers;

    uint64_t told_commit; /* highest commit index that a leader told, far ahead of ours maybe */
    uint64_t applied_index;
    struct kv_apply_reader apply_reader;
    /* The configuration as of the applied index, encoded. */
    struct kv_buf applied_configuration;
    uint64_t applied_configuration_index;

    struct kv_kept_snapshot kept[KV_SNAPSHOTS_MAX]; /* newest first */
    size_t n_kept;
    uint64_t log_bytes; /* applied since the newest */
    struct kv_snapshot_take take;
    bool is_take_due; /* one that was kept is gone */
    struct kv_snapshot_removal removal;
    struct kv_snapshot_check check;
    struct kv_snapshot_id doomed[KV_SNAPSHOTS_MAX]; /* files of no use, to be removed */
    size_t n_doomed;
    bool is_quiescing;
    struct kv_fetch fetch;
    uint64_t snapshot_retry_ms;
    uint64_t snapshots_taken;
    uint64_t snapshots_installed;
    uint64_t install_sequence; /* of the boundary record of a snapshot being installed; 0: none */
    /* At start: of the snapshot that was loaded. */
    uint64_t restored_index;
    uint64_t restored_term;

    struct kv_confirm confirm;
    struct kv_read_queue remote_waiting;
    struct kv_read_queue remote_asking;
    uint64_t remote_id; /* of the request under way; 0 none */
    uint64_t remote_leader_id;
    uint64_t remote_started_ms;
    uint64_t remote_sent_ms;
    size_t n_remote_reads; /* of followers, being answered */
    uint64_t term_start;   /* first index that proves this leader's term */

    struct kv_space_check space_check;
    enum kv_room room; /* of our own disk */

    uint64_t last_now_ms;
    uint64_t on_time_ms; /* of the last kv_replica_on_time: turns must not put the timer off */
    uint64_t notice_ms;  /* when some peer is to be told the commit index; UINT64_MAX: none is */
    uint64_t last_tick_ms;
    uint64_t resent_ms;
    uint64_t elections;
    int last_state;
    uint64_t last_leader;
    uint64_t last_term;
    struct kv_arena arena; /* of the message being received */
    struct kv_buf buf;     /* of the message being sent */
};

/* replica.c */
uint64_t kv_replica_now_ms(struct kv_replica *r);
void kv_replica_die(struct kv_replica *r, int status, const char *format, ...) KV_PRINTF(3, 4);
struct kv_peer *kv_replica_peer(struct kv_replica *r, uint64_t id);
bool kv_replica_is_leader(const struct kv_replica *r);
/* The leader tells a follower the commit index, unless all that it may know is told or on its way.
 */
void kv_replica_tell_commit(struct kv_replica *r, struct kv_peer *peer);
/* Has the log room for another batch of entries, or does the disk lag too far behind? */
bool kv_replica_log_takes(const struct kv_replica *r);
/* The connected voter with the longest log and at least so much room, or 0. */
uint64_t kv_replica_choose_successor(struct kv_replica *r, enum kv_room room);

/* What is usual, or less as the options say. */
static inline size_t kv_snapshot_slice_bytes(const struct kv_replica *r, size_t usual)
{
    size_t wanted = r->options.snapshot_slice_bytes;

    return wanted && wanted < usual ? wanted : usual;
}

/* snapshots.c: own ones, and what is kept */
void kv_replica_snapshots_init(struct kv_replica *r);
void kv_replica_snapshots_deinit(struct kv_replica *r);
/* At start: loads the newest that is sound into the owner's state, if there is one. */
int kv_replica_load_snapshot(struct kv_replica *r, struct kv_error *ret_error) KV_MUST_CHECK;
void kv_replica_snapshots_turn(struct kv_replica *r);
/* Ends an own one that is being written; the next begins no sooner than after a pause. */
void kv_replica_cancel_take(struct kv_replica *r);
/* The file is of no use, unless it is kept. */
void kv_replica_doom_file(struct kv_replica *r, uint64_t index, uint64_t term);
/* Files go, or wait for it: none takes their names before. */
bool kv_replica_removes_snapshots(const struct kv_replica *r);
/* It is kept no longer; another one is taken in its place. The file goes, or stays for a start that
 * may be able to read it, until one of its index is taken or the next start finds newer ones. */
void kv_replica_drop_snapshot(struct kv_replica *r, uint64_t index, uint64_t term, bool file_goes);
/* Removes what need not be kept, one file at a time. */
void kv_replica_prune_snapshots(struct kv_replica *r);
/* The file is complete and synced: keeps it, in place of all when it is installed. */
void kv_replica_keep_snapshot(struct kv_replica *r,
                              const struct kv_snapshot_descriptor *descriptor,
                              struct kv_slice configuration,
                              bool in_place_of_all);
/* NULL: not kept. */
struct kv_kept_snapshot *kv_replica_kept(struct kv_replica *r, uint64_t index, uint64_t term);
bool kv_replica_snapshots_idle(const struct kv_replica *r);
void kv_replica_note_configuration(struct kv_replica *r, uint64_t index, struct kv_slice encoded);
/* index, term and the decoded configuration, which the core takes. */
int kv_replica_metadata(uint64_t index,
                        uint64_t term,
                        uint64_t configuration_index,
                        struct kv_slice configuration,
                        struct raft_snapshot_metadata *ret_metadata) KV_MUST_CHECK;

/* snapshot_check.c: is it still what was written? */
void kv_replica_check_snapshot(struct kv_replica *r, uint64_t index, uint64_t term);
void kv_replica_check_deinit(struct kv_replica *r);

/* snapshot_load.c: of what was received, or NULL: the complete file */
int kv_snapshot_load_open(struct kv_snapshot_load *load,
                          const struct kv_replica *r,
                          const struct kv_snapshot_receiver *receiver,
                          const struct kv_snapshot_id *id,
                          struct kv_error *ret_error) KV_MUST_CHECK;
/* 1: more to do, 0: load->restore is whole, or a negative status. */
int kv_snapshot_load_some(struct kv_snapshot_load *load, struct kv_error *ret_error) KV_MUST_CHECK;
/* Keeps the restore. */
void kv_snapshot_load_close(struct kv_snapshot_load *load);

/* install.c: from the leader's offer to the installed state */
void kv_replica_receive_install(struct kv_replica *r,
                                struct kv_peer *peer,
                                const Kv__InstallSnapshot *offer);
void kv_replica_receive_piece(struct kv_replica *r,
                              struct kv_peer *peer,
                              const Kv__SnapshotPiece *piece,
                              struct kv_slice bulk);
void kv_replica_fetch_turn(struct kv_replica *r);
void kv_replica_fetch_on_time(struct kv_replica *r, uint64_t now_ms);
void kv_replica_fetch_cancel(struct kv_replica *r);
void kv_replica_fetch_deinit(struct kv_replica *r);
/* Carries out the core's update. */
void kv_replica_install(struct kv_replica *r, const struct raft_update *update);
void kv_replica_installed(struct kv_replica *r); /* the boundary is synced */

/* serve.c: pieces for those who fetch, and the offers */
void kv_replica_send_install(struct kv_replica *r,
                             struct kv_peer *peer,
                             const struct raft_install_snapshot *install);
void kv_replica_receive_fetch(struct kv_replica *r,
                              struct kv_peer *peer,
                              const Kv__SnapshotFetch *fetch);

/* space.c */
void kv_replica_check_space(struct kv_replica *r);
/* On the leader: may what grows be admitted? We and a majority of the voters have room. */
bool kv_replica_has_room(const struct kv_replica *r);
/* On the leader: can anything be committed? Our log and a majority take entries. */
bool kv_replica_can_write(const struct kv_replica *r);
void kv_replica_note_room(struct kv_peer *peer, const struct raft_append_entries_result *result);
/* Turns it into a heartbeat that is true whatever our log holds beyond the commit index: so the
 * leader stays known, hears from us, and learns how much room we have. The caller frees the
 * entries. */
void kv_replica_refuse_entries(struct kv_replica *r, struct raft_append_entries *append);
/* Has the core's timeout come for a node without room? It waits on, but has no leader any more. */
bool kv_replica_is_patient(const struct kv_replica *r, uint64_t now_ms);
/* The core's timeout; a node without room lets others campaign first. */
uint64_t kv_replica_election_deadline_ms(const struct kv_replica *r);

/* replica_start.c */
int kv_replica_recover(struct kv_replica *r, struct kv_error *ret_error) KV_MUST_CHECK;
void kv_replica_start_core(struct kv_replica *r);
void kv_replica_unload_log(struct kv_replica *r); /* harmless when there is none */

/* replica_step.c: feeds the core and carries out what it asks for. Returns the core's code. */
int kv_replica_step(struct kv_replica *r, struct raft_event *event) KV_MUST_CHECK;
void kv_replica_step_or_die(struct kv_replica *r, struct raft_event *event, const char *what);
void kv_replica_send_append(struct kv_replica *r,
                            struct kv_peer *peer,
                            const struct raft_append_entries *append);
/* Sends r->buf as the head. */
void kv_replica_send_buf(struct kv_replica *r, struct kv_peer *peer, enum kv_net_class cls);
void kv_replica_on_synced(void *arg, uint64_t sequence);
void kv_replica_on_wal_failed(void *arg, const struct kv_error *error);

/* replica_receive.c */
void kv_replica_note_commit(struct kv_replica *r, uint64_t index);
void kv_replica_on_receive(void *arg, uint64_t from_id, const uint8_t *message, size_t size);
void kv_replica_on_connected(void *arg, uint64_t peer_id);
void kv_replica_on_disconnected(void *arg, uint64_t peer_id, bool reset);
void kv_replica_on_peer_info(void *arg,
                             uint64_t peer_id,
                             const char *client_address,
                             uint64_t machine_version);

/* replica_apply.c */
bool kv_replica_apply_some(struct kv_replica *r); /* true: more is ready */
/* What is being read back is not applied any more: an installed snapshot holds it. */
void kv_replica_apply_void(struct kv_replica *r);

/* replica_read.c */
void kv_replica_reads_turn(struct kv_replica *r);
void kv_replica_reads_on_time(struct kv_replica *r, uint64_t now_ms);
void kv_replica_reads_role_changed(struct kv_replica *r);
void kv_replica_reads_peer_lost(struct kv_replica *r, uint64_t peer_id);
void kv_replica_receive_confirm(struct kv_replica *r,
                                struct kv_peer *peer,
                                const Kv__Confirm *confirm);
void kv_replica_receive_confirm_result(struct kv_replica *r,
                                       uint64_t from_id,
                                       const Kv__ConfirmResult *result);
void kv_replica_receive_read_index(struct kv_replica *r,
                                   struct kv_peer *peer,
                                   const Kv__ReadIndex *request);
void kv_replica_receive_read_index_result(struct kv_replica *r,
                                          uint64_t from_id,
                                          const Kv__ReadIndexResult *result);
/* When kv_replica_reads_on_time wants to be called; UINT64_MAX: nothing waits. */
uint64_t kv_replica_reads_deadline_ms(const struct kv_replica *r);

#endif
