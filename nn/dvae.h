/* dvae.h - a small discrete VAE in training: convolutions, a codebook, convolutions (the
 * DiscreteVAE of microsoft/unilm's beit, modeling_discrete_vae.py, after lucidrains'
 * DALLE-pytorch), whose names its tensors have.
 *
 * The encoder has `stages` stages of a 4 x 4 convolution of stride 2, ReLU, and a residual block of
 * 3 x 3, 3 x 3 and 1 x 1, then a 1 x 1 convolution to the logits of all codes; the decoder mirrors
 * it with transposed convolutions. In training the decoder sees a soft choice among the codes,
 * softmax((logits + g) / temperature) E with Gumbel noise g (Jang et al. 2016, arXiv:1611.01144;
 * Maddison et al. 2016, arXiv:1611.00712); a token is the largest logit.
 *
 * Pixels and logits of an image are rows, left to right and down; so are its tokens.
 */
#ifndef TACIT_DVAE_H
#define TACIT_DVAE_H

#include "conv_stack.h"

#define TACIT_DVAE_STAGES 6 /* at most */

typedef struct tacit_dvae_config {
    size_t size;       /* of images, height and width: a multiple of 2^stages */
    size_t stages;     /* a token is of 2^stages pixels */
    size_t hidden;     /* channels */
    size_t codes, dim; /* of the codebook */
    bool fixed;        /* it is not trained */
} tacit_dvae_config;

typedef struct tacit_dvae {
    tacit_dvae_config config;
    tacit_work *work;
    size_t max_batch, batch, grid, tokens; /* tokens: grid * grid, of an image */
    tacit_conv_stack encoder, decoder;
    tacit_dense codebook; /* (codes, dim) */
    float temperature;
    float *pixels;  /* (batch, size * size, 3), what it takes           */
    float *logits;  /* (batch, tokens, codes)                           */
    float *choice;  /* (batch, tokens, codes): noise, then soft choices */
    float *sampled; /* (batch, tokens, dim), what the decoder sees      */
    float *result;  /* (batch, size * size, 3)                          */
    float *d;       /* (batch, tokens, codes)                           */
    float *dsampled;
    const float *images;
} tacit_dvae;

/* TACIT_EINVAL where the sizes do not go together. Must be closed, declared well or badly. */
tacit_status tacit_dvae_declare(tacit_dvae *dvae, const tacit_dvae_config *config, size_t max_batch,
                                tacit_params *params, tacit_work *work, tacit_err *err);
void tacit_dvae_close(tacit_dvae *dvae);
bool tacit_dvae_plan(const tacit_dvae *dvae, size_t *total);
void tacit_dvae_take(tacit_dvae *dvae, tacit_arena *arena);

/* images (batch, 3, size, size) to logits. */
void tacit_dvae_encode(tacit_dvae *dvae, const float *images, size_t batch);
/* The largest of each row of logits, the first of equals: ids (rows). */
void tacit_dvae_tokens(const tacit_dvae *dvae, size_t rows, const float *logits, uint32_t *ids);
/* ids (batch, tokens) to result; of a fixed one one image at a time. */
void tacit_dvae_decode(tacit_dvae *dvae, const uint32_t *ids, size_t batch);
/* From logits and the noise that `choice` holds to result. */
void tacit_dvae_sample(tacit_dvae *dvae, float temperature);
/* Behind that: dresult (batch, size * size, 3) and dlogits (batch, tokens, codes), what the logits'
 * gradient has from elsewhere. Both are overwritten; they may be result and logits. */
void tacit_dvae_backward(tacit_dvae *dvae, float *dresult, float *dlogits);

/* FLOPs of a forward of one image: of the encoder, and of all the rest. */
double tacit_dvae_encoder_flops(const tacit_dvae *dvae);
double tacit_dvae_decoder_flops(const tacit_dvae *dvae);

#endif
