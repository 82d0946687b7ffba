/* quantised.c - see quantised.h. */
#include "quantised.h"

#include "int8.h"
#include "kernels.h"
#include "mem.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SUFFIX "_scale"
#define VALUES 4096  /* that are converted at a time */
#define MOST   16384 /* tensors: names are looked for one by one */

/* A tensor of the source that is made, from tensor `index` of the one below it. */
typedef struct entry {
    enum { AS_IT_IS, TO_BYTES, TO_SCALES, TO_FLOATS } how;
    size_t index, row; /* values of a row */
    bool pixels;       /* a layer that reads pixels: sums of its rows are kept */
    float *factors;    /* of the rows: the largest sizes where bytes are made, else scales */
    char *name;        /* its own, of scales that are made */
} entry;

struct tacit_quantised {
    tacit_tensor_source from;
    tacit_tensor *tensors;
    entry *entries;
    size_t count, quantised;
};

static size_t row_values(const tacit_tensor *t)
{
    size_t n = 1;
    for (unsigned i = 1; i < t->rank; i++)
        n *= t->shape[i];
    return n;
}

/* Made ---------------------------------------------------------------------------------------- */

/* Layers and convolutions by their canonical names. */
static bool is_multiplied(const tacit_tensor *t)
{
    static const char *const begins[] = { "blocks.", "patch_embed.", "conv1.", "layer" };
    size_t n = strlen(t->name);
    if (t->rank < 2 || n < 7 || strcmp(t->name + n - 7, ".weight"))
        return false;
    for (size_t i = 0; i < sizeof begins / sizeof *begins; i++)
        if (!strncmp(t->name, begins[i], strlen(begins[i])))
            return true;
    return false;
}

/* The largest size of each row. */
static tacit_status measure(const tacit_tensor_source *from, const entry *e, tacit_err *err)
{
    const tacit_tensor *t = &from->tensors[e->index];
    float values[VALUES];
    tacit_status st = TACIT_OK;
    for (size_t r = 0; r < t->shape[0]; r++) {
        e->factors[r] = 0;
        for (size_t i = 0, n; st == TACIT_OK && i < e->row; i += n) {
            n = e->row - i < VALUES ? e->row - i : VALUES;
            st = from->read(from->ctx, e->index, (r * e->row + i) * sizeof(float),
                            n * sizeof(float), values, err);
            for (size_t k = 0; st == TACIT_OK && k < n; k++) {
                if (!isfinite(values[k]))
                    return tacit_fail(err, TACIT_EFORMAT,
                                      "tensor %s holds a value that is not finite", t->name);
                if (fabsf(values[k]) > e->factors[r])
                    e->factors[r] = fabsf(values[k]);
            }
        }
    }
    return st;
}

/* Bytes of a part of a row, of which all is read. */
static tacit_status read_kept(const tacit_tensor_source *from, const entry *e, size_t row,
                              size_t first, size_t n, int8_t *to, tacit_err *err)
{
    float *values = tacit_alloc(e->row * sizeof *values);
    if (!values)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a row of %zu weights", e->row);
    tacit_status st = from->read(from->ctx, e->index, row * e->row * sizeof(float),
                                 e->row * sizeof(float), values, err);
    float inverse = tacit_int8_inverse(e->factors[row]);
    if (st == TACIT_OK)
        tacit_round_s8(e->row, values);
    for (size_t k = 0; st == TACIT_OK && k < n; k++)
        to[k] = (int8_t)(tacit_int8_byte(values[first + k], inverse) - 128);
    tacit_free(values);
    return st;
}

static tacit_status read_bytes(const tacit_tensor_source *from, const entry *e, size_t first,
                               size_t n, int8_t *to, tacit_err *err)
{
    float values[VALUES];
    tacit_status st = TACIT_OK;
    for (size_t i = 0, part; st == TACIT_OK && i < n; i += part) {
        size_t row = (first + i) / e->row, left = (row + 1) * e->row - (first + i);
        part = left < n - i ? left : n - i;
        if (e->pixels) {
            st = read_kept(from, e, row, e->row - left, part, to + i, err);
            continue;
        }
        part = part < VALUES ? part : VALUES;
        float inverse = tacit_int8_inverse(e->factors[row]);
        st = from->read(from->ctx, e->index, (first + i) * sizeof(float), part * sizeof(float),
                        values, err);
        for (size_t k = 0; st == TACIT_OK && k < part; k++)
            to[i + k] = (int8_t)(tacit_int8_byte(values[k], inverse) - 128);
    }
    return st;
}

/* Read back ----------------------------------------------------------------------------------- */

static const tacit_tensor *scale_tensor(const tacit_tensor_source *from, const tacit_tensor *t)
{
    size_t n = strlen(t->name);
    for (size_t i = 0; t->dtype == TACIT_I8 && t->rank > 1 && i < from->count; i++)
        if (!strncmp(from->tensors[i].name, t->name, n) &&
            !strcmp(from->tensors[i].name + n, SUFFIX))
            return &from->tensors[i];
    return NULL;
}

static tacit_status read_scales(const tacit_tensor_source *from, const tacit_tensor *scales,
                                const tacit_tensor *of, float *to, tacit_err *err)
{
    if (scales->dtype != TACIT_F32 || scales->rank != 1 || scales->shape[0] != of->shape[0])
        return tacit_fail(err, TACIT_EFORMAT, "%s is not F32 with one value for each row of %s",
                          scales->name, of->name);
    tacit_status st = from->read(from->ctx, (size_t)(scales - from->tensors), 0,
                                 of->shape[0] * sizeof(float), to, err);
    for (size_t r = 0; st == TACIT_OK && r < of->shape[0]; r++)
        if (!(to[r] >= 0 && to[r] < TACIT_INT8_HUGE / 128))
            return tacit_fail(err, TACIT_EFORMAT, "%s[%zu] is no scale: %g", scales->name, r,
                              (double)to[r]);
    return st;
}

static tacit_status read_floats(const tacit_tensor_source *from, const entry *e, size_t first,
                                size_t n, float *to, tacit_err *err)
{
    int8_t bytes[VALUES];
    tacit_status st = TACIT_OK;
    for (size_t i = 0, part; st == TACIT_OK && i < n; i += part) {
        part = n - i < VALUES ? n - i : VALUES;
        st = from->read(from->ctx, e->index, first + i, part, bytes, err);
        size_t row = (first + i) / e->row, end = (row + 1) * e->row - (first + i);
        for (size_t k = 0; st == TACIT_OK && k < part; k++) {
            if (k == end) {
                row++;
                end += e->row;
            }
            to[i + k] = (float)bytes[k] * e->factors[row];
        }
    }
    return st;
}

/* Both ---------------------------------------------------------------------------------------- */

static tacit_status read_any(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                             tacit_err *err)
{
    const tacit_quantised *q = ctx;
    const entry *e = &q->entries[i];
    size_t first = offset / sizeof(float), n = size / sizeof(float);
    switch (e->how) {
    case TO_BYTES: return read_bytes(&q->from, e, offset, size, dst, err);
    case TO_FLOATS: return read_floats(&q->from, e, first, n, dst, err);
    case TO_SCALES:
        for (size_t k = 0; k < n; k++)
            ((float *)dst)[k] = tacit_int8_scale(e->factors[first + k]);
        return TACIT_OK;
    default: return q->from.read(q->from.ctx, e->index, offset, size, dst, err);
    }
}

/* One entry of tensor t, and room for the factors of its rows where it is not as it is. */
static tacit_status add(tacit_quantised *q, const tacit_tensor *t, int how, tacit_err *err)
{
    entry *e = &q->entries[q->count];
    q->tensors[q->count++] = *t;
    *e = (entry){ .how = how, .index = (size_t)(t - q->from.tensors), .row = row_values(t) };
    if (how == AS_IT_IS)
        return TACIT_OK;
    q->quantised++;
    if (!e->row || !(e->factors = tacit_calloc(t->shape[0], sizeof *e->factors)))
        return tacit_fail(err, e->row ? TACIT_ENOMEM : TACIT_EFORMAT, "%s: %s", t->name,
                          e->row ? "out of memory" : "it is empty");
    return TACIT_OK;
}

static tacit_status open_any(tacit_quantised **out, const tacit_tensor_source *from, tacit_err *err)
{
    *out = NULL;
    if (from->count > MOST)
        return tacit_fail(err, TACIT_ELIMIT, "%zu tensors, of which some are I8: %d are the most",
                          from->count, MOST);
    tacit_quantised *q = *out = tacit_calloc(1, sizeof *q);
    if (q) {
        q->from = *from;
        q->tensors = tacit_calloc(2 * from->count + 1, sizeof *q->tensors);
        q->entries = tacit_calloc(2 * from->count + 1, sizeof *q->entries);
    }
    return q && q->tensors && q->entries
               ? TACIT_OK
               : tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", from->count);
}

static tacit_status add_bytes(tacit_quantised *q, const tacit_tensor *t, tacit_err *err)
{
    tacit_status st = add(q, t, TO_BYTES, err);
    if (st < 0)
        return st;
    entry *bytes = &q->entries[q->count - 1], *scales = bytes + 1;
    tacit_tensor *made = &q->tensors[q->count - 1];
    bytes->pixels = bytes->row <= TACIT_INT8_MOST &&
                    (!strncmp(t->name, "conv1.", 6) || !strncmp(t->name, "patch_embed.", 12));
    made->dtype = TACIT_I8;
    made->bytes = t->shape[0] * bytes->row;
    if ((st = measure(&q->from, bytes, err)) < 0)
        return st;
    size_t n = strlen(t->name) + sizeof SUFFIX;
    *scales = (entry){ .how = TO_SCALES, .factors = bytes->factors, .name = tacit_alloc(n) };
    if (!scales->name)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", t->name);
    snprintf(scales->name, n, "%s" SUFFIX, t->name);
    q->tensors[q->count++] = (tacit_tensor){ .name = scales->name,
                                             .dtype = TACIT_F32,
                                             .rank = 1,
                                             .shape = { t->shape[0] },
                                             .bytes = t->shape[0] * sizeof(float) };
    return TACIT_OK;
}

tacit_status tacit_quantise(tacit_quantised **quantised, const tacit_tensor_source *from,
                            tacit_err *err)
{
    tacit_status st = open_any(quantised, from, err);
    for (size_t i = 0; st == TACIT_OK && i < from->count; i++) {
        const tacit_tensor *t = &from->tensors[i];
        st = is_multiplied(t) ? add_bytes(*quantised, t, err) : add(*quantised, t, AS_IT_IS, err);
    }
    if (st < 0)
        tacit_quantised_close(quantised);
    return st;
}

tacit_status tacit_dequantise(tacit_quantised **quantised, const tacit_tensor_source *from,
                              tacit_err *err)
{
    tacit_status st = open_any(quantised, from, err);
    bool *hidden = st < 0 ? NULL : tacit_calloc(from->count + 1, sizeof *hidden);
    if (st == TACIT_OK && !hidden)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", from->count);
    for (size_t i = 0; st == TACIT_OK && i < from->count; i++) {
        const tacit_tensor *scales = scale_tensor(from, &from->tensors[i]);
        if (scales)
            hidden[scales - from->tensors] = true;
    }
    for (size_t i = 0; st == TACIT_OK && i < from->count; i++) {
        const tacit_tensor *t = &from->tensors[i], *scales = scale_tensor(from, t);
        if (hidden[i])
            continue;
        tacit_quantised *q = *quantised;
        if ((st = add(q, t, scales ? TO_FLOATS : AS_IT_IS, err)) < 0 || !scales)
            continue;
        tacit_tensor *made = &q->tensors[q->count - 1];
        made->dtype = TACIT_F32;
        if (!tacit_mul_size(t->bytes, sizeof(float), &made->bytes))
            st = tacit_fail(err, TACIT_ELIMIT, "%s is too large", t->name);
        else
            st = read_scales(from, scales, t, q->entries[q->count - 1].factors, err);
    }
    tacit_free(hidden);
    if (st < 0)
        tacit_quantised_close(quantised);
    return st;
}

tacit_tensor_source tacit_quantised_source(const tacit_quantised *q)
{
    return (tacit_tensor_source){ q->tensors, q->count, read_any, (void *)q };
}

size_t tacit_quantised_count(const tacit_quantised *q)
{
    return q->quantised;
}

void tacit_quantised_close(tacit_quantised **quantised)
{
    tacit_quantised *q = *quantised;
    for (size_t i = 0; q && q->entries && i < q->count; i++) {
        if (q->entries[i].how != TO_SCALES) /* those are the bytes' */
            tacit_free(q->entries[i].factors);
        tacit_free(q->entries[i].name);
    }
    if (q) {
        tacit_free(q->tensors);
        tacit_free(q->entries);
    }
    tacit_free(q);
    *quantised = NULL;
}
