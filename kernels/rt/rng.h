/* rng.h - random numbers as a function of where they are used.
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the value
 * is f(seed, stream, index). There is no generator state to save and no order to keep.
 */
#ifndef TACIT_RNG_H
#define TACIT_RNG_H

#include <stdint.h>

/* Four independent 32-bit words for the counter (stream, index) under the key seed. */
void tacit_philox(uint64_t seed, uint64_t stream, uint64_t index, uint32_t out[4]);

/* One draw: word index % 4 of block index / 4. */
uint32_t tacit_rng_u32(uint64_t seed, uint64_t stream, uint64_t index);

/* Uniform in [0, 1), a multiple of 2^-24. */
float tacit_rng_uniform(uint64_t seed, uint64_t stream, uint64_t index);

#endif
