/* A job queue: workers wait for jobs, a job in work is kept aside until it is done, and what a dead
 * worker left is given back. */
#include <kv/kv.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define JOBS kv_bytes_str("jobs")
#define RUNNING kv_bytes_str("jobs:running")
#define DONE kv_bytes_str("jobs:done")
enum { WORKERS = 3, N_JOBS = 9, WAIT_MS = 10000 };

static struct kv_client *client;

static int fail(int status, const struct kv_error *error)
{
    fprintf(stderr, "%s: %s\n", kv_status_name(status), error->message);
    return 1;
}

static int add_jobs(struct kv_error *ret_error)
{
    for (int i = 1; i <= N_JOBS; i++) {
        char job[16];
        struct kv_bytes element;
        int status;

        snprintf(job, sizeof job, "job %d", i);
        element = kv_bytes_str(job);
        status = kv_list_push(client, JOBS, KV_LIST_RIGHT, &element, 1, NULL, NULL, ret_error);
        if (status < 0) {
            return status;
        }
    }
    return 0;
}

/* Takes a job and notes in the same change that it runs. KV_NOT_FOUND: there is none. */
static int take(struct kv_elements *ret_job, struct kv_error *ret_error)
{
    struct kv_list_place from = {JOBS, KV_LIST_LEFT};
    struct kv_list_place to = {RUNNING, KV_LIST_RIGHT};

    return kv_list_move(client, &from, &to, NULL, ret_job, ret_error);
}

static int finish(struct kv_bytes job, struct kv_error *ret_error)
{
    struct kv_txn_result result;
    struct kv_txn *txn;
    int status = kv_txn_begin(client, &txn, ret_error);

    if (status < 0) {
        return status;
    }
    kv_txn_list_remove(txn, RUNNING, job);
    kv_txn_counter_add(txn, DONE, 1);
    status = kv_txn_commit(txn, NULL, &result, ret_error);
    if (status == 0) {
        kv_txn_result_free(&result);
    }
    return status;
}

static void *work(void *arg)
{
    struct kv_elements job;
    struct kv_error error;
    int status;

    (void)arg;
    while ((status = take(&job, &error)) == 0) {
        status = finish(job.elements[0], &error);
        kv_elements_free(&job);
        if (status < 0) {
            break;
        }
    }
    if (status != KV_NOT_FOUND) {
        fail(status, &error);
    }
    return NULL;
}

/* A worker that died left its job in "running": it goes back to the front. */
static int give_back(uint64_t *ret_count, struct kv_error *ret_error)
{
    struct kv_list_place from = {RUNNING, KV_LIST_RIGHT};
    struct kv_list_place to = {JOBS, KV_LIST_LEFT};
    struct kv_elements job;
    int status;

    *ret_count = 0;
    while ((status = kv_list_move(client, &from, &to, NULL, &job, ret_error)) == 0) {
        kv_elements_free(&job);
        (*ret_count)++;
    }
    return status == KV_NOT_FOUND ? 0 : status;
}

static void *wait_for_message(void *arg)
{
    struct kv_pop_options wait = {.block_ms = WAIT_MS};
    struct kv_elements message;
    struct kv_error error;
    int status = kv_list_pop(client, kv_bytes_str("mail"), KV_LIST_LEFT, &wait, &message, &error);

    (void)arg;
    if (status < 0) {
        fail(status, &error);
        return NULL;
    }
    printf("got %.*s\n", (int)message.elements[0].size, (const char *)message.elements[0].data);
    kv_elements_free(&message);
    return NULL;
}

static int run(struct kv_error *ret_error)
{
    pthread_t threads[WORKERS];
    struct kv_bytes message = kv_bytes_str("a message");
    struct kv_elements lost;
    uint64_t count;
    int64_t done;
    int status = add_jobs(ret_error);

    /* One that takes a job and is never heard of again. */
    if (status == 0) {
        status = take(&lost, ret_error);
    }
    if (status < 0) {
        return status;
    }
    kv_elements_free(&lost);
    status = give_back(&count, ret_error);
    if (status < 0) {
        return status;
    }
    printf("%llu given back\n", (unsigned long long)count);
    for (int i = 0; i < WORKERS; i++) {
        pthread_create(&threads[i], NULL, work, NULL);
    }
    for (int i = 0; i < WORKERS; i++) {
        pthread_join(threads[i], NULL);
    }
    status = kv_counter_get(client, DONE, NULL, &done, ret_error);
    if (status < 0) {
        return status;
    }
    printf("%lld jobs done\n", (long long)done);
    /* Where waiting is better than asking again: a blocking pop. */
    pthread_create(&threads[0], NULL, wait_for_message, NULL);
    status = kv_list_push(
        client, kv_bytes_str("mail"), KV_LIST_RIGHT, &message, 1, NULL, NULL, ret_error);
    pthread_join(threads[0], NULL);
    return status;
}

int main(int argc, char **argv)
{
    struct kv_client_options options = {.endpoints = argc > 1 ? argv[1] : "127.0.0.1:4700"};
    struct kv_error error = {0};
    int status = kv_client_open(&options, &client, &error);

    if (status == 0) {
        status = run(&error);
        kv_client_close(client);
    }
    return status < 0 ? fail(status, &error) : 0;
}
