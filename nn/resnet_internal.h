/* resnet_internal.h - the packed network, shared by the files that load it and run it. */
#ifndef TACIT_RESNET_INTERNAL_H
#define TACIT_RESNET_INTERNAL_H

#include "mem.h"
#include "resnet.h"
#include "bind.h"

/* A convolution with its batch norm, on a map of one size. */
typedef struct tacit__layer {
    char conv[48], norm[48]; /* names */
    tacit_conv shape;
    size_t side;         /* of the tiles of Winograd's products, 0 without */
    tacit_linear linear; /* packed: windows as rows, or one matrix for each product */
} tacit__layer;

/* What an input takes on its way to the sum: conv[2] is NULL in a basic block, shortcut where the
 * input is added as it is. */
typedef struct tacit__residual {
    tacit__layer *conv[3], *shortcut;
} tacit__residual;

struct tacit_resnet {
    tacit_resnet_config config;
    const tacit_kernels *kernels;
    tacit_arena arena; /* all weights */
    size_t layer_count, block_count;
    tacit__layer *layers; /* the stem, then block by block */
    tacit__residual *blocks;
};

#define TACIT__LAYER_SLOTS 5 /* the weights, then gain, bias, mean and variance */

/* TACIT_EINVAL for sizes that make no network or overflow. */
tacit_status tacit__resnet_check(const tacit_resnet_config *config, tacit_err *err);

/* Fills layers, and blocks where not NULL, and says how many layers there are; both NULL counts.
 * Only sizes are set, no weights. */
size_t tacit__resnet_layers(const tacit_resnet_config *config, tacit__layer *layers,
                            tacit__residual *blocks);
size_t tacit__resnet_blocks(const tacit_resnet_config *config);

/* The tensors of the layers: TACIT__LAYER_SLOTS for each. */
void tacit__resnet_slots(const tacit__layer *layers, size_t count, tacit__slot *slots);

/* Floats from one pixel of a map to the next: channels, and a gap where rows of pixels would
 * otherwise fall into few sets of the cache. */
size_t tacit__resnet_ld(size_t channels);

/* (side + 2)^2; 1 without tiles. */
size_t tacit__layer_products(const tacit__layer *layer);
/* Rows of a packed matrix: the outputs, in whole panels. */
size_t tacit__layer_rows(const tacit__layer *layer, const tacit_kernels *kernels);
/* Tiles of one image. */
size_t tacit__layer_tiles(const tacit__layer *layer);

#endif
