/* Workers of which one works at a time: the leader. Start several, under different names.
 *
 *     election ENDPOINTS NAME [TTL_MS]
 *
 * When the leader dies, another takes over within TTL_MS (3000 unless given). A leader that was
 * only asleep may wake up and believe that it still leads; so each step is a transaction that
 * happens only while its fencing token is the present one. */
#include <inttypes.h>
#include <kv/kv.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#define ELECTION kv_bytes_str("workers")
#define STEPS kv_bytes_str("work:steps")
enum { STEP_MS = 50, TTL_DEFAULT_MS = 3000 };

static volatile sig_atomic_t ended;

static void on_signal(int number)
{
    (void)number;
    ended = 1;
}

static bool stop(void *arg)
{
    (void)arg;
    return ended;
}

/* One step: a line in a list that tells who did it, with which token. 1: done; 0: refused. */
static int step(struct kv_client *client,
                const struct kv_lock *lock,
                const char *name,
                struct kv_error *ret_error)
{
    struct kv_txn_result result;
    struct kv_txn *txn;
    char line[100];
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    snprintf(line, sizeof line, "%" PRId64 " %s", kv_lock_token(lock), name);
    kv_lock_guard(lock, txn);
    kv_txn_list_push(txn, STEPS, KV_LIST_RIGHT, kv_bytes_str(line));
    status = kv_txn_commit(txn, NULL, &result, ret_error);
    if (status == 0) {
        status = result.succeeded;
        kv_txn_result_free(&result);
    }
    return status;
}

/* Until it leads no more. */
static void lead(struct kv_client *client, struct kv_lock *lock, const char *name)
{
    enum kv_lease_state state;
    struct kv_error error;

    /* The pause between two steps ends early when something happens to the lock. */
    while (!ended && (state = kv_lock_wait(lock, KV_LEASE_HELD, STEP_MS)) != KV_LEASE_LOST) {
        int status;

        if (state == KV_LEASE_IN_DOUBT) {
            /* Not reachable in time: nothing is done until it is certain again, one way or the
             * other. */
            (void)kv_lock_wait(lock, KV_LEASE_IN_DOUBT, STEP_MS);
            continue;
        }
        status = step(client, lock, name, &error);
        if (status == 0) {
            return;
        }
        if (status < 0) {
            fprintf(stderr, "%s: %s: %s\n", name, kv_status_name(status), error.message);
        }
    }
}

/* Will it be better later? KV_NOT_FOUND: its place in the queue was lost while it waited. */
static bool passes(int status)
{
    enum kv_retry retry = kv_status_retry(status);

    return retry == KV_RETRY_LATER || retry == KV_RETRY_ELSEWHERE || retry == KV_RETRY_UNKNOWN ||
           status == KV_NOT_FOUND;
}

static int run(struct kv_client *client, const char *name, uint64_t ttl_ms, struct kv_error *error)
{
    struct kv_lock_options options = {
        .name = ELECTION, .value = kv_bytes_str(name), .ttl_ms = ttl_ms, .stop = stop};

    while (!ended) {
        struct kv_election *election;
        int status = kv_election_campaign(client, &options, &election, error);

        if (status < 0 && passes(status)) {
            if (!ended) {
                fprintf(stderr, "%s: queues anew: %s\n", name, error->message);
            }
            continue;
        }
        if (status < 0) {
            return status;
        }
        printf(
            "%s leads with token %" PRId64 "\n", name, kv_lock_token(kv_election_lock(election)));
        fflush(stdout);
        lead(client, kv_election_lock(election), name);
        printf("%s leads no more\n", name);
        fflush(stdout);
        kv_election_resign(election);
    }
    return 0;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    uint64_t ttl_ms = argc > 3 ? strtoull(argv[3], NULL, 10) : TTL_DEFAULT_MS;
    struct kv_client *client;
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status == 0) {
        signal(SIGTERM, on_signal);
        signal(SIGINT, on_signal);
        status = run(client, argc > 2 ? argv[2] : "worker", ttl_ms, &error);
        kv_client_close(client);
    }
    if (status < 0) {
        fprintf(stderr, "%s: %s\n", kv_status_name(status), error.message);
    }
    return status < 0;
}
