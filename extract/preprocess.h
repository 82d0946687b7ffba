/* preprocess.h - from RGB8 of any size to the planar floats a backbone takes.
 *
 * Pillow's resize (8-bit, fixed point; the order of its passes by version) or torch's of a tensor,
 * torchvision's size rules and centre crop, then (v / 255 - mean) / std through a table of 256
 * values a channel: the same floats as ToTensor and Normalize. Only rows and columns that the crop
 * keeps are computed.
 */
#ifndef TACIT_PREPROCESS_H
#define TACIT_PREPROCESS_H

#include "kernels.h"
#include "pool.h"
#include "resize_u8.h"
#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum tacit_resampler {
    TACIT_RESAMPLER_PILLOW,    /* Image.resize: bytes, 22 bits of fixed point                     */
    TACIT_RESAMPLER_TENSOR,    /* torch's interpolate(antialias=True) of floats, never rounded    */
    TACIT_RESAMPLER_TENSOR_U8, /* the same of a uint8 tensor: weights of 16 bits, horizontal first
                                */
} tacit_resampler;

typedef struct tacit_recipe {
    /* The box that the resized picture just covers, its aspect kept: where the two are equal, that
     * is torchvision's Resize(n), which cuts the longer side off to whole pixels; else timm's
     * ResizeKeepRatio, which rounds. */
    unsigned resize_height, resize_width;
    bool squash;            /* instead: to the box itself, aspect ignored                         */
    unsigned height, width; /* of the centre crop, torchvision's CenterCrop((h, w))               */
    bool floor_crop;        /* half of an odd difference is cut down, as transformers does it     */
    tacit_filter filter;
    tacit_resampler resampler;
    unsigned pillow;       /* 13: order of passes as Pillow 13; 12: as 12.1 and before      */
    float mean[3], std[3]; /* of values in [0, 1]                                           */
} tacit_recipe;

/* One for each thread that preprocesses: the recipe with its tables and scratch, which grows to
 * the largest image seen. */
typedef struct tacit_preprocessor tacit_preprocessor;

tacit_status tacit_preprocessor_open(tacit_preprocessor **pre, const tacit_recipe *recipe,
                                     const tacit_kernels *kernels, tacit_err *err);
void tacit_preprocessor_close(tacit_preprocessor **pre);

/* rgb: (height, width, 3), packed; planar: (3, recipe.height, recipe.width). pool may be NULL.
 * TACIT_ELIMIT where the resized picture would be beyond all reason; TACIT_ENOMEM. */
tacit_status tacit_preprocess(tacit_preprocessor *pre, const uint8_t *rgb, size_t width,
                              size_t height, float *planar, tacit_pool *pool, tacit_err *err);

/* For tests and tools: the resized, cropped picture before normalisation, (height, width, 3).
 * TACIT_EINVAL with TACIT_RESAMPLER_TENSOR, where it never is of bytes. */
tacit_status tacit_preprocess_rgb8(tacit_preprocessor *pre, const uint8_t *rgb, size_t width,
                                   size_t height, uint8_t *out, tacit_pool *pool, tacit_err *err);

/* Pillow's Image.resize((out_width, out_height), filter) on RGB8, in full. */
tacit_status tacit_resize_rgb8(const tacit_kernels *kernels, const uint8_t *rgb, size_t width,
                               size_t height, uint8_t *out, size_t out_width, size_t out_height,
                               tacit_filter filter, unsigned pillow, tacit_pool *pool,
                               tacit_err *err);

#endif
