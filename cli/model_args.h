/* model_args.h - what the commands that open a backbone have in common: its options, and the line
 * that tells what was made of them. */
#ifndef TACIT_MODEL_ARGS_H
#define TACIT_MODEL_ARGS_H

#include "cli.h"

#include "extractor.h"

#define TACIT_WEIGHTS_OPTION                                                                       \
    {                                                                                              \
        "weights", "FILE|default", NULL,                                                           \
            "backbone to use: a checkpoint as published (.safetensors, .pth, .npz, ...), a hub's " \
            "folder, or 'default', a small network that is part of the program",                   \
            true                                                                                   \
    }

/* The other rows that tacit_model_args_read reads. */
#define TACIT_MODEL_OPTIONS                                                                        \
    { "arch", "NAME", NULL, "architecture by timm's name, where the file does not tell", false },  \
        { "checkpoint-key", "KEY", NULL,                                                           \
          "the network to take where the file holds several, such as teacher", false },            \
        { "allow-partial", NULL, NULL,                                                             \
          "go on where tensors are unknown, or missing: those are zeros, gains ones", false },     \
        { "features", "cls|mean|cls+mean|patch|last4", NULL,                                       \
          "class token, mean of the patch tokens, both, all patch tokens, or the class tokens of " \
          "the last 4 blocks (default: as the authors evaluate)",                                  \
          false },                                                                                 \
        { "blocks", "N", NULL,                                                                     \
          "only the first N blocks of a ViT, then its last norm: after masked modelling the last " \
          "blocks are often not the best (default: all)",                                          \
          false },                                                                                 \
        { "cache", "DIR", NULL,                                                                    \
          "keep the packed weights in DIR, an existing folder, and map them from there the next "  \
          "time (default: pack them each time)",                                                   \
          false },                                                                                 \
        { "normalize", NULL, NULL, "bring each vector, or each patch's, to length 1", false },     \
        { "size", "N|HxW", NULL, "input in pixels (default: as published)", false },               \
        { "resize", "N|HxW", NULL,                                                                 \
          "before the crop: the shorter side, or a box to be covered (default: as published)",     \
          false },                                                                                 \
        { "crop-pct", "X", NULL,                                                                   \
          "instead of --resize: the input's size over that before the crop", false },              \
        { "crop-mode", "center|squash", NULL,                                                      \
          "keep the aspect and crop the centre, or resize both sides to the input (default: as "   \
          "published)",                                                                            \
          false },                                                                                 \
        { "filter", "bilinear|bicubic|lanczos", NULL,                                              \
          "filter of the resize (default: as published)", false },                                 \
        { "resize-by", "pillow|tensor|tensor-u8", NULL,                                            \
          "whose arithmetic resizes: Pillow's, or torch's on a tensor of floats or of bytes "      \
          "(default: as published)",                                                               \
          false },                                                                                 \
        { "mean", "R,G,B", NULL,                                                                   \
          "mean to subtract, of values from 0 to 1 (default: as published)", false },              \
        { "std", "R,G,B", NULL, "standard deviation to divide by (default: as published)",         \
          false },                                                                                 \
    {                                                                                              \
        "pillow", "12|13", "13", "the release of Pillow whose resize is matched bit by bit", false \
    }

/* And the one of them whose default is the command's. */
#define TACIT_PRECISION_OPTION(fallback)                                                           \
    {                                                                                              \
        "precision", "fp32|int8|bf16", fallback,                                                   \
            "what the network multiplies in: int8 and bf16 are faster, bf16 on CPUs with "         \
            "AVX512_BF16 alone, and their vectors are near those of fp32; 'tacit drift' tells "    \
            "how near",                                                                            \
            false                                                                                  \
    }

/* Options of a model; `model` points into the struct, which must stay where it is. */
typedef struct tacit_model_args {
    tacit_model_options model;
    float mean[3], std[3];
} tacit_model_args;

tacit_status tacit_model_args_read(const tacit_args *args, tacit_model_args *out, tacit_err *err);

/* One line on stderr: what was made of the weights, and how images get to them. */
void tacit_model_say(const tacit_args *args, const tacit_model *model);

#endif
