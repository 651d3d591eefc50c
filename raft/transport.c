#include "raft/transport.h"

#include "common/assert.h"
#include "common/log.h"
#include "raft/transport_internal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    TICK_MS = 50,        /* while something is to be dialed, or answered */
    QUIET_TICK_MS = 200, /* while all are connected: pings and silence need no more */
    PING_MS = 250,
    SILENCE_MS = 2000, /* a link without a sign of life is dead */
    CONNECT_MS = 1000,
    REFUSAL_REPEAT_MS = 60000,
    BACKLOG = 512, /* a burst of strangers leaves members room there too */
};

uint64_t kv_transport_now_ms(const struct kv_transport *transport)
{
    const struct kv_transport_options *options = &transport->options;

    return options->now_ms ? options->now_ms(options->now_arg) : uv_now(transport->loop);
}

static void on_timer(uv_timer_t *timer);

static void on_wake(uv_timer_t *timer)
{
    (void)timer; /* what is due is done in on_prepare */
}

void kv_transport_wake(struct kv_transport *transport, uint64_t delay_ms)
{
    if (!transport->closing && (!uv_is_active((uv_handle_t *)&transport->wake) ||
                                uv_timer_get_due_in(&transport->wake) > delay_ms)) {
        uv_timer_start(&transport->wake, on_wake, delay_ms, 0);
    }
}

void kv_transport_tend_soon(struct kv_transport *transport)
{
    if (!transport->closing && uv_timer_get_repeat(&transport->timer) != TICK_MS) {
        uv_timer_start(&transport->timer, on_timer, TICK_MS, TICK_MS);
    }
}

int kv_address_split(const char *address, char host[256], char port[8])
{
    const char *colon = strrchr(address, ':');
    const char *start = address;
    size_t size;

    if (!colon || strlen(colon + 1) == 0 || strlen(colon + 1) > 5 ||
        strspn(colon + 1, "0123456789") != strlen(colon + 1) || atoi(colon + 1) > 65535) {
        return KV_INVALID;
    }
    size = (size_t)(colon - address);
    if (size >= 2 && address[0] == '[' && address[size - 1] == ']') {
        start++;
        size -= 2;
    } else if (memchr(address, ':', size)) {
        return KV_INVALID;
    }
    if (size > 255) {
        return KV_INVALID;
    }
    memcpy(host, start, size);
    host[size] = '\0';
    snprintf(port, 8, "%s", colon + 1);
    return 0;
}

struct kv_peer_link *kv_transport_link(const struct kv_transport *transport, uint64_t id)
{
    for (struct kv_peer_link *link = transport->links; link; link = link->next) {
        if (link->id == id && !link->removed) {
            return link;
        }
    }
    return NULL;
}

void kv_transport_refuse(struct kv_transport *transport, const char *remote, const char *reason)
{
    uint64_t now_ms = kv_transport_now_ms(transport);
    struct kv_transport_refusal *oldest = &transport->refusals[0];
    char text[sizeof oldest->text];

    snprintf(text, sizeof text, "%s: %s", remote, reason);
    /* Strangers knock again and again: what was said lately is not repeated. */
    for (size_t i = 0; i < sizeof transport->refusals / sizeof *oldest; i++) {
        struct kv_transport_refusal *refusal = &transport->refusals[i];

        if (strcmp(text, refusal->text) == 0 && now_ms - refusal->logged_ms < REFUSAL_REPEAT_MS) {
            return;
        }
        oldest = refusal->logged_ms < oldest->logged_ms ? refusal : oldest;
    }
    memcpy(oldest->text, text, sizeof text);
    oldest->logged_ms = now_ms;
    KV_LOG(WARN, "peer", "refused", "from=%s reason=\"%s\"", remote, reason);
}

void kv_transport_link_lost(struct kv_peer_link *link, bool reset)
{
    const struct kv_net_handler *handler = &link->transport->handler;

    kv_transport_tend_soon(link->transport);
    if (link->connected) {
        link->connected = false;
        /* First attempt at once: most often the peer was only restarted. */
        link->attempts.retry_ms = 0;
        /* Everything not delivered is gone. */
        if (link->bulk_out) {
            kv_peer_conn_close(link->bulk_out, false);
        }
        kv_peer_attempts_reset(&link->bulk_attempts);
        handler->disconnected(handler->arg, link->id, reset);
    }
}

/* ---------------------------------------------------------------- struct kv_net */

static int net_start(void *arg, const struct kv_net_handler *handler)
{
    struct kv_transport *transport = arg;

    transport->handler = *handler;
    transport->started = true;
    return 0;
}

static int net_add_peer(void *arg, uint64_t peer_id, const char *address)
{
    struct kv_transport *transport = arg;
    struct kv_peer_link *link = calloc(1, sizeof *link);

    if (!link || strlen(address) >= sizeof link->address) {
        free(link);
        return KV_INVALID;
    }
    link->transport = transport;
    link->id = peer_id;
    kv_peer_throttle_init(
        &link->throttle, transport->options.bulk_bytes_per_s, kv_transport_now_ms(transport));
    snprintf(link->address, sizeof link->address, "%s", address);
    link->next = transport->links;
    transport->links = link;
    kv_transport_tend_soon(transport);
    kv_peer_link_dial(link);
    return 0;
}

static void net_remove_peer(void *arg, uint64_t peer_id)
{
    struct kv_peer_link *link = kv_transport_link(arg, peer_id);
    struct kv_peer_conn *conns[4];

    if (!link) {
        return;
    }
    link->removed = true;
    kv_peer_lookup_abandon(link->lookup);
    link->lookup = NULL;
    conns[0] = link->bulk_in;
    conns[1] = link->bulk_out;
    conns[2] = link->in;
    conns[3] = link->out;
    for (size_t i = 0; i < sizeof conns / sizeof conns[0]; i++) {
        if (conns[i]) {
            kv_peer_conn_close(conns[i], false);
        }
    }
}

/* False: the queue is full. */
static bool has_room(const struct kv_peer_conn *conn, size_t message_bytes)
{
    size_t bytes = kv_peer_frames_bytes(message_bytes);
    size_t queued = kv_peer_conn_queued(conn);

    return bytes <= conn->queue_bytes_max && queued <= conn->queue_bytes_max - bytes &&
           conn->n_messages < KV_PEER_QUEUE_MESSAGES_MAX;
}

static int queue_message(struct kv_peer_conn *conn,
                         enum kv_net_class cls,
                         const struct kv_slice *pieces,
                         size_t n_pieces)
{
    static const enum kv_peer_frame_kind kinds[] = {
        [KV_NET_ORDERED] = KV_PEER_FRAME_ORDERED,
        [KV_NET_URGENT] = KV_PEER_FRAME_URGENT,
        [KV_NET_BULK] = KV_PEER_FRAME_BULK,
    };
    struct kv_buf *buf = cls == KV_NET_URGENT ? &conn->urgent : &conn->ordered;
    size_t total = 0;
    int status;

    for (size_t i = 0; i < n_pieces; i++) {
        total += pieces[i].size;
    }
    if (!has_room(conn, total)) {
        return KV_BUSY;
    }
    if (conn->ordered_sent > conn->queue_bytes_max / 2) {
        kv_buf_consume(&conn->ordered, conn->ordered_sent);
        conn->ordered_sent = 0;
    }
    /* What is bulk is compressed already. */
    status = kv_peer_frame_append(buf,
                                  kinds[cls],
                                  pieces,
                                  n_pieces,
                                  conn->transport->options.compress && cls == KV_NET_ORDERED);
    if (status == 0) {
        conn->n_messages++;
        conn->n_urgent_messages += cls == KV_NET_URGENT;
        conn->last_busy_ms = kv_transport_now_ms(conn->transport);
    }
    return status == KV_TOO_LARGE ? KV_BUSY : status;
}

static int net_send(void *arg,
                    uint64_t peer_id,
                    enum kv_net_class cls,
                    struct kv_slice head,
                    const struct kv_slice *bulk,
                    size_t n_bulk)
{
    struct kv_transport *transport = arg;
    struct kv_peer_link *link = kv_transport_link(transport, peer_id);
    struct kv_slice pieces[KV_BATCH_COMMANDS_MAX / 4];
    struct kv_peer_conn *conn;
    int status;

    if (!link || !link->connected) {
        if (link) {
            link->stats.messages_dropped++;
        }
        return KV_CLOSED;
    }
    if (n_bulk + 1 > sizeof pieces / sizeof pieces[0]) {
        return KV_TOO_LARGE;
    }
    pieces[0] = head;
    if (n_bulk > 0) {
        memcpy(pieces + 1, bulk, n_bulk * sizeof *bulk);
    }
    conn = cls == KV_NET_BULK ? kv_peer_link_bulk(link) : link->out;
    status = conn ? queue_message(conn, cls, pieces, n_bulk + 1) : KV_BUSY;
    link->stats.messages_sent += status == 0;
    link->stats.messages_dropped += status != 0;
    return status;
}

static const struct kv_net_ops net_ops = {net_start, net_add_peer, net_remove_peer, net_send};

struct kv_net kv_transport_net(struct kv_transport *transport)
{
    return (struct kv_net){&net_ops, transport};
}

int kv_transport_port(const struct kv_transport *transport)
{
    return transport->port;
}

int kv_transport_peer_stats(const struct kv_transport *transport,
                            uint64_t peer_id,
                            struct kv_transport_peer_stats *ret_stats)
{
    const struct kv_peer_link *link = kv_transport_link(transport, peer_id);

    if (!link) {
        return KV_NOT_FOUND;
    }
    *ret_stats = link->stats;
    ret_stats->connected = link->connected;
    ret_stats->queued_bytes = link->out ? kv_peer_conn_queued(link->out) : 0;
    ret_stats->bulk_connected = link->bulk_out && link->bulk_out->state == KV_PEER_CONN_READY;
    ret_stats->bulk_queued_bytes = link->bulk_out ? kv_peer_conn_queued(link->bulk_out) : 0;
    return 0;
}

/* ---------------------------------------------------------------- the loop's side */

static void on_prepare(uv_prepare_t *prepare)
{
    struct kv_transport *transport = prepare->data;

    transport->turn++;
    kv_transport_accept_due(transport);
    for (struct kv_peer_conn *conn = transport->conns; conn; conn = conn->next) {
        if (!conn->closing && conn->state != KV_PEER_CONN_CONNECTING) {
            kv_peer_conn_flush(conn);
        }
    }
}

/* Closes for a reason that is logged. */
static void give_up(struct kv_peer_conn *conn, const char *reason)
{
    if (conn->accepted) {
        kv_transport_refuse(conn->transport, conn->remote, reason);
    } else {
        kv_peer_conn_failed(conn, reason);
    }
    kv_peer_conn_close(conn, false);
}

static bool bulk_is_idle(struct kv_peer_conn *conn, uint64_t now_ms)
{
    if (!conn->is_bulk || conn->accepted) {
        return false;
    }
    if (kv_peer_conn_queued(conn) > 0) {
        conn->last_busy_ms = now_ms;
    }
    return now_ms - conn->last_busy_ms >= KV_PEER_BULK_IDLE_MS;
}

/* With much under way its pong may be late, but it made room by reading. */
static void note_progress(struct kv_peer_conn *conn, uint64_t now_ms)
{
    size_t left = uv_stream_get_write_queue_size((const uv_stream_t *)&conn->tcp);

    if (left < conn->unwritten_bytes) {
        conn->last_alive_ms = now_ms;
    }
    conn->unwritten_bytes = left;
}

static void tend_conn(struct kv_peer_conn *conn, uint64_t now_ms)
{
    if (conn->closing) {
        return;
    }
    note_progress(conn, now_ms);
    if (conn->state != KV_PEER_CONN_READY) {
        if (now_ms - conn->opened_ms >= (conn->accepted ? KV_HELLO_TIMEOUT_MS : CONNECT_MS)) {
            give_up(conn, conn->accepted ? "it sent no hello in time" : "no answer in time");
        }
    } else if (now_ms - conn->last_alive_ms >= SILENCE_MS) {
        give_up(conn, "no sign of life for two seconds");
    } else if (bulk_is_idle(conn, now_ms)) {
        kv_peer_conn_close(conn, false);
    } else if (!conn->accepted && now_ms - conn->last_alive_ms >= PING_MS) {
        (void)!kv_peer_frame_append(&conn->urgent, KV_PEER_FRAME_PING, NULL, 0, false);
    }
}

/* Not at once when they are removed: whoever removes them may be in a call that came from one. */
static void free_removed_links(struct kv_transport *transport)
{
    struct kv_peer_link **at = &transport->links;

    while (*at) {
        struct kv_peer_link *link = *at;

        if (link->removed) {
            *at = link->next;
            free(link);
        } else {
            at = &link->next;
        }
    }
}

static bool is_quiet(const struct kv_transport *transport)
{
    const struct kv_peer_link *link = transport->links;
    const struct kv_peer_conn *conn = transport->conns;

    while (link && link->connected) {
        link = link->next;
    }
    while (conn && conn->state == KV_PEER_CONN_READY) {
        conn = conn->next;
    }
    return !link && !conn;
}

static void on_timer(uv_timer_t *timer)
{
    struct kv_transport *transport = timer->data;
    uint64_t now_ms = kv_transport_now_ms(transport);

    for (struct kv_peer_conn *conn = transport->conns; conn; conn = conn->next) {
        tend_conn(conn, now_ms);
    }
    free_removed_links(transport);
    for (struct kv_peer_link *link = transport->links; link; link = link->next) {
        kv_peer_link_dial(link);
    }
    uv_timer_set_repeat(timer, is_quiet(transport) ? QUIET_TICK_MS : TICK_MS);
}

static int resolve_listen(struct kv_transport *transport,
                          struct sockaddr_storage *ret_address,
                          struct kv_error *ret_error)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    uv_getaddrinfo_t request;
    char host[256];
    char port[8];
    int rv;

    if (kv_address_split(transport->options.listen, host, port) != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "\"%s\" is no address to listen on for peers: want host:port",
                            transport->options.listen);
    }
    /* Before the loop runs: blocking does no harm. */
    rv = uv_getaddrinfo(transport->loop, &request, NULL, host[0] ? host : "0.0.0.0", port, &hints);
    if (rv != 0) {
        return kv_error_set(ret_error,
                            KV_INVALID,
                            "cannot resolve %s, to listen on for peers: %s",
                            transport->options.listen,
                            uv_strerror(rv));
    }
    memcpy(ret_address, request.addrinfo->ai_addr, request.addrinfo->ai_addrlen);
    uv_freeaddrinfo(request.addrinfo);
    return 0;
}

static int start_listening(struct kv_transport *transport, struct kv_error *ret_error)
{
    struct sockaddr_storage address;
    int size = sizeof address;
    int status = resolve_listen(transport, &address, ret_error);
    int rv;

    if (status != 0) {
        return status;
    }
    rv = uv_tcp_bind(&transport->listener, (const struct sockaddr *)&address, 0);
    if (rv == 0) {
        rv = uv_listen((uv_stream_t *)&transport->listener, BACKLOG, kv_transport_on_connection);
    }
    if (rv == UV_EADDRINUSE) {
        return kv_error_set(
            ret_error,
            KV_IN_USE,
            "cannot listen for peers on %s: the port is taken; choose another --peer-listen",
            transport->options.listen);
    }
    if (rv != 0) {
        return kv_error_set(ret_error,
                            KV_IO,
                            "cannot listen for peers on %s: %s",
                            transport->options.listen,
                            uv_strerror(rv));
    }
    rv = uv_tcp_getsockname(&transport->listener, (struct sockaddr *)&address, &size);
    if (rv == 0) {
        transport->port =
            ntohs(address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                : ((struct sockaddr_in *)&address)->sin_port);
    }
    return 0;
}

static void start_handles(struct kv_transport *transport)
{
    KV_ASSERT(uv_tcp_init(transport->loop, &transport->listener) == 0);
    KV_ASSERT(uv_prepare_init(transport->loop, &transport->prepare) == 0);
    KV_ASSERT(uv_timer_init(transport->loop, &transport->timer) == 0);
    KV_ASSERT(uv_timer_init(transport->loop, &transport->wake) == 0);
    KV_ASSERT(uv_async_init(transport->loop, &transport->looked_up, kv_peer_link_on_looked_up) ==
              0);
    transport->listener.data = transport->prepare.data = transport->timer.data = transport;
    transport->wake.data = transport->looked_up.data = transport;
    transport->n_handles = 5;
    uv_prepare_start(&transport->prepare, on_prepare);
    uv_timer_start(&transport->timer, on_timer, TICK_MS, TICK_MS);
}

int kv_transport_open(const struct kv_transport_options *options,
                      struct kv_transport **ret_transport,
                      struct kv_error *ret_error)
{
    struct kv_transport *transport = calloc(1, sizeof *transport);
    int status;

    if (!transport) {
        return kv_error_set(ret_error, KV_NO_MEMORY, "no memory for the peer network");
    }
    transport->options = *options;
    transport->loop = options->loop;
    if (options->bulk_bytes_per_s == 0) {
        transport->options.bulk_bytes_per_s = KV_PEER_BULK_BYTES_PER_S_DEFAULT;
    } else if (options->bulk_bytes_per_s > KV_PEER_BULK_BYTES_PER_S_MAX) {
        transport->options.bulk_bytes_per_s = KV_PEER_BULK_BYTES_PER_S_MAX;
    }
    snprintf(
        transport->client_address, sizeof transport->client_address, "%s", options->client_address);
    start_handles(transport);
    status = start_listening(transport, ret_error);
    if (status != 0) {
        kv_transport_close(transport, NULL, NULL);
        return status;
    }
    *ret_transport = transport;
    return 0;
}

void kv_transport_handle_closed(struct kv_transport *transport)
{
    if (--transport->n_handles > 0) {
        return;
    }
    while (transport->links) {
        struct kv_peer_link *next = transport->links->next;

        free(transport->links);
        transport->links = next;
    }
    if (transport->on_closed) {
        transport->on_closed(transport->on_closed_arg);
    }
    free(transport);
}

static void on_handle_closed(uv_handle_t *handle)
{
    kv_transport_handle_closed(handle->data);
}

static void ignore_disconnected(void *arg, uint64_t peer_id, bool reset)
{
    (void)arg;
    (void)peer_id;
    (void)reset;
}

void kv_transport_close(struct kv_transport *transport, void (*cb)(void *arg), void *arg)
{
    if (!transport) {
        return;
    }
    transport->closing = true;
    transport->on_closed = cb;
    transport->on_closed_arg = arg;
    transport->handler.disconnected = ignore_disconnected;
    for (struct kv_peer_conn *conn = transport->conns; conn; conn = conn->next) {
        if (!conn->closing && conn->state == KV_PEER_CONN_READY) {
            kv_peer_conn_flush(conn);
        }
        kv_peer_conn_close(conn, false);
    }
    for (struct kv_peer_link *link = transport->links; link; link = link->next) {
        kv_peer_lookup_abandon(link->lookup);
        link->lookup = NULL;
    }
    uv_close((uv_handle_t *)&transport->wake, on_handle_closed);
    uv_close((uv_handle_t *)&transport->looked_up, on_handle_closed);
    uv_close((uv_handle_t *)&transport->listener, on_handle_closed);
    uv_close((uv_handle_t *)&transport->prepare, on_handle_closed);
    uv_close((uv_handle_t *)&transport->timer, on_handle_closed);
}
