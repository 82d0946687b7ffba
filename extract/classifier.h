/* classifier.h - a linear classifier of vectors: logits W x + b, and the names of its classes.
 *
 * On disk: safetensors with "weight" (classes, dim) and "bias" (classes), float32; in the metadata
 * "classes", a JSON array of the names, and "embeddings", the recipe of the vectors it was made for
 * (meta.json), or "null".
 */
#ifndef TACIT_CLASSIFIER_H
#define TACIT_CLASSIFIER_H

#include "score.h"

typedef struct tacit_classifier {
    size_t classes, dim;
    float *weight, *bias;
    char **names;
    json_t *recipe; /* NULL: not known */
} tacit_classifier;

/* All zero, for the classes of labels. */
tacit_status tacit_classifier_open(tacit_classifier *classifier, const tacit_labels *labels,
                                   const tacit_vectors *vectors, tacit_err *err);
void tacit_classifier_close(tacit_classifier *classifier);

/* how: what made it, as a JSON text, for the metadata. */
tacit_status tacit_classifier_save(const tacit_classifier *classifier, const char *path,
                                   const char *how, tacit_err *err);
tacit_status tacit_classifier_load(tacit_classifier *classifier, const char *path, tacit_err *err);

/* TACIT_ECONFLICT where the classifier is not for these vectors. */
tacit_status tacit_classifier_match(const tacit_classifier *classifier,
                                    const tacit_vectors *vectors, tacit_err *err);

/* Sees the logits (count, classes) of rows [from, from + count), which it may change. */
typedef tacit_status tacit_logits_visit(void *ctx, size_t from, size_t count, float *logits,
                                        tacit_err *err);

/* All rows in order, in blocks. */
tacit_status tacit_classifier_run(const tacit_classifier *classifier, const tacit_vectors *vectors,
                                  const tacit_kernels *kernels, tacit_pool *pool,
                                  tacit_logits_visit *visit, void *ctx, tacit_err *err);

/* Adds the rows for which `only` holds (all where it is NULL) to score. labels: of the same
 * classes. *finite becomes false where a logit of such a row is not. */
tacit_status tacit_classifier_score(const tacit_classifier *classifier,
                                    const tacit_vectors *vectors, const tacit_labels *labels,
                                    const bool *only, const tacit_kernels *kernels,
                                    tacit_pool *pool, tacit_score *score, bool *finite,
                                    tacit_err *err);

#endif
