/* kernels_colour.h - colour and blur of bytes as Pillow has them; part of kernels.h.
 *
 * Pictures are planes: three rows of n bytes, red, green, blue, ld apart. Results may be put where
 * the operands are, where nothing else is said. Bound: one byte read and one written for each.
 */
#ifndef TACIT_KERNELS_COLOUR_H
#define TACIT_KERNELS_COLOUR_H

/* y (n) = (19595 r + 38470 g + 7471 b + 32768) >> 16, Pillow's "L"; returns the sum of y. */
typedef uint64_t tacit_luma_u8_fn(size_t n, const uint8_t *x, size_t ldx, uint8_t *y);

/* y = (float)d + factor * (float)(x - d), in float, clipped to 0..255 and cut to whole numbers:
 * Image.blend. d is one value where `from` is NULL. factor is finite. */
typedef void tacit_blend_u8_fn(size_t n, const uint8_t *x, const uint8_t *from, uint8_t d,
                               float factor, uint8_t *y);

/* To HSV, H + shift modulo 256, and back, each value of both ways being a byte; shift < 256. With
 * M, m and w the largest, smallest and middle of r, g, b, in float:
 *   S = cut((M - m) / M * 255); h = c + s (M - w) / (M - m), one fma, where (c, s) is
 *     M = r: (1, -1), with b > g (-1, 1); M = g: (1, 1), with b > r (3, -1);
 *     M = b: (3, 1), with r > g (5, -1);
 *   H = cut(255 (h / 6)), with h < 0 of h / 6 + 1; both are 0 of a gray;
 *   X = 6 H; R = min(X - 255, 1275 - X); G = max(255 - X, X - 765); B = max(765 - X, X - 1275);
 *   each channel = cut(fma(-M, S / 65025 * clip(R, G or B to 0..255), M + 0.5)).
 * Pillow takes double here and there; the bytes are the same for all colours. */
typedef void tacit_hue_u8_fn(size_t n, unsigned shift, const uint8_t *x, size_t ldx, uint8_t *y,
                             size_t ldy);

/* y = x < threshold ? x : 255 - x. */
typedef void tacit_solarise_u8_fn(size_t n, unsigned threshold, const uint8_t *x, uint8_t *y);

/* One pass of Pillow's extended box blur down the columns: row i of y = (whole * sum(x[i - radius]
 * ... x[i + radius]) + part * (x[i - radius - 1] + x[i + radius + 1]) + 2^23) >> 24, where rows
 * before the first are the first and rows after the last the last. (2 radius + 1) whole + 2 part <=
 * 2^24. Rows ldx and ldy apart; x and y must not overlap. */
typedef struct tacit_box {
    size_t radius;
    uint32_t whole, part;
} tacit_box;

typedef void tacit_box_blur_u8_fn(size_t rows, size_t n, const tacit_box *box, const uint8_t *x,
                                  size_t ldx, uint8_t *y, size_t ldy);

#endif
