/* test_vit_golden.c - the network against timm's: data/vit_weights.safetensors (F16 matrices, F32
 * vectors) on the images of data/vit_golden.safetensors, made by golden/make_vit.py in double
 * precision. With layer scale and without, every kind of feature, on every ISA. */
#include "mem.h"
#include "safetensors.h"
#include "scratch.h"
#include "vit.h"

#include <math.h>
#include <string.h>

/* Of the largest value of an image's features; twice the largest error seen. */
#define TOLERANCE 1e-6

enum { BATCH = 2, SIDE = 32, DIM = 44, PATCHES = 16 };

static tacit_safetensors *weights, *expected;
static tacit_tensor_source weights_source, expected_source;

static void setup(void)
{
    tacit_err err;
    ck_assert_msg(!tacit_safetensors_open(&weights, golden("vit_weights.safetensors"), &err), "%s",
                  err.text);
    ck_assert_msg(!tacit_safetensors_open(&expected, golden("vit_golden.safetensors"), &err), "%s",
                  err.text);
    weights_source = tacit_safetensors_source(weights);
    expected_source = tacit_safetensors_source(expected);
}

static void teardown(void)
{
    tacit_safetensors_close(&weights);
    tacit_safetensors_close(&expected);
}

static void *read_tensor(const char *name, tacit_dtype dtype, size_t count)
{
    for (size_t i = 0; i < expected_source.count; i++) {
        const tacit_tensor *t = &expected_source.tensors[i];
        if (strcmp(t->name, name))
            continue;
        ck_assert_int_eq(t->dtype, dtype);
        ck_assert_uint_eq(t->bytes, count * tacit_dtype_size(dtype));
        void *values = tacit_alloc(t->bytes);
        ck_assert_ptr_nonnull(values);
        ck_assert_int_eq(expected_source.read(expected_source.ctx, i, 0, t->bytes, values, NULL),
                         TACIT_OK);
        return values;
    }
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

/* Every value of `got` is close to the expected one; `want` and `got` have rows of their own
 * lengths apart. */
static void check(const char *what, tacit_isa isa, const float *got, size_t got_row,
                  const float *want, size_t n)
{
    for (size_t b = 0; b < BATCH; b++) {
        double largest = 0, error = 0;
        for (size_t i = 0; i < n; i++) {
            double g = (double)got[b * got_row + i], w = (double)want[b * n + i];
            ck_assert(isfinite(g));
            largest = fmax(largest, fabs(w));
            error = fmax(error, fabs(g - w));
        }
        ck_assert_msg(error <= TOLERANCE * largest, "%s, %s, image %zu: error %.3g of %.3g", what,
                      tacit_isa_name(isa), b, error, largest);
    }
}

static void forward(const tacit_vit *vit, const float *images, tacit_features features, float *out,
                    size_t count, tacit_pool *pool)
{
    ck_assert_uint_eq(tacit_vit_feature_count(vit, features), count);
    void *scratch_memory = tacit_alloc(tacit_vit_scratch(vit, BATCH, pool));
    ck_assert_ptr_nonnull(scratch_memory);
    tacit_vit_forward(vit, images, BATCH, features, out, scratch_memory, pool);
    tacit_free(scratch_memory);
}

static void compare(const char *variant, bool layer_scale, const tacit_tensor_source *source,
                    tacit_isa isa)
{
    char cls_name[32], mean_name[32], patch_name[32];
    snprintf(cls_name, sizeof cls_name, "%s.cls", variant);
    snprintf(mean_name, sizeof mean_name, "%s.mean", variant);
    snprintf(patch_name, sizeof patch_name, "%s.patch", variant);
    uint16_t *half = read_tensor("images", TACIT_F16, BATCH * 3 * SIDE * SIDE);
    float *cls = read_tensor(cls_name, TACIT_F32, BATCH * DIM);
    float *mean = read_tensor(mean_name, TACIT_F32, BATCH * DIM);
    float *patch = read_tensor(patch_name, TACIT_F32, BATCH * PATCHES * DIM);
    static float images[BATCH * 3 * SIDE * SIDE], out[BATCH * PATCHES * DIM];
    const tacit_kernels *kernels = tacit_kernels_for(isa);
    kernels->f16_to_f32(BATCH * 3 * SIDE * SIDE, half, images);

    tacit_vit_config config = { .dim = DIM,
                                .depth = 2,
                                .heads = 4,
                                .mlp = 110,
                                .patch = 8,
                                .height = SIDE,
                                .width = SIDE,
                                .layer_scale = layer_scale,
                                .eps = 1e-6f };
    tacit_pool *pool;
    tacit_vit *vit;
    tacit_err err;
    ck_assert_int_eq(tacit_pool_open(&pool, 2, NULL), TACIT_OK);
    ck_assert_msg(!tacit_vit_open(&vit, &config, source, kernels, pool, &err), "%s", err.text);
    forward(vit, images, TACIT_FEATURES_CLS, out, DIM, pool);
    check(cls_name, isa, out, DIM, cls, DIM);
    forward(vit, images, TACIT_FEATURES_MEAN, out, DIM, pool);
    check(mean_name, isa, out, DIM, mean, DIM);
    forward(vit, images, TACIT_FEATURES_CLS_MEAN, out, 2 * DIM, pool);
    check(cls_name, isa, out, 2 * DIM, cls, DIM);
    check(mean_name, isa, out + DIM, 2 * DIM, mean, DIM);
    forward(vit, images, TACIT_FEATURES_PATCH, out, PATCHES * DIM, pool);
    check(patch_name, isa, out, PATCHES * DIM, patch, PATCHES * DIM);
    tacit_vit_close(&vit);
    tacit_pool_close(&pool);
    tacit_free(half);
    tacit_free(cls);
    tacit_free(mean);
    tacit_free(patch);
}

static void on_every_isa(const char *variant, bool layer_scale, const tacit_tensor_source *source)
{
    for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            compare(variant, layer_scale, source, (tacit_isa)isa);
}

START_TEST(with_layer_scale_as_timm)
{
    on_every_isa("scaled", true, &weights_source);
}
END_TEST

/* The same weights but for ls1.gamma and ls2.gamma. */
typedef struct without_scale {
    size_t index[64]; /* in the whole source */
    tacit_tensor tensors[64];
} without_scale;

static tacit_status read_rest(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                              tacit_err *err)
{
    const without_scale *rest = ctx;
    return weights_source.read(weights_source.ctx, rest->index[i], offset, size, dst, err);
}

START_TEST(without_layer_scale_as_timm)
{
    static without_scale rest;
    tacit_tensor_source source = { .tensors = rest.tensors, .read = read_rest, .ctx = &rest };
    for (size_t i = 0; i < weights_source.count; i++)
        if (!strstr(weights_source.tensors[i].name, ".ls")) {
            ck_assert_uint_lt(source.count, 64);
            rest.index[source.count] = i;
            rest.tensors[source.count++] = weights_source.tensors[i];
        }
    ck_assert_uint_eq(weights_source.count - source.count, 4);
    on_every_isa("plain", false, &source);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vit_golden");
    TCase *tcase = tcase_create("timm");
    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, with_layer_scale_as_timm);
    tcase_add_test(tcase, without_layer_scale_as_timm);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
