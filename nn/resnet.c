/* resnet.c - the forward pass of a ResNet. See resnet.h.
 *
 * Maps are rows of channels, one for each pixel, images one after the other. A stage takes as many
 * images together as give its products enough rows: one where maps are large, more where they are
 * small and the weights are what has to be moved. A later stage calls the ones before it for the
 * images that it takes next, so what lies between them stays in the cache.
 */
#include "resnet_forward.h"

#include <assert.h>
#include <string.h>

/* Outputs of a chunk: pixels and channels. */
#define PIXELS   112
#define CHANNELS 128
/* The least of them and of tiles, where threads would wait: two or one register tiles of rows. */
#define LEAST_PIXELS 28
#define LEAST_TILES  14
/* Tiles and channels of a chunk of Winograd's products: with 36 of them they take half a MiB. */
#define TILES         56
#define TILE_CHANNELS 64
/* Tiles of a chunk that only transforms. */
#define FORWARD_TILES 8
/* Windows of a chunk that gathers and rounds them. */
#define WINDOWS 14
/* Pixels of a stage that are taken together. */
#define TOGETHER 400
static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Chunks of Winograd's products: tiles, and channels. One that has all channels transforms its own
 * tiles. */
static size_t tile_target(const tacit__layer *l)
{
    return l->linear.out <= TILE_CHANNELS ? TILES / 4 : TILES;
}

static size_t tile_ld(const tacit__layer *l)
{
    return tacit__resnet_ld(l->shape.channels);
}

/* Sizes --------------------------------------------------------------------------------------- */

typedef struct map_need {
    size_t values, bytes, rows; /* floats; bytes, and rows of them, which have a scale each */
} map_need;

/* Floats of all maps and buffers, as far as the layers need them. What evens out chunks can take
 * more at a time of a smaller batch, so that sizes go by the most of any: they grow with the batch,
 * and room for one is room for all below it. */
typedef struct needs {
    size_t together[TACIT__STAGES], last, between[3], tiles, work, rounded, rows;
    map_need in[TACIT__STAGES], turn[2];
} needs;

static bool in_bytes(const tacit_resnet *r)
{
    return r->config.bottleneck && r->config.precision == TACIT_PRECISION_INT8;
}

static void need_bytes(map_need *n, size_t rows, size_t channels)
{
    n->rows = max_size(n->rows, rows);
    n->bytes = max_size(n->bytes, rows * tacit_rounded_ld(TACIT_PRECISION_INT8, channels));
}

static size_t map_size(const tacit__layer *l, size_t images)
{
    return images * tacit__pixels_out(l) * tacit__resnet_ld(l->linear.out);
}

static void need_layer(needs *n, const tacit__layer *l, size_t images)
{
    size_t tiles = l->side ? images * tacit__layer_tiles(l) : 0;
    size_t products = tacit__layer_products(l), channels = min_size(l->linear.out, TILE_CHANNELS);
    if (l->side && l->linear.precision == TACIT_PRECISION_INT8) {
        n->work = max_size(n->work, tacit__tiles8_work(l));
        n->rounded = max_size(n->rounded, tiles * tacit__tiles8_bytes(l));
        n->rows = max_size(n->rows, products * tiles);
    } else if (l->side) {
        size_t step = min_size(tile_target(l), tiles), ld = tile_ld(l);
        if (l->linear.out <= TILE_CHANNELS)
            n->work = max_size(n->work, products * step * (ld + channels));
        else {
            n->work = max_size(n->work, products * step * channels);
            n->tiles = max_size(n->tiles, products * tiles * ld);
        }
    } else if (l->linear.precision != TACIT_PRECISION_FP32) {
        size_t rows = images * tacit__pixels_out(l);
        n->work = max_size(n->work, WINDOWS * l->linear.in);
        n->rounded =
            max_size(n->rounded, rows * tacit_rounded_ld(l->linear.precision, l->linear.in));
        n->rows = max_size(n->rows, rows);
    } else {
        n->work = max_size(n->work, PIXELS * min_size(l->linear.in, TACIT_KC));
    }
}

/* The block that begins stage s, 1 to 4; past the last for 5. */
static size_t first_block(const tacit_resnet *r, size_t s)
{
    size_t first = 0;
    for (size_t i = 1; i < s; i++)
        first += r->config.blocks[i - 1];
    return first;
}

static needs needs_of(const tacit_resnet *r, size_t batch)
{
    needs n = { 0 };
    const tacit__layer *stem = &r->layers[0];
    size_t even = batch, above = batch;
    bool bytes = in_bytes(r);
    for (size_t s = TACIT__STAGES - 1; s > 0; s--) {
        const tacit__residual *b = &r->blocks[first_block(r, s)],
                              *end = &r->blocks[first_block(r, s + 1)];
        size_t pixels = tacit__pixels_out(b->conv[1]), t = max_size(TOGETHER / pixels, 1);
        even = n.together[s] = tacit_even_chunk(even, min_size(t, even));
        above = min_size(t, above);
        if (bytes)
            need_bytes(&n.in[s], above * tacit__pixels_in(b->conv[0]), b->conv[0]->shape.channels);
        if (!bytes)
            n.in[s].values = above * tacit__pixels_in(b->conv[0]) * b->conv[0]->shape.ldx;
        for (; b < end; b++) {
            const tacit__layer *final = b->conv[2] ? b->conv[2] : b->conv[1];
            n.turn[0].values = max_size(n.turn[0].values, map_size(final, above));
            if (bytes) {
                need_bytes(&n.turn[0], above * tacit__pixels_out(final), final->linear.out);
                n.work = max_size(n.work, tacit__block8_work(b));
            }
            n.between[0] = max_size(n.between[0], map_size(b->conv[0], above));
            if (b->conv[2])
                n.between[1] = max_size(n.between[1], map_size(b->conv[1], above));
            if (b->shortcut)
                n.between[2] = max_size(n.between[2], map_size(b->shortcut, above));
            for (size_t i = 0; i < 3; i++)
                if (b->conv[i])
                    need_layer(&n, b->conv[i], above);
            if (b->shortcut)
                need_layer(&n, b->shortcut, above);
        }
        if (s == TACIT__STAGES - 1)
            n.last = n.turn[0].values;
    }
    n.together[0] = 1;
    n.in[0].values = tacit__pixels_in(stem) * 3;
    n.turn[1] = n.turn[0];
    if (bytes) /* of floats one is enough, for what is not rounded at once */
        n.turn[1].values = 0;
    if (stem->linear.precision == TACIT_PRECISION_INT8) {
        n.work = max_size(n.work, tacit__stem8_work(stem));
    } else {
        n.turn[0].values = max_size(n.turn[0].values, map_size(stem, 1));
        need_layer(&n, stem, 1);
    }
    return n;
}

static bool plan_map(const map_need *n, size_t *total, tacit__map *m, tacit_arena *arena)
{
    if (!arena)
        return tacit_arena_plan(total, n->values, sizeof(float)) &&
               tacit_arena_plan(total, n->bytes, 1) &&
               tacit_arena_plan(total, n->rows, sizeof(float));
    float *values = tacit_arena_take(arena, n->values, sizeof(float));
    char *rows = tacit_arena_take(arena, n->bytes, 1);
    m->values = n->values ? values : NULL;
    m->bytes.rows = n->bytes ? rows : NULL;
    m->bytes.scale = tacit_arena_take(arena, n->rows, sizeof(float));
    return true;
}

/* Adds up, or hands out where arena is given, what a forward needs. */
static bool plan(const needs *n, const tacit_pool *pool, size_t *total, tacit__forward *f,
                 tacit_arena *arena)
{
    size_t work = (n->work + 15) / 16 * 16, all;
    if (!tacit_mul_size(work, tacit_pool_threads(pool), &all))
        return false;
    if (!arena) {
        bool fits = tacit_arena_plan(total, n->last, sizeof(float)) &&
                    tacit_arena_plan(total, n->tiles, sizeof(float)) &&
                    tacit_arena_plan(total, all, sizeof(float)) &&
                    tacit_arena_plan(total, n->rounded, 1) &&
                    tacit_arena_plan(total, n->rows, sizeof(float));
        for (size_t i = 0; i < TACIT__STAGES; i++)
            fits = fits && plan_map(&n->in[i], total, NULL, NULL);
        for (size_t i = 0; i < 2; i++)
            fits = fits && plan_map(&n->turn[i], total, NULL, NULL);
        for (size_t i = 0; i < 3; i++)
            fits = fits && tacit_arena_plan(total, n->between[i], sizeof(float));
        return fits;
    }
    f->last = tacit_arena_take(arena, n->last, sizeof(float));
    f->tiles = tacit_arena_take(arena, n->tiles, sizeof(float));
    f->work = tacit_arena_take(arena, all, sizeof(float));
    f->work_size = work;
    f->rounded.rows = tacit_arena_take(arena, n->rounded, 1);
    f->rounded.scale = tacit_arena_take(arena, n->rows, sizeof(float));
    for (size_t i = 0; i < TACIT__STAGES; i++)
        plan_map(&n->in[i], NULL, &f->in[i], arena);
    for (size_t i = 0; i < 2; i++)
        plan_map(&n->turn[i], NULL, &f->turn[i], arena);
    for (size_t i = 0; i < 3; i++)
        f->between[i] = tacit_arena_take(arena, n->between[i], sizeof(float));
    memcpy(f->together, n->together, sizeof f->together);
    return true;
}

size_t tacit_resnet_scratch(const tacit_resnet *r, size_t batch, const tacit_pool *pool)
{
    size_t total = 0;
    needs n = needs_of(r, batch ? batch : 1);
    return plan(&n, pool, &total, NULL, NULL) ? total : 0;
}

/* Convolutions -------------------------------------------------------------------------------- */

typedef struct job {
    const tacit__forward *f;
    const tacit__layer *l;
    size_t images, ldy;
    const float *x;
    float *y;
    tacit_epilogue epilogue;
    tacit_rounded rounded;
    size_t count, step, steps; /* pixels or tiles: all, of a chunk, chunks of them */
} job;

/* A range of pixels and of channels. */
static void conv_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_linear *w = &j->l->linear;
    size_t first = chunk % j->steps * j->step, column = chunk / j->steps * CHANNELS;
    tacit_epilogue e = j->epilogue;
    e.bias += column;
    if (e.residual)
        e.residual += first * e.ldr + column;
    j->f->k->conv_f32(&j->l->shape, first, min_size(j->step, j->count - first),
                      min_size(CHANNELS, w->out - column), j->x, w->packed + column * w->in,
                      j->y + first * j->ldy + column, j->ldy, &e,
                      j->f->work + worker * j->f->work_size);
}

/* A few windows, gathered and rounded. */
static void windows_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_linear *w = &j->l->linear;
    size_t first = chunk * WINDOWS, m = min_size(WINDOWS, j->count - first);
    float *windows = j->f->work + worker * j->f->work_size;
    j->f->k->conv_windows_f32(&j->l->shape, first, m, 0, w->in, j->x, windows);
    tacit_round_rows(w->precision, j->f->k, first, m, w->in, windows, w->in, &j->rounded);
}

static void forward_tiles_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t first = chunk * FORWARD_TILES, ld = tile_ld(j->l);
    j->f->k->winograd_input_f32(&j->l->shape, j->l->side, first,
                                min_size(FORWARD_TILES, j->count - first), j->x,
                                j->f->tiles + first * ld, ld, j->count * ld);
}

void tacit__finish_tiles(const tacit__forward *f, const tacit__layer *l, size_t first, size_t tiles,
                         size_t column, size_t n, const float *products, float *y,
                         const tacit_epilogue *epilogue)
{
    tacit_epilogue e = *epilogue;
    e.bias += column;
    if (e.residual)
        e.residual += column;
    f->k->winograd_output_f32(&l->shape, l->side, first, tiles, n, products, n, tiles * n,
                              y + column, tacit__resnet_ld(l->linear.out), &e);
}

/* A range of tiles and of channels: their products and outputs; where it has all channels, the
 * transformed inputs too. */
static void tiles_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit__layer *l = j->l;
    const tacit_kernels *k = j->f->k;
    size_t first = chunk % j->steps * j->step, column = chunk / j->steps * TILE_CHANNELS;
    size_t tiles = min_size(j->step, j->count - first), ld = tile_ld(l);
    size_t in = l->shape.channels, n = min_size(TILE_CHANNELS, l->linear.out - column);
    size_t products = tacit__layer_products(l),
           matrix = tacit_gemm_packed_size(k, l->linear.out, in);
    float *work = j->f->work + worker * j->f->work_size;
    const float *v = j->f->tiles + first * ld;
    size_t step = j->count * ld;
    if (n == l->linear.out) {
        v = work;
        step = tiles * ld;
        k->winograd_input_f32(&l->shape, l->side, first, tiles, j->x, work, ld, step);
        work += products * step;
    }
    for (size_t p = 0; p < products; p++)
        k->gemm_f32(tiles, n, in, v + p * step, ld, l->linear.packed + p * matrix + column * in,
                    work + p * tiles * n, n, NULL);
    tacit__finish_tiles(j->f, l, first, tiles, column, n, work, j->y, &j->epilogue);
}

/* y = [relu] (convolution of x [+ residual]); the residual's pixels lie as those of y. */
void tacit__resnet_convolve(const tacit__forward *f, const tacit__layer *l, size_t images,
                            const float *x, float *y, const float *residual, bool relu)
{
    const tacit_conv *c = &l->shape;
    size_t ldy = tacit__resnet_ld(l->linear.out), pixels = images * c->rows * c->columns;
    tacit_epilogue e = { .bias = l->linear.bias, .residual = residual, .ldr = ldy, .relu = relu };
    job j = { .f = f, .l = l, .images = images, .ldy = ldy, .x = x, .y = y, .epilogue = e };
    j.rounded = f->rounded;
    j.rounded.ld = tacit_rounded_ld(l->linear.precision, l->linear.in);
    j.rounded.zero = 0; /* of bytes; what comes from a ReLU is not below it */
    if (c->kernel == 1 && c->stride == 1) {
        tacit_linear_forward(&l->linear, f->k, 0, pixels, x, c->ldx, &j.rounded, y, ldy, &e,
                             f->pool);
        return;
    }
    if (l->side && l->linear.precision == TACIT_PRECISION_INT8) {
        tacit__tiles8(f, l, images, x, y, &e);
        return;
    }
    if (l->linear.precision != TACIT_PRECISION_FP32) {
        j.count = pixels;
        tacit_parallel_for(f->pool, (pixels + WINDOWS - 1) / WINDOWS, windows_chunk, &j);
        tacit_linear_forward(&l->linear, f->k, 0, pixels, NULL, 0, &j.rounded, y, ldy, &e, f->pool);
        return;
    }
    if (l->side) {
        j.count = images * tacit__layer_tiles(l);
        j.step = tacit_chunk_for(f->pool, j.count, tile_target(l), LEAST_TILES,
                                 (l->linear.out + TILE_CHANNELS - 1) / TILE_CHANNELS);
        j.steps = (j.count + j.step - 1) / j.step;
        if (l->linear.out > TILE_CHANNELS)
            tacit_parallel_for(f->pool, (j.count + FORWARD_TILES - 1) / FORWARD_TILES,
                               forward_tiles_chunk, &j);
        tacit_parallel_for(f->pool, j.steps * ((l->linear.out + TILE_CHANNELS - 1) / TILE_CHANNELS),
                           tiles_chunk, &j);
        return;
    }
    j.count = pixels;
    j.step = tacit_chunk_for(f->pool, pixels, PIXELS, LEAST_PIXELS,
                             (l->linear.out + CHANNELS - 1) / CHANNELS);
    j.steps = (pixels + j.step - 1) / j.step;
    tacit_parallel_for(f->pool, j.steps * ((l->linear.out + CHANNELS - 1) / CHANNELS), conv_chunk,
                       &j);
}

/* Stages -------------------------------------------------------------------------------------- */

/* A few rows of the image, from planes to pixels. */
#define ROWS 16

static void pixels_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t width = j->l->shape.width, plane = j->l->shape.height * width;
    size_t begin = chunk * ROWS * width, end = min_size(begin + ROWS * width, plane);
    for (size_t i = begin; i < end; i++)
        for (size_t channel = 0; channel < 3; channel++)
            j->y[3 * i + channel] = j->x[channel * plane + i];
}

typedef struct pool_job {
    const tacit__forward *f;
    const float *x;
    float *y;
    tacit_conv shape;
} pool_job;

static void pool_chunk(void *ctx, size_t row, unsigned worker)
{
    (void)worker;
    const pool_job *j = ctx;
    size_t first = row * j->shape.columns;
    j->f->k->maxpool_f32(&j->shape, first, j->shape.columns, j->x, j->y + first * j->shape.ldx,
                         j->shape.ldx);
}

/* What follows the stem of images that are not small. */
static tacit_conv pool_of(const tacit__layer *l)
{
    const tacit_conv *c = &l->shape;
    return (tacit_conv){ .height = c->rows,
                         .width = c->columns,
                         .channels = l->linear.out,
                         .ldx = tacit__resnet_ld(l->linear.out),
                         .kernel = 3,
                         .stride = 2,
                         .pad = 1,
                         .rows = tacit_conv_size(c->rows, 3, 2, 1),
                         .columns = tacit_conv_size(c->columns, 3, 2, 1) };
}

static void run_stem(const tacit__forward *f, const float *image, float *y)
{
    const tacit__layer *l = &f->r->layers[0];
    bool small = f->r->config.small_stem;
    job j = { .l = l, .x = image, .y = f->in[0].values };
    tacit_parallel_for(f->pool, (l->shape.height + ROWS - 1) / ROWS, pixels_chunk, &j);
    tacit__resnet_convolve(f, l, 1, f->in[0].values, small ? y : f->turn[0].values, NULL, true);
    if (small)
        return;
    pool_job p = { .f = f, .x = f->turn[0].values, .y = y, .shape = pool_of(l) };
    tacit_parallel_for(f->pool, p.shape.rows, pool_chunk, &p);
}

/* The map of so many channels. */
static tacit__map map_of(tacit__map m, size_t channels)
{
    m.bytes.ld = tacit_rounded_ld(TACIT_PRECISION_INT8, channels);
    return m;
}

/* Blocks and stages --------------------------------------------------------------------------- */

static void run_block(const tacit__forward *f, const tacit__residual *b, size_t images,
                      const float *x, float *y)
{
    const float *residual = x;
    if (b->shortcut) {
        tacit__resnet_convolve(f, b->shortcut, images, x, f->between[2], NULL, false);
        residual = f->between[2];
    }
    tacit__resnet_convolve(f, b->conv[0], images, x, f->between[0], NULL, true);
    if (b->conv[2]) {
        tacit__resnet_convolve(f, b->conv[1], images, f->between[0], f->between[1], NULL, true);
        tacit__resnet_convolve(f, b->conv[2], images, f->between[1], y, residual, true);
    } else {
        tacit__resnet_convolve(f, b->conv[1], images, f->between[0], y, residual, true);
    }
}

/* The map behind its first `pixels`, of so many channels. */
static tacit__map map_from(tacit__map m, size_t pixels, size_t channels)
{
    if (m.values)
        m.values += pixels * tacit__resnet_ld(channels);
    if (m.bytes.rows) {
        m.bytes.rows = (char *)m.bytes.rows + pixels * m.bytes.ld;
        m.bytes.scale += pixels;
    }
    return m;
}

/* What stage 0 gives for some images. */
static void run_stems(const tacit__forward *f, size_t first, size_t count, tacit__map y)
{
    const tacit__layer *l = &f->r->layers[0];
    const tacit_conv *c = &f->r->blocks[0].conv[0]->shape;
    const tacit_conv pool = pool_of(l);
    for (size_t i = 0; i < count; i++) {
        const float *image = f->images + (first + i) * 3 * tacit__pixels_in(l);
        if (l->linear.precision == TACIT_PRECISION_INT8)
            tacit__stem8(f, l, image, f->r->config.small_stem ? NULL : &pool, &y);
        else
            run_stem(f, image, y.values);
        y = map_from(y, c->height * c->width, c->channels);
    }
}

/* The map that stage s gives for images [first, first + count), to y. */
static void run_stage(const tacit__forward *f, size_t s, size_t first, size_t count, tacit__map y)
{
    const tacit_resnet *r = f->r;
    if (s == 0) {
        run_stems(f, first, count, y);
        return;
    }
    size_t begin = first_block(r, s), end = first_block(r, s + 1), images;
    const tacit__layer *final = r->blocks[begin].conv[r->config.bottleneck ? 2 : 1];
    for (size_t i = 0; i < count; i += images) {
        images = min_size(f->together[s], count - i);
        tacit__map x = map_of(f->in[s], r->blocks[begin].conv[0]->shape.channels);
        run_stage(f, s - 1, first + i, images, x);
        for (size_t b = begin; b < end; b++) {
            tacit__map to = b + 1 == end ? y : map_of(f->turn[(b - begin) % 2], final->linear.out);
            if (in_bytes(r)) {
                if (!to.values)
                    to.values = f->turn[0].values;
                tacit__block8(f, &r->blocks[b], images, &x.bytes, &to);
            } else {
                run_block(f, &r->blocks[b], images, x.values, to.values);
            }
            x = to;
        }
        y = map_from(y, images * tacit__pixels_out(final), final->linear.out);
    }
}

/* Features ------------------------------------------------------------------------------------ */

size_t tacit_resnet_feature_count(const tacit_resnet *r, tacit_features features)
{
    const tacit__residual *b = &r->blocks[r->block_count - 1];
    const tacit__layer *final = b->conv[2] ? b->conv[2] : b->conv[1];
    switch (features) {
    case TACIT_FEATURES_MEAN: return final->linear.out;
    case TACIT_FEATURES_PATCH: return tacit__pixels_out(final) * final->linear.out;
    default: return 0;
    }
}

/* One image's, of those in f->last. */
static void take_features(const tacit__forward *f, tacit_features features, const float *x,
                          float *out)
{
    const tacit__residual *b = &f->r->blocks[f->r->block_count - 1];
    const tacit__layer *final = b->conv[2] ? b->conv[2] : b->conv[1];
    size_t n = final->linear.out, ld = tacit__resnet_ld(n), pixels = tacit__pixels_out(final);
    if (features == TACIT_FEATURES_MEAN)
        f->k->mean_rows_f32(pixels, n, x, ld, out);
    for (size_t i = 0; features == TACIT_FEATURES_PATCH && i < pixels; i++)
        memcpy(out + i * n, x + i * ld, n * sizeof *out);
}

void tacit_resnet_forward(const tacit_resnet *r, const float *images, size_t batch,
                          tacit_features features, float *out, void *scratch, tacit_pool *pool)
{
    if (!batch)
        return;
    tacit__forward f = { .r = r, .k = r->kernels, .pool = pool, .images = images };
    tacit_arena arena = { .base = scratch, .size = tacit_resnet_scratch(r, batch, pool) };
    assert(arena.size && (uintptr_t)scratch % TACIT_ALIGN == 0);
    needs n = needs_of(r, batch);
    plan(&n, pool, NULL, &f, &arena);
    const tacit__residual *end = &r->blocks[r->block_count - 1];
    size_t one = map_size(end->conv[2] ? end->conv[2] : end->conv[1], 1);
    size_t count = tacit_resnet_feature_count(r, features), group = f.together[TACIT__STAGES - 1];
    for (size_t done = 0, here; done < batch; done += here) {
        here = min_size(group, batch - done);
        run_stage(&f, TACIT__STAGES - 1, done, here, (tacit__map){ .values = f.last });
        for (size_t i = 0; i < here; i++)
            take_features(&f, features, f.last + i * one, out + (done + i) * count);
    }
}
