/* spd.h - the inverse of a symmetric positive definite matrix. */
#ifndef TACIT_SPD_H
#define TACIT_SPD_H

#include "kernels.h"
#include "pool.h"

/* a (n, n) to its inverse, in place, by Gauss-Jordan elimination of blocks without pivoting: for
 * matrices whose condition fits float32, as a ridge makes it. 2 n^3 FLOP. TACIT_EFORMAT where a
 * block cannot be inverted: a is then spoilt. */
tacit_status tacit_spd_invert(float *a, size_t n, const tacit_kernels *kernels, tacit_pool *pool,
                              tacit_err *err);

#endif
