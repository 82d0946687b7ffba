/* dups.c - see dups.h.
 *
 * Groups are a forest over the inputs that threads grow at the same time (Anderson and Woll 1991):
 * the larger of two roots is hung below the smaller by a compare-and-swap, so a group's root is its
 * first input whatever the order in which links are found. A pair that is in one group already
 * needs no second look, which keeps sets of many equals cheap.
 */
#include "dups.h"

#include "cosine.h"
#include "index.h"
#include "mem.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct input {
    uint32_t row;
    bool hashed;
    uint64_t hash;
} input;

typedef struct finder {
    const tacit_vectors *vectors;
    const tacit_kernels *kernels;
    double threshold;
    float least; /* a score below it cannot be a link */
    size_t inputs;
    input *all;              /* (inputs) */
    uint32_t *input_of;      /* (rows) */
    _Atomic uint32_t *above; /* (inputs): the parent in the forest, itself for a root */
    uint32_t *hits;          /* (workers, TACIT_SWEEP_COLUMNS) */
    float *rows;             /* (workers, 2, dim) */
} finder;

static uint32_t root_of(const finder *f, uint32_t i)
{
    uint32_t parent;
    while ((parent = atomic_load_explicit(&f->above[i], memory_order_relaxed)) != i) {
        uint32_t next = atomic_load_explicit(&f->above[parent], memory_order_relaxed);
        /* Halve the path; whoever was faster did as well. */
        atomic_compare_exchange_weak_explicit(&f->above[i], &parent, next, memory_order_relaxed,
                                              memory_order_relaxed);
        i = next;
    }
    return i;
}

static void unite(const finder *f, uint32_t a, uint32_t b)
{
    for (;;) {
        a = root_of(f, a);
        b = root_of(f, b);
        if (a == b)
            return;
        uint32_t low = a < b ? a : b, high = a < b ? b : a, expected = high;
        if (atomic_compare_exchange_strong_explicit(&f->above[high], &expected, low,
                                                    memory_order_relaxed, memory_order_relaxed))
            return;
    }
}

static void visit(void *ctx, size_t query, size_t first, size_t count, const float *scores,
                  unsigned worker)
{
    const finder *f = ctx;
    uint32_t *hits = f->hits + (size_t)worker * TACIT_SWEEP_COLUMNS;
    float *scratch = f->rows + 2 * worker * f->vectors->dim;
    const float *x = NULL;
    size_t n = f->kernels->above_f32(count, scores, f->least, hits);
    for (size_t i = 0; i < n; i++) {
        size_t row = first + hits[i];
        if (row <= query || root_of(f, f->input_of[query]) == root_of(f, f->input_of[row]))
            continue;
        if (!x)
            x = tacit_vectors_rows(f->vectors, query, 1, f->kernels, scratch);
        if (tacit_cosine(x, f->vectors->norms[query], f->vectors, row, f->kernels,
                         scratch + f->vectors->dim) >= f->threshold)
            unite(f, f->input_of[query], f->input_of[row]);
    }
}

/* Opens DIR/index.tsv; *index NULL for a bare .npy. */
static tacit_status open_index(const finder *f, tacit_index **index, tacit_err *err)
{
    *index = NULL;
    if (!f->vectors->folder)
        return TACIT_OK;
    char *path = tacit_path_join(f->vectors->folder, "index.tsv");
    tacit_status st =
        path ? tacit_index_open(index, path, err) : tacit_fail(err, TACIT_ENOMEM, "out of memory");
    tacit_free(path);
    return st;
}

static tacit_status add_input(finder *f, size_t *room, input in, tacit_err *err)
{
    if (f->inputs == *room) {
        size_t more = *room ? 2 * *room : f->vectors->rows;
        input *all = more < UINT32_MAX
                         ? tacit_realloc(f->all, *room * sizeof *all, more * sizeof *all)
                         : NULL;
        if (!all)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu inputs", more);
        f->all = all;
        *room = more;
    }
    f->all[f->inputs++] = in;
    return TACIT_OK;
}

static tacit_status read_inputs(finder *f, tacit_err *err)
{
    size_t room = 0, rows = 0;
    tacit_index *index;
    tacit_status st = open_index(f, &index, err);
    bool more = st == TACIT_OK;
    while (more) {
        tacit_index_line line;
        input in = { .row = (uint32_t)rows };
        if (index) {
            if ((st = tacit_index_next(index, &line, &more, err)) < 0 || !more)
                break;
            char *end;
            in.hash = strtoull(line.hash, &end, 16);
            in.hashed = end == line.hash + 16 && !*end;
            in.row = line.usable ? (uint32_t)rows : TACIT_NO_ROW;
        } else if (rows == f->vectors->rows) {
            break;
        }
        if (in.row != TACIT_NO_ROW && rows++ == f->vectors->rows)
            break;
        if (in.row != TACIT_NO_ROW)
            f->input_of[in.row] = (uint32_t)f->inputs;
        if ((st = add_input(f, &room, in, err)) < 0)
            break;
    }
    if (st == TACIT_OK && rows != f->vectors->rows)
        st = tacit_fail(err, TACIT_EFORMAT,
                        "%s/index.tsv: not the rows of embeddings.npy, which "
                        "are %zu",
                        f->vectors->folder, f->vectors->rows);
    tacit_index_close(&index);
    return st;
}

typedef struct hashed {
    uint64_t hash;
    uint32_t input;
} hashed;

static int by_hash(const void *a, const void *b)
{
    const hashed *x = a, *y = b;
    return x->hash != y->hash ? (x->hash > y->hash) - (x->hash < y->hash)
                              : (x->input > y->input) - (x->input < y->input);
}

static tacit_status unite_equal_files(const finder *f, tacit_err *err)
{
    size_t n = 0;
    hashed *list = tacit_calloc(f->inputs, sizeof *list);
    if (!list)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu inputs", f->inputs);
    for (size_t i = 0; i < f->inputs; i++)
        if (f->all[i].hashed)
            list[n++] = (hashed){ f->all[i].hash, (uint32_t)i };
    qsort(list, n, sizeof *list, by_hash);
    for (size_t i = 1; i < n; i++)
        if (list[i].hash == list[i - 1].hash)
            unite(f, list[i - 1].input, list[i].input);
    tacit_free(list);
    return TACIT_OK;
}

static tacit_status unite_near_vectors(const finder *f, tacit_pool *pool, tacit_err *err)
{
    tacit_sweep sweep;
    tacit_status st = tacit_sweep_open(&sweep, f->vectors, f->vectors, f->kernels, pool, err);
    if (st < 0)
        return st;
    tacit_sweep_run(&sweep, 0, f->vectors->rows, true, visit, (void *)f);
    tacit_sweep_close(&sweep);
    return TACIT_OK;
}

/* Names of the members, from a second reading of the index. slot: member of each input, or
 * UINT32_MAX. */
static tacit_status read_names(const finder *f, tacit_dups *d, const uint32_t *slot, tacit_err *err)
{
    tacit_index *index;
    tacit_status st = open_index(f, &index, err);
    for (size_t i = 0; st == TACIT_OK && i < f->inputs; i++) {
        tacit_index_line line = { .path = (char[]){ 0 },
                                  .label = (char[]){ 0 },
                                  .hash = (char[]){ 0 } };
        bool more = true;
        if (index && ((st = tacit_index_next(index, &line, &more, err)) < 0 || !more))
            break;
        if (slot[i] == UINT32_MAX)
            continue;
        tacit_dup *m = &d->members[slot[i]];
        m->path = tacit_strdup(line.path);
        m->label = tacit_strdup(line.label);
        m->hash = tacit_strdup(line.hash);
        if (!m->path || !m->label || !m->hash)
            st = tacit_fail(err, TACIT_ENOMEM, "out of memory for names");
    }
    tacit_index_close(&index);
    return st;
}

static int by_group(const void *a, const void *b)
{
    const tacit_dup *x = a, *y = b;
    return x->group != y->group ? (x->group > y->group) - (x->group < y->group)
                                : (x->input > y->input) - (x->input < y->input);
}

/* What is said about each group: whether its files are equal, how near its vectors are. */
static void describe(const finder *f, tacit_dups *d)
{
    const tacit_dup *first = NULL; /* of the group, with a vector */
    for (size_t i = 0; i < d->count; i++) {
        tacit_dup *m = &d->members[i];
        const tacit_dup *before = i && m[-1].group == m->group ? m - 1 : NULL;
        if (!before) {
            first = NULL;
            d->same[m->group] = true;
        } else {
            const input *x = &f->all[before->input], *y = &f->all[m->input];
            d->same[m->group] &= x->hashed && y->hashed && x->hash == y->hash;
        }
        m->similarity = NAN;
        if (m->row == TACIT_NO_ROW)
            continue;
        if (!first)
            first = m;
        const float *x = tacit_vectors_rows(f->vectors, first->row, 1, f->kernels, f->rows);
        m->similarity = tacit_cosine(x, f->vectors->norms[first->row], f->vectors, m->row,
                                     f->kernels, f->rows + f->vectors->dim);
    }
    for (size_t g = 0; g < d->groups; g++)
        d->exact += d->same[g];
}

/* The members of all groups of two and more. */
static tacit_status collect(const finder *f, tacit_dups *d, tacit_err *err)
{
    /* Both by input: members of the group that it is the first of; then the group, or the member.
     */
    uint32_t *size = tacit_calloc(f->inputs, sizeof *size);
    uint32_t *number = tacit_calloc(f->inputs, sizeof *number);
    tacit_status st = TACIT_OK;
    if (!size || !number) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu inputs", f->inputs);
        goto out;
    }
    for (uint32_t i = 0; i < f->inputs; i++)
        size[root_of(f, i)]++;
    for (uint32_t i = 0; i < f->inputs; i++)
        if (size[i] > 1) {
            number[i] = (uint32_t)d->groups++;
            d->count += size[i];
        }
    d->members = tacit_calloc(d->count, sizeof *d->members);
    d->same = tacit_calloc(d->groups, sizeof *d->same);
    if (!d->members || !d->same) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu duplicates", d->count);
        goto out;
    }
    size_t n = 0;
    for (uint32_t i = 0; i < f->inputs; i++)
        if (size[root_of(f, i)] > 1)
            d->members[n++] =
                (tacit_dup){ .group = number[root_of(f, i)], .input = i, .row = f->all[i].row };
    qsort(d->members, n, sizeof *d->members, by_group);
    memset(number, 0xff, f->inputs * sizeof *number);
    for (size_t i = 0; i < n; i++)
        number[d->members[i].input] = (uint32_t)i;
    if ((st = read_names(f, d, number, err)) == TACIT_OK)
        describe(f, d);
out:
    tacit_free(size);
    tacit_free(number);
    return st;
}

tacit_status tacit_dups_open(tacit_dups **out, const tacit_vectors *vectors, double threshold,
                             const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    tacit_dups *d = *out = tacit_calloc(1, sizeof *d);
    if (!d)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    size_t workers = tacit_pool_threads(pool);
    finder f = { .vectors = vectors, .kernels = kernels, .threshold = threshold };
    f.least = (float)(threshold - 1.01 * (double)tacit_cosine_error(vectors->dim) - 1e-7);
    f.input_of = tacit_calloc(vectors->rows, sizeof *f.input_of);
    f.hits = tacit_calloc(workers * TACIT_SWEEP_COLUMNS, sizeof *f.hits);
    f.rows = tacit_calloc(workers, 2 * vectors->dim * sizeof *f.rows);
    tacit_status st = TACIT_OK;
    if (!f.input_of || !f.hits || !f.rows)
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", vectors->path);
    if (st == TACIT_OK)
        st = read_inputs(&f, err);
    if (st == TACIT_OK && !(f.above = tacit_alloc(f.inputs * sizeof *f.above)))
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu inputs", f.inputs);
    for (uint32_t i = 0; st == TACIT_OK && i < f.inputs; i++)
        atomic_init(&f.above[i], i);
    if (st == TACIT_OK)
        st = unite_equal_files(&f, err);
    if (st == TACIT_OK)
        st = unite_near_vectors(&f, pool, err);
    d->inputs = f.inputs;
    if (st == TACIT_OK)
        st = collect(&f, d, err);
    tacit_free(f.input_of);
    tacit_free(f.hits);
    tacit_free(f.rows);
    tacit_free(f.all);
    tacit_free((void *)f.above);
    if (st < 0)
        tacit_dups_close(out);
    return st;
}

void tacit_dups_close(tacit_dups **out)
{
    tacit_dups *d = *out;
    *out = NULL;
    if (!d)
        return;
    for (size_t i = 0; d->members && i < d->count; i++) {
        tacit_free(d->members[i].path);
        tacit_free(d->members[i].label);
        tacit_free(d->members[i].hash);
    }
    tacit_free(d->members);
    tacit_free(d->same);
    tacit_free(d);
}
