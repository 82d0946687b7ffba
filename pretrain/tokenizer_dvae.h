/* tokenizer_dvae.h - the settings of the discrete VAE as a network; see dvae.h. */
#ifndef TACIT_TOKENIZER_DVAE_H
#define TACIT_TOKENIZER_DVAE_H

#include "config.h"
#include "dvae.h"

/* fixed: not to be trained. */
tacit_dvae_config tacit_dvae_of(const tacit_config *config, bool fixed);

#endif
