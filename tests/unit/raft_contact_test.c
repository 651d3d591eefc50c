/* Whom a leader takes for silent (guard 21): followers whose heartbeats are not in step are quick
 * to be sent what is proposed, and a leader that hears of nobody steps down in time. */
#include "tests/support/replica_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#define APPEND KV__PEER_MESSAGE__BODY_APPEND_ENTRIES

static struct replica_rig rig;

static int set_up(void **state)
{
    (void)state;
    replica_rig_init(&rig, 3);
    replica_rig_start(&rig);
    replica_rig_settle(&rig);
    replica_rig_lead(&rig);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(rig.n_fatal, 0);
    replica_rig_deinit(&rig);
    return 0;
}

static bool was_sent_entry(uint64_t to_id, raft_index index)
{
    const Kv__PeerMessage *message = replica_rig_sent(&rig, to_id, APPEND);

    return message && message->append_entries->n_entries == 1 &&
           message->append_entries->prev_log_index == index - 1;
}

/* Each answers at once whatever it is sent, for so many milliseconds. */
static void let_followers_answer(raft_index last, int ms)
{
    for (int i = 0; i < ms; i++) {
        replica_rig_forget(&rig);
        replica_rig_wait(&rig, 1);
        for (uint64_t id = 2; id <= 3; id++) {
            if (replica_rig_sent(&rig, id, APPEND)) {
                replica_rig_answer_append(&rig, id, 0, last);
            }
        }
    }
}

static void heartbeats_out_of_step_keep_the_pipelines(void **state)
{
    raft_index last = raft_last_index(&rig.replica->raft);

    (void)state;
    /* One answers the new leader at once, and is sent the first entry when it is proposed; the
     * other is sent it when it has answered. */
    replica_rig_answer_append(&rig, 2, 0, last);
    replica_rig_wait(&rig, 7);
    assert_int_equal(replica_rig_propose(&rig), 0);
    assert_true(was_sent_entry(2, last + 1));
    replica_rig_wait(&rig, 5);
    assert_false(was_sent_entry(3, last + 1));
    replica_rig_answer_append(&rig, 3, 0, last);
    assert_true(was_sent_entry(3, last + 1));
    last++;
    replica_rig_settle(&rig);
    replica_rig_answer_append(&rig, 2, 0, last);
    replica_rig_answer_append(&rig, 3, 0, last);
    for (int ms = 190; ms < 260; ms += 5) {
        let_followers_answer(last, ms);
        assert_int_equal(replica_rig_propose(&rig), 0);
        last++;
        assert_true(was_sent_entry(2, last));
        assert_true(was_sent_entry(3, last));
        replica_rig_settle(&rig);
        replica_rig_answer_append(&rig, 2, 0, last);
        replica_rig_wait(&rig, 3);
        replica_rig_answer_append(&rig, 3, 0, last);
    }
}

/* One that is silent is probed again, so that not everything is sent to nobody. */
static void a_silent_follower_is_probed(void **state)
{
    raft_index last = raft_last_index(&rig.replica->raft);

    (void)state;
    replica_rig_answer_append(&rig, 2, 0, last);
    replica_rig_answer_append(&rig, 3, 0, last);
    for (int i = 0; i < 40; i++) {
        replica_rig_wait(&rig, 10);
        replica_rig_answer_append(&rig, 3, 0, last);
    }
    replica_rig_forget(&rig);
    assert_int_equal(replica_rig_propose(&rig), 0);
    assert_null(replica_rig_sent(&rig, 2, APPEND));
    assert_true(was_sent_entry(3, last + 1));
}

static void a_leader_alone_steps_down_in_time(void **state)
{
    const struct kv_replica_options *options = &rig.replica->options;
    raft_index last = raft_last_index(&rig.replica->raft);
    uint64_t silent_ms = 0;

    (void)state;
    for (int i = 0; i < 20; i++) {
        replica_rig_wait(&rig, 10);
        replica_rig_answer_append(&rig, 2, 0, last);
        replica_rig_answer_append(&rig, 3, 0, last);
    }
    while (kv_replica_is_leader(rig.replica) && silent_ms < 10000) {
        replica_rig_wait(&rig, 1);
        silent_ms++;
    }
    assert_in_range(silent_ms,
                    options->election_timeout_ms,
                    options->election_timeout_ms + 3 * options->heartbeat_ms);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(heartbeats_out_of_step_keep_the_pipelines),
        CASE(a_silent_follower_is_probed),
        CASE(a_leader_alone_steps_down_in_time),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
