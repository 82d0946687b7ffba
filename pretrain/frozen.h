/* frozen.h - a backbone that does not learn, as a source of targets: the features of an image's
 * patches, of any file that `tacit extract --weights` takes.
 *
 * The file is opened once, when the networks are declared. Views come as the run has them,
 * normalised by its setting `normalise`; here they are normalised as the file's authors do it, and
 * resampled (torch's antialiased bicubic, nothing clipped) to the size at which the backbone has
 * one patch for each of the run's. The features of an image are a function of its pixels and the
 * file alone: not of its neighbours, of threads, or of the ISA.
 *
 * Its weights are no part of a checkpoint, but what they are is: a setting FILE goes with a
 * setting FILE_xxh3, which becomes the hash of the file's bytes. So config.ini and every checkpoint
 * tell it, and a run goes on with that file alone, wherever that lies now.
 */
#ifndef TACIT_FROZEN_H
#define TACIT_FROZEN_H

#include "backbone.h"
#include "config.h"
#include "dense.h"
#include "regrid.h"

/* The two rows of a file's settings, for a method's table: the path may change between resumes,
 * the file may not. */
#define TACIT_FROZEN_SETTINGS(name, fallback, help)                                                \
    { name, TACIT_SETTING_STRING, fallback, 0, 0, NULL, help, true },                              \
    {                                                                                              \
        name "_xxh3", TACIT_SETTING_STRING, "", 0, 0, NULL,                                        \
            "XXH3-64 of that file; set by the run, which goes on with no other", false             \
    }

typedef struct tacit_frozen {
    tacit_backbone *backbone;
    const tacit_work *work;
    size_t max_batch, chunk;  /* images of a forward, and of those that go through at once */
    size_t image, side;       /* pixels of a side: of a view, and of the backbone's input  */
    size_t patches, dim;      /* of an image's features */
    float gain[3], offset[3]; /* from a view's pixels to the backbone's; of each colour    */
    tacit_regrid regrid;      /* of a plane, where side is not image */
    double *lines;            /* of each worker */
    float *input;             /* (chunk, 3, side, side); NULL: views are taken as they are */
    float *features;          /* (max_batch, patches, dim), of the last forward */
    void *scratch;
} tacit_frozen;

/* Opens the file that `setting` names (TACIT_WEIGHTS_DEFAULT: the backbone in the program) for
 * square views of `image` pixels with `grid` patches in a row, and sets or checks <setting>_xxh3
 * in config. TACIT_EINVAL where the network has no patches or cannot take that grid,
 * TACIT_ECONFLICT where it is not the run's file. Must be closed, declared well or badly. */
tacit_status tacit_frozen_declare(tacit_frozen *frozen, tacit_config *config, const char *setting,
                                  size_t image, size_t grid, size_t max_batch,
                                  const tacit_work *work, tacit_err *err);
/* For a method that does without: TACIT_ECONFLICT where the run began with a file. */
tacit_status tacit_frozen_none(tacit_config *config, const char *setting, tacit_err *err);
void tacit_frozen_close(tacit_frozen *frozen);
bool tacit_frozen_plan(const tacit_frozen *frozen, size_t *total);
void tacit_frozen_take(tacit_frozen *frozen, tacit_arena *arena);

/* images (batch, 3, image, image) of a view. Gives (batch, patches, dim), in raster order, tight:
 * behind the backbone's last norm where it is a ViT, its last map where it is a ResNet. They are
 * there until the next call and may be written over. */
float *tacit_frozen_forward(tacit_frozen *frozen, const float *images, size_t batch);

/* FLOPs of one image. */
double tacit_frozen_flops(const tacit_frozen *frozen);

#endif
