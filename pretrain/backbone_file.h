/* backbone_file.h - the backbone of a run, for timm, torchvision and tacit extract.
 *
 * Safetensors with timm's names (ViT) or torchvision's (ResNet) and canonical.h's note: the whole
 * configuration, the preprocessing and the feature.
 */
#ifndef TACIT_BACKBONE_FILE_H
#define TACIT_BACKBONE_FILE_H

#include "engine.h"

/* Mean and standard deviation of the setting `normalise`. */
void tacit_normalisation(const tacit_config *config, float mean[3], float std[3]);

tacit_status tacit_backbone_file_write(const char *path, tacit_engine *engine, tacit_err *err);

#endif
