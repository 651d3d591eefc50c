/* Reaching a peer: its name is resolved again at each attempt (containers move), and the next
 * attempt takes the next of its addresses; backoff with jitter. The bulk connection goes where the
 * other one went. */
#include "common/log.h"
#include "raft/transport_internal.h"

#include <inttypes.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t random_below(struct kv_transport *transport, uint64_t below)
{
    return below ? transport->options.random(transport->options.random_arg) % below : 0;
}

void kv_peer_attempts_reset(struct kv_peer_attempts *attempts)
{
    attempts->retry_ms = 0;
    attempts->backoff_ms = 0;
    attempts->last_error[0] = '\0';
}

static void attempt_failed(struct kv_peer_link *link, bool is_bulk, const char *reason)
{
    struct kv_peer_attempts *attempts = is_bulk ? &link->bulk_attempts : &link->attempts;
    uint64_t backoff = attempts->backoff_ms ? attempts->backoff_ms * 2 : KV_PEER_BACKOFF_MIN_MS;

    attempts->n_failed++;
    attempts->backoff_ms = backoff < KV_PEER_BACKOFF_MAX_MS ? backoff : KV_PEER_BACKOFF_MAX_MS;
    attempts->retry_ms = kv_transport_now_ms(link->transport) + attempts->backoff_ms / 2 +
                         random_below(link->transport, attempts->backoff_ms);
    if (strncmp(attempts->last_error, reason, sizeof attempts->last_error - 1) != 0) {
        snprintf(attempts->last_error, sizeof attempts->last_error, "%s", reason);
        KV_LOG(WARN,
               "peer",
               is_bulk ? "bulk_unreachable" : "unreachable",
               "peer=%" PRIu64 " address=%s reason=\"%s\"",
               link->id,
               link->address,
               attempts->last_error);
    }
}

void kv_peer_conn_failed(struct kv_peer_conn *conn, const char *reason)
{
    if (conn->link) {
        attempt_failed(conn->link, conn->is_bulk, reason);
    }
}

static void on_connected(uv_connect_t *request, int status)
{
    struct kv_peer_conn *conn = request->data;

    if (status == UV_ECANCELED || conn->closing || !conn->link) {
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
        kv_peer_conn_failed(conn, kv_status_text(status));
    } else {
        kv_peer_conn_failed(conn, uv_strerror(status));
    }
    kv_peer_conn_close(conn, status == UV_ECONNREFUSED);
}

/* NULL: it has failed already. */
static struct kv_peer_conn *
connect_to(struct kv_peer_link *link, bool is_bulk, const struct sockaddr *address)
{
    struct kv_peer_conn *conn = kv_peer_conn_new(link->transport, false);
    int status;

    if (!conn) {
        attempt_failed(link, is_bulk, "no memory");
        return NULL;
    }
    conn->link = link;
    conn->is_bulk = is_bulk;
    conn->queue_bytes_max = is_bulk ? KV_PEER_BULK_QUEUE_BYTES_MAX : KV_PEER_QUEUE_BYTES_MAX;
    conn->state = KV_PEER_CONN_CONNECTING;
    conn->connect.data = conn;
    *(is_bulk ? &link->bulk_out : &link->out) = conn;
    status = uv_tcp_connect(&conn->connect, &conn->tcp, address, on_connected);
    if (status != 0) {
        kv_peer_conn_failed(conn, uv_strerror(status));
        kv_peer_conn_close(conn, false);
        return NULL;
    }
    return conn;
}

/* The attempts go round the addresses; one that served stays the first choice. */
static const struct sockaddr *choose_address(const struct kv_peer_link *link,
                                             const struct addrinfo *found)
{
    unsigned n = 0;

    for (const struct addrinfo *at = found; at; at = at->ai_next) {
        n++;
    }
    for (unsigned skip = link->attempts.n_failed % n; skip > 0; skip--) {
        found = found->ai_next;
    }
    return found->ai_addr;
}

static void link_looked_up(struct kv_peer_link *link)
{
    struct addrinfo *found;
    int error;

    if (!link->lookup || !kv_peer_lookup_end(link->lookup, &found, &error)) {
        return;
    }
    link->lookup = NULL;
    if (!found) {
        attempt_failed(link, false, gai_strerror(error));
        return;
    }
    if (!link->out) {
        (void)connect_to(link, false, choose_address(link, found));
    }
    freeaddrinfo(found);
}

void kv_peer_link_on_looked_up(uv_async_t *async)
{
    struct kv_transport *transport = async->data;

    for (struct kv_peer_link *link = transport->links; link; link = link->next) {
        link_looked_up(link);
    }
}

void kv_peer_link_dial(struct kv_peer_link *link)
{
    struct kv_transport *transport = link->transport;
    struct sockaddr_storage address;
    char host[256];
    char port[8];

    if (link->out || link->lookup || link->removed || transport->closing ||
        kv_transport_now_ms(transport) < link->attempts.retry_ms) {
        return;
    }
    if (kv_address_split(link->address, host, port) != 0) {
        attempt_failed(link, false, "the address is malformed: want host:port");
    } else if (uv_ip4_addr(host, atoi(port), (struct sockaddr_in *)&address) == 0 ||
               uv_ip6_addr(host, atoi(port), (struct sockaddr_in6 *)&address) == 0) {
        (void)connect_to(link, false, (const struct sockaddr *)&address);
    } else if (kv_peer_lookup_start(
                   host[0] ? host : "localhost", port, &transport->looked_up, &link->lookup) != 0) {
        attempt_failed(link, false, "no memory for a look-up of its name");
    }
}

struct kv_peer_conn *kv_peer_link_bulk(struct kv_peer_link *link)
{
    struct sockaddr_storage address;
    int size = sizeof address;

    if (link->bulk_out) {
        return link->bulk_out;
    }
    if (kv_transport_now_ms(link->transport) < link->bulk_attempts.retry_ms ||
        uv_tcp_getpeername(&link->out->tcp, (struct sockaddr *)&address, &size) != 0) {
        return NULL;
    }
    return connect_to(link, true, (const struct sockaddr *)&address);
}
