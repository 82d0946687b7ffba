/* mae.c - see mae.h. */
#include "mae.h"

#include <assert.h>
#include <string.h>

static tacit_trunk_config decoder_of(const tacit_mae_config *c)
{
    return (tacit_trunk_config){ .dim = c->dim,
                                 .depth = c->depth,
                                 .heads = c->heads,
                                 .mlp = c->mlp,
                                 .eps = c->encoder.eps,
                                 .recompute = c->encoder.recompute };
}

tacit_status tacit_mae_declare(tacit_mae *mae, const tacit_mae_config *config, size_t max_batch,
                               size_t kept, tacit_params *params, tacit_work *work, tacit_err *err)
{
    *mae = (tacit_mae){ .config = *config, .work = work, .kept = kept, .max_batch = max_batch };
    mae->config.encoder.fixed_positions = true;
    mae->config.encoder.init = TACIT_VIT_INIT_MAE;
    tacit_status st = tacit_vit_train_declare(&mae->encoder, &mae->config.encoder, max_batch, kept,
                                              params, work, err);
    if (st < 0)
        return st;
    size_t patches = mae->encoder.patches, dim = config->dim, width = config->encoder.dim;
    size_t values = mae->encoder.embed.in;
    if (!kept || kept >= patches || !dim || dim % 4)
        return tacit_fail(err, TACIT_EINVAL,
                          "a masked autoencoder with %zu of %zu patches kept and a decoder of %zu",
                          kept, patches, dim);
    mae->masked = patches - kept;
    mae->ld_pixels = mae->encoder.ld_pixels;
    tacit_trunk_config decoder = decoder_of(config);
    decoder.max_distinct = max_batch * (1 + kept) + patches;
    const tacit_init small = { .kind = TACIT_INIT_NORMAL, .size = 0.02 };
    const tacit_init sincos = { .kind = TACIT_INIT_SINCOS };
    st = tacit_dense_declare(&mae->embed, "decoder_embed", width, dim, true, 0, NULL,
                             tacit_init_xavier(width, dim), TACIT_ZEROS, max_batch * (1 + kept),
                             params, work, err);
    if (st == TACIT_OK)
        st = tacit_params_add(params, "mask_token", 3, (const size_t[]){ 1, 1, dim }, small,
                              &mae->mask_token, err);
    if (st == TACIT_OK)
        st =
            tacit_params_add(params, "decoder_pos_embed", 3,
                             (const size_t[]){ 1, 1 + patches, dim }, sincos, &mae->positions, err);
    if (st == TACIT_OK) {
        mae->positions->frozen = true;
        st = tacit_trunk_declare(&mae->decoder, &decoder, "decoder_blocks", "decoder_norm",
                                 max_batch, 1 + patches, params, work, err);
    }
    if (st == TACIT_OK)
        st = tacit_dense_declare(&mae->predict, "decoder_pred", dim, values, true, 0, NULL,
                                 tacit_init_xavier(dim, values), TACIT_ZEROS,
                                 max_batch * mae->masked, params, work, err);
    tacit_sum_rows_need(work, patches, dim);
    return st;
}

void tacit_mae_close(tacit_mae *mae)
{
    tacit_vit_train_close(&mae->encoder);
    tacit_trunk_close(&mae->decoder);
    *mae = (tacit_mae){ 0 };
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_mae *mae, size_t *total, tacit_mae *to, tacit_arena *arena)
{
    size_t tokens = mae->max_batch * (1 + mae->encoder.patches);
    size_t masked = mae->max_batch * mae->masked, rows = tacit_trunk_rows(&mae->decoder);
    if (!arena)
        return tacit_arena_plan(total, masked, mae->ld_pixels * sizeof(float)) &&
               tacit_arena_plan(total, rows, mae->decoder.ld * sizeof(float)) &&
               tacit_arena_plan(total, tokens, sizeof *mae->source) &&
               tacit_arena_plan(total, masked, sizeof *mae->wanted);
    to->predictions = tacit_arena_take(arena, masked, mae->ld_pixels * sizeof(float));
    to->d = tacit_arena_take(arena, rows, mae->decoder.ld * sizeof(float));
    to->source = tacit_arena_take(arena, tokens, sizeof *mae->source);
    to->wanted = tacit_arena_take(arena, masked, sizeof *mae->wanted);
    return true;
}

bool tacit_mae_plan(const tacit_mae *mae, size_t *total)
{
    return plan(mae, total, NULL, NULL) && tacit_vit_train_plan(&mae->encoder, total) &&
           tacit_trunk_plan(&mae->decoder, total);
}

void tacit_mae_take(tacit_mae *mae, tacit_arena *arena)
{
    plan(mae, NULL, mae, arena);
    tacit_vit_train_take(&mae->encoder, arena);
    tacit_trunk_take(&mae->decoder, arena);
}

/* The decoder's tokens: of an image what was seen, with its positions; and which copy of a mask
 * token stands for each of the others. */
static void tokens_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_mae *mae = ctx;
    size_t dim = mae->config.dim, ld = mae->decoder.ld, first = image * (1 + mae->encoder.patches);
    size_t seen = image * (1 + mae->kept), others = mae->batch * (1 + mae->kept);
    float *x = tacit_trunk_input(&mae->decoder) + seen * ld;
    for (size_t i = 0; i <= mae->kept; i++) {
        size_t at = i ? 1 + mae->keep[image * mae->kept + i - 1] : 0;
        mae->work->kernels->add_f32(dim, x + i * ld, mae->positions->value + at * dim, x + i * ld);
        mae->source[first + at] = (uint32_t)(seen + i);
    }
    for (size_t i = 0; i < mae->masked; i++) {
        size_t patch = mae->mask[image * mae->masked + i];
        mae->source[first + 1 + patch] = (uint32_t)(others + patch);
        mae->wanted[image * mae->masked + i] = (uint32_t)(first + 1 + patch);
    }
}

void tacit_mae_forward(tacit_mae *mae, const float *images, size_t batch, const uint32_t *keep,
                       const uint32_t *mask)
{
    const tacit_work *work = mae->work;
    size_t patches = mae->encoder.patches, dim = mae->config.dim, ld = mae->decoder.ld;
    size_t rows = batch * (1 + mae->kept); /* that were seen */
    float *x = tacit_trunk_input(&mae->decoder);
    mae->batch = batch;
    mae->keep = keep;
    mae->mask = mask;
    const float *seen =
        tacit_vit_train_forward(&mae->encoder, images, batch, keep, mae->kept, false);
    tacit_dense_forward(work, &mae->embed, rows, seen, mae->encoder.trunk.ld, x, ld, NULL);
    tacit_parallel_for(work->pool, batch, tokens_chunk, mae);
    for (size_t i = 0; i < patches; i++)
        work->kernels->add_f32(dim, mae->mask_token->value, mae->positions->value + (1 + i) * dim,
                               x + (rows + i) * ld);
    tacit_trunk_copies(&mae->decoder, mae->source, rows + patches);
    tacit_trunk_want(&mae->decoder, mae->wanted, batch * mae->masked);
    const float *tokens = tacit_trunk_forward(&mae->decoder, batch, 1 + patches, false);
    tacit_dense_forward(work, &mae->predict, batch * mae->masked, tokens, ld, mae->predictions,
                        mae->ld_pixels, NULL);
}

void tacit_mae_backward(tacit_mae *mae)
{
    const tacit_work *work = mae->work;
    size_t ld = mae->decoder.ld, rows = mae->batch * (1 + mae->kept);
    tacit_dense_backward(work, &mae->predict, mae->batch * mae->masked, mae->predictions,
                         mae->ld_pixels, mae->decoder.normed, ld, mae->d, ld, NULL);
    tacit_trunk_backward(&mae->decoder, mae->d);
    tacit_sum_rows(work, mae->encoder.patches, mae->config.dim, mae->d + rows * ld, ld,
                   mae->mask_token->grad);
    tacit_dense_backward(work, &mae->embed, rows, mae->d, ld, mae->encoder.trunk.normed,
                         mae->encoder.trunk.ld, mae->encoder.d, mae->encoder.trunk.ld, NULL);
    tacit_vit_train_backward(&mae->encoder);
}

double tacit_mae_flops(const tacit_mae_config *config, size_t kept)
{
    const tacit_vit_train_config *e = &config->encoder;
    tacit_trunk_config decoder = decoder_of(config);
    size_t side = e->image / e->patch, patches = side * side;
    double values = 3.0 * e->patch * e->patch;
    double tokens = (double)(1 + patches), seen = (double)(1 + kept), masked = tokens - seen;
    return tacit_vit_train_flops(e, kept, 0) + tacit_trunk_flops(&decoder, tokens, seen, masked) +
           6 * config->dim * (seen * e->dim + masked * values);
}
