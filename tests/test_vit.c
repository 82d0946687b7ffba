/* test_vit.c - the ViT: the same bits however it is run, loading, and refusals. */
#include "kernels.h"
#include "linear.h"
#include "mem.h"
#include "pool.h"
#include "rng.h"
#include "vit.h"

#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Small networks with every awkward size: more tokens than one chain, a dim that fills no panel, a
 * head of odd width, an input that is not square. The last are two of them in 8 bits. */
static const tacit_vit_config nets[] = {
    { .dim = 64,
      .depth = 2,
      .heads = 1,
      .mlp = 128,
      .patch = 8,
      .height = 32,
      .width = 32,
      .eps = 1e-6f },
    { .dim = 78,
      .depth = 3,
      .heads = 6,
      .mlp = 100,
      .patch = 5,
      .height = 25,
      .width = 40,
      .layer_scale = true,
      .eps = 1e-6f },
    { .dim = 128,
      .depth = 2,
      .heads = 2,
      .mlp = 300,
      .patch = 2,
      .height = 34,
      .width = 34,
      .layer_scale = true,
      .eps = 1e-6f },
    { .dim = 78,
      .depth = 3,
      .heads = 6,
      .mlp = 100,
      .patch = 5,
      .height = 25,
      .width = 40,
      .layer_scale = true,
      .eps = 1e-6f,
      .precision = TACIT_PRECISION_INT8 },
    { .dim = 128,
      .depth = 2,
      .heads = 2,
      .mlp = 300,
      .patch = 2,
      .height = 34,
      .width = 34,
      .activation = TACIT_SWIGLU,
      .eps = 1e-6f,
      .precision = TACIT_PRECISION_INT8 },
    { .dim = 78, /* heads, patches and the hidden layer of odd lengths */
      .depth = 3,
      .heads = 6,
      .mlp = 101,
      .patch = 5,
      .height = 25,
      .width = 40,
      .layer_scale = true,
      .eps = 1e-6f,
      .precision = TACIT_PRECISION_BF16 },
};
#define NETS  (sizeof nets / sizeof *nets)
#define BATCH 3

static const tacit_kernels *table(tacit_isa isa)
{
    return tacit_kernels_for(isa);
}

static tacit_vit *open_net(const tacit_vit_config *config, tacit_isa isa)
{
    tacit_tensor_source source;
    tacit_vit *vit;
    tacit_err err;
    ck_assert_int_eq(tacit_vit_seeded(config, 7, &source, &err), TACIT_OK);
    ck_assert_msg(tacit_vit_open(&vit, config, &source, table(isa), NULL, &err) == TACIT_OK, "%s",
                  err.text);
    tacit_vit_seeded_close(&source);
    return vit;
}

static float *make_images(const tacit_vit_config *config, size_t batch)
{
    size_t n = 3 * (size_t)config->height * config->width * batch;
    float *images = tacit_alloc(n * sizeof *images);
    for (size_t i = 0; i < n; i++)
        images[i] = tacit_rng_uniform(3, 1, i) * 4 - 2;
    return images;
}

/* Features of all images, `batch` at a time; the caller frees them. */
static float *embed(const tacit_vit *vit, const float *images, size_t count, size_t batch,
                    tacit_features features, tacit_pool *pool)
{
    const tacit_vit_config *c = tacit_vit_config_of(vit);
    size_t pixels = 3 * (size_t)c->height * c->width, n = tacit_vit_feature_count(vit, features);
    float *out = tacit_alloc(count * n * sizeof *out);
    void *scratch = tacit_alloc(tacit_vit_scratch(vit, batch, pool));
    memset(scratch, 0xff, tacit_vit_scratch(vit, batch, pool)); /* NaN everywhere */
    for (size_t i = 0; i < count; i += batch)
        tacit_vit_forward(vit, images + i * pixels, count - i < batch ? count - i : batch, features,
                          out + i * n, scratch, pool);
    tacit_free(scratch);
    return out;
}

START_TEST(same_bits_for_isa_threads_and_batch)
{
    const tacit_vit_config *config = &nets[_i];
    float *images = make_images(config, BATCH);
    bool slow = getenv("TACIT_SLOW_MACHINE");
    /* These two run all code of the forward; the others are put together from them. */
    static const unsigned features[] = { TACIT_FEATURES_CLS, TACIT_FEATURES_PATCH };
    for (size_t f = 0; f < sizeof features / sizeof *features; f++) {
        unsigned feature = features[f];
        tacit_vit *ref = open_net(config, TACIT_ISA_REF);
        float *expected = embed(ref, images, BATCH, BATCH, (tacit_features)feature, NULL);
        size_t bytes =
            BATCH * tacit_vit_feature_count(ref, (tacit_features)feature) * sizeof *expected;
        for (size_t i = 0; i < bytes / sizeof *expected; i++)
            ck_assert_msg(isfinite(expected[i]), "value %zu is not finite", i);
        tacit_vit_close(&ref);
        for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++) {
            if (!tacit_isa_available((tacit_isa)isa))
                continue;
            tacit_vit *vit = open_net(config, (tacit_isa)isa);
            static const unsigned threads[] = { 1, 2, 3, 8 };
            static const size_t batches[] = { 1, 2, BATCH };
            for (size_t t = 0; t < sizeof threads / sizeof *threads; t++)
                for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                    if (isa == TACIT_ISA_REF ? slow || t != 1 || b != 0 : slow && t % 3 != b)
                        continue; /* slow; its chunks are those of the others */
                    tacit_pool *pool;
                    ck_assert_int_eq(tacit_pool_open(&pool, threads[t], NULL), TACIT_OK);
                    float *got =
                        embed(vit, images, BATCH, batches[b], (tacit_features)feature, pool);
                    ck_assert_msg(!memcmp(expected, got, bytes),
                                  "net %d, feature %u, %s, %u threads, batch %zu", _i, feature,
                                  tacit_isa_name((tacit_isa)isa), threads[t], batches[b]);
                    tacit_free(got);
                    tacit_pool_close(&pool);
                }
            tacit_vit_close(&vit);
        }
        tacit_free(expected);
    }
    tacit_free(images);
}
END_TEST

/* The class token computed alone in the last block is that of the whole block. */
START_TEST(features_agree_with_each_other)
{
    const tacit_vit_config *config = &nets[_i];
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    tacit_vit *vit = open_net(config, isa);
    float *images = make_images(config, 2);
    size_t dim = config->dim;
    size_t patches = (size_t)(config->height / config->patch) * (config->width / config->patch);
    float *cls = embed(vit, images, 2, 2, TACIT_FEATURES_CLS, NULL);
    float *mean = embed(vit, images, 2, 2, TACIT_FEATURES_MEAN, NULL);
    float *both = embed(vit, images, 2, 2, TACIT_FEATURES_CLS_MEAN, NULL);
    float *patch = embed(vit, images, 2, 2, TACIT_FEATURES_PATCH, NULL);
    float *again = tacit_alloc(dim * sizeof *again);
    for (size_t image = 0; image < 2; image++) {
        ck_assert(!memcmp(cls + image * dim, both + image * 2 * dim, dim * sizeof *cls));
        ck_assert(!memcmp(mean + image * dim, both + (image * 2 + 1) * dim, dim * sizeof *cls));
        table(isa)->mean_rows_f32(patches, dim, patch + image * patches * dim, dim, again);
        ck_assert(!memcmp(mean + image * dim, again, dim * sizeof *cls));
    }
    ck_assert(memcmp(cls, cls + dim, dim * sizeof *cls));
    tacit_free(again);
    tacit_free(patch);
    tacit_free(both);
    tacit_free(mean);
    tacit_free(cls);
    tacit_free(images);
    tacit_vit_close(&vit);
}
END_TEST

/* int8 and bf16 are other functions, and near ones. Weights are uniform here, which is what 8 bits
 * hold best; trained ones are told by `tacit drift`. */
static const struct {
    tacit_precision precision;
    double cosine;
} precisions[] = { { TACIT_PRECISION_INT8, 0.9995 }, { TACIT_PRECISION_BF16, 0.9999 } };

START_TEST(precisions_are_near_fp32)
{
    tacit_vit_config config = nets[2];
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    tacit_vit *vit = open_net(&config, isa);
    config.precision = precisions[_i].precision;
    tacit_vit *other = open_net(&config, isa);
    float *images = make_images(&config, 2);
    float *a = embed(vit, images, 2, 2, TACIT_FEATURES_PATCH, NULL);
    float *b = embed(other, images, 2, 2, TACIT_FEATURES_PATCH, NULL);
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < 2 * tacit_vit_feature_count(vit, TACIT_FEATURES_PATCH); i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    double cosine = ab / sqrt(aa * bb);
    ck_assert_msg(cosine > precisions[_i].cosine && cosine < 1, "cosine %.6f", cosine);
    tacit_free(b);
    tacit_free(a);
    tacit_free(images);
    tacit_vit_close(&other);
    tacit_vit_close(&vit);
}
END_TEST

START_TEST(forward_allocates_nothing)
{
    const tacit_vit_config *config = &nets[_i];
    tacit_vit *vit = open_net(config, TACIT_ISA_REF);
    float *images = make_images(config, 1), out[128];
    void *scratch = tacit_alloc(tacit_vit_scratch(vit, 1, NULL));
    uint64_t before = tacit_alloc_count();
    for (int i = 0; i < 3; i++)
        tacit_vit_forward(vit, images, 1, TACIT_FEATURES_CLS, out, scratch, NULL);
    ck_assert_uint_eq(tacit_alloc_count(), before);
    tacit_vit_forward(vit, images, 0, TACIT_FEATURES_CLS, NULL, NULL, NULL);
    tacit_free(scratch);
    tacit_free(images);
    tacit_vit_close(&vit);
}
END_TEST

START_TEST(open_survives_every_failing_allocation)
{
    uint64_t n = 1;
    for (bool done = false; !done; n++) {
        tacit_tensor_source source;
        tacit_vit *vit = NULL;
        tacit_err err = { "" };
        tacit_alloc_fail_at(n, _i == 1);
        tacit_status st = tacit_vit_seeded(&nets[1], 7, &source, &err);
        if (st == TACIT_OK) {
            st = tacit_vit_open(&vit, &nets[1], &source, table(TACIT_ISA_REF), NULL, &err);
            done = st == TACIT_OK;
        }
        tacit_alloc_fail_at(0, false);
        if (!done) {
            ck_assert_int_eq(st, TACIT_ENOMEM);
            ck_assert_ptr_null(vit);
            ck_assert_ptr_nonnull(strstr(err.text, "out of memory"));
        }
        tacit_vit_seeded_close(&source);
        tacit_vit_close(&vit);
    }
    ck_assert_uint_gt(n, 5);
}
END_TEST

START_TEST(named_sizes_are_detected)
{
    size_t rows = 0;
    for (const tacit_vit_config *row; (row = tacit_vit_row(rows)); rows++) {
        tacit_tensor_source source;
        tacit_vit_config found;
        tacit_err err;
        ck_assert_int_eq(tacit_vit_seeded(row, 1, &source, &err), TACIT_OK);
        ck_assert_msg(tacit_vit_detect(&source, 0, &found, &err) == TACIT_OK, "%s", err.text);
        ck_assert_str_eq(found.name, row->name);
        ck_assert_uint_eq(found.heads, row->heads);
        ck_assert_uint_eq(found.depth, row->depth);
        ck_assert_uint_eq(found.width, 224);
        tacit_vit_seeded_close(&source);
    }
    ck_assert_uint_ge(rows, 10);
    ck_assert_str_eq(tacit_vit_find("vit_small_patch14_224")->name, "vit_small_patch14");
    ck_assert_ptr_null(tacit_vit_find("vit_small_patch1"));
    ck_assert_ptr_null(tacit_vit_find("vit_small_patch160"));
    ck_assert_ptr_null(tacit_vit_find("resnet50"));
}
END_TEST

/* A source with tensors of another changed. */
typedef struct spoiled {
    tacit_tensor_source inner;
    size_t victim; /* its values become `value` */
    uint32_t value;
} spoiled;

static tacit_status read_spoiled(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                 tacit_err *err)
{
    spoiled *s = ctx;
    tacit_status st = s->inner.read(s->inner.ctx, i, offset, size, dst, err);
    if (st == TACIT_OK && i == s->victim && s->inner.tensors[i].bytes - offset == size)
        memcpy((char *)dst + size - 4, &s->value, 4);
    return st;
}

static size_t index_of(const tacit_tensor_source *source, const char *name)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, name))
            return i;
    ck_abort_msg("no tensor %s", name);
}

START_TEST(values_that_are_not_finite_are_refused)
{
    static const char *const names[] = { "cls_token", "blocks.1.mlp.fc2.weight", "norm.bias" };
    static const uint32_t values[] = { 0x7f800000, 0xff800000, 0x7fc00000, 0x7f800001 };
    for (size_t n = 0; n < 3; n++)
        for (size_t v = 0; v < 4; v++) {
            spoiled s = { .value = values[v] };
            tacit_err err;
            ck_assert_int_eq(tacit_vit_seeded(&nets[0], 7, &s.inner, &err), TACIT_OK);
            s.victim = index_of(&s.inner, names[n]);
            tacit_tensor_source source = { s.inner.tensors, s.inner.count, read_spoiled, &s };
            tacit_vit *vit;
            ck_assert_int_eq(
                tacit_vit_open(&vit, &nets[0], &source, table(TACIT_ISA_REF), NULL, &err),
                TACIT_EFORMAT);
            ck_assert_ptr_null(vit);
            ck_assert_ptr_nonnull(strstr(err.text, names[n]));
            tacit_vit_seeded_close(&s.inner);
        }
}
END_TEST

/* Where the last block adds nothing to its input, the network is its first blocks and the norm. */
static tacit_status read_silent(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const tacit_tensor_source *inner = ctx;
    const char *name = inner->tensors[i].name;
    if (!strstr(name, "blocks.2.attn.proj.") && !strstr(name, "blocks.2.mlp.fc2."))
        return inner->read(inner->ctx, i, offset, size, dst, err);
    memset(dst, 0, size);
    return TACIT_OK;
}

START_TEST(the_first_blocks_alone)
{
    tacit_vit_config config = nets[1];
    tacit_tensor_source inner;
    tacit_err err;
    ck_assert_int_eq(tacit_vit_seeded(&config, 7, &inner, &err), TACIT_OK);
    tacit_tensor_source silent = { inner.tensors, inner.count, read_silent, &inner };
    const tacit_tensor_source *sources[] = { &silent, &inner, &inner };
    static const unsigned depths[] = { 3, 2, 3 };
    float *images = make_images(&config, 2), *features[3];
    size_t bytes = 0;
    for (int i = 0; i < 3; i++) {
        tacit_vit *vit;
        config.depth = depths[i];
        ck_assert_msg(tacit_vit_open(&vit, &config, sources[i], table(TACIT_ISA_REF), NULL, &err) ==
                          TACIT_OK,
                      "%s", err.text);
        features[i] = embed(vit, images, 2, 2, TACIT_FEATURES_CLS_MEAN, NULL);
        bytes = 2 * tacit_vit_feature_count(vit, TACIT_FEATURES_CLS_MEAN) * sizeof(float);
        tacit_vit_close(&vit);
    }
    ck_assert(!memcmp(features[0], features[1], bytes));
    ck_assert(memcmp(features[0], features[2], bytes));
    for (int i = 0; i < 3; i++)
        tacit_free(features[i]);
    tacit_free(images);
    tacit_vit_seeded_close(&inner);
}
END_TEST

START_TEST(all_wrong_tensors_are_named_at_once)
{
    tacit_tensor_source inner;
    tacit_err err;
    tacit_vit *vit;
    ck_assert_int_eq(tacit_vit_seeded(&nets[0], 7, &inner, &err), TACIT_OK);
    tacit_tensor *tensors = tacit_alloc((inner.count + 2) * sizeof *tensors);
    memcpy(tensors, inner.tensors, inner.count * sizeof *tensors);
    tensors[index_of(&inner, "cls_token")].name = "cls_tokem";
    tensors[index_of(&inner, "norm.weight")].shape[0]++;
    tensors[index_of(&inner, "blocks.0.attn.qkv.bias")].dtype = TACIT_I32;
    tensors[inner.count] = tensors[0];
    tensors[inner.count].name = "head.weight"; /* a classifier is known to be unneeded */
    tacit_tensor_source source = { tensors, inner.count + 1, inner.read, inner.ctx };
    ck_assert_int_eq(tacit_vit_open(&vit, &nets[0], &source, table(TACIT_ISA_REF), NULL, &err),
                     TACIT_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "4 tensors"));
    ck_assert_ptr_nonnull(strstr(err.text, "missing cls_token"));
    ck_assert_ptr_nonnull(strstr(err.text, "unexpected cls_tokem"));
    ck_assert_ptr_nonnull(strstr(err.text, "mis-shaped norm.weight (is 65, must be 64)"));
    ck_assert_ptr_nonnull(strstr(err.text, "blocks.0.attn.qkv.bias (I32"));
    tacit_free(tensors);
    tacit_vit_seeded_close(&inner);
}
END_TEST

START_TEST(impossible_sizes_are_refused)
{
    tacit_vit_config bad[8];
    const size_t count = sizeof bad / sizeof *bad;
    for (size_t i = 0; i < count; i++)
        bad[i] = nets[0];
    bad[0].heads = 0;
    bad[1].heads = 3; /* does not divide dim */
    bad[2].height = 33;
    bad[3].depth = 1000000;
    bad[4].patch = 0;
    bad[5].dim = 0;
    bad[6].precision = bad[7].precision = TACIT_PRECISION_INT8;
    bad[6].mlp = TACIT_INT8_MOST + 1;
    bad[7].patch = bad[7].height = bad[7].width = 148; /* 3 x 148 x 148 pixels */
    for (size_t i = 0; i < count; i++) {
        tacit_tensor_source source;
        tacit_err err = { "" };
        ck_assert_int_lt(tacit_vit_seeded(&bad[i], 7, &source, &err), 0);
        ck_assert_uint_gt(strlen(err.text), 0);
    }
}
END_TEST

/* Half-precision files: the model of the rounded values. */
static tacit_status read_bf16(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                              tacit_err *err)
{
    tacit_tensor_source *inner = ctx;
    float values[1];
    for (size_t at = 0; at < size; at += 2) {
        tacit_status st = inner->read(inner->ctx, i, (offset + at) * 2, 4, values, err);
        if (st < 0)
            return st;
        table(TACIT_ISA_REF)->f32_to_bf16(1, values, (uint16_t *)(void *)((char *)dst + at));
    }
    return TACIT_OK;
}

static tacit_status read_rounded(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                 tacit_err *err)
{
    tacit_tensor_source *inner = ctx;
    tacit_status st = inner->read(inner->ctx, i, offset, size, dst, err);
    float *values = dst;
    for (size_t n = 0; st == TACIT_OK && n < size / 4; n++) {
        uint16_t half;
        table(TACIT_ISA_REF)->f32_to_bf16(1, values + n, &half);
        table(TACIT_ISA_REF)->bf16_to_f32(1, &half, values + n);
    }
    return st;
}

START_TEST(bf16_weights_are_widened)
{
    tacit_tensor_source inner;
    tacit_err err;
    ck_assert_int_eq(tacit_vit_seeded(&nets[0], 7, &inner, &err), TACIT_OK);
    tacit_tensor *tensors = tacit_alloc(inner.count * sizeof *tensors);
    memcpy(tensors, inner.tensors, inner.count * sizeof *tensors);
    for (size_t i = 0; i < inner.count; i++) {
        tensors[i].dtype = TACIT_BF16;
        tensors[i].bytes /= 2;
    }
    tacit_tensor_source narrow = { tensors, inner.count, read_bf16, &inner };
    tacit_tensor_source wide = { inner.tensors, inner.count, read_rounded, &inner };
    tacit_vit *a, *b;
    const tacit_kernels *k = table(TACIT_ISA_REF);
    ck_assert_int_eq(tacit_vit_open(&a, &nets[0], &narrow, k, NULL, &err), TACIT_OK);
    ck_assert_int_eq(tacit_vit_open(&b, &nets[0], &wide, k, NULL, &err), TACIT_OK);
    float *images = make_images(&nets[0], 1);
    float *x = embed(a, images, 1, 1, TACIT_FEATURES_CLS, NULL);
    float *y = embed(b, images, 1, 1, TACIT_FEATURES_CLS, NULL);
    ck_assert(!memcmp(x, y, nets[0].dim * sizeof *x));
    tacit_free(x);
    tacit_free(y);
    tacit_free(images);
    tacit_vit_close(&a);
    tacit_vit_close(&b);
    tacit_free(tensors);
    tacit_vit_seeded_close(&inner);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("vit");
    TCase *t = tcase_create("vit");
    tcase_set_timeout(t, 300);
    tcase_add_loop_test(t, same_bits_for_isa_threads_and_batch, 0, NETS);
    tcase_add_loop_test(t, features_agree_with_each_other, 0, NETS);
    tcase_add_loop_test(t, forward_allocates_nothing, 0, NETS);
    tcase_add_loop_test(t, precisions_are_near_fp32, 0, sizeof precisions / sizeof *precisions);
    tcase_add_loop_test(t, open_survives_every_failing_allocation, 0, 2);
    tcase_add_test(t, named_sizes_are_detected);
    tcase_add_test(t, values_that_are_not_finite_are_refused);
    tcase_add_test(t, the_first_blocks_alone);
    tcase_add_test(t, all_wrong_tensors_are_named_at_once);
    tcase_add_test(t, impossible_sizes_are_refused);
    tcase_add_test(t, bf16_weights_are_widened);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
