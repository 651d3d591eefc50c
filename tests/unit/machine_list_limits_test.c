/* What lists refuse: wrong types, indexes and ends, and what is beyond a limit; nothing changes. */
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define LIST "list"
#define STRING "string"

static struct machine_rig rig;
static uint64_t state_hash;

static void push(const char *key, size_t n, size_t size)
{
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData elements[100];
    uint8_t *bytes = calloc(1, size + 1);

    for (size_t i = 0; i < n; i++) {
        elements[i] = (ProtobufCBinaryData){size, bytes};
    }
    command.key = machine_rig_bytes(key);
    command.n_elements = n;
    command.elements = elements;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    free(bytes);
}

static void set_setting(const char *name, uint64_t value)
{
    Kv__ConfigSet command = KV__CONFIG_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.name = (char *)(uintptr_t)name;
    command.value = value;
    request.command_case = KV__REQUEST__COMMAND_CONFIG_SET;
    request.config_set = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

/* A list of 150 elements, a string, and small limits. */
static int set_up(void **state)
{
    Kv__Put put = KV__PUT__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    machine_rig_open(&rig, 1);
    put.key = machine_rig_bytes(STRING);
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    push(LIST, 100, 1000);
    push(LIST, 50, 1000);
    set_setting("work-limit", 100);
    set_setting("reply-limit", 65536);
    set_setting("value-limit", 1024);
    state_hash = kv_machine_state_hash(rig.machine);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    return 0;
}

static void refuse(Kv__Request *request, Kv__Code code)
{
    machine_rig_expect(&rig, request, code);
    assert_int_equal(kv_machine_state_hash(rig.machine), state_hash);
}

static void pushes(void **state)
{
    uint8_t bytes[2048] = {0};
    ProtobufCBinaryData elements[200];
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    for (size_t i = 0; i < 200; i++) {
        elements[i] = (ProtobufCBinaryData){3, bytes};
    }
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    command.elements = elements;
    refuse(&request, KV__CODE__INVALID); /* no key */
    command.key = machine_rig_bytes(LIST);
    refuse(&request, KV__CODE__INVALID); /* no element */
    command.n_elements = 200;
    refuse(&request, KV__CODE__TOO_LARGE); /* work limit */
    command.n_elements = 1;
    command.end = (Kv__ListEnd)7;
    refuse(&request, KV__CODE__INVALID);
    command.end = KV__LIST_END__LIST_RIGHT;
    elements[0].len = 1025;
    refuse(&request, KV__CODE__TOO_LARGE);
    elements[0].len = 1024;
    command.key = machine_rig_bytes(STRING);
    refuse(&request, KV__CODE__WRONG_TYPE);
    command.key = (ProtobufCBinaryData){0, bytes};
    refuse(&request, KV__CODE__INVALID);
}

static void pops(void **state)
{
    Kv__ListPop command = KV__LIST_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    request.command_case = KV__REQUEST__COMMAND_LIST_POP;
    request.list_pop = &command;
    refuse(&request, KV__CODE__INVALID);
    command.key = machine_rig_bytes(LIST);
    command.count = UINT64_MAX;
    refuse(&request, KV__CODE__TOO_LARGE); /* work limit */
    command.count = 80;
    refuse(&request, KV__CODE__TOO_LARGE); /* the reply: what was popped is there again */
    command.count = 2;
    command.block_ms = 1;
    refuse(&request, KV__CODE__INVALID);
    command.block_ms = 0;
    command.end = (Kv__ListEnd)-1;
    refuse(&request, KV__CODE__INVALID);
    command.end = KV__LIST_END__LIST_RIGHT;
    command.key = machine_rig_bytes(STRING);
    refuse(&request, KV__CODE__WRONG_TYPE);
}

static void changes_in_the_middle(void **state)
{
    uint8_t bytes[2048] = {0};
    Kv__ListSet set = KV__LIST_SET__INIT;
    Kv__ListInsert insert = KV__LIST_INSERT__INIT;
    Kv__ListRemove removal = KV__LIST_REMOVE__INIT;
    Kv__ListTrim trim = KV__LIST_TRIM__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    set.key = insert.key = removal.key = trim.key = machine_rig_bytes(LIST);
    request.command_case = KV__REQUEST__COMMAND_LIST_SET;
    request.list_set = &set;
    set.index = 150;
    refuse(&request, KV__CODE__OUT_OF_BOUNDS);
    set.index = INT64_MIN;
    refuse(&request, KV__CODE__OUT_OF_BOUNDS);
    set.index = 0;
    set.element = (ProtobufCBinaryData){1025, bytes};
    refuse(&request, KV__CODE__TOO_LARGE);
    set.element.len = 0;
    set.key = machine_rig_bytes("absent");
    refuse(&request, KV__CODE__OUT_OF_BOUNDS);
    request.command_case = KV__REQUEST__COMMAND_LIST_INSERT;
    request.list_insert = &insert;
    refuse(&request, KV__CODE__TOO_LARGE); /* looks further than the work limit */
    insert.key = machine_rig_bytes("absent");
    refuse(&request, KV__CODE__NOT_FOUND);
    insert.element = (ProtobufCBinaryData){1025, bytes};
    refuse(&request, KV__CODE__TOO_LARGE);
    request.command_case = KV__REQUEST__COMMAND_LIST_REMOVE;
    request.list_remove = &removal;
    refuse(&request, KV__CODE__TOO_LARGE);
    removal.count = INT64_MIN;
    refuse(&request, KV__CODE__TOO_LARGE);
    removal.key = machine_rig_bytes(STRING);
    refuse(&request, KV__CODE__WRONG_TYPE);
    request.command_case = KV__REQUEST__COMMAND_LIST_TRIM;
    request.list_trim = &trim;
    trim.last = -1;
    machine_rig_expect(&rig, &request, KV__CODE__OK); /* all stay */
    assert_int_equal(kv_machine_state_hash(rig.machine), state_hash);
    trim.key = machine_rig_bytes(STRING);
    refuse(&request, KV__CODE__WRONG_TYPE);
}

/* What goes as a whole costs what stays. */
static void trims_cost_the_smaller_part(void **state)
{
    Kv__ListTrim trim = KV__LIST_TRIM__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    (void)state;
    set_setting("work-limit", 1000);
    for (unsigned i = 0; i < 6; i++) {
        push(LIST, 100, 10);
    }
    set_setting("work-limit", 100);
    state_hash = kv_machine_state_hash(rig.machine);
    trim.key = machine_rig_bytes(LIST);
    request.command_case = KV__REQUEST__COMMAND_LIST_TRIM;
    request.list_trim = &trim;
    trim.first = 200;
    trim.last = 600;
    refuse(&request, KV__CODE__TOO_LARGE);
    trim.last = 299;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->list_trim->count, 100);
    kv__reply__free_unpacked(reply, NULL);
    trim.first = trim.last = 100;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->list_trim->count, 0);
    kv__reply__free_unpacked(reply, NULL);
    machine_rig_reload(&rig);
}

static void moves(void **state)
{
    Kv__ListMove command = KV__LIST_MOVE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    request.command_case = KV__REQUEST__COMMAND_LIST_MOVE;
    request.list_move = &command;
    command.key = machine_rig_bytes(LIST);
    refuse(&request, KV__CODE__INVALID);
    command.to = machine_rig_bytes(STRING);
    refuse(&request, KV__CODE__WRONG_TYPE);
    command.to = machine_rig_bytes(LIST);
    command.from = (Kv__ListEnd)2;
    refuse(&request, KV__CODE__INVALID);
    command.from = KV__LIST_END__LIST_LEFT;
    command.to_end = (Kv__ListEnd)2;
    refuse(&request, KV__CODE__INVALID);
    command.to_end = KV__LIST_END__LIST_LEFT;
    command.key = machine_rig_bytes("absent");
    refuse(&request, KV__CODE__NOT_FOUND);
}

static void reads(void **state)
{
    Kv__ListRange range = KV__LIST_RANGE__INIT;
    Kv__ListIndex index = KV__LIST_INDEX__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    range.key = index.key = machine_rig_bytes(LIST);
    request.command_case = KV__REQUEST__COMMAND_LIST_RANGE;
    request.list_range = &range;
    range.last = -1;
    refuse(&request, KV__CODE__TOO_LARGE); /* work limit */
    range.last = 79;
    refuse(&request, KV__CODE__TOO_LARGE); /* reply limit */
    range.at_revision = 1000;
    refuse(&request, KV__CODE__FUTURE_REVISION);
    range.at_revision = -1;
    refuse(&request, KV__CODE__INVALID);
    request.command_case = KV__REQUEST__COMMAND_LIST_INDEX;
    request.list_index = &index;
    index.index = -151;
    refuse(&request, KV__CODE__OUT_OF_BOUNDS);
    index.index = INT64_MAX;
    refuse(&request, KV__CODE__OUT_OF_BOUNDS);
    index.key = machine_rig_bytes(STRING);
    refuse(&request, KV__CODE__WRONG_TYPE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pushes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(pops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(changes_in_the_middle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(trims_cost_the_smaller_part, set_up, tear_down),
        cmocka_unit_test_setup_teardown(moves, set_up, tear_down),
        cmocka_unit_test_setup_teardown(reads, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
