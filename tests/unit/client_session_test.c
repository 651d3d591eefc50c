/* The session core against servers played by the test: bytes in, bytes out, time by hand. */
#include "tests/support/client_play.h"

/* ---------------------------------------------------------------- tests */

static void test_request_and_reply(void **state)
{
    struct play *play = play_open("a,b:1,[::1]:2");
    struct end end = {0};
    uint64_t id;

    (void)state;
    assert_false(play->connect[A]);
    put(play, &end);
    assert_true(play->connect[A]);
    assert_false(play->connect[B]);
    assert_string_equal(play->address[A], "a:4700");
    accept_at(play, A);
    id = take_put(play, A);
    assert_string_equal(kv_session_endpoint(play->session), "a:4700");
    answer(play, A, id, KV__CODE__OK);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, 0);
    assert_int_equal(end.revision, 42);
    assert_int_equal(kv_session_pending(play->session), 0);
    play_close(play);
}

static void test_replies_in_any_order_and_in_pieces(void **state)
{
    struct play *play = play_open("a");
    struct end ends[3] = {{0}};
    Kv__Reply reply = KV__REPLY__INIT;
    struct kv_buf buf;
    uint64_t ids[3];

    (void)state;
    for (int i = 0; i < 3; i++) {
        put(play, &ends[i]);
    }
    accept_at(play, A);
    for (int i = 0; i < 3; i++) {
        ids[i] = take_put(play, A);
        assert_int_not_equal(ids[i], 0);
    }
    kv_buf_init(&buf, KV_MIB);
    for (int i = 2; i >= 0; i--) {
        reply.id = ids[i];
        reply.revision = 10 + i;
        assert_int_equal(kv_frame_append(&buf, KV_FRAME_REPLY, &reply.base, false), 0);
    }
    for (size_t i = 0; i < buf.size; i++) {
        kv_session_on_bytes(play->session, play->now_ns, A, kv_slice_of(buf.data + i, 1));
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(ends[i].calls, 1);
        assert_int_equal(ends[i].revision, 10 + i);
    }
    kv_buf_deinit(&buf);
    play_close(play);
}

static void test_slow_connection_is_overtaken(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    assert_true(play->connect[A]);
    assert_false(play->connect[B]);
    pass(play, KV_CLIENT_TRY_NEXT_MS + 1);
    accept_at(play, B);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    play_close(play);
}

static void test_lost_read_is_sent_again(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    get(play, &end);
    accept_at(play, A);
    assert_int_not_equal(take_get(play, A), 0);
    lose(play, A, "connection reset");
    accept_at(play, B);
    answer(play, B, take_get(play, B), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    assert_int_equal(end.calls, 1);
    play_close(play);
}

static void test_lost_write_is_unknown(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    accept_at(play, A);
    assert_int_not_equal(take_put(play, A), 0);
    lose(play, A, "connection reset");
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    assert_non_null(strstr(end.message, "a:4700"));
    assert_non_null(strstr(end.message, "connection reset"));
    play_close(play);
}

static void test_repeatable_write_is_sent_again(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    submit_with(play,
                KV__REQUEST__COMMAND_PUT,
                (struct kv_call_options){.repeatable = true, .deadline_ms = 1000},
                &end);
    accept_at(play, A);
    answer(play, A, take_put(play, A), KV__CODE__OUTCOME_UNKNOWN);
    assert_int_equal(end.calls, 0);
    pass(play, KV_CLIENT_RETRY_MAX_MS);
    assert_int_not_equal(take_put(play, A), 0);
    lose(play, A, "connection reset");
    /* What was once unknown stays unknown. */
    refuse(play, B, "refused");
    pass(play, 2000);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    play_close(play);
}

static void test_unsent_write_is_not_lost_with_the_connection(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put command = KV__PUT__INIT;
    struct end first = {0};

    (void)state;
    get(play, &first);
    accept_at(play, A);
    /* In the output, but the driver has not taken it. */
    command.key = (ProtobufCBinaryData){1, (uint8_t *)"k"};
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &command;
    assert_int_equal(
        kv_session_submit(play->session, play->now_ns, &request, NULL, NULL, on_end, &end, NULL),
        0);
    lose(play, A, "connection reset");
    assert_int_equal(end.calls, 0);
    accept_at(play, B);
    answer(play, B, take_get(play, B), KV__CODE__OK);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    assert_int_equal(first.status, 0);
    play_close(play);
}

static void test_goodbye_moves_on_and_waits_for_answers(void **state)
{
    struct play *play = play_open("a,b");
    struct end first = {0};
    struct end second = {0};
    struct end third = {0};
    Kv__Goodbye goodbye = KV__GOODBYE__INIT;
    uint64_t ids[2];

    (void)state;
    put(play, &first);
    put(play, &second);
    accept_at(play, A);
    ids[0] = take_put(play, A);
    ids[1] = take_put(play, A);
    goodbye.code = KV__CODE__SHUTTING_DOWN;
    goodbye.leader_address = (char *)"b:4700";
    answer_frame(play, A, KV_FRAME_GOODBYE, &goodbye);
    assert_false(play->disconnected[A]);
    put(play, &third);
    accept_at(play, B);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(third.status, 0);
    /* One was done, the other was not and goes to the new leader. */
    answer(play, A, ids[0], KV__CODE__OK);
    answer(play, A, ids[1], KV__CODE__SHUTTING_DOWN);
    assert_int_equal(first.calls, 1);
    assert_int_equal(first.status, 0);
    assert_int_equal(second.calls, 0);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(second.status, 0);
    assert_true(play->disconnected[A]);
    play_close(play);
}

static void test_deadline_of_a_sent_request(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0};
    struct end after = {0};
    struct kv_buf body;
    uint64_t id;

    (void)state;
    submit_with(play, KV__REQUEST__COMMAND_PUT, (struct kv_call_options){.deadline_ms = 300}, &end);
    accept_at(play, A);
    id = take_put(play, A);
    pass(play, 299);
    assert_int_equal(end.calls, 0);
    pass(play, 2);
    assert_int_equal(end.status, KV_DEADLINE);
    assert_non_null(strstr(end.message, "may or may not"));
    kv_buf_init(&body, KV_MIB);
    assert_int_equal(take_frame(play, A, &body), KV_FRAME_CANCEL);
    kv_buf_deinit(&body);
    /* The late answer is nobody's, not that of the next request either; the connection goes on. */
    put(play, &after);
    answer(play, A, id, KV__CODE__OK);
    assert_int_equal(after.calls, 0);
    answer(play, A, take_put(play, A), KV__CODE__OK);
    assert_int_equal(after.status, 0);
    assert_int_equal(end.calls, 1);
    play_close(play);
}

static void test_no_endpoint_until_the_deadline(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};
    int tries = 0;

    (void)state;
    put(play, &end);
    for (int i = 0; i < 600; i++) {
        for (unsigned k = A; k <= B; k++) {
            if (play->connect[k]) {
                refuse(play, k, k == A ? "connection refused" : "no such host");
                tries++;
            }
        }
        pass(play, 10);
    }
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_CLOSED);
    assert_non_null(strstr(end.message, "a:4700: connection refused"));
    assert_non_null(strstr(end.message, "b:4700: no such host"));
    assert_in_range(tries, 8, 40);
    play_close(play);
}

static void test_impatient_gives_up_when_all_refused(void **state)
{
    struct play *play = play_open_with(
        (struct kv_client_options){.endpoints = "a,b", .impatient = true, .no_session = true});
    struct end end = {0};

    (void)state;
    put(play, &end);
    refuse(play, A, "connection refused");
    assert_int_equal(end.calls, 0);
    refuse(play, B, "timed out");
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_CLOSED);
    assert_non_null(strstr(end.message, "a:4700: connection refused; b:4700: timed out"));
    play_close(play);
}

static void test_silence_moves_reads_elsewhere(void **state)
{
    struct play *play = play_open("a,b");
    struct end read = {0};
    struct end write = {0};
    struct kv_buf body;
    uint64_t write_id;

    (void)state;
    get(play, &read);
    put(play, &write);
    accept_at(play, A);
    assert_int_not_equal(take_get(play, A), 0);
    write_id = take_put(play, A);
    pass(play, KV_CLIENT_STALL_MS + 1);
    accept_at(play, B);
    answer(play, B, take_get(play, B), KV__CODE__OK);
    assert_int_equal(read.status, 0);
    assert_int_equal(read.calls, 1);
    assert_int_equal(take_put(play, B), 0);
    kv_buf_init(&body, KV_MIB);
    assert_int_equal(take_frame(play, A, &body), KV_FRAME_CANCEL);
    kv_buf_deinit(&body);
    answer(play, A, write_id, KV__CODE__OK);
    assert_int_equal(write.status, 0);
    play_close(play);
}

static void test_silent_hello_times_out(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0};

    (void)state;
    submit_with(play,
                KV__REQUEST__COMMAND_PUT,
                (struct kv_call_options){.deadline_ms = KV_CLIENT_CONNECT_TIMEOUT_MS + 300},
                &end);
    connect_only(play, A);
    pass(play, KV_CLIENT_CONNECT_TIMEOUT_MS + 1);
    assert_true(play->disconnected[A]);
    pass(play, 300);
    assert_non_null(strstr(end.message, "no answer to the hello"));
    play_close(play);
}

static void bad_bytes(const void *bytes, size_t size, const char *expected)
{
    struct play *play = play_open_with(
        (struct kv_client_options){.endpoints = "a", .impatient = true, .no_session = true});
    struct end end = {0};

    get(play, &end);
    connect_only(play, A);
    kv_session_on_bytes(play->session, play->now_ns, A, kv_slice_of(bytes, size));
    drive(play);
    assert_true(play->disconnected[A]);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_CLOSED);
    if (!strstr(end.message, expected)) {
        fail_msg("\"%s\" is not in \"%s\"", expected, end.message);
    }
    play_close(play);
}

static void test_bad_bytes(void **state)
{
    (void)state;
    bad_bytes("HTTP/1.1 400 Bad Request\r\n\r\n", 28, "not a frame");
    bad_bytes("\xff\xff\xff\xff\x02\0\0\0", 8, "frame of");
    bad_bytes("\0\0\0\0\x05\x01\0\0", 8, "compressed");
    bad_bytes("\x01\0\0\0\x05\0\0\0\xff", 9, "malformed");
    bad_bytes("\0\0\0\0\x02\0\0\0", 8, "unexpected frame of kind 2");
    bad_bytes("\0\0\0\0\x07\0\0\0", 8, "unexpected frame of kind 7");
}

static void test_answer_that_was_not_asked(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0};

    (void)state;
    get(play, &end);
    accept_at(play, A);
    assert_int_not_equal(take_get(play, A), 0);
    answer(play, A, 123456789, KV__CODE__OK);
    assert_true(play->disconnected[A]);
    assert_int_equal(end.calls, 0);
    play_close(play);
}

static void test_another_cluster_is_refused(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};
    Kv__HelloReply hello = KV__HELLO_REPLY__INIT;

    (void)state;
    submit_with(play, KV__REQUEST__COMMAND_GET, (struct kv_call_options){.deadline_ms = 300}, &end);
    accept_at(play, A);
    assert_int_not_equal(take_get(play, A), 0);
    lose(play, A, "gone");
    connect_only(play, B);
    hello.cluster_id = 98;
    answer_frame(play, B, KV_FRAME_HELLO_REPLY, &hello);
    assert_true(play->disconnected[B]);
    pass(play, 300);
    assert_int_equal(end.calls, 1);
    play_close(play);
}

static void test_cancel(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0};
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Get command = KV__GET__INIT;
    uint64_t id;

    (void)state;
    request.command_case = KV__REQUEST__COMMAND_GET;
    request.get = &command;
    assert_int_equal(
        kv_session_submit(play->session, play->now_ns, &request, NULL, NULL, on_end, &end, &id), 0);
    kv_session_cancel(play->session, play->now_ns, id + (1u << 16));
    assert_int_equal(end.calls, 0);
    kv_session_cancel(play->session, play->now_ns, id);
    kv_session_cancel(play->session, play->now_ns, id);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_CLOSED);
    assert_string_equal(end.message, "stopped by the caller");
    play_close(play);
}

static uint64_t submit_put(struct play *play, struct end *end)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put command = KV__PUT__INIT;
    uint64_t id;

    *end = (struct end){0};
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &command;
    assert_int_equal(
        kv_session_submit(play->session, play->now_ns, &request, NULL, NULL, on_end, end, &id), 0);
    drive(play);
    return id;
}

static void test_cancelled_writes_say_what_is_known(void **state)
{
    struct play *play = play_open("a");
    struct end end;
    uint64_t id = submit_put(play, &end);

    (void)state;
    /* Never sent: not then, and not later. */
    kv_session_cancel(play->session, play->now_ns, id);
    assert_int_equal(end.status, KV_CLOSED);
    assert_string_equal(end.message, "stopped by the caller: nothing was done");
    accept_at(play, A);
    assert_int_equal(take_put(play, A), 0);
    /* Sent. */
    id = submit_put(play, &end);
    assert_int_not_equal(take_put(play, A), 0);
    kv_session_cancel(play->session, play->now_ns, id);
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    assert_string_equal(end.message, "stopped by the caller: it may or may not have been done");
    play_close(play);
}

static uint64_t start_stream(struct play *play, struct end *end)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Range range = KV__RANGE__INIT;

    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &range;
    assert_int_equal(
        kv_session_submit(play->session, play->now_ns, &request, NULL, on_item, on_end, end, NULL),
        0);
    drive(play);
    accept_at(play, A);
    return take_request(play, A, KV__REQUEST__COMMAND_RANGE);
}

static void send_item(struct play *play, uint64_t id, bool last)
{
    Kv__StreamItem item = KV__STREAM_ITEM__INIT;
    Kv__RangeResult range = KV__RANGE_RESULT__INIT;

    item.id = id;
    item.end = last;
    item.item_case = KV__STREAM_ITEM__ITEM_RANGE;
    item.range = &range;
    answer_frame(play, A, KV_FRAME_STREAM_ITEM, &item);
}

static void test_stream(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0};
    struct kv_buf body;
    uint64_t id = start_stream(play, &end);

    (void)state;
    send_item(play, id, false);
    kv_buf_init(&body, KV_MIB);
    assert_int_equal(take_frame(play, A, &body), KV_FRAME_CREDIT);
    kv_buf_deinit(&body);
    send_item(play, id, true);
    assert_int_equal(end.items, 2);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, 0);
    play_close(play);
}

static void test_broken_stream_ends(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0};
    uint64_t id = start_stream(play, &end);

    (void)state;
    send_item(play, id, false);
    lose(play, A, "gone");
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    play_close(play);
}

static void test_no_more_than_the_server_takes(void **state)
{
    struct play *play = play_open("a");
    struct end ends[5] = {{0}};
    Kv__HelloReply hello = KV__HELLO_REPLY__INIT;
    Kv__Limits limits = KV__LIMITS__INIT;
    uint64_t id;

    (void)state;
    for (int i = 0; i < 5; i++) {
        put(play, &ends[i]);
    }
    connect_only(play, A);
    limits.connection_requests = 2;
    hello.cluster_id = 99;
    hello.limits = &limits;
    answer_frame(play, A, KV_FRAME_HELLO_REPLY, &hello);
    id = take_put(play, A);
    assert_int_not_equal(take_put(play, A), 0);
    assert_int_equal(take_put(play, A), 0);
    answer(play, A, id, KV__CODE__OK);
    assert_int_not_equal(take_put(play, A), 0);
    assert_int_equal(take_put(play, A), 0);
    play_close(play);
    /* Closing ends what is left: surely not done, or unknown. */
    assert_int_equal(ends[2].status, KV_OUTCOME_UNKNOWN);
    assert_int_equal(ends[4].status, KV_CLOSED);
}

static void test_submit_refuses(void **state)
{
    struct play *play = play_open("a");
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put command = KV__PUT__INIT;
    struct kv_call_options options = {.deadline_ms = KV_DEADLINE_MAX_MS + 1};
    struct end end = {0};

    (void)state;
    assert_int_equal(kv_session_submit(play->session, 0, &request, NULL, NULL, on_end, &end, NULL),
                     KV_INVALID);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &command;
    assert_int_equal(
        kv_session_submit(play->session, 0, &request, &options, NULL, on_end, &end, NULL),
        KV_INVALID);
    command.value.len = KV_REQUEST_BYTES_MAX;
    command.value.data = calloc(1, command.value.len);
    assert_int_equal(kv_session_submit(play->session, 0, &request, NULL, NULL, on_end, &end, NULL),
                     KV_TOO_LARGE);
    free(command.value.data);
    assert_int_equal(end.calls, 0);
    play_close(play);
}

static void test_endpoints(void **state)
{
    static const char *const wrong[] = {"",
                                        "a,,b",
                                        "a:0",
                                        "a:65536",
                                        "a:x",
                                        "a:1:2",
                                        "[::1",
                                        ":4700",
                                        "a b",
                                        "http://a",
                                        "[::1]4700"};
    char addresses[KV_CLIENT_ENDPOINTS_MAX][KV_CLIENT_ADDRESS_BYTES];
    struct kv_error error;
    size_t count;

    (void)state;
    assert_int_equal(kv_endpoints_parse("a,b:1,[::1]:65535", addresses, &count, &error), 0);
    assert_int_equal(count, 3);
    assert_string_equal(addresses[0], "a:4700");
    assert_string_equal(addresses[1], "b:1");
    assert_string_equal(addresses[2], "[::1]:65535");
    assert_int_equal(kv_endpoints_parse(NULL, addresses, &count, &error), KV_INVALID);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(kv_endpoints_parse(wrong[i], addresses, &count, &error), KV_INVALID);
        assert_non_null(strstr(error.message, "endpoint"));
    }
    assert_int_equal(
        kv_endpoints_parse("1,2,3,4,5,6,7,8,9,a,b,c,d,e,f,g,h", addresses, &count, &error),
        KV_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_request_and_reply),
        cmocka_unit_test(test_replies_in_any_order_and_in_pieces),
        cmocka_unit_test(test_slow_connection_is_overtaken),
        cmocka_unit_test(test_lost_read_is_sent_again),
        cmocka_unit_test(test_lost_write_is_unknown),
        cmocka_unit_test(test_repeatable_write_is_sent_again),
        cmocka_unit_test(test_unsent_write_is_not_lost_with_the_connection),
        cmocka_unit_test(test_goodbye_moves_on_and_waits_for_answers),
        cmocka_unit_test(test_deadline_of_a_sent_request),
        cmocka_unit_test(test_no_endpoint_until_the_deadline),
        cmocka_unit_test(test_impatient_gives_up_when_all_refused),
        cmocka_unit_test(test_silence_moves_reads_elsewhere),
        cmocka_unit_test(test_silent_hello_times_out),
        cmocka_unit_test(test_bad_bytes),
        cmocka_unit_test(test_answer_that_was_not_asked),
        cmocka_unit_test(test_another_cluster_is_refused),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_cancelled_writes_say_what_is_known),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_broken_stream_ends),
        cmocka_unit_test(test_no_more_than_the_server_takes),
        cmocka_unit_test(test_submit_refuses),
        cmocka_unit_test(test_endpoints),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
