/* masked_modelling.c - see masked_modelling.h. */
#include "masked_modelling.h"

#include "draws.h"

#include <string.h>

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

/* The mean of an image's predicted tokens; zeros where there is none. */
static void features_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const tacit_masked_modelling *m = ctx;
    const tacit_trunk *trunk = &m->net.vit.trunk;
    size_t dim = m->net.predict.in, first = m->net.first[image];
    size_t rows = m->net.first[image + 1] - first;
    float *to = m->features + image * dim;
    if (rows)
        m->work->kernels->mean_rows_f32(rows, dim, trunk->normed + first * trunk->ld, trunk->ld,
                                        to);
    else
        memset(to, 0, dim * sizeof *to);
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
