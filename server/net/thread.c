/* A network thread: its loop, its batches to the core, the answers that come back. */
#include "common/assert.h"
#include "common/log.h"
#include "server/net/net_internal.h"

#include <stdlib.h>
#include <string.h>

enum { TICK_MS = 1000, BACKLOG = 512 };

/* ---------------------------------------------------------------- to the core */

struct kv_net_batch *kv_net_thread_batch(struct kv_net_thread *thread)
{
    struct kv_net_batch *batch = thread->batch;

    if (batch) {
        return batch;
    }
    batch = calloc(1, sizeof *batch);
    if (batch) {
        kv_arena_init(&batch->arena, KV_NET_ARENA_BYTES);
        atomic_init(&batch->references, 1);
        batch->thread = thread;
        thread->batch = batch;
    }
    return batch;
}

void kv_net_batch_release(struct kv_net_batch *batch)
{
    if (atomic_fetch_sub_explicit(&batch->references, 1, memory_order_acq_rel) == 1) {
        kv_arena_deinit(&batch->arena);
        free(batch);
    }
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

static void resume_all(struct kv_net_thread *thread)
{
    struct kv_conn *conn = thread->conns;

    while (conn) {
        struct kv_conn *next = conn->next;

        kv_conn_resume(conn);
        conn = next;
    }
}

/* Hands the batch over, or keeps it and stops reading while the ring is full. */
static void send_batch(struct kv_net_thread *thread)
{
    struct kv_net_batch *batch = thread->batch;

    if (!batch) {
        return;
    }
    if (!batch->first) {
        /* Only answers were made; its memory serves again. */
        kv_arena_reset(&batch->arena);
        return;
    }
    if (!ck_ring_enqueue_spsc(&thread->to_core, thread->to_core_slots, batch)) {
        thread->stalled = true;
        return;
    }
    thread->batch = NULL;
    uv_async_send(&thread->server->wake);
    if (thread->stalled) {
        thread->stalled = false;
        resume_all(thread);
    }
}

/* ---------------------------------------------------------------- from the core */

static void take_answer(struct kv_net_thread *thread,
                        const struct kv_net_answers *answers,
                        const struct kv_net_answer *answer)
{
    struct kv_net_request *request = answer->request;
    struct kv_conn *conn = request->conn;
    struct kv_net_batch *batch = request->batch;

    (void)thread;
    kv_conn_send_packed(conn,
                        request->is_stream ? KV_FRAME_STREAM_ITEM : KV_FRAME_REPLY,
                        kv_slice_of(answers->bytes.data + answer->offset, answer->size));
    if (answer->final) {
        request->done = true;
        kv_conn_request_done(conn, request);
        kv_net_batch_release(batch);
    }
}

static void free_answers(struct kv_net_answers *answers)
{
    kv_buf_deinit(&answers->bytes);
    free(answers->answers);
    free(answers);
}

static void take_answers(struct kv_net_thread *thread)
{
    void *entry;

    while (ck_ring_dequeue_spsc(&thread->from_core, thread->from_core_slots, &entry)) {
        struct kv_net_answers *answers = entry;

        for (size_t i = 0; i < answers->n_answers; i++) {
            take_answer(thread, answers, &answers->answers[i]);
        }
        atomic_fetch_add_explicit(
            &thread->server->replies, answers->n_answers, memory_order_relaxed);
        free_answers(answers);
    }
}

static void flush_dirty(struct kv_net_thread *thread)
{
    while (thread->dirty) {
        struct kv_conn *conn = thread->dirty;

        thread->dirty = conn->next_dirty;
        conn->dirty = false;
        kv_conn_flush(conn);
    }
}

static void close_all(struct kv_net_thread *thread)
{
    struct kv_conn *conn = thread->conns;

    while (conn) {
        struct kv_conn *next = conn->next;

        if (!conn->closing) {
            kv_conn_goodbye(conn,
                            KV_SHUTTING_DOWN,
                            "this server is shutting down: use another",
                            thread->goodbye_address);
            kv_conn_flush(conn);
            kv_conn_close(conn);
        }
        conn = next;
    }
}

static void stop(struct kv_net_thread *thread)
{
    if (uv_is_closing((uv_handle_t *)&thread->wake)) {
        return;
    }
    take_answers(thread);
    flush_dirty(thread);
    close_all(thread);
    uv_close((uv_handle_t *)&thread->listener, NULL);
    uv_close((uv_handle_t *)&thread->wake, NULL);
    uv_close((uv_handle_t *)&thread->timer, NULL);
    uv_close((uv_handle_t *)&thread->prepare, NULL);
}

static void on_wake(uv_async_t *async)
{
    struct kv_net_thread *thread = async->data;

    take_answers(thread);
    if (atomic_load(&thread->stop)) {
        stop(thread);
    }
}

/* The end of each turn: what was decoded goes to the core, what was answered to the clients. */
static void on_prepare(uv_prepare_t *prepare)
{
    struct kv_net_thread *thread = prepare->data;

    send_batch(thread);
    flush_dirty(thread);
}

static void on_timer(uv_timer_t *timer)
{
    struct kv_net_thread *thread = timer->data;
    uint64_t now_ms = uv_now(&thread->loop);

    for (struct kv_conn *conn = thread->conns; conn; conn = conn->next) {
        if (!conn->hello_done && !conn->closing &&
            now_ms - conn->opened_ms >= KV_HELLO_TIMEOUT_MS) {
            kv_conn_goodbye(conn, KV_INVALID, "no hello came in time", "");
            kv_conn_flush(conn);
            kv_conn_close(conn);
        }
    }
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

/* ---------------------------------------------------------------- life */

static void on_connection(uv_stream_t *listener, int status)
{
    if (status == 0) {
        kv_conn_accept(listener->data, listener);
    }
}

static void run(void *arg)
{
    struct kv_net_thread *thread = arg;

    uv_run(&thread->loop, UV_RUN_DEFAULT);
}

static int make_rings(struct kv_net_thread *thread)
{
    thread->to_core_slots = calloc(KV_NET_RING_SLOTS, sizeof(ck_ring_buffer_t));
    thread->from_core_slots = calloc(KV_NET_RING_SLOTS, sizeof(ck_ring_buffer_t));
    if (!thread->to_core_slots || !thread->from_core_slots) {
        return KV_NO_MEMORY;
    }
    ck_ring_init(&thread->to_core, KV_NET_RING_SLOTS);
    ck_ring_init(&thread->from_core, KV_NET_RING_SLOTS);
    return 0;
}

int kv_net_thread_start(struct kv_net_thread *thread, int fd)
{
    if (make_rings(thread) != 0 || uv_loop_init(&thread->loop) != 0) {
        return KV_NO_MEMORY;
    }
    KV_ASSERT(uv_tcp_init(&thread->loop, &thread->listener) == 0);
    KV_ASSERT(uv_async_init(&thread->loop, &thread->wake, on_wake) == 0);
    KV_ASSERT(uv_prepare_init(&thread->loop, &thread->prepare) == 0);
    KV_ASSERT(uv_timer_init(&thread->loop, &thread->timer) == 0);
    thread->listener.data = thread->wake.data = thread->prepare.data = thread->timer.data = thread;
    uv_prepare_start(&thread->prepare, on_prepare);
    uv_timer_start(&thread->timer, on_timer, TICK_MS, TICK_MS);
    if (uv_tcp_open(&thread->listener, fd) != 0 ||
        uv_listen((uv_stream_t *)&thread->listener, BACKLOG, on_connection) != 0 ||
        uv_thread_create(&thread->thread, run, thread) != 0) {
        return KV_IO;
    }
    thread->started = true;
    return 0;
}

void kv_net_thread_stop(struct kv_net_thread *thread)
{
    void *entry;

    if (thread->started) {
        atomic_store(&thread->stop, true);
        uv_async_send(&thread->wake);
        uv_thread_join(&thread->thread);
        (void)uv_loop_close(&thread->loop);
    }
    if (thread->from_core_slots) {
        while (ck_ring_dequeue_spsc(&thread->from_core, thread->from_core_slots, &entry)) {
            free_answers(entry);
        }
    }
    if (thread->filling) {
        free_answers(thread->filling);
    }
    free(thread->to_core_slots);
    free(thread->from_core_slots);
}
