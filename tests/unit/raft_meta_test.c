#include "raft/meta.h"

#include "raft/disk_posix.h"
#include "tests/support/fake_disk.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct kv_meta mine = {11, 3, KV_FORMAT_VERSION};
static struct fake_disk *disk;
static struct kv_error error;
static bool missing;

static int setup(void **state)
{
    (void)state;
    disk = fake_disk_new(1);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_disk_free(disk);
    return 0;
}

/* As a process that starts on the directory and ends. */
static int open_meta(const struct kv_meta *expected)
{
    int status = kv_meta_open(fake_disk_ops(disk), expected, &missing, &error);

    /* As the replica does once its log has begun. */
    if (status == 0 && missing) {
        status = kv_meta_write(fake_disk_ops(disk), expected, &error);
    }

    fake_disk_close_all(disk);
    return status;
}

static void expect_refusal(const struct kv_meta *expected, int status, const char *text)
{
    assert_int_equal(open_meta(expected), status);
    if (!strstr(error.message, text)) {
        print_error("%s\n", error.message);
        fail();
    }
    assert_non_null(strstr(error.message, "disk"));
}

static void a_directory_is_of_one_node(void **state)
{
    (void)state;
    assert_int_equal(open_meta(&mine), 0);
    assert_int_equal(open_meta(&mine), 0);
    expect_refusal(&(struct kv_meta){11, 4, 1}, KV_WRONG_NODE, "belongs to node 3, this is node 4");
    expect_refusal(&(struct kv_meta){12, 3, 1},
                   KV_WRONG_NODE,
                   "belongs to cluster 11, this node is of cluster 12");
    assert_int_equal(open_meta(&mine), 0);
}

static void a_newer_format_is_refused(void **state)
{
    (void)state;
    assert_int_equal(open_meta(&(struct kv_meta){11, 3, KV_FORMAT_VERSION + 1}), 0);
    expect_refusal(&mine, KV_WRONG_NODE, "upgrade the server");
}

static void it_is_durable_when_open_returns(void **state)
{
    (void)state;
    for (uint64_t seed = 0; seed < 50; seed++) {
        fake_disk_free(disk);
        disk = fake_disk_new(seed);
        assert_int_equal(open_meta(&mine), 0);
        fake_disk_crash(disk);
        expect_refusal(&(struct kv_meta){11, 4, 1}, KV_WRONG_NODE, "node 3");
    }
}

static void a_crash_while_it_is_written_is_no_harm(void **state)
{
    unsigned n_cut = 0;

    (void)state;
    for (uint64_t seed = 0; seed < 200; seed++) {
        fake_disk_free(disk);
        disk = fake_disk_new(seed);
        fake_disk_cut_at(disk, 1 + seed % 8);
        if (open_meta(&mine) != 0) {
            n_cut++;
            assert_true(fake_disk_is_cut(disk));
        }
        fake_disk_crash(disk);
        assert_int_equal(open_meta(&mine), 0);
    }
    assert_true(n_cut > 100);
}

static void damage_at_any_byte_is_refused(void **state)
{
    uint64_t size;
    uint8_t *data;

    (void)state;
    assert_int_equal(open_meta(&mine), 0);
    data = fake_disk_data(disk, "meta", &size);
    for (uint64_t i = 0; i < size; i++) {
        data[i] ^= 0x10;
        expect_refusal(&mine, KV_CORRUPT, "disk/meta is damaged");
        data[i] ^= 0x10;
    }
    for (uint64_t cut = 0; cut < size; cut++) {
        uint8_t copy[64];

        memcpy(copy, data, size);
        fake_disk_resize(disk, "meta", cut);
        expect_refusal(&mine, KV_CORRUPT, "disk/meta is damaged");
        fake_disk_resize(disk, "meta", size);
        memcpy(fake_disk_data(disk, "meta", &size), copy, size);
    }
    fake_disk_resize(disk, "meta", size + 1);
    expect_refusal(&mine, KV_CORRUPT, "disk/meta is damaged");
}

static void a_directory_in_use_is_refused(void **state)
{
    (void)state;
    assert_int_equal(kv_meta_open(fake_disk_ops(disk), &mine, &missing, &error), 0);
    assert_int_equal(kv_meta_open(fake_disk_ops(disk), &mine, &missing, &error), KV_IN_USE);
    assert_non_null(strstr(error.message, "in use by another process"));
}

/* On a real disk the owner is named. */
static void the_process_that_uses_it_is_named(void **state)
{
    char path[] = "/tmp/kvd-meta-test-XXXXXX";
    char text[64];
    struct kv_disk_posix *first, *second;
    struct kv_disk first_disk, second_disk;

    (void)state;
    assert_non_null(mkdtemp(path));
    assert_int_equal(kv_disk_posix_open(path, &first, &error), 0);
    assert_int_equal(kv_disk_posix_open(path, &second, &error), 0);
    first_disk = kv_disk_posix_disk(first);
    second_disk = kv_disk_posix_disk(second);
    assert_int_equal(kv_meta_open(&first_disk, &mine, &missing, &error), 0);
    assert_int_equal(kv_meta_open(&second_disk, &mine, &missing, &error), KV_IN_USE);
    snprintf(text, sizeof text, "in use by process %ld", (long)getpid());
    assert_non_null(strstr(error.message, text));
    assert_non_null(strstr(error.message, path));
    kv_disk_posix_close(first);
    assert_int_equal(kv_meta_open(&second_disk, &mine, &missing, &error), 0);
    assert_int_equal(second_disk.ops->unlink(second_disk.disk, "LOCK"), 0);
    kv_disk_posix_close(second);
    assert_int_equal(rmdir(path), 0);
}

static void a_file_that_cannot_be_opened_is_explained(void **state)
{
    char path[] = "/tmp/kvd-meta-test-XXXXXX";
    struct kv_disk_posix *posix;
    struct kv_disk posix_disk;
    char file[64];

    (void)state;
    assert_non_null(mkdtemp(path));
    assert_int_equal(kv_disk_posix_open(path, &posix, &error), 0);
    posix_disk = kv_disk_posix_disk(posix);
    snprintf(file, sizeof file, "%s/meta", path);
    assert_int_equal(symlink("meta", file), 0);
    assert_int_equal(kv_meta_open(&posix_disk, &mine, &missing, &error), KV_IO);
    assert_non_null(strstr(error.message, "cannot open"));
    assert_non_null(strstr(error.message, file));
    assert_int_equal(unlink(file), 0);
    assert_int_equal(posix_disk.ops->unlink(posix_disk.disk, "LOCK"), 0);
    kv_disk_posix_close(posix);
    assert_int_equal(rmdir(path), 0);
}

static void disks_that_do_not_take_it_are_explained(void **state)
{
    (void)state;
    fake_disk_fail_writes(disk, EROFS);
    expect_refusal(&mine, KV_IO, "remount it writable");
    fake_disk_fail_writes(disk, EACCES);
    expect_refusal(&mine, KV_IO, "to the user that kvd runs as");
    fake_disk_fail_writes(disk, 0);
    fake_disk_set_size(disk, 10);
    expect_refusal(&mine, KV_IO, "make room");
    fake_disk_set_size(disk, 0);
    fake_disk_fail_syncs(disk, EIO);
    expect_refusal(&mine, KV_IO, "Input/output error");
    fake_disk_fail_syncs(disk, 0);
    assert_int_equal(open_meta(&mine), 0);
    fake_disk_fail_reads(disk, EIO);
    expect_refusal(&mine, KV_IO, "cannot read disk/meta");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_directory_is_of_one_node),
        TEST(a_newer_format_is_refused),
        TEST(it_is_durable_when_open_returns),
        TEST(a_crash_while_it_is_written_is_no_harm),
        TEST(damage_at_any_byte_is_refused),
        TEST(a_directory_in_use_is_refused),
        TEST(the_process_that_uses_it_is_named),
        TEST(a_file_that_cannot_be_opened_is_explained),
        TEST(disks_that_do_not_take_it_are_explained),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
