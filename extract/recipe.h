/* recipe.h - the recipe of the pixels: what was published with the weights, under what the user
 * says. */
#ifndef TACIT_RECIPE_H
#define TACIT_RECIPE_H

#include "dialect.h"
#include "preprocess.h"

typedef enum tacit_crop_mode {
    TACIT_CROP_CENTER, /* resize with the aspect kept, then a centre crop */
    TACIT_CROP_SQUASH, /* resize to the size itself                       */
} tacit_crop_mode;

/* What is said about it. 0, NULL and -1: nothing, what was published holds. */
typedef struct tacit_recipe_options {
    unsigned resize[2]; /* height and width before the crop; equal: of the shorter side */
    double crop_pct;    /* the input's size over that before the crop, timm's crop_pct  */
    int crop_mode;      /* tacit_crop_mode; without the two above: no crop for squash    */
    int filter, resampler;
    unsigned pillow; /* 12 or 13: 0 is 13 */
    const float *mean, *std;
} tacit_recipe_options;

/* Says nothing. */
void tacit_recipe_defaults(tacit_recipe_options *options);

/* The names of tacit_filter, tacit_resampler and tacit_crop_mode in their order; NULL past the
 * last.
 */
const char *tacit_filter_name(unsigned filter);
const char *tacit_resampler_name(unsigned resampler);
const char *tacit_crop_mode_name(unsigned mode);

/* "resize 256 bicubic as Pillow 13, crop 224 x 224" */
void tacit_recipe_text(const tacit_recipe *recipe, char *text, size_t size);

/* For an input of that size. Where only the size differs from what was published, the ratio of
 * resize to crop stays. TACIT_EINVAL where what is said cannot be. */
tacit_status tacit_recipe_make(tacit_recipe *recipe, const tacit_published *published,
                               unsigned height, unsigned width, const tacit_recipe_options *options,
                               tacit_err *err);

#endif
