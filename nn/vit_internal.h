/* vit_internal.h - the packed network, shared by the files that load it and run it. */
#ifndef TACIT_VIT_INTERNAL_H
#define TACIT_VIT_INTERNAL_H

#include "linear.h"
#include "mem.h"
#include "vit.h"

typedef struct tacit__norm {
    float *gamma, *beta; /* (dim) */
} tacit__norm;

typedef struct tacit__block {
    tacit__norm norm1, norm2;
    tacit_linear qkv, proj, fc1, fc2;
    float *ls1, *ls2; /* (dim); NULL without layer scale */
} tacit__block;

struct tacit_vit {
    tacit_vit_config config;
    const tacit_kernels *kernels;
    tacit_arena arena; /* all weights */
    size_t patches, tokens;
    tacit_linear embed; /* (dim, 3 * patch * patch) */
    float *cls, *pos;   /* (dim), (tokens, dim) */
    tacit__norm norm;
    tacit__block *blocks; /* (depth) */
};

/* One tensor of the network: its name, its shape, and where its values go. */
typedef struct tacit__slot {
    char name[64];
    unsigned rank;
    size_t shape[4];
    float **vector;       /* stored as it is, or                     */
    tacit_linear *matrix; /* packed, (shape[0], product of the rest) */
} tacit__slot;

#define TACIT__SLOTS_FIXED 6
#define TACIT__SLOTS_BLOCK 14

size_t tacit__vit_slot_count(const tacit_vit_config *config);

/* Fills all slots. vit, with its blocks, gives the destinations and may be NULL for names and
 * shapes alone. */
void tacit__vit_slots(const tacit_vit_config *config, tacit_vit *vit, tacit__slot *slots);

/* TACIT_EINVAL for sizes that make no network or overflow. */
tacit_status tacit__vit_check(const tacit_vit_config *config, tacit_err *err);

#endif
