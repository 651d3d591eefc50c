/* The counted tree against a sorted array: puts and removals at random and in order, with pins
 * taken and released meanwhile whose views must not change. KV_SEED replays one run. */
#include "server/machine/tree.h"

#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { KEYS = 3000, STEPS = 12000, PINS = 4 };

/* What the tree should hold: by key number the mod_revision of its record, 0 none; negative a
 * tombstone. */
struct model {
    int64_t records[KEYS];
};

static struct kv_tree tree;
static struct model model;
static uint64_t random_state;

struct pinned {
    bool used;
    struct kv_tree_pin pin;
    struct model model;
};
static struct pinned pins[PINS];

static uint64_t rnd(uint64_t below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (random_state * UINT64_C(2685821657736338717) >> 33) % below;
}

static struct kv_slice key_of(unsigned number, char text[24])
{
    snprintf(text, 24, "%s%05u", number % 2 ? "key" : "a-longer-key-", number / 2);
    return kv_slice_str(text);
}

static int compare_numbers(const void *a, const void *b)
{
    char x[24], y[24];

    return kv_slice_compare(key_of(*(const unsigned *)a, x), key_of(*(const unsigned *)b, y));
}

static unsigned order[KEYS];

static void put(unsigned number, int64_t revision, bool tombstone)
{
    char text[24];
    struct kv_record *record = kv_record_new(key_of(number, text), 0);
    struct kv_record *former;

    record->mod_revision = revision;
    record->tombstone = tombstone;
    former = kv_tree_put(&tree, record);
    assert_true((former != NULL) == (model.records[number] != 0));
    if (former) {
        assert_int_equal(former->mod_revision, llabs(model.records[number]));
        kv_tree_retire_record(&tree, former);
    }
    model.records[number] = tombstone ? -revision : revision;
}

static void take(unsigned number)
{
    char text[24];
    struct kv_record *other = kv_record_new(key_of(number, text), 0);
    struct kv_record *record = kv_tree_find(&tree, key_of(number, text));

    assert_true((record != NULL) == (model.records[number] != 0));
    assert_false(kv_tree_remove_record(&tree, other));
    kv_record_free(other);
    if (record && number % 2 == 0) {
        assert_true(kv_tree_remove_record(&tree, record));
    } else {
        assert_ptr_equal(kv_tree_remove(&tree, key_of(number, text)), record);
    }
    assert_null(kv_tree_find(&tree, key_of(number, text)));
    if (record) {
        kv_tree_retire_record(&tree, record);
    }
    model.records[number] = 0;
}

/* Order, content, counts, ranks and n-th of a view. */
static void check_view(const struct kv_tree *view, const struct model *expected)
{
    struct kv_tree_cursor cursor;
    uint64_t live = 0;
    char text[24];

    kv_tree_check_invariants(view);
    kv_tree_seek(view, kv_slice_of(NULL, 0), &cursor);
    for (unsigned i = 0; i < KEYS; i++) {
        int64_t revision = expected->records[order[i]];
        struct kv_record *record = kv_tree_find(view, key_of(order[i], text));

        if (revision == 0) {
            assert_null(record);
            continue;
        }
        assert_non_null(record);
        assert_ptr_equal(record, kv_tree_cursor_get(&cursor));
        assert_int_equal(record->mod_revision, llabs(revision));
        kv_tree_next(&cursor);
        if (i % 97 == 0) {
            assert_int_equal(kv_tree_rank(view, kv_record_key(record)), live);
            assert_int_equal(kv_tree_rank_of(view, kv_record_key(record)), live);
        }
        if (revision > 0) {
            if (i % 89 == 0) {
                assert_ptr_equal(kv_tree_nth(view, live), record);
            }
            live++;
        }
    }
    assert_null(kv_tree_cursor_get(&cursor));
    assert_int_equal(kv_tree_count(view), live);
}

/* Backwards from the end, and from before each of some keys. */
static void check_backwards(void)
{
    struct kv_tree_cursor cursor;
    unsigned i = KEYS;
    char text[24];

    kv_tree_seek_before(&tree, kv_slice_of(NULL, 0), false, &cursor);
    while (i-- > 0) {
        struct kv_record *record = kv_tree_cursor_get(&cursor);

        if (model.records[order[i]] == 0) {
            continue;
        }
        assert_non_null(record);
        assert_true(kv_slice_equal(kv_record_key(record), key_of(order[i], text)));
        kv_tree_previous(&cursor);
    }
    assert_null(kv_tree_cursor_get(&cursor));
    i = (unsigned)rnd(KEYS);
    kv_tree_seek_before(&tree, key_of(order[i], text), true, &cursor);
    while (i > 0 && model.records[order[i - 1]] == 0) {
        i--;
    }
    assert_true((kv_tree_cursor_get(&cursor) == NULL) == (i == 0));
    if (i > 0) {
        assert_true(
            kv_slice_equal(kv_record_key(kv_tree_cursor_get(&cursor)), key_of(order[i - 1], text)));
    }
}

/* The next live record from a key on, and the one before it. Where whole stretches died, they are
 * passed over. */
static void check_skipping(void)
{
    struct kv_tree_cursor cursor;
    unsigned at = (unsigned)rnd(KEYS);
    unsigned i = at;
    char text[24];

    kv_tree_seek(&tree, key_of(order[at], text), &cursor);
    kv_tree_skip_dead(&cursor, true);
    while (i < KEYS && model.records[order[i]] <= 0) {
        i++;
    }
    assert_true((kv_tree_cursor_get(&cursor) == NULL) == (i == KEYS));
    assert_true(i == KEYS ||
                kv_slice_equal(kv_record_key(kv_tree_cursor_get(&cursor)), key_of(order[i], text)));
    i = at;
    kv_tree_seek_before(&tree, key_of(order[at], text), true, &cursor);
    kv_tree_skip_dead(&cursor, false);
    while (i > 0 && model.records[order[i - 1]] <= 0) {
        i--;
    }
    assert_true((kv_tree_cursor_get(&cursor) == NULL) == (i == 0));
    assert_true(i == 0 || kv_slice_equal(kv_record_key(kv_tree_cursor_get(&cursor)),
                                         key_of(order[i - 1], text)));
}

/* Tombstones for a stretch of keys. */
static void bury(int step)
{
    unsigned at = (unsigned)rnd(KEYS);

    for (unsigned i = at; i < KEYS && i < at + 300; i++) {
        put(order[i], step, true);
    }
}

static void toggle_pin(void)
{
    struct pinned *pinned = &pins[rnd(PINS)];

    if (!pinned->used) {
        kv_tree_pin(&tree, &pinned->pin);
        pinned->model = model;
        pinned->used = true;
        return;
    }
    check_view(&pinned->pin.view, &pinned->model);
    kv_tree_unpin(&tree, &pinned->pin);
    pinned->used = false;
}

static void run(uint64_t seed)
{
    bool grows = true;

    print_message("seed %llu\n", (unsigned long long)seed);
    random_state = seed * UINT64_C(0x9E3779B97F4A7C15) + 1;
    memset(&model, 0, sizeof model);
    kv_tree_init(&tree);
    for (int step = 1; step <= STEPS; step++) {
        unsigned number = seed % 3 == 0 ? order[step % KEYS] : (unsigned)rnd(KEYS);

        if (rnd(2000) == 0) {
            grows = !grows;
        }
        if (rnd(10) < (grows ? 8 : 2)) {
            put(number, step, rnd(5) == 0);
        } else {
            take(number);
        }
        if (seed % 2 && rnd(400) == 0) {
            toggle_pin();
        }
        if (seed % 4 == 0 && rnd(500) == 0) {
            bury(step);
        }
        if (step % 50 == 0) {
            check_skipping();
        }
        if (step % 3000 == 0) {
            check_view(&tree, &model);
            check_backwards();
        }
    }
    for (int i = 0; i < PINS; i++) {
        if (pins[i].used) {
            check_view(&pins[i].pin.view, &pins[i].model);
            kv_tree_unpin(&tree, &pins[i].pin);
            pins[i].used = false;
        }
    }
    /* Down to nothing, so that every merge is met. */
    for (unsigned i = 0; i < KEYS; i++) {
        take(seed % 2 ? order[i] : (unsigned)(i * 7919 % KEYS));
    }
    check_view(&tree, &model);
    kv_tree_deinit(&tree);
}

static void the_tree_is_a_sorted_array(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(12);

    (void)state;
    for (unsigned i = 0; i < KEYS; i++) {
        order[i] = i;
    }
    qsort(order, KEYS, sizeof order[0], compare_numbers);
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        run(seed);
    }
}

/* Appended or put, alone or mixed: the same content; a key that is not behind all is refused. */
static void keys_in_order_are_appended(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        random_state = seed;
        memset(&model, 0, sizeof model);
        kv_tree_init(&tree);
        for (unsigned i = 0; i < KEYS; i++) {
            char text[24];
            struct kv_record *record = kv_record_new(key_of(order[i], text), 0);

            record->mod_revision = i + 1;
            record->tombstone = rnd(9) == 0;
            model.records[order[i]] = record->tombstone ? -(int64_t)(i + 1) : i + 1;
            assert_true(kv_tree_append(&tree, record));
            if (rnd(5) == 0) {
                put(order[rnd(i + 1)], i + 1, rnd(2) != 0);
            }
            if (rnd(50) == 0) {
                record = kv_record_new(key_of(order[i - rnd(i < 9 ? 1 : 9)], text), 0);
                assert_false(kv_tree_append(&tree, record));
                kv_record_free(record);
            }
        }
        check_view(&tree, &model);
        kv_tree_deinit(&tree);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_tree_is_a_sorted_array),
        cmocka_unit_test(keys_in_order_are_appended),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
