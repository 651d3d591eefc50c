/* A bounded queue of pointers from one thread to one other, without locks. Each side keeps a copy
 * of the other's position, so that it looks at the other's cache line only when the queue seems
 * full or empty. Of C11 atomics, which the thread sanitizer understands (docs/adr/0003). */
#ifndef KV_NET_RING_H
#define KV_NET_RING_H

#include "common/status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

enum { KV_RING_LINE_BYTES = 64 };

struct kv_ring {
    void **slots;
    size_t mask; /* slots - 1 */
    /* the writer's */
    _Alignas(KV_RING_LINE_BYTES) atomic_size_t written;
    size_t read_seen;
    /* the reader's */
    _Alignas(KV_RING_LINE_BYTES) atomic_size_t read;
    size_t written_seen;
};

/* slots: a power of two. KV_NO_MEMORY. */
static inline int kv_ring_init(struct kv_ring *ring, size_t slots)
{
    ring->slots = calloc(slots, sizeof *ring->slots);
    ring->mask = slots - 1;
    atomic_init(&ring->written, 0);
    atomic_init(&ring->read, 0);
    ring->read_seen = ring->written_seen = 0;
    return ring->slots ? 0 : KV_NO_MEMORY;
}

static inline void kv_ring_deinit(struct kv_ring *ring)
{
    free(ring->slots);
    ring->slots = NULL;
}

/* The writer. False: full, or never initialised. */
static inline bool kv_ring_put(struct kv_ring *ring, void *entry)
{
    size_t written = atomic_load_explicit(&ring->written, memory_order_relaxed);

    if (!ring->slots) {
        return false;
    }
    if (written - ring->read_seen > ring->mask) {
        ring->read_seen = atomic_load_explicit(&ring->read, memory_order_acquire);
        if (written - ring->read_seen > ring->mask) {
            return false;
        }
    }
    ring->slots[written & ring->mask] = entry;
    atomic_store_explicit(&ring->written, written + 1, memory_order_release);
    return true;
}

/* The reader. NULL: empty, or never initialised. */
static inline void *kv_ring_take(struct kv_ring *ring)
{
    size_t read = atomic_load_explicit(&ring->read, memory_order_relaxed);
    void *entry;

    if (!ring->slots) {
        return NULL;
    }
    if (read == ring->written_seen) {
        ring->written_seen = atomic_load_explicit(&ring->written, memory_order_acquire);
        if (read == ring->written_seen) {
            return NULL;
        }
    }
    entry = ring->slots[read & ring->mask];
    atomic_store_explicit(&ring->read, read + 1, memory_order_release);
    return entry;
}

#endif
