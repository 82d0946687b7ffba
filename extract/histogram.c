/* histogram.c - see histogram.h. */
#include "histogram.h"

#include <math.h>
#include <time.h>

#define DIGITS 7 /* bits of a time that its bucket keeps behind the first */
#define MOST   (((uint64_t)1 << 40) - 1)

static unsigned shift_of(uint64_t ns)
{
    unsigned top = 63u - (unsigned)__builtin_clzll(ns | 1);
    return top > DIGITS ? top - DIGITS : 0;
}

void tacit_histogram_add(tacit_histogram *h, uint64_t ns)
{
    uint64_t v = ns < MOST ? ns : MOST;
    unsigned shift = shift_of(v);
    h->buckets[((size_t)shift << DIGITS) + (size_t)(v >> shift)]++;
    h->count++;
    if (ns > h->longest)
        h->longest = ns;
}

/* The longest time of a bucket. */
static uint64_t upper(size_t bucket)
{
    size_t octave = bucket >> DIGITS;
    unsigned shift = octave > 1 ? (unsigned)(octave - 1) : 0;
    uint64_t digits = bucket - ((uint64_t)shift << DIGITS);
    return ((digits + 1) << shift) - 1;
}

double tacit_histogram_quantile(const tacit_histogram *h, double q)
{
    uint64_t rank = (uint64_t)ceil(q * (double)h->count), below = 0;
    if (!h->count)
        return 0;
    rank = rank < 1 ? 1 : rank > h->count ? h->count : rank;
    size_t i = 0;
    while ((below += h->buckets[i]) < rank)
        i++;
    uint64_t ns = i + 1 < TACIT_HISTOGRAM_BUCKETS ? upper(i) : h->longest;
    return 1e-9 * (double)(ns < h->longest ? ns : h->longest);
}

uint64_t tacit_clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}
