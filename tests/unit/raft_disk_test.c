/* The real disk, in a directory of its own; and the log on it. */
#include "raft/disk_posix.h"
#include "tests/support/wal_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char top[] = "/tmp/kvd-disk-test-XXXXXX";
static char path[64];
static struct kv_disk_posix *posix;
static struct kv_disk disk;
static struct kv_error error;

static int setup(void **state)
{
    (void)state;
    memcpy(top + strlen(top) - 6, "XXXXXX", 6);
    assert_non_null(mkdtemp(top));
    snprintf(path, sizeof path, "%s/data", top);
    assert_int_equal(kv_disk_posix_open(path, &posix, &error), 0);
    disk = kv_disk_posix_disk(posix);
    return 0;
}

static void remove_name(void *arg, const char *name)
{
    char full[512];

    snprintf(full, sizeof full, "%s/%s", (const char *)arg, name);
    assert_int_equal(unlink(full), 0);
}

static int teardown(void **state)
{
    char directory[128];

    (void)state;
    snprintf(directory, sizeof directory, "%s/wal", path);
    (void)disk.ops->list(disk.disk, "wal", remove_name, directory);
    (void)rmdir(directory);
    (void)disk.ops->list(disk.disk, ".", remove_name, path);
    kv_disk_posix_close(posix);
    return rmdir(path) == 0 && rmdir(top) == 0 ? 0 : -1;
}

static void files_hold_what_is_written(void **state)
{
    struct kv_file *file;
    char data[32];

    (void)state;
    assert_int_equal(disk.ops->open(disk.disk, "a", KV_DISK_WRITE, &file), -ENOENT);
    assert_int_equal(disk.ops->open(disk.disk, "a", KV_DISK_WRITE | KV_DISK_CREATE, &file), 0);
    assert_int_equal(disk.ops->pwrite(disk.disk, file, "hello", 5, 3), 0);
    assert_int_equal(disk.ops->size(disk.disk, file), 8);
    assert_int_equal(disk.ops->pread(disk.disk, file, data, sizeof data, 2), 6);
    assert_memory_equal(data, "\0hello", 6);
    assert_int_equal(disk.ops->pread(disk.disk, file, data, sizeof data, 100), 0);
    assert_int_equal(disk.ops->datasync(disk.disk, file), 0);
    assert_int_equal(disk.ops->sync(disk.disk, file), 0);
    assert_int_equal(disk.ops->truncate(disk.disk, file, 4), 0);
    assert_int_equal(disk.ops->size(disk.disk, file), 4);
    disk.ops->close(disk.disk, file);
    assert_int_equal(
        disk.ops->open(disk.disk, "a", KV_DISK_WRITE | KV_DISK_CREATE | KV_DISK_EXCLUSIVE, &file),
        -EEXIST);
    assert_int_equal(disk.ops->open(disk.disk, "a", KV_DISK_READ, &file), 0);
    assert_int_equal(disk.ops->pwrite(disk.disk, file, "x", 1, 0), -EBADF);
    disk.ops->close(disk.disk, file);
    assert_int_equal(disk.ops->open(disk.disk, "a", KV_DISK_READ | KV_DISK_NO_AHEAD, &file), 0);
    assert_int_equal(disk.ops->pread(disk.disk, file, data, sizeof data, 3), 1);
    assert_int_equal(data[0], 'h');
    disk.ops->close(disk.disk, file);
}

static void count_name(void *arg, const char *name)
{
    assert_true(name[0] != '.');
    ++*(unsigned *)arg;
}

static void names_are_made_moved_and_listed(void **state)
{
    struct kv_file *file;
    unsigned n = 0;

    (void)state;
    assert_int_equal(disk.ops->list(disk.disk, "wal", count_name, &n), -ENOENT);
    assert_int_equal(disk.ops->mkdir(disk.disk, "wal"), 0);
    assert_int_equal(disk.ops->mkdir(disk.disk, "wal"), 0);
    for (int i = 0; i < 20; i++) {
        char name[32];

        snprintf(name, sizeof name, "wal/%d", i);
        assert_int_equal(disk.ops->open(disk.disk, name, KV_DISK_WRITE | KV_DISK_CREATE, &file), 0);
        disk.ops->close(disk.disk, file);
    }
    assert_int_equal(disk.ops->rename(disk.disk, "wal/3", "wal/4"), 0);
    assert_int_equal(disk.ops->unlink(disk.disk, "wal/5"), 0);
    assert_int_equal(disk.ops->unlink(disk.disk, "wal/5"), -ENOENT);
    assert_int_equal(disk.ops->sync_dir(disk.disk, "wal"), 0);
    assert_int_equal(disk.ops->sync_dir(disk.disk, "."), 0);
    assert_int_equal(disk.ops->list(disk.disk, "wal", count_name, &n), 0);
    assert_int_equal(n, 18);
    assert_true(disk.ops->free_bytes(disk.disk) > 0);
}

static void the_lock_is_for_one(void **state)
{
    struct kv_disk_posix *other;
    struct kv_disk other_disk;

    (void)state;
    assert_int_equal(disk.ops->lock(disk.disk, "LOCK"), 0);
    /* Even within one process. */
    assert_int_equal(kv_disk_posix_open(path, &other, &error), 0);
    other_disk = kv_disk_posix_disk(other);
    assert_int_equal(other_disk.ops->lock(other_disk.disk, "LOCK"), -EWOULDBLOCK);
    kv_disk_posix_close(posix);
    assert_int_equal(other_disk.ops->lock(other_disk.disk, "LOCK"), 0);
    posix = other;
    disk = other_disk;
}

static void bad_directories_are_explained(void **state)
{
    struct kv_disk_posix *other = NULL;
    char name[128];
    struct kv_file *file;

    (void)state;
    snprintf(name, sizeof name, "%s/none/data", top);
    assert_int_equal(kv_disk_posix_open(name, &other, &error), KV_IO);
    assert_non_null(strstr(error.message, name));
    assert_non_null(strstr(error.message, "parent directory"));
    assert_int_equal(disk.ops->open(disk.disk, "plain", KV_DISK_WRITE | KV_DISK_CREATE, &file), 0);
    disk.ops->close(disk.disk, file);
    snprintf(name, sizeof name, "%s/plain", path);
    assert_int_equal(kv_disk_posix_open(name, &other, &error), KV_IO);
    assert_non_null(strstr(error.message, "no directory"));
    assert_null(other);
    kv_disk_posix_close(NULL);
}

static int count_entry(void *arg, uint64_t index, const struct kv_wal_entry *entry)
{
    uint64_t id;

    assert_true(wal_rig_check(entry->data, &id));
    assert_int_equal(id, index);
    ++*(uint64_t *)arg;
    return 0;
}

static void the_log_lives_on_it(void **state)
{
    enum { SEGMENT_BYTES = 1024 * 1024, ENTRIES = 3000 };
    struct wal_rig rig;
    uint64_t n = 0;

    (void)state;
    wal_rig_init(&rig, &disk, SEGMENT_BYTES);
    assert_int_equal(wal_rig_open(&rig), 0);
    for (uint64_t i = 1; i <= ENTRIES; i++) {
        wal_rig_append(&rig, 1, i, 1000);
        if (i % 100 == 0) {
            wal_rig_sync(&rig);
        }
    }
    wal_rig_sync(&rig);
    assert_int_equal(rig.n_failed, 0);
    wal_rig_close(&rig);
    assert_int_equal(wal_rig_open(&rig), 0);
    assert_int_equal(kv_wal_last_index(rig.wal), ENTRIES);
    kv_wal_release(rig.wal, 2000);
    wal_rig_sync(&rig);
    assert_true(kv_wal_first_index(rig.wal) > 1);
    wal_rig_close(&rig);
    assert_int_equal(wal_rig_open(&rig), 0);
    assert_int_equal(kv_wal_visit(rig.wal,
                                  kv_wal_first_index(rig.wal),
                                  kv_wal_last_index(rig.wal),
                                  count_entry,
                                  &n,
                                  &rig.error),
                     0);
    assert_int_equal(n, ENTRIES - kv_wal_first_index(rig.wal) + 1);
    wal_rig_close(&rig);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(files_hold_what_is_written),
        TEST(names_are_made_moved_and_listed),
        TEST(the_lock_is_for_one),
        TEST(bad_directories_are_explained),
        TEST(the_log_lives_on_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
