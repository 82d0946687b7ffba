/* precision.h - what the products of a network are computed in. */
#ifndef TACIT_PRECISION_H
#define TACIT_PRECISION_H

typedef enum tacit_precision {
    TACIT_FP32,
    TACIT_INT8, /* Linear layers and the scores of attention in whole numbers of 8 bits, see
                 kernels_int8.h; all else in fp32 */
} tacit_precision;

#endif
