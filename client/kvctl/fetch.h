/* Inside kvctl: typed keys out of a cluster, all of one revision. */
#ifndef KV_KVCTL_FETCH_H
#define KV_KVCTL_FETCH_H

#include "client/kvctl/document.h"

struct kvctl_source {
    struct kv_client *client;
    struct kv_call_options options;
    bool no_content; /* of collections: only their type is wanted */
};

/* The newest revision. */
int kvctl_fetch_revision(const struct kvctl_source *source,
                         int64_t *ret_revision,
                         struct kv_error *ret_error) KV_MUST_CHECK;
/* Adds the keys of the range, as they are, or were at a revision; sets document->revision. Rate
 * limiters are left out and counted in *ret_limiters (may be NULL). Not sorted. */
int kvctl_fetch_range(const struct kvctl_source *source,
                      const struct kv_range_spec *range,
                      int64_t at_revision,
                      struct kvctl_document *document,
                      size_t *ret_limiters,
                      struct kv_error *ret_error) KV_MUST_CHECK;
/* Adds those that exist of the keys that are in `wanted`; the same otherwise. A rate limiter is an
 * entry without content. */
int kvctl_fetch_keys(const struct kvctl_source *source,
                     const struct kvctl_document *wanted,
                     int64_t at_revision,
                     struct kvctl_document *document,
                     struct kv_error *ret_error) KV_MUST_CHECK;

#endif
