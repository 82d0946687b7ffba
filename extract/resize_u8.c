/* resize_u8.c - see resize_u8.h.
 *
 * One pass of the resize is a table of taps: for each output the inputs it reads and their weights,
 * in fixed point with 22 bits (Pillow, libImaging/Resample.c; torch's uint8 path is the same with
 * coarser weights). What is computed is only what the spans keep, and that is exact, since an
 * output depends on nothing but its own taps. A pass that keeps its size has one tap of weight 1
 * and so needs no case of its own; a mirrored one has the taps of its outputs in reverse.
 *
 * Both passes are the same kernel, a weighted sum of rows: for the horizontal one a band of rows is
 * transposed first, so that a pixel's channels in all rows of the band are one contiguous row, and
 * the sums are transposed back. Towards planes they come back as planes, which needs no shuffles.
 * Work is cut by rows: first all bands of the first pass, then all of the second.
 *
 * Weights are double and come from +, *, / and, for Lanczos, sin() as Pillow's do.
 */
#include "resize_u8.h"

#include "mem.h"

#include <math.h>
#include <string.h>

#define BAND  64 /* rows that are transposed together: one cache line for each column */
#define SLICE 16 /* rows of a chunk of the vertical pass */
#define PI    3.14159265358979323846

typedef struct tacit__u8_axis axis;

typedef struct job {
    const tacit_kernels *kernels;
    const tacit_resize_source *from;
    const tacit_resize_target *to;
    const axis *x, *y;
    bool vertical_first;
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

/* Room for that many bytes of each, contents lost. */
static bool renew(axis *a, size_t taps, size_t weights)
{
    if (taps > a->taps_room || weights > a->weights_room)
        a->in = 0; /* no table any more */
    return (a->taps = tacit_renew(a->taps, &a->taps_room, taps)) &&
           (a->weights = tacit_renew(a->weights, &a->weights_room, weights));
}

/* Makes the taps of outputs [begin, end). Nothing is done where they are there already. */
static bool axis_plan(axis *a, tacit_span span, tacit_filter filter, bool coarse, bool mirrored)
{
    size_t begin = span.begin, end = span.end;
    if (a->in == span.in && a->out == span.out && a->begin == begin && a->end == end &&
        a->filter == filter && a->coarse == coarse && a->mirrored == mirrored)
        return true;
    axis plan = *a;
    plan.in = span.in;
    plan.out = span.out;
    plan.begin = begin;
    plan.end = end;
    plan.filter = filter;
    plan.coarse = coarse;
    plan.mirrored = mirrored;
    size_t pairs = most_taps(&plan) / 2, weights_size, taps_size, total;
    /* The weights of all outputs, then one output's in double. */
    a->in = 0;
    if (!tacit_mul_size(end - begin, sizeof(tacit_taps), &taps_size) ||
        !tacit_mul_size(end - begin, pairs, &weights_size) ||
        !tacit_add_size(weights_size, 2 * pairs, &total) ||
        !tacit_mul_size(total, 4 * sizeof(int16_t), &total) || !renew(a, taps_size, total))
        return false;
    plan.taps = a->taps;
    plan.weights = a->weights;
    plan.taps_room = a->taps_room;
    plan.weights_room = a->weights_room;
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
    for (size_t i = 0, j = end - begin; mirrored && i + 1 < j; i++) {
        tacit_taps taps = plan.taps[i];
        plan.taps[i] = plan.taps[--j];
        plan.taps[j] = taps;
    }
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
    if (j->to->normalize || j->to->planes)
        for (size_t c = 0; c < 3; c++)
            k->transpose_u8(out, rows, sums + c * rows, 3 * rows, dst + c * out, ldd);
    else
        k->transpose_u8(3 * out, rows, sums, rows, dst, ldd);
}

/* One row of planes to its place in the target. */
static void finish(const job *j, size_t row, const uint8_t *planes)
{
    const tacit_resize_target *to = j->to;
    size_t n = j->x->end - j->x->begin, plane = to->width * to->height;
    size_t at = (to->top + row) * to->width + to->left;
    if (to->normalize)
        j->kernels->normalize_u8(n, planes, n, to->normalize, to->planar + at, plane);
    else
        for (size_t c = 0; c < 3; c++)
            memcpy(to->planes + c * plane + at, planes + c * n, n);
}

static uint8_t *rgb_row(const job *j, size_t row)
{
    return j->to->rgb + ((j->to->top + row) * j->to->width + j->to->left) * 3;
}

static const uint8_t *source(const job *j, size_t row)
{
    return j->from->rgb + (j->y->lo + row) * j->from->stride + j->x->lo * 3;
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
    horizontal(j, worker, rows, source(j, row), j->from->stride, j->middle + row * j->middle_stride,
               j->middle_stride);
}

static void then_vertical(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t n = 3 * (j->x->end - j->x->begin);
    size_t last = smaller((chunk + 1) * SLICE, j->y->end - j->y->begin);
    bool rgb = !j->to->normalize && !j->to->planes;
    for (size_t row = chunk * SLICE; row < last; row++) {
        uint8_t *dst = rgb ? rgb_row(j, row) : waiting(j, worker);
        j->kernels->resample_u8(1, j->y->taps + row, n, j->middle, j->middle_stride, dst, n);
        if (!rgb)
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
                            j->from->stride, j->middle + row * j->middle_stride, j->middle_stride);
}

static void then_horizontal(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t n = 3 * (j->x->end - j->x->begin);
    size_t row = chunk * BAND, rows = smaller(BAND, j->y->end - j->y->begin - row);
    bool rgb = !j->to->normalize && !j->to->planes;
    uint8_t *dst = rgb ? rgb_row(j, row) : waiting(j, worker);
    size_t ldd = rgb ? 3 * j->to->width : n;
    horizontal(j, worker, rows, j->middle + row * j->middle_stride, j->middle_stride, dst, ldd);
    for (size_t i = 0; i < rows && !rgb; i++)
        finish(j, row + i, dst + i * n);
}

static size_t chunks_of(size_t n, size_t chunk)
{
    return (n + chunk - 1) / chunk;
}

static tacit_status no_memory(tacit_span x, tacit_span y, tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "out of memory for resizing %zu x %zu to %zu x %zu", x.in,
                      y.in, x.out, y.out);
}

tacit_status tacit_resize_u8_run(tacit_resize_u8 *resize, const tacit_kernels *kernels,
                                 const tacit_resize_way *way, const tacit_resize_source *from,
                                 tacit_span xs, tacit_span ys, const tacit_resize_target *to,
                                 tacit_pool *pool, tacit_err *err)
{
    if (!axis_plan(&resize->x, xs, way->filter, way->coarse, way->mirrored) ||
        !axis_plan(&resize->y, ys, way->filter, way->coarse, false))
        return no_memory(xs, ys, err);
    const axis *x = &resize->x, *y = &resize->y;
    job j = { .kernels = kernels, .from = from, .to = to, .x = x, .y = y };
    size_t in_rows = y->hi - y->lo, out_rows = y->end - y->begin;
    size_t in_cols = x->hi - x->lo, out_cols = x->end - x->begin;
    /* Pillow 13 goes by what each pass takes away, and lets the height go first only if it shrinks.
     */
    j.vertical_first = way->pillow >= 13 && !way->coarse && y->out < y->in &&
                       (int64_t)(y->in - y->out) > 2 * ((int64_t)x->in - (int64_t)x->out);
    size_t middle_rows = j.vertical_first ? out_rows : in_rows;
    size_t band = smaller(BAND, middle_rows), waiting_rows = j.vertical_first ? band : 1;
    j.middle_stride = 3 * (j.vertical_first ? in_cols : out_cols);
    size_t middle_size = 0, waiting_size = 0, total = 0, workers;
    if (!tacit_arena_plan(&middle_size, middle_rows, j.middle_stride) ||
        !tacit_arena_plan(&j.columns_size, band, 3 * in_cols) ||
        !tacit_arena_plan(&j.sums_size, band, 3 * out_cols) ||
        !tacit_arena_plan(&waiting_size, waiting_rows, 3 * out_cols) ||
        !tacit_add_size(j.columns_size, j.sums_size, &j.worker_size) ||
        !tacit_add_size(j.worker_size, waiting_size, &j.worker_size) ||
        !tacit_mul_size(tacit_pool_threads(pool), j.worker_size, &workers) ||
        !tacit_add_size(middle_size, workers, &total) ||
        !(resize->scratch = tacit_renew(resize->scratch, &resize->scratch_room, total)))
        return no_memory(xs, ys, err);
    j.middle = resize->scratch;
    j.workers = resize->scratch + middle_size;
    if (j.vertical_first) {
        tacit_parallel_for(pool, chunks_of(out_rows, SLICE), first_vertical, &j);
        tacit_parallel_for(pool, chunks_of(out_rows, BAND), then_horizontal, &j);
    } else {
        tacit_parallel_for(pool, chunks_of(in_rows, BAND), first_horizontal, &j);
        tacit_parallel_for(pool, chunks_of(out_rows, SLICE), then_vertical, &j);
    }
    return TACIT_OK;
}

/* Room for the tables of any axis of up to `in` inputs, as axis_plan takes it. */
static bool axis_reserve(axis *a, size_t in, size_t out, tacit_filter filter)
{
    axis plan = { .in = in, .out = out, .filter = filter };
    size_t pairs = most_taps(&plan) / 2, weights, taps;
    return tacit_mul_size(out, sizeof(tacit_taps), &taps) &&
           tacit_mul_size(out + 2, 4 * sizeof(int16_t), &weights) &&
           tacit_mul_size(weights, pairs, &weights) && renew(a, taps, weights);
}

tacit_status tacit_resize_u8_reserve(tacit_resize_u8 *resize, tacit_span x, tacit_span y,
                                     tacit_filter filter, tacit_err *err)
{
    size_t middle[2] = { 0 }, rest = 0, total;
    if (!axis_reserve(&resize->x, x.in, x.out, filter) ||
        !axis_reserve(&resize->y, y.in, y.out, filter) ||
        !tacit_arena_plan(&middle[0], y.in, 3 * x.out) ||
        !tacit_arena_plan(&middle[1], y.out, 3 * x.in) ||
        !tacit_arena_plan(&rest, BAND, 3 * x.in) || !tacit_arena_plan(&rest, BAND, 3 * x.out) ||
        !tacit_arena_plan(&rest, BAND, 3 * x.out) ||
        !tacit_add_size(middle[middle[0] < middle[1]], rest, &total) ||
        !(resize->scratch = tacit_renew(resize->scratch, &resize->scratch_room, total)))
        return no_memory(x, y, err);
    return TACIT_OK;
}

void tacit_resize_u8_close(tacit_resize_u8 *resize)
{
    axis_free(&resize->x);
    axis_free(&resize->y);
    tacit_free(resize->scratch);
}
