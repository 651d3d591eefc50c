#include "client/kvbench/options.h"
#include "client/kvbench/load.h"
#include "client/kvbench/support.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "Usage: kvbench [OPTION]...\n"
    "Loads a server and prints rate and latency.\n\n"
    "  --target kvd|etcd|redis  what speaks at the endpoints (kvd)\n"
    "  --endpoints LIST         host:port,... (127.0.0.1:4700)\n"
    "  --op NAME                operation, see below (put)\n"
    "  --connections N          connections (64)\n"
    "  --pipeline N             operations under way on each (1)\n"
    "  --keys N                 different keys, or leases (100000)\n"
    "  --value-size BYTES       size of values (256)\n"
    "  --seconds S              how long to measure (5)\n"
    "  --warmup S               load before measuring (1)\n"
    "  --count N                a number of operations instead of a time\n"
    "  --sequential             keys in order, each once: to fill\n"
    "  --rate N                 open loop: N operations a second\n"
    "  --serializable           reads from one node's state\n"
    "  --spread                 use all endpoints, not only the leader\n"
    "  --prefix TEXT            of the keys (k)\n"
    "  --session                each connection has a session: writes are done exactly once\n"
    "  --ttl-ms N               life of a put's key or of a lease\n"
    "  --expire-in S            puts: all keys end within the same second, S seconds after the "
    "start\n"
    "  --batch N                leases renewed by one operation (1)\n"
    "  --watchers N             of the streams, over all connections (1000)\n"
    "  --from REVISION          where watch-catch-up begins (1)\n"
    "  --json                   print JSON\n"
    "Example: kvbench --op get --connections 64 --seconds 10\n"
    "Example: kvbench --op watch --watchers 1000 --rate 100 --value-size 32\n";

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
    {"session", no_argument, NULL, 'O'},
    {"ttl-ms", required_argument, NULL, 'T'},
    {"expire-in", required_argument, NULL, 'E'},
    {"batch", required_argument, NULL, 'b'},
    {"watchers", required_argument, NULL, 'W'},
    {"from", required_argument, NULL, 'f'},
    {"json", no_argument, NULL, 'j'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    char *end;
    uint64_t value = strtoull(text, &end, 10);

    if (end == text || *end || value < min || value > max) {
        bench_fail("\"%s\" is no number from %" PRIu64 " to %" PRIu64, text, min, max);
    }
    return value;
}

static void set_target(struct options *options, const char *name)
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
            options->target = targets[i];
            return;
        }
    }
    bench_fail("unknown target \"%s\" (kvd, redis; etcd when built with nghttp2)", name);
}

static void set_endpoints(struct options *options, char *list)
{
    options->n_endpoints = 0;
    for (char *p = strtok(list, ","); p; p = strtok(NULL, ",")) {
        if (options->n_endpoints == ENDPOINTS_MAX) {
            bench_fail("more than %d endpoints", ENDPOINTS_MAX);
        }
        options->endpoints[options->n_endpoints++] = p;
    }
}

static void set_load(struct options *options, const char *name)
{
    options->load = load_find(name);
    if (!options->load) {
        bench_fail("unknown operation \"%s\": kvbench --help lists them", name);
    }
}

static void check_load(const struct options *o)
{
    for (size_t i = 0; i < 2; i++) {
        if (!(o->target->operations & 1u << o->load->operations[i])) {
            bench_fail("%s cannot be loaded with \"%s\"", o->target->name, o->load->name);
        }
    }
    if (o->load->run && !o->target->watch) {
        bench_fail("%s has no streams for \"%s\"", o->target->name, o->load->name);
    }
    if (o->session && !o->target->has_sessions) {
        bench_fail("%s has no sessions", o->target->name);
    }
}

static bool set_amount(struct options *o, int option, const char *text)
{
    switch (option) {
    case 'c':
        o->connections = (unsigned)number(text, 1, 100000);
        return true;
    case 'p':
        o->depth = (unsigned)number(text, 1, BENCH_DEPTH_MAX);
        return true;
    case 'k':
        o->keys = number(text, 1, INT64_MAX);
        return true;
    case 'v':
        o->value_size = (size_t)number(text, 0, 8 << 20);
        return true;
    case 's':
        o->seconds = (double)number(text, 1, 86400);
        return true;
    case 'w':
        o->warmup = (double)number(text, 0, 3600);
        return true;
    case 'n':
        o->count = number(text, 1, UINT64_MAX);
        return true;
    case 'r':
        o->rate = (double)number(text, 1, 100000000);
        return true;
    case 'T':
        o->ttl_ms = number(text, 1, UINT32_MAX);
        return true;
    case 'E':
        o->expire_in_ms = number(text, 1, 86400) * 1000;
        return true;
    case 'b':
        o->batch = (unsigned)number(text, 1, 4096);
        return true;
    case 'W':
        o->watchers = (unsigned)number(text, 1, 10000000);
        return true;
    case 'f':
        o->from_revision = (int64_t)number(text, 1, INT64_MAX);
        return true;
    default:
        return false;
    }
}

static void set_option(struct options *o, int option, char *text)
{
    switch (option) {
    case 't':
        set_target(o, text);
        break;
    case 'e':
        set_endpoints(o, text);
        break;
    case 'o':
        set_load(o, text);
        break;
    case 'q':
        o->sequential = true;
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
    case 'O':
        o->session = true;
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

void options_parse(struct options *options, int argc, char **argv)
{
    static char default_endpoint[] = "127.0.0.1:4700";
    int option;

    *options = (struct options){.target = &target_kvd,
                                .endpoints = {default_endpoint},
                                .n_endpoints = 1,
                                .connections = 64,
                                .depth = 1,
                                .load = load_find("put"),
                                .keys = 100000,
                                .value_size = 256,
                                .seconds = 5,
                                .warmup = 1,
                                .watchers = 1000,
                                .batch = 1,
                                .from_revision = 1,
                                .prefix = "k"};
    while ((option = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
        if (!set_amount(options, option, optarg)) {
            set_option(options, option, optarg);
        }
    }
    if (optind < argc) {
        bench_fail("unexpected argument \"%s\"", argv[optind]);
    }
    check_load(options);
}
