/* score.h - how often the right class was found: top-1, top-5, each class, the confusion matrix. */
#ifndef TACIT_SCORE_H
#define TACIT_SCORE_H

#include "labels.h"

#include <jansson.h>

/* Where a row's own class stands among all, and which one is first: by score, of equal ones the
 * lower class first. */
typedef struct tacit_place {
    uint32_t first;
    uint32_t rank; /* of its own class, from 0 */
} tacit_place;

tacit_place tacit_place_of(uint32_t class, const double *scores, size_t classes);

typedef struct tacit_score {
    size_t rows, top1, top5;
    const tacit_labels *labels; /* must stay */
    size_t *count, *right;      /* (classes) */
    size_t *confusion; /* (classes, classes): row the class, column the one found; or NULL */
} tacit_score;

/* confusion: whether to keep the matrix. */
tacit_status tacit_score_open(tacit_score *score, const tacit_labels *labels, bool confusion,
                              tacit_err *err);
void tacit_score_close(tacit_score *score);
void tacit_score_add(tacit_score *score, uint32_t class, tacit_place place);

/* part of whole in percent; 0 of nothing. */
double tacit_percent(size_t part, size_t whole);

/* {"top1": percent, "top5": percent, "rows": n}, with `detail` also "per_class": [{"label",
 * "rows", "top1"}] of the classes that have rows. NULL where memory is short. */
json_t *tacit_score_json(const tacit_score *score, bool detail);

/* The matrix as TSV: a header of the classes' names, then a line for each. */
tacit_status tacit_score_write(const tacit_score *score, const char *path, tacit_err *err);

#endif
