/* optimiser.h - one step of all parameters: SGD, LARS in its published forms, AdamW.
 *
 * The schedules of learning rate and decay are the trainer's; a step is told its own. A tensor that
 * is frozen takes none, one with no_decay has neither decay nor LARS' trust. One that waits takes
 * its first step, as if it were the run's, behind that wait.
 */
#ifndef TACIT_OPTIMISER_H
#define TACIT_OPTIMISER_H

#include "params.h"

/* With W = |w|, g the gradient, h = g + decay w, a trust of 1 where a norm is 0 (LARC: no decay).
 */
typedef enum tacit_optimiser_kind {
    TACIT_SGD,       /* PyTorch's: v = momentum v + h, w -= rate v (or nesterov's h + momentum v) */
    TACIT_LARS_RATE, /* SimCLR: v = momentum v + rate trust W / |h| h, w -= v                     */
    TACIT_LARS,      /* BYOL, Barlow Twins, VICReg, MoCo v3: v = momentum v + trust W / |h| h     */
    TACIT_LARC,      /* apex, SwAV: trust W / (|g| + decay W + 1e-8), of every tensor             */
    TACIT_LARC_CLIP, /* solo-learn: the same cut at rate, so that it only slows down              */
    TACIT_ADAMW,
} tacit_optimiser_kind;

typedef struct tacit_optimiser {
    tacit_optimiser_kind kind;
    double momentum;
    bool nesterov;
    bool decay_all;           /* no_decay is not looked at: MoCo's SGD */
    double trust;             /* LARS' coefficient, usually 0.001 */
    double beta1, beta2, eps; /* AdamW */
} tacit_optimiser;

/* Blocks of state for tacit_params_open. */
unsigned tacit_optimiser_states(tacit_optimiser_kind kind);

/* Step t = 1, 2, ... with the gradients as they are. */
void tacit_optimiser_step(const tacit_optimiser *optimiser, tacit_params *params, double rate,
                          double decay, uint64_t t, const tacit_kernels *kernels, tacit_pool *pool);

#endif
