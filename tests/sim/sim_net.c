/* The network between nodes: each node has one connection to each other, over which it sends. What
 * travels on one connection arrives in order or the connection is lost; bulk has its own. */
#include "tests/sim/sim.h"

#include "common/assert.h"

#include <string.h>

enum {
    RETRY_MS = 20,      /* a cut connection's data is tried again */
    SILENCE_MS = 3000,  /* then the sender gives the connection up */
    STALL_PERCENT = 50, /* of lost messages: sent again after a while; the others end it */
    STALL_MAX_MS = 400,
};

static uint64_t delay_ns(struct sim *sim)
{
    const struct sim_profile *profile = &sim->profile;
    uint64_t ns = 1000 * (profile->delay_min_us +
                          sim_random(sim, SIM_RANDOM_NET, profile->delay_spread_us + 1));

    if (sim_chance(sim, SIM_RANDOM_NET, profile->spike_permille)) {
        ns += SIM_MS * sim_random(sim, SIM_RANDOM_NET, profile->spike_max_ms);
    }
    return ns;
}

static uint64_t latest(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* ---------------------------------------------------------------- connections */

static void connect_later(struct sim *sim, unsigned from, unsigned to)
{
    struct sim_link *link = &sim->links[from][to];
    uint64_t backoff_ms = KV_PEER_BACKOFF_MIN_MS;

    for (unsigned i = 1; i < link->failures && backoff_ms < KV_PEER_BACKOFF_MAX_MS; i++) {
        backoff_ms *= 2;
    }
    backoff_ms = link->failures ? sim_random(sim, SIM_RANDOM_NET, backoff_ms) : 0;
    link->failures += link->failures < 8;
    sim_push(sim,
             (struct sim_event){.time_ns = sim->now_ns + backoff_ms * SIM_MS + 3 * delay_ns(sim),
                                .kind = SIM_EV_CONNECT,
                                .node = (uint8_t)from,
                                .peer = (uint8_t)to,
                                .incarnation = sim->nodes[from].incarnation});
}

/* The sender will be told; what is under way is lost. */
void sim_net_lose(struct sim *sim, unsigned from, unsigned to)
{
    struct sim_link *link = &sim->links[from][to];

    if (link->epoch == 0) {
        return;
    }
    link->epoch = link->heard = 0;
    sim_push(sim,
             (struct sim_event){.time_ns = sim->now_ns + delay_ns(sim),
                                .kind = SIM_EV_DISCONNECT,
                                .node = (uint8_t)from,
                                .peer = (uint8_t)to,
                                .incarnation = sim->nodes[from].incarnation});
}

void sim_net_quicken(struct sim *sim, unsigned from, unsigned to)
{
    struct sim_link *link = &sim->links[from][to];
    uint64_t time_ns = sim->now_ns + delay_ns(sim);

    link->is_slow = false;
    link->free_ns = sim->now_ns;
    for (unsigned lane = 0; lane < SIM_LANES; lane++) {
        if (link->delivery_ns[lane] > time_ns) {
            link->delivery_ns[lane] = time_ns;
        }
    }
    sim_hasten(sim, from, to, time_ns);
}

static bool is_reachable(const struct sim *sim, unsigned from, unsigned to)
{
    return sim->nodes[to].is_up && !sim->links[from][to].is_cut && !sim->links[to][from].is_cut;
}

void sim_net_on_connect(struct sim *sim, const struct sim_event *event)
{
    struct sim_link *link = &sim->links[event->node][event->peer];
    struct sim_node *from = &sim->nodes[event->node];

    if (link->epoch != 0) {
        return;
    }
    if (!is_reachable(sim, event->node, event->peer)) {
        connect_later(sim, event->node, event->peer);
        return;
    }
    *link = (struct sim_link){
        .epoch = ++sim->next_epoch,
        .heard = sim->next_epoch,
        .is_cut = link->is_cut,
        .is_slow = link->is_slow,
    };
    from->handler.peer_info(from->handler.arg, event->peer, sim->addresses[event->peer - 1], 1);
    from->handler.connected(from->handler.arg, event->peer);
}

void sim_net_on_disconnect(struct sim *sim, const struct sim_event *event)
{
    struct sim_node *from = &sim->nodes[event->node];

    /* A connection made meanwhile goes, too: the node knows only one. */
    sim->links[event->node][event->peer].epoch = 0;
    from->handler.disconnected(from->handler.arg, event->peer, !sim->nodes[event->peer].is_up);
    connect_later(sim, event->node, event->peer);
}

void sim_net_node_started(struct sim *sim, unsigned id)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        sim->links[i][id].failures = 0;
    }
}

/* abrupt: no kernel is left to send what was handed to it, or to say that the process is gone. */
void sim_net_node_ended(struct sim *sim, unsigned id, bool abrupt)
{
    for (unsigned i = 1; i <= sim->profile.n_nodes; i++) {
        sim->links[id][i].epoch = 0;
        if (abrupt) {
            sim->links[id][i].heard = 0;
        }
        sim->links[i][id].heard = 0;
        if (!abrupt || sim_chance(sim, SIM_RANDOM_NET, 500)) {
            sim_net_lose(sim, i, id);
        }
    }
}

/* ---------------------------------------------------------------- env */

static int net_start(void *arg, const struct kv_net_handler *handler)
{
    ((struct sim_node *)arg)->handler = *handler;
    return 0;
}

static int net_add_peer(void *arg, uint64_t peer_id, const char *address)
{
    struct sim_node *node = arg;

    (void)address;
    node->sim->links[node->id][peer_id].failures = 0;
    connect_later(node->sim, node->id, (unsigned)peer_id);
    return 0;
}

static void net_remove_peer(void *arg, uint64_t peer_id)
{
    (void)arg;
    (void)peer_id;
}

/* When a message that leaves now arrives: behind what it may not overtake. */
static uint64_t arrival_ns(struct sim *sim, struct sim_link *link, unsigned lane, size_t size)
{
    uint64_t at_ns = sim->now_ns;

    if (link->is_slow || lane == KV_NET_BULK) {
        uint64_t per_ms = link->is_slow ? sim->slow_bytes_per_ms : sim->profile.bulk_bytes_per_ms;

        at_ns = latest(at_ns, link->free_ns) + size * SIM_MS / per_ms;
        link->free_ns = lane == KV_NET_URGENT ? link->free_ns : at_ns;
    }
    at_ns = latest(at_ns + delay_ns(sim), link->delivery_ns[lane]);
    at_ns = latest(at_ns, link->blocked_ns[lane]);
    /* Urgent ones may pass ordered ones, not the other way round. */
    if (lane == KV_NET_ORDERED) {
        at_ns = latest(at_ns, link->delivery_ns[KV_NET_URGENT]);
    }
    link->delivery_ns[lane] = at_ns;
    return at_ns;
}

static uint8_t *join(struct sim *sim,
                     struct kv_slice head,
                     const struct kv_slice *bulk,
                     size_t n_bulk,
                     size_t *ret_size)
{
    size_t size = head.size;
    uint8_t *data;

    for (size_t i = 0; i < n_bulk; i++) {
        size += bulk[i].size;
    }
    data = sim_alloc(sim, size);
    memcpy(data, head.data, head.size);
    for (size_t i = 0, offset = head.size; i < n_bulk; i++) {
        if (bulk[i].size > 0) {
            memcpy(data + offset, bulk[i].data, bulk[i].size);
        }
        offset += bulk[i].size;
    }
    *ret_size = size;
    return data;
}

static int net_send(void *arg,
                    uint64_t peer_id,
                    enum kv_net_class cls,
                    struct kv_slice head,
                    const struct kv_slice *bulk,
                    size_t n_bulk)
{
    struct sim_node *node = arg;
    struct sim *sim = node->sim;
    struct sim_link *link = &sim->links[node->id][peer_id];
    struct sim_event event = {.kind = SIM_EV_MESSAGE, .node = (uint8_t)peer_id};
    uint64_t stall_ns = 0;
    size_t size;

    if (link->epoch == 0 || node->is_closing) {
        return KV_CLOSED;
    }
    sim_watch_message(node, head);
    if (link->queued_bytes > KV_PEER_QUEUE_BYTES_MAX) {
        return KV_BUSY;
    }
    if (cls == KV_NET_BULK && !sim->has_healed &&
        sim_chance(sim, SIM_RANDOM_NET, sim->profile.bulk_loss_permille)) {
        return 0;
    }
    if (sim_chance(sim, SIM_RANDOM_NET, sim->loss_permille)) {
        if (cls == KV_NET_BULK) {
            return 0;
        }
        if (sim_random(sim, SIM_RANDOM_NET, 100) >= STALL_PERCENT) {
            sim_net_lose(sim, node->id, (unsigned)peer_id);
            return 0;
        }
        stall_ns = SIM_MS * sim_random(sim, SIM_RANDOM_NET, STALL_MAX_MS);
    }
    event.data = join(sim, head, bulk, n_bulk, &size);
    event.size = (uint32_t)size;
    event.peer = (uint8_t)node->id;
    event.lane = (uint8_t)cls;
    event.incarnation = sim->nodes[peer_id].incarnation;
    event.number = link->epoch;
    event.time_ns = arrival_ns(sim, link, cls, size) + stall_ns;
    link->delivery_ns[cls] = event.time_ns;
    link->queued_bytes += size;
    sim->counts.messages++;
    sim_push(sim, event);
    return 0;
}

const struct kv_net_ops sim_net_ops = {net_start, net_add_peer, net_remove_peer, net_send};

/* A cut way is silent: what is sent waits, and goes on when it is mended, unless the sender gives
 * up before. True: the message waits. */
static bool waits(struct sim *sim, struct sim_link *link, struct sim_event *event)
{
    if (sim->now_ns < link->blocked_ns[event->lane]) {
        event->time_ns = link->blocked_ns[event->lane];
    } else if (link->is_cut) {
        link->silent_ns = link->silent_ns ? link->silent_ns : sim->now_ns;
        if (sim->now_ns - link->silent_ns > SILENCE_MS * SIM_MS) {
            link->silent_ns = 0;
            sim_net_lose(sim, event->peer, event->node);
            return false;
        }
        link->blocked_ns[event->lane] = event->time_ns = sim->now_ns + RETRY_MS * SIM_MS;
    } else {
        link->silent_ns = 0;
        return false;
    }
    sim_push(sim, *event);
    event->data = NULL;
    return true;
}

/* It came to a process that does not know the connection: a running kernel says so, a machine that
 * is off says nothing. */
void sim_net_on_stray(struct sim *sim, const struct sim_event *event)
{
    struct sim_link *link = &sim->links[event->peer][event->node];

    if (event->number != link->epoch) {
        return;
    }
    link->silent_ns = link->silent_ns ? link->silent_ns : sim->now_ns;
    if (sim->nodes[event->node].is_up || sim->now_ns - link->silent_ns > SILENCE_MS * SIM_MS) {
        sim_net_lose(sim, event->peer, event->node);
    }
}

void sim_net_on_message(struct sim *sim, struct sim_event *event)
{
    struct sim_link *link = &sim->links[event->peer][event->node];
    struct sim_node *node = &sim->nodes[event->node];

    if (event->number != link->heard) {
        sim_net_on_stray(sim, event);
        return;
    }
    if (waits(sim, link, event) || event->number != link->heard) {
        return;
    }
    link->queued_bytes -= event->size < link->queued_bytes ? event->size : link->queued_bytes;
    node->handler.receive(node->handler.arg, event->peer, event->data, event->size);
}
