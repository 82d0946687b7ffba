/* preprocess.c - 8-bit resizes, torchvision's sizes and crop, normalisation.
 *
 * One pass of the resize is a table of taps: for each output the inputs it reads and their weights,
 * in fixed point with 22 bits (Pillow, libImaging/Resample.c; torch's uint8 path is the same with
 * coarser weights). What is computed is only what the crop keeps, and that is exact, since an
 * output depends on nothing but its own taps. A pass that keeps its size has one tap of weight 1
 * and so needs no case of its own.
 *
 * Both passes are the same kernel, a weighted sum of rows: for the horizontal one a band of rows is
 * transposed first, so that a pixel's channels in all rows of the band are one contiguous row, and
 * the sums are transposed back. Towards floats they come back as planes, which normalises without
 * shuffles. Work is cut by rows: first all bands of the first pass, then all of the second.
 *
 * Weights are double and come from +, *, / and, for Lanczos, sin() as Pillow's do.
 */
#include "preprocess.h"

#include "mem.h"
#include "resize_float.h"

#include <math.h>
#include <string.h>

#define BAND     64 /* rows that are transposed together: one cache line for each column */
#define SLICE    16 /* rows of a chunk of the vertical pass */
#define LIMIT    (INT32_MAX / 4) /* of a side after resizing, as in Pillow */
#define MAX_SIDE 65536           /* that a recipe may ask for */
#define PI       3.14159265358979323846

/* One axis of a resize: outputs [begin, end) of `out`, which read inputs [lo, hi) of `in`. */
typedef struct axis {
    size_t in, out, begin, end, lo, hi;
    tacit_filter filter;
    bool coarse;      /* torch's weights */
    tacit_taps *taps; /* end - begin, their `first` counted from lo */
    int16_t *weights;
    size_t taps_room, weights_room; /* bytes */
} axis;

struct tacit_preprocessor {
    tacit_recipe recipe;
    const tacit_kernels *kernels;
    tacit_normalize normalize;
    axis x, y;
    uint8_t *scratch;
    size_t scratch_room;
    tacit_resize_float floats;
};

/* Where a picture goes: floats in planes through `normalize`, or bytes where that is NULL. */
typedef struct target {
    const tacit_normalize *normalize;
    float *planar;
    uint8_t *rgb;
    size_t width, height; /* of the whole target          */
    size_t left, top;     /* where the picture lies in it */
} target;

typedef struct job {
    const tacit_kernels *kernels;
    const uint8_t *rgb;
    const axis *x, *y;
    bool vertical_first;
    target to;
    uint8_t *middle, *workers; /* between the passes; scratch of the threads */
    size_t middle_stride, worker_size, columns_size, sums_size;
} job;

/* Weights ------------------------------------------------------------------------------------- */

static double bilinear(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

/* Keys 1981, eq. 4, with a = -1/2. */
static double bicubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1)
        return ((a + 2) * x - (a + 3)) * x * x + 1;
    return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

static double sinc(double x)
{
    return x == 0 ? 1 : sin(x * PI) / (x * PI);
}

static double lanczos(double x)
{
    return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
}

static const struct {
    double (*f)(double);
    double support;
} filters[] = {
    [TACIT_FILTER_BILINEAR] = { bilinear, 1 },
    [TACIT_FILTER_BICUBIC] = { bicubic, 2 },
    [TACIT_FILTER_LANCZOS] = { lanczos, 3 },
};

/* The inputs of one output and their weights, which sum to 1; w has room for all of them. */
static void weigh(const axis *a, size_t i, size_t *first, size_t *count, double *w)
{
    if (a->in == a->out) {
        *first = i;
        *count = 1;
        w[0] = 1;
        return;
    }
    /* Pillow holds the box in single precision, which shows beyond 2^24 pixels. */
    double scale = (double)(float)a->in / (double)a->out;
    double wide = scale < 1 ? 1 : scale;
    double support = filters[a->filter].support * wide, inverse = 1 / wide;
    double centre = ((double)i + 0.5) * scale;
    double from = centre - support + 0.5, to = centre + support + 0.5;
    size_t lo = from < 0 ? 0 : (size_t)from, hi = (size_t)to;
    if (hi > a->in)
        hi = a->in;
    double sum = 0;
    for (size_t j = lo; j < hi; j++) {
        w[j - lo] = filters[a->filter].f(((double)j - centre + 0.5) * inverse);
        sum += w[j - lo];
    }
    for (size_t j = lo; j < hi && sum != 0; j++)
        w[j - lo] /= sum;
    *first = lo;
    *count = hi - lo;
}

/* The most inputs that an output can have. */
static size_t most_taps(const axis *a)
{
    double scale = (double)(float)a->in / (double)a->out;
    return 2 * (size_t)ceil(filters[a->filter].support * (scale < 1 ? 1 : scale)) + 2;
}

/* Bits of torch's weights for a uint8 tensor: as many as let the largest of all outputs fit 16
 * (aten/src/ATen/native/cpu/UpSampleKernel.cpp, compute_index_ranges_int16_weights). */
static int coarse_bits(const axis *a, double *w)
{
    double most = 0;
    for (size_t i = 0; i < a->out; i++) {
        size_t first, count;
        weigh(a, i, &first, &count, w);
        for (size_t j = 0; j < count; j++)
            most = w[j] > most ? w[j] : most;
    }
    int bits = 0;
    while (bits < 22 && (int)(0.5 + most * (1 << (bits + 1))) < 1 << 15)
        bits++;
    return bits;
}

/* Makes the taps of outputs [begin, end). Nothing is done where they are there already. */
static bool axis_plan(axis *a, size_t in, size_t out, size_t begin, size_t end, tacit_filter filter,
                      bool coarse)
{
    if (a->in == in && a->out == out && a->begin == begin && a->end == end && a->filter == filter &&
        a->coarse == coarse)
        return true;
    a->in = 0;
    axis plan = *a;
    plan.in = in;
    plan.out = out;
    plan.begin = begin;
    plan.end = end;
    plan.filter = filter;
    plan.coarse = coarse;
    size_t pairs = most_taps(&plan) / 2, weights_size, taps_size, total;
    /* The weights of all outputs, then one output's in double. */
    if (!tacit_mul_size(end - begin, sizeof(tacit_taps), &taps_size) ||
        !tacit_mul_size(end - begin, pairs, &weights_size) ||
        !tacit_add_size(weights_size, 2 * pairs, &total) ||
        !tacit_mul_size(total, 4 * sizeof(int16_t), &total) ||
        !(plan.taps = tacit_renew(plan.taps, &plan.taps_room, taps_size)) ||
        !(plan.weights = tacit_renew(plan.weights, &plan.weights_room, total))) {
        *a = plan;
        a->in = 0;
        return false;
    }
    int16_t *k = plan.weights;
    double *w = (double *)(void *)(plan.weights + 4 * weights_size);
    int bits = coarse ? coarse_bits(&plan, w) : 22;
    for (size_t i = begin; i < end; i++) {
        size_t first, count;
        weigh(&plan, i, &first, &count, w);
        int32_t fixed;
        /* Weights that round to 0 add nothing. */
#define FIXED(j)                                                                                   \
    (fixed = (int32_t)(w[j] * (1 << bits) + (w[j] < 0 ? -0.5 : 0.5)) * (1 << (22 - bits)))
        size_t skip = 0;
        while (skip + 1 < count && FIXED(skip) == 0)
            skip++;
        while (count - 1 > skip && FIXED(count - 1) == 0)
            count--;
        count -= skip;
        plan.taps[i - begin] = (tacit_taps){ first + skip, count, k };
        for (size_t j = 0; j < count; j += 2, k += 4) {
            int32_t k0 = FIXED(skip + j), k1 = j + 1 < count ? FIXED(skip + j + 1) : 0;
            k[0] = (int16_t)(k0 >> 11);
            k[1] = (int16_t)(k1 >> 11);
            k[2] = (int16_t)(k0 & 2047);
            k[3] = (int16_t)(k1 & 2047);
        }
#undef FIXED
    }
    plan.lo = SIZE_MAX;
    plan.hi = 0;
    for (size_t i = 0; i < end - begin; i++) {
        const tacit_taps *t = &plan.taps[i];
        if (t->first < plan.lo)
            plan.lo = t->first;
        if (t->first + t->count > plan.hi)
            plan.hi = t->first + t->count;
    }
    for (size_t i = 0; i < end - begin; i++)
        plan.taps[i].first -= plan.lo;
    *a = plan;
    return true;
}

static void axis_free(axis *a)
{
    tacit_free(a->taps);
    tacit_free(a->weights);
}

/* Passes -------------------------------------------------------------------------------------- */

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Up to BAND rows through the horizontal pass. src points to input x->lo of the first of them. */
static void horizontal(const job *j, unsigned worker, size_t rows, const uint8_t *src, size_t lds,
                       uint8_t *dst, size_t ldd)
{
    const tacit_kernels *k = j->kernels;
    size_t in = j->x->hi - j->x->lo, out = j->x->end - j->x->begin;
    uint8_t *columns = j->workers + worker * j->worker_size; /* (in, 3, rows)  */
    uint8_t *sums = columns + j->columns_size;               /* (out, 3, rows) */
    k->transpose_u8(rows, 3 * in, src, lds, columns, rows);
    k->resample_u8(out, j->x->taps, 3 * rows, columns, 3 * rows, sums, 3 * rows);
    if (j->to.normalize)
        for (size_t c = 0; c < 3; c++)
            k->transpose_u8(out, rows, sums + c * rows, 3 * rows, dst + c * out, ldd);
    else
        k->transpose_u8(3 * out, rows, sums, rows, dst, ldd);
}

/* One row of planes to its place among the floats. */
static void finish(const job *j, size_t row, const uint8_t *planes)
{
    const target *to = &j->to;
    size_t n = j->x->end - j->x->begin;
    float *dst = to->planar + (to->top + row) * to->width + to->left;
    j->kernels->normalize_u8(n, planes, n, to->normalize, dst, to->width * to->height);
}

static uint8_t *rgb_row(const job *j, size_t row)
{
    return j->to.rgb + ((j->to.top + row) * j->to.width + j->to.left) * 3;
}

static const uint8_t *source(const job *j, size_t row)
{
    return j->rgb + ((j->y->lo + row) * j->x->in + j->x->lo) * 3;
}

/* The scratch that one row, or one band of rows, of the target's bytes waits in. */
static uint8_t *waiting(const job *j, unsigned worker)
{
    return j->workers + worker * j->worker_size + j->columns_size + j->sums_size;
}

/* Horizontal first: bands of the rows that the vertical pass reads, into the middle. */
static void first_horizontal(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t row = chunk * BAND, rows = smaller(BAND, j->y->hi - j->y->lo - row);
    horizontal(j, worker, rows, source(j, row), 3 * j->x->in, j->middle + row * j->middle_stride,
               j->middle_stride);
}

static void then_vertical(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t n = 3 * (j->x->end - j->x->begin);
    size_t last = smaller((chunk + 1) * SLICE, j->y->end - j->y->begin);
    for (size_t row = chunk * SLICE; row < last; row++) {
        uint8_t *dst = j->to.normalize ? waiting(j, worker) : rgb_row(j, row);
        j->kernels->resample_u8(1, j->y->taps + row, n, j->middle, j->middle_stride, dst, n);
        if (j->to.normalize)
            finish(j, row, dst);
    }
}

/* Vertical first: the columns that the horizontal pass reads. */
static void first_vertical(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    (void)worker;
    size_t row = chunk * SLICE, rows = smaller(SLICE, j->y->end - j->y->begin - row);
    j->kernels->resample_u8(rows, j->y->taps + row, 3 * (j->x->hi - j->x->lo), source(j, 0),
                            3 * j->x->in, j->middle + row * j->middle_stride, j->middle_stride);
}

static void then_horizontal(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t n = 3 * (j->x->end - j->x->begin);
    size_t row = chunk * BAND, rows = smaller(BAND, j->y->end - j->y->begin - row);
    uint8_t *dst = j->to.normalize ? waiting(j, worker) : rgb_row(j, row);
    size_t ldd = j->to.normalize ? n : 3 * j->to.width;
    horizontal(j, worker, rows, j->middle + row * j->middle_stride, j->middle_stride, dst, ldd);
    for (size_t i = 0; i < rows && j->to.normalize; i++)
        finish(j, row + i, dst + i * n);
}

static size_t chunks_of(size_t n, size_t chunk)
{
    return (n + chunk - 1) / chunk;
}

/* Both passes of a job whose axes, picture and target are set. */
static tacit_status run(job *j, bool thirteen, uint8_t **scratch, size_t *room, tacit_pool *pool,
                        tacit_err *err)
{
    const axis *x = j->x, *y = j->y;
    size_t in_rows = y->hi - y->lo, out_rows = y->end - y->begin;
    size_t in_cols = x->hi - x->lo, out_cols = x->end - x->begin;
    /* Pillow 13 goes by what each pass takes away, and lets the height go first only if it shrinks.
     */
    j->vertical_first = thirteen && y->out < y->in &&
                        (int64_t)(y->in - y->out) > 2 * ((int64_t)x->in - (int64_t)x->out);
    size_t middle_rows = j->vertical_first ? out_rows : in_rows;
    size_t band = smaller(BAND, middle_rows), waiting_rows = j->vertical_first ? band : 1;
    j->middle_stride = 3 * (j->vertical_first ? in_cols : out_cols);
    size_t middle_size = 0, waiting_size = 0, total = 0, workers;
    if (!tacit_arena_plan(&middle_size, middle_rows, j->middle_stride) ||
        !tacit_arena_plan(&j->columns_size, band, 3 * in_cols) ||
        !tacit_arena_plan(&j->sums_size, band, 3 * out_cols) ||
        !tacit_arena_plan(&waiting_size, waiting_rows, 3 * out_cols) ||
        !tacit_add_size(j->columns_size, j->sums_size, &j->worker_size) ||
        !tacit_add_size(j->worker_size, waiting_size, &j->worker_size) ||
        !tacit_mul_size(tacit_pool_threads(pool), j->worker_size, &workers) ||
        !tacit_add_size(middle_size, workers, &total) ||
        !(*scratch = tacit_renew(*scratch, room, total)))
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for resizing %zu x %zu to %zu x %zu",
                          x->in, y->in, x->out, y->out);
    j->middle = *scratch;
    j->workers = *scratch + middle_size;
    if (j->vertical_first) {
        tacit_parallel_for(pool, chunks_of(out_rows, SLICE), first_vertical, j);
        tacit_parallel_for(pool, chunks_of(out_rows, BAND), then_horizontal, j);
    } else {
        tacit_parallel_for(pool, chunks_of(in_rows, BAND), first_horizontal, j);
        tacit_parallel_for(pool, chunks_of(out_rows, SLICE), then_vertical, j);
    }
    return TACIT_OK;
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
                               size_t height, target to, tacit_pool *pool, tacit_err *err)
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
    if (r->resampler == TACIT_RESAMPLER_TENSOR)
        return tacit_resize_float_run(
            &pre->floats, pre->kernels, rgb, (tacit_span){ width, w, x0, x1 },
            (tacit_span){ height, h, y0, y1 }, r->filter, r->mean, r->std,
            to.planar + to.top * to.width + to.left, to.width, to.width * to.height, pool, err);
    bool u8 = r->resampler == TACIT_RESAMPLER_TENSOR_U8;
    if (!axis_plan(&pre->x, width, w, x0, x1, r->filter, u8) ||
        !axis_plan(&pre->y, height, h, y0, y1, r->filter, u8))
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for resizing %zu x %zu to %zu x %zu",
                          width, height, w, h);
    job j = { .kernels = pre->kernels, .rgb = rgb, .x = &pre->x, .y = &pre->y, .to = to };
    return run(&j, r->pillow >= 13 && !u8, &pre->scratch, &pre->scratch_room, pool, err);
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
    axis_free(&pre->x);
    axis_free(&pre->y);
    tacit_resize_float_close(&pre->floats);
    tacit_free(pre->scratch);
    tacit_free(pre);
}

tacit_status tacit_preprocess(tacit_preprocessor *pre, const uint8_t *rgb, size_t width,
                              size_t height, float *planar, tacit_pool *pool, tacit_err *err)
{
    target to = { .normalize = &pre->normalize, .planar = planar };
    return preprocess(pre, rgb, width, height, to, pool, err);
}

tacit_status tacit_preprocess_rgb8(tacit_preprocessor *pre, const uint8_t *rgb, size_t width,
                                   size_t height, uint8_t *out, tacit_pool *pool, tacit_err *err)
{
    if (pre->recipe.resampler == TACIT_RESAMPLER_TENSOR)
        return tacit_fail(err, TACIT_EINVAL, "a float tensor has no picture of bytes");
    return preprocess(pre, rgb, width, height, (target){ .rgb = out }, pool, err);
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
    axis x = { 0 }, y = { 0 };
    uint8_t *scratch = NULL;
    size_t room = 0;
    if (axis_plan(&x, width, out_width, 0, out_width, filter, false) &&
        axis_plan(&y, height, out_height, 0, out_height, filter, false)) {
        target to = { .rgb = out, .width = out_width, .height = out_height };
        job j = { .kernels = kernels, .rgb = rgb, .x = &x, .y = &y, .to = to };
        st = run(&j, pillow >= 13, &scratch, &room, pool, err);
    } else
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for resizing %zu x %zu to %zu x %zu",
                        width, height, out_width, out_height);
    axis_free(&x);
    axis_free(&y);
    tacit_free(scratch);
    return st;
}
