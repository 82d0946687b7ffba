/* methods.c - the lists of methods and tokenizers. See method.h. */
#include "method.h"

#include <string.h>

const tacit_method *const tacit_methods[] = {
    &tacit_simclr,
    &tacit_momentum_contrast,
    &tacit_momentum_contrast_v3,
    &tacit_swapping_assignments,
    &tacit_deepcluster,
    &tacit_deepcluster1,
    &tacit_byol,
    &tacit_distillation_no_labels,
    &tacit_barlow_twins,
    &tacit_variance_invariance_covariance,
    &tacit_masked_autoencoder,
    &tacit_masked_features,
    &tacit_simple_masked_modelling,
    &tacit_bidirectional_encoder,
    &tacit_joint_embedding_predictive,
    NULL,
};

const tacit_method *const tacit_tokenizers[] = {
    &tacit_discrete_vae,
    &tacit_vector_quantised_distillation,
    NULL,
};

static const tacit_method *find(const tacit_method *const *list, const char *name)
{
    for (; *list; list++)
        if (!strcmp((*list)->name, name))
            return *list;
    return NULL;
}

const tacit_method *tacit_method_find(const char *name)
{
    const tacit_method *m = find(tacit_methods, name);
    return m ? m : find(tacit_tokenizers, name);
}

bool tacit_method_draws(const tacit_config *config)
{
    const tacit_method *m = config->method;
    return m->picture && (!m->drawn || m->drawn(config));
}
