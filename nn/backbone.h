/* backbone.h - a network of any family, behind one set of functions.
 *
 * What the tensors are called and shaped is the family's canonical form: timm's names (vit.h,
 * resnet.h).
 * Every function here is the family's own; see there for what is promised.
 */
#ifndef TACIT_BACKBONE_H
#define TACIT_BACKBONE_H

#include "resnet.h"
#include "vit.h"

typedef enum tacit_family {
    TACIT_FAMILY_VIT,
    TACIT_FAMILY_RESNET,
} tacit_family;

typedef struct tacit_backbone_config {
    tacit_family family;
    union {
        tacit_vit_config vit;
        tacit_resnet_config resnet;
    };
} tacit_backbone_config;

/* The family and sizes of canonically named tensors; TACIT_EUNSUPPORTED where they are none. */
tacit_status tacit_backbone_detect(const tacit_tensor_source *source, tacit_backbone_config *config,
                                   tacit_err *err);

/* The sizes of an architecture by timm's name, without what only tensors tell; false where there
 * is none. */
bool tacit_backbone_find(const char *name, tacit_backbone_config *config);

/* timm's name with the input size where there is one, else the sizes. */
void tacit_backbone_name(const tacit_backbone_config *config, char *name, size_t size);

/* Pixels of the input. */
void tacit_backbone_input(const tacit_backbone_config *config, unsigned *height, unsigned *width);
/* TACIT_EINVAL, and why, where the network cannot take that input. */
tacit_status tacit_backbone_set_input(tacit_backbone_config *config, unsigned height,
                                      unsigned width, tacit_err *err);

/* Only the first blocks of a ViT, behind which its last norm goes on; TACIT_EINVAL where it has not
 * so many, and of a ResNet. */
tacit_status tacit_backbone_set_blocks(tacit_backbone_config *config, unsigned blocks,
                                       tacit_err *err);

/* How it is run: what is no part of the file. */
void tacit_backbone_set_inference(tacit_backbone_config *config, tacit_precision precision,
                                  const tacit_stash *stash);

/* Every tensor of the network, canonical in name and shape, with seeded values. */
tacit_status tacit_backbone_seeded(const tacit_backbone_config *config, uint64_t seed,
                                   tacit_tensor_source *source, tacit_err *err);
void tacit_backbone_seeded_close(const tacit_backbone_config *config, tacit_tensor_source *source);

typedef struct tacit_backbone tacit_backbone;

tacit_status tacit_backbone_open(tacit_backbone **backbone, const tacit_backbone_config *config,
                                 const tacit_tensor_source *source, const tacit_kernels *kernels,
                                 tacit_pool *pool, tacit_err *err);
void tacit_backbone_close(tacit_backbone **backbone);
const tacit_backbone_config *tacit_backbone_config_of(const tacit_backbone *backbone);

/* Floats that one image's features take; 0 where the network has none of that kind. */
size_t tacit_backbone_feature_count(const tacit_backbone *backbone, tacit_features features);
/* Rows and columns of the patch features. */
void tacit_backbone_grid(const tacit_backbone *backbone, unsigned grid[2]);
/* FLOPs of one forward as it is commonly counted: every token or pixel through every layer. */
double tacit_backbone_flops(const tacit_backbone *backbone);

size_t tacit_backbone_scratch(const tacit_backbone *backbone, size_t batch, const tacit_pool *pool);
void tacit_backbone_forward(const tacit_backbone *backbone, const float *images, size_t batch,
                            tacit_features features, float *out, void *scratch, tacit_pool *pool);

#endif
