/* batcher.h - requests from any thread, in batches that adapt, through one network.
 *
 * Promises:
 *  (1) When the network becomes free it takes what is waiting, up to a batch, in the order of
 *      arrival; so a request that finds it idle starts at once, and none waits for company.
 *  (2) A request is the asker's memory, from submit until done was called, once, on the batcher's
 *      thread: the batcher allocates nothing, and what waits is bounded by what askers hold.
 *  (3) The bits of a vector do not depend on who else asks.
 *  (4) Close comes back when every request was done.
 */
#ifndef TACIT_BATCHER_H
#define TACIT_BATCHER_H

#include "batch.h"
#include "status.h"
#include "tacit.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tacit_request {
    tacit_input input; /* the asker fills it in; the result is in it when done is called */
    void (*done)(struct tacit_request *request); /* quick, and calls nothing of the batcher */
    void *ctx;
    struct tacit_request *next; /* the batcher's, from submit to done */
    bool cancelled;
} tacit_request;

typedef struct tacit_batcher tacit_batcher;

/* Starts the thread. batch is used by nobody else until the batcher is closed. */
tacit_status tacit_batcher_open(tacit_batcher **batcher, tacit_batch *batch, tacit_err *err);
void tacit_batcher_close(tacit_batcher **batcher);

void tacit_batcher_submit(tacit_batcher *batcher, tacit_request *request);

/* A request that has not started is done with TACIT_ECANCELLED, soon, uncomputed; others go on. */
void tacit_batcher_cancel(tacit_batcher *batcher, tacit_request *request);

/* How many batches of n images there were, for n from 0 to the batch's most; n of 0: none. */
void tacit_batcher_sizes(tacit_batcher *batcher, uint64_t *sizes);

#endif
