/* masks.h - which patches of an image are masked: the samplers of all methods.
 *
 * Patches are counted row by row. A mask is a function of (seed, epoch, sample), and for I-JEPA,
 * where a batch has blocks of one size and contexts of one length, of the step and the batch, too.
 * Each sampler is the published one, with draws of rng.h in place of its own.
 */
#ifndef TACIT_MASKS_H
#define TACIT_MASKS_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

#define TACIT_MASK_BLOCKS 16 /* target blocks of an image, at most */

/* MAE (random_masking of facebookresearch/mae): a random order of the patches, of which the first
 * `kept` go to keep, the others to mask. */
void tacit_mask_random(uint64_t seed, uint64_t epoch, uint64_t sample, size_t patches, size_t kept,
                       uint32_t *keep, uint32_t *mask);

/* SimMIM (MaskGenerator of microsoft/SimMIM, data/data_simmim.py): `count` of the squares of
 * unit x unit patches that a grid of side x side divides into. mask (side^2): 1 where masked, else
 * 0. order: room for (side / unit)^2 numbers. */
typedef struct tacit_unit_masks {
    size_t side, unit, count;
} tacit_unit_masks;
void tacit_mask_units(const tacit_unit_masks *masks, uint64_t seed, uint64_t epoch, uint64_t sample,
                      uint32_t *order, uint8_t *mask);

/* I-JEPA (src/masks/multiblock.py of facebookresearch/ijepa): `blocks` target blocks and a context,
 * which is one large block less the targets. One draw for each of the two decides size and aspect
 * of all such blocks of a step: of side^2 r-scaled patches, rounded, and cut to less than side.
 * Their places are drawn for themselves, and, as published, never reach the last row and column. A
 * context that is left min_keep patches or fewer is drawn again; after 20 times it may overlap the
 * last of the targets, after 20 more the one before it, and so on. Contexts of a batch are cut to
 * the shortest, the bottom of the others. */
typedef struct tacit_block_masks {
    size_t side;                                  /* patches of a row, and of a column */
    size_t blocks;                                /* targets of an image, 1 to TACIT_MASK_BLOCKS */
    double scale[2], aspect[2], context_scale[2]; /* least and most: shares, height / width */
    size_t min_keep;
} tacit_block_masks;

/* Height and width in patches of the step whose draw is r, 0 <= r < 1. */
typedef struct tacit_block_size {
    size_t height, width;
} tacit_block_size;
tacit_block_size tacit_block_size_at(size_t side, const double scale[2], const double aspect[2],
                                     double r);

/* TACIT_EINVAL where a least is more than a most, or blocks can be of min_keep patches or fewer,
 * which the published sampler would draw for ever. */
tacit_status tacit_block_masks_check(const tacit_block_masks *masks, tacit_err *err);
/* Patches of a context and of a target, at most. */
size_t tacit_block_masks_most_kept(const tacit_block_masks *masks);
size_t tacit_block_masks_most_asked(const tacit_block_masks *masks);

/* Those of a batch's samples: contexts (batch, *kept), with room for (batch, most kept), and
 * targets (batch, blocks, *asked), each in rising order. */
void tacit_mask_blocks(const tacit_block_masks *masks, uint64_t seed, uint64_t epoch, uint64_t step,
                       const uint32_t *samples, size_t batch, uint32_t *contexts, size_t *kept,
                       uint32_t *targets, size_t *asked);

/* BEiT and MaskFeat (Bao et al. 2021, arXiv:2106.08254, algorithm 1; beit/masking_generator.py of
 * microsoft/unilm, which MaskFeat's image recipe in facebookresearch/SlowFast uses, too):
 * rectangles of a random area, from `least` to what is still to be masked, of a random aspect
 * (log-uniform from `aspect` to its inverse) and at a random place, until `count` patches are
 * masked. A rectangle is less than the grid in both directions; one that masks nothing new, or more
 * than is left, is drawn again; after ten in a row the mask stays as it is. So no mask has more
 * than count patches, and some have fewer. */
typedef struct tacit_blockwise {
    size_t side;         /* of the grid, in patches */
    size_t count, least; /* patches: of a mask at most, and of the smallest rectangle */
    double aspect;       /* height / width of the flattest rectangle, at most 1 */
} tacit_blockwise;

/* mask (side^2): 1 where masked, else 0. Gives how many are. */
size_t tacit_mask_blockwise(const tacit_blockwise *blocks, uint64_t seed, uint64_t epoch,
                            uint64_t sample, uint8_t *mask);

#endif
