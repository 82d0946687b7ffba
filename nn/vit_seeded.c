/* vit_seeded.c - a source of reproducible small values with a ViT's names and shapes. See vit.h.
 *
 * Untrained: weights, biases and tokens are uniform with the standard deviation 0.02 of ViT's
 * initialisation, the gains of norms and layer scales are that much around 1. Value i of tensor t
 * is draw i of stream t, so any range can be read on its own.
 */
#include "rng.h"
#include "vit_internal.h"

#include <string.h>

typedef struct seeded {
    uint64_t seed;
    size_t count;
    tacit_tensor *tensors;
    tacit__slot *slots;
} seeded;

static bool is_gain(const char *name)
{
    return strstr(name, "norm") ? strstr(name, ".weight") != NULL : strstr(name, ".gamma") != NULL;
}

static tacit_status read_seeded(void *ctx, size_t t, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const seeded *s = ctx;
    if (offset > s->tensors[t].bytes || size > s->tensors[t].bytes - offset)
        return tacit_fail(err, TACIT_EINVAL, "tensor %s: bytes past its end", s->tensors[t].name);
    float middle = is_gain(s->tensors[t].name) ? 1.0f : 0.0f;
    unsigned char *to = dst;
    while (size) {
        size_t within = offset % 16, n = 16 - within < size ? 16 - within : size;
        uint32_t words[4];
        float values[4];
        tacit_philox(s->seed, t, offset / 16, words);
        for (int i = 0; i < 4; i++) /* +-0.02 * sqrt(3) */
            values[i] = middle + ((float)(words[i] >> 8) * 0x1p-23f - 1.0f) * 0.0346410162f;
        memcpy(to, (const unsigned char *)values + within, n);
        to += n;
        offset += n;
        size -= n;
    }
    return TACIT_OK;
}

tacit_status tacit_vit_seeded(const tacit_vit_config *config, uint64_t seed,
                              tacit_tensor_source *source, tacit_err *err)
{
    *source = (tacit_tensor_source){ 0 };
    tacit_status st = tacit__vit_check(config, err);
    if (st < 0)
        return st;
    seeded *s = tacit_calloc(1, sizeof *s);
    size_t count = tacit__vit_slot_count(config);
    if (s) {
        s->seed = seed;
        s->count = count;
        s->tensors = tacit_calloc(count, sizeof *s->tensors);
        s->slots = tacit_calloc(count, sizeof *s->slots);
    }
    source->ctx = s;
    if (!s || !s->tensors || !s->slots) {
        tacit_vit_seeded_close(source);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", count);
    }
    s->count = count = tacit__vit_slots(config, NULL, s->slots);
    for (size_t i = 0; i < count; i++) {
        tacit_tensor *t = &s->tensors[i];
        *t = (tacit_tensor){ .name = s->slots[i].name,
                             .dtype = TACIT_F32,
                             .rank = s->slots[i].rank,
                             .bytes = sizeof(float) };
        for (unsigned d = 0; d < t->rank; d++) {
            t->shape[d] = s->slots[i].shape[d];
            t->bytes *= t->shape[d];
        }
    }
    *source = (tacit_tensor_source){ s->tensors, count, read_seeded, s };
    return TACIT_OK;
}

void tacit_vit_seeded_close(tacit_tensor_source *source)
{
    seeded *s = source->ctx;
    if (s) {
        tacit_free(s->tensors);
        tacit_free(s->slots);
        tacit_free(s);
    }
    *source = (tacit_tensor_source){ 0 };
}
