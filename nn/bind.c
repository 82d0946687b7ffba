/* bind.c - see bind.h. */
#include "bind.h"

#include "mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

size_t tacit__slot_elements(const tacit__slot *s)
{
    size_t n = 1;
    for (unsigned i = 0; i < s->rank; i++)
        n *= s->shape[i];
    return n;
}

const tacit_tensor *tacit__find_tensor(const tacit_tensor_source *source, const char *name)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, name))
            return &source->tensors[i];
    return NULL;
}

/* Binding ------------------------------------------------------------------------------------- */

/* Appends to the list of complaints, which the message then cuts to what fits. */
static void complain(char *list, size_t size, size_t *count, const char *what, const char *name)
{
    size_t n = strlen(list);
    snprintf(list + n, size - n, "%s%s %s", *count ? ", " : "", what, name);
    ++*count;
}

static void shape_text(char *text, size_t size, const size_t *shape, unsigned rank)
{
    size_t n = 0;
    text[0] = 0;
    for (unsigned i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%zu", i ? "x" : "", shape[i]);
}

static bool same_shape(const tacit__slot *s, const tacit_tensor *t)
{
    return t->rank == s->rank && !memcmp(t->shape, s->shape, s->rank * sizeof *s->shape);
}

static bool is_float(tacit_dtype dtype)
{
    return dtype == TACIT_F32 || dtype == TACIT_F16 || dtype == TACIT_BF16;
}

tacit_status tacit__bind(const tacit__slot *slots, size_t count, const tacit_tensor_source *source,
                         bool (*unneeded)(const void *config, const char *name), const void *config,
                         size_t *index, tacit_err *err)
{
    char list[700] = "";
    size_t complaints = 0;
    bool *used = tacit_calloc(source->count ? source->count : 1, sizeof *used);
    if (!used)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", source->count);
    for (size_t s = 0; s < count; s++) {
        const tacit_tensor *t = tacit__find_tensor(source, slots[s].name);
        if (!t) {
            complain(list, sizeof list, &complaints, "missing", slots[s].name);
            continue;
        }
        index[s] = (size_t)(t - source->tensors);
        used[index[s]] = true;
        char text[256], have[96], want[96];
        if (!same_shape(&slots[s], t)) {
            shape_text(have, sizeof have, t->shape, t->rank);
            shape_text(want, sizeof want, slots[s].shape, slots[s].rank);
            snprintf(text, sizeof text, "%s (is %s, must be %s)", slots[s].name, have, want);
            complain(list, sizeof list, &complaints, "mis-shaped", text);
        } else if (!is_float(t->dtype)) {
            snprintf(text, sizeof text, "%s (%s; F32, F16 and BF16 are read)", slots[s].name,
                     tacit_dtype_name(t->dtype));
            complain(list, sizeof list, &complaints, "of another type:", text);
        }
    }
    for (size_t i = 0; i < source->count; i++)
        if (!used[i] && !unneeded(config, source->tensors[i].name))
            complain(list, sizeof list, &complaints, "unexpected", source->tensors[i].name);
    tacit_free(used);
    if (complaints)
        return tacit_fail(err, TACIT_EFORMAT, "%zu tensor%s not as the model needs: %s", complaints,
                          complaints > 1 ? "s" : "", list);
    return TACIT_OK;
}

/* Reading ------------------------------------------------------------------------------------- */

bool tacit__all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

tacit_status tacit__read_floats(const tacit_tensor_source *s, size_t t, size_t first, size_t n,
                                const tacit_kernels *kernels, float *to, uint16_t *raw,
                                tacit_err *err)
{
    tacit_dtype dtype = s->tensors[t].dtype;
    size_t size = tacit_dtype_size(dtype);
    tacit_status st =
        s->read(s->ctx, t, first * size, n * size, dtype == TACIT_F32 ? (void *)to : raw, err);
    if (st < 0)
        return st;
    if (dtype == TACIT_F16)
        kernels->f16_to_f32(n, raw, to);
    else if (dtype == TACIT_BF16)
        kernels->bf16_to_f32(n, raw, to);
    return tacit__all_finite(to, n)
               ? TACIT_OK
               : tacit_fail(err, TACIT_EFORMAT, "tensor %s holds a value that is not finite",
                            s->tensors[t].name);
}

tacit_status tacit__take_memory(tacit_arena *arena, size_t size, const tacit_stash *stash,
                                bool *kept, tacit_err *err)
{
    void *bytes = stash ? stash->take(stash->ctx, size) : NULL;
    *kept = bytes != NULL;
    if (bytes) {
        *arena = (tacit_arena){ .base = bytes, .size = size, .borrowed = true };
        return TACIT_OK;
    }
    tacit_status st = tacit_arena_open(arena, size, err);
    if (st >= 0 && stash)
        memset(arena->base, 0, size);
    return st;
}

typedef struct loading {
    tacit__piece_fn *load;
    void *ctx;
    unsigned char *buffers;
    size_t size;
    pthread_mutex_t lock;
    size_t failed; /* lowest piece that failed, SIZE_MAX for none */
    tacit_status status;
    tacit_err err;
} loading;

static void load_one(void *ctx, size_t piece, unsigned worker)
{
    loading *l = ctx;
    tacit_err err;
    tacit_status st = l->load(l->ctx, piece, l->buffers + worker * l->size, &err);
    if (st == TACIT_OK)
        return;
    pthread_mutex_lock(&l->lock);
    if (piece < l->failed) {
        l->failed = piece;
        l->status = st;
        l->err = err;
    }
    pthread_mutex_unlock(&l->lock);
}

tacit_status tacit__load_pieces(tacit_pool *pool, size_t count, size_t size, tacit__piece_fn *load,
                                void *ctx, tacit_err *err)
{
    loading l = { .load = load, .ctx = ctx, .size = (size + 63) / 64 * 64, .failed = SIZE_MAX };
    size_t bytes;
    if (tacit_mul_size(l.size, tacit_pool_threads(pool), &bytes))
        l.buffers = tacit_alloc(bytes);
    if (!l.buffers)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for reading the weights");
    if (pthread_mutex_init(&l.lock, NULL)) {
        l.status = tacit_fail(&l.err, TACIT_ENOMEM, "the system gives no lock for the weights");
    } else {
        tacit_parallel_for(pool, count, load_one, &l);
        pthread_mutex_destroy(&l.lock);
    }
    tacit_free(l.buffers);
    if (l.status < 0 && err)
        *err = l.err;
    return l.status;
}
