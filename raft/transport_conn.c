/* One socket: reading frames, queueing and writing them. */
#include "common/assert.h"
#include "common/log.h"
#include "proto/frame.h"
#include "proto/peer.pb-c.h"
#include "raft/transport_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PROTOCOL_VERSION = 1,
    IN_BYTES_MAX = 1024 * 1024,
    PONG_QUEUE_BYTES_MAX = 4096, /* who does not read them needs no more */
    WRITE_PIECE_BYTES = 256 * 1024,
    HELLO_BYTES_MAX = 4096,
};

struct kv_peer_conn *kv_peer_conn_new(struct kv_transport *transport, bool accepted)
{
    struct kv_peer_conn *conn = calloc(1, sizeof *conn);

    if (!conn || uv_tcp_init(transport->loop, &conn->tcp) != 0) {
        free(conn);
        return NULL;
    }
    conn->transport = transport;
    conn->accepted = accepted;
    conn->tcp.data = conn;
    conn->state = KV_PEER_CONN_HELLO;
    conn->opened_ms = conn->last_alive_ms = conn->last_busy_ms = kv_transport_now_ms(transport);
    conn->turn = transport->turn;
    conn->queue_bytes_max = KV_PEER_QUEUE_BYTES_MAX;
    kv_buf_init(&conn->in, IN_BYTES_MAX);
    kv_buf_init(&conn->urgent, KV_PEER_QUEUE_BYTES_MAX);
    kv_buf_init(&conn->ordered, 2 * KV_PEER_QUEUE_BYTES_MAX);
    kv_buf_init(&conn->writing, 2 * KV_PEER_QUEUE_BYTES_MAX);
    kv_peer_assembly_init(&conn->assemblies[0]);
    kv_peer_assembly_init(&conn->assemblies[1]);
    conn->next = transport->conns;
    transport->conns = conn;
    transport->n_handles++;
    transport->n_accepted += accepted;
    kv_transport_tend_soon(transport);
    return conn;
}

static void on_closed(uv_handle_t *handle)
{
    struct kv_peer_conn *conn = handle->data;
    struct kv_transport *transport = conn->transport;
    struct kv_peer_conn **at = &transport->conns;

    while (*at != conn) {
        at = &(*at)->next;
    }
    *at = conn->next;
    kv_buf_deinit(&conn->in);
    kv_buf_deinit(&conn->urgent);
    kv_buf_deinit(&conn->ordered);
    kv_buf_deinit(&conn->writing);
    kv_peer_assembly_deinit(&conn->assemblies[0]);
    kv_peer_assembly_deinit(&conn->assemblies[1]);
    free(conn);
    kv_transport_handle_closed(transport);
}

void kv_peer_conn_close(struct kv_peer_conn *conn, bool reset)
{
    struct kv_peer_link *link = conn->link;

    if (conn->closing) {
        return;
    }
    conn->closing = true;
    conn->link = NULL;
    conn->transport->n_accepted -= conn->accepted;
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
    if (!link) {
        return;
    }
    link->stats.messages_dropped += conn->n_messages;
    if (link->in == conn) {
        link->in = NULL;
    } else if (link->bulk_in == conn) {
        link->bulk_in = NULL;
    } else if (link->bulk_out == conn) {
        link->bulk_out = NULL;
    } else if (link->out == conn) {
        link->out = NULL;
        kv_transport_link_lost(link, reset);
    }
}

/* ---------------------------------------------------------------- writing */

size_t kv_peer_conn_queued(const struct kv_peer_conn *conn)
{
    return conn->urgent.size + conn->ordered.size - conn->ordered_sent + conn->writing.size;
}

/* End of the frames that begin before `limit`, from offset on; counts the messages that end there.
 */
static size_t
frames_end(const struct kv_buf *buf, size_t offset, size_t limit, size_t *ret_n_messages)
{
    *ret_n_messages = 0;
    while (offset < buf->size && offset < limit) {
        *ret_n_messages += (buf->data[offset + 9] & KV_PEER_FRAME_LAST) != 0;
        offset += KV_PEER_FRAME_HEADER_BYTES + kv_get_u32(buf->data + offset + 4);
    }
    return offset;
}

/* How much of the ordered frames may go now. */
static size_t write_allowance(struct kv_peer_conn *conn)
{
    struct kv_transport *transport = conn->transport;
    size_t available;

    /* Only a bulk connection has some before it is ready. */
    if (conn->state != KV_PEER_CONN_READY || conn->ordered_sent == conn->ordered.size) {
        return 0;
    }
    if (!conn->is_bulk) {
        return WRITE_PIECE_BYTES;
    }
    available = kv_peer_throttle_available(&conn->link->throttle, kv_transport_now_ms(transport));
    if (available == 0) {
        kv_transport_wake(transport, kv_peer_throttle_wait_ms(&conn->link->throttle));
    }
    return available < WRITE_PIECE_BYTES ? available : WRITE_PIECE_BYTES;
}

static void on_written(uv_write_t *write, int status)
{
    struct kv_peer_conn *conn = write->data;

    conn->write_under_way = false;
    kv_buf_clear(&conn->writing);
    if (status < 0) {
        kv_peer_conn_close(conn, status == UV_ECONNRESET || status == UV_EPIPE);
    } else {
        conn->last_alive_ms = kv_transport_now_ms(conn->transport);
        kv_peer_conn_flush(conn);
    }
}

/* What the socket did not take at once is copied, so that the queues may go on growing. */
static void
write_rest(struct kv_peer_conn *conn, const uv_buf_t *bufs, unsigned n_bufs, size_t done)
{
    uv_buf_t rest;

    for (unsigned i = 0; i < n_bufs; i++) {
        size_t skip = done < bufs[i].len ? done : bufs[i].len;

        done -= skip;
        if (kv_buf_append(&conn->writing, bufs[i].base + skip, bufs[i].len - skip) != 0) {
            kv_peer_conn_close(conn, false);
            return;
        }
    }
    rest = uv_buf_init((char *)conn->writing.data, (unsigned)conn->writing.size);
    conn->write.data = conn;
    conn->write_under_way = true;
    if (uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &rest, 1, on_written) != 0) {
        conn->write_under_way = false;
        kv_peer_conn_close(conn, true);
    }
}

/* Urgent frames first, then a piece of the ordered ones. False: nothing is left, or the socket is
 * full. */
static bool flush_some(struct kv_peer_conn *conn)
{
    size_t n_messages;
    size_t end = frames_end(&conn->ordered,
                            conn->ordered_sent,
                            conn->ordered_sent + write_allowance(conn),
                            &n_messages);
    uv_buf_t bufs[2] = {
        uv_buf_init((char *)conn->urgent.data, (unsigned)conn->urgent.size),
        uv_buf_init((char *)conn->ordered.data + conn->ordered_sent,
                    (unsigned)(end - conn->ordered_sent)),
    };
    size_t total = bufs[0].len + bufs[1].len;
    int done;

    if (total == 0) {
        return false;
    }
    done = uv_try_write((uv_stream_t *)&conn->tcp, bufs, 2);
    if (done < 0 && done != UV_EAGAIN) {
        kv_peer_conn_close(conn, done == UV_ECONNRESET || done == UV_EPIPE);
        return false;
    }
    if (conn->link) {
        conn->link->stats.bytes_sent += total;
    }
    if (conn->is_bulk && conn->link) {
        kv_peer_throttle_take(&conn->link->throttle, bufs[1].len);
    }
    conn->n_messages -= n_messages + conn->n_urgent_messages;
    conn->n_urgent_messages = 0;
    if ((size_t)(done < 0 ? 0 : done) < total) {
        write_rest(conn, bufs, 2, done < 0 ? 0 : (size_t)done);
    }
    kv_buf_clear(&conn->urgent);
    conn->ordered_sent = end;
    if (conn->ordered_sent == conn->ordered.size) {
        kv_buf_clear(&conn->ordered);
        conn->ordered_sent = 0;
    }
    return !conn->write_under_way;
}

void kv_peer_conn_flush(struct kv_peer_conn *conn)
{
    while (!conn->closing && !conn->write_under_way && flush_some(conn)) {
    }
}

static int send_message(struct kv_peer_conn *conn,
                        enum kv_peer_frame_kind kind,
                        const ProtobufCMessage *message)
{
    uint8_t packed[HELLO_BYTES_MAX];
    struct kv_slice piece = {packed, protobuf_c_message_get_packed_size(message)};

    if (piece.size > sizeof packed) {
        return KV_TOO_LARGE;
    }
    protobuf_c_message_pack(message, packed);
    return kv_peer_frame_append(&conn->urgent, kind, &piece, 1, false);
}

int kv_peer_conn_send_hello(struct kv_peer_conn *conn)
{
    const struct kv_transport *transport = conn->transport;
    Kv__PeerHello hello = KV__PEER_HELLO__INIT;

    hello.protocol_version = PROTOCOL_VERSION;
    hello.cluster_id = transport->options.cluster_id;
    hello.node_id = transport->options.node_id;
    hello.to_node_id = conn->link->id;
    hello.client_address = (char *)(uintptr_t)transport->client_address;
    hello.machine_version = transport->options.machine_version;
    hello.bulk = conn->is_bulk;
    return send_message(conn, KV_PEER_FRAME_HELLO, &hello.base);
}

static void send_pong(struct kv_peer_conn *conn)
{
    if (conn->urgent.size < PONG_QUEUE_BYTES_MAX) {
        (void)!kv_peer_frame_append(&conn->urgent, KV_PEER_FRAME_PONG, NULL, 0, false);
    }
}

/* ---------------------------------------------------------------- hello */

/* Answers a hello with a refusal, then closes. */
static void refuse_hello(struct kv_peer_conn *conn, const char *reason)
{
    Kv__PeerHelloReply reply = KV__PEER_HELLO_REPLY__INIT;

    kv_transport_refuse(conn->transport, conn->remote, reason);
    reply.reason = (char *)(uintptr_t)reason;
    reply.cluster_id = conn->transport->options.cluster_id;
    reply.node_id = conn->transport->options.node_id;
    (void)!send_message(conn, KV_PEER_FRAME_HELLO_REPLY, &reply.base);
    kv_peer_conn_flush(conn);
    kv_peer_conn_close(conn, false);
}

/* NULL: accepted, *ret_link is who; else why not. */
static const char *judge_hello(const struct kv_transport *transport,
                               const Kv__PeerHello *hello,
                               struct kv_peer_link **ret_link,
                               char text[160])
{
    if (hello->protocol_version != PROTOCOL_VERSION) {
        snprintf(text,
                 160,
                 "it speaks peer protocol %u, this node %u",
                 hello->protocol_version,
                 PROTOCOL_VERSION);
        return text;
    }
    if (hello->cluster_id != transport->options.cluster_id) {
        snprintf(text,
                 160,
                 "it is of cluster %" PRIu64 ", this node of %" PRIu64,
                 hello->cluster_id,
                 transport->options.cluster_id);
        return text;
    }
    if (hello->to_node_id != transport->options.node_id) {
        snprintf(text,
                 160,
                 "it looks for node %" PRIu64 " at the address of node %" PRIu64,
                 hello->to_node_id,
                 transport->options.node_id);
        return text;
    }
    *ret_link = kv_transport_link(transport, hello->node_id);
    if (!*ret_link) {
        snprintf(text, 160, "node %" PRIu64 " is not a member", hello->node_id);
        return text;
    }
    return NULL;
}

static void
tell_peer_info(struct kv_peer_link *link, const char *client_address, uint64_t machine_version)
{
    const struct kv_net_handler *handler = &link->transport->handler;

    if (strlen(client_address) < 280) {
        handler->peer_info(handler->arg, link->id, client_address, machine_version);
    }
}

static void
accept_hello(struct kv_peer_conn *conn, struct kv_peer_link *link, const Kv__PeerHello *hello)
{
    Kv__PeerHelloReply reply = KV__PEER_HELLO_REPLY__INIT;
    const struct kv_transport *transport = conn->transport;

    /* Nothing that came on an older connection may be delivered after this. */
    if (link->bulk_in) {
        kv_peer_conn_close(link->bulk_in, false);
    }
    if (link->in && !hello->bulk) {
        kv_peer_conn_close(link->in, false);
    }
    *(hello->bulk ? &link->bulk_in : &link->in) = conn;
    conn->is_bulk = hello->bulk;
    conn->link = link;
    conn->state = KV_PEER_CONN_READY;
    reply.accepted = true;
    reply.cluster_id = transport->options.cluster_id;
    reply.node_id = transport->options.node_id;
    reply.client_address = (char *)(uintptr_t)transport->client_address;
    reply.machine_version = transport->options.machine_version;
    if (send_message(conn, KV_PEER_FRAME_HELLO_REPLY, &reply.base) != 0) {
        kv_peer_conn_close(conn, false);
        return;
    }
    kv_peer_conn_flush(conn);
    if (conn->is_bulk) {
        return;
    }
    /* It is back: do not wait out the backoff. */
    link->attempts.retry_ms = 0;
    link->attempts.backoff_ms = 0;
    kv_peer_link_dial(link);
    tell_peer_info(link, hello->client_address, hello->machine_version);
}

/* Scans and unpacks; NULL when malformed. */
static ProtobufCMessage *unpack(const ProtobufCMessageDescriptor *descriptor, struct kv_slice body)
{
    bool unknown;

    if (body.size > HELLO_BYTES_MAX ||
        kv_proto_scan(descriptor, body, 64 * KV_KIB, &unknown, NULL) != 0) {
        return NULL;
    }
    return protobuf_c_message_unpack(descriptor, NULL, body.size, body.data);
}

static void receive_hello(struct kv_peer_conn *conn, struct kv_slice body)
{
    Kv__PeerHello *hello = (Kv__PeerHello *)unpack(&kv__peer_hello__descriptor, body);
    struct kv_peer_link *link = NULL;
    const char *reason;
    char text[160];

    if (!hello) {
        refuse_hello(conn, "its hello is malformed");
        return;
    }
    reason = judge_hello(conn->transport, hello, &link, text);
    if (reason) {
        refuse_hello(conn, reason);
    } else {
        accept_hello(conn, link, hello);
    }
    kv__peer_hello__free_unpacked(hello, NULL);
}

static void receive_hello_reply(struct kv_peer_conn *conn, struct kv_slice body)
{
    Kv__PeerHelloReply *reply =
        (Kv__PeerHelloReply *)unpack(&kv__peer_hello_reply__descriptor, body);
    struct kv_peer_link *link = conn->link;
    char text[200];

    if (!reply || !reply->accepted || reply->node_id != link->id ||
        reply->cluster_id != conn->transport->options.cluster_id) {
        snprintf(text,
                 sizeof text,
                 "node %" PRIu64 " at %.80s refuses: %.80s",
                 link->id,
                 link->address,
                 reply && !reply->accepted ? reply->reason : "another node answers there");
        kv_peer_conn_failed(conn, text);
        kv_peer_conn_close(conn, false);
    } else if (conn->is_bulk) {
        conn->state = KV_PEER_CONN_READY;
        link->stats.bulk_connects++;
        kv_peer_attempts_reset(&link->bulk_attempts);
    } else {
        conn->state = KV_PEER_CONN_READY;
        link->connected = true;
        link->stats.connects++;
        kv_peer_attempts_reset(&link->attempts);
        tell_peer_info(link, reply->client_address, reply->machine_version);
        conn->transport->handler.connected(conn->transport->handler.arg, link->id);
    }
    if (reply) {
        kv__peer_hello_reply__free_unpacked(reply, NULL);
    }
}

/* ---------------------------------------------------------------- reading */

static void receive_message(struct kv_peer_conn *conn, const struct kv_peer_frame *frame)
{
    const struct kv_net_handler *handler = &conn->transport->handler;
    struct kv_slice message;
    struct kv_error error;
    int status = kv_peer_assembly_add(
        &conn->assemblies[frame->kind != KV_PEER_FRAME_URGENT], frame, &message, &error);

    if (status < 0) {
        kv_transport_refuse(conn->transport, conn->remote, error.message);
        kv_peer_conn_close(conn, false);
    } else if (status == 1) {
        conn->link->stats.messages_received++;
        handler->receive(handler->arg, conn->link->id, message.data, message.size);
    }
}

/* False: the frame does not belong here. */
static bool receive_frame(struct kv_peer_conn *conn, const struct kv_peer_frame *frame)
{
    if (conn->state == KV_PEER_CONN_HELLO) {
        if (conn->accepted && frame->kind == KV_PEER_FRAME_HELLO) {
            receive_hello(conn, frame->body);
            return true;
        }
        if (!conn->accepted && frame->kind == KV_PEER_FRAME_HELLO_REPLY) {
            receive_hello_reply(conn, frame->body);
            return true;
        }
        return false;
    }
    switch (frame->kind) {
    case KV_PEER_FRAME_ORDERED:
    case KV_PEER_FRAME_URGENT:
    case KV_PEER_FRAME_BULK:
        if (!conn->accepted || conn->is_bulk != (frame->kind == KV_PEER_FRAME_BULK)) {
            return false;
        }
        receive_message(conn, frame);
        return true;
    case KV_PEER_FRAME_PING:
        send_pong(conn);
        return true;
    case KV_PEER_FRAME_PONG:
        return true;
    default:
        return false;
    }
}

static void receive_bytes(struct kv_peer_conn *conn)
{
    size_t offset = 0;

    while (!conn->closing) {
        struct kv_peer_frame frame;
        struct kv_error error = {0};
        int64_t size = kv_peer_frame_peek(
            kv_slice_of(conn->in.data + offset, conn->in.size - offset), &frame, &error);

        if (size == 0) {
            kv_buf_consume(&conn->in, offset);
            return;
        }
        if (size < 0 || !receive_frame(conn, &frame)) {
            kv_transport_refuse(conn->transport,
                                conn->remote,
                                size < 0 ? error.message : "a frame that does not belong there");
            kv_peer_conn_close(conn, false);
            return;
        }
        offset += (size_t)size;
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct kv_peer_conn *conn = handle->data;
    size_t room = conn->in.max_size - conn->in.size;
    uint8_t *p = room ? kv_buf_reserve(&conn->in, suggested < room ? suggested : room) : NULL;

    *ret_buf = uv_buf_init((char *)p, p ? (unsigned)(conn->in.capacity - conn->in.size) : 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct kv_peer_conn *conn = stream->data;

    (void)buf;
    if (n < 0) {
        if (!conn->accepted && conn->state != KV_PEER_CONN_READY) {
            kv_peer_conn_failed(conn, "it closed the connection before it answered");
        }
        kv_peer_conn_close(conn, n == UV_EOF || n == UV_ECONNRESET);
        return;
    }
    conn->in.size += (size_t)n;
    conn->last_alive_ms = kv_transport_now_ms(conn->transport);
    if (conn->link) {
        conn->link->stats.bytes_received += (uint64_t)n;
    }
    receive_bytes(conn);
}

int kv_peer_conn_start_reading(struct kv_peer_conn *conn)
{
    struct sockaddr_storage address;
    int size = sizeof address;

    uv_tcp_nodelay(&conn->tcp, 1);
    uv_tcp_keepalive(&conn->tcp, 1, 30);
    snprintf(conn->remote, sizeof conn->remote, "?");
    if (uv_tcp_getpeername(&conn->tcp, (struct sockaddr *)&address, &size) == 0) {
        (void)uv_ip_name((const struct sockaddr *)&address, conn->remote, sizeof conn->remote);
    }
    return uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) == 0 ? 0 : KV_IO;
}
