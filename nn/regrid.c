/* regrid.c - see regrid.h. Along the rows, then along the columns, in double; the gradient goes
 * through the transposed weights in the same way. */
#include "regrid.h"

#include <math.h>
#include <string.h>

/* Weights ------------------------------------------------------------------------------------- */

/* Keys' cubic convolution (1981) with the parameter a. */
static double cubic(double x, double a)
{
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/* 1 + q + ... of n terms. */
static double progression(double q, double n)
{
    return (pow(q, n) - 1) / (q - 1);
}

/* The weights (out, in) of one axis that are linear between two neighbours, beyond the ends the
 * last value's. The places of what is stored are k, or grow from the middle in a geometric
 * progression that ends about where `out` does: timm's resize_rel_pos_bias_table, after BEiT's
 * run_class_finetuning.py, which has a cubic spline between them. */
static void linear_weights(tacit_resample rule, size_t in, size_t out, double *weights)
{
    bool geometric = rule == TACIT_RESAMPLE_GEOMETRIC;
    double scale = (double)in / (double)out, half = (double)(in / 2), q = 0;
    for (double left = 1.01, right = 1.5; geometric && right - left > 1e-6;) {
        q = (left + right) / 2;
        *(progression(q, half) > (double)(out / 2) ? &right : &left) = q;
    }
    memset(weights, 0, in * out * sizeof *weights);
    for (size_t i = 0; i < out; i++, weights += in) {
        double x = geometric ? (double)i - (double)(out / 2) : scale * ((double)i + 0.5) - 0.5;
        double before = 0, place = 0;
        size_t k = 0;
        for (; k < in; k++, before = place) {
            double n = (double)k - half;
            place = !geometric ? (double)k : n < 0 ? -progression(q, -n) : progression(q, n);
            if (place >= x)
                break;
        }
        if (k && k < in)
            weights[k - 1] = (place - x) / (place - before);
        if (k < in)
            weights[k] = k ? (x - before) / (place - before) : 1;
        else
            weights[in - 1] = 1;
    }
}

/* The weights (out, in) of one axis as torch.nn.functional.interpolate has them for bicubic without
 * aligned corners: aten/src/ATen/native/cpu/UpSampleKernel.cpp. */
static void axis_weights(tacit_resample rule, size_t in, size_t out, double *weights)
{
    if (rule == TACIT_RESAMPLE_BILINEAR || rule == TACIT_RESAMPLE_GEOMETRIC) {
        linear_weights(rule, in, out, weights);
        return;
    }
    double scale = (double)in / (double)out;
    if (rule == TACIT_RESAMPLE_OFFSET) /* of the factor that was asked for, not of the sizes */
        scale = 1.0 / (((double)out + 0.1) / (double)in);
    memset(weights, 0, in * out * sizeof *weights);
    for (size_t i = 0; i < out; i++, weights += in) {
        if (rule != TACIT_RESAMPLE_ANTIALIAS) {
            double source = scale * ((double)i + 0.5) - 0.5, first = floor(source);
            for (int k = -1; k <= 2; k++) {
                double at = fmin(fmax(first + k, 0), (double)in - 1);
                weights[(size_t)at] += cubic(source - first - k, -0.75);
            }
            continue;
        }
        double wide = fmax(scale, 1), center = scale * ((double)i + 0.5), sum = 0;
        double from = fmax(trunc(center - 2 * wide + 0.5), 0);
        double to = fmin(trunc(center + 2 * wide + 0.5), (double)in);
        for (size_t k = (size_t)from; (double)k < to; k++)
            sum += weights[k] = cubic(((double)k - center + 0.5) / wide, -0.5);
        for (size_t k = (size_t)from; (double)k < to; k++)
            weights[k] /= sum;
    }
}

/* Memory -------------------------------------------------------------------------------------- */

static size_t widest(const tacit_regrid *r)
{
    return r->from[1] > r->to[1] ? r->from[1] : r->to[1];
}

bool tacit_regrid_plan(const tacit_regrid *r, size_t *total)
{
    bool fits = tacit_arena_plan(total, widest(r), r->dim * sizeof(double));
    for (int axis = 0; axis < 2; axis++)
        for (int way = 0; way < 2; way++)
            fits = fits && tacit_arena_plan(total, r->to[axis], r->from[axis] * sizeof(double));
    return fits;
}

void tacit_regrid_take(tacit_regrid *r, tacit_arena *arena)
{
    r->line = tacit_arena_take(arena, widest(r), r->dim * sizeof(double));
    for (int axis = 0; axis < 2; axis++) {
        r->weights[axis] = tacit_arena_take(arena, r->to[axis], r->from[axis] * sizeof(double));
        r->turned[axis] = tacit_arena_take(arena, r->to[axis], r->from[axis] * sizeof(double));
    }
}

void tacit_regrid_make(tacit_regrid *r)
{
    for (int axis = 0; axis < 2; axis++) {
        size_t from = r->from[axis], to = r->to[axis];
        axis_weights(r->rule, from, to, r->weights[axis]);
        for (size_t i = 0; i < from * to; i++)
            r->turned[axis][i % from * to + i / from] = r->weights[axis][i];
    }
}

/* Both ways ----------------------------------------------------------------------------------- */

/* in (from[0], from[1], dim) to out (to[0], to[1], dim), or with more added to it. */
static void apply(const tacit_regrid *r, double *const weights[2], const size_t from[2],
                  const size_t to[2], const float *in, bool more, float *out)
{
    size_t dim = r->dim, width = from[1] * dim;
    for (size_t y = 0; y < to[0]; y++) {
        memset(r->line, 0, width * sizeof *r->line);
        for (size_t k = 0; k < from[0]; k++) {
            double w = weights[0][y * from[0] + k];
            for (size_t i = 0; w != 0 && i < width; i++)
                r->line[i] += w * (double)in[k * width + i];
        }
        for (size_t x = 0; x < to[1]; x++)
            for (size_t d = 0; d < dim; d++, out++) {
                double sum = 0;
                for (size_t k = 0; k < from[1]; k++)
                    sum += weights[1][x * from[1] + k] * r->line[k * dim + d];
                *out = more ? *out + (float)sum : (float)sum;
            }
    }
}

void tacit_regrid_forward(const tacit_regrid *r, const float *table, float *out)
{
    apply(r, r->weights, r->from, r->to, table, false, out);
}

void tacit_regrid_backward(const tacit_regrid *r, const float *dout, float *dtable)
{
    apply(r, r->turned, r->to, r->from, dout, true, dtable);
}
