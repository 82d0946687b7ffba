/* test_losses.c - losses as pure functions: against definitions in double, their gradients against
 * differences of those, published values, the same bits for any ISA and number of threads. */
#include "loss_mae.h"
#include "loss_ntxent.h"
#include "loss_simmim.h"
#include "loss_smooth_l1.h"
#include "loss_tokens.h"
#include "norm_targets.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

static float number(uint64_t stream, uint64_t i)
{
    return 4 * tacit_rng_uniform(3, stream, i) - 2;
}

/* NT-Xent in double. */
static double ntxent(size_t rows, size_t dim, const double *z, double temperature)
{
    double sum = 0, *norm = malloc(rows * sizeof *norm);
    for (size_t i = 0; i < rows; i++) {
        norm[i] = 0;
        for (size_t p = 0; p < dim; p++)
            norm[i] += z[i * dim + p] * z[i * dim + p];
        norm[i] = sqrt(norm[i]);
    }
    for (size_t i = 0; i < rows; i++) {
        double total = 0, target = 0;
        for (size_t j = 0; j < rows; j++) {
            double score = 0;
            for (size_t p = 0; p < dim; p++)
                score += z[i * dim + p] * z[j * dim + p] / (norm[i] * norm[j] * temperature);
            if (j != i)
                total += exp(score);
            if (j == (i + rows / 2) % rows)
                target = score;
        }
        sum += log(total) - target;
    }
    free(norm);
    return sum / (double)rows;
}

/* A call on kernels and threads; -1 where memory is short. */
static double run_ntxent(tacit_isa isa, unsigned threads, size_t rows, size_t dim,
                         double temperature, const float *z, float *dz)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    tacit_ntxent loss;
    tacit_arena arena = { 0 };
    size_t total = 0;
    double value = -1;
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_ntxent_init(&loss, rows + 6, dim, temperature, &work);
    ck_assert(tacit_ntxent_plan(&loss, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    memset(arena.base, 0xff, total);
    tacit_ntxent_take(&loss, &arena);
    ck_assert_uint_eq(arena.used, total);
    value = tacit_ntxent_loss(&loss, rows, z, dim, dz, dim);
    tacit_arena_close(&arena);
    tacit_pool_close(&work.pool);
    return value;
}

START_TEST(ntxent_of_known_values)
{
    /* two views of three images, temperature 0.5, in double by hand */
    const float z[6][2] = { { 1, 2 },       { 0.5f, -1 },    { -1.5f, 0.25f },
                            { 0.9f, 2.2f }, { 0.7f, -0.8f }, { -1.2f, 0.4f } };
    float dz[12], same[40], d[40];
    double loss = run_ntxent(isas[_i], 1, 6, 2, 0.5, &z[0][0], dz);
    ck_assert_msg(fabs(loss - 0.2154732443) < 1e-6, "%.10g", loss);
    for (size_t i = 0; i < 40; i++) /* all alike: ln(2N - 1), and nowhere to go */
        same[i] = (float)(1 + i % 4);
    loss = run_ntxent(isas[_i], 2, 10, 4, 0.1, same, d);
    ck_assert_msg(fabs(loss - log(9)) < 1e-6, "%.10g", loss);
    for (size_t i = 0; i < 40; i++)
        ck_assert_msg(fabs((double)d[i]) < 1e-6, "%g", (double)d[i]);
}
END_TEST

START_TEST(ntxent_gradient)
{
    static const size_t shapes[][2] = { { 2, 3 }, { 6, 5 }, { 34, 17 }, { 70, 8 } };
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++) {
        size_t rows = shapes[s][0], dim = shapes[s][1];
        float z[70 * 17], dz[70 * 17];
        double wide[70 * 17], most = 0, want[70 * 17];
        for (size_t i = 0; i < rows * dim; i++)
            wide[i] = (double)(z[i] = number(s, i));
        double loss = run_ntxent(isas[_i], 2, rows, dim, 0.2, z, dz);
        ck_assert_msg(fabs(loss - ntxent(rows, dim, wide, 0.2)) < 2e-6 * (1 + loss), "%g", loss);
        for (size_t i = 0; i < rows * dim; i++) {
            double at = wide[i];
            wide[i] = at + 1e-5;
            double above = ntxent(rows, dim, wide, 0.2);
            wide[i] = at - 1e-5;
            want[i] = (above - ntxent(rows, dim, wide, 0.2)) / 2e-5;
            wide[i] = at;
            most = fmax(most, fabs(want[i]));
        }
        for (size_t i = 0; i < rows * dim; i++)
            ck_assert_msg(fabs((double)dz[i] - want[i]) < 1e-5 * most + 1e-8,
                          "%zu x %zu, element %zu: %g, should be %g", rows, dim, i, (double)dz[i],
                          want[i]);
    }
}
END_TEST

/* More rows than a block has, on every ISA and 1 to 8 threads, and in place. */
START_TEST(ntxent_same_bits)
{
    enum { R = 802, D = 33 };
    float *z = malloc(R * D * sizeof *z), *want = malloc(R * D * sizeof *want);
    float *dz = malloc(R * D * sizeof *dz);
    ck_assert(z && want && dz);
    for (size_t i = 0; i < R * D; i++)
        z[i] = number(9, i);
    double loss = run_ntxent(isas[0], 1, R, D, 0.5, z, want);
    double *wide = malloc(R * D * sizeof *wide);
    for (size_t i = 0; i < R * D; i++)
        wide[i] = (double)z[i];
    ck_assert(fabs(loss - ntxent(R, D, wide, 0.5)) < 1e-5);
    for (size_t i = 0; i < isa_count; i++)
        for (unsigned threads = 1; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
            memcpy(dz, z, R * D * sizeof *dz);
            ck_assert(run_ntxent(isas[i], threads, R, D, 0.5, dz, dz) == loss);
            ck_assert_mem_eq(dz, want, R * D * sizeof *dz);
        }
    free(z), free(want), free(dz), free(wide);
}
END_TEST

/* Targets and loss in double; in two parts, which add up. */
START_TEST(mae_loss)
{
    enum { IMAGE = 12, PATCH = 3, SIDE = 4, V = 27, B = 3, M = 5, LD = 30 };
    const tacit_mae_target target = { IMAGE, PATCH, _i % 2 };
    float images[B * 3 * IMAGE * IMAGE], pred[B * M * LD], got[B * M * LD];
    static const uint32_t mask[B * M] = { 0, 3, 15, 7, 8, 1, 2, 14, 5, 9, 6, 4, 3, 12, 11 };
    for (size_t i = 0; i < B * 3 * IMAGE * IMAGE; i++)
        images[i] = number(20, i);
    for (size_t i = 0; i < B * M * LD; i++)
        pred[i] = got[i] = number(21, i);
    tacit_work work = { .kernels = tacit_kernels_for(isas[(size_t)_i / 2]) };
    ck_assert_int_eq(tacit_pool_open(&work.pool, 3, NULL), TACIT_OK);
    tacit_mae_loss_declare(&target, B, &work);
    ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
    double loss = tacit_mae_loss(&target, &work, images, 1, mask, M, B, got, LD) +
                  tacit_mae_loss(&target, &work, images + 3 * IMAGE * IMAGE, 2, mask + M, M, B,
                                 got + M * LD, LD);
    double want = 0;
    for (size_t i = 0; i < B * M; i++) {
        double t[V], mean = 0, var = 0;
        for (size_t v = 0; v < V; v++) {
            size_t y = mask[i] / SIDE * PATCH + v / 9, x = mask[i] % SIDE * PATCH + v / 3 % 3;
            t[v] = (double)images[((i / M * 3 + v % 3) * IMAGE + y) * IMAGE + x];
            mean += t[v] / V;
        }
        for (size_t v = 0; v < V; v++)
            var += (t[v] - mean) * (t[v] - mean) / (V - 1);
        for (size_t v = 0; v < V; v++) {
            double d = (double)pred[i * LD + v] -
                       (target.normalised ? (t[v] - mean) / sqrt(var + 1e-6) : t[v]);
            want += d * d / (V * B * M);
            ck_assert(fabs((double)got[i * LD + v] - 2 * d / (V * B * M)) < 1e-8);
        }
        for (size_t v = V; v < LD; v++)
            ck_assert(got[i * LD + v] == pred[i * LD + v]);
    }
    ck_assert_msg(fabs(loss - want) < 1e-6 * want, "%.9g, should be %.9g", loss, want);
    tacit_work_close(&work);
    tacit_pool_close(&work.pool);
}
END_TEST

/* By the definition over whole images, in two parts, which add up; its gradient has the sign of the
 * difference, and none where there is none. */
START_TEST(simmim_loss)
{
    enum { IMAGE = 12, PATCH = 3, SIDE = 4, V = 27, B = 3, M = 15, LD = 30 };
    static const uint32_t patches[M] = { 0, 3, 15, 1, 2, 14, 5, 9, 6, 4, 3, 12, 11, 8, 10 };
    static const uint32_t first[B + 1] = { 0, 3, 10, M },
                                    whose[M] = { 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2 };
    static const uint32_t rest[B] = { 0, 7, 12 };
    float images[B * 3 * IMAGE * IMAGE], pred[M * LD], got[M * LD], threads[M * LD];
    for (size_t i = 0; i < B * 3 * IMAGE * IMAGE; i++)
        images[i] = number(20, i);
    for (size_t i = 0; i < M * LD; i++)
        pred[i] = number(21, i);
    pred[0] = images[0];
    tacit_work work = { .kernels = tacit_kernels_for(isas[_i]) };
    ck_assert_int_eq(tacit_pool_open(&work.pool, 3, NULL), TACIT_OK);
    tacit_simmim_loss_declare(B, &work);
    ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
    memcpy(got, pred, sizeof got);
    memcpy(threads, pred, sizeof pred);
    double pixels = M * PATCH * PATCH, whole, want = 0, share = 1 / (pixels + 1e-5) / 3;
    double loss =
        tacit_simmim_loss(&work, images, IMAGE, PATCH, 1, first, patches, pixels, got, LD) +
        tacit_simmim_loss(&work, images + 3 * IMAGE * IMAGE, IMAGE, PATCH, 2, rest, patches + 3,
                          pixels, got + 3 * LD, LD);
    whole = tacit_simmim_loss(&work, images, IMAGE, PATCH, B, first, patches, pixels, threads, LD);
    ck_assert_double_eq_tol(loss, whole, 1e-12);
    ck_assert_mem_eq(got, threads, sizeof got);
    for (size_t i = 0; i < M; i++)
        for (size_t v = 0; v < LD; v++) {
            size_t y = patches[i] / SIDE * PATCH + v % 9 / 3, x = patches[i] % SIDE * PATCH + v % 3;
            if (v >= V) {
                ck_assert(got[i * LD + v] == pred[i * LD + v]);
                continue;
            }
            double d = (double)pred[i * LD + v] -
                       (double)images[((whose[i] * 3 + v / 9) * IMAGE + y) * IMAGE + x];
            want += share * fabs(d);
            ck_assert(got[i * LD + v] == (d > 0 ? (float)share : d < 0 ? -(float)share : 0));
        }
    ck_assert_float_eq(got[0], 0);
    ck_assert_msg(fabs(loss - want) < 1e-6 * want, "%.9g, should be %.9g", loss, want);
    tacit_work_close(&work);
    tacit_pool_close(&work.pool);
}
END_TEST

/* The mean cross entropy of rows of logits in double. */
static double token_loss(size_t rows, size_t codes, const double *x, const uint32_t *tokens)
{
    double sum = 0;
    for (size_t i = 0; i < rows; i++) {
        double total = 0;
        for (size_t c = 0; c < codes; c++)
            total += exp(x[i * codes + c]);
        sum += log(total) - x[i * codes + tokens[i]];
    }
    return sum / (double)rows;
}

/* The definition, its differences, who is right, and the same bits with threads. */
START_TEST(tokens_loss)
{
    enum { ROWS = 37, CODES = 21, LD = 24 };
    float logits[ROWS * LD], got[ROWS * LD], threads[ROWS * LD];
    double wide[ROWS * CODES], accuracy[2] = { 0.5, 0.5 }, right = 0;
    uint32_t tokens[ROWS];
    for (size_t i = 0; i < ROWS * LD; i++)
        logits[i] = number(22, i);
    for (size_t i = 0; i < ROWS; i++) {
        float *row = logits + i * LD, most = 0;
        tokens[i] = (uint32_t)(i * 5 % CODES);
        if (i % 3 == 0) /* the first of equals */
            row[tokens[i]] = row[CODES - 1] = 3;
        for (size_t c = 0; c < CODES; c++) {
            wide[i * CODES + c] = (double)row[c];
            most = row[c] > most ? row[c] : most;
        }
        size_t first = 0;
        while (row[first] != most)
            first++;
        right += first == tokens[i];
    }
    ck_assert(right >= ROWS / 3 && right < ROWS);
    for (unsigned t = 0; t < 2; t++) {
        tacit_work work = { .kernels = tacit_kernels_for(isas[t ? isa_count - 1 : (size_t)_i]) };
        ck_assert_int_eq(tacit_pool_open(&work.pool, t ? 5 : 1, NULL), TACIT_OK);
        tacit_token_loss_declare(ROWS, &work);
        ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
        float *to = t ? threads : got;
        memcpy(to, logits, sizeof logits);
        double loss = tacit_token_loss(&work, ROWS, CODES, tokens, 0.25, to, LD, &accuracy[t]);
        ck_assert_double_eq_tol(loss, 0.25 * token_loss(ROWS, CODES, wide, tokens), 1e-6);
        ck_assert_double_eq_tol(accuracy[t], 0.5 + 0.25 * right / ROWS, 1e-12);
        ck_assert(tacit_token_loss(&work, 0, CODES, tokens, 1, to, LD, NULL) == 0);
        tacit_work_close(&work);
        tacit_pool_close(&work.pool);
    }
    ck_assert_mem_eq(got, threads, sizeof got);
    for (size_t i = 0; i < ROWS * LD; i++) {
        size_t row = i / LD, c = i % LD;
        if (c >= CODES) {
            ck_assert(got[i] == logits[i]);
            continue;
        }
        double *x = &wide[row * CODES + c], at = *x;
        *x = at + 1e-5;
        double above = token_loss(ROWS, CODES, wide, tokens);
        *x = at - 1e-5;
        double want = 0.25 * (above - token_loss(ROWS, CODES, wide, tokens)) / 2e-5;
        *x = at;
        ck_assert_double_eq_tol((double)got[i], want, 1e-8);
    }
}
END_TEST

/* Smooth L1 in double. */
static double smooth_l1(double d)
{
    return fabs(d) < 1 ? d * d / 2 : fabs(d) - 0.5;
}

/* By the definition, its gradient against differences of that, on both sides of 1 and at it; the
 * same bits with all threads, and nothing beside the rows is touched. */
/* Window by window, also where it is wider than the image; a plane of one value is all zeros. */
START_TEST(pixels_normalised_by_their_window)
{
    enum { SIZE = 13 };
    static const size_t windows[] = { 3, 5, 13, 25, 47 };
    size_t reach = windows[_i] / 2;
    float x[SIZE * SIZE], y[SIZE * SIZE], mean[SIZE * SIZE], root[SIZE * SIZE];
    double *scratch = tacit_alloc(tacit_norm_targets_scratch(SIZE) * sizeof *scratch);
    memset(scratch, 0xff, tacit_norm_targets_scratch(SIZE) * sizeof *scratch);
    for (size_t i = 0; i < SIZE * SIZE; i++)
        x[i] = tacit_rng_uniform(9, 1, i) * 4 - 1;
    tacit_norm_targets(SIZE, windows[_i], x, y, mean, root, scratch);
    for (size_t i = 0; i < SIZE * SIZE; i++) {
        double sum = 0, square = 0, n = 0;
        for (size_t j = 0; j < SIZE * SIZE; j++)
            if (j / SIZE + reach >= i / SIZE && j / SIZE <= i / SIZE + reach &&
                j % SIZE + reach >= i % SIZE && j % SIZE <= i % SIZE + reach) {
                sum += (double)x[j];
                n++;
            }
        for (size_t j = 0; j < SIZE * SIZE; j++)
            if (j / SIZE + reach >= i / SIZE && j / SIZE <= i / SIZE + reach &&
                j % SIZE + reach >= i % SIZE && j % SIZE <= i % SIZE + reach)
                square += ((double)x[j] - sum / n) * ((double)x[j] - sum / n);
        double want = sqrt(square / (n - 1) + 1e-6);
        ck_assert_double_eq_tol((double)mean[i], sum / n, 1e-6);
        ck_assert_double_eq_tol((double)root[i], want, 1e-6);
        ck_assert_double_eq_tol((double)y[i], ((double)x[i] - sum / n) / want, 1e-5);
    }
    for (size_t i = 0; i < SIZE * SIZE; i++)
        x[i] = 0.1f;
    tacit_norm_targets(SIZE, windows[_i], x, y, NULL, NULL, scratch);
    for (size_t i = 0; i < SIZE * SIZE; i++)
        ck_assert_double_eq_tol((double)y[i], 0, 1e-6);
    tacit_free(scratch);
}
END_TEST

START_TEST(smooth_l1_loss)
{
    enum { ROWS = 201, D = 19, LD = 24 };
    static float x[ROWS * LD], t[ROWS * LD], want[ROWS * LD], got[ROWS * LD];
    double sum = 0, factor = 0.125, h = 1e-6, first = 0;
    for (size_t i = 0; i < ROWS * LD; i++) {
        x[i] = want[i] = number(40, i);
        t[i] = number(41, i);
    }
    t[3] = x[3] - 1;
    t[4] = x[4] + 1;
    t[5] = x[5];
    for (size_t row = 0; row < ROWS; row++)
        for (size_t i = row * LD; i < row * LD + D; i++) {
            double d = (double)(x[i] - t[i]);
            sum += factor * smooth_l1(d);
            want[i] = (float)(factor * (smooth_l1(d + h) - smooth_l1(d - h)) / (2 * h));
        }
    for (unsigned threads = 1; threads <= 8; threads = threads == 3 ? 8 : threads + 1) {
        tacit_work work = { .kernels = tacit_kernels_for(isas[_i]) };
        ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
        tacit_smooth_l1_declare(ROWS, &work);
        ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
        memcpy(got, x, sizeof got);
        double loss = tacit_smooth_l1_loss(&work, ROWS, D, got, t, LD, factor);
        ck_assert(fabs(loss - sum) < 1e-12 * sum && (threads == 1 || loss == first));
        first = loss;
        for (size_t i = 0; i < ROWS * LD; i++)
            ck_assert_msg(fabs((double)(got[i] - want[i])) < (i % LD < D ? 1e-6 : 1e-30),
                          "%zu: %g, not %g", i, (double)got[i], (double)want[i]);
        tacit_work_close(&work);
        tacit_pool_close(&work.pool);
    }
}
END_TEST

int main(void)
{
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            isas[isa_count++] = (tacit_isa)i;
    Suite *suite = suite_create("losses");
    TCase *t = tcase_create("losses");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, ntxent_of_known_values, 0, (int)isa_count);
    tcase_add_loop_test(t, ntxent_gradient, 0, (int)isa_count);
    tcase_add_test(t, ntxent_same_bits);
    tcase_add_loop_test(t, mae_loss, 0, (int)(2 * isa_count));
    tcase_add_loop_test(t, simmim_loss, 0, (int)isa_count);
    tcase_add_loop_test(t, tokens_loss, 0, (int)isa_count);
    tcase_add_loop_test(t, smooth_l1_loss, 0, (int)isa_count);
    tcase_add_loop_test(t, pixels_normalised_by_their_window, 0, 5);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
