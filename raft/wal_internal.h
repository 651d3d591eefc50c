/* What the files of the log share: wal.c (life, encoding, group commit), wal_segments.c (segments,
 * points, zero-filling, recycling), wal_recover.c, wal_read.c. */
#ifndef KV_RAFT_WAL_INTERNAL_H
#define KV_RAFT_WAL_INTERNAL_H

#include "raft/wal.h"
#include "raft/wal_format.h"

#define KV_WAL_SPARE "wal/spare"
#define KV_WAL_SPARE_UNFINISHED "wal/spare.tmp"

struct kv_wal_segment {
    uint64_t number;
    uint64_t first_index; /* of the next entry when it began */
    uint64_t file_bytes;
    uint32_t seed;
    bool is_placed; /* its head is on disk */
    size_t n_reads; /* under way: it stays open */
    /* Opened by the log worker; the core and the file worker use it once that job is done. */
    struct kv_file *file;
    char name[KV_WAL_NAME_BYTES];
};

/* Where entries lie: one point at each segment's first entry, after each truncation, and every
 * KV_WAL_POINT_BYTES. */
#define KV_WAL_POINT_BYTES (64 * KV_KIB)
struct kv_wal_point {
    uint64_t index;
    uint64_t offset;
    struct kv_wal_segment *segment;
    bool after_truncation; /* what lies before it in the log may hold entries of the same indexes */
};

/* What goes out with one write and one sync: records that follow each other in one segment. */
struct kv_wal_batch {
    struct kv_job job;
    struct kv_wal *wal;
    struct kv_wal_batch *next;
    struct kv_wal_segment *segment;
    uint64_t file_offset;
    struct kv_buf data;
    /* A batch that begins a segment takes the spare file for it, and ends the former. */
    bool begins;
    struct kv_wal_segment *former;
    uint64_t former_offset;
    uint8_t former_end[KV_WAL_RECORD_HEADER_BYTES];
    uint64_t last_sequence; /* of writes */
    uint64_t last_record;
    uint64_t last_index; /* newest entry that is in the files once the job is done */
    uint64_t sync_ns;
    int status;         /* negative errno */
    const char *failed; /* what did */
};

/* The file worker's part in keeping segments: one at a time. */
enum kv_wal_chore_kind { KV_WAL_CHORE_SLICE, KV_WAL_CHORE_REMOVE };
struct kv_wal_chore {
    struct kv_job job;
    struct kv_wal *wal;
    enum kv_wal_chore_kind kind;
    bool under_way;
    bool urgent;                /* a batch waits for the spare */
    struct kv_wal_segment *old; /* to remove, or to recycle as the spare */
    struct kv_file *file;       /* of the unfinished spare */
    uint64_t offset;            /* zero-filled so far */
    int status;
    bool is_fatal; /* the failure leaves a name that may or may not be there */
};

enum kv_wal_spare {
    KV_WAL_SPARE_NONE,
    KV_WAL_SPARE_FAILED,  /* tried again at the next tick */
    KV_WAL_SPARE_NO_ROOM, /* likewise, though a batch waits for it: the log stands still */
    KV_WAL_SPARE_MAKING,
    KV_WAL_SPARE_READY,
    KV_WAL_SPARE_TAKEN, /* by a batch under way */
};

struct kv_wal {
    struct kv_wal_options options;
    struct kv_wal_state recovered;
    uint64_t segment_bytes;
    uint64_t log_seed;

    struct kv_wal_segment **segments; /* oldest first; the last is written to */
    size_t n_segments;
    size_t segments_capacity;
    struct kv_wal_point *points;
    size_t n_points;
    size_t points_capacity;

    /* The end of the log, as encoded. */
    uint64_t position; /* in the last segment */
    uint64_t next_record;
    uint32_t link;
    uint64_t term, voted_for, boundary_index, boundary_term;
    uint64_t boundary_number; /* of the segment with the newest boundary record, 0: none here */
    uint64_t first_index, last_index;
    bool was_truncated; /* the next entry gets a point */
    bool is_resumed;    /* the first record of this run is yet to come */

    uint64_t synced_record;
    uint64_t written_index; /* entries up to here can be read back */
    uint64_t next_sequence; /* of writes, as kv_wal_write_* return them */
    uint64_t synced_sequence;
    struct kv_wal_batch *first_batch; /* waiting, oldest first */
    struct kv_wal_batch *last_batch;
    struct kv_wal_batch *batch_under_way;
    struct kv_wal_batch *free_batch;
    uint64_t queued_bytes; /* waiting and under way */

    uint64_t oldest_number;  /* segments before it are released */
    uint64_t release_record; /* that says so */
    struct kv_wal_chore chore;
    enum kv_wal_spare spare;

    struct kv_wal_plan *reads; /* under way */
    bool is_dead;

    uint64_t idle_since_ms; /* UINT64_MAX: the synced record is written */
    uint64_t tick_record;   /* next_record at the last tick */
    struct kv_wal_stats stats;
};

/* wal.c */
void kv_wal_die(struct kv_wal *wal, int errnum, const char *what, const char *name);
/* The first record of the last segment, at its front. */
void kv_wal_write_head(struct kv_wal *wal);
/* A `synced` record, which also says which is the oldest segment from now on; returns its sequence.
 */
uint64_t kv_wal_write_synced(struct kv_wal *wal, uint64_t oldest_number);
/* When the log stands still for want of room, the record that releases segments must not wait
 * behind the one that they would make room for: it goes before it, to the end of the segment that
 * is full. */
void kv_wal_hasten_release(struct kv_wal *wal);

/* wal_segments.c */
struct kv_wal_segment *
kv_wal_segment_new(uint64_t first_index, uint64_t number, uint64_t file_bytes, uint64_t log_seed);
struct kv_wal_segment *kv_wal_last_segment(const struct kv_wal *wal);
int kv_wal_segments_push(struct kv_wal *wal, struct kv_wal_segment *segment) KV_MUST_CHECK;
/* Closes the files of all, frees them, and the points. */
void kv_wal_segments_free(struct kv_wal *wal);
int kv_wal_point_note(struct kv_wal *wal, uint64_t index, uint64_t offset) KV_MUST_CHECK;
void kv_wal_points_truncate(struct kv_wal *wal, uint64_t index);
/* Entries of segments before the oldest number are not there any more, even if their files are. */
void kv_wal_forget_released(struct kv_wal *wal);
/* Starts what there is to do for the file worker, if it does nothing. */
void kv_wal_chores(struct kv_wal *wal);

/* wal_recover.c */
int kv_wal_recover(struct kv_wal *wal, struct kv_error *ret_error) KV_MUST_CHECK;

/* wal_read.c: reads under way find nothing from index on. */
void kv_wal_reads_truncate(struct kv_wal *wal, uint64_t index);

#endif
