/* Random transactions against the same operations one by one on a copy of the machine: the same
 * replies and the same content when all succeed; nothing at all when one fails. Compares against an
 * evaluation of what plain reads tell. */
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

enum { KEYS = 6, OPERATIONS_MAX = 24, STEPS = 120 };

static const char *const keys[KEYS] = {"a", "b", "ba", "c", "ca", "d"};

static struct machine_rig rig;  /* has the transactions */
static struct machine_rig copy; /* has the operations */
static struct kv_arena arena;

struct plan {
    Kv__Request *txn;
    unsigned n;
    Kv__Request *operations[OPERATIONS_MAX]; /* one after the other */
    unsigned outer[OPERATIONS_MAX];          /* index in the transaction */
    bool succeeds;                           /* the compares */
};

static unsigned rnd(unsigned below)
{
    return (unsigned)machine_rig_random(&rig, below);
}

static const char *any_key(void)
{
    return keys[rnd(KEYS)];
}

static const char *any_text(void)
{
    static const char *const texts[] = {"", "x", "17", "some longer text", "-3"};

    return texts[rnd(sizeof texts / sizeof texts[0])];
}

static Kv__Request *any_read(int64_t revision)
{
    int64_t at = rnd(3) ? 0 : revision;

    switch (rnd(8)) {
    case 0:
        return call_get(&arena, any_key(), at);
    case 1:
        return call_range(&arena, rnd(2) ? "" : any_key(), at);
    case 2:
        return call_count(&arena, rnd(2) ? "" : any_key(), at);
    case 3:
        return call_exists(&arena, any_key(), at);
    case 4:
        return call_type(&arena, any_key(), at);
    case 5:
        return call_counter_get(&arena, any_key(), at);
    case 6:
        return call_hash_len(&arena, any_key());
    default:
        return call_hash_get_all(&arena, any_key(), at);
    }
}

static Kv__Request *any_generic_write(void)
{
    switch (rnd(6)) {
    case 0:
        return call_rename(&arena, any_key(), any_key(), rnd(2));
    case 1:
        return call_copy(&arena, any_key(), any_key(), rnd(2));
    case 2:
        return call_touch(&arena, any_key());
    case 3:
        return call_delete(&arena, any_key(), rnd(2));
    case 4:
        return call_delete_prefix(&arena, any_key());
    default:
        return call_getdel(&arena, any_key());
    }
}

static Kv__Request *any_typed_write(void)
{
    const uint64_t limiter[4] = {1 + rnd(3), 100, 4, rnd(3)};

    switch (rnd(10)) {
    case 0:
        return call_append(&arena, any_key(), any_text());
    case 1:
        return call_getset(&arena, any_key(), any_text());
    case 2:
        return call_set_range(&arena, any_key(), rnd(10), any_text());
    case 3:
        return call_counter_add(&arena, any_key(), (int64_t)rnd(100) - 50);
    case 4:
        return call_counter_set(&arena, any_key(), rnd(100));
    case 5:
        return call_hash_set(&arena, any_key(), rnd(30), 1 + rnd(4), any_text());
    case 6:
        return call_hash_set(&arena, any_key(), rnd(30), 130, any_text());
    case 7:
        return call_hash_delete(&arena, any_key(), rnd(30), 1 + rnd(200));
    case 8:
        return call_hash_add(&arena, any_key(), rnd(30), rnd(10));
    default:
        return call_acquire(&arena, any_key(), limiter);
    }
}

static Kv__Request *any_on_collection(void)
{
    const char *key = any_key();
    unsigned n = rnd(3) ? 1 + rnd(4) : 140;

    switch (rnd(8)) {
    case 0:
        return call_set_add(&arena, key, rnd(30), n);
    case 1:
        return call_set_remove(&arena, key, rnd(30), n);
    case 2:
        return call_set_members(&arena, key);
    case 3:
        return call_zset_add(&arena, key, rnd(30), n);
    case 4:
        return call_zset_pop(&arena, key, n);
    case 5:
        return call_list_push(&arena, key, rnd(2), n);
    case 6:
        return call_list_pop(&arena, key, rnd(2), n);
    default:
        return call_list_range(&arena, key);
    }
}

/* Without one that fails most of the time. */
static Kv__Request *any_operation(int64_t revision)
{
    switch (rnd(6)) {
    case 0:
    case 1:
        return any_read(revision);
    case 2:
        return any_generic_write();
    case 3:
        return any_typed_write();
    case 4:
        return any_on_collection();
    default:
        return call_put(&arena, any_key(), any_text());
    }
}

/* ---------------------------------------------------------------- replies */

static Kv__Reply *ask(struct machine_rig *of, Kv__Request *request)
{
    return kv_command_classify(request) == KV_COMMAND_READ ? machine_rig_read(of, request)
                                                           : machine_rig_write(of, request);
}

static void forget_revisions(Kv__KeyValue *kv)
{
    if (kv) {
        kv->create_revision = kv->mod_revision = 0;
    }
}

/* Revisions differ: a transaction has one. */
static void normalize(Kv__Reply *reply)
{
    reply->revision = 0;
    switch (reply->result_case) {
    case KV__REPLY__RESULT_GET:
        forget_revisions(reply->get->kv);
        break;
    case KV__REPLY__RESULT_GETSET:
        forget_revisions(reply->getset->kv);
        break;
    case KV__REPLY__RESULT_GETDEL:
        forget_revisions(reply->getdel->kv);
        break;
    case KV__REPLY__RESULT_DELETE:
        for (size_t i = 0; i < reply->delete_->n_previous; i++) {
            forget_revisions(reply->delete_->previous[i]);
        }
        break;
    case KV__REPLY__RESULT_RANGE:
        reply->range->revision = 0;
        for (size_t i = 0; i < reply->range->n_kvs; i++) {
            forget_revisions(reply->range->kvs[i]);
        }
        break;
    default:
        break;
    }
}

static void assert_same_reply(Kv__Reply *a, Kv__Reply *b)
{
    uint8_t *packed[2];
    size_t size;

    normalize(a);
    normalize(b);
    size = kv__reply__get_packed_size(a);
    assert_int_equal(size, kv__reply__get_packed_size(b));
    packed[0] = malloc(size + 1);
    packed[1] = malloc(size + 1);
    kv__reply__pack(a, packed[0]);
    kv__reply__pack(b, packed[1]);
    assert_memory_equal(packed[0], packed[1], size);
    free(packed[0]);
    free(packed[1]);
}

/* Those of nested transactions one after the other. */
static void flatten(Kv__Reply *reply, Kv__Reply **replies, unsigned *n)
{
    for (size_t i = 0; i < reply->txn->n_replies; i++) {
        if (reply->txn->replies[i]->result_case == KV__REPLY__RESULT_TXN) {
            flatten(reply->txn->replies[i], replies, n);
        } else {
            replies[(*n)++] = reply->txn->replies[i];
        }
    }
}

static void assert_same_answer(Kv__Request *request)
{
    Kv__Reply *a = machine_rig_read(&rig, request);
    Kv__Reply *b = machine_rig_read(&copy, request);

    assert_same_reply(a, b);
    kv__reply__free_unpacked(a, NULL);
    kv__reply__free_unpacked(b, NULL);
}

static void assert_same_content(int64_t revision)
{
    assert_same_answer(call_range(&arena, "", 0));
    for (unsigned i = 0; i < KEYS; i++) {
        assert_same_answer(call_hash_get_all(&arena, keys[i], 0));
        assert_same_answer(call_set_members(&arena, keys[i]));
        assert_same_answer(call_list_range(&arena, keys[i]));
        assert_same_answer(call_hash_get_all(&arena, keys[i], revision));
    }
}

/* ---------------------------------------------------------------- compares */

static Kv__Compare *any_compare(void)
{
    Kv__Compare *compare = call_compare(&arena, any_key(), (Kv__Comparison)rnd(6));
    Kv__Compare__FieldValue *field = kv_arena_alloc(&arena, sizeof *field);

    if (rnd(3) == 0) {
        compare->range->special = KV__KEY_RANGE__SPECIAL__PREFIX;
    }
    compare->operand_case = (Kv__Compare__OperandCase)(KV__COMPARE__OPERAND_VALUE + rnd(9));
    switch (compare->operand_case) {
    case KV__COMPARE__OPERAND_VALUE:
        compare->value = machine_rig_bytes(any_text());
        break;
    case KV__COMPARE__OPERAND_TYPE:
        compare->type = (Kv__Type)rnd(8);
        compare->comparison = (Kv__Comparison)rnd(2);
        break;
    case KV__COMPARE__OPERAND_EXISTS:
        compare->exists = rnd(2) != 0;
        compare->comparison = (Kv__Comparison)rnd(2);
        break;
    case KV__COMPARE__OPERAND_HASH_FIELD:
        kv__compare__field_value__init(field);
        field->field = machine_rig_bytes(rnd(2) ? "f003" : "f130");
        field->value = machine_rig_bytes(any_text());
        compare->hash_field = field;
        break;
    case KV__COMPARE__OPERAND_LEASE_ID:
        compare->lease_id = rnd(2);
        break;
    case KV__COMPARE__OPERAND_COUNTER:
        compare->counter = rnd(100);
        break;
    default:
        compare->version = rnd(4) ? rnd(4) : (int64_t)rnd(200);
        break;
    }
    return compare;
}

static bool holds(Kv__Comparison comparison, int64_t a, int64_t b)
{
    switch (comparison) {
    case KV__COMPARISON__COMPARE_EQUAL:
        return a == b;
    case KV__COMPARISON__COMPARE_NOT_EQUAL:
        return a != b;
    case KV__COMPARISON__COMPARE_LESS:
        return a < b;
    case KV__COMPARISON__COMPARE_LESS_EQUAL:
        return a <= b;
    case KV__COMPARISON__COMPARE_GREATER:
        return a > b;
    default:
        return a >= b;
    }
}

static bool bytes_hold(Kv__Comparison comparison, ProtobufCBinaryData a, ProtobufCBinaryData b)
{
    size_t size = a.len < b.len ? a.len : b.len;
    int order = size > 0 ? memcmp(a.data, b.data, size) : 0;

    return holds(comparison, order != 0 ? order : (int64_t)a.len - (int64_t)b.len, 0);
}

static bool field_holds(const Kv__Compare *compare, const Kv__KeyValue *kv)
{
    char key[8] = {0};
    Kv__Reply *reply;
    bool result = false;

    memcpy(key, kv->key.data, kv->key.len);
    reply = ask(&copy, call_hash_get_all(&arena, key, 0));
    for (size_t i = 0; reply->code == KV__CODE__OK && i < reply->hash_get_all->n_fields; i++) {
        const Kv__HashField *field = reply->hash_get_all->fields[i];

        if (field->name.len == compare->hash_field->field.len &&
            memcmp(field->name.data, compare->hash_field->field.data, field->name.len) == 0) {
            result = bytes_hold(compare->comparison, field->value, compare->hash_field->value);
        }
    }
    kv__reply__free_unpacked(reply, NULL);
    return result;
}

static bool key_holds(const Kv__Compare *compare, const Kv__KeyValue *kv)
{
    const Kv__Comparison comparison = compare->comparison;

    switch (compare->operand_case) {
    case KV__COMPARE__OPERAND_VALUE:
        return kv->type == KV__TYPE__TYPE_STRING &&
               bytes_hold(comparison, kv->value, compare->value);
    case KV__COMPARE__OPERAND_VERSION:
        return holds(comparison, kv->version, compare->version);
    case KV__COMPARE__OPERAND_CREATE_REVISION:
        return holds(comparison, kv->create_revision, compare->create_revision);
    case KV__COMPARE__OPERAND_MOD_REVISION:
        return holds(comparison, kv->mod_revision, compare->mod_revision);
    case KV__COMPARE__OPERAND_LEASE_ID:
        return holds(comparison, kv->lease_id, compare->lease_id);
    case KV__COMPARE__OPERAND_TYPE:
        return holds(comparison, kv->type, compare->type);
    case KV__COMPARE__OPERAND_EXISTS:
        return holds(comparison, kv->type != KV__TYPE__TYPE_NONE, compare->exists);
    case KV__COMPARE__OPERAND_COUNTER:
        return kv->type == KV__TYPE__TYPE_COUNTER &&
               holds(comparison, kv->counter, compare->counter);
    default:
        return kv->type == KV__TYPE__TYPE_HASH && field_holds(compare, kv);
    }
}

static bool compare_holds(const Kv__Compare *compare)
{
    Kv__KeyValue absent = KV__KEY_VALUE__INIT;
    Kv__Range range = KV__RANGE__INIT;
    Kv__Request request = KV__REQUEST__INIT;
    Kv__Reply *reply;
    bool result = true;

    range.range = compare->range;
    request.command_case = KV__REQUEST__COMMAND_RANGE;
    request.range = &range;
    reply = machine_rig_read(&copy, &request);
    for (size_t i = 0; i < reply->range->n_kvs; i++) {
        result = key_holds(compare, reply->range->kvs[i]) && result;
    }
    if (reply->range->n_kvs == 0 && compare->range->special == KV__KEY_RANGE__SPECIAL__NONE) {
        result = key_holds(compare, &absent);
    }
    kv__reply__free_unpacked(reply, NULL);
    return result;
}

/* ---------------------------------------------------------------- transactions */

static void add_operation(struct plan *plan, Kv__Request *to, bool to_then, Kv__Request *operation)
{
    if (to_then) {
        (void)call_then(&arena, to, operation);
    } else {
        (void)call_otherwise(&arena, to, operation);
    }
    if (operation->command_case != KV__REQUEST__COMMAND_TXN) {
        plan->operations[plan->n++] = operation;
    }
}

/* Some operations in a transaction of their own, up to three levels within the outermost. */
static Kv__Request *group(struct plan *plan, unsigned n, int64_t revision)
{
    Kv__Request *txn = call_txn(&arena);

    for (unsigned i = 0; i < n; i++) {
        add_operation(plan, txn, true, any_operation(revision));
    }
    for (unsigned depth = rnd(3); depth > 0; depth--) {
        txn = call_then(&arena, call_txn(&arena), txn);
    }
    return txn;
}

static void make_plan(struct plan *plan, int64_t revision)
{
    const unsigned n = 1 + rnd(rnd(3) ? 5 : 16);
    unsigned index = 0;

    *plan = (struct plan){.txn = call_txn(&arena), .succeeds = true};
    for (unsigned i = rnd(3); i > 0; i--) {
        Kv__Compare *compare = any_compare();

        (void)call_if(&arena, plan->txn, compare);
        plan->succeeds = compare_holds(compare) && plan->succeeds;
    }
    while (plan->n < n) {
        unsigned before = plan->n;
        Kv__Request *operation =
            rnd(8) ? any_operation(revision) : group(plan, 1 + rnd(4), revision);

        add_operation(plan, plan->txn, plan->succeeds, operation);
        for (unsigned i = before; i < plan->n; i++) {
            plan->outer[i] = index;
        }
        index++;
    }
    /* What must not run. */
    if (plan->succeeds) {
        (void)call_otherwise(&arena, plan->txn, call_put(&arena, "wrong", "branch"));
    } else {
        (void)call_then(&arena, plan->txn, call_put(&arena, "wrong", "branch"));
    }
}

/* The same state in a machine of its own. */
static void make_copy(void)
{
    machine_rig_close(&copy);
    machine_rig_copy(&rig, &copy);
}

static void check_failed(const struct plan *plan,
                         unsigned failed,
                         const Kv__Reply *one,
                         const Kv__Reply *reply,
                         uint64_t hash)
{
    assert_int_equal(reply->code, one->code);
    assert_int_equal(reply->hint->operation, plan->outer[failed]);
    assert_non_null(strstr(reply->message, one->message));
    assert_null(reply->txn);
    assert_int_equal(kv_machine_state_hash(rig.machine), hash);
}

/* Returns true when all operations succeeded. */
static bool step(void)
{
    const int64_t revision = kv_machine_revision(rig.machine);
    const uint64_t hash = kv_machine_state_hash(rig.machine);
    Kv__Reply *expected[OPERATIONS_MAX];
    Kv__Reply *replies[OPERATIONS_MAX];
    struct kv_machine_stats before, after;
    unsigned done = 0, n = 0;
    struct plan plan;
    Kv__Reply *reply;
    bool failed = false;

    make_copy();
    kv_machine_stats(rig.machine, &before);
    make_plan(&plan, revision);
    while (done < plan.n && !failed) {
        expected[done] = ask(&copy, plan.operations[done]);
        failed = expected[done]->code != KV__CODE__OK;
        done++;
    }
    reply = ask(&rig, plan.txn);
    if (failed) {
        check_failed(&plan, done - 1, expected[done - 1], reply, hash);
        kv_machine_stats(rig.machine, &after);
        assert_int_equal(before.history_bytes, after.history_bytes);
        assert_int_equal(before.data_bytes, after.data_bytes);
    } else {
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->txn->succeeded, plan.succeeds);
        assert_true(reply->revision <= revision + 1);
        flatten(reply, replies, &n);
        assert_int_equal(n, done);
        for (unsigned i = 0; i < n; i++) {
            assert_same_reply(replies[i], expected[i]);
        }
        assert_same_content(revision);
    }
    for (unsigned i = 0; i < done; i++) {
        kv__reply__free_unpacked(expected[i], NULL);
    }
    kv__reply__free_unpacked(reply, NULL);
    return !failed;
}

static void run(uint64_t seed)
{
    unsigned succeeded = 0;

    machine_rig_open(&rig, seed);
    machine_rig_open(&copy, seed);
    rig.is_still = true;
    for (unsigned i = 0; i < STEPS; i++) {
        kv_arena_init(&arena, 64 * KV_MIB);
        succeeded += step();
        if (rnd(10) == 0) {
            machine_rig_pass_time(&rig, rnd(2) ? 50 : 400000);
        }
        if (rnd(20) == 0) {
            machine_rig_reload(&rig);
        }
        kv_arena_deinit(&arena);
    }
    /* Neither outcome is rare. */
    assert_true(succeeded > STEPS / 20 && succeeded < STEPS - STEPS / 20);
    machine_rig_close(&rig);
    machine_rig_close(&copy);
}

static void transactions_do_what_their_operations_do(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(20);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(transactions_do_what_their_operations_do),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
