/* Life of the nodes of a cluster, and its time. */
#include "tests/support/cluster_internal.h"

#include "common/assert.h"
#include "tests/support/fake_disk.h"

#include <stdio.h>
#include <stdlib.h>

/* ---------------------------------------------------------------- life of nodes */

struct cluster *cluster_new(const struct cluster_options *options)
{
    struct cluster *cluster = calloc(1, sizeof *cluster);

    KV_ASSERT(cluster && options->n_nodes >= 1 && options->n_nodes <= CLUSTER_NODES_MAX);
    cluster->options = *options;
    cluster->now_ns = UINT64_C(1000000000000);
    cluster->random = options->seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    for (unsigned i = 1; i <= options->n_nodes; i++) {
        struct sim_node *node = &cluster->nodes[i];

        node->cluster = cluster;
        node->id = i;
        node->disk = fake_disk_new(options->seed * 16 + i);
        snprintf(cluster->addresses[i - 1], sizeof cluster->addresses[0], "node%u:4701", i);
        cluster->members[i - 1] = (struct kv_node_member){i, cluster->addresses[i - 1]};
    }
    return cluster;
}

static void end_node(struct cluster *cluster, struct sim_node *node)
{
    node->up = false;
    node->node = NULL;
    node->incarnation++;
    while (node->requests) {
        node->requests->node = 0;
        node->requests = node->requests->next;
    }
    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        cluster->links[node->id][i] = 0;
        cluster_lose_link(cluster, i, node->id);
    }
}

int cluster_try_start(struct cluster *cluster, unsigned id, struct kv_error *ret_error)
{
    struct sim_node *node = &cluster->nodes[id];
    struct kv_env env = cluster_env_of(node);
    struct kv_node_options options = {
        .cluster_id = 77,
        .node_id = id,
        .members = cluster->members,
        .n_members = cluster->options.n_nodes,
        .client_address = cluster->addresses[id - 1],
        .version = "test",
        .wal_segment_bytes =
            cluster->options.wal_segment_bytes ? cluster->options.wal_segment_bytes : KV_MIB,
        .snapshot_log_bytes = cluster->options.snapshot_log_bytes,
        .ops = &cluster_node_ops,
        .arg = node,
    };

    int status;

    KV_ASSERT(!node->up);
    node->up = true;
    node->stopped = node->died = false;
    node->incarnation++;
    node->workers[0] = node->workers[1] = node->workers[2] = (struct sim_worker){node, 0};
    status = kv_node_open(&options, &env, &node->node, ret_error);
    if (status != 0) {
        end_node(cluster, node);
        fake_disk_crash(node->disk);
        return status;
    }
    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        if (i != id && cluster->nodes[i].up) {
            cluster_try_connect(cluster, i, id);
        }
    }
    kv_node_turn(node->node);
    return 0;
}

void cluster_start(struct cluster *cluster, unsigned id)
{
    struct kv_error error = {0};

    if (cluster_try_start(cluster, id, &error) != 0) {
        fprintf(stderr, "node %u does not start: %s\n", id, error.message);
        KV_ASSERT(!"a node does not start");
    }
}

bool cluster_has_died(const struct cluster *cluster, unsigned id)
{
    return cluster->nodes[id].died;
}

struct fake_disk *cluster_disk(struct cluster *cluster, unsigned id)
{
    return cluster->nodes[id].disk;
}

void cluster_crash(struct cluster *cluster, unsigned id)
{
    struct sim_node *node = &cluster->nodes[id];

    KV_ASSERT(node->up);
    /* What closing answers is not heard by anybody. */
    for (int state = KV_OP_QUEUED; state < KV_OP_STATES; state++) {
        struct kv_op *op = node->node->lists[state].first;

        while (op) {
            struct kv_op *next = op->next;

            if (!op->remote) {
                kv_node_release(node->node, op);
            }
            op = next;
        }
    }
    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        cluster->links[id][i] = 0;
    }
    node->incarnation++; /* no job or message of the closing reaches anything */
    fake_disk_cut_at(node->disk, 1);
    kv_node_close(node->node);
    end_node(cluster, node);
    fake_disk_crash(node->disk);
}

void cluster_stop(struct cluster *cluster, unsigned id)
{
    kv_node_stop(cluster->nodes[id].node);
    kv_node_turn(cluster->nodes[id].node);
}

bool cluster_is_up(const struct cluster *cluster, unsigned id)
{
    return cluster->nodes[id].up;
}

void cluster_stall(struct cluster *cluster, unsigned id, enum cluster_worker worker, uint64_t ms)
{
    cluster->nodes[id].workers[worker].free_ns = cluster->now_ns + ms * 1000000;
}

void cluster_cut(struct cluster *cluster, unsigned from, unsigned to, bool cut)
{
    cluster->cut[from][to] = cut;
}

void cluster_isolate(struct cluster *cluster, unsigned id, bool isolated)
{
    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        if (i != id) {
            cluster_cut(cluster, i, id, isolated);
            cluster_cut(cluster, id, i, isolated);
        }
    }
}

struct kv_node *cluster_node(struct cluster *cluster, unsigned id)
{
    return cluster->nodes[id].node;
}

void cluster_free(struct cluster *cluster)
{
    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        if (cluster->nodes[i].up) {
            cluster_crash(cluster, i);
        }
        fake_disk_free(cluster->nodes[i].disk);
    }
    for (size_t i = 0; i < cluster->n_events; i++) {
        free(cluster->events[i].data);
    }
    free(cluster->events);
    free(cluster);
}

/* ---------------------------------------------------------------- time */

static void on_connect_event(struct cluster *cluster, const struct event *event)
{
    struct sim_node *to = &cluster->nodes[event->peer];
    struct sim_node *from = &cluster->nodes[event->node];

    if (cluster->links[event->node][event->peer] != 0) {
        return;
    }
    if (!to->up || cluster->cut[event->node][event->peer] ||
        cluster->cut[event->peer][event->node]) {
        struct event again = *event;

        again.time_ns = cluster->now_ns + 20000000 + cluster_random_delay_ns(cluster);
        cluster_push_event(cluster, again);
        return;
    }
    cluster->links[event->node][event->peer] = ++cluster->next_link;
    from->handler.peer_info(from->handler.arg, event->peer, cluster->addresses[event->peer - 1], 1);
    from->handler.connected(from->handler.arg, event->peer);
}

/* True when the node had something to do. */
static bool handle_event(struct cluster *cluster, struct event *event)
{
    struct sim_node *node = &cluster->nodes[event->node];

    if (!node->up || event->incarnation != node->incarnation) {
        return false;
    }
    switch (event->kind) {
    case EVENT_MESSAGE:
        /* A cut way is silent: the connection stays, nothing arrives. */
        if (cluster->cut[event->peer][event->node]) {
            cluster_lose_link(cluster, event->peer, event->node);
            return false;
        }
        if (event->link != cluster->links[event->peer][event->node]) {
            return false;
        }
        node->handler.receive(node->handler.arg, event->peer, event->data, event->size);
        return true;
    case EVENT_JOB:
        event->job->run(event->job);
        event->job->done(event->job);
        return true;
    case EVENT_TIMER:
        if (event->order != node->timer_order) {
            return false;
        }
        kv_node_on_timer(node->node);
        return true;
    case EVENT_CONNECT:
        on_connect_event(cluster, event);
        return true;
    case EVENT_DISCONNECT:
        /* A connection made meanwhile goes, too: the node knows only one. */
        cluster->links[event->node][event->peer] = 0;
        node->handler.disconnected(node->handler.arg, event->peer, !cluster->nodes[event->peer].up);
        cluster_try_connect(cluster, event->node, event->peer);
        return true;
    }
    return false;
}

static void step(struct cluster *cluster)
{
    struct event event = cluster_pop_event(cluster);
    struct sim_node *node = &cluster->nodes[event.node];

    KV_ASSERT(event.time_ns >= cluster->now_ns);
    cluster->now_ns = event.time_ns;
    if (handle_event(cluster, &event) && node->up) {
        kv_node_turn(node->node);
    }
    free(event.data);
    if (node->up && node->stopped) {
        kv_node_close(node->node);
        end_node(cluster, node);
    }
}

uint64_t cluster_now_ms(const struct cluster *cluster)
{
    return cluster->now_ns / 1000000;
}

bool cluster_run_until(struct cluster *cluster,
                       bool (*condition)(struct cluster *cluster, void *arg),
                       void *arg,
                       uint64_t max_ms)
{
    uint64_t end_ns = cluster->now_ns + max_ms * 1000000;

    while (!condition || !condition(cluster, arg)) {
        if (cluster->n_events == 0 || cluster->events[0].time_ns > end_ns) {
            cluster->now_ns = end_ns;
            return false;
        }
        step(cluster);
    }
    return true;
}

void cluster_run_ms(struct cluster *cluster, uint64_t ms)
{
    (void)cluster_run_until(cluster, NULL, NULL, ms);
}

unsigned cluster_leader(struct cluster *cluster)
{
    unsigned leader = 0;
    uint64_t term = 0;

    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        struct kv_replica_status status;

        if (!cluster->nodes[i].up) {
            continue;
        }
        kv_replica_status(cluster->nodes[i].node->replica, &status);
        if (status.role == KV_ROLE_LEADER && status.term > term) {
            leader = i;
            term = status.term;
        }
    }
    return leader;
}

static bool has_leader(struct cluster *cluster, void *arg)
{
    (void)arg;
    return cluster_leader(cluster) != 0;
}

unsigned cluster_await_leader(struct cluster *cluster, uint64_t max_ms)
{
    (void)cluster_run_until(cluster, has_leader, NULL, max_ms);
    return cluster_leader(cluster);
}

/* ---------------------------------------------------------------- the same state */

static bool all_applied_the_same(struct cluster *cluster, void *arg)
{
    uint64_t applied = 0;

    (void)arg;
    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        struct kv_replica_status status;

        if (!cluster->nodes[i].up) {
            continue;
        }
        kv_replica_status(cluster->nodes[i].node->replica, &status);
        if (status.applied_index != status.commit_index ||
            (applied && applied != status.applied_index)) {
            return false;
        }
        applied = status.applied_index;
    }
    return applied > 0;
}

void cluster_check_same(struct cluster *cluster)
{
    const struct kv_machine *first = NULL;

    KV_ASSERT(cluster_run_until(cluster, all_applied_the_same, NULL, 20000));
    for (unsigned i = 1; i <= cluster->options.n_nodes; i++) {
        const struct kv_machine *machine;

        if (!cluster->nodes[i].up) {
            continue;
        }
        machine = cluster->nodes[i].node->machine;
        if (first) {
            KV_ASSERT(kv_machine_revision(machine) == kv_machine_revision(first));
            KV_ASSERT(kv_machine_state_hash(machine) == kv_machine_state_hash(first));
        }
        first = first ? first : machine;
    }
}
