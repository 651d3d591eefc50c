/* Transactions, rule by rule. */
#include "common/limits.h"
#include "server/machine/map.h"
#include "server/machine/zset_index.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

#include <math.h>
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

static Kv__Reply *ask(Kv__Request *request)
{
    return kv_command_classify(request) == KV_COMMAND_READ ? machine_rig_read(&rig, request)
                                                           : machine_rig_write(&rig, request);
}

static void expect(Kv__Request *request, Kv__Code code)
{
    machine_rig_expect(&rig, request, code);
}

static Kv__Request *then(Kv__Request *txn, Kv__Request *operation)
{
    return call_then(&arena, txn, operation);
}

static bool is_text(ProtobufCBinaryData bytes, const char *text)
{
    return bytes.len == strlen(text) && memcmp(bytes.data, text, bytes.len) == 0;
}

static void operations_see_what_earlier_ones_wrote(void **state)
{
    Kv__Request *txn = call_txn(&arena);
    Kv__Reply *reply, **replies;

    (void)state;
    expect(call_put(&arena, "a", "before"), KV__CODE__OK);
    then(txn, call_get(&arena, "a", 0));
    then(txn, call_put(&arena, "a", "within"));
    then(txn, call_get(&arena, "a", 0));
    then(txn, call_get(&arena, "a", 2));
    then(txn, call_append(&arena, "a", "!"));
    then(txn, call_range(&arena, "", 0));
    then(txn, call_range(&arena, "", 2));
    then(txn, call_counter_add(&arena, "n", 5));
    then(txn, call_counter_add(&arena, "n", 5));
    then(txn, call_count(&arena, "", 0));
    then(txn, call_count(&arena, "", 2));
    then(txn, call_hash_set(&arena, "h", 0, 2, "x"));
    then(txn, call_hash_get_all(&arena, "h", 0));
    then(txn, call_hash_get_all(&arena, "h", 2));
    reply = ask(txn);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->revision, 3);
    assert_true(reply->txn->succeeded);
    assert_int_equal(reply->txn->n_replies, 14);
    replies = reply->txn->replies;
    assert_true(is_text(replies[0]->get->kv->value, "before"));
    assert_int_equal(replies[0]->revision, 2);
    assert_int_equal(replies[1]->put->version, 2);
    assert_true(is_text(replies[2]->get->kv->value, "within"));
    assert_int_equal(replies[2]->revision, 3);
    assert_true(is_text(replies[3]->get->kv->value, "before"));
    assert_int_equal(replies[4]->append->length, 7);
    assert_true(is_text(replies[5]->range->kvs[0]->value, "within!"));
    assert_int_equal(replies[5]->range->revision, 3);
    assert_true(is_text(replies[6]->range->kvs[0]->value, "before"));
    assert_int_equal(replies[6]->range->revision, 2);
    assert_int_equal(replies[7]->counter_add->value, 5);
    assert_int_equal(replies[8]->counter_add->value, 10);
    assert_int_equal(replies[9]->count->count, 2);
    assert_int_equal(replies[10]->count->count, 1);
    assert_int_equal(replies[12]->hash_get_all->n_fields, 2);
    assert_int_equal(replies[13]->hash_get_all->n_fields, 0);
    kv__reply__free_unpacked(reply, NULL);
    machine_rig_reload(&rig);
}

static void one_that_fails_undoes_all(void **state)
{
    Kv__Request *txn = call_txn(&arena);
    uint64_t hash;
    Kv__Reply *reply;

    (void)state;
    expect(call_put(&arena, "a", "x"), KV__CODE__OK);
    hash = kv_machine_state_hash(rig.machine);
    then(txn, call_put(&arena, "b", "y"));
    then(txn, call_delete(&arena, "a", true));
    then(txn, call_rename(&arena, "a", "c", false));
    then(txn, call_put(&arena, "d", "y"));
    reply = ask(txn);
    assert_int_equal(reply->code, KV__CODE__NOT_FOUND);
    assert_int_equal(reply->hint->operation, 2);
    assert_string_equal(reply->message, "operation 2: the key does not exist");
    assert_null(reply->txn);
    assert_int_equal(reply->revision, 2);
    kv__reply__free_unpacked(reply, NULL);
    assert_int_equal(kv_machine_state_hash(rig.machine), hash);
    /* Of nested ones the hint tells the outermost, the message the way. */
    reply = ask(then(then(call_txn(&arena), call_put(&arena, "z", "z")), txn));
    assert_int_equal(reply->hint->operation, 1);
    assert_string_equal(reply->message, "operation 1: operation 2: the key does not exist");
    kv__reply__free_unpacked(reply, NULL);
    assert_int_equal(kv_machine_state_hash(rig.machine), hash);
}

static void the_compares_choose(void **state)
{
    Kv__Compare *compare = call_compare(&arena, "a", KV__COMPARISON__COMPARE_EQUAL);
    Kv__Request *txn = call_txn(&arena);
    Kv__Reply *reply;

    (void)state;
    compare->operand_case = KV__COMPARE__OPERAND_EXISTS;
    call_if(&arena, txn, compare);
    then(txn, call_delete(&arena, "a", false));
    call_otherwise(&arena, txn, call_put(&arena, "a", "x"));
    reply = ask(txn);
    assert_true(reply->txn->succeeded);
    assert_int_equal(reply->txn->replies[0]->result_case, KV__REPLY__RESULT_DELETE);
    assert_int_equal(reply->revision, 1);
    kv__reply__free_unpacked(reply, NULL);
    compare->exists = true;
    reply = ask(txn);
    assert_false(reply->txn->succeeded);
    assert_int_equal(reply->txn->replies[0]->result_case, KV__REPLY__RESULT_PUT);
    kv__reply__free_unpacked(reply, NULL);
    reply = ask(txn);
    assert_true(reply->txn->succeeded);
    assert_int_equal(reply->revision, 3);
    kv__reply__free_unpacked(reply, NULL);
}

static Kv__Request *nested(unsigned depth, Kv__Request *innermost)
{
    Kv__Request *request = innermost;

    for (unsigned i = 0; i < depth; i++) {
        request = then(call_txn(&arena), request);
    }
    return request;
}

static Kv__Request *call_union(const char *store)
{
    static Kv__SetCombine combine;
    static ProtobufCBinaryData source = {1, (uint8_t *)(uintptr_t) "a"};
    Kv__Request *request = call_get(&arena, "a", 0);

    kv__set_combine__init(&combine);
    combine.n_keys = 1;
    combine.keys = &source;
    combine.store = (ProtobufCBinaryData){strlen(store), (uint8_t *)(uintptr_t)store};
    request->command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    request->set_combine = &combine;
    return request;
}

static void only_reads_do_not_go_through_the_log(void **state)
{
    Kv__Request *txn = nested(3, call_get(&arena, "a", 0));
    Kv__Reply *reply;

    (void)state;
    assert_int_equal(kv_command_classify(call_txn(&arena)), KV_COMMAND_READ);
    assert_int_equal(kv_command_classify(txn), KV_COMMAND_READ);
    assert_false(kv_command_grows(txn));
    assert_int_equal(kv_command_classify(nested(4, call_touch(&arena, "a"))), KV_COMMAND_WRITE);
    assert_true(kv_command_grows(nested(2, call_touch(&arena, "a"))));
    assert_false(kv_command_grows(nested(4, call_delete(&arena, "a", false))));
    call_otherwise(&arena, txn, call_put(&arena, "a", "x"));
    assert_int_equal(kv_command_classify(txn), KV_COMMAND_WRITE);
    /* It depends on where the result goes. */
    assert_int_equal(kv_command_classify(nested(2, call_union(""))), KV_COMMAND_READ);
    assert_int_equal(kv_command_classify(nested(2, call_union("b"))), KV_COMMAND_WRITE);
    /* Where it does not belong it is refused, not run. */
    reply = machine_rig_write(&rig, nested(1, call_exists(&arena, "a", 0)));
    assert_int_equal(reply->code, KV__CODE__INVALID);
    kv__reply__free_unpacked(reply, NULL);
    reply = machine_rig_read(&rig, nested(1, call_put(&arena, "a", "x")));
    assert_int_equal(reply->code, KV__CODE__INVALID);
    kv__reply__free_unpacked(reply, NULL);
    reply = ask(nested(1, call_exists(&arena, "a", 0)));
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->txn->replies[0]->exists->count, 0);
    kv__reply__free_unpacked(reply, NULL);
}

static void refuse(Kv__Request *request, Kv__Code code, const char *word)
{
    Kv__Reply *reply = machine_rig_write(&rig, request);

    assert_int_equal(reply->code, code);
    if (!strstr(reply->message, word)) {
        print_error("%s\n", reply->message);
    }
    assert_non_null(strstr(reply->message, word));
    kv__reply__free_unpacked(reply, NULL);
    assert_int_equal(kv_machine_revision(rig.machine), 1);
}

static void what_may_not_be_inside(void **state)
{
    Kv__Request *put = call_put(&arena, "a", "x");
    Kv__Request *operation;
    Kv__Request *txn;

    (void)state;
    refuse(then(nested(1, put), call_config_set(&arena, "value-limit", 2000)),
           KV__CODE__INVALID,
           "operation 1: this command may not be");
    operation = call_range(&arena, "", 0);
    operation->range->stream = true;
    refuse(then(nested(1, put), operation), KV__CODE__INVALID, "operation 1: this command");
    refuse(nested(5, put), KV__CODE__INVALID, "deeper than 4");
    expect(nested(4, call_delete(&arena, "a", false)), KV__CODE__OK);
    operation = call_put(&arena, "a", "x");
    operation->id = 7;
    refuse(nested(2, operation), KV__CODE__INVALID, "operation 0: operation 0: id,");
    refuse(
        then(nested(1, put), call_put(&arena, "", "x")), KV__CODE__INVALID, "operation 1: the key");
    txn = nested(1, put);
    operation = call_put(&arena, "a", "x");
    operation->command_case = KV__REQUEST__COMMAND__NOT_SET;
    call_otherwise(&arena, txn, operation);
    refuse(txn, KV__CODE__INVALID, "operation of otherwise 0: it names no command");
    operation = call_put(&arena, "a", "x");
    operation->command_case = KV__REQUEST__COMMAND_BACKUP;
    refuse(then(nested(1, put), operation), KV__CODE__UNSUPPORTED, "operation 1:");
}

static void wrong_compares(void **state)
{
    Kv__Compare__MemberScore score = KV__COMPARE__MEMBER_SCORE__INIT;
    Kv__Compare *compare = call_compare(&arena, "a", KV__COMPARISON__COMPARE_LESS);
    Kv__Request *txn = call_if(&arena, nested(1, call_put(&arena, "a", "x")), compare);

    (void)state;
    refuse(txn, KV__CODE__INVALID, "compare 0: nothing to compare with");
    compare->operand_case = KV__COMPARE__OPERAND_TYPE;
    refuse(txn, KV__CODE__INVALID, "no order");
    compare->type = 77;
    refuse(txn, KV__CODE__INVALID, "unknown type 77");
    compare->operand_case = KV__COMPARE__OPERAND_VERSION;
    compare->version = 0;
    compare->comparison = 6;
    refuse(txn, KV__CODE__INVALID, "unknown comparison 6");
    compare->operand_case = KV__COMPARE__OPERAND_SET_MEMBER;
    compare->set_member = machine_rig_bytes("");
    refuse(txn, KV__CODE__INVALID, "member is empty");
    compare->operand_case = KV__COMPARE__OPERAND_ZSET_SCORE;
    score.member = machine_rig_bytes("m");
    score.score = NAN;
    compare->zset_score = &score;
    refuse(txn, KV__CODE__INVALID, "not a number");
    compare->range = NULL;
    refuse(txn, KV__CODE__INVALID, "the range is missing");
}

static void the_number_of_operations_is_bounded(void **state)
{
    Kv__Request *txn = call_txn(&arena);
    Kv__Reply *reply;

    (void)state;
    rig.checks = false;
    for (unsigned i = 0; i < KV_TXN_OPERATIONS_MAX - 2; i++) {
        then(txn, call_counter_add(&arena, "n", 1));
    }
    then(txn, nested(1, call_counter_add(&arena, "n", 1)));
    reply = ask(txn);
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->revision, 2);
    kv__reply__free_unpacked(reply, NULL);
    call_otherwise(&arena, txn, call_counter_add(&arena, "n", 1));
    reply = ask(txn);
    assert_int_equal(reply->code, KV__CODE__TOO_LARGE);
    assert_non_null(strstr(reply->message, "4096 operations"));
    kv__reply__free_unpacked(reply, NULL);
    expect(call_config_set(&arena, "work-limit", 100), KV__CODE__OK);
    txn->txn->n_otherwise = 0;
    reply = ask(txn);
    assert_int_equal(reply->code, KV__CODE__TOO_LARGE);
    assert_string_equal(reply->hint->limit, "work-limit");
    assert_int_equal(reply->hint->operation, 100);
    kv__reply__free_unpacked(reply, NULL);
    assert_int_equal(kv_machine_revision(rig.machine), 2);
    kv_machine_check_invariants(rig.machine);
}

static void a_reply_is_bounded(void **state)
{
    char *value = calloc(1, KV_MIB);
    Kv__Request *txn = call_txn(&arena);
    Kv__Reply *reply;

    (void)state;
    memset(value, 'v', KV_MIB - 1);
    expect(call_put(&arena, "a", value), KV__CODE__OK);
    then(txn, call_put(&arena, "b", "x"));
    for (unsigned i = 0; i < 15; i++) {
        then(txn, call_get(&arena, "a", 0));
    }
    expect(txn, KV__CODE__OK);
    then(txn, call_get(&arena, "a", 0));
    reply = ask(txn);
    assert_int_equal(reply->code, KV__CODE__TOO_LARGE);
    assert_string_equal(reply->hint->limit, "reply-limit");
    assert_int_equal(reply->hint->operation, 16);
    kv__reply__free_unpacked(reply, NULL);
    /* Also what is written, which the reply does not show. */
    txn = call_txn(&arena);
    for (unsigned i = 0; i < 70; i++) {
        then(txn, call_set_range(&arena, "a", i, "x"));
    }
    reply = ask(txn);
    assert_int_equal(reply->code, KV__CODE__TOO_LARGE);
    assert_string_equal(reply->hint->limit, "written-bytes");
    assert_int_equal(reply->hint->operation, 63);
    kv__reply__free_unpacked(reply, NULL);
    free(value);
}

/* A large hash is emptied, made again as another type and more, and then it fails. */
static void a_huge_one_that_fails_restores_everything(void **state)
{
    Kv__Request *txn = call_txn(&arena);
    struct kv_machine_stats before, after;
    uint64_t last_id;

    (void)state;
    expect(call_hash_set(&arena, "small", 0, 4, "s"), KV__CODE__OK);
    expect(call_hash_set(&arena, "large", 0, 400, "l"), KV__CODE__OK);
    expect(call_put(&arena, "string", "x"), KV__CODE__OK);
    kv_machine_stats(rig.machine, &before);
    last_id = rig.machine->last_collection_id;
    for (unsigned i = 0; i < 200; i++) {
        then(txn, call_hash_delete(&arena, "large", 2 * i, 2));
        then(txn, call_hash_set(&arena, "small", 2 * i, 2, "more"));
        then(txn, call_copy(&arena, "small", i % 2 ? "copy" : "other", false));
        then(txn, call_hash_add(&arena, "sums", i, 1));
    }
    then(txn, call_rename(&arena, "small", "large", true));
    then(txn, call_put(&arena, "small", "a string"));
    then(txn, call_delete_prefix(&arena, "s"));
    then(txn, call_getdel(&arena, "absent"));
    for (unsigned i = 0; i < 3; i++) {
        Kv__Reply *reply = ask(txn);

        assert_int_equal(reply->code, KV__CODE__NOT_FOUND);
        assert_int_equal(reply->hint->operation, 803);
        kv__reply__free_unpacked(reply, NULL);
        kv_machine_stats(rig.machine, &after);
        assert_memory_equal(&before, &after, sizeof before);
        assert_int_equal(rig.machine->last_collection_id, last_id);
        assert_int_equal(kv_tree_count(&rig.machine->elements), 400);
        machine_rig_reload(&rig);
    }
    txn->txn->n_then--;
    expect(txn, KV__CODE__OK);
    machine_rig_reload(&rig);
}

/* A set of n members m0, m1 ... by hand: no command makes one here. */
static void make_members(const char *key, enum kv_type type, unsigned n)
{
    struct kv_machine *machine = rig.machine;
    struct kv_collection members;

    assert_int_equal(kv_machine_begin(machine, ++rig.log_index, 1, rig.cluster_time_ms), 0);
    kv_collection_create(machine, kv_slice_str(key), type, &members);
    if (type == KV_TYPE_ZSET) {
        (void)kv_collection_enlarge(&members);
    }
    for (unsigned i = 0; i < n; i++) {
        char name[16];
        uint8_t score[8];

        (void)snprintf(name, sizeof name, "m%u", i);
        kv_put_u64(score, kv_score_bits(i / 4.0));
        if (type == KV_TYPE_SET) {
            assert_true(kv_map_put(&members, kv_slice_str(name), kv_slice_of(NULL, 0)));
        } else {
            (void)kv_element_put(&members, kv_slice_str(name), kv_slice_of(score, sizeof score));
            kv_zset_index_put(machine, kv_element_find(&members, kv_slice_str(name)));
        }
    }
    kv_collection_commit(&members);
    machine->revision++;
    machine->changed = false;
    machine->entry_changed = true;
    kv_machine_end(machine);
}

static bool is_true(Kv__Compare *compare)
{
    Kv__Reply *reply = ask(call_if(&arena, call_txn(&arena), compare));
    bool succeeded;

    assert_int_equal(reply->code, KV__CODE__OK);
    succeeded = reply->txn->succeeded;
    kv__reply__free_unpacked(reply, NULL);
    return succeeded;
}

static bool has_member(const char *key, Kv__Comparison comparison, const char *member)
{
    Kv__Compare *compare = call_compare(&arena, key, comparison);

    compare->operand_case = KV__COMPARE__OPERAND_SET_MEMBER;
    compare->set_member = machine_rig_bytes(member);
    return is_true(compare);
}

static bool has_score(const char *key, Kv__Comparison comparison, const char *member, double score)
{
    Kv__Compare *compare = call_compare(&arena, key, comparison);
    Kv__Compare__MemberScore operand = KV__COMPARE__MEMBER_SCORE__INIT;

    operand.member = machine_rig_bytes(member);
    operand.score = score;
    compare->operand_case = KV__COMPARE__OPERAND_ZSET_SCORE;
    compare->zset_score = &operand;
    return is_true(compare);
}

static void compares_of_members_and_scores(void **state)
{
    static const char *const sets[] = {"small", "large"};

    (void)state;
    make_members("small", KV_TYPE_SET, 3);
    make_members("large", KV_TYPE_SET, 300);
    make_members("zset", KV_TYPE_ZSET, 30);
    for (unsigned i = 0; i < 2; i++) {
        assert_true(has_member(sets[i], KV__COMPARISON__COMPARE_EQUAL, "m2"));
        assert_false(has_member(sets[i], KV__COMPARISON__COMPARE_NOT_EQUAL, "m2"));
        assert_false(has_member(sets[i], KV__COMPARISON__COMPARE_EQUAL, "m300"));
        assert_true(has_member(sets[i], KV__COMPARISON__COMPARE_NOT_EQUAL, "m300"));
    }
    assert_false(has_member("zset", KV__COMPARISON__COMPARE_EQUAL, "m2"));
    assert_false(has_member("zset", KV__COMPARISON__COMPARE_NOT_EQUAL, "m2"));
    assert_false(has_member("absent", KV__COMPARISON__COMPARE_NOT_EQUAL, "m2"));
    assert_true(has_score("zset", KV__COMPARISON__COMPARE_EQUAL, "m0", -0.0));
    assert_true(has_score("zset", KV__COMPARISON__COMPARE_EQUAL, "m6", 1.5));
    assert_true(has_score("zset", KV__COMPARISON__COMPARE_LESS, "m6", INFINITY));
    assert_true(has_score("zset", KV__COMPARISON__COMPARE_GREATER_EQUAL, "m6", 1.5));
    assert_false(has_score("zset", KV__COMPARISON__COMPARE_NOT_EQUAL, "m6", 1.5));
    assert_false(has_score("zset", KV__COMPARISON__COMPARE_NOT_EQUAL, "m99", 1.5));
    assert_false(has_score("large", KV__COMPARISON__COMPARE_NOT_EQUAL, "m6", 1.5));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(operations_see_what_earlier_ones_wrote, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_that_fails_undoes_all, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_compares_choose, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_reads_do_not_go_through_the_log, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_may_not_be_inside, set_up, tear_down),
        cmocka_unit_test_setup_teardown(compares_of_members_and_scores, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_compares, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_number_of_operations_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_reply_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_huge_one_that_fails_restores_everything, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
