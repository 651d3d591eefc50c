/* A snapshot that is kept and may have rotted: a peer refused what it was sent of it, or a piece
 * cannot be read. It is read whole, a slice per job of the snapshot worker, and dropped when it is
 * not what it was: it must not be offered again and again. The state in memory is not in doubt, so
 * another one is taken. */
#include "common/log.h"
#include "common/reached.h"
#include "raft/replica_internal.h"

#include <inttypes.h>

void kv_replica_check_deinit(struct kv_replica *r)
{
    kv_snapshot_reader_close(r->check.reader);
    kv_buf_deinit(&r->check.raw);
}

static int open_reader(struct kv_snapshot_check *check)
{
    const struct kv_replica *r = check->replica;
    char name[KV_SNAPSHOT_NAME_BYTES];
    int status;

    kv_snapshot_name(name, check->index, check->term, KV_SNAPSHOT_COMPLETE);
    status = kv_snapshot_reader_open(
        &r->env.disk, name, r->options.cluster_id, &check->reader, &check->error);
    return status == 0 ? 1 : status;
}

/* One that was swapped for another is sound, too. */
static int compare(struct kv_snapshot_check *check)
{
    const struct kv_snapshot_descriptor found = kv_snapshot_descriptor_of(check->reader);

    if (found.size_bytes == check->size_bytes && (check->hash == 0 || check->hash == found.hash)) {
        return 0;
    }
    return kv_error_set(&check->error, KV_CORRUPT, "the file is another than was written");
}

static void run_check(struct kv_job *job)
{
    struct kv_snapshot_check *check = (struct kv_snapshot_check *)job;
    size_t slice = kv_snapshot_slice_bytes(check->replica, KV_SNAPSHOT_SLICE_BYTES);
    size_t bytes = 0;

    check->status = check->reader ? 1 : open_reader(check);
    while (check->status == 1 && bytes < slice) {
        check->status = kv_snapshot_reader_next(check->reader, &check->raw, &check->error);
        bytes += check->raw.size;
    }
    if (check->status == 0) {
        check->status = compare(check);
    }
    if (check->status != 1) {
        kv_snapshot_reader_close(check->reader);
        check->reader = NULL;
    }
}

static void drop(struct kv_replica *r)
{
    const struct kv_snapshot_check *check = &r->check;

    KV_REACHED("snapshot-rotten");
    KV_LOG(ERROR,
           "raft",
           "snapshot_dropped",
           "index=%" PRIu64 " error=\"%s\" next=\"another one is taken; check the disk\"",
           check->index,
           check->error.message);
    /* What cannot be read now may be all that the next start has. */
    kv_replica_drop_snapshot(r, check->index, check->term, check->status != KV_IO);
}

static void check_done(struct kv_job *job)
{
    struct kv_snapshot_check *check = (struct kv_snapshot_check *)job;
    struct kv_replica *r = check->replica;

    if (check->status == 1 && !r->dead && !r->is_quiescing) {
        r->env.snapshot_worker.ops->submit(r->env.snapshot_worker.worker, &check->job);
        return;
    }
    check->under_way = false;
    if (r->dead || check->status == 1) {
        return;
    }
    if (check->status == 0) {
        KV_LOG(INFO, "raft", "snapshot_is_sound", "index=%" PRIu64, check->index);
    } else if (check->status != KV_NO_MEMORY && kv_replica_kept(r, check->index, check->term)) {
        drop(r);
    }
}

void kv_replica_check_snapshot(struct kv_replica *r, uint64_t index, uint64_t term)
{
    const struct kv_kept_snapshot *kept = kv_replica_kept(r, index, term);
    struct kv_snapshot_check *check = &r->check;

    if (!kept || check->under_way || r->is_quiescing) {
        return;
    }
    kv_snapshot_reader_close(check->reader);
    check->reader = NULL;
    check->replica = r;
    check->index = index;
    check->term = term;
    check->size_bytes = kept->descriptor.size_bytes;
    check->hash = kept->descriptor.hash;
    check->under_way = true;
    check->job.run = run_check;
    check->job.done = check_done;
    r->env.snapshot_worker.ops->submit(r->env.snapshot_worker.worker, &check->job);
}
