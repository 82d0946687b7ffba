/* method_beit.c - BEiT: from the patches that are seen, the visual words of those that are masked
 * (Bao et al. 2021, arXiv:2106.08254; microsoft/unilm, beit/modeling_pretrain.py,
 * engine_for_pretraining.py, run_beit_pretraining.py).
 *
 * A mask token stands for the embeddings of masked patches, and a Linear behind the ViT's last norm
 * tells their words: masked_vit.h, with BEiT's backbone. The words of an image are the tokens that
 * a tokenizer of `tacit tokenizer` finds in the same view, of which the published code makes
 * another resize; the published colour jitter comes before the crop. masks.h has the masks, a
 * function of (seed, epoch, sample), of which some have fewer patches than others; loss_tokens.h
 * the loss, whose mean is taken over the masked patches of a part of a step, as there on each GPU.
 * Features are the mean of the patches', as in the published fine-tuning.
 */
#include "beit_backbone.h"
#include "frozen.h"
#include "loss_tokens.h"
#include "masked_modelling.h"
#include "masks.h"
#include "most.h"
#include "panels.h"
#include "token_targets.h"
#include "view_settings.h"

#include <string.h>

static const tacit_setting settings[] = {
    TACIT_FROZEN_SETTINGS(
        "tokenizer", "",
        "tokenizer.safetensors of 'tacit tokenizer train', or DALL-E's or BEiT v2's: "
        "as many tokens of an image as there are patches"),
    { "mask_patches", TACIT_SETTING_WHOLE, "75", 1, 1 << 20, NULL,
      "patches of an image that are masked, at most", false },
    { "mask_least", TACIT_SETTING_WHOLE, "16", 1, 1 << 20, NULL,
      "patches of the smallest block of them", false },
    { 0 },
};

/* The published recipe for ImageNet-1k (get_started_for_image_classification.md). */
#define JITTER                                                                                     \
    "brightness=0.4", "contrast=0.4", "saturation=0.4", "hue=0", "jitter_probability=1", "gray=0", \
        "blur=0"
static const char *const defaults[] = { JITTER,
                                        "arch=vit_base_patch16_224",
                                        "drop_path=0.1",
                                        "optimiser=adamw",
                                        "lr=1.5e-3",
                                        "lr_scale=none",
                                        "lr_final=1e-5",
                                        "weight_decay=0.05",
                                        "clip=3",
                                        "batch=2048",
                                        "accumulate=64",
                                        "epochs=800",
                                        "warmup_epochs=10",
                                        "warmup_inclusive=true",
                                        NULL };
static const char *const imagenet[] = { NULL };
static const char *const small32[] = { "arch=vit_tiny_patch4_32",
                                       "mask_patches=25",
                                       "mask_least=5",
                                       "lr=5e-4",
                                       "batch=256",
                                       "accumulate=1",
                                       "epochs=400",
                                       "warmup_epochs=20",
                                       NULL };
static const char *const quick[] = { "arch=vit_tiny_patch4_32",
                                     "dim=96",
                                     "depth=4",
                                     "heads=3",
                                     "mask_patches=25",
                                     "mask_least=5",
                                     "drop_path=0",
                                     "lr=2e-3",
                                     "batch=128",
                                     "accumulate=1",
                                     "epochs=20",
                                     "warmup_epochs=2",
                                     NULL };
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_masked_modelling masked;
    tacit_token_targets targets;
    tacit_blockwise blocks;
    tacit_panels panels;
    uint32_t *words; /* of each row of predictions */
    uint32_t *told;  /* of a picture's patches     */
} state;

/* Where a tokenizer cannot be opened, declare tells why. */
static bool drawn(const tacit_config *config)
{
    tacit_tokenizer_info info;
    const char *path = tacit_config_string(config, "tokenizer");
    return !*path || tacit_tokenizer_peek(path, &info, NULL) < 0 || info.decodes;
}

static tacit_status views(const tacit_config *config, unsigned size, tacit_view *view,
                          size_t *count, tacit_err *err)
{
    (void)err;
    *view = tacit_view_colour(config, size, false);
    *count = 1;
    return TACIT_OK;
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_vit_config *vit = &l->backbone.vit;
    const tacit_vit_train_config config = tacit_beit_vit(l->config, vit);
    size_t side = vit->height / vit->patch;
    s->blocks = (tacit_blockwise){ .side = side,
                                   .count = tacit_config_whole(l->config, "mask_patches"),
                                   .least = tacit_config_whole(l->config, "mask_least"),
                                   .aspect = 0.3 };
    s->panels = tacit_panels_of(l->config, vit->height, vit->patch);
    if (side < 2 || s->blocks.count >= side * side || s->blocks.least > s->blocks.count)
        return tacit_fail(
            err, TACIT_EINVAL,
            "mask_patches = %zu must be less than the %zu x %zu patches, and not less "
            "than mask_least = %zu",
            s->blocks.count, side, side, s->blocks.least);
    tacit_status st = tacit_token_targets_declare(&s->targets, l->config, "tokenizer", vit->height,
                                                  side, l->part, l->work, err);
    if (st == TACIT_OK)
        st = tacit_masked_modelling_declare(&s->masked, l, &config, s->blocks.count,
                                            s->targets.codes, "lm_head", err);
    if (st < 0)
        return st;
    tacit_vit_train_as_beit(&s->masked.net.vit);
    s->masked.net.predict.w->init =
        (tacit_init){ .kind = TACIT_INIT_TRUNCATED, .size = 0.02, .cut = 1 };
    tacit_token_loss_declare(l->part * s->blocks.count, l->work);
    return TACIT_OK;
}

static void close(void *ctx)
{
    tacit_token_targets_close(&((state *)ctx)->targets);
    tacit_masked_hook_close(ctx);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_arena_plan(total, s->masked.part * s->blocks.count, sizeof *s->words) &&
           tacit_arena_plan(total, s->targets.tokens, sizeof *s->told) &&
           tacit_token_targets_plan(&s->targets, total) &&
           tacit_masked_modelling_plan(&s->masked, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    s->words = tacit_arena_take(arena, s->masked.part * s->blocks.count, sizeof *s->words);
    s->told = tacit_arena_take(arena, s->targets.tokens, sizeof *s->told);
    tacit_token_targets_take(&s->targets, arena);
    tacit_masked_modelling_take(&s->masked, arena);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    tacit_masked_vit *net = &s->masked.net;
    for (size_t i = 0; i < part->images; i++)
        tacit_mask_blockwise(&s->blocks, part->seed, part->batch->epoch, part->batch->samples[i],
                             net->masks + i * net->vit.patches);
    tacit_masked_modelling_forward(&s->masked, part);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    tacit_masked_vit *net = &s->masked.net;
    const uint32_t *ids =
        tacit_token_targets_forward(&s->targets, part->batch->views[0], part->images);
    for (size_t i = 0; i < part->images; i++)
        for (size_t row = net->first[i]; row < net->first[i + 1]; row++)
            s->words[row] = ids[i * s->targets.tokens + net->patches[row]];
    return tacit_token_loss(s->masked.work, net->rows, s->targets.codes, s->words,
                            1 / (double)part->count, net->predictions, net->ld, &parts[0]);
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    return tacit_masked_hook_flops(s) + tacit_tokenizer_flops(s->targets.tokenizer);
}

/* The image, what is seen of it, and what the tokenizer's decoder makes of its words: of those that
 * were told where they are masked, and of all its own. */
static void picture(void *ctx, const tacit_part *part, size_t i, float *panels)
{
    state *s = ctx;
    const tacit_masked_vit *net = &s->masked.net;
    size_t values = 3 * s->panels.size * s->panels.size;
    const float *image = part->batch->views[0] + i * values;
    float *seen = panels + values, *told = seen + values, *own = told + values;
    const uint32_t *ids = tacit_token_targets_forward(&s->targets, image, 1);
    tacit_panel_image(&s->panels, image, panels);
    memcpy(seen, panels, values * sizeof *seen);
    memcpy(s->told, ids, s->targets.tokens * sizeof *ids);
    for (size_t row = net->first[i]; row < net->first[i + 1]; row++) {
        tacit_panel_grey(&s->panels, net->patches[row], 0.5f, seen);
        s->told[net->patches[row]] =
            (uint32_t)tacit_most(s->targets.codes, net->predictions + row * net->ld);
    }
    memcpy(told, tacit_token_targets_draw(&s->targets, s->told), values * sizeof *told);
    memcpy(own, tacit_token_targets_draw(&s->targets, ids), values * sizeof *own);
}

const tacit_method tacit_bidirectional_encoder = {
    .name = "beit",
    .title = "BEiT: tell the visual words of masked patches",
    .paper = "Bao et al. 2021, arXiv:2106.08254",
    .settings = (const tacit_setting *const[]){ settings, tacit_beit_settings, tacit_crop_settings,
                                                tacit_colour_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ "accuracy", NULL },
    .heads = (const char *const[]){ "lm_head.", "mask_token", NULL },
    .panels = (const char *const[]){ "image", "masked", "prediction", "tokens", NULL },
    .vit = true,
    .features = TACIT_FEATURES_MEAN,
    .state = sizeof(state),
    .backbone = tacit_beit_backbone,
    .views = views,
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
