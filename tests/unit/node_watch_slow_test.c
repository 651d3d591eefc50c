/* Watches whose clients are slow, and what compaction takes from them. */
#include "server/machine/machine_internal.h"
#include "server/node/node_internal.h"
#include "tests/support/watch_rig.h"

static void without_credit_it_waits_and_misses_nothing(void **state)
{
    struct cluster *cluster = new_cluster(1, 7);
    struct cluster_request *slow =
        watch(cluster,
              1,
              &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = 2, .credit = 60});
    struct cluster_request *quick = watch_all(cluster, 1, 2);
    int64_t revision = put_many(cluster, 1, 50);
    size_t had;

    (void)state;
    await_told(cluster, quick, revision);
    check_complete(quick, 2, revision, 0);
    had = count_events(slow);
    assert_in_range(had, 1, 5);
    cluster_run_ms(cluster, 2000);
    assert_int_equal(count_events(slow), had);
    for (unsigned i = 0; told(slow) < revision; i++) {
        assert_true(i < 100);
        kv_node_credit(cluster_node(cluster, 1), &slow->op, 70);
        cluster_run_ms(cluster, 1);
    }
    check_complete(slow, 2, revision, 0);
    cancel(cluster, slow);
    cancel(cluster, quick);
    cluster_free(cluster);
}

static void a_full_connection_is_given_nothing(void **state)
{
    struct cluster *cluster = new_cluster(1, 8);
    struct cluster_request *slow = watch_all(cluster, 1, 2);
    struct cluster_request *quick = watch_all(cluster, 1, 2);
    int64_t revision;
    size_t had;

    (void)state;
    revision = put_many(cluster, 1, 5);
    await_told(cluster, slow, revision);
    slow->is_full = true;
    had = slow->n_items;
    revision = put_many(cluster, 1, 50);
    await_told(cluster, quick, revision);
    assert_int_equal(slow->n_items, had);
    cluster_make_room(slow);
    await_told(cluster, slow, revision);
    check_complete(slow, 2, revision, 0);
    check_complete(quick, 2, revision, 0);
    cancel(cluster, slow);
    cancel(cluster, quick);
    cluster_free(cluster);
}

/* Room on one connection is no news to those of the others, however many they are. */
static void room_wakes_those_of_one_connection(void **state)
{
    enum { N = 200 };
    struct cluster *cluster = new_cluster(1, 36);
    const struct kv_op_list *full;
    struct cluster_request *watches[N];
    int64_t revision;

    (void)state;
    for (unsigned i = 0; i < N; i++) {
        watches[i] = watch_all(cluster, 1, 0);
        await_told(cluster, watches[i], 1);
        watches[i]->is_full = true;
    }
    revision = put_many(cluster, 1, 3);
    full = &cluster_node(cluster, 1)->lists[KV_OP_NO_ROOM];
    assert_int_equal(full->count, N);
    /* In whatever order they go: the last that waits, the first, one between, one that ends. */
    for (unsigned i = 0; i < 3; i++) {
        struct cluster_request *one = watches[i == 0 ? N - 1 : i == 1 ? 0 : N / 2];

        cluster_make_room(one);
        assert_int_equal(full->count, N - 1 - i);
        await_told(cluster, one, revision);
    }
    cancel(cluster, watches[7]);
    watches[7] = NULL;
    assert_int_equal(full->count, N - 4);
    for (unsigned i = 0; i < N; i++) {
        if (watches[i]) {
            cluster_make_room(watches[i]);
            await_told(cluster, watches[i], revision);
            check_complete(watches[i], 2, revision, 0);
            cancel(cluster, watches[i]);
        }
    }
    cluster_free(cluster);
}

/* Those at one place share what is read of the past; those at another, in another form, or with
 * less credit, do not. Each of these comes behind one that shares. */
static void they_catch_up_together_each_from_its_place(void **state)
{
    enum { KEYS_ONLY = 1, POOR = 3, LATER = 5, ALL = 7 };
    struct cluster *cluster = new_cluster(1, 8);
    struct cluster_request *watches[ALL];
    int64_t revision = put_many(cluster, 1, 5);

    (void)state;
    for (unsigned i = 0; i < ALL; i++) {
        struct want want = {
            .special = KV__KEY_RANGE__SPECIAL__ALL,
            .from = i == LATER ? 30 : 2,
            .credit = i == POOR ? 1500 : 0,
            .keys_only = i == KEYS_ONLY,
        };

        watches[i] = watch(cluster, 1, &want);
        await_told(cluster, watches[i], i == LATER ? 29 : revision);
        watches[i]->is_full = true;
    }
    revision = put_many(cluster, 1, 700);
    for (unsigned i = 0; i < ALL; i++) {
        assert_true(count_events(watches[i]) <= 5);
        cluster_make_room(watches[i]);
    }
    await_told(cluster, watches[0], revision);
    assert_in_range(count_events(watches[POOR]), 6, 100);
    kv_node_credit(cluster_node(cluster, 1), &watches[POOR]->op, KV_MIB);
    for (unsigned i = 0; i < ALL; i++) {
        await_told(cluster, watches[i], revision);
        check_complete(watches[i], i == LATER ? 30 : 2, revision, 0);
        assert_int_equal(last_item(watches[i])->watch->events[0]->kv->value.len > 0,
                         i != KEYS_ONLY);
    }
    for (unsigned i = 0; i < ALL; i++) {
        cancel(cluster, watches[i]);
    }
    cluster_free(cluster);
}

static void a_compacted_start_is_told_at_once(void **state)
{
    struct cluster *cluster = new_cluster(1, 9);
    int64_t revision = put_many(cluster, 1, 20);
    struct cluster_request *lost, *kept;
    const Kv__StreamItem *end;

    (void)state;
    compact(cluster, 1, revision - 5);
    lost = watch_all(cluster, 1, revision - 5);
    kept = watch_all(cluster, 1, revision - 4);
    end = await_end(cluster, lost);
    assert_int_equal(lost->n_items, 1);
    assert_int_equal(end->code, KV__CODE__COMPACTED);
    assert_int_equal(end->hint->oldest_revision, revision - 5);
    await_told(cluster, kept, revision);
    check_complete(kept, revision - 4, revision, 0);
    cluster_request_free(lost);
    cancel(cluster, kept);
    cluster_free(cluster);
}

static void a_slow_reader_is_told_what_it_lost(void **state)
{
    struct cluster *cluster = new_cluster(1, 10);
    struct cluster_request *slow =
        watch(cluster,
              1,
              &(struct want){.special = KV__KEY_RANGE__SPECIAL__ALL, .from = 2, .credit = 60});
    struct cluster_request *quick = watch_all(cluster, 1, 2);
    int64_t revision = put_many(cluster, 1, 50);
    struct kv_node_status status;

    (void)state;
    await_told(cluster, quick, revision);
    kv_node_status_get(cluster_node(cluster, 1), &status);
    assert_int_equal(status.watches, 2);
    assert_int_equal(status.subscriptions_behind, 1);
    compact(cluster, 1, revision);
    assert_int_equal(await_end(cluster, slow)->code, KV__CODE__COMPACTED);
    assert_int_equal(last_item(slow)->hint->oldest_revision, revision);
    /* Who had all of it goes on. */
    revision = put_many(cluster, 1, 5);
    await_told(cluster, quick, revision);
    check_complete(quick, 2, revision, 0);
    kv_node_status_get(cluster_node(cluster, 1), &status);
    assert_int_equal(status.subscriptions_lost, 1);
    assert_int_equal(status.watches, 1);
    cluster_request_free(slow);
    cancel(cluster, quick);
    cluster_free(cluster);
}

/* What a watch from now was not told the beginning of, it cannot miss. */
static void what_began_nowhere_loses_nothing(void **state)
{
    struct cluster *cluster = new_cluster(1, 12);
    struct cluster_request *slow = watch_all(cluster, 1, 0);
    int64_t first, revision;

    (void)state;
    slow->is_full = true;
    first = put_many(cluster, 1, 20);
    compact(cluster, 1, first);
    cluster_run_ms(cluster, 100);
    assert_false(slow->done);
    assert_int_equal(slow->n_items, 0);
    cluster_make_room(slow);
    await_told(cluster, slow, first);
    revision = put_many(cluster, 1, 5);
    await_told(cluster, slow, revision);
    check_complete(slow, first + 1, revision, 0);
    cancel(cluster, slow);
    cluster_free(cluster);
}

/* The same entry writes, and compacts all that it wrote. */
static void what_is_compacted_at_once_is_told_to_the_live(void **state)
{
    struct cluster *cluster = new_cluster(1, 11);
    struct cluster_request *request = watch_all(cluster, 1, 0);
    struct cluster_request *writes[4];
    Kv__Request message = KV__REQUEST__INIT;
    Kv__Compact body = KV__COMPACT__INIT;

    (void)state;
    await_told(cluster, request, 1);
    for (unsigned i = 0; i < 3; i++) {
        writes[i] = cluster_put(cluster, 1, "k", "v");
    }
    body.revision = 4;
    message.command_case = KV__REQUEST__COMMAND_COMPACT;
    message.compact = &body;
    writes[3] = cluster_submit(cluster, 1, &message);
    for (unsigned i = 0; i < 4; i++) {
        assert_int_equal(cluster_await(cluster, writes[i], 6000), KV__CODE__OK);
        cluster_request_free(writes[i]);
    }
    assert_int_equal(kv_machine_oldest_revision(cluster_node(cluster, 1)->machine), 4);
    await_told(cluster, request, 4);
    check_complete(request, 2, 4, 0);
    cancel(cluster, request);
    cluster_free(cluster);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(without_credit_it_waits_and_misses_nothing),
        cmocka_unit_test(a_full_connection_is_given_nothing),
        cmocka_unit_test(room_wakes_those_of_one_connection),
        cmocka_unit_test(they_catch_up_together_each_from_its_place),
        cmocka_unit_test(a_compacted_start_is_told_at_once),
        cmocka_unit_test(a_slow_reader_is_told_what_it_lost),
        cmocka_unit_test(what_began_nowhere_loses_nothing),
        cmocka_unit_test(what_is_compacted_at_once_is_told_to_the_live),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
