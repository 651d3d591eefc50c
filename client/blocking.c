/* Blocking calls: a thread of the client's own runs the asynchronous one; callers hand it their
 * requests and sleep. */
#include "client/blocking.h"
#include "common/assert.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

struct kv_client {
    uv_loop_t loop;
    uv_thread_t thread;
    uv_async_t wakeup;
    struct kv_async *async;
    uv_mutex_t mutex; /* guards what follows; taken last */
    struct kv_task *first;
    struct kv_task *last;
    bool closing;
};

/* A call under way; on its caller's stack. What the caller waits for is the job's own: once it has
 * ended, the client may be closed, and is not touched by the caller any more. */
struct job {
    struct kv_task task;
    struct kv_task cancel;
    struct kv_client *client;
    const Kv__Request *request; /* borrowed: the caller sleeps */
    const struct kv_call_options *options;
    uint64_t id; /* of the asynchronous call */
    int status;
    struct kv_error error;
    Kv__Reply *reply; /* owned */

    uv_mutex_t mutex; /* guards what follows */
    uv_cond_t change; /* of that */
    bool ended;
    bool cancelling; /* `cancel` is posted, and has not run */
};

static bool may_stop(const struct job *job)
{
    return job->options && job->options->stop;
}

/* The last that the client's thread does with the job, or with its cancelling. */
static void tell(struct job *job, bool *what, bool value)
{
    uv_mutex_lock(&job->mutex);
    *what = value;
    uv_cond_signal(&job->change);
    uv_mutex_unlock(&job->mutex);
}

static void end_job(struct job *job)
{
    tell(job, &job->ended, true);
}

/* A reply that outlives the callback. */
static Kv__Reply *copy_reply(const Kv__Reply *reply)
{
    size_t size = kv__reply__get_packed_size(reply);
    uint8_t *packed = malloc(size ? size : 1);
    Kv__Reply *copy = NULL;

    if (packed) {
        kv__reply__pack(reply, packed);
        copy = kv__reply__unpack(NULL, size, packed);
    }
    free(packed);
    return copy;
}

static void
on_end(void *arg, int status, const struct Kv__Reply *reply, const struct kv_error *error)
{
    struct job *job = arg;

    job->status = status;
    job->error = *error;
    if (reply) {
        job->reply = copy_reply(reply);
        if (!job->reply) {
            job->status = kv_error_set(&job->error, KV_NO_MEMORY, "out of memory for the reply");
        }
    }
    end_job(job);
}

static void start_job(struct kv_task *task, struct kv_async *async)
{
    struct job *job = (struct job *)((char *)task - offsetof(struct job, task));
    int status = kv_async_call(async, job->request, job->options, on_end, job, &job->id);

    if (status < 0) {
        job->status = kv_error_set(
            &job->error, status, "the request cannot be sent: %s", kv_status_text(status));
        end_job(job);
    }
}

static void on_wakeup(uv_async_t *wakeup)
{
    struct kv_client *client = wakeup->data;
    struct kv_task *task;
    bool closing;

    uv_mutex_lock(&client->mutex);
    task = client->first;
    client->first = NULL;
    client->last = NULL;
    closing = client->closing;
    uv_mutex_unlock(&client->mutex);
    while (task) {
        /* Its caller may go on, and take it away, as soon as it is started. */
        struct kv_task *next = task->next;

        task->run(task, client->async);
        task = next;
    }
    if (closing) {
        kv_async_close(client->async, NULL, NULL);
        client->async = NULL;
        uv_close((uv_handle_t *)wakeup, NULL);
    }
}

static void run(void *arg)
{
    struct kv_client *client = arg;

    uv_run(&client->loop, UV_RUN_DEFAULT);
}

/* Signals are for the threads of the program, not for this one. */
static int start_thread(struct kv_client *client)
{
    sigset_t all;
    sigset_t before;
    int status;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    status = uv_thread_create(&client->thread, run, client);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return status;
}

int kv_client_open(const struct kv_client_options *options,
                   struct kv_client **ret_client,
                   struct kv_error *ret_error)
{
    struct kv_client *client = calloc(1, sizeof *client);
    int status;

    if (!client) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
    }
    status = uv_loop_init(&client->loop);
    if (status < 0) {
        free(client);
        return kv_error_set(ret_error, KV_IO, "no event loop: %s", uv_strerror(status));
    }
    status = kv_async_open(&client->loop, options, &client->async, ret_error);
    if (status < 0) {
        goto close_loop;
    }
    if (uv_mutex_init(&client->mutex) < 0) {
        status = kv_error_set(ret_error, KV_NO_MEMORY, "out of memory");
        goto close_async;
    }
    status = uv_async_init(&client->loop, &client->wakeup, on_wakeup);
    client->wakeup.data = client;
    if (status == 0) {
        status = start_thread(client);
        if (status < 0) {
            uv_close((uv_handle_t *)&client->wakeup, NULL);
        }
    }
    if (status == 0) {
        *ret_client = client;
        return 0;
    }
    status = kv_error_set(ret_error, KV_IO, "no thread for the client: %s", uv_strerror(status));
    uv_mutex_destroy(&client->mutex);
close_async:
    kv_async_close(client->async, NULL, NULL);
    uv_run(&client->loop, UV_RUN_DEFAULT);
close_loop:
    KV_ASSERT(uv_loop_close(&client->loop) == 0);
    free(client);
    return status;
}

void kv_client_close(struct kv_client *client)
{
    if (!client) {
        return;
    }
    uv_mutex_lock(&client->mutex);
    client->closing = true;
    uv_mutex_unlock(&client->mutex);
    uv_async_send(&client->wakeup);
    uv_thread_join(&client->thread);
    KV_ASSERT(uv_loop_close(&client->loop) == 0);
    uv_mutex_destroy(&client->mutex);
    free(client);
}

bool kv_client_post(struct kv_client *client, struct kv_task *task)
{
    bool closing;

    task->next = NULL;
    uv_mutex_lock(&client->mutex);
    closing = client->closing;
    if (!closing) {
        *(client->last ? &client->last->next : &client->first) = task;
        client->last = task;
    }
    uv_mutex_unlock(&client->mutex);
    if (!closing) {
        uv_async_send(&client->wakeup);
    }
    return !closing;
}

struct visit {
    struct kv_task task;
    void (*fn)(void *arg, struct kv_async *async);
    void *arg;
    uv_sem_t done;
};

static void run_visit(struct kv_task *task, struct kv_async *async)
{
    struct visit *visit = (struct visit *)((char *)task - offsetof(struct visit, task));

    visit->fn(visit->arg, async);
    uv_sem_post(&visit->done);
}

void kv_client_do(struct kv_client *client,
                  void (*fn)(void *arg, struct kv_async *async),
                  void *arg)
{
    struct visit visit = {.task.run = run_visit, .fn = fn, .arg = arg};

    /* With 0 it cannot fail. */
    KV_ASSERT(uv_sem_init(&visit.done, 0) == 0);
    /* What visits (leases, streams) ends before its client does. */
    KV_ASSERT(kv_client_post(client, &visit.task));
    uv_sem_wait(&visit.done);
    uv_sem_destroy(&visit.done);
}

static void cancel_job(struct kv_task *task, struct kv_async *async)
{
    struct job *job = (struct job *)((char *)task - offsetof(struct job, cancel));

    /* One that has ended meanwhile is known no more. */
    kv_async_cancel(async, job->id);
    tell(job, &job->cancelling, false);
}

/* Until the job has ended, which it does soon when it is told to. */
static void wait_for_job(struct job *job)
{
    bool stopped = false;

    uv_mutex_lock(&job->mutex);
    while (may_stop(job) && !job->ended && !stopped) {
        int status =
            uv_cond_timedwait(&job->change, &job->mutex, KV_WAIT_LOOK_MS * UINT64_C(1000000));

        if (status == UV_ETIMEDOUT && !job->ended) {
            uv_mutex_unlock(&job->mutex);
            stopped = job->options->stop(job->options->stop_arg);
            uv_mutex_lock(&job->mutex);
        }
    }
    if (!job->ended) {
        /* The client is still there: it is closed only when its thread has ended the job, which
         * waits for the mutex. One that is closing ends the job without being told. */
        job->cancelling = stopped && kv_client_post(job->client, &job->cancel);
    }
    while (!job->ended || job->cancelling) {
        uv_cond_wait(&job->change, &job->mutex);
    }
    uv_mutex_unlock(&job->mutex);
}

static int run_job(struct job *job)
{
    if (uv_mutex_init(&job->mutex) < 0) {
        return kv_error_set(&job->error, KV_NO_MEMORY, "out of memory");
    }
    if (uv_cond_init(&job->change) < 0) {
        uv_mutex_destroy(&job->mutex);
        return kv_error_set(&job->error, KV_NO_MEMORY, "out of memory");
    }
    if (kv_client_post(job->client, &job->task)) {
        wait_for_job(job);
    } else {
        job->status = kv_error_set(&job->error, KV_CLOSED, "the client is being closed");
    }
    uv_cond_destroy(&job->change);
    uv_mutex_destroy(&job->mutex);
    return job->status;
}

int kv_call(struct kv_client *client,
            const struct Kv__Request *request,
            const struct kv_call_options *options,
            struct Kv__Reply **ret_reply,
            struct kv_error *ret_error)
{
    struct job job = {.task.run = start_job,
                      .cancel.run = cancel_job,
                      .client = client,
                      .request = request,
                      .options = options};
    int status;

    if (ret_reply) {
        *ret_reply = NULL;
    }
    if (may_stop(&job) && options->stop(options->stop_arg)) {
        return kv_error_set(ret_error, KV_CLOSED, "stopped by the caller: nothing was done");
    }
    status = run_job(&job);
    if (status < 0 && ret_error) {
        *ret_error = job.error;
    }
    if (ret_reply) {
        *ret_reply = job.reply;
    } else {
        kv_reply_free(job.reply);
    }
    return status;
}

void kv_reply_free(struct Kv__Reply *reply)
{
    kv__reply__free_unpacked(reply, NULL);
}
