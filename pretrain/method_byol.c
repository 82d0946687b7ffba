/* method_byol.c - BYOL: from one view a network predicts what its own moving average makes of the
 * other (Grill et al. 2020, arXiv:2006.07733; deepmind/deepmind-research/byol).
 *
 * Online: p = q(g(f(x))); target: z' = g'(f'(x')), without q and without gradient; L = |p - z'|^2
 * of unit vectors, both ways, mean over images. Each view goes through alone, in both networks, and
 * the target's batch norm is in training mode with statistics of its own. Behind the optimiser's
 * step the target's parameters become momentum times themselves plus the rest of the online
 * network's, with a momentum that rises to 1 by half a cosine. (There the target begins with
 * another seed, here as a copy: the authors saw no difference. Views are torchvision's on pictures
 * of Pillow, whose brightness is a factor where theirs is a term.)
 */
#include "bootstrap.h"
#include "loss_cosine.h"
#include "schedule.h"
#include "view_settings.h"

static const tacit_setting settings[] = {
    { "target_momentum", TACIT_SETTING_REAL, "0.99", 0, 1, NULL,
      "of the target network at the start; it ends at 1", false },
    { "predictor", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "the predictor; without it the features collapse", false },
    { 0 },
};

/* byol/configs/byol.py, 100 epochs. */
static const char *const defaults[] = {
    "arch=resnet50",
    "zero_init=true",
    "optimiser=lars",
    "lr=0.45",
    "weight_decay=1e-6",
    "batch=4096",
    "accumulate=128",
    "epochs=100",
    "warmup_epochs=10",
    TACIT_BYOL_VIEWS,
    NULL,
};
static const char *const imagenet[] = { NULL };
/* lightly's benchmark on CIFAR-10, with the target's momentum rising. */
static const char *const small32[] = {
    "arch=resnet18_cifar",
    "zero_init=false",
    "batch=128",
    "accumulate=1",
    "epochs=200",
    "warmup_epochs=0",
    "optimiser=sgd",
    "lr=0.12",
    "weight_decay=5e-4",
    "head_hidden=1024",
    "blur=0",
    "blur_second=0",
    NULL,
};
static const char *const quick[] = {
    "arch=resnet18_cifar",
    "dim=32",
    "depth=1",
    "batch=128",
    "accumulate=1",
    "epochs=10",
    "warmup_epochs=1",
    "optimiser=adamw",
    "lr=0.004",
    "weight_decay=1e-4",
    "head_hidden=512",
    "head_dim=128",
    "crop_min=0.2",
    "blur=0",
    "blur_second=0",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_bootstrap networks; /* first, for its hooks */
    double momentum;
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_tower_config tower = {
        .views = 2,
        .apart = true,
        .layers = { { .out = tacit_config_whole(l->config, "head_hidden"),
                      .bias = true,
                      .norm = TACIT_MLP_BN,
                      .relu = true,
                      .name = "0",
                      .norm_name = "1" },
                    { .out = tacit_config_whole(l->config, "head_dim"),
                      .norm = TACIT_MLP_NO_NORM,
                      .name = "3" } },
        .layer_count = 2,
    };
    s->momentum = tacit_config_number(l->config, "target_momentum");
    size_t predictor = tacit_config_flag(l->config, "predictor") ? 2 : 0; /* as the projector */
    return tacit_bootstrap_declare(&s->networks, &tower, tower.layers, predictor, l, err);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    const tacit_bootstrap *b = &((const state *)ctx)->networks;
    double sum = 0;
    (void)parts;
    for (size_t v = 0; v < 2; v++) {
        size_t at = tacit_tower_at(&b->online, part, v);
        sum += tacit_cosine_loss(b->work, b->online.part, b->online.dim, b->p + at, b->targets + at,
                                 1 / (double)b->online.whole, b->d + at);
    }
    return sum;
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    const tacit_schedule rise = { .base = s->momentum, .final = 1, .steps = (double)steps };
    tacit_bootstrap_follow(&s->networks, tacit_schedule_at(&rise, (double)step));
}

const tacit_method tacit_byol = {
    .name = "byol",
    .title = "BYOL: predict a moving average of oneself, from another view",
    .paper = "Grill et al. 2020, arXiv:2006.07733",
    .settings = (const tacit_setting *const[]){ settings, tacit_bootstrap_settings,
                                                tacit_crop_settings, tacit_colour_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", "predictor.", NULL },
    .vit = true,
    .resnet = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_pair,
    .declare = declare,
    .close = tacit_bootstrap_hook_close,
    .plan = tacit_bootstrap_hook_plan,
    .take = tacit_bootstrap_hook_take,
    .forward = tacit_bootstrap_hook_forward,
    .loss = loss,
    .backward = tacit_bootstrap_hook_backward,
    .after = after,
    .embeddings = tacit_bootstrap_hook_embeddings,
    .outputs = tacit_bootstrap_hook_outputs,
    .flops = tacit_bootstrap_hook_flops,
};
