/* method_maskfeat.c - MaskFeat: from the patches that are seen, the histograms of oriented
 * gradients of those that are masked (Wei et al. 2021, arXiv:2112.09133; facebookresearch/SlowFast,
 * slowfast/models/masked.py, configs/masked_ssl/in1k_VIT_B_MaskFeat_PT.yaml).
 *
 * A mask token stands for the embeddings of masked patches, and a Linear behind the ViT's last norm
 * predicts: masked_vit.h. masks.h has the masks, of which some have fewer patches than others: the
 * loss is the mean over the masked patches of a part of a step, as the published code takes it on
 * each of its GPUs. Features are the mean of the patches', as the published fine-tuning has them:
 * the class token has no part in the loss. In place of histograms a network's features can be the
 * targets: maskfeat_target.h.
 */
#include "encoder.h"
#include "masked_modelling.h"
#include "maskfeat_target.h"
#include "masks.h"
#include "method.h"
#include "panels.h"
#include "view_settings.h"

#include <math.h>
#include <string.h>

static const tacit_setting settings[] = {
    { "mask_ratio", TACIT_SETTING_REAL, "0.4", 0.01, 0.99, NULL,
      "share of the patches that is masked, at most; in blocks of a fifth of them at least",
      false },
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
    tacit_masked_modelling masked; /* first: its hooks are the method's */
    tacit_maskfeat_target target;
    tacit_blockwise blocks;
    tacit_panels panels;
} state;

static bool drawn(const tacit_config *config)
{
    return !tacit_maskfeat_is_deep(config);
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_vit_config *vit = &l->backbone.vit;
    const tacit_vit_train_config config = tacit_encoder_vit(l->config, vit);
    double ratio = tacit_config_number(l->config, "mask_ratio");
    size_t side = vit->height / vit->patch;
    s->panels = tacit_panels_of(l->config, vit->height, vit->patch);
    s->blocks = (tacit_blockwise){ .side = side, .aspect = 0.3 };
    s->blocks.count = (size_t)nearbyint((double)(side * side) * ratio);
    s->blocks.least = s->blocks.count / 5;
    if (side < 2 || !s->blocks.count)
        return tacit_fail(err, TACIT_EINVAL,
                          "mask_ratio = %g of %zu x %zu patches is none: set it higher, or patch "
                          "lower",
                          ratio, side, side);
    tacit_status st = tacit_maskfeat_target_declare(&s->target, l, err);
    if (st == TACIT_OK)
        st = tacit_masked_modelling_declare(&s->masked, l, &config, s->blocks.count,
                                            s->target.values, "pred_head", err);
    if (st == TACIT_OK)
        tacit_vit_train_as_mvit(&s->masked.net.vit);
    return st;
}

static void close(void *ctx)
{
    state *s = ctx;
    tacit_masked_hook_close(s);
    tacit_maskfeat_target_close(&s->target);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_masked_modelling_plan(&s->masked, total) &&
           tacit_maskfeat_target_plan(&s->target, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    tacit_masked_modelling_take(&s->masked, arena);
    tacit_maskfeat_target_take(&s->target, arena);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    const tacit_batch *b = part->batch;
    tacit_masked_vit *net = &s->masked.net;
    for (size_t i = 0; i < part->images; i++)
        tacit_mask_blockwise(&s->blocks, part->seed, b->epoch, b->samples[i],
                             net->masks + i * net->vit.patches);
    tacit_masked_modelling_forward(&s->masked, part);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    (void)parts;
    return tacit_maskfeat_loss(&s->target, part, &s->masked.net);
}

/* The image, what is seen of it, its gradients, and those with the masked patches' as they were
 * predicted. */
static void picture(void *ctx, const tacit_part *part, size_t i, float *panels)
{
    const state *s = ctx;
    const tacit_masked_vit *net = &s->masked.net;
    const tacit_maskfeat_target *t = &s->target;
    size_t values = 3 * s->panels.size * s->panels.size;
    const float *image = part->batch->views[0] + i * values;
    float *seen = panels + values, *target = seen + values, *predicted = target + values;
    tacit_panel_image(&s->panels, image, panels);
    memcpy(seen, panels, values * sizeof *seen);
    tacit_hog_image(&t->hog, s->masked.work->kernels, image, t->cells);
    for (size_t patch = 0; patch < net->vit.patches; patch++) {
        tacit_hog_patch(&t->hog, t->cells, patch, t->patch);
        tacit_panel_gradients(&s->panels, patch, t->hog.cell, t->patch, target);
    }
    memcpy(predicted, target, values * sizeof *target);
    for (size_t row = net->first[i]; row < net->first[i + 1]; row++) {
        tacit_panel_grey(&s->panels, net->patches[row], 0.5f, seen);
        tacit_panel_gradients(&s->panels, net->patches[row], t->hog.cell,
                              net->predictions + row * net->ld, predicted);
    }
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    return tacit_masked_hook_flops(s) + tacit_maskfeat_target_flops(&s->target);
}

const tacit_method tacit_masked_features = {
    .name = "maskfeat",
    .title = "MaskFeat: predict the oriented gradients of masked patches",
    .paper = "Wei et al. 2021, arXiv:2112.09133",
    .settings = (const tacit_setting *const[]){ settings, tacit_maskfeat_target_settings,
                                                tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "pred_head", "mask_token", NULL },
    .panels = (const char *const[]){ "image", "masked", "gradients", "prediction", NULL },
    .vit = true,
    .features = TACIT_FEATURES_MEAN,
    .state = sizeof(state),
    .views = tacit_view_single,
    .declare = declare,
    .close = close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = tacit_masked_hook_backward,
    .drawn = drawn,
    .picture = picture,
    .embeddings = tacit_masked_hook_embeddings,
    .flops = flops,
};
