/* Keys and leases that end, in a cluster: in time and never early, through changes of the leader;
 * renewals are gathered, go first into an entry, come through any node, and none that was answered
 * is lost. */
#include "tests/support/cluster.h"
#include "tests/support/machine_calls.h"
#include "tests/support/seeds.h"

#include "common/limits.h"
#include "server/machine/machine_internal.h"
#include "server/node/node_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct kv_arena arena;

static struct cluster *new_cluster(uint64_t seed)
{
    struct cluster *cluster =
        cluster_new(&(struct cluster_options){.seed = seed,
                                              .n_nodes = 3,
                                              .delay_max_us = 300,
                                              .sync_max_us = 400,
                                              .wal_segment_bytes = 64 * KV_MIB});

    kv_arena_init(&arena, KV_MIB);
    for (unsigned i = 1; i <= 3; i++) {
        cluster_start(cluster, i);
    }
    assert_int_not_equal(cluster_await_leader(cluster, 5000), 0);
    return cluster;
}

static void end_cluster(struct cluster *cluster)
{
    cluster_check_same(cluster);
    cluster_free(cluster);
    kv_arena_deinit(&arena);
}

static void expect(struct cluster *cluster, unsigned node, Kv__Request *request, int code)
{
    struct cluster_request *sent = cluster_submit(cluster, node, request);

    assert_int_equal(cluster_await(cluster, sent, 6000), code);
    cluster_request_free(sent);
    kv_arena_reset(&arena);
}

static uint64_t last_index(struct cluster *cluster, unsigned node)
{
    struct kv_node_status status;

    kv_node_status_get(cluster_node(cluster, node), &status);
    return status.last_index;
}

static unsigned follower_of(struct cluster *cluster)
{
    return 1 + cluster_leader(cluster) % 3;
}

/* On all nodes that are up. */
static bool no_key_is_left(struct cluster *cluster, void *arg)
{
    (void)arg;
    for (unsigned i = 1; i <= 3; i++) {
        if (cluster_is_up(cluster, i) &&
            kv_tree_count(&cluster_node(cluster, i)->machine->tree) > 0) {
            return false;
        }
    }
    return true;
}

static void a_key_ends_in_time_everywhere(void **state)
{
    struct cluster *cluster = new_cluster(1);
    uint64_t before_ms = cluster_now_ms(cluster);
    uint64_t after_ms, index;

    (void)state;
    expect(cluster, follower_of(cluster), call_put_ttl(&arena, "key", "v", 2300), KV__CODE__OK);
    after_ms = cluster_now_ms(cluster);
    assert_true(cluster_run_until(cluster, no_key_is_left, NULL, 10000));
    assert_in_range(cluster_now_ms(cluster), before_ms + 2300, after_ms + 2400);
    /* And the cluster is idle again. */
    cluster_run_ms(cluster, 1000);
    index = last_index(cluster, 1);
    cluster_run_ms(cluster, 20000);
    assert_int_equal(last_index(cluster, 1), index);
    end_cluster(cluster);
}

static void many_keys_end_in_pieces(void **state)
{
    struct cluster *cluster = new_cluster(2);
    struct cluster_request *requests[3000];
    char name[16];

    (void)state;
    for (unsigned i = 0; i < 3000; i++) {
        (void)snprintf(name, sizeof name, "key%u", i);
        requests[i] = cluster_submit(cluster, 1 + i % 3, call_put_ttl(&arena, name, "v", 2000));
        kv_arena_reset(&arena);
    }
    for (unsigned i = 0; i < 3000; i++) {
        assert_int_equal(cluster_await(cluster, requests[i], 6000), KV__CODE__OK);
        cluster_request_free(requests[i]);
    }
    for (unsigned i = 1; i <= 3; i++) {
        cluster_node(cluster, i)->machine->expire_per_entry = 100;
    }
    assert_true(cluster_run_until(cluster, no_key_is_left, NULL, 5000));
    end_cluster(cluster);
}

static void expiry_goes_on_after_a_leader_has_died(void **state)
{
    struct cluster *cluster = new_cluster(3);
    uint64_t before_ms = cluster_now_ms(cluster);
    unsigned leader = cluster_leader(cluster);

    (void)state;
    expect(cluster, leader, call_put_ttl(&arena, "key", "v", 5000), KV__CODE__OK);
    cluster_run_ms(cluster, 2500);
    cluster_crash(cluster, leader);
    assert_true(cluster_run_until(cluster, no_key_is_left, NULL, 10000));
    /* A second that was not logged, and the election. */
    assert_in_range(cluster_now_ms(cluster), before_ms + 5000, before_ms + 5000 + 1000 + 1000);
    cluster_start(cluster, leader);
    cluster_run_ms(cluster, 2000);
    end_cluster(cluster);
}

/* 40 a second, through a follower: the lease lives on, and at most two entries a second renew it.
 */
static void keepalives_are_gathered(void **state)
{
    struct cluster *cluster = new_cluster(4);
    unsigned follower = follower_of(cluster);
    struct cluster_request *sent[400];
    uint64_t index;

    (void)state;
    expect(cluster, follower, call_lease_grant(&arena, 7, 1000), KV__CODE__OK);
    expect(cluster, follower, call_put_lease(&arena, "key", "v", 7), KV__CODE__OK);
    index = last_index(cluster, follower);
    for (unsigned i = 0; i < 400; i++) {
        sent[i] = cluster_submit(cluster, follower, call_lease_keep_alive(&arena, 7, 1));
        cluster_run_ms(cluster, 25);
        kv_arena_reset(&arena);
    }
    for (unsigned i = 0; i < 400; i++) {
        assert_int_equal(cluster_await(cluster, sent[i], 1000), KV__CODE__OK);
        assert_int_equal(sent[i]->reply->lease_keep_alive->leases[0]->ttl_ms, 1000);
        assert_true(sent[i]->done_ms - sent[i]->sent_ms <=
                    KV_RENEWAL_MS + KV_HEARTBEAT_TIMEOUT_MS + 10);
        cluster_request_free(sent[i]);
    }
    /* Ten seconds, with an entry for the time between two of them at most. */
    assert_in_range(last_index(cluster, follower) - index, 18, 42);
    assert_false(no_key_is_left(cluster, NULL));
    assert_true(cluster_run_until(cluster, no_key_is_left, NULL, 1200));
    expect(cluster, follower, call_lease_keep_alive(&arena, 7, 1), KV__CODE__NOT_FOUND);
    end_cluster(cluster);
}

static void the_first_renewal_goes_at_once(void **state)
{
    struct cluster *cluster = new_cluster(5);
    unsigned leader = cluster_leader(cluster);
    /* What goes to idle followers may wait for the next heartbeat. */
    const uint64_t late_ms = KV_HEARTBEAT_TIMEOUT_MS + 10;
    uint64_t before_ms;

    (void)state;
    expect(cluster, leader, call_lease_grant(&arena, 7, 60000), KV__CODE__OK);
    cluster_run_ms(cluster, KV_RENEWAL_MS);
    before_ms = cluster_now_ms(cluster);
    expect(cluster, leader, call_lease_keep_alive(&arena, 7, 1), KV__CODE__OK);
    assert_in_range(cluster_now_ms(cluster) - before_ms, 0, late_ms);
    expect(cluster, leader, call_lease_keep_alive(&arena, 7, 1), KV__CODE__OK);
    assert_in_range(
        cluster_now_ms(cluster) - before_ms, KV_RENEWAL_MS - 5, KV_RENEWAL_MS + late_ms);
    end_cluster(cluster);
}

/* A renewal was logged a moment ago, so the next one waits; the lease ends before: it goes first
 * into the entry that would have ended it. */
static void a_renewal_that_waits_saves_its_lease(void **state)
{
    struct cluster *cluster = new_cluster(6);
    unsigned leader = cluster_leader(cluster);
    struct cluster_request *sent;

    (void)state;
    expect(cluster, leader, call_lease_grant(&arena, 8, 60000), KV__CODE__OK);
    expect(cluster, leader, call_lease_grant(&arena, 7, 1000), KV__CODE__OK);
    cluster_run_ms(cluster, 900);
    expect(cluster, leader, call_lease_keep_alive(&arena, 8, 1), KV__CODE__OK);
    sent = cluster_submit(cluster, leader, call_lease_keep_alive(&arena, 7, 1));
    assert_int_equal(cluster_await(cluster, sent, 1000), KV__CODE__OK);
    assert_true(sent->done_ms - sent->sent_ms < 150);
    cluster_request_free(sent);
    cluster_run_ms(cluster, 900);
    expect(cluster, leader, call_lease_info(&arena, 7, false), KV__CODE__OK);
    end_cluster(cluster);
}

/* A keepalive of one lease whose id, a number that may be said again and again, fills 9 MiB. */
static struct kv_slice padded_keepalive(struct kv_buf *buf)
{
    static const uint8_t padded_id[] = {
        0x08, 0x85, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00};
    Kv__Request *request = call_lease_keep_alive(&arena, 7, 1);

    kv_buf_init(buf, 16 * KV_MIB);
    while (buf->size < 9 * KV_MIB) {
        assert_int_equal(kv_buf_append(buf, padded_id, sizeof padded_id), 0);
    }
    buf->size +=
        kv__request__pack(request, kv_buf_reserve(buf, kv__request__get_packed_size(request)));
    return kv_slice_of(buf->data, buf->size);
}

/* One that is larger than what an entry takes of them goes its own way: others are renewed. */
static void a_padded_keepalive_holds_nobody_up(void **state)
{
    struct cluster *cluster = new_cluster(8);
    unsigned leader = cluster_leader(cluster);
    struct cluster_request *padded, *sent;
    struct kv_buf buf;

    (void)state;
    expect(cluster, leader, call_lease_grant(&arena, 7, 60000), KV__CODE__OK);
    padded = cluster_submit_bytes(cluster, leader, padded_keepalive(&buf));
    sent = cluster_submit(cluster, leader, call_lease_keep_alive(&arena, 7, 1));
    assert_int_equal(cluster_await(cluster, sent, 2000), KV__CODE__OK);
    assert_int_equal(cluster_await(cluster, padded, 2000), KV__CODE__OK);
    cluster_request_free(sent);
    cluster_request_free(padded);
    kv_buf_deinit(&buf);
    end_cluster(cluster);
}

/* More wait than an entry takes: the others' leases do not end meanwhile, and theirs go at once. */
static void renewals_beyond_one_entry_save_their_leases(void **state)
{
    enum { IDS = KV_LEASE_KEEP_ALIVE_MAX, N = KV_RENEWAL_BYTES_MAX / (9 * IDS) + 2 };
    static struct cluster_request *fillers[N];
    struct cluster *cluster = new_cluster(11);
    unsigned leader = cluster_leader(cluster);
    struct cluster_request *sent;

    (void)state;
    expect(cluster, leader, call_lease_grant(&arena, 8, 60000), KV__CODE__OK);
    expect(cluster, leader, call_lease_grant(&arena, 7, 1000), KV__CODE__OK);
    expect(cluster, leader, call_put_lease(&arena, "key", "v", 7), KV__CODE__OK);
    cluster_run_ms(cluster, 800);
    expect(cluster, leader, call_lease_keep_alive(&arena, 8, 1), KV__CODE__OK);
    for (unsigned i = 0; i < N; i++) {
        /* Ids of nine bytes; there are no such leases. */
        fillers[i] =
            cluster_submit(cluster, leader, call_lease_keep_alive(&arena, INT64_C(1) << 60, IDS));
        kv_arena_reset(&arena);
    }
    sent = cluster_submit(cluster, leader, call_lease_keep_alive(&arena, 7, 1));
    assert_int_equal(cluster_await(cluster, sent, 1000), KV__CODE__OK);
    assert_int_equal(sent->reply->lease_keep_alive->leases[0]->ttl_ms, 1000);
    assert_true(sent->done_ms - sent->sent_ms < 300);
    cluster_request_free(sent);
    for (unsigned i = 0; i < N; i++) {
        assert_int_equal(cluster_await(cluster, fillers[i], 1000), KV__CODE__OK);
        cluster_request_free(fillers[i]);
    }
    assert_false(no_key_is_left(cluster, NULL));
    assert_true(cluster_run_until(cluster, no_key_is_left, NULL, 1500));
    end_cluster(cluster);
}

static void a_large_lease_is_revoked_in_pieces(void **state)
{
    struct cluster *cluster = new_cluster(7);
    unsigned leader = cluster_leader(cluster);
    char name[16];

    (void)state;
    expect(cluster, leader, call_lease_grant(&arena, 7, 60000), KV__CODE__OK);
    expect(cluster, leader, call_config_set(&arena, "work-limit", 100), KV__CODE__OK);
    for (unsigned i = 0; i < 450; i++) {
        (void)snprintf(name, sizeof name, "key%u", i);
        expect(cluster, leader, call_put_lease(&arena, name, "v", 7), KV__CODE__OK);
    }
    for (unsigned i = 1; i <= 3; i++) {
        cluster_node(cluster, i)->machine->expire_per_entry = 100;
    }
    expect(cluster, leader, call_lease_revoke(&arena, 7), KV__CODE__OK);
    expect(cluster, leader, call_lease_keep_alive(&arena, 7, 1), KV__CODE__NOT_FOUND);
    assert_true(cluster_run_until(cluster, no_key_is_left, NULL, 1000));
    end_cluster(cluster);
}

/* ---------------------------------------------------------------- crashes */

enum { TTL_MS = 3000 };

/* Sends a renewal anywhere; OK or NOT_FOUND, or 0 when nothing is known. */
static int renew(struct cluster *cluster, uint64_t *ret_sent_ms)
{
    unsigned node = 1 + (unsigned)cluster_random(cluster, 3);
    struct cluster_request *sent;
    int code;

    if (!cluster_is_up(cluster, node)) {
        return -1;
    }
    sent = cluster_submit(cluster, node, call_lease_keep_alive(&arena, 7, 1));
    *ret_sent_ms = cluster_now_ms(cluster);
    code = cluster_await(cluster, sent, 1500);
    /* It is answered by the end of the cluster. */
    if (code >= 0) {
        cluster_request_free(sent);
    }
    kv_arena_reset(&arena);
    return code;
}

static void crash_sometimes(struct cluster *cluster)
{
    unsigned leader = cluster_leader(cluster);

    for (unsigned i = 1; i <= 3; i++) {
        if (!cluster_is_up(cluster, i) && cluster_random(cluster, 2) == 0) {
            cluster_start(cluster, i);
        }
    }
    if (leader != 0 && cluster_random(cluster, 4) == 0 && cluster_is_up(cluster, 1) &&
        cluster_is_up(cluster, 2) && cluster_is_up(cluster, 3)) {
        cluster_crash(cluster, leader);
    }
}

static void no_renewal_that_was_answered_is_lost(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);
    unsigned n_ok = 0, n_ended = 0;

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        struct cluster *cluster = new_cluster(100 + seed);
        uint64_t sent_ms, renewed_ms = cluster_now_ms(cluster);

        print_message("seed %llu\n", (unsigned long long)seed);
        expect(cluster, 1, call_lease_grant(&arena, 7, TTL_MS), KV__CODE__OK);
        for (unsigned i = 0; i < 40; i++) {
            int code = renew(cluster, &sent_ms);

            if (code == KV__CODE__OK) {
                renewed_ms = sent_ms;
                n_ok++;
            } else if (code == KV__CODE__NOT_FOUND) {
                assert_true(cluster_now_ms(cluster) >= renewed_ms + TTL_MS);
                n_ended++;
                break;
            }
            crash_sometimes(cluster);
            cluster_run_ms(cluster, cluster_random(cluster, seed % 3 ? 900 : 3300));
        }
        cluster_free(cluster);
        kv_arena_deinit(&arena);
    }
    /* Both happen. */
    assert_true(n_ok > 30 && (n_ended > 0 || seeds.first == seeds.last));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_key_ends_in_time_everywhere),
        cmocka_unit_test(many_keys_end_in_pieces),
        cmocka_unit_test(expiry_goes_on_after_a_leader_has_died),
        cmocka_unit_test(keepalives_are_gathered),
        cmocka_unit_test(the_first_renewal_goes_at_once),
        cmocka_unit_test(a_renewal_that_waits_saves_its_lease),
        cmocka_unit_test(a_padded_keepalive_holds_nobody_up),
        cmocka_unit_test(renewals_beyond_one_entry_save_their_leases),
        cmocka_unit_test(a_large_lease_is_revoked_in_pieces),
        cmocka_unit_test(no_renewal_that_was_answered_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
