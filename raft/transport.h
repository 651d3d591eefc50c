/* Connections between nodes: struct kv_net over libuv TCP, for the core loop. Each node dials every
 * peer; what it sends goes out on that connection, what it receives comes in on the one that the
 * peer dialed. Bulk messages have a second connection, dialed when there are some. See
 * docs/internals.md, "Peers".
 *
 * All functions and callbacks run on the loop's thread. Callbacks of kv_net_handler never come from
 * within send(). */
#ifndef KV_RAFT_TRANSPORT_H
#define KV_RAFT_TRANSPORT_H

#include "raft/env.h"

struct kv_transport;
struct uv_loop_s;

struct kv_transport_options {
    struct uv_loop_s *loop;
    uint64_t cluster_id;
    uint64_t node_id;
    const char *listen;         /* host:port; port 0: any */
    const char *client_address; /* told to peers */
    uint64_t machine_version;
    bool compress;             /* lz4 for large messages when it pays */
    uint64_t bulk_bytes_per_s; /* to each peer; 0: KV_PEER_BULK_BYTES_PER_S_DEFAULT */
    uint64_t (*random)(void *arg);
    void *random_arg;
    uint64_t (*now_ms)(void *arg); /* monotonic; NULL: the loop's */
    void *now_arg;
};

/* Listens. KV_INVALID: the address; KV_IN_USE: the port is taken; KV_IO. */
int kv_transport_open(const struct kv_transport_options *options,
                      struct kv_transport **ret_transport,
                      struct kv_error *ret_error) KV_MUST_CHECK;
/* Writes what is queued as far as the sockets take it, closes all, waits for no look-up of a name;
 * frees itself when the loop has run its close callbacks, then calls cb (may be NULL). Takes NULL.
 */
void kv_transport_close(struct kv_transport *transport, void (*cb)(void *arg), void *arg);
struct kv_net kv_transport_net(struct kv_transport *transport);
int kv_transport_port(const struct kv_transport *transport);

struct kv_transport_peer_stats {
    uint64_t bytes_sent, bytes_received, messages_sent, messages_received;
    uint64_t messages_dropped; /* queue full, not connected, or queued when the connection was lost
                                */
    uint64_t connects, bulk_connects;
    size_t queued_bytes, bulk_queued_bytes; /* framed, not yet taken by the system */
    bool connected, bulk_connected;
};
/* KV_NOT_FOUND: no such peer. */
int kv_transport_peer_stats(const struct kv_transport *transport,
                            uint64_t peer_id,
                            struct kv_transport_peer_stats *ret_stats) KV_MUST_CHECK;

/* "host:port", "[v6]:port" or ":port" (host "") into its parts. KV_INVALID. */
int kv_address_split(const char *address, char host[256], char port[8]) KV_MUST_CHECK;

#endif
