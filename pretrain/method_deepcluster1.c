/* method_deepcluster1.c - DeepCluster: clusters of all images' features are labels to classify them
 * by, made anew with every epoch (Caron et al. 2018, arXiv:1807.05520;
 * facebookresearch/deepcluster, main.py, clustering.py).
 *
 * Before an epoch all images pass, each as its centre; their features are whitened, whiten.h, and
 * clustered by k-means, kmeans.h, which leaves no cluster empty; a Linear layer begins at random.
 * In the epoch it learns each image's cluster from a random crop, without momentum, and the
 * backbone with it. Clusters are to count the same, whatever their size (section 3.3): the authors
 * draw images uniformly over clusters, here every image comes once and its loss has the weight that
 * makes the expected gradient the same: images / clusters in use / images of its own.
 *
 * Classifier and clusters could agree on one cluster for all images. What makes that no way out is
 * k-means, which leaves none empty (section 3.3): without it, as a look at what it is good for, the
 * classifier goes on from epoch to epoch and clusters are its own answers.
 *
 * Theirs are AlexNet and VGG-16 behind a Sobel filter, with features of a layer of 4096 before its
 * ReLU, and by batch norm's running statistics. Here the features are the backbone's, a ResNet's
 * mean or a ViT's class token, of the pixels themselves, and by the batch's statistics.
 */
#include "draws.h"
#include "encoder.h"
#include "kmeans.h"
#include "method.h"
#include "view_settings.h"
#include "whiten.h"

#include <string.h>

#define ROWS 32 /* of a chunk of the loss */

static const tacit_setting settings[] = {
    { "clusters", TACIT_SETTING_WHOLE, "10000", 2, 1048576, NULL, "how many there are", false },
    { "kmeans_iterations", TACIT_SETTING_WHOLE, "20", 0, 10000, NULL, "before each epoch", false },
    { "kmeans", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "k-means; without it an image's cluster is what the classifier takes it for: all can become "
      "one, and the features collapse",
      false },
    { "pca", TACIT_SETTING_WHOLE, "256", 1, 8192, NULL,
      "directions of the features that are whitened and clustered, if there are as many", false },
    { "balance", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "clusters count the same, whatever their size; else images do", false },
    { "centre", TACIT_SETTING_REAL, "0.875", 0.01, 1, NULL,
      "share of a picture's shorter side that is its centre", false },
    { 0 },
};

/* main.py and main.sh. */
static const char *const defaults[] = {
    "arch=resnet50",  "optimiser=sgd",     "lr=0.05",         "lr_scale=none",
    "batch=256",      "accumulate=8",      "epochs=200",      "schedule=constant",
    "decay_all=true", "weight_decay=1e-5", "filter=bilinear", NULL,
};
static const char *const imagenet[] = { NULL };
/* No published one. */
static const char *const small32[] = {
    "arch=resnet18_cifar", "batch=128", "accumulate=1", "clusters=300", "pca=128", "centre=1",
    "crop_min=0.2",        NULL,
};
static const char *const quick[] = {
    "arch=resnet18_cifar", "dim=32",       "depth=1",           "batch=128",
    "accumulate=1",        "epochs=20",    "clusters=100",      "pca=64",
    "optimiser=adamw",     "lr=0.002",     "schedule=cosine",   "centre=1",
    "decay_all=false",     "crop_min=0.2", "weight_decay=1e-4", NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", quick }, { NULL, NULL }
};

enum { CROP, CENTRE, VIEWS };

typedef struct state {
    tacit_encoder encoder;
    tacit_dense classifier;
    tacit_kmeans kmeans;
    tacit_whiten whiten;
    tacit_work *work;
    size_t part, whole, clusters, iterations, pca, rows; /* rows: of an epoch's images */
    bool cluster, balance;
    /* The memory: of each image its cluster (rows + whole), -1: none, and of each cluster what an
     * image of it counts (clusters). */
    tacit_param *labels, *weights;
    float *features, *whitened, *centroids; /* (rows, dim), (rows, pca), (clusters, pca) */
    uint32_t *samples, *assigned;           /* (rows): whose features they are; their clusters */
    uint64_t *draws;                        /* (part) */
    const float *x;                         /* features of the last forward */
    float *logits, *losses;                 /* (part, clusters), (part) */
} state;

static tacit_status views(const tacit_config *config, unsigned size, tacit_view *views,
                          size_t *count, tacit_err *err)
{
    (void)err;
    *count = VIEWS;
    views[CROP] = views[CENTRE] = tacit_view_crop(config, size);
    views[CENTRE].flip = 0;
    views[CENTRE].centre = (float)tacit_config_number(config, "centre");
    return TACIT_OK;
}

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_config *c = l->config;
    const tacit_init normal = { .kind = TACIT_INIT_NORMAL, .size = 0.01 };
    s->work = l->work;
    s->part = l->part;
    s->whole = l->whole;
    s->clusters = tacit_config_whole(c, "clusters");
    s->iterations = tacit_config_whole(c, "kmeans_iterations");
    s->cluster = tacit_config_flag(c, "kmeans");
    s->balance = tacit_config_flag(c, "balance");
    tacit_status st =
        tacit_encoder_declare(&s->encoder, c, &l->backbone, l->part, l->params, l->work, err);
    if (st == TACIT_OK)
        st = tacit_dense_declare(&s->classifier, "classifier", s->encoder.dim, s->clusters, true, 2,
                                 NULL, normal, TACIT_ZEROS, l->part, l->params, l->work, err);
    if (st == TACIT_OK)
        s->classifier.w->no_momentum = s->classifier.b->no_momentum = true;
    size_t pca = tacit_config_whole(c, "pca");
    s->pca = pca < s->encoder.dim ? pca : s->encoder.dim;
    return st;
}

static tacit_status data(void *ctx, const tacit_learner *l, size_t rows, tacit_err *err)
{
    state *s = ctx;
    size_t most = rows + l->whole;
    if (s->clusters > rows)
        return tacit_fail(err, TACIT_EINVAL,
                          "clusters = %zu are more than the %zu images of an epoch", s->clusters,
                          rows);
    if (most > (size_t)1 << 24) /* floats count them */
        return tacit_fail(err, TACIT_ELIMIT, "deepcluster1 clusters up to %d images", 1 << 24);
    s->rows = rows;
    tacit_kmeans_init(&s->kmeans, rows, s->clusters, s->pca, false, l->work);
    tacit_whiten_init(&s->whiten, s->encoder.dim, s->pca, l->work);
    tacit_status st = tacit_params_add(l->memory, "labels", 1, &most, (tacit_init){ .size = -1 },
                                       &s->labels, err);
    return st == TACIT_OK ? tacit_params_add(l->memory, "weights", 1, &s->clusters, TACIT_ZEROS,
                                             &s->weights, err)
                          : st;
}

static void close(void *ctx)
{
    tacit_encoder_close(&((state *)ctx)->encoder);
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_encoder_plan(&s->encoder, total) && tacit_kmeans_plan(&s->kmeans, total) &&
           tacit_whiten_plan(&s->whiten, total) &&
           tacit_arena_plan(total, s->rows, s->encoder.dim * sizeof(float)) &&
           tacit_arena_plan(total, s->rows, s->pca * sizeof(float)) &&
           tacit_arena_plan(total, s->clusters, s->pca * sizeof(float)) &&
           tacit_arena_plan(total, s->rows, sizeof(uint32_t)) &&
           tacit_arena_plan(total, s->rows, sizeof(uint32_t)) &&
           tacit_arena_plan(total, s->part, sizeof(uint64_t)) &&
           tacit_arena_plan(total, s->part, s->clusters * sizeof(float)) &&
           tacit_arena_plan(total, s->part, sizeof(float));
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    tacit_encoder_take(&s->encoder, arena);
    tacit_kmeans_take(&s->kmeans, arena);
    tacit_whiten_take(&s->whiten, arena);
    s->features = tacit_arena_take(arena, s->rows, s->encoder.dim * sizeof(float));
    s->whitened = tacit_arena_take(arena, s->rows, s->pca * sizeof(float));
    s->centroids = tacit_arena_take(arena, s->clusters, s->pca * sizeof(float));
    s->samples = tacit_arena_take(arena, s->rows, sizeof(uint32_t));
    s->assigned = tacit_arena_take(arena, s->rows, sizeof(uint32_t));
    s->draws = tacit_arena_take(arena, s->part, sizeof(uint64_t));
    s->logits = tacit_arena_take(arena, s->part, s->clusters * sizeof(float));
    s->losses = tacit_arena_take(arena, s->part, sizeof(float));
}

/* Before an epoch ------------------------------------------------------------------------------ */

static void classify(state *s, const float *x)
{
    tacit_dense_forward(s->work, &s->classifier, s->part, x, s->encoder.ld, s->logits, s->clusters,
                        NULL);
}

/* The clusters of a part's images are the largest logits. */
static void ask_classifier(state *s, const float *x, uint32_t *clusters)
{
    classify(s, x);
    for (size_t i = 0; i < s->part; i++) {
        const float *logits = s->logits + i * s->clusters;
        clusters[i] = 0;
        for (uint32_t c = 1; c < s->clusters; c++)
            if (logits[c] > logits[clusters[i]])
                clusters[i] = c;
    }
}

static void survey(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    const tacit_batch *b = part->batch;
    size_t row = (size_t)b->step * s->part, dim = s->encoder.dim;
    const float *x =
        tacit_encoder_forward(&s->encoder, b->views[CENTRE], s->part, part->seed, NULL);
    for (size_t i = 0; i < s->part; i++)
        memcpy(s->features + (row + i) * dim, x + i * s->encoder.ld, dim * sizeof *x);
    memcpy(s->samples + row, b->samples, s->part * sizeof *b->samples);
    if (!s->cluster)
        ask_classifier(s, x, s->assigned + row);
}

static void take_clusters(state *s)
{
    size_t used = 0;
    float *weights = s->weights->value;
    for (size_t c = 0; c < s->clusters; c++)
        weights[c] = 0;
    for (size_t i = 0; i < s->labels->count; i++)
        s->labels->value[i] = -1;
    for (size_t i = 0; i < s->rows; i++) {
        s->labels->value[s->samples[i]] = (float)s->assigned[i];
        used += weights[s->assigned[i]]++ == 0;
    }
    for (size_t c = 0; c < s->clusters; c++) {
        double even = weights[c] > 0 ? (double)s->rows / (double)used / (double)weights[c] : 0;
        weights[c] = s->balance ? (float)even : 1;
    }
}

static void begin(tacit_param *p, uint64_t seed)
{
    tacit_param_init(p, seed);
    for (size_t i = 0; i < 2; i++)
        if (p->state[i])
            memset(p->state[i], 0, p->count * sizeof *p->state[i]);
}

static void make_clusters(state *s, uint64_t seed, uint64_t number)
{
    tacit_whiten_run(&s->whiten, s->rows, s->features, s->whitened);
    tacit_kmeans_run(&s->kmeans, s->rows, s->whitened, s->clusters, s->iterations, seed,
                     tacit_draw_stream(seed, number, 0, TACIT_DRAW_CENTROIDS), s->centroids,
                     s->assigned);
    begin(s->classifier.w, tacit_draw_stream(seed, number, 0, TACIT_DRAW_CLASSIFIER));
    begin(s->classifier.b, 0);
}

static void epoch(void *ctx, uint64_t seed, uint64_t number)
{
    state *s = ctx;
    if (s->cluster)
        make_clusters(s, seed, number);
    take_clusters(s);
}

/* A step --------------------------------------------------------------------------------------- */

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    const tacit_batch *b = part->batch;
    for (size_t i = 0; i < s->part; i++)
        s->draws[i] =
            tacit_draw_stream(part->seed, b->epoch, b->samples[i], TACIT_DRAW_DROP_PATH + CROP);
    s->x = tacit_encoder_forward(&s->encoder, b->views[CROP], s->part, part->seed, s->draws);
    classify(s, s->x);
}

typedef struct job {
    state *s;
    const uint32_t *samples;
} job;

static void loss_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    state *s = j->s;
    const tacit_kernels *k = s->work->kernels;
    for (size_t i = chunk * ROWS; i < s->part && i < (chunk + 1) * ROWS; i++) {
        float label = s->labels->value[j->samples[i]], *row = s->logits + i * s->clusters;
        uint32_t cluster = label < 0 ? 0 : (uint32_t)label;
        float weight = label < 0 ? 0 : s->weights->value[cluster];
        k->cross_entropy_f32(1, s->clusters, row, s->clusters, &cluster, row, s->clusters,
                             &s->losses[i]);
        k->scale_add_f32(s->clusters, row, (float)((double)weight / (double)s->whole), NULL, row);
        s->losses[i] *= weight;
    }
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    job j = { s, part->batch->samples };
    double sum = 0;
    (void)parts;
    tacit_parallel_for(s->work->pool, (s->part + ROWS - 1) / ROWS, loss_chunk, &j);
    for (size_t i = 0; i < s->part; i++)
        sum += (double)s->losses[i];
    return sum / (double)s->whole;
}

static void backward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    (void)part;
    tacit_dense_backward(s->work, &s->classifier, s->part, s->logits, s->clusters, s->x,
                         s->encoder.ld, tacit_encoder_gradient(&s->encoder), s->encoder.ld, NULL);
    tacit_encoder_backward(&s->encoder);
}

static tacit_embeddings embeddings(const void *ctx)
{
    const state *s = ctx;
    return (tacit_embeddings){ s->x, s->part, s->encoder.dim, s->encoder.ld, false, false };
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    return tacit_encoder_flops(&s->encoder) + 6.0 * (double)s->encoder.dim * (double)s->clusters;
}

const tacit_method tacit_deepcluster1 = {
    .name = "deepcluster1",
    .title = "DeepCluster, the first: classify images by the clusters of their features",
    .paper = "Caron et al. 2018, arXiv:1807.05520",
    .settings = (const tacit_setting *const[]){ settings, tacit_crop_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "classifier.", NULL },
    .vit = true,
    .resnet = true,
    .surveys = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = views,
    .declare = declare,
    .data = data,
    .close = close,
    .plan = plan,
    .take = take,
    .survey = survey,
    .epoch = epoch,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .embeddings = embeddings,
    .flops = flops,
};
