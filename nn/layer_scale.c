/* layer_scale.c - see layer_scale.h. */
#include "layer_scale.h"

#include <string.h>

#define ROWS 16

bool tacit_layer_scale_plan(size_t out, size_t in, size_t *total)
{
    size_t most;
    return tacit_mul_size(out, in, &most) && tacit_arena_plan(total, most, 2 * sizeof(float)) &&
           tacit_arena_plan(total, out, 2 * sizeof(float));
}

void tacit_layer_scale_take(tacit_layer_scale *s, const tacit_work *work, size_t out, size_t in,
                            tacit_arena *arena)
{
    *s = (tacit_layer_scale){ .work = work };
    s->w.value = tacit_arena_take(arena, out * in, 2 * sizeof(float));
    s->b.value = tacit_arena_take(arena, out, 2 * sizeof(float));
    s->w.grad = s->w.value + out * in;
    s->b.grad = s->b.value + out;
}

typedef struct job {
    const tacit_layer_scale *s;
    const tacit_dense *dense;
    const float *gamma;
    float *dgamma;
} job;

static size_t end_of(const job *j, size_t chunk)
{
    size_t end = (chunk + 1) * ROWS;
    return end < j->dense->out ? end : j->dense->out;
}

static void begin_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_kernels *k = j->s->work->kernels;
    size_t in = j->dense->in;
    for (size_t row = chunk * ROWS; row < end_of(j, chunk); row++) {
        k->scale_add_f32(in, j->dense->w->value + row * in, j->gamma[row], NULL,
                         j->s->w.value + row * in);
        j->s->b.value[row] = j->dense->b->value[row] * j->gamma[row];
    }
    size_t first = chunk * ROWS, rows = end_of(j, chunk) - first;
    memset(j->s->w.grad + first * in, 0, rows * in * sizeof(float));
    memset(j->s->b.grad + first, 0, rows * sizeof(float));
}

const tacit_dense *tacit_layer_scale_begin(tacit_layer_scale *s, const tacit_dense *dense,
                                           const tacit_param *gamma)
{
    job j = { s, dense, gamma->value, NULL };
    s->dense = (tacit_dense){ .in = dense->in, .out = dense->out, .w = &s->w, .b = &s->b };
    tacit_parallel_for(s->work->pool, (dense->out + ROWS - 1) / ROWS, begin_chunk, &j);
    return &s->dense;
}

static void end_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_kernels *k = j->s->work->kernels;
    const tacit_dense *d = j->dense;
    for (size_t row = chunk * ROWS; row < end_of(j, chunk); row++) {
        size_t at = row * d->in;
        const float *g = j->s->w.grad + at;
        double dot = k->dot_f64(d->in, d->w->value + at, g) +
                     (double)d->b->value[row] * (double)j->s->b.grad[row];
        j->dgamma[row] += (float)dot;
        k->scale_add_f32(d->in, g, j->gamma[row], d->w->grad + at, d->w->grad + at);
        d->b->grad[row] += j->s->b.grad[row] * j->gamma[row];
    }
}

void tacit_layer_scale_end(tacit_layer_scale *s, const tacit_dense *dense, tacit_param *gamma)
{
    job j = { s, dense, gamma->value, gamma->grad };
    tacit_parallel_for(s->work->pool, (dense->out + ROWS - 1) / ROWS, end_chunk, &j);
}
