/* Compaction at any revision, and the versions of keys, against lists of what each revision left.
 * Snapshots in between prove the costs: they are computed anew when one is loaded. */
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

enum { KEYS = 3, STEPS = 300, REVISIONS_MAX = STEPS + 2 };

static const char *const keys[KEYS] = {"string", "counter", "hash"};

/* What a revision did to a key. */
struct change {
    bool changed, deleted;
    unsigned value; /* of a string or counter */
};

static struct machine_rig rig;
static struct kv_arena arena;
static struct change changes[REVISIONS_MAX][KEYS];
static int64_t revision;
static int64_t oldest;

static unsigned rnd(unsigned below)
{
    return (unsigned)machine_rig_random(&rig, below);
}

static Kv__Request *set_value(unsigned key, unsigned value)
{
    char *text = kv_arena_alloc(&arena, 16);

    (void)snprintf(text, 16, "%u", value);
    switch (key) {
    case 0:
        return call_put(&arena, keys[0], text);
    case 1:
        return call_counter_set(&arena, keys[1], value);
    default:
        return call_hash_set(&arena, keys[2], rnd(200), 1 + rnd(100), text);
    }
}

static bool is_there(unsigned key)
{
    for (int64_t at = revision; at > 0; at--) {
        if (changes[at][key].changed) {
            return !changes[at][key].deleted;
        }
    }
    return false;
}

/* One to three changes in one transaction: each key's last one counts. */
static void change(void)
{
    Kv__Request *txn = call_txn(&arena);

    for (unsigned i = 1 + rnd(3); i > 0; i--) {
        unsigned key = rnd(KEYS);
        struct change *change = &changes[revision + 1][key];
        bool there = change->changed ? !change->deleted : is_there(key);
        /* Never what it was: that would change nothing. */
        unsigned value = (unsigned)revision * 4 + i;

        if (there && rnd(4) == 0) {
            *change = (struct change){.changed = true, .deleted = true};
            (void)call_then(&arena, txn, call_delete(&arena, keys[key], false));
        } else {
            *change = (struct change){.changed = true, .value = value};
            (void)call_then(&arena, txn, set_value(key, value));
        }
    }
    machine_rig_expect(&rig, txn, KV__CODE__OK);
    assert_int_equal(kv_machine_revision(rig.machine), ++revision);
}

static void compact(void)
{
    int64_t to = 1 + (int64_t)rnd((unsigned)revision + 2);
    Kv__Reply *reply = machine_rig_write(&rig, call_compact(&arena, to));

    if (to > revision) {
        assert_int_equal(reply->code, KV__CODE__OUT_OF_BOUNDS);
        assert_int_equal(reply->hint->newest_revision, revision);
    } else {
        oldest = to > oldest ? to : oldest;
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->compact->oldest_revision, oldest);
    }
    assert_int_equal(reply->revision, revision);
    assert_int_equal(kv_machine_oldest_revision(rig.machine), oldest);
    kv__reply__free_unpacked(reply, NULL);
}

static void check_version(unsigned key, int64_t at, const Kv__KeyVersion *version)
{
    const struct change *change = &changes[at][key];
    char text[16];

    assert_int_equal(version->kv->mod_revision, at);
    assert_int_equal(version->deleted, change->deleted);
    if (change->deleted) {
        assert_int_equal(version->kv->version, 0);
        return;
    }
    (void)snprintf(text, sizeof text, "%u", change->value);
    if (key == 0) {
        assert_int_equal(version->kv->value.len, strlen(text));
        assert_memory_equal(version->kv->value.data, text, strlen(text));
    } else if (key == 1) {
        assert_int_equal(version->kv->counter, change->value);
    } else {
        assert_true(version->kv->elements > 0);
    }
}

/* Revisions whose versions are to be told, ascending. */
static size_t expected_versions(unsigned key, int64_t from, int64_t to, int64_t *revisions)
{
    size_t n = 0;

    for (int64_t at = oldest; from == 0 && at > 0; at--) {
        if (changes[at][key].changed) {
            if (!changes[at][key].deleted && at <= to) {
                revisions[n++] = at;
            }
            break;
        }
    }
    for (int64_t at = from ? from : oldest + 1; at <= to; at++) {
        /* That a key went is forgotten with what it was. */
        if (changes[at][key].changed && !(changes[at][key].deleted && at <= oldest)) {
            revisions[n++] = at;
        }
    }
    return n;
}

static void check_history(void)
{
    unsigned key = rnd(KEYS);
    int64_t from = rnd(2) ? 0 : 1 + (int64_t)rnd((unsigned)revision);
    int64_t to = rnd(2) ? 0 : 1 + (int64_t)rnd((unsigned)revision);
    Kv__Request *request = call_key_history(&arena, keys[key], from, to);
    int64_t revisions[REVISIONS_MAX];
    Kv__Reply *reply;
    size_t n, given;

    request->key_history->descending = rnd(2);
    request->key_history->limit = rnd(2) ? 0 : 1 + rnd(10);
    reply = machine_rig_read(&rig, request);
    if (to != 0 && from > to) {
        assert_int_equal(reply->code, KV__CODE__INVALID);
    } else if ((from != 0 && from < oldest) || (to != 0 && to < oldest)) {
        assert_int_equal(reply->code, KV__CODE__COMPACTED);
        assert_int_equal(reply->hint->oldest_revision, oldest);
    } else {
        n = expected_versions(key, from, to ? to : revision, revisions);
        given = request->key_history->limit && request->key_history->limit < n
                    ? (size_t)request->key_history->limit
                    : n;
        assert_int_equal(reply->code, KV__CODE__OK);
        assert_int_equal(reply->key_history->n_versions, given);
        assert_int_equal(reply->key_history->more, given < n);
        for (size_t i = 0; i < given; i++) {
            check_version(key,
                          revisions[request->key_history->descending ? n - 1 - i : i],
                          reply->key_history->versions[i]);
        }
    }
    kv__reply__free_unpacked(reply, NULL);
}

static void run(uint64_t seed)
{
    machine_rig_open(&rig, seed);
    memset(changes, 0, sizeof changes);
    revision = oldest = 1;
    for (unsigned i = 0; i < STEPS; i++) {
        kv_arena_init(&arena, KV_MIB);
        change();
        if (rnd(12) == 0) {
            compact();
        }
        if (rnd(3) == 0) {
            rig.cluster_time_ms += rnd(200);
        }
        if (rnd(12) == 0) {
            machine_rig_reload(&rig);
        }
        for (unsigned j = 0; j < 5; j++) {
            check_history();
        }
        kv_arena_deinit(&arena);
    }
    machine_rig_reload(&rig);
    machine_rig_close(&rig);
}

static void history_ends_where_it_was_told(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        printf("KV_SEED=%llu\n", (unsigned long long)seed);
        run(seed);
    }
}

/* Writes, a compaction and writes in one entry, of which no mark tells yet. */
static void compaction_within_an_entry(void **state)
{
    struct kv_machine *machine;
    uint64_t bytes;

    (void)state;
    for (int64_t to = 1; to <= 4; to++) {
        machine_rig_open(&rig, 1);
        machine = rig.machine;
        kv_arena_init(&arena, KV_MIB);
        assert_int_equal(kv_machine_begin(machine, 1, KV_MACHINE_VERSION, 1), 0);
        for (unsigned i = 0; i < 3; i++) {
            kv_machine_execute(machine, call_put(&arena, "a", "x"), NULL, NULL);
        }
        kv_machine_execute(machine, call_compact(&arena, to), NULL, NULL);
        bytes = machine->history.bytes;
        assert_true(to < 4 ? bytes > 0 : bytes == 0);
        if (to % 2 == 0) {
            kv_machine_execute(machine, call_put(&arena, "b", "x"), NULL, NULL);
        }
        kv_machine_end(machine);
        kv_machine_check_invariants(machine);
        assert_int_equal(kv_machine_oldest_revision(machine), to);
        rig.log_index = 1;
        machine_rig_reload(&rig);
        machine_rig_expect(&rig, call_compact(&arena, 0), KV__CODE__INVALID);
        machine_rig_expect(&rig, call_compact(&arena, 9), KV__CODE__OUT_OF_BOUNDS);
        machine_rig_expect(&rig, call_key_history(&arena, "a", 0, 9), KV__CODE__FUTURE_REVISION);
        machine_rig_expect(&rig, call_key_history(&arena, "", 0, 0), KV__CODE__INVALID);
        kv_arena_deinit(&arena);
        machine_rig_close(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(history_ends_where_it_was_told),
        cmocka_unit_test(compaction_within_an_entry),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
