/* A log with workers that run their jobs only when told: on the fake disk, or on any other. */
#ifndef KV_TESTS_SUPPORT_WAL_RIG_H
#define KV_TESTS_SUPPORT_WAL_RIG_H

#include "raft/wal.h"
#include "tests/support/fake_disk.h"

struct wal_rig_worker {
    struct kv_job *first;
    struct kv_job *last;
};

struct wal_rig {
    struct kv_disk disk;
    struct kv_wal_options options; /* set by wal_rig_init, may be changed before wal_rig_open */
    struct kv_wal *wal;
    struct wal_rig_worker log_worker;
    struct wal_rig_worker file_worker;
    uint64_t synced; /* as last reported */
    unsigned n_failed;
    struct kv_error error; /* of the last open, or of the failure */
};

void wal_rig_init(struct wal_rig *rig, const struct kv_disk *disk, uint64_t segment_bytes);
/* As kv_wal_open; the error is in rig->error. */
int wal_rig_open(struct wal_rig *rig);
/* Forgets jobs that did not run. */
void wal_rig_close(struct wal_rig *rig);

/* Runs one job to its end; false when there is none. */
bool wal_rig_step(struct wal_rig_worker *worker);
/* Runs jobs until none is left. */
void wal_rig_run(struct wal_rig *rig);
/* Flushes and runs everything. */
void wal_rig_sync(struct wal_rig *rig);

/* Writes one entry behind the last, of type 1 with `size` bytes made from id. */
uint64_t wal_rig_append(struct wal_rig *rig, uint64_t term, uint64_t id, size_t size);
/* Fills data with what an entry of that id holds. */
void wal_rig_fill(uint8_t *data, size_t size, uint64_t id);
/* Is it such an entry? Its id is in *ret_id if it is at least 8 bytes long. */
bool wal_rig_check(struct kv_slice data, uint64_t *ret_id);

#endif
