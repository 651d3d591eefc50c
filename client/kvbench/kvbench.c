/* kvbench: load for kvd, etcd and redis in the same manner. One thread, epoll, closed loop (a new
 * operation as soon as one is answered) or open loop (--rate: latency counts from the intended time
 * of sending). */
#define _GNU_SOURCE
#include "client/kvbench/histogram.h"
#include "client/kvbench/load.h"
#include "common/status.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    ENDPOINTS_MAX = 16,
    BUF_BYTES_MAX = 256 * 1024 * 1024,
    READ_BYTES = 256 * 1024,
    EVENTS_MAX = 256,
    VALUES_BYTES = 1024 * 1024,
    SCORES = 1000000
};

struct options {
    const struct target *target;
    char *endpoints[ENDPOINTS_MAX];
    unsigned n_endpoints;
    unsigned connections;
    unsigned depth;
    const struct load *load;
    uint64_t keys;
    size_t value_size;
    double seconds;
    uint64_t count; /* instead of seconds */
    double warmup;
    double rate;
    bool serializable;
    bool spread;
    bool sequential;
    bool json;
    const char *prefix;
};

static struct {
    struct options options;
    struct bench_conn *conns;
    int epoll;
    struct histogram histogram;
    uint64_t issued, completed, failed;
    char first_failure[200];
    bool measuring;
    bool ending;
    uint64_t random;
    uint64_t next_key;
    uint8_t *values;    /* random bytes: every value is a piece of them, so that none compresses */
    double next_due_ns; /* open loop */
} bench;

static uint64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void fail(const char *format, ...) __attribute__((noreturn)) KV_PRINTF(1, 2);

static void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fprintf(stderr, "kvbench: ");
    vfprintf(stderr, format, arguments);
    fprintf(stderr, "\n");
    va_end(arguments);
    exit(1);
}

static uint64_t next_random(void)
{
    bench.random ^= bench.random >> 12;
    bench.random ^= bench.random << 25;
    bench.random ^= bench.random >> 27;
    return bench.random * UINT64_C(2685821657736338717);
}

/* ---------------------------------------------------------------- connections */

static int connect_to(const char *endpoint)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    const char *colon = strrchr(endpoint, ':');
    char host[256];
    int yes = 1;
    int fd;

    if (!colon || (size_t)(colon - endpoint) >= sizeof host) {
        fail("\"%s\" is no endpoint: want host:port", endpoint);
    }
    snprintf(host, sizeof host, "%.*s", (int)(colon - endpoint), endpoint);
    if (getaddrinfo(host, colon + 1, &hints, &found) != 0) {
        fail("cannot resolve %s", endpoint);
    }
    fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, found->ai_addr, found->ai_addrlen) < 0) {
        fail("cannot connect to %s: %s", endpoint, strerror(errno));
    }
    freeaddrinfo(found);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    return fd;
}

static void watch(struct bench_conn *conn, bool writable, int how)
{
    struct epoll_event event = {.events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = conn};

    conn->writable_wanted = writable;
    if (epoll_ctl(bench.epoll, how, conn->fd, &event) < 0) {
        fail("epoll: %s", strerror(errno));
    }
}

static void flush(struct bench_conn *conn)
{
    while (conn->sent < conn->out.size) {
        ssize_t n = send(conn->fd,
                         conn->out.data + conn->sent,
                         conn->out.size - conn->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0 && errno == EAGAIN) {
            if (!conn->writable_wanted) {
                watch(conn, true, EPOLL_CTL_MOD);
            }
            return;
        }
        if (n < 0) {
            fail("connection %u: %s", conn->number, strerror(errno));
        }
        conn->sent += (size_t)n;
    }
    kv_buf_clear(&conn->out);
    conn->sent = 0;
    if (conn->writable_wanted) {
        watch(conn, false, EPOLL_CTL_MOD);
    }
}

static bool read_some(struct bench_conn *conn, int flags)
{
    uint8_t *p = kv_buf_reserve(&conn->in, READ_BYTES);
    ssize_t n;

    if (!p) {
        fail("out of memory");
    }
    n = recv(conn->fd, p, READ_BYTES, flags);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return false;
    }
    if (n <= 0) {
        fail("connection %u: %s", conn->number, n == 0 ? "closed by the server" : strerror(errno));
    }
    conn->in.size += (size_t)n;
    return true;
}

static void nothing_completed(struct bench_conn *conn, unsigned slot, bool ok, const char *text)
{
    (void)slot;
    (void)ok;
    (void)text;
    fail("connection %u: an answer before any question", conn->number);
}

static void init_conn(struct bench_conn *conn, const char *endpoint)
{
    conn->target = bench.options.target;
    conn->serializable = bench.options.serializable;
    conn->depth = bench.options.depth;
    conn->fd = connect_to(endpoint);
    kv_buf_init(&conn->in, BUF_BYTES_MAX);
    kv_buf_init(&conn->out, BUF_BYTES_MAX);
    conn->started_ns = calloc(conn->depth, sizeof *conn->started_ns);
    if (!conn->started_ns || conn->target->open(conn) != 0) {
        fail("out of memory");
    }
    while (conn->sent < conn->out.size) {
        ssize_t n =
            send(conn->fd, conn->out.data + conn->sent, conn->out.size - conn->sent, MSG_NOSIGNAL);

        if (n < 0) {
            fail("%s: %s", endpoint, strerror(errno));
        }
        conn->sent += (size_t)n;
    }
    kv_buf_clear(&conn->out);
    conn->sent = 0;
    while (!conn->ready) {
        (void)read_some(conn, 0);
        if (conn->target->parse(conn, nothing_completed) != 0) {
            fail("%s: %s", endpoint, conn->error);
        }
    }
}

static void deinit_conn(struct bench_conn *conn)
{
    conn->target->close(conn);
    close(conn->fd);
    kv_buf_deinit(&conn->in);
    kv_buf_deinit(&conn->out);
    free(conn->started_ns);
    memset(conn, 0, sizeof *conn);
}

/* Straight to the leader, unless the load is to be spread. */
static void open_conn(unsigned number)
{
    struct bench_conn *conn = &bench.conns[number];
    const char *endpoint = bench.options.endpoints[number % bench.options.n_endpoints];
    char leader[280];

    conn->number = number;
    init_conn(conn, endpoint);
    if (!bench.options.spread && conn->leader[0] && strcmp(conn->leader, endpoint) != 0) {
        memcpy(leader, conn->leader, sizeof leader);
        deinit_conn(conn);
        conn->number = number;
        init_conn(conn, leader);
    }
    watch(conn, false, EPOLL_CTL_ADD);
}

/* ---------------------------------------------------------------- load */

static void issue(struct bench_conn *conn, unsigned slot, uint64_t start_ns)
{
    const struct options *options = &bench.options;
    const struct load *load = options->load;
    uint64_t number = options->sequential ? bench.next_key++ : next_random();
    struct bench_request request = {
        .operation = load->operations[(load->at_random ? next_random() : bench.issued) % 2],
        .value = kv_slice_of(bench.values + next_random() % VALUES_BYTES, options->value_size),
        .score = (double)(next_random() % SCORES),
    };
    struct load_names names;

    load_name(&request, number % options->keys, options->prefix, &names);
    conn->started_ns[slot] = start_ns;
    bench.issued++;
    if (conn->target->encode(conn, slot, &request) != 0) {
        fail("cannot encode a request");
    }
}

static bool may_issue(void)
{
    return !bench.ending && (bench.options.count == 0 || bench.issued < bench.options.count);
}

static void on_completed(struct bench_conn *conn, unsigned slot, bool ok, const char *text)
{
    uint64_t now = now_ns();
    uint64_t started = conn->started_ns[slot];

    conn->started_ns[slot] = 0;
    if (bench.measuring && ok) {
        histogram_add(&bench.histogram, now > started ? now - started : 0);
        bench.completed++;
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
 * when it was due. */
static void issue_due(void)
{
    static unsigned at;
    uint64_t now = now_ns();

    while (bench.next_due_ns <= (double)now && may_issue()) {
        bool found = false;

        for (unsigned tried = 0; tried < bench.options.connections * bench.options.depth && !found;
             tried++) {
            struct bench_conn *conn = &bench.conns[at % bench.options.connections];
            unsigned slot = at / bench.options.connections % bench.options.depth;

            at++;
            if (conn->started_ns[slot] == 0) {
                issue(conn, slot, (uint64_t)bench.next_due_ns);
                flush(conn);
                found = true;
            }
        }
        if (!found) {
            return;
        }
        bench.next_due_ns += 1e9 / bench.options.rate;
    }
}

static void serve(struct bench_conn *conn, uint32_t events)
{
    if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) && read_some(conn, MSG_DONTWAIT) &&
        conn->target->parse(conn, on_completed) != 0) {
        fail("connection %u: %s", conn->number, conn->error);
    }
    flush(conn);
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

    while (now_ns() < end_ns && (may_issue() || outstanding() > 0)) {
        int timeout_ms = bench.options.rate > 0 ? 0 : 10;
        int n;

        if (bench.options.rate > 0) {
            issue_due();
        }
        n = epoll_wait(bench.epoll, events, EVENTS_MAX, timeout_ms);
        for (int i = 0; i < n; i++) {
            serve(events[i].data.ptr, events[i].events);
        }
    }
}

static double cpu_seconds(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
           ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
}

static void start_load(void)
{
    bench.next_due_ns = (double)now_ns();
    for (unsigned k = 0; k < bench.options.depth && bench.options.rate == 0; k++) {
        for (unsigned i = 0; i < bench.options.connections && may_issue(); i++) {
            issue(&bench.conns[i], k, now_ns());
        }
    }
    for (unsigned i = 0; i < bench.options.connections; i++) {
        flush(&bench.conns[i]);
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

    if (bench.options.json) {
        printf("{\"target\":\"%s\",\"operations\":%" PRIu64 ",\"failed\":%" PRIu64
               ",\"seconds\":%.3f,\"rate\":%.1f,"
               "\"p50_us\":%.1f,\"p90_us\":%.1f,\"p99_us\":%.1f,\"p999_us\":%.1f,\"max_us\":%.1f,"
               "\"cpu\":%.3f}\n",
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
               cpu / seconds);
        return;
    }
    printf("%s: %.0f/s over %.1f s, latency us p50 %.0f p90 %.0f p99 %.0f p99.9 %.0f max %.0f, "
           "failed %" PRIu64 "%s%s\n",
           bench.options.target->name,
           rate,
           seconds,
           us[0],
           us[1],
           us[2],
           us[3],
           us[4],
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
        run_until(now_ns() + (uint64_t)(bench.options.warmup * 1e9));
    }
    bench.measuring = true;
    begin = now_ns();
    cpu = cpu_seconds();
    run_until(bench.options.count ? UINT64_MAX : begin + (uint64_t)(bench.options.seconds * 1e9));
    bench.measuring = false;
    bench.ending = true;
    report((double)(now_ns() - begin) / 1e9, cpu_seconds() - cpu);
    /* Leave nothing half sent behind. */
    run_until(now_ns() + UINT64_C(5000000000));
}

/* ---------------------------------------------------------------- arguments */

static const char usage[] = "Usage: kvbench [OPTION]...\n"
                            "Loads a server and prints rate and latency.\n\n"
                            "  --target kvd|etcd|redis  what speaks at the endpoints (kvd)\n"
                            "  --endpoints LIST         host:port,... (127.0.0.1:4700)\n"
                            "  --op NAME                operation, see below (put)\n"
                            "  --connections N          connections (64)\n"
                            "  --pipeline N             operations under way on each (1)\n"
                            "  --keys N                 different keys (100000)\n"
                            "  --value-size BYTES       size of values (256)\n"
                            "  --seconds S              how long to measure (5)\n"
                            "  --warmup S               load before measuring (1)\n"
                            "  --count N                a number of operations instead of a time\n"
                            "  --sequential             keys in order, each once: to fill\n"
                            "  --rate N                 open loop: N operations a second\n"
                            "  --serializable           reads from one node's state\n"
                            "  --spread                 use all endpoints, not only the leader\n"
                            "  --prefix TEXT            of the keys (k)\n"
                            "  --json                   print JSON\n"
                            "Example: kvbench --op get --connections 64 --seconds 10\n";

static const struct option long_options[] = {
    {"target", required_argument, NULL, 't'},
    {"endpoints", required_argument, NULL, 'e'},
    {"op", required_argument, NULL, 'o'},
    {"connections", required_argument, NULL, 'c'},
    {"pipeline", required_argument, NULL, 'p'},
    {"keys", required_argument, NULL, 'k'},
    {"value-size", required_argument, NULL, 'v'},
    {"seconds", required_argument, NULL, 's'},
    {"warmup", required_argument, NULL, 'w'},
    {"count", required_argument, NULL, 'n'},
    {"sequential", no_argument, NULL, 'q'},
    {"rate", required_argument, NULL, 'r'},
    {"serializable", no_argument, NULL, 'z'},
    {"spread", no_argument, NULL, 'S'},
    {"prefix", required_argument, NULL, 'P'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (end == text || *end || value < min || value > max) {
        fail("\"%s\" is no number from %" PRIu64 " to %" PRIu64, text, min, max);
    }
    return value;
}

static void set_target(const char *name)
{
    const struct target *targets[] = {
        &target_kvd,
        &target_redis,
#ifdef KVBENCH_ETCD
        &target_etcd,
#endif
    };

    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        if (strcmp(name, targets[i]->name) == 0) {
            bench.options.target = targets[i];
            return;
        }
    }
    fail("unknown target \"%s\" (kvd, redis; etcd when built with nghttp2)", name);
}

static void set_endpoints(char *list)
{
    bench.options.n_endpoints = 0;
    for (char *p = strtok(list, ","); p; p = strtok(NULL, ",")) {
        if (bench.options.n_endpoints == ENDPOINTS_MAX) {
            fail("more than %d endpoints", ENDPOINTS_MAX);
        }
        bench.options.endpoints[bench.options.n_endpoints++] = p;
    }
}

static void set_load(const char *name)
{
    bench.options.load = load_find(name);
    if (!bench.options.load) {
        fail("unknown operation \"%s\": kvbench --help lists them", name);
    }
}

static void check_load(void)
{
    const struct options *o = &bench.options;

    for (size_t i = 0; i < 2; i++) {
        if (!(o->target->operations & 1u << o->load->operations[i])) {
            fail("%s cannot be loaded with \"%s\"", o->target->name, o->load->name);
        }
    }
}

static void set_option(int option, char *text)
{
    struct options *o = &bench.options;

    switch (option) {
    case 't':
        set_target(text);
        break;
    case 'e':
        set_endpoints(text);
        break;
    case 'o':
        set_load(text);
        break;
    case 'c':
        o->connections = (unsigned)number(text, 1, 100000);
        break;
    case 'p':
        o->depth = (unsigned)number(text, 1, 1024);
        break;
    case 'k':
        o->keys = number(text, 1, UINT64_MAX);
        break;
    case 'v':
        o->value_size = (size_t)number(text, 0, 8 << 20);
        break;
    case 's':
        o->seconds = (double)number(text, 1, 86400);
        break;
    case 'w':
        o->warmup = (double)number(text, 0, 3600);
        break;
    case 'n':
        o->count = number(text, 1, UINT64_MAX);
        break;
    case 'q':
        o->sequential = true;
        break;
    case 'r':
        o->rate = (double)number(text, 1, 100000000);
        break;
    case 'z':
        o->serializable = true;
        break;
    case 'S':
        o->spread = true;
        break;
    case 'P':
        o->prefix = text;
        break;
    case 'j':
        o->json = true;
        break;
    case 'h':
        fputs(usage, stdout);
        load_print_help();
        exit(0);
    default:
        fputs(usage, stderr);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    static char default_endpoint[] = "127.0.0.1:4700";
    int option;

    bench.options = (struct options){.target = &target_kvd,
                                     .endpoints = {default_endpoint},
                                     .n_endpoints = 1,
                                     .connections = 64,
                                     .depth = 1,
                                     .load = load_find("put"),
                                     .keys = 100000,
                                     .value_size = 256,
                                     .seconds = 5,
                                     .warmup = 1,
                                     .prefix = "k"};
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        set_option(option, optarg);
    }
    if (optind < argc) {
        fail("unexpected argument \"%s\"", argv[optind]);
    }
    check_load();
    bench.random = UINT64_C(88172645463325252);
    bench.values = malloc(VALUES_BYTES + bench.options.value_size);
    bench.conns = calloc(bench.options.connections, sizeof *bench.conns);
    bench.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!bench.values || !bench.conns || bench.epoll < 0) {
        fail("out of memory");
    }
    for (size_t i = 0; i < VALUES_BYTES + bench.options.value_size; i++) {
        bench.values[i] = (uint8_t)(next_random() >> 24);
    }
    for (unsigned i = 0; i < bench.options.connections; i++) {
        open_conn(i);
    }
    run();
    for (unsigned i = 0; i < bench.options.connections; i++) {
        deinit_conn(&bench.conns[i]);
    }
    free(bench.conns);
    free(bench.values);
    return bench.completed > 0 ? 0 : 1;
}
