/* masked_modelling.h - what methods over masked_vit.h have in common: drop path, and as an
 * image's features the mean of what became of its masked patches: the other tokens are not made.
 * Their state begins with it.
 */
#ifndef TACIT_MASKED_MODELLING_H
#define TACIT_MASKED_MODELLING_H

#include "masked_vit.h"
#include "method.h"

typedef struct tacit_masked_modelling {
    tacit_masked_vit net;
    tacit_work *work;
    size_t part;
    float *features; /* (part, dim) */
} tacit_masked_modelling;

/* Arguments as for tacit_masked_vit_declare. */
tacit_status tacit_masked_modelling_declare(tacit_masked_modelling *masked,
                                            const tacit_learner *learner,
                                            const tacit_vit_train_config *config, size_t max_masked,
                                            size_t values, const char *head, tacit_err *err);
bool tacit_masked_modelling_plan(const tacit_masked_modelling *masked, size_t *total);
void tacit_masked_modelling_take(tacit_masked_modelling *masked, tacit_arena *arena);

/* Behind a method's own setting of net.masks. */
void tacit_masked_modelling_forward(tacit_masked_modelling *masked, const tacit_part *part);

/* Hooks (method.h). */
void tacit_masked_hook_close(void *state);
void tacit_masked_hook_backward(void *state, const tacit_part *part);
tacit_embeddings tacit_masked_hook_embeddings(const void *state);
double tacit_masked_hook_flops(const void *state);

#endif
