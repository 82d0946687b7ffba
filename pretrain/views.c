/* views.c - see views.h. */
#include "views.h"

#include "draws.h"
#include "mem.h"
#include "rng.h"

#include <math.h>
#include <string.h>

#define MAX_SIZE 4096
#define TRIES    10 /* of a crop that lies inside, as in torchvision */

tacit_view tacit_view_plain(unsigned size)
{
    return (tacit_view){
        .size = size,
        .scale = { 0.08f, 1 },
        .ratio = { 3.0f / 4, 4.0f / 3 },
        .filter = TACIT_FILTER_BICUBIC,
        .flip = 0.5f,
        .sigma = { 0.1f, 2 },
        .threshold = 128,
        .mean = { 0.485f, 0.456f, 0.406f },
        .std = { 0.229f, 0.224f, 0.225f },
    };
}

/* Settings ------------------------------------------------------------------------------------ */

/* No comparison holds for a NaN. */
static bool is_range(const float range[2], float lo, float hi)
{
    return range[0] >= lo && range[0] <= range[1] && range[1] <= hi;
}

tacit_status tacit_view_check(const tacit_view *v, tacit_err *err)
{
    const struct {
        const char *name;
        float value, most;
    } values[] = {
        { "centre", v->centre, 1 },       { "flip", v->flip, 1 },
        { "jitter", v->jitter, 1 },       { "brightness", v->brightness, 100 },
        { "contrast", v->contrast, 100 }, { "saturation", v->saturation, 100 },
        { "hue", v->hue, 0.5f },          { "gray", v->gray, 1 },
        { "blur", v->blur, 1 },           { "solarise", v->solarise, 1 },
    };
    if (v->size < 1 || v->size > MAX_SIZE)
        return tacit_fail(err, TACIT_EINVAL, "a view of %u pixels: use a size from 1 to %d",
                          v->size, MAX_SIZE);
    if (v->filter != TACIT_FILTER_BILINEAR && v->filter != TACIT_FILTER_BICUBIC)
        return tacit_fail(err, TACIT_EINVAL, "a view's filter is bicubic or bilinear");
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        if (!(values[i].value >= 0 && values[i].value <= values[i].most))
            return tacit_fail(err, TACIT_EINVAL, "%s of a view is %g: use a number from 0 to %g",
                              values[i].name, (double)values[i].value, (double)values[i].most);
    if (!is_range(v->scale, 1e-6f, 1))
        return tacit_fail(err, TACIT_EINVAL,
                          "a crop of %g to %g of the area: use a range within (0, 1]",
                          (double)v->scale[0], (double)v->scale[1]);
    if (!is_range(v->ratio, 1e-3f, 1e3f))
        return tacit_fail(err, TACIT_EINVAL,
                          "crops of ratio %g to %g: use a range of positive numbers",
                          (double)v->ratio[0], (double)v->ratio[1]);
    if (!is_range(v->sigma, 0, 100))
        return tacit_fail(err, TACIT_EINVAL, "a blur of %g to %g: use a range within 0 to 100",
                          (double)v->sigma[0], (double)v->sigma[1]);
    if (v->threshold > 256)
        return tacit_fail(err, TACIT_EINVAL, "solarising from %u on: use a number from 0 to 256",
                          v->threshold);
    for (size_t c = 0; c < 3; c++)
        if (!isfinite(v->mean[c]) || !isfinite(v->std[c]) || !(v->std[c] > 0))
            return tacit_fail(err, TACIT_EINVAL,
                              "normalising by mean %g and deviation %g: both must be finite, the "
                              "deviation above 0",
                              (double)v->mean[c], (double)v->std[c]);
    return TACIT_OK;
}

/* Draws --------------------------------------------------------------------------------------- */

/* From SLEEF, since libm's differ by a bit from one system to the next. */
double Sleef_cinz_logd1_u10purec(double);
double Sleef_cinz_expd1_u10purec(double);

/* In [0, 1). */
static double uniform(uint32_t word)
{
    return (double)word * 0x1p-32;
}

static double between(uint32_t word, double lo, double hi)
{
    return lo + uniform(word) * (hi - lo);
}

/* In [0, n). */
static uint32_t below(uint32_t word, size_t n)
{
    return (uint32_t)((uint64_t)word * n >> 32);
}

/* torchvision's RandomResizedCrop.get_params. Halves are rounded to even, as Python does. */
static void draw_crop(const tacit_view *v, size_t width, size_t height, uint64_t seed,
                      uint64_t stream, uint64_t at, tacit_view_draws *d)
{
    double w, h, area = (double)width * (double)height;
    double lo = Sleef_cinz_logd1_u10purec((double)v->ratio[0]);
    double hi = Sleef_cinz_logd1_u10purec((double)v->ratio[1]);
    for (uint64_t i = 0; i < TRIES; i++) {
        uint32_t word[4];
        tacit_philox(seed, stream, at + i, word);
        double target = area * between(word[0], (double)v->scale[0], (double)v->scale[1]);
        double ratio = Sleef_cinz_expd1_u10purec(between(word[1], lo, hi));
        w = nearbyint(sqrt(target * ratio));
        h = nearbyint(sqrt(target / ratio));
        if (w < 1 || h < 1 || w > (double)width || h > (double)height)
            continue;
        d->width = (uint32_t)w;
        d->height = (uint32_t)h;
        d->top = below(word[2], height - d->height + 1);
        d->left = below(word[3], width - d->width + 1);
        return;
    }
    w = (double)width;
    h = (double)height;
    if (w / h < (double)v->ratio[0])
        h = nearbyint(w / (double)v->ratio[0]);
    else if (w / h > (double)v->ratio[1])
        w = nearbyint(h * (double)v->ratio[1]);
    d->width = w < 1 ? 1 : (uint32_t)w;
    d->height = h < 1 ? 1 : (uint32_t)h;
    d->top = (uint32_t)(height - d->height) / 2;
    d->left = (uint32_t)(width - d->width) / 2;
}

/* Resize and CenterCrop, in one. */
static void take_centre(const tacit_view *v, size_t width, size_t height, tacit_view_draws *d)
{
    size_t shorter = width < height ? width : height;
    double side = nearbyint((double)shorter * (double)v->centre);
    d->width = d->height = side < 1 ? 1 : (uint32_t)side;
    d->top = (uint32_t)(height - d->height) / 2;
    d->left = (uint32_t)(width - d->width) / 2;
}

/* A permutation of the four from one word, then those that are on. */
static void draw_jitter(const tacit_view *v, const uint32_t word[4], uint32_t order,
                        tacit_view_draws *d)
{
    const float strength[4] = { v->brightness, v->contrast, v->saturation, v->hue };
    uint8_t all[4] = { 0, 1, 2, 3 };
    uint64_t left = order;
    for (unsigned i = 4; i > 1; i--) { /* the digits of the word as a fraction */
        left *= i;
        unsigned j = (unsigned)(left >> 32);
        left &= UINT32_MAX;
        uint8_t swapped = all[j];
        all[j] = all[i - 1];
        all[i - 1] = swapped;
    }
    for (unsigned i = 0; i < 4; i++) {
        double x = (double)strength[all[i]];
        bool hue = all[i] == TACIT_JITTER_HUE;
        if (x == 0)
            continue;
        d->jitter[d->jitters++] = all[i];
        d->factor[all[i]] = (float)between(word[all[i]],
                                           hue     ? -x
                                           : x < 1 ? 1 - x
                                                   : 0,
                                           hue ? x : 1 + x);
    }
}

void tacit_view_draw(const tacit_view *v, size_t width, size_t height, uint64_t seed,
                     uint64_t epoch, uint64_t sample, unsigned index, tacit_view_draws *d)
{
    uint32_t word[4], which[4], more[4];
    uint64_t stream = tacit_draw_stream(seed, epoch, sample, TACIT_DRAW_VIEW);
    uint64_t at = (uint64_t)index << 8;
    *d = (tacit_view_draws){ 0 };
    if (v->centre > 0)
        take_centre(v, width, height, d);
    else
        draw_crop(v, width, height, seed, stream, at, d);
    tacit_philox(seed, stream, at + TRIES, which);
    tacit_philox(seed, stream, at + TRIES + 1, word);
    tacit_philox(seed, stream, at + TRIES + 2, more);
    d->flip = uniform(which[0]) < (double)v->flip;
    if (uniform(which[1]) < (double)v->jitter)
        draw_jitter(v, word, more[0], d);
    d->gray = uniform(which[2]) < (double)v->gray;
    d->blur = uniform(which[3]) < (double)v->blur;
    d->sigma = d->blur ? (float)between(more[1], (double)v->sigma[0], (double)v->sigma[1]) : 0;
    d->solarise = uniform(more[2]) < (double)v->solarise;
}

/* Pixels -------------------------------------------------------------------------------------- */

struct tacit_viewer {
    const tacit_kernels *kernels;
    tacit_resize_u8 resize;
    uint8_t *planes, *other; /* of the largest view */
    size_t count;
    struct kind {
        tacit_view view;
        tacit_normalize normalize;
    } kinds[];
};

tacit_status tacit_viewer_open(tacit_viewer **out, const tacit_view *views, size_t count,
                               const tacit_kernels *kernels, tacit_err *err)
{
    *out = NULL;
    size_t size, most = 0;
    for (size_t i = 0; i < count; i++) {
        tacit_status st = tacit_view_check(&views[i], err);
        if (st < 0)
            return tacit_fail_at(err, st, "view %zu", i + 1);
        most = views[i].size > most ? views[i].size : most;
    }
    tacit_viewer *viewer = NULL;
    if (!tacit_mul_size(count, sizeof viewer->kinds[0], &size) ||
        !tacit_add_size(size, sizeof *viewer, &size) || !(viewer = tacit_calloc(1, size)) ||
        !(viewer->planes = tacit_alloc(6 * most * most))) {
        tacit_free(viewer);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for views");
    }
    viewer->other = viewer->planes + 3 * most * most;
    viewer->kernels = kernels;
    viewer->count = count;
    for (size_t i = 0; i < count; i++) {
        viewer->kinds[i].view = views[i];
        tacit_normalize_init(&viewer->kinds[i].normalize, views[i].mean, views[i].std);
    }
    *out = viewer;
    return TACIT_OK;
}

void tacit_viewer_close(tacit_viewer **viewer)
{
    if (!*viewer)
        return;
    tacit_resize_u8_close(&(*viewer)->resize);
    tacit_free((*viewer)->planes);
    tacit_free(*viewer);
    *viewer = NULL;
}

/* ImageEnhance's operations and adjust_hue. scratch has room for one plane. */
static void adjust(const tacit_kernels *k, tacit_jitter what, float factor, size_t n, uint8_t *x,
                   uint8_t *scratch)
{
    switch (what) {
    case TACIT_JITTER_BRIGHTNESS: k->blend_u8(3 * n, x, NULL, 0, factor, x); break;
    case TACIT_JITTER_CONTRAST: {
        uint64_t sum = k->luma_u8(n, x, n, scratch);
        k->blend_u8(3 * n, x, NULL, (uint8_t)((double)sum / (double)n + 0.5), factor, x);
        break;
    }
    case TACIT_JITTER_SATURATION:
        k->luma_u8(n, x, n, scratch);
        for (size_t c = 0; c < 3; c++)
            k->blend_u8(n, x + c * n, scratch, 0, factor, x + c * n);
        break;
    case TACIT_JITTER_HUE:
        k->hue_u8(n, (unsigned)(int)((double)factor * 255) & 255, x, n, x, n);
        break;
    }
}

/* The box whose three passes make Pillow's Gaussian (libImaging/BoxBlur.c, after Gwosdek et al.
 * 2011), with its roundings to float; false where it leaves a picture as it is. */
static bool gaussian_box(float sigma, tacit_box *box)
{
    float square = sigma * sigma / 3;
    float length = (float)sqrt(12.0 * (double)square + 1);
    float whole = (float)floor(((double)length - 1) / 2);
    float part = (2 * whole + 1) * (whole * (whole + 1) - 3 * square);
    part /= 6 * (square - (whole + 1) * (whole + 1));
    float radius = whole + part;
    box->radius = (size_t)radius;
    box->whole = (uint32_t)((float)(1 << 24) / (radius * 2 + 1));
    box->part = ((1u << 24) - (2 * (uint32_t)box->radius + 1) * box->whole) / 2;
    return radius != 0;
}

/* Pillow's order: three passes along the rows, then three down the columns, each to bytes. */
static void blur(const tacit_kernels *k, float sigma, size_t size, uint8_t *x, uint8_t *other)
{
    tacit_box box;
    size_t n = size * size;
    if (!gaussian_box(sigma, &box))
        return;
    for (size_t c = 0; c < 3; c++, x += n, other += n) {
        k->transpose_u8(size, size, x, size, other, size);
        k->box_blur_u8(size, size, &box, other, size, x, size);
        k->box_blur_u8(size, size, &box, x, size, other, size);
        k->box_blur_u8(size, size, &box, other, size, x, size);
        k->transpose_u8(size, size, x, size, other, size);
        k->box_blur_u8(size, size, &box, other, size, x, size);
        k->box_blur_u8(size, size, &box, x, size, other, size);
        k->box_blur_u8(size, size, &box, other, size, x, size);
    }
}

tacit_status tacit_view_pixels(tacit_viewer *viewer, unsigned index, const tacit_view_draws *d,
                               const uint8_t *rgb, size_t width, size_t height, uint8_t *planar,
                               tacit_err *err)
{
    const tacit_view *v = &viewer->kinds[index].view;
    const tacit_kernels *k = viewer->kernels;
    size_t n = (size_t)v->size * v->size;
    tacit_resize_way way = { .filter = v->filter, .pillow = 13, .mirrored = d->flip };
    tacit_resize_source from = { rgb + 3 * (d->top * width + d->left), 3 * width };
    tacit_resize_target to = { .planes = planar, .width = v->size, .height = v->size };
    tacit_status st =
        tacit_resize_u8_reserve(&viewer->resize, (tacit_span){ width, v->size, 0, 0 },
                                (tacit_span){ height, v->size, 0, 0 }, v->filter, err);
    if (st == TACIT_OK)
        st = tacit_resize_u8_run(&viewer->resize, k, &way, &from,
                                 (tacit_span){ d->width, v->size, 0, v->size },
                                 (tacit_span){ d->height, v->size, 0, v->size }, &to, NULL, err);
    if (st < 0)
        return st;
    for (unsigned i = 0; i < d->jitters; i++)
        adjust(k, (tacit_jitter)d->jitter[i], d->factor[d->jitter[i]], n, planar, viewer->other);
    if (d->gray) {
        k->luma_u8(n, planar, n, planar);
        memcpy(planar + n, planar, n);
        memcpy(planar + 2 * n, planar, n);
    }
    if (d->blur)
        blur(k, d->sigma, v->size, planar, viewer->other);
    if (d->solarise)
        k->solarise_u8(3 * n, v->threshold, planar, planar);
    return TACIT_OK;
}

tacit_status tacit_view_apply(tacit_viewer *viewer, unsigned index, const tacit_view_draws *draws,
                              const uint8_t *rgb, size_t width, size_t height, float *planar,
                              tacit_err *err)
{
    const struct kind *kind = &viewer->kinds[index];
    size_t plane = (size_t)kind->view.size * kind->view.size;
    tacit_status st =
        tacit_view_pixels(viewer, index, draws, rgb, width, height, viewer->planes, err);
    if (st == TACIT_OK)
        viewer->kernels->normalize_u8(plane, viewer->planes, plane, &kind->normalize, planar,
                                      plane);
    return st;
}
