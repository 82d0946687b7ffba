/* run.h - a data set through an extractor into a folder.
 *
 * Throughput: each worker claims the next batch of inputs and takes it from bytes to vectors by
 * itself. Latency, where there are fewer inputs than threads: one after the other, all threads
 * inside the image. The result has the same bits either way, for any batch and number of threads.
 */
#ifndef TACIT_RUN_H
#define TACIT_RUN_H

#include "dataset.h"
#include "extractor.h"
#include "output.h"
#include "pool.h"
#include "status.h"

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* Reasons are counted by status: reasons[-status]. */
#define TACIT_REASONS 9

/* The word of index.tsv for a status: "ok", "malformed", "unreadable", ... */
const char *tacit_reason(tacit_status status);

typedef struct tacit_run_options {
    const tacit_model *model;
    tacit_pool *pool;
    tacit_dtype dtype;      /* of the output's rows, F32 or F16 */
    size_t batch;           /* at most; fewer where there are few inputs or large features */
    unsigned shard, shards; /* shard in [1, shards]: inputs with index % shards == shard - 1 */
    bool strict;            /* the first unusable input ends the run */
    const atomic_int *stop; /* not 0: end soon, keep what is done; may be NULL */
    void *ctx;
    /* Called in input order, one call at a time; may be NULL. total 0: not known. */
    void (*bad)(void *ctx, const char *line);
    void (*progress)(void *ctx, uint64_t done, uint64_t total);
} tacit_run_options;

typedef struct tacit_run_result {
    uint64_t inputs, embedded;       /* lines and rows, with those kept from an earlier run */
    uint64_t reasons[TACIT_REASONS]; /* inputs by status */
    uint64_t kept;                   /* lines kept from an earlier run */
    size_t batch;                    /* in force */
    bool latency;
    double wall; /* seconds of this run; the others are sums over threads */
    tacit_session_times times;
    tacit_status input_status; /* not TACIT_OK: the container ended early, for this reason */
    tacit_err input_error;
} tacit_run_result;

/* Runs to the end of the data set, from where the output's kept lines end. TACIT_ECANCELLED after a
 * stop. The output is left open; the caller finishes it. */
tacit_status tacit_run(const tacit_run_options *options, tacit_dataset *set, tacit_output *output,
                       tacit_run_result *result, tacit_err *err);

#endif
