/* api.c - tacit.h over model, batch and batcher. */
#include "tacit.h"

#include "batch.h"
#include "batcher.h"
#include "cpu.h"
#include "extractor.h"
#include "histogram.h"
#include "mem.h"

#include <pthread.h>
#include <stdbool.h>
#include <string.h>

struct tacit_extractor {
    tacit_pool *pool;
    tacit_model model;
    tacit_batch *batch;
};

struct tacit_server {
    tacit_extractor *extractor;
    tacit_batcher *batcher;
    pthread_mutex_t lock; /* guards times, and done of calls */
    tacit_histogram times;
    uint64_t *sizes; /* (batch + 1) */
};

const char *tacit_version(void)
{
    return TACIT_VERSION;
}

/* The position of text among the names that name_of gives; NULL leaves *out. */
static tacit_status choose(const char *text, const char *(*name_of)(unsigned), const char *what,
                           int *out, tacit_err *err)
{
    if (!text)
        return TACIT_OK;
    for (unsigned i = 0; name_of(i); i++)
        if (!strcmp(text, name_of(i))) {
            *out = (int)i;
            return TACIT_OK;
        }
    return tacit_fail(err, TACIT_EINVAL, "unknown %s '%s'", what, text);
}

static tacit_status convert(const tacit_options *o, tacit_model_options *model, tacit_err *err)
{
    tacit_model_defaults(model);
    tacit_recipe_options *recipe = &model->recipe;
    int precision = TACIT_PRECISION_FP32;
    tacit_status st;
    if ((st = choose(o->features, tacit_features_name, "features", &model->features, err)) < 0 ||
        (st = choose(o->filter, tacit_filter_name, "filter", &recipe->filter, err)) < 0 ||
        (st = choose(o->resize_by, tacit_resampler_name, "way to resize", &recipe->resampler,
                     err)) < 0 ||
        (st = choose(o->crop_mode, tacit_crop_mode_name, "crop mode", &recipe->crop_mode, err)) <
            0 ||
        (st = choose(o->precision, tacit_precision_name, "precision", &precision, err)) < 0)
        return st;
    model->weights = o->weights ? o->weights : TACIT_WEIGHTS_DEFAULT;
    model->how.arch = o->arch;
    model->how.checkpoint_key = o->checkpoint_key;
    model->how.allow_partial = o->allow_partial != 0;
    model->normalize = o->normalize != 0;
    model->blocks = o->blocks;
    model->precision = (tacit_precision)precision;
    model->cache = o->cache;
    model->size[0] = o->size;
    model->size[1] = o->size_width ? o->size_width : o->size;
    recipe->resize[0] = o->resize;
    recipe->resize[1] = o->resize_width ? o->resize_width : o->resize;
    recipe->crop_pct = o->crop_pct;
    recipe->pillow = o->pillow;
    recipe->mean = o->mean;
    recipe->std = o->std;
    if ((o->size_width && !o->size) || (o->resize_width && !o->resize))
        return tacit_fail(err, TACIT_EINVAL, "a width without its height");
    return TACIT_OK;
}

static tacit_status open_extractor(tacit_extractor **out, const tacit_options *given, bool serves,
                                   tacit_err *err)
{
    *out = NULL;
    if (given->struct_size > sizeof *given || given->struct_size < sizeof given->struct_size)
        return tacit_fail(err, TACIT_EINVAL,
                          "struct_size is %zu, where this library knows %zu: use "
                          "TACIT_OPTIONS_INIT, and a library as new as its header",
                          given->struct_size, sizeof *given);
    tacit_options options = { 0 };
    memcpy(&options, given, given->struct_size);
    if (options.batch > TACIT_BATCH_MOST)
        return tacit_fail(err, TACIT_EINVAL, "batches of %zu images: use up to %d", options.batch,
                          TACIT_BATCH_MOST);
    tacit_extractor *e = tacit_calloc(1, sizeof *e);
    if (!e)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    tacit_model_options model;
    tacit_threads threads;
    tacit_status st;
    if ((st = convert(&options, &model, err)) < 0 ||
        (st = tacit_threads_select(options.threads, &threads, err)) < 0 ||
        (st = tacit_pool_open(&e->pool, threads.use, err)) < 0 ||
        (st = tacit_model_open(&e->model, &model, false, e->pool, err)) < 0 ||
        (st = tacit_batch_open(&e->batch, &e->model,
                               options.batch ? options.batch
                               : serves      ? tacit_batch_default(threads.use)
                                             : 1,
                               e->pool, err)) < 0)
        tacit_extractor_close(&e);
    *out = e;
    return st;
}

tacit_status tacit_extractor_open(tacit_extractor **out, const tacit_options *options,
                                  tacit_err *err)
{
    return open_extractor(out, options, false, err);
}

size_t tacit_extractor_dim(const tacit_extractor *e)
{
    return e->model.dim;
}

const char *tacit_extractor_arch(const tacit_extractor *e)
{
    return e->model.arch;
}

tacit_status tacit_extractor_embed_batch(tacit_extractor *e, tacit_input *inputs, size_t count,
                                         tacit_err *err)
{
    size_t most = tacit_batch_most(e->batch);
    const tacit_input *bad = NULL;
    for (size_t i = 0; i < count; i += most) {
        tacit_input *some[TACIT_BATCH_MOST];
        size_t n = count - i < most ? count - i : most;
        for (size_t k = 0; k < n; k++)
            some[k] = &inputs[i + k];
        tacit_batch_run(e->batch, some, n);
        for (size_t k = 0; !bad && k < n; k++)
            bad = some[k]->status < 0 ? some[k] : NULL;
    }
    return bad ? tacit_fail(err, bad->status, "%s", bad->err.text) : TACIT_OK;
}

tacit_status tacit_extractor_embed(tacit_extractor *e, const void *bytes, size_t size,
                                   float *vector, tacit_err *err)
{
    tacit_input input = { .bytes = bytes, .size = size, .vector = vector };
    return tacit_extractor_embed_batch(e, &input, 1, err);
}

tacit_status tacit_extractor_embed_rgb8(tacit_extractor *e, const uint8_t *rgb, size_t width,
                                        size_t height, float *vector, tacit_err *err)
{
    if (!width || !height)
        return tacit_fail(err, TACIT_EINVAL, "an image of %zu x %zu", width, height);
    tacit_input input = { .bytes = rgb, .width = width, .height = height, .vector = vector };
    return tacit_extractor_embed_batch(e, &input, 1, err);
}

void tacit_extractor_close(tacit_extractor **p)
{
    tacit_extractor *e = *p;
    *p = NULL;
    if (!e)
        return;
    tacit_batch_close(&e->batch);
    tacit_model_close(&e->model);
    tacit_pool_close(&e->pool);
    tacit_free(e);
}

/* Server -------------------------------------------------------------------------------------- */

tacit_status tacit_server_open(tacit_server **out, const tacit_options *options, tacit_err *err)
{
    *out = NULL;
    tacit_server *s = tacit_calloc(1, sizeof *s);
    if (!s)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    tacit_status st;
    if (pthread_mutex_init(&s->lock, NULL)) {
        tacit_free(s);
        return tacit_fail(err, TACIT_ENOMEM, "the system gives no lock");
    }
    if ((st = open_extractor(&s->extractor, options, true, err)) >= 0 &&
        !(s->sizes = tacit_calloc(tacit_batch_most(s->extractor->batch) + 1, sizeof *s->sizes)))
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory");
    if (st >= 0)
        tacit_batch_warm(s->extractor->batch);
    if (st < 0 || (st = tacit_batcher_open(&s->batcher, s->extractor->batch, err)) < 0)
        tacit_server_close(&s);
    *out = s;
    return st;
}

size_t tacit_server_dim(const tacit_server *server)
{
    return tacit_extractor_dim(server->extractor);
}

/* A call that waits for its request. */
struct call {
    tacit_request request;
    tacit_server *server;
    pthread_cond_t wake;
    bool done;
};

static void call_done(tacit_request *request)
{
    struct call *call = request->ctx;
    tacit_server *server = call->server; /* the call is gone once the lock is free */
    pthread_mutex_lock(&server->lock);
    call->done = true;
    pthread_cond_signal(&call->wake);
    pthread_mutex_unlock(&server->lock);
}

tacit_status tacit_server_embed(tacit_server *s, tacit_input *input)
{
    uint64_t start = tacit_clock_ns();
    struct call call = { .request = { .input = *input, .done = call_done }, .server = s };
    call.request.ctx = &call;
    if (pthread_cond_init(&call.wake, NULL))
        return input->status = tacit_fail(&input->err, TACIT_ENOMEM, "the system gives no lock");
    tacit_batcher_submit(s->batcher, &call.request);
    pthread_mutex_lock(&s->lock);
    while (!call.done)
        pthread_cond_wait(&call.wake, &s->lock);
    if (call.request.input.status >= 0)
        tacit_histogram_add(&s->times, tacit_clock_ns() - start);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_destroy(&call.wake);
    *input = call.request.input;
    return input->status;
}

void tacit_server_latency(tacit_server *s, tacit_latency *out)
{
    pthread_mutex_lock(&s->lock);
    *out = (tacit_latency){
        .count = s->times.count,
        .p50_s = tacit_histogram_quantile(&s->times, 0.5),
        .p99_s = tacit_histogram_quantile(&s->times, 0.99),
        .p999_s = tacit_histogram_quantile(&s->times, 0.999),
        .max_s = 1e-9 * (double)s->times.longest,
    };
    tacit_batcher_sizes(s->batcher, s->sizes);
    for (size_t n = 1; n <= tacit_batch_most(s->extractor->batch); n++)
        out->batches += s->sizes[n];
    pthread_mutex_unlock(&s->lock);
}

void tacit_server_close(tacit_server **p)
{
    tacit_server *s = *p;
    *p = NULL;
    if (!s)
        return;
    tacit_batcher_close(&s->batcher);
    tacit_extractor_close(&s->extractor);
    tacit_free(s->sizes);
    pthread_mutex_destroy(&s->lock);
    tacit_free(s);
}
