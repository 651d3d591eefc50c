/* SO_REUSEPORT is not POSIX. */
#define _GNU_SOURCE
#include "server/net/server.h"

#include "common/assert.h"
#include "common/log.h"
#include "raft/transport.h"
#include "server/net/net_internal.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* ---------------------------------------------------------------- core's side: requests */

static void do_item(struct kv_server *server, struct kv_net_item *item)
{
    struct kv_net_request *request = item->request;

    if (item->type == KV_ITEM_REQUEST) {
        kv_node_submit(server->node, &request->op);
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

        while (ck_ring_dequeue_spsc(&thread->to_core, thread->to_core_slots, &entry)) {
            struct kv_net_batch *batch = entry;

            for (struct kv_net_item *item = batch->first, *next; item; item = next) {
                next = item->next;
                do_item(server, item);
            }
            kv_net_batch_release(batch);
        }
    }
}

static void on_wake(uv_async_t *async)
{
    struct kv_server *server = async->data;

    if (server->node) {
        take_batches(server);
    }
}

/* ---------------------------------------------------------------- core's side: answers */

static struct kv_net_answers *filling(struct kv_net_thread *thread)
{
    if (!thread->filling) {
        thread->filling = calloc(1, sizeof *thread->filling);
        KV_ASSERT(thread->filling);
        kv_buf_init(&thread->filling->bytes, 1024 * KV_MIB);
    }
    return thread->filling;
}

static struct kv_net_answer *
add_answer(struct kv_net_answers *answers, struct kv_net_request *request, bool final)
{
    if (answers->n_answers == answers->capacity) {
        size_t capacity = answers->capacity ? answers->capacity * 2 : 64;

        answers->answers = realloc(answers->answers, capacity * sizeof *answers->answers);
        KV_ASSERT(answers->answers);
        answers->capacity = capacity;
    }
    answers->answers[answers->n_answers] =
        (struct kv_net_answer){.request = request, .offset = answers->bytes.size, .final = final};
    request->core_done = final;
    return &answers->answers[answers->n_answers++];
}

static size_t answer_message(struct kv_op *op, const ProtobufCMessage *message, bool final)
{
    struct kv_net_request *request = (struct kv_net_request *)op;
    struct kv_net_answers *answers = filling(request->batch->thread);
    size_t size = protobuf_c_message_get_packed_size(message);
    uint8_t *p = kv_buf_reserve(&answers->bytes, size);

    /* Bounded by what is admitted; without memory for an answer the node cannot go on. */
    KV_ASSERT(p);
    add_answer(answers, request, final)->size = size;
    protobuf_c_message_pack(message, p);
    answers->bytes.size += size;
    return size;
}

void kv_server_on_reply(void *server, struct kv_op *op, const Kv__Reply *reply)
{
    (void)server;
    (void)answer_message(op, &reply->base, true);
}

void kv_server_on_reply_packed(void *server, struct kv_op *op, struct kv_slice reply)
{
    struct kv_net_request *request = (struct kv_net_request *)op;
    struct kv_net_answers *answers = filling(request->batch->thread);

    (void)server;
    add_answer(answers, request, true)->size = reply.size;
    KV_ASSERT(kv_buf_append(&answers->bytes, reply.data, reply.size) == 0);
}

size_t kv_server_on_stream_item(void *server, struct kv_op *op, const Kv__StreamItem *item)
{
    (void)server;
    return answer_message(op, &item->base, item->end);
}

void kv_server_flush(struct kv_server *server)
{
    for (unsigned i = 0; i < server->n_threads; i++) {
        struct kv_net_thread *thread = &server->threads[i];

        /* When the ring is full the answers gather for the next turn: each belongs to an admitted
         * request. */
        if (thread->filling &&
            ck_ring_enqueue_spsc(&thread->from_core, thread->from_core_slots, thread->filling)) {
            thread->filling = NULL;
            uv_async_send(&thread->wake);
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

/* A listening address of its own for each thread: the kernel spreads the connections. */
static int bind_socket(const struct sockaddr *address, socklen_t size, int *ret_fd)
{
    int yes = 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &yes, sizeof yes) < 0 ||
        bind(fd, address, size) < 0) {
        int status = -errno;

        close(fd);
        return status;
    }
    *ret_fd = fd;
    return 0;
}

/* SO_REUSEPORT lets a second server of the same user in: a plain bind tells whether the port is
 * taken. */
static int probe_port(const struct sockaddr *address, socklen_t size)
{
    int yes = 1;
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int status = 0;

    if (fd < 0) {
        return -errno;
    }
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) < 0 ||
        bind(fd, address, size) < 0 || listen(fd, 1) < 0) {
        status = -errno;
    }
    close(fd);
    return status;
}

static uint16_t *port_of(struct sockaddr_storage *address)
{
    return address->ss_family == AF_INET6 ? &((struct sockaddr_in6 *)address)->sin6_port
                                          : &((struct sockaddr_in *)address)->sin_port;
}

static int resolve(const char *listen_address,
                   struct sockaddr_storage *ret_address,
                   socklen_t *ret_size,
                   struct kv_error *ret_error)
{
    struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found;
    char host[256];
    char port[8];
    int rv;

    if (kv_address_split(listen_address, host, port) != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "\"%s\" is no address to listen on for clients: want host:port",
                            listen_address);
    }
    rv = getaddrinfo(host[0] ? host : "0.0.0.0", port, &hints, &found);
    if (rv != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "cannot resolve %s, to listen on for clients: %s",
                            listen_address,
                            gai_strerror(rv));
    }
    memcpy(ret_address, found->ai_addr, found->ai_addrlen);
    *ret_size = found->ai_addrlen;
    freeaddrinfo(found);
    return 0;
}

static int bind_error(const char *address, int errnum, struct kv_error *ret_error)
{
    if (errnum == -EADDRINUSE) {
        return kv_error_set(
            ret_error,
            KV_IN_USE,
            "cannot listen for clients on %s: the port is taken; choose another --client-listen",
            address);
    }
    return kv_error_set(
        ret_error, KV_IO, "cannot listen for clients on %s: %s", address, strerror(-errnum));
}

static int bind_threads(struct kv_server *server, int *fds, struct kv_error *ret_error)
{
    struct sockaddr_storage address;
    socklen_t size = 0;
    int status = resolve(server->options.listen, &address, &size, ret_error);
    int rv;

    if (status != 0) {
        return status;
    }
    rv = *port_of(&address) ? probe_port((const struct sockaddr *)&address, size) : 0;
    for (unsigned i = 0; i < server->n_threads && rv == 0; i++) {
        rv = bind_socket((const struct sockaddr *)&address, size, &fds[i]);
        if (rv == 0 && i == 0) {
            socklen_t bound = sizeof address;

            rv = getsockname(fds[0], (struct sockaddr *)&address, &bound) < 0 ? -errno : 0;
            server->port = ntohs(*port_of(&address));
        }
    }
    return rv == 0 ? 0 : bind_error(server->options.listen, rv, ret_error);
}

int kv_server_open(const struct kv_server_options *options,
                   struct kv_server **ret_server,
                   struct kv_error *ret_error)
{
    struct kv_server *server = calloc(1, sizeof *server);
    int status;

    if (!server) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    server->options = *options;
    server->n_threads = options->n_threads;
    uv_mutex_init(&server->lock);
    KV_ASSERT(uv_async_init(options->loop, &server->wake, on_wake) == 0);
    server->wake.data = server;
    atomic_init(&server->status_version, 1);
    server->threads = calloc(server->n_threads, sizeof *server->threads);
    if (!server->threads) {
        kv_server_free(server);
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory");
    }
    for (unsigned i = 0; i < server->n_threads; i++) {
        server->threads[i].server = server;
        server->threads[i].number = i;
    }
    {
        int fds[64];

        KV_ASSERT(server->n_threads <= 64);
        status = bind_threads(server, fds, ret_error);
        for (unsigned i = 0; i < server->n_threads && status == 0; i++) {
            server->threads[i].listen_fd = fds[i];
        }
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
        if (kv_net_thread_start(&server->threads[i], server->threads[i].listen_fd) != 0) {
            return kv_error_set(
                ret_error, KV_IO, "cannot start serving clients on %s", server->options.listen);
        }
    }
    return 0;
}

void kv_server_stop(struct kv_server *server, const char *leader_address)
{
    kv_server_flush(server);
    for (unsigned i = 0; i < server->n_threads; i++) {
        snprintf(server->threads[i].goodbye_address,
                 sizeof server->threads[i].goodbye_address,
                 "%s",
                 leader_address);
        kv_net_thread_stop(&server->threads[i]);
    }
    server->node = NULL;
    uv_close((uv_handle_t *)&server->wake, NULL);
}

void kv_server_free(struct kv_server *server)
{
    if (!server) {
        return;
    }
    uv_mutex_destroy(&server->lock);
    free(server->threads);
    free(server);
}

int kv_server_port(const struct kv_server *server)
{
    return server->port;
}

void kv_server_stats(const struct kv_server *server, struct kv_server_stats *ret_stats)
{
    *ret_stats = (struct kv_server_stats){
        .connections = atomic_load(&server->connections),
        .connections_total = atomic_load(&server->connections_total),
        .refused = atomic_load(&server->refused),
        .requests = atomic_load(&server->requests),
        .replies = atomic_load(&server->replies),
        .bytes_in = atomic_load(&server->bytes_in),
        .bytes_out = atomic_load(&server->bytes_out),
    };
}
