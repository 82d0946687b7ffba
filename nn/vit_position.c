/* vit_position.c - positions of the patches of any input. See vit.h and vit_internal.h.
 *
 * Done once, at open, in double: a table of positions is resampled to the grid of the input by the
 * rule that its authors published, relative biases are laid out for every pair of tokens, rotary
 * angles become cosines and sines.
 */
#include "vit_internal.h"

#include "regrid.h"
#include "relative_bias.h"

#include <math.h>
#include <string.h>

/* Resampling ---------------------------------------------------------------------------------- */

/* table (from[0], from[1], dim) to out (to[0], to[1], dim). */
static tacit_status resample(tacit_resample rule, const float *table, const unsigned from[2],
                             float *out, const unsigned to[2], size_t dim, tacit_err *err)
{
    tacit_regrid r = {
        .from = { from[0], from[1] }, .to = { to[0], to[1] }, .dim = dim, .rule = rule
    };
    tacit_arena arena = { 0 };
    size_t total = 0;
    if (!tacit_regrid_plan(&r, &total) || tacit_arena_open(&arena, total, NULL) < 0)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for the position table");
    tacit_regrid_take(&r, &arena);
    tacit_regrid_make(&r);
    tacit_regrid_forward(&r, table, out);
    tacit_arena_close(&arena);
    return TACIT_OK;
}

/* Relative biases ----------------------------------------------------------------------------- */

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
            const float *row = table + tacit_relative_row(vit->prefix, h, w, a, b) * heads;
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
