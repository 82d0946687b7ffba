/* draws.c - see draws.h. */
#include "draws.h"

#include "rng.h"

uint64_t tacit_draw_stream(uint64_t seed, uint64_t epoch, uint64_t sample, unsigned use)
{
    uint32_t w[4];
    tacit_philox(seed, epoch << 8 | use, sample, w);
    return (uint64_t)w[0] << 32 | w[1];
}

static uint32_t *place(uint32_t *keep, uint32_t *mask, size_t kept, size_t i)
{
    return i < kept ? &keep[i] : &mask[i - kept];
}

void tacit_draw_mask(uint64_t seed, uint64_t epoch, uint64_t sample, size_t n, size_t kept,
                     uint32_t *keep, uint32_t *mask)
{
    uint64_t stream = tacit_draw_stream(seed, epoch, sample, TACIT_DRAW_MASK);
    for (size_t i = 0; i < n; i++)
        *place(keep, mask, kept, i) = (uint32_t)i;
    for (size_t i = n; i-- > 1;) { /* Fisher and Yates */
        uint64_t u = tacit_rng_u32(seed, stream, i);
        uint32_t *a = place(keep, mask, kept, i),
                 *b = place(keep, mask, kept, (size_t)(u * (i + 1) >> 32)), swap = *a;
        *a = *b;
        *b = swap;
    }
}
