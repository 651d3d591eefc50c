/* Counters: signed 64-bit numbers that are added to. A string of digits is not a counter.
 * Conventions (status, threads, memory, retries): kv/client.h. Every call: KV_WRONG_TYPE when the
 * key holds something else. */
#ifndef KV_COUNTER_H
#define KV_COUNTER_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

struct kv_counter_options {
    const int64_t *min; /* borrowed; NULL: none */
    const int64_t *max;
    int64_t initial; /* value before the first add, when the key does not exist */
    uint64_t ttl_ms; /* only when this makes the key; 0: none */
    struct kv_call_options call;
};
/* Adds delta, which may be negative; *ret_value (may be NULL) is the number afterwards.
 * KV_OVERFLOW, KV_OUT_OF_BOUNDS (below min or above max): nothing changed. */
int kv_counter_add(struct kv_client *client,
                   struct kv_bytes key,
                   int64_t delta,
                   const struct kv_counter_options *options,
                   int64_t *ret_value,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* KV_NOT_FOUND, KV_COMPACTED, KV_FUTURE_REVISION. */
int kv_counter_get(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_get_options *options,
                   int64_t *ret_value,
                   struct kv_error *ret_error) KV_MUST_CHECK;

/* Makes the counter when it does not exist. */
int kv_counter_set(struct kv_client *client,
                   struct kv_bytes key,
                   int64_t value,
                   const struct kv_call_options *options,
                   struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
