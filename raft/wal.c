#include "raft/wal.h"

#include "common/assert.h"
#include "raft/wal_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ZERO_PIECE_BYTES = 1024 * 1024, IDLE_MS = 1000 };
#define SPARE "wal/spare"
#define SPARE_UNFINISHED "wal/spare.tmp"
#define ROLL_UNFINISHED "wal/roll.tmp"
/* A segment always keeps room for the record that names the next. */
#define NEXT_BYTES KV_WAL_RECORD_HEADER_BYTES

struct kv_wal_segment *
kv_wal_segment_new(uint64_t first_index, uint64_t number, uint64_t file_bytes)
{
    struct kv_wal_segment *segment = calloc(1, sizeof *segment);

    if (segment) {
        segment->first_index = first_index;
        segment->number = number;
        segment->file_bytes = file_bytes;
        kv_wal_segment_name(segment->name, first_index, number);
    }
    return segment;
}

int kv_wal_segments_push(struct kv_wal *wal, struct kv_wal_segment *segment)
{
    if (wal->n_segments == wal->segments_capacity) {
        size_t capacity = wal->segments_capacity ? wal->segments_capacity * 2 : 16;
        struct kv_wal_segment **segments =
            realloc(wal->segments, capacity * sizeof(struct kv_wal_segment *));

        if (!segments) {
            return KV_NO_MEMORY;
        }
        wal->segments = segments;
        wal->segments_capacity = capacity;
    }
    wal->segments[wal->n_segments++] = segment;
    return 0;
}

static struct kv_wal_segment *last_segment(const struct kv_wal *wal)
{
    return wal->n_segments ? wal->segments[wal->n_segments - 1] : NULL;
}

int kv_wal_point_note(struct kv_wal *wal, uint64_t index, uint64_t offset)
{
    const struct kv_wal_point *last = wal->n_points ? &wal->points[wal->n_points - 1] : NULL;
    struct kv_wal_segment *segment = last_segment(wal);

    if (last && last->segment == segment && !wal->truncated &&
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
    wal->points[wal->n_points++] = (struct kv_wal_point){index, offset, segment, wal->truncated};
    wal->truncated = false;
    return 0;
}

void kv_wal_points_truncate(struct kv_wal *wal, uint64_t index)
{
    while (wal->n_points > 0 && wal->points[wal->n_points - 1].index >= index) {
        wal->n_points--;
    }
    wal->truncated = true;
}

void kv_wal_die(struct kv_wal *wal, int errnum, const char *what)
{
    struct kv_error error;

    if (wal->dead) {
        return;
    }
    wal->dead = true;
    (void)!kv_error_set(&error,
                        KV_IO,
                        "the log in %s failed: %s: %s; the node stops, since what is on disk is "
                        "uncertain after a failed "
                        "write or sync: check the disk, then start it again",
                        wal->options.disk.name,
                        what,
                        strerror(errnum < 0 ? -errnum : errnum));
    wal->options.ops->failed(wal->options.arg, &error);
}

/* ---------------------------------------------------------------- files, on the workers */

int kv_wal_zero_file(const struct kv_disk *disk, const char *path, uint64_t size, bool exists)
{
    static const uint8_t zeros[ZERO_PIECE_BYTES];
    struct kv_file *file;
    int status =
        disk->ops->open(disk->disk, path, KV_DISK_WRITE | (exists ? 0 : KV_DISK_CREATE), &file);

    if (status != 0) {
        return status;
    }
    for (uint64_t offset = 0; offset < size && status == 0; offset += ZERO_PIECE_BYTES) {
        uint64_t piece = size - offset < ZERO_PIECE_BYTES ? size - offset : ZERO_PIECE_BYTES;

        status = disk->ops->pwrite(disk->disk, file, zeros, (size_t)piece, offset);
    }
    if (status == 0) {
        status = disk->ops->sync(disk->disk, file);
    }
    disk->ops->close(disk->disk, file);
    return status;
}

/* Brings a new segment into place: from here on its name is on disk. */
static int place_segment(const struct kv_disk *disk, struct kv_wal_segment *segment, bool use_spare)
{
    const char *from = SPARE;
    int status = 0;

    if (!use_spare) {
        from = ROLL_UNFINISHED;
        status = kv_wal_zero_file(disk, from, segment->file_bytes, false);
    }
    if (status == 0) {
        status = disk->ops->rename(disk->disk, from, segment->name);
    }
    if (status == 0) {
        status = disk->ops->sync_dir(disk->disk, "wal");
    }
    if (status == 0) {
        status = disk->ops->open(disk->disk, segment->name, KV_DISK_WRITE, &segment->file);
    }
    return status;
}

static int run_roll(struct kv_wal_job *job, const struct kv_wal_op *op)
{
    const struct kv_disk *disk = &job->wal->options.disk;
    int status = place_segment(disk, op->segment, op->use_spare);

    if (status != 0 || !op->former) {
        return status;
    }
    /* The former segment is whole on disk before the first record of the new one is written. */
    status = disk->ops->pwrite(
        disk->disk, op->former->file, job->data.data + op->data_offset, op->size, op->file_offset);
    return status == 0 ? disk->ops->datasync(disk->disk, op->former->file) : status;
}

static void run_job(struct kv_job *base)
{
    struct kv_wal_job *job = (struct kv_wal_job *)base;
    const struct kv_disk *disk = &job->wal->options.disk;
    const struct kv_wal_segment *segment = NULL;

    job->status = 0;
    for (size_t i = 0; i < job->n_ops && job->status == 0; i++) {
        const struct kv_wal_op *op = &job->ops[i];

        segment = op->segment;
        if (op->type == KV_WAL_OP_ROLL) {
            job->status = run_roll(job, op);
        } else {
            job->status = disk->ops->pwrite(disk->disk,
                                            segment->file,
                                            job->data.data + op->data_offset,
                                            op->size,
                                            op->file_offset);
        }
    }
    if (job->status == 0 && segment) {
        job->status = disk->ops->datasync(disk->disk, segment->file);
    }
    if (job->status != 0 && segment) {
        snprintf(job->failed, sizeof job->failed, "writing %s", segment->name);
    }
}

static void run_file_job(struct kv_job *base)
{
    struct kv_wal_file_job *job = (struct kv_wal_file_job *)base;
    const struct kv_disk *disk = &job->wal->options.disk;
    bool recycle = job->make_spare && job->old && job->old->file_bytes == job->wal->segment_bytes;

    job->status = 0;
    if (job->old && recycle) {
        job->status = disk->ops->rename(disk->disk, job->old->name, SPARE_UNFINISHED);
    } else if (job->old) {
        job->status = disk->ops->unlink(disk->disk, job->old->name);
    }
    if (job->old && job->status == 0) {
        job->status = disk->ops->sync_dir(disk->disk, "wal");
    }
    if (job->make_spare && job->status == 0) {
        job->status = kv_wal_zero_file(disk, SPARE_UNFINISHED, job->wal->segment_bytes, recycle);
    }
    if (job->make_spare && job->status == 0) {
        job->status = disk->ops->rename(disk->disk, SPARE_UNFINISHED, SPARE);
    }
}

/* ---------------------------------------------------------------- jobs, on the core */

static void submit_file_job(struct kv_wal *wal, struct kv_wal_segment *old, bool make_spare);

static void file_job_done(struct kv_job *base)
{
    struct kv_wal_file_job *job = (struct kv_wal_file_job *)base;
    struct kv_wal *wal = job->wal;

    wal->file_job_under_way = false;
    if (job->old) {
        if (job->old->file) {
            wal->options.disk.ops->close(wal->options.disk.disk, job->old->file);
        }
        free(job->old);
        job->old = NULL;
    }
    /* A spare that could not be made is no harm: the roll makes its own, and says what is wrong if
     * it cannot. */
    if (job->make_spare && job->status == 0) {
        wal->spare_ready = true;
    }
}

static void submit_file_job(struct kv_wal *wal, struct kv_wal_segment *old, bool make_spare)
{
    KV_ASSERT(!wal->file_job_under_way);
    wal->file_job_under_way = true;
    wal->file_job.job.run = run_file_job;
    wal->file_job.job.done = file_job_done;
    wal->file_job.wal = wal;
    wal->file_job.old = old;
    wal->file_job.make_spare = make_spare;
    wal->options.file_worker.ops->submit(wal->options.file_worker.worker, &wal->file_job.job);
}

static struct kv_wal_job *gathering(struct kv_wal *wal)
{
    return &wal->jobs[wal->gathering];
}

static void job_done(struct kv_job *base)
{
    struct kv_wal_job *job = (struct kv_wal_job *)base;
    struct kv_wal *wal = job->wal;

    wal->job_under_way = false;
    if (job->status != 0) {
        kv_wal_die(wal, job->status, job->failed);
        return;
    }
    wal->stats.syncs++;
    wal->stats.bytes_written += job->data.size;
    wal->synced_record = job->last_record;
    wal->synced_sequence = job->last_sequence;
    wal->written_index = job->last_index;
    kv_buf_clear(&job->data);
    job->n_ops = 0;
    if (job->takes_spare) {
        wal->spare_taken = job->takes_spare = false;
    }
    if (!wal->spare_ready && !wal->spare_taken && !wal->file_job_under_way) {
        submit_file_job(wal, NULL, true);
    }
    kv_wal_flush(wal);
    wal->options.ops->synced(wal->options.arg, wal->synced_sequence);
}

void kv_wal_flush(struct kv_wal *wal)
{
    struct kv_wal_job *job = gathering(wal);

    if (wal->job_under_way || job->n_ops == 0 || wal->dead) {
        return;
    }
    wal->job_under_way = true;
    wal->gathering = !wal->gathering;
    job->job.run = run_job;
    job->job.done = job_done;
    wal->options.log_worker.ops->submit(wal->options.log_worker.worker, &job->job);
}

/* ---------------------------------------------------------------- records */

/* Out of memory here would lose what the core believes to be queued. */
static void must(int status)
{
    KV_ASSERT(status == 0);
}

static struct kv_wal_op *
add_op(struct kv_wal_job *job, enum kv_wal_op_type type, struct kv_wal_segment *segment)
{
    if (job->n_ops == job->ops_capacity) {
        size_t capacity = job->ops_capacity ? job->ops_capacity * 2 : 16;
        struct kv_wal_op *ops = realloc(job->ops, capacity * sizeof *ops);

        KV_ASSERT(ops);
        job->ops = ops;
        job->ops_capacity = capacity;
    }
    job->ops[job->n_ops] =
        (struct kv_wal_op){.type = type, .segment = segment, .data_offset = job->data.size};
    return &job->ops[job->n_ops++];
}

/* Encodes a record at the log's end into the job's buffer. */
static uint64_t encode(struct kv_wal *wal, struct kv_wal_record *record)
{
    struct kv_wal_job *job = gathering(wal);
    uint64_t size = kv_wal_record_size(record->body.size);
    uint8_t *p = kv_buf_reserve(&job->data, (size_t)size);

    KV_ASSERT(p);
    record->link = wal->link;
    record->sequence = wal->next_record++;
    record->synced_through = wal->synced_record;
    wal->link = kv_wal_record_encode(p, record);
    job->data.size += (size_t)size;
    job->last_record = record->sequence;
    return size;
}

/* Writes to the segment end extend the last op when they follow it. */
static void append_record(struct kv_wal *wal, struct kv_wal_record *record)
{
    struct kv_wal_job *job = gathering(wal);
    struct kv_wal_op *op = job->n_ops ? &job->ops[job->n_ops - 1] : NULL;
    uint64_t size;

    if (!op || op->type != KV_WAL_OP_WRITE || op->segment != last_segment(wal)) {
        op = add_op(job, KV_WAL_OP_WRITE, last_segment(wal));
        op->file_offset = wal->position;
    }
    size = encode(wal, record);
    op->size += (size_t)size;
    wal->position += size;
}

void kv_wal_write_head(struct kv_wal *wal, uint64_t first_index)
{
    uint8_t body[KV_WAL_SEGMENT_HEAD_BYTES];
    const struct kv_wal_segment *segment = last_segment(wal);
    struct kv_wal_record record = {
        .type = KV_WAL_SEGMENT, .index = first_index, .body = {body, sizeof body}};

    kv_wal_segment_head_encode(body,
                               &(struct kv_wal_segment_head){
                                   .format_version = 1,
                                   .cluster_id = wal->options.cluster_id,
                                   .node_id = wal->options.node_id,
                                   .number = segment->number,
                                   .term = wal->term,
                                   .voted_for = wal->voted_for,
                                   .boundary_index = wal->boundary_index,
                                   .boundary_term = wal->boundary_term,
                                   .segment_bytes = segment->file_bytes,
                               });
    append_record(wal, &record);
}

/* Goes on in a new segment whose first entry, if any comes, is first_index. */
static void roll(struct kv_wal *wal, uint64_t first_index)
{
    struct kv_wal_segment *former = last_segment(wal);
    uint64_t number = former ? former->number + 1 : 1;
    struct kv_wal_segment *segment = kv_wal_segment_new(first_index, number, wal->segment_bytes);
    struct kv_wal_op *op;

    KV_ASSERT(segment);
    op = add_op(gathering(wal), KV_WAL_OP_ROLL, segment);
    op->former = former;
    op->use_spare = wal->spare_ready;
    if (wal->spare_ready) {
        wal->spare_ready = false;
        wal->spare_taken = gathering(wal)->takes_spare = true;
    }
    if (former) {
        struct kv_wal_record record = {.type = KV_WAL_NEXT, .index = number};

        op->file_offset = wal->position;
        op->size = (size_t)encode(wal, &record);
    }
    must(kv_wal_segments_push(wal, segment));
    wal->position = 0;
    wal->stats.segments++;
    kv_wal_write_head(wal, first_index);
}

/* Makes room for a record with such a body. */
static void make_room(struct kv_wal *wal, size_t body_size, uint64_t first_index)
{
    uint64_t size = kv_wal_record_size(body_size);

    if (!last_segment(wal) || wal->position + size + NEXT_BYTES > last_segment(wal)->file_bytes) {
        roll(wal, first_index);
    }
    KV_ASSERT(wal->position + size + NEXT_BYTES <= last_segment(wal)->file_bytes);
}

static void
write_simple(struct kv_wal *wal, enum kv_wal_record_type type, uint64_t index, uint64_t term)
{
    struct kv_wal_record record = {.type = type, .index = index, .term = term};

    make_room(wal, 0, wal->last_index + 1);
    append_record(wal, &record);
}

static uint64_t written(struct kv_wal *wal)
{
    uint64_t sequence = wal->next_sequence++;

    gathering(wal)->last_sequence = sequence;
    gathering(wal)->last_index = wal->last_index;
    return sequence;
}

uint64_t kv_wal_write_vote(struct kv_wal *wal, uint64_t term, uint64_t voted_for)
{
    if (!wal->dead) {
        KV_ASSERT(term >= wal->term);
        wal->term = term;
        wal->voted_for = voted_for;
        write_simple(wal, KV_WAL_VOTE, voted_for, term);
    }
    return written(wal);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Entries from index on are void; those that a job under way still writes, too. */
static void forget_from(struct kv_wal *wal, uint64_t index)
{
    wal->last_index = index - 1;
    wal->written_index = least(wal->written_index, index - 1);
    wal->jobs[0].last_index = least(wal->jobs[0].last_index, index - 1);
    wal->jobs[1].last_index = least(wal->jobs[1].last_index, index - 1);
    kv_wal_points_truncate(wal, index);
}

uint64_t kv_wal_write_entries(struct kv_wal *wal,
                              uint64_t first_index,
                              const struct kv_wal_entry *entries,
                              size_t n_entries)
{
    KV_ASSERT(first_index <= wal->last_index + 1);
    if (first_index <= wal->last_index && !wal->dead) {
        KV_ASSERT(first_index >= wal->first_index);
        forget_from(wal, first_index);
        write_simple(wal, KV_WAL_TRUNCATE, first_index, 0);
    }
    for (size_t i = 0; i < n_entries && !wal->dead; i++) {
        struct kv_wal_record record = {
            .type = KV_WAL_ENTRY,
            .entry_type = entries[i].type,
            .index = first_index + i,
            .term = entries[i].term,
            .body = entries[i].data,
        };

        make_room(wal, record.body.size, record.index);
        must(kv_wal_point_note(wal, record.index, wal->position));
        append_record(wal, &record);
        wal->last_index = record.index;
    }
    return written(wal);
}

uint64_t kv_wal_write_boundary(struct kv_wal *wal, uint64_t index, uint64_t term)
{
    if (!wal->dead) {
        wal->boundary_index = index;
        wal->boundary_term = term;
        forget_from(wal, 1);
        wal->first_index = index + 1;
        wal->last_index = index;
        write_simple(wal, KV_WAL_BOUNDARY, index, term);
    }
    return written(wal);
}

void kv_wal_tick(struct kv_wal *wal, uint64_t now_ms)
{
    if (wal->dead || !kv_wal_is_idle(wal) || wal->next_record != wal->tick_record) {
        wal->tick_record = wal->next_record;
        wal->idle_since_ms = now_ms;
        return;
    }
    /* The last record vouches for all before it once; it needs no vouching itself. */
    if (now_ms - wal->idle_since_ms >= IDLE_MS && wal->idle_since_ms != UINT64_MAX) {
        wal->idle_since_ms = UINT64_MAX;
        write_simple(wal, KV_WAL_SYNCED, 0, 0);
        wal->tick_record = wal->next_record;
        (void)written(wal);
        kv_wal_flush(wal);
    }
}

void kv_wal_release(struct kv_wal *wal, uint64_t index)
{
    struct kv_wal_segment *old;

    /* One at a time, oldest first: a crash in between leaves a log without holes. */
    if (wal->file_job_under_way || wal->n_reads > 0 || wal->dead || wal->n_segments < 2 ||
        wal->segments[1]->first_index > index + 1 || wal->job_under_way) {
        return;
    }
    old = wal->segments[0];
    memmove(
        wal->segments, wal->segments + 1, (wal->n_segments - 1) * sizeof(struct kv_wal_segment *));
    wal->n_segments--;
    wal->stats.segments--;
    for (size_t i = 0; i < wal->n_points; i++) {
        if (wal->points[i].segment != old) {
            memmove(wal->points, wal->points + i, (wal->n_points - i) * sizeof *wal->points);
            wal->n_points -= i;
            break;
        }
    }
    wal->first_index = wal->segments[0]->first_index;
    submit_file_job(wal, old, !wal->spare_ready && !wal->spare_taken);
}

/* ---------------------------------------------------------------- life */

int kv_wal_open(const struct kv_wal_options *options,
                struct kv_wal **ret_wal,
                struct kv_error *ret_error)
{
    struct kv_wal *wal = calloc(1, sizeof *wal);
    int status;

    if (!wal) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the log");
    }
    wal->options = *options;
    wal->segment_bytes = options->segment_bytes ? options->segment_bytes : KV_WAL_SEGMENT_BYTES;
    wal->next_sequence = 1;
    wal->next_record = 1;
    wal->first_index = 1;
    for (int i = 0; i < 2; i++) {
        wal->jobs[i].wal = wal;
        kv_buf_init(&wal->jobs[i].data, 4 * KV_WAL_QUEUE_BYTES_MAX);
    }
    status = kv_wal_recover(wal, ret_error);
    if (status != 0) {
        kv_wal_close(wal);
        return status;
    }
    *ret_wal = wal;
    return 0;
}

void kv_wal_close(struct kv_wal *wal)
{
    if (!wal) {
        return;
    }
    for (size_t i = 0; i < wal->n_segments; i++) {
        if (wal->segments[i]->file) {
            wal->options.disk.ops->close(wal->options.disk.disk, wal->segments[i]->file);
        }
        free(wal->segments[i]);
    }
    for (int i = 0; i < 2; i++) {
        kv_buf_deinit(&wal->jobs[i].data);
        free(wal->jobs[i].ops);
    }
    free(wal->file_job.old);
    free(wal->segments);
    free(wal->points);
    free(wal);
}

const struct kv_wal_state *kv_wal_recovered(const struct kv_wal *wal)
{
    return &wal->recovered;
}

bool kv_wal_is_full(const struct kv_wal *wal)
{
    return wal->jobs[wal->gathering].data.size >= KV_WAL_QUEUE_BYTES_MAX;
}

bool kv_wal_is_idle(const struct kv_wal *wal)
{
    return !wal->job_under_way && !wal->file_job_under_way && wal->n_reads == 0 &&
           wal->jobs[wal->gathering].n_ops == 0;
}

uint64_t kv_wal_first_index(const struct kv_wal *wal)
{
    return wal->first_index;
}

uint64_t kv_wal_last_index(const struct kv_wal *wal)
{
    return wal->last_index;
}

uint64_t kv_wal_synced_sequence(const struct kv_wal *wal)
{
    return wal->synced_sequence;
}

void kv_wal_stats(const struct kv_wal *wal, struct kv_wal_stats *ret_stats)
{
    *ret_stats = wal->stats;
    ret_stats->segments = wal->n_segments;
    ret_stats->disk_bytes = 0;
    for (size_t i = 0; i < wal->n_segments; i++) {
        ret_stats->disk_bytes += wal->segments[i]->file_bytes;
    }
}
