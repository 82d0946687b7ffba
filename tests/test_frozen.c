/* test_frozen.c - a frozen backbone as a source of targets: its features are those of the backbone
 * on the same pixels, of a ViT and of a ResNet, for views of another size and normalisation as of a
 * formula in double; the same bits on every ISA, with any number of threads, of any batch; files
 * that are not there, do not fit or are not the run's. test_trainer has it against PyTorch.
 */
#include "frozen.h"
#include "pretrain_feed.h"
#include "weights.h"

#include <math.h>

enum { GRID = 4, MOST = 21 }; /* more than go through at once */

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

typedef struct source {
    tacit_config config;
    tacit_work work;
    tacit_arena arena;
    tacit_frozen frozen;
    tacit_err err;
} source;

static tacit_status source_declare(source *s, const char *file, const char *normalise, size_t image,
                                   size_t grid, tacit_isa isa, unsigned threads)
{
    char text[TACIT_SETTING_TEXT];
    *s = (source){ .work = { .kernels = tacit_kernels_for(isa) }, .err = { "" } };
    config_open(&s->config, "maskfeat", (const char *const[]){ NULL });
    snprintf(text, sizeof text, "target=%s", file);
    config_set(&s->config, text);
    snprintf(text, sizeof text, "normalise=%s", normalise);
    config_set(&s->config, text);
    ck_assert_int_eq(tacit_pool_open(&s->work.pool, threads, &s->err), TACIT_OK);
    return tacit_frozen_declare(&s->frozen, &s->config, "target", image, grid, MOST, &s->work,
                                &s->err);
}

static void source_open(source *s, const char *file, const char *normalise, size_t image,
                        tacit_isa isa, unsigned threads)
{
    size_t total = 0;
    ck_assert_msg(!source_declare(s, file, normalise, image, GRID, isa, threads), "%s",
                  s->err.text);
    ck_assert(tacit_frozen_plan(&s->frozen, &total));
    ck_assert_int_eq(tacit_arena_open(&s->arena, total, &s->err), TACIT_OK);
    tacit_frozen_take(&s->frozen, &s->arena);
    ck_assert_uint_eq(s->arena.used, total);
}

static void source_close(source *s)
{
    tacit_frozen_close(&s->frozen);
    tacit_arena_close(&s->arena);
    tacit_pool_close(&s->work.pool);
    tacit_config_close(&s->config);
}

static float *made_up(size_t count)
{
    float *x = tacit_alloc(count * sizeof *x);
    ck_assert_ptr_nonnull(x);
    for (size_t i = 0; i < count; i++)
        x[i] = tacit_rng_uniform(5, 1, i) * 4 - 2;
    return x;
}

static const struct {
    const char *file, *normalise; /* as published */
    size_t side, dim;             /* of the input with GRID patches in a row */
} files[] = { { "data/frozen_weights.safetensors", "imagenet", 20, 64 },
              { "default", "none", 32, 256 } };

/* Views as the backbone takes them are not touched. */
START_TEST(features_of_the_backbone)
{
    source s;
    size_t side = files[_i].side, n = GRID * GRID * files[_i].dim;
    const char *file = _i ? "default" : golden(files[_i].file + 5);
    float *x = made_up(MOST * 3 * side * side);
    source_open(&s, file, files[_i].normalise, side, isas[isa_count - 1], 2);
    ck_assert_uint_eq(s.frozen.dim, files[_i].dim);
    ck_assert_uint_eq(s.frozen.patches, GRID * GRID);
    ck_assert_ptr_null(s.frozen.match.input);
    const float *got = tacit_frozen_forward(&s.frozen, x, MOST);
    float *want = tacit_alloc(n * sizeof *want);
    void *scratch = tacit_alloc(tacit_backbone_scratch(s.frozen.backbone, 1, NULL));
    for (size_t i = 0; i < MOST; i++) {
        tacit_backbone_forward(s.frozen.backbone, x + i * 3 * side * side, 1, TACIT_FEATURES_PATCH,
                               want, scratch, NULL);
        ck_assert_mem_eq(got + i * n, want, n * sizeof *want);
    }
    /* Whole images for each of two threads, and with room for that a part of each layer. */
    const tacit_backbone *b = s.frozen.backbone;
    tacit_pool *pool = s.work.pool;
    static const size_t batches[] = { 1, 3, 4, 5, MOST };
    float *all = tacit_alloc(MOST * n * sizeof *all);
    void *room = tacit_alloc(tacit_backbone_scratch(b, MOST, pool));
    for (size_t k = 0; k < 5; k++) {
        void *own = tacit_alloc(tacit_backbone_scratch(b, batches[k], pool));
        for (size_t part = 0; part < 2; part++) {
            memset(all, 0, MOST * n * sizeof *all);
            tacit_backbone_forward(b, x, batches[k], TACIT_FEATURES_PATCH, all, part ? room : own,
                                   pool);
            ck_assert_mem_eq(all, got, batches[k] * n * sizeof *all);
        }
        tacit_free(own);
    }
    tacit_free(all), tacit_free(room);
    ck_assert_double_gt(tacit_frozen_flops(&s.frozen), 1e5);
    tacit_free(x), tacit_free(want), tacit_free(scratch);
    source_close(&s);
}
END_TEST

/* A view of constant colour stays one when it is resized; each has the colour that it had. */
START_TEST(pixels_of_the_backbone)
{
    static const double cifar[2][3] = { { 0.4914, 0.4822, 0.4465 }, { 0.2023, 0.1994, 0.2010 } };
    static const double published[2][2][3] = { { { 0.485, 0.456, 0.406 }, { 0.229, 0.224, 0.225 } },
                                               { { 0, 0, 0 }, { 1, 1, 1 } } };
    source s;
    size_t image = 16, side = files[_i].side;
    const char *file = _i ? "default" : golden(files[_i].file + 5);
    float *x = tacit_alloc(3 * image * image * sizeof *x);
    source_open(&s, file, "cifar", image, isas[isa_count - 1], 2);
    for (size_t i = 0; i < 3 * image * image; i++)
        x[i] = 0.25f * (float)(i / (image * image) + 1);
    tacit_frozen_forward(&s.frozen, x, 1);
    for (size_t i = 0; i < 3 * side * side; i++) {
        size_t c = i / (side * side);
        double value = 0.25 * (double)(c + 1) * cifar[1][c] + cifar[0][c];
        double want = (value - published[_i][0][c]) / published[_i][1][c];
        ck_assert_double_eq_tol((double)s.frozen.match.input[i], want, 1e-6);
    }
    tacit_free(x);
    source_close(&s);
}
END_TEST

START_TEST(same_bits)
{
    static const unsigned threads[] = { 1, 2, 3, 8 };
    enum { IMAGE = 16, VALUES = 3 * IMAGE * IMAGE };
    source s;
    const char *file = _i ? "default" : golden(files[_i].file + 5);
    size_t n = GRID * GRID * files[_i].dim;
    float *x = made_up(MOST * VALUES), *want = tacit_alloc(MOST * n * sizeof *want);
    source_open(&s, file, "half", IMAGE, isas[0], 1);
    for (size_t i = 0; i < MOST; i++)
        memcpy(want + i * n, tacit_frozen_forward(&s.frozen, x + i * VALUES, 1), n * sizeof *want);
    source_close(&s);
    for (size_t i = 0; i < isa_count; i++) {
        source_open(&s, file, "half", IMAGE, isas[i], threads[i % 4]);
        uint64_t allocations = tacit_alloc_count();
        ck_assert_mem_eq(tacit_frozen_forward(&s.frozen, x, MOST), want, MOST * n * sizeof *want);
        ck_assert_uint_eq(tacit_alloc_count(), allocations);
        source_close(&s);
    }
    for (size_t t = 0; t < 4; t++) {
        source_open(&s, file, "half", IMAGE, isas[isa_count - 1], threads[t]);
        ck_assert_mem_eq(tacit_frozen_forward(&s.frozen, x, 3), want, 3 * n * sizeof *want);
        source_close(&s);
    }
    tacit_free(x), tacit_free(want);
}
END_TEST

static void refused(const char *file, size_t grid, tacit_status want, const char *says)
{
    source s;
    ck_assert_int_eq(source_declare(&s, file, "imagenet", 16, grid, isas[0], 1), want);
    ck_assert_msg(strstr(s.err.text, "target: ") == s.err.text && strstr(s.err.text, says) != NULL,
                  "%s", s.err.text);
    source_close(&s);
}

START_TEST(files_that_do_not_fit)
{
    file_put(scratch("text"), "no weights", 10);
    refused(scratch("none"), GRID, TACIT_EIO, "none");
    refused(scratch("text"), GRID, TACIT_EFORMAT, "text");
    refused("default", 3000, TACIT_EINVAL, "3000 x 3000 patches of 8 pixels are too large");
}
END_TEST

/* The hash is the run's; the path is not. */
START_TEST(the_file_of_the_run)
{
    source s;
    tacit_frozen other;
    char hash[TACIT_SETTING_TEXT];
    ck_assert_msg(
        !source_declare(&s, golden("frozen_weights.safetensors"), "imagenet", 16, GRID, isas[0], 1),
        "%s", s.err.text);
    snprintf(hash, sizeof hash, "%s", tacit_config_string(&s.config, "target_xxh3"));
    ck_assert_uint_eq(strlen(hash), 16);
    tacit_frozen_close(&s.frozen);
    config_set(&s.config, "target=default");
    ck_assert_int_eq(
        tacit_frozen_declare(&other, &s.config, "target", 16, GRID, 2, &s.work, &s.err),
        TACIT_ECONFLICT);
    ck_assert_msg(strstr(s.err.text, hash) != NULL, "%s", s.err.text);
    tacit_frozen_close(&other);
    ck_assert_int_eq(tacit_frozen_none(&s.config, "target", &s.err), TACIT_ECONFLICT);
    config_set(&s.config, "target_xxh3=");
    ck_assert_int_eq(tacit_frozen_none(&s.config, "target", &s.err), TACIT_OK);
    ck_assert_str_eq(tacit_config_string(&s.config, "target_xxh3"), "");
    s.frozen = (tacit_frozen){ 0 };
    source_close(&s);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("frozen");
    TCase *tests = tcase_create("frozen");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, scratch_open, scratch_close);
    tcase_add_loop_test(tests, features_of_the_backbone, 0, 2);
    tcase_add_loop_test(tests, pixels_of_the_backbone, 0, 2);
    tcase_add_loop_test(tests, same_bits, 0, 2);
    tcase_add_test(tests, files_that_do_not_fit);
    tcase_add_test(tests, the_file_of_the_run);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
