/* Blocking watches, subscriptions and held leases without any server: what they say, and how other
 * threads end them. What they do with servers: fault/libkv_follow. */
#include "client/blocking.h"
#include "tests/support/client_play.h"

#include <kv/kv.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <uv.h>

/* Nobody listens there. */
#define NOWHERE "127.0.0.1:1"

enum { LONG_MS = 60000, SHORT_MS = 20 };

static const struct kv_watch_options everything = {.range = {.kind = KV_RANGE_ALL}};

static struct kv_client *open_client(bool impatient)
{
    const struct kv_client_options options = {.endpoints = NOWHERE, .impatient = impatient};
    struct kv_client *client;

    assert_int_equal(kv_client_open(&options, &client, NULL), 0);
    return client;
}

static void test_nothing_comes(void **state)
{
    struct kv_client *client = open_client(false);
    struct kv_event_batch *batch = NULL;
    struct kv_watch *watch;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_watch_open(client, &everything, &watch, &error), 0);
    assert_int_equal(kv_watch_started(watch, SHORT_MS, NULL, &error), KV_DEADLINE);
    assert_int_equal(kv_watch_next(watch, SHORT_MS, &batch, &error), 0);
    assert_int_equal(kv_watch_next(watch, 0, &batch, &error), 0);
    assert_int_equal(kv_watch_position(watch), 0);
    assert_int_equal(kv_watch_oldest(watch), 0);
    assert_null(batch);
    kv_watch_close(watch);
    kv_watch_close(NULL);
    kv_event_batch_free(NULL);
    kv_client_close(client);
}

struct patience {
    int asked;
    int until; /* how often it says no */
    pthread_t thread;
};

static bool lose_patience(void *arg)
{
    struct patience *patience = arg;

    assert_true(pthread_equal(pthread_self(), patience->thread));
    return patience->asked++ >= patience->until;
}

static void test_calls_are_stopped(void **state)
{
    struct patience patience = {.thread = pthread_self()};
    struct kv_put_options put = {.call = {LONG_MS, .stop = lose_patience, .stop_arg = &patience}};
    struct kv_get_options get = {.call = put.call};
    struct kv_client *client = open_client(false);
    struct kv_bytes key = kv_bytes_str("k");
    struct kv_pair pair;
    struct kv_error error;

    (void)state;
    /* Before anything is sent, and while it waits. */
    assert_int_equal(kv_put(client, key, key, &put, NULL, &error), KV_CLOSED);
    assert_int_equal(patience.asked, 1);
    patience = (struct patience){.until = 3, .thread = pthread_self()};
    assert_int_equal(kv_put(client, key, key, &put, NULL, &error), KV_CLOSED);
    assert_string_equal(error.message, "stopped by the caller: nothing was done");
    assert_int_equal(patience.asked, 4);
    patience.asked = 0;
    assert_int_equal(kv_get(client, key, &get, &pair, &error), KV_CLOSED);
    assert_string_equal(error.message, "stopped by the caller");
    assert_int_equal(patience.asked, 4);
    /* One that ends by itself is not kept by who has patience. */
    patience = (struct patience){.until = INT_MAX, .thread = pthread_self()};
    get.call.deadline_ms = SHORT_MS;
    assert_int_equal(kv_get(client, key, &get, &pair, &error), KV_CLOSED);
    assert_non_null(strstr(error.message, NOWHERE));
    kv_client_close(client);
}

struct interruption {
    struct kv_client *client;
    int asked;
    bool answer;     /* of `stop`, once the client is closed */
    sem_t under_way; /* the call waits, and asks whether it is to stop */
    sem_t closed;    /* the client is no more */
    int status;
    struct kv_error error;
};

static bool look_after_the_close(void *arg)
{
    struct interruption *interruption = arg;

    if (interruption->asked++ == 0) {
        return false;
    }
    assert_int_equal(sem_post(&interruption->under_way), 0);
    assert_int_equal(sem_wait(&interruption->closed), 0);
    return interruption->answer;
}

static void *get_interrupted(void *arg)
{
    struct interruption *interruption = arg;
    struct kv_get_options get = {
        .call = {LONG_MS, .stop = look_after_the_close, .stop_arg = interruption}};
    struct kv_pair pair;

    interruption->status =
        kv_get(interruption->client, kv_bytes_str("k"), &get, &pair, &interruption->error);
    return NULL;
}

/* The close ends the call while its thread is in `stop`: whatever that says, the thread has nothing
 * left to do with the client. */
static void test_closed_while_a_call_asks(void **state)
{
    (void)state;
    for (int answer = 0; answer < 2; answer++) {
        struct interruption interruption = {.client = open_client(false), .answer = answer};
        pthread_t thread;

        assert_int_equal(sem_init(&interruption.under_way, 0, 0), 0);
        assert_int_equal(sem_init(&interruption.closed, 0, 0), 0);
        assert_int_equal(pthread_create(&thread, NULL, get_interrupted, &interruption), 0);
        assert_int_equal(sem_wait(&interruption.under_way), 0);
        kv_client_close(interruption.client);
        assert_int_equal(sem_post(&interruption.closed), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(interruption.status, KV_CLOSED);
        assert_int_equal(interruption.asked, 2);
        sem_destroy(&interruption.closed);
        sem_destroy(&interruption.under_way);
    }
}

struct asker {
    struct kv_client *client;
    int asked;
    uint64_t asked_ns; /* the last time */
    uint64_t
        soonest_ns; /* from one time to the next, all but the first, which is before it waits */
    int status;
    atomic_bool over;
};

static bool ask_five_times(void *arg)
{
    struct asker *asker = arg;
    uint64_t now_ns = uv_hrtime();

    if (asker->asked > 1 && now_ns - asker->asked_ns < asker->soonest_ns) {
        asker->soonest_ns = now_ns - asker->asked_ns;
    }
    asker->asked_ns = now_ns;
    return ++asker->asked == 6;
}

static void *get_asking(void *arg)
{
    struct asker *asker = arg;
    struct kv_get_options get = {.call = {LONG_MS, .stop = ask_five_times, .stop_arg = asker}};
    struct kv_pair pair;

    asker->status = kv_get(asker->client, kv_bytes_str("k"), &get, &pair, NULL);
    atomic_store(&asker->over, true);
    return NULL;
}

static bool never(void *arg)
{
    (void)arg;
    return false;
}

/* Other calls that end do not make it ask more often than ten times a second. */
static void test_others_do_not_make_it_ask(void **state)
{
    struct asker asker = {.client = open_client(false), .soonest_ns = UINT64_MAX};
    struct kv_get_options get = {.call = {.deadline_ms = 1, .stop = never}};
    pthread_t thread;
    struct kv_pair pair;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, get_asking, &asker), 0);
    while (!atomic_load(&asker.over)) {
        assert_true(kv_get(asker.client, kv_bytes_str("k"), &get, &pair, NULL) < 0);
    }
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(asker.status, KV_CLOSED);
    /* Less a tick of the kernel's clock. */
    assert_true(asker.soonest_ns >= (KV_WAIT_LOOK_MS - 10) * MS);
    kv_client_close(asker.client);
}

static void test_a_lock_is_not_waited_for_any_more(void **state)
{
    struct patience patience = {.until = 2, .thread = pthread_self()};
    struct kv_lock_options options = {
        .name = kv_bytes_str("n"), .stop = lose_patience, .arg = &patience};
    struct kv_client *client = open_client(false);
    struct kv_lock *lock = NULL;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_lock_acquire(client, &options, &lock, &error), KV_CLOSED);
    /* By the call, and whether that was why. */
    assert_int_equal(patience.asked, 4);
    assert_null(lock);
    assert_int_equal(kv_lock_release(NULL), 0);
    kv_client_close(client);
}

static void *wait_next(void *arg)
{
    struct kv_event_batch *batch;
    struct kv_error error;

    return (void *)(intptr_t)kv_watch_next(arg, LONG_MS, &batch, &error);
}

static void test_stopped_by_another_thread(void **state)
{
    struct kv_client *client = open_client(false);
    struct kv_event_batch *batch;
    struct kv_watch *watch;
    pthread_t threads[4];

    (void)state;
    assert_int_equal(kv_watch_open(client, &everything, &watch, NULL), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(pthread_create(&threads[i], NULL, wait_next, watch), 0);
    }
    kv_watch_stop(watch);
    for (int i = 0; i < 4; i++) {
        void *status;

        assert_int_equal(pthread_join(threads[i], &status), 0);
        assert_int_equal((intptr_t)status, KV_CLOSED);
    }
    assert_int_equal(kv_watch_next(watch, LONG_MS, &batch, NULL), KV_CLOSED);
    assert_int_equal(kv_watch_started(watch, LONG_MS, NULL, NULL), KV_CLOSED);
    kv_watch_close(watch);
    kv_client_close(client);
}

static void test_no_leader_is_no_end(void **state)
{
    struct kv_subscribe_options options = {.topic = kv_bytes_str("t"),
                                           .require_leader_ms = KV_CLIENT_PROGRESS_MIN_MS};
    struct kv_client *client = open_client(false);
    struct kv_message_batch *batch;
    struct kv_subscription *subscription;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_subscribe(client, &options, &subscription, &error), 0);
    assert_int_equal(kv_subscription_next(subscription, LONG_MS, &batch, &error), KV_NO_LEADER);
    assert_non_null(strstr(error.message, "100 ms"));
    assert_int_equal(kv_subscription_next(subscription, SHORT_MS, &batch, &error), 0);
    kv_subscription_stop(subscription);
    assert_int_equal(kv_subscription_next(subscription, LONG_MS, &batch, &error), KV_CLOSED);
    assert_int_equal(kv_subscription_position(subscription), 0);
    kv_subscription_close(subscription);
    kv_subscription_close(NULL);
    kv_message_batch_free(NULL);
    kv_client_close(client);
}

static void test_impatient(void **state)
{
    struct kv_lease_options lease_options = {.ttl_ms = 1000};
    struct kv_client *client = open_client(true);
    struct kv_event_batch *batch;
    struct kv_lease *lease = NULL;
    struct kv_watch *watch;
    struct kv_error error;

    (void)state;
    assert_int_equal(kv_watch_open(client, &everything, &watch, &error), 0);
    assert_int_equal(kv_watch_next(watch, LONG_MS, &batch, &error), KV_CLOSED);
    assert_non_null(strstr(error.message, NOWHERE));
    assert_int_equal(kv_watch_started(watch, LONG_MS, NULL, &error), KV_CLOSED);
    kv_watch_close(watch);
    assert_int_equal(kv_lease_hold(client, &lease_options, &lease, &error), KV_CLOSED);
    lease_options.margin_ms = 501;
    assert_int_equal(kv_lease_hold(client, &lease_options, &lease, &error), KV_INVALID);
    assert_null(lease);
    kv_lease_close(NULL, true);
    kv_client_close(client);
}

static void test_wrong_options(void **state)
{
    struct kv_watch_options options = everything;
    struct kv_client *client = open_client(false);
    struct kv_watch *watch = NULL;
    struct kv_error error;

    (void)state;
    options.progress_ms = 1;
    assert_int_equal(kv_watch_open(client, &options, &watch, &error), KV_INVALID);
    assert_non_null(strstr(error.message, "progress_ms"));
    assert_null(watch);
    kv_client_close(client);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_calls_are_stopped),
        cmocka_unit_test(test_closed_while_a_call_asks),
        cmocka_unit_test(test_others_do_not_make_it_ask),
        cmocka_unit_test(test_a_lock_is_not_waited_for_any_more),
        cmocka_unit_test(test_nothing_comes),
        cmocka_unit_test(test_stopped_by_another_thread),
        cmocka_unit_test(test_no_leader_is_no_end),
        cmocka_unit_test(test_impatient),
        cmocka_unit_test(test_wrong_options),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
