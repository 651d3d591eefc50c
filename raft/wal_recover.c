/* Recovery in two steps: all segments are read and judged, without a change to any file
 * (wal_scan.c); only then what is left of a torn write is zeroed, and all is synced. Whatever is no
 * torn write is refused by file, offset and index. */
#include "common/reached.h"
#include "raft/wal_scan.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- names */

static void note_name(void *arg, const char *name)
{
    struct kv_wal_name_list *list = arg;
    struct kv_wal_name segment;

    if (kv_wal_segment_name_parse(name, &segment.first_index, &segment.number) != 0) {
        return;
    }
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : 64;
        struct kv_wal_name *names = realloc(list->names, capacity * sizeof *names);

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
    const struct kv_wal_name *x = a;
    const struct kv_wal_name *y = b;

    if (x->number != y->number) {
        return x->number < y->number ? -1 : 1;
    }
    return (x->first_index > y->first_index) - (x->first_index < y->first_index);
}

static int list_segments(struct kv_wal_scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status = disk->ops->mkdir(disk->disk, "wal");

    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, ".");
    }
    if (status != 0) {
        return kv_wal_scan_io_error(scan, status, "make", "wal");
    }
    status = disk->ops->list(disk->disk, "wal", note_name, &scan->list);
    if (status != 0) {
        return kv_wal_scan_io_error(scan, status, "list", "wal");
    }
    if (scan->list.no_memory) {
        return kv_wal_scan_no_memory(scan);
    }
    if (scan->list.n > 0) {
        qsort(scan->list.names, scan->list.n, sizeof scan->list.names[0], compare_names);
    }
    for (scan->at = 1; scan->at < scan->list.n; scan->at++) {
        const struct kv_wal_name *name = &scan->list.names[scan->at];

        if (name->number == name[-1].number) {
            return kv_wal_scan_damaged(
                scan, "another segment has the same number: one of them is a copy");
        }
        if (name->number != name[-1].number + 1) {
            return kv_wal_scan_missing(scan, name[-1].number + 1);
        }
    }
    return 0;
}

/* ---------------------------------------------------------------- where the log begins */

/* Reads the head of the segment at scan->at. 1: it has one, 0: it has none. */
static int read_head(struct kv_wal_scan *scan, struct kv_wal_segment_head *ret_head)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    const struct kv_wal_name *name = &scan->list.names[scan->at];
    struct kv_wal_segment *segment = kv_wal_segment_new(name->first_index, name->number, 0, 0);
    uint64_t want = kv_wal_record_size(KV_WAL_SEGMENT_HEAD_BYTES);
    struct kv_wal_record record;
    int status;

    if (!segment) {
        return kv_wal_scan_no_memory(scan);
    }
    status = kv_wal_scan_open_segment(scan, segment);
    if (status == 0 && scan->size >= want) {
        scan->size = want;
        status = kv_wal_scan_read_front(scan, segment, want);
        status = status == 0 ? kv_wal_scan_decode_head(scan, &record, ret_head) : status;
    }
    if (segment->file) {
        disk->ops->close(disk->disk, segment->file);
    }
    free(segment);
    return status;
}

/* The newest head tells whose the log is and where it begins; the last segment may have none yet.
 */
static int find_first(struct kv_wal_scan *scan)
{
    struct kv_wal *wal = scan->wal;
    struct kv_wal_segment_head head;
    int status = 0;

    for (size_t back = 1; back <= 2 && back <= scan->list.n && status == 0; back++) {
        scan->at = scan->list.n - back;
        status = read_head(scan, &head);
    }
    if (status <= 0) {
        return status == 0 ? kv_wal_scan_damaged(scan, "its head is not readable") : status;
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

/* ---------------------------------------------------------------- repairs */

/* Zeroes what is left of a torn write, so that it can never be taken for something. */
static int zero_torn(struct kv_wal_scan *scan, const struct kv_wal_segment *segment)
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
            return kv_wal_scan_io_error(scan, status, "zero the torn end of", segment->name);
        }
        offset += piece;
    }
    return 0;
}

/* Writes again what may be in memory alone and marked as clean. */
static int rewrite_tails(struct kv_wal_scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;

    for (size_t i = 0; i < 2; i++) {
        const struct kv_wal_tail *tail = &scan->tails[i];
        const struct kv_wal_segment *segment;
        int status;

        if (!tail->data) {
            continue;
        }
        KV_REACHED("wal-rewrites-end");
        segment = scan->wal->segments[tail->segment];
        status = disk->ops->pwrite(disk->disk, segment->file, tail->data, tail->size, tail->offset);
        if (status != 0) {
            return kv_wal_scan_io_error(scan, status, "write again the end of", segment->name);
        }
    }
    return 0;
}

/* What was read may be in memory alone, if the process that wrote it was killed: it counts only
 * once it is on disk. */
static int sync_all(struct kv_wal_scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;

    for (size_t i = 0; i < scan->wal->n_segments; i++) {
        const struct kv_wal_segment *segment = scan->wal->segments[i];
        int status = disk->ops->datasync(disk->disk, segment->file);

        if (status != 0) {
            return kv_wal_scan_io_error(scan, status, "sync", segment->name);
        }
    }
    return 0;
}

static int remove_file(struct kv_wal_scan *scan, const char *name)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    int status = disk->ops->unlink(disk->disk, name);

    return status == 0 || status == -ENOENT ? 0
                                            : kv_wal_scan_io_error(scan, status, "remove", name);
}

/* A spare is whole and zero if it is there and the log has a segment: nothing is written to it
 * before it has its name, but for the first segment. */
static int keep_spare(struct kv_wal_scan *scan)
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

static int repair(struct kv_wal_scan *scan)
{
    const struct kv_disk *disk = &scan->wal->options.disk;
    char name[KV_WAL_NAME_BYTES];
    int status = 0;

    if (scan->torn_bytes > 0) {
        KV_REACHED("wal-torn");
        status = zero_torn(scan, kv_wal_last_segment(scan->wal));
    }
    if (status == 0) {
        status = rewrite_tails(scan);
    }
    if (status == 0) {
        status = sync_all(scan);
    }
    if (status == 0 && scan->has_unborn) {
        KV_REACHED("wal-unborn");
        status = remove_file(scan, kv_wal_scan_name_at(scan, scan->list.n - 1, name));
    }
    for (size_t i = 0; i < scan->first && status == 0; i++) {
        status = remove_file(scan, kv_wal_scan_name_at(scan, i, name));
    }
    if (status == 0) {
        status = keep_spare(scan);
    }
    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, "wal");
        status = status == 0 ? 0 : kv_wal_scan_io_error(scan, status, "sync", "wal");
    }
    return status;
}

/* Numbers of records that were lost are not used again. */
static void set_end(struct kv_wal_scan *scan)
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
    struct kv_wal_scan scan = {.wal = wal, .ret_error = ret_error};
    int status = list_segments(&scan);

    if (status == 0 && scan.list.n > 0) {
        status = find_first(&scan);
        if (status == 0) {
            status = kv_wal_scan_all(&scan);
        }
    }
    if (status == 0) {
        status = repair(&scan);
    }
    if (status == 0 && scan.list.n > 0) {
        set_end(&scan);
    } else {
        wal->recovered.first_index = 1;
    }
    free(scan.tails[0].data);
    free(scan.tails[1].data);
    free(scan.data);
    free(scan.list.names);
    return status;
}
