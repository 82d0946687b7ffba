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

/* An order of 0 .. n - 1 by Fisher and Yates, of which the first `kept` go to keep. */
static void shuffle(uint64_t seed, uint64_t stream, size_t n, size_t kept, uint32_t *keep,
                    uint32_t *mask)
{
    for (size_t i = 0; i < n; i++)
        *place(keep, mask, kept, i) = (uint32_t)i;
    for (size_t i = n; i-- > 1;) {
        uint64_t u = tacit_rng_u32(seed, stream, i);
        uint32_t *a = place(keep, mask, kept, i),
                 *b = place(keep, mask, kept, (size_t)(u * (i + 1) >> 32)), swap = *a;
        *a = *b;
        *b = swap;
    }
}

void tacit_draw_split(uint64_t seed, uint64_t epoch, uint64_t index, unsigned use, size_t n,
                      size_t many, uint32_t *first, uint32_t *rest)
{
    shuffle(seed, tacit_draw_stream(seed, epoch, index, use), n, many, first, rest);
}

void tacit_draw_order(uint64_t seed, uint64_t epoch, uint64_t index, unsigned use, size_t n,
                      uint32_t *order)
{
    shuffle(seed, tacit_draw_stream(seed, epoch, index, use), n, n, order, NULL);
}
