/* resize.c - the image kernels over the vocabulary of bytes. Compiled once for each ISA. */
#include "isa.h"
#include "simd_u8.h"

#include <math.h>

/* 16 columns of up to VB rows. Interleaving rows i and i + 8 moves one bit of an element's address
 * from its row to its column, and one back; four times, and they have changed places. */
TACIT_INLINE void transpose_block(size_t rows, const uint8_t *x, size_t ldx, uint8_t *y, size_t ldy)
{
    vb a[16], b[16];
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++)
        a[i] = vb_load_lanes(x, ldx, i, rows);
#pragma GCC unroll 2
    for (int twice = 0; twice < 2; twice++) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            b[2 * i] = vb_zip_lo(a[i], a[i + 8]);
            b[2 * i + 1] = vb_zip_hi(a[i], a[i + 8]);
        }
#pragma GCC unroll 8
        for (int i = 0; i < 8; i++) {
            a[2 * i] = vb_zip_lo(b[i], b[i + 8]);
            a[2 * i + 1] = vb_zip_hi(b[i], b[i + 8]);
        }
    }
#pragma GCC unroll 16
    for (size_t i = 0; i < 16; i++)
        vb_store_n(y + i * ldy, a[i], rows);
}

void TACIT_NAME(tacit_transpose_u8)(size_t rows, size_t cols, const uint8_t *x, size_t ldx,
                                    uint8_t *y, size_t ldy)
{
    if (cols < 16) {
        for (size_t c = 0; c < cols; c++)
            for (size_t r = 0; r < rows; r++)
                y[c * ldy + r] = x[r * ldx + c];
        return;
    }
    for (size_t r = 0; r < rows; r += VB) {
        size_t left = rows - r < VB ? rows - r : VB;
        for (size_t c = 0; c < cols; c += 16) {
            size_t at = c + 16 <= cols ? c : cols - 16; /* the last block may repeat columns */
            if (left == VB)
                transpose_block(VB, x + r * ldx + at, ldx, y + at * ldy + r, ldy);
            else
                transpose_block(left, x + r * ldx + at, ldx, y + at * ldy + r, ldy);
        }
    }
}

TACIT_INLINE vb weighted_sum(const tacit_taps *taps, const uint8_t *x, size_t ldx, size_t n)
{
    vsum sum = vsum_zero();
    x += taps->first * ldx;
    size_t j = 0;
    for (; j + 2 <= taps->count; j += 2, x += 2 * ldx)
        vsum_add2(&sum, vb_load_n(x, n), vb_load_n(x + ldx, n), taps->weights + 2 * j);
    if (j < taps->count) {
        vb last = vb_load_n(x, n);
        vsum_add2(&sum, last, last, taps->weights + 2 * j);
    }
    return vsum_round(&sum);
}

void TACIT_NAME(tacit_resample_u8)(size_t outputs, const tacit_taps *taps, size_t n,
                                   const uint8_t *x, size_t ldx, uint8_t *y, size_t ldy)
{
    for (size_t o = 0; o < outputs; o++) {
        size_t i = 0;
        for (; i + VB <= n; i += VB)
            vb_store_n(y + o * ldy + i, weighted_sum(taps + o, x + i, ldx, VB), VB);
        if (i < n)
            vb_store_n(y + o * ldy + i, weighted_sum(taps + o, x + i, ldx, n - i), n - i);
    }
}

void TACIT_NAME(tacit_weighted_rows_u8)(size_t count, const float *weights, size_t n,
                                        const uint8_t *x, size_t ldx, float *y)
{
    size_t i = 0;
    for (; i + 2 * VF <= n; i += 2 * VF) { /* two chains, where one would wait for itself */
        vf a = vf_zero(), b = vf_zero();
        for (size_t j = 0; j < count; j++) {
            vf w = vf_set1(weights[j]);
            a = vf_fma(w, vf_from_u8(x + j * ldx + i), a);
            b = vf_fma(w, vf_from_u8(x + j * ldx + i + VF), b);
        }
        vf_store(y + i, a);
        vf_store(y + i + VF, b);
    }
    for (; i < n; i++) {
        y[i] = 0;
        for (size_t j = 0; j < count; j++)
            y[i] = fmaf(weights[j], x[j * ldx + i], y[i]);
    }
}

void TACIT_NAME(tacit_normalize_u8)(size_t n, const uint8_t *x, size_t ldx,
                                    const tacit_normalize *normalize, float *y, size_t ldy)
{
    for (size_t c = 0; c < 3; c++, x += ldx, y += ldy) {
        vf mean = vf_set1(normalize->mean[c]), minus_std = vf_set1(-normalize->std[c]);
        vf inverse = vf_set1(normalize->inverse[c]);
        size_t i = 0;
        for (; i + VF <= n && normalize->fma; i += VF) {
            vf v = vf_over(vf_from_u8(x + i), vf_set1(-255.0f), vf_set1(1.0f / 255.0f));
            vf_store(y + i, vf_over(vf_sub(v, mean), minus_std, inverse));
        }
        for (; i < n; i++)
            y[i] = normalize->table[c][x[i]];
    }
}
