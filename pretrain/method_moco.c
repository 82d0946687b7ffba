/* method_moco.c - MoCo v2: a query tells the key of its image from the keys of images before it (He
 * et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297; facebookresearch/moco).
 *
 * q = g(f(x1)), k = g'(f'(x2)), both of unit norm; L = InfoNCE (loss_infonce.h) of q with its k
 * against a queue of the keys of the last steps, mean over images. Of k no gradient is made: f' and
 * g' are momentum times themselves plus the rest of f and g. The head g is Linear, ReLU, Linear
 * (v1: one Linear). With `symmetric` each view is query and key, as in the authors' CIFAR demo.
 *
 * Batch norm could tell a query its key by their statistics. So, as on the authors' 8 machines, it
 * takes a batch in groups, among which keys are shuffled: here the groups of a part, of 32 images
 * each by default, as theirs. Running statistics move by the groups' mean, as in the demo.
 *
 * In the authors' step f' moves before it makes the keys, and the first time to where it is; here
 * behind the step before: the same keys. The rate falls with every step, theirs with every epoch.
 */
#include "draws.h"
#include "loss_cosine.h"
#include "loss_infonce.h"
#include "tower.h"
#include "view_settings.h"

#include <string.h>

static const tacit_setting settings[] = {
    { "queue", TACIT_SETTING_WHOLE, "65536", 1, 1048576, NULL,
      "keys of steps before that a query is held against: a multiple of a step's, no more than "
      "there are images",
      false },
    { "key_momentum", TACIT_SETTING_REAL, "0.999", 0, 1, NULL, "of the keys' network", false },
    { "temperature", TACIT_SETTING_REAL, "0.2", 0.001, 100, NULL,
      "of the softmax over similarities; MoCo v1: 0.07", false },
    { "symmetric", TACIT_SETTING_FLAG, "false", 0, 0, NULL, "both views are queries and keys",
      false },
    { "bn_groups", TACIT_SETTING_WHOLE, "2", 1, 1024, NULL,
      "a ResNet's batch norm takes a part in so many groups, with the keys shuffled; 1: whole",
      false },
    { "negatives", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "the queue; without it query and key only agree, and the features collapse", false },
    { "head_layers", TACIT_SETTING_WHOLE, "2", 1, 2, NULL, "Linear layers of the head; MoCo v1: 1",
      false },
    { "head_hidden", TACIT_SETTING_WHOLE, "0", 0, 16384, NULL,
      "width of its hidden layer; 0: the backbone's", false },
    { "head_dim", TACIT_SETTING_WHOLE, "128", 2, 16384, NULL, "width of the embeddings", false },
    { 0 },
};

/* main_moco.py with --mlp --moco-t 0.2 --aug-plus --cos, 200 epochs. */
static const char *const defaults[] = {
    "arch=resnet50",  "optimiser=sgd", "lr=0.03",        "weight_decay=1e-4", "decay_all=true",
    "batch=256",      "accumulate=4",  "epochs=200",     "crop_min=0.2",      "filter=bilinear",
    "brightness=0.4", "contrast=0.4",  "saturation=0.4", "hue=0.1",           NULL,
};
static const char *const imagenet[] = { NULL };
/* colab/moco_cifar10_demo.ipynb. */
static const char *const small32[] = {
    "arch=resnet18_cifar",
    "normalise=cifar",
    "batch=512",
    "accumulate=1",
    "epochs=200",
    "weight_decay=5e-4",
    "queue=4096",
    "key_momentum=0.99",
    "temperature=0.1",
    "head_layers=1",
    "bn_groups=8",
    "crop_min=0.08",
    "blur=0",
    NULL,
};
static const char *const quick[] = {
    "arch=resnet18_cifar", "dim=32",          "depth=1",
    "batch=128",           "accumulate=1",    "epochs=16",
    "warmup_epochs=1",     "optimiser=adamw", "lr=0.004",
    "decay_all=false",     "queue=2048",      "key_momentum=0.99",
    "bn_groups=4",         "blur=0",          NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_tower query, key;
    tacit_infonce loss;
    tacit_params *params, *teacher;
    tacit_param *queue; /* (K, dim), of unit norm; what step s brings begins at s times as many */
    tacit_work *work;
    double momentum;
    bool negatives;
    size_t views, pixels;      /* that are queries; values of an image */
    uint32_t *order, *samples; /* (part): how the images go through as keys, and whose they are */
    float *images;             /* (views, part, pixels): the same */
    float *keys;               /* (views, whole, dim): of all parts, of unit norm */
    float *d;                  /* (views, part, dim) */
} state;

static tacit_tower_config tower_of(const tacit_learner *l, size_t views)
{
    size_t hidden = tacit_config_whole(l->config, "head_hidden");
    size_t layers = tacit_config_whole(l->config, "head_layers");
    tacit_tower_config t = { .views = views,
                             .apart = true,
                             .groups = tacit_config_whole(l->config, "bn_groups"),
                             .layer_count = layers };
    t.layers[0] = (tacit_mlp_layer){ .out = hidden ? hidden : tacit_encoder_dim(&l->backbone),
                                     .bias = true,
                                     .norm = TACIT_MLP_NO_NORM,
                                     .relu = true,
                                     .name = "0" };
    t.layers[layers - 1] = (tacit_mlp_layer){ .out = tacit_config_whole(l->config, "head_dim"),
                                              .bias = true,
                                              .norm = TACIT_MLP_NO_NORM,
                                              .name = layers > 1 ? "2" : "0" };
    return t;
}

static tacit_status check(const tacit_learner *l, size_t views, tacit_err *err)
{
    size_t queue = tacit_config_whole(l->config, "queue"), keys = views * l->whole;
    size_t groups = tacit_config_whole(l->config, "bn_groups");
    if (queue % keys)
        return tacit_fail(err, TACIT_EINVAL, "queue = %zu is no multiple of the %zu keys of a step",
                          queue, keys);
    if (l->backbone.family == TACIT_FAMILY_RESNET && groups > 1 &&
        (l->part % groups || l->part / groups < 2))
        return tacit_fail(err, TACIT_EINVAL,
                          "bn_groups = %zu: parts of %zu images do not divide into groups of 2 or "
                          "more: set bn_groups, batch or accumulate",
                          groups, l->part);
    return TACIT_OK;
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    unsigned height, width;
    size_t queue = tacit_config_whole(l->config, "queue");
    s->views = tacit_config_flag(l->config, "symmetric") ? 2 : 1;
    const tacit_tower_config tower = tower_of(l, s->views);
    tacit_backbone_input(&l->backbone, &height, &width);
    s->pixels = (size_t)3 * height * width;
    s->params = l->params;
    s->teacher = l->teacher;
    s->work = l->work;
    s->momentum = tacit_config_number(l->config, "key_momentum");
    s->negatives = tacit_config_flag(l->config, "negatives");
    tacit_status st = check(l, s->views, err);
    if (st == TACIT_OK)
        st = tacit_tower_declare(&s->query, &tower, l, l->params, err);
    if (st == TACIT_OK)
        st = tacit_tower_declare(&s->key, &tower, l, l->teacher, err);
    if (st < 0)
        return st;
    tacit_infonce_init(&s->loss, l->part, queue, s->query.dim,
                       tacit_config_number(l->config, "temperature"), l->work);
    st = tacit_params_add(l->params, "queue", 2, (const size_t[]){ queue, s->query.dim },
                          (tacit_init){ .kind = TACIT_INIT_SPHERE, .size = 1 }, &s->queue, err);
    if (st == TACIT_OK)
        s->queue->frozen = true;
    return st;
}

static tacit_status data(void *ctx, const tacit_learner *l, size_t images, tacit_err *err)
{
    const state *s = ctx;
    (void)l;
    size_t queue = s->queue->shape[0], keys = s->views * s->query.whole;
    if (queue <= images)
        return TACIT_OK;
    return tacit_fail(err, TACIT_EINVAL,
                      "queue = %zu is more than the %zu images of an epoch, which would be held "
                      "against themselves: use %zu at most",
                      queue, images, images / keys * keys);
}

static void close(void *ctx)
{
    state *s = ctx;
    tacit_tower_close(&s->query);
    tacit_tower_close(&s->key);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    size_t part = s->query.part, dim = s->query.dim;
    return tacit_tower_plan(&s->query, total) && tacit_infonce_plan(&s->loss, total) &&
           tacit_arena_plan(total, 2 * part, sizeof(uint32_t)) &&
           tacit_arena_plan(total, s->views * part, s->pixels * sizeof(float)) &&
           tacit_arena_plan(total, s->views * s->query.whole, dim * sizeof(float)) &&
           tacit_arena_plan(total, s->views * part, dim * sizeof(float));
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    size_t begin = arena->used, part = s->query.part, dim = s->query.dim;
    tacit_tower_take(&s->key, arena);
    arena->used = begin; /* the same memory: the keys go first, and of them only k is kept */
    tacit_tower_take(&s->query, arena);
    tacit_infonce_take(&s->loss, arena);
    s->order = tacit_arena_take(arena, 2 * part, sizeof(uint32_t));
    s->samples = s->order + part;
    s->images = tacit_arena_take(arena, s->views * part, s->pixels * sizeof(float));
    s->keys = tacit_arena_take(arena, s->views * s->query.whole, dim * sizeof(float));
    s->d = tacit_arena_take(arena, s->views * part, dim * sizeof(float));
}

/* The keys of a part, in its order, from the images in another one. */
static void make_keys(state *s, const tacit_part *part)
{
    const tacit_batch *b = part->batch;
    size_t n = s->key.part, dim = s->key.dim;
    const float *views[] = { s->images, s->images + n * s->pixels };
    tacit_draw_order(part->seed, b->epoch, b->step, TACIT_DRAW_SHUFFLE, n, s->order);
    for (size_t v = 0; v < s->views; v++) /* the other view than the query's */
        for (size_t i = 0; i < n; i++)
            memcpy(s->images + (v * n + i) * s->pixels, b->views[1 - v] + s->order[i] * s->pixels,
                   s->pixels * sizeof(float));
    for (size_t i = 0; i < n; i++)
        s->samples[i] = b->samples[s->order[i]];
    const tacit_batch batch = { b->epoch, b->step, s->samples, views };
    tacit_part shuffled = *part;
    shuffled.batch = &batch;
    const float *k = tacit_tower_forward(&s->key, &shuffled);
    for (size_t v = 0; v < s->views; v++)
        for (size_t i = 0; i < n; i++, k += dim)
            s->work->kernels->l2norm_f32(
                1, dim, k, dim, s->keys + tacit_tower_at(&s->key, part, v) + s->order[i] * dim,
                dim);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    make_keys(s, part);
    tacit_tower_forward(&s->query, part);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    size_t n = s->query.part, dim = s->query.dim;
    double sum = 0, factor = 1 / (double)s->query.whole;
    (void)parts;
    for (size_t v = 0; v < s->views; v++) {
        const float *q = s->query.z + tacit_tower_at(&s->query, part, v);
        const float *k = s->keys + tacit_tower_at(&s->query, part, v);
        float *d = s->d + v * n * dim;
        if (s->negatives) {
            sum += tacit_infonce_loss(&s->loss, n, q, k, s->queue->shape[0], s->queue->value,
                                      factor, d);
        } else {
            memcpy(d, k, n * dim * sizeof *d);
            sum += tacit_cosine_loss(s->work, n, dim, q, d, factor, d);
        }
    }
    return sum;
}

static void backward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    (void)part;
    tacit_tower_backward(&s->query, s->d);
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    size_t floats = s->query.whole * s->query.dim;
    uint64_t room = s->queue->count / (s->views * floats); /* for so many steps' keys */
    float *to = s->queue->value + (size_t)(step % room) * s->views * floats;
    (void)steps;
    for (size_t v = s->views; v-- > 0; to += floats) /* those of first views first */
        memcpy(to, s->keys + v * floats, floats * sizeof *to);
    tacit_params_average(s->teacher, s->params, s->momentum, s->work->kernels, s->work->pool);
}

static tacit_embeddings embeddings(const void *ctx)
{
    return tacit_tower_embeddings(&((const state *)ctx)->query);
}

static tacit_embeddings outputs(const void *ctx)
{
    return tacit_tower_outputs(&((const state *)ctx)->query);
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    double scores = 2 * (double)s->queue->shape[0] * (double)s->query.dim;
    return tacit_tower_flops(&s->query) * 4 / 3 + /* the keys: a forward */
           (double)s->views * 2 * scores;
}

const tacit_method tacit_momentum_contrast = {
    .name = "moco",
    .title = "MoCo v2: contrastive, against a queue of a moving average's keys",
    .paper = "He et al. 2020, arXiv:1911.05722; Chen et al. 2020, arXiv:2003.04297",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings,
                                                tacit_colour_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", "queue", NULL },
    .vit = true,
    .resnet = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_pair,
    .declare = declare,
    .data = data,
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
