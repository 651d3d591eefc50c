/* kvctl's streams: events and messages on paper, busy prefixes within their bound, variables. */
#include "client/kvctl/top.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const char *event_text(const struct kv_event *event, enum kvctl_format format)
{
    static char text[1024];
    FILE *file = fmemopen(text, sizeof text, "w");

    kvctl_print_event(file, event, format);
    fclose(file);
    return text;
}

static void test_event_of_a_collection(void **state)
{
    struct kv_field field = {.name = kv_bytes_str("f\n"), .value = kv_bytes_str("v")};
    struct kv_bytes removed = kv_bytes_of("g\xff", 2);
    struct kv_event event = {
        .pair = {.key = kv_bytes_str("h"), .type = KV_TYPE_HASH, .mod_revision = 9, .elements = 2},
        .n_fields = 1,
        .fields = &field,
        .n_removed = 1,
        .removed = &removed,
        .replaced = true,
    };

    (void)state;
    assert_string_equal(event_text(&event, KVCTL_TEXT), "9\tput\th\t(hash of 2) f\\n=v -g\\xff\n");
    assert_string_equal(
        event_text(&event, KVCTL_JSON),
        "{\"kind\":\"put\",\"revision\":9,\"key\":\"h\",\"kv\":{\"key\":\"h\",\"elements\":2,"
        "\"type\":\"hash\",\"create_revision\":0,\"mod_revision\":9,\"version\":0},\"fields\":[{"
        "\"name\":\"f\\n\",\"value\":\"v\"}],\"removed\":[{\"name\":\"g\xef\xbf\xbd\",\"name_"
        "base64\":\"Z/8=\"}],\"replaced\":true}\n");
}

static void test_other_events(void **state)
{
    struct kv_bytes elements[] = {kv_bytes_str("a"), kv_bytes_str("b")};
    struct kv_scored member = {.member = kv_bytes_str("m"), .score = 1.5};
    struct kv_pair before = {.type = KV_TYPE_COUNTER, .counter = -4};
    struct kv_event event = {.kind = KV_EVENT_EXPIRE,
                             .pair = {.key = kv_bytes_str("k"), .mod_revision = 3},
                             .previous = &before};

    (void)state;
    assert_string_equal(event_text(&event, KVCTL_TEXT), "3\texpire\tk\t(before: -4)\n");
    assert_string_equal(event_text(&event, KVCTL_VALUE), "\n");
    event = (struct kv_event){.pair = {.key = kv_bytes_str("k"), .type = KV_TYPE_LIST},
                              .n_elements = 2,
                              .elements = elements};
    assert_string_equal(event_text(&event, KVCTL_TEXT), "0\tput\tk\t(list of 0) +a +b\n");
    event = (struct kv_event){.pair = {.key = kv_bytes_str("k"), .type = KV_TYPE_ZSET},
                              .n_members = 1,
                              .members = &member};
    assert_non_null(
        strstr(event_text(&event, KVCTL_JSON), "\"members\":[{\"member\":\"m\",\"score\":1.5}]"));
}

static void test_busy_prefixes_are_bounded(void **state)
{
    struct kvctl_top_busy *busy = calloc(1, sizeof *busy);
    char key[KVCTL_TOP_PREFIX_BYTES + 40];

    (void)state;
    for (int i = 0; i < KVCTL_TOP_PREFIXES_MAX + 100; i++) {
        snprintf(key, sizeof key, "p%d/rest", i);
        kvctl_top_busy_add(busy, kv_bytes_str(key));
    }
    kvctl_top_busy_add(busy, kv_bytes_str("p7/other"));
    kvctl_top_busy_add(busy, kv_bytes_str("p9:x"));
    assert_int_equal(busy->n_prefixes, KVCTL_TOP_PREFIXES_MAX);
    assert_int_equal(busy->others, 101);
    assert_int_equal(busy->total, KVCTL_TOP_PREFIXES_MAX + 102);
    kvctl_top_busy_sort(busy);
    assert_string_equal(busy->prefixes[0].text, "p7/");
    assert_int_equal(busy->prefixes[0].changes, 2);
    kvctl_top_busy_clear(busy);
    memset(key, 'k', sizeof key);
    kvctl_top_busy_add(busy, kv_bytes_of(key, sizeof key));
    assert_int_equal(strlen(busy->prefixes[0].text), KVCTL_TOP_PREFIX_BYTES - 1);
    /* What a terminal would obey. */
    kvctl_top_busy_clear(busy);
    kvctl_top_busy_add(busy, kv_bytes_of("\033[2J\0|x", 7));
    assert_string_equal(busy->prefixes[0].text, "?[2J?|");
    free(busy);
}

static void test_variables(void **state)
{
    struct kvctl_variables variables;
    size_t n;
    size_t most = KVCTL_VARIABLE_BYTES_MAX - strlen("KV_TEST_LARGE=");
    char *large = calloc(1, most + 2);

    (void)state;
    memset(large, 'x', most + 1);
    kvctl_variables_init(&variables);
    n = variables.n;
    kvctl_variables_set(&variables, "KV_TEST_A", kv_bytes_str("1"));
    kvctl_variables_set_number(&variables, "KV_TEST_A", -2);
    kvctl_variables_set(&variables, "KV_TEST_ZERO", kv_bytes_of("a\0b", 3));
    kvctl_variables_set(&variables, "KV_TEST_LARGE", kv_bytes_str(large));
    kvctl_variables_set(&variables, "KV_TEST_EMPTY", kv_bytes_of(NULL, 0));
    assert_int_equal(variables.n, n + 2);
    assert_string_equal(variables.list[n], "KV_TEST_A=-2");
    assert_string_equal(variables.list[n + 1], "KV_TEST_EMPTY=");
    assert_null(variables.list[n + 2]);
    /* One byte less fits. */
    large[most] = '\0';
    kvctl_variables_set(&variables, "KV_TEST_LARGE", kv_bytes_str(large));
    assert_int_equal(variables.n, n + 3);
    assert_int_equal(strlen(variables.list[n + 2]), KVCTL_VARIABLE_BYTES_MAX);
    kvctl_variables_deinit(&variables);
    free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_event_of_a_collection),
        cmocka_unit_test(test_other_events),
        cmocka_unit_test(test_busy_prefixes_are_bounded),
        cmocka_unit_test(test_variables),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
