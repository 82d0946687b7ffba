/* preprocess.c - torchvision's sizes and crop around the resizes. */
#include "preprocess.h"

#include "mem.h"
#include "resize_float.h"

#include <math.h>
#include <string.h>

#define LIMIT    (INT32_MAX / 4) /* of a side after resizing, as in Pillow */
#define MAX_SIDE 65536           /* that a recipe may ask for */

struct tacit_preprocessor {
    tacit_recipe recipe;
    const tacit_kernels *kernels;
    tacit_normalize normalize;
    tacit_resize_u8 bytes;
    tacit_resize_float floats;
};

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Sizes and crop ------------------------------------------------------------------------------ */

/* The whole picture's size after resizing. */
static void resized(const tacit_recipe *r, size_t width, size_t height, size_t *w, size_t *h)
{
    size_t shorter = smaller(width, height), n = r->resize_height;
    *w = r->resize_width;
    *h = r->resize_height;
    if (r->squash)
        return;
    if (*w == *h) {
        *w = shorter == width ? n : n * width / shorter;
        *h = shorter == height ? n : n * height / shorter;
        return;
    }
    double x = (double)width / r->resize_width, y = (double)height / r->resize_height;
    *w = (size_t)nearbyint((double)width / (x < y ? x : y));
    *h = (size_t)nearbyint((double)height / (x < y ? x : y));
}

/* torchvision's CenterCrop along one axis: what it keeps, and the black before that. An odd
 * difference is halved by Python's round(), to even, or to the lower. */
static void crop(size_t size, size_t want, bool lower, size_t *begin, size_t *end, size_t *before)
{
    size_t cut = size > want ? size - want : 0;
    *begin = cut / 2 + (!lower && cut % 2 && cut / 2 % 2);
    *end = *begin + smaller(size, want);
    *before = want > size ? (want - size) / 2 : 0;
}

static tacit_status check_picture(size_t width, size_t height, tacit_err *err)
{
    size_t bytes;
    if (!width || !height || width > INT32_MAX || height > INT32_MAX ||
        !tacit_mul_size(width, height, &bytes) || !tacit_mul_size(bytes, 3, &bytes))
        return tacit_fail(err, TACIT_EINVAL, "no picture has %zu x %zu pixels", width, height);
    return TACIT_OK;
}

static tacit_status preprocess(tacit_preprocessor *pre, const uint8_t *rgb, size_t width,
                               size_t height, tacit_resize_target to, tacit_pool *pool,
                               tacit_err *err)
{
    const tacit_recipe *r = &pre->recipe;
    tacit_status st = check_picture(width, height, err);
    if (st < 0)
        return st;
    size_t w, h, x0, x1, y0, y1;
    resized(r, width, height, &w, &h);
    if (w > LIMIT || h > LIMIT)
        return tacit_fail(err, TACIT_ELIMIT, "%zu x %zu pixels would be resized to %zu x %zu",
                          width, height, w, h);
    to.width = r->width;
    to.height = r->height;
    crop(w, r->width, r->floor_crop, &x0, &x1, &to.left);
    crop(h, r->height, r->floor_crop, &y0, &y1, &to.top);
    if (w < r->width || h < r->height) { /* black around it */
        size_t plane = to.width * to.height;
        for (size_t c = 0; c < 3 && to.normalize; c++)
            for (size_t i = 0; i < plane; i++)
                to.planar[c * plane + i] = to.normalize->table[c][0];
        if (!to.normalize)
            memset(to.rgb, 0, 3 * plane);
    }
    tacit_span x = { width, w, x0, x1 }, y = { height, h, y0, y1 };
    if (r->resampler == TACIT_RESAMPLER_TENSOR)
        return tacit_resize_float_run(&pre->floats, pre->kernels, rgb, x, y, r->filter, r->mean,
                                      r->std, to.planar + to.top * to.width + to.left, to.width,
                                      to.width * to.height, pool, err);
    tacit_resize_way way = { .filter = r->filter,
                             .pillow = r->pillow,
                             .coarse = r->resampler == TACIT_RESAMPLER_TENSOR_U8 };
    tacit_resize_source from = { rgb, 3 * width };
    return tacit_resize_u8_run(&pre->bytes, pre->kernels, &way, &from, x, y, &to, pool, err);
}

/* The public functions ------------------------------------------------------------------------ */

static tacit_status check_way(tacit_filter filter, unsigned pillow, tacit_err *err)
{
    if ((unsigned)filter > TACIT_FILTER_LANCZOS)
        return tacit_fail(err, TACIT_EINVAL, "unknown filter %u", (unsigned)filter);
    if (pillow != 12 && pillow != 13)
        return tacit_fail(err, TACIT_EINVAL, "resizing is known as of Pillow 12 and 13, not %u",
                          pillow);
    return TACIT_OK;
}

tacit_status tacit_preprocessor_open(tacit_preprocessor **out, const tacit_recipe *recipe,
                                     const tacit_kernels *kernels, tacit_err *err)
{
    *out = NULL;
    tacit_status st = check_way(recipe->filter, recipe->pillow, err);
    if (st < 0)
        return st;
    if ((unsigned)recipe->resampler > TACIT_RESAMPLER_TENSOR_U8)
        return tacit_fail(err, TACIT_EINVAL, "unknown resampler %u", (unsigned)recipe->resampler);
    const unsigned sides[] = { recipe->resize_height, recipe->resize_width, recipe->height,
                               recipe->width };
    for (size_t i = 0; i < 4; i++)
        if (sides[i] < 1 || sides[i] > MAX_SIDE)
            return tacit_fail(err, TACIT_EINVAL, "an image size of %u: use one from 1 to %d pixels",
                              sides[i], MAX_SIDE);
    for (size_t c = 0; c < 3; c++)
        if (!isfinite(recipe->mean[c]) || !isfinite(recipe->std[c]) || !(recipe->std[c] > 0))
            return tacit_fail(err, TACIT_EINVAL,
                              "normalising by mean %g and deviation %g: both must be finite, the "
                              "deviation above 0",
                              (double)recipe->mean[c], (double)recipe->std[c]);
    tacit_preprocessor *pre = tacit_calloc(1, sizeof *pre);
    if (!pre)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for preprocessing");
    pre->recipe = *recipe;
    pre->kernels = kernels;
    tacit_normalize_init(&pre->normalize, recipe->mean, recipe->std);
    *out = pre;
    return TACIT_OK;
}

void tacit_preprocessor_close(tacit_preprocessor **p)
{
    tacit_preprocessor *pre = *p;
    *p = NULL;
    if (!pre)
        return;
    tacit_resize_u8_close(&pre->bytes);
    tacit_resize_float_close(&pre->floats);
    tacit_free(pre);
}

tacit_status tacit_preprocess(tacit_preprocessor *pre, const uint8_t *rgb, size_t width,
                              size_t height, float *planar, tacit_pool *pool, tacit_err *err)
{
    tacit_resize_target to = { .normalize = &pre->normalize, .planar = planar };
    return preprocess(pre, rgb, width, height, to, pool, err);
}

tacit_status tacit_preprocess_rgb8(tacit_preprocessor *pre, const uint8_t *rgb, size_t width,
                                   size_t height, uint8_t *out, tacit_pool *pool, tacit_err *err)
{
    if (pre->recipe.resampler == TACIT_RESAMPLER_TENSOR)
        return tacit_fail(err, TACIT_EINVAL, "a float tensor has no picture of bytes");
    return preprocess(pre, rgb, width, height, (tacit_resize_target){ .rgb = out }, pool, err);
}

tacit_status tacit_resize_rgb8(const tacit_kernels *kernels, const uint8_t *rgb, size_t width,
                               size_t height, uint8_t *out, size_t out_width, size_t out_height,
                               tacit_filter filter, unsigned pillow, tacit_pool *pool,
                               tacit_err *err)
{
    tacit_status st = check_way(filter, pillow, err);
    if (st < 0 || (st = check_picture(width, height, err)) < 0 ||
        (st = check_picture(out_width, out_height, err)) < 0)
        return st;
    tacit_resize_u8 resize = { 0 };
    tacit_resize_way way = { .filter = filter, .pillow = pillow };
    tacit_resize_source from = { rgb, 3 * width };
    tacit_resize_target to = { .rgb = out, .width = out_width, .height = out_height };
    st = tacit_resize_u8_run(&resize, kernels, &way, &from,
                             (tacit_span){ width, out_width, 0, out_width },
                             (tacit_span){ height, out_height, 0, out_height }, &to, pool, err);
    tacit_resize_u8_close(&resize);
    return st;
}
