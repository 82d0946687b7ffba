/* pixel_match.h - a run's views as another network takes them: normalised by its own mean and
 * deviation, and resampled (torch's antialiased bicubic, nothing clipped) to its size. */
#ifndef TACIT_PIXEL_MATCH_H
#define TACIT_PIXEL_MATCH_H

#include "config.h"
#include "dense.h"
#include "regrid.h"

typedef struct tacit_pixel_match {
    const tacit_work *work;
    size_t chunk;             /* images at a time, at most */
    size_t image, side;       /* pixels of a side: of a view, and of what is wanted */
    float gain[3], offset[3]; /* of each colour */
    tacit_regrid regrid;      /* of a plane, where side is not image */
    double *lines;            /* of each worker */
    float *input;             /* (chunk, 3, side, side); NULL: views are taken as they are */
} tacit_pixel_match;

/* Views of `image` pixels that the setting `normalise` has normalised, to those of `side` pixels
 * that mean and std have. */
void tacit_pixel_match_declare(tacit_pixel_match *match, const tacit_config *config,
                               const float mean[3], const float std[3], size_t image, size_t side,
                               size_t chunk, const tacit_work *work);
/* The same of images that own_mean and own_std have. */
void tacit_pixel_match_between(tacit_pixel_match *match, const float own_mean[3],
                               const float own_std[3], const float mean[3], const float std[3],
                               size_t image, size_t side, size_t chunk, const tacit_work *work);
bool tacit_pixel_match_plan(const tacit_pixel_match *match, size_t *total);
void tacit_pixel_match_take(tacit_pixel_match *match, tacit_arena *arena);

/* images (count, 3, image, image), count <= chunk, to (count, 3, side, side), until the next call:
 * images themselves where they are what is wanted. */
const float *tacit_pixel_match_forward(tacit_pixel_match *match, const float *images, size_t count);

#endif
