#include "common/status.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int values[] = {
#define VALUE(name, value, retry, text) value,
    KV_STATUS_MAP(VALUE)
#undef VALUE
};
enum { N_VALUES = sizeof values / sizeof values[0] };

static void every_status_is_told_apart(void **state)
{
    (void)state;
    for (size_t i = 0; i < N_VALUES; i++) {
        assert_string_not_equal(kv_status_name(values[i]), "?");
        assert_true(strlen(kv_status_text(values[i])) > 0);
        for (size_t k = 0; k < i; k++) {
            assert_int_not_equal(values[i], values[k]);
            assert_string_not_equal(kv_status_name(values[i]), kv_status_name(values[k]));
        }
    }
}

static void either_sign_is_taken(void **state)
{
    (void)state;
    assert_string_equal(kv_status_name(KV_NOT_FOUND), "NOT_FOUND");
    assert_string_equal(kv_status_name(-KV_NOT_FOUND), "NOT_FOUND");
    assert_int_equal(kv_status_retry(-KV_BUSY), KV_RETRY_LATER);
    assert_int_equal(kv_status_retry(KV_DEADLINE), KV_RETRY_UNKNOWN);
}

/* Nobody retries what he does not understand. */
static void an_unknown_one_is_fatal(void **state)
{
    (void)state;
    assert_string_equal(kv_status_name(77), "?");
    assert_string_equal(kv_status_text(-77), "unknown status");
    assert_int_equal(kv_status_retry(77), KV_RETRY_FATAL);
}

static void a_message_is_cut_to_its_room(void **state)
{
    struct kv_error error;
    char text[2 * KV_ERROR_MESSAGE_SIZE];

    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    assert_int_equal(kv_error_set(&error, KV_INVALID, "%s", text), KV_INVALID);
    assert_int_equal(error.status, KV_INVALID);
    assert_int_equal(strlen(error.message), KV_ERROR_MESSAGE_SIZE - 1);
    assert_int_equal(kv_error_set(NULL, KV_BUSY, "%s", text), KV_BUSY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_status_is_told_apart),
        cmocka_unit_test(either_sign_is_taken),
        cmocka_unit_test(an_unknown_one_is_fatal),
        cmocka_unit_test(a_message_is_cut_to_its_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
