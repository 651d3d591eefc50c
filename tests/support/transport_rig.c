#include "tests/support/transport_rig.h"

#include "common/log.h"
#include "proto/peer.pb-c.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { PATIENCE_S = 60, TURN_MS = 1 };

static void on_line(void *arg, const char *line)
{
    struct rig *rig = arg;
    size_t size = strlen(line);

    if (rig->log_size + size + 2 <= sizeof rig->log) {
        memcpy(rig->log + rig->log_size, line, size);
        rig->log_size += size;
        rig->log[rig->log_size++] = '\n';
        rig->log[rig->log_size] = '\0';
    }
}

size_t rig_logged(const struct rig *rig, const char *text)
{
    size_t n = 0;

    for (const char *at = rig->log; (at = strstr(at, text)); at++) {
        n++;
    }
    return n;
}

void rig_setup(struct rig *rig)
{
    memset(rig, 0, sizeof *rig);
    assert_int_equal(uv_loop_init(&rig->loop), 0);
    kv_log_set_sink(on_line, rig);
}

void rig_teardown(struct rig *rig)
{
    for (uint64_t id = 1; id <= RIG_NODES_MAX; id++) {
        if (rig->nodes[id - 1].transport) {
            rig_close(rig, id);
        }
    }
    uv_run(&rig->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&rig->loop), 0);
    kv_log_set_sink(NULL, NULL);
}

/* ---------------------------------------------------------------- running */

static void on_turn(uv_timer_t *timer)
{
    (void)timer;
}

static void on_turn_closed(uv_handle_t *handle)
{
    (void)handle;
}

static uint64_t bytes_moved(const struct rig *rig)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < RIG_NODES_MAX; i++) {
        for (uint64_t peer = 1; rig->nodes[i].transport && peer <= RIG_NODES_MAX; peer++) {
            struct kv_transport_peer_stats stats;

            if (kv_transport_peer_stats(rig->nodes[i].transport, peer, &stats) == 0) {
                sum += stats.bytes_sent + stats.bytes_received;
            }
        }
    }
    return sum;
}

/* Simulated time stands still while bytes are on their way, and each step of it takes a quiet
 * TURN_MS: whoever sends is never silent for want of a processor. */
void rig_turn(struct rig *rig)
{
    uint64_t moved = bytes_moved(rig);
    uv_timer_t timer;

    uv_timer_init(&rig->loop, &timer);
    uv_timer_start(&timer, on_turn, TURN_MS, 0);
    uv_run(&rig->loop, UV_RUN_ONCE);
    uv_close((uv_handle_t *)&timer, on_turn_closed);
    uv_run(&rig->loop, UV_RUN_NOWAIT);
    if (bytes_moved(rig) == moved) {
        rig->now_ms += rig->advance_ms;
    }
}

uint64_t rig_patience(void)
{
    return uv_hrtime() / 1000000000 + PATIENCE_S;
}

void rig_check(uint64_t deadline, const char *condition)
{
    if (uv_hrtime() / 1000000000 > deadline) {
        fail_msg("waited in vain for: %s", condition);
    }
}

/* ---------------------------------------------------------------- transports */

struct rig_node *rig_node(struct rig *rig, uint64_t id)
{
    assert_in_range(id, 1, RIG_NODES_MAX);
    return &rig->nodes[id - 1];
}

/* The bytes of a message, which lz4 does not make smaller. */
static uint8_t noise(uint32_t number, size_t i)
{
    uint32_t x = (number + 1) * 2654435761u + (uint32_t)i * 2246822519u;

    x = (x ^ x >> 15) * 3266489917u;
    return (uint8_t)(x >> 16);
}

static void on_receive(void *arg, uint64_t from_id, const uint8_t *message, size_t size)
{
    struct rig_node *node = arg;

    assert_true(node->n_messages < RIG_MESSAGES_MAX);
    assert_true(size >= 4);
    for (size_t i = 4; i < size; i += 509) {
        assert_int_equal(message[i], noise(kv_get_u32(message), i));
    }
    node->messages[node->n_messages++] = (struct rig_message){from_id, size, kv_get_u32(message)};
}

static void on_connected(void *arg, uint64_t peer_id)
{
    (void)peer_id;
    ((struct rig_node *)arg)->n_connected++;
}

static void on_disconnected(void *arg, uint64_t peer_id, bool reset)
{
    struct rig_node *node = arg;

    (void)peer_id;
    node->n_disconnected++;
    node->last_reset = reset;
}

static void
on_peer_info(void *arg, uint64_t peer_id, const char *client_address, uint64_t machine_version)
{
    struct rig_node *node = arg;

    (void)peer_id;
    node->n_infos++;
    snprintf(node->client_address, sizeof node->client_address, "%s", client_address);
    node->machine_version = machine_version;
}

static uint64_t no_random(void *arg)
{
    (void)arg;
    return 0;
}

static uint64_t rig_now_ms(void *arg)
{
    return ((struct rig *)arg)->now_ms;
}

int rig_open(struct rig *rig, uint64_t id, uint64_t cluster_id, int port)
{
    struct rig_node *node = rig_node(rig, id);
    struct kv_net_handler handler = {node, on_receive, on_connected, on_disconnected, on_peer_info};
    struct kv_error error;
    char listen[64], client_address[64];

    assert_null(node->transport);
    snprintf(listen, sizeof listen, "127.0.0.1:%d", port);
    snprintf(client_address, sizeof client_address, "client%" PRIu64 ".test:4700", id);
    assert_int_equal(kv_transport_open(
                         &(struct kv_transport_options){
                             .loop = &rig->loop,
                             .cluster_id = cluster_id,
                             .node_id = id,
                             .listen = listen,
                             .client_address = client_address,
                             .machine_version = 10 + id,
                             .compress = true,
                             .bulk_bytes_per_s = rig->bulk_bytes_per_s,
                             .random = no_random,
                             .now_ms = rig->now_ms ? rig_now_ms : NULL,
                             .now_arg = rig,
                         },
                         &node->transport,
                         &error),
                     0);
    node->id = id;
    node->net = kv_transport_net(node->transport);
    assert_int_equal(node->net.ops->start(node->net.net, &handler), 0);
    return kv_transport_port(node->transport);
}

static void on_gone(void *arg)
{
    *(bool *)arg = true;
}

void rig_close(struct rig *rig, uint64_t id)
{
    struct rig_node *node = rig_node(rig, id);
    bool gone = false;

    kv_transport_close(node->transport, on_gone, &gone);
    node->transport = NULL;
    rig_run_until(rig, gone);
}

void rig_add_peer(struct rig *rig, uint64_t id, uint64_t peer_id, int port)
{
    struct kv_net net = rig_node(rig, id)->net;
    char address[64];

    snprintf(address, sizeof address, "127.0.0.1:%d", port);
    assert_int_equal(net.ops->add_peer(net.net, peer_id, address), 0);
}

void rig_connect_all(struct rig *rig, uint64_t n)
{
    int ports[RIG_NODES_MAX];

    for (uint64_t id = 1; id <= n; id++) {
        ports[id - 1] = rig_open(rig, id, RIG_CLUSTER, 0);
    }
    for (uint64_t id = 1; id <= n; id++) {
        for (uint64_t peer = 1; peer <= n; peer++) {
            if (peer != id) {
                rig_add_peer(rig, id, peer, ports[peer - 1]);
            }
        }
    }
    for (uint64_t id = 1; id <= n; id++) {
        rig_run_until(rig, rig_node(rig, id)->n_connected == n - 1);
    }
}

struct kv_transport_peer_stats rig_stats(struct rig *rig, uint64_t id, uint64_t peer_id)
{
    struct kv_transport_peer_stats stats;

    assert_int_equal(kv_transport_peer_stats(rig_node(rig, id)->transport, peer_id, &stats), 0);
    return stats;
}

int rig_send(struct rig *rig,
             uint64_t id,
             uint64_t peer_id,
             enum kv_net_class cls,
             uint32_t number,
             size_t size)
{
    struct kv_net net = rig_node(rig, id)->net;
    uint8_t *data = malloc(size);
    struct kv_slice rest;
    int status;

    assert_true(data && size >= 4);
    kv_put_u32(data, number);
    for (size_t i = 4; i < size; i++) {
        data[i] = noise(number, i);
    }
    rest = kv_slice_of(data + 4, size - 4);
    status = net.ops->send(net.net, peer_id, cls, kv_slice_of(data, 4), &rest, size > 4);
    free(data);
    return status;
}

/* ---------------------------------------------------------------- raw sockets */

static int raw_socket(int port, struct sockaddr_in *ret_address)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    assert_true(fd >= 0);
    *ret_address = (struct sockaddr_in){.sin_family = AF_INET,
                                        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
                                        .sin_port = htons((uint16_t)port)};
    return fd;
}

static void set_nonblocking(int fd)
{
    assert_int_equal(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
}

int rig_raw_connect(int port)
{
    struct sockaddr_in address;
    int fd = raw_socket(port, &address);

    /* The system answers for the listener. */
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    set_nonblocking(fd);
    return fd;
}

int rig_raw_listen(int *ret_port)
{
    struct sockaddr_in address;
    socklen_t size = sizeof address;
    int fd = raw_socket(0, &address);

    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listen(fd, 16), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    set_nonblocking(fd);
    *ret_port = ntohs(address.sin_port);
    return fd;
}

int rig_raw_accept(struct rig *rig, int listener)
{
    int fd = -1;

    rig_run_until(rig, (fd = accept(listener, NULL, NULL)) >= 0);
    set_nonblocking(fd);
    return fd;
}

bool rig_raw_send(struct rig *rig, int fd, const void *data, size_t size)
{
    const char *p = data;

    while (size > 0) {
        ssize_t n = -1;

        rig_run_until(rig, (n = send(fd, p, size, MSG_NOSIGNAL)) >= 0 || errno != EAGAIN);
        if (n < 0) {
            return false;
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

static bool raw_read(struct rig *rig, int fd, uint8_t *p, size_t size)
{
    while (size > 0) {
        ssize_t n = -1;

        rig_run_until(rig, (n = recv(fd, p, size, 0)) >= 0 || errno != EAGAIN);
        if (n <= 0) {
            return false;
        }
        p += n;
        size -= (size_t)n;
    }
    return true;
}

int rig_raw_receive(struct rig *rig, int fd, struct kv_buf *buf)
{
    uint8_t header[KV_PEER_FRAME_HEADER_BYTES];
    size_t size;
    uint8_t *p;

    if (!raw_read(rig, fd, header, sizeof header)) {
        return 0;
    }
    size = kv_get_u32(header + 4);
    kv_buf_clear(buf);
    p = kv_buf_reserve(buf, size);
    assert_non_null(p);
    assert_true(raw_read(rig, fd, p, size));
    buf->size = size;
    return header[8];
}

bool rig_raw_is_open(int fd)
{
    char data[4096];
    ssize_t n;

    do {
        n = recv(fd, data, sizeof data, 0);
    } while (n > 0);
    return n < 0 && errno == EAGAIN;
}

bool rig_raw_send_frame(
    struct rig *rig, int fd, enum kv_peer_frame_kind kind, const void *body, size_t size)
{
    struct kv_slice piece = kv_slice_of(body, size);
    struct kv_buf buf;
    bool sent;

    kv_buf_init(&buf, 2 * KV_PEER_MESSAGE_BYTES_MAX);
    assert_int_equal(kv_peer_frame_append(&buf, kind, &piece, 1, false), 0);
    sent = rig_raw_send(rig, fd, buf.data, buf.size);
    kv_buf_deinit(&buf);
    return sent;
}

bool rig_raw_send_hello(struct rig *rig, int fd, struct rig_hello hello)
{
    Kv__PeerHello message = KV__PEER_HELLO__INIT;
    uint8_t packed[512];

    message.protocol_version = hello.protocol_version ? hello.protocol_version : 1;
    message.cluster_id = hello.cluster_id ? hello.cluster_id : RIG_CLUSTER;
    message.node_id = hello.node_id;
    message.to_node_id = hello.to_node_id;
    message.bulk = hello.bulk;
    message.client_address = (char *)(uintptr_t) "raw.test:1";
    return rig_raw_send_frame(
        rig, fd, KV_PEER_FRAME_HELLO, packed, kv__peer_hello__pack(&message, packed));
}

bool rig_raw_is_accepted(struct rig *rig, int fd, char *reason)
{
    Kv__PeerHelloReply *reply;
    struct kv_buf buf;
    bool accepted;

    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(rig_raw_receive(rig, fd, &buf), KV_PEER_FRAME_HELLO_REPLY);
    reply = kv__peer_hello_reply__unpack(NULL, buf.size, buf.data);
    assert_non_null(reply);
    accepted = reply->accepted;
    if (reason) {
        snprintf(reason, 200, "%s", reply->reason);
    }
    kv__peer_hello_reply__free_unpacked(reply, NULL);
    kv_buf_deinit(&buf);
    return accepted;
}

int rig_raw_serve(struct rig *rig, int listener, uint64_t as_id, bool *ret_bulk)
{
    Kv__PeerHelloReply reply = KV__PEER_HELLO_REPLY__INIT;
    Kv__PeerHello *hello;
    uint8_t packed[512];
    struct kv_buf buf;
    int fd = rig_raw_accept(rig, listener);

    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(rig_raw_receive(rig, fd, &buf), KV_PEER_FRAME_HELLO);
    hello = kv__peer_hello__unpack(NULL, buf.size, buf.data);
    assert_non_null(hello);
    assert_int_equal(hello->to_node_id, as_id);
    if (ret_bulk) {
        *ret_bulk = hello->bulk;
    }
    reply.accepted = true;
    reply.cluster_id = hello->cluster_id;
    reply.node_id = as_id;
    assert_true(rig_raw_send_frame(
        rig, fd, KV_PEER_FRAME_HELLO_REPLY, packed, kv__peer_hello_reply__pack(&reply, packed)));
    kv__peer_hello__free_unpacked(hello, NULL);
    kv_buf_deinit(&buf);
    return fd;
}
