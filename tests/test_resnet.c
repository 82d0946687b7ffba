/* test_resnet.c - the ResNet: against timm's, the same bits however it is run, loading, refusals.
 *
 * data/resnet_*.safetensors are made by golden/make_resnet.py: F16 weights, and what timm's network
 * gives in double precision for images of two sizes. */
#include "resnet_internal.h"
#include "rng.h"
#include "safetensors.h"
#include "scratch.h"

#include <math.h>

/* Of the largest value of an image's features; twice the largest error seen. */
#define TOLERANCE 3e-6

/* Both kinds of block and stem, sizes that are odd everywhere, channels that fill no vector and no
 * panel, and layers of every kind: see every_way_of_convolving_is_met. */
static const tacit_resnet_config nets[] = {
    { .blocks = { 1, 2, 1, 1 },
      .width = { 20, 12, 33, 7 },
      .out = { 20, 12, 33, 7 },
      .stem = 20,
      .height = 45,
      .image_width = 70 },
    { .blocks = { 2, 1, 1, 1 },
      .width = { 72, 20, 9, 8 },
      .out = { 40, 50, 36, 260 },
      .stem = 17,
      .bottleneck = true,
      .height = 64,
      .image_width = 57 },
    { .blocks = { 2, 1, 1, 1 },
      .width = { 70, 24, 16, 8 },
      .out = { 70, 24, 16, 8 },
      .stem = 70,
      .small_stem = true,
      .height = 30,
      .image_width = 27 },
    { .blocks = { 1, 1, 1, 2 },
      .width = { 20, 9, 9, 9 },
      .out = { 20, 9, 9, 9 },
      .stem = 20,
      .small_stem = true,
      .height = 27,
      .image_width = 30 },
    { .blocks = { 2, 1, 1, 1 },
      .width = { 72, 20, 9, 8 },
      .out = { 40, 50, 36, 260 },
      .stem = 17,
      .bottleneck = true,
      .height = 64,
      .image_width = 57,
      .precision = TACIT_PRECISION_INT8 },
    { .blocks = { 2, 1, 1, 1 },
      .width = { 70, 24, 16, 8 },
      .out = { 70, 24, 16, 8 },
      .stem = 70,
      .small_stem = true,
      .height = 30,
      .image_width = 27,
      .precision = TACIT_PRECISION_INT8 },
    { .blocks = { 1, 2, 1, 1 }, /* windows of odd lengths, and Winograd's tiles */
      .width = { 20, 13, 33, 7 },
      .out = { 20, 13, 33, 7 },
      .stem = 20,
      .height = 45,
      .image_width = 70,
      .precision = TACIT_PRECISION_BF16 },
};
#define NETS  (sizeof nets / sizeof *nets)
#define BATCH 9

static tacit_resnet *open_net(const tacit_resnet_config *config, tacit_isa isa)
{
    tacit_tensor_source source;
    tacit_resnet *resnet;
    tacit_err err;
    ck_assert_int_eq(tacit_resnet_seeded(config, 7, &source, &err), TACIT_OK);
    ck_assert_msg(!tacit_resnet_open(&resnet, config, &source, tacit_kernels_for(isa), NULL, &err),
                  "%s", err.text);
    tacit_resnet_seeded_close(&source);
    return resnet;
}

static float *make_images(const tacit_resnet_config *config, size_t batch)
{
    size_t n = 3 * (size_t)config->height * config->image_width * batch;
    float *images = tacit_alloc(n * sizeof *images);
    for (size_t i = 0; i < n; i++)
        images[i] = tacit_rng_uniform(3, 1, i) * 4 - 2;
    return images;
}

/* Features of all images, `batch` at a time; the caller frees them. */
static float *embed(const tacit_resnet *resnet, const float *images, size_t count, size_t batch,
                    tacit_features features, tacit_pool *pool)
{
    const tacit_resnet_config *c = &resnet->config;
    size_t pixels = 3 * (size_t)c->height * c->image_width;
    size_t n = tacit_resnet_feature_count(resnet, features);
    float *out = tacit_alloc(count * n * sizeof *out);
    size_t bytes = tacit_resnet_scratch(resnet, batch, pool);
    void *memory = tacit_alloc(bytes);
    memset(memory, 0xff, bytes); /* NaN everywhere */
    for (size_t i = 0; i < count; i += batch)
        tacit_resnet_forward(resnet, images + i * pixels, count - i < batch ? count - i : batch,
                             features, out + i * n, memory, pool);
    tacit_free(memory);
    return out;
}

/* Winograd's tiles of both sizes, with all channels in a chunk or not; windows; plain products. */
START_TEST(every_way_of_convolving_is_met)
{
    unsigned met = 0;
    for (size_t n = 0; n < NETS; n++) {
        tacit_resnet *resnet = open_net(&nets[n], TACIT_ISA_REF);
        for (size_t i = 0; i < resnet->layer_count; i++) {
            const tacit__layer *l = &resnet->layers[i];
            unsigned way = l->side ? (unsigned)l->side + (l->linear.out > 64 ? 1 : 0)
                                   : (unsigned)(l->shape.kernel * l->shape.stride);
            ck_assert_uint_lt(way, 32);
            met |= 1u << (l->side ? way : 16 + way);
        }
        tacit_resnet_close(&resnet);
    }
    /* sides 2 and 4, up to 64 channels and above; 1 x 1 and its stride 2; 3 x 3, stride 2; 7 x 7 */
    ck_assert_uint_eq(met & 0x3c, 0x3c);
    ck_assert_uint_eq(met >> 16 & 0x404e, 0x404e);
}
END_TEST

START_TEST(same_bits_for_isa_threads_and_batch)
{
    const tacit_resnet_config *config = &nets[_i];
    float *images = make_images(config, BATCH);
    bool slow = getenv("TACIT_SLOW_MACHINE");
    tacit_resnet *ref = open_net(config, TACIT_ISA_REF);
    float *expected = embed(ref, images, BATCH, 1, TACIT_FEATURES_PATCH, NULL);
    size_t values = BATCH * tacit_resnet_feature_count(ref, TACIT_FEATURES_PATCH);
    bool zero = true;
    for (size_t i = 0; i < values; i++) {
        ck_assert_msg(isfinite(expected[i]), "value %zu is not finite", i);
        zero = zero && expected[i] == 0;
    }
    ck_assert(!zero);
    tacit_resnet_close(&ref);
    for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++) {
        if (!tacit_isa_available((tacit_isa)isa))
            continue;
        tacit_resnet *resnet = open_net(config, (tacit_isa)isa);
        static const unsigned threads[] = { 1, 2, 3, 8 };
        static const size_t batches[] = { 1, 2, 5, BATCH };
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++)
            for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
                if (isa == TACIT_ISA_REF ? slow || t != 1 || b != 3 : slow && t != b)
                    continue; /* slow; its chunks are those of the others */
                tacit_pool *pool;
                ck_assert_int_eq(tacit_pool_open(&pool, threads[t], NULL), TACIT_OK);
                float *got = embed(resnet, images, BATCH, batches[b], TACIT_FEATURES_PATCH, pool);
                ck_assert_msg(!memcmp(expected, got, values * sizeof *got),
                              "net %d, %s, %u threads, batch %zu", _i,
                              tacit_isa_name((tacit_isa)isa), threads[t], batches[b]);
                tacit_free(got);
                tacit_pool_close(&pool);
            }
        tacit_resnet_close(&resnet);
    }
    tacit_free(expected);
    tacit_free(images);
}
END_TEST

/* Room for a batch is room for all smaller ones, whatever parts they are cut into: of small maps
 * many images go together, and evened out, a few can go in larger parts than many. */
START_TEST(room_for_a_batch_is_room_for_less)
{
    enum { MOST = 13, CANARY = 4096 };
    tacit_resnet_config config;
    ck_assert(tacit_resnet_find("resnet18_cifar", &config));
    config.stem = 16;
    for (unsigned s = 0; s < 4; s++) {
        config.blocks[s] = 1;
        config.width[s] = config.out[s] = 16u << s;
    }
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    tacit_resnet *resnet = open_net(&config, isa);
    float *images = make_images(&config, MOST);
    float *want = embed(resnet, images, MOST, 1, TACIT_FEATURES_MEAN, NULL);
    size_t n = tacit_resnet_feature_count(resnet, TACIT_FEATURES_MEAN), before = 0;
    float *got = tacit_alloc(MOST * n * sizeof *got);
    for (size_t batch = 1; batch <= MOST; batch += batch < 5 ? 2 : 4) {
        size_t bytes = tacit_resnet_scratch(resnet, batch, NULL);
        unsigned char *memory = tacit_alloc(bytes + CANARY);
        ck_assert_uint_ge(bytes, before);
        before = bytes;
        for (size_t count = 1; count <= batch; count++) {
            memset(memory, 0xff, bytes + CANARY);
            tacit_resnet_forward(resnet, images, count, TACIT_FEATURES_MEAN, got, memory, NULL);
            ck_assert_mem_eq(got, want, count * n * sizeof *got);
            for (size_t i = 0; i < CANARY; i++)
                ck_assert_msg(memory[bytes + i] == 0xff, "%zu of %zu: byte %zu behind the room",
                              count, batch, i);
        }
        tacit_free(memory);
    }
    tacit_free(got), tacit_free(want), tacit_free(images);
    tacit_resnet_close(&resnet);
}
END_TEST

START_TEST(features_agree_with_each_other)
{
    const tacit_resnet_config *config = &nets[_i];
    tacit_isa isa;
    unsigned grid[2];
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    tacit_resnet *resnet = open_net(config, isa);
    float *images = make_images(config, 2);
    size_t n = config->out[3];
    tacit_resnet_grid(config, grid);
    size_t pixels = (size_t)grid[0] * grid[1];
    ck_assert_uint_eq(tacit_resnet_feature_count(resnet, TACIT_FEATURES_MEAN), n);
    ck_assert_uint_eq(tacit_resnet_feature_count(resnet, TACIT_FEATURES_PATCH), pixels * n);
    ck_assert_uint_eq(tacit_resnet_feature_count(resnet, TACIT_FEATURES_CLS), 0);
    ck_assert_uint_eq(tacit_resnet_feature_count(resnet, TACIT_FEATURES_CLS_MEAN), 0);
    ck_assert_uint_eq(tacit_resnet_feature_count(resnet, TACIT_FEATURES_LAST4), 0);
    float *mean = embed(resnet, images, 2, 2, TACIT_FEATURES_MEAN, NULL);
    float *patch = embed(resnet, images, 2, 2, TACIT_FEATURES_PATCH, NULL);
    float *again = tacit_alloc(n * sizeof *again);
    for (size_t image = 0; image < 2; image++) {
        tacit_kernels_for(isa)->mean_rows_f32(pixels, n, patch + image * pixels * n, n, again);
        ck_assert(!memcmp(mean + image * n, again, n * sizeof *again));
    }
    ck_assert(memcmp(mean, mean + n, n * sizeof *mean));
    tacit_free(again);
    tacit_free(patch);
    tacit_free(mean);
    tacit_free(images);
    tacit_resnet_close(&resnet);
}
END_TEST

/* Other functions, and near ones: the cosine of the vectors. */
START_TEST(precisions_are_near_fp32)
{
    static const double least[] = {
        [TACIT_PRECISION_INT8] = 0.9995, [TACIT_PRECISION_BF16] = 0.9999
    };
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    for (size_t n = 0; n < 3; n++) {
        tacit_resnet_config config = nets[n];
        tacit_resnet *resnet = open_net(&config, isa);
        config.precision = (tacit_precision)_i;
        tacit_resnet *other = open_net(&config, isa);
        float *images = make_images(&config, 2);
        float *a = embed(resnet, images, 2, 2, TACIT_FEATURES_PATCH, NULL);
        float *b = embed(other, images, 2, 2, TACIT_FEATURES_PATCH, NULL);
        double ab = 0, aa = 0, bb = 0;
        for (size_t i = 0; i < 2 * tacit_resnet_feature_count(resnet, TACIT_FEATURES_PATCH); i++) {
            ab += (double)a[i] * (double)b[i];
            aa += (double)a[i] * (double)a[i];
            bb += (double)b[i] * (double)b[i];
        }
        double cosine = ab / sqrt(aa * bb);
        ck_assert_msg(cosine > least[_i] && cosine < 1, "net %zu: cosine %.6f", n, cosine);
        tacit_free(b);
        tacit_free(a);
        tacit_free(images);
        tacit_resnet_close(&other);
        tacit_resnet_close(&resnet);
    }
}
END_TEST

START_TEST(forward_allocates_nothing)
{
    const tacit_resnet_config *config = &nets[0];
    tacit_resnet *resnet = open_net(config, TACIT_ISA_REF);
    float *images = make_images(config, 1), out[8];
    void *memory = tacit_alloc(tacit_resnet_scratch(resnet, 1, NULL));
    uint64_t before = tacit_alloc_count();
    tacit_resnet_forward(resnet, images, 1, TACIT_FEATURES_MEAN, out, memory, NULL);
    ck_assert_uint_eq(tacit_alloc_count(), before);
    tacit_resnet_forward(resnet, images, 0, TACIT_FEATURES_MEAN, NULL, NULL, NULL);
    tacit_free(memory);
    tacit_free(images);
    tacit_resnet_close(&resnet);
}
END_TEST

START_TEST(open_survives_every_failing_allocation)
{
    uint64_t n = 1;
    for (bool done = false; !done; n++) {
        tacit_tensor_source source;
        tacit_resnet *resnet = NULL;
        tacit_err err = { "" };
        tacit_alloc_fail_at(n, _i == 1);
        tacit_status st = tacit_resnet_seeded(&nets[1], 7, &source, &err);
        if (st == TACIT_OK) {
            st = tacit_resnet_open(&resnet, &nets[1], &source, tacit_kernels_for(TACIT_ISA_REF),
                                   NULL, &err);
            done = st == TACIT_OK;
        }
        tacit_alloc_fail_at(0, false);
        if (!done) {
            ck_assert_int_eq(st, TACIT_ENOMEM);
            ck_assert_ptr_null(resnet);
            ck_assert_ptr_nonnull(strstr(err.text, "out of memory"));
        }
        tacit_resnet_seeded_close(&source);
        tacit_resnet_close(&resnet);
    }
    ck_assert_uint_gt(n, 8);
}
END_TEST

START_TEST(named_sizes_are_found_and_detected)
{
    static const char *const names[] = { "resnet18", "resnet34", "resnet50", "resnet101" };
    static const double gflop[] = { 3.63, 7.33, 8.18, 15.6 };
    for (size_t i = 0; i < 4; i++) {
        tacit_resnet_config config, found;
        tacit_tensor_source source;
        tacit_err err;
        ck_assert(tacit_resnet_find(names[i], &config));
        ck_assert_double_eq_tol(tacit_resnet_flops(&config) * 1e-9, gflop[i], 0.006 * gflop[i]);
        ck_assert_int_eq(tacit_resnet_seeded(&config, 1, &source, &err), TACIT_OK);
        ck_assert_msg(!tacit_resnet_detect(&source, &found, &err), "%s", err.text);
        ck_assert_str_eq(found.name, names[i]);
        ck_assert(!memcmp(config.blocks, found.blocks, sizeof found.blocks));
        ck_assert(!memcmp(config.out, found.out, sizeof found.out));
        ck_assert_uint_eq(found.image_width, 224);
        tacit_resnet_seeded_close(&source);
    }
    tacit_resnet_config c;
    ck_assert(tacit_resnet_find("resnet50.a1_in1k", &c) && !c.small_stem && c.height == 224);
    ck_assert(tacit_resnet_find("resnet18_cifar", &c) && c.small_stem && c.height == 32);
    ck_assert(!tacit_resnet_find("resnet5", &c));
    ck_assert(!tacit_resnet_find("resnet50d", &c));
    ck_assert(!tacit_resnet_find("vit_small_patch16", &c));
}
END_TEST

/* A source of which two tensors' last values are changed. */
typedef struct spoiled {
    tacit_tensor_source inner;
    size_t victims[2];
    float values[2];
} spoiled;

static tacit_status read_spoiled(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                 tacit_err *err)
{
    spoiled *s = ctx;
    tacit_status st = s->inner.read(s->inner.ctx, i, offset, size, dst, err);
    for (size_t v = 0; v < 2 && st == TACIT_OK; v++)
        if (i == s->victims[v] && s->inner.tensors[i].bytes - offset == size)
            memcpy((char *)dst + size - 4, &s->values[v], 4);
    return st;
}

static size_t index_of(const tacit_tensor_source *source, const char *name)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, name))
            return i;
    ck_abort_msg("no tensor %s", name);
}

START_TEST(values_that_cannot_be_are_refused)
{
    /* The last two are finite, but not what they make of the weights, of the bias. */
    static const struct {
        const char *name, *other;
        float value, other_value;
        const char *named;
    } bad[] = {
        { "conv1.weight", NULL, INFINITY, 0, "conv1.weight" },
        { "layer2.0.conv2.weight", NULL, NAN, 0, "layer2.0.conv2.weight" },
        { "layer4.0.bn1.bias", NULL, NAN, 0, "layer4.0.bn1.bias" },
        { "layer1.0.bn2.running_mean", NULL, -INFINITY, 0, "layer1.0.bn2.running_mean" },
        { "bn1.running_var", NULL, -0.1f, 0, "bn1.running_var" },
        { "layer2.0.downsample.1.weight", NULL, NAN, 0, "layer2.0.downsample.1.weight" },
        { "layer3.0.conv1.weight", "layer3.0.bn1.running_var", 3e38f, 0, "layer3.0.conv1.weight" },
        { "layer3.0.bn1.running_mean", "layer3.0.bn1.running_var", 3e38f, 0, "layer3.0.bn1" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        spoiled s = { .values = { bad[i].value, bad[i].other_value } };
        tacit_resnet *resnet;
        tacit_err err;
        ck_assert_int_eq(tacit_resnet_seeded(&nets[0], 7, &s.inner, &err), TACIT_OK);
        s.victims[0] = index_of(&s.inner, bad[i].name);
        s.victims[1] = bad[i].other ? index_of(&s.inner, bad[i].other) : SIZE_MAX;
        tacit_tensor_source source = { s.inner.tensors, s.inner.count, read_spoiled, &s };
        tacit_status st = tacit_resnet_open(&resnet, &nets[0], &source,
                                            tacit_kernels_for(TACIT_ISA_REF), NULL, &err);
        ck_assert_msg(st == TACIT_EFORMAT, "%s is taken", bad[i].name);
        ck_assert_ptr_null(resnet);
        ck_assert_msg(strstr(err.text, bad[i].named), "%s: %s", bad[i].named, err.text);
        tacit_resnet_seeded_close(&s.inner);
    }
}
END_TEST

START_TEST(all_wrong_tensors_are_named_at_once)
{
    tacit_tensor_source inner;
    tacit_err err;
    tacit_resnet *resnet;
    ck_assert_int_eq(tacit_resnet_seeded(&nets[0], 7, &inner, &err), TACIT_OK);
    tacit_tensor *tensors = tacit_alloc((inner.count + 3) * sizeof *tensors);
    memcpy(tensors, inner.tensors, inner.count * sizeof *tensors);
    tensors[index_of(&inner, "bn1.bias")].name = "bn1.bios";
    tensors[index_of(&inner, "layer3.0.conv1.weight")].shape[1]++; /* as with groups */
    tensors[index_of(&inner, "layer1.0.bn1.weight")].dtype = TACIT_I32;
    for (size_t i = 0; i < 3; i++)
        tensors[inner.count + i] = tensors[0];
    tensors[inner.count].name = "fc.weight"; /* known to be unneeded */
    tensors[inner.count + 1].name = "layer1.0.bn1.num_batches_tracked";
    tensors[inner.count + 2].name = "layer1.0.se.fc1.weight";
    tacit_tensor_source source = { tensors, inner.count + 3, inner.read, inner.ctx };
    ck_assert_int_eq(
        tacit_resnet_open(&resnet, &nets[0], &source, tacit_kernels_for(TACIT_ISA_REF), NULL, &err),
        TACIT_EFORMAT);
    ck_assert_ptr_nonnull(strstr(err.text, "5 tensors"));
    ck_assert_ptr_nonnull(strstr(err.text, "missing bn1.bias"));
    ck_assert_ptr_nonnull(strstr(err.text, "unexpected bn1.bios"));
    ck_assert_ptr_nonnull(strstr(err.text, "unexpected layer1.0.se.fc1.weight"));
    ck_assert_ptr_nonnull(
        strstr(err.text, "mis-shaped layer3.0.conv1.weight (is 33x13x3x3, must be 33x12x3x3)"));
    ck_assert_ptr_nonnull(strstr(err.text, "layer1.0.bn1.weight (I32"));
    tacit_free(tensors);
    tacit_resnet_seeded_close(&inner);
}
END_TEST

START_TEST(impossible_sizes_are_refused)
{
    tacit_resnet_config bad[5];
    for (size_t i = 0; i < 5; i++)
        bad[i] = nets[0];
    bad[0].stem = 0;
    bad[1].width[2] = 100000;
    bad[2].blocks[3] = 0;
    bad[3].height = 0;
    bad[4].image_width = 1u << 31;
    for (size_t i = 0; i < 5; i++) {
        tacit_tensor_source source;
        tacit_err err = { "" };
        ck_assert_int_lt(tacit_resnet_seeded(&bad[i], 7, &source, &err), 0);
        ck_assert_uint_gt(strlen(err.text), 0);
    }
    /* One pixel is enough: every map then is one. */
    tacit_resnet_config least = nets[0];
    ck_assert_int_eq(tacit_resnet_set_input(&least, 1, 1, NULL), TACIT_OK);
    tacit_resnet *resnet = open_net(&least, TACIT_ISA_REF);
    float image[3] = { 1, 2, 3 };
    float *out = embed(resnet, image, 1, 1, TACIT_FEATURES_MEAN, NULL);
    for (size_t i = 0; i < least.out[3]; i++)
        ck_assert(isfinite(out[i]));
    tacit_free(out);
    tacit_resnet_close(&resnet);
}
END_TEST

/* ---- against timm */

static void *read_tensor(const tacit_tensor_source *source, const char *name,
                         const tacit_tensor **t)
{
    *t = &source->tensors[index_of(source, name)];
    void *values = tacit_alloc((*t)->bytes);
    ck_assert_int_eq(
        source->read(source->ctx, (size_t)(*t - source->tensors), 0, (*t)->bytes, values, NULL),
        TACIT_OK);
    return values;
}

/* Every value of `got` (batch, n) is close to the expected one. */
static void compare(const char *what, const tacit_tensor_source *source, const char *name,
                    const float *got, size_t batch, size_t n)
{
    const tacit_tensor *t;
    float *want = read_tensor(source, name, &t);
    ck_assert_uint_eq(t->bytes, batch * n * sizeof *want);
    for (size_t b = 0; b < batch; b++) {
        double largest = 0, error = 0;
        for (size_t i = b * n; i < (b + 1) * n; i++) {
            ck_assert(isfinite(got[i]));
            largest = fmax(largest, fabs((double)want[i]));
            error = fmax(error, fabs((double)got[i] - (double)want[i]));
        }
        ck_assert_msg(error <= TOLERANCE * largest, "%s, %s, image %zu: error %.3g of %.3g", what,
                      name, b, error, largest);
    }
    tacit_free(want);
}

START_TEST(as_timm)
{
    static const char *const variants[] = { "small", "bottleneck" };
    tacit_safetensors *weights, *golden_file;
    tacit_err err;
    char path[64];
    snprintf(path, sizeof path, "resnet_%s_weights.safetensors", variants[_i]);
    ck_assert_msg(!tacit_safetensors_open(&weights, golden(path), &err), "%s", err.text);
    snprintf(path, sizeof path, "resnet_%s_golden.safetensors", variants[_i]);
    ck_assert_msg(!tacit_safetensors_open(&golden_file, golden(path), &err), "%s", err.text);
    tacit_tensor_source source = tacit_safetensors_source(weights);
    tacit_tensor_source expected = tacit_safetensors_source(golden_file);
    for (unsigned isa = 0; isa < TACIT_ISA_COUNT; isa++)
        for (unsigned size = 0; size < 2 && tacit_isa_available((tacit_isa)isa); size++) {
            const tacit_kernels *k = tacit_kernels_for((tacit_isa)isa);
            const char *what = tacit_isa_name((tacit_isa)isa);
            tacit_resnet_config config;
            const tacit_tensor *t;
            char name[16];
            snprintf(name, sizeof name, "images%u", size);
            uint16_t *half = read_tensor(&expected, name, &t);
            float *images = tacit_alloc(2 * t->bytes);
            k->f16_to_f32(t->bytes / 2, half, images);
            ck_assert_msg(!tacit_resnet_detect(&source, &config, &err), "%s", err.text);
            ck_assert_int_eq(
                tacit_resnet_set_input(&config, (unsigned)t->shape[2], (unsigned)t->shape[3], &err),
                TACIT_OK);
            tacit_pool *pool;
            tacit_resnet *resnet;
            ck_assert_int_eq(tacit_pool_open(&pool, 2, NULL), TACIT_OK);
            ck_assert_msg(!tacit_resnet_open(&resnet, &config, &source, k, pool, &err), "%s",
                          err.text);
            float *mean = embed(resnet, images, 2, 2, TACIT_FEATURES_MEAN, pool);
            float *patch = embed(resnet, images, 2, 2, TACIT_FEATURES_PATCH, pool);
            snprintf(name, sizeof name, "mean%u", size);
            compare(what, &expected, name, mean, 2,
                    tacit_resnet_feature_count(resnet, TACIT_FEATURES_MEAN));
            snprintf(name, sizeof name, "patch%u", size);
            compare(what, &expected, name, patch, 2,
                    tacit_resnet_feature_count(resnet, TACIT_FEATURES_PATCH));
            tacit_free(mean);
            tacit_free(patch);
            tacit_free(images);
            tacit_free(half);
            tacit_resnet_close(&resnet);
            tacit_pool_close(&pool);
        }
    tacit_safetensors_close(&weights);
    tacit_safetensors_close(&golden_file);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("resnet");
    TCase *t = tcase_create("resnet");
    tcase_set_timeout(t, 300);
    tcase_add_test(t, every_way_of_convolving_is_met);
    tcase_add_loop_test(t, same_bits_for_isa_threads_and_batch, 0, NETS);
    tcase_add_test(t, room_for_a_batch_is_room_for_less);
    tcase_add_loop_test(t, features_agree_with_each_other, 0, NETS);
    tcase_add_loop_test(t, precisions_are_near_fp32, TACIT_PRECISION_INT8, TACIT_PRECISIONS);
    tcase_add_test(t, forward_allocates_nothing);
    tcase_add_loop_test(t, open_survives_every_failing_allocation, 0, 2);
    tcase_add_test(t, named_sizes_are_found_and_detected);
    tcase_add_test(t, values_that_cannot_be_are_refused);
    tcase_add_test(t, all_wrong_tensors_are_named_at_once);
    tcase_add_test(t, impossible_sizes_are_refused);
    tcase_add_loop_test(t, as_timm, 0, 2);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
