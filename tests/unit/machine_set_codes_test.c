/* What sets answer to bad input, with the state unchanged; and what chance does. */
#include "common/limits.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct machine_rig rig;

static int open_rig(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    return 0;
}

static int close_rig(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    return 0;
}

/* Members "m0000" and on. */
static void add_members(const char *key, unsigned n)
{
    Kv__SetAdd command = KV__SET_ADD__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    char text[16];
    ProtobufCBinaryData member;

    request.command_case = KV__REQUEST__COMMAND_SET_ADD;
    request.set_add = &command;
    command.key = machine_rig_bytes(key);
    command.n_members = 1;
    command.members = &member;
    for (unsigned i = 0; i < n; i++) {
        snprintf(text, sizeof text, "m%04u", i);
        member = machine_rig_bytes(text);
        machine_rig_expect(&rig, &request, KV__CODE__OK);
    }
}

static void names_are_checked(void **state)
{
    static uint8_t long_name[KV_KEY_BYTES_MAX + 1];
    ProtobufCBinaryData members[2] = {machine_rig_bytes("a"), machine_rig_bytes("a")};
    Kv__SetAdd add = KV__SET_ADD__INIT;
    Kv__SetRemove removal = KV__SET_REMOVE__INIT;
    Kv__SetHas has = KV__SET_HAS__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    request.command_case = KV__REQUEST__COMMAND_SET_ADD;
    request.set_add = &add;
    add.members = removal.members = has.members = members;
    add.n_members = 2;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID); /* no key */
    add.key = removal.key = has.key = machine_rig_bytes("s");
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID); /* twice */
    add.n_members = 0;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    add.n_members = 1;
    members[0].len = 0;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    members[0] = (ProtobufCBinaryData){sizeof long_name, long_name};
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);
    add.key = members[0];
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);

    request.command_case = KV__REQUEST__COMMAND_SET_REMOVE;
    request.set_remove = &removal;
    members[0] = members[1];
    removal.n_members = 2;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    request.command_case = KV__REQUEST__COMMAND_SET_HAS;
    request.set_has = &has;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID); /* none */
    has.n_members = 2;
    machine_rig_refuse(&rig, &request, KV__CODE__OK); /* a question may be asked twice */
}

static void other_types_stay_as_they_are(void **state)
{
    ProtobufCBinaryData member = machine_rig_bytes("a");
    Kv__SetAdd add = KV__SET_ADD__INIT;
    Kv__SetRemove removal = KV__SET_REMOVE__INIT;
    Kv__SetHas has = KV__SET_HAS__INIT;
    Kv__SetMembers members = KV__SET_MEMBERS__INIT;
    Kv__SetLen len = KV__SET_LEN__INIT;
    Kv__SetPop pop = KV__SET_POP__INIT;
    Kv__SetRandom random = KV__SET_RANDOM__INIT;
    Kv__SetCombine combine = KV__SET_COMBINE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    const struct {
        Kv__Request__CommandCase command;
        void *body;
    } commands[] = {
        {KV__REQUEST__COMMAND_SET_ADD, &add},
        {KV__REQUEST__COMMAND_SET_REMOVE, &removal},
        {KV__REQUEST__COMMAND_SET_HAS, &has},
        {KV__REQUEST__COMMAND_SET_MEMBERS, &members},
        {KV__REQUEST__COMMAND_SET_LEN, &len},
        {KV__REQUEST__COMMAND_SET_POP, &pop},
        {KV__REQUEST__COMMAND_SET_RANDOM, &random},
        {KV__REQUEST__COMMAND_SET_COMBINE, &combine},
    };
    ProtobufCBinaryData key = machine_rig_bytes("text");

    (void)state;
    machine_rig_put_string(&rig, "text");
    add.key = removal.key = has.key = members.key = len.key = pop.key = random.key = key;
    add.members = removal.members = has.members = &member;
    add.n_members = removal.n_members = has.n_members = 1;
    combine.keys = &key;
    combine.n_keys = 1;
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        request.command_case = commands[i].command;
        request.set_add = commands[i].body;
        machine_rig_refuse(&rig, &request, KV__CODE__WRONG_TYPE);
    }
}

static void combinations_are_checked(void **state)
{
    ProtobufCBinaryData keys[2] = {machine_rig_bytes("a"), {0}};
    static uint8_t long_name[KV_KEY_BYTES_MAX + 1];
    Kv__SetCombine command = KV__SET_COMBINE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &command;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID); /* no keys */
    command.keys = keys;
    command.n_keys = 2;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID); /* an empty one */
    command.n_keys = 1;
    command.combination = (Kv__Combination)3;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    command.combination = KV__COMBINATION__COMBINE_UNION;
    command.at_revision = 1000;
    machine_rig_refuse(&rig, &request, KV__CODE__FUTURE_REVISION);
    command.at_revision = -1;
    machine_rig_refuse(&rig, &request, KV__CODE__INVALID);
    command.at_revision = 0;
    command.store = (ProtobufCBinaryData){sizeof long_name, long_name};
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);
    command.store = machine_rig_bytes("nothing");
    machine_rig_refuse(&rig, &request, KV__CODE__OK); /* nothing in place of nothing */
}

/* A store takes the place of any type, and of nothing deletes it. */
static void stores_overwrite(void **state)
{
    ProtobufCBinaryData key = machine_rig_bytes("s");
    Kv__SetCombine command = KV__SET_COMBINE__INIT;
    Kv__SetLen len = KV__SET_LEN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    (void)state;
    add_members("s", 3);
    machine_rig_put_string(&rig, "text");
    machine_rig_put_string(&rig, "gone");
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &command;
    command.keys = &key;
    command.n_keys = 1;
    command.store = machine_rig_bytes("text");
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    key = machine_rig_bytes("absent");
    command.store = machine_rig_bytes("gone");
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    request.command_case = KV__REQUEST__COMMAND_SET_LEN;
    request.set_len = &len;
    len.key = machine_rig_bytes("text");
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->set_len->count, 3);
    kv__reply__free_unpacked(reply, NULL);
    len.key = machine_rig_bytes("gone");
    machine_rig_expect(&rig, &request, KV__CODE__OK); /* not of another type any more */
}

static void work_and_replies_are_limited(void **state)
{
    static uint8_t members[20][KV_KEY_BYTES_MAX];
    ProtobufCBinaryData bytes[20];
    Kv__SetAdd add = KV__SET_ADD__INIT;
    Kv__SetPop pop = KV__SET_POP__INIT;
    Kv__SetRandom random = KV__SET_RANDOM__INIT;
    Kv__SetCombine combine = KV__SET_COMBINE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData key = machine_rig_bytes("s");

    (void)state;
    machine_rig_set(&rig, "work-limit", 100);
    add_members("s", 101);
    request.command_case = KV__REQUEST__COMMAND_SET_POP;
    request.set_pop = &pop;
    pop.key = random.key = combine.store = key;
    pop.count = random.count = 101;
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);
    request.command_case = KV__REQUEST__COMMAND_SET_RANDOM;
    request.set_random = &random;
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &combine;
    combine.keys = &key;
    combine.n_keys = 1;
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);

    machine_rig_set(&rig, "reply-limit", 64 * KV_KIB);
    for (unsigned i = 0; i < 20; i++) {
        members[i][0] = (uint8_t)i;
        bytes[i] = (ProtobufCBinaryData){KV_KEY_BYTES_MAX, members[i]};
    }
    request.command_case = KV__REQUEST__COMMAND_SET_ADD;
    request.set_add = &add;
    add.key = pop.key = random.key = key = machine_rig_bytes("long");
    add.members = bytes;
    add.n_members = 20;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    pop.count = 20;
    request.command_case = KV__REQUEST__COMMAND_SET_POP;
    request.set_pop = &pop;
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &combine;
    combine.store.len = 0;
    machine_rig_refuse(&rig, &request, KV__CODE__TOO_LARGE);
    pop.count = 10;
    request.command_case = KV__REQUEST__COMMAND_SET_POP;
    request.set_pop = &pop;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

/* Two machines with the same log pop the same; reads in between, which choose anew each time, are
 * nothing to it. */
static void chance_is_the_same_on_every_node(void **state)
{
    struct machine_rig other;
    Kv__SetPop pop = KV__SET_POP__INIT;
    Kv__SetRandom random = KV__SET_RANDOM__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    struct machine_rig first;
    unsigned different = 0;

    (void)state;
    add_members("s", 300);
    first = rig;
    machine_rig_open(&rig, 1);
    add_members("s", 300);
    other = rig;
    rig = first;
    pop.key = random.key = machine_rig_bytes("s");
    for (unsigned i = 0; i < 50; i++) {
        Kv__Reply *a, *b;

        request.command_case = KV__REQUEST__COMMAND_SET_RANDOM;
        request.set_random = &random;
        a = machine_rig_read(&rig, &request);
        b = machine_rig_read(&rig, &request);
        different +=
            memcmp(a->set_random->elements[0].data, b->set_random->elements[0].data, 5) != 0;
        kv__reply__free_unpacked(a, NULL);
        kv__reply__free_unpacked(b, NULL);
        request.command_case = KV__REQUEST__COMMAND_SET_POP;
        request.set_pop = &pop;
        pop.count = i % 7;
        a = machine_rig_write(&rig, &request);
        b = machine_rig_write(&other, &request);
        assert_int_equal(a->set_pop->n_elements, b->set_pop->n_elements);
        for (size_t j = 0; j < a->set_pop->n_elements; j++) {
            assert_memory_equal(a->set_pop->elements[j].data, b->set_pop->elements[j].data, 5);
        }
        kv__reply__free_unpacked(a, NULL);
        kv__reply__free_unpacked(b, NULL);
        assert_int_equal(kv_machine_state_hash(rig.machine), kv_machine_state_hash(other.machine));
    }
    assert_true(different > 40);
    machine_rig_close(&other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_are_checked, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(other_types_stay_as_they_are, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(combinations_are_checked, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(stores_overwrite, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(work_and_replies_are_limited, open_rig, close_rig),
        cmocka_unit_test_setup_teardown(chance_is_the_same_on_every_node, open_rig, close_rig),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
