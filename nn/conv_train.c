/* conv_train.c - see conv_train.h. */
#include "conv_train.h"

#include "conv_tiles.h"
#include "linear.h"

#include <assert.h>

/* Chunks of outputs: windows are gathered once for all channels of a chunk. */
#define PIXELS   112
#define CHANNELS 256
/* FLOPs that an image of a batch pays for each transformed weight. */
#define WEIGHT_COST 1
/* Blocks of the weights' gradient, as in dense.c: terms of windows, for TACIT_KC outputs at a time.
 */
#define TERMS 192

static size_t pieces(size_t n, size_t step)
{
    return (n + step - 1) / step;
}

static size_t step_at(size_t n, size_t at, size_t step)
{
    return n - at < step ? n - at : step;
}

/* Of the gradient of the weights, rows of a block. */
static size_t weight_rows(size_t out)
{
    return out < CHANNELS ? out : CHANNELS;
}

static bool is_product(const tacit_convolution *c)
{
    return c->shape.kernel == 1 && c->shape.stride == 1 && c->shape.pad == 0;
}

static size_t outputs_of(const tacit_convolution *c)
{
    return c->shape.rows * c->shape.columns;
}

tacit_status tacit_convolution_declare(tacit_convolution *conv, const char *name, size_t height,
                                       size_t width, size_t channels, size_t out, size_t kernel,
                                       size_t stride, size_t pad, size_t max_batch,
                                       tacit_params *params, tacit_work *work, tacit_err *err)
{
    size_t area = kernel * kernel, k = area * channels;
    *conv = (tacit_convolution){ .shape = { height, width, channels, channels, kernel, stride, pad,
                                            tacit_conv_size(height, kernel, stride, pad),
                                            tacit_conv_size(width, kernel, stride, pad) },
                                 .out = out,
                                 .work = work };
    size_t outputs = outputs_of(conv), rows;
    if (!outputs || !tacit_mul_size(outputs, max_batch, &rows))
        return tacit_fail(err, TACIT_EINVAL, "%s: no convolution of %zu x %zu pixels", name, height,
                          width);
    tacit_status st = tacit_dense_declare(
        &conv->dense, name, k, out, false, 4, (const size_t[]){ out, channels, kernel, kernel },
        tacit_init_kaiming(area * out), TACIT_ZEROS, rows, params, work, err);
    if (st < 0)
        return st;
    conv->dense.w->channels_last = true;
    conv->side = tacit__tiles_side(&conv->shape, out, WEIGHT_COST);
    if (conv->side) {
        tacit__tiles_need(conv, max_batch, work);
        return TACIT_OK;
    }
    tacit_work_need(&work->packed_floats,
                    tacit_gemm_packed_size(work->kernels, channels, area * out));
    tacit_work_need(&work->worker_floats, PIXELS * (size_t)TACIT_KC);
    tacit_work_need(&work->worker_floats,
                    TACIT_KC * (size_t)TERMS +
                        tacit_gemm_tn_scratch(work->kernels, weight_rows(out)));
    if (stride > 1)
        tacit_work_need(&work->worker_floats, outputs * k);
    return TACIT_OK;
}

size_t tacit_convolution_size(const tacit_convolution *conv)
{
    return outputs_of(conv) * conv->out;
}

typedef struct job {
    const tacit_convolution *c;
    tacit_conv shape; /* of what is run: of the gradient, the other way round */
    size_t n, m, batch, row_step, column_step;
    const float *x, *dy, *beside;
    float *y;
} job;

static float *scratch_of(const job *j, unsigned worker)
{
    return j->c->work->worker + worker * j->c->work->worker_floats;
}

static void pack_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_kernels *k = j->c->work->kernels;
    size_t in = j->c->dense.in, from = chunk * CHANNELS, count = step_at(j->n, from, CHANNELS);
    k->gemm_pack_f32(count, in, j->c->dense.w->value + from * in, in,
                     j->c->work->packed + from * in);
}

/* The weights turned by half a circle, with inputs and outputs exchanged: for a panel of inputs and
 * each place of the window a product's pack, of which the places follow one another. */
static void pack_turned_chunk(void *ctx, size_t panel, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_kernels *k = j->c->work->kernels;
    size_t channels = j->c->shape.channels, out = j->c->out, nr = k->gemm_nr;
    size_t area = j->c->shape.kernel * j->c->shape.kernel, from = panel * nr;
    float *packed = j->c->work->packed + from * area * out;
    for (size_t tap = 0; tap < area; tap++)
        k->gemm_pack_t_f32(step_at(channels, from, nr), out,
                           j->c->dense.w->value + (area - 1 - tap) * channels + from,
                           area * channels, packed + tap * out * nr);
}

static void product_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t across = pieces(j->n, CHANNELS), row = chunk / across * j->row_step;
    size_t column = chunk % across * CHANNELS;
    size_t k = j->shape.kernel * j->shape.kernel * j->shape.channels;
    tacit_epilogue e = { .residual = j->beside ? j->beside + row * j->n + column : NULL,
                         .ldr = j->n };
    j->c->work->kernels->conv_f32(&j->shape, row, step_at(j->m, row, j->row_step),
                                  step_at(j->n, column, CHANNELS), j->x,
                                  j->c->work->packed + column * k, j->y + row * j->n + column, j->n,
                                  &e, scratch_of(j, worker));
}

static void run_product(job *j)
{
    j->row_step = tacit_even_chunk(j->m, PIXELS);
    tacit_parallel_for(j->c->work->pool, pieces(j->m, j->row_step) * pieces(j->n, CHANNELS),
                       product_chunk, j);
}

void tacit_convolution_forward(const tacit_convolution *conv, size_t batch, const float *x,
                               float *y)
{
    size_t m = batch * outputs_of(conv);
    if (is_product(conv)) {
        tacit_dense_forward(conv->work, &conv->dense, m, x, conv->shape.channels, y, conv->out,
                            NULL);
        return;
    }
    if (conv->side) {
        tacit__tiles_forward(conv, batch, x, y);
        return;
    }
    job j = { .c = conv, .shape = conv->shape, .n = conv->out, .m = m, .x = x, .y = y };
    tacit_parallel_for(conv->work->pool, pieces(j.n, CHANNELS), pack_chunk, &j);
    run_product(&j);
}

/* dx of an image of a strided convolution: its windows' gradients, and their sums. */
static void scatter_chunk(void *ctx, size_t image, unsigned worker)
{
    const job *j = ctx;
    const tacit_convolution *c = j->c;
    const tacit_kernels *k = c->work->kernels;
    size_t outputs = outputs_of(c), in = c->dense.in;
    size_t size = c->shape.height * c->shape.width * c->shape.channels;
    float *d = scratch_of(j, worker), *dx = j->y + image * size;
    k->gemm_f32(outputs, in, c->out, j->dy + image * outputs * c->out, c->out, c->work->packed, d,
                in, NULL);
    k->conv_scatter_f32(&c->shape, d, in, dx);
    if (j->beside)
        k->add_f32(size, dx, j->beside + image * size, dx);
}

static void pack_t_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t in = j->c->dense.in, from = chunk * CHANNELS;
    j->c->work->kernels->gemm_pack_t_f32(step_at(in, from, CHANNELS), j->c->out,
                                         j->c->dense.w->value + from, in,
                                         j->c->work->packed + from * j->c->out);
}

static void input_gradient(job *j)
{
    const tacit_convolution *c = j->c;
    if (c->shape.stride > 1) {
        tacit_parallel_for(c->work->pool, pieces(c->dense.in, CHANNELS), pack_t_chunk, j);
        tacit_parallel_for(c->work->pool, j->batch, scatter_chunk, j);
        return;
    }
    j->shape = (tacit_conv){ c->shape.rows,
                             c->shape.columns,
                             c->out,
                             c->out,
                             c->shape.kernel,
                             1,
                             c->shape.kernel - 1 - c->shape.pad,
                             c->shape.height,
                             c->shape.width };
    j->n = c->shape.channels;
    j->m = j->batch * c->shape.height * c->shape.width;
    j->x = j->dy;
    tacit_parallel_for(c->work->pool, pieces(j->n, c->work->kernels->gemm_nr), pack_turned_chunk,
                       j);
    run_product(j);
}

/* A block of dW += dy^T windows. */
static void weight_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    const tacit_convolution *c = j->c;
    const tacit_kernels *k = c->work->kernels;
    size_t in = c->dense.in, across = pieces(in, j->column_step);
    size_t row = chunk / across * j->row_step, column = chunk % across * j->column_step;
    size_t rows = step_at(c->out, row, j->row_step), columns = step_at(in, column, j->column_step);
    float *windows = scratch_of(j, worker);
    for (size_t first = 0, count; first < j->m; first += count) {
        count = step_at(j->m, first, TACIT_KC);
        k->conv_windows_f32(&c->shape, first, count, column, columns, j->x, windows);
        k->gemm_tn_f32(rows, columns, count, j->dy + first * c->out + row, c->out, windows, columns,
                       c->dense.w->grad + row * in + column, in, true,
                       windows + TACIT_KC * (size_t)TERMS);
    }
}

/* dW += dy^T windows. */
static void weight_gradient(const tacit_convolution *conv, size_t batch, const float *x,
                            const float *dy)
{
    job j = { .c = conv, .m = batch * outputs_of(conv), .x = x, .dy = dy };
    /* The windows are gathered again for each range of outputs: few of those, and enough blocks. */
    j.row_step = weight_rows(conv->out);
    j.column_step = TERMS;
    while (j.column_step > 48 &&
           pieces(conv->out, j.row_step) * pieces(conv->dense.in, j.column_step) < 12)
        j.column_step /= 2;
    tacit_parallel_for(conv->work->pool,
                       pieces(conv->out, j.row_step) * pieces(conv->dense.in, j.column_step),
                       weight_chunk, &j);
}

void tacit_convolution_backward(const tacit_convolution *conv, size_t batch, const float *x,
                                const float *dy, float *dx, const float *beside)
{
    if (is_product(conv)) {
        const tacit_after after = { .residual = beside, .ldr = conv->shape.channels };
        tacit_dense_backward(conv->work, &conv->dense, batch * outputs_of(conv), dy, conv->out, x,
                             conv->shape.channels, dx, conv->shape.channels, &after);
        return;
    }
    if (conv->side) {
        if (dx)
            tacit__tiles_input_gradient(conv, batch, dy, dx, beside);
        tacit__tiles_weight_gradient(conv, batch, x, dy);
        return;
    }
    job j = { .c = conv, .batch = batch, .dy = dy, .beside = beside, .y = dx };
    if (dx)
        input_gradient(&j);
    weight_gradient(conv, batch, x, dy);
}

void tacit_convolution_transposed(const tacit_convolution *conv, size_t batch, const float *x,
                                  float *y)
{
    job j = { .c = conv, .batch = batch, .dy = x, .y = y };
    assert(conv->shape.stride > 1);
    input_gradient(&j);
}

void tacit_convolution_transposed_backward(const tacit_convolution *conv, size_t batch,
                                           const float *x, const float *dy, float *dx)
{
    if (dx)
        tacit_convolution_forward(conv, batch, dy, dx);
    weight_gradient(conv, batch, dy, x);
}
