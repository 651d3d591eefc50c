/* Immutable bytes that many read, on any thread: counted, freed with the last reference. */
#ifndef KV_COMMON_SHARED_H
#define KV_COMMON_SHARED_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

struct kv_shared {
    atomic_size_t references;
    size_t size;
    uint8_t data[]; /* filled by who made it, before anybody else has it */
};

/* With one reference; NULL: no memory. */
struct kv_shared *kv_shared_new(size_t size);
struct kv_shared *kv_shared_hold(struct kv_shared *shared); /* returns it */
void kv_shared_release(struct kv_shared *shared);           /* takes NULL */

#endif
