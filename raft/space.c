/* Full disks. How much room the data directory has is looked at once a second, on the file worker;
 * members tell their leader with every answer to an AppendEntries (its capacity field). */
#include "common/log.h"
#include "common/reached.h"
#include "raft/replica_internal.h"

#include <inttypes.h>

/* What the log needs. */
static uint64_t log_reserve_bytes(const struct kv_replica *r)
{
    uint64_t segment =
        r->options.wal_segment_bytes ? r->options.wal_segment_bytes : KV_WAL_SEGMENT_BYTES;

    return segment < KV_DISK_RESERVE_BYTES ? segment : KV_DISK_RESERVE_BYTES;
}

/* Or the next snapshot, which will be about as large as the last. */
static uint64_t reserve_bytes(const struct kv_replica *r)
{
    uint64_t snapshot = r->n_kept > 0 ? r->kept[0].descriptor.size_bytes : 0;
    uint64_t log = log_reserve_bytes(r);

    return snapshot > log ? snapshot : log;
}

/* A disk that cannot say is not full: a write will tell. */
static enum kv_room room_of(const struct kv_replica *r, int64_t free_bytes)
{
    if (free_bytes < 0 || (uint64_t)free_bytes >= reserve_bytes(r)) {
        return KV_ROOM_ENOUGH;
    }
    return (uint64_t)free_bytes >= log_reserve_bytes(r) / 2 ? KV_ROOM_SHORT : KV_ROOM_NONE;
}

/* Leadership goes to a member that has room, if one is connected; each look at the disk tries once.
 */
static void hand_over(struct kv_replica *r)
{
    uint64_t successor = kv_replica_choose_successor(r, KV_ROOM_ENOUGH);

    if (successor != 0 && kv_replica_transfer(r, successor) == 0) {
        KV_LOG(WARN, "raft", "hand_over_for_room", "to=%" PRIu64, successor);
    }
}

static void run(struct kv_job *job)
{
    struct kv_space_check *check = (struct kv_space_check *)job;
    const struct kv_disk *disk = &check->replica->env.disk;

    check->free_bytes = disk->ops->free_bytes(disk->disk);
}

static void done(struct kv_job *job)
{
    struct kv_space_check *check = (struct kv_space_check *)job;
    struct kv_replica *r = check->replica;
    enum kv_room room = room_of(r, check->free_bytes);

    check->under_way = false;
    if (r->dead) {
        return;
    }
    if (room != r->room) {
        static const char *const events[] = {"disk_is_full", "disk_is_short", "disk_has_room"};

        r->room = room;
        r->changed = true;
        KV_LOG(WARN,
               "raft",
               events[room],
               "directory=%s free_bytes=%" PRId64 " reserve_bytes=%" PRIu64,
               r->env.disk.name,
               check->free_bytes,
               reserve_bytes(r));
    }
    if (room != KV_ROOM_ENOUGH) {
        kv_replica_prune_snapshots(r);
    }
    if (room != KV_ROOM_ENOUGH && kv_replica_is_leader(r)) {
        hand_over(r);
    }
}

void kv_replica_check_space(struct kv_replica *r)
{
    struct kv_space_check *check = &r->space_check;

    if (check->under_way) {
        return;
    }
    check->under_way = true;
    check->replica = r;
    check->job.run = run;
    check->job.done = done;
    r->env.file_worker.ops->submit(r->env.file_worker.worker, &check->job);
}

/* Have a majority of the voters so much, ourselves counted as if we had? */
static bool majority_has(const struct kv_replica *r, enum kv_room room)
{
    unsigned n_voters = 0;
    unsigned n_roomy = 0;

    for (unsigned i = 0; i < r->raft.configuration.n; i++) {
        const struct raft_server *server = &r->raft.configuration.servers[i];

        if (server->role == RAFT_VOTER) {
            n_voters++;
            for (size_t j = 0; j < r->n_peers; j++) {
                n_roomy += r->peers[j].id == server->id && r->peers[j].room >= room;
            }
        }
    }
    return n_roomy + 1 > n_voters / 2;
}

bool kv_replica_has_room(const struct kv_replica *r)
{
    return r->room == KV_ROOM_ENOUGH && majority_has(r, KV_ROOM_ENOUGH);
}

bool kv_replica_can_write(const struct kv_replica *r)
{
    return !kv_wal_is_out_of_room(r->wal) && majority_has(r, KV_ROOM_SHORT);
}

void kv_replica_note_room(struct kv_peer *peer, const struct raft_append_entries_result *result)
{
    if (result->features & 1) {
        peer->room =
            result->capacity < KV_ROOM_ENOUGH ? (enum kv_room)result->capacity : KV_ROOM_ENOUGH;
    }
}

void kv_replica_refuse_entries(struct kv_replica *r, struct raft_append_entries *append)
{
    uint64_t commit = raft_commit_index(&r->raft);

    KV_REACHED("refuses-entries");
    append->entries = NULL;
    append->n_entries = 0;
    append->leader_commit = append->leader_commit < commit ? append->leader_commit : commit;
    append->prev_log_index = commit;
    append->prev_log_term = commit ? kv_terms_of(&r->terms, commit) : 0;
}

bool kv_replica_is_patient(const struct kv_replica *r, uint64_t now_ms)
{
    return (r->room == KV_ROOM_NONE || r->is_unfit) && r->raft.state == RAFT_FOLLOWER &&
           raft_timeout(&r->raft) <= now_ms;
}

uint64_t kv_replica_election_deadline_ms(const struct kv_replica *r)
{
    uint64_t deadline = raft_timeout(&r->raft);

    if (r->is_unfit && r->raft.state != RAFT_LEADER) {
        return UINT64_MAX;
    }
    if (r->room == KV_ROOM_NONE && r->raft.state == RAFT_FOLLOWER) {
        deadline += (uint64_t)KV_FULL_DISK_PATIENCE_ELECTIONS * r->options.election_timeout_ms;
    }
    return deadline;
}
