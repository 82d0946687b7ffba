/* sidecar.h - what lies beside a checkpoint: the config.json of timm or transformers, the latter's
 * preprocessor_config.json, open_clip's open_clip_config.json.
 *
 * They decide what tensors do not show: heads, epsilon, the kind of GELU, and the pixels. Files
 * that are not theirs, or say what is not done here, are errors of one line: a wrong guess would
 * only show in the quality of the features.
 */
#ifndef TACIT_SIDECAR_H
#define TACIT_SIDECAR_H

#include "dialect.h"

typedef struct tacit_sidecar {
    tacit_hints hints;  /* its strings are in here */
    unsigned dim;       /* width of the network that is described; 0: not said */
    int features;       /* tacit_features; -1: not said */
    const char *pixels; /* name of the file that decides about the pixels; NULL: none does */
    struct tacit__sidecar_says {
        bool geometry, filter, resampler, mean, std;
    } says; /* which members of published are meant */
    tacit_published published;
    char model_type[64], activation[32], filter[16];
} tacit_sidecar;

/* Looks in the folder of `checkpoint`. Nothing there is no error. */
tacit_status tacit_sidecar_read(tacit_sidecar *sidecar, const char *checkpoint, tacit_err *err);

/* Forgets what was read. */
void tacit_sidecar_clear(tacit_sidecar *sidecar);

/* What is said goes over what was published. */
void tacit_sidecar_apply(const tacit_sidecar *sidecar, tacit_published *published);

#endif
