/* tokenizer_dvae.c - a discrete VAE: an image as a few hundred words, and back (Ramesh et al. 2021,
 * arXiv:2102.12092, section 2.1, as Bao et al. 2021, arXiv:2106.08254 use it; the small network is
 * microsoft/unilm's beit, modeling_discrete_vae.py).
 *
 * The loss is the mean error of the pixels and kl_weight times the mean of KL(q, uniform) over the
 * tokens. The temperature of the Gumbel-softmax falls and kl_weight rises on half a cosine over a
 * share of the run, which are the paper's shapes. The noise of an image is a function of (seed,
 * epoch, sample). dvae.h has the network, loss_dvae.h the loss.
 */
#include "tokenizer_dvae.h"

#include "code_use.h"
#include "draws.h"
#include "gumbel.h"
#include "loss_dvae.h"
#include "loss_smooth_l1.h"
#include "method.h"
#include "panels.h"
#include "schedule.h"
#include "view_settings.h"

#include <string.h>

#define LAST 1e-6 /* of what a share of the run is at least */

static const tacit_setting settings[] = {
    { "codes", TACIT_SETTING_WHOLE, "8192", 2, 65536, NULL, "of the codebook", false },
    { "code_dim", TACIT_SETTING_WHOLE, "512", 1, 4096, NULL, "width of a code", false },
    { "stages", TACIT_SETTING_WHOLE, "3", 1, TACIT_DVAE_STAGES, NULL,
      "halvings of height and width: a token is of 2^stages pixels", false },
    { "hidden", TACIT_SETTING_WHOLE, "256", 1, 4096, NULL, "channels of encoder and decoder",
      false },
    { "distance", TACIT_SETTING_CHOICE, "square", 0, 0, "square|smooth-l1",
      "of the pixels from the image's", false },
    { "temperature", TACIT_SETTING_REAL, "1", 0.01, 100, NULL,
      "of the Gumbel-softmax at the run's begin", false },
    { "temperature_final", TACIT_SETTING_REAL, "0.0625", 0.01, 100, NULL, "and at its end", false },
    { "temperature_share", TACIT_SETTING_REAL, "0.5", 0, 1, NULL,
      "share of the run in which it falls", false },
    { "kl_weight", TACIT_SETTING_REAL, "0.001", 0, 1e6, NULL,
      "of the KL divergence of a token from a uniform choice, in nats", false },
    { "kl_share", TACIT_SETTING_REAL, "0.25", 0, 1, NULL,
      "share of the run in which that rises from 0", false },
    { 0 },
};

/* Sizes of BEiT's tokens: 14 x 14 of 112 pixels. Appendix A.2 of Ramesh et al.: the temperature's
 * ends, AdamW; the rate is that of lucidrains/DALLE-pytorch, train_vae.py. */
static const char *const defaults[] = {
    "arch=",         "size=112",         "normalise=half",    "optimiser=adamw", "lr=1e-3",
    "lr_scale=none", "lr_final=1.25e-5", "weight_decay=1e-4", "clip=4",          "batch=128",
    "accumulate=16", "epochs=20",        "warmup_epochs=0.1", "crop_min=0.5",    NULL,
};
static const char *const imagenet[] = { NULL };
static const char *const small32[] = {
    "size=32",   "codes=512",       "code_dim=64",  "stages=2",      "hidden=64", "batch=128",
    "epochs=50", "warmup_epochs=1", "accumulate=1", "lr_final=1e-5", NULL,
};
static const char *const quick[] = {
    "size=32",   "codes=128",         "code_dim=32",  "stages=2", "hidden=32", "batch=64",
    "epochs=10", "warmup_epochs=0.5", "accumulate=1", "lr=2e-3",  NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_dvae dvae;
    tacit_code_use use;
    tacit_panels panels;
    tacit_work *work;
    tacit_schedule temperature, kl; /* by the share of the run that is done */
    bool smooth;
    size_t part, whole;
    uint32_t *ids; /* (part, tokens) */
} state;

tacit_dvae_config tacit_dvae_of(const tacit_config *config, bool fixed)
{
    return (tacit_dvae_config){ .size = tacit_config_whole(config, "size"),
                                .stages = tacit_config_whole(config, "stages"),
                                .hidden = tacit_config_whole(config, "hidden"),
                                .codes = tacit_config_whole(config, "codes"),
                                .dim = tacit_config_whole(config, "code_dim"),
                                .fixed = fixed };
}

static tacit_schedule cosine(const tacit_config *config, double from, double to, const char *share)
{
    double steps = tacit_config_number(config, share);
    return (tacit_schedule){ .base = from, .final = to, .steps = steps > LAST ? steps : LAST };
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_config *c = l->config;
    const tacit_dvae_config config = tacit_dvae_of(c, false);
    s->part = l->part;
    s->whole = l->whole;
    s->work = l->work;
    s->smooth = tacit_config_choice(c, "distance") > 0;
    s->temperature = cosine(c, tacit_config_number(c, "temperature"),
                            tacit_config_number(c, "temperature_final"), "temperature_share");
    s->kl = cosine(c, 0, tacit_config_number(c, "kl_weight"), "kl_share");
    s->panels = tacit_panels_of(c, config.size, 1);
    tacit_status st = tacit_dvae_declare(&s->dvae, &config, l->part, l->params, l->work, err);
    if (st == TACIT_OK)
        st = tacit_code_use_declare(&s->use, config.codes, l->memory, err);
    tacit_dvae_loss_declare(l->part, l->part * s->dvae.tokens, config.codes, l->work);
    tacit_smooth_l1_declare(l->part, l->work);
    return st;
}

static void close(void *ctx)
{
    tacit_dvae_close(&((state *)ctx)->dvae);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_arena_plan(total, s->part * s->dvae.tokens, sizeof(uint32_t)) &&
           tacit_dvae_plan(&s->dvae, total) && tacit_code_use_plan(&s->use, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    s->ids = tacit_arena_take(arena, s->part * s->dvae.tokens, sizeof(uint32_t));
    tacit_dvae_take(&s->dvae, arena);
    tacit_code_use_take(&s->use, arena);
}

static void epoch(void *ctx, uint64_t seed, uint64_t at)
{
    (void)seed, (void)at;
    tacit_code_use_epoch(&((state *)ctx)->use);
}

typedef struct noise_job {
    const state *s;
    const tacit_part *part;
} noise_job;

static void noise_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const noise_job *j = ctx;
    const tacit_batch *b = j->part->batch;
    const tacit_dvae *v = &j->s->dvae;
    size_t n = v->tokens * v->config.codes;
    tacit_gumbel(j->part->seed,
                 tacit_draw_stream(j->part->seed, b->epoch, b->samples[image], TACIT_DRAW_GUMBEL),
                 n, v->choice + image * n);
}

static double done(const tacit_part *part)
{
    return part->steps ? (double)part->step / (double)part->steps : 0;
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    tacit_dvae *v = &s->dvae;
    noise_job j = { s, part };
    tacit_dvae_encode(v, part->batch->views[0], part->images);
    tacit_dvae_tokens(v, part->images * v->tokens, v->logits, s->ids);
    tacit_parallel_for(s->work->pool, part->images, noise_chunk, &j);
    tacit_dvae_sample(v, (float)tacit_schedule_at(&s->temperature, done(part)));
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    tacit_dvae *v = &s->dvae;
    size_t rows = s->part * v->tokens, values = 3 * v->config.size * v->config.size;
    double of = 1 / ((double)s->whole * (double)values), share, perplexity;
    double of_tokens = 1 / ((double)s->whole * (double)v->tokens);
    double weight = tacit_schedule_at(&s->kl, done(part));
    double square =
        s->smooth ? tacit_smooth_l1_loss(s->work, s->part, values, v->result, v->pixels, values, of)
                  : tacit_square_loss(s->work, s->part, values, v->result, v->pixels, of);
    double kl = tacit_uniform_kl_loss(s->work, rows, v->config.codes, v->logits, weight, of_tokens);
    if (!part->index)
        tacit_code_use_begin(&s->use);
    tacit_code_use_count(&s->use, rows, s->ids);
    parts[0] += square;
    parts[1] += kl;
    if (part->index + 1 == part->count) {
        tacit_code_use_tell(&s->use, &share, &perplexity);
        parts[2] = share;
        parts[3] = perplexity;
    }
    return square + weight * kl;
}

static void backward(void *ctx, const tacit_part *part)
{
    tacit_dvae *v = &((state *)ctx)->dvae;
    (void)part;
    tacit_dvae_backward(v, v->result, v->logits);
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    (void)step, (void)steps;
    tacit_code_use_keep(&((state *)ctx)->use);
}

/* The image, and what its tokens alone give. */
static void picture(void *ctx, const tacit_part *part, size_t i, float *panels)
{
    state *s = ctx;
    tacit_dvae *v = &s->dvae;
    size_t plane = v->config.size * v->config.size;
    float *again = panels + 3 * plane;
    tacit_panel_image(&s->panels, part->batch->views[0] + i * 3 * plane, panels);
    tacit_dvae_decode(v, s->ids + i * v->tokens, 1);
    for (size_t c = 0; c < 3; c++)
        for (size_t p = 0; p < plane; p++)
            again[c * plane + p] = v->result[3 * p + c];
    tacit_panel_image(&s->panels, again, again);
}

/* What the decoder sees of the middle token of each image. */
static tacit_embeddings embeddings(const void *ctx)
{
    const state *s = ctx;
    const tacit_dvae *v = &s->dvae;
    size_t middle = v->grid / 2 * (v->grid + 1), dim = v->config.dim;
    return (tacit_embeddings){
        v->sampled ? v->sampled + middle * dim : NULL, s->part, dim, v->tokens * dim, false, false
    };
}

static bool collapse(const void *ctx, char *text, size_t size)
{
    return tacit_code_use_collapsed(&((const state *)ctx)->use, text, size);
}

static double flops(const void *ctx)
{
    const tacit_dvae *v = &((const state *)ctx)->dvae;
    return 3 * (tacit_dvae_encoder_flops(v) + tacit_dvae_decoder_flops(v));
}

const tacit_method tacit_discrete_vae = {
    .name = "dvae",
    .title = "discrete VAE: tokens of which a decoder makes the image again, for BEiT",
    .paper = "Ramesh et al. 2021, arXiv:2102.12092",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ "reconstruction", "kl", "codes_used", "perplexity", NULL },
    .heads = (const char *const[]){ "", NULL },
    .panels = (const char *const[]){ "image", "reconstruction", NULL },
    .tokenizer = true,
    .state = sizeof(state),
    .views = tacit_view_single,
    .declare = declare,
    .close = close,
    .plan = plan,
    .take = take,
    .epoch = epoch,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .after = after,
    .picture = picture,
    .collapse = collapse,
    .embeddings = embeddings,
    .flops = flops,
};
