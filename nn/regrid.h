/* regrid.h - a table of positions for another grid than it is stored for, and its gradient.
 *
 * A linear map of the table, one axis after the other, in double. The rules are those of vit.h;
 * learned positions are resampled in every forward of a ViT that trains on images of another size,
 * and a stored table once when a model is opened, to the same bits.
 */
#ifndef TACIT_REGRID_H
#define TACIT_REGRID_H

#include "mem.h"
#include "vit.h"

typedef struct tacit_regrid {
    size_t from[2], to[2],
        dim; /* rows and columns of both grids, set by the caller with the rule */
    tacit_resample rule;
    double *weights[2], *turned[2]; /* of each axis: (to, from), and (from, to) */
    double *line;                   /* (columns, dim) */
} tacit_regrid;

bool tacit_regrid_plan(const tacit_regrid *regrid, size_t *total);
void tacit_regrid_take(tacit_regrid *regrid, tacit_arena *arena);
/* The weights, which the others need: once, or where the memory is shared whenever it has held
 * something else. */
void tacit_regrid_make(tacit_regrid *regrid);

/* table (from[0], from[1], dim), out (to[0], to[1], dim), tight. */
void tacit_regrid_forward(const tacit_regrid *regrid, const float *table, float *out);
/* dtable += the gradient by way of dout. */
void tacit_regrid_backward(const tacit_regrid *regrid, const float *dout, float *dtable);

#endif
