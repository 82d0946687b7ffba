/* linear.c - see linear.h. */
#include "linear.h"

/* Chunks of about 112 x 128 outputs, or narrower where k is short: the rows' block of k and the
 * partial sums stay in a 1 MiB second-level cache, every weight that is read is used for 112 rows,
 * and there are enough chunks that a thread which loses its CPU for a while holds up little. */
#define ROWS       112
#define ROUND_ROWS 16
/* Where many threads would wait for few chunks, these become smaller, down to two register tiles of
 * rows and the widest panel, though each then reads more for what it computes. */
#define LEAST_ROWS    28
#define LEAST_COLUMNS 32
/* Chunks of a thread that are so few that one more or less counts. */
#define FEW 8

static size_t column_step(size_t k)
{
    return k <= 256 ? 96 : 128;
}

size_t tacit_even_chunk(size_t m, size_t target)
{
    size_t chunks = (m + target - 1) / target;
    return chunks ? (m + chunks - 1) / chunks : 1;
}

size_t tacit_chunk_for(const tacit_pool *pool, size_t m, size_t target, size_t least, size_t others)
{
    size_t threads = tacit_pool_threads(pool);
    while (threads > 1 && target > least && (m + target - 1) / target * others < 2 * threads)
        target = target / 2 > least ? target / 2 : least;
    size_t chunks = (m + target - 1) / target, most = m / (least ? least : 1);
    /* a few chunks more, where some threads would else have one more than others of only a few */
    for (size_t more = chunks; more < chunks + threads && more <= most; more++)
        if (chunks * others < FEW * threads && more * others % threads == 0)
            return (m + more - 1) / more;
    return tacit_even_chunk(m, target);
}

typedef struct job {
    const tacit_linear *layer;
    const tacit_kernels *kernels;
    size_t from, m, ldx, ldy, row_step, row_chunks, column_step;
    const float *x;
    const tacit_rounded *rounded; /* of x, for a layer that is not in fp32 */
    float *y;
    tacit_epilogue epilogue;
} job;

size_t tacit_linear_panel(tacit_precision precision, const tacit_kernels *kernels)
{
    switch (precision) {
    case TACIT_PRECISION_INT8: return TACIT_INT8_NR;
    case TACIT_PRECISION_BF16: return TACIT_BF16_NR;
    default: return kernels->gemm_nr;
    }
}

bool tacit_linear_place(tacit_linear *layer, tacit_precision precision, size_t out, size_t in,
                        const tacit_kernels *kernels, size_t *total, tacit_arena *arena)
{
    size_t panel = tacit_linear_panel(precision, kernels), bytes;
    size_t factors = precision == TACIT_PRECISION_INT8 ? (out + panel - 1) / panel * panel : 0;
    switch (precision) {
    case TACIT_PRECISION_INT8: bytes = tacit_gemm_s8_size(out, in); break;
    case TACIT_PRECISION_BF16: bytes = tacit_gemm_bf16_size(out, in) * sizeof(uint16_t); break;
    default: bytes = tacit_gemm_packed_size(kernels, out, in) * sizeof(float);
    }
    if (!arena)
        return tacit_arena_plan(total, bytes, 1) &&
               tacit_arena_plan(total, factors, sizeof(float)) &&
               tacit_arena_plan(total, factors, sizeof(int32_t));
    layer->in = in;
    layer->out = out;
    layer->precision = precision;
    layer->packed = tacit_arena_take(arena, bytes, 1);
    layer->scale8 = tacit_arena_take(arena, factors, sizeof(float));
    layer->minus8 = tacit_arena_take(arena, factors, sizeof(int32_t));
    return true;
}

void tacit_linear_pack(const tacit_linear *layer, const tacit_kernels *kernels, size_t first,
                       size_t rows, const float *w)
{
    size_t in = layer->in;
    switch (layer->precision) {
    case TACIT_PRECISION_INT8:
        tacit_gemm_pack_s8(kernels, rows, in, w, in,
                           layer->packed8 + first * 4 * TACIT_INT8_GROUPS(in),
                           layer->scale8 + first, layer->minus8 + first);
        break;
    case TACIT_PRECISION_BF16:
        tacit_gemm_pack_bf16(kernels, rows, in, w, in,
                             layer->packed16 + first * 2 * TACIT_BF16_PAIRS(in));
        break;
    default: kernels->gemm_pack_f32(rows, in, w, in, layer->packed + first * in);
    }
}

static const void *rounded_row(const job *j, size_t row)
{
    return (const char *)j->rounded->rows + row * j->rounded->ld;
}

static void run_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_linear *layer = j->layer;
    const tacit_kernels *k = j->kernels;
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
    if (e.residual8) {
        e.residual8 += row * e.ldr + column;
        e.residual_scale += row;
    }
    switch (layer->precision) {
    case TACIT_PRECISION_INT8:
        k->gemm_u8s8(rows, columns, layer->in, rounded_row(j, row), j->rounded->ld,
                     j->rounded->scale + row, j->rounded->zero,
                     layer->packed8 + column * 4 * TACIT_INT8_GROUPS(layer->in),
                     layer->scale8 + column, layer->minus8 + column, y, j->ldy, &e);
        break;
    case TACIT_PRECISION_BF16:
        k->gemm_bf16(rows, columns, layer->in, rounded_row(j, row), j->rounded->ld / 2,
                     layer->packed16 + column * 2 * TACIT_BF16_PAIRS(layer->in), y, j->ldy, &e);
        break;
    default:
        k->gemm_f32(rows, columns, layer->in, j->x + row * j->ldx, j->ldx,
                    layer->packed + column * layer->in, y, j->ldy, &e);
    }
}

size_t tacit_rounded_ld(tacit_precision precision, size_t n)
{
    size_t lines = ((precision == TACIT_PRECISION_INT8 ? n : 2 * n) + 63) / 64;
    return precision == TACIT_PRECISION_FP32 ? 0 : 64 * (lines + (lines % 16 == 0));
}

void tacit_round_rows(tacit_precision precision, const tacit_kernels *kernels, size_t first,
                      size_t rows, size_t n, const float *x, size_t ldx,
                      const tacit_rounded *rounded)
{
    char *to = (char *)rounded->rows + first * rounded->ld;
    if (precision == TACIT_PRECISION_INT8) {
        kernels->quantise_u8(rows, n, x, ldx, rounded->zero, (uint8_t *)to, rounded->ld,
                             rounded->scale + first);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        uint16_t *y = (uint16_t *)(void *)(to + r * rounded->ld);
        kernels->f32_to_bf16(n, x + r * ldx, y);
        if (n % 2)
            y[n] = 0;
    }
}

typedef struct round_job {
    tacit_precision precision;
    const tacit_kernels *kernels;
    size_t rows, n, ldx;
    const float *x;
    const tacit_rounded *rounded;
} round_job;

static void round_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const round_job *j = ctx;
    size_t row = chunk * ROUND_ROWS;
    tacit_round_rows(j->precision, j->kernels, row,
                     j->rows - row < ROUND_ROWS ? j->rows - row : ROUND_ROWS, j->n,
                     j->x + row * j->ldx, j->ldx, j->rounded);
}

void tacit_round_map(tacit_precision precision, const tacit_kernels *kernels, size_t rows, size_t n,
                     const float *x, size_t ldx, const tacit_rounded *rounded, tacit_pool *pool)
{
    round_job j = { precision, kernels, rows, n, ldx, x, rounded };
    tacit_parallel_for(pool, (rows + ROUND_ROWS - 1) / ROUND_ROWS, round_chunk, &j);
}

void tacit_linear_forward(const tacit_linear *layer, const tacit_kernels *kernels, size_t from,
                          size_t m, const float *x, size_t ldx, const tacit_rounded *rounded,
                          float *y, size_t ldy, const tacit_epilogue *epilogue, tacit_pool *pool)
{
    job j = { .layer = layer,
              .kernels = kernels,
              .from = from,
              .m = m,
              .ldx = ldx,
              .ldy = ldy,
              .x = x,
              .rounded = rounded,
              .y = y };
    if (epilogue)
        j.epilogue = *epilogue;
    if (!j.epilogue.bias)
        j.epilogue.bias = layer->bias;
    size_t columns = layer->out - from, row_chunks = (m + ROWS - 1) / ROWS;
    size_t panels = (columns + LEAST_COLUMNS - 1) / LEAST_COLUMNS;
    j.column_step =
        LEAST_COLUMNS *
        tacit_chunk_for(pool, panels, column_step(layer->in) / LEAST_COLUMNS, 1, row_chunks);
    j.row_step =
        tacit_chunk_for(pool, m, ROWS, LEAST_ROWS, (columns + j.column_step - 1) / j.column_step);
    j.row_chunks = (m + j.row_step - 1) / j.row_step;
    if (layer->precision != TACIT_PRECISION_FP32 && x)
        tacit_round_map(layer->precision, kernels, m, layer->in, x, ldx, rounded, pool);
    tacit_parallel_for(pool, j.row_chunks * ((columns + j.column_step - 1) / j.column_step),
                       run_chunk, &j);
}
