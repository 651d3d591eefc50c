#include "raft/terms.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void terms_are_found_by_index(void **state)
{
    struct kv_terms terms;

    (void)state;
    assert_int_equal(kv_terms_init(&terms, 0, 0), 0);
    assert_int_equal(kv_terms_of(&terms, 1), 0);
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(kv_terms_append(&terms, i, 1 + i / 10), 0);
    }
    for (uint64_t i = 1; i <= 100; i++) {
        assert_int_equal(kv_terms_of(&terms, i), 1 + i / 10);
        assert_int_equal(kv_terms_run_first(&terms, i), i < 10 ? 1 : i / 10 * 10);
    }
    assert_int_equal(kv_terms_of(&terms, 0), 0);
    assert_int_equal(kv_terms_of(&terms, 101), 0);
    kv_terms_deinit(&terms);
}

static void truncation_forgets_the_tail(void **state)
{
    struct kv_terms terms;

    (void)state;
    assert_int_equal(kv_terms_init(&terms, 7, 3), 0);
    assert_int_equal(kv_terms_of(&terms, 7), 3);
    assert_int_equal(kv_terms_of(&terms, 6), 0);
    for (uint64_t i = 8; i <= 20; i++) {
        assert_int_equal(kv_terms_append(&terms, i, i < 15 ? 3 : 4), 0);
    }
    kv_terms_truncate(&terms, 30);
    assert_int_equal(terms.last_index, 20);
    kv_terms_truncate(&terms, 15);
    assert_int_equal(kv_terms_of(&terms, 15), 0);
    assert_int_equal(kv_terms_of(&terms, 14), 3);
    assert_int_equal(kv_terms_append(&terms, 15, 9), 0);
    assert_int_equal(kv_terms_of(&terms, 15), 9);
    kv_terms_truncate(&terms, 8);
    assert_int_equal(kv_terms_of(&terms, 7), 3);
    assert_int_equal(kv_terms_of(&terms, 8), 0);
    kv_terms_deinit(&terms);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(terms_are_found_by_index),
        cmocka_unit_test(truncation_forgets_the_tail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
