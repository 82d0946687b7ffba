/* view_settings.h - the settings of views that joint-embedding methods share: crop, flip, colour,
 * blur, solarise, and small local crops beside the large ones. A method names the tables beside its
 * own rows; where its paper has other values than these, they stand among its defaults.
 *
 * A second view with a recipe of its own (Grill et al. 2020, arXiv:2006.07733, appendix B) differs
 * in two probabilities, blur and solarise; all else is the same.
 *
 * Multi-crop (Caron et al. 2020, arXiv:2006.09882, section 3.2): two views as ever, called global,
 * then local_crops of local_size pixels, each of a small part of the picture.
 */
#ifndef TACIT_VIEW_SETTINGS_H
#define TACIT_VIEW_SETTINGS_H

#include "config.h"
#include "views.h"

extern const tacit_setting tacit_crop_settings[], tacit_colour_settings[], tacit_local_settings[];

/* Settings of the two recipes of that appendix, among the defaults of a method whose authors took
 * them from there. */
#define TACIT_BYOL_VIEWS                                                                           \
    "brightness=0.4", "contrast=0.4", "saturation=0.2", "hue=0.1", "blur=1", "blur_second=0.1",    \
        "solarise=0", "solarise_second=0.2"

#define TACIT_GLOBAL_CROPS 2
#define TACIT_LOCAL_CROPS  10 /* at most */

/* The crop and the flip of `size` pixels, all else off. */
tacit_view tacit_view_crop(const tacit_config *config, unsigned size);

/* With colour, blur and solarise: of the first view, or of the second. */
tacit_view tacit_view_colour(const tacit_config *config, unsigned size, bool second);

/* Hook (method.h) of a method with one view, and the table of crops. */
tacit_status tacit_view_single(const tacit_config *config, unsigned size, tacit_view *views,
                               size_t *count, tacit_err *err);

/* The same of a method with two views and both tables. */
tacit_status tacit_view_pair(const tacit_config *config, unsigned size, tacit_view *views,
                             size_t *count, tacit_err *err);

/* The same of a method that has the table of local crops, too: the pair, then those. */
tacit_status tacit_view_crops(const tacit_config *config, unsigned size, tacit_view *views,
                              size_t *count, tacit_err *err);

#endif
