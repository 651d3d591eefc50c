/* kvsim: runs the simulator for one seed or many, says what failed and how to see it again. */
#define _GNU_SOURCE /* fork, alarm of shrinking */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "common/log.h"
#include "common/reached.h"

#include <argp.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    NO_KEY_SEEDS = 256,
    KEY_FROM,
    KEY_MINUTES,
    KEY_NODES,
    KEY_PROFILE,
    KEY_TRACE,
    KEY_SHRINK,
    KEY_COMMANDS,
    KEY_DURATION,
    KEY_OFF,
    KEY_RARER,
    KEY_PROBES,
    KEY_HASH
};

struct arguments {
    struct sim_options options;
    uint64_t seeds, from;
    unsigned minutes;
    bool one, shrink, print_hash;
    const char *probes;
};

struct totals {
    uint64_t seeds;
    struct sim_counts counts;
};

static const struct argp_option option_table[] = {
    {"seed", 's', "S", 0, "run this seed", 0},
    {"seeds", NO_KEY_SEEDS, "N", 0, "run so many seeds (100)", 0},
    {"from", KEY_FROM, "S", 0, "beginning with this one (1)", 0},
    {"minutes", KEY_MINUTES, "M", 0, "run seeds for so long", 0},
    {"nodes", KEY_NODES, "N", 0, "so many nodes, 1 to 7 (the seed chooses)", 0},
    {"profile",
     KEY_PROFILE,
     "NAME",
     0,
     "calm, busy, crash, network, disk or storm (the seed chooses)",
     0},
    {"duration", KEY_DURATION, "MS", 0, "of load and faults (the seed chooses)", 0},
    {"commands", KEY_COMMANDS, "N", 0, "so many commands at most", 0},
    {"without", KEY_OFF, "FAULT,...", 0, "leave out kinds of faults", 0},
    {"rarer", KEY_RARER, "N", 0, "faults come so many times more seldom", 0},
    {"trace", KEY_TRACE, 0, 0, "print the timeline", 0},
    {"hash", KEY_HASH, 0, 0, "print the hash of all events", 0},
    {"shrink", KEY_SHRINK, 0, 0, "look for a smaller run that fails, too", 0},
    {"probes", KEY_PROBES, "FILE", 0, "fail when a probe that it lists was not reached", 0},
    {0},
};

/* ---------------------------------------------------------------- arguments */

static uint64_t number(struct argp_state *state, const char *text, uint64_t max)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (*end != 0 || end == text || value > max) {
        argp_error(state, "%s is no number up to %" PRIu64, text, max);
    }
    return value;
}

static uint32_t faults_of(struct argp_state *state, char *text)
{
    uint32_t faults = 0;
    char *rest = NULL;

    for (char *name = strtok_r(text, ",", &rest); name; name = strtok_r(NULL, ",", &rest)) {
        unsigned fault = 0;

        while (fault < SIM_FAULTS && strcmp(name, sim_fault_names[fault]) != 0) {
            fault++;
        }
        if (fault == SIM_FAULTS) {
            argp_error(state, "there is no fault %s", name);
        }
        faults |= 1u << fault;
    }
    return faults;
}

static const char *profile_of(struct argp_state *state, const char *name)
{
    for (size_t i = 0; sim_profile_names[i]; i++) {
        if (strcmp(name, sim_profile_names[i]) == 0) {
            return sim_profile_names[i];
        }
    }
    argp_error(state, "there is no profile %s", name);
    return NULL;
}

static error_t parse(int key, char *text, struct argp_state *state)
{
    struct arguments *arguments = state->input;

    switch (key) {
    case 's':
        arguments->one = true;
        arguments->options.seed = number(state, text, UINT64_MAX >> 8);
        return 0;
    case NO_KEY_SEEDS:
        arguments->seeds = number(state, text, UINT64_MAX >> 8);
        return 0;
    case KEY_FROM:
        arguments->from = number(state, text, UINT64_MAX >> 8);
        return 0;
    case KEY_MINUTES:
        arguments->minutes = (unsigned)number(state, text, 100000);
        return 0;
    case KEY_NODES:
        arguments->options.n_nodes = (unsigned)number(state, text, SIM_NODES_MAX);
        return 0;
    case KEY_PROFILE:
        arguments->options.profile = profile_of(state, text);
        return 0;
    case KEY_DURATION:
        arguments->options.duration_ms = number(state, text, 100000000);
        return 0;
    case KEY_COMMANDS:
        arguments->options.commands_max = number(state, text, UINT64_MAX >> 8);
        return 0;
    case KEY_OFF:
        arguments->options.faults_off = faults_of(state, text);
        return 0;
    case KEY_RARER:
        arguments->options.faults_rarer = (unsigned)number(state, text, 1000000);
        return 0;
    case KEY_TRACE:
        arguments->options.trace = true;
        return 0;
    case KEY_HASH:
        arguments->print_hash = true;
        return 0;
    case KEY_SHRINK:
        arguments->shrink = true;
        return 0;
    case KEY_PROBES:
        arguments->probes = text;
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

/* ---------------------------------------------------------------- failures */

/* Of the run under way, for a failed assertion. */
static struct sim *current;

static void print_commit(FILE *file)
{
    char text[64] = "unknown";
    FILE *git = popen("git -C '" KVSIM_SOURCE_DIR "' rev-parse --short=12 HEAD 2>/dev/null", "r");

    if (git) {
        if (fgets(text, sizeof text, git)) {
            text[strcspn(text, "\n")] = 0;
        }
        pclose(git);
    }
    fprintf(file, "%s", text);
}

static void print_command(FILE *file, const struct sim_options *options)
{
    fprintf(file, "kvsim --seed %" PRIu64, options->seed);
    if (options->n_nodes) {
        fprintf(file, " --nodes %u", options->n_nodes);
    }
    if (options->profile) {
        fprintf(file, " --profile %s", options->profile);
    }
    if (options->duration_ms) {
        fprintf(file, " --duration %" PRIu64, options->duration_ms);
    }
    if (options->commands_max) {
        fprintf(file, " --commands %" PRIu64, options->commands_max);
    }
    if (options->faults_rarer) {
        fprintf(file, " --rarer %u", options->faults_rarer);
    }
    for (unsigned fault = 0, n = 0; fault < SIM_FAULTS; fault++) {
        if (options->faults_off & 1u << fault) {
            fprintf(file, "%s%s", n++ ? "," : " --without ", sim_fault_names[fault]);
        }
    }
}

static void print_failure(const struct sim *sim, const char *what)
{
    printf("FAILED commit ");
    print_commit(stdout);
    printf(" seed %" PRIu64 ": %s: ", sim->options.seed, what);
    print_command(stdout, &sim->options);
    printf("\n");
    sim_print_notes(sim, stdout);
    fflush(stdout);
}

/* An assertion of the node's code, or worse; the process is lost, but it can say where it was. */
static void on_signal(int number)
{
    signal(number, SIG_DFL);
    if (current) {
        char what[64];

        snprintf(what, sizeof what, "signal %d (%s)", number, strsignal(number));
        print_failure(current, what);
        _exit(1);
    }
    raise(number);
}

/* ---------------------------------------------------------------- runs */

static void add_counts(struct totals *totals, const struct sim_counts *counts)
{
    const uint64_t *from = (const uint64_t *)counts;
    uint64_t *to = (uint64_t *)&totals->counts;

    for (size_t i = 0; i < sizeof *counts / sizeof *from; i++) {
        to[i] += from[i];
    }
    totals->seeds++;
}

static bool run_one(const struct sim_options *options, struct totals *totals, uint64_t *ret_hash)
{
    struct sim *sim = sim_new(options);
    bool ok;

    current = sim;
    ok = sim_run(sim);
    if (!ok) {
        print_failure(sim, sim->checkers.message);
    }
    add_counts(totals, &sim->counts);
    *ret_hash = sim->trace_hash;
    sim_free(sim);
    current = NULL;
    return ok;
}

/* The run in a process of its own, silent. */
static bool fails(const struct sim_options *options)
{
    struct totals totals = {0};
    uint64_t hash;
    int status = 0;
    pid_t pid;

    fflush(stdout);
    pid = fork();
    KV_ASSERT(pid >= 0);
    if (pid == 0) {
        KV_ASSERT(freopen("/dev/null", "w", stdout) && freopen("/dev/null", "w", stderr));
        _exit(run_one(options, &totals, &hash) ? 0 : 1);
    }
    KV_ASSERT(waitpid(pid, &status, 0) == pid);
    return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

static bool try_smaller(struct sim_options *best, const struct sim_options *candidate)
{
    if (!fails(candidate)) {
        return false;
    }
    *best = *candidate;
    printf("still fails: ");
    print_command(stdout, best);
    printf("\n");
    fflush(stdout);
    return true;
}

static void shrink_time(struct sim_options *best)
{
    struct sim *sim = sim_new(best);
    uint64_t duration_ms = sim->profile.duration_ms;
    unsigned n_nodes = sim->profile.n_nodes;

    sim_free(sim);
    for (unsigned n = 1; n < n_nodes; n += 2) {
        struct sim_options candidate = *best;

        candidate.n_nodes = n;
        if (try_smaller(best, &candidate)) {
            break;
        }
    }
    for (uint64_t step = duration_ms / 2; step >= 250; step /= 2) {
        struct sim_options candidate = *best;

        candidate.duration_ms = duration_ms - step;
        if (try_smaller(best, &candidate)) {
            duration_ms -= step;
        }
    }
}

static void shrink_rest(struct sim_options *best)
{
    for (unsigned fault = 0; fault < SIM_FAULTS; fault++) {
        struct sim_options candidate = *best;

        candidate.faults_off |= 1u << fault;
        if (candidate.faults_off != best->faults_off) {
            try_smaller(best, &candidate);
        }
    }
    for (unsigned rarer = 2; rarer <= 32; rarer *= 2) {
        struct sim_options candidate = *best;

        candidate.faults_rarer = rarer;
        try_smaller(best, &candidate);
    }
    for (uint64_t commands = 1024; commands >= 1; commands /= 2) {
        struct sim_options candidate = *best;

        candidate.commands_max = commands;
        if (!try_smaller(best, &candidate)) {
            break;
        }
    }
}

static bool shrink(const struct sim_options *options)
{
    struct sim_options best = *options;

    if (!fails(options)) {
        printf("seed %" PRIu64 " does not fail\n", options->seed);
        return true;
    }
    shrink_time(&best);
    shrink_rest(&best);
    printf("smallest: ");
    print_command(stdout, &best);
    printf("\n");
    return false;
}

/* ---------------------------------------------------------------- summary */

static double seconds_of(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void print_summary(const struct totals *totals, double seconds)
{
    const struct sim_counts *counts = &totals->counts;
    double simulated_s = (double)counts->simulated_ns / 1e9;

    printf("%" PRIu64 " seeds, %.2f simulated hours in %.1f s of one core (%.1f seeds/s, %.1f "
           "simulated minutes/s)\n",
           totals->seeds,
           simulated_s / 3600,
           seconds,
           (double)totals->seeds / seconds,
           simulated_s / 60 / seconds);
    printf("%" PRIu64 " events, %" PRIu64 " messages, %" PRIu64 " entries, %" PRIu64
           " commands: %" PRIu64 " writes acknowledged, %" PRIu64 " reads, %" PRIu64
           " refused, %" PRIu64 " unknown\n",
           counts->events,
           counts->messages,
           counts->entries,
           counts->commands,
           counts->acknowledged_writes,
           counts->reads,
           counts->refused,
           counts->unknown);
    printf("%" PRIu64 " streams of %" PRIu64 " items; ", counts->streams, counts->stream_items);
    printf("%" PRIu64 " starts, %" PRIu64 " recoveries cut short, %" PRIu64
           " damaged disks refused, %" PRIu64 " snapshots, %" PRIu64 " installed; faults:",
           counts->restarts,
           counts->recoveries_cut,
           counts->refusals,
           counts->snapshots,
           counts->installs);
    for (unsigned fault = 0; fault < SIM_FAULTS; fault++) {
        printf(" %s %" PRIu64, sim_fault_names[fault], counts->faults[fault]);
    }
    printf("\n");
}

#ifdef KV_REACHED_ENABLED
static uint64_t reached(const char *name)
{
    uint64_t count = 0;

    /* One name may stand at several places. */
    for (struct kv_reached *probe = kv_reached_first(); probe; probe = probe->next) {
        count += strcmp(probe->name, name) == 0 ? probe->count : 0;
    }
    return count;
}

static bool check_probes(const char *path)
{
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[128];
    bool ok = true;

    if (!file) {
        if (path) {
            printf("FAILED cannot read %s\n", path);
        }
        return !path;
    }
    printf("probes:");
    while (fgets(line, sizeof line, file)) {
        line[strcspn(line, " #\n")] = 0;
        if (line[0] == 0) {
            continue;
        }
        printf(" %s %" PRIu64, line, reached(line));
        if (reached(line) == 0) {
            printf(" (NEVER)");
            ok = false;
        }
    }
    fclose(file);
    printf("\n");
    if (!ok) {
        printf("FAILED a listed probe was never reached\n");
    }
    return ok;
}
#else
static bool check_probes(const char *path)
{
    if (path) {
        printf("probes are not counted in this build\n");
    }
    return true;
}
#endif

static bool run_many(const struct arguments *arguments)
{
    struct totals totals = {0};
    double start = seconds_of(CLOCK_MONOTONIC);
    double end = arguments->minutes ? start + 60.0 * arguments->minutes : 0;
    uint64_t hash, all = 0;
    bool ok = true;

    for (uint64_t i = 0; ok && (end > 0 ? seconds_of(CLOCK_MONOTONIC) < end : i < arguments->seeds);
         i++) {
        struct sim_options options = arguments->options;

        options.seed = arguments->one ? options.seed : arguments->from + i;
        ok = run_one(&options, &totals, &hash);
        all = all * 31 + hash;
    }
    print_summary(&totals, seconds_of(CLOCK_PROCESS_CPUTIME_ID));
    if (arguments->print_hash) {
        printf("trace hash %016" PRIx64 "\n", all);
    }
    return check_probes(ok ? arguments->probes : NULL) && ok;
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        option_table,
        parse,
        NULL,
        "Runs a cluster and its clients in simulated time, from a seed, with faults, and checks "
        "everything. Exit code 1: something is wrong; the output says what and how to see it "
        "again.",
        NULL,
        NULL,
        NULL};
    struct arguments arguments = {.seeds = 100, .from = 1};
    bool ok;

    if (argp_parse(&argp, argc, argv, 0, NULL, &arguments) != 0) {
        return 2;
    }
    if (arguments.one) {
        arguments.seeds = 1;
        arguments.minutes = 0;
    }
    kv_log_set_level(KV_LOG_OFF);
    signal(SIGABRT, on_signal);
    signal(SIGSEGV, on_signal);
    ok = arguments.shrink ? shrink(&arguments.options) : run_many(&arguments);
    return ok ? 0 : 1;
}
