/* masks.c - see masks.h. */
#include "masks.h"

#include "draws.h"
#include "rng.h"

#include <math.h>
#include <sleef.h>
#include <stdbool.h>
#include <string.h>

#define TRIES           20 /* of a context, for each target that it may overlap */
#define BLOCKWISE_TRIES 10 /* of a rectangle */

/* 0 <= x < n, of 32 random bits. */
static size_t scaled(uint32_t word, size_t n)
{
    return (size_t)((uint64_t)word * n >> 32);
}

void tacit_mask_random(uint64_t seed, uint64_t epoch, uint64_t sample, size_t patches, size_t kept,
                       uint32_t *keep, uint32_t *mask)
{
    tacit_draw_split(seed, epoch, sample, TACIT_DRAW_MASK, patches, kept, keep, mask);
}

void tacit_mask_units(const tacit_unit_masks *m, uint64_t seed, uint64_t epoch, uint64_t sample,
                      uint32_t *order, uint8_t *mask)
{
    size_t across = m->side / m->unit;
    memset(mask, 0, m->side * m->side);
    tacit_draw_order(seed, epoch, sample, TACIT_DRAW_MASK, across * across, order);
    for (size_t i = 0; i < m->count; i++) {
        size_t top = order[i] / across * m->unit, left = order[i] % across * m->unit;
        for (size_t y = top; y < top + m->unit; y++)
            memset(mask + y * m->side + left, 1, m->unit);
    }
}

/* I-JEPA -------------------------------------------------------------------------------------- */

/* Python's round: halves to even. */
static size_t side_of(double area, size_t most)
{
    double side = rint(sqrt(area));
    return side < (double)most ? (size_t)side : most;
}

tacit_block_size tacit_block_size_at(size_t side, const double scale[2], const double aspect[2],
                                     double r)
{
    double share = scale[0] + r * (scale[1] - scale[0]);
    double ratio = aspect[0] + r * (aspect[1] - aspect[0]);
    double area = floor((double)(side * side) * share);
    return (tacit_block_size){ side_of(area * ratio, side - 1), side_of(area / ratio, side - 1) };
}

static const double square[] = { 1, 1 };

/* The fewest patches of a block, by many draws. */
static size_t fewest(size_t side, const double scale[2], const double aspect[2])
{
    enum { DRAWS = 4096 };
    size_t least = side * side;
    for (size_t i = 0; i < DRAWS; i++) {
        tacit_block_size size = tacit_block_size_at(side, scale, aspect, (double)i / (double)DRAWS);
        size_t area = size.height * size.width;
        least = area < least ? area : least;
    }
    return least;
}

tacit_status tacit_block_masks_check(const tacit_block_masks *m, tacit_err *err)
{
    if (m->scale[0] > m->scale[1] || m->aspect[0] > m->aspect[1] ||
        m->context_scale[0] > m->context_scale[1])
        return tacit_fail(err, TACIT_EINVAL,
                          "blocks from more to less: target_min, aspect_min and context_min are at "
                          "most target_max, aspect_max and context_max");
    size_t target = fewest(m->side, m->scale, m->aspect);
    size_t context = fewest(m->side, m->context_scale, square);
    if (target > m->min_keep && context > m->min_keep)
        return TACIT_OK;
    return tacit_fail(err, TACIT_EINVAL,
                      "of %zu x %zu patches %s can have %zu, which must be more than min_keep = "
                      "%zu: set it lower, or the images larger",
                      m->side, m->side, target > m->min_keep ? "a context" : "a target",
                      target > m->min_keep ? context : target, m->min_keep);
}

/* The product of two sides that were rounded, by half at most. */
static size_t most(size_t side, const double scale[2], const double aspect[2])
{
    double area = floor((double)(side * side) * scale[1]), bound = 0;
    for (size_t i = 0; i < 2; i++) {
        double sides = sqrt(area * aspect[i]) + sqrt(area / aspect[i]);
        bound = area + 0.5 * sides + 0.25 > bound ? area + 0.5 * sides + 0.25 : bound;
    }
    size_t all = (side - 1) * (side - 1);
    return bound < (double)all ? (size_t)bound : all;
}

size_t tacit_block_masks_most_kept(const tacit_block_masks *m)
{
    return most(m->side, m->context_scale, square);
}

size_t tacit_block_masks_most_asked(const tacit_block_masks *m)
{
    return most(m->side, m->scale, m->aspect);
}

/* An image's draws, one after the other. */
typedef struct draws {
    uint64_t seed, stream, next;
} draws;

static size_t below(draws *d, size_t n)
{
    return scaled(tacit_rng_u32(d->seed, d->stream, d->next++), n);
}

typedef struct place {
    size_t top, left;
    tacit_block_size size;
} place;

static place draw_place(const tacit_block_masks *m, draws *d, tacit_block_size size)
{
    place p = { .size = size };
    p.top = below(d, m->side - size.height);
    p.left = below(d, m->side - size.width);
    return p;
}

static bool inside(const place *p, size_t y, size_t x)
{
    return y >= p->top && y < p->top + p->size.height && x >= p->left &&
           x < p->left + p->size.width;
}

/* The patches of a block that are in none of the `apart` others, to `to` unless it is NULL; their
 * number. */
static size_t patches_of(const tacit_block_masks *m, const place *p, const place *others,
                         size_t apart, uint32_t *to)
{
    size_t count = 0;
    for (size_t y = p->top; y < p->top + p->size.height; y++)
        for (size_t x = p->left; x < p->left + p->size.width; x++) {
            size_t k = 0;
            while (k < apart && !inside(&others[k], y, x))
                k++;
            if (k < apart)
                continue;
            if (to)
                to[count] = (uint32_t)(y * m->side + x);
            count++;
        }
    return count;
}

/* The context of an image behind its targets; gives its length. */
static size_t draw_context(const tacit_block_masks *m, draws *d, tacit_block_size size,
                           const place *targets, uint32_t *to)
{
    for (size_t apart = m->blocks;; apart--)
        for (int i = 0; i < TRIES; i++) {
            place p = draw_place(m, d, size);
            if (!apart || patches_of(m, &p, targets, apart, NULL) > m->min_keep)
                return patches_of(m, &p, targets, apart, to);
        }
}

/* Contexts that lie `room` apart are cut to `kept`, and drawn together. */
static void cut(uint32_t *contexts, size_t batch, size_t room, size_t kept)
{
    for (size_t i = 1; i < batch; i++)
        memmove(contexts + i * kept, contexts + i * room, kept * sizeof *contexts);
}

void tacit_mask_blocks(const tacit_block_masks *m, uint64_t seed, uint64_t epoch, uint64_t step,
                       const uint32_t *samples, size_t batch, uint32_t *contexts, size_t *kept,
                       uint32_t *targets, size_t *asked)
{
    uint64_t sizes = tacit_draw_stream(seed, epoch, step, TACIT_DRAW_BLOCK_SIZE);
    tacit_block_size target = tacit_block_size_at(m->side, m->scale, m->aspect,
                                                  (double)tacit_rng_uniform(seed, sizes, 0));
    tacit_block_size context = tacit_block_size_at(m->side, m->context_scale, square,
                                                   (double)tacit_rng_uniform(seed, sizes, 1));
    size_t room = tacit_block_masks_most_kept(m), area = target.height * target.width;
    size_t shortest = room;
    for (size_t i = 0; i < batch; i++) {
        draws d = { seed, tacit_draw_stream(seed, epoch, samples[i], TACIT_DRAW_MASK), 0 };
        place places[TACIT_MASK_BLOCKS];
        for (size_t b = 0; b < m->blocks; b++) {
            places[b] = draw_place(m, &d, target);
            patches_of(m, &places[b], NULL, 0, targets + (i * m->blocks + b) * area);
        }
        size_t count = draw_context(m, &d, context, places, contexts + i * room);
        shortest = count < shortest ? count : shortest;
    }
    cut(contexts, batch, room, shortest);
    *kept = shortest;
    *asked = area;
}

/* BEiT, MaskFeat ------------------------------------------------------------------------------ */

typedef struct rectangle {
    size_t top, left, height, width;
} rectangle;

static double between(uint32_t word, double low, double high)
{
    return low + (high - low) * ((double)word * 0x1p-32);
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
    r->top = scaled(word[2], b->side - r->height + 1);
    r->left = scaled(word[3], b->side - r->width + 1);
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

size_t tacit_mask_blockwise(const tacit_blockwise *b, uint64_t seed, uint64_t epoch,
                            uint64_t sample, uint8_t *mask)
{
    uint64_t stream = tacit_draw_stream(seed, epoch, sample, TACIT_DRAW_MASK), block = 0;
    size_t masked = 0, tries = 0;
    memset(mask, 0, b->side * b->side);
    while (masked < b->count && tries++ < BLOCKWISE_TRIES) {
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
