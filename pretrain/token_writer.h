/* token_writer.h - a set of images to a file of their tokens.
 *
 * A .npy of int32, (images, tokens), a row for each image in the order of the set; of an image that
 * cannot be used all are -1. An image is its centre square at the tokenizer's size. The file has
 * the same bytes whatever the threads, the ISA and the batch, and is there whole or not at all.
 */
#ifndef TACIT_TOKEN_WRITER_H
#define TACIT_TOKEN_WRITER_H

#include "dataset.h"
#include "kernels.h"
#include "pool.h"
#include "tokenizer.h"

#include <stdatomic.h>

typedef struct tacit_token_options {
    const char *tokenizer; /* its file                     */
    const char *images;    /* what tacit_dataset_open takes */
    tacit_dataset_kind kind;
    const char *out;
    size_t batch; /* images that are encoded together */
    const tacit_kernels *kernels;
    tacit_pool *pool;
    const atomic_int *stop;                   /* not 0: leave without a file; may be NULL */
    void (*bad)(void *ctx, const char *line); /* an image that cannot be used; may be NULL */
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* total 0: not known; may be NULL
                                                                 */
    void *ctx;
} tacit_token_options;

typedef struct tacit_token_result {
    tacit_tokenizer_info info;
    uint64_t images, bad; /* rows, and how many of them are -1 */
    double codes_used;    /* share of the codes that came up   */
    double perplexity;    /* exp of the entropy of how often   */
} tacit_token_result;

/* TACIT_ECANCELLED where `stop` ended it. */
tacit_status tacit_tokens_write(const tacit_token_options *options, tacit_token_result *result,
                                tacit_err *err);

/* What a tokenizer makes of the first `count` images, as a sheet (pictures.h); TACIT_EUNSUPPORTED
 * where it makes no pictures, or was not trained here. */
tacit_status tacit_token_pictures(const tacit_token_options *options, const char *out, size_t count,
                                  tacit_err *err);

#endif
