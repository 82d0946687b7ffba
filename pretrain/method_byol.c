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
#include "loss_cosine.h"
#include "schedule.h"
#include "tower.h"
#include "view_settings.h"

#include <string.h>

static const tacit_setting settings[] = {
    { "target_momentum", TACIT_SETTING_REAL, "0.99", 0, 1, NULL,
      "of the target network at the start; it ends at 1", false },
    { "predictor", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "the predictor; without it the features collapse", false },
    { "head_hidden", TACIT_SETTING_WHOLE, "4096", 1, 16384, NULL,
      "width of the hidden layer of projector and predictor", false },
    { "head_dim", TACIT_SETTING_WHOLE, "256", 2, 16384, NULL, "width of the embeddings", false },
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
    "brightness=0.4",
    "contrast=0.4",
    "saturation=0.2",
    "hue=0.1",
    "blur=1",
    "blur_second=0.1",
    "solarise=0",
    "solarise_second=0.2",
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
    "epochs=20",
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
    tacit_tower online, target;
    tacit_mlp predictor; /* count 0: none */
    tacit_params *params, *teacher;
    tacit_work *work;
    double momentum;
    const float *p; /* predictions of the last forward, (2, part, dim) */
    float *targets; /* (2, part, dim): of each prediction */
    float *d;       /* (2, part, dim) */
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    size_t dim = tacit_config_whole(l->config, "head_dim");
    const tacit_tower_config tower = {
        .views = 2,
        .apart = true,
        .layers = { { .out = tacit_config_whole(l->config, "head_hidden"),
                      .bias = true,
                      .norm = TACIT_MLP_BN,
                      .relu = true,
                      .name = "0",
                      .norm_name = "1" },
                    { .out = dim, .norm = TACIT_MLP_NO_NORM, .name = "3" } },
        .layer_count = 2,
    };
    s->params = l->params;
    s->teacher = l->teacher;
    s->work = l->work;
    s->momentum = tacit_config_number(l->config, "target_momentum");
    tacit_status st = tacit_tower_declare(&s->online, &tower, l, l->params, err);
    if (st == TACIT_OK && tacit_config_flag(l->config, "predictor"))
        st = tacit_mlp_declare(&s->predictor, "predictor", dim, 2, tower.layers, 2 * l->part,
                               l->params, l->work, err);
    tacit_mlp_split(&s->predictor, 2, 1);
    return st == TACIT_OK ? tacit_tower_declare(&s->target, &tower, l, l->teacher, err) : st;
}

static void close(void *ctx)
{
    state *s = ctx;
    tacit_tower_close(&s->online);
    tacit_tower_close(&s->target);
}

static size_t rows_of(const state *s)
{
    return 2 * s->online.part;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_tower_plan(&s->online, total) && tacit_mlp_plan(&s->predictor, total) &&
           tacit_arena_plan(total, rows_of(s), s->online.dim * sizeof(float)) &&
           tacit_arena_plan(total, rows_of(s), s->online.dim * sizeof(float));
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    size_t begin = arena->used;
    tacit_tower_take(&s->target, arena);
    arena->used = begin; /* the same memory: the target goes first, and of it only z' is kept */
    tacit_tower_take(&s->online, arena);
    tacit_mlp_take(&s->predictor, arena);
    s->targets = tacit_arena_take(arena, rows_of(s), s->online.dim * sizeof(float));
    s->d = tacit_arena_take(arena, rows_of(s), s->online.dim * sizeof(float));
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    size_t half = s->online.part * s->online.dim;
    const float *other = tacit_tower_forward(&s->target, part);
    memcpy(s->targets, other + half, half * sizeof *other);
    memcpy(s->targets + half, other, half * sizeof *other);
    const float *z = tacit_tower_forward(&s->online, part);
    s->p = s->predictor.count ? tacit_mlp_forward(&s->predictor, rows_of(s), z, s->online.dim) : z;
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    (void)part, (void)parts;
    return tacit_cosine_loss(s->work, rows_of(s), s->online.dim, s->p, s->targets,
                             1 / (double)s->online.whole, s->d);
}

static void backward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    (void)part;
    float *dz = s->predictor.count ? s->online.d : s->d;
    if (s->predictor.count)
        tacit_mlp_backward(&s->predictor, s->d, dz, s->online.dim);
    tacit_tower_backward(&s->online, dz);
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    const tacit_schedule rise = { .base = s->momentum, .final = 1, .steps = (double)steps };
    tacit_params_average(s->teacher, s->params, tacit_schedule_at(&rise, (double)step),
                         s->work->kernels, s->work->pool);
}

static tacit_embeddings embeddings(const void *ctx)
{
    return tacit_tower_embeddings(&((const state *)ctx)->online);
}

static tacit_embeddings outputs(const void *ctx)
{
    return tacit_tower_outputs(&((const state *)ctx)->online);
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    double predictor = 0;
    for (size_t i = 0; i < s->predictor.count; i++)
        predictor += 2.0 * (double)s->predictor.dense[i].in * (double)s->predictor.dense[i].out;
    return tacit_tower_flops(&s->online) * 4 / 3 + 6 * predictor; /* the target: a forward */
}

const tacit_method tacit_byol = {
    .name = "byol",
    .title = "BYOL: predict a moving average of oneself, from another view",
    .paper = "Grill et al. 2020, arXiv:2006.07733",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings,
                                                tacit_colour_settings, NULL },
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
    .close = close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .after = after,
    .embeddings = embeddings,
    .outputs = outputs,
    .flops = flops,
};
