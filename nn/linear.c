/* linear.c - see linear.h. */
#include "linear.h"

/* Chunks of about 112 x 128 outputs, or narrower where k is short: the rows' block of k and the
 * partial sums stay in a 1 MiB second-level cache, every weight that is read is used for 112 rows,
 * and there are enough chunks that a thread which loses its CPU for a while holds up little. */
#define ROWS          112
#define QUANTISE_ROWS 16

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
    size_t from, m, ldx, ldy, row_step, row_chunks, column_step;
    const float *x;
    const tacit_bytes *bytes; /* of x, for a layer in 8 bits */
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
    size_t column = j->from + chunk / j->row_chunks * j->column_step;
    size_t rows = j->m - row < j->row_step ? j->m - row : j->row_step;
    size_t columns = layer->out - column < j->column_step ? layer->out - column : j->column_step;
    float *y = j->y + row * j->ldy + column;
    tacit_epilogue e = j->epilogue;
    e.bias += column;
    if (e.scale)
        e.scale += column;
    if (e.residual)
        e.residual += row * e.ldr + column;
    if (j->bytes)
        j->kernels->gemm_u8s8(rows, columns, layer->in, j->bytes->q + row * j->bytes->ld,
                              j->bytes->ld, j->bytes->scale + row,
                              layer->packed8 + column * 4 * TACIT_INT8_GROUPS(layer->in),
                              layer->scale8 + column, layer->minus8 + column, y, j->ldy, &e);
    else
        j->kernels->gemm_f32(rows, columns, layer->in, j->x + row * j->ldx, j->ldx,
                             layer->packed + column * layer->in, y, j->ldy, &e);
}

static void run(job *j, const tacit_epilogue *epilogue, tacit_pool *pool)
{
    if (epilogue)
        j->epilogue = *epilogue;
    if (!j->epilogue.bias)
        j->epilogue.bias = j->layer->bias;
    j->row_step = tacit_even_chunk(j->m, ROWS);
    j->row_chunks = (j->m + j->row_step - 1) / j->row_step;
    j->column_step = column_step(j->layer->in);
    size_t columns = j->layer->out - j->from;
    tacit_parallel_for(pool, j->row_chunks * ((columns + j->column_step - 1) / j->column_step),
                       run_chunk, j);
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
              .y = y };
    run(&j, epilogue, pool);
}

static void quantise_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    size_t row = chunk * QUANTISE_ROWS;
    size_t rows = j->m - row < QUANTISE_ROWS ? j->m - row : QUANTISE_ROWS;
    j->kernels->quantise_u8(rows, j->layer->in, j->x + row * j->ldx, j->ldx,
                            j->bytes->q + row * j->bytes->ld, j->bytes->ld, j->bytes->scale + row);
}

void tacit_linear_forward_int8(const tacit_linear *layer, const tacit_kernels *kernels, size_t from,
                               size_t m, const float *x, size_t ldx, const tacit_bytes *bytes,
                               float *y, size_t ldy, const tacit_epilogue *epilogue,
                               tacit_pool *pool)
{
    job j = { .layer = layer,
              .kernels = kernels,
              .from = from,
              .m = m,
              .ldx = ldx,
              .ldy = ldy,
              .x = x,
              .bytes = bytes,
              .y = y };
    tacit_parallel_for(pool, (m + QUANTISE_ROWS - 1) / QUANTISE_ROWS, quantise_chunk, &j);
    run(&j, epilogue, pool);
}
