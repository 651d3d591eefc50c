/* Faults: when they come, what they do, and their end. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "tests/sim/differ.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { FAULT_MEAN_MS = 2500, RATE_PPM = 1000000 };

static uint64_t pick(struct sim *sim, enum sim_fault fault, uint64_t below)
{
    return sim_random(sim, (enum sim_stream)(SIM_RANDOM_FAULT + fault), below);
}

static void schedule(struct sim *sim, enum sim_fault fault)
{
    uint64_t every_ms = sim->profile.fault_every_ms[fault];

    if (every_ms > 0) {
        sim_push(
            sim,
            (struct sim_event){
                .time_ns = sim->now_ns +
                           SIM_MS * sim_random_time(
                                        sim, (enum sim_stream)(SIM_RANDOM_FAULT + fault), every_ms),
                .kind = SIM_EV_FAULT,
                .lane = (uint8_t)fault});
    }
}

void sim_faults_begin(struct sim *sim)
{
    for (unsigned fault = 0; fault < SIM_FAULTS; fault++) {
        schedule(sim, (enum sim_fault)fault);
    }
}

uint64_t sim_fault_end_later(struct sim *sim, enum sim_fault fault, unsigned node)
{
    /* Others must notice that it differs before an operator ends it. */
    uint64_t mean_ms = FAULT_MEAN_MS * (fault == SIM_FULL_DISK ? sim->profile.full_times
                                        : fault == SIM_DIFFER  ? 3
                                                               : 1);
    uint64_t after_ms = sim_random_time(sim, (enum sim_stream)(SIM_RANDOM_FAULT + fault), mean_ms);

    sim_push(sim,
             (struct sim_event){.time_ns = sim->now_ns + after_ms * SIM_MS,
                                .kind = SIM_EV_FAULT_END,
                                .node = (uint8_t)node,
                                .lane = (uint8_t)fault});
    return after_ms;
}

static unsigned leader_of(const struct sim *sim)
{
    unsigned leader = 0;

    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        if (sim->nodes[i].is_up && kv_replica_is_leader(sim->nodes[i].node->replica)) {
            leader = i;
        }
    }
    return leader;
}

/* ---------------------------------------------------------------- processes */

static void end_process(struct sim_node *node, enum sim_end how)
{
    sim_note(node->sim, node->id, how == SIM_END_POWER ? "loses power" : "is killed");
    sim_node_end(node, how);
    sim_node_restart_later(node);
}

void sim_fault_node_started(struct sim_node *node)
{
    enum { UP_MEAN_MS = 200 };

    if (node->flaps > 0) {
        sim_push(
            node->sim,
            (struct sim_event){
                .time_ns = node->sim->now_ns +
                           SIM_MS * sim_random_time(node->sim,
                                                    (enum sim_stream)(SIM_RANDOM_FAULT + SIM_KILL),
                                                    UP_MEAN_MS),
                .kind = SIM_EV_FAULT_END,
                .node = (uint8_t)node->id,
                .lane = SIM_KILL});
    }
}

/* As long as its supervisor starts it again. */
static void flap(struct sim_node *node)
{
    if (node->is_up && node->flaps > 0) {
        node->flaps--;
        end_process(node, SIM_END_KILLED);
    }
}

static void cut_disk(struct sim_node *node)
{
    struct sim *sim = node->sim;
    uint64_t calls = 1 + pick(sim, SIM_CUT, 40);

    node->power_fails_at_cut = pick(sim, SIM_CUT, 2);
    if (pick(sim, SIM_CUT, 2)) {
        node->cut_at_release = true;
        return;
    }
    fake_disk_cut_at(node->disk, calls);
    sim_note(sim, node->id, "will end in %" PRIu64 " changes of its disk", calls);
}

static void stop(struct sim_node *node)
{
    sim_note(node->sim, node->id, "is told to stop");
    kv_node_stop(node->node);
    sim_node_turn(node);
}

static void pause_process(struct sim_node *node)
{
    uint64_t ms = sim_random_time(node->sim,
                                  (enum sim_stream)(SIM_RANDOM_FAULT + SIM_PAUSE),
                                  pick(node->sim, SIM_PAUSE, 3) ? 700 : 2500);

    sim_note(node->sim, node->id, "is paused for %" PRIu64 " ms", ms);
    node->paused_until_ns = node->sim->now_ns + ms * SIM_MS;
}

static void transfer(struct sim *sim)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        struct sim_node *node = &sim->nodes[i];
        uint64_t to = pick(sim, SIM_TRANSFER, sim->profile.n_nodes + 1);

        if (node->is_up && node->paused_until_ns <= sim->now_ns && to != i &&
            kv_replica_is_leader(node->node->replica)) {
            int status = kv_replica_transfer(node->node->replica, to);

            sim_note(sim, i, "is told to hand over to %" PRIu64 ": %s", to, kv_status_name(status));
            sim_node_turn(node);
        }
    }
}

static void stall(struct sim *sim, unsigned node)
{
    sim->nodes[node].stalled_until_ns =
        sim->now_ns + SIM_MS * sim_fault_end_later(sim, SIM_STALL, node);
    sim_note(sim, node, "its disk stalls");
}

/* ---------------------------------------------------------------- network */

static void cut(struct sim *sim, unsigned from, unsigned to)
{
    sim->links[from][to].is_cut = true;
}

/* The leader and fewer than half of the others; one of those may have a disk that takes nothing
 * while the majority goes on without it. */
static uint64_t group_of(struct sim *sim, unsigned leader)
{
    uint64_t group = UINT64_C(1) << (leader - 1);
    unsigned n = (unsigned)pick(sim, SIM_PARTITION, (sim->profile.n_nodes + 1) / 2);

    for (unsigned i = 0; i < n; i++) {
        unsigned other = 1 + (unsigned)pick(sim, SIM_PARTITION, sim->profile.n_nodes);

        group |= UINT64_C(1) << (other - 1);
        if (other != leader && sim->profile.fault_every_ms[SIM_STALL]) {
            stall(sim, other);
        }
    }
    return group;
}

/* It believes for long that it leads. */
static void slow_clock(struct sim *sim, unsigned leader)
{
    uint64_t rate = pick(sim, SIM_PARTITION, 2) ? 20000 : 200000;

    sim_node_set_rate(&sim->nodes[leader], rate + pick(sim, SIM_PARTITION, 5 * rate / 2));
    sim_fault_end_later(sim, SIM_CLOCK, leader);
}

/* A group by chance, or one around the leader. A slow leader whose heartbeats are missed may still
 * hear one of those that go on without it. */
static void partition(struct sim *sim)
{
    uint64_t group = 1 + pick(sim, SIM_PARTITION, (UINT64_C(1) << sim->profile.n_nodes) - 2);
    unsigned leader = pick(sim, SIM_PARTITION, 3) ? leader_of(sim) : 0;

    unsigned spared = 0;

    if (leader) {
        group = group_of(sim, leader);
        if (pick(sim, SIM_PARTITION, 100) < sim->profile.slow_percent) {
            slow_clock(sim, leader);
            spared = (unsigned)pick(sim, SIM_PARTITION, 2 * sim->profile.n_nodes);
        }
    }
    sim_note(sim, 0, "partition %" PRIx64, group);
    for (unsigned a = 1; a <= sim->profile.n_nodes; a++) {
        for (unsigned b = 1; b <= sim->profile.n_nodes; b++) {
            if ((group >> (a - 1) & 1) != (group >> (b - 1) & 1)) {
                cut(sim, a, b);
            }
        }
    }
    if (spared >= 1 && spared <= sim->profile.n_nodes && spared != leader) {
        sim->links[leader][spared].is_cut = sim->links[spared][leader].is_cut = false;
    }
}

/* One node hears all others again, and they hear it. */
static void mend_one(struct sim *sim, unsigned node)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        sim->links[i][node].is_cut = sim->links[node][i].is_cut = false;
    }
}

static void mend(struct sim *sim)
{
    for (unsigned a = 1; a <= sim->profile.n_nodes; a++) {
        for (unsigned b = 1; b <= sim->profile.n_nodes; b++) {
            sim->links[a][b].is_cut = false;
        }
    }
}

enum { BEHIND_LOOK_MS = 300, BEHIND_MAX_MS = 10000 };

static void look_behind_later(struct sim *sim)
{
    sim_push(sim,
             (struct sim_event){.time_ns = sim->now_ns + BEHIND_LOOK_MS * SIM_MS,
                                .kind = SIM_EV_FAULT_END,
                                .node = (uint8_t)sim->behind,
                                .lane = SIM_BEHIND});
}

static bool leave_behind(struct sim *sim, unsigned node)
{
    if (sim->profile.n_nodes == 1 || sim->behind != 0 || node == leader_of(sim)) {
        return false;
    }
    sim_note(sim, node, "hears nobody until it needs a snapshot");
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        cut(sim, i, node);
        cut(sim, node, i);
    }
    sim->behind = node;
    sim->behind_until_ns = sim->now_ns + BEHIND_MAX_MS * SIM_MS;
    look_behind_later(sim);
    return true;
}

static bool needs_snapshot(const struct sim *sim, const struct sim_node *node)
{
    const unsigned leader = leader_of(sim);

    return leader != 0 && node->is_up &&
           sim->nodes[leader].node->replica->raft.trail.offset >
               kv_wal_last_index(node->node->replica->wal);
}

/* The log before the last but one is released. */
static void take_snapshot(struct sim *sim, unsigned leader)
{
    struct sim_node *node = &sim->nodes[leader];

    if (leader != 0 && node->paused_until_ns <= sim->now_ns) {
        int status = kv_replica_take_snapshot(node->node->replica);

        sim_note(sim, leader, "is told to take a snapshot: %s", kv_status_name(status));
        sim_node_turn(node);
    }
}

/* It comes back, and ends, or the leader does, before it is whole. */
static void come_back(struct sim *sim, struct sim_node *node)
{
    const unsigned leader = leader_of(sim);
    const uint64_t throw = pick(sim, SIM_BEHIND, 6);

    sim->behind = 0;
    mend_one(sim, node->id);
    if (throw <= 1) {
        node->cut_snapshot = true;
    } else if (throw == 2 && leader != 0) {
        sim->nodes[leader].cut_snapshot = true;
    } else if (throw == 3 && node->is_up) {
        end_process(node, SIM_END_POWER);
    }
}

/* Is it over? */
static bool look_behind(struct sim *sim)
{
    struct sim_node *node = &sim->nodes[sim->behind];

    if (!needs_snapshot(sim, node) && sim->now_ns < sim->behind_until_ns && !sim->has_healed) {
        take_snapshot(sim, leader_of(sim));
        look_behind_later(sim);
        return false;
    }
    come_back(sim, node);
    return true;
}

static void slow_down(struct sim *sim, unsigned node)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        sim->links[i][node].is_slow = true;
        sim->links[node][i].is_slow = true;
    }
}

static void speed_up(struct sim *sim, unsigned node)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        if (sim->links[i][node].is_slow) {
            sim_net_quicken(sim, i, node);
        }
        if (sim->links[node][i].is_slow) {
            sim_net_quicken(sim, node, i);
        }
    }
}

/* ---------------------------------------------------------------- all */

/* In the sum that is the state hash: what clients are told is right until the others notice, and
 * nobody can take the state for that of all. */
static bool let_differ(struct sim_node *node)
{
    struct sim *sim = node->sim;

    if (!node->is_up || !node->node->replica->started || node->is_damaged ||
        !sim_disk_may_damage(sim)) {
        return false;
    }
    differ_by(node->node->machine, 1);
    node->hash_error = 1;
    node->has_differed = node->is_damaged = true;
    sim_note(sim, node->id, "its state differs");
    return true;
}

/* An operator replaces the process, noticed or not. */
static void begin_anew(struct sim_node *node)
{
    if (node->is_up && node->has_differed) {
        end_process(node, SIM_END_KILLED);
    }
}

static void allow_death(struct sim_node *node)
{
    node->may_die = true;
    node->n_disk_faults++;
}

static bool begin_of_process(struct sim *sim, enum sim_fault fault, struct sim_node *node)
{
    if (!node->is_up) {
        return false;
    }
    switch (fault) {
    case SIM_KILL:
        node->flaps = pick(sim, SIM_KILL, 4) ? 0 : 1 + (unsigned)pick(sim, SIM_KILL, 5);
        end_process(node, SIM_END_KILLED);
        return true;
    case SIM_POWER:
        end_process(node, SIM_END_POWER);
        return true;
    case SIM_STOP:
        if (node->paused_until_ns > sim->now_ns) {
            return false;
        }
        stop(node);
        return true;
    default:
        pause_process(node);
        return true;
    }
}

static bool begin_of_disk(struct sim *sim, enum sim_fault fault, struct sim_node *node)
{
    switch (fault) {
    case SIM_CUT:
        cut_disk(node);
        return true;
    case SIM_CUT_SNAPSHOT:
        node->cut_snapshot = true;
        sim_note(sim, node->id, "will end in its next job on snapshots");
        return true;
    case SIM_SLOW_DISK:
        node->slow_disk = 2 + (unsigned)pick(sim, fault, 30);
        sim_note(sim, node->id, "its disk is %u times slower", node->slow_disk);
        break;
    case SIM_STALL:
        stall(sim, node->id);
        return true;
    case SIM_FULL_DISK:
        sim_disk_fill(node);
        break;
    case SIM_FLIP:
        return sim_disk_flip(node);
    case SIM_DIFFER:
        if (!let_differ(node)) {
            return false;
        }
        break;
    case SIM_BAD_SNAPSHOTS:
    case SIM_BAD_LOG:
        if (!sim_disk_go_bad(node, fault)) {
            return false;
        }
        /* What it cannot read of its log it cannot do without. */
        if (fault == SIM_BAD_LOG) {
            allow_death(node);
        }
        break;
    default:
        fake_disk_fail_syncs(node->disk, EIO);
        allow_death(node);
        sim_note(sim, node->id, "its syncs fail");
        break;
    }
    sim_fault_end_later(sim, fault, node->id);
    return true;
}

static bool begin_of_network(struct sim *sim, enum sim_fault fault, unsigned node, unsigned other)
{
    switch (fault) {
    case SIM_PARTITION:
        partition(sim);
        break;
    case SIM_ONE_WAY:
        sim_note(sim, node, "is not heard by %u", other);
        cut(sim, node, other);
        break;
    case SIM_SLOW_LINK:
        node = pick(sim, fault, 2) && leader_of(sim) ? leader_of(sim) : node;
        sim->slow_bytes_per_ms = 5 + pick(sim, fault, 150);
        sim_note(sim, node, "its links are slow");
        slow_down(sim, node);
        break;
    case SIM_RESET:
        sim_note(sim, node, "its connection to %u is reset", other);
        sim_net_lose(sim, node, other);
        return true;
    default:
        sim->loss_permille = 1 + (unsigned)pick(sim, fault, 60);
        sim_note(sim, 0, "%u of 1000 messages are lost", sim->loss_permille);
        break;
    }
    sim_fault_end_later(sim, fault, node);
    return true;
}

static bool begin(struct sim *sim, enum sim_fault fault)
{
    unsigned id = 1 + (unsigned)pick(sim, fault, sim->profile.n_nodes);
    unsigned other = 1 + (unsigned)pick(sim, fault, sim->profile.n_nodes);
    struct sim_node *node = &sim->nodes[id];
    bool at_leader = pick(sim, fault, 100) < sim->profile.leader_percent && leader_of(sim) != 0;

    switch (fault) {
    case SIM_KILL:
    case SIM_POWER:
    case SIM_STOP:
    case SIM_PAUSE:
        node = at_leader ? &sim->nodes[leader_of(sim)] : node;
        return begin_of_process(sim, fault, node);
    case SIM_CUT:
    case SIM_CUT_SNAPSHOT:
    case SIM_SLOW_DISK:
    case SIM_STALL:
    case SIM_FULL_DISK:
    case SIM_SYNC_FAILS:
    case SIM_FLIP:
    case SIM_BAD_SNAPSHOTS:
    case SIM_BAD_LOG:
        return begin_of_disk(sim, fault, node);
    case SIM_DIFFER:
        node = at_leader ? &sim->nodes[leader_of(sim)] : node;
        return begin_of_disk(sim, fault, node);
    case SIM_PARTITION:
    case SIM_ONE_WAY:
    case SIM_SLOW_LINK:
    case SIM_RESET:
    case SIM_LOSS:
        return sim->profile.n_nodes > 1 && (id != other || fault == SIM_PARTITION) &&
               begin_of_network(sim, fault, id, other);
    case SIM_CLOCK:
        sim_node_set_rate(node,
                          pick(sim, fault, 4) ? 900000 + pick(sim, fault, 200001)
                                              : 500000 + pick(sim, fault, 1500001));
        sim_note(sim, id, "its clock runs at %" PRIu64 " ppm", node->clock.rate_ppm);
        return true;
    case SIM_TRANSFER:
        transfer(sim);
        return true;
    case SIM_BEHIND:
        return leave_behind(sim, id);
    case SIM_SNAPSHOT:
        return sim_load_snapshot(&sim->clients[pick(sim, fault, sim->profile.n_clients)]);
    default:
        sim_client_reset(&sim->clients[pick(sim, fault, sim->profile.n_clients)]);
        return true;
    }
}

static void end(struct sim *sim, enum sim_fault fault, unsigned id)
{
    struct sim_node *node = &sim->nodes[id];

    switch (fault) {
    case SIM_PARTITION:
        /* Often in two steps: an old leader is heard before it hears of the new one. */
        if (pick(sim, fault, 2) == 0) {
            mend_one(sim, 1 + (unsigned)pick(sim, fault, sim->profile.n_nodes));
            sim_fault_end_later(sim, SIM_ONE_WAY, id);
            break;
        }
        mend(sim);
        break;
    case SIM_ONE_WAY:
        mend(sim);
        break;
    case SIM_CLOCK:
        sim_node_set_rate(node, RATE_PPM);
        break;
    case SIM_DIFFER:
        begin_anew(node);
        break;
    case SIM_SLOW_LINK:
        speed_up(sim, id);
        break;
    case SIM_LOSS:
        sim->loss_permille = 0;
        break;
    case SIM_SLOW_DISK:
        node->slow_disk = 0;
        break;
    case SIM_FULL_DISK:
        fake_disk_set_size(node->disk, 0);
        node->is_full = false;
        break;
    case SIM_KILL:
        flap(node);
        break;
    case SIM_SYNC_FAILS:
        fake_disk_fail_syncs(node->disk, 0);
        node->n_disk_faults -= node->n_disk_faults > 0;
        break;
    case SIM_BAD_LOG:
        node->n_disk_faults -= node->n_disk_faults > 0;
        sim_disk_be_well(node);
        break;
    case SIM_BAD_SNAPSHOTS:
        sim_disk_be_well(node);
        break;
    default:
        break;
    }
}

void sim_fault_on_event(struct sim *sim, const struct sim_event *event)
{
    enum sim_fault fault = (enum sim_fault)event->lane;

    if (event->kind == SIM_EV_FAULT_END && fault == SIM_BEHIND && !look_behind(sim)) {
        return;
    }
    if (event->kind == SIM_EV_FAULT_END) {
        end(sim, fault, event->node);
        sim_note(sim, event->node, "end of %s", sim_fault_names[fault]);
        return;
    }
    if (sim->has_healed) {
        return;
    }
    sim->counts.faults[fault] += begin(sim, fault);
    schedule(sim, fault);
}

void sim_faults_heal(struct sim *sim)
{
    mend(sim);
    sim->loss_permille = 0;
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        struct sim_node *node = &sim->nodes[i];

        begin_anew(node);
        speed_up(sim, i);
        sim_node_set_rate(node, RATE_PPM);
        node->slow_disk = 0;
        node->paused_until_ns = node->stalled_until_ns = 0;
        node->n_disk_faults = 0;
        node->cut_snapshot = node->cut_at_release = false;
        node->flaps = 0;
        fake_disk_set_size(node->disk, 0);
        node->is_full = false;
        fake_disk_fail_syncs(node->disk, 0);
        sim_disk_be_well(node);
        if (!fake_disk_is_cut(node->disk)) {
            fake_disk_cut_at(node->disk, 0);
        }
        if (!node->is_up && !node->is_lost) {
            sim_node_restart_later(node);
        }
    }
}
