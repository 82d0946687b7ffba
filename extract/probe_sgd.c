/* probe_sgd.c - the SGD probe: one pass over the batches trains a classifier for each learning
 * rate.
 *
 * The classifiers lie side by side as one layer of count * classes outputs, so that a batch is one
 * product forward and one back, however many there are. Where their weights are too many for
 * memory they are trained in groups, on the same batches; they do not see each other, so the groups
 * do not show in the result.
 */
#include "linear.h"
#include "mem.h"
#include "probe.h"

#include <math.h>
#include <sleef.h>
#include <string.h>

#define WEIGHT_BYTES ((size_t)100 << 20) /* weights, packed weights, gradients and momenta */
#define MOMENTUM     0.9f
#define BN_EPS       1e-6
#define BN_MOMENTUM  0.1
#define BN_COLUMNS   64
#define UPDATE_ROWS  32 /* of the weights; a multiple of every gemm_nr */
#define TILE_ROWS    112
#define TILE_COLUMNS 128

typedef struct trainer {
    const tacit_probe_set *set;
    const tacit_probe_options *options;
    const double *rates;
    size_t count, dim, classes, outputs; /* outputs: count * classes */
    /* (outputs, dim) and (outputs) each */
    float *weight, *packed, *gradient, *momentum, *bias, *bias_gradient, *bias_momentum;
    double *mean, *variance; /* (dim), running */
    float *x, *logits, *losses, *ones;
    uint32_t *labels, *order; /* order: the rows that are trained on, shuffled */
    double *loss;             /* (count), of the epoch */
    size_t batch;
    double schedule; /* of the learning rates, 1 to 0 */
} trainer;

/* Standardises BN_COLUMNS of the batch by its own statistics, and keeps running ones. */
static void normalise_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const trainer *t = ctx;
    size_t from = chunk * BN_COLUMNS, n = t->batch;
    size_t end = from + BN_COLUMNS < t->dim ? from + BN_COLUMNS : t->dim;
    double sum[BN_COLUMNS] = { 0 }, squares[BN_COLUMNS] = { 0 };
    for (size_t r = 0; r < n; r++)
        for (size_t i = from; i < end; i++)
            sum[i - from] += (double)t->x[r * t->dim + i];
    for (size_t r = 0; r < n; r++)
        for (size_t i = from; i < end; i++) {
            double d = (double)t->x[r * t->dim + i] - sum[i - from] / (double)n;
            squares[i - from] += d * d;
        }
    for (size_t i = from; i < end; i++) {
        double mean = sum[i - from] / (double)n, variance = squares[i - from] / (double)n;
        double unbiased = n > 1 ? squares[i - from] / (double)(n - 1) : variance;
        float m = (float)mean, scale = (float)(1 / sqrt(variance + BN_EPS));
        for (size_t r = 0; r < n; r++)
            t->x[r * t->dim + i] = (t->x[r * t->dim + i] - m) * scale;
        t->mean[i] += BN_MOMENTUM * (mean - t->mean[i]);
        t->variance[i] += BN_MOMENTUM * (unbiased - t->variance[i]);
    }
}

/* Rows of the batch are cut by ROWS, one classifier at a time. */
#define ENTROPY_ROWS 64

static void entropy_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const trainer *t = ctx;
    size_t c = chunk % t->count, from = chunk / t->count * ENTROPY_ROWS;
    size_t rows = t->batch - from < ENTROPY_ROWS ? t->batch - from : ENTROPY_ROWS;
    float *logits = t->logits + from * t->outputs + c * t->classes;
    t->set->kernels->cross_entropy_f32(rows, t->classes, logits, t->outputs, t->labels + from,
                                       logits, t->outputs, t->losses + c * t->batch + from);
}

static void gradient_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const trainer *t = ctx;
    const tacit_kernels *k = t->set->kernels;
    size_t row_chunks = (t->outputs + TILE_ROWS - 1) / TILE_ROWS;
    size_t i = chunk % row_chunks * TILE_ROWS, j = chunk / row_chunks * TILE_COLUMNS;
    size_t rows = t->outputs - i < TILE_ROWS ? t->outputs - i : TILE_ROWS;
    if (j >= t->dim) {
        k->gemm_tn_f32(rows, 1, t->batch, t->logits + i, t->outputs, t->ones, 1,
                       t->bias_gradient + i, 1, false, NULL);
        return;
    }
    size_t columns = t->dim - j < TILE_COLUMNS ? t->dim - j : TILE_COLUMNS;
    k->gemm_tn_f32(rows, columns, t->batch, t->logits + i, t->outputs, t->x + j, t->dim,
                   t->gradient + i * t->dim + j, t->dim, false, NULL);
}

/* momentum = 0.9 momentum + gradient / batch; weight -= rate * momentum. */
static void descend(size_t n, float rate, float share, const float *gradient, float *momentum,
                    float *weight)
{
    for (size_t i = 0; i < n; i++) {
        momentum[i] = MOMENTUM * momentum[i] + gradient[i] * share;
        weight[i] -= rate * momentum[i];
    }
}

static void update_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const trainer *t = ctx;
    size_t from = chunk * UPDATE_ROWS, dim = t->dim;
    size_t rows = t->outputs - from < UPDATE_ROWS ? t->outputs - from : UPDATE_ROWS;
    float share = 1 / (float)t->batch;
    for (size_t r = from; r < from + rows; r++) {
        double rate = t->rates[r / t->classes] * (double)t->batch / 256 * t->schedule;
        descend(dim, (float)rate, share, t->gradient + r * dim, t->momentum + r * dim,
                t->weight + r * dim);
        descend(1, (float)rate, share, t->bias_gradient + r, t->bias_momentum + r, t->bias + r);
    }
    t->set->kernels->gemm_pack_f32(rows, dim, t->weight + from * dim, dim, t->packed + from * dim);
}

/* One batch: rows order[0 .. batch). */
static void step(trainer *t, const uint32_t *order)
{
    const tacit_probe_set *set = t->set;
    size_t dim = t->dim;
    for (size_t i = 0; i < t->batch; i++) {
        float *to = t->x + i * dim;
        const float *from = tacit_vectors_rows(set->vectors, order[i], 1, set->kernels, to);
        if (from != to)
            memcpy(to, from, dim * sizeof *to);
        t->labels[i] = set->labels->of[order[i]];
    }
    if (t->options->batch_norm)
        tacit_parallel_for(set->pool, (dim + BN_COLUMNS - 1) / BN_COLUMNS, normalise_chunk, t);
    const tacit_linear layer = {
        .in = dim, .out = t->outputs, .packed = t->packed, .bias = t->bias
    };
    tacit_linear_forward(&layer, set->kernels, 0, t->batch, t->x, dim, NULL, t->logits, t->outputs,
                         NULL, set->pool);
    tacit_parallel_for(set->pool, t->count * ((t->batch + ENTROPY_ROWS - 1) / ENTROPY_ROWS),
                       entropy_chunk, t);
    size_t row_chunks = (t->outputs + TILE_ROWS - 1) / TILE_ROWS;
    size_t column_chunks = (dim + TILE_COLUMNS - 1) / TILE_COLUMNS + 1; /* and the biases */
    tacit_parallel_for(set->pool, row_chunks * column_chunks, gradient_chunk, t);
    tacit_parallel_for(set->pool, (t->outputs + UPDATE_ROWS - 1) / UPDATE_ROWS, update_chunk, t);
    for (size_t c = 0; c < t->count; c++)
        for (size_t i = 0; i < t->batch; i++)
            t->loss[c] += (double)t->losses[c * t->batch + i];
}

/* All epochs over the n rows of `rows`. A last batch that is not whole is left out, as each epoch
 * has another order. */
static unsigned train(trainer *t, const uint32_t *rows, size_t n)
{
    size_t batches = n / t->batch, all = batches * t->options->epochs, done = 0;
    for (unsigned epoch = 0; epoch < t->options->epochs; epoch++) {
        memset(t->loss, 0, t->count * sizeof *t->loss);
        tacit_shuffle(t->order, n, t->options->seed, 1 + epoch);
        for (size_t i = 0; i < n; i++)
            t->order[i] = rows[t->order[i]];
        for (size_t b = 0; b < batches; b++, done++) {
            t->schedule = 0.5 * (1 + Sleef_cinz_cospid1_u05purec((double)done / (double)all));
            step(t, t->order + b * t->batch);
        }
        for (size_t c = 0; c < t->count; c++)
            t->loss[c] /= (double)(batches * t->batch);
    }
    return (unsigned)done;
}

/* Classifier c of the trainer; running statistics become part of it:
 * W (x - mean) / std + b = (W / std) x + (b - (W / std) mean). */
static void take_out(const trainer *t, size_t c, tacit_classifier *classifier)
{
    for (size_t k = 0; k < t->classes; k++) {
        const float *from = t->weight + (c * t->classes + k) * t->dim;
        float *to = classifier->weight + k * t->dim;
        double shift = 0;
        for (size_t i = 0; i < t->dim; i++) {
            double w = (double)from[i];
            if (t->options->batch_norm) {
                w /= sqrt(t->variance[i] + BN_EPS);
                shift += w * t->mean[i];
            }
            to[i] = (float)w;
        }
        classifier->bias[k] = (float)((double)t->bias[c * t->classes + k] - shift);
    }
}

static void trainer_close(trainer *t)
{
    tacit_free(t->weight);
    tacit_free(t->packed);
    tacit_free(t->gradient);
    tacit_free(t->momentum);
    tacit_free(t->bias);
    tacit_free(t->bias_gradient);
    tacit_free(t->bias_momentum);
    tacit_free(t->mean);
    tacit_free(t->variance);
    tacit_free(t->x);
    tacit_free(t->logits);
    tacit_free(t->losses);
    tacit_free(t->ones);
    tacit_free(t->labels);
    tacit_free(t->order);
    tacit_free(t->loss);
}

/* For `count` learning rates over n rows. */
static tacit_status trainer_open(trainer *t, const tacit_probe_set *set,
                                 const tacit_probe_options *o, const double *rates, size_t count,
                                 size_t n, tacit_err *err)
{
    size_t dim = set->vectors->dim, classes = set->labels->classes, outputs, weights, packed;
    *t = (trainer){ .set = set,
                    .options = o,
                    .rates = rates,
                    .count = count,
                    .dim = dim,
                    .classes = classes,
                    .batch = o->batch < n ? o->batch : n };
    if (!tacit_mul_size(count, classes, &outputs) || !tacit_mul_size(outputs, dim, &weights) ||
        weights > SIZE_MAX / 256 || !tacit_mul_size(t->batch, outputs * sizeof(float), &packed))
        return tacit_fail(err, TACIT_ELIMIT, "%zu classes of %zu values are too many", classes,
                          dim);
    t->outputs = outputs;
    t->weight = tacit_calloc(weights, sizeof *t->weight);
    t->packed = tacit_calloc(tacit_gemm_packed_size(set->kernels, outputs, dim), sizeof *t->packed);
    t->gradient = tacit_calloc(weights, sizeof *t->gradient);
    t->momentum = tacit_calloc(weights, sizeof *t->momentum);
    t->bias = tacit_calloc(outputs, sizeof *t->bias);
    t->bias_gradient = tacit_calloc(outputs, sizeof *t->bias_gradient);
    t->bias_momentum = tacit_calloc(outputs, sizeof *t->bias_momentum);
    t->mean = tacit_calloc(dim, sizeof *t->mean);
    t->variance = tacit_calloc(dim, sizeof *t->variance);
    t->x = tacit_calloc(t->batch, dim * sizeof *t->x);
    t->logits = tacit_calloc(t->batch, outputs * sizeof *t->logits);
    t->losses = tacit_calloc(t->batch, count * sizeof *t->losses);
    t->ones = tacit_calloc(t->batch, sizeof *t->ones);
    t->labels = tacit_calloc(t->batch, sizeof *t->labels);
    t->order = tacit_calloc(n, sizeof *t->order);
    t->loss = tacit_calloc(count, sizeof *t->loss);
    if (!t->weight || !t->packed || !t->gradient || !t->momentum || !t->bias || !t->bias_gradient ||
        !t->bias_momentum || !t->mean || !t->variance || !t->x || !t->logits || !t->losses ||
        !t->ones || !t->labels || !t->order || !t->loss) {
        trainer_close(t);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu classifiers", count);
    }
    for (size_t i = 0; i < t->batch; i++)
        t->ones[i] = 1;
    for (size_t i = 0; i < dim; i++)
        t->variance[i] = 1;
    return TACIT_OK;
}

/* Trains the learning rates [from, from + count) on rows and tries them on those held out. */
static tacit_status try_group(const tacit_probe_set *set, const tacit_probe_options *o,
                              unsigned from, unsigned count, const uint32_t *rows, size_t n,
                              const bool *held, tacit_classifier *classifier, tacit_probe_result *r,
                              tacit_err *err)
{
    trainer t;
    tacit_status st = trainer_open(&t, set, o, o->values + from, count, n, err);
    if (st < 0)
        return st;
    train(&t, rows, n);
    for (unsigned c = 0; st == TACIT_OK && c < count; c++) {
        take_out(&t, c, classifier);
        st = tacit_probe_try(set, classifier, held, &r->trials[from + c], err);
    }
    trainer_close(&t);
    return st;
}

static tacit_status sweep(const tacit_probe_set *set, const tacit_probe_options *o, uint32_t *rows,
                          tacit_classifier *classifier, tacit_probe_result *r, tacit_err *err)
{
    size_t all = set->vectors->rows, n = 0;
    bool *held = tacit_calloc(all, sizeof *held);
    if (!held)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu rows", all);
    r->held_out = tacit_hold_out(held, rows, all, o->seed);
    for (size_t row = 0; row < all; row++)
        if (!held[row])
            rows[n++] = (uint32_t)row;
    size_t each = 4 * sizeof(float) * set->labels->classes * set->vectors->dim;
    unsigned group = (unsigned)(WEIGHT_BYTES / (each + 1));
    group = group ? group : 1;
    tacit_status st = n ? TACIT_OK
                        : tacit_fail(err, TACIT_EINVAL, "%s: one row is too few to choose by",
                                     set->vectors->path);
    for (unsigned from = 0; st == TACIT_OK && from < o->count; from += group)
        st = try_group(set, o, from, o->count - from < group ? o->count - from : group, rows, n,
                       held, classifier, r, err);
    tacit_free(held);
    return st == TACIT_OK ? tacit_probe_choose(r, err) : st;
}

static tacit_status train_chosen(const tacit_probe_set *set, const tacit_probe_options *o,
                                 uint32_t *rows, tacit_classifier *classifier,
                                 tacit_probe_result *r, tacit_err *err)
{
    trainer t;
    size_t n = set->vectors->rows;
    tacit_status st = trainer_open(&t, set, o, &o->values[r->chosen], 1, n, err);
    if (st < 0)
        return st;
    for (size_t row = 0; row < n; row++)
        rows[row] = (uint32_t)row;
    r->steps = train(&t, rows, n);
    r->loss = t.loss[0];
    take_out(&t, 0, classifier);
    trainer_close(&t);
    return isfinite(r->loss)
               ? TACIT_OK
               : tacit_fail(err, TACIT_EINVAL, "training diverged; use a smaller --lr");
}

tacit_status tacit_probe_sgd(const tacit_probe_set *set, const tacit_probe_options *o,
                             tacit_classifier *classifier, tacit_probe_result *r, tacit_err *err)
{
    *r = (tacit_probe_result){ .count = o->count, .converged = true };
    for (unsigned i = 0; i < o->count; i++)
        r->trials[i].value = o->values[i];
    if (set->labels->classes < 2) {
        *classifier = (tacit_classifier){ 0 };
        return tacit_fail(err, TACIT_EINVAL, "%s: has one class, '%s'; a probe needs two",
                          set->vectors->path, set->labels->names[0]);
    }
    tacit_status st = tacit_classifier_open(classifier, set->labels, set->vectors, err);
    if (st < 0)
        return st;
    uint32_t *rows = tacit_calloc(set->vectors->rows, sizeof *rows);
    if (!rows)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu rows", set->vectors->rows);
    if (st == TACIT_OK && o->count > 1)
        st = sweep(set, o, rows, classifier, r, err);
    if (st == TACIT_OK)
        st = train_chosen(set, o, rows, classifier, r, err);
    tacit_free(rows);
    if (st < 0)
        tacit_classifier_close(classifier);
    return st;
}
