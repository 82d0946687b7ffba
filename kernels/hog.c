/* hog.c - histograms of oriented gradients over the vocabulary. Compiled once for each ISA.
 *
 * Sixteen columns of a row of cells at a time: each has a sum for every bin, to which its pixels
 * add their length or 0, so that nothing is scattered.
 */
#include "hog.h"
#include "isa.h"
#include "simd.h"

#define BINS TACIT_HOG_BINS

/* Three rows of pixels, each from the column before. */
typedef struct window {
    const float *up, *mid, *down;
} window;

/* Columns i - 1 to i + 16 of a row, with one of them mirrored at either end; what lies farther out
 * is 0. In place where there are as many, or in edge (18). */
TACIT_INLINE const float *columns(const float *row, size_t width, size_t i, float *edge)
{
    if (i > 0 && i + VF < width)
        return row + i - 1;
    for (size_t j = 0; j < VF + 2; j++) {
        size_t at = i + j; /* one more than the column's number */
        edge[j] = at == 0           ? row[width > 1]
                  : at <= width     ? row[at - 1]
                  : at == width + 1 ? row[width > 1 ? width - 2 : 0]
                                    : 0;
    }
    return edge;
}

TACIT_INLINE vd add_times(vd sum, const float *p, float times)
{
    return vd_fma(vf_load(p), vf_set1(times), sum);
}

/* Adds what 16 pixels have to the sums of their columns. */
TACIT_INLINE void add_row(const window *w, vf *sums)
{
    static const double cosine[] = TACIT_HOG_COS, sine[] = TACIT_HOG_SIN;
    const float *u = w->up, *m = w->mid, *d = w->down;
    vf zero = vf_zero(), one = vf_set1(1), minus = vf_set1(-1), bin = zero;
    vd gx = add_times(add_times(vd_zero(), u, 1), u + 2, -1);
    gx = add_times(add_times(gx, m, 2), m + 2, -2);
    gx = add_times(add_times(gx, d, 1), d + 2, -1);
    vd gy = add_times(add_times(add_times(vd_zero(), u, 1), u + 1, 2), u + 2, 1);
    gy = add_times(add_times(add_times(gy, d, -1), d + 1, -2), d + 2, -1);
    vf x = vf_from_vd(gx), y = vf_from_vd(gy);
    vf length = vf_sqrt(vf_fma(x, x, vf_mul(y, y)));
    vf sign = vf_if_gt(zero, y, minus, one);
    sign = vf_if_gt(zero, x, minus, vf_if_gt(x, zero, one, sign));
    for (size_t k = 0; k < BINS - 1; k++) {
        vd cross = vd_fma_d(gx, vd_set1(cosine[k]), vd_mul(gy, vd_set1(-sine[k])));
        vf before = vf_mul(vf_from_vd(cross), sign);
        bin = vf_add(bin, vf_if_gt(before, zero, one, zero));
    }
    for (size_t k = 0; k < BINS; k++) {
        vf least = vf_set1((float)k - 0.5f), most = vf_set1((float)k + 0.5f);
        vf share = vf_if_gt(bin, least, vf_if_gt(bin, most, zero, length), zero);
        sums[k] = vf_add(sums[k], share);
    }
}

void TACIT_NAME(tacit_hog_f32)(size_t height, size_t width, size_t cell, const float *x, size_t ldx,
                               float *y, size_t ldy)
{
    size_t used = width / cell * cell;
    for (size_t top = 0; top + cell <= height; top += cell, y += width / cell * ldy) {
        for (size_t c = 0; c < width / cell; c++)
            memset(y + c * ldy, 0, BINS * sizeof *y);
        for (size_t i = 0; i < used; i += VF) {
            vf sums[BINS];
            float edges[3][VF + 2], column[BINS][VF];
            for (size_t k = 0; k < BINS; k++)
                sums[k] = vf_zero();
            for (size_t r = top; r < top + cell; r++) {
                size_t up = r ? r - 1 : height > 1, down = r + 1 < height ? r + 1 : height - 2;
                if (height == 1)
                    down = 0;
                window w = { columns(x + up * ldx, width, i, edges[0]),
                             columns(x + r * ldx, width, i, edges[1]),
                             columns(x + down * ldx, width, i, edges[2]) };
                add_row(&w, sums);
            }
            for (size_t k = 0; k < BINS; k++)
                vf_store(column[k], sums[k]);
            for (size_t j = 0; j < VF && i + j < used; j++)
                for (size_t k = 0; k < BINS; k++)
                    y[(i + j) / cell * ldy + k] += column[k][j];
        }
    }
}
