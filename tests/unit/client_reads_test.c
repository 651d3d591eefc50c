/* Which requests libkv may send again without a stamp: reads, and what harms nobody. */
#include "client/session_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
/* cmocka wants the four above first */
#include <cmocka.h>

static const char *const reads[] = {
    "get",          "strlen",
    "get_range",    "exists",
    "count",        "range",
    "type",         "key_history",
    "counter_get",  "hash_get",
    "hash_get_all", "hash_exists",
    "hash_len",     "hash_scan",
    "list_range",   "list_index",
    "list_len",     "set_has",
    "set_members",  "set_len",
    "set_random",   "set_combine",
    "zset_score",   "zset_rank",
    "zset_range",   "zset_count",
    "zset_combine", "txn",
    "config_list",  "config_get",
    "status",       "member_list",
    "snapshot_now", "leader_transfer",
    "ttl",          "lease_info",
    "lease_list",   "watch",
    "subscribe",    "topic_list",
    "backup",       "lease_keep_alive",
};

/* Each command of kv.proto, empty. */
static void test_every_command(void **state)
{
    unsigned n_reads = 0;

    (void)state;
    for (unsigned i = 0; i < kv__request__descriptor.n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &kv__request__descriptor.fields[i];
        const ProtobufCMessageDescriptor *descriptor = field->descriptor;
        Kv__Request request = KV__REQUEST__INIT;
        bool expected = false;
        void *message;

        if (field->id < 16) {
            continue;
        }
        message = calloc(1, descriptor->sizeof_message);
        assert_non_null(message);
        protobuf_c_message_init(descriptor, message);
        request.command_case = (Kv__Request__CommandCase)field->id;
        request.put = message;
        for (size_t k = 0; k < sizeof reads / sizeof reads[0]; k++) {
            expected = expected || strcmp(field->name, reads[k]) == 0;
        }
        n_reads += expected;
        if (kv_session_is_repeatable(&request) != expected) {
            fail_msg("%s is%s repeatable", field->name, expected ? " not" : "");
        }
        free(message);
    }
    assert_int_equal(n_reads, sizeof reads / sizeof reads[0]);
}

static void test_stores_and_transactions(void **state)
{
    Kv__SetCombine combine = KV__SET_COMBINE__INIT;
    Kv__Get get = KV__GET__INIT;
    Kv__Request operation = KV__REQUEST__INIT;
    Kv__Request *operations = &operation;
    Kv__Txn txn = KV__TXN__INIT;
    Kv__Request request = KV__REQUEST__INIT;

    (void)state;
    operation.command_case = KV__REQUEST__COMMAND_GET;
    operation.get = &get;
    txn.n_otherwise = 1;
    txn.otherwise = &operations;
    request.command_case = KV__REQUEST__COMMAND_TXN;
    request.txn = &txn;
    assert_true(kv_session_is_repeatable(&request));
    /* A store is a write, also in the branch that may not run. */
    operation.command_case = KV__REQUEST__COMMAND_SET_COMBINE;
    operation.set_combine = &combine;
    assert_true(kv_session_is_repeatable(&request));
    combine.store = (ProtobufCBinaryData){1, (uint8_t *)"d"};
    assert_false(kv_session_is_repeatable(&operation));
    assert_false(kv_session_is_repeatable(&request));
    /* One that holds itself ends all the same. */
    operation.command_case = KV__REQUEST__COMMAND_TXN;
    operation.txn = &txn;
    assert_false(kv_session_is_repeatable(&request));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_command),
        cmocka_unit_test(test_stores_and_transactions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
