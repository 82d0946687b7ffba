/* logistic.c - see logistic.h.
 *
 * A pass takes the vectors in blocks that fit the last-level cache, so that memory is read once:
 * logits of the block (gemm_f32), their cross entropy and its gradient (cross_entropy_f32), and the
 * block's share of the weights' gradient (gemm_tn_f32), each cut into chunks by its own shape. Sums
 * over blocks continue in the same chains, so the block's size does not show.
 */
#include "logistic.h"

#include "lbfgs.h"
#include "linear.h"
#include "mem.h"
#include "spd.h"

#include <math.h>
#include <sleef.h>
#include <string.h>

#define BLOCK_BYTES    ((size_t)8 << 20) /* vectors and logits of a block */
#define SAMPLE_ROWS    8192              /* for the covariance */
#define SAMPLE_BYTES   ((size_t)48 << 20)
#define MEMORY         ((size_t)150 << 20) /* what the pairs of L-BFGS may bring it to */
#define MOST_DIM       3072                /* above, only the diagonal of the covariance is used */
#define MOST_PAIRS     10
#define LEAST_PAIRS    3
#define RIDGE          3e-6 /* of the covariance's norm: condition for float32 */
#define FEW_ROWS       4096 /* for a guess of a step */
#define FEW_BYTES      ((size_t)48 << 20)
#define MOST_DOUBLINGS 10
#define SECANTS        5
#define ENTROPY_ROWS   64 /* of a chunk */
#define GRADIENT_ROWS  112

struct tacit_logistic {
    const tacit_vectors *vectors;
    const tacit_labels *labels;
    const tacit_kernels *kernels;
    tacit_pool *pool;
    size_t dim, classes, variables; /* variables: classes * (dim + 1), the biases last */
    float *theta, *mean;
    float *covariance; /* (dim, dim), or (dim) */
    bool diagonal;
    float *inverse; /* of the Hessian at 0, packed, or (dim) */
    float *packed, *bias, *zeros;
    /* of a pass */
    size_t block, from, rows; /* most rows of a block; this one's */
    const float *x;
    float *converted, *logits, *losses, *ones, *gradient;
    double *sums; /* a chunk of ENTROPY_ROWS each */
    const bool *left_out;
    size_t taking_part;
    double lambda; /* 1 / (C N) */
    /* for a guess */
    size_t most_few, few; /* rows */
    float *few_x, *few_logits[3], *few_losses;
    uint32_t *few_labels;
    double *few_sums;
};

static void entropy_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const tacit_logistic *p = ctx;
    size_t from = chunk * ENTROPY_ROWS, left = p->rows - from, n = p->classes;
    size_t rows = left < ENTROPY_ROWS ? left : ENTROPY_ROWS;
    float *logits = p->logits + from * n;
    p->kernels->cross_entropy_f32(rows, n, logits, n, p->labels->of + p->from + from, logits, n,
                                  p->losses + from);
    p->sums[chunk] = 0;
    for (size_t r = from; r < from + rows; r++)
        if (p->left_out && p->left_out[p->from + r])
            memset(p->logits + r * n, 0, n * sizeof *p->logits);
        else
            p->sums[chunk] += (double)p->losses[r];
}

/* Few classes make few tiles: their columns are cut finer. */
static size_t gradient_columns(const tacit_logistic *p)
{
    return p->classes > GRADIENT_ROWS / 2 ? 128 : 32;
}

/* A tile of the weights' gradient, or (the last chunk) the biases'. */
static void gradient_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const tacit_logistic *p = ctx;
    size_t step = gradient_columns(p),
           row_chunks = (p->classes + GRADIENT_ROWS - 1) / GRADIENT_ROWS;
    size_t i = chunk % row_chunks * GRADIENT_ROWS, j = chunk / row_chunks * step;
    size_t rows = p->classes - i < GRADIENT_ROWS ? p->classes - i : GRADIENT_ROWS;
    bool more = p->from > 0;
    if (j >= p->dim) {
        p->kernels->gemm_tn_f32(rows, 1, p->rows, p->logits + i, p->classes, p->ones, 1,
                                p->gradient + p->classes * p->dim + i, 1, more, NULL);
        return;
    }
    size_t columns = p->dim - j < step ? p->dim - j : step;
    p->kernels->gemm_tn_f32(rows, columns, p->rows, p->logits + i, p->classes, p->x + j, p->dim,
                            p->gradient + i * p->dim + j, p->dim, more, NULL);
}

/* Packs the weights of theta, with biases for vectors that are not centred. */
static void forward_of(tacit_logistic *p, const float *theta)
{
    size_t dim = p->dim;
    for (size_t c = 0; c < p->classes; c++)
        p->bias[c] = (float)((double)theta[p->classes * dim + c] -
                             p->kernels->dot_f64(dim, theta + c * dim, p->mean));
    p->kernels->gemm_pack_f32(p->classes, dim, theta, dim, p->packed);
}

/* The sums of a pass over all rows: returns that of the losses, the gradients' go to p->gradient.
 */
static double pass(tacit_logistic *p, const float *theta)
{
    size_t dim = p->dim, classes = p->classes, step = gradient_columns(p);
    forward_of(p, theta);
    const tacit_linear layer = { .in = dim, .out = classes, .packed = p->packed, .bias = p->bias };
    double loss = 0;
    for (p->from = 0; p->from < p->vectors->rows; p->from += p->block) {
        size_t left = p->vectors->rows - p->from;
        p->rows = left < p->block ? left : p->block;
        p->x = tacit_vectors_rows(p->vectors, p->from, p->rows, p->kernels, p->converted);
        tacit_linear_forward(&layer, p->kernels, 0, p->rows, p->x, dim, NULL, p->logits, classes,
                             NULL, p->pool);
        size_t chunks = (p->rows + ENTROPY_ROWS - 1) / ENTROPY_ROWS;
        tacit_parallel_for(p->pool, chunks, entropy_chunk, p);
        for (size_t c = 0; c < chunks; c++)
            loss += p->sums[c];
        chunks = (classes + GRADIENT_ROWS - 1) / GRADIENT_ROWS * ((dim + step - 1) / step + 1);
        tacit_parallel_for(p->pool, chunks, gradient_chunk, p);
    }
    return loss;
}

/* At 0 all classes are as likely, and the gradient is one of class sums, without a product. Columns
 * [at, at + SUM_COLUMNS): minus the sums of the classes, plus their mean. */
#define SUM_COLUMNS 32

static void sum_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const tacit_logistic *p = ctx;
    size_t dim = p->dim, at = chunk * SUM_COLUMNS;
    size_t columns = dim - at < SUM_COLUMNS ? dim - at : SUM_COLUMNS;
    const float *x = (const float *)p->vectors->elements + at;
    for (size_t row = 0; row < p->vectors->rows; row++, x += dim) {
        float *own = p->gradient + p->labels->of[row] * dim + at;
        for (size_t i = 0; i < columns && !(p->left_out && p->left_out[row]); i++)
            own[i] -= x[i];
    }
    for (size_t i = 0; i < columns; i++) {
        double total = 0;
        for (size_t c = 0; c < p->classes; c++)
            total -= (double)p->gradient[c * dim + at + i];
        for (size_t c = 0; c < p->classes; c++)
            p->gradient[c * dim + at + i] += (float)(total / (double)p->classes);
    }
}

/* The sums of a pass over all rows at 0. */
static double pass_at_zero(tacit_logistic *p)
{
    float *of_shift = p->gradient + p->classes * p->dim;
    memset(p->gradient, 0, p->variables * sizeof *p->gradient);
    tacit_parallel_for(p->pool, (p->dim + SUM_COLUMNS - 1) / SUM_COLUMNS, sum_chunk, p);
    for (size_t row = 0; row < p->vectors->rows; row++)
        of_shift[p->labels->of[row]] -= !p->left_out || !p->left_out[row];
    for (size_t c = 0; c < p->classes; c++)
        of_shift[c] += (float)((double)p->taking_part / (double)p->classes);
    return (double)p->taking_part * Sleef_cinz_logd1_u10purec((double)p->classes);
}

static bool is_zero(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] != 0)
            return false;
    return true;
}

static double evaluate(void *ctx, const float *theta, float *gradient)
{
    tacit_logistic *p = ctx;
    size_t dim = p->dim, classes = p->classes;
    bool quick = p->vectors->npy.dtype == TACIT_F32 && is_zero(theta, p->variables);
    p->gradient = gradient;
    double loss = quick ? pass_at_zero(p) : pass(p, theta);
    /* The gradient of W is that of centred vectors: less the biases' times m. */
    float share = (float)(1 / (double)p->taking_part), lambda = (float)p->lambda;
    float *of_shift = gradient + classes * dim;
    for (size_t c = 0; c < classes; c++) {
        of_shift[c] *= share;
        for (size_t i = 0; i < dim; i++)
            gradient[c * dim + i] = gradient[c * dim + i] * share +
                                    (lambda * theta[c * dim + i] - of_shift[c] * p->mean[i]);
    }
    double squares = p->kernels->dot_f64(classes * dim, theta, theta);
    return loss / (double)p->taking_part + p->lambda * squares / 2;
}

/* A step to try: ---------------------------------------------------------------------------- */

/* Logits of the evenly spaced rows, at theta. */
static void forward_few(tacit_logistic *p, const float *theta, float *logits)
{
    forward_of(p, theta);
    const tacit_linear layer = {
        .in = p->dim, .out = p->classes, .packed = p->packed, .bias = p->bias
    };
    tacit_linear_forward(&layer, p->kernels, 0, p->few, p->few_x, p->dim, NULL, logits, p->classes,
                         NULL, p->pool);
}

typedef struct few_job {
    tacit_logistic *problem;
    float step;
} few_job;

/* Slope of the loss along the step, for ENTROPY_ROWS of the rows. */
static void few_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const few_job *j = ctx;
    const tacit_logistic *p = j->problem;
    size_t from = chunk * ENTROPY_ROWS, n = p->classes;
    size_t rows = p->few - from < ENTROPY_ROWS ? p->few - from : ENTROPY_ROWS;
    float *work = p->few_logits[2] + from * n;
    const float *at = p->few_logits[0] + from * n, *along = p->few_logits[1] + from * n;
    for (size_t i = 0; i < rows * n; i++)
        work[i] = at[i] + j->step * along[i];
    p->kernels->cross_entropy_f32(rows, n, work, n, p->few_labels + from, work, n,
                                  p->few_losses + from);
    p->few_sums[chunk] = p->kernels->dot_f64(rows * n, work, along);
}

static double few_slope(tacit_logistic *p, double step, double inner, double squares)
{
    few_job job = { p, (float)step };
    size_t chunks = (p->few + ENTROPY_ROWS - 1) / ENTROPY_ROWS;
    tacit_parallel_for(p->pool, chunks, few_chunk, &job);
    double sum = 0;
    for (size_t c = 0; c < chunks; c++)
        sum += p->few_sums[c];
    return sum / (double)p->few + p->lambda * (inner + step * squares);
}

/* The minimum along the direction of the objective of a few rows: by a bracket, then regula falsi
 * on the slope in the Illinois form (Dowell and Jarratt 1971). A pass over all rows to find that a
 * step was ten times too long costs as much as a hundred of these. */
static double guess(void *ctx, const float *theta, const float *direction, double slope)
{
    tacit_logistic *p = ctx;
    size_t weights = p->classes * p->dim;
    double inner = p->kernels->dot_f64(weights, theta, direction);
    double squares = p->kernels->dot_f64(weights, direction, direction);
    forward_few(p, theta, p->few_logits[0]);
    forward_few(p, direction, p->few_logits[1]);
    double low = 0, low_slope = slope, high = 1, high_slope;
    for (unsigned i = 0; (high_slope = few_slope(p, high, inner, squares)) < 0; i++) {
        if (i == MOST_DOUBLINGS)
            return high;
        low = high;
        low_slope = high_slope;
        high *= 2;
    }
    for (unsigned i = 0; i < SECANTS; i++) {
        double at = high - high_slope * (high - low) / (high_slope - low_slope);
        double s = few_slope(p, at, inner, squares);
        if (s < 0) {
            low = at;
            low_slope = s;
            high_slope /= 2;
        } else {
            high = at;
            high_slope = s;
            low_slope /= 2;
        }
    }
    return high_slope - low_slope > 0 ? high - high_slope * (high - low) / (high_slope - low_slope)
                                      : high;
}

static void precondition(void *ctx, const float *x, float *y)
{
    const tacit_logistic *p = ctx;
    size_t dim = p->dim, weights = p->classes * dim;
    if (p->diagonal) {
        for (size_t i = 0; i < weights; i++)
            y[i] = x[i] * p->inverse[i % dim];
    } else {
        const tacit_linear layer = {
            .in = dim, .out = dim, .packed = p->inverse, .bias = p->zeros
        };
        tacit_linear_forward(&layer, p->kernels, 0, p->classes, x, dim, NULL, y, dim, NULL,
                             p->pool);
    }
    for (size_t c = 0; c < p->classes; c++)
        y[weights + c] = x[weights + c] * (float)p->classes;
}

/* The sample: ------------------------------------------------------------------------------- */

typedef struct sample {
    tacit_logistic *problem;
    float *x;
    size_t rows;
} sample;

static void covariance_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const sample *s = ctx;
    const tacit_logistic *p = s->problem;
    size_t chunks = (p->dim + GRADIENT_ROWS - 1) / GRADIENT_ROWS, columns = 128;
    size_t i = chunk % chunks * GRADIENT_ROWS, j = chunk / chunks * columns;
    size_t rows = p->dim - i < GRADIENT_ROWS ? p->dim - i : GRADIENT_ROWS;
    columns = p->dim - j < columns ? p->dim - j : columns;
    p->kernels->gemm_tn_f32(rows, columns, s->rows, s->x + i, p->dim, s->x + j, p->dim,
                            p->covariance + i * p->dim + j, p->dim, false, NULL);
}

/* mean and covariance of evenly spaced rows. */
static tacit_status take_sample(tacit_logistic *p, tacit_err *err)
{
    size_t dim = p->dim, all = p->vectors->rows, most = SAMPLE_BYTES / sizeof(float) / dim;
    most = most < 64 ? 64 : most < SAMPLE_ROWS ? most : SAMPLE_ROWS;
    sample s = { .problem = p, .rows = all < most ? all : most };
    s.x = tacit_alloc(s.rows * dim * sizeof *s.x);
    double *sums = tacit_calloc(dim, sizeof *sums);
    tacit_status st = TACIT_OK;
    if (!s.x || !sums) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for a sample of %zu rows", s.rows);
        goto out;
    }
    for (size_t r = 0; r < s.rows; r++) {
        size_t row = (size_t)((double)r * (double)all / (double)s.rows);
        float *to = s.x + r * dim;
        const float *from = tacit_vectors_rows(p->vectors, row, 1, p->kernels, to);
        if (from != to)
            memcpy(to, from, dim * sizeof *to);
        for (size_t i = 0; i < dim; i++)
            sums[i] += (double)to[i];
    }
    for (size_t i = 0; i < dim; i++)
        p->mean[i] = (float)(sums[i] / (double)s.rows);
    for (size_t r = 0; r < s.rows; r++)
        for (size_t i = 0; i < dim; i++)
            s.x[r * dim + i] -= p->mean[i];
    if (p->diagonal) {
        for (size_t r = 0; r < s.rows; r++)
            for (size_t i = 0; i < dim; i++)
                p->covariance[i] += s.x[r * dim + i] * s.x[r * dim + i];
    } else {
        size_t tiles = (dim + GRADIENT_ROWS - 1) / GRADIENT_ROWS * ((dim + 127) / 128);
        tacit_parallel_for(p->pool, tiles, covariance_chunk, &s);
    }
    for (size_t i = 0; i < (p->diagonal ? dim : dim * dim); i++)
        p->covariance[i] /= (float)s.rows;
out:
    tacit_free(s.x);
    tacit_free(sums);
    return st;
}

/* inverse = (covariance / classes + lambda + ridge)^-1. The ridge makes it fit float32; where it
 * was not enough, a larger one will do: this only decides how soon a solve ends. */
static tacit_status prepare(tacit_logistic *p, tacit_err *err)
{
    size_t dim = p->dim, count = p->diagonal ? dim : dim * dim;
    double norm = sqrt(p->kernels->dot_f64(count, p->covariance, p->covariance));
    float *a = p->diagonal ? p->inverse : tacit_alloc(count * sizeof *a);
    if (!a)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu features", dim);
    tacit_status st = TACIT_EFORMAT;
    for (double share = RIDGE; st == TACIT_EFORMAT && share < 10; share *= 10) {
        float ridge = (float)(p->lambda + (share * norm + 1e-30) / (double)p->classes);
        for (size_t i = 0; i < count; i++)
            a[i] = p->covariance[i] / (float)p->classes;
        for (size_t i = 0; i < dim; i++)
            a[p->diagonal ? i : i * dim + i] += ridge;
        st = p->diagonal ? TACIT_OK : tacit_spd_invert(a, dim, p->kernels, p->pool, err);
    }
    if (st < 0)
        goto out;
    if (p->diagonal)
        for (size_t i = 0; i < dim; i++)
            a[i] = 1 / a[i];
    else
        p->kernels->gemm_pack_f32(dim, dim, a, dim, p->inverse);
out:
    if (!p->diagonal)
        tacit_free(a);
    return st;
}

/* Evenly spaced rows that take part. */
static void take_few(tacit_logistic *p)
{
    size_t all = p->vectors->rows;
    p->few = 0;
    for (size_t i = 0; i < p->most_few; i++) {
        size_t row = (size_t)((double)i * (double)all / (double)p->most_few);
        if (p->left_out && p->left_out[row])
            continue;
        float *to = p->few_x + p->few * p->dim;
        const float *from = tacit_vectors_rows(p->vectors, row, 1, p->kernels, to);
        if (from != to)
            memcpy(to, from, p->dim * sizeof *to);
        p->few_labels[p->few++] = p->labels->of[row];
    }
}

tacit_status tacit_logistic_open(tacit_logistic **out, const tacit_vectors *vectors,
                                 const tacit_labels *labels, const tacit_kernels *kernels,
                                 tacit_pool *pool, tacit_err *err)
{
    *out = NULL;
    if (labels->classes < 2)
        return tacit_fail(err, TACIT_EINVAL, "%s: has one class, '%s'; a probe needs two",
                          vectors->path, labels->names[0]);
    tacit_logistic *p = *out = tacit_calloc(1, sizeof *p);
    if (!p)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    size_t dim = vectors->dim, classes = labels->classes, square;
    p->vectors = vectors;
    p->labels = labels;
    p->kernels = kernels;
    p->pool = pool;
    p->dim = dim;
    p->classes = classes;
    p->diagonal = dim > MOST_DIM;
    tacit_status st = TACIT_OK;
    if (!tacit_mul_size(classes, dim + 1, &p->variables) || p->variables > SIZE_MAX / 256 ||
        dim > SIZE_MAX / 4096) {
        st = tacit_fail(err, TACIT_ELIMIT, "%zu classes of %zu values are too many", classes, dim);
        goto fail;
    }
    square = p->diagonal ? dim : dim * dim;
    p->block = BLOCK_BYTES / sizeof(float) / (dim + classes) / TACIT_KC * TACIT_KC;
    p->block = p->block ? p->block : TACIT_KC;
    size_t block = p->block < vectors->rows ? p->block : vectors->rows;
    p->most_few = FEW_BYTES / sizeof(float) / (dim + 3 * classes);
    p->most_few = p->most_few < 64 ? 64 : p->most_few < FEW_ROWS ? p->most_few : FEW_ROWS;
    p->most_few = p->most_few < vectors->rows ? p->most_few : vectors->rows;
    p->few_x = tacit_alloc(p->most_few * dim * sizeof(float));
    for (size_t i = 0; i < 3; i++)
        p->few_logits[i] = tacit_alloc(p->most_few * classes * sizeof(float));
    p->few_losses = tacit_alloc(p->most_few * sizeof(float));
    p->few_labels = tacit_alloc(p->most_few * sizeof *p->few_labels);
    p->few_sums = tacit_alloc((p->most_few / ENTROPY_ROWS + 1) * sizeof *p->few_sums);
    p->theta = tacit_calloc(p->variables, sizeof(float));
    p->mean = tacit_calloc(dim, sizeof(float));
    p->covariance = tacit_calloc(square, sizeof(float));
    p->inverse =
        tacit_calloc(p->diagonal ? dim : tacit_gemm_packed_size(kernels, dim, dim), sizeof(float));
    p->packed = tacit_calloc(tacit_gemm_packed_size(kernels, classes, dim), sizeof(float));
    p->bias = tacit_calloc(classes, sizeof(float));
    p->zeros = tacit_calloc(dim, sizeof(float));
    p->converted = tacit_alloc(vectors->npy.dtype == TACIT_F32 ? 0 : block * dim * sizeof(float));
    p->logits = tacit_alloc(block * classes * sizeof(float));
    p->losses = tacit_alloc(block * sizeof(float));
    p->ones = tacit_alloc(block * sizeof(float));
    p->sums = tacit_calloc((block + ENTROPY_ROWS - 1) / ENTROPY_ROWS, sizeof *p->sums);
    if (!p->theta || !p->mean || !p->covariance || !p->inverse || !p->packed || !p->bias ||
        !p->zeros || !p->converted || !p->logits || !p->losses || !p->ones || !p->sums ||
        !p->few_x || !p->few_logits[0] || !p->few_logits[1] || !p->few_logits[2] ||
        !p->few_losses || !p->few_labels || !p->few_sums) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu classes of %zu values", classes,
                        dim);
        goto fail;
    }
    for (size_t i = 0; i < block; i++)
        p->ones[i] = 1;
    if ((st = take_sample(p, err)) == TACIT_OK)
        return TACIT_OK;
fail:
    tacit_logistic_close(out);
    return st;
}

void tacit_logistic_close(tacit_logistic **out)
{
    tacit_logistic *p = *out;
    *out = NULL;
    if (!p)
        return;
    tacit_free(p->theta);
    tacit_free(p->mean);
    tacit_free(p->covariance);
    tacit_free(p->inverse);
    tacit_free(p->packed);
    tacit_free(p->bias);
    tacit_free(p->zeros);
    tacit_free(p->converted);
    tacit_free(p->logits);
    tacit_free(p->losses);
    tacit_free(p->ones);
    tacit_free(p->sums);
    tacit_free(p->few_x);
    for (size_t i = 0; i < 3; i++)
        tacit_free(p->few_logits[i]);
    tacit_free(p->few_losses);
    tacit_free(p->few_labels);
    tacit_free(p->few_sums);
    tacit_free(p);
}

/* As many as memory allows. */
static unsigned pairs_of(const tacit_logistic *p)
{
    size_t square = p->diagonal ? 0 : 2 * p->dim * p->dim * sizeof(float);
    unsigned pairs = MOST_PAIRS;
    while (pairs > LEAST_PAIRS &&
           tacit_lbfgs_floats(p->variables, pairs) * sizeof(float) + square > MEMORY)
        pairs--;
    return pairs;
}

tacit_status tacit_logistic_solve(tacit_logistic *p, double c, const bool *left_out,
                                  unsigned max_steps, double tolerance, tacit_logistic_fit *fit,
                                  tacit_err *err)
{
    p->left_out = left_out;
    p->taking_part = 0;
    for (size_t row = 0; row < p->vectors->rows; row++)
        p->taking_part += !left_out || !left_out[row];
    if (!p->taking_part)
        return tacit_fail(err, TACIT_EINVAL, "%s: no row takes part", p->vectors->path);
    p->lambda = 1 / (c * (double)p->taking_part);
    take_few(p);
    tacit_status st = prepare(p, err);
    if (st < 0)
        return st;
    const tacit_lbfgs problem = {
        .n = p->variables,
        .evaluate = evaluate,
        .precondition = precondition,
        .guess = p->few ? guess : NULL,
        .ctx = p,
        .kernels = p->kernels,
        .pairs = pairs_of(p),
        .max_steps = max_steps,
        .tolerance = tolerance,
    };
    tacit_lbfgs_result result;
    if ((st = tacit_lbfgs_minimize(&problem, p->theta, &result, err)) == TACIT_OK)
        *fit = (tacit_logistic_fit){ result.value, result.steps, result.evaluations,
                                     result.converged };
    return st;
}

void tacit_logistic_restart(tacit_logistic *p)
{
    memset(p->theta, 0, p->variables * sizeof *p->theta);
}

void tacit_logistic_result(const tacit_logistic *p, float *weight, float *bias)
{
    const float *shift = p->theta + p->classes * p->dim;
    memcpy(weight, p->theta, p->classes * p->dim * sizeof *weight);
    for (size_t c = 0; c < p->classes; c++)
        bias[c] =
            (float)((double)shift[c] - p->kernels->dot_f64(p->dim, weight + c * p->dim, p->mean));
}
