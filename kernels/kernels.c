/* kernels.c - choosing a table, and sizes that go with it. Baseline code. */
#include "int8.h"
#include "kernels.h"
#include "winograd.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
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

size_t tacit_gemm_s8_size(size_t n, size_t k)
{
    return round_up(n, TACIT_INT8_NR) * round_up(k, 4);
}

void tacit_gemm_pack_s8(const tacit_kernels *kernels, size_t n, size_t k, const float *w,
                        size_t ldw, int8_t *packed, float *scale, int32_t *minus)
{
    const size_t nr = TACIT_INT8_NR, groups = TACIT_INT8_GROUPS(k);
    uint8_t row[TACIT_INT8_MOST];
    assert(k <= TACIT_INT8_MOST);
    if (n % nr) /* the last panel, of which rows are missing */
        memset(packed + n / nr * nr * 4 * groups, 0, nr * 4 * groups);
    for (size_t j = 0; j < n; j++) {
        int8_t *to = packed + 4 * (j / nr * nr * groups + j % nr);
        kernels->quantise_u8(1, k, w + j * ldw, ldw, TACIT_INT8_MIDDLE, row, 4 * groups, scale + j);
        int32_t sum = 0;
        for (size_t p = 0; p < 4 * groups; p++)
            sum += row[p] - 128;
        minus[j] = 128 * sum;
        for (size_t p = 0; p < groups; p++) {
            uint32_t four;
            memcpy(&four, row + 4 * p, 4);
            four ^= 0x80808080u; /* takes 128 off each */
            memcpy(to + 4 * nr * p, &four, 4);
        }
    }
    for (size_t j = n; j < round_up(n, nr); j++) {
        scale[j] = 0;
        minus[j] = 0;
    }
}

/* Of those that may go a step that way the one farthest from its number; k where there is none. */
static size_t next_to_move(size_t k, const float *w, float inverse, const int8_t *q, int step)
{
    size_t best = k;
    float most = 0;
    for (size_t p = 0; p < k; p++) {
        float off = (w[p] * inverse - (float)q[p]) * (float)step;
        if (off > most && abs(q[p]) < 127) {
            most = off;
            best = p;
        }
    }
    return best;
}

void tacit_round_s8(size_t k, float *w)
{
    int8_t q[TACIT_INT8_MOST];
    float most = 0;
    double off = 0;
    assert(k <= TACIT_INT8_MOST);
    for (size_t p = 0; p < k; p++)
        most = fabsf(w[p]) > most ? fabsf(w[p]) : most;
    float inverse = tacit_int8_inverse(most), scale = tacit_int8_scale(most);
    for (size_t p = 0; p < k; p++) {
        q[p] = (int8_t)(tacit_int8_byte(w[p], inverse) - 128);
        off += (double)(w[p] * inverse) - q[p];
    }
    long steps = lrint(off);
    int step = steps < 0 ? -1 : 1;
    for (size_t p; steps && (p = next_to_move(k, w, inverse, q, step)) < k; steps -= step)
        q[p] = (int8_t)(q[p] + step);
    for (size_t p = 0; p < k; p++)
        w[p] = (float)q[p] * scale;
}

size_t tacit_gemm_bf16_size(size_t n, size_t k)
{
    return round_up(n, TACIT_BF16_NR) * round_up(k, 2);
}

void tacit_gemm_pack_bf16(const tacit_kernels *kernels, size_t n, size_t k, const float *w,
                          size_t ldw, uint16_t *packed)
{
    const size_t nr = TACIT_BF16_NR, pairs = TACIT_BF16_PAIRS(k);
    memset(packed, 0, tacit_gemm_bf16_size(n, k) * sizeof *packed);
    for (size_t j = 0; j < n; j++) {
        uint16_t *to = packed + 2 * (j / nr * nr * pairs + j % nr), some[64];
        for (size_t from = 0; from < k; from += 64) {
            size_t count = k - from < 64 ? k - from : 64;
            kernels->f32_to_bf16(count, w + j * ldw + from, some);
            for (size_t p = 0; p < count; p++)
                to[(from + p) / 2 * 2 * nr + p % 2] = some[p];
        }
    }
}

size_t tacit_gemm_tn_scratch(const tacit_kernels *kernels, size_t m)
{
    return TACIT_KC * round_up(m, kernels->gemm_mr) + 16; /* a vector */
}

size_t tacit_attention_scratch(const tacit_kernels *kernels, size_t tokens, size_t dim)
{
    const size_t mr = kernels->gemm_mr, nr = kernels->gemm_nr;
    size_t width = round_up(tokens, nr > 16 ? nr : 16), columns = round_up(dim, nr > 16 ? nr : 16);
    size_t scores = mr * width;                  /* of a tile, as all that follow without a word */
    size_t f32 = width * dim + columns * tokens; /* keys, values */
    size_t int8 = (width + mr) * round_up(dim, 4) / 4 +          /* keys, queries */
                  (columns + 2 * mr) * round_up(tokens, 4) / 4 + /* values, exponentials */
                  2 * width + 3 * columns + 2 * mr * columns;    /* factors, parts of outputs */
    size_t bf16 = (width + mr) * round_up(dim, 2) / 2 +          /* keys, queries */
                  (columns + mr) * round_up(tokens, 2) / 2 + mr * TACIT_BF16_NR; /* the others */
    size_t most = f32 > int8 ? f32 : int8;
    return scores + (most > bf16 ? most : bf16);
}

size_t tacit_attention_backward_scratch(const tacit_kernels *kernels, size_t tokens, size_t dim)
{
    size_t queries = tokens < TACIT_KC ? tokens : TACIT_KC;
    return 2 * tacit_gemm_packed_size(kernels, tokens, dim) + /* keys and values, by token */
           tacit_gemm_packed_size(kernels, dim, tokens) +     /* keys, by column           */
           2 * queries * (round_up(tokens, kernels->gemm_nr) + TACIT_SCORES_PAD); /* p and ds */
}

size_t tacit_conv_size(size_t size, size_t kernel, size_t stride, size_t pad)
{
    return size + 2 * pad < kernel ? 0 : (size + 2 * pad - kernel) / stride + 1;
}

/* G g for one axis: the values of the polynomial g at the points, each divided by the product of
 * that point's distances to the others; g[2] for the point at infinity. */
static void winograd_values(size_t side, const double *g, size_t step, double *u)
{
    static const double two[] = { 0, 1, -1 };
    static const double four[] = { 0, (double)TACIT_WINOGRAD_P, -(double)TACIT_WINOGRAD_P,
                                   (double)TACIT_WINOGRAD_Q, -(double)TACIT_WINOGRAD_Q };
    const double *points = side == 2 ? two : four;
    for (size_t i = 0; i <= side; i++) {
        double a = points[i], distances = 1;
        for (size_t j = 0; j <= side; j++)
            distances *= j == i ? 1 : a - points[j];
        u[i] = (g[0] + a * g[step] + a * a * g[2 * step]) / distances;
    }
    u[side + 1] = g[2 * step];
}

void tacit_winograd_weights(size_t side, const double g[9], double *u, size_t step)
{
    double columns[3][6], row[6];
    for (size_t x = 0; x < 3; x++)
        winograd_values(side, g + x, 3, columns[x]);
    for (size_t i = 0; i < side + 2; i++) {
        winograd_values(side, &columns[0][i], 6, row);
        for (size_t j = 0; j < side + 2; j++)
            u[(i * (side + 2) + j) * step] = row[j];
    }
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
