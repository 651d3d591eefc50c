/* Large collections by number while a snapshot is loaded: what their elements add up to so far. */
#ifndef KV_MACHINE_SNAPSHOT_SUMS_H
#define KV_MACHINE_SNAPSHOT_SUMS_H

#include "server/machine/record.h"

struct kv_sum {
    struct kv_large large; /* id 0: an empty place */
    enum kv_type type;
    bool is_untold; /* elements changed, and no change of a key said so yet */
};

/* A hash table with open addressing. Zero-initialise. */
struct kv_sums {
    struct kv_sum *places;
    size_t capacity; /* 0, or 2 to the power of capacity_bits, which are 3 at least */
    unsigned capacity_bits;
    size_t n;
};

void kv_sums_deinit(struct kv_sums *sums);
/* NULL: not there. Valid until the next kv_sums_add(). */
struct kv_sum *kv_sums_find(const struct kv_sums *sums, uint64_t id);
/* The id is not there yet. */
struct kv_sum *kv_sums_add(struct kv_sums *sums, uint64_t id, enum kv_type type);

#endif
