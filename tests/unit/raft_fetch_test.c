/* How a snapshot is fetched over networks of all speeds. The test plays the leader of node 1. */
#include "tests/support/replica_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { SIZE = 8 * 1024 * 1024 };

static struct replica_rig rig;
static uint8_t bytes[KV_SNAPSHOT_PIECE_BYTES + 1];
static const struct kv_snapshot_descriptor descriptor = {
    .index = 50, .term = 2, .configuration_index = 1, .size_bytes = SIZE, .hash = 1};

/* Offers come with each heartbeat. */
static void offer(void)
{
    const struct kv_buf *configuration = &rig.replica->applied_configuration;

    replica_rig_offer_snapshot(
        &rig, 2, 2, &descriptor, kv_slice_of(configuration->data, configuration->size));
}

static int set_up(void **state)
{
    (void)state;
    replica_rig_init(&rig, 3);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    offer();
    replica_rig_settle(&rig);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(rig.n_fatal, 0);
    replica_rig_deinit(&rig);
    return 0;
}

/* What is asked for since it was last looked at, or NULL. */
static const Kv__SnapshotFetch *asked(void)
{
    const Kv__PeerMessage *message =
        replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH);

    return message ? message->snapshot_fetch : NULL;
}

static void wait_ms(uint64_t ms)
{
    replica_rig_forget(&rig);
    for (uint64_t waited = 0; waited < ms; waited += 100) {
        replica_rig_wait(&rig, 100);
        offer();
    }
}

static void send_piece(uint64_t offset, size_t size)
{
    replica_rig_forget(&rig);
    replica_rig_send_piece(&rig, 2, &descriptor, offset, kv_slice_of(bytes, size));
    replica_rig_settle(&rig);
}

static void less_is_asked_for_when_pieces_are_late(void **state)
{
    (void)state;
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES);
    for (size_t size = KV_SNAPSHOT_PIECE_BYTES; size > KV_SNAPSHOT_PIECE_BYTES_MIN; size /= 2) {
        wait_ms(KV_SNAPSHOT_FETCH_TIMEOUT_MS);
        assert_int_equal(asked()->size, size / 2);
        assert_int_equal(asked()->offset, 0);
    }
    /* Then less often. */
    wait_ms(KV_SNAPSHOT_FETCH_TIMEOUT_MS);
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES_MIN);
    wait_ms(2 * KV_SNAPSHOT_FETCH_TIMEOUT_MS - 100);
    assert_null(asked());
    wait_ms(100);
    assert_int_equal(asked()->offset, 0);
    send_piece(0, KV_SNAPSHOT_PIECE_BYTES_MIN);
    assert_int_equal(asked()->offset, KV_SNAPSHOT_PIECE_BYTES_MIN);
}

static void the_next_fetch_knows_of_a_slow_network(void **state)
{
    (void)state;
    wait_ms(KV_SNAPSHOT_FETCH_IDLE_MS);
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES_MIN);
    /* Given up, and begun again with the next offer. */
    replica_rig_settle(&rig);
    wait_ms(100);
    replica_rig_settle(&rig);
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES_MIN);
    wait_ms(4 * KV_SNAPSHOT_FETCH_TIMEOUT_MS - 200);
    assert_null(asked());
}

static void a_late_piece_counts(void **state)
{
    (void)state;
    wait_ms(KV_SNAPSHOT_FETCH_TIMEOUT_MS);
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES / 2);
    wait_ms(KV_SNAPSHOT_FETCH_TIMEOUT_MS / 2);
    send_piece(0, KV_SNAPSHOT_PIECE_BYTES);
    assert_int_equal(asked()->offset, KV_SNAPSHOT_PIECE_BYTES);
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES / 2);
    /* What was asked for the second time comes too, and is not taken for the next. */
    send_piece(0, KV_SNAPSHOT_PIECE_BYTES / 2);
    assert_null(asked());
}

static void more_than_was_asked_for_is_not_taken(void **state)
{
    (void)state;
    send_piece(0, KV_SNAPSHOT_PIECE_BYTES + 1);
    assert_null(asked());
    send_piece(0, KV_SNAPSHOT_PIECE_BYTES);
    assert_int_equal(asked()->offset, KV_SNAPSHOT_PIECE_BYTES);
}

static void more_is_asked_for_when_pieces_are_quick(void **state)
{
    uint64_t offset = KV_SNAPSHOT_PIECE_BYTES_MIN;

    (void)state;
    for (int i = 0; i < 5; i++) {
        wait_ms(KV_SNAPSHOT_FETCH_TIMEOUT_MS);
    }
    wait_ms(KV_SNAPSHOT_FETCH_TIMEOUT_MS / 2);
    send_piece(0, KV_SNAPSHOT_PIECE_BYTES_MIN);
    for (size_t size = KV_SNAPSHOT_PIECE_BYTES_MIN; size < KV_SNAPSHOT_PIECE_BYTES; size *= 2) {
        assert_int_equal(asked()->offset, offset);
        assert_int_equal(asked()->size, size);
        send_piece(offset, size);
        offset += size;
    }
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES);
    /* And no longer waited for than at first. */
    wait_ms(KV_SNAPSHOT_FETCH_TIMEOUT_MS);
    assert_int_equal(asked()->size, KV_SNAPSHOT_PIECE_BYTES / 2);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(less_is_asked_for_when_pieces_are_late),
        CASE(the_next_fetch_knows_of_a_slow_network),
        CASE(a_late_piece_counts),
        CASE(more_than_was_asked_for_is_not_taken),
        CASE(more_is_asked_for_when_pieces_are_quick),
    };
#undef CASE

    return cmocka_run_group_tests(tests, NULL, NULL);
}
