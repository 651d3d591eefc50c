/* Each checker of the simulator is shown what it must not accept, and what it must. */
#include "tests/sim/checkers.h"

#include "raft/replica.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* after the four above */
#include <cmocka.h>

struct log {
    uint64_t terms[16];
    uint64_t last_index;
};

static uint64_t term_of(const void *arg, uint64_t index)
{
    const struct log *log = arg;

    return index <= log->last_index ? log->terms[index - 1] : 0;
}

static struct checkers checkers;

static int set_up(void **state)
{
    (void)state;
    checkers_init(&checkers, 3);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    checkers_deinit(&checkers);
    return 0;
}

static void complains(const char *of)
{
    assert_true(checkers.has_failed);
    if (!strstr(checkers.message, of)) {
        fail_msg("it says: %s", checkers.message);
    }
}

static void is_content(void)
{
    if (checkers.has_failed) {
        fail_msg("it says: %s", checkers.message);
    }
}

static void apply(unsigned node, uint64_t index, uint64_t term, const char *data)
{
    checkers_applies(&checkers, node, index, term, KV_ENTRY_COMMAND, kv_slice_str(data));
}

static void commits(unsigned node, uint64_t index, uint64_t term, bool is_leader)
{
    checkers_commits(&checkers, node, (struct checked_commit){index, term, term, is_leader});
}

static void recovers(uint64_t term, uint64_t vote, uint64_t last_index, const struct log *log)
{
    const struct checked_recovery recovery = {
        .term = term, .vote = vote, .first_index = 1, .last_index = last_index};

    checkers_recovers(&checkers, 1, &recovery, term_of, log);
}

/* ---------------------------------------------------------------- consensus */

static void two_leaders(void **state)
{
    (void)state;
    checkers_leads(&checkers, 1, 1, 5);
    checkers_leads(&checkers, 1, 1, 5);
    checkers_leads(&checkers, 2, 1, 6);
    is_content();
    checkers_leads(&checkers, 3, 1, 5);
    complains("two leaders in term 5");
}

static void a_term_led_by_two_processes(void **state)
{
    (void)state;
    checkers_leads(&checkers, 1, 1, 5);
    checkers_leads(&checkers, 1, 2, 6);
    is_content();
    checkers_leads(&checkers, 1, 2, 5);
    complains("node 1 leads again in term 5");
}

static void cluster_time_that_jumps(void **state)
{
    (void)state;
    checkers_cluster_time(&checkers, 1, 900, 1000);
    is_content();
    checkers_cluster_time(&checkers, 2, 1001, 1000);
    complains("the cluster's time is 1001 ms at entry 2");
}

static void cluster_time_that_runs_back(void **state)
{
    (void)state;
    checkers_time_goes_on(&checkers, 2, 900, 900);
    is_content();
    checkers_time_goes_on(&checkers, 2, 900, 899);
    complains("the cluster's time of node 2 went back from 900 to 899 ms");
}

static void leader_without_a_committed_entry(void **state)
{
    const struct log whole = {{1, 2}, 2}, short_one = {{1}, 1};

    (void)state;
    commits(1, 2, 2, false);
    checkers_leader_log(&checkers, 2, 3, 0, term_of, &whole);
    is_content();
    checkers_leader_log(&checkers, 3, 2, 0, term_of, &short_one);
    is_content(); /* its term was over before */
    checkers_leader_log(&checkers, 3, 3, 0, term_of, &short_one);
    complains("leads without the committed entry 2");
}

static void committed_entry_changes(void **state)
{
    (void)state;
    commits(1, 1, 1, false);
    commits(2, 1, 1, false);
    is_content();
    commits(3, 1, 2, false);
    complains("was committed with term 1");
}

static void commit_without_majority(void **state)
{
    (void)state;
    checkers_synced_entry(&checkers, 1, 1, 1);
    checkers_synced_entry(&checkers, 2, 1, 1);
    commits(1, 1, 1, true);
    is_content();
    checkers_synced_entry(&checkers, 1, 2, 1);
    commits(1, 2, 1, true);
    complains("1 of 3 disks");
}

static void applies_twice(void **state)
{
    (void)state;
    apply(1, 1, 1, "a");
    apply(2, 1, 1, "a");
    is_content();
    apply(1, 1, 1, "a");
    complains("applies entry 1 after entry 1");
}

static void applies_with_a_gap(void **state)
{
    (void)state;
    apply(1, 1, 1, "a");
    apply(1, 3, 1, "c");
    complains("applies entry 3 after entry 1");
}

static void applies_something_else(void **state)
{
    (void)state;
    apply(1, 1, 1, "a");
    apply(2, 1, 1, "b");
    complains("applies another entry 1");
}

static void states_differ(void **state)
{
    (void)state;
    checkers_state(&checkers, 1, 1, 77, 5);
    checkers_state(&checkers, 2, 1, 77, 5);
    is_content();
    checkers_state(&checkers, 3, 1, 78, 5);
    complains("another state after entry 1");
}

static void revision_runs_back(void **state)
{
    (void)state;
    checkers_state(&checkers, 1, 1, 77, 5);
    checkers_state(&checkers, 1, 2, 77, 4);
    complains("revision 4 after 5");
}

static void logs_do_not_match(void **state)
{
    (void)state;
    for (uint64_t i = 1; i <= 3; i++) {
        checkers_synced_entry(&checkers, 1, i, i == 3 ? 4 : 1);
        checkers_synced_entry(&checkers, 2, i, 1);
    }
    checkers_log_matching(&checkers);
    is_content();
    checkers_synced_entry(&checkers, 3, 1, 2);
    checkers_synced_entry(&checkers, 3, 2, 1);
    checkers_log_matching(&checkers);
    complains("differ there");
}

/* ---------------------------------------------------------------- disks */

static void recovery_loses_an_entry(void **state)
{
    const struct log log = {{1}, 1};

    (void)state;
    checkers_synced_entry(&checkers, 1, 1, 1);
    checkers_synced_entry(&checkers, 1, 2, 1);
    recovers(0, 0, 1, &log);
    complains("recovers without entry 2");
}

static void recovery_may_find_a_truncation(void **state)
{
    const struct log log = {{1}, 1};

    (void)state;
    checkers_synced_entry(&checkers, 1, 1, 1);
    checkers_synced_entry(&checkers, 1, 2, 1);
    checkers_may_truncate(&checkers, 1, 2);
    recovers(0, 0, 1, &log);
    is_content();
}

static void truncation_of_a_committed_entry(void **state)
{
    (void)state;
    checkers_synced_vote(&checkers, 1, 1, 0);
    checkers_synced_entry(&checkers, 1, 1, 1);
    checkers_synced_entry(&checkers, 1, 2, 1);
    commits(2, 1, 1, false);
    checkers_synced_truncation(&checkers, 1, 2);
    is_content();
    checkers_synced_truncation(&checkers, 1, 1);
    complains("removes the committed entry 1");
}

/* A leader of term 3 commits it on other nodes; this one is in term 2 yet, whose leader lacks it.
 */
static void truncation_in_an_earlier_term(void **state)
{
    (void)state;
    checkers_synced_entry(&checkers, 1, 1, 1);
    checkers_synced_vote(&checkers, 1, 2, 0);
    checkers_commits(&checkers, 2, (struct checked_commit){1, 1, 3, false});
    checkers_synced_truncation(&checkers, 1, 1);
    is_content();
    checkers_synced_entry(&checkers, 1, 1, 1);
    checkers_synced_vote(&checkers, 1, 3, 0);
    checkers_synced_truncation(&checkers, 1, 1);
    complains("removes the committed entry 1");
}

static void vote_changes(void **state)
{
    const struct log log = {{0}, 0};

    (void)state;
    checkers_synced_vote(&checkers, 1, 3, 0);
    checkers_synced_vote(&checkers, 1, 3, 2);
    recovers(3, 2, 0, &log);
    is_content();
    recovers(3, 1, 0, &log);
    complains("recovers term 3 vote 1");
}

static void term_runs_back(void **state)
{
    const struct log log = {{0}, 0};

    (void)state;
    checkers_synced_vote(&checkers, 1, 3, 0);
    recovers(2, 0, 0, &log);
    complains("recovers term 2");
}

static void tells_too_early(void **state)
{
    (void)state;
    checkers_synced_vote(&checkers, 1, 3, 0);
    checkers_tells_term(&checkers, 1, 3);
    checkers_tells_stored(&checkers, 1, 0);
    is_content();
    checkers_tells_term(&checkers, 1, 4);
    complains("tells others of term 4");
}

static void says_stored_too_early(void **state)
{
    (void)state;
    checkers_synced_entry(&checkers, 1, 1, 1);
    checkers_tells_stored(&checkers, 1, 1);
    is_content();
    checkers_tells_stored(&checkers, 1, 2);
    complains("says that it has stored entry 2");
}

/* ---------------------------------------------------------------- snapshots */

static const struct checked_snapshot snapshot_of_2 = {.index = 2, .term = 1, .state_hash = 77};

/* Node 2 has applied two entries, the state is 77 then; node 1's log holds them. */
static void two_entries(void)
{
    for (uint64_t i = 1; i <= 2; i++) {
        checkers_synced_entry(&checkers, 1, i, 1);
        apply(2, i, 1, "a");
    }
    checkers_state(&checkers, 2, 2, 77, 0);
}

static void snapshot_of_another_state(void **state)
{
    struct checked_snapshot other = snapshot_of_2;

    (void)state;
    two_entries();
    checkers_snapshots(&checkers, 1, &snapshot_of_2, 1);
    is_content();
    other.state_hash = 78;
    checkers_snapshots(&checkers, 1, &other, 1);
    complains("with another state");
}

static void snapshot_of_another_term(void **state)
{
    struct checked_snapshot other = snapshot_of_2;

    (void)state;
    two_entries();
    other.term = 2;
    checkers_snapshots(&checkers, 1, &other, 1);
    complains("a snapshot of entry 2 of term 2");
}

static void installs_what_no_disk_has(void **state)
{
    (void)state;
    two_entries();
    checkers_installs(&checkers, 1, &snapshot_of_2);
    complains("which its disk does not hold");
}

static void installs_what_it_had(void **state)
{
    (void)state;
    two_entries();
    checkers_snapshots(&checkers, 1, &snapshot_of_2, 1);
    checkers_installs(&checkers, 1, &snapshot_of_2);
    is_content();
    apply(1, 3, 1, "b");
    is_content();
    checkers_installs(&checkers, 1, &snapshot_of_2);
    complains("after entry 3");
}

static void releases_too_much(void **state)
{
    (void)state;
    two_entries();
    checkers_synced_entry(&checkers, 1, 3, 1);
    checkers_snapshots(&checkers, 1, &snapshot_of_2, 1);
    checkers_released(&checkers, 1, 3);
    is_content();
    checkers_released(&checkers, 1, 4);
    complains("releases the log before entry 4");
}

static void releases_what_the_older_snapshot_needs(void **state)
{
    static const struct checked_snapshot both[] = {{2, 1, 77, 0}, {3, 1, 78, 0}};

    (void)state;
    two_entries();
    apply(2, 3, 1, "c");
    checkers_state(&checkers, 2, 3, 78, 0);
    checkers_synced_entry(&checkers, 1, 3, 1);
    checkers_snapshots(&checkers, 1, both, 2);
    checkers_released(&checkers, 1, 3);
    is_content();
    checkers_released(&checkers, 1, 4);
    complains("its older snapshot is of entry 2");
}

static void a_full_disk_may_keep_one_snapshot(void **state)
{
    static const struct checked_snapshot both[] = {{2, 1, 77, 0}, {3, 1, 78, 0}};

    (void)state;
    two_entries();
    apply(2, 3, 1, "c");
    checkers_state(&checkers, 2, 3, 78, 0);
    checkers_synced_entry(&checkers, 1, 3, 1);
    checkers_snapshots(&checkers, 1, both, 2);
    checkers.nodes[1].was_full = true;
    checkers_released(&checkers, 1, 4);
    is_content();
}

static void a_record_number_used_again(void **state)
{
    (void)state;
    checkers_writes_record(&checkers, 1, 1, 1, true);
    checkers_synced_record(&checkers, 1);
    checkers_writes_record(&checkers, 1, 1, 2, false);
    /* Of these nothing was ever on disk. */
    checkers_writes_record(&checkers, 1, 2, 100, false);
    checkers_writes_record(&checkers, 1, 3, 100, false);
    is_content();
    checkers_writes_record(&checkers, 1, 4, 2, false);
    complains("node 1 writes record 2, it had written 2 before");
}

static void something_behind_a_recovered_log(void **state)
{
    (void)state;
    checkers_rest_of_log(&checkers, 1, kv_slice_of("\0\0\0", 3));
    is_content();
    checkers_rest_of_log(&checkers, 1, kv_slice_of("\0\0x", 3));
    complains("left something 2 bytes behind it");
}

static void a_note_of_bytes_that_are_not_there(void **state)
{
    (void)state;
    checkers_part(&checkers, 1, kv_slice_str("abc"), kv_slice_str("abcd"));
    is_content();
    checkers_part(&checkers, 1, kv_slice_str("abc"), kv_slice_str("ab"));
    complains("notes 3 bytes of a snapshot as safe");
}

static void boundary_without_a_snapshot(void **state)
{
    (void)state;
    two_entries();
    checkers_synced_boundary(&checkers, 1, 2, 1);
    complains("begins its log behind entry 2");
}

static void boundary_loses_a_committed_entry(void **state)
{
    (void)state;
    checkers_synced_vote(&checkers, 1, 1, 0);
    two_entries();
    checkers_synced_entry(&checkers, 1, 3, 1);
    checkers_snapshots(&checkers, 1, &snapshot_of_2, 1);
    checkers_synced_boundary(&checkers, 1, 2, 1);
    is_content();
    checkers_synced_entry(&checkers, 1, 3, 1);
    commits(2, 3, 1, false);
    checkers_synced_boundary(&checkers, 1, 2, 1);
    complains("drops the committed entry 3");
}

static void snapshots_count_for_a_majority(void **state)
{
    (void)state;
    two_entries();
    checkers_snapshots(&checkers, 3, &snapshot_of_2, 1);
    commits(2, 2, 1, true);
    is_content();
    checkers_synced_entry(&checkers, 1, 3, 1);
    commits(2, 3, 1, true);
    complains("1 of 3 disks");
}

static void recovery_from_a_snapshot(void **state)
{
    const struct log log = {{0, 0, 1}, 3};
    struct checked_recovery recovery = {
        .first_index = 3, .last_index = 3, .snapshot = snapshot_of_2};

    (void)state;
    two_entries();
    checkers_synced_entry(&checkers, 1, 3, 1);
    checkers_snapshots(&checkers, 1, &snapshot_of_2, 1);
    checkers_recovers(&checkers, 1, &recovery, term_of, &log);
    is_content();
    apply(1, 3, 1, "b");
    is_content();
    recovery.last_index = 2;
    checkers_recovers(&checkers, 1, &recovery, term_of, &log);
    complains("recovers without entry 3");
}

static void recovery_with_a_gap(void **state)
{
    const struct log log = {{0, 0, 0, 1}, 4};
    const struct checked_recovery recovery = {
        .first_index = 4, .last_index = 4, .snapshot = snapshot_of_2};

    (void)state;
    two_entries();
    checkers_snapshots(&checkers, 1, &snapshot_of_2, 1);
    checkers_recovers(&checkers, 1, &recovery, term_of, &log);
    complains("begins with entry 4");
}

static void leader_with_a_snapshot(void **state)
{
    const struct log behind = {{0, 0, 1}, 3}, without = {{0}, 0};

    (void)state;
    commits(1, 1, 1, false);
    commits(1, 3, 1, false);
    checkers_leader_log(&checkers, 2, 3, 2, term_of, &behind);
    is_content();
    checkers_leader_log(&checkers, 2, 3, 2, term_of, &without);
    complains("leads without the committed entry 3");
}

static void bound_is_passed(void **state)
{
    (void)state;
    checkers_bound(&checkers, 1, "things", 5, 5);
    is_content();
    checkers_bound(&checkers, 1, "things", 6, 5);
    complains("things is 6");
}

#define WITH(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH(two_leaders),
        WITH(a_term_led_by_two_processes),
        WITH(cluster_time_that_jumps),
        WITH(cluster_time_that_runs_back),
        WITH(leader_without_a_committed_entry),
        WITH(committed_entry_changes),
        WITH(commit_without_majority),
        WITH(applies_twice),
        WITH(applies_with_a_gap),
        WITH(applies_something_else),
        WITH(states_differ),
        WITH(revision_runs_back),
        WITH(logs_do_not_match),
        WITH(recovery_loses_an_entry),
        WITH(recovery_may_find_a_truncation),
        WITH(truncation_of_a_committed_entry),
        WITH(truncation_in_an_earlier_term),
        WITH(vote_changes),
        WITH(term_runs_back),
        WITH(tells_too_early),
        WITH(says_stored_too_early),
        WITH(snapshot_of_another_state),
        WITH(snapshot_of_another_term),
        WITH(installs_what_no_disk_has),
        WITH(installs_what_it_had),
        WITH(releases_too_much),
        WITH(releases_what_the_older_snapshot_needs),
        WITH(a_full_disk_may_keep_one_snapshot),
        WITH(a_record_number_used_again),
        WITH(something_behind_a_recovered_log),
        WITH(a_note_of_bytes_that_are_not_there),
        WITH(boundary_without_a_snapshot),
        WITH(boundary_loses_a_committed_entry),
        WITH(snapshots_count_for_a_majority),
        WITH(recovery_from_a_snapshot),
        WITH(recovery_with_a_gap),
        WITH(leader_with_a_snapshot),
        WITH(bound_is_passed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
