/* Reading the log at start: each record is checked, and a break is judged to be torn or damage. */
#include "raft/wal_scan.h"

#include "common/assert.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

const char *
kv_wal_scan_name_at(const struct kv_wal_scan *scan, size_t i, char name[KV_WAL_NAME_BYTES])
{
    kv_wal_segment_name(name, scan->list.names[i].first_index, scan->list.names[i].number);
    return name;
}

int kv_wal_scan_io_error(struct kv_wal_scan *scan, int errnum, const char *what, const char *name)
{
    return kv_error_set(scan->ret_error,
                        KV_IO,
                        "cannot %s %s/%s: %s",
                        what,
                        scan->wal->options.disk.name,
                        name,
                        strerror(-errnum));
}

int kv_wal_scan_no_memory(struct kv_wal_scan *scan)
{
    return kv_error_set(scan->ret_error, KV_NO_MEMORY, "no memory to recover the log");
}

int kv_wal_scan_damaged(struct kv_wal_scan *scan, const char *what)
{
    char name[KV_WAL_NAME_BYTES];

    return kv_error_set(scan->ret_error,
                        KV_CORRUPT,
                        "the log is damaged: %s/%s at offset %" PRIu64 ", behind index %" PRIu64
                        ": %s; " KV_WAL_ADVICE,
                        scan->wal->options.disk.name,
                        kv_wal_scan_name_at(scan, scan->at, name),
                        scan->offset,
                        scan->wal->last_index,
                        what);
}

/* The segment `number` is not there; `scan->at` is the one that shows it. */
int kv_wal_scan_missing(struct kv_wal_scan *scan, uint64_t number)
{
    char name[KV_WAL_NAME_BYTES];

    return kv_error_set(scan->ret_error,
                        KV_CORRUPT,
                        "the log is damaged: in %s/wal the segment *-%016" PRIx64
                        " is missing, as %s at offset %" PRIu64 " shows, behind index %" PRIu64
                        "; " KV_WAL_ADVICE,
                        scan->wal->options.disk.name,
                        number,
                        kv_wal_scan_name_at(scan, scan->at, name),
                        scan->offset,
                        scan->wal->last_index);
}

/* ---------------------------------------------------------------- one file */

int kv_wal_scan_open_segment(struct kv_wal_scan *scan, struct kv_wal_segment *segment)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status = disk->ops->open(disk->disk, segment->name, KV_DISK_WRITE, &segment->file);
    int64_t size;

    if (status != 0) {
        return kv_wal_scan_io_error(scan, status, "open", segment->name);
    }
    size = disk->ops->size(disk->disk, segment->file);
    if (size < 0) {
        return kv_wal_scan_io_error(scan, (int)size, "look at", segment->name);
    }
    scan->size = (uint64_t)size;
    scan->offset = 0;
    if (scan->size > KV_WAL_SEGMENT_BYTES_MAX) {
        return kv_wal_scan_damaged(scan, "the file is larger than any segment");
    }
    return 0;
}

/* Reads `size` bytes from the file's front into scan->data. */
int kv_wal_scan_read_front(struct kv_wal_scan *scan,
                           const struct kv_wal_segment *segment,
                           uint64_t size)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int64_t got;

    if (size > scan->capacity) {
        free(scan->data);
        scan->capacity = 0;
        scan->data = malloc((size_t)size);
        if (!scan->data) {
            return kv_wal_scan_no_memory(scan);
        }
        scan->capacity = size;
    }
    got = disk->ops->pread(disk->disk, segment->file, scan->data, (size_t)size, 0);
    if (got < 0) {
        return kv_wal_scan_io_error(scan, (int)got, "read", segment->name);
    }
    return (uint64_t)got == size ? 0 : kv_wal_scan_io_error(scan, -EIO, "read", segment->name);
}

/* What lies from scan->offset on. */
static struct kv_slice rest(const struct kv_wal_scan *scan)
{
    return kv_slice_of(scan->data + scan->offset, (size_t)(scan->size - scan->offset));
}

/* Bytes from offset to the last one that is not zero. */
static uint64_t used_bytes(const struct kv_wal_scan *scan, uint64_t offset)
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
bool kv_wal_scan_decode_head(const struct kv_wal_scan *scan,
                             struct kv_wal_record *ret_record,
                             struct kv_wal_segment_head *ret_head)
{
    return kv_wal_record_decode(kv_slice_of(scan->data, (size_t)scan->size), 0, ret_record) != 0 &&
           ret_record->type == KV_WAL_SEGMENT &&
           kv_wal_segment_head_decode(ret_record->body, ret_head) == 0;
}

/* ---------------------------------------------------------------- records */

/* The head of the first segment tells where things stood; those of the others must agree. */
static int take_head(struct kv_wal_scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;
    const struct kv_wal_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment_head head;

    if (record->type != KV_WAL_SEGMENT || kv_wal_segment_head_decode(record->body, &head) != 0) {
        return kv_wal_scan_damaged(scan, "it does not begin with a segment's head");
    }
    if (head.number != name->number || record->index != name->first_index ||
        head.log_seed != wal->log_seed || head.cluster_id != wal->options.cluster_id ||
        head.node_id != wal->options.node_id) {
        return kv_wal_scan_damaged(
            scan, "its head names another segment: the file was swapped or copied");
    }
    if (head.segment_bytes != scan->size) {
        return kv_wal_scan_damaged(
            scan, "the file is not as long as it was made: it was cut or extended");
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
            head.term > KV_WAL_NUMBER_MAX || head.oldest_number > head.number) {
            return kv_wal_scan_damaged(scan, "its head contradicts itself");
        }
        return 0;
    }
    if (head.term != wal->term || head.voted_for != wal->voted_for ||
        head.boundary_index != wal->boundary_index || head.boundary_term != wal->boundary_term ||
        record->index != wal->last_index + 1 || head.oldest_number != wal->oldest_number) {
        return kv_wal_scan_damaged(scan, "its head contradicts the segments before it");
    }
    return 0;
}

static int take_entry(struct kv_wal_scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;

    if (record->index != wal->last_index + 1) {
        return kv_wal_scan_damaged(scan, "an entry has the wrong index");
    }
    wal->last_index = record->index;
    return kv_wal_point_note(wal, record->index, scan->offset) == 0 ? 0
                                                                    : kv_wal_scan_no_memory(scan);
}

static int take_vote(struct kv_wal_scan *scan, const struct kv_wal_record *record)
{
    if (record->term < scan->wal->term) {
        return kv_wal_scan_damaged(scan, "the term runs back");
    }
    scan->wal->term = record->term;
    scan->wal->voted_for = record->index;
    return 0;
}

static int take_truncation(struct kv_wal_scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;

    if (record->index <= wal->boundary_index || record->index > wal->last_index) {
        return kv_wal_scan_damaged(scan, "a truncation of entries that are not there");
    }
    wal->last_index = record->index - 1;
    /* Those before it were in a segment that is released by now. */
    if (wal->first_index > record->index) {
        wal->first_index = record->index;
    }
    kv_wal_points_truncate(wal, record->index);
    return 0;
}

static int take_boundary(struct kv_wal_scan *scan, const struct kv_wal_record *record)
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

static int take_record(struct kv_wal_scan *scan, const struct kv_wal_record *record)
{
    uint64_t number = scan->list.names[scan->at].number;

    if (record->sequence > KV_WAL_NUMBER_MAX || record->term > KV_WAL_NUMBER_MAX ||
        (record->type != KV_WAL_VOTE && record->index > KV_WAL_NUMBER_MAX)) {
        return kv_wal_scan_damaged(scan, "a number that cannot be");
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
            return kv_wal_scan_damaged(scan, "it releases segments that it cannot");
        }
        scan->wal->oldest_number = record->index;
        return 0;
    case KV_WAL_NEXT:
        scan->has_ended = true;
        scan->next_bytes = record->term;
        return record->index == number + 1
                   ? 0
                   : kv_wal_scan_damaged(scan, "it names a wrong successor");
    case KV_WAL_SEGMENT:
        break;
    }
    return kv_wal_scan_damaged(scan, "a record that does not belong here");
}

/* Does the record follow the one before it? The first one that is read follows nothing; the first
 * of a run leaves out numbers. */
static bool follows(const struct kv_wal_scan *scan, const struct kv_wal_record *record)
{
    bool may_skip = record->type == KV_WAL_SYNCED || record->type == KV_WAL_NEXT ||
                    record->type == KV_WAL_SEGMENT;

    if (scan->at == scan->first && scan->offset == 0) {
        return true;
    }
    return record->link == scan->wal->link &&
           (record->sequence == scan->expected || (may_skip && record->sequence > scan->expected));
}

/* The record says which ones before it are on disk. */
static void note_vouched(struct kv_wal_scan *scan, const struct kv_wal_record *record)
{
    size_t n = 0;

    while (n < scan->n_marks && scan->marks[n].sequence <= record->synced_through + 1) {
        scan->vouched_offset = scan->marks[n].offset;
        n++;
    }
    scan->n_marks -= n;
    memmove(scan->marks, scan->marks + n, scan->n_marks * sizeof scan->marks[0]);
    if (record->synced_through + 1 >= record->sequence) {
        scan->vouched_offset = scan->offset;
    } else if (scan->n_marks < KV_WAL_MARKS_MAX) {
        scan->marks[scan->n_marks++] = (struct kv_wal_mark){record->sequence, scan->offset};
    }
}

/* Keeps a copy of what nothing vouches for in the segment that was just read. */
static int keep_tail(struct kv_wal_scan *scan)
{
    struct kv_wal_tail tail = {
        .segment = scan->wal->n_segments - 1,
        .offset = scan->vouched_offset,
        .size = (size_t)(scan->offset - scan->vouched_offset),
    };

    if (tail.size == 0) {
        return 0;
    }
    tail.data = malloc(tail.size);
    if (!tail.data) {
        return kv_wal_scan_no_memory(scan);
    }
    memcpy(tail.data, scan->data + tail.offset, tail.size);
    free(scan->tails[0].data);
    scan->tails[0] = scan->tails[1];
    scan->tails[1] = tail;
    return 0;
}

/* Reads records until the segment's end or a break. */
static int scan_records(struct kv_wal_scan *scan, const struct kv_wal_segment *segment)
{
    int status = 0;

    scan->has_ended = false;
    scan->vouched_offset = 0;
    scan->n_marks = 0;
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
            return kv_wal_scan_damaged(scan, "a record leaves no room for the segment's end");
        }
        status = take_record(scan, &record);
        if (status == 0) {
            note_vouched(scan, &record);
            scan->expected = record.sequence + 1;
            scan->wal->link = record.crc;
            scan->offset += size;
        }
    }
    return status;
}

/* Is there a later record that was written when the one missing here was known to be on disk? A
 * sound header is enough, whatever became of its body. */
static bool is_vouched_for(const struct kv_wal_scan *scan, const struct kv_wal_segment *segment)
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
static int judge_break(struct kv_wal_scan *scan, const struct kv_wal_segment *segment)
{
    struct kv_wal_record record;
    struct kv_wal_segment_head head;

    if (scan->offset == 0 && kv_wal_scan_decode_head(scan, &record, &head)) {
        return take_head(scan, &record) != 0
                   ? KV_CORRUPT
                   : kv_wal_scan_damaged(scan, "it does not follow the segment before it");
    }
    if (scan->offset == 0 && scan->at == scan->first) {
        return kv_wal_scan_damaged(scan, "its head is not readable");
    }
    if (scan->offset == 0 && scan->size != scan->next_bytes) {
        return kv_wal_scan_damaged(
            scan, "the file is not as long as it was made: it was cut or extended");
    }
    if (is_vouched_for(scan, segment)) {
        return kv_wal_scan_damaged(scan, "a record that was on disk is not readable");
    }
    scan->is_headless = scan->offset == 0;
    scan->torn_bytes = used_bytes(scan, scan->offset);
    return 0;
}

static int scan_segment(struct kv_wal_scan *scan)
{
    struct kv_wal *wal = scan->wal;
    const struct kv_wal_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment *segment =
        kv_wal_segment_new(name->first_index, name->number, 0, wal->log_seed);
    int status;

    if (!segment || kv_wal_segments_push(wal, segment) != 0) {
        free(segment);
        return kv_wal_scan_no_memory(scan);
    }
    status = kv_wal_scan_open_segment(scan, segment);
    if (status == 0) {
        segment->file_bytes = scan->size;
        status = kv_wal_scan_read_front(scan, segment, scan->size);
    }
    if (status == 0) {
        status = scan_records(scan, segment);
    }
    wal->position = scan->offset;
    if (status == 0) {
        status = keep_tail(scan);
    }
    if (status != 0) {
        return status;
    }
    if (scan->is_broken) {
        status = judge_break(scan, segment);
        segment->is_placed = status == 0 && !scan->is_headless;
        return status;
    }
    segment->is_placed = true;
    if (used_bytes(scan, scan->offset) > 0) {
        return kv_wal_scan_damaged(scan, "something stands behind the segment's last record");
    }
    return scan->at + 1 < scan->list.n ? 0 : kv_wal_scan_missing(scan, name->number + 1);
}

/* Behind a break there may be one more segment that was made for what was torn, still all zeros. */
static int look_at_unborn(struct kv_wal_scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    const struct kv_wal_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment *segment = kv_wal_segment_new(name->first_index, name->number, 0, 0);
    uint64_t broken_offset = scan->offset;
    int status;

    if (!segment) {
        return kv_wal_scan_no_memory(scan);
    }
    status = kv_wal_scan_open_segment(scan, segment);
    if (status == 0) {
        status = kv_wal_scan_read_front(scan, segment, scan->size);
    }
    scan->offset = broken_offset;
    if (status == 0 &&
        (used_bytes(scan, 0) > 0 || scan->at + 1 < scan->list.n || scan->is_headless)) {
        scan->at--;
        status =
            kv_wal_scan_damaged(scan, "its end is not readable, though a later segment was begun");
    }
    if (segment->file) {
        disk->ops->close(disk->disk, segment->file);
    }
    free(segment);
    scan->has_unborn = true;
    return status;
}

int kv_wal_scan_all(struct kv_wal_scan *scan)
{
    int status = 0;

    for (scan->at = scan->first; status == 0 && scan->at < scan->list.n; scan->at++) {
        status = scan->is_broken ? look_at_unborn(scan) : scan_segment(scan);
    }
    if (status == 0 && scan->list.names[scan->first].number > scan->wal->oldest_number) {
        scan->at = scan->first;
        scan->offset = 0;
        status = kv_wal_scan_missing(scan, scan->list.names[scan->first].number - 1);
    }
    kv_wal_forget_released(scan->wal);
    if (status == 0 && scan->wal->first_index > scan->wal->last_index + 1) {
        scan->at = scan->list.n - 1;
        status = kv_wal_scan_damaged(scan, "more is released than the log holds");
    }
    return status;
}
