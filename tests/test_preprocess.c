/* test_preprocess.c - resize, crop and normalise against Pillow's, torchvision's and timm's results
 * in golden/resize.txt and golden/resize_tensor.txt. */
#include "mem.h"
#include "pool.h"
#include "preprocess.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

static const float mean[3] = { 0.485f, 0.456f, 0.406f }, std[3] = { 0.229f, 0.224f, 0.225f };
static uint8_t *rgb; /* the picture of the moment; freed by the next */

/* The same picture as make_resize.py's. */
static const uint8_t *picture(size_t w, size_t h)
{
    size_t n = w * h * 3;
    tacit_free(rgb);
    rgb = tacit_alloc(n + 16);
    ck_assert_ptr_nonnull(rgb);
    for (size_t i = 0; i < n; i += 16) {
        uint32_t words[4];
        tacit_philox(w, h, i / 16, words);
        for (size_t j = 0; j < 16; j++) {
            uint8_t byte = (uint8_t)(words[j / 4] >> j % 4 * 8);
            rgb[i + j] = (w + h) % 2 ? (byte & 128 ? 255 : 0) : byte;
        }
    }
    return rgb;
}

static FILE *golden(const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/%s", getenv("TACIT_SOURCE"), name);
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    return f;
}

/* Calls test(kernels, pool, line) for each line of the file that is of that kind, on every ISA. */
static void each_line(const char *name, const char *kind,
                      void (*test)(const tacit_kernels *, tacit_pool *, const char *, unsigned))
{
    tacit_pool *pool;
    ck_assert_int_eq(tacit_pool_open(&pool, 3, NULL), TACIT_OK);
    FILE *f = golden(name);
    char line[512];
    unsigned lines = 0;
    while (fgets(line, sizeof line, f)) {
        if (strncmp(line, kind, strlen(kind)) || line[strlen(kind)] != ' ')
            continue;
        /* ref, which is slow, on some: test_kernels has it agree with the others. */
        for (unsigned isa = lines % 5 ? TACIT_ISA_REF + 1 : TACIT_ISA_REF; isa < TACIT_ISA_COUNT;
             isa++)
            if (tacit_isa_available((tacit_isa)isa))
                test(tacit_kernels_for((tacit_isa)isa), lines % 2 ? pool : NULL, line, lines);
        lines++;
    }
    fclose(f);
    tacit_pool_close(&pool);
    ck_assert_uint_gt(lines, 40);
}

static void resize_line(const tacit_kernels *kernels, tacit_pool *pool, const char *line,
                        unsigned number)
{
    (void)number;
    unsigned pillow;
    size_t w, h, ow, oh;
    unsigned long long want[3];
    ck_assert_int_eq(sscanf(line, "resize %u %zu %zu %zu %zu %llx %llx %llx", &pillow, &w, &h, &ow,
                            &oh, &want[0], &want[1], &want[2]),
                     8);
    picture(w, h);
    uint8_t *out = tacit_alloc(ow * oh * 3);
    for (unsigned filter = 0; filter < 3; filter++) {
        tacit_err err;
        ck_assert_int_eq(tacit_resize_rgb8(kernels, rgb, w, h, out, ow, oh, (tacit_filter)filter,
                                           pillow, pool, &err),
                         TACIT_OK);
        ck_assert_msg(XXH3_64bits(out, ow * oh * 3) == want[filter], "%s, filter %u of: %s",
                      tacit_isa_name(kernels->isa), filter, line);
    }
    tacit_free(out);
}

START_TEST(resizes_as_pillow)
{
    each_line("resize.txt", "resize", resize_line);
}
END_TEST

static void recipe_line(const tacit_kernels *kernels, tacit_pool *pool, const char *line,
                        unsigned number)
{
    (void)number;
    unsigned squash, filter;
    size_t w, h;
    tacit_recipe r = { 0 };
    unsigned long long bytes, floats;
    ck_assert_int_eq(sscanf(line, "recipe %u %zu %zu %u %u %u %u %u %llx %llx", &r.pillow, &w, &h,
                            &r.resize_height, &squash, &r.height, &r.width, &filter, &bytes,
                            &floats),
                     10);
    memcpy(r.mean, mean, sizeof mean);
    memcpy(r.std, std, sizeof std);
    r.squash = squash != 0;
    r.resize_width = r.resize_height;
    r.filter = (tacit_filter)filter;
    picture(w, h);
    size_t n = (size_t)r.width * r.height * 3;
    uint8_t *out = tacit_alloc(n);
    float *planar = tacit_alloc(n * sizeof *planar);
    tacit_preprocessor *pre;
    tacit_err err;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, kernels, &err), TACIT_OK);
    ck_assert_int_eq(tacit_preprocess_rgb8(pre, rgb, w, h, out, pool, &err), TACIT_OK);
    ck_assert_msg(XXH3_64bits(out, n) == bytes, "%s, bytes of: %s", tacit_isa_name(kernels->isa),
                  line);
    ck_assert_int_eq(tacit_preprocess(pre, rgb, w, h, planar, pool, &err), TACIT_OK);
    ck_assert_msg(XXH3_64bits(planar, n * sizeof *planar) == floats, "%s, floats of: %s",
                  tacit_isa_name(kernels->isa), line);
    tacit_preprocessor_close(&pre);
    tacit_free(out);
    tacit_free(planar);
}

START_TEST(preprocesses_as_torchvision)
{
    each_line("resize.txt", "recipe", recipe_line);
}
END_TEST

/* A line of resize_tensor.txt: the recipe of both kinds, the picture made, and what follows. */
static const char *tensor_recipe(const char *line, tacit_recipe *r, size_t *w, size_t *h)
{
    unsigned squash, lower, filter;
    int end = 0;
    *r = (tacit_recipe){ 0 };
    ck_assert_int_eq(sscanf(line, "%*s %u %zu %zu %u %u %u %u %u %u %u%n", &r->pillow, w, h,
                            &r->resize_height, &r->resize_width, &squash, &r->height, &r->width,
                            &lower, &filter, &end),
                     10);
    memcpy(r->mean, mean, sizeof mean);
    memcpy(r->std, std, sizeof std);
    r->squash = squash != 0;
    r->floor_crop = lower != 0;
    r->filter = (tacit_filter)filter;
    picture(*w, *h);
    return line + end;
}

static void bytes_line(const tacit_kernels *kernels, tacit_pool *pool, const char *line,
                       unsigned number)
{
    (void)number;
    tacit_recipe r;
    tacit_err err;
    size_t w, h;
    unsigned long long want = strtoull(tensor_recipe(line, &r, &w, &h), NULL, 16);
    r.resampler = *line == 't' ? TACIT_RESAMPLER_TENSOR_U8 : TACIT_RESAMPLER_PILLOW;
    size_t n = (size_t)r.width * r.height * 3;
    uint8_t *out = tacit_alloc(n);
    tacit_preprocessor *pre;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, kernels, &err), TACIT_OK);
    ck_assert_int_eq(tacit_preprocess_rgb8(pre, rgb, w, h, out, pool, &err), TACIT_OK);
    ck_assert_msg(XXH3_64bits(out, n) == want, "%s: %s", tacit_isa_name(kernels->isa), line);
    tacit_preprocessor_close(&pre);
    tacit_free(out);
}

START_TEST(resizes_bytes_as_torch_and_timm)
{
    each_line("resize_tensor.txt", "tensor_u8", bytes_line);
    each_line("resize_tensor.txt", "pillow", bytes_line);
}
END_TEST

static uint64_t float_hashes[100]; /* of ref, by line */

static void floats_line(const tacit_kernels *kernels, tacit_pool *pool, const char *line,
                        unsigned number)
{
    tacit_recipe r;
    tacit_err err;
    size_t w, h;
    const char *values = tensor_recipe(line, &r, &w, &h);
    r.resampler = TACIT_RESAMPLER_TENSOR;
    size_t n = (size_t)r.width * r.height * 3;
    float *out = tacit_alloc(n * sizeof *out);
    tacit_preprocessor *pre;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, kernels, &err), TACIT_OK);
    ck_assert_int_eq(tacit_preprocess_rgb8(pre, rgb, w, h, NULL, pool, &err), TACIT_EINVAL);
    ck_assert_int_eq(tacit_preprocess(pre, rgb, w, h, out, pool, &err), TACIT_OK);
    for (size_t i = 0; i < 24; i++) {
        char *end;
        double want = strtod(values, &end), is = (double)out[i * n / 24];
        ck_assert_ptr_ne(end, values);
        values = end;
        /* Normalised values reach 2.7; torch's weights of bicubic have errors of 1e-6 themselves.
         */
        ck_assert_msg(fabs(want - is) <= 4e-6, "%s, value %zu: %.9g, not %.9g: %s",
                      tacit_isa_name(kernels->isa), i, is, want, line);
    }
    ck_assert_uint_lt(number, 100);
    uint64_t hash = XXH3_64bits(out, n * sizeof *out);
    if (!float_hashes[number])
        float_hashes[number] = hash;
    ck_assert_msg(float_hashes[number] == hash, "%s has other bits: %s",
                  tacit_isa_name(kernels->isa), line);
    tacit_preprocessor_close(&pre);
    tacit_free(out);
}

START_TEST(resizes_floats_as_torch)
{
    each_line("resize_tensor.txt", "tensor", floats_line);
}
END_TEST

static tacit_recipe usual(void)
{
    tacit_recipe r = { .resize_height = 256,
                       .resize_width = 256,
                       .height = 224,
                       .width = 224,
                       .filter = TACIT_FILTER_BICUBIC,
                       .pillow = 13 };
    memcpy(r.mean, mean, sizeof mean);
    memcpy(r.std, std, sizeof std);
    return r;
}

static const tacit_kernels *best(void)
{
    tacit_isa isa = TACIT_ISA_REF;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    return tacit_kernels_for(isa);
}

START_TEST(allocates_only_for_larger_images)
{
    tacit_recipe r = usual();
    r.resampler = (tacit_resampler)_i;
    tacit_preprocessor *pre;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, best(), NULL), TACIT_OK);
    float *planar = tacit_alloc((size_t)3 * 224 * 224 * sizeof *planar);
    picture(600, 600);
    ck_assert_int_eq(tacit_preprocess(pre, rgb, 600, 600, planar, NULL, NULL), TACIT_OK);
    uint64_t before = tacit_alloc_count();
    for (uint64_t i = 0; i < 100; i++) {
        size_t w = 300 + tacit_rng_u32(1, 1, i) % 301, h = 300 + tacit_rng_u32(1, 2, i) % 301;
        ck_assert_int_eq(tacit_preprocess(pre, rgb, w, h, planar, NULL, NULL), TACIT_OK);
        ck_assert_msg(tacit_alloc_count() == before, "%zu x %zu", w, h);
    }
    tacit_free(planar);
    tacit_preprocessor_close(&pre);
}
END_TEST

START_TEST(survives_failing_allocations)
{
    tacit_recipe r = usual();
    r.resampler = (tacit_resampler)_i;
    float *planar = tacit_alloc((size_t)3 * 224 * 224 * sizeof *planar);
    picture(300, 400);
    uint64_t nth = 0;
    tacit_status st;
    do {
        tacit_preprocessor *pre;
        tacit_err err = { "" };
        tacit_alloc_fail_at(++nth, false);
        st = tacit_preprocessor_open(&pre, &r, best(), &err);
        if (st == TACIT_OK)
            st = tacit_preprocess(pre, rgb, 300, 400, planar, NULL, &err);
        tacit_alloc_fail_at(0, false);
        if (st != TACIT_OK) {
            ck_assert_int_eq(st, TACIT_ENOMEM);
            ck_assert_str_ne(err.text, "");
            if (pre) /* what failed once works the next time */
                ck_assert_int_eq(tacit_preprocess(pre, rgb, 300, 400, planar, NULL, &err),
                                 TACIT_OK);
        }
        tacit_preprocessor_close(&pre);
    } while (st != TACIT_OK && nth < 100);
    /* Six allocations, with floats four, each failed once. */
    ck_assert_uint_eq(nth, r.resampler == TACIT_RESAMPLER_TENSOR ? 5 : 7);
    tacit_free(planar);
}
END_TEST

START_TEST(refuses_with_a_reason)
{
    tacit_err err;
    tacit_preprocessor *pre;
    tacit_recipe r = usual();
    r.pillow = 11;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, best(), &err), TACIT_EINVAL);
    ck_assert_ptr_null(pre);
    ck_assert_ptr_nonnull(strstr(err.text, "11"));
    r = usual();
    r.std[1] = 0;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, best(), &err), TACIT_EINVAL);
    r = usual();
    r.width = 0;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, best(), &err), TACIT_EINVAL);
    r = usual();
    r.filter = (tacit_filter)3;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, best(), &err), TACIT_EINVAL);
    r = usual();
    r.resampler = (tacit_resampler)3;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, best(), &err), TACIT_EINVAL);
    r = usual();
    r.resize_height = r.resize_width = 65536;
    ck_assert_int_eq(tacit_preprocessor_open(&pre, &r, best(), &err), TACIT_OK);
    ck_assert_int_eq(tacit_preprocess(pre, rgb, 1, 65500, NULL, NULL, &err), TACIT_ELIMIT);
    ck_assert_int_eq(tacit_preprocess(pre, rgb, 0, 5, NULL, NULL, &err), TACIT_EINVAL);
    tacit_preprocessor_close(&pre);
    tacit_preprocessor_close(&pre);
}
END_TEST

/* The usual constants take the quick way; those for which it would not be exact take the table. */
START_TEST(normalises_exactly)
{
    static const float means[][3] = { { 0.485f, 0.456f, 0.406f },
                                      { 0.5f, 0.5f, 0.5f },
                                      { 0.48145466f, 0.4578275f, 0.40821073f },
                                      { 0.430f, 0.411f, 0.296f },
                                      { 0, 0, 0 } };
    static const float stds[][3] = { { 0.229f, 0.224f, 0.225f },
                                     { 0.5f, 0.5f, 0.5f },
                                     { 0.26862954f, 0.26130258f, 0.27577711f },
                                     { 0.213f, 0.156f, 0.143f },
                                     { 1e-39f, 1e-39f, 1e-39f } };
    uint8_t bytes[3 * 256];
    for (int i = 0; i < 3 * 256; i++)
        bytes[i] = (uint8_t)i;
    for (size_t k = 0; k < 5; k++) {
        tacit_normalize normalize;
        tacit_normalize_init(&normalize, means[k], stds[k]);
        ck_assert_int_eq(normalize.fma, k < 4);
        for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++) {
            if (!tacit_isa_available((tacit_isa)isa))
                continue;
            float out[3 * 256];
            tacit_kernels_for((tacit_isa)isa)->normalize_u8(256, bytes, 256, &normalize, out, 256);
            for (int i = 0; i < 3 * 256; i++) {
                volatile float v = (float)(i % 256) / 255.0f;
                volatile float d = v - means[k][i / 256];
                volatile float want = d / stds[k][i / 256];
                ck_assert_msg(want == out[i], "constants %zu, value %d", k, i);
            }
        }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("preprocess");
    TCase *t = tcase_create("preprocess");
    tcase_set_timeout(t, 120);
    tcase_add_test(t, resizes_as_pillow);
    tcase_add_test(t, preprocesses_as_torchvision);
    tcase_add_test(t, resizes_bytes_as_torch_and_timm);
    tcase_add_test(t, resizes_floats_as_torch);
    tcase_add_loop_test(t, allocates_only_for_larger_images, 0, 3);
    tcase_add_loop_test(t, survives_failing_allocations, 0, 3);
    tcase_add_test(t, refuses_with_a_reason);
    tcase_add_test(t, normalises_exactly);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    tacit_free(rgb);
    return failed ? 1 : 0;
}
