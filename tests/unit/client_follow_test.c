/* Watches and subscriptions that are kept going, against servers played by the test. */
#include "tests/support/follow_play.h"

enum { TRIES = 200, TRY_MS = 20 };

/* The client comes to this endpoint, in its time, and asks for the stream again. */
static struct asked take_again(struct play *play, unsigned endpoint)
{
    struct asked asked = {0};

    for (int i = 0; i < TRIES && !play->connect[endpoint]; i++) {
        pass(play, TRY_MS);
    }
    accept_at(play, endpoint);
    for (int i = 0; i < TRIES && asked.id == 0; i++) {
        pass(play, TRY_MS);
        asked = take_stream(play, endpoint);
    }
    return asked;
}

/* ---------------------------------------------------------------- watches */

static void test_events_in_order(void **state)
{
    struct play *play = play_open("a");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_from(play, 0, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    assert_int_not_equal(asked.id, 0);
    assert_int_equal(asked.start, 0);
    assert_int_equal(asked.progress_ms, KV_CLIENT_PROGRESS_MS);
    expect(&heard, "");
    send_events(play, A, asked.id, 4, "");
    expect(&heard, "<4>");
    assert_int_equal(kv_follow_position(heard.follow), 4);
    send_events(play, A, asked.id, 5, "a@5");
    send_events(play, A, asked.id, 9, "a@6 b@8 c@8");
    expect(&heard, "[a@5|5][a@6 b@8 c@8|9]");
    send_events(play, A, asked.id, 20, "");
    expect(&heard, "");
    assert_int_equal(kv_follow_position(heard.follow), 20);
    unfollow(&heard);
    asked = take_stream(play, A);
    assert_int_equal(asked.cancels, 1);
    play_close(play);
}

static void test_resumes_behind_what_was_told(void **state)
{
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_from(play, 3, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    assert_int_equal(asked.start, 3);
    /* Lost before its first item, between items, and after progress alone. */
    lose(play, A, "reset");
    asked = take_again(play, B);
    assert_int_equal(asked.start, 3);
    send_events(play, B, asked.id, 2, "");
    send_events(play, B, asked.id, 3, "a@3");
    expect(&heard, "<2>[a@3|3]");
    lose(play, B, "reset");
    asked = take_again(play, A);
    assert_int_equal(asked.start, 4);
    send_events(play, A, asked.id, 3, "");
    send_events(play, A, asked.id, 7, "");
    lose(play, A, "reset");
    asked = take_again(play, B);
    assert_int_equal(asked.start, 8);
    send_events(play, B, asked.id, 7, "");
    send_events(play, B, asked.id, 8, "b@8");
    expect(&heard, "[b@8|8]");
    unfollow(&heard);
    play_close(play);
}

static void test_now_stays_now_until_it_is_known(void **state)
{
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_from(play, 0, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    lose(play, A, "reset");
    asked = take_again(play, B);
    assert_int_equal(asked.start, 0);
    send_events(play, B, asked.id, 6, "");
    lose(play, B, "reset");
    asked = take_again(play, A);
    assert_int_equal(asked.start, 7);
    expect(&heard, "<6>");
    unfollow(&heard);
    play_close(play);
}

/* Held until it is complete; what was held is dropped with the connection. */
static void test_half_a_revision_is_not_told(void **state)
{
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_from(play, 5, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 4, "");
    send_fragment(play, A, asked.id, 6, "a@5 a@7 b@7");
    expect(&heard, "<4>[a@5|6]");
    send_fragment(play, A, asked.id, 6, "c@7");
    expect(&heard, "");
    assert_int_equal(kv_follow_position(heard.follow), 6);
    lose(play, A, "reset");
    asked = take_again(play, B);
    assert_int_equal(asked.start, 7);
    send_events(play, B, asked.id, 6, "");
    send_fragment(play, B, asked.id, 6, "a@7");
    send_fragment(play, B, asked.id, 6, "b@7 c@7");
    expect(&heard, "");
    send_events(play, B, asked.id, 8, "d@7 a@8");
    expect(&heard, "[a@7|6+][b@7 c@7|6+][d@7 a@8|8]");
    /* It may be complete without a further event. */
    send_fragment(play, B, asked.id, 8, "a@9");
    send_events(play, B, asked.id, 9, "");
    expect(&heard, "[a@9|9]");
    /* And complete with the beginning of the next. */
    send_fragment(play, B, asked.id, 9, "a@10");
    send_fragment(play, B, asked.id, 10, "b@10 a@11");
    expect(&heard, "[a@10|9+][b@10|10]");
    send_fragment(play, B, asked.id, 11, "a@12");
    expect(&heard, "[a@11|11]");
    unfollow(&heard);
    play_close(play);
}

/* Larger than the bound: told as it comes; after a loss the rest only, wherever it is cut. */
static void test_rest_of_a_large_revision(void **state)
{
    struct kv_watch_options options = {.start_revision = 5, .queue_bytes = 10000};
    struct played_item large = {
        .revision = 4, .more = true, .events = "a@5 b@5", .value_bytes = 6000};
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_with(play, options, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 4, "");
    send_fragment(play, A, asked.id, 4, "0@5");
    send_item(play, A, asked.id, false, large);
    expect(&heard, "<4>[0@5|4+][a@5 b@5|4+]");
    send_fragment(play, A, asked.id, 4, "c@5");
    expect(&heard, "[c@5|4+]");
    lose(play, A, "reset");
    asked = take_again(play, B);
    assert_int_equal(asked.start, 5);
    send_events(play, B, asked.id, 4, "");
    send_fragment(play, B, asked.id, 4, "0@5 a@5 b@5");
    expect(&heard, "");
    send_fragment(play, B, asked.id, 4, "c@5 d@5");
    expect(&heard, "[d@5|4+]");
    lose(play, B, "reset");
    asked = take_again(play, A);
    send_events(play, A, asked.id, 4, "");
    send_events(play, A, asked.id, 6, "0@5 a@5 b@5 c@5 d@5 e@5 a@6");
    expect(&heard, "[e@5 a@6|6]");
    /* The next one is held again. */
    send_fragment(play, A, asked.id, 6, "a@7");
    expect(&heard, "");
    send_events(play, A, asked.id, 7, "b@7");
    expect(&heard, "[a@7|6+][b@7|7]");
    unfollow(&heard);
    play_close(play);
}

static void test_large_revision_that_ends_with_the_cut(void **state)
{
    struct kv_watch_options options = {.start_revision = 5, .queue_bytes = 100};
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_with(play, options, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 4, "");
    send_fragment(play, A, asked.id, 4, "a@5 b@5");
    expect(&heard, "<4>[a@5 b@5|4+]");
    lose(play, A, "reset");
    asked = take_again(play, B);
    send_events(play, B, asked.id, 4, "");
    send_events(play, B, asked.id, 5, "a@5 b@5");
    /* The program learns that this was all. */
    expect(&heard, "[|5]");
    unfollow(&heard);
    play_close(play);
}

/* What would be a loss or a duplicate ends the watch loudly. */
static void test_broken_streams(void **state)
{
    static const struct {
        struct played_item first;
        struct played_item second;
    } cases[] = {
        {{.revision = 5}, {.revision = 6}},                                   /* begins too late */
        {{.revision = 3}, {.revision = 6}},                                   /* and too early */
        {{.revision = 4}, {.revision = 4, .events = "a@4"}},                  /* told before */
        {{.revision = 4}, {.revision = 7, .events = "a@7 b@6"}},              /* out of order */
        {{.revision = 4}, {.revision = 5, .events = "a@6"}},                  /* beyond */
        {{.revision = 6, .events = "a@6"}, {.revision = 6, .events = "b@6"}}, /* after complete */
        {{.revision = 6, .events = "a@6"}, {.revision = 5}},                  /* back */
        {{.revision = 4, .more = true, .events = "a@6"},
         {.revision = 4, .more = true, .events = "a@7"}}, /* two incomplete ones */
        {{.revision = 4, .more = true, .events = "a@6 b@7"}, {.revision = 7}},
        {{.revision = 6, .more = true, .events = "a@6"}, {.revision = 7}}, /* more of a whole one */
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct play *play = play_open("a");
        struct heard heard = {0};
        struct asked asked;

        watch_from(play, 5, &heard);
        accept_at(play, A);
        asked = take_stream(play, A);
        send_item(play, A, asked.id, false, cases[i].first);
        if (!strstr(heard.text, "!")) {
            send_item(play, A, asked.id, false, cases[i].second);
        }
        if (!strstr(heard.text, "!INTERNAL")) {
            fail_msg("case %zu: %s", i, heard.text);
        }
        assert_int_equal(take_stream(play, A).cancels, 1);
        unfollow(&heard);
        play_close(play);
    }
}

/* Fewer events of a revision than were told of it: another cluster, or a node that differs. */
static void test_a_node_that_differs(void **state)
{
    struct kv_watch_options options = {.start_revision = 5, .queue_bytes = 100};
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_with(play, options, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 4, "");
    send_fragment(play, A, asked.id, 4, "a@5 b@5");
    lose(play, A, "reset");
    asked = take_again(play, B);
    send_events(play, B, asked.id, 4, "");
    send_events(play, B, asked.id, 6, "a@5 a@6");
    expect(&heard, "<4>[a@5 b@5|4+]!INTERNAL");
    unfollow(&heard);
    play_close(play);
}

static void test_ends(void **state)
{
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_from(play, 5, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    end_stream(play, A, asked.id, KV__CODE__COMPACTED, 12);
    expect(&heard, "!COMPACTED:12");
    unfollow(&heard);
    /* While it runs, for a reader that is too slow. */
    watch_from(play, 20, &heard);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 19, "");
    end_stream(play, A, asked.id, KV__CODE__COMPACTED, 30);
    expect(&heard, "<19>!COMPACTED:30");
    unfollow(&heard);
    /* Too many is for people to know, unless it is one that was there. */
    watch_from(play, 20, &heard);
    asked = take_stream(play, A);
    end_stream(play, A, asked.id, KV__CODE__BUSY, 0);
    expect(&heard, "!BUSY");
    unfollow(&heard);
    watch_from(play, 20, &heard);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 19, "");
    end_stream(play, A, asked.id, KV__CODE__BUSY, 0);
    asked = take_stream(play, A);
    assert_int_equal(asked.start, 20);
    end_stream(play, A, asked.id, KV__CODE__BUSY, 0);
    assert_int_equal(take_stream(play, A).id, 0);
    pass(play, 1000);
    asked = take_stream(play, A);
    assert_int_equal(asked.start, 20);
    expect(&heard, "<19>");
    unfollow(&heard);
    play_close(play);
}

/* A node that shuts down, that is no member any more, that has no leader: the next one. */
static void test_moves_on(void **state)
{
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    Kv__Goodbye goodbye = KV__GOODBYE__INIT;
    struct asked asked;

    (void)state;
    watch_from(play, 5, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    answer_hint(play, A, asked.id, KV__CODE__NOT_LEADER, "b:4700");
    accept_at(play, B);
    asked = take_stream(play, B);
    assert_int_equal(asked.start, 5);
    send_events(play, B, asked.id, 4, "");
    send_events(play, B, asked.id, 5, "a@5");
    goodbye.code = KV__CODE__SHUTTING_DOWN;
    goodbye.message = (char *)"bye";
    goodbye.leader_address = (char *)"a:4700";
    answer_frame(play, B, KV_FRAME_GOODBYE, &goodbye);
    /* What it still sends is told. */
    send_events(play, B, asked.id, 6, "a@6");
    lose(play, B, "closed");
    pass(play, 50);
    if (play->connect[A]) {
        accept_at(play, A);
    }
    asked = take_stream(play, A);
    assert_int_equal(asked.start, 7);
    send_events(play, A, asked.id, 6, "");
    send_events(play, A, asked.id, 7, "a@7");
    expect(&heard, "<4>[a@5|5][a@6|6][a@7|7]");
    unfollow(&heard);
    play_close(play);
}

/* ---------------------------------------------------------------- silence, time, pace */

static void test_silent_connection(void **state)
{
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;
    uint64_t id;

    (void)state;
    watch_from(play, 5, &heard);
    accept_at(play, A);
    id = take_stream(play, A).id;
    send_events(play, A, id, 4, "");
    /* Long after any deadline of a request, as long as something comes. */
    for (int i = 0; i < 300; i++) {
        pass(play, KV_CLIENT_IDLE_MS - 1);
        send_events(play, A, id, 4, "");
    }
    assert_int_equal(take_stream(play, A).probe, 0);
    /* Or answers, when it is asked. */
    for (int i = 0; i < 300; i++) {
        pass(play, KV_CLIENT_IDLE_MS);
        asked = take_stream(play, A);
        assert_int_not_equal(asked.probe, 0);
        pass(play, KV_CLIENT_PROBE_MS - 1);
        answer(play, A, asked.probe, KV__CODE__OK);
    }
    assert_false(play->connect[B]);
    send_events(play, A, id, 5, "a@5");
    pass(play, KV_CLIENT_IDLE_MS + KV_CLIENT_PROBE_MS - 1);
    assert_false(play->disconnected[A]);
    pass(play, 1);
    assert_true(play->disconnected[A]);
    asked = take_again(play, B);
    assert_int_equal(asked.start, 6);
    send_events(play, B, asked.id, 5, "");
    expect(&heard, "<4>[a@5|5]");
    unfollow(&heard);
    /* Without streams nobody asks. */
    pass(play, 60000);
    assert_int_equal(take_stream(play, B).probe, 0);
    play_close(play);
}

static void test_no_leader_is_told(void **state)
{
    struct kv_watch_options options = {.start_revision = 5, .require_leader_ms = 3000};
    struct play *play = play_open("a");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_with(play, options, &heard);
    refuse(play, A, "refused");
    pass(play, 2900);
    expect(&heard, "");
    pass(play, 200);
    expect(&heard, "?NO_LEADER");
    pass(play, 20000);
    expect(&heard, ""); /* once */
    accept_at(play, A);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 4, "");
    expect(&heard, "<4>");
    end_stream(play, A, asked.id, KV__CODE__NO_LEADER, 0);
    asked = take_stream(play, A);
    assert_int_equal(asked.start, 5);
    pass(play, 2900);
    expect(&heard, "");
    pass(play, 200);
    expect(&heard, "?NO_LEADER");
    send_events(play, A, asked.id, 4, "");
    send_events(play, A, asked.id, 5, "a@5");
    expect(&heard, "[a@5|5]");
    unfollow(&heard);
    play_close(play);
}

static void test_progress_as_wished(void **state)
{
    struct kv_watch_options options = {.start_revision = 5, .progress_ms = 200};
    struct play *play = play_open("a");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_with(play, options, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    assert_int_equal(asked.progress_ms, 200);
    send_events(play, A, asked.id, 4, "");
    pass(play, 200);
    send_events(play, A, asked.id, 8, "");
    expect(&heard, "<4>(8)");
    unfollow(&heard);
    play_close(play);
}

static void test_pause_keeps_the_credit(void **state)
{
    struct played_item large = {.revision = 5, .events = "a@5", .value_bytes = 600 * 1024};
    struct play *play = play_open("a");
    struct heard heard = {0};
    struct asked asked;
    uint64_t id;

    (void)state;
    watch_from(play, 5, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    id = asked.id;
    send_events(play, A, id, 4, "");
    assert_int_equal(take_stream(play, A).credit, 0); /* not worth a frame */
    send_item(play, A, id, false, large);
    assert_in_range(take_stream(play, A).credit, 600 * 1024, 601 * 1024);
    kv_follow_pause(heard.follow, play->now_ns, true);
    large.revision = 6;
    large.events = "a@6";
    send_item(play, A, id, false, large);
    assert_int_equal(take_stream(play, A).credit, 0);
    kv_follow_pause(heard.follow, play->now_ns, false);
    drive(play);
    assert_in_range(take_stream(play, A).credit, 600 * 1024, 601 * 1024);
    expect(&heard, "<4>[a@5|5][a@6|6]");
    /* Also across a reconnect. */
    kv_follow_pause(heard.follow, play->now_ns, true);
    lose(play, A, "reset");
    asked = take_again(play, A);
    assert_int_equal(asked.start, 7);
    send_events(play, A, asked.id, 6, "");
    large.revision = 7;
    large.events = "a@7";
    send_item(play, A, asked.id, false, large);
    assert_int_equal(take_stream(play, A).credit, 0);
    unfollow(&heard);
    play_close(play);
}

static void test_close_from_its_callback(void **state)
{
    struct play *play = play_open("a");
    struct heard heard = {.close_inside = true};
    struct asked asked;

    (void)state;
    watch_from(play, 5, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 4, "");
    send_fragment(play, A, asked.id, 4, "a@5");
    send_events(play, A, asked.id, 6, "b@5 c@6");
    expect(&heard, "<4>[a@5|4+]");
    assert_null(heard.follow);
    assert_int_equal(take_stream(play, A).cancels, 1);
    play_close(play);
}

/* An impatient client hears that nobody is there; a watch that ran is patient. */
static void test_impatient(void **state)
{
    struct play *play = play_open_with(
        (struct kv_client_options){.endpoints = "a", .impatient = true, .no_session = true});
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    watch_from(play, 5, &heard);
    refuse(play, A, "refused");
    expect(&heard, "!CLOSED");
    unfollow(&heard);
    pass(play, 100);
    watch_from(play, 5, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    send_events(play, A, asked.id, 4, "");
    lose(play, A, "reset");
    for (int i = 0; i < 20; i++) {
        for (int k = 0; k < TRIES && !play->connect[A]; k++) {
            pass(play, TRY_MS);
        }
        refuse(play, A, "refused");
    }
    asked = take_again(play, A);
    assert_int_equal(asked.start, 5);
    expect(&heard, "<4>");
    unfollow(&heard);
    play_close(play);
}

static void test_client_closes(void **state)
{
    struct play *play = play_open("a");
    struct heard heard = {.close_inside = true};

    (void)state;
    watch_from(play, 5, &heard);
    accept_at(play, A);
    kv_session_close(play->session);
    expect(&heard, "!CLOSED");
    assert_int_equal(
        kv_session_open(&(struct kv_client_options){.endpoints = "a"}, 1, &play->session, NULL), 0);
    assert_null(heard.follow);
    play_close(play);
}

static void test_wrong_options(void **state)
{
    static const struct kv_watch_options watches[] = {
        {.range = {.kind = KV_RANGE_BETWEEN}},
        {.range = {.kind = KV_RANGE_ALL}, .start_revision = -1},
        {.range = {.kind = KV_RANGE_ALL}, .kinds = 8},
        {.range = {.kind = KV_RANGE_ALL}, .types = 1},
        {.range = {.kind = KV_RANGE_ALL}, .types = 256},
        {.range = {.kind = KV_RANGE_ALL}, .progress_ms = 99},
        {.range = {.kind = KV_RANGE_ALL}, .require_leader_ms = 99},
        {.range = {.kind = KV_RANGE_ALL}, .queue_bytes = KV_CLIENT_QUEUE_BYTES_MAX + 1},
    };
    static const struct kv_subscribe_options subscriptions[] = {
        {.topic = {NULL, 0}},
        {.topic = {"t", KV_KEY_BYTES_MAX + 1}},
        {.topic = {"t", 1}, .start_revision = 4, .last = 2},
        {.topic = {"t", 1}, .progress_ms = 1},
    };
    struct play *play = play_open("a");
    struct heard heard = {0};
    struct kv_follow_fns fns = heard_fns(&heard);
    struct kv_error error = {0};

    (void)state;
    for (size_t i = 0; i < sizeof watches / sizeof watches[0]; i++) {
        assert_int_equal(
            kv_follow_open(
                play->session, play->now_ns, &watches[i], NULL, &fns, &heard.follow, &error),
            KV_INVALID);
        assert_int_not_equal(error.message[0], '\0');
    }
    for (size_t i = 0; i < sizeof subscriptions / sizeof subscriptions[0]; i++) {
        assert_int_equal(
            kv_follow_open(
                play->session, play->now_ns, NULL, &subscriptions[i], &fns, &heard.follow, &error),
            KV_INVALID);
    }
    assert_null(heard.follow);
    play_close(play);
}

/* ---------------------------------------------------------------- topics */

static void test_messages_and_gap(void **state)
{
    struct play *play = play_open("a,b");
    struct heard heard = {0};
    struct asked asked;

    (void)state;
    subscribe_with(play, (struct kv_subscribe_options){.last = 2}, &heard);
    accept_at(play, A);
    asked = take_stream(play, A);
    assert_int_equal(asked.last, 2);
    assert_int_equal(asked.start, 0);
    lose(play, A, "reset");
    asked = take_again(play, B);
    assert_int_equal(asked.last, 2);
    send_item(play, B, asked.id, true, (struct played_item){.revision = 6});
    send_item(
        play, B, asked.id, true, (struct played_item){.revision = 9, .events = "t1@7 t2@9 t1@9"});
    expect(&heard, "<6>[t1@7 t2@9 t1@9|9]");
    lose(play, B, "reset");
    asked = take_again(play, A);
    assert_int_equal(asked.last, 0);
    assert_int_equal(asked.start, 10);
    send_item(play, A, asked.id, true, (struct played_item){.revision = 9});
    send_item(play,
              A,
              asked.id,
              true,
              (struct played_item){.revision = 15, .gap_from = 10, .gap_to = 12, .events = "t@15"});
    send_item(play,
              A,
              asked.id,
              true,
              (struct played_item){.revision = 20, .gap_from = 16, .gap_to = 20});
    send_item(play, A, asked.id, true, (struct played_item){.revision = 21, .events = "t@21"});
    expect(&heard, "[gap 10-12 t@15|15][gap 16-20|20][t@21|21]");
    unfollow(&heard);
    play_close(play);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_events_in_order),
        cmocka_unit_test(test_resumes_behind_what_was_told),
        cmocka_unit_test(test_now_stays_now_until_it_is_known),
        cmocka_unit_test(test_half_a_revision_is_not_told),
        cmocka_unit_test(test_rest_of_a_large_revision),
        cmocka_unit_test(test_large_revision_that_ends_with_the_cut),
        cmocka_unit_test(test_broken_streams),
        cmocka_unit_test(test_a_node_that_differs),
        cmocka_unit_test(test_ends),
        cmocka_unit_test(test_moves_on),
        cmocka_unit_test(test_silent_connection),
        cmocka_unit_test(test_no_leader_is_told),
        cmocka_unit_test(test_progress_as_wished),
        cmocka_unit_test(test_pause_keeps_the_credit),
        cmocka_unit_test(test_close_from_its_callback),
        cmocka_unit_test(test_impatient),
        cmocka_unit_test(test_client_closes),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_messages_and_gap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
