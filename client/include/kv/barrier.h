/* Barriers: `parties` programs enter together, and leave together. Each has the key NAME/b-ID bound
 * to its lease; NAME/go is there from the moment when all have come until the last has left. Then
 * the barrier can be used again. Conventions: kv/client.h; see docs/guide/coordination.md. */
#ifndef KV_BARRIER_H
#define KV_BARRIER_H

#include <kv/client.h>
#include <kv/lease.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_barrier;

enum { KV_BARRIER_PARTIES_MAX = 4096 };

struct kv_barrier_options {
    struct kv_bytes name; /* as of kv_lock_options */
    unsigned parties;     /* 1..KV_BARRIER_PARTIES_MAX, the same for all */
    struct kv_bytes value;
    uint64_t ttl_ms;         /* one that crashed is waited for so long; 0: KV_LOCK_TTL_DEFAULT_MS */
    uint64_t timeout_ms;     /* KV_DEADLINE after so long; 0: waits. Of kv_barrier_leave, too */
    bool (*stop)(void *arg); /* as of kv_lock_options */
    void *arg;
};
/* Waits until all parties have entered. One that comes while an earlier round is leaving waits for
 * its end first. Errors as of kv_lock_acquire; the place is then given up. */
int kv_barrier_enter(struct kv_client *client,
                     const struct kv_barrier_options *options,
                     struct kv_barrier **ret_barrier,
                     struct kv_error *ret_error) KV_MUST_CHECK;
/* Leaves, and waits until all have left (or their leases have ended). Frees the barrier, whatever
 * comes of it. Takes NULL. */
int kv_barrier_leave(struct kv_barrier *barrier, struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
