/* Exactly-once writes in the session core: when a session is opened, renewed and given up, which
 * stamps are sent, and what is sent again. */
#include "tests/support/client_play.h"

struct seen {
    Kv__Request__CommandCase command; /* 0: nothing was sent */
    uint64_t id;
    uint64_t session_id, sequence, through;
};

static struct seen take(struct play *play, unsigned endpoint)
{
    struct seen seen = {0};
    Kv__Request *request;
    struct kv_buf body;

    kv_buf_init(&body, KV_REQUEST_BYTES_MAX);
    while (seen.command == 0) {
        uint8_t kind = take_frame(play, endpoint, &body);

        if (kind == 0) {
            break;
        }
        if (kind == KV_FRAME_CANCEL) {
            continue;
        }
        assert_int_equal(kind, KV_FRAME_REQUEST);
        request = kv__request__unpack(NULL, body.size, body.data);
        assert_non_null(request);
        seen.command = request->command_case;
        seen.id = request->id;
        if (request->session) {
            seen.session_id = request->session->session_id;
            seen.sequence = request->session->sequence;
            seen.through = request->session->acknowledged_through;
        }
        kv__request__free_unpacked(request, NULL);
    }
    kv_buf_deinit(&body);
    return seen;
}

static struct seen take_command(struct play *play, unsigned endpoint, Kv__Request__CommandCase is)
{
    struct seen seen = take(play, endpoint);

    assert_int_equal(seen.command, is);
    return seen;
}

/* A put with this stamp. */
static uint64_t take_stamped(
    struct play *play, unsigned endpoint, uint64_t session, uint64_t sequence, uint64_t through)
{
    struct seen seen = take_command(play, endpoint, KV__REQUEST__COMMAND_PUT);

    assert_int_equal(seen.session_id, session);
    assert_int_equal(seen.sequence, sequence);
    assert_int_equal(seen.through, through);
    return seen.id;
}

static void nothing_sent(struct play *play, unsigned endpoint)
{
    assert_int_equal(take(play, endpoint).command, 0);
}

static void answer_open(struct play *play, unsigned endpoint, uint64_t session)
{
    struct seen seen = take_command(play, endpoint, KV__REQUEST__COMMAND_SESSION_OPEN);
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__SessionOpenResult result = KV__SESSION_OPEN_RESULT__INIT;

    assert_int_equal(seen.session_id, 0);
    result.session_id = session;
    result.ttl_ms = 60000;
    reply.id = seen.id;
    reply.result_case = KV__REPLY__RESULT_SESSION_OPEN;
    reply.session_open = &result;
    answer_frame(play, endpoint, KV_FRAME_REPLY, &reply);
}

static struct play *once_open(const char *endpoints)
{
    return play_open_with((struct kv_client_options){.endpoints = endpoints, .name = "test"});
}

/* A client whose first write is done, in session 7 at A. */
static struct play *once_ready(const char *endpoints)
{
    struct play *play = once_open(endpoints);
    struct end end = {0};

    put(play, &end);
    accept_at(play, A);
    answer_open(play, A, 7);
    answer(play, A, take_stamped(play, A, 7, 1, 0), KV__CODE__OK);
    assert_int_equal(end.calls, 1);
    return play;
}

/* ---------------------------------------------------------------- stamps */

static void the_first_write_opens_a_session(void **state)
{
    struct play *play = once_open("a,b");
    struct end read = {0}, again = {0}, first = {0}, second = {0}, third = {0};
    uint64_t ids[2];

    (void)state;
    get(play, &read);
    accept_at(play, A);
    answer(play, A, take_command(play, A, KV__REQUEST__COMMAND_GET).id, KV__CODE__OK);
    put(play, &first);
    put(play, &second);
    get(play, &again);
    assert_int_equal(kv_session_pending(play->session), 3);
    answer_open(play, A, 7);
    (void)take_command(play, A, KV__REQUEST__COMMAND_GET);
    ids[0] = take_stamped(play, A, 7, 1, 0);
    ids[1] = take_stamped(play, A, 7, 2, 0);
    answer(play, A, ids[1], KV__CODE__OK);
    answer(play, A, ids[0], KV__CODE__CONDITION_FAILED);
    assert_int_equal(first.status, KV_CONDITION_FAILED);
    assert_int_equal(second.status, 0);
    put(play, &third);
    (void)take_stamped(play, A, 7, 3, 2);
    play_close(play);
}

static void what_is_finished_is_acknowledged_in_order(void **state)
{
    struct play *play = once_ready("a");
    struct end ends[5] = {{0}};
    uint64_t ids[4];

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        put(play, &ends[i]);
        ids[i] = take_stamped(play, A, 7, 2 + i, 1);
    }
    answer(play, A, ids[1], KV__CODE__OK);
    answer(play, A, ids[2], KV__CODE__OK);
    put(play, &ends[3]);
    ids[3] = take_stamped(play, A, 7, 5, 1);
    answer(play, A, ids[0], KV__CODE__OK);
    put(play, &ends[4]);
    (void)take_stamped(play, A, 7, 6, 4);
    play_close(play);
}

static void no_more_than_the_window_is_under_way(void **state)
{
    static struct end ends[KV_SESSION_WINDOW + 2];
    struct play *play = once_ready("a");
    uint64_t first;

    (void)state;
    memset(ends, 0, sizeof ends);
    for (unsigned i = 0; i < KV_SESSION_WINDOW + 2; i++) {
        put(play, &ends[i]);
    }
    first = take_stamped(play, A, 7, 2, 1);
    for (unsigned i = 1; i < KV_SESSION_WINDOW; i++) {
        uint64_t id = take_stamped(play, A, 7, 2 + i, 1);

        if (i < 10) {
            answer(play, A, id, KV__CODE__OK);
        }
    }
    /* The connection has room, the window has not: the lowest is not finished. */
    nothing_sent(play, A);
    answer(play, A, first, KV__CODE__OK);
    (void)take_stamped(play, A, 7, KV_SESSION_WINDOW + 2, 11);
    (void)take_stamped(play, A, 7, KV_SESSION_WINDOW + 3, 11);
    play_close(play);
}

/* ---------------------------------------------------------------- sent again */

static void a_lost_write_is_sent_again_with_its_stamp(void **state)
{
    struct play *play = once_ready("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    (void)take_stamped(play, A, 7, 2, 1);
    lose(play, A, "connection reset");
    assert_int_equal(end.calls, 0);
    accept_at(play, B);
    answer(play, B, take_stamped(play, B, 7, 2, 1), KV__CODE__OUTCOME_UNKNOWN);
    assert_int_equal(end.calls, 0);
    pass(play, 200);
    answer(play, B, take_stamped(play, B, 7, 2, 1), KV__CODE__NOT_LEADER);
    pass(play, 200);
    answer(play, B, take_stamped(play, B, 7, 2, 1), KV__CODE__OK);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, 0);
    play_close(play);
}

static void a_silent_server_is_left_with_the_write(void **state)
{
    struct play *play = once_ready("a,b");
    struct end end = {0};

    (void)state;
    put(play, &end);
    (void)take_stamped(play, A, 7, 2, 1);
    pass(play, 1100);
    accept_at(play, B);
    answer(play, B, take_stamped(play, B, 7, 2, 1), KV__CODE__OK);
    assert_int_equal(end.status, 0);
    play_close(play);
}

/* It ends as unknown, and counts as finished: it is never sent again, and what is still on its way
 * is refused behind the next stamp. */
static void a_late_write_is_unknown_and_acknowledged(void **state)
{
    struct play *play = once_ready("a,b");
    struct end end = {0}, next = {0};

    (void)state;
    submit_with(play, KV__REQUEST__COMMAND_PUT, (struct kv_call_options){.deadline_ms = 500}, &end);
    (void)take_stamped(play, A, 7, 2, 1);
    lose(play, A, "connection reset");
    pass(play, 600);
    assert_int_equal(end.calls, 1);
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    put(play, &next);
    accept_at(play, B);
    (void)take_stamped(play, B, 7, 3, 2);
    nothing_sent(play, B);
    play_close(play);
}

static void a_lost_answer_is_said_to_be_lost(void **state)
{
    struct play *play = once_ready("a");
    struct end end = {0};
    Kv__Reply reply = KV__REPLY__INIT;

    (void)state;
    put(play, &end);
    reply.id = take_stamped(play, A, 7, 2, 1);
    reply.message = (char *)(uintptr_t) "done at revision 5; its answer was too large";
    answer_frame(play, A, KV_FRAME_REPLY, &reply);
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    assert_non_null(strstr(end.message, "done at revision 5"));
    play_close(play);
}

/* ---------------------------------------------------------------- life of the session */

static void an_idle_session_is_renewed(void **state)
{
    struct play *play = once_ready("a");
    struct end end = {0};

    (void)state;
    pass(play, 19000);
    nothing_sent(play, A);
    for (unsigned i = 0; i < 3; i++) {
        pass(play, 1500);
        answer(play, A, take_command(play, A, KV__REQUEST__COMMAND_SESSION_RENEW).id, KV__CODE__OK);
        assert_int_equal(kv_session_pending(play->session), 0);
        pass(play, 19000);
        nothing_sent(play, A);
    }
    /* A write does as well. */
    put(play, &end);
    answer(play, A, take_stamped(play, A, 7, 2, 1), KV__CODE__OK);
    pass(play, 19000);
    nothing_sent(play, A);
    play_close(play);
}

static void a_session_that_cannot_be_renewed_is_given_up(void **state)
{
    struct play *play = once_ready("a");
    struct end end = {0};

    (void)state;
    lose(play, A, "connection reset");
    pass(play, 21000);
    while (play->connect[A]) {
        refuse(play, A, "connection refused");
        pass(play, 2000);
    }
    assert_true(kv_session_wake_ns(play->session) == UINT64_MAX);
    put(play, &end);
    accept_at(play, A);
    answer_open(play, A, 8);
    (void)take_stamped(play, A, 8, 1, 0);
    play_close(play);
}

static void after_expiry_what_was_not_done_is_done_in_a_new_session(void **state)
{
    struct play *play = once_ready("a,b");
    struct end sure = {0}, unsure = {0}, other = {0};
    uint64_t ids[3];

    (void)state;
    put(play, &unsure);
    (void)take_stamped(play, A, 7, 2, 1);
    lose(play, A, "connection reset");
    accept_at(play, B);
    put(play, &sure);
    put(play, &other);
    ids[0] = take_stamped(play, B, 7, 2, 1);
    ids[1] = take_stamped(play, B, 7, 3, 1);
    ids[2] = take_stamped(play, B, 7, 4, 1);
    answer(play, B, ids[1], KV__CODE__SESSION_EXPIRED);
    assert_int_equal(sure.calls, 0);
    /* Its first try may have been done. */
    answer(play, B, ids[0], KV__CODE__SESSION_EXPIRED);
    assert_int_equal(unsure.calls, 1);
    assert_int_equal(unsure.status, KV_OUTCOME_UNKNOWN);
    answer_open(play, B, 9);
    ids[0] = take_stamped(play, B, 9, 1, 0);
    /* Answers of the former session come late. */
    answer(play, B, ids[2], KV__CODE__SESSION_EXPIRED);
    assert_int_equal(other.calls, 0);
    ids[1] = take_stamped(play, B, 9, 2, 0);
    answer(play, B, ids[0], KV__CODE__OK);
    answer(play, B, ids[1], KV__CODE__OK);
    assert_int_equal(sure.status, 0);
    assert_int_equal(other.status, 0);
    assert_int_equal(kv_session_pending(play->session), 0);
    play_close(play);
}

static void a_lost_write_of_an_ended_session_is_unknown(void **state)
{
    struct play *play = once_ready("a,b");
    struct end first = {0}, second = {0};
    uint64_t id;

    (void)state;
    put(play, &first);
    id = take_stamped(play, A, 7, 2, 1);
    put(play, &second);
    (void)take_stamped(play, A, 7, 3, 1);
    answer(play, A, id, KV__CODE__SESSION_EXPIRED);
    lose(play, A, "connection reset");
    assert_int_equal(first.calls, 0);
    assert_int_equal(second.calls, 1);
    assert_int_equal(second.status, KV_OUTCOME_UNKNOWN);
    accept_at(play, B);
    answer_open(play, B, 8);
    answer(play, B, take_stamped(play, B, 8, 1, 0), KV__CODE__OK);
    assert_int_equal(first.status, 0);
    play_close(play);
}

/* ---------------------------------------------------------------- without one */

static void a_cluster_without_sessions_is_served_as_before(void **state)
{
    struct play *play = once_open("a,b");
    struct end end = {0}, next = {0};

    (void)state;
    put(play, &end);
    accept_at(play, A);
    answer(play,
           A,
           take_command(play, A, KV__REQUEST__COMMAND_SESSION_OPEN).id,
           KV__CODE__UNSUPPORTED);
    (void)take_stamped(play, A, 0, 0, 0);
    lose(play, A, "connection reset");
    assert_int_equal(end.status, KV_OUTCOME_UNKNOWN);
    put(play, &next);
    accept_at(play, B);
    (void)take_stamped(play, B, 0, 0, 0);
    play_close(play);
}

static void without_room_for_a_session_writes_say_so(void **state)
{
    struct play *play = once_open("a");
    struct end end = {0};

    (void)state;
    submit_with(
        play, KV__REQUEST__COMMAND_PUT, (struct kv_call_options){.deadline_ms = 1000}, &end);
    accept_at(play, A);
    while (end.calls == 0) {
        struct seen seen = take(play, A);

        if (seen.command != 0) {
            assert_int_equal(seen.command, KV__REQUEST__COMMAND_SESSION_OPEN);
            answer(play, A, seen.id, KV__CODE__BUSY);
        }
        pass(play, 50);
    }
    assert_int_equal(end.status, KV_BUSY);
    assert_non_null(strstr(end.message, "no session was opened"));
    play_close(play);
}

static void a_session_that_is_refused_is_not_asked_for_again(void **state)
{
    const Kv__Code codes[] = {KV__CODE__OUT_OF_BOUNDS, KV__CODE__CORRUPT};
    struct play *play = once_open("a");

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct end first = {0}, second = {0};

        put(play, &first);
        put(play, &second);
        if (i == 0) {
            accept_at(play, A);
        }
        answer(play, A, take_command(play, A, KV__REQUEST__COMMAND_SESSION_OPEN).id, codes[i]);
        assert_int_equal(first.status, -(int)codes[i]);
        assert_non_null(strstr(first.message, "nothing was done, no session was opened for it: "));
        assert_int_equal(second.status, -(int)codes[i]);
        /* Before somebody writes again. */
        pass(play, 1000);
        nothing_sent(play, A);
        assert_int_equal(kv_session_pending(play->session), 0);
    }
    play_close(play);
}

struct writer {
    struct play *play;
    unsigned writes;
};

static void write_again(void *arg, const struct kv_session_answer *answer)
{
    struct writer *writer = arg;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;

    if (answer && answer->status == KV_CLOSED) {
        return;
    }
    writer->writes++;
    put.key = (ProtobufCBinaryData){3, (uint8_t *)"key"};
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    assert_int_equal(kv_session_submit(writer->play->session,
                                       writer->play->now_ns,
                                       &request,
                                       NULL,
                                       NULL,
                                       write_again,
                                       writer,
                                       NULL),
                     0);
}

/* From inside the end of the one before: it waits for the next answer. */
static void who_writes_again_gets_another_try(void **state)
{
    struct play *play = once_open("a");
    struct writer writer = {.play = play};

    (void)state;
    write_again(&writer, NULL);
    drive(play);
    accept_at(play, A);
    for (unsigned i = 1; i < 4; i++) {
        assert_int_equal(writer.writes, i);
        answer(play,
               A,
               take_command(play, A, KV__REQUEST__COMMAND_SESSION_OPEN).id,
               KV__CODE__OUT_OF_BOUNDS);
    }
    play_close(play);
    assert_int_equal(writer.writes, 4);
}

/* Whatever is wrong: each try is an entry of the log. */
static void a_session_is_asked_for_with_pauses(void **state)
{
    struct play *play = once_open("a");
    struct end end = {0};
    unsigned asked = 0;

    (void)state;
    submit_with(
        play, KV__REQUEST__COMMAND_PUT, (struct kv_call_options){.deadline_ms = 1000}, &end);
    accept_at(play, A);
    while (end.calls == 0) {
        struct seen seen = take(play, A);

        if (seen.command != 0) {
            assert_int_equal(seen.command, KV__REQUEST__COMMAND_SESSION_OPEN);
            answer(play, A, seen.id, KV__CODE__DEADLINE);
            nothing_sent(play, A);
            asked++;
        }
        pass(play, 1);
    }
    assert_int_equal(end.status, KV_DEADLINE);
    assert_non_null(strstr(end.message, "no session was opened"));
    /* From 5 ms doubled up to 100, half of it with the greatest luck. */
    assert_in_range(asked, 10, 30);
    play_close(play);
}

static void a_client_that_is_closed_ends_all(void **state)
{
    struct play *play = once_open("a");
    struct end waiting = {0}, sent = {0};

    (void)state;
    put(play, &waiting);
    accept_at(play, A);
    play_close(play);
    assert_int_equal(waiting.status, KV_CLOSED);
    play = once_ready("a");
    put(play, &sent);
    play_close(play);
    assert_int_equal(sent.status, KV_OUTCOME_UNKNOWN);
}

static void who_leaves_says_so(void **state)
{
    struct play *play = once_ready("a");

    (void)state;
    kv_session_farewell(play->session, play->now_ns);
    drive(play);
    (void)take_command(play, A, KV__REQUEST__COMMAND_SESSION_CLOSE);
    assert_int_equal(kv_session_pending(play->session), 0);
    play_close(play);
    play = once_open("a");
    kv_session_farewell(play->session, play->now_ns);
    drive(play);
    assert_false(play->connect[A]);
    play_close(play);
}

static uint64_t pop(struct play *play, uint64_t block_ms, unsigned deadline_ms, struct end *end)
{
    const struct kv_call_options options = {.deadline_ms = deadline_ms};
    Kv__Request request = KV__REQUEST__INIT;
    Kv__ListPop list_pop = KV__LIST_POP__INIT;
    uint64_t id;

    list_pop.key = (ProtobufCBinaryData){3, (uint8_t *)"key"};
    list_pop.block_ms = block_ms;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &list_pop;
    assert_int_equal(
        kv_session_submit(play->session, play->now_ns, &request, &options, NULL, on_end, end, &id),
        0);
    drive(play);
    return id;
}

/* An element must not be popped for a caller who waits no longer. */
static void test_waiting_pops_given_up(void **state)
{
    struct play *play = once_ready("a");
    struct end ends[5] = {{0}};
    struct seen popped;
    struct seen cancelled;
    uint64_t id;

    (void)state;
    id = pop(play, 60000, 60000, &ends[0]);
    popped = take_command(play, A, KV__REQUEST__COMMAND_LIST_POP);
    kv_session_cancel(play->session, play->now_ns, id);
    drive(play);
    assert_int_equal(ends[0].status, KV_OUTCOME_UNKNOWN);
    pass(play, 1);
    cancelled = take_command(play, A, KV__REQUEST__COMMAND_SESSION_CANCEL);
    assert_int_equal(cancelled.sequence, 0); /* it has no stamp itself */
    answer(play, A, popped.id, KV__CODE__DEADLINE);
    answer(play, A, cancelled.id, KV__CODE__OK);
    /* The same when its time is over. */
    pop(play, 60000, 500, &ends[1]);
    popped = take_command(play, A, KV__REQUEST__COMMAND_LIST_POP);
    pass(play, 501);
    assert_int_equal(ends[1].status, KV_DEADLINE);
    cancelled = take_command(play, A, KV__REQUEST__COMMAND_SESSION_CANCEL);
    answer(play, A, cancelled.id, KV__CODE__OK);
    /* Not of one that does not wait ... */
    id = pop(play, 0, 500, &ends[2]);
    take_command(play, A, KV__REQUEST__COMMAND_LIST_POP);
    kv_session_cancel(play->session, play->now_ns, id);
    pass(play, 1);
    nothing_sent(play, A);
    /* ... or never left. */
    lose(play, A, "reset");
    id = pop(play, 60000, 60000, &ends[3]);
    kv_session_cancel(play->session, play->now_ns, id);
    pass(play, 100);
    get(play, &ends[4]);
    accept_at(play, A);
    answer(play, A, take_get(play, A), KV__CODE__OK);
    pass(play, 100);
    nothing_sent(play, A);
    play_close(play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_write_opens_a_session),
        cmocka_unit_test(what_is_finished_is_acknowledged_in_order),
        cmocka_unit_test(no_more_than_the_window_is_under_way),
        cmocka_unit_test(a_lost_write_is_sent_again_with_its_stamp),
        cmocka_unit_test(a_silent_server_is_left_with_the_write),
        cmocka_unit_test(a_late_write_is_unknown_and_acknowledged),
        cmocka_unit_test(a_lost_answer_is_said_to_be_lost),
        cmocka_unit_test(an_idle_session_is_renewed),
        cmocka_unit_test(a_session_that_cannot_be_renewed_is_given_up),
        cmocka_unit_test(after_expiry_what_was_not_done_is_done_in_a_new_session),
        cmocka_unit_test(a_lost_write_of_an_ended_session_is_unknown),
        cmocka_unit_test(a_cluster_without_sessions_is_served_as_before),
        cmocka_unit_test(without_room_for_a_session_writes_say_so),
        cmocka_unit_test(a_session_that_is_refused_is_not_asked_for_again),
        cmocka_unit_test(who_writes_again_gets_another_try),
        cmocka_unit_test(a_session_is_asked_for_with_pauses),
        cmocka_unit_test(a_client_that_is_closed_ends_all),
        cmocka_unit_test(who_leaves_says_so),
        cmocka_unit_test(test_waiting_pops_given_up),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
