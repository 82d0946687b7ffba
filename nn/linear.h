/* linear.h - a packed Linear layer, cut into chunks for a pool.
 *
 * y = epilogue(x W^T). The chunks depend on the sizes alone, and no output depends on the chunks.
 */
#ifndef TACIT_LINEAR_H
#define TACIT_LINEAR_H

#include "kernels.h"
#include "pool.h"

typedef struct tacit_linear {
    size_t in, out;
    float *packed;   /* gemm_pack_f32 of (out, in); NULL: in 8 bits */
    float *bias;     /* (out) */
    int8_t *packed8; /* tacit_gemm_pack_s8 of them, with */
    float *scale8;   /* the scales and what is taken off */
    int32_t *minus8;
} tacit_linear;

/* Rows that quantise_u8 has made for a layer in 8 bits. */
typedef struct tacit_bytes {
    uint8_t *q;   /* rows ld apart */
    float *scale; /* of each row */
    size_t ld;
} tacit_bytes;

/* Outputs [from, out) of the layer, for m rows: y[:, from ...] = epilogue(...). from must be a
 * multiple of the kernels' gemm_nr. y and the epilogue's pointers are those of output 0; the
 * layer's bias is added where epilogue->bias is NULL. */
void tacit_linear_forward(const tacit_linear *layer, const tacit_kernels *kernels, size_t from,
                          size_t m, const float *x, size_t ldx, float *y, size_t ldy,
                          const tacit_epilogue *epilogue, tacit_pool *pool);

/* The same of a layer in 8 bits: x is quantised into `bytes`, which has room for m rows, and then
 * multiplied. from must be a multiple of TACIT_INT8_NR. */
void tacit_linear_forward_int8(const tacit_linear *layer, const tacit_kernels *kernels, size_t from,
                               size_t m, const float *x, size_t ldx, const tacit_bytes *bytes,
                               float *y, size_t ldy, const tacit_epilogue *epilogue,
                               tacit_pool *pool);

/* A number of rows near `target` that cuts m into nearly equal chunks. */
size_t tacit_even_chunk(size_t m, size_t target);

#endif
