/* knn_watch.c - see knn_watch.h. */
#include "knn_watch.h"

#include "dataset.h"
#include "extractor.h"
#include "knn_score.h"
#include "mem.h"

#include <math.h>
#include <string.h>

#define BATCH 32

typedef struct set {
    float *rows; /* grows */
    size_t count, room, dim;
    uint32_t *classes;
    char **names;
    size_t name_count, name_room;
} set;

static tacit_status out_of_memory(tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "out of memory for the labelled images");
}

static void set_close(set *s)
{
    for (size_t i = 0; i < s->name_count; i++)
        tacit_free(s->names[i]);
    tacit_free(s->names);
    tacit_free(s->classes);
    tacit_free(s->rows);
}

static tacit_status class_of(set *s, const char *label, uint32_t *class, tacit_err *err)
{
    for (size_t i = 0; i < s->name_count; i++)
        if (!strcmp(s->names[i], label)) {
            *class = (uint32_t)i;
            return TACIT_OK;
        }
    if (s->name_count == s->name_room) {
        size_t room = s->name_room ? 2 * s->name_room : 64;
        char **names = tacit_realloc(s->names, s->name_count * sizeof *names, room * sizeof *names);
        if (!names)
            return out_of_memory(err);
        s->names = names;
        s->name_room = room;
    }
    if (!(s->names[s->name_count] = tacit_strdup(label)))
        return out_of_memory(err);
    *class = (uint32_t)s->name_count++;
    return TACIT_OK;
}

static tacit_status make_room(set *s, tacit_err *err)
{
    size_t room = s->room ? 2 * s->room : 1024, bytes;
    if (s->count + BATCH <= s->room)
        return TACIT_OK;
    if (!tacit_mul_size(room * sizeof *s->rows, s->dim, &bytes))
        return out_of_memory(err);
    float *rows = tacit_realloc(s->rows, s->room * s->dim * sizeof *rows, bytes);
    if (!rows)
        return out_of_memory(err);
    s->rows = rows;
    uint32_t *classes =
        tacit_realloc(s->classes, s->room * sizeof *classes, room * sizeof *classes);
    if (!classes)
        return out_of_memory(err);
    s->classes = classes;
    s->room = room;
    return TACIT_OK;
}

static tacit_status no_label(const tacit_item *item, tacit_err *err)
{
    return tacit_fail(err, TACIT_EINVAL, "%s has no label", item->path);
}

/* One image into place `at` of the batch; *used false where it cannot be. */
static tacit_status put(set *s, tacit_session *session, tacit_item *item, size_t at, bool *used,
                        tacit_err *err)
{
    tacit_err why;
    *used = false;
    if (item->form == TACIT_ITEM_BAD)
        return TACIT_OK;
    if (!item->label)
        return no_label(item, err);
    tacit_status st = tacit_item_load(item, &why);
    if (st == TACIT_OK)
        st = item->form == TACIT_ITEM_PIXELS
                 ? tacit_session_put_rgb8(session, at, item->bytes, item->width, item->height, &why)
                 : tacit_session_put(session, at, item->bytes, item->size, &why);
    if (st == TACIT_ENOMEM)
        return out_of_memory(err);
    *used = st == TACIT_OK;
    return *used ? class_of(s, item->label, &s->classes[s->count + at], err) : TACIT_OK;
}

static tacit_status embed(set *s, tacit_session *session, tacit_dataset *images, tacit_err *err)
{
    tacit_item item = { 0 };
    tacit_status st = TACIT_OK;
    for (bool more = true; st == TACIT_OK && more;) {
        size_t n = 0;
        st = make_room(s, err);
        while (st == TACIT_OK && more && n < BATCH) {
            bool used = false;
            st = tacit_dataset_next(images, &item, &more, err);
            if (st == TACIT_OK && more)
                st = put(s, session, &item, n, &used, err);
            n += used;
        }
        if (st == TACIT_OK && n)
            tacit_session_embed(session, n, s->rows + s->count * s->dim);
        s->count += n;
    }
    tacit_item_free(&item);
    return st;
}

static tacit_status classify(const tacit_knn_watch_options *o, set *s, double *top1, tacit_err *err)
{
    tacit_vectors vectors = { .path = (char *)o->images,
                              .npy = { .dtype = TACIT_F32 },
                              .elements = s->rows,
                              .rows = s->count,
                              .dim = s->dim,
                              .norms = tacit_calloc(s->count, sizeof(double)) };
    tacit_labels labels = {
        .rows = s->count, .classes = s->name_count, .of = s->classes, .names = s->names
    };
    tacit_knn *knn = NULL;
    tacit_knn_score score;
    tacit_status st = vectors.norms ? TACIT_OK : out_of_memory(err);
    for (size_t i = 0; st == TACIT_OK && i < s->count; i++) {
        const float *x = s->rows + i * s->dim;
        vectors.norms[i] = sqrt(o->kernels->dot_f64(s->dim, x, x));
        if (!(vectors.norms[i] <= 1e18))
            st = tacit_fail(err, TACIT_EFORMAT, "features that are not finite");
    }
    if (st == TACIT_OK)
        st = tacit_knn_open(&knn, &vectors, NULL, o->k, o->kernels, o->pool, err);
    if (st == TACIT_OK) {
        st = tacit_knn_classify(knn, &labels, &labels, &o->k, 1, o->temperature, &score, NULL, NULL,
                                o->pool, err);
        if (st == TACIT_OK) {
            *top1 = tacit_percent(score.weighted.top1, score.weighted.rows);
            tacit_knn_scores_close(&score, 1);
        }
        tacit_knn_close(&knn);
    }
    tacit_free(vectors.norms);
    return st;
}

tacit_status tacit_knn_watch(const tacit_knn_watch_options *o, const char *weights, double *top1,
                             size_t *rows, tacit_err *err)
{
    tacit_model_options options;
    tacit_model model = { 0 };
    tacit_session session = { 0 };
    tacit_dataset *images = NULL;
    set s = { 0 };
    tacit_model_defaults(&options);
    options.weights = weights;
    tacit_status st = tacit_dataset_open(&images, o->images, TACIT_DATASET_AUTO, err);
    if (st < 0)
        return st;
    st = tacit_model_open(&model, &options, false, o->pool, err);
    if (st == TACIT_OK) {
        s.dim = model.dim;
        st = tacit_session_open(&session, &model, BATCH, o->pool, err);
        if (st == TACIT_OK) {
            st = embed(&s, &session, images, err);
            tacit_session_close(&session);
        }
        tacit_model_close(&model);
    }
    if (st == TACIT_OK && (s.name_count < 2 || s.count < 2))
        st = tacit_fail(err, TACIT_EINVAL, "%zu usable images of %zu classes: two are needed",
                        s.count, s.name_count);
    if (st == TACIT_OK)
        st = classify(o, &s, top1, err);
    *rows = s.count;
    set_close(&s);
    tacit_dataset_close(&images);
    return st < 0 ? tacit_fail_at(err, st, "k-NN on %s", o->images) : st;
}

tacit_status tacit_knn_watch_check(const char *path, tacit_err *err)
{
    tacit_dataset *images = NULL;
    tacit_item item = { 0 };
    bool more = false;
    tacit_status st = tacit_dataset_open(&images, path, TACIT_DATASET_AUTO, err);
    if (st == TACIT_OK)
        st = tacit_dataset_next(images, &item, &more, err);
    if (st == TACIT_OK && !more)
        st = tacit_fail(err, TACIT_EINVAL, "%s: there are no images", path);
    else if (st == TACIT_OK && !item.label)
        st = no_label(&item, err);
    tacit_item_free(&item);
    tacit_dataset_close(&images);
    return st < 0 ? tacit_fail_at(err, st, "k-NN") : st;
}
