/* What one replica may answer, and when: the guards (raft/guards.h) where they are built in, the
 * term gate, confirm rounds, commit notices. The test plays the peers of node 1. */
#include "tests/support/replica_rig.h"
#include "tests/support/snapshot_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#define APPEND_RESULT KV__PEER_MESSAGE__BODY_APPEND_ENTRIES_RESULT
#define APPEND KV__PEER_MESSAGE__BODY_APPEND_ENTRIES
#define VOTE_RESULT KV__PEER_MESSAGE__BODY_REQUEST_VOTE_RESULT

static struct replica_rig rig;

/* A follower of term 1 whose log is the first configuration, entry 1. */
static int set_up(void **state)
{
    (void)state;
    replica_rig_init(&rig, 3);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_true(rig.replica->started);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(rig.n_fatal, 0);
    replica_rig_deinit(&rig);
    return 0;
}

static struct raft_append_entries
after(raft_term term, raft_index prev_index, raft_term prev_term, raft_index commit)
{
    return (struct raft_append_entries){
        .term = term,
        .prev_log_index = prev_index,
        .prev_log_term = prev_term,
        .leader_commit = commit,
    };
}

static struct kv_wal_entry command(raft_term term)
{
    return (struct kv_wal_entry){term, RAFT_COMMAND, kv_slice_of("command", 7)};
}

/* n commands of the same term from a leader of that term. */
static void append_commands(uint64_t from_id,
                            raft_term term,
                            raft_index prev_index,
                            raft_term prev_term,
                            unsigned n,
                            raft_index commit)
{
    struct raft_append_entries append = after(term, prev_index, prev_term, commit);
    struct kv_wal_entry entries[64];

    for (unsigned i = 0; i < n; i++) {
        entries[i] = command(term);
    }
    replica_rig_append(&rig, from_id, &append, entries, n);
}

static const Kv__AppendEntriesResult *append_result_to(uint64_t to_id)
{
    const Kv__PeerMessage *message = replica_rig_sent(&rig, to_id, APPEND_RESULT);

    return message ? message->append_entries_result : NULL;
}

static void ask_vote(uint64_t from_id, raft_term term, bool pre_vote)
{
    struct raft_message message = {.type = RAFT_REQUEST_VOTE};

    message.request_vote = (struct raft_request_vote){
        .term = term,
        .candidate_id = from_id,
        .last_log_index = 100,
        .last_log_term = term - 1,
        .pre_vote = pre_vote,
        .disrupt_leader = true,
    };
    replica_rig_receive(&rig, from_id, &message);
}

static const Kv__RequestVoteResult *vote_to(uint64_t to_id)
{
    const Kv__PeerMessage *message = replica_rig_sent(&rig, to_id, VOTE_RESULT);

    return message ? message->request_vote_result : NULL;
}

/* Its own commit index says nothing of what it lacks. */
static void a_follower_knows_how_far_it_is_behind(void **state)
{
    struct raft_append_entries append = after(3, 5000, 3, 5000);
    struct kv_replica_status status;

    (void)state;
    replica_rig_append(&rig, 2, &append, NULL, 0);
    replica_rig_settle(&rig);
    kv_replica_status(rig.replica, &status);
    assert_int_equal(status.leader_id, 2);
    assert_int_equal(status.commit_index, 1);
    assert_int_equal(status.cluster_commit_index, 5000);
}

/* ---------------------------------------------------------------- guards */

static void guard_1_an_older_leader_learns_the_term_and_nothing_else(void **state)
{
    const Kv__AppendEntriesResult *result;

    (void)state;
    append_commands(2, 5, 1, 1, 2, 1);
    replica_rig_settle(&rig);
    replica_rig_forget(&rig);
    append_commands(3, 4, 1, 1, 3, 1);
    replica_rig_settle(&rig);
    result = append_result_to(3);
    assert_non_null(result);
    assert_int_equal(result->term, 5);
    assert_int_equal(result->rejected, 0);
    assert_int_equal(result->last_log_index, 0);
    assert_int_equal(rig.replica->cache.last_index, 3);
}

/* Starts anew with small segments and frequent snapshots, takes 4 committed commands n times, and
 * returns the last index. */
static raft_index fill_with_snapshots(int n)
{
    raft_index last = 1;

    replica_rig_deinit(&rig);
    replica_rig_init(&rig, 3);
    rig.snapshot_log_bytes = 256;
    rig.wal_segment_bytes = 4 * KV_KIB;
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    for (int i = 0; i < n; i++) {
        append_commands(2, 2, last, last == 1 ? 1 : 2, 4, last + 4);
        replica_rig_settle(&rig);
        last += 4;
        /* Two are kept, and the log behind the older: the newer may turn out to be damaged. */
        assert_true(rig.replica->n_kept < 2 || kv_wal_first_index(rig.replica->wal) <=
                                                   rig.replica->kept[1].descriptor.index + 1);
    }
    return last;
}

static void refuse_snapshot(uint64_t index, uint64_t term)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__SnapshotFetch fetch = KV__SNAPSHOT_FETCH__INIT;

    fetch.last_index = index;
    fetch.last_term = term;
    fetch.refused = true;
    message.body_case = KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH;
    message.snapshot_fetch = &fetch;
    replica_rig_receive_other(&rig, 3, &message, kv_slice_of(NULL, 0));
    replica_rig_settle(&rig);
}

/* Flips a bit of the newest; what it was. */
static struct kv_snapshot_id rot(void)
{
    const struct kv_snapshot_descriptor *newest = &rig.replica->kept[0].descriptor;
    char name[KV_SNAPSHOT_NAME_BYTES];
    uint64_t size;

    kv_snapshot_name(name, newest->index, newest->term, KV_SNAPSHOT_COMPLETE);
    fake_disk_data(rig.disk, name, &size)[newest->size_bytes / 2] ^= 1;
    return (struct kv_snapshot_id){newest->index, newest->term, size};
}

static void a_refused_snapshot_is_checked_and_replaced(void **state)
{
    raft_index last = fill_with_snapshots(20);
    uint64_t taken = rig.replica->snapshots_taken;
    struct kv_snapshot_id id;

    (void)state;
    assert_int_equal(rig.replica->n_kept, 2);
    /* A sound one stays, whatever a peer says. */
    id.index = rig.replica->kept[0].descriptor.index;
    id.term = rig.replica->kept[0].descriptor.term;
    refuse_snapshot(id.index, id.term);
    assert_int_equal(rig.replica->kept[0].descriptor.index, id.index);
    assert_int_equal(rig.replica->snapshots_taken, taken);
    /* A damaged one goes, and one of what is applied now takes its place: at another index, and,
     * while nothing new is applied, at the same one. */
    for (unsigned i = 1; i <= 2; i++) {
        id = rot();
        refuse_snapshot(id.index, id.term);
        assert_int_equal(rig.replica->snapshots_taken, taken + i);
        assert_int_equal(rig.replica->n_kept, 2);
        assert_int_equal(rig.replica->kept[0].descriptor.index, last);
        refuse_snapshot(last, rig.replica->kept[0].descriptor.term);
        assert_int_equal(rig.replica->kept[0].descriptor.index, last);
        assert_int_equal(rig.replica->snapshots_taken, taken + i);
    }
    replica_rig_kill(&rig);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->restored_index, last);
}

/* Removals wait for each other: the file that takes the name must not go with the last of them. */
static void a_damaged_snapshot_is_gone_before_another_takes_its_name(void **state)
{
    raft_index last = fill_with_snapshots(20);
    struct kv_snapshot_id id = rot();

    (void)state;
    refuse_snapshot(id.index, id.term);
    assert_int_equal(rig.replica->kept[0].descriptor.index, last);
    kv_replica_doom_file(rig.replica, last + 100, 2);
    kv_replica_doom_file(rig.replica, last + 200, 2);
    id = rot();
    refuse_snapshot(id.index, id.term);
    assert_int_equal(rig.replica->kept[0].descriptor.index, last);
    replica_rig_kill(&rig);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->restored_index, last);
}

/* Its file may be readable again, and is what a start needs as long as no other one is there. */
static void one_that_cannot_be_read_is_not_removed(void **state)
{
    char name[KV_SNAPSHOT_NAME_BYTES];
    struct kv_snapshot_id ids[2];
    uint64_t size;

    (void)state;
    (void)fill_with_snapshots(20);
    assert_int_equal(rig.replica->n_kept, 2);
    for (size_t i = 0; i < 2; i++) {
        const struct kv_snapshot_descriptor *kept = &rig.replica->kept[i].descriptor;

        ids[i] = (struct kv_snapshot_id){kept->index, kept->term, 0};
    }
    fake_disk_fail_at(rig.disk, "snap", true, 1000);
    for (size_t i = 0; i < 2; i++) {
        refuse_snapshot(ids[i].index, ids[i].term);
        assert_null(kv_replica_kept(rig.replica, ids[i].index, ids[i].term));
    }
    for (size_t i = 0; i < 2; i++) {
        kv_snapshot_name(name, ids[i].index, ids[i].term, KV_SNAPSHOT_COMPLETE);
        assert_non_null(fake_disk_data(rig.disk, name, &size));
    }
    fake_disk_fail_at(rig.disk, NULL, false, 0);
    replica_rig_kill(&rig);
    replica_rig_start(&rig);
    assert_true(rig.replica->restored_index >= ids[0].index);
}

static void guard_2_entries_that_the_snapshot_holds_are_passed_over(void **state)
{
    const Kv__AppendEntriesResult *result;
    raft_index last = fill_with_snapshots(20);

    (void)state;
    assert_true(rig.replica->raft.trail.offset > 4);
    replica_rig_forget(&rig);
    /* From the beginning, as a leader does that knows nothing of us. */
    append_commands(2, 2, 4, 2, 60, last);
    replica_rig_settle(&rig);
    result = append_result_to(2);
    assert_non_null(result);
    assert_int_equal(result->rejected, 0);
    assert_int_equal(rig.replica->cache.last_index, last);
}

static void guard_3_a_change_behind_other_entries_keeps_its_index(void **state)
{
    struct raft_append_entries append = after(2, 1, 1, 1);
    struct kv_wal_entry entries[4] = {command(2), command(2), command(2), command(2)};

    (void)state;
    append_commands(2, 2, 1, 1, 0, 1);
    replica_rig_settle(&rig);
    entries[2].type = RAFT_CHANGE;
    entries[2].data = kv_slice_of(rig.replica->applied_configuration.data,
                                  rig.replica->applied_configuration.size);
    replica_rig_append(&rig, 2, &append, entries, 4);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->raft.configuration_uncommitted_index, 4);
    assert_int_equal(append_result_to(2)->last_log_index, 5);
}

static void guard_4_an_overtaken_write_vouches_for_nothing(void **state)
{
    (void)state;
    append_commands(2, 2, 1, 1, 3, 1);
    /* The log worker has the vote and these entries, and has not synced them. */
    replica_rig_forget(&rig);
    append_commands(3, 3, 1, 1, 3, 1);
    assert_true(replica_rig_sync(&rig));
    /* Entries 2 to 4 of term 2 are on disk; those of term 3 are not. */
    assert_true(rig.replica->raft.last_stored <= 1);
    assert_null(append_result_to(3));
    replica_rig_settle(&rig);
    assert_int_equal(append_result_to(3)->last_log_index, 4);
}

/* Two changes in flight: the first is committed, or the second would not be there. */
static void guard_5_a_second_change_leaves_the_first_to_fall_back_to(void **state)
{
    struct raft_append_entries append = after(2, 1, 1, 1);
    struct kv_wal_entry entries[2] = {command(2), command(2)};

    (void)state;
    append_commands(2, 2, 1, 1, 0, 1);
    replica_rig_settle(&rig);
    entries[0].type = entries[1].type = RAFT_CHANGE;
    entries[0].data = entries[1].data = kv_slice_of(rig.replica->applied_configuration.data,
                                                    rig.replica->applied_configuration.size);
    replica_rig_append(&rig, 2, &append, entries, 2);
    assert_int_equal(rig.replica->raft.configuration_committed_index, 2);
    assert_int_equal(rig.replica->raft.configuration_uncommitted_index, 3);
    replica_rig_settle(&rig);
    /* Another leader has only the first. */
    append_commands(3, 3, 2, 2, 1, 2);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->raft.configuration_committed_index, 2);
    assert_int_equal(rig.replica->raft.configuration_uncommitted_index, 0);
}

static void guard_8_an_only_voter_starts_in_a_new_term(void **state)
{
    struct kv_replica_status status;
    uint64_t term = 0;

    (void)state;
    replica_rig_deinit(&rig);
    replica_rig_init(&rig, 1);
    for (int i = 0; i < 3; i++) {
        replica_rig_start(&rig);
        replica_rig_settle(&rig);
        kv_replica_status(rig.replica, &status);
        assert_int_equal(status.role, KV_ROLE_LEADER);
        assert_true(status.term > term);
        term = status.term;
        replica_rig_kill(&rig);
    }
}

static void guard_9_insane_messages_change_nothing(void **state)
{
    struct raft_append_entries append = after(2, 1, 1, 1);
    struct kv_wal_entry entries[2] = {command(2), command(1)};

    (void)state;
    append_commands(2, 2, 1, 1, 0, 1);
    replica_rig_settle(&rig);
    replica_rig_forget(&rig);
    replica_rig_append(&rig, 2, &append, entries, 2);
    replica_rig_settle(&rig);
    assert_null(append_result_to(2));
    assert_int_equal(rig.replica->cache.last_index, 1);
}

static void guard_10_a_leader_minds_no_votes(void **state)
{
    struct raft_message message = {.type = RAFT_REQUEST_VOTE_RESULT};

    (void)state;
    replica_rig_lead(&rig);
    message.request_vote_result = (struct raft_request_vote_result){
        .version = 2, .term = raft_current_term(&rig.replica->raft) + 1, .pre_vote = true};
    replica_rig_receive(&rig, 3, &message);
    assert_true(kv_replica_is_leader(rig.replica));
}

static void guard_1_an_older_leaders_snapshot_is_not_fetched(void **state)
{
    const struct kv_snapshot_descriptor descriptor = {
        .index = 50, .term = 4, .configuration_index = 1, .size_bytes = 1000, .hash = 1};
    const Kv__AppendEntriesResult *result;

    (void)state;
    append_commands(2, 5, 1, 1, 2, 1);
    replica_rig_settle(&rig);
    replica_rig_forget(&rig);
    replica_rig_offer_snapshot(&rig,
                               3,
                               4,
                               &descriptor,
                               kv_slice_of(rig.replica->applied_configuration.data,
                                           rig.replica->applied_configuration.size));
    replica_rig_settle(&rig);
    result = append_result_to(3);
    assert_non_null(result);
    assert_int_equal(result->term, 5);
    assert_int_equal(result->rejected, 0);
    assert_int_equal(result->last_log_index, 0);
    assert_null(replica_rig_sent(&rig, 3, KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH));
}

/* Until the boundary of the one that is installed is on disk, another is not even begun. */
static void guard_11_one_install_at_a_time(void **state)
{
    struct fake_disk *disk = fake_disk_new(1);
    struct kv_slice block = kv_slice_of("state", 5);
    struct kv_snapshot_meta meta = {
        .cluster_id = 77, .node_id = 2, .index = 50, .term = 2, .configuration_index = 1};
    struct kv_snapshot_descriptor descriptor;
    uint8_t configuration[KV_CONFIGURATION_BYTES_MAX];
    char name[KV_SNAPSHOT_NAME_BYTES];
    const uint8_t *data;
    uint64_t size;

    (void)state;
    append_commands(2, 2, 1, 1, 0, 1);
    replica_rig_settle(&rig);
    meta.configuration = kv_slice_of(configuration, rig.replica->applied_configuration.size);
    memcpy(configuration, rig.replica->applied_configuration.data, meta.configuration.size);
    descriptor = snapshot_rig_write(disk, &meta, &block, 1);
    kv_snapshot_name(name, descriptor.index, descriptor.term, KV_SNAPSHOT_COMPLETE);
    data = fake_disk_data(disk, name, &size);
    replica_rig_offer_snapshot(&rig, 2, 2, &descriptor, meta.configuration);
    replica_rig_settle(&rig);
    assert_non_null(replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH));
    /* An earlier write is under way. */
    append_commands(2, 2, 1, 1, 1, 1);
    replica_rig_send_piece(&rig, 2, &descriptor, 0, kv_slice_of(data, size));
    while (rig.replica->install_sequence == 0 && replica_rig_work(&rig)) {
    }
    assert_int_not_equal(rig.replica->install_sequence, 0);
    replica_rig_forget(&rig);
    descriptor.index += 10;
    replica_rig_offer_snapshot(&rig, 2, 2, &descriptor, meta.configuration);
    while (replica_rig_work(&rig)) {
    }
    assert_null(replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_SNAPSHOT_FETCH));
    assert_true(replica_rig_sync(&rig));
    assert_int_not_equal(rig.replica->install_sequence, 0);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->install_sequence, 0);
    assert_int_equal(append_result_to(2)->last_log_index, 50);
    fake_disk_free(disk);
}

static void guard_12_a_pre_vote_is_refused_with_the_higher_term(void **state)
{
    (void)state;
    append_commands(2, 5, 1, 1, 0, 1);
    replica_rig_settle(&rig);
    replica_rig_forget(&rig);
    ask_vote(3, 3, true);
    assert_non_null(vote_to(3));
    assert_false(vote_to(3)->vote_granted);
    assert_int_equal(vote_to(3)->term, 5);
}

static void guard_13_a_late_rejection_moves_nothing_back(void **state)
{
    raft_index last;

    (void)state;
    replica_rig_lead(&rig);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(replica_rig_propose(&rig), 0);
    }
    last = raft_last_index(&rig.replica->raft);
    replica_rig_settle(&rig);
    replica_rig_answer_append(&rig, 2, 0, last);
    /* Silent for long, it is probed again from what it has acknowledged. */
    for (int i = 0; i < 40; i++) {
        replica_rig_wait(&rig, 50);
        replica_rig_answer_append(&rig, 3, 0, last);
    }
    replica_rig_forget(&rig);
    replica_rig_answer_append(&rig, 2, last, 1);
    replica_rig_wait(&rig, 150);
    replica_rig_answer_append(&rig, 3, 0, last);
    assert_true(kv_replica_is_leader(rig.replica));
    assert_non_null(replica_rig_sent(&rig, 2, APPEND));
    for (size_t i = 0; i < rig.n_sent; i++) {
        if (rig.sent[i].to_id == 2 && rig.sent[i].message->body_case == APPEND) {
            assert_int_equal(rig.sent[i].message->append_entries->prev_log_index, last);
        }
    }
}

static void guard_14_a_rejection_skips_the_whole_conflicting_term(void **state)
{
    (void)state;
    append_commands(2, 2, 1, 1, 20, 1);
    replica_rig_settle(&rig);
    replica_rig_forget(&rig);
    append_commands(3, 4, 18, 3, 1, 1);
    replica_rig_settle(&rig);
    assert_int_equal(append_result_to(3)->rejected, 18);
    assert_int_equal(append_result_to(3)->last_log_index, 1);
}

static void guard_18_a_leader_alone_proposes_no_more_than_the_window(void **state)
{
    unsigned n = 0;

    (void)state;
    replica_rig_lead(&rig);
    while (n <= KV_INFLIGHT_ENTRIES_MAX && replica_rig_propose(&rig) == 0) {
        n++;
    }
    assert_in_range(n, KV_INFLIGHT_ENTRIES_MAX - 2, KV_INFLIGHT_ENTRIES_MAX);
}

/* What waited for the term gate is not sent on the next connection. */
static void guard_19_a_new_connection_begins_with_nothing_old(void **state)
{
    (void)state;
    ask_vote(2, 5, false);
    assert_null(vote_to(2));
    rig.handler.disconnected(rig.handler.arg, 2, false);
    rig.handler.connected(rig.handler.arg, 2);
    replica_rig_settle(&rig);
    assert_null(vote_to(2));
}

static void guard_20_time_never_runs_back_and_the_timer_never_spins(void **state)
{
    uint64_t before = kv_replica_now_ms(rig.replica);

    (void)state;
    rig.now_ns -= 500000000;
    assert_int_equal(kv_replica_now_ms(rig.replica), before);
    rig.now_ns += 500000000;
    /* Its log has not what was written last: no election, and no timeout in the past. */
    append_commands(2, 2, 1, 1, 1, 1);
    replica_rig_wait(&rig, 5000);
    assert_true(kv_replica_deadline_ms(rig.replica) > before + 5000);
}

/* Turns of the loop that come between a timeout and its timer. */
static void guard_20_turns_do_not_put_the_timer_off(void **state)
{
    uint64_t deadline;

    (void)state;
    replica_rig_lead(&rig);
    replica_rig_settle(&rig);
    deadline = kv_replica_deadline_ms(rig.replica);
    for (int i = 0; i < 10; i++) {
        rig.now_ns += 100000000;
        kv_replica_turn(rig.replica);
        assert_true(kv_replica_deadline_ms(rig.replica) <= deadline);
    }
}

/* ---------------------------------------------------------------- the term gate */

static void a_vote_is_given_only_when_it_is_on_disk(void **state)
{
    (void)state;
    ask_vote(2, 5, false);
    assert_null(vote_to(2));
    replica_rig_settle(&rig);
    assert_true(vote_to(2)->vote_granted);
}

static void a_vote_is_not_given_twice_after_a_restart(void **state)
{
    (void)state;
    ask_vote(2, 5, false);
    replica_rig_settle(&rig);
    assert_true(vote_to(2)->vote_granted);
    replica_rig_kill(&rig);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    ask_vote(3, 5, false);
    replica_rig_settle(&rig);
    assert_non_null(vote_to(3));
    assert_false(vote_to(3)->vote_granted);
}

static void entries_are_acknowledged_only_when_their_own_write_is_synced(void **state)
{
    (void)state;
    append_commands(2, 2, 1, 1, 1, 1);
    append_commands(2, 2, 2, 2, 1, 1);
    replica_rig_forget(&rig);
    /* The first write went out alone; the second waits for the next. */
    assert_true(replica_rig_sync(&rig));
    assert_true(rig.replica->raft.last_stored < 3);
    replica_rig_settle(&rig);
    assert_int_equal(append_result_to(2)->last_log_index, 3);
}

/* ---------------------------------------------------------------- reads, notices */

static void on_read(struct kv_read *read, int status)
{
    *(int *)read->arg = status;
}

static void answer_confirm(uint64_t from_id, uint64_t term, uint64_t round, bool same_term)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__ConfirmResult result = KV__CONFIRM_RESULT__INIT;

    result.term = term;
    result.round = round;
    result.same_term = same_term;
    message.body_case = KV__PEER_MESSAGE__BODY_CONFIRM_RESULT;
    message.confirm_result = &result;
    replica_rig_receive_other(&rig, from_id, &message, kv_slice_of(NULL, 0));
}

static void a_read_waits_for_a_majority_of_this_term(void **state)
{
    int status = 77;
    struct kv_read read = {.done = on_read, .arg = &status};
    const Kv__PeerMessage *asked;
    uint64_t term;
    uint64_t round;

    (void)state;
    replica_rig_lead(&rig);
    replica_rig_answer_append(&rig, 2, 0, raft_last_index(&rig.replica->raft));
    replica_rig_forget(&rig);
    assert_int_equal(kv_replica_read(rig.replica, &read), 0);
    kv_replica_turn(rig.replica);
    asked = replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_CONFIRM);
    assert_non_null(asked);
    assert_int_equal(status, 77);
    term = asked->confirm->term;
    round = asked->confirm->round;
    answer_confirm(2, term - 1, round, true);
    answer_confirm(2, term, round, false);
    answer_confirm(2, term, round - 1, true);
    assert_int_equal(status, 77);
    answer_confirm(2, term, round, true);
    assert_int_equal(status, 0);
    assert_int_equal(read.index, raft_commit_index(&rig.replica->raft));
}

/* What an earlier leader has committed is known only when an entry of this term is. */
static void a_new_leader_reads_nothing_before_its_own_term_is_committed(void **state)
{
    int status = 77;
    struct kv_read read = {.done = on_read, .arg = &status};

    (void)state;
    append_commands(2, 2, 1, 1, 3, 1);
    replica_rig_settle(&rig);
    replica_rig_lead(&rig);
    replica_rig_forget(&rig);
    assert_int_equal(kv_replica_read(rig.replica, &read), 0);
    kv_replica_turn(rig.replica);
    assert_null(replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_CONFIRM));
    replica_rig_answer_append(&rig, 2, 0, raft_last_index(&rig.replica->raft));
    assert_non_null(replica_rig_sent(&rig, 2, KV__PEER_MESSAGE__BODY_CONFIRM));
    answer_confirm(2, rig.replica->confirm.term, rig.replica->confirm.round, true);
    assert_int_equal(status, 0);
    assert_true(read.index > 4);
}

static void another_term_is_not_confirmed(void **state)
{
    Kv__PeerMessage message = KV__PEER_MESSAGE__INIT;
    Kv__Confirm confirm = KV__CONFIRM__INIT;
    const Kv__PeerMessage *answer;

    (void)state;
    append_commands(2, 5, 1, 1, 0, 1);
    replica_rig_settle(&rig);
    confirm.term = 4;
    confirm.round = 1;
    message.body_case = KV__PEER_MESSAGE__BODY_CONFIRM;
    message.confirm = &confirm;
    replica_rig_receive_other(&rig, 3, &message, kv_slice_of(NULL, 0));
    answer = replica_rig_sent(&rig, 3, KV__PEER_MESSAGE__BODY_CONFIRM_RESULT);
    assert_non_null(answer);
    assert_false(answer->confirm_result->same_term);
}

static void a_commit_notice_speaks_of_what_the_peer_has(void **state)
{
    const Kv__AppendEntries *notice;
    raft_index last;

    (void)state;
    replica_rig_lead(&rig);
    assert_int_equal(replica_rig_propose(&rig), 0);
    replica_rig_settle(&rig);
    replica_rig_answer_append(&rig, 2, 0, raft_last_index(&rig.replica->raft));
    replica_rig_answer_append(&rig, 3, 0, raft_last_index(&rig.replica->raft));
    for (int i = 0; i < 4; i++) {
        assert_int_equal(replica_rig_propose(&rig), 0);
    }
    last = raft_last_index(&rig.replica->raft);
    replica_rig_settle(&rig);
    replica_rig_answer_append(&rig, 2, 0, last);
    assert_int_equal(raft_commit_index(&rig.replica->raft), last);
    /* All is on its way to node 3, which has stored a part of it. */
    replica_rig_forget(&rig);
    replica_rig_answer_append(&rig, 3, 0, last - 2);
    /* More entries may follow, and tell it. */
    assert_null(replica_rig_sent(&rig, 3, APPEND));
    assert_in_range(
        kv_replica_deadline_ms(rig.replica), 1, rig.now_ns / 1000000 + KV_COMMIT_NOTICE_MS);
    replica_rig_wait(&rig, KV_COMMIT_NOTICE_MS);
    assert_non_null(replica_rig_sent(&rig, 3, APPEND));
    notice = replica_rig_sent(&rig, 3, APPEND)->append_entries;
    assert_int_equal(notice->n_entries, 0);
    assert_int_equal(notice->prev_log_index, last - 2);
}

/* What stands behind the entries that a message proves may be another leader's. */
static void a_commit_index_covers_only_what_the_message_proves(void **state)
{
    (void)state;
    append_commands(2, 2, 1, 1, 3, 1);
    replica_rig_settle(&rig);
    append_commands(3, 3, 2, 2, 0, 4);
    replica_rig_settle(&rig);
    assert_in_range(rig.n_applied, 1, 2);
}

static void the_older_snapshot_and_the_log_behind_it_are_enough(void **state)
{
    raft_index last = fill_with_snapshots(60);
    char name[KV_SNAPSHOT_NAME_BYTES];

    (void)state;
    assert_int_equal(rig.replica->n_kept, 2);
    assert_true(kv_wal_first_index(rig.replica->wal) > 1);
    kv_snapshot_name(name,
                     rig.replica->kept[0].descriptor.index,
                     rig.replica->kept[0].descriptor.term,
                     KV_SNAPSHOT_COMPLETE);
    replica_rig_kill(&rig);
    fake_disk_remove(rig.disk, name);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    assert_int_equal(rig.replica->cache.last_index, last);
    assert_true(rig.n_applied > 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(a_follower_knows_how_far_it_is_behind),
        CASE(guard_1_an_older_leader_learns_the_term_and_nothing_else),
        CASE(a_refused_snapshot_is_checked_and_replaced),
        CASE(a_damaged_snapshot_is_gone_before_another_takes_its_name),
        CASE(one_that_cannot_be_read_is_not_removed),
        CASE(guard_2_entries_that_the_snapshot_holds_are_passed_over),
        CASE(guard_3_a_change_behind_other_entries_keeps_its_index),
        CASE(guard_4_an_overtaken_write_vouches_for_nothing),
        CASE(guard_5_a_second_change_leaves_the_first_to_fall_back_to),
        CASE(guard_8_an_only_voter_starts_in_a_new_term),
        CASE(guard_9_insane_messages_change_nothing),
        CASE(guard_10_a_leader_minds_no_votes),
        CASE(guard_1_an_older_leaders_snapshot_is_not_fetched),
        CASE(guard_11_one_install_at_a_time),
        CASE(guard_12_a_pre_vote_is_refused_with_the_higher_term),
        CASE(guard_13_a_late_rejection_moves_nothing_back),
        CASE(guard_14_a_rejection_skips_the_whole_conflicting_term),
        CASE(guard_18_a_leader_alone_proposes_no_more_than_the_window),
        CASE(guard_19_a_new_connection_begins_with_nothing_old),
        CASE(guard_20_time_never_runs_back_and_the_timer_never_spins),
        CASE(guard_20_turns_do_not_put_the_timer_off),
        CASE(a_vote_is_given_only_when_it_is_on_disk),
        CASE(a_vote_is_not_given_twice_after_a_restart),
        CASE(entries_are_acknowledged_only_when_their_own_write_is_synced),
        CASE(a_read_waits_for_a_majority_of_this_term),
        CASE(a_new_leader_reads_nothing_before_its_own_term_is_committed),
        CASE(another_term_is_not_confirmed),
        CASE(a_commit_notice_speaks_of_what_the_peer_has),
        CASE(a_commit_index_covers_only_what_the_message_proves),
        CASE(the_older_snapshot_and_the_log_behind_it_are_enough),
    };
#undef CASE

    return cmocka_run_group_tests(tests, NULL, NULL);
}
