/* classifier.c - see classifier.h. */
#include "classifier.h"

#include "linear.h"
#include "mem.h"
#include "meta.h"
#include "output.h"
#include "safetensors.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES ((size_t)8 << 20) /* vectors and logits of a block */
#define CHUNK       64                /* rows */

static tacit_status take_memory(tacit_classifier *c, size_t classes, size_t dim, tacit_err *err)
{
    size_t weights;
    *c = (tacit_classifier){ .classes = classes, .dim = dim };
    c->names = tacit_calloc(classes, sizeof *c->names);
    c->weight =
        tacit_mul_size(classes, dim, &weights) ? tacit_calloc(weights, sizeof *c->weight) : NULL;
    c->bias = tacit_calloc(classes, sizeof *c->bias);
    if (c->names && c->weight && c->bias)
        return TACIT_OK;
    tacit_classifier_close(c);
    return tacit_fail(err, TACIT_ENOMEM, "out of memory for a classifier of %zu classes", classes);
}

tacit_status tacit_classifier_open(tacit_classifier *c, const tacit_labels *labels,
                                   const tacit_vectors *vectors, tacit_err *err)
{
    tacit_status st = take_memory(c, labels->classes, vectors->dim, err);
    if (st < 0)
        return st;
    bool good = true;
    for (size_t i = 0; good && i < c->classes; i++)
        good = (c->names[i] = tacit_strdup(labels->names[i])) != NULL;
    if (vectors->recipe)
        good = good && (c->recipe = tacit_json_copy(vectors->recipe)) != NULL;
    if (good)
        return TACIT_OK;
    tacit_classifier_close(c);
    return tacit_fail(err, TACIT_ENOMEM, "out of memory for a classifier");
}

void tacit_classifier_close(tacit_classifier *c)
{
    for (size_t i = 0; c->names && i < c->classes; i++)
        tacit_free(c->names[i]);
    tacit_free(c->names);
    tacit_free(c->weight);
    tacit_free(c->bias);
    json_decref(c->recipe);
    *c = (tacit_classifier){ 0 };
}

tacit_status tacit_classifier_save(const tacit_classifier *c, const char *path, const char *how,
                                   tacit_err *err)
{
    json_t *names = json_array();
    bool good = names != NULL;
    for (size_t i = 0; good && i < c->classes; i++) {
        json_t *name = json_string(c->names[i]);
        if (!name) {
            json_decref(names);
            return tacit_fail(err, TACIT_EUNSUPPORTED,
                              "%s: the name of class %zu is not UTF-8, as a safetensors file needs",
                              path, i);
        }
        good = !json_array_append_new(names, name);
    }
    char *classes = good ? json_dumps(names, JSON_COMPACT) : NULL;
    char *recipe = c->recipe ? json_dumps(c->recipe, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    const tacit_safetensors_entry entries[] = {
        { { .name = "weight", .dtype = TACIT_F32, .rank = 2, .shape = { c->classes, c->dim } },
          c->weight },
        { { .name = "bias", .dtype = TACIT_F32, .rank = 1, .shape = { c->classes } }, c->bias },
    };
    const char *const metadata[] = { "format",     "tacit classifier",       "classes", classes,
                                     "embeddings", recipe ? recipe : "null", "probe",   how,
                                     NULL };
    tacit_status st = classes && (recipe || !c->recipe)
                          ? tacit_safetensors_write(path, entries, 2, metadata, err)
                          : tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    free(classes);
    free(recipe);
    json_decref(names);
    return st;
}

static const tacit_tensor *find(const tacit_tensor_source *source, const char *name, size_t *at)
{
    for (*at = 0; *at < source->count; ++*at)
        if (!strcmp(source->tensors[*at].name, name))
            return &source->tensors[*at];
    return NULL;
}

static tacit_status read_names(tacit_classifier *c, const json_t *names, const char *path,
                               tacit_err *err)
{
    if (!json_is_array(names) || json_array_size(names) != c->classes)
        return tacit_fail(err, TACIT_EFORMAT, "%s: does not name its %zu classes", path,
                          c->classes);
    for (size_t i = 0; i < c->classes; i++) {
        const char *name = json_string_value(json_array_get(names, i));
        if (!name || !*name)
            return tacit_fail(err, TACIT_EFORMAT, "%s: class %zu has no name", path, i);
        if (!(c->names[i] = tacit_strdup(name)))
            return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    }
    return TACIT_OK;
}

static tacit_status read_tensors(tacit_classifier *c, const tacit_safetensors *file,
                                 const char *path, tacit_err *err)
{
    tacit_tensor_source source = tacit_safetensors_source(file);
    size_t w, b;
    const tacit_tensor *weight = find(&source, "weight", &w), *bias = find(&source, "bias", &b);
    const char *names = tacit_safetensors_metadata(file, "classes");
    const char *recipe = tacit_safetensors_metadata(file, "embeddings");
    if (!weight || !bias || !names || !recipe || weight->dtype != TACIT_F32 || weight->rank != 2 ||
        bias->dtype != TACIT_F32 || bias->rank != 1 || bias->shape[0] != weight->shape[0] ||
        !weight->shape[0] || !weight->shape[1])
        return tacit_fail(err, TACIT_EFORMAT, "%s: is not a classifier of tacit probe", path);
    tacit_status st = take_memory(c, weight->shape[0], weight->shape[1], err);
    if (st < 0)
        return st;
    json_t *list = json_loads(names, 0, NULL);
    c->recipe = json_loads(recipe, JSON_DECODE_ANY, NULL);
    if (!json_is_object(c->recipe)) {
        if (!json_is_null(c->recipe))
            st = tacit_fail(err, TACIT_EFORMAT, "%s: does not say what its embeddings are", path);
        json_decref(c->recipe);
        c->recipe = NULL;
    }
    if (st == TACIT_OK)
        st = read_names(c, list, path, err);
    json_decref(list);
    if (st == TACIT_OK)
        st = source.read(source.ctx, w, 0, weight->bytes, c->weight, err);
    if (st == TACIT_OK)
        st = source.read(source.ctx, b, 0, bias->bytes, c->bias, err);
    for (size_t i = 0; st == TACIT_OK && i < c->classes * (c->dim + 1); i++)
        if (!isfinite(i < c->classes ? c->bias[i] : c->weight[i - c->classes]))
            st = tacit_fail(err, TACIT_EFORMAT, "%s: holds a NaN or an infinity", path);
    return st;
}

tacit_status tacit_classifier_load(tacit_classifier *c, const char *path, tacit_err *err)
{
    *c = (tacit_classifier){ 0 };
    tacit_safetensors *file;
    tacit_status st = tacit_safetensors_open(&file, path, err);
    if (st < 0)
        return st;
    st = read_tensors(c, file, path, err);
    tacit_safetensors_close(&file);
    if (st < 0)
        tacit_classifier_close(c);
    return st;
}

tacit_status tacit_classifier_match(const tacit_classifier *c, const tacit_vectors *vectors,
                                    tacit_err *err)
{
    if (c->dim != vectors->dim)
        return tacit_fail(err, TACIT_ECONFLICT,
                          "%s has vectors of %zu values, the classifier is for %zu", vectors->path,
                          vectors->dim, c->dim);
    if (!c->recipe || !vectors->recipe)
        return TACIT_OK;
    tacit_status st = tacit_recipe_compare(c->recipe, vectors->recipe, tacit_recipe_images, err);
    return st < 0 ? tacit_fail_at(err, st, "the classifier is not for %s", vectors->folder) : st;
}

tacit_status tacit_classifier_run(const tacit_classifier *c, const tacit_vectors *vectors,
                                  const tacit_kernels *kernels, tacit_pool *pool,
                                  tacit_logits_visit *visit, void *ctx, tacit_err *err)
{
    size_t block = BLOCK_BYTES / sizeof(float) / (c->dim + c->classes) / CHUNK * CHUNK;
    block = block ? block : CHUNK;
    block = block < vectors->rows ? block : vectors->rows;
    bool wide = vectors->npy.dtype == TACIT_F32;
    tacit_linear layer = { .in = c->dim, .out = c->classes, .bias = c->bias };
    layer.packed = tacit_calloc(tacit_gemm_packed_size(kernels, c->classes, c->dim), sizeof(float));
    float *converted = tacit_calloc(wide ? 0 : block, c->dim * sizeof *converted);
    float *logits = tacit_calloc(block, c->classes * sizeof *logits);
    tacit_status st = TACIT_OK;
    if (layer.packed && converted && logits)
        kernels->gemm_pack_f32(c->classes, c->dim, c->weight, c->dim, layer.packed);
    else
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for the logits of %zu classes",
                        c->classes);
    for (size_t from = 0; st == TACIT_OK && from < vectors->rows; from += block) {
        size_t count = vectors->rows - from < block ? vectors->rows - from : block;
        const float *x = tacit_vectors_rows(vectors, from, count, kernels, converted);
        tacit_linear_forward(&layer, kernels, 0, count, x, c->dim, NULL, logits, c->classes, NULL,
                             pool);
        st = visit(ctx, from, count, logits, err);
    }
    tacit_free(layer.packed);
    tacit_free(converted);
    tacit_free(logits);
    return st;
}

typedef struct scoring {
    const tacit_labels *labels;
    const bool *only;
    tacit_pool *pool;
    tacit_score *score;
    tacit_place *places; /* (rows) of a block, reused */
    size_t room, from, count;
    const float *logits;
    double *wide; /* (workers, classes) */
    bool *finite; /* (rows) of a block */
    bool all_finite;
} scoring;

static bool wanted(const scoring *s, size_t row)
{
    return !s->only || s->only[row];
}

static void place_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const scoring *s = ctx;
    size_t classes = s->labels->classes;
    double *wide = s->wide + worker * classes;
    for (size_t i = chunk * CHUNK; i < s->count && i < (chunk + 1) * CHUNK; i++) {
        if (!wanted(s, s->from + i))
            continue;
        s->finite[i] = true;
        for (size_t c = 0; c < classes; c++) {
            wide[c] = (double)s->logits[i * classes + c];
            s->finite[i] &= isfinite(wide[c]) != 0;
        }
        s->places[i] = tacit_place_of(s->labels->of[s->from + i], wide, classes);
    }
}

static tacit_status score_block(void *ctx, size_t from, size_t count, float *logits, tacit_err *err)
{
    scoring *s = ctx;
    if (count > s->room) { /* the first block is the longest */
        s->places = tacit_calloc(count, sizeof *s->places);
        s->finite = tacit_calloc(count, sizeof *s->finite);
        s->wide = tacit_calloc(tacit_pool_threads(s->pool) * s->labels->classes, sizeof *s->wide);
        if (!s->places || !s->finite || !s->wide)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for the scores of %zu rows", count);
        s->room = count;
    }
    s->from = from;
    s->count = count;
    s->logits = logits;
    tacit_parallel_for(s->pool, (count + CHUNK - 1) / CHUNK, place_chunk, s);
    for (size_t i = 0; i < count; i++)
        if (wanted(s, from + i)) {
            tacit_score_add(s->score, s->labels->of[from + i], s->places[i]);
            s->all_finite &= s->finite[i];
        }
    return TACIT_OK;
}

tacit_status tacit_classifier_score(const tacit_classifier *c, const tacit_vectors *vectors,
                                    const tacit_labels *labels, const bool *only,
                                    const tacit_kernels *kernels, tacit_pool *pool,
                                    tacit_score *score, bool *finite, tacit_err *err)
{
    scoring s = {
        .labels = labels, .only = only, .pool = pool, .score = score, .all_finite = true
    };
    tacit_status st = tacit_classifier_run(c, vectors, kernels, pool, score_block, &s, err);
    *finite = s.all_finite;
    tacit_free(s.places);
    tacit_free(s.finite);
    tacit_free(s.wide);
    return st;
}
