/* What a replica refuses to start with, and says. */
#include "tests/support/replica_rig.h"
#include "tests/support/wal_rig.h"

#include "raft/meta.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { CLUSTER_ID = 77, NODE_ID = 1, FILES_MAX = 16 };

static struct replica_rig rig;

/* A directory in which a node of three members has run and stored two commands. */
static int set_up(void **state)
{
    const struct raft_append_entries append = {.term = 2, .prev_log_index = 1, .prev_log_term = 1};
    const struct kv_wal_entry entry = {2, RAFT_COMMAND, kv_slice_of("command", 7)};

    (void)state;
    replica_rig_init(&rig, 3);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    replica_rig_append(&rig, 2, &append, &entry, 1);
    replica_rig_settle(&rig);
    replica_rig_kill(&rig);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    replica_rig_deinit(&rig);
    return 0;
}

static void expect_refusal(int status, const char *text)
{
    assert_int_equal(replica_rig_open(&rig), status);
    assert_null(rig.replica);
    if (!strstr(rig.error.message, text)) {
        fail_msg("\"%s\" does not say \"%s\"", rig.error.message, text);
    }
}

static void expect_start(void)
{
    assert_int_equal(replica_rig_open(&rig), 0);
    replica_rig_settle(&rig);
    assert_true(rig.replica->started);
    assert_int_equal(rig.n_fatal, 0);
}

static void members_that_cannot_be_are_refused(void **state)
{
    (void)state;
    rig.n_members = 0;
    expect_refusal(KV_INVALID, "0 members: want 1 to 15");
    rig.n_members = 3;
    rig.first_member = 2;
    expect_refusal(KV_INVALID, "node 1 is not among its members");
    rig.first_member = 1;
    expect_start();
}

static void other_members_than_those_of_the_log_are_refused(void **state)
{
    (void)state;
    rig.n_members = 2;
    expect_refusal(KV_INVALID, "the log names member 3 (node3:4701), the configured cluster does");
    rig.n_members = 5;
    expect_refusal(KV_INVALID, "made with 3 members, 5 are configured");
    rig.n_members = 3;
    expect_start();
}

static void remove_log(void)
{
    static char names[FILES_MAX][128];
    size_t n = fake_disk_list(rig.disk, "wal", names, FILES_MAX);

    assert_true(n > 0 && n < FILES_MAX);
    for (size_t i = 0; i < n; i++) {
        fake_disk_remove(rig.disk, names[i]);
    }
}

static void a_log_that_is_gone_is_missed(void **state)
{
    (void)state;
    remove_log();
    expect_refusal(KV_CORRUPT, "its log (wal/) is missing or empty: replace this member");
}

static void a_log_without_meta_is_refused(void **state)
{
    uint8_t meta[64];
    uint64_t size;
    const uint8_t *data = fake_disk_data(rig.disk, "meta", &size);

    (void)state;
    assert_true(size <= sizeof meta);
    memcpy(meta, data, size);
    fake_disk_remove(rig.disk, "meta");
    expect_refusal(KV_CORRUPT, "has a log but no meta: restore the file");
    fake_disk_put(rig.disk, "meta", meta, size);
    expect_start();
}

/* Only another program writes such a log: its records are sound. */
static void write_log(uint16_t type, const char *text)
{
    const struct kv_wal_entry entry = {1, type, kv_slice_str(text)};
    struct wal_rig log;

    remove_log();
    wal_rig_init(&log, fake_disk_ops(rig.disk), KV_MIB);
    log.options.cluster_id = CLUSTER_ID;
    log.options.node_id = NODE_ID;
    assert_int_equal(wal_rig_open(&log), 0);
    kv_wal_write_entries(log.wal, 1, &entry, 1);
    wal_rig_sync(&log);
    wal_rig_close(&log);
    fake_disk_close_all(rig.disk);
}

static void a_log_without_a_configuration_is_refused(void **state)
{
    (void)state;
    write_log(RAFT_COMMAND, "command");
    expect_refusal(KV_CORRUPT, "the log holds no configuration");
    write_log(RAFT_CHANGE, "change");
    expect_refusal(KV_CORRUPT, "the configuration in the log is malformed");
}

/* One job of the log worker; what follows from it finds a disk that syncs nothing. */
static bool sync_and_fail(void)
{
    struct kv_job *job;

    while (replica_rig_work(&rig)) {
    }
    job = rig.log_worker.first;
    if (!job) {
        return false;
    }
    rig.log_worker.first = job->next;
    rig.log_worker.last = job->next ? rig.log_worker.last : NULL;
    job->run(job);
    fake_disk_fail_syncs(rig.disk, EIO);
    job->done(job);
    fake_disk_fail_syncs(rig.disk, 0);
    kv_replica_turn(rig.replica);
    return true;
}

static void a_meta_file_that_cannot_be_written_ends_it(void **state)
{
    (void)state;
    replica_rig_deinit(&rig);
    replica_rig_init(&rig, 3);
    replica_rig_start(&rig);
    while (rig.n_fatal == 0 && sync_and_fail()) {
    }
    assert_int_equal(rig.n_fatal, 1);
    assert_non_null(strstr(rig.error.message, "cannot start: cannot write disk/meta"));
    replica_rig_kill(&rig);
    rig.n_fatal = 0;
    expect_start();
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(members_that_cannot_be_are_refused),
        CASE(other_members_than_those_of_the_log_are_refused),
        CASE(a_log_that_is_gone_is_missed),
        CASE(a_log_without_meta_is_refused),
        CASE(a_log_without_a_configuration_is_refused),
        CASE(a_meta_file_that_cannot_be_written_ends_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
