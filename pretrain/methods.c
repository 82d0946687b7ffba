/* methods.c - the list of methods. See method.h. */
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
    &tacit_joint_embedding_predictive,
    NULL,
};

const tacit_method *tacit_method_find(const char *name)
{
    for (const tacit_method *const *m = tacit_methods; *m; m++)
        if (!strcmp((*m)->name, name))
            return *m;
    return NULL;
}

bool tacit_method_draws(const tacit_config *config)
{
    const tacit_method *m = config->method;
    return m->picture && (!m->drawn || m->drawn(config));
}
