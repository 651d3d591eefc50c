/* Keys, fields and leases that end, under random commands, times, reloads and failing transactions,
 * against plain arrays that are searched for what is due: what is there, until when, what has ended
 * and how. Two machines run side by side, either of them reloaded at any moment. */
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

enum { KEYS = 7, FIELDS = 6, LEASES = 4, STEPS = 4000, PIECES = 3, MIN_TTL = 1000 };

enum end { NEVER_WAS, DELETED, EXPIRED };

struct model_key {
    bool is_there, is_hash;
    int64_t expires_ms, lease_id; /* 0: none */
    bool has_field[FIELDS];
    int64_t field_ms[FIELDS]; /* 0: never */
    enum end end;             /* of the last one with this name */
};
struct model_lease {
    bool is_there, revoked;
    int64_t ttl_ms, deadline_ms;
};
static struct model_key keys[KEYS];
static struct model_lease leases[LEASES + 1]; /* by id */
static int64_t expired_ms;
static struct machine_rig rig, other;
static struct kv_arena arena;

static unsigned below(unsigned n)
{
    return (unsigned)machine_rig_random(&rig, n);
}

static const char *name_of(unsigned key)
{
    static const char *const names[KEYS] = {"a", "aa", "ab", "b", "ba", "c", "d"};

    return names[key];
}

/* ---------------------------------------------------------------- the model */

static void end_key(struct model_key *key, enum end end)
{
    *key = (struct model_key){.end = end};
}

static int64_t least(int64_t a, int64_t b)
{
    return b != 0 && (a == 0 || b < a) ? b : a;
}

static int64_t fields_due_ms(const struct model_key *key)
{
    int64_t due_ms = 0;

    for (unsigned i = 0; i < FIELDS; i++) {
        due_ms = least(due_ms, key->has_field[i] ? key->field_ms[i] : 0);
    }
    return due_ms;
}

static bool is_empty_hash(const struct model_key *key)
{
    for (unsigned i = 0; i < FIELDS; i++) {
        if (key->has_field[i]) {
            return false;
        }
    }
    return true;
}

static bool is_live(const struct model_lease *lease)
{
    return lease->is_there && !lease->revoked && lease->deadline_ms > expired_ms;
}

/* The least of the fields that are due, by (deadline, name). */
static int next_field(const struct model_key *key)
{
    int next = -1;

    for (int i = 0; i < FIELDS; i++) {
        if (key->has_field[i] && key->field_ms[i] != 0 && key->field_ms[i] <= expired_ms &&
            (next < 0 || key->field_ms[i] < key->field_ms[next])) {
            next = i;
        }
    }
    return next;
}

static unsigned expire_one_key(struct model_key *key, unsigned left)
{
    unsigned done = 0;
    int field;

    if (key->expires_ms != 0 && key->expires_ms <= expired_ms) {
        end_key(key, EXPIRED);
        return 1;
    }
    while (done < left && (field = next_field(key)) >= 0) {
        key->has_field[field] = false;
        done++;
    }
    if (is_empty_hash(key)) {
        end_key(key, EXPIRED);
    }
    return done;
}

static void expire_one_lease(int64_t id)
{
    for (unsigned i = 0; i < KEYS; i++) {
        if (keys[i].is_there && keys[i].lease_id == id) {
            end_key(&keys[i], leases[id].revoked ? DELETED : EXPIRED);
            return;
        }
    }
    leases[id].is_there = false;
}

static void model_expire(void)
{
    unsigned left = PIECES;

    expired_ms = rig.cluster_time_ms - 1;
    while (left > 0) {
        int64_t key_due_ms = 0, lease_due_ms = 0;
        unsigned key = 0, lease = 0;

        for (unsigned i = 0; i < KEYS; i++) {
            int64_t due_ms =
                keys[i].is_there ? least(keys[i].expires_ms, fields_due_ms(&keys[i])) : 0;

            if (due_ms != 0 && (key_due_ms == 0 || due_ms < key_due_ms)) {
                key_due_ms = due_ms;
                key = i;
            }
        }
        for (unsigned i = 1; i <= LEASES; i++) {
            if (leases[i].is_there && (lease_due_ms == 0 || leases[i].deadline_ms < lease_due_ms)) {
                lease_due_ms = leases[i].deadline_ms;
                lease = i;
            }
        }
        if (key_due_ms != 0 && key_due_ms <= expired_ms &&
            (lease_due_ms == 0 || key_due_ms <= lease_due_ms)) {
            left -= expire_one_key(&keys[key], left);
        } else if (lease_due_ms != 0 && lease_due_ms <= expired_ms) {
            expire_one_lease(lease);
            left--;
        } else {
            return;
        }
    }
}

/* ---------------------------------------------------------------- both */

/* One entry on both machines. */
static void run(Kv__Request *request, Kv__Code code)
{
    machine_rig_expect(&rig, request, code);
    other.cluster_time_ms = rig.cluster_time_ms;
    machine_rig_expect(&other, request, code);
    assert_int_equal(kv_machine_state_hash(rig.machine), kv_machine_state_hash(other.machine));
    assert_int_equal(kv_machine_revision(rig.machine), kv_machine_revision(other.machine));
    assert_int_equal(kv_machine_next_due_ms(rig.machine), kv_machine_next_due_ms(other.machine));
    kv_arena_reset(&arena);
}

static void reload(struct machine_rig *which)
{
    machine_rig_reload(which);
    which->machine->expire_per_entry = PIECES;
}

static void put(unsigned k)
{
    struct model_key *key = &keys[k];
    struct model_key next = {.is_there = true};
    const char *name = name_of(k);
    int64_t lease_id = 1 + below(LEASES);
    int64_t ttl_ms = 1 + below(400);
    Kv__Code code = KV__CODE__OK;
    Kv__Request *request;

    switch (below(4)) {
    case 0:
        request = call_put(&arena, name, "v");
        break;
    case 1:
        request = call_put_ttl(&arena, name, "v", (uint64_t)ttl_ms);
        next.expires_ms = rig.cluster_time_ms + ttl_ms;
        break;
    case 2:
        request = call_put_lease(&arena, name, "v", lease_id);
        next.lease_id = lease_id;
        code = is_live(&leases[lease_id]) ? KV__CODE__OK : KV__CODE__NOT_FOUND;
        break;
    default:
        request = call_put_keep(&arena, name, "v");
        next.expires_ms = key->expires_ms;
        next.lease_id = key->lease_id;
        break;
    }
    if (code == KV__CODE__OK) {
        *key = next;
    }
    run(request, code);
}

/* The same in a transaction whose last operation fails: nothing is left of it. */
static void put_and_fail(unsigned k)
{
    Kv__Request *txn = call_txn(&arena);
    const char *name = name_of(k);

    (void)call_then(&arena, txn, call_put_ttl(&arena, name, "v", 1 + below(100)));
    (void)call_then(&arena, txn, call_expire(&arena, name, 1 + below(100)));
    (void)call_then(&arena, txn, call_rename(&arena, name, name_of((k + 1) % KEYS), false));
    (void)call_then(&arena, txn, call_delete(&arena, name_of((k + 2) % KEYS), false));
    (void)call_then(&arena, txn, call_hash_set_ttl(&arena, name_of((k + 2) % KEYS), 0, 3, 5));
    (void)call_then(&arena, txn, call_persist(&arena, "nowhere"));
    run(txn, KV__CODE__NOT_FOUND);
}

static void change_life(unsigned k)
{
    struct model_key *key = &keys[k];
    int64_t lease_id = 1 + below(LEASES);
    int64_t ttl_ms = 1 + below(400);
    Kv__Code code = key->is_there ? KV__CODE__OK : KV__CODE__NOT_FOUND;
    struct model_key next = *key;
    Kv__Request *request;

    next.expires_ms = next.lease_id = 0;
    switch (below(3)) {
    case 0:
        request = call_expire(&arena, name_of(k), (uint64_t)ttl_ms);
        next.expires_ms = rig.cluster_time_ms + ttl_ms;
        break;
    case 1:
        request = call_expire_lease(&arena, name_of(k), lease_id);
        next.lease_id = lease_id;
        code = is_live(&leases[lease_id]) ? code : KV__CODE__NOT_FOUND;
        break;
    default:
        request = call_persist(&arena, name_of(k));
        break;
    }
    if (code == KV__CODE__OK) {
        *key = next;
    }
    run(request, code);
}

static void set_fields(unsigned k)
{
    struct model_key *key = &keys[k];
    unsigned first = below(FIELDS);
    unsigned n = 1 + below(FIELDS - first);
    int64_t ttl_ms = below(3) == 0 ? 0 : 1 + below(300);
    Kv__Request *request = call_hash_set_ttl(&arena, name_of(k), first, n, (uint64_t)ttl_ms);

    if (key->is_there && !key->is_hash) {
        run(request, KV__CODE__WRONG_TYPE);
        return;
    }
    key->is_there = key->is_hash = true;
    for (unsigned i = first; i < first + n; i++) {
        key->has_field[i] = true;
        key->field_ms[i] = ttl_ms > 0 ? rig.cluster_time_ms + ttl_ms : 0;
    }
    run(request, KV__CODE__OK);
}

static void delete_fields(unsigned k)
{
    struct model_key *key = &keys[k];
    unsigned first = below(FIELDS);
    unsigned n = 1 + below(FIELDS - first);
    bool was_there = key->is_there;

    if (was_there && !key->is_hash) {
        run(call_hash_delete(&arena, name_of(k), first, n), KV__CODE__WRONG_TYPE);
        return;
    }
    for (unsigned i = first; i < first + n; i++) {
        key->has_field[i] = false;
    }
    if (was_there && is_empty_hash(key)) {
        end_key(key, DELETED);
    }
    run(call_hash_delete(&arena, name_of(k), first, n), KV__CODE__OK);
}

static void move_key(unsigned k)
{
    unsigned to = (k + 1 + below(KEYS - 1)) % KEYS;
    bool is_copy = below(2);
    Kv__Request *request = is_copy ? call_copy(&arena, name_of(k), name_of(to), false)
                                   : call_rename(&arena, name_of(k), name_of(to), false);

    if (!keys[k].is_there) {
        run(request, KV__CODE__NOT_FOUND);
        return;
    }
    keys[to] = keys[k];
    if (is_copy) {
        keys[to].expires_ms = keys[to].lease_id = 0;
        memset(keys[to].field_ms, 0, sizeof keys[to].field_ms);
    } else {
        end_key(&keys[k], DELETED);
    }
    run(request, KV__CODE__OK);
}

static void delete_key(unsigned k)
{
    if (keys[k].is_there) {
        end_key(&keys[k], DELETED);
    }
    run(call_delete(&arena, name_of(k), false), KV__CODE__OK);
}

static void grant(int64_t id)
{
    struct model_lease *lease = &leases[id];
    int64_t ttl_ms = MIN_TTL + below(1000);
    Kv__Code code = is_live(lease)    ? KV__CODE__EXISTS
                    : lease->is_there ? KV__CODE__BUSY
                                      : KV__CODE__OK;

    if (code == KV__CODE__OK) {
        *lease = (struct model_lease){
            .is_there = true, .ttl_ms = ttl_ms, .deadline_ms = rig.cluster_time_ms + ttl_ms};
    }
    run(call_lease_grant(&arena, id, (uint64_t)ttl_ms), code);
}

static void revoke(int64_t id)
{
    Kv__Code code = is_live(&leases[id]) ? KV__CODE__OK : KV__CODE__NOT_FOUND;

    for (unsigned i = 0; code == KV__CODE__OK && i < KEYS; i++) {
        if (keys[i].is_there && keys[i].lease_id == id) {
            end_key(&keys[i], DELETED);
        }
    }
    if (code == KV__CODE__OK) {
        leases[id].is_there = false;
    }
    run(call_lease_revoke(&arena, id), code);
}

/* Comes in front of what this entry's time ends. */
static void keep_alive(int64_t id)
{
    struct model_lease *lease = &leases[id];
    Kv__Code code = is_live(lease) ? KV__CODE__OK : KV__CODE__NOT_FOUND;

    if (code == KV__CODE__OK) {
        lease->deadline_ms = rig.cluster_time_ms + lease->ttl_ms;
    }
    model_expire();
    run(call_lease_keep_alive(&arena, id, 1), code);
}

static void step(void)
{
    unsigned k = below(KEYS);
    int64_t lease_id = 1 + below(LEASES);

    rig.cluster_time_ms += below(3) == 0 ? below(80) : below(3);
    if (below(6) == 0) {
        keep_alive(lease_id);
        return;
    }
    model_expire();
    switch (below(12)) {
    case 0:
    case 1:
    case 2:
        put(k);
        break;
    case 3:
        put_and_fail(k);
        break;
    case 4:
    case 5:
        change_life(k);
        break;
    case 6:
    case 7:
        set_fields(k);
        break;
    case 8:
        delete_fields(k);
        break;
    case 9:
        move_key(k);
        break;
    case 10:
        delete_key(k);
        break;
    default:
        if (below(4) == 0) {
            revoke(lease_id);
        } else {
            grant(lease_id);
        }
        break;
    }
}

/* ---------------------------------------------------------------- comparison */

/* As long as something is there it says that it has a millisecond. */
static int64_t left_ms(int64_t end_ms)
{
    return end_ms > rig.cluster_time_ms ? end_ms - rig.cluster_time_ms : 1;
}

static void check_key(unsigned k)
{
    const struct model_key *key = &keys[k];
    const struct kv_record *record = kv_tree_find(&rig.machine->tree, kv_slice_str(name_of(k)));
    Kv__Request *request = call_ttl(&arena, name_of(k));
    Kv__Reply *reply = machine_rig_read(&rig, request);
    int64_t end_ms = key->lease_id != 0 ? leases[key->lease_id].deadline_ms : key->expires_ms;

    assert_int_equal(reply->code, key->is_there ? KV__CODE__OK : KV__CODE__NOT_FOUND);
    if (key->is_there) {
        assert_int_equal(reply->ttl->remaining_ms, end_ms == 0 ? -1 : left_ms(end_ms));
        assert_int_equal(reply->ttl->lease_id, key->lease_id);
    } else if (record) {
        assert_int_equal(record->tombstone, 1);
        assert_int_equal(record->expired, key->end == EXPIRED);
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void check_fields(unsigned k)
{
    const struct model_key *key = &keys[k];
    Kv__Reply *reply;
    size_t at = 0;

    if (!key->is_there || !key->is_hash) {
        return;
    }
    reply = machine_rig_read(&rig, call_hash_get_all(&arena, name_of(k), 0));
    assert_int_equal(reply->code, KV__CODE__OK);
    for (unsigned i = 0; i < FIELDS; i++) {
        const int64_t end_ms = key->field_ms[i];

        if (key->has_field[i]) {
            assert_true(at < reply->hash_get_all->n_fields);
            assert_int_equal(reply->hash_get_all->fields[at++]->ttl_ms,
                             end_ms == 0 ? 0 : left_ms(end_ms));
        }
    }
    assert_int_equal(at, reply->hash_get_all->n_fields);
    kv__reply__free_unpacked(reply, NULL);
}

static void check_lease(int64_t id)
{
    Kv__Reply *reply = machine_rig_read(&rig, call_lease_info(&arena, id, true));
    size_t n = 0;

    assert_int_equal(reply->code, is_live(&leases[id]) ? KV__CODE__OK : KV__CODE__NOT_FOUND);
    for (unsigned i = 0; is_live(&leases[id]) && i < KEYS; i++) {
        if (keys[i].is_there && keys[i].lease_id == id) {
            assert_true(n < reply->lease_info->n_keys);
            assert_memory_equal(reply->lease_info->keys[n].data, name_of(i), strlen(name_of(i)));
            n++;
        }
    }
    if (is_live(&leases[id])) {
        assert_int_equal(reply->lease_info->n_keys, n);
        assert_int_equal(reply->lease_info->key_count, n);
        assert_int_equal(reply->lease_info->ttl_ms, leases[id].ttl_ms);
        assert_int_equal(reply->lease_info->remaining_ms, left_ms(leases[id].deadline_ms));
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void check_all(void)
{
    for (unsigned i = 0; i < KEYS; i++) {
        check_key(i);
        check_fields(i);
    }
    for (int64_t id = 1; id <= LEASES; id++) {
        check_lease(id);
    }
    kv_arena_reset(&arena);
}

static void run_seed(uint64_t seed)
{
    memset(keys, 0, sizeof keys);
    memset(leases, 0, sizeof leases);
    expired_ms = 0;
    kv_arena_init(&arena, 16 * KV_MIB);
    machine_rig_open(&rig, seed);
    rig.is_still = true;
    rig.machine->expire_per_entry = PIECES;
    machine_rig_copy(&rig, &other);
    other.machine->expire_per_entry = PIECES;
    for (unsigned i = 0; i < STEPS; i++) {
        step();
        check_all();
        if (below(50) == 0) {
            reload(below(2) ? &rig : &other);
        }
    }
    machine_rig_close(&rig);
    machine_rig_close(&other);
    kv_arena_deinit(&arena);
}

static void each_ends_when_the_model_says(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(6);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run_seed(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_ends_when_the_model_says),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
