/* ref_resize.c - what the image kernels compute, in plain C. */
#include "isa.h"

#include <math.h>

void tacit_transpose_u8_ref(size_t rows, size_t cols, const uint8_t *x, size_t ldx, uint8_t *y,
                            size_t ldy)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++)
            y[c * ldy + r] = x[r * ldx + c];
}

void tacit_resample_u8_ref(size_t outputs, const tacit_taps *taps, size_t n, const uint8_t *x,
                           size_t ldx, uint8_t *y, size_t ldy)
{
    for (size_t o = 0; o < outputs; o++)
        for (size_t i = 0; i < n; i++) {
            uint32_t sum = 1 << 21;
            for (size_t j = 0; j < taps[o].count; j++) {
                const int16_t *w = taps[o].weights + 4 * (j / 2) + j % 2;
                int32_t k = w[0] * 2048 + w[2];
                sum += (uint32_t)k * x[(taps[o].first + j) * ldx + i];
            }
            int32_t value = (int32_t)sum >> 22;
            y[o * ldy + i] = (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
}

void tacit_weighted_rows_u8_ref(size_t count, const float *weights, size_t n, const uint8_t *x,
                                size_t ldx, float *y)
{
    for (size_t i = 0; i < n; i++) {
        y[i] = 0;
        for (size_t j = 0; j < count; j++)
            y[i] = fmaf(weights[j], x[j * ldx + i], y[i]);
    }
}

void tacit_normalize_u8_ref(size_t n, const uint8_t *x, size_t ldx,
                            const tacit_normalize *normalize, float *y, size_t ldy)
{
    for (size_t c = 0; c < 3; c++)
        for (size_t i = 0; i < n; i++)
            y[c * ldy + i] = normalize->table[c][x[c * ldx + i]];
}
