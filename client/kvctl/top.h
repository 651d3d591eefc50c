/* kvctl top inside: what is sampled (top_sample.c), which prefixes are busy (top_busy.c), how it is
 * shown (top_screen.c), and the loop around it (top.c). */
#ifndef KV_KVCTL_TOP_H
#define KV_KVCTL_TOP_H

#include "client/kvctl/stream.h"

#include <kv/watch.h>

enum {
    KVCTL_TOP_NODES_MAX = 16,     /* as many endpoints as a client takes */
    KVCTL_TOP_PREFIXES_MAX = 512, /* counted at a time; the rest is one sum */
    KVCTL_TOP_PREFIX_BYTES = 48,
};

/* --- top_sample.c --- */
/* The sum of what a node's latencies were between two looks. */
struct kvctl_top_latency {
    uint64_t count;
    uint64_t median_us; /* bound of the class that it is in; UINT64_MAX: beyond the last */
    uint64_t p99_us;
};
struct kvctl_top_node {
    char address[280];
    struct kv_client *client;
    bool answers;
    char error[160];
    struct kv_node_info info; /* of this look, owned */
    struct kv_node_info before;
    double requests_per_s; /* -1: not known yet */
    struct kvctl_top_latency latency;
};
struct kvctl_top_sample {
    struct kvctl_top_node nodes[KVCTL_TOP_NODES_MAX];
    size_t n_nodes;
    int64_t at_ms;
    double changes_per_s; /* revisions; -1: not known yet */
    double entries_per_s; /* of the log */
};
/* The members that the cluster names, or the endpoints when it does not. */
int kvctl_top_open(struct kvctl *kvctl, struct kvctl_top_sample *sample);
void kvctl_top_close(struct kvctl_top_sample *sample);
/* Asks each node; what does not answer soon is shown so. */
void kvctl_top_look(struct kvctl_top_sample *sample);
/* The newest node's: the one with the greatest revision; NULL: none answers. */
const struct kv_node_info *kvctl_top_newest(const struct kvctl_top_sample *sample);

/* --- top_busy.c --- */
struct kvctl_top_prefix {
    char text[KVCTL_TOP_PREFIX_BYTES]; /* escaped, cut */
    uint64_t hash;
    uint64_t changes;
};
/* Changes of keys since the last look, by the part of the key up to its first separator. */
struct kvctl_top_busy {
    struct kv_watch *watch; /* NULL: there is none */
    struct kvctl_top_prefix prefixes[KVCTL_TOP_PREFIXES_MAX];
    size_t n_prefixes;
    uint64_t others; /* changes of those that had no place */
    uint64_t total;
    char error[160]; /* why nothing is counted; "" otherwise */
};
void kvctl_top_busy_open(struct kvctl *kvctl, struct kvctl_top_busy *busy);
void kvctl_top_busy_close(struct kvctl_top_busy *busy);
/* Takes what comes until then. */
void kvctl_top_busy_count(struct kvctl_top_busy *busy, int64_t until_ms);
/* Busiest first. */
void kvctl_top_busy_sort(struct kvctl_top_busy *busy);
void kvctl_top_busy_clear(struct kvctl_top_busy *busy);
void kvctl_top_busy_add(struct kvctl_top_busy *busy, struct kv_bytes key);

/* --- top_screen.c --- */
/* The other screen, no cursor, no echo; nothing when it is no terminal. */
bool kvctl_top_screen_begin(FILE *out);
void kvctl_top_screen_end(FILE *out);
/* q was typed. */
bool kvctl_top_screen_quit(void);
/* A whole screen, cut to the size of the terminal. */
void kvctl_top_show_screen(FILE *out,
                           const struct kvctl_top_sample *sample,
                           const struct kvctl_top_busy *busy,
                           double seconds);
/* A line for each node, and one for the busiest prefixes. */
void kvctl_top_show_lines(FILE *out,
                          const struct kvctl_top_sample *sample,
                          const struct kvctl_top_busy *busy,
                          double seconds);
void kvctl_top_show_json(FILE *out,
                         const struct kvctl_top_sample *sample,
                         const struct kvctl_top_busy *busy,
                         double seconds);

#endif
