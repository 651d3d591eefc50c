/* Many streams over some connections, and the two loads that only watch. */
#ifndef KVBENCH_WATCHERS_H
#define KVBENCH_WATCHERS_H

#include "client/kvbench/conn.h"

struct watchers {
    struct bench_conn *conns;
    unsigned n_conns;
    int epoll;
    unsigned n;
    unsigned watching; /* have begun */
    unsigned *asked;   /* per connection */
    unsigned *begun;
    struct watch_hooks hooks;
    void *owner; /* of on_event */
};

/* Fills *watch for the i-th of all; memory: for its key. */
typedef void (*watchers_fill_fn)(const struct options *options,
                                 unsigned i,
                                 struct bench_watch *watch,
                                 char memory[64]);

/* Opens options->watchers streams over at most options->connections connections, the i-th on the
 * (i modulo connections)-th, and waits until all have begun. on_event finds *watchers in
 * conn->owner. */
void watchers_open(struct watchers *watchers,
                   const struct options *options,
                   watchers_fill_fn fill,
                   void (*on_event)(struct bench_conn *conn,
                                    unsigned number,
                                    struct kv_slice value),
                   void *owner);
void watchers_close(struct watchers *watchers);
/* Takes what is there, or waits for something. */
void watchers_serve(struct watchers *watchers, int timeout_ms);

/* watch-idle, watch-catch-up. */
int watchers_run_idle(const struct options *options);
int watchers_run_catch_up(const struct options *options);

#endif
