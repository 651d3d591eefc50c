/* Rate limiters: a token bucket under a key (GCRA over the cluster's time, which all nodes agree
 * on). Conventions (status, threads, memory, retries): kv/client.h. */
#ifndef KV_LIMITER_H
#define KV_LIMITER_H

#include <kv/client.h>

#ifdef __cplusplus
extern "C" {
#endif

/* `rate` permits per period_ms, at most `burst` at once. */
struct kv_limit {
    uint64_t rate;      /* 1 or more */
    uint64_t period_ms; /* 1 or more */
    uint64_t burst;     /* 1 or more */
};
struct kv_limiter_result {
    bool allowed;
    uint64_t remaining;      /* permits that could be had at once now */
    uint64_t retry_after_ms; /* 0 when allowed: else when n could be had if nobody else asks */
};
/* Asks for n permits (0: one), all or none. A refusal is no error: look at ret_result->allowed.
 * KV_INVALID: a zero in the limit, n over burst, numbers beyond bounds. KV_WRONG_TYPE. */
int kv_limiter_acquire(struct kv_client *client,
                       struct kv_bytes key,
                       const struct kv_limit *limit,
                       uint64_t n,
                       const struct kv_call_options *options,
                       struct kv_limiter_result *ret_result,
                       struct kv_error *ret_error) KV_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
