/* mlp_train.h - projectors and predictors in training: Linear, batch norm where there is one, ReLU,
 * some times over.
 */
#ifndef TACIT_MLP_TRAIN_H
#define TACIT_MLP_TRAIN_H

#include "bn.h"

#define TACIT_MLP_LAYERS 4

typedef enum tacit_mlp_norm {
    TACIT_MLP_BN,
    TACIT_MLP_BN_GAMMA,
    TACIT_MLP_BN_PLAIN,
    TACIT_MLP_NO_NORM,
} tacit_mlp_norm;

typedef struct tacit_mlp_layer {
    size_t out;
    bool bias;
    tacit_mlp_norm norm;
    bool relu;
    const char *name, *norm_name; /* of their tensors, as "0" and "1" in a Sequential */
    tacit_init weight;            /* with size 0, PyTorch's, and for the bias too */
    bool gelu;                    /* behind the norm, if any; not of the last layer */
} tacit_mlp_layer;

typedef struct tacit_mlp {
    size_t in, count, max_rows, rows; /* rows: of the last forward */
    tacit_mlp_layer layers[TACIT_MLP_LAYERS];
    tacit_dense dense[TACIT_MLP_LAYERS];
    tacit_bn bn[TACIT_MLP_LAYERS];
    float *before[TACIT_MLP_LAYERS], *after[TACIT_MLP_LAYERS]; /* of each norm, tight rows */
    float *out[TACIT_MLP_LAYERS]; /* of each GELU; `after` where there is none */
    float *d[2];                  /* gradients of what lies between the layers, in turn */
    const float *x;               /* of the last forward */
    size_t ldx;
    const tacit_work *work;
} tacit_mlp;

/* Declares <prefix>.<name>.weight and so on. */
tacit_status tacit_mlp_declare(tacit_mlp *mlp, const char *prefix, size_t in, size_t count,
                               const tacit_mlp_layer *layers, size_t max_rows, tacit_params *params,
                               tacit_work *work, tacit_err *err);
/* As tacit_resnet_train_split. */
void tacit_mlp_split(tacit_mlp *mlp, size_t groups, size_t pooled);
bool tacit_mlp_plan(const tacit_mlp *mlp, size_t *total);
void tacit_mlp_take(tacit_mlp *mlp, tacit_arena *arena);

/* x (rows, in) must stay until the backward. Gives (rows, out of the last layer), tight, until the
 * backward or the next forward. */
const float *tacit_mlp_forward(tacit_mlp *mlp, size_t rows, const float *x, size_t ldx);
/* dy, tight, is overwritten; dx may be NULL. */
void tacit_mlp_backward(tacit_mlp *mlp, float *dy, float *dx, size_t lddx);

#endif
