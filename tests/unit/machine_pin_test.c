/* A large collection that ended while a snapshot of it is being written. */
#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "server/machine/snapshot.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void read_view(struct kv_machine_view *view, struct kv_buf *ret_bytes)
{
    kv_buf_init(ret_bytes, 64 * KV_MIB);
    while (kv_machine_view_read(view, ret_bytes, ret_bytes->size + 4096) == 1) {
    }
}

static void a_view_keeps_what_ended(void **state)
{
    struct kv_machine_view *before, *view;
    struct kv_buf expected, read;
    struct machine_rig rig;
    struct kv_arena arena;

    (void)state;
    machine_rig_open(&rig, 1);
    kv_arena_init(&arena, 16 * KV_MIB);
    machine_rig_expect(&rig, call_hash_set(&arena, "hash", 0, 400, "a value"), KV__CODE__OK);
    assert_int_equal(kv_machine_view_open(rig.machine, &before), 0);
    read_view(before, &expected);
    kv_machine_view_close(rig.machine, before);
    assert_int_equal(kv_machine_view_open(rig.machine, &view), 0);
    machine_rig_expect(&rig, call_delete(&arena, "hash", false), KV__CODE__OK);
    machine_rig_expect(&rig, call_config_set(&arena, "history-bytes", 0), KV__CODE__OK);
    for (unsigned i = 0; i < 10; i++) {
        (void)kv_machine_reclaim(rig.machine);
    }
    assert_int_equal(kv_tree_count(&rig.machine->elements), 0);
    /* Something else takes the memory, if any was freed. */
    machine_rig_expect(&rig, call_hash_set(&arena, "other", 0, 999, "another"), KV__CODE__OK);
    read_view(view, &read);
    kv_machine_view_close(rig.machine, view);
    assert_int_equal(read.size, expected.size);
    assert_memory_equal(read.data, expected.data, expected.size);
    kv_buf_deinit(&expected);
    kv_buf_deinit(&read);
    kv_arena_deinit(&arena);
    machine_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_view_keeps_what_ended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
