/* backbone.c - one branch for each family. See backbone.h. */
#include "backbone.h"

#include "mem.h"

#include <stdio.h>

struct tacit_backbone {
    tacit_backbone_config config;
    union {
        tacit_vit *vit;
    };
};

tacit_status tacit_backbone_detect(const tacit_tensor_source *source, tacit_backbone_config *config,
                                   tacit_err *err)
{
    *config = (tacit_backbone_config){ .family = TACIT_FAMILY_VIT };
    return tacit_vit_detect(source, 0, &config->vit, err);
}

bool tacit_backbone_find(const char *name, tacit_backbone_config *config)
{
    const tacit_vit_config *vit = tacit_vit_find(name);
    *config = (tacit_backbone_config){ .family = TACIT_FAMILY_VIT };
    if (vit)
        config->vit = *vit;
    return vit != NULL;
}

void tacit_backbone_name(const tacit_backbone_config *config, char *name, size_t size)
{
    const tacit_vit_config *c = &config->vit;
    if (c->name)
        snprintf(name, size, "%s_%u", c->name, c->height);
    else
        snprintf(name, size, "vit dim %u depth %u heads %u mlp %u patch %u", c->dim, c->depth,
                 c->heads, c->mlp, c->patch);
}

void tacit_backbone_input(const tacit_backbone_config *config, unsigned *height, unsigned *width)
{
    *height = config->vit.height;
    *width = config->vit.width;
}

tacit_status tacit_backbone_set_input(tacit_backbone_config *config, unsigned height,
                                      unsigned width, tacit_err *err)
{
    return tacit_vit_set_input(&config->vit, height, width, err);
}

tacit_status tacit_backbone_seeded(const tacit_backbone_config *config, uint64_t seed,
                                   tacit_tensor_source *source, tacit_err *err)
{
    return tacit_vit_seeded(&config->vit, seed, source, err);
}

void tacit_backbone_seeded_close(tacit_tensor_source *source)
{
    tacit_vit_seeded_close(source);
}

tacit_status tacit_backbone_open(tacit_backbone **backbone, const tacit_backbone_config *config,
                                 const tacit_tensor_source *source, const tacit_kernels *kernels,
                                 tacit_pool *pool, tacit_err *err)
{
    tacit_backbone *b = *backbone = tacit_calloc(1, sizeof *b);
    if (!b)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a backbone");
    b->config = *config;
    tacit_status st = tacit_vit_open(&b->vit, &config->vit, source, kernels, pool, err);
    if (st < 0)
        tacit_backbone_close(backbone);
    return st;
}

void tacit_backbone_close(tacit_backbone **backbone)
{
    if (!*backbone)
        return;
    tacit_vit_close(&(*backbone)->vit);
    tacit_free(*backbone);
    *backbone = NULL;
}

const tacit_backbone_config *tacit_backbone_config_of(const tacit_backbone *backbone)
{
    return &backbone->config;
}

size_t tacit_backbone_feature_count(const tacit_backbone *backbone, tacit_features features)
{
    return tacit_vit_feature_count(backbone->vit, features);
}

void tacit_backbone_grid(const tacit_backbone *backbone, unsigned grid[2])
{
    const tacit_vit_config *c = &backbone->config.vit;
    grid[0] = c->height / c->patch;
    grid[1] = c->width / c->patch;
}

double tacit_backbone_flops(const tacit_backbone *backbone)
{
    return tacit_vit_flops(&backbone->config.vit);
}

size_t tacit_backbone_scratch(const tacit_backbone *backbone, size_t batch, const tacit_pool *pool)
{
    return tacit_vit_scratch(backbone->vit, batch, pool);
}

void tacit_backbone_forward(const tacit_backbone *backbone, const float *images, size_t batch,
                            tacit_features features, float *out, void *scratch, tacit_pool *pool)
{
    tacit_vit_forward(backbone->vit, images, batch, features, out, scratch, pool);
}
