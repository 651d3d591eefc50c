/* The loads that kvbench knows: which operations each is made of, and on which keys they go. */
#ifndef KVBENCH_LOAD_H
#define KVBENCH_LOAD_H

#include "client/kvbench/target.h"

struct options;

struct load {
    const char *name;
    const char *help;
    enum operation operations[2]; /* by turns */
    bool at_random;               /* not by turns, but as a coin falls */
    /* Of a load of streams: does all, returns the exit code. NULL: rates_run. */
    int (*run)(const struct options *options);
};

/* NULL: no load of that name. */
const struct load *load_find(const char *name);
/* Appends a line for each to the help. */
void load_print_help(void);

/* Memory of a request's key and element. */
struct load_names {
    char key[64];
    char element[32];
};
/* Key and element of the number-th of the things that the operation goes on; they lie in *names.
 * prefix: of the keys. */
void load_name(struct bench_request *request,
               uint64_t number,
               const char *prefix,
               struct load_names *names);

#endif
