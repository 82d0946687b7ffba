/* beit_backbone.c - see beit_backbone.h. */
#include "beit_backbone.h"

const tacit_setting tacit_beit_settings[] = {
    { "layer_scale", TACIT_SETTING_REAL, "0.1", 0, 10, NULL,
      "what the factors of each block's branches begin as; 0: there are none", false },
    { 0 },
};

void tacit_beit_backbone(const tacit_config *config, tacit_backbone_config *backbone)
{
    tacit_vit_config *vit = &backbone->vit;
    vit->position = TACIT_POSITION_NONE;
    vit->relative = TACIT_RELATIVE_SHARED;
    vit->resample = TACIT_RESAMPLE_GEOMETRIC;
    vit->layer_scale = tacit_config_number(config, "layer_scale") > 0;
}

tacit_vit_train_config tacit_beit_vit(const tacit_config *config, const tacit_vit_config *vit)
{
    tacit_vit_train_config beit = tacit_encoder_vit(config, vit);
    beit.no_k_bias = true;
    beit.layer_scale = tacit_config_number(config, "layer_scale");
    return beit;
}
