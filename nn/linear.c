/* linear.c - see linear.h. */
#include "linear.h"

/* Chunks of about 112 x 128 outputs, or narrower where k is short: the rows' block of k and the
 * partial sums stay in a 1 MiB second-level cache, every weight that is read is used for 112 rows,
 * and there are enough chunks that a thread which loses its CPU for a while holds up little. */
#define ROWS 112

static size_t column_step(size_t k)
{
    return k <= 256 ? 96 : 128;
}

size_t tacit_even_chunk(size_t m, size_t target)
{
    size_t chunks = (m + target - 1) / target;
    return chunks ? (m + chunks - 1) / chunks : 1;
}

typedef struct job {
    const tacit_linear *layer;
    const tacit_kernels *kernels;
    size_t from, m, ldx, ldy, row_step, row_chunks;
    const float *x;
    float *y;
    tacit_epilogue epilogue;
} job;

static void run_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_linear *layer = j->layer;
    /* Rows vary first: threads that run side by side read the same weights. */
    size_t row = chunk % j->row_chunks * j->row_step;
    size_t step = column_step(layer->in), column = j->from + chunk / j->row_chunks * step;
    size_t rows = j->m - row < j->row_step ? j->m - row : j->row_step;
    size_t columns = layer->out - column < step ? layer->out - column : step;
    tacit_epilogue e = j->epilogue;
    e.bias += column;
    if (e.scale)
        e.scale += column;
    if (e.residual)
        e.residual += row * e.ldr + column;
    j->kernels->gemm_f32(rows, columns, layer->in, j->x + row * j->ldx, j->ldx,
                         layer->packed + column * layer->in, j->y + row * j->ldy + column, j->ldy,
                         &e);
}

void tacit_linear_forward(const tacit_linear *layer, const tacit_kernels *kernels, size_t from,
                          size_t m, const float *x, size_t ldx, float *y, size_t ldy,
                          const tacit_epilogue *epilogue, tacit_pool *pool)
{
    job j = { .layer = layer,
              .kernels = kernels,
              .from = from,
              .m = m,
              .ldx = ldx,
              .ldy = ldy,
              .x = x,
              .y = y,
              .row_step = tacit_even_chunk(m, ROWS) };
    if (epilogue)
        j.epilogue = *epilogue;
    if (!j.epilogue.bias)
        j.epilogue.bias = layer->bias;
    j.row_chunks = (m + j.row_step - 1) / j.row_step;
    size_t step = column_step(layer->in), column_chunks = (layer->out - from + step - 1) / step;
    tacit_parallel_for(pool, j.row_chunks * column_chunks, run_chunk, &j);
}
