/* loader.h - batches of views of a data set, ahead of who trains on them.
 *
 * (1) Batch `step` of `epoch` is a function of the data, the views, the batch size and the seed:
 *     not of the threads, of how far they are ahead, or of where reading began.
 * (2) An epoch goes through the samples in an order that is a permutation by (seed, epoch); what
 *     does not fill a batch at its end is left out. Views draw from (seed, epoch, sample, view).
 * (3) A picture that cannot be used is reported once, and wherever it comes up the next usable
 *     sample takes its place, with the draws of the one that it stands for.
 * (4) A sample is read and decoded once for all of its views.
 *
 * Files are opened when they are needed; what is in a tar or a file of records is held in memory,
 * as it is there. After the first batches nothing is allocated but by the decoders of JPEG and PNG,
 * and where a picture is larger than all before.
 */
#ifndef TACIT_LOADER_H
#define TACIT_LOADER_H

#include "dataset.h"
#include "pool.h"
#include "views.h"

typedef struct tacit_loader_options {
    const char *path; /* what tacit_dataset_open takes */
    tacit_dataset_kind kind;
    const tacit_view *views;
    size_t view_count;
    size_t batch; /* samples */
    uint64_t seed;
    unsigned threads; /* of the loader's own, which work ahead; 0: all is done inside next */
    size_t ahead;     /* batches that are made while one is used; at least 1 with threads   */
    tacit_pool *pool; /* its threads help whenever next has to wait; NULL: the caller alone */
    const tacit_kernels *kernels;
    void (*bad)(void *ctx, const char *line); /* may be NULL; from any thread, one at a time */
    void *ctx;
} tacit_loader_options;

typedef struct tacit_batch {
    uint64_t epoch, step;
    const uint32_t *samples;   /* (batch): whose pictures they are, by place in the data set */
    const float *const *views; /* view_count arrays, (batch, 3, size, size)                  */
} tacit_batch;

typedef struct tacit_loader tacit_loader;

/* At (epoch 0, step 0). Options are copied, but not the views' array nor the path. TACIT_EINVAL
 * where the set has fewer samples than a batch. */
tacit_status tacit_loader_open(tacit_loader **loader, const tacit_loader_options *options,
                               tacit_err *err);
void tacit_loader_close(tacit_loader **loader);

/* Of the data set, usable or not. */
uint64_t tacit_loader_samples(const tacit_loader *loader);
/* Batches of an epoch. */
uint64_t tacit_loader_steps(const tacit_loader *loader);
/* Bytes of all batches that are held, the largest part of what a loader takes. */
size_t tacit_loader_bytes(const tacit_loader *loader);

/* The next batch is to be `step` < tacit_loader_steps of `epoch`. */
void tacit_loader_seek(tacit_loader *loader, uint64_t epoch, uint64_t step);

/* The next batch, which stays as it is until the next call; after an epoch's last comes the
 * following epoch's first. An error (no usable sample, no memory) ends the loader. */
tacit_status tacit_loader_next(tacit_loader *loader, tacit_batch *batch, tacit_err *err);

#endif
