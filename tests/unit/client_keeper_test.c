/* Leases that are kept alive, against servers played by the test. Time is the test's. */
#include "tests/support/client_play.h"

#include "client/keeper.h"

enum { TTL_MS = 9000, MARGIN_MS = 2000, CERTAIN_MS = TTL_MS - MARGIN_MS, LEASES = 5 };

/* What the program hears: h(eld), d(oubt), l(ost). */
struct holder {
    struct kv_kept *kept;
    char text[64];
    bool close_inside;
};

static void on_state(void *arg, enum kv_lease_state state, const struct kv_error *why)
{
    struct holder *holder = arg;
    size_t used = strlen(holder->text);

    snprintf(holder->text + used, sizeof holder->text - used, "%c", "hdl"[state]);
    assert_true((why->status == 0) == (state == KV_LEASE_HELD));
    if (holder->close_inside) {
        kv_kept_close(holder->kept);
        holder->kept = NULL;
    }
}

static void expect(struct holder *holder, const char *text)
{
    assert_string_equal(holder->text, text);
    holder->text[0] = '\0';
}

static void keep(struct play *play, int64_t lease_id, struct holder *holder)
{
    const struct kv_kept_options options = {
        .lease_id = lease_id,
        .ttl_ms = TTL_MS,
        .margin_ms = MARGIN_MS,
        .granted_ns = play->now_ns,
        .fn = on_state,
        .arg = holder,
    };

    assert_int_equal(kv_kept_open(play->session, play->now_ns, &options, &holder->kept, NULL), 0);
    drive(play);
}

static enum kv_lease_state state_of(const struct play *play, const struct holder *holder)
{
    return kv_kept_state(holder->kept, play->now_ns);
}

/* ---------------------------------------------------------------- the server's side */

struct renewal {
    uint64_t id; /* 0: none was sent */
    unsigned deadline_ms;
    size_t n;
    int64_t leases[LEASES];
};

static struct renewal take_renewal(struct play *play, unsigned endpoint)
{
    struct renewal renewal = {0};
    struct kv_buf body;
    uint8_t kind;

    kv_buf_init(&body, KV_REQUEST_BYTES_MAX);
    while (renewal.id == 0 && (kind = take_frame(play, endpoint, &body)) != 0) {
        Kv__Request *request;

        if (kind == KV_FRAME_CANCEL) {
            continue;
        }
        request = kv__request__unpack(NULL, body.size, body.data);
        assert_non_null(request);
        assert_int_equal(request->command_case, KV__REQUEST__COMMAND_LEASE_KEEP_ALIVE);
        renewal.id = request->id;
        renewal.deadline_ms = request->deadline_ms;
        renewal.n = request->lease_keep_alive->n_lease_ids;
        assert_in_range(renewal.n, 1, LEASES);
        for (size_t i = 0; i < renewal.n; i++) {
            renewal.leases[i] = request->lease_keep_alive->lease_ids[i];
        }
        kv__request__free_unpacked(request, NULL);
    }
    kv_buf_deinit(&body);
    return renewal;
}

/* All live but `ended`. */
static void
acknowledge(struct play *play, unsigned endpoint, const struct renewal *renewal, int64_t ended)
{
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__LeaseKeepAliveResult result = KV__LEASE_KEEP_ALIVE_RESULT__INIT;
    Kv__LeaseResult leases[LEASES];
    Kv__LeaseResult *list[LEASES];

    for (size_t i = 0; i < renewal->n; i++) {
        kv__lease_result__init(&leases[i]);
        leases[i].lease_id = renewal->leases[i];
        leases[i].ttl_ms = renewal->leases[i] == ended ? 0 : TTL_MS;
        list[i] = &leases[i];
    }
    result.n_leases = renewal->n;
    result.leases = list;
    reply.id = renewal->id;
    reply.result_case = KV__REPLY__RESULT_LEASE_KEEP_ALIVE;
    reply.lease_keep_alive = &result;
    answer_frame(play, endpoint, KV_FRAME_REPLY, &reply);
}

/* Connected, with nothing under way. */
static struct play *open_connected(void)
{
    struct play *play = play_open("a");
    struct end end = {0};

    get(play, &end);
    accept_at(play, A);
    answer(play, A, take_get(play, A), KV__CODE__OK);
    return play;
}

/* ---------------------------------------------------------------- tests */

static void test_renewed_at_a_third(void **state)
{
    struct play *play = open_connected();
    struct holder holder = {0};
    struct renewal renewal;

    (void)state;
    keep(play, 7, &holder);
    for (int i = 0; i < 50; i++) {
        unsigned ms = 0;

        do {
            pass(play, 10);
            ms += 10;
            renewal = take_renewal(play, A);
        } while (renewal.id == 0);
        assert_in_range(ms, 2690, 3000);
        assert_int_equal(renewal.n, 1);
        assert_int_equal(renewal.leases[0], 7);
        acknowledge(play, A, &renewal, 0);
        assert_int_equal(state_of(play, &holder), KV_LEASE_HELD);
    }
    expect(&holder, "");
    kv_kept_close(holder.kept);
    pass(play, 60000);
    assert_int_equal(take_renewal(play, A).id, 0);
    play_close(play);
}

static void test_together(void **state)
{
    struct play *play = open_connected();
    struct holder holders[LEASES] = {{0}};
    struct renewal renewal;

    (void)state;
    for (int i = 0; i < LEASES; i++) {
        keep(play, i + 1, &holders[i]);
        pass(play, 100);
    }
    pass(play, 2500);
    renewal = take_renewal(play, A);
    assert_int_equal(renewal.n, LEASES);
    assert_int_equal(take_renewal(play, A).id, 0);
    acknowledge(play, A, &renewal, 3);
    for (int i = 0; i < LEASES; i++) {
        expect(&holders[i], i + 1 == 3 ? "l" : "");
        assert_int_equal(state_of(play, &holders[i]), i + 1 == 3 ? KV_LEASE_LOST : KV_LEASE_HELD);
    }
    /* The lost one is left alone. */
    pass(play, 3000);
    renewal = take_renewal(play, A);
    assert_int_equal(renewal.n, LEASES - 1);
    for (int i = 0; i < LEASES; i++) {
        kv_kept_close(holders[i].kept);
    }
    acknowledge(play, A, &renewal, 0);
    play_close(play);
}

/* The time runs from when it was granted, or when the renewal was sent, not from the answer. */
static void test_doubt_comes_before_the_end(void **state)
{
    struct play *play = open_connected();
    struct holder holder = {0};
    uint64_t granted_ns = play->now_ns;
    uint64_t sent_ns = 0;
    struct renewal renewal = {0};

    (void)state;
    keep(play, 7, &holder);
    while (renewal.id == 0) {
        pass(play, 10);
        sent_ns = play->now_ns;
        renewal = take_renewal(play, A);
    }
    /* No answer. */
    pass(play, (unsigned)(CERTAIN_MS - (play->now_ns - granted_ns) / MS) - 1);
    assert_int_equal(state_of(play, &holder), KV_LEASE_HELD);
    expect(&holder, "");
    pass(play, 1);
    assert_int_equal(state_of(play, &holder), KV_LEASE_IN_DOUBT);
    expect(&holder, "d");
    /* A late answer: certain again, but only as long as the time from its sending says. */
    renewal = take_renewal(play, A);
    assert_int_not_equal(renewal.id, 0); /* asked again meanwhile */
    acknowledge(play, A, &renewal, 0);
    expect(&holder, "h");
    assert_true(kv_kept_certain_until_ns(holder.kept) > sent_ns + CERTAIN_MS * MS);
    assert_true(kv_kept_certain_until_ns(holder.kept) < play->now_ns + CERTAIN_MS * MS);
    kv_kept_close(holder.kept);
    play_close(play);
}

static void test_answer_after_its_time_is_no_certainty(void **state)
{
    struct play *play = open_connected();
    struct holder holder = {0};
    struct renewal first;
    struct renewal second;

    (void)state;
    keep(play, 7, &holder);
    pass(play, 3000);
    first = take_renewal(play, A);
    assert_int_not_equal(first.id, 0);
    /* The client gave it up after its deadline: its answer does not count. */
    pass(play, 3500);
    second = take_renewal(play, A);
    assert_int_not_equal(second.id, 0);
    acknowledge(play, A, &first, 0);
    pass(play, 600);
    expect(&holder, "d");
    /* It stays in doubt for as long as nobody says more, far beyond its end. */
    pass(play, 120000);
    assert_int_equal(state_of(play, &holder), KV_LEASE_IN_DOUBT);
    expect(&holder, "");
    do {
        first = second;
        second = take_renewal(play, A);
    } while (second.id != 0);
    acknowledge(play, A, &first, 7);
    expect(&holder, "l");
    assert_int_equal(state_of(play, &holder), KV_LEASE_LOST);
    pass(play, 120000);
    expect(&holder, "");
    assert_int_equal(take_renewal(play, A).id, 0);
    kv_kept_close(holder.kept);
    play_close(play);
}

static void test_not_found_is_lost(void **state)
{
    struct play *play = open_connected();
    struct holder holder = {.close_inside = true};
    struct renewal renewal;

    (void)state;
    keep(play, 7, &holder);
    pass(play, 3000);
    renewal = take_renewal(play, A);
    answer(play, A, renewal.id, KV__CODE__NOT_FOUND);
    expect(&holder, "l");
    assert_null(holder.kept);
    play_close(play);
}

/* Lost connections and leaders: the renewal is tried again, elsewhere, in time. */
static void test_elsewhere(void **state)
{
    struct play *play = play_open("a,b");
    struct holder holder = {0};
    struct renewal renewal;

    (void)state;
    keep(play, 7, &holder);
    pass(play, 3000);
    accept_at(play, A);
    renewal = take_renewal(play, A);
    answer_hint(play, A, renewal.id, KV__CODE__NOT_LEADER, "b:4700");
    accept_at(play, B);
    renewal = take_renewal(play, B);
    assert_int_not_equal(renewal.id, 0);
    lose(play, B, "reset");
    pass(play, 100);
    if (play->connect[A]) {
        accept_at(play, A);
    }
    renewal = take_renewal(play, A);
    assert_int_not_equal(renewal.id, 0);
    acknowledge(play, A, &renewal, 0);
    pass(play, 2000);
    expect(&holder, "");
    kv_kept_close(holder.kept);
    play_close(play);
}

/* A ttl so short that the cluster's half second for renewals counts. */
static void test_short_ttl(void **state)
{
    struct play *play = open_connected();
    struct holder holder = {0};
    const struct kv_kept_options options = {
        .lease_id = 7,
        .ttl_ms = 2000,
        .granted_ns = play->now_ns,
        .fn = on_state,
        .arg = &holder,
    };

    (void)state;
    assert_int_equal(kv_kept_open(play->session, play->now_ns, &options, &holder.kept, NULL), 0);
    drive(play);
    for (int i = 0; i < 20; i++) {
        struct renewal renewal = {0};

        while (renewal.id == 0) {
            pass(play, 5);
            renewal = take_renewal(play, A);
        }
        assert_in_range(renewal.deadline_ms, 500, 1000);
        pass(play, KV_CLIENT_RENEWAL_LOG_MS);
        acknowledge(play, A, &renewal, 0);
    }
    expect(&holder, "");
    kv_kept_close(holder.kept);
    play_close(play);
}

/* Granted long ago: nothing is certain until a renewal says so. */
static void test_old_grant(void **state)
{
    struct play *play = open_connected();
    struct holder holder = {0};
    const struct kv_kept_options options = {
        .lease_id = 7,
        .ttl_ms = 500,
        .granted_ns = 1,
        .fn = on_state,
        .arg = &holder,
    };
    struct renewal renewal;

    (void)state;
    assert_int_equal(kv_kept_open(play->session, play->now_ns, &options, &holder.kept, NULL), 0);
    drive(play);
    assert_int_equal(state_of(play, &holder), KV_LEASE_IN_DOUBT);
    pass(play, 1);
    expect(&holder, "d");
    renewal = take_renewal(play, A);
    acknowledge(play, A, &renewal, 0);
    expect(&holder, "h");
    kv_kept_close(holder.kept);
    play_close(play);
}

static void test_wrong_options(void **state)
{
    static const struct kv_kept_options wrong[] = {
        {.lease_id = 0, .ttl_ms = 1000},
        {.lease_id = -1, .ttl_ms = 1000},
        {.lease_id = 1, .ttl_ms = 0},
        {.lease_id = 1, .ttl_ms = UINT64_MAX},
        {.lease_id = 1, .ttl_ms = 1000, .margin_ms = 501},
    };
    struct play *play = play_open("a");
    struct kv_kept *kept = NULL;
    struct kv_error error = {0};

    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(kv_kept_open(play->session, play->now_ns, &wrong[i], &kept, &error),
                         KV_INVALID);
        assert_int_not_equal(error.message[0], '\0');
    }
    assert_null(kept);
    play_close(play);
}

/* The session ends with leases held and a renewal under way. */
static void test_client_closes(void **state)
{
    struct play *play = open_connected();
    struct holder holder = {0};

    (void)state;
    keep(play, 7, &holder);
    pass(play, 3000);
    assert_int_not_equal(take_renewal(play, A).id, 0);
    play_close(play);
    expect(&holder, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_renewed_at_a_third),
        cmocka_unit_test(test_together),
        cmocka_unit_test(test_doubt_comes_before_the_end),
        cmocka_unit_test(test_answer_after_its_time_is_no_certainty),
        cmocka_unit_test(test_not_found_is_lost),
        cmocka_unit_test(test_elsewhere),
        cmocka_unit_test(test_short_ttl),
        cmocka_unit_test(test_old_grant),
        cmocka_unit_test(test_wrong_options),
        cmocka_unit_test(test_client_closes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
