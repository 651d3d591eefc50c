/* Frames of a connection: hello, requests and cancels out; answers in. */
#include "client/session_internal.h"
#include "proto/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STAMP_BYTES_MAX = 3 * (1 + 10) };
enum { PROTOCOL_VERSION = 1, FRAME_FIELDS_BYTES_MAX = 3 + 10 + 5 + 1 + STAMP_BYTES_MAX };
_Static_assert(FRAME_FIELDS_BYTES_MAX <= KV_CLIENT_FIELDS_BYTES, "the largest request is a frame");
/* Tags of kv.proto's Request: field number << 3 | varint (0), or bytes (2). */
enum { TAG_ID = 1 << 3, TAG_DEADLINE_MS = 2 << 3, TAG_SESSION = 4 << 3 | 2 };
/* Shorter messages cannot be nested deep enough to do harm. */
enum { SCAN_FROM_BYTES = 512 };
/* The server stops waiting a little earlier than we do, so that its own words arrive. */
enum { DEADLINE_SHARE = 10, DEADLINE_EARLY_MS_MAX = 50 };

/* ---------------------------------------------------------------- sending */

static size_t write_varint(uint8_t *p, uint64_t value)
{
    size_t size = 0;

    while (value >= 0x80) {
        p[size++] = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    p[size++] = (uint8_t)value;
    return size;
}

static size_t
write_stamp(uint8_t *p, const struct kv_session *session, const struct kv_request *request)
{
    Kv__SessionStamp stamp;
    size_t size;

    if (request->sequence == 0) {
        return 0;
    }
    kv_once_fill(session, request, &stamp);
    size = kv__session_stamp__pack(&stamp, p + 2);
    KV_ASSERT(size <= STAMP_BYTES_MAX);
    p[0] = TAG_SESSION;
    p[1] = (uint8_t)size;
    return size + 2;
}

bool kv_endpoint_send(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_endpoint *endpoint,
                      struct kv_request *request)
{
    uint64_t left_ms = (request->deadline_ns - now_ns) / KV_NS_PER_MS;
    uint64_t early_ms = left_ms / DEADLINE_SHARE;
    uint8_t *frame;
    size_t size = KV_FRAME_HEADER_BYTES;

    left_ms -= early_ms < DEADLINE_EARLY_MS_MAX ? early_ms : DEADLINE_EARLY_MS_MAX;
    frame = kv_buf_reserve(&endpoint->out,
                           KV_FRAME_HEADER_BYTES + FRAME_FIELDS_BYTES_MAX + request->body_size);
    if (!frame) {
        return false;
    }
    kv_session_stamp(session, request);
    frame[size++] = TAG_ID;
    size += write_varint(frame + size, request->wire_id);
    if (!request->endless) {
        frame[size++] = TAG_DEADLINE_MS;
        size += write_varint(frame + size, left_ms ? left_ms : 1);
    }
    size += write_stamp(frame + size, session, request);
    memcpy(frame + size, request->body, request->body_size);
    size += request->body_size;
    kv_frame_write_header(frame, KV_FRAME_REQUEST, 0, size - KV_FRAME_HEADER_BYTES);
    endpoint->out.size += size;
    endpoint->out_bytes += size;
    kv_request_list_remove(request);
    request->state = KV_REQUEST_SENT;
    request->endpoint = (unsigned)(endpoint - session->endpoints);
    request->sent_at_ns = now_ns;
    request->credit_owed = 0;
    request->out_end = endpoint->out_bytes;
    kv_request_list_push(&endpoint->sent, request);
    return true;
}

static int
send_message(struct kv_endpoint *endpoint, enum kv_frame_kind kind, const ProtobufCMessage *message)
{
    size_t before = endpoint->out.size;
    int status = kv_frame_append(&endpoint->out, kind, message, false);

    endpoint->out_bytes += endpoint->out.size - before;
    return status;
}

int kv_endpoint_send_hello(struct kv_session *session, struct kv_endpoint *endpoint)
{
    Kv__Hello hello = KV__HELLO__INIT;

    hello.protocol_version = PROTOCOL_VERSION;
    hello.client_name = session->name;
    hello.lz4 = session->compress;
    return send_message(endpoint, KV_FRAME_HELLO, &hello.base);
}

int kv_endpoint_send_probe(struct kv_session *session, struct kv_endpoint *endpoint)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Status status = KV__STATUS__INIT;

    request.id = kv_session_spare_id(session);
    request.command_case = KV__REQUEST__COMMAND_STATUS;
    request.status = &status;
    endpoint->n_abandoned++;
    return send_message(endpoint, KV_FRAME_REQUEST, &request.base);
}

void kv_endpoint_send_cancel(struct kv_session *session, struct kv_request *request)
{
    struct kv_endpoint *endpoint = &session->endpoints[request->endpoint];
    Kv__Cancel cancel = KV__CANCEL__INIT;

    cancel.id = request->wire_id;
    endpoint->n_abandoned++;
    if (send_message(endpoint, KV_FRAME_CANCEL, &cancel.base) < 0) {
        /* It saves the server work; without it the answer comes and is dropped. */
        return;
    }
}

int kv_endpoint_send_credit(struct kv_session *session, struct kv_request *request)
{
    Kv__Credit credit = KV__CREDIT__INIT;

    /* A stream that goes on for ever is not worth a frame per item. */
    if (request->held || request->credit_owed == 0 ||
        (request->endless && request->credit_owed < KV_CLIENT_STREAM_CREDIT_BYTES / 4)) {
        return 0;
    }
    credit.id = request->wire_id;
    credit.bytes = request->credit_owed;
    request->credit_owed = 0;
    return send_message(&session->endpoints[request->endpoint], KV_FRAME_CREDIT, &credit.base);
}

/* ---------------------------------------------------------------- receiving */

static ProtobufCMessage *unpack(struct kv_session *session,
                                const ProtobufCMessageDescriptor *descriptor,
                                struct kv_slice body)
{
    ProtobufCAllocator allocator;
    bool unknown;

    if (body.size >= SCAN_FROM_BYTES &&
        kv_proto_scan(descriptor, body, KV_DECODED_BYTES_MAX, &unknown, NULL) < 0) {
        return NULL;
    }
    kv_arena_reset(&session->arena);
    kv_arena_protobuf_allocator(&session->arena, &allocator);
    return protobuf_c_message_unpack(descriptor, &allocator, body.size, body.data);
}

static int on_hello_reply(struct kv_session *session,
                          struct kv_endpoint *endpoint,
                          const Kv__HelloReply *hello,
                          struct kv_error *error)
{
    if (hello->code != KV__CODE__OK) {
        return kv_error_set(error,
                            KV_INVALID,
                            "refused: %s",
                            hello->message[0] ? hello->message : kv_status_text(-(int)hello->code));
    }
    if (session->cluster_id == 0) {
        session->cluster_id = hello->cluster_id;
    } else if (hello->cluster_id != session->cluster_id) {
        return kv_error_set(error,
                            KV_WRONG_NODE,
                            "it belongs to cluster %016llx, the other endpoints to %016llx",
                            (unsigned long long)hello->cluster_id,
                            (unsigned long long)session->cluster_id);
    }
    endpoint->state = KV_LINK_READY;
    endpoint->failures = 0;
    endpoint->error[0] = '\0';
    endpoint->node_id = hello->node_id;
    endpoint->requests_max = KV_CONNECTION_REQUESTS_MAX;
    if (hello->limits && hello->limits->connection_requests > 0 &&
        hello->limits->connection_requests < endpoint->requests_max) {
        endpoint->requests_max = (size_t)hello->limits->connection_requests;
    }
    if (!session->stay && hello->leader_id != 0 && hello->leader_id != hello->node_id) {
        kv_session_hint(session, hello->leader_id, hello->leader_address);
    }
    return 0;
}

/* An answer to what nobody waits for any more, or to nothing that was asked. */
static int on_unwanted(struct kv_endpoint *endpoint, bool final, struct kv_error *error)
{
    if (endpoint->n_abandoned == 0) {
        return kv_error_set(error, KV_INVALID, "it answered a request that was not made");
    }
    endpoint->n_abandoned -= final ? 1 : 0;
    return 0;
}

static int on_item(struct kv_session *session,
                   uint64_t now_ns,
                   struct kv_endpoint *endpoint,
                   const Kv__StreamItem *item,
                   size_t size,
                   struct kv_error *error)
{
    struct kv_request *request = kv_session_find(session, item->id);
    Kv__Reply reply = KV__REPLY__INIT;

    if (!request) {
        return on_unwanted(endpoint, item->end, error);
    }
    if (!request->item_fn) {
        return kv_error_set(error, KV_INVALID, "a stream came where one answer was asked");
    }
    if (item->item_case != KV__STREAM_ITEM__ITEM__NOT_SET && item->code == KV__CODE__OK) {
        request->had_items = true;
        kv_stream_begun(session, now_ns, request);
        request->item_fn(request->arg, item);
        /* It may have been cancelled. */
        request = kv_session_find(session, item->id);
    }
    if (!request) {
        return 0;
    }
    if (!item->end) {
        request->credit_owed += size;
        return kv_endpoint_send_credit(session, request);
    }
    reply.id = item->id;
    reply.code = item->code;
    reply.message = item->message;
    reply.hint = item->hint;
    reply.revision = item->revision;
    kv_session_answered(session, now_ns, request, &reply, (struct kv_slice){0});
    return 0;
}

static int on_reply(struct kv_session *session,
                    uint64_t now_ns,
                    struct kv_endpoint *endpoint,
                    const Kv__Reply *reply,
                    struct kv_slice packed,
                    struct kv_error *error)
{
    struct kv_request *request = kv_session_find(session, reply->id);

    if (!request) {
        return on_unwanted(endpoint, true, error);
    }
    kv_session_answered(session, now_ns, request, reply, packed);
    return 0;
}

static void on_goodbye(struct kv_session *session,
                       uint64_t now_ns,
                       struct kv_endpoint *endpoint,
                       const Kv__Goodbye *goodbye)
{
    kv_endpoint_drain(session, now_ns, endpoint);
    if (goodbye->message[0] != '\0') {
        snprintf(endpoint->error, sizeof endpoint->error, "it is closing: %s", goodbye->message);
    }
    if (goodbye->leader_address[0] != '\0') {
        kv_session_hint(session, 0, goodbye->leader_address);
    }
}

static int on_message(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_endpoint *endpoint,
                      uint8_t kind,
                      struct kv_slice body,
                      struct kv_error *error)
{
    static const ProtobufCMessageDescriptor *const descriptors[] = {
        [KV_FRAME_REPLY] = &kv__reply__descriptor,
        [KV_FRAME_STREAM_ITEM] = &kv__stream_item__descriptor,
        [KV_FRAME_HELLO_REPLY] = &kv__hello_reply__descriptor,
        [KV_FRAME_GOODBYE] = &kv__goodbye__descriptor,
    };
    bool greeting = endpoint->state == KV_LINK_GREETING;
    ProtobufCMessage *message = NULL;

    if (kind < sizeof descriptors / sizeof descriptors[0] && descriptors[kind] &&
        (kind == KV_FRAME_GOODBYE || greeting == (kind == KV_FRAME_HELLO_REPLY))) {
        message = unpack(session, descriptors[kind], body);
        if (!message) {
            return kv_error_set(error, KV_INVALID, "malformed %s", descriptors[kind]->short_name);
        }
    }
    switch (message ? kind : 0) {
    case KV_FRAME_REPLY:
        return on_reply(session, now_ns, endpoint, (Kv__Reply *)message, body, error);
    case KV_FRAME_STREAM_ITEM:
        return on_item(session, now_ns, endpoint, (Kv__StreamItem *)message, body.size, error);
    case KV_FRAME_HELLO_REPLY:
        return on_hello_reply(session, endpoint, (Kv__HelloReply *)message, error);
    case KV_FRAME_GOODBYE:
        if (greeting) {
            return kv_error_set(error, KV_CLOSED, "refused: %s", ((Kv__Goodbye *)message)->message);
        }
        on_goodbye(session, now_ns, endpoint, (Kv__Goodbye *)message);
        return 0;
    default:
        return kv_error_set(error, KV_INVALID, "unexpected frame of kind %u", kind);
    }
}

static int on_frame(struct kv_session *session,
                    uint64_t now_ns,
                    struct kv_endpoint *endpoint,
                    const struct kv_frame *frame,
                    struct kv_error *error)
{
    struct kv_slice body = frame->body;
    uint8_t *raw = NULL;
    int status;

    if (frame->flags & KV_FRAME_FLAG_LZ4) {
        status = session->compress
                     ? kv_frame_decompress(body, KV_REPLY_FRAME_BYTES_MAX, &raw, &body.size)
                     : KV_INVALID;
        if (status < 0) {
            return kv_error_set(error, status, "a compressed frame that cannot be read");
        }
        body.data = raw;
    }
    status = on_message(session, now_ns, endpoint, frame->kind, body, error);
    free(raw);
    return status;
}

/* All whole frames of `input`; *ret_used says how far. */
static int on_frames(struct kv_session *session,
                     uint64_t now_ns,
                     struct kv_endpoint *endpoint,
                     struct kv_slice input,
                     size_t *ret_used,
                     struct kv_error *error)
{
    size_t used = 0;
    int status = 0;

    while (status == 0) {
        struct kv_frame frame;
        int64_t size = kv_frame_peek(kv_slice_of(input.data + used, input.size - used),
                                     KV_REPLY_FRAME_BYTES_MAX,
                                     &frame,
                                     error);

        if (size <= 0) {
            status = (int)size;
            break;
        }
        used += (size_t)size;
        status = on_frame(session, now_ns, endpoint, &frame, error);
    }
    *ret_used = used;
    return status;
}

void kv_session_on_bytes(struct kv_session *session,
                         uint64_t now_ns,
                         unsigned i,
                         struct kv_slice bytes)
{
    struct kv_endpoint *endpoint = &session->endpoints[i];
    struct kv_slice input = bytes;
    struct kv_error error = {.message = "out of memory"};
    bool buffered = endpoint->in.size > 0;
    size_t used = 0;
    int status = 0;

    if (endpoint->state < KV_LINK_GREETING || bytes.size == 0) {
        return;
    }
    session->steering_held = true;
    endpoint->heard_ns = now_ns;
    session->now_ns = now_ns;
    endpoint->stalled = false;
    if (buffered) {
        status = kv_buf_append(&endpoint->in, bytes.data, bytes.size);
        input = kv_slice_of(endpoint->in.data, endpoint->in.size);
    }
    if (status == 0) {
        status = on_frames(session, now_ns, endpoint, input, &used, &error);
    }
    if (status == 0 && buffered) {
        kv_buf_consume(&endpoint->in, used);
    } else if (status == 0 && used < input.size) {
        status = kv_buf_append(&endpoint->in, input.data + used, input.size - used);
    }
    if (status < 0) {
        kv_endpoint_lose(session, now_ns, endpoint, error.message);
    }
    session->steering_held = false;
    kv_session_steer(session, now_ns);
}
