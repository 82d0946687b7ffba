/* histogram.h - times as counts, in memory that does not grow.
 *
 * Buckets are 1 ns wide up to 256 ns and from there on 128 to each doubling, so that what is read
 * back is at most 0.8 % above the truth; times of 18 minutes and more are one bucket. The layout is
 * that of HdrHistogram (Gil Tene, hdrhistogram.org).
 */
#ifndef TACIT_HISTOGRAM_H
#define TACIT_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#define TACIT_HISTOGRAM_BUCKETS 4352

/* All zero is an empty one. */
typedef struct tacit_histogram {
    uint64_t count, longest; /* longest: exact, in ns */
    uint64_t buckets[TACIT_HISTOGRAM_BUCKETS];
} tacit_histogram;

void tacit_histogram_add(tacit_histogram *histogram, uint64_t ns);

/* Seconds that the share `q` (0 to 1) of all times does not exceed; 0 where there is none. */
double tacit_histogram_quantile(const tacit_histogram *histogram, double q);

/* Nanoseconds of the clock that does not jump. */
uint64_t tacit_clock_ns(void);

#endif
