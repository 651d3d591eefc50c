/* The data limit: what is refused, what goes on, what history is left; that a machine loaded from a
 * snapshot decides as the one that wrote it. */
#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 40, STEPS = 400 };

static struct machine_rig rig;
static struct kv_arena arena;
static char value[1024];

static unsigned rnd(unsigned below)
{
    return (unsigned)machine_rig_random(&rig, below);
}

static const char *key_of(unsigned i)
{
    char *key = kv_arena_alloc(&arena, 16);

    (void)snprintf(key, 16, "key-%u", i);
    return key;
}

static Kv__Request *any_write(void)
{
    const char *key = key_of(rnd(KEYS));

    switch (rnd(8)) {
    case 0:
        return call_delete(&arena, key, false);
    case 1:
        return call_hash_set(&arena, key_of(KEYS), rnd(100), 1 + rnd(30), "field");
    case 2:
        return call_copy(&arena, key, key_of(rnd(KEYS)), false);
    case 3:
        return call_then(&arena,
                         call_then(&arena, call_txn(&arena), call_delete(&arena, key, false)),
                         call_put_bytes(&arena, key_of(rnd(KEYS)), value, rnd(sizeof value)));
    default:
        return call_put_bytes(&arena, key, value, rnd(sizeof value));
    }
}

static struct kv_machine_stats stats_of(const struct machine_rig *of)
{
    struct kv_machine_stats stats;

    kv_machine_stats(of->machine, &stats);
    return stats;
}

static unsigned step(struct machine_rig *other, uint64_t limit)
{
    const struct kv_machine_stats before = stats_of(&rig);
    Kv__Request *request = any_write();
    Kv__Reply *reply = machine_rig_write(&rig, request);
    Kv__Reply *same;
    struct kv_machine_stats after = stats_of(&rig);
    unsigned refused = reply->code == KV__CODE__NO_SPACE;

    other->cluster_time_ms = rig.cluster_time_ms;
    other->is_still = true;
    same = machine_rig_write(other, request);
    assert_int_equal(same->code, reply->code);
    assert_int_equal(kv_machine_oldest_revision(other->machine),
                     kv_machine_oldest_revision(rig.machine));
    if (refused) {
        assert_string_equal(reply->hint->limit, "data-limit");
        assert_int_equal(reply->hint->limit_value, limit);
        assert_int_equal(before.data_bytes, after.data_bytes);
        assert_int_equal(before.keys, after.keys);
    }
    assert_int_not_equal(request->command_case == KV__REQUEST__COMMAND_DELETE && refused, 1);
    assert_true(after.used_bytes <= limit);
    kv__reply__free_unpacked(reply, NULL);
    kv__reply__free_unpacked(same, NULL);
    return refused;
}

static void run(uint64_t seed)
{
    const uint64_t limit = 12000;
    struct machine_rig other;
    unsigned refused = 0;

    machine_rig_open(&rig, seed);
    kv_arena_init(&arena, KV_MIB);
    machine_rig_expect(&rig, call_config_set(&arena, "data-limit", limit), KV__CODE__OK);
    machine_rig_copy(&rig, &other);
    for (unsigned i = 0; i < STEPS; i++) {
        refused += step(&other, limit);
        if (rnd(20) == 0) {
            machine_rig_close(&other);
            machine_rig_copy(&rig, &other);
        }
        kv_arena_reset(&arena);
    }
    /* It is reached, and is no wall. */
    assert_true(refused > 10 && refused < STEPS / 2);
    kv_arena_deinit(&arena);
    machine_rig_close(&other);
    machine_rig_close(&rig);
}

static void all_nodes_decide_alike(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

static void history_goes_first(void **state)
{
    Kv__Reply *reply;

    (void)state;
    machine_rig_open(&rig, 1);
    kv_arena_init(&arena, KV_MIB);
    machine_rig_expect(&rig, call_config_set(&arena, "data-limit", 4000), KV__CODE__OK);
    for (unsigned i = 0; i < 10; i++) {
        machine_rig_expect(&rig, call_put_bytes(&arena, "a", value, 1000), KV__CODE__OK);
        machine_rig_pass_time(&rig, 200);
    }
    assert_true(stats_of(&rig).history_bytes > 1000);
    assert_true(stats_of(&rig).used_bytes <= 4000);
    machine_rig_expect(&rig, call_put_bytes(&arena, "b", value, 1000), KV__CODE__OK);
    machine_rig_expect(&rig, call_put_bytes(&arena, "c", value, 1000), KV__CODE__OK);
    assert_true(stats_of(&rig).history_bytes < 1000);
    reply = machine_rig_write(&rig, call_put_bytes(&arena, "d", value, 1000));
    assert_int_equal(reply->code, KV__CODE__NO_SPACE);
    assert_non_null(strstr(reply->message, "data-limit"));
    assert_non_null(strstr(reply->message, "3123 bytes"));
    kv__reply__free_unpacked(reply, NULL);
    /* What does not grow goes on, and so does everything once there is room. */
    machine_rig_expect(&rig, call_put_bytes(&arena, "c", value, 1000), KV__CODE__OK);
    machine_rig_expect(&rig, call_touch(&arena, "c"), KV__CODE__OK);
    machine_rig_expect(&rig, call_get(&arena, "c", 0), KV__CODE__OK);
    machine_rig_expect(&rig, call_compact(&arena, 5), KV__CODE__OK);
    machine_rig_expect(&rig, call_delete(&arena, "a", false), KV__CODE__OK);
    machine_rig_expect(&rig, call_put_bytes(&arena, "d", value, 1000), KV__CODE__OK);
    /* A limit below what is there refuses growth, and nothing else. */
    machine_rig_expect(&rig, call_config_set(&arena, "data-limit", 1), KV__CODE__OK);
    machine_rig_expect(&rig, call_put_bytes(&arena, "d", value, 999), KV__CODE__OK);
    machine_rig_expect(&rig, call_put_bytes(&arena, "d", value, 1000), KV__CODE__NO_SPACE);
    assert_int_equal(stats_of(&rig).history_bytes, 0);
    machine_rig_expect(&rig, call_config_set(&arena, "data-limit", 0), KV__CODE__OK);
    machine_rig_expect(&rig, call_put_bytes(&arena, "d", value, 1000), KV__CODE__OK);
    kv_arena_deinit(&arena);
    machine_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_goes_first),
        cmocka_unit_test(all_nodes_decide_alike),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
