/* masked_modelling.c - see masked_modelling.h. */
#include "masked_modelling.h"

#include "draws.h"
#include "view_settings.h"

tacit_status tacit_masked_modelling_declare(tacit_masked_modelling *m, const tacit_learner *l,
                                            const tacit_vit_train_config *config, size_t max_masked,
                                            size_t values, const char *head, tacit_err *err)
{
    m->work = l->work;
    m->part = l->part;
    return tacit_masked_vit_declare(&m->net, config, l->part, max_masked, values, head, l->params,
                                    l->work, err);
}

bool tacit_masked_modelling_plan(const tacit_masked_modelling *m, size_t *total)
{
    return tacit_arena_plan(total, m->part, m->net.predict.in * sizeof(float)) &&
           tacit_masked_vit_plan(&m->net, total);
}

void tacit_masked_modelling_take(tacit_masked_modelling *m, tacit_arena *arena)
{
    m->features = tacit_arena_take(arena, m->part, m->net.predict.in * sizeof(float));
    tacit_masked_vit_take(&m->net, arena);
}

/* The mean of an image's patches. */
static void features_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const tacit_masked_modelling *m = ctx;
    const tacit_vit_train *vit = &m->net.vit;
    size_t dim = vit->config.dim, ld = vit->trunk.ld;
    const float *tokens = vit->trunk.normed + image * vit->trunk.tokens * ld;
    m->work->kernels->mean_rows_f32(vit->patches, dim, tokens + vit->lead * ld, ld,
                                    m->features + image * dim);
}

void tacit_masked_modelling_forward(tacit_masked_modelling *m, const tacit_part *part)
{
    const tacit_batch *b = part->batch;
    tacit_vit_train *vit = &m->net.vit;
    bool drop = vit->config.drop_path > 0;
    for (size_t i = 0; drop && i < part->images; i++)
        tacit_trunk_draw(
            &vit->trunk, i, part->seed,
            tacit_draw_stream(part->seed, b->epoch, b->samples[i], TACIT_DRAW_DROP_PATH));
    tacit_masked_vit_forward(&m->net, b->views[0], part->images, drop);
    tacit_parallel_for(m->work->pool, part->images, features_chunk, m);
}

tacit_status tacit_masked_hook_views(const tacit_config *config, unsigned size, tacit_view *views,
                                     size_t *count, tacit_err *err)
{
    (void)err;
    *views = tacit_view_crop(config, size);
    *count = 1;
    return TACIT_OK;
}

void tacit_masked_hook_close(void *state)
{
    tacit_masked_modelling *m = state;
    tacit_masked_vit_close(&m->net);
}

void tacit_masked_hook_backward(void *state, const tacit_part *part)
{
    tacit_masked_modelling *m = state;
    (void)part;
    tacit_masked_vit_backward(&m->net);
}

tacit_embeddings tacit_masked_hook_embeddings(const void *state)
{
    const tacit_masked_modelling *m = state;
    size_t dim = m->net.predict.in;
    return (tacit_embeddings){ m->features, m->part, dim, dim, false, false };
}

double tacit_masked_hook_flops(const void *state)
{
    const tacit_masked_modelling *m = state;
    return tacit_masked_vit_flops(&m->net);
}
