/* measure.h - timing on a machine that is shared and noisy.
 *
 * What is measured takes turns, in slices of a few milliseconds, with the limit it is held against
 * (and with its rivals), so that a slow spell meets all of them. Ratios are formed turn by turn and
 * their median is reported; an absolute time is the median of its turns.
 */
#ifndef TACIT_MEASURE_H
#define TACIT_MEASURE_H

#include "cpu.h"
#include "pool.h"

#include <stddef.h>

double tacit_now(void); /* seconds, monotonic */

/* Seconds that this thread had of a CPU: what other processes take is not its own. */
double tacit_thread_now(void);
typedef double tacit_clock(void);

/* The p-quantile (0 to 1) of n values, by linear interpolation; sorts them. */
double tacit_quantile(double *values, size_t n, double p);

/* GFLOP/s of register-only fused multiply-adds of that ISA, on every thread of the pool at once,
 * for about `seconds`. 0 for ref, which has no limit of its own. */
double tacit_fma_limit(tacit_isa isa, tacit_pool *pool, double seconds);
/* The same by a clock other than tacit_now. */
double tacit_fma_limit_by(tacit_clock *clock, tacit_isa isa, tacit_pool *pool, double seconds);

/* GB/s of copying `bytes` / 2 from one block to another, read and written bytes counted, repeated
 * for about `seconds`: the limit of a kernel that moves `bytes`. blocks: `bytes` of memory. */
double tacit_copy_limit_by(tacit_clock *clock, void *blocks, size_t bytes, double seconds);

#endif
