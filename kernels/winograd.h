/* winograd.h - the transforms of Winograd's minimal filtering F(2, 3) and F(4, 3), along one axis,
 * and the order of tiles.
 *
 * They come from the interpolation of a product of polynomials at 0, +-1, infinity and at 0, +-P,
 * +-Q, infinity (Winograd 1980, "Arithmetic Complexity of Computations", ch. 4). The symmetry lets
 * the values at a and -a share their even and odd parts. All coefficients of the
 * inputs and outputs are exact.
 */
#ifndef TACIT_WINOGRAD_H
#define TACIT_WINOGRAD_H

#include "kernels.h"
#include "raster.h"

/* Tiles of side x side outputs, in raster order. */
static inline tacit_raster tacit_winograd_tile(const tacit_conv *c, size_t side, size_t tile)
{
    return tacit_raster_at(tile, (c->rows + side - 1) / side, (c->columns + side - 1) / side);
}

#define TACIT_WINOGRAD_P 0.75f
#define TACIT_WINOGRAD_Q 1.5f

#define TACIT_WINOGRAD_P2 0.5625f   /* P^2       */
#define TACIT_WINOGRAD_Q2 2.25f     /* Q^2       */
#define TACIT_WINOGRAD_P3 0.421875f /* P^3       */
#define TACIT_WINOGRAD_Q3 3.375f    /* Q^3       */
#define TACIT_WINOGRAD_PQ 1.265625f /* P^2 Q^2   */
#define TACIT_WINOGRAD_S2 2.8125f   /* P^2 + Q^2 */

/* The weights' part, in float: one over the product of a point's distances to the others. These
 * alone are rounded. */
#define TACIT_WINOGRAD_SHARE_0 ((float)(1 / 1.265625))   /* 1 / (P^2 Q^2)           */
#define TACIT_WINOGRAD_SHARE_P ((float)(-1 / 1.8984375)) /* 1 / (2 P^2 (P^2 - Q^2)) */
#define TACIT_WINOGRAD_SHARE_Q ((float)(1 / 7.59375))    /* 1 / (2 Q^2 (Q^2 - P^2)) */

#endif
