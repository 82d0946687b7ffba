/* engine.h - one method with its networks and optimiser, a step at a time.
 *
 * After open nothing is allocated. A step is a function of the parameters, the optimiser's state,
 * the settings, the step's number and the batch: not of threads, ISA, or time.
 */
#ifndef TACIT_ENGINE_H
#define TACIT_ENGINE_H

#include "dense.h"
#include "method.h"
#include "optimiser.h"
#include "schedule.h"

/* Where batches come from, a part at a time. */
typedef struct tacit_feed {
    void *ctx;
    uint64_t parts; /* of an epoch, each of `part` images */
    tacit_status (*next)(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                         tacit_err *err);
} tacit_feed;

typedef struct tacit_engine {
    const tacit_method *method;
    tacit_learner learner;
    void *state; /* the method's */
    tacit_params params, teacher, memory;
    tacit_work work;
    tacit_arena arena;
    tacit_optimiser optimiser;
    tacit_schedule rate, decay;
    double ahead; /* how many steps these two are: 1, 0 or -1 */
    double clip, clip_tensor;
    uint64_t seed;
    size_t parts;
    uint64_t step, steps, epoch_steps; /* done; of the run; of an epoch */
    float *buffers; /* batch norm's statistics before a survey or a step of parts, or NULL */
    size_t buffer_floats;
    /* Called between loss and backward of a step's last part; NULL: nothing. */
    void (*look)(void *ctx);
    void *ctx;
} tacit_engine;

typedef struct tacit_step {
    uint64_t step, epoch;                                        /* step: from 1 */
    double loss, parts[TACIT_LOSS_PARTS], rate, decay, gradient; /* the gradient's norm */
    double data_s, forward_s, backward_s, optimiser_s;
} tacit_step;

/* Declares the networks: sizes and names, no memory. Settings that contradict each other are
 * TACIT_EINVAL. What was declared, well or badly, must be closed. config must stay; settings that
 * follow from files are pinned in it. */
tacit_status tacit_engine_declare(tacit_engine *engine, tacit_config *config,
                                  const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err);
/* Bytes that open will take: of parameters with their gradients and the optimiser's state, and of
 * all else. */
tacit_status tacit_engine_plan(const tacit_engine *engine, size_t *parameters, size_t *rest,
                               tacit_err *err);
/* Memory and initial weights. */
tacit_status tacit_engine_open(tacit_engine *engine, tacit_err *err);
void tacit_engine_close(tacit_engine *engine);

/* The length of the run, by the parts that an epoch's images make. Of a method that remembers them
 * it declares the memory, and stands between declare and plan. TACIT_EINVAL where there are fewer
 * than a step or the method takes, or the warm-up is longer. */
tacit_status tacit_engine_schedule(tacit_engine *engine, uint64_t parts, tacit_err *err);

/* The next step. Where the loss or a gradient is not finite, TACIT_EFORMAT tells the step and the
 * tensor, and no weight was changed. An error of the feed leaves all as it was before the step. */
tacit_status tacit_engine_step(tacit_engine *engine, const tacit_feed *feed, tacit_step *result,
                               tacit_err *err);

/* TACIT_EFORMAT, naming the tensor, where a weight is not finite. */
tacit_status tacit_engine_check(const tacit_engine *engine, tacit_err *err);

#endif
