#include "raft/confirm.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

struct outcome {
    struct kv_read read;
    int calls;
    int status;
};

static void note(struct kv_read *read, int status)
{
    struct outcome *outcome = read->arg;

    outcome->calls++;
    outcome->status = status;
}

static void queue(struct kv_confirm *confirm, struct outcome *outcome)
{
    *outcome = (struct outcome){.read = {.done = note}};
    outcome->read.arg = outcome;
    kv_read_queue_push(&confirm->waiting, &outcome->read);
}

static void a_majority_serves_what_was_queued_before(void **state)
{
    struct kv_confirm confirm = {0};
    struct outcome first, second;

    (void)state;
    queue(&confirm, &first);
    kv_confirm_start(&confirm, 5, 100, 1000);
    queue(&confirm, &second); /* came after the round began */
    assert_true(kv_confirm_ack(&confirm, 5, confirm.round, 0));
    assert_false(kv_confirm_has_majority(&confirm, 3));
    /* The same voter twice is one voter. */
    assert_true(kv_confirm_ack(&confirm, 5, confirm.round, 0));
    assert_false(kv_confirm_has_majority(&confirm, 3));
    assert_true(kv_confirm_ack(&confirm, 5, confirm.round, 2));
    assert_true(kv_confirm_has_majority(&confirm, 3));
    kv_confirm_finish(&confirm);
    assert_int_equal(first.calls, 1);
    assert_int_equal(first.status, 0);
    assert_int_equal(first.read.index, 100);
    assert_int_equal(second.calls, 0);
    kv_confirm_fail(&confirm);
    assert_int_equal(second.status, KV_NO_LEADER);
}

static void answers_of_other_rounds_and_terms_do_not_count(void **state)
{
    struct kv_confirm confirm = {0};
    struct outcome outcome;
    uint64_t old_round;

    (void)state;
    queue(&confirm, &outcome);
    kv_confirm_start(&confirm, 5, 100, 1000);
    old_round = confirm.round;
    kv_confirm_fail(&confirm);
    assert_int_equal(outcome.status, KV_NO_LEADER);
    assert_false(kv_confirm_ack(&confirm, 5, old_round, 1));

    queue(&confirm, &outcome);
    kv_confirm_start(&confirm, 6, 101, 1001);
    assert_false(kv_confirm_ack(&confirm, 6, old_round, 1));
    assert_false(kv_confirm_ack(&confirm, 5, confirm.round, 1));
    assert_false(kv_confirm_has_majority(&confirm, 3));
    kv_confirm_fail(&confirm);
    assert_int_equal(outcome.calls, 1);
}

static void even_clusters_need_more_than_half(void **state)
{
    struct kv_confirm confirm = {0};
    struct outcome outcome;

    (void)state;
    queue(&confirm, &outcome);
    kv_confirm_start(&confirm, 1, 1, 1);
    assert_true(kv_confirm_ack(&confirm, 1, confirm.round, 0));
    assert_true(kv_confirm_has_majority(&confirm, 1));
    assert_true(kv_confirm_ack(&confirm, 1, confirm.round, 1));
    assert_false(kv_confirm_has_majority(&confirm, 4));
    assert_true(kv_confirm_ack(&confirm, 1, confirm.round, 3));
    assert_true(kv_confirm_has_majority(&confirm, 4));
    kv_confirm_finish(&confirm);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_majority_serves_what_was_queued_before),
        cmocka_unit_test(answers_of_other_rounds_and_terms_do_not_count),
        cmocka_unit_test(even_clusters_need_more_than_half),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
