/* Recovery: reads every record of every segment, cuts a torn tail, refuses everything else by name
 * and offset. */
#include "common/assert.h"
#include "raft/wal_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REPLACE "replace this member: docs/operations tells how (its data is whole on the others)"

struct name_list {
    struct {
        uint64_t first_index;
        uint64_t number;
    } * names;
    size_t n;
    size_t capacity;
    bool no_memory;
};

/* The log as it is read, segment by segment. */
struct scan {
    struct kv_wal *wal;
    struct kv_error *ret_error;
    struct name_list names;
    uint8_t *data; /* of the present segment */
    uint64_t size;
    size_t at;         /* which segment */
    uint64_t offset;   /* in it */
    uint64_t expected; /* sequence of the next record; 0: any (the first of all) */
    bool ended;        /* the segment ends with a NEXT record */
    bool stop;         /* a torn tail: nothing behind is read */
    bool headless;     /* the last segment has no head yet */
};

static void note_name(void *arg, const char *name)
{
    struct name_list *list = arg;
    uint64_t first_index, number;

    if (kv_wal_segment_name_parse(name, &first_index, &number) != 0) {
        return;
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        void *names = realloc(list->names, capacity * sizeof list->names[0]);

        if (!names) {
            list->no_memory = true;
            return;
        }
        list->names = names;
        list->capacity = capacity;
    }
    list->names[list->n].first_index = first_index;
    list->names[list->n++].number = number;
}

static int compare_names(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return x[1] != y[1] ? (x[1] < y[1] ? -1 : 1) : (x[0] > y[0]) - (x[0] < y[0]);
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

static const char *segment_name(const struct scan *scan, char name[KV_WAL_NAME_BYTES])
{
    kv_wal_segment_name(
        name, scan->names.names[scan->at].first_index, scan->names.names[scan->at].number);
    return name;
}

static int damaged(struct scan *scan, const char *what)
{
    char name[KV_WAL_NAME_BYTES];

    return kv_error_set(scan->ret_error,
                        KV_CORRUPT,
                        "the log is damaged: %s/%s at offset %" PRIu64 ", behind index %" PRIu64
                        ": %s; %s",
                        scan->wal->options.disk.name,
                        segment_name(scan, name),
                        scan->offset,
                        scan->wal->last_index,
                        what,
                        REPLACE);
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
    /* Left over from a crash, or ready but not in use: made again. */
    (void)disk->ops->unlink(disk->disk, "wal/spare");
    (void)disk->ops->unlink(disk->disk, "wal/spare.tmp");
    (void)disk->ops->unlink(disk->disk, "wal/roll.tmp");
    status = disk->ops->list(disk->disk, "wal", note_name, &scan->names);
    if (status != 0) {
        return io_error(scan, status, "list", "wal");
    }
    if (scan->names.no_memory) {
        return kv_error_set(scan->ret_error, KV_NO_MEMORY, "no memory to recover the log");
    }
    if (scan->names.n > 0) {
        qsort(scan->names.names, scan->names.n, sizeof scan->names.names[0], compare_names);
    }
    for (size_t i = 1; i < scan->names.n; i++) {
        scan->at = i;
        if (scan->names.names[i].number == scan->names.names[i - 1].number) {
            return damaged(scan, "two segments have this number");
        }
        if (scan->names.names[i].number != scan->names.names[i - 1].number + 1) {
            return damaged(scan, "a segment before this one is missing");
        }
    }
    return 0;
}

/* Reads the whole file into scan->data. */
static int read_segment(struct scan *scan, struct kv_wal_segment *segment)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status = disk->ops->open(disk->disk, segment->name, KV_DISK_WRITE, &segment->file);
    int64_t size;
    int64_t got;

    if (status != 0) {
        return io_error(scan, status, "open", segment->name);
    }
    size = disk->ops->size(disk->disk, segment->file);
    if (size < 0) {
        return io_error(scan, (int)size, "look at", segment->name);
    }
    free(scan->data);
    scan->data = malloc(size > 0 ? (size_t)size : 1);
    if (!scan->data) {
        return kv_error_set(scan->ret_error, KV_NO_MEMORY, "no memory to read %s", segment->name);
    }
    got = disk->ops->pread(disk->disk, segment->file, scan->data, (size_t)size, 0);
    if (got < 0) {
        return io_error(scan, (int)got, "read", segment->name);
    }
    scan->size = (uint64_t)got;
    segment->file_bytes = (uint64_t)size;
    return 0;
}

static int check_head(struct scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;
    struct kv_wal_segment_head head;

    if (record->type != KV_WAL_SEGMENT || kv_wal_segment_head_decode(record->body, &head) != 0) {
        return damaged(scan, "it does not begin with a segment's head");
    }
    if (head.format_version > 1) {
        return kv_error_set(scan->ret_error,
                            KV_WRONG_NODE,
                            "the log is of format %u, this server knows 1: upgrade it",
                            head.format_version);
    }
    if (head.cluster_id != wal->options.cluster_id || head.node_id != wal->options.node_id) {
        return kv_error_set(scan->ret_error,
                            KV_WRONG_NODE,
                            "the log belongs to node %" PRIu64 " of cluster %" PRIu64
                            ", this is node %" PRIu64 " of cluster %" PRIu64,
                            head.node_id,
                            head.cluster_id,
                            wal->options.node_id,
                            wal->options.cluster_id);
    }
    if (head.number != scan->names.names[scan->at].number ||
        record->index != scan->names.names[scan->at].first_index) {
        return damaged(scan, "its head names another segment: the file was swapped or copied");
    }
    if (head.segment_bytes != scan->size) {
        return damaged(scan, "the file has another size than it was made with: it was cut");
    }
    if (scan->at == 0) {
        wal->term = head.term;
        wal->voted_for = head.voted_for;
        wal->boundary_index = head.boundary_index;
        wal->boundary_term = head.boundary_term;
        wal->first_index = record->index;
        wal->last_index = record->index - 1;
        if (wal->first_index > wal->boundary_index + 1) {
            return damaged(scan, "the segments before this one are missing");
        }
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
    if (kv_wal_point_note(wal, record->index, scan->offset) != 0) {
        return kv_error_set(scan->ret_error, KV_NO_MEMORY, "no memory to recover the log");
    }
    return 0;
}

static int take_record(struct scan *scan, const struct kv_wal_record *record)
{
    struct kv_wal *wal = scan->wal;

    if (scan->offset == 0) {
        return check_head(scan, record);
    }
    switch (record->type) {
    case KV_WAL_ENTRY:
        return take_entry(scan, record);
    case KV_WAL_VOTE:
        if (record->term < wal->term) {
            return damaged(scan, "the term runs back");
        }
        wal->term = record->term;
        wal->voted_for = record->index;
        return 0;
    case KV_WAL_TRUNCATE:
        if (record->index <= wal->boundary_index || record->index > wal->last_index) {
            return damaged(scan, "a truncation of entries that are not there");
        }
        wal->last_index = record->index - 1;
        kv_wal_points_truncate(wal, record->index);
        return 0;
    case KV_WAL_BOUNDARY:
        wal->boundary_index = record->index;
        wal->boundary_term = record->term;
        wal->first_index = record->index + 1;
        wal->last_index = record->index;
        kv_wal_points_truncate(wal, 0);
        return 0;
    case KV_WAL_SYNCED:
        return 0;
    case KV_WAL_NEXT:
        scan->ended = true;
        return record->index == scan->names.names[scan->at].number + 1
                   ? 0
                   : damaged(scan, "it names a wrong successor");
    case KV_WAL_SEGMENT:
        break;
    }
    return damaged(scan, "a record that does not belong here");
}

/* Is there a sound later record that was written when the one missing here was known to be on disk?
 */
static bool is_vouched_for(const struct scan *scan)
{
    for (uint64_t offset = scan->offset; offset + KV_WAL_RECORD_HEADER_BYTES <= scan->size;
         offset += 8) {
        struct kv_wal_record record;

        if (kv_get_u64(scan->data + offset) != 0 &&
            kv_wal_record_decode(kv_slice_of(scan->data + offset, (size_t)(scan->size - offset)),
                                 &record) != 0 &&
            record.sequence >= scan->expected && record.synced_through >= scan->expected) {
            return true;
        }
    }
    return false;
}

/* Zeroes what lies behind the last sound record, so that it can never be taken for something. */
static int cut_tail(struct scan *scan, struct kv_wal_segment *segment)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    uint64_t end = scan->size;
    int status;

    while (end > scan->offset && scan->data[end - 1] == 0) {
        end--;
    }
    if (end == scan->offset) {
        return 0;
    }
    scan->wal->recovered.torn_bytes = end - scan->offset;
    memset(scan->data + scan->offset, 0, (size_t)(end - scan->offset));
    status = disk->ops->pwrite(disk->disk,
                               segment->file,
                               scan->data + scan->offset,
                               (size_t)(end - scan->offset),
                               scan->offset);
    if (status == 0) {
        status = disk->ops->datasync(disk->disk, segment->file);
    }
    return status == 0 ? 0 : io_error(scan, status, "repair the torn end of", segment->name);
}

/* Reads records until the segment's end or a break. */
static int scan_records(struct scan *scan)
{
    int status = 0;

    while (status == 0 && !scan->ended) {
        struct kv_wal_record record;
        uint64_t size = kv_wal_record_decode(
            kv_slice_of(scan->data + scan->offset, (size_t)(scan->size - scan->offset)), &record);

        if (size == 0 || (scan->expected != 0 &&
                          (record.sequence != scan->expected || record.link != scan->wal->link))) {
            return 0;
        }
        status = take_record(scan, &record);
        if (status == 0) {
            scan->expected = record.sequence + 1;
            scan->wal->link = record.crc;
            scan->offset += size;
        }
    }
    return status;
}

/* Removes a last segment that holds no sound record: it was being made when the node crashed. */
static int drop_unborn(struct scan *scan, struct kv_wal_segment *segment)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status;

    disk->ops->close(disk->disk, segment->file);
    status = disk->ops->unlink(disk->disk, segment->name);
    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, "wal");
    }
    if (status != 0) {
        status = io_error(scan, status, "remove", segment->name);
    }
    free(segment);
    scan->wal->n_segments--;
    return status;
}

/* The break at scan->offset of the segment: torn, or damage? */
static int judge_break(struct scan *scan, struct kv_wal_segment *segment)
{
    bool is_last = scan->at + 1 == scan->names.n;

    if (scan->at == 0 && scan->offset == 0 && !is_last) {
        return damaged(scan, "its head is not readable");
    }
    if (is_vouched_for(scan)) {
        return damaged(scan, "a record that was on disk is not readable, later ones are");
    }
    if (scan->offset == 0) {
        /* The crash came between the segment's birth and its first record. */
        if (scan->at == 0 && scan->names.names[0].first_index != 1) {
            return damaged(scan,
                           "its head is not readable, and the segments before it are missing");
        }
        scan->headless = true;
    }
    /* Only a successor that was never born may follow: looked at in the next round. */
    scan->stop = !is_last;
    return cut_tail(scan, segment);
}

static int scan_segment(struct scan *scan)
{
    struct kv_wal *wal = scan->wal;
    struct kv_wal_segment *segment = kv_wal_segment_new(
        scan->names.names[scan->at].first_index, scan->names.names[scan->at].number, 0);
    int status;

    if (!segment || kv_wal_segments_push(wal, segment) != 0) {
        free(segment);
        return kv_error_set(scan->ret_error, KV_NO_MEMORY, "no memory to recover the log");
    }
    scan->offset = 0;
    status = read_segment(scan, segment);
    if (status != 0) {
        return status;
    }
    if (scan->stop) {
        /* The segment before this one has no end: nothing may live here. */
        struct kv_wal_record record;

        if (kv_wal_record_decode(kv_slice_of(scan->data, (size_t)scan->size), &record) != 0 ||
            is_vouched_for(scan)) {
            return damaged(scan, "the end of the segment before this one is missing");
        }
        return drop_unborn(scan, segment);
    }
    scan->ended = false;
    status = scan_records(scan);
    if (status == 0) {
        wal->position = scan->offset;
    }
    if (status == 0 && !scan->ended) {
        status = judge_break(scan, segment);
    } else if (status == 0 && scan->at + 1 == scan->names.n) {
        status = damaged(scan, "the segment that follows it is missing");
    }
    return status;
}

int kv_wal_recover(struct kv_wal *wal, struct kv_error *ret_error)
{
    struct scan scan = {.wal = wal, .ret_error = ret_error};
    int status = list_segments(&scan);

    for (scan.at = 0; status == 0 && scan.at < scan.names.n; scan.at++) {
        status = scan_segment(&scan);
    }
    if (status == 0 && scan.expected != 0) {
        wal->next_record = scan.expected;
        wal->synced_record = scan.expected - 1;
    }
    wal->recovered.term = wal->term;
    wal->recovered.voted_for = wal->voted_for;
    wal->recovered.boundary_index = wal->boundary_index;
    wal->recovered.boundary_term = wal->boundary_term;
    wal->recovered.first_index = wal->first_index;
    wal->recovered.last_index = wal->last_index;
    wal->written_index = wal->last_index;
    if (status == 0 && scan.headless) {
        kv_wal_write_head(wal, wal->last_index + 1);
    }
    free(scan.data);
    free(scan.names.names);
    return status;
}
