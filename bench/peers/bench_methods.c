/* bench_methods.c - our side of peers/methods.py: stays alive and does a training step a line.
 *
 *     bench_methods METHOD CONFIG THREADS [FOLDER]
 *
 * CONFIG is the config.ini of a run of METHOD, whose images it has. Before the first line it does
 * the run's first step, with all that comes before it; from then on steps of the same views, which
 * stay in memory, behind the first epoch. It says when it is ready, and the first step's loss; each
 * line is answered by a JSON object with the seconds of the step and of its three parts, what it
 * needs in GFLOP, and what share of the FMA limit that amounts to.
 *
 * What the other side needs to do the very same goes to FOLDER: first_weights.safetensors, of all
 * tensors and behind "teacher." a teacher's, and first_batch.safetensors, "view.0" and on and
 * "samples".
 */
#include "loader_feed.h"
#include "measure.h"
#include "param_source.h"
#include "safetensors.h"

#include <stdio.h>
#include <stdlib.h>

#define SLICE 0.05 /* seconds of the limit before and behind a step */
#define PATH  4096

typedef struct bench {
    tacit_config config;
    tacit_pool *pool;
    tacit_isa isa;
    tacit_engine engine;
    tacit_loader_feed images;
    tacit_feed feed; /* of images, until the first step is done */
    tacit_batch batch;
    bool begun;
} bench;

/* Of the loader's last batch, which stays as it is while no other is asked for. */
static tacit_status next(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                         tacit_err *err)
{
    bench *b = ctx;
    tacit_status st = TACIT_OK;
    if (!b->begun)
        st = b->images.feed.next(b->images.feed.ctx, epoch, index, &b->batch, err);
    *batch = b->batch;
    return st;
}

static tacit_status read_settings(bench *b, const char *name, const char *path, tacit_err *err)
{
    const tacit_method *method = tacit_method_find(name);
    if (!method)
        return tacit_fail(err, TACIT_EINVAL, "there is no method '%.60s'", name);
    tacit_status st = tacit_config_open(&b->config, method, err);
    return st < 0 ? st : tacit_config_read(&b->config, path, err);
}

static tacit_status open_threads(bench *b, unsigned asked, tacit_err *err)
{
    tacit_threads threads;
    tacit_status st = tacit_threads_select(asked, &threads, err);
    if (st == TACIT_OK)
        st = tacit_isa_select(NULL, &b->isa, err);
    return st < 0 ? st : tacit_pool_open(&b->pool, threads.use, err);
}

static tacit_status open_engine(bench *b, tacit_err *err)
{
    tacit_engine *e = &b->engine;
    tacit_status st = tacit_engine_declare(e, &b->config, tacit_kernels_for(b->isa), b->pool, err);
    if (st == TACIT_OK && e->parts > 1)
        st = tacit_fail(err, TACIT_EINVAL, "accumulate = %zu: only steps of one part", e->parts);
    if (st == TACIT_OK)
        st = tacit_loader_feed_open(&b->images, e, NULL, NULL, err);
    if (st == TACIT_OK && b->images.feed.parts < 2)
        st = tacit_fail(err, TACIT_EINVAL, "two batches of images are needed");
    if (st == TACIT_OK)
        st = tacit_engine_schedule(e, b->images.feed.parts, err);
    if (st == TACIT_OK)
        st = tacit_engine_open(e, err);
    b->feed = (tacit_feed){ b, b->images.feed.parts, next };
    return st;
}

/* The second step of the second epoch: nothing comes before it, no tensor waits any more. */
static tacit_status step(bench *b, tacit_step *result, tacit_err *err)
{
    b->engine.step = b->engine.epoch_steps + 1;
    return tacit_engine_step(&b->engine, &b->feed, result, err);
}

static tacit_status path_in(const char *folder, const char *name, char path[PATH], tacit_err *err)
{
    int length = snprintf(path, PATH, "%s/%s", folder, name);
    return length < PATH ? TACIT_OK : tacit_fail(err, TACIT_EINVAL, "%.60s...: too long", folder);
}

static tacit_status write_weights(bench *b, const char *folder, tacit_err *err)
{
    char path[PATH];
    tacit_params *sets[] = { &b->engine.params, &b->engine.teacher };
    tacit_param_source source;
    tacit_status st = tacit_param_source_open(&source, sets[0]->count + sets[1]->count, err);
    for (size_t set = 0; st == TACIT_OK && set < 2; set++)
        for (size_t i = 0; i < sets[set]->count; i++)
            tacit_param_source_add(&source, set ? "teacher." : "", sets[set]->list[i],
                                   sets[set]->list[i]->value);
    if (st == TACIT_OK)
        st = path_in(folder, "first_weights.safetensors", path, err);
    if (st == TACIT_OK) {
        tacit_tensor_source tensors = tacit_param_source_of(&source);
        st = tacit_safetensors_copy(path, &tensors, NULL, err);
    }
    tacit_param_source_close(&source);
    return st;
}

static tacit_status write_batch(const bench *b, const char *folder, tacit_err *err)
{
    char path[PATH], names[TACIT_METHOD_VIEWS][32];
    tacit_view views[TACIT_METHOD_VIEWS];
    tacit_safetensors_entry entries[TACIT_METHOD_VIEWS + 1];
    size_t count, images = b->engine.learner.part;
    tacit_status st = tacit_loader_feed_views(&b->engine, views, &count, err);
    if (st == TACIT_OK)
        st = path_in(folder, "first_batch.safetensors", path, err);
    if (st < 0)
        return st;
    for (size_t i = 0; i < count; i++) {
        snprintf(names[i], sizeof names[i], "view.%zu", i);
        entries[i] = (tacit_safetensors_entry){
            { .name = names[i], .rank = 4, .shape = { images, 3, views[i].size, views[i].size } },
            b->batch.views[i]
        };
    }
    entries[count] = (tacit_safetensors_entry){
        { .name = "samples", .dtype = TACIT_I32, .rank = 1, .shape = { images } }, b->batch.samples
    };
    return tacit_safetensors_write(path, entries, count + 1, NULL, err);
}

/* The run's first step, of which *loss is the loss, and one of those that are measured. */
static tacit_status begin(bench *b, const char *folder, double *loss, tacit_err *err)
{
    tacit_step result;
    tacit_status st = folder ? write_weights(b, folder, err) : TACIT_OK;
    if (st == TACIT_OK)
        st = tacit_engine_step(&b->engine, &b->feed, &result, err);
    b->begun = true;
    if (st == TACIT_OK && folder)
        st = write_batch(b, folder, err);
    if (st < 0)
        return st;
    *loss = result.loss;
    return step(b, &result, err);
}

static tacit_status measure(bench *b, tacit_err *err)
{
    tacit_step r;
    double gflop =
        1e-9 * (double)b->engine.learner.whole * b->engine.method->flops(b->engine.state);
    double limit = tacit_fma_limit(b->isa, b->pool, SLICE), start = tacit_now();
    tacit_status st = step(b, &r, err);
    double seconds = tacit_now() - start;
    limit = (limit + tacit_fma_limit(b->isa, b->pool, SLICE)) / 2;
    if (st == TACIT_OK)
        printf("{\"method\":\"%s\",\"batch\":%zu,\"time_s\":%.6g,\"forward_s\":%.6g,"
               "\"backward_s\":%.6g,\"optimiser_s\":%.6g,\"loss\":%.6g,\"gflop\":%.6g,"
               "\"share\":%.4g}\n",
               b->engine.method->name, b->engine.learner.whole, seconds, r.forward_s, r.backward_s,
               r.optimiser_s, r.loss, gflop, limit > 0 ? gflop / seconds / limit : 0);
    fflush(stdout);
    return st;
}

static tacit_status run(bench *b, char **argv, tacit_err *err)
{
    int c;
    double loss = 0;
    tacit_status st = read_settings(b, argv[1], argv[2], err);
    if (st == TACIT_OK)
        st = open_threads(b, (unsigned)strtoul(argv[3], NULL, 10), err);
    if (st == TACIT_OK)
        st = open_engine(b, err);
    if (st == TACIT_OK)
        st = begin(b, argv[4], &loss, err);
    if (st == TACIT_OK)
        printf("{\"isa\":\"%s\",\"loss\":%.9g}\n", tacit_isa_name(b->isa), loss);
    fflush(stdout);
    while (st == TACIT_OK && (c = getchar()) != EOF)
        if (c == '\n')
            st = measure(b, err);
    return st;
}

int main(int argc, char **argv)
{
    tacit_err err;
    bench b = { 0 };
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: bench_methods METHOD CONFIG THREADS [FOLDER]\n");
        return 2;
    }
    tacit_status st = run(&b, argv, &err);
    if (st < 0)
        fprintf(stderr, "bench_methods: %s\n", err.text);
    tacit_loader_feed_close(&b.images);
    tacit_engine_close(&b.engine);
    tacit_pool_close(&b.pool);
    tacit_config_close(&b.config);
    return st < 0;
}
