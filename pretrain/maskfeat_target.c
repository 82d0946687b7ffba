/* maskfeat_target.c - see maskfeat_target.h. */
#include "maskfeat_target.h"

#include "loss_cosine.h"

#include <string.h>

#define HOG "hog"

const tacit_setting tacit_maskfeat_target_settings[] = {
    TACIT_FROZEN_SETTINGS("target", HOG,
                          "what is predicted: hog, or a network's features, by a file as 'tacit "
                          "extract --weights' has it"),
    { "cell", TACIT_SETTING_WHOLE, "8", 1, 1024, NULL,
      "hog: height and width in pixels of what has a histogram; a patch is divided into such",
      false },
    { 0 },
};

bool tacit_maskfeat_is_deep(const tacit_config *config)
{
    return strcmp(tacit_config_string(config, "target"), HOG) != 0;
}

static tacit_status declare_deep(tacit_maskfeat_target *t, const tacit_learner *l, tacit_err *err)
{
    const tacit_vit_config *vit = &l->backbone.vit;
    tacit_cosine_patches_declare(l->part, l->work);
    tacit_status st = tacit_frozen_declare(&t->frozen, l->config, "target", vit->height,
                                           vit->height / vit->patch, l->part, l->work, err);
    t->values = t->frozen.dim;
    return st;
}

tacit_status tacit_maskfeat_target_declare(tacit_maskfeat_target *t, const tacit_learner *l,
                                           tacit_err *err)
{
    const tacit_vit_config *vit = &l->backbone.vit;
    size_t cell = tacit_config_whole(l->config, "cell");
    *t = (tacit_maskfeat_target){ .work = l->work, .deep = tacit_maskfeat_is_deep(l->config) };
    if (t->deep)
        return declare_deep(t, l, err);
    if (vit->patch % cell)
        return tacit_fail(err, TACIT_EINVAL,
                          "patches of %u do not divide into cells of %zu: set cell", vit->patch,
                          cell);
    t->hog = (tacit_hog_target){ vit->height, vit->patch, cell };
    t->values = tacit_hog_values(&t->hog);
    tacit_hog_loss_declare(&t->hog, l->part, l->work);
    return tacit_frozen_none(l->config, "target", err);
}

void tacit_maskfeat_target_close(tacit_maskfeat_target *t)
{
    tacit_frozen_close(&t->frozen);
}

bool tacit_maskfeat_target_plan(const tacit_maskfeat_target *t, size_t *total)
{
    return t->deep ? tacit_frozen_plan(&t->frozen, total)
                   : tacit_arena_plan(total, tacit_hog_image_values(&t->hog), sizeof(float)) &&
                         tacit_arena_plan(total, t->values, sizeof(float));
}

void tacit_maskfeat_target_take(tacit_maskfeat_target *t, tacit_arena *arena)
{
    if (t->deep) {
        tacit_frozen_take(&t->frozen, arena);
        return;
    }
    t->cells = tacit_arena_take(arena, tacit_hog_image_values(&t->hog), sizeof(float));
    t->patch = tacit_arena_take(arena, t->values, sizeof(float));
}

double tacit_maskfeat_loss(tacit_maskfeat_target *t, const tacit_part *part, tacit_masked_vit *net)
{
    const float *images = part->batch->views[0];
    double share = 1 / (double)part->count;
    if (!t->deep)
        return tacit_hog_loss(&t->hog, t->work, images, part->images, net->first, net->patches,
                              share, net->predictions, net->ld);
    float *features = tacit_frozen_forward(&t->frozen, images, part->images);
    return tacit_cosine_patches_loss(t->work, part->images, net->first, net->patches,
                                     t->frozen.patches, t->values, share, features,
                                     net->predictions, net->ld);
}

double tacit_maskfeat_target_flops(const tacit_maskfeat_target *t)
{
    return t->deep ? tacit_frozen_flops(&t->frozen) : 0;
}
