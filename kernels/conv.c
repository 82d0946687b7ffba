/* conv.c - convolutions with channels last, as products that read their inputs where they lie.
 *
 * For each panel of outputs and each block of k, all rows of the image: the block of weights stays
 * in the first caches, and the sums wait in y.
 */
#include "gemm_tile.h"

/* The epilogue of a tile, its pointers moved to the tile's first output. */
static tacit_epilogue moved(const tacit_epilogue *e, const tacit_conv *g, size_t row, size_t column,
                            size_t panel)
{
    tacit_epilogue at = *e;
    if (at.bias)
        at.bias += panel;
    if (at.scale)
        at.scale += panel;
    if (at.residual)
        at.residual += row * g->ldr + column * at.ldr + panel;
    return at;
}

/* One block of k for one row of outputs and one panel. The block of weights that follows is asked
 * for on the way, a part by each of the first tiles: *asked of them have. */
static void conv_row(const tacit_conv *g, size_t row, size_t panel, size_t kc, const float *x,
                     const float *b, size_t *asked, float *y, bool more,
                     const tacit_epilogue *epilogue)
{
    const size_t parts = 4 * TACIT_NV;
    size_t tiles = (g->columns + TACIT_MR - 1) / TACIT_MR, count;
    size_t width = g->n - panel < TACIT_NR ? g->n - panel : TACIT_NR;
    for (size_t i = 0; i < g->columns; i += count) {
        count = even_rows(g->columns - i, tiles--);
        tacit_epilogue here, *e = NULL;
        if (epilogue) {
            here = moved(epilogue, g, row, i, panel);
            e = &here;
        }
        const float *ahead = *asked < parts ? b + kc * TACIT_NR + (*asked)++ * (kc / 4) * VF : NULL;
        tile(count, width, kc, x + i * g->step, g->step, b, ahead, y + i * g->ldc, g->ldc, more, e);
    }
}

void TACIT_NAME(tacit_conv_f32)(const tacit_conv *g, const float *x, const float *packed, float *y,
                                const tacit_epilogue *epilogue)
{
    for (size_t j = 0; j < g->n; j += TACIT_NR) {
        const float *b = packed + j * g->taps * g->k;
        for (size_t t = 0; t < g->taps; t++)
            for (size_t p = 0; p < g->k; p += TACIT_KC) {
                size_t kc = g->k - p < TACIT_KC ? g->k - p : TACIT_KC;
                bool last = t + 1 == g->taps && p + kc == g->k, more = t > 0 || p > 0;
                size_t asked = last && j + TACIT_NR >= g->n ? SIZE_MAX : 0; /* nothing follows */
                for (size_t r = 0; r < g->rows; r++)
                    conv_row(g, r, j, kc, x + r * g->ldx + t * g->ldt + p, b, &asked,
                             y + r * g->ldy + j, more, last ? epilogue : NULL);
                b += kc * TACIT_NR;
            }
    }
}

void TACIT_NAME(tacit_maxpool_f32)(size_t columns, size_t n, const float *x, size_t ldx, float *y)
{
    for (size_t c = 0; c < columns; c++, x += 2 * n, y += n)
        for (size_t i = 0; i < n; i += VF) {
            size_t left = VF_LEFT(n, i);
            vf most = load_left(x + i, left);
            for (size_t p = 1; p < 9; p++)
                most = vf_max(most, load_left(x + p / 3 * ldx + p % 3 * n + i, left));
            if (left == VF)
                vf_store(y + i, most);
            else
                vf_store_n(y + i, most, left);
        }
}
