/* maskfeat_target.h - what MaskFeat predicts of a patch, and its loss, by the setting `target`:
 * histograms of oriented gradients (loss_hog.h), or the features that a network which was trained
 * before has of the whole image (Wei et al. 2021, section 3.2, deep features: frozen.h, with the
 * cosine distance of loss_cosine.h).
 */
#ifndef TACIT_MASKFEAT_TARGET_H
#define TACIT_MASKFEAT_TARGET_H

#include "frozen.h"
#include "loss_hog.h"
#include "masked_vit.h"
#include "method.h"

extern const tacit_setting tacit_maskfeat_target_settings[];

typedef struct tacit_maskfeat_target {
    const tacit_work *work;
    bool deep;
    size_t values;       /* of a patch */
    tacit_frozen frozen; /* deep */
    tacit_hog_target hog;
    float *cells, *patch; /* to draw: an image's histograms, and a patch's */
} tacit_maskfeat_target;

bool tacit_maskfeat_is_deep(const tacit_config *config);

/* Must be closed, declared well or badly. */
tacit_status tacit_maskfeat_target_declare(tacit_maskfeat_target *target,
                                           const tacit_learner *learner, tacit_err *err);
void tacit_maskfeat_target_close(tacit_maskfeat_target *target);
bool tacit_maskfeat_target_plan(const tacit_maskfeat_target *target, size_t *total);
void tacit_maskfeat_target_take(tacit_maskfeat_target *target, tacit_arena *arena);

/* The mean over the masked patches of a part, as its share of the step's; the predictions become
 * their gradients. */
double tacit_maskfeat_loss(tacit_maskfeat_target *target, const tacit_part *part,
                           tacit_masked_vit *net);

/* FLOPs of an image's targets. */
double tacit_maskfeat_target_flops(const tacit_maskfeat_target *target);

#endif
