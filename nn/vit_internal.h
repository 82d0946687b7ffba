/* vit_internal.h - the packed network, shared by the files that load it and run it. */
#ifndef TACIT_VIT_INTERNAL_H
#define TACIT_VIT_INTERNAL_H

#include "mem.h"
#include "vit.h"
#include "bind.h"

typedef struct tacit__norm {
    float *gamma, *beta; /* (dim) */
} tacit__norm;

typedef struct tacit__block {
    tacit__norm norm1, norm2;
    tacit_linear qkv, proj, fc1, fc2;
    float *ls1, *ls2;           /* (dim); NULL without layer scale    */
    tacit__norm q_norm, k_norm; /* (head)                             */
    float *table, *bias;        /* (T, heads), (heads, tokens, ldb)   */
} tacit__block;

struct tacit_vit {
    tacit_vit_config config;
    const tacit_kernels *kernels;
    tacit_arena arena;              /* all weights */
    size_t patches, tokens, prefix; /* prefix: tokens before the first patch */
    tacit_linear embed;             /* (dim, 3 * patch * patch) */
    float *cls, *registers;         /* (dim), (registers, dim) */
    float *stored, *pos;            /* position table: as stored, and for the grid of the input */
    float *periods, *rotary;        /* (head / 4), (patches, 2, head): cosines and sines */
    float *table, *bias;            /* relative positions, shared by all blocks */
    tacit__norm norm_pre, norm;
    tacit_linear head;
    float *zeros;         /* bias of what has none */
    float *made;          /* what is computed at open: pos, rotary, bias */
    tacit__block *blocks; /* (depth) */
};

#define TACIT__SLOTS_FIXED 12
#define TACIT__SLOTS_BLOCK 19

/* At most; tacit__vit_slots says how many there are. */
size_t tacit__vit_slot_count(const tacit_vit_config *config);

/* Fills all slots and says how many. vit, with its blocks, gives the destinations and may be NULL
 * for names and shapes alone. */
size_t tacit__vit_slots(const tacit_vit_config *config, tacit_vit *vit, tacit__slot *slots);

/* Rows of the stored position table, of the relative table. */
size_t tacit__vit_position_rows(const tacit_vit_config *config);
size_t tacit__vit_relative_rows(const tacit_vit_config *config);
/* Whether it has tables of positions with no way to another grid. */
bool tacit__vit_one_grid(const tacit_vit_config *config);

/* Brings what was stored into the form that the input needs: the position table to its grid, the
 * relative biases to every pair of tokens, the rotary angles to cosines and sines. */
tacit_status tacit__vit_position(tacit_vit *vit, tacit_err *err);

/* TACIT_EINVAL for sizes that make no network or overflow. */
tacit_status tacit__vit_check(const tacit_vit_config *config, tacit_err *err);

#endif
