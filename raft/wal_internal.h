/* What the files of the log share. */
#ifndef KV_RAFT_WAL_INTERNAL_H
#define KV_RAFT_WAL_INTERNAL_H

#include "raft/wal.h"
#include "raft/wal_format.h"

struct kv_wal_segment {
    uint64_t number;
    uint64_t first_index;
    uint64_t file_bytes;
    struct kv_file
        *file; /* opened by the log worker, used by the core's reads once that job is done */
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

enum kv_wal_op_type { KV_WAL_OP_WRITE, KV_WAL_OP_ROLL };

/* One step of a job. Bytes are in the job's buffer. */
struct kv_wal_op {
    enum kv_wal_op_type type;
    struct kv_wal_segment *segment; /* roll: the new one */
    struct kv_wal_segment *former;  /* roll */
    uint64_t file_offset;           /* roll: of the NEXT record in the former segment */
    size_t data_offset;
    size_t size;
    bool use_spare; /* roll */
};

/* What gathers for, or is under way in, one group commit. */
struct kv_wal_job {
    struct kv_job job;
    struct kv_wal *wal;
    struct kv_buf data;
    struct kv_wal_op *ops;
    size_t n_ops;
    size_t ops_capacity;
    uint64_t last_sequence; /* of write sequences */
    uint64_t last_record;
    uint64_t last_index; /* newest entry that is in the files once the job is done */
    bool takes_spare;
    int status; /* negative errno */
    char failed[96];
};

/* Work of the file worker: a spare segment made, or recycled, or old ones removed. */
struct kv_wal_file_job {
    struct kv_job job;
    struct kv_wal *wal;
    struct kv_wal_segment *old; /* recycled; NULL: made new */
    bool make_spare;
    int status;
};

struct kv_wal {
    struct kv_wal_options options;
    struct kv_wal_state recovered;
    uint64_t segment_bytes;

    struct kv_wal_segment **segments; /* oldest first; the last is written to */
    size_t n_segments;
    size_t segments_capacity;
    struct kv_wal_point *points;
    size_t n_points;
    size_t points_capacity;

    uint64_t position; /* in the last segment, as encoded */
    uint64_t next_record;
    uint32_t link;
    uint64_t synced_record;
    uint64_t term, voted_for, boundary_index, boundary_term;
    uint64_t first_index, last_index;
    uint64_t written_index; /* entries up to here can be read back */
    bool truncated;         /* the next entry gets a point */

    uint64_t next_sequence; /* of writes, as kv_wal_write_* return them */
    uint64_t synced_sequence;
    struct kv_wal_job jobs[2];
    unsigned gathering; /* index of the job that gathers */
    bool job_under_way;

    struct kv_wal_file_job file_job;
    bool file_job_under_way;
    bool spare_ready;
    bool spare_taken; /* by a roll that is queued or under way: no new one may take its name */
    size_t n_reads;
    bool dead;

    uint64_t idle_since_ms;
    uint64_t tick_record; /* next_record at the last tick */
    struct kv_wal_stats stats;
};

/* wal.c */
struct kv_wal_segment *
kv_wal_segment_new(uint64_t first_index, uint64_t number, uint64_t file_bytes);
int kv_wal_segments_push(struct kv_wal *wal, struct kv_wal_segment *segment) KV_MUST_CHECK;
int kv_wal_point_note(struct kv_wal *wal, uint64_t index, uint64_t offset) KV_MUST_CHECK;
void kv_wal_points_truncate(struct kv_wal *wal, uint64_t index);
void kv_wal_die(struct kv_wal *wal, int errnum, const char *what);
/* Makes a zero-filled, synced file of segment size. 0 or a negative errno. */
int kv_wal_zero_file(const struct kv_disk *disk, const char *path, uint64_t size, bool exists)
    KV_MUST_CHECK;

/* The first record of the last segment. */
void kv_wal_write_head(struct kv_wal *wal, uint64_t first_index);

/* wal_recover.c */
int kv_wal_recover(struct kv_wal *wal, struct kv_error *ret_error) KV_MUST_CHECK;

#endif
