/* Connections: which endpoint to use, hello, frames in and out. */
#include "client/session_internal.h"
#include "proto/frame.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROTOCOL_VERSION = 1, FRAME_FIELDS_BYTES_MAX = 2 + 10 + 5 };
/* Tags of kv.proto's Request: field number << 3 | varint. */
enum { TAG_ID = 1 << 3, TAG_DEADLINE_MS = 2 << 3 };
/* The server stops waiting a little earlier than we do, so that its own words arrive. */
enum { DEADLINE_SHARE = 10, DEADLINE_EARLY_MS_MAX = 50 };

static unsigned index_of(const struct kv_session *session, const struct kv_endpoint *endpoint)
{
    return (unsigned)(endpoint - session->endpoints);
}

static bool is_usable(const struct kv_session *session, unsigned i)
{
    return i != KV_SESSION_NONE && session->endpoints[i].state == KV_LINK_READY &&
           !session->endpoints[i].stalled;
}

/* ---------------------------------------------------------------- going down */

static void reset_link(struct kv_endpoint *endpoint)
{
    endpoint->state = KV_LINK_IDLE;
    endpoint->stalled = false;
    endpoint->n_abandoned = 0;
    kv_buf_clear(&endpoint->in);
    kv_buf_clear(&endpoint->out);
}

/* What was sent, newest first so that the queue keeps the order: back to the queue where that is
 * safe, to an end where it is not. */
static void empty_sent(struct kv_session *session, struct kv_endpoint *endpoint, const char *reason)
{
    while (endpoint->sent.last) {
        struct kv_request *request = endpoint->sent.last;
        bool unsent = request->out_end > endpoint->taken_bytes;

        if (unsent || (request->repeatable && !request->had_items)) {
            request->maybe_done = request->maybe_done || !unsent;
            kv_request_note(session,
                            request,
                            request->maybe_done && !request->read ? KV_OUTCOME_UNKNOWN : KV_CLOSED,
                            reason);
            kv_request_list_remove(request);
            request->state = KV_REQUEST_QUEUED;
            kv_request_list_push_front(&session->queue, request);
            continue;
        }
        kv_session_end_error(session,
                             request,
                             KV_OUTCOME_UNKNOWN,
                             "the connection to %s was lost (%s) before its answer%s",
                             endpoint->address,
                             reason,
                             request->had_items ? " was complete"
                                                : ": the request may or may not have been done");
    }
}

void kv_endpoint_lose(struct kv_session *session,
                      uint64_t now_ns,
                      struct kv_endpoint *endpoint,
                      const char *reason)
{
    unsigned i = index_of(session, endpoint);

    snprintf(endpoint->error, sizeof endpoint->error, "%s", reason);
    endpoint->connect_wanted = false;
    endpoint->close_wanted = true;
    endpoint->failures++;
    endpoint->retry_at_ns = now_ns + kv_session_backoff_ns(session,
                                                           endpoint->failures,
                                                           KV_CLIENT_RECONNECT_MIN_MS,
                                                           KV_CLIENT_RECONNECT_MAX_MS);
    if (session->current == i) {
        session->current = KV_SESSION_NONE;
    }
    if (session->want == i) {
        session->want = KV_SESSION_NONE;
    }
    session->next_try = (i + 1) % session->n_endpoints;
    empty_sent(session, endpoint, endpoint->error);
    reset_link(endpoint);
}

void kv_endpoint_drain(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    unsigned i = index_of(session, endpoint);

    if (endpoint->state != KV_LINK_READY) {
        return;
    }
    endpoint->state = KV_LINK_DRAINING;
    endpoint->failures++;
    endpoint->retry_at_ns = now_ns + KV_CLIENT_RECONNECT_MAX_MS * KV_NS_PER_MS;
    snprintf(endpoint->error, sizeof endpoint->error, "it is shutting down");
    if (session->current == i) {
        session->current = KV_SESSION_NONE;
    }
    if (session->want == i) {
        session->want = KV_SESSION_NONE;
    }
    session->next_try = (i + 1) % session->n_endpoints;
}

/* ---------------------------------------------------------------- where to go */

/* The endpoint of this address; a new one, or one forgotten for it; KV_SESSION_NONE: no room. */
static unsigned learn(struct kv_session *session, const char *text)
{
    char addresses[KV_CLIENT_ENDPOINTS_MAX][KV_CLIENT_ADDRESS_BYTES];
    unsigned slot = KV_SESSION_NONE;
    size_t count;

    if (kv_endpoints_parse(text, addresses, &count, NULL) < 0 || count != 1) {
        return KV_SESSION_NONE;
    }
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        if (strcmp(session->endpoints[i].address, addresses[0]) == 0) {
            return i;
        }
        if (session->endpoints[i].learned && session->endpoints[i].state == KV_LINK_IDLE &&
            i != session->want) {
            slot = i;
        }
    }
    if (session->n_endpoints < KV_CLIENT_ENDPOINTS_MAX) {
        slot = session->n_endpoints++;
    }
    if (slot != KV_SESSION_NONE) {
        struct kv_endpoint *endpoint = &session->endpoints[slot];

        memcpy(endpoint->address, addresses[0], sizeof endpoint->address);
        endpoint->learned = true;
        endpoint->failures = 0;
        endpoint->node_id = 0;
        endpoint->retry_at_ns = 0;
        endpoint->error[0] = '\0';
    }
    return slot;
}

void kv_session_hint(struct kv_session *session, uint64_t leader_id, const char *address)
{
    unsigned found = KV_SESSION_NONE;

    for (unsigned i = 0; leader_id != 0 && i < session->n_endpoints; i++) {
        if (session->endpoints[i].node_id == leader_id) {
            found = i;
        }
    }
    if (found == KV_SESSION_NONE && address[0] != '\0') {
        found = learn(session, address);
    }
    if (found != KV_SESSION_NONE && session->endpoints[found].state != KV_LINK_DRAINING) {
        session->want = found == session->current ? KV_SESSION_NONE : found;
    }
}

void kv_session_turn_away(struct kv_session *session, const struct kv_endpoint *endpoint)
{
    unsigned i = index_of(session, endpoint);
    unsigned next = (i + 1) % session->n_endpoints;

    /* Many requests may say the same: only the first turns. */
    if (next != i && session->current == i &&
        (session->want == KV_SESSION_NONE || session->want == i)) {
        session->want = next;
    }
}

static void start_connect(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    reset_link(endpoint);
    endpoint->state = KV_LINK_CONNECTING;
    endpoint->connect_wanted = true;
    endpoint->since_ns = now_ns;
    kv_session_wake_at(session, now_ns + KV_CLIENT_CONNECT_TIMEOUT_MS * KV_NS_PER_MS);
    session->next_try = (index_of(session, endpoint) + 1) % session->n_endpoints;
}

static void choose_current(struct kv_session *session)
{
    if (is_usable(session, session->want)) {
        session->current = session->want;
        session->want = KV_SESSION_NONE;
    }
    if (is_usable(session, session->current)) {
        return;
    }
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        if (is_usable(session, i)) {
            session->current = i;
            return;
        }
    }
    /* A silent one is better than none. */
    if (session->current != KV_SESSION_NONE &&
        session->endpoints[session->current].state == KV_LINK_READY) {
        return;
    }
    session->current = KV_SESSION_NONE;
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        if (session->endpoints[i].state == KV_LINK_READY) {
            session->current = i;
        }
    }
}

static bool is_connecting(const struct kv_session *session)
{
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        enum kv_link_state state = session->endpoints[i].state;

        if (state == KV_LINK_CONNECTING || state == KV_LINK_GREETING) {
            return true;
        }
    }
    return false;
}

/* Nothing usable: connects to the next one, unless a connection is being made and still young. */
static void connect_any(struct kv_session *session, uint64_t now_ns)
{
    uint64_t overtake_ns = KV_CLIENT_TRY_NEXT_MS * KV_NS_PER_MS;
    unsigned chosen = KV_SESSION_NONE;

    for (unsigned i = 0; i < session->n_endpoints; i++) {
        struct kv_endpoint *endpoint = &session->endpoints[i];

        if ((endpoint->state == KV_LINK_CONNECTING || endpoint->state == KV_LINK_GREETING) &&
            now_ns - endpoint->since_ns < overtake_ns) {
            kv_session_wake_at(session, endpoint->since_ns + overtake_ns);
            return;
        }
    }
    for (unsigned k = 0; k < session->n_endpoints && chosen == KV_SESSION_NONE; k++) {
        unsigned i = (session->next_try + k) % session->n_endpoints;
        struct kv_endpoint *endpoint = &session->endpoints[i];

        if (endpoint->state != KV_LINK_IDLE) {
            continue;
        }
        if (endpoint->retry_at_ns <= now_ns) {
            chosen = i;
        } else {
            kv_session_wake_at(session, endpoint->retry_at_ns);
        }
    }
    if (chosen != KV_SESSION_NONE) {
        start_connect(session, now_ns, &session->endpoints[chosen]);
        kv_session_wake_at(session, now_ns + overtake_ns);
    }
}

static void connect_more(struct kv_session *session, uint64_t now_ns)
{
    if (session->want != KV_SESSION_NONE) {
        struct kv_endpoint *endpoint = &session->endpoints[session->want];

        if (endpoint->state == KV_LINK_IDLE && endpoint->retry_at_ns <= now_ns) {
            start_connect(session, now_ns, endpoint);
        } else if (endpoint->state == KV_LINK_IDLE || endpoint->state == KV_LINK_DRAINING) {
            session->want = KV_SESSION_NONE;
        }
    }
    if (!is_usable(session, session->current)) {
        connect_any(session, now_ns);
    }
}

/* Connections that nobody needs any more. */
static void close_idle(struct kv_session *session)
{
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        struct kv_endpoint *endpoint = &session->endpoints[i];
        bool open = endpoint->state == KV_LINK_READY || endpoint->state == KV_LINK_DRAINING;

        if (open && i != session->current && i != session->want && endpoint->sent.count == 0) {
            reset_link(endpoint);
            endpoint->close_wanted = true;
        }
    }
}

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

/* False: no memory or no room, try later. */
static bool send_request(struct kv_session *session,
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
    frame[size++] = TAG_DEADLINE_MS;
    size += write_varint(frame + size, left_ms ? left_ms : 1);
    memcpy(frame + size, request->body, request->body_size);
    size += request->body_size;
    kv_frame_write_header(frame, KV_FRAME_REQUEST, 0, size - KV_FRAME_HEADER_BYTES);
    endpoint->out.size += size;
    endpoint->out_bytes += size;
    kv_request_list_remove(request);
    request->state = KV_REQUEST_SENT;
    request->endpoint = index_of(session, endpoint);
    request->sent_at_ns = now_ns;
    request->out_end = endpoint->out_bytes;
    kv_request_list_push(&endpoint->sent, request);
    return true;
}

static void send_queue(struct kv_session *session, uint64_t now_ns)
{
    struct kv_endpoint *endpoint;

    if (session->current == KV_SESSION_NONE) {
        return;
    }
    endpoint = &session->endpoints[session->current];
    if (endpoint->stalled && is_connecting(session)) {
        return;
    }
    while (session->queue.first &&
           endpoint->sent.count + endpoint->n_abandoned < endpoint->requests_max) {
        struct kv_request *request = session->queue.first;

        if (now_ns >= request->deadline_ns) {
            /* The timer, which is due, ends it. */
            kv_session_wake_at(session, now_ns);
            return;
        }
        if (!send_request(session, now_ns, endpoint, request)) {
            kv_session_wake_at(session, now_ns + KV_CLIENT_RETRY_MIN_MS * KV_NS_PER_MS);
            return;
        }
        if (session->n_endpoints > 1) {
            kv_session_wake_at(session, now_ns + KV_CLIENT_STALL_MS * KV_NS_PER_MS);
        }
    }
}

static int
send_message(struct kv_endpoint *endpoint, enum kv_frame_kind kind, const ProtobufCMessage *message)
{
    size_t before = endpoint->out.size;
    int status = kv_frame_append(&endpoint->out, kind, message, false);

    endpoint->out_bytes += endpoint->out.size - before;
    return status;
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

/* ---------------------------------------------------------------- receiving */

static ProtobufCMessage *unpack(struct kv_session *session,
                                const ProtobufCMessageDescriptor *descriptor,
                                struct kv_slice body)
{
    ProtobufCAllocator allocator;

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
    Kv__Credit credit = KV__CREDIT__INIT;

    if (!request) {
        return on_unwanted(endpoint, item->end, error);
    }
    if (!request->item_fn) {
        return kv_error_set(error, KV_INVALID, "a stream came where one answer was asked");
    }
    if (item->item_case != KV__STREAM_ITEM__ITEM__NOT_SET && item->code == KV__CODE__OK) {
        request->had_items = true;
        request->item_fn(request->arg, item);
        /* It may have been cancelled. */
        request = kv_session_find(session, item->id);
    }
    if (!request) {
        return 0;
    }
    if (!item->end) {
        credit.id = item->id;
        credit.bytes = size;
        return send_message(endpoint, KV_FRAME_CREDIT, &credit.base);
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

/* ---------------------------------------------------------------- events of the driver */

void kv_session_on_connected(struct kv_session *session, uint64_t now_ns, unsigned i)
{
    struct kv_endpoint *endpoint = &session->endpoints[i];
    Kv__Hello hello = KV__HELLO__INIT;

    if (endpoint->state != KV_LINK_CONNECTING) {
        return;
    }
    session->steering_held = true;
    hello.protocol_version = PROTOCOL_VERSION;
    hello.client_name = session->name;
    hello.lz4 = session->compress;
    endpoint->state = KV_LINK_GREETING;
    if (send_message(endpoint, KV_FRAME_HELLO, &hello.base) < 0) {
        kv_endpoint_lose(session, now_ns, endpoint, "out of memory");
    }
    session->steering_held = false;
    kv_session_steer(session, now_ns);
}

void kv_session_on_closed(struct kv_session *session,
                          uint64_t now_ns,
                          unsigned i,
                          const char *reason)
{
    struct kv_endpoint *endpoint = &session->endpoints[i];

    if (endpoint->state == KV_LINK_IDLE) {
        return;
    }
    session->steering_held = true;
    if (endpoint->state == KV_LINK_DRAINING) {
        /* It said why before. */
        char said[sizeof endpoint->error];

        memcpy(said, endpoint->error, sizeof said);
        reason = said;
        kv_endpoint_lose(session, now_ns, endpoint, reason);
    } else {
        kv_endpoint_lose(session, now_ns, endpoint, reason);
    }
    endpoint->close_wanted = false;
    session->steering_held = false;
    kv_session_steer(session, now_ns);
}

void kv_endpoint_on_timer(struct kv_session *session, uint64_t now_ns, struct kv_endpoint *endpoint)
{
    uint64_t stall_ns = KV_CLIENT_STALL_MS * KV_NS_PER_MS;
    uint64_t limit_ns = endpoint->since_ns + KV_CLIENT_CONNECT_TIMEOUT_MS * KV_NS_PER_MS;
    uint64_t base_ns;

    if (endpoint->state == KV_LINK_CONNECTING || endpoint->state == KV_LINK_GREETING) {
        if (now_ns >= limit_ns) {
            kv_endpoint_lose(session,
                             now_ns,
                             endpoint,
                             endpoint->state == KV_LINK_CONNECTING
                                 ? "timed out while connecting"
                                 : "connected, but no answer to the hello");
        } else {
            kv_session_wake_at(session, limit_ns);
        }
        return;
    }
    if (endpoint->sent.count == 0 || session->n_endpoints < 2) {
        return;
    }
    base_ns = endpoint->sent.first->sent_at_ns;
    base_ns = endpoint->heard_ns > base_ns ? endpoint->heard_ns : base_ns;
    if (now_ns - base_ns < stall_ns) {
        kv_session_wake_at(session, base_ns + stall_ns);
        return;
    }
    endpoint->stalled = true;
    kv_session_turn_away(session, endpoint);
    for (struct kv_request *request = endpoint->sent.first, *next; request; request = next) {
        next = request->next;
        if (request->read && !request->had_items && now_ns - request->sent_at_ns >= stall_ns) {
            kv_endpoint_send_cancel(session, request);
            kv_session_again(session, now_ns, request, false, KV_CLOSED, "no answer in time");
        }
    }
    kv_session_wake_at(session, now_ns + stall_ns);
}

/* ---------------------------------------------------------------- steering */

/* An impatient client ends its requests as soon as every endpoint has failed. */
static void give_up(struct kv_session *session)
{
    char endpoints[KV_ERROR_MESSAGE_SIZE];

    for (unsigned i = 0; i < session->n_endpoints; i++) {
        if (session->endpoints[i].state != KV_LINK_IDLE || session->endpoints[i].failures == 0) {
            return;
        }
    }
    kv_session_describe(session, endpoints, sizeof endpoints);
    for (size_t i = 0; i < session->n_slots; i++) {
        struct kv_request *request = session->slots[i];
        bool sure = request && (request->read || !request->maybe_done);

        if (request) {
            kv_session_end_error(session,
                                 request,
                                 sure ? KV_CLOSED : KV_OUTCOME_UNKNOWN,
                                 "no endpoint can be reached: %s",
                                 endpoints);
        }
    }
}

void kv_session_steer(struct kv_session *session, uint64_t now_ns)
{
    if (session->steering_held || session->closing) {
        return;
    }
    choose_current(session);
    if (session->n_requests > 0) {
        if (session->impatient) {
            session->steering_held = true;
            give_up(session);
            session->steering_held = false;
        }
        connect_more(session, now_ns);
    }
    send_queue(session, now_ns);
    close_idle(session);
}

bool kv_session_next_action(struct kv_session *session, struct kv_session_action *ret_action)
{
    for (unsigned i = 0; i < session->n_endpoints; i++) {
        struct kv_endpoint *endpoint = &session->endpoints[i];

        if (endpoint->close_wanted || endpoint->connect_wanted) {
            ret_action->kind = endpoint->close_wanted ? KV_SESSION_DISCONNECT : KV_SESSION_CONNECT;
            ret_action->endpoint = i;
            ret_action->address = endpoint->address;
            *(endpoint->close_wanted ? &endpoint->close_wanted : &endpoint->connect_wanted) = false;
            return true;
        }
    }
    return false;
}

bool kv_session_take_output(struct kv_session *session, unsigned i, struct kv_buf *buf)
{
    struct kv_endpoint *endpoint = &session->endpoints[i];
    struct kv_buf taken = endpoint->out;

    if (taken.size == 0 || endpoint->state == KV_LINK_CONNECTING) {
        return false;
    }
    endpoint->out = *buf;
    endpoint->out.max_size = KV_CLIENT_OUT_BYTES_MAX;
    endpoint->taken_bytes = endpoint->out_bytes;
    *buf = taken;
    return true;
}
