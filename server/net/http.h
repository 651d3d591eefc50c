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
    struct kv_server *server; /* for its counters */
    /* Called on the core for each request. scrape: it is for /metrics. False: there is no node yet,
     * or any more. */
    bool (*get_status)(void *arg, bool scrape, struct kv_node_status *ret_status);
    void *arg;
    unsigned wait_ms;         /* for the core; 0: 1000 */
    unsigned max_connections; /* at once; those beyond wait. 0: KV_HTTP_CONNECTIONS_MAX */
};

/* KV_INVALID, KV_IN_USE, KV_IO. */
int kv_http_open(const struct kv_http_options *options,
                 struct kv_http **ret_http,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* Takes NULL; the core's loop must run once more. */
void kv_http_close(struct kv_http *http);
int kv_http_port(const struct kv_http *http);

#endif
