/* loss_smooth_l1.c - see loss_smooth_l1.h. */
#include "loss_smooth_l1.h"

#include <math.h>

#define ROWS 64 /* of a chunk, whose sum is a double */

void tacit_smooth_l1_declare(size_t max_rows, tacit_work *work)
{
    tacit_work_need(&work->partial_floats, 2 * ((max_rows + ROWS - 1) / ROWS));
}

typedef struct job {
    const tacit_work *work;
    size_t rows, dim, ld;
    float *x;
    const float *t;
    float factor;
} job;

static void rows_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t first = chunk * ROWS, end = first + ROWS < j->rows ? first + ROWS : j->rows;
    double sum = 0;
    for (size_t row = first; row < end; row++)
        for (size_t i = row * j->ld; i < row * j->ld + j->dim; i++) {
            float d = j->x[i] - j->t[i];
            double wide = (double)d;
            sum += d > -1 && d < 1 ? 0.5 * wide * wide : fabs(wide) - 0.5;
            j->x[i] = j->factor * (d > 1 ? 1 : d < -1 ? -1 : d);
        }
    ((double *)(void *)j->work->partial)[chunk] = sum;
}

double tacit_smooth_l1_loss(const tacit_work *work, size_t rows, size_t dim, float *x,
                            const float *t, size_t ld, double factor)
{
    job j = { work, rows, dim, ld, x, t, (float)factor };
    size_t chunks = (rows + ROWS - 1) / ROWS;
    double sum = 0;
    tacit_parallel_for(work->pool, chunks, rows_chunk, &j);
    for (size_t i = 0; i < chunks; i++)
        sum += ((const double *)(const void *)work->partial)[i];
    return factor * sum;
}
