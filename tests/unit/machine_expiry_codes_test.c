/* Keys and leases that end: what each command answers, which commands keep what a key has, and what
 * bad input gets. Random ones are in property/machine_expiry_test.c. */
#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "tests/support/machine_calls.h"
#include "tests/support/machine_rig.h"

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
    kv_arena_init(&arena, 16 * KV_MIB);
    machine_rig_open(&rig, 1);
    rig.is_still = true;
    machine_rig_pass_time(&rig, 5000);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    machine_rig_reload(&rig);
    machine_rig_close(&rig);
    kv_arena_deinit(&arena);
    return 0;
}

static void expect(Kv__Request *request)
{
    machine_rig_expect(&rig, request, KV__CODE__OK);
}

/* The code, and what the message must say. */
static void refuse(Kv__Request *request, Kv__Code code, const char *says)
{
    const uint64_t hash = kv_machine_state_hash(rig.machine);
    Kv__Reply *reply = kv_command_classify(request) == KV_COMMAND_READ
                           ? machine_rig_read(&rig, request)
                           : machine_rig_write(&rig, request);

    assert_int_equal(reply->code, code);
    if (!strstr(reply->message, says)) {
        fail_msg("\"%s\" does not say \"%s\"", reply->message, says);
    }
    assert_int_equal(kv_machine_state_hash(rig.machine), hash);
    kv__reply__free_unpacked(reply, NULL);
}

/* -2: the key is not there. */
static int64_t remaining(const char *key, int64_t *ret_lease_id)
{
    Kv__Reply *reply = machine_rig_read(&rig, call_ttl(&arena, key));
    int64_t ms = reply->code == KV__CODE__OK ? reply->ttl->remaining_ms : -2;

    if (ret_lease_id) {
        *ret_lease_id = reply->ttl->lease_id;
    }
    kv__reply__free_unpacked(reply, NULL);
    return ms;
}

static void a_put_gives_keeps_and_drops(void **state)
{
    Kv__Reply *reply;
    int64_t lease_id;

    (void)state;
    expect(call_put_ttl(&arena, "a", "1", 100));
    assert_int_equal(remaining("a", NULL), 100);
    machine_rig_pass_time(&rig, 40);
    assert_int_equal(remaining("a", NULL), 60);
    expect(call_put_keep(&arena, "a", "2"));
    assert_int_equal(remaining("a", NULL), 60);
    reply = machine_rig_read(&rig, call_get(&arena, "a", 0));
    assert_int_equal(reply->get->kv->expires_at_ms, rig.cluster_time_ms + 60);
    kv__reply__free_unpacked(reply, NULL);
    expect(call_put(&arena, "a", "3"));
    assert_int_equal(remaining("a", NULL), -1);
    expect(call_lease_grant(&arena, 9, 2000));
    expect(call_put_lease(&arena, "a", "4", 9));
    assert_int_equal(remaining("a", &lease_id), 2000);
    assert_int_equal(lease_id, 9);
    expect(call_getset(&arena, "a", "5"));
    assert_int_equal(remaining("a", &lease_id), -1);
    assert_int_equal(lease_id, 0);
    expect(call_put_keep(&arena, "new", "v"));
    assert_int_equal(remaining("new", NULL), -1);
}

static void what_changes_a_value_keeps_its_time(void **state)
{
    (void)state;
    expect(call_put_ttl(&arena, "s", "1", 100));
    expect(call_append(&arena, "s", "2"));
    expect(call_set_range(&arena, "s", 5, "x"));
    expect(call_touch(&arena, "s"));
    assert_int_equal(remaining("s", NULL), 100);
    expect(call_counter_set(&arena, "n", 5));
    expect(call_expire(&arena, "n", 200));
    expect(call_counter_add(&arena, "n", 1));
    expect(call_counter_set(&arena, "n", 9));
    assert_int_equal(remaining("n", NULL), 200);
    expect(call_list_push(&arena, "l", true, 2));
    expect(call_expire(&arena, "l", 300));
    expect(call_list_push(&arena, "l", true, 200));
    expect(call_list_pop(&arena, "l", true, 1));
    assert_int_equal(remaining("l", NULL), 300);
    /* A collection that is gone and comes again is another one. */
    expect(call_list_pop(&arena, "l", true, 1000));
    expect(call_list_push(&arena, "l", true, 1));
    assert_int_equal(remaining("l", NULL), -1);
    expect(call_zset_add(&arena, "z", 0, 3));
    expect(call_expire(&arena, "z", 400));
    expect(call_rename(&arena, "z", "y", false));
    expect(call_copy(&arena, "y", "x", false));
    assert_int_equal(remaining("y", NULL), 400);
    assert_int_equal(remaining("x", NULL), -1);
    expect(call_persist(&arena, "y"));
    assert_int_equal(remaining("y", NULL), -1);
}

static void a_counters_ttl_is_of_its_creation(void **state)
{
    Kv__Request *request = call_counter_add(&arena, "n", 1);

    (void)state;
    request->counter_add->ttl_ms = 50;
    expect(request);
    machine_rig_pass_time(&rig, 30);
    expect(request);
    assert_int_equal(remaining("n", NULL), 20);
    machine_rig_pass_time(&rig, 20);
    /* What is left of its last millisecond. */
    assert_int_equal(remaining("n", NULL), 1);
    machine_rig_pass_time(&rig, 1);
    assert_int_equal(remaining("n", NULL), -2);
    request->counter_add->ttl_ms = KV_TTL_MAX_MS + 1;
    refuse(request, KV__CODE__OUT_OF_BOUNDS, "ttl-max");
}

static void ttl_of_a_field(void **state)
{
    Kv__Reply *reply;

    (void)state;
    expect(call_hash_set(&arena, "h", 0, 2, "7"));
    expect(call_hash_set_ttl(&arena, "h", 1, 2, 100));
    expect(call_hash_set_ttl(&arena, "h", 3, 1, 70));
    reply = machine_rig_read(&rig, call_hash_get_all(&arena, "h", 0));
    assert_int_equal(reply->hash_get_all->n_fields, 4);
    assert_int_equal(reply->hash_get_all->fields[0]->ttl_ms, 0);
    assert_int_equal(reply->hash_get_all->fields[1]->ttl_ms, 100);
    assert_int_equal(reply->hash_get_all->fields[3]->ttl_ms, 70);
    kv__reply__free_unpacked(reply, NULL);
    /* An addition keeps it, another set drops it; the key itself has none. */
    expect(call_hash_set_ttl(&arena, "c", 0, 1, 100));
    expect(call_hash_delete(&arena, "c", 0, 1));
    expect(call_hash_add(&arena, "c", 0, 5));
    expect(call_hash_set(&arena, "h", 2, 1, "7"));
    assert_int_equal(remaining("h", NULL), -1);
    assert_int_equal(kv_machine_next_due_ms(rig.machine), rig.cluster_time_ms + 71);
    machine_rig_pass_time(&rig, 100);
    reply = machine_rig_read(&rig, call_hash_len(&arena, "h"));
    assert_int_equal(reply->hash_len->count, 3);
    kv__reply__free_unpacked(reply, NULL);
    machine_rig_pass_time(&rig, 1);
    reply = machine_rig_read(&rig, call_hash_len(&arena, "h"));
    assert_int_equal(reply->hash_len->count, 2);
    kv__reply__free_unpacked(reply, NULL);
    assert_int_equal(kv_machine_next_due_ms(rig.machine), INT64_MAX);
    refuse(call_hash_set_ttl(&arena, "h", 0, 1, UINT64_MAX), KV__CODE__OUT_OF_BOUNDS, "ttl-max");
}

/* What one entry ends has one revision, and the last field ends its key. */
static void all_that_one_entry_ends_has_one_revision(void **state)
{
    int64_t revision;
    struct kv_machine_stats stats;
    const struct kv_record *record;

    (void)state;
    expect(call_put_ttl(&arena, "b", "1", 30));
    expect(call_put_ttl(&arena, "a", "1", 49));
    expect(call_hash_set_ttl(&arena, "h", 0, 3, 40));
    expect(call_put_ttl(&arena, "later", "1", 50));
    revision = kv_machine_revision(rig.machine);
    kv_machine_stats(rig.machine, &stats);
    assert_int_equal(stats.expiring, 4);
    machine_rig_pass_time(&rig, 50);
    assert_int_equal(kv_machine_revision(rig.machine), revision + 1);
    kv_machine_stats(rig.machine, &stats);
    assert_int_equal(stats.keys, 1);
    record = kv_tree_find(&rig.machine->tree, kv_slice_str("h"));
    assert_true(record && record->tombstone && record->expired);
    assert_int_equal(record->mod_revision, revision + 1);
    /* Lateness: 20, 1, and three times 10 ms. */
    assert_int_equal(stats.lateness.sum_ms, 51);
    assert_int_equal(stats.lateness.counts[0], 1);
    assert_int_equal(stats.lateness.counts[3], 3);
    assert_int_equal(stats.lateness.counts[4], 1);
}

static void bad_times_are_refused(void **state)
{
    Kv__Request *request = call_expire(&arena, "a", 1);

    (void)state;
    expect(call_put(&arena, "a", "1"));
    refuse(call_put_ttl(&arena, "a", "1", 0), KV__CODE__INVALID, "1 or more");
    refuse(call_put_ttl(&arena, "a", "1", (uint64_t)-5), KV__CODE__OUT_OF_BOUNDS, "ttl-max");
    refuse(call_put_ttl(&arena, "a", "1", KV_TTL_MAX_MS + 1), KV__CODE__OUT_OF_BOUNDS, "ttl-max");
    expect(call_put_ttl(&arena, "a", "1", KV_TTL_MAX_MS));
    machine_rig_set(&rig, "ttl-max", 1000);
    refuse(call_expire(&arena, "a", 1001), KV__CODE__OUT_OF_BOUNDS, "at most 1000");
    expect(call_expire(&arena, "a", 1000));
    refuse(call_expire(&arena, "a", 0), KV__CODE__INVALID, "1 or more");
    refuse(call_expire(&arena, "nowhere", 5), KV__CODE__NOT_FOUND, "the key does not exist");
    refuse(call_persist(&arena, "nowhere"), KV__CODE__NOT_FOUND, "the key does not exist");
    refuse(call_ttl(&arena, "nowhere"), KV__CODE__NOT_FOUND, "the key does not exist");
    refuse(call_expire_lease(&arena, "a", 3), KV__CODE__NOT_FOUND, "lease 3");
    refuse(call_expire_lease(&arena, "a", 0), KV__CODE__INVALID, "lease id 0");
    refuse(call_put_lease(&arena, "a", "1", -1), KV__CODE__INVALID, "lease id -1");
    refuse(call_put_lease(&arena, "a", "1", 77), KV__CODE__NOT_FOUND, "lease 77");
    request->expire->expiry_case = KV__EXPIRE__EXPIRY__NOT_SET;
    refuse(request, KV__CODE__INVALID, "neither a ttl nor a lease");
}

/* Who takes the number that an entry begins with, and those behind it, makes nobody search them
 * all.
 */
static void a_chosen_id_is_not_behind_a_block_of_taken_ones(void **state)
{
    enum { TAKEN = 100 };
    const int64_t first = (int64_t)(rig.log_index + TAKEN + 1) << 12;
    Kv__Reply *reply;

    (void)state;
    for (int i = 0; i < TAKEN; i++) {
        expect(call_lease_grant(&arena, first + i, 5000));
    }
    reply = machine_rig_write(&rig, call_lease_grant(&arena, 0, 5000));
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_true(reply->lease_grant->lease_id < first ||
                reply->lease_grant->lease_id > first + TAKEN);
    kv__reply__free_unpacked(reply, NULL);
}

static void grants(void **state)
{
    Kv__Reply *reply;
    Kv__Request *in_txn = call_txn(&arena);

    (void)state;
    refuse(call_lease_grant(&arena, -1, 5000), KV__CODE__INVALID, "lease id -1");
    refuse(call_lease_grant(&arena, 1, 0), KV__CODE__INVALID, "1 or more");
    refuse(call_lease_grant(&arena, 1, 999), KV__CODE__OUT_OF_BOUNDS, "lease-ttl-min");
    refuse(call_lease_grant(&arena, 1, UINT64_MAX), KV__CODE__OUT_OF_BOUNDS, "lease-ttl-max");
    expect(call_lease_grant(&arena, INT64_MAX, 5000));
    refuse(call_lease_grant(&arena, INT64_MAX, 5000), KV__CODE__EXISTS, "there is a lease");
    for (unsigned i = 0; i < 3; i++) {
        reply = machine_rig_write(&rig, call_lease_grant(&arena, 0, 5000));
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_true(reply->lease_grant->lease_id > 0);
        kv__reply__free_unpacked(reply, NULL);
    }
    machine_rig_set(&rig, "lease-limit", 4);
    refuse(call_lease_grant(&arena, 0, 5000), KV__CODE__BUSY, "lease-limit");
    (void)call_then(&arena, in_txn, call_lease_grant(&arena, 0, 5000));
    refuse(in_txn, KV__CODE__INVALID, "operation 0");
    machine_rig_set(&rig, "lease-limit", 5);
    machine_rig_set(&rig, "data-limit", 1);
    refuse(call_lease_grant(&arena, 0, 5000), KV__CODE__NO_SPACE, "data-limit");
}

static void keepalives(void **state)
{
    Kv__Reply *reply;
    Kv__Request *stamped = call_lease_keep_alive(&arena, 2, 1);
    Kv__SessionStamp stamp = KV__SESSION_STAMP__INIT;

    (void)state;
    expect(call_lease_grant(&arena, 2, 1000));
    expect(call_lease_grant(&arena, 4, 3000));
    machine_rig_pass_time(&rig, 999);
    reply = machine_rig_write(&rig, call_lease_keep_alive(&arena, 1, 4));
    assert_int_equal(reply->code, KV__CODE__OK);
    assert_int_equal(reply->lease_keep_alive->n_leases, 4);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(reply->lease_keep_alive->leases[i]->lease_id, i + 1);
        assert_int_equal(reply->lease_keep_alive->leases[i]->ttl_ms,
                         i == 1   ? 1000
                         : i == 3 ? 3000
                                  : 0);
    }
    kv__reply__free_unpacked(reply, NULL);
    /* It stands before what the time of its entry ends; behind that it is too late. */
    rig.cluster_time_ms += 1001;
    expect(call_lease_keep_alive(&arena, 2, 1));
    machine_rig_pass_time(&rig, 1001);
    refuse(call_lease_keep_alive(&arena, 2, 1), KV__CODE__NOT_FOUND, "lease 2");
    refuse(call_lease_keep_alive(&arena, 0, 1), KV__CODE__INVALID, "lease id 0");
    refuse(call_lease_keep_alive(&arena, 1, 0), KV__CODE__INVALID, "names no lease");
    refuse(call_lease_keep_alive(&arena, 1, 4097), KV__CODE__TOO_LARGE, "at most 4096");
    stamp.session_id = stamp.sequence = 1;
    stamped->session = &stamp;
    refuse(stamped, KV__CODE__INVALID, "no stamp");
}

static void a_dead_lease_is_dead_before_its_keys_are(void **state)
{
    char name[8];

    (void)state;
    rig.machine->expire_per_entry = 2;
    expect(call_lease_grant(&arena, 2, 1000));
    for (unsigned i = 0; i < 5; i++) {
        (void)snprintf(name, sizeof name, "k%u", i);
        expect(call_put_lease(&arena, name, "v", 2));
    }
    machine_rig_pass_time(&rig, 1001);
    assert_int_equal(kv_tree_count(&rig.machine->tree), 3);
    assert_int_equal(remaining("k4", NULL), 1);
    /* Each of these is an entry, which ends two more. */
    refuse(call_lease_info(&arena, 2, false), KV__CODE__NOT_FOUND, "lease 2");
    machine_rig_expect(&rig, call_lease_grant(&arena, 2, 1000), KV__CODE__BUSY);
    machine_rig_expect(&rig, call_put_lease(&arena, "new", "v", 2), KV__CODE__NOT_FOUND);
    assert_int_equal(kv_tree_count(&rig.machine->tree), 0);
    expect(call_lease_grant(&arena, 2, 1000));
}

/* Leases that have ended stay while they have keys: a list looks at a bounded number of them, and
 * says where to go on. */
static void a_list_looks_at_few_that_have_ended(void **state)
{
    enum { ENDED = 1000, LIMIT = 200, LOOKS = LIMIT / 2, LIVE = 5000 };
    int64_t after_id = 0;
    unsigned n_replies = 0;
    Kv__Reply *reply;
    bool more;

    (void)state;
    expect(call_config_set(&arena, "work-limit", LIMIT));
    for (int64_t id = 1; id <= ENDED; id++) {
        char key[16];

        snprintf(key, sizeof key, "key%d", (int)id);
        expect(call_lease_grant(&arena, id, 1000));
        expect(call_put_lease(&arena, key, "v", id));
    }
    expect(call_lease_grant(&arena, LIVE, 100000));
    machine_rig_pass_time(&rig, 1001);
    /* One entry with a command: it ends them, and the keys of 25. */
    expect(call_put(&arena, "k", "v"));
    do {
        reply = machine_rig_read(&rig, call_lease_list(&arena, after_id, 0));
        more = reply->lease_list->more;
        assert_true(reply->lease_list->last_id > after_id);
        assert_int_equal(reply->lease_list->n_lease_ids, !more);
        after_id = reply->lease_list->last_id;
        kv__reply__free_unpacked(reply, NULL);
        n_replies++;
    } while (more);
    assert_int_equal(after_id, LIVE);
    assert_in_range(n_replies, 7, 9);
    expect(call_config_set(&arena, "work-limit", KV_WORK_ELEMENTS_DEFAULT));
}

static void info_and_list(void **state)
{
    Kv__Request *request = call_lease_info(&arena, 6, true);
    Kv__Reply *reply;

    (void)state;
    expect(call_lease_grant(&arena, 6, 1000));
    expect(call_lease_grant(&arena, 3, 2000));
    expect(call_put_lease(&arena, "b", "v", 6));
    expect(call_put_lease(&arena, "a", "v", 6));
    expect(call_put_lease(&arena, "c", "v", 6));
    machine_rig_pass_time(&rig, 100);
    request->lease_info->limit = 2;
    reply = machine_rig_read(&rig, request);
    assert_int_equal(reply->lease_info->ttl_ms, 1000);
    assert_int_equal(reply->lease_info->remaining_ms, 900);
    assert_int_equal(reply->lease_info->key_count, 3);
    assert_int_equal(reply->lease_info->n_keys, 2);
    assert_memory_equal(reply->lease_info->keys[1].data, "b", 1);
    assert_true(reply->lease_info->more);
    kv__reply__free_unpacked(reply, NULL);
    request->lease_info->cursor = machine_rig_bytes("b");
    reply = machine_rig_read(&rig, request);
    assert_int_equal(reply->lease_info->n_keys, 1);
    assert_false(reply->lease_info->more);
    kv__reply__free_unpacked(reply, NULL);
    reply = machine_rig_read(&rig, call_lease_list(&arena, 0, 1));
    assert_int_equal(reply->lease_list->n_lease_ids, 1);
    assert_int_equal(reply->lease_list->lease_ids[0], 3);
    assert_true(reply->lease_list->more);
    assert_int_equal(reply->lease_list->last_id, 3);
    kv__reply__free_unpacked(reply, NULL);
    reply = machine_rig_read(&rig, call_lease_list(&arena, 3, 0));
    assert_false(reply->lease_list->more);
    assert_int_equal(reply->lease_list->n_lease_ids, 1);
    assert_int_equal(reply->lease_list->lease_ids[0], 6);
    kv__reply__free_unpacked(reply, NULL);
    refuse(call_lease_list(&arena, -1, 0), KV__CODE__INVALID, "after_id");
    refuse(call_lease_info(&arena, 5, true), KV__CODE__NOT_FOUND, "lease 5");
    refuse(call_lease_revoke(&arena, 5), KV__CODE__NOT_FOUND, "lease 5");
    reply = machine_rig_write(&rig, call_lease_revoke(&arena, 6));
    assert_int_equal(reply->lease_revoke->count, 3);
    kv__reply__free_unpacked(reply, NULL);
    assert_false(kv_tree_find(&rig.machine->tree, kv_slice_str("a"))->expired);
}

static void a_transaction_compares_leases(void **state)
{
    Kv__Compare *compare = call_compare(&arena, "a", KV__COMPARISON__COMPARE_EQUAL);
    Kv__Request *txn = call_then(
        &arena, call_if(&arena, call_txn(&arena), compare), call_expire(&arena, "a", 100));

    (void)state;
    expect(call_lease_grant(&arena, 6, 1000));
    expect(call_put_lease(&arena, "a", "v", 6));
    compare->operand_case = KV__COMPARE__OPERAND_LEASE_ID;
    compare->lease_id = 5;
    expect(txn);
    assert_int_equal(remaining("a", NULL), 1000);
    compare->lease_id = 6;
    expect(txn);
    assert_int_equal(remaining("a", NULL), 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_put_gives_keeps_and_drops, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_changes_a_value_keeps_its_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_counters_ttl_is_of_its_creation, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ttl_of_a_field, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            all_that_one_entry_ends_has_one_revision, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_times_are_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(grants, set_up, tear_down),
        cmocka_unit_test_setup_teardown(keepalives, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_dead_lease_is_dead_before_its_keys_are, set_up, tear_down),
        cmocka_unit_test_setup_teardown(
            a_chosen_id_is_not_behind_a_block_of_taken_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_list_looks_at_few_that_have_ended, set_up, tear_down),
        cmocka_unit_test_setup_teardown(info_and_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_transaction_compares_leases, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
