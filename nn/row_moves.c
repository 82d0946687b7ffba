/* row_moves.c - see row_moves.h. */
#include "row_moves.h"

#include <string.h>

#define ROWS 64 /* of a chunk */

typedef struct move_job {
    const tacit_kernels *kernels;
    size_t rows, n, ld;
    const uint32_t *index, *members;
    const float *x;
    float *y;
} move_job;

static size_t chunk_end(const move_job *j, size_t chunk)
{
    return (chunk + 1) * ROWS < j->rows ? (chunk + 1) * ROWS : j->rows;
}

static void run(tacit_pool *pool, void (*chunk)(void *, size_t, unsigned), move_job *j)
{
    tacit_parallel_for(pool, (j->rows + ROWS - 1) / ROWS, chunk, j);
}

static void gather_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const move_job *j = ctx;
    for (size_t r = chunk * ROWS; r < chunk_end(j, chunk); r++)
        memcpy(j->y + r * j->ld, j->x + (j->index ? j->index[r] : r) * j->ld, j->n * sizeof(float));
}

void tacit_rows_gather(tacit_pool *pool, size_t rows, size_t n, size_t ld, const uint32_t *index,
                       const float *x, float *y)
{
    move_job j = { .rows = rows, .n = n, .ld = ld, .index = index, .x = x, .y = y };
    run(pool, gather_chunk, &j);
}

static void clear_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const move_job *j = ctx;
    for (size_t r = chunk * ROWS; r < chunk_end(j, chunk); r++)
        memset(j->y + r * j->ld, 0, j->n * sizeof(float));
}

static void scatter_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const move_job *j = ctx;
    for (size_t r = chunk * ROWS; r < chunk_end(j, chunk); r++)
        memcpy(j->y + j->index[r] * j->ld, j->x + r * j->ld, j->n * sizeof(float));
}

void tacit_rows_scatter(tacit_pool *pool, size_t all, size_t rows, size_t n, size_t ld,
                        const uint32_t *index, const float *x, float *y)
{
    move_job j = { .rows = all, .n = n, .ld = ld, .index = index, .x = x, .y = y };
    run(pool, clear_chunk, &j);
    j.rows = rows;
    run(pool, scatter_chunk, &j);
}

void tacit_rows_members(size_t rows, const uint32_t *source, size_t origins, uint32_t *first,
                        uint32_t *members)
{
    memset(first, 0, (origins + 1) * sizeof *first);
    for (size_t r = 0; r < rows; r++)
        first[source[r] + 1]++;
    for (size_t u = 0; u < origins; u++)
        first[u + 1] += first[u];
    for (size_t r = 0; r < rows; r++)
        members[first[source[r]]++] = (uint32_t)r;
    for (size_t u = origins; u > 0; u--) /* each went on to where the next begins */
        first[u] = first[u - 1];
    first[0] = 0;
}

static void unite_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const move_job *j = ctx;
    for (size_t u = chunk * ROWS; u < chunk_end(j, chunk); u++) {
        float *y = j->y + u * j->ld;
        memset(y, 0, j->n * sizeof *y);
        for (size_t m = j->index[u]; m < j->index[u + 1]; m++)
            j->kernels->add_f32(j->n, y, j->x + j->members[m] * j->ld, y);
    }
}

void tacit_rows_unite(const tacit_kernels *kernels, tacit_pool *pool, size_t origins, size_t n,
                      size_t ld, const uint32_t *first, const uint32_t *members, const float *x,
                      float *y)
{
    move_job j = { .kernels = kernels,
                   .rows = origins,
                   .n = n,
                   .ld = ld,
                   .index = first,
                   .members = members,
                   .x = x,
                   .y = y };
    run(pool, unite_chunk, &j);
}
