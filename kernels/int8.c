/* int8.c - products in whole numbers of 8 bits. See kernels_int8.h. */
#define TACIT_DOT 0
#include "int8_tile.h"

/* int8_dot.c has it. */
tacit_gemm_u8s8_fn TACIT_NAME(tacit_gemm_u8s8_dot);

#define TOGETHER                                                                                   \
    16                  /* rows of which all factors are found before they are rounded: short rows \
                           would wait for a division each */
#define FEW_VALUES 4096 /* that are read again from the first-level cache */

static float largest_size(size_t n, const float *x)
{
    vf most[4] = { vf_zero(), vf_zero(), vf_zero(), vf_zero() };
    size_t i = 0;
    for (; i + WIDE <= n; i += WIDE)
        for (size_t v = 0; v < 4; v++)
            most[v] = vf_larger(most[v], vf_load(x + i + v * VF));
    for (; i + VF <= n; i += VF)
        most[0] = vf_larger(most[0], vf_load(x + i));
    if (i < n)
        most[1] = vf_larger(most[1], vf_load_n(x + i, n - i));
    return vf_largest(vf_larger(vf_larger(most[0], most[1]), vf_larger(most[2], most[3])));
}

void TACIT_NAME(tacit_quantise_u8)(size_t rows, size_t n, const float *x, size_t ldx, uint8_t zero,
                                   uint8_t *q, size_t ldq, float *scale)
{
    const float steps = tacit_int8_steps(zero);
    const size_t step = n * TOGETHER <= FEW_VALUES ? TOGETHER : n * 4 <= FEW_VALUES ? 4 : 1;
    float inverse[TOGETHER];
    for (size_t count; rows; rows -= count, x += count * ldx, q += count * ldq, scale += count) {
        count = rows < step ? rows : step;
        for (size_t r = 0; r < count; r++)
            scale[r] = largest_size(n, x + r * ldx);
        for (size_t r = 0; r < count; r++) {
            inverse[r] = tacit_int8_inverse_of(steps, scale[r]);
            scale[r] = tacit_int8_scale_of(steps, scale[r]);
        }
        for (size_t r = 0; r < count; r++)
            if (inverse[r] > 0)
                round_row(n, x + r * ldx, inverse[r], zero, q + r * ldq);
            else
                memset(q + r * ldq, zero, 4 * TACIT_INT8_GROUPS(n));
    }
}

void TACIT_NAME(tacit_gemm_u8s8)(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                                 const float *a_scale, uint8_t zero, const int8_t *packed,
                                 const float *scale, const int32_t *minus, float *c, size_t ldc,
                                 const tacit_epilogue *epilogue)
{
    if (tacit_cpu_dot8(TACIT_TILE_ISA)) {
        TACIT_NAME(tacit_gemm_u8s8_dot)
        (m, n, k, a, lda, a_scale, zero, packed, scale, minus, c, ldc, epilogue);
        return;
    }
    gemm_u8s8(m, n, k, a, lda, a_scale, zero, packed, scale, minus, c, ldc, epilogue);
}
