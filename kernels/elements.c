/* elements.c - kernels that work element by element, and the patch gather. */
#include "simd.h"

void TACIT_NAME(tacit_gelu_f32)(size_t n, const float *x, float *y)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(y + i, vf_gelu(vf_load(x + i)));
    if (i < n)
        vf_store_n(y + i, vf_gelu(vf_load_n(x + i, n - i)), n - i);
}

TACIT_INLINE vf vf_swish(vf x, vf minus_beta)
{
    vf e = vf_exp(vf_min(vf_set1(88), vf_mul(x, minus_beta)));
    return vf_div(x, vf_add(vf_set1(1), e));
}

void TACIT_NAME(tacit_swish_f32)(size_t n, float beta, const float *x, const float *y, float *z)
{
    vf minus = vf_set1(-beta);
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        vf s = vf_swish(left == VF ? vf_load(x + i) : vf_load_n(x + i, left), minus);
        if (y)
            s = vf_mul(s, left == VF ? vf_load(y + i) : vf_load_n(y + i, left));
        if (left == VF)
            vf_store(z + i, s);
        else
            vf_store_n(z + i, s, left);
    }
}

void TACIT_NAME(tacit_add_f32)(size_t n, const float *x, const float *y, float *z)
{
    size_t i = 0;
    for (; i + VF <= n; i += VF)
        vf_store(z + i, vf_add(vf_load(x + i), vf_load(y + i)));
    if (i < n)
        vf_store_n(z + i, vf_add(vf_load_n(x + i, n - i), vf_load_n(y + i, n - i)), n - i);
}

size_t TACIT_NAME(tacit_above_f32)(size_t n, const float *x, float threshold, uint32_t *at)
{
    vf least = vf_set1(threshold);
    size_t count = 0;
    for (size_t i = 0; i < n; i += VF) {
        size_t left = VF_LEFT(n, i);
        unsigned bits = left == VF ? vf_ge_bits(vf_load(x + i), least)
                                   : vf_ge_bits(vf_load_n(x + i, left), least) & ((1u << left) - 1);
        for (; bits; bits &= bits - 1)
            at[count++] = (uint32_t)i + (uint32_t)__builtin_ctz(bits);
    }
    return count;
}

/* 16-bit elements have no masked tail: the last vector goes through a buffer. */
#define WIDEN(slot, convert)                                                                       \
    void TACIT_NAME(tacit_##slot)(size_t n, const uint16_t *x, float *y)                           \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + VF <= n; i += VF)                                                               \
            vf_store(y + i, convert(x + i));                                                       \
        if (i < n) {                                                                               \
            uint16_t whole[VF] = { 0 };                                                            \
            memcpy(whole, x + i, (n - i) * sizeof *x);                                             \
            vf_store_n(y + i, convert(whole), n - i);                                              \
        }                                                                                          \
    }
#define NARROW(slot, convert)                                                                      \
    void TACIT_NAME(tacit_##slot)(size_t n, const float *x, uint16_t *y)                           \
    {                                                                                              \
        size_t i = 0;                                                                              \
        for (; i + VF <= n; i += VF)                                                               \
            convert(y + i, vf_load(x + i));                                                        \
        if (i < n) {                                                                               \
            uint16_t whole[VF];                                                                    \
            convert(whole, vf_load_n(x + i, n - i));                                               \
            memcpy(y + i, whole, (n - i) * sizeof *y);                                             \
        }                                                                                          \
    }

WIDEN(f16_to_f32, vf_from_f16)
WIDEN(bf16_to_f32, vf_from_bf16)
NARROW(f32_to_f16, vf_to_f16)
NARROW(f32_to_bf16, vf_to_bf16)

void TACIT_NAME(tacit_patchify_f32)(size_t height, size_t width, size_t patch, const float *image,
                                    size_t plane, float *rows, size_t ldr)
{
    for (size_t gy = 0; gy < height / patch; gy++)
        for (size_t gx = 0; gx < width / patch; gx++, rows += ldr) {
            float *to = rows;
            for (size_t channel = 0; channel < 3; channel++)
                for (size_t y = gy * patch; y < (gy + 1) * patch; y++, to += patch) {
                    const float *from = image + channel * plane + y * width + gx * patch;
                    size_t x = 0;
                    for (; x + VF <= patch; x += VF)
                        vf_store(to + x, vf_load(from + x));
                    if (x < patch)
                        vf_store_n(to + x, vf_load_n(from + x, patch - x), patch - x);
                }
        }
}
