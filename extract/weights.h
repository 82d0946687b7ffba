/* weights.h - a checkpoint, opened and explained: container, dialect, what lies beside it. */
#ifndef TACIT_WEIGHTS_H
#define TACIT_WEIGHTS_H

#include "canonical.h"
#include "checkpoint.h"
#include "dialect.h"
#include "quantised.h"
#include "sidecar.h"

/* The path that stands for the backbone in the program (default_backbone.h). */
#define TACIT_WEIGHTS_DEFAULT "default"

typedef struct tacit_weights_options {
    const char *arch;           /* timm's name; NULL: what the tensors say          */
    const char *checkpoint_key; /* the network to take, such as "teacher"; NULL: found */
    bool allow_partial;         /* unknown tensors are left, missing ones made up   */
} tacit_weights_options;

typedef struct tacit_weights {
    tacit_checkpoint *checkpoint;
    tacit_sidecar beside;
    tacit_canonical strings;
    tacit_tensor_source raw;
    tacit_quantised *quantised; /* raw as floats, where it was written by tacit quantize */
    tacit_dialect dialect;      /* with all that the files beside it say            */
    bool converted;             /* by tacit convert: every tensor is used as it is  */
    const char *pixels;         /* the file that decides about the pixels; NULL: the dialect */
    char note[256];             /* one line on what had to be chosen; empty: nothing */
} tacit_weights;

/* path: as tacit_checkpoint_open takes it, or TACIT_WEIGHTS_DEFAULT. Where only the explanation
 * fails, checkpoint, raw and what the dialect holds are there for whoever wants to show them. To be
 * closed in any case. */
tacit_status tacit_weights_open(tacit_weights *weights, const char *path,
                                const tacit_weights_options *options, tacit_err *err);
void tacit_weights_close(tacit_weights *weights);

#endif
