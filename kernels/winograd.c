/* winograd.c - the transforms of tiles before and after Winograd's products.
 *
 * A vector holds 16 channels of one pixel, so each transform is a few operations on whole vectors.
 * Tiles at the edge, and channels that fill no vector, go by way of a copy of the tile.
 */
#include "simd.h"
#include "winograd.h"

#define MOST 6 /* pixels along a tile of the input */

/* B^T d for side 2 (4 values) and 4 (6 values); they lie `step` vectors apart. */
TACIT_INLINE void forward(size_t side, const vf *d, vf *t, size_t step)
{
    vf d1 = d[step], d2 = d[2 * step], d3 = d[3 * step];
    if (side == 2) {
        t[0] = vf_sub(d2, d[0]);
        t[step] = vf_add(d2, d1);
        t[2 * step] = vf_sub(d2, d1);
        t[3 * step] = vf_sub(d3, d1);
        return;
    }
    vf d0 = d[0], d4 = d[4 * step], d5 = d[5 * step];
    vf p2 = vf_set1(-TACIT_WINOGRAD_P2), q2 = vf_set1(-TACIT_WINOGRAD_Q2);
    vf pq = vf_set1(TACIT_WINOGRAD_PQ), s2 = vf_set1(-TACIT_WINOGRAD_S2);
    vf even = vf_fma(q2, d2, d4), odd = vf_fma(q2, d1, d3);
    t[0] = vf_fma(pq, d0, vf_fma(s2, d2, d4));
    t[step] = vf_fma(vf_set1(TACIT_WINOGRAD_P), odd, even);
    t[2 * step] = vf_fma(vf_set1(-TACIT_WINOGRAD_P), odd, even);
    even = vf_fma(p2, d2, d4), odd = vf_fma(p2, d1, d3);
    t[3 * step] = vf_fma(vf_set1(TACIT_WINOGRAD_Q), odd, even);
    t[4 * step] = vf_fma(vf_set1(-TACIT_WINOGRAD_Q), odd, even);
    t[5 * step] = vf_fma(pq, d1, vf_fma(s2, d3, d5));
}

/* A^T m, in place: of the values, `side` are left. */
TACIT_INLINE void inverse(size_t side, vf *m, size_t step)
{
    vf m1 = m[step], m2 = m[2 * step], m3 = m[3 * step];
    vf s1 = vf_add(m1, m2), d1 = vf_sub(m1, m2);
    if (side == 2) {
        m[0] = vf_add(m[0], s1);
        m[step] = vf_add(m3, d1);
        return;
    }
    vf m4 = m[4 * step], m5 = m[5 * step];
    vf s2 = vf_add(m3, m4), d2 = vf_sub(m3, m4);
    m[0] = vf_add(vf_add(m[0], s1), s2);
    m[step] = vf_fma(vf_set1(TACIT_WINOGRAD_Q), d2, vf_mul(vf_set1(TACIT_WINOGRAD_P), d1));
    m[2 * step] = vf_fma(vf_set1(TACIT_WINOGRAD_Q2), s2, vf_mul(vf_set1(TACIT_WINOGRAD_P2), s1));
    m[3 * step] =
        vf_fma(vf_set1(TACIT_WINOGRAD_Q3), d2, vf_fma(vf_set1(TACIT_WINOGRAD_P3), d1, m5));
}

/* 16 channels (the first `left` of them stored) of a tile whose pixels are ldx, whose rows are row
 * floats apart. */
TACIT_INLINE void input_tile(size_t side, const float *x, size_t row, size_t ldx, size_t left,
                             float *v, size_t step)
{
    const size_t n = side + 2;
    vf d[MOST], t[MOST * MOST];
#pragma GCC unroll 6
    for (size_t j = 0; j < n; j++) {
#pragma GCC unroll 6
        for (size_t i = 0; i < n; i++)
            d[i] = vf_load(x + i * row + j * ldx);
        vf u[MOST];
        forward(side, d, u, 1);
#pragma GCC unroll 6
        for (size_t i = 0; i < n; i++)
            t[i * n + j] = u[i];
    }
#pragma GCC unroll 6
    for (size_t i = 0; i < n; i++) {
        vf u[MOST];
        forward(side, t + i * n, u, 1);
#pragma GCC unroll 6
        for (size_t j = 0; j < n; j++, v += step)
            if (left == VF)
                vf_store(v, u[j]);
            else
                vf_store_n(v, u[j], left);
    }
}

/* Copies of 16 channels of the pixels of a tile that begins at (top, y) and (left_edge, x), zeros
 * where it reaches over the edge. */
static void copy_tile(const tacit_conv *c, size_t n, const float *image, size_t top, size_t before,
                      size_t channel, size_t left, float *patch)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < n; j++, patch += VF) {
            size_t y = top + i - c->pad, x = before + j - c->pad; /* wraps below 0 */
            vf d = vf_zero();
            if (y < c->height && x < c->width) {
                const float *from = image + (y * c->width + x) * c->ldx + channel;
                d = left == VF ? vf_load(from) : vf_load_n(from, left);
            }
            vf_store(patch, d);
        }
}

TACIT_INLINE void input_tiles(const tacit_conv *c, size_t side, size_t first, size_t count,
                              const float *x, float *v, size_t ldv, size_t step)
{
    tacit_raster at = tacit_winograd_tile(c, side, first);
    for (; count--; tacit_raster_next(&at), v += ldv) {
        const float *image = x + at.image * c->height * c->width * c->ldx;
        size_t top = at.row * side, before = at.column * side;
        bool inside = top >= c->pad && before >= c->pad && top + side + 2 <= c->height + c->pad &&
                      before + side + 2 <= c->width + c->pad;
        for (size_t channel = 0; channel < c->channels; channel += VF) {
            size_t left = VF_LEFT(c->channels, channel);
            if (inside && left == VF) {
                const float *from =
                    image + ((top - c->pad) * c->width + before - c->pad) * c->ldx + channel;
                input_tile(side, from, c->width * c->ldx, c->ldx, VF, v + channel, step);
                continue;
            }
            float patch[MOST * MOST * VF];
            copy_tile(c, side + 2, image, top, before, channel, left, patch);
            input_tile(side, patch, (side + 2) * VF, VF, left, v + channel, step);
        }
    }
}

void TACIT_NAME(tacit_winograd_input_f32)(const tacit_conv *conv, size_t side, size_t first,
                                          size_t count, const float *x, float *v, size_t ldv,
                                          size_t step)
{
    if (side == 2)
        input_tiles(conv, 2, first, count, x, v, ldv, step);
    else
        input_tiles(conv, 4, first, count, x, v, ldv, step);
}

/* 16 channels of one tile: rows x columns of its outputs are stored, at y and pixels of ldy and ldr
 * floats, `width` of them in a row. */
TACIT_INLINE void output_tile(size_t side, const float *m, size_t step, size_t left, size_t rows,
                              size_t columns, size_t width, float *y, size_t ldy,
                              const tacit_epilogue *e)
{
    const size_t n = side + 2;
    vf t[MOST * MOST];
#pragma GCC unroll 6
    for (size_t j = 0; j < n; j++) {
        vf d[MOST];
#pragma GCC unroll 6
        for (size_t i = 0; i < n; i++) {
            const float *from = m + (i * n + j) * step;
            d[i] = left == VF ? vf_load(from) : vf_load_n(from, left);
        }
        inverse(side, d, 1);
#pragma GCC unroll 4
        for (size_t i = 0; i < side; i++)
            t[i * n + j] = d[i];
    }
    vf bias = vf_zero();
    if (e && e->bias)
        bias = left == VF ? vf_load(e->bias) : vf_load_n(e->bias, left);
#pragma GCC unroll 4
    for (size_t i = 0; i < side; i++) {
        if (i >= rows)
            return;
        inverse(side, t + i * n, 1);
#pragma GCC unroll 4
        for (size_t j = 0; j < side; j++) {
            if (j >= columns)
                break;
            size_t pixel = i * width + j;
            vf out = t[i * n + j];
            if (e && e->bias)
                out = vf_add(out, bias);
            if (e && e->residual) {
                const float *r = e->residual + pixel * e->ldr;
                out = vf_add(out, left == VF ? vf_load(r) : vf_load_n(r, left));
            }
            if (e && e->relu)
                out = vf_relu(out);
            if (left == VF)
                vf_store(y + pixel * ldy, out);
            else
                vf_store_n(y + pixel * ldy, out, left);
        }
    }
}

TACIT_INLINE void output_tiles(const tacit_conv *c, size_t side, size_t first, size_t count,
                               size_t n, const float *m, size_t ldp, size_t step, float *y,
                               size_t ldy, const tacit_epilogue *epilogue)
{
    tacit_raster at = tacit_winograd_tile(c, side, first);
    for (; count--; tacit_raster_next(&at), m += ldp) {
        size_t top = at.row * side, before = at.column * side;
        size_t pixel = (at.image * c->rows + top) * c->columns + before;
        size_t rows = c->rows - top < side ? c->rows - top : side;
        size_t columns = c->columns - before < side ? c->columns - before : side;
        for (size_t channel = 0; channel < n; channel += VF) {
            tacit_epilogue e = { 0 };
            if (epilogue) {
                e = *epilogue;
                if (e.bias)
                    e.bias += channel;
                if (e.residual)
                    e.residual += pixel * e.ldr + channel;
            }
            float *to = y + pixel * ldy + channel;
            size_t left = VF_LEFT(n, channel);
            if (left == VF && rows == side && columns == side)
                output_tile(side, m + channel, step, VF, side, side, c->columns, to, ldy, &e);
            else
                output_tile(side, m + channel, step, left, rows, columns, c->columns, to, ldy, &e);
        }
    }
}

void TACIT_NAME(tacit_winograd_output_f32)(const tacit_conv *conv, size_t side, size_t first,
                                           size_t count, size_t n, const float *products,
                                           size_t ldp, size_t step, float *y, size_t ldy,
                                           const tacit_epilogue *epilogue)
{
    if (side == 2)
        output_tiles(conv, 2, first, count, n, products, ldp, step, y, ldy, epilogue);
    else
        output_tiles(conv, 4, first, count, n, products, ldp, step, y, ldy, epilogue);
}
