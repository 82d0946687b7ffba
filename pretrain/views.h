/* views.h - the random views of training: crop, flip, colour, blur, solarise, normalise.
 *
 * What is drawn is apart from what is done. tacit_view_draw is a function of (seed, epoch, sample,
 * view) and the picture's size alone; tacit_view_apply does what the draws say, with the pixels
 * that torchvision's transforms on PIL images (Pillow 13) give for them, byte for byte before
 * normalisation: RandomResizedCrop, hflip, ColorJitter, Grayscale, ImageFilter.GaussianBlur,
 * solarize, ToTensor, Normalize, in this order. (A flip may stand anywhere in a chain of these: all
 * commute with it.)
 */
#ifndef TACIT_VIEWS_H
#define TACIT_VIEWS_H

#include "kernels.h"
#include "preprocess.h"
#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* How views of one kind are drawn. Probabilities are in [0, 1]; 0 turns an operation off. */
typedef struct tacit_view {
    unsigned size;       /* of the square result                                          */
    float scale[2];      /* the crop's share of the area                                  */
    float ratio[2];      /* its width / height, drawn uniformly in the logarithm          */
    float centre;        /* not 0: no draws, the central square of this share of the shorter side */
    tacit_filter filter; /* TACIT_FILTER_BICUBIC or TACIT_FILTER_BILINEAR                 */
    float flip;          /* probability                                                   */
    float jitter;        /* probability of the four that follow, in a random order        */
    float brightness, contrast, saturation; /* x: a factor from [max(0, 1 - x), 1 + x]          */
    float hue;             /* x: a shift from [-x, x], in turns; at most 0.5                */
    float gray;            /* probability                                                   */
    float blur, sigma[2];  /* probability, and the range of Pillow's radius                 */
    float solarise;        /* probability                                                   */
    unsigned threshold;    /* from which on solarise inverts: 128                           */
    float mean[3], std[3]; /* of values in [0, 1]                                           */
} tacit_view;

/* RandomResizedCrop(size, scale 0.08 to 1, ratio 3/4 to 4/3, bicubic), a flip with probability
 * 0.5, ImageNet's mean and deviation, threshold 128, sigma 0.1 to 2; all else off. */
tacit_view tacit_view_plain(unsigned size);

/* TACIT_EINVAL, naming it, where a value is out of its range. */
tacit_status tacit_view_check(const tacit_view *view, tacit_err *err);

/* torchvision's numbers of ColorJitter's operations. */
typedef enum tacit_jitter {
    TACIT_JITTER_BRIGHTNESS,
    TACIT_JITTER_CONTRAST,
    TACIT_JITTER_SATURATION,
    TACIT_JITTER_HUE
} tacit_jitter;

/* What was drawn for one view. */
typedef struct tacit_view_draws {
    uint32_t left, top, width, height; /* of the crop, inside the picture                        */
    bool flip;
    unsigned jitters;  /* how many of the following are done                                    */
    uint8_t jitter[4]; /* a tacit_jitter each, in the order of doing                            */
    float factor[4];   /* by tacit_jitter: >= 0; of the hue in [-0.5, 0.5]                      */
    bool gray, blur, solarise;
    float sigma; /* >= 0 */
} tacit_view_draws;

/* Draws view number `index` of a sample whose picture is width x height pixels, both > 0. */
void tacit_view_draw(const tacit_view *view, size_t width, size_t height, uint64_t seed,
                     uint64_t epoch, uint64_t sample, unsigned index, tacit_view_draws *draws);

/* One for each thread that makes views: their tables, and scratch that grows to the largest. */
typedef struct tacit_viewer tacit_viewer;

tacit_status tacit_viewer_open(tacit_viewer **viewer, const tacit_view *views, size_t count,
                               const tacit_kernels *kernels, tacit_err *err);
void tacit_viewer_close(tacit_viewer **viewer);

/* rgb (height, width, 3), packed, to planar (3, size, size), as views[index] and the draws say. The
 * crop lies inside the picture. TACIT_ENOMEM is the one failure. */
tacit_status tacit_view_apply(tacit_viewer *viewer, unsigned index, const tacit_view_draws *draws,
                              const uint8_t *rgb, size_t width, size_t height, float *planar,
                              tacit_err *err);

/* The same before normalisation: bytes, (3, size, size). */
tacit_status tacit_view_pixels(tacit_viewer *viewer, unsigned index, const tacit_view_draws *draws,
                               const uint8_t *rgb, size_t width, size_t height, uint8_t *planar,
                               tacit_err *err);

#endif
