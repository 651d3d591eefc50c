/* How much one entry ends. What ends, and in which order, is machine_expiry_test's matter. */
#include "common/limits.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>

enum { KEYS = 2 * KV_EXPIRE_PIECES, TTL_MS = 1000 };

static struct machine_rig rig;

static uint64_t expiring(void)
{
    struct kv_machine_stats stats;

    kv_machine_stats(rig.machine, &stats);
    return stats.expiring;
}

static void put_with_ttl(unsigned number)
{
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Put put = KV__PUT__INIT;
    char key[16];

    snprintf(key, sizeof key, "key%u", number);
    put.key = machine_rig_bytes(key);
    put.expiry_case = KV__PUT__EXPIRY_TTL_MS;
    put.ttl_ms = TTL_MS;
    request.command_case = KV__REQUEST__COMMAND_PUT;
    request.put = &put;
    machine_rig_expect(&rig, &request, KV__CODE__OK);
}

/* Clients wait for entries with commands, of which many may be under way. */
static void with_commands_few_without_many(void **state)
{
    (void)state;
    machine_rig_open(&rig, 1);
    rig.is_still = true;
    for (unsigned i = 0; i < KEYS; i++) {
        put_with_ttl(i);
    }
    assert_int_equal(expiring(), KEYS);
    rig.cluster_time_ms += TTL_MS + 1;
    machine_rig_put_string(&rig, "other");
    assert_int_equal(expiring(), KEYS - KV_EXPIRE_PIECES_BESIDE);
    machine_rig_pass_time(&rig, 0);
    assert_int_equal(expiring(), KEYS - KV_EXPIRE_PIECES_BESIDE - KV_EXPIRE_PIECES);
    machine_rig_put_string(&rig, "other");
    assert_int_equal(expiring(), KEYS - 2 * KV_EXPIRE_PIECES_BESIDE - KV_EXPIRE_PIECES);
    machine_rig_pass_time(&rig, 0);
    assert_int_equal(expiring(), 0);
    machine_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(with_commands_few_without_many),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
