/* Each guard of raft/guards.h by its number: what it must stop, and what it must let pass. */
#include "raft/guards.h"

#include "common/limits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static struct raft_message append(raft_term term, raft_index prev_index, raft_term prev_term)
{
    return (struct raft_message){
        .type = RAFT_APPEND_ENTRIES,
        .server_id = 2,
        .append_entries = {.term = term, .prev_log_index = prev_index, .prev_log_term = prev_term},
    };
}

static void guard_1_answers_an_older_leader_without_acknowledging(void **state)
{
    struct raft_append_entries_result result;
    struct raft_message message = append(4, 10, 3);

    (void)state;
    assert_true(kv_guard_1_is_stale(&message, 5, &result));
    assert_int_equal(result.term, 5);
    assert_int_equal(result.rejected, 0);
    assert_int_equal(result.last_log_index, 0);

    message = (struct raft_message){.type = RAFT_INSTALL_SNAPSHOT, .install_snapshot = {.term = 4}};
    assert_true(kv_guard_1_is_stale(&message, 5, &result));
    message.install_snapshot.term = 5;
    assert_false(kv_guard_1_is_stale(&message, 5, &result));
}

static void guard_1_lets_the_present_and_later_terms_pass(void **state)
{
    struct raft_append_entries_result result;
    struct raft_message message = append(5, 10, 3);

    (void)state;
    assert_false(kv_guard_1_is_stale(&message, 5, &result));
    message.append_entries.term = 6;
    assert_false(kv_guard_1_is_stale(&message, 5, &result));
    message = (struct raft_message){.type = RAFT_REQUEST_VOTE, .request_vote = {.term = 1}};
    assert_false(kv_guard_1_is_stale(&message, 5, &result));
}

static void guard_2_cuts_what_the_snapshot_holds(void **state)
{
    raft_index prev = 3;
    raft_term term = 1;

    (void)state;
    /* Snapshot at 8, trail begins behind 5: entries 4..13 lose 4..8. */
    assert_int_equal(kv_guard_2_clamp(8, 2, 5, 10, &prev, &term), 5);
    assert_int_equal(prev, 8);
    assert_int_equal(term, 2);
    /* All of them are in the snapshot. */
    prev = 3;
    term = 1;
    assert_int_equal(kv_guard_2_clamp(8, 2, 5, 2, &prev, &term), 2);
    assert_int_equal(prev, 8);
}

static void guard_2_leaves_what_the_trail_knows(void **state)
{
    raft_index prev = 6;
    raft_term term = 1;

    (void)state;
    assert_int_equal(kv_guard_2_clamp(8, 2, 5, 10, &prev, &term), 0);
    assert_int_equal(prev, 6);
    prev = 8;
    assert_int_equal(kv_guard_2_clamp(8, 2, 5, 10, &prev, &term), 0);
    prev = 3;
    assert_int_equal(kv_guard_2_clamp(0, 0, 0, 10, &prev, &term), 0);
    assert_int_equal(prev, 3);
}

static void guard_3_puts_each_change_first(void **state)
{
    struct raft_entry entries[6] = {
        {.type = RAFT_COMMAND},
        {.type = RAFT_COMMAND},
        {.type = RAFT_CHANGE},
        {.type = RAFT_BARRIER},
        {.type = RAFT_CHANGE},
        {.type = RAFT_CHANGE},
    };

    (void)state;
    assert_int_equal(kv_guard_3_piece(entries, 6, 0), 2);
    assert_int_equal(kv_guard_3_piece(entries, 6, 2), 2);
    assert_int_equal(kv_guard_3_piece(entries, 6, 4), 1);
    assert_int_equal(kv_guard_3_piece(entries, 6, 5), 1);
}

static uint64_t sequence_from_array(const void *arg, raft_index index)
{
    return ((const uint64_t *)arg)[index];
}

static void guard_4_reports_only_what_this_write_stored(void **state)
{
    /* Entries 1..3 by write 7; 4 was rewritten by write 9; 5 is gone. */
    const uint64_t sequences[] = {0, 7, 7, 7, 9, 0};

    (void)state;
    assert_int_equal(kv_guard_4_persisted(1, 5, 7, sequence_from_array, sequences, 0), 3);
    assert_int_equal(kv_guard_4_persisted(4, 5, 7, sequence_from_array, sequences, 0), 0);
    assert_int_equal(kv_guard_4_persisted(4, 5, 9, sequence_from_array, sequences, 3), 4);
    /* Never twice, never back. */
    assert_int_equal(kv_guard_4_persisted(1, 5, 7, sequence_from_array, sequences, 3), 0);
}

static void guard_5_knows_the_earlier_change_is_committed(void **state)
{
    struct raft_entry change = {.type = RAFT_CHANGE};
    struct raft_entry command = {.type = RAFT_COMMAND};

    (void)state;
    assert_true(kv_guard_5_is_committed(4, 6, true, &change));
    assert_false(kv_guard_5_is_committed(4, 6, false, &change));
    assert_false(kv_guard_5_is_committed(0, 6, true, &change));
    assert_false(kv_guard_5_is_committed(7, 6, true, &change));
    assert_false(kv_guard_5_is_committed(4, 6, true, &command));
}

static void guard_8_sees_the_only_voter(void **state)
{
    struct raft_server servers[] = {{.id = 1, .role = RAFT_VOTER},
                                    {.id = 2, .role = RAFT_STANDBY},
                                    {.id = 3, .role = RAFT_VOTER}};
    struct raft_configuration configuration = {servers, 2};

    (void)state;
    assert_true(kv_guard_8_is_only_voter(&configuration, 1));
    assert_false(kv_guard_8_is_only_voter(&configuration, 2));
    configuration.n = 3;
    assert_false(kv_guard_8_is_only_voter(&configuration, 1));
}

static void guard_9_refuses_insane_numbers(void **state)
{
    struct raft_entry entries[2] = {{.term = 3, .type = RAFT_COMMAND},
                                    {.term = 2, .type = RAFT_COMMAND}};
    struct raft_message message = append(5, 10, 0);
    struct raft_configuration configuration;
    struct raft_buffer encoded;
    const char *what;

    (void)state;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    message = append(5, 0, 3);
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    message = append(0, 0, 0);
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    message = append(5, 10, 6);
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);

    message = append(5, 10, 2);
    message.append_entries.entries = entries;
    message.append_entries.n_entries = 2;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    entries[1].term = 6;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    entries[1].term = 3;
    entries[1].type = 9;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    /* A configuration must be a whole one. */
    entries[1].type = RAFT_CHANGE;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    raft_configuration_init(&configuration);
    assert_int_equal(raft_configuration_add(&configuration, 1, "a:1", RAFT_VOTER), 0);
    assert_int_equal(raft_configuration_encode(&configuration, &encoded), 0);
    raft_configuration_close(&configuration);
    entries[1].buf = encoded;
    assert_int_equal(kv_guard_9_check(&message, &what), 0);
    /* Version, count, then id, address and role; zeros behind that may be missing. */
    for (entries[1].buf.len = 0; entries[1].buf.len < 1 + 8 + 8 + 4 + 1; entries[1].buf.len++) {
        assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    }
    raft_free(encoded.base);
    entries[1] = entries[0];
    message.append_entries.n_entries = KV_APPEND_ENTRIES_MAX + 1;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    message.append_entries.n_entries = 1;
    entries[0].buf.len = KV_ENTRY_BYTES_MAX;
    assert_int_equal(kv_guard_9_check(&message, &what), 0);
    entries[0].buf.len = KV_ENTRY_BYTES_MAX + 1;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    assert_string_equal(what, "entry too large");

    message = (struct raft_message){.type = RAFT_INSTALL_SNAPSHOT, .install_snapshot = {.term = 1}};
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    message = (struct raft_message){
        .type = RAFT_REQUEST_VOTE, .server_id = 2, .request_vote = {.term = 1, .candidate_id = 3}};
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
    message.request_vote.candidate_id = 2;
    assert_int_equal(kv_guard_9_check(&message, &what), 0);
    message.type = 77;
    assert_int_equal(kv_guard_9_check(&message, &what), KV_INVALID);
}

static void guard_10_drops_votes_for_no_candidate(void **state)
{
    struct raft_message message = {.type = RAFT_REQUEST_VOTE_RESULT};

    (void)state;
    assert_true(kv_guard_10_is_late(&message, RAFT_FOLLOWER));
    assert_true(kv_guard_10_is_late(&message, RAFT_LEADER));
    assert_false(kv_guard_10_is_late(&message, RAFT_CANDIDATE));
    message.type = RAFT_APPEND_ENTRIES;
    assert_false(kv_guard_10_is_late(&message, RAFT_FOLLOWER));
}

static void guard_11_drops_a_second_install(void **state)
{
    struct raft_message message = {.type = RAFT_INSTALL_SNAPSHOT};

    (void)state;
    assert_true(kv_guard_11_is_busy(&message, true));
    assert_false(kv_guard_11_is_busy(&message, false));
    message.type = RAFT_APPEND_ENTRIES;
    assert_false(kv_guard_11_is_busy(&message, true));
}

static void guard_12_tells_our_term_in_a_pre_vote_rejection(void **state)
{
    struct raft_request_vote_result result = {.term = 3, .pre_vote = true};

    (void)state;
    kv_guard_12_raise(&result, 7);
    assert_int_equal(result.term, 7);
    result.term = 9;
    kv_guard_12_raise(&result, 7);
    assert_int_equal(result.term, 9);
    result = (struct raft_request_vote_result){.term = 3, .pre_vote = true, .vote_granted = true};
    kv_guard_12_raise(&result, 7);
    assert_int_equal(result.term, 3);
    result = (struct raft_request_vote_result){.term = 3};
    kv_guard_12_raise(&result, 7);
    assert_int_equal(result.term, 3);
}

static void guard_13_drops_a_rejection_of_what_is_acknowledged(void **state)
{
    struct raft_append_entries_result result = {.term = 5, .rejected = 8};

    (void)state;
    assert_true(kv_guard_13_is_late(&result, 5, 8));
    assert_true(kv_guard_13_is_late(&result, 5, 9));
    assert_false(kv_guard_13_is_late(&result, 5, 7));
    assert_false(kv_guard_13_is_late(&result, 6, 9));
    result.rejected = 0;
    assert_false(kv_guard_13_is_late(&result, 5, 9));
}

static void guard_14_skips_the_conflicting_term(void **state)
{
    struct kv_terms terms;
    struct raft_append_entries_result result = {.rejected = 18, .last_log_index = 17};

    (void)state;
    assert_int_equal(kv_terms_init(&terms, 0, 0), 0);
    for (uint64_t i = 1; i <= 20; i++) {
        assert_int_equal(kv_terms_append(&terms, i, i < 10 ? 1 : 2), 0);
    }
    kv_guard_14_hint(&result, &terms, 4);
    assert_int_equal(result.last_log_index, 9);
    /* Not below what is committed. */
    result.last_log_index = 17;
    kv_guard_14_hint(&result, &terms, 12);
    assert_int_equal(result.last_log_index, 12);
    /* Not up. */
    result.last_log_index = 5;
    kv_guard_14_hint(&result, &terms, 4);
    assert_int_equal(result.last_log_index, 5);
    /* An index that we do not have: the hint stands. */
    result = (struct raft_append_entries_result){.rejected = 30, .last_log_index = 20};
    kv_guard_14_hint(&result, &terms, 4);
    assert_int_equal(result.last_log_index, 20);
    kv_terms_deinit(&terms);
}

static void guard_18_bounds_what_is_not_committed(void **state)
{
    (void)state;
    assert_true(kv_guard_18_may_propose(0, 0, KV_ENTRY_BYTES_MAX));
    assert_true(kv_guard_18_may_propose(KV_INFLIGHT_ENTRIES_MAX - 1, 0, 1));
    assert_false(kv_guard_18_may_propose(KV_INFLIGHT_ENTRIES_MAX, 0, 1));
    assert_false(kv_guard_18_may_propose(1, KV_INFLIGHT_BYTES_MAX, 1));
}

static void guard_20_never_spins(void **state)
{
    (void)state;
    assert_int_equal(kv_guard_20_deadline(90, 100), 101);
    assert_int_equal(kv_guard_20_deadline(100, 100), 101);
    assert_int_equal(kv_guard_20_deadline(150, 100), 150);
}

static void guard_21_counts_the_last_two_heartbeats(void **state)
{
    (void)state;
    assert_int_equal(kv_guard_21_contact_since(999, 1000, 50), 900);
    assert_int_equal(kv_guard_21_contact_since(900, 1000, 50), 900);
    assert_int_equal(kv_guard_21_contact_since(700, 1000, 50), 700);
    assert_int_equal(kv_guard_21_contact_since(40, 60, 50), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(guard_1_answers_an_older_leader_without_acknowledging),
        cmocka_unit_test(guard_1_lets_the_present_and_later_terms_pass),
        cmocka_unit_test(guard_2_cuts_what_the_snapshot_holds),
        cmocka_unit_test(guard_2_leaves_what_the_trail_knows),
        cmocka_unit_test(guard_3_puts_each_change_first),
        cmocka_unit_test(guard_4_reports_only_what_this_write_stored),
        cmocka_unit_test(guard_5_knows_the_earlier_change_is_committed),
        cmocka_unit_test(guard_8_sees_the_only_voter),
        cmocka_unit_test(guard_9_refuses_insane_numbers),
        cmocka_unit_test(guard_10_drops_votes_for_no_candidate),
        cmocka_unit_test(guard_11_drops_a_second_install),
        cmocka_unit_test(guard_12_tells_our_term_in_a_pre_vote_rejection),
        cmocka_unit_test(guard_13_drops_a_rejection_of_what_is_acknowledged),
        cmocka_unit_test(guard_14_skips_the_conflicting_term),
        cmocka_unit_test(guard_18_bounds_what_is_not_committed),
        cmocka_unit_test(guard_20_never_spins),
        cmocka_unit_test(guard_21_counts_the_last_two_heartbeats),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
