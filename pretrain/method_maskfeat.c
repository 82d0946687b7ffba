/* method_maskfeat.c - MaskFeat: from the patches that are seen, the histograms of oriented
 * gradients of those that are masked (Wei et al. 2021, arXiv:2112.09133; facebookresearch/SlowFast,
 * slowfast/models/masked.py, configs/masked_ssl/in1k_VIT_B_MaskFeat_PT.yaml).
 *
 * A mask token stands for the embeddings of masked patches, and a Linear behind the ViT's last norm
 * predicts: masked_vit.h. loss_hog.h has the targets and the loss, masks.h the masks, which
 * are a function of (seed, epoch, sample), and of which some have fewer patches than others. Their
 * mean is taken over the masked patches of a part of a step, as the published code takes it on each
 * of its GPUs. Features are the mean of the patches', as the published fine-tuning has them: the
 * class token has no part in the loss.
 *
 * In place of histograms, the features that a trained network has of the whole image (section 3.2,
 * deep features: DINO's and others): frozen.h, and the cosine distance of loss_cosine.h.
 */
#include "draws.h"
#include "encoder.h"
#include "frozen.h"
#include "loss_cosine.h"
#include "loss_hog.h"
#include "masked_vit.h"
#include "masks.h"
#include "method.h"
#include "panels.h"
#include "view_settings.h"

#include <math.h>
#include <string.h>

#define HOG "hog"

static const tacit_setting settings[] = {
    TACIT_FROZEN_SETTINGS("target", HOG,
                          "what is predicted: hog, or a network's features, by a file as 'tacit "
                          "extract --weights' has it"),
    { "mask_ratio", TACIT_SETTING_REAL, "0.4", 0.01, 0.99, NULL,
      "share of the patches that is masked, at most; in blocks of a fifth of them at least",
      false },
    { "cell", TACIT_SETTING_WHOLE, "8", 1, 1024, NULL,
      "height and width in pixels of what has a histogram; a patch is divided into such", false },
    { 0 },
};

/* The published configuration on 8 nodes; lr_start and lr_final are scaled as lr is, as there. */
static const char *const defaults[] = {
    "arch=vit_base_patch16_224", "optimiser=adamw", "lr=2e-4",    "lr_start=1e-6", "lr_final=1e-6",
    "weight_decay=0.05",         "clip=0.02",       "batch=2048", "accumulate=64", "epochs=300",
    "warmup_epochs=30",          "crop_min=0.5",    NULL,
};
static const char *const imagenet[] = { NULL };
static const char *const small32[] = {
    "arch=vit_tiny_patch4_32", "cell=4",  "batch=256", "accumulate=1", "epochs=400",
    "warmup_epochs=20",        "lr=1e-3", NULL,
};
static const char *const quick[] = {
    "arch=vit_tiny_patch4_32",
    "dim=96",
    "depth=4",
    "heads=3",
    "cell=4",
    "batch=128",
    "accumulate=1",
    "epochs=20",
    "warmup_epochs=2",
    "lr=2e-3",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_masked_vit masked;
    bool deep;
    tacit_hog_target target;
    tacit_frozen frozen; /* where it is deep */
    tacit_blockwise blocks;
    tacit_work *work;
    tacit_panels panels;
    size_t part;
    float *features;      /* (part, dim)                            */
    float *cells, *known; /* of a picture: its targets; a patch's  */
} state;

static tacit_status views(const tacit_config *config, unsigned size, tacit_view *view,
                          size_t *count, tacit_err *err)
{
    (void)err;
    *view = tacit_view_crop(config, size);
    *count = 1;
    return TACIT_OK;
}

static bool is_deep(const tacit_config *config)
{
    return strcmp(tacit_config_string(config, "target"), HOG) != 0;
}

static bool drawn(const tacit_config *config)
{
    return !is_deep(config);
}

static tacit_status declare_target(state *s, const tacit_learner *l, size_t side, tacit_err *err)
{
    const tacit_vit_config *vit = &l->backbone.vit;
    size_t cell = tacit_config_whole(l->config, "cell");
    s->deep = is_deep(l->config);
    if (s->deep) {
        tacit_cosine_patches_declare(l->part, l->work);
        return tacit_frozen_declare(&s->frozen, l->config, "target", vit->height, side, l->part,
                                    l->work, err);
    }
    s->target = (tacit_hog_target){ vit->height, vit->patch, cell };
    if (vit->patch % cell)
        return tacit_fail(err, TACIT_EINVAL,
                          "patches of %u do not divide into cells of %zu: set cell", vit->patch,
                          cell);
    tacit_hog_loss_declare(&s->target, l->part, l->work);
    return tacit_frozen_none(l->config, "target", err);
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_vit_config *vit = &l->backbone.vit;
    tacit_vit_train_config config = tacit_encoder_vit(l->config, vit);
    double ratio = tacit_config_number(l->config, "mask_ratio");
    size_t side = vit->height / vit->patch;
    s->work = l->work;
    s->part = l->part;
    s->blocks = (tacit_blockwise){ .side = side, .aspect = 0.3 };
    s->blocks.count = (size_t)nearbyint((double)(side * side) * ratio);
    s->blocks.least = s->blocks.count / 5;
    if (side < 2 || !s->blocks.count)
        return tacit_fail(err, TACIT_EINVAL,
                          "mask_ratio = %g of %zu x %zu patches is none: set it higher, or patch "
                          "lower",
                          ratio, side, side);
    tacit_status st = declare_target(s, l, side, err);
    if (st < 0)
        return st;
    size_t values = s->deep ? s->frozen.dim : tacit_hog_values(&s->target);
    st = tacit_masked_vit_declare(&s->masked, &config, l->part, s->blocks.count, values,
                                  "pred_head", l->params, l->work, err);
    if (st == TACIT_OK)
        tacit_vit_train_as_mvit(&s->masked.vit);
    s->panels = tacit_panels_of(l->config, vit->height, vit->patch);
    return st;
}

static void close(void *ctx)
{
    state *s = ctx;
    tacit_masked_vit_close(&s->masked);
    tacit_frozen_close(&s->frozen);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_arena_plan(total, s->part * s->masked.predict.in, sizeof *s->features) &&
           (s->deep
                ? tacit_frozen_plan(&s->frozen, total)
                : tacit_arena_plan(total, tacit_hog_image_values(&s->target), sizeof *s->cells) &&
                      tacit_arena_plan(total, tacit_hog_values(&s->target), sizeof *s->known)) &&
           tacit_masked_vit_plan(&s->masked, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    s->features = tacit_arena_take(arena, s->part * s->masked.predict.in, sizeof *s->features);
    if (s->deep) {
        tacit_frozen_take(&s->frozen, arena);
    } else {
        s->cells = tacit_arena_take(arena, tacit_hog_image_values(&s->target), sizeof *s->cells);
        s->known = tacit_arena_take(arena, tacit_hog_values(&s->target), sizeof *s->known);
    }
    tacit_masked_vit_take(&s->masked, arena);
}

/* The mean of an image's patches. */
static void features_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    state *s = ctx;
    const tacit_trunk *trunk = &s->masked.vit.trunk;
    size_t dim = trunk->config.dim, patches = s->masked.vit.patches;
    s->work->kernels->mean_rows_f32(patches, dim,
                                    trunk->normed + (image * (1 + patches) + 1) * trunk->ld,
                                    trunk->ld, s->features + image * dim);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    const tacit_batch *b = part->batch;
    size_t patches = s->masked.vit.patches;
    for (size_t i = 0; i < part->images; i++)
        tacit_mask_blockwise(&s->blocks, part->seed, b->epoch, b->samples[i],
                             s->masked.masks + i * patches);
    bool drop = s->masked.vit.config.drop_path > 0;
    for (size_t i = 0; drop && i < part->images; i++)
        tacit_trunk_draw(
            &s->masked.vit.trunk, i, part->seed,
            tacit_draw_stream(part->seed, b->epoch, b->samples[i], TACIT_DRAW_DROP_PATH));
    tacit_masked_vit_forward(&s->masked, b->views[0], part->images, drop);
    tacit_parallel_for(s->work->pool, part->images, features_chunk, s);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    const float *images = part->batch->views[0];
    tacit_masked_vit *m = &s->masked;
    double share = 1 / (double)part->count;
    (void)parts;
    if (!s->deep)
        return tacit_hog_loss(&s->target, s->work, images, s->part, m->first, m->patches, share,
                              m->predictions, m->ld);
    return tacit_cosine_patches_loss(
        s->work, s->part, m->first, m->patches, s->frozen.patches, s->frozen.dim, share,
        tacit_frozen_forward(&s->frozen, images, s->part), m->predictions, m->ld);
}

static void backward(void *ctx, const tacit_part *part)
{
    (void)part;
    tacit_masked_vit_backward(&((state *)ctx)->masked);
}

/* The image, what is seen of it, its gradients, and those with the masked patches' as they were
 * predicted. */
static void picture(void *ctx, const tacit_part *part, size_t i, float *panels)
{
    state *s = ctx;
    const tacit_masked_vit *m = &s->masked;
    size_t values = 3 * s->panels.size * s->panels.size;
    const float *image = part->batch->views[0] + i * values;
    float *seen = panels + values, *target = seen + values, *predicted = target + values;
    tacit_panel_image(&s->panels, image, panels);
    memcpy(seen, panels, values * sizeof *seen);
    tacit_hog_image(&s->target, s->work->kernels, image, s->cells);
    for (size_t patch = 0; patch < m->vit.patches; patch++) {
        tacit_hog_patch(&s->target, s->cells, patch, s->known);
        tacit_panel_gradients(&s->panels, patch, s->target.cell, s->known, target);
    }
    memcpy(predicted, target, values * sizeof *target);
    for (size_t row = m->first[i]; row < m->first[i + 1]; row++) {
        tacit_panel_grey(&s->panels, m->patches[row], 0.5f, seen);
        tacit_panel_gradients(&s->panels, m->patches[row], s->target.cell,
                              m->predictions + row * m->ld, predicted);
    }
}

/* The mean of the patches. */
static tacit_embeddings embeddings(const void *ctx)
{
    const state *s = ctx;
    size_t dim = s->masked.predict.in;
    return (tacit_embeddings){ s->features, s->part, dim, dim, false, false };
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    return tacit_masked_vit_flops(&s->masked) + (s->deep ? tacit_frozen_flops(&s->frozen) : 0);
}

const tacit_method tacit_masked_features = {
    .name = "maskfeat",
    .title = "MaskFeat: predict the oriented gradients of masked patches",
    .paper = "Wei et al. 2021, arXiv:2112.09133",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "pred_head", "mask_token", NULL },
    .panels = (const char *const[]){ "image", "masked", "gradients", "prediction", NULL },
    .vit = true,
    .features = TACIT_FEATURES_MEAN,
    .state = sizeof(state),
    .views = views,
    .declare = declare,
    .close = close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .drawn = drawn,
    .picture = picture,
    .embeddings = embeddings,
    .flops = flops,
};
