/* From frames to items for the core, and the answers that the core need not be asked for. Runs on a
 * network thread. */
#include "server/net/net_internal.h"

#include <stdlib.h>
#include <string.h>

static void answer_error(struct kv_conn *conn,
                         uint64_t id,
                         bool is_stream,
                         int status,
                         const char *message,
                         const char *limit,
                         uint64_t limit_value)
{
    const struct kv_node_status *node = kv_net_thread_status(conn->thread);
    Kv__Hint hint = KV__HINT__INIT;

    hint.limit = (char *)(uintptr_t)limit;
    hint.limit_value = limit_value;
    kv_stats_code(&conn->thread->stats, (unsigned)-status);
    if (is_stream) {
        Kv__StreamItem item = KV__STREAM_ITEM__INIT;

        item.id = id;
        item.end = true;
        item.code = (Kv__Code)-status;
        item.message = (char *)(uintptr_t)message;
        item.hint = &hint;
        item.revision = node->revision;
        kv_conn_send(conn, KV_FRAME_STREAM_ITEM, &item.base);
    } else {
        Kv__Reply reply = KV__REPLY__INIT;

        reply.id = id;
        reply.code = (Kv__Code)-status;
        reply.message = (char *)(uintptr_t)message;
        reply.hint = &hint;
        reply.revision = node->revision;
        kv_conn_send(conn, KV_FRAME_REPLY, &reply.base);
    }
}

static uint64_t deadline_ns(uint64_t now_ns, const Kv__Request *request, enum kv_command_class cls)
{
    uint64_t ms = request->deadline_ms ? request->deadline_ms : KV_DEADLINE_DEFAULT_MS;

    if (cls == KV_COMMAND_SUBSCRIBE && request->deadline_ms == 0) {
        return UINT64_MAX;
    }
    return now_ns + (ms < KV_DEADLINE_MAX_MS ? ms : KV_DEADLINE_MAX_MS) * 1000000;
}

static struct kv_net_item *
new_item(struct kv_net_batch *batch, enum kv_net_item_type type, struct kv_net_request *request)
{
    struct kv_net_item *item = kv_arena_alloc(&batch->arena, sizeof *item);

    if (item) {
        *item = (struct kv_net_item){.type = type, .request = request};
    }
    return item;
}

size_t kv_stream_id_pack(uint64_t id, uint8_t p[KV_STREAM_ID_BYTES_MAX])
{
    size_t n = 0;

    if (id == 0) {
        return 0;
    }
    p[n++] = 0x08; /* field 1, a number */
    for (; id >= 0x80; id >>= 7) {
        p[n++] = (uint8_t)(id | 0x80);
    }
    p[n++] = (uint8_t)id;
    return n;
}

static void fill_request(struct kv_net_request *request,
                         struct kv_conn *conn,
                         const struct kv_decoded_request *decoded)
{
    unsigned command = (unsigned)decoded->request->command_case;

    request->conn = conn;
    request->id = decoded->request->id;
    request->arrived_ns = conn->thread->now_ns;
    request->command = (uint16_t)(command < KV_STATS_COMMANDS ? command : 0);
    request->is_stream = kv_command_is_stream(decoded->cls);
    request->is_subscription = decoded->cls == KV_COMMAND_SUBSCRIBE;
    request->op.request = decoded->request;
    request->op.bytes = decoded->bytes;
    request->op.cls = decoded->cls;
    request->op.deadline_ns = deadline_ns(conn->thread->now_ns, decoded->request, decoded->cls);
}

/* It has what stays of it in a small batch of its own; the core takes the rest from this one. */
static int submit_subscription(struct kv_conn *conn,
                               struct kv_net_batch *batch,
                               struct kv_decoded_request *decoded)
{
    struct kv_net_batch *own;
    struct kv_net_subscription *subscription;
    struct kv_net_item *item;

    if (conn->n_subscriptions >= KV_CONNECTION_SUBSCRIPTIONS_MAX) {
        decoded->limit = "connection-subscriptions";
        decoded->limit_value = KV_CONNECTION_SUBSCRIPTIONS_MAX;
        return kv_error_set(&decoded->error,
                            KV_BUSY,
                            "the connection has %u watches and subscriptions "
                            "(limit connection-subscriptions): use another for more",
                            KV_CONNECTION_SUBSCRIPTIONS_MAX);
    }
    own = kv_net_batch_make_small(conn->thread);
    subscription = own ? kv_arena_alloc(&own->arena, sizeof *subscription) : NULL;
    item = subscription ? new_item(batch, KV_ITEM_REQUEST, &subscription->request) : NULL;
    if (item) {
        memset(subscription, 0, sizeof *subscription);
        fill_request(&subscription->request, conn, decoded);
        subscription->request.batch = own;
        subscription->request.op.listener = &conn->room->listener;
        kv__request__init(&subscription->kept);
        subscription->kept.id = decoded->request->id;
        subscription->kept.command_case = decoded->request->command_case;
        item->kept = &subscription->kept;
    }
    if (!item || kv_id_table_add(&conn->requests, &subscription->request) != 0) {
        if (own) {
            kv_net_batch_release(own);
        }
        return kv_error_set(
            &decoded->error, KV_BUSY, "the server has no memory for a subscription");
    }
    conn->n_subscriptions++;
    kv_net_thread_add(conn->thread, item);
    return 0;
}

static int
submit(struct kv_conn *conn, struct kv_net_batch *batch, struct kv_decoded_request *decoded)
{
    struct kv_net_request *request;
    struct kv_net_item *item;

    if (decoded->cls == KV_COMMAND_SUBSCRIBE) {
        return submit_subscription(conn, batch, decoded);
    }
    request = kv_arena_alloc(&batch->arena, sizeof *request);
    item = new_item(batch, KV_ITEM_REQUEST, request);
    if (!request || !item) {
        return kv_error_set(&decoded->error, KV_BUSY, "the server has no memory for a request");
    }
    memset(request, 0, sizeof *request);
    fill_request(request, conn, decoded);
    request->batch = batch;
    if (kv_id_table_add(&conn->requests, request) != 0) {
        return kv_error_set(&decoded->error, KV_BUSY, "the server has no memory for a request");
    }
    atomic_fetch_add_explicit(&batch->references, 1, memory_order_relaxed);
    kv_net_thread_add(conn->thread, item);
    return 0;
}

/* A pop that waits is under way for minutes. */
static bool waits_long(const Kv__Request *request)
{
    return request->command_case == KV__REQUEST__COMMAND_LIST_POP &&
           request->list_pop->block_ms > 0;
}

/* Decodes into the thread's batch, or into one of its own. *ret_batch: where the memory is. */
static int decode(struct kv_conn *conn,
                  struct kv_slice body,
                  struct kv_net_batch **ret_batch,
                  struct kv_decoded_request *ret_decoded,
                  struct kv_error *ret_error)
{
    const struct kv_machine_settings *settings = &kv_net_thread_status(conn->thread)->settings;
    struct kv_net_batch *batch = kv_net_thread_batch(conn->thread);
    int status = 0;

    if (batch) {
        status = kv_decode_request(&batch->arena, body, settings, ret_decoded, ret_error);
        if (status == 0 && waits_long(ret_decoded->request)) {
            batch = kv_net_thread_batch_alone(conn->thread);
            status = batch
                         ? kv_decode_request(&batch->arena, body, settings, ret_decoded, ret_error)
                         : 0;
        }
    }
    if (!batch) {
        return kv_error_set(ret_error, KV_BUSY, "the server has no memory for a request");
    }
    *ret_batch = batch;
    return status;
}

static int receive_request(struct kv_conn *conn, struct kv_slice body, struct kv_error *ret_error)
{
    struct kv_decoded_request decoded;
    struct kv_net_batch *batch = NULL;
    int status = decode(conn, body, &batch, &decoded, ret_error);

    if (status != 0) {
        return status;
    }
    kv_stats_add(&conn->thread->stats.requests, 1);
    if (kv_id_table_find(&conn->requests, decoded.request->id)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the id %llu is in use: it is free again after its final reply",
                            (unsigned long long)decoded.request->id);
    }
    if (decoded.status == 0) {
        bool waits = waits_long(decoded.request);

        decoded.status = submit(conn, batch, &decoded);
        if (waits) {
            kv_net_thread_send(conn->thread);
        }
    }
    if (decoded.status != 0) {
        answer_error(conn,
                     decoded.request->id,
                     kv_command_is_stream(decoded.cls),
                     decoded.status,
                     decoded.error.message,
                     decoded.limit,
                     decoded.limit_value);
    }
    return 0;
}

/* Something about a request that is under way; one that has ended meanwhile needs nothing. */
static int add_item(struct kv_conn *conn,
                    enum kv_net_item_type type,
                    uint64_t id,
                    uint64_t credit,
                    struct kv_error *ret_error)
{
    struct kv_net_request *request = kv_id_table_find(&conn->requests, id);
    struct kv_net_batch *batch;
    struct kv_net_item *item;

    if (!request) {
        return 0;
    }
    batch = kv_net_thread_batch(conn->thread);
    item = batch ? new_item(batch, type, request) : NULL;
    if (!item) {
        return kv_error_set(ret_error, KV_BUSY, "the server has no memory for a request");
    }
    item->credit = credit;
    atomic_fetch_add_explicit(&request->batch->references, 1, memory_order_relaxed);
    kv_net_thread_add(conn->thread, item);
    return 0;
}

static void send_hello_reply(struct kv_conn *conn)
{
    const struct kv_node_status *status = kv_net_thread_status(conn->thread);
    Kv__HelloReply reply = KV__HELLO_REPLY__INIT;
    Kv__Limits limits = KV__LIMITS__INIT;

    limits.key_bytes = KV_KEY_BYTES_MAX;
    limits.value_bytes = status->settings.value_bytes;
    limits.request_bytes = KV_REQUEST_BYTES_MAX;
    limits.reply_bytes = status->settings.reply_bytes;
    limits.work_elements = status->settings.work_elements;
    limits.connection_requests = KV_CONNECTION_REQUESTS_MAX;
    reply.protocol_version = KV_PROTOCOL_VERSION;
    reply.cluster_id = status->cluster_id;
    reply.node_id = status->node_id;
    reply.leader_id = status->leader_id;
    reply.leader_address = (char *)(uintptr_t)status->leader_address;
    reply.lz4 = conn->lz4;
    reply.limits = &limits;
    reply.server_version = (char *)(uintptr_t)conn->thread->server->options.version;
    reply.machine_version = KV_MACHINE_VERSION;
    kv_conn_send(conn, KV_FRAME_HELLO_REPLY, &reply.base);
}

static int receive_hello(struct kv_conn *conn, struct kv_slice body, struct kv_error *ret_error)
{
    struct kv_decoded_hello hello;
    int status = kv_decode_hello(body, &hello, ret_error);

    if (status != 0) {
        return status;
    }
    conn->hello_done = true;
    conn->lz4 = hello.lz4;
    send_hello_reply(conn);
    return 0;
}

static int
receive_body(struct kv_conn *conn, uint8_t kind, struct kv_slice body, struct kv_error *ret_error)
{
    uint64_t credit = 0;
    uint64_t id;
    int status;

    if (!conn->hello_done) {
        return kind == KV_FRAME_HELLO
                   ? receive_hello(conn, body, ret_error)
                   : kv_error_set(ret_error, KV_INVALID, "the first frame must be a hello");
    }
    switch (kind) {
    case KV_FRAME_REQUEST:
        return receive_request(conn, body, ret_error);
    case KV_FRAME_CANCEL:
        status = kv_decode_cancel(body, &id, ret_error);
        return status == 0 ? add_item(conn, KV_ITEM_CANCEL, id, 0, ret_error) : status;
    case KV_FRAME_CREDIT:
        status = kv_decode_credit(body, &id, &credit, ret_error);
        return status == 0 ? add_item(conn, KV_ITEM_CREDIT, id, credit, ret_error) : status;
    default:
        return kv_error_set(ret_error, KV_INVALID, "a client sends no frame of kind %u here", kind);
    }
}

int kv_conn_receive_frame(struct kv_conn *conn,
                          const struct kv_frame *frame,
                          struct kv_error *ret_error)
{
    struct kv_slice body;
    uint8_t *raw;
    int status = kv_decode_body(frame, conn->lz4, &body, &raw, ret_error);

    if (status == 0) {
        status = receive_body(conn, frame->kind, body, ret_error);
        free(raw);
    }
    return status;
}

void kv_conn_cancel_all(struct kv_conn *conn)
{
    struct kv_error error;

    for (size_t i = 0; i < conn->requests.capacity; i++) {
        struct kv_net_request *request = conn->requests.slots[i];

        /* Without memory for it the request ends by its deadline. */
        if (request) {
            (void)!add_item(conn, KV_ITEM_CANCEL, request->id, 0, &error);
        }
    }
}
