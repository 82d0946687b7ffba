/* method_simclr.c - SimCLR: two views of an image agree, and differ from all others (Chen et al.
 * 2020, arXiv:2002.05709; its head and optimiser as google-research/simclr has them).
 *
 * z = g(f(x)) for both views in one forward, so that batch norm sees them together; NT-Xent of all
 * z. The head g is Linear, BN, ReLU, ..., Linear, BN without offset (SimCLR v2: three layers; v1:
 * two); it is thrown away.
 */
#include "loss_ntxent.h"
#include "tower.h"
#include "view_settings.h"

static const tacit_setting settings[] = {
    { "temperature", TACIT_SETTING_REAL, "0.1", 0.001, 100, NULL,
      "of the softmax over similarities", false },
    { "loss", TACIT_SETTING_CHOICE, "sum", 0, 0, "sum|mean",
      "sum of the two directions, as google-research/simclr, or the mean over all rows: half of it",
      false },
    { "head_layers", TACIT_SETTING_WHOLE, "3", 1, 3, NULL, "Linear layers of the head", false },
    { "head_hidden", TACIT_SETTING_WHOLE, "0", 0, 16384, NULL,
      "width of its hidden layers; 0: the backbone's", false },
    { "head_dim", TACIT_SETTING_WHOLE, "128", 2, 16384, NULL, "width of the embeddings", false },
    { "head_norm", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "batch norm behind the head's last layer; else it has a bias", false },
    { 0 },
};

static const char *const defaults[] = { "arch=resnet50",
                                        "optimiser=lars-rate",
                                        "lr=0.3",
                                        "weight_decay=1e-6",
                                        "warmup_epochs=10",
                                        "batch=4096",
                                        "accumulate=64",
                                        "epochs=100",
                                        "normalise=none",
                                        "zero_init=true",
                                        NULL };

/* README of google-research/simclr, "ResNet-50, 100 epochs". */
static const char *const imagenet[] = { "arch=resnet50", "lr=0.075",          "lr_scale=sqrt",
                                        "epochs=100",    "weight_decay=1e-4", NULL };
/* The same, CIFAR-10. */
static const char *const small32[] = {
    "arch=resnet18_cifar", "batch=512",       "accumulate=1", "epochs=1000", "lr=1",
    "weight_decay=1e-4",   "temperature=0.5", "jitter=0.5",   "blur=0",      NULL,
};
/* An hour on two cores for 20,000 pictures of 32 pixels: AdamW and milder crops are ahead early. */
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
    "loss=mean",
    "head_layers=2",
    "crop_min=0.2",
    "jitter=0.5",
    "blur=0",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_tower tower; /* first, for its hooks */
    tacit_ntxent loss;
    bool sum;
} state;

static tacit_tower_config tower_of(const tacit_learner *l)
{
    static const char *const names[] = { "0", "3", "6" }, *const norms[] = { "1", "4", "7" };
    size_t hidden = tacit_config_whole(l->config, "head_hidden");
    bool norm = tacit_config_flag(l->config, "head_norm");
    tacit_tower_config t = { .views = 2,
                             .layer_count = tacit_config_whole(l->config, "head_layers") };
    for (size_t i = 0; i < t.layer_count; i++) {
        bool last = i + 1 == t.layer_count;
        t.layers[i] = (tacit_mlp_layer){
            .out = last     ? tacit_config_whole(l->config, "head_dim")
                   : hidden ? hidden
                            : tacit_encoder_dim(&l->backbone),
            .bias = last && !norm,
            .norm = !last  ? TACIT_MLP_BN
                    : norm ? TACIT_MLP_BN_GAMMA
                           : TACIT_MLP_NO_NORM,
            .relu = !last,
            .name = names[i],
            .norm_name = norms[i],
            .weight = { .kind = TACIT_INIT_NORMAL, .size = 0.01 },
        };
    }
    return t;
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_tower_config tower = tower_of(l);
    tacit_status st = tacit_tower_declare(&s->tower, &tower, l, l->params, err);
    s->sum = tacit_config_choice(l->config, "loss") == 0;
    tacit_ntxent_init(&s->loss, 2 * l->whole, s->tower.dim,
                      tacit_config_number(l->config, "temperature"), l->work);
    return st;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_tower_plan(&s->tower, total) && tacit_ntxent_plan(&s->loss, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    tacit_tower_take(&s->tower, arena);
    tacit_ntxent_take(&s->loss, arena);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    const tacit_tower *t = &s->tower;
    size_t rows = 2 * t->whole;
    (void)part, (void)parts;
    double value = tacit_ntxent_loss(&s->loss, rows, t->z, t->dim, t->dz, t->dim);
    if (!s->sum)
        return value;
    s->loss.work->kernels->scale_add_f32(rows * t->dim, t->dz, 2, NULL, t->dz);
    return 2 * value;
}

static double flops(const void *ctx)
{
    const tacit_tower *t = &((const state *)ctx)->tower;
    return tacit_tower_flops(t) + 24.0 * (double)t->whole * (double)t->dim;
}

const tacit_method tacit_simclr = {
    .name = "simclr",
    .title = "SimCLR: contrastive, two views, no state but the network",
    .paper = "Chen et al. 2020, arXiv:2002.05709",
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
