/* bf16.c - products of bfloat16. See kernels_bf16.h. */
#define TACIT_DOT 0
#include "bf16_tile.h"

/* bf16_dot.c has it, for AVX-512. */
tacit_gemm_bf16_fn TACIT_NAME(tacit_gemm_bf16_dot);

void TACIT_NAME(tacit_gemm_bf16)(size_t m, size_t n, size_t k, const uint16_t *a, size_t lda,
                                 const uint16_t *packed, float *c, size_t ldc,
                                 const tacit_epilogue *epilogue)
{
#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512
    if (tacit_cpu_bf16()) {
        TACIT_NAME(tacit_gemm_bf16_dot)(m, n, k, a, lda, packed, c, ldc, epilogue);
        return;
    }
#endif
    gemm_bf16(m, n, k, a, lda, packed, c, ldc, epilogue);
}
