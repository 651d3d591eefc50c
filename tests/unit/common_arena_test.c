#include "common/arena.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MAX_BYTES = 100000 };

static struct kv_arena arena;

static int set_up(void **state)
{
    (void)state;
    kv_arena_init(&arena, MAX_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kv_arena_deinit(&arena);
    return 0;
}

static void pieces_are_aligned_and_apart(void **state)
{
    uint8_t *pieces[200];

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        pieces[i] = kv_arena_alloc(&arena, 1 + i);
        assert_non_null(pieces[i]);
        assert_int_equal((uintptr_t)pieces[i] % 16, 0);
        memset(pieces[i], (int)i, 1 + i);
    }
    for (size_t i = 0; i < 200; i++) {
        for (size_t k = 0; k <= i; k++) {
            assert_int_equal(pieces[i][k], i);
        }
    }
}

static void nothing_beyond_the_maximum(void **state)
{
    size_t total = 0;

    (void)state;
    assert_null(kv_arena_alloc(&arena, MAX_BYTES + 1));
    assert_null(kv_arena_alloc(&arena, SIZE_MAX));
    while (kv_arena_alloc(&arena, 1600)) {
        total += 1600;
        assert_true(arena.used_bytes <= MAX_BYTES);
    }
    assert_in_range(total, MAX_BYTES * 3 / 4, MAX_BYTES);
}

static void large_pieces_have_their_own_memory(void **state)
{
    uint8_t *large = kv_arena_alloc(&arena, 50000);
    uint8_t *small = kv_arena_alloc(&arena, 16);

    (void)state;
    assert_non_null(large);
    assert_non_null(small);
    memset(large, 1, 50000);
    memset(small, 2, 16);
    assert_int_equal(large[49999], 1);
}

static void a_reset_gives_all_back_and_keeps_a_chunk(void **state)
{
    void *first = kv_arena_alloc(&arena, 100);
    size_t used = arena.used_bytes;

    (void)state;
    assert_non_null(kv_arena_alloc(&arena, 40000));
    assert_true(arena.used_bytes > used);
    kv_arena_reset(&arena);
    assert_int_equal(arena.used_bytes, used);
    assert_ptr_equal(kv_arena_alloc(&arena, 100), first);
    kv_arena_deinit(&arena);
    kv_arena_reset(&arena);
    assert_int_equal(arena.used_bytes, 0);
    assert_non_null(kv_arena_alloc(&arena, 100));
}

static void copies_are_the_same_bytes(void **state)
{
    char *copy = kv_arena_copy(&arena, "bytes", 6);

    (void)state;
    assert_string_equal(copy, "bytes");
    assert_non_null(kv_arena_copy(&arena, NULL, 0));
    assert_null(kv_arena_copy(&arena, "", MAX_BYTES + 1));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pieces_are_aligned_and_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(nothing_beyond_the_maximum, set_up, tear_down),
        cmocka_unit_test_setup_teardown(large_pieces_have_their_own_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_reset_gives_all_back_and_keeps_a_chunk, set_up, tear_down),
        cmocka_unit_test_setup_teardown(copies_are_the_same_bytes, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
