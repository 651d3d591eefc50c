/* A heap of deadlines: the least (deadline, number) first. Items are embedded in what they belong
 * to, so that a deadline can be moved and taken out from anywhere. Memory that cannot be had aborts
 * the process (machine.h). */
#ifndef KV_MACHINE_HEAP_H
#define KV_MACHINE_HEAP_H

#include <stddef.h>
#include <stdint.h>

struct kv_heap_item {
    int64_t deadline_ms;
    uint64_t number; /* decides between equal deadlines; of no two the same */
    size_t at;       /* the heap's own */
};

struct kv_heap {
    struct kv_heap_item **items;
    size_t n, capacity;
};

/* Takes zeroed memory as an empty one. The items are their owners'. */
void kv_heap_deinit(struct kv_heap *heap);
void kv_heap_add(struct kv_heap *heap, struct kv_heap_item *item);
void kv_heap_remove(struct kv_heap *heap, struct kv_heap_item *item);
void kv_heap_move(struct kv_heap *heap, struct kv_heap_item *item, int64_t deadline_ms);
/* NULL: empty. */
static inline struct kv_heap_item *kv_heap_first(const struct kv_heap *heap)
{
    return heap->n > 0 ? heap->items[0] : NULL;
}
/* Asserts the order of the heap. */
void kv_heap_check_invariants(const struct kv_heap *heap);

#endif
