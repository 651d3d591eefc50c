#include "client/kvbench/target_kvd_stream.h"
#include "client/kvbench/wire.h"
#include "proto/frame.h"
#include "proto/kv.pb-c.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Credit is given anew when so much was taken. */
#define CREDIT_STEP_BYTES (KV_STREAM_CREDIT_MAX / 16)

/* Field numbers of kv.proto. */
enum {
    ITEM_ID = 1,
    ITEM_END = 2,
    ITEM_CODE = 4,
    ITEM_WATCH = 256,
    ITEM_TOPIC = 273,
    EVENTS_EVENT = 2,
    EVENT_KV = 2,
    KV_VALUE = 2,
    TOPIC_MESSAGE = 1,
    MESSAGE_PAYLOAD = 2
};

void kvd_streams_deinit(struct kvd_streams *streams)
{
    free(streams->streams);
}

static uint64_t id_of(const struct bench_conn *conn, unsigned number)
{
    return (uint64_t)conn->depth + 1 + number;
}

int kvd_stream_begin(struct bench_conn *conn,
                     struct kvd_streams *streams,
                     const struct bench_watch *watch)
{
    Kv__Request message = KV__REQUEST__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;
    Kv__Watch keys = KV__WATCH__INIT;
    Kv__Subscribe topic = KV__SUBSCRIBE__INIT;
    ProtobufCBinaryData name = {watch->key.size, (uint8_t *)(uintptr_t)watch->key.data};
    struct kvd_stream *grown;

    grown = realloc(streams->streams, (watch->number + 1) * sizeof *grown);
    if (!grown) {
        return KV_NO_MEMORY;
    }
    streams->streams = grown;
    streams->streams[watch->number] = (struct kvd_stream){0};
    streams->n = watch->number + 1;
    message.id = id_of(conn, watch->number);
    if (watch->topic) {
        topic.topic = name;
        topic.start_revision = watch->from_revision;
        topic.credit = KV_STREAM_CREDIT_MAX;
        message.command_case = KV__REQUEST__COMMAND_SUBSCRIBE;
        message.subscribe = &topic;
    } else {
        range.start = name;
        range.special =
            watch->prefix ? KV__KEY_RANGE__SPECIAL__PREFIX : KV__KEY_RANGE__SPECIAL__NONE;
        keys.range = &range;
        keys.start_revision = watch->from_revision;
        keys.credit = KV_STREAM_CREDIT_MAX;
        message.command_case = KV__REQUEST__COMMAND_WATCH;
        message.watch = &keys;
    }
    return kv_frame_append(&conn->out, KV_FRAME_REQUEST, &message.base, false);
}

static int give_credit(struct bench_conn *conn, struct kvd_stream *stream, uint64_t id)
{
    Kv__Credit credit = KV__CREDIT__INIT;

    if (stream->taken < CREDIT_STEP_BYTES) {
        return 0;
    }
    credit.id = id;
    credit.bytes = stream->taken;
    stream->taken = 0;
    return kv_frame_append(&conn->out, KV_FRAME_CREDIT, &credit.base, false);
}

/* Tells of each event of WatchEvents, or message of TopicMessages. */
static void take(struct bench_conn *conn, unsigned number, struct kv_slice item, bool topic)
{
    uint64_t wanted = topic ? TOPIC_MESSAGE : EVENTS_EVENT;
    struct wire_field event;

    while (wire_next(&item, &event)) {
        struct wire_field value = {0};
        bool found;

        if (event.number != wanted) {
            continue;
        }
        if (topic) {
            found = wire_find(event.bytes, MESSAGE_PAYLOAD, &value);
        } else {
            struct wire_field pair;

            found =
                wire_find(event.bytes, EVENT_KV, &pair) && wire_find(pair.bytes, KV_VALUE, &value);
        }
        conn->hooks->on_event(conn, number, found ? value.bytes : (struct kv_slice){0});
    }
}

static int refuse(struct bench_conn *conn, struct kv_slice body)
{
    Kv__StreamItem *item = kv__stream_item__unpack(NULL, body.size, body.data);

    snprintf(conn->error,
             sizeof conn->error,
             "a stream ended: %s %.150s",
             item ? kv_status_name((int)item->code) : "malformed",
             item ? item->message : "");
    if (item) {
        kv__stream_item__free_unpacked(item, NULL);
    }
    return KV_INVALID;
}

int kvd_stream_refused(struct bench_conn *conn, struct kv_slice body)
{
    Kv__Reply *reply = kv__reply__unpack(NULL, body.size, body.data);

    snprintf(conn->error,
             sizeof conn->error,
             "a stream was refused: %s %.150s",
             reply ? kv_status_name((int)reply->code) : "malformed",
             reply ? reply->message : "");
    if (reply) {
        kv__reply__free_unpacked(reply, NULL);
    }
    return KV_INVALID;
}

int kvd_stream_item(struct bench_conn *conn, struct kvd_streams *streams, struct kv_slice body)
{
    struct kv_slice rest = body;
    struct wire_field field;
    struct kvd_stream *stream;
    uint64_t id = 0;
    bool ended = false;
    unsigned number;

    while (wire_next(&rest, &field)) {
        if (field.number == ITEM_ID) {
            id = field.value;
        } else if ((field.number == ITEM_END || field.number == ITEM_CODE) && field.value != 0) {
            ended = true;
        } else if (field.number == ITEM_WATCH || field.number == ITEM_TOPIC) {
            if (id <= conn->depth || id - id_of(conn, 0) >= streams->n) {
                break;
            }
            take(conn, (unsigned)(id - id_of(conn, 0)), field.bytes, field.number == ITEM_TOPIC);
        }
    }
    if (ended || id <= conn->depth || id - id_of(conn, 0) >= streams->n) {
        return refuse(conn, body);
    }
    number = (unsigned)(id - id_of(conn, 0));
    stream = &streams->streams[number];
    if (!stream->begun) {
        stream->begun = true;
        conn->hooks->on_watching(conn, number);
    }
    stream->taken += KV_FRAME_HEADER_BYTES + body.size;
    return give_credit(conn, stream, id);
}
