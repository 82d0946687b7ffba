/* method_mae.c - MAE: from a quarter of its patches, a picture's others (He et al. 2021,
 * arXiv:2111.06377; facebookresearch/mae).
 *
 * The mask of an image is a function of (seed, epoch, sample). mae.h has the network, loss_mae.h
 * the loss.
 */
#include "encoder.h"
#include "loss_mae.h"
#include "mae.h"
#include "masks.h"
#include "method.h"
#include "panels.h"
#include "view_settings.h"

#include <string.h>

static const tacit_setting settings[] = {
    { "mask_ratio", TACIT_SETTING_REAL, "0.75", 0.01, 0.99, NULL,
      "share of the patches that is masked; what is kept is cut to a whole number", false },
    { "norm_pixels", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "each patch's pixels are normalised before they are the target", false },
    { "decoder_dim", TACIT_SETTING_WHOLE, "512", 4, 8192, NULL, "width of the decoder", false },
    { "decoder_depth", TACIT_SETTING_WHOLE, "8", 1, 64, NULL, "blocks of the decoder", false },
    { "decoder_heads", TACIT_SETTING_WHOLE, "16", 1, 256, NULL, "heads of the decoder", false },
    { 0 },
};

/* README of facebookresearch/mae, "Pre-training". */
static const char *const defaults[] = {
    "arch=vit_base_patch16_224",
    "optimiser=adamw",
    "lr=1.5e-4",
    "beta2=0.95",
    "weight_decay=0.05",
    "batch=4096",
    "epochs=800",
    "warmup_epochs=40",
    "accumulate=64",
    "crop_min=0.2",
    NULL,
};
static const char *const imagenet[] = { NULL };
static const char *const small32[] = {
    "arch=vit_tiny_patch4_32",
    "decoder_dim=128",
    "decoder_depth=2",
    "decoder_heads=4",
    "batch=256",
    "accumulate=1",
    "epochs=400",
    "warmup_epochs=20",
    "lr=1e-3",
    NULL,
};
static const char *const quick[] = {
    "arch=vit_tiny_patch4_32", "dim=96",          "depth=4",   "heads=3",      "decoder_dim=64",
    "decoder_depth=1",         "decoder_heads=2", "batch=128", "accumulate=1", "epochs=20",
    "warmup_epochs=2",         "lr=2e-3",         NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_mae mae;
    tacit_mae_target target;
    tacit_panels panels;
    tacit_work *work;
    size_t part, whole, patches, kept;
    uint32_t *keep, *mask; /* (part, kept), (part, patches - kept) */
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_vit_config *vit = &l->backbone.vit;
    double ratio = tacit_config_number(l->config, "mask_ratio");
    unsigned dim = (unsigned)tacit_config_whole(l->config, "decoder_dim");
    unsigned heads = (unsigned)tacit_config_whole(l->config, "decoder_heads");
    s->part = l->part;
    s->whole = l->whole;
    s->work = l->work;
    s->patches = (size_t)(vit->height / vit->patch) * (vit->width / vit->patch);
    s->kept = (size_t)((double)s->patches * (1 - ratio));
    if (!s->kept)
        return tacit_fail(err, TACIT_EINVAL,
                          "mask_ratio = %g leaves none of %zu patches: set it lower", ratio,
                          s->patches);
    if (dim % 4 || dim % heads)
        return tacit_fail(err, TACIT_EINVAL,
                          "decoder_dim = %u must be divisible by 4 and by decoder_heads = %u", dim,
                          heads);
    tacit_mae_config config = {
        .encoder = tacit_encoder_vit(l->config, vit),
        .dim = dim,
        .depth = (unsigned)tacit_config_whole(l->config, "decoder_depth"),
        .heads = heads,
        .mlp = 4 * dim,
    };
    tacit_status st =
        tacit_mae_declare(&s->mae, &config, l->part, s->kept, l->params, l->work, err);
    s->target = (tacit_mae_target){ .image = vit->height,
                                    .patch = vit->patch,
                                    .normalised = tacit_config_flag(l->config, "norm_pixels") };
    s->panels = tacit_panels_of(l->config, vit->height, vit->patch);
    tacit_mae_loss_declare(&s->target, l->part, l->work);
    return st;
}

static void close(void *ctx)
{
    tacit_mae_close(&((state *)ctx)->mae);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_arena_plan(total, s->part * s->kept, sizeof(uint32_t)) &&
           tacit_arena_plan(total, s->part * (s->patches - s->kept), sizeof(uint32_t)) &&
           tacit_mae_plan(&s->mae, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    s->keep = tacit_arena_take(arena, s->part * s->kept, sizeof(uint32_t));
    s->mask = tacit_arena_take(arena, s->part * (s->patches - s->kept), sizeof(uint32_t));
    tacit_mae_take(&s->mae, arena);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    const tacit_batch *b = part->batch;
    for (size_t i = 0; i < part->images; i++)
        tacit_mask_random(part->seed, b->epoch, b->samples[i], s->patches, s->kept,
                          s->keep + i * s->kept, s->mask + i * (s->patches - s->kept));
    tacit_mae_forward(&s->mae, b->views[0], part->images, s->keep, s->mask);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    (void)parts;
    return tacit_mae_loss(&s->target, s->work, part->batch->views[0], s->part, s->mask,
                          s->patches - s->kept, s->whole, s->mae.predictions, s->mae.ld_pixels);
}

static void backward(void *ctx, const tacit_part *part)
{
    (void)part;
    tacit_mae_backward(&((state *)ctx)->mae);
}

/* The image, what was seen of it, and that with the other patches as they were predicted. */
static void picture(void *ctx, const tacit_part *part, size_t i, float *panels)
{
    state *s = ctx;
    size_t masked = s->patches - s->kept, values = 3 * s->panels.size * s->panels.size;
    const float *image = part->batch->views[0] + i * values;
    const uint32_t *mask = s->mask + i * masked;
    float *prediction = s->mae.predictions + i * masked * s->mae.ld_pixels;
    float *seen = panels + values, *reconstructed = seen + values;
    tacit_panel_image(&s->panels, image, panels);
    memcpy(seen, panels, values * sizeof *seen);
    memcpy(reconstructed, panels, values * sizeof *panels);
    for (size_t k = 0; k < masked; k++, prediction += s->mae.ld_pixels) {
        tacit_mae_pixels(&s->target, image, mask[k], prediction);
        tacit_panel_grey(&s->panels, mask[k], 0.5f, seen);
        tacit_panel_patch(&s->panels, mask[k], prediction, reconstructed);
    }
}

/* The encoder's class tokens. */
static tacit_embeddings embeddings(const void *ctx)
{
    const state *s = ctx;
    const tacit_trunk *trunk = &s->mae.encoder.trunk;
    return (tacit_embeddings){ trunk->normed, s->part, trunk->config.dim, (1 + s->kept) * trunk->ld,
                               false,         false };
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    return tacit_mae_flops(&s->mae.config, s->kept);
}

const tacit_method tacit_masked_autoencoder = {
    .name = "mae",
    .title = "MAE: reconstruct the pixels of masked patches",
    .paper = "He et al. 2021, arXiv:2111.06377",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "decoder_", "mask_token", NULL },
    .panels = (const char *const[]){ "image", "masked", "reconstruction", NULL },
    .vit = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_single,
    .declare = declare,
    .close = close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .picture = picture,
    .embeddings = embeddings,
    .flops = flops,
};
