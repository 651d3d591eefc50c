/* For tests of the listener, on loopback: a stand-in for the node, which answers what this says,
 * and a client that speaks bytes. Each program that includes this has one. */
#ifndef KV_TESTS_NET_RIG_H
#define KV_TESTS_NET_RIG_H

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
    struct kv_listener *room_made_for;
    bool has_room; /* of the first held one, as of fill() */
    uint64_t filled_bytes;
    bool server_stopped;
};

static inline void answer(struct kv_node *node, struct kv_op *op, Kv__Code code, size_t value_bytes)
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

static inline void end_stream(struct kv_node *node, struct kv_op *op)
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

void kv_node_stream_room(struct kv_node *node, struct kv_listener *listener)
{
    node->n_room_made++;
    node->room_made_for = listener;
}

static inline void on_check(uv_check_t *check)
{
    struct kv_node *node = check->data;

    kv_server_gather(node->server);
    kv_server_flush(node->server);
}

static inline void on_call(uv_async_t *async)
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
static inline void call(struct kv_node *node, void (*fn)(struct kv_node *node))
{
    uv_mutex_lock(&node->lock);
    node->fn = fn;
    uv_async_send(&node->call);
    while (node->fn) {
        uv_cond_wait(&node->called, &node->lock);
    }
    uv_mutex_unlock(&node->lock);
}

static inline void run_core(void *arg)
{
    struct kv_node *node = arg;

    uv_run(&node->loop, UV_RUN_DEFAULT);
}

static inline void release_all(struct kv_node *node)
{
    for (size_t i = 0; i < node->n_held; i++) {
        answer(node, node->held[i], KV__CODE__OK, 1);
    }
    node->n_held = 0;
}

static inline uint64_t now_ns(void)
{
    return uv_hrtime();
}

/* Copies of what the core knows, taken on the core. */
static size_t seen_held;
static size_t seen_cancelled;
static uint64_t seen_credit;
static unsigned seen_room_made;
static bool seen_is_room_of_first; /* made, newest, for the first that is held */
static bool seen_has_room;
static uint64_t seen_filled;
static const Kv__Request *seen_request; /* of the first that is held */
static inline void look(struct kv_node *node)
{
    seen_held = node->n_held;
    seen_cancelled = node->n_cancelled;
    seen_credit = node->credit;
    seen_room_made = node->n_room_made;
    seen_is_room_of_first = node->n_held > 0 && node->held[0]->listener != NULL &&
                            node->held[0]->listener == node->room_made_for;
    seen_has_room = node->has_room;
    seen_filled = node->filled_bytes;
    seen_request = node->n_held > 0 ? node->held[0]->request : NULL;
}

/* 1; or 0: on the core's loop. */
static unsigned default_threads;

static inline struct kv_node *start_with(struct kv_server_options options)
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

static inline struct kv_node *start(void)
{
    return start_with((struct kv_server_options){0});
}

static inline void on_server_stopped(void *arg)
{
    struct kv_node *node = arg;

    node->server_stopped = true;
    uv_close((uv_handle_t *)&node->check, NULL);
    uv_close((uv_handle_t *)&node->call, NULL);
}

static inline void stop_server(struct kv_node *node)
{
    kv_server_stop(node->server, on_server_stopped, node);
}

static inline void join(struct kv_node *node)
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

static inline void stop(struct kv_node *node)
{
    call(node, stop_server);
    join(node);
}

/* ---------------------------------------------------------------- a plain client */

static inline int dial(const struct kv_node *node)
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

static inline void send_bytes(int fd, const void *data, size_t size)
{
    const char *p = data;

    while (size > 0) {
        ssize_t n = send(fd, p, size, MSG_NOSIGNAL);

        assert_true(n > 0);
        p += n;
        size -= (size_t)n;
    }
}

static inline void send_message(int fd, enum kv_frame_kind kind, const ProtobufCMessage *message)
{
    struct kv_buf buf;

    kv_buf_init(&buf, KV_REQUEST_BYTES_MAX + 64);
    assert_int_equal(kv_frame_append(&buf, kind, message, false), 0);
    send_bytes(fd, buf.data, buf.size);
    kv_buf_deinit(&buf);
}

static inline bool receive_bytes(int fd, void *data, size_t size)
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
static inline void *
receive(int fd, enum kv_frame_kind kind, const ProtobufCMessageDescriptor *descriptor)
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

static inline void expect_code(int fd, uint64_t id, Kv__Code code)
{
    Kv__Reply *reply = receive(fd, KV_FRAME_REPLY, &kv__reply__descriptor);

    assert_non_null(reply);
    assert_int_equal(reply->id, id);
    assert_int_equal(reply->code, code);
    kv__reply__free_unpacked(reply, NULL);
}

static inline void expect_end(int fd)
{
    char byte;

    assert_false(receive_bytes(fd, &byte, 1));
    close(fd);
}

/* A goodbye with this code, whose message has the text; then the end. */
static inline void expect_goodbye(int fd, Kv__Code code, const char *text)
{
    Kv__Goodbye *goodbye = receive(fd, KV_FRAME_GOODBYE, &kv__goodbye__descriptor);

    assert_non_null(goodbye);
    assert_int_equal(goodbye->code, code);
    assert_non_null(strstr(goodbye->message, text));
    kv__goodbye__free_unpacked(goodbye, NULL);
    expect_end(fd);
}

static inline void send_hello(int fd, bool lz4)
{
    Kv__Hello hello = KV__HELLO__INIT;

    hello.protocol_version = 1;
    hello.client_name = (char *)(uintptr_t) "test";
    hello.lz4 = lz4;
    send_message(fd, KV_FRAME_HELLO, &hello.base);
}

static inline int dial_and_greet(const struct kv_node *node)
{
    int fd = dial(node);
    Kv__HelloReply *reply;

    send_hello(fd, false);
    reply = receive(fd, KV_FRAME_HELLO_REPLY, &kv__hello_reply__descriptor);
    assert_non_null(reply);
    kv__hello_reply__free_unpacked(reply, NULL);
    return fd;
}

static inline void send_get(int fd, uint64_t id, const char *key)
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

static inline void echo(int fd, uint64_t id)
{
    send_get(fd, id, "echo");
    expect_code(fd, id, KV__CODE__OK);
}

/* Asks the core until it holds so many. Another client's round trips pass the time. */
static inline void await_held(struct kv_node *node, size_t count)
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

static inline struct kv_stats_total stats_of(const struct kv_node *node)
{
    struct kv_stats_total stats;

    kv_server_stats(node->server, &stats);
    return stats;
}

/* ---------------------------------------------------------------- tests: requests */

static inline int set_up(void **state)
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

/* All tests twice: with a network thread, and on the core's loop. */
static inline int run_net_tests(const struct CMUnitTest *tests, size_t n)
{
    int failed;

    default_threads = 1;
    failed = _cmocka_run_group_tests("one thread", tests, n, set_up, NULL);
    default_threads = 0;
    return failed + _cmocka_run_group_tests("the core's loop", tests, n, set_up, NULL);
}

#endif
