/* Events, chance, memory, notes, and the course of a run. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "tests/sim/locks.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

enum {
    HEAL_MAX_MS = 60000,  /* from the end of the faults until all is well */
    DRAIN_MAX_MS = 60000, /* until the last command has its end */
    CHECK_EVERY_MS = 100,
    SETTLE_MS = 2000,
    SIZE_CLASS_MIN = 6,
    RECORDED_MAX = 1000000,
    HISTORY_MARKS_FEW = 6, /* those of a second */
};
#define TYPED_BYTES_MAX (64 * KV_MIB)
#define RECORDED_BYTES_MAX (2048 * KV_MIB)
#define START_NS UINT64_C(1000000000000)

const char *const sim_event_names[SIM_EV_KINDS] = {"message",
                                                   "job-run",
                                                   "job-done",
                                                   "timer",
                                                   "connect",
                                                   "disconnect",
                                                   "start",
                                                   "request",
                                                   "to-client",
                                                   "client-up",
                                                   "client-timer",
                                                   "client-thinks",
                                                   "fault",
                                                   "fault-end"};

/* ---------------------------------------------------------------- chance */

static uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

uint64_t sim_random(struct sim *sim, enum sim_stream stream, uint64_t below)
{
    uint64_t *state = &sim->random[stream];

    *state += UINT64_C(0x9E3779B97F4A7C15);
    return below ? (mix(*state) >> 16) % below : 0;
}

uint64_t sim_random_time(struct sim *sim, enum sim_stream stream, uint64_t mean)
{
    uint64_t sum = 1;

    /* Two throws: the short and the long are rare. */
    for (int i = 0; i < 2; i++) {
        sum += sim_random(sim, stream, mean + 1);
    }
    return sum;
}

bool sim_chance(struct sim *sim, enum sim_stream stream, unsigned permille)
{
    return permille > 0 && sim_random(sim, stream, 1000) < permille;
}

/* ---------------------------------------------------------------- memory */

struct free_block {
    struct free_block *next;
};

/* Blocks carry their class in front and are used again: messages come and go by the thousand. */
void *sim_alloc(struct sim *sim, size_t size)
{
    unsigned class = SIZE_CLASS_MIN;
    struct free_block *block;

    while ((UINT64_C(1) << class) < size + 16) {
        class ++;
    }
    block = sim->free_memory[class];
    if (block) {
        sim->free_memory[class] = block->next;
    } else {
        block = malloc(UINT64_C(1) << class);
        KV_ASSERT(block);
    }
    *(uint64_t *)(void *)block = class;
    return (uint8_t *)block + 16;
}

void sim_release(struct sim *sim, void *memory)
{
    struct free_block *block;
    uint64_t class;

    if (memory) {
        block = (struct free_block *)(void *)((uint8_t *)memory - 16);
        class = *(uint64_t *)(void *)block;
        block->next = sim->free_memory[class];
        sim->free_memory[class] = block;
    }
}

/* ---------------------------------------------------------------- events */

static bool is_earlier(const struct sim_event *a, const struct sim_event *b)
{
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->order < b->order;
}

uint64_t sim_push(struct sim *sim, struct sim_event event)
{
    size_t i = sim->n_events;

    event.order = ++sim->order;
    event.time_ns = event.time_ns > sim->now_ns ? event.time_ns : sim->now_ns;
    if (i == sim->events_capacity) {
        sim->events_capacity = sim->events_capacity ? sim->events_capacity * 2 : 1024;
        sim->events = realloc(sim->events, sim->events_capacity * sizeof event);
        KV_ASSERT(sim->events);
    }
    sim->n_events++;
    while (i > 0 && is_earlier(&event, &sim->events[(i - 1) / 2])) {
        sim->events[i] = sim->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    sim->events[i] = event;
    return event.order;
}

static void sink(struct sim *sim, size_t i)
{
    struct sim_event event = sim->events[i];

    while (2 * i + 1 < sim->n_events) {
        size_t child = 2 * i + 1;

        if (child + 1 < sim->n_events && is_earlier(&sim->events[child + 1], &sim->events[child])) {
            child++;
        }
        if (!is_earlier(&sim->events[child], &event)) {
            break;
        }
        sim->events[i] = sim->events[child];
        i = child;
    }
    sim->events[i] = event;
}

static struct sim_event pop(struct sim *sim)
{
    struct sim_event first = sim->events[0];

    sim->events[0] = sim->events[--sim->n_events];
    sink(sim, 0);
    return first;
}

void sim_hasten(struct sim *sim, unsigned from, unsigned to, uint64_t time_ns)
{
    for (size_t i = 0; i < sim->n_events; i++) {
        struct sim_event *event = &sim->events[i];

        if (event->kind == SIM_EV_MESSAGE && event->peer == from && event->node == to &&
            event->time_ns > time_ns) {
            event->time_ns = time_ns;
        }
    }
    for (size_t i = sim->n_events / 2; i-- > 0;) {
        sink(sim, i);
    }
}

/* Everything that a run does goes in: two runs of a seed that differ anywhere differ here. */
static void hash_event(struct sim *sim, const struct sim_event *event)
{
    uint64_t words[4] = {event->time_ns,
                         event->order,
                         (uint64_t)event->kind << 48 | (uint64_t)event->node << 40 |
                             (uint64_t)event->peer << 32 | event->size,
                         event->number};
    bool has_bytes = event->kind == SIM_EV_MESSAGE || event->kind == SIM_EV_TO_SERVER ||
                     event->kind == SIM_EV_TO_CLIENT;

    sim->trace_hash = XXH3_64bits_withSeed(words, sizeof words, sim->trace_hash);
    if (has_bytes && event->size > 0) {
        sim->trace_hash = XXH3_64bits_withSeed(event->data, event->size, sim->trace_hash);
    }
}

/* ---------------------------------------------------------------- notes and failures */

void sim_note(struct sim *sim, unsigned node, const char *format, ...)
{
    struct sim_note *note = &sim->notes[sim->n_notes++ % SIM_NOTES];
    va_list arguments;

    note->time_ns = sim->now_ns;
    note->node = node;
    va_start(arguments, format);
    vsnprintf(note->text, sizeof note->text, format, arguments);
    va_end(arguments);
    if (sim->options.trace) {
        printf("%12.6f  %s%u  %s\n",
               (double)(sim->now_ns - START_NS) / 1e9,
               node ? "node " : "-----",
               node,
               note->text);
    }
}

void sim_fail(struct sim *sim, const char *format, ...)
{
    char text[400];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    checkers_fail(&sim->checkers, "%s", text);
}

void sim_print_notes(const struct sim *sim, FILE *file)
{
    enum { PER_NODE = 30 };
    uint64_t first = sim->n_notes > SIM_NOTES ? sim->n_notes - SIM_NOTES : 0;

    for (unsigned node = 0; node <= sim->profile.n_nodes; node++) {
        uint64_t from = sim->n_notes;
        unsigned n = 0;

        while (from > first && n < PER_NODE) {
            n += sim->notes[--from % SIM_NOTES].node == node;
        }
        fprintf(file, node ? "node %u:\n" : "cluster:\n", node);
        for (; from < sim->n_notes; from++) {
            const struct sim_note *note = &sim->notes[from % SIM_NOTES];

            if (note->node == node) {
                fprintf(
                    file, "  %12.6f  %s\n", (double)(note->time_ns - START_NS) / 1e9, note->text);
            }
        }
    }
}

/* ---------------------------------------------------------------- life */

struct sim *sim_new(const struct sim_options *options)
{
    struct sim *sim = calloc(1, sizeof *sim);

    KV_ASSERT(sim);
    sim->options = *options;
    sim->start_ns = sim->now_ns = START_NS;
    for (unsigned i = 0; i < SIM_RANDOM_STREAMS; i++) {
        sim->random[i] = mix(options->seed * 64 + i);
    }
    sim_profile_choose(sim);
    checkers_init(&sim->checkers, sim->profile.n_nodes);
    sim->checkers.history_marks = options->seed % 4 == 1 ? HISTORY_MARKS_FEW : 0;
    history_init(&sim->history);
    kv_arena_init(&sim->typed, TYPED_BYTES_MAX);
    sim->known_revision = 1;
    lives_init(&sim->lives);
    KV_ASSERT(kv_history_open(RECORDED_MAX, RECORDED_BYTES_MAX, &sim->recorded) == 0);
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        snprintf(sim->addresses[i - 1], sizeof sim->addresses[0], "node%u:4700", i);
        sim->members[i - 1] = (struct kv_node_member){i, sim->addresses[i - 1]};
    }
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        sim_node_init(sim, i);
    }
    return sim;
}

static void free_memory(struct sim *sim)
{
    for (size_t i = 0; i < sizeof sim->free_memory / sizeof sim->free_memory[0]; i++) {
        struct free_block *block = sim->free_memory[i];

        while (block) {
            struct free_block *next = block->next;

            free(block);
            block = next;
        }
    }
}

void sim_free(struct sim *sim)
{
    sim->is_over = true;
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        if (sim->nodes[i].is_up) {
            sim_node_end(&sim->nodes[i], SIM_END_KILLED);
        }
        fake_disk_free(sim->nodes[i].disk);
    }
    sim_resume_free(sim);
    for (unsigned i = 0; i < sim->profile.n_clients + sim->profile.n_resumers; i++) {
        kv_session_close(sim->clients[i].session);
    }
    for (size_t i = 0; i < sim->n_events; i++) {
        if (sim->events[i].kind == SIM_EV_MESSAGE || sim->events[i].kind == SIM_EV_TO_SERVER ||
            sim->events[i].kind == SIM_EV_TO_CLIENT) {
            sim_release(sim, sim->events[i].data);
        }
    }
    sim_server_free(sim);
    sim_follow_free(sim);
    lives_deinit(&sim->lives);
    free_memory(sim);
    checkers_deinit(&sim->checkers);
    history_deinit(&sim->history);
    kv_history_close(sim->recorded);
    kv_arena_deinit(&sim->typed);
    free(sim->events);
    free(sim);
}

/* ---------------------------------------------------------------- time */

static bool is_of_node(const struct sim_event *event)
{
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EV_MESSAGE:
    case SIM_EV_JOB_RUN:
    case SIM_EV_JOB_DONE:
    case SIM_EV_TIMER:
    case SIM_EV_CONNECT:
    case SIM_EV_DISCONNECT:
    case SIM_EV_TO_SERVER:
        return true;
    default:
        return false;
    }
}

static void handle_of_node(struct sim *sim, struct sim_node *node, struct sim_event *event)
{
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EV_MESSAGE:
        sim_net_on_message(sim, event);
        break;
    case SIM_EV_JOB_RUN:
        sim_node_run_job(node, event);
        break;
    case SIM_EV_JOB_DONE:
        ((struct kv_job *)event->data)->done(event->data);
        break;
    case SIM_EV_TIMER:
        sim_node_on_timer(node);
        break;
    case SIM_EV_CONNECT:
        sim_net_on_connect(sim, event);
        break;
    case SIM_EV_DISCONNECT:
        sim_net_on_disconnect(sim, event);
        break;
    default:
        sim_server_on_bytes(sim, event);
        break;
    }
    sim_node_turn(node);
}

static void handle(struct sim *sim, struct sim_event *event)
{
    struct sim_node *node = &sim->nodes[event->node];

    if (is_of_node(event)) {
        if (!node->is_up || event->incarnation != node->incarnation) {
            if (event->kind == SIM_EV_MESSAGE) {
                sim_net_on_stray(sim, event);
            } else if (event->kind == SIM_EV_TO_SERVER) {
                sim_server_on_stray(sim, event);
            }
            return;
        }
        /* Whatever comes to a stopped process waits. */
        if (node->paused_until_ns > sim->now_ns) {
            event->time_ns = node->paused_until_ns;
            sim_push(sim, *event);
            event->data = NULL;
            return;
        }
        handle_of_node(sim, node, event);
        return;
    }
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EV_START:
        if (!node->is_up && event->incarnation == node->incarnation) {
            sim_node_start(node);
        }
        break;
    case SIM_EV_FAULT:
    case SIM_EV_FAULT_END:
        sim_fault_on_event(sim, event);
        break;
    default:
        sim_client_on_event(sim, event);
        break;
    }
}

static void step(struct sim *sim)
{
    struct sim_event event = pop(sim);
    bool has_bytes = event.kind == SIM_EV_MESSAGE || event.kind == SIM_EV_TO_SERVER ||
                     event.kind == SIM_EV_TO_CLIENT;

    KV_ASSERT(event.time_ns >= sim->now_ns);
    sim->now_ns = event.time_ns;
    sim->counts.events++;
    hash_event(sim, &event);
    handle(sim, &event);
    if (has_bytes) {
        sim_release(sim, event.data);
    }
}

/* Until the condition holds; false: not within the time, or a checker has complained. */
static bool run_until(struct sim *sim, bool (*condition)(struct sim *sim), uint64_t max_ms)
{
    uint64_t end_ns = sim->now_ns + max_ms * SIM_MS;
    uint64_t look_ns = sim->now_ns;

    while (!sim->checkers.has_failed) {
        if (condition && sim->now_ns >= look_ns) {
            if (condition(sim)) {
                return true;
            }
            look_ns = sim->now_ns + CHECK_EVERY_MS * SIM_MS;
        }
        if (sim->n_events == 0 || sim->events[0].time_ns > end_ns) {
            sim->now_ns = end_ns;
            return !condition || condition(sim);
        }
        step(sim);
    }
    return false;
}

/* ---------------------------------------------------------------- course */

/* Every node that can be up is, one leads, all have applied the same, each client has written. */
static bool is_whole(struct sim *sim)
{
    uint64_t applied = 0;
    int64_t revision = 0;
    unsigned n_leaders = 0;

    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        const struct sim_node *node = &sim->nodes[i];
        struct kv_replica_status status;

        if (node->is_lost) {
            continue;
        }
        if (!node->is_up) {
            return false;
        }
        kv_replica_status(node->node->replica, &status);
        n_leaders += status.role == KV_ROLE_LEADER;
        if (status.applied_index != status.commit_index || status.applied_index == 0 ||
            (applied && applied != status.applied_index)) {
            return false;
        }
        applied = status.applied_index;
        revision = kv_machine_revision(node->node->machine);
    }
    if (sim->load_ended && !(sim_lives_are_over(sim) && sim_follow_is_caught_up(sim, revision) &&
                             sim_resume_is_caught_up(sim, revision))) {
        return false;
    }
    for (unsigned i = 0; i < sim->profile.n_clients && !sim->load_ended; i++) {
        if (sim->clients[i].healed_writes == 0) {
            return false;
        }
    }
    return n_leaders == 1;
}

static bool is_quiet(struct sim *sim)
{
    for (unsigned i = 0; i < sim->profile.n_clients; i++) {
        if (sim->clients[i].n_pending > 0) {
            return false;
        }
    }
    return is_whole(sim);
}

/* Says what is still missing. */
static void fail_not_whole(struct sim *sim, const char *when)
{
    char text[360] = "";
    size_t size = 0;

    for (unsigned i = 1; i <= sim->profile.n_nodes && size < sizeof text; i++) {
        const struct sim_node *node = &sim->nodes[i];
        struct kv_replica_status status = {0};

        if (node->is_up) {
            kv_replica_status(node->node->replica, &status);
        }
        size += (size_t)snprintf(text + size,
                                 sizeof text - size,
                                 "; %u%s role %d term %" PRIu64 " commit %" PRIu64 "/%" PRIu64
                                 " applied %" PRIu64,
                                 i,
                                 node->is_lost ? " lost"
                                 : node->is_up ? ""
                                               : " down",
                                 (int)status.role,
                                 status.term,
                                 status.commit_index,
                                 status.last_index,
                                 status.applied_index);
    }
    for (unsigned i = 0; i < sim->profile.n_clients && size < sizeof text; i++) {
        size += (size_t)snprintf(text + size,
                                 sizeof text - size,
                                 "; client %u pending %u writes %" PRIu64,
                                 i,
                                 sim->clients[i].n_pending,
                                 sim->clients[i].healed_writes);
    }
    sim_fail(sim, "no progress %s%s", when, text);
}

/* A judgement that knows nothing of the log: the search for an order, and the model of the store.
 */
static void judge(struct sim *sim)
{
    struct kv_report report;

    kv_check_history(sim->recorded, &(struct kv_check_options){0}, &report);
    sim->counts.keys_given_up += report.keys_given_up;
    if (report.verdict == KV_VERDICT_BAD) {
        sim_fail(sim, "the history is not linearizable: %.300s", report.text);
    }
}

static void check_end(struct sim *sim)
{
    uint64_t first_hash = 0;
    int64_t revision = 0;
    bool has_first = false;
    bool wants_truth = sim->profile.n_followers > 0 || sim->profile.n_resumers > 0 ||
                       sim->profile.lives_percent > 0;

    sim->truth.times_alone = !wants_truth;
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        const struct kv_machine *machine;

        if (!sim->nodes[i].is_up) {
            continue;
        }
        machine = sim->nodes[i].node->machine;
        kv_machine_check_invariants(machine);
        if (!has_first) {
            first_hash = sim_node_state_hash(&sim->nodes[i]);
            revision = kv_machine_revision(machine);
            has_first = true;
        } else if (sim_node_state_hash(&sim->nodes[i]) != first_hash ||
                   kv_machine_revision(machine) != revision) {
            sim_fail(sim, "at the end node %u holds another state", i);
        }
    }
    sim_snapshots_check_end(sim);
    checkers_log_matching(&sim->checkers);
    history_check(&sim->history, &sim->checkers, &sim->truth);
    kv_history_timely(sim->recorded, sim->truth.timely, sim->truth.n_timely);
    if (wants_truth) {
        lives_check(&sim->lives, &sim->history, &sim->truth, &sim->checkers);
        locks_check(&sim->history, &sim->checkers);
        sim_follow_check(sim);
    }
    if (!sim->profile.repeats) {
        judge(sim);
    }
}

bool sim_run(struct sim *sim)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        sim_node_start(&sim->nodes[i]);
    }
    sim_follow_begin(sim);
    for (unsigned i = 0; i < sim->profile.n_clients + sim->profile.n_resumers; i++) {
        sim_client_open(sim, i);
    }
    sim->end_ns = sim->now_ns + sim->profile.duration_ms * SIM_MS;
    sim_faults_begin(sim);
    (void)run_until(sim, NULL, sim->profile.duration_ms);
    sim_note(sim, 0, "faults end");
    sim->has_healed = true;
    sim_faults_heal(sim);
    if (!run_until(sim, is_whole, HEAL_MAX_MS)) {
        fail_not_whole(sim, "after the faults had ended");
    }
    sim->load_ended = true;
    if (!run_until(sim, is_quiet, DRAIN_MAX_MS)) {
        fail_not_whole(sim, "after the load had ended");
    } else if (sim->profile.n_followers + sim->profile.n_resumers > 0) {
        /* What is on its way to them comes. */
        (void)run_until(sim, NULL, SETTLE_MS);
        (void)run_until(sim, is_quiet, DRAIN_MAX_MS);
    }
    sim->counts.simulated_ns = sim->now_ns - sim->start_ns;
    sim->counts.entries = sim->checkers.n_entries;
    if (!sim->checkers.has_failed) {
        check_end(sim);
    }
    return !sim->checkers.has_failed;
}
