/* resize_u8.h - resizes of RGB8 in bytes and fixed point: Pillow's, and torch's of uint8 tensors.
 *
 * A resizer keeps its tables and its scratch from call to call; tables are made anew only where the
 * sizes change.
 */
#ifndef TACIT_RESIZE_U8_H
#define TACIT_RESIZE_U8_H

#include "kernels.h"
#include "pool.h"
#include "status.h"

typedef enum tacit_filter {
    TACIT_FILTER_BILINEAR,
    TACIT_FILTER_BICUBIC,
    TACIT_FILTER_LANCZOS
} tacit_filter;

/* Outputs [begin, end) of `out` along one axis, from `in` inputs. */
typedef struct tacit_span {
    size_t in, out, begin, end;
} tacit_span;

typedef struct tacit_resize_way {
    tacit_filter filter;
    unsigned pillow; /* 13: order of passes as Pillow 13; 12: as 12.1 and before */
    bool coarse;     /* torch's weights of 16 bits, and the horizontal pass first */
    bool mirrored;   /* left and right of the result change places */
} tacit_resize_way;

/* The picture: rows of (x.in, 3) bytes, `stride` apart. */
typedef struct tacit_resize_source {
    const uint8_t *rgb;
    size_t stride;
} tacit_resize_source;

/* Where the spans' outputs go in a picture of width x height: floats in planes through `normalize`,
 * or where that is NULL bytes in planes, or where that is NULL rows of (width, 3) bytes. */
typedef struct tacit_resize_target {
    const tacit_normalize *normalize;
    float *planar;
    uint8_t *planes, *rgb;
    size_t width, height, left, top;
} tacit_resize_target;

/* All 0 at first. */
typedef struct tacit_resize_u8 {
    /* One axis: outputs [begin, end) of `out`, which read inputs [lo, hi) of `in`. */
    struct tacit__u8_axis {
        size_t in, out, begin, end, lo, hi;
        tacit_filter filter;
        bool coarse, mirrored;
        tacit_taps *taps; /* end - begin, their `first` counted from lo */
        int16_t *weights;
        size_t taps_room, weights_room; /* bytes */
    } x, y;
    uint8_t *scratch;
    size_t scratch_room;
} tacit_resize_u8;

/* TACIT_ENOMEM. */
tacit_status tacit_resize_u8_run(tacit_resize_u8 *resize, const tacit_kernels *kernels,
                                 const tacit_resize_way *way, const tacit_resize_source *from,
                                 tacit_span x, tacit_span y, const tacit_resize_target *to,
                                 tacit_pool *pool, tacit_err *err);
/* Room for resizing any part of a picture of up to x.in by y.in to x.out by y.out on one thread, so
 * that this allocates nothing. */
tacit_status tacit_resize_u8_reserve(tacit_resize_u8 *resize, tacit_span x, tacit_span y,
                                     tacit_filter filter, tacit_err *err);
void tacit_resize_u8_close(tacit_resize_u8 *resize);

#endif
