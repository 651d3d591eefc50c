/* The typed calls on counters and limiters. */
#include "client/typed.h"

#include <kv/counter.h>
#include <kv/limiter.h>

int kv_counter_add(struct kv_client *client,
                   struct kv_bytes key,
                   int64_t delta,
                   const struct kv_counter_options *options,
                   int64_t *ret_value,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__CounterAdd command = KV__COUNTER_ADD__INIT;
    Kv__Int64Bound min = KV__INT64_BOUND__INIT;
    Kv__Int64Bound max = KV__INT64_BOUND__INIT;

    command.key = kv_bytes_to_proto(key);
    command.delta = delta;
    if (options) {
        if (options->min) {
            min.value = *options->min;
            command.min = &min;
        }
        if (options->max) {
            max.value = *options->max;
            command.max = &max;
        }
        command.initial = options->initial;
        command.ttl_ms = options->ttl_ms;
    }
    return kv_typed_counter(&typed, KV__REQUEST__COMMAND_COUNTER_ADD, &command, ret_value);
}

int kv_counter_get(struct kv_client *client,
                   struct kv_bytes key,
                   const struct kv_get_options *options,
                   int64_t *ret_value,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options ? &options->call : NULL, ret_error};
    Kv__CounterGet command = KV__COUNTER_GET__INIT;

    command.key = kv_bytes_to_proto(key);
    command.at_revision = options ? options->at_revision : 0;
    return kv_typed_counter(&typed, KV__REQUEST__COMMAND_COUNTER_GET, &command, ret_value);
}

int kv_counter_set(struct kv_client *client,
                   struct kv_bytes key,
                   int64_t value,
                   const struct kv_call_options *options,
                   struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__CounterSet command = KV__COUNTER_SET__INIT;

    command.key = kv_bytes_to_proto(key);
    command.value = value;
    return kv_typed_counter(&typed, KV__REQUEST__COMMAND_COUNTER_SET, &command, NULL);
}

int kv_limiter_acquire(struct kv_client *client,
                       struct kv_bytes key,
                       const struct kv_limit *limit,
                       uint64_t n,
                       const struct kv_call_options *options,
                       struct kv_limiter_result *ret_result,
                       struct kv_error *ret_error)
{
    struct kv_typed typed = {client, options, ret_error};
    Kv__LimiterAcquire command = KV__LIMITER_ACQUIRE__INIT;
    Kv__Reply *reply;
    int status;

    command.key = kv_bytes_to_proto(key);
    command.rate = limit->rate;
    command.period_ms = limit->period_ms;
    command.burst = limit->burst;
    command.n = n;
    status = kv_typed_call(&typed, KV__REQUEST__COMMAND_LIMITER_ACQUIRE, &command, &reply);
    if (status == 0) {
        *ret_result = (struct kv_limiter_result){
            .allowed = reply->limiter_acquire->allowed,
            .remaining = reply->limiter_acquire->remaining,
            .retry_after_ms = reply->limiter_acquire->retry_after_ms,
        };
    }
    kv_reply_free(reply);
    return status;
}
