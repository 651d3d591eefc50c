/* Recovery in two steps: all segments are read and judged, without a change to any file; only then
 * what is left of a torn write is zeroed, and all is synced. Whatever is no torn write is refused
 * by file, offset and index. */
#include "common/assert.h"
#include "common/reached.h"
#include "raft/wal_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADVICE "replace this member (docs/operations), the others hold its data"

/* No index, term or sequence comes near it: sums do not overflow. */
#define NUMBER_MAX (UINT64_C(1) << 62)

struct segment_name {
    uint64_t first_index;
    uint64_t number;
};

struct name_list {
    struct segment_name *names;
    size_t n;
    size_t capacity;
    bool no_memory;
};

/* The log as it is read, segment by segment. */
struct scan {
    struct kv_wal *wal;
    struct kv_error *ret_error;
    struct name_list list; /* by number */
    size_t first;          /* names before it are of released segments */
    size_t at;             /* the name looked at */
    uint8_t *data;         /* content of its file */
    uint64_t size;
    uint64_t capacity;
    uint64_t offset;     /* of the record looked at */
    uint64_t expected;   /* its sequence */
    uint64_t vouched;    /* what the newest record says to be on disk */
    uint64_t next_bytes; /* size of the next segment's file, as the NEXT record before it says */
    bool has_ended;      /* the segment has its NEXT record */
    bool is_broken;      /* the log ends in this segment, at offset */
    uint64_t torn_bytes; /* to be zeroed there */
    bool has_unborn;     /* one segment more was made, but never written to */
    bool is_headless;    /* the last segment's head is yet to be written */
};

static const char *name_at(const struct scan *scan, size_t i, char name[KV_WAL_NAME_BYTES])
{
    kv_wal_segment_name(name, scan->list.names[i].first_index, scan->list.names[i].number);
    return name;
}

static int io_error(struct scan *scan, int errnum, const char *what, const char *name)
{
    return kv_error_set(scan->ret_error,
                        KV_IO,
                        "cannot %s %s/%s: %s",
                        what,
                        scan->wal->options.disk.name,
                        name,
                        strerror(-errnum));
}

static int no_memory(struct scan *scan)
{
    return kv_error_set(scan->ret_error, KV_NO_MEMORY, "no memory to recover the log");
}

static int damaged(struct scan *scan, const char *what)
{
    char name[KV_WAL_NAME_BYTES];

    return kv_error_set(scan->ret_error,
                        KV_CORRUPT,
                        "the log is damaged: %s/%s at offset %" PRIu64 ", behind index %" PRIu64
                        ": %s; " ADVICE,
                        scan->wal->options.disk.name,
                        name_at(scan, scan->at, name),
                        scan->offset,
                        scan->wal->last_index,
                        what);
}

/* The segment `number` is not there; `scan->at` is the one that shows it. */
static int missing(struct scan *scan, uint64_t number)
{
    char name[KV_WAL_NAME_BYTES];

    return kv_error_set(scan->ret_error,
                        KV_CORRUPT,
                        "the log is damaged: in %s/wal the segment *-%016" PRIx64
                        " is missing, as %s at offset %" PRIu64 " shows, behind index %" PRIu64
                        "; " ADVICE,
                        scan->wal->options.disk.name,
                        number,
                        name_at(scan, scan->at, name),
                        scan->offset,
                        scan->wal->last_index);
}

/* ---------------------------------------------------------------- names */

static void note_name(void *arg, const char *name)
{
    struct name_list *list = arg;
    struct segment_name segment;

    if (kv_wal_segment_name_parse(name, &segment.first_index, &segment.number) != 0) {
        return;
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        struct segment_name *names = realloc(list->names, capacity * sizeof *names);

        if (!names) {
            list->no_memory = true;
            return;
        }
        list->names = names;
        list->capacity = capacity;
    }
    list->names[list->n++] = segment;
}

static int compare_names(const void *a, const void *b)
{
    const struct segment_name *x = a;
    const struct segment_name *y = b;

    if (x->number != y->number) {
        return x->number < y->number ? -1 : 1;
    }
    return (x->first_index > y->first_index) - (x->first_index < y->first_index);
}

static int list_segments(struct scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status = disk->ops->mkdir(disk->disk, "wal");

    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, ".");
    }
    if (status != 0) {
        return io_error(scan, status, "make", "wal");
    }
    status = disk->ops->list(disk->disk, "wal", note_name, &scan->list);
    if (status != 0) {
        return io_error(scan, status, "list", "wal");
    }
    if (scan->list.no_memory) {
        return no_memory(scan);
    }
    if (scan->list.n > 0) {
        qsort(scan->list.names, scan->list.n, sizeof scan->list.names[0], compare_names);
    }
    for (scan->at = 1; scan->at < scan->list.n; scan->at++) {
        const struct segment_name *name = &scan->list.names[scan->at];

        if (name->number == name[-1].number) {
            return damaged(scan, "another segment has the same number: one of them is a copy");
        }
        if (name->number != name[-1].number + 1) {
            return missing(scan, name[-1].number + 1);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- one file */

static int open_segment(struct scan *scan, struct kv_wal_segment *segment)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status = disk->ops->open(disk->disk, segment->name, KV_DISK_WRITE, &segment->file);
    int64_t size;

    if (status != 0) {
        return io_error(scan, status, "open", segment->name);
    }
    size = disk->ops->size(disk->disk, segment->file);
    if (size < 0) {
        return io_error(scan, (int)size, "look at", segment->name);
    }
    scan->size = (uint64_t)size;
    scan->offset = 0;
    if (scan->size > KV_WAL_SEGMENT_BYTES_MAX) {
        return damaged(scan, "the file is larger than any segment");
    }
    return 0;
}

/* Reads `size` bytes from the file's front into scan->data. */
static int read_front(struct scan *scan, const struct kv_wal_segment *segment, uint64_t size)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int64_t got;

    if (size > scan->capacity) {
        free(scan->data);
        scan->capacity = 0;
        scan->data = malloc((size_t)size);
        if (!scan->data) {
            return no_memory(scan);
        }
        scan->capacity = size;
    }
    got = disk->ops->pread(disk->disk, segment->file, scan->data, (size_t)size, 0);
    if (got < 0) {
        return io_error(scan, (int)got, "read", segment->name);
    }
    return (uint64_t)got == size ? 0 : io_error(scan, -EIO, "read", segment->name);
}

/* What lies from scan->offset on. */
static struct kv_slice rest(const struct scan *scan)
{
    return kv_slice_of(scan->data + scan->offset, (size_t)(scan->size - scan->offset));
}

/* Bytes from offset to the last one that is not zero. */
static uint64_t used_bytes(const struct scan *scan, uint64_t offset)
{
    uint64_t end = scan->size;

    while (end >= offset + 8 && kv_get_u64(scan->data + end - 8) == 0) {
        end -= 8;
    }
    while (end > offset && scan->data[end - 1] == 0) {
        end--;
    }
    return end - offset;
}

/* Is a sound head at the file's front? */
static bool decode_head(const struct scan *scan,
                        struct kv_wal_record *ret_record,
                        struct kv_wal_segment_head *ret_head)
{
    return kv_wal_record_decode(kv_slice_of(scan->data, (size_t)scan->size), 0, ret_record) != 0 &&
           ret_record->type == KV_WAL_SEGMENT &&
           kv_wal_segment_head_decode(ret_record->body, ret_head) == 0;
}

/* ---------------------------------------------------------------- where the log begins */

/* Reads the head of the segment at scan->at. 1: it has one, 0: it has none. */
static int read_head(struct scan *scan, struct kv_wal_segment_head *ret_head)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    const struct segment_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment *segment = kv_wal_segment_new(name->first_index, name->number, 0, 0);
    uint64_t want = kv_wal_record_size(KV_WAL_SEGMENT_HEAD_BYTES);
    struct kv_wal_record record;
    int status;

    if (!segment) {
        return no_memory(scan);
    }
    status = open_segment(scan, segment);
    if (status == 0 && scan->size >= want) {
        scan->size = want;
        status = read_front(scan, segment, want);
        status = status == 0 ? decode_head(scan, &record, ret_head) : status;
    }
    if (segment->file) {
        disk->ops->close(disk->disk, segment->file);
    }
    free(segment);
    return status;
}

/* The newest head tells whose the log is and where it begins; the last segment may have none yet.
 */
static int find_first(struct scan *scan)
{
    struct kv_wal *wal = scan->wal;
    struct kv_wal_segment_head head;
    int status = 0;

    for (size_t back = 1; back <= 2 && back <= scan->list.n && status == 0; back++) {
        scan->at = scan->list.n - back;
        status = read_head(scan, &head);
    }
    if (status <= 0) {
        return status == 0 ? damaged(scan, "its head is not readable") : status;
    }
    if (head.format_version > KV_WAL_FORMAT_VERSION) {
        return kv_error_set(scan->ret_error,
                            KV_WRONG_NODE,
                            "the log in %s is of format %" PRIu32
                            ", this server knows up to %u: upgrade the server",
                            wal->options.disk.name,
                            head.format_version,
                            KV_WAL_FORMAT_VERSION);
    }
    if (head.cluster_id != wal->options.cluster_id || head.node_id != wal->options.node_id) {
        return kv_error_set(scan->ret_error,
                            KV_WRONG_NODE,
                            "the log in %s belongs to node %" PRIu64 " of cluster %" PRIu64
                            ", this is node %" PRIu64 " of cluster %" PRIu64
                            ": use the right --data-dir",
                            wal->options.disk.name,
                            head.node_id,
                            head.cluster_id,
                            wal->options.node_id,
                            wal->options.cluster_id);
    }
    wal->log_seed = head.log_seed;
    while (scan->first < scan->at && scan->list.names[scan->first].number < head.oldest_number) {
        scan->first++;
    }
    return 0;
}

/* ---------------------------------------------------------------- records */

/* The head of the first segment tells where things stood; those of the others must agree. */
static int take_head(struct scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;
    const struct segment_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment_head head;

    if (record->type != KV_WAL_SEGMENT || kv_wal_segment_head_decode(record->body, &head) != 0) {
        return damaged(scan, "it does not begin with a segment's head");
    }
    if (head.number != name->number || record->index != name->first_index ||
        head.log_seed != wal->log_seed || head.cluster_id != wal->options.cluster_id ||
        head.node_id != wal->options.node_id) {
        return damaged(scan, "its head names another segment: the file was swapped or copied");
    }
    if (head.segment_bytes != scan->size) {
        return damaged(scan, "the file is not as long as it was made: it was cut or extended");
    }
    if (scan->at == scan->first) {
        wal->term = head.term;
        wal->voted_for = head.voted_for;
        wal->boundary_index = head.boundary_index;
        wal->boundary_term = head.boundary_term;
        wal->oldest_number = head.oldest_number;
        wal->first_index = record->index;
        wal->last_index = record->index - 1;
        if (wal->first_index == 0 || wal->last_index < wal->boundary_index ||
            head.term > NUMBER_MAX || head.oldest_number > head.number) {
            return damaged(scan, "its head contradicts itself");
        }
        return 0;
    }
    if (head.term != wal->term || head.voted_for != wal->voted_for ||
        head.boundary_index != wal->boundary_index || head.boundary_term != wal->boundary_term ||
        record->index != wal->last_index + 1 || head.oldest_number != wal->oldest_number) {
        return damaged(scan, "its head contradicts the segments before it");
    }
    return 0;
}

static int take_entry(struct scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;

    if (record->index != wal->last_index + 1) {
        return damaged(scan, "an entry has the wrong index");
    }
    wal->last_index = record->index;
    return kv_wal_point_note(wal, record->index, scan->offset) == 0 ? 0 : no_memory(scan);
}

static int take_vote(struct scan *scan, const struct kv_wal_record *record)
{
    if (record->term < scan->wal->term) {
        return damaged(scan, "the term runs back");
    }
    scan->wal->term = record->term;
    scan->wal->voted_for = record->index;
    return 0;
}

static int take_truncation(struct scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;

    if (record->index <= wal->boundary_index || record->index > wal->last_index) {
        return damaged(scan, "a truncation of entries that are not there");
    }
    wal->last_index = record->index - 1;
    /* Those before it were in a segment that is released by now. */
    if (wal->first_index > record->index) {
        wal->first_index = record->index;
    }
    kv_wal_points_truncate(wal, record->index);
    return 0;
}

static int take_boundary(struct scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;

    wal->boundary_index = record->index;
    wal->boundary_term = record->term;
    wal->boundary_number = scan->list.names[scan->at].number;
    wal->first_index = record->index + 1;
    wal->last_index = record->index;
    kv_wal_points_truncate(wal, 0);
    return 0;
}

static int take_record(struct scan *scan, const struct kv_wal_record *record)
{
    uint64_t number = scan->list.names[scan->at].number;

    if (record->sequence > NUMBER_MAX || record->term > NUMBER_MAX ||
        (record->type != KV_WAL_VOTE && record->index > NUMBER_MAX)) {
        return damaged(scan, "a number that cannot be");
    }
    if (scan->offset == 0) {
        return take_head(scan, record);
    }
    switch (record->type) {
    case KV_WAL_ENTRY:
        return take_entry(scan, record);
    case KV_WAL_VOTE:
        return take_vote(scan, record);
    case KV_WAL_TRUNCATE:
        return take_truncation(scan, record);
    case KV_WAL_BOUNDARY:
        return take_boundary(scan, record);
    case KV_WAL_SYNCED:
        if (record->index < scan->wal->oldest_number || record->index > number) {
            return damaged(scan, "it releases segments that it cannot");
        }
        scan->wal->oldest_number = record->index;
        return 0;
    case KV_WAL_NEXT:
        scan->has_ended = true;
        scan->next_bytes = record->term;
        return record->index == number + 1 ? 0 : damaged(scan, "it names a wrong successor");
    case KV_WAL_SEGMENT:
        break;
    }
    return damaged(scan, "a record that does not belong here");
}

/* Does the record follow the one before it? The first one that is read follows nothing; the first
 * of a run leaves out numbers. */
static bool follows(const struct scan *scan, const struct kv_wal_record *record)
{
    bool may_skip = record->type == KV_WAL_SYNCED || record->type == KV_WAL_NEXT ||
                    record->type == KV_WAL_SEGMENT;

    if (scan->at == scan->first && scan->offset == 0) {
        return true;
    }
    return record->link == scan->wal->link &&
           (record->sequence == scan->expected || (may_skip && record->sequence > scan->expected));
}

/* Reads records until the segment's end or a break. */
static int scan_records(struct scan *scan, const struct kv_wal_segment *segment)
{
    int status = 0;

    scan->has_ended = false;
    while (status == 0 && !scan->has_ended) {
        struct kv_wal_record record;
        uint64_t size =
            kv_wal_record_decode(rest(scan), scan->offset == 0 ? 0 : segment->seed, &record);

        if (size == 0 || !follows(scan, &record)) {
            scan->is_broken = true;
            return 0;
        }
        if (record.type != KV_WAL_NEXT &&
            scan->offset + size + KV_WAL_RECORD_HEADER_BYTES > scan->size) {
            return damaged(scan, "a record leaves no room for the segment's end");
        }
        status = take_record(scan, &record);
        if (status == 0) {
            scan->expected = record.sequence + 1;
            scan->vouched = record.synced_through;
            scan->wal->link = record.crc;
            scan->offset += size;
        }
    }
    return status;
}

/* Is there a later record that was written when the one missing here was known to be on disk? A
 * sound header is enough, whatever became of its body. */
static bool is_vouched_for(const struct scan *scan, const struct kv_wal_segment *segment)
{
    for (uint64_t offset = scan->offset; offset + KV_WAL_RECORD_HEADER_BYTES <= scan->size;
         offset += 8) {
        const uint8_t *p = scan->data + offset;
        struct kv_wal_record record;

        /* Cheap ones first: most of this is zeros, or bodies. */
        if (p[8] != 0 && p[9] == 0 && kv_get_u64(p + 40) >= scan->expected &&
            kv_wal_record_peek(
                kv_slice_of(p, KV_WAL_RECORD_HEADER_BYTES), segment->seed, &record)) {
            return true;
        }
    }
    return false;
}

/* A break in the segment: torn, or damage? */
static int judge_break(struct scan *scan, const struct kv_wal_segment *segment)
{
    struct kv_wal_record record;
    struct kv_wal_segment_head head;

    if (scan->offset == 0 && decode_head(scan, &record, &head)) {
        return take_head(scan, &record) != 0
                   ? KV_CORRUPT
                   : damaged(scan, "it does not follow the segment before it");
    }
    if (scan->offset == 0 && scan->at == scan->first) {
        return damaged(scan, "its head is not readable");
    }
    if (scan->offset == 0 && scan->size != scan->next_bytes) {
        return damaged(scan, "the file is not as long as it was made: it was cut or extended");
    }
    if (is_vouched_for(scan, segment)) {
        return damaged(scan, "a record that was on disk is not readable");
    }
    scan->is_headless = scan->offset == 0;
    scan->torn_bytes = used_bytes(scan, scan->offset);
    return 0;
}

static int scan_segment(struct scan *scan)
{
    struct kv_wal *wal = scan->wal;
    const struct segment_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment *segment =
        kv_wal_segment_new(name->first_index, name->number, 0, wal->log_seed);
    int status;

    if (!segment || kv_wal_segments_push(wal, segment) != 0) {
        free(segment);
        return no_memory(scan);
    }
    status = open_segment(scan, segment);
    if (status == 0) {
        segment->file_bytes = scan->size;
        status = read_front(scan, segment, scan->size);
    }
    if (status == 0) {
        status = scan_records(scan, segment);
    }
    wal->position = scan->offset;
    if (status != 0) {
        return status;
    }
    if (scan->is_broken) {
        return judge_break(scan, segment);
    }
    segment->is_placed = true;
    if (used_bytes(scan, scan->offset) > 0) {
        return damaged(scan, "something stands behind the segment's last record");
    }
    return scan->at + 1 < scan->list.n ? 0 : missing(scan, name->number + 1);
}

/* Behind a break there may be one more segment that was made for what was torn, still all zeros. */
static int look_at_unborn(struct scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    const struct segment_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment *segment = kv_wal_segment_new(name->first_index, name->number, 0, 0);
    uint64_t broken_offset = scan->offset;
    int status;

    if (!segment) {
        return no_memory(scan);
    }
    status = open_segment(scan, segment);
    if (status == 0) {
        status = read_front(scan, segment, scan->size);
    }
    scan->offset = broken_offset;
    if (status == 0 &&
        (used_bytes(scan, 0) > 0 || scan->at + 1 < scan->list.n || scan->is_headless)) {
        scan->at--;
        status = damaged(scan, "its end is not readable, though a later segment was begun");
    }
    if (segment->file) {
        disk->ops->close(disk->disk, segment->file);
    }
    free(segment);
    scan->has_unborn = true;
    return status;
}

static int scan_all(struct scan *scan)
{
    int status = find_first(scan);

    for (scan->at = scan->first; status == 0 && scan->at < scan->list.n; scan->at++) {
        status = scan->is_broken ? look_at_unborn(scan) : scan_segment(scan);
    }
    if (status == 0 && scan->list.names[scan->first].number > scan->wal->oldest_number) {
        scan->at = scan->first;
        scan->offset = 0;
        status = missing(scan, scan->list.names[scan->first].number - 1);
    }
    kv_wal_forget_released(scan->wal);
    if (status == 0 && scan->wal->first_index > scan->wal->last_index + 1) {
        scan->at = scan->list.n - 1;
        status = damaged(scan, "more is released than the log holds");
    }
    return status;
}

/* ---------------------------------------------------------------- repairs */

/* Zeroes what is left of a torn write, so that it can never be taken for something. */
static int zero_torn(struct scan *scan, const struct kv_wal_segment *segment)
{
    enum { PIECE_BYTES = 64 * 1024 };
    static const uint8_t zeros[PIECE_BYTES];
    const struct kv_disk *disk = &scan->wal->options.disk;
    uint64_t offset = scan->wal->position;
    uint64_t end = offset + scan->torn_bytes;

    while (offset < end) {
        uint64_t piece = end - offset < PIECE_BYTES ? end - offset : PIECE_BYTES;
        int status = disk->ops->pwrite(disk->disk, segment->file, zeros, (size_t)piece, offset);

        if (status != 0) {
            return io_error(scan, status, "zero the torn end of", segment->name);
        }
        offset += piece;
    }
    return 0;
}

/* A sync that failed leaves pages that the next process finds though the disk does not have them,
 * and that no sync writes any more, since they count as clean. So what no record vouches for is
 * written again. */
static int rewrite_end(struct scan *scan, const struct kv_wal_segment *segment)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    uint64_t first = 0, offset = 0; /* first: byte to begin with */
    int status = read_front(scan, segment, segment->file_bytes);

    while (status == 0) {
        struct kv_wal_record record;
        uint64_t size =
            kv_wal_record_decode(kv_slice_of(scan->data + offset, segment->file_bytes - offset),
                                 offset == 0 ? 0 : segment->seed,
                                 &record);

        if (size == 0) {
            break;
        }
        offset += size;
        first = record.sequence <= scan->vouched ? offset : first;
    }
    if (status == 0 && first < offset) {
        KV_REACHED("wal-rewrites-end");
        status = disk->ops->pwrite(
            disk->disk, segment->file, scan->data + first, (size_t)(offset - first), first);
        status = status == 0 ? 0 : io_error(scan, status, "write", segment->name);
    }
    return status;
}

/* What was read may be in memory alone, if the process that wrote it was killed: it counts only
 * once it is on disk. */
static int sync_all(struct scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;

    for (size_t i = 0; i < scan->wal->n_segments; i++) {
        const struct kv_wal_segment *segment = scan->wal->segments[i];
        int status = disk->ops->datasync(disk->disk, segment->file);

        if (status != 0) {
            return io_error(scan, status, "sync", segment->name);
        }
    }
    return 0;
}

static int remove_file(struct scan *scan, const char *name)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status = disk->ops->unlink(disk->disk, name);

    return status == 0 || status == -ENOENT ? 0 : io_error(scan, status, "remove", name);
}

/* A spare is whole and zero if it is there and the log has a segment: nothing is written to it
 * before it has its name, but for the first segment. */
static int keep_spare(struct scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    struct kv_file *file = NULL;
    int64_t size = -1;
    int status = remove_file(scan, KV_WAL_SPARE_UNFINISHED);

    if (status == 0 && disk->ops->open(disk->disk, KV_WAL_SPARE, KV_DISK_READ, &file) == 0) {
        size = disk->ops->size(disk->disk, file);
        disk->ops->close(disk->disk, file);
    }
    if (scan->list.n > 0 && size == (int64_t)scan->wal->segment_bytes) {
        scan->wal->spare = KV_WAL_SPARE_READY;
        return status;
    }
    return status == 0 ? remove_file(scan, KV_WAL_SPARE) : status;
}

static int repair(struct scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    char name[KV_WAL_NAME_BYTES];
    int status = 0;

    if (scan->torn_bytes > 0) {
        KV_REACHED("wal-torn");
        status = zero_torn(scan, kv_wal_last_segment(scan->wal));
    }
    /* Of the former segment at most the last record is in doubt. */
    for (size_t i = scan->wal->n_segments < 2 ? 0 : scan->wal->n_segments - 2;
         i < scan->wal->n_segments && status == 0;
         i++) {
        status = rewrite_end(scan, scan->wal->segments[i]);
    }
    if (status == 0) {
        status = sync_all(scan);
    }
    if (status == 0 && scan->has_unborn) {
        KV_REACHED("wal-unborn");
        status = remove_file(scan, name_at(scan, scan->list.n - 1, name));
    }
    for (size_t i = 0; i < scan->first && status == 0; i++) {
        status = remove_file(scan, name_at(scan, i, name));
    }
    if (status == 0) {
        status = keep_spare(scan);
    }
    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, "wal");
        status = status == 0 ? 0 : io_error(scan, status, "sync", "wal");
    }
    return status;
}

/* Numbers of records that were lost are not used again. */
static void set_end(struct scan *scan)
{
    struct kv_wal *wal = scan->wal;

    wal->synced_record = scan->expected - 1;
    wal->next_record = scan->expected + KV_WAL_SEQUENCE_SKIP;
    wal->written_index = wal->last_index;
    wal->recovered = (struct kv_wal_state){
        .term = wal->term,
        .voted_for = wal->voted_for,
        .boundary_index = wal->boundary_index,
        .boundary_term = wal->boundary_term,
        .first_index = wal->first_index,
        .last_index = wal->last_index,
        .torn_bytes = scan->torn_bytes,
    };
    if (scan->is_headless) {
        KV_REACHED("wal-headless");
        kv_wal_write_head(wal);
    } else {
        wal->is_resumed = true;
    }
}

int kv_wal_recover(struct kv_wal *wal, struct kv_error *ret_error)
{
    struct scan scan = {.wal = wal, .ret_error = ret_error};
    int status = list_segments(&scan);

    if (status == 0 && scan.list.n > 0) {
        status = scan_all(&scan);
    }
    if (status == 0) {
        status = repair(&scan);
    }
    if (status == 0 && scan.list.n > 0) {
        set_end(&scan);
    } else {
        wal->recovered.first_index = 1;
    }
    free(scan.data);
    free(scan.list.names);
    return status;
}
