/* One client's connection: bytes in, frames out. Runs on its network thread. */
#include "common/assert.h"
#include "common/log.h"
#include "server/net/net_internal.h"

#include <stdlib.h>
#include <string.h>

static struct kv_conn *new_conn(struct kv_net_thread *thread)
{
    struct kv_conn *conn = calloc(1, sizeof *conn);

    if (!conn || uv_tcp_init(&thread->loop, &conn->tcp) != 0) {
        free(conn);
        return NULL;
    }
    conn->thread = thread;
    conn->tcp.data = conn;
    conn->opened_ms = uv_now(&thread->loop);
    kv_buf_init(&conn->in, KV_REQUEST_BYTES_MAX + 2 * KV_NET_READ_BYTES);
    kv_buf_init(&conn->out, KV_CONNECTION_OUT_BYTES_MAX + KV_REPLY_FRAME_BYTES_MAX);
    kv_buf_init(&conn->writing, KV_CONNECTION_OUT_BYTES_MAX + KV_REPLY_FRAME_BYTES_MAX);
    conn->next = thread->conns;
    if (thread->conns) {
        thread->conns->prev = conn;
    }
    thread->conns = conn;
    thread->n_conns++;
    return conn;
}

/* Gone when the handle is closed and no request can come back any more. */
static void free_if_done(struct kv_conn *conn)
{
    if (!conn->closed || conn->requests.count > 0) {
        return;
    }
    kv_buf_deinit(&conn->in);
    kv_buf_deinit(&conn->out);
    kv_buf_deinit(&conn->writing);
    kv_id_table_deinit(&conn->requests);
    free(conn);
}

static void on_closed(uv_handle_t *handle)
{
    struct kv_conn *conn = handle->data;
    struct kv_net_thread *thread = conn->thread;

    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        thread->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
    thread->n_conns--;
    atomic_fetch_sub(&thread->server->connections, 1);
    conn->closed = true;
    free_if_done(conn);
}

static void remove_dirty(struct kv_conn *conn)
{
    struct kv_conn **link = &conn->thread->dirty;

    while (*link && *link != conn) {
        link = &(*link)->next_dirty;
    }
    if (*link) {
        *link = conn->next_dirty;
    }
    conn->dirty = false;
}

void kv_conn_close(struct kv_conn *conn)
{
    if (conn->closing) {
        return;
    }
    conn->closing = true;
    if (conn->dirty) {
        remove_dirty(conn);
    }
    kv_conn_cancel_all(conn);
    uv_close((uv_handle_t *)&conn->tcp, on_closed);
}

void kv_conn_request_done(struct kv_conn *conn, struct kv_net_request *request)
{
    kv_id_table_remove(&conn->requests, request->id);
    if (conn->closed) {
        free_if_done(conn);
    } else if (!conn->closing && !conn->reading) {
        kv_conn_resume(conn);
    }
}

/* ---------------------------------------------------------------- writing */

static void mark_dirty(struct kv_conn *conn)
{
    if (!conn->dirty) {
        conn->dirty = true;
        conn->next_dirty = conn->thread->dirty;
        conn->thread->dirty = conn;
    }
    if (conn->out.size + conn->writing.size > KV_CONNECTION_OUT_BYTES_MAX) {
        KV_LOG(WARN,
               "net",
               "client_too_slow",
               "bytes=%zu limit=%llu",
               conn->out.size + conn->writing.size,
               KV_CONNECTION_OUT_BYTES_MAX);
        kv_conn_close(conn);
    }
}

void kv_conn_send(struct kv_conn *conn, enum kv_frame_kind kind, const ProtobufCMessage *message)
{
    if (conn->closing) {
        return;
    }
    if (kv_frame_append(&conn->out, kind, message, conn->lz4) != 0) {
        kv_conn_close(conn);
        return;
    }
    mark_dirty(conn);
}

void kv_conn_send_packed(struct kv_conn *conn, enum kv_frame_kind kind, struct kv_slice body)
{
    if (conn->closing) {
        return;
    }
    if (kv_frame_append_packed(&conn->out, kind, body, conn->lz4) != 0) {
        kv_conn_close(conn);
        return;
    }
    mark_dirty(conn);
}

void kv_conn_goodbye(struct kv_conn *conn,
                     int status,
                     const char *message,
                     const char *leader_address)
{
    Kv__Goodbye goodbye = KV__GOODBYE__INIT;

    goodbye.code = (Kv__Code)-status;
    goodbye.message = (char *)(uintptr_t)message;
    goodbye.leader_address = (char *)(uintptr_t)leader_address;
    kv_conn_send(conn, KV_FRAME_GOODBYE, &goodbye.base);
    conn->close_when_sent = true;
}

static void on_written(uv_write_t *write, int status)
{
    struct kv_conn *conn = write->data;

    conn->write_under_way = false;
    kv_buf_clear(&conn->writing);
    if (status < 0) {
        kv_conn_close(conn);
    } else {
        kv_conn_flush(conn);
    }
}

/* The socket is full: what is left is written when it can be. */
static void write_rest(struct kv_conn *conn, size_t done)
{
    struct kv_buf empty = conn->writing;
    uv_buf_t rest;

    conn->writing = conn->out;
    conn->out = empty;
    kv_buf_clear(&conn->out);
    rest = uv_buf_init((char *)conn->writing.data + done, (unsigned)(conn->writing.size - done));
    conn->write.data = conn;
    conn->write_under_way = true;
    if (uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &rest, 1, on_written) != 0) {
        conn->write_under_way = false;
        kv_conn_close(conn);
    }
}

void kv_conn_flush(struct kv_conn *conn)
{
    uv_buf_t all = uv_buf_init((char *)conn->out.data, (unsigned)conn->out.size);
    int done = 0;

    if (conn->closing || conn->write_under_way) {
        return;
    }
    if (all.len > 0) {
        done = uv_try_write((uv_stream_t *)&conn->tcp, &all, 1);
        if (done < 0 && done != UV_EAGAIN) {
            kv_conn_close(conn);
            return;
        }
        done = done < 0 ? 0 : done;
        atomic_fetch_add_explicit(&conn->thread->server->bytes_out, all.len, memory_order_relaxed);
        if ((size_t)done < all.len) {
            write_rest(conn, (size_t)done);
            return;
        }
        kv_buf_clear(&conn->out);
    }
    if (conn->close_when_sent) {
        kv_conn_close(conn);
    }
}

/* ---------------------------------------------------------------- reading */

/* A stranger, or a client that broke the protocol: one clear line in what may be its own tongue,
 * then the end. */
static void refuse(struct kv_conn *conn, const struct kv_error *error)
{
    static const char http[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
        "This is the client port of kvd. It speaks its own protocol; metrics and health are on "
        "the http port.\n";
    static const char resp[] = "-ERR this is kvd, which speaks its own protocol, not RESP\r\n";

    atomic_fetch_add(&conn->thread->server->refused, 1);
    KV_LOG(WARN, "net", "client_refused", "reason=\"%s\"", error->message);
    if (!conn->hello_done && strstr(error->message, "HTTP")) {
        (void)!kv_buf_append(&conn->out, http, sizeof http - 1);
    } else if (!conn->hello_done && strstr(error->message, "RESP")) {
        (void)!kv_buf_append(&conn->out, resp, sizeof resp - 1);
    } else {
        kv_conn_goodbye(conn, error->status, error->message, "");
    }
    conn->close_when_sent = true;
    uv_read_stop((uv_stream_t *)&conn->tcp);
    conn->reading = false;
    kv_conn_flush(conn);
}

static bool may_read(const struct kv_conn *conn)
{
    return !conn->closing && !conn->close_when_sent && !conn->thread->stalled &&
           conn->requests.count < KV_CONNECTION_REQUESTS_MAX;
}

/* Handles whole frames in the buffer, until it is empty or the connection has enough under way. */
static void take_frames(struct kv_conn *conn)
{
    size_t offset = 0;

    while (may_read(conn)) {
        struct kv_frame frame;
        struct kv_error error = {0};
        int64_t size = kv_frame_peek(kv_slice_of(conn->in.data + offset, conn->in.size - offset),
                                     conn->hello_done ? KV_REQUEST_BYTES_MAX : 64 * KV_KIB,
                                     &frame,
                                     &error);

        if (size > 0) {
            int status = kv_conn_receive_frame(conn, &frame, &error);

            size = status < 0 ? status : size;
        }
        if (size < 0) {
            error.status = (int)size;
            refuse(conn, &error);
            return;
        }
        if (size == 0) {
            break;
        }
        offset += (size_t)size;
    }
    kv_buf_consume(&conn->in, offset);
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct kv_conn *conn = handle->data;
    size_t room = conn->in.max_size - conn->in.size;
    size_t want = conn->in.size == 0 && conn->in.capacity < suggested ? 4096 : suggested;
    uint8_t *p;

    want = want < room ? want : room;
    p = want ? kv_buf_reserve(&conn->in, want) : NULL;
    *ret_buf = uv_buf_init((char *)p, p ? (unsigned)(conn->in.capacity - conn->in.size) : 0);
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct kv_conn *conn = stream->data;

    (void)buf;
    if (n < 0) {
        kv_conn_close(conn);
        return;
    }
    conn->in.size += (size_t)n;
    atomic_fetch_add_explicit(&conn->thread->server->bytes_in, (uint64_t)n, memory_order_relaxed);
    take_frames(conn);
    if (!conn->closing && !may_read(conn) && conn->reading) {
        uv_read_stop(stream);
        conn->reading = false;
    }
}

void kv_conn_resume(struct kv_conn *conn)
{
    if (conn->reading || !may_read(conn)) {
        return;
    }
    take_frames(conn);
    if (may_read(conn)) {
        conn->reading = uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) == 0;
    }
}

void kv_conn_accept(struct kv_net_thread *thread, uv_stream_t *listener)
{
    struct kv_conn *conn = new_conn(thread);
    uint64_t open;

    if (!conn) {
        return;
    }
    open = atomic_fetch_add(&thread->server->connections, 1) + 1;
    atomic_fetch_add(&thread->server->connections_total, 1);
    if (uv_accept(listener, (uv_stream_t *)&conn->tcp) != 0) {
        kv_conn_close(conn);
        return;
    }
    uv_tcp_nodelay(&conn->tcp, 1);
    if (open > thread->server->options.max_connections) {
        atomic_fetch_add(&thread->server->refused, 1);
        kv_conn_goodbye(
            conn,
            KV_BUSY,
            "too many connections to this server: raise max-connections, or use another",
            "");
        kv_conn_flush(conn);
        return;
    }
    kv_conn_resume(conn);
}
