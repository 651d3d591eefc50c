/* Items of a snapshot that lie, one by one: each is refused, and the message says what it is.
 * Random damage is machine_snapshot_damage_test's matter. */
#include "server/machine/snapshot.h"

#include "server/machine/record.h"
#include "server/machine/snapshot_format.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { LARGE = 150, ID_BYTES = 8 };

static struct machine_rig rig;
static struct kv_arena arena;
static struct kv_buf snapshot;

static void expect(Kv__Request *request)
{
    machine_rig_expect(&rig, request, KV__CODE__OK);
}

/* A session with a pop that waits. */
static void add_waiter(void)
{
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__ListPop pop = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    open.ttl_ms = 60000;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    reply = machine_rig_write(&rig, &request);
    stamp.session_id = reply->session_open->session_id;
    stamp.sequence = 1;
    kv__reply__free_unpacked(reply, NULL);
    pop.key = machine_rig_bytes("queue");
    pop.block_ms = 50000;
    request.session = &stamp;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &pop;
    assert_int_equal(
        kv_machine_begin(rig.machine, ++rig.log_index, KV_MACHINE_VERSION, rig.cluster_time_ms), 0);
    assert_false(kv_machine_execute(rig.machine, &request, NULL, NULL));
    kv_machine_end(rig.machine);
}

static int set_up(void **state)
{
    struct kv_machine_view *view;

    (void)state;
    machine_rig_open(&rig, 1);
    kv_arena_init(&arena, KV_MIB);
    expect(call_put_ttl(&arena, "a-ttl", "v", 100000));
    expect(call_set_add(&arena, "set", 0, LARGE));
    expect(call_set_add(&arena, "set2", 0, LARGE));
    expect(call_zset_add(&arena, "zset", 0, LARGE));
    expect(call_compact(&arena, kv_machine_revision(rig.machine)));
    add_waiter();
    kv_buf_init(&snapshot, KV_MIB);
    assert_int_equal(kv_machine_view_open(rig.machine, &view), 0);
    assert_int_equal(kv_machine_view_read(view, &snapshot, KV_MIB / 2), 0);
    kv_machine_view_close(rig.machine, view);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kv_buf_deinit(&snapshot);
    kv_arena_deinit(&arena);
    machine_rig_close(&rig);
    return 0;
}

static size_t size_at(size_t at)
{
    return KV_ITEM_HEAD_BYTES + kv_get_u32(snapshot.data + at + 4);
}

/* Where the n-th item of the kind begins. */
static size_t find(enum kv_item_kind kind, unsigned n)
{
    for (size_t at = 0; at < snapshot.size; at += size_at(at)) {
        if (snapshot.data[at] == kind && n-- == 0) {
            return at;
        }
    }
    fail_msg("there is no such item of kind %d", kind);
    return 0;
}

/* The body of the item at `at` is made larger or smaller at its end. */
static void resize(size_t at, long more)
{
    const size_t end = at + size_at(at);
    const size_t behind = snapshot.size - end;

    assert_non_null(kv_buf_reserve(&snapshot, 64));
    memmove(snapshot.data + end + more, snapshot.data + end, behind);
    snapshot.size += (size_t)more;
    kv_put_u32(snapshot.data + at + 4, (uint32_t)(size_at(at) - KV_ITEM_HEAD_BYTES + (size_t)more));
}

static int load(struct kv_machine **ret_machine, struct kv_error *ret_error)
{
    struct kv_machine_loader *loader;
    int status;

    assert_int_equal(kv_machine_loader_open(&loader), 0);
    status = kv_machine_loader_feed(loader, kv_slice_of(snapshot.data, snapshot.size), ret_error);
    if (status == 0) {
        status = kv_machine_loader_finish(loader, ret_machine, ret_error);
    }
    kv_machine_loader_close(loader);
    return status;
}

static void expect_corrupt(const char *words)
{
    struct kv_machine *loaded;
    struct kv_error error;

    assert_int_equal(load(&loaded, &error), KV_CORRUPT);
    if (!strstr(error.message, words)) {
        fail_msg("\"%s\" does not say \"%s\"", error.message, words);
    }
}

/* Negative control. */
static void the_truth_is_loaded(void **state)
{
    struct kv_machine *loaded;
    struct kv_error error;

    (void)state;
    assert_int_equal(load(&loaded, &error), 0);
    assert_int_equal(kv_machine_state_hash(loaded), kv_machine_state_hash(rig.machine));
    kv_machine_close(loaded);
}

static void a_session_has_its_numbers(void **state)
{
    (void)state;
    resize(find(KV_ITEM_SESSION, 0), -1);
    expect_corrupt("a session of 39 bytes");
}

static void a_waiter_has_its_numbers(void **state)
{
    (void)state;
    resize(find(KV_ITEM_WAITER, 0), -(long)strlen("queue"));
    expect_corrupt("a waiter of 48 bytes");
}

static void a_waiter_is_under_no_key(void **state)
{
    (void)state;
    kv_put_u16(snapshot.data + find(KV_ITEM_WAITER, 0) + 2, 1);
    expect_corrupt("a waiter with a key");
}

static void a_waiter_belongs_to_a_session(void **state)
{
    (void)state;
    snapshot.data[find(KV_ITEM_WAITER, 0) + KV_ITEM_HEAD_BYTES + 8] ^= 2;
    expect_corrupt("of session 3");
}

static void waiters_are_as_many_as_was_said(void **state)
{
    (void)state;
    snapshot.data[find(KV_ITEM_WAITERS, 0) + KV_ITEM_HEAD_BYTES + 8] = 2;
    expect_corrupt("it says that 2 pops wait, it has 1");
}

/* A score of another size, and one that is no number. */
static void a_score_is_a_number(void **state)
{
    const size_t at = find(KV_ITEM_ELEMENT, 2 * LARGE);

    (void)state;
    memset(snapshot.data + at + size_at(at) - 8, 0xff, 8);
    expect_corrupt("an element is damaged");
    resize(at, -1);
    expect_corrupt("an element is damaged");
}

static void a_collection_is_of_one_key(void **state)
{
    const size_t first = find(KV_ITEM_BASE, 1), second = find(KV_ITEM_BASE, 2);

    (void)state;
    memcpy(snapshot.data + second + size_at(second) - KV_LARGE_BYTES,
           snapshot.data + first + size_at(first) - KV_LARGE_BYTES,
           ID_BYTES);
    expect_corrupt("two keys have one collection");
}

static void times_are_behind_nothing(void **state)
{
    const size_t at = find(KV_ITEM_BASE, 0);

    (void)state;
    memset(snapshot.data + at + size_at(at) - 9, 0, 8);
    expect_corrupt("a life is damaged");
    snapshot.data[at + size_at(at) - 1] = KV_ITEM_LIFE_EXPIRY | KV_ITEM_LIFE_LEASE;
    expect_corrupt("a life is cut off, or none");
}

static void only_records_live(void **state)
{
    const size_t at = find(KV_ITEM_SESSION, 0);

    (void)state;
    resize(at, 9);
    snapshot.data[at + 1] = KV_ITEM_HAS_LIFE;
    kv_put_u64(snapshot.data + at + size_at(at) - 9, 5000);
    snapshot.data[at + size_at(at) - 1] = KV_ITEM_LIFE_EXPIRY;
    expect_corrupt("a life is damaged");
}

int main(void)
{
#define LIES_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        LIES_TEST(the_truth_is_loaded),
        LIES_TEST(a_session_has_its_numbers),
        LIES_TEST(a_waiter_has_its_numbers),
        LIES_TEST(a_waiter_is_under_no_key),
        LIES_TEST(a_waiter_belongs_to_a_session),
        LIES_TEST(waiters_are_as_many_as_was_said),
        LIES_TEST(a_score_is_a_number),
        LIES_TEST(a_collection_is_of_one_key),
        LIES_TEST(times_are_behind_nothing),
        LIES_TEST(only_records_live),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
