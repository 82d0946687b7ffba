/* dvae.c - see dvae.h. */
#include "dvae.h"

#include "most.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

/* A stage's layers, named as PyTorch's Sequentials name them: `prefix`.2s, and .2s + 1 the block.
 */
static tacit_status declare_stage(tacit_conv_stack *s, const char *prefix, size_t stage,
                                  size_t hidden, bool transposed, tacit_err *err)
{
    char name[4][32];
    snprintf(name[0], sizeof *name, "%s.%zu.0", prefix, 2 * stage);
    for (size_t i = 1; i < 4; i++)
        snprintf(name[i], sizeof *name, "%s.%zu.net.%zu", prefix, 2 * stage + 1, 2 * (i - 1));
    const tacit_conv_spec layers[] = {
        { name[0], hidden, 4, 2, 1, transposed, true, 0 },
        { name[1], hidden, 3, 1, 1, false, true, 0 },
        { name[2], hidden, 3, 1, 1, false, true, 0 },
        { name[3], hidden, 1, 1, 0, false, false, 3 },
    };
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < 4; i++)
        st = tacit_conv_stack_add(s, &layers[i], err);
    return st;
}

static tacit_status declare_half(tacit_conv_stack *s, const char *prefix, size_t stages,
                                 size_t hidden, bool transposed, size_t out, tacit_err *err)
{
    char name[32];
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < stages; i++)
        st = declare_stage(s, prefix, i, hidden, transposed, err);
    snprintf(name, sizeof name, "%s.%zu", prefix, 2 * stages);
    const tacit_conv_spec last = { name, out, 1, 1, 0, false, false, 0 };
    return st == TACIT_OK ? tacit_conv_stack_add(s, &last, err) : st;
}

tacit_status tacit_dvae_declare(tacit_dvae *v, const tacit_dvae_config *config, size_t max_batch,
                                tacit_params *params, tacit_work *work, tacit_err *err)
{
    const tacit_dvae_config *c = config;
    *v = (tacit_dvae){ .config = *c, .work = work, .max_batch = max_batch };
    if (!c->stages || c->stages > TACIT_DVAE_STAGES || !c->size || c->size % (1u << c->stages))
        return tacit_fail(err, TACIT_EINVAL,
                          "images of %zu pixels do not divide into tokens of 2^%zu pixels", c->size,
                          c->stages);
    v->grid = c->size >> c->stages;
    v->tokens = v->grid * v->grid;
    size_t rows, most;
    if (!tacit_mul_size(max_batch, v->tokens, &rows) || !tacit_mul_size(rows, c->codes, &most))
        return tacit_fail(err, TACIT_ELIMIT, "parts of %zu images are too large", max_batch);
    const tacit_init normal = { .kind = TACIT_INIT_NORMAL, .size = 1 };
    tacit_status st = tacit_dense_declare(&v->codebook, "codebook", c->dim, c->codes, false, 0,
                                          NULL, normal, TACIT_ZEROS, rows, params, work, err);
    if (st == TACIT_OK)
        st = tacit_conv_stack_open(&v->encoder, 4 * c->stages + 1, c->size, c->size, 3, max_batch,
                                   c->fixed, params, work, err);
    if (st == TACIT_OK)
        st = declare_half(&v->encoder, "encoder", c->stages, c->hidden, false, c->codes, err);
    if (st == TACIT_OK)
        st = tacit_conv_stack_open(&v->decoder, 4 * c->stages + 1, v->grid, v->grid, c->dim,
                                   c->fixed ? 1 : max_batch, c->fixed, params, work, err);
    if (st == TACIT_OK)
        st = declare_half(&v->decoder, "decoder", c->stages, c->hidden, true, 3, err);
    return st;
}

void tacit_dvae_close(tacit_dvae *v)
{
    tacit_conv_stack_close(&v->encoder);
    tacit_conv_stack_close(&v->decoder);
    *v = (tacit_dvae){ 0 };
}

/* Adds up what is needed, or where arena is given takes it. */
static bool plan(const tacit_dvae *v, size_t *total, tacit_dvae *to, tacit_arena *arena)
{
    size_t values = 3 * v->config.size * v->config.size, codes = v->tokens * v->config.codes;
    size_t dim = v->tokens * v->config.dim;
    const struct part {
        size_t count;
        bool trained;
        float **at;
    } parts[] = {
        { values, false, arena ? &to->pixels : NULL }, { dim, false, arena ? &to->sampled : NULL },
        { codes, true, arena ? &to->choice : NULL },   { codes, true, arena ? &to->d : NULL },
        { dim, true, arena ? &to->dsampled : NULL },
    };
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (parts[i].trained && v->config.fixed)
            continue;
        else if (arena)
            *parts[i].at = tacit_arena_take(arena, v->max_batch, parts[i].count * sizeof(float));
        else if (!tacit_arena_plan(total, v->max_batch, parts[i].count * sizeof(float)))
            return false;
    return true;
}

bool tacit_dvae_plan(const tacit_dvae *v, size_t *total)
{
    return plan(v, total, NULL, NULL) && tacit_conv_stack_plan(&v->encoder, total) &&
           tacit_conv_stack_plan(&v->decoder, total);
}

void tacit_dvae_take(tacit_dvae *v, tacit_arena *arena)
{
    plan(v, NULL, v, arena);
    tacit_conv_stack_take(&v->encoder, arena);
    tacit_conv_stack_take(&v->decoder, arena);
}

/* Forward ------------------------------------------------------------------------------------- */

/* An image to channels last. */
static void pixels_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const tacit_dvae *v = ctx;
    size_t plane = v->config.size * v->config.size;
    const float *from = v->images + image * 3 * plane;
    float *to = v->pixels + image * 3 * plane;
    for (size_t p = 0; p < plane; p++)
        for (size_t c = 0; c < 3; c++)
            to[3 * p + c] = from[c * plane + p];
}

void tacit_dvae_encode(tacit_dvae *v, const float *images, size_t batch)
{
    v->batch = batch;
    v->images = images;
    tacit_parallel_for(v->work->pool, batch, pixels_chunk, v);
    v->images = NULL;
    v->logits = tacit_conv_stack_forward(&v->encoder, v->pixels, batch);
}

void tacit_dvae_tokens(const tacit_dvae *v, size_t rows, const float *logits, uint32_t *ids)
{
    size_t n = v->config.codes;
    for (size_t row = 0; row < rows; row++)
        ids[row] = (uint32_t)tacit_most(n, logits + row * n);
}

void tacit_dvae_decode(tacit_dvae *v, const uint32_t *ids, size_t batch)
{
    size_t dim = v->config.dim;
    for (size_t row = 0; row < batch * v->tokens; row++)
        memcpy(v->sampled + row * dim, v->codebook.w->value + ids[row] * dim,
               dim * sizeof *v->sampled);
    v->result = tacit_conv_stack_forward(&v->decoder, v->sampled, batch);
}

/* softmax((logits + noise) / temperature) of an image's tokens. */
static void choice_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const tacit_dvae *v = ctx;
    const tacit_kernels *k = v->work->kernels;
    size_t codes = v->config.codes, count = v->tokens * codes;
    float *choice = v->choice + image * count;
    k->add_f32(count, v->logits + image * count, choice, choice);
    k->softmax_f32(v->tokens, codes, choice, codes, 1 / v->temperature, choice, codes);
}

void tacit_dvae_sample(tacit_dvae *v, float temperature)
{
    v->temperature = temperature;
    tacit_parallel_for(v->work->pool, v->batch, choice_chunk, v);
    tacit_dense_turned(v->work, &v->codebook, v->batch * v->tokens, v->choice, v->config.codes,
                       v->sampled, v->config.dim);
    v->result = tacit_conv_stack_forward(&v->decoder, v->sampled, v->batch);
}

/* Backward ------------------------------------------------------------------------------------ */

typedef struct back_job {
    const tacit_dvae *v;
    float *dlogits;
} back_job;

/* Through the softmax: dlogits += y (dy - sum(y dy)) / temperature, for an image's tokens. */
static void choice_back_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const back_job *j = ctx;
    const tacit_dvae *v = j->v;
    size_t codes = v->config.codes;
    float factor = 1 / v->temperature;
    for (size_t row = image * v->tokens; row < (image + 1) * v->tokens; row++) {
        const float *y = v->choice + row * codes, *dy = v->d + row * codes;
        float *to = j->dlogits + row * codes;
        float sum = (float)v->work->kernels->dot_f64(codes, y, dy);
        for (size_t k = 0; k < codes; k++)
            to[k] += y[k] * (dy[k] - sum) * factor;
    }
}

void tacit_dvae_backward(tacit_dvae *v, float *dresult, float *dlogits)
{
    size_t rows = v->batch * v->tokens, codes = v->config.codes, dim = v->config.dim;
    tacit_conv_stack_backward(&v->decoder, dresult, v->dsampled);
    tacit_dense_forward(v->work, &v->codebook, rows, v->dsampled, dim, v->d, codes, NULL);
    tacit_dense_weights(v->work, &v->codebook, rows, v->choice, codes, v->dsampled, dim);
    back_job j = { v, dlogits };
    tacit_parallel_for(v->work->pool, v->batch, choice_back_chunk, &j);
    tacit_conv_stack_backward(&v->encoder, dlogits, NULL);
}

double tacit_dvae_encoder_flops(const tacit_dvae *v)
{
    return tacit_conv_stack_flops(&v->encoder);
}

double tacit_dvae_decoder_flops(const tacit_dvae *v)
{
    return tacit_conv_stack_flops(&v->decoder) +
           2.0 * (double)v->tokens * (double)(v->config.codes * v->config.dim);
}
