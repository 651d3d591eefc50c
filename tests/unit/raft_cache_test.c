#include "raft/entry_cache.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <raft.h>

static void append(struct kv_entry_cache *cache, uint64_t index, size_t size)
{
    uint8_t *memory = raft_malloc(size);
    struct kv_entry_batch *batch = kv_entry_batch_new(memory);
    struct kv_cached_entry entry = {
        .term = index, .write_sequence = 2 * index, .batch = batch, .type = 1};

    memset(memory, (int)index, size);
    entry.data = kv_slice_of(memory, size);
    assert_int_equal(kv_entry_cache_append(cache, index, &entry), 0);
    kv_entry_batch_release(batch);
}

static void entries_stay_until_trimmed(void **state)
{
    struct kv_entry_cache cache;

    (void)state;
    kv_entry_cache_init(&cache, 41);
    for (uint64_t i = 42; i < 2042; i++) {
        append(&cache, i, 100);
    }
    assert_null(kv_entry_cache_get(&cache, 41));
    assert_null(kv_entry_cache_get(&cache, 2042));
    for (uint64_t i = 42; i < 2042; i++) {
        assert_int_equal(kv_entry_cache_get(&cache, i)->term, i);
        assert_int_equal(kv_entry_cache_get(&cache, i)->data.data[99], (uint8_t)i);
    }
    /* Not beyond what may go, even when over the bytes. */
    kv_entry_cache_trim(&cache, 100, 0);
    assert_null(kv_entry_cache_get(&cache, 100));
    assert_non_null(kv_entry_cache_get(&cache, 101));
    /* Not more than the bytes ask for. */
    kv_entry_cache_trim(&cache, 2041, 10 * 164);
    assert_int_equal(cache.first_index, 2032);
    kv_entry_cache_deinit(&cache);
}

static void truncation_drops_the_tail(void **state)
{
    struct kv_entry_cache cache;

    (void)state;
    kv_entry_cache_init(&cache, 0);
    for (uint64_t i = 1; i <= 10; i++) {
        append(&cache, i, 8);
    }
    kv_entry_cache_truncate(&cache, 6);
    assert_int_equal(cache.last_index, 5);
    assert_null(kv_entry_cache_get(&cache, 6));
    append(&cache, 6, 16);
    assert_int_equal(kv_entry_cache_get(&cache, 6)->data.size, 16);
    kv_entry_cache_trim(&cache, 4, 0);
    /* A cut below what is held. */
    kv_entry_cache_truncate(&cache, 3);
    assert_int_equal(cache.last_index, 2);
    assert_int_equal(cache.bytes, 0);
    append(&cache, 3, 8);
    assert_non_null(kv_entry_cache_get(&cache, 3));
    kv_entry_cache_deinit(&cache);
}

static void entries_of_a_batch_share_its_memory(void **state)
{
    struct kv_entry_cache cache;
    uint8_t *memory = raft_malloc(20);
    struct kv_entry_batch *batch = kv_entry_batch_new(memory);

    (void)state;
    kv_entry_cache_init(&cache, 0);
    for (uint64_t i = 1; i <= 2; i++) {
        struct kv_cached_entry entry = {
            .term = 1, .batch = batch, .data = {memory + 10 * (i - 1), 10}};

        assert_int_equal(kv_entry_cache_append(&cache, i, &entry), 0);
    }
    assert_int_equal(batch->references, 3);
    kv_entry_batch_release(batch);
    kv_entry_cache_trim(&cache, 1, 0);
    assert_int_equal(batch->references, 1);
    kv_entry_cache_deinit(&cache);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_stay_until_trimmed),
        cmocka_unit_test(truncation_drops_the_tail),
        cmocka_unit_test(entries_of_a_batch_share_its_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
