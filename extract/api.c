/* api.c - tacit.h over model and session. */
#include "tacit.h"

#include "cpu.h"
#include "extractor.h"
#include "mem.h"

#include <string.h>

struct tacit_extractor {
    tacit_pool *pool;
    tacit_model model;
    tacit_session session;
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
    tacit_status st;
    if ((st = choose(o->features, tacit_features_name, "features", &model->features, err)) < 0 ||
        (st = choose(o->filter, tacit_filter_name, "filter", &recipe->filter, err)) < 0 ||
        (st = choose(o->resize_by, tacit_resampler_name, "way to resize", &recipe->resampler,
                     err)) < 0 ||
        (st = choose(o->crop_mode, tacit_crop_mode_name, "crop mode", &recipe->crop_mode, err)) < 0)
        return st;
    model->weights = o->weights ? o->weights : TACIT_WEIGHTS_DEFAULT;
    model->how.arch = o->arch;
    model->how.checkpoint_key = o->checkpoint_key;
    model->how.allow_partial = o->allow_partial != 0;
    model->normalize = o->normalize != 0;
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

tacit_status tacit_extractor_open(tacit_extractor **out, const tacit_options *given, tacit_err *err)
{
    *out = NULL;
    if (given->struct_size > sizeof *given || given->struct_size < sizeof given->struct_size)
        return tacit_fail(err, TACIT_EINVAL,
                          "struct_size is %zu, where this library knows %zu: use "
                          "TACIT_OPTIONS_INIT, and a library as new as its header",
                          given->struct_size, sizeof *given);
    tacit_options options = { 0 };
    memcpy(&options, given, given->struct_size);
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
        (st = tacit_session_open(&e->session, &e->model, 1, e->pool, err)) < 0)
        tacit_extractor_close(&e);
    *out = e;
    return st;
}

size_t tacit_extractor_dim(const tacit_extractor *e)
{
    return e->model.dim;
}

const char *tacit_extractor_arch(const tacit_extractor *e)
{
    return e->model.arch;
}

static tacit_status embed(tacit_extractor *e, float *vector, tacit_err *err)
{
    tacit_session_embed(&e->session, 1, vector);
    return tacit_model_finish(&e->model, vector, err);
}

tacit_status tacit_extractor_embed(tacit_extractor *e, const void *bytes, size_t size,
                                   float *vector, tacit_err *err)
{
    tacit_status st = tacit_session_put(&e->session, 0, bytes, size, err);
    return st < 0 ? st : embed(e, vector, err);
}

tacit_status tacit_extractor_embed_rgb8(tacit_extractor *e, const uint8_t *rgb, size_t width,
                                        size_t height, float *vector, tacit_err *err)
{
    if (!width || !height)
        return tacit_fail(err, TACIT_EINVAL, "an image of %zu x %zu", width, height);
    tacit_status st = tacit_session_put_rgb8(&e->session, 0, rgb, width, height, err);
    return st < 0 ? st : embed(e, vector, err);
}

void tacit_extractor_close(tacit_extractor **p)
{
    tacit_extractor *e = *p;
    *p = NULL;
    if (!e)
        return;
    tacit_session_close(&e->session);
    tacit_model_close(&e->model);
    tacit_pool_close(&e->pool);
    tacit_free(e);
}
