/* Clock, workers and network of a cluster's nodes, as events of one queue. */
#include "tests/support/cluster_internal.h"

#include "common/assert.h"
#include "tests/support/fake_disk.h"

#include <stdlib.h>
#include <string.h>

uint64_t cluster_random(struct cluster *cluster, uint64_t below)
{
    cluster->random ^= cluster->random >> 12;
    cluster->random ^= cluster->random << 25;
    cluster->random ^= cluster->random >> 27;
    return below ? (cluster->random * UINT64_C(2685821657736338717) >> 33) % below : 0;
}

static bool is_earlier(const struct event *a, const struct event *b)
{
    return a->time_ns != b->time_ns ? a->time_ns < b->time_ns : a->order < b->order;
}

uint64_t cluster_push_event(struct cluster *cluster, struct event event)
{
    size_t i = cluster->n_events;

    event.order = ++cluster->order;
    if (i == cluster->capacity) {
        cluster->capacity = cluster->capacity ? cluster->capacity * 2 : 1024;
        cluster->events = realloc(cluster->events, cluster->capacity * sizeof event);
        KV_ASSERT(cluster->events);
    }
    cluster->n_events++;
    while (i > 0 && is_earlier(&event, &cluster->events[(i - 1) / 2])) {
        cluster->events[i] = cluster->events[(i - 1) / 2];
        i = (i - 1) / 2;
    }
    cluster->events[i] = event;
    return event.order;
}

struct event cluster_pop_event(struct cluster *cluster)
{
    struct event first = cluster->events[0];
    struct event last = cluster->events[--cluster->n_events];
    size_t i = 0;

    while (2 * i + 1 < cluster->n_events) {
        size_t child = 2 * i + 1;

        if (child + 1 < cluster->n_events &&
            is_earlier(&cluster->events[child + 1], &cluster->events[child])) {
            child++;
        }
        if (!is_earlier(&cluster->events[child], &last)) {
            break;
        }
        cluster->events[i] = cluster->events[child];
        i = child;
    }
    cluster->events[i] = last;
    return first;
}

/* ---------------------------------------------------------------- env: clock, workers, network */

static uint64_t clock_now(void *arg)
{
    return ((struct sim_node *)arg)->cluster->now_ns;
}

static void clock_set_timer(void *arg, uint64_t deadline_ms)
{
    struct sim_node *node = arg;
    struct cluster *cluster = node->cluster;
    struct event event = {.kind = EVENT_TIMER, .node = node->id, .incarnation = node->incarnation};

    node->timer_order = 0;
    if (deadline_ms != UINT64_MAX) {
        event.time_ns = deadline_ms * 1000000 > cluster->now_ns ? deadline_ms * 1000000
                                                                : cluster->now_ns + 1000;
        node->timer_order = cluster_push_event(cluster, event);
    }
}

static uint64_t clock_random(void *arg)
{
    return cluster_random(((struct sim_node *)arg)->cluster, UINT64_C(1) << 30);
}

static const struct kv_clock_ops clock_ops = {clock_now, clock_set_timer, clock_random};

static void worker_submit(void *arg, struct kv_job *job)
{
    struct sim_worker *worker = arg;
    struct cluster *cluster = worker->node->cluster;
    uint64_t begin = worker->free_ns > cluster->now_ns ? worker->free_ns : cluster->now_ns;

    worker->free_ns = begin + 1000 * (1 + cluster_random(cluster, cluster->options.sync_max_us));
    cluster_push_event(cluster,
                       (struct event){.time_ns = worker->free_ns,
                                      .kind = EVENT_JOB,
                                      .node = worker->node->id,
                                      .incarnation = worker->node->incarnation,
                                      .job = job});
}

static const struct kv_worker_ops worker_ops = {worker_submit};

static int net_start(void *arg, const struct kv_net_handler *handler)
{
    ((struct sim_node *)arg)->handler = *handler;
    return 0;
}

uint64_t cluster_random_delay_ns(struct cluster *cluster)
{
    return 1000 * (1 + cluster_random(cluster, cluster->options.delay_max_us));
}

void cluster_try_connect(struct cluster *cluster, unsigned from, unsigned to)
{
    cluster_push_event(
        cluster,
        (struct event){.time_ns = cluster->now_ns + cluster_random_delay_ns(cluster) * 3,
                       .kind = EVENT_CONNECT,
                       .node = from,
                       .peer = to,
                       .incarnation = cluster->nodes[from].incarnation});
}

static int net_add_peer(void *arg, uint64_t peer_id, const char *address)
{
    struct sim_node *node = arg;

    (void)address;
    cluster_try_connect(node->cluster, node->id, (unsigned)peer_id);
    return 0;
}

static void net_remove_peer(void *arg, uint64_t peer_id)
{
    (void)arg;
    (void)peer_id;
}

void cluster_lose_link(struct cluster *cluster, unsigned from, unsigned to)
{
    if (cluster->links[from][to] == 0) {
        return;
    }
    cluster->links[from][to] = 0;
    cluster_push_event(cluster,
                       (struct event){.time_ns = cluster->now_ns + cluster_random_delay_ns(cluster),
                                      .kind = EVENT_DISCONNECT,
                                      .node = from,
                                      .peer = to,
                                      .incarnation = cluster->nodes[from].incarnation});
}

static int net_send(void *arg,
                    uint64_t peer_id,
                    enum kv_net_class cls,
                    struct kv_slice head,
                    const struct kv_slice *bulk,
                    size_t n_bulk)
{
    struct sim_node *node = arg;
    struct cluster *cluster = node->cluster;
    unsigned to = (unsigned)peer_id;
    struct event event = {
        .kind = EVENT_MESSAGE,
        .node = to,
        .peer = node->id,
        .incarnation = cluster->nodes[to].incarnation,
        .link = cluster->links[node->id][to],
        .size = head.size,
    };

    (void)cls;
    if (event.link == 0) {
        return KV_CLOSED;
    }
    if (cluster_random(cluster, 1000) < cluster->options.drop_percent * 10) {
        cluster_lose_link(cluster, node->id, to);
        return 0;
    }
    for (size_t i = 0; i < n_bulk; i++) {
        event.size += bulk[i].size;
    }
    event.data = malloc(event.size + 1);
    KV_ASSERT(event.data);
    memcpy(event.data, head.data, head.size);
    for (size_t i = 0, offset = head.size; i < n_bulk; i++) {
        if (bulk[i].size > 0) {
            memcpy(event.data + offset, bulk[i].data, bulk[i].size);
        }
        offset += bulk[i].size;
    }
    event.time_ns = cluster->now_ns + cluster_random_delay_ns(cluster);
    if (event.time_ns < cluster->last_delivery_ns[node->id][to]) {
        event.time_ns = cluster->last_delivery_ns[node->id][to];
    }
    cluster->last_delivery_ns[node->id][to] = event.time_ns;
    cluster_push_event(cluster, event);
    return 0;
}

static const struct kv_net_ops net_ops = {net_start, net_add_peer, net_remove_peer, net_send};

struct kv_env cluster_env_of(struct sim_node *node)
{
    return (struct kv_env){
        .disk = *fake_disk_ops(node->disk),
        .log_worker = {&worker_ops, &node->workers[0]},
        .file_worker = {&worker_ops, &node->workers[1]},
        .snapshot_worker = {&worker_ops, &node->workers[2]},
        .net = {&net_ops, node},
        .clock = {&clock_ops, node},
    };
}
