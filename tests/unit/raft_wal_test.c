#include "common/limits.h"
#include "raft/wal_format.h"
#include "tests/support/wal_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { SEGMENT_BYTES = 8192 };

static struct fake_disk *disk;
static struct wal_rig rig;

static int setup(void **state)
{
    (void)state;
    disk = fake_disk_new(1);
    wal_rig_init(&rig, fake_disk_ops(disk), SEGMENT_BYTES);
    assert_int_equal(wal_rig_open(&rig), 0);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    wal_rig_close(&rig);
    fake_disk_free(disk);
    return 0;
}

static void reopen(void)
{
    wal_rig_close(&rig);
    fake_disk_close_all(disk);
    if (wal_rig_open(&rig) != 0) {
        print_error("%s\n", rig.error.message);
        fail();
    }
}

/* Entries first..last with their indexes as ids, each its own write, then one sync. */
static void append_many(uint64_t first, uint64_t last, size_t size)
{
    for (uint64_t i = first; i <= last; i++) {
        wal_rig_append(&rig, 1, i, size);
    }
    wal_rig_sync(&rig);
}

static uint64_t n_syncs(void)
{
    struct kv_wal_stats stats;

    kv_wal_stats(rig.wal, &stats);
    return stats.syncs;
}

struct check {
    uint64_t next;
    uint64_t last_id;
};

static int expect_entry(void *arg, uint64_t index, const struct kv_wal_entry *entry)
{
    struct check *check = arg;

    assert_int_equal(index, check->next++);
    assert_int_equal(entry->type, 1);
    assert_true(wal_rig_check(entry->data, &check->last_id));
    return 0;
}

/* All entries are there, with their indexes as ids. */
static void expect_log(uint64_t first, uint64_t last)
{
    struct check check = {.next = first};

    assert_int_equal(kv_wal_first_index(rig.wal), first);
    assert_int_equal(kv_wal_last_index(rig.wal), last);
    assert_int_equal(kv_wal_visit(rig.wal, first, last, expect_entry, &check, &rig.error), 0);
    assert_int_equal(check.next, last + 1);
}

static void an_empty_log_is_empty(void **state)
{
    const struct kv_wal_state *found = kv_wal_recovered(rig.wal);

    (void)state;
    assert_int_equal(found->first_index, 1);
    assert_int_equal(found->last_index, 0);
    assert_int_equal(found->term, 0);
    assert_true(kv_wal_is_idle(rig.wal));
    kv_wal_tick(rig.wal, 1);
    kv_wal_tick(rig.wal, 5000);
    assert_true(kv_wal_is_idle(rig.wal));
    reopen();
    assert_int_equal(kv_wal_last_index(rig.wal), 0);
}

static void what_is_written_comes_back(void **state)
{
    (void)state;
    kv_wal_write_vote(rig.wal, 7, 2);
    append_many(1, 100, 300);
    reopen();
    expect_log(1, 100);
    assert_int_equal(kv_wal_recovered(rig.wal)->term, 7);
    assert_int_equal(kv_wal_recovered(rig.wal)->voted_for, 2);
    assert_int_equal(kv_wal_recovered(rig.wal)->torn_bytes, 0);
    append_many(101, 120, 300);
    reopen();
    expect_log(1, 120);
}

static void writes_gather_while_a_sync_runs(void **state)
{
    uint64_t before;

    (void)state;
    append_many(1, 1, 10);
    before = n_syncs();
    assert_int_equal(rig.synced, 1);
    wal_rig_append(&rig, 1, 2, 10);
    kv_wal_flush(rig.wal);
    for (uint64_t i = 3; i <= 50; i++) {
        wal_rig_append(&rig, 1, i, 10);
        kv_wal_flush(rig.wal);
    }
    assert_true(wal_rig_step(&rig.log_worker));
    assert_int_equal(rig.synced, 2);
    assert_true(wal_rig_step(&rig.log_worker));
    assert_int_equal(rig.synced, 50);
    assert_int_equal(kv_wal_synced_sequence(rig.wal), 50);
    assert_int_equal(n_syncs(), before + 2);
    assert_false(wal_rig_step(&rig.log_worker));
}

static void nothing_is_reported_before_its_sync(void **state)
{
    (void)state;
    append_many(1, 1, 10);
    wal_rig_append(&rig, 1, 2, 10);
    assert_int_equal(rig.synced, 1);
    kv_wal_flush(rig.wal);
    assert_int_equal(rig.synced, 1);
    assert_false(kv_wal_is_idle(rig.wal));
    wal_rig_run(&rig);
    assert_int_equal(rig.synced, 2);
    assert_true(kv_wal_is_idle(rig.wal));
}

static void a_truncation_replaces_entries(void **state)
{
    struct kv_wal_entry entry = {4, 1, {(const uint8_t *)"\x07\0\0\0\0\0\0\0", 8}};
    struct check check = {.next = 1};

    (void)state;
    append_many(1, 60, 300);
    kv_wal_write_entries(rig.wal, 8, &entry, 1);
    assert_int_equal(kv_wal_last_index(rig.wal), 8);
    wal_rig_sync(&rig);
    for (int i = 0; i < 2; i++) {
        check.next = 1;
        assert_int_equal(kv_wal_last_index(rig.wal), 8);
        assert_int_equal(kv_wal_visit(rig.wal, 1, 8, expect_entry, &check, &rig.error), 0);
        assert_int_equal(check.last_id, 7);
        reopen();
    }
    /* One that only cuts. */
    kv_wal_write_entries(rig.wal, 5, NULL, 0);
    wal_rig_sync(&rig);
    reopen();
    expect_log(1, 4);
}

static void a_boundary_starts_the_log_anew(void **state)
{
    (void)state;
    kv_wal_write_vote(rig.wal, 3, 1);
    append_many(1, 60, 300);
    kv_wal_write_boundary(rig.wal, 500, 3);
    wal_rig_sync(&rig);
    assert_int_equal(kv_wal_first_index(rig.wal), 501);
    reopen();
    assert_int_equal(kv_wal_recovered(rig.wal)->boundary_index, 500);
    assert_int_equal(kv_wal_recovered(rig.wal)->boundary_term, 3);
    assert_int_equal(kv_wal_recovered(rig.wal)->term, 3);
    append_many(501, 560, 300);
    expect_log(501, 560);
    reopen();
    expect_log(501, 560);
    /* And back: an index below what the log held. */
    kv_wal_write_boundary(rig.wal, 100, 3);
    append_many(101, 140, 300);
    kv_wal_release(rig.wal, 100);
    wal_rig_run(&rig);
    expect_log(101, 140);
    reopen();
    expect_log(101, 140);
}

/* ---------------------------------------------------------------- reads */

struct pending {
    struct kv_wal_read read;
    int status;
    bool is_done;
};

static void on_read(struct kv_wal_read *read, int status)
{
    struct pending *pending = read->arg;

    pending->status = status;
    pending->is_done = true;
}

static void start_read(struct pending *pending, uint64_t first, uint64_t last, size_t max_bytes)
{
    *pending = (struct pending){.read = {.first_index = first,
                                         .last_index = last,
                                         .max_bytes = max_bytes,
                                         .done = on_read,
                                         .arg = pending}};
    kv_wal_read(rig.wal, &pending->read);
    assert_false(pending->is_done);
}

static void expect_read(struct pending *pending, int status, size_t n_min)
{
    wal_rig_run(&rig);
    assert_true(pending->is_done);
    assert_int_equal(pending->status, status);
    assert_true(pending->read.n_entries >= n_min);
    for (size_t i = 0; i < pending->read.n_entries; i++) {
        uint64_t id;

        assert_true(wal_rig_check(pending->read.entries[i].data, &id));
        assert_int_equal(id, pending->read.first_index + i);
    }
}

static void reads_find_every_entry(void **state)
{
    struct pending pending;

    (void)state;
    append_many(1, 200, 100);
    wal_rig_append(&rig, 1, 201, 5000);
    append_many(202, 300, 20);
    for (int again = 0; again < 2; again++) {
        for (uint64_t first = 1; first <= 300;) {
            start_read(&pending, first, 300, 1000);
            expect_read(&pending, 0, 1);
            assert_true(pending.read.n_entries <= 50);
            first += pending.read.n_entries;
            kv_wal_read_deinit(&pending.read);
        }
        for (uint64_t first = 1; first <= 300; first++) {
            start_read(&pending, first, first, 1);
            expect_read(&pending, 0, 1);
            assert_int_equal(pending.read.n_entries, 1);
            kv_wal_read_deinit(&pending.read);
        }
        reopen();
    }
}

static void reads_beyond_the_log_find_nothing(void **state)
{
    static const uint64_t indexes[] = {0, 11, 1000};
    struct pending pending;

    (void)state;
    append_many(1, 10, 100);
    for (size_t i = 0; i < 3; i++) {
        start_read(&pending, indexes[i], indexes[i] + 5, 1000);
        expect_read(&pending, KV_NOT_FOUND, 0);
        kv_wal_read_deinit(&pending.read);
    }
    /* Not yet synced. */
    wal_rig_append(&rig, 1, 11, 10);
    start_read(&pending, 11, 11, 1000);
    expect_read(&pending, KV_NOT_FOUND, 0);
    kv_wal_read_deinit(&pending.read);
}

static void what_is_truncated_while_read_is_not_found(void **state)
{
    struct pending whole, part;

    (void)state;
    append_many(1, 20, 100);
    start_read(&whole, 10, 20, 10000);
    start_read(&part, 5, 20, 10000);
    kv_wal_write_entries(rig.wal, 8, NULL, 0);
    expect_read(&whole, KV_NOT_FOUND, 0);
    expect_read(&part, 0, 3);
    assert_int_equal(part.read.n_entries, 3);
    kv_wal_read_deinit(&whole.read);
    kv_wal_read_deinit(&part.read);
}

static void reads_check_what_they_read(void **state)
{
    struct pending pending;
    char names[64][128];
    uint64_t size;

    (void)state;
    append_many(1, 20, 100);
    assert_true(fake_disk_list(disk, "wal", names, 64) > 0);
    fake_disk_data(disk, "wal/0000000000000001-0000000000000001", &size)[1000] ^= 1;
    start_read(&pending, 1, 20, 100000);
    expect_read(&pending, KV_CORRUPT, 0);
    kv_wal_read_deinit(&pending.read);
    fake_disk_fail_reads(disk, EIO);
    start_read(&pending, 1, 20, 100000);
    expect_read(&pending, KV_IO, 0);
    kv_wal_read_deinit(&pending.read);
}

/* ---------------------------------------------------------------- segments */

static size_t count_files(const char *part)
{
    char names[256][128];
    size_t n = fake_disk_list(disk, "wal", names, 256);
    size_t n_found = 0;

    for (size_t i = 0; i < n; i++) {
        n_found += strstr(names[i], part) != NULL;
    }
    return n_found;
}

static void every_file_has_its_size_from_birth(void **state)
{
    char names[256][128];
    size_t n;

    (void)state;
    append_many(1, 100, 300);
    n = fake_disk_list(disk, "wal", names, 256);
    assert_true(n > 4);
    for (size_t i = 0; i < n; i++) {
        uint64_t size;

        assert_non_null(fake_disk_data(disk, names[i], &size));
        assert_int_equal(size, SEGMENT_BYTES);
    }
    assert_int_equal(count_files("spare"), 1);
    /* A restart takes the spare over. */
    reopen();
    assert_int_equal(count_files("spare"), 1);
    append_many(101, 130, 300);
    expect_log(1, 130);
}

static void released_segments_are_recycled(void **state)
{
    struct kv_wal_stats stats;

    (void)state;
    kv_wal_write_vote(rig.wal, 9, 3);
    for (uint64_t i = 1; i <= 2000; i += 20) {
        append_many(i, i + 19, 300);
        if (i == 801) {
            reopen();
        }
        if (i > 60) {
            kv_wal_release(rig.wal, i - 40);
            wal_rig_run(&rig);
        }
        assert_true(count_files("wal/") <= 8);
    }
    assert_true(kv_wal_first_index(rig.wal) > 1800);
    assert_true(kv_wal_first_index(rig.wal) <= 1942);
    kv_wal_stats(rig.wal, &stats);
    assert_true(stats.disk_bytes <= 7 * SEGMENT_BYTES);
    expect_log(kv_wal_first_index(rig.wal), 2000);
    reopen();
    expect_log(kv_wal_first_index(rig.wal), 2000);
    assert_true(kv_wal_first_index(rig.wal) > 1800);
    assert_int_equal(kv_wal_recovered(rig.wal)->term, 9);
    assert_int_equal(kv_wal_recovered(rig.wal)->voted_for, 3);
}

static void a_segment_that_is_read_is_not_released(void **state)
{
    struct pending pending;

    (void)state;
    append_many(1, 100, 300);
    start_read(&pending, 1, 10, 10000);
    kv_wal_release(rig.wal, 90);
    while (wal_rig_step(&rig.log_worker)) {
    }
    expect_read(&pending, 0, 10);
    kv_wal_read_deinit(&pending.read);
    assert_true(count_files("wal/") <= 4);
    start_read(&pending, 1, 10, 10000);
    expect_read(&pending, KV_NOT_FOUND, 0);
    kv_wal_read_deinit(&pending.read);
}

static void a_segment_missing_after_a_release_is_refused(void **state)
{
    char names[256][128];
    char *first = NULL;
    size_t n;

    (void)state;
    append_many(1, 200, 300);
    kv_wal_release(rig.wal, 100);
    wal_rig_run(&rig);
    wal_rig_close(&rig);
    n = fake_disk_list(disk, "wal", names, 256);
    for (size_t i = 0; i < n; i++) {
        if (strlen(names[i]) == 37 && (!first || strcmp(names[i], first) < 0)) {
            first = names[i];
        }
    }
    /* The newest of the released ones may still be there: not so the next. */
    fake_disk_remove(disk, first);
    if (wal_rig_open(&rig) == 0) {
        wal_rig_close(&rig);
        first = NULL;
        n = fake_disk_list(disk, "wal", names, 256);
        for (size_t i = 0; i < n; i++) {
            if (strlen(names[i]) == 37 && (!first || strcmp(names[i], first) < 0)) {
                first = names[i];
            }
        }
        fake_disk_remove(disk, first);
        assert_int_equal(wal_rig_open(&rig), KV_CORRUPT);
    }
    assert_non_null(strstr(rig.error.message, "missing"));
}

/* Decodes all records of all segments and returns the lowest and highest sequence. */
static void sequences(uint64_t *ret_lowest, uint64_t *ret_highest)
{
    char names[256][128];
    size_t n = fake_disk_list(disk, "wal", names, 256);

    *ret_lowest = UINT64_MAX;
    *ret_highest = 0;
    for (size_t i = 0; i < n; i++) {
        uint64_t first_index, number, size, offset = 0, step;
        const uint8_t *data = fake_disk_data(disk, names[i], &size);
        uint32_t seed;
        struct kv_wal_record record;

        if (kv_wal_segment_name_parse(names[i] + 4, &first_index, &number) != 0) {
            continue;
        }
        seed = kv_wal_segment_seed(rig.options.seed, number);
        while ((step = kv_wal_record_decode(
                    kv_slice_of(data + offset, size - offset), offset ? seed : 0, &record)) > 0) {
            *ret_lowest = record.sequence < *ret_lowest ? record.sequence : *ret_lowest;
            *ret_highest = record.sequence > *ret_highest ? record.sequence : *ret_highest;
            offset += step;
        }
    }
}

static void record_numbers_are_never_used_again(void **state)
{
    uint64_t lowest, highest, later;

    (void)state;
    append_many(1, 10, 100);
    wal_rig_append(&rig, 1, 11, 100);
    kv_wal_flush(rig.wal);
    /* Written, but lost with the power. */
    rig.log_worker.first->run(rig.log_worker.first);
    sequences(&lowest, &highest);
    fake_disk_crash(disk);
    wal_rig_close(&rig);
    assert_int_equal(wal_rig_open(&rig), 0);
    append_many(kv_wal_last_index(rig.wal) + 1, 20, 100);
    sequences(&lowest, &later);
    assert_true(later > highest + 1000000);
    reopen();
    expect_log(1, 20);
}

/* ---------------------------------------------------------------- when things fail */

static void a_failed_sync_ends_the_log(void **state)
{
    (void)state;
    append_many(1, 10, 100);
    fake_disk_fail_syncs(disk, EIO);
    wal_rig_append(&rig, 1, 11, 100);
    kv_wal_flush(rig.wal);
    wal_rig_append(&rig, 1, 12, 100);
    wal_rig_run(&rig);
    assert_int_equal(rig.n_failed, 1);
    assert_int_equal(rig.synced, 10);
    assert_non_null(strstr(rig.error.message, "syncing disk/wal/0000000000000001-"));
    /* Never again, even if the disk seems well. */
    fake_disk_fail_syncs(disk, 0);
    wal_rig_append(&rig, 1, 13, 100);
    kv_wal_write_vote(rig.wal, 5, 5);
    kv_wal_tick(rig.wal, 100000);
    kv_wal_release(rig.wal, 5);
    wal_rig_sync(&rig);
    assert_int_equal(rig.n_failed, 1);
    assert_int_equal(rig.synced, 10);
}

/* What the failed sync left in memory counts as clean there; found again, it must get to the disk,
 * the end of a segment too. */
static void what_a_failed_sync_left_is_written_again(void **state)
{
    uint64_t last = 0;

    (void)state;
    for (int round = 0; round < 50; round++) {
        append_many(last + 1, last + 3, 600);
        fake_disk_fail_syncs(disk, EIO);
        wal_rig_append(&rig, 1, last + 4, 600);
        wal_rig_sync(&rig);
        assert_int_equal(rig.n_failed, 1);
        fake_disk_fail_syncs(disk, 0);
        reopen();
        last = kv_wal_last_index(rig.wal);
        wal_rig_append(&rig, 1, ++last, 600);
        wal_rig_sync(&rig);
        wal_rig_close(&rig);
        fake_disk_crash(disk);
        reopen();
        expect_log(1, last);
    }
}

static void a_failed_write_ends_the_log(void **state)
{
    (void)state;
    append_many(1, 10, 100);
    fake_disk_fail_writes(disk, EIO);
    wal_rig_append(&rig, 1, 11, 100);
    wal_rig_sync(&rig);
    assert_int_equal(rig.n_failed, 1);
    assert_int_equal(rig.synced, 10);
    assert_non_null(strstr(rig.error.message, "writing disk/wal/"));
    assert_non_null(strstr(rig.error.message, "Input/output error"));
    fake_disk_fail_writes(disk, 0);
    reopen();
    expect_log(1, 10);
}

/* The spare that is there serves on; then the log stands still until there is room. */
static void a_full_disk_makes_the_log_wait(void **state)
{
    uint64_t last;
    uint64_t sequence = 0;

    (void)state;
    append_many(1, 1, 100);
    assert_int_equal(count_files("spare"), 1);
    fake_disk_set_size(disk, 2 * SEGMENT_BYTES);
    for (uint64_t i = 2; i <= 25 && rig.n_failed == 0; i++) {
        append_many(i, i, 500);
    }
    assert_int_equal(rig.n_failed, 0);
    assert_int_equal(count_files("spare"), 0);
    for (last = 25; last < 100 && !kv_wal_is_full(rig.wal); last++) {
        sequence = wal_rig_append(&rig, 1, last + 1, 500);
        kv_wal_flush(rig.wal);
        wal_rig_run(&rig);
    }
    assert_true(kv_wal_is_full(rig.wal));
    assert_true(last < 100);
    kv_wal_tick(rig.wal, 5000);
    wal_rig_run(&rig);
    assert_true(kv_wal_is_full(rig.wal));
    assert_int_equal(rig.n_failed, 0);
    assert_int_equal(count_files("spare"), 0);
    assert_true(kv_wal_synced_sequence(rig.wal) < sequence);
    fake_disk_set_size(disk, 0);
    kv_wal_tick(rig.wal, 6000);
    wal_rig_run(&rig);
    assert_false(kv_wal_is_full(rig.wal));
    assert_true(kv_wal_synced_sequence(rig.wal) == sequence);
    reopen();
    assert_int_equal(kv_wal_last_index(rig.wal), last);
    append_many(last + 1, 120, 500);
    expect_log(1, 120);
}

/* What a snapshot makes needless is room for a log that stands still. */
static void a_log_without_room_goes_on_in_what_is_released(void **state)
{
    uint64_t last, sequence, before;

    (void)state;
    append_many(1, 1, 100);
    fake_disk_set_size(disk, 2 * SEGMENT_BYTES);
    /* Two segments are full, several wait. */
    for (last = 1; last < 100; last++) {
        wal_rig_append(&rig, 1, last + 1, 500);
        wal_rig_sync(&rig);
    }
    sequence = kv_wal_write_vote(rig.wal, 9, 2);
    while ((before = kv_wal_synced_sequence(rig.wal)) < sequence) {
        assert_true(kv_wal_is_out_of_room(rig.wal));
        kv_wal_release(rig.wal, last);
        wal_rig_run(&rig);
        assert_true(kv_wal_synced_sequence(rig.wal) > before);
    }
    fake_disk_crash(disk);
    reopen();
    assert_int_equal(kv_wal_recovered(rig.wal)->term, 9);
    assert_int_equal(kv_wal_last_index(rig.wal), last);
    expect_log(kv_wal_first_index(rig.wal), last);
}

static void a_spare_is_tried_again_when_there_is_room(void **state)
{
    (void)state;
    append_many(1, 1, 100);
    fake_disk_set_size(disk, 2 * SEGMENT_BYTES);
    append_many(2, 25, 500);
    assert_int_equal(count_files("spare"), 0);
    fake_disk_set_size(disk, KV_DISK_RESERVE_BYTES + 4 * SEGMENT_BYTES);
    append_many(26, 26, 10);
    assert_int_equal(count_files("spare"), 0);
    kv_wal_tick(rig.wal, 5000);
    wal_rig_run(&rig);
    assert_int_equal(count_files("spare"), 1);
}

/* A killed process leaves pages that are in memory only. What recovery found must survive a power
 * loss right after it. */
static void what_recovery_found_is_on_disk(void **state)
{
    (void)state;
    append_many(1, 1, 10);
    for (int i = 0; i < 50; i++) {
        uint64_t last = kv_wal_last_index(rig.wal);

        wal_rig_append(&rig, 1, last + 1, 300);
        wal_rig_append(&rig, 1, last + 2, 300);
        kv_wal_flush(rig.wal);
        /* Killed after the write, before its sync. */
        fake_disk_cut_at(disk, 2);
        wal_rig_run(&rig);
        fake_disk_cut_at(disk, 0);
        assert_int_equal(rig.n_failed, 1);
        reopen();
        last = kv_wal_last_index(rig.wal);
        fake_disk_crash(disk);
        reopen();
        expect_log(1, last);
        append_many(last + 1, last + 1, 10);
    }
    assert_true(kv_wal_last_index(rig.wal) > 100);
}

static void the_queue_is_bounded(void **state)
{
    enum { BIG = 4 * 1024 * 1024 };
    static uint8_t data[BIG];
    struct kv_wal_entry entry = {1, 1, {data, BIG}};
    struct kv_disk other = rig.disk;
    int n = 0;

    (void)state;
    wal_rig_close(&rig);
    wal_rig_init(&rig, &other, 0);
    assert_int_equal(wal_rig_open(&rig), 0);
    while (!kv_wal_is_full(rig.wal)) {
        kv_wal_write_entries(rig.wal, kv_wal_last_index(rig.wal) + 1, &entry, 1);
        kv_wal_flush(rig.wal);
        n++;
    }
    assert_in_range(n, 15, 17);
    wal_rig_run(&rig);
    assert_false(kv_wal_is_full(rig.wal));
    assert_int_equal(rig.synced, n);
}

static void an_idle_second_closes_the_window(void **state)
{
    uint64_t size, before;
    uint8_t *data;

    (void)state;
    append_many(1, 10, 100);
    before = n_syncs();
    kv_wal_tick(rig.wal, 1000);
    kv_wal_tick(rig.wal, 1900);
    assert_true(kv_wal_is_idle(rig.wal));
    kv_wal_tick(rig.wal, 2100);
    wal_rig_run(&rig);
    assert_int_equal(n_syncs(), before + 1);
    /* Once is enough. */
    for (uint64_t now = 3000; now < 20000; now += 500) {
        kv_wal_tick(rig.wal, now);
        wal_rig_run(&rig);
    }
    assert_int_equal(n_syncs(), before + 1);
    assert_int_equal(rig.synced, 10);
    wal_rig_close(&rig);
    data = fake_disk_data(disk, "wal/0000000000000001-0000000000000001", &size);
    while (size > 0 && data[size - 1] == 0) {
        size--;
    }
    data[size - 100] ^= 1; /* in the last entry, before the `synced` record */
    assert_int_equal(wal_rig_open(&rig), KV_CORRUPT);
}

static void a_newer_format_is_refused(void **state)
{
    uint64_t size;
    uint8_t *data, body[KV_WAL_SEGMENT_HEAD_BYTES];
    struct kv_wal_record record;
    struct kv_wal_segment_head head;

    (void)state;
    append_many(1, 10, 100);
    wal_rig_close(&rig);
    data = fake_disk_data(disk, "wal/0000000000000001-0000000000000001", &size);
    assert_true(kv_wal_record_decode(kv_slice_of(data, size), 0, &record) > 0);
    assert_int_equal(kv_wal_segment_head_decode(record.body, &head), 0);
    head.format_version = 2;
    kv_wal_segment_head_encode(body, &head);
    record.body.data = body;
    kv_wal_record_encode(data, &record, 0);
    assert_int_equal(wal_rig_open(&rig), KV_WRONG_NODE);
    assert_non_null(strstr(rig.error.message, "format 2"));
    assert_non_null(strstr(rig.error.message, "upgrade"));
}

static void unreadable_files_are_named(void **state)
{
    (void)state;
    append_many(1, 10, 100);
    wal_rig_close(&rig);
    fake_disk_fail_reads(disk, EIO);
    assert_int_equal(wal_rig_open(&rig), KV_IO);
    assert_non_null(strstr(rig.error.message, "disk/wal/0000000000000001-0000000000000001"));
    fake_disk_fail_reads(disk, 0);
    fake_disk_fail_syncs(disk, EIO);
    assert_int_equal(wal_rig_open(&rig), KV_IO);
    fake_disk_fail_syncs(disk, 0);
    assert_int_equal(wal_rig_open(&rig), 0);
    expect_log(1, 10);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(an_empty_log_is_empty),
        TEST(what_is_written_comes_back),
        TEST(writes_gather_while_a_sync_runs),
        TEST(nothing_is_reported_before_its_sync),
        TEST(a_truncation_replaces_entries),
        TEST(a_boundary_starts_the_log_anew),
        TEST(reads_find_every_entry),
        TEST(reads_beyond_the_log_find_nothing),
        TEST(what_is_truncated_while_read_is_not_found),
        TEST(reads_check_what_they_read),
        TEST(every_file_has_its_size_from_birth),
        TEST(released_segments_are_recycled),
        TEST(a_segment_that_is_read_is_not_released),
        TEST(a_segment_missing_after_a_release_is_refused),
        TEST(record_numbers_are_never_used_again),
        TEST(a_failed_sync_ends_the_log),
        TEST(what_a_failed_sync_left_is_written_again),
        TEST(a_failed_write_ends_the_log),
        TEST(a_full_disk_makes_the_log_wait),
        TEST(a_log_without_room_goes_on_in_what_is_released),
        TEST(a_spare_is_tried_again_when_there_is_room),
        TEST(what_recovery_found_is_on_disk),
        TEST(the_queue_is_bounded),
        TEST(an_idle_second_closes_the_window),
        TEST(a_newer_format_is_refused),
        TEST(unreadable_files_are_named),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
