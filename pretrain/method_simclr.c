/* method_simclr.c - SimCLR: two views of an image agree, and differ from all others (Chen et al.
 * 2020, arXiv:2002.05709; its head and optimiser as google-research/simclr has them).
 *
 * z = g(f(x)) for both views in one forward, so that batch norm sees them together; NT-Xent of all
 * z. The head g is Linear, BN, ReLU, ..., Linear, BN without offset (SimCLR v2: three layers; v1:
 * two); it is thrown away.
 */
#include "draws.h"
#include "encoder.h"
#include "loss_ntxent.h"
#include "method.h"
#include "mlp_train.h"

#include <stdio.h>
#include <string.h>

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
    { "crop_min", TACIT_SETTING_REAL, "0.08", 0.001, 1, NULL, "least area of a crop", false },
    { "crop_max", TACIT_SETTING_REAL, "1", 0.001, 1, NULL, "largest area of a crop", false },
    { "filter", TACIT_SETTING_CHOICE, "bicubic", 0, 0, "bilinear|bicubic", "of the crop's resize",
      false },
    { "flip", TACIT_SETTING_REAL, "0.5", 0, 1, NULL, "probability of a horizontal flip", false },
    { "jitter", TACIT_SETTING_REAL, "1", 0, 2, NULL,
      "strength s of the colour jitter: brightness, contrast and saturation 0.8 s, hue 0.2 s",
      false },
    { "jitter_probability", TACIT_SETTING_REAL, "0.8", 0, 1, NULL, "of the colour jitter", false },
    { "gray", TACIT_SETTING_REAL, "0.2", 0, 1, NULL, "probability of grayscale", false },
    { "blur", TACIT_SETTING_REAL, "0.5", 0, 1, NULL, "probability of Gaussian blur, of 0.1 to 2",
      false },
};

static const char *const defaults[] = { "arch=resnet50",
                                        "optimiser=lars-rate",
                                        "lr=0.3",
                                        "weight_decay=1e-6",
                                        "warmup_epochs=10",
                                        "batch=4096",
                                        "accumulate=32",
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
/* lightly's benchmark on CIFAR-10, and less of it. */
static const char *const quick[] = {
    "arch=resnet18_cifar",
    "dim=32",
    "batch=128",
    "accumulate=1",
    "epochs=20",
    "optimiser=sgd",
    "lr=0.12",
    "weight_decay=5e-4",
    "warmup_epochs=1",
    "temperature=0.5",
    "loss=mean",
    "jitter=0.5",
    "blur=0",
    "head_layers=2",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

typedef struct state {
    tacit_encoder encoder;
    tacit_mlp head;
    tacit_ntxent loss;
    size_t part, whole, pixels; /* images; values of one of them */
    bool sum;
    float *images;   /* (2 part, pixels): the first views, then the second */
    float *z, *dz;   /* (2 whole, dim): of all parts, first views before second */
    float *d;        /* (2 part, dim): of a part */
    uint64_t *draws; /* (2 part) */
    const float *features;
    size_t rows; /* of the last forward */
} state;

static tacit_status views(const tacit_config *config, unsigned size, tacit_view *view,
                          size_t *count, tacit_err *err)
{
    float s = (float)tacit_config_number(config, "jitter");
    tacit_view v = tacit_view_plain(size);
    (void)err;
    v.scale[0] = (float)tacit_config_number(config, "crop_min");
    v.scale[1] = (float)tacit_config_number(config, "crop_max");
    v.filter = tacit_config_choice(config, "filter") ? TACIT_FILTER_BICUBIC : TACIT_FILTER_BILINEAR;
    v.flip = (float)tacit_config_number(config, "flip");
    v.jitter = s > 0 ? (float)tacit_config_number(config, "jitter_probability") : 0;
    v.brightness = v.contrast = v.saturation = 0.8f * s;
    v.hue = 0.2f * s;
    v.gray = (float)tacit_config_number(config, "gray");
    v.blur = (float)tacit_config_number(config, "blur");
    view[0] = view[1] = v;
    *count = 2;
    return TACIT_OK;
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    static const char *const names[] = { "0", "3", "6" }, *const norms[] = { "1", "4", "7" };
    state *s = ctx;
    unsigned height, width;
    tacit_backbone_input(&l->backbone, &height, &width);
    s->part = l->part;
    s->whole = l->whole;
    s->pixels = (size_t)3 * height * width;
    s->sum = tacit_config_choice(l->config, "loss") == 0;
    tacit_status st = tacit_encoder_declare(&s->encoder, l->config, &l->backbone, 2 * l->part,
                                            l->params, l->work, err);
    if (st < 0)
        return st;
    size_t layers = tacit_config_whole(l->config, "head_layers");
    size_t hidden = tacit_config_whole(l->config, "head_hidden");
    size_t dim = tacit_config_whole(l->config, "head_dim");
    bool norm = tacit_config_flag(l->config, "head_norm");
    tacit_mlp_layer layer[TACIT_MLP_LAYERS] = { 0 };
    for (size_t i = 0; i < layers; i++) {
        bool last = i + 1 == layers;
        layer[i] = (tacit_mlp_layer){
            .out = last     ? dim
                   : hidden ? hidden
                            : s->encoder.dim,
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
    st = tacit_mlp_declare(&s->head, "projector", s->encoder.dim, layers, layer, 2 * l->part,
                           l->params, l->work, err);
    tacit_ntxent_init(&s->loss, 2 * l->whole, dim, tacit_config_number(l->config, "temperature"),
                      l->work);
    return st;
}

static void close(void *ctx)
{
    tacit_encoder_close(&((state *)ctx)->encoder);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    size_t images, embeddings;
    return tacit_mul_size(2 * s->part, s->pixels, &images) &&
           tacit_mul_size(2 * s->whole, s->loss.dim, &embeddings) &&
           tacit_arena_plan(total, images, sizeof(float)) &&
           tacit_arena_plan(total, embeddings, sizeof(float)) &&
           tacit_arena_plan(total, embeddings, sizeof(float)) &&
           tacit_arena_plan(total, 2 * s->part * s->loss.dim, sizeof(float)) &&
           tacit_arena_plan(total, 2 * s->part, sizeof(uint64_t)) &&
           tacit_encoder_plan(&s->encoder, total) && tacit_mlp_plan(&s->head, total) &&
           tacit_ntxent_plan(&s->loss, total);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    s->images = tacit_arena_take(arena, 2 * s->part * s->pixels, sizeof(float));
    s->z = tacit_arena_take(arena, 2 * s->whole * s->loss.dim, sizeof(float));
    s->dz = tacit_arena_take(arena, 2 * s->whole * s->loss.dim, sizeof(float));
    s->d = tacit_arena_take(arena, 2 * s->part * s->loss.dim, sizeof(float));
    s->draws = tacit_arena_take(arena, 2 * s->part, sizeof(uint64_t));
    tacit_encoder_take(&s->encoder, arena);
    tacit_mlp_take(&s->head, arena);
    tacit_ntxent_take(&s->loss, arena);
}

/* Rows of view v of a part, in the embeddings of all. */
static size_t rows_of(const state *s, const tacit_part *part, size_t v)
{
    return (v * s->whole + part->index * s->part) * s->loss.dim;
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    const tacit_batch *b = part->batch;
    size_t n = s->part, dim = s->loss.dim;
    for (size_t v = 0; v < 2; v++) {
        memcpy(s->images + v * n * s->pixels, b->views[v], n * s->pixels * sizeof(float));
        for (size_t i = 0; i < n; i++)
            s->draws[v * n + i] = tacit_draw_stream(part->seed, b->epoch, b->samples[i],
                                                    TACIT_DRAW_DROP_PATH + (unsigned)v);
    }
    s->features = tacit_encoder_forward(&s->encoder, s->images, 2 * n, part->seed, s->draws);
    s->rows = 2 * n;
    const float *z = tacit_mlp_forward(&s->head, 2 * n, s->features, s->encoder.ld);
    for (size_t v = 0; v < 2; v++)
        memcpy(s->z + rows_of(s, part, v), z + v * n * dim, n * dim * sizeof *z);
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    const tacit_work *work = s->loss.work;
    size_t rows = 2 * s->whole, dim = s->loss.dim;
    (void)part, (void)parts;
    double value = tacit_ntxent_loss(&s->loss, rows, s->z, dim, s->dz, dim);
    if (!s->sum)
        return value;
    work->kernels->scale_add_f32(rows * dim, s->dz, 2, NULL, s->dz);
    return 2 * value;
}

static void backward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    size_t n = s->part, dim = s->loss.dim;
    for (size_t v = 0; v < 2; v++)
        memcpy(s->d + v * n * dim, s->dz + rows_of(s, part, v), n * dim * sizeof *s->d);
    tacit_mlp_backward(&s->head, s->d, tacit_encoder_gradient(&s->encoder), s->encoder.ld);
    tacit_encoder_backward(&s->encoder);
}

static tacit_embeddings embeddings(const void *ctx)
{
    const state *s = ctx;
    return (tacit_embeddings){ s->features, s->rows, s->encoder.dim, s->encoder.ld, true };
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    double head = 0, scores = 4.0 * (double)s->whole * (double)s->loss.dim;
    for (size_t i = 0; i < s->head.count; i++)
        head += 2.0 * (double)s->head.dense[i].in * (double)s->head.dense[i].out;
    return 2 * (tacit_encoder_flops(&s->encoder) + 3 * (head + scores));
}

const tacit_method tacit_simclr = {
    .name = "simclr",
    .title = "SimCLR: contrastive, two views, no state but the network",
    .paper = "Chen et al. 2020, arXiv:2002.05709",
    .settings = settings,
    .setting_count = sizeof settings / sizeof *settings,
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", NULL },
    .vit = true,
    .resnet = true,
    .joint = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = views,
    .declare = declare,
    .close = close,
    .plan = plan,
    .take = take,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .embeddings = embeddings,
    .flops = flops,
};
