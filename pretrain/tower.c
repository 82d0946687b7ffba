/* tower.c - see tower.h. */
#include "tower.h"

#include "draws.h"

#include <string.h>

tacit_status tacit_tower_declare(tacit_tower *t, const tacit_tower_config *config,
                                 const tacit_learner *l, tacit_params *params, tacit_err *err)
{
    unsigned height, width;
    tacit_backbone_input(&l->backbone, &height, &width);
    *t = (tacit_tower){ .views = config->views,
                        .part = l->part,
                        .whole = l->whole,
                        .pixels = (size_t)3 * height * width,
                        .dim = config->layers[config->layer_count - 1].out };
    size_t rows = t->views * t->part;
    tacit_status st =
        tacit_encoder_declare(&t->encoder, l->config, &l->backbone, rows, params, l->work, err);
    if (st == TACIT_OK)
        st = tacit_mlp_declare(&t->head, "projector", t->encoder.dim, config->layer_count,
                               config->layers, rows, params, l->work, err);
    size_t groups = config->groups ? config->groups : 1;
    if (st == TACIT_OK && config->apart) {
        tacit_encoder_split(&t->encoder, t->views * groups, groups);
        tacit_mlp_split(&t->head, t->views * groups, groups);
    }
    return st;
}

void tacit_tower_close(tacit_tower *t)
{
    tacit_encoder_close(&t->encoder);
}

bool tacit_tower_plan(const tacit_tower *t, size_t *total)
{
    size_t rows = t->views * t->part, all = t->views * t->whole;
    return tacit_arena_plan(total, rows, t->pixels * sizeof(float)) &&
           tacit_arena_plan(total, all, t->dim * sizeof(float)) &&
           tacit_arena_plan(total, all, t->dim * sizeof(float)) &&
           tacit_arena_plan(total, rows, t->dim * sizeof(float)) &&
           tacit_arena_plan(total, rows, sizeof(uint64_t)) &&
           tacit_encoder_plan(&t->encoder, total) && tacit_mlp_plan(&t->head, total);
}

void tacit_tower_take(tacit_tower *t, tacit_arena *arena)
{
    size_t rows = t->views * t->part, all = t->views * t->whole;
    t->images = tacit_arena_take(arena, rows, t->pixels * sizeof(float));
    t->z = tacit_arena_take(arena, all, t->dim * sizeof(float));
    t->dz = tacit_arena_take(arena, all, t->dim * sizeof(float));
    t->d = tacit_arena_take(arena, rows, t->dim * sizeof(float));
    t->draws = tacit_arena_take(arena, rows, sizeof(uint64_t));
    tacit_encoder_take(&t->encoder, arena);
    tacit_mlp_take(&t->head, arena);
}

size_t tacit_tower_at(const tacit_tower *t, const tacit_part *part, size_t view)
{
    return (view * t->whole + part->index * t->part) * t->dim;
}

const float *tacit_tower_forward(tacit_tower *t, const tacit_part *part)
{
    const tacit_batch *b = part->batch;
    size_t n = t->part, rows = t->views * n;
    for (size_t v = 0; v < t->views; v++) {
        memcpy(t->images + v * n * t->pixels, b->views[v], n * t->pixels * sizeof(float));
        for (size_t i = 0; i < n; i++)
            t->draws[v * n + i] = tacit_draw_stream(part->seed, b->epoch, b->samples[i],
                                                    TACIT_DRAW_DROP_PATH + (unsigned)v);
    }
    t->features = tacit_encoder_forward(&t->encoder, t->images, rows, part->seed, t->draws);
    const float *z = tacit_mlp_forward(&t->head, rows, t->features, t->encoder.ld);
    for (size_t v = 0; v < t->views; v++)
        memcpy(t->z + tacit_tower_at(t, part, v), z + v * n * t->dim, n * t->dim * sizeof *z);
    return z;
}

void tacit_tower_backward(tacit_tower *t, float *dz)
{
    tacit_mlp_backward(&t->head, dz, tacit_encoder_gradient(&t->encoder), t->encoder.ld);
    tacit_encoder_backward(&t->encoder);
}

void tacit_tower_backward_part(tacit_tower *t, const tacit_part *part)
{
    size_t n = t->part * t->dim;
    for (size_t v = 0; v < t->views; v++)
        memcpy(t->d + v * n, t->dz + tacit_tower_at(t, part, v), n * sizeof *t->d);
    tacit_tower_backward(t, t->d);
}

tacit_embeddings tacit_tower_embeddings(const tacit_tower *t)
{
    return (tacit_embeddings){ t->features, t->views * t->part, t->encoder.dim, t->encoder.ld,
                               t->views == 2 };
}

double tacit_tower_flops(const tacit_tower *t)
{
    double head = 0;
    for (size_t i = 0; i < t->head.count; i++)
        head += 2.0 * (double)t->head.dense[i].in * (double)t->head.dense[i].out;
    return (double)t->views * (tacit_encoder_flops(&t->encoder) + 3 * head);
}

void tacit_tower_hook_close(void *state)
{
    tacit_tower_close(state);
}

void tacit_tower_hook_forward(void *state, const tacit_part *part)
{
    tacit_tower_forward(state, part);
}

void tacit_tower_hook_backward(void *state, const tacit_part *part)
{
    tacit_tower_backward_part(state, part);
}

tacit_embeddings tacit_tower_hook_embeddings(const void *state)
{
    return tacit_tower_embeddings(state);
}
