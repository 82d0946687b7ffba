/* tower.c - see tower.h. */
#include "tower.h"

#include "draws.h"
#include "view_settings.h"

#include <string.h>

void tacit_tower_multicrop(tacit_tower_config *tower, const tacit_config *config)
{
    tower->local = tacit_config_whole(config, "local_crops");
    tower->local_size = (unsigned)tacit_config_whole(config, "local_size");
    tower->views = TACIT_GLOBAL_CROPS + tower->local;
}

static size_t rows_of(const tacit_tower *t)
{
    return t->views * t->part;
}

static size_t feature_dim(const tacit_tower *t)
{
    return t->crops[0].encoder.dim;
}

static size_t values_of(unsigned height, unsigned width)
{
    return (size_t)3 * height * width;
}

/* The backbone, and for local crops of another size once more. */
static tacit_status declare_encoders(tacit_tower *t, const tacit_tower_config *config,
                                     const tacit_learner *l, tacit_params *params, tacit_err *err)
{
    tacit_tower_crops *all = &t->crops[0], *local = &t->crops[1];
    unsigned height, width;
    tacit_backbone_input(&l->backbone, &height, &width);
    bool two = config->local && (config->local_size != height || config->local_size != width);
    t->sizes = two ? 2 : 1;
    all->count = two ? t->global : t->views;
    all->pixels = values_of(height, width);
    tacit_status st = tacit_encoder_declare(&all->encoder, l->config, &l->backbone,
                                            all->count * t->part, params, l->work, err);
    if (st < 0 || !two)
        return st;
    local->first = all->count;
    local->count = config->local;
    local->pixels = values_of(config->local_size, config->local_size);
    return tacit_encoder_declare_again(&local->encoder, l->config, &l->backbone, config->local_size,
                                       local->count * t->part, params, l->work, err);
}

tacit_status tacit_tower_declare(tacit_tower *t, const tacit_tower_config *config,
                                 const tacit_learner *l, tacit_params *params, tacit_err *err)
{
    *t = (tacit_tower){ .views = config->views,
                        .global = config->views - config->local,
                        .still = config->still,
                        .part = l->part,
                        .whole = l->whole,
                        .dim = config->layers[config->layer_count - 1].out };
    tacit_status st = declare_encoders(t, config, l, params, err);
    for (size_t s = 0; st == TACIT_OK && config->as_moco && s < t->sizes; s++)
        st = tacit_encoder_as_moco(&t->crops[s].encoder, config->freeze, err);
    if (st == TACIT_OK)
        st = tacit_mlp_declare(&t->head, "projector", feature_dim(t), config->layer_count,
                               config->layers, rows_of(t), params, l->work, err);
    size_t groups = config->groups ? config->groups : 1;
    if (st == TACIT_OK && config->apart) {
        for (size_t s = 0; s < t->sizes; s++)
            tacit_encoder_split(&t->crops[s].encoder, t->crops[s].count * groups, groups);
        tacit_mlp_split(&t->head, t->views * groups, groups);
    }
    return st;
}

void tacit_tower_close(tacit_tower *t)
{
    for (size_t s = 0; s < t->sizes; s++)
        tacit_encoder_close(&t->crops[s].encoder);
}

/* Rows of features that lie together only where there are two sizes. */
static size_t joined_rows(const tacit_tower *t)
{
    return t->sizes > 1 ? rows_of(t) : 0;
}

bool tacit_tower_plan(const tacit_tower *t, size_t *total)
{
    size_t rows = rows_of(t), all = t->views * t->whole, joined = joined_rows(t);
    bool fits = tacit_arena_plan(total, all, t->dim * sizeof(float)) &&
                tacit_arena_plan(total, all, t->dim * sizeof(float)) &&
                tacit_arena_plan(total, rows, t->dim * sizeof(float)) &&
                tacit_arena_plan(total, rows, sizeof(uint64_t)) &&
                tacit_arena_plan(total, joined, feature_dim(t) * sizeof(float)) &&
                tacit_arena_plan(total, joined, feature_dim(t) * sizeof(float)) &&
                tacit_mlp_plan(&t->head, total);
    for (size_t s = 0; fits && s < t->sizes; s++)
        fits = tacit_arena_plan(total, t->crops[s].count * t->part,
                                t->crops[s].pixels * sizeof(float)) &&
               tacit_encoder_plan(&t->crops[s].encoder, total);
    return fits;
}

void tacit_tower_take(tacit_tower *t, tacit_arena *arena)
{
    size_t rows = rows_of(t), all = t->views * t->whole, joined = joined_rows(t);
    t->z = tacit_arena_take(arena, all, t->dim * sizeof(float));
    t->dz = tacit_arena_take(arena, all, t->dim * sizeof(float));
    t->d = tacit_arena_take(arena, rows, t->dim * sizeof(float));
    t->draws = tacit_arena_take(arena, rows, sizeof(uint64_t));
    t->joined = tacit_arena_take(arena, joined, feature_dim(t) * sizeof(float));
    t->djoined = tacit_arena_take(arena, joined, feature_dim(t) * sizeof(float));
    tacit_mlp_take(&t->head, arena);
    for (size_t s = 0; s < t->sizes; s++) {
        tacit_tower_crops *c = &t->crops[s];
        c->images = tacit_arena_take(arena, c->count * t->part, c->pixels * sizeof(float));
        tacit_encoder_take(&c->encoder, arena);
    }
}

size_t tacit_tower_at(const tacit_tower *t, const tacit_part *part, size_t view)
{
    return (view * t->whole + part->index * t->part) * t->dim;
}

/* Rows of n values, as far apart as is said, to others. */
static void copy_rows(size_t rows, size_t n, const float *from, size_t ld_from, float *to,
                      size_t ld_to)
{
    for (size_t i = 0; i < rows; i++)
        memcpy(to + i * ld_to, from + i * ld_from, n * sizeof *to);
}

/* The features of the views of one size, encoder.ld apart. */
static const float *features_of(tacit_tower *t, tacit_tower_crops *c, const tacit_part *part)
{
    const tacit_batch *b = part->batch;
    size_t n = t->part;
    uint64_t *draws = t->draws + c->first * n;
    for (size_t v = 0; v < c->count; v++) {
        unsigned view = (unsigned)(c->first + v);
        memcpy(c->images + v * n * c->pixels, b->views[view], n * c->pixels * sizeof(float));
        for (size_t i = 0; i < n; i++)
            draws[v * n + i] =
                tacit_draw_stream(part->seed, b->epoch, b->samples[i], TACIT_DRAW_DROP_PATH + view);
    }
    return tacit_encoder_forward(&c->encoder, c->images, c->count * n, part->seed,
                                 t->still ? NULL : draws);
}

const float *tacit_tower_forward(tacit_tower *t, const tacit_part *part)
{
    size_t n = t->part, dim = feature_dim(t);
    for (size_t s = 0; s < t->sizes; s++) {
        tacit_tower_crops *c = &t->crops[s];
        t->features = features_of(t, c, part);
        t->ld = c->encoder.ld;
        if (t->sizes > 1)
            copy_rows(c->count * n, dim, t->features, t->ld, t->joined + c->first * n * dim, dim);
    }
    if (t->sizes > 1) {
        t->features = t->joined;
        t->ld = dim;
    }
    const float *z = tacit_mlp_forward(&t->head, rows_of(t), t->features, t->ld);
    for (size_t v = 0; v < t->views; v++)
        memcpy(t->z + tacit_tower_at(t, part, v), z + v * n * t->dim, n * t->dim * sizeof *z);
    return z;
}

void tacit_tower_backward(tacit_tower *t, float *dz)
{
    size_t n = t->part, dim = feature_dim(t);
    float *d = t->sizes > 1 ? t->djoined : tacit_encoder_gradient(&t->crops[0].encoder);
    tacit_mlp_backward(&t->head, dz, d, t->ld);
    for (size_t s = 0; s < t->sizes; s++) {
        tacit_tower_crops *c = &t->crops[s];
        if (t->sizes > 1)
            copy_rows(c->count * n, dim, d + c->first * n * dim, dim,
                      tacit_encoder_gradient(&c->encoder), c->encoder.ld);
        tacit_encoder_backward(&c->encoder);
    }
}

void tacit_tower_backward_part(tacit_tower *t, const tacit_part *part)
{
    size_t n = t->part * t->dim;
    for (size_t v = 0; v < t->views; v++)
        memcpy(t->d + v * n, t->dz + tacit_tower_at(t, part, v), n * sizeof *t->d);
    tacit_tower_backward(t, t->d);
}

tacit_embeddings tacit_tower_outputs(const tacit_tower *t)
{
    return (tacit_embeddings){ t->z, t->global * t->whole, t->dim, t->dim, t->global == 2, false };
}

tacit_embeddings tacit_tower_embeddings(const tacit_tower *t)
{
    return (tacit_embeddings){ t->features, t->global * t->part, feature_dim(t),
                               t->ld,       t->global == 2,      false };
}

double tacit_tower_flops(const tacit_tower *t)
{
    double sum = 0;
    for (size_t i = 0; i < t->head.count; i++)
        sum += 2.0 * (double)t->head.dense[i].in * (double)t->head.dense[i].out;
    sum *= 3 * (double)t->views;
    for (size_t s = 0; s < t->sizes; s++)
        sum += (double)t->crops[s].count * tacit_encoder_flops(&t->crops[s].encoder);
    return sum;
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

tacit_embeddings tacit_tower_hook_outputs(const void *state)
{
    return tacit_tower_outputs(state);
}

tacit_embeddings tacit_tower_hook_embeddings(const void *state)
{
    return tacit_tower_embeddings(state);
}
