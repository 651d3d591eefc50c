/* Configuration: where values come from, and every kind of bad input with what it must say. */
#include "server/node/config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
/* after the above, as it wants */
#include <cmocka.h>

enum { ARGUMENTS_MAX = 16 };

static struct kv_config config;
static struct kv_error error;
static enum kv_config_action action;

/* Arguments and environment as they come: NULL-terminated lists. */
static int load(const char *const *arguments, const char *const *environment)
{
    const char *argv[ARGUMENTS_MAX + 1] = {"kvd"};
    int argc = 1;

    for (; arguments && *arguments; arguments++) {
        assert_true(argc < ARGUMENTS_MAX);
        argv[argc++] = *arguments;
    }
    memset(&error, 0, sizeof error);
    return kv_config_load(argc,
                          (char *const *)(uintptr_t)argv,
                          (char *const *)(uintptr_t)environment,
                          &config,
                          &action,
                          &error);
}

#define ARGS(...)         \
    (const char *const[]) \
    {                     \
        __VA_ARGS__, NULL \
    }

static void write_file(char path[64], const char *text)
{
    int fd;

    snprintf(path, 64, "/tmp/kvd-config-test-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static int load_file(const char *text)
{
    char path[64];
    const char *arguments[] = {"--config", path, NULL};
    int status;

    write_file(path, text);
    status = load(arguments, NULL);
    unlink(path);
    return status;
}

static void expect_message(int status, const char *text)
{
    if (status != KV_INVALID || !strstr(error.message, text)) {
        fail_msg("status %d, message \"%s\", wanted \"%s\"", status, error.message, text);
    }
}

/* ---------------------------------------------------------------- what is right */

static void test_defaults_are_a_node_alone(void **state)
{
    (void)state;
    assert_int_equal(load(NULL, NULL), 0);
    assert_int_equal(action, KV_CONFIG_RUN);
    assert_int_equal(config.node_id, 1);
    assert_int_equal(config.n_members, 1);
    assert_int_equal(config.members[0].id, 1);
    assert_string_equal(config.listen_client, "127.0.0.1:4700");
    assert_int_equal(config.max_connections, KV_CONNECTIONS_MAX);
    assert_int_equal(config.election_timeout_ms, KV_ELECTION_TIMEOUT_MS);
    assert_int_equal(config.heartbeat_ms, KV_HEARTBEAT_TIMEOUT_MS);
    assert_int_equal(config.wal_segment_bytes, KV_WAL_SEGMENT_BYTES);
    assert_true(config.peer_compression);
    assert_true(config.cluster_id != 0);
}

static void test_flags_beat_environment_beats_file(void **state)
{
    char path[64];
    const char *arguments[] = {"--node-id=7", "--config", path, NULL};
    const char *environment[] = {
        "PATH=/bin", "KVD_NODE_ID=6", "KVD_DATA_DIR=/from/environment", NULL};

    (void)state;
    write_file(path,
               "# comment\nnode-id: 5\ndata-dir: /from/file\nlog-level: \"debug\"\n"
               "wal-segment-size: 32MiB\npeer-compression: false\n");
    assert_int_equal(load(arguments, environment), 0);
    unlink(path);
    assert_int_equal(config.node_id, 7);
    assert_string_equal(config.data_dir, "/from/environment");
    assert_int_equal(config.level, KV_LOG_DEBUG);
    assert_int_equal(config.wal_segment_bytes, 32 * KV_MIB);
    assert_false(config.peer_compression);
}

static void test_file_named_by_environment(void **state)
{
    char path[64];
    char variable[80];
    const char *environment[] = {variable, NULL};

    (void)state;
    write_file(path, "node-id: 9\n");
    snprintf(variable, sizeof variable, "KVD_CONFIG=%s", path);
    assert_int_equal(load(NULL, environment), 0);
    unlink(path);
    assert_int_equal(config.node_id, 9);
    assert_int_equal(load_file(""), 0);
    assert_int_equal(load_file("# nothing but a comment\n"), 0);
    assert_int_equal(load_file("{}\n"), 0);
}

static void test_units(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--election-timeout", "2s", "--wal-segment-size", "1GiB"), NULL), 0);
    assert_int_equal(config.election_timeout_ms, 2000);
    assert_int_equal(config.wal_segment_bytes, 1024 * KV_MIB);
    assert_int_equal(load(ARGS("--election-timeout=1m", "--wal-segment-size=33554432B"), NULL), 0);
    assert_int_equal(config.election_timeout_ms, 60000);
    assert_int_equal(config.wal_segment_bytes, 32 * KV_MIB);
}

static void test_members(void **state)
{
    uint64_t id;

    (void)state;
    assert_int_equal(
        load(ARGS("--node-id", "2", "--members", "1=a.test:1,2=[::1]:2,30=10.0.0.3:3"), NULL), 0);
    assert_int_equal(config.n_members, 3);
    assert_string_equal(config.members[1].address, "[::1]:2");
    assert_int_equal(config.members[2].id, 30);
    /* The cluster's number comes of its name, unless it is given. */
    id = config.cluster_id;
    assert_int_equal(load(ARGS("--cluster", "other"), NULL), 0);
    assert_true(config.cluster_id != id);
    assert_int_equal(load(ARGS("--cluster-id", "42"), NULL), 0);
    assert_int_equal(config.cluster_id, 42);
}

static void test_actions(void **state)
{
    (void)state;
    assert_int_equal(load(ARGS("--help", "--no-such-flag"), NULL), KV_INVALID);
    assert_int_equal(load(ARGS("--help"), NULL), 0);
    assert_int_equal(action, KV_CONFIG_HELP);
    assert_int_equal(load(ARGS("--version"), NULL), 0);
    assert_int_equal(action, KV_CONFIG_VERSION);
    assert_int_equal(load(ARGS("--check-config", "--node-id=2"), NULL), 0);
    assert_int_equal(action, KV_CONFIG_CHECK);
    expect_message(load(ARGS("--check-config", "--node-id=0"), NULL), "node-id");
}

/* What --check-config prints is a file that gives the same. */
static void test_printed_values_read_back(void **state)
{
    struct kv_config first;
    char text[16384];
    FILE *out = fmemopen(text, sizeof text, "w");

    (void)state;
    assert_int_equal(
        load(ARGS("--data-dir", "/a \"quoted\" \\ p\xc3\xa4th", "--election-timeout=7s"), NULL), 0);
    first = config;
    kv_config_print(&config, out);
    fclose(out);
    assert_int_equal(load_file(text), 0);
    assert_memory_equal(&first, &config, sizeof config);
}

/* ---------------------------------------------------------------- what is wrong */

static void test_bad_flags(void **state)
{
    static const struct {
        const char *arguments[4];
        const char *message;
    } cases[] = {
        {{"--data-dri", "x"}, "unknown flag --data-dri: did you mean --data-dir?"},
        {{"--nodeid=1"}, "unknown flag --nodeid: did you mean --node-id?"},
        {{"--heartbeat", "5ms"}, "did you mean --heartbeat-interval?"},
        {{"start"}, "unexpected argument \"start\""},
        {{"-x"}, "unexpected argument \"-x\""},
        {{"--node-id"}, "--node-id wants a value"},
        {{"--config"}, "--config wants a value"},
        {{"--node-id", "one"}, "flag --node-id: node-id wants a number, not \"one\""},
        {{"--node-id", "-1"}, "wants a number"},
        {{"--node-id", " 1"}, "wants a number"},
        {{"--node-id", "1x"}, "wants a plain number"},
        {{"--node-id", "0"}, "node-id is 1 to"},
        {{"--node-id", "99999999999999999999999"}, "node-id is 1 to"},
        {{"--net-threads", "65"}, "net-threads is 0 to 64"},
        {{"--election-timeout", "5"}, "unknown unit \"\"; want ms, s, m or h"},
        {{"--election-timeout", "5sec"}, "unknown unit \"sec\"; want ms, s, m or h"},
        {{"--election-timeout", "10ms"}, "election-timeout is 50 to 60000 ms"},
        {{"--wal-segment-size", "64MB"}, "unknown unit \"MB\"; want B, KiB, MiB or GiB"},
        {{"--wal-segment-size", "1KiB"}, "wal-segment-size is"},
        {{"--peer-compression", "yes"}, "true or false, not \"yes\""},
        {{"--cluster", "a\nb"}, "flag --cluster: cluster has control characters, or is not UTF-8"},
        {{"--data-dir", "/a\xff"}, "data-dir has control characters, or is not UTF-8"},
        {{"--data-dir", "/a\xc1\x81"}, "data-dir has control characters, or is not UTF-8"},
        {{"--data-dir", "/a\xe2\x80\xa8"}, "data-dir has control characters, or is not UTF-8"},
        {{"--log-level", "loud"}, "log-level is debug, info, warn, error or off, not \"loud\""},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_message(load(cases[i].arguments, NULL), cases[i].message);
    }
}

static void test_bad_environment(void **state)
{
    (void)state;
    expect_message(load(NULL, ARGS("KVD_NODE_ID=x")), "KVD_NODE_ID: node-id wants a number");
    expect_message(load(NULL, ARGS("KVD_NODE_IDS=1")),
                   "unknown environment variable KVD_NODE_IDS: did you mean KVD_NODE_ID?");
    expect_message(load(NULL, ARGS("KVD_CONFIG=/no/such/file")), "/no/such/file");
    /* Wrappers have their own. */
    assert_int_equal(load(NULL, ARGS("KVD_BUILD_DIRECTORY=x", "KVDX=1", "KVD_")), 0);
}

static void test_bad_files(void **state)
{
    static const struct {
        const char *text;
        const char *message;
    } cases[] = {
        {"node-id: 1\n\ndata_dir: x\n",
         "line 3: unknown key \"data_dir\": did you mean \"data-dir\"?"},
        {"node-id: 1\nelection-timeout: 5 s\n", "line 2: election-timeout: unknown unit \" s\""},
        {"node-id: [1, 2]\n", "line 1: node-id wants one value"},
        {"node-id: 1\ncluster:\n  1: a:1\n", "line 3: cluster wants one value"},
        {"- node-id\n", "line 1: want lines of \"option: value\""},
        {"node-id\n", "line 1: want lines of \"option: value\""},
        {"node-id: 1\nnode-id: 2\n", "line 2: node-id is given twice, first on line 1"},
        {"data-dir: |\n  x\n", "line 1: data-dir has control characters"},
        {"data-dir: \"/a\\0b\"\n", "line 1: data-dir has a zero byte in it"},
        {"\"node-id\\0b\": 1\n", "line 1: a key has a zero byte in it"},
        {"cluster: &x node-id\n*x : 1\n", "line 2: want lines of \"option: value\""},
        {"node-id: 1\n  data-dir: 'x\n", "line"},
        {"node-id: \"1\n", "line"},
        {"\x01\x02", "line"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_message(load_file(cases[i].text), cases[i].message);
    }
    expect_message(load(ARGS("--config", "/no/such/file"), NULL),
                   "cannot read the configuration file /no/such/file: No such file or directory");
    expect_message(load(ARGS("--config", "/tmp"), NULL), "/tmp line 1");
}

static void test_impossible_combinations(void **state)
{
    static const struct {
        const char *arguments[8];
        const char *message;
    } cases[] = {
        {{"--node-id=4", "--members=1=a:1,2=b:2,3=c:3"}, "node-id 4 is not among the members"},
        {{"--members=1=a:1,1=b:2"}, "node 1 is named twice"},
        {{"--members=1=a:1,2=a:1"}, "nodes 1 and 2 have one address, a:1"},
        {{"--members=1"}, "\"1\" is no member: want ID=HOST:PORT"},
        {{"--members=0=a:1"}, "is no member"},
        {{"--members=+1=a:1"}, "is no member"},
        {{"--members=1=a"}, "members: \"a\" is no address"},
        {{"--members=1=a:0"}, "nobody can connect to port 0"},
        {{"--members=1=a:65536"}, "is no address"},
        {{"--members=1=0.0.0.0:1"}, "nobody can connect to \"0.0.0.0:1\": name this host"},
        {{"--members=1=a:1,,2=b:2"}, "is no member"},
        {{"--heartbeat-interval=101ms"}, "heartbeat-interval 101ms is more than a third"},
        {{"--client-listen=4700"}, "client-listen: \"4700\" is no address: want HOST:PORT"},
        {{"--client-listen=::1:4700"}, "is no address"},
        {{"--client-listen=a\"b:1"}, "is no address"},
        {{"--peer-listen=:x"}, "peer-listen"},
        {{"--http-listen=nope"}, "http-listen"},
        {{"--peer-listen=127.0.0.1:4700"}, "client-listen and peer-listen cannot both be"},
        {{"--http-listen=0.0.0.0:4701"}, "peer-listen and http-listen cannot both be"},
        {{"--client-address=0.0.0.0:4700"}, "client-address: nobody can connect"},
        {{"--client-address=[::]:4700"}, "client-address: nobody can connect"},
        {{"--client-address=host:0"}, "client-address: nobody can connect to port 0"},
        {{"--members=1=a:1,2=b:2,3=c:3", "--client-listen=0.0.0.0:4700"},
         "client-address is wanted"},
        {{"--data-dir="}, "data-dir is empty"},
        {{"--cluster="}, "cluster is empty"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_message(load(cases[i].arguments, NULL), cases[i].message);
    }
    /* One more than can be. */
    {
        char text[512] = "--members=";

        for (unsigned id = 1; id <= KV_MEMBERS_MAX + 1; id++) {
            snprintf(text + strlen(text), sizeof text - strlen(text), "%u=h:%u,", id, id);
        }
        expect_message(load(ARGS(text), NULL), "more than 15 members");
    }
    /* What looks alike and is possible. */
    assert_int_equal(load(ARGS("--client-listen=a:0", "--peer-listen=a:0", "--http-listen="), NULL),
                     0);
    assert_int_equal(load(ARGS("--client-listen=0.0.0.0:4700"), NULL), 0);
}

static void gather(void *arg, const char *warning)
{
    strncat(arg, warning, 500);
}

static void test_warnings(void **state)
{
    char text[1024] = "";

    (void)state;
    assert_int_equal(load(NULL, NULL), 0);
    kv_config_warn(&config, gather, text);
    assert_string_equal(text, "");
    assert_int_equal(load(ARGS("--members=1=a:4701,2=b:2"), NULL), 0);
    kv_config_warn(&config, gather, text);
    assert_non_null(strstr(text, "a cluster of 2 nodes survives no more lost nodes than one of 1"));
    assert_null(strstr(text, "dial"));
    text[0] = '\0';
    assert_int_equal(load(ARGS("--members=1=a:1,2=b:2,3=c:3"), NULL), 0);
    kv_config_warn(&config, gather, text);
    assert_string_equal(text,
                        "the others dial this node at a:1, but peer-listen is 127.0.0.1:4701");
}

/* ---------------------------------------------------------------- what is written about it */

/* The table of docs/operations/configuration.md is the one that the options give. */
static void test_documentation_has_the_table(void **state)
{
    char path[1024];
    char *slash;
    static char page[65536];
    static char table[32768];
    FILE *file = fmemopen(table, sizeof table, "w");

    (void)state;
    kv_config_print_markdown(file);
    fclose(file);
    snprintf(path, sizeof path, "%s", __FILE__);
    for (int i = 0; i < 3; i++) {
        slash = strrchr(path, '/');
        assert_non_null(slash);
        *slash = '\0';
    }
    strncat(path, "/docs/operations/configuration.md", sizeof path - strlen(path) - 1);
    file = fopen(path, "r");
    assert_non_null(file);
    assert_true(fread(page, 1, sizeof page - 1, file) > 0);
    fclose(file);
    if (!strstr(page, table)) {
        fail_msg("%s lacks this table:\n%s", path, table);
    }
}

static void test_help_names_each_option(void **state)
{
    static char text[16384];
    FILE *file = fmemopen(text, sizeof text, "w");

    (void)state;
    kv_config_print_help(file);
    fclose(file);
    assert_non_null(strstr(text, "--node-id"));
    assert_non_null(strstr(text, "--config FILE"));
    assert_non_null(strstr(text, "--check-config"));
    assert_non_null(strstr(text, "Exit codes: 0 "));
    /* No line is wider than a terminal. */
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        assert_true(strlen(line) <= 120);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults_are_a_node_alone),
        cmocka_unit_test(test_flags_beat_environment_beats_file),
        cmocka_unit_test(test_file_named_by_environment),
        cmocka_unit_test(test_units),
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_actions),
        cmocka_unit_test(test_printed_values_read_back),
        cmocka_unit_test(test_bad_flags),
        cmocka_unit_test(test_bad_environment),
        cmocka_unit_test(test_bad_files),
        cmocka_unit_test(test_impossible_combinations),
        cmocka_unit_test(test_warnings),
        cmocka_unit_test(test_documentation_has_the_table),
        cmocka_unit_test(test_help_names_each_option),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
