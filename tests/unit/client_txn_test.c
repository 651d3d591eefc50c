/* Transactions of libkv: the message that is sent, and what is refused before. */
#include "tests/support/typed_rig.h"

static struct kv_txn *begin(void)
{
    struct kv_txn *txn = NULL;

    assert_int_equal(kv_txn_begin(NULL, &txn, &error), 0);
    return txn;
}

static void test_txn_compares(void **state)
{
    struct kv_range_spec prefix = {.kind = KV_RANGE_PREFIX, .start = text("p/")};
    struct kv_compare compares[] = {
        {.key = text("k"), .what = KV_COMPARE_EXISTS, .comparison = KV_NOT_EQUAL},
        {.key = text("k"), .what = KV_COMPARE_VALUE, .value = text("v")},
        {.range = &prefix, .what = KV_COMPARE_VERSION, .comparison = KV_LESS, .number = 1},
        {.key = text("k"), .what = KV_COMPARE_CREATE_REVISION, .number = 2},
        {.key = text("k"), .what = KV_COMPARE_MOD_REVISION, .number = 3},
        {.key = text("k"), .what = KV_COMPARE_LEASE, .number = 4},
        {.key = text("k"), .what = KV_COMPARE_TYPE, .number = KV_TYPE_LIST},
        {.key = text("k"), .what = KV_COMPARE_COUNTER, .number = -6},
        {.key = text("k"), .what = KV_COMPARE_FIELD, .name = text("f"), .value = text("w")},
        {.key = text("k"), .what = KV_COMPARE_MEMBER, .name = text("m")},
        {.key = text("k"), .what = KV_COMPARE_SCORE, .name = text("m"), .score = 2.5},
    };
    size_t n = sizeof compares / sizeof compares[0];
    Kv__TxnResult result = KV__TXN_RESULT__INIT;
    struct kv_txn *txn = begin();
    struct kv_txn_result got;
    Kv__Compare **asked_for;
    Kv__Reply reply;

    (void)state;
    for (size_t i = 0; i < n; i++) {
        kv_txn_compare(txn, &compares[i]);
    }
    answer(&reply, KV__REPLY__RESULT_TXN, &result);
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), 0);
    assert_false(got.succeeded);
    assert_int_equal(got.revision, 7);
    kv_txn_result_free(&got);
    assert_int_equal(asked->txn->n_compares, n);
    asked_for = asked->txn->compares;
    assert_true(asked_for[0]->exists);
    assert_int_equal(asked_for[0]->comparison, KV__COMPARISON__COMPARE_NOT_EQUAL);
    assert_proto(asked_for[1]->value, "v");
    assert_int_equal(asked_for[2]->range->special, KV__KEY_RANGE__SPECIAL__PREFIX);
    assert_int_equal(asked_for[2]->version, 1);
    assert_int_equal(asked_for[3]->create_revision, 2);
    assert_int_equal(asked_for[4]->mod_revision, 3);
    assert_int_equal(asked_for[5]->lease_id, 4);
    assert_int_equal(asked_for[6]->type, KV__TYPE__TYPE_LIST);
    assert_int_equal(asked_for[7]->counter, -6);
    assert_proto(asked_for[8]->hash_field->value, "w");
    assert_proto(asked_for[9]->set_member, "m");
    assert_true(asked_for[10]->zset_score->score == 2.5);
}

static void test_txn_operations(void **state)
{
    static const Kv__Request__CommandCase expected[] = {
        KV__REQUEST__COMMAND_PUT,
        KV__REQUEST__COMMAND_GET,
        KV__REQUEST__COMMAND_DELETE,
        KV__REQUEST__COMMAND_COUNTER_ADD,
        KV__REQUEST__COMMAND_COUNTER_GET,
        KV__REQUEST__COMMAND_HASH_SET,
        KV__REQUEST__COMMAND_HASH_DELETE,
        KV__REQUEST__COMMAND_HASH_GET_ALL,
        KV__REQUEST__COMMAND_LIST_PUSH,
        KV__REQUEST__COMMAND_LIST_POP,
        KV__REQUEST__COMMAND_LIST_REMOVE,
        KV__REQUEST__COMMAND_SET_ADD,
        KV__REQUEST__COMMAND_SET_REMOVE,
        KV__REQUEST__COMMAND_ZSET_ADD,
        KV__REQUEST__COMMAND_ZSET_REMOVE,
    };
    struct kv_field field = {.name = text("f"), .value = text("v")};
    Kv__TxnResult result = KV__TXN_RESULT__INIT;
    Kv__Reply inner = KV__REPLY__INIT;
    Kv__Reply *replies = &inner;
    struct kv_txn *txn = begin();
    struct kv_txn_result got;
    Kv__Reply reply;

    (void)state;
    kv_txn_put(txn, text("k"), text("v"));
    kv_txn_get(txn, text("k"));
    kv_txn_delete(txn, text("k"));
    kv_txn_counter_add(txn, text("c"), -1);
    kv_txn_counter_get(txn, text("c"));
    kv_txn_hash_set(txn, text("h"), &field, 1);
    kv_txn_hash_delete(txn, text("h"), text("f"));
    kv_txn_hash_get_all(txn, text("h"));
    kv_txn_list_push(txn, text("l"), KV_LIST_RIGHT, text("e"));
    kv_txn_list_pop(txn, text("l"), KV_LIST_LEFT);
    kv_txn_list_remove(txn, text("l"), text("e"));
    kv_txn_set_add(txn, text("s"), text("m"));
    kv_txn_set_remove(txn, text("s"), text("m"));
    kv_txn_zset_add(txn, text("z"), text("m"), 1);
    kv_txn_zset_remove(txn, text("z"), text("m"));
    kv_txn_otherwise(txn);
    kv_txn_get(txn, text("other"));
    result.succeeded = true;
    result.n_replies = 1;
    result.replies = &replies;
    answer(&reply, KV__REPLY__RESULT_TXN, &result);
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), 0);
    assert_true(got.succeeded);
    assert_int_equal(got.n_replies, 1);
    kv_txn_result_free(&got);
    kv_txn_result_free(&got);
    assert_int_equal(asked->txn->n_then, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < asked->txn->n_then; i++) {
        assert_int_equal(asked->txn->then[i]->command_case, expected[i]);
    }
    assert_proto(asked->txn->then[5]->hash_set->fields[0]->value, "v");
    assert_int_equal(asked->txn->n_otherwise, 1);
    assert_proto(asked->txn->otherwise[0]->get->key, "other");
}

static void test_txn_refused(void **state)
{
    struct kv_range_spec endless = {.kind = KV_RANGE_BETWEEN, .start = text("a")};
    struct kv_txn_result got = {.failed_operation = 99};
    Kv__Hint hint = KV__HINT__INIT;
    Kv__Reply reply = KV__REPLY__INIT;
    struct kv_txn *txn = begin();

    (void)state;
    kv_txn_put(txn, text("k"), text("v"));
    hint.operation = 3;
    reply.hint = &hint;
    prepared = &reply;
    prepared_status = KV_WRONG_TYPE;
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), KV_WRONG_TYPE);
    assert_int_equal(got.failed_operation, 3);
    /* What was wrong before is told by the commit, and nothing is sent. */
    kv__request__free_unpacked(asked, NULL);
    asked = NULL;
    txn = begin();
    kv_txn_compare(txn, &(struct kv_compare){.range = &endless});
    kv_txn_put(txn, text("k"), text("v"));
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), KV_INVALID);
    txn = begin();
    kv_txn_compare(txn, &(struct kv_compare){.key = text("k"), .what = (enum kv_compare_what)99});
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), KV_INVALID);
    assert_null(asked);
    kv_txn_abort(begin());
    kv_txn_abort(NULL);
}

/* More pointers than the first block of them holds, and more bytes than there may be. */
static void test_txn_large(void **state)
{
    Kv__TxnResult result = KV__TXN_RESULT__INIT;
    size_t size = 8 * 1024 * 1024;
    char *value = calloc(1, size);
    struct kv_txn *txn = begin();
    struct kv_txn_result got;
    Kv__Reply reply;

    (void)state;
    assert_non_null(value);
    for (int i = 0; i < 1000; i++) {
        kv_txn_put(txn, text("k"), kv_bytes_of(&i, sizeof i));
    }
    answer(&reply, KV__REPLY__RESULT_TXN, &result);
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), 0);
    assert_int_equal(asked->txn->n_then, 1000);
    for (int i = 0; i < 1000; i++) {
        assert_memory_equal(asked->txn->then[i]->put->value.data, &i, sizeof i);
    }
    kv_txn_result_free(&got);
    txn = begin();
    for (int i = 0; i < 20; i++) {
        kv_txn_put(txn, text("k"), kv_bytes_of(value, size));
    }
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), KV_TOO_LARGE);
    free(value);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_txn_compares),
        TEST(test_txn_operations),
        TEST(test_txn_refused),
        TEST(test_txn_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
