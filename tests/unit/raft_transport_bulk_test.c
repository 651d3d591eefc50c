/* Bulk messages, on loopback: a connection of their own, throttled, bounded, and never in the way.
 * The clock stands still unless a test moves it, so that what the throttle lets pass is counted in
 * bytes and not in time. */
#include "common/limits.h"
#include "raft/transport.h"
#include "tests/support/transport_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { HALF_MIB = 512 * 1024, FIRST_MS = 1000000 };

static struct rig rig;

static int setup(void **state)
{
    (void)state;
    rig_setup(&rig);
    rig.now_ms = FIRST_MS;
    /* A burst each millisecond. */
    rig.bulk_bytes_per_s = KV_PEER_BULK_BYTES_PER_S_MAX;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    rig_teardown(&rig);
    return 0;
}

static size_t received(void)
{
    return rig_node(&rig, 2)->n_messages;
}

/* Both nodes have heard an ordered message: what else could go has gone before. */
static void exchange_ordered(uint32_t number)
{
    struct rig_node *two = rig_node(&rig, 2);
    size_t n = two->n_messages;

    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_ORDERED, number, 1000), 0);
    rig_run_until(&rig, two->n_messages > n && two->messages[two->n_messages - 1].number == number);
}

static void the_connection_is_opened_at_the_first_message(void **state)
{
    struct rig_node *two;

    (void)state;
    rig_connect_all(&rig, 2);
    two = rig_node(&rig, 2);
    exchange_ordered(1000);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_connects, 0);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, i, 100000), 0);
    }
    assert_false(rig_stats(&rig, 1, 2).bulk_connected);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, 3 * kv_peer_frames_bytes(100000));
    rig_run_until(&rig, received() == 4);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(two->messages[1 + i].number, i);
        assert_int_equal(two->messages[1 + i].size, 100000);
        assert_int_equal(two->messages[1 + i].from_id, 1);
    }
    assert_true(rig_stats(&rig, 1, 2).bulk_connected);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_connects, 1);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, 0);
    /* Nobody else heard of a connection. */
    assert_int_equal(rig_node(&rig, 1)->n_connected, 1);
    assert_int_equal(two->n_connected, 1);
    assert_int_equal(two->n_infos, 2);
}

static void the_throttle_counts_bytes(void **state)
{
    const size_t framed = kv_peer_frames_bytes(HALF_MIB);
    const size_t frame = KV_PEER_FRAGMENT_BYTES + KV_PEER_FRAME_HEADER_BYTES;

    (void)state;
    rig_connect_all(&rig, 2);
    for (uint32_t i = 0; i < 7; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, i, HALF_MIB), 0);
    }
    /* A burst, rounded up to a frame, which is two messages here. */
    rig_run_until(&rig, received() == 2);
    exchange_ordered(1000);
    assert_int_equal(received(), 3);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, 5 * framed);
    exchange_ordered(1001);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, 5 * framed);
    /* Another burst, without what was taken ahead. */
    rig.now_ms++;
    rig_run_until(&rig, received() == 6);
    exchange_ordered(1002);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, 3 * framed);
    /* No more than one is saved. */
    rig.now_ms += 100;
    rig_run_until(&rig, received() == 9);
    exchange_ordered(1003);
    assert_in_range(rig_stats(&rig, 1, 2).bulk_queued_bytes, framed - frame, framed);
    rig.now_ms += 1;
    rig_run_until(&rig, received() == 11);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, 0);
}

/* Each peer has a bucket of its own. */
static void peers_do_not_share_a_throttle(void **state)
{
    (void)state;
    rig_connect_all(&rig, 3);
    for (uint64_t peer = 2; peer <= 3; peer++) {
        for (uint32_t i = 0; i < 3; i++) {
            assert_int_equal(rig_send(&rig, 1, peer, KV_NET_BULK, i, HALF_MIB), 0);
        }
    }
    rig_run_until(&rig, rig_node(&rig, 2)->n_messages == 2 && rig_node(&rig, 3)->n_messages == 2);
}

static void the_queue_is_bounded(void **state)
{
    const size_t fit = KV_PEER_BULK_QUEUE_BYTES_MAX / kv_peer_frames_bytes(KV_MIB + 64);

    (void)state;
    rig_connect_all(&rig, 2);
    assert_true(fit >= 2 && fit <= 8);
    for (int round = 0; round < 2; round++) {
        struct kv_transport_peer_stats stats;

        for (uint32_t i = 0; i < fit; i++) {
            assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, i, KV_MIB + 64), 0);
        }
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 99, KV_MIB + 64), KV_BUSY);
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 99, KV_PEER_BULK_QUEUE_BYTES_MAX),
                         KV_BUSY);
        stats = rig_stats(&rig, 1, 2);
        assert_true(stats.bulk_queued_bytes <= KV_PEER_BULK_QUEUE_BYTES_MAX);
        assert_int_equal(stats.queued_bytes, 0);
        assert_int_equal(stats.messages_dropped, 2 * (round + 1));
        /* The other queue has its own bound. */
        exchange_ordered(1000);
        rig.advance_ms = 1;
        rig_run_until(&rig, received() == (fit + 1) * (size_t)(round + 1));
        rig.advance_ms = 0;
    }
}

/* Served by a raw socket in the place of node 2. */
static int serve_main(int *ret_listener)
{
    int port, fd;

    *ret_listener = rig_raw_listen(&port);
    rig_open(&rig, 1, RIG_CLUSTER, 0);
    rig_add_peer(&rig, 1, 2, port);
    fd = rig_raw_serve(&rig, *ret_listener, 2, NULL);
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 1);
    return fd;
}

static void its_loss_is_not_the_peers(void **state)
{
    int listener;
    int fd = serve_main(&listener);
    struct kv_buf buf;
    bool is_bulk;

    (void)state;
    kv_buf_init(&buf, KV_MIB);
    for (uint32_t i = 1; i <= 3; i++) {
        int bulk;

        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, i, 1000), 0);
        bulk = rig_raw_serve(&rig, listener, 2, &is_bulk);
        assert_true(is_bulk);
        rig_run_until(&rig, rig_stats(&rig, 1, 2).bulk_connects == i);
        assert_int_equal(rig_raw_receive(&rig, bulk, &buf), KV_PEER_FRAME_BULK);
        assert_int_equal(kv_get_u32(buf.data), i);
        close(bulk);
        rig_run_until(&rig, !rig_stats(&rig, 1, 2).bulk_connected);
    }
    assert_int_equal(rig_node(&rig, 1)->n_disconnected, 0);
    assert_int_equal(rig_node(&rig, 1)->n_connected, 1);
    assert_true(rig_stats(&rig, 1, 2).connected);
    assert_true(rig_raw_is_open(fd));
    assert_int_equal(rig.log_size, 0);
    close(fd);
    close(listener);
    kv_buf_deinit(&buf);
}

static void nothing_is_sent_before_the_other_side_agrees(void **state)
{
    int listener;
    int fd = serve_main(&listener);
    int bulk;
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, KV_MIB);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 1, 1000), 0);
    bulk = rig_raw_accept(&rig, listener);
    assert_int_equal(rig_raw_receive(&rig, bulk, &buf), KV_PEER_FRAME_HELLO);
    /* Turns in which it could be. */
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_URGENT, 5, 1000), 0);
        assert_int_equal(rig_raw_receive(&rig, fd, &buf), KV_PEER_FRAME_URGENT);
    }
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, kv_peer_frames_bytes(1000));
    /* It is refused: what was queued is lost, and there is a pause before the next. */
    close(bulk);
    rig_run_until(&rig, rig_stats(&rig, 1, 2).bulk_queued_bytes == 0);
    assert_int_equal(rig_logged(&rig, "peer bulk_unreachable peer=2"), 1);
    assert_int_equal(rig_stats(&rig, 1, 2).messages_dropped, 1);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 2, 1000), KV_BUSY);
    rig.now_ms += KV_PEER_BACKOFF_MIN_MS;
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 3, 1000), 0);
    bulk = rig_raw_serve(&rig, listener, 2, NULL);
    assert_int_equal(rig_raw_receive(&rig, bulk, &buf), KV_PEER_FRAME_BULK);
    assert_int_equal(kv_get_u32(buf.data), 3);
    assert_int_equal(rig_node(&rig, 1)->n_disconnected, 0);
    close(bulk);
    close(fd);
    close(listener);
    kv_buf_deinit(&buf);
}

static void it_goes_with_the_peers_connection(void **state)
{
    int listener;
    int fd = serve_main(&listener);
    int bulk;

    (void)state;
    for (uint32_t i = 0; i < 4; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, i, KV_MIB), 0);
    }
    bulk = rig_raw_serve(&rig, listener, 2, NULL);
    rig_run_until(&rig, rig_stats(&rig, 1, 2).bulk_connected);
    close(fd);
    rig_run_until(&rig, rig_node(&rig, 1)->n_disconnected == 1);
    rig_run_until(&rig, !rig_raw_is_open(bulk));
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_queued_bytes, 0);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 9, 1000), KV_CLOSED);
    close(bulk);
    /* And comes again with the next. */
    fd = rig_raw_serve(&rig, listener, 2, NULL);
    rig_run_until(&rig, rig_node(&rig, 1)->n_connected == 2);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 9, 1000), 0);
    bulk = rig_raw_serve(&rig, listener, 2, NULL);
    close(bulk);
    close(fd);
    close(listener);
}

static void it_is_closed_when_idle_and_not_before(void **state)
{
    (void)state;
    rig_connect_all(&rig, 2);
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 1, 1000), 0);
    rig_run_until(&rig, received() == 1);
    rig.advance_ms = 5;
    rig_run_until(&rig, !rig_stats(&rig, 1, 2).bulk_connected);
    assert_true(rig.now_ms >= FIRST_MS + KV_PEER_BULK_IDLE_MS);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_connects, 1);
    assert_int_equal(rig_node(&rig, 1)->n_disconnected + rig_node(&rig, 2)->n_disconnected, 0);
    assert_int_equal(rig.log_size, 0);
    /* At once again. */
    assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, 2, 1000), 0);
    rig_run_until(&rig, received() == 2);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_connects, 2);
}

/* A transfer that the throttle stretches far beyond the idle time and the time-outs. */
static void a_slow_transfer_goes_on(void **state)
{
    uint64_t started_ms;

    (void)state;
    rig.bulk_bytes_per_s = 100000;
    rig_connect_all(&rig, 2);
    for (uint32_t i = 0; i < 5; i++) {
        assert_int_equal(rig_send(&rig, 1, 2, KV_NET_BULK, i, HALF_MIB), 0);
    }
    started_ms = rig.now_ms;
    rig.advance_ms = 10;
    rig_run_until(&rig, received() == 5);
    assert_true(rig.now_ms - started_ms > 2 * KV_PEER_BULK_IDLE_MS);
    assert_int_equal(rig_stats(&rig, 1, 2).bulk_connects, 1);
    assert_int_equal(rig_node(&rig, 1)->n_disconnected + rig_node(&rig, 2)->n_disconnected, 0);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(the_connection_is_opened_at_the_first_message),
        T(the_throttle_counts_bytes),
        T(peers_do_not_share_a_throttle),
        T(the_queue_is_bounded),
        T(its_loss_is_not_the_peers),
        T(nothing_is_sent_before_the_other_side_agrees),
        T(it_goes_with_the_peers_connection),
        T(it_is_closed_when_idle_and_not_before),
        T(a_slow_transfer_goes_on),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
