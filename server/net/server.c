/* The core's end of the rings: requests to the node, its answers to the threads. */
#include "server/net/server.h"

#include "common/assert.h"
#include "server/net/listen.h"
#include "server/net/net_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---------------------------------------------------------------- requests */

static void do_item(struct kv_server *server, struct kv_net_item *item)
{
    struct kv_net_request *request = item->request;

    if (item->type == KV_ITEM_REQUEST) {
        kv_node_submit(server->node, &request->op);
        if (item->kept && !request->core_done) {
            request->op.request = item->kept;
        }
        return;
    }
    if (!request->core_done && item->type == KV_ITEM_CANCEL) {
        kv_node_cancel(server->node, &request->op);
    } else if (!request->core_done) {
        kv_node_credit(server->node, &request->op, item->credit);
    }
    kv_net_batch_release(request->batch);
}

static void take_batches(struct kv_server *server)
{
    for (unsigned i = 0; i < server->n_threads; i++) {
        struct kv_net_thread *thread = &server->threads[i];
        void *entry;

        while ((entry = kv_ring_take(&thread->to_core))) {
            struct kv_net_batch *batch = entry;

            for (struct kv_net_item *item = batch->first, *next; item; item = next) {
                next = item->next;
                do_item(server, item);
            }
            kv_net_batch_release(batch);
        }
    }
}

void kv_server_gather(struct kv_server *server)
{
    if (server->is_single && server->node && server->threads[0].running) {
        kv_net_thread_gather(&server->threads[0]);
        take_batches(server);
    }
}

static void finish_stop(struct kv_server *server)
{
    for (unsigned i = 0; i < server->n_threads; i++) {
        if (server->threads[i].running && !atomic_load(&server->threads[i].ended)) {
            return;
        }
    }
    for (unsigned i = 0; i < server->n_threads; i++) {
        kv_net_thread_join(&server->threads[i]);
    }
    server->stopped = true;
    server->node = NULL;
    kv_wakeup_close(&server->wake, NULL);
    if (server->stopped_cb) {
        server->stopped_cb(server->stopped_arg);
    }
}

static void on_wake(void *arg)
{
    struct kv_server *server = arg;

    if (server->node) {
        take_batches(server);
    }
    kv_net_rooms_take(server);
    if (server->stopping && !server->stopped) {
        finish_stop(server);
    }
}

/* ---------------------------------------------------------------- answers */

static struct kv_net_answers *filling(struct kv_net_thread *thread)
{
    if (!thread->filling) {
        thread->filling = kv_net_answers_get(thread);
    }
    return thread->filling;
}

static void add_to(struct kv_net_answers *answers, const struct kv_net_answer *answer)
{
    /* Bounded by what is admitted; without memory for an answer the node cannot go on. */
    if (answers->n_answers == answers->capacity) {
        answers->capacity = answers->capacity ? answers->capacity * 2 : 64;
        answers->answers = realloc(answers->answers, answers->capacity * sizeof *answers->answers);
        KV_ASSERT(answers->answers);
    }
    answers->answers[answers->n_answers++] = *answer;
    if (answer->request->is_subscription) {
        atomic_fetch_add(&answer->request->conn->room->bytes, answer->size);
    }
}

/* Makes room for a packed message of a request; where it goes. */
static uint8_t *add_answer(struct kv_net_request *request, unsigned code, size_t size, bool final)
{
    struct kv_net_thread *thread = request->batch->thread;
    struct kv_net_answers *answers = filling(thread);
    uint8_t *p = kv_buf_reserve(&answers->bytes, size);

    KV_ASSERT(p);
    add_to(answers,
           &(struct kv_net_answer){.request = request,
                                   .offset = answers->bytes.size,
                                   .size = size,
                                   .code = (uint8_t)code,
                                   .final = final});
    answers->bytes.size += size;
    atomic_fetch_add_explicit(&thread->server->answer_bytes, size, memory_order_relaxed);
    request->core_done = final;
    return p;
}

/* Whether an answer would only add to what the clients do not take. */
static bool is_too_much(const struct kv_server *server, size_t size)
{
    return size > KV_NET_ANSWER_BYTES_SMALL &&
           atomic_load_explicit(&server->answer_bytes, memory_order_relaxed) + size >
               KV_NET_ANSWER_BYTES_MAX;
}

/* What a client gets instead of a large answer when too much is on its way already: a read has
 * done nothing; what a write did is done. */
static void answer_too_much(struct kv_net_request *request, int64_t revision)
{
    bool is_write = request->op.cls == KV_COMMAND_WRITE;
    Kv__Reply reply = KV__REPLY__INIT;
    Kv__Hint hint = KV__HINT__INIT;

    reply.id = request->id;
    reply.code = is_write ? KV__CODE__OUTCOME_UNKNOWN : KV__CODE__BUSY;
    reply.message =
        (char *)(uintptr_t)(is_write ? "there is no room for the answer now; the write is done"
                                     : "too many bytes of answers are on their way");
    reply.revision = revision;
    hint.limit = (char *)(uintptr_t) "answer-bytes";
    hint.limit_value = KV_NET_ANSWER_BYTES_MAX;
    reply.hint = &hint;
    kv__reply__pack(
        &reply,
        add_answer(request, (unsigned)reply.code, kv__reply__get_packed_size(&reply), true));
}

void kv_server_on_reply(void *arg, struct kv_op *op, const Kv__Reply *reply)
{
    struct kv_net_request *request = (struct kv_net_request *)op;
    size_t size = kv__reply__get_packed_size(reply);

    if (is_too_much(arg, size)) {
        answer_too_much(request, reply->revision);
        return;
    }
    kv__reply__pack(reply, add_answer(request, (unsigned)reply->code, size, true));
}

/* The code of a packed Reply: field 2, behind the id, unless it is OK. */
static unsigned packed_code(struct kv_slice reply)
{
    size_t i = 0;

    if (reply.size > 0 && reply.data[0] == 0x08) {
        for (i = 1; i < reply.size && reply.data[i] & 0x80; i++) {
        }
        i++;
    }
    return i + 1 < reply.size && reply.data[i] == 0x10 ? reply.data[i + 1] : 0;
}

void kv_server_on_reply_packed(void *arg, struct kv_op *op, struct kv_slice reply)
{
    struct kv_net_request *request = (struct kv_net_request *)op;

    if (is_too_much(arg, reply.size)) {
        answer_too_much(request, 0);
        return;
    }
    memcpy(add_answer(request, packed_code(reply), reply.size, true), reply.data, reply.size);
}

size_t kv_server_on_stream_item(void *arg, struct kv_op *op, const Kv__StreamItem *item)
{
    size_t size = kv__stream_item__get_packed_size(item);

    (void)arg;
    kv__stream_item__pack(
        item, add_answer((struct kv_net_request *)op, (unsigned)item->code, size, item->end));
    return size;
}

size_t kv_server_on_stream_shared(void *arg, struct kv_op *op, struct kv_shared *item)
{
    struct kv_net_request *request = (struct kv_net_request *)op;
    uint8_t id[KV_STREAM_ID_BYTES_MAX];
    const size_t size = kv_stream_id_pack(request->id, id) + item->size;

    (void)arg;
    add_to(
        filling(request->batch->thread),
        &(struct kv_net_answer){.request = request, .shared = kv_shared_hold(item), .size = size});
    return size;
}

bool kv_server_stream_has_room(void *arg, struct kv_op *op)
{
    (void)arg;
    return kv_net_room_has(((struct kv_net_request *)op)->conn->room);
}

void kv_server_flush(struct kv_server *server)
{
    for (unsigned i = 0; i < server->n_threads; i++) {
        struct kv_net_thread *thread = &server->threads[i];

        /* When the ring is full the answers gather for the next turn: each belongs to an admitted
         * request. */
        if (thread->filling && thread->running &&
            kv_ring_put(&thread->from_core, thread->filling)) {
            thread->filling = NULL;
            if (server->is_single) {
                kv_net_thread_deliver(thread);
            } else {
                kv_wakeup_send(&thread->wake);
            }
        }
    }
}

void kv_server_publish(struct kv_server *server, const struct kv_node_status *status)
{
    uv_mutex_lock(&server->lock);
    server->status = *status;
    uv_mutex_unlock(&server->lock);
    atomic_fetch_add_explicit(&server->status_version, 1, memory_order_release);
}

/* ---------------------------------------------------------------- life */

static struct kv_server *new_server(const struct kv_server_options *options)
{
    struct kv_server *server = calloc(1, sizeof *server);

    if (!server) {
        return NULL;
    }
    server->options = *options;
    server->is_single = options->n_threads == 0;
    server->n_threads = server->is_single ? 1 : options->n_threads;
    if (options->hello_timeout_ms == 0) {
        server->options.hello_timeout_ms = KV_HELLO_TIMEOUT_MS;
    }
    if (options->frame_timeout_ms == 0) {
        server->options.frame_timeout_ms = KV_FRAME_TIMEOUT_MS;
    }
    if (options->linger_ms == 0) {
        server->options.linger_ms = KV_LINGER_MS;
    }
    server->threads =
        aligned_alloc(KV_RING_LINE_BYTES, server->n_threads * sizeof *server->threads);
    if (!server->threads) {
        free(server);
        return NULL;
    }
    memset(server->threads, 0, server->n_threads * sizeof *server->threads);
    for (unsigned i = 0; i < server->n_threads; i++) {
        server->threads[i].server = server;
        server->threads[i].number = i;
        server->threads[i].listen_fd = -1;
        server->threads[i].wake.fd = -1;
        server->threads[i].dirty_end = &server->threads[i].dirty;
    }
    uv_mutex_init(&server->lock);
    atomic_init(&server->status_version, 1);
    return server;
}

int kv_server_open(const struct kv_server_options *options,
                   struct kv_server **ret_server,
                   struct kv_error *ret_error)
{
    struct kv_server *server;
    int fds[KV_NET_THREADS_MAX];
    int status;

    KV_ASSERT(options->n_threads <= KV_NET_THREADS_MAX);
    server = new_server(options);
    if (!server) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the client side");
    }
    status = kv_listen_bind(options->listen,
                            "clients",
                            "client-listen",
                            server->n_threads,
                            fds,
                            &server->port,
                            ret_error);
    for (unsigned i = 0; i < server->n_threads && status == 0; i++) {
        server->threads[i].listen_fd = fds[i];
    }
    if (status == 0 && kv_wakeup_init(&server->wake, options->loop, on_wake, server) != 0) {
        status = kv_error_set(ret_error, KV_IO, "cannot make a wake-up for the client side");
    }
    if (status != 0) {
        kv_server_free(server);
        return status;
    }
    *ret_server = server;
    return 0;
}

int kv_server_start(struct kv_server *server, struct kv_node *node, struct kv_error *ret_error)
{
    server->node = node;
    for (unsigned i = 0; i < server->n_threads; i++) {
        int fd = server->threads[i].listen_fd;
        int status;

        server->threads[i].listen_fd = -1;
        status = kv_net_thread_start(&server->threads[i], fd);
        if (status != 0) {
            return kv_error_set(ret_error,
                                status,
                                "cannot start serving clients on %.100s: no memory or no thread",
                                server->options.listen);
        }
    }
    return 0;
}

void kv_server_leave(struct kv_server *server, const char *leader_address)
{
    uv_mutex_lock(&server->lock);
    snprintf(server->goodbye_address, sizeof server->goodbye_address, "%s", leader_address);
    uv_mutex_unlock(&server->lock);
    for (unsigned i = 0; i < server->n_threads; i++) {
        if (server->threads[i].running && !atomic_exchange(&server->threads[i].leave, true)) {
            kv_wakeup_send(&server->threads[i].wake);
        }
    }
}

void kv_server_stop(struct kv_server *server, void (*cb)(void *arg), void *arg)
{
    KV_ASSERT(!server->stopping);
    server->stopping = true;
    server->stopped_cb = cb;
    server->stopped_arg = arg;
    kv_server_flush(server);
    for (unsigned i = 0; i < server->n_threads; i++) {
        kv_net_thread_stop(&server->threads[i]);
    }
    finish_stop(server);
}

void kv_server_free(struct kv_server *server)
{
    if (!server) {
        return;
    }
    for (unsigned i = 0; i < server->n_threads; i++) {
        kv_net_thread_free(&server->threads[i]);
    }
    uv_mutex_destroy(&server->lock);
    server->node = NULL;
    kv_net_rooms_take(server);
    free(server->threads);
    free(server);
}

int kv_server_port(const struct kv_server *server)
{
    return server->port;
}

void kv_server_stats(const struct kv_server *server, struct kv_stats_total *ret_stats)
{
    memset(ret_stats, 0, sizeof *ret_stats);
    for (unsigned i = 0; i < server->n_threads; i++) {
        kv_stats_sum(ret_stats, &server->threads[i].stats);
    }
    ret_stats->answer_bytes = atomic_load_explicit(&server->answer_bytes, memory_order_relaxed);
}

/* Their time is that of what they wait for. */
static bool is_waiting_command(unsigned command)
{
    return command == KV__REQUEST__COMMAND_LIST_POP || command == KV__REQUEST__COMMAND_LIST_MOVE ||
           command == KV__REQUEST__COMMAND_WATCH || command == KV__REQUEST__COMMAND_SUBSCRIBE;
}

void kv_server_fill_status(struct kv_server *server, Kv__StatusResult *status)
{
    struct kv_stats_total stats;
    uint64_t *counts = server->latency_counts;

    kv_server_stats(server, &stats);
    memset(counts, 0, sizeof server->latency_counts);
    for (unsigned i = 0; i < KV_STATS_COMMANDS; i++) {
        const struct kv_stats_command_total *command = &stats.commands[i];
        uint64_t in_classes = 0;

        for (unsigned k = 0; k < KV_STATS_BUCKETS && !is_waiting_command(i); k++) {
            counts[k] += command->buckets[k];
            in_classes += command->buckets[k];
        }
        if (!is_waiting_command(i) && command->count > in_classes) {
            counts[KV_STATS_BUCKETS] += command->count - in_classes;
        }
    }
    for (unsigned k = 0; k < KV_STATS_BUCKETS; k++) {
        server->latency_bounds_us[k] = kv_stats_bounds_ns[k] / 1000;
    }
    status->connections = stats.connections;
    status->requests = stats.requests;
    status->n_latency_counts = KV_STATS_BUCKETS + 1;
    status->latency_counts = counts;
    status->n_latency_bounds_us = KV_STATS_BUCKETS;
    status->latency_bounds_us = server->latency_bounds_us;
}
