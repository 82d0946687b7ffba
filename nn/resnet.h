/* resnet.h - ResNet inference, with timm's and torchvision's names.
 *
 * He et al., "Deep Residual Learning for Image Recognition", CVPR 2016, arXiv:1512.03385, in
 * torchvision's form (stride on the 3 x 3 convolution of a bottleneck, "v1.5"). Batch norms are
 * folded into the convolutions at open; a forward allocates nothing.
 *
 * Tensors: conv1.weight, bn1.{weight, bias, running_mean, running_var}, then for stage s of 1 to 4
 * and block j layer<s>.<j>.conv<i>.weight, .bn<i>.*, and where the shortcut changes its size
 * .downsample.0.weight, .downsample.1.*. fc.* and num_batches_tracked are not looked at.
 */
#ifndef TACIT_RESNET_H
#define TACIT_RESNET_H

#include "feature.h"
#include "kernels.h"
#include "pool.h"
#include "precision.h"
#include "stash.h"
#include "tensor.h"

#include <stdbool.h>

typedef struct tacit_resnet_config {
    const char *name;             /* timm's: "resnet50"; NULL for a size of its own             */
    unsigned blocks[4];           /* of each stage                                              */
    unsigned width[4];            /* channels of the 3 x 3 convolutions of each stage           */
    unsigned out[4];              /* channels that each stage gives                             */
    unsigned stem;                /* channels of the first convolution                          */
    bool bottleneck;              /* 1 x 1, 3 x 3, 1 x 1; else two of 3 x 3                     */
    bool small_stem;              /* for CIFAR: 3 x 3 of stride 1 and no pooling; else 7 x 7, 2 */
    unsigned height, image_width; /* of the input */
    tacit_precision precision;    /* of the inference, no part of the file */
    const tacit_stash *stash;     /* likewise; NULL: packed weights are not kept */
} tacit_resnet_config;

/* "resnet18", 34, 50, 101, with any ending after "_" or ".": "resnet18_cifar" has the small stem.
 * False where there is none of that name. */
bool tacit_resnet_find(const char *name, tacit_resnet_config *config);

/* Reads the sizes off names and shapes; the input is 224 x 224, or 32 x 32 with the small stem.
 * TACIT_EUNSUPPORTED where it is no such ResNet. */
tacit_status tacit_resnet_detect(const tacit_tensor_source *source, tacit_resnet_config *config,
                                 tacit_err *err);
tacit_status tacit_resnet_set_input(tacit_resnet_config *config, unsigned height, unsigned width,
                                    tacit_err *err);
/* FLOPs of one forward: two for each multiplication of its convolutions. */
double tacit_resnet_flops(const tacit_resnet_config *config);

typedef struct tacit_resnet tacit_resnet;

/* Binds every tensor by name, reports what is missing or mis-shaped, refuses values that are not
 * finite, folds and packs. The source may be closed afterwards; `kernels` must outlive the model.
 */
tacit_status tacit_resnet_open(tacit_resnet **resnet, const tacit_resnet_config *config,
                               const tacit_tensor_source *source, const tacit_kernels *kernels,
                               tacit_pool *pool, tacit_err *err);
void tacit_resnet_close(tacit_resnet **resnet);

/* The tensors of the network with seeded values, as tacit_vit_seeded. */
tacit_status tacit_resnet_seeded(const tacit_resnet_config *config, uint64_t seed,
                                 tacit_tensor_source *source, tacit_err *err);
void tacit_resnet_seeded_close(tacit_tensor_source *source);

/* Rows and columns of the last map. */
void tacit_resnet_grid(const tacit_resnet_config *config, unsigned grid[2]);
/* Of the last map's mean (C), or the map itself (h, w, C); 0 for the features of tokens. */
size_t tacit_resnet_feature_count(const tacit_resnet *resnet, tacit_features features);
size_t tacit_resnet_scratch(const tacit_resnet *resnet, size_t batch, const tacit_pool *pool);

/* images: (batch, 3, H, W); out: (batch, feature_count); scratch as for tacit_vit_forward. */
void tacit_resnet_forward(const tacit_resnet *resnet, const float *images, size_t batch,
                          tacit_features features, float *out, void *scratch, tacit_pool *pool);

#endif
