/* vit.h - Vision Transformer inference, with timm's names.
 *
 * Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021, arXiv:2010.11929; the network of
 * timm's vision_transformer.py: pre-norm blocks, exact GELU, LayerNorm eps 1e-6.
 * Weights are packed once, at open; a forward allocates nothing.
 */
#ifndef TACIT_VIT_H
#define TACIT_VIT_H

#include "feature.h"
#include "kernels.h"
#include "pool.h"
#include "precision.h"
#include "stash.h"
#include "tensor.h"

#include <stdbool.h>

/* The tensors, by timm's names; D is dim, H the heads' number and hd their width. Those in brackets
 * are there when the configuration says so.
 *
 *   [cls_token (1, 1, D)] [reg_token (1, registers, D)] [pos_embed (1, n, D)] [rope.periods (hd /
 * 4)] patch_embed.proj.weight (D, 3, p, p) [.bias (D)] [norm_pre.weight, .bias (D)]
 *   [rel_pos_bias.relative_position_bias_table (T, H)]
 *   blocks.<i>.norm1.weight, .bias (D); attn.qkv.weight (3 D, D) [.bias (3 D)]; [attn.q_norm,
 *     attn.k_norm .weight, .bias (hd)]; [attn.relative_position_bias_table (T, H)];
 *     attn.proj.weight (D, D), .bias (D); [ls1.gamma, ls2.gamma (D)]; norm2.weight, .bias (D);
 *     mlp.fc1.weight (mlp, D), .bias (mlp), with SwiGLU of 2 mlp rows, the gate's first;
 *     mlp.fc2.weight (D, mlp), .bias (D)
 *   [norm or fc_norm .weight, .bias (D)] [head.weight (projection, D)]
 *
 * T = (2 rows - 1)(2 columns - 1) + 3 of the grid; without a class token, 3 less. */
typedef enum tacit_position {
    TACIT_POSITION_TABLE,  /* learned or fixed, a row for the class token and each patch */
    TACIT_POSITION_ROTARY, /* axial rotary embedding of q and k: DINOv3                  */
    TACIT_POSITION_NONE,   /* none, or relative biases alone: BEiT                       */
} tacit_position;

/* How a stored table becomes one for another grid. */
typedef enum tacit_resample {
    TACIT_RESAMPLE_REFUSE,    /* another size is an error                                       */
    TACIT_RESAMPLE_BICUBIC,   /* torch's interpolate(size=), a = -0.75: transformers            */
    TACIT_RESAMPLE_OFFSET,    /* the same with scale_factor = (g + 0.1) / g0: DINO, DINOv2      */
    TACIT_RESAMPLE_ANTIALIAS, /* the same with size= and antialias: timm, DINOv2 with registers */
    /* Of relative biases, which are refused beside a table of positions: */
    TACIT_RESAMPLE_BILINEAR,  /* torch's interpolate(size=): transformers' Beit                 */
    TACIT_RESAMPLE_GEOMETRIC, /* linear between places in geometric progression: timm's BEiT    */
} tacit_resample;

typedef enum tacit_relative {
    TACIT_RELATIVE_NONE,
    TACIT_RELATIVE_SHARED, /* one table for all blocks: BEiT in pre-training, SimMIM */
    TACIT_RELATIVE_BLOCK,  /* one for each block: BEiT fine-tuned                    */
} tacit_relative;

typedef enum tacit_activation {
    TACIT_GELU,       /* exact, by erf                                          */
    TACIT_QUICK_GELU, /* x sigmoid(1.702 x): OpenAI's CLIP                      */
    TACIT_SWIGLU,     /* fc2(silu(a) b), (a, b) = fc1(x): DINOv2 g, some DINOv3 */
} tacit_activation;

typedef enum tacit_last_norm {
    TACIT_NORM_TOKENS, /* "norm", of every token                                           */
    TACIT_NORM_MEAN,   /* "fc_norm", of the mean of the patch tokens: fine-tuned MAE, BEiT */
    TACIT_NORM_NONE,   /* MaskFeat's pre-training files                                    */
} tacit_last_norm;

/* What a network is made of. All that is 0 is as in timm's plain ViT. */
typedef struct tacit_vit_config {
    const char
        *name; /* timm's, without the size: "vit_small_patch16"; NULL for a size of its own */
    unsigned dim, depth, heads, mlp, patch; /* mlp: the hidden width, with SwiGLU of one half */
    unsigned height, width;                 /* of the input, multiples of patch */
    float eps;
    bool layer_scale;
    bool no_cls;        /* no class token: I-JEPA                                      */
    unsigned registers; /* tokens between the class token and the patches, no position */
    bool no_patch_bias; /* CLIP                                                        */
    bool pre_norm;      /* "norm_pre" before the blocks: CLIP                          */
    bool no_qkv_bias;   /* DINOv3 7B                                                   */
    bool qk_norm;       /* LayerNorm of each head's q and k                            */
    tacit_activation activation;
    tacit_position position;
    bool position_no_cls; /* the table has no row for the class token: timm with registers */
    tacit_relative relative;
    unsigned grid[2]; /* rows and columns that the stored tables are for; 0: the input's */
    tacit_resample resample;
    tacit_last_norm last_norm;
    unsigned projection;       /* outputs of "head.weight" on the normalised class token: CLIP */
    tacit_precision precision; /* of the inference, no part of the file                  */
    const tacit_stash *stash;  /* likewise; NULL: packed weights are not kept            */
} tacit_vit_config;

/* The i-th named size (224 x 224 input, no layer scale), NULL past the last. */
const tacit_vit_config *tacit_vit_row(size_t i);
/* The row of a name such as "vit_small_patch16", to which "_" and any ending may be added, as in
 * "vit_small_patch16_224"; NULL where there is none. */
const tacit_vit_config *tacit_vit_find(const char *name);

/* Reads the configuration off the tensors' names and shapes: sizes, parts, the grid of the tables
 * (a square), which becomes the input's; 224 pixels where there is no table. Not seen there: eps
 * (1e-6 is set), the kind of GELU, the way to resample, and the number of heads: that is `heads`
 * where not 0, else that of a relative table, of the row with these sizes, or dim / 64.
 * TACIT_EUNSUPPORTED where it is no ViT. */
tacit_status tacit_vit_detect(const tacit_tensor_source *source, unsigned heads,
                              tacit_vit_config *config, tacit_err *err);

/* Sets the input; TACIT_EINVAL, and why, where the network cannot take it. */
tacit_status tacit_vit_set_input(tacit_vit_config *config, unsigned height, unsigned width,
                                 tacit_err *err);

/* FLOPs of one forward as it is commonly counted: every token through every block. */
double tacit_vit_flops(const tacit_vit_config *config);

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
