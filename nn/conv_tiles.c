/* conv_tiles.c - see conv_tiles.h.
 *
 * With V the transformed inputs, U the transformed weights and P = (side + 2)^2, a layer is P
 * products V_p U_p^T. The gradient of its inputs is the same with the weights turned by half a
 * circle, inputs and outputs exchanged; that of U_p is Z_p^T V_p, with Z the transformed gradient
 * of the outputs (Lavin and Gray 2016, section 4, turned round by the chain rule).
 *
 * P times as many values as a map has would not stay in any cache, so they are made for a slab of
 * tiles at a time. Slabs and chunks depend on sizes alone.
 */
#include "conv_tiles.h"

#include "linear.h"

#include <string.h>

/* Tiles and channels of a chunk of products. A layer with up to ALL channels has all of them in a
 * chunk, and transforms its inputs there. */
#define TILES     56
#define ALL_TILES 28
#define CHANNELS  64
#define ALL       128
/* Tiles that are transformed together. */
#define SLAB        768
#define WEIGHT_SLAB TACIT_KC
/* Tiles of a chunk that only transforms. */
#define FORWARD_TILES 8
/* Input channels of a piece of weights on its way into a panel. */
#define PIECE 64
/* Blocks of dU. */
#define ROWS    196
#define COLUMNS 192
/* Between one product's matrix and the next, so that they do not fall into few sets of a cache. */
#define GAP 16

static size_t pieces(size_t n, size_t step)
{
    return (n + step - 1) / step;
}

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Floats from one tile to the next. */
static size_t ld_of(size_t channels)
{
    return channels % 256 ? channels : channels + 16;
}

static size_t products_of(size_t side)
{
    return (side + 2) * (side + 2);
}

static size_t tiles_of(const tacit_conv *c, size_t side)
{
    return pieces(c->rows, side) * pieces(c->columns, side);
}

/* FLOPs for each pair of an input and an output channel: the products, the weights, and 14 for each
 * transformed value. */
static double cost(const tacit_conv *c, size_t out, double weights, size_t side)
{
    if (!side)
        return 18 * (double)(c->rows * c->columns) + weights * 9;
    double products = (double)products_of(side), tiles = (double)tiles_of(c, side);
    double m = (double)c->channels, n = (double)out;
    return products * (2 * tiles + weights + 14 * tiles * (m + n) / (m * n));
}

size_t tacit__tiles_side(const tacit_conv *c, size_t out, double weights)
{
    size_t best = 0;
    if (c->kernel != 3 || c->stride != 1 || c->channels <= 3)
        return 0;
    for (size_t side = 2; side <= 4; side += 2)
        if (cost(c, out, weights, side) < cost(c, out, weights, best))
            best = side;
    return best;
}

/* A product over all tiles: from x of shape.channels to y of n. */
typedef struct job {
    const tacit_convolution *c;
    tacit_conv shape;
    size_t side, products, n, ld, ldz, matrix;
    size_t first, count, step;    /* tiles: the slab's first, how many, of a chunk */
    size_t row_step, column_step; /* of blocks of dU */
    const float *x, *dy, *beside; /* beside: added to y, or NULL */
    float *y, *v, *z;
} job;

static job job_of(const tacit_convolution *c, const tacit_conv *shape, size_t n)
{
    job j = { .c = c,
              .shape = *shape,
              .side = c->side,
              .products = products_of(c->side),
              .n = n,
              .ld = ld_of(shape->channels),
              .ldz = ld_of(n) };
    j.matrix = tacit_gemm_packed_size(c->work->kernels, n, shape->channels) + GAP;
    return j;
}

/* The layer that gives the gradient of the inputs. */
static tacit_conv turned(const tacit_convolution *c)
{
    const tacit_conv *s = &c->shape;
    return (
        tacit_conv){ s->rows, s->columns, c->out, c->out, 3, 1, 2 - s->pad, s->height, s->width };
}

static bool has_all(const job *j)
{
    return j->n <= ALL;
}

static float *scratch_of(const job *j, unsigned worker)
{
    return j->c->work->worker + worker * j->c->work->worker_floats;
}

/* Floats between the products of so many tiles. */
static size_t step_of(size_t tiles, size_t ld)
{
    return tiles * ld + GAP;
}

static void need_products(const job *j, size_t tiles, tacit_work *work)
{
    size_t chunk = has_all(j) ? ALL_TILES : TILES, channels = min_size(j->n, CHANNELS);
    size_t own = has_all(j) ? step_of(chunk, j->ld) : 0;
    tacit_work_need(&work->packed_floats, j->products * j->matrix);
    tacit_work_need(&work->worker_floats, j->products * (own + chunk * channels));
    if (!has_all(j))
        tacit_work_need(&work->tiles_floats, j->products * step_of(min_size(tiles, SLAB), j->ld));
}

void tacit__tiles_need(const tacit_convolution *c, size_t max_batch, tacit_work *work)
{
    tacit_conv back = turned(c);
    job j = job_of(c, &c->shape, c->out), b = job_of(c, &back, c->shape.channels);
    size_t tiles = max_batch * tiles_of(&c->shape, c->side);
    need_products(&j, tiles, work);
    need_products(&b, max_batch * tiles_of(&back, c->side), work);
    tacit_work_need(&work->worker_floats,
                    j.products * (work->kernels->gemm_nr * (size_t)PIECE + GAP));
    tacit_work_need(&work->packed_floats, j.products * step_of(c->out, c->shape.channels));
    tacit_work_need(&work->tiles_floats,
                    j.products * (step_of(min_size(tiles, WEIGHT_SLAB), j.ld + j.ldz) + GAP));
    tacit_work_need(&work->worker_floats,
                    tacit_gemm_tn_scratch(work->kernels, min_size(c->out, ROWS)));
}

/* Products ------------------------------------------------------------------------------------ */

/* A panel of outputs of the transformed weights. */
static void pack_chunk(void *ctx, size_t panel, unsigned worker)
{
    const job *j = ctx;
    const tacit_kernels *k = j->c->work->kernels;
    size_t in = j->shape.channels, nr = k->gemm_nr, from = panel * nr;
    size_t count = min_size(nr, j->n - from), step = nr * PIECE + GAP, width;
    float *u = scratch_of(j, worker), *to = j->c->work->packed + from * in;
    const float *w = j->c->dense.w->value + from * 9 * in;
    for (size_t i = 0; i < in; i += width) {
        width = min_size(PIECE, in - i);
        k->winograd_weights_f32(j->side, count, width, w + i, 9 * in, in, false, u, width, step);
        for (size_t p = 0; p < j->products; p++)
            k->gemm_pack_f32(count, width, u + p * step, width, to + p * j->matrix + i * nr);
    }
}

/* The same for the gradient of the inputs: the weights lie as a panel has them. */
static void pack_turned_chunk(void *ctx, size_t panel, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_kernels *k = j->c->work->kernels;
    size_t out = j->shape.channels, nr = k->gemm_nr, from = panel * nr;
    size_t count = min_size(nr, j->n - from);
    float *to = j->c->work->packed + from * out;
    for (size_t p = 0; count < nr && p < j->products; p++)
        memset(to + p * j->matrix, 0, out * nr * sizeof *to);
    k->winograd_weights_f32(j->side, out, count, j->c->dense.w->value + from, 9 * j->n, j->n, true,
                            to, nr, j->matrix);
}

static void input_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t at = chunk * FORWARD_TILES, count = min_size(FORWARD_TILES, j->count - at);
    const tacit_kernels *k = j->c->work->kernels;
    k->winograd_input_f32(&j->shape, j->side, j->first + at, count, j->x, j->v + at * j->ld, j->ld,
                          step_of(j->count, j->ld));
    if (j->dy)
        k->winograd_output_backward_f32(&j->shape, j->side, j->first + at, count, j->n, j->dy, j->n,
                                        j->z + at * j->ldz, j->ldz, step_of(j->count, j->ldz));
}

static void product_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_kernels *k = j->c->work->kernels;
    size_t across = has_all(j) ? 1 : pieces(j->n, CHANNELS), in = j->shape.channels;
    size_t at = chunk / across * j->step, tiles = min_size(j->step, j->count - at);
    size_t column = chunk % across * CHANNELS, end = has_all(j) ? j->n : column + 1, n;
    float *m = scratch_of(j, worker);
    const float *v = j->v + at * j->ld;
    size_t step = step_of(j->count, j->ld);
    if (has_all(j)) {
        step = step_of(tiles, j->ld);
        k->winograd_input_f32(&j->shape, j->side, j->first + at, tiles, j->x, m, j->ld, step);
        v = m;
        m += j->products * step;
    }
    for (; column < end; column += n) {
        n = min_size(CHANNELS, j->n - column);
        for (size_t p = 0; p < j->products; p++)
            k->gemm_f32(tiles, n, in, v + p * step, j->ld,
                        j->c->work->packed + p * j->matrix + column * in, m + p * tiles * n, n,
                        NULL);
        const tacit_epilogue e = { .residual = j->beside ? j->beside + column : NULL, .ldr = j->n };
        k->winograd_output_f32(&j->shape, j->side, j->first + at, tiles, n, m, n, tiles * n,
                               j->y + column, j->n, &e);
    }
}

static void run_products(job *j, size_t batch)
{
    tacit_pool *pool = j->c->work->pool;
    size_t tiles = batch * tiles_of(&j->shape, j->side), slab = has_all(j) ? tiles : SLAB;
    j->v = j->c->work->tiles;
    for (j->first = 0; j->first < tiles; j->first += slab) {
        j->count = min_size(slab, tiles - j->first);
        j->step = tacit_even_chunk(j->count, has_all(j) ? ALL_TILES : TILES);
        if (!has_all(j))
            tacit_parallel_for(pool, pieces(j->count, FORWARD_TILES), input_chunk, j);
        tacit_parallel_for(pool,
                           pieces(j->count, j->step) * (has_all(j) ? 1 : pieces(j->n, CHANNELS)),
                           product_chunk, j);
    }
}

void tacit__tiles_forward(const tacit_convolution *c, size_t batch, const float *x, float *y)
{
    job j = job_of(c, &c->shape, c->out);
    j.x = x;
    j.y = y;
    tacit_parallel_for(c->work->pool, pieces(j.n, c->work->kernels->gemm_nr), pack_chunk, &j);
    run_products(&j, batch);
}

void tacit__tiles_input_gradient(const tacit_convolution *c, size_t batch, const float *dy,
                                 float *dx, const float *beside)
{
    tacit_conv back = turned(c);
    job j = job_of(c, &back, c->shape.channels);
    j.x = dy;
    j.y = dx;
    j.beside = beside;
    tacit_parallel_for(c->work->pool, pieces(j.n, c->work->kernels->gemm_nr), pack_turned_chunk,
                       &j);
    run_products(&j, batch);
}

/* The gradient of the weights ----------------------------------------------------------------- */

/* A block of dU_p, over a slab. */
static void block_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t in = j->shape.channels, across = pieces(in, j->column_step);
    size_t blocks = pieces(j->n, j->row_step) * across, p = chunk / blocks, block = chunk % blocks;
    size_t row = block / across * j->row_step, column = block % across * j->column_step;
    j->c->work->kernels->gemm_tn_f32(min_size(j->row_step, j->n - row),
                                     min_size(j->column_step, in - column), j->count,
                                     j->z + p * step_of(j->count, j->ldz) + row, j->ldz,
                                     j->v + p * step_of(j->count, j->ld) + column, j->ld,
                                     j->c->work->packed + p * step_of(j->n, in) + row * in + column,
                                     in, j->first > 0, scratch_of(j, worker));
}

/* The gradient of the weights of one output, from dU. */
static void gradient_chunk(void *ctx, size_t row, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t in = j->shape.channels;
    j->c->work->kernels->winograd_weights_backward_f32(
        j->side, 1, in, j->c->work->packed + row * in, in, step_of(j->n, in),
        j->c->dense.w->grad + row * 9 * in, 9 * in, in);
}

void tacit__tiles_weight_gradient(const tacit_convolution *c, size_t batch, const float *x,
                                  const float *dy)
{
    tacit_pool *pool = c->work->pool;
    job j = job_of(c, &c->shape, c->out);
    size_t tiles = batch * tiles_of(&j.shape, j.side), in = j.shape.channels;
    j.x = x;
    j.dy = dy;
    j.row_step = ROWS;
    j.column_step = COLUMNS;
    for (j.first = 0; j.first < tiles; j.first += WEIGHT_SLAB) {
        j.count = min_size(WEIGHT_SLAB, tiles - j.first);
        j.v = c->work->tiles;
        j.z = j.v + j.products * step_of(j.count, j.ld);
        tacit_parallel_for(pool, pieces(j.count, FORWARD_TILES), input_chunk, &j);
        tacit_parallel_for(pool, j.products * pieces(j.n, ROWS) * pieces(in, COLUMNS), block_chunk,
                           &j);
    }
    tacit_parallel_for(pool, j.n, gradient_chunk, &j);
}
