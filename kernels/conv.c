/* conv.c - convolution as a product with rows gathered on the way, and max pooling.
 *
 * No matrix of windows is made: a block of rows and TACIT_KC terms is gathered into scratch, which
 * stays in the second-level cache, and used for all n columns of the call.
 */
#include "gemm_block.h"
#include "raster.h"

#include <string.h>

/* Pieces of fewer floats than a vector are common (three channels, windows' rows of 21), and masked
 * stores take tens of cycles on Zen: what is left is written by two stores that overlap. */
TACIT_INLINE void copy_two(float *to, const float *from, size_t n, size_t part)
{
    memcpy(to, from, part * sizeof *to);
    memcpy(to + n - part, from + n - part, part * sizeof *to);
}

TACIT_INLINE void copy_run(float *to, const float *from, size_t n)
{
    for (size_t i = 0; i + VF <= n; i += VF)
        vf_store(to + i, vf_load(from + i));
    if (n % VF == 0)
        return;
    if (n > VF)
        vf_store(to + n - VF, vf_load(from + n - VF));
    else if (n >= 8)
        copy_two(to, from, n, 8);
    else if (n >= 4)
        copy_two(to, from, n, 4);
    else if (n >= 2)
        copy_two(to, from, n, 2);
    else
        *to = *from;
}

TACIT_INLINE void zero_run(float *to, size_t n)
{
    static const float zeros[VF];
    for (size_t i = 0; i + VF <= n; i += VF)
        vf_store(to + i, vf_zero());
    copy_run(to + n / VF * VF, zeros, n % VF);
}

/* Terms [p, end) of one row of the window, which is `taps` pixels wide and begins at pixel x of
 * `line`, or with -x pixels of padding. */
TACIT_INLINE void gather_line(const tacit_conv *c, const float *line, ptrdiff_t x, size_t p,
                              size_t end, float *to)
{
    /* Where pixels follow one another without a gap they are one wide pixel. */
    size_t width = c->channels;
    if (c->ldx == width && x >= 0 && (size_t)x + c->kernel <= c->width) {
        copy_run(to, line + (size_t)x * width + p, end - p);
        return;
    }
    for (size_t tap = p / width; p < end; tap++) {
        size_t stop = (tap + 1) * width < end ? (tap + 1) * width : end;
        ptrdiff_t at = x + (ptrdiff_t)tap;
        if (at >= 0 && (size_t)at < c->width)
            copy_run(to, line + (size_t)at * c->ldx + (p - tap * width), stop - p);
        else
            zero_run(to, stop - p);
        to += stop - p;
        p = stop;
    }
}

void TACIT_NAME(tacit_conv_windows_f32)(const tacit_conv *c, size_t first, size_t m, size_t p,
                                        size_t kc, const float *x, float *to)
{
    size_t line = c->kernel * c->channels, begin = p / line;
    tacit_raster at = tacit_raster_at(first, c->rows, c->columns);
    for (; m--; tacit_raster_next(&at)) {
        const float *image = x + at.image * c->height * c->width * c->ldx;
        ptrdiff_t across = (ptrdiff_t)(at.column * c->stride) - (ptrdiff_t)c->pad;
        for (size_t q = p, tap = begin; q < p + kc; tap++) {
            size_t stop = (tap + 1) * line < p + kc ? (tap + 1) * line : p + kc;
            size_t y = at.row * c->stride + tap - c->pad; /* wraps below 0 */
            if (y < c->height)
                gather_line(c, image + y * c->width * c->ldx, across, q - tap * line,
                            stop - tap * line, to);
            else
                zero_run(to, stop - q);
            to += stop - q;
            q = stop;
        }
    }
}

/* Of bytes: what is left is written by two stores that overlap. */
TACIT_INLINE void copy_bytes(uint8_t *to, const uint8_t *from, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        memcpy(to + i, from + i, 16);
    if (i < n && n >= 16)
        memcpy(to + n - 16, from + n - 16, 16);
    for (; n < 16 && i < n; i++)
        to[i] = from[i];
}

#define SHORT_LINE 32 /* bytes of a line that are copied at once, whatever is behind it */

/* The window whose first pixel is `before` in the rows from `top` on, which wrap below 0. */
TACIT_INLINE void gather_bytes(const tacit_conv *c, const uint8_t *image, size_t top, size_t before,
                               uint8_t zero, uint8_t *to)
{
    const size_t line = c->kernel * c->channels, wide = c->width * c->channels;
    bool whole = c->ldx == c->channels && before < c->width && before + c->kernel <= c->width;
    bool inside = whole && top < c->height && top + c->kernel < c->height;
    if (inside && line <= SHORT_LINE && wide >= SHORT_LINE) {
        const uint8_t *from = image + (top * c->width + before) * c->channels;
        size_t v = 0, left = c->kernel * line;
        for (; left >= SHORT_LINE; v++, left -= line) /* what is too much is written again */
            memcpy(to + v * line, from + v * wide, SHORT_LINE);
        for (; left; v++, left -= line)
            copy_bytes(to + v * line, from + v * wide, line);
        return;
    }
    for (size_t v = 0; v < c->kernel; v++, to += line) {
        if (top + v >= c->height) {
            memset(to, zero, line);
            continue;
        }
        const uint8_t *pixels = image + (top + v) * c->width * c->ldx;
        if (whole)
            copy_bytes(to, pixels + before * c->ldx, line);
        for (size_t u = 0; !whole && u < c->kernel; u++)
            if (before + u < c->width)
                copy_bytes(to + u * c->channels, pixels + (before + u) * c->ldx, c->channels);
            else
                memset(to + u * c->channels, zero, c->channels);
    }
}

void TACIT_NAME(tacit_conv_windows_u8)(const tacit_conv *c, size_t first, size_t m, uint8_t zero,
                                       const uint8_t *x, uint8_t *to, size_t ldt)
{
    size_t k = c->kernel * c->kernel * c->channels, whole = 4 * TACIT_INT8_GROUPS(k);
    tacit_raster at = tacit_raster_at(first, c->rows, c->columns);
    for (; m--; tacit_raster_next(&at), to += ldt) {
        gather_bytes(c, x + at.image * c->height * c->width * c->ldx, at.row * c->stride - c->pad,
                     at.column * c->stride - c->pad, zero, to);
        for (size_t i = k; i < whole; i++)
            to[i] = zero;
    }
}

void TACIT_NAME(tacit_conv_f32)(const tacit_conv *conv, size_t first, size_t m, size_t n,
                                const float *x, const float *packed, float *y, size_t ldy,
                                const tacit_epilogue *epilogue, float *scratch)
{
    size_t k = conv->kernel * conv->kernel * conv->channels, p = 0, kc;
    do {
        kc = k - p < TACIT_KC ? k - p : TACIT_KC;
        TACIT_NAME(tacit_conv_windows_f32)(conv, first, m, p, kc, x, scratch);
        gemm_block(m, n, k, p, kc, scratch, kc, packed, y, ldy, epilogue);
        p += kc;
    } while (p < k);
}

void TACIT_NAME(tacit_maxpool_f32)(const tacit_conv *c, size_t first, size_t m, const float *x,
                                   float *y, size_t ldy)
{
    tacit_raster at = tacit_raster_at(first, c->rows, c->columns);
    for (; m--; tacit_raster_next(&at), y += ldy) {
        const float *image = x + at.image * c->height * c->width * c->ldx;
        size_t top = at.row * c->stride, before = at.column * c->stride;
        size_t y0 = top < c->pad ? 0 : top - c->pad, x0 = before < c->pad ? 0 : before - c->pad;
        size_t y1 = top + c->kernel - c->pad, x1 = before + c->kernel - c->pad;
        y1 = y1 < c->height ? y1 : c->height;
        x1 = x1 < c->width ? x1 : c->width;
        for (size_t channel = 0; channel < c->channels; channel += VF) {
            size_t left = VF_LEFT(c->channels, channel);
            const float *from = image + channel;
            vf most = load_left(from + (y0 * c->width + x0) * c->ldx, left);
            for (size_t v = y0; v < y1; v++)
                for (size_t u = x0; u < x1; u++)
                    most = vf_max(load_left(from + (v * c->width + u) * c->ldx, left), most);
            if (left == VF)
                vf_store(y + channel, most);
            else
                vf_store_n(y + channel, most, left);
        }
    }
}
