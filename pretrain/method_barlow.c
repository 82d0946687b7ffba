/* method_barlow.c - Barlow Twins: the cross-correlation of two views' embeddings becomes the
 * identity (Zbontar et al. 2021, arXiv:2103.03230, eq. 1; facebookresearch/barlowtwins).
 *
 * C = z1^T z2 / N with each view's columns normalised over the batch, the projector's last batch
 * norm; L = sum_i (C_ii - 1)^2 + lambda sum_(i != j) C_ij^2. Biases and norms have a rate of their
 * own. (Of the official run's 16 workers each goes back through its own share of C, which makes a
 * sixteenth of the gradient. LARS' trust hides that for weights; for biases, the published rate of
 * 0.0048 comes to 0.0003 here.)
 */
#include "correlation.h"
#include "tower.h"
#include "view_settings.h"

static const tacit_setting settings[] = {
    { "lambda", TACIT_SETTING_REAL, "0.0051", 0, 1, NULL, "weight of what is not on the diagonal",
      false },
    { "standardise", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "embeddings over the batch; without it, and lambda, the same one for all images is a "
      "solution",
      false },
    { "loss_scale", TACIT_SETTING_REAL, "1", 1e-6, 1e3, NULL, "factor of the whole loss", false },
    { "bias_rate", TACIT_SETTING_REAL, "0.0015", 0, 100, NULL,
      "rate of biases and norms, as a factor of lr", false },
    { "head_layers", TACIT_SETTING_WHOLE, "3", 1, 3, NULL, "Linear layers of the projector",
      false },
    { "head_hidden", TACIT_SETTING_WHOLE, "8192", 1, 16384, NULL, "width of its hidden layers",
      false },
    { "head_dim", TACIT_SETTING_WHOLE, "8192", 2, 16384, NULL, "width of the embeddings", false },
    { 0 },
};

/* main.py; its 0.0048 / 16 over 0.2 is bias_rate. */
static const char *const defaults[] = {
    "arch=resnet50",   "zero_init=true",    "optimiser=lars", "lr=0.2",
    "lr_final=0.0002", "weight_decay=1e-6", "batch=2048",     "accumulate=64",
    "epochs=1000",     "warmup_epochs=10",  TACIT_BYOL_VIEWS, NULL,
};
static const char *const imagenet[] = { NULL };
/* solo-learn, CIFAR-10. */
static const char *const small32[] = {
    "arch=resnet18_cifar", "zero_init=false", "batch=256",     "accumulate=1", "lr=0.3",
    "weight_decay=1e-4",   "loss_scale=0.1",  "lambda=0.005",  "bias_rate=1",  "head_hidden=2048",
    "head_dim=2048",       "blur=0",          "blur_second=0", NULL,
};
static const char *const quick[] = {
    "arch=resnet18_cifar",
    "dim=32",
    "depth=1",
    "batch=128",
    "accumulate=1",
    "epochs=12",
    "warmup_epochs=1",
    "optimiser=adamw",
    "lr=0.004",
    "weight_decay=1e-4",
    "lr_final=0",
    "loss_scale=0.1",
    "lambda=0.01",
    "bias_rate=1",
    "head_layers=2",
    "head_hidden=512",
    "head_dim=512",
    "crop_min=0.2",
    "blur=0",
    "blur_second=0",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_tower tower; /* first, for its hooks */
    tacit_correlation correlation;
    double lambda, scale;
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    static const char *const names[] = { "0", "3", "6" }, *const norms[] = { "1", "4", "7" };
    state *s = ctx;
    tacit_mlp_norm last_norm =
        tacit_config_flag(l->config, "standardise") ? TACIT_MLP_BN_PLAIN : TACIT_MLP_NO_NORM;
    tacit_tower_config t = { .views = 2,
                             .apart = true,
                             .layer_count = tacit_config_whole(l->config, "head_layers") };
    for (size_t i = 0; i < t.layer_count; i++) {
        bool last = i + 1 == t.layer_count;
        t.layers[i] = (tacit_mlp_layer){
            .out = tacit_config_whole(l->config, last ? "head_dim" : "head_hidden"),
            .norm = last ? last_norm : TACIT_MLP_BN,
            .relu = !last,
            .name = names[i],
            .norm_name = norms[i],
        };
    }
    s->lambda = tacit_config_number(l->config, "lambda");
    s->scale = tacit_config_number(l->config, "loss_scale");
    tacit_status st = tacit_tower_declare(&s->tower, &t, l, l->params, err);
    for (size_t i = 0; i < l->params->count; i++)
        if (l->params->list[i]->no_decay)
            l->params->list[i]->rate = (float)tacit_config_number(l->config, "bias_rate");
    tacit_correlation_init(&s->correlation, l->whole, s->tower.dim, l->work);
    return st;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_tower_plan(&s->tower, total) && tacit_correlation_plan(&s->correlation, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    tacit_tower_take(&s->tower, arena);
    tacit_correlation_take(&s->correlation, arena);
}

/* A row of N C: (C_ii - 1)^2 + lambda sum C_ij^2, and its gradient. */
static double turn(const void *ctx, size_t row, float *c)
{
    const state *s = ctx;
    const tacit_kernels *k = s->correlation.work->kernels;
    size_t dim = s->tower.dim;
    double n = (double)s->tower.whole;
    k->scale_add_f32(dim, c, (float)(1 / n), NULL, c);
    double diagonal = (double)c[row] - 1;
    c[row] = 0;
    double others = k->dot_f64(dim, c, c);
    k->scale_add_f32(dim, c, (float)(2 * s->lambda * s->scale / n), NULL, c);
    c[row] = (float)(2 * diagonal * s->scale / n);
    return s->scale * (diagonal * diagonal + s->lambda * others);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    tacit_tower *t = &s->tower;
    size_t second = t->whole * t->dim;
    (void)part, (void)parts;
    return tacit_correlation_loss(&s->correlation, t->whole, t->z, t->z + second, turn, s, t->dz,
                                  t->dz + second);
}

static double flops(const void *ctx)
{
    const tacit_tower *t = &((const state *)ctx)->tower;
    return tacit_tower_flops(t) + 6.0 * (double)t->dim * (double)t->dim;
}

const tacit_method tacit_barlow_twins = {
    .name = "barlow",
    .title = "Barlow Twins: what two views have in common, without redundancy",
    .paper = "Zbontar et al. 2021, arXiv:2103.03230",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings,
                                                tacit_colour_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", NULL },
    .vit = true,
    .resnet = true,
    .joint = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_pair,
    .declare = declare,
    .close = tacit_tower_hook_close,
    .plan = plan,
    .take = take,
    .forward = tacit_tower_hook_forward,
    .loss = loss,
    .backward = tacit_tower_hook_backward,
    .embeddings = tacit_tower_hook_embeddings,
    .outputs = tacit_tower_hook_outputs,
    .flops = flops,
};
