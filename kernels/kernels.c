/* kernels.c - choosing a table, and sizes that go with it. Baseline code. */
#include "kernels.h"

#include <assert.h>
#include <math.h>
#include <string.h>

extern const tacit_kernels tacit_kernels_ref;
#if defined(__x86_64__)
extern const tacit_kernels tacit_kernels_avx2, tacit_kernels_avx512;
#elif defined(__aarch64__)
extern const tacit_kernels tacit_kernels_neon;
#endif

const tacit_kernels *tacit_kernels_for(tacit_isa isa)
{
    assert(tacit_isa_available(isa));
    switch (isa) {
#if defined(__x86_64__)
    case TACIT_ISA_AVX2: return &tacit_kernels_avx2;
    case TACIT_ISA_AVX512: return &tacit_kernels_avx512;
#elif defined(__aarch64__)
    case TACIT_ISA_NEON: return &tacit_kernels_neon;
#endif
    default: return &tacit_kernels_ref;
    }
}

static size_t round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

size_t tacit_gemm_packed_size(const tacit_kernels *kernels, size_t n, size_t k)
{
    return round_up(n, kernels->gemm_nr) * k;
}

size_t tacit_attention_scratch(const tacit_kernels *kernels, size_t tokens, size_t dim)
{
    return tacit_gemm_packed_size(kernels, tokens, dim) +         /* keys                */
           round_up(dim, kernels->gemm_nr) * tokens +             /* values              */
           kernels->gemm_mr * round_up(tokens, kernels->gemm_nr); /* scores of one tile */
}

size_t tacit_attention_backward_scratch(const tacit_kernels *kernels, size_t tokens, size_t dim)
{
    size_t queries = tokens < TACIT_KC ? tokens : TACIT_KC;
    return 2 * tacit_gemm_packed_size(kernels, tokens, dim) + /* keys and values, by token */
           tacit_gemm_packed_size(kernels, dim, tokens) +     /* keys, by column           */
           2 * queries * (round_up(tokens, kernels->gemm_nr) + TACIT_SCORES_PAD); /* p and ds */
}

/* x^n by repeated squaring: the same bits with every libm. */
static double power(double x, uint64_t n)
{
    double y = 1;
    for (; n; n /= 2, x *= x)
        if (n % 2)
            y *= x;
    return y;
}

tacit_adamw tacit_adamw_step(double rate, double decay, double beta1, double beta2, double eps,
                             uint64_t t)
{
    return (tacit_adamw){
        .keep = (float)(1 - rate * decay),
        .beta1_less = (float)(1 - beta1),
        .beta2 = (float)beta2,
        .beta2_less = (float)(1 - beta2),
        .rate = (float)(rate / (1 - power(beta1, t))),
        .inverse_root = (float)(1 / sqrt(1 - power(beta2, t))),
        .eps = (float)eps,
    };
}

/* a / b as normalize_u8 divides. */
static float divide(float a, float b, float inverse)
{
    float q = a * inverse;
    return fmaf(fmaf(q, -b, a), inverse, q);
}

void tacit_normalize_init(tacit_normalize *normalize, const float mean[3], const float std[3])
{
    normalize->fma = true;
    for (size_t c = 0; c < 3; c++) {
        normalize->mean[c] = mean[c];
        normalize->std[c] = std[c];
        normalize->inverse[c] = 1.0f / std[c];
        for (int v = 0; v < 256; v++) {
            float exact = ((float)v / 255.0f - mean[c]) / std[c];
            float quick = divide((float)v, 255.0f, 1.0f / 255.0f);
            quick = divide(quick - mean[c], std[c], normalize->inverse[c]);
            normalize->fma &= !memcmp(&exact, &quick, sizeof exact);
            normalize->table[c][v] = exact;
        }
    }
}
