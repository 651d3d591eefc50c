/* What nodes do with snapshots: files on their disks, states that they install, and at the end all
 * that is in a state. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "common/bytes.h"
#include "server/machine/snapshot.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

/* ---------------------------------------------------------------- files */

/* The state that the file on this disk makes. */
static int load(struct fake_disk *disk,
                const char *path,
                struct checked_snapshot *ret_snapshot,
                struct kv_error *ret_error)
{
    struct kv_snapshot_reader *reader = NULL;
    struct kv_machine_loader *loader;
    struct kv_machine *machine = NULL;
    struct kv_buf raw;
    int status = kv_snapshot_reader_open(fake_disk_ops(disk), path, 0, &reader, ret_error);

    kv_buf_init(&raw, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    KV_ASSERT(kv_machine_loader_open(&loader) == 0);
    while (status == 0 && (status = kv_snapshot_reader_next(reader, &raw, ret_error)) == 1) {
        status = kv_machine_loader_feed(loader, kv_slice_of(raw.data, raw.size), ret_error);
    }
    if (status == 0) {
        status = kv_machine_loader_finish(loader, &machine, ret_error);
    }
    if (status == 0) {
        kv_machine_check_invariants(machine);
        ret_snapshot->state_hash = kv_machine_state_hash(machine);
        ret_snapshot->revision = kv_machine_revision(machine);
    }
    kv_machine_loader_close(loader);
    kv_machine_close(machine);
    kv_snapshot_reader_close(reader);
    kv_buf_deinit(&raw);
    return status;
}

/* Reads what a power loss would leave of it. False: nothing for certain. */
static bool look(struct sim_node *node, const char *path, struct checked_snapshot *snapshot)
{
    uint64_t size = 0;
    const uint8_t *data = fake_disk_durable(node->disk, path, &size);
    struct fake_disk *copy;
    struct kv_error error = {0};
    int status;

    if (!data) {
        return false;
    }
    copy = fake_disk_new(1);
    fake_disk_put(copy, path, data, size);
    status = load(copy, path, snapshot, &error);
    fake_disk_free(copy);
    if (status != 0 && node->hash_error != 0) {
        /* The wrong hash is in the file: no node will take it, and this one cannot know. */
        const struct checked_entry *entry = checkers_entry(&node->sim->checkers, snapshot->index);

        snapshot->state_hash = entry->state_hash;
        snapshot->revision = entry->revision;
        return true;
    }
    if (status != 0 && !node->is_damaged) {
        sim_fail(node->sim,
                 "node %u has a snapshot on its disk that is not sound: %s",
                 node->id,
                 error.message);
    }
    return status == 0;
}

static const struct checked_snapshot *
known(const struct checked_disk *disk, uint64_t index, uint64_t term)
{
    for (size_t i = 0; i < disk->n_snapshots; i++) {
        if (disk->snapshots[i].index == index && disk->snapshots[i].term == term) {
            return &disk->snapshots[i];
        }
    }
    return NULL;
}

void sim_snapshots_look(struct sim_node *node)
{
    static char names[SIM_FILES_MAX][128];
    const struct checked_disk *disk = &node->sim->checkers.nodes[node->id].disk;
    struct checked_snapshot found[CHECKERS_SNAPSHOTS_MAX];
    size_t n_names = fake_disk_list(node->disk, "snap", names, SIM_FILES_MAX);
    size_t n = 0;

    for (size_t i = 0; i < n_names; i++) {
        struct checked_snapshot snapshot = {0};
        const struct checked_snapshot *former;
        char name[KV_SNAPSHOT_NAME_BYTES];

        if (sscanf(names[i], "snap/%" SCNx64 "-%" SCNx64, &snapshot.index, &snapshot.term) != 2) {
            continue;
        }
        kv_snapshot_name(name, snapshot.index, snapshot.term, KV_SNAPSHOT_COMPLETE);
        if (strcmp(name, names[i]) != 0) {
            continue;
        }
        KV_ASSERT(n < CHECKERS_SNAPSHOTS_MAX);
        former = known(disk, snapshot.index, snapshot.term);
        if (former) {
            found[n++] = *former;
        } else if (look(node, name, &snapshot)) {
            sim_note(node->sim, node->id, "has snapshot %" PRIu64, snapshot.index);
            node->sim->counts.snapshots++;
            found[n++] = snapshot;
        }
    }
    checkers_snapshots(&node->sim->checkers, node->id, found, n);
}

void sim_snapshots_look_at_part(struct sim_node *node)
{
    enum { NOTE_BYTES = 64, NOTE_SYNCED_OFFSET = 48, NOTE_ALIGNMENT = 4096 }; /* internals.md */
    static char names[SIM_FILES_MAX][128];
    size_t n_names = fake_disk_list(node->disk, "snap", names, SIM_FILES_MAX);

    for (size_t i = 0; i < n_names; i++) {
        uint64_t size = 0, durable_size = 0, noted;
        const uint8_t *data, *durable;

        if (!strstr(names[i], ".part")) {
            continue;
        }
        data = fake_disk_data(node->disk, names[i], &size);
        durable = fake_disk_durable(node->disk, names[i], &durable_size);
        if (!data || size % NOTE_ALIGNMENT != NOTE_BYTES) {
            continue;
        }
        noted = kv_get_u64(data + size - NOTE_BYTES + NOTE_SYNCED_OFFSET);
        noted = noted < size ? noted : 0;
        checkers_part(&node->sim->checkers,
                      node->id,
                      kv_slice_of(data, (size_t)noted),
                      kv_slice_of(durable, durable ? (size_t)durable_size : 0));
    }
}

/* ---------------------------------------------------------------- install */

void sim_snapshots_before_job(struct sim_node *node)
{
    enum { ASK_PERMILLE = 250 };
    struct sim *sim = node->sim;
    struct kv_replica *replica = node->node->replica;
    bool is_fetching =
        replica->fetch.phase == KV_FETCH_PIECES && sim->profile.fault_every_ms[SIM_SNAPSHOT] > 0;

    if (!sim->has_healed && (is_fetching || kv_wal_is_out_of_room(replica->wal)) &&
        sim_chance(sim, (enum sim_stream)(SIM_RANDOM_FAULT + SIM_SNAPSHOT), ASK_PERMILLE)) {
        int status = kv_replica_take_snapshot(replica);

        sim_note(sim,
                 node->id,
                 "is told to take a snapshot %s: %s",
                 is_fetching ? "while it fetches one" : "for its log has no room",
                 kv_status_name(status));
    }
}

void sim_snapshots_on_install(void *arg, void *restore, uint64_t index)
{
    struct kv_node *kv_node = arg;
    struct sim_node *node = kv_node->options.arg;
    struct checked_snapshot snapshot = {.index = index};

    node->install(arg, restore, index);
    sim_node_shape_machine(node);
    node->hash_error = 0;
    snapshot.term = kv_node->replica->fetch.descriptor.term;
    snapshot.state_hash = kv_machine_state_hash(kv_node->machine);
    snapshot.revision = kv_machine_revision(kv_node->machine);
    checkers_installs(&node->sim->checkers, node->id, &snapshot);
    node->sim->counts.installs++;
    sim_note(node->sim, node->id, "installs snapshot %" PRIu64, index);
}

/* ---------------------------------------------------------------- the end */

/* Of all that the state holds: keys, what they were before, settings, marks. */
static uint64_t hash_all(struct kv_machine *machine)
{
    struct kv_machine_view *view;
    struct kv_buf buf;
    uint64_t hash = 0;
    int more = 1;

    kv_buf_init(&buf, KV_SNAPSHOT_BLOCK_BYTES_MAX);
    KV_ASSERT(kv_machine_view_open(machine, &view) == 0);
    while (more == 1) {
        kv_buf_clear(&buf);
        more = kv_machine_view_read(view, &buf, KV_SNAPSHOT_BLOCK_BYTES);
        KV_ASSERT(more >= 0);
        hash = XXH3_64bits_withSeed(buf.data, buf.size, hash);
    }
    kv_machine_view_close(machine, view);
    kv_buf_deinit(&buf);
    return hash;
}

void sim_snapshots_check_end(struct sim *sim)
{
    uint64_t first = 0;
    unsigned first_node = 0;

    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        uint64_t hash;

        if (!sim->nodes[i].is_up) {
            continue;
        }
        hash = hash_all(sim->nodes[i].node->machine);
        if (first_node == 0) {
            first_node = i;
            first = hash;
        } else if (hash != first) {
            sim_fail(sim,
                     "at the end a snapshot of node %u would be another than one of node %u",
                     i,
                     first_node);
        }
    }
}
