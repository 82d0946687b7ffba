/* method.h - the contract between a method of self-supervised learning and the trainer.
 *
 * A method is one file with one row, named in methods.c; help, checks of settings, views,
 * checkpoints, logs, monitors and tests go by the row. The method owns its networks and its loss;
 * the trainer owns data, schedules, optimiser, accumulation, clipping, log, checkpoints and stops.
 *
 * A step takes `whole` images, in one part or in several equal ones. Where the loss of an image
 * does not depend on the others, a part at a time goes through forward, loss and backward, and the
 * parts' losses and gradients add up. A `joint` loss is taken of the embeddings of all parts
 * together, once they went forward; each part then goes forward again before its backward (Gao et
 * al. 2021, arXiv:2101.06983). So a large batch has the gradient of the large batch in the memory
 * of a part; only batch norm sees no more than a part at a time.
 *
 * All that is to survive an interruption lies in tacit_params: the networks, and as frozen buffers
 * beside them queues, centres and prototypes. A moving teacher is a second set, which begins with
 * the values of the first and follows it by tacit_params_average. What is remembered of each image
 * is a third, the memory, which only the hooks that are named for it change. Random draws of a
 * method are functions of (seed, epoch, sample). A tensor that is to begin late is given a wait in
 * epochs, of which tacit_engine_schedule makes steps.
 */
#ifndef TACIT_METHOD_H
#define TACIT_METHOD_H

#include "backbone.h"
#include "config.h"
#include "loader.h"
#include "params.h"

#define TACIT_METHOD_VIEWS 12 /* most views of an image */
#define TACIT_LOSS_PARTS   4

/* What a method declares its networks with. */
typedef struct tacit_learner {
    tacit_config *config; /* declare may pin settings; no other hook changes it */
    tacit_backbone_config backbone;
    size_t whole, part;    /* images of a step, and of a part of it */
    tacit_params *params;  /* what is trained */
    tacit_params *teacher; /* without gradients; empty where the method declares none */
    tacit_params *memory;  /* the same, of the data */
    struct tacit_work *work;
} tacit_learner;

/* A part of a step. */
typedef struct tacit_part {
    const tacit_batch *batch; /* its images */
    size_t images;            /* how many: the learner's part, or for pictures up to that */
    size_t index, count;      /* which of how many parts */
    uint64_t seed;
    uint64_t step, steps; /* the step, from 0, and how many the run has; 0 and 0 for pictures */
} tacit_part;

/* Vectors of the last forward and loss, for the monitors: (rows, dim), ld apart. Of pairs, row i
 * and row i + rows / 2 are views of one image. */
typedef struct tacit_embeddings {
    const float *rows;
    size_t count, dim, ld;
    bool pairs;
    bool absolute; /* their lengths tell something, too: a deviation of 1 is good */
} tacit_embeddings;

typedef struct tacit_method {
    const char *name, *title, *paper;     /* "simclr", "SimCLR", "Chen et al. 2020, arXiv:..." */
    const tacit_setting *const *settings; /* its tables, its own and shared ones, NULL at the end */
    const char *const *defaults;          /* "key=value" over all fallbacks, NULL at the end */
    const tacit_preset *presets;          /* name NULL at the end                            */
    const char *const *loss_parts;        /* names in the log, NULL at the end               */
    const char *const *heads; /* how names begin that are not the backbone's, NULL at the end */
    bool vit, resnet;         /* which families it trains; neither: no backbone */
    bool tokenizer;           /* its product is tokenizer_file.h's */
    bool joint;               /* its loss couples images         */
    bool surveys;             /* before each epoch, not the first alone */
    bool by_teacher;          /* its backbone is the teacher's   */
    tacit_features features;  /* what the backbone is used for   */
    size_t state;             /* bytes of its state, zeroed first */

    /* What its backbone is made of beside the sizes that the settings tell; NULL: all that is
     * plain. */
    void (*backbone)(const tacit_config *config, tacit_backbone_config *backbone);
    /* Fills views, and tells how many. */
    tacit_status (*views)(const tacit_config *config, unsigned size, tacit_view *views,
                          size_t *count, tacit_err *err);
    /* Declares all tensors. What was declared, well or badly, is closed. */
    tacit_status (*declare)(void *state, const tacit_learner *learner, tacit_err *err);
    /* Behind declare, once the images are known, of which an epoch's steps take `rows`: declares in
     * the memory what grows with them; TACIT_EINVAL where they are too few. NULL: nothing. */
    tacit_status (*data)(void *state, const tacit_learner *learner, size_t rows, tacit_err *err);
    void (*close)(void *state);
    bool (*plan)(const void *state, size_t *total);
    void (*take)(void *state, tacit_arena *arena);

    /* Before an epoch's first step. survey: takes in a part of the epoch's images, one after the
     * other, all of them; batch norm's running statistics are then put back. epoch: clusters and
     * the like; called again, it does the same again. Both change the memory alone, and what begins
     * anew with every epoch; NULL: nothing. */
    void (*survey)(void *state, const tacit_part *part);
    void (*epoch)(void *state, uint64_t seed, uint64_t epoch);

    void (*forward)(void *state, const tacit_part *part);
    /* The loss, of this part or of all together (joint), as its share of the step's; puts the
     * gradients where backward finds them. parts (TACIT_LOSS_PARTS) is added to. */
    double (*loss)(void *state, const tacit_part *part, double *parts);
    void (*backward)(void *state, const tacit_part *part);
    /* Behind the optimiser: teachers, queues, memory. step: of the run, from 0. NULL: nothing. */
    void (*after)(void *state, uint64_t step, uint64_t steps);

    /* What it reconstructs, for a person to judge; both NULL where it does not. Behind a forward,
     * which then changes no tensor, and once for each image of the part: image i as panels, one for
     * each name, (3, size, size) with the size of view 0; values from 0 to 1, others are cut. */
    const char *const *panels;                 /* names, NULL at the end */
    bool (*drawn)(const tacit_config *config); /* whether it is with these settings; NULL: is */
    void (*picture)(void *state, const tacit_part *part, size_t i, float *panels);

    /* What collapsed in the epoch that has just ended, behind after, in words to text (size);
     * false: nothing. NULL: only the features and outputs are watched. */
    bool (*collapse)(const void *state, char *text, size_t size);
    tacit_embeddings (*embeddings)(const void *state); /* the features */
    tacit_embeddings (*outputs)(const void *state);    /* what the loss is of, or NULL */
    double (*flops)(const void *state); /* of a forward and a backward of one image */
} tacit_method;

extern const tacit_method tacit_simclr, tacit_momentum_contrast, tacit_momentum_contrast_v3,
    tacit_swapping_assignments, tacit_deepcluster, tacit_deepcluster1, tacit_byol,
    tacit_distillation_no_labels, tacit_barlow_twins, tacit_variance_invariance_covariance,
    tacit_masked_autoencoder, tacit_masked_features, tacit_simple_masked_modelling,
    tacit_bidirectional_encoder, tacit_joint_embedding_predictive;

extern const tacit_method tacit_discrete_vae, tacit_vector_quantised_distillation;

/* All methods, and all tokenizers, whose training is a run like theirs; NULL at the end. */
extern const tacit_method *const tacit_methods[], *const tacit_tokenizers[];
/* Among both. */
const tacit_method *tacit_method_find(const char *name);
/* Whether it has pictures, with these settings. */
bool tacit_method_draws(const tacit_config *config);

#endif
