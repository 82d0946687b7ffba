/* method_ijepa.c - I-JEPA: from most of an image, the features of the blocks that are left out
 * (Assran et al. 2023, arXiv:2301.08243; facebookresearch/ijepa).
 *
 * z = g(f(context), where the block is), h = the target encoder's features of the block in sight of
 * the whole image, normalised; L = smooth L1 of z - h, mean over images, blocks, patches and
 * values. Behind the optimiser's step the target encoder becomes momentum times itself plus the
 * rest of f, with a momentum that rises to 1 in a line. masks.h has the blocks, jepa.h the
 * networks.
 *
 * Contexts are cut to the shortest of those that go through together: of a part of a step, as there
 * of a machine's share of it. What is learned is the target encoder; its features are the mean of
 * an image's patches.
 */
#include "encoder.h"
#include "jepa.h"
#include "loss_smooth_l1.h"
#include "masks.h"
#include "method.h"
#include "schedule.h"
#include "view_settings.h"

#define SHARE(name, fallback, help)                                                                \
    {                                                                                              \
        name, TACIT_SETTING_REAL, fallback, 0.001, 1, NULL, help, false                            \
    }

static const tacit_setting settings[] = {
    { "target_blocks", TACIT_SETTING_WHOLE, "4", 1, TACIT_MASK_BLOCKS, NULL,
      "blocks of an image that are predicted", false },
    SHARE("target_min", "0.15", "least share of the patches in such a block"),
    SHARE("target_max", "0.2", "largest share"),
    { "aspect_min", TACIT_SETTING_REAL, "0.75", 0.1, 10, NULL, "least height / width of a block",
      false },
    { "aspect_max", TACIT_SETTING_REAL, "1.5", 0.1, 10, NULL, "largest height / width", false },
    SHARE("context_min", "0.85", "least share of the patches in the context, before blocks"),
    SHARE("context_max", "1", "largest share"),
    { "min_keep", TACIT_SETTING_WHOLE, "10", 0, 65536, NULL,
      "a context of so many patches or fewer is drawn again", false },
    { "norm_targets", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "each patch's features are normalised before they are the target", false },
    { "target_momentum", TACIT_SETTING_REAL, "0.996", 0, 1, NULL,
      "of the target encoder at the start; it ends at 1", false },
    { "predictor_dim", TACIT_SETTING_WHOLE, "384", 4, 8192, NULL, "width of the predictor", false },
    { "predictor_depth", TACIT_SETTING_WHOLE, "6", 1, 64, NULL, "blocks of the predictor", false },
    { "predictor_heads", TACIT_SETTING_WHOLE, "0", 0, 256, NULL,
      "heads of the predictor; 0: the encoder's", false },
    { 0 },
};

/* configs/in1k_vith14_ep300.yaml; of ViT-B/16 the epochs of the paper's table 1, and the
 * predictor's depth of src/helper.py. A part is a machine's share there. */
static const char *const defaults[] = {
    "arch=vit_base_patch16_224",
    "optimiser=adamw",
    "lr=1e-3",
    "lr_scale=none",
    "lr_start=2e-4",
    "lr_final=1e-6",
    "schedule_next=true",
    "weight_decay=0.04",
    "weight_decay_final=0.4",
    "batch=2048",
    "accumulate=16",
    "epochs=600",
    "warmup_epochs=40",
    "crop_min=0.3",
    "filter=bilinear",
    "flip=0",
    NULL,
};
static const char *const imagenet[] = { NULL };
/* Blocks are of 9 patches and more of 64. */
static const char *const small32[] = {
    "arch=vit_tiny_patch4_32",
    "min_keep=4",
    "predictor_dim=96",
    "predictor_depth=4",
    "batch=256",
    "accumulate=1",
    "epochs=300",
    "warmup_epochs=15",
    NULL,
};
static const char *const quick[] = {
    "arch=vit_tiny_patch4_32",
    "dim=96",
    "depth=4",
    "heads=3",
    "min_keep=4",
    "predictor_dim=48",
    "predictor_depth=2",
    "batch=128",
    "accumulate=1",
    "epochs=20",
    "warmup_epochs=2",
    "lr_start=0",
    "weight_decay_final=-1",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_jepa jepa;
    tacit_block_masks masks;
    tacit_params *params, *teacher;
    tacit_work *work;
    double momentum;
    size_t part, kept, asked;    /* patches of each context and block of the last forward */
    uint32_t *contexts, *blocks; /* (part, most kept), (part, blocks, most asked) */
} state;

static void no_class_token(const tacit_config *config, tacit_backbone_config *backbone)
{
    (void)config;
    backbone->vit.no_cls = true;
}

static tacit_block_masks masks_of(const tacit_config *c, size_t side)
{
    return (tacit_block_masks){
        .side = side,
        .blocks = tacit_config_whole(c, "target_blocks"),
        .scale = { tacit_config_number(c, "target_min"), tacit_config_number(c, "target_max") },
        .aspect = { tacit_config_number(c, "aspect_min"), tacit_config_number(c, "aspect_max") },
        .context_scale = { tacit_config_number(c, "context_min"),
                           tacit_config_number(c, "context_max") },
        .min_keep = tacit_config_whole(c, "min_keep"),
    };
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_config *c = l->config;
    const tacit_vit_config *vit = &l->backbone.vit;
    unsigned dim = (unsigned)tacit_config_whole(c, "predictor_dim");
    unsigned heads = (unsigned)tacit_config_whole(c, "predictor_heads");
    heads = heads ? heads : vit->heads;
    s->params = l->params;
    s->teacher = l->teacher;
    s->work = l->work;
    s->part = l->part;
    s->momentum = tacit_config_number(c, "target_momentum");
    s->masks = masks_of(c, vit->height / vit->patch);
    tacit_status st = tacit_block_masks_check(&s->masks, err);
    if (st < 0)
        return st;
    if (dim % 4 || dim % heads)
        return tacit_fail(
            err, TACIT_EINVAL,
            "predictor_dim = %u must be divisible by 4 and by the predictor's %u heads", dim,
            heads);
    const tacit_jepa_config config = {
        .encoder = tacit_encoder_vit(c, vit),
        .dim = dim,
        .depth = (unsigned)tacit_config_whole(c, "predictor_depth"),
        .heads = heads,
        .mlp = 4 * dim,
        .blocks = s->masks.blocks,
        .max_kept = tacit_block_masks_most_kept(&s->masks),
        .max_asked = tacit_block_masks_most_asked(&s->masks),
        .normalised = tacit_config_flag(c, "norm_targets"),
    };
    tacit_smooth_l1_declare(config.blocks * l->part * config.max_asked, l->work);
    return tacit_jepa_declare(&s->jepa, &config, l->part, l->params, l->teacher, l->work, err);
}

static void close(void *ctx)
{
    tacit_jepa_close(&((state *)ctx)->jepa);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    const tacit_jepa_config *c = &s->jepa.config;
    return tacit_arena_plan(total, s->part * c->max_kept, sizeof(uint32_t)) &&
           tacit_arena_plan(total, s->part * c->blocks * c->max_asked, sizeof(uint32_t)) &&
           tacit_jepa_plan(&s->jepa, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    const tacit_jepa_config *c = &s->jepa.config;
    s->contexts = tacit_arena_take(arena, s->part * c->max_kept, sizeof(uint32_t));
    s->blocks = tacit_arena_take(arena, s->part * c->blocks * c->max_asked, sizeof(uint32_t));
    tacit_jepa_take(&s->jepa, arena);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    const tacit_batch *b = part->batch;
    tacit_mask_blocks(&s->masks, part->seed, b->epoch, b->step / part->count, b->samples,
                      part->images, s->contexts, &s->kept, s->blocks, &s->asked);
    tacit_jepa_forward(&s->jepa, b->views[0], part->images, s->contexts, s->kept, s->blocks,
                       s->asked);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    size_t rows = tacit_jepa_rows(&s->jepa), dim = s->jepa.config.encoder.dim;
    (void)parts;
    return tacit_smooth_l1_loss(s->work, rows, dim, s->jepa.predictions, s->jepa.targets,
                                s->jepa.encoder.trunk.ld,
                                1 / ((double)part->count * (double)rows * (double)dim));
}

static void backward(void *ctx, const tacit_part *part)
{
    (void)part;
    tacit_jepa_backward(&((state *)ctx)->jepa);
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    const tacit_schedule rise = {
        .kind = TACIT_SCHEDULE_LINEAR, .base = s->momentum, .final = 1, .steps = (double)steps
    };
    tacit_params_average(s->teacher, s->params, tacit_schedule_at(&rise, (double)step),
                         s->work->kernels, s->work->pool);
}

/* The target encoder's. */
static tacit_embeddings embeddings(const void *ctx)
{
    const state *s = ctx;
    size_t dim = s->jepa.config.encoder.dim;
    return (tacit_embeddings){ s->jepa.features, s->part, dim, dim, false, false };
}

/* With patches as many as the last forward had; before the first, as are usual. */
static double flops(const void *ctx)
{
    const state *s = ctx;
    const tacit_block_masks *m = &s->masks;
    if (s->asked)
        return tacit_jepa_flops(&s->jepa.config, (double)s->kept, (double)s->asked);
    double all = (double)(m->side * m->side), share = 1;
    double asked = all * (m->scale[0] + m->scale[1]) / 2;
    for (size_t i = 0; i < m->blocks; i++)
        share *= 1 - asked / all;
    return tacit_jepa_flops(&s->jepa.config, share * (double)s->jepa.config.max_kept, asked);
}

const tacit_method tacit_joint_embedding_predictive = {
    .name = "ijepa",
    .title = "I-JEPA: predict a moving average's features of blocks that are left out",
    .paper = "Assran et al. 2023, arXiv:2301.08243",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "predictor_", "mask_token", NULL },
    .vit = true,
    .by_teacher = true,
    .features = TACIT_FEATURES_MEAN,
    .state = sizeof(state),
    .backbone = no_class_token,
    .views = tacit_view_single,
    .declare = declare,
    .close = close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .after = after,
    .embeddings = embeddings,
    .flops = flops,
};
