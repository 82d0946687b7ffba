/* dalle.h - DALL-E's discrete VAE, for those who have its weights: images to logits of codes, and
 * codes to images. It is not trained here (Ramesh et al. 2021, arXiv:2102.12092, appendix A;
 * openai/DALL-E, dall_e/encoder.py, decoder.py, utils.py).
 *
 * Four groups of residual blocks, y = shortcut(x) + res(x) / layers^2 with four convolutions behind
 * ReLUs in res, and halvings by the largest of 2 x 2 between the groups; the decoder mirrors it,
 * doubling pixels. A token is of 8 x 8 pixels, whatever the image's size.
 *
 * Tensors have the authors' names behind "encoder." or "decoder.", with .weight and .bias for .w
 * and .b. Images go through one after the other: the maps are large.
 */
#ifndef TACIT_DALLE_H
#define TACIT_DALLE_H

#include "conv_train.h"

#define TACIT_DALLE_GROUPS 4
#define TACIT_DALLE_PIXELS 8 /* of a token, height and width */

typedef struct tacit_dalle_config {
    size_t size;   /* of images, height and width: a multiple of TACIT_DALLE_PIXELS     */
    size_t hidden; /* channels of the first group, a multiple of 4; doubled by each other */
    size_t blocks; /* of a group */
    size_t codes;
    size_t begin; /* channels that the decoder begins with; 0: there is no decoder */
} tacit_dalle_config;

/* A convolution with its bias. */
typedef struct tacit_dalle_layer {
    tacit_convolution conv;
    tacit_param *bias;
} tacit_dalle_layer;

typedef struct tacit_dalle_block {
    size_t pixels, in, out;
    tacit_dalle_layer shortcut; /* where in is not out */
    tacit_dalle_layer res[4];
} tacit_dalle_block;

typedef struct tacit_dalle {
    tacit_dalle_config config;
    tacit_work *work;
    size_t grid, tokens; /* tokens: grid * grid, of an image */
    tacit_dalle_block *encoder, *decoder;
    tacit_dalle_layer input, output, pixels_out;
    tacit_param *codebook, *codebook_bias; /* the decoder's input (begin, codes, 1, 1), (begin) */
    float *image;                          /* (size * size, 3) */
    float *logits;                         /* (tokens, codes)  */
    float *result;                         /* (size * size, 6) */
    float *map[2], *inner, *narrow[2];     /* of a block: x and y, relu(x), a quarter as wide */
} tacit_dalle;

/* TACIT_EINVAL where the sizes do not go together. Must be closed, declared well or badly. */
tacit_status tacit_dalle_declare(tacit_dalle *dalle, const tacit_dalle_config *config,
                                 tacit_params *params, tacit_work *work, tacit_err *err);
void tacit_dalle_close(tacit_dalle *dalle);
bool tacit_dalle_plan(const tacit_dalle *dalle, size_t *total);
void tacit_dalle_take(tacit_dalle *dalle, tacit_arena *arena);

/* image (3, size, size), as 0.8 x + 0.1 of x from 0 to 1, to ids (tokens): the largest logits. */
void tacit_dalle_encode(tacit_dalle *dalle, const float *image, uint32_t *ids);
/* With a decoder: ids (tokens) to an image (3, size, size) of the same scale. */
void tacit_dalle_decode(tacit_dalle *dalle, const uint32_t *ids, float *image);

/* FLOPs of the encoding of one image. */
double tacit_dalle_encoder_flops(const tacit_dalle *dalle);

#endif
