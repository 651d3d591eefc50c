/* Sets: different members without an order of yours (they are kept in bytewise order). A member has
 * at most the size of a key. Conventions (status, threads, memory, retries): kv/client.h. Every
 * call: KV_WRONG_TYPE when the key holds something else. A set without members does not exist. */
#ifndef KV_SET_H
#define KV_SET_H

#include <kv/elements.h>
#include <kv/hash.h> /* struct kv_scan_options */

#ifdef __cplusplus
extern "C" {
#endif

/* *ret_added (may be NULL): how many are new. */
int kv_set_add(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_bytes *members,
               size_t n_members,
               const struct kv_call_options *options,
               uint64_t *ret_added,
               struct kv_error *ret_error) KV_MUST_CHECK;

/* *ret_removed (may be NULL): how many were there. */
int kv_set_remove(struct kv_client *client,
                  struct kv_bytes key,
                  const struct kv_bytes *members,
                  size_t n_members,
                  const struct kv_call_options *options,
                  uint64_t *ret_removed,
                  struct kv_error *ret_error) KV_MUST_CHECK;

/* ret_present: n_members long. */
int kv_set_has(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_bytes *members,
               size_t n_members,
               const struct kv_get_options *options,
               bool *ret_present,
               struct kv_error *ret_error) KV_MUST_CHECK;

/* Members in bytewise order, in pieces when there are many (options may be NULL: from the start).
 */
int kv_set_members(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_scan_options *options,
                   struct kv_elements *ret_members,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* 0 when absent. */
int kv_set_len(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_get_options *options,
               uint64_t *ret_count,
               struct kv_error *ret_error) KV_MUST_CHECK;

/* Takes up to count members (0: one), chosen by chance, the same ones on every node. */
int kv_set_pop(struct kv_client *client,
               struct kv_bytes key,
               uint64_t count,
               const struct kv_call_options *options,
               struct kv_elements *ret_members,
               struct kv_error *ret_error) KV_MUST_CHECK;

/* Up to count different members (0: one), chosen by chance; they stay. */
int kv_set_random(struct kv_client *client,
                  struct kv_bytes key,
                  uint64_t count,
                  const struct kv_call_options *options,
                  struct kv_elements *ret_members,
                  struct kv_error *ret_error) KV_MUST_CHECK;

enum kv_combination {
    KV_UNION = 0,
    KV_INTERSECTION = 1,
    KV_DIFFERENCE = 2, /* of the first and all others */
};
/* Combines sets; absent ones are empty. KV_TOO_LARGE: over the work limit, or over one reply. */
int kv_set_combine(struct kv_client *client,
                   enum kv_combination combination,
                   const struct kv_bytes *keys,
                   size_t n_keys,
                   const struct kv_call_options *options,
                   struct kv_elements *ret_members,
                   struct kv_error *ret_error) KV_MUST_CHECK;
/* The same, and the result replaces what `store` holds, whatever that is; an empty result deletes
 * it. *ret_stored (may be NULL): how many members it has. */
int kv_set_combine_store(struct kv_client *client,
                         enum kv_combination combination,
                         const struct kv_bytes *keys,
                         size_t n_keys,
                         struct kv_bytes store,
                         const struct kv_call_options *options,
                         uint64_t *ret_stored,
                         struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
