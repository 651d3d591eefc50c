/* The listener on loopback, with a stand-in for the node: streams, their credit, what many of them
 * share, and the room of a connection. */
#include "tests/support/net_rig.h"

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
    int fd = dial_and_greet(node), other_fd = dial_and_greet(node);
    unsigned room_made;
    uint64_t filled;

    (void)state;
    send_watch(fd, 9, "key");
    await_held(node, 1);
    send_watch(other_fd, 9, "key");
    await_held(node, 2);
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
    /* That connection's, and no other's. */
    assert_true(seen_is_room_of_first);
    call(node, fill);
    call(node, look);
    assert_true(seen_has_room);
    close(other_fd);
    close(fd);
    await_held(node, 0);
    stop(node);
}

/* ---------------------------------------------------------------- tests: strangers and limits */

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stream_flows_by_credit_and_ends),
        cmocka_unit_test(test_shared_items_carry_each_streams_id),
        cmocka_unit_test(test_watches_leave_the_connection_its_requests),
        cmocka_unit_test(test_who_does_not_read_is_given_no_more_until_it_reads),
    };

    return run_net_tests(tests, sizeof tests / sizeof tests[0]);
}
