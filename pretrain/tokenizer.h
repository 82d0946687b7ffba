/* tokenizer.h - images to tokens, by a tokenizer that 'tacit tokenizer train' wrote, or DALL-E's or
 * BEiT v2's as they are published (tokenizer_published.h).
 *
 * A token is the place of a code in a codebook; an image has grid x grid of them, row by row. They
 * are the codes that are most likely, or nearest: nothing is drawn. The tokens of an image depend
 * on it and on the file alone, not on threads, ISA or the images beside it.
 */
#ifndef TACIT_TOKENIZER_H
#define TACIT_TOKENIZER_H

#include "kernels.h"
#include "pool.h"
#include "status.h"

#include <stdbool.h>

typedef struct tacit_tokenizer_info {
    char kind[16];         /* "dvae", "vqkd", or "dall-e"                      */
    size_t size;           /* height and width of an image in pixels         */
    size_t grid;           /* tokens side by side                            */
    size_t codes;          /* of the codebook: tokens are less               */
    bool published;        /* by its authors, else trained here                */
    bool decodes;          /* there is a decoder to pixels                     */
    float mean[3], std[3]; /* that its pixels are to be normalised by          */
} tacit_tokenizer_info;

typedef struct tacit_tokenizer tacit_tokenizer;

/* The file RUN/tokenizer.safetensors, or a published one, for up to max_batch images at a time. All
 * memory is taken here, and none later. grid: the tokens side by side that are wanted of one that
 * takes images of any size, which is DALL-E's; 0: as BEiT has them, 14. TACIT_EFORMAT where the
 * file is no tokenizer. */
tacit_status tacit_tokenizer_open(tacit_tokenizer **tokenizer, const char *path, size_t grid,
                                  size_t max_batch, const tacit_kernels *kernels, tacit_pool *pool,
                                  tacit_err *err);
/* What is known of a file without its values. */
tacit_status tacit_tokenizer_peek(const char *path, tacit_tokenizer_info *info, tacit_err *err);
/* Accepts NULL, and sets the handle to NULL. */
void tacit_tokenizer_close(tacit_tokenizer **tokenizer);

const tacit_tokenizer_info *tacit_tokenizer_info_of(const tacit_tokenizer *tokenizer);
/* What it holds, in bytes. */
size_t tacit_tokenizer_bytes(const tacit_tokenizer *tokenizer);

/* images (batch, 3, size, size), normalised; ids (batch, grid * grid). */
void tacit_tokenizer_encode(tacit_tokenizer *tokenizer, const float *images, size_t batch,
                            uint32_t *ids);
/* FLOPs of an image's tokens. */
double tacit_tokenizer_flops(const tacit_tokenizer *tokenizer);

/* Of one that decodes: ids (batch, grid * grid) to images (batch, 3, size, size), normalised as
 * those that it takes. */
void tacit_tokenizer_decode(tacit_tokenizer *tokenizer, const uint32_t *ids, size_t batch,
                            float *images);

#endif
