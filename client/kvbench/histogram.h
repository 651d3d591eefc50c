/* Latency histogram: logarithmic buckets with 64 steps per doubling, so that each value is kept
 * to 1.6 % (HdrHistogram, G. Tene). Values are nanoseconds. */
#ifndef KVBENCH_HISTOGRAM_H
#define KVBENCH_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_STEPS 64u
#define HISTOGRAM_BUCKETS (40u * HISTOGRAM_STEPS)

struct histogram {
    uint64_t counts[HISTOGRAM_BUCKETS];
    uint64_t total;
    uint64_t max;
};

void histogram_add(struct histogram *histogram, uint64_t value);
/* The value that `percent` of all do not exceed; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *histogram, double percent);

#endif
