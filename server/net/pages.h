/* What the http port shows, as text: metrics for Prometheus, and the status as JSON. Pure; any
 * thread. */
#ifndef KV_NET_PAGES_H
#define KV_NET_PAGES_H

#include "common/bytes.h"
#include "server/net/stats.h"
#include "server/node/node.h"

/* Appends to page. KV_TOO_LARGE, KV_NO_MEMORY: of the page. */
int kv_page_metrics(struct kv_buf *page,
                    const struct kv_node_status *status,
                    const struct kv_stats_total *stats,
                    const char *version) KV_MUST_CHECK;
int kv_page_status(struct kv_buf *page,
                   const struct kv_node_status *status,
                   const struct kv_stats_total *stats,
                   const char *version) KV_MUST_CHECK;

/* Why linearizable reads are not served, for people; "" when they are. Static. */
const char *kv_page_unhealthy(const struct kv_node_status *status);

#endif
