#include "common/bytes.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void slices_order_like_memcmp_then_by_length(void **state)
{
    /* Ascending. */
    static const char *const keys[] = {"", "a", "a\x01", "aa", "ab", "b", "\x7f", "\x80", "\xff"};

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        for (size_t k = 0; k < sizeof keys / sizeof keys[0]; k++) {
            int order = kv_slice_compare(kv_slice_str(keys[i]), kv_slice_str(keys[k]));

            assert_int_equal((order > 0) - (order < 0), (i > k) - (i < k));
            assert_int_equal(kv_slice_equal(kv_slice_str(keys[i]), kv_slice_str(keys[k])), i == k);
        }
    }
    assert_true(kv_slice_equal(kv_slice_of(NULL, 0), kv_slice_str("")));
    assert_true(kv_slice_compare(kv_slice_of("a\0b", 3), kv_slice_of("a\0c", 3)) < 0);
}

static void a_buffer_grows_to_its_maximum_and_no_further(void **state)
{
    struct kv_buf buf;
    char piece[100];

    (void)state;
    memset(piece, 'x', sizeof piece);
    kv_buf_init(&buf, 1000);
    for (int i = 0; i < 10; i++) {
        assert_int_equal(kv_buf_append(&buf, piece, sizeof piece), 0);
    }
    assert_int_equal(kv_buf_append(&buf, piece, 1), KV_TOO_LARGE);
    assert_null(kv_buf_reserve(&buf, 1));
    assert_null(kv_buf_reserve(&buf, SIZE_MAX));
    assert_int_equal(kv_buf_append(&buf, NULL, 0), 0);
    assert_int_equal(buf.size, 1000);
    assert_true(buf.capacity <= 1000);
    kv_buf_clear(&buf);
    assert_int_equal(kv_buf_append(&buf, piece, sizeof piece), 0);
    kv_buf_deinit(&buf);
    assert_null(buf.data);
}

static void reserved_room_is_no_content(void **state)
{
    struct kv_buf buf;
    uint8_t *p;

    (void)state;
    kv_buf_init(&buf, 5000);
    assert_int_equal(kv_buf_append(&buf, "abc", 3), 0);
    p = kv_buf_reserve(&buf, 4000);
    assert_non_null(p);
    assert_int_equal(buf.size, 3);
    assert_ptr_equal(p, buf.data + 3);
    memset(p, 'd', 4000);
    buf.size += 4000;
    assert_memory_equal(buf.data, "abcddd", 6);
    kv_buf_deinit(&buf);
}

static void what_is_consumed_goes_from_the_front(void **state)
{
    struct kv_buf buf;

    (void)state;
    kv_buf_init(&buf, 100);
    assert_int_equal(kv_buf_append(&buf, "abcdef", 6), 0);
    kv_buf_consume(&buf, 0);
    kv_buf_consume(&buf, 2);
    assert_int_equal(buf.size, 4);
    assert_memory_equal(buf.data, "cdef", 4);
    kv_buf_consume(&buf, 4);
    assert_int_equal(buf.size, 0);
    kv_buf_deinit(&buf);
}

static void integers_are_little_endian(void **state)
{
    uint8_t p[9] = {0};

    (void)state;
    kv_put_u64(p + 1, UINT64_C(0x8877665544332211));
    for (unsigned i = 0; i < 8; i++) {
        assert_int_equal(p[1 + i], 0x11 * (i + 1));
    }
    assert_true(kv_get_u64(p + 1) == UINT64_C(0x8877665544332211));
    assert_int_equal(kv_get_u32(p + 1), 0x44332211);
    assert_int_equal(kv_get_u16(p + 1), 0x2211);
    kv_put_u32(p + 1, 0xffffffff);
    kv_put_u16(p + 1, 0x1234);
    assert_true(kv_get_u32(p + 1) == 0xffff1234u);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(slices_order_like_memcmp_then_by_length),
        cmocka_unit_test(a_buffer_grows_to_its_maximum_and_no_further),
        cmocka_unit_test(reserved_room_is_no_content),
        cmocka_unit_test(what_is_consumed_goes_from_the_front),
        cmocka_unit_test(integers_are_little_endian),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
