/* Reading entries back, with their checks, from one segment at a time. */
#include "common/assert.h"
#include "raft/wal_internal.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLACK_BYTES = 2 * 64 * 1024 };

/* Where to read: decided on the core, carried out on the file worker. */
struct kv_wal_plan {
    struct kv_disk disk;
    struct kv_wal_segment *segment;
    uint64_t offset; /* of a record at or before the first entry */
    uint64_t first_index;
    uint64_t last_index;
    size_t max_bytes;
    struct kv_error error;
    /* The core's */
    struct kv_wal_plan *next;
    uint64_t void_from; /* entries from here on were truncated meanwhile */
};

/* The last point at or before index. */
static size_t find_point(const struct kv_wal *wal, uint64_t index)
{
    size_t low = 0;
    size_t high = wal->n_points;

    while (low < high) {
        size_t middle = (low + high) / 2;

        if (wal->points[middle].index <= index) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    KV_ASSERT(low > 0);
    return low - 1;
}

static void make_plan(const struct kv_wal *wal,
                      uint64_t first_index,
                      uint64_t last_index,
                      size_t max_bytes,
                      struct kv_wal_plan *ret_plan)
{
    size_t at = find_point(wal, first_index);
    const struct kv_wal_point *point = &wal->points[at];

    *ret_plan = (struct kv_wal_plan){
        .disk = wal->options.disk,
        .segment = point->segment,
        .offset = point->offset,
        .first_index = first_index,
        .last_index = last_index,
        .max_bytes = max_bytes,
        .void_from = UINT64_MAX,
    };
    /* Not into another segment, and not past a truncation: there the same indexes stand twice. */
    for (size_t i = at + 1; i < wal->n_points && wal->points[i].index <= last_index; i++) {
        if (wal->points[i].segment != point->segment || wal->points[i].after_truncation) {
            ret_plan->last_index = wal->points[i].index - 1;
            return;
        }
    }
}

/* Makes the buffer hold `want` bytes from the plan's offset on, or what the file has, and some
 * more, so that small records are not read one by one. 0 or negative errno. */
static int fill(const struct kv_wal_plan *plan, uint8_t **memory, uint64_t *have, uint64_t want)
{
    uint64_t most = plan->segment->file_bytes - plan->offset;
    uint8_t *larger;
    int64_t got;

    want = want + SLACK_BYTES < most ? want + SLACK_BYTES : most;
    if (want <= *have) {
        return 0;
    }
    larger = realloc(*memory, (size_t)want);
    if (!larger) {
        return -ENOMEM;
    }
    *memory = larger;
    got = plan->disk.ops->pread(plan->disk.disk,
                                plan->segment->file,
                                larger + *have,
                                (size_t)(want - *have),
                                plan->offset + *have);
    if (got < 0) {
        return (int)got;
    }
    *have += (uint64_t)got;
    return 0;
}

static int damaged(struct kv_wal_plan *plan, uint64_t at)
{
    return kv_error_set(&plan->error,
                        KV_CORRUPT,
                        "%s/%s at offset %" PRIu64 ": an entry is not readable any more",
                        plan->disk.name,
                        plan->segment->name,
                        plan->offset + at);
}

/* Whole size of the record at `at`, told by its first bytes; 0 when even they are not there. */
static uint64_t announced_size(const uint8_t *memory, uint64_t have, uint64_t at)
{
    if (have - at < KV_WAL_RECORD_HEADER_BYTES) {
        return 0;
    }
    return kv_wal_record_announced_size(memory + at);
}

static int add_entry(struct kv_wal_read *read,
                     size_t *capacity,
                     const struct kv_wal_record *record,
                     const uint8_t *memory)
{
    if (read->n_entries == *capacity) {
        struct kv_wal_entry *entries;

        *capacity = *capacity ? *capacity * 2 : 64;
        entries = realloc(read->entries, *capacity * sizeof *entries);
        if (!entries) {
            return KV_NO_MEMORY;
        }
        read->entries = entries;
    }
    /* As an offset: the memory may move while it grows. */
    read->entries[read->n_entries++] = (struct kv_wal_entry){
        .term = record->term,
        .type = record->entry_type,
        .data = {(const uint8_t *)(uintptr_t)(record->body.data - memory), record->body.size},
    };
    return 0;
}

/* True when the record at `at` is in memory, whole; reads on when needed. */
static int
have_record(const struct kv_wal_plan *plan, struct kv_wal_read *read, uint64_t *have, uint64_t at)
{
    uint64_t size = announced_size(read->memory, *have, at);
    int status = 0;

    if (size == 0) {
        status = fill(plan, &read->memory, have, at + KV_WAL_RECORD_HEADER_BYTES);
        size = status == 0 ? announced_size(read->memory, *have, at) : 0;
    }
    if (size > KV_ENTRY_BYTES_MAX + 64) {
        return 0; /* damage: the decoder says so */
    }
    return status == 0 && size > *have - at ? fill(plan, &read->memory, have, at + size) : status;
}

static int read_entries(struct kv_wal_plan *plan, struct kv_wal_read *read)
{
    uint64_t have = 0;
    uint64_t at = 0;
    size_t bytes = 0;
    size_t capacity = 0;
    int status = fill(plan, &read->memory, &have, plan->max_bytes);

    while (status == 0) {
        struct kv_wal_record record;
        uint64_t size;

        status = have_record(plan, read, &have, at);
        if (status != 0) {
            break;
        }
        size = kv_wal_record_decode(
            kv_slice_of(read->memory + at, (size_t)(have - at)), plan->segment->seed, &record);
        if (size == 0) {
            return damaged(plan, at);
        }
        if (record.type == KV_WAL_ENTRY && record.index >= plan->first_index) {
            if (read->n_entries > 0 && bytes + record.body.size > plan->max_bytes) {
                break;
            }
            bytes += record.body.size;
            if (record.index != plan->first_index + read->n_entries) {
                return damaged(plan, at);
            }
            if (add_entry(read, &capacity, &record, read->memory) != 0) {
                return KV_NO_MEMORY;
            }
            if (record.index == plan->last_index) {
                break;
            }
        }
        at += size;
    }
    if (status != 0) {
        return kv_error_set(&plan->error,
                            status == -ENOMEM ? KV_NO_MEMORY : KV_IO,
                            "cannot read %s/%s: %s",
                            plan->disk.name,
                            plan->segment->name,
                            strerror(-status));
    }
    for (size_t i = 0; i < read->n_entries; i++) {
        read->entries[i].data.data = read->memory + (uintptr_t)read->entries[i].data.data;
    }
    return 0;
}

static struct kv_wal_read *read_of(struct kv_job *job)
{
    return (struct kv_wal_read *)((char *)job - offsetof(struct kv_wal_read, job));
}

static void run_read(struct kv_job *job)
{
    struct kv_wal_read *read = read_of(job);

    if (read->plan) {
        read->status = read_entries(read->plan, read);
        read->n_entries = read->status == 0 ? read->n_entries : 0;
    }
}

void kv_wal_reads_truncate(struct kv_wal *wal, uint64_t index)
{
    for (struct kv_wal_plan *plan = wal->reads; plan; plan = plan->next) {
        if (plan->void_from > index) {
            plan->void_from = index;
        }
    }
}

/* What was truncated while it was read is not found. */
static void cut_void(struct kv_wal_read *read, const struct kv_wal_plan *plan)
{
    if (plan->void_from <= plan->first_index) {
        read->n_entries = 0;
        read->status = KV_NOT_FOUND;
    } else if (read->n_entries > plan->void_from - plan->first_index) {
        read->n_entries = (size_t)(plan->void_from - plan->first_index);
    }
}

static void read_done(struct kv_job *job)
{
    struct kv_wal_read *read = read_of(job);
    struct kv_wal *wal = read->wal;
    struct kv_wal_plan *plan = read->plan;

    if (plan) {
        struct kv_wal_plan **link = &wal->reads;

        while (*link != plan) {
            link = &(*link)->next;
        }
        *link = plan->next;
        plan->segment->n_reads--;
        cut_void(read, plan);
        kv_wal_chores(wal);
    }
    read->done(read, read->status);
}

static struct kv_wal_plan *new_plan(struct kv_wal *wal, const struct kv_wal_read *read)
{
    struct kv_wal_plan *plan = malloc(sizeof *plan);

    if (plan) {
        make_plan(wal,
                  read->first_index,
                  read->last_index < wal->written_index ? read->last_index : wal->written_index,
                  read->max_bytes,
                  plan);
        plan->next = wal->reads;
        wal->reads = plan;
        plan->segment->n_reads++;
    }
    return plan;
}

void kv_wal_read(struct kv_wal *wal, struct kv_wal_read *read)
{
    read->wal = wal;
    read->entries = NULL;
    read->n_entries = 0;
    read->memory = NULL;
    read->plan = NULL;
    read->status = KV_NOT_FOUND;
    if (read->first_index >= wal->first_index && read->first_index <= wal->written_index &&
        read->first_index <= read->last_index) {
        read->plan = new_plan(wal, read);
        read->status = read->plan ? 0 : KV_NO_MEMORY;
    }
    read->job.run = run_read;
    read->job.done = read_done;
    wal->options.file_worker.ops->submit(wal->options.file_worker.worker, &read->job);
}

void kv_wal_read_deinit(struct kv_wal_read *read)
{
    free(read->entries);
    free(read->memory);
    free(read->plan);
    read->entries = NULL;
    read->memory = NULL;
    read->plan = NULL;
    read->n_entries = 0;
}

/* Only what rotted is a reason to replace the member. */
static void tell_why(const struct kv_wal_plan *plan, int status, struct kv_error *ret_error)
{
    const char *message = plan->error.message;

    (void)!kv_error_set(ret_error,
                        status,
                        "%s%s",
                        message[0] ? message : "no memory to read the log",
                        status == KV_CORRUPT ? "; replace this member (docs/operations)" : "");
}

int kv_wal_visit(struct kv_wal *wal,
                 uint64_t first_index,
                 uint64_t last_index,
                 kv_wal_visit_fn fn,
                 void *arg,
                 struct kv_error *ret_error)
{
    enum { VISIT_BYTES = 8 * 1024 * 1024 };
    uint64_t index = first_index;
    int status = 0;

    while (index <= last_index && status == 0) {
        struct kv_wal_read read = {0};
        struct kv_wal_plan plan;

        make_plan(wal, index, last_index, VISIT_BYTES, &plan);
        status = read_entries(&plan, &read);
        if (status != 0) {
            tell_why(&plan, status, ret_error);
        }
        for (size_t i = 0; i < read.n_entries && status == 0; i++) {
            status = fn(arg, index, &read.entries[i]);
            if (status != 0) {
                (void)!kv_error_set(ret_error,
                                    status,
                                    "entry %" PRIu64 " of the log: %s",
                                    index,
                                    kv_status_text(status));
            }
            index++;
        }
        kv_wal_read_deinit(&read);
    }
    return status;
}
