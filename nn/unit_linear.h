/* unit_linear.h - a Linear layer of unit vectors in training, the last of DINO's head.
 *
 * y_k = g_k (v_k / |v_k|) . (x / |x|): the input is normalised, and so is each output's weight, up
 * to a gain (weight normalisation: Salimans and Kingma 2016, arXiv:1602.07868, eq. 2), with the
 * names of torch.nn.utils.weight_norm. The gains begin as 1, and may stay it: then y are cosines.
 */
#ifndef TACIT_UNIT_LINEAR_H
#define TACIT_UNIT_LINEAR_H

#include "dense.h"

typedef struct tacit_unit_linear {
    const tacit_work *work;
    size_t in, out, max_rows, rows; /* rows: of the last forward */
    bool trained;
    tacit_param *g, *v; /* (out, 1), (out, in) */
    tacit_param made;   /* g v / |v| of the last forward, and its gradient */
    const float *x;
    size_t ldx;
    float *unit, *dunit; /* (max_rows, in), tight */
} tacit_unit_linear;

/* Declares name.weight_g and name.weight_v. learns_gain: else g is frozen. Of `fixed` params there
 * is only a forward. */
tacit_status tacit_unit_linear_declare(tacit_unit_linear *layer, const char *name, size_t in,
                                       size_t out, bool learns_gain, size_t max_rows,
                                       tacit_params *params, tacit_work *work, tacit_err *err);
bool tacit_unit_linear_plan(const tacit_unit_linear *layer, size_t *total);
void tacit_unit_linear_take(tacit_unit_linear *layer, tacit_arena *arena);

/* x (rows, in), ldx apart, must stay until the backward; y (rows, out), tight. */
void tacit_unit_linear_forward(tacit_unit_linear *layer, size_t rows, const float *x, size_t ldx,
                               float *y);
/* dy (rows, out), tight; dx (rows, in), lddx apart. */
void tacit_unit_linear_backward(tacit_unit_linear *layer, const float *dy, float *dx, size_t lddx);

#endif
