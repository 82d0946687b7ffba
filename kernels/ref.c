/* ref.c - the definition of every kernel's result, in plain C.
 *
 * Compiled without vector instructions. Read beside kernels.h; the other ISAs are tested against
 * this file bit by bit.
 */
#include "ref.h"

#include <string.h>

void tacit_gemm_pack_f32_ref(size_t n, size_t k, const float *w, size_t ldw, float *packed)
{
    for (size_t j = 0; j < n; j += TACIT_NR)
        for (size_t p = 0; p < k; p++)
            for (size_t i = 0; i < TACIT_NR; i++)
                *packed++ = j + i < n ? w[(j + i) * ldw + p] : 0.0f;
}

void tacit_gemm_f32_ref(size_t m, size_t n, size_t k, const float *a, size_t lda,
                        const float *packed, float *c, size_t ldc, const tacit_epilogue *e)
{
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            const float *w = packed + j / TACIT_NR * TACIT_NR * k + j % TACIT_NR;
            c[i * ldc + j] = finish(chains(k, a + i * lda, w, TACIT_NR), e, i, j);
        }
}

void tacit_gemm_tn_f32_ref(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b,
                           size_t ldb, float *c, size_t ldc, bool more, float *scratch)
{
    (void)scratch;
    for (size_t i = 0; i < m; i++)
        for (size_t j = 0; j < n; j++) {
            float *y = &c[i * ldc + j];
            if (!more)
                *y = 0;
            for (size_t from = 0; from < k; from += TACIT_KC) {
                float chain = 0;
                for (size_t p = from; p < k && p < from + TACIT_KC; p++)
                    chain = fmaf(a[p * lda + i], b[p * ldb + j], chain);
                *y = from || more ? *y + chain : chain;
            }
        }
}

double tacit_dot_f64_ref(size_t n, const float *x, const float *y)
{
    double lane[LANES] = { 0 };
    for (size_t i = 0; i < n; i++)
        lane[i % LANES] += (double)x[i] * (double)y[i];
    for (size_t half = LANES / 2; half; half /= 2)
        for (size_t i = 0; i < half; i++)
            lane[i] += lane[i + half];
    return lane[0];
}

void tacit_attention_f32_ref(size_t rows, size_t tokens, size_t dim, const float *q, const float *k,
                             const float *v, size_t ld, float scale, const float *bias, size_t ldb,
                             float *out, size_t ldo, float *scratch)
{
    for (size_t i = 0; i < rows; i++) {
        for (size_t t = 0; t < tokens; t++) {
            scratch[t] = 0;
            for (size_t p = 0; p < dim; p++)
                scratch[t] = fmaf(q[i * ld + p], k[t * ld + p], scratch[t]);
        }
        for (size_t t = 0; bias && t < tokens; t++)
            scratch[t] = fmaf(scratch[t], scale, bias[i * ldb + t]);
        float most, factor = bias ? 1.0f : scale;
        float inverse = 1.0f / exp_row(tokens, scratch, factor, scratch, &most);
        for (size_t j = 0; j < dim; j++)
            out[i * ldo + j] = chains(tokens, scratch, v + j, ld) * inverse;
    }
}

void tacit_layernorm_f32_ref(size_t rows, size_t n, const float *x, size_t ldx, const float *gamma,
                             const float *beta, float eps, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++, x += ldx, y += ldy) {
        float lane[LANES] = { 0 };
        for (size_t i = 0; i < n; i++)
            lane[i % LANES] += x[i];
        float mean = sum_lanes(lane) / (float)n;
        memset(lane, 0, sizeof lane);
        for (size_t i = 0; i < n; i++)
            lane[i % LANES] = fmaf(x[i] - mean, x[i] - mean, lane[i % LANES]);
        float rstd = 1.0f / sqrtf(sum_lanes(lane) / (float)n + eps);
        for (size_t i = 0; i < n; i++)
            y[i] = fmaf((x[i] - mean) * rstd, gamma[i], beta[i]);
    }
}

void tacit_softmax_f32_ref(size_t rows, size_t n, const float *x, size_t ldx, float scale, float *y,
                           size_t ldy)
{
    for (size_t r = 0; r < rows; r++) {
        float most, sum = exp_row(n, x + r * ldx, scale, y + r * ldy, &most);
        for (size_t i = 0; i < n; i++)
            y[r * ldy + i] /= sum;
    }
}

void tacit_cross_entropy_f32_ref(size_t rows, size_t n, const float *x, size_t ldx,
                                 const uint32_t *labels, float *y, size_t ldy, float *loss)
{
    for (size_t r = 0; r < rows; r++, x += ldx, y += ldy) {
        float target = x[labels[r]], most, sum = exp_row(n, x, 1, y, &most);
        for (size_t i = 0; i < n; i++)
            y[i] /= sum;
        y[labels[r]] -= 1;
        loss[r] = ref_log(sum) - (target - most);
    }
}

void tacit_l2norm_f32_ref(size_t rows, size_t n, const float *x, size_t ldx, float *y, size_t ldy)
{
    for (size_t r = 0; r < rows; r++, x += ldx, y += ldy) {
        float lane[LANES] = { 0 };
        for (size_t i = 0; i < n; i++)
            lane[i % LANES] = fmaf(x[i], x[i], lane[i % LANES]);
        float norm = sqrtf(sum_lanes(lane));
        for (size_t i = 0; i < n; i++)
            y[i] = x[i] / (norm > 1e-12f ? norm : 1e-12f);
    }
}

void tacit_mean_rows_f32_ref(size_t rows, size_t n, const float *x, size_t ldx, float *y)
{
    for (size_t i = 0; i < n; i++) {
        float sum = 0;
        for (size_t r = 0; r < rows;) {
            float part = 0;
            for (size_t end = rows - r > 16 ? r + 16 : rows; r < end; r++)
                part += x[r * ldx + i];
            sum += part;
        }
        y[i] = sum / (float)rows;
    }
}

void tacit_swish_f32_ref(size_t n, float beta, const float *x, const float *y, float *z)
{
    for (size_t i = 0; i < n; i++) {
        float s = x[i] / (1.0f + ref_exp(ref_min(88.0f, x[i] * -beta)));
        z[i] = y ? s * y[i] : s;
    }
}

void tacit_gelu_f32_ref(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = ref_gelu(x[i]);
}

size_t tacit_above_f32_ref(size_t n, const float *x, float threshold, uint32_t *at)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (x[i] >= threshold)
            at[count++] = (uint32_t)i;
    return count;
}

void tacit_add_f32_ref(size_t n, const float *x, const float *y, float *z)
{
    for (size_t i = 0; i < n; i++)
        z[i] = x[i] + y[i];
}

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

void tacit_f16_to_f32_ref(size_t n, const uint16_t *x, float *y)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t sign = (uint32_t)(x[i] & 0x8000) << 16, rest = x[i] & 0x7fff;
        if (rest >= 0x7c00) /* infinity; a NaN is made quiet */
            y[i] = float_of(sign | 0x7f800000 | rest << 13 | (rest > 0x7c00 ? 0x400000 : 0));
        else if (rest >= 0x0400)
            y[i] = float_of(sign | ((rest << 13) + (112u << 23)));
        else
            y[i] = float_of(sign | bits_of((float)rest * 0x1p-24f));
    }
}

void tacit_f32_to_f16_ref(size_t n, const float *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff, half;
        if (rest > 0x7f800000)
            half = 0x7e00 | (rest >> 13 & 0x1ff);
        else if (rest >= 0x47800000) /* 65536 and above */
            half = 0x7c00;
        else if (rest >= 0x38800000) /* normal: rebias, round; a carry may reach infinity */
            half = (rest - (112u << 23) + 0xfff + (rest >> 13 & 1)) >> 13;
        else /* subnormal: the sum's last place is half's 2^-24, so the addition rounds */
            half = bits_of(float_of(rest) + 0.5f) - bits_of(0.5f);
        y[i] = (uint16_t)(sign | half);
    }
}

void tacit_bf16_to_f32_ref(size_t n, const uint16_t *x, float *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = float_of((uint32_t)x[i] << 16);
}

void tacit_f32_to_bf16_ref(size_t n, const float *x, uint16_t *y)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits = bits_of(x[i]);
        if ((bits & 0x7fffffff) > 0x7f800000)
            y[i] = (uint16_t)((bits | 0x400000) >> 16);
        else
            y[i] = (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}

void tacit_patchify_f32_ref(size_t height, size_t width, size_t patch, const float *image,
                            size_t plane, float *rows, size_t ldr)
{
    for (size_t gy = 0; gy < height / patch; gy++)
        for (size_t gx = 0; gx < width / patch; gx++, rows += ldr) {
            size_t i = 0;
            for (size_t channel = 0; channel < 3; channel++)
                for (size_t y = gy * patch; y < (gy + 1) * patch; y++)
                    for (size_t x = gx * patch; x < (gx + 1) * patch; x++)
                        rows[i++] = image[channel * plane + y * width + x];
        }
}
