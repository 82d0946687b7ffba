/* conv_stack.c - see conv_stack.h. */
#include "conv_stack.h"

#include <assert.h>
#include <stdio.h>

tacit_status tacit_conv_stack_open(tacit_conv_stack *s, size_t room, size_t height, size_t width,
                                   size_t channels, size_t max_batch, bool fixed,
                                   tacit_params *params, tacit_work *work, tacit_err *err)
{
    *s = (tacit_conv_stack){ .room = room,
                             .height = height,
                             .width = width,
                             .channels = channels,
                             .max_batch = max_batch,
                             .fixed = fixed,
                             .params = params,
                             .work = work };
    s->layers = tacit_calloc(room, sizeof *s->layers);
    return s->layers ? TACIT_OK
                     : tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu convolutions", room);
}

void tacit_conv_stack_close(tacit_conv_stack *s)
{
    tacit_free(s->layers);
    *s = (tacit_conv_stack){ 0 };
}

static tacit_conv_layer *last(const tacit_conv_stack *s)
{
    return &s->layers[s->count - 1];
}

/* The convolution whose gradient gives a map of what comes in now. */
static tacit_status declare_transposed(tacit_conv_stack *s, tacit_conv_layer *l,
                                       const tacit_conv_spec *spec, tacit_err *err)
{
    size_t height = (s->height - 1) * spec->stride + spec->kernel - 2 * spec->pad;
    size_t width = (s->width - 1) * spec->stride + spec->kernel - 2 * spec->pad;
    size_t in = s->channels;
    assert(spec->stride > 1 && !spec->skip);
    s->height = height;
    s->width = width;
    return tacit_convolution_declare(&l->conv, spec->name, height, width, spec->out, in,
                                     spec->kernel, spec->stride, spec->pad, s->max_batch, s->params,
                                     s->work, err);
}

static tacit_status declare_plain(tacit_conv_stack *s, tacit_conv_layer *l,
                                  const tacit_conv_spec *spec, tacit_err *err)
{
    tacit_status st = tacit_convolution_declare(&l->conv, spec->name, s->height, s->width,
                                                s->channels, spec->out, spec->kernel, spec->stride,
                                                spec->pad, s->max_batch, s->params, s->work, err);
    s->height = l->conv.shape.rows;
    s->width = l->conv.shape.columns;
    return st;
}

tacit_status tacit_conv_stack_add(tacit_conv_stack *s, const tacit_conv_spec *spec, tacit_err *err)
{
    assert(s->count < s->room && spec->skip <= s->count);
    char name[2 * TACIT_PARAM_NAME];
    tacit_conv_layer *l = &s->layers[s->count];
    if (s->count)
        tacit_work_need(&s->widest, last(s)->pixels * last(s)->out);
    *l = (tacit_conv_layer){
        .transposed = spec->transposed, .relu = spec->relu, .skip = spec->skip, .out = spec->out
    };
    tacit_status st =
        spec->transposed ? declare_transposed(s, l, spec, err) : declare_plain(s, l, spec, err);
    if (st < 0)
        return st;
    /* PyTorch's fan_in is made of the weight's second size */
    const tacit_init begin =
        tacit_init_default(spec->kernel * spec->kernel * l->conv.dense.w->shape[1]);
    l->conv.dense.w->init = begin;
    l->pixels = s->height * s->width;
    s->channels = spec->out;
    s->count++;
    assert(!l->skip ||
           (l[-(ptrdiff_t)l->skip].out == l->out && l[-(ptrdiff_t)l->skip].pixels == l->pixels));
    if (!s->fixed)
        tacit_sum_rows_need(s->work, s->max_batch * l->pixels, l->out);
    snprintf(name, sizeof name, "%s.bias", spec->name);
    return tacit_params_add(s->params, name, 1, &l->out, begin, &l->bias, err);
}

/* Adds up what is needed, or where arena is given takes it. */
static bool maps(const tacit_conv_stack *s, size_t *total, tacit_arena *arena, size_t count,
                 float **at)
{
    if (!arena)
        return tacit_arena_plan(total, s->max_batch, count * sizeof(float));
    *at = tacit_arena_take(arena, s->max_batch, count * sizeof(float));
    return true;
}

static bool plan(tacit_conv_stack *s, size_t *total, tacit_arena *arena)
{
    bool fits = true;
    for (size_t i = 0; fits && i < s->count; i++)
        fits = maps(s, total, arena, s->layers[i].pixels * s->layers[i].out, &s->layers[i].y);
    for (size_t i = 0; fits && !s->fixed && i < 3; i++)
        fits = maps(s, total, arena, s->widest, &s->turn[i]);
    return fits;
}

bool tacit_conv_stack_plan(const tacit_conv_stack *s, size_t *total)
{
    tacit_conv_stack copy = *s; /* without an arena nothing is written behind its pointers */
    return plan(&copy, total, NULL);
}

void tacit_conv_stack_take(tacit_conv_stack *s, tacit_arena *arena)
{
    plan(s, NULL, arena);
}

/* Forward ------------------------------------------------------------------------------------- */

/* What follows a product, in an image's map. */
static void finish_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const tacit_conv_layer *l = ctx;
    const tacit_conv_layer *from = l - l->skip;
    const float *bias = l->bias->value;
    for (size_t p = image * l->pixels; p < (image + 1) * l->pixels; p++) {
        float *y = l->y + p * l->out;
        for (size_t c = 0; c < l->out; c++)
            y[c] += bias[c];
        if (l->skip) {
            const float *x = from->y + p * l->out;
            for (size_t c = 0; c < l->out; c++)
                y[c] += x[c];
        }
        if (l->relu)
            for (size_t c = 0; c < l->out; c++)
                y[c] = y[c] > 0 ? y[c] : 0;
    }
}

float *tacit_conv_stack_forward(tacit_conv_stack *s, const float *x, size_t batch)
{
    assert(batch && batch <= s->max_batch);
    s->x = x;
    s->batch = batch;
    for (size_t i = 0; i < s->count; i++) {
        tacit_conv_layer *l = &s->layers[i];
        if (l->transposed)
            tacit_convolution_transposed(&l->conv, batch, x, l->y);
        else
            tacit_convolution_forward(&l->conv, batch, x, l->y);
        tacit_parallel_for(s->work->pool, batch, finish_chunk, l);
        x = l->y;
    }
    return last(s)->y;
}

/* Backward ------------------------------------------------------------------------------------ */

typedef struct relu_job {
    const tacit_conv_stack *s;
    const tacit_conv_layer *l;
    float *d;
} relu_job;

static void relu_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const relu_job *j = ctx;
    size_t n = j->l->pixels * j->l->out, at = image * n;
    j->s->work->kernels->relu_backward_f32(n, j->l->y + at, j->d + at, j->d + at);
}

/* One of the three that holds neither of two. */
static float *free_one(const tacit_conv_stack *s, const float *a, const float *b)
{
    for (size_t i = 0; i < 2; i++)
        if (s->turn[i] != a && s->turn[i] != b)
            return s->turn[i];
    return s->turn[2];
}

void tacit_conv_stack_backward(tacit_conv_stack *s, float *dy, float *dx)
{
    const float *kept = NULL; /* the gradient that a map has by its shortcut */
    size_t kept_at = 0;       /* of which layer's map it is */
    float *d = dy;
    for (size_t i = s->count; i-- > 0;) {
        const tacit_conv_layer *l = &s->layers[i];
        const float *x = i ? l[-1].y : s->x;
        if (l->relu) {
            relu_job j = { s, l, d };
            tacit_parallel_for(s->work->pool, s->batch, relu_chunk, &j);
        }
        tacit_sum_rows(s->work, s->batch * l->pixels, l->out, d, l->out, l->bias->grad);
        if (l->skip) {
            assert(!kept);
            kept = d;
            kept_at = i - l->skip;
        }
        float *to = i ? free_one(s, d, kept) : dx;
        const float *beside = kept && kept_at + 1 == i ? kept : NULL;
        if (l->transposed)
            tacit_convolution_transposed_backward(&l->conv, s->batch, x, d, to);
        else
            tacit_convolution_backward(&l->conv, s->batch, x, d, to, beside);
        if (beside)
            kept = NULL;
        d = to;
    }
    assert(!kept);
}

double tacit_conv_stack_flops(const tacit_conv_stack *s)
{
    double sum = 0;
    for (size_t i = 0; i < s->count; i++) {
        const tacit_convolution *c = &s->layers[i].conv;
        sum +=
            2.0 * (double)(c->shape.rows * c->shape.columns) * (double)c->dense.in * (double)c->out;
    }
    return sum;
}
