#include "common/shared.h"

#include <stdlib.h>

struct kv_shared *kv_shared_new(size_t size)
{
    struct kv_shared *shared =
        size <= SIZE_MAX - sizeof *shared ? malloc(sizeof *shared + size) : NULL;

    if (shared) {
        atomic_init(&shared->references, 1);
        shared->size = size;
    }
    return shared;
}

struct kv_shared *kv_shared_hold(struct kv_shared *shared)
{
    atomic_fetch_add_explicit(&shared->references, 1, memory_order_relaxed);
    return shared;
}

void kv_shared_release(struct kv_shared *shared)
{
    if (shared && atomic_fetch_sub_explicit(&shared->references, 1, memory_order_acq_rel) == 1) {
        free(shared);
    }
}
