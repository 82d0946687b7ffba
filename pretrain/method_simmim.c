/* method_simmim.c - SimMIM: from an image with masked squares, the squares' pixels, by one layer
 * behind the encoder (Xie et al. 2021, arXiv:2111.09886; microsoft/SimMIM, models/simmim.py).
 *
 * A mask token stands for the embeddings of masked patches, and a Linear behind the last norm
 * predicts: masked_vit.h; loss_simmim.h has the loss. The mask of an image is a function of (seed,
 * epoch, sample). The published rate of a step is that of the one before it, as its schedule is
 * moved behind the optimiser.
 */
#include "beit_backbone.h"
#include "loss_simmim.h"
#include "masked_modelling.h"
#include "masks.h"
#include "norm_targets.h"
#include "panels.h"
#include "view_settings.h"

#include <math.h>
#include <string.h>

static const tacit_setting settings[] = {
    { "mask_ratio", TACIT_SETTING_REAL, "0.6", 0.01, 0.99, NULL,
      "share of the squares that is masked, rounded up", false },
    { "mask_unit", TACIT_SETTING_WHOLE, "32", 1, 16384, NULL,
      "side of a square in pixels: a multiple of the patch, and the image is one of it", false },
    { "norm_target", TACIT_SETTING_WHOLE, "0", 0, 16385, NULL,
      "side of the window whose mean and deviation each pixel is normalised by before it is "
      "predicted, odd (47 in SwinV2's configurations); 0: it is not",
      false },
    { 0 },
};

/* configs/vit_base__800ep/simmim_pretrain__vit_base__img224__800ep.yaml, whose rates are those of
 * 512 images. */
static const char *const defaults[] = {
    "arch=vit_base_patch16_224",
    "drop_path=0.1",
    "optimiser=adamw",
    "lr=5e-5",
    "lr_start=2.5e-7",
    "schedule=step",
    "lr_drops=700",
    "schedule_last=true",
    "weight_decay=0.05",
    "clip=5",
    "batch=2048",
    "accumulate=32",
    "epochs=800",
    "warmup_epochs=10",
    "crop_min=0.67",
    "filter=bilinear",
    NULL,
};
static const char *const imagenet[] = { NULL };
static const char *const small32[] = {
    "arch=vit_tiny_patch4_32", "mask_unit=8", "drop_path=0", "lr=1e-3",      "lr_start=0",
    "schedule=cosine",         "lr_drops=",   "batch=256",   "accumulate=1", "epochs=400",
    "warmup_epochs=20",        NULL,
};
static const char *const quick[] = {
    "arch=vit_tiny_patch4_32",
    "dim=96",
    "depth=4",
    "heads=3",
    "mask_unit=8",
    "drop_path=0",
    "lr=2e-3",
    "lr_start=0",
    "schedule=cosine",
    "lr_drops=",
    "batch=128",
    "accumulate=1",
    "epochs=20",
    "warmup_epochs=2",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_masked_modelling masked;
    tacit_unit_masks units;
    tacit_panels panels;
    uint32_t *order; /* of the squares */
    float *pixels;   /* (3 patch^2), of a panel */
    double count;    /* masked pixels of a step */
    size_t window;   /* of norm_target, 0: none; and then of a part: */
    size_t part;
    float *targets; /* (part, 3, size, size) */
    float *spread;  /* mean and root of a plane, for pictures */
    double *sums;   /* for each worker */
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_vit_config *vit = &l->backbone.vit;
    const tacit_vit_train_config config = tacit_beit_vit(l->config, vit);
    double ratio = tacit_config_number(l->config, "mask_ratio");
    size_t unit = tacit_config_whole(l->config, "mask_unit");
    if (unit % vit->patch || vit->height % unit)
        return tacit_fail(err, TACIT_EINVAL,
                          "mask_unit = %zu must be a multiple of the patch, %u, and divide the "
                          "image, %u",
                          unit, vit->patch, vit->height);
    size_t squares = (vit->height / unit) * (vit->height / unit);
    s->units = (tacit_unit_masks){ .side = vit->height / vit->patch,
                                   .unit = unit / vit->patch,
                                   .count = (size_t)ceil((double)squares * ratio) };
    if (s->units.count == squares)
        return tacit_fail(err, TACIT_EINVAL,
                          "mask_ratio = %g leaves none of %zu squares: set it or mask_unit lower",
                          ratio, squares);
    size_t masked = s->units.count * s->units.unit * s->units.unit;
    size_t values = (size_t)3 * vit->patch * vit->patch;
    s->count = (double)l->whole * (double)masked * (double)(vit->patch * vit->patch);
    s->panels = tacit_panels_of(l->config, vit->height, vit->patch);
    s->part = l->part;
    s->window = tacit_config_whole(l->config, "norm_target");
    if (s->window && (s->window % 2 == 0 || s->window == 1))
        return tacit_fail(err, TACIT_EINVAL, "norm_target = %zu must be odd, and more than 1",
                          s->window);
    tacit_simmim_loss_declare(l->part, l->work);
    tacit_status st =
        tacit_masked_modelling_declare(&s->masked, l, &config, masked, values, "decoder.0", err);
    if (st < 0)
        return st;
    tacit_vit_train_as_beit(&s->masked.net.vit);
    s->masked.net.predict.w->init = s->masked.net.predict.b->init = tacit_init_default(vit->dim);
    return TACIT_OK;
}

static size_t squares_of(const state *s)
{
    return (s->units.side / s->units.unit) * (s->units.side / s->units.unit);
}

static size_t plane_of(const state *s)
{
    return s->panels.size * s->panels.size;
}

static size_t target_values(const state *s)
{
    return s->window ? s->part * 3 * plane_of(s) : 0;
}

static size_t sum_values(const state *s)
{
    return s->window ? tacit_pool_threads(s->masked.work->pool) *
                           tacit_norm_targets_scratch(s->panels.size)
                     : 0;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_arena_plan(total, squares_of(s), sizeof *s->order) &&
           tacit_arena_plan(total, s->masked.net.predict.out, sizeof *s->pixels) &&
           tacit_arena_plan(total, target_values(s), sizeof *s->targets) &&
           tacit_arena_plan(total, s->window ? 2 * plane_of(s) : 0, sizeof *s->spread) &&
           tacit_arena_plan(total, sum_values(s), sizeof *s->sums) &&
           tacit_masked_modelling_plan(&s->masked, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    s->order = tacit_arena_take(arena, squares_of(s), sizeof *s->order);
    s->pixels = tacit_arena_take(arena, s->masked.net.predict.out, sizeof *s->pixels);
    s->targets = tacit_arena_take(arena, target_values(s), sizeof *s->targets);
    s->spread = tacit_arena_take(arena, s->window ? 2 * plane_of(s) : 0, sizeof *s->spread);
    s->sums = tacit_arena_take(arena, sum_values(s), sizeof *s->sums);
    tacit_masked_modelling_take(&s->masked, arena);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    tacit_masked_vit *net = &s->masked.net;
    for (size_t i = 0; i < part->images; i++)
        tacit_mask_units(&s->units, part->seed, part->batch->epoch, part->batch->samples[i],
                         s->order, net->masks + i * net->vit.patches);
    tacit_masked_modelling_forward(&s->masked, part);
}

typedef struct targets_job {
    const state *s;
    const float *images;
} targets_job;

static void targets_chunk(void *ctx, size_t plane, unsigned worker)
{
    const targets_job *j = ctx;
    const state *s = j->s;
    size_t at = plane * plane_of(s);
    tacit_norm_targets(s->panels.size, s->window, j->images + at, s->targets + at, NULL, NULL,
                       s->sums + worker * tacit_norm_targets_scratch(s->panels.size));
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    tacit_masked_vit *net = &s->masked.net;
    const float *images = part->batch->views[0];
    (void)parts;
    if (s->window) {
        targets_job j = { s, images };
        tacit_parallel_for(s->masked.work->pool, 3 * part->images, targets_chunk, &j);
        images = s->targets;
    }
    return tacit_simmim_loss(s->masked.work, images, s->panels.size, s->panels.patch, part->images,
                             net->first, net->patches, s->count, net->predictions, net->ld);
}

/* A channel of all predictions of image i, as pixels: with norm_target they are told the mean and
 * the deviation that they were normalised by. */
static void denormalise(const state *s, const tacit_part *part, size_t i, size_t c)
{
    const tacit_masked_vit *net = &s->masked.net;
    size_t size = s->panels.size, patch = s->panels.patch, across = size / patch;
    float *mean = s->spread, *root = mean + plane_of(s);
    const float *x = part->batch->views[0] + (3 * i + c) * plane_of(s);
    tacit_norm_targets(size, s->window, x, s->targets, mean, root, s->sums);
    for (size_t row = net->first[i]; row < net->first[i + 1]; row++) {
        float *to = net->predictions + row * net->ld + c * patch * patch;
        size_t at = net->patches[row] / across * patch * size + net->patches[row] % across * patch;
        for (size_t v = 0; v < patch; v++)
            for (size_t u = 0; u < patch; u++, to++)
                *to = *to * root[at + v * size + u] + mean[at + v * size + u];
    }
}

/* A prediction with its channels last. */
static const float *pixels_of(const state *s, const float *prediction)
{
    size_t plane = s->panels.patch * s->panels.patch;
    for (size_t i = 0; i < plane; i++)
        for (size_t c = 0; c < 3; c++)
            s->pixels[3 * i + c] = prediction[c * plane + i];
    return s->pixels;
}

/* The image, what is seen of it, and that with the masked patches as they were predicted. */
static void picture(void *ctx, const tacit_part *part, size_t i, float *panels)
{
    const state *s = ctx;
    const tacit_masked_vit *net = &s->masked.net;
    size_t values = 3 * s->panels.size * s->panels.size;
    float *seen = panels + values, *made = seen + values;
    for (size_t c = 0; s->window && c < 3; c++)
        denormalise(s, part, i, c);
    tacit_panel_image(&s->panels, part->batch->views[0] + i * values, panels);
    memcpy(seen, panels, values * sizeof *seen);
    memcpy(made, panels, values * sizeof *made);
    for (size_t row = net->first[i]; row < net->first[i + 1]; row++) {
        tacit_panel_grey(&s->panels, net->patches[row], 0.5f, seen);
        tacit_panel_patch(&s->panels, net->patches[row],
                          pixels_of(s, net->predictions + row * net->ld), made);
    }
}

const tacit_method tacit_simple_masked_modelling = {
    .name = "simmim",
    .title = "SimMIM: reconstruct the pixels of masked squares with one layer",
    .paper = "Xie et al. 2021, arXiv:2111.09886",
    .settings =
        (const tacit_setting *const[]){ settings, tacit_beit_settings, tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "decoder.", "mask_token", NULL },
    .panels = (const char *const[]){ "image", "masked", "reconstruction", NULL },
    .vit = true,
    .features = TACIT_FEATURES_MEAN,
    .state = sizeof(state),
    .backbone = tacit_beit_backbone,
    .views = tacit_view_single,
    .declare = declare,
    .close = tacit_masked_hook_close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = tacit_masked_hook_backward,
    .picture = picture,
    .embeddings = tacit_masked_hook_embeddings,
    .flops = tacit_masked_hook_flops,
};
