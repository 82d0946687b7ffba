/* tokenizer_vqkd.h - the settings of vector-quantised distillation as a network; see vqkd.h. */
#ifndef TACIT_TOKENIZER_VQKD_H
#define TACIT_TOKENIZER_VQKD_H

#include "encoder.h"
#include "vqkd.h"

/* target_dim: 0 to encode alone. */
tacit_vqkd_config tacit_vqkd_of(const tacit_config *config, const tacit_backbone_config *backbone,
                                size_t target_dim);

#endif
