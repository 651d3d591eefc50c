/* What the command line says. */
#ifndef KVBENCH_OPTIONS_H
#define KVBENCH_OPTIONS_H

#include "client/kvbench/target.h"

enum { ENDPOINTS_MAX = 16 };

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
    uint64_t count; /* instead of seconds; 0: none */
    double warmup;
    double rate; /* 0: closed loop */
    unsigned watchers;
    unsigned batch;
    uint64_t ttl_ms;       /* of keys and leases; 0: none */
    uint64_t expire_in_ms; /* all keys in one second, so long after the start; 0: none */
    int64_t from_revision;
    bool serializable;
    bool spread;
    bool sequential;
    bool session;
    bool json;
    const char *prefix;
};

/* Exits when they are wrong, or only ask for help. */
void options_parse(struct options *options, int argc, char **argv);

#endif
