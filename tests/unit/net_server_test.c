/* The listener on loopback, with a stand-in for the node: what clients, strangers and broken
 * clients get. */
#include "common/limits.h"
#include "common/log.h"
#include "server/net/net_internal.h"
#include "server/net/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>
/* after the above, as it wants */
#include <cmocka.h>

#include "proto/frame.h"

enum { HELD_MAX = 4096, WAIT_MS = 10000, BIG_BYTES = 1024 * 1024 };

/* ---------------------------------------------------------------- the stand-in for the node */

/* Its commands: get of "echo" is answered at once, of "big" with a megabyte; of "hold" when
 * released or cancelled. A put is answered at once. A streamed range gives a byte-sized piece for
 * each credit and ends when cancelled. */
struct kv_node {
    uv_thread_t thread;
    uv_loop_t loop;
    uv_check_t check;
    uv_async_t call;
    uv_mutex_t lock;
    uv_cond_t called;
    void (*fn)(struct kv_node *node); /* under lock; NULL: done */
    struct kv_server *server;
    struct kv_op *held[HELD_MAX];
    size_t n_held;
    size_t n_cancelled;
    uint64_t credit;
    unsigned n_room_made; /* kv_node_stream_room() */
    bool has_room;        /* of the first held one, as of fill() */
    uint64_t filled_bytes;
    bool server_stopped;
};

static void answer(struct kv_node *node, struct kv_op *op, Kv__Code code, size_t value_bytes)
{
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__GetResult get = KV__GET_RESULT__INIT;
    Kv__KeyValue kv = KV__KEY_VALUE__INIT;

    reply.id = op->request->id;
    reply.code = code;
    reply.result_case = KV__REPLY__RESULT_GET;
    reply.get = &get;
    get.kv = &kv;
    kv.value.data = calloc(1, value_bytes + 1);
    kv.value.len = value_bytes;
    kv_server_on_reply(node->server, op, &reply);
    free(kv.value.data);
}

static void end_stream(struct kv_node *node, struct kv_op *op)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;

    item.id = op->request->id;
    item.end = true;
    kv_server_on_stream_item(node->server, op, &item);
}

void kv_node_submit(struct kv_node *node, struct kv_op *op)
{
    const Kv__Request *request = op->request;
    bool is_get = request->command_case == KV__REQUEST__COMMAND_GET;

    if (kv_command_is_stream(op->cls) ||
        (is_get && request->get->key.len == 4 && memcmp(request->get->key.data, "hold", 4) == 0)) {
        assert_true(node->n_held < HELD_MAX);
        node->held[node->n_held++] = op;
    } else if (is_get && request->get->key.len == 3) {
        answer(node, op, KV__CODE__OK, BIG_BYTES);
    } else {
        answer(node, op, KV__CODE__OK, 1);
    }
}

void kv_node_cancel(struct kv_node *node, struct kv_op *op)
{
    for (size_t i = 0; i < node->n_held; i++) {
        if (node->held[i] == op) {
            node->held[i] = node->held[--node->n_held];
            node->n_cancelled++;
            if (kv_command_is_stream(op->cls)) {
                end_stream(node, op);
            } else {
                answer(node, op, KV__CODE__OK, 0);
            }
            return;
        }
    }
}

void kv_node_credit(struct kv_node *node, struct kv_op *op, uint64_t bytes)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;

    node->credit += bytes;
    item.id = op->request->id;
    kv_server_on_stream_item(node->server, op, &item);
}

void kv_node_stream_room(struct kv_node *node)
{
    node->n_room_made++;
}

static void on_check(uv_check_t *check)
{
    struct kv_node *node = check->data;

    kv_server_gather(node->server);
    kv_server_flush(node->server);
}

static void on_call(uv_async_t *async)
{
    struct kv_node *node = async->data;

    uv_mutex_lock(&node->lock);
    if (node->fn) {
        node->fn(node);
        node->fn = NULL;
        uv_cond_broadcast(&node->called);
    }
    uv_mutex_unlock(&node->lock);
}

/* Runs fn on the core and waits until it has. */
static void call(struct kv_node *node, void (*fn)(struct kv_node *node))
{
    uv_mutex_lock(&node->lock);
    node->fn = fn;
    uv_async_send(&node->call);
    while (node->fn) {
        uv_cond_wait(&node->called, &node->lock);
    }
    uv_mutex_unlock(&node->lock);
}

static void run_core(void *arg)
{
    struct kv_node *node = arg;

    uv_run(&node->loop, UV_RUN_DEFAULT);
}

static void release_all(struct kv_node *node)
{
    for (size_t i = 0; i < node->n_held; i++) {
        answer(node, node->held[i], KV__CODE__OK, 1);
    }
    node->n_held = 0;
}

static uint64_t now_ns(void)
{
    return uv_hrtime();
}

/* Copies of what the core knows, taken on the core. */
static size_t seen_held;
static size_t seen_cancelled;
static uint64_t seen_credit;
static unsigned seen_room_made;
static bool seen_has_room;
static uint64_t seen_filled;
static const Kv__Request *seen_request; /* of the first that is held */
static void look(struct kv_node *node)
{
    seen_held = node->n_held;
    seen_cancelled = node->n_cancelled;
    seen_credit = node->credit;
    seen_room_made = node->n_room_made;
    seen_has_room = node->has_room;
    seen_filled = node->filled_bytes;
    seen_request = node->n_held > 0 ? node->held[0]->request : NULL;
}

/* 1; or 0: on the core's loop. */
static unsigned default_threads;

static struct kv_node *start_with(struct kv_server_options options)
{
    struct kv_node *node = calloc(1, sizeof *node);
    struct kv_node_status status = {.cluster_id = 77, .node_id = 3, .leader_id = 2};
    struct kv_error error;

    snprintf(status.leader_address, sizeof status.leader_address, "leader.test:4700");
    status.settings.value_bytes = KV_VALUE_BYTES_DEFAULT;
    status.settings.reply_bytes = KV_REPLY_BYTES_DEFAULT;
    status.settings.work_elements = KV_WORK_ELEMENTS_DEFAULT;
    uv_loop_init(&node->loop);
    uv_check_init(&node->loop, &node->check);
    uv_async_init(&node->loop, &node->call, on_call);
    uv_mutex_init(&node->lock);
    uv_cond_init(&node->called);
    node->check.data = node->call.data = node;
    uv_check_start(&node->check, on_check);
    options.loop = &node->loop;
    options.listen = "127.0.0.1:0";
    options.version = "1.2.3";
    options.now_ns = now_ns;
    options.n_threads = options.n_threads ? options.n_threads : default_threads;
    options.max_connections = options.max_connections ? options.max_connections : 2000;
    assert_int_equal(kv_server_open(&options, &node->server, &error), 0);
    kv_server_publish(node->server, &status);
    assert_int_equal(kv_server_start(node->server, node, &error), 0);
    uv_thread_create(&node->thread, run_core, node);
    return node;
}

static struct kv_node *start(void)
{
    return start_with((struct kv_server_options){0});
}

static void on_server_stopped(void *arg)
{
    struct kv_node *node = arg;

    node->server_stopped = true;
    uv_close((uv_handle_t *)&node->check, NULL);
    uv_close((uv_handle_t *)&node->call, NULL);
}

static void stop_server(struct kv_node *node)
{
    kv_server_stop(node->server, on_server_stopped, node);
}

static void join(struct kv_node *node)
{
    uv_thread_join(&node->thread);
    assert_true(node->server_stopped);
    /* As a node that closes: what it still held is answered, and goes nowhere. */
    release_all(node);
    kv_server_free(node->server);
    assert_int_equal(uv_loop_close(&node->loop), 0);
    uv_mutex_destroy(&node->lock);
    uv_cond_destroy(&node->called);
    free(node);
}

static void stop(struct kv_node *node)
{
    call(node, stop_server);
    join(node);
}

/* ---------------------------------------------------------------- a plain client */

static int dial(const struct kv_node *node)
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                  .sin_port = htons((uint16_t)kv_server_port(node->server))};
    struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    return fd;
}

static void send_bytes(int fd, const void *data, size_t size)
{
    const char *p = data;

    while (size > 0) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);

        assert_true(n > 0);
        p += n;
        size -= (size_t)n;
    }
}

static void send_message(int fd, enum kv_frame_kind kind, const ProtobufCMessage *message)
{
    struct kv_buf buf;

    kv_buf_init(&buf, KV_REQUEST_BYTES_MAX + 64);
    assert_int_equal(kv_frame_append(&buf, kind, message, false), 0);
    send_bytes(fd, buf.data, buf.size);
    kv_buf_deinit(&buf);
}

static bool receive_bytes(int fd, void *data, size_t size)
{
    char *p = data;

    while (size > 0) {
        ssize_t n = recv(fd, p, size, 0);

        if (n <= 0) {
            assert_true(n == 0 || errno == ECONNRESET);
            return false;
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

/* The next frame of that kind; NULL: the connection has ended. */
static void *receive(int fd, enum kv_frame_kind kind, const ProtobufCMessageDescriptor *descriptor)
{
    uint8_t header[KV_FRAME_HEADER_BYTES];
    ProtobufCMessage *message;
    uint8_t *body;
    size_t size;

    if (!receive_bytes(fd, header, sizeof header)) {
        return NULL;
    }
    assert_int_equal(header[4], kind);
    size = kv_get_u32(header);
    body = malloc(size + 1);
    assert_true(receive_bytes(fd, body, size));
    message = protobuf_c_message_unpack(descriptor, NULL, size, body);
    assert_non_null(message);
    free(body);
    return message;
}

static void expect_code(int fd, uint64_t id, Kv__Code code)
{
    Kv__Reply *reply = receive(fd, KV_FRAME_REPLY, &kv__reply__descriptor);

    assert_non_null(reply);
    assert_int_equal(reply->id, id);
    assert_int_equal(reply->code, code);
    kv__reply__free_unpacked(reply, NULL);
}

static void expect_end(int fd)
{
    char byte;

    assert_false(receive_bytes(fd, &byte, 1));
    close(fd);
}

/* A goodbye with this code, whose message has the text; then the end. */
static void expect_goodbye(int fd, Kv__Code code, const char *text)
{
    Kv__Goodbye *goodbye = receive(fd, KV_FRAME_GOODBYE, &kv__goodbye__descriptor);

    assert_non_null(goodbye);
    assert_int_equal(goodbye->code, code);
    assert_non_null(strstr(goodbye->message, text));
    kv__goodbye__free_unpacked(goodbye, NULL);
    expect_end(fd);
}

static void send_hello(int fd, bool lz4)
{
    Kv__Hello hello = KV__HELLO__INIT;

    hello.protocol_version = 1;
    hello.client_name = (char *)(uintptr_t) "test";
    hello.lz4 = lz4;
    send_message(fd, KV_FRAME_HELLO, &hello.base);
}

static int dial_and_greet(const struct kv_node *node)
{
    int fd = dial(node);
    Kv__HelloReply *reply;

    send_hello(fd, false);
    reply = receive(fd, KV_FRAME_HELLO_REPLY, &kv__hello_reply__descriptor);
    assert_non_null(reply);
    kv__hello_reply__free_unpacked(reply, NULL);
    return fd;
}

static void send_get(int fd, uint64_t id, const char *key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Get get = KV__GET__INIT;

    request.id = id;
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &get;
    get.key.data = (uint8_t *)(uintptr_t)key;
    get.key.len = strlen(key);
    send_message(fd, KV_FRAME_REQUEST, &request.base);
}

static void echo(int fd, uint64_t id)
{
    send_get(fd, id, "echo");
    expect_code(fd, id, KV__CODE__OK);
}

/* Asks the core until it holds so many. Another client's round trips pass the time. */
static void await_held(struct kv_node *node, size_t count)
{
    uint64_t deadline_ns = now_ns() + (uint64_t)WAIT_MS * 1000000;
    int fd = dial_and_greet(node);

    do {
        echo(fd, 1);
        call(node, look);
        assert_true(now_ns() < deadline_ns);
    } while (seen_held != count);
    close(fd);
}

static struct kv_stats_total stats_of(const struct kv_node *node)
{
    struct kv_stats_total stats;

    kv_server_stats(node->server, &stats);
    return stats;
}

/* ---------------------------------------------------------------- tests: requests */

static void test_hello_tells_limits_and_leader(void **state)
{
    struct kv_node *node = start();
    int fd = dial(node);
    Kv__HelloReply *reply;

    (void)state;
    send_hello(fd, true);
    reply = receive(fd, KV_FRAME_HELLO_REPLY, &kv__hello_reply__descriptor);
    assert_non_null(reply);
    assert_int_equal(reply->cluster_id, 77);
    assert_int_equal(reply->node_id, 3);
    assert_int_equal(reply->leader_id, 2);
    assert_string_equal(reply->leader_address, "leader.test:4700");
    assert_true(reply->lz4);
    assert_int_equal(reply->limits->key_bytes, KV_KEY_BYTES_MAX);
    assert_int_equal(reply->limits->value_bytes, KV_VALUE_BYTES_DEFAULT);
    assert_int_equal(reply->limits->connection_requests, KV_CONNECTION_REQUESTS_MAX);
    kv__hello_reply__free_unpacked(reply, NULL);
    echo(fd, 0);
    echo(fd, UINT64_MAX);
    close(fd);
    stop(node);
}

static void test_several_threads_share_the_port(void **state)
{
    struct kv_node *node = start_with((struct kv_server_options){.n_threads = 3});
    int fds[24];

    (void)state;
    for (size_t i = 0; i < 24; i++) {
        fds[i] = dial_and_greet(node);
        send_get(fds[i], i, "echo");
    }
    for (size_t i = 0; i < 24; i++) {
        expect_code(fds[i], i, KV__CODE__OK);
        close(fds[i]);
    }
    stop(node);
}

static void test_compressed_frames_only_if_offered(void **state)
{
    struct kv_node *node = start();
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    static uint8_t value[8192];
    struct kv_buf buf;
    int fd = dial(node);
    Kv__HelloReply *reply;

    (void)state;
    request.id = 5;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    put.key.data = value;
    put.key.len = 3;
    put.value.data = value;
    put.value.len = sizeof value;
    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(kv_frame_append(&buf, KV_FRAME_REQUEST, &request.base, true), 0);
    assert_true(buf.data[5] == KV_FRAME_FLAG_LZ4 && buf.size < 1024);
    send_hello(fd, true);
    reply = receive(fd, KV_FRAME_HELLO_REPLY, &kv__hello_reply__descriptor);
    kv__hello_reply__free_unpacked(reply, NULL);
    send_bytes(fd, buf.data, buf.size);
    expect_code(fd, 5, KV__CODE__OK);
    close(fd);
    fd = dial_and_greet(node);
    send_bytes(fd, buf.data, buf.size);
    expect_goodbye(fd, KV__CODE__INVALID, "lz4 was not offered");
    kv_buf_deinit(&buf);
    stop(node);
}

static void test_unanswered_requests_stop_the_reading(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);
    enum { MORE = 100 };

    (void)state;
    for (uint64_t id = 0; id < KV_CONNECTION_REQUESTS_MAX + MORE; id++) {
        send_get(fd, id, "hold");
    }
    await_held(node, KV_CONNECTION_REQUESTS_MAX);
    /* Other connections are served meanwhile, and no more than that came through. */
    await_held(node, KV_CONNECTION_REQUESTS_MAX);
    call(node, release_all);
    for (uint64_t id = 0; id < KV_CONNECTION_REQUESTS_MAX; id++) {
        expect_code(fd, id, KV__CODE__OK);
    }
    await_held(node, MORE);
    call(node, release_all);
    for (uint64_t id = 0; id < MORE; id++) {
        expect_code(fd, KV_CONNECTION_REQUESTS_MAX + id, KV__CODE__OK);
    }
    close(fd);
    stop(node);
}

static void test_id_in_use_ends_the_connection(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);
    Kv__Goodbye *goodbye;

    (void)state;
    send_get(fd, 9, "hold");
    send_get(fd, 9, "echo");
    goodbye = receive(fd, KV_FRAME_GOODBYE, &kv__goodbye__descriptor);
    assert_non_null(goodbye);
    assert_int_equal(goodbye->code, KV__CODE__INVALID);
    assert_non_null(strstr(goodbye->message, "the id 9 is in use"));
    kv__goodbye__free_unpacked(goodbye, NULL);
    /* What was under way is cancelled, and has its final reply. */
    expect_code(fd, 9, KV__CODE__OK);
    expect_end(fd);
    call(node, look);
    assert_int_equal(seen_held, 0);
    assert_int_equal(seen_cancelled, 1);
    stop(node);
}

static void test_cancel_and_lost_connection_reach_the_node(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);
    Kv__Cancel cancel = KV__CANCEL__INIT;

    (void)state;
    for (uint64_t id = 1; id <= 10; id++) {
        send_get(fd, id, "hold");
    }
    cancel.id = 4;
    send_message(fd, KV_FRAME_CANCEL, &cancel.base);
    expect_code(fd, 4, KV__CODE__OK);
    /* One that is not there, or no more, is no error. */
    send_message(fd, KV_FRAME_CANCEL, &cancel.base);
    echo(fd, 4);
    close(fd);
    await_held(node, 0);
    assert_int_equal(seen_cancelled, 10);
    stop(node);
}

static void test_stream_flows_by_credit_and_ends(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Range range = KV__RANGE__INIT;
    Kv__KeyRange keys = KV__KEY_RANGE__INIT;
    Kv__Credit credit = KV__CREDIT__INIT;
    Kv__Cancel cancel = KV__CANCEL__INIT;

    (void)state;
    request.id = credit.id = cancel.id = 8;
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &range;
    range.range = &keys;
    range.stream = true;
    keys.special = KV__KEY_RANGE__SPECIAL__ALL;
    credit.bytes = 1000;
    send_message(fd, KV_FRAME_REQUEST, &request.base);
    for (int i = 0; i < 4; i++) {
        Kv__StreamItem *item;

        if (i == 3) {
            send_message(fd, KV_FRAME_CANCEL, &cancel.base);
        } else {
            send_message(fd, KV_FRAME_CREDIT, &credit.base);
        }
        item = receive(fd, KV_FRAME_STREAM_ITEM, &kv__stream_item__descriptor);
        assert_non_null(item);
        assert_int_equal(item->id, 8);
        assert_int_equal(item->end, i == 3);
        kv__stream_item__free_unpacked(item, NULL);
    }
    call(node, look);
    assert_int_equal(seen_credit, 3000);
    /* The id is free again. */
    echo(fd, 8);
    close(fd);
    stop(node);
}

/* ---------------------------------------------------------------- tests: subscriptions */

static void send_watch(int fd, uint64_t id, const char *key)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Watch watch = KV__WATCH__INIT;
    Kv__KeyRange range = KV__KEY_RANGE__INIT;

    range.start = (ProtobufCBinaryData){strlen(key), (uint8_t *)(uintptr_t)key};
    watch.range = &range;
    request.id = id;
    request.command_case = KV__REQUEST__COMMAND_WATCH;
    request.watch = &watch;
    send_message(fd, KV_FRAME_REQUEST, &request.base);
}

enum { SHARED_REVISION = 5, SHARED_PIECE_BYTES = 64 * 1024 };

/* A StreamItem without id: its revision, and a message of so many bytes. */
static struct kv_shared *new_shared(size_t message_bytes)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;
    char *message = malloc(message_bytes + 1);
    struct kv_shared *shared;

    memset(message, 'x', message_bytes);
    message[message_bytes] = 0;
    item.revision = SHARED_REVISION;
    item.message = message;
    shared = kv_shared_new(kv__stream_item__get_packed_size(&item));
    assert_non_null(shared);
    kv__stream_item__pack(&item, shared->data);
    free(message);
    return shared;
}

/* The same bytes for all that are held. */
static void give_shared(struct kv_node *node)
{
    struct kv_shared *shared = new_shared(10);

    for (size_t i = 0; i < node->n_held; i++) {
        size_t taken = kv_server_on_stream_shared(node->server, node->held[i], shared);

        assert_in_range(taken, shared->size, shared->size + KV_STREAM_ID_BYTES_MAX);
    }
    kv_shared_release(shared);
}

static void expect_item(int fd, uint64_t id, bool end)
{
    Kv__StreamItem *item = receive(fd, KV_FRAME_STREAM_ITEM, &kv__stream_item__descriptor);

    assert_non_null(item);
    assert_int_equal(item->id, id);
    assert_int_equal(item->end, end);
    assert_int_equal(item->revision, end ? 0 : SHARED_REVISION);
    kv__stream_item__free_unpacked(item, NULL);
}

static void test_shared_items_carry_each_streams_id(void **state)
{
    static const uint64_t ids[] = {0, 1, 127, 128, 300000, UINT64_MAX};
    enum { N = sizeof ids / sizeof ids[0] };
    struct kv_node *node = start();
    int fds[2] = {dial_and_greet(node), dial_and_greet(node)};
    Kv__Cancel cancel = KV__CANCEL__INIT;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        send_watch(fds[0], ids[i], "key");
    }
    send_watch(fds[1], 42, "key");
    await_held(node, N + 1);
    /* Of the request only id and command are left. */
    assert_int_equal(seen_request->command_case, KV__REQUEST__COMMAND_WATCH);
    assert_null(seen_request->watch);
    call(node, give_shared);
    expect_item(fds[1], 42, false);
    for (size_t i = 0; i < N; i++) {
        expect_item(fds[0], ids[i], false);
    }
    cancel.id = 42;
    send_message(fds[1], KV_FRAME_CANCEL, &cancel.base);
    expect_item(fds[1], 42, true);
    echo(fds[1], 42);
    close(fds[0]);
    await_held(node, 0);
    assert_int_equal(seen_cancelled, N + 1);
    close(fds[1]);
    stop(node);
}

/* A connection's watches do not count among the requests that it may have unanswered. */
static void test_watches_leave_the_connection_its_requests(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);

    (void)state;
    for (uint64_t id = 1; id <= KV_CONNECTION_REQUESTS_MAX + 100; id++) {
        send_watch(fd, id, "key");
    }
    await_held(node, KV_CONNECTION_REQUESTS_MAX + 100);
    echo(fd, 5000);
    close(fd);
    await_held(node, 0);
    stop(node);
}

static void fill(struct kv_node *node)
{
    struct kv_shared *shared = new_shared(SHARED_PIECE_BYTES);

    node->has_room = kv_server_stream_has_room(node->server, node->held[0]);
    if (node->has_room) {
        node->filled_bytes += kv_server_on_stream_shared(node->server, node->held[0], shared);
    }
    kv_shared_release(shared);
}

/* Gives as long as there is room, with turns of the loops between. */
static void fill_up(struct kv_node *node)
{
    unsigned n_full = 0;

    while (n_full < 100) {
        call(node, fill);
        call(node, look);
        n_full = seen_has_room ? 0 : n_full + 1;
        assert_true(seen_filled < 64 * KV_MIB);
    }
}

static void test_who_does_not_read_is_given_no_more_until_it_reads(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);
    unsigned room_made;
    uint64_t filled;

    (void)state;
    send_watch(fd, 9, "key");
    await_held(node, 1);
    fill_up(node);
    filled = seen_filled;
    room_made = seen_room_made;
    assert_int_equal(stats_of(node).too_slow, 0);
    for (uint64_t got = 0; got < filled;) {
        Kv__StreamItem *item = receive(fd, KV_FRAME_STREAM_ITEM, &kv__stream_item__descriptor);

        assert_non_null(item);
        got += kv__stream_item__get_packed_size(item);
        kv__stream_item__free_unpacked(item, NULL);
    }
    for (uint64_t until_ns = now_ns() + (uint64_t)WAIT_MS * 1000000; seen_room_made == room_made;) {
        call(node, look);
        assert_true(now_ns() < until_ns);
    }
    call(node, fill);
    call(node, look);
    assert_true(seen_has_room);
    close(fd);
    await_held(node, 0);
    stop(node);
}

/* ---------------------------------------------------------------- tests: strangers and limits */

static void test_strangers_get_one_line_and_a_close(void **state)
{
    static const struct {
        const char *first;
        size_t size;
        const char *want;
    } strangers[] = {
        {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 27, "HTTP/1.1 400 Bad Request\r\n"},
        {"POST /v3/kv/put HTTP/1.1\r\n\r\n", 28, "HTTP/1.1 400 Bad Request\r\n"},
        {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24, "HTTP/1.1 400 Bad Request\r\n"},
        {"*1\r\n$4\r\nPING\r\n", 14, "-ERR kvd speaks its own protocol"},
        {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11, "kvd: this is TLS"},
        {"SSH-2.0-OpenSSH_9.2\r\n", 21, "kvd: this is SSH"},
        {"\xde\xad\xbe\xef\xde\xad\xbe\xef\x01\x02", 10, "kvd: not a frame of kvd's protocol"},
    };
    struct kv_node *node = start();

    (void)state;
    for (size_t i = 0; i < sizeof strangers / sizeof strangers[0]; i++) {
        char got[1024] = {0};
        size_t size = 0;
        ssize_t n;
        int fd = dial(node);

        send_bytes(fd, strangers[i].first, strangers[i].size);
        while ((n = recv(fd, got + size, sizeof got - 1 - size, 0)) > 0) {
            size += (size_t)n;
        }
        assert_int_equal(n, 0);
        assert_memory_equal(got, strangers[i].want, strlen(strangers[i].want));
        assert_string_equal(got + size - 2, "\r\n");
        close(fd);
    }
    assert_int_equal(stats_of(node).refused, sizeof strangers / sizeof strangers[0]);
    stop(node);
}

static void test_frame_of_4_gb(void **state)
{
    struct kv_node *node = start();
    static uint8_t junk[KV_MIB];
    uint8_t header[KV_FRAME_HEADER_BYTES];
    int fd = dial_and_greet(node);

    (void)state;
    kv_frame_write_header(header, KV_FRAME_REQUEST, 0, UINT32_MAX);
    send_bytes(fd, header, sizeof header);
    /* Sending on does no harm: the last word arrives all the same. */
    send_bytes(fd, junk, sizeof junk);
    expect_goodbye(fd, KV__CODE__TOO_LARGE, "4294967295");
    fd = dial(node);
    kv_frame_write_header(header, KV_FRAME_HELLO, 0, UINT32_MAX);
    send_bytes(fd, header, sizeof header);
    expect_goodbye(fd, KV__CODE__TOO_LARGE, "4294967295");
    stop(node);
}

static void test_broken_protocol(void **state)
{
    struct kv_node *node = start();
    Kv__Hello hello = KV__HELLO__INIT;
    uint8_t header[KV_FRAME_HEADER_BYTES];
    int fd = dial(node);

    (void)state;
    send_get(fd, 1, "echo");
    expect_goodbye(fd, KV__CODE__INVALID, "must be a hello");
    fd = dial(node);
    hello.protocol_version = 9;
    send_message(fd, KV_FRAME_HELLO, &hello.base);
    expect_goodbye(fd, KV__CODE__INVALID, "protocol version 9");
    fd = dial_and_greet(node);
    send_hello(fd, false);
    expect_goodbye(fd, KV__CODE__INVALID, "frame of kind 4");
    fd = dial_and_greet(node);
    kv_frame_write_header(header, KV_FRAME_REQUEST, 0, 3);
    send_bytes(fd, header, sizeof header);
    send_bytes(fd, "\xff\xff\xff", 3);
    expect_goodbye(fd, KV__CODE__INVALID, "malformed");
    stop(node);
}

static void test_silence_ends(void **state)
{
    struct kv_node *node =
        start_with((struct kv_server_options){.hello_timeout_ms = 50, .frame_timeout_ms = 50});
    uint8_t header[KV_FRAME_HEADER_BYTES];
    int silent = dial(node);
    int half_header = dial(node);
    int half_frame = dial_and_greet(node);
    int idle = dial_and_greet(node);
    char got[256] = {0};

    (void)state;
    kv_frame_write_header(header, KV_FRAME_REQUEST, 0, 1000);
    send_bytes(half_header, header, 3);
    send_bytes(half_frame, header, sizeof header);
    send_bytes(half_frame, "some", 4);
    expect_goodbye(silent, KV__CODE__INVALID, "no hello");
    assert_true(recv(half_header, got, sizeof got - 1, MSG_WAITALL) > 0);
    assert_non_null(strstr(got, "no hello"));
    close(half_header);
    expect_goodbye(half_frame, KV__CODE__INVALID, "half a frame");
    /* One that has said hello may be idle for as long as it likes. */
    echo(idle, 1);
    close(idle);
    stop(node);
}

static void test_client_that_never_reads(void **state)
{
    struct kv_node *node = start();
    int deaf = dial_and_greet(node);
    int other = dial_and_greet(node);
    uint64_t deadline_ns = now_ns() + (uint64_t)WAIT_MS * 1000000;

    (void)state;
    for (uint64_t id = 0; id < 100; id++) {
        send_get(deaf, id, "big");
    }
    while (stats_of(node).too_slow == 0) {
        echo(other, 1);
        assert_true(now_ns() < deadline_ns);
    }
    while (stats_of(node).connections != 1) {
        echo(other, 2);
        assert_true(now_ns() < deadline_ns);
    }
    assert_true(stats_of(node).buffered_bytes < KV_MIB);
    close(deaf);
    close(other);
    stop(node);
}

static void test_thousand_idle_connections(void **state)
{
    enum { N = 1000 };
    static int fds[N];
    struct kv_node *node = start();
    int last;

    (void)state;
    for (size_t i = 0; i < N; i++) {
        fds[i] = dial_and_greet(node);
    }
    assert_int_equal(stats_of(node).connections, N);
    assert_true(stats_of(node).buffered_bytes < (uint64_t)N * 16 * KV_KIB);
    echo(fds[0], 1);
    echo(fds[N - 1], 1);
    for (size_t i = 0; i < N; i++) {
        close(fds[i]);
    }
    last = dial_and_greet(node);
    while (stats_of(node).connections != 1) {
        echo(last, 1);
    }
    close(last);
    stop(node);
}

static void test_one_connection_too_many(void **state)
{
    struct kv_node *node = start_with((struct kv_server_options){.max_connections = 2});
    int a = dial_and_greet(node);
    int b = dial_and_greet(node);
    int c = dial(node);

    (void)state;
    expect_goodbye(c, KV__CODE__BUSY, "max-connections is 2");
    echo(a, 1);
    echo(b, 1);
    close(a);
    close(b);
    stop(node);
}

static void release_all_big(struct kv_node *node)
{
    for (size_t i = 0; i < node->n_held; i++) {
        answer(node, node->held[i], KV__CODE__OK, BIG_BYTES);
    }
    node->n_held = 0;
}

static void test_answers_have_a_bound_together(void **state)
{
    enum { CLIENTS = 13, EACH = 20 };
    struct kv_node *node = start();
    int fds[CLIENTS];
    size_t n_ok = 0;
    size_t n_busy = 0;

    (void)state;
    for (size_t i = 0; i < CLIENTS; i++) {
        fds[i] = dial_and_greet(node);
        for (uint64_t id = 0; id < EACH; id++) {
            send_get(fds[i], id, "hold");
        }
    }
    await_held(node, (size_t)CLIENTS * EACH);
    /* All in one turn, 260 MiB. */
    call(node, release_all_big);
    for (size_t i = 0; i < CLIENTS; i++) {
        for (uint64_t id = 0; id < EACH; id++) {
            Kv__Reply *reply = receive(fds[i], KV_FRAME_REPLY, &kv__reply__descriptor);

            assert_non_null(reply);
            n_ok += reply->code == KV__CODE__OK;
            n_busy += reply->code == KV__CODE__BUSY && reply->hint->limit_value > 0;
            kv__reply__free_unpacked(reply, NULL);
        }
        close(fds[i]);
    }
    assert_int_equal(n_ok + n_busy, CLIENTS * EACH);
    assert_int_equal(n_ok, KV_NET_ANSWER_BYTES_MAX / (BIG_BYTES + 16));
    stop(node);
}

/* ---------------------------------------------------------------- tests: the end */

static void leave(struct kv_node *node)
{
    kv_server_leave(node->server, "next.test:4700");
}

static void test_leaving_tells_and_serves_on(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);
    Kv__Goodbye *goodbye;

    (void)state;
    send_get(fd, 1, "hold");
    await_held(node, 1);
    call(node, leave);
    goodbye = receive(fd, KV_FRAME_GOODBYE, &kv__goodbye__descriptor);
    assert_non_null(goodbye);
    assert_int_equal(goodbye->code, KV__CODE__SHUTTING_DOWN);
    assert_string_equal(goodbye->leader_address, "next.test:4700");
    kv__goodbye__free_unpacked(goodbye, NULL);
    echo(fd, 2);
    call(node, release_all);
    expect_code(fd, 1, KV__CODE__OK);
    close(fd);
    stop(node);
}

static void test_stop_ends_clients_that_stay(void **state)
{
    struct kv_node *node = start();
    int fd = dial_and_greet(node);

    (void)state;
    send_get(fd, 1, "hold");
    await_held(node, 1);
    call(node, stop_server);
    expect_goodbye(fd, KV__CODE__SHUTTING_DOWN, "shutting down");
    join(node);
}

static void test_taken_port_is_refused(void **state)
{
    struct kv_node *node = start();
    char address[32];
    struct kv_server *second = NULL;
    struct kv_error error;

    (void)state;
    snprintf(address, sizeof address, "127.0.0.1:%d", kv_server_port(node->server));
    for (unsigned n_threads = 1; n_threads <= 2; n_threads++) {
        struct kv_server_options options = {.loop = &node->loop,
                                            .listen = address,
                                            .n_threads = n_threads,
                                            .max_connections = 1,
                                            .now_ns = now_ns};

        assert_int_equal(kv_server_open(&options, &second, &error), KV_IN_USE);
        assert_non_null(strstr(error.message, address));
        assert_non_null(strstr(error.message, "--client-listen"));
        options.listen = "256.256.256.256.example.invalid:1";
        assert_int_equal(kv_server_open(&options, &second, &error), KV_INVALID);
        options.listen = "no address";
        assert_int_equal(kv_server_open(&options, &second, &error), KV_INVALID);
        options.listen = "192.0.2.1:0";
        assert_int_equal(kv_server_open(&options, &second, &error), KV_IO);
    }
    stop(node);
}

static int set_up(void **state)
{
    struct rlimit limit;

    (void)state;
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
    kv_log_set_level(KV_LOG_OFF);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_tells_limits_and_leader),
        cmocka_unit_test(test_several_threads_share_the_port),
        cmocka_unit_test(test_compressed_frames_only_if_offered),
        cmocka_unit_test(test_unanswered_requests_stop_the_reading),
        cmocka_unit_test(test_id_in_use_ends_the_connection),
        cmocka_unit_test(test_cancel_and_lost_connection_reach_the_node),
        cmocka_unit_test(test_stream_flows_by_credit_and_ends),
        cmocka_unit_test(test_shared_items_carry_each_streams_id),
        cmocka_unit_test(test_watches_leave_the_connection_its_requests),
        cmocka_unit_test(test_who_does_not_read_is_given_no_more_until_it_reads),
        cmocka_unit_test(test_strangers_get_one_line_and_a_close),
        cmocka_unit_test(test_frame_of_4_gb),
        cmocka_unit_test(test_broken_protocol),
        cmocka_unit_test(test_silence_ends),
        cmocka_unit_test(test_client_that_never_reads),
        cmocka_unit_test(test_thousand_idle_connections),
        cmocka_unit_test(test_one_connection_too_many),
        cmocka_unit_test(test_answers_have_a_bound_together),
        cmocka_unit_test(test_leaving_tells_and_serves_on),
        cmocka_unit_test(test_stop_ends_clients_that_stay),
        cmocka_unit_test(test_taken_port_is_refused),
    };
    int failed;

    default_threads = 1;
    failed = cmocka_run_group_tests_name("one thread", tests, set_up, NULL);
    default_threads = 0;
    failed += cmocka_run_group_tests_name("the core's loop", tests, set_up, NULL);
    return failed;
}
