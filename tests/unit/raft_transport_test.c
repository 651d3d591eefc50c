/* Connections between nodes, on loopback: order, bounds, refusals, strangers, time-outs. */
#include "common/limits.h"
#include "raft/transport.h"
#include "tests/support/transport_rig.h"

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_setup(&rig);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_teardown(&rig);
    return 0;
}

/* ---------------------------------------------------------------- messages */

static void nodes_connect_and_introduce_themselves(void **state)
{
    (void)state;
    rig_connect_all(&rig, 3);
    for (uint64_t id = 1; id <= 3; id++) {
        for (uint64_t peer = 1; peer <= 3; peer++) {
            if (peer != id) {
                struct kv_transport_peer_stats stats = rig_stats(&rig, id, peer);

                assert_true(stats.connected);
                assert_int_equal(stats.connects, 1);
                assert_false(stats.bulk_connected);
            }
        }
        /* Once by the hello, once by the reply, of each of two. */
        rig_run_until(&rig, rig_node(&rig, id)->n_infos == 4);
    }
    assert_int_equal(rig_node(&rig, 1)->machine_version / 10, 1);
    assert_non_null(strstr(rig_node(&rig, 1)->client_address, ".test:4700"));
    assert_int_equal(rig.log_size, 0);
}

static void each_class_keeps_its_order(void **state)
{
    enum { N = 2000 };
    uint32_t next[2] = {0};
    struct rig_node *two;

    (void)state;
    rig_connect_all(&rig, 2);
    two = rig_node(&rig, 2);
    for (uint32_t i = 0; i < N; i++) {
        enum kv_net_class cls = i % 3 == 0 ? KV_NET_URGENT : KV_NET_ORDERED;

        assert_int_equal(
            rig_send(&rig, 1, 2, cls, (uint32_t)cls << 16 | next[cls]++, 4 + i % 7 * 9973), 0);
        if (i % 100 == 0) {
            rig_turn(&rig);
        }
    }
    rig_run_until(&rig, two->n_messages == N);
    next[0] = next[1] = 0;
    for (size_t i = 0; i < N; i++) {
        uint32_t cls = two->messages[i].number >> 16;

        assert_int_equal(two->messages[i].from_id, 1);
        assert_int_equal(two->messages[i].number & 0xffff, next[cls]++);
    }
    assert_int_equal(rig_stats(&rig, 2, 1).messages_received, N);
    assert_int_equal(rig_stats(&rig, 1, 2).messages_sent, N);
    assert_int_equal(rig_stats(&rig, 1, 2).messages_dropped, 0);
    assert_int_equal(rig_stats(&rig, 1, 2).queued_bytes, 0);
}

static void urgent_passes_large_ordered_ones(void **state)
{
    struct rig_node *two;

    (void)state;
    rig_connect_all(&rig, 2);
    two = rig_node(&rig, 2);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 1, KV_PEER_MESSAGE_BYTES_MAX), 0);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 2, 1000), 0);
    /* Also while it is on its way: the second is still queued then. */
    rig_run_until(&rig, rig_stats(&rig, 1, 2).bytes_sent > KV_MIB);
    assert_true(rig_stats(&rig, 1, 2).queued_bytes > 1000);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_URGENT, 3, 100), 0);
    rig_run_until(&rig, two->n_messages == 3);
    assert_int_equal(two->messages[0].number, 3);
    assert_int_equal(two->messages[1].number, 1);
    assert_int_equal(two->messages[1].size, KV_PEER_MESSAGE_BYTES_MAX);
    assert_int_equal(two->messages[2].number, 2);
}

static void the_queue_is_bounded_in_bytes(void **state)
{
    enum { SIZE = 1024 * 1024 };
    const size_t fit = KV_PEER_QUEUE_BYTES_MAX / kv_peer_frames_bytes(SIZE);

    (void)state;
    /* Filling may take longer than a silence that ends a connection. */
    rig.now_ms = 1000000;
    rig_connect_all(&rig, 2);
    /* Nothing is written while the loop does not run. */
    for (uint32_t i = 0; i < fit; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, i, SIZE), 0);
    }
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, SIZE), KV_BUSY);
    assert_true(rig_stats(&rig, 1, 2).queued_bytes <= KV_PEER_QUEUE_BYTES_MAX);
    for (size_t i = 0; i < 3; i++) {
        while (rig_send(&rig, 1, 2, KV_NET_URGENT, 7, SIZE) == 0) {
        }
        assert_true(rig_stats(&rig, 1, 2).queued_bytes <= KV_PEER_QUEUE_BYTES_MAX);
        assert_true(rig_stats(&rig, 1, 2).queued_bytes > KV_PEER_QUEUE_BYTES_MAX - 2 * SIZE);
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, KV_PEER_MESSAGE_BYTES_MAX + 1),
                         KV_BUSY);
        rig_run_until(&rig, rig_stats(&rig, 1, 2).queued_bytes == 0);
    }
    rig_run_until(&rig, rig_node(&rig, 2)->n_messages == rig_stats(&rig, 1, 2).messages_sent);
    assert_int_equal(rig_stats(&rig, 1, 2).messages_dropped, 7);
    assert_int_equal(rig_node(&rig, 1)->n_disconnected, 0);
}

static void the_queue_is_bounded_in_messages(void **state)
{
    struct rig_node *two;

    (void)state;
    rig_connect_all(&rig, 2);
    two = rig_node(&rig, 2);
    for (uint32_t i = 0; i < KV_PEER_QUEUE_MESSAGES_MAX; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, i % 2 ? KV_NET_ORDERED : KV_NET_URGENT, i, 4), 0);
    }
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 4), KV_BUSY);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_URGENT, 0, 4), KV_BUSY);
    rig_run_until(&rig, two->n_messages == KV_PEER_QUEUE_MESSAGES_MAX);
    for (uint32_t i = 0; i < KV_PEER_QUEUE_MESSAGES_MAX / 2; i++) {
        assert_int_equal(two->messages[i].number, 2 * i);
        assert_int_equal(two->messages[KV_PEER_QUEUE_MESSAGES_MAX / 2 + i].number, 2 * i + 1);
    }
    /* The count goes down with what was sent: a message of many frames is one. */
    for (uint32_t i = 0; i < KV_PEER_QUEUE_MESSAGES_MAX - 1; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, i, 4), 0);
    }
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 300000), 0);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 4), KV_BUSY);
    rig_run_until(&rig, two->n_messages == 2 * KV_PEER_QUEUE_MESSAGES_MAX);
}

static void nothing_goes_to_nobody(void **state)
{
    struct kv_transport_peer_stats stats;
    struct kv_net net;
    int port;
    int listener = rig_raw_listen(&port);

    (void)state;
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 4), KV_CLOSED);
    assert_int_equal(kv_transport_peer_stats(rig_node(&rig, 1)->transport, 2, &stats),
                     KV_NOT_FOUND);
    rig_add_peer(&rig, 1, 2, port);
    for (int cls = KV_NET_ORDERED; cls <= KV_NET_BULK; cls++) {
        assert_int_equal(rig_send(&rig, 1, 2, (enum kv_net_class)cls, 0, 4), KV_CLOSED);
    }
    assert_int_equal(rig_stats(&rig, 1, 2).messages_dropped, 3);
    net = rig_node(&rig, 1)->net;
    net.ops->remove_peer(net.net, 2);
    net.ops->remove_peer(net.net, 2);
    assert_int_equal(kv_transport_peer_stats(rig_node(&rig, 1)->transport, 2, &stats),
                     KV_NOT_FOUND);
    close(listener);
}

/* ---------------------------------------------------------------- refusals */

static void expect_hello_refused(int port, struct rig_hello hello, const char *words)
{
    char reason[200];

    for (int i = 0; i < 3; i++) {
        int fd = rig_raw_connect(port);

        assert_true(rig_raw_send_hello(&rig, fd, hello));
        assert_false(rig_raw_is_accepted(&rig, fd, reason));
        assert_non_null(strstr(reason, words));
        rig_run_until(&rig, !rig_raw_is_open(fd));
        close(fd);
    }
    /* All three times with one line. */
    assert_int_equal(rig_logged(&rig, words), 1);
}

static void wrong_hellos_are_refused_and_logged_once(void **state)
{
    int port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    int fd, port_two;
    int listener = rig_raw_listen(&port_two);

    (void)state;
    rig_add_peer(&rig, 1, 2, port_two);
    expect_hello_refused(port,
                         (struct rig_hello){.cluster_id = 5, .node_id = 2, .to_node_id = 1},
                         "it is of cluster 5, this node of 77");
    expect_hello_refused(
        port, (struct rig_hello){.node_id = 9, .to_node_id = 1}, "node 9 is not a member");
    expect_hello_refused(port,
                         (struct rig_hello){.node_id = 2, .to_node_id = 3},
                         "looks for node 3 at the address of node 1");
    expect_hello_refused(port,
                         (struct rig_hello){.node_id = 2, .to_node_id = 1, .protocol_version = 8},
                         "it speaks peer protocol 8, this node 1");
    expect_hello_refused(port,
                         (struct rig_hello){.node_id = 9, .to_node_id = 1, .bulk = true},
                         "node 9 is not a member");
    assert_int_equal(rig_logged(&rig, " refused "), 4);
    /* The right one is taken. */
    fd = rig_raw_connect(port);
    assert_true(rig_raw_send_hello(&rig, fd, (struct rig_hello){.node_id = 2, .to_node_id = 1}));
    assert_true(rig_raw_is_accepted(&rig, fd, NULL));
    close(fd);
    close(listener);
}

static void a_node_of_another_cluster_hears_why(void **state)
{
    int port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    int port_two = rig_open(&rig, 2, RIG_CLUSTER + 1, 0);

    (void)state;
    rig_add_peer(&rig, 1, 2, port_two);
    rig_add_peer(&rig, 2, 1, port);
    rig_run_until(&rig, rig_logged(&rig, "it is of cluster 78, this node of 77") == 2);
    rig_run_until(&rig, rig_logged(&rig, "it is of cluster 77, this node of 78") == 2);
    assert_int_equal(rig_logged(&rig, "peer unreachable peer=2"), 1);
    assert_int_equal(rig_logged(&rig, "node 1 at 127.0.0.1:"), 1);
    assert_int_equal(rig_node(&rig, 1)->n_connected + rig_node(&rig, 2)->n_connected, 0);
}

static void an_expected_peer_is_not_taken_for_another(void **state)
{
    int port, fd;
    int listener = rig_raw_listen(&port);

    (void)state;
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    fd = rig_raw_accept(&rig, listener);
    close(fd);
    rig_run_until(&rig, rig_logged(&rig, "closed the connection before it answered") == 1);
    close(listener);
}

static void a_removed_member_is_a_stranger(void **state)
{
    struct kv_net net;

    (void)state;
    rig_connect_all(&rig, 2);
    net = rig_node(&rig, 1)->net;
    net.ops->remove_peer(net.net, 2);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, 0, 4), KV_CLOSED);
    rig_run_until(&rig, rig_node(&rig, 2)->n_disconnected == 1);
    rig_run_until(&rig, rig_logged(&rig, "refuses: node 2 is not a member") == 1);
    /* And a member again when it is added again. */
    rig_add_peer(&rig, 1, 2, kv_transport_port(rig_node(&rig, 2)->transport));
    rig_run_until(&rig, rig_node(&rig, 2)->n_connected == 2);
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 2);
}

/* What a connection gets that sends `data` after its hello, if it says one. */
static void expect_closed(const struct rig_hello *hello,
                          enum kv_peer_frame_kind kind,
                          const char *body,
                          const char *words)
{
    int fd = rig_raw_connect(kv_transport_port(rig_node(&rig, 1)->transport));

    rig.log_size = 0;
    rig.log[0] = '\0';
    if (hello) {
        assert_true(rig_raw_send_hello(&rig, fd, *hello));
        assert_true(rig_raw_is_accepted(&rig, fd, NULL));
    }
    (void)rig_raw_send_frame(&rig, fd, kind, body, strlen(body));
    rig_run_until(&rig, !rig_raw_is_open(fd));
    assert_true(!words || rig_logged(&rig, words) == 1);
    close(fd);
}

static void frames_that_do_not_belong_there_close(void **state)
{
    static const struct rig_hello member = {.node_id = 2, .to_node_id = 1};
    static const struct rig_hello bulk = {.node_id = 2, .to_node_id = 1, .bulk = true};
    int port;
    int listener = rig_raw_listen(&port);

    (void)state;
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    expect_closed(NULL, KV_PEER_FRAME_ORDERED, "0000", "a frame that does not belong there");
    expect_closed(NULL, KV_PEER_FRAME_HELLO, "\xff\xff\xff", "its hello is malformed");
    /* Said lately: not again. */
    expect_closed(NULL, KV_PEER_FRAME_PING, "", NULL);
    expect_closed(&member, KV_PEER_FRAME_BULK, "0000", NULL);
    expect_closed(&bulk, KV_PEER_FRAME_ORDERED, "0000", NULL);
    expect_closed(&bulk, KV_PEER_FRAME_URGENT, "0000", NULL);
    expect_closed(&member, KV_PEER_FRAME_HELLO, "", NULL);
    expect_closed(&member, KV_PEER_FRAME_HELLO_REPLY, "", NULL);
    assert_int_equal(rig_node(&rig, 1)->n_messages, 0);
    close(listener);
}

static void what_is_no_frame_closes(void **state)
{
    static const uint8_t huge[16] = {0, 0, 0, 0, 255, 255, 255, 255, KV_PEER_FRAME_HELLO, 1};
    int port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    uint8_t frame[16] = {0, 0, 0, 0, 0, 0, 0, 0, KV_PEER_FRAME_PING, 1};
    int fd = rig_raw_connect(port);

    (void)state;
    assert_true(rig_raw_send(&rig, fd, huge, sizeof huge));
    rig_run_until(&rig, !rig_raw_is_open(fd));
    assert_int_equal(rig_logged(&rig, "not a frame of kvd's peer protocol"), 1);
    close(fd);
    fd = rig_raw_connect(port);
    assert_true(rig_raw_send(&rig, fd, frame, sizeof frame));
    rig_run_until(&rig, !rig_raw_is_open(fd));
    assert_int_equal(rig_logged(&rig, "a frame's checksum is wrong"), 1);
    close(fd);
}

static void a_newer_connection_of_a_member_replaces_the_older(void **state)
{
    static const struct rig_hello member = {.node_id = 2, .to_node_id = 1};
    static const struct rig_hello bulk = {.node_id = 2, .to_node_id = 1, .bulk = true};
    struct rig_hello order[] = {member, bulk, bulk, member};
    int fds[4];
    int listener, port, own_port;

    (void)state;
    listener = rig_raw_listen(&port);
    own_port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    for (size_t i = 0; i < 4; i++) {
        fds[i] = rig_raw_connect(own_port);
        assert_true(rig_raw_send_hello(&rig, fds[i], order[i]));
        assert_true(rig_raw_is_accepted(&rig, fds[i], NULL));
        if (i == 2) {
            /* A bulk one takes the place of a bulk one alone. */
            rig_run_until(&rig, !rig_raw_is_open(fds[1]));
            assert_true(rig_raw_is_open(fds[0]));
        }
    }
    rig_run_until(&rig, !rig_raw_is_open(fds[0]) && !rig_raw_is_open(fds[2]));
    assert_true(rig_raw_is_open(fds[3]));
    for (size_t i = 0; i < 4; i++) {
        close(fds[i]);
    }
    close(listener);
}

/* ---------------------------------------------------------------- strangers */

static void strangers_take_turns_and_members_get_in(void **state)
{
    enum { STRANGERS = 3 * (int)KV_PEER_ACCEPTED_MAX };
    int port, fds[STRANGERS];
    size_t n_open = 0;

    (void)state;
    rig_connect_all(&rig, 2);
    port = kv_transport_port(rig_node(&rig, 1)->transport);
    for (int i = 0; i < STRANGERS; i++) {
        fds[i] = rig_raw_connect(port);
        if (i % 32 == 0) {
            rig_turn(&rig);
        }
    }
    rig_run_until(&rig, !rig_raw_is_open(fds[STRANGERS - (int)KV_PEER_ACCEPTED_MAX]));
    /* The oldest went, and the bound is used: one is taken by the member. */
    for (int i = 0; i < STRANGERS; i++) {
        bool open = rig_raw_is_open(fds[i]);

        assert_true(n_open == 0 || open);
        n_open += open;
    }
    assert_int_equal(n_open, KV_PEER_ACCEPTED_MAX - 1);
    assert_int_equal(rig_logged(&rig, "too many connections"), 1);
    assert_int_equal(rig_node(&rig, 1)->n_disconnected + rig_node(&rig, 2)->n_disconnected, 0);
    /* A member that was restarted meanwhile. */
    port = kv_transport_port(rig_node(&rig, 2)->transport);
    rig_close(&rig, 2);
    rig_node(&rig, 2)->n_connected = 0;
    rig_open(&rig, 2, RIG_CLUSTER, port);
    rig_add_peer(&rig, 2, 1, kv_transport_port(rig_node(&rig, 1)->transport));
    rig_run_until(&rig, rig_node(&rig, 2)->n_connected == 1);
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 2);
    for (int i = 0; i < STRANGERS; i++) {
        close(fds[i]);
    }
}

static void a_hello_that_is_there_is_read_before_its_stranger_goes(void **state)
{
    enum { STRANGERS = 2 * (int)KV_PEER_ACCEPTED_MAX };
    int listener, port, own_port, fd, fds[STRANGERS];

    (void)state;
    listener = rig_raw_listen(&port);
    own_port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    fd = rig_raw_connect(own_port);
    assert_true(rig_raw_send_hello(&rig, fd, (struct rig_hello){.node_id = 2, .to_node_id = 1}));
    /* All of them are there when the loop looks. */
    for (int i = 0; i < STRANGERS; i++) {
        fds[i] = rig_raw_connect(own_port);
    }
    assert_true(rig_raw_is_accepted(&rig, fd, NULL));
    rig_run_until(&rig, !rig_raw_is_open(fds[STRANGERS - (int)KV_PEER_ACCEPTED_MAX]));
    assert_true(rig_raw_is_open(fd));
    for (int i = 0; i < STRANGERS; i++) {
        close(fds[i]);
    }
    close(fd);
    close(listener);
}

/* ---------------------------------------------------------------- time-outs */

static void silent_strangers_are_closed(void **state)
{
    int fd, half, port;

    (void)state;
    rig.now_ms = 1000000;
    rig.advance_ms = 20;
    port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    fd = rig_raw_connect(port);
    half = rig_raw_connect(port);
    assert_true(rig_raw_send(&rig, half, "\1\2\3\4\5", 5));
    rig_run_until(&rig, !rig_raw_is_open(fd) && !rig_raw_is_open(half));
    assert_int_equal(rig_logged(&rig, "it sent no hello in time"), 1);
    assert_true(rig.now_ms >= 1000000 + KV_HELLO_TIMEOUT_MS);
    close(fd);
    close(half);
}

static void members_that_fall_silent_are_closed(void **state)
{
    int fd, listener, port, own_port;

    (void)state;
    rig.now_ms = 1000000;
    rig.advance_ms = 20;
    listener = rig_raw_listen(&port);
    own_port = rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    fd = rig_raw_connect(own_port);
    assert_true(rig_raw_send_hello(&rig, fd, (struct rig_hello){.node_id = 2, .to_node_id = 1}));
    assert_true(rig_raw_is_accepted(&rig, fd, NULL));
    /* Half a frame. */
    assert_true(rig_raw_send(&rig, fd, "\1\2\3\4\5", 5));
    rig_run_until(&rig, !rig_raw_is_open(fd));
    assert_int_equal(rig_logged(&rig, "from=127.0.0.1 reason=\"no sign of life"), 1);
    close(fd);
    close(listener);
}

static void a_peer_that_answers_no_ping_is_lost(void **state)
{
    int fd, listener, port;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, KV_MIB);
    rig.now_ms = 1000000;
    rig.advance_ms = 5;
    listener = rig_raw_listen(&port);
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    fd = rig_raw_serve(&rig, listener, 2, NULL);
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 1);
    /* It lives as long as it answers ... */
    while (rig.now_ms < 1000000 + 10000) {
        if (rig_raw_receive(&rig, fd, &buf) == KV_PEER_FRAME_PING) {
            assert_true(rig_raw_send_frame(&rig, fd, KV_PEER_FRAME_PONG, NULL, 0));
        }
    }
    assert_int_equal(rig_node(&rig, 1)->n_disconnected, 0);
    /* ... and no longer. */
    rig_run_until(&rig, rig_node(&rig, 1)->n_disconnected == 1);
    assert_false(rig_node(&rig, 1)->last_reset);
    assert_int_equal(rig_logged(&rig, "unreachable peer=2"), 1);
    assert_int_equal(rig_logged(&rig, "no sign of life"), 1);
    close(fd);
    close(listener);
    kv_buf_deinit(&buf);
}

static void a_listener_that_never_answers_is_given_up(void **state)
{
    int fd, listener, port;

    (void)state;
    rig.now_ms = 1000000;
    rig.advance_ms = 20;
    listener = rig_raw_listen(&port);
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    fd = rig_raw_accept(&rig, listener);
    rig_run_until(&rig, !rig_raw_is_open(fd));
    assert_int_equal(rig_logged(&rig, "no answer in time"), 1);
    assert_int_equal(rig_node(&rig, 1)->n_connected, 0);
    close(fd);
    close(listener);
}

/* A slow reader of much is alive, though its pongs are late. */
static void whoever_takes_bytes_is_alive(void **state)
{
    enum { READ_BYTES = 64 * 1024 };
    int fd, listener, port;
    uint64_t first_ms;
    char data[READ_BYTES];

    (void)state;
    rig.now_ms = 1000000;
    rig.advance_ms = 5;
    listener = rig_raw_listen(&port);
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    fd = rig_raw_serve(&rig, listener, 2, NULL);
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 1);
    for (int i = 0; i < 60; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_URGENT, 0, KV_MIB), 0);
    }
    first_ms = rig.now_ms;
    while (rig.now_ms < first_ms + 3000) {
        rig_turn(&rig);
        (void)!read(fd, data, sizeof data);
    }
    assert_int_equal(rig_node(&rig, 1)->n_disconnected, 0);
    /* And one that takes none is not. */
    rig_run_until(&rig, rig_node(&rig, 1)->n_disconnected == 1);
    close(fd);
    close(listener);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(nodes_connect_and_introduce_themselves),
        T(each_class_keeps_its_order),
        T(urgent_passes_large_ordered_ones),
        T(the_queue_is_bounded_in_bytes),
        T(the_queue_is_bounded_in_messages),
        T(nothing_goes_to_nobody),
        T(wrong_hellos_are_refused_and_logged_once),
        T(a_node_of_another_cluster_hears_why),
        T(an_expected_peer_is_not_taken_for_another),
        T(a_removed_member_is_a_stranger),
        T(frames_that_do_not_belong_there_close),
        T(what_is_no_frame_closes),
        T(a_newer_connection_of_a_member_replaces_the_older),
        T(strangers_take_turns_and_members_get_in),
        T(a_hello_that_is_there_is_read_before_its_stranger_goes),
        T(silent_strangers_are_closed),
        T(members_that_fall_silent_are_closed),
        T(a_peer_that_answers_no_ping_is_lost),
        T(a_listener_that_never_answers_is_given_up),
        T(whoever_takes_bytes_is_alive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
