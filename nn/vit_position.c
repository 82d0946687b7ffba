/* vit_position.c - positions of the patches of any input. See vit.h and vit_internal.h.
 *
 * Done once, at open, in double: a table of positions is resampled to the grid of the input by the
 * rule that its authors published, relative biases are laid out for every pair of tokens, rotary
 * angles become cosines and sines.
 */
#include "vit_internal.h"

#include <math.h>
#include <string.h>

/* Resampling ---------------------------------------------------------------------------------- */

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

/* table (rows, columns, dim) to out (to[0], to[1], dim): along the rows, then along the columns. */
static tacit_status resample(tacit_resample rule, const float *table, const unsigned from[2],
                             float *out, const unsigned to[2], size_t dim, tacit_err *err)
{
    double *vertical = tacit_calloc((size_t)from[0] * to[0], sizeof *vertical);
    double *horizontal = tacit_calloc((size_t)from[1] * to[1], sizeof *horizontal);
    double *line = tacit_calloc(from[1] * dim, sizeof *line);
    tacit_status st = TACIT_OK;
    if (!vertical || !horizontal || !line) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for the position table");
        goto end;
    }
    axis_weights(rule, from[0], to[0], vertical);
    axis_weights(rule, from[1], to[1], horizontal);
    size_t width = from[1] * dim;
    for (size_t y = 0; y < to[0]; y++) {
        memset(line, 0, width * sizeof *line);
        for (size_t k = 0; k < from[0]; k++) {
            double w = vertical[y * from[0] + k];
            for (size_t i = 0; w != 0 && i < width; i++)
                line[i] += w * (double)table[k * width + i];
        }
        for (size_t x = 0; x < to[1]; x++)
            for (size_t d = 0; d < dim; d++) {
                double sum = 0;
                for (size_t k = 0; k < from[1]; k++)
                    sum += horizontal[x * from[1] + k] * line[k * dim + d];
                out[(y * to[1] + x) * dim + d] = (float)sum;
            }
    }
end:
    tacit_free(line);
    tacit_free(horizontal);
    tacit_free(vertical);
    return st;
}

/* Relative biases ----------------------------------------------------------------------------- */

/* The row of BEiT's table for a grid of h rows and w columns, for query a and key b
 * (beit/modeling_finetune.py): tokens before the patches are the class token, if anything. */
static size_t relative_row(size_t prefix, size_t h, size_t w, size_t a, size_t b)
{
    size_t n = (2 * h - 1) * (2 * w - 1);
    if (a < prefix || b < prefix)
        return a < prefix && b < prefix ? n + 2 : a < prefix ? n : n + 1;
    a -= prefix;
    b -= prefix;
    return (a / w + h - 1 - b / w) * (2 * w - 1) + a % w + w - 1 - b % w;
}

/* table (T, heads), of the stored grid, to bias (heads, tokens, tokens) of the input's. aside: room
 * for the table of the input's grid, NULL where it is the stored one. */
static tacit_status lay_out(const tacit_vit *vit, const float *table, float *aside, float *bias,
                            tacit_err *err)
{
    const tacit_vit_config *c = &vit->config;
    size_t h = c->height / c->patch, w = c->width / c->patch, heads = c->heads, n = vit->tokens;
    if (aside) {
        const unsigned from[2] = { 2 * c->grid[0] - 1, 2 * c->grid[1] - 1 };
        const unsigned to[2] = { 2 * (unsigned)h - 1, 2 * (unsigned)w - 1 };
        tacit_status st = resample(c->resample, table, from, aside, to, heads, err);
        if (st < 0)
            return st;
        memcpy(aside + (size_t)to[0] * to[1] * heads, table + (size_t)from[0] * from[1] * heads,
               (c->no_cls ? 0 : 3) * heads * sizeof *aside);
        table = aside;
    }
    for (size_t a = 0; a < n; a++)
        for (size_t b = 0; b < n; b++) {
            const float *row = table + relative_row(vit->prefix, h, w, a, b) * heads;
            for (size_t i = 0; i < heads; i++)
                bias[(i * n + a) * n + b] = row[i];
        }
    return TACIT_OK;
}

/* Rotary angles ------------------------------------------------------------------------------- */

/* DINOv3 (arXiv:2508.10104; dinov3/layers/rope_position_encoding.py): of each patch the cosines and
 * sines of 2 pi u / period, for all periods with the row's u, then with the column's, where u is
 * the centre's place from -1 to 1. */
static void turn(const tacit_vit *vit, float *rotary)
{
    const tacit_vit_config *c = &vit->config;
    size_t rows = c->height / c->patch, columns = c->width / c->patch;
    size_t quarter = c->dim / c->heads / 4;
    for (size_t p = 0; p < rows * columns; p++, rotary += 4 * quarter)
        for (size_t k = 0; k < 2 * quarter; k++) {
            double u = k < quarter ? 2 * ((double)(p / columns) + 0.5) / (double)rows - 1
                                   : 2 * ((double)(p % columns) + 0.5) / (double)columns - 1;
            double angle = 2 * 3.14159265358979323846 * u / (double)vit->periods[k % quarter];
            rotary[k] = (float)cos(angle);
            rotary[2 * quarter + k] = (float)sin(angle);
        }
}

/* All ----------------------------------------------------------------------------------------- */

tacit_status tacit__vit_position(tacit_vit *vit, tacit_err *err)
{
    const tacit_vit_config *c = &vit->config;
    const unsigned to[2] = { c->height / c->patch, c->width / c->patch };
    bool table = c->position == TACIT_POSITION_TABLE;
    bool same = to[0] == c->grid[0] && to[1] == c->grid[1];
    size_t cls = table && !c->no_cls && !c->position_no_cls, dim = c->dim;
    size_t pair, pos = table && !same ? (cls + vit->patches) * dim : 0;
    size_t rotary = c->position == TACIT_POSITION_ROTARY ? vit->patches * (dim / c->heads) : 0;
    size_t tables = c->relative == TACIT_RELATIVE_BLOCK ? c->depth : c->relative ? 1 : 0, total;
    size_t aside = 0;
    if (tables && !same)
        aside = ((2 * to[0] - 1) * (size_t)(2 * to[1] - 1) + 3) * c->heads;
    if (!same && tacit__vit_one_grid(c))
        return tacit_fail(err, TACIT_EINVAL,
                          "size %u x %u does not fit the tables of positions, which are for %u x "
                          "%u patches",
                          c->height, c->width, c->grid[0], c->grid[1]);
    if (!tacit_mul_size(vit->tokens, vit->tokens, &pair) ||
        !tacit_mul_size(pair, c->heads, &pair) || !tacit_mul_size(pair, tables, &total) ||
        !tacit_add_size(total, pos, &total) || !tacit_add_size(total, rotary, &total) ||
        !tacit_add_size(total, aside, &total) || !tacit_mul_size(total, sizeof(float), &total))
        return tacit_fail(err, TACIT_ELIMIT, "the model is too large for this machine");
    vit->pos = vit->stored;
    if (!total)
        return TACIT_OK;
    float *next = vit->made = tacit_alloc(total);
    if (!next)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for the positions");
    if (pos) {
        vit->pos = next;
        memcpy(next, vit->stored, cls * dim * sizeof *next);
        tacit_status st =
            resample(c->resample, vit->stored + cls * dim, c->grid, next + cls * dim, to, dim, err);
        if (st < 0)
            return st;
        next += pos;
    }
    if (rotary) {
        vit->rotary = next;
        turn(vit, next);
        next += rotary;
    }
    float *room = aside ? next + tables * pair : NULL;
    tacit_status st = TACIT_OK;
    if (c->relative == TACIT_RELATIVE_SHARED) {
        vit->bias = next;
        st = lay_out(vit, vit->table, room, next, err);
    }
    for (unsigned i = 0; st == TACIT_OK && c->relative == TACIT_RELATIVE_BLOCK && i < c->depth;
         i++) {
        vit->blocks[i].bias = next;
        st = lay_out(vit, vit->blocks[i].table, room, next, err);
        next += pair;
    }
    return st;
}
