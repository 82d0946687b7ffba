/* bn.h - batch norm in training: the statistics are the batch's.
 *
 * y = gamma (x - mean) / sqrt(var + eps) + beta for each of n channels, over rows: of a batch of
 * vectors, or of all places of maps in NHWC. var is biased; the running one, which evaluation uses,
 * takes the unbiased (PyTorch's BatchNorm, momentum 0.1).
 *
 * The rows may be split into equal groups, one behind the other, each with statistics of its own:
 * the views of a method that sends them through the network one by one, or the shares of a batch
 * that several machines would have had (MoCo's shuffled batch norm).
 */
#ifndef TACIT_BN_H
#define TACIT_BN_H

#include "dense.h"

/* What of the affine part is learned. */
typedef enum tacit_bn_affine {
    TACIT_BN_AFFINE,
    TACIT_BN_GAMMA, /* without offset: SimCLR's last layer */
    TACIT_BN_PLAIN, /* neither: Barlow Twins, MoCo v3      */
} tacit_bn_affine;

typedef struct tacit_bn {
    size_t n;
    float eps, momentum;
    bool relu;
    size_t groups; /* 1, unless set before plan */
    size_t pooled; /* so many groups in a row move the running statistics once, by their mean; 0, 1:
                      each group does */
    tacit_param *gamma, *beta; /* frozen at 1 and 0 where they are not learned */
    tacit_param *running_mean, *running_var;
    float *mean, *rstd; /* (groups, n), of the last forward */
    float *a, *b;       /* (n), of a group's backward       */
} tacit_bn;

/* Declares name.weight, name.bias, name.running_mean, name.running_var. gamma begins as `gain`: 1,
 * or 0 at the end of a residual block. */
tacit_status tacit_bn_declare(tacit_bn *bn, const char *name, size_t n, bool relu,
                              tacit_bn_affine affine, double gain, size_t max_rows,
                              tacit_params *params, tacit_work *work, tacit_err *err);
bool tacit_bn_plan(const tacit_bn *bn, size_t *total);
void tacit_bn_take(tacit_bn *bn, tacit_arena *arena);

/* y may be x only where x is not needed for a backward. rows > 0, divisible into the groups. With
 * beside (rows, n), or NULL, y is max(norm + beside, 0), behind a norm without relu, whose backward
 * begins at the sum. Updates the running statistics. */
void tacit_bn_forward(const tacit_work *work, tacit_bn *bn, size_t rows, const float *x, size_t ldx,
                      const float *beside, size_t ldb, float *y, size_t ldy);
/* x is the input of the last forward; dx may be dy. */
void tacit_bn_backward(const tacit_work *work, tacit_bn *bn, size_t rows, const float *x,
                       size_t ldx, const float *dy, size_t lddy, float *dx, size_t lddx);

#endif
