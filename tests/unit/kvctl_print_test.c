/* kvctl's output and values: escapes, JSON of any bytes, files. */
#include "client/kvctl/kvctl.h"
#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static char *text;
static size_t text_size;
static FILE *file;

static void open_text(void)
{
    file = open_memstream(&text, &text_size);
    assert_non_null(file);
}

static void expect(const char *expected)
{
    fclose(file);
    assert_string_equal(text, expected);
    free(text);
}

static void test_escaped(void **state)
{
    (void)state;
    open_text();
    kvctl_print_escaped(file, kv_bytes_of("a\tb\n\\\x01\x7f\0\xff gr\xc3\xbc\xc3\x9f \xc3", 18));
    expect("a\\tb\\n\\\\\\x01\\x7f\\x00\\xff gr\xc3\xbc\xc3\x9f \\xc3");
    open_text();
    kvctl_print_escaped(file, kv_bytes_of(NULL, 0));
    expect("");
}

static void test_json_bytes(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *expected;
    } cases[] = {
        {"plain", 5, "\"k\":\"plain\""},
        {"", 0, "\"k\":\"\""},
        {"a\"\\\n\0", 5, "\"k\":\"a\\\"\\\\\\n\\u0000\""},
        {"\xf0\x9f\x98\x80", 4, "\"k\":\"\xf0\x9f\x98\x80\""},
        {"\xff", 1, "\"k\":\"\xef\xbf\xbd\",\"k_base64\":\"/w==\""},
        {"a\xc3", 2, "\"k\":\"a\xef\xbf\xbd\",\"k_base64\":\"YcM=\""},
        {"\xed\xa0\x80",
         3, /* a surrogate */
         "\"k\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"k_base64\":\"7aCA\""},
        {"\xc0\x80",
         2, /* overlong */
         "\"k\":\"\xef\xbf\xbd\xef\xbf\xbd\",\"k_base64\":\"wIA=\""},
        {"\xf4\x90\x80\x80",
         4, /* over U+10FFFF */
         "\"k\":\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\",\"k_base64\":\"9JCAgA==\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        open_text();
        kvctl_print_json_bytes(file, "k", kv_bytes_of(cases[i].bytes, cases[i].size));
        expect(cases[i].expected);
    }
}

static void test_json_pair(void **state)
{
    struct kv_pair pair = {
        .key = {"k", 1},
        .value = {"v", 1},
        .type = KV_TYPE_STRING,
        .create_revision = 2,
        .mod_revision = 3,
        .version = 2,
    };

    (void)state;
    open_text();
    kvctl_print_json_pair(file, &pair, false);
    expect("{\"key\":\"k\",\"value\":\"v\",\"type\":\"string\",\"create_revision\":2,"
           "\"mod_revision\":3,\"version\":2}");
    pair.lease_id = 5;
    pair.expires_at_ms = 6;
    pair.type = (enum kv_type)99;
    open_text();
    kvctl_print_json_pair(file, &pair, true);
    expect("{\"key\":\"k\",\"type\":\"?\",\"create_revision\":2,\"mod_revision\":3,\"version\":2,"
           "\"lease_id\":5,\"expires_at_ms\":6}");
}

static void test_values(void **state)
{
    char path[] = "/tmp/kvctl-test-XXXXXX";
    char argument[sizeof path + 1];
    struct kv_bytes value;
    struct kv_error error;
    void *memory;
    FILE *input;

    (void)state;
    assert_int_equal(kvctl_read_value("text", NULL, &value, &memory, &error), 0);
    assert_int_equal(value.size, 4);
    assert_null(memory);
    assert_int_equal(kvctl_read_value("@@x", NULL, &value, &memory, &error), 0);
    assert_memory_equal(value.data, "@x", 2);
    assert_int_equal(kvctl_read_value("@/no/such/file", NULL, &value, &memory, &error), KV_IO);
    assert_non_null(strstr(error.message, "/no/such/file"));
    input = fdopen(mkstemp(path), "w+");
    assert_non_null(input);
    fwrite("\0\1\2", 1, 3, input);
    rewind(input);
    assert_int_equal(kvctl_read_value("-", input, &value, &memory, &error), 0);
    assert_int_equal(value.size, 3);
    assert_memory_equal(value.data, "\0\1\2", 3);
    free(memory);
    snprintf(argument, sizeof argument, "@%s", path);
    assert_int_equal(kvctl_read_value(argument, NULL, &value, &memory, &error), 0);
    assert_int_equal(value.size, 3);
    free(memory);
    /* One byte over the largest value. */
    assert_int_equal(fseek(input, (long)KV_VALUE_BYTES_MAX, SEEK_SET), 0);
    fputc('x', input);
    fflush(input);
    assert_int_equal(kvctl_read_value(argument, NULL, &value, &memory, &error), KV_TOO_LARGE);
    fclose(input);
    remove(path);
}

/* Without a server: which endpoints were tried and why each failed. */
static void test_no_server(void **state)
{
    const char *const argv[] = {"kvctl", "--endpoints", "127.0.0.1:1,127.0.0.1:2", "get", "k"};
    const char *const wrong[] = {"kvctl", "--endpoints", "127.0.0.1:x", "get", "k"};
    FILE *out = tmpfile();

    (void)state;
    assert_non_null(out);
    open_text();
    assert_int_equal(kvctl_main(5, argv, NULL, out, file), KVCTL_UNAVAILABLE);
    expect("kvctl get: CLOSED: no endpoint can be reached: 127.0.0.1:1: connection refused; "
           "127.0.0.1:2: connection refused\n");
    open_text();
    assert_int_equal(kvctl_main(5, wrong, NULL, out, file), KVCTL_USAGE);
    expect("kvctl: endpoint \"127.0.0.1:x\": want host, host:port or [IPv6 address]:port, the port "
           "from 1 to 65535\n");
    fclose(out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escaped),
        cmocka_unit_test(test_json_bytes),
        cmocka_unit_test(test_json_pair),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_no_server),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
