/* What is done to keys of any type: type, rename, copy, touch; how long they live; and their past:
 * history, compaction.
 * Conventions (status, threads, memory, retries): kv/client.h. Deleting, counting and ranges of
 * keys are there too. */
#ifndef KV_KEYS_H
#define KV_KEYS_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the key holds; KV_TYPE_NONE: it does not exist. KV_COMPACTED, KV_FUTURE_REVISION. */
int kv_type_of(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_get_options *options,
               enum kv_type *ret_type,
               struct kv_error *ret_error) KV_MUST_CHECK;
/* "string", "hash", ..., "none"; "?" for a number that is none. */
const char *kv_type_name(enum kv_type type);

/* Gives what `key` holds, whatever its type, the name `to`. if_absent: KV_EXISTS when `to` is
 * there, else it is overwritten. KV_NOT_FOUND: no such key. */
int kv_rename(struct kv_client *client,
              struct kv_bytes key,
              struct kv_bytes to,
              bool if_absent,
              const struct kv_call_options *options,
              struct kv_error *ret_error) KV_MUST_CHECK;

/* As kv_rename, but `key` stays; the copy has neither lease nor expiry. KV_TOO_LARGE: a collection
 * over the cluster's work limit. */
int kv_copy(struct kv_client *client,
            struct kv_bytes key,
            struct kv_bytes to,
            bool if_absent,
            const struct kv_call_options *options,
            struct kv_error *ret_error) KV_MUST_CHECK;

/* Raises version and mod_revision of the keys that exist, all to one revision. *ret_touched (may be
 * NULL): how many there were. */
int kv_touch(struct kv_client *client,
             const struct kv_bytes *keys,
             size_t n_keys,
             const struct kv_call_options *options,
             uint64_t *ret_touched,
             struct kv_error *ret_error) KV_MUST_CHECK;

/* ---------------------------------------------------------------- how long it lives */

/* Lets a key end after ttl_ms, counted from when the cluster does this, rather than with what it
 * had before: not earlier, and under 100 ms late as a rule. With a lease: kv_lease_attach
 * (kv/lease.h). KV_NOT_FOUND: no such key; KV_OUT_OF_BOUNDS: ttl_ms is 0 or too large. */
int kv_expire(struct kv_client *client,
              struct kv_bytes key,
              uint64_t ttl_ms,
              const struct kv_call_options *options,
              struct kv_error *ret_error) KV_MUST_CHECK;

/* Takes expiry and lease off a key. *ret_done (may be NULL): it had one. KV_NOT_FOUND: no such key.
 */
int kv_persist(struct kv_client *client,
               struct kv_bytes key,
               const struct kv_call_options *options,
               bool *ret_done,
               struct kv_error *ret_error) KV_MUST_CHECK;

struct kv_ttl {
    int64_t remaining_ms; /* -1: it does not end by itself */
    int64_t lease_id;     /* 0: none */
};
/* KV_NOT_FOUND: no such key. */
int kv_ttl(struct kv_client *client,
           struct kv_bytes key,
           const struct kv_call_options *options,
           struct kv_ttl *ret_ttl,
           struct kv_error *ret_error) KV_MUST_CHECK;

/* ---------------------------------------------------------------- the past */

/* A change of a key. */
struct kv_version {
    struct kv_pair pair; /* borrowed from the history: do not free it */
    bool deleted; /* the key went at pair.mod_revision; of the pair only that and the key count */
};
struct kv_history {
    size_t n_versions;
    struct kv_version *versions;
    bool more; /* ask again behind the last one's mod_revision */
    int64_t revision;
    void *memory;
};
struct kv_history_options {
    int64_t from_revision; /* inclusive; 0: the oldest that is kept */
    int64_t to_revision;   /* inclusive; 0: now */
    uint64_t limit;        /* versions; 0: what one reply holds */
    bool descending;       /* the newest first */
    struct kv_call_options call;
};
/* The versions of a key that are still kept (settings history-age and history-bytes).
 * KV_COMPACTED, KV_FUTURE_REVISION. */
int kv_key_history(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_history_options *options,
                   struct kv_history *ret_history,
                   struct kv_error *ret_error) KV_MUST_CHECK;
void kv_history_free(struct kv_history *history);

/* Forgets, on all nodes, what reads at revisions before `revision` would need. *ret_oldest (may be
 * NULL): the oldest revision that can be read now. KV_OUT_OF_BOUNDS: it is in the future. */
int kv_compact(struct kv_client *client,
               int64_t revision,
               const struct kv_call_options *options,
               int64_t *ret_oldest,
               struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
