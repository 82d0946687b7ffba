/* resnet_int8.c - what of a ResNet is different in 8 bits. See resnet_forward.h.
 *
 * Between bottlenecks maps are bytes with a scale for each pixel: a quarter of the memory to move.
 * 3 x 3 convolutions of stride 1 go by Winograd's tiles of 2 x 2, transformed in floats and then
 * rounded: 4 of 9 products, for some of the precision (`tacit drift` tells both's).
 */
#include "raster.h"
#include "resnet_forward.h"

#include <string.h>

/* Tiles of a chunk, and its channels; tiles of a chunk that only transforms. */
#define TILES       56
#define LEAST_TILES 14
#define CHANNELS    64
#define ROUND_TILES 8
/* Windows of the stem that are gathered at once: in the first-level cache. Rows of a chunk of what
 * it gives. */
#define WINDOWS     112
#define STRIP       4
#define STRIP_READS (2 * STRIP + 2) /* of a pooled map, one of them not read */
/* Floats and rows of a chunk that computes whole pixels and rounds them: in the second-level cache.
 */
#define PIXEL_FLOATS 57344
#define PIXEL_ROWS   112
#define LEAST_ROWS   14
/* Rows of the image that go from planes to pixels. */
#define ROWS 16

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Tiles --------------------------------------------------------------------------------------- */

typedef struct tiles_job {
    const tacit__forward *f;
    const tacit__layer *l;
    const float *x;
    float *y;
    size_t count, step, steps; /* tiles: all, of a chunk; chunks of them */
    tacit_epilogue epilogue;
    tacit_rounded rounded;
} tiles_job;

static size_t tile_ld(const tacit__layer *l)
{
    return tacit__resnet_ld(l->shape.channels);
}

size_t tacit__tiles8_work(const tacit__layer *l)
{
    return tacit__layer_products(l) * max_size(tile_ld(l) + 1, TILES * CHANNELS);
}

/* Bytes from one rounded tile to the next, whose rows follow one another: an odd number of lines,
 * so that the same product's rows fall into all sets of the cache. */
size_t tacit__tiles8_bytes(const tacit__layer *l)
{
    size_t ld = tacit_rounded_ld(TACIT_PRECISION_INT8, l->shape.channels);
    return tacit__layer_products(l) * ld + 64;
}

/* Scales lie product by product. */
static void round_tiles(const tiles_job *j, size_t first, size_t count, float *work)
{
    const tacit__layer *l = j->l;
    const tacit_rounded *to = &j->rounded;
    size_t ld = tile_ld(l), products = tacit__layer_products(l);
    float *scale = work + products * ld;
    for (size_t t = first; t < first + count; t++) {
        j->f->k->winograd_input_f32(&l->shape, l->side, t, 1, j->x, work, ld, ld);
        j->f->k->quantise_u8(products, l->shape.channels, work, ld, to->zero,
                             (uint8_t *)to->rows + t * tacit__tiles8_bytes(l), to->ld, scale);
        for (size_t p = 0; p < products; p++)
            to->scale[p * j->count + t] = scale[p];
    }
}

static void round_tiles_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const tiles_job *j = ctx;
    size_t first = chunk * ROUND_TILES;
    round_tiles(j, first, min_size(ROUND_TILES, j->count - first),
                j->f->work + worker * j->f->work_size);
}

/* A range of tiles and of channels: their products and outputs; where it has all channels, the
 * transformed inputs too. */
static void tiles_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const tiles_job *j = ctx;
    const tacit__layer *l = j->l;
    const tacit_linear *w = &l->linear;
    const tacit_kernels *k = j->f->k;
    size_t first = chunk % j->steps * j->step, column = chunk / j->steps * CHANNELS;
    size_t tiles = min_size(j->step, j->count - first), in = l->shape.channels;
    size_t n = min_size(CHANNELS, w->out - column);
    size_t products = tacit__layer_products(l), tile = tacit__tiles8_bytes(l);
    float *work = j->f->work + worker * j->f->work_size;
    const uint8_t *rows = j->rounded.rows;
    if (n == w->out)
        round_tiles(j, first, tiles, work);
    for (size_t p = 0; p < products; p++) {
        size_t output = p * tacit__layer_rows(l, k) + column;
        k->gemm_u8s8(tiles, n, in, rows + first * tile + p * j->rounded.ld, tile,
                     j->rounded.scale + p * j->count + first, j->rounded.zero,
                     w->packed8 + output * 4 * TACIT_INT8_GROUPS(in), w->scale8 + output,
                     w->minus8 + output, work + p * tiles * n, n, NULL);
    }
    tacit__finish_tiles(j->f, l, first, tiles, column, n, work, j->y, &j->epilogue);
}

void tacit__tiles8(const tacit__forward *f, const tacit__layer *l, size_t images, const float *x,
                   float *y, const tacit_epilogue *epilogue)
{
    size_t across = (l->linear.out + CHANNELS - 1) / CHANNELS;
    tiles_job j = { .f = f, .l = l, .x = x, .y = y, .epilogue = *epilogue, .rounded = f->rounded };
    j.rounded.ld = tacit_rounded_ld(l->linear.precision, l->shape.channels);
    j.rounded.zero = TACIT_INT8_MIDDLE;
    j.count = images * tacit__layer_tiles(l);
    j.step = tacit_chunk_for(f->pool, j.count, TILES, LEAST_TILES, across);
    j.steps = (j.count + j.step - 1) / j.step;
    if (across > 1)
        tacit_parallel_for(f->pool, (j.count + ROUND_TILES - 1) / ROUND_TILES, round_tiles_chunk,
                           &j);
    tacit_parallel_for(f->pool, j.steps * across, tiles_chunk, &j);
}

/* The stem ------------------------------------------------------------------------------------ */

typedef struct stem8 {
    const tacit__forward *f;
    const tacit__layer *l;
    const tacit_conv *pool; /* or NULL */
    uint8_t *planes, *pixels;
    float scale;
    size_t step; /* rows of the result in a chunk */
    const tacit__map *y;
} stem8;

/* For WINDOWS windows, their scales and their bytes. */
static size_t windows_work(const tacit__layer *l)
{
    return WINDOWS * (1 + tacit_rounded_ld(TACIT_PRECISION_INT8, l->linear.in) / sizeof(float));
}

/* A few rows of the image, from planes to pixels. */
static void pixels_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const stem8 *s = ctx;
    size_t width = s->l->shape.width, plane = s->l->shape.height * width;
    size_t begin = chunk * ROWS * width, end = min_size(begin + ROWS * width, plane);
    for (size_t i = begin; i < end; i++)
        for (size_t channel = 0; channel < 3; channel++)
            s->pixels[3 * i + channel] = s->planes[channel * plane + i];
}

/* Windows [first, end), gathered and multiplied, to y. */
static void convolve_windows(const stem8 *s, size_t first, size_t end, float *work, float *y)
{
    const tacit_linear *w = &s->l->linear;
    size_t ld = tacit_rounded_ld(w->precision, w->in), ldy = tacit__resnet_ld(w->out);
    float *scale = work;
    uint8_t *rows = (uint8_t *)(scale + WINDOWS);
    const tacit_epilogue e = { .bias = w->bias, .relu = true };
    for (size_t i = 0; i < WINDOWS; i++)
        scale[i] = s->scale;
    for (size_t m; first < end; first += m, y += m * ldy) {
        m = min_size(WINDOWS, end - first);
        s->f->k->conv_windows_u8(&s->l->shape, first, m, TACIT_INT8_MIDDLE, s->pixels, rows, ld);
        s->f->k->gemm_u8s8(m, w->out, w->in, rows, ld, scale, TACIT_INT8_MIDDLE, w->packed8,
                           w->scale8, w->minus8, y, ldy, &e);
    }
}

/* Rows [first, end) of what is pooled from the convolution, to y. What they read lies in `rows`,
 * behind a row that is not read where they are not the first. */
static void pool_strip(const stem8 *s, size_t first, size_t end, float *work, float *rows, float *y)
{
    const tacit_conv *c = &s->l->shape;
    size_t ld = tacit__resnet_ld(s->l->linear.out), above = first ? 1 : 0;
    size_t base = 2 * (first - above), to = min_size(2 * end, c->rows);
    tacit_conv pool = *s->pool;
    pool.height = to - base;
    pool.rows = end - first + above;
    convolve_windows(s, (base + above) * c->columns, to * c->columns, work,
                     rows + above * c->columns * ld);
    s->f->k->maxpool_f32(&pool, above * pool.columns, (end - first) * pool.columns, rows, y, ld);
}

/* A few rows of what the stem gives. */
static void stem_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const stem8 *s = ctx;
    const tacit_conv *out = s->pool ? s->pool : &s->l->shape;
    size_t ld = tacit__resnet_ld(s->l->linear.out), row = s->l->shape.columns * ld;
    size_t first = chunk * s->step, end = min_size(first + s->step, out->rows);
    size_t pixel = first * out->columns;
    float *work = s->f->work + worker * s->f->work_size, *rows = work + windows_work(s->l);
    float *y = s->y->bytes.rows ? rows + STRIP_READS * row : s->y->values + pixel * ld;
    if (s->pool)
        pool_strip(s, first, end, work, rows, y);
    else
        convolve_windows(s, pixel, end * out->columns, work, y);
    if (s->y->bytes.rows)
        tacit_round_rows(TACIT_PRECISION_INT8, s->f->k, pixel, (end - first) * out->columns,
                         s->l->linear.out, y, ld, &s->y->bytes);
}

/* In 8 bits an image has one scale: each of its values would else be rounded for every window. */
void tacit__stem8(const tacit__forward *f, const tacit__layer *l, const float *image,
                  const tacit_conv *pool, const tacit__map *y)
{
    size_t values = 3 * tacit__pixels_in(l), rows = pool ? pool->rows : l->shape.rows;
    stem8 s = { .f = f, .l = l, .pool = pool, .y = y };
    s.step = tacit_chunk_for(f->pool, rows, STRIP, 1, 1);
    s.planes = (uint8_t *)f->in[0].values; /* floats would take as much as four images of bytes */
    s.pixels = s.planes + 2 * values;
    f->k->quantise_u8(1, values, image, values, TACIT_INT8_MIDDLE, s.planes, values, &s.scale);
    tacit_parallel_for(f->pool, (l->shape.height + ROWS - 1) / ROWS, pixels_chunk, &s);
    tacit_parallel_for(f->pool, (rows + s.step - 1) / s.step, stem_chunk, &s);
}

/* With a strip of the convolution, and what is pooled from it. */
size_t tacit__stem8_work(const tacit__layer *l)
{
    size_t row = l->shape.columns * tacit__resnet_ld(l->linear.out);
    return windows_work(l) + (STRIP_READS + STRIP) * row;
}

/* Blocks -------------------------------------------------------------------------------------- */

/* Rows of a chunk of whole pixels. */
static size_t pixel_rows(size_t channels)
{
    return max_size(min_size(PIXEL_FLOATS / channels, PIXEL_ROWS), LEAST_ROWS);
}

/* For each pixel what the block gives, what its shortcut gives, and what that reads. */
size_t tacit__block8_work(const tacit__residual *b)
{
    const tacit__layer *l = b->shortcut;
    size_t read = l ? tacit_rounded_ld(TACIT_PRECISION_INT8, l->linear.in) / sizeof(float) + 1 : 0;
    size_t out = b->conv[2]->linear.out;
    return pixel_rows(out) * (2 * tacit__resnet_ld(out) + read);
}

typedef struct bytes_job {
    const tacit__forward *f;
    const tacit__layer *l, *shortcut; /* shortcut: of the block, or NULL */
    size_t count, step;               /* pixels: all, of a chunk */
    const float *x;                   /* what l reads, to be rounded to `rounded` */
    tacit_rounded rounded, in, out;   /* in, out: of the block */
    tacit_epilogue epilogue;
} bytes_job;

/* The pixels of x that a 1 x 1 convolution reads for its outputs from `first` on. */
static void pick_pixels(const tacit_conv *c, const tacit_rounded *x, size_t first, size_t count,
                        const tacit_rounded *to)
{
    tacit_raster out = tacit_raster_at(first, c->rows, c->columns);
    for (size_t k = 0; k < count; k++, tacit_raster_next(&out)) {
        size_t row = out.image * c->height + out.row * c->stride;
        size_t at = row * c->width + out.column * c->stride;
        memcpy((char *)to->rows + k * to->ld, (const char *)x->rows + at * x->ld,
               4 * TACIT_INT8_GROUPS(c->channels));
        to->scale[k] = x->scale[at];
    }
}

static tacit_rounded rows_from(tacit_rounded r, size_t first)
{
    r.rows = (char *)r.rows + first * r.ld;
    r.scale += first;
    return r;
}

static void multiply_rows(const tacit_kernels *k, const tacit_linear *w, size_t rows,
                          const tacit_rounded *x, float *y, size_t ldy, const tacit_epilogue *e)
{
    k->gemm_u8s8(rows, w->out, w->in, x->rows, x->ld, x->scale, x->zero, w->packed8, w->scale8,
                 w->minus8, y, ldy, e);
}

/* What the shortcut gives for some pixels, to y; rows: room for what it reads. */
static void shortcut_rows(const bytes_job *j, size_t first, size_t m, float *rows, float *y)
{
    const tacit_linear *w = &j->shortcut->linear;
    const tacit_epilogue e = { .bias = w->bias };
    tacit_rounded x = rows_from(j->in, first);
    if (j->shortcut->shape.stride > 1) {
        x.scale = rows;
        x.rows = rows + j->step;
        pick_pixels(&j->shortcut->shape, &j->in, first, m, &x);
    }
    multiply_rows(j->f->k, w, m, &x, y, tacit__resnet_ld(w->out), &e);
}

/* All channels of some pixels: rounded, multiplied, rounded again. */
static void block_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const bytes_job *j = ctx;
    const tacit_linear *w = &j->l->linear;
    size_t first = chunk * j->step, m = min_size(j->step, j->count - first);
    size_t ldx = j->l->shape.ldx, ld = tacit__resnet_ld(w->out);
    float *y = j->f->work + worker * j->f->work_size, *beside = y + j->step * ld;
    tacit_epilogue e = j->epilogue;
    tacit_rounded x = rows_from(j->rounded, first);
    if (j->shortcut) {
        shortcut_rows(j, first, m, beside + j->step * ld, beside);
        e.residual = beside;
        e.ldr = ld;
    } else {
        e.residual8 += first * e.ldr;
        e.residual_scale += first;
    }
    tacit_round_rows(w->precision, j->f->k, first, m, w->in, j->x + first * ldx, ldx, &j->rounded);
    multiply_rows(j->f->k, w, m, &x, y, ld, &e);
    tacit_round_rows(w->precision, j->f->k, first, m, w->out, y, ld, &j->out);
}

static void shortcut_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const bytes_job *j = ctx;
    size_t first = chunk * j->step, m = min_size(j->step, j->count - first);
    shortcut_rows(j, first, m, j->f->work + worker * j->f->work_size,
                  j->f->between[2] + first * tacit__resnet_ld(j->shortcut->linear.out));
}

/* The end of a block: y = relu(1 x 1 convolution of x + the block's input, or its shortcut's), to
 * bytes, or floats where there are no bytes. */
static void finish_block(const tacit__forward *f, const tacit__residual *b, size_t images,
                         const float *x, const tacit_rounded *in, const tacit__map *y)
{
    const tacit__layer *l = b->conv[2];
    size_t ld = tacit__resnet_ld(l->linear.out);
    bytes_job j = { .f = f, .l = l, .shortcut = b->shortcut, .x = x };
    j.rounded = f->rounded;
    j.rounded.ld = tacit_rounded_ld(TACIT_PRECISION_INT8, l->linear.in);
    j.in = *in;
    j.out = y->bytes;
    j.epilogue = (tacit_epilogue){ .bias = l->linear.bias, .relu = true };
    if (!b->shortcut) {
        j.epilogue.residual8 = in->rows;
        j.epilogue.residual_scale = in->scale;
        j.epilogue.ldr = in->ld;
    }
    j.count = images * tacit__pixels_out(l);
    j.step = tacit_chunk_for(f->pool, j.count, pixel_rows(l->linear.out), LEAST_ROWS, 1);
    size_t chunks = (j.count + j.step - 1) / j.step;
    if (y->bytes.rows && chunks >= tacit_pool_threads(f->pool)) {
        tacit_parallel_for(f->pool, chunks, block_chunk, &j);
        return;
    }
    if (b->shortcut) {
        tacit_parallel_for(f->pool, chunks, shortcut_chunk, &j);
        j.epilogue.residual = f->between[2];
        j.epilogue.ldr = ld;
    }
    tacit_linear_forward(&l->linear, f->k, 0, j.count, x, l->shape.ldx, &j.rounded, y->values, ld,
                         &j.epilogue, f->pool);
    if (y->bytes.rows)
        tacit_round_map(TACIT_PRECISION_INT8, f->k, j.count, l->linear.out, y->values, ld,
                        &y->bytes, f->pool);
}

/* Between its convolutions maps are floats: rows of bytes have scales of their own, which windows
 * and tiles could not add up. */
void tacit__block8(const tacit__forward *f, const tacit__residual *b, size_t images,
                   const tacit_rounded *x, const tacit__map *y)
{
    const tacit__layer *l = b->conv[0];
    const tacit_epilogue e = { .relu = true };
    tacit_linear_forward(&l->linear, f->k, 0, images * tacit__pixels_out(l), NULL, 0, x,
                         f->between[0], tacit__resnet_ld(l->linear.out), &e, f->pool);
    tacit__resnet_convolve(f, b->conv[1], images, f->between[0], f->between[1], NULL, true);
    finish_block(f, b, images, f->between[1], x, y);
}
