/* Real threads and a real loop. */
#include "raft/worker.h"

#include "raft/disk_posix.h"
#include "raft/wal.h"
#include "tests/support/wal_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <uv.h>

enum { JOBS = 1000 };

struct counted {
    struct kv_job job;
    struct counter *counter;
    unsigned number;
    bool again;
};

struct counter {
    struct kv_worker worker;
    uv_loop_t *loop;
    unsigned n_run; /* the worker's until done */
    unsigned n_done;
    struct counted jobs[JOBS];
};

static void run_counted(struct kv_job *job)
{
    struct counted *counted = (struct counted *)job;

    /* One after the other, in order. */
    assert_int_equal(counted->number, counted->counter->n_run);
    counted->counter->n_run++;
}

static void counted_done(struct kv_job *job)
{
    struct counted *counted = (struct counted *)job;
    struct counter *counter = counted->counter;

    counter->n_done++;
    if (counted->again) {
        counted->again = false;
        counted->number = JOBS;
        counter->worker.ops->submit(counter->worker.worker, job);
    } else if (counted->number == JOBS) {
        uv_stop(counter->loop);
    }
}

static void jobs_run_in_order_and_report_on_the_loop(void **state)
{
    static struct counter counter;
    struct kv_worker_thread *thread;
    uv_loop_t loop;

    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(kv_worker_start(&loop, "test", &thread), 0);
    counter = (struct counter){.worker = kv_worker_of(thread), .loop = &loop};
    for (unsigned i = 0; i < JOBS; i++) {
        counter.jobs[i] = (struct counted){.job = {.run = run_counted, .done = counted_done},
                                           .counter = &counter,
                                           .number = i,
                                           .again = i == JOBS - 1};
        counter.worker.ops->submit(counter.worker.worker, &counter.jobs[i].job);
    }
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(counter.n_run, JOBS + 1);
    assert_int_equal(counter.n_done, JOBS + 1);
    kv_worker_stop(thread);
    kv_worker_stop(NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void a_stop_runs_what_is_queued(void **state)
{
    static struct counter counter;
    struct kv_worker_thread *thread;
    uv_loop_t loop;

    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(kv_worker_start(&loop, "test", &thread), 0);
    counter = (struct counter){.worker = kv_worker_of(thread), .loop = &loop};
    for (unsigned i = 0; i < JOBS; i++) {
        counter.jobs[i] = (struct counted){
            .job = {.run = run_counted, .done = counted_done}, .counter = &counter, .number = i};
        counter.worker.ops->submit(counter.worker.worker, &counter.jobs[i].job);
    }
    kv_worker_stop(thread);
    assert_int_equal(counter.n_run, JOBS);
    assert_int_equal(counter.n_done, 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* ---------------------------------------------------------------- the log with both workers */

enum { ENTRIES = 5000, WINDOW = 64, SEGMENT_BYTES = 256 * 1024 };

struct live {
    struct kv_wal *wal;
    uv_loop_t loop;
    uint64_t synced;
    struct kv_wal_read read;
    bool is_reading;
    unsigned n_reads;
};

static struct live live;

static void append_next(void)
{
    uint8_t data[300];
    uint64_t index = kv_wal_last_index(live.wal) + 1;
    struct kv_wal_entry entry = {1, 1, {data, sizeof data}};

    wal_rig_fill(data, sizeof data, index);
    (void)kv_wal_write_entries(live.wal, index, &entry, 1);
}

static void on_read(struct kv_wal_read *read, int status)
{
    assert_int_equal(status, 0);
    for (size_t i = 0; i < read->n_entries; i++) {
        uint64_t id;

        assert_true(wal_rig_check(read->entries[i].data, &id));
        assert_int_equal(id, read->first_index + i);
    }
    live.n_reads++;
    live.is_reading = false;
    kv_wal_read_deinit(read);
}

static void on_synced(void *arg, uint64_t sequence)
{
    (void)arg;
    assert_true(sequence > live.synced);
    if (!live.is_reading) {
        live.is_reading = true;
        live.read = (struct kv_wal_read){.first_index = 1 + sequence / 2,
                                         .last_index = sequence,
                                         .max_bytes = 20000,
                                         .done = on_read};
        kv_wal_read(live.wal, &live.read);
    }
    while (live.synced < sequence) {
        live.synced++;
        if (kv_wal_last_index(live.wal) < ENTRIES) {
            append_next();
        }
    }
    if (sequence % 500 < 10 && sequence > 1000) {
        kv_wal_release(live.wal, sequence / 4);
    }
    kv_wal_flush(live.wal);
}

static void on_failed(void *arg, const struct kv_error *error)
{
    (void)arg;
    print_error("%s\n", error->message);
    abort();
}

static void remove_name(void *arg, const char *name)
{
    char full[512];

    snprintf(full, sizeof full, "%s/%s", (const char *)arg, name);
    assert_int_equal(unlink(full), 0);
}

static void the_log_runs_on_threads(void **state)
{
    static const struct kv_wal_ops ops = {on_synced, on_failed};
    char path[] = "/tmp/kvd-worker-test-XXXXXX";
    char wal_path[64];
    struct kv_disk_posix *posix;
    struct kv_worker_thread *log_thread, *file_thread;
    struct kv_wal_options options;
    struct kv_error error;

    (void)state;
    live = (struct live){0};
    assert_non_null(mkdtemp(path));
    assert_int_equal(uv_loop_init(&live.loop), 0);
    assert_int_equal(kv_disk_posix_open(path, &posix, &error), 0);
    assert_int_equal(kv_worker_start(&live.loop, "log", &log_thread), 0);
    assert_int_equal(kv_worker_start(&live.loop, "file", &file_thread), 0);
    options = (struct kv_wal_options){.disk = kv_disk_posix_disk(posix),
                                      .log_worker = kv_worker_of(log_thread),
                                      .file_worker = kv_worker_of(file_thread),
                                      .cluster_id = 1,
                                      .node_id = 1,
                                      .seed = 5,
                                      .segment_bytes = SEGMENT_BYTES,
                                      .ops = &ops};
    assert_int_equal(kv_wal_open(&options, &live.wal, &error), 0);
    for (int i = 0; i < WINDOW; i++) {
        append_next();
    }
    kv_wal_flush(live.wal);
    while (live.synced < ENTRIES || !kv_wal_is_idle(live.wal)) {
        uv_run(&live.loop, UV_RUN_ONCE);
    }
    assert_true(live.n_reads > 10);
    kv_worker_stop(log_thread);
    kv_worker_stop(file_thread);
    uv_run(&live.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&live.loop), 0);
    kv_wal_close(live.wal);
    assert_int_equal(kv_wal_open(&options, &live.wal, &error), 0);
    assert_int_equal(kv_wal_last_index(live.wal), ENTRIES);
    assert_true(kv_wal_first_index(live.wal) > 1);
    kv_wal_close(live.wal);
    snprintf(wal_path, sizeof wal_path, "%s/wal", path);
    assert_int_equal(options.disk.ops->list(posix, "wal", remove_name, wal_path), 0);
    kv_disk_posix_close(posix);
    assert_int_equal(rmdir(wal_path), 0);
    assert_int_equal(rmdir(path), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(jobs_run_in_order_and_report_on_the_loop),
        cmocka_unit_test(a_stop_runs_what_is_queued),
        cmocka_unit_test(the_log_runs_on_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
