/* method_deepcluster.c - DeepCluster-v2: the clusters of all images' embeddings are the classes
 * that the network learns until it clusters anew (Caron et al. 2018, arXiv:1807.05520, and 2020,
 * arXiv:2006.09882, appendix; facebookresearch/swav, main_deepclusterv2.py).
 *
 * The unit vectors z = g(f(x)) of each image's two global crops are remembered. Before an epoch
 * spherical k-means, kmeans.h, clusters them some times over, the first crops' and the second ones'
 * by turns; the centroids are the prototypes of a head, without gradient, and every crop of an
 * image is to find the cluster that the image was in, loss_clusters.h. The first epoch clusters
 * what a pass over the images gives with the initial weights.
 *
 * swav_family.h has the network. (There that first pass sends the two crops through one by one, and
 * moves batch norm's running statistics; the loss of a step is divided by its images that have a
 * cluster, here by all: an image has none where the epoch before left it out, as what does not fill
 * a batch.)
 */
#include "draws.h"
#include "kmeans.h"
#include "loss_clusters.h"
#include "swav_family.h"
#include "view_settings.h"

#include <math.h>
#include <string.h>

static const tacit_setting settings[] = {
    { "clusterings", TACIT_SETTING_WHOLE, "3", 1, TACIT_CLUSTER_HEADS, NULL,
      "how many times over the images are clustered", false },
    { "kmeans_iterations", TACIT_SETTING_WHOLE, "10", 0, 10000, NULL, "before each epoch", false },
    { "kmeans", TACIT_SETTING_FLAG, "true", 0, 0, NULL,
      "k-means; without it prototypes are random and stay so, and the embeddings collapse", false },
    { 0 },
};

/* scripts/deepclusterv2_800ep_pretrain.sh. */
static const char *const defaults[] = { TACIT_SWAV_DEFAULTS, "epochs=800", NULL };
static const char *const imagenet[] = { NULL };
/* solo-learn, CIFAR-10. */
static const char *const small32[] = {
    "arch=resnet18_cifar",
    "batch=256",
    "accumulate=1",
    "epochs=1000",
    "optimiser=larc-clip",
    "trust=0.02",
    "lr=0.6",
    "lr_start=0",
    "lr_final=0.0006",
    "warmup_epochs=11",
    "local_crops=0",
    "crop_min=0.08",
    "filter=bicubic",
    NULL,
};
static const tacit_preset presets[] = {
    { "imagenet", imagenet }, { "small32", small32 }, { "quick", tacit_swav_quick }, { NULL, NULL }
};

typedef struct state {
    tacit_tower tower; /* first, for its hooks */
    tacit_cluster_loss loss;
    tacit_kmeans kmeans;
    size_t heads, clusters, iterations, rows; /* rows: of an epoch's images */
    bool cluster;
    /* The memory: embeddings (2, rows, dim) in the order of training, whose they are (rows), the
     * clusters of each image (heads, rows + whole), -1: none, and their centroids (heads, clusters,
     * dim). Floats hold places of images up to 2^24. */
    tacit_param *embeddings, *samples, *labels, *prototypes;
    uint32_t *images;                      /* (whole): those of the step */
    uint32_t *assigned;                    /* (rows): clusters of the embeddings */
    uint32_t *wanted[TACIT_CLUSTER_HEADS]; /* (views, part): clusters of a part's rows */
    const float *z;                        /* of the last forward */
} state;

static tacit_status declare(void *ctx, const tacit_learner *l, tacit_err *err)
{
    state *s = ctx;
    const tacit_config *c = l->config;
    size_t dim = tacit_config_whole(c, "head_dim"), clusters[TACIT_CLUSTER_HEADS];
    const tacit_tower_config tower = tacit_swav_tower(c);
    s->heads = tacit_config_whole(c, "clusterings");
    s->clusters = tacit_config_whole(c, "prototypes");
    s->iterations = tacit_config_whole(c, "kmeans_iterations");
    s->cluster = tacit_config_flag(c, "kmeans");
    for (size_t h = 0; h < s->heads; h++)
        clusters[h] = s->clusters;
    tacit_cluster_loss_init(&s->loss, tower.views * l->part, dim, s->heads, clusters,
                            tacit_config_number(c, "temperature"), l->work);
    return tacit_tower_declare(&s->tower, &tower, l, l->params, err);
}

static tacit_status data(void *ctx, const tacit_learner *l, size_t rows, tacit_err *err)
{
    state *s = ctx;
    size_t dim = s->tower.dim, most = rows + l->whole;
    const struct {
        const char *name;
        unsigned rank;
        size_t shape[3];
        tacit_init init;
        tacit_param **at;
    } memory[] = {
        { "embeddings", 3, { TACIT_GLOBAL_CROPS, rows, dim }, TACIT_ZEROS, &s->embeddings },
        { "samples", 1, { rows }, TACIT_ZEROS, &s->samples },
        { "labels", 2, { s->heads, most }, { .size = -1 }, &s->labels },
        { "prototypes",
          3,
          { s->heads, s->clusters, dim },
          { .kind = TACIT_INIT_NORMAL, .size = 1 / sqrt((double)dim) },
          &s->prototypes },
    };
    if (s->clusters > rows)
        return tacit_fail(err, TACIT_EINVAL,
                          "prototypes = %zu are more than the %zu images of an epoch", s->clusters,
                          rows);
    if (most > (size_t)1 << 24)
        return tacit_fail(err, TACIT_ELIMIT, "deepcluster remembers up to %d images", 1 << 24);
    s->rows = rows;
    tacit_kmeans_init(&s->kmeans, rows, s->clusters, dim, true, l->work);
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < sizeof memory / sizeof *memory; i++)
        st = tacit_params_add(l->memory, memory[i].name, memory[i].rank, memory[i].shape,
                              memory[i].init, memory[i].at, err);
    return st;
}

static size_t part_rows(const state *s)
{
    return s->tower.views * s->tower.part;
}

static bool plan(const void *ctx, size_t *total)
{
    const state *s = ctx;
    return tacit_tower_plan(&s->tower, total) && tacit_cluster_loss_plan(&s->loss, total) &&
           tacit_kmeans_plan(&s->kmeans, total) &&
           tacit_arena_plan(total, s->tower.whole, sizeof *s->images) &&
           tacit_arena_plan(total, s->rows, sizeof *s->assigned) &&
           tacit_arena_plan(total, s->heads * part_rows(s), sizeof **s->wanted);
}

static void take(void *ctx, tacit_arena *arena)
{
    state *s = ctx;
    tacit_tower_take(&s->tower, arena);
    tacit_cluster_loss_take(&s->loss, arena);
    tacit_kmeans_take(&s->kmeans, arena);
    s->images = tacit_arena_take(arena, s->tower.whole, sizeof *s->images);
    s->assigned = tacit_arena_take(arena, s->rows, sizeof *s->assigned);
    uint32_t *wanted = tacit_arena_take(arena, s->heads * part_rows(s), sizeof *wanted);
    for (size_t h = 0; h < s->heads; h++)
        s->wanted[h] = wanted + h * part_rows(s);
}

static void forward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    size_t n = s->tower.part;
    s->z = tacit_tower_forward(&s->tower, part);
    memcpy(s->images + part->index * n, part->batch->samples, n * sizeof *s->images);
}

/* Images [first, first + count) of the step go to the memory's rows from `row` on. */
static void remember(state *s, size_t row, size_t first, size_t count)
{
    const tacit_tower *t = &s->tower;
    for (size_t v = 0; v < TACIT_GLOBAL_CROPS; v++)
        s->loss.work->kernels->l2norm_f32(
            count, t->dim, t->z + (v * t->whole + first) * t->dim, t->dim,
            s->embeddings->value + (v * s->rows + row) * t->dim, t->dim);
    for (size_t i = 0; i < count; i++)
        s->samples->value[row + i] = (float)s->images[first + i];
}

static void survey(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    size_t n = s->tower.part;
    forward(s, part);
    remember(s, (size_t)part->batch->step * n, part->index * n, n);
}

static void epoch(void *ctx, uint64_t seed, uint64_t number)
{
    state *s = ctx;
    size_t dim = s->tower.dim, images = s->rows + s->tower.whole;
    for (size_t h = 0; h < s->heads; h++) {
        const float *x = s->embeddings->value + h % TACIT_GLOBAL_CROPS * s->rows * dim;
        float *centroids = s->prototypes->value + h * s->clusters * dim;
        float *labels = s->labels->value + h * images;
        if (s->cluster)
            tacit_kmeans_run(&s->kmeans, s->rows, x, s->clusters, s->iterations, seed,
                             tacit_draw_stream(seed, number, h, TACIT_DRAW_CENTROIDS), centroids,
                             s->assigned);
        else
            tacit_kmeans_assign(&s->kmeans, s->rows, x, s->clusters, centroids, s->assigned);
        for (size_t i = 0; i < images; i++)
            labels[i] = -1;
        for (size_t i = 0; i < s->rows; i++)
            labels[(size_t)s->samples->value[i]] = (float)s->assigned[i];
    }
}

static double loss(void *ctx, const tacit_part *part, double *parts)
{
    state *s = ctx;
    tacit_tower *t = &s->tower;
    const float *centroids[TACIT_CLUSTER_HEADS];
    size_t images = s->rows + t->whole;
    (void)parts;
    for (size_t h = 0; h < s->heads; h++) {
        centroids[h] = s->prototypes->value + h * s->clusters * t->dim;
        for (size_t i = 0; i < part_rows(s); i++) {
            float label = s->labels->value[h * images + part->batch->samples[i % t->part]];
            s->wanted[h][i] = label < 0 ? TACIT_NO_CLUSTER : (uint32_t)label;
        }
    }
    return tacit_cluster_loss_run(&s->loss, part_rows(s), s->z, centroids,
                                  (const uint32_t *const *)s->wanted,
                                  1 / ((double)t->views * (double)t->whole), t->d);
}

static void backward(void *ctx, const tacit_part *part)
{
    state *s = ctx;
    (void)part;
    tacit_tower_backward(&s->tower, s->tower.d);
}

static void after(void *ctx, uint64_t step, uint64_t steps)
{
    state *s = ctx;
    size_t whole = s->tower.whole;
    (void)steps;
    remember(s, (size_t)(step % (s->rows / whole)) * whole, 0, whole);
}

/* Those of the head: a head can collapse over features that do not. */
static tacit_embeddings outputs(const void *ctx)
{
    const state *s = ctx;
    return (tacit_embeddings){ s->z,         TACIT_GLOBAL_CROPS * s->tower.part,
                               s->tower.dim, s->tower.dim,
                               true,         false };
}

static double flops(const void *ctx)
{
    const state *s = ctx;
    return tacit_tower_flops(&s->tower) + 4.0 * (double)s->tower.views * (double)s->tower.dim *
                                              (double)s->clusters * (double)s->heads;
}

const tacit_method tacit_deepcluster = {
    .name = "deepcluster",
    .title = "DeepCluster-v2: the clusters of the images are classes, made anew each epoch",
    .paper = "Caron et al. 2018, 2020, arXiv:1807.05520, arXiv:2006.09882",
    .settings = (const tacit_setting *const[]){ settings, tacit_swav_settings, tacit_crop_settings,
                                                tacit_colour_settings, tacit_local_settings, NULL },
    .defaults = defaults,
    .presets = presets,
    .loss_parts = (const char *const[]){ NULL },
    .heads = (const char *const[]){ "projector.", NULL },
    .vit = true,
    .resnet = true,
    .features = TACIT_FEATURES_CLS,
    .state = sizeof(state),
    .views = tacit_view_crops,
    .declare = declare,
    .data = data,
    .close = tacit_tower_hook_close,
    .plan = plan,
    .take = take,
    .survey = survey,
    .epoch = epoch,
    .forward = forward,
    .loss = loss,
    .backward = backward,
    .after = after,
    .embeddings = tacit_tower_hook_embeddings,
    .outputs = outputs,
    .flops = flops,
};
