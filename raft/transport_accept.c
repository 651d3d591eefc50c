/* Who may connect: strangers take turns in what the members leave. */
#include "raft/transport_internal.h"

/* The oldest that has said no valid hello. */
static struct kv_peer_conn *oldest_stranger(const struct kv_transport *transport)
{
    struct kv_peer_conn *oldest = NULL;

    /* The newest come first. */
    for (struct kv_peer_conn *conn = transport->conns; conn; conn = conn->next) {
        if (conn->accepted && !conn->closing && conn->state == KV_PEER_CONN_HELLO) {
            oldest = conn;
        }
    }
    return oldest;
}

/* False: not before the next turn. */
static bool make_room(struct kv_transport *transport)
{
    struct kv_peer_conn *oldest;

    if (transport->n_accepted < KV_PEER_ACCEPTED_MAX) {
        return true;
    }
    oldest = oldest_stranger(transport);
    /* It may be a member whose hello is there but not yet read: the sockets are read in the turn
     * after the one in which it was accepted. */
    if (!oldest || transport->turn - oldest->turn < 2) {
        return false;
    }
    kv_transport_refuse(
        transport, oldest->remote, "too many connections, and it was the first without a hello");
    kv_peer_conn_close(oldest, false);
    return true;
}

static void accept_one(struct kv_transport *transport)
{
    struct kv_peer_conn *conn = make_room(transport) ? kv_peer_conn_new(transport, true) : NULL;

    transport->accept_due = !conn;
    if (!conn) {
        kv_transport_wake(transport, 1);
        return;
    }
    if (uv_accept((uv_stream_t *)&transport->listener, (uv_stream_t *)&conn->tcp) != 0 ||
        !transport->started || kv_peer_conn_start_reading(conn) != 0) {
        kv_peer_conn_close(conn, false);
    }
}

void kv_transport_on_connection(uv_stream_t *listener, int status)
{
    if (status == 0) {
        accept_one(listener->data);
    }
}

void kv_transport_accept_due(struct kv_transport *transport)
{
    if (transport->accept_due) {
        accept_one(transport);
    }
}
