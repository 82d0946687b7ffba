/* unit_linear.c - see unit_linear.h.
 *
 * With u = v / |v| and dw the gradient of w = g u: dg = dw . u, dv = g (dw - (dw . u) u) / |v|.
 */
#include "unit_linear.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define OUTPUTS 64 /* of a chunk */

tacit_status tacit_unit_linear_declare(tacit_unit_linear *l, const char *name, size_t in,
                                       size_t out, bool learns_gain, size_t max_rows,
                                       tacit_params *params, tacit_work *work, tacit_err *err)
{
    char full[2 * TACIT_PARAM_NAME];
    *l = (tacit_unit_linear){
        .work = work, .in = in, .out = out, .max_rows = max_rows, .trained = !params->fixed
    };
    snprintf(full, sizeof full, "%s.weight_g", name);
    tacit_status st =
        tacit_params_add(params, full, 2, (const size_t[]){ out, 1 }, TACIT_ONES, &l->g, err);
    snprintf(full, sizeof full, "%s.weight_v", name);
    if (st == TACIT_OK)
        st = tacit_params_add(params, full, 2, (const size_t[]){ out, in }, tacit_init_default(in),
                              &l->v, err);
    if (st == TACIT_OK)
        l->g->frozen = !learns_gain;
    tacit_work_need(&work->packed_floats, tacit_gemm_packed_size(work->kernels, out, in));
    tacit_work_need(&work->packed_floats, tacit_gemm_packed_size(work->kernels, in, out));
    return st;
}

bool tacit_unit_linear_plan(const tacit_unit_linear *l, size_t *total)
{
    bool fits = tacit_arena_plan(total, l->out, l->in * sizeof(float)) &&
                tacit_arena_plan(total, l->max_rows, l->in * sizeof(float));
    if (l->trained)
        fits = fits && tacit_arena_plan(total, l->out, l->in * sizeof(float)) &&
               tacit_arena_plan(total, l->max_rows, l->in * sizeof(float));
    return fits;
}

void tacit_unit_linear_take(tacit_unit_linear *l, tacit_arena *arena)
{
    l->made.value = tacit_arena_take(arena, l->out, l->in * sizeof(float));
    l->unit = tacit_arena_take(arena, l->max_rows, l->in * sizeof(float));
    if (!l->trained)
        return;
    l->made.grad = tacit_arena_take(arena, l->out, l->in * sizeof(float));
    l->dunit = tacit_arena_take(arena, l->max_rows, l->in * sizeof(float));
}

static size_t chunks(const tacit_unit_linear *l)
{
    return (l->out + OUTPUTS - 1) / OUTPUTS;
}

static size_t end_of(const tacit_unit_linear *l, size_t chunk)
{
    size_t end = (chunk + 1) * OUTPUTS;
    return end < l->out ? end : l->out;
}

static void made_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const tacit_unit_linear *l = ctx;
    const tacit_kernels *k = l->work->kernels;
    for (size_t i = chunk * OUTPUTS; i < end_of(l, chunk); i++) {
        float *w = l->made.value + i * l->in;
        k->l2norm_f32(1, l->in, l->v->value + i * l->in, l->in, w, l->in);
        k->scale_add_f32(l->in, w, l->g->value[i], NULL, w);
    }
}

static tacit_dense dense_of(tacit_unit_linear *l)
{
    return (tacit_dense){ .in = l->in, .out = l->out, .w = &l->made };
}

void tacit_unit_linear_forward(tacit_unit_linear *l, size_t rows, const float *x, size_t ldx,
                               float *y)
{
    const tacit_dense dense = dense_of(l);
    assert(rows <= l->max_rows);
    l->rows = rows;
    l->x = x;
    l->ldx = ldx;
    tacit_parallel_for(l->work->pool, chunks(l), made_chunk, l);
    l->work->kernels->l2norm_f32(rows, l->in, x, ldx, l->unit, l->in);
    tacit_dense_forward(l->work, &dense, rows, l->unit, l->in, y, l->out, NULL);
}

static void gradient_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const tacit_unit_linear *l = ctx;
    const tacit_kernels *k = l->work->kernels;
    for (size_t i = chunk * OUTPUTS; i < end_of(l, chunk); i++) {
        const float *v = l->v->value + i * l->in;
        float *dw = l->made.grad + i * l->in, *dv = l->v->grad + i * l->in;
        double norm = sqrt(k->dot_f64(l->in, v, v));
        l->g->grad[i] += (float)(k->dot_f64(l->in, dw, v) / (norm > 1e-12 ? norm : 1e-12));
        k->scale_add_f32(l->in, dw, l->g->value[i], NULL, dw);
        k->l2norm_backward_f32(1, l->in, v, l->in, dw, l->in, dw, l->in);
        k->add_f32(l->in, dv, dw, dv);
    }
}

void tacit_unit_linear_backward(tacit_unit_linear *l, const float *dy, float *dx, size_t lddx)
{
    const tacit_dense dense = dense_of(l);
    memset(l->made.grad, 0, l->out * l->in * sizeof *l->made.grad);
    tacit_dense_backward(l->work, &dense, l->rows, dy, l->out, l->unit, l->in, l->dunit, l->in,
                         NULL);
    tacit_parallel_for(l->work->pool, chunks(l), gradient_chunk, l);
    l->work->kernels->l2norm_backward_f32(l->rows, l->in, l->x, l->ldx, l->dunit, l->in, dx, lddx);
}
