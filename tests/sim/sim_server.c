/* What server/net is to a node: connections of clients, frames, decoding, answers. */
#include "tests/sim/sim.h"

#include "common/assert.h"
#include "proto/frame.h"
#include "server/net/decode.h"

#include <stdlib.h>
#include <string.h>

enum { ARENA_BYTES_MAX = 64 * 1024 * 1024, RESEND_MS = 200 };

struct sim_op {
    struct kv_op op; /* first: ops come back by this */
    struct kv_arena arena;
    struct sim_conn *conn; /* NULL: gone */
    struct sim_op *next, *prev;
};

/* ---------------------------------------------------------------- ops */

static struct sim_op *op_new(struct sim *sim, struct sim_conn *conn)
{
    struct sim_op *op = sim->free_ops;

    if (op) {
        sim->free_ops = op->next;
    } else {
        op = calloc(1, sizeof *op);
        KV_ASSERT(op);
        kv_arena_init(&op->arena, ARENA_BYTES_MAX);
    }
    op->op = (struct kv_op){0};
    op->conn = conn;
    op->prev = NULL;
    op->next = conn->ops;
    if (conn->ops) {
        conn->ops->prev = op;
    }
    conn->ops = op;
    return op;
}

static void op_free(struct sim *sim, struct sim_op *op)
{
    if (op->conn) {
        if (op->prev) {
            op->prev->next = op->next;
        } else {
            op->conn->ops = op->next;
        }
        if (op->next) {
            op->next->prev = op->prev;
        }
    }
    kv_arena_reset(&op->arena);
    op->next = sim->free_ops;
    sim->free_ops = op;
}

static struct sim_op *find_op(struct sim_conn *conn, uint64_t id)
{
    struct sim_op *op = conn->ops;

    while (op && op->op.request->id != id) {
        op = op->next;
    }
    return op;
}

/* ---------------------------------------------------------------- answers */

static void
send_frame(struct sim_conn *conn, enum kv_frame_kind kind, const ProtobufCMessage *message)
{
    KV_ASSERT(kv_frame_append(&conn->out, kind, message, conn->lz4) == 0);
}

static bool is_heard(const struct sim_node *node, const struct sim_op *op)
{
    return op->conn && !node->is_closing;
}

static void on_reply(void *arg, struct kv_op *kv_op, const Kv__Reply *reply)
{
    struct sim_node *node = arg;
    struct sim_op *op = (struct sim_op *)kv_op;

    if (is_heard(node, op)) {
        send_frame(op->conn, KV_FRAME_REPLY, &reply->base);
    }
    op_free(node->sim, op);
}

static void on_reply_packed(void *arg, struct kv_op *kv_op, struct kv_slice reply)
{
    struct sim_node *node = arg;
    struct sim_op *op = (struct sim_op *)kv_op;

    if (is_heard(node, op)) {
        KV_ASSERT(kv_frame_append_packed(&op->conn->out, KV_FRAME_REPLY, reply, op->conn->lz4) ==
                  0);
    }
    op_free(node->sim, op);
}

static size_t on_stream_item(void *arg, struct kv_op *kv_op, const Kv__StreamItem *item)
{
    struct sim_node *node = arg;
    struct sim_op *op = (struct sim_op *)kv_op;
    size_t size = kv__stream_item__get_packed_size(item);

    if (is_heard(node, op)) {
        send_frame(op->conn, KV_FRAME_STREAM_ITEM, &item->base);
    }
    if (item->end) {
        op_free(node->sim, op);
    }
    return size;
}

static size_t on_stream_shared(void *arg, struct kv_op *kv_op, struct kv_shared *item)
{
    struct sim_node *node = arg;
    struct sim_op *op = (struct sim_op *)kv_op;
    /* The id, then what is shared. */
    uint8_t id[11] = {0x08};
    size_t n = 1;

    for (uint64_t rest = kv_op->request->id; n == 1 || rest > 0; rest >>= 7) {
        id[n++] = (uint8_t)((rest & 0x7f) | (rest >= 0x80 ? 0x80 : 0));
    }
    if (is_heard(node, op)) {
        KV_ASSERT(kv_frame_append_parts(&op->conn->out,
                                        KV_FRAME_STREAM_ITEM,
                                        kv_slice_of(id, n),
                                        kv_slice_of(item->data, item->size),
                                        op->conn->lz4) == 0);
    }
    return n + item->size;
}

/* A slow connection takes little at once. */
static bool stream_has_room(void *arg, struct kv_op *kv_op)
{
    struct sim_node *node = arg;
    const struct sim_op *op = (const struct sim_op *)kv_op;
    size_t room = node->sim->profile.room_bytes;

    return room == 0 || !op->conn || op->conn->out.size < room;
}

static void on_fatal(void *arg, int exit_code, const struct kv_error *error)
{
    struct sim_node *node = arg;

    (void)exit_code;
    node->is_dying = true;
    snprintf(node->why, sizeof node->why, "%.190s", error->message);
}

static void on_stopped(void *arg)
{
    ((struct sim_node *)arg)->has_stopped = true;
}

static void on_changed(void *arg)
{
    (void)arg;
}

static void on_clients(void *arg, Kv__StatusResult *status)
{
    const struct sim_node *node = arg;

    for (const struct sim_conn *conn = node->conns; conn; conn = conn->next) {
        status->connections++;
    }
}

const struct kv_node_ops sim_node_ops = {

    .reply = on_reply,
    .reply_packed = on_reply_packed,
    .stream_item = on_stream_item,
    .stream_shared = on_stream_shared,
    .stream_has_room = stream_has_room,
    .fatal = on_fatal,
    .stopped = on_stopped,
    .changed = on_changed,
    .clients = on_clients};

/* ---------------------------------------------------------------- connections */

struct sim_conn *sim_conn_of(struct sim *sim, uint64_t number)
{
    return number > 0 && number <= sim->n_conns ? sim->conns[number - 1] : NULL;
}

struct sim_conn *
sim_server_accept(struct sim *sim, unsigned node, unsigned client, unsigned endpoint)
{
    struct sim_conn *conn = calloc(1, sizeof *conn);

    KV_ASSERT(conn);
    if (sim->n_conns == sim->conns_capacity) {
        sim->conns_capacity = sim->conns_capacity ? sim->conns_capacity * 2 : 64;
        sim->conns = realloc(sim->conns, sim->conns_capacity * sizeof(struct sim_conn *));
        KV_ASSERT(sim->conns);
    }
    *conn = (struct sim_conn){
        .number = sim->n_conns + 1,
        .client = client,
        .endpoint = endpoint,
        .node = node,
        .incarnation = sim->nodes[node].incarnation,
        .is_open = true,
        .next = sim->nodes[node].conns,
    };
    kv_buf_init(&conn->in, 2 * KV_REQUEST_BYTES_MAX);
    kv_buf_init(&conn->out, 2 * KV_CONNECTION_OUT_BYTES_MAX);
    sim->nodes[node].conns = conn;
    sim->conns[sim->n_conns++] = conn;
    return conn;
}

/* Bytes to the client, or the end of the connection (no bytes). */
static void send_to_client(struct sim *sim, struct sim_conn *conn)
{
    struct sim_event event = {.kind = SIM_EV_TO_CLIENT,
                              .node = (uint8_t)conn->node,
                              .peer = (uint8_t)conn->client,
                              .number = conn->number,
                              .size = (uint32_t)conn->out.size};

    if (conn->out.size > 0) {
        event.data = sim_alloc(sim, conn->out.size);
        memcpy(event.data, conn->out.data, conn->out.size);
        kv_buf_clear(&conn->out);
    }
    event.time_ns =
        sim->now_ns + 1000 * (sim->profile.delay_min_us +
                              sim_random(sim, SIM_RANDOM_NET, sim->profile.delay_spread_us + 1));
    event.time_ns = event.time_ns > conn->to_client_ns ? event.time_ns : conn->to_client_ns;
    conn->to_client_ns = event.time_ns;
    sim_push(sim, event);
}

static void unlink_conn(struct sim *sim, struct sim_conn *conn)
{
    struct sim_conn **link = &sim->nodes[conn->node].conns;

    while (*link != conn) {
        link = &(*link)->next;
    }
    *link = conn->next;
    conn->is_open = false;
    while (conn->ops) {
        struct sim_op *op = conn->ops;

        conn->ops = op->next;
        op->conn = NULL;
        op->prev = op->next = NULL;
        if (sim->nodes[conn->node].node) {
            kv_node_cancel(sim->nodes[conn->node].node, &op->op);
        }
    }
    kv_buf_deinit(&conn->in);
}

static void close_conn(struct sim *sim, struct sim_conn *conn)
{
    if (conn->out.size > 0) {
        send_to_client(sim, conn);
    }
    send_to_client(sim, conn);
    kv_buf_deinit(&conn->out);
    unlink_conn(sim, conn);
}

/* abrupt: the machine is gone and says nothing to anybody; clients find out by themselves. */
void sim_server_node_ended(struct sim_node *node, bool abrupt)
{
    struct sim *sim = node->sim;
    struct sim_conn *conn = node->conns;

    while (conn) {
        struct sim_conn *next = conn->next;
        struct sim_op *op = conn->ops;

        conn->is_open = false;
        while (op) {
            op->conn = NULL;
            op = op->next;
        }
        conn->ops = NULL;
        kv_buf_clear(&conn->out);
        if (!abrupt || sim_chance(sim, SIM_RANDOM_NET, 500)) {
            send_to_client(sim, conn);
        }
        kv_buf_deinit(&conn->in);
        kv_buf_deinit(&conn->out);
        conn = next;
    }
    node->conns = NULL;
}

void sim_server_flush(struct sim_node *node)
{
    const size_t room_bytes = node->sim->profile.room_bytes;
    bool had_no_room = false;

    for (struct sim_conn *conn = node->conns; conn; conn = conn->next) {
        const bool was_full = room_bytes > 0 && conn->out.size > 0 && conn->out.size >= room_bytes;

        if (conn->out.size > 0) {
            send_to_client(node->sim, conn);
        }
        if (was_full) {
            kv_node_stream_room(node->node, &conn->listener);
            had_no_room = true;
        }
    }
    if (had_no_room) {
        /* As the network's thread would wake it. */
        sim_push(node->sim,
                 (struct sim_event){.time_ns = node->sim->now_ns + SIM_MS,
                                    .kind = SIM_EV_TIMER,
                                    .node = (uint8_t)node->id,
                                    .incarnation = node->incarnation});
    }
}

void sim_server_free(struct sim *sim)
{
    while (sim->free_ops) {
        struct sim_op *op = sim->free_ops;

        sim->free_ops = op->next;
        kv_arena_deinit(&op->arena);
        free(op);
    }
    for (size_t i = 0; i < sim->n_conns; i++) {
        free(sim->conns[i]);
    }
    free(sim->conns);
}

/* ---------------------------------------------------------------- frames */

static void on_hello(struct sim_node *node, struct sim_conn *conn, struct kv_slice body)
{
    Kv__HelloReply reply = KV__HELLO_REPLY__INIT;
    Kv__Limits limits = KV__LIMITS__INIT;
    struct kv_decoded_hello hello;
    struct kv_error error;
    uint64_t leader_id = node->node->replica_status.leader_id;

    KV_ASSERT(kv_decode_hello(body, &hello, &error) == 0);
    conn->hello_done = true;
    conn->lz4 = hello.lz4;
    limits.connection_requests = KV_CONNECTION_REQUESTS_MAX;
    reply.protocol_version = KV_PROTOCOL_VERSION;
    reply.cluster_id = node->node->options.cluster_id;
    reply.node_id = node->id;
    reply.leader_id = leader_id;
    reply.leader_address = (char *)(uintptr_t)kv_node_client_address(node->node, leader_id);
    reply.lz4 = conn->lz4;
    reply.limits = &limits;
    send_frame(conn, KV_FRAME_HELLO_REPLY, &reply.base);
}

/* Readers that libkv is none of give little at first, or more than there is; then what they have
 * read. */
static void choose_credit(struct sim *sim, const Kv__Request *request)
{
    if (sim->profile.little_credit == 0 || request->command_case != KV__REQUEST__COMMAND_RANGE ||
        !request->range->stream) {
        return;
    }
    request->range->credit = sim_chance(sim, SIM_RANDOM_RARE, 100)
                                 ? 2 * KV_STREAM_CREDIT_MAX
                                 : 1 + sim_random(sim, SIM_RANDOM_RARE, sim->profile.little_credit);
}

static void on_request(struct sim_node *node, struct sim_conn *conn, struct kv_slice body)
{
    struct sim *sim = node->sim;
    struct sim_op *op = op_new(sim, conn);
    struct kv_decoded_request decoded;
    Kv__Reply reply = KV__REPLY__INIT;
    struct kv_error error;
    uint64_t deadline_ms;

    KV_ASSERT(
        kv_decode_request(
            &op->arena, body, kv_machine_settings_of(node->node->machine), &decoded, &error) == 0);
    op->op.request = decoded.request;
    op->op.bytes = decoded.bytes;
    op->op.cls = decoded.cls;
    op->op.listener = &conn->listener;
    if (decoded.status != 0) {
        reply.id = decoded.request->id;
        reply.code = (Kv__Code)-decoded.status;
        reply.message = decoded.error.message;
        send_frame(conn, KV_FRAME_REPLY, &reply.base);
        op_free(sim, op);
        return;
    }
    choose_credit(sim, decoded.request);
    deadline_ms =
        decoded.request->deadline_ms ? decoded.request->deadline_ms : KV_DEADLINE_DEFAULT_MS;
    op->op.deadline_ns = sim_node_now_ns(node) + deadline_ms * SIM_MS;
    kv_node_submit(node->node, &op->op);
}

static void on_frame(struct sim_node *node, struct sim_conn *conn, const struct kv_frame *frame)
{
    struct sim_op *op;
    struct kv_error error;
    uint64_t id, bytes;

    switch (frame->kind) {
    case KV_FRAME_HELLO:
        on_hello(node, conn, frame->body);
        break;
    case KV_FRAME_REQUEST:
        KV_ASSERT(conn->hello_done);
        on_request(node, conn, frame->body);
        break;
    case KV_FRAME_CANCEL:
        KV_ASSERT(kv_decode_cancel(frame->body, &id, &error) == 0);
        op = find_op(conn, id);
        if (op) {
            kv_node_cancel(node->node, &op->op);
        }
        break;
    case KV_FRAME_CREDIT:
        KV_ASSERT(kv_decode_credit(frame->body, &id, &bytes, &error) == 0);
        op = find_op(conn, id);
        if (op) {
            kv_node_credit(node->node, &op->op, bytes);
        }
        break;
    default:
        KV_ASSERT(!"a client sends such a frame");
    }
}

/* They came to a process that does not know the connection: sent again until there is a kernel that
 * says so. */
void sim_server_on_stray(struct sim *sim, struct sim_event *event)
{
    struct sim_conn *conn = sim_conn_of(sim, event->number);

    uint64_t wanted = event->peer < SIM_CLIENTS_MAX
                          ? sim->clients[event->peer].conns[conn->endpoint]
                          : sim->followers[event->peer - SIM_CLIENTS_MAX].conn;

    if (event->size == 0 || wanted != event->number) {
        return;
    }
    if (sim->nodes[event->node].is_up) {
        send_to_client(sim, conn);
    } else {
        event->time_ns = sim->now_ns + RESEND_MS * SIM_MS;
        sim_push(sim, *event);
        event->data = NULL;
    }
}

void sim_server_on_bytes(struct sim *sim, struct sim_event *event)
{
    struct sim_conn *conn = sim_conn_of(sim, event->number);
    struct sim_node *node = &sim->nodes[event->node];
    struct kv_frame frame;
    struct kv_error error;
    size_t used = 0;
    int64_t size;

    if (!conn->is_open) {
        sim_server_on_stray(sim, event);
        return;
    }
    if (event->size == 0) {
        close_conn(sim, conn);
        return;
    }
    KV_ASSERT(kv_buf_append(&conn->in, event->data, event->size) == 0);
    while ((size = kv_frame_peek(kv_slice_of(conn->in.data + used, conn->in.size - used),
                                 KV_REQUEST_BYTES_MAX,
                                 &frame,
                                 &error)) > 0) {
        on_frame(node, conn, &frame);
        used += (size_t)size;
    }
    KV_ASSERT(size == 0);
    kv_buf_consume(&conn->in, used);
}
