#include "common/reached.h"

#ifdef KV_REACHED_ENABLED

static struct kv_reached *_Atomic reached;

void kv_reached_note(struct kv_reached *probe)
{
    if (atomic_fetch_add_explicit(&probe->count, 1, memory_order_relaxed) > 0) {
        return;
    }
    probe->next = atomic_load(&reached);
    while (!atomic_compare_exchange_weak(&reached, &probe->next, probe)) {
    }
}

struct kv_reached *kv_reached_first(void)
{
    return atomic_load(&reached);
}

#endif
