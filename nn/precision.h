/* precision.h - what the products of a network are computed in. */
#ifndef TACIT_PRECISION_H
#define TACIT_PRECISION_H

typedef enum tacit_precision {
    TACIT_PRECISION_FP32,
    TACIT_PRECISION_INT8, /* Linear layers, convolutions and the scores of attention in whole
                 numbers of 8 bits, see kernels_int8.h; all else in fp32 */
    TACIT_PRECISION_BF16, /* the same layers, and both products of attention, in bfloat16 with sums
                 in fp32, see kernels_bf16.h */
    TACIT_PRECISIONS,
} tacit_precision;

#endif
