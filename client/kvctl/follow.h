/* Inside kvctl: being told that something in some ranges has changed, to read it anew. */
#ifndef KV_KVCTL_FOLLOW_H
#define KV_KVCTL_FOLLOW_H

#include "client/kvctl/document.h"

enum { KVCTL_FOLLOW_RANGES_MAX = 16 }; /* a watch and a thread each */

struct kvctl_follow;

/* What happens to the ranges behind a revision. `command` begins what is said on err when the
 * cluster goes away, and when it is back. The client must outlive it. */
int kvctl_follow_open(struct kv_client *client,
                      const struct kv_range_spec *ranges,
                      size_t n_ranges,
                      int64_t revision,
                      const char *command,
                      FILE *err,
                      struct kvctl_follow **ret_follow,
                      struct kv_error *ret_error) KV_MUST_CHECK;
/* Readable when something has changed. */
int kvctl_follow_fd(const struct kvctl_follow *follow);
/* It is known. 0; the error of a watch that is over: nothing more will be told. */
int kvctl_follow_take(struct kvctl_follow *follow, struct kv_error *ret_error) KV_MUST_CHECK;
/* Takes NULL. */
void kvctl_follow_close(struct kvctl_follow *follow);

#endif
