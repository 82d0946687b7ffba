/* test_dvae.c - what a discrete VAE is made of: Gumbel noise, its losses and the count of its codes
 * against definitions in double, gradients against differences of those; the same bits for any ISA
 * and number of threads. test_trainer.c holds the whole against PyTorch.
 */
#include "code_use.h"
#include "gumbel.h"
#include "loss_dvae.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

static float number(uint64_t stream, uint64_t i)
{
    return 4 * tacit_rng_uniform(3, stream, i) - 2;
}

/* Noise --------------------------------------------------------------------------------------- */

START_TEST(gumbel_as_defined)
{
    enum { N = 100003 };
    float *got = tacit_alloc(N * sizeof *got), less[5];
    double sum = 0;
    ck_assert_ptr_nonnull(got);
    tacit_gumbel(7, 99, N, got);
    for (size_t i = 0; i < N; i++) {
        double u = ((double)(tacit_rng_u32(7, 99, i) >> 9) + 0.5) * 0x1p-23;
        double want = -log(-log(u));
        ck_assert_msg(fabs((double)got[i] - want) < 1e-6 * fmax(1, fabs(want)), "%g, not %g",
                      (double)got[i], want);
        sum += want;
    }
    ck_assert_double_eq_tol(sum / N, 0.5772156649, 0.02); /* Euler's constant is its mean */
    tacit_gumbel(7, 99, 5, less);
    ck_assert(!memcmp(less, got, sizeof less));
    tacit_free(got);
}
END_TEST

/* Losses -------------------------------------------------------------------------------------- */

enum { ROWS = 37, CODES = 23 };

static double kl(const double *x, size_t rows)
{
    double sum = 0;
    for (size_t row = 0; row < rows; row++, x += CODES) {
        double all = 0;
        for (size_t k = 0; k < CODES; k++)
            all += exp(x[k]);
        for (size_t k = 0; k < CODES; k++)
            sum += exp(x[k]) / all * (x[k] - log(all) + log((double)CODES));
    }
    return sum;
}

static double square(const double *x, const float *t, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (x[i] - (double)t[i]) * (x[i] - (double)t[i]);
    return sum;
}

/* Both losses of x (ROWS, CODES); which becomes the gradient. */
static double run(int of, tacit_isa isa, unsigned threads, float *x, const float *t)
{
    tacit_work work = { .kernels = tacit_kernels_for(isa) };
    ck_assert_int_eq(tacit_pool_open(&work.pool, threads, NULL), TACIT_OK);
    tacit_dvae_loss_declare(ROWS, ROWS, CODES, &work);
    ck_assert_int_eq(tacit_work_open(&work, NULL), TACIT_OK);
    double value = of ? tacit_uniform_kl_loss(&work, ROWS, CODES, x, 0.5, 2)
                      : tacit_square_loss(&work, ROWS, CODES, x, t, 0.25);
    tacit_work_close(&work);
    tacit_pool_close(&work.pool);
    return value;
}

static void begin(float *x, float *t, int scale)
{
    for (size_t i = 0; i < ROWS * CODES; i++) {
        x[i] = number(1, i) * (float)scale;
        t[i] = number(2, i);
    }
}

/* At logits of usual size, and where one code has all. */
START_TEST(losses_as_defined)
{
    float x[ROWS * CODES], t[ROWS * CODES], d[ROWS * CODES];
    double wide[ROWS * CODES];
    int of = _i % 2, scale = _i / 2 ? 20 : 1;
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    begin(x, t, scale);
    for (size_t i = 0; i < ROWS * CODES; i++)
        wide[i] = (double)x[i];
    memcpy(d, x, sizeof d);
    double got = run(of, isa, 2, d, t);
    double want = of ? 2 * kl(wide, ROWS) : 0.25 * square(wide, t, ROWS * CODES);
    ck_assert_double_eq_tol(got / want, 1, 1e-6);
    for (size_t i = 0; i < ROWS * CODES; i++) {
        const double h = 1e-5, at = wide[i], *row = wide + i / CODES * CODES;
        double sides[2];
        for (int s = 0; s < 2; s++) {
            wide[i] = at + (s ? -h : h);
            sides[s] = of ? kl(row, 1) /* 0.5 times 2 */ : 0.25 * square(&wide[i], &t[i], 1);
        }
        wide[i] = at;
        ck_assert_double_eq_tol((double)d[i], (sides[0] - sides[1]) / (2 * h), 3e-6 * scale);
    }
}
END_TEST

START_TEST(same_bits)
{
    static const unsigned threads[] = { 1, 3, 8 };
    float want[ROWS * CODES], got[ROWS * CODES], t[ROWS * CODES];
    begin(want, t, 1);
    double value = run(_i, TACIT_ISA_REF, 1, want, t);
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        for (size_t n = 0; tacit_isa_available((tacit_isa)isa) && n < 3; n++) {
            begin(got, t, 1);
            ck_assert(run(_i, (tacit_isa)isa, threads[n], got, t) == value);
            ck_assert(!memcmp(got, want, sizeof got));
        }
}
END_TEST

/* A choice that prefers nothing is no loss, one of a single code log(codes). */
START_TEST(kl_of_known_values)
{
    float x[ROWS * CODES] = { 0 };
    ck_assert_double_eq_tol(run(1, TACIT_ISA_REF, 1, x, NULL), 0, 1e-5);
    for (size_t i = 0; i < ROWS * CODES; i++) {
        ck_assert_float_eq_tol(x[i], 0, 1e-7f);
        x[i] = i % CODES == 3 ? 200 : 0;
    }
    ck_assert_double_eq_tol(run(1, TACIT_ISA_REF, 1, x, NULL), 2 * ROWS * log(CODES), 1e-4);
}
END_TEST

/* Of 30 codes less than 3, of 10 choices, too, but not one; a single code always. */
START_TEST(too_few_codes_are_told)
{
    static const struct {
        size_t codes, choices, used;
        bool told;
    } cases[] = { { 30, 60, 2, true }, { 30, 60, 3, false }, { 30, 10, 2, false },
                  { 4, 60, 1, true },  { 4, 60, 2, false },  { 30, 60, 0, false },
                  { 2, 1, 1, true },   { 1000, 50, 4, true } };
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        float hits[1000] = { 0 };
        tacit_param param = { .value = hits, .count = cases[c].codes };
        const tacit_code_use use = { .codes = cases[c].codes, .hits = &param };
        char text[100], want[100];
        for (size_t i = 0; i < cases[c].used; i++)
            hits[3 * i % cases[c].codes] += (float)(i ? 1 : cases[c].choices + 1 - cases[c].used);
        snprintf(want, sizeof want, "all tokens of the epoch are %zu of %zu codes", cases[c].used,
                 cases[c].codes);
        ck_assert_msg(tacit_code_use_collapsed(&use, text, sizeof text) == cases[c].told, "%zu", c);
        ck_assert(!cases[c].told || !strcmp(text, want));
    }
}
END_TEST

/* Codes --------------------------------------------------------------------------------------- */

START_TEST(codes_are_counted)
{
    static const uint32_t first[] = { 0, 0, 1, 1 }, second[] = { 0, 1, 2, 2 };
    tacit_params memory = { .fixed = true };
    tacit_code_use use;
    tacit_arena arena;
    size_t total = 0;
    double share, perplexity;
    ck_assert_int_eq(tacit_code_use_declare(&use, 5, &memory, NULL), TACIT_OK);
    ck_assert_int_eq(tacit_params_open(&memory, 0, NULL), TACIT_OK);
    ck_assert(tacit_code_use_plan(&use, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    tacit_code_use_take(&use, &arena);
    for (int again = 0; again < 2; again++) {
        tacit_code_use_epoch(&use);
        tacit_code_use_begin(&use);
        tacit_code_use_count(&use, 4, first);
        tacit_code_use_tell(&use, &share, &perplexity);
        ck_assert_double_eq_tol(share, 0.4, 1e-12);
        ck_assert_double_eq_tol(perplexity, 2, 1e-12);
        tacit_code_use_keep(&use);
        tacit_code_use_begin(&use); /* of the next step, of two parts */
        tacit_code_use_count(&use, 2, second);
        tacit_code_use_count(&use, 2, second + 2);
        tacit_code_use_tell(&use, &share, &perplexity);
        ck_assert_double_eq_tol(share, 0.6, 1e-12);
        ck_assert_double_eq_tol(log(perplexity), 2 * 0.375 * log(8.0 / 3) + 0.25 * log(4), 1e-12);
    }
    tacit_arena_close(&arena);
    tacit_params_close(&memory);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dvae");
    TCase *t = tcase_create("dvae");
    tcase_add_test(t, gumbel_as_defined);
    tcase_add_loop_test(t, losses_as_defined, 0, 4);
    tcase_add_loop_test(t, same_bits, 0, 2);
    tcase_add_test(t, kl_of_known_values);
    tcase_add_test(t, codes_are_counted);
    tcase_add_test(t, too_few_codes_are_told);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
