/* The files of the log and of snapshots while memory is short: each allocation fails in turn, the
 * call says KV_NO_MEMORY, nothing is lost, and the next try works. The allocations of the library
 * are wrapped by the linker (tests/CMakeLists.txt). */
#include "tests/support/snapshot_rig.h"
#include "tests/support/wal_rig.h"

#include "raft/wal_internal.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---------------------------------------------------------------- allocations */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t size);

static unsigned fails_at; /* the how manieth from now; 0: none */
static bool has_failed;

static bool fails(void)
{
    if (fails_at == 0 || --fails_at > 0) {
        return false;
    }
    has_failed = true;
    return true;
}

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t size)
{
    return fails() ? NULL : __real_realloc(p, size);
}

/* ---------------------------------------------------------------- a disk that always has memory */

static struct fake_disk *fake;
static struct kv_disk_ops ops;
static struct kv_disk disk;

/* Calls it as the fake disk has it, without a failure. */
#define WITH_MEMORY(call)                    \
    unsigned left = fails_at;                \
    int status;                              \
                                             \
    fails_at = 0;                            \
    status = fake_disk_ops(fake)->ops->call; \
    fails_at = left;                         \
    return status

static int disk_open(void *arg, const char *path, unsigned flags, struct kv_file **ret_file)
{
    WITH_MEMORY(open(arg, path, flags, ret_file));
}

static int
disk_pwrite(void *arg, struct kv_file *file, const void *data, size_t size, uint64_t offset)
{
    WITH_MEMORY(pwrite(arg, file, data, size, offset));
}

static int disk_rename(void *arg, const char *from, const char *to)
{
    WITH_MEMORY(rename(arg, from, to));
}

static int disk_unlink(void *arg, const char *path)
{
    WITH_MEMORY(unlink(arg, path));
}

static int disk_mkdir(void *arg, const char *path)
{
    WITH_MEMORY(mkdir(arg, path));
}

static int setup(void **state)
{
    (void)state;
    fake = fake_disk_new(1);
    disk = *fake_disk_ops(fake);
    ops = *disk.ops;
    ops.open = disk_open;
    ops.pwrite = disk_pwrite;
    ops.rename = disk_rename;
    ops.unlink = disk_unlink;
    ops.mkdir = disk_mkdir;
    disk.ops = &ops;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fake_disk_free(fake);
    return 0;
}

/* Runs it with each of its allocations failing once, until none is left to fail. */
static void let_each_fail(int (*run)(void *arg), void *arg)
{
    unsigned n = 0;

    do {
        int status;

        fails_at = ++n;
        has_failed = false;
        status = run(arg);
        fails_at = 0;
        assert_int_equal(status, has_failed ? KV_NO_MEMORY : 0);
    } while (has_failed);
    assert_true(n > 1);
}

/* ---------------------------------------------------------------- the log */

enum { SEGMENT_BYTES = 16384, ENTRIES = 100, ENTRY_BYTES = 1500 };

static int recover(void *arg)
{
    struct wal_rig *rig = arg;
    int status = wal_rig_open(rig);

    if (status == 0) {
        assert_int_equal(kv_wal_last_index(rig->wal), ENTRIES);
        wal_rig_close(rig);
    }
    fake_disk_close_all(fake);
    return status;
}

static void on_read(struct kv_wal_read *read, int status)
{
    *(int *)read->arg = status;
}

/* On a full buffer's worth of small entries, so that it grows while it is read. */
static int read_back(void *arg)
{
    struct wal_rig *rig = arg;
    int status = 1;
    struct kv_wal_read read = {.first_index = 1,
                               .last_index = ENTRIES,
                               .max_bytes = 4096,
                               .done = on_read,
                               .arg = &status};

    kv_wal_read(rig->wal, &read);
    wal_rig_run(rig);
    kv_wal_read_deinit(&read);
    return status;
}

enum { SMALL_ENTRIES = 8000, SMALL_BYTES = 8, LARGE_SEGMENT_BYTES = 1024 * 1024 };

static int read_small(void *arg)
{
    struct wal_rig *rig = arg;
    int status = 1;
    struct kv_wal_read read = {.first_index = 1,
                               .last_index = SMALL_ENTRIES,
                               .max_bytes = (size_t)SMALL_ENTRIES * SMALL_BYTES,
                               .done = on_read,
                               .arg = &status};

    kv_wal_read(rig->wal, &read);
    wal_rig_run(rig);
    fails_at = 0;
    for (uint64_t i = 0; i < read.n_entries; i++) {
        uint64_t id;

        assert_true(wal_rig_check(read.entries[i].data, &id));
        assert_int_equal(id, i + 1);
    }
    assert_int_equal(read.n_entries, status == 0 ? SMALL_ENTRIES : 0);
    kv_wal_read_deinit(&read);
    return status;
}

/* Their headers are larger than they are: what was read first ends long before the bytes asked for.
 */
static void many_small_entries_are_read_beyond_the_first_bytes(void **state)
{
    struct wal_rig rig;

    (void)state;
    wal_rig_init(&rig, &disk, LARGE_SEGMENT_BYTES);
    assert_int_equal(wal_rig_open(&rig), 0);
    for (uint64_t i = 1; i <= SMALL_ENTRIES; i++) {
        wal_rig_append(&rig, 1, i, SMALL_BYTES);
    }
    wal_rig_sync(&rig);
    let_each_fail(read_small, &rig);
    wal_rig_close(&rig);
}

static void the_log_says_that_it_has_none(void **state)
{
    struct wal_rig rig;

    (void)state;
    wal_rig_init(&rig, &disk, SEGMENT_BYTES);
    assert_int_equal(wal_rig_open(&rig), 0);
    for (uint64_t i = 1; i <= ENTRIES; i++) {
        wal_rig_append(&rig, 1, i, ENTRY_BYTES);
        wal_rig_sync(&rig);
    }
    let_each_fail(read_back, &rig);
    wal_rig_close(&rig);
    fake_disk_crash(fake);
    let_each_fail(recover, &rig);
}

/* ---------------------------------------------------------------- snapshots */

static const struct kv_snapshot_meta meta = {
    .cluster_id = 77,
    .node_id = 2,
    .index = 100,
    .term = 3,
    .configuration_index = 9,
    .configuration = {(const uint8_t *)"configuration", 13},
};
#define NAME "snap/0000000000000064-0000000000000003"

static int write_one(void *arg)
{
    static uint8_t bytes[50000];
    struct kv_snapshot_writer *writer = NULL;
    struct kv_snapshot_descriptor descriptor;
    struct kv_error error;
    int status = kv_snapshot_writer_open(arg, &meta, &writer, &error);

    if (status == 0) {
        status = kv_snapshot_writer_append(writer, kv_slice_of(bytes, sizeof bytes), &error);
    }
    if (status == 0) {
        status = kv_snapshot_writer_finish(writer, &descriptor, &error);
    }
    kv_snapshot_writer_close(writer);
    assert_int_equal(snapshot_rig_is_there(fake, NAME), status == 0);
    return status;
}

static int read_one(void *arg)
{
    struct kv_snapshot_descriptor descriptor;
    struct kv_error error;

    return kv_snapshot_verify(arg, NAME, 77, &descriptor, &error);
}

static int read_piece(void *arg)
{
    struct kv_error error;
    struct kv_buf buf;
    int status;

    kv_buf_init(&buf, KV_SNAPSHOT_PIECE_BYTES);
    status = kv_snapshot_piece_read(arg, NAME, 0, 1000, &buf, &error);
    kv_buf_deinit(&buf);
    return status;
}

static int receive(void *arg)
{
    const struct kv_snapshot_descriptor descriptor = {
        .index = 200, .term = 3, .configuration_index = 9, .size_bytes = 5000, .hash = 1};
    struct kv_snapshot_receiver *receiver = NULL;
    struct kv_error error;
    int status = kv_snapshot_receiver_open(arg, &descriptor, &receiver, &error);

    kv_snapshot_receiver_close(receiver);
    return status;
}

static void snapshots_say_that_they_have_none(void **state)
{
    (void)state;
    let_each_fail(write_one, &disk);
    let_each_fail(read_one, &disk);
    let_each_fail(read_piece, &disk);
    let_each_fail(receive, &disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(
            many_small_entries_are_read_beyond_the_first_bytes, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_says_that_it_has_none, setup, teardown),
        cmocka_unit_test_setup_teardown(snapshots_say_that_they_have_none, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
