/* Where reads end: prefixes of bytes behind which there is nothing, and searches in pieces. */
#include "common/limits.h"
#include "server/machine/glob.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static struct machine_rig rig;
static struct kv_arena arena;

static int set_up(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    rig.checks = false;
    kv_arena_init(&arena, KV_MIB);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kv_arena_deinit(&arena);
    machine_rig_close(&rig);
    return 0;
}

static void expect_count(const char *prefix, uint64_t n)
{
    Kv__Reply *reply = machine_rig_read(&rig, call_count(&arena, prefix, 0));

    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->count->count, n);
    kv__reply__free_unpacked(reply, NULL);
}

/* The end of a prefix that ends with the highest byte is that of a shorter one; of one that has no
 * other byte it is the end of all keys. */
static void prefixes_of_the_highest_byte_end(void **state)
{
    static const char *const keys[] = {
        "a", "a\xfe", "a\xff", "a\xff\x01", "a\xff\xff", "b", "\xff", "\xff\xff\xff"};

    (void)state;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        machine_rig_put_string(&rig, keys[i]);
    }
    expect_count("a", 5);
    expect_count("a\xff", 3);
    expect_count("a\xff\xff", 1);
    expect_count("\xff", 2);
    expect_count("\xff\xff", 1);
    expect_count("", 8);
}

static void publish(const char *topic)
{
    Kv__Publish command = KV__PUBLISH__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.topic = machine_rig_bytes(topic);
    request.command_case = KV__REQUEST__COMMAND_PUBLISH;
    request.publish = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

/* Behind one that matches are so many others that two calls look at them all, and not one. */
static void a_search_goes_on_where_it_ended(void **state)
{
    static struct kv_glob glob;
    const struct kv_topic_query query = {kv_slice_str("x*"), &glob};
    struct kv_topic_search search = {.left = 1};
    int64_t revision;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_glob_compile(query.topic, &glob, &error), 0);
    machine_rig_set(&rig, "topic-messages", 2 * KV_TOPIC_LOOKS_MAX);
    publish("x1");
    publish("x2");
    revision = kv_machine_revision(rig.machine);
    for (unsigned i = 0; i < KV_TOPIC_LOOKS_MAX; i++) {
        publish("other");
    }
    search.looked = search.found =
        (struct kv_topic_position){kv_machine_revision(rig.machine) + 1, 0};
    assert_int_equal(kv_machine_topics_search(rig.machine, &query, &search), 1);
    assert_int_equal(search.left, 1);
    assert_int_equal(search.looked.revision, revision + 1);
    assert_int_equal(kv_machine_topics_search(rig.machine, &query, &search), 0);
    assert_int_equal(search.left, 0);
    assert_int_equal(search.found.revision, revision);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(prefixes_of_the_highest_byte_end, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_search_goes_on_where_it_ended, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
