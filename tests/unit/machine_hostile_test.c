/* Commands that are sound in themselves and ask for much more than they seem to: each ends with an
 * answer, in bounded memory and time. */
#include "common/limits.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { MEMBERS_PER_CALL = 3000 };

static struct machine_rig rig;
static struct kv_arena arena;

static int set_up(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    kv_arena_init(&arena, 256 * KV_MIB);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    kv_arena_deinit(&arena);
    return 0;
}

static void expect(Kv__Request *request, Kv__Code code)
{
    machine_rig_expect(&rig, request, code);
}

/* KV_TOO_LARGE with this limit; nothing changes. */
static void refuse(Kv__Request *request, const char *limit)
{
    uint64_t hash = kv_machine_state_hash(rig.machine);
    Kv__Reply *reply = kv_command_classify(request) == KV_COMMAND_READ
                           ? machine_rig_read(&rig, request)
                           : machine_rig_write(&rig, request);

    assert_int_equal(reply->code, KV__CODE__TOO_LARGE);
    assert_string_equal(reply->hint->limit, limit);
    assert_int_equal(kv_machine_state_hash(rig.machine), hash);
    kv__reply__free_unpacked(reply, NULL);
}

/* ---------------------------------------------------------------- ranges */

static void empty_ranges_are_work(void **state)
{
    Kv__KeyRange *ranges[101];
    Kv__Request *request = call_delete_prefix(&arena, "nothing");

    (void)state;
    expect(call_config_set(&arena, "work-limit", 100), KV__CODE__OK);
    for (unsigned i = 0; i < 101; i++) {
        ranges[i] = request->delete_->ranges[0];
    }
    request->delete_->ranges = ranges;
    request->delete_->n_ranges = 100;
    expect(request, KV__CODE__OK);
    request->delete_->n_ranges = 101;
    refuse(request, "work-limit");
}

/* Keys that were deleted are no work for who reads what there is now, from either end. */
static void the_dead_are_stepped_over(void **state)
{
    Kv__Request *range = call_range(&arena, "key", 0);
    char key[16];

    (void)state;
    for (unsigned i = 0; i < 301; i++) {
        (void)snprintf(key, sizeof key, "key%03u", i);
        expect(call_put(&arena, key, ""), KV__CODE__OK);
    }
    for (unsigned i = 0; i < 301; i++) {
        (void)snprintf(key, sizeof key, "key%03u", i);
        expect(call_delete(&arena, key, false), KV__CODE__OK);
    }
    expect(call_put(&arena, "key150", ""), KV__CODE__OK);
    expect(call_config_set(&arena, "work-limit", 100), KV__CODE__OK);
    range->range->limit = 1;
    for (unsigned descending = 0; descending < 2; descending++) {
        Kv__Reply *reply;

        range->range->descending = descending;
        reply = machine_rig_read(&rig, range);
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->range->n_kvs, 1);
        assert_memory_equal(reply->range->kvs[0]->key.data, "key150", 6);
        assert_false(reply->range->more);
        kv__reply__free_unpacked(reply, NULL);
    }
}

/* ---------------------------------------------------------------- versions */

/* A read of the past passes over each version that came later. */
static void old_versions_are_work(void **state)
{
    Kv__Request *exists = call_exists(&arena, "key", 2);
    ProtobufCBinaryData keys[2] = {machine_rig_bytes("key"), machine_rig_bytes("key")};
    Kv__Request *txn = call_txn(&arena);

    (void)state;
    rig.checks = false;
    for (unsigned i = 0; i < 80 * KV_VERSIONS_PER_ELEMENT; i++) {
        expect(call_counter_add(&arena, "key", 1), KV__CODE__OK);
    }
    expect(call_config_set(&arena, "work-limit", 100), KV__CODE__OK);
    expect(exists, KV__CODE__OK);
    exists->exists->n_keys = 2;
    exists->exists->keys = keys;
    refuse(exists, "work-limit");
    call_then(&arena, txn, call_counter_get(&arena, "key", 2));
    expect(txn, KV__CODE__OK);
    call_then(&arena, txn, call_range(&arena, "key", 2));
    refuse(txn, "work-limit");
}

static void old_versions_of_elements_are_work(void **state)
{
    Kv__HashGet get = KV__HASH_GET__INIT;
    Kv__HashExists exists = KV__HASH_EXISTS__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData fields[3] = {
        machine_rig_bytes("f000"), machine_rig_bytes("f000"), machine_rig_bytes("f000")};
    int64_t revision;

    (void)state;
    rig.checks = false;
    expect(call_hash_set(&arena, "hash", 0, KV_INLINE_ELEMENTS_MAX + 2, "x"), KV__CODE__OK);
    revision = kv_machine_revision(rig.machine);
    for (unsigned i = 0; i < 40 * KV_VERSIONS_PER_ELEMENT; i++) {
        expect(call_hash_set(&arena, "hash", 0, 1, "y"), KV__CODE__OK);
    }
    expect(call_config_set(&arena, "work-limit", 100), KV__CODE__OK);
    get.key = exists.key = machine_rig_bytes("hash");
    get.at_revision = exists.at_revision = revision;
    get.fields = exists.fields = fields;
    get.n_fields = exists.n_fields = 1; /* the versions of the key and those of one field */
    request.command_case = KV__REQUEST__COMMAND_HASH_GET;
    request.hash_get = &get;
    expect(&request, KV__CODE__OK);
    get.n_fields = exists.n_fields = 3;
    refuse(&request, "work-limit");
    request.command_case = KV__REQUEST__COMMAND_HASH_EXISTS;
    request.hash_exists = &exists;
    refuse(&request, "work-limit");
}

/* ---------------------------------------------------------------- copies */

/* Elements of the largest size that there is. */
static void push(unsigned n)
{
    ProtobufCBinaryData element = {KV_VALUE_BYTES_MAX, calloc(1, KV_VALUE_BYTES_MAX)};
    Kv__ListPush command = KV__LIST_PUSH__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    command.key = machine_rig_bytes("list");
    command.n_elements = 1;
    command.elements = &element;
    request.command_case = KV__REQUEST__COMMAND_LIST_PUSH;
    request.list_push = &command;
    for (unsigned i = 0; i < n; i++) {
        expect(&request, KV__CODE__OK);
    }
    free(element.data);
}

/* What stays of a list is copied when it is less than what goes, but not when it is large: a
 * transaction tells, since it counts what it has written. */
static void a_trim_copies_little(void **state)
{
    const unsigned kept = KV_COMMAND_WRITTEN_BYTES_MAX / KV_VALUE_BYTES_MAX;
    Kv__ListTrim command = KV__LIST_TRIM__INIT;
    Kv__Request *trim = call_get(&arena, "list", 0);
    Kv__Request *txn = call_then(&arena, call_txn(&arena), trim);

    (void)state;
    rig.checks = false;
    expect(call_config_set(&arena, "value-limit", KV_VALUE_BYTES_MAX), KV__CODE__OK);
    push(2 * kept + 1);
    command.key = machine_rig_bytes("list");
    command.first = 1;
    command.last = kept;
    trim->command_case = KV__REQUEST__COMMAND_LIST_TRIM;
    trim->list_trim = &command;
    expect(txn, KV__CODE__OK);
    kv_machine_check_invariants(rig.machine);
    command.last = 1;
    expect(txn, KV__CODE__OK);
    kv_machine_check_invariants(rig.machine);
    machine_rig_reload(&rig);
}

/* A set, or a sorted set, of n members of the greatest length. */
static void add_members(const char *key, unsigned n, bool has_scores)
{
    ProtobufCBinaryData *members = calloc(n, sizeof *members);
    Kv__ZSetMember *scored = calloc(n, sizeof *scored);
    Kv__ZSetMember **pointers = calloc(n, sizeof(Kv__ZSetMember *));
    uint8_t *bytes = calloc(n, KV_KEY_BYTES_MAX);
    Kv__SetAdd add = KV__SET_ADD__INIT;
    Kv__ZSetAdd zadd = KV__ZSET_ADD__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    for (unsigned i = 0; i < n; i++) {
        members[i] = (ProtobufCBinaryData){KV_KEY_BYTES_MAX, bytes + (size_t)i * KV_KEY_BYTES_MAX};
        (void)snprintf((char *)members[i].data, 16, "%u", i);
        kv__zset_member__init(&scored[i]);
        scored[i].member = members[i];
        pointers[i] = &scored[i];
    }
    add.key = zadd.key = machine_rig_bytes(key);
    for (unsigned i = 0; i < n; i += MEMBERS_PER_CALL) {
        add.n_members = zadd.n_members = n - i < MEMBERS_PER_CALL ? n - i : MEMBERS_PER_CALL;
        add.members = members + i;
        zadd.members = pointers + i;
        request.command_case =
            has_scores ? KV__REQUEST__COMMAND_ZSET_ADD : KV__REQUEST__COMMAND_SET_ADD;
        if (has_scores) {
            request.zset_add = &zadd;
        } else {
            request.set_add = &add;
        }
        expect(&request, KV__CODE__OK);
    }
    free(bytes);
    free(pointers);
    free(scored);
    free(members);
}

static void a_stored_set_is_bounded(void **state)
{
    Kv__SetCombine command = KV__SET_COMBINE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData key = machine_rig_bytes("source");

    (void)state;
    rig.checks = false;
    add_members("source", KV_COMMAND_WRITTEN_BYTES_MAX / KV_KEY_BYTES_MAX, false);
    command.n_keys = 1;
    command.keys = &key;
    command.store = machine_rig_bytes("stored");
    request.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request.set_combine = &command;
    refuse(&request, "written-bytes");
    kv_machine_check_invariants(rig.machine);
}

static void a_stored_sorted_set_is_bounded(void **state)
{
    Kv__ZSetCombine command = KV__ZSET_COMBINE__INIT;
    Kv__ZSetRemoveRange removal = KV__ZSET_REMOVE_RANGE__INIT;
    Kv__ZSetSpan span = KV__ZSET_SPAN__INIT;
    Kv__ZSetSpan__Ranks ranks = KV__ZSET_SPAN__RANKS__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData key = machine_rig_bytes("source");

    (void)state;
    rig.checks = false;
    add_members("source", KV_COMMAND_WRITTEN_BYTES_MAX / KV_KEY_BYTES_MAX + 1, true);
    command.n_keys = 1;
    command.keys = &key;
    command.store = machine_rig_bytes("stored");
    request.command_case = KV__REQUEST__COMMAND_ZSET_COMBINE;
    request.zset_combine = &command;
    refuse(&request, "written-bytes");
    /* Each that goes leaves its name. */
    removal.key = key;
    removal.span = &span;
    span.span_case = KV__ZSET_SPAN__SPAN_RANKS;
    span.ranks = &ranks;
    ranks.first = 1;
    ranks.last = -1;
    request.command_case = KV__REQUEST__COMMAND_ZSET_REMOVE_RANGE;
    request.zset_remove_range = &removal;
    refuse(&request, "written-bytes");
    ranks.first = 0;
    expect(&request, KV__CODE__OK);
    kv_machine_check_invariants(rig.machine);
}

/* ---------------------------------------------------------------- what was taken back */

/* A transaction is refused for room after all of it was run: its answers told of records that are
 * gone by then. */
static void what_was_taken_back_is_not_told(void **state)
{
    Kv__Request *txn = call_txn(&arena);
    Kv__Reply *reply;

    (void)state;
    expect(call_config_set(&arena, "data-limit", 100), KV__CODE__OK);
    call_then(&arena, txn, call_put(&arena, "key", "a value of more than a hundred bytes in all"));
    call_then(&arena, txn, call_put(&arena, "other", "and another one"));
    call_then(&arena, txn, call_get(&arena, "key", 0));
    reply = machine_rig_write(&rig, txn);
    assert_int_equal(reply->code, KV__CODE__NO_SPACE);
    assert_string_equal(reply->hint->limit, "data-limit");
    assert_int_equal(reply->result_case, KV__REPLY__RESULT__NOT_SET);
    kv__reply__free_unpacked(reply, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(empty_ranges_are_work, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_dead_are_stepped_over, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_versions_are_work, set_up, tear_down),
        cmocka_unit_test_setup_teardown(old_versions_of_elements_are_work, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_trim_copies_little, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stored_set_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_stored_sorted_set_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_was_taken_back_is_not_told, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
