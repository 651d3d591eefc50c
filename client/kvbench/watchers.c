#include "client/kvbench/watchers.h"
#include "client/kvbench/support.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

enum {
    EVENTS_MAX = 256,
    BEGINNING_MAX = 256, /* streams of a connection that have not begun; servers bound them */
    IDLE_LOOK_MS = 100,
    CATCH_UP_EVENTS = 1000000
};

static void on_watching(struct bench_conn *conn, unsigned number)
{
    struct watchers *watchers = conn->owner;

    (void)number;
    watchers->watching++;
    watchers->begun[conn->number]++;
}

static void nothing_asked(struct bench_conn *conn, unsigned slot, bool ok, const char *text)
{
    (void)slot;
    bench_fail("connection %u: a watch was refused: %s", conn->number, ok ? "ended" : text);
}

void watchers_serve(struct watchers *watchers, int timeout_ms)
{
    struct epoll_event events[EVENTS_MAX];
    int n = epoll_wait(watchers->epoll, events, EVENTS_MAX, timeout_ms);

    for (int i = 0; i < n; i++) {
        conn_serve(events[i].data.ptr, events[i].events, nothing_asked);
    }
}

/* Asks for more streams on connection c, as many as may begin at a time. */
static void
ask(struct watchers *watchers, const struct options *options, watchers_fill_fn fill, unsigned c)
{
    struct bench_conn *conn = &watchers->conns[c];
    unsigned all = (watchers->n - c + watchers->n_conns - 1) / watchers->n_conns;

    while (watchers->asked[c] < all && watchers->asked[c] - watchers->begun[c] < BEGINNING_MAX) {
        struct bench_watch watch = {.number = watchers->asked[c]};
        char memory[64];

        fill(options, watch.number * watchers->n_conns + c, &watch, memory);
        if (conn->target->watch(conn, &watch) != 0) {
            bench_fail("cannot encode a watch");
        }
        watchers->asked[c]++;
    }
    conn_flush(conn);
}

void watchers_open(struct watchers *watchers,
                   const struct options *options,
                   watchers_fill_fn fill,
                   void (*on_event)(struct bench_conn *conn,
                                    unsigned number,
                                    struct kv_slice value),
                   void *owner)
{
    struct options plain = *options;

    plain.session = false;
    *watchers = (struct watchers){
        .n = options->watchers,
        .n_conns =
            options->connections < options->watchers ? options->connections : options->watchers,
        .epoll = conn_epoll(),
        .hooks = {on_watching, on_event},
        .owner = owner,
    };
    watchers->conns = bench_alloc(watchers->n_conns, sizeof *watchers->conns);
    watchers->asked = bench_alloc(watchers->n_conns, sizeof *watchers->asked);
    watchers->begun = bench_alloc(watchers->n_conns, sizeof *watchers->begun);
    for (unsigned c = 0; c < watchers->n_conns; c++) {
        conn_open(&watchers->conns[c], &plain, c, 1, watchers->epoll);
        watchers->conns[c].hooks = &watchers->hooks;
        watchers->conns[c].owner = watchers;
    }
    while (watchers->watching < watchers->n) {
        for (unsigned c = 0; c < watchers->n_conns; c++) {
            ask(watchers, options, fill, c);
        }
        watchers_serve(watchers, IDLE_LOOK_MS);
    }
}

void watchers_close(struct watchers *watchers)
{
    for (unsigned c = 0; c < watchers->n_conns; c++) {
        conn_close(&watchers->conns[c]);
    }
    close(watchers->epoll);
    free(watchers->conns);
    free(watchers->asked);
    free(watchers->begun);
}

/* ---------------------------------------------------------------- idle */

static void
fill_idle(const struct options *options, unsigned i, struct bench_watch *watch, char memory[64])
{
    int size = snprintf(memory, 64, "%.40s%012u", options->prefix, i);

    watch->key = kv_slice_of(memory, (size_t)size);
}

static void on_counted(struct bench_conn *conn, unsigned number, struct kv_slice value)
{
    struct watchers *watchers = conn->owner;
    uint64_t *events = watchers->owner;

    (void)number;
    (void)value;
    (*events)++;
}

static bool stdin_ended(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char ignored[256];

    return poll(&input, 1, 0) > 0 && read(STDIN_FILENO, ignored, sizeof ignored) <= 0;
}

int watchers_run_idle(const struct options *options)
{
    struct watchers watchers;
    uint64_t events = 0;
    uint64_t begin = bench_now_ns();
    double seconds;

    watchers_open(&watchers, options, fill_idle, on_counted, &events);
    seconds = (double)(bench_now_ns() - begin) / 1e9;
    printf(options->json
               ? "{\"target\":\"%s\",\"watchers\":%u,\"connections\":%u,\"seconds\":%.3f}\n"
               : "%s: %u watchers on %u connections after %.3f s\n",
           options->target->name,
           watchers.n,
           watchers.n_conns,
           seconds);
    fflush(stdout);
    begin = bench_now_ns();
    while ((double)(bench_now_ns() - begin) < options->seconds * 1e9 && !stdin_ended()) {
        watchers_serve(&watchers, IDLE_LOOK_MS);
    }
    watchers_close(&watchers);
    return 0;
}

/* ---------------------------------------------------------------- catch up */

static void
fill_catch_up(const struct options *options, unsigned i, struct bench_watch *watch, char memory[64])
{
    (void)i;
    (void)memory;
    watch->key = kv_slice_str(options->prefix);
    watch->prefix = true;
    watch->from_revision = options->from_revision;
}

/* Time until one watcher was told `wanted` events. */
static uint64_t catch_up(const struct options *options, uint64_t wanted)
{
    struct watchers watchers;
    uint64_t events = 0;
    uint64_t begin = bench_now_ns();
    uint64_t end;

    watchers_open(&watchers, options, fill_catch_up, on_counted, &events);
    while (events < wanted) {
        watchers_serve(&watchers, IDLE_LOOK_MS);
    }
    end = bench_now_ns();
    watchers_close(&watchers);
    return end - begin;
}

int watchers_run_catch_up(const struct options *options)
{
    struct options one = *options;
    uint64_t wanted = options->count ? options->count : CATCH_UP_EVENTS;
    uint64_t begin = bench_now_ns();
    double cpu = bench_cpu_seconds();
    uint64_t took_ns = 0;
    unsigned times = 0;
    double seconds;

    one.watchers = 1;
    do {
        took_ns += catch_up(&one, wanted);
        times++;
    } while ((double)(bench_now_ns() - begin) < options->seconds * 1e9);
    seconds = (double)took_ns / 1e9;
    printf(options->json ? "{\"target\":\"%s\",\"events\":%" PRIu64
                           ",\"times\":%u,\"seconds\":%.3f,"
                           "\"rate\":%.1f,\"cpu\":%.3f}\n"
                         : "%s: %" PRIu64
                           " events, %u times, in %.3f s: %.0f/s; kvbench used %.2f of a core\n",
           options->target->name,
           wanted * times,
           times,
           seconds,
           (double)(wanted * times) / seconds,
           (bench_cpu_seconds() - cpu) / seconds);
    return 0;
}
