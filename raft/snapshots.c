/* Own snapshots: when one is taken, how, what is kept, and what of the log goes then
 * (docs/internals.md, "Snapshots"). Files are touched on the snapshot worker, and at start. */
#include "common/assert.h"
#include "common/log.h"
#include "common/reached.h"
#include "raft/configuration.h"
#include "raft/replica_internal.h"

#include <inttypes.h>
#include <limits.h>
#include <string.h>

void kv_replica_snapshots_init(struct kv_replica *r)
{
    kv_buf_init(&r->applied_configuration, KV_CONFIGURATION_BYTES_MAX);
    kv_buf_init(&r->take.configuration, KV_CONFIGURATION_BYTES_MAX);
    kv_buf_init(&r->take.raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    kv_buf_init(&r->fetch.configuration, KV_CONFIGURATION_BYTES_MAX);
    for (size_t i = 0; i < KV_SNAPSHOT_PIECES_AHEAD; i++) {
        kv_buf_init(&r->fetch.pieces[i].data, KV_SNAPSHOT_PIECE_BYTES);
    }
    r->fetch.patience_ms = KV_SNAPSHOT_FETCH_TIMEOUT_MS;
    r->fetch.piece_bytes = KV_SNAPSHOT_PIECE_BYTES;
    kv_buf_init(&r->check.raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    r->take.replica = r->fetch.replica = r->removal.replica = r;
}

static void drop_kept(struct kv_replica *r, size_t i)
{
    kv_buf_deinit(&r->kept[i].configuration);
    r->n_kept--;
    memmove(r->kept + i, r->kept + i + 1, (r->n_kept - i) * sizeof r->kept[0]);
}

void kv_replica_snapshots_deinit(struct kv_replica *r)
{
    if (r->take.state) {
        r->options.ops->snapshot_close(r->options.arg, r->take.state);
    }
    kv_snapshot_writer_close(r->take.writer);
    kv_buf_deinit(&r->take.configuration);
    kv_buf_deinit(&r->take.raw);
    kv_buf_deinit(&r->applied_configuration);
    while (r->n_kept > 0) {
        drop_kept(r, 0);
    }
    kv_replica_check_deinit(r);
    kv_replica_fetch_deinit(r);
}

void kv_replica_note_configuration(struct kv_replica *r, uint64_t index, struct kv_slice encoded)
{
    kv_buf_clear(&r->applied_configuration);
    if (kv_buf_append(&r->applied_configuration, encoded.data, encoded.size) != 0) {
        kv_replica_die(r, KV_NO_MEMORY, "no memory for the configuration at index %" PRIu64, index);
    }
    r->applied_configuration_index = index;
}

int kv_replica_metadata(uint64_t index,
                        uint64_t term,
                        uint64_t configuration_index,
                        struct kv_slice configuration,
                        struct raft_snapshot_metadata *ret_metadata)
{
    ret_metadata->index = index;
    ret_metadata->term = term;
    ret_metadata->configuration_index = configuration_index;
    return kv_configuration_decode(configuration, &ret_metadata->configuration);
}

/* ---------------------------------------------------------------- what is kept */

struct kv_kept_snapshot *kv_replica_kept(struct kv_replica *r, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < r->n_kept; i++) {
        if (r->kept[i].descriptor.index == index && r->kept[i].descriptor.term == term) {
            return &r->kept[i];
        }
    }
    return NULL;
}

static bool is_fetched(const struct kv_kept_snapshot *kept, uint64_t now_ms)
{
    return kept->fetched_ms != 0 && now_ms < kept->fetched_ms + KV_SNAPSHOT_FETCH_IDLE_MS;
}

static void run_removal(struct kv_job *job)
{
    struct kv_snapshot_removal *removal = (struct kv_snapshot_removal *)job;
    struct kv_error error;

    /* What stays is removed at the next start. */
    (void)!kv_snapshot_remove(&removal->replica->env.disk, removal->index, removal->term, &error);
}

static void removal_done(struct kv_job *job)
{
    struct kv_snapshot_removal *removal = (struct kv_snapshot_removal *)job;

    removal->under_way = false;
    if (!removal->replica->dead) {
        kv_replica_prune_snapshots(removal->replica);
    }
}

static void submit_removal(struct kv_replica *r, uint64_t index, uint64_t term)
{
    r->removal.index = index;
    r->removal.term = term;
    r->removal.under_way = true;
    r->removal.job.run = run_removal;
    r->removal.job.done = removal_done;
    r->env.snapshot_worker.ops->submit(r->env.snapshot_worker.worker, &r->removal.job);
}

void kv_replica_doom_file(struct kv_replica *r, uint64_t index, uint64_t term)
{
    /* Beyond the bound it goes at the next start. */
    if (!kv_replica_kept(r, index, term) && r->n_doomed < KV_SNAPSHOTS_MAX) {
        r->doomed[r->n_doomed++] = (struct kv_snapshot_id){.index = index, .term = term};
        kv_replica_prune_snapshots(r);
    }
}

void kv_replica_drop_snapshot(struct kv_replica *r, uint64_t index, uint64_t term, bool file_goes)
{
    for (size_t i = 0; i < r->n_kept; i++) {
        if (r->kept[i].descriptor.index == index && r->kept[i].descriptor.term == term) {
            drop_kept(r, i);
            break;
        }
    }
    if (file_goes) {
        kv_replica_doom_file(r, index, term);
    }
    r->is_take_due = true;
    r->snapshot_retry_ms = 0;
}

/* Two are kept, one when the disk is short, and those that somebody fetches. */
void kv_replica_prune_snapshots(struct kv_replica *r)
{
    size_t wanted = r->room == KV_ROOM_ENOUGH ? 2 : 1;

    if (r->n_doomed > 0 && !r->removal.under_way) {
        r->n_doomed--;
        submit_removal(r, r->doomed[r->n_doomed].index, r->doomed[r->n_doomed].term);
    }
    for (size_t i = r->n_kept; i > wanted && !r->removal.under_way; i--) {
        struct kv_kept_snapshot *kept = &r->kept[i - 1];

        if (is_fetched(kept, r->last_now_ms) && r->n_kept < KV_SNAPSHOTS_MAX) {
            continue;
        }
        submit_removal(r, kept->descriptor.index, kept->descriptor.term);
        drop_kept(r, i - 1);
    }
}

void kv_replica_keep_snapshot(struct kv_replica *r,
                              const struct kv_snapshot_descriptor *descriptor,
                              struct kv_slice configuration,
                              bool in_place_of_all)
{
    struct kv_kept_snapshot kept = {.descriptor = *descriptor};

    r->is_take_due = false;
    if (r->n_kept == KV_SNAPSHOTS_MAX) {
        drop_kept(r, r->n_kept - 1); /* its file goes at the next start */
    }
    kv_buf_init(&kept.configuration, KV_CONFIGURATION_BYTES_MAX);
    if (kv_buf_append(&kept.configuration, configuration.data, configuration.size) != 0) {
        kv_replica_die(r, KV_NO_MEMORY, "no memory to keep a snapshot");
    }
    memmove(r->kept + 1, r->kept, r->n_kept * sizeof r->kept[0]);
    r->kept[0] = kept;
    r->n_kept++;
    /* The log before an installed one is gone: those before it lead nowhere. */
    for (size_t i = 1; in_place_of_all && i < r->n_kept; i++) {
        r->kept[i].fetched_ms = 0;
    }
    kv_replica_prune_snapshots(r);
}

/* Entries up to here are needed by nobody: a restart from the older snapshot begins behind it, and
 * whoever fetches one goes on with the log behind that. */
static uint64_t release_index(const struct kv_replica *r)
{
    uint64_t index = r->n_kept > 1               ? r->kept[1].descriptor.index
                     : r->room == KV_ROOM_ENOUGH ? 0
                                                 : r->kept[0].descriptor.index;

    for (size_t i = 0; i < r->n_kept; i++) {
        if (is_fetched(&r->kept[i], r->last_now_ms) && r->kept[i].descriptor.index < index) {
            index = r->kept[i].descriptor.index;
        }
    }
    return index;
}

/* Tells the core of the newest; then the log may be released, never before. */
static void record_newest(struct kv_replica *r)
{
    const struct kv_kept_snapshot *newest = &r->kept[0];
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    uint64_t index = newest->descriptor.index;
    uint64_t release = release_index(r);
    uint64_t trailing;

    if (kv_replica_metadata(index,
                            newest->descriptor.term,
                            newest->descriptor.configuration_index,
                            kv_slice_of(newest->configuration.data, newest->configuration.size),
                            &event.snapshot.metadata) != 0) {
        kv_replica_die(
            r, KV_CORRUPT, "the configuration of snapshot %" PRIu64 " is malformed", index);
        return;
    }
    /* Entry `release` stays: who has just installed that snapshot goes on behind it, and the core
     * looks up the term of the entry before the first that it sends. */
    trailing = release > 0 ? index - release + 1 : index;
    event.snapshot.trailing = trailing > UINT_MAX ? UINT_MAX : (unsigned)trailing;
    kv_replica_step_or_die(r, &event, "SNAPSHOT");
    if (!r->dead && release > 0) {
        KV_REACHED("snapshot-releases-log");
        kv_terms_release(&r->terms, release);
        kv_wal_release(r->wal, release - 1);
    }
}

/* ---------------------------------------------------------------- taking one */

static uint64_t log_bytes_due(const struct kv_replica *r)
{
    uint64_t least =
        r->options.snapshot_log_bytes ? r->options.snapshot_log_bytes : KV_SNAPSHOT_LOG_BYTES;
    uint64_t half = r->options.ops->state_bytes(r->options.arg) / 2;

    return half > least ? half : least;
}

static bool is_installing(const struct kv_replica *r)
{
    return r->raft.snapshot.installing || r->install_sequence != 0 ||
           r->fetch.phase >= KV_FETCH_LOADING;
}

/* The least index that a snapshot may have: behind the newest one, or in its place when it was
 * dropped. */
static uint64_t least_index(const struct kv_replica *r)
{
    uint64_t index = r->raft.trail.snapshot.index;
    bool is_kept = r->n_kept > 0 && r->kept[0].descriptor.index >= index;

    return index > 0 && !is_kept ? index : index + 1;
}

/* Writes a slice; the writer is closed when it returns anything but 1. */
static void run_take(struct kv_job *job)
{
    struct kv_snapshot_take *take = (struct kv_snapshot_take *)job;
    const struct kv_replica *r = take->replica;
    size_t slice = kv_snapshot_slice_bytes(r, KV_SNAPSHOT_SLICE_BYTES);
    size_t bytes = 0;

    take->status = 1;
    if (take->is_cancelled) {
        take->status = kv_error_set(&take->error, KV_CLOSED, "given up");
    } else if (!take->writer) {
        const int status =
            kv_snapshot_writer_open(&r->env.disk, &take->meta, &take->writer, &take->error);

        take->status = status == 0 ? 1 : status;
    }
    while (take->status == 1 && bytes < slice) {
        int more;

        kv_buf_clear(&take->raw);
        more = r->options.ops->snapshot_read(
            take->state, &take->raw, kv_snapshot_slice_bytes(r, KV_SNAPSHOT_BLOCK_BYTES));
        bytes += take->raw.size;
        if (more < 0) {
            take->status = kv_error_set(
                &take->error, more, "the state cannot be read: %s", kv_status_text(more));
            break;
        }
        take->status = kv_snapshot_writer_append(
            take->writer, kv_slice_of(take->raw.data, take->raw.size), &take->error);
        if (take->status == 0 && more == 0) {
            take->status = kv_snapshot_writer_finish(take->writer, &take->result, &take->error);
            break;
        }
        take->status = take->status == 0 ? 1 : take->status;
    }
    if (take->status != 1) {
        kv_snapshot_writer_close(take->writer);
        take->writer = NULL;
    }
}

static void submit_take(struct kv_replica *r)
{
    r->env.snapshot_worker.ops->submit(r->env.snapshot_worker.worker, &r->take.job);
}

static void take_succeeded(struct kv_replica *r)
{
    const struct kv_snapshot_take *take = &r->take;

    KV_LOG(INFO,
           "raft",
           "snapshot_taken",
           "index=%" PRIu64 " term=%" PRIu64 " bytes=%" PRIu64,
           take->result.index,
           take->result.term,
           take->result.size_bytes);
    r->snapshots_taken++;
    r->log_bytes -= take->log_bytes < r->log_bytes ? take->log_bytes : r->log_bytes;
    /* Another one was installed meanwhile, or the state is not to be trusted. */
    if (take->result.index < least_index(r) || r->raft.snapshot.installing || r->is_unfit) {
        KV_REACHED("snapshot-taken-too-late");
        kv_replica_doom_file(r, take->result.index, take->result.term);
        return;
    }
    kv_replica_keep_snapshot(
        r, &take->result, kv_slice_of(take->configuration.data, take->configuration.size), false);
    /* In place of a dropped one, of which the core knows. */
    if (take->result.index > r->raft.trail.snapshot.index) {
        record_newest(r);
    }
}

static void take_failed(struct kv_replica *r)
{
    r->snapshot_retry_ms = kv_replica_now_ms(r) + KV_SNAPSHOT_RETRY_MS;
    KV_REACHED("snapshot-failed");
    KV_LOG(WARN,
           "raft",
           "snapshot_failed",
           "index=%" PRIu64 " error=\"%s\"",
           r->take.meta.index,
           r->take.error.message);
}

static void take_done(struct kv_job *job)
{
    struct kv_snapshot_take *take = (struct kv_snapshot_take *)job;
    struct kv_replica *r = take->replica;

    if (take->status == 1 && !r->dead) {
        submit_take(r);
        return;
    }
    take->under_way = false;
    r->options.ops->snapshot_close(r->options.arg, take->state);
    take->state = NULL;
    if (r->dead) {
        return;
    }
    if (take->status == 0) {
        take_succeeded(r);
    } else if (!take->is_cancelled) {
        take_failed(r);
    } else {
        KV_REACHED("snapshot-take-cancelled");
    }
    if (take->is_wanted) {
        take->is_wanted = false;
        r->options.ops->snapshot_done(
            r->options.arg, take->status, take->meta.index, take->result.size_bytes, &take->error);
    }
}

/* False: not now. */
static bool start_take(struct kv_replica *r)
{
    struct kv_snapshot_take *take = &r->take;
    const struct kv_buf *configuration = &r->applied_configuration;

    kv_buf_clear(&take->configuration);
    if (kv_buf_append(&take->configuration, configuration->data, configuration->size) != 0) {
        return false;
    }
    take->is_cancelled = false;
    take->state = r->options.ops->snapshot_open(r->options.arg);
    if (!take->state) {
        return false;
    }
    take->meta = (struct kv_snapshot_meta){
        .cluster_id = r->options.cluster_id,
        .node_id = r->options.node_id,
        .index = r->applied_index,
        .term = kv_terms_of(&r->terms, r->applied_index),
        .configuration_index = r->applied_configuration_index,
        .configuration = kv_slice_of(take->configuration.data, take->configuration.size),
        /* What is sound here is older. */
        .replaces = true,
    };
    take->log_bytes = r->log_bytes;
    take->under_way = true;
    take->job.run = run_take;
    take->job.done = take_done;
    submit_take(r);
    return true;
}

bool kv_replica_removes_snapshots(const struct kv_replica *r)
{
    return r->removal.under_way || r->n_doomed > 0;
}

/* The index of a snapshot must be stored here and applied, and newer than the last one. */
static bool may_take(const struct kv_replica *r)
{
    return !r->take.under_way && !r->is_unfit && !is_installing(r) &&
           !kv_replica_removes_snapshots(r) && r->applied_configuration_index > 0 &&
           r->applied_index >= least_index(r) && r->applied_index <= r->raft.last_stored &&
           kv_terms_of(&r->terms, r->applied_index) != 0;
}

void kv_replica_snapshots_turn(struct kv_replica *r)
{
    if (!may_take(r) || r->last_now_ms < r->snapshot_retry_ms) {
        return;
    }
    if (r->take.is_wanted || r->is_take_due || r->log_bytes >= log_bytes_due(r)) {
        (void)start_take(r);
    }
}

int kv_replica_take_snapshot(struct kv_replica *r)
{
    if (!r->started || r->dead || r->applied_configuration_index == 0) {
        return KV_NO_LEADER;
    }
    if (!r->take.under_way && r->n_kept > 0 && r->applied_index == r->kept[0].descriptor.index) {
        const struct kv_snapshot_descriptor *newest = &r->kept[0].descriptor;

        r->options.ops->snapshot_done(
            r->options.arg, 0, newest->index, newest->size_bytes, &r->take.error);
        return 0;
    }
    if (is_installing(r) || r->last_now_ms < r->snapshot_retry_ms) {
        return KV_BUSY;
    }
    r->take.is_wanted = true;
    return 0;
}

void kv_replica_cancel_take(struct kv_replica *r)
{
    uint64_t retry_ms = r->last_now_ms + KV_SNAPSHOT_RETRY_MS;

    r->take.is_cancelled = true;
    r->snapshot_retry_ms = retry_ms > r->snapshot_retry_ms ? retry_ms : r->snapshot_retry_ms;
}

void kv_replica_give_up_snapshot(struct kv_replica *r)
{
    if (r->take.under_way && !r->take.is_cancelled) {
        kv_replica_cancel_take(r);
        KV_LOG(WARN,
               "raft",
               "snapshot_given_up",
               "index=%" PRIu64 " reason=\"it keeps too much memory from being freed\"",
               r->take.meta.index);
    }
}

void kv_replica_quiesce(struct kv_replica *r)
{
    r->is_quiescing = true;
    r->take.is_cancelled = true;
    kv_replica_fetch_cancel(r);
    /* No new one is begun. */
    r->snapshot_retry_ms = UINT64_MAX;
}

bool kv_replica_snapshots_idle(const struct kv_replica *r)
{
    for (size_t i = 0; i < r->n_peers; i++) {
        if (r->peers[i].serve.under_way) {
            return false;
        }
    }
    return !r->take.under_way && !r->removal.under_way && !r->check.under_way &&
           !r->fetch.job_under_way;
}

/* ---------------------------------------------------------------- at start */

/* KV_CORRUPT and the like: try an older one. */
static int
load_one(struct kv_replica *r, const struct kv_snapshot_id *id, struct kv_error *ret_error)
{
    struct kv_snapshot_load load;
    struct kv_snapshot_descriptor descriptor;
    const struct kv_snapshot_meta *meta;
    int status = kv_snapshot_load_open(&load, r, NULL, id, ret_error);

    if (status != 0) {
        return status;
    }
    do {
        status = kv_snapshot_load_some(&load, ret_error);
    } while (status == 1);
    if (status == 0) {
        meta = kv_snapshot_reader_meta(load.reader);
        descriptor = kv_snapshot_descriptor_of(load.reader);
        kv_replica_keep_snapshot(r, &descriptor, meta->configuration, false);
        kv_replica_note_configuration(r, meta->configuration_index, meta->configuration);
        r->options.ops->restore_install(r->options.arg, load.restore, id->index);
        r->restored_index = id->index;
        r->restored_term = id->term;
    }
    kv_snapshot_load_close(&load);
    return status;
}

/* Unread: they are checked when they are needed. */
static void keep_older(struct kv_replica *r, const struct kv_snapshot_id *ids, size_t n)
{
    for (size_t i = 0; i < n && r->n_kept < KV_SNAPSHOTS_MAX; i++) {
        struct kv_kept_snapshot *kept = &r->kept[r->n_kept++];

        *kept = (struct kv_kept_snapshot){.descriptor = {.index = ids[i].index,
                                                         .term = ids[i].term,
                                                         .size_bytes = ids[i].size_bytes}};
        kv_buf_init(&kept->configuration, KV_CONFIGURATION_BYTES_MAX);
    }
}

/* Whose files this server must leave to a newer one: then it does not start. */
static bool is_of_newer_format(const struct kv_replica *r, const struct kv_snapshot_id *id)
{
    struct kv_snapshot_reader *reader = NULL;
    char name[KV_SNAPSHOT_NAME_BYTES];
    struct kv_error error;
    int status;

    kv_snapshot_name(name, id->index, id->term, KV_SNAPSHOT_COMPLETE);
    status = kv_snapshot_reader_open(&r->env.disk, name, 0, &reader, &error);
    kv_snapshot_reader_close(reader);
    return status == KV_WRONG_NODE;
}

static void log_refused(const struct kv_snapshot_id *id, const char *message, bool is_last)
{
    KV_REACHED("snapshot-refused");
    KV_LOG(ERROR,
           "raft",
           "snapshot_refused",
           "index=%" PRIu64 " error=\"%s\" next=\"%s\"",
           id->index,
           message,
           is_last ? "the whole log is tried" : "an older one is tried");
}

int kv_replica_load_snapshot(struct kv_replica *r, struct kv_error *ret_error)
{
    struct kv_snapshot_id ids[KV_SNAPSHOTS_MAX];
    struct kv_error first = {0}; /* that is of another cluster, or could not be read */
    size_t n;
    int status = kv_snapshot_list(&r->env.disk, ids, KV_SNAPSHOTS_MAX, &n, ret_error);

    for (size_t i = 0; i < n && status == 0 && r->restored_index == 0; i++) {
        struct kv_error error;
        int loaded = load_one(r, &ids[i], &error);

        if (loaded == KV_NO_MEMORY || (loaded == KV_WRONG_NODE && is_of_newer_format(r, &ids[i]))) {
            *ret_error = error;
            return loaded;
        }
        if ((loaded == KV_WRONG_NODE || loaded == KV_IO) && first.status == 0) {
            first = error;
        }
        if (loaded != 0) {
            log_refused(&ids[i], error.message, i + 1 == n);
        } else {
            keep_older(r, ids + i + 1, n - i - 1);
        }
    }
    /* It took the place of what is missing, or may hold it: no reason to replace this member. */
    if (status == 0 && first.status != 0 && r->restored_index + 1 < kv_wal_first_index(r->wal)) {
        *ret_error = first;
        status = first.status;
    }
    return status;
}
