/* test_probe.c - linear probes against what they promise, computed in double; classifiers on disk.
 */
#include "arrays.h"
#include "lbfgs.h"
#include "logistic.h"
#include "mem.h"
#include "probe.h"
#include "rng.h"
#include "spd.h"

#include <math.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;
static tacit_err err;

static void setup(void)
{
    scratch_open();
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            isas[isa_count++] = (tacit_isa)i;
}

static const tacit_kernels *best(void)
{
    return tacit_kernels_for(isas[isa_count - 1]);
}

/* ---- the parts */

START_TEST(inverse_of_a_matrix)
{
    for (size_t n = 1; n < 300; n = n * 2 + 3) {
        float *a = calloc(n * n, sizeof *a), *inverse = malloc(n * n * sizeof *a);
        ck_assert(a && inverse);
        for (size_t i = 0; i < n; i++) { /* a random Gram matrix and a ridge */
            for (size_t j = 0; j < n; j++)
                for (size_t k = 0; k < 5; k++)
                    a[i * n + j] +=
                        (tacit_rng_uniform(n, i, k) - 0.5f) * (tacit_rng_uniform(n, j, k) - 0.5f);
            a[i * n + i] += 0.5f;
        }
        memcpy(inverse, a, n * n * sizeof *a);
        ck_assert_int_eq(tacit_spd_invert(inverse, n, best(), NULL, &err), TACIT_OK);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < n; j++) {
                double sum = 0;
                for (size_t k = 0; k < n; k++)
                    sum += (double)a[i * n + k] * (double)inverse[k * n + j];
                ck_assert_double_eq_tol(sum, i == j, 2e-5);
            }
        memset(a, 0, n * n * sizeof *a);
        ck_assert_int_eq(tacit_spd_invert(a, n, best(), NULL, &err), TACIT_EFORMAT);
        free(a), free(inverse);
    }
}
END_TEST

/* Rosenbrock's valley in pairs of variables, with its minimum 0 at (1, ..., 1). */
static double valley(void *ctx, const float *x, float *g)
{
    size_t n = *(size_t *)ctx;
    double value = 0;
    for (size_t i = 0; i < n; i += 2) {
        double a = (double)x[i], b = (double)x[i + 1], d = b - a * a;
        value += 100 * d * d + (1 - a) * (1 - a);
        g[i] = (float)(-400 * a * d - 2 * (1 - a));
        g[i + 1] = (float)(200 * d);
    }
    return value;
}

static void identity(void *ctx, const float *x, float *y)
{
    memcpy(y, x, *(size_t *)ctx * sizeof *y);
}

START_TEST(minimum_of_a_valley)
{
    size_t n = 20;
    float x[20];
    tacit_lbfgs problem = { .n = n,
                            .evaluate = valley,
                            .precondition = identity,
                            .ctx = &n,
                            .kernels = best(),
                            .pairs = 6,
                            .max_steps = 500,
                            .tolerance = 1e-9 };
    tacit_lbfgs_result result;
    for (size_t i = 0; i < n; i++)
        x[i] = i % 2 ? 1 : -1.2f;
    ck_assert_int_eq(tacit_lbfgs_minimize(&problem, x, &result, &err), TACIT_OK);
    ck_assert_double_lt(result.value, 1e-8);
    ck_assert_uint_lt(result.evaluations, 200);
    for (size_t i = 0; i < n; i++)
        ck_assert_double_eq_tol((double)x[i], 1, 1e-3);
    problem.max_steps = 3;
    x[0] = -1.2f;
    ck_assert_int_eq(tacit_lbfgs_minimize(&problem, x, &result, &err), TACIT_OK);
    ck_assert(!result.converged && result.steps == 3);
}
END_TEST

/* ---- sets */

/* Overlapping classes whose directions differ in scale and whose mean is not 0. */
typedef struct problem {
    size_t rows, dim, classes;
    float *x;
    tacit_vectors vectors;
    tacit_labels labels;
    tacit_probe_set set;
} problem;

static void problem_open(problem *p, size_t rows, size_t dim, size_t classes, bool half)
{
    *p = (problem){ .rows = rows, .dim = dim, .classes = classes };
    p->x = malloc(rows * dim * sizeof *p->x);
    int32_t *labels = malloc(rows * sizeof *labels);
    ck_assert(p->x && labels);
    for (size_t r = 0; r < rows; r++) {
        labels[r] = (int32_t)(r < classes ? r : tacit_rng_u32(7, 0, r) % classes);
        for (size_t i = 0; i < dim; i++) {
            float noise = tacit_rng_uniform(7, 1 + r, i) + tacit_rng_uniform(8, 1 + r, i) - 1;
            float mean = tacit_rng_uniform(9, (uint64_t)labels[r], i) - 0.5f;
            p->x[r * dim + i] = (noise + 0.4f * mean) / (1 + (float)i) + 0.3f;
        }
    }
    if (half) {
        uint16_t *narrow = malloc(rows * dim * sizeof *narrow);
        ck_assert_ptr_nonnull(narrow);
        best()->f32_to_f16(rows * dim, p->x, narrow);
        best()->f16_to_f32(rows * dim, narrow, p->x);
        array_put(scratch("x.npy"), TACIT_F16, (const uint64_t[]){ rows, dim }, 2, narrow);
        free(narrow);
    } else {
        matrix_put(scratch("x.npy"), p->x, rows, dim);
    }
    FILE *f = fopen(scratch("y.txt"), "w");
    for (size_t r = 0; r < rows; r++)
        fprintf(f, "%d\n", labels[r]);
    fclose(f);
    free(labels);
    ck_assert_msg(tacit_vectors_open(&p->vectors, scratch("x.npy"), best(), NULL, &err) == TACIT_OK,
                  "%s", err.text);
    ck_assert_msg(tacit_labels_open(&p->labels, scratch("y.txt"), &p->vectors, &err) == TACIT_OK,
                  "%s", err.text);
    ck_assert_uint_eq(p->labels.classes, classes);
    p->set = (tacit_probe_set){ &p->vectors, &p->labels, best(), NULL };
}

static void problem_close(problem *p)
{
    tacit_vectors_close(&p->vectors);
    tacit_labels_close(&p->labels);
    free(p->x);
}

/* The objective in double, and the squared length of its gradient. */
static double objective(const problem *p, const float *weight, const float *bias, double c,
                        const bool *left_out, double *gradient_squares)
{
    size_t dim = p->dim, k = p->classes, n = 0;
    double loss = 0, *g = calloc(k * (dim + 1), sizeof *g), *z = malloc(k * sizeof *z);
    ck_assert(g && z);
    for (size_t r = 0; r < p->rows; r++) {
        const float *x = p->x + r * dim;
        double most = -INFINITY, sum = 0;
        if (left_out && left_out[r])
            continue;
        n++;
        for (size_t j = 0; j < k; j++) {
            z[j] = (double)bias[j];
            for (size_t i = 0; i < dim; i++)
                z[j] += (double)weight[j * dim + i] * (double)x[i];
            most = fmax(most, z[j]);
        }
        for (size_t j = 0; j < k; j++)
            sum += exp(z[j] - most);
        loss += log(sum) - (z[p->labels.of[r]] - most);
        for (size_t j = 0; j < k; j++) {
            double d = exp(z[j] - most) / sum - (j == p->labels.of[r]);
            for (size_t i = 0; i < dim; i++)
                g[j * dim + i] += d * (double)x[i];
            g[k * dim + j] += d;
        }
    }
    double lambda = 1 / (c * (double)n), squares = 0;
    *gradient_squares = 0;
    for (size_t i = 0; i < k * (dim + 1); i++) {
        double w = i < k * dim ? (double)weight[i] : 0, d = g[i] / (double)n + lambda * w;
        squares += w * w;
        *gradient_squares += d * d;
    }
    free(g), free(z);
    return loss / (double)n + lambda * squares / 2;
}

/* ---- logistic regression */

/* A function that is strongly convex with constant lambda is at most |g|^2 / (2 lambda) above its
 * minimum; that W alone is penalised is made up for by a tolerance that is far below what is asked.
 */
static void check_minimum(const problem *p, const float *weight, const float *bias, double c,
                          const bool *left_out, size_t n, double value)
{
    double squares, f = objective(p, weight, bias, c, left_out, &squares);
    ck_assert_double_eq_tol(value, f, 2e-6 * f);
    ck_assert_msg(squares * c * (double)n / 2 < 2e-5 * f, "|g|^2 = %g, f = %g", squares, f);
}

START_TEST(logistic_regression_is_at_its_minimum)
{
    static const struct {
        size_t rows, dim, classes;
        bool half;
    } cases[] = { { 60, 3, 2, false }, { 900, 20, 5, false }, { 500, 33, 130, true } };
    for (size_t i = 0; i < 3; i++) {
        problem p;
        tacit_logistic *logistic;
        tacit_logistic_fit fit;
        problem_open(&p, cases[i].rows, cases[i].dim, cases[i].classes, cases[i].half);
        float *weight = malloc(p.classes * p.dim * sizeof *weight);
        float *bias = malloc(p.classes * sizeof *bias);
        bool *left_out = calloc(p.rows, sizeof *left_out);
        ck_assert(weight && bias && left_out);
        for (size_t r = 0; r < p.rows; r += 3)
            left_out[r] = true;
        ck_assert_int_eq(tacit_logistic_open(&logistic, &p.vectors, &p.labels, best(), NULL, &err),
                         TACIT_OK);
        for (double c = 0.01; c < 50; c *= 10)
            for (unsigned part = 0; part < 2; part++) {
                ck_assert_int_eq(tacit_logistic_solve(logistic, c, part ? left_out : NULL, 1000,
                                                      1e-8, &fit, &err),
                                 TACIT_OK);
                ck_assert(fit.converged);
                tacit_logistic_result(logistic, weight, bias);
                check_minimum(&p, weight, bias, c, part ? left_out : NULL,
                              part ? p.rows - (p.rows + 2) / 3 : p.rows, fit.objective);
            }
        tacit_logistic_close(&logistic);
        free(weight), free(bias), free(left_out);
        problem_close(&p);
    }
}
END_TEST

/* ---- SGD, written out in double for one learning rate */

static void sgd_in_double(const problem *p, const tacit_probe_options *o, double lr, double *weight,
                          double *bias)
{
    size_t n = p->rows, dim = p->dim, k = p->classes, b = o->batch < n ? o->batch : n;
    size_t batches = n / b, all = batches * o->epochs, done = 0;
    uint32_t *order = malloc(n * sizeof *order);
    double *vw = calloc(k * dim, sizeof *vw), *vb = calloc(k, sizeof *vb);
    double *x = malloc(b * dim * sizeof *x), *gw = malloc(k * dim * sizeof *gw);
    double *gb = malloc(k * sizeof *gb), *z = malloc(k * sizeof *z);
    double *mean = calloc(dim, sizeof *mean), *var = malloc(dim * sizeof *var);
    ck_assert(order && vw && vb && x && gw && gb && z && mean && var);
    memset(weight, 0, k * dim * sizeof *weight);
    memset(bias, 0, k * sizeof *bias);
    for (size_t i = 0; i < dim; i++)
        var[i] = 1;
    for (unsigned epoch = 0; epoch < o->epochs; epoch++) {
        tacit_shuffle(order, n, o->seed, 1 + epoch);
        for (size_t batch = 0; batch < batches; batch++, done++) {
            const uint32_t *rows = order + batch * b;
            double rate = lr * (double)b / 256 * 0.5 * (1 + cos(M_PI * (double)done / (double)all));
            for (size_t r = 0; r < b; r++)
                for (size_t i = 0; i < dim; i++)
                    x[r * dim + i] = (double)p->x[rows[r] * dim + i];
            for (size_t i = 0; o->batch_norm && i < dim; i++) {
                double m = 0, s = 0;
                for (size_t r = 0; r < b; r++)
                    m += x[r * dim + i] / (double)b;
                for (size_t r = 0; r < b; r++)
                    s += (x[r * dim + i] - m) * (x[r * dim + i] - m);
                for (size_t r = 0; r < b; r++)
                    x[r * dim + i] = (x[r * dim + i] - m) / sqrt(s / (double)b + 1e-6);
                mean[i] = 0.9 * mean[i] + 0.1 * m;
                var[i] = 0.9 * var[i] + 0.1 * s / (double)(b - 1);
            }
            memset(gw, 0, k * dim * sizeof *gw);
            memset(gb, 0, k * sizeof *gb);
            for (size_t r = 0; r < b; r++) {
                double sum = 0;
                for (size_t j = 0; j < k; j++) {
                    z[j] = bias[j];
                    for (size_t i = 0; i < dim; i++)
                        z[j] += weight[j * dim + i] * x[r * dim + i];
                    sum += exp(z[j]);
                }
                for (size_t j = 0; j < k; j++) {
                    double d = (exp(z[j]) / sum - (j == p->labels.of[rows[r]])) / (double)b;
                    for (size_t i = 0; i < dim; i++)
                        gw[j * dim + i] += d * x[r * dim + i];
                    gb[j] += d;
                }
            }
            for (size_t i = 0; i < k * dim; i++)
                weight[i] -= rate * (vw[i] = 0.9 * vw[i] + gw[i]);
            for (size_t j = 0; j < k; j++)
                bias[j] -= rate * (vb[j] = 0.9 * vb[j] + gb[j]);
        }
    }
    for (size_t j = 0; o->batch_norm && j < k; j++)
        for (size_t i = 0; i < dim; i++) {
            weight[j * dim + i] /= sqrt(var[i] + 1e-6);
            bias[j] -= weight[j * dim + i] * mean[i];
        }
    free(order), free(vw), free(vb), free(x), free(gw), free(gb), free(z), free(mean), free(var);
}

START_TEST(sgd_is_what_it_says)
{
    for (unsigned norm = 0; norm < 2; norm++)
        for (unsigned half = 0; half < 2; half++) {
            problem p;
            tacit_classifier c;
            tacit_probe_result result;
            tacit_probe_options o = {
                .values = { 3 }, .count = 1, .seed = 5, .epochs = 4, .batch = 64, .batch_norm = norm
            };
            problem_open(&p, 300, 70, 40, half);
            double *weight = malloc(p.classes * p.dim * sizeof *weight);
            double *bias = malloc(p.classes * sizeof *bias);
            ck_assert(weight && bias);
            ck_assert_msg(tacit_probe_sgd(&p.set, &o, &c, &result, &err) == TACIT_OK, "%s",
                          err.text);
            ck_assert_uint_eq(result.steps, 4 * (300 / 64));
            sgd_in_double(&p, &o, 3, weight, bias);
            for (size_t i = 0; i < p.classes * p.dim; i++)
                ck_assert_double_eq_tol((double)c.weight[i], weight[i],
                                        2e-5 * (1 + fabs(weight[i])));
            for (size_t j = 0; j < p.classes; j++)
                ck_assert_double_eq_tol((double)c.bias[j], bias[j], 2e-5 * (1 + fabs(bias[j])));
            tacit_classifier_close(&c);
            problem_close(&p);
            free(weight), free(bias);
        }
}
END_TEST

/* ---- both probes */

typedef tacit_status probe_fn(const tacit_probe_set *, const tacit_probe_options *,
                              tacit_classifier *, tacit_probe_result *, tacit_err *);

static const tacit_probe_options sweeps[2] = {
    { .values = { 0.01, 1, 100 }, .count = 3, .seed = 1, .max_steps = 200, .tolerance = 1e-6 },
    { .values = { 0.01, 1, 10, 1e9 }, .count = 4, .seed = 1, .epochs = 5, .batch = 50 },
};
static probe_fn *const probes[2] = { tacit_probe_lbfgs, tacit_probe_sgd };

START_TEST(same_bits_for_all)
{
    problem p;
    problem_open(&p, 700, 45, 37, false);
    for (unsigned way = 0; way < 2; way++) {
        tacit_classifier first, c;
        tacit_probe_result expected, result;
        tacit_probe_set set = p.set;
        set.kernels = tacit_kernels_for(isas[0]);
        ck_assert_int_eq(probes[way](&set, &sweeps[way], &first, &expected, &err), TACIT_OK);
        for (size_t isa = 0; isa < isa_count; isa++)
            for (unsigned threads = 1; threads < 4; threads++) {
                set.kernels = tacit_kernels_for(isas[isa]);
                ck_assert_int_eq(tacit_pool_open(&set.pool, threads, &err), TACIT_OK);
                ck_assert_int_eq(probes[way](&set, &sweeps[way], &c, &result, &err), TACIT_OK);
                ck_assert(!memcmp(c.weight, first.weight, 37 * 45 * sizeof(float)));
                ck_assert(!memcmp(c.bias, first.bias, 37 * sizeof(float)));
                ck_assert(!memcmp(&result.loss, &expected.loss, sizeof result.loss));
                ck_assert_uint_eq(result.chosen, expected.chosen);
                tacit_classifier_close(&c);
                tacit_pool_close(&set.pool);
            }
        tacit_classifier_close(&first);
    }
    problem_close(&p);
}
END_TEST

START_TEST(setting_is_chosen_on_rows_held_out)
{
    problem p;
    tacit_classifier c, alone;
    tacit_probe_result result, once;
    problem_open(&p, 503, 12, 4, false);
    for (unsigned way = 0; way < 2; way++) {
        const tacit_probe_options *o = &sweeps[way];
        ck_assert_int_eq(probes[way](&p.set, o, &c, &result, &err), TACIT_OK);
        ck_assert_uint_eq(result.held_out, 51);
        for (unsigned i = 0; i < result.count; i++) {
            ck_assert(result.trials[i].value == o->values[i]);
            if (result.trials[i].finite)
                ck_assert(result.trials[i].top1 < result.trials[result.chosen].top1 ||
                          (result.trials[i].top1 == result.trials[result.chosen].top1 &&
                           i >= result.chosen));
        }
        /* What it gives is what the setting alone gives, trained on all. */
        tacit_probe_options one = *o;
        one.values[0] = o->values[result.chosen];
        one.count = 1;
        ck_assert_int_eq(probes[way](&p.set, &one, &alone, &once, &err), TACIT_OK);
        ck_assert_uint_eq(once.held_out, 0);
        ck_assert(!memcmp(c.weight, alone.weight, 4 * 12 * sizeof(float)));
        tacit_classifier_close(&c);
        tacit_classifier_close(&alone);
    }
    /* The accuracy of a trial is that of the rows held out, by a classifier that never saw them. */
    bool held[503];
    uint32_t scratch_rows[503];
    tacit_logistic *logistic;
    tacit_logistic_fit fit;
    tacit_score score;
    bool finite;
    ck_assert_uint_eq(tacit_hold_out(held, scratch_rows, 503, sweeps[0].seed), 51);
    ck_assert_int_eq(probes[0](&p.set, &sweeps[0], &c, &result, &err), TACIT_OK);
    ck_assert_int_eq(tacit_logistic_open(&logistic, &p.vectors, &p.labels, best(), NULL, &err),
                     TACIT_OK);
    ck_assert_int_eq(
        tacit_logistic_solve(logistic, sweeps[0].values[0], held, 200, 1e-4, &fit, &err), TACIT_OK);
    tacit_logistic_result(logistic, c.weight, c.bias);
    ck_assert_int_eq(tacit_score_open(&score, &p.labels, false, &err), TACIT_OK);
    ck_assert_int_eq(tacit_classifier_score(&c, &p.vectors, &p.labels, held, best(), NULL, &score,
                                            &finite, &err),
                     TACIT_OK);
    ck_assert(finite && score.rows == 51);
    ck_assert(result.trials[0].top1 == tacit_percent(score.top1, score.rows));
    tacit_score_close(&score);
    tacit_logistic_close(&logistic);
    tacit_classifier_close(&c);
    problem_close(&p);
}
END_TEST

START_TEST(probes_that_cannot_be)
{
    problem p;
    tacit_classifier c;
    tacit_probe_result result;
    problem_open(&p, 40, 3, 1, false);
    for (unsigned way = 0; way < 2; way++) {
        ck_assert_int_eq(probes[way](&p.set, &sweeps[way], &c, &result, &err), TACIT_EINVAL);
        ck_assert_msg(strstr(err.text, "has one class, '0'"), "%s", err.text);
        ck_assert_ptr_null(c.weight);
    }
    problem_close(&p);
    problem_open(&p, 40, 3, 2, false);
    tacit_probe_options wild = sweeps[1];
    wild.values[0] = wild.values[1] = 1e60;
    for (wild.count = 1; wild.count < 3; wild.count++) {
        ck_assert_int_eq(tacit_probe_sgd(&p.set, &wild, &c, &result, &err), TACIT_EINVAL);
        ck_assert_msg(strstr(err.text, "diverged"), "%s", err.text);
        ck_assert_ptr_null(c.weight);
    }
    problem_close(&p);
}
END_TEST

/* ---- classifiers */

START_TEST(classifier_is_read_back)
{
    problem p;
    tacit_classifier c, again;
    tacit_probe_result result;
    size_t size;
    problem_open(&p, 90, 5, 3, false);
    p.vectors.recipe = json_pack("{s:{s:s}, s:i}", "model", "weights_xxh3", "77", "dim", 5);
    ck_assert_int_eq(tacit_probe_lbfgs(&p.set, &sweeps[0], &c, &result, &err), TACIT_OK);
    ck_assert_int_eq(tacit_classifier_save(&c, scratch("c.safetensors"), "{}", &err), TACIT_OK);
    ck_assert_int_eq(tacit_classifier_load(&again, scratch("c.safetensors"), &err), TACIT_OK);
    ck_assert_uint_eq(again.classes, 3);
    ck_assert_uint_eq(again.dim, 5);
    ck_assert(!memcmp(again.weight, c.weight, 15 * sizeof(float)));
    ck_assert(!memcmp(again.bias, c.bias, 3 * sizeof(float)));
    ck_assert_str_eq(again.names[2], "2");
    ck_assert(json_equal(again.recipe, c.recipe));
    ck_assert_int_eq(tacit_classifier_match(&again, &p.vectors, &err), TACIT_OK);
    json_object_set_new(json_object_get(p.vectors.recipe, "model"), "weights_xxh3",
                        json_string("78"));
    p.vectors.folder = tacit_strdup("folder");
    ck_assert_int_eq(tacit_classifier_match(&again, &p.vectors, &err), TACIT_ECONFLICT);
    ck_assert_msg(strstr(err.text, "weights_xxh3"), "%s", err.text);
    p.vectors.dim = 4;
    ck_assert_int_eq(tacit_classifier_match(&again, &p.vectors, &err), TACIT_ECONFLICT);
    ck_assert_msg(strstr(err.text, "of 4 values"), "%s", err.text);
    p.vectors.dim = 5;
    tacit_classifier_close(&again);

    /* Whatever is not one is refused: each prefix, and a class too few. */
    unsigned char *bytes = file_get(scratch("c.safetensors"), &size);
    for (size_t n = 0; n < size; n += n < 16 ? 1 : 7) {
        file_put(scratch("cut.safetensors"), bytes, n);
        ck_assert_int_lt(tacit_classifier_load(&again, scratch("cut.safetensors"), &err), 0);
        ck_assert_ptr_null(again.weight);
    }
    float *last = (float *)(void *)(bytes + size - sizeof(float)), kept = *last;
    *last = NAN;
    file_put(scratch("nan.safetensors"), bytes, size);
    ck_assert_int_eq(tacit_classifier_load(&again, scratch("nan.safetensors"), &err),
                     TACIT_EFORMAT);
    *last = kept;
    static const char *const edits[][3] = { { "[\\\"0\\\",", "[      ", "does not name its 3" },
                                            { "\\\"0\\\"", "\\\"\\\" ", "class 0 has no name" },
                                            { "weight\"", "heavy2\"", "not a classifier" },
                                            { "classes\"", "klasses\"", "not a classifier" } };
    for (size_t i = 0; i < 4; i++) {
        unsigned char *edited = malloc(size);
        memcpy(edited, bytes, size);
        void *at = memmem(edited, size, edits[i][0], strlen(edits[i][0]));
        ck_assert_ptr_nonnull(at);
        memcpy(at, edits[i][1], strlen(edits[i][1]));
        file_put(scratch("edited.safetensors"), edited, size);
        ck_assert_int_lt(tacit_classifier_load(&again, scratch("edited.safetensors"), &err), 0);
        ck_assert_msg(strstr(err.text, edits[i][2]), "%s", err.text);
        free(edited);
    }
    free(bytes);
    tacit_free(c.names[1]);
    c.names[1] = tacit_strdup("\xff");
    ck_assert_int_eq(tacit_classifier_save(&c, scratch("d.safetensors"), "{}", &err),
                     TACIT_EUNSUPPORTED);
    ck_assert_int_ne(access(scratch("d.safetensors"), F_OK), 0);
    tacit_classifier_close(&c);
    problem_close(&p);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    problem p;
    problem_open(&p, 60, 5, 3, false);
    for (unsigned way = 0; way < 2; way++) {
        tacit_status st = TACIT_ENOMEM;
        uint64_t n = 1;
        for (; st != TACIT_OK; n++) {
            tacit_classifier c, again = { 0 };
            tacit_probe_result result;
            tacit_alloc_fail_at(n, false);
            st = probes[way](&p.set, &sweeps[way], &c, &result, &err);
            if (st == TACIT_OK)
                st = tacit_classifier_save(&c, scratch("c.safetensors"), "{}", &err);
            if (st == TACIT_OK)
                st = tacit_classifier_load(&again, scratch("c.safetensors"), &err);
            tacit_alloc_fail_at(0, false);
            ck_assert_msg(st == TACIT_OK || st == TACIT_ENOMEM, "%llu: %s", (unsigned long long)n,
                          err.text);
            tacit_classifier_close(&c);
            tacit_classifier_close(&again);
        }
        ck_assert_uint_gt(n, 40);
    }
    problem_close(&p);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("probe");
    TCase *t = tcase_create("probe");
    tcase_add_unchecked_fixture(t, setup, scratch_close);
    tcase_set_timeout(t, 0);
    tcase_add_test(t, inverse_of_a_matrix);
    tcase_add_test(t, minimum_of_a_valley);
    tcase_add_test(t, logistic_regression_is_at_its_minimum);
    tcase_add_test(t, sgd_is_what_it_says);
    tcase_add_test(t, same_bits_for_all);
    tcase_add_test(t, setting_is_chosen_on_rows_held_out);
    tcase_add_test(t, probes_that_cannot_be);
    tcase_add_test(t, classifier_is_read_back);
    tcase_add_test(t, every_allocation_fails_once);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
