/* method_moco3.c - MoCo v3: from one view a network predicts which of a batch's keys is that of the
 * other view, which its own moving average makes (Chen, Xie and He 2021, arXiv:2104.02057;
 * facebookresearch/moco-v3).
 *
 * q = p(g(f(x))), k = g'(f'(x)); L = ctr(q1, k2) + ctr(q2, k1), with ctr = 2 temperature times
 * InfoNCE (loss_infonce.h) among the keys of that view, mean over images. f' and g' are momentum
 * times themselves plus the rest of f and g, with a momentum that rises to 1 by half a cosine. Each
 * view goes through alone. Projector and predictor have no biases; they end in a batch norm without
 * gain and offset, but for a ResNet's predictor. A ViT has fixed positions and Xavier's weights,
 * and its patch embedding stays as it began, without which large batches are unstable.
 *
 * In the authors' step the keys' network moves before it makes them, and the first time to where it
 * is; here behind the step before, by the next step's momentum: the same keys.
 */
#include "bootstrap.h"
#include "loss_cosine.h"
#include "loss_infonce.h"
#include "schedule.h"
#include "view_settings.h"

static const tacit_setting settings[] = {
    { "key_momentum", TACIT_SETTING_REAL, "0.99", 0, 1, NULL,
      "of the keys' network at the start; it ends at 1", false },
    { "temperature", TACIT_SETTING_REAL, "1", 0.001, 100, NULL, "of the softmax over similarities",
      false },
    { "negatives", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "the batch's other keys; without them query and key only agree, and but for predictor and "
      "batch norm the features collapse",
      false },
    { "predictor", TACIT_SETTING_FLAG, "true", 0, 0, NULL, "the predictor", false },
    { "freeze_patch", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "a ViT's patch embedding stays as it began", false },
    { "head_layers", TACIT_SETTING_WHOLE, "0", 0, 3, NULL,
      "Linear layers of the projector; 0: 3 of a ViT, 2 of a ResNet", false },
    { "head_norm", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "batch norm behind the last layer of the projector and of a ViT's predictor", false },
    { 0 },
};

/* CONFIG.md: ResNet-50, 100 epochs. */
static const char *const defaults[] = {
    "arch=resnet50",
    "zero_init=true",
    "optimiser=lars",
    "lr=0.6",
    "weight_decay=1e-6",
    "batch=4096",
    "accumulate=128",
    "epochs=100",
    "warmup_epochs=10",
    "crop_min=0.2",
    "filter=bilinear",
    TACIT_BYOL_VIEWS,
    NULL,
};
/* The same: ViT-Small, which has heads of 32 here. */
static const char *const imagenet[] = {
    "arch=vit_small_patch16_224",
    "heads=12",
    "optimiser=adamw",
    "lr=1.5e-4",
    "weight_decay=0.1",
    "decay_all=true",
    "epochs=300",
    "warmup_epochs=40",
    "temperature=0.2",
    "crop_min=0.08",
    NULL,
};
/* solo-learn, CIFAR-10. */
static const char *const small32[] = {
    "arch=resnet18_cifar", "zero_init=false", "normalise=cifar",
    "batch=256",           "accumulate=1",    "epochs=1000",
    "optimiser=larc-clip", "trust=0.02",      "lr=0.3",
    "temperature=0.2",     "crop_min=0.08",   "blur=0",
    "blur_second=0",       "filter=bicubic",  NULL,
};
static const char *const quick[] = {
    "arch=resnet18_cifar",
    "dim=32",
    "depth=1",
    "batch=128",
    "accumulate=1",
    "epochs=20",
    "warmup_epochs=1",
    "optimiser=adamw",
    "lr=0.004",
    "weight_decay=1e-4",
    "temperature=0.2",
    "head_hidden=512",
    "head_dim=128",
    "blur=0",
    "blur_second=0",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_bootstrap networks; /* first, for its hooks */
    tacit_infonce loss;
    double momentum, temperature;
    bool negatives;
} state;

/* Linear, BN, ReLU, ..., Linear and, where it `ends` so, BN. */
static void make_head(const tacit_learner *l, size_t count, bool ends, tacit_mlp_layer *layers)
{
    static const char *const names[] = { "0", "3", "6" }, *const norms[] = { "1", "4", "7" };
    for (size_t i = 0; i < count; i++) {
        bool last = i + 1 == count;
        layers[i] = (tacit_mlp_layer){
            .out = tacit_config_whole(l->config, last ? "head_dim" : "head_hidden"),
            .norm = !last  ? TACIT_MLP_BN
                    : ends ? TACIT_MLP_BN_PLAIN
                           : TACIT_MLP_NO_NORM,
            .relu = !last,
            .name = names[i],
            .norm_name = norms[i],
        };
    }
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_config *c = l->config;
    bool is_vit = l->backbone.family == TACIT_FAMILY_VIT;
    size_t layers = tacit_config_whole(c, "head_layers");
    tacit_mlp_layer predictor[TACIT_MLP_LAYERS];
    tacit_tower_config tower = { .views = 2,
                                 .apart = true,
                                 .as_moco = true,
                                 .freeze = tacit_config_flag(c, "freeze_patch"),
                                 .layer_count = layers   ? layers
                                                : is_vit ? 3
                                                         : 2 };
    bool norm = tacit_config_flag(c, "head_norm");
    make_head(l, tower.layer_count, norm, tower.layers);
    make_head(l, 2, norm && is_vit, predictor);
    s->momentum = tacit_config_number(c, "key_momentum");
    s->temperature = tacit_config_number(c, "temperature");
    s->negatives = tacit_config_flag(c, "negatives");
    tacit_infonce_init(&s->loss, l->whole, l->whole, tacit_config_whole(c, "head_dim"),
                       s->temperature, l->work);
    return tacit_bootstrap_declare(&s->networks, &tower, predictor,
                                   tacit_config_flag(c, "predictor") ? 2 : 0, l, err);
}

static bool plan(const void *ctx, size_t *total)
{
    return tacit_bootstrap_hook_plan(ctx, total) &&
           tacit_infonce_plan(&((const state *)ctx)->loss, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    tacit_bootstrap_hook_take(ctx, arena);
    tacit_infonce_take(&((state *)ctx)->loss, arena);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    const state *s = ctx;
    const tacit_bootstrap *b = &s->networks;
    size_t n = b->online.whole, dim = b->online.dim;
    double sum = 0;
    (void)part, (void)parts;
    for (size_t at = 0; at < 2 * n * dim; at += n * dim) {
        const float *q = b->p + at;
        float *k = b->targets + at, *d = b->d + at;
        if (!s->negatives) {
            sum += tacit_cosine_loss(b->work, n, dim, q, k, 1 / (double)n, d);
            continue;
        }
        b->work->kernels->l2norm_f32(n, dim, k, dim, k, dim);
        sum += tacit_infonce_loss(&s->loss, n, q, NULL, n, k, 2 * s->temperature / (double)n, d);
    }
    return sum;
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    const tacit_schedule rise = { .base = s->momentum, .final = 1, .steps = (double)steps };
    tacit_bootstrap_follow(&s->networks, tacit_schedule_at(&rise, (double)step + 1));
}

static double flops(const void *ctx)
{
    const tacit_tower *t = &((const state *)ctx)->networks.online;
    return tacit_bootstrap_hook_flops(ctx) + 8.0 * (double)t->whole * (double)t->dim;
}

const tacit_method tacit_momentum_contrast_v3 = {
    .name = "moco3",
    .title = "MoCo v3: contrastive, against the batch's keys of a moving average",
    .paper = "Chen, Xie and He 2021, arXiv:2104.02057",
    .settings = (const tacit_setting *const[]){ settings, tacit_bootstrap_settings,
                                                tacit_crop_settings, tacit_colour_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", "predictor.", NULL },
    .vit = true,
    .resnet = true,
    .joint = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_pair,
    .declare = declare,
    .close = tacit_bootstrap_hook_close,
    .plan = plan,
    .take = take,
    .forward = tacit_bootstrap_hook_forward,
    .loss = loss,
    .backward = tacit_bootstrap_hook_backward,
    .after = after,
    .embeddings = tacit_bootstrap_hook_embeddings,
    .outputs = tacit_bootstrap_hook_outputs,
    .flops = flops,
};
