/* resize_float.h - torch's antialiased resize of a picture held in floats, as DINOv3's and
 * transformers' tensor pipelines do it: torch.nn.functional.interpolate(antialias=True).
 *
 * Pillow's taps, but with torch's roundings: their places and weights are made in float. Nothing is
 * rounded to bytes and nothing is clipped. The sums are ours, in one order on every ISA; from
 * torch's, which has none that is stated, they differ by a few units in the last place.
 */
#ifndef TACIT_RESIZE_FLOAT_H
#define TACIT_RESIZE_FLOAT_H

#include "kernels.h"
#include "pool.h"
#include "resize_u8.h"

/* Tables and scratch, which grow and are kept; all 0 at first. */
typedef struct tacit_resize_float {
    struct tacit__float_axis {
        tacit_span span;
        tacit_filter filter;
        size_t lo, hi, most; /* inputs that are read; taps of one output */
        size_t *first, *count;
        float *weights; /* `most` for each output */
        size_t room;
    } x, y;
    float *rows;
    size_t rows_room;
} tacit_resize_float;

/* rgb: (y.in, x.in, 3) bytes. out: three planes, `plane` floats apart, rows ldo apart, of the
 * spans' outputs: (v / 255 - mean) / std. TACIT_ENOMEM. */
tacit_status tacit_resize_float_run(tacit_resize_float *resize, const tacit_kernels *kernels,
                                    const uint8_t *rgb, tacit_span x, tacit_span y,
                                    tacit_filter filter, const float mean[3], const float std[3],
                                    float *out, size_t ldo, size_t plane, tacit_pool *pool,
                                    tacit_err *err);
void tacit_resize_float_close(tacit_resize_float *resize);

#endif
