/* Write-ahead log: zero-filled recycled segments, chained CRC32C records, group commit on the log
 * worker. Format and promises: docs/internals.md, "Log".
 *
 * All functions and callbacks run on the core's thread; files are touched at open (synchronously)
 * and in jobs of the workers. Writes are numbered by a write sequence (1, 2, ...):
 * kv_wal_ops.synced(seq) says that everything written up to seq is on disk. Group commit: while one
 * sync runs, writes gather in memory (at most KV_WAL_QUEUE_BYTES_MAX, kv_wal_is_full()) and go out
 * as one with the next.
 *
 * Without room for the next segment the log stands still (kv_wal_is_full) and tries again at each
 * kv_wal_tick; nothing is lost.
 *
 * After any failed write or sync the log is dead: kv_wal_ops.failed is called once, nothing is
 * reported synced any more, and the process must stop (a sync is never tried again). */
#ifndef KV_RAFT_WAL_H
#define KV_RAFT_WAL_H

#include "common/bytes.h"
#include "common/status.h"
#include "raft/env.h"

struct kv_wal;

/* type is raft's (enum raft_entry_type: 1 command, 2 barrier, 3 change), opaque here. */
struct kv_wal_entry {
    uint64_t term;
    uint16_t type;
    struct kv_slice data;
};

struct kv_wal_ops {
    void (*synced)(void *arg, uint64_t write_sequence);
    void (*failed)(void *arg, const struct kv_error *error);
};

struct kv_wal_options {
    struct kv_disk disk;
    struct kv_worker log_worker;  /* write and sync */
    struct kv_worker file_worker; /* zero-fill of the next segment, reads of old entries */
    uint64_t cluster_id;          /* stamped in every segment header, checked at recovery */
    uint64_t node_id;
    /* Random: begins the checksums of a new log, so that no client can write bytes that look like
     * its records. Kept in the log from then on. */
    uint64_t seed;
    uint64_t segment_bytes; /* 0: KV_WAL_SEGMENT_BYTES; tests use small ones (4 KiB at least) */
    const struct kv_wal_ops *ops;
    void *arg;
};

/* What recovery found. An empty log: first_index 1, last_index 0. */
struct kv_wal_state {
    uint64_t term;
    uint64_t voted_for;
    uint64_t boundary_index; /* the log starts behind this snapshot; 0: at the beginning */
    uint64_t boundary_term;
    uint64_t first_index;
    uint64_t last_index;
    uint64_t torn_bytes; /* zeroed behind the last whole record; 0 after a clean stop */
};

/* Recovers (reads and checks every record) and opens for appending. Creates wal/ when it is not
 * there. KV_CORRUPT: names file, offset and index, and what to do. KV_IO: names path and errno. */
int kv_wal_open(const struct kv_wal_options *options,
                struct kv_wal **ret_wal,
                struct kv_error *ret_error) KV_MUST_CHECK;
/* Waits for nothing: call when no job is under way (kv_wal_is_idle) or the process ends. Takes
 * NULL. */
void kv_wal_close(struct kv_wal *wal);

const struct kv_wal_state *kv_wal_recovered(const struct kv_wal *wal);

/* Synchronous walk over entries first..last, for start only. entry->data is borrowed for the call;
 * fn returns 0 or an error that ends the walk. */
typedef int (*kv_wal_visit_fn)(void *arg, uint64_t index, const struct kv_wal_entry *entry);
int kv_wal_visit(struct kv_wal *wal,
                 uint64_t first_index,
                 uint64_t last_index,
                 kv_wal_visit_fn fn,
                 void *arg,
                 struct kv_error *ret_error) KV_MUST_CHECK;

/* Both copy what they are given into the queue and return the write sequence. Never fail: a dead
 * log swallows. */
uint64_t kv_wal_write_vote(struct kv_wal *wal, uint64_t term, uint64_t voted_for);
/* first_index <= last index: a truncation record goes first. first_index > last + 1 is our bug
 * (asserted). */
uint64_t kv_wal_write_entries(struct kv_wal *wal,
                              uint64_t first_index,
                              const struct kv_wal_entry *entries,
                              size_t n_entries);
/* The log continues at index + 1 whatever it held (an installed snapshot). */
uint64_t kv_wal_write_boundary(struct kv_wal *wal, uint64_t index, uint64_t term);
/* Hands what is queued to the log worker, if it is idle (else it goes by itself when the running
 * sync is done). Call at the end of each turn. */
void kv_wal_flush(struct kv_wal *wal);
/* Call now and then (about once a second): writes the `synced` record after an idle second. */
void kv_wal_tick(struct kv_wal *wal, uint64_t now_ms);

/* Entries up to and including index may be recycled, whole segments only. */
void kv_wal_release(struct kv_wal *wal, uint64_t index);

bool kv_wal_is_full(const struct kv_wal *wal);
/* It stands still: there is no room for the next segment. */
bool kv_wal_is_out_of_room(const struct kv_wal *wal);
bool kv_wal_is_idle(const struct kv_wal *wal);
uint64_t kv_wal_first_index(const struct kv_wal *wal);
uint64_t kv_wal_last_index(const struct kv_wal *wal); /* written or queued */
uint64_t kv_wal_synced_sequence(const struct kv_wal *wal);

struct kv_wal_stats {
    uint64_t syncs;
    uint64_t sync_ns_total;
    uint64_t sync_ns_max;
    uint64_t bytes_written;
    uint64_t segments;
    uint64_t disk_bytes;
};
void kv_wal_stats(const struct kv_wal *wal, struct kv_wal_stats *ret_stats);

/* Reads entries back on the file worker, from first_index on, at least one, until max_bytes or
 * last_index. Entries that are not synced yet are not found: the caller still has those. */
struct kv_wal_read {
    /* set by the caller */
    uint64_t first_index;
    uint64_t last_index;
    size_t max_bytes;
    /* status 0, or KV_CORRUPT / KV_IO (fatal), or KV_NOT_FOUND (recycled or truncated meanwhile).
     */
    void (*done)(struct kv_wal_read *read, int status);
    void *arg;
    /* result, owned by the read until kv_wal_read_deinit */
    struct kv_wal_entry *entries;
    size_t n_entries;
    /* the log's own */
    struct kv_job job;
    struct kv_wal *wal;
    uint8_t *memory;
    void *plan;
    int status;
};
void kv_wal_read(struct kv_wal *wal, struct kv_wal_read *read);
void kv_wal_read_deinit(struct kv_wal_read *read);

#endif
