/* The http port: /metrics (Prometheus text), /health, /ready, /livez, /status (JSON). Read only, on
 * a thread of its own. */
#ifndef KV_NET_HTTP_H
#define KV_NET_HTTP_H

#include "server/net/server.h"

struct kv_http;

struct kv_http_options {
    struct uv_loop_s *loop; /* the core's */
    const char *listen;     /* host:port */
    const char *version;
    struct kv_server *server;
};

/* KV_INVALID, KV_IN_USE, KV_IO. */
int kv_http_open(const struct kv_http_options *options,
                 struct kv_http **ret_http,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* Answers from now on with the node's state, asked for on the core at each request; NULL: stopping.
 */
void kv_http_set_node(struct kv_http *http, struct kv_node *node);
void kv_http_close(struct kv_http *http); /* takes NULL; the core's loop must run once more */
int kv_http_port(const struct kv_http *http);

#endif
