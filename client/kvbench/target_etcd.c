/* etcd's gRPC over HTTP/2 (nghttp2): one stream per request, as its own client does. Counters and
 * limiters are a loop: read, then put if nobody has changed the key meanwhile, else again. */
#include "client/kvbench/target_etcd_stream.h"
#include "client/kvbench/target_etcd_wire.h"

#include <inttypes.h>
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum {
    BODY_BYTES_MAX = 16 * 1024 * 1024,
    NUMBER_BYTES = 32,
    WINDOW_BYTES = 64 * 1024 * 1024,
    STREAMS_MAX = 1024
};

enum step { STEP_SINGLE, STEP_READ, STEP_SWAP };

/* What a slot sends, and hears. */
struct body {
    struct kv_buf out;
    size_t sent;
    struct kv_buf in; /* of a loop's steps only */
    bool failed;
    enum step step;
    enum operation operation;
    char key[64];
    size_t key_size;
};

struct state {
    nghttp2_session *session;
    struct bench_conn *conn;
    completed_fn completed;
    struct body *bodies; /* per slot */
    struct etcd_stream stream;
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

static int on_data(nghttp2_session *session,
                   uint8_t flags,
                   int32_t stream_id,
                   const uint8_t *data,
                   size_t size,
                   void *arg)
{
    struct state *state = arg;
    unsigned slot = (unsigned)(uintptr_t)nghttp2_session_get_stream_user_data(session, stream_id);

    (void)flags;
    if (stream_id == state->stream.id) {
        return etcd_stream_take(state->conn, &state->stream, kv_slice_of(data, size)) == 0
                   ? 0
                   : NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (slot > 0 && state->bodies[slot - 1].step != STEP_SINGLE &&
        kv_buf_append(&state->bodies[slot - 1].in, data, size) != 0) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    return 0;
}

static int swap(struct state *state, unsigned slot, const struct etcd_wire_current *current);

/* The next step of a loop. *ret_done: there is none. */
static int step(struct state *state, unsigned slot, bool *ret_done)
{
    struct body *body = &state->bodies[slot];
    struct kv_slice response = kv_slice_of(body->in.data, body->in.size);
    struct etcd_wire_current current;

    *ret_done = body->step == STEP_SINGLE ||
                (body->step == STEP_SWAP && etcd_wire_read_swap(response, &current));
    if (*ret_done) {
        return 0;
    }
    if (body->step == STEP_READ) {
        current = etcd_wire_read_range(response);
    }
    return swap(state, slot, &current);
}

static int on_stream_close(nghttp2_session *session, int32_t stream_id, uint32_t error, void *arg)
{
    struct state *state = arg;
    unsigned slot = (unsigned)(uintptr_t)nghttp2_session_get_stream_user_data(session, stream_id);
    bool done = true;
    bool ok;

    if (slot == 0) {
        snprintf(state->conn->error, sizeof state->conn->error, "the server ended all watches");
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    ok = error == 0 && !state->bodies[slot - 1].failed;
    if (ok && step(state, slot - 1, &done) != 0) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    if (done) {
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
    size_t rest = body->out.size - body->sent;
    size_t n = rest < length ? rest : length;

    (void)session;
    (void)stream_id;
    (void)arg;
    memcpy(buf, body->out.data + body->sent, n);
    body->sent += n;
    if (body->sent == body->out.size) {
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
    etcd_stream_init(&state->stream);
    state->bodies = calloc(conn->depth, sizeof *state->bodies);
    for (unsigned i = 0; state->bodies && i < conn->depth; i++) {
        kv_buf_init(&state->bodies[i].out, BODY_BYTES_MAX);
        kv_buf_init(&state->bodies[i].in, BODY_BYTES_MAX);
    }
    nghttp2_session_callbacks_set_send_callback(callbacks, on_send);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_stream_close);
    if (!state->bodies || nghttp2_session_client_new(&state->session, callbacks, state) != 0) {
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
            kv_buf_deinit(&state->bodies[i].out);
            kv_buf_deinit(&state->bodies[i].in);
        }
        nghttp2_session_del(state->session);
        etcd_stream_deinit(&state->stream);
        free(state->bodies);
        free(state);
    }
}

#define HEADER(n, v)                                                                        \
    {                                                                                       \
        (uint8_t *)(uintptr_t)(n), (uint8_t *)(uintptr_t)(v), sizeof(n) - 1, sizeof(v) - 1, \
            NGHTTP2_NV_FLAG_NONE                                                            \
    }

/* HEADER takes literals, so there is one list for each path. */
#define HEADERS(path)                                                                      \
    {                                                                                      \
        HEADER(":method", "POST"), HEADER(":scheme", "http"), HEADER(":path", path),       \
            HEADER(":authority", "localhost"), HEADER("content-type", "application/grpc"), \
            HEADER("te", "trailers")                                                       \
    }

enum method { METHOD_PUT, METHOD_RANGE, METHOD_TXN, METHOD_GRANT, METHOD_RENEW, METHOD_WATCH };
enum { N_HEADERS = 6 };

static const nghttp2_nv headers[][N_HEADERS] = {
    [METHOD_PUT] = HEADERS("/etcdserverpb.KV/Put"),
    [METHOD_RANGE] = HEADERS("/etcdserverpb.KV/Range"),
    [METHOD_TXN] = HEADERS("/etcdserverpb.KV/Txn"),
    [METHOD_GRANT] = HEADERS("/etcdserverpb.Lease/LeaseGrant"),
    [METHOD_RENEW] = HEADERS("/etcdserverpb.Lease/LeaseKeepAlive"),
    [METHOD_WATCH] = HEADERS("/etcdserverpb.Watch/Watch"),
};

static int submit(struct state *state, unsigned slot, enum method method)
{
    struct body *body = &state->bodies[slot];
    nghttp2_data_provider provider = {.source.ptr = body, .read_callback = on_body};

    body->sent = 0;
    body->failed = false;
    kv_buf_clear(&body->in);
    return nghttp2_submit_request(state->session,
                                  NULL,
                                  headers[method],
                                  N_HEADERS,
                                  &provider,
                                  (void *)(uintptr_t)(slot + 1)) < 0
               ? KV_INTERNAL
               : 0;
}

/* What a limiter keeps (GCRA): the time at which it will be full again. */
static uint64_t next_full_ns(uint64_t full_ns)
{
    struct timespec now;
    uint64_t now_ns;

    clock_gettime(CLOCK_REALTIME, &now);
    now_ns = (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
    full_ns = full_ns > now_ns ? full_ns : now_ns;
    return full_ns + (uint64_t)LIMITER_PERIOD_MS * 1000000 / (uint64_t)LIMITER_RATE;
}

/* Numbers are kept as text, as programs do that keep them in etcd. */
static int swap(struct state *state, unsigned slot, const struct etcd_wire_current *current)
{
    struct body *body = &state->bodies[slot];
    char text[NUMBER_BYTES] = "";
    size_t size = current->value.size < sizeof text - 1 ? current->value.size : sizeof text - 1;
    uint64_t number;
    int status;

    if (size > 0) {
        memcpy(text, current->value.data, size);
    }
    number = strtoull(text, NULL, 10);
    number = body->operation == OPERATION_LIMITER ? next_full_ns(number) : number + 1;
    size = (size_t)snprintf(text, sizeof text, "%" PRIu64, number);
    body->step = STEP_SWAP;
    status = etcd_wire_swap(&body->out,
                            kv_slice_of(body->key, body->key_size),
                            current->mod_revision,
                            kv_slice_of(text, size));
    return status ? status : submit(state, slot, METHOD_TXN);
}

/* What is sent first, and as what. */
static int begin(struct bench_conn *conn,
                 struct body *body,
                 const struct bench_request *request,
                 enum method *ret_method)
{
    body->step = STEP_SINGLE;
    switch (request->operation) {
    case OPERATION_PUT:
        *ret_method = METHOD_PUT;
        return etcd_wire_put(&body->out, request->key, request->value);
    case OPERATION_LEASE_GRANT:
        *ret_method = METHOD_GRANT;
        return etcd_wire_lease_grant(&body->out, request->leases[0], request->ttl_ms);
    case OPERATION_LEASE_RENEW:
        *ret_method = METHOD_RENEW;
        return etcd_wire_lease_renew(&body->out, request->leases, request->n_leases);
    case OPERATION_GET:
        *ret_method = METHOD_RANGE;
        return etcd_wire_range(&body->out, request->key, conn->serializable);
    default:
        body->step = STEP_READ;
        *ret_method = METHOD_RANGE;
        return etcd_wire_range(&body->out, request->key, false);
    }
}

static int etcd_encode(struct bench_conn *conn, unsigned slot, const struct bench_request *request)
{
    struct state *state = conn->state;
    struct body *body = &state->bodies[slot];
    enum method method;
    int status;

    if (request->key.size > sizeof body->key) {
        return KV_TOO_LARGE;
    }
    body->operation = request->operation;
    memcpy(body->key, request->key.data, request->key.size);
    body->key_size = request->key.size;
    status = begin(conn, body, request, &method);
    status = status ? status : submit(state, slot, method);
    return status == 0 && nghttp2_session_send(state->session) != 0 ? KV_INTERNAL : status;
}

static int etcd_watch(struct bench_conn *conn, const struct bench_watch *watch)
{
    struct state *state = conn->state;
    int status = watch->topic
                     ? KV_UNSUPPORTED
                     : etcd_stream_watch(
                           &state->stream, state->session, headers[METHOD_WATCH], N_HEADERS, watch);

    return status == 0 && nghttp2_session_send(state->session) != 0 ? KV_INTERNAL : status;
}

static int etcd_parse(struct bench_conn *conn, completed_fn completed)
{
    struct state *state = conn->state;
    ssize_t taken;

    state->completed = completed;
    taken = nghttp2_session_mem_recv(state->session, conn->in.data, conn->in.size);
    if (taken < 0) {
        if (!conn->error[0]) {
            snprintf(conn->error, sizeof conn->error, "%s", nghttp2_strerror((int)taken));
        }
        return KV_INVALID;
    }
    kv_buf_consume(&conn->in, (size_t)taken);
    return nghttp2_session_send(state->session) == 0 ? 0 : KV_INTERNAL;
}

const struct target target_etcd = {
    .name = "etcd",
    .operations = 1u << OPERATION_PUT | 1u << OPERATION_GET | 1u << OPERATION_COUNTER_ADD |
                  1u << OPERATION_LIMITER | 1u << OPERATION_LEASE_GRANT |
                  1u << OPERATION_LEASE_RENEW,
    .open = etcd_open,
    .close = etcd_close,
    .encode = etcd_encode,
    .parse = etcd_parse,
    .watch = etcd_watch,
};
