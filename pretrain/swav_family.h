/* swav_family.h - what SwAV and DeepCluster-v2 have in common, as both come from one repository:
 * the network, its settings and the recipe (Caron et al. 2020, arXiv:2006.09882;
 * facebookresearch/swav, src/resnet50.py and scripts).
 *
 * The head is Linear, BN, ReLU, Linear, over all crops at once. (There one deviation of pixels is
 * 0.228, here ImageNet's 0.229; blur is Pillow's, not OpenCV's; the warm-up reaches its end one
 * step later.)
 */
#ifndef TACIT_SWAV_FAMILY_H
#define TACIT_SWAV_FAMILY_H

#include "tower.h"

/* temperature, prototypes, head_hidden, head_dim. */
extern const tacit_setting tacit_swav_settings[];

/* The defaults of scripts/swav_100ep_pretrain.sh and deepclusterv2_800ep_pretrain.sh, but for the
 * epochs. */
#define TACIT_SWAV_DEFAULTS                                                                        \
    "arch=resnet50", "optimiser=larc", "lr=4.8", "lr_final=0.0048", "lr_start=0.3",                \
        "lr_scale=none", "batch=4096", "accumulate=128", "warmup_epochs=10", "weight_decay=1e-6",  \
        "crop_min=0.14", "filter=bilinear"

/* The preset for a first look. */
extern const char *const tacit_swav_quick[];

/* All crops' tower. */
tacit_tower_config tacit_swav_tower(const tacit_config *config);

#endif
