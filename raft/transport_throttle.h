/* A token bucket: how many bytes may go now. Without I/O and clock; not thread safe. */
#ifndef KV_RAFT_TRANSPORT_THROTTLE_H
#define KV_RAFT_TRANSPORT_THROTTLE_H

#include <stddef.h>
#include <stdint.h>

struct kv_peer_throttle {
    uint64_t bytes_per_s; /* 1 to KV_PEER_BULK_BYTES_PER_S_MAX */
    int64_t tokens;       /* bytes; negative: taken ahead, at most a frame */
    uint64_t filled_ms;
};

/* Full: KV_PEER_BULK_BURST_BYTES. */
void kv_peer_throttle_init(struct kv_peer_throttle *throttle,
                           uint64_t bytes_per_s,
                           uint64_t now_ms);
/* Bytes that may go now; 0: none. */
size_t kv_peer_throttle_available(struct kv_peer_throttle *throttle, uint64_t now_ms);
/* What goes comes in whole frames, so it may be more than was available. */
void kv_peer_throttle_take(struct kv_peer_throttle *throttle, size_t bytes);
/* When something will be available again; for after kv_peer_throttle_available() returned 0. */
uint64_t kv_peer_throttle_wait_ms(const struct kv_peer_throttle *throttle);

#endif
