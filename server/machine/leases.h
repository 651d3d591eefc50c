/* Leases: times that keys share. Part of the state: changed by committed entries only, times are
 * cluster times. Which keys belong to a lease is in deadlines.h.
 *
 * A lease is dead once an entry has ended what is due at its deadline; it stays in the table until
 * its last key is gone. Core thread. Memory that cannot be had aborts the process (machine.h). */
#ifndef KV_MACHINE_LEASES_H
#define KV_MACHINE_LEASES_H

#include "common/status.h"
#include "server/machine/heap.h"
#include "server/machine/tree.h"

struct kv_lease {
    struct kv_heap_item item; /* deadline; its number is the id */
    uint64_t ttl_ms;
    bool revoked; /* its keys are deleted, they do not expire */
    uint64_t hash;
};
static inline int64_t kv_lease_id(const struct kv_lease *lease)
{
    return (int64_t)lease->item.number;
}

struct kv_leases {
    struct kv_tree by_id; /* ids, big endian; each value is a pointer */
    struct kv_heap heap;
    uint64_t hash; /* sum over the leases */
};

void kv_leases_init(struct kv_leases *leases);
void kv_leases_deinit(struct kv_leases *leases);
/* NULL: it is not there. */
struct kv_lease *kv_leases_find(const struct kv_leases *leases, int64_t id);
/* To walk over those with ids above, by kv_tree_next(), while none comes or goes. */
void kv_leases_seek(const struct kv_leases *leases, int64_t id, struct kv_tree_cursor *ret_cursor);
/* NULL: behind the last. */
struct kv_lease *kv_leases_at(const struct kv_tree_cursor *cursor);
/* The first with an id above; NULL: there is none. */
struct kv_lease *kv_leases_next(const struct kv_leases *leases, int64_t id);
/* There is none with this id. */
struct kv_lease *kv_leases_add(
    struct kv_leases *leases, int64_t id, uint64_t ttl_ms, int64_t deadline_ms, bool revoked);
void kv_leases_remove(struct kv_leases *leases, struct kv_lease *lease);
void kv_leases_renew(struct kv_leases *leases, struct kv_lease *lease, int64_t now_ms);
/* Its deadline is now. */
void kv_leases_revoke(struct kv_leases *leases, struct kv_lease *lease, int64_t now_ms);
/* The one that ends next, by (deadline, id); NULL: there is none. */
static inline struct kv_lease *kv_leases_first(const struct kv_leases *leases)
{
    return (struct kv_lease *)(void *)kv_heap_first(&leases->heap);
}
/* What one counts against the data limit, besides its keys, and what all do. */
enum { KV_LEASE_COST_BYTES = 96 };
static inline uint64_t kv_leases_bytes(const struct kv_leases *leases)
{
    return (uint64_t)KV_LEASE_COST_BYTES * leases->heap.n;
}
void kv_leases_check_invariants(const struct kv_leases *leases);

/* --- for a snapshot --- */
enum { KV_LEASE_BODY_BYTES = 32 };
/* The bodies of all, by ascending id, KV_LEASE_BODY_BYTES each. KV_NO_MEMORY. */
int kv_leases_copy(const struct kv_leases *leases, struct kv_buf *ret_bodies) KV_MUST_CHECK;
/* Adds what a body says, believing nothing. now_ms: the cluster time. KV_CORRUPT with a text. */
int kv_leases_restore(struct kv_leases *leases,
                      const uint8_t *body,
                      int64_t now_ms,
                      struct kv_error *ret_error) KV_MUST_CHECK;

#endif
