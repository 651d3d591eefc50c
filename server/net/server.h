/* The client side of a node: network threads that accept, frame, decode and validate; and the
 * core's end of the rings between them and the node.
 *
 * A request travels in a batch (everything that a thread decoded in one turn) to the core, and its
 * answer in a batch back. Requests and their connection live until the answer has been taken by
 * their thread. See docs/internals.md, "Clients". */
#ifndef KV_NET_SERVER_H
#define KV_NET_SERVER_H

#include "server/net/stats.h"
#include "server/node/node.h"

struct kv_server;
struct uv_loop_s;

struct kv_server_options {
    struct uv_loop_s *loop; /* the core's */
    const char *listen;     /* host:port; port 0: any */
    unsigned n_threads;     /* 0: clients are served on the core's loop itself */
    unsigned max_connections;
    const char *version;
    uint64_t (*now_ns)(void);
    /* 0: as in limits.h */
    unsigned hello_timeout_ms, frame_timeout_ms, linger_ms;
};

/* Binds the port. KV_INVALID, KV_IN_USE, KV_IO: say which address and what to do. Serves once
 * kv_server_start is called. */
int kv_server_open(const struct kv_server_options *options,
                   struct kv_server **ret_server,
                   struct kv_error *ret_error) KV_MUST_CHECK;
int kv_server_start(struct kv_server *server,
                    struct kv_node *node,
                    struct kv_error *ret_error) KV_MUST_CHECK;
/* The node is stopping: takes no new connections, tells each client to go (to leader_address, ""
 * unknown). What they ask until they have gone still reaches the node. Harmless when repeated. */
void kv_server_leave(struct kv_server *server, const char *leader_address);
/* The node answers whatever comes with SHUTTING_DOWN from now on: gives the clients up to
 * KV_LINGER_MS to close their end, closes the rest, ends the threads, then calls cb from the core's
 * loop (at once when it was never started). Answers that the node gives later are dropped. */
void kv_server_stop(struct kv_server *server, void (*cb)(void *arg), void *arg);
/* After kv_node_close and a last turn of the core's loop, or of a server never started. Takes NULL.
 */
void kv_server_free(struct kv_server *server);
int kv_server_port(const struct kv_server *server);

/* The answers' way out: struct kv_node_ops' first five, arg is the server. */
void kv_server_on_reply(void *server, struct kv_op *op, const Kv__Reply *reply);
void kv_server_on_reply_packed(void *server, struct kv_op *op, struct kv_slice reply);
size_t kv_server_on_stream_item(void *server, struct kv_op *op, const Kv__StreamItem *item);
size_t kv_server_on_stream_shared(void *server, struct kv_op *op, struct kv_shared *item);
bool kv_server_stream_has_room(void *server, struct kv_op *op);

/* Core, before each turn of the node: with clients on its own loop, what they have asked. */
void kv_server_gather(struct kv_server *server);
/* Core: hands the answers of this turn to their threads. */
void kv_server_flush(struct kv_server *server);
/* Core: what hellos and admission tell from now on. */
void kv_server_publish(struct kv_server *server, const struct kv_node_status *status);

/* Any thread. */
void kv_server_stats(const struct kv_server *server, struct kv_stats_total *ret_stats);
/* The part of a status that is about clients; the arrays are the server's, until the next call. */
void kv_server_fill_status(struct kv_server *server, Kv__StatusResult *status);

#endif
