/* Keys as environment variables: names, layers, what is left out and said, bounds. */
#include "client/kvctl/environment.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static struct kv_arena arena;
static struct kv_error error;

static int set_up(void **state)
{
    (void)state;
    kv_arena_init(&arena, 64 * 1024 * 1024);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kv_arena_deinit(&arena);
    return 0;
}

static void test_names(void **state)
{
    static const char *const cases[][2] = {
        {"a", "A"},
        {"db-host", "DB_HOST"},
        {"a.b/c", "A_B_C"},
        {"A1", "A1"},
        {"_x", "_X"},
        {"gr\xc3\xbc\xc3\x9f", "GR____"},
        {"a=b", "A_B"},
        {"-", "_"},
        {"\xc1z", "_Z"},
    };
    char name[16];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_true(kvctl_variable_name(kv_bytes_str(cases[i][0]), name, sizeof name));
        assert_string_equal(name, cases[i][1]);
    }
    assert_false(kvctl_variable_name(kv_bytes_str(""), name, sizeof name));
    assert_false(kvctl_variable_name(kv_bytes_str("1a"), name, sizeof name));
    assert_true(kvctl_variable_name(kv_bytes_str("abcdefghijklmno"), name, sizeof name));
    assert_false(kvctl_variable_name(kv_bytes_str("abcdefghijklmnop"), name, sizeof name));
}

/* The environment of a document's text, a variable a line, and what was said. */
static int make(const char *text,
                const char *const *prefixes,
                size_t n_prefixes,
                const char *const *inherited,
                char **ret_lines,
                char **ret_notes)
{
    struct kvctl_document document = {.arena = &arena};
    char **environment;
    size_t sizes[2];
    FILE *lines = open_memstream(ret_lines, &sizes[0]);
    FILE *notes = open_memstream(ret_notes, &sizes[1]);
    int status = kvctl_document_parse(&document, "f", kv_bytes_str(text), &error);

    if (status == 0) {
        status = kvctl_environment_make(&arena,
                                        &document,
                                        prefixes,
                                        n_prefixes,
                                        (char *const *)inherited,
                                        notes,
                                        &environment,
                                        &error);
    }
    for (size_t i = 0; status == 0 && environment[i]; i++) {
        fprintf(lines, "%s\n", environment[i]);
    }
    fclose(lines);
    fclose(notes);
    return status;
}

static void test_layers(void **state)
{
    static const char *const prefixes[] = {"base/", "app/"};
    static const char *const inherited[] = {"HOME=/root", "PORT=1", "PO=x", "odd", NULL};
    char *lines;
    char *notes;

    (void)state;
    assert_int_equal(make("base: {port: 80, host: a}\napp: {port: 81, n: !counter 5}\nother: x\n",
                          prefixes,
                          2,
                          inherited,
                          &lines,
                          &notes),
                     0);
    assert_string_equal(lines, "HOME=/root\nHOST=a\nN=5\nPO=x\nPORT=81\nodd\n");
    assert_string_equal(notes, "");
    free(lines);
    free(notes);
}

static void test_left_out(void **state)
{
    static const char *const prefixes[] = {"a/"};
    static const char *const inherited[] = {NULL};
    char *lines;
    char *notes;

    (void)state;
    assert_int_equal(make("a: {1: x, x-y: first, x_y: second, l: !list [q], z: {$base64: YQBi}, "
                          "ok: '', \"n\\n\": v}\n"
                          "a/: {'': empty}\n",
                          prefixes,
                          1,
                          inherited,
                          &lines,
                          &notes),
                     0);
    assert_string_equal(lines, "N_=v\nOK=\nX_Y=second\n");
    assert_string_equal(notes,
                        "kvctl run: left out: a/: what is behind the prefix is no name: it is "
                        "empty or begins with a digit\n"
                        "kvctl run: left out: a/1: what is behind the prefix is no name: it is "
                        "empty or begins with a digit\n"
                        "kvctl run: left out: a/l: only strings and counters can be variables\n"
                        "kvctl run: X_Y is the name of a/x-y and of a/x_y: the last one counts\n"
                        "kvctl run: left out: a/z: its value has a zero byte\n");
    free(lines);
    free(notes);
}

static void test_bounds(void **state)
{
    static const char *const prefixes[] = {""};
    static const char *const inherited[] = {NULL};
    char *text = malloc(2 * 1024 * 1024);
    size_t size = 0;
    char *lines;
    char *notes;

    (void)state;
    /* One value of 128 KiB is left out, ten of 120 KiB are too much together, 4097 small ones too
     * many. */
    sprintf(text, "big: %0*d\n", KVCTL_VARIABLE_BYTES_MAX - 3, 0);
    assert_int_equal(make(text, prefixes, 1, inherited, &lines, &notes), 0);
    assert_string_equal(lines, "");
    assert_non_null(strstr(notes, "left out: big: it is larger than the 128 KiB"));
    free(lines);
    free(notes);
    sprintf(text, "big: %0*d\n", KVCTL_VARIABLE_BYTES_MAX - 4, 0);
    assert_int_equal(make(text, prefixes, 1, inherited, &lines, &notes), 0);
    assert_int_equal(strlen(lines), KVCTL_VARIABLE_BYTES_MAX + 1);
    free(lines);
    free(notes);
    for (int i = 0; i < 10; i++) {
        size += (size_t)sprintf(text + size, "big%d: %0120000d\n", i, 0);
    }
    assert_int_equal(make(text, prefixes, 1, inherited, &lines, &notes), KV_TOO_LARGE);
    assert_non_null(strstr(error.message, "the environment has 12000"));
    free(lines);
    free(notes);
    size = 0;
    for (int i = 0; i <= KVCTL_VARIABLES_MAX; i++) {
        size += (size_t)sprintf(text + size, "v%d: x\n", i);
    }
    assert_int_equal(make(text, prefixes, 1, inherited, &lines, &notes), KV_TOO_LARGE);
    assert_non_null(strstr(error.message, "more than 4096 variables"));
    free(lines);
    free(notes);
    free(text);
}

static void test_equal(void **state)
{
    char *const a[] = {(char *)"A=1", (char *)"B=2", NULL};
    char *const b[] = {(char *)"A=1", (char *)"B=3", NULL};
    char *const c[] = {(char *)"A=1", NULL};

    (void)state;
    assert_true(kvctl_environment_equal(a, a));
    assert_false(kvctl_environment_equal(a, b));
    assert_false(kvctl_environment_equal(a, c));
    assert_false(kvctl_environment_equal(c, a));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_layers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_left_out, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bounds, set_up, tear_down),
        cmocka_unit_test(test_equal),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
