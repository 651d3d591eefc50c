/* What the files of the cluster share. */
#ifndef KV_TESTS_SUPPORT_CLUSTER_INTERNAL_H
#define KV_TESTS_SUPPORT_CLUSTER_INTERNAL_H

#include "server/node/node_internal.h"
#include "tests/support/cluster.h"

enum event_kind { EVENT_MESSAGE, EVENT_JOB, EVENT_TIMER, EVENT_CONNECT, EVENT_DISCONNECT };

struct event {
    uint64_t time_ns;
    uint64_t order;
    enum event_kind kind;
    unsigned node;        /* where it happens */
    unsigned peer;        /* message: sender; connect: the other */
    uint64_t incarnation; /* of the node; void after a crash */
    uint64_t link;        /* connect: epoch of the connection */
    struct kv_job *job;
    uint8_t *data;
    size_t size;
};

struct sim_node;

struct sim_worker {
    struct sim_node *node;
    uint64_t free_ns; /* when its last job ends: one at a time */
};

struct sim_node {
    struct cluster *cluster;
    unsigned id;
    bool up;
    bool stopped;
    bool died;
    uint64_t incarnation;
    struct fake_disk *disk;
    struct kv_node *node;
    struct kv_net_handler handler;
    struct sim_worker workers[3];
    uint64_t timer_order; /* the valid timer event */
    struct cluster_request *requests;
};

struct cluster {
    struct cluster_options options;
    uint64_t now_ns;
    uint64_t order;
    uint64_t random;
    struct event *events; /* binary heap */
    size_t n_events;
    size_t capacity;
    struct sim_node nodes[CLUSTER_NODES_MAX + 1];
    bool cut[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1];
    /* Epoch of the connection from -> to; 0: down. Messages of an older epoch are lost. */
    uint64_t links[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1];
    uint64_t next_link;
    uint64_t last_delivery_ns[CLUSTER_NODES_MAX + 1][CLUSTER_NODES_MAX + 1];
    struct kv_node_member members[CLUSTER_NODES_MAX];
    char addresses[CLUSTER_NODES_MAX][32];
};

/* --- cluster_env.c: the queue of events, and the env of a node --- */
uint64_t cluster_push_event(struct cluster *cluster, struct event event); /* its order */
struct event cluster_pop_event(struct cluster *cluster);
uint64_t cluster_random_delay_ns(struct cluster *cluster);
void cluster_try_connect(struct cluster *cluster, unsigned from, unsigned to);
void cluster_lose_link(struct cluster *cluster, unsigned from, unsigned to);
struct kv_env cluster_env_of(struct sim_node *node);

/* --- cluster_requests.c: how a node's answers come back --- */
extern const struct kv_node_ops cluster_node_ops; /* arg: the node */

#endif
