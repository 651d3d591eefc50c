#include "client/kvbench/target.h"
#include "proto/frame.h"
#include "proto/kv.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int kvd_open(struct bench_conn *conn)
{
    Kv__Hello hello = KV__HELLO__INIT;

    hello.protocol_version = 1;
    hello.client_name = (char *)(uintptr_t) "kvbench";
    return kv_frame_append(&conn->out, KV_FRAME_HELLO, &hello.base, false);
}

static void kvd_close(struct bench_conn *conn)
{
    (void)conn;
}

static int kvd_encode(struct bench_conn *conn,
                      unsigned slot,
                      enum operation operation,
                      struct kv_slice key,
                      struct kv_slice value)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    Kv__Get get = KV__GET__INIT;

    request.id = slot + 1;
    if (operation == OPERATION_PUT) {
        put.key = (ProtobufCBinaryData){key.size, (uint8_t *)(uintptr_t)key.data};
        put.value = (ProtobufCBinaryData){value.size, (uint8_t *)(uintptr_t)value.data};
        request.command_case = KV__REQUEST__COMMAND_PUT;
        request.put = &put;
    } else {
        get.key = (ProtobufCBinaryData){key.size, (uint8_t *)(uintptr_t)key.data};
        request.command_case = KV__REQUEST__COMMAND_GET;
        request.get = &get;
        request.serializable = conn->serializable;
    }
    return kv_frame_append(&conn->out, KV_FRAME_REQUEST, &request.base, false);
}

static uint64_t read_varint(const uint8_t **p, const uint8_t *end)
{
    uint64_t value = 0;

    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;

        value |= (uint64_t)(byte & 0x7f) << shift;
        if (!(byte & 0x80)) {
            break;
        }
    }
    return value;
}

/* Only id (1) and code (2) are of interest; they come first. */
static void read_reply(struct kv_slice body, uint64_t *ret_id, uint64_t *ret_code)
{
    const uint8_t *p = body.data;
    const uint8_t *end = p + body.size;

    *ret_id = *ret_code = 0;
    while (p < end && (*p == 0x08 || *p == 0x10)) {
        uint8_t tag = *p++;
        uint64_t value = read_varint(&p, end);

        *(tag == 0x08 ? ret_id : ret_code) = value;
    }
}

static int read_hello(struct bench_conn *conn, struct kv_slice body)
{
    Kv__HelloReply *reply = kv__hello_reply__unpack(NULL, body.size, body.data);

    if (!reply || reply->code != KV__CODE__OK) {
        snprintf(conn->error,
                 sizeof conn->error,
                 "hello refused: %s",
                 reply ? reply->message : "malformed");
        return KV_INVALID;
    }
    snprintf(conn->leader, sizeof conn->leader, "%s", reply->leader_address);
    conn->ready = true;
    kv__hello_reply__free_unpacked(reply, NULL);
    return 0;
}

static int kvd_parse(struct bench_conn *conn, completed_fn completed)
{
    size_t offset = 0;

    for (;;) {
        struct kv_frame frame;
        struct kv_error error = {0};
        int64_t size = kv_frame_peek(kv_slice_of(conn->in.data + offset, conn->in.size - offset),
                                     KV_REPLY_FRAME_BYTES_MAX,
                                     &frame,
                                     &error);
        uint64_t id, code;

        if (size == 0) {
            kv_buf_consume(&conn->in, offset);
            return 0;
        }
        if (size < 0) {
            snprintf(conn->error, sizeof conn->error, "%.150s", error.message);
            return KV_INVALID;
        }
        offset += (size_t)size;
        if (frame.kind == KV_FRAME_HELLO_REPLY) {
            if (read_hello(conn, frame.body) != 0) {
                return KV_INVALID;
            }
        } else if (frame.kind == KV_FRAME_REPLY) {
            read_reply(frame.body, &id, &code);
            if (id == 0 || id > conn->depth) {
                snprintf(conn->error, sizeof conn->error, "reply to unknown id");
                return KV_INVALID;
            }
            completed(conn,
                      (unsigned)id - 1,
                      code == 0 || code == KV__CODE__NOT_FOUND,
                      code ? kv_status_name((int)code) : "");
        } else {
            snprintf(conn->error, sizeof conn->error, "the server said goodbye");
            return KV_CLOSED;
        }
    }
}

const struct target target_kvd = {"kvd", kvd_open, kvd_close, kvd_encode, kvd_parse};
