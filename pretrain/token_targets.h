/* token_targets.h - a frozen tokenizer as a source of targets: the tokens of an image's patches.
 *
 * As frozen.h has it of a backbone: the file is opened once, views are brought to what it takes
 * (pixel_match.h), and with the setting FILE goes FILE_xxh3, so that a run goes on with that file
 * alone. Where it has a decoder, tokens can be drawn. */
#ifndef TACIT_TOKEN_TARGETS_H
#define TACIT_TOKEN_TARGETS_H

#include "pixel_match.h"
#include "tokenizer.h"

typedef struct tacit_token_targets {
    tacit_tokenizer *tokenizer;
    tacit_pixel_match match;
    size_t max_batch, tokens, codes; /* tokens of an image */
    uint32_t *ids;                   /* (max_batch, tokens), of the last forward */
    tacit_pixel_match panel;         /* of what its decoder makes, if it has one */
    float *drawn;                    /* (3, its size, its size), if it has one   */
} tacit_token_targets;

/* Opens the file that `setting` names for square views of `image` pixels with `grid` patches in a
 * row, and sets or checks <setting>_xxh3 in config. TACIT_EINVAL where none is named, or it has
 * another grid. Must be closed, declared well or badly. */
tacit_status tacit_token_targets_declare(tacit_token_targets *targets, tacit_config *config,
                                         const char *setting, size_t image, size_t grid,
                                         size_t max_batch, const tacit_work *work, tacit_err *err);
void tacit_token_targets_close(tacit_token_targets *targets);
bool tacit_token_targets_plan(const tacit_token_targets *targets, size_t *total);
void tacit_token_targets_take(tacit_token_targets *targets, tacit_arena *arena);

/* images (batch, 3, image, image) of a view. Gives (batch, tokens), in raster order, until the next
 * call. */
const uint32_t *tacit_token_targets_forward(tacit_token_targets *targets, const float *images,
                                            size_t batch);

/* Of a tokenizer with a decoder: ids (tokens) as an image (3, image, image), values from 0 to 1 and
 * beyond, until the next call. */
const float *tacit_token_targets_draw(tacit_token_targets *targets, const uint32_t *ids);

#endif
