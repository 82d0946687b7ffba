/* beit_backbone.h - the ViT of BEiT, which SimMIM has, too: no table of positions but relative
 * biases that all blocks share, LayerScale, and a bias of queries and values but not of keys
 * (beit/modeling_pretrain.py of microsoft/unilm; models/vision_transformer.py of microsoft/SimMIM).
 */
#ifndef TACIT_BEIT_BACKBONE_H
#define TACIT_BEIT_BACKBONE_H

#include "encoder.h"

extern const tacit_setting tacit_beit_settings[];

/* Hook (method.h): what its backbone is made of. */
void tacit_beit_backbone(const tacit_config *config, tacit_backbone_config *backbone);

/* The same to be trained, which tacit_vit_train_as_beit then gives its initial values. */
tacit_vit_train_config tacit_beit_vit(const tacit_config *config, const tacit_vit_config *vit);

#endif
