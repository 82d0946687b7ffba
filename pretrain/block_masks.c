/* block_masks.c - see block_masks.h. */
#include "block_masks.h"

#include "draws.h"
#include "rng.h"

#include <math.h>
#include <sleef.h>
#include <stdbool.h>
#include <string.h>

#define TRIES 10

typedef struct rectangle {
    size_t top, left, height, width;
} rectangle;

static double between(uint32_t word, double low, double high)
{
    return low + (high - low) * ((double)word * 0x1p-32);
}

static size_t below(uint32_t word, size_t n)
{
    return (size_t)((uint64_t)word * n >> 32);
}

/* One of the four words' area and aspect and, where it is less than the grid, their place. */
static bool rectangle_of(const tacit_blockwise *b, size_t most, const uint32_t word[4],
                         rectangle *r)
{
    double flat = Sleef_cinz_logd1_u10purec(b->aspect);
    double area = between(word[0], (double)b->least, (double)most);
    double aspect = Sleef_cinz_expd1_u10purec(between(word[1], flat, -flat));
    r->height = (size_t)nearbyint(sqrt(area * aspect));
    r->width = (size_t)nearbyint(sqrt(area / aspect));
    if (r->height >= b->side || r->width >= b->side)
        return false;
    r->top = below(word[2], b->side - r->height + 1);
    r->left = below(word[3], b->side - r->width + 1);
    return true;
}

/* Patches of the rectangle that the mask has not, which with `set` it then has. */
static size_t missing(const tacit_blockwise *b, const rectangle *r, uint8_t *mask, bool set)
{
    size_t count = 0;
    for (size_t y = r->top; y < r->top + r->height; y++)
        for (size_t x = r->left; x < r->left + r->width; x++) {
            count += !mask[y * b->side + x];
            mask[y * b->side + x] |= set;
        }
    return count;
}

size_t tacit_draw_blockwise(const tacit_blockwise *b, uint64_t seed, uint64_t epoch,
                            uint64_t sample, uint8_t *mask)
{
    uint64_t stream = tacit_draw_stream(seed, epoch, sample, TACIT_DRAW_MASK), block = 0;
    size_t masked = 0, tries = 0;
    memset(mask, 0, b->side * b->side);
    while (masked < b->count && tries++ < TRIES) {
        size_t left = b->count - masked, more = 0;
        uint32_t word[4];
        rectangle r;
        tacit_philox(seed, stream, block++, word);
        if (rectangle_of(b, left, word, &r))
            more = missing(b, &r, mask, false);
        if (!more || more > left)
            continue;
        masked += missing(b, &r, mask, true);
        tries = 0;
    }
    return masked;
}
