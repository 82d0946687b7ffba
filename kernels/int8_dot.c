/* int8_dot.c - the product of int8.c for CPUs that multiply and add four bytes in one instruction,
 * which tacit_cpu_dot8 tells. Compiled with the flag for it, so nothing else may be here. */
#define TACIT_DOT 1
#include "int8_tile.h"

tacit_gemm_u8s8_fn TACIT_NAME(tacit_gemm_u8s8_dot);

void TACIT_NAME(tacit_gemm_u8s8_dot)(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                                     const float *a_scale, uint8_t zero, const int8_t *packed,
                                     const float *scale, const int32_t *minus, float *c, size_t ldc,
                                     const tacit_epilogue *epilogue)
{
    gemm_u8s8(m, n, k, a, lda, a_scale, zero, packed, scale, minus, c, ldc, epilogue);
}
