/* Real threads and a real loop: no send is lost, whether the loop sleeps or is just waking. */
#include "raft/wakeup.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

enum { SENDERS = 3, SENDS = 20000, AHEAD_MAX = 4 };

static struct {
    uv_loop_t loop;
    struct kv_wakeup wakeup;
    atomic_uint sent;
    atomic_uint seen; /* of sent, by the loop */
    unsigned n_calls;
} test;

static void on_wakeup(void *arg)
{
    unsigned sent = atomic_load(&test.sent);

    assert_ptr_equal(arg, &test);
    test.n_calls++;
    atomic_store(&test.seen, sent);
}

/* Never far ahead, so that the loop goes to sleep again and again: a lost send ends the progress.
 */
static void *send_all(void *arg)
{
    (void)arg;
    for (unsigned i = 0; i < SENDS; i++) {
        unsigned number = atomic_fetch_add(&test.sent, 1) + 1;

        kv_wakeup_send(&test.wakeup);
        while (number - atomic_load(&test.seen) > AHEAD_MAX && number > atomic_load(&test.seen)) {
            sched_yield();
        }
    }
    return NULL;
}

static void every_send_is_seen(void **state)
{
    pthread_t threads[SENDERS];

    (void)state;
    assert_int_equal(uv_loop_init(&test.loop), 0);
    assert_int_equal(kv_wakeup_init(&test.wakeup, &test.loop, on_wakeup, &test), 0);
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, send_all, NULL), 0);
    }
    while (atomic_load(&test.seen) < SENDERS * SENDS) {
        uv_run(&test.loop, UV_RUN_ONCE);
    }
    for (unsigned i = 0; i < SENDERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    }
    kv_wakeup_close(&test.wakeup, NULL);
    uv_run(&test.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&test.loop), 0);
}

static void sends_before_the_loop_looks_are_one_call(void **state)
{
    (void)state;
    test.n_calls = 0;
    atomic_store(&test.sent, 0);
    assert_int_equal(uv_loop_init(&test.loop), 0);
    assert_int_equal(kv_wakeup_init(&test.wakeup, &test.loop, on_wakeup, &test), 0);
    for (unsigned i = 0; i < SENDS; i++) {
        kv_wakeup_send(&test.wakeup);
    }
    assert_int_equal(uv_run(&test.loop, UV_RUN_NOWAIT), 1);
    (void)uv_run(&test.loop, UV_RUN_NOWAIT);
    assert_int_equal(test.n_calls, 1);
    kv_wakeup_close(&test.wakeup, NULL);
    uv_run(&test.loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&test.loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_send_is_seen),
        cmocka_unit_test(sends_before_the_loop_looks_are_one_call),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
