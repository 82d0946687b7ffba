/* loss_dvae.c - see loss_dvae.h. */
#include "loss_dvae.h"

#include <math.h>

#define ROWS 16 /* of a chunk, whose sum is a double */

void tacit_dvae_loss_declare(size_t max_batch, size_t max_rows, size_t codes, tacit_work *work)
{
    tacit_work_need(&work->partial_floats, 2 * max_batch);
    tacit_work_need(&work->partial_floats, 2 * ((max_rows + ROWS - 1) / ROWS));
    tacit_work_need(&work->worker_floats, codes);
}

typedef struct job {
    const tacit_work *work;
    size_t rows, n;
    float *x, factor;
    const float *t;
} job;

static double *slots(const job *j)
{
    return (double *)(void *)j->work->partial;
}

static double run(job *j, size_t chunks, tacit_chunk_fn *chunk)
{
    double sum = 0;
    tacit_parallel_for(j->work->pool, chunks, chunk, j);
    for (size_t i = 0; i < chunks; i++)
        sum += slots(j)[i];
    return sum;
}

static void square_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    float *x = j->x + image * j->n;
    slots(j)[image] =
        j->work->kernels->squared_error_f32(j->n, x, j->t + image * j->n, 2 * j->factor, x);
}

double tacit_square_loss(const tacit_work *work, size_t batch, size_t n, float *x, const float *t,
                         double factor)
{
    job j = { work, batch, n, x, (float)factor, t };
    return factor * run(&j, batch, square_chunk);
}

/* Of the largest logit as the label, cross_entropy_f32 gives log(sum(exp(x - max))). */
static double kl_row(const job *j, float *x, float *q)
{
    size_t n = j->n;
    uint32_t most = 0;
    float log_sum;
    double entropy = 0; /* sum of q log q */
    for (size_t k = 1; k < n; k++)
        most = x[k] > x[most] ? (uint32_t)k : most;
    float max = x[most];
    j->work->kernels->cross_entropy_f32(1, n, x, n, &most, q, n, &log_sum);
    q[most] += 1;
    for (size_t k = 0; k < n; k++) {
        x[k] = x[k] - max - log_sum;
        entropy += (double)q[k] * (double)x[k];
    }
    for (size_t k = 0; k < n; k++)
        x[k] = j->factor * q[k] * (x[k] - (float)entropy);
    return entropy + log((double)n);
}

static void kl_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const job *j = ctx;
    size_t first = chunk * ROWS, end = first + ROWS < j->rows ? first + ROWS : j->rows;
    float *q = j->work->worker + worker * j->work->worker_floats;
    double sum = 0;
    for (size_t row = first; row < end; row++)
        sum += kl_row(j, j->x + row * j->n, q);
    slots(j)[chunk] = sum;
}

double tacit_uniform_kl_loss(const tacit_work *work, size_t rows, size_t codes, float *logits,
                             double weight, double factor)
{
    job j = { work, rows, codes, logits, (float)(weight * factor), NULL };
    return factor * run(&j, (rows + ROWS - 1) / ROWS, kl_chunk);
}
