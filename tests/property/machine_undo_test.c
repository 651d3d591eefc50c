/* Random transactions on collections in both forms, half of which fail at their end: those leave
 * nothing behind, neither in the state nor in the trees, the index of scores or the history; and a
 * view that was taken before still tells the state of that time. */
#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "server/machine/snapshot.h"
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

enum { KEYS = 9, OPERATIONS_MAX = 8, STEPS = 150, NAMES = 300, NAME_BYTES = 8, VIEW_STEPS = 6 };

static const char *const keys[KEYS] = {"z1", "z2", "z3", "l1", "l2", "l3", "s1", "s2", "s3"};
static char names[NAMES][NAME_BYTES];

static struct machine_rig rig;
static struct kv_arena arena;

static unsigned rnd(unsigned below)
{
    return (unsigned)machine_rig_random(&rig, below);
}

static ProtobufCBinaryData key_of(unsigned type)
{
    /* Now and then of another type: then it fails in the midst. */
    return machine_rig_bytes(keys[rnd(40) ? type * 3 + rnd(3) : rnd(KEYS)]);
}

static ProtobufCBinaryData any_name(void)
{
    return machine_rig_bytes(names[rnd(NAMES)]);
}

static void *alloc(size_t size)
{
    void *memory = kv_arena_alloc(&arena, size);

    assert_non_null(memory);
    return memory;
}

#define NEW(Type, init, name)                                 \
    Kv__##Type *name = alloc(sizeof *name);                   \
    Kv__Request *request = call_type(&arena, "overwrite", 0); \
    init(name)
#define USE(CASE, field, command) \
    (request->command_case = KV__REQUEST__COMMAND_##CASE, request->field = (command), request)

/* ---------------------------------------------------------------- operations */

/* n different names behind each other from a random one. */
static ProtobufCBinaryData *some_names(unsigned n)
{
    ProtobufCBinaryData *list = alloc((n + 1) * sizeof *list);
    unsigned first = rnd(NAMES - n);

    for (unsigned i = 0; i < n; i++) {
        list[i] = machine_rig_bytes(names[first + i]);
    }
    return list;
}

static unsigned few_or_many(void)
{
    return rnd(3) ? 1 + rnd(5) : 100 + rnd(100);
}

static Kv__Request *zset_add(void)
{
    unsigned n = few_or_many();
    ProtobufCBinaryData *members = some_names(n);
    NEW(ZSetAdd, kv__zset_add__init, command);

    command->key = key_of(0);
    command->n_members = n;
    command->members = alloc(n * sizeof(Kv__ZSetMember *));
    for (unsigned i = 0; i < n; i++) {
        command->members[i] = alloc(sizeof(Kv__ZSetMember));
        kv__zset_member__init(command->members[i]);
        command->members[i]->member = members[i];
        command->members[i]->score = (double)rnd(50) - 25;
    }
    return USE(ZSET_ADD, zset_add, command);
}

static Kv__Request *zset_pop(void)
{
    NEW(ZSetPop, kv__zset_pop__init, command);

    command->key = key_of(0);
    command->count = few_or_many();
    command->greatest = rnd(2);
    return USE(ZSET_POP, zset_pop, command);
}

static Kv__Request *zset_remove(void)
{
    NEW(ZSetRemove, kv__zset_remove__init, command);

    command->key = key_of(0);
    command->n_members = few_or_many();
    command->members = some_names((unsigned)command->n_members);
    return USE(ZSET_REMOVE, zset_remove, command);
}

static Kv__Request *zset_store(void)
{
    NEW(ZSetCombine, kv__zset_combine__init, command);

    command->combination = (Kv__Combination)rnd(3);
    command->n_keys = 2;
    command->keys = alloc(2 * sizeof *command->keys);
    command->keys[0] = key_of(0);
    command->keys[1] = key_of(0);
    command->store = key_of(0);
    return USE(ZSET_COMBINE, zset_combine, command);
}

static Kv__Request *list_push(void)
{
    NEW(ListPush, kv__list_push__init, command);

    command->key = key_of(1);
    command->end = (Kv__ListEnd)rnd(2);
    command->n_elements = few_or_many();
    command->elements = some_names((unsigned)command->n_elements);
    return USE(LIST_PUSH, list_push, command);
}

static Kv__Request *list_pop(void)
{
    NEW(ListPop, kv__list_pop__init, command);

    command->key = key_of(1);
    command->end = (Kv__ListEnd)rnd(2);
    command->count = few_or_many();
    return USE(LIST_POP, list_pop, command);
}

static Kv__Request *list_trim(void)
{
    NEW(ListTrim, kv__list_trim__init, command);

    command->key = key_of(1);
    command->first = (int64_t)rnd(60) - 20;
    command->last = (int64_t)rnd(60) - 40;
    return USE(LIST_TRIM, list_trim, command);
}

static Kv__Request *list_move(void)
{
    NEW(ListMove, kv__list_move__init, command);

    command->key = key_of(1);
    command->to = key_of(1);
    command->from = (Kv__ListEnd)rnd(2);
    command->to_end = (Kv__ListEnd)rnd(2);
    return USE(LIST_MOVE, list_move, command);
}

static Kv__Request *list_remove(void)
{
    NEW(ListRemove, kv__list_remove__init, command);

    command->key = key_of(1);
    command->element = any_name();
    command->count = (int64_t)rnd(5) - 2;
    return USE(LIST_REMOVE, list_remove, command);
}

static Kv__Request *set_add(void)
{
    NEW(SetAdd, kv__set_add__init, command);

    command->key = key_of(2);
    command->n_members = few_or_many();
    command->members = some_names((unsigned)command->n_members);
    return USE(SET_ADD, set_add, command);
}

static Kv__Request *set_pop(void)
{
    NEW(SetPop, kv__set_pop__init, command);

    command->key = key_of(2);
    command->count = few_or_many();
    return USE(SET_POP, set_pop, command);
}

static Kv__Request *set_store(void)
{
    NEW(SetCombine, kv__set_combine__init, command);

    command->combination = (Kv__Combination)rnd(3);
    command->n_keys = 2;
    command->keys = alloc(2 * sizeof *command->keys);
    command->keys[0] = key_of(2);
    command->keys[1] = key_of(2);
    command->store = key_of(2);
    return USE(SET_COMBINE, set_combine, command);
}

static Kv__Request *generic(void)
{
    const unsigned type = 3 * rnd(3);

    switch (rnd(6)) {
    case 0:
        return call_delete(&arena, keys[type + rnd(3)], false);
    case 1:
        return call_rename(&arena, keys[type + rnd(3)], keys[type + rnd(3)], false);
    case 2:
        return call_copy(&arena, keys[type + rnd(3)], keys[type + rnd(3)], false);
    default:
        return call_touch(&arena, keys[type + rnd(3)]);
    }
}

static Kv__Request *any_operation(void)
{
    static Kv__Request *(*const all[])(void) = {
        zset_add,
        zset_add,
        zset_pop,
        zset_remove,
        zset_store,
        list_push,
        list_push,
        list_pop,
        list_trim,
        list_move,
        list_remove,
        set_add,
        set_add,
        set_pop,
        set_store,
        generic,
    };

    return all[rnd(sizeof all / sizeof all[0])]();
}

/* ---------------------------------------------------------------- what there is */

struct picture {
    struct kv_machine_stats stats;
    uint64_t state_hash, scores, elements, last_collection_id, n_events, new_bytes, new_versions;
    int64_t revision;
};

static struct picture take_picture(void)
{
    const struct kv_machine *machine = rig.machine;
    struct picture picture;

    memset(&picture, 0, sizeof picture);
    kv_machine_stats(machine, &picture.stats);
    picture.stats.unreclaimed_bytes = 0;
    picture.state_hash = kv_machine_state_hash(machine);
    picture.scores = kv_tree_count(&machine->scores);
    picture.elements = kv_tree_count(&machine->elements);
    picture.last_collection_id = machine->last_collection_id;
    picture.n_events = machine->history.n_events;
    picture.new_bytes = machine->history.new_bytes;
    picture.new_versions = machine->history.new_versions;
    picture.revision = machine->revision;
    return picture;
}

/* A view, and what it is to tell. */
static struct kv_machine_view *view;
static uint64_t view_hash;
static unsigned view_age;

static void open_view(void)
{
    assert_int_equal(kv_machine_view_open(rig.machine, &view), 0);
    view_hash = kv_machine_state_hash(rig.machine);
    view_age = 0;
}

static void check_view(void)
{
    struct kv_machine_loader *loader;
    struct kv_machine *loaded;
    struct kv_error error;
    struct kv_buf buf;

    kv_buf_init(&buf, 256 * KV_MIB);
    while (kv_machine_view_read(view, &buf, buf.size + KV_MIB) == 1) {
    }
    kv_machine_view_close(rig.machine, view);
    view = NULL;
    assert_int_equal(kv_machine_loader_open(&loader), 0);
    assert_int_equal(kv_machine_loader_feed(loader, kv_slice_of(buf.data, buf.size), &error), 0);
    assert_int_equal(kv_machine_loader_finish(loader, &loaded, &error), 0);
    assert_int_equal(kv_machine_state_hash(loaded), view_hash);
    kv_machine_check_invariants(loaded);
    kv_machine_close(loaded);
    kv_machine_loader_close(loader);
    kv_buf_deinit(&buf);
}

/* ---------------------------------------------------------------- steps */

/* Returns true when the transaction failed. */
static bool step(void)
{
    Kv__Request *txn = call_txn(&arena);
    const unsigned n = 1 + rnd(OPERATIONS_MAX);
    struct picture before, after;
    Kv__Reply *reply;
    bool failed;

    for (unsigned i = 0; i < n; i++) {
        (void)call_then(&arena, txn, any_operation());
    }
    if (rnd(2)) {
        (void)call_then(&arena, txn, call_get(&arena, "absent", 0));
    }
    /* All that can be freed is, so that nothing of it happens in between. */
    while (!view && kv_machine_reclaim(rig.machine)) {
    }
    before = take_picture();
    reply = machine_rig_write(&rig, txn);
    failed = reply->code != KV__CODE__OK;
    after = take_picture();
    if (failed && !view) {
        assert_memory_equal(&before, &after, sizeof before);
    } else if (failed) {
        assert_int_equal(before.state_hash, after.state_hash);
        assert_int_equal(before.last_collection_id, after.last_collection_id);
    }
    kv__reply__free_unpacked(reply, NULL);
    return failed;
}

static void run(uint64_t seed)
{
    unsigned n_failed = 0;

    machine_rig_open(&rig, seed);
    rig.is_still = true;
    for (unsigned i = 0; i < STEPS; i++) {
        kv_arena_init(&arena, 64 * KV_MIB);
        n_failed += step();
        if (view && ++view_age == VIEW_STEPS) {
            check_view();
        } else if (!view && rnd(6) == 0) {
            open_view();
        }
        if (rnd(10) == 0) {
            machine_rig_pass_time(&rig, rnd(2) ? 150 : 400000);
        }
        if (!view && rnd(25) == 0) {
            machine_rig_reload(&rig);
        }
        kv_arena_deinit(&arena);
    }
    if (view) {
        check_view();
    }
    /* Neither outcome is rare. */
    assert_true(n_failed > STEPS / 10 && n_failed < STEPS - STEPS / 10);
    machine_rig_close(&rig);
}

static void what_fails_leaves_nothing(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(20);

    (void)state;
    for (unsigned i = 0; i < NAMES; i++) {
        (void)snprintf(names[i], NAME_BYTES, "n%03u", i);
    }
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_fails_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
