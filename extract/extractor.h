/* extractor.h - a model, the recipe of its pixels and its features, opened once; and sessions.
 *
 * An extractor is read-only after open and shared by all threads. A session is what one thread (or
 * one pool) needs to turn images into vectors: every buffer is planned and taken when it is opened,
 * and the decoder's and the preprocessor's grow to the largest image seen. The vector of an image
 * is a function of its bytes and the extractor alone.
 */
#ifndef TACIT_EXTRACTOR_H
#define TACIT_EXTRACTOR_H

#include "backbone.h"
#include "image.h"
#include "kernels.h"
#include "packed_cache.h"
#include "pool.h"
#include "precision.h"
#include "preprocess.h"
#include "recipe.h"
#include "status.h"
#include "weights.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tacit_model_options {
    const char *weights; /* a checkpoint, or TACIT_WEIGHTS_DEFAULT                             */
    tacit_weights_options how; /* to read them                                                 */
    int features;     /* tacit_features; -1: what was published                             */
    bool normalize;   /* each vector to length 1; with patch features each patch's          */
    unsigned size[2]; /* height and width of the input; 0: what was published               */
    unsigned blocks;  /* of a ViT, the first that run; 0: all                               */
    tacit_precision precision;
    const char *cache; /* a folder for packed weights, see packed_cache.h; NULL: none        */
    tacit_recipe_options recipe;
} tacit_model_options;

/* All as it was published, in fp32. */
void tacit_model_defaults(tacit_model_options *options);

/* "cls", "mean", "cls+mean", "patch", "last4" in the order of tacit_features; NULL past the last.
 */
const char *tacit_features_name(unsigned features);
/* "fp32", "int8", "bf16" likewise. */
const char *tacit_precision_name(unsigned precision);

typedef struct tacit_model {
    tacit_backbone *backbone;
    tacit_packed_cache *cache; /* NULL: none */
    const tacit_kernels *kernels;
    tacit_recipe recipe;
    tacit_features features;
    tacit_precision precision;
    bool normalize;
    unsigned blocks;  /* 0: all                                                          */
    size_t dim;       /* floats of one image's features                                  */
    unsigned grid[2]; /* vectors of an image: rows and columns of patches, else 1 and 1  */
    char arch[64];    /* timm's name, or the sizes where no name fits                    */
    char dialect[64]; /* whose file it is                                                 */
    char pixels[32];  /* the file that decided about the recipe; empty: the dialect      */
    char note[256];   /* one line on what had to be chosen; empty: nothing               */
    uint64_t hash;    /* XXH3-64 of the file's bytes, where it was wanted                 */
} tacit_model;

/* Opens and packs; the pool (may be NULL) only helps to load. want_hash: model->hash is needed. A
 * failed open leaves nothing to close. */
tacit_status tacit_model_open(tacit_model *model, const tacit_model_options *options,
                              bool want_hash, tacit_pool *pool, tacit_err *err);
void tacit_model_close(tacit_model *model);

/* The shape of one image's features, for tacit_output_open; returns its rank. */
unsigned tacit_model_shape(const tacit_model *model, size_t shape[3]);

typedef struct tacit_session_times {
    double decode, preprocess, embed; /* seconds of this session's thread */
} tacit_session_times;

typedef struct tacit_session {
    const tacit_model *model;
    tacit_pool *pool; /* works inside one image; NULL: the calling thread alone */
    size_t batch;
    tacit_image image;
    tacit_preprocessor *pre;
    float *planar; /* (batch, 3, height, width) */
    void *scratch;
    tacit_session_times times;
} tacit_session;

tacit_status tacit_session_open(tacit_session *session, const tacit_model *model, size_t batch,
                                tacit_pool *pool, tacit_err *err);
void tacit_session_close(tacit_session *session);

/* Puts an image into place `at` < batch: encoded bytes, or (height, width, 3) RGB8. */
tacit_status tacit_session_put(tacit_session *session, size_t at, const void *bytes, size_t size,
                               tacit_err *err);
tacit_status tacit_session_put_rgb8(tacit_session *session, size_t at, const uint8_t *rgb,
                                    size_t width, size_t height, tacit_err *err);

/* The features of places [0, count) to out (count, dim), not normalised. */
void tacit_session_embed(tacit_session *session, size_t count, float *out);

/* The end of one image's features, in place: normalised where the model is to. TACIT_EFORMAT where
 * they are not finite. */
tacit_status tacit_model_finish(const tacit_model *model, float *features, tacit_err *err);

#endif
