/* Swarm testing: each seed has its own cluster, network, disks, load, and choice of faults, since
 * a run in which everything happens all the time never gets far into anything. */
#include "tests/sim/sim.h"

#include <string.h>

const char *const sim_fault_names[SIM_FAULTS] = {
    [SIM_KILL] = "kill",
    [SIM_POWER] = "power",
    [SIM_CUT] = "cut",
    [SIM_STOP] = "stop",
    [SIM_PAUSE] = "pause",
    [SIM_PARTITION] = "partition",
    [SIM_ONE_WAY] = "one-way",
    [SIM_SLOW_LINK] = "slow-link",
    [SIM_RESET] = "reset",
    [SIM_LOSS] = "loss",
    [SIM_CLOCK] = "clock",
    [SIM_SLOW_DISK] = "slow-disk",
    [SIM_STALL] = "stall",
    [SIM_FULL_DISK] = "full-disk",
    [SIM_SYNC_FAILS] = "sync-fails",
    [SIM_FLIP] = "flip",
    [SIM_TRANSFER] = "transfer",
    [SIM_CLIENT_RESET] = "client-reset",
    [SIM_SNAPSHOT] = "snapshot",
    [SIM_CUT_SNAPSHOT] = "cut-snapshot",
    [SIM_BEHIND] = "behind",
    [SIM_DIFFER] = "differ",
    [SIM_BAD_SNAPSHOTS] = "bad-snapshots",
    [SIM_BAD_LOG] = "bad-log",
};

/* Mean time between two of a kind, of the whole cluster. */
static const uint64_t every_ms[SIM_FAULTS] = {
    [SIM_KILL] = 12000,         [SIM_POWER] = 12000,       [SIM_CUT] = 10000,
    [SIM_STOP] = 20000,         [SIM_PAUSE] = 10000,       [SIM_PARTITION] = 15000,
    [SIM_ONE_WAY] = 10000,      [SIM_SLOW_LINK] = 15000,   [SIM_RESET] = 5000,
    [SIM_LOSS] = 15000,         [SIM_CLOCK] = 8000,        [SIM_SLOW_DISK] = 15000,
    [SIM_STALL] = 12000,        [SIM_FULL_DISK] = 30000,   [SIM_SYNC_FAILS] = 40000,
    [SIM_FLIP] = 60000,         [SIM_TRANSFER] = 8000,     [SIM_CLIENT_RESET] = 5000,
    [SIM_SNAPSHOT] = 10000,     [SIM_CUT_SNAPSHOT] = 8000, [SIM_BEHIND] = 7000,
    [SIM_BAD_SNAPSHOTS] = 8000, [SIM_BAD_LOG] = 30000,     [SIM_DIFFER] = 20000,
};

const char *const sim_profile_names[] = {"calm", "busy", "crash", "network", "disk", "storm", NULL};

/* An entry of a largest batch, and what stands beside it. */
#define LARGE_SEGMENT_BYTES (3 * KV_MIB)
#define LARGE_LOG_BYTES (512 * KV_KIB) /* between two snapshots */
enum { SEGMENT_WISHED_BYTES = 256 * KV_KIB };
enum { MANY_BYTES = 5000 }; /* of a transaction of many keys */

static uint64_t pick(struct sim *sim, uint64_t first, uint64_t last)
{
    return first + sim_random(sim, SIM_RANDOM_LOAD, last - first + 1);
}

static uint64_t one_of(struct sim *sim, const uint64_t *values, size_t n)
{
    return values[sim_random(sim, SIM_RANDOM_LOAD, n)];
}

static bool belongs(const char *profile, unsigned fault)
{
    static const uint32_t crash = 1u << SIM_KILL | 1u << SIM_POWER | 1u << SIM_CUT |
                                  1u << SIM_STOP | 1u << SIM_PAUSE | 1u << SIM_TRANSFER |
                                  1u << SIM_CUT_SNAPSHOT | 1u << SIM_SNAPSHOT | 1u << SIM_BEHIND;
    static const uint32_t network = 1u << SIM_PARTITION | 1u << SIM_ONE_WAY | 1u << SIM_SLOW_LINK |
                                    1u << SIM_RESET | 1u << SIM_LOSS | 1u << SIM_CLIENT_RESET |
                                    1u << SIM_BEHIND;
    static const uint32_t disk = 1u << SIM_POWER | 1u << SIM_CUT | 1u << SIM_SLOW_DISK |
                                 1u << SIM_STALL | 1u << SIM_FULL_DISK | 1u << SIM_SYNC_FAILS |
                                 1u << SIM_FLIP | 1u << SIM_CUT_SNAPSHOT | 1u << SIM_BAD_SNAPSHOTS |
                                 1u << SIM_BAD_LOG | 1u << SIM_DIFFER;

    if (strcmp(profile, "crash") == 0) {
        return crash & 1u << fault;
    }
    if (strcmp(profile, "network") == 0) {
        return network & 1u << fault;
    }
    if (strcmp(profile, "disk") == 0) {
        return disk & 1u << fault;
    }
    return strcmp(profile, "storm") == 0 || strcmp(profile, "busy") == 0;
}

static void choose_faults(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;
    bool is_storm = strcmp(profile->name, "storm") == 0;

    for (unsigned fault = 0; fault < SIM_FAULTS; fault++) {
        bool on = sim_random(sim, SIM_RANDOM_LOAD, 100) < 45;
        uint64_t every = every_ms[fault] * pick(sim, 25, 200) / 100;

        if (strcmp(profile->name, "mix") != 0) {
            on = belongs(profile->name, fault);
        }
        every /= is_storm ? 3 : 1;
        every *= sim->options.faults_rarer ? sim->options.faults_rarer : 1;
        profile->fault_every_ms[fault] = on && !(sim->options.faults_off & 1u << fault) ? every : 0;
    }
}

static void choose_world(struct sim *sim)
{
    static const uint64_t nodes[] = {3, 3, 3, 3, 3, 3, 5, 5, 7, 1};
    static const uint64_t segments[] = {16, 16, 32, 64, 256, 512};
    struct sim_profile *profile = &sim->profile;

    profile->n_nodes = (unsigned)one_of(sim, nodes, sizeof nodes / sizeof nodes[0]);
    profile->duration_ms = pick(sim, 10000, 60000);
    profile->segment_bytes = KV_KIB * one_of(sim, segments, sizeof segments / sizeof segments[0]);
    profile->delay_min_us = (unsigned)pick(sim, 10, 300);
    profile->delay_spread_us = (unsigned)pick(sim, 10, pick(sim, 0, 3) ? 500 : 20000);
    profile->spike_permille = (unsigned)(pick(sim, 0, 2) ? 0 : pick(sim, 1, 20));
    profile->spike_max_ms = (unsigned)pick(sim, 5, 500);
    profile->job_min_us = (unsigned)pick(sim, 20, 500);
    profile->job_spread_us = (unsigned)pick(sim, 50, pick(sim, 0, 2) ? 2000 : 20000);
    profile->drift_ppm = (unsigned)(pick(sim, 0, 1) ? 200 : pick(sim, 0, 50000));
}

static void choose_snapshots(struct sim *sim)
{
    static const uint64_t logs[] = {2, 2, 4, 4, 8, 8, 16, 32, 64, 1024 * 1024};
    static const uint64_t times[] = {1, 5, 20, 20, 100, 400};
    struct sim_profile *profile = &sim->profile;

    profile->snapshot_log_bytes = KV_KIB * one_of(sim, logs, sizeof logs / sizeof logs[0]);
    /* Several jobs and pieces for each snapshot, not thousands. */
    profile->snapshot_slice_bytes =
        pick(sim, 0, 3) ? pick(sim, 300, 8000) + profile->n_keys * profile->value_max / 16 : 0;
    profile->snapshot_job_times = (unsigned)one_of(sim, times, sizeof times / sizeof times[0]);
    profile->bulk_bytes_per_ms = pick(sim, 0, 2) ? 2000 : pick(sim, 5, 200);
    profile->bulk_loss_permille = (unsigned)(pick(sim, 0, 2) ? 0 : pick(sim, 1, 300));
}

static void choose_load(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->n_clients = (unsigned)pick(sim, 2, 5);
    profile->think_ms = (unsigned)pick(sim, 20, pick(sim, 0, 3) ? 400 : 2000);
    profile->pipeline = (unsigned)pick(sim, 1, pick(sim, 0, 2) ? 3 : 16);
    profile->n_keys = (unsigned)pick(sim, 3, 60);
    if (sim_random(sim, SIM_RANDOM_KEYS, 10) == 0) {
        /* A tree of some height, that grows and shrinks. */
        profile->n_keys = 200 + (unsigned)sim_random(sim, SIM_RANDOM_KEYS, 1500);
    }
    profile->value_max = (unsigned)(pick(sim, 0, 5) ? pick(sim, 16, 300) : pick(sim, 1000, 12000));
    profile->write_percent = (unsigned)pick(sim, 20, 90);
    profile->hot_percent = (unsigned)pick(sim, 0, 80);
    profile->rare_permille = (unsigned)pick(sim, 0, 30);
    profile->deadline_ms = (unsigned)pick(sim, 200, 6000);
    profile->stay = pick(sim, 0, 2) == 0;
    profile->compress = pick(sim, 0, 3) == 0;
    profile->repeats = pick(sim, 0, 5) == 0;
    if (strcmp(profile->name, "busy") == 0) {
        profile->n_clients = 5;
        profile->think_ms = 300;
        profile->pipeline = 2;
        profile->stay = true;
    }
}

/* A run about leaders that do not know yet that they are none. */
static void seek_old_leaders(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;
    uint64_t every = 2000 + sim_random(sim, SIM_RANDOM_SWARM, 6000);

    if (strcmp(profile->name, "mix") == 0 && !(sim->options.faults_off & 1u << SIM_PARTITION)) {
        profile->fault_every_ms[SIM_PARTITION] =
            every * (sim->options.faults_rarer ? sim->options.faults_rarer : 1);
    }
}

/* What only some runs pay for: readers that stay with a leader that is none any more, faults that
 * seek the leader, processes that are back at once or after long. */
static void choose_swarm(struct sim *sim)
{
    static const unsigned restarts_ms[] = {30, 300, 1500, 1500, 1500, 5000};
    struct sim_profile *profile = &sim->profile;
    bool has_readers = sim_random(sim, SIM_RANDOM_SWARM, 100) < 50;
    uint64_t readers = 1 + sim_random(sim, SIM_RANDOM_SWARM, profile->n_clients - 1);

    profile->n_readers = has_readers ? (unsigned)readers : 0;
    if (has_readers && sim_random(sim, SIM_RANDOM_SWARM, 2)) {
        seek_old_leaders(sim);
    }
    profile->leader_percent = (unsigned)sim_random(sim, SIM_RANDOM_SWARM, 90);
    profile->slow_percent = (unsigned)sim_random(sim, SIM_RANDOM_SWARM, 100);
    profile->restart_ms =
        restarts_ms[sim_random(sim, SIM_RANDOM_SWARM, sizeof restarts_ms / sizeof restarts_ms[0])];
    profile->slow_log_alone = sim_random(sim, SIM_RANDOM_SWARM, 2);
}

/* Disks that rot just where they are read, or are full for long; snapshots that may keep little. */
static void choose_files(struct sim *sim)
{
    static const unsigned full[] = {1, 1, 4, 10};
    struct sim_profile *profile = &sim->profile;

    profile->rot = (enum sim_rot)sim_random(sim, SIM_RANDOM_FILES, SIM_ROTS);
    profile->full_times = full[sim_random(sim, SIM_RANDOM_FILES, sizeof full / sizeof full[0])];
    if (sim_random(sim, SIM_RANDOM_FILES, 6) == 0) {
        profile->snapshot_pin_bytes = 200 + sim_random(sim, SIM_RANDOM_FILES, 20000);
    }
}

/* Short ones, too, so that some end while their client cannot reach anybody. Thrown by nothing but
 * the seed, which leaves all else as it is without. */
static void choose_sessions(struct sim *sim)
{
    static const unsigned ttls_ms[] = {0, 1000, 3000, 60000};

    sim->profile.session_ttl_ms = ttls_ms[sim->options.seed % 4];
}

/* In a third of the runs strings alone, which leaves those as they are without types. */
static void choose_types(struct sim *sim)
{
    static const char all[] = "tchlszr";
    static const unsigned elements[] = {4, 12, 12, 40, 300};
    struct sim_profile *profile = &sim->profile;
    size_t n = 0;

    if (sim_random(sim, SIM_RANDOM_TYPES, 3) == 0) {
        return;
    }
    profile->types_percent = 10 + (unsigned)sim_random(sim, SIM_RANDOM_TYPES, 80);
    profile->counters_percent = (unsigned)sim_random(sim, SIM_RANDOM_TYPES, 60);
    profile->txn_percent = (unsigned)sim_random(sim, SIM_RANDOM_TYPES, 40);
    profile->type_keys = 1 + (unsigned)sim_random(sim, SIM_RANDOM_TYPES, 6);
    profile->elements =
        elements[sim_random(sim, SIM_RANDOM_TYPES, sizeof elements / sizeof elements[0])];
    if (sim_random(sim, SIM_RANDOM_TYPES, 8) == 0) {
        profile->element_bytes =
            profile->elements > 40 ? 80 : 200 + (unsigned)sim_random(sim, SIM_RANDOM_TYPES, 1000);
    }
    profile->spoil_percent = sim_random(sim, SIM_RANDOM_TYPES, 2)
                                 ? 1 + (unsigned)sim_random(sim, SIM_RANDOM_TYPES, 10)
                                 : 0;
    profile->session_open_weight = sim_random(sim, SIM_RANDOM_TYPES, 8) == 0 ? 200 : 1;
    profile->crowds = sim_random(sim, SIM_RANDOM_TYPES, 6) == 0;
    profile->is_tight = sim_random(sim, SIM_RANDOM_TYPES, 4) == 0;
    for (const char *type = all; *type; type++) {
        if (sim_random(sim, SIM_RANDOM_TYPES, 100) < 60) {
            profile->types[n++] = *type;
        }
    }
    if (n == 0) {
        memcpy(profile->types, all, sizeof all);
    }
}

/* Pops wait in sessions alone. */
static void choose_queues(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->has_data_limit = sim_random(sim, SIM_RANDOM_QUEUES, 4) == 0;
    if (profile->session_ttl_ms > 0 && sim_random(sim, SIM_RANDOM_QUEUES, 5) < 2) {
        profile->queue_percent = 5 + (unsigned)sim_random(sim, SIM_RANDOM_QUEUES, 40);
        profile->queues = 1 + (unsigned)sim_random(sim, SIM_RANDOM_QUEUES, 3);
    }
}

static void choose_resumers(struct sim *sim)
{
    if (sim_random(sim, SIM_RANDOM_RESUME, 3) == 0) {
        sim->profile.room_bytes = 100 + (unsigned)sim_random(sim, SIM_RANDOM_RESUME, 2000);
    }
    if (sim_random(sim, SIM_RANDOM_RESUME, 5) < 2) {
        sim->profile.n_resumers =
            1 + (unsigned)sim_random(sim, SIM_RANDOM_RESUME, SIM_RESUMERS_MAX);
    }
}

static void choose_topics(struct sim *sim)
{
    if (sim->profile.n_followers + sim->profile.n_resumers > 0 &&
        sim_random(sim, SIM_RANDOM_TOPICS, 2) == 0) {
        sim->profile.topics_percent = 5 + (unsigned)sim_random(sim, SIM_RANDOM_TOPICS, 40);
    }
}

static void choose_lives(struct sim *sim)
{
    if (sim_random(sim, SIM_RANDOM_LIVES, 5) < 2) {
        sim->profile.lives_percent = 5 + (unsigned)sim_random(sim, SIM_RANDOM_LIVES, 50);
        sim->profile.leases_are_full = sim_random(sim, SIM_RANDOM_LIVES, 8) == 0;
        if (sim_random(sim, SIM_RANDOM_LOCKS, 2) == 0) {
            sim->profile.locks_percent = 5 + (unsigned)sim_random(sim, SIM_RANDOM_LOCKS, 50);
        }
    }
}

/* What the size of a usual cluster's log and cache would hide in runs as short as these. */
static void choose_sizes(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->state_hash_entries = 2 + sim_random(sim, SIM_RANDOM_SIZES, 20);
    if (sim_random(sim, SIM_RANDOM_SIZES, 3) == 0) {
        profile->entry_cache_bytes = 1 + sim_random(sim, SIM_RANDOM_SIZES, 4000);
    }
}

static void choose_followers(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &watch;
    if (kv_command_classify(&request) != KV_COMMAND_UNSUPPORTED &&
        sim_random(sim, SIM_RANDOM_FOLLOW, 2) == 0) {
        profile->n_followers = 1 + (unsigned)sim_random(sim, SIM_RANDOM_FOLLOW, SIM_FOLLOWERS_MAX);
        profile->slow_follow_percent = (unsigned)sim_random(sim, SIM_RANDOM_FOLLOW, 100);
    }
}

static unsigned rarely(struct sim *sim, unsigned one_in, unsigned first, unsigned spread)
{
    bool has = sim_random(sim, SIM_RANDOM_RARE, one_in) == 0;
    unsigned value = first + (unsigned)sim_random(sim, SIM_RANDOM_RARE, spread);

    return has ? value : 0;
}

static void choose_rare(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;

    profile->crowd = rarely(sim, 32, SIM_CROWD_MAX - 20, 20);
    profile->little_credit = rarely(sim, 4, 1, 2000);
    profile->large_percent = rarely(sim, 25, 2, 6);
    profile->first_data_limit = rarely(sim, 8, 10000, 200000);
    profile->many_percent = rarely(sim, 8, 2, 10);
    /* What a client is promised of its time is counted by clocks that tell the right one. */
    if (profile->lives_percent == 0) {
        profile->look_us = rarely(sim, 8, 1, 200);
    }
    if (profile->large_percent > 0) {
        /* Somebody must follow. */
        profile->n_followers = SIM_FOLLOWERS_MAX;
        profile->topics_percent = profile->topics_percent > 0 ? profile->topics_percent : 20;
        profile->segment_bytes = LARGE_SEGMENT_BYTES;
        /* One is much work now, and checked in full. */
        profile->snapshot_log_bytes = profile->snapshot_log_bytes > LARGE_LOG_BYTES
                                          ? profile->snapshot_log_bytes
                                          : LARGE_LOG_BYTES;
    }
}

void sim_profile_choose(struct sim *sim)
{
    struct sim_profile *profile = &sim->profile;
    uint64_t request_bytes;

    profile->name = sim->options.profile;
    if (!profile->name) {
        uint64_t throw = pick(sim, 0, 9);

        profile->name = throw == 0 ? "calm" : throw == 1 ? "storm" : "mix";
    }
    choose_world(sim);
    choose_load(sim);
    choose_types(sim);
    choose_snapshots(sim);
    choose_sessions(sim);
    choose_queues(sim);
    choose_lives(sim);
    choose_followers(sim);
    choose_resumers(sim);
    choose_topics(sim);
    choose_sizes(sim);
    choose_faults(sim);
    choose_swarm(sim);
    choose_files(sim);
    choose_rare(sim);
    if (sim->options.n_nodes) {
        profile->n_nodes = sim->options.n_nodes;
    }
    if (sim->options.duration_ms) {
        profile->duration_ms = sim->options.duration_ms;
    }
    if (profile->element_bytes > 0 || profile->leases_are_full) {
        profile->is_tight = sim->options.seed % 3 > 0;
    }
    if (profile->element_bytes > 0 && profile->pipeline > 4) {
        profile->pipeline = 4;
    }
    /* An entry holds what all clients ask at once, and more after a while without a leader. */
    request_bytes = profile->value_max + 128 +
                    (64 + 2 * profile->element_bytes) * profile->elements +
                    (profile->leases_are_full ? 12000 : 0) + (profile->crowds ? 8000 : 0) +
                    (profile->lives_percent && profile->many_percent ? MANY_BYTES : 0);
    request_bytes *= 4ULL * profile->n_clients;
    /* Each start of a node fills a segment with zeros: large ones cost more than they show. */
    while (profile->pipeline > 1 && request_bytes * profile->pipeline > SEGMENT_WISHED_BYTES) {
        profile->pipeline--;
    }
    while (profile->segment_bytes < profile->pipeline * request_bytes + 8192) {
        profile->segment_bytes *= 2;
    }
    if (profile->n_nodes == 1) {
        profile->fault_every_ms[SIM_FLIP] = 0;
    }
}
