/* params.h - the named tensors of a network in training: values, gradients, optimiser state.
 *
 * Layers declare their tensors, in timm's names; then one block of memory takes them all, each on a
 * cache line of its own. Initial values are a function of (seed, name, element), so that what else
 * a network holds does not show in a tensor.
 */
#ifndef TACIT_PARAMS_H
#define TACIT_PARAMS_H

#include "kernels.h"
#include "mem.h"
#include "pool.h"

#include <stdbool.h>

#define TACIT_PARAM_NAME 96

/* How a tensor begins. `size` is a standard deviation or a bound. */
typedef enum tacit_init_kind {
    TACIT_INIT_CONSTANT,    /* all are size                                          */
    TACIT_INIT_NORMAL,      /* N(0, size^2)                                          */
    TACIT_INIT_TRUNCATED,   /* the same, drawn again beyond cut standard deviations  */
    TACIT_INIT_UNIFORM,     /* in [-size, size)                                      */
    TACIT_INIT_SPHERE,      /* rows of the last dimension N(0, 1), each over its norm */
    TACIT_INIT_SINCOS,      /* (1, [1 +] grid^2, dim), fixed positions of MAE; a first row is 0  */
    TACIT_INIT_SINCOS_ROWS, /* those of MoCo v3: rows before columns                           */
} tacit_init_kind;

typedef struct tacit_init {
    tacit_init_kind kind;
    double size, cut;
} tacit_init;

#define TACIT_ZEROS ((tacit_init){ .kind = TACIT_INIT_CONSTANT })
#define TACIT_ONES  ((tacit_init){ .kind = TACIT_INIT_CONSTANT, .size = 1 })

/* Uniform within sqrt(6 / (in + out)): Glorot and Bengio 2010. */
tacit_init tacit_init_xavier(size_t in, size_t out);
/* Normal with the variance 2 / fan: He et al. 2015. */
tacit_init tacit_init_kaiming(size_t fan);
/* Uniform within 1 / sqrt(in): what PyTorch gives Linear and Conv2d, weights and biases. */
tacit_init tacit_init_default(size_t in);

typedef struct tacit_param {
    char name[TACIT_PARAM_NAME];
    unsigned rank;
    size_t shape[4], count;
    tacit_init init;
    bool no_decay;    /* neither weight decay nor LARS' trust: by default what is 1-D */
    bool frozen;      /* no step; its gradient is made all the same */
    bool no_momentum; /* of SGD and LARS */
    bool buffer;      /* frozen, and no part of a moving average: batch norm's running statistics */
    bool channels_last; /* of shape (out, in, y, x), its values lie as (out, y, x, in) */
    float rate;         /* factor of the learning rate, 1 unless set */
    double wait;        /* no step, and no decay, in so many steps from the run's first */
    float *value, *grad;
    float *state[2]; /* of the optimiser; NULL where it keeps none */
} tacit_param;

/* A range of one tensor: the unit of work of whatever goes through all parameters. */
typedef struct tacit_piece {
    tacit_param *param;
    size_t from, count;
} tacit_piece;

typedef struct tacit_params {
    tacit_param **list;
    size_t count, room;
    tacit_piece *pieces;
    size_t piece_count;
    double *sums;  /* three for each piece */
    float *values; /* all of them in one block, as are grads */
    float *grads;
    bool fixed; /* set before open: no gradients are kept, of a teacher */
    bool again; /* while it is set, a tensor of that name and shape is given again */
    size_t floats;
    tacit_arena arena;
} tacit_params;

/* *params is cleared first. Declares a tensor and gives its place in *out, which stays where it is;
 * value and grad are set by tacit_params_open. TACIT_ECONFLICT for a name that is there already,
 * unless it is declared again. */
tacit_status tacit_params_add(tacit_params *params, const char *name, unsigned rank,
                              const size_t *shape, tacit_init init, tacit_param **out,
                              tacit_err *err);

/* Blocks of all numbers that open makes. */
unsigned tacit_params_blocks(const tacit_params *params, unsigned states);
/* Memory for all that was declared, with `states` (0 to 2) blocks for an optimiser, all zero. */
tacit_status tacit_params_open(tacit_params *params, unsigned states, tacit_err *err);
/* Also after a failed open, and for what was only declared. */
void tacit_params_close(tacit_params *params);

tacit_param *tacit_params_find(const tacit_params *params, const char *name);

/* Where element i, in the order of the tensor's shape, lies. */
size_t tacit_param_place(const tacit_param *param, size_t i);

/* The values of a tensor, or where `grad` its gradient, in the order of its shape, to out (count);
 * and values from there back. */
void tacit_param_copy_out(const tacit_param *param, bool grad, float *out);
void tacit_param_copy_in(tacit_param *param, const float *in);

/* Numbers that are trained. */
size_t tacit_params_trained(const tacit_params *params);

void tacit_params_init(tacit_params *params, uint64_t seed, tacit_pool *pool);
/* Of one tensor, to begin anew; by the caller alone. */
void tacit_param_init(tacit_param *param, uint64_t seed);
void tacit_params_clear_grads(tacit_params *params, tacit_pool *pool);

/* The squared norm of all gradients of what is trained; not finite where one of them is not, and
 * then *bad (may be NULL) is the first such tensor. */
double tacit_params_grad_norm(tacit_params *params, const tacit_kernels *kernels, tacit_pool *pool,
                              const tacit_param **bad);
/* Behind that: each tensor whose gradient's norm is more than `most` has it scaled down there. */
void tacit_params_clip_each(tacit_params *params, double most, const tacit_kernels *kernels,
                            tacit_pool *pool);
/* All gradients times factor. */
void tacit_params_scale_grads(tacit_params *params, float factor, const tacit_kernels *kernels,
                              tacit_pool *pool);

/* to = momentum * to + (1 - momentum) * from: the target of a momentum encoder. to's tensors are
 * the first of from's, by name and shape, in the same order. Buffers are left alone. */
void tacit_params_average(tacit_params *to, const tacit_params *from, double momentum,
                          const tacit_kernels *kernels, tacit_pool *pool);

#endif
