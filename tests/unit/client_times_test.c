/* The typed calls that have to do with time and topics: what each asks for, and what it makes of
 * the answer. */
#include "tests/support/typed_rig.h"

/* ---------------------------------------------------------------- keys */

static void test_put_options(void **state)
{
    Kv__PutResult result = KV__PUT_RESULT__INIT;
    Kv__Reply reply;
    struct kv_put_options ttl = {.ttl_ms = 500};
    struct kv_put_options lease = {.lease_id = 12, .condition = KV_PUT_IF_ABSENT};
    struct kv_put_options keep = {.keep_expiry = true};
    struct kv_put_options both = {.ttl_ms = 1, .lease_id = 1};

    (void)state;
    answer(&reply, KV__REPLY__RESULT_PUT, &result);
    assert_int_equal(kv_put(NULL, text("k"), text("v"), &ttl, NULL, &error), 0);
    assert_int_equal(asked->put->expiry_case, KV__PUT__EXPIRY_TTL_MS);
    assert_int_equal(asked->put->ttl_ms, 500);
    assert_int_equal(kv_put(NULL, text("k"), text("v"), &lease, NULL, &error), 0);
    assert_int_equal(asked->put->expiry_case, KV__PUT__EXPIRY_LEASE_ID);
    assert_int_equal(asked->put->lease_id, 12);
    assert_int_equal(asked->put->condition_case, KV__PUT__CONDITION_IF_ABSENT);
    assert_int_equal(kv_put(NULL, text("k"), text("v"), &keep, NULL, &error), 0);
    assert_int_equal(asked->put->expiry_case, KV__PUT__EXPIRY_KEEP);
    assert_int_equal(kv_put(NULL, text("k"), text("v"), NULL, NULL, &error), 0);
    assert_int_equal(asked->put->expiry_case, KV__PUT__EXPIRY__NOT_SET);
    assert_int_equal(kv_put(NULL, text("k"), text("v"), &both, NULL, &error), KV_INVALID);
    assert_non_null(strstr(error.message, "ttl_ms"));
}

static void test_expire_persist_ttl(void **state)
{
    Kv__DoneResult done = KV__DONE_RESULT__INIT;
    Kv__TtlResult result = KV__TTL_RESULT__INIT;
    struct kv_ttl ttl;
    bool had = false;
    Kv__Reply reply;

    (void)state;
    done.done = true;
    answer(&reply, KV__REPLY__RESULT_EXPIRE, &done);
    assert_int_equal(kv_expire(NULL, text("k"), 900, NULL, &error), 0);
    assert_proto(asked->expire->key, "k");
    assert_int_equal(asked->expire->expiry_case, KV__EXPIRE__EXPIRY_TTL_MS);
    assert_int_equal(asked->expire->ttl_ms, 900);
    assert_int_equal(kv_lease_attach(NULL, text("k"), 33, NULL, &error), 0);
    assert_int_equal(asked->expire->expiry_case, KV__EXPIRE__EXPIRY_LEASE_ID);
    assert_int_equal(asked->expire->lease_id, 33);
    answer(&reply, KV__REPLY__RESULT_PERSIST, &done);
    assert_int_equal(kv_persist(NULL, text("k"), NULL, &had, &error), 0);
    assert_true(had);
    assert_proto(asked->persist->key, "k");
    result.remaining_ms = -1;
    result.lease_id = 4;
    answer(&reply, KV__REPLY__RESULT_TTL, &result);
    assert_int_equal(kv_ttl(NULL, text("k"), NULL, &ttl, &error), 0);
    assert_int_equal(ttl.remaining_ms, -1);
    assert_int_equal(ttl.lease_id, 4);
    assert_proto(asked->ttl->key, "k");
}

/* ---------------------------------------------------------------- leases */

static void test_grant_and_revoke(void **state)
{
    Kv__LeaseResult result = KV__LEASE_RESULT__INIT;
    Kv__CountResult count = KV__COUNT_RESULT__INIT;
    uint64_t keys = 0;
    int64_t id = 0;
    Kv__Reply reply;

    (void)state;
    result.lease_id = 77;
    answer(&reply, KV__REPLY__RESULT_LEASE_GRANT, &result);
    assert_int_equal(kv_lease_grant(NULL, 5, 3000, NULL, &id, &error), 0);
    assert_int_equal(id, 77);
    assert_int_equal(asked->lease_grant->lease_id, 5);
    assert_int_equal(asked->lease_grant->ttl_ms, 3000);
    count.count = 3;
    answer(&reply, KV__REPLY__RESULT_LEASE_REVOKE, &count);
    assert_int_equal(kv_lease_revoke(NULL, 77, NULL, &keys, &error), 0);
    assert_int_equal(keys, 3);
    assert_int_equal(asked->lease_revoke->lease_id, 77);
}

static void test_keep_alive(void **state)
{
    Kv__LeaseKeepAliveResult result = KV__LEASE_KEEP_ALIVE_RESULT__INIT;
    Kv__LeaseResult one = KV__LEASE_RESULT__INIT;
    Kv__LeaseResult gone = KV__LEASE_RESULT__INIT;
    Kv__LeaseResult *list[] = {&one, &gone};
    const int64_t ids[] = {4, 9};
    uint64_t ttls[2] = {1, 1};
    Kv__Reply reply;

    (void)state;
    one.ttl_ms = 500;
    result.n_leases = 2;
    result.leases = list;
    answer(&reply, KV__REPLY__RESULT_LEASE_KEEP_ALIVE, &result);
    assert_int_equal(kv_lease_keep_alive(NULL, ids, 2, NULL, ttls, &error), 0);
    assert_int_equal(ttls[0], 500);
    assert_int_equal(ttls[1], 0);
    assert_int_equal(asked->lease_keep_alive->n_lease_ids, 2);
    assert_int_equal(asked->lease_keep_alive->lease_ids[1], 9);
    assert_int_equal(kv_lease_keep_alive(NULL, ids, 2, NULL, NULL, &error), 0);
    /* An answer about others. */
    assert_int_equal(kv_lease_keep_alive(NULL, ids, 1, NULL, ttls, &error), KV_INTERNAL);
    assert_int_equal(kv_lease_keep_alive(NULL, ids, 0, NULL, ttls, &error), KV_INVALID);
    assert_int_equal(kv_lease_keep_alive(NULL, ids, 4097, NULL, ttls, &error), KV_INVALID);
}

static void test_info_and_list(void **state)
{
    ProtobufCBinaryData keys[] = {{1, (uint8_t *)"a"}, {2, (uint8_t *)"bc"}};
    Kv__LeaseInfoResult result = KV__LEASE_INFO_RESULT__INIT;
    Kv__LeaseListResult list = KV__LEASE_LIST_RESULT__INIT;
    int64_t ids[] = {3, 8};
    struct kv_lease_info_options options = {
        .with_keys = true, .cursor = kv_bytes_str("0"), .limit = 2};
    struct kv_lease_info info;
    struct kv_lease_list leases;
    Kv__Reply reply;

    (void)state;
    result.lease_id = 3;
    result.ttl_ms = 1000;
    result.remaining_ms = 700;
    result.key_count = 9;
    result.n_keys = 2;
    result.keys = keys;
    result.more = true;
    answer(&reply, KV__REPLY__RESULT_LEASE_INFO, &result);
    assert_int_equal(kv_lease_info_of(NULL, 3, &options, &info, &error), 0);
    assert_true(asked->lease_info->with_keys);
    assert_int_equal(asked->lease_info->limit, 2);
    assert_proto(asked->lease_info->cursor, "0");
    assert_int_equal(info.remaining_ms, 700);
    assert_int_equal(info.key_count, 9);
    assert_int_equal(info.n_keys, 2);
    assert_text(info.keys[1], "bc");
    assert_true(info.more);
    kv_lease_info_free(&info);
    kv_lease_info_free(&info);
    list.n_lease_ids = 2;
    list.lease_ids = ids;
    list.more = true;
    list.last_id = 11;
    answer(&reply, KV__REPLY__RESULT_LEASE_LIST, &list);
    assert_int_equal(kv_lease_list(NULL, 2, 10, NULL, &leases, &error), 0);
    assert_int_equal(asked->lease_list->after_id, 2);
    assert_int_equal(asked->lease_list->limit, 10);
    assert_int_equal(leases.n_leases, 2);
    assert_int_equal(leases.lease_ids[1], 8);
    assert_true(leases.more);
    assert_int_equal(leases.last_id, 11);
    kv_lease_list_free(&leases);
    kv_lease_list_free(&leases);
    assert_string_equal(kv_lease_state_name(KV_LEASE_IN_DOUBT), "in doubt");
    assert_string_equal(kv_lease_state_name((enum kv_lease_state)9), "?");
}

/* ---------------------------------------------------------------- topics */

static void test_publish_and_list(void **state)
{
    Kv__PublishResult published = KV__PUBLISH_RESULT__INIT;
    Kv__TopicListResult result = KV__TOPIC_LIST_RESULT__INIT;
    Kv__TopicInfo info = KV__TOPIC_INFO__INIT;
    Kv__TopicInfo *infos[] = {&info};
    struct kv_topic_list list;
    int64_t revision = 0;
    Kv__Reply reply;

    (void)state;
    published.revision = 41;
    answer(&reply, KV__REPLY__RESULT_PUBLISH, &published);
    assert_int_equal(kv_publish(NULL, text("t"), text("hello"), NULL, &revision, &error), 0);
    assert_int_equal(revision, 41);
    assert_proto(asked->publish->topic, "t");
    assert_proto(asked->publish->payload, "hello");
    info.topic = (ProtobufCBinaryData){2, (uint8_t *)"t1"};
    info.messages = 3;
    info.subscribers = 2;
    info.bytes = 30;
    info.newest_revision = 40;
    result.n_topics = 1;
    result.topics = infos;
    result.more = true;
    answer(&reply, KV__REPLY__RESULT_TOPIC_LIST, &result);
    assert_int_equal(kv_topic_list(NULL, text("t"), text("t0"), 1, NULL, &list, &error), 0);
    assert_proto(asked->topic_list->prefix, "t");
    assert_proto(asked->topic_list->cursor, "t0");
    assert_int_equal(asked->topic_list->limit, 1);
    assert_int_equal(list.n_topics, 1);
    assert_text(list.topics[0].topic, "t1");
    assert_int_equal(list.topics[0].messages, 3);
    assert_int_equal(list.topics[0].newest_revision, 40);
    assert_true(list.more);
    kv_topic_list_free(&list);
    kv_topic_list_free(&list);
}

static void test_in_a_transaction(void **state)
{
    struct kv_put_options with_lease = {.lease_id = 6, .condition = KV_PUT_IF_ABSENT};
    struct kv_put_options wrong = {.lease_id = 6, .keep_expiry = true};
    Kv__TxnResult result = KV__TXN_RESULT__INIT;
    struct kv_txn_result got;
    struct kv_txn *txn;
    Kv__Reply reply;

    (void)state;
    result.succeeded = true;
    answer(&reply, KV__REPLY__RESULT_TXN, &result);
    assert_int_equal(kv_txn_begin(NULL, &txn, &error), 0);
    kv_txn_put_with(txn, text("k"), text("v"), &with_lease);
    kv_txn_publish(txn, text("t"), text("p"));
    kv_txn_hash_add(txn, text("h"), text("f"), -3);
    kv_txn_expire(txn, text("h"), 7000);
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), 0);
    assert_int_equal(asked->txn->n_then, 4);
    assert_int_equal(asked->txn->then[0]->put->lease_id, 6);
    assert_proto(asked->txn->then[0]->put->key, "k");
    assert_proto(asked->txn->then[1]->publish->payload, "p");
    assert_proto(asked->txn->then[2]->hash_add->key, "h");
    assert_proto(asked->txn->then[2]->hash_add->field, "f");
    assert_int_equal(asked->txn->then[2]->hash_add->delta, -3);
    assert_proto(asked->txn->then[3]->expire->key, "h");
    assert_int_equal(asked->txn->then[3]->expire->ttl_ms, 7000);
    kv_txn_result_free(&got);
    assert_int_equal(kv_txn_begin(NULL, &txn, &error), 0);
    kv_txn_put_with(txn, text("k"), text("v"), &wrong);
    kv_txn_put_with(txn, text("k"), text("v"), &with_lease);
    assert_int_equal(kv_txn_commit(txn, NULL, &got, &error), KV_INVALID);
    assert_non_null(strstr(error.message, "keep_expiry"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put_options, setup, teardown),
        cmocka_unit_test_setup_teardown(test_expire_persist_ttl, setup, teardown),
        cmocka_unit_test_setup_teardown(test_grant_and_revoke, setup, teardown),
        cmocka_unit_test_setup_teardown(test_keep_alive, setup, teardown),
        cmocka_unit_test_setup_teardown(test_info_and_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_publish_and_list, setup, teardown),
        cmocka_unit_test_setup_teardown(test_in_a_transaction, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
