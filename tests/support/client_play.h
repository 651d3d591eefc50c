/* Servers played by a test against the session core of libkv: bytes in, bytes out, time by hand. Of
 * a test that includes cmocka.h and what it wants before. */
#ifndef KV_TESTS_SUPPORT_CLIENT_PLAY_H
#define KV_TESTS_SUPPORT_CLIENT_PLAY_H

#include "client/session.h"
#include "proto/frame.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

#define MS 1000000ULL
enum { A, B, C };

/* What the session asked of its driver and sent, per endpoint. */
struct play {
    struct kv_session *session;
    uint64_t now_ns;
    bool connect[KV_CLIENT_ENDPOINTS_MAX];
    bool disconnected[KV_CLIENT_ENDPOINTS_MAX];
    char address[KV_CLIENT_ENDPOINTS_MAX][KV_CLIENT_ADDRESS_BYTES];
    struct kv_buf sent[KV_CLIENT_ENDPOINTS_MAX];
};

struct end {
    int calls;
    int status;
    char message[KV_ERROR_MESSAGE_SIZE];
    int64_t revision;
    int items;
};

static inline void on_end(void *arg, const struct kv_session_answer *answer)
{
    struct end *end = arg;

    end->calls++;
    end->status = answer->status;
    snprintf(end->message, sizeof end->message, "%s", answer->error->message);
    end->revision = answer->reply ? answer->reply->revision : 0;
}

static inline void on_item(void *arg, const Kv__StreamItem *item)
{
    struct end *end = arg;

    assert_int_equal(item->item_case, KV__STREAM_ITEM__ITEM_RANGE);
    end->items++;
}

/* Does what a driver does after each input. */
static inline void drive(struct play *play)
{
    struct kv_session_action action;

    while (kv_session_next_action(play->session, &action)) {
        if (action.kind == KV_SESSION_CONNECT) {
            play->connect[action.endpoint] = true;
            snprintf(play->address[action.endpoint], sizeof play->address[0], "%s", action.address);
        } else {
            play->disconnected[action.endpoint] = true;
            play->connect[action.endpoint] = false;
        }
    }
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX; i++) {
        struct kv_buf out;

        kv_buf_init(&out, KV_CLIENT_OUT_BYTES_MAX);
        if (i < kv_session_endpoint_count(play->session) &&
            kv_session_take_output(play->session, i, &out)) {
            assert_int_equal(kv_buf_append(&play->sent[i], out.data, out.size), 0);
        }
        kv_buf_deinit(&out);
    }
}

static inline struct play *play_open_with(struct kv_client_options options)
{
    struct play *play = calloc(1, sizeof *play);
    struct kv_error error;

    assert_non_null(play);
    play->now_ns = 1000 * MS;
    assert_int_equal(kv_session_open(&options, 7, &play->session, &error), 0);
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX; i++) {
        kv_buf_init(&play->sent[i], 64 * KV_MIB);
    }
    return play;
}

static inline struct play *play_open(const char *endpoints)
{
    return play_open_with(
        (struct kv_client_options){.endpoints = endpoints, .name = "test", .no_session = true});
}

static inline void play_close(struct play *play)
{
    kv_session_close(play->session);
    for (unsigned i = 0; i < KV_CLIENT_ENDPOINTS_MAX; i++) {
        kv_buf_deinit(&play->sent[i]);
    }
    free(play);
}

static inline void pass(struct play *play, unsigned ms)
{
    uint64_t until_ns = play->now_ns + ms * MS;

    while (kv_session_wake_ns(play->session) <= until_ns) {
        uint64_t wake_ns = kv_session_wake_ns(play->session);

        play->now_ns = wake_ns > play->now_ns ? wake_ns : play->now_ns + 1;
        kv_session_on_timer(play->session, play->now_ns);
        drive(play);
    }
    play->now_ns = until_ns;
}

static inline void submit_with(struct play *play,
                               Kv__Request__CommandCase command,
                               struct kv_call_options options,
                               struct end *end)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    Kv__Get get = KV__GET__INIT;
    Kv__SnapshotNow snapshot_now = KV__SNAPSHOT_NOW__INIT;

    put.key = get.key = (ProtobufCBinaryData){3, (uint8_t *)"key"};
    request.command_case = command;
    if (command == KV__REQUEST__COMMAND_PUT) {
        request.put = &put;
    } else if (command == KV__REQUEST__COMMAND_SNAPSHOT_NOW) {
        request.snapshot_now = &snapshot_now;
    } else {
        request.get = &get;
    }
    assert_int_equal(
        kv_session_submit(play->session, play->now_ns, &request, &options, NULL, on_end, end, NULL),
        0);
    assert_int_equal(end->calls, 0);
    drive(play);
}

static inline void put(struct play *play, struct end *end)
{
    submit_with(play, KV__REQUEST__COMMAND_PUT, (struct kv_call_options){0}, end);
}

static inline void get(struct play *play, struct end *end)
{
    submit_with(play, KV__REQUEST__COMMAND_GET, (struct kv_call_options){0}, end);
}

/* ---------------------------------------------------------------- the server's side */

/* Takes the next frame that was sent; its body is copied. */
static inline uint8_t take_frame(struct play *play, unsigned endpoint, struct kv_buf *body)
{
    struct kv_buf *sent = &play->sent[endpoint];
    struct kv_frame frame;
    struct kv_error error;
    int64_t size =
        kv_frame_peek(kv_slice_of(sent->data, sent->size), KV_REQUEST_BYTES_MAX, &frame, &error);
    uint8_t kind;

    assert_true(size >= 0);
    kv_buf_clear(body);
    if (size == 0) {
        return 0;
    }
    kind = frame.kind;
    assert_int_equal(kv_buf_append(body, frame.body.data, frame.body.size), 0);
    kv_buf_consume(sent, (size_t)size);
    return kind;
}

/* The next request's id; 0 when none was sent. */
static inline uint64_t
take_request(struct play *play, unsigned endpoint, Kv__Request__CommandCase command)
{
    struct kv_buf body;
    Kv__Request *request;
    uint64_t id = 0;
    uint8_t kind;

    kv_buf_init(&body, KV_REQUEST_BYTES_MAX);
    kind = take_frame(play, endpoint, &body);
    if (kind != 0) {
        assert_int_equal(kind, KV_FRAME_REQUEST);
        request = kv__request__unpack(NULL, body.size, body.data);
        assert_non_null(request);
        assert_int_equal(request->command_case, command);
        assert_true(request->deadline_ms > 0);
        id = request->id;
        assert_int_not_equal(id, 0);
        kv__request__free_unpacked(request, NULL);
    }
    kv_buf_deinit(&body);
    return id;
}

static inline uint64_t take_put(struct play *play, unsigned endpoint)
{
    return take_request(play, endpoint, KV__REQUEST__COMMAND_PUT);
}

static inline uint64_t take_get(struct play *play, unsigned endpoint)
{
    return take_request(play, endpoint, KV__REQUEST__COMMAND_GET);
}

static inline void
answer_frame(struct play *play, unsigned endpoint, enum kv_frame_kind kind, const void *message)
{
    struct kv_buf buf;

    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(kv_frame_append(&buf, kind, message, false), 0);
    kv_session_on_bytes(play->session, play->now_ns, endpoint, kv_slice_of(buf.data, buf.size));
    kv_buf_deinit(&buf);
    drive(play);
}

static inline void answer_hint(
    struct play *play, unsigned endpoint, uint64_t id, Kv__Code code, const char *leader_address)
{
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__Hint hint = KV__HINT__INIT;

    reply.id = id;
    reply.code = code;
    reply.revision = 42;
    hint.leader_address = (char *)leader_address;
    reply.hint = leader_address ? &hint : NULL;
    answer_frame(play, endpoint, KV_FRAME_REPLY, &reply);
}

static inline void answer(struct play *play, unsigned endpoint, uint64_t id, Kv__Code code)
{
    answer_hint(play, endpoint, id, code, NULL);
}

static inline void
greet(struct play *play, unsigned endpoint, uint64_t leader_id, const char *address)
{
    Kv__HelloReply hello = KV__HELLO_REPLY__INIT;

    hello.cluster_id = 99;
    hello.node_id = endpoint + 1;
    hello.leader_id = leader_id;
    hello.leader_address = (char *)address;
    answer_frame(play, endpoint, KV_FRAME_HELLO_REPLY, &hello);
}

/* Connects as asked and takes the hello. */
static inline void connect_only(struct play *play, unsigned endpoint)
{
    struct kv_buf body;

    assert_true(play->connect[endpoint]);
    play->connect[endpoint] = false;
    kv_session_on_connected(play->session, play->now_ns, endpoint);
    drive(play);
    kv_buf_init(&body, KV_MIB);
    assert_int_equal(take_frame(play, endpoint, &body), KV_FRAME_HELLO);
    kv_buf_deinit(&body);
}

static inline void accept_at(struct play *play, unsigned endpoint)
{
    connect_only(play, endpoint);
    greet(play, endpoint, 0, "");
}

static inline void refuse(struct play *play, unsigned endpoint, const char *reason)
{
    assert_true(play->connect[endpoint]);
    play->connect[endpoint] = false;
    kv_session_on_closed(play->session, play->now_ns, endpoint, reason);
    drive(play);
}

static inline void lose(struct play *play, unsigned endpoint, const char *reason)
{
    kv_session_on_closed(play->session, play->now_ns, endpoint, reason);
    drive(play);
}

#endif
