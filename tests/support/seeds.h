/* Which seeds a test of random choices runs. KV_SEED=n: that one, to replay it. KV_SEEDS=n: 1 to n.
 * Otherwise 1 to `usual`, and in tests/run --long (KV_LONG) twenty times as many. */
#ifndef KV_TEST_SEEDS_H
#define KV_TEST_SEEDS_H

#include <stdint.h>
#include <stdlib.h>

enum { KV_TEST_LONG_FACTOR = 20 };

struct kv_test_seeds {
    uint64_t first;
    uint64_t last;
};

static inline struct kv_test_seeds kv_test_seeds(uint64_t usual)
{
    const char *one = getenv("KV_SEED");
    const char *count = getenv("KV_SEEDS");
    struct kv_test_seeds seeds = {1, usual};

    if (one) {
        seeds.first = seeds.last = strtoull(one, NULL, 0);
    } else if (count) {
        seeds.last = strtoull(count, NULL, 0);
    } else if (getenv("KV_LONG")) {
        seeds.last = usual * KV_TEST_LONG_FACTOR;
    }
    return seeds;
}

#endif
