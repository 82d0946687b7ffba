/* method_swav.c - SwAV: which prototypes a view belongs to is predicted from the other views (Caron
 * et al. 2020, arXiv:2006.09882; facebookresearch/swav, main_swav.py).
 *
 * z = g(f(x)) as unit vectors for two global and some local crops, scores s = z C^T with prototypes
 * C. Of each global crop Sinkhorn makes codes that use all prototypes alike, sinkhorn.h; the other
 * crops predict them, loss_swav.h. Before a step the rows of C become unit vectors, outside of the
 * gradient; in the first epochs C takes no step. For small batches a queue of earlier z joins in
 * the codes: from its epoch on it fills, newest first, and counts once it is full.
 *
 * The watch sees softmax(s / temperature): where all images come to have one code, or none more
 * than another, features stay apart long after the predictions are all the same.
 *
 * swav_family.h has the network. (C waits whole epochs, where 313 steps were one and a step.)
 */
#include "loss_swav.h"
#include "sinkhorn.h"
#include "swav_family.h"
#include "view_settings.h"

#include <math.h>
#include <string.h>

#define SEEN 32   /* images that monitors see */
#define UNIT 2e-6 /* a squared length this near to 1 is one, rounded */

static const tacit_setting settings[] = {
    { "epsilon", TACIT_SETTING_REAL, "0.05", 0.001, 100, NULL, "of the codes: less is sharper",
      false },
    { "sinkhorn_iterations", TACIT_SETTING_WHOLE, "3", 0, 1000, NULL,
      "of the codes; with 0 nothing makes them use all prototypes, and the features collapse",
      false },
    { "freeze_epochs", TACIT_SETTING_REAL, "1", 0, 1e6, NULL, "in which the prototypes stay",
      false },
    { "queue", TACIT_SETTING_WHOLE, "0", 0, 1048576, NULL,
      "earlier embeddings of each global crop that join in the codes, in whole batches; 0: none",
      false },
    { "queue_epoch", TACIT_SETTING_WHOLE, "15", 0, 1000000, NULL, "from which the queue fills",
      false },
    { 0 },
};

/* scripts/swav_100ep_pretrain.sh. */
static const char *const defaults[] = { TACIT_SWAV_DEFAULTS, "epochs=100", NULL };
static const char *const imagenet[] = { NULL };
/* solo-learn, CIFAR-10. */
static const char *const small32[] = {
    "arch=resnet18_cifar",
    "batch=256",
    "accumulate=1",
    "epochs=1000",
    "lr=0.6",
    "lr_start=3e-5",
    "lr_final=0",
    "optimiser=larc-clip",
    "trust=0.02",
    "queue=3840",
    "queue_epoch=50",
    "freeze_epochs=2",
    "local_crops=0",
    "crop_min=0.08",
    "filter=bicubic",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", tacit_swav_quick }, { NULL, NULL }
};

typedef struct state {
    tacit_tower tower;               /* first, for its hooks */
    tacit_param *prototypes, *queue; /* (K, dim); (2, length, dim), newest first, NULL: none */
    tacit_swav loss;
    tacit_sinkhorn sinkhorn;
    size_t length, queue_epoch;
    uint64_t epoch; /* of the last loss */
    float *scores;  /* (length + whole, K): of a crop, with the queue's before them */
    float *codes;   /* (2, whole, K) */
    float *seen;    /* (2, seen_images, K): predictions, for the monitors */
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_config *c = l->config;
    size_t dim = tacit_config_whole(c, "head_dim"), count = tacit_config_whole(c, "prototypes");
    const tacit_tower_config tower = tacit_swav_tower(c);
    s->length = tacit_config_whole(c, "queue") / l->whole * l->whole;
    s->queue_epoch = tacit_config_whole(c, "queue_epoch");
    tacit_status st = tacit_tower_declare(&s->tower, &tower, l, l->params, err);
    if (st == TACIT_OK)
        st = tacit_params_add(l->params, "prototypes.weight", 2, (const size_t[]){ count, dim },
                              tacit_init_default(dim), &s->prototypes, err);
    if (st == TACIT_OK)
        s->prototypes->wait = tacit_config_number(c, "freeze_epochs");
    if (st == TACIT_OK && s->length)
        st = tacit_params_add(l->params, "queue", 3,
                              (const size_t[]){ TACIT_SWAV_CODES, s->length, dim }, TACIT_ZEROS,
                              &s->queue, err);
    if (s->queue)
        s->queue->frozen = true;
    tacit_swav_init(&s->loss, l->whole, tower.views, dim, count,
                    tacit_config_number(c, "temperature"), l->work);
    tacit_sinkhorn_init(&s->sinkhorn, s->length + l->whole, count,
                        tacit_config_number(c, "epsilon"),
                        tacit_config_whole(c, "sinkhorn_iterations"), l->work);
    return st;
}

static size_t seen_images(const state *s)
{
    return s->tower.whole < SEEN ? s->tower.whole : SEEN;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    size_t n = s->tower.whole, row = s->loss.prototypes * sizeof(float);
    return tacit_tower_plan(&s->tower, total) && tacit_swav_plan(&s->loss, total) &&
           tacit_sinkhorn_plan(&s->sinkhorn, total) &&
           tacit_arena_plan(total, s->length + n, row) &&
           tacit_arena_plan(total, TACIT_SWAV_CODES * n, row) &&
           tacit_arena_plan(total, TACIT_GLOBAL_CROPS * seen_images(s), row);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    size_t n = s->tower.whole, row = s->loss.prototypes * sizeof(float);
    tacit_tower_take(&s->tower, arena);
    tacit_swav_take(&s->loss, arena);
    tacit_sinkhorn_take(&s->sinkhorn, arena);
    s->scores = tacit_arena_take(arena, s->length + n, row);
    s->codes = tacit_arena_take(arena, TACIT_SWAV_CODES * n, row);
    s->seen = tacit_arena_take(arena, TACIT_GLOBAL_CROPS * seen_images(s), row);
}

/* Rows of unit length stay as they are, so that a step that is left and done again has the same
 * bits. */
static void normalise(const state *s)
{
    const tacit_kernels *k = s->loss.work->kernels;
    size_t dim = s->loss.dim;
    for (size_t i = 0; i < s->loss.prototypes; i++) {
        float *row = s->prototypes->value + i * dim;
        if (!(fabs(k->dot_f64(dim, row, row) - 1) <= UNIT))
            k->l2norm_f32(1, dim, row, dim, row, dim);
    }
}

static float *queue_of(const state *s, size_t crop)
{
    return s->queue->value + crop * s->length * s->loss.dim;
}

static bool is_full(const state *s, size_t crop)
{
    const float *last = s->queue ? queue_of(s, crop) + (s->length - 1) * s->loss.dim : NULL;
    for (size_t i = 0; last && i < s->loss.dim; i++)
        if (last[i] != 0)
            return true;
    return false;
}

static void assign(const state *s, size_t crop)
{
    size_t n = s->tower.whole, before = is_full(s, crop) ? s->length : 0;
    size_t count = n * s->loss.prototypes;
    float *own = s->scores + before * s->loss.prototypes;
    if (before)
        tacit_swav_scores(&s->loss, before, queue_of(s, crop), s->scores);
    tacit_swav_scores(&s->loss, n, s->loss.unit + crop * n * s->loss.dim, own);
    tacit_sinkhorn_run(&s->sinkhorn, before + n, s->scores);
    memcpy(s->codes + crop * count, own, count * sizeof *own);
}

static void show(const state *s)
{
    size_t n = s->tower.whole, m = seen_images(s), k = s->loss.prototypes;
    for (size_t crop = 0; crop < TACIT_GLOBAL_CROPS; crop++) {
        float *p = s->seen + crop * m * k;
        tacit_swav_scores(&s->loss, m, s->loss.unit + crop * n * s->loss.dim, p);
        s->loss.work->kernels->softmax_f32(m, k, p, k, (float)(1 / s->loss.temperature), p, k);
    }
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    (void)parts;
    s->epoch = part->batch->epoch;
    normalise(s);
    tacit_swav_begin(&s->loss, s->tower.whole, s->tower.z, s->prototypes->value);
    for (size_t crop = 0; crop < TACIT_SWAV_CODES; crop++)
        assign(s, crop);
    show(s);
    return tacit_swav_loss(&s->loss, s->tower.whole, s->tower.z, s->codes, s->tower.dz,
                           s->prototypes->grad);
}

/* The step's embeddings go to the front of the queue. */
static void after(void *ctx, uint64_t step, uint64_t steps)
{
    const state *s = ctx;
    size_t n = s->tower.whole * s->loss.dim, all = s->length * s->loss.dim;
    (void)step, (void)steps;
    for (size_t crop = 0; s->queue && s->epoch >= s->queue_epoch && crop < TACIT_SWAV_CODES;
         crop++) {
        float *queue = queue_of(s, crop);
        memmove(queue + n, queue, (all - n) * sizeof *queue);
        memcpy(queue, s->loss.unit + crop * n, n * sizeof *queue);
    }
}

static tacit_embeddings outputs(const void *ctx)
{
    const state *s = ctx;
    size_t k = s->loss.prototypes;
    return (tacit_embeddings){ s->seen, TACIT_GLOBAL_CROPS * seen_images(s), k, k, true, false };
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    double views = (double)s->tower.views, n = (double)s->tower.whole;
    double codes = 2 * TACIT_SWAV_CODES * (1 + (double)s->length / n);
    return tacit_tower_flops(&s->tower) +
           (6 * views + codes) * (double)s->loss.prototypes * (double)s->loss.dim;
}

const tacit_method tacit_swapping_assignments = {
    .name = "swav",
    .title = "SwAV: balanced cluster assignments of a view, predicted from the others",
    .paper = "Caron et al. 2020, arXiv:2006.09882",
    .settings = (const tacit_setting *const[]){ settings, tacit_swav_settings, tacit_crop_settings,
                                                tacit_colour_settings, tacit_local_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", "prototypes.", "queue", NULL },
    .vit = true,
    .resnet = true,
    .joint = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_crops,
    .declare = declare,
    .close = tacit_tower_hook_close,
    .plan = plan,
    .take = take,
    .forward = tacit_tower_hook_forward,
    .loss = loss,
    .backward = tacit_tower_hook_backward,
    .after = after,
    .embeddings = tacit_tower_hook_embeddings,
    .outputs = outputs,
    .flops = flops,
};
