/* Leases that libkv keeps alive, each with a key under held/, while whatever happens to the
 * cluster, until told to stop (end of input). One thread watches the keys, another asks for them: a
 * key that has gone while its lease is said to be held is what must not be. Prints one line of
 * JSON.
 *
 *     libkv_leases ENDPOINTS LEASES TTL_MS [doctored]
 *
 * doctored: the first key has a time of its own instead of its lease, so that it does go. */
#include <inttypes.h>
#include <kv/kv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { LEASES_MAX = 10000, PATIENCE_MS = 30000, DOCTORED_MS = 1000 };

struct held {
    struct kv_lease *lease;
    char key[32];
    atomic_uint expired; /* events */
};

static struct held leases[LEASES_MAX];
static unsigned n_leases;
static struct kv_client *client;
static atomic_bool stopping;
static atomic_ulong n_doubts, n_lost, n_looks, n_torn; /* torn: gone, and said to be held */
static struct kv_watch *watch;

static void fatal(const char *what, const struct kv_error *error)
{
    fprintf(stderr, "%s: %s\n", what, error->message);
    exit(1);
}

static void on_lease(void *arg, enum kv_lease_state state, const struct kv_error *why)
{
    (void)arg;
    (void)why;
    atomic_fetch_add(&n_doubts, state == KV_LEASE_IN_DOUBT);
    atomic_fetch_add(&n_lost, state == KV_LEASE_LOST);
}

/* Asked after it was seen that the key has gone: it had before, so it must not be held now. */
static void key_has_gone(struct held *held)
{
    if (kv_lease_state(held->lease) == KV_LEASE_HELD) {
        fprintf(stderr, "%s has gone, its lease is said to be held\n", held->key);
        atomic_fetch_add(&n_torn, 1);
    }
}

static void hold(struct held *held, uint64_t ttl_ms, bool doctored)
{
    struct kv_lease_options options = {.ttl_ms = ttl_ms, .fn = on_lease};
    struct kv_put_options put = {0};
    struct kv_error error;

    if (kv_lease_hold(client, &options, &held->lease, &error) < 0) {
        fatal("lease", &error);
    }
    put.lease_id = doctored ? 0 : kv_lease_id(held->lease);
    put.ttl_ms = doctored ? DOCTORED_MS : 0;
    if (kv_put(client, kv_bytes_str(held->key), kv_bytes_str("x"), &put, NULL, &error) < 0) {
        fatal("put", &error);
    }
}

static void *follow(void *arg)
{
    struct kv_event_batch *batch;
    struct kv_error error;
    int status;

    (void)arg;
    while ((status = kv_watch_next(watch, PATIENCE_MS, &batch, &error)) >= 0) {
        for (size_t i = 0; status == 1 && i < batch->n_events; i++) {
            struct held *held =
                &leases[strtoul((const char *)batch->events[i].pair.key.data + 5, NULL, 10)];

            if (batch->events[i].kind == KV_EVENT_EXPIRE) {
                atomic_fetch_add(&held->expired, 1);
                key_has_gone(held);
            }
        }
        kv_event_batch_free(status == 1 ? batch : NULL);
    }
    if (status != KV_CLOSED) {
        fatal("watch", &error);
    }
    return NULL;
}

static bool is_there(const struct held *held, struct kv_error *ret_error)
{
    struct kv_bytes key = kv_bytes_str(held->key);
    uint64_t count = 1;

    /* Without an answer nothing is known. */
    return kv_exists(client, &key, 1, NULL, NULL, &count, ret_error) < 0 || count == 1;
}

static void *look(void *arg)
{
    struct kv_error error;

    (void)arg;
    for (unsigned i = 0; !atomic_load(&stopping); i = (i + 1) % n_leases) {
        if (!is_there(&leases[i], &error)) {
            key_has_gone(&leases[i]);
        }
        atomic_fetch_add(&n_looks, 1);
    }
    return NULL;
}

static void open_watch(void)
{
    struct kv_watch_options options = {
        .range = {.kind = KV_RANGE_PREFIX, .start = kv_bytes_str("held/")}};
    struct kv_error error;

    if (kv_watch_open(client, &options, &watch, &error) < 0 ||
        kv_watch_started(watch, PATIENCE_MS, NULL, &error) < 0) {
        fatal("watch", &error);
    }
}

static void report(void)
{
    unsigned long twice = 0;
    unsigned long expired = 0;
    unsigned long held = 0;

    for (unsigned i = 0; i < n_leases; i++) {
        expired += atomic_load(&leases[i].expired) > 0;
        twice += atomic_load(&leases[i].expired) > 1;
        held += kv_lease_state(leases[i].lease) == KV_LEASE_HELD;
    }
    printf("{\"held\": %lu, \"doubts\": %lu, \"lost\": %lu, \"expired\": %lu, \"twice\": %lu, "
           "\"torn\": %lu, \"looks\": %lu}\n",
           held,
           atomic_load(&n_doubts),
           atomic_load(&n_lost),
           expired,
           twice,
           atomic_load(&n_torn),
           atomic_load(&n_looks));
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argv[1], .deadline_ms = PATIENCE_MS};
    bool doctored = argc > 4;
    struct kv_error error;
    pthread_t threads[2];
    char line[16];

    n_leases = argc > 3 ? (unsigned)atoi(argv[2]) : 0;
    if (n_leases == 0 || n_leases > LEASES_MAX) {
        return 2;
    }
    if (kv_client_open(&options, &client, &error) < 0) {
        fatal("open", &error);
    }
    open_watch();
    for (unsigned i = 0; i < n_leases; i++) {
        snprintf(leases[i].key, sizeof leases[i].key, "held/%u", i);
        hold(&leases[i], strtoull(argv[3], NULL, 10), doctored && i == 0);
    }
    if (pthread_create(&threads[0], NULL, follow, NULL) != 0 ||
        pthread_create(&threads[1], NULL, look, NULL) != 0) {
        abort();
    }
    printf("ready\n");
    fflush(stdout);
    while (fgets(line, sizeof line, stdin)) {
    }
    atomic_store(&stopping, true);
    pthread_join(threads[1], NULL);
    report();
    kv_watch_stop(watch);
    pthread_join(threads[0], NULL);
    kv_watch_close(watch);
    for (unsigned i = 0; i < n_leases; i++) {
        kv_lease_close(leases[i].lease, false);
    }
    kv_client_close(client);
    return 0;
}
