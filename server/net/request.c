/* From frames to requests for the core: scanned, unpacked, classified, validated. Runs on a network
 * thread. */
#include "common/assert.h"
#include "server/net/net_internal.h"

#include <stdlib.h>
#include <string.h>

enum { PROTOCOL_VERSION = 1 };

/* An answer that the core need not be asked for. */
static void
answer_error(struct kv_conn *conn, uint64_t id, bool is_stream, int status, const char *message)
{
    Kv__Hint hint = KV__HINT__INIT;

    if (status == KV_TOO_LARGE) {
        hint.limit = (char *)(uintptr_t) "request";
    }
    if (is_stream) {
        Kv__StreamItem item = KV__STREAM_ITEM__INIT;

        item.id = id;
        item.end = true;
        item.code = (Kv__Code)-status;
        item.message = (char *)(uintptr_t)message;
        kv_conn_send(conn, KV_FRAME_STREAM_ITEM, &item.base);
    } else {
        Kv__Reply reply = KV__REPLY__INIT;

        reply.id = id;
        reply.code = (Kv__Code)-status;
        reply.message = (char *)(uintptr_t)message;
        reply.hint = &hint;
        kv_conn_send(conn, KV_FRAME_REPLY, &reply.base);
    }
}

static uint64_t deadline_of(struct kv_conn *conn, const Kv__Request *request)
{
    uint64_t ms = request->deadline_ms ? request->deadline_ms : KV_DEADLINE_DEFAULT_MS;

    ms = ms < KV_DEADLINE_MAX_MS ? ms : KV_DEADLINE_MAX_MS;
    return conn->thread->server->options.now_ns() + ms * 1000000;
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

/* Copies and unpacks into the batch. NULL: malformed, or no memory. */
static const Kv__Request *unpack(struct kv_net_batch *batch, struct kv_slice *bytes)
{
    ProtobufCAllocator allocator;

    bytes->data = kv_arena_copy(&batch->arena, bytes->data, bytes->size);
    if (!bytes->data) {
        return NULL;
    }
    kv_arena_protobuf_allocator(&batch->arena, &allocator);
    return kv__request__unpack(&allocator, bytes->size, bytes->data);
}

static int submit(struct kv_conn *conn,
                  struct kv_net_batch *batch,
                  const Kv__Request *request,
                  struct kv_slice bytes,
                  enum kv_command_class cls)
{
    struct kv_net_request *net_request = kv_arena_alloc(&batch->arena, sizeof *net_request);
    struct kv_net_item *item = new_item(batch, KV_ITEM_REQUEST, net_request);

    if (!net_request || !item) {
        return KV_BUSY;
    }
    memset(net_request, 0, sizeof *net_request);
    net_request->conn = conn;
    net_request->batch = batch;
    net_request->id = request->id;
    net_request->is_stream = cls == KV_COMMAND_STREAM;
    net_request->op.request = request;
    net_request->op.bytes = bytes;
    net_request->op.cls = cls;
    net_request->op.deadline_ns = deadline_of(conn, request);
    if (kv_id_table_add(&conn->requests, net_request) != 0) {
        return KV_BUSY;
    }
    atomic_fetch_add_explicit(&batch->references, 1, memory_order_relaxed);
    kv_net_thread_add(conn->thread, item);
    atomic_fetch_add_explicit(&conn->thread->server->requests, 1, memory_order_relaxed);
    return 0;
}

static int receive_request(struct kv_conn *conn, struct kv_slice bytes, struct kv_error *ret_error)
{
    struct kv_net_batch *batch = kv_net_thread_batch(conn->thread);
    const struct kv_node_status *status = kv_net_thread_status(conn->thread);
    const Kv__Request *request;
    enum kv_command_class cls;
    struct kv_error error;
    bool unknown = false;
    int code;

    if (!batch) {
        return kv_error_set(ret_error, KV_BUSY, "the server has no memory for the request");
    }
    code =
        kv_proto_scan(&kv__request__descriptor, bytes, KV_DECODED_BYTES_MAX, &unknown, ret_error);
    if (code != 0) {
        return code;
    }
    request = unpack(batch, &bytes);
    if (!request) {
        return kv_error_set(
            ret_error, KV_INVALID, "a request is malformed, or there is no memory for it");
    }
    if (kv_id_table_find(&conn->requests, request->id)) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "the id %llu is in use: it is free again after its final reply",
                            (unsigned long long)request->id);
    }
    cls = kv_command_classify(request);
    code = kv_command_validate(request, &status->settings, &error);
    if (code == 0 && unknown && cls == KV_COMMAND_WRITE) {
        code = kv_error_set(
            &error, KV_INVALID, "the write has a field that this server does not know");
    }
    if (code == 0) {
        code = submit(conn, batch, request, bytes, cls);
        error.message[0] = '\0';
    }
    if (code != 0) {
        answer_error(conn, request->id, cls == KV_COMMAND_STREAM, code, error.message);
    }
    return 0;
}

static int receive_cancel(struct kv_conn *conn, struct kv_slice bytes, struct kv_error *ret_error)
{
    Kv__Cancel *cancel = kv__cancel__unpack(NULL, bytes.size, bytes.data);
    struct kv_net_batch *batch = kv_net_thread_batch(conn->thread);
    struct kv_net_request *request;
    struct kv_net_item *item;

    if (!cancel || !batch) {
        return kv_error_set(ret_error, KV_INVALID, "a cancel is malformed");
    }
    request = kv_id_table_find(&conn->requests, cancel->id);
    kv__cancel__free_unpacked(cancel, NULL);
    item = request ? new_item(batch, KV_ITEM_CANCEL, request) : NULL;
    if (item) {
        atomic_fetch_add_explicit(&request->batch->references, 1, memory_order_relaxed);
        kv_net_thread_add(conn->thread, item);
    }
    return 0;
}

static int receive_credit(struct kv_conn *conn, struct kv_slice bytes, struct kv_error *ret_error)
{
    Kv__Credit *credit = kv__credit__unpack(NULL, bytes.size, bytes.data);
    struct kv_net_batch *batch = kv_net_thread_batch(conn->thread);
    struct kv_net_request *request;
    struct kv_net_item *item;

    if (!credit || !batch) {
        return kv_error_set(ret_error, KV_INVALID, "a credit is malformed");
    }
    request = kv_id_table_find(&conn->requests, credit->id);
    item = request ? new_item(batch, KV_ITEM_CREDIT, request) : NULL;
    if (item) {
        item->credit = credit->bytes;
        atomic_fetch_add_explicit(&request->batch->references, 1, memory_order_relaxed);
        kv_net_thread_add(conn->thread, item);
    }
    kv__credit__free_unpacked(credit, NULL);
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
    reply.protocol_version = PROTOCOL_VERSION;
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

static int receive_hello(struct kv_conn *conn, struct kv_slice bytes, struct kv_error *ret_error)
{
    Kv__Hello *hello;
    bool unknown;
    int status = kv_proto_scan(&kv__hello__descriptor, bytes, 64 * KV_KIB, &unknown, ret_error);

    if (status != 0) {
        return status;
    }
    hello = kv__hello__unpack(NULL, bytes.size, bytes.data);
    if (!hello) {
        return kv_error_set(ret_error, KV_INVALID, "the hello is malformed");
    }
    if (hello->protocol_version != PROTOCOL_VERSION ||
        strlen(hello->client_name) > KV_NAME_BYTES_MAX) {
        status = kv_error_set(
            ret_error,
            KV_INVALID,
            "protocol version %u is not known here, %u is; a client name has at most %u bytes",
            hello->protocol_version,
            PROTOCOL_VERSION,
            KV_NAME_BYTES_MAX);
    } else {
        conn->lz4 = hello->lz4;
        conn->hello_done = true;
        send_hello_reply(conn);
    }
    kv__hello__free_unpacked(hello, NULL);
    return status;
}

static int
receive_body(struct kv_conn *conn, uint8_t kind, struct kv_slice body, struct kv_error *ret_error)
{
    if (!conn->hello_done) {
        return kind == KV_FRAME_HELLO
                   ? receive_hello(conn, body, ret_error)
                   : kv_error_set(ret_error, KV_INVALID, "the first frame must be a hello");
    }
    switch (kind) {
    case KV_FRAME_REQUEST:
        return receive_request(conn, body, ret_error);
    case KV_FRAME_CANCEL:
        return receive_cancel(conn, body, ret_error);
    case KV_FRAME_CREDIT:
        return receive_credit(conn, body, ret_error);
    default:
        return kv_error_set(ret_error, KV_INVALID, "a client sends no frame of kind %u here", kind);
    }
}

int kv_conn_receive_frame(struct kv_conn *conn,
                          const struct kv_frame *frame,
                          struct kv_error *ret_error)
{
    uint8_t *raw;
    size_t size;
    int status;

    if (!(frame->flags & KV_FRAME_FLAG_LZ4)) {
        return receive_body(conn, frame->kind, frame->body, ret_error);
    }
    if (!conn->lz4) {
        return kv_error_set(
            ret_error, KV_INVALID, "a compressed frame, but lz4 was not offered in the hello");
    }
    status = kv_frame_decompress(frame->body, KV_REQUEST_BYTES_MAX, &raw, &size);
    if (status != 0) {
        return kv_error_set(ret_error,
                            status,
                            "a compressed frame is malformed, or larger than %llu bytes",
                            KV_REQUEST_BYTES_MAX);
    }
    status = receive_body(conn, frame->kind, kv_slice_of(raw, size), ret_error);
    free(raw);
    return status;
}

void kv_conn_cancel_all(struct kv_conn *conn)
{
    for (size_t i = 0; i < conn->requests.capacity; i++) {
        struct kv_net_request *request = conn->requests.slots[i];
        struct kv_net_batch *batch = request ? kv_net_thread_batch(conn->thread) : NULL;
        struct kv_net_item *item = batch ? new_item(batch, KV_ITEM_CANCEL, request) : NULL;

        /* Without memory the request ends by its deadline. */
        if (item) {
            atomic_fetch_add_explicit(&request->batch->references, 1, memory_order_relaxed);
            kv_net_thread_add(conn->thread, item);
        }
    }
}
