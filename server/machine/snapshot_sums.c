#include "server/machine/snapshot_sums.h"

#include <stdlib.h>
#include <string.h>

enum { BITS_FIRST = 3 };

void kv_sums_deinit(struct kv_sums *sums)
{
    free(sums->places);
    *sums = (struct kv_sums){0};
}

/* Where the id is, or would go. */
static struct kv_sum *place_of(const struct kv_sums *sums, uint64_t id)
{
    /* Numbers that are left of those that follow each other: their product's upper bits are spread
     * whatever lies between two (Knuth, 6.4). */
    size_t at = (size_t)(id * UINT64_C(0x9e3779b97f4a7c15) >> (64 - sums->capacity_bits));

    while (sums->places[at].large.id != 0 && sums->places[at].large.id != id) {
        at = (at + 1) & (sums->capacity - 1);
    }
    return &sums->places[at];
}

struct kv_sum *kv_sums_find(const struct kv_sums *sums, uint64_t id)
{
    struct kv_sum *sum = sums->capacity > 0 ? place_of(sums, id) : NULL;

    return sum && sum->large.id == id ? sum : NULL;
}

static void grow(struct kv_sums *sums)
{
    const unsigned bits = sums->capacity ? sums->capacity_bits + 1 : BITS_FIRST;
    struct kv_sums larger = {.capacity = (size_t)1 << bits, .capacity_bits = bits, .n = sums->n};

    larger.places = kv_machine_alloc(larger.capacity * sizeof *larger.places);
    memset(larger.places, 0, larger.capacity * sizeof *larger.places);
    for (size_t i = 0; i < sums->capacity; i++) {
        if (sums->places[i].large.id != 0) {
            *place_of(&larger, sums->places[i].large.id) = sums->places[i];
        }
    }
    free(sums->places);
    *sums = larger;
}

struct kv_sum *kv_sums_add(struct kv_sums *sums, uint64_t id, enum kv_type type)
{
    struct kv_sum *sum;

    if (2 * (sums->n + 1) > sums->capacity) {
        grow(sums);
    }
    sum = place_of(sums, id);
    *sum = (struct kv_sum){.large = {.id = id}, .type = type};
    sums->n++;
    return sum;
}
