/* Random commands on hashes and counters against arrays, with the state of every revision kept:
 * small and large forms, reads at revisions, failed commands, snapshots, forgotten history. */
#include "common/limits.h"
#include "server/machine/collection.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 3, FIELDS = 400, STEPS = 500, REVISIONS_MAX = STEPS + 2 };

struct model_hash {
    uint16_t values[FIELDS]; /* 0: absent */
};
static struct model_hash states[REVISIONS_MAX][KEYS];
static int64_t revision;
static struct machine_rig rig;
static unsigned n_fields; /* of this run: few keep hashes small */

static ProtobufCBinaryData key_bytes(unsigned key)
{
    static const char *const texts[KEYS] = {"hash/a", "hash/b", "hash/c"};

    return machine_rig_bytes(texts[key]);
}

static ProtobufCBinaryData field_bytes(unsigned field)
{
    static char texts[FIELDS][24];

    snprintf(texts[field], sizeof texts[field], "field-%03u", field);
    return machine_rig_bytes(texts[field]);
}

static void value_text(uint16_t value, char text[64])
{
    snprintf(text, 64, "%0*u", 5 + value % 20, value);
}

static bool is_value(ProtobufCBinaryData bytes, uint16_t value)
{
    char text[64];

    value_text(value, text);
    return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

static struct model_hash *next_state(unsigned key)
{
    memcpy(states[revision + 1], states[revision], sizeof states[0]);
    return &states[revision + 1][key];
}

static unsigned length(const struct model_hash *hash)
{
    unsigned n = 0;

    for (unsigned i = 0; i < FIELDS; i++) {
        n += hash->values[i] != 0;
    }
    return n;
}

static void set_fields(void)
{
    unsigned key = (unsigned)machine_rig_random(&rig, KEYS);
    unsigned n = 1 + (unsigned)machine_rig_random(&rig, machine_rig_random(&rig, 8) ? 3 : 60);
    unsigned first = (unsigned)machine_rig_random(&rig, n_fields);
    struct model_hash *hash = next_state(key);
    Kv__HashSet set = KV__HASH_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__HashField fields[64];
    Kv__HashField *pointers[64];
    char texts[64][64];
    unsigned added = 0;
    Kv__Reply *reply;

    n = n > n_fields ? n_fields : n;
    for (unsigned i = 0; i < n; i++) {
        unsigned field = (first + i * 7) % n_fields;
        uint16_t value = (uint16_t)(1 + machine_rig_random(&rig, 60000));

        if (i > 0 && n_fields % 7 == 0) {
            field = (first + i) % n_fields;
        }
        added += hash->values[field] == 0;
        hash->values[field] = value;
        kv__hash_field__init(&fields[i]);
        fields[i].name = field_bytes(field);
        value_text(value, texts[i]);
        fields[i].value = machine_rig_bytes(texts[i]);
        pointers[i] = &fields[i];
    }
    set.key = key_bytes(key);
    set.n_fields = n;
    set.fields = pointers;
    request.command_case = KV__REQUEST__COMMAND_HASH_SET;
    request.hash_set = &set;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->hash_set->count, added);
    assert_int_equal(reply->revision, ++revision);
    kv__reply__free_unpacked(reply, NULL);
}

static void delete_fields(void)
{
    unsigned key = (unsigned)machine_rig_random(&rig, KEYS);
    unsigned n = 1 + (unsigned)machine_rig_random(&rig, machine_rig_random(&rig, 4) ? 4 : 100);
    unsigned first = (unsigned)machine_rig_random(&rig, n_fields);
    struct model_hash *hash = next_state(key);
    Kv__HashDelete command = KV__HASH_DELETE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    ProtobufCBinaryData names[100];
    unsigned removed = 0;
    Kv__Reply *reply;

    n = n > n_fields ? n_fields : n;
    for (unsigned i = 0; i < n; i++) {
        unsigned field = (first + i) % n_fields;

        removed += hash->values[field] != 0;
        hash->values[field] = 0;
        names[i] = field_bytes(field);
    }
    command.key = key_bytes(key);
    command.n_fields = n;
    command.fields = names;
    request.command_case = KV__REQUEST__COMMAND_HASH_DELETE;
    request.hash_delete = &command;
    reply = machine_rig_write(&rig, &request);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->hash_delete->count, removed);
    revision += removed > 0;
    assert_int_equal(reply->revision, revision);
    kv__reply__free_unpacked(reply, NULL);
}

/* The whole key goes, or a string takes its place for a moment. */
static void drop(void)
{
    unsigned key = (unsigned)machine_rig_random(&rig, KEYS);
    ProtobufCBinaryData name = key_bytes(key);
    Kv__Delete command = KV__DELETE__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    if (length(&states[revision][key]) == 0) {
        return;
    }
    memset(next_state(key), 0, sizeof states[0][0]);
    command.n_keys = 1;
    command.keys = &name;
    request.command_case = KV__REQUEST__COMMAND_DELETE;
    request.delete_ = &command;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
    revision++;
}

/* A command that is wrong changes nothing. */
static void set_nothing(void)
{
    Kv__HashSet set = KV__HASH_SET__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    uint64_t hash = kv_machine_state_hash(rig.machine);

    set.key = key_bytes(0);
    request.command_case = KV__REQUEST__COMMAND_HASH_SET;
    request.hash_set = &set;
    machine_rig_expect(&rig, &request, KV__CODE__INVALID);
    assert_int_equal(kv_machine_state_hash(rig.machine), hash);
}

static void check_state(int64_t at)
{
    for (unsigned key = 0; key < KEYS; key++) {
        const struct model_hash *hash = &states[at][key];
        Kv__HashGetAll command = KV__HASH_GET_ALL__INIT;
        Kv__Request request = KV__REQUEST__INIT;
        Kv__HashField **field;
        Kv__Reply *reply;

        command.key = key_bytes(key);
        command.at_revision = at;
        request.command_case = KV__REQUEST__COMMAND_HASH_GET_ALL;
        request.hash_get_all = &command;
        reply = machine_rig_read(&rig, &request);
        if (at < kv_machine_oldest_revision(rig.machine)) {
            assert_int_equal(reply->code, KV__CODE__COMPACTED);
            kv__reply__free_unpacked(reply, NULL);
            continue;
        }
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->hash_get_all->n_fields, length(hash));
        field = reply->hash_get_all->fields;
        for (unsigned i = 0; i < FIELDS; i++) {
            if (hash->values[i] != 0) {
                assert_memory_equal((*field)->name.data, field_bytes(i).data, (*field)->name.len);
                assert_true(is_value((*field)->value, hash->values[i]));
                field++;
            }
        }
        kv__reply__free_unpacked(reply, NULL);
    }
}

static void run(uint64_t seed)
{
    machine_rig_open(&rig, seed);
    revision = kv_machine_revision(rig.machine);
    memset(states[revision], 0, sizeof states[0]);
    n_fields = seed % 3 == 0 ? 12 : seed % 3 == 1 ? 150 : FIELDS;
    for (unsigned i = 0; i < STEPS; i++) {
        switch (machine_rig_random(&rig, 12)) {
        case 0:
            drop();
            break;
        case 1:
            set_nothing();
            break;
        case 2:
        case 3:
        case 4:
            delete_fields();
            break;
        default:
            set_fields();
            break;
        }
        check_state(1 + (int64_t)machine_rig_random(&rig, (uint64_t)revision));
        if (machine_rig_random(&rig, 40) == 0) {
            machine_rig_reload(&rig);
        }
        if (seed % 2 == 0 && machine_rig_random(&rig, 30) == 0) {
            machine_rig_pass_time(&rig, 400000);
        }
    }
    for (int64_t at = 1; at <= revision; at++) {
        check_state(at);
    }
    machine_rig_close(&rig);
}

static void hashes_do_what_arrays_do(void **state)
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
        cmocka_unit_test(hashes_do_what_arrays_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
