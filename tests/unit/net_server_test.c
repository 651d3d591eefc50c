/* The listener on loopback, with a stand-in for the node: what clients, strangers and broken
 * clients get. */
#include "tests/support/net_rig.h"

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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello_tells_limits_and_leader),
        cmocka_unit_test(test_several_threads_share_the_port),
        cmocka_unit_test(test_compressed_frames_only_if_offered),
        cmocka_unit_test(test_unanswered_requests_stop_the_reading),
        cmocka_unit_test(test_id_in_use_ends_the_connection),
        cmocka_unit_test(test_cancel_and_lost_connection_reach_the_node),
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

    return run_net_tests(tests, sizeof tests / sizeof tests[0]);
}
