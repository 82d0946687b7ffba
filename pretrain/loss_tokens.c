/* loss_tokens.c - see loss_tokens.h. */
#include "loss_tokens.h"

#define ROWS 16

/* The sums of a chunk: of the losses, and of the rows that are right. */
typedef struct sums {
    double loss, right;
} sums;

static size_t chunks_of(size_t rows)
{
    return (rows + ROWS - 1) / ROWS;
}

void tacit_token_loss_declare(size_t max_rows, tacit_work *work)
{
    tacit_work_need(&work->partial_floats, chunks_of(max_rows) * (sizeof(sums) / sizeof(float)));
}

typedef struct job {
    const tacit_work *work;
    size_t rows, codes, ld;
    const uint32_t *tokens;
    float *logits, scale;
} job;

static size_t largest(size_t n, const float *x)
{
    size_t most = 0;
    for (size_t i = 1; i < n; i++)
        if (x[i] > x[most])
            most = i;
    return most;
}

static void rows_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const tacit_kernels *k = j->work->kernels;
    sums s = { 0, 0 };
    for (size_t i = chunk * ROWS; i < (chunk + 1) * ROWS && i < j->rows; i++) {
        float *row = j->logits + i * j->ld, loss;
        s.right += largest(j->codes, row) == j->tokens[i];
        k->cross_entropy_f32(1, j->codes, row, j->ld, j->tokens + i, row, j->ld, &loss);
        k->scale_add_f32(j->codes, row, j->scale, NULL, row);
        s.loss += (double)loss;
    }
    ((sums *)(void *)j->work->partial)[chunk] = s;
}

double tacit_token_loss(const tacit_work *work, size_t rows, size_t codes, const uint32_t *tokens,
                        double share, float *logits, size_t ld, double *accuracy)
{
    sums all = { 0, 0 };
    if (!rows)
        return 0;
    double each = share / (double)rows;
    job j = { work, rows, codes, ld, tokens, logits, (float)each };
    tacit_parallel_for(work->pool, chunks_of(rows), rows_chunk, &j);
    for (size_t i = 0; i < chunks_of(rows); i++) {
        all.loss += ((const sums *)(const void *)work->partial)[i].loss;
        all.right += ((const sums *)(const void *)work->partial)[i].right;
    }
    if (accuracy)
        *accuracy += each * all.right;
    return each * all.loss;
}
