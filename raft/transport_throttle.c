#include "raft/transport_throttle.h"

#include "common/assert.h"
#include "common/limits.h"

void kv_peer_throttle_init(struct kv_peer_throttle *throttle, uint64_t bytes_per_s, uint64_t now_ms)
{
    KV_ASSERT(bytes_per_s > 0 && bytes_per_s <= KV_PEER_BULK_BYTES_PER_S_MAX);
    *throttle = (struct kv_peer_throttle){bytes_per_s, (int64_t)KV_PEER_BULK_BURST_BYTES, now_ms};
}

size_t kv_peer_throttle_available(struct kv_peer_throttle *throttle, uint64_t now_ms)
{
    uint64_t elapsed_ms = now_ms - throttle->filled_ms;
    uint64_t missing = (uint64_t)((int64_t)KV_PEER_BULK_BURST_BYTES - throttle->tokens);
    uint64_t more;

    if (elapsed_ms / 1000 > missing / throttle->bytes_per_s) {
        throttle->tokens = (int64_t)KV_PEER_BULK_BURST_BYTES;
        throttle->filled_ms = now_ms;
        return (size_t)throttle->tokens;
    }
    more = elapsed_ms * throttle->bytes_per_s / 1000;
    if (more > 0) {
        /* Rounded up: less than a byte is lost, and it never gives more than the rate. */
        throttle->filled_ms += (more * 1000 + throttle->bytes_per_s - 1) / throttle->bytes_per_s;
        throttle->tokens += (int64_t)(more < missing ? more : missing);
    }
    return throttle->tokens > 0 ? (size_t)throttle->tokens : 0;
}

void kv_peer_throttle_take(struct kv_peer_throttle *throttle, size_t bytes)
{
    throttle->tokens -= (int64_t)bytes;
}

uint64_t kv_peer_throttle_wait_ms(const struct kv_peer_throttle *throttle)
{
    uint64_t missing = (uint64_t)(1 - throttle->tokens);

    return (missing * 1000 + throttle->bytes_per_s - 1) / throttle->bytes_per_s;
}
