/* Segments and their files: the list, the points by which entries are found, the spare segment that
 * is zero-filled ahead, release and recycling. */
#include "common/assert.h"
#include "common/reached.h"
#include "raft/wal_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct kv_wal_segment *
kv_wal_segment_new(uint64_t first_index, uint64_t number, uint64_t file_bytes, uint64_t log_seed)
{
    struct kv_wal_segment *segment = calloc(1, sizeof *segment);

    if (segment) {
        segment->first_index = first_index;
        segment->number = number;
        segment->file_bytes = file_bytes;
        segment->seed = kv_wal_segment_seed(log_seed, number);
        kv_wal_segment_name(segment->name, first_index, number);
    }
    return segment;
}

struct kv_wal_segment *kv_wal_last_segment(const struct kv_wal *wal)
{
    return wal->n_segments ? wal->segments[wal->n_segments - 1] : NULL;
}

int kv_wal_segments_push(struct kv_wal *wal, struct kv_wal_segment *segment)
{
    if (wal->n_segments == wal->segments_capacity) {
        size_t capacity = wal->segments_capacity ? wal->segments_capacity * 2 : 16;
        struct kv_wal_segment **segments = realloc(wal->segments, capacity * sizeof *segments);

        if (!segments) {
            return KV_NO_MEMORY;
        }
        wal->segments = segments;
        wal->segments_capacity = capacity;
    }
    wal->segments[wal->n_segments++] = segment;
    return 0;
}

static void free_segment(struct kv_wal *wal, struct kv_wal_segment *segment)
{
    if (segment && segment->file) {
        wal->options.disk.ops->close(wal->options.disk.disk, segment->file);
    }
    free(segment);
}

void kv_wal_segments_free(struct kv_wal *wal)
{
    for (size_t i = 0; i < wal->n_segments; i++) {
        free_segment(wal, wal->segments[i]);
    }
    free_segment(wal, wal->chore.old);
    if (wal->chore.file) {
        wal->options.disk.ops->close(wal->options.disk.disk, wal->chore.file);
    }
    free(wal->segments);
    free(wal->points);
}

/* ---------------------------------------------------------------- points */

int kv_wal_point_note(struct kv_wal *wal, uint64_t index, uint64_t offset)
{
    const struct kv_wal_point *last = wal->n_points ? &wal->points[wal->n_points - 1] : NULL;
    struct kv_wal_segment *segment = kv_wal_last_segment(wal);

    if (last && last->segment == segment && !wal->was_truncated &&
        offset - last->offset < KV_WAL_POINT_BYTES) {
        return 0;
    }
    if (wal->n_points == wal->points_capacity) {
        size_t capacity = wal->points_capacity ? wal->points_capacity * 2 : 64;
        struct kv_wal_point *points = realloc(wal->points, capacity * sizeof *points);

        if (!points) {
            return KV_NO_MEMORY;
        }
        wal->points = points;
        wal->points_capacity = capacity;
    }
    wal->points[wal->n_points++] =
        (struct kv_wal_point){index, offset, segment, wal->was_truncated};
    wal->was_truncated = false;
    return 0;
}

void kv_wal_points_truncate(struct kv_wal *wal, uint64_t index)
{
    while (wal->n_points > 0 && wal->points[wal->n_points - 1].index >= index) {
        wal->n_points--;
    }
    wal->was_truncated = true;
}

static void drop_points_before(struct kv_wal *wal, uint64_t number)
{
    size_t n = 0;

    while (n < wal->n_points && wal->points[n].segment->number < number) {
        n++;
    }
    if (n > 0) {
        wal->n_points -= n;
        memmove(wal->points, wal->points + n, wal->n_points * sizeof *wal->points);
    }
}

/* ---------------------------------------------------------------- chores, on the file worker */

static int begin_spare(struct kv_wal_chore *chore)
{
    const struct kv_wal *wal = chore->wal;
    const struct kv_disk *disk = &wal->options.disk;
    struct kv_file *old_file = chore->old ? chore->old->file : NULL;
    int status = 0;

    chore->offset = 0;
    chore->is_fatal = chore->old != NULL;
    if (chore->old) {
        chore->old->file = NULL;
        disk->ops->close(disk->disk, old_file);
        /* Its name is gone for good before it is overwritten. */
        status = disk->ops->rename(disk->disk, chore->old->name, KV_WAL_SPARE_UNFINISHED);
        if (status == 0) {
            status = disk->ops->sync_dir(disk->disk, "wal");
        }
        chore->is_fatal = status != 0;
    } else if (!chore->urgent) {
        int64_t free_bytes = disk->ops->free_bytes(disk->disk);

        /* What is short is left to those who need it now. */
        if (free_bytes < (int64_t)(wal->segment_bytes + KV_DISK_RESERVE_BYTES)) {
            status = free_bytes < 0 ? (int)free_bytes : -ENOSPC;
        }
    }
    if (status == 0) {
        status = disk->ops->open(
            disk->disk, KV_WAL_SPARE_UNFINISHED, KV_DISK_WRITE | KV_DISK_CREATE, &chore->file);
    }
    return status;
}

static int fill_slice(struct kv_wal_chore *chore)
{
    static const uint8_t zeros[KV_WAL_SLICE_BYTES];
    const struct kv_disk *disk = &chore->wal->options.disk;
    uint64_t left = chore->wal->segment_bytes - chore->offset;
    size_t size = (size_t)(left < sizeof zeros ? left : sizeof zeros);
    int status = disk->ops->pwrite(disk->disk, chore->file, zeros, size, chore->offset);

    chore->offset += size;
    return status == 0 ? disk->ops->datasync(disk->disk, chore->file) : status;
}

static int finish_spare(struct kv_wal_chore *chore)
{
    const struct kv_disk *disk = &chore->wal->options.disk;
    int status = disk->ops->sync(disk->disk, chore->file);

    disk->ops->close(disk->disk, chore->file);
    chore->file = NULL;
    if (status == 0) {
        status = disk->ops->rename(disk->disk, KV_WAL_SPARE_UNFINISHED, KV_WAL_SPARE);
    }
    return status == 0 ? disk->ops->sync_dir(disk->disk, "wal") : status;
}

/* In slices, so that reads of old entries pass between, and the log's own syncs wait little. */
static void run_slice(struct kv_job *job)
{
    struct kv_wal_chore *chore = (struct kv_wal_chore *)job;
    const struct kv_disk *disk = &chore->wal->options.disk;

    chore->status = chore->file ? 0 : begin_spare(chore);
    if (chore->status == 0) {
        chore->status = fill_slice(chore);
    }
    if (chore->status == 0 && chore->offset == chore->wal->segment_bytes) {
        chore->status = finish_spare(chore);
    }
    if (chore->status != 0) {
        if (chore->file) {
            disk->ops->close(disk->disk, chore->file);
            chore->file = NULL;
        }
        /* Half a spare must not hold the space that is short; recovery removes it, too. */
        (void)disk->ops->unlink(disk->disk, KV_WAL_SPARE_UNFINISHED);
    }
}

static void run_remove(struct kv_job *job)
{
    struct kv_wal_chore *chore = (struct kv_wal_chore *)job;
    const struct kv_disk *disk = &chore->wal->options.disk;

    chore->status = disk->ops->unlink(disk->disk, chore->old->name);
    disk->ops->close(disk->disk, chore->old->file);
    chore->old->file = NULL;
    if (chore->status == 0) {
        chore->status = disk->ops->sync_dir(disk->disk, "wal");
    }
}

/* ---------------------------------------------------------------- chores, on the core */

static bool spare_is_awaited(const struct kv_wal *wal)
{
    return !wal->batch_under_way && wal->first_batch && wal->first_batch->begins;
}

/* A log that never began has nothing that waiting for room would keep: its node says so and ends.
 */
static bool may_wait_for_room(const struct kv_wal *wal, int status)
{
    return (status == -ENOSPC || status == -EDQUOT) && wal->first_batch->former;
}

static void spare_failed(struct kv_wal *wal, int status, bool urgent)
{
    KV_REACHED("wal-spare-failed");
    if (!spare_is_awaited(wal)) {
        wal->spare = KV_WAL_SPARE_FAILED;
    } else if (!urgent) {
        wal->spare = KV_WAL_SPARE_NONE;
    } else if (may_wait_for_room(wal, status)) {
        wal->spare = KV_WAL_SPARE_NO_ROOM;
        kv_wal_hasten_release(wal);
    } else {
        kv_wal_die(wal, status, "zero-filling", KV_WAL_SPARE_UNFINISHED);
    }
}

static void chore_done(struct kv_job *job)
{
    struct kv_wal_chore *chore = (struct kv_wal_chore *)job;
    struct kv_wal *wal = chore->wal;

    chore->under_way = false;
    free_segment(wal, chore->old);
    chore->old = NULL;
    if (chore->status != 0 && (chore->kind == KV_WAL_CHORE_REMOVE || chore->is_fatal)) {
        kv_wal_die(wal, chore->status, "removing an old segment in", "wal");
        return;
    }
    if (chore->status != 0) {
        spare_failed(wal, chore->status, chore->urgent);
    } else if (chore->kind == KV_WAL_CHORE_SLICE && !chore->file) {
        wal->spare = KV_WAL_SPARE_READY;
        kv_wal_flush(wal);
    }
    kv_wal_chores(wal);
}

static void
submit_chore(struct kv_wal *wal, enum kv_wal_chore_kind kind, struct kv_wal_segment *old)
{
    struct kv_wal_chore *chore = &wal->chore;

    chore->wal = wal;
    chore->kind = kind;
    chore->old = old;
    chore->urgent = spare_is_awaited(wal);
    chore->under_way = true;
    chore->job.run = kind == KV_WAL_CHORE_SLICE ? run_slice : run_remove;
    chore->job.done = chore_done;
    wal->options.file_worker.ops->submit(wal->options.file_worker.worker, &chore->job);
}

/* The oldest segment may go: it is released, that is on disk, and nobody reads it. */
static bool oldest_may_go(const struct kv_wal *wal)
{
    return wal->n_segments > 1 && wal->segments[0]->number < wal->oldest_number &&
           wal->segments[0]->n_reads == 0 && wal->synced_record >= wal->release_record;
}

static struct kv_wal_segment *take_oldest(struct kv_wal *wal)
{
    struct kv_wal_segment *old = wal->segments[0];

    wal->n_segments--;
    memmove(wal->segments, wal->segments + 1, wal->n_segments * sizeof(struct kv_wal_segment *));
    return old;
}

static bool may_recycle_oldest(const struct kv_wal *wal)
{
    return oldest_may_go(wal) && wal->segments[0]->file_bytes == wal->segment_bytes;
}

void kv_wal_chores(struct kv_wal *wal)
{
    if (wal->chore.under_way || wal->is_dead) {
        return;
    }
    if (wal->spare == KV_WAL_SPARE_NO_ROOM && may_recycle_oldest(wal)) {
        wal->spare = KV_WAL_SPARE_NONE;
    }
    if (wal->spare == KV_WAL_SPARE_MAKING) {
        submit_chore(wal, KV_WAL_CHORE_SLICE, NULL);
    } else if (wal->spare == KV_WAL_SPARE_NONE) {
        wal->spare = KV_WAL_SPARE_MAKING;
        submit_chore(wal, KV_WAL_CHORE_SLICE, may_recycle_oldest(wal) ? take_oldest(wal) : NULL);
    } else if (oldest_may_go(wal) && (wal->segments[1]->number < wal->oldest_number ||
                                      wal->segments[0]->file_bytes != wal->segment_bytes)) {
        /* The newest of the released waits to become the next spare. */
        submit_chore(wal, KV_WAL_CHORE_REMOVE, take_oldest(wal));
    }
}

/* Is nothing in segment i needed when entries up to index are not? */
static bool is_behind(const struct kv_wal *wal, size_t i, uint64_t index)
{
    return wal->segments[i + 1]->first_index <= index + 1 ||
           (wal->segments[i]->number < wal->boundary_number && wal->boundary_index <= index);
}

void kv_wal_forget_released(struct kv_wal *wal)
{
    for (size_t i = 0; i < wal->n_segments; i++) {
        const struct kv_wal_segment *segment = wal->segments[i];

        /* A segment that began before the boundary did so at an index that says nothing now. */
        if (segment->number == wal->oldest_number && segment->number > wal->boundary_number &&
            wal->first_index < segment->first_index) {
            wal->first_index = segment->first_index;
        }
    }
    drop_points_before(wal, wal->oldest_number);
}

void kv_wal_release(struct kv_wal *wal, uint64_t index)
{
    size_t n = 0;

    if (wal->is_dead) {
        return;
    }
    /* What stays begins with a segment whose head is on disk. */
    while (n + 1 < wal->n_segments && wal->segments[n + 1]->is_placed && is_behind(wal, n, index)) {
        n++;
    }
    if (n > 0 && wal->segments[n]->number > wal->oldest_number) {
        wal->release_record = kv_wal_write_synced(wal, wal->segments[n]->number);
        kv_wal_forget_released(wal);
        kv_wal_flush(wal);
        kv_wal_hasten_release(wal);
    }
    kv_wal_chores(wal);
}
