#include "tests/support/wal_rig.h"

#include "common/assert.h"

#include <stdlib.h>
#include <string.h>

static void submit(void *arg, struct kv_job *job)
{
    struct wal_rig_worker *worker = arg;

    job->next = NULL;
    if (worker->last) {
        worker->last->next = job;
    } else {
        worker->first = job;
    }
    worker->last = job;
}

static const struct kv_worker_ops worker_ops = {submit};

bool wal_rig_step(struct wal_rig_worker *worker)
{
    struct kv_job *job = worker->first;

    if (!job) {
        return false;
    }
    worker->first = job->next;
    if (!worker->first) {
        worker->last = NULL;
    }
    job->run(job);
    job->done(job);
    return true;
}

static void on_synced(void *arg, uint64_t sequence)
{
    struct wal_rig *rig = arg;

    KV_ASSERT(rig->n_failed == 0 && sequence > rig->synced);
    rig->synced = sequence;
}

static void on_failed(void *arg, const struct kv_error *error)
{
    struct wal_rig *rig = arg;

    rig->n_failed++;
    rig->error = *error;
}

static const struct kv_wal_ops wal_ops = {on_synced, on_failed};

void wal_rig_init(struct wal_rig *rig, const struct kv_disk *disk, uint64_t segment_bytes)
{
    *rig = (struct wal_rig){.disk = *disk};
    rig->options = (struct kv_wal_options){
        .disk = *disk,
        .log_worker = {&worker_ops, &rig->log_worker},
        .file_worker = {&worker_ops, &rig->file_worker},
        .cluster_id = 77,
        .node_id = 3,
        .seed = UINT64_C(0x123456789abcdef),
        .segment_bytes = segment_bytes,
        .ops = &wal_ops,
        .arg = rig,
    };
}

int wal_rig_open(struct wal_rig *rig)
{
    KV_ASSERT(!rig->wal);
    rig->synced = 0;
    rig->n_failed = 0;
    rig->error = (struct kv_error){0};
    return kv_wal_open(&rig->options, &rig->wal, &rig->error);
}

void wal_rig_close(struct wal_rig *rig)
{
    kv_wal_close(rig->wal);
    rig->wal = NULL;
    rig->log_worker = rig->file_worker = (struct wal_rig_worker){0};
}

void wal_rig_run(struct wal_rig *rig)
{
    while (wal_rig_step(&rig->log_worker) || wal_rig_step(&rig->file_worker)) {
    }
}

void wal_rig_sync(struct wal_rig *rig)
{
    kv_wal_flush(rig->wal);
    wal_rig_run(rig);
}

void wal_rig_fill(uint8_t *data, size_t size, uint64_t id)
{
    uint64_t x = id * UINT64_C(0x9E3779B97F4A7C15) + size;

    for (size_t i = 0; i < size; i++) {
        uint64_t byte;

        x = x * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        byte = i < 8 ? id >> (8 * i) : x >> 56;
        data[i] = (uint8_t)(byte & 0xff);
    }
}

bool wal_rig_check(struct kv_slice data, uint64_t *ret_id)
{
    uint64_t id = data.size >= 8 ? kv_get_u64(data.data) : 0;
    uint8_t *expected = malloc(data.size + 1);
    bool same;

    KV_ASSERT(expected);
    wal_rig_fill(expected, data.size, id);
    same = data.size < 8 || memcmp(expected, data.data, data.size) == 0;
    free(expected);
    *ret_id = id;
    return same;
}

uint64_t wal_rig_append(struct wal_rig *rig, uint64_t term, uint64_t id, size_t size)
{
    uint8_t *data = malloc(size + 1);
    struct kv_wal_entry entry = {term, 1, {data, size}};
    uint64_t sequence;

    KV_ASSERT(data);
    wal_rig_fill(data, size, id);
    sequence = kv_wal_write_entries(rig->wal, kv_wal_last_index(rig->wal) + 1, &entry, 1);
    free(data);
    return sequence;
}
