/* resnet_forward.h - what the files share that run a ResNet: resnet.c, and resnet_int8.c for what
 * is different in 8 bits. */
#ifndef TACIT_RESNET_FORWARD_H
#define TACIT_RESNET_FORWARD_H

#include "resnet_internal.h"

/* Stage 0 is the stem. */
#define TACIT__STAGES 5

/* Pixels as rows of floats; in a network of bottlenecks in 8 bits as bytes, where `bytes` has room.
 */
typedef struct tacit__map {
    float *values;
    tacit_rounded bytes;
} tacit__map;

typedef struct tacit__forward {
    const tacit_resnet *r;
    const tacit_kernels *k;
    tacit_pool *pool;
    const float *images;
    size_t together[TACIT__STAGES]; /* images of each stage */
    tacit__map in[TACIT__STAGES];   /* what a stage reads  */
    tacit__map turn[2];             /* inside it: what blocks read and give */
    float *last;                    /* the last stage's map */
    float *between[3];              /* convolutions, and the shortcut */
    float *tiles;                   /* Winograd's transformed inputs */
    tacit_rounded rounded; /* rows of pixels or of windows, as a layer reads them that is not in
                              fp32 */
    float *work;           /* for each worker */
    size_t work_size;
} tacit__forward;

static inline size_t tacit__pixels_in(const tacit__layer *l)
{
    return l->shape.height * l->shape.width;
}

static inline size_t tacit__pixels_out(const tacit__layer *l)
{
    return l->shape.rows * l->shape.columns;
}

/* y = [relu] (convolution of x [+ residual]); the residual's pixels lie as those of y. Not of a
 * stem in 8 bits. */
void tacit__resnet_convolve(const tacit__forward *f, const tacit__layer *l, size_t images,
                            const float *x, float *y, const float *residual, bool relu);

/* Channels [column, column + n) of tiles [first, first + tiles), from their products, tile by tile
 * in rows of n, to y. y and the epilogue's pointers are those of the whole layer. */
void tacit__finish_tiles(const tacit__forward *f, const tacit__layer *l, size_t first, size_t tiles,
                         size_t column, size_t n, const float *products, float *y,
                         const tacit_epilogue *epilogue);

/* In 8 bits: the stem, of one image in planes, with the pooling behind it where there is one, to
 * bytes where y has room for them; a layer with a side; a block of bottlenecks, from
 * bytes to bytes, or to floats where y has no room for bytes. */
void tacit__stem8(const tacit__forward *f, const tacit__layer *l, const float *image,
                  const tacit_conv *pool, const tacit__map *y);
void tacit__tiles8(const tacit__forward *f, const tacit__layer *l, size_t images, const float *x,
                   float *y, const tacit_epilogue *epilogue);
void tacit__block8(const tacit__forward *f, const tacit__residual *b, size_t images,
                   const tacit_rounded *x, const tacit__map *y);

/* Bytes of a layer's rounded tile. */
size_t tacit__tiles8_bytes(const tacit__layer *l);

/* Floats of work for each worker. */
size_t tacit__stem8_work(const tacit__layer *l);
size_t tacit__tiles8_work(const tacit__layer *l);
size_t tacit__block8_work(const tacit__residual *b);

#endif
