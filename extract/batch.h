/* batch.h - images from wherever they are to vectors, several at a time.
 *
 * What a program that has images in hand, one after the other, needs besides a model: files are
 * read, pictures decoded (side by side where there are several) and sent through the network
 * together. The vector of an image has the same bits whatever else is in its batch. A bad image is
 * told in its own input and costs the others nothing.
 */
#ifndef TACIT_BATCH_H
#define TACIT_BATCH_H

#include "extractor.h"
#include "pool.h"
#include "status.h"
#include "tacit.h"

#include <stddef.h>

#define TACIT_BATCH_MOST 256

typedef struct tacit_batch tacit_batch;

/* For up to `most` images, at most TACIT_BATCH_MOST, at a time. model and pool (may be NULL) must
 * outlive it. */
tacit_status tacit_batch_open(tacit_batch **batch, const tacit_model *model, size_t most,
                              tacit_pool *pool, tacit_err *err);
void tacit_batch_close(tacit_batch **batch);

/* For a server: with several images their decoding is shared among the threads; beyond that a
 * larger batch gains nothing on a CPU, and its first image waits for its last. */
unsigned tacit_batch_default(unsigned threads);

/* Touches all memory and computes one blank image, so that the first one that counts is as quick as
 * the others. */
void tacit_batch_warm(tacit_batch *batch);

size_t tacit_batch_most(const tacit_batch *batch);

/* Each input's vector (where there is room for one), status and error. count <= most (asserted).
 * One call at a time. Once images of these sizes were seen, nothing is allocated. */
void tacit_batch_run(tacit_batch *batch, tacit_input *const *inputs, size_t count);

#endif
