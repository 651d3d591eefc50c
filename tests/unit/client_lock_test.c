/* Entries of locks, and bounded waiting. */
#include "client/lock.h"
#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <kv/lock.h>

static bool is_entry(const char *key, const char *kinds)
{
    return kv_entry_is(kv_bytes_str(key), strlen("n/"), kinds);
}

static void test_entries(void **state)
{
    (void)state;
    assert_true(is_entry("n/x-0123456789abcdef", "xr"));
    assert_true(is_entry("n/r-0000000000000001", "xr"));
    assert_false(is_entry("n/s-0000000000000001", "xr"));
    /* What else may be under the name. */
    assert_false(is_entry("n/x-0123456789abcde", "x"));
    assert_false(is_entry("n/x-0123456789abcdef0", "x"));
    assert_false(is_entry("n/x-0123456789ABCDEF", "x"));
    assert_false(is_entry("n/x_0123456789abcdef", "x"));
    assert_false(is_entry("n/go", "b"));
    assert_false(is_entry("n/", "b"));
    assert_false(is_entry("n/m/x-0123456789abcdef", "x"));
    /* A zero byte is no kind and no digit. */
    assert_false(kv_entry_is(kv_bytes_of("n/\0-0123456789abcdef", 20), 2, "x"));
    assert_false(kv_entry_is(kv_bytes_of("n/x-\0"
                                         "123456789abcdef",
                                         20),
                             2,
                             "x"));
}

static void test_names(void **state)
{
    static char name[KV_LOCK_NAME_BYTES_MAX + 1];
    struct kv_error error;

    (void)state;
    memset(name, 'n', sizeof name);
    assert_int_equal(kv_entry_check_name(kv_bytes_of(name, sizeof name - 1), "lock", &error), 0);
    assert_int_equal(kv_entry_check_name(kv_bytes_of(name, sizeof name), "lock", &error),
                     KV_INVALID);
    assert_non_null(strstr(error.message, "lock"));
    assert_int_equal(kv_entry_check_name(kv_bytes_of(name, 0), "lock", &error), KV_INVALID);
    /* A name of the greatest size has a key of the greatest size. */
    assert_int_equal(KV_LOCK_NAME_BYTES_MAX + KV_ENTRY_BYTES, 4096);
}

static bool stop(void *arg)
{
    return *(bool *)arg;
}

static void test_waits(void **state)
{
    struct kv_error error;
    bool stopped = false;
    struct kv_wait wait = kv_wait_begin(0, stop, &stopped);

    (void)state;
    assert_int_equal(kv_wait_check(&wait, &error), 0);
    assert_int_equal(kv_wait_slice_ms(&wait), KV_WAIT_LOOK_MS);
    stopped = true;
    assert_int_equal(kv_wait_check(&wait, &error), KV_CLOSED);
    assert_true(kv_wait_call(&wait).stop == stop && kv_wait_call(&wait).stop_arg == &stopped);
    assert_int_equal(kv_wait_call(&wait).deadline_ms, KV_DEADLINE_DEFAULT_MS);
    wait = kv_wait_begin(1000, NULL, NULL);
    assert_in_range(kv_wait_call(&wait).deadline_ms, 1, 1000);
    /* A year, and what no clock holds. */
    for (uint64_t ms = 365ULL * 24 * 3600 * 1000; ms < UINT64_MAX / 2; ms *= 1000) {
        wait = kv_wait_begin(ms, NULL, NULL);
        assert_int_equal(kv_wait_check(&wait, &error), 0);
        assert_int_equal(kv_wait_slice_ms(&wait), KV_WAIT_LOOK_MS);
    }
    /* Its time is over. */
    wait.until_ns = 1;
    assert_int_equal(kv_wait_check(&wait, &error), KV_DEADLINE);
    assert_int_equal(kv_wait_slice_ms(&wait), 0);
}

static void test_how_a_wait_ends(void **state)
{
    bool stopped = false;
    struct kv_wait wait = kv_wait_begin(0, stop, &stopped);
    struct kv_error error;

    (void)state;
    /* Neither stopped nor over: what the call said. */
    kv_error_set(&error, KV_OUTCOME_UNKNOWN, "unknown");
    assert_int_equal(kv_wait_outcome(&wait, KV_OUTCOME_UNKNOWN, &error), KV_OUTCOME_UNKNOWN);
    assert_string_equal(error.message, "unknown");
    stopped = true;
    assert_int_equal(kv_wait_outcome(&wait, KV_OUTCOME_UNKNOWN, &error), KV_CLOSED);
    assert_int_equal(error.status, KV_CLOSED);
    assert_string_equal(error.message, "stopped while it waited: unknown");
    assert_int_equal(kv_wait_outcome(&wait, KV_CLOSED, &error), KV_CLOSED);
    assert_string_equal(error.message, "stopped while it waited: unknown");
    assert_int_equal(kv_wait_outcome(&wait, KV_DEADLINE, NULL), KV_CLOSED);
    /* What no time changes. */
    assert_int_equal(kv_wait_outcome(&wait, KV_CONDITION_FAILED, &error), KV_CONDITION_FAILED);
    wait = (struct kv_wait){.until_ns = 1};
    kv_error_set(&error, KV_CLOSED, "no endpoint");
    assert_int_equal(kv_wait_outcome(&wait, KV_CLOSED, &error), KV_DEADLINE);
    assert_string_equal(error.message, "it was not its turn in time: no endpoint");
}

static void test_what_passes(void **state)
{
    (void)state;
    assert_true(kv_wait_is_passing(KV_NO_LEADER));
    assert_true(kv_wait_is_passing(KV_DEADLINE));
    assert_true(kv_wait_is_passing(KV_OUTCOME_UNKNOWN));
    assert_true(kv_wait_is_passing(KV_COMPACTED));
    assert_false(kv_wait_is_passing(KV_CLOSED));
    assert_false(kv_wait_is_passing(KV_INVALID));
    assert_false(kv_wait_is_passing(KV_WRONG_TYPE));
    assert_false(kv_wait_is_passing(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_entries),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_waits),
        cmocka_unit_test(test_how_a_wait_ends),
        cmocka_unit_test(test_what_passes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
