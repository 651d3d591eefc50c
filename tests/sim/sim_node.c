/* A node's process and machine: clock, workers, start and end. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "tests/sim/shape.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
    PPM = 1000000,
    CLUSTER_ID = 77,
    DONE_SPREAD_US = 50,
    AHEAD_MAX_MS = 4,
    LOOK_EVERY = 4, /* end of a process has its machine look at itself, which takes a while */
    CUT_START_PERMILLE = 200,
    CUT_BOUNDARY_PERMILLE = 400,
    CUT_FETCH_PERMILLE = 100,
    CUT_ROLL_PERMILLE = 250,
    CUT_SPARE_PERMILLE = 120,
    SNAPSHOT_JOB_MAX_MS = 1500,
    LOG_WORKER = 0,
    FILE_WORKER = 1,
    SNAPSHOT_WORKER = 2
};

/* ---------------------------------------------------------------- clock */

uint64_t sim_node_now_ns(const struct sim_node *node)
{
    const struct sim_clock *clock = &node->clock;
    uint64_t now_ns =
        clock->local_ns + (node->sim->now_ns - clock->global_ns) * clock->rate_ppm / PPM;

    return now_ns > node->told_ns ? now_ns : node->told_ns;
}

/* A turn takes no time here. With a slow processor it does: each look is later than the one before,
 * up to a few ms, which pass then before it is later again. */
static uint64_t clock_now(void *arg)
{
    struct sim_node *node = arg;
    const struct sim_clock *clock = &node->clock;
    uint64_t now_ns = sim_node_now_ns(node);
    uint64_t latest_ns = clock->local_ns +
                         (node->sim->now_ns - clock->global_ns) * clock->rate_ppm / PPM +
                         AHEAD_MAX_MS * SIM_MS;

    if (node->sim->profile.look_us > 0 && now_ns < latest_ns) {
        node->told_ns = now_ns + 1000 * node->sim->profile.look_us;
    }
    return now_ns;
}

static uint64_t clock_random(void *arg)
{
    struct sim_node *node = arg;

    return sim_random(node->sim, SIM_RANDOM_NODE, UINT64_C(1) << 40);
}

static void clock_set_timer(void *arg, uint64_t deadline_ms)
{
    struct sim_node *node = arg;

    node->timer_ms = deadline_ms;
    sim_node_arm(node);
}

static const struct kv_clock_ops clock_ops = {clock_now, clock_set_timer, clock_random};

/* One event is kept in the heap: an earlier deadline adds one, a later one waits for it. */
void sim_node_arm(struct sim_node *node)
{
    uint64_t local_ns = sim_node_now_ns(node);
    uint64_t wanted_ns = node->timer_ms < UINT64_MAX / SIM_MS ? node->timer_ms * SIM_MS : 0;
    uint64_t left_ns = wanted_ns > local_ns ? wanted_ns - local_ns : 1000;
    uint64_t at_ns = node->sim->now_ns + left_ns * PPM / node->clock.rate_ppm + 1;

    if (node->timer_ms == UINT64_MAX || node->timer_event_ns <= at_ns) {
        return;
    }
    node->timer_event_ns = at_ns;
    sim_push(node->sim,
             (struct sim_event){.time_ns = at_ns,
                                .kind = SIM_EV_TIMER,
                                .node = (uint8_t)node->id,
                                .incarnation = node->incarnation});
}

void sim_node_on_timer(struct sim_node *node)
{
    if (node->sim->now_ns < node->timer_event_ns && node->timer_event_ns != UINT64_MAX) {
        return; /* an earlier one was not needed any more */
    }
    node->timer_event_ns = UINT64_MAX;
    if (node->timer_ms == UINT64_MAX || node->timer_ms * SIM_MS > sim_node_now_ns(node)) {
        sim_node_arm(node);
        return;
    }
    node->timer_ms = UINT64_MAX;
    kv_node_on_timer(node->node);
}

static void note_rate(struct sim *sim, uint64_t rate_ppm)
{
    struct lives *lives = &sim->lives;

    lives->fastest_ppm = rate_ppm > lives->fastest_ppm ? rate_ppm : lives->fastest_ppm;
}

void sim_node_set_rate(struct sim_node *node, uint64_t rate_ppm)
{
    note_rate(node->sim, rate_ppm);
    node->clock = (struct sim_clock){node->sim->now_ns, sim_node_now_ns(node), rate_ppm};
    if (node->is_up) {
        node->timer_event_ns = UINT64_MAX;
        sim_node_arm(node);
    }
}

/* ---------------------------------------------------------------- workers */

/* Of disks that are slow for one file and not for another. */
static bool feels_disk(const struct sim_worker *worker)
{
    const struct sim_node *node = worker->node;

    return worker == &node->workers[LOG_WORKER] || !node->sim->profile.slow_log_alone;
}

static uint64_t job_ns(struct sim_node *node, const struct sim_worker *worker)
{
    struct sim *sim = node->sim;
    const struct sim_profile *profile = &sim->profile;
    uint64_t ns =
        1000 * (profile->job_min_us + sim_random(sim, SIM_RANDOM_DISK, profile->job_spread_us + 1));

    ns *= node->slow_disk && feels_disk(worker) ? node->slow_disk : 1;
    if (worker == &node->workers[SNAPSHOT_WORKER]) {
        ns *= profile->snapshot_job_times;
        /* One snapshot takes many; some must come to their end. */
        ns = ns < SNAPSHOT_JOB_MAX_MS * SIM_MS ? ns : SNAPSHOT_JOB_MAX_MS * SIM_MS;
    }
    return ns;
}

static void worker_submit(void *arg, struct kv_job *job)
{
    struct sim_worker *worker = arg;
    struct sim_node *node = worker->node;
    struct sim *sim = node->sim;
    uint64_t begin_ns = worker->free_ns > sim->now_ns ? worker->free_ns : sim->now_ns;

    if (node->is_closing) {
        return;
    }
    if (node->stalled_until_ns > begin_ns && feels_disk(worker)) {
        begin_ns = node->stalled_until_ns;
    }
    worker->free_ns = begin_ns + job_ns(node, worker);
    sim_push(sim,
             (struct sim_event){.time_ns = worker->free_ns,
                                .kind = SIM_EV_JOB_RUN,
                                .node = (uint8_t)node->id,
                                .lane = (uint8_t)(worker - node->workers),
                                .incarnation = node->incarnation,
                                .data = job});
}

static const struct kv_worker_ops worker_ops = {worker_submit};

/* Does the job begin a segment of the log, or make or remove the file of one? */
static bool is_of_segments(const struct sim_node *node, unsigned lane, const struct kv_job *job)
{
    const struct kv_wal *wal = node->node->replica->wal;

    return lane == LOG_WORKER ? ((const struct kv_wal_batch *)job)->begins
                              : lane == FILE_WORKER && job == &wal->chore.job;
}

/* Power or process may end in jobs that matter. */
static void before_job(struct sim_node *node, unsigned lane, struct kv_job *job)
{
    struct sim *sim = node->sim;
    bool is_boundary = lane == LOG_WORKER && sim_watch_job(node, job, true);
    bool is_cut = lane == SNAPSHOT_WORKER && node->cut_snapshot;
    bool is_fetch = lane == SNAPSHOT_WORKER && node->node->replica->fetch.phase != KV_FETCH_NONE;

    if (is_boundary || is_fetch) {
        is_cut = is_cut || (sim->profile.fault_every_ms[SIM_CUT_SNAPSHOT] && !sim->has_healed &&
                            sim_chance(sim,
                                       SIM_RANDOM_FAULT,
                                       is_boundary ? CUT_BOUNDARY_PERMILLE : CUT_FETCH_PERMILLE));
    } else if (sim->profile.fault_every_ms[SIM_CUT] && !sim->has_healed &&
               is_of_segments(node, lane, job)) {
        is_cut = is_cut || sim_chance(sim,
                                      SIM_RANDOM_FAULT,
                                      lane == LOG_WORKER ? CUT_ROLL_PERMILLE : CUT_SPARE_PERMILLE);
    }
    if (is_cut) {
        node->cut_snapshot = false;
        node->power_fails_at_cut = sim_chance(sim, SIM_RANDOM_FAULT, 500);
        fake_disk_cut_at(node->disk, 1 + sim_random(sim, SIM_RANDOM_FAULT, is_fetch ? 4 : 8));
    }
}

void sim_node_run_job(struct sim_node *node, struct sim_event *event)
{
    struct sim *sim = node->sim;
    struct sim_worker *worker = &node->workers[event->lane];
    struct kv_job *job = event->data;
    struct sim_event done = *event;

    if (node->stalled_until_ns > sim->now_ns && feels_disk(worker)) {
        event->time_ns = node->stalled_until_ns;
        sim_push(sim, *event);
        return;
    }
    before_job(node, event->lane, job);
    sim_disk_before_job(node, job);
    sim_snapshots_before_job(node);
    job->run(job);
    if (event->lane == SNAPSHOT_WORKER && node->node->replica->fetch.phase != KV_FETCH_NONE) {
        sim_snapshots_look_at_part(node);
    }
    if (fake_disk_is_cut(node->disk)) {
        sim_note(sim, node->id, "ends in the middle of a job");
        sim_node_end(node, node->power_fails_at_cut ? SIM_END_POWER : SIM_END_KILLED);
        sim_node_restart_later(node);
        return;
    }
    if (event->lane == LOG_WORKER) {
        (void)sim_watch_job(node, job, false);
    } else if (event->lane == SNAPSHOT_WORKER) {
        sim_snapshots_look(node);
    }
    done.kind = SIM_EV_JOB_DONE;
    done.time_ns = sim->now_ns + 1000 * sim_random(sim, SIM_RANDOM_DISK, DONE_SPREAD_US);
    done.time_ns = done.time_ns > worker->done_ns ? done.time_ns : worker->done_ns;
    worker->done_ns = done.time_ns;
    sim_push(sim, done);
}

/* A release that is not on the disk yet may be lost; what it has given away may not. */
static void watch_release(struct sim_node *node)
{
    const struct kv_wal *wal = node->node->replica->wal;
    struct sim *sim = node->sim;

    if (node->cut_at_release && wal->release_record > wal->synced_record) {
        node->cut_at_release = false;
        sim_note(sim, node->id, "releases a part of its log, and will end soon");
        fake_disk_cut_at(node->disk, 1 + sim_random(sim, SIM_RANDOM_FAULT, 6));
    }
}

/* ---------------------------------------------------------------- start and end */

void sim_node_init(struct sim *sim, unsigned id)
{
    struct sim_node *node = &sim->nodes[id];
    uint64_t drift = sim_random(sim, SIM_RANDOM_NODE, 2 * sim->profile.drift_ppm + 1);

    node->sim = sim;
    node->id = id;
    node->disk = fake_disk_new(sim->options.seed * 16 + id);
    node->clock = (struct sim_clock){
        sim->now_ns,
        (1 + sim_random(sim, SIM_RANDOM_NODE, 1000000)) * 1000 * SIM_MS,
        PPM + drift - sim->profile.drift_ppm,
    };
    note_rate(sim, node->clock.rate_ppm);
}

enum { RESTART_MS_MAX = 20000 };

void sim_node_restart_later(struct sim_node *node)
{
    struct sim *sim = node->sim;
    uint64_t after_ms = sim_random_time(sim, SIM_RANDOM_FAULT, sim->profile.restart_ms);

    after_ms = node->flaps > 0 ? after_ms / 30 + 1 : after_ms;
    if (sim_chance(sim, SIM_RANDOM_FAULT, 100)) {
        after_ms *= 8;
    } else if (sim_chance(sim, SIM_RANDOM_FAULT, 300)) {
        after_ms = 1 + after_ms / 30;
    }
    /* Down far into the time in which all must be whole again is no fault of the cluster. */
    after_ms = after_ms < RESTART_MS_MAX ? after_ms : RESTART_MS_MAX;
    sim_push(sim,
             (struct sim_event){.time_ns = sim->now_ns + after_ms * SIM_MS,
                                .kind = SIM_EV_START,
                                .node = (uint8_t)node->id,
                                .incarnation = node->incarnation});
}

/* It could not open its directory. */
static void refused(struct sim_node *node, const struct kv_error *error)
{
    struct sim *sim = node->sim;

    node->is_up = false;
    node->incarnation++;
    node->node = NULL;
    if (fake_disk_is_cut(node->disk)) {
        sim->counts.recoveries_cut++;
        sim_note(sim, node->id, "ends in the middle of its recovery");
        if (node->power_fails_at_cut) {
            fake_disk_crash(node->disk);
        } else {
            fake_disk_close_all(node->disk);
            fake_disk_cut_at(node->disk, 0);
        }
        sim_node_restart_later(node);
        return;
    }
    fake_disk_close_all(node->disk);
    sim_note(sim, node->id, "refuses to start: %s", error->message);
    if (node->is_damaged && error->status == KV_CORRUPT) {
        node->is_lost = true;
        sim->counts.refusals++;
        return;
    }
    if ((node->may_die || node->is_bad) && error->status == KV_IO) {
        sim_node_restart_later(node);
        return;
    }
    sim_fail(sim, "node %u refuses to start: %s", node->id, error->message);
}

void sim_node_shape_machine(struct sim_node *node)
{
    if ((node->id + node->sim->options.seed) % 2 == 0) {
        shape_machine(node->node->machine);
    }
    shape_history(node->node->machine, node->sim->checkers.history_marks);
}

void sim_node_start(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct kv_error error = {0};
    struct kv_env env = {
        .disk = *fake_disk_ops(node->disk),
        .log_worker = {&worker_ops, &node->workers[0]},
        .file_worker = {&worker_ops, &node->workers[1]},
        .snapshot_worker = {&worker_ops, &node->workers[2]},
        .net = {&sim_net_ops, node},
        .clock = {&clock_ops, node},
    };
    struct kv_node_options options = {
        .cluster_id = CLUSTER_ID,
        .node_id = node->id,
        .members = sim->members,
        .n_members = sim->profile.n_nodes,
        .client_address = sim->addresses[node->id - 1],
        .version = "sim",
        .wal_segment_bytes = sim->profile.segment_bytes,
        .snapshot_log_bytes = sim->profile.snapshot_log_bytes,
        .snapshot_slice_bytes = sim->profile.snapshot_slice_bytes,
        .entry_cache_bytes = sim->profile.entry_cache_bytes,
        .state_hash_entries = sim->profile.state_hash_entries,
        .snapshot_pin_bytes = sim->profile.snapshot_pin_bytes,
        .max_data_bytes = sim->profile.first_data_limit,
        .ops = &sim_node_ops,
        .arg = node,
    };

    KV_ASSERT(!node->is_up && !node->is_lost);
    node->is_up = true;
    node->has_stopped = node->is_closing = node->is_dying = node->has_differed = false;
    node->incarnation++;
    node->paused_until_ns = node->hash_error = 0;
    node->timer_ms = node->timer_event_ns = UINT64_MAX;
    for (unsigned i = 0; i < 3; i++) {
        node->workers[i] = (struct sim_worker){.node = node};
    }
    sim->counts.restarts++;
    if (sim->profile.fault_every_ms[SIM_CUT] && !sim->has_healed &&
        sim_chance(sim, SIM_RANDOM_FAULT, CUT_START_PERMILLE)) {
        node->power_fails_at_cut = sim_chance(sim, SIM_RANDOM_FAULT, 500);
        /* The first start does more. */
        fake_disk_cut_at(
            node->disk,
            1 + sim_random(sim, SIM_RANDOM_FAULT, sim->now_ns == sim->start_ns ? 60 : 12));
    }
    if (kv_node_open(&options, &env, &node->node, &error) != 0) {
        refused(node, &error);
        return;
    }
    sim_note(sim,
             node->id,
             "starts with snapshot %" PRIu64 " and entries %" PRIu64 " to %" PRIu64,
             node->node->replica->restored_index,
             kv_wal_first_index(node->node->replica->wal),
             kv_wal_last_index(node->node->replica->wal));
    node->may_die = node->n_disk_faults > 0;
    sim_node_shape_machine(node);
    sim_watch_start(node);
    sim_net_node_started(sim, node->id);
    sim_fault_node_started(node);
    sim_node_turn(node);
}

/* What closing a node answers is heard by nobody. */
void sim_node_end(struct sim_node *node, enum sim_end how)
{
    struct sim *sim = node->sim;

    KV_ASSERT(node->is_up);
    node->is_closing = true;
    node->is_up = false;
    node->incarnation++;
    if (node->incarnation % LOOK_EVERY == 0 && node->hash_error == 0) {
        kv_machine_check_invariants(node->node->machine);
    }
    sim_net_node_ended(sim, node->id, how == SIM_END_POWER);
    sim_server_node_ended(node, how == SIM_END_POWER);
    /* Closing removes an unfinished snapshot; a process that is gone does nothing any more. */
    fake_disk_cut_at(node->disk, 1);
    kv_node_close(node->node);
    node->node = NULL;
    if (how == SIM_END_POWER) {
        fake_disk_crash(node->disk);
        /* A machine that comes up again counts from anew. */
        node->told_ns = 0;
        node->clock.global_ns = sim->now_ns;
        node->clock.local_ns = (1 + sim_random(sim, SIM_RANDOM_NODE, 1000)) * SIM_MS;
    } else {
        fake_disk_close_all(node->disk);
        fake_disk_cut_at(node->disk, 0);
    }
}

/* A log that never began on a full disk has nothing that waiting would keep. */
static bool may_miss_room(const struct sim_node *node)
{
    return node->is_full && node->sim->checkers.nodes[node->id].disk.last_index == 0;
}

static void die(struct sim_node *node)
{
    struct sim *sim = node->sim;

    sim_note(sim, node->id, "ends itself: %s", node->why);
    if (fake_disk_is_cut(node->disk)) {
        sim_node_end(node, node->power_fails_at_cut ? SIM_END_POWER : SIM_END_KILLED);
        sim_node_restart_later(node);
        return;
    }
    if (!node->may_die && !node->is_damaged && !may_miss_room(node)) {
        sim_fail(sim, "node %u ends itself: %s", node->id, node->why);
    }
    /* What a failed sync has left is not on the disk, though a process that starts again may find
     * it in the page cache. */
    fake_disk_fail_syncs(node->disk, 0);
    sim_node_end(node, sim_chance(sim, SIM_RANDOM_FAULT, 500) ? SIM_END_POWER : SIM_END_KILLED);
    if (!node->is_lost) {
        sim_node_restart_later(node);
    }
}

uint64_t sim_node_state_hash(const struct sim_node *node)
{
    return kv_machine_state_hash(node->node->machine) - node->hash_error;
}

void sim_node_turn(struct sim_node *node)
{
    if (!node->is_up) {
        return;
    }
    if (!node->is_dying) {
        kv_node_turn(node->node);
        sim_watch_turn(node);
        watch_release(node);
        sim_server_flush(node);
    }
    if (node->is_dying) {
        die(node);
    } else if (node->has_stopped) {
        sim_note(node->sim, node->id, "has stopped");
        sim_node_end(node, SIM_END_STOPPED);
        sim_node_restart_later(node);
    }
}
