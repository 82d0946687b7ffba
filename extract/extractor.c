/* extractor.c - opens weights, tells the architecture, keeps the buffers. See extractor.h. */
#include "extractor.h"

#include "cpu.h"
#include "mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static const char *const features_names[] = {
    [TACIT_FEATURES_CLS] = "cls",           [TACIT_FEATURES_MEAN] = "mean",
    [TACIT_FEATURES_CLS_MEAN] = "cls+mean", [TACIT_FEATURES_PATCH] = "patch",
    [TACIT_FEATURES_LAST4] = "last4",
};

const char *tacit_features_name(unsigned features)
{
    return features < sizeof features_names / sizeof *features_names ? features_names[features]
                                                                     : NULL;
}

const char *tacit_precision_name(unsigned precision)
{
    static const char *const names[] = { [TACIT_PRECISION_FP32] = "fp32",
                                         [TACIT_PRECISION_INT8] = "int8",
                                         [TACIT_PRECISION_BF16] = "bf16" };
    return precision < sizeof names / sizeof *names ? names[precision] : NULL;
}

void tacit_model_defaults(tacit_model_options *options)
{
    *options = (tacit_model_options){ .features = -1 };
    tacit_recipe_defaults(&options->recipe);
}

/* The file's hash is taken beside the packing: both read the same pages. */
struct hash_task {
    const tacit_checkpoint *file;
    uint64_t hash;
    tacit_status status;
    tacit_err err;
};

static void *hash_main(void *arg)
{
    struct hash_task *task = arg;
    task->status = tacit_checkpoint_hash(task->file, &task->hash, &task->err);
    return NULL;
}

/* dialect: its configuration, features, published pixels and tensors. */
static tacit_status bind_model(tacit_model *model, const tacit_model_options *options,
                               const tacit_dialect *dialect, uint64_t hash, tacit_pool *pool,
                               tacit_err *err)
{
    tacit_backbone_config config = dialect->config;
    unsigned height, width;
    tacit_status st = TACIT_OK;
    if (options->size[0])
        st = tacit_backbone_set_input(&config, options->size[0], options->size[1], err);
    if (st < 0)
        return st;
    tacit_backbone_name(&config, model->arch, sizeof model->arch); /* with all of its blocks */
    if (options->blocks && (st = tacit_backbone_set_blocks(&config, options->blocks, err)) < 0)
        return st;
    tacit_backbone_set_inference(&config, options->precision, NULL);
    if (options->cache) {
        if (!(model->cache = tacit_calloc(1, sizeof *model->cache)))
            return tacit_fail(err, TACIT_ENOMEM, "out of memory");
        if ((st = tacit_packed_cache_open(model->cache, options->cache, dialect, hash, &config,
                                          model->kernels, pool, err)) < 0)
            return st;
        tacit_backbone_set_inference(&config, options->precision, &model->cache->stash);
    }
    tacit_backbone_input(&config, &height, &width);
    st = tacit_recipe_make(&model->recipe, &dialect->published, height, width, &options->recipe,
                           err);
    if (st < 0)
        return st;
    model->features = options->features < 0 ? dialect->features : (tacit_features)options->features;
    model->normalize = options->normalize;
    model->blocks = options->blocks;
    model->precision = options->precision;
    model->grid[0] = model->grid[1] = 1;
    st =
        tacit_backbone_open(&model->backbone, &config, &dialect->source, model->kernels, pool, err);
    if (st < 0)
        return st;
    model->dim = tacit_backbone_feature_count(model->backbone, model->features);
    if (!model->dim)
        return tacit_fail(err, TACIT_EINVAL, "%s has no features of the kind '%s'", model->arch,
                          tacit_features_name(model->features));
    if (model->features == TACIT_FEATURES_PATCH)
        tacit_backbone_grid(model->backbone, model->grid);
    return TACIT_OK;
}

static tacit_status open_file(tacit_model *model, const tacit_model_options *options,
                              bool want_hash, tacit_pool *pool, tacit_err *err)
{
    tacit_weights weights;
    tacit_status st = tacit_weights_open(&weights, options->weights, &options->how, err);
    if (st < 0) {
        tacit_weights_close(&weights);
        return st;
    }
    struct hash_task task = { .file = weights.checkpoint };
    pthread_t thread;
    bool beside = false;
    if (options->cache) /* it is looked up by the hash */
        task.status = tacit_packed_cache_hash(options->cache, task.file, &task.hash, &task.err);
    else
        beside = want_hash && pthread_create(&thread, NULL, hash_main, &task) == 0;
    if (beside || task.status >= 0) { /* a running thread has the task */
        st = bind_model(model, options, &weights.dialect, beside ? 0 : task.hash, pool, err);
        if (st < 0)
            tacit_fail_at(err, st, "%s", options->weights);
    }
    if (beside)
        pthread_join(thread, NULL);
    else if (want_hash && !options->cache && st >= 0)
        hash_main(&task);
    if (st >= 0 && task.status < 0) {
        st = task.status;
        if (err)
            *err = task.err;
    }
    model->hash = task.hash;
    snprintf(model->dialect, sizeof model->dialect, "%s", weights.dialect.name);
    snprintf(model->pixels, sizeof model->pixels, "%s", weights.pixels ? weights.pixels : "");
    snprintf(model->note, sizeof model->note, "%s", weights.note);
    tacit_weights_close(&weights);
    return st;
}

tacit_status tacit_model_open(tacit_model *model, const tacit_model_options *options,
                              bool want_hash, tacit_pool *pool, tacit_err *err)
{
    *model = (tacit_model){ 0 };
    tacit_isa isa;
    tacit_status st = tacit_isa_select(NULL, &isa, err);
    if (st < 0)
        return st;
    model->kernels = tacit_kernels_for(isa);
    st = open_file(model, options, want_hash, pool, err);
    if (st < 0)
        tacit_model_close(model);
    return st;
}

void tacit_model_close(tacit_model *model)
{
    tacit_backbone_close(&model->backbone);
    if (model->cache)
        tacit_packed_cache_close(model->cache);
    tacit_free(model->cache);
    *model = (tacit_model){ 0 };
}

unsigned tacit_model_shape(const tacit_model *model, size_t shape[3])
{
    size_t n = model->dim / model->grid[0] / model->grid[1];
    bool patches = model->features == TACIT_FEATURES_PATCH;
    memcpy(shape, patches ? (size_t[]){ model->grid[0], model->grid[1], n } : (size_t[]){ n, 0, 0 },
           3 * sizeof *shape);
    return patches ? 3 : 1;
}

tacit_status tacit_session_open(tacit_session *session, const tacit_model *model, size_t batch,
                                tacit_pool *pool, tacit_err *err)
{
    *session = (tacit_session){ .model = model, .pool = pool, .batch = batch };
    size_t planar = sizeof(float), scratch = tacit_backbone_scratch(model->backbone, batch, pool);
    bool fits = tacit_mul_size(planar, 3 * batch, &planar) &&
                tacit_mul_size(planar, model->recipe.height, &planar) &&
                tacit_mul_size(planar, model->recipe.width, &planar) && scratch;
    session->planar = fits ? tacit_alloc(planar) : NULL;
    session->scratch = session->planar ? tacit_alloc(scratch) : NULL;
    tacit_status st = TACIT_OK;
    if (!session->scratch)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for batches of %zu images: use --batch 1",
                        batch);
    else
        st = tacit_preprocessor_open(&session->pre, &model->recipe, model->kernels, err);
    if (st < 0)
        tacit_session_close(session);
    return st;
}

void tacit_session_close(tacit_session *session)
{
    tacit_preprocessor_close(&session->pre);
    tacit_image_free(&session->image);
    tacit_free(session->planar);
    tacit_free(session->scratch);
    *session = (tacit_session){ 0 };
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

tacit_status tacit_session_put_rgb8(tacit_session *session, size_t at, const uint8_t *rgb,
                                    size_t width, size_t height, tacit_err *err)
{
    const tacit_recipe *recipe = &session->model->recipe;
    double start = seconds();
    float *planar = session->planar + at * 3 * recipe->height * recipe->width;
    tacit_status st =
        tacit_preprocess(session->pre, rgb, width, height, planar, session->pool, err);
    session->times.preprocess += seconds() - start;
    return st;
}

tacit_status tacit_session_put(tacit_session *session, size_t at, const void *bytes, size_t size,
                               tacit_err *err)
{
    double start = seconds();
    tacit_image *image = &session->image;
    tacit_status st = tacit_image_decode(image, bytes, size, NULL, err);
    session->times.decode += seconds() - start;
    if (st < 0)
        return st;
    return tacit_session_put_rgb8(session, at, image->rgb, image->width, image->height, err);
}

void tacit_session_embed(tacit_session *session, size_t count, float *out)
{
    if (!count)
        return;
    double start = seconds();
    tacit_backbone_forward(session->model->backbone, session->planar, count,
                           session->model->features, out, session->scratch, session->pool);
    session->times.embed += seconds() - start;
}

tacit_status tacit_model_finish(const tacit_model *model, float *features, tacit_err *err)
{
    float sum = 0;
    for (size_t i = 0; i < model->dim; i++)
        sum += features[i] - features[i]; /* 0, or NaN for NaN and the infinities */
    if (sum != 0)
        return tacit_fail(err, TACIT_EFORMAT,
                          "its features are not finite: the weights do not work with this network "
                          "or recipe");
    size_t rows = (size_t)model->grid[0] * model->grid[1], n = model->dim / rows;
    if (model->normalize)
        model->kernels->l2norm_f32(rows, n, features, n, features, n);
    return TACIT_OK;
}
