/* What disks do to the nodes on them: they rot, fill up, have bad parts. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "raft/wal_format.h"

#include <inttypes.h>
#include <string.h>

enum { ROT_PERMILLE = 100, FILL_PERMILLE = 300, ENTRY_REACH_BYTES = 2048 };

static uint64_t pick(struct sim *sim, enum sim_fault fault, uint64_t below)
{
    return sim_random(sim, (enum sim_stream)(SIM_RANDOM_FAULT + fault), below);
}

/* ---------------------------------------------------------------- rot */

static uint64_t number_of(const char *name)
{
    uint64_t first, number;

    return strncmp(name, "wal/", 4) == 0 &&
                   kv_wal_segment_name_parse(name + 4, &first, &number) == 0
               ? number
               : 0;
}

/* Bytes of the file that later records say to be on the disk. */
static uint64_t vouched_bytes(const struct sim_node *node, const char *name, uint64_t size)
{
    uint64_t number = number_of(name);
    uint64_t last;

    if (strcmp(name, "meta") == 0 || (strncmp(name, "snap/", 5) == 0 && !strstr(name, ".tmp"))) {
        return size;
    }
    if (node->n_places < SIM_PLACES || number == 0) {
        return 0;
    }
    last = number_of(node->places[0].name);
    return number < last ? size : number == last ? node->places[0].offset : 0;
}

/* The members that were never damaged stay a majority. */
bool sim_disk_may_damage(const struct sim *sim)
{
    unsigned n = 1;

    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        n += sim->nodes[i].is_damaged;
    }
    return n <= (sim->profile.n_nodes - 1) / 2;
}

/* A bit between these bytes of the file. */
static bool flip(struct sim_node *node, const char *name, uint64_t from, uint64_t to)
{
    struct sim *sim = node->sim;
    uint64_t size = 0;
    uint64_t at;

    if (!sim_disk_may_damage(sim) || !fake_disk_durable(node->disk, name, &size)) {
        return false;
    }
    size = vouched_bytes(node, name, size);
    to = to < size ? to : size;
    if (from >= to) {
        return false;
    }
    at = from + pick(sim, SIM_FLIP, to - from);
    fake_disk_flip(node->disk, name, at, (unsigned)pick(sim, SIM_FLIP, 8));
    node->is_damaged = true;
    sim_note(sim, node->id, "a bit flips in %s at %" PRIu64, name, at);
    return true;
}

bool sim_disk_flip(struct sim_node *node)
{
    static char names[SIM_FILES_MAX][128];
    struct sim *sim = node->sim;
    size_t n = fake_disk_list(node->disk, "snap", names, SIM_FILES_MAX - 1);

    if (sim->profile.rot != SIM_ROT_ANYWHERE) {
        return false;
    }
    /* Of snapshots, often: each is one file of many. */
    if (n == 0 || pick(sim, SIM_FLIP, 2)) {
        n = fake_disk_list(node->disk, "wal", names, SIM_FILES_MAX - 1);
    }
    snprintf(names[n++], sizeof names[0], "meta");
    n = pick(sim, SIM_FLIP, n);
    return !strchr(names[n], '.') && flip(node, names[n], 0, UINT64_MAX);
}

/* The piece of a snapshot that is about to be sent. */
static bool rot_served(struct sim_node *node, const struct kv_job *job)
{
    const struct kv_replica *replica = node->node->replica;

    for (size_t i = 0; i < replica->n_peers; i++) {
        const struct kv_serve *serve = &replica->peers[i].serve;

        if (&serve->job == job) {
            char name[KV_SNAPSHOT_NAME_BYTES];

            kv_snapshot_name(name, serve->index, serve->term, KV_SNAPSHOT_COMPLETE);
            return flip(node, name, serve->offset, serve->offset + serve->size);
        }
    }
    return false;
}

/* The part that has been fetched, before it is loaded: behind that its state is that of no file. */
static bool rot_fetched(struct sim_node *node, const struct kv_job *job)
{
    const struct kv_fetch *fetch = &node->node->replica->fetch;
    char name[KV_SNAPSHOT_NAME_BYTES];

    if (&fetch->job != job || fetch->phase != KV_FETCH_LOADING || !fetch->receiver ||
        fetch->load.ops) {
        return false;
    }
    kv_snapshot_name(name, fetch->descriptor.index, fetch->descriptor.term, KV_SNAPSHOT_PARTIAL);
    return flip(node, name, 0, fetch->descriptor.size_bytes);
}

/* Entries that are about to be read back from the log. */
static bool rot_log(struct sim_node *node, const struct kv_job *job)
{
    const struct kv_replica *replica = node->node->replica;
    const struct kv_wal *wal = replica->wal;
    const struct kv_wal_read *read = &replica->apply_reader.read;
    const struct kv_wal_point *point = NULL;

    for (size_t i = 0; i < replica->n_peers && &read->job != job; i++) {
        read = &replica->peers[i].outbox.read;
    }
    if (&read->job != job || !read->plan) {
        return false;
    }
    for (size_t i = 0; i < wal->n_points && wal->points[i].index <= read->first_index; i++) {
        point = &wal->points[i];
    }
    return point &&
           flip(node, point->segment->name, point->offset, point->offset + ENTRY_REACH_BYTES);
}

static void rot(struct sim_node *node, const struct kv_job *job)
{
    struct sim *sim = node->sim;
    bool has_rotted = false;

    if (sim->profile.fault_every_ms[SIM_FLIP] == 0 || sim->profile.rot == SIM_ROT_ANYWHERE ||
        !sim_chance(sim, (enum sim_stream)(SIM_RANDOM_FAULT + SIM_FLIP), ROT_PERMILLE)) {
        return;
    }
    switch (sim->profile.rot) {
    case SIM_ROT_SERVED:
        has_rotted = rot_served(node, job);
        break;
    case SIM_ROT_FETCHED:
        has_rotted = rot_fetched(node, job);
        break;
    default:
        has_rotted = rot_log(node, job);
        break;
    }
    sim->counts.faults[SIM_FLIP] += has_rotted;
}

/* ---------------------------------------------------------------- room */

static void leave(struct sim_node *node, uint64_t left)
{
    struct sim *sim = node->sim;

    fake_disk_set_size(node->disk, fake_disk_used(node->disk) + left + 1);
    node->is_full = sim->checkers.nodes[node->id].was_full = true;
    sim_note(sim, node->id, "its disk has %" PRIu64 " bytes left", left);
}

void sim_disk_fill(struct sim_node *node)
{
    leave(node, pick(node->sim, SIM_FULL_DISK, 3 * node->sim->profile.segment_bytes));
}

/* While the next segment is made, with room for a snapshot: the log goes on, and comes to its end
 * if nothing is released meanwhile. */
static void fill_before_segment(struct sim_node *node, const struct kv_job *job)
{
    struct sim *sim = node->sim;
    const struct kv_replica *replica = node->node->replica;
    const struct kv_wal *wal = replica->wal;
    const struct kv_wal_chore *chore = &wal->chore;
    uint64_t segment = sim->profile.segment_bytes;
    uint64_t least = replica->n_kept > 0 ? replica->kept[0].descriptor.size_bytes * 5 / 4 : 0;
    bool is_awaited = !wal->batch_under_way && wal->first_batch && wal->first_batch->begins;

    least = least > segment / 2 ? least : segment / 2;
    if (sim->profile.fault_every_ms[SIM_FULL_DISK] == 0 || sim->profile.full_times == 1 ||
        node->is_full || wal->n_segments < 2 || job != &chore->job || chore->file || chore->old ||
        chore->kind != KV_WAL_CHORE_SLICE || least >= segment ||
        !sim_chance(sim,
                    (enum sim_stream)(SIM_RANDOM_FAULT + SIM_FULL_DISK),
                    is_awaited ? 1000 : FILL_PERMILLE)) {
        return;
    }
    leave(node, least + pick(sim, SIM_FULL_DISK, segment - least));
    sim_fault_end_later(sim, SIM_FULL_DISK, node->id);
    sim->counts.faults[SIM_FULL_DISK]++;
}

/* ---------------------------------------------------------------- bad parts */

bool sim_disk_go_bad(struct sim_node *node, enum sim_fault fault)
{
    static const unsigned permilles[] = {30, 100, 300, 1000};
    unsigned permille = permilles[pick(node->sim, fault, sizeof permilles / sizeof permilles[0])];
    bool reads_alone = fault == SIM_BAD_LOG || pick(node->sim, fault, 3) == 0;
    const char *directory = fault == SIM_BAD_LOG ? "wal" : "snap";

    if (node->is_bad) {
        return false;
    }
    node->is_bad = true;
    fake_disk_fail_at(node->disk, directory, reads_alone, permille);
    sim_note(node->sim,
             node->id,
             "%u of 1000 %s of %s/ fail",
             permille,
             reads_alone ? "reads" : "calls",
             directory);
    return true;
}

void sim_disk_be_well(struct sim_node *node)
{
    node->is_bad = false;
    fake_disk_fail_at(node->disk, NULL, false, 0);
}

void sim_disk_before_job(struct sim_node *node, const struct kv_job *job)
{
    if (!node->sim->has_healed) {
        rot(node, job);
        fill_before_segment(node, job);
    }
}
