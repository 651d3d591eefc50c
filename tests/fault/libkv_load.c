/* Puts, gets and appends through libkv from many threads until told to stop (end of input); prints
 * one line of JSON: how many were done, how many failed and how, and the longest time between two
 * answers of one thread. Each thread appends ascending numbers to keys of its own, then looks:
 * every one that was acknowledged is there once, every other once at most. */
#include <kv/client.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256, BLOCK = 200, KEY_BYTES = 64 };

struct worker {
    pthread_t thread;
    struct kv_client *client;
    unsigned number;
    unsigned long done;
    unsigned long failed;
    unsigned long unknown; /* of those: may have been done */
    unsigned long lost;    /* reads that did not show the thread's own last write */
    unsigned long appended;
    unsigned long wrong; /* appends that are not there, or twice */
    bool acknowledged[BLOCK];
    double gap_s;
    char message[512];
};

static atomic_bool stopping;

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void note(struct worker *worker, int status, const struct kv_error *error)
{
    if (status == 0) {
        worker->done++;
        return;
    }
    worker->failed++;
    worker->unknown += kv_status_retry(status) == KV_RETRY_UNKNOWN;
    snprintf(worker->message, sizeof worker->message, "%s", error->message);
}

static void append_key(const struct worker *worker, unsigned long i, char key[KEY_BYTES])
{
    /* Of this process alone: another may have run before. */
    snprintf(key, KEY_BYTES, "append/%ld/%u/%lu", (long)getpid(), worker->number, i / BLOCK);
}

/* The numbers of the block before i. */
static void check_block(struct worker *worker, unsigned long i)
{
    struct kv_pair pair;
    struct kv_error error;
    char key[KEY_BYTES];
    unsigned counts[BLOCK] = {0};
    unsigned long before = 0;
    char *text;
    char *end;

    append_key(worker, i - 1, key);
    if (kv_get(worker->client, kv_bytes_str(key), NULL, &pair, &error) != 0) {
        worker->wrong++;
        return;
    }
    text = calloc(1, pair.value.size + 1);
    if (!text) {
        abort();
    }
    memcpy(text, pair.value.data, pair.value.size);
    for (char *p = text; *p != '\0'; p = end + 1) {
        unsigned long number = strtoul(p, &end, 10);

        worker->wrong += number < before;
        before = number;
        counts[number % BLOCK]++;
    }
    for (unsigned long k = 0; k < BLOCK; k++) {
        worker->wrong += counts[k] > 1 || (worker->acknowledged[k] && counts[k] == 0);
        worker->acknowledged[k] = false;
    }
    free(text);
    kv_pair_free(&pair);
}

static void append(struct worker *worker, unsigned long i)
{
    struct kv_error error;
    char key[KEY_BYTES];
    char value[32];
    int status;

    append_key(worker, i, key);
    snprintf(value, sizeof value, "%lu;", i);
    status = kv_append(worker->client, kv_bytes_str(key), kv_bytes_str(value), NULL, NULL, &error);
    note(worker, status, &error);
    worker->acknowledged[i % BLOCK] = status == 0;
    worker->appended += status == 0;
    if ((i + 1) % BLOCK == 0) {
        check_block(worker, i + 1);
    }
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    double last_s = now_s();
    char key[32];
    char value[32];
    unsigned long i;

    snprintf(key, sizeof key, "load/%u", worker->number);
    for (i = 0; !atomic_load(&stopping); i++) {
        struct kv_error error;
        struct kv_pair pair;
        double s;
        int status;

        snprintf(value, sizeof value, "%lu", i);
        status = kv_put(worker->client, kv_bytes_str(key), kv_bytes_str(value), NULL, NULL, &error);
        note(worker, status, &error);
        if (status == 0) {
            status = kv_get(worker->client, kv_bytes_str(key), NULL, &pair, &error);
            note(worker, status, &error);
            if (status == 0) {
                worker->lost += pair.value.size != strlen(value) ||
                                memcmp(pair.value.data, value, pair.value.size) != 0;
                kv_pair_free(&pair);
            }
        }
        append(worker, i);
        s = now_s();
        worker->gap_s = s - last_s > worker->gap_s ? s - last_s : worker->gap_s;
        last_s = s;
    }
    if (i % BLOCK != 0) {
        check_block(worker, i);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS_MAX];
    struct kv_client_options options = {.endpoints = argc > 2 ? argv[1] : NULL, .name = "load"};
    unsigned n = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    struct worker sum = {.message = ""};
    struct kv_client *client;
    struct kv_error error;

    if (n < 1 || n > THREADS_MAX || kv_client_open(&options, &client, &error) < 0) {
        fprintf(stderr, "usage: libkv_load ENDPOINTS THREADS\n");
        return 1;
    }
    for (unsigned i = 0; i < n; i++) {
        workers[i].client = client;
        workers[i].number = i;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]) != 0) {
            return 1;
        }
    }
    while (getchar() != EOF) {
    }
    atomic_store(&stopping, true);
    for (unsigned i = 0; i < n; i++) {
        pthread_join(workers[i].thread, NULL);
        sum.done += workers[i].done;
        sum.failed += workers[i].failed;
        sum.unknown += workers[i].unknown;
        sum.lost += workers[i].lost;
        sum.appended += workers[i].appended;
        sum.wrong += workers[i].wrong;
        sum.gap_s = workers[i].gap_s > sum.gap_s ? workers[i].gap_s : sum.gap_s;
        if (workers[i].message[0] != '\0') {
            memcpy(sum.message, workers[i].message, sizeof sum.message);
        }
    }
    kv_client_close(client);
    printf("{\"done\": %lu, \"appended\": %lu, \"wrong\": %lu, \"failed\": %lu, \"unknown\": %lu, "
           "\"lost\": %lu, \"gap_ms\": %.1f, \"message\": \"%s\"}\n",
           sum.done,
           sum.appended,
           sum.wrong,
           sum.failed,
           sum.unknown,
           sum.lost,
           sum.gap_s * 1e3,
           sum.message);
    return 0;
}
