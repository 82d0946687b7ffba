/* conv_backward.c - gradients of inputs: of strided convolutions, and of max pooling. */
#include "raster.h"
#include "simd.h"

#define LOAD(p)     (left == VF ? vf_load(p) : vf_load_n(p, left))
#define STORE(p, x) (left == VF ? vf_store(p, x) : vf_store_n(p, x, left))

/* The output whose window has place `tap` at input `at`; SIZE_MAX where there is none. */
TACIT_INLINE size_t output_at(const tacit_conv *c, size_t at, size_t tap, size_t outputs)
{
    size_t from = at + c->pad - tap; /* wraps below 0 */
    return at + c->pad >= tap && from % c->stride == 0 && from / c->stride < outputs
               ? from / c->stride
               : SIZE_MAX;
}

/* One pixel of dx. */
static void scatter_pixel(const tacit_conv *c, size_t y, size_t x, const float *d, size_t ldd,
                          float *dx)
{
    for (size_t i = 0; i < c->channels; i += VF) {
        size_t left = VF_LEFT(c->channels, i);
        vf sum = vf_zero();
        for (size_t ky = 0; ky < c->kernel; ky++) {
            size_t row = output_at(c, y, ky, c->rows);
            for (size_t kx = 0; row != SIZE_MAX && kx < c->kernel; kx++) {
                size_t column = output_at(c, x, kx, c->columns);
                if (column != SIZE_MAX)
                    sum = vf_add(sum, LOAD(d + (row * c->columns + column) * ldd +
                                           (ky * c->kernel + kx) * c->channels + i));
            }
        }
        STORE(dx + i, sum);
    }
}

void TACIT_NAME(tacit_conv_scatter_f32)(const tacit_conv *c, const float *d, size_t ldd, float *dx)
{
    for (size_t y = 0; y < c->height; y++)
        for (size_t x = 0; x < c->width; x++)
            scatter_pixel(c, y, x, d, ldd, dx + (y * c->width + x) * c->ldx);
}

/* The window of an output, cut at the edges. */
typedef struct window {
    size_t y0, y1, x0, x1;
} window;

static window window_of(const tacit_conv *c, size_t row, size_t column)
{
    size_t top = row * c->stride, before = column * c->stride;
    window w = { top < c->pad ? 0 : top - c->pad, top + c->kernel - c->pad,
                 before < c->pad ? 0 : before - c->pad, before + c->kernel - c->pad };
    w.y1 = w.y1 < c->height ? w.y1 : c->height;
    w.x1 = w.x1 < c->width ? w.x1 : c->width;
    return w;
}

void TACIT_NAME(tacit_maxpool_backward_f32)(const tacit_conv *c, const float *x, const float *dy,
                                            size_t lddy, float *dx)
{
    for (size_t p = 0; p < c->height * c->width; p++)
        for (size_t i = 0; i < c->channels; i += VF) {
            size_t left = VF_LEFT(c->channels, i);
            STORE(dx + p * c->ldx + i, vf_zero());
        }
    tacit_raster out = tacit_raster_at(0, c->rows, c->columns);
    for (size_t o = 0; o < c->rows * c->columns; o++, tacit_raster_next(&out)) {
        window w = window_of(c, out.row, out.column);
        for (size_t i = 0; i < c->channels; i += VF) {
            size_t left = VF_LEFT(c->channels, i);
            vf most = LOAD(x + (w.y0 * c->width + w.x0) * c->ldx + i), d = LOAD(dy + o * lddy + i);
            for (size_t v = w.y0; v < w.y1; v++)
                for (size_t u = w.x0; u < w.x1; u++)
                    most = vf_max(LOAD(x + (v * c->width + u) * c->ldx + i), most);
            for (size_t v = w.y0; v < w.y1; v++)
                for (size_t u = w.x0; u < w.x1; u++) {
                    size_t at = (v * c->width + u) * c->ldx + i;
                    vf value = LOAD(x + at);
                    vf here = vf_if_gt(most, value, vf_zero(), d);
                    d = vf_if_gt(most, value, d, vf_zero());
                    STORE(dx + at, vf_add(LOAD(dx + at), here));
                }
        }
    }
}
