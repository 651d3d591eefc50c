#include "client/kvbench/fanout.h"
#include "client/kvbench/histogram.h"
#include "client/kvbench/load.h"
#include "client/kvbench/support.h"
#include "client/kvbench/watchers.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 64,
    MARK_BYTES = 8, /* of each value: which write it is */
    SLOT_BITS = 10,
    WAIT_MS = 10,
    PATIENCE_S = 10
};
_Static_assert(BENCH_DEPTH_MAX <= 1 << SLOT_BITS, "a mark names its slot");

/* A write is over when both are set; who sets the second one leaves it to the writer. */
enum { ANSWERED = 1, TOLD = 2 };

struct write {
    bool under_way;
    uint64_t mark;
    uint64_t due_ns;
    uint64_t answered_ns;
    uint64_t first_told_ns;
    uint64_t told_ns;
    unsigned told; /* watchers */
    atomic_uint state;
};

static struct {
    const struct options *options;
    struct watchers watchers;
    struct write *writes; /* per slot */
    struct bench_conn writer;
    int epoll;
    int wake; /* the reader found a write that is over */
    bool over;
    atomic_bool stop;
    atomic_uint_fast64_t events;
    struct kv_slice key;
    uint8_t *value;
    uint64_t sequence;
    uint64_t failed;
    char first_failure[200];
    double next_due_ns;
    bool measuring;
    bool ending;
    struct histogram from_sending;
    struct histogram from_commit;
} fanout;

/* ---------------------------------------------------------------- reader */

static void on_event(struct bench_conn *conn, unsigned number, struct kv_slice value)
{
    uint64_t mark = value.size >= MARK_BYTES ? kv_get_u64(value.data) : 0;
    struct write *write = &fanout.writes[mark & ((1u << SLOT_BITS) - 1)];

    if (value.size < MARK_BYTES || write->mark != mark || write->told == fanout.watchers.n) {
        bench_fail(
            "connection %u, watcher %u: an event that was not to come", conn->number, number);
    }
    if (++write->told == 1) {
        write->first_told_ns = bench_now_ns();
    }
    if (write->told == fanout.watchers.n) {
        write->told_ns = bench_now_ns();
        if (atomic_fetch_or(&write->state, TOLD) & ANSWERED) {
            fanout.over = true;
        }
    }
    atomic_store_explicit(&fanout.events,
                          atomic_load_explicit(&fanout.events, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

static void *read_events(void *unused)
{
    uint64_t one = 1;

    (void)unused;
    while (!atomic_load(&fanout.stop)) {
        watchers_serve(&fanout.watchers, WAIT_MS);
        if (fanout.over) {
            fanout.over = false;
            if (write(fanout.wake, &one, sizeof one) < 0) {
                bench_fail("cannot wake the writer");
            }
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- writer */

static void issue(unsigned slot, uint64_t due_ns)
{
    struct write *write = &fanout.writes[slot];
    struct bench_request request = {
        .operation = fanout.options->load->operations[0],
        .key = fanout.key,
        .value = kv_slice_of(fanout.value, fanout.options->value_size),
    };

    *write = (struct write){
        .under_way = true,
        .mark = ++fanout.sequence << SLOT_BITS | slot,
        .due_ns = due_ns,
    };
    kv_put_u64(fanout.value, write->mark);
    if (fanout.writer.target->encode(&fanout.writer, slot, &request) != 0) {
        bench_fail("cannot encode a request");
    }
}

static uint64_t since(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? to_ns - from_ns : 0;
}

static void finish(unsigned slot)
{
    struct write *write = &fanout.writes[slot];
    uint64_t committed_ns =
        write->answered_ns < write->first_told_ns ? write->answered_ns : write->first_told_ns;

    write->under_way = false;
    if (fanout.measuring) {
        histogram_add(&fanout.from_sending, since(write->due_ns, write->told_ns));
        histogram_add(&fanout.from_commit, since(committed_ns, write->told_ns));
    }
    if (!fanout.ending && fanout.options->rate == 0) {
        issue(slot, bench_now_ns());
    }
}

static void on_completed(struct bench_conn *conn, unsigned slot, bool ok, const char *text)
{
    struct write *write = &fanout.writes[slot];

    (void)conn;
    if (!ok) {
        bench_fail("a write failed, and what the watchers are told is not known: %s", text);
    }
    write->answered_ns = bench_now_ns();
    if (atomic_fetch_or(&write->state, ANSWERED) & TOLD) {
        finish(slot);
    }
}

static void finish_all(void)
{
    uint64_t count;

    if (read(fanout.wake, &count, sizeof count) < 0) {
        return;
    }
    for (unsigned slot = 0; slot < fanout.options->depth; slot++) {
        if (fanout.writes[slot].under_way &&
            atomic_load(&fanout.writes[slot].state) == (ANSWERED | TOLD)) {
            finish(slot);
        }
    }
}

/* What is due goes to free slots; what finds none waits, and its latency counts from when it was
 * due. Returns how long nothing will be. */
static double issue_due(void)
{
    double now = (double)bench_now_ns();

    for (unsigned slot = 0; slot < fanout.options->depth && fanout.next_due_ns <= now; slot++) {
        if (!fanout.writes[slot].under_way) {
            issue(slot, (uint64_t)fanout.next_due_ns);
            fanout.next_due_ns += 1e9 / fanout.options->rate;
        }
    }
    return fanout.next_due_ns > now && fanout.next_due_ns - now < WAIT_MS * 1e6
               ? fanout.next_due_ns - now
               : WAIT_MS * 1e6;
}

static unsigned under_way(void)
{
    unsigned n = 0;

    for (unsigned slot = 0; slot < fanout.options->depth; slot++) {
        n += fanout.writes[slot].under_way;
    }
    return n;
}

/* Until then, or until nothing is under way and nothing more will be. */
static void write_until(uint64_t end_ns)
{
    struct epoll_event events[EVENTS_MAX];

    while (bench_now_ns() < end_ns && !(fanout.ending && under_way() == 0)) {
        double wait_ns = WAIT_MS * 1e6;
        int n;

        if (fanout.options->rate > 0 && !fanout.ending) {
            wait_ns = issue_due();
        }
        conn_flush(&fanout.writer);
        n = conn_wait(fanout.epoll, events, EVENTS_MAX, wait_ns);
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr) {
                conn_serve(events[i].data.ptr, events[i].events, on_completed);
            } else {
                finish_all();
            }
        }
    }
}

/* ---------------------------------------------------------------- all */

static void report(uint64_t events, double seconds, double cpu)
{
    const struct options *options = fanout.options;
    double sent_us[3] = {(double)histogram_percentile(&fanout.from_sending, 50) / 1e3,
                         (double)histogram_percentile(&fanout.from_sending, 99) / 1e3,
                         (double)fanout.from_sending.max / 1e3};
    double commit_us[3] = {(double)histogram_percentile(&fanout.from_commit, 50) / 1e3,
                           (double)histogram_percentile(&fanout.from_commit, 99) / 1e3,
                           (double)fanout.from_commit.max / 1e3};
    double rate = (double)fanout.from_sending.total / seconds;
    uint64_t missing = 0;

    for (unsigned slot = 0; slot < options->depth; slot++) {
        missing += fanout.writes[slot].under_way ? fanout.watchers.n - fanout.writes[slot].told : 0;
    }
    if (options->json) {
        printf("{\"target\":\"%s\",\"watchers\":%u,\"connections\":%u,\"writes\":%" PRIu64
               ",\"events\":%" PRIu64 ",\"missing\":%" PRIu64
               ",\"seconds\":%.3f,\"rate\":%.1f,\"events_rate\":%.1f,"
               "\"p50_us\":%.1f,\"p99_us\":%.1f,\"max_us\":%.1f,"
               "\"after_commit_p50_us\":%.1f,\"after_commit_p99_us\":%.1f,"
               "\"after_commit_max_us\":%.1f,\"cpu\":%.3f}\n",
               options->target->name,
               fanout.watchers.n,
               fanout.watchers.n_conns,
               fanout.from_sending.total,
               events,
               missing,
               seconds,
               rate,
               (double)events / seconds,
               sent_us[0],
               sent_us[1],
               sent_us[2],
               commit_us[0],
               commit_us[1],
               commit_us[2],
               cpu / seconds);
        return;
    }
    printf(
        "%s: %.0f writes/s, %.0f events/s to %u watchers over %.1f s; the last is told, us, after "
        "sending p50 %.0f p99 %.0f max %.0f, after the commit p50 %.0f p99 %.0f max %.0f; not "
        "told %" PRIu64 "; kvbench used %.2f of a core\n",
        options->target->name,
        rate,
        (double)events / seconds,
        fanout.watchers.n,
        seconds,
        sent_us[0],
        sent_us[1],
        sent_us[2],
        commit_us[0],
        commit_us[1],
        commit_us[2],
        missing,
        cpu / seconds);
}

static void run(void)
{
    const struct options *options = fanout.options;
    uint64_t begin;
    uint64_t events;
    double seconds;
    double cpu;

    fanout.next_due_ns = (double)bench_now_ns();
    for (unsigned slot = 0; slot < options->depth && options->rate == 0; slot++) {
        issue(slot, bench_now_ns());
    }
    write_until(bench_now_ns() + (uint64_t)(options->warmup * 1e9));
    fanout.measuring = true;
    begin = bench_now_ns();
    cpu = bench_cpu_seconds();
    events = atomic_load(&fanout.events);
    write_until(begin + (uint64_t)(options->seconds * 1e9));
    events = atomic_load(&fanout.events) - events;
    cpu = bench_cpu_seconds() - cpu;
    seconds = (double)(bench_now_ns() - begin) / 1e9;
    fanout.ending = true;
    write_until(bench_now_ns() + (uint64_t)PATIENCE_S * 1000000000);
    report(events, seconds, cpu);
}

static void
fill(const struct options *options, unsigned i, struct bench_watch *watch, char memory[64])
{
    (void)i;
    (void)memory;
    watch->key = fanout.key;
    watch->topic = options->load->operations[0] == OPERATION_PUBLISH;
}

int fanout_run(const struct options *given)
{
    struct options options = *given;
    struct epoll_event event = {.events = EPOLLIN};
    pthread_t reader;
    char key[64];

    options.value_size = given->value_size < MARK_BYTES ? MARK_BYTES : given->value_size;
    snprintf(key, sizeof key, "%.50swatched", options.prefix);
    fanout.options = &options;
    fanout.key = kv_slice_str(key);
    fanout.value = bench_make_values(options.value_size);
    fanout.writes = bench_alloc(BENCH_DEPTH_MAX, sizeof *fanout.writes);
    fanout.epoll = conn_epoll();
    fanout.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (fanout.wake < 0 || epoll_ctl(fanout.epoll, EPOLL_CTL_ADD, fanout.wake, &event) < 0) {
        bench_fail("no eventfd");
    }
    conn_open(&fanout.writer, &options, 0, options.depth, fanout.epoll);
    watchers_open(&fanout.watchers, &options, fill, on_event, NULL);
    if (pthread_create(&reader, NULL, read_events, NULL) != 0) {
        bench_fail("no thread");
    }
    run();
    atomic_store(&fanout.stop, true);
    pthread_join(reader, NULL);
    watchers_close(&fanout.watchers);
    conn_close(&fanout.writer);
    close(fanout.wake);
    close(fanout.epoll);
    free(fanout.writes);
    free(fanout.value);
    return fanout.from_sending.total > 0 ? 0 : 1;
}
