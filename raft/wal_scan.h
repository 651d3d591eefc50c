/* The first half of recovery: all segments are read and judged, nothing is changed (wal_scan.c).
 * The second, wal_recover.c, finds the segments and makes good what is left of a torn write. */
#ifndef KV_RAFT_WAL_SCAN_H
#define KV_RAFT_WAL_SCAN_H

#include "raft/wal_internal.h"

#define KV_WAL_ADVICE "replace this member (docs/operations), the others hold its data"

/* No index, term or sequence comes near it: sums do not overflow. */
#define KV_WAL_NUMBER_MAX (UINT64_C(1) << 62)

struct kv_wal_name {
    uint64_t first_index;
    uint64_t number;
};

struct kv_wal_name_list {
    struct kv_wal_name *names;
    size_t n;
    size_t capacity;
    bool no_memory;
};

/* The end of a segment that no record vouches for. A sync that failed marks pages as clean that no
 * disk has, and the next process finds them in memory: they are written again before they count. */
struct kv_wal_tail {
    size_t segment; /* its position in wal->segments */
    uint64_t offset;
    uint8_t *data;
    size_t size;
};

/* Records whose synced_through said more than those before: what lies before such a record counts
 * as vouched for once a later one says so. Two groups are under way at most; the oldest marks are
 * the ones that matter. */
enum { KV_WAL_MARKS_MAX = 8 };
struct kv_wal_mark {
    uint64_t sequence;
    uint64_t offset;
};

/* The log as it is read, segment by segment. */
struct kv_wal_scan {
    struct kv_wal *wal;
    struct kv_error *ret_error;
    struct kv_wal_name_list list; /* by number */
    size_t first;                 /* names before it are of released segments */
    size_t at;                    /* the name looked at */
    uint8_t *data;                /* content of its file */
    uint64_t size;
    uint64_t capacity;
    uint64_t offset;     /* of the record looked at */
    uint64_t expected;   /* its sequence */
    uint64_t next_bytes; /* size of the next segment's file, as the NEXT record before it says */
    bool has_ended;      /* the segment has its NEXT record */
    bool is_broken;      /* the log ends in this segment, at offset */
    uint64_t torn_bytes; /* to be zeroed there */
    bool has_unborn;     /* one segment more was made, but never written to */
    bool is_headless;    /* the last segment's head is yet to be written */
    struct kv_wal_mark marks[KV_WAL_MARKS_MAX];
    size_t n_marks;
    uint64_t vouched_offset;     /* in the segment looked at: all before it is on disk */
    struct kv_wal_tail tails[2]; /* of the last two segments that have records */
};

/* Reads the segments from scan->first on and judges them. */
int kv_wal_scan_all(struct kv_wal_scan *scan) KV_MUST_CHECK;

/* Errors that name the place: all return their status. */
int kv_wal_scan_io_error(struct kv_wal_scan *scan, int errnum, const char *what, const char *name)
    KV_MUST_CHECK;
int kv_wal_scan_no_memory(struct kv_wal_scan *scan) KV_MUST_CHECK;
/* At scan->offset of the segment scan->at. */
int kv_wal_scan_damaged(struct kv_wal_scan *scan, const char *what) KV_MUST_CHECK;
/* The segment `number` is not there; scan->at is the one that shows it. */
int kv_wal_scan_missing(struct kv_wal_scan *scan, uint64_t number) KV_MUST_CHECK;
const char *
kv_wal_scan_name_at(const struct kv_wal_scan *scan, size_t i, char name[KV_WAL_NAME_BYTES]);

/* One file: opens it and sets scan->size, offset 0. */
int kv_wal_scan_open_segment(struct kv_wal_scan *scan,
                             struct kv_wal_segment *segment) KV_MUST_CHECK;
/* Reads `size` bytes from the file's front into scan->data. */
int kv_wal_scan_read_front(struct kv_wal_scan *scan,
                           const struct kv_wal_segment *segment,
                           uint64_t size) KV_MUST_CHECK;
/* Is a sound head at the file's front? */
bool kv_wal_scan_decode_head(const struct kv_wal_scan *scan,
                             struct kv_wal_record *ret_record,
                             struct kv_wal_segment_head *ret_head);

#endif
