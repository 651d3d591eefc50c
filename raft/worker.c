#define _GNU_SOURCE /* pthread_setname_np */
#include "raft/worker.h"

#include "common/assert.h"
#include "raft/wakeup.h"

#include <pthread.h>
#include <stdlib.h>
#include <uv.h>

struct job_list {
    struct kv_job *first;
    struct kv_job *last;
};

struct kv_worker_thread {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct job_list queued; /* under lock */
    struct job_list done;   /* under lock */
    bool stopping;          /* under lock */
    struct kv_wakeup wakeup;
};

static void push(struct job_list *list, struct kv_job *job)
{
    job->next = NULL;
    if (list->last) {
        list->last->next = job;
    } else {
        list->first = job;
    }
    list->last = job;
}

static struct kv_job *pop(struct job_list *list)
{
    struct kv_job *job = list->first;

    if (job) {
        list->first = job->next;
        if (!list->first) {
            list->last = NULL;
        }
    }
    return job;
}

static void *run(void *arg)
{
    struct kv_worker_thread *worker = arg;
    struct kv_job *job;

    pthread_mutex_lock(&worker->lock);
    for (;;) {
        while (!worker->queued.first && !worker->stopping) {
            pthread_cond_wait(&worker->wake, &worker->lock);
        }
        job = pop(&worker->queued);
        if (!job) {
            break;
        }
        pthread_mutex_unlock(&worker->lock);
        job->run(job);
        pthread_mutex_lock(&worker->lock);
        push(&worker->done, job);
        pthread_mutex_unlock(&worker->lock);
        /* Whoever is woken may run at once, and would wait for the lock. */
        kv_wakeup_send(&worker->wakeup);
        pthread_mutex_lock(&worker->lock);
    }
    pthread_mutex_unlock(&worker->lock);
    return NULL;
}

static void on_wakeup(void *arg)
{
    struct kv_worker_thread *worker = arg;
    struct kv_job *job;

    pthread_mutex_lock(&worker->lock);
    job = worker->done.first;
    worker->done = (struct job_list){0};
    pthread_mutex_unlock(&worker->lock);
    while (job) {
        struct kv_job *next = job->next;

        job->done(job);
        job = next;
    }
}

static void submit(void *arg, struct kv_job *job)
{
    struct kv_worker_thread *worker = arg;

    pthread_mutex_lock(&worker->lock);
    push(&worker->queued, job);
    pthread_mutex_unlock(&worker->lock);
    pthread_cond_signal(&worker->wake);
}

static const struct kv_worker_ops ops = {submit};

static void on_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int kv_worker_start(struct uv_loop_s *loop, const char *name, struct kv_worker_thread **ret_worker)
{
    struct kv_worker_thread *worker = calloc(1, sizeof *worker);

    if (!worker) {
        return KV_NO_MEMORY;
    }
    if (kv_wakeup_init(&worker->wakeup, loop, on_wakeup, worker) != 0) {
        free(worker);
        return KV_NO_MEMORY;
    }
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->wake, NULL);
    if (pthread_create(&worker->thread, NULL, run, worker) != 0) {
        pthread_mutex_destroy(&worker->lock);
        pthread_cond_destroy(&worker->wake);
        kv_wakeup_close(&worker->wakeup, on_closed);
        return KV_NO_MEMORY;
    }
    /* For ps and gdb only; a long name is refused, which does no harm. */
    (void)pthread_setname_np(worker->thread, name);
    *ret_worker = worker;
    return 0;
}

struct kv_worker kv_worker_of(struct kv_worker_thread *worker)
{
    return (struct kv_worker){&ops, worker};
}

void kv_worker_stop(struct kv_worker_thread *worker)
{
    if (!worker) {
        return;
    }
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_signal(&worker->wake);
    pthread_mutex_unlock(&worker->lock);
    KV_ASSERT(pthread_join(worker->thread, NULL) == 0);
    pthread_mutex_destroy(&worker->lock);
    pthread_cond_destroy(&worker->wake);
    kv_wakeup_close(&worker->wakeup, on_closed);
}
