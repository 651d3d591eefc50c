/* Inside kvctl: the configuration that `kvctl run` gives to its command: read, kept on disk,
 * followed. */
#ifndef KV_KVCTL_SERVICE_CONFIG_H
#define KV_KVCTL_SERVICE_CONFIG_H

#include "client/kvctl/document.h"

/* One state of it; owned as a whole. */
struct kvctl_config {
    struct kv_arena arena;
    struct kvctl_document document; /* sorted; revision 0: from the cache */
};
void kvctl_config_free(struct kvctl_config *config);

struct kvctl_config_source;
/* Reads it: from the cluster, or, when that is away, from the cache, which is said. KVCTL_OK or an
 * exit code, said. Starts a thread that follows it from there. */
int kvctl_config_open(struct kvctl *kvctl,
                      struct kvctl_config_source **ret_source,
                      struct kvctl_config **ret_config);
/* Readable when there is a newer one. */
int kvctl_config_fd(const struct kvctl_config_source *source);
/* The newest one, or NULL. */
struct kvctl_config *kvctl_config_take(struct kvctl_config_source *source);
void kvctl_config_close(struct kvctl_config_source *source);

#endif
