/* seeded.c - a source of reproducible values with a network's names and shapes. See weights.h. */
#include "mem.h"
#include "rng.h"
#include "bind.h"

#include <string.h>

typedef struct seeded {
    uint64_t seed;
    tacit_tensor *tensors;
    tacit__slot *slots; /* hold the names */
    tacit__range (*range)(const tacit__slot *slot);
} seeded;

static tacit_status read_seeded(void *ctx, size_t t, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const seeded *s = ctx;
    if (offset > s->tensors[t].bytes || size > s->tensors[t].bytes - offset)
        return tacit_fail(err, TACIT_EINVAL, "tensor %s: bytes past its end", s->tensors[t].name);
    tacit__range range = s->range(&s->slots[t]);
    unsigned char *to = dst;
    while (size) {
        size_t within = offset % 16, n = 16 - within < size ? 16 - within : size;
        uint32_t words[4];
        float values[4];
        tacit_philox(s->seed, t, offset / 16, words);
        for (int i = 0; i < 4; i++)
            values[i] = range.middle + ((float)(words[i] >> 8) * 0x1p-23f - 1.0f) * range.spread;
        memcpy(to, (const unsigned char *)values + within, n);
        to += n;
        offset += n;
        size -= n;
    }
    return TACIT_OK;
}

tacit_status tacit__seeded_open(tacit_tensor_source *source, tacit__slot *slots, size_t count,
                                tacit__range (*range)(const tacit__slot *slot), uint64_t seed,
                                tacit_err *err)
{
    *source = (tacit_tensor_source){ 0 };
    seeded *s = tacit_calloc(1, sizeof *s);
    tacit_tensor *tensors = tacit_calloc(count, sizeof *tensors);
    if (!s || !tensors) {
        tacit_free(s);
        tacit_free(tensors);
        tacit_free(slots);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", count);
    }
    *s = (seeded){ seed, tensors, slots, range };
    for (size_t i = 0; i < count; i++) {
        tensors[i] = (tacit_tensor){ .name = slots[i].name,
                                     .dtype = TACIT_F32,
                                     .rank = slots[i].rank,
                                     .bytes = sizeof(float) * tacit__slot_elements(&slots[i]) };
        memcpy(tensors[i].shape, slots[i].shape, slots[i].rank * sizeof *slots[i].shape);
    }
    *source = (tacit_tensor_source){ tensors, count, read_seeded, s };
    return TACIT_OK;
}

void tacit__seeded_close(tacit_tensor_source *source)
{
    seeded *s = source->ctx;
    if (s) {
        tacit_free(s->tensors);
        tacit_free(s->slots);
        tacit_free(s);
    }
    *source = (tacit_tensor_source){ 0 };
}
