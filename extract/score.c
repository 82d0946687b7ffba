/* score.c - see score.h. */
#include "score.h"

#include "atomic_file.h"
#include "mem.h"
#include "meta.h"
#include "tsv.h"

#include <stdio.h>
#include <string.h>

tacit_place tacit_place_of(uint32_t class, const double *scores, size_t classes)
{
    tacit_place place = { 0, 0 };
    for (size_t c = 0; c < classes; c++) {
        if (scores[c] > scores[place.first])
            place.first = (uint32_t)c;
        place.rank += scores[c] > scores[class] || (scores[c] == scores[class] && c < class);
    }
    return place;
}

tacit_status tacit_score_open(tacit_score *s, const tacit_labels *labels, bool confusion,
                              tacit_err *err)
{
    size_t cells, classes = labels->classes;
    *s = (tacit_score){ .labels = labels };
    s->count = tacit_calloc(classes, sizeof *s->count);
    s->right = tacit_calloc(classes, sizeof *s->right);
    if (confusion && tacit_mul_size(classes, classes, &cells))
        s->confusion = tacit_calloc(cells, sizeof *s->confusion);
    if (s->count && s->right && (s->confusion || !confusion))
        return TACIT_OK;
    tacit_score_close(s);
    return tacit_fail(err, TACIT_ENOMEM, "out of memory for the scores of %zu classes", classes);
}

void tacit_score_close(tacit_score *s)
{
    tacit_free(s->count);
    tacit_free(s->right);
    tacit_free(s->confusion);
    *s = (tacit_score){ 0 };
}

void tacit_score_add(tacit_score *s, uint32_t class, tacit_place place)
{
    s->rows++;
    s->top1 += place.rank == 0;
    s->top5 += place.rank < 5;
    s->count[class]++;
    s->right[class] += place.rank == 0;
    if (s->confusion)
        s->confusion[class * s->labels->classes + place.first]++;
}

double tacit_percent(size_t part, size_t whole)
{
    return whole ? 100.0 * (double)part / (double)whole : 0;
}

json_t *tacit_score_json(const tacit_score *s, bool detail)
{
    json_t *result = json_pack("{s:f, s:f, s:I}", "top1", tacit_percent(s->top1, s->rows), "top5",
                               tacit_percent(s->top5, s->rows), "rows", (json_int_t)s->rows);
    json_t *list = detail ? json_array() : NULL;
    bool good = result && (list || !detail);
    for (size_t c = 0; good && detail && c < s->labels->classes; c++)
        if (s->count[c])
            good = !json_array_append_new(list, json_pack("{s:o, s:I, s:f}", "label",
                                                          tacit_json_text(s->labels->names[c]),
                                                          "rows", (json_int_t)s->count[c], "top1",
                                                          tacit_percent(s->right[c], s->count[c])));
    if (good && detail)
        good = !json_object_set(result, "per_class", list);
    json_decref(list);
    if (!good) {
        json_decref(result);
        result = NULL;
    }
    return result;
}

tacit_status tacit_score_write(const tacit_score *s, const char *path, tacit_err *err)
{
    size_t classes = s->labels->classes, longest = 0;
    for (size_t c = 0; c < classes; c++) {
        size_t n = strlen(s->labels->names[c]);
        longest = n > longest ? n : longest;
    }
    tacit_atomic file;
    tacit_status st = tacit_atomic_open(&file, path, err);
    if (st < 0)
        return st;
    size_t name_room = 4 * longest + 2, room = classes * (name_room + 22) + name_room;
    char *line = tacit_alloc(room);
    if (!line)
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    for (size_t c = 0; st == TACIT_OK && c <= classes; c++) { /* 0 is the header */
        char *at = c ? tacit_tsv_escape(line, s->labels->names[c - 1]) : line;
        for (size_t other = 0; other < classes; other++) {
            *at++ = '\t';
            at = c ? at + sprintf(at, "%zu", s->confusion[(c - 1) * classes + other])
                   : tacit_tsv_escape(at, s->labels->names[other]);
        }
        *at++ = '\n';
        st = tacit_write_all(file.fd, line, (size_t)(at - line), path, err);
    }
    tacit_free(line);
    if (st < 0)
        tacit_atomic_abort(&file);
    else
        st = tacit_atomic_commit(&file, err);
    return st;
}
