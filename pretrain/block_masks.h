/* block_masks.h - block-wise masks of patches (Bao et al. 2021, arXiv:2106.08254, algorithm 1).
 *
 * MaskingGenerator of microsoft/unilm (beit/masking_generator.py), which MaskFeat's image recipe in
 * facebookresearch/SlowFast uses, too: rectangles of a random area, from `least` to what is still
 * to be masked, of a random aspect (log-uniform from `aspect` to its inverse) and at a random
 * place, until `count` patches are masked. A rectangle is less than the grid in both directions;
 * one that masks nothing new, or more than is left, is drawn again; after ten in a row the mask
 * stays as it is. So no mask has more than count patches, and some have fewer.
 */
#ifndef TACIT_BLOCK_MASKS_H
#define TACIT_BLOCK_MASKS_H

#include <stddef.h>
#include <stdint.h>

typedef struct tacit_blockwise {
    size_t side;         /* of the grid, in patches */
    size_t count, least; /* patches: of a mask at most, and of the smallest rectangle */
    double aspect;       /* height / width of the flattest rectangle, at most 1 */
} tacit_blockwise;

/* The mask of a sample: mask (side^2), 1 where masked, else 0. Gives how many are. */
size_t tacit_draw_blockwise(const tacit_blockwise *blocks, uint64_t seed, uint64_t epoch,
                            uint64_t sample, uint8_t *mask);

#endif
