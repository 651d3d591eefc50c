#include "tests/support/cluster.h"

#include "common/assert.h"
#include "server/node/node_internal.h"
#include "tests/support/fake_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

static uint64_t push_event(struct cluster *cluster, struct event event)
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

static struct event pop_event(struct cluster *cluster)
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
        node->timer_order = push_event(cluster, event);
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
    push_event(cluster,
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

static uint64_t random_delay_ns(struct cluster *cluster)
{
    return 1000 * (1 + cluster_random(cluster, cluster->options.delay_max_us));
}

static void try_connect(struct cluster *cluster, unsigned from, unsigned to)
{
    push_event(cluster,
               (struct event){.time_ns = cluster->now_ns + random_delay_ns(cluster) * 3,
                              .kind = EVENT_CONNECT,
                              .node = from,
                              .peer = to,
                              .incarnation = cluster->nodes[from].incarnation});
}

static int net_add_peer(void *arg, uint64_t peer_id, const char *address)
{
    struct sim_node *node = arg;

    (void)address;
    try_connect(node->cluster, node->id, (unsigned)peer_id);
    return 0;
}

static void net_remove_peer(void *arg, uint64_t peer_id)
{
    (void)arg;
    (void)peer_id;
}

static void lose_link(struct cluster *cluster, unsigned from, unsigned to)
{
    if (cluster->links[from][to] == 0) {
        return;
    }
    cluster->links[from][to] = 0;
    push_event(cluster,
               (struct event){.time_ns = cluster->now_ns + random_delay_ns(cluster),
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
        lose_link(cluster, node->id, to);
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
    event.time_ns = cluster->now_ns + random_delay_ns(cluster);
    if (event.time_ns < cluster->last_delivery_ns[node->id][to]) {
        event.time_ns = cluster->last_delivery_ns[node->id][to];
    }
    cluster->last_delivery_ns[node->id][to] = event.time_ns;
    push_event(cluster, event);
    return 0;
}

static const struct kv_net_ops net_ops = {net_start, net_add_peer, net_remove_peer, net_send};

/* ---------------------------------------------------------------- node callbacks */

static void on_reply(void *arg, struct kv_op *op, const Kv__Reply *reply)
{
    struct cluster_request *request = (struct cluster_request *)op;
    struct sim_node *node = arg;
    size_t size = kv__reply__get_packed_size(reply);
    uint8_t *packed = malloc(size + 1);

    KV_ASSERT(packed && !request->done);
    kv__reply__pack(reply, packed);
    request->reply = kv__reply__unpack(NULL, size, packed);
    request->done = true;
    request->done_ms = cluster_now_ms(node->cluster);
    free(packed);
}

static void on_reply_packed(void *arg, struct kv_op *op, struct kv_slice reply)
{
    struct cluster_request *request = (struct cluster_request *)op;
    struct sim_node *node = arg;

    KV_ASSERT(!request->done);
    request->reply = kv__reply__unpack(NULL, reply.size, reply.data);
    KV_ASSERT(request->reply);
    request->done = true;
    request->done_ms = cluster_now_ms(node->cluster);
}

static size_t on_stream_item(void *arg, struct kv_op *op, const Kv__StreamItem *item)
{
    struct cluster_request *request = (struct cluster_request *)op;
    struct sim_node *node = arg;
    size_t size = kv__stream_item__get_packed_size(item);
    uint8_t *packed = malloc(size + 1);

    KV_ASSERT(packed && !request->done && request->n_items < CLUSTER_ITEMS_MAX);
    kv__stream_item__pack(item, packed);
    request->items[request->n_items++] = kv__stream_item__unpack(NULL, size, packed);
    request->done = item->end;
    request->done_ms = cluster_now_ms(node->cluster);
    free(packed);
    return size;
}

/* As it is on the wire, with the id in front. */
static size_t on_stream_shared(void *arg, struct kv_op *op, struct kv_shared *shared)
{
    struct cluster_request *request = (struct cluster_request *)op;
    Kv__StreamItem *item = kv__stream_item__unpack(NULL, shared->size, shared->data);

    (void)arg;
    KV_ASSERT(item && !request->done && request->n_items < CLUSTER_ITEMS_MAX);
    KV_ASSERT(!item->end && item->id == 0);
    item->id = op->request->id;
    request->items[request->n_items++] = item;
    return shared->size;
}

static bool stream_has_room(void *arg, struct kv_op *op)
{
    (void)arg;
    return !((struct cluster_request *)op)->is_full;
}

static void on_fatal(void *arg, int exit_code, const struct kv_error *error)
{
    struct sim_node *node = arg;

    node->died = true;
    if (!node->cluster->options.nodes_may_die) {
        fprintf(stderr, "node %u ends with code %d: %s\n", node->id, exit_code, error->message);
        KV_ASSERT(!"a node died");
    }
}

static void on_stopped(void *arg)
{
    ((struct sim_node *)arg)->stopped = true;
}

static void on_changed(void *arg)
{
    (void)arg;
}

static const struct kv_node_ops node_ops = {

    .reply = on_reply,
    .reply_packed = on_reply_packed,
    .stream_item = on_stream_item,
    .stream_shared = on_stream_shared,
    .stream_has_room = stream_has_room,
    .fatal = on_fatal,
    .stopped = on_stopped,
    .changed = on_changed};

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
        lose_link(cluster, i, node->id);
    }
}

int cluster_try_start(struct cluster *cluster, unsigned id, struct kv_error *ret_error)
{
    struct sim_node *node = &cluster->nodes[id];
    struct kv_env env = {
        .disk = *fake_disk_ops(node->disk),
        .log_worker = {&worker_ops, &node->workers[0]},
        .file_worker = {&worker_ops, &node->workers[1]},
        .snapshot_worker = {&worker_ops, &node->workers[2]},
        .net = {&net_ops, node},
        .clock = {&clock_ops, node},
    };
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
        .ops = &node_ops,
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
            try_connect(cluster, i, id);
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

        again.time_ns = cluster->now_ns + 20000000 + random_delay_ns(cluster);
        push_event(cluster, again);
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
            lose_link(cluster, event->peer, event->node);
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
        try_connect(cluster, event->node, event->peer);
        return true;
    }
    return false;
}

static void step(struct cluster *cluster)
{
    struct event event = pop_event(cluster);
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

/* ---------------------------------------------------------------- requests */

/* As the server does: of a subscription it has nothing else once it is submitted. */
static void keep_little(struct cluster_request *request)
{
    Kv__Request *kept = malloc(sizeof *kept);

    KV_ASSERT(kept);
    kv__request__init(kept);
    kept->id = request->request->id;
    kept->command_case = request->request->command_case;
    kv__request__free_unpacked(request->request, NULL);
    free(request->bytes);
    request->bytes = NULL;
    request->request = kept;
    request->op.request = kept;
}

struct cluster_request *
cluster_submit(struct cluster *cluster, unsigned id, const Kv__Request *message)
{
    const size_t size = kv__request__get_packed_size(message);
    uint8_t *bytes = malloc(size + 1);
    struct cluster_request *request;

    KV_ASSERT(bytes);
    kv__request__pack(message, bytes);
    request = cluster_submit_bytes(cluster, id, kv_slice_of(bytes, size));
    free(bytes);
    return request;
}

struct cluster_request *
cluster_submit_bytes(struct cluster *cluster, unsigned id, struct kv_slice bytes)
{
    struct sim_node *node = &cluster->nodes[id];
    struct cluster_request *request;
    uint64_t deadline_ms;

    if (!node->up) {
        return NULL;
    }
    request = calloc(1, sizeof *request);
    KV_ASSERT(request);
    request->cluster = cluster;
    request->next = node->requests;
    node->requests = request;
    request->bytes = malloc(bytes.size + 1);
    KV_ASSERT(request->bytes);
    memcpy(request->bytes, bytes.data, bytes.size);
    request->request = kv__request__unpack(NULL, bytes.size, request->bytes);
    KV_ASSERT(request->request);
    deadline_ms =
        request->request->deadline_ms ? request->request->deadline_ms : KV_DEADLINE_DEFAULT_MS;
    request->op.request = request->request;
    request->op.bytes = kv_slice_of(request->bytes, bytes.size);
    request->op.cls = kv_command_classify(request->request);
    request->op.deadline_ns = cluster->now_ns + deadline_ms * 1000000;
    if (request->op.cls == KV_COMMAND_SUBSCRIBE && request->request->deadline_ms == 0) {
        request->op.deadline_ns = UINT64_MAX;
    }
    request->sent_ms = cluster_now_ms(cluster);
    request->node = id;
    kv_node_submit(node->node, &request->op);
    if (request->op.cls == KV_COMMAND_SUBSCRIBE && !request->done) {
        keep_little(request);
    }
    kv_node_turn(node->node);
    return request;
}

struct cluster_request *
cluster_put(struct cluster *cluster, unsigned id, const char *key, const char *value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;

    put.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)(uintptr_t)key};
    put.value = (ProtobufCBinaryData){strlen(value), (uint8_t *)(uintptr_t)value};
    request.id = 1;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    return cluster_submit(cluster, id, &request);
}

struct cluster_request *cluster_get(struct cluster *cluster, unsigned id, const char *key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Get get = KV__GET__INIT;

    get.key = (ProtobufCBinaryData){strlen(key), (uint8_t *)(uintptr_t)key};
    request.id = 2;
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    return cluster_submit(cluster, id, &request);
}

void cluster_request_free(struct cluster_request *request)
{
    if (!request) {
        return;
    }
    KV_ASSERT(request->done || request->node == 0);
    if (request->node != 0) {
        struct cluster_request **link = &request->cluster->nodes[request->node].requests;

        while (*link != request) {
            link = &(*link)->next;
        }
        *link = request->next;
    }
    for (size_t i = 0; i < request->n_items; i++) {
        kv__stream_item__free_unpacked(request->items[i], NULL);
    }
    if (request->reply) {
        kv__reply__free_unpacked(request->reply, NULL);
    }
    kv__request__free_unpacked(request->request, NULL);
    free(request->bytes);
    free(request);
}

static bool is_done(struct cluster *cluster, void *arg)
{
    const struct cluster_request *request = arg;

    (void)cluster;
    return request->done || request->node == 0;
}

int cluster_await(struct cluster *cluster, struct cluster_request *request, uint64_t max_ms)
{
    (void)cluster_run_until(cluster, is_done, request, max_ms);
    if (!request->done) {
        return -1;
    }
    return request->n_items ? (int)request->items[request->n_items - 1]->code
                            : (int)request->reply->code;
}

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
