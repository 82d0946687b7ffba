/* bf16_dot.c - the product of bf16.c for CPUs with AVX512_BF16, which tacit_cpu_bf16 tells.
 * Compiled with the flag for it, so nothing else may be here. */
#define TACIT_DOT 1
#include "bf16_tile.h"

tacit_gemm_bf16_fn TACIT_NAME(tacit_gemm_bf16_dot);

void TACIT_NAME(tacit_gemm_bf16_dot)(size_t m, size_t n, size_t k, const uint16_t *a, size_t lda,
                                     const uint16_t *packed, float *c, size_t ldc,
                                     const tacit_epilogue *epilogue)
{
    gemm_bf16(m, n, k, a, lda, packed, c, ldc, epilogue);
}
