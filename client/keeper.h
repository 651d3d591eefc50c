/* Leases kept alive over the session core, without I/O: those that are due are renewed together.
 *
 * A lease's time is counted from when the newest acknowledged renewal was handed to the session, so
 * it is never over later here than in the cluster. Not thread safe; from the session's inputs'
 * thread. Callbacks come from inside the session's inputs; in them any of these may be called. */
#ifndef KV_CLIENT_KEEPER_H
#define KV_CLIENT_KEEPER_H

#include "client/session.h"

#include <kv/lease.h>

struct kv_keeper;
struct kv_kept;

struct kv_kept_options {
    int64_t lease_id;
    uint64_t ttl_ms;
    uint64_t margin_ms;  /* 0: a quarter of the ttl */
    uint64_t granted_ns; /* when the grant or the last renewal was sent, or before */
    kv_lease_fn fn;      /* may be NULL */
    /* Every acknowledgement: certain until then. May be NULL. */
    void (*renewed)(void *arg, uint64_t certain_until_ns);
    void *arg;
};
/* KV_INVALID, KV_BUSY, KV_NO_MEMORY. */
int kv_kept_open(struct kv_session *session,
                 uint64_t now_ns,
                 const struct kv_kept_options *options,
                 struct kv_kept **ret_kept,
                 struct kv_error *ret_error) KV_MUST_CHECK;
/* Ends the keeping, not the lease. Takes NULL. */
void kv_kept_close(struct kv_kept *kept);
enum kv_lease_state kv_kept_state(const struct kv_kept *kept, uint64_t now_ns);
/* KV_LEASE_HELD until then, if it is that. */
uint64_t kv_kept_certain_until_ns(const struct kv_kept *kept);
/* A quarter when 0. KV_INVALID: the ttl is 0, or the margin over half of it. */
int kv_kept_margin(uint64_t ttl_ms, uint64_t *margin_ms, struct kv_error *ret_error) KV_MUST_CHECK;

/* With the session. Takes NULL. */
void kv_keeper_close(struct kv_keeper *keeper);

#endif
