/* vqkd.h - vector-quantised knowledge distillation in training: a ViT, the nearest codes of its
 * patches, a small ViT that sees those alone (BEiT v2, Peng et al. 2022, arXiv:2208.06366, section
 * 2.1; microsoft/unilm's beit2, modeling_vqkd.py, norm_ema_quantizer.py).
 *
 * The encoder's patches go through Linear, tanh and Linear to vectors of code_dim, which are
 * normalised; the code is the one with the largest product. The decoder gets the code where the
 * vector was, and its gradient goes to the vector as it is (straight through). Codes do not learn
 * by gradients: tacit_vqkd_update moves each to the mean of the vectors that chose it.
 *
 * Tensors have the authors' names, but the encoder's have no prefix, and are timm's.
 */
#ifndef TACIT_VQKD_H
#define TACIT_VQKD_H

#include "vit_train.h"

typedef struct tacit_vqkd_config {
    tacit_vit_train_config encoder;
    unsigned decoder_depth; /* its width and heads are the encoder's */
    size_t codes, code_dim;
    size_t target_dim; /* values of a prediction; 0: there is no decoder, nor a training */
} tacit_vqkd_config;

/* Linear, tanh, Linear. */
typedef struct tacit_task_layer {
    tacit_dense first, second;
    float *middle; /* (rows, width), tight: behind tanh */
} tacit_task_layer;

typedef struct tacit_vqkd {
    tacit_vqkd_config config;
    tacit_work *work;
    size_t max_batch, batch, patches, tokens; /* of an image; tokens: patches and a class token */
    tacit_vit_train encoder;
    tacit_task_layer encode, decode;
    tacit_param *codebook; /* quantize.embedding.weight (codes, code_dim), of length 1 */
    tacit_dense embed;     /* decoder.patch_embed.proj */
    tacit_param *cls, *positions;
    tacit_trunk decoder;
    float *raw;         /* (batch * tokens, code_dim): before they are normalised            */
    float *vectors;     /* (batch * patches, code_dim): of length 1                           */
    float *quantised;   /* (batch * patches, code_dim): their codes                           */
    uint32_t *ids;      /* (batch * patches)                                                  */
    float *predictions; /* (batch * tokens, target_dim), of class tokens without a meaning    */
    float *dvectors;    /* (batch * patches, code_dim)                                        */
    float *embedded;    /* (batch * patches, dim), decoder.ld apart                           */
    float *d;           /* (batch * tokens, dim), decoder.ld apart                            */
    float *sums;        /* (codes, code_dim): of the step's vectors, by code                  */
    float *bins;        /* (codes): how many they are                                         */
} tacit_vqkd;

/* Must be closed, declared well or badly. */
tacit_status tacit_vqkd_declare(tacit_vqkd *vqkd, const tacit_vqkd_config *config, size_t max_batch,
                                tacit_params *params, tacit_work *work, tacit_err *err);
void tacit_vqkd_close(tacit_vqkd *vqkd);
bool tacit_vqkd_plan(const tacit_vqkd *vqkd, size_t *total);
void tacit_vqkd_take(tacit_vqkd *vqkd, tacit_arena *arena);

/* images (batch, 3, size, size) to vectors. drop: as for a trunk. */
void tacit_vqkd_encode(tacit_vqkd *vqkd, const float *images, size_t batch, bool drop);
/* Their codes: ids and quantised. */
void tacit_vqkd_quantise(tacit_vqkd *vqkd);
/* From quantised to predictions. */
void tacit_vqkd_decode(tacit_vqkd *vqkd);
/* The commitment, beta times the mean over `of` values of (code - vector)^2; its gradient goes to
 * dvectors. */
double tacit_vqkd_commitment(tacit_vqkd *vqkd, double beta, double of);
/* From the gradients in predictions and dvectors to those of the parameters. */
void tacit_vqkd_backward(tacit_vqkd *vqkd);

/* Of a step's parts: forgets all, takes in this part's vectors, and then moves the codes
 * (norm_ema): code = unit(decay code + (1 - decay) unit(mean)), and the same code where there are
 * none. */
void tacit_vqkd_clear(tacit_vqkd *vqkd);
void tacit_vqkd_gather(tacit_vqkd *vqkd);
void tacit_vqkd_update(tacit_vqkd *vqkd, double decay);

/* FLOPs of one image's codes. */
double tacit_vqkd_encode_flops(const tacit_vqkd *vqkd);
/* FLOPs of a forward and a backward of one image. */
double tacit_vqkd_flops(const tacit_vqkd *vqkd);

#endif
