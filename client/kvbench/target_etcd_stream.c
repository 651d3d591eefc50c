#include "client/kvbench/target_etcd_stream.h"
#include "client/kvbench/target_etcd_wire.h"
#include "client/kvbench/wire.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { BYTES_MAX = 256 * 1024 * 1024, PREFIX_BYTES_MAX = 64 };

/* Field numbers of etcd's rpc.proto and kv.proto. */
enum {
    RESPONSE_WATCH_ID = 2,
    RESPONSE_CREATED = 3,
    RESPONSE_CANCELED = 4,
    RESPONSE_COMPACTED = 5,
    RESPONSE_REASON = 6,
    RESPONSE_EVENT = 11,
    EVENT_KV = 2,
    KV_VALUE = 5
};

void etcd_stream_init(struct etcd_stream *stream)
{
    *stream = (struct etcd_stream){0};
    kv_buf_init(&stream->out, BYTES_MAX);
    kv_buf_init(&stream->in, BYTES_MAX);
}

void etcd_stream_deinit(struct etcd_stream *stream)
{
    kv_buf_deinit(&stream->out);
    kv_buf_deinit(&stream->in);
}

/* The stream stays open: when there is nothing more to send, it waits. */
static ssize_t on_body(nghttp2_session *session,
                       int32_t stream_id,
                       uint8_t *buf,
                       size_t length,
                       uint32_t *flags,
                       nghttp2_data_source *source,
                       void *arg)
{
    struct etcd_stream *stream = source->ptr;
    size_t rest = stream->out.size - stream->sent;
    size_t n = rest < length ? rest : length;

    (void)session;
    (void)stream_id;
    (void)flags;
    (void)arg;
    if (n == 0) {
        kv_buf_clear(&stream->out);
        stream->sent = 0;
        return NGHTTP2_ERR_DEFERRED;
    }
    memcpy(buf, stream->out.data + stream->sent, n);
    stream->sent += n;
    return (ssize_t)n;
}

int etcd_stream_watch(struct etcd_stream *stream,
                      nghttp2_session *session,
                      const nghttp2_nv *headers,
                      size_t n_headers,
                      const struct bench_watch *watch)
{
    nghttp2_data_provider provider = {.source.ptr = stream, .read_callback = on_body};
    uint8_t end[PREFIX_BYTES_MAX];
    struct kv_slice range_end = {0};
    int status;

    if (watch->prefix) {
        if (watch->key.size == 0 || watch->key.size > sizeof end ||
            watch->key.data[watch->key.size - 1] == 0xff) {
            return KV_INVALID;
        }
        memcpy(end, watch->key.data, watch->key.size);
        end[watch->key.size - 1]++;
        range_end = kv_slice_of(end, watch->key.size);
    }
    /* Watch id 0 would let the server choose. */
    status = etcd_wire_watch(
        &stream->out, watch->key, range_end, watch->from_revision, (int64_t)watch->number + 1);
    if (status != 0) {
        return status;
    }
    if (stream->id == 0) {
        stream->id = nghttp2_submit_request(session, NULL, headers, n_headers, &provider, NULL);
        return stream->id < 0 ? KV_INTERNAL : 0;
    }
    /* It may be sending already: that is no error. */
    (void)nghttp2_session_resume_data(session, stream->id);
    return 0;
}

static int refuse(struct bench_conn *conn, struct kv_slice response)
{
    struct wire_field compacted = {0};
    struct wire_field reason = {0};
    bool known = wire_find(response, RESPONSE_REASON, &reason);

    (void)wire_find(response, RESPONSE_COMPACTED, &compacted);
    snprintf(conn->error,
             sizeof conn->error,
             "a watch was canceled: compacted to %" PRIu64 ", \"%.*s\"",
             compacted.value,
             known ? (int)reason.bytes.size : 0,
             known ? (const char *)reason.bytes.data : "");
    return KV_INVALID;
}

static int take_response(struct bench_conn *conn, struct kv_slice response)
{
    struct kv_slice rest = response;
    struct wire_field field;
    struct wire_field pair;
    struct wire_field value;
    unsigned number = 0;

    while (wire_next(&rest, &field)) {
        if (field.number == RESPONSE_WATCH_ID) {
            number = (unsigned)field.value - 1;
        } else if (field.number == RESPONSE_CREATED) {
            conn->hooks->on_watching(conn, number);
        } else if (field.number == RESPONSE_CANCELED) {
            return refuse(conn, response);
        } else if (field.number == RESPONSE_EVENT) {
            bool known =
                wire_find(field.bytes, EVENT_KV, &pair) && wire_find(pair.bytes, KV_VALUE, &value);

            conn->hooks->on_event(conn, number, known ? value.bytes : (struct kv_slice){0});
        }
    }
    return 0;
}

/* Takes the whole messages at the front of *bytes. */
static int take_whole(struct bench_conn *conn, struct kv_slice *bytes)
{
    while (bytes->size >= ETCD_WIRE_HEAD_BYTES) {
        size_t size = 0;

        for (size_t i = 1; i < ETCD_WIRE_HEAD_BYTES; i++) {
            size = size << 8 | bytes->data[i];
        }
        if (bytes->size < ETCD_WIRE_HEAD_BYTES + size) {
            break;
        }
        if (take_response(conn, kv_slice_of(bytes->data + ETCD_WIRE_HEAD_BYTES, size)) != 0) {
            return KV_INVALID;
        }
        *bytes = kv_slice_of(bytes->data + ETCD_WIRE_HEAD_BYTES + size,
                             bytes->size - ETCD_WIRE_HEAD_BYTES - size);
    }
    return 0;
}

int etcd_stream_take(struct bench_conn *conn, struct etcd_stream *stream, struct kv_slice bytes)
{
    int status;

    /* Usually nothing waits, and nothing is copied. */
    if (stream->in.size == 0) {
        status = take_whole(conn, &bytes);
        return status ? status : kv_buf_append(&stream->in, bytes.data, bytes.size);
    }
    status = kv_buf_append(&stream->in, bytes.data, bytes.size);
    bytes = kv_slice_of(stream->in.data, stream->in.size);
    status = status ? status : take_whole(conn, &bytes);
    kv_buf_consume(&stream->in, stream->in.size - bytes.size);
    return status;
}
