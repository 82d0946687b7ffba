/* dot_tile.h - the register tile of products whose instruction takes 4 bytes of a row and 4 of each
 * of 16 outputs at a time: int8_tile.h, bf16_tile.h. One chain of sums over the whole of k.
 *
 * Before it is included: vacc, 16 sums; vgroup, the 4 bytes of a row, for all lanes, or those of 16
 * outputs; group_of_row, group_of_panel, and sum_dot, which adds to each lane the products of its
 * bytes; ROWS and PANELS, rows of a tile and panels that lie side by side in it: what the registers
 * hold. A panel has VF outputs: output j's group p is at (j / VF groups + p) VF + j % VF.
 */
#ifndef TACIT_DOT_TILE_H
#define TACIT_DOT_TILE_H

#include "simd_u8.h"

#define LINE 64 /* bytes of a cache line */

TACIT_INLINE vf load_some(const float *p, size_t left)
{
    return left == VF ? vf_load(p) : vf_load_n(p, left);
}

TACIT_INLINE vf load_bytes(const uint8_t *p, size_t left)
{
    uint8_t some[VF] = { 0 };
    if (left == VF)
        return vf_from_u8(p);
    memcpy(some, p, left);
    return vf_from_u8(some);
}

typedef struct product {
    size_t n, groups; /* outputs; groups of 4 bytes in a row */
    size_t lda, ldc;  /* bytes; floats                        */
    const tacit_epilogue *e;
    const float *a_scale, *scale; /* of int8: its factors, and what is taken off */
    const int32_t *minus;
    uint8_t zero;
} product;

/* What there is to do with a sum. */
enum { BIAS = 1, GELU = 2, SCALE = 4, RESIDUAL = 8, BYTES = 16, RELU = 32, PART = 64 };

static unsigned what_to_do(const product *p, size_t end)
{
    const tacit_epilogue *e = p->e;
    unsigned part = end > p->n ? PART : 0;
    if (!e)
        return part;
    return part | (e->bias ? BIAS : 0) | (e->gelu ? GELU : 0) | (e->scale ? SCALE : 0) |
           (e->residual ? RESIDUAL : 0) | (e->residual8 ? BYTES : 0) | (e->relu ? RELU : 0);
}

/* Where a row of a tile goes, and what it is made with: copies, as a store could else have changed
 * what they are read from. */
typedef struct place {
    const float *a_scale, *scale; /* of a product */
    size_t row, column;
    const float *bias, *factor, *residual, *residual_scale; /* the first output's on */
    const uint8_t *residual8;
    size_t ldr, ldc;
    float *c;
} place;

/* What the includer defines: a sum's beginning, and the number that the sum of the row's output j
 * stands for, plus the bias where there is one. */
TACIT_INLINE vacc sum_first(const product *p, size_t column);
TACIT_INLINE vf sum_value(const place *at, vacc sum, size_t j, const vf *bias);

TACIT_INLINE place place_of(const product *p, unsigned has, size_t row, size_t column, float *c)
{
    const tacit_epilogue *e = p->e;
    place at = { .a_scale = p->a_scale,
                 .scale = p->scale,
                 .row = row,
                 .column = column,
                 .ldc = p->ldc,
                 .c = c + column };
    if (has & BIAS)
        at.bias = e->bias + column;
    if (has & SCALE)
        at.factor = e->scale + column;
    if (has & (RESIDUAL | BYTES))
        at.ldr = e->ldr;
    if (has & RESIDUAL)
        at.residual = e->residual + row * e->ldr + column;
    if (has & BYTES) {
        at.residual8 = e->residual8 + row * e->ldr + column;
        at.residual_scale = e->residual_scale;
    }
    return at;
}

TACIT_INLINE void next_row(place *at, unsigned has)
{
    at->row++;
    at->c += at->ldc;
    if (has & RESIDUAL)
        at->residual += at->ldr;
    if (has & BYTES)
        at->residual8 += at->ldr;
}

/* The sum of output j, of which and those behind it `left` are there. */
TACIT_INLINE void finish_sum(const place *at, unsigned has, vacc sum, size_t j, size_t left)
{
    vf bias = has & BIAS ? load_some(at->bias + j, left) : vf_zero();
    vf y = sum_value(at, sum, j, has & BIAS ? &bias : NULL);
    if (has & GELU)
        y = vf_gelu_short(y);
    if (has & SCALE)
        y = vf_mul(y, load_some(at->factor + j, left));
    if (has & RESIDUAL)
        y = vf_add(y, load_some(at->residual + j, left));
    if (has & BYTES)
        y = vf_fma(load_bytes(at->residual8 + j, left), vf_set1(at->residual_scale[at->row]), y);
    if (has & RELU)
        y = vf_relu(y);
    if (left == VF)
        vf_store(at->c + j, y);
    else
        vf_store_n(at->c + j, y, left);
}

/* Sums of a tile, which begins at (row, column), to their places. */
TACIT_INLINE void finish_sums(const product *p, size_t rows, size_t panels, unsigned has,
                              size_t row, size_t column, const vacc *sums, float *c)
{
    const size_t n = p->n - column;
    place at = place_of(p, has, row, column, c);
    for (size_t i = 0; i < rows; i++, sums += panels, next_row(&at, has))
        for (size_t j = 0; j < panels; j++)
            finish_sum(&at, has, sums[j], j * VF, has & PART ? VF_LEFT(n, j * VF) : VF);
}

/* Code of its own for what networks ask for. */
#define USUAL_CASES                                                                                \
    USUAL(0)                                                                                       \
    USUAL(BIAS)                                                                                    \
    USUAL(BIAS | GELU)                                                                             \
    USUAL(BIAS | RELU)                                                                             \
    USUAL(BIAS | RESIDUAL)                                                                         \
    USUAL(BIAS | SCALE | RESIDUAL)                                                                 \
    USUAL(BIAS | RESIDUAL | RELU)                                                                  \
    USUAL(BIAS | BYTES | RELU)

/* Loops; the sums come by memory, as a copy of all this for each sum of each height of tile would
 * not fit the cache of instructions. */
static __attribute__((noinline)) void finish_tile(const product *p, size_t rows, size_t panels,
                                                  unsigned has, size_t row, size_t column,
                                                  const vacc *sums, float *c)
{
    switch (has) {
#define USUAL(what)                                                                                \
    case what: finish_sums(p, rows, panels, what, row, column, sums, c); return;
        USUAL_CASES
#undef USUAL
    default: finish_sums(p, rows, panels, has, row, column, sums, c);
    }
}

/* From registers, of a whole tile. */
TACIT_INLINE void finish_whole(const product *p, unsigned has, size_t row, size_t column,
                               vacc sum[ROWS][PANELS], float *c)
{
    place at = place_of(p, has, row, column, c);
    _Pragma("GCC unroll 16") for (size_t i = 0; i < ROWS; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < PANELS; j++)
        {
            finish_sum(&at, has, sum[i][j], j * VF, VF);
        }
        next_row(&at, has);
    }
}

/* Every third row has a pointer, and the two behind it are one and two times lda away, which an x86
 * address adds for nothing. */
#define BASES ((ROWS + 2) / 3)
#define STEPS 4 /* groups that are multiplied before pointers move */

/* What lies behind a tile's panels, which is read next, is asked for by so many tiles together; by
 * fewer not at all: they would wait for it. */
#define PARTS 4

/* One group of each row times one of each panel's outputs: step's of those from here on. */
#define DOT_STEP(step)                                                                             \
    {                                                                                              \
        vgroup w[PANELS];                                                                          \
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)                                \
        {                                                                                          \
            w[j] = group_of_panel(b + j * stride + (step)*4 * VF);                                 \
        }                                                                                          \
        _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)                                 \
        {                                                                                          \
            vgroup group = group_of_row(base[i / 3] + i % 3 * lda + (step)*4);                     \
            _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)                            \
            {                                                                                      \
                sum[i][j] = sum_dot(sum[i][j], group, w[j]);                                       \
            }                                                                                      \
        }                                                                                          \
    }
#define DOT_MOVE(steps)                                                                            \
    {                                                                                              \
        _Pragma("GCC unroll 8") for (size_t i = 0; i < bases; i++)                                 \
        {                                                                                          \
            base[i] += (steps)*4;                                                                  \
        }                                                                                          \
        b += (steps)*4 * VF;                                                                       \
    }

/* rows and panels are constants at every call. ask: whether to ask for the part of what is read
 * next that lies at `ahead`. */
TACIT_INLINE void dot_tile(const product *p, size_t rows, size_t panels, unsigned has, size_t row,
                           size_t column, const uint8_t *a, const uint8_t *b, const uint8_t *ahead,
                           bool ask, float *c)
{
    vacc sum[ROWS][PANELS];
    const uint8_t *base[BASES];
    const size_t stride = p->groups * 4 * VF, lda = p->lda, bases = (rows + 2) / 3;
    const size_t part = panels * STEPS * 4 * VF / LINE / PARTS;
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            sum[i][j] = sum_first(p, column + j * VF);
        }
    }
    _Pragma("GCC unroll 8") for (size_t i = 0; i < bases; i++)
    {
        base[i] = a + 3 * i * lda;
        __asm__("" : "+r"(base[i])); /* else gcc makes all rows' distances from the first */
    }
    const uint8_t *end = b + stride, *whole = b + p->groups / STEPS * STEPS * 4 * VF;
    while (b != whole) {
        if (ask) {
            _Pragma("GCC unroll 2") for (size_t line = 0; line < part; line++)
            {
                __builtin_prefetch(ahead + line * LINE, 0, 2);
            }
            ahead += part * LINE;
        }
        DOT_STEP(0)
        DOT_STEP(1)
        DOT_STEP(2)
        DOT_STEP(3)
        DOT_MOVE(STEPS)
    }
    while (b != end) {
        DOT_STEP(0)
        DOT_MOVE(1)
    }
    if (rows == ROWS && panels == PANELS)
        switch (has) {
#define USUAL(what)                                                                                \
    case what: finish_whole(p, what, row, column, sum, c); return;
            USUAL_CASES
#undef USUAL
        default: break;
        }
    vacc sums[ROWS * PANELS];
    _Pragma("GCC unroll 16") for (size_t i = 0; i < rows; i++)
    {
        _Pragma("GCC unroll 2") for (size_t j = 0; j < panels; j++)
        {
            sums[i * panels + j] = sum[i][j];
        }
    }
    finish_tile(p, rows, panels, has, row, column, sums, c);
}

/* Rows of the next tile, of so many. A few behind a whole one would leave the instruction waiting
 * for their few sums: they are two nearly even tiles with it. */
TACIT_INLINE size_t next_rows(size_t left)
{
    if (left <= ROWS)
        return left;
    return left < ROWS + ROWS / 4 ? (left + 1) / 2 : ROWS;
}

/* All rows by `panels` panels. Not inlined: one copy of each tile. */
#define TILE(r)                                                                                    \
    case r:                                                                                        \
        dot_tile(p, r, panels, has, row, column, at, b, ahead, ask, c + row * p->ldc);             \
        break;
#define COLUMN_OF_TILES(name, count)                                                               \
    static __attribute__((noinline)) void name(const product *p, size_t m, size_t column,          \
                                               const uint8_t *a, const uint8_t *b, float *c)       \
    {                                                                                              \
        const size_t panels = count;                                                               \
        const unsigned has = what_to_do(p, column + panels * VF);                                  \
        const bool ask = m > (PARTS - 1) * ROWS;                                                   \
        const size_t stride = panels * p->groups * 4 * VF;                                         \
        for (size_t row = 0, rows; row < m; row += rows) {                                         \
            const uint8_t *at = a + row * p->lda;                                                  \
            const uint8_t *ahead = b + stride + row / ROWS % PARTS * (stride / PARTS);             \
            rows = next_rows(m - row);                                                             \
            switch (rows) {                                                                        \
                TILE(1)                                                                            \
                TILE(2)                                                                            \
                TILE(3)                                                                            \
                TILE(4)                                                                            \
                TILES_TO_6                                                                         \
                TILES_TO_12                                                                        \
                TILES_TO_14                                                                        \
            }                                                                                      \
        }                                                                                          \
    }
#define TILES_TO_6
#define TILES_TO_12
#define TILES_TO_14
#if ROWS >= 6
#undef TILES_TO_6
#define TILES_TO_6 TILE(5) TILE(6)
#endif
#if ROWS >= 12
#undef TILES_TO_12
#define TILES_TO_12 TILE(7) TILE(8) TILE(9) TILE(10) TILE(11) TILE(12)
#endif
#if ROWS >= 14
#undef TILES_TO_14
#define TILES_TO_14 TILE(13) TILE(14)
#endif

COLUMN_OF_TILES(one_panel, 1)
#if PANELS > 1
COLUMN_OF_TILES(two_panels, 2)
#endif

/* c (m, n) = epilogue(sum_value(a times packed)). */
TACIT_INLINE void dot_gemm(const product *p, size_t m, const uint8_t *a, const uint8_t *packed,
                           float *c)
{
    const size_t panel = p->groups * 4 * VF;
    for (size_t j = 0; j < p->n;) {
        const uint8_t *b = packed + j / VF * panel;
#if PANELS > 1
        if (p->n - j > VF) {
            two_panels(p, m, j, a, b, c);
            j += 2 * VF;
            continue;
        }
#endif
        one_panel(p, m, j, a, b, c);
        j += VF;
    }
}

#endif
