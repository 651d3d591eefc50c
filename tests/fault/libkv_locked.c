/* Counts under a mutex of libkv, reading and then writing a key, until told to stop (end of input).
 * What it writes is guarded by its fencing token. Prints one line of JSON.
 *
 *     libkv_locked ENDPOINTS NAME KEY TTL_MS [steps|unguarded]
 *
 * steps: once, and between reading and writing it says "read" and waits for a line of input.
 * unguarded: the same without the guard. */
#include <inttypes.h>
#include <kv/kv.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PATIENCE_MS = 60000, HOLD_MS = 20 };

struct counted {
    unsigned long done;
    unsigned long refused; /* the guard said no */
    unsigned long lost;    /* its place in the queue was: it was stopped while it waited */
    unsigned long unknown;
};

static struct kv_client *client;
static const char *name, *key;
static uint64_t ttl_ms;
static bool steps, guarded = true;
static atomic_bool stopping;

static void fatal(const char *what, const struct kv_error *error)
{
    fprintf(stderr, "%s: %s\n", what, error->message);
    exit(1);
}

static bool is_stopping(void *arg)
{
    (void)arg;
    return atomic_load(&stopping);
}

static long read_number(void)
{
    struct kv_error error;
    struct kv_pair pair;
    char text[32] = "";
    int status = kv_get(client, kv_bytes_str(key), NULL, &pair, &error);

    if (status == KV_NOT_FOUND) {
        return 0;
    }
    if (status < 0) {
        fatal("get", &error);
    }
    memcpy(text, pair.value.data, pair.value.size < sizeof text ? pair.value.size : 0);
    kv_pair_free(&pair);
    return strtol(text, NULL, 10);
}

static void write_number(struct kv_lock *lock, long number, struct counted *counted)
{
    struct kv_txn_result result;
    struct kv_error error;
    struct kv_txn *txn;
    char text[32];

    if (kv_txn_begin(client, &txn, &error) < 0) {
        fatal("begin", &error);
    }
    if (guarded) {
        kv_lock_guard(lock, txn);
    }
    snprintf(text, sizeof text, "%ld", number);
    kv_txn_put(txn, kv_bytes_str(key), kv_bytes_str(text));
    if (kv_txn_commit(txn, NULL, &result, &error) < 0) {
        fprintf(stderr, "commit: %s\n", error.message);
        counted->unknown++;
        return;
    }
    counted->done += result.succeeded;
    counted->refused += !result.succeeded;
    kv_txn_result_free(&result);
}

/* The lock's holder does not look at its state before it writes, as one does that was stopped just
 * behind such a look: the guard alone protects. */
static void count_once(struct counted *counted)
{
    struct kv_lock_options options = {
        .name = kv_bytes_str(name), .ttl_ms = ttl_ms, .stop = is_stopping};
    char pid[32];
    struct kv_lock *lock;
    struct kv_error error;
    char line[16];
    long number;

    snprintf(pid, sizeof pid, "%ld", (long)getpid());
    options.value = kv_bytes_str(pid);
    if (kv_lock_acquire(client, &options, &lock, &error) < 0) {
        counted->lost++;
        return;
    }
    number = read_number();
    if (steps) {
        printf("read\n");
        fflush(stdout);
        if (!fgets(line, sizeof line, stdin)) {
            exit(1);
        }
    } else {
        (void)kv_lock_wait(lock, KV_LEASE_HELD, HOLD_MS);
    }
    write_number(lock, number + 1, counted);
    kv_lock_release(lock);
}

static void *count_all(void *arg)
{
    while (!atomic_load(&stopping)) {
        count_once(arg);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argv[1], .deadline_ms = PATIENCE_MS};
    struct counted counted = {0};
    struct kv_error error;
    pthread_t thread;
    char line[16];

    if (argc < 5) {
        return 2;
    }
    name = argv[2];
    key = argv[3];
    ttl_ms = strtoull(argv[4], NULL, 10);
    steps = argc > 5;
    guarded = argc < 6 || strcmp(argv[5], "unguarded") != 0;
    if (kv_client_open(&options, &client, &error) < 0) {
        fatal("open", &error);
    }
    if (steps) {
        count_once(&counted);
    } else {
        if (pthread_create(&thread, NULL, count_all, &counted) != 0) {
            abort();
        }
        while (fgets(line, sizeof line, stdin)) {
        }
        atomic_store(&stopping, true);
        pthread_join(thread, NULL);
    }
    printf("{\"done\": %lu, \"refused\": %lu, \"lost\": %lu, \"unknown\": %lu}\n",
           counted.done,
           counted.refused,
           counted.lost,
           counted.unknown);
    kv_client_close(client);
    return 0;
}
