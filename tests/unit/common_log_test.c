#include "common/log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char last[2048];
static unsigned n_lines;

static void keep(void *arg, const char *line)
{
    assert_ptr_equal(arg, last);
    snprintf(last, sizeof last, "%s", line);
    n_lines++;
}

static int set_up(void **state)
{
    (void)state;
    last[0] = '\0';
    n_lines = 0;
    kv_log_set_sink(keep, last);
    kv_log_set_level(KV_LOG_INFO);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kv_log_set_sink(NULL, NULL);
    kv_log_set_level(KV_LOG_INFO);
    return 0;
}

static void a_line_has_time_level_module_event_and_pairs(void **state)
{
    int year, month, day, hour, minute, second, ms;
    int n = 0;

    (void)state;
    KV_LOG(WARN, "wal", "torn", "bytes=%d file=\"%s\"", 12, "a b");
    assert_int_equal(n_lines, 1);
    assert_int_equal(sscanf(last,
                            "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ %n",
                            &year,
                            &month,
                            &day,
                            &hour,
                            &minute,
                            &second,
                            &ms,
                            &n),
                     7);
    assert_string_equal(last + n, "warn wal torn bytes=12 file=\"a b\"");
    KV_LOG(INFO, "wal", "opened", "%s", "");
    assert_int_equal(n_lines, 2);
}

static void levels_below_the_threshold_are_silent(void **state)
{
    (void)state;
    KV_LOG(DEBUG, "m", "e", "x=%d", 1);
    assert_int_equal(n_lines, 0);
    kv_log_set_level(KV_LOG_DEBUG);
    KV_LOG(DEBUG, "m", "e", "x=%d", 1);
    assert_int_equal(n_lines, 1);
    kv_log_set_level(KV_LOG_OFF);
    KV_LOG(ERROR, "m", "e", "x=%d", 1);
    assert_int_equal(n_lines, 1);
}

/* What a stranger sent cannot forge a line. */
static void control_bytes_are_replaced(void **state)
{
    (void)state;
    KV_LOG(INFO, "net", "refused", "name=\"%s\"", "a\nb\rc\x1b[d\x7f");
    assert_non_null(strstr(last, "name=\"a?b?c?[d?\""));
}

static void long_lines_are_cut(void **state)
{
    char text[3000];

    (void)state;
    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = '\0';
    KV_LOG(INFO, "net", "refused", "name=%s", text);
    assert_in_range(strlen(last), 1000, 1024);
}

static void levels_have_names(void **state)
{
    enum kv_log_level level = KV_LOG_OFF;

    (void)state;
    assert_int_equal(kv_log_level_parse("debug", &level), 0);
    assert_int_equal(level, KV_LOG_DEBUG);
    assert_int_equal(kv_log_level_parse("off", &level), 0);
    assert_int_equal(level, KV_LOG_OFF);
    assert_int_equal(kv_log_level_parse("INFO", &level), KV_INVALID);
    assert_int_equal(kv_log_level_parse("", &level), KV_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            a_line_has_time_level_module_event_and_pairs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(levels_below_the_threshold_are_silent, set_up, tear_down),
        cmocka_unit_test_setup_teardown(control_bytes_are_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(long_lines_are_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(levels_have_names, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
