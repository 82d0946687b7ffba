/* bench_scaling.c - how a forward would scale to more threads than the machine has.
 *
 *     bench_scaling WEIGHTS PRECISION BATCH
 *
 * This program has a pool of its own in place of kernels/rt/pool.c: it says that it has T threads,
 * so that work is cut as for T, runs every chunk on the caller, and keeps the least time of each
 * over several forwards. What T threads would take is then counted out: whoever is free takes the
 * next run, as in the real pool, and each parallel loop costs BARRIER besides. Memory and clocks
 * are taken to be as fast for each thread as they are for one, so the figures are bounds from the
 * cutting alone.
 */
#include "extractor.h"
#include "measure.h"
#include "mem.h"
#include "pool.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ROUNDS  7
#define LOOPS   4096
#define THREADS 64
/* Seconds that a job takes to be handed over and waited for: an assumption. */
#define BARRIER 3e-6

/* The pool: a number, and a record of the loops that ran. */
struct tacit_pool {
    unsigned threads;
};

typedef struct loop {
    size_t chunks;
    double *seconds; /* (chunks), the least so far */
} loop;

static loop loops[LOOPS];
static size_t loop_count;
static double in_chunks; /* of this forward */
static bool recording;

tacit_status tacit_pool_open(tacit_pool **pool, unsigned threads, tacit_err *err)
{
    *pool = tacit_alloc(sizeof **pool);
    if (!*pool)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    (*pool)->threads = threads;
    return TACIT_OK;
}

void tacit_pool_close(tacit_pool **pool)
{
    tacit_free(*pool);
    *pool = NULL;
}

unsigned tacit_pool_threads(const tacit_pool *pool)
{
    return pool ? pool->threads : 1;
}

void tacit_parallel_for(tacit_pool *pool, size_t chunks, tacit_chunk_fn *fn, void *ctx)
{
    (void)pool;
    static bool inside;
    if (inside) { /* of a loop that is timed */
        for (size_t i = 0; i < chunks; i++)
            fn(ctx, i, 0);
        return;
    }
    loop *l = recording && loop_count < LOOPS ? &loops[loop_count++] : NULL;
    if (l && !l->seconds) {
        l->chunks = chunks;
        l->seconds = tacit_alloc((chunks + 1) * sizeof *l->seconds);
        if (!l->seconds) {
            fprintf(stderr, "bench_scaling: out of memory\n");
            exit(1);
        }
        for (size_t i = 0; i < chunks; i++)
            l->seconds[i] = 1e9;
    }
    for (size_t i = 0; i < chunks; i++) {
        double start = tacit_now();
        inside = true;
        fn(ctx, i, 0);
        inside = false;
        double took = tacit_now() - start;
        in_chunks += took;
        if (l && took < l->seconds[i])
            l->seconds[i] = took;
    }
}

static void forget_loops(void)
{
    for (size_t i = 0; i < LOOPS; i++)
        tacit_free(loops[i].seconds);
    memset(loops, 0, sizeof loops);
}

/* One loop on so many threads: who is free takes the next run of its share, or helps with the
 * others'. */
static double makespan(const loop *l, unsigned threads)
{
    double free_at[THREADS] = { 0 }, end = 0;
    size_t shares = tacit_pool_shares(l->chunks, threads), next[THREADS];
    for (size_t s = 0; s < shares; s++)
        next[s] = tacit_pool_share(l->chunks, s, shares);
    for (size_t left = l->chunks; left;) {
        unsigned first = 0;
        for (unsigned t = 1; t < threads; t++)
            if (free_at[t] < free_at[first])
                first = t;
        size_t share = first * shares / threads, last;
        while (next[share] == (last = tacit_pool_share(l->chunks, share + 1, shares)))
            share = (share + 1) % shares;
        for (size_t run = tacit_pool_run(last - next[share]); run && next[share] < last; run--) {
            free_at[first] += l->seconds[next[share]++];
            left--;
        }
        end = free_at[first] > end ? free_at[first] : end;
    }
    return threads > 1 && l->chunks > 1 ? end + BARRIER : end;
}

static tacit_status simulate(const tacit_model *model, size_t batch, unsigned threads,
                             double *alone, tacit_err *err)
{
    unsigned height, width;
    tacit_backbone_input(tacit_backbone_config_of(model->backbone), &height, &width);
    size_t floats = (size_t)3 * height * width * batch;
    tacit_pool pool = { threads };
    float *images = tacit_alloc(floats * sizeof *images);
    float *vectors = tacit_alloc(batch * model->dim * sizeof *vectors);
    void *scratch = tacit_alloc(tacit_backbone_scratch(model->backbone, batch, &pool));
    tacit_status st =
        images && vectors && scratch ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (size_t i = 0; st == TACIT_OK && i < floats; i++)
        images[i] = (float)(i % 101) * 0.04f - 2;
    double outside = 1e9; /* of the chunks: what one thread does alone */
    for (int round = 0; st == TACIT_OK && round <= ROUNDS; round++) {
        recording = round > 0; /* the first brings memory in */
        loop_count = 0;
        in_chunks = 0;
        double start = tacit_now();
        tacit_backbone_forward(model->backbone, images, batch, model->features, vectors, scratch,
                               &pool);
        double alone_took = tacit_now() - start - in_chunks;
        outside = alone_took < outside ? alone_took : outside;
    }
    recording = false;
    if (st == TACIT_OK && loop_count == LOOPS)
        st = tacit_fail(err, TACIT_ELIMIT, "the network has more than %d loops", LOOPS);
    if (st == TACIT_OK) {
        double seconds = outside;
        size_t chunks = 0;
        for (size_t i = 0; i < loop_count; i++) {
            seconds += makespan(&loops[i], threads);
            chunks += loops[i].chunks;
        }
        if (threads == 1)
            *alone = seconds;
        printf("%7u  %9.3f  %8.2f  %9.0f %%  %6zu  %7zu\n", threads, 1e3 * seconds,
               *alone / seconds, 100 * *alone / seconds / threads, loop_count, chunks);
    }
    forget_loops();
    tacit_free(images);
    tacit_free(vectors);
    tacit_free(scratch);
    return st;
}

int main(int argc, char **argv)
{
    tacit_err err;
    tacit_model model = { 0 };
    tacit_model_options options;
    tacit_model_defaults(&options);
    size_t batch = argc == 4 ? strtoul(argv[3], NULL, 10) : 0;
    unsigned precision = 0;
    while (argc == 4 && tacit_precision_name(precision) &&
           strcmp(tacit_precision_name(precision), argv[2]))
        precision++;
    if (!batch || batch > 1024 || !tacit_precision_name(precision)) {
        fprintf(stderr, "usage: bench_scaling WEIGHTS fp32|int8|bf16 BATCH\n");
        return 2;
    }
    options.weights = argv[1];
    options.precision = (tacit_precision)precision;
    tacit_status st = tacit_model_open(&model, &options, false, NULL, &err);
    double alone = 0;
    if (st == TACIT_OK)
        printf("threads  ms, forward  speed-up  efficiency  loops   chunks\n");
    for (unsigned threads = 1; st == TACIT_OK && threads <= THREADS; threads *= 2)
        st = simulate(&model, batch, threads, &alone, &err);
    tacit_model_close(&model);
    if (st < 0)
        fprintf(stderr, "bench_scaling: %s\n", err.text);
    return st < 0;
}
