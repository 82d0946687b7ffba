/* test_dialects.c - small checkpoints of every dialect, as their authors' code names them, with the
 * features that code computes (tests/golden/make_dialects.py). */
#include "dialect.h"
#include "mem.h"
#include "safetensors.h"
#include "scratch.h"

#include <math.h>
#include <stdbool.h>

#define GOLDEN "golden."

static tacit_err err;
static tacit_pool *pool;
static const tacit_kernels *kernels;

static const struct {
    const char *file, *name, *prefix;
    unsigned heads;
    tacit_features features;
    tacit_hints hints;
} cases[] = {
    { .file = "transformers_vit", .name = "transformers ViT" },
    { .file = "transformers_vitmae", .name = "transformers ViT" },
    { .file = "transformers_dinov2", .name = "transformers Dinov2" },
    { .file = "transformers_dinov2_swiglu", .name = "transformers Dinov2" },
    { .file = "transformers_dinov2_registers", .name = "transformers Dinov2WithRegisters" },
    { .file = "transformers_dinov3", .name = "transformers DINOv3ViT" },
    { .file = "transformers_dinov3_plain", .name = "transformers DINOv3ViT" },
    { .file = "transformers_beit", .name = "transformers Beit", .features = TACIT_FEATURES_MEAN },
    { .file = "transformers_beit_masked", .name = "transformers Beit", .prefix = "beit." },
    { .file = "transformers_ijepa", .name = "transformers IJepa", .features = TACIT_FEATURES_MEAN },
    { .file = "transformers_clip",
      .name = "transformers CLIP",
      .prefix = "vision_model.",
      .hints = { .activation = "quick_gelu" } },
    { .file = "torchvision_vit", .name = "torchvision" },
    { .file = "timm_vit", .name = "timm" },
    { .file = "timm_reg4", .name = "timm" },
    { .file = "timm_qk_norm", .name = "timm or DINO" },
    { .file = "timm_clip", .name = "timm CLIP" },
    { .file = "timm_dinov3", .name = "timm DINOv3" },
    { .file = "timm_beit", .name = "BEiT", .features = TACIT_FEATURES_MEAN },
    { .file = "dino", .name = "DINO", .prefix = "teacher.backbone." },
    { .file = "dino_bare", .name = "timm or DINO" },
    { .file = "dinov2", .name = "DINOv2" },
    { .file = "dinov2_registers", .name = "DINOv2 with registers", .prefix = "teacher.backbone." },
    { .file = "dinov3", .name = "DINOv3" },
    { .file = "mae", .name = "MAE", .prefix = "model." },
    { .file = "mae_fine_tuned",
      .name = "MAE, fine-tuned",
      .prefix = "model.",
      .features = TACIT_FEATURES_MEAN },
    { .file = "ijepa",
      .name = "I-JEPA",
      .prefix = "target_encoder.module.",
      .features = TACIT_FEATURES_MEAN },
    { .file = "mocov3", .name = "MoCo v3", .prefix = "state_dict.module.base_encoder." },
    { .file = "beit", .name = "BEiT", .prefix = "model." },
    { .file = "beit2", .name = "BEiT v2", .prefix = "model." },
    { .file = "simmim",
      .name = "SimMIM",
      .prefix = "model.encoder.",
      .features = TACIT_FEATURES_MEAN },
    { .file = "open_clip",
      .name = "open_clip",
      .prefix = "visual.",
      .hints = { .activation = "quick_gelu" } },
    { .file = "mmpretrain", .name = "mmpretrain", .prefix = "state_dict.backbone." },
    { .file = "solo_learn", .name = "timm or DINO", .prefix = "state_dict.backbone." },
    { .file = "resnet_bottleneck", .name = "ResNet", .features = TACIT_FEATURES_MEAN },
    { .file = "mocov2",
      .name = "MoCo v2",
      .prefix = "state_dict.module.encoder_q.",
      .features = TACIT_FEATURES_MEAN },
    { .file = "swav", .name = "SwAV", .prefix = "module.", .features = TACIT_FEATURES_MEAN },
    { .file = "lightly_resnet",
      .name = "lightly ResNet",
      .prefix = "state_dict.backbone.",
      .features = TACIT_FEATURES_MEAN },
    { .file = "transformers_resnet",
      .name = "transformers ResNet",
      .features = TACIT_FEATURES_MEAN },
    { .file = "maskfeat",
      .name = "MaskFeat",
      .prefix = "model_state.",
      .features = TACIT_FEATURES_MEAN },
};
#define CASES (sizeof cases / sizeof cases[0])

/* A file without what is golden in it, and, if asked for, with one tensor gone or renamed. */
typedef struct checkpoint {
    tacit_safetensors *file;
    tacit_tensor_source all, source;
    tacit_tensor *tensors;
    size_t *index;
    char renamed[256];
} checkpoint;

static tacit_status read_some(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                              tacit_err *e)
{
    const checkpoint *c = ctx;
    size_t bytes = c->all.tensors[c->index[i]].bytes; /* where a test has changed the shape */
    if (offset > bytes || size > bytes - offset)
        return tacit_fail(e, TACIT_EFORMAT, "behind the end");
    return c->all.read(c->all.ctx, c->index[i], offset, size, dst, e);
}

static void open_checkpoint(checkpoint *c, const char *name, size_t damaged, const char *rename)
{
    char path[128];
    *c = (checkpoint){ 0 };
    snprintf(path, sizeof path, "dialects/%s.safetensors", name);
    ck_assert_msg(tacit_safetensors_open(&c->file, golden(path), &err) == TACIT_OK, "%s", err.text);
    c->all = tacit_safetensors_source(c->file);
    c->tensors = calloc(c->all.count, sizeof *c->tensors);
    c->index = calloc(c->all.count, sizeof *c->index);
    size_t n = 0, seen = 0;
    for (size_t i = 0; i < c->all.count; i++) {
        const tacit_tensor *t = &c->all.tensors[i];
        if (!strncmp(t->name, GOLDEN, strlen(GOLDEN)))
            continue;
        bool hit = seen++ == damaged;
        if (hit && !rename)
            continue;
        c->tensors[n] = *t;
        if (hit) {
            snprintf(c->renamed, sizeof c->renamed, "%s%s", t->name, rename);
            c->tensors[n].name = c->renamed;
        }
        c->index[n++] = i;
    }
    c->source = (tacit_tensor_source){ c->tensors, n, read_some, c };
}

static void close_checkpoint(checkpoint *c)
{
    tacit_safetensors_close(&c->file);
    free(c->tensors);
    free(c->index);
}

/* A golden tensor, F16 or F32, as floats; NULL where there is none. Freed with free. */
static float *golden_values(const checkpoint *c, const char *name, size_t *shape, size_t *count)
{
    for (size_t i = 0; i < c->all.count; i++) {
        const tacit_tensor *t = &c->all.tensors[i];
        if (strncmp(t->name, GOLDEN, strlen(GOLDEN)) || strcmp(t->name + strlen(GOLDEN), name))
            continue;
        *count = t->bytes / tacit_dtype_size(t->dtype);
        float *x = malloc(*count * sizeof *x + t->bytes);
        uint16_t *half = (uint16_t *)(void *)(x + *count);
        bool wide = t->dtype == TACIT_F32;
        ck_assert_int_eq(
            c->all.read(c->all.ctx, i, 0, t->bytes, wide ? (void *)x : (void *)half, &err),
            TACIT_OK);
        if (!wide)
            kernels->f16_to_f32(*count, half, x);
        for (unsigned d = 0; shape && d < t->rank; d++)
            shape[d] = t->shape[d];
        return x;
    }
    return NULL;
}

/* As the promise is written: the cosine, and the largest error relative to the largest value. */
static void expect_near(const float *x, const float *want, size_t n, const char *what)
{
    double dot = 0, xx = 0, ww = 0, most = 0, off = 0;
    for (size_t i = 0; i < n; i++) {
        dot += (double)x[i] * (double)want[i];
        xx += (double)x[i] * (double)x[i];
        ww += (double)want[i] * (double)want[i];
        most = fmax(most, fabs((double)want[i]));
        off = fmax(off, fabs((double)x[i] - (double)want[i]));
    }
    ck_assert_msg(dot / sqrt(xx * ww) >= 0.999999 && off <= 1e-5 * most,
                  "%s: cosine 1 - %.2g, largest error %.2g of the largest value", what,
                  1 - dot / sqrt(xx * ww), off / most);
}

/* The features of one image that are golden; how many there were. */
static unsigned expect_features(const checkpoint *c, tacit_dialect *d, bool other)
{
    static const char *const names[] = { "cls", "mean", "cls+mean", "patch", "last4" };
    unsigned found = 0;
    size_t shape[4], n;
    float *image = golden_values(c, other ? "other_image" : "image", shape, &n);
    if (!image)
        return 0;
    ck_assert_msg(tacit_backbone_set_input(&d->config, (unsigned)shape[2], (unsigned)shape[3],
                                           &err) == TACIT_OK,
                  "%s", err.text);
    tacit_backbone *b;
    ck_assert_msg(tacit_backbone_open(&b, &d->config, &d->source, kernels, pool, &err) == TACIT_OK,
                  "%s", err.text);
    void *scratch = tacit_alloc(tacit_backbone_scratch(b, 1, pool));
    for (unsigned f = 0; f < sizeof names / sizeof names[0]; f++) {
        char key[32];
        snprintf(key, sizeof key, "%s%s", other ? "other_" : "", names[f]);
        float *want = golden_values(c, key, NULL, &n);
        if (!want)
            continue;
        ck_assert_uint_eq(tacit_backbone_feature_count(b, f), n);
        float *out = malloc(n * sizeof *out);
        tacit_backbone_forward(b, image, 1, f, out, scratch, pool);
        expect_near(out, want, n, key);
        free(out);
        free(want);
        found++;
    }
    tacit_free(scratch);
    tacit_backbone_close(&b);
    free(image);
    return found;
}

static tacit_dialect_options options_of(size_t i)
{
    tacit_dialect_options o = { .hints = cases[i].hints };
    o.hints.heads = 2;
    return o;
}

START_TEST(gives_the_features_of_the_original)
{
    checkpoint c;
    tacit_dialect d;
    tacit_dialect_options o = options_of((size_t)_i);
    open_checkpoint(&c, cases[_i].file, SIZE_MAX, NULL);
    ck_assert_msg(tacit_dialect_open(&d, &c.source, &o, &err) == TACIT_OK, "%s: %s", cases[_i].file,
                  err.text);
    ck_assert_str_eq(d.name, cases[_i].name);
    ck_assert_str_eq(d.prefix, cases[_i].prefix ? cases[_i].prefix : "");
    if (!strcmp(cases[_i].name, "SwAV")) /* its deviation of red is its own */
        ck_assert(d.published.std[0] == 0.228f && d.published.std[1] == 0.224f);
    ck_assert_int_eq(d.features, cases[_i].features);
    if (d.config.family == TACIT_FAMILY_VIT)
        ck_assert_uint_eq(d.config.vit.heads, 2);
    ck_assert_ptr_null(d.missing[0]);
    for (size_t i = 0; i < c.source.count; i++)
        ck_assert_msg(d.use[i] != TACIT_USE_UNKNOWN, "%s", c.tensors[i].name);
    ck_assert_uint_gt(expect_features(&c, &d, false), 0);
    size_t n;
    float *other = golden_values(&c, "other_cls", NULL, &n);
    other = other ? other : golden_values(&c, "other_mean", NULL, &n);
    if (other)
        ck_assert_uint_gt(expect_features(&c, &d, true), 0);
    free(other);
    tacit_dialect_close(&d);
    close_checkpoint(&c);
}
END_TEST

/* Every tensor that is used, once gone and once under another name: an error names it; with
 * allow_partial it loads. */
START_TEST(accounts_for_every_tensor)
{
    checkpoint whole, c;
    tacit_dialect d, damaged;
    tacit_dialect_options o = options_of((size_t)_i);
    open_checkpoint(&whole, cases[_i].file, SIZE_MAX, NULL);
    ck_assert_int_eq(tacit_dialect_open(&d, &whole.source, &o, &err), TACIT_OK);
    for (size_t i = 0; i < whole.source.count; i++) {
        const char *name = whole.tensors[i].name;
        if (d.use[i] != TACIT_USE_USED)
            continue;
        open_checkpoint(&c, cases[_i].file, i, ".x");
        tacit_status st = tacit_dialect_open(&damaged, &c.source, &o, &err);
        ck_assert_msg(st < 0, "%s renamed", name);
        ck_assert_msg(st == TACIT_EUNSUPPORTED || strstr(err.text, name) ||
                          strstr(err.text, "make") || strstr(err.text, "unknown"),
                      "%s is not in: %s", name, err.text);
        tacit_dialect_close(&damaged);
        close_checkpoint(&c);
    }
    tacit_dialect_close(&d);
    close_checkpoint(&whole);
}
END_TEST

START_TEST(partial_checkpoints_load_when_allowed)
{
    checkpoint c;
    tacit_dialect d;
    tacit_dialect_options o = options_of(0);
    open_checkpoint(&c, "dino_bare", SIZE_MAX, NULL);
    size_t n = 0;
    for (size_t i = 0; i < c.source.count; i++)
        if (strcmp(c.tensors[i].name, "blocks.1.norm1.bias")) {
            c.tensors[n] = c.tensors[i];
            c.index[n++] = c.index[i];
        }
    ck_assert_uint_eq(n, c.source.count - 1);
    c.source.count = n;
    c.tensors[0].name = "something.else";
    tacit_status st = tacit_dialect_open(&d, &c.source, &o, &err);
    ck_assert_int_lt(st, 0);
    ck_assert_ptr_nonnull(strstr(err.text, "missing blocks.1.norm1.bias"));
    ck_assert_ptr_nonnull(strstr(err.text, "unknown something.else"));
    ck_assert_ptr_nonnull(d.missing);
    tacit_dialect_close(&d);
    o.allow_partial = true;
    ck_assert_msg(tacit_dialect_open(&d, &c.source, &o, &err) == TACIT_OK, "%s", err.text);
    ck_assert_int_eq(d.use[0], TACIT_USE_UNKNOWN);
    tacit_backbone *b;
    ck_assert_msg(tacit_backbone_open(&b, &d.config, &d.source, kernels, pool, &err) == TACIT_OK,
                  "%s", err.text);
    tacit_backbone_close(&b);
    tacit_dialect_close(&d);
    close_checkpoint(&c);
}
END_TEST

/* DeepCluster v2's file (main_deepclusterv2.py, MultiPrototypes): SwAV's network, with several
 * heads of prototypes. */
START_TEST(several_heads_of_prototypes)
{
    static const char *const heads[] = { "module.prototypes.prototypes0.weight",
                                         "module.prototypes.prototypes1.weight",
                                         "module.prototypes.prototypes2.weight" };
    checkpoint c;
    tacit_dialect d;
    tacit_dialect_options o = options_of(0);
    open_checkpoint(&c, "swav", SIZE_MAX, NULL);
    size_t at = 0, n = c.source.count;
    while (strcmp(c.tensors[at].name, "module.prototypes.weight"))
        ck_assert_uint_lt(++at, n);
    for (size_t i = 0; i < 3; i++) { /* in the places of the golden ones */
        size_t to = i ? n + i - 1 : at;
        ck_assert_uint_lt(to, c.all.count);
        c.tensors[to] = c.tensors[at];
        c.tensors[to].name = heads[i];
        c.index[to] = c.index[at];
    }
    c.source.count = n + 2;
    ck_assert_msg(tacit_dialect_open(&d, &c.source, &o, &err) == TACIT_OK, "%s", err.text);
    ck_assert_str_eq(d.name, "DeepCluster v2");
    ck_assert_str_eq(d.prefix, "module.");
    ck_assert(d.published.std[0] == 0.228f);
    ck_assert_int_eq(d.use[at], TACIT_USE_UNNEEDED);
    for (size_t i = 0; i < c.source.count; i++)
        ck_assert_msg(d.use[i] != TACIT_USE_UNKNOWN, "%s", c.tensors[i].name);
    ck_assert_uint_gt(expect_features(&c, &d, false), 0);
    tacit_dialect_close(&d);
    close_checkpoint(&c);
}
END_TEST

START_TEST(the_key_chooses_the_network)
{
    checkpoint c;
    tacit_dialect d;
    tacit_dialect_options o = options_of(0);
    open_checkpoint(&c, "dino", SIZE_MAX, NULL);
    o.checkpoint_key = "student";
    ck_assert_msg(tacit_dialect_open(&d, &c.source, &o, &err) == TACIT_OK, "%s", err.text);
    ck_assert_str_eq(d.prefix, "student.module.backbone.");
    tacit_dialect_close(&d);
    o.checkpoint_key = "tea";
    ck_assert_int_eq(tacit_dialect_open(&d, &c.source, &o, &err), TACIT_EUNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(err.text, "'tea'"));
    o.checkpoint_key = NULL;
    o.arch = "vit_base_patch16";
    ck_assert_int_eq(tacit_dialect_open(&d, &c.source, &o, &err), TACIT_EINVAL);
    ck_assert_ptr_nonnull(strstr(err.text, "not vit_base_patch16"));
    tacit_dialect_close(&d);
    close_checkpoint(&c);
}
END_TEST

/* Shapes from outside: every dimension of every tensor at once small, large, of another rank. */
START_TEST(hostile_shapes_are_refused)
{
    static const size_t sizes[] = { 0, 1, 3, SIZE_MAX, (size_t)1 << 40 };
    checkpoint c;
    tacit_dialect d;
    tacit_dialect_options o = options_of((size_t)_i);
    open_checkpoint(&c, cases[_i].file, SIZE_MAX, NULL);
    for (size_t i = 0; i < c.source.count; i++) {
        tacit_tensor whole = c.tensors[i];
        for (unsigned k = 0; k <= whole.rank * 5; k++) {
            if (k < whole.rank * 5)
                c.tensors[i].shape[k / 5] = sizes[k % 5];
            else
                c.tensors[i].rank = whole.rank ? 0 : 1;
            tacit_backbone *b = NULL;
            err.text[0] = 0;
            tacit_status st = tacit_dialect_open(&d, &c.source, &o, &err);
            if (st == TACIT_OK)
                st = tacit_backbone_open(&b, &d.config, &d.source, kernels, pool, &err);
            ck_assert(st == TACIT_OK || (err.text[0] && !strchr(err.text, '\n')));
            tacit_backbone_close(&b);
            tacit_dialect_close(&d);
            c.tensors[i] = whole;
        }
    }
    close_checkpoint(&c);
}
END_TEST

START_TEST(every_allocation_fails_once)
{
    checkpoint c;
    tacit_dialect_options o = options_of((size_t)_i);
    open_checkpoint(&c, cases[_i].file, SIZE_MAX, NULL);
    for (uint64_t n = 1;; n++) {
        tacit_dialect d;
        tacit_backbone *b = NULL;
        tacit_alloc_fail_at(n, false);
        tacit_status st = tacit_dialect_open(&d, &c.source, &o, &err);
        if (st == TACIT_OK)
            st = tacit_backbone_open(&b, &d.config, &d.source, kernels, pool, &err);
        tacit_alloc_fail_at(0, false);
        tacit_backbone_close(&b);
        tacit_dialect_close(&d);
        if (st == TACIT_OK)
            break;
        ck_assert_msg(st == TACIT_ENOMEM, "%s", err.text);
    }
    close_checkpoint(&c);
}
END_TEST

/* Names of one tensor that say what a file is, and what is said of it. */
START_TEST(other_networks_are_named)
{
    static const char *const names[][2] = {
        { "layers.0.blocks.0.attn.relative_position_bias_table", "Swin" },
        { "module.stages.0.0.dwconv.weight", "ConvNeXt" },
        { "cls_attn_blocks.0.attn.qkv.weight", "XCiT" },
        { "conv.weight", "no network is recognised in 1 tensors" },
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        tacit_tensor t = { .name = names[i][0], .rank = 1, .shape = { 1 }, .bytes = 4 };
        tacit_tensor_source s = { .tensors = &t, .count = 1 };
        tacit_dialect d;
        tacit_dialect_options o = { 0 };
        ck_assert_int_eq(tacit_dialect_open(&d, &s, &o, &err), TACIT_EUNSUPPORTED);
        ck_assert_msg(strstr(err.text, names[i][1]) != NULL, "%s", err.text);
    }
    /* SimMIM's of a Swin Transformer, whose first layer is that of a ViT */
    tacit_tensor swin[] = {
        { .name = "model.encoder.patch_embed.proj.weight", .rank = 4, .shape = { 8, 3, 4, 4 } },
        { .name = "model.encoder.layers.0.blocks.0.attn.relative_position_bias_table", .rank = 2 },
    };
    const tacit_tensor_source s = { .tensors = swin, .count = 2 };
    const tacit_dialect_options o = { 0 };
    tacit_dialect d;
    ck_assert_int_eq(tacit_dialect_open(&d, &s, &o, &err), TACIT_EUNSUPPORTED);
    ck_assert_msg(strstr(err.text, "a Swin Transformer (by its tensor ") != NULL, "%s", err.text);
}
END_TEST

static void open_pool(void)
{
    tacit_isa isa;
    ck_assert_int_eq(tacit_pool_open(&pool, 2, &err), TACIT_OK);
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, &err), TACIT_OK);
    kernels = tacit_kernels_for(isa);
}

static void close_pool(void)
{
    tacit_pool_close(&pool);
}

int main(void)
{
    Suite *suite = suite_create("dialects");
    TCase *tcase = tcase_create("dialects");
    tcase_add_unchecked_fixture(tcase, open_pool, close_pool);
    tcase_set_timeout(tcase, 300);
    tcase_add_loop_test(tcase, gives_the_features_of_the_original, 0, CASES);
    tcase_add_loop_test(tcase, accounts_for_every_tensor, 0, CASES);
    tcase_add_test(tcase, partial_checkpoints_load_when_allowed);
    tcase_add_test(tcase, several_heads_of_prototypes);
    tcase_add_test(tcase, the_key_chooses_the_network);
    tcase_add_loop_test(tcase, hostile_shapes_are_refused, 0, CASES);
    tcase_add_loop_test(tcase, every_allocation_fails_once, 0, CASES);
    tcase_add_test(tcase, other_networks_are_named);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
