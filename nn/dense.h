/* dense.h - Linear and LayerNorm in training: forward and backward over rows, cut into chunks for a
 * pool.
 *
 * Weights change at every step, so they are packed anew in each pass, into memory that all layers
 * share (tacit_work). Backward adds to the gradients of the parameters. The chunks depend on the
 * sizes alone; what many chunks add to goes to a slot of each, and the slots are added in order.
 */
#ifndef TACIT_DENSE_H
#define TACIT_DENSE_H

#include "params.h"

/* What all layers of a network use in turn. The needs are gathered while layers are declared; then
 * tacit_work_open makes room for the largest. */
typedef struct tacit_work {
    const tacit_kernels *kernels;
    tacit_pool *pool;
    size_t packed_floats, partial_floats, tiles_floats, worker_floats; /* needed */
    float *packed;  /* one layer's weights            */
    float *partial; /* slots of chunks                */
    float *tiles;   /* transformed maps, conv_tiles.c */
    float *worker;  /* worker_floats for each worker  */
    tacit_arena arena;
} tacit_work;

tacit_status tacit_work_open(tacit_work *work, tacit_err *err);
void tacit_work_close(tacit_work *work);
void tacit_work_need(size_t *most, size_t floats);

typedef struct tacit_dense {
    size_t in, out;
    tacit_param *w, *b; /* (out, in), (out); b may be NULL */
} tacit_dense;

/* Declares name.weight and, with bias, name.bias. `shape` of the weight may be of higher rank, as a
 * convolution's is; NULL for (out, in). max_rows: the most rows of any call. */
tacit_status tacit_dense_declare(tacit_dense *dense, const char *name, size_t in, size_t out,
                                 bool bias, unsigned rank, const size_t *shape, tacit_init weight,
                                 tacit_init bias_init, size_t max_rows, tacit_params *params,
                                 tacit_work *work, tacit_err *err);

/* What follows the product in a chunk, while it is in the cache. Rows are as far apart as those of
 * the layer's result, where nothing else is said. */
typedef struct tacit_after {
    const float *residual; /* y += residual, or NULL */
    size_t ldr;
    const float *scale; /* y *= scale[row / group] before that: drop path; or NULL */
    size_t group;
    float *gelu; /* gelu(y) goes there too, or NULL */
    size_t ldg;
    float *gelu_input; /* of backward: x before its gelu, which is put in its place, while dx goes
                          on through the gelu; or NULL */
} tacit_after;

/* y (m, out) = x W^T + b and what is to follow. after may be NULL. */
void tacit_dense_forward(const tacit_work *work, const tacit_dense *dense, size_t m, const float *x,
                         size_t ldx, float *y, size_t ldy, const tacit_after *after);

/* dx (m, in) = dy W, unless dx is NULL; dW += dy^T x; db += the sum of dy. x is read last, so that
 * it may be what `after` makes. */
void tacit_dense_backward(const tacit_work *work, const tacit_dense *dense, size_t m,
                          const float *dy, size_t lddy, const float *x, size_t ldx, float *dx,
                          size_t lddx, const tacit_after *after);

/* The first part of that: dx, and db; tacit_dense_weights is the second. dx is not NULL. */
void tacit_dense_inputs(const tacit_work *work, const tacit_dense *dense, size_t m, const float *dy,
                        size_t lddy, float *dx, size_t lddx, const tacit_after *after);

/* The layer turned round, as PyTorch's Embedding of soft one-hot rows is: y (m, in) = x W, no bias.
 * Its gradient by x is tacit_dense_forward, by W tacit_dense_weights with x in dy's place. */
void tacit_dense_turned(const tacit_work *work, const tacit_dense *dense, size_t m, const float *x,
                        size_t ldx, float *y, size_t ldy);
/* dW += dy^T x. */
void tacit_dense_weights(const tacit_work *work, const tacit_dense *dense, size_t m,
                         const float *dy, size_t lddy, const float *x, size_t ldx);

typedef struct tacit_layernorm {
    size_t n;
    float eps;
    tacit_param *gamma, *beta;
} tacit_layernorm;

/* Declares name.weight and name.bias, ones and zeros. */
tacit_status tacit_layernorm_declare(tacit_layernorm *norm, const char *name, size_t n, float eps,
                                     size_t max_rows, tacit_params *params, tacit_work *work,
                                     tacit_err *err);
void tacit_layernorm_forward(const tacit_work *work, const tacit_layernorm *norm, size_t rows,
                             const float *x, size_t ldx, float *y, size_t ldy);
/* x is the input of the forward; dx gets, or with more adds, the gradient, and may be dy. y, unless
 * NULL, gets the result of the forward again. */
void tacit_layernorm_backward(const tacit_work *work, const tacit_layernorm *norm, size_t rows,
                              const float *x, size_t ldx, const float *dy, size_t lddy, float *dx,
                              size_t lddx, bool more, float *y, size_t ldy);

/* sum += the rows of x, in blocks that are added in order; what that needs of the work. */
void tacit_sum_rows_need(tacit_work *work, size_t max_rows, size_t n);
void tacit_sum_rows(const tacit_work *work, size_t rows, size_t n, const float *x, size_t ldx,
                    float *sum);

#endif
