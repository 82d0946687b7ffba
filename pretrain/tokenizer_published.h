/* tokenizer_published.h - tokenizers as their authors publish them.
 *
 * DALL-E's discrete VAE, a state dict of dall_e/encoder.py's Encoder with the names of that file
 * ("blocks.group_1.block_1.res_path.conv_1.w"), alone or behind "encoder.", and if it is there that
 * of decoder.py's Decoder behind "decoder."; it takes images of any size. VQ-KD of BEiT v2
 * (modeling_vqkd.py): "encoder.*", "encode_task_layer.*" and "quantize.embedding.weight", behind
 * "model." or nothing; what else is in the file, its decoder and teacher, is left.
 */
#ifndef TACIT_TOKENIZER_PUBLISHED_H
#define TACIT_TOKENIZER_PUBLISHED_H

#include "dalle.h"
#include "dialect.h"
#include "vqkd.h"

typedef enum tacit_published_kind {
    TACIT_PUBLISHED_NONE,
    TACIT_PUBLISHED_DALLE,
    TACIT_PUBLISHED_VQKD,
} tacit_published_kind;

typedef struct tacit_published_tokenizer {
    tacit_published_kind kind;
    tacit_tensor_source raw;
    char prefix[128];         /* of the encoder's names, or of all */
    char decoder_prefix[128]; /* of DALL-E's decoder */
    tacit_dalle_config dalle; /* one of the two; size 0 */
    tacit_vqkd_config vqkd;
    tacit_dialect dialect; /* of VQ-KD's encoder */
} tacit_published_tokenizer;

/* What raw, which must stay, holds: the kind is TACIT_PUBLISHED_NONE where it is none of them.
 * TACIT_EUNSUPPORTED or TACIT_EFORMAT where it is one, and cannot be used. Must be closed, opened
 * well or badly. */
tacit_status tacit_published_tokenizer_open(tacit_published_tokenizer *published,
                                            const tacit_tensor_source *raw, tacit_err *err);
void tacit_published_tokenizer_close(tacit_published_tokenizer *published);

/* The values of all tensors that the network declared in params, which were opened. */
tacit_status tacit_published_tokenizer_load(const tacit_published_tokenizer *published,
                                            tacit_params *params, tacit_err *err);

#endif
