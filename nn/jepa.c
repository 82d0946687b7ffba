/* jepa.c - see jepa.h. */
#include "jepa.h"

#include <assert.h>
#include <string.h>

#define TARGET_EPS 1e-5f /* of PyTorch's layer_norm */

static const tacit_init small = { .kind = TACIT_INIT_NORMAL, .size = 0.02 };

static tacit_trunk_config predictor_of(const tacit_jepa_config *c)
{
    return (tacit_trunk_config){ .dim = c->dim,
                                 .depth = c->depth,
                                 .heads = c->heads,
                                 .mlp = c->mlp,
                                 .eps = c->encoder.eps,
                                 .recompute = c->encoder.recompute,
                                 .weight = small };
}

static size_t max_rows(const tacit_jepa *j)
{
    return j->config.blocks * j->max_batch * j->config.max_asked;
}

static tacit_status declare_encoders(tacit_jepa *j, tacit_params *params, tacit_params *teacher,
                                     tacit_err *err)
{
    tacit_vit_train_config *encoder = &j->config.encoder;
    encoder->no_cls = encoder->fixed_positions = true;
    encoder->init = TACIT_VIT_INIT_NORMAL;
    tacit_status st = tacit_vit_train_declare(&j->encoder, encoder, j->max_batch,
                                              j->config.max_kept, params, j->work, err);
    tacit_vit_train_config target = *encoder;
    target.recompute = true; /* there is no backward to keep anything for */
    return st < 0 ? st
                  : tacit_vit_train_declare(&j->target, &target, j->max_batch, 0, teacher, j->work,
                                            err);
}

tacit_status tacit_jepa_declare(tacit_jepa *jepa, const tacit_jepa_config *config, size_t max_batch,
                                tacit_params *params, tacit_params *teacher, tacit_work *work,
                                tacit_err *err)
{
    *jepa = (tacit_jepa){ .config = *config, .work = work, .max_batch = max_batch };
    tacit_status st = declare_encoders(jepa, params, teacher, err);
    if (st < 0)
        return st;
    size_t patches = jepa->encoder.patches, dim = config->dim, width = config->encoder.dim;
    size_t kept = config->max_kept, asked = config->max_asked, blocks = config->blocks;
    if (!blocks || !kept || kept > patches || !asked || asked > patches || !dim || dim % 4)
        return tacit_fail(err, TACIT_EINVAL,
                          "contexts of %zu and %zu blocks of %zu of %zu patches, and a predictor "
                          "of %zu",
                          kept, blocks, asked, patches, dim);
    tacit_trunk_config predictor = predictor_of(config);
    predictor.max_distinct = max_batch * kept + patches;
    const tacit_init sincos = { .kind = TACIT_INIT_SINCOS };
    st = tacit_params_add(params, "mask_token", 3, (const size_t[]){ 1, 1, dim }, small,
                          &jepa->mask_token, err);
    if (st == TACIT_OK)
        st = tacit_dense_declare(&jepa->embed, "predictor_embed", width, dim, true, 0, NULL, small,
                                 TACIT_ZEROS, max_batch * kept, params, work, err);
    if (st == TACIT_OK)
        st = tacit_params_add(params, "predictor_pos_embed", 3, (const size_t[]){ 1, patches, dim },
                              sincos, &jepa->positions, err);
    if (st == TACIT_OK) {
        jepa->positions->frozen = true;
        st = tacit_trunk_declare(&jepa->predictor, &predictor, "predictor_blocks", "predictor_norm",
                                 blocks * max_batch, kept + asked, params, work, err);
    }
    if (st == TACIT_OK)
        st = tacit_dense_declare(&jepa->predict, "predictor_proj", dim, width, true, 0, NULL, small,
                                 TACIT_ZEROS, max_rows(jepa), params, work, err);
    tacit_sum_rows_need(work, patches, dim);
    tacit_work_need(&work->worker_floats, 2 * width);
    return st;
}

void tacit_jepa_close(tacit_jepa *jepa)
{
    tacit_vit_train_close(&jepa->encoder);
    tacit_vit_train_close(&jepa->target);
    tacit_trunk_close(&jepa->predictor);
    *jepa = (tacit_jepa){ 0 };
}

/* Adds up what is needed beside the networks, or where arena is given takes it. */
static bool plan(const tacit_jepa *j, size_t *total, tacit_jepa *to, tacit_arena *arena)
{
    size_t ld = j->encoder.trunk.ld, narrow = j->predictor.ld;
    size_t tokens = j->predictor.max_batch * j->predictor.max_tokens;
    const struct part {
        size_t rows, ld;
        float **at;
    } parts[] = {
        { max_rows(j), ld, arena ? &to->predictions : NULL },
        { max_rows(j), ld, arena ? &to->targets : NULL },
        { j->max_batch, j->config.encoder.dim, arena ? &to->features : NULL },
        { tacit_trunk_rows(&j->predictor), narrow, arena ? &to->d : NULL },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (arena)
            *parts[i].at = tacit_arena_take(arena, parts[i].rows, parts[i].ld * sizeof(float));
        else if (!tacit_arena_plan(total, parts[i].rows, parts[i].ld * sizeof(float)))
            return false;
    if (!arena)
        return tacit_arena_plan(total, tokens, sizeof *j->source) &&
               tacit_arena_plan(total, max_rows(j), sizeof *j->wanted);
    to->source = tacit_arena_take(arena, tokens, sizeof *j->source);
    to->wanted = tacit_arena_take(arena, max_rows(j), sizeof *j->wanted);
    return true;
}

bool tacit_jepa_plan(const tacit_jepa *jepa, size_t *total)
{
    size_t online = 0, target = 0;
    return plan(jepa, total, NULL, NULL) && tacit_vit_train_plan(&jepa->target, &target) &&
           tacit_vit_train_plan(&jepa->encoder, &online) &&
           tacit_trunk_plan(&jepa->predictor, &online) &&
           tacit_add_size(*total, online > target ? online : target, total);
}

void tacit_jepa_take(tacit_jepa *jepa, tacit_arena *arena)
{
    plan(jepa, NULL, jepa, arena);
    size_t begin = arena->used;
    tacit_vit_train_take(&jepa->target, arena);
    size_t end = arena->used;
    arena->used = begin; /* the same memory: the target goes first, and is then done */
    tacit_vit_train_take(&jepa->encoder, arena);
    tacit_trunk_take(&jepa->predictor, arena);
    arena->used = arena->used > end ? arena->used : end;
}

size_t tacit_jepa_rows(const tacit_jepa *jepa)
{
    return jepa->config.blocks * jepa->batch * jepa->asked;
}

/* The patches of block k of an image. */
static const uint32_t *block_of(const tacit_jepa *j, size_t image, size_t k)
{
    return j->blocks + (image * j->config.blocks + k) * j->asked;
}

/* Where the rows of block k of an image begin, of so many rows each. */
static size_t row_of(const tacit_jepa *j, size_t image, size_t k, size_t rows)
{
    return (k * j->batch + image) * rows;
}

/* Forward ------------------------------------------------------------------------------------- */

/* Of an image: the targets, and the mean of all patches. */
static void targets_chunk(void *ctx, size_t image, unsigned worker)
{
    tacit_jepa *j = ctx;
    const tacit_kernels *k = j->work->kernels;
    size_t dim = j->config.encoder.dim, ld = j->encoder.trunk.ld, patches = j->target.patches;
    const float *from = j->whole + image * patches * ld;
    float *ones = j->work->worker + worker * j->work->worker_floats, *zeros = ones + dim;
    for (size_t i = 0; i < dim; i++) {
        ones[i] = 1;
        zeros[i] = 0;
    }
    for (size_t b = 0; b < j->config.blocks; b++)
        for (size_t i = 0; i < j->asked; i++) {
            const float *x = from + block_of(j, image, b)[i] * ld;
            float *to = j->targets + (row_of(j, image, b, j->asked) + i) * ld;
            if (j->config.normalised)
                k->layernorm_f32(1, dim, x, ld, ones, zeros, TARGET_EPS, to, ld);
            else
                memcpy(to, x, dim * sizeof *to);
        }
    float *mean = j->features + image * dim;
    k->sum_rows_f32(patches, dim, from, ld, false, mean);
    k->scale_add_f32(dim, mean, 1.0f / (float)patches, NULL, mean);
}

/* The predictor's tokens of an image: its context, with positions; and for each of its sequences
 * what is a copy of that, and what of a mask token. */
static void tokens_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_jepa *j = ctx;
    size_t dim = j->config.dim, ld = j->predictor.ld, kept = j->kept, asked = j->asked;
    float *x = tacit_trunk_input(&j->predictor) + image * kept * ld;
    for (size_t i = 0; i < kept; i++, x += ld)
        j->work->kernels->add_f32(dim, x, j->positions->value + j->context[image * kept + i] * dim,
                                  x);
    for (size_t b = 0; b < j->config.blocks; b++) {
        size_t first = row_of(j, image, b, kept + asked);
        uint32_t *wanted = j->wanted + row_of(j, image, b, asked);
        for (size_t i = 0; i < kept; i++)
            j->source[first + i] = (uint32_t)(image * kept + i);
        for (size_t i = 0; i < asked; i++) {
            j->source[first + kept + i] = (uint32_t)(j->batch * kept + block_of(j, image, b)[i]);
            wanted[i] = (uint32_t)(first + kept + i);
        }
    }
}

void tacit_jepa_forward(tacit_jepa *jepa, const float *images, size_t batch,
                        const uint32_t *context, size_t kept, const uint32_t *blocks, size_t asked)
{
    const tacit_work *work = jepa->work;
    size_t sequences = jepa->config.blocks * batch, ld = jepa->predictor.ld, rows = batch * kept;
    size_t patches = jepa->target.patches, dim = jepa->config.dim;
    float *x = tacit_trunk_input(&jepa->predictor);
    assert(kept <= jepa->config.max_kept && asked <= jepa->config.max_asked);
    jepa->batch = batch;
    jepa->kept = kept;
    jepa->asked = asked;
    jepa->context = context;
    jepa->blocks = blocks;
    jepa->whole = tacit_vit_train_forward(&jepa->target, images, batch, NULL, 0, false);
    tacit_parallel_for(work->pool, batch, targets_chunk, jepa);
    jepa->whole = NULL;
    const float *seen =
        tacit_vit_train_forward(&jepa->encoder, images, batch, context, kept, false);
    tacit_dense_forward(work, &jepa->embed, rows, seen, jepa->encoder.trunk.ld, x, ld, NULL);
    tacit_parallel_for(work->pool, batch, tokens_chunk, jepa);
    for (size_t i = 0; i < patches; i++)
        work->kernels->add_f32(dim, jepa->mask_token->value, jepa->positions->value + i * dim,
                               x + (rows + i) * ld);
    tacit_trunk_copies(&jepa->predictor, jepa->source, rows + patches);
    tacit_trunk_want(&jepa->predictor, jepa->wanted, sequences * asked);
    const float *tokens = tacit_trunk_forward(&jepa->predictor, sequences, kept + asked, false);
    tacit_dense_forward(work, &jepa->predict, sequences * asked, tokens, ld, jepa->predictions,
                        jepa->encoder.trunk.ld, NULL);
}

/* Backward ------------------------------------------------------------------------------------ */

void tacit_jepa_backward(tacit_jepa *jepa)
{
    const tacit_work *work = jepa->work;
    size_t ld = jepa->predictor.ld, wide = jepa->encoder.trunk.ld;
    size_t rows = jepa->batch * jepa->kept;
    tacit_dense_backward(work, &jepa->predict, tacit_jepa_rows(jepa), jepa->predictions, wide,
                         jepa->predictor.normed, ld, jepa->d, ld, NULL);
    tacit_trunk_backward(&jepa->predictor, jepa->d);
    tacit_sum_rows(work, jepa->target.patches, jepa->config.dim, jepa->d + rows * ld, ld,
                   jepa->mask_token->grad);
    tacit_dense_backward(work, &jepa->embed, rows, jepa->d, ld, jepa->encoder.trunk.normed, wide,
                         jepa->encoder.d, wide, NULL);
    tacit_vit_train_backward(&jepa->encoder);
}

double tacit_jepa_flops(const tacit_jepa_config *config, double kept, double asked)
{
    const tacit_vit_train_config *e = &config->encoder;
    tacit_trunk_config predictor = predictor_of(config);
    double blocks = (double)config->blocks, dim = config->dim;
    return tacit_vit_train_flops(e, (size_t)kept, 0) + tacit_vit_train_flops(e, 0, 0) / 3 +
           blocks * tacit_trunk_flops(&predictor, kept + asked, kept / blocks, asked) +
           6 * dim * e->dim * (kept + blocks * asked);
}
