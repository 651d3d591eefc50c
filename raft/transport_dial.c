/* Reaching a peer: its name is resolved off the loop, again at each attempt (containers move);
 * backoff with jitter. */
#include "common/log.h"
#include "raft/transport_internal.h"

#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

static uint64_t random_below(struct kv_transport *transport, uint64_t below)
{
    return below ? transport->options.random(transport->options.random_arg) % below : 0;
}

void kv_peer_link_failed(struct kv_peer_link *link, const char *reason)
{
    uint64_t backoff = link->backoff_ms ? link->backoff_ms * 2 : KV_PEER_BACKOFF_MIN_MS;

    link->backoff_ms = backoff < KV_PEER_BACKOFF_MAX_MS ? backoff : KV_PEER_BACKOFF_MAX_MS;
    link->retry_ms = kv_transport_now_ms(link->transport) + link->backoff_ms / 2 +
                     random_below(link->transport, link->backoff_ms);
    if (strncmp(link->last_error, reason, sizeof link->last_error - 1) != 0) {
        snprintf(link->last_error, sizeof link->last_error, "%s", reason);
        KV_LOG(WARN,
               "peer",
               "unreachable",
               "peer=%" PRIu64 " address=%s reason=\"%s\"",
               link->id,
               link->address,
               link->last_error);
    }
}

static void on_connected(uv_connect_t *request, int status)
{
    struct kv_peer_conn *conn = request->data;
    struct kv_peer_link *link = conn->link;

    if (status == UV_ECANCELED || conn->closing || !link) {
        return;
    }
    if (status == 0) {
        conn->state = KV_PEER_CONN_HELLO;
        status = kv_peer_conn_start_reading(conn);
        status = status ? status : kv_peer_conn_send_hello(conn);
        if (status == 0) {
            kv_peer_conn_flush(conn);
            return;
        }
        kv_peer_link_failed(link, kv_status_text(status));
    } else {
        kv_peer_link_failed(link, uv_strerror(status));
    }
    kv_peer_conn_close(conn, status == UV_ECONNREFUSED);
}

static void connect_to(struct kv_peer_link *link, const struct sockaddr *address)
{
    struct kv_peer_conn *conn = kv_peer_conn_new(link->transport, false);
    int status;

    if (!conn) {
        kv_peer_link_failed(link, "no memory");
        return;
    }
    conn->link = link;
    conn->state = KV_PEER_CONN_CONNECTING;
    conn->connect.data = conn;
    link->out = conn;
    status = uv_tcp_connect(&conn->connect, &conn->tcp, address, on_connected);
    if (status != 0) {
        kv_peer_link_failed(link, uv_strerror(status));
        kv_peer_conn_close(conn, false);
    }
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *found)
{
    struct kv_peer_link *link = request->data;
    struct kv_transport *transport = link->transport;

    link->resolving = false;
    if (!transport->closing && !link->removed && !link->out) {
        if (status != 0 || !found) {
            kv_peer_link_failed(link, uv_strerror(status));
        } else {
            connect_to(link, found->ai_addr);
        }
    }
    uv_freeaddrinfo(found);
    kv_transport_handle_closed(transport);
}

void kv_peer_link_dial(struct kv_peer_link *link)
{
    struct kv_transport *transport = link->transport;
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
    char host[256];
    char port[8];
    int status;

    if (link->out || link->resolving || link->removed || transport->closing ||
        kv_transport_now_ms(transport) < link->retry_ms) {
        return;
    }
    if (kv_address_split(link->address, host, port) != 0) {
        kv_peer_link_failed(link, "the address is malformed: want host:port");
        return;
    }
    link->resolver.data = link;
    status = uv_getaddrinfo(
        transport->loop, &link->resolver, on_resolved, host[0] ? host : "localhost", port, &hints);
    if (status != 0) {
        kv_peer_link_failed(link, uv_strerror(status));
        return;
    }
    link->resolving = true;
    transport->n_handles++;
}
