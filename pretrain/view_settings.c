/* view_settings.c - see view_settings.h. */
#include "view_settings.h"

#define REAL(name, fallback, min, max, help)                                                       \
    {                                                                                              \
        name, TACIT_SETTING_REAL, fallback, min, max, NULL, help, false                            \
    }

const tacit_setting tacit_crop_settings[] = {
    REAL("crop_min", "0.08", 0.001, 1, "least area of a crop"),
    REAL("crop_max", "1", 0.001, 1, "largest area of a crop"),
    { "filter", TACIT_SETTING_CHOICE, "bicubic", 0, 0, "bilinear|bicubic", "of the crop's resize",
      false },
    REAL("flip", "0.5", 0, 1, "probability of a horizontal flip"),
    { 0 },
};

const tacit_setting tacit_colour_settings[] = {
    REAL("jitter", "1", 0, 2, "strength of the colour jitter: times each of the four that follow"),
    REAL("brightness", "0.8", 0, 2, "change of the colour jitter"),
    REAL("contrast", "0.8", 0, 2, "change of the colour jitter"),
    REAL("saturation", "0.8", 0, 2, "change of the colour jitter"),
    REAL("hue", "0.2", 0, 0.5, "change of the colour jitter"),
    REAL("jitter_probability", "0.8", 0, 1, "of the colour jitter"),
    REAL("gray", "0.2", 0, 1, "probability of grayscale"),
    REAL("blur", "0.5", 0, 1, "probability of Gaussian blur, of 0.1 to 2"),
    REAL("blur_second", "-1", -1, 1, "the same for the second view; -1: as for the first"),
    REAL("solarise", "0", 0, 1, "probability of solarise"),
    REAL("solarise_second", "-1", -1, 1, "the same for the second view; -1: as for the first"),
    { 0 },
};

const tacit_setting tacit_local_settings[] = {
    { "local_crops", TACIT_SETTING_WHOLE, "6", 0, TACIT_LOCAL_CROPS, NULL,
      "small crops of an image, beside the two of all its size", false },
    { "local_size", TACIT_SETTING_WHOLE, "96", 1, 16384, NULL, "their height and width in pixels",
      false },
    REAL("local_min", "0.05", 0.001, 1, "least area of a small crop"),
    REAL("local_max", "0.14", 0.001, 1, "largest area of a small crop"),
    REAL("blur_local", "-1", -1, 1,
         "blur's probability for small crops; -1: as for the first view"),
    REAL("solarise_local", "-1", -1, 1, "solarise's, the same"),
    { 0 },
};

static float number(const tacit_config *config, const char *name)
{
    return (float)tacit_config_number(config, name);
}

tacit_view tacit_view_crop(const tacit_config *config, unsigned size)
{
    tacit_view v = tacit_view_plain(size);
    v.scale[0] = number(config, "crop_min");
    v.scale[1] = number(config, "crop_max");
    v.filter = tacit_config_choice(config, "filter") ? TACIT_FILTER_BICUBIC : TACIT_FILTER_BILINEAR;
    v.flip = number(config, "flip");
    return v;
}

/* The second view's, where it has one of its own. */
static float of_view(const tacit_config *config, const char *first, const char *second, bool is)
{
    float own = number(config, second);
    return is && own >= 0 ? own : number(config, first);
}

tacit_view tacit_view_colour(const tacit_config *config, unsigned size, bool second)
{
    tacit_view v = tacit_view_crop(config, size);
    float s = number(config, "jitter");
    v.jitter = s > 0 ? number(config, "jitter_probability") : 0;
    v.brightness = s * number(config, "brightness");
    v.contrast = s * number(config, "contrast");
    v.saturation = s * number(config, "saturation");
    v.hue = s * number(config, "hue");
    v.gray = number(config, "gray");
    v.blur = of_view(config, "blur", "blur_second", second);
    v.solarise = of_view(config, "solarise", "solarise_second", second);
    return v;
}

tacit_status tacit_view_single(const tacit_config *config, unsigned size, tacit_view *views,
                               size_t *count, tacit_err *err)
{
    (void)err;
    *views = tacit_view_crop(config, size);
    *count = 1;
    return TACIT_OK;
}

tacit_status tacit_view_pair(const tacit_config *config, unsigned size, tacit_view *views,
                             size_t *count, tacit_err *err)
{
    (void)err;
    *count = 2;
    for (size_t v = 0; v < 2; v++)
        views[v] = tacit_view_colour(config, size, v == 1);
    return TACIT_OK;
}

static tacit_view local_view(const tacit_config *config)
{
    tacit_view v =
        tacit_view_colour(config, (unsigned)tacit_config_whole(config, "local_size"), false);
    v.scale[0] = number(config, "local_min");
    v.scale[1] = number(config, "local_max");
    v.blur = of_view(config, "blur", "blur_local", true);
    v.solarise = of_view(config, "solarise", "solarise_local", true);
    return v;
}

tacit_status tacit_view_crops(const tacit_config *config, unsigned size, tacit_view *views,
                              size_t *count, tacit_err *err)
{
    size_t local = tacit_config_whole(config, "local_crops");
    tacit_status st = tacit_view_pair(config, size, views, count, err);
    for (size_t v = 0; v < local; v++)
        views[(*count)++] = local_view(config);
    return st;
}
