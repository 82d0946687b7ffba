/* int8.c - products in whole numbers of 8 bits. See kernels_int8.h. */
#define TACIT_DOT 0
#include "int8_tile.h"

/* int8_dot.c has it. */
tacit_gemm_u8s8_fn TACIT_NAME(tacit_gemm_u8s8_dot);

static void quantise_row(size_t n, const float *x, uint8_t *q, float *scale)
{
    vf most = vf_zero();
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        most = vf_max(most, absolute(vf_load(x + i)));
    if (i < n) /* missing lanes are 0, which a NaN must not lose against */
        most = vf_first(vf_max(most, absolute(vf_load_n(x + i, n - i))), most, n - i);
    float largest = vf_hmax(most);
    vf inverse = vf_set1(tacit_int8_inverse(largest));
    *scale = tacit_int8_scale(largest);
    for (i = 0; i + VF <= n; i += VF)
        vf_store_bytes(q + i, to_bytes(vf_load(x + i), inverse));
    if (i < n) {
        uint8_t last[VF];
        vf_store_bytes(last, to_bytes(vf_load_n(x + i, n - i), inverse));
        memset(last + (n - i), 128, VF - (n - i));
        memcpy(q + i, last, 4 * TACIT_INT8_GROUPS(n - i));
    }
}

void TACIT_NAME(tacit_quantise_u8)(size_t rows, size_t n, const float *x, size_t ldx, uint8_t *q,
                                   size_t ldq, float *scale)
{
    for (size_t r = 0; r < rows; r++)
        quantise_row(n, x + r * ldx, q + r * ldq, scale + r);
}

void TACIT_NAME(tacit_gemm_u8s8)(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                                 const float *a_scale, const int8_t *packed, const float *scale,
                                 const int32_t *minus, float *c, size_t ldc,
                                 const tacit_epilogue *epilogue)
{
    if (tacit_cpu_dot8(TACIT_TILE_ISA)) {
        TACIT_NAME(tacit_gemm_u8s8_dot)
        (m, n, k, a, lda, a_scale, packed, scale, minus, c, ldc, epilogue);
        return;
    }
    gemm_u8s8(m, n, k, a, lda, a_scale, packed, scale, minus, c, ldc, epilogue);
}
