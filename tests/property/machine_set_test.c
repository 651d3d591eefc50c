/* Random commands on sets against arrays, with the state of every revision kept: small and large
 * forms, combinations and what they store, reads at revisions, failed commands, snapshots,
 * forgotten history. */
#include "common/limits.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 4, MEMBERS = 400, STEPS = 400, REVISIONS_MAX = STEPS + 4, BATCH_MAX = 120 };

struct model_set {
    bool has[MEMBERS];
};
static struct model_set states[REVISIONS_MAX][KEYS];
static int64_t revision;
static struct machine_rig rig;
static unsigned n_members; /* of this run: few keep sets small */

static ProtobufCBinaryData key_bytes(unsigned key)
{
    static const char *const texts[KEYS] = {"set/a", "set/b", "set/c", "set/d"};

    return machine_rig_bytes(texts[key]);
}

/* In the order of their numbers; some are long. */
static ProtobufCBinaryData member_bytes(unsigned member)
{
    static char texts[MEMBERS][192];

    snprintf(
        texts[member], sizeof texts[member], "m%03u%0*u", member, member % 31 ? 3 : 150, member);
    return machine_rig_bytes(texts[member]);
}

static unsigned member_of(ProtobufCBinaryData bytes)
{
    unsigned member = 0;

    assert_true(bytes.len > 4);
    for (unsigned i = 1; i < 4; i++) {
        member = member * 10 + (unsigned)(bytes.data[i] - '0');
    }
    assert_true(member < MEMBERS);
    assert_int_equal(bytes.len, member_bytes(member).len);
    assert_memory_equal(bytes.data, member_bytes(member).data, bytes.len);
    return member;
}

static unsigned choose(unsigned below)
{
    return (unsigned)machine_rig_random(&rig, below);
}

static struct model_set *next_state(unsigned key)
{
    memcpy(states[revision + 1], states[revision], sizeof states[0]);
    return &states[revision + 1][key];
}

static unsigned length(const struct model_set *set)
{
    unsigned n = 0;

    for (unsigned i = 0; i < MEMBERS; i++) {
        n += set->has[i];
    }
    return n;
}

/* Different members in no order. */
static unsigned some_members(unsigned numbers[BATCH_MAX], ProtobufCBinaryData bytes[BATCH_MAX])
{
    unsigned n = 1 + choose(choose(6) ? 4 : BATCH_MAX - 1);
    unsigned first = choose(n_members);

    n = n > n_members ? n_members : n;
    for (unsigned i = 0; i < n; i++) {
        numbers[i] = (first + i * 7) % n_members; /* 7 divides none of their numbers */
        bytes[i] = member_bytes(numbers[i]);
    }
    return n;
}

/* Consumes the reply. */
static void expect_count(Kv__Reply *reply, const Kv__CountResult *result, unsigned count)
{
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(result->count, count);
    revision += count > 0;
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

static void add(void)
{
    unsigned key = choose(KEYS);
    struct model_set *set = next_state(key);
    unsigned numbers[BATCH_MAX];
    ProtobufCBinaryData bytes[BATCH_MAX];
    Kv__SetAdd command = KV__SET_ADD__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned added = 0;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.n_members = some_members(numbers, bytes);
    command.members = bytes;
    for (unsigned i = 0; i < command.n_members; i++) {
        added += !set->has[numbers[i]];
        set->has[numbers[i]] = true;
    }
    request.command_case = KV__REQUEST__COMMAND_SET_ADD;
    request.set_add = &command;
    reply = machine_rig_write(&rig, &request);
    expect_count(reply, reply->set_add, added);
}

static void take_out(void)
{
    unsigned key = choose(KEYS);
    struct model_set *set = next_state(key);
    unsigned numbers[BATCH_MAX];
    ProtobufCBinaryData bytes[BATCH_MAX];
    Kv__SetRemove command = KV__SET_REMOVE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned removed = 0;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.n_members = some_members(numbers, bytes);
    command.members = bytes;
    for (unsigned i = 0; i < command.n_members; i++) {
        removed += set->has[numbers[i]];
        set->has[numbers[i]] = false;
    }
    request.command_case = KV__REQUEST__COMMAND_SET_REMOVE;
    request.set_remove = &command;
    reply = machine_rig_write(&rig, &request);
    expect_count(reply, reply->set_remove, removed);
}

/* Different members of the set, in order. */
static void
expect_some_of(const struct model_set *set, const Kv__ElementsResult *result, uint64_t n)
{
    unsigned all = length(set);

    n = n == 0 ? 1 : n;
    assert_int_equal(result->n_elements, n < all ? n : all);
    for (size_t i = 0; i < result->n_elements; i++) {
        unsigned member = member_of(result->elements[i]);

        assert_true(set->has[member]);
        assert_true(i == 0 || member_of(result->elements[i - 1]) < member);
    }
}

static void pop(void)
{
    unsigned key = choose(KEYS);
    struct model_set *set = next_state(key);
    Kv__SetPop command = KV__SET_POP__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.count = choose(choose(8) ? 5 : 2 * MEMBERS);
    request.command_case = KV__REQUEST__COMMAND_SET_POP;
    request.set_pop = &command;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    expect_some_of(set, reply->set_pop, command.count);
    for (size_t i = 0; i < reply->set_pop->n_elements; i++) {
        set->has[member_of(reply->set_pop->elements[i])] = false;
    }
    revision += reply->set_pop->n_elements > 0;
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

static void random_members(void)
{
    unsigned key = choose(KEYS);
    Kv__SetRandom command = KV__SET_RANDOM__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.count = choose(choose(3) ? 8 : 2 * MEMBERS);
    request.command_case = KV__REQUEST__COMMAND_SET_RANDOM;
    request.set_random = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    expect_some_of(&states[revision][key], reply->set_random, command.count);
    kv__reply__free_unpacked(reply, NULL);
}

static struct model_set
combine(int64_t at, Kv__Combination combination, const unsigned *keys, unsigned n)
{
    struct model_set result = states[at][keys[0]];

    for (unsigned i = 1; i < n; i++) {
        for (unsigned member = 0; member < MEMBERS; member++) {
            bool has = states[at][keys[i]].has[member];

            if (combination == KV__COMBINATION__COMBINE_UNION) {
                result.has[member] = result.has[member] || has;
            } else {
                result.has[member] = result.has[member] &&
                                     has == (combination == KV__COMBINATION__COMBINE_INTERSECTION);
            }
        }
    }
    return result;
}

static void expect_all_of(const struct model_set *set, const Kv__ElementsResult *result)
{
    assert_int_equal(result->n_elements, length(set));
    if (result->n_elements > 0) {
        expect_some_of(set, result, result->n_elements);
    }
}

static void combination(void)
{
    static const Kv__Combination combinations[] = {KV__COMBINATION__COMBINE_UNION,
                                                   KV__COMBINATION__COMBINE_INTERSECTION,
                                                   KV__COMBINATION__COMBINE_DIFFERENCE};
    unsigned keys[3] = {choose(KEYS), choose(KEYS), choose(KEYS)};
    unsigned target = choose(KEYS);
    ProtobufCBinaryData bytes[3] = {key_bytes(keys[0]), key_bytes(keys[1]), key_bytes(keys[2])};
    Kv__SetCombine command = KV__SET_COMBINE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    int64_t at = kv_machine_oldest_revision(rig.machine);
    struct model_set result;
    Kv__Reply *reply;

    at += (int64_t)machine_rig_random(&rig, (uint64_t)(revision - at) + 1);
    command.combination = combinations[choose(3)];
    command.n_keys = 1 + choose(3);
    command.keys = bytes;
    command.at_revision = choose(2) ? at : 0;
    result = combine(
        command.at_revision ? at : revision, command.combination, keys, (unsigned)command.n_keys);
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &command;
    assert_int_equal(kv_command_classify(&request), KV_COMMAND_READ);
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    expect_all_of(&result, reply->set_combine);
    kv__reply__free_unpacked(reply, NULL);

    command.store = key_bytes(target);
    assert_int_equal(kv_command_classify(&request), KV_COMMAND_WRITE);
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->set_combine->n_elements, 0);
    assert_int_equal(reply->set_combine->stored, length(&result));
    *next_state(target) = result;
    revision += length(&result) > 0 || length(&states[revision][target]) > 0;
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

/* A command that fails midway changes nothing: the last key holds a string. */
static void fail_midway(void)
{
    ProtobufCBinaryData keys[2] = {key_bytes(0), machine_rig_bytes("string")};
    Kv__SetCombine command = KV__SET_COMBINE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.n_keys = 2;
    command.keys = keys;
    command.store = key_bytes(1);
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &command;
    machine_rig_refuse(&rig, &request, KV__CODE__WRONG_TYPE);
}

static void check_has(unsigned key, int64_t at)
{
    unsigned numbers[BATCH_MAX];
    ProtobufCBinaryData bytes[BATCH_MAX];
    Kv__SetHas command = KV__SET_HAS__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.n_members = some_members(numbers, bytes);
    command.members = bytes;
    command.at_revision = at;
    request.command_case = KV__REQUEST__COMMAND_SET_HAS;
    request.set_has = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->set_has->n_present, command.n_members);
    for (unsigned i = 0; i < command.n_members; i++) {
        assert_int_equal(reply->set_has->present[i], states[at][key].has[numbers[i]]);
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void check_len(unsigned key, int64_t at)
{
    Kv__SetLen command = KV__SET_LEN__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;

    command.key = key_bytes(key);
    command.at_revision = at;
    request.command_case = KV__REQUEST__COMMAND_SET_LEN;
    request.set_len = &command;
    reply = machine_rig_read(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->set_len->count, length(&states[at][key]));
    kv__reply__free_unpacked(reply, NULL);
}

/* All members, in pieces of some size. */
static void check_members(unsigned key, int64_t at)
{
    const struct model_set *set = &states[at][key];
    Kv__SetMembers command = KV__SET_MEMBERS__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    unsigned member = 0, seen = 0;
    uint8_t cursor[256];
    bool more = true;

    command.key = key_bytes(key);
    command.at_revision = at;
    command.limit = choose(2) ? 0 : 1 + choose(MEMBERS);
    request.command_case = KV__REQUEST__COMMAND_SET_MEMBERS;
    request.set_members = &command;
    while (more) {
        Kv__Reply *reply = machine_rig_read(&rig, &request);
        const Kv__ElementsResult *result = reply->set_members;

        assert_int_equal(reply->code, KV__CODE__OK);
        for (size_t i = 0; i < result->n_elements; i++, member++, seen++) {
            while (member < MEMBERS && !set->has[member]) {
                member++;
            }
            assert_int_equal(member_of(result->elements[i]), member);
        }
        more = result->more;
        assert_true(!more || result->n_elements == command.limit);
        if (more) {
            memcpy(cursor, result->cursor.data, result->cursor.len);
        }
        command.cursor = (ProtobufCBinaryData){result->cursor.len, cursor};
        kv__reply__free_unpacked(reply, NULL);
    }
    assert_int_equal(seen, length(set));
}

static void check_state(int64_t at)
{
    for (unsigned key = 0; key < KEYS; key++) {
        Kv__SetLen command = KV__SET_LEN__INIT;
        Kv__Request request = KV__REQUEST__INIT;

        if (at >= kv_machine_oldest_revision(rig.machine)) {
            check_has(key, at);
            check_len(key, at);
            check_members(key, at);
            continue;
        }
        command.key = key_bytes(key);
        command.at_revision = at;
        request.command_case = KV__REQUEST__COMMAND_SET_LEN;
        request.set_len = &command;
        machine_rig_expect(&rig, &request, KV__CODE__COMPACTED);
    }
}

static void step(void)
{
    static void (*const steps[])(void) = {
        add, add, add, add, add, take_out, take_out, pop, random_members, combination, fail_midway};

    steps[choose(sizeof steps / sizeof steps[0])]();
}

static void run(uint64_t seed)
{
    machine_rig_open(&rig, seed);
    memset(states[1], 0, sizeof states[1]);
    memset(states[2], 0, sizeof states[2]);
    machine_rig_put_string(&rig, "string");
    revision = kv_machine_revision(rig.machine);
    n_members = seed % 3 == 0 ? 12 : seed % 3 == 1 ? 150 : MEMBERS;
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        check_state(1 + (int64_t)machine_rig_random(&rig, (uint64_t)revision));
        check_state(revision);
        if (choose(40) == 0) {
            machine_rig_reload(&rig);
        }
        if (seed % 2 == 0 && choose(30) == 0) {
            machine_rig_pass_time(&rig, 400000);
        }
    }
    for (int64_t at = 1; at <= revision; at++) {
        check_state(at);
    }
    machine_rig_close(&rig);
}

static void sets_do_what_arrays_do(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_do_what_arrays_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
