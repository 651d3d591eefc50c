/* Answers of refusal in the session core: who is asked next, and when; servers are played by the
 * test (client_play.h). */
#include "tests/support/client_play.h"

static void test_errors_of_class_never_end_at_once(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    accept_at(play, A);
    answer(play, A, take_put(play, A), KV__CODE__TOO_LARGE);
    assert_int_equal(end.status, KV_TOO_LARGE);
    assert_string_equal(end.message, "too large");
    play_close(play);
}

static void test_later_is_retried_with_backoff(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0};

    (void)state;
    put(play, &end);
    accept_at(play, A);
    for (int i = 0; i < 3; i++) {
        uint64_t id = take_put(play, A);

        assert_int_not_equal(id, 0);
        answer(play, A, id, KV__CODE__BUSY);
        assert_int_equal(take_put(play, A), 0);
        pass(play, KV_CLIENT_RETRY_MAX_MS);
    }
    answer(play, A, take_put(play, A), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    assert_int_equal(end.calls, 1);
    play_close(play);
}

static void test_a_refused_snapshot_is_not_asked_for_again(void **state)
{
    struct play *play = play_open("a");
    const Kv__Code codes[] = {KV__CODE__NO_SPACE, KV__CODE__BUSY};

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct end end = {0};

        submit_with(play, KV__REQUEST__COMMAND_SNAPSHOT_NOW, (struct kv_call_options){0}, &end);
        if (i == 0) {
            accept_at(play, A);
        }
        answer(play, A, take_request(play, A, KV__REQUEST__COMMAND_SNAPSHOT_NOW), codes[i]);
        assert_int_equal(end.status, -(int)codes[i]);
        assert_non_null(strstr(end.message, "answered by a"));
    }
    play_close(play);
}

static void test_not_leader_goes_to_the_hint_at_once(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    accept_at(play, A);
    answer_hint(play, A, take_put(play, A), KV__CODE__NOT_LEADER, "c:4700");
    assert_true(play->connect[C]);
    assert_string_equal(play->address[C], "c:4700");
    accept_at(play, C);
    answer(play, C, take_put(play, C), KV__CODE__OK);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, 0);
    assert_string_equal(kv_session_endpoint(play->session), "c:4700");
    /* The old connection is not kept. */
    assert_true(play->disconnected[A]);
    play_close(play);
}

/* Nothing has gone to A since. */
static void is_left_alone(struct play *play, unsigned endpoint)
{
    assert_false(play->connect[endpoint]);
    assert_int_equal(take_put(play, endpoint), 0);
}

/* The others take it for the leader yet. */
static void test_a_node_that_is_not_to_be_trusted_is_left(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0}, second = {0}, third = {0};
    uint64_t id;

    (void)state;
    put(play, &end);
    accept_at(play, A);
    answer(play, A, take_put(play, A), KV__CODE__CORRUPT);
    assert_int_equal(end.calls, 0);
    connect_only(play, B);
    greet(play, B, 1, "a:4700");
    id = take_put(play, B);
    assert_int_not_equal(id, 0);
    is_left_alone(play, A);
    answer_hint(play, B, id, KV__CODE__NO_LEADER, "a:4700");
    pass(play, KV_CLIENT_RETRY_MAX_MS);
    is_left_alone(play, A);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, 0);
    /* A new connection to B tells the same. */
    lose(play, B, "reset");
    put(play, &second);
    pass(play, KV_CLIENT_RECONNECT_MAX_MS);
    connect_only(play, B);
    greet(play, B, 1, "a:4700");
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(second.status, 0);
    is_left_alone(play, A);
    /* Not for ever: it may be another node at the same address. */
    pass(play, KV_CLIENT_SHUN_MS);
    put(play, &third);
    answer_hint(play, B, take_put(play, B), KV__CODE__NOT_LEADER, "a:4700");
    accept_at(play, A);
    answer(play, A, take_put(play, A), KV__CODE__OK);
    assert_int_equal(third.status, 0);
    play_close(play);
}

/* What else went wrong before does not count. */
static void test_a_node_is_left_after_other_failures(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    accept_at(play, A);
    for (int i = 0; i < 5; i++) {
        answer(play, A, take_put(play, A), KV__CODE__BUSY);
        pass(play, KV_CLIENT_RETRY_MAX_MS);
    }
    answer(play, A, take_put(play, A), KV__CODE__CORRUPT);
    assert_int_equal(end.calls, 0);
    accept_at(play, B);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    play_close(play);
}

static void test_nobody_is_to_be_trusted(void **state)
{
    struct play *play = play_open("a,b,c");
    struct end end = {0}, second = {0};

    (void)state;
    put(play, &end);
    accept_at(play, A);
    answer(play, A, take_put(play, A), KV__CODE__CORRUPT);
    refuse(play, B, "connection refused");
    accept_at(play, C);
    answer(play, C, take_put(play, C), KV__CODE__CORRUPT);
    /* B alone is left, and away: there is time for it. */
    assert_int_equal(end.calls, 0);
    is_left_alone(play, A);
    is_left_alone(play, C);
    pass(play, KV_CLIENT_RECONNECT_MIN_MS);
    accept_at(play, B);
    answer(play, B, take_put(play, B), KV__CODE__CORRUPT);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_CORRUPT);
    assert_non_null(strstr(end.message, "answered by b:4700"));
    /* One that is shunned is better than none. */
    put(play, &second);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(second.status, 0);
    play_close(play);
}

static void test_the_others_do_not_come_back(void **state)
{
    struct kv_client_options options = {.endpoints = "a,b", .no_session = true};

    (void)state;
    for (int impatient = 0; impatient < 2; impatient++) {
        struct play *play;
        struct end end = {0};

        options.impatient = impatient;
        play = play_open_with(options);
        submit_with(
            play, KV__REQUEST__COMMAND_PUT, (struct kv_call_options){.deadline_ms = 1000}, &end);
        accept_at(play, A);
        answer(play, A, take_put(play, A), KV__CODE__CORRUPT);
        refuse(play, B, "connection refused");
        if (impatient) {
            assert_int_equal(end.status, KV_CLOSED);
            assert_non_null(strstr(end.message, "a:4700: it is not to be trusted; b:4700: conn"));
        } else {
            assert_int_equal(end.calls, 0);
            pass(play, 1000);
            assert_int_equal(end.status, KV_CORRUPT);
            assert_non_null(strstr(end.message, "deadline; last answer of a:4700: "));
        }
        assert_int_equal(end.calls, 1);
        play_close(play);
    }
}

/* It did nothing itself, but what is known of the try before? */
static void test_an_untrusted_node_does_not_say_what_was_done_before(void **state)
{
    struct play *play = play_open("a");
    struct end end = {0}, second = {0};

    (void)state;
    submit_with(play,
                KV__REQUEST__COMMAND_PUT,
                (struct kv_call_options){.repeatable = true, .deadline_ms = 1000},
                &end);
    accept_at(play, A);
    answer(play, A, take_put(play, A), KV__CODE__OUTCOME_UNKNOWN);
    pass(play, KV_CLIENT_RETRY_MAX_MS);
    answer(play, A, take_put(play, A), KV__CODE__CORRUPT);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    assert_non_null(strstr(end.message, "an earlier try may have been done; a:4700"));
    /* With nothing before it was not done. */
    put(play, &second);
    answer(play, A, take_put(play, A), KV__CODE__CORRUPT);
    assert_int_equal(second.status, KV_CORRUPT);
    play_close(play);
}

static void test_hello_names_the_leader(void **state)
{
    struct play *play = play_open("a,b");
    struct end first = {0};
    struct end second = {0};
    uint64_t id;

    (void)state;
    put(play, &first);
    connect_only(play, A);
    greet(play, A, 2, "b:4700");
    /* Meanwhile the follower serves. */
    id = take_put(play, A);
    assert_int_not_equal(id, 0);
    accept_at(play, B);
    put(play, &second);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(second.status, 0);
    assert_int_equal(second.calls, 1);
    assert_false(play->disconnected[A]);
    answer(play, A, id, KV__CODE__OK);
    assert_int_equal(first.status, 0);
    assert_true(play->disconnected[A]);
    play_close(play);
}

static void test_stay_ignores_the_leader(void **state)
{
    struct play *play = play_open_with(
        (struct kv_client_options){.endpoints = "a,b", .stay = true, .no_session = true});
    struct end end = {0};

    (void)state;
    put(play, &end);
    connect_only(play, A);
    greet(play, A, 2, "b:4700");
    answer(play, A, take_put(play, A), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    assert_false(play->connect[B]);
    play_close(play);
}

static void test_next_endpoint_when_refused(void **state)
{
    struct play *play = play_open("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    refuse(play, A, "connection refused");
    accept_at(play, B);
    answer(play, B, take_put(play, B), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    play_close(play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_errors_of_class_never_end_at_once),
        cmocka_unit_test(test_later_is_retried_with_backoff),
        cmocka_unit_test(test_a_refused_snapshot_is_not_asked_for_again),
        cmocka_unit_test(test_not_leader_goes_to_the_hint_at_once),
        cmocka_unit_test(test_a_node_that_is_not_to_be_trusted_is_left),
        cmocka_unit_test(test_a_node_is_left_after_other_failures),
        cmocka_unit_test(test_nobody_is_to_be_trusted),
        cmocka_unit_test(test_the_others_do_not_come_back),
        cmocka_unit_test(test_an_untrusted_node_does_not_say_what_was_done_before),
        cmocka_unit_test(test_hello_names_the_leader),
        cmocka_unit_test(test_stay_ignores_the_leader),
        cmocka_unit_test(test_next_endpoint_when_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
