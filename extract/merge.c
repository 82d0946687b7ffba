/* merge.c - shards taken in turns. See merge.h.
 *
 * Shard I of N holds the inputs whose index is I - 1 modulo N, so the lines are those of the shards
 * in turn, and the first shard to end must be followed by the end of all others in that turn.
 */
#include "merge.h"

#include "index.h"
#include "mem.h"
#include "meta.h"
#include "npy.h"
#include "output.h"

#include <stdio.h>
#include <string.h>

struct part {
    const char *dir;
    json_t *meta;
    tacit_index *index;
    tacit_npy npy;
    uint64_t rows; /* so far */
};

struct merge {
    struct part *parts; /* by shard */
    size_t count, row_bytes;
    json_t *recipe;
    tacit_output *output;
    void *row;
    char *line;
    size_t line_capacity;
};

/* "I/N" of a part's input.shard. */
static tacit_status shard_of(const char *dir, const json_t *meta, size_t count, size_t *shard,
                             tacit_err *err)
{
    const char *text = json_string_value(json_object_get(json_object_get(meta, "input"), "shard"));
    unsigned i = 0, n = 0;
    char end;
    if (!text || sscanf(text, "%u/%u%c", &i, &n, &end) != 2 || i < 1 || i > n)
        return tacit_fail(err, TACIT_EFORMAT, "%s/meta.json: has no shard", dir);
    if (n != count)
        return tacit_fail(err, TACIT_EINVAL, "%s: is shard %u of %u, but %zu parts are given", dir,
                          i, n, count);
    *shard = i - 1;
    return TACIT_OK;
}

static tacit_status open_part(struct part *part, tacit_err *err)
{
    size_t room = strlen(part->dir) + 32;
    char *path = tacit_alloc(room);
    if (!path)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    snprintf(path, room, "%s/index.tsv", part->dir);
    tacit_status st = tacit_index_open(&part->index, path, err);
    snprintf(path, room, "%s/embeddings.npy", part->dir);
    if (st >= 0)
        st = tacit_npy_open(&part->npy, path, err);
    if (st >= 0 && ((part->npy.dtype != TACIT_F32 && part->npy.dtype != TACIT_F16) ||
                    part->npy.rank < 2 || part->npy.rank > 4))
        st = tacit_fail(err, TACIT_EFORMAT, "%s: is not a matrix of float32 or float16", path);
    tacit_free(path);
    return st;
}

static tacit_status same_as_first(const struct merge *m, const struct part *part, tacit_err *err)
{
    static const char *const except[] = { "input.path", "input.shard", "model.weights", NULL };
    const struct part *first = &m->parts[0];
    tacit_status st = tacit_recipe_compare(m->recipe, part->meta, except, err);
    if (st < 0)
        return tacit_fail_at(err, st, "%s and %s are of different runs", first->dir, part->dir);
    unsigned rank = first->npy.rank;
    if (part->npy.rank != rank || part->npy.dtype != first->npy.dtype ||
        memcmp(part->npy.shape + 1, first->npy.shape + 1, (rank - 1) * sizeof(size_t)))
        return tacit_fail(err, TACIT_ECONFLICT, "%s and %s have rows of different shapes or types",
                          first->dir, part->dir);
    return TACIT_OK;
}

static tacit_status open_parts(struct merge *m, char *const *dirs, tacit_err *err)
{
    for (size_t i = 0; i < m->count; i++) {
        json_t *meta;
        size_t shard = 0;
        tacit_status st = tacit_output_meta(dirs[i], &meta, err);
        if (st < 0)
            return st;
        st = shard_of(dirs[i], meta, m->count, &shard, err);
        if (st >= 0 && m->parts[shard].dir)
            st = tacit_fail(err, TACIT_EINVAL, "%s and %s are the same shard", m->parts[shard].dir,
                            dirs[i]);
        if (st < 0) {
            json_decref(meta);
            return st;
        }
        m->parts[shard].dir = dirs[i];
        m->parts[shard].meta = meta;
        if ((st = open_part(&m->parts[shard], err)) < 0)
            return st;
    }
    m->recipe = tacit_meta_recipe(m->parts[0].meta);
    if (!m->recipe)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (size_t i = 1; i < m->count; i++) {
        tacit_status st = same_as_first(m, &m->parts[i], err);
        if (st < 0)
            return st;
    }
    if (json_object_set_new(json_object_get(m->recipe, "input"), "shard", json_string("1/1")))
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    return TACIT_OK;
}

/* One line and its row to the output. */
static tacit_status copy_line(struct merge *m, struct part *part, const tacit_index_line *line,
                              tacit_err *err)
{
    size_t room = tacit_index_room(line->path, line->label);
    if (room > m->line_capacity) {
        tacit_free(m->line);
        m->line_capacity = 0;
        m->line = tacit_alloc(2 * room);
        if (!m->line)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory");
        m->line_capacity = 2 * room;
    }
    char *end = tacit_index_format(m->line, line->path, line->label, line->status, line->hash);
    if (line->usable) {
        if (part->rows >= part->npy.shape[0])
            return tacit_fail(err, TACIT_EFORMAT, "%s: index.tsv has more rows than embeddings.npy",
                              part->dir);
        tacit_status st = tacit_npy_read(&part->npy, (size_t)part->rows * m->row_bytes,
                                         m->row_bytes, m->row, err);
        if (st < 0)
            return tacit_fail_at(err, st, "%s", part->dir);
        part->rows++;
    }
    return tacit_output_add(m->output, line->usable ? m->row : NULL, m->line,
                            (size_t)(end - m->line), err);
}

static tacit_status copy_all(struct merge *m, tacit_err *err)
{
    size_t ended = 0; /* parts in a row that had no line left */
    for (size_t i = 0; ended < m->count; i = (i + 1) % m->count) {
        struct part *part = &m->parts[i];
        tacit_index_line line;
        bool more;
        tacit_status st = tacit_index_next(part->index, &line, &more, err);
        if (st < 0)
            return st;
        if (more && ended)
            return tacit_fail(err, TACIT_ECONFLICT,
                              "%s: has more lines than it should beside %s: they are not shards "
                              "of one input",
                              part->dir, m->parts[i ? i - 1 : m->count - 1].dir);
        if (more && (st = copy_line(m, part, &line, err)) < 0)
            return st;
        ended += !more;
    }
    for (size_t i = 0; i < m->count; i++)
        if (m->parts[i].rows != m->parts[i].npy.shape[0])
            return tacit_fail(err, TACIT_EFORMAT, "%s: embeddings.npy has more rows than index.tsv",
                              m->parts[i].dir);
    return TACIT_OK;
}

/* other's numbers are added to into's, key by key. False where memory is short. */
static bool add_numbers(json_t *into, const json_t *other)
{
    const char *key;
    json_t *value;
    bool ok = true;
    json_object_foreach((json_t *)other, key, value)
    {
        json_t *mine = json_object_get(into, key);
        if (!mine)
            ok = ok && !json_object_set_new(into, key, tacit_json_copy(value));
        else if (json_is_object(mine))
            ok = ok && add_numbers(mine, value);
        else if (json_is_integer(mine) && json_is_integer(value))
            json_integer_set(mine, json_integer_value(mine) + json_integer_value(value));
        else if (json_is_real(mine) && json_is_number(value))
            json_real_set(mine, json_real_value(mine) + json_number_value(value));
    }
    return ok;
}

/* NULL where memory is short. */
static json_t *merged_meta(const struct merge *m)
{
    json_t *meta = tacit_json_copy(m->recipe), *first = m->parts[0].meta;
    json_t *counts = tacit_json_copy(json_object_get(first, "counts"));
    json_t *times = tacit_json_copy(json_object_get(first, "times"));
    json_t *isa = json_object_get(first, "isa");
    bool mixed = false, ok = true;
    for (size_t i = 1; i < m->count; i++) {
        ok = ok && add_numbers(counts, json_object_get(m->parts[i].meta, "counts"));
        ok = ok && add_numbers(times, json_object_get(m->parts[i].meta, "times"));
        mixed |= !json_equal(isa, json_object_get(m->parts[i].meta, "isa"));
    }
    /* Each takes its value, also where it fails. */
    ok &= !json_object_set_new(meta, "isa", mixed ? json_string("mixed") : tacit_json_copy(isa));
    ok &= !json_object_set_new(meta, "parts", json_integer((json_int_t)m->count));
    ok &= !json_object_set_new(meta, "counts", counts);
    ok &= !json_object_set_new(meta, "times", times);
    if (!ok) {
        json_decref(meta);
        meta = NULL;
    }
    return meta;
}

static tacit_status merge(struct merge *m, const char *out, char *const *dirs, json_t **meta,
                          tacit_err *err)
{
    tacit_output_state state;
    tacit_status st = open_parts(m, dirs, err);
    if (st < 0)
        return st;
    const tacit_npy *npy = &m->parts[0].npy;
    m->row_bytes = tacit_dtype_size(npy->dtype);
    for (unsigned i = 1; i < npy->rank; i++)
        if (!tacit_mul_size(m->row_bytes, npy->shape[i], &m->row_bytes))
            return tacit_fail(err, TACIT_ELIMIT, "%s: rows are too long", m->parts[0].dir);
    m->row = tacit_alloc(m->row_bytes);
    *meta = merged_meta(m);
    if (!m->row || !*meta)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    st = tacit_output_open(&m->output, out, m->recipe, npy->dtype, npy->shape + 1, npy->rank - 1,
                           false, &state, err);
    if (st >= 0)
        st = copy_all(m, err);
    return st < 0 ? st : tacit_output_finish(m->output, *meta, err);
}

tacit_status tacit_merge(const char *out, char *const *dirs, size_t count, json_t **meta,
                         tacit_err *err)
{
    *meta = NULL;
    struct merge m = { .parts = tacit_calloc(count, sizeof *m.parts), .count = count };
    if (!m.parts)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        m.parts[i].npy.fd = -1;
    tacit_status st = merge(&m, out, dirs, meta, err);
    if (st < 0) {
        tacit_output_discard(&m.output);
        json_decref(*meta);
        *meta = NULL;
    }
    tacit_output_close(&m.output);
    for (size_t i = 0; i < count; i++) {
        json_decref(m.parts[i].meta);
        tacit_index_close(&m.parts[i].index);
        tacit_npy_close(&m.parts[i].npy);
    }
    json_decref(m.recipe);
    tacit_free(m.parts);
    tacit_free(m.row);
    tacit_free(m.line);
    return st;
}
