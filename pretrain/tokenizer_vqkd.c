/* tokenizer_vqkd.c - VQ-KD: codes of patches from which the features of a frozen network can be
 * made again (BEiT v2, Peng et al. 2022, arXiv:2208.06366, section 2.1; microsoft/unilm's beit2,
 * modeling_vqkd.py, norm_ema_quantizer.py).
 *
 * The loss is the mean over patches of 1 - cos(prediction, target), and beta times the mean of
 * (code - vector)^2. The codes begin as spherical k-means of the first part's vectors, and follow
 * the vectors that choose them. vqkd.h has the network, frozen.h the target.
 */
#include "tokenizer_vqkd.h"

#include "code_use.h"
#include "draws.h"
#include "frozen.h"
#include "kmeans.h"
#include "loss_cosine.h"
#include "method.h"
#include "view_settings.h"
#include "weights.h"

#define ITERATIONS 10 /* of k-means */

static const tacit_setting settings[] = {
    TACIT_FROZEN_SETTINGS("target", TACIT_WEIGHTS_DEFAULT,
                          "whose patches' features are to be made again: a file for 'tacit "
                          "extract --weights', a run's backbone.safetensors among them"),
    { "codes", TACIT_SETTING_WHOLE, "8192", 2, 65536, NULL, "of the codebook", false },
    { "code_dim", TACIT_SETTING_WHOLE, "32", 1, 4096, NULL, "width of a code", false },
    { "code_decay", TACIT_SETTING_REAL, "0.99", 0, 1, NULL,
      "of the moving average by which codes follow the vectors that choose them", false },
    { "beta", TACIT_SETTING_REAL, "1", 0, 1e6, NULL,
      "weight of the distance between a vector and its code", false },
    { "kmeans", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "the codes begin as k-means of the first vectors, else as random directions", false },
    { "decoder_depth", TACIT_SETTING_WHOLE, "1", 1, 64, NULL, "blocks of the decoder", false },
    { 0 },
};

/* TOKENIZER.md of beit2 and run_vqkd_training.py: 100 epochs of ImageNet, a batch of 512. */
static const char *const defaults[] = {
    "arch=vit_base_patch16_224",
    "normalise=half",
    "optimiser=adamw",
    "beta2=0.99",
    "lr=5e-5",
    "lr_final=1e-5",
    "lr_scale=none",
    "weight_decay=1e-4",
    "batch=512",
    "accumulate=8",
    "epochs=100",
    "warmup_epochs=10",
    NULL,
};
static const char *const imagenet[] = { NULL };
static const char *const small32[] = {
    "arch=vit_tiny_patch4_32",
    "codes=512",
    "code_dim=16",
    "batch=128",
    "accumulate=1",
    "epochs=100",
    "warmup_epochs=5",
    "lr=5e-4",
    NULL,
};
static const char *const quick[] = {
    "arch=vit_tiny_patch4_32",
    "dim=96",
    "depth=4",
    "heads=3",
    "codes=128",
    "code_dim=16",
    "batch=64",
    "accumulate=1",
    "epochs=10",
    "warmup_epochs=1",
    "lr=1e-3",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_vqkd vqkd;
    tacit_frozen frozen;
    tacit_code_use use;
    tacit_kmeans kmeans; /* where the codes begin by it */
    tacit_work *work;
    bool clusters;
    double beta, decay;
    size_t part, whole;
    double *sums; /* (part): losses of images */
} state;

tacit_vqkd_config tacit_vqkd_of(const tacit_config *config, const tacit_backbone_config *backbone,
                                size_t target_dim)
{
    tacit_vqkd_config vqkd = { .encoder = tacit_encoder_vit(config, &backbone->vit),
                               .decoder_depth =
                                   (unsigned)tacit_config_whole(config, "decoder_depth"),
                               .codes = tacit_config_whole(config, "codes"),
                               .code_dim = tacit_config_whole(config, "code_dim"),
                               .target_dim = target_dim };
    if (!target_dim) /* without a backward nothing is worth its memory */
        vqkd.encoder.recompute = true;
    return vqkd;
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_vit_config *vit = &l->backbone.vit;
    s->part = l->part;
    s->whole = l->whole;
    s->work = l->work;
    s->beta = tacit_config_number(l->config, "beta");
    s->decay = tacit_config_number(l->config, "code_decay");
    s->clusters = tacit_config_flag(l->config, "kmeans");
    tacit_status st = tacit_frozen_declare(&s->frozen, l->config, "target", vit->height,
                                           vit->height / vit->patch, l->part, l->work, err);
    if (st < 0)
        return st;
    const tacit_vqkd_config config = tacit_vqkd_of(l->config, &l->backbone, s->frozen.dim);
    st = tacit_vqkd_declare(&s->vqkd, &config, l->part, l->params, l->work, err);
    if (st == TACIT_OK)
        st = tacit_code_use_declare(&s->use, config.codes, l->memory, err);
    if (st == TACIT_OK && s->clusters)
        tacit_kmeans_init(&s->kmeans, l->part * s->vqkd.patches, config.codes, config.code_dim,
                          true, l->work);
    return st;
}

static void close(void *ctx)
{
    state *s = ctx;
    tacit_vqkd_close(&s->vqkd);
    tacit_frozen_close(&s->frozen);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_arena_plan(total, s->part, sizeof *s->sums) &&
           tacit_frozen_plan(&s->frozen, total) && tacit_vqkd_plan(&s->vqkd, total) &&
           tacit_code_use_plan(&s->use, total) &&
           (!s->clusters || tacit_kmeans_plan(&s->kmeans, total));
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    s->sums = tacit_arena_take(arena, s->part, sizeof *s->sums);
    tacit_frozen_take(&s->frozen, arena);
    tacit_vqkd_take(&s->vqkd, arena);
    tacit_code_use_take(&s->use, arena);
    if (s->clusters)
        tacit_kmeans_take(&s->kmeans, arena);
}

static void epoch(void *ctx, uint64_t seed, uint64_t at)
{
    (void)seed, (void)at;
    tacit_code_use_epoch(&((state *)ctx)->use);
}

/* Of more codes than vectors the last stay random directions. */
static void begin_codes(state *s, const tacit_part *part)
{
    tacit_vqkd *v = &s->vqkd;
    size_t rows = part->images * v->patches, codes = v->config.codes;
    tacit_kmeans_run(&s->kmeans, rows, v->vectors, codes < rows ? codes : rows, ITERATIONS,
                     part->seed, tacit_draw_stream(part->seed, 0, 0, TACIT_DRAW_CENTROIDS),
                     v->codebook->value, v->ids);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    tacit_vqkd *v = &s->vqkd;
    const tacit_batch *b = part->batch;
    bool drop = v->config.encoder.drop_path > 0;
    for (size_t i = 0; drop && i < part->images; i++)
        tacit_trunk_draw(
            &v->encoder.trunk, i, part->seed,
            tacit_draw_stream(part->seed, b->epoch, b->samples[i], TACIT_DRAW_DROP_PATH));
    tacit_vqkd_encode(v, b->views[0], part->images, drop);
    if (s->clusters && part->steps && !part->step && !part->index)
        begin_codes(s, part);
    tacit_vqkd_quantise(v);
    tacit_vqkd_decode(v);
}

typedef struct cosine_job {
    state *s;
    float *target;
    double factor;
} cosine_job;

/* Of an image's patches; what is predicted of its class token counts for nothing. */
static void cosine_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const cosine_job *j = ctx;
    const tacit_vqkd *v = &j->s->vqkd;
    size_t dim = j->s->frozen.dim, lead = v->tokens - v->patches;
    float *p = v->predictions + image * v->tokens * dim;
    for (size_t i = 0; i < lead * dim; i++)
        p[i] = 0;
    p += lead * dim;
    j->s->sums[image] = tacit_cosine_loss(j->s->work, v->patches, dim, p,
                                          j->target + image * v->patches * dim, j->factor, p);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    tacit_vqkd *v = &s->vqkd;
    double rows = (double)s->whole * (double)v->patches, cosine = 0, share, perplexity;
    cosine_job j = { s, tacit_frozen_forward(&s->frozen, part->batch->views[0], s->part),
                     0.5 / rows };
    tacit_parallel_for(s->work->pool, s->part, cosine_chunk, &j);
    for (size_t i = 0; i < s->part; i++)
        cosine += s->sums[i];
    double commitment = tacit_vqkd_commitment(v, s->beta, rows * (double)v->config.code_dim);
    if (!part->index) {
        tacit_code_use_begin(&s->use);
        tacit_vqkd_clear(v);
    }
    tacit_code_use_count(&s->use, s->part * v->patches, v->ids);
    tacit_vqkd_gather(v);
    parts[0] += cosine;
    parts[1] += commitment;
    if (part->index + 1 == part->count) {
        tacit_code_use_tell(&s->use, &share, &perplexity);
        parts[2] = share;
        parts[3] = perplexity;
    }
    return cosine + commitment;
}

static void backward(void *ctx, const tacit_part *part)
{
    (void)part;
    tacit_vqkd_backward(&((state *)ctx)->vqkd);
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    (void)step, (void)steps;
    tacit_vqkd_update(&s->vqkd, s->decay);
    tacit_code_use_keep(&s->use);
}

/* The code of the middle patch of each image. */
static tacit_embeddings embeddings(const void *ctx)
{
    const state *s = ctx;
    const tacit_vqkd *v = &s->vqkd;
    size_t side = v->config.encoder.image / v->config.encoder.patch, dim = v->config.code_dim;
    size_t middle = side / 2 * (side + 1);
    return (tacit_embeddings){ v->quantised ? v->quantised + middle * dim : NULL,
                               s->part,
                               dim,
                               v->patches * dim,
                               false,
                               false };
}

static bool collapse(const void *ctx, char *text, size_t size)
{
    return tacit_code_use_collapsed(&((const state *)ctx)->use, text, size);
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    return tacit_vqkd_flops(&s->vqkd) + tacit_frozen_flops(&s->frozen);
}

const tacit_method tacit_vector_quantised_distillation = {
    .name = "vqkd",
    .title = "VQ-KD: tokens of which a decoder makes a frozen network's features, for BEiT v2",
    .paper = "Peng et al. 2022, arXiv:2208.06366",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts =
        (const char *const[]){ "distance", "commitment", "codes_used", "perplexity", NULL },
    .heads = (const char *const[]){ "", NULL },
    .vit = true,
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
    .collapse = collapse,
    .embeddings = embeddings,
    .flops = flops,
};
