/* ref_hog.c - histograms of oriented gradients, in plain C. Read beside kernels.h. */
#include "hog.h"
#include "isa.h"

#include <math.h>

/* The pixel before (-1), at (0) or behind (1) number i of n, where the outermost is mirrored. */
static size_t mirrored(size_t i, int step, size_t n)
{
    if (n == 1)
        return 0;
    if (step < 0)
        return i ? i - 1 : 1;
    return step == 0 ? i : i + 1 < n ? i + 1 : n - 2;
}

static size_t bin_of(double gx, double gy)
{
    static const double cosine[] = TACIT_HOG_COS, sine[] = TACIT_HOG_SIN;
    float x = (float)gx, y = (float)gy;
    float sign = x < 0 ? -1.0f : x > 0 ? 1.0f : y < 0 ? -1.0f : 1.0f;
    size_t bin = 0;
    for (size_t k = 0; k < TACIT_HOG_BINS - 1; k++)
        bin += (float)fma(gx, cosine[k], gy * -sine[k]) * sign > 0;
    return bin;
}

/* Adds the gradient of a pixel to its bin. */
static void add_pixel(size_t height, size_t width, const float *x, size_t ldx, size_t i, size_t j,
                      float *bins)
{
    const float *up = x + mirrored(i, -1, height) * ldx, *mid = x + i * ldx,
                *down = x + mirrored(i, 1, height) * ldx;
    size_t l = mirrored(j, -1, width), r = mirrored(j, 1, width);
    double gx = (double)up[l] - (double)up[r] + 2 * (double)mid[l] - 2 * (double)mid[r] +
                (double)down[l] - (double)down[r];
    double gy = (double)up[l] + 2 * (double)up[j] + (double)up[r] - (double)down[l] -
                2 * (double)down[j] - (double)down[r];
    float fx = (float)gx, fy = (float)gy;
    bins[bin_of(gx, gy)] += sqrtf(fmaf(fx, fx, fy * fy));
}

void tacit_hog_f32_ref(size_t height, size_t width, size_t cell, const float *x, size_t ldx,
                       float *y, size_t ldy)
{
    for (size_t cy = 0; cy < height / cell; cy++)
        for (size_t cx = 0; cx < width / cell; cx++, y += ldy) {
            for (size_t k = 0; k < TACIT_HOG_BINS; k++)
                y[k] = 0;
            for (size_t j = cx * cell; j < (cx + 1) * cell; j++) {
                float column[TACIT_HOG_BINS] = { 0 };
                for (size_t i = cy * cell; i < (cy + 1) * cell; i++)
                    add_pixel(height, width, x, ldx, i, j, column);
                for (size_t k = 0; k < TACIT_HOG_BINS; k++)
                    y[k] += column[k];
            }
        }
}
