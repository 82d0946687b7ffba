/* test_dino.c - what DINO is made of: its head, by the definition and by differences along every
 * tensor's gradient; its loss, against the definition in double; the clipping of each tensor. The
 * same bits for any ISA and number of threads.
 */
#include "loss_dino.h"
#include "mlp_train.h"
#include "rng.h"
#include "unit_linear.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

static float number(uint64_t stream, uint64_t i)
{
    return 2 * tacit_rng_uniform(3, stream, i) - 1;
}

static double dot(size_t n, const float *x, const float *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)x[i] * (double)y[i];
    return sum;
}

/* Head ---------------------------------------------------------------------------------------- */

enum { ROWS = 70, IN = 13, HIDDEN = 20, NECK = 9, OUT = 150 };

typedef struct head {
    tacit_params params;
    tacit_work work;
    tacit_arena arena;
    tacit_mlp mlp;
    tacit_unit_linear last;
    float x[ROWS * IN], y[ROWS * OUT], dy[ROWS * OUT], dz[ROWS * NECK], dx[ROWS * IN];
} head;

static head *head_open(tacit_isa isa, unsigned threads, bool bn)
{
    head *h = tacit_calloc(1, sizeof *h);
    size_t total = 0;
    tacit_mlp_norm norm = bn ? TACIT_MLP_BN : TACIT_MLP_NO_NORM;
    const tacit_mlp_layer layers[] = {
        { .out = HIDDEN, .bias = true, .norm = norm, .gelu = true, .name = "0", .norm_name = "1" },
        { .out = HIDDEN, .bias = true, .norm = norm, .gelu = true, .name = "3", .norm_name = "4" },
        { .out = NECK, .bias = true, .norm = TACIT_MLP_NO_NORM, .name = "6" },
    };
    ck_assert_ptr_nonnull(h);
    h->work.kernels = tacit_kernels_for(isa);
    ck_assert_int_eq(tacit_pool_open(&h->work.pool, threads, NULL), TACIT_OK);
    ck_assert_int_eq(
        tacit_mlp_declare(&h->mlp, "mlp", IN, 3, layers, ROWS, &h->params, &h->work, NULL), 0);
    ck_assert_int_eq(tacit_unit_linear_declare(&h->last, "last_layer", NECK, OUT, true, ROWS,
                                               &h->params, &h->work, NULL),
                     TACIT_OK);
    ck_assert_int_eq(tacit_params_open(&h->params, 0, NULL), TACIT_OK);
    ck_assert_int_eq(tacit_work_open(&h->work, NULL), TACIT_OK);
    ck_assert(tacit_mlp_plan(&h->mlp, &total) && tacit_unit_linear_plan(&h->last, &total));
    ck_assert_int_eq(tacit_arena_open(&h->arena, total, NULL), TACIT_OK);
    memset(h->arena.base, 0xff, total);
    tacit_mlp_take(&h->mlp, &h->arena);
    tacit_unit_linear_take(&h->last, &h->arena);
    ck_assert_uint_eq(h->arena.used, total);
    for (size_t p = 0; p < h->params.count; p++)
        for (size_t i = 0; i < h->params.list[p]->count; i++)
            h->params.list[p]->value[i] = number(10 + p, i) + (h->params.list[p]->rank < 2);
    for (size_t i = 0; i < OUT; i++)
        h->last.g->value[i] = 1.5f + number(30, i);
    for (size_t i = 0; i < ROWS * IN; i++)
        h->x[i] = number(1, i);
    for (size_t i = 0; i < ROWS * OUT; i++)
        h->dy[i] = number(2, i);
    return h;
}

static void head_close(head *h)
{
    tacit_arena_close(&h->arena);
    tacit_params_close(&h->params);
    tacit_work_close(&h->work);
    tacit_pool_close(&h->work.pool);
    tacit_free(h);
}

static double head_forward(head *h)
{
    const float *z = tacit_mlp_forward(&h->mlp, ROWS, h->x, IN);
    tacit_unit_linear_forward(&h->last, ROWS, z, NECK, h->y);
    return dot(ROWS * OUT, h->y, h->dy);
}

static void head_backward(head *h)
{
    tacit_unit_linear_backward(&h->last, h->dy, h->dz, NECK);
    tacit_mlp_backward(&h->mlp, h->dz, h->dx, IN);
}

/* The slope of the loss along a gradient is its squared length. */
static void check_slope(head *h, const char *name, size_t n, float *value, const float *grad)
{
    double squared = dot(n, grad, grad), step = 1e-3 / sqrt(squared), loss[2];
    float *kept = malloc(n * sizeof *kept);
    memcpy(kept, value, n * sizeof *kept);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < n; i++)
            value[i] = (float)((double)kept[i] + (side ? -step : step) * (double)grad[i]);
        loss[side] = head_forward(h);
    }
    memcpy(value, kept, n * sizeof *kept);
    free(kept);
    double slope = (loss[0] - loss[1]) / (2 * step);
    ck_assert_msg(fabs(slope - squared) < 1e-3 * squared, "%s: slope %.7g, squared gradient %.7g",
                  name, slope, squared);
}

START_TEST(head_by_differences)
{
    bool bn = _i;
    head *h = head_open(isas[isa_count - 1], 2, bn);
    head_forward(h);
    head_backward(h);
    check_slope(h, "x", ROWS * IN, h->x, h->dx);
    for (size_t p = 0; p < h->params.count; p++) {
        tacit_param *param = h->params.list[p];
        bool unseen =
            bn && (!strcmp(param->name, "mlp.0.bias") || !strcmp(param->name, "mlp.3.bias"));
        if (!param->frozen && !unseen) /* batch norm takes it away again */
            check_slope(h, param->name, param->count, param->value, param->grad);
    }
    head_close(h);
}
END_TEST

START_TEST(outputs_are_cosines_with_a_gain)
{
    head *h = head_open(isas[_i], 1, false);
    const float *z = tacit_mlp_forward(&h->mlp, ROWS, h->x, IN), *v = h->last.v->value;
    tacit_unit_linear_forward(&h->last, ROWS, z, NECK, h->y);
    for (size_t r = 0; r < ROWS; r++)
        for (size_t k = 0; k < OUT; k++) {
            const float *a = z + r * NECK, *b = v + k * NECK;
            double want = (double)h->last.g->value[k] * dot(NECK, a, b) /
                          sqrt(dot(NECK, a, a) * dot(NECK, b, b));
            ck_assert_double_eq_tol((double)h->y[r * OUT + k], want, 2e-6);
        }
    /* The first layer's GELU, by its definition. */
    double sum = (double)h->mlp.dense[0].b->value[3];
    for (size_t i = 0; i < IN; i++)
        sum += (double)h->x[i] * (double)h->mlp.dense[0].w->value[3 * IN + i];
    ck_assert_double_eq_tol((double)h->mlp.out[0][3], sum / 2 * (1 + erf(sum / sqrt(2))), 1e-6);
    head_close(h);
}
END_TEST

START_TEST(head_same_bits)
{
    head *want = head_open(isas[0], 1, _i);
    head_forward(want);
    head_backward(want);
    for (size_t i = 0; i < isa_count; i++)
        for (unsigned threads = 1; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
            head *h = head_open(isas[i], threads, _i);
            head_forward(h);
            head_backward(h);
            ck_assert_mem_eq(h->y, want->y, sizeof h->y);
            ck_assert_mem_eq(h->dx, want->dx, sizeof h->dx);
            ck_assert_mem_eq(h->params.grads, want->params.grads, h->params.floats * sizeof(float));
            head_close(h);
        }
    head_close(want);
}
END_TEST

/* Loss ---------------------------------------------------------------------------------------- */

enum { K = 37, IMAGES = 5, MOST = 5 };

static void softmax(const double *x, double *p)
{
    double most = x[0], sum = 0;
    for (size_t k = 1; k < K; k++)
        most = x[k] > most ? x[k] : most;
    for (size_t k = 0; k < K; k++)
        sum += p[k] = exp(x[k] - most);
    for (size_t k = 0; k < K; k++)
        p[k] /= sum;
}

/* main_dino.py, DINOLoss. */
static double definition(size_t crops, const float *teacher, const float *centre,
                         double temperature, const double *student)
{
    double total = 0, x[K], q[K], p[K];
    size_t terms = 0;
    for (size_t i = 0; i < 2; i++)
        for (size_t v = 0; v < crops; v++) {
            if (v == i)
                continue;
            terms++;
            for (size_t n = 0; n < IMAGES; n++) {
                for (size_t k = 0; k < K; k++)
                    x[k] = ((double)teacher[(i * IMAGES + n) * K + k] - (double)centre[k]) /
                           temperature;
                softmax(x, q);
                for (size_t k = 0; k < K; k++)
                    x[k] = student[(v * IMAGES + n) * K + k] / 0.1;
                softmax(x, p);
                for (size_t k = 0; k < K; k++)
                    total -= q[k] * log(p[k]) / IMAGES;
            }
        }
    return total / (double)terms;
}

static double run_loss(tacit_isa isa, unsigned threads, size_t crops, size_t part,
                       const float *teacher, const float *centre, const float *student, float *ds)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_dino loss;
    double value = 0;
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_dino_declare(&loss, crops, K, 0.1, IMAGES, &work);
    ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
    for (size_t from = 0; from < IMAGES; from += part) {
        size_t n = IMAGES - from < part ? IMAGES - from : part;
        float t[2 * IMAGES * K], s[MOST * IMAGES * K];
        for (size_t v = 0; v < 2; v++)
            memcpy(t + v * n * K, teacher + (v * IMAGES + from) * K, n * K * sizeof *t);
        for (size_t v = 0; v < crops; v++)
            memcpy(s + v * n * K, student + (v * IMAGES + from) * K, n * K * sizeof *s);
        value += tacit_dino_loss(&loss, n, IMAGES, 0.06, centre, t, s);
        for (size_t v = 0; v < crops; v++)
            memcpy(ds + (v * IMAGES + from) * K, s + v * n * K, n * K * sizeof *s);
    }
    tacit_work_close(&work);
    tacit_pool_close(&work.pool);
    return value;
}

START_TEST(loss_and_gradient)
{
    float teacher[2 * IMAGES * K], student[MOST * IMAGES * K], centre[K], ds[MOST * IMAGES * K];
    float parts[MOST * IMAGES * K];
    double wide[MOST * IMAGES * K];
    size_t crops = 2 + (size_t)_i % 4, count = crops * IMAGES * K;
    tacit_isa isa = isas[(size_t)_i / 4];
    for (size_t i = 0; i < 2 * IMAGES * K; i++)
        teacher[i] = 0.3f * number(4, i);
    for (size_t i = 0; i < K; i++)
        centre[i] = 0.1f * number(5, i);
    for (size_t i = 0; i < count; i++)
        wide[i] = (double)(student[i] = number(6, i));
    double loss = run_loss(isa, 1, crops, IMAGES, teacher, centre, student, ds);
    ck_assert_double_eq_tol(loss, definition(crops, teacher, centre, 0.06, wide), 2e-6 * loss);
    for (size_t i = 0; i < count; i += 3) {
        double at = wide[i];
        wide[i] = at + 1e-5;
        double above = definition(crops, teacher, centre, 0.06, wide);
        wide[i] = at - 1e-5;
        double want = (above - definition(crops, teacher, centre, 0.06, wide)) / 2e-5;
        wide[i] = at;
        ck_assert_msg(fabs((double)ds[i] - want) < 2e-6, "%zu crops, element %zu: %g, should be %g",
                      crops, i, (double)ds[i], want);
    }
    ck_assert_double_eq_tol(run_loss(isa, 2, crops, 2, teacher, centre, student, parts), loss,
                            1e-12);
    ck_assert_mem_eq(parts, ds, count * sizeof *ds);
    for (size_t i = 0; i < isa_count; i++)
        for (unsigned threads = 1; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
            ck_assert(run_loss(isas[i], threads, crops, IMAGES, teacher, centre, student, parts) ==
                      loss);
            ck_assert_mem_eq(parts, ds, count * sizeof *ds);
        }
}
END_TEST

START_TEST(centre_and_temperature)
{
    const tacit_work work = { .kernels = tacit_kernels_for(isas[_i]) };
    const tacit_dino loss = { .crops = 2, .dim = 3, .student_temperature = 0.1, .work = &work };
    float centre[] = { 1, -2, 0 };
    const float sum[] = { 40, 10, -20 };
    tacit_dino_move(&loss, 0.9, 20, sum, centre);
    ck_assert_float_eq_tol(centre[0], 0.9f + 0.2f, 1e-6f);
    ck_assert_float_eq_tol(centre[1], -1.8f + 0.05f, 1e-6f);
    ck_assert_float_eq_tol(centre[2], -0.1f, 1e-6f);
    static const double linspace[] = { 0.04, 0.05, 0.06, 0.07, 0.07, 0.07 };
    for (size_t epoch = 0; epoch < 6; epoch++)
        ck_assert_double_eq_tol(tacit_dino_temperature(0.04, 0.07, 4, (double)epoch),
                                linspace[epoch], 1e-15);
    ck_assert_double_eq(tacit_dino_temperature(0.04, 0.07, 0, 0), 0.07);
    ck_assert_double_eq(tacit_dino_temperature(0.04, 0.07, 1, 0), 0.04);
    ck_assert_double_eq(tacit_dino_temperature(0.04, 0.07, 1, 1), 0.07);
}
END_TEST

/* Clipping ------------------------------------------------------------------------------------ */

START_TEST(each_tensor_is_clipped)
{
    static const size_t counts[] = { 3, 200000, 17, 1, 40 };
    static const float scales[] = { 1, 0.1f, 0.001f, 0, 5 };
    const tacit_kernels *kernels = tacit_kernels_for(isas[_i]);
    tacit_params params = { 0 };
    tacit_param *p[5];
    tacit_pool *pool = NULL;
    float *before[5];
    ck_assert_int_eq(tacit_pool_open(&pool, 3, NULL), TACIT_OK);
    for (size_t t = 0; t < 5; t++) {
        const char name[] = { (char)('a' + t), 0 };
        ck_assert_int_eq(tacit_params_add(&params, name, 1, &counts[t], TACIT_ONES, &p[t], NULL),
                         0);
    }
    ck_assert_int_eq(tacit_params_open(&params, 0, NULL), TACIT_OK);
    for (size_t t = 0; t < 5; t++) {
        before[t] = malloc(counts[t] * sizeof(float));
        for (size_t i = 0; i < counts[t]; i++)
            before[t][i] = p[t]->grad[i] = scales[t] * number(t, i);
    }
    tacit_params_grad_norm(&params, kernels, pool, NULL);
    tacit_params_clip_each(&params, 3, kernels, pool);
    for (size_t t = 0; t < 5; t++) { /* utils.py, clip_gradients */
        double norm = sqrt(dot(counts[t], before[t], before[t])), factor = 3 / (norm + 1e-6);
        for (size_t i = 0; i < counts[t]; i++)
            ck_assert_double_eq_tol((double)p[t]->grad[i],
                                    (double)before[t][i] * (factor < 1 ? factor : 1), 1e-7);
        if (factor >= 1)
            ck_assert_mem_eq(before[t], p[t]->grad, counts[t] * sizeof(float));
        free(before[t]);
    }
    tacit_params_close(&params);
    tacit_pool_close(&pool);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("dino");
    TCase *tests = tcase_create("dino");
    tcase_set_timeout(tests, 300);
    tcase_add_loop_test(tests, head_by_differences, 0, 2);
    tcase_add_loop_test(tests, outputs_are_cosines_with_a_gain, 0, (int)isa_count);
    tcase_add_loop_test(tests, head_same_bits, 0, 2);
    tcase_add_loop_test(tests, loss_and_gradient, 0, 4 * (int)isa_count);
    tcase_add_loop_test(tests, centre_and_temperature, 0, (int)isa_count);
    tcase_add_loop_test(tests, each_tensor_is_clipped, 0, (int)isa_count);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
