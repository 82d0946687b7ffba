/* resize_float.c - see resize_float.h.
 *
 * The weights: aten/src/ATen/native/cpu/UpSampleKernel.cpp, HelperInterpBase, for float. Where it
 * mixes float and double, so does this; for the triangle the weights are torch's own bits.
 *
 * One output row at a time: the vertical sum of bytes by a kernel, which is most of the work for a
 * large picture, then the horizontal one, whose inputs lie 3 apart, in plain C.
 */
#include "resize_float.h"

#include "mem.h"

#include <math.h>
#include <string.h>

#define PI 3.14159265358979323846

static float triangle(float x)
{
    x = fabsf(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys 1981, eq. 4, with a = -1/2. */
static float cubic(float x)
{
    const float a = -0.5f;
    x = fabsf(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? ((a * x - 5 * a) * x + 8 * a) * x - 4 * a : 0;
}

static float sinc(float x)
{
    double v = (double)x * PI;
    return x == 0 ? 1 : (float)(sin(v) / v);
}

static float lanczos(float x)
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const struct {
    float (*f)(float);
    float support;
} filters[] = {
    [TACIT_FILTER_BILINEAR] = { triangle, 1 },
    [TACIT_FILTER_BICUBIC] = { cubic, 2 },
    [TACIT_FILTER_LANCZOS] = { lanczos, 3 },
};

typedef struct tacit__float_axis axis;

static void weigh(axis *a, size_t i, float scale, float support)
{
    float centre = (float)((double)scale * ((double)i + 0.5));
    double inverse = scale >= 1 ? (double)(float)(1.0 / (double)scale) : 1;
    double from = (double)(centre - support) + 0.5, to = (double)(centre + support) + 0.5;
    size_t lo = from < 0 ? 0 : (size_t)from, hi = (size_t)to;
    float *w = a->weights + (i - a->span.begin) * a->most, sum = 0;
    hi = hi < a->span.in ? hi : a->span.in;
    lo = lo < hi ? lo : hi - 1; /* beyond 2^24 pixels the centre is rounded to whole ones */
    hi = hi - lo < a->most ? hi : lo + a->most;
    for (size_t j = lo; j < hi; j++) {
        double distance = (double)((float)j - centre) + 0.5;
        w[j - lo] = filters[a->filter].f((float)(distance * inverse));
        sum += w[j - lo];
    }
    for (size_t j = lo; j < hi && sum != 0; j++)
        w[j - lo] /= sum;
    a->first[i - a->span.begin] = lo;
    a->count[i - a->span.begin] = hi - lo;
    a->lo = lo < a->lo ? lo : a->lo;
    a->hi = hi > a->hi ? hi : a->hi;
}

/* Makes the taps; nothing is done where they are there already. False: memory is short. */
static bool plan(axis *a, tacit_span span, tacit_filter filter)
{
    if (!memcmp(&a->span, &span, sizeof span) && a->filter == filter && a->weights)
        return true;
    float scale = (float)span.in / (float)span.out;
    float support = filters[filter].support * (scale >= 1 ? scale : 1);
    size_t n = span.end - span.begin, floats, integers;
    a->most = 2 * (size_t)ceilf(support) + 1;
    a->span.in = 0;
    a->filter = filter;
    if (!tacit_mul_size(n, 2 * sizeof(size_t), &integers) || !tacit_mul_size(n, a->most, &floats) ||
        !tacit_mul_size(floats, sizeof(float), &floats) ||
        !tacit_add_size(floats, integers, &floats) ||
        !(a->first = tacit_renew(a->first, &a->room, floats)))
        return false;
    a->count = a->first + n;
    a->weights = (float *)(void *)(a->count + n);
    a->span = span;
    a->lo = SIZE_MAX;
    a->hi = 0;
    for (size_t i = span.begin; i < span.end; i++)
        weigh(a, i, scale, support);
    return true;
}

struct job {
    const tacit_kernels *kernels;
    const axis *x, *y;
    const uint8_t *rgb;
    const float *mean, *std;
    float *rows, *out;
    size_t row_floats, ldo, plane;
};

static void one_row(void *ctx, size_t chunk, unsigned worker)
{
    const struct job *j = ctx;
    const axis *x = j->x, *y = j->y;
    float *row = j->rows + worker * j->row_floats, *out = j->out + chunk * j->ldo;
    size_t stride = 3 * x->span.in;
    j->kernels->weighted_rows_u8(y->count[chunk], y->weights + chunk * y->most, 3 * (x->hi - x->lo),
                                 j->rgb + y->first[chunk] * stride + 3 * x->lo, stride, row);
    for (size_t i = 0; i < x->span.end - x->span.begin; i++) {
        const float *w = x->weights + i * x->most, *in = row + 3 * (x->first[i] - x->lo);
        float sum[3] = { 0, 0, 0 };
        for (size_t k = 0; k < x->count[i]; k++)
            for (size_t c = 0; c < 3; c++)
                sum[c] += w[k] * in[3 * k + c];
        for (size_t c = 0; c < 3; c++)
            out[c * j->plane + i] = (sum[c] / 255 - j->mean[c]) / j->std[c];
    }
}

tacit_status tacit_resize_float_run(tacit_resize_float *r, const tacit_kernels *kernels,
                                    const uint8_t *rgb, tacit_span x, tacit_span y,
                                    tacit_filter filter, const float mean[3], const float std[3],
                                    float *out, size_t ldo, size_t plane, tacit_pool *pool,
                                    tacit_err *err)
{
    struct job j = { kernels, &r->x, &r->y, rgb, mean, std, NULL, out, 0, ldo, plane };
    size_t size = sizeof(float) * tacit_pool_threads(pool);
    bool fits = plan(&r->x, x, filter) && plan(&r->y, y, filter);
    if (fits) {
        j.row_floats = (3 * (r->x.hi - r->x.lo) + 15) / 16 * 16;
        fits = tacit_mul_size(size, j.row_floats, &size) &&
               (r->rows = tacit_renew(r->rows, &r->rows_room, size));
    }
    if (!fits)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for resizing %zu x %zu to %zu x %zu",
                          x.in, y.in, x.out, y.out);
    j.rows = r->rows;
    tacit_parallel_for(pool, y.end - y.begin, one_row, &j);
    return TACIT_OK;
}

void tacit_resize_float_close(tacit_resize_float *r)
{
    tacit_free(r->x.first);
    tacit_free(r->y.first);
    tacit_free(r->rows);
    *r = (tacit_resize_float){ 0 };
}
