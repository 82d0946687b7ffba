/* draws.h - the random choices of methods, as functions of (seed, epoch, sample, use). */
#ifndef TACIT_DRAWS_H
#define TACIT_DRAWS_H

#include <stddef.h>
#include <stdint.h>

/* What a draw is for; the numbers are part of the results. */
typedef enum tacit_draw_use {
    TACIT_DRAW_MASK = 1,
    TACIT_DRAW_VIEW = 2,
    TACIT_DRAW_ORDER = 3,      /* of an epoch: sample 0 */
    TACIT_DRAW_SHUFFLE = 4,    /* of a part of a step, in place of the sample; and the view */
    TACIT_DRAW_CENTROIDS = 5,  /* of k-means, in place of the sample */
    TACIT_DRAW_CLASSIFIER = 6, /* of an epoch: sample 0 */
    TACIT_DRAW_BLOCK_SIZE = 7, /* of a step of an epoch, in place of the sample */
    TACIT_DRAW_GUMBEL = 8,
    TACIT_DRAW_DROP_PATH = 16, /* and the view */
} tacit_draw_use;

/* A stream of its own for tacit_rng_u32 and its like. */
uint64_t tacit_draw_stream(uint64_t seed, uint64_t epoch, uint64_t sample, unsigned use);

/* A random order of 0 .. n - 1: the first `many` go to first, the others to rest. */
void tacit_draw_split(uint64_t seed, uint64_t epoch, uint64_t index, unsigned use, size_t n,
                      size_t many, uint32_t *first, uint32_t *rest);

/* A random order of 0 .. n - 1. */
void tacit_draw_order(uint64_t seed, uint64_t epoch, uint64_t index, unsigned use, size_t n,
                      uint32_t *order);

#endif
