/* pictures.h - what a method reconstructs, as one sheet of pictures for a person to judge.
 *
 * A sheet is a PNG with the first usable images of a set, each as the method's panels side by side,
 * so many images to a row. An image is its centre square, not augmented; what is masked of it is
 * drawn from the run's seed and its place in the set, so that all sheets of a run show the same.
 * Small panels are enlarged by a whole factor.
 *
 * The network goes forward between two steps, as it does in them: what is planned for a step's
 * activations is overwritten, and no tensor is changed. A sheet has the same bytes whatever the
 * threads and the ISA, and what a sheet takes is allocated and freed by it.
 */
#ifndef TACIT_PICTURES_H
#define TACIT_PICTURES_H

#include "dataset.h"
#include "engine.h"

typedef struct tacit_picture_options {
    const char *images; /* what tacit_dataset_open takes */
    tacit_dataset_kind kind;
    size_t count;   /* of images, at least 1                 */
    size_t columns; /* images side by side, at least 1       */
} tacit_picture_options;

typedef struct tacit_sheet_size {
    size_t images;        /* that it shows                               */
    size_t bad;           /* that came up before and could not be used   */
    size_t width, height; /* in pixels */
} tacit_sheet_size;

/* TACIT_EUNSUPPORTED where a method does not reconstruct. */
tacit_status tacit_pictures_method(const tacit_config *config, tacit_err *err);
/* Whether the images are there: to be known before a long run. */
tacit_status tacit_pictures_check(const char *images, tacit_err *err);

/* Adds to *bytes what a sheet takes while it is made; false where it is too large. */
bool tacit_pictures_plan(const tacit_engine *engine, const tacit_picture_options *options,
                         size_t *bytes);

/* Writes the sheet to path, whole or not at all. The engine was opened. TACIT_EINVAL where not one
 * image can be used, TACIT_ELIMIT where the sheet is too large. */
tacit_status tacit_pictures_write(const char *path, tacit_engine *engine,
                                  const tacit_picture_options *options, tacit_sheet_size *size,
                                  tacit_err *err);

#endif
