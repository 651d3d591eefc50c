/* One client's connection: bytes in, frames out. Runs on its network thread. */
#include "common/assert.h"
#include "common/log.h"
#include "server/net/net_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
    READ_BYTES_MIN = 4096,
    KEEPALIVE_S = 60,
    /* An empty buffer that is larger is given back; a connection that holds more is one to close
       when memory is short. */
    KEEP_BYTES = 128 * 1024,
    /* Connections over the limit that may hear why. */
    TELL_OVER_LIMIT = 64,
};

/* ---------------------------------------------------------------- life */

static struct kv_conn *new_conn(struct kv_net_thread *thread)
{
    struct kv_conn *conn = calloc(1, sizeof *conn);

    if (conn) {
        conn->room = kv_net_room_new();
    }
    if (!conn || !conn->room || uv_tcp_init(thread->loop, &conn->tcp) != 0) {
        kv_net_room_release(conn ? conn->room : NULL);
        free(conn);
        return NULL;
    }
    conn->thread = thread;
    conn->tcp.data = conn;
    conn->opened_ms = conn->read_ms = uv_now(thread->loop);
    conn->read_bytes = READ_BYTES_MIN;
    kv_buf_init(&conn->in, KV_FRAME_HEADER_BYTES + KV_REQUEST_BYTES_MAX + KV_NET_READ_BYTES);
    kv_buf_init(&conn->out, KV_CONNECTION_OUT_BYTES_MAX + 2 * KV_REPLY_FRAME_BYTES_MAX);
    kv_buf_init(&conn->writing, KV_CONNECTION_OUT_BYTES_MAX + 2 * KV_REPLY_FRAME_BYTES_MAX);
    conn->next = thread->conns;
    if (thread->conns) {
        thread->conns->prev = conn;
    }
    thread->conns = conn;
    return conn;
}

void kv_conn_free_if_done(struct kv_conn *conn)
{
    if (conn->closed && conn->requests.count == 0) {
        kv_id_table_deinit(&conn->requests);
        kv_net_room_release(conn->room);
        free(conn);
    }
}

static void unlink_conn(struct kv_conn *conn)
{
    if (conn->prev) {
        conn->prev->next = conn->next;
    } else {
        conn->thread->conns = conn->next;
    }
    if (conn->next) {
        conn->next->prev = conn->prev;
    }
}

/* Keeps count of the memory that the buffers hold; gives back what is empty and large. */
static void account(struct kv_conn *conn)
{
    struct kv_buf *bufs[] = {&conn->in, &conn->out, &conn->writing};
    size_t held = 0;

    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++) {
        if (bufs[i]->size == 0 && bufs[i]->capacity > KEEP_BYTES) {
            kv_buf_deinit(bufs[i]);
        }
        held += bufs[i]->capacity;
    }
    kv_stats_add(&conn->thread->stats.buffered_bytes, held - conn->accounted_bytes);
    conn->accounted_bytes = held;
}

static void on_closed(uv_handle_t *handle)
{
    struct kv_conn *conn = handle->data;
    struct kv_net_thread *thread = conn->thread;

    unlink_conn(conn);
    if (conn->lingering) {
        thread->n_lingering--;
    }
    atomic_fetch_sub(&thread->server->connections, 1);
    kv_stats_add(&thread->stats.connections, (uint64_t)-1);
    kv_buf_deinit(&conn->in);
    kv_buf_deinit(&conn->out);
    kv_buf_deinit(&conn->writing);
    account(conn);
    conn->closed = true;
    kv_conn_free_if_done(conn);
}

static void remove_dirty(struct kv_conn *conn)
{
    struct kv_conn **link = &conn->thread->dirty;

    while (*link && *link != conn) {
        link = &(*link)->next_dirty;
    }
    if (*link) {
        *link = conn->next_dirty;
        if (!conn->next_dirty) {
            conn->thread->dirty_end = link;
        }
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
    conn->n_subscriptions -= request->is_subscription;
    kv_conn_free_if_done(conn);
}

/* ---------------------------------------------------------------- writing */

static void close_slow(struct kv_conn *conn)
{
    kv_stats_add(&conn->thread->stats.too_slow, 1);
    if (kv_net_thread_may_log(conn->thread)) {
        KV_LOG(WARN,
               "net",
               "client_too_slow",
               "bytes=%zu limit=%llu",
               conn->out.size + conn->writing.size,
               KV_CONNECTION_OUT_BYTES_MAX);
    }
    kv_conn_close(conn);
}

static bool is_short_of_memory(const struct kv_conn *conn)
{
    const struct kv_net_thread *thread = conn->thread;

    return conn->accounted_bytes > KEEP_BYTES * 3 &&
           thread->stats.buffered_bytes > KV_NET_BUFFER_BYTES_MAX / thread->server->n_threads;
}

static void sent(struct kv_conn *conn, int status)
{
    if (status != 0) {
        close_slow(conn);
        return;
    }
    account(conn);
    if (conn->out.size + conn->writing.size > KV_CONNECTION_OUT_BYTES_MAX ||
        is_short_of_memory(conn)) {
        close_slow(conn);
        return;
    }
    if (!conn->dirty) {
        conn->dirty = true;
        conn->next_dirty = NULL;
        *conn->thread->dirty_end = conn;
        conn->thread->dirty_end = &conn->next_dirty;
    }
}

void kv_conn_send(struct kv_conn *conn, enum kv_frame_kind kind, const ProtobufCMessage *message)
{
    if (!conn->closing && !conn->lingering) {
        sent(conn, kv_frame_append(&conn->out, kind, message, conn->lz4));
    }
}

void kv_conn_send_packed(struct kv_conn *conn, enum kv_frame_kind kind, struct kv_slice body)
{
    if (!conn->closing && !conn->lingering) {
        sent(conn, kv_frame_append_packed(&conn->out, kind, body, conn->lz4));
    }
}

void kv_conn_send_shared(struct kv_conn *conn, uint64_t id, const struct kv_shared *item)
{
    uint8_t packed_id[KV_STREAM_ID_BYTES_MAX];
    const size_t size = kv_stream_id_pack(id, packed_id);

    if (!conn->closing && !conn->lingering) {
        sent(conn,
             kv_frame_append_parts(&conn->out,
                                   KV_FRAME_STREAM_ITEM,
                                   kv_slice_of(packed_id, size),
                                   kv_slice_of(item->data, item->size),
                                   conn->lz4));
    }
}

void kv_conn_goodbye(struct kv_conn *conn,
                     int status,
                     const char *message,
                     const char *leader_address)
{
    Kv__Goodbye goodbye = KV__GOODBYE__INIT;

    if (conn->told) {
        return;
    }
    conn->told = true;
    goodbye.code = (Kv__Code)-status;
    goodbye.message = (char *)(uintptr_t)message;
    goodbye.leader_address = (char *)(uintptr_t)leader_address;
    kv_conn_send(conn, KV_FRAME_GOODBYE, &goodbye.base);
}

static void on_written(uv_write_t *write, int status)
{
    struct kv_conn *conn = write->data;

    conn->write_under_way = false;
    kv_buf_clear(&conn->writing);
    kv_net_room_make(conn->room, conn->writing_stream_bytes, conn->thread->server);
    conn->writing_stream_bytes = 0;
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
    conn->writing_stream_bytes = conn->out_stream_bytes;
    conn->out_stream_bytes = 0;
    kv_buf_clear(&conn->out);
    rest = uv_buf_init((char *)conn->writing.data + done, (unsigned)(conn->writing.size - done));
    conn->write.data = conn;
    conn->write_under_way = true;
    if (uv_write(&conn->write, (uv_stream_t *)&conn->tcp, &rest, 1, on_written) != 0) {
        conn->write_under_way = false;
        kv_conn_close(conn);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf);
static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf);

/* All is written. A close with unread bytes in the socket would reset the connection, and the
 * client might never see our last word: so we read on, for nothing, until it closes. */
static void linger(struct kv_conn *conn)
{
    uv_os_fd_t fd;

    if (uv_fileno((uv_handle_t *)&conn->tcp, &fd) != 0 || shutdown(fd, SHUT_WR) < 0) {
        kv_conn_close(conn);
        return;
    }
    conn->lingering = true;
    conn->ended_ms = uv_now(conn->thread->loop);
    conn->thread->n_lingering++;
    kv_net_thread_tick_fast(conn->thread);
    if (!conn->reading) {
        conn->reading = uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) == 0;
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
        kv_stats_add(&conn->thread->stats.sent_bytes, all.len);
        if ((size_t)done < all.len) {
            write_rest(conn, (size_t)done);
            return;
        }
        kv_buf_clear(&conn->out);
        kv_net_room_make(conn->room, conn->out_stream_bytes, conn->thread->server);
        conn->out_stream_bytes = 0;
        account(conn);
    }
    if (conn->last_word && !conn->lingering && conn->requests.count == 0) {
        linger(conn);
    }
}

void kv_conn_end(struct kv_conn *conn)
{
    if (conn->closing || conn->last_word) {
        return;
    }
    conn->last_word = true;
    conn->ended_ms = uv_now(conn->thread->loop);
    kv_conn_cancel_all(conn);
    if (!conn->dirty) {
        kv_conn_flush(conn);
    }
}

/* ---------------------------------------------------------------- reading */

/* One clear line in what may be the stranger's own tongue. */
static void send_line(struct kv_conn *conn, const char *what)
{
    const char *before = "kvd: ";
    const char *after = "; this is the port for its clients";
    char line[512];
    int size;

    if (strncmp(what, "this is HTTP", 12) == 0) {
        before = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
                 "kvd: ";
        after = "; metrics and health are on the http port (http-listen)";
    } else if (strncmp(what, "this is RESP", 12) == 0) {
        before = "-ERR kvd speaks its own protocol, not RESP: ";
        after = "";
    }
    size = snprintf(line, sizeof line, "%s%.200s%s\r\n", before, what, after);
    if (size > 0 && (size_t)size < sizeof line) {
        sent(conn, kv_buf_append(&conn->out, line, (size_t)size));
    }
}

/* A stranger, or a client that broke the protocol: one last word, then the end. */
static void refuse(struct kv_conn *conn, const struct kv_error *error, bool is_frame)
{
    kv_stats_add(&conn->thread->stats.refused, 1);
    if (kv_net_thread_may_log(conn->thread)) {
        KV_LOG(WARN, "net", "client_refused", "reason=\"%s\"", error->message);
    }
    if (!conn->hello_done && !is_frame && error->status == KV_INVALID) {
        send_line(conn, error->message);
    } else {
        kv_conn_goodbye(conn, error->status, error->message, "");
    }
    kv_conn_end(conn);
}

static bool may_read(const struct kv_conn *conn)
{
    return !conn->closing && !conn->last_word && !conn->thread->stalled &&
           conn->requests.count - conn->n_subscriptions < KV_CONNECTION_REQUESTS_MAX;
}

/* Handles whole frames in the buffer, until it is empty or the connection has enough under way. */
static void take_frames(struct kv_conn *conn)
{
    conn->thread->now_ns = conn->thread->server->options.now_ns();
    while (may_read(conn)) {
        struct kv_frame frame;
        struct kv_error error = {0};
        bool is_frame = false;
        int64_t size = kv_frame_peek(
            kv_slice_of(conn->in.data + conn->in_start, conn->in.size - conn->in_start),
            conn->hello_done ? KV_REQUEST_BYTES_MAX : KV_CONTROL_FRAME_BYTES_MAX,
            &frame,
            &error);

        if (size > 0) {
            int status = kv_conn_receive_frame(conn, &frame, &error);

            is_frame = true;
            size = status < 0 ? status : size;
        }
        if (size < 0) {
            error.status = (int)size;
            refuse(conn, &error, is_frame);
            return;
        }
        if (size == 0) {
            break;
        }
        conn->in_start += (size_t)size;
    }
    if (conn->in_start == conn->in.size) {
        conn->in_start = 0;
        kv_buf_clear(&conn->in);
    }
}

static void on_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *ret_buf)
{
    struct kv_conn *conn = handle->data;
    size_t room;
    uint8_t *p;

    (void)suggested;
    kv_buf_consume(&conn->in, conn->last_word ? conn->in.size : conn->in_start);
    conn->in_start = 0;
    room = conn->in.max_size - conn->in.size;
    p = kv_buf_reserve(&conn->in, conn->read_bytes < room ? conn->read_bytes : room);
    *ret_buf = uv_buf_init((char *)p, p ? (unsigned)(conn->in.capacity - conn->in.size) : 0);
}

/* A frame that grows is paid for in memory before it is a request. */
static bool has_room(struct kv_conn *conn)
{
    struct kv_error error;

    account(conn);
    if (!is_short_of_memory(conn)) {
        return true;
    }
    error.status = kv_error_set(
        &error, KV_BUSY, "the server has no memory left for large frames: try again later");
    refuse(conn, &error, true);
    return false;
}

static void on_read(uv_stream_t *stream, ssize_t n, const uv_buf_t *buf)
{
    struct kv_conn *conn = stream->data;

    if (n < 0) {
        kv_conn_close(conn);
        return;
    }
    kv_stats_add(&conn->thread->stats.received_bytes, (uint64_t)n);
    if (conn->last_word || conn->closing) {
        return;
    }
    conn->read_ms = uv_now(conn->thread->loop);
    conn->in.size += (size_t)n;
    if ((size_t)n == buf->len && conn->read_bytes < KV_NET_READ_BYTES) {
        conn->read_bytes *= 2;
    }
    take_frames(conn);
    if (!conn->closing && has_room(conn) && !may_read(conn) && !conn->last_word) {
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
        conn->read_ms = uv_now(conn->thread->loop);
        conn->reading = uv_read_start((uv_stream_t *)&conn->tcp, on_alloc, on_read) == 0;
    }
}

void kv_conn_check_time(struct kv_conn *conn, uint64_t now_ms)
{
    const struct kv_server_options *options = &conn->thread->server->options;
    bool has_half = conn->in.size > conn->in_start;
    struct kv_error error;

    if (conn->closing) {
        return;
    }
    if (conn->last_word) {
        /* One that does not even read its last word has the time of a hello. */
        if (now_ms - conn->ended_ms >=
            (conn->lingering ? options->linger_ms : options->hello_timeout_ms)) {
            kv_conn_close(conn);
        }
        return;
    }
    if (!conn->hello_done && now_ms - conn->opened_ms >= options->hello_timeout_ms) {
        error.status = kv_error_set(
            &error, KV_INVALID, "no hello came within %u ms", options->hello_timeout_ms);
        refuse(conn, &error, !has_half);
    } else if (has_half && conn->reading && now_ms - conn->read_ms >= options->frame_timeout_ms) {
        error.status = kv_error_set(&error,
                                    KV_INVALID,
                                    "half a frame, and nothing more for %u ms",
                                    options->frame_timeout_ms);
        refuse(conn, &error, true);
    }
}

static void refuse_one_too_many(struct kv_conn *conn, uint64_t open)
{
    struct kv_error error;

    if (open > conn->thread->server->options.max_connections + TELL_OVER_LIMIT) {
        kv_stats_add(&conn->thread->stats.refused, 1);
        kv_conn_close(conn);
        return;
    }
    error.status =
        kv_error_set(&error,
                     KV_BUSY,
                     "too many connections to this server (max-connections is %u): use another",
                     conn->thread->server->options.max_connections);
    refuse(conn, &error, true);
}

void kv_conn_accept(struct kv_net_thread *thread)
{
    struct kv_conn *conn = new_conn(thread);
    uint64_t open;

    if (!conn) {
        /* libuv listens no more until it is accepted. */
        thread->accept_failed = true;
        return;
    }
    open = atomic_fetch_add(&thread->server->connections, 1) + 1;
    kv_stats_add(&thread->stats.connections, 1);
    kv_stats_add(&thread->stats.accepted, 1);
    if (uv_accept((uv_stream_t *)&thread->listener, (uv_stream_t *)&conn->tcp) != 0) {
        kv_conn_close(conn);
        return;
    }
    uv_tcp_nodelay(&conn->tcp, 1);
    uv_tcp_keepalive(&conn->tcp, 1, KEEPALIVE_S);
    if (open > thread->server->options.max_connections) {
        refuse_one_too_many(conn, open);
        return;
    }
    kv_conn_resume(conn);
}
