/* labels.c - see labels.h. */
#include "labels.h"

#include "atomic_file.h"
#include "index.h"
#include "mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_LIMIT    ((size_t)1 << 30)
#define CLASSES_LIMIT ((size_t)1 << 24)
#define EMPTY         UINT32_MAX

/* Names on the way to classes: a table from name to number, in order of appearance. */
typedef struct reader {
    tacit_labels *labels;
    const char *path;
    size_t next;     /* row that the next label is of */
    uint32_t *slots; /* open addressing, EMPTY where free */
    size_t slot_mask, room;
    tacit_err *err;
} reader;

static tacit_status no_memory(const reader *r)
{
    return tacit_fail(r->err, TACIT_ENOMEM, "%s: out of memory", r->path);
}

/* FNV-1a; classes are few and names come from the user's own folders. */
static size_t hash(const char *name)
{
    uint64_t h = 0xcbf29ce484222325;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3;
    return (size_t)(h ^ h >> 32);
}

static uint32_t *find(const reader *r, const char *name)
{
    size_t at = hash(name) & r->slot_mask;
    while (r->slots[at] != EMPTY && strcmp(r->labels->names[r->slots[at]], name))
        at = (at + 1) & r->slot_mask;
    return &r->slots[at];
}

/* Room for one more name; the table is at most half full. */
static tacit_status grow(reader *r)
{
    size_t room = r->room ? 2 * r->room : 1024;
    if (room > CLASSES_LIMIT)
        return tacit_fail(r->err, TACIT_ELIMIT, "%s: has more than %zu classes", r->path, r->room);
    char **names = tacit_realloc(r->labels->names, r->room * sizeof *names, room * sizeof *names);
    if (!names)
        return no_memory(r);
    r->labels->names = names;
    uint32_t *slots = tacit_alloc(2 * room * sizeof *slots);
    if (!slots)
        return no_memory(r);
    tacit_free(r->slots);
    r->slots = slots;
    r->slot_mask = 2 * room - 1;
    r->room = room;
    memset(slots, 0xff, 2 * room * sizeof *slots);
    for (size_t i = 0; i < r->labels->classes; i++)
        *find(r, names[i]) = (uint32_t)i;
    return TACIT_OK;
}

static tacit_status add(reader *r, const char *name)
{
    tacit_labels *l = r->labels;
    if (r->next == l->rows)
        return tacit_fail(r->err, TACIT_ECONFLICT,
                          "%s: has more labels than there are vectors, %zu", r->path, l->rows);
    if (!*name)
        return tacit_fail(r->err, TACIT_EINVAL,
                          "%s: row %zu has no label; give every row one, or leave the row out",
                          r->path, r->next);
    uint32_t *slot = r->slots ? find(r, name) : NULL;
    if (!slot || *slot == EMPTY) {
        if (l->classes == r->room) {
            tacit_status st = grow(r);
            if (st < 0)
                return st;
            slot = find(r, name);
        }
        if (!(l->names[l->classes] = tacit_strdup(name)))
            return no_memory(r);
        *slot = (uint32_t)l->classes++;
    }
    l->of[r->next++] = *slot;
    return TACIT_OK;
}

static tacit_status read_index(reader *r)
{
    tacit_index *index;
    tacit_status st = tacit_index_open(&index, r->path, r->err);
    bool more = st == TACIT_OK;
    while (more) {
        tacit_index_line line;
        if ((st = tacit_index_next(index, &line, &more, r->err)) < 0)
            break;
        if (more && line.usable && (st = add(r, line.label)) < 0)
            break;
    }
    tacit_index_close(&index);
    return st;
}

/* Field `column` of a line, cut out in place; empty where there are fewer. */
static char *field(char *line, size_t column)
{
    while (column--) {
        line += strcspn(line, "\t");
        line += *line == '\t';
    }
    line[strcspn(line, "\t")] = 0;
    return line;
}

static tacit_status read_text(reader *r)
{
    char *text;
    size_t size, column = 0;
    tacit_status st = tacit_file_read(r->path, TEXT_LIMIT, &text, &size, r->err);
    if (st < 0)
        return st;
    bool first = true;
    for (char *line = text, *next; st == TACIT_OK && line < text + size; line = next) {
        size_t n = strcspn(line, "\n");
        next = line + n + 1;
        if (!line[n] && line + n < text + size) {
            st = tacit_fail(r->err, TACIT_EFORMAT, "%s: holds a 0 byte: is not text", r->path);
            break;
        }
        line[n && line[n - 1] == '\r' ? n - 1 : n] = 0;
        bool header = first && strchr(line, '\t');
        first = false;
        if (!header) {
            st = add(r, field(line, column));
            continue;
        }
        char *at = line;
        for (; strcmp(at, "label") && strncmp(at, "label\t", 6); column++) {
            at += strcspn(at, "\t");
            if (!*at++) {
                st = tacit_fail(r->err, TACIT_EFORMAT, "%s: no column is called 'label'", r->path);
                break;
            }
        }
    }
    tacit_free(text);
    return st;
}

static long long integer_at(tacit_dtype dtype, const void *p, size_t i)
{
    switch (dtype) {
    case TACIT_I64: return ((const int64_t *)p)[i];
    case TACIT_I32: return ((const int32_t *)p)[i];
    case TACIT_I16: return ((const int16_t *)p)[i];
    case TACIT_I8: return ((const int8_t *)p)[i];
    default: return ((const uint8_t *)p)[i];
    }
}

static tacit_status read_npy(reader *r)
{
    tacit_npy npy;
    tacit_status st = tacit_npy_open(&npy, r->path, r->err);
    if (st < 0)
        return st;
    const void *elements = NULL;
    if (npy.dtype == TACIT_F32 || npy.dtype == TACIT_F16 || npy.dtype == TACIT_F64)
        st = tacit_fail(r->err, TACIT_EUNSUPPORTED, "%s: labels are integers, these are %s",
                        r->path, tacit_dtype_name(npy.dtype));
    else if (npy.rank != 1)
        st = tacit_fail(r->err, TACIT_EUNSUPPORTED, "%s: has %u dimensions, labels have one",
                        r->path, npy.rank);
    else
        st = tacit_npy_map(&npy, r->path, &elements, r->err);
    for (size_t i = 0; st == TACIT_OK && i < npy.shape[0]; i++) {
        char name[24];
        snprintf(name, sizeof name, "%lld", integer_at(npy.dtype, elements, i));
        st = add(r, name);
    }
    tacit_npy_close(&npy);
    return st;
}

/* By what the file begins with. */
static tacit_status read_any(reader *r)
{
    char head[sizeof TACIT_INDEX_HEADER] = { 0 };
    int fd;
    uint64_t size;
    tacit_status st = tacit_open_regular(r->path, &fd, &size, r->err);
    if (st < 0)
        return st;
    size_t wanted = size < sizeof head - 1 ? (size_t)size : sizeof head - 1;
    st = tacit_pread_all(fd, head, wanted, 0, r->path, r->err);
    tacit_npy_close(&(tacit_npy){ .fd = fd });
    if (st < 0)
        return st;
    return !memcmp(head, "\x93NUMPY", 6)       ? read_npy(r)
           : !strcmp(head, TACIT_INDEX_HEADER) ? read_index(r)
                                               : read_text(r);
}

/* An integer as printf writes it, of at most 18 digits. */
static bool as_integer(const char *name, long long *value)
{
    char again[24];
    if (strlen(name) > 18)
        return false;
    *value = strtoll(name, NULL, 10);
    snprintf(again, sizeof again, "%lld", *value);
    return !strcmp(again, name);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int by_number(const void *a, const void *b)
{
    long long x = 0, y = 0;
    as_integer(*(char *const *)a, &x);
    as_integer(*(char *const *)b, &y);
    return (x > y) - (x < y);
}

/* The class of that name, EMPTY where there is none. Classes are in order. */
static uint32_t class_of(const tacit_labels *l, const char *name)
{
    char **at =
        bsearch(&name, l->names, l->classes, sizeof *l->names, l->integers ? by_number : by_bytes);
    return at && !strcmp(*at, name) ? (uint32_t)(at - l->names) : EMPTY;
}

/* Numbers the classes in the order of their names. */
static tacit_status sort_classes(reader *r)
{
    tacit_labels *l = r->labels;
    l->integers = true;
    for (size_t i = 0; l->integers && i < l->classes; i++) {
        long long value;
        l->integers = as_integer(l->names[i], &value);
    }
    size_t bytes = l->classes * sizeof *l->names;
    char **before = tacit_alloc(bytes);
    uint32_t *place = tacit_alloc(l->classes * sizeof *place);
    tacit_status st = before && place ? TACIT_OK : no_memory(r);
    if (st == TACIT_OK) {
        memcpy(before, l->names, bytes);
        qsort(l->names, l->classes, sizeof *l->names, l->integers ? by_number : by_bytes);
        for (size_t i = 0; i < l->classes; i++)
            place[i] = class_of(l, before[i]);
        for (size_t row = 0; row < l->rows; row++)
            l->of[row] = place[l->of[row]];
    }
    tacit_free(before);
    tacit_free(place);
    return st;
}

tacit_status tacit_labels_open(tacit_labels *labels, const char *path, const tacit_vectors *vectors,
                               tacit_err *err)
{
    *labels = (tacit_labels){ .rows = vectors->rows };
    if (!path && !vectors->folder)
        return tacit_fail(err, TACIT_EINVAL, "%s: a .npy has no labels; name a file of them",
                          vectors->path);
    char *index = path ? NULL : tacit_path_join(vectors->folder, "index.tsv");
    reader r = { .labels = labels, .path = path ? path : index, .err = err };
    labels->of = tacit_calloc(labels->rows, sizeof *labels->of);
    tacit_status st = TACIT_OK;
    if (!r.path || !labels->of)
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", vectors->path);
    else
        st = path ? read_any(&r) : read_index(&r);
    if (st == TACIT_OK && r.next != labels->rows)
        st = tacit_fail(err, TACIT_ECONFLICT, "%s: has %zu labels for the %zu vectors of %s",
                        r.path, r.next, labels->rows, vectors->path);
    if (st == TACIT_OK)
        st = sort_classes(&r);
    tacit_free(r.slots);
    tacit_free(index);
    if (st < 0)
        tacit_labels_close(labels);
    return st;
}

void tacit_labels_close(tacit_labels *l)
{
    for (size_t i = 0; i < l->classes; i++)
        tacit_free(l->names[i]);
    tacit_free(l->names);
    tacit_free(l->of);
    *l = (tacit_labels){ 0 };
}

tacit_status tacit_labels_match(tacit_labels *labels, const tacit_labels *known, tacit_err *err)
{
    uint32_t *place = tacit_alloc(labels->classes * sizeof *place);
    char **names = tacit_calloc(known->classes, sizeof *names);
    size_t missing = 0, i = 0;
    const char *first = NULL;
    tacit_status st = place && names ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (; st == TACIT_OK && i < known->classes; i++)
        if (!(names[i] = tacit_strdup(known->names[i])))
            st = tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (size_t c = 0; st == TACIT_OK && c < labels->classes; c++) {
        place[c] = class_of(known, labels->names[c]);
        if (place[c] == EMPTY && !missing++)
            first = labels->names[c];
    }
    if (st == TACIT_OK && missing)
        st = tacit_fail(err, TACIT_ECONFLICT,
                        "class '%s' of the test set is not in the training set (%zu of %zu classes "
                        "are not)",
                        first, missing, labels->classes);
    if (st == TACIT_OK) {
        for (size_t row = 0; row < labels->rows; row++)
            labels->of[row] = place[labels->of[row]];
        char **mine = labels->names;
        size_t count = labels->classes;
        labels->names = names;
        labels->classes = known->classes;
        labels->integers = known->integers;
        names = mine;
        i = count;
    }
    while (names && i)
        tacit_free(names[--i]);
    tacit_free(names);
    tacit_free(place);
    return st;
}
