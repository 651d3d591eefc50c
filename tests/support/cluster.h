/* A cluster of real nodes (raft/, machine, server/node) in one thread: clock, network, workers and
 * disks are simulated from one seed. For tests of the node's core; time passes only in
 * cluster_run_*(). */
#ifndef KV_TESTS_SUPPORT_CLUSTER_H
#define KV_TESTS_SUPPORT_CLUSTER_H

#include "server/node/node.h"

#include <stdbool.h>
#include <stdint.h>

#define CLUSTER_NODES_MAX 7
#define CLUSTER_ITEMS_MAX 4096

struct cluster;
struct fake_disk;

struct cluster_options {
    uint64_t seed;
    unsigned n_nodes;
    unsigned delay_max_us;       /* of a message, one way; at least 1 */
    unsigned sync_max_us;        /* of a job of a worker */
    unsigned drop_percent;       /* a dropped message resets its connection, as TCP would */
    uint64_t wal_segment_bytes;  /* 0: 1 MiB */
    uint64_t snapshot_log_bytes; /* 0: as in production */
    bool nodes_may_die;          /* a fatal error is the test's wish: cluster_has_died */
};

struct cluster *cluster_new(const struct cluster_options *options);
void cluster_free(struct cluster *cluster);

/* Nodes are numbered from 1. */
void cluster_start(struct cluster *cluster, unsigned node);
/* As cluster_start, for disks that the test has spoiled: a status, and why; the node is down then.
 */
int cluster_try_start(struct cluster *cluster, unsigned node, struct kv_error *ret_error);
/* It ended with a fatal error, and waits for cluster_crash. */
bool cluster_has_died(const struct cluster *cluster, unsigned node);
/* To spoil it; see fake_disk.h. */
struct fake_disk *cluster_disk(struct cluster *cluster, unsigned node);
void cluster_crash(struct cluster *cluster,
                   unsigned node); /* kill -9: unsynced writes may be lost or torn */
void cluster_stop(struct cluster *cluster,
                  unsigned node); /* SIGTERM; gone when cluster_is_up says so */
bool cluster_is_up(const struct cluster *cluster, unsigned node);
/* The node's worker finishes nothing before so much time has passed. */
enum cluster_worker { CLUSTER_LOG, CLUSTER_FILE, CLUSTER_SNAPSHOT };
void cluster_stall(struct cluster *cluster, unsigned node, enum cluster_worker worker, uint64_t ms);
/* Cuts or mends the way from one node to another. */
void cluster_cut(struct cluster *cluster, unsigned from, unsigned to, bool cut);
void cluster_isolate(struct cluster *cluster, unsigned node, bool isolated);
struct kv_node *cluster_node(struct cluster *cluster, unsigned node);

uint64_t cluster_now_ms(const struct cluster *cluster);
uint64_t cluster_random(struct cluster *cluster, uint64_t below);
void cluster_run_ms(struct cluster *cluster, uint64_t ms);
/* Runs until the condition holds; false when it does not within max_ms of simulated time. */
bool cluster_run_until(struct cluster *cluster,
                       bool (*condition)(struct cluster *cluster, void *arg),
                       void *arg,
                       uint64_t max_ms);
/* The node that leads with the highest term, 0: none. Waits for one. */
unsigned cluster_leader(struct cluster *cluster);
unsigned cluster_await_leader(struct cluster *cluster, uint64_t max_ms);

/* A request under way. Its answer is kept here until cluster_request_free. */
struct cluster_request {
    struct kv_op op;
    Kv__Request *request;
    uint8_t *bytes;
    bool done;
    Kv__Reply *reply;                         /* not of streams */
    Kv__StreamItem *items[CLUSTER_ITEMS_MAX]; /* of a stream, the end included */
    size_t n_items;
    bool is_full; /* a subscription's client takes nothing; cluster_make_room() when it does */
    struct kv_listener listener; /* each has a connection of its own */
    uint64_t sent_ms, done_ms;
    unsigned node; /* 0: the node that had it is gone */
    struct cluster *cluster;
    struct cluster_request *next; /* of the same node */
};
/* Sends a copy of the request to a node; deadline 0: 5 s. NULL when the node is down. A node that
 * crashes leaves it undone for ever (done stays false, node becomes 0). */
struct cluster_request *
cluster_submit(struct cluster *cluster, unsigned node, const Kv__Request *request);
/* As its client has packed it. */
struct cluster_request *
cluster_submit_bytes(struct cluster *cluster, unsigned node, struct kv_slice bytes);
struct cluster_request *
cluster_put(struct cluster *cluster, unsigned node, const char *key, const char *value);
struct cluster_request *cluster_get(struct cluster *cluster, unsigned node, const char *key);
/* Its client takes what comes from now on. */
void cluster_make_room(struct cluster_request *request);
void cluster_request_free(struct cluster_request *request);
/* Runs until it is done; its code, or -1 after max_ms. */
int cluster_await(struct cluster *cluster, struct cluster_request *request, uint64_t max_ms);

/* Asserts that all nodes that are up have applied the same and hold the same state, after letting
 * them settle. */
void cluster_check_same(struct cluster *cluster);

#endif
