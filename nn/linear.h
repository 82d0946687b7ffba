/* linear.h - a packed Linear layer, cut into chunks for a pool.
 *
 * y = epilogue(x W^T). The chunks depend on the sizes alone, and no output depends on the chunks.
 */
#ifndef TACIT_LINEAR_H
#define TACIT_LINEAR_H

#include "kernels.h"
#include "mem.h"
#include "pool.h"
#include "precision.h"

typedef struct tacit_linear {
    size_t in, out;
    tacit_precision precision;
    union {                 /* the weights (out, in): */
        float *packed;      /* fp32, by gemm_pack_f32           */
        int8_t *packed8;    /* int8, by tacit_gemm_pack_s8      */
        uint16_t *packed16; /* bf16, by tacit_gemm_pack_bf16    */
    };
    float *bias;   /* (out) */
    float *scale8; /* int8: the scales and what is taken off */
    int32_t *minus8;
} tacit_linear;

/* Room for the rows that a layer in int8 or bf16 reads, as bytes or as bfloat16. */
typedef struct tacit_rounded {
    void *rows; /* ld bytes apart: tacit_rounded_ld, or more */
    size_t ld;
    float *scale; /* int8: of each row */
    uint8_t zero; /* int8: the byte that stands for 0, see kernels_int8.h */
} tacit_rounded;

/* Bytes of a row of n values, and a gap where rows would otherwise fall into few sets of the cache;
 * 0 for fp32. */
size_t tacit_rounded_ld(tacit_precision precision, size_t n);

/* Rounds rows of n values, ldx apart, to the rows from `first` on. Not for fp32. */
void tacit_round_rows(tacit_precision precision, const tacit_kernels *kernels, size_t first,
                      size_t rows, size_t n, const float *x, size_t ldx,
                      const tacit_rounded *rounded);

/* All of them, `rows` from the first on, cut into chunks for the pool. */
void tacit_round_map(tacit_precision precision, const tacit_kernels *kernels, size_t rows, size_t n,
                     const float *x, size_t ldx, const tacit_rounded *rounded, tacit_pool *pool);

/* Outputs [from, out) of the layer, for m rows: y[:, from ...] = epilogue(...). from must be a
 * multiple of the layer's panel. y and the epilogue's pointers are those of output 0; the layer's
 * bias is added where epilogue->bias is NULL. Where the layer is not in fp32, x is rounded into
 * `rounded`, which has room for m rows, and then multiplied; x NULL: it has been. Else `rounded`
 * may be NULL. */
void tacit_linear_forward(const tacit_linear *layer, const tacit_kernels *kernels, size_t from,
                          size_t m, const float *x, size_t ldx, const tacit_rounded *rounded,
                          float *y, size_t ldy, const tacit_epilogue *epilogue, tacit_pool *pool);

/* Outputs of a panel of packed weights. */
size_t tacit_linear_panel(tacit_precision precision, const tacit_kernels *kernels);

/* Plans (arena NULL) or takes the memory of the weights of a layer (out, in), all but its bias. */
bool tacit_linear_place(tacit_linear *layer, tacit_precision precision, size_t out, size_t in,
                        const tacit_kernels *kernels, size_t *total, tacit_arena *arena);

/* Packs rows [first, first + rows) of the weights, `first` a multiple of the panel, from w (rows,
 * in) into where the layer's pointers tell. */
void tacit_linear_pack(const tacit_linear *layer, const tacit_kernels *kernels, size_t first,
                       size_t rows, const float *w);

/* A number of rows near `target` that cuts m into nearly equal chunks. */
size_t tacit_even_chunk(size_t m, size_t target);

/* The same, but with a smaller target, down to `least`, where fewer than two chunks would come to a
 * thread; each of the chunks of rows comes `others` times. For work no output of which depends on
 * its cutting. */
size_t tacit_chunk_for(const tacit_pool *pool, size_t m, size_t target, size_t least,
                       size_t others);

#endif
