/* int8.c - products in whole numbers of 8 bits. See kernels_int8.h. */
#include "simd_int8.h"

TACIT_INLINE vf load_some(const float *p, size_t left)
{
    return left == VF ? vf_load(p) : vf_load_n(p, left);
}

TACIT_INLINE vf absolute(vf x)
{
    return vf_max(x, vf_sub(vf_zero(), x));
}

/* 128 + round(x inverse) in the lowest byte of each lane: tacit_int8_byte. */
TACIT_INLINE vf to_bytes(vf x, vf inverse)
{
    vf v = vf_max(vf_mul(x, inverse), vf_set1(-127));
    return vf_add(vf_min(vf_set1(127), v), vf_set1(TACIT_INT8_MAGIC));
}

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

/* The product ------------------------------------------------------------------------------------
 */

/* Rows of a tile, and panels that lie side by side in it: what the registers hold.
 * avx512: 14 x 2 sums, 2 panels, 1 row; in pairs of 16 bits 12 x 2, 4 and 2. avx2: 4 sums of 2
 * registers, 4, 2. neon: 6 sums of 4, 4 and 1; without the instruction 4 of 4, as it needs some
 * more. */
#if TACIT_ISA_NUMBER == TACIT_ISA_IS_avx512
#define ROWS_DOT 14
#define ROWS     12
#define PANELS   2
#elif TACIT_ISA_NUMBER == TACIT_ISA_IS_avx2
#define ROWS_DOT 4
#define ROWS     4
#define PANELS   1
#else
#define ROWS_DOT 6
#define ROWS     4
#define PANELS   1
#endif

typedef struct product {
    size_t n, groups, lda, ldc;
    const float *scale;
    const int32_t *minus;
    const tacit_epilogue *e;
} product;

/* Lanes [0, left) of one sum, at output (0, column) of the tile. */
TACIT_INLINE void finish_sum(const product *p, vi sum, float a_scale, size_t row, size_t column,
                             float *c)
{
    const tacit_epilogue *e = p->e;
    size_t left = VF_LEFT(p->n, column);
    vf y = vf_mul(vi_float(sum, p->minus + column),
                  vf_mul(vf_set1(a_scale), vf_load(p->scale + column)));
    if (e) {
        if (e->bias)
            y = vf_add(y, load_some(e->bias + column, left));
        if (e->gelu)
            y = vf_gelu(y);
        if (e->scale)
            y = vf_mul(y, load_some(e->scale + column, left));
        if (e->residual)
            y = vf_add(y, load_some(e->residual + row * e->ldr + column, left));
        if (e->relu)
            y = vf_relu(y);
    }
    if (left == VF)
        vf_store(c + column, y);
    else
        vf_store_n(c + column, y, left);
}

/* rows, panels and dot are constants at every call. */
TACIT_INLINE void tile_fixed8(const product *p, size_t rows, size_t panels, bool dot, size_t row,
                              size_t column, const uint8_t *a, const float *a_scale,
                              const int8_t *b, float *c)
{
    vi sum[ROWS_DOT][PANELS];
    const size_t stride = p->groups * 4 * TACIT_INT8_NR;
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            sum[i][j] = vi_zero();
        }
    }
    for (const uint8_t *end = a + 4 * p->groups; a != end; a += 4, b += 4 * TACIT_INT8_NR) {
        vq w[PANELS];
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            w[j] = vq_panel(b + j * stride, dot);
        }
        _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
        {
            vq group = vq_row(a + i * p->lda, dot);
            _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
            {
                vi_dot(&sum[i][j], &group, &w[j], dot);
            }
        }
    }
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            finish_sum(p, sum[i][j], a_scale[i], row + i, column + j * VF, c + i * p->ldc);
        }
    }
}

#define TILE8(r)                                                                                   \
    case r: tile_fixed8(p, r, panels, dot, row, column, a, a_scale, b, c); break;

TACIT_INLINE void tile8(const product *p, size_t rows, size_t panels, bool dot, size_t row,
                        size_t column, const uint8_t *a, const float *a_scale, const int8_t *b,
                        float *c)
{
    switch (rows) {
        TILE8(1)
        TILE8(2)
        TILE8(3)
        TILE8(4)
#if ROWS_DOT > 4
        TILE8(5)
        TILE8(6)
#endif
#if ROWS_DOT > 6
        TILE8(7)
        TILE8(8)
        TILE8(9)
        TILE8(10)
        TILE8(11)
        TILE8(12)
#endif
    }
#if ROWS_DOT > 12
    if (dot && rows == 13)
        tile_fixed8(p, 13, panels, true, row, column, a, a_scale, b, c);
    if (dot && rows == 14)
        tile_fixed8(p, 14, panels, true, row, column, a, a_scale, b, c);
#endif
}

/* All rows by panels [column / NR, + panels). Not inlined: one copy of each. */
#define COLUMN_OF_TILES(name, panels, dot, most)                                                   \
    static __attribute__((noinline)) void name(const product *p, size_t m, size_t column,          \
                                               const uint8_t *a, const float *a_scale,             \
                                               const int8_t *b, float *c)                          \
    {                                                                                              \
        size_t tiles = (m + (most)-1) / (most);                                                    \
        for (size_t row = 0, rows; row < m; row += rows, tiles--) {                                \
            rows = (m - row + tiles - 1) / tiles;                                                  \
            tile8(p, rows, panels, dot, row, column, a + row * p->lda, a_scale + row, b,           \
                  c + row * p->ldc);                                                               \
        }                                                                                          \
    }

COLUMN_OF_TILES(pairs_1, 1, false, ROWS)
#if TACIT_ISA_NUMBER != TACIT_ISA_IS_avx2
COLUMN_OF_TILES(dot_1, 1, true, ROWS_DOT)
#endif
#if PANELS > 1
COLUMN_OF_TILES(pairs_2, 2, false, ROWS)
COLUMN_OF_TILES(dot_2, 2, true, ROWS_DOT)
#endif

void TACIT_NAME(tacit_gemm_u8s8)(size_t m, size_t n, size_t k, const uint8_t *a, size_t lda,
                                 const float *a_scale, const int8_t *packed, const float *scale,
                                 const int32_t *minus, float *c, size_t ldc,
                                 const tacit_epilogue *epilogue)
{
    const product p = { n, TACIT_INT8_GROUPS(k), lda, ldc, scale, minus, epilogue };
    const size_t panel = p.groups * 4 * TACIT_INT8_NR;
#if TACIT_ISA_NUMBER != TACIT_ISA_IS_avx2
    bool dot = tacit_cpu_dot8();
#endif
    for (size_t j = 0; j < n;) {
        const int8_t *b = packed + j / TACIT_INT8_NR * panel;
#if PANELS > 1
        if (n - j > TACIT_INT8_NR) {
            (dot ? dot_2 : pairs_2)(&p, m, j, a, a_scale, b, c);
            j += 2 * TACIT_INT8_NR;
            continue;
        }
#endif
#if TACIT_ISA_NUMBER != TACIT_ISA_IS_avx2
        (dot ? dot_1 : pairs_1)(&p, m, j, a, a_scale, b, c);
#else
        pairs_1(&p, m, j, a, a_scale, b, c);
#endif
        j += TACIT_INT8_NR;
    }
}
