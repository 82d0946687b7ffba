/* winograd_train.c - what Winograd's products need in training: weights that change at every step,
 * and the gradients of the transforms.
 */
#include "simd.h"
#include "winograd.h"

#define MOST 6 /* values along an axis of a transformed tile */

/* G g: 3 values to side + 2. */
TACIT_INLINE void window_values(size_t side, const vf *g, vf *u)
{
    if (side == 2) {
        vf half = vf_set1(0.5f), ends = vf_add(g[0], g[2]);
        u[0] = vf_sub(vf_zero(), g[0]);
        u[1] = vf_mul(vf_add(ends, g[1]), half);
        u[2] = vf_mul(vf_sub(ends, g[1]), half);
        u[3] = g[2];
        return;
    }
    vf p = vf_set1(TACIT_WINOGRAD_P), minus_p = vf_set1(-TACIT_WINOGRAD_P);
    vf q = vf_set1(TACIT_WINOGRAD_Q), minus_q = vf_set1(-TACIT_WINOGRAD_Q);
    vf share = vf_set1(TACIT_WINOGRAD_SHARE_P);
    vf ends = vf_fma(vf_set1(TACIT_WINOGRAD_P2), g[2], g[0]);
    u[0] = vf_mul(g[0], vf_set1(TACIT_WINOGRAD_SHARE_0));
    u[1] = vf_mul(vf_fma(p, g[1], ends), share);
    u[2] = vf_mul(vf_fma(minus_p, g[1], ends), share);
    share = vf_set1(TACIT_WINOGRAD_SHARE_Q);
    ends = vf_fma(vf_set1(TACIT_WINOGRAD_Q2), g[2], g[0]);
    u[3] = vf_mul(vf_fma(q, g[1], ends), share);
    u[4] = vf_mul(vf_fma(minus_q, g[1], ends), share);
    u[5] = g[2];
}

/* G^T u: side + 2 values to 3. */
TACIT_INLINE void window_back(size_t side, const vf *u, vf *g)
{
    if (side == 2) {
        vf half = vf_set1(0.5f), ends = vf_mul(vf_add(u[1], u[2]), half);
        g[0] = vf_sub(ends, u[0]);
        g[1] = vf_mul(vf_sub(u[1], u[2]), half);
        g[2] = vf_add(ends, u[3]);
        return;
    }
    vf share_p = vf_set1(TACIT_WINOGRAD_SHARE_P), share_q = vf_set1(TACIT_WINOGRAD_SHARE_Q);
    vf ends_p = vf_mul(vf_add(u[1], u[2]), share_p), odd_p = vf_mul(vf_sub(u[1], u[2]), share_p);
    vf ends_q = vf_mul(vf_add(u[3], u[4]), share_q), odd_q = vf_mul(vf_sub(u[3], u[4]), share_q);
    g[0] = vf_fma(vf_set1(TACIT_WINOGRAD_SHARE_0), u[0], vf_add(ends_p, ends_q));
    g[1] = vf_fma(vf_set1(TACIT_WINOGRAD_Q), odd_q, vf_mul(vf_set1(TACIT_WINOGRAD_P), odd_p));
    g[2] = vf_fma(vf_set1(TACIT_WINOGRAD_Q2), ends_q,
                  vf_fma(vf_set1(TACIT_WINOGRAD_P2), ends_p, u[5]));
}

/* A y: side values to side + 2. */
TACIT_INLINE void outputs_back(size_t side, const vf *y, vf *z)
{
    z[0] = y[0];
    z[side + 1] = y[side - 1];
    if (side == 2) {
        z[1] = vf_add(y[0], y[1]);
        z[2] = vf_sub(y[0], y[1]);
        return;
    }
    vf even = vf_fma(vf_set1(TACIT_WINOGRAD_P2), y[2], y[0]);
    vf odd = vf_fma(vf_set1(TACIT_WINOGRAD_P2), y[3], y[1]);
    z[1] = vf_fma(vf_set1(TACIT_WINOGRAD_P), odd, even);
    z[2] = vf_fma(vf_set1(-TACIT_WINOGRAD_P), odd, even);
    even = vf_fma(vf_set1(TACIT_WINOGRAD_Q2), y[2], y[0]);
    odd = vf_fma(vf_set1(TACIT_WINOGRAD_Q2), y[3], y[1]);
    z[3] = vf_fma(vf_set1(TACIT_WINOGRAD_Q), odd, even);
    z[4] = vf_fma(vf_set1(-TACIT_WINOGRAD_Q), odd, even);
}

TACIT_INLINE void store_left(float *to, vf x, size_t left)
{
    if (left == VF)
        vf_store(to, x);
    else
        vf_store_n(to, x, left);
}

TACIT_INLINE vf load_left(const float *from, size_t left)
{
    return left == VF ? vf_load(from) : vf_load_n(from, left);
}

TACIT_INLINE void window_weights(size_t side, const float *w, ptrdiff_t tap, size_t left, float *u,
                                 size_t step)
{
    const size_t n = side + 2;
    vf g[3], t[MOST * 3], row[MOST];
#pragma GCC unroll 3
    for (ptrdiff_t x = 0; x < 3; x++) {
#pragma GCC unroll 3
        for (ptrdiff_t y = 0; y < 3; y++)
            g[y] = load_left(w + (3 * y + x) * tap, left);
        window_values(side, g, row);
#pragma GCC unroll 6
        for (size_t i = 0; i < n; i++)
            t[3 * i + (size_t)x] = row[i];
    }
#pragma GCC unroll 6
    for (size_t i = 0; i < n; i++) {
        window_values(side, t + 3 * i, row);
#pragma GCC unroll 6
        for (size_t j = 0; j < n; j++, u += step)
            store_left(u, row[j], left);
    }
}

void TACIT_NAME(tacit_winograd_weights_f32)(size_t side, size_t rows, size_t n, const float *w,
                                            size_t ldw, size_t tap, bool turned, float *u,
                                            size_t ldu, size_t step)
{
    ptrdiff_t next = turned ? -(ptrdiff_t)tap : (ptrdiff_t)tap;
    w += turned ? 8 * tap : 0;
    for (size_t r = 0; r < rows; r++, w += ldw, u += ldu)
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            if (side == 2)
                window_weights(2, w + i, next, left, u + i, step);
            else if (left == VF)
                window_weights(4, w + i, next, VF, u + i, step);
            else
                window_weights(4, w + i, next, left, u + i, step);
        }
}

TACIT_INLINE void window_gradient(size_t side, const float *u, size_t step, size_t left, float *dw,
                                  size_t tap)
{
    const size_t n = side + 2;
    vf d[MOST], t[3 * MOST], g[3];
#pragma GCC unroll 6
    for (size_t j = 0; j < n; j++) {
#pragma GCC unroll 6
        for (size_t i = 0; i < n; i++)
            d[i] = load_left(u + (i * n + j) * step, left);
        window_back(side, d, g);
#pragma GCC unroll 3
        for (size_t y = 0; y < 3; y++)
            t[y * MOST + j] = g[y];
    }
#pragma GCC unroll 3
    for (size_t y = 0; y < 3; y++) {
        window_back(side, t + y * MOST, g);
#pragma GCC unroll 3
        for (size_t x = 0; x < 3; x++, dw += tap)
            store_left(dw, vf_add(load_left(dw, left), g[x]), left);
    }
}

void TACIT_NAME(tacit_winograd_weights_backward_f32)(size_t side, size_t rows, size_t n,
                                                     const float *du, size_t ldu, size_t step,
                                                     float *dw, size_t lddw, size_t tap)
{
    for (size_t r = 0; r < rows; r++, du += ldu, dw += lddw)
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            if (side == 2)
                window_gradient(2, du + i, step, left, dw + i, tap);
            else
                window_gradient(4, du + i, step, left, dw + i, tap);
        }
}

/* 16 channels of a tile, of which rows x columns outputs are there, `width` of them in a row. */
TACIT_INLINE void gradient_tile(size_t side, const float *dy, size_t lddy, size_t width,
                                size_t rows, size_t columns, size_t left, float *z, size_t step)
{
    const size_t n = side + 2;
    vf d[MOST], t[MOST * 4], u[MOST];
#pragma GCC unroll 4
    for (size_t j = 0; j < side; j++) {
#pragma GCC unroll 4
        for (size_t i = 0; i < side; i++)
            d[i] =
                i < rows && j < columns ? load_left(dy + (i * width + j) * lddy, left) : vf_zero();
        outputs_back(side, d, u);
#pragma GCC unroll 6
        for (size_t i = 0; i < n; i++)
            t[i * side + j] = u[i];
    }
#pragma GCC unroll 6
    for (size_t i = 0; i < n; i++) {
        outputs_back(side, t + i * side, u);
#pragma GCC unroll 6
        for (size_t j = 0; j < n; j++, z += step)
            store_left(z, u[j], left);
    }
}

TACIT_INLINE void gradient_tiles(const tacit_conv *c, size_t side, size_t first, size_t count,
                                 size_t n, const float *dy, size_t lddy, float *z, size_t ldz,
                                 size_t step)
{
    tacit_raster at = tacit_winograd_tile(c, side, first);
    for (; count--; tacit_raster_next(&at), z += ldz) {
        size_t top = at.row * side, before = at.column * side;
        size_t pixel = (at.image * c->rows + top) * c->columns + before;
        size_t rows = c->rows - top < side ? c->rows - top : side;
        size_t columns = c->columns - before < side ? c->columns - before : side;
        const float *from = dy + pixel * lddy;
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            if (left == VF && rows == side && columns == side)
                gradient_tile(side, from + i, lddy, c->columns, side, side, VF, z + i, step);
            else
                gradient_tile(side, from + i, lddy, c->columns, rows, columns, left, z + i, step);
        }
    }
}

void TACIT_NAME(tacit_winograd_output_backward_f32)(const tacit_conv *conv, size_t side,
                                                    size_t first, size_t count, size_t n,
                                                    const float *dy, size_t lddy, float *z,
                                                    size_t ldz, size_t step)
{
    if (side == 2)
        gradient_tiles(conv, 2, first, count, n, dy, lddy, z, ldz, step);
    else
        gradient_tiles(conv, 4, first, count, n, dy, lddy, z, ldz, step);
}
