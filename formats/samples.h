/* samples.h - a data set of which any item can be had at any time, from any thread.
 *
 * Of files the names are held, and of a pack its tables: pictures are read when they are asked for.
 * Items whose bytes come in one stream (tar, CIFAR, IDX) are held as they are there, encoded or
 * raw, up to half of the machine's memory. Items keep the order, and so
 * the numbers, that dataset.h gives them.
 */
#ifndef TACIT_SAMPLES_H
#define TACIT_SAMPLES_H

#include "dataset.h"
#include "image.h"

typedef struct tacit_samples tacit_samples;

/* TACIT_ELIMIT above 2^32 - 2 items, or where they are too many bytes to hold. */
tacit_status tacit_samples_open(tacit_samples **samples, const char *path, tacit_dataset_kind kind,
                                tacit_err *err);
void tacit_samples_close(tacit_samples **samples);
size_t tacit_samples_count(const tacit_samples *samples);

/* A picture. One for each thread; all 0 at first, reused by every load. */
typedef struct tacit_sample {
    const uint8_t *rgb; /* (height, width, 3), until the next load */
    size_t width, height;
    tacit_item item;   /* the file's bytes, or a pack's pixels */
    tacit_image image; /* what the former decode to            */
} tacit_sample;

/* The index-th picture. TACIT_ENOMEM aside, an error is one of this item alone. */
tacit_status tacit_samples_load(const tacit_samples *samples, size_t index, tacit_sample *sample,
                                tacit_err *err);
/* The picture of sample->item, as tacit_dataset_next filled it: for sets that are read but once, in
 * order. The same errors; a file is loaded. */
tacit_status tacit_sample_decode(tacit_sample *sample, tacit_err *err);
void tacit_sample_free(tacit_sample *sample);

#endif
