/* vit.h - Vision Transformer inference, with timm's names.
 *
 * Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929; the network of
 * timm's vision_transformer.py: pre-norm blocks, exact GELU, LayerNorm eps 1e-6.
 * Weights are packed once, at open; a forward allocates nothing.
 */
#ifndef TACIT_VIT_H
#define TACIT_VIT_H

#include "kernels.h"
#include "pool.h"
#include "tensor.h"

#include <stdbool.h>

typedef struct tacit_vit_config {
    const char
        *name; /* timm's, without the size: "vit_small_patch16"; NULL for a size of its own */
    unsigned dim, depth, heads, mlp, patch;
    unsigned height, width; /* of the input, multiples of patch */
    bool layer_scale;
    float eps;
} tacit_vit_config;

typedef enum tacit_features {
    TACIT_FEATURES_CLS,      /* class token after the final norm: (D)            */
    TACIT_FEATURES_MEAN,     /* mean of the patch tokens after the norm: (D)     */
    TACIT_FEATURES_CLS_MEAN, /* the two, one after the other: (2 D)              */
    TACIT_FEATURES_PATCH,    /* patch tokens after the norm, raster order: (N, D) */
} tacit_features;

/* The i-th named size (224 x 224 input, no layer scale), NULL past the last. */
const tacit_vit_config *tacit_vit_row(size_t i);
/* The row of a name such as "vit_small_patch16", to which "_" and any ending may be added, as in
 * "vit_small_patch16_224"; NULL where there is none. */
const tacit_vit_config *tacit_vit_find(const char *name);

/* Reads dim, depth, mlp, patch, layer scale and the position table's grid (a square) off the
 * tensors' names and shapes. The number of heads shows in no shape: it is that of the row with
 * these sizes, else dim / 64. TACIT_EUNSUPPORTED where it is no such ViT. */
tacit_status tacit_vit_detect(const tacit_tensor_source *source, tacit_vit_config *config,
                              tacit_err *err);

typedef struct tacit_vit tacit_vit;

/* Binds every tensor by name, reports all that are missing, extra or mis-shaped at once, refuses
 * values that are not finite, and packs. The source may be closed afterwards. `kernels` must
 * outlive the model. */
tacit_status tacit_vit_open(tacit_vit **vit, const tacit_vit_config *config,
                            const tacit_tensor_source *source, const tacit_kernels *kernels,
                            tacit_pool *pool, tacit_err *err);
void tacit_vit_close(tacit_vit **vit);
const tacit_vit_config *tacit_vit_config_of(const tacit_vit *vit);

/* A source of seeded values for config, for the untrained default backbone and for tests. Values
 * are made as they are read. */
tacit_status tacit_vit_seeded(const tacit_vit_config *config, uint64_t seed,
                              tacit_tensor_source *source, tacit_err *err);
void tacit_vit_seeded_close(tacit_tensor_source *source);

/* Floats that one image's features take. */
size_t tacit_vit_feature_count(const tacit_vit *vit, tacit_features features);
/* Bytes of scratch for a forward of `batch` images with that pool; 0 on overflow. */
size_t tacit_vit_scratch(const tacit_vit *vit, size_t batch, const tacit_pool *pool);

/* images: (batch, 3, H, W); out: (batch, feature_count). scratch: 64-byte aligned, its contents do
 * not matter. The vector of an image does not depend on batch, its neighbours, or the pool. */
void tacit_vit_forward(const tacit_vit *vit, const float *images, size_t batch,
                       tacit_features features, float *out, void *scratch, tacit_pool *pool);

#endif
