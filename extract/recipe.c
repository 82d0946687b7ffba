/* recipe.c - see recipe.h. */
#include "recipe.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_SIDE 65536

static const char *const filter_names[] = {
    [TACIT_FILTER_BILINEAR] = "bilinear",
    [TACIT_FILTER_BICUBIC] = "bicubic",
    [TACIT_FILTER_LANCZOS] = "lanczos",
};
static const char *const resampler_names[] = {
    [TACIT_RESAMPLER_PILLOW] = "pillow",
    [TACIT_RESAMPLER_TENSOR] = "tensor",
    [TACIT_RESAMPLER_TENSOR_U8] = "tensor-u8",
};
static const char *const crop_mode_names[] = {
    [TACIT_CROP_CENTER] = "center",
    [TACIT_CROP_SQUASH] = "squash",
};

#define NAME(names, i) ((i) < sizeof names / sizeof *names ? names[i] : NULL)

const char *tacit_filter_name(unsigned filter)
{
    return NAME(filter_names, filter);
}

const char *tacit_resampler_name(unsigned resampler)
{
    return NAME(resampler_names, resampler);
}

const char *tacit_crop_mode_name(unsigned mode)
{
    return NAME(crop_mode_names, mode);
}

void tacit_recipe_defaults(tacit_recipe_options *options)
{
    *options = (tacit_recipe_options){ .crop_mode = -1, .filter = -1, .resampler = -1 };
}

void tacit_recipe_text(const tacit_recipe *r, char *text, size_t size)
{
    char side[32], way[32];
    snprintf(side, sizeof side, r->resize_height == r->resize_width ? "%u" : "%u x %u",
             r->resize_height, r->resize_width);
    if (r->resampler == TACIT_RESAMPLER_PILLOW)
        snprintf(way, sizeof way, "Pillow %u", r->pillow);
    else
        snprintf(way, sizeof way, "torch's %s tensors",
                 r->resampler == TACIT_RESAMPLER_TENSOR ? "float" : "uint8");
    snprintf(text, size, "%s %s %s as %s, crop %u x %u", r->squash ? "squash" : "resize", side,
             tacit_filter_name(r->filter), way, r->height, r->width);
}

/* floor(n * ratio), where a ratio such as 1 / 0.96 may be rounded to just below a whole product. */
static unsigned times(unsigned n, double ratio)
{
    double side = floor(n * ratio + 1e-6);
    return side < 1 ? 1 : side > MAX_SIDE ? MAX_SIDE + 1 : (unsigned)side;
}

tacit_status tacit_recipe_make(tacit_recipe *r, const tacit_published *published, unsigned height,
                               unsigned width, const tacit_recipe_options *o, tacit_err *err)
{
    const float *mean = o->mean ? o->mean : published->mean,
                *std = o->std ? o->std : published->std;
    double ratio = o->crop_pct > 0                     ? 1 / o->crop_pct
                   : o->crop_mode == TACIT_CROP_SQUASH ? 1
                                                       : published->ratio;
    unsigned filter = 0;
    *r = (tacit_recipe){
        .resize_height = o->resize[0] ? o->resize[0] : times(height, ratio),
        .resize_width = o->resize[1] ? o->resize[1] : times(width, ratio),
        .squash = o->crop_mode >= 0 ? o->crop_mode == TACIT_CROP_SQUASH : published->squash,
        .height = height,
        .width = width,
        .floor_crop = published->floor_crop,
        .resampler = o->resampler >= 0      ? (tacit_resampler)o->resampler
                     : published->tensor_u8 ? TACIT_RESAMPLER_TENSOR_U8
                     : published->tensor    ? TACIT_RESAMPLER_TENSOR
                                            : TACIT_RESAMPLER_PILLOW,
        .pillow = o->pillow ? o->pillow : 13,
    };
    memcpy(r->mean, mean, sizeof r->mean);
    memcpy(r->std, std, sizeof r->std);
    while (o->filter < 0 && filter_names[filter] && strcmp(filter_names[filter], published->filter))
        if (++filter == sizeof filter_names / sizeof *filter_names)
            return tacit_fail(err, TACIT_EUNSUPPORTED,
                              "resizing by '%s' is not known: name a "
                              "filter",
                              published->filter);
    r->filter = o->filter < 0 ? (tacit_filter)filter : (tacit_filter)o->filter;
    if (r->pillow != 12 && r->pillow != 13)
        return tacit_fail(err, TACIT_EINVAL, "pillow %u: use 12 or 13", r->pillow);
    if (o->crop_pct < 0 || r->resize_height > MAX_SIDE || r->resize_width > MAX_SIDE)
        return tacit_fail(err, TACIT_EINVAL, "a crop of %g of the resized picture", o->crop_pct);
    for (int i = 0; i < 3; i++)
        if (!isfinite(mean[i]) || !isfinite(std[i]) || !(std[i] > 0))
            return tacit_fail(err, TACIT_EINVAL,
                              "the mean must be finite, the standard deviation above 0");
    return TACIT_OK;
}
