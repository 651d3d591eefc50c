/* type, rename, copy and touch on keys of every type that there is, in both forms. */
#include "common/limits.h"
#include "server/machine/collection.h"
#include "server/machine/zset_index.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct machine_rig rig;
static struct kv_arena arena;

static int set_up(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    kv_arena_init(&arena, 64 * KV_MIB);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    machine_rig_close(&rig);
    kv_arena_deinit(&arena);
    return 0;
}

static Kv__Reply *ask(Kv__Request *request)
{
    return kv_command_classify(request) == KV_COMMAND_READ ? machine_rig_read(&rig, request)
                                                           : machine_rig_write(&rig, request);
}

static void expect(Kv__Request *request, Kv__Code code)
{
    machine_rig_expect(&rig, request, code);
}

/* No command makes sorted sets here: their elements and index are made by hand. */
static void make_zset(const char *key, unsigned n)
{
    struct kv_machine *machine = rig.machine;
    struct kv_collection set;

    assert_int_equal(kv_machine_begin(machine, ++rig.log_index, 1, rig.cluster_time_ms), 0);
    kv_collection_create(machine, kv_slice_str(key), KV_TYPE_ZSET, &set);
    (void)kv_collection_enlarge(&set);
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        uint8_t score[8];

        (void)snprintf(name, sizeof name, "m%u", i);
        kv_put_u64(score, kv_score_bits(i % 7));
        (void)kv_element_put(&set, kv_slice_str(name), kv_slice_of(score, sizeof score));
        kv_zset_index_put(machine, kv_element_find(&set, kv_slice_str(name)));
    }
    kv_collection_commit(&set);
    machine->revision++;
    machine->changed = false;
    machine->entry_changed = true;
    kv_machine_end(machine);
    kv_machine_check_invariants(machine);
}

static const char *const keys[] = {"string", "counter", "small", "large", "zset"};
enum { N_KEYS = sizeof keys / sizeof keys[0] };

static void make_keys(void)
{
    expect(call_put(&arena, "string", "value"), KV__CODE__OK);
    expect(call_counter_set(&arena, "counter", -7), KV__CODE__OK);
    expect(call_hash_set(&arena, "small", 0, 3, "x"), KV__CODE__OK);
    expect(call_hash_set(&arena, "large", 0, 300, "y"), KV__CODE__OK);
    make_zset("zset", 200);
}

static Kv__Type type_at(const char *key, int64_t revision)
{
    Kv__Reply *reply = ask(call_type(&arena, key, revision));
    Kv__Type type;

    assert_int_equal(reply->code, KV__CODE__OK);
    type = reply->type->type;
    kv__reply__free_unpacked(reply, NULL);
    return type;
}

/* All that can be told of a key's content, in one text. */
static void describe(const char *key, char text[512])
{
    const struct kv_record *record = kv_keyspace_get(rig.machine, kv_slice_str(key));

    assert_non_null(record);
    if (record->is_large) {
        const struct kv_large large = kv_record_large(record);

        (void)snprintf(text, 512, "%d %llu", record->type, (unsigned long long)large.count);
        return;
    }
    (void)snprintf(text,
                   512,
                   "%d %.*s",
                   record->type,
                   (int)record->value_size,
                   (const char *)kv_record_value(record).data);
}

static void type_of_every_key(void **state)
{
    (void)state;
    assert_int_equal(type_at("string", 0), KV__TYPE__TYPE_NONE);
    make_keys();
    assert_int_equal(type_at("string", 0), KV__TYPE__TYPE_STRING);
    assert_int_equal(type_at("counter", 0), KV__TYPE__TYPE_COUNTER);
    assert_int_equal(type_at("small", 0), KV__TYPE__TYPE_HASH);
    assert_int_equal(type_at("large", 0), KV__TYPE__TYPE_HASH);
    assert_int_equal(type_at("zset", 0), KV__TYPE__TYPE_ZSET);
    assert_int_equal(type_at("zset", 1), KV__TYPE__TYPE_NONE);
    expect(call_type(&arena, "zset", 99), KV__CODE__FUTURE_REVISION);
    expect(call_type(&arena, "", 0), KV__CODE__INVALID);
}

static void wrong_names(void **state)
{
    Kv__Reply *reply;

    (void)state;
    make_keys();
    reply = ask(call_rename(&arena, "string", "", false));
    assert_int_equal(reply->code, KV__CODE__INVALID);
    assert_non_null(strstr(reply->message, "new name"));
    kv__reply__free_unpacked(reply, NULL);
    expect(call_rename(&arena, "absent", "string", false), KV__CODE__NOT_FOUND);
    expect(call_copy(&arena, "absent", "string", true), KV__CODE__NOT_FOUND);
    expect(call_rename(&arena, "absent", "absent", false), KV__CODE__NOT_FOUND);
    expect(call_copy(&arena, "", "string", true), KV__CODE__INVALID);
    expect(call_touch(&arena, ""), KV__CODE__INVALID);
}

static void to_itself_there_is_nothing_to_do(void **state)
{
    int64_t revision;

    (void)state;
    make_keys();
    revision = kv_machine_revision(rig.machine);
    for (unsigned i = 0; i < N_KEYS; i++) {
        Kv__Reply *reply = ask(call_rename(&arena, keys[i], keys[i], false));

        assert_int_equal(reply->code, KV__CODE__OK);
        assert_false(reply->rename->done);
        kv__reply__free_unpacked(reply, NULL);
        reply = ask(call_copy(&arena, keys[i], keys[i], false));
        assert_false(reply->copy->done);
        kv__reply__free_unpacked(reply, NULL);
        expect(call_rename(&arena, keys[i], keys[i], true), KV__CODE__EXISTS);
        expect(call_copy(&arena, keys[i], keys[i], true), KV__CODE__EXISTS);
    }
    assert_int_equal(kv_machine_revision(rig.machine), revision);
}

/* Every type over every type, with what was there before still readable. */
static void rename_and_copy_over_every_type(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2 * N_KEYS * N_KEYS; i++) {
        const char *key = keys[i / 2 % N_KEYS];
        const char *to = keys[i / 2 / N_KEYS];
        bool is_copy = i % 2 == 0;
        char before[512], after[512];
        Kv__Type type;
        int64_t revision;

        if (key == to) {
            continue;
        }
        make_keys();
        describe(key, before);
        type = type_at(to, 0);
        revision = kv_machine_revision(rig.machine);
        expect(is_copy ? call_copy(&arena, key, to, true) : call_rename(&arena, key, to, true),
               KV__CODE__EXISTS);
        expect(is_copy ? call_copy(&arena, key, to, false) : call_rename(&arena, key, to, false),
               KV__CODE__OK);
        assert_int_equal(kv_machine_revision(rig.machine), revision + 1);
        describe(to, after);
        assert_string_equal(before, after);
        assert_int_equal(type_at(to, revision), type);
        assert_int_equal(type_at(key, 0) == KV__TYPE__TYPE_NONE, !is_copy);
        machine_rig_reload(&rig);
        expect(call_delete_prefix(&arena, ""), KV__CODE__OK);
        machine_rig_pass_time(&rig, 700000);
        while (kv_machine_reclaim(rig.machine)) {
        }
        assert_int_equal(kv_tree_count(&rig.machine->elements), 0);
        assert_int_equal(kv_tree_count(&rig.machine->scores), 0);
        kv_arena_reset(&arena);
    }
}

static void a_copy_is_its_own(void **state)
{
    Kv__Reply *reply;

    (void)state;
    make_keys();
    expect(call_copy(&arena, "large", "other", true), KV__CODE__OK);
    expect(call_hash_delete(&arena, "large", 0, 299), KV__CODE__OK);
    reply = ask(call_hash_get_all(&arena, "other", 0));
    assert_int_equal(reply->hash_get_all->n_fields, 300);
    kv__reply__free_unpacked(reply, NULL);
    expect(call_delete(&arena, "large", false), KV__CODE__OK);
    reply = ask(call_hash_len(&arena, "other"));
    assert_int_equal(reply->hash_len->count, 300);
    kv__reply__free_unpacked(reply, NULL);
}

static void copies_are_bounded(void **state)
{
    char *value = calloc(1, KV_MIB);
    Kv__Reply *reply;

    (void)state;
    memset(value, 'v', KV_MIB - 1);
    rig.checks = false;
    for (unsigned i = 0; i < 64; i++) {
        expect(call_hash_set(&arena, "large", i, 1, value), KV__CODE__OK);
    }
    reply = ask(call_copy(&arena, "large", "other", false));
    assert_int_equal(reply->code, KV__CODE__TOO_LARGE);
    assert_string_equal(reply->hint->limit, "written-bytes");
    kv__reply__free_unpacked(reply, NULL);
    expect(call_config_set(&arena, "work-limit", 100), KV__CODE__OK);
    expect(call_hash_set(&arena, "many", 0, 100, "x"), KV__CODE__OK);
    expect(call_hash_set(&arena, "many", 100, 100, "x"), KV__CODE__OK);
    expect(call_copy(&arena, "many", "other", false), KV__CODE__TOO_LARGE);
    expect(call_rename(&arena, "many", "other", false), KV__CODE__OK);
    expect(call_rename(&arena, "large", "other", false), KV__CODE__OK);
    kv_machine_check_invariants(rig.machine);
    free(value);
}

static void touch_raises_versions(void **state)
{
    ProtobufCBinaryData names[N_KEYS + 1];
    Kv__Request *request = call_touch(&arena, "absent");
    int64_t revision;
    Kv__Reply *reply;

    (void)state;
    make_keys();
    names[N_KEYS] = machine_rig_bytes("absent");
    for (unsigned i = 0; i < N_KEYS; i++) {
        names[i] = machine_rig_bytes(keys[i]);
    }
    request->touch->n_keys = N_KEYS + 1;
    request->touch->keys = names;
    revision = kv_machine_revision(rig.machine);
    reply = ask(request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->touch->count, N_KEYS);
    assert_int_equal(reply->revision, revision + 1);
    kv__reply__free_unpacked(reply, NULL);
    for (unsigned i = 0; i < N_KEYS; i++) {
        const struct kv_record *record = kv_keyspace_get(rig.machine, kv_slice_str(keys[i]));

        assert_int_equal(record->version, 2);
        assert_int_equal(record->mod_revision, revision + 1);
    }
    machine_rig_reload(&rig);
    names[1] = names[0];
    expect(request, KV__CODE__INVALID);
    expect(call_touch(&arena, "absent"), KV__CODE__OK);
    assert_int_equal(kv_machine_revision(rig.machine), revision + 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(type_of_every_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(to_itself_there_is_nothing_to_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(rename_and_copy_over_every_type, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_copy_is_its_own, set_up, tear_down),
        cmocka_unit_test_setup_teardown(copies_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(touch_raises_versions, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
