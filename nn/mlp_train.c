/* mlp_train.c - see mlp_train.h. */
#include "mlp_train.h"

#include <assert.h>
#include <stdio.h>

static bool has_norm(const tacit_mlp *mlp, size_t i)
{
    return mlp->layers[i].norm != TACIT_MLP_NO_NORM;
}

tacit_status tacit_mlp_declare(tacit_mlp *mlp, const char *prefix, size_t in, size_t count,
                               const tacit_mlp_layer *layers, size_t max_rows, tacit_params *params,
                               tacit_work *work, tacit_err *err)
{
    *mlp = (tacit_mlp){ .in = in, .count = count, .max_rows = max_rows, .work = work };
    assert(count && count <= TACIT_MLP_LAYERS);
    for (size_t i = 0; i < count; i++) {
        const tacit_mlp_layer *l = &layers[i];
        char name[TACIT_PARAM_NAME];
        mlp->layers[i] = *l;
        assert(i + 1 < count || !l->gelu);
        snprintf(name, sizeof name, "%s.%s", prefix, l->name);
        bool own = l->weight.size > 0;
        tacit_status st = tacit_dense_declare(&mlp->dense[i], name, in, l->out, l->bias, 0, NULL,
                                              own ? l->weight : tacit_init_default(in),
                                              own ? TACIT_ZEROS : tacit_init_default(in), max_rows,
                                              params, work, err);
        if (st == TACIT_OK && has_norm(mlp, i)) {
            snprintf(name, sizeof name, "%s.%s", prefix, l->norm_name);
            st = tacit_bn_declare(&mlp->bn[i], name, l->out, l->relu,
                                  l->norm == TACIT_MLP_BN         ? TACIT_BN_AFFINE
                                  : l->norm == TACIT_MLP_BN_GAMMA ? TACIT_BN_GAMMA
                                                                  : TACIT_BN_PLAIN,
                                  1, max_rows, params, work, err);
        }
        if (st < 0)
            return st;
        in = l->out;
    }
    return TACIT_OK;
}

void tacit_mlp_split(tacit_mlp *mlp, size_t groups, size_t pooled)
{
    for (size_t i = 0; i < mlp->count; i++) {
        mlp->bn[i].groups = groups;
        mlp->bn[i].pooled = pooled;
    }
}

static size_t widest(const tacit_mlp *mlp)
{
    size_t most = 0;
    for (size_t i = 0; i < mlp->count; i++)
        tacit_work_need(&most, mlp->layers[i].out);
    return most;
}

bool tacit_mlp_plan(const tacit_mlp *mlp, size_t *total)
{
    for (size_t i = 0; i < mlp->count; i++) {
        size_t out = mlp->layers[i].out;
        if (!tacit_arena_plan(total, mlp->max_rows, out * sizeof(float)) ||
            (has_norm(mlp, i) && (!tacit_arena_plan(total, mlp->max_rows, out * sizeof(float)) ||
                                  !tacit_bn_plan(&mlp->bn[i], total))) ||
            (mlp->layers[i].gelu && !tacit_arena_plan(total, mlp->max_rows, out * sizeof(float))))
            return false;
    }
    for (size_t i = 0; i < 2; i++)
        if (!tacit_arena_plan(total, mlp->max_rows, widest(mlp) * sizeof(float)))
            return false;
    return true;
}

void tacit_mlp_take(tacit_mlp *mlp, tacit_arena *arena)
{
    for (size_t i = 0; i < mlp->count; i++) {
        size_t out = mlp->layers[i].out;
        mlp->before[i] = tacit_arena_take(arena, mlp->max_rows, out * sizeof(float));
        mlp->after[i] = mlp->before[i];
        if (has_norm(mlp, i)) {
            mlp->after[i] = tacit_arena_take(arena, mlp->max_rows, out * sizeof(float));
            tacit_bn_take(&mlp->bn[i], arena);
        }
        mlp->out[i] = mlp->after[i];
        if (mlp->layers[i].gelu)
            mlp->out[i] = tacit_arena_take(arena, mlp->max_rows, out * sizeof(float));
    }
    for (size_t i = 0; i < 2; i++)
        mlp->d[i] = tacit_arena_take(arena, mlp->max_rows, widest(mlp) * sizeof(float));
}

/* In place; a NaN stays one. */
static void relu(size_t n, float *x)
{
    for (size_t i = 0; i < n; i++)
        x[i] = x[i] < 0 ? 0 : x[i];
}

typedef struct gelu_job {
    const tacit_mlp *mlp;
    size_t layer;
} gelu_job;

static void gelu_chunk(void *ctx, size_t row, unsigned worker)
{
    (void)worker;
    const gelu_job *j = ctx;
    size_t n = j->mlp->layers[j->layer].out;
    j->mlp->work->kernels->gelu_f32(n, j->mlp->after[j->layer] + row * n,
                                    j->mlp->out[j->layer] + row * n);
}

const float *tacit_mlp_forward(tacit_mlp *mlp, size_t rows, const float *x, size_t ldx)
{
    assert(rows && rows <= mlp->max_rows);
    mlp->rows = rows;
    mlp->x = x;
    mlp->ldx = ldx;
    for (size_t i = 0; i < mlp->count; i++) {
        size_t out = mlp->layers[i].out;
        tacit_dense_forward(mlp->work, &mlp->dense[i], rows, x, ldx, mlp->before[i], out, NULL);
        if (has_norm(mlp, i))
            tacit_bn_forward(mlp->work, &mlp->bn[i], rows, mlp->before[i], out, NULL, 0,
                             mlp->after[i], out);
        else if (mlp->layers[i].relu)
            relu(rows * out, mlp->after[i]);
        if (mlp->layers[i].gelu)
            tacit_parallel_for(mlp->work->pool, rows, gelu_chunk, &(gelu_job){ mlp, i });
        x = mlp->out[i];
        ldx = out;
    }
    return x;
}

void tacit_mlp_backward(tacit_mlp *mlp, float *dy, float *dx, size_t lddx)
{
    for (size_t i = mlp->count; i-- > 0;) {
        size_t out = mlp->layers[i].out, in = mlp->dense[i].in;
        if (has_norm(mlp, i))
            tacit_bn_backward(mlp->work, &mlp->bn[i], mlp->rows, mlp->before[i], out, dy, out, dy,
                              out);
        else if (mlp->layers[i].relu)
            mlp->work->kernels->relu_backward_f32(mlp->rows * out, mlp->after[i], dy, dy);
        float *to = i ? mlp->d[i % 2] : dx;
        tacit_after gelu = { 0 };
        if (i && mlp->layers[i - 1].gelu)
            gelu = (tacit_after){ .gelu_input = mlp->after[i - 1], .ldg = in };
        tacit_dense_backward(mlp->work, &mlp->dense[i], mlp->rows, dy, out,
                             i ? mlp->out[i - 1] : mlp->x, i ? in : mlp->ldx, to, i ? in : lddx,
                             &gelu);
        dy = to;
    }
}
