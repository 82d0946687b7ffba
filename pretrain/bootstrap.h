/* bootstrap.h - an online network with a predictor, and the target network that follows it: BYOL
 * and MoCo v3.
 *
 * From one of two views the online network predicts what the target makes of the other. Each view
 * goes through alone, in both networks; the target has no gradient and no predictor, and its batch
 * norm is in training mode with statistics of its own. Predictions, targets and gradients of all
 * parts of a step are kept (method.h), for losses that couple images.
 */
#ifndef TACIT_BOOTSTRAP_H
#define TACIT_BOOTSTRAP_H

#include "tower.h"

typedef struct tacit_bootstrap {
    tacit_tower online, target;
    tacit_mlp predictor; /* count 0: none */
    tacit_params *params, *teacher;
    tacit_work *work;
    float *p, *targets; /* (2, whole, dim): predictions, and of each the other view's target */
    float *d;           /* (2, whole, dim): the loss's gradient of the predictions */
    float *dp;          /* (2, part, dim): of a part */
} tacit_bootstrap;

/* Widths of the heads: head_hidden, head_dim. */
extern const tacit_setting tacit_bootstrap_settings[];

/* tower: of two views, apart. predictor: its layers, 0 for none. Must be closed, declared well or
 * badly. */
tacit_status tacit_bootstrap_declare(tacit_bootstrap *bootstrap, const tacit_tower_config *tower,
                                     const tacit_mlp_layer *predictor, size_t layers,
                                     const tacit_learner *learner, tacit_err *err);

/* Behind the optimiser: the target becomes momentum times itself plus the rest of the online. */
void tacit_bootstrap_follow(tacit_bootstrap *bootstrap, double momentum);

/* Hooks (method.h) of a method whose state begins with a bootstrap. backward takes its part's rows
 * of d. */
void tacit_bootstrap_hook_close(void *state);
bool tacit_bootstrap_hook_plan(const void *state, size_t *total);
void tacit_bootstrap_hook_take(void *state, tacit_arena *arena);
void tacit_bootstrap_hook_forward(void *state, const tacit_part *part);
void tacit_bootstrap_hook_backward(void *state, const tacit_part *part);
tacit_embeddings tacit_bootstrap_hook_embeddings(const void *state);
tacit_embeddings tacit_bootstrap_hook_outputs(const void *state);
double tacit_bootstrap_hook_flops(const void *state);

#endif
