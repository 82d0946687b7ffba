/* test_hog.c - MaskFeat's targets against the published operator, 1,000 cases:
 * hog_golden.safetensors in data. */
#include "loss_hog.h"
#include "rng.h"
#include "safetensors.h"
#include "scratch.h"

#include <check.h>
#include <math.h>
#include <string.h>

/* As tests/golden/make_hog.py draws them. */
enum { CASES = 1000, SEED = 19, BINS = TACIT_HOG_BINS, MOST = 24 };

static tacit_safetensors *file;
static tacit_tensor_source source;
static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

static void setup(void)
{
    tacit_err err;
    ck_assert_msg(!tacit_safetensors_open(&file, golden("hog_golden.safetensors"), &err), "%s",
                  err.text);
    source = tacit_safetensors_source(file);
}

static void teardown(void)
{
    tacit_safetensors_close(&file);
}

/* A golden tensor's bytes, freed by the caller. */
static void *need(const char *name, size_t *bytes)
{
    for (size_t i = 0; i < source.count; i++) {
        const tacit_tensor *t = &source.tensors[i];
        if (strcmp(t->name, name))
            continue;
        void *raw = tacit_alloc(t->bytes);
        ck_assert_ptr_nonnull(raw);
        ck_assert_int_eq(source.read(source.ctx, i, 0, t->bytes, raw, NULL), TACIT_OK);
        *bytes = t->bytes;
        return raw;
    }
    ck_abort_msg("no tensor %s", name);
}

typedef struct hog_case {
    size_t height, width, cell;
    float pixels[3 * MOST * MOST];
} hog_case;

static void draw_case(size_t number, hog_case *c)
{
    uint32_t w[8];
    for (size_t i = 0; i < 8; i++)
        w[i] = tacit_rng_u32(SEED, 2 * number, i);
    c->cell = (const size_t[]){ 2, 4, 8, 8 }[w[0] % 4];
    c->height = c->cell * (1 + w[2] % 2) + w[3] % c->cell;
    c->width = c->cell + w[4] % (c->cell + c->cell / 2);
    for (size_t i = 0; i < 8; i++)
        w[i] = tacit_rng_u32(SEED, 2 * number + 1, i);
    size_t kind = tacit_rng_u32(SEED, 2 * number, 1) % 4, plane = c->height * c->width;
    for (size_t i = 0; i < 3 * plane; i++) {
        uint32_t bits = tacit_rng_u32(SEED, 2 * number + 1, 8 + i);
        int a = (int)(w[i / plane] % 7) - 3, b = (int)(w[3 + i / plane] % 7) - 3;
        int slope = a * (int)(i % plane / c->width) + b * (int)(i % plane % c->width);
        c->pixels[i] = kind == 0   ? (float)(bits >> 8) * 0x1p-22f - 2
                       : kind == 1 ? ((float)(bits & 255) - 115) / 58
                       : kind == 2 ? (float)((bits & 3) * 64) / 58
                                   : (float)slope / 16;
    }
}

/* FNV-1a of the bins of all pixels, which cells of one pixel show; 9 where the gradient is 0. */
static uint32_t hash_bins(const tacit_kernels *k, const hog_case *c)
{
    float bins[MOST * MOST * BINS];
    uint32_t hash = 2166136261;
    size_t plane = c->height * c->width;
    for (size_t channel = 0; channel < 3; channel++) {
        k->hog_f32(c->height, c->width, 1, c->pixels + channel * plane, c->width, bins, BINS);
        for (size_t i = 0; i < plane; i++) {
            uint32_t bin = 0;
            while (bin < BINS && bins[i * BINS + bin] <= 0)
                bin++;
            hash = (hash ^ bin) * 16777619;
        }
    }
    return hash;
}

/* Bins are equal. A histogram's value is one of float32: the gradients and their length are rounded
 * (3 halves of a unit in the last place), up to 64 of them are added, at most 8 + 8 additions deep,
 * and divided by a norm of 9 such: 2e-6 is well above 30 halves of 2^-24, and well below what a
 * pixel in another bin would do. */
START_TEST(as_the_published_operator)
{
    const tacit_kernels *k = tacit_kernels_for(isas[_i]);
    size_t hashes_size, hog_size, at = 0;
    uint32_t *hashes = need("bins", &hashes_size);
    float *want = need("hog", &hog_size);
    ck_assert_uint_eq(hashes_size, CASES * sizeof *hashes);
    for (size_t number = 0; number < CASES; number++) {
        hog_case c;
        float y[3 * MOST * MOST * BINS / 4];
        draw_case(number, &c);
        ck_assert_msg(hash_bins(k, &c) == hashes[number], "case %zu: other bins", number);
        size_t cells = (c.height / c.cell) * (c.width / c.cell), plane = c.height * c.width;
        for (size_t channel = 0; channel < 3; channel++) {
            float *to = y + channel * cells * BINS;
            k->hog_f32(c.height, c.width, c.cell, c.pixels + channel * plane, c.width, to, BINS);
            k->l2norm_f32(cells, BINS, to, BINS, to, BINS);
        }
        ck_assert_uint_le((at + 3 * BINS * cells) * sizeof *want, hog_size);
        for (size_t i = 0; i < 3 * BINS * cells; i++) { /* there (colour, bin, cell) */
            size_t channel = i / (BINS * cells), bin = i / cells % BINS, cell = i % cells;
            double got = (double)y[(channel * cells + cell) * BINS + bin];
            double error = fabs(got - (double)want[at++]);
            ck_assert_msg(error <= 2e-6, "case %zu, value %zu is off by %.3g", number, i, error);
        }
    }
    ck_assert_uint_eq(at * sizeof *want, hog_size);
    tacit_free(hashes), tacit_free(want);
}
END_TEST

/* Patches have their cells in the order (colour, bin, row, column). */
START_TEST(the_target_of_a_patch)
{
    enum { IMAGE = 16, PATCH = 8, CELL = 4, SIDE = IMAGE / CELL };
    const tacit_hog_target target = { IMAGE, PATCH, CELL };
    const tacit_kernels *k = tacit_kernels_for(TACIT_ISA_REF);
    float image[3 * IMAGE * IMAGE], cells[3 * SIDE * SIDE * BINS], values[108];
    for (size_t i = 0; i < 3 * IMAGE * IMAGE; i++)
        image[i] = tacit_rng_uniform(1, 2, i);
    ck_assert_uint_eq(tacit_hog_values(&target), 108);
    ck_assert_uint_eq(tacit_hog_image_values(&target), sizeof cells / sizeof *cells);
    tacit_hog_image(&target, k, image, cells);
    for (size_t patch = 0; patch < 4; patch++) {
        tacit_hog_patch(&target, cells, patch, values);
        for (size_t i = 0; i < 108; i++) {
            size_t channel = i / 36, bin = i / 4 % 9, y = patch / 2 * 2 + i / 2 % 2,
                   x = patch % 2 * 2 + i % 2;
            ck_assert(values[i] == cells[((channel * SIDE + y) * SIDE + x) * BINS + bin]);
        }
    }
}
END_TEST

/* The loss and its gradient by their definition, in parts and whole, with any threads. */
START_TEST(hog_loss)
{
    enum { IMAGE = 16, PATCH = 4, B = 3, VALUES = 27, LD = 30, ROWS = 6 };
    const tacit_hog_target target = { IMAGE, PATCH, 4 };
    static const uint32_t first[B + 1] = { 0, 2, 2, ROWS }, patches[ROWS] = { 3, 9, 0, 5, 10, 15 };
    float images[B * 3 * IMAGE * IMAGE], cells[3 * 16 * BINS], values[VALUES];
    float predictions[ROWS * LD], got[ROWS * LD];
    tacit_pool *pool = NULL;
    tacit_err err;
    ck_assert_int_eq(tacit_pool_open(&pool, 1 + (unsigned)_i / (unsigned)isa_count, &err),
                     TACIT_OK);
    tacit_work work = { .kernels = tacit_kernels_for(isas[(size_t)_i % isa_count]), .pool = pool };
    for (size_t i = 0; i < B * 3 * IMAGE * IMAGE; i++)
        images[i] = tacit_rng_uniform(3, 4, i);
    for (size_t i = 0; i < ROWS * LD; i++)
        got[i] = predictions[i] = tacit_rng_uniform(3, 5, i);
    tacit_hog_loss_declare(&target, B, &work);
    ck_assert_msg(!tacit_work_open(&work, &err), "%s", err.text);
    double want = 0, share = 0.25;
    double loss = tacit_hog_loss(&target, &work, images, B, first, patches, share, got, LD);
    for (size_t i = 0; i < B; i++)
        for (size_t row = first[i]; row < first[i + 1]; row++) {
            tacit_hog_image(&target, work.kernels, images + i * 3 * IMAGE * IMAGE, cells);
            tacit_hog_patch(&target, cells, patches[row], values);
            for (size_t v = 0; v < LD; v++) {
                double p = (double)predictions[row * LD + v], g = (double)got[row * LD + v];
                double d = v < VALUES ? p - (double)values[v] : 0;
                want += share * d * d / (ROWS * VALUES);
                if (v < VALUES)
                    ck_assert_double_eq_tol(g, 2 * share * d / (ROWS * VALUES), 1e-9);
                else
                    ck_assert(got[row * LD + v] == predictions[row * LD + v]);
            }
        }
    ck_assert_double_eq_tol(loss, want, 1e-7 * want);
    static const uint32_t none[B + 1] = { 0 };
    ck_assert(tacit_hog_loss(&target, &work, images, B, none, NULL, 1, got, LD) == 0);
    tacit_work_close(&work);
    tacit_pool_close(&pool);
}
END_TEST

int main(void)
{
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            isas[isa_count++] = (tacit_isa)i;
    Suite *suite = suite_create("hog");
    TCase *tests = tcase_create("hog");
    tcase_set_timeout(tests, 0);
    tcase_add_unchecked_fixture(tests, setup, teardown);
    tcase_add_loop_test(tests, as_the_published_operator, 0, (int)isa_count);
    tcase_add_test(tests, the_target_of_a_patch);
    tcase_add_loop_test(tests, hog_loss, 0, (int)(3 * isa_count));
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
