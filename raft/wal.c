/* Life of the log; encoding of records into batches; group commit. */
#include "raft/wal.h"

#include "common/assert.h"
#include "common/reached.h"
#include "raft/wal_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    IDLE_MS = 1000,
    SEGMENT_BYTES_MIN = 4096,
    KEPT_BATCH_BYTES = 4 * 1024 * 1024, /* a larger buffer is not kept for the next batch */
};
/* A segment always keeps room for the record that names the next, and before it for one that
 * releases older segments when there is no room for the next. */
#define NEXT_BYTES KV_WAL_RECORD_HEADER_BYTES
#define END_BYTES (2 * KV_WAL_RECORD_HEADER_BYTES)

_Static_assert(KV_ENTRY_BYTES_MAX + 16 * KV_WAL_RECORD_HEADER_BYTES < KV_WAL_SEGMENT_BYTES,
               "the largest entry fits a segment, with its head and end");

void kv_wal_die(struct kv_wal *wal, int errnum, const char *what, const char *name)
{
    struct kv_error error;

    if (wal->is_dead) {
        return;
    }
    wal->is_dead = true;
    (void)!kv_error_set(&error,
                        KV_IO,
                        "the log failed: %s %s/%s: %s; the node stops, since what is on disk is "
                        "uncertain after a failed write or sync: %s, then start it again",
                        what,
                        wal->options.disk.name,
                        name,
                        strerror(errnum < 0 ? -errnum : errnum),
                        errnum == -ENOSPC ? "make room" : "check the disk");
    wal->options.ops->failed(wal->options.arg, &error);
}

static void check_invariants(const struct kv_wal *wal)
{
    const struct kv_wal_segment *last = kv_wal_last_segment(wal);

    KV_ASSERT(wal->synced_record < wal->next_record);
    KV_ASSERT(wal->next_record - wal->synced_record < 2 * KV_WAL_SEQUENCE_SKIP);
    KV_ASSERT(wal->synced_sequence < wal->next_sequence);
    KV_ASSERT(wal->first_index <= wal->last_index + 1);
    KV_ASSERT(wal->written_index <= wal->last_index);
    KV_ASSERT(!last || wal->position + NEXT_BYTES <= last->file_bytes);
    KV_ASSERT(wal->queued_bytes > 0 || (!wal->first_batch && !wal->batch_under_way));
}

/* ---------------------------------------------------------------- a batch, on the log worker */

/* Gives the spare file the segment's name. From then on it is there after a crash. */
static int place_segment(struct kv_wal_batch *batch)
{
    const struct kv_disk *disk = &batch->wal->options.disk;
    struct kv_wal_segment *segment = batch->segment;
    int status = 0;

    batch->failed = "beginning";
    status = disk->ops->open(disk->disk, KV_WAL_SPARE, KV_DISK_WRITE, &segment->file);
    if (status == 0 && !batch->former) {
        /* The first of all: whoever finds its name finds its head. */
        status = disk->ops->pwrite(
            disk->disk, segment->file, batch->data.data, batch->data.size, batch->file_offset);
        if (status == 0) {
            status = disk->ops->datasync(disk->disk, segment->file);
        }
    }
    if (status == 0) {
        status = disk->ops->rename(disk->disk, KV_WAL_SPARE, segment->name);
    }
    return status == 0 ? disk->ops->sync_dir(disk->disk, "wal") : status;
}

/* The former segment is whole on disk, and names its successor, before the first record of that
 * one is written. */
static int end_former(struct kv_wal_batch *batch)
{
    const struct kv_disk *disk = &batch->wal->options.disk;
    struct kv_file *file = batch->former->file;
    int status = disk->ops->pwrite(
        disk->disk, file, batch->former_end, sizeof batch->former_end, batch->former_offset);

    batch->failed = "ending the segment before";
    return status == 0 ? disk->ops->datasync(disk->disk, file) : status;
}

static void run_batch(struct kv_job *job)
{
    struct kv_wal_batch *batch = (struct kv_wal_batch *)job;
    const struct kv_disk *disk = &batch->wal->options.disk;
    uint64_t (*now_ns)(void *) = disk->ops->now_ns;
    uint64_t start_ns;

    batch->status = 0;
    if (batch->begins) {
        batch->status = place_segment(batch);
        if (batch->status == 0 && batch->former) {
            batch->status = end_former(batch);
        }
    }
    if (batch->status != 0) {
        return;
    }
    batch->failed = "writing";
    batch->status = disk->ops->pwrite(
        disk->disk, batch->segment->file, batch->data.data, batch->data.size, batch->file_offset);
    if (batch->status == 0) {
        batch->failed = "syncing";
        start_ns = now_ns ? now_ns(disk->disk) : 0;
        batch->status = disk->ops->datasync(disk->disk, batch->segment->file);
        batch->sync_ns = now_ns ? now_ns(disk->disk) - start_ns : 0;
    }
}

/* ---------------------------------------------------------------- batches, on the core */

static void free_batch(struct kv_wal_batch *batch)
{
    if (batch) {
        kv_buf_deinit(&batch->data);
        free(batch);
    }
}

/* Keeps one for the next, unless it grew large. */
static void retire_batch(struct kv_wal *wal, struct kv_wal_batch *batch)
{
    wal->queued_bytes -= batch->data.size;
    if (wal->free_batch || batch->data.capacity > KEPT_BATCH_BYTES) {
        free_batch(batch);
    } else {
        wal->free_batch = batch;
    }
}

static struct kv_wal_batch *
new_batch(struct kv_wal *wal, struct kv_wal_segment *segment, uint64_t file_offset)
{
    struct kv_wal_batch *batch = wal->free_batch;
    struct kv_buf data;

    if (batch) {
        wal->free_batch = NULL;
        data = batch->data;
        kv_buf_clear(&data);
    } else {
        batch = malloc(sizeof *batch);
        kv_buf_init(&data, 4 * KV_WAL_QUEUE_BYTES_MAX);
    }
    /* Out of memory here would lose what the core believes to be queued. */
    KV_ASSERT(batch);
    *batch = (struct kv_wal_batch){
        .wal = wal,
        .segment = segment,
        .file_offset = file_offset,
        .data = data,
    };
    return batch;
}

static struct kv_wal_batch *push_batch(struct kv_wal *wal, struct kv_wal_segment *segment)
{
    struct kv_wal_batch *batch = new_batch(wal, segment, wal->position);

    if (wal->last_batch) {
        wal->last_batch->next = batch;
    } else {
        wal->first_batch = batch;
    }
    wal->last_batch = batch;
    return batch;
}

static void batch_done(struct kv_job *job)
{
    struct kv_wal_batch *batch = (struct kv_wal_batch *)job;
    struct kv_wal *wal = batch->wal;
    bool is_news;

    wal->batch_under_way = NULL;
    if (batch->status != 0) {
        kv_wal_die(wal, batch->status, batch->failed, batch->segment->name);
        retire_batch(wal, batch);
        return;
    }
    wal->stats.syncs++;
    wal->stats.bytes_written += batch->data.size;
    wal->stats.sync_ns_total += batch->sync_ns;
    if (wal->stats.sync_ns_max < batch->sync_ns) {
        wal->stats.sync_ns_max = batch->sync_ns;
    }
    wal->synced_record = batch->last_record;
    wal->written_index = batch->last_index;
    batch->segment->is_placed = true;
    if (batch->begins) {
        wal->spare = KV_WAL_SPARE_NONE;
    }
    is_news = batch->last_sequence > 0;
    if (is_news) {
        wal->synced_sequence = batch->last_sequence;
    }
    retire_batch(wal, batch);
    check_invariants(wal);
    kv_wal_flush(wal);
    kv_wal_chores(wal);
    if (is_news && !wal->is_dead) {
        wal->options.ops->synced(wal->options.arg, wal->synced_sequence);
    }
}

void kv_wal_flush(struct kv_wal *wal)
{
    struct kv_wal_batch *batch = wal->first_batch;

    if (wal->batch_under_way || !batch || wal->is_dead) {
        return;
    }
    if (batch->begins) {
        if (wal->spare != KV_WAL_SPARE_READY) {
            if (wal->spare == KV_WAL_SPARE_FAILED) {
                wal->spare = KV_WAL_SPARE_NONE;
            }
            kv_wal_chores(wal);
            return;
        }
        wal->spare = KV_WAL_SPARE_TAKEN;
    }
    wal->batch_under_way = batch;
    wal->first_batch = batch->next;
    if (!wal->first_batch) {
        wal->last_batch = NULL;
    }
    batch->job.run = run_batch;
    batch->job.done = batch_done;
    wal->options.log_worker.ops->submit(wal->options.log_worker.worker, &batch->job);
}

/* ---------------------------------------------------------------- records */

/* Encodes the log's next record at p. */
static void encode(struct kv_wal *wal, uint8_t *p, struct kv_wal_record *record, uint32_t seed)
{
    record->link = wal->link;
    record->sequence = wal->next_record++;
    record->synced_through = wal->synced_record;
    wal->link = kv_wal_record_encode(p, record, seed);
}

/* There must be room. */
static void append_record(struct kv_wal *wal, struct kv_wal_record *record)
{
    struct kv_wal_segment *segment = kv_wal_last_segment(wal);
    struct kv_wal_batch *batch = wal->last_batch;
    uint64_t size = kv_wal_record_size(record->body.size);
    uint8_t *p;

    KV_ASSERT(wal->position + size + NEXT_BYTES <= segment->file_bytes);
    if (!batch || batch->segment != segment) {
        batch = push_batch(wal, segment);
    }
    p = kv_buf_reserve(&batch->data, (size_t)size);
    KV_ASSERT(p);
    encode(wal, p, record, record->type == KV_WAL_SEGMENT ? 0 : segment->seed);
    batch->data.size += (size_t)size;
    batch->last_record = record->sequence;
    batch->last_index = wal->last_index;
    wal->queued_bytes += size;
    wal->position += size;
}

void kv_wal_write_head(struct kv_wal *wal)
{
    uint8_t body[KV_WAL_SEGMENT_HEAD_BYTES];
    const struct kv_wal_segment *segment = kv_wal_last_segment(wal);
    struct kv_wal_segment_head head = {
        .format_version = KV_WAL_FORMAT_VERSION,
        .cluster_id = wal->options.cluster_id,
        .node_id = wal->options.node_id,
        .number = segment->number,
        .oldest_number = wal->oldest_number,
        .term = wal->term,
        .voted_for = wal->voted_for,
        .boundary_index = wal->boundary_index,
        .boundary_term = wal->boundary_term,
        .segment_bytes = segment->file_bytes,
        .log_seed = wal->log_seed,
    };
    struct kv_wal_record record = {
        .type = KV_WAL_SEGMENT, .index = segment->first_index, .body = {body, sizeof body}};

    KV_ASSERT(wal->position == 0);
    kv_wal_segment_head_encode(body, &head);
    append_record(wal, &record);
}

/* Goes on in a new segment. */
static void roll(struct kv_wal *wal)
{
    struct kv_wal_segment *former = kv_wal_last_segment(wal);
    uint64_t number = former ? former->number + 1 : 1;
    struct kv_wal_segment *segment =
        kv_wal_segment_new(wal->last_index + 1, number, wal->segment_bytes, wal->log_seed);
    uint64_t end = wal->position;
    struct kv_wal_batch *batch;

    KV_ASSERT(segment && kv_wal_segments_push(wal, segment) == 0);
    KV_REACHED("wal-roll");
    wal->position = 0;
    batch = push_batch(wal, segment);
    batch->begins = true;
    if (former) {
        struct kv_wal_record record = {
            .type = KV_WAL_NEXT, .index = number, .term = wal->segment_bytes};

        batch->former = former;
        batch->former_offset = end;
        encode(wal, batch->former_end, &record, former->seed);
    }
    kv_wal_write_head(wal);
}

/* Makes room for a record with such a body. */
static void make_room(struct kv_wal *wal, size_t body_size)
{
    const struct kv_wal_segment *segment = kv_wal_last_segment(wal);

    if (!segment ||
        wal->position + kv_wal_record_size(body_size) + END_BYTES > segment->file_bytes) {
        roll(wal);
    }
}

/* The first record of a run says that all before it is on disk, and leaves out the numbers of the
 * records that were lost behind it. */
static void resume(struct kv_wal *wal)
{
    if (wal->is_resumed) {
        wal->is_resumed = false;
        (void)kv_wal_write_synced(wal, wal->oldest_number);
    }
}

static uint64_t
write_simple(struct kv_wal *wal, enum kv_wal_record_type type, uint64_t index, uint64_t term)
{
    struct kv_wal_record record = {.type = type, .index = index, .term = term};

    make_room(wal, 0);
    append_record(wal, &record);
    return record.sequence;
}

uint64_t kv_wal_write_synced(struct kv_wal *wal, uint64_t oldest_number)
{
    uint64_t sequence;

    wal->is_resumed = false;
    sequence = write_simple(wal, KV_WAL_SYNCED, oldest_number, 0);
    wal->oldest_number = oldest_number;
    return sequence;
}

/* Encodes a waiting batch anew behind a record that was put before it: numbers and links, and which
 * segment is the oldest. Nothing of it was on its way to the disk yet. */
static void encode_again(struct kv_wal *wal, struct kv_wal_batch *batch)
{
    struct kv_wal_record record;
    uint64_t size;

    if (batch->former) {
        size = kv_wal_record_decode(
            kv_slice_of(batch->former_end, sizeof batch->former_end), batch->former->seed, &record);
        KV_ASSERT(size == sizeof batch->former_end);
        encode(wal, batch->former_end, &record, batch->former->seed);
    }
    for (size_t offset = 0; offset < batch->data.size; offset += (size_t)size) {
        uint8_t *p = batch->data.data + offset;
        uint32_t seed = batch->file_offset + offset == 0 ? 0 : batch->segment->seed;

        size = kv_wal_record_decode(kv_slice_of(p, batch->data.size - offset), seed, &record);
        KV_ASSERT(size > 0);
        if (record.type == KV_WAL_SYNCED) {
            record.index = wal->oldest_number;
        } else if (record.type == KV_WAL_SEGMENT) {
            struct kv_wal_segment_head head;

            KV_ASSERT(kv_wal_segment_head_decode(record.body, &head) == 0);
            head.oldest_number = wal->oldest_number;
            kv_wal_segment_head_encode(p + KV_WAL_RECORD_HEADER_BYTES, &head);
        }
        encode(wal, p, &record, seed);
        batch->last_record = record.sequence;
    }
}

void kv_wal_hasten_release(struct kv_wal *wal)
{
    struct kv_wal_batch *waiting = wal->first_batch;
    struct kv_wal_record record = {.type = KV_WAL_SYNCED, .index = wal->oldest_number};
    struct kv_wal_record next;
    struct kv_wal_batch *batch;
    uint8_t *p;

    if (!kv_wal_is_out_of_room(wal) || wal->batch_under_way ||
        wal->release_record <= wal->synced_record ||
        waiting->former_offset + END_BYTES > waiting->former->file_bytes) {
        return;
    }
    KV_REACHED("wal-release-without-room");
    KV_ASSERT(waiting->begins);
    KV_ASSERT(kv_wal_record_decode(kv_slice_of(waiting->former_end, sizeof waiting->former_end),
                                   waiting->former->seed,
                                   &next) != 0);
    wal->next_record = next.sequence;
    wal->link = next.link;
    batch = new_batch(wal, waiting->former, waiting->former_offset);
    p = kv_buf_reserve(&batch->data, KV_WAL_RECORD_HEADER_BYTES);
    KV_ASSERT(p);
    encode(wal, p, &record, waiting->former->seed);
    batch->data.size = KV_WAL_RECORD_HEADER_BYTES;
    batch->last_record = record.sequence;
    batch->last_index = wal->written_index;
    batch->next = waiting;
    wal->first_batch = batch;
    wal->queued_bytes += batch->data.size;
    wal->release_record = record.sequence;
    waiting->former_offset += KV_WAL_RECORD_HEADER_BYTES;
    for (; waiting; waiting = waiting->next) {
        encode_again(wal, waiting);
    }
    kv_wal_flush(wal);
}

/* Numbers the write that ends with what was queued last. */
static uint64_t number_write(struct kv_wal *wal)
{
    uint64_t sequence = wal->next_sequence++;

    if (!wal->is_dead) {
        KV_ASSERT(wal->last_batch);
        wal->last_batch->last_sequence = sequence;
        wal->last_batch->last_index = wal->last_index;
    }
    return sequence;
}

uint64_t kv_wal_write_vote(struct kv_wal *wal, uint64_t term, uint64_t voted_for)
{
    if (!wal->is_dead) {
        KV_ASSERT(term >= wal->term);
        resume(wal);
        write_simple(wal, KV_WAL_VOTE, voted_for, term);
        wal->term = term;
        wal->voted_for = voted_for;
    }
    return number_write(wal);
}

static uint64_t least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* Entries from index on are void; those that are not written yet, too. */
static void forget_from(struct kv_wal *wal, uint64_t index)
{
    wal->last_index = index - 1;
    wal->written_index = least(wal->written_index, index - 1);
    for (struct kv_wal_batch *batch = wal->first_batch; batch; batch = batch->next) {
        batch->last_index = least(batch->last_index, index - 1);
    }
    if (wal->batch_under_way) {
        wal->batch_under_way->last_index = least(wal->batch_under_way->last_index, index - 1);
    }
    kv_wal_points_truncate(wal, index);
    kv_wal_reads_truncate(wal, index);
}

static void write_entry(struct kv_wal *wal, uint64_t index, const struct kv_wal_entry *entry)
{
    struct kv_wal_record record = {
        .type = KV_WAL_ENTRY,
        .entry_type = entry->type,
        .index = index,
        .term = entry->term,
        .body = entry->data,
    };

    make_room(wal, record.body.size);
    KV_ASSERT(kv_wal_point_note(wal, index, wal->position) == 0);
    append_record(wal, &record);
    wal->last_index = index;
}

uint64_t kv_wal_write_entries(struct kv_wal *wal,
                              uint64_t first_index,
                              const struct kv_wal_entry *entries,
                              size_t n_entries)
{
    if (!wal->is_dead) {
        KV_ASSERT(n_entries > 0 || first_index <= wal->last_index);
        KV_ASSERT(first_index >= wal->first_index && first_index <= wal->last_index + 1);
        resume(wal);
        if (first_index <= wal->last_index) {
            write_simple(wal, KV_WAL_TRUNCATE, first_index, 0);
            forget_from(wal, first_index);
        }
        for (size_t i = 0; i < n_entries; i++) {
            write_entry(wal, first_index + i, &entries[i]);
        }
    }
    return number_write(wal);
}

uint64_t kv_wal_write_boundary(struct kv_wal *wal, uint64_t index, uint64_t term)
{
    if (!wal->is_dead) {
        resume(wal);
        write_simple(wal, KV_WAL_BOUNDARY, index, term);
        forget_from(wal, 1);
        wal->boundary_index = index;
        wal->boundary_term = term;
        wal->boundary_number = kv_wal_last_segment(wal)->number;
        wal->first_index = index + 1;
        wal->last_index = index;
    }
    return number_write(wal);
}

void kv_wal_tick(struct kv_wal *wal, uint64_t now_ms)
{
    if (wal->is_dead) {
        return;
    }
    if (wal->spare == KV_WAL_SPARE_FAILED || wal->spare == KV_WAL_SPARE_NO_ROOM) {
        wal->spare = KV_WAL_SPARE_NONE;
    }
    if (wal->n_segments > 0) {
        kv_wal_chores(wal);
    }
    if (wal->batch_under_way || wal->first_batch || wal->n_segments == 0 ||
        wal->next_record != wal->tick_record) {
        wal->tick_record = wal->next_record;
        wal->idle_since_ms = now_ms;
        return;
    }
    /* Vouches for all before it, once; it needs no vouching itself. */
    if (wal->idle_since_ms != UINT64_MAX && now_ms - wal->idle_since_ms >= IDLE_MS) {
        wal->idle_since_ms = UINT64_MAX;
        (void)kv_wal_write_synced(wal, wal->oldest_number);
        wal->tick_record = wal->next_record;
        kv_wal_flush(wal);
    }
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
    KV_ASSERT(wal->segment_bytes >= SEGMENT_BYTES_MIN && wal->segment_bytes % 8 == 0 &&
              wal->segment_bytes <= KV_WAL_SEGMENT_BYTES_MAX);
    wal->log_seed = options->seed;
    wal->next_sequence = 1;
    wal->next_record = 1;
    wal->first_index = 1;
    wal->oldest_number = 1;
    status = kv_wal_recover(wal, ret_error);
    if (status != 0) {
        kv_wal_close(wal);
        return status;
    }
    check_invariants(wal);
    *ret_wal = wal;
    return 0;
}

void kv_wal_close(struct kv_wal *wal)
{
    if (!wal) {
        return;
    }
    while (wal->first_batch) {
        struct kv_wal_batch *next = wal->first_batch->next;

        free_batch(wal->first_batch);
        wal->first_batch = next;
    }
    free_batch(wal->batch_under_way);
    free_batch(wal->free_batch);
    kv_wal_segments_free(wal);
    free(wal);
}

const struct kv_wal_state *kv_wal_recovered(const struct kv_wal *wal)
{
    return &wal->recovered;
}

bool kv_wal_is_full(const struct kv_wal *wal)
{
    return wal->queued_bytes >= KV_WAL_QUEUE_BYTES_MAX || kv_wal_is_out_of_room(wal);
}

bool kv_wal_is_out_of_room(const struct kv_wal *wal)
{
    return wal->spare == KV_WAL_SPARE_NO_ROOM;
}

bool kv_wal_is_idle(const struct kv_wal *wal)
{
    return !wal->batch_under_way && !wal->first_batch && !wal->chore.under_way && !wal->reads;
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
