/* bootstrap.c - see bootstrap.h. */
#include "bootstrap.h"

#include <string.h>

const tacit_setting tacit_bootstrap_settings[] = {
    { "head_hidden", TACIT_SETTING_WHOLE, "4096", 1, 16384, NULL,
      "width of the hidden layers of projector and predictor", false },
    { "head_dim", TACIT_SETTING_WHOLE, "256", 2, 16384, NULL, "width of the embeddings", false },
    { 0 },
};

tacit_status tacit_bootstrap_declare(tacit_bootstrap *b, const tacit_tower_config *tower,
                                     const tacit_mlp_layer *predictor, size_t layers,
                                     const tacit_learner *l, tacit_err *err)
{
    size_t dim = tower->layers[tower->layer_count - 1].out;
    b->params = l->params;
    b->teacher = l->teacher;
    b->work = l->work;
    tacit_status st = tacit_tower_declare(&b->online, tower, l, l->params, err);
    if (st == TACIT_OK && layers)
        st = tacit_mlp_declare(&b->predictor, "predictor", dim, layers, predictor, 2 * l->part,
                               l->params, l->work, err);
    tacit_mlp_split(&b->predictor, 2, 1);
    return st == TACIT_OK ? tacit_tower_declare(&b->target, tower, l, l->teacher, err) : st;
}

void tacit_bootstrap_hook_close(void *state)
{
    tacit_bootstrap *b = state;
    tacit_tower_close(&b->online);
    tacit_tower_close(&b->target);
}

bool tacit_bootstrap_hook_plan(const void *state, size_t *total)
{
    const tacit_bootstrap *b = state;
    bool fits = tacit_tower_plan(&b->online, total) && tacit_mlp_plan(&b->predictor, total);
    for (int i = 0; i < 3; i++)
        fits = fits && tacit_arena_plan(total, 2 * b->online.whole, b->online.dim * sizeof(float));
    return fits && tacit_arena_plan(total, 2 * b->online.part, b->online.dim * sizeof(float));
}

void tacit_bootstrap_hook_take(void *state, tacit_arena *arena)
{
    tacit_bootstrap *b = state;
    size_t begin = arena->used, all = 2 * b->online.whole, row = b->online.dim * sizeof(float);
    tacit_tower_take(&b->target, arena);
    arena->used = begin; /* the same memory: the target goes first, and of it only z' is kept */
    tacit_tower_take(&b->online, arena);
    tacit_mlp_take(&b->predictor, arena);
    b->p = tacit_arena_take(arena, all, row);
    b->targets = tacit_arena_take(arena, all, row);
    b->d = tacit_arena_take(arena, all, row);
    b->dp = tacit_arena_take(arena, 2 * b->online.part, row);
}

void tacit_bootstrap_hook_forward(void *state, const tacit_part *part)
{
    tacit_bootstrap *b = state;
    size_t n = b->online.part * b->online.dim;
    const float *z = tacit_tower_forward(&b->target, part);
    for (size_t v = 0; v < 2; v++)
        memcpy(b->targets + tacit_tower_at(&b->target, part, v), z + (1 - v) * n, n * sizeof *z);
    const float *p = tacit_tower_forward(&b->online, part);
    if (b->predictor.count)
        p = tacit_mlp_forward(&b->predictor, 2 * b->online.part, p, b->online.dim);
    for (size_t v = 0; v < 2; v++)
        memcpy(b->p + tacit_tower_at(&b->online, part, v), p + v * n, n * sizeof *p);
}

void tacit_bootstrap_hook_backward(void *state, const tacit_part *part)
{
    tacit_bootstrap *b = state;
    size_t n = b->online.part * b->online.dim;
    float *dz = b->predictor.count ? b->online.d : b->dp;
    for (size_t v = 0; v < 2; v++)
        memcpy(b->dp + v * n, b->d + tacit_tower_at(&b->online, part, v), n * sizeof *dz);
    if (b->predictor.count)
        tacit_mlp_backward(&b->predictor, b->dp, dz, b->online.dim);
    tacit_tower_backward(&b->online, dz);
}

void tacit_bootstrap_follow(tacit_bootstrap *b, double momentum)
{
    tacit_params_average(b->teacher, b->params, momentum, b->work->kernels, b->work->pool);
}

tacit_embeddings tacit_bootstrap_hook_embeddings(const void *state)
{
    return tacit_tower_embeddings(&((const tacit_bootstrap *)state)->online);
}

tacit_embeddings tacit_bootstrap_hook_outputs(const void *state)
{
    return tacit_tower_outputs(&((const tacit_bootstrap *)state)->online);
}

double tacit_bootstrap_hook_flops(const void *state)
{
    const tacit_bootstrap *b = state;
    double predictor = 0;
    for (size_t i = 0; i < b->predictor.count; i++)
        predictor += 2.0 * (double)b->predictor.dense[i].in * (double)b->predictor.dense[i].out;
    return tacit_tower_flops(&b->online) * 4 / 3 + 6 * predictor; /* the target: a forward */
}
