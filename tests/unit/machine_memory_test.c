/* Snapshots when memory is short: the view and the loader say so, leave nothing behind, and what
 * was begun can go on. The linker wraps the three functions for this test. */
#include "server/machine/snapshot.h"

#include "server/machine/machine_internal.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);

/* How many calls from now on the one is that fails; 0: none. */
static unsigned malloc_fails, calloc_fails, realloc_fails;

static bool fails(unsigned *countdown)
{
    return *countdown > 0 && --*countdown == 0;
}

void *__wrap_malloc(size_t size)
{
    return fails(&malloc_fails) ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails(&calloc_fails) ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails(&realloc_fails) ? NULL : __real_realloc(memory, size);
}

enum { COLLECTIONS = 70, ELEMENTS = 150 };

static struct machine_rig rig;
static struct kv_buf golden;

static void read_all(struct kv_buf *ret_bytes)
{
    struct kv_machine_view *view;

    kv_buf_init(ret_bytes, 4 * KV_MIB);
    assert_int_equal(kv_machine_view_open(rig.machine, &view), 0);
    assert_int_equal(kv_machine_view_read(view, ret_bytes, 3 * KV_MIB), 0);
    kv_machine_view_close(rig.machine, view);
}

/* A session with a pop that waits. */
static void add_waiter(void)
{
    Kv__SessionOpen open = KV__SESSION_OPEN__INIT;
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;
    Kv__ListPop pop = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    open.ttl_ms = 60000;
    request.command_case = KV__REQUEST__COMMAND_SESSION_OPEN;
    request.session_open = &open;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    stamp.session_id = stamp.sequence = 1;
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

/* Large collections, more than a first table holds; marks, a session, a waiter, a lease. */
static int set_up(void **state)
{
    struct kv_arena arena;

    (void)state;
    machine_rig_open(&rig, 1);
    rig.checks = false;
    kv_arena_init(&arena, 8 * KV_MIB);
    for (unsigned i = 0; i < COLLECTIONS; i++) {
        char key[16];

        snprintf(key, sizeof key, "set-%02u", i);
        machine_rig_expect(&rig, call_set_add(&arena, key, 0, ELEMENTS), KV__CODE__OK);
    }
    machine_rig_expect(&rig, call_compact(&arena, kv_machine_revision(rig.machine)), KV__CODE__OK);
    machine_rig_expect(&rig, call_put(&arena, "key", "value"), KV__CODE__OK);
    machine_rig_expect(&rig, call_lease_grant(&arena, 1, 60000), KV__CODE__OK);
    add_waiter();
    kv_arena_deinit(&arena);
    read_all(&golden);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    malloc_fails = calloc_fails = realloc_fails = 0;
    kv_buf_deinit(&golden);
    machine_rig_close(&rig);
    return 0;
}

/* With the n-th of its allocations failing, until there are no more. Returns how many failed. */
static unsigned open_views(unsigned *countdown)
{
    struct kv_machine_view *view = NULL;

    for (unsigned n = 1;; n++) {
        int status;

        *countdown = n;
        status = kv_machine_view_open(rig.machine, &view);
        if (status == 0) {
            *countdown = 0;
            kv_machine_view_close(rig.machine, view);
            return n - 1;
        }
        assert_int_equal(status, KV_NO_MEMORY);
        assert_null(rig.machine->tree.pins);
    }
}

static void a_view_is_opened_or_not(void **state)
{
    struct kv_buf bytes;

    (void)state;
    /* The view, its marks; copies of sessions, waiters and leases. */
    assert_int_equal(open_views(&malloc_fails), 2);
    assert_int_equal(open_views(&realloc_fails), 3);
    read_all(&bytes);
    assert_int_equal(bytes.size, golden.size);
    assert_memory_equal(bytes.data, golden.data, golden.size);
    kv_buf_deinit(&bytes);
}

static void a_view_is_read_on(void **state)
{
    struct kv_machine_view *view;
    struct kv_buf bytes;
    unsigned failed = 0;
    int status = 1;

    (void)state;
    kv_buf_init(&bytes, 4 * KV_MIB);
    assert_int_equal(kv_machine_view_open(rig.machine, &view), 0);
    while (status != 0) {
        realloc_fails = 1;
        status = kv_machine_view_read(view, &bytes, bytes.size + 1);
        if (status == KV_NO_MEMORY) {
            assert_int_equal(realloc_fails, 0);
            failed++;
            status = kv_machine_view_read(view, &bytes, bytes.size + 1);
        }
        assert_true(status >= 0);
    }
    realloc_fails = 0;
    kv_machine_view_close(rig.machine, view);
    /* Twice for the numbers of collections alone. */
    assert_in_range(failed, 3, 100);
    assert_int_equal(bytes.size, golden.size);
    assert_memory_equal(bytes.data, golden.data, golden.size);
    kv_buf_deinit(&bytes);
}

static void a_loader_is_opened_or_not(void **state)
{
    struct kv_machine_loader *loader = NULL;

    (void)state;
    for (unsigned n = 1; n <= 2; n++) {
        calloc_fails = n;
        assert_int_equal(kv_machine_loader_open(&loader), KV_NO_MEMORY);
    }
    assert_int_equal(kv_machine_loader_open(&loader), 0);
    kv_machine_loader_close(loader);
}

/* Loads with the n-th realloc failing; the status. */
static int load(unsigned n, struct kv_error *ret_error)
{
    struct kv_machine_loader *loader;
    struct kv_machine *machine = NULL;
    int status;

    assert_int_equal(kv_machine_loader_open(&loader), 0);
    realloc_fails = n;
    status = kv_machine_loader_feed(loader, kv_slice_of(golden.data, golden.size), ret_error);
    realloc_fails = 0;
    if (status == 0) {
        status = kv_machine_loader_finish(loader, &machine, ret_error);
    }
    kv_machine_loader_close(loader);
    kv_machine_close(machine);
    return status;
}

static void what_is_loaded_is_whole_or_not_there(void **state)
{
    struct kv_error error;

    (void)state;
    assert_int_equal(load(1, &error), KV_NO_MEMORY);
    assert_non_null(strstr(error.message, "no memory for 1 marks"));
    for (unsigned n = 2; n <= 3; n++) {
        assert_int_equal(load(n, &error), KV_NO_MEMORY);
        assert_non_null(strstr(error.message, "no memory for sums"));
    }
    assert_int_equal(load(4, &error), 0);
}

int main(void)
{
#define MEMORY_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        MEMORY_TEST(a_view_is_opened_or_not),
        MEMORY_TEST(a_view_is_read_on),
        MEMORY_TEST(a_loader_is_opened_or_not),
        MEMORY_TEST(what_is_loaded_is_whole_or_not_there),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
