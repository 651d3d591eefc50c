/* Clients: the session core of libkv, driven as client/driver_uv.c does, over simulated
 * connections. */
#include "tests/sim/sim.h"

#include "client/session_internal.h"
#include "common/assert.h"
#include "proto/frame.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { CONNECT_SILENT_PERMILLE = 300 };

static uint64_t delay_ns(struct sim *sim)
{
    return 1000 * (sim->profile.delay_min_us +
                   sim_random(sim, SIM_RANDOM_NET, sim->profile.delay_spread_us + 1));
}

/* ---------------------------------------------------------------- out */

void sim_client_send(struct sim *sim, struct sim_conn *conn, struct kv_slice bytes)
{
    struct sim_event event = {.kind = SIM_EV_TO_SERVER,
                              .node = (uint8_t)conn->node,
                              .peer = (uint8_t)conn->client,
                              .incarnation = sim->nodes[conn->node].incarnation,
                              .number = conn->number,
                              .size = (uint32_t)bytes.size};

    if (!conn->is_open && bytes.size == 0) {
        return;
    }
    if (bytes.size > 0) {
        event.data = sim_alloc(sim, bytes.size);
        memcpy(event.data, bytes.data, bytes.size);
    }
    event.time_ns = sim->now_ns + delay_ns(sim);
    event.time_ns = event.time_ns > conn->to_server_ns ? event.time_ns : conn->to_server_ns;
    conn->to_server_ns = event.time_ns;
    sim_push(sim, event);
}

/* The first field of a request is its id (client/session_frames.c). */
static uint64_t id_of(struct kv_slice body)
{
    uint64_t id = 0;

    for (size_t i = 1; i < body.size; i++) {
        id |= (uint64_t)(body.data[i] & 0x7f) << (7 * (i - 1));
        if (body.data[i] < 0x80) {
            break;
        }
    }
    return id;
}

/* What the core asks for by itself: a session, or its renewal. */
static size_t note_internal(struct sim_client *client, struct kv_slice body)
{
    struct history *history = &client->sim->history;
    Kv__Request *request = kv__request__unpack(NULL, body.size, body.data);
    size_t call;

    KV_ASSERT(request);
    call = history_call(history, client->id, client->sim->now_ns, request, true);
    history->calls[call].internal = true;
    kv__request__free_unpacked(request, NULL);
    return call;
}

/* Which call each try belongs to. */
static void note_tries(struct sim_client *client, struct kv_slice bytes)
{
    struct kv_frame frame;
    struct kv_error error;
    int64_t size;

    /* Who follows through libkv writes nothing. */
    if (client->id >= client->sim->profile.n_clients) {
        return;
    }
    while ((size = kv_frame_peek(bytes, KV_REQUEST_BYTES_MAX, &frame, &error)) > 0) {
        if (frame.kind == KV_FRAME_REQUEST) {
            uint64_t id = id_of(frame.body);
            const struct kv_request *request = kv_session_find(client->session, id);

            /* One that was cancelled before it left is sent nevertheless. */
            if (request) {
                history_try(&client->sim->history,
                            client->id,
                            id,
                            request->internal ? note_internal(client, frame.body)
                                              : (size_t)(uintptr_t)request->arg);
            } else {
                sim_fail(client->sim, "a request left that nobody made");
            }
        }
        bytes.data += size;
        bytes.size -= (size_t)size;
    }
}

static void close_conn(struct sim_client *client, unsigned endpoint)
{
    struct sim_conn *conn = sim_conn_of(client->sim, client->conns[endpoint]);

    if (conn) {
        sim_client_send(client->sim, conn, (struct kv_slice){0});
    }
    client->conns[endpoint] = 0;
}

static void act(struct sim_client *client, const struct kv_session_action *action)
{
    struct sim *sim = client->sim;

    if (action->kind == KV_SESSION_DISCONNECT) {
        close_conn(client, action->endpoint);
        return;
    }
    client->conns[action->endpoint] = 0;
    sim_push(sim,
             (struct sim_event){.time_ns = sim->now_ns + 2 * delay_ns(sim),
                                .kind = SIM_EV_CLIENT_CONNECT,
                                .node = (uint8_t)strtoul(action->address + 4, NULL, 10),
                                .peer = (uint8_t)client->id,
                                .lane = (uint8_t)action->endpoint});
}

void sim_client_pump(struct sim_client *client)
{
    struct sim *sim = client->sim;
    struct kv_session_action action;
    uint64_t wake_ns;

    while (kv_session_next_action(client->session, &action)) {
        act(client, &action);
    }
    for (unsigned i = 0; i < kv_session_endpoint_count(client->session); i++) {
        struct sim_conn *conn = sim_conn_of(sim, client->conns[i]);
        struct kv_buf buf;

        kv_buf_init(&buf, KV_CLIENT_OUT_BYTES_MAX + KV_REQUEST_BYTES_MAX);
        if (conn && kv_session_take_output(client->session, i, &buf)) {
            note_tries(client, kv_slice_of(buf.data, buf.size));
            sim_client_send(sim, conn, kv_slice_of(buf.data, buf.size));
        }
        kv_buf_deinit(&buf);
    }
    wake_ns = kv_session_wake_ns(client->session);
    if (wake_ns < client->timer_event_ns) {
        client->timer_event_ns = wake_ns > sim->now_ns ? wake_ns : sim->now_ns + 1000;
        sim_push(sim,
                 (struct sim_event){.time_ns = client->timer_event_ns,
                                    .kind = SIM_EV_CLIENT_TIMER,
                                    .peer = (uint8_t)client->id});
    }
}

/* ---------------------------------------------------------------- in */

static void on_connect(struct sim_client *client, const struct sim_event *event)
{
    struct sim *sim = client->sim;

    if (client->conns[event->lane] != 0) {
        return;
    }
    if (sim->nodes[event->node].is_up) {
        client->conns[event->lane] =
            sim_server_accept(sim, event->node, client->id, event->lane)->number;
        kv_session_on_connected(client->session, sim->now_ns, event->lane);
    } else if (!sim_chance(sim, SIM_RANDOM_NET, CONNECT_SILENT_PERMILLE)) {
        kv_session_on_closed(client->session, sim->now_ns, event->lane, "connection refused");
    }
}

static void on_bytes(struct sim_client *client, const struct sim_event *event)
{
    struct sim_conn *conn = sim_conn_of(client->sim, event->number);
    uint64_t now_ns = client->sim->now_ns;

    if (!conn || client->conns[conn->endpoint] != event->number) {
        return;
    }
    if (event->size == 0) {
        client->conns[conn->endpoint] = 0;
        kv_session_on_closed(client->session, now_ns, conn->endpoint, "connection reset");
    } else {
        client->heard_from = (uint64_t)conn->node << 32 | conn->incarnation;
        kv_session_on_bytes(
            client->session, now_ns, conn->endpoint, kv_slice_of(event->data, event->size));
        client->heard_from = 0;
    }
}

void sim_client_on_event(struct sim *sim, struct sim_event *event)
{
    struct sim_client *client;

    if (event->peer >= SIM_CLIENTS_MAX) {
        sim_follow_on_event(sim, event);
        return;
    }
    client = &sim->clients[event->peer];
    switch ((enum sim_event_kind)event->kind) {
    case SIM_EV_CLIENT_CONNECT:
        on_connect(client, event);
        break;
    case SIM_EV_TO_CLIENT:
        on_bytes(client, event);
        break;
    case SIM_EV_CLIENT_TIMER:
        if (sim->now_ns < client->timer_event_ns) {
            return;
        }
        client->timer_event_ns = UINT64_MAX;
        if (kv_session_wake_ns(client->session) <= sim->now_ns) {
            kv_session_on_timer(client->session, sim->now_ns);
        }
        break;
    default:
        (client->id < sim->profile.n_clients ? sim_load_next : sim_resume_think)(client);
        break;
    }
    sim_client_pump(client);
}

void sim_client_reset(struct sim_client *client)
{
    for (unsigned i = 0; i < kv_session_endpoint_count(client->session); i++) {
        if (client->conns[i] != 0) {
            close_conn(client, i);
            kv_session_on_closed(client->session, client->sim->now_ns, i, "connection reset");
        }
    }
    sim_client_pump(client);
}

/* Each begins elsewhere, so that those that stay are on all nodes. */
static void list_endpoints(struct sim *sim, unsigned first, char *ret_text, size_t capacity)
{
    size_t size = 0;

    for (unsigned i = 0; i < sim->profile.n_nodes; i++) {
        size += (size_t)snprintf(ret_text + size,
                                 capacity - size,
                                 "%s%s",
                                 i ? "," : "",
                                 sim->addresses[(first + i) % sim->profile.n_nodes]);
    }
}

void sim_client_open(struct sim *sim, unsigned id)
{
    struct sim_client *client = &sim->clients[id];
    char endpoints[sizeof sim->addresses];
    struct kv_client_options options = {
        .endpoints = endpoints,
        .name = "sim",
        .deadline_ms = sim->profile.deadline_ms,
        .stay = sim->profile.stay || id < sim->profile.n_readers ||
                (sim->profile.n_readers > 0 && id % 2 == 0),
        .compress = sim->profile.compress,
        .no_session = sim->profile.session_ttl_ms == 0,
        .session_ttl_ms = sim->profile.session_ttl_ms,
    };
    struct kv_error error;

    list_endpoints(sim,
                   (unsigned)sim_random(sim, SIM_RANDOM_SWARM, sim->profile.n_nodes),
                   endpoints,
                   sizeof endpoints);
    client->sim = sim;
    client->id = id;
    client->timer_event_ns = UINT64_MAX;
    KV_ASSERT(kv_session_open(&options,
                              sim_random(sim, SIM_RANDOM_LOAD, UINT64_C(1) << 40),
                              &client->session,
                              &error) == 0);
    /* So that ids are unique in the whole cluster and tell whose they are. */
    client->session->next_id = (uint64_t)id << (HISTORY_ID_CLIENT_SHIFT - HISTORY_ID_SLOT_BITS);
    sim_push(
        sim,
        (struct sim_event){.time_ns = sim->now_ns + sim_random(sim, SIM_RANDOM_LOAD, 100) * SIM_MS,
                           .kind = SIM_EV_CLIENT_THINKS,
                           .peer = (uint8_t)id});
}
