/* method_vicreg.c - VICReg: two views agree, each column of the embeddings keeps its variance, and
 * no two columns say the same (Bardes et al. 2021, arXiv:2105.04906; facebookresearch/vicreg).
 *
 * The views go through the network one by one; loss_vicreg.h has the loss. The expander is Linear,
 * BN, ReLU, Linear, BN, ReLU, Linear, of which the last has no bias.
 */
#include "loss_vicreg.h"
#include "tower.h"
#include "view_settings.h"

static const tacit_setting settings[] = {
    { "invariance", TACIT_SETTING_REAL, "25", 0, 1e6, NULL, "weight of the views' distance",
      false },
    { "variance", TACIT_SETTING_REAL, "25", 0, 1e6, NULL,
      "weight of the hinge on the columns' deviations", false },
    { "covariance", TACIT_SETTING_REAL, "1", 0, 1e6, NULL, "weight of the squared covariances",
      false },
    { "head_layers", TACIT_SETTING_WHOLE, "3", 1, 3, NULL, "Linear layers of the expander", false },
    { "head_hidden", TACIT_SETTING_WHOLE, "8192", 1, 16384, NULL, "width of its hidden layers",
      false },
    { "head_dim", TACIT_SETTING_WHOLE, "8192", 2, 16384, NULL, "width of the embeddings", false },
    { 0 },
};

/* main_vicreg.py, 1000 epochs. */
static const char *const defaults[] = {
    "arch=resnet50",   "zero_init=true",    "optimiser=lars", "lr=0.2",
    "lr_final=0.0002", "weight_decay=1e-6", "batch=2048",     "accumulate=64",
    "epochs=1000",     "warmup_epochs=10",  TACIT_BYOL_VIEWS, NULL,
};
static const char *const imagenet[] = { NULL };
/* solo-learn, CIFAR-10. */
static const char *const small32[] = {
    "arch=resnet18_cifar",
    "zero_init=false",
    "batch=256",
    "accumulate=1",
    "lr=0.3",
    "weight_decay=1e-4",
    "lr_final=0",
    "head_hidden=2048",
    "head_dim=2048",
    "crop_min=0.2",
    "blur=0",
    "blur_second=0",
    "solarise=0.1",
    "solarise_second=-1",
    NULL,
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
    tacit_vicreg loss;
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    static const char *const names[] = { "0", "3", "6" }, *const norms[] = { "1", "4", "7" };
    state *s = ctx;
    tacit_tower_config t = { .views = 2,
                             .apart = true,
                             .layer_count = tacit_config_whole(l->config, "head_layers") };
    for (size_t i = 0; i < t.layer_count; i++) {
        bool last = i + 1 == t.layer_count;
        t.layers[i] = (tacit_mlp_layer){
            .out = tacit_config_whole(l->config, last ? "head_dim" : "head_hidden"),
            .bias = !last,
            .norm = last ? TACIT_MLP_NO_NORM : TACIT_MLP_BN,
            .relu = !last,
            .name = names[i],
            .norm_name = norms[i],
        };
    }
    tacit_status st = tacit_tower_declare(&s->tower, &t, l, l->params, err);
    tacit_vicreg_init(&s->loss, l->whole, s->tower.dim, l->work);
    s->loss.weight[TACIT_VICREG_INVARIANCE] = tacit_config_number(l->config, "invariance");
    s->loss.weight[TACIT_VICREG_VARIANCE] = tacit_config_number(l->config, "variance");
    s->loss.weight[TACIT_VICREG_COVARIANCE] = tacit_config_number(l->config, "covariance");
    return st;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_tower_plan(&s->tower, total) && tacit_vicreg_plan(&s->loss, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    tacit_tower_take(&s->tower, arena);
    tacit_vicreg_take(&s->loss, arena);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    const state *s = ctx;
    (void)part;
    return tacit_vicreg_loss(&s->loss, s->tower.whole, s->tower.z, s->tower.dz, parts);
}

static double flops(const void *ctx)
{
    const tacit_tower *t = &((const state *)ctx)->tower;
    return tacit_tower_flops(t) + 8.0 * (double)t->dim * (double)t->dim;
}

static tacit_embeddings outputs(const void *ctx)
{
    tacit_embeddings e = tacit_tower_hook_outputs(ctx);
    e.absolute = true;
    return e;
}

const tacit_method tacit_variance_invariance_covariance = {
    .name = "vicreg",
    .title = "VICReg: variance, invariance and covariance of two views' embeddings",
    .paper = "Bardes et al. 2021, arXiv:2105.04906",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings,
                                                tacit_colour_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ "invariance", "variance", "covariance", NULL },
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
    .outputs = outputs,
    .flops = flops,
};
