/* A network thread: its loop, its batches to the core, the answers that come back. */
#include "common/assert.h"
#include "common/log.h"
#include "server/net/net_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TICK_MS = 500, TICK_FAST_MS = 20, BACKLOG = 1024, LOG_LINES_PER_SECOND = 10 };

/* ---------------------------------------------------------------- to the core */

/* Hands the batch over, or keeps it and stops reading while the ring is full. */
static void send_batch(struct kv_net_thread *thread)
{
    struct kv_net_batch *batch = thread->batch;

    if (!batch) {
        return;
    }
    if (!batch->first) {
        /* Nothing of it came to be a request; its memory serves again. */
        kv_arena_reset(&batch->arena);
        return;
    }
    thread->stalled = !kv_ring_put(&thread->to_core, batch);
    if (!thread->stalled) {
        thread->batch = NULL;
        if (!thread->gathering) {
            kv_wakeup_send(&thread->server->wake);
        }
    }
}

void kv_net_thread_gather(struct kv_net_thread *thread)
{
    /* The core looks into the ring at once. */
    thread->gathering = true;
    send_batch(thread);
    thread->gathering = false;
}

struct kv_net_batch *kv_net_thread_batch(struct kv_net_thread *thread)
{
    if (thread->batch && thread->batch->arena.used_bytes >= KV_NET_BATCH_BYTES) {
        send_batch(thread);
    }
    if (!thread->batch) {
        thread->batch = kv_net_batch_new(thread);
    }
    return thread->batch;
}

struct kv_net_batch *kv_net_thread_batch_alone(struct kv_net_thread *thread)
{
    struct kv_net_batch *batch;

    send_batch(thread);
    if (thread->batch && thread->batch->first) {
        /* The ring is full: it goes with the others. */
        return thread->batch;
    }
    batch = kv_net_batch_make(thread);
    if (batch) {
        if (thread->batch) {
            kv_net_batch_recycle(thread->batch);
        }
        thread->batch = batch;
    }
    return batch;
}

void kv_net_thread_send(struct kv_net_thread *thread)
{
    send_batch(thread);
}

void kv_net_thread_add(struct kv_net_thread *thread, struct kv_net_item *item)
{
    struct kv_net_batch *batch = thread->batch;

    if (batch->last) {
        batch->last->next = item;
    } else {
        batch->first = item;
    }
    batch->last = item;
}

/* Calls fn for every connection; fn may close the one it is given. */
static void for_each(struct kv_net_thread *thread, void (*fn)(struct kv_conn *conn))
{
    struct kv_conn *conn = thread->conns;

    while (conn) {
        struct kv_conn *next = conn->next;

        fn(conn);
        conn = next;
    }
}

/* ---------------------------------------------------------------- from the core */

static void take_answer(struct kv_net_thread *thread,
                        const struct kv_net_answers *answers,
                        const struct kv_net_answer *answer,
                        uint64_t now_ns)
{
    struct kv_net_request *request = answer->request;

    if (request->is_subscription) {
        request->conn->out_stream_bytes += answer->size;
    }
    if (answer->shared) {
        kv_conn_send_shared(request->conn, request->id, answer->shared);
        kv_shared_release(answer->shared);
        return;
    }
    kv_conn_send_packed(request->conn,
                        request->is_stream ? KV_FRAME_STREAM_ITEM : KV_FRAME_REPLY,
                        kv_slice_of(answers->bytes.data + answer->offset, answer->size));
    if (answer->final) {
        kv_stats_code(&thread->stats, answer->code);
        kv_stats_answered(&thread->stats, request->command, now_ns - request->arrived_ns);
        kv_conn_request_done(request->conn, request);
        kv_net_batch_recycle(request->batch);
    }
}

static void take_answers(struct kv_net_thread *thread)
{
    uint64_t now_ns = thread->server->options.now_ns();
    void *entry;

    while ((entry = kv_ring_take(&thread->from_core))) {
        struct kv_net_answers *answers = entry;

        for (size_t i = 0; i < answers->n_answers; i++) {
            take_answer(thread, answers, &answers->answers[i], now_ns);
        }
        atomic_fetch_sub_explicit(
            &thread->server->answer_bytes, answers->bytes.size, memory_order_relaxed);
        kv_net_answers_recycle(thread, answers);
    }
}

/* Those that had too much under way, and have less now, are read again. */
static void resume_answered(struct kv_net_thread *thread)
{
    for (struct kv_conn *conn = thread->dirty, *next; conn; conn = next) {
        next = conn->next_dirty;
        kv_conn_resume(conn);
    }
}

static void flush_dirty(struct kv_net_thread *thread)
{
    while (thread->dirty) {
        struct kv_conn *conn = thread->dirty;

        thread->dirty = conn->next_dirty;
        if (!thread->dirty) {
            thread->dirty_end = &thread->dirty;
        }
        conn->dirty = false;
        kv_conn_flush(conn);
    }
}

/* ---------------------------------------------------------------- the end */

static void say_goodbye(struct kv_conn *conn)
{
    struct kv_server *server = conn->thread->server;
    char address[sizeof server->goodbye_address];

    uv_mutex_lock(&server->lock);
    memcpy(address, server->goodbye_address, sizeof address);
    uv_mutex_unlock(&server->lock);
    kv_conn_goodbye(conn, KV_SHUTTING_DOWN, "this server is shutting down: use another", address);
}

static void leave(struct kv_net_thread *thread)
{
    if (thread->leaving) {
        return;
    }
    thread->leaving = true;
    uv_close((uv_handle_t *)&thread->listener, NULL);
    for_each(thread, say_goodbye);
}

static void end(struct kv_net_thread *thread)
{
    atomic_store(&thread->ended, true);
    kv_wakeup_send(&thread->server->wake);
}

/* Ends when the last client has gone, or has had its time. Handles stay: the core may still wake
 * them. */
static void check_stop(struct kv_net_thread *thread)
{
    if (thread->stopping_ms == 0) {
        return;
    }
    if (!thread->conns) {
        if (thread->server->is_single) {
            end(thread);
        } else {
            uv_stop(thread->loop);
        }
    } else if (uv_now(thread->loop) - thread->stopping_ms >= thread->server->options.linger_ms) {
        for_each(thread, kv_conn_close);
    }
}

void kv_net_thread_tick_fast(struct kv_net_thread *thread)
{
    uv_timer_set_repeat(&thread->timer, TICK_FAST_MS);
    uv_timer_again(&thread->timer);
}

void kv_net_thread_deliver(struct kv_net_thread *thread)
{
    take_answers(thread);
    resume_answered(thread);
}

static void on_wake(void *arg)
{
    struct kv_net_thread *thread = arg;

    kv_net_thread_deliver(thread);
    if (atomic_load(&thread->leave) || atomic_load(&thread->stop)) {
        leave(thread);
    }
    if (atomic_load(&thread->stop) && thread->stopping_ms == 0) {
        thread->stopping_ms = uv_now(thread->loop);
        kv_net_thread_tick_fast(thread);
    }
}

/* ---------------------------------------------------------------- turns and ticks */

/* The end of each turn: what was decoded goes to the core, what was answered to the clients. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct kv_net_thread *thread = prepare->data;
    bool was_stalled = thread->stalled;

    send_batch(thread);
    if (was_stalled && !thread->stalled) {
        for_each(thread, kv_conn_resume);
        send_batch(thread);
    }
    flush_dirty(thread);
    /* A connection that closed while it was written to has left something for the core. */
    send_batch(thread);
    check_stop(thread);
}

static void check_time(struct kv_conn *conn)
{
    kv_conn_check_time(conn, uv_now(conn->thread->loop));
}

static void on_timer(uv_timer_t *timer)
{
    struct kv_net_thread *thread = timer->data;
    bool is_fast;

    for_each(thread, check_time);
    if (thread->accept_failed && !thread->leaving) {
        thread->accept_failed = false;
        kv_conn_accept(thread);
    }
    is_fast = thread->n_lingering > 0 || thread->stopping_ms > 0 || thread->stalled;
    uv_timer_set_repeat(timer, is_fast ? TICK_FAST_MS : TICK_MS);
}

const struct kv_node_status *kv_net_thread_status(struct kv_net_thread *thread)
{
    struct kv_server *server = thread->server;
    unsigned version = atomic_load_explicit(&server->status_version, memory_order_acquire);

    if (thread->status_version != version) {
        uv_mutex_lock(&server->lock);
        thread->status = server->status;
        uv_mutex_unlock(&server->lock);
        thread->status_version = version;
    }
    return &thread->status;
}

bool kv_net_thread_may_log(struct kv_net_thread *thread)
{
    uint64_t second = uv_now(thread->loop) / 1000;

    if (thread->log_second != second) {
        if (thread->logged > LOG_LINES_PER_SECOND) {
            KV_LOG(WARN,
                   "net",
                   "lines_left_out",
                   "count=%u",
                   thread->logged - (unsigned)LOG_LINES_PER_SECOND);
        }
        thread->log_second = second;
        thread->logged = 0;
    }
    return thread->logged++ < LOG_LINES_PER_SECOND;
}

/* ---------------------------------------------------------------- life */

static void on_connection(uv_stream_t *listener, int status)
{
    struct kv_net_thread *thread = listener->data;

    if (status == 0) {
        kv_conn_accept(thread);
    } else if (kv_net_thread_may_log(thread)) {
        KV_LOG(WARN, "net", "accept_failed", "error=\"%s\"", uv_strerror(status));
    }
}

static void run(void *arg)
{
    struct kv_net_thread *thread = arg;

    uv_run(thread->loop, UV_RUN_DEFAULT);
    end(thread);
}

static int make_rings(struct kv_net_thread *thread)
{
    int status = kv_ring_init(&thread->to_core, KV_NET_RING_SLOTS);

    status = status ? status : kv_ring_init(&thread->from_core, KV_NET_RING_SLOTS);
    return status ? status : kv_ring_init(&thread->spare, KV_NET_SPARE_SLOTS);
}

static int make_handles(struct kv_net_thread *thread, int fd)
{
    int rv;

    thread->listener.data = thread->prepare.data = thread->timer.data = thread;
    rv = uv_tcp_init(thread->loop, &thread->listener);
    rv = rv ? rv : uv_tcp_open(&thread->listener, fd);
    if (rv != 0) {
        close(fd);
        return KV_IO;
    }
    rv = uv_prepare_init(thread->loop, &thread->prepare);
    rv = rv ? rv : uv_timer_init(thread->loop, &thread->timer);
    rv = rv ? rv : kv_wakeup_init(&thread->wake, thread->loop, on_wake, thread);
    rv = rv ? rv : uv_prepare_start(&thread->prepare, on_prepare);
    rv = rv ? rv : uv_timer_start(&thread->timer, on_timer, TICK_MS, TICK_MS);
    rv = rv ? rv : uv_listen((uv_stream_t *)&thread->listener, BACKLOG, on_connection);
    return rv == 0 ? 0 : KV_IO;
}

int kv_net_thread_start(struct kv_net_thread *thread, int fd)
{
    bool is_single = thread->server->is_single;
    int status = make_rings(thread);

    if (status != 0 || (!is_single && uv_loop_init(&thread->own_loop) != 0)) {
        close(fd);
        return KV_NO_MEMORY;
    }
    thread->loop = is_single ? thread->server->options.loop : &thread->own_loop;
    thread->loop_open = true;
    status = make_handles(thread, fd);
    if (status == 0 && !is_single && uv_thread_create(&thread->thread, run, thread) != 0) {
        status = KV_IO;
    }
    thread->running = status == 0;
    return status;
}

void kv_net_thread_stop(struct kv_net_thread *thread)
{
    if (thread->running) {
        atomic_store(&thread->stop, true);
        kv_wakeup_send(&thread->wake);
    }
}

static void close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle)) {
        uv_close(handle, NULL);
    }
}

/* The core's loop goes on to run, and sees them closed. */
static void close_single(struct kv_net_thread *thread)
{
    close_handle((uv_handle_t *)&thread->listener, NULL);
    close_handle((uv_handle_t *)&thread->prepare, NULL);
    close_handle((uv_handle_t *)&thread->timer, NULL);
}

void kv_net_thread_join(struct kv_net_thread *thread)
{
    if (thread->running && !thread->server->is_single) {
        uv_thread_join(&thread->thread);
    }
    thread->running = false;
    if (!thread->loop_open) {
        return;
    }
    thread->loop_open = false;
    if (thread->wake.fd >= 0) {
        kv_wakeup_close(&thread->wake, NULL);
    }
    if (thread->server->is_single) {
        close_single(thread);
        return;
    }
    uv_walk(thread->loop, close_handle, NULL);
    uv_run(thread->loop, UV_RUN_DEFAULT);
    KV_ASSERT(uv_loop_close(thread->loop) == 0);
}

static void drop_request(struct kv_net_request *request)
{
    kv_conn_request_done(request->conn, request);
    kv_net_batch_release(request->batch);
}

static void drop_answers(struct kv_net_answers *answers)
{
    for (size_t i = 0; i < answers->n_answers; i++) {
        kv_shared_release(answers->answers[i].shared);
        if (answers->answers[i].final) {
            drop_request(answers->answers[i].request);
        }
    }
    kv_net_answers_free(answers);
}

static void drop_batch(struct kv_net_batch *batch)
{
    for (struct kv_net_item *item = batch->first, *next; item; item = next) {
        next = item->next;
        if (item->type == KV_ITEM_REQUEST) {
            drop_request(item->request);
        } else {
            kv_net_batch_release(item->request->batch);
        }
    }
    kv_net_batch_release(batch);
}

void kv_net_thread_free(struct kv_net_thread *thread)
{
    void *entry;

    if (thread->listen_fd >= 0) {
        close(thread->listen_fd);
    }
    while ((entry = kv_ring_take(&thread->from_core))) {
        drop_answers(entry);
    }
    if (thread->filling) {
        drop_answers(thread->filling);
    }
    while ((entry = kv_ring_take(&thread->to_core))) {
        drop_batch(entry);
    }
    if (thread->batch) {
        drop_batch(thread->batch);
    }
    while ((entry = kv_ring_take(&thread->spare))) {
        kv_net_answers_free(entry);
    }
    kv_net_batch_free_spare(thread);
    kv_ring_deinit(&thread->to_core);
    kv_ring_deinit(&thread->from_core);
    kv_ring_deinit(&thread->spare);
}
