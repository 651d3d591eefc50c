/* kvctl's command line: what is taken, what is refused and how it is said. */
#include "client/kvctl/kvctl.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

enum { WORDS_MAX = 16 };

/* Splits at single spaces. */
static int parse(const char *line, struct kvctl_args *ret_args, struct kv_error *ret_error)
{
    static char copy[256];
    const char *argv[WORDS_MAX] = {"kvctl"};
    int argc = 1;

    snprintf(copy, sizeof copy, "%s", line);
    for (char *word = strtok(copy, " "); word; word = strtok(NULL, " ")) {
        argv[argc++] = word;
    }
    return kvctl_args_parse(argc, argv, ret_args, ret_error);
}

static void test_commands_and_options(void **state)
{
    struct kvctl_args args;
    struct kv_error error;

    (void)state;
    assert_int_equal(
        parse("-e a:1 put --if-rev=7 k v --prev --output json -t 500ms", &args, &error), 0);
    assert_string_equal(args.command->name, "put");
    assert_int_equal(args.n_arguments, 2);
    assert_string_equal(args.arguments[1], "v");
    assert_string_equal(args.strings[KVCTL_ENDPOINTS], "a:1");
    assert_int_equal(args.numbers[KVCTL_IF_REV], 7);
    assert_int_equal(args.numbers[KVCTL_TIMEOUT], 500);
    assert_true(args.set[KVCTL_PREV]);
    assert_false(args.set[KVCTL_IF_ABSENT]);
    assert_int_equal(args.format, KVCTL_JSON);
    kvctl_args_free(&args);
    assert_int_equal(parse("config set value-limit 3", &args, &error), 0);
    assert_string_equal(args.command->name, "config set");
    assert_int_equal(args.n_arguments, 2);
    kvctl_args_free(&args);
    assert_int_equal(parse("range --rev 3 --descending", &args, &error), 0);
    assert_int_equal(args.numbers[KVCTL_AT], 3);
    assert_true(args.set[KVCTL_DESC]);
    kvctl_args_free(&args);
}

static void test_dashes(void **state)
{
    struct kvctl_args args;
    struct kv_error error;

    (void)state;
    assert_int_equal(parse("getrange k -5 -1", &args, &error), 0);
    assert_string_equal(args.arguments[1], "-5");
    kvctl_args_free(&args);
    assert_int_equal(parse("put k -", &args, &error), 0);
    assert_string_equal(args.arguments[1], "-");
    kvctl_args_free(&args);
    assert_int_equal(parse("put -- --key --value", &args, &error), 0);
    assert_string_equal(args.arguments[0], "--key");
    kvctl_args_free(&args);
}

/* What waits for its turn may do so for longer than any call. */
static void test_long_waits(void **state)
{
    struct kvctl_args args;
    struct kv_error error;

    (void)state;
    assert_int_equal(parse("lock n --timeout 12h", &args, &error), 0);
    assert_int_equal(args.numbers[KVCTL_TIMEOUT], 12 * 3600 * 1000);
    kvctl_args_free(&args);
    assert_int_equal(parse("elect n v --timeout 90d", &args, &error), 0);
    kvctl_args_free(&args);
}

/* One name, and what it means hangs on the command. */
static void test_rev(void **state)
{
    struct kvctl_args args;
    struct kv_error error;

    (void)state;
    assert_int_equal(parse("watch k --rev 5", &args, &error), 0);
    assert_int_equal(args.numbers[KVCTL_START_REVISION], 5);
    kvctl_args_free(&args);
    assert_int_equal(parse("get k --rev 5", &args, &error), 0);
    assert_int_equal(args.numbers[KVCTL_AT], 5);
    kvctl_args_free(&args);
    assert_int_equal(parse("zrange k 0 1 --rev", &args, &error), 0);
    assert_true(args.set[KVCTL_REV]);
    kvctl_args_free(&args);
}

static void test_refused(void **state)
{
    static const struct {
        const char *line;
        const char *message;
    } cases[] = {
        {"", "no command"},
        {"gte k", "did you mean \"get\""},
        {"statsu", "did you mean \"status\""},
        {"config", "did you mean \"config list\""},
        {"config lsit", "did you mean \"config list\""},
        {"member", "did you mean \"member list\""},
        {"xyzzyxyzzy", "see kvctl help"},
        {"get --ouput json k", "did you mean \"output\""},
        {"get --xyzzyxyzzy k", "see kvctl help"},
        {"get -x k", "unknown option"},
        {"get -oj k", "unknown option"},
        {"get k --output", "a value is missing"},
        {"get k --output xml", "text|json|value"},
        {"get k --timeout 5", "--timeout wants TIME"},
        {"get k --timeout 11m", "--timeout is at most 10m, not \"11m\""},
        {"watch k --timeout 11m", "--timeout is at most 10m"},
        {"watch k --from 5", "watch has no option --from;"},
        {"watch k --rev=x", "--rev wants REVISION"},
        {"get k --at -1", "--at wants REVISION"},
        {"get k --at 9223372036854775808", "--at wants REVISION"},
        {"get k --serializable=yes", "an option without value"},
        {"get k --limit 3", "get has no option --limit"},
        {"get", "usage: kvctl get KEY"},
        {"get a b", "usage: kvctl get KEY"},
        {"put a", "usage: kvctl put KEY VALUE"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct kvctl_args args;
        struct kv_error error = {.message = ""};

        assert_int_equal(parse(cases[i].line, &args, &error), KVCTL_USAGE);
        if (!strstr(error.message, cases[i].message)) {
            fail_msg("%s: \"%s\" is not in \"%s\"", cases[i].line, cases[i].message, error.message);
        }
    }
}

static void test_numbers_and_durations(void **state)
{
    int64_t number;

    (void)state;
    assert_true(kvctl_parse_number("9223372036854775807", 0, INT64_MAX, &number));
    assert_true(number == INT64_MAX);
    assert_true(kvctl_parse_number("-9223372036854775808", INT64_MIN, 0, &number));
    assert_true(number == INT64_MIN);
    assert_false(kvctl_parse_number("-9223372036854775809", INT64_MIN, 0, &number));
    assert_false(kvctl_parse_number("", 0, 9, &number));
    assert_false(kvctl_parse_number("-", -9, 9, &number));
    assert_false(kvctl_parse_number("1x", 0, 9, &number));
    assert_false(kvctl_parse_number("10", 0, 9, &number));
    assert_true(kvctl_parse_duration_ms("2m", &number));
    assert_int_equal(number, 120000);
    assert_false(kvctl_parse_duration_ms("0s", &number));
    assert_false(kvctl_parse_duration_ms("s", &number));
    assert_true(kvctl_parse_duration_ms("5h", &number));
    assert_int_equal(number, 5 * 3600000);
    assert_true(kvctl_parse_duration_ms("3650d", &number));
    assert_false(kvctl_parse_duration_ms("3651d", &number));
    assert_false(kvctl_parse_duration_ms("5w", &number));
}

/* Every command can be found, has help with an example that parses, and is in bash's list. */
static void test_every_row(void **state)
{
    (void)state;
    for (size_t i = 0; i < kvctl_n_commands(); i++) {
        const struct kvctl_command *command = kvctl_command_at(i);
        const char *argv[WORDS_MAX];
        struct kvctl_line line;
        struct kvctl_args args;
        struct kv_arena arena;
        struct kv_error error;
        char *text = NULL;
        size_t size;
        FILE *file = open_memstream(&text, &size);

        assert_non_null(file);
        assert_ptr_equal(kvctl_find_command(command->name), command);
        kvctl_help_command(file, command);
        fclose(file);
        assert_non_null(strstr(text, command->example));
        free(text);
        kv_arena_init(&arena, 65536);
        assert_int_equal(kvctl_split(&arena, command->example, &line, &error), 0);
        assert_true(line.n_words > 1 && line.n_words <= WORDS_MAX);
        memcpy(argv, line.words, line.n_words * sizeof *argv);
        assert_string_equal(argv[0], "kvctl");
        if (kvctl_args_parse((int)line.n_words, argv, &args, &error) != 0) {
            fail_msg("%s: %s", command->example, error.message);
        }
        assert_ptr_equal(args.command, command);
        kvctl_args_free(&args);
        kv_arena_deinit(&arena);
        /* By itself, or by its request. */
        assert_true(command->run || (command->fill && command->print));
    }
    assert_null(kvctl_command_at(kvctl_n_commands()));
    for (size_t i = 0; i < kvctl_n_options; i++) {
        assert_int_equal(kvctl_options[i].id, i);
    }
}

static void test_exit_codes(void **state)
{
    (void)state;
    assert_int_equal(kvctl_exit_of(0, true), KVCTL_OK);
    assert_int_equal(kvctl_exit_of(KV_NOT_FOUND, false), KVCTL_NOT_MET);
    assert_int_equal(kvctl_exit_of(KV_EXISTS, true), KVCTL_NOT_MET);
    assert_int_equal(kvctl_exit_of(KV_CONDITION_FAILED, true), KVCTL_NOT_MET);
    assert_int_equal(kvctl_exit_of(KV_CLOSED, true), KVCTL_UNAVAILABLE);
    assert_int_equal(kvctl_exit_of(KV_NO_LEADER, false), KVCTL_UNAVAILABLE);
    assert_int_equal(kvctl_exit_of(KV_NOT_LEADER, false), KVCTL_UNAVAILABLE);
    assert_int_equal(kvctl_exit_of(KV_DEADLINE, true), KVCTL_UNKNOWN);
    assert_int_equal(kvctl_exit_of(KV_DEADLINE, false), KVCTL_UNAVAILABLE);
    assert_int_equal(kvctl_exit_of(KV_TOO_LARGE, true), KVCTL_REFUSED);
    assert_int_equal(kvctl_exit_of(KV_INTERNAL, true), KVCTL_REFUSED);
    assert_int_equal(kvctl_exit_of(KV_NO_MEMORY, true), KVCTL_LOCAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_and_options),
        cmocka_unit_test(test_dashes),
        cmocka_unit_test(test_long_waits),
        cmocka_unit_test(test_rev),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_numbers_and_durations),
        cmocka_unit_test(test_every_row),
        cmocka_unit_test(test_exit_codes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
