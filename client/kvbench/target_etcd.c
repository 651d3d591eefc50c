/* etcd's gRPC over HTTP/2 (nghttp2): one stream per operation, as its own client does. */
#include "client/kvbench/target.h"

#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GRPC_HEAD_BYTES = 5, WINDOW_BYTES = 64 * 1024 * 1024, STREAMS_MAX = 1024 };

struct body {
    uint8_t *data;
    size_t size;
    size_t sent;
    bool failed;
};

struct state {
    nghttp2_session *session;
    struct bench_conn *conn;
    completed_fn completed;
    struct body *bodies; /* per slot */
};

static ssize_t
on_send(nghttp2_session *session, const uint8_t *data, size_t size, int flags, void *arg)
{
    struct state *state = arg;

    (void)session;
    (void)flags;
    return kv_buf_append(&state->conn->out, data, size) == 0 ? (ssize_t)size
                                                             : NGHTTP2_ERR_CALLBACK_FAILURE;
}

/* grpc-status other than 0 is an error. */
static int on_header(nghttp2_session *session,
                     const nghttp2_frame *frame,
                     const uint8_t *name,
                     size_t name_size,
                     const uint8_t *value,
                     size_t value_size,
                     uint8_t flags,
                     void *arg)
{
    struct state *state = arg;
    unsigned slot =
        (unsigned)(uintptr_t)nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

    (void)flags;
    if (slot > 0 && name_size == 11 && memcmp(name, "grpc-status", 11) == 0 &&
        !(value_size == 1 && value[0] == '0')) {
        state->bodies[slot - 1].failed = true;
    }
    return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *arg)
{
    struct state *state = arg;
    unsigned slot = (unsigned)(uintptr_t)nghttp2_session_get_stream_user_data(session, stream_id);

    if (slot > 0) {
        bool ok = error == 0 && !state->bodies[slot - 1].failed;

        state->completed(state->conn, slot - 1, ok, ok ? "" : "grpc error");
    }
    return 0;
}

static ssize_t on_body(nghttp2_session *session,
                       int32_t stream_id,
                       uint8_t *buf,
                       size_t length,
                       uint32_t *flags,
                       nghttp2_data_source *source,
                       void *arg)
{
    struct body *body = source->ptr;
    size_t n = body->size - body->sent < length ? body->size - body->sent : length;

    (void)session;
    (void)stream_id;
    (void)arg;
    memcpy(buf, body->data + body->sent, n);
    body->sent += n;
    if (body->sent == body->size) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    }
    return (ssize_t)n;
}

static int etcd_open(struct bench_conn *conn)
{
    struct state *state = calloc(1, sizeof *state);
    nghttp2_session_callbacks *callbacks;
    const nghttp2_settings_entry settings[] = {
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES},
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, STREAMS_MAX}};

    if (!state || nghttp2_session_callbacks_new(&callbacks) != 0) {
        return KV_NO_MEMORY;
    }
    conn->state = state;
    state->conn = conn;
    state->bodies = calloc(conn->depth, sizeof *state->bodies);
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    if (nghttp2_session_client_new(&state->session, callbacks, state) != 0) {
        return KV_NO_MEMORY;
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(state->session, NGHTTP2_FLAG_NONE, settings, 2);
    nghttp2_session_set_local_window_size(state->session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES);
    nghttp2_session_send(state->session);
    conn->ready = true;
    return 0;
}

static void etcd_close(struct bench_conn *conn)
{
    struct state *state = conn->state;

    if (state) {
        for (unsigned i = 0; state->bodies && i < conn->depth; i++) {
            free(state->bodies[i].data);
        }
        nghttp2_session_del(state->session);
        free(state->bodies);
        free(state);
    }
}

static size_t put_field(uint8_t *p, unsigned number, struct kv_slice bytes)
{
    size_t n = 0;
    size_t length = bytes.size;

    p[n++] = (uint8_t)(number << 3 | 2);
    while (length >= 0x80) {
        p[n++] = (uint8_t)(length | 0x80);
        length >>= 7;
    }
    p[n++] = (uint8_t)length;
    memcpy(p + n, bytes.data, bytes.size);
    return n + bytes.size;
}

/* PutRequest{key=1, value=2} or RangeRequest{key=1, serializable=7} behind gRPC's five bytes. */
static int make_body(struct bench_conn *conn,
                     struct body *body,
                     enum operation operation,
                     struct kv_slice key,
                     struct kv_slice value)
{
    uint8_t *data = realloc(body->data, GRPC_HEAD_BYTES + key.size + value.size + 32);
    size_t n = GRPC_HEAD_BYTES;

    if (!data) {
        return KV_NO_MEMORY;
    }
    n += put_field(data + n, 1, key);
    if (operation == OPERATION_PUT) {
        n += put_field(data + n, 2, value);
    } else if (conn->serializable) {
        data[n++] = 7 << 3;
        data[n++] = 1;
    }
    data[0] = 0;
    data[1] = (uint8_t)((n - GRPC_HEAD_BYTES) >> 24);
    data[2] = (uint8_t)((n - GRPC_HEAD_BYTES) >> 16);
    data[3] = (uint8_t)((n - GRPC_HEAD_BYTES) >> 8);
    data[4] = (uint8_t)(n - GRPC_HEAD_BYTES);
    *body = (struct body){.data = data, .size = n};
    return 0;
}

#define HEADER(n, v)                                                                        \
    {                                                                                       \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, sizeof(v) - 1, \
            NGHTTP2_NV_FLAG_NONE                                                            \
    }

static int etcd_encode(struct bench_conn *conn,
                       unsigned slot,
                       enum operation operation,
                       struct kv_slice key,
                       struct kv_slice value)
{
    struct state *state = conn->state;
    struct body *body = &state->bodies[slot];
    const nghttp2_nv put[] = {HEADER(":method", "POST"),
                              HEADER(":scheme", "http"),
                              HEADER(":path", "/etcdserverpb.KV/Put"),
                              HEADER(":authority", "localhost"),
                              HEADER("content-type", "application/grpc"),
                              HEADER("te", "trailers")};
    const nghttp2_nv get[] = {HEADER(":method", "POST"),
                              HEADER(":scheme", "http"),
                              HEADER(":path", "/etcdserverpb.KV/Range"),
                              HEADER(":authority", "localhost"),
                              HEADER("content-type", "application/grpc"),
                              HEADER("te", "trailers")};
    nghttp2_data_provider provider = {.source.ptr = body, .read_callback = on_body};
    int status = make_body(conn, body, operation, key, value);

    if (status == 0 && nghttp2_submit_request(state->session,
                                              NULL,
                                              operation == OPERATION_PUT ? put : get,
                                              6,
                                              &provider,
                                              (void *)(uintptr_t)(slot + 1)) < 0) {
        status = KV_INTERNAL;
    }
    return status == 0 && nghttp2_session_send(state->session) != 0 ? KV_INTERNAL : status;
}

static int etcd_parse(struct bench_conn *conn, completed_fn completed)
{
    struct state *state = conn->state;
    ssize_t taken;

    state->completed = completed;
    taken = nghttp2_session_mem_recv(state->session, conn->in.data, conn->in.size);
    if (taken < 0) {
        snprintf(conn->error, sizeof conn->error, "%s", nghttp2_strerror((int)taken));
        return KV_INVALID;
    }
    kv_buf_consume(&conn->in, (size_t)taken);
    return nghttp2_session_send(state->session) == 0 ? 0 : KV_INTERNAL;
}

const struct target target_etcd = {"etcd", etcd_open, etcd_close, etcd_encode, etcd_parse};
