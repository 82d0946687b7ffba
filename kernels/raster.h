/* raster.h - places in raster order, image by image, gone through one by one. */
#ifndef TACIT_RASTER_H
#define TACIT_RASTER_H

#include <stddef.h>

typedef struct tacit_raster {
    size_t image, row, column, rows, columns;
} tacit_raster;

/* Place `index` of images of (rows, columns). */
static inline tacit_raster tacit_raster_at(size_t index, size_t rows, size_t columns)
{
    return (tacit_raster){ .image = index / (rows * columns),
                           .row = index / columns % rows,
                           .column = index % columns,
                           .rows = rows,
                           .columns = columns };
}

static inline void tacit_raster_next(tacit_raster *r)
{
    if (++r->column < r->columns)
        return;
    r->column = 0;
    if (++r->row < r->rows)
        return;
    r->row = 0;
    r->image++;
}

#endif
