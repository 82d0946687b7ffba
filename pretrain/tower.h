/* tower.h - the views of a batch through a backbone and a projector, and back: what every
 * joint-embedding method stands on.
 *
 * Rows go view by view: those of all images' first views, then of their second ones. Of a step in
 * parts (method.h) the embeddings and their gradients of all parts are kept, so that a loss can be
 * taken of all of them together.
 *
 * Small local crops, the last of the views (view_settings.h), go through the same network in a
 * forward of their own, so that batch norm sees each size for itself; the projector takes the
 * features of all views together: MultiCropWrapper of facebookresearch/dino, and SwAV's ResNet.
 */
#ifndef TACIT_TOWER_H
#define TACIT_TOWER_H

#include "encoder.h"
#include "method.h"
#include "mlp_train.h"

typedef struct tacit_tower_config {
    size_t views;         /* of an image */
    size_t local;         /* how many of them, the last ones, are local */
    unsigned local_size;  /* pixels of these */
    bool apart;           /* batch norm takes each view for itself, as if it went through alone */
    size_t groups;        /* and each in so many equal groups, as on so many machines; 0: 1 */
    bool still;           /* no drop path: a teacher */
    bool as_moco, freeze; /* a ViT's initial values are MoCo v3's; its patch embedding is frozen */
    tacit_mlp_layer layers[TACIT_MLP_LAYERS]; /* the projector */
    size_t layer_count;
} tacit_tower_config;

/* Views of one size. */
typedef struct tacit_tower_crops {
    tacit_encoder encoder;
    size_t first, count, pixels; /* which views; values of an image */
    float *images;               /* (count, part, pixels) */
} tacit_tower_crops;

typedef struct tacit_tower {
    tacit_tower_crops crops[2]; /* global ones; local ones, where they have a size of their own */
    size_t sizes;               /* 1 or 2 */
    bool still;
    tacit_mlp head;
    size_t views, global, part, whole, dim; /* global: views that are; dim: of an embedding */
    float *z, *dz;           /* (views, whole, dim): embeddings of all parts, and their gradients */
    float *d;                /* (views, part, dim) */
    float *joined, *djoined; /* of 2 sizes: the features (views, part, feature's dim), gradients */
    uint64_t *draws;
    const float *features; /* (views, part, feature's dim) of the last forward, rows ld apart */
    size_t ld;
} tacit_tower;

/* Sets the views of a tower whose method has the table of local crops. */
void tacit_tower_multicrop(tacit_tower_config *tower, const tacit_config *config);

/* Declares the backbone by its own names and the projector as projector.<layer>. params: the
 * learner's, or those of its teacher, of which there is only a forward. Must be closed, declared
 * well or badly. */
tacit_status tacit_tower_declare(tacit_tower *tower, const tacit_tower_config *config,
                                 const tacit_learner *learner, tacit_params *params,
                                 tacit_err *err);
void tacit_tower_close(tacit_tower *tower);
bool tacit_tower_plan(const tacit_tower *tower, size_t *total);
void tacit_tower_take(tacit_tower *tower, tacit_arena *arena);

/* Embeds a part, to its rows of z. Gives them, too: (views, part, dim), until the backward or the
 * next forward. */
const float *tacit_tower_forward(tacit_tower *tower, const tacit_part *part);
/* From the gradient of what the last forward gave, which is overwritten, to those of the
 * parameters.
 */
void tacit_tower_backward(tacit_tower *tower, float *dz);
/* The same from the part's rows of dz. */
void tacit_tower_backward_part(tacit_tower *tower, const tacit_part *part);

/* Where the rows of a part's view begin, in z and dz: `part` of them, dim apart. */
size_t tacit_tower_at(const tacit_tower *tower, const tacit_part *part, size_t view);

/* The backbone's features of the last forward, of the global views. */
tacit_embeddings tacit_tower_embeddings(const tacit_tower *tower);
/* The embeddings of the step's global views. */
tacit_embeddings tacit_tower_outputs(const tacit_tower *tower);

/* FLOPs of a forward and a backward of one image, all its views. */
double tacit_tower_flops(const tacit_tower *tower);

/* Hooks (method.h) of a method whose state begins with a tower, and needs no more than it. */
void tacit_tower_hook_close(void *state);
void tacit_tower_hook_forward(void *state, const tacit_part *part);
void tacit_tower_hook_backward(void *state, const tacit_part *part);
tacit_embeddings tacit_tower_hook_embeddings(const void *state);
tacit_embeddings tacit_tower_hook_outputs(const void *state);

#endif
