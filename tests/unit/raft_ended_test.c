/* What ends a replica, what it does not mind, and that it does nothing more once it has ended. The
 * test plays the peers of node 1. */
#include "raft/peer_codec.h"
#include "tests/support/replica_rig.h"
#include "tests/support/snapshot_rig.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

enum { CLUSTER_ID = 77, FILES_MAX = 16 };

static struct replica_rig rig;

/* A follower of term 1 whose log is the first configuration, entry 1. */
static int set_up(void **state)
{
    (void)state;
    replica_rig_init(&rig, 3);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    replica_rig_deinit(&rig);
    return 0;
}

/* n commands of the same term from a leader of that term, node 2. */
static void append_commands(
    raft_term term, raft_index prev_index, raft_term prev_term, unsigned n, raft_index commit)
{
    const struct raft_append_entries append = {.term = term,
                                               .prev_log_index = prev_index,
                                               .prev_log_term = prev_term,
                                               .leader_commit = commit};
    struct kv_wal_entry entries[64];

    for (unsigned i = 0; i < n; i++) {
        entries[i] = (struct kv_wal_entry){term, RAFT_COMMAND, kv_slice_of("command", 7)};
    }
    replica_rig_append(&rig, 2, &append, entries, n);
}

static void expect_end(int status, const char *text)
{
    assert_int_equal(rig.n_fatal, 1);
    assert_int_equal(rig.error.status, status);
    if (!strstr(rig.error.message, text)) {
        fail_msg("\"%s\" does not say \"%s\"", rig.error.message, text);
    }
}

/* Another leader has other entries where ours are committed. */
static void end_it(void)
{
    append_commands(3, 1, 1, 1, 1);
    expect_end(KV_INTERNAL, "consensus core refuses AppendEntries");
}

static void on_read(struct kv_read *read, int status)
{
    (void)read;
    (void)status;
}

static void nothing_is_done_after_the_end(void **state)
{
    struct kv_read read = {.done = on_read};

    (void)state;
    append_commands(2, 1, 1, 2, 3);
    replica_rig_settle(&rig);
    assert_int_equal(rig.n_applied, 3);
    append_commands(2, 3, 2, 1, 3);
    end_it();
    replica_rig_forget(&rig);
    assert_false(kv_replica_turn(rig.replica));
    replica_rig_wait(&rig, 5000);
    assert_int_equal(kv_replica_read(rig.replica, &read), KV_NO_LEADER);
    assert_int_equal(replica_rig_propose(&rig), KV_NOT_LEADER);
    append_commands(4, 4, 2, 1, 5);
    /* The write that was under way is on the disk; nobody is told. */
    replica_rig_settle(&rig);
    assert_int_equal(rig.n_sent, 0);
    assert_int_equal(rig.n_applied, 3);
    assert_int_equal(rig.n_fatal, 1);
}

/* The first reason is the one that is told. */
static void a_write_that_fails_after_the_end_is_no_news(void **state)
{
    (void)state;
    append_commands(2, 1, 1, 2, 3);
    replica_rig_settle(&rig);
    append_commands(2, 3, 2, 1, 3);
    end_it();
    fake_disk_fail_syncs(rig.disk, EIO);
    replica_rig_settle(&rig);
    expect_end(KV_INTERNAL, "consensus core refuses");
}

/* ---------------------------------------------------------------- snapshots */

static struct fake_disk *other_disk;
static struct kv_snapshot_descriptor descriptor;
static uint8_t configuration[KV_CONFIGURATION_BYTES_MAX];
static struct kv_slice file, members;

/* What node 2 has; the cluster's members are those of our log. */
static void make_snapshot(uint64_t index, uint64_t term)
{
    struct kv_slice block = kv_slice_of("state", 5);
    struct kv_snapshot_meta meta = {.cluster_id = CLUSTER_ID,
                                    .node_id = 2,
                                    .index = index,
                                    .term = term,
                                    .configuration_index = 1};
    char name[KV_SNAPSHOT_NAME_BYTES];
    uint64_t size;

    members = kv_slice_of(configuration, rig.replica->applied_configuration.size);
    memcpy(configuration, rig.replica->applied_configuration.data, members.size);
    meta.configuration = members;
    other_disk = fake_disk_new(1);
    descriptor = snapshot_rig_write(other_disk, &meta, &block, 1);
    kv_snapshot_name(name, index, term, KV_SNAPSHOT_COMPLETE);
    file.data = fake_disk_data(other_disk, name, &size);
    file.size = size;
}

static int set_up_snapshot(void **state)
{
    set_up(state);
    append_commands(2, 1, 1, 2, 3);
    replica_rig_settle(&rig);
    replica_rig_forget(&rig);
    return 0;
}

static int tear_down_snapshot(void **state)
{
    tear_down(state);
    fake_disk_free(other_disk);
    return 0;
}

static void offer(uint64_t leader_term)
{
    replica_rig_offer_snapshot(&rig, 2, leader_term, &descriptor, members);
}

static void a_snapshot_that_would_undo_what_is_applied_ends_it(void **state)
{
    (void)state;
    make_snapshot(3, 3);
    offer(3);
    replica_rig_settle(&rig);
    replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
    replica_rig_settle(&rig);
    expect_end(KV_CORRUPT, "installs a snapshot at index 3, but up to 3 is applied here");
}

/* Its jobs come to their end after the node has. */
static void a_fetch_ends_with_the_node(bool is_loading)
{
    make_snapshot(50, 2);
    offer(2);
    if (is_loading) {
        replica_rig_settle(&rig);
        replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
        while (rig.replica->fetch.phase == KV_FETCH_PIECES) {
            assert_true(replica_rig_work(&rig));
        }
    }
    assert_true(rig.replica->fetch.job_under_way);
    end_it();
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->fetch.phase, KV_FETCH_NONE);
    assert_int_equal(rig.replica->snapshots_installed, 0);
    assert_int_equal(rig.n_fatal, 1);
}

static void a_fetch_that_is_written_ends_with_the_node(void **state)
{
    (void)state;
    a_fetch_ends_with_the_node(false);
}

static void a_fetch_that_is_loaded_ends_with_the_node(void **state)
{
    (void)state;
    a_fetch_ends_with_the_node(true);
}

static void an_offer_that_cannot_be_is_refused(void **state)
{
    struct kv_snapshot_descriptor sound;

    (void)state;
    make_snapshot(50, 2);
    sound = descriptor;
    descriptor.term = 3;
    offer(2);
    descriptor = sound;
    descriptor.configuration_index = 51;
    offer(2);
    descriptor = sound;
    replica_rig_offer_snapshot(&rig, 2, 2, &sound, kv_slice_of(configuration, 0));
    replica_rig_offer_snapshot(&rig, 2, 2, &sound, kv_slice_of(configuration, members.size - 8));
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->fetch.phase, KV_FETCH_NONE);
    assert_null(replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH));
    offer(2);
    replica_rig_settle(&rig);
    assert_non_null(replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH));
}

/* Until the file has its name, and nothing of the log says so. */
static void install_half(void)
{
    make_snapshot(50, 2);
    offer(2);
    replica_rig_settle(&rig);
    replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
    while (rig.replica->install_sequence == 0) {
        assert_true(replica_rig_work(&rig));
    }
}

static void an_install_that_was_cut_short_ends_with_the_next_start(void **state)
{
    (void)state;
    install_half();
    replica_rig_kill(&rig);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->restored_index, 50);
    assert_int_equal(kv_wal_first_index(rig.replica->wal), 51);
    assert_int_equal(rig.n_fatal, 0);
}

/* It was fetched in an earlier life, and has rotted since. */
static void a_file_that_is_there_is_loaded_and_removed_when_it_is_not_sound(void **state)
{
    char name[KV_SNAPSHOT_NAME_BYTES];
    const Kv__PeerMessage *fetch;
    uint64_t size;

    (void)state;
    install_half();
    replica_rig_kill(&rig);
    kv_snapshot_name(name, 50, 2, KV_SNAPSHOT_COMPLETE);
    fake_disk_data(rig.disk, name, &size)[file.size / 2] ^= 1;
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->restored_index, 0);
    assert_int_equal(rig.replica->cache.last_index, 3);
    append_commands(2, 3, 2, 0, 3);
    replica_rig_settle(&rig);
    offer(2);
    replica_rig_settle(&rig);
    fetch = replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH);
    assert_true(fetch && fetch->snapshot_fetch->refused);
    assert_false(snapshot_rig_is_there(rig.disk, name));
    replica_rig_wait(&rig, KV_SNAPSHOT_RETRY_MS);
    append_commands(2, 3, 2, 0, 3);
    offer(2);
    replica_rig_settle(&rig);
    replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->snapshots_installed, 1);
    assert_int_equal(rig.replica->applied_index, 50);
}

/* Meanwhile another leads: it offers the same, which is here. */
static void what_is_loaded_is_installed_when_the_next_leader_offers_it(void **state)
{
    (void)state;
    make_snapshot(50, 2);
    offer(2);
    replica_rig_settle(&rig);
    replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
    append_commands(5, 3, 2, 0, 3);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->fetch.phase, KV_FETCH_READY);
    assert_int_equal(rig.replica->snapshots_installed, 0);
    offer(5);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->snapshots_installed, 1);
    assert_int_equal(rig.replica->applied_index, 50);
    assert_int_equal(rig.n_fatal, 0);
}

/* ---------------------------------------------------------------- two leaders in a term */

static void entries_of_another_leader_of_its_term_end_a_leader(void **state)
{
    raft_term term;

    (void)state;
    replica_rig_lead(&rig);
    term = raft_current_term(&rig.replica->raft);
    append_commands(term, 1, 1, 1, 1);
    expect_end(KV_CORRUPT, "peer 2 claims to lead term");
}

static void an_offer_of_another_leader_of_its_term_ends_a_leader(void **state)
{
    (void)state;
    make_snapshot(50, 2);
    replica_rig_lead(&rig);
    offer(raft_current_term(&rig.replica->raft));
    expect_end(KV_CORRUPT, "peer 2 claims to lead term");
}

/* ---------------------------------------------------------------- entries that are read back */

/* As it is after a restart: nothing is in memory. */
static void start_anew(void)
{
    append_commands(2, 1, 1, 2, 1);
    replica_rig_settle(&rig);
    replica_rig_kill(&rig);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_null(kv_entry_cache_get(&rig.replica->cache, 2));
}

static bool run_without_turn(void)
{
    struct kv_job *job = rig.other_worker.first;

    if (!job) {
        return false;
    }
    rig.other_worker.first = job->next;
    rig.other_worker.last = job->next ? rig.other_worker.last : NULL;
    job->run(job);
    job->done(job);
    return true;
}

static void damage_log(void)
{
    static char names[FILES_MAX][128];
    size_t n = fake_disk_list(rig.disk, "wal", names, FILES_MAX);

    for (size_t i = 0; i < n; i++) {
        uint64_t size;
        uint8_t *data = fake_disk_data(rig.disk, names[i], &size);

        for (uint64_t at = 0; at + 7 <= size; at++) {
            data[at] ^= memcmp(data + at, "command", 7) == 0;
        }
    }
}

static void a_committed_entry_that_rotted_ends_it(void **state)
{
    (void)state;
    start_anew();
    damage_log();
    append_commands(2, 3, 2, 0, 3);
    replica_rig_settle(&rig);
    expect_end(KV_CORRUPT, "committed entries from index 2 on cannot be read back");
    assert_int_equal(rig.n_applied, 1);
}

/* The read comes to its end behind the install. */
static void what_was_read_back_for_a_former_state_is_not_applied(void **state)
{
    struct kv_job *job;

    (void)state;
    start_anew();
    append_commands(2, 3, 2, 0, 3);
    job = rig.other_worker.first;
    assert_true(rig.replica->apply_reader.active && job && !job->next);
    rig.other_worker.first = rig.other_worker.last = NULL;
    make_snapshot(50, 2);
    offer(2);
    replica_rig_settle(&rig);
    replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->snapshots_installed, 1);
    job->run(job);
    job->done(job);
    kv_replica_turn(rig.replica);
    assert_int_equal(rig.n_applied, 50);
    append_commands(2, 50, 2, 1, 51);
    replica_rig_settle(&rig);
    assert_int_equal(rig.n_applied, 51);
    assert_int_equal(rig.n_fatal, 0);
}

/* Applying is stopped after 2 ms; the install comes between two such turns. */
static void what_is_left_of_it_is_not_applied_either(void **state)
{
    (void)state;
    start_anew();
    make_snapshot(50, 2);
    offer(2);
    replica_rig_settle(&rig);
    replica_rig_send_piece(&rig, 2, &descriptor, 0, file);
    while (rig.replica->fetch.phase != KV_FETCH_LOADING) {
        assert_true(replica_rig_work(&rig));
    }
    rig.apply_ns = 3000000;
    append_commands(2, 3, 2, 0, 3);
    while (rig.n_applied < 2 && replica_rig_work(&rig)) {
    }
    assert_int_equal(rig.n_applied, 2);
    assert_true(rig.replica->apply_reader.ready);
    while (rig.replica->snapshots_installed == 0) {
        rig.apply_ns = 0;
        assert_true(run_without_turn());
    }
    replica_rig_settle(&rig);
    assert_int_equal(rig.n_applied, 50);
    assert_int_equal(rig.n_fatal, 0);
}

static void a_committed_entry_of_another_term_ends_it(void **state)
{
    struct kv_terms *terms = &rig.replica->terms;

    (void)state;
    start_anew();
    terms = &rig.replica->terms;
    append_commands(2, 3, 2, 0, 3);
    terms->runs[terms->n_runs - 1].term = 5;
    replica_rig_settle(&rig);
    expect_end(KV_CORRUPT, "entry 2 read back from the log has another term");
    assert_int_equal(rig.n_applied, 1);
}

static void an_entry_for_a_follower_that_rotted_ends_it(void **state)
{
    (void)state;
    start_anew();
    replica_rig_lead(&rig);
    damage_log();
    /* It has the first entry alone. */
    replica_rig_answer_append(&rig, 2, 3, 1);
    replica_rig_settle(&rig);
    expect_end(KV_CORRUPT, "entries from index 2 on cannot be read back");
}

/* ---------------------------------------------------------------- leaders that cannot serve */

static void on_read_of_leader(struct kv_read *read, int status)
{
    *(int *)read->arg = status;
}

/* The others answer, but store nothing: it leads, and may not say what is committed. */
static void a_read_is_given_up_when_the_term_is_not_committed_in_time(void **state)
{
    int status = 77;
    struct kv_read read = {.done = on_read_of_leader, .arg = &status};

    (void)state;
    append_commands(2, 1, 1, 1, 1);
    replica_rig_settle(&rig);
    replica_rig_lead(&rig);
    assert_int_equal(kv_replica_read(rig.replica, &read), 0);
    for (uint64_t waited = 0; waited < KV_CONFIRM_TIMEOUT_MS; waited += 100) {
        assert_int_equal(status, 77);
        replica_rig_answer_append(&rig, 2, 0, 1);
        replica_rig_wait(&rig, 100);
    }
    assert_true(kv_replica_is_leader(rig.replica));
    assert_int_equal(status, KV_NO_LEADER);
}

/* At first nobody is there to take it. */
static void a_leader_whose_state_differs_hands_over_when_it_can(void **state)
{
    (void)state;
    append_commands(2, 1, 1, 1, 1);
    replica_rig_settle(&rig);
    replica_rig_lead(&rig);
    rig.handler.disconnected(rig.handler.arg, 3, false);
    kv_replica_note_unfit(rig.replica, 2);
    kv_replica_become_unfit(rig.replica);
    assert_int_equal(kv_replica_transfer(rig.replica, 0), KV_NOT_FOUND);
    replica_rig_answer_append(&rig, 2, 0, 2);
    replica_rig_wait(&rig, 500);
    assert_int_equal(raft_transferee(&rig.replica->raft), 0);
    rig.handler.connected(rig.handler.arg, 3);
    replica_rig_answer_append(&rig, 3, 0, 2);
    replica_rig_wait(&rig, 500);
    assert_int_equal(raft_transferee(&rig.replica->raft), 3);
}

/* ---------------------------------------------------------------- what it does not mind */

static void bytes_that_are_no_message_change_nothing(void **state)
{
    static const uint8_t garbage[] = {200, 0, 0, 0, 1, 2, 3};
    const struct raft_append_entries append = {.term = 2, .prev_log_index = 1, .prev_log_term = 1};
    const struct kv_wal_entry entry = {2, RAFT_COMMAND, kv_slice_of("command", 7)};
    struct kv_buf bytes;

    (void)state;
    rig.handler.receive(rig.handler.arg, 2, garbage, sizeof garbage);
    /* An entry that is larger than its message. */
    kv_buf_init(&bytes, KV_KIB);
    assert_int_equal(kv_peer_encode_append(&bytes, &append, &entry, 1), 0);
    rig.handler.receive(rig.handler.arg, 2, bytes.data, bytes.size);
    kv_buf_deinit(&bytes);
    assert_int_equal(raft_current_term(&rig.replica->raft), 1);
    assert_int_equal(rig.replica->cache.last_index, 1);
    assert_int_equal(rig.n_fatal, 0);
    append_commands(2, 1, 1, 1, 1);
    assert_int_equal(rig.replica->cache.last_index, 2);
}

/* A disk that does nothing: what it is sent is left out, and the leader sends it again. */
static void no_more_is_taken_than_the_log_takes(void **state)
{
    raft_index last = 1;

    (void)state;
    do {
        last = rig.replica->cache.last_index;
        append_commands(1, last, 1, 1, 1);
    } while (rig.replica->cache.last_index == last + 1);
    assert_int_equal(rig.replica->cache.last_index, last);
    assert_false(kv_replica_log_takes(rig.replica));
    assert_true(rig.replica->n_pending > KV_PENDING_WRITES_MAX / 2);
    assert_int_equal(rig.n_fatal, 0);
}

/* Votes of terms that are not on the disk wait for it. */
static void no_more_messages_wait_for_the_term_than_are_bounded(void **state)
{
    struct raft_message message = {.type = RAFT_REQUEST_VOTE};

    (void)state;
    replica_rig_forget(&rig);
    for (raft_term term = 2; term < KV_OUTBOX_ITEMS_MAX + 100; term++) {
        message.request_vote = (struct raft_request_vote){.term = term,
                                                          .candidate_id = 2,
                                                          .last_log_index = 100,
                                                          .last_log_term = term - 1,
                                                          .disrupt_leader = true};
        replica_rig_receive(&rig, 2, &message);
    }
    assert_int_equal(rig.n_sent, 0);
    assert_int_equal(rig.replica->peers[0].outbox.n_items, KV_OUTBOX_ITEMS_MAX);
    replica_rig_settle(&rig);
    assert_int_equal(rig.n_sent, KV_OUTBOX_ITEMS_MAX);
}

static void no_more_reads_wait_than_are_bounded(void **state)
{
    static struct kv_read reads[KV_READS_MAX + 1];

    (void)state;
    append_commands(2, 1, 1, 1, 1);
    for (size_t i = 0; i < KV_READS_MAX; i++) {
        reads[i].done = on_read;
        assert_int_equal(kv_replica_read(rig.replica, &reads[i]), 0);
    }
    reads[KV_READS_MAX].done = on_read;
    assert_int_equal(kv_replica_read(rig.replica, &reads[KV_READS_MAX]), KV_BUSY);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define CASE_AND_DISK(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down_snapshot)
#define CASE_OF_SNAPSHOT(name) \
    cmocka_unit_test_setup_teardown(name, set_up_snapshot, tear_down_snapshot)

int main(void)
{
    const struct CMUnitTest tests[] = {
        CASE(nothing_is_done_after_the_end),
        CASE(a_write_that_fails_after_the_end_is_no_news),
        CASE_OF_SNAPSHOT(a_snapshot_that_would_undo_what_is_applied_ends_it),
        CASE_OF_SNAPSHOT(a_fetch_that_is_written_ends_with_the_node),
        CASE_OF_SNAPSHOT(a_fetch_that_is_loaded_ends_with_the_node),
        CASE_OF_SNAPSHOT(an_offer_that_cannot_be_is_refused),
        CASE_OF_SNAPSHOT(an_install_that_was_cut_short_ends_with_the_next_start),
        CASE_OF_SNAPSHOT(a_file_that_is_there_is_loaded_and_removed_when_it_is_not_sound),
        CASE_OF_SNAPSHOT(what_is_loaded_is_installed_when_the_next_leader_offers_it),
        CASE(entries_of_another_leader_of_its_term_end_a_leader),
        CASE_OF_SNAPSHOT(an_offer_of_another_leader_of_its_term_ends_a_leader),
        CASE(a_committed_entry_that_rotted_ends_it),
        CASE_AND_DISK(what_was_read_back_for_a_former_state_is_not_applied),
        CASE_AND_DISK(what_is_left_of_it_is_not_applied_either),
        CASE(a_committed_entry_of_another_term_ends_it),
        CASE(an_entry_for_a_follower_that_rotted_ends_it),
        CASE(a_read_is_given_up_when_the_term_is_not_committed_in_time),
        CASE(a_leader_whose_state_differs_hands_over_when_it_can),
        CASE(bytes_that_are_no_message_change_nothing),
        CASE(no_more_is_taken_than_the_log_takes),
        CASE(no_more_messages_wait_for_the_term_than_are_bounded),
        CASE(no_more_reads_wait_than_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
