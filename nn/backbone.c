/* backbone.c - one branch for each family. See backbone.h. */
#include "backbone.h"

#include "mem.h"

#include <stdio.h>
#include <string.h>

struct tacit_backbone {
    tacit_backbone_config config;
    tacit_vit *vit; /* one of the two */
    tacit_resnet *resnet;
};

static bool is_vit(const tacit_backbone_config *config)
{
    return config->family == TACIT_FAMILY_VIT;
}

tacit_status tacit_backbone_detect(const tacit_tensor_source *source, tacit_backbone_config *config,
                                   tacit_err *err)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, "layer1.0.conv1.weight")) {
            *config = (tacit_backbone_config){ .family = TACIT_FAMILY_RESNET };
            return tacit_resnet_detect(source, &config->resnet, err);
        }
    *config = (tacit_backbone_config){ .family = TACIT_FAMILY_VIT };
    return tacit_vit_detect(source, 0, &config->vit, err);
}

bool tacit_backbone_find(const char *name, tacit_backbone_config *config)
{
    const tacit_vit_config *vit = tacit_vit_find(name);
    *config = (tacit_backbone_config){ .family = TACIT_FAMILY_VIT };
    if (vit) {
        config->vit = *vit;
        return true;
    }
    config->family = TACIT_FAMILY_RESNET;
    return tacit_resnet_find(name, &config->resnet);
}

void tacit_backbone_name(const tacit_backbone_config *config, char *name, size_t size)
{
    const tacit_vit_config *c = &config->vit;
    const tacit_resnet_config *r = &config->resnet;
    if (is_vit(config) && c->name)
        snprintf(name, size, "%s_%u", c->name, c->height);
    else if (is_vit(config))
        snprintf(name, size, "vit dim %u depth %u heads %u mlp %u patch %u", c->dim, c->depth,
                 c->heads, c->mlp, c->patch);
    else if (r->name)
        snprintf(name, size, "%s%s", r->name, r->small_stem ? "_cifar" : "");
    else
        snprintf(name, size, "resnet blocks %u %u %u %u, %u channels", r->blocks[0], r->blocks[1],
                 r->blocks[2], r->blocks[3], r->out[3]);
}

void tacit_backbone_input(const tacit_backbone_config *config, unsigned *height, unsigned *width)
{
    *height = is_vit(config) ? config->vit.height : config->resnet.height;
    *width = is_vit(config) ? config->vit.width : config->resnet.image_width;
}

tacit_status tacit_backbone_set_input(tacit_backbone_config *config, unsigned height,
                                      unsigned width, tacit_err *err)
{
    return is_vit(config) ? tacit_vit_set_input(&config->vit, height, width, err)
                          : tacit_resnet_set_input(&config->resnet, height, width, err);
}

tacit_status tacit_backbone_set_blocks(tacit_backbone_config *config, unsigned blocks,
                                       tacit_err *err)
{
    if (!is_vit(config))
        return tacit_fail(err, TACIT_EINVAL, "blocks can be chosen of a ViT, and this is a ResNet");
    if (!blocks || blocks > config->vit.depth)
        return tacit_fail(err, TACIT_EINVAL, "%u blocks of a network of %u", blocks,
                          config->vit.depth);
    config->vit.depth = blocks;
    return TACIT_OK;
}

void tacit_backbone_set_inference(tacit_backbone_config *config, tacit_precision precision,
                                  const tacit_stash *stash)
{
    if (is_vit(config)) {
        config->vit.precision = precision;
        config->vit.stash = stash;
    } else {
        config->resnet.precision = precision;
        config->resnet.stash = stash;
    }
}

tacit_status tacit_backbone_seeded(const tacit_backbone_config *config, uint64_t seed,
                                   tacit_tensor_source *source, tacit_err *err)
{
    return is_vit(config) ? tacit_vit_seeded(&config->vit, seed, source, err)
                          : tacit_resnet_seeded(&config->resnet, seed, source, err);
}

void tacit_backbone_seeded_close(const tacit_backbone_config *config, tacit_tensor_source *source)
{
    if (is_vit(config))
        tacit_vit_seeded_close(source);
    else
        tacit_resnet_seeded_close(source);
}

tacit_status tacit_backbone_open(tacit_backbone **backbone, const tacit_backbone_config *config,
                                 const tacit_tensor_source *source, const tacit_kernels *kernels,
                                 tacit_pool *pool, tacit_err *err)
{
    tacit_backbone *b = *backbone = tacit_calloc(1, sizeof *b);
    if (!b)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a backbone");
    b->config = *config;
    tacit_status st =
        is_vit(config) ? tacit_vit_open(&b->vit, &config->vit, source, kernels, pool, err)
                       : tacit_resnet_open(&b->resnet, &config->resnet, source, kernels, pool, err);
    if (st < 0)
        tacit_backbone_close(backbone);
    return st;
}

void tacit_backbone_close(tacit_backbone **backbone)
{
    if (!*backbone)
        return;
    tacit_vit_close(&(*backbone)->vit);
    tacit_resnet_close(&(*backbone)->resnet);
    tacit_free(*backbone);
    *backbone = NULL;
}

const tacit_backbone_config *tacit_backbone_config_of(const tacit_backbone *backbone)
{
    return &backbone->config;
}

size_t tacit_backbone_feature_count(const tacit_backbone *backbone, tacit_features features)
{
    return backbone->vit ? tacit_vit_feature_count(backbone->vit, features)
                         : tacit_resnet_feature_count(backbone->resnet, features);
}

void tacit_backbone_grid(const tacit_backbone *backbone, unsigned grid[2])
{
    const tacit_vit_config *c = &backbone->config.vit;
    if (!backbone->vit) {
        tacit_resnet_grid(&backbone->config.resnet, grid);
        return;
    }
    grid[0] = c->height / c->patch;
    grid[1] = c->width / c->patch;
}

double tacit_backbone_flops(const tacit_backbone *backbone)
{
    return backbone->vit ? tacit_vit_flops(&backbone->config.vit)
                         : tacit_resnet_flops(&backbone->config.resnet);
}

/* Where each of a few threads has some images of its own, threads take whole images, not parts of
 * each layer: none waits for another, and what lies between layers stays in its caches. With many
 * threads the weights, which each would read for itself, are more than memory gives. */
#define IMAGES_EACH 2
#define FEW_THREADS 8
/* Images that one thread takes together. */
#define TOGETHER 8

static bool takes_images(size_t batch, const tacit_pool *pool)
{
    size_t threads = tacit_pool_threads(pool);
    return threads > 1 && threads <= FEW_THREADS && batch >= IMAGES_EACH * threads;
}

/* Images of a chunk: as many chunks for each thread. */
static size_t images_together(size_t batch, const tacit_pool *pool)
{
    size_t threads = tacit_pool_threads(pool), turn = TOGETHER * threads;
    size_t chunks = (batch + turn - 1) / turn * threads;
    return (batch + chunks - 1) / chunks;
}

static size_t scratch_of(const tacit_backbone *b, size_t batch, const tacit_pool *pool)
{
    return b->vit ? tacit_vit_scratch(b->vit, batch, pool)
                  : tacit_resnet_scratch(b->resnet, batch, pool);
}

/* Of the images of a thread. */
static size_t own_scratch(const tacit_backbone *b, size_t batch, const tacit_pool *pool)
{
    size_t each = (batch + tacit_pool_threads(pool) - 1) / tacit_pool_threads(pool);
    size_t bytes = scratch_of(b, each < TOGETHER ? each : TOGETHER, NULL);
    return (bytes + TACIT_ALIGN - 1) / TACIT_ALIGN * TACIT_ALIGN;
}

size_t tacit_backbone_scratch(const tacit_backbone *backbone, size_t batch, const tacit_pool *pool)
{
    if (!takes_images(batch, pool))
        return scratch_of(backbone, batch, pool);
    size_t threads = tacit_pool_threads(pool), own = own_scratch(backbone, batch, pool), all;
    size_t fewer = scratch_of(backbone, IMAGES_EACH * threads - 1, pool);
    if (!own || !fewer || !tacit_mul_size(own, threads, &all))
        return 0;
    return all > fewer ? all : fewer;
}

typedef struct images_job {
    const tacit_backbone *b;
    const float *images;
    float *out;
    char *scratch;
    size_t batch, together, floats, count, own; /* floats of an image, of its features; bytes */
    tacit_features features;
} images_job;

static void run_forward(const tacit_backbone *b, const float *images, size_t batch,
                        tacit_features features, float *out, void *scratch, tacit_pool *pool)
{
    if (b->vit)
        tacit_vit_forward(b->vit, images, batch, features, out, scratch, pool);
    else
        tacit_resnet_forward(b->resnet, images, batch, features, out, scratch, pool);
}

static void images_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const images_job *j = ctx;
    size_t first = chunk * j->together, left = j->batch - first;
    run_forward(j->b, j->images + first * j->floats, left < j->together ? left : j->together,
                j->features, j->out + first * j->count, j->scratch + worker * j->own, NULL);
}

void tacit_backbone_forward(const tacit_backbone *backbone, const float *images, size_t batch,
                            tacit_features features, float *out, void *scratch, tacit_pool *pool)
{
    if (!takes_images(batch, pool)) {
        run_forward(backbone, images, batch, features, out, scratch, pool);
        return;
    }
    unsigned height, width;
    tacit_backbone_input(&backbone->config, &height, &width);
    images_job j = { .b = backbone,
                     .images = images,
                     .out = out,
                     .scratch = scratch,
                     .batch = batch,
                     .together = images_together(batch, pool),
                     .floats = (size_t)3 * height * width,
                     .count = tacit_backbone_feature_count(backbone, features),
                     .own = own_scratch(backbone, batch, pool),
                     .features = features };
    tacit_parallel_for(pool, (batch + j.together - 1) / j.together, images_chunk, &j);
}
