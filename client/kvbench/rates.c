#define _GNU_SOURCE
#include "client/kvbench/rates.h"
#include "client/kvbench/conn.h"
#include "client/kvbench/histogram.h"
#include "client/kvbench/load.h"
#include "client/kvbench/support.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum { EVENTS_MAX = 256, SCORES = 1000000 };
#define WAIT_NS 1e7 /* at most, for whatever may come */

static struct {
    struct options options;
    struct bench_conn *conns;
    int epoll;
    struct histogram histogram;
    struct histogram second; /* since second_began_ns */
    uint64_t second_began_ns;
    uint64_t worst_p99_ns; /* of any second */
    uint64_t issued, completed, failed;
    char first_failure[200];
    bool measuring;
    bool ending;
    uint64_t random;
    uint64_t next_key;
    uint8_t *values;
    double next_due_ns; /* open loop */
    uint64_t expire_at_ns;
    int64_t *leases;
} bench;

static uint64_t next_random(void)
{
    return bench_random(&bench.random);
}

/* Those that the number-th operation goes on; ids are from one to --keys. */
static void fill_leases(struct bench_request *request, uint64_t number)
{
    unsigned n = request->operation == OPERATION_LEASE_GRANT ? 1 : bench.options.batch;

    for (unsigned i = 0; i < n; i++) {
        bench.leases[i] = (int64_t)((number * n + i) % bench.options.keys) + 1;
    }
    request->leases = bench.leases;
    request->n_leases = n;
}

/* Deadlines lie anywhere in the second that begins when all are to end. */
static uint64_t ttl_ms(uint64_t now)
{
    if (bench.options.expire_in_ms == 0) {
        return bench.options.ttl_ms;
    }
    return (bench.expire_at_ns > now ? (bench.expire_at_ns - now) / 1000000 : 0) + 1 +
           next_random() % 1000;
}

static void issue(struct bench_conn *conn, unsigned slot, uint64_t start_ns)
{
    const struct options *options = &bench.options;
    const struct load *load = options->load;
    uint64_t number = options->sequential ? bench.next_key++ : next_random();
    struct bench_request request = {
        .operation = load->operations[(load->at_random ? next_random() : bench.issued) % 2],
        .value =
            kv_slice_of(bench.values + next_random() % BENCH_VALUES_BYTES, options->value_size),
        .score = (double)(next_random() % SCORES),
        .ttl_ms = ttl_ms(start_ns),
    };
    struct load_names names;

    load_name(&request, number % options->keys, options->prefix, &names);
    fill_leases(&request, number);
    conn->started_ns[slot] = start_ns;
    bench.issued++;
    if (conn->target->encode(conn, slot, &request) != 0) {
        bench_fail("cannot encode a request");
    }
}

static bool may_issue(void)
{
    return !bench.ending && (bench.options.count == 0 || bench.issued < bench.options.count);
}

/* Of the second that is over; the last one may be shorter and does not count. */
static void end_second(uint64_t now)
{
    uint64_t p99 = histogram_percentile(&bench.second, 99);

    bench.worst_p99_ns = p99 > bench.worst_p99_ns ? p99 : bench.worst_p99_ns;
    memset(&bench.second, 0, sizeof bench.second);
    bench.second_began_ns = now;
}

static void on_completed(struct bench_conn *conn, unsigned slot, bool ok, const char *text)
{
    uint64_t now = bench_now_ns();
    uint64_t started = conn->started_ns[slot];

    conn->started_ns[slot] = 0;
    if (bench.measuring && ok) {
        histogram_add(&bench.histogram, now > started ? now - started : 0);
        histogram_add(&bench.second, now > started ? now - started : 0);
        bench.completed++;
        if (now - bench.second_began_ns > 1000000000) {
            end_second(now);
        }
    }
    if (!ok) {
        bench.failed++;
        if (!bench.first_failure[0]) {
            snprintf(bench.first_failure, sizeof bench.first_failure, "%s", text);
        }
    }
    if (may_issue() && bench.options.rate == 0) {
        issue(conn, slot, now);
    }
}

/* Open loop: what is due goes to free slots; what finds none waits, and its latency counts from
 * when it was due. Returns how long nothing will be. */
static double issue_due(void)
{
    static unsigned at;
    uint64_t now = bench_now_ns();

    while (bench.next_due_ns <= (double)now && may_issue()) {
        bool found = false;

        for (unsigned tried = 0; tried < bench.options.connections * bench.options.depth && !found;
             tried++) {
            struct bench_conn *conn = &bench.conns[at % bench.options.connections];
            unsigned slot = at / bench.options.connections % bench.options.depth;

            at++;
            if (conn->started_ns[slot] == 0) {
                issue(conn, slot, (uint64_t)bench.next_due_ns);
                conn_flush(conn);
                found = true;
            }
        }
        if (!found) {
            return WAIT_NS;
        }
        bench.next_due_ns += 1e9 / bench.options.rate;
    }
    now = bench_now_ns();
    return bench.next_due_ns - (double)now < WAIT_NS ? bench.next_due_ns - (double)now : WAIT_NS;
}

static uint64_t outstanding(void)
{
    uint64_t n = 0;

    for (unsigned i = 0; i < bench.options.connections; i++) {
        for (unsigned k = 0; k < bench.options.depth; k++) {
            n += bench.conns[i].started_ns[k] != 0;
        }
    }
    return n;
}

static void run_until(uint64_t end_ns)
{
    struct epoll_event events[EVENTS_MAX];

    while (bench_now_ns() < end_ns && (may_issue() || outstanding() > 0)) {
        double wait_ns = bench.options.rate > 0 ? issue_due() : WAIT_NS;
        int n = conn_wait(bench.epoll, events, EVENTS_MAX, wait_ns);

        for (int i = 0; i < n; i++) {
            conn_serve(events[i].data.ptr, events[i].events, on_completed);
        }
    }
}

static void start_load(void)
{
    bench.next_due_ns = (double)bench_now_ns();
    for (unsigned k = 0; k < bench.options.depth && bench.options.rate == 0; k++) {
        for (unsigned i = 0; i < bench.options.connections && may_issue(); i++) {
            issue(&bench.conns[i], k, bench_now_ns());
        }
    }
    for (unsigned i = 0; i < bench.options.connections; i++) {
        conn_flush(&bench.conns[i]);
    }
}

static void report(double seconds, double cpu)
{
    const struct histogram *h = &bench.histogram;
    double us[5] = {(double)histogram_percentile(h, 50) / 1e3,
                    (double)histogram_percentile(h, 90) / 1e3,
                    (double)histogram_percentile(h, 99) / 1e3,
                    (double)histogram_percentile(h, 99.9) / 1e3,
                    (double)h->max / 1e3};
    double rate = (double)bench.completed / seconds;
    double worst_us =
        (double)(bench.worst_p99_ns ? bench.worst_p99_ns : histogram_percentile(h, 99)) / 1e3;

    if (bench.options.json) {
        printf("{\"target\":\"%s\",\"operations\":%" PRIu64 ",\"failed\":%" PRIu64
               ",\"seconds\":%.3f,\"rate\":%.1f,"
               "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
               "\"worst_second_p99_us\":%.1f,\"cpu\":%.3f}\n",
               bench.options.target->name,
               bench.completed,
               bench.failed,
               seconds,
               rate,
               us[0],
               us[1],
               us[2],
               us[3],
               us[4],
               worst_us,
               cpu / seconds);
        return;
    }
    printf("%s: %.0f/s over %.1f s, latency us p50 %.0f p90 %.0f p99 %.0f p99.9 %.0f max %.0f, "
           "p99 of the worst second %.0f, failed %" PRIu64 "%s%s\n",
           bench.options.target->name,
           rate,
           seconds,
           us[0],
           us[1],
           us[2],
           us[3],
           us[4],
           worst_us,
           bench.failed,
           bench.failed ? ": " : "",
           bench.first_failure);
    if (cpu / seconds > 0.9) {
        printf("note: kvbench itself used %.0f %% of a core, it may be the limit\n",
               cpu / seconds * 100);
    }
}

static void run(void)
{
    uint64_t begin;
    double cpu;

    start_load();
    if (bench.options.count == 0 && bench.options.warmup > 0) {
        run_until(bench_now_ns() + (uint64_t)(bench.options.warmup * 1e9));
    }
    bench.measuring = true;
    begin = bench_now_ns();
    bench.second_began_ns = begin;
    cpu = bench_cpu_seconds();
    run_until(bench.options.count ? UINT64_MAX : begin + (uint64_t)(bench.options.seconds * 1e9));
    bench.measuring = false;
    bench.ending = true;
    report((double)(bench_now_ns() - begin) / 1e9, bench_cpu_seconds() - cpu);
    /* Leave nothing half sent behind. */
    run_until(bench_now_ns() + UINT64_C(5000000000));
}

int rates_run(const struct options *options)
{
    bench.options = *options;
    bench.random = UINT64_C(88172645463325252);
    bench.values = bench_make_values(options->value_size);
    bench.conns = bench_alloc(options->connections, sizeof *bench.conns);
    bench.leases = bench_alloc(options->batch, sizeof *bench.leases);
    bench.epoll = conn_epoll();
    for (unsigned i = 0; i < options->connections; i++) {
        conn_open(&bench.conns[i], options, i, options->depth, bench.epoll);
    }
    bench.expire_at_ns = bench_now_ns() + options->expire_in_ms * 1000000;
    run();
    for (unsigned i = 0; i < options->connections; i++) {
        conn_close(&bench.conns[i]);
    }
    close(bench.epoll);
    free(bench.leases);
    free(bench.conns);
    free(bench.values);
    return bench.completed > 0 ? 0 : 1;
}
