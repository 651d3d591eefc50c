/* Watches, subscriptions and a held lease of libkv while whatever happens to the cluster, until
 * told to stop (end of input). One thread writes: each transaction puts three keys and publishes a
 * message; many threads follow. Then every follower must have seen each acknowledged revision once,
 * complete and in order, and all the same. Prints one line of JSON.
 *
 *     libkv_follow ENDPOINTS FOLLOWERS [topics]
 */
#include <kv/kv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    FOLLOWERS_MAX = 64,
    KEYS = 3,
    REVISIONS_MAX = 1 << 20,
    LEASE_MS = 5000,
    PATIENCE_MS = 30000
};

/* Revisions that a follower saw, in order; what was wrong. */
struct follower {
    pthread_t thread;
    struct kv_client *client;
    bool topics;
    bool slow; /* its queue is full most of the time */
    struct kv_watch *watch;
    struct kv_subscription *subscription;
    int64_t *seen;
    size_t n_seen;
    int64_t partial; /* revision of which not all keys came yet */
    unsigned n_partial;
    unsigned long disorder;
    unsigned long torn; /* revisions that came in parts, or not whole */
    int status;
    struct kv_error error;
};

static atomic_llong last_revision; /* of the last acknowledged write; 0: still writing */
static atomic_bool stopping;
static int64_t *acknowledged;
static size_t n_acknowledged;
static unsigned long n_failed;
static struct kv_error failure;
static atomic_ulong n_doubts;
static atomic_ulong n_lost;

static void fatal(const char *what, const struct kv_error *error)
{
    fprintf(stderr, "%s: %s\n", what, error->message);
    exit(1);
}

/* ---------------------------------------------------------------- the writer */

static int write_once(struct kv_client *client, unsigned long i, bool topics, int64_t *ret_revision)
{
    struct kv_txn_result result;
    struct kv_error error;
    struct kv_txn *txn;
    char number[32];
    int status;

    if (kv_txn_begin(client, &txn, &error) < 0) {
        fatal("begin", &error);
    }
    snprintf(number, sizeof number, "%lu", i);
    for (int k = 0; k < KEYS; k++) {
        char key[32];

        snprintf(key, sizeof key, "follow/%lu/%d", i % 100, k);
        kv_txn_put(txn, kv_bytes_str(key), kv_bytes_str(number));
    }
    if (topics) {
        kv_txn_publish(txn, kv_bytes_str("follow.one"), kv_bytes_str(number));
    }
    status = kv_txn_commit(txn, NULL, &result, &failure);
    if (status == 0) {
        *ret_revision = result.revision;
        kv_txn_result_free(&result);
    }
    return status;
}

struct writer {
    struct kv_client *client;
    bool topics;
};

static void *write_all(void *arg)
{
    const struct writer *writer = arg;

    for (unsigned long i = 0; !atomic_load(&stopping) && n_acknowledged < REVISIONS_MAX; i++) {
        int64_t revision;

        if (write_once(writer->client, i, writer->topics, &revision) == 0) {
            acknowledged[n_acknowledged++] = revision;
        } else {
            n_failed++;
        }
    }
    return NULL;
}

/* ---------------------------------------------------------------- followers */

static void note(struct follower *follower, int64_t revision, unsigned parts)
{
    if (follower->partial != 0 && follower->partial != revision) {
        follower->torn++;
        follower->n_partial = 0;
    }
    follower->partial = revision;
    if (++follower->n_partial < parts) {
        return;
    }
    follower->partial = 0;
    follower->n_partial = 0;
    if (follower->n_seen > 0 && revision <= follower->seen[follower->n_seen - 1]) {
        follower->disorder++;
    }
    if (follower->n_seen < REVISIONS_MAX) {
        follower->seen[follower->n_seen++] = revision;
    }
}

static int next(struct follower *follower)
{
    struct kv_event_batch *events;
    struct kv_message_batch *messages;
    int status;

    if (!follower->topics) {
        status = kv_watch_next(follower->watch, 100, &events, &follower->error);
        for (size_t i = 0; status == 1 && i < events->n_events; i++) {
            note(follower, events->events[i].pair.mod_revision, KEYS);
        }
        kv_event_batch_free(status == 1 ? events : NULL);
        return status;
    }
    status = kv_subscription_next(follower->subscription, 100, &messages, &follower->error);
    for (size_t i = 0; status == 1 && i < messages->n_messages; i++) {
        note(follower, messages->messages[i].revision, 1);
    }
    if (status == 1 && messages->gap_from != 0) {
        follower->disorder++;
    }
    kv_message_batch_free(status == 1 ? messages : NULL);
    return status;
}

static int64_t position(const struct follower *follower)
{
    return follower->topics ? kv_subscription_position(follower->subscription)
                            : kv_watch_position(follower->watch);
}

static void *follow(void *arg)
{
    struct follower *follower = arg;
    unsigned idle = 0;

    while (idle < PATIENCE_MS / 100) {
        int64_t last = atomic_load(&last_revision);

        if (follower->slow && last == 0) {
            usleep(2000);
        }
        if (last != 0 && position(follower) >= last) {
            break;
        }
        follower->status = next(follower);
        if (follower->status < 0) {
            break;
        }
        idle = follower->status == 0 && last != 0 ? idle + 1 : 0;
    }
    return NULL;
}

static void open_follower(struct follower *follower)
{
    struct kv_watch_options watch = {
        .range = {.kind = KV_RANGE_PREFIX, .start = kv_bytes_str("follow/")},
        .queue_bytes = follower->slow ? 64 * 1024 : 0,
    };
    struct kv_subscribe_options subscribe = {
        .topic = kv_bytes_str("follow.*"),
        .pattern = true,
        .queue_bytes = watch.queue_bytes,
    };
    int status;

    follower->seen = malloc(REVISIONS_MAX * sizeof *follower->seen);
    if (!follower->seen) {
        abort();
    }
    status =
        follower->topics
            ? kv_subscribe(follower->client, &subscribe, &follower->subscription, &follower->error)
            : kv_watch_open(follower->client, &watch, &follower->watch, &follower->error);
    if (status == 0) {
        status = follower->topics
                     ? kv_subscription_started(
                           follower->subscription, PATIENCE_MS, NULL, &follower->error)
                     : kv_watch_started(follower->watch, PATIENCE_MS, NULL, &follower->error);
    }
    if (status < 0) {
        fatal("follow", &follower->error);
    }
    if (pthread_create(&follower->thread, NULL, follow, follower) != 0) {
        abort();
    }
}

/* Acknowledged revisions that it did not see. */
static unsigned long missing(const struct follower *follower)
{
    unsigned long n = 0;
    size_t k = 0;

    for (size_t i = 0; i < n_acknowledged; i++) {
        while (k < follower->n_seen && follower->seen[k] < acknowledged[i]) {
            k++;
        }
        n += k == follower->n_seen || follower->seen[k] != acknowledged[i];
    }
    return n;
}

/* ---------------------------------------------------------------- the lease */

static void on_lease(void *arg, enum kv_lease_state state, const struct kv_error *why)
{
    (void)arg;
    (void)why;
    if (state == KV_LEASE_IN_DOUBT) {
        atomic_fetch_add(&n_doubts, 1);
    } else if (state == KV_LEASE_LOST) {
        atomic_fetch_add(&n_lost, 1);
    }
}

/* A key with the lease, which is there as long as the lease is. */
static struct kv_lease *hold_lease(struct kv_client *client)
{
    struct kv_lease_options options = {.ttl_ms = LEASE_MS, .fn = on_lease};
    struct kv_put_options put = {0};
    struct kv_lease *lease;
    struct kv_error error;

    if (kv_lease_hold(client, &options, &lease, &error) < 0) {
        fatal("lease", &error);
    }
    put.lease_id = kv_lease_id(lease);
    if (kv_put(client, kv_bytes_str("leased"), kv_bytes_str("x"), &put, NULL, &error) < 0) {
        fatal("put with a lease", &error);
    }
    return lease;
}

static bool is_leased(struct kv_client *client)
{
    struct kv_bytes key = kv_bytes_str("leased");
    struct kv_error error;
    uint64_t count = 0;

    if (kv_exists(client, &key, 1, NULL, NULL, &count, &error) < 0) {
        fatal("exists", &error);
    }
    return count == 1;
}

/* ---------------------------------------------------------------- main */

static void report(struct follower *followers, unsigned n, bool leased, bool revoked)
{
    unsigned long lacking = 0;
    unsigned long disorder = 0;
    unsigned long torn = 0;
    unsigned long ended = 0;

    for (unsigned i = 0; i < n; i++) {
        lacking += missing(&followers[i]);
        disorder += followers[i].disorder;
        torn += followers[i].torn + (followers[i].partial != 0);
        if (followers[i].status < 0) {
            ended++;
            fprintf(stderr, "follower %u: %s\n", i, followers[i].error.message);
        }
    }
    if (n_failed > 0) {
        fprintf(stderr, "the last failure: %s\n", failure.message);
    }
    printf("{\"writes\": %zu, \"failed\": %lu, \"missing\": %lu, \"disorder\": %lu, \"torn\": %lu, "
           "\"ended\": %lu, \"doubts\": %lu, \"lost\": %lu, \"leased\": %s, \"revoked\": %s}\n",
           n_acknowledged,
           n_failed,
           lacking,
           disorder,
           torn,
           ended,
           atomic_load(&n_doubts),
           atomic_load(&n_lost),
           leased ? "true" : "false",
           revoked ? "true" : "false");
}

int main(int argc, char **argv)
{
    static struct follower followers[FOLLOWERS_MAX];
    struct kv_client_options options = {.endpoints = argv[1], .deadline_ms = PATIENCE_MS};
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    struct writer writer = {.topics = argc > 3};
    struct kv_client *client;
    struct kv_lease *lease;
    struct kv_error error;
    pthread_t thread;
    char line[16];
    bool leased;

    acknowledged = malloc(REVISIONS_MAX * sizeof *acknowledged);
    if (n == 0 || n > FOLLOWERS_MAX || !acknowledged) {
        return 2;
    }
    if (kv_client_open(&options, &client, &error) < 0) {
        fatal("open", &error);
    }
    writer.client = client;
    lease = hold_lease(client);
    for (unsigned i = 0; i < n; i++) {
        followers[i].client = client;
        followers[i].topics = writer.topics && i % 2 == 1;
        followers[i].slow = i % 8 >= 6;
        open_follower(&followers[i]);
    }
    if (pthread_create(&thread, NULL, write_all, &writer) != 0) {
        abort();
    }
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
    }
    atomic_store(&stopping, true);
    pthread_join(thread, NULL);
    atomic_store(&last_revision, n_acknowledged ? acknowledged[n_acknowledged - 1] : 1);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(followers[i].thread, NULL);
        kv_watch_close(followers[i].watch);
        kv_subscription_close(followers[i].subscription);
    }
    leased = is_leased(client);
    kv_lease_close(lease, true);
    report(followers, n, leased, !is_leased(client));
    kv_client_close(client);
    for (unsigned i = 0; i < n; i++) {
        free(followers[i].seen);
    }
    free(acknowledged);
    return 0;
}
