/* convert.c - see convert.h. */
#include "convert.h"

#include "mem.h"
#include "meta.h"
#include "quantised.h"
#include "safetensors.h"

#include <math.h>
#include <string.h>

#define CHUNK ((size_t)64 << 10) /* values */

/* A source as another type. */
struct cast {
    const tacit_tensor_source *from;
    const tacit_kernels *kernels;
    tacit_tensor *tensors;
    float *values;
    void *stored;
};

/* n elements of tensor i as floats in c->values. */
static tacit_status widen(const struct cast *c, size_t i, size_t first, size_t n, tacit_err *err)
{
    tacit_dtype dtype = c->from->tensors[i].dtype;
    size_t size = tacit_dtype_size(dtype);
    tacit_status st = c->from->read(c->from->ctx, i, first * size, n * size,
                                    dtype == TACIT_F32 ? c->values : c->stored, err);
    if (st < 0 || dtype == TACIT_F32)
        return st;
    if (dtype == TACIT_F16)
        c->kernels->f16_to_f32(n, c->stored, c->values);
    else
        c->kernels->bf16_to_f32(n, c->stored, c->values);
    return TACIT_OK;
}

static tacit_status narrow(const struct cast *c, size_t i, size_t n, uint16_t *to, tacit_err *err)
{
    if (c->tensors[i].dtype == TACIT_BF16) {
        c->kernels->f32_to_bf16(n, c->values, to);
        return TACIT_OK;
    }
    c->kernels->f32_to_f16(n, c->values, to);
    for (size_t k = 0; k < n; k++)
        if ((to[k] & 0x7fff) == 0x7c00 && isfinite(c->values[k]))
            return tacit_fail(err, TACIT_ELIMIT,
                              "%s holds %g, which float16 does not: use --dtype bf16 or f32",
                              c->tensors[i].name, (double)c->values[k]);
    return TACIT_OK;
}

static tacit_status read_cast(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                              tacit_err *err)
{
    const struct cast *c = ctx;
    size_t width = tacit_dtype_size(c->tensors[i].dtype), first = offset / width, n = size / width;
    tacit_status st = TACIT_OK;
    if (c->tensors[i].dtype == c->from->tensors[i].dtype)
        return c->from->read(c->from->ctx, i, offset, size, dst, err);
    for (size_t at = 0, part; st == TACIT_OK && at < n; at += part) {
        part = n - at < CHUNK ? n - at : CHUNK;
        if ((st = widen(c, i, first + at, part, err)) < 0)
            return st;
        if (width == sizeof(float))
            memcpy((float *)dst + at, c->values, part * sizeof(float));
        else
            st = narrow(c, i, part, (uint16_t *)dst + at, err);
    }
    return st;
}

static tacit_status open_cast(struct cast *c, tacit_dtype dtype, tacit_err *err)
{
    c->tensors = tacit_calloc(c->from->count, sizeof *c->tensors);
    c->values = tacit_alloc(CHUNK * sizeof *c->values);
    c->stored = tacit_alloc(CHUNK * sizeof(uint16_t));
    if (!c->tensors || !c->values || !c->stored)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", c->from->count);
    for (size_t i = 0; i < c->from->count; i++) {
        tacit_tensor *t = &c->tensors[i];
        *t = c->from->tensors[i];
        if (t->dtype != TACIT_F32 && t->dtype != TACIT_F16 && t->dtype != TACIT_BF16)
            return tacit_fail(err, TACIT_EUNSUPPORTED, "%s is of %s: F32, F16 and BF16 are read",
                              t->name, tacit_dtype_name(t->dtype));
        size_t n = t->bytes / tacit_dtype_size(t->dtype);
        t->dtype = dtype;
        if (!tacit_mul_size(n, tacit_dtype_size(dtype), &t->bytes))
            return tacit_fail(err, TACIT_ELIMIT, "%s is too large", t->name);
    }
    return TACIT_OK;
}

tacit_status tacit_convert(const tacit_weights *weights, const char *from, const char *path,
                           tacit_dtype dtype, const tacit_kernels *kernels, tacit_err *err)
{
    const tacit_tensor_source *source = &weights->dialect.source;
    struct cast cast = { .from = source, .kernels = kernels };
    tacit_quantised *quantised = NULL;
    uint64_t hash = 0;
    json_t *note = NULL;
    char *text = NULL;
    tacit_status st = tacit_checkpoint_hash(weights->checkpoint, &hash, err);
    if (st >= 0)
        st = open_cast(&cast, dtype == TACIT_I8 ? TACIT_F32 : dtype, err);
    if (st >= 0) {
        note = tacit_canonical_json(&weights->dialect, from, hash);
        text = note ? tacit_json_dump(note, JSON_COMPACT | JSON_REAL_PRECISION(17)) : NULL;
        if (!text)
            st = tacit_fail(err, TACIT_ENOMEM, "out of memory");
    }
    if (st >= 0) {
        /* "format" is what transformers looks for. */
        const char *metadata[] = { "format", "pt", TACIT_CANONICAL_KEY, text, NULL };
        tacit_tensor_source as = { cast.tensors, source->count, read_cast, &cast };
        if (dtype == TACIT_I8 && (st = tacit_quantise(&quantised, &as, err)) >= 0)
            as = tacit_quantised_source(quantised);
        if (st >= 0)
            st = tacit_safetensors_copy(path, &as, metadata, err);
    }
    tacit_quantised_close(&quantised);
    json_decref(note);
    tacit_free(text);
    tacit_free(cast.tensors);
    tacit_free(cast.values);
    tacit_free(cast.stored);
    return st;
}
