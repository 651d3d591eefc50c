/* The index of watches against a loop over all groups: random ranges, keys and removals. */
#include "server/node/watch_index.h"
#include "tests/support/seeds.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { GROUPS = 300, STEPS = 3000, TEXT_BYTES = 4 };

static uint64_t random_state;

static unsigned rnd(unsigned below)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (unsigned)((random_state * UINT64_C(2685821657736338717) >> 33) % below);
}

struct text {
    uint8_t bytes[TEXT_BYTES];
    size_t size;
};

/* Few letters, so that ranges meet often. */
static struct kv_slice any_text(struct text *text, size_t size_min)
{
    static const uint8_t letters[] = {'a', 'b', 'c', 0xff};

    text->size = size_min + rnd((unsigned)(TEXT_BYTES - size_min));
    for (size_t i = 0; i < text->size; i++) {
        text->bytes[i] = letters[rnd(sizeof letters)];
    }
    return kv_slice_of(text->bytes, text->size);
}

static struct kv_event_query any_query(struct text *start, struct text *end)
{
    struct kv_event_query query = {.kinds = (uint8_t)(1 + rnd(2)), .with_previous = rnd(2)};

    query.is_key = rnd(2);
    query.start = any_text(start, query.is_key);
    query.has_end = query.is_key || rnd(5) > 0;
    if (query.is_key) {
        *end = *start;
        end->size = start->size < TEXT_BYTES ? start->size + 1 : start->size;
        end->bytes[end->size - 1] = 0;
        query.end = kv_slice_of(end->bytes, end->size);
    } else if (query.has_end) {
        query.end = any_text(end, 1);
    }
    return query;
}

static struct kv_watch_group *groups[GROUPS];
static size_t n_groups;
static struct kv_watch_group *matched[GROUPS];
static size_t n_matched;

static void on_match(void *arg, struct kv_watch_group *group)
{
    (void)arg;
    assert_true(n_matched < GROUPS);
    matched[n_matched++] = group;
}

static bool holds(const struct kv_event_query *query, struct kv_slice key)
{
    if (query->is_key) {
        return kv_slice_equal(query->start, key);
    }
    return kv_slice_compare(query->start, key) <= 0 &&
           (!query->has_end || kv_slice_compare(key, query->end) < 0);
}

static void check_match(const struct kv_watch_index *index)
{
    struct text memory;
    struct kv_slice key = any_text(&memory, 1);
    size_t n = 0;

    n_matched = 0;
    kv_watch_index_match(index, key, on_match, NULL);
    for (size_t i = 0; i < n_groups; i++) {
        size_t times = 0;

        for (size_t k = 0; k < n_matched; k++) {
            times += matched[k] == groups[i];
        }
        assert_int_equal(times, holds(&groups[i]->query, key));
        n += times;
    }
    assert_int_equal(n, n_matched);
}

static void run_seed(uint64_t seed)
{
    struct kv_watch_index index = {0};

    random_state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
    n_groups = 0;
    for (unsigned step = 0; step < STEPS; step++) {
        struct text start, end;
        struct kv_event_query query = any_query(&start, &end);
        struct kv_watch_group *group = kv_watch_index_find(&index, &query);

        if (rnd(2) && n_groups < GROUPS && !group) {
            group = kv_watch_index_add(&index, &query);
            assert_non_null(group);
            assert_ptr_equal(kv_watch_index_find(&index, &query), group);
            groups[n_groups++] = group;
        } else if (n_groups > 0 && rnd(3) == 0) {
            size_t victim = rnd((unsigned)n_groups);

            query = groups[victim]->query;
            assert_ptr_equal(kv_watch_index_find(&index, &query), groups[victim]);
            kv_watch_index_remove(&index, groups[victim]);
            groups[victim] = groups[--n_groups];
        }
        assert_int_equal(index.n_keys + index.n_ranges, n_groups);
        kv_watch_index_check_invariants(&index);
        check_match(&index);
    }
    while (n_groups > 0) {
        kv_watch_index_remove(&index, groups[--n_groups]);
    }
    kv_watch_index_check_invariants(&index);
    assert_null(index.root);
    kv_watch_index_deinit(&index);
}

static void the_index_is_a_loop_over_all(void **state)
{
    struct kv_test_seeds seeds = kv_test_seeds(20);

    (void)state;
    for (uint64_t seed = seeds.first; seed <= seeds.last; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        run_seed(seed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_index_is_a_loop_over_all),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
