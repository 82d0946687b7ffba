/* test_weights.c - what lies beside a checkpoint, and what tacit convert notes in one.
 *
 * The checkpoints are those of test_dialects.c. The configurations are as timm's save_for_hf,
 * transformers' save_pretrained and open_clip's push_to_hf_hub write them.
 */
#include "convert.h"
#include "extractor.h"
#include "mem.h"
#include "meta.h"
#include "rng.h"
#include "safetensors.h"
#include "scratch.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <unistd.h>

/* Of the vector of one picture of noise; moves with the default backbone and with nothing else. */
#define DEFAULT_SUM 0x1.db64fp+5

static tacit_err err;
static const tacit_kernels *kernels;
static char folder[600], model[700];

/* A source without the tensors that are golden. */
struct part {
    tacit_tensor_source all;
    size_t *index;
};

static tacit_status read_part(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                              tacit_err *e)
{
    const struct part *p = ctx;
    return p->all.read(p->all.ctx, p->index[i], offset, size, dst, e);
}

/* tests/data/dialects/NAME.safetensors as `path`. */
static void put_checkpoint(const char *name, const char *path)
{
    char from[128];
    tacit_safetensors *file;
    snprintf(from, sizeof from, "dialects/%s.safetensors", name);
    ck_assert_msg(tacit_safetensors_open(&file, golden(from), &err) == TACIT_OK, "%s", err.text);
    struct part p = { .all = tacit_safetensors_source(file) };
    tacit_tensor *tensors = calloc(p.all.count, sizeof *tensors);
    p.index = calloc(p.all.count, sizeof *p.index);
    size_t n = 0;
    for (size_t i = 0; i < p.all.count; i++)
        if (strncmp(p.all.tensors[i].name, "golden.", 7)) {
            tensors[n] = p.all.tensors[i];
            p.index[n++] = i;
        }
    tacit_tensor_source source = { tensors, n, read_part, &p };
    ck_assert_msg(tacit_safetensors_copy(path, &source, NULL, &err) == TACIT_OK, "%s", err.text);
    tacit_safetensors_close(&file);
    free(tensors);
    free(p.index);
}

static void put_text(const char *name, const char *text)
{
    char path[700];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (text)
        file_put(path, text, strlen(text));
    else
        unlink(path);
}

static void setup(void)
{
    scratch_open();
    tacit_isa isa;
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, &err), TACIT_OK);
    kernels = tacit_kernels_for(isa);
    snprintf(folder, sizeof folder, "%s/model", scratch_folder);
    snprintf(model, sizeof model, "%s/model.safetensors", folder);
    mkdir(folder, 0777);
}

static void clear(void)
{
    put_text("config.json", NULL);
    put_text("preprocessor_config.json", NULL);
    put_text("open_clip_config.json", NULL);
}

static tacit_status open_weights(tacit_weights *w, const char *path)
{
    tacit_weights_options how = { 0 };
    return tacit_weights_open(w, path, &how, &err);
}

/* The recipe at the published size. */
static tacit_recipe recipe_of(const tacit_weights *w)
{
    tacit_recipe r;
    tacit_recipe_options told;
    unsigned height, width;
    tacit_recipe_defaults(&told);
    tacit_backbone_input(&w->dialect.config, &height, &width);
    ck_assert_msg(tacit_recipe_make(&r, &w->dialect.published, height, width, &told, &err) ==
                      TACIT_OK,
                  "%s", err.text);
    return r;
}

#define HF(type, more)                                                                             \
    "{\"model_type\": \"" type "\", \"num_attention_heads\": 2, \"hidden_size\": 16" more "}"
#define TIMM(arch, more) "{\"architecture\": \"" arch "\", \"num_features\": 16" more "}"

static const struct {
    const char *file, *config, *processor; /* of tests/data/dialects, and beside it */
    const char *dialect, *recipe, *pixels;
    double mean, std;
    tacit_features features;
    float eps;
    bool floor_crop;
} besides[] = {
    { "transformers_vit", HF("vit", ""), NULL, "transformers ViT",
      "squash 32 bilinear as Pillow 13, crop 32 x 32", NULL, 0.5, 0.5, TACIT_FEATURES_CLS, 1e-12f,
      true },
    { "transformers_vit", HF("vit", ", \"layer_norm_eps\": 1e-5, \"hidden_act\": \"gelu\""),
      "{\"image_processor_type\": \"ViTImageProcessor\", \"size\": {\"height\": 40, \"width\": "
      "24}, "
      "\"resample\": 3, \"image_mean\": [0.4, 0.5, 0.6], \"image_std\": [0.3, 0.3, 0.3], "
      "\"do_resize\": true, \"do_rescale\": true, \"rescale_factor\": 0.00392156862745098}",
      "transformers ViT", "squash 40 x 24 bicubic as Pillow 13, crop 40 x 24",
      "preprocessor_config.json", 0.4, 0.3, TACIT_FEATURES_CLS, 1e-5f, true },
    { "transformers_vit", HF("vit", ""),
      "{\"feature_extractor_type\": \"ViTFeatureExtractor\", \"size\": 24, \"resample\": 2}",
      "transformers ViT", "squash 24 bilinear as Pillow 13, crop 24 x 24",
      "preprocessor_config.json", 0.5, 0.5, TACIT_FEATURES_CLS, 1e-12f, true },
    { "transformers_dinov2", HF("dinov2", ", \"image_size\": 32, \"layer_norm_eps\": 1e-6"),
      "{\"image_processor_type\": \"BitImageProcessor\", \"size\": {\"shortest_edge\": 64}, "
      "\"crop_size\": {\"height\": 56, \"width\": 56}, \"do_center_crop\": true, \"resample\": 3, "
      "\"image_mean\": [0.485, 0.456, 0.406], \"image_std\": [0.229, 0.224, 0.225]}",
      "transformers Dinov2", "resize 64 bicubic as Pillow 13, crop 56 x 56",
      "preprocessor_config.json", 0.485, 0.229, TACIT_FEATURES_CLS, 1e-6f, true },
    { "transformers_vit", HF("vit", ""),
      "{\"image_processor_type\": \"ConvNextImageProcessor\", \"size\": {\"shortest_edge\": 56}, "
      "\"crop_pct\": 0.875, \"resample\": 3}",
      "transformers ViT", "resize 64 bicubic as Pillow 13, crop 56 x 56",
      "preprocessor_config.json", 0.5, 0.5, TACIT_FEATURES_CLS, 1e-12f, true },
    { "transformers_beit", HF("beit", ""),
      "{\"feature_extractor_type\": \"BeitFeatureExtractor\", \"size\": 36, \"crop_size\": 32, "
      "\"do_center_crop\": true, \"resample\": 3}",
      "transformers Beit", "squash 36 bicubic as Pillow 13, crop 32 x 32",
      "preprocessor_config.json", 0.5, 0.5, TACIT_FEATURES_MEAN, 1e-12f, true },
    { "transformers_dinov3", HF("dinov3_vit", ", \"layer_norm_eps\": 1e-5"),
      "{\"image_processor_type\": \"DINOv3ViTImageProcessorFast\", \"size\": {\"height\": 32, "
      "\"width\": 32}, \"resample\": 2, \"do_normalize\": false}",
      "transformers DINOv3ViT", "squash 32 bilinear as torch's float tensors, crop 32 x 32",
      "preprocessor_config.json", 0, 1, TACIT_FEATURES_CLS, 1e-5f, true },
    { "transformers_clip",
      "{\"model_type\": \"clip\", \"vision_config\": {\"num_attention_heads\": 2, \"hidden_act\": "
      "\"quick_gelu\", \"hidden_size\": 16}}",
      "{\"feature_extractor_type\": \"CLIPFeatureExtractor\", \"size\": 32, \"crop_size\": 32, "
      "\"resample\": 3}",
      "transformers CLIP", "resize 32 bicubic as Pillow 13, crop 32 x 32",
      "preprocessor_config.json", 0.48145466, 0.26862954, TACIT_FEATURES_CLS, 1e-5f, true },
    { "dinov3", "{\"num_attention_heads\": 2, \"model_type\": \"?\"}", NULL, "DINOv3",
      "squash 256 bilinear as torch's uint8 tensors, crop 256 x 256", NULL, 0.485, 0.229,
      TACIT_FEATURES_CLS, 1e-5f, false },
    { "scene",
      TIMM("vit_small_patch8",
           ", \"global_pool\": \"avg\", \"pretrained_cfg\": "
           "{\"input_size\": [3, 40, 40], \"crop_pct\": 0.95, \"crop_mode\": \"squash\", "
           "\"interpolation\": \"bilinear\", \"mean\": [0.5, 0.5, 0.5], \"std\": [0.25, "
           "0.25, 0.25]}"),
      NULL, "timm", "squash 42 bilinear as Pillow 13, crop 40 x 40", "config.json", 0.5, 0.25,
      TACIT_FEATURES_MEAN, 1e-6f, false },
    { "scene",
      TIMM("vit_small_patch8", ", \"global_pool\": \"token\", \"input_size\": [3, 32, 48], "
                               "\"crop_pct\": 0.9, \"interpolation\": \"bicubic\""),
      "{\"ignored\": \"of transformers\"", "timm",
      "resize 35 x 53 bicubic as Pillow 13, crop 32 x 48", "config.json", 0.485, 0.229,
      TACIT_FEATURES_CLS, 1e-6f, false },
    { "scene", "{\"something\": \"else\"}", NULL, "timm or DINO",
      "resize 36 bicubic as Pillow 13, crop 32 x 32", NULL, 0.485, 0.229, TACIT_FEATURES_CLS, 1e-6f,
      false },
};

/* "scene": the checkpoint dino_bare, which nothing tells from timm's, with as many heads as its
 * width of 64 says. */
static void put_scene(void)
{
    static const tacit_vit_config config = {
        .dim = 64,
        .depth = 2,
        .heads = 1,
        .mlp = 128,
        .patch = 8,
        .height = 32,
        .width = 32,
        .eps = 1e-6f,
    };
    tacit_tensor_source source;
    ck_assert_int_eq(tacit_vit_seeded(&config, 3, &source, &err), TACIT_OK);
    ck_assert_msg(tacit_safetensors_copy(model, &source, NULL, &err) == TACIT_OK, "%s", err.text);
    tacit_vit_seeded_close(&source);
}

START_TEST(the_files_beside_decide)
{
    clear();
    bool scene = !strcmp(besides[_i].file, "scene");
    char config[2048];
    snprintf(config, sizeof config, "%s", besides[_i].config);
    if (scene)
        put_scene();
    else
        put_checkpoint(besides[_i].file, model);
    char *width = strstr(config, "\"num_features\": 16");
    if (width)
        memcpy(width + 16, "64", 2);
    put_text("config.json", config);
    put_text("preprocessor_config.json", besides[_i].processor);
    tacit_weights w;
    ck_assert_msg(open_weights(&w, _i % 2 ? model : folder) == TACIT_OK, "%s", err.text);
    ck_assert_str_eq(w.dialect.name, besides[_i].dialect);
    tacit_recipe r = recipe_of(&w);
    char text[128];
    tacit_recipe_text(&r, text, sizeof text);
    ck_assert_str_eq(text, besides[_i].recipe);
    ck_assert_str_eq(w.pixels ? w.pixels : "", besides[_i].pixels ? besides[_i].pixels : "");
    ck_assert(r.mean[0] == (float)besides[_i].mean && r.std[0] == (float)besides[_i].std);
    ck_assert_int_eq(r.floor_crop, besides[_i].floor_crop);
    ck_assert_int_eq(w.dialect.features, besides[_i].features);
    ck_assert(w.dialect.config.vit.eps == besides[_i].eps);
    if (!strcmp(besides[_i].dialect, "transformers CLIP"))
        ck_assert_int_eq(w.dialect.config.vit.activation, TACIT_QUICK_GELU);
    if (!strcmp(w.dialect.name, "timm"))
        ck_assert_int_eq(w.dialect.config.vit.resample, TACIT_RESAMPLE_ANTIALIAS);
    tacit_weights_close(&w);
}
END_TEST

START_TEST(open_clip_has_a_file_of_its_own)
{
    clear();
    char path[700];
    snprintf(path, sizeof path, "%s/open_clip_model.safetensors", folder);
    put_checkpoint("open_clip", path);
    put_text("config.json", "not looked at");
    put_text(
        "open_clip_config.json",
        "{\"model_cfg\": {\"quick_gelu\": true, \"vision_cfg\": {\"width\": 16, \"head_width\": "
        "8, \"image_size\": 32}}, \"preprocess_cfg\": {\"mean\": [0.5, 0.5, 0.5], \"std\": "
        "[0.5, 0.5, 0.5], \"interpolation\": \"bilinear\", \"resize_mode\": \"squash\"}}");
    tacit_weights w;
    ck_assert_msg(open_weights(&w, path) == TACIT_OK, "%s", err.text);
    ck_assert_int_eq(w.dialect.config.vit.activation, TACIT_QUICK_GELU);
    ck_assert_uint_eq(w.dialect.config.vit.heads, 2);
    ck_assert_str_eq(w.note, "");
    char text[128];
    tacit_recipe r = recipe_of(&w);
    tacit_recipe_text(&r, text, sizeof text);
    ck_assert_str_eq(text, "squash 32 bilinear as Pillow 13, crop 32 x 32");
    tacit_weights_close(&w);
    unlink(path);
}
END_TEST

/* Of another network in the same folder: left alone, and said so. */
START_TEST(a_foreign_config_is_not_used)
{
    static const char *const foreign[] = {
        "{\"model_type\": \"vit\", \"num_attention_heads\": 12, \"hidden_size\": 768}",
        "{\"model_type\": \"vit\", \"num_attention_heads\": 7, \"hidden_size\": 770}",
        "{\"architecture\": \"vit_base\", \"num_features\": 768, \"input_size\": [3, 64, 64]}",
    };
    clear();
    put_scene();
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        tacit_weights w;
        put_text("config.json", foreign[i]);
        ck_assert_msg(open_weights(&w, model) == TACIT_OK, "%s", err.text);
        ck_assert_msg(strstr(w.note, "is of a network of width 7"), "%s", w.note);
        ck_assert_uint_eq(w.dialect.config.vit.heads, 1);
        ck_assert_uint_eq(w.dialect.config.vit.height, 32);
        ck_assert_ptr_null(w.pixels);
        tacit_weights_close(&w);
    }
}
END_TEST

/* Anything in the two files that is not what it should be: one line that names file and key. */
/* The backbone in the program: a file like any other, and the same vector everywhere. */
START_TEST(the_default_is_in_the_program)
{
    tacit_model_options options;
    tacit_model m;
    tacit_session session;
    float *vector, sum = 0;
    uint8_t rgb[48 * 64 * 3];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(tacit_rng_u32(1, 2, i) % 256);
    tacit_model_defaults(&options);
    options.weights = TACIT_WEIGHTS_DEFAULT;
    ck_assert_msg(!tacit_model_open(&m, &options, true, NULL, &err), "%s", err.text);
    ck_assert_str_eq(m.dialect, "tacit pretrain simclr");
    ck_assert_uint_eq(m.dim, 256);
    ck_assert_uint_ne(m.hash, 0);
    ck_assert_int_eq(tacit_session_open(&session, &m, 1, NULL, &err), TACIT_OK);
    ck_assert_int_eq(tacit_session_put_rgb8(&session, 0, rgb, 64, 48, &err), TACIT_OK);
    ck_assert_ptr_nonnull(vector = tacit_alloc(m.dim * sizeof *vector));
    tacit_session_embed(&session, 1, vector);
    for (size_t i = 0; i < m.dim; i++)
        sum += vector[i];
    ck_assert_msg(sum == DEFAULT_SUM, "the sum of its vector is %a", (double)sum);
    tacit_free(vector);
    tacit_session_close(&session);
    tacit_model_close(&m);
}
END_TEST

START_TEST(wrong_files_are_refused)
{
    static const struct {
        const char *config, *processor, *says;
        tacit_status status;
    } wrong[] = {
        { "", NULL, "config.json: is not JSON", TACIT_EFORMAT },
        { "[]", NULL, "is not a JSON object", TACIT_EFORMAT },
        { "{\"model_type\": \"vit\"", NULL, "is not JSON", TACIT_EFORMAT },
        { "{\"model_type\": 3}", NULL, "\"model_type\" is not a short text", TACIT_EFORMAT },
        { "{\"model_type\": \"vit\", \"num_attention_heads\": 0}", NULL, "num_attention_heads",
          TACIT_EFORMAT },
        { "{\"model_type\": \"vit\", \"num_attention_heads\": -3}", NULL, "num_attention_heads",
          TACIT_EFORMAT },
        { "{\"model_type\": \"vit\", \"num_attention_heads\": \"3\"}", NULL, "num_attention_heads",
          TACIT_EFORMAT },
        { "{\"model_type\": \"vit\", \"num_attention_heads\": 1e300}", NULL, "num_attention_heads",
          TACIT_EFORMAT },
        { "{\"model_type\": \"vit\", \"num_attention_heads\": 99999999999999999999}", NULL,
          "is not JSON", TACIT_EFORMAT },
        { "{\"model_type\": \"vit\", \"layer_norm_eps\": 1e999}", NULL, "is not JSON",
          TACIT_EFORMAT },
        { "{\"model_type\": \"vit\", \"layer_norm_eps\": -1}", NULL, "layer_norm_eps",
          TACIT_EFORMAT },
        { "{\"architecture\": \"vit\", \"input_size\": [3, 224]}", NULL, "input_size",
          TACIT_EFORMAT },
        { "{\"architecture\": \"vit\", \"input_size\": \"large\"}", NULL, "input_size",
          TACIT_EFORMAT },
        { "{\"architecture\": \"vit\", \"input_size\": [3, 224, 1e9]}", NULL, "input_size",
          TACIT_EFORMAT },
        { "{\"architecture\": \"vit\", \"input_size\": [3, 32, 32], \"crop_mode\": \"border\"}",
          NULL, "crop_mode", TACIT_EUNSUPPORTED },
        { "{\"architecture\": \"vit\", \"crop_pct\": 0}", NULL, "crop_pct", TACIT_EFORMAT },
        { "{\"architecture\": \"vit\", \"mean\": [1, 2]}", NULL, "\"mean\"", TACIT_EFORMAT },
        { "{\"architecture\": \"vit\", \"std\": [1, 0, 1]}", NULL, "\"std\"", TACIT_EFORMAT },
        { NULL, "nonsense", "preprocessor_config.json: is not JSON", TACIT_EFORMAT },
        { NULL, "{\"size\": {\"longest_edge\": 3}}", "neither height and width nor",
          TACIT_EUNSUPPORTED },
        { NULL, "{\"size\": {\"height\": 32}}", "neither height and width nor",
          TACIT_EUNSUPPORTED },
        { NULL, "{\"size\": [32, 32]}", "\"size\"", TACIT_EFORMAT },
        { NULL, "{\"size\": 20000}", "16384", TACIT_EFORMAT },
        { NULL, "{\"size\": {\"shortest_edge\": 32}}", "does not crop", TACIT_EUNSUPPORTED },
        { NULL,
          "{\"size\": {\"shortest_edge\": 32}, \"do_center_crop\": true, \"crop_size\": "
          "{\"height\": 32, \"width\": 24}}",
          "no square", TACIT_EUNSUPPORTED },
        { NULL, "{\"do_resize\": false}", "do_resize", TACIT_EUNSUPPORTED },
        { NULL, "{\"do_rescale\": false}", "rescaled", TACIT_EUNSUPPORTED },
        { NULL, "{\"rescale_factor\": 0.5}", "rescaled", TACIT_EUNSUPPORTED },
        { NULL, "{\"do_normalize\": \"yes\"}", "do_normalize", TACIT_EFORMAT },
        { NULL, "{\"resample\": 9}", "resample", TACIT_EFORMAT },
        { NULL, "{\"resample\": \"bicubic\"}", "resample", TACIT_EFORMAT },
        { NULL, "{\"image_mean\": 0.5}", "image_mean", TACIT_EFORMAT },
        { NULL, "{\"image_std\": [0.5, 0.5, \"x\"]}", "image_std", TACIT_EFORMAT },
    };
    put_scene();
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        clear();
        put_text("config.json", wrong[i].config);
        put_text("preprocessor_config.json", wrong[i].processor);
        tacit_weights w;
        err.text[0] = 0;
        tacit_status st = open_weights(&w, model);
        ck_assert_msg(st == wrong[i].status, "case %zu: status %d: %s", i, st, err.text);
        ck_assert_msg(strstr(err.text, wrong[i].says), "case %zu: %s", i, err.text);
        ck_assert_ptr_nonnull(strstr(err.text, "config.json"));
        tacit_weights_close(&w);
    }
}
END_TEST

START_TEST(hostile_files_are_refused_at_once)
{
    char path[700];
    clear();
    put_scene();
    snprintf(path, sizeof path, "%s/config.json", folder);
    char *deep = malloc(4000000);
    memset(deep, '[', 4000000);
    for (int kind = 0; kind < 3; kind++) {
        unlink(path);
        if (kind < 2)
            file_put(path, deep, 4000000); /* nested beyond any stack */
        if (kind == 1)
            ck_assert_int_eq(truncate(path, 100 << 20), 0);
        if (kind == 2)
            ck_assert_int_eq(mkfifo(path, 0666), 0);
        tacit_weights w;
        double start = cpu_seconds();
        tacit_status st = open_weights(&w, model);
        ck_assert_msg(st == (kind == 0   ? TACIT_EFORMAT
                             : kind == 1 ? TACIT_ELIMIT
                                         : TACIT_EIO) ||
                          (kind == 2 && st < 0),
                      "kind %d: %d, %s", kind, st, err.text);
        ck_assert_msg(cpu_seconds() - start < 0.1, "kind %d took %g s", kind,
                      cpu_seconds() - start);
        ck_assert_ptr_nonnull(strstr(err.text, "config.json"));
        tacit_weights_close(&w);
    }
    free(deep);
    unlink(path);
}
END_TEST

/* The vector of one picture. */
static tacit_precision precision; /* of embed */
static const char *cache;
static bool mapped; /* what embed took was in the cache */

static void embed(const char *path, unsigned size, tacit_model *m, float *out)
{
    static uint8_t rgb[3 * 50 * 61];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(i * i / 7 + 3 * i);
    tacit_model_options options;
    tacit_session session;
    tacit_model_defaults(&options);
    options.weights = path;
    options.size[0] = options.size[1] = size;
    options.precision = precision;
    options.cache = cache;
    ck_assert_msg(tacit_model_open(m, &options, true, NULL, &err) == TACIT_OK, "%s", err.text);
    mapped = m->cache && m->cache->map;
    ck_assert_uint_le(m->dim, 64);
    ck_assert_msg(tacit_session_open(&session, m, 1, NULL, &err) == TACIT_OK, "%s", err.text);
    ck_assert_msg(tacit_session_put_rgb8(&session, 0, rgb, 61, 50, &err) == TACIT_OK, "%s",
                  err.text);
    tacit_session_embed(&session, 1, out);
    tacit_session_close(&session);
    tacit_model_close(m);
}

static const char *const dialects[] = {
    "beit",
    "beit2",
    "dino",
    "dino_bare",
    "dinov2",
    "dinov2_registers",
    "dinov3",
    "ijepa",
    "mae",
    "maskfeat",
    "mmpretrain",
    "mocov3",
    "open_clip",
    "simmim",
    "timm_beit",
    "timm_clip",
    "timm_dinov3",
    "timm_qk_norm",
    "timm_reg4",
    "timm_vit",
    "torchvision_vit",
    "mae_fine_tuned",
    "solo_learn",
    "transformers_beit",
    "transformers_beit_masked",
    "transformers_clip",
    "transformers_dinov2",
    "transformers_dinov2_registers",
    "transformers_dinov2_swiglu",
    "transformers_dinov3",
    "transformers_dinov3_plain",
    "transformers_ijepa",
    "transformers_vit",
    "transformers_vitmae",
    "mocov2",
    "resnet_bottleneck",
    "lightly_resnet",
    "transformers_resnet",
};
#define DIALECTS (sizeof dialects / sizeof *dialects)

/* Every dialect, converted, gives the same bits, at its size and at another where it has one. The
 * golden tensors are halves, so that F16 loses nothing either. */
START_TEST(converted_files_give_the_same_bits)
{
    clear();
    put_checkpoint(dialects[_i], model);
    put_text("config.json", "{\"model_type\": \"?\", \"num_attention_heads\": 2}");
    /* Bfloat16 tensors do not all fit F16 exactly: DINOv3's periods. */
    for (int half = 0; half < (strstr(dialects[_i], "dinov3") ? 1 : 2); half++) {
        const char *to = scratch("converted.safetensors");
        tacit_weights w;
        tacit_model m;
        float want[64], is[64];
        ck_assert_msg(open_weights(&w, model) == TACIT_OK, "%s: %s", dialects[_i], err.text);
        ck_assert_msg(tacit_convert(&w, "x", to, half ? TACIT_F16 : TACIT_F32, kernels, &err) ==
                          TACIT_OK,
                      "%s", err.text);
        const tacit_backbone_config *c = &w.dialect.config;
        bool other = c->family == TACIT_FAMILY_RESNET || c->vit.resample != TACIT_RESAMPLE_REFUSE ||
                     c->vit.position == TACIT_POSITION_ROTARY;
        char name[64], recipe[128], text[128];
        snprintf(name, sizeof name, "%s", w.dialect.name);
        tacit_recipe r = recipe_of(&w);
        tacit_recipe_text(&r, recipe, sizeof recipe);
        tacit_weights_close(&w);

        ck_assert_msg(open_weights(&w, to) == TACIT_OK, "%s: %s", dialects[_i], err.text);
        ck_assert(w.converted);
        ck_assert_str_eq(w.dialect.name, name);
        r = recipe_of(&w);
        tacit_recipe_text(&r, text, sizeof text);
        ck_assert_str_eq(text, recipe);
        for (size_t i = 0; i < w.raw.count; i++)
            ck_assert_int_eq(w.raw.tensors[i].dtype, half ? TACIT_F16 : TACIT_F32);
        tacit_weights_close(&w);

        for (unsigned size = 0; size <= (other ? 48 : 0); size += 48) {
            memset(want, 0, sizeof want);
            memset(is, 0, sizeof is);
            embed(model, size, &m, want);
            embed(to, size, &m, is);
            ck_assert_msg(!memcmp(want, is, sizeof want), "%s at %u", dialects[_i], size);
        }
        unlink(to);
    }
}
END_TEST

/* Quantised, it gives the bits that int8 makes of the file itself, and nearly those in fp32. */
START_TEST(quantised_files_give_the_bits_of_int8)
{
    clear();
    put_checkpoint(dialects[_i], model);
    put_text("config.json", "{\"model_type\": \"?\", \"num_attention_heads\": 2}");
    const char *to = scratch("quantised.safetensors");
    tacit_weights w;
    ck_assert_msg(open_weights(&w, model) == TACIT_OK, "%s: %s", dialects[_i], err.text);
    ck_assert_msg(tacit_convert(&w, "x", to, TACIT_I8, kernels, &err) == TACIT_OK, "%s", err.text);
    tacit_weights_close(&w);

    ck_assert_msg(open_weights(&w, to) == TACIT_OK, "%s: %s", dialects[_i], err.text);
    size_t bytes = 0, scales = 0;
    for (size_t i = 0; i < w.raw.count; i++) {
        bytes += w.raw.tensors[i].dtype == TACIT_I8;
        scales += strstr(w.raw.tensors[i].name, ".weight_scale") != NULL;
    }
    ck_assert_uint_gt(bytes, 4);
    ck_assert_uint_eq(bytes, scales);
    ck_assert_uint_eq(tacit_quantised_count(w.quantised), bytes);
    ck_assert_uint_eq(w.dialect.source.count, w.raw.count - scales);
    /* Any range of values is that of the whole. */
    for (size_t i = 0; i < w.dialect.source.count; i++) {
        const tacit_tensor_source *s = &w.dialect.source;
        size_t n = s->tensors[i].bytes / sizeof(float), from = n / 3, some = n - from;
        float *whole = tacit_alloc((n + some) * sizeof *whole);
        ck_assert_int_eq(s->tensors[i].dtype, TACIT_F32);
        ck_assert_int_eq(s->read(s->ctx, i, 0, n * sizeof(float), whole, &err), TACIT_OK);
        ck_assert_int_eq(
            s->read(s->ctx, i, from * sizeof(float), some * sizeof(float), whole + n, &err),
            TACIT_OK);
        ck_assert(!memcmp(whole + from, whole + n, some * sizeof(float)));
        tacit_free(whole);
    }
    tacit_weights_close(&w);

    tacit_model m;
    float want[64] = { 0 }, is[64] = { 0 };
    precision = TACIT_PRECISION_INT8;
    embed(model, 0, &m, want);
    embed(to, 0, &m, is);
    ck_assert_msg(!memcmp(want, is, sizeof want), "%s", dialects[_i]);
    precision = TACIT_PRECISION_FP32;
    embed(model, 0, &m, want);
    embed(to, 0, &m, is);
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < 64; i++) {
        ab += (double)want[i] * (double)is[i];
        aa += (double)want[i] * (double)want[i];
        bb += (double)is[i] * (double)is[i];
    }
    ck_assert_msg(ab > 0.999 * sqrt(aa * bb), "%s: cosine %.5f", dialects[_i], ab / sqrt(aa * bb));
    unlink(to);
}
END_TEST

/* The names in the cache that end so, the last of them to `path`. */
static unsigned kept(const char *ending, char *path, size_t size)
{
    unsigned n = 0;
    DIR *entries = opendir(cache);
    ck_assert_ptr_nonnull(entries);
    for (struct dirent *e; (e = readdir(entries));) {
        size_t length = strlen(e->d_name), end = strlen(ending);
        if (length > end && !strcmp(e->d_name + length - end, ending)) {
            snprintf(path, size, "%s/%s", cache, e->d_name);
            n++;
        }
        ck_assert_msg(!strstr(e->d_name, ".tmp"), "%s", e->d_name);
    }
    closedir(entries);
    return n;
}

static void empty_cache(void)
{
    char path[4096];
    cache = scratch("cache");
    mkdir(cache, 0777);
    while (kept("", path, sizeof path) > 2) /* but . and .. */
        for (int i = 0; i < 2; i++)
            if (kept(i ? ".sum" : ".packed", path, sizeof path))
                ck_assert(!unlink(path) || !rmdir(path));
}

/* Vectors do not depend on the cache; each way to run the network has its own file. */
START_TEST(packed_weights_are_kept)
{
    static const char *const names[] = { "dinov2", "beit", "transformers_dinov3", "mocov2" };
    char path[4096];
    tacit_model m;
    clear();
    put_checkpoint(names[_i], model);
    put_text("config.json", "{\"model_type\": \"?\", \"num_attention_heads\": 2}");
    empty_cache();
    for (unsigned p = 0; p < TACIT_PRECISIONS; p++) {
        const char *same = cache;
        float want[64] = { 0 }, is[64] = { 0 };
        precision = (tacit_precision)p;
        cache = NULL;
        embed(model, 0, &m, want);
        cache = same;
        for (int again = 0; again < 3; again++) {
            memset(is, 0, sizeof is);
            embed(model, 0, &m, is);
            ck_assert_int_eq(mapped, again > 0);
            ck_assert_msg(!memcmp(want, is, sizeof want), "%s, precision %u", names[_i], p);
        }
        ck_assert_uint_eq(kept(".packed", path, sizeof path), p + 1);
    }
    precision = TACIT_PRECISION_FP32;
    if (_i != 1) { /* another size: another map of tiles, another table of positions */
        float want[64] = { 0 }, is[64] = { 0 };
        embed(model, 64, &m, want);
        ck_assert(!mapped);
        embed(model, 64, &m, is);
        ck_assert(mapped && !memcmp(want, is, sizeof want));
    }
    cache = NULL;
}
END_TEST

static void change_byte(const char *path, long at)
{
    FILE *f = fopen(path, "r+");
    ck_assert_ptr_nonnull(f);
    ck_assert_int_eq(fseek(f, at, at < 0 ? SEEK_END : SEEK_SET), 0);
    int byte = fgetc(f);
    fseek(f, -1, SEEK_CUR);
    fputc(byte ^ 1, f);
    fclose(f);
}

/* Whatever is not what was written is made again. */
START_TEST(damaged_packed_weights_are_not_used)
{
    char path[4096];
    float want[64] = { 0 }, is[64] = { 0 };
    tacit_model m;
    struct stat info;
    clear();
    put_scene();
    empty_cache();
    embed(model, 0, &m, want);
    ck_assert_uint_eq(kept(".packed", path, sizeof path), 1);
    ck_assert_int_eq(stat(path, &info), 0);
    for (long at = 0; at < info.st_size; at += at < 64 ? 1 : info.st_size / 17) {
        change_byte(path, at);
        embed(model, 0, &m, is);
        ck_assert_msg(!mapped, "byte %ld", at);
        ck_assert(!memcmp(want, is, sizeof want));
        embed(model, 0, &m, is);
        ck_assert(mapped && !memcmp(want, is, sizeof want));
    }
    ck_assert_int_eq(truncate(path, info.st_size - 1), 0);
    embed(model, 0, &m, is);
    ck_assert(!mapped && !memcmp(want, is, sizeof want));
    ck_assert_int_eq(truncate(path, 10), 0);
    embed(model, 0, &m, is);
    ck_assert(!mapped && !memcmp(want, is, sizeof want));

    /* What cannot be written is told, and no more. */
    tacit_model_options options;
    ck_assert(!unlink(path) && !mkdir(path, 0777));
    tacit_model_defaults(&options);
    options.weights = model;
    options.cache = cache;
    ck_assert_int_eq(tacit_model_open(&m, &options, false, NULL, &err), TACIT_OK);
    ck_assert_msg(strstr(m.cache->note, "not kept"), "%s", m.cache->note);
    tacit_model_close(&m);
    embed(model, 0, &m, is);
    ck_assert(!mapped && !memcmp(want, is, sizeof want));
    options.cache = "nowhere/at/all";
    ck_assert_int_eq(tacit_model_open(&m, &options, false, NULL, &err), TACIT_EIO);
    ck_assert_msg(strstr(err.text, "nowhere/at/all: no folder"), "%s", err.text);
    cache = NULL;
}
END_TEST

/* A checkpoint's sum is kept once its last change is long enough ago, and is not used after the
 * next one. */
START_TEST(sums_are_of_the_file_as_it_is)
{
    char path[4096];
    uint64_t first = 0, second = 0;
    tacit_model m;
    tacit_model_options options;
    clear();
    put_scene();
    empty_cache();
    tacit_model_defaults(&options);
    options.weights = model;
    options.cache = cache;
    for (int late = 0; late < 2; late++) {
        ck_assert_int_eq(tacit_model_open(&m, &options, true, NULL, &err), TACIT_OK);
        first = m.hash;
        tacit_model_close(&m);
        ck_assert_uint_eq(kept(".sum", path, sizeof path), (unsigned)late);
        if (!late)
            sleep(4);
    }
    ck_assert_int_eq(tacit_model_open(&m, &options, true, NULL, &err), TACIT_OK);
    ck_assert_uint_eq(m.hash, first);
    tacit_model_close(&m);
    change_byte(path, -9); /* the sum's own */
    ck_assert_int_eq(tacit_model_open(&m, &options, true, NULL, &err), TACIT_OK);
    ck_assert_uint_eq(m.hash, first);
    tacit_model_close(&m);
    change_byte(model, -1);
    ck_assert_int_eq(tacit_model_open(&m, &options, true, NULL, &err), TACIT_OK);
    second = m.hash;
    ck_assert_uint_ne(second, first);
    ck_assert_ptr_null(m.cache->map);
    tacit_model_close(&m);
    ck_assert_uint_eq(kept(".packed", path, sizeof path), 2);
    cache = NULL;
}
END_TEST

START_TEST(every_allocation_with_a_cache_fails)
{
    clear();
    put_scene();
    empty_cache();
    tacit_model_options options;
    tacit_model_defaults(&options);
    options.weights = model;
    options.cache = cache;
    for (int turn = 0; turn < 2; turn++) { /* kept, then taken */
        uint64_t n = 0;
        for (tacit_status st = TACIT_ENOMEM; st != TACIT_OK; n++) {
            tacit_model m;
            err.text[0] = 0;
            tacit_alloc_fail_at(n + 1, n % 2);
            st = tacit_model_open(&m, &options, false, NULL, &err);
            tacit_alloc_fail_at(0, false);
            ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && err.text[0]),
                          "call %llu: %d, \"%s\"", (unsigned long long)n, st, err.text);
            if (st == TACIT_OK)
                tacit_model_close(&m);
            ck_assert_uint_lt(n, 10000);
        }
    }
    cache = NULL;
}
END_TEST

static void damage_scales(tacit_safetensors_entry *scales, unsigned way)
{
    static float bad[4096];
    memcpy(bad, scales->data, scales->tensor.bytes);
    scales->data = bad;
    switch (way) {
    case 0: bad[1] = NAN; break;
    case 1: bad[1] = INFINITY; break;
    case 2: bad[1] = -bad[1]; break;
    case 3: scales->tensor.shape[0]--; break;
    case 4: scales->tensor.dtype = TACIT_I32; break;
    default: scales->tensor.rank = 2; scales->tensor.shape[1] = 1;
    }
}

/* A name that is not there is as damaged. */
START_TEST(damaged_scales_are_refused)
{
    clear();
    put_scene();
    const char *to = scratch("scales.safetensors"), *scales = "blocks.1.mlp.fc1.weight_scale";
    tacit_weights w;
    ck_assert_msg(open_weights(&w, model) == TACIT_OK, "%s", err.text);
    ck_assert_int_eq(tacit_convert(&w, "x", to, TACIT_I8, kernels, &err), TACIT_OK);
    tacit_weights_close(&w);
    ck_assert_int_eq(open_weights(&w, to), TACIT_OK);
    const char *metadata[] = { TACIT_CANONICAL_KEY,
                               tacit_checkpoint_metadata(w.checkpoint, TACIT_CANONICAL_KEY), NULL };
    const tacit_tensor_source *raw = &w.raw;
    tacit_safetensors_entry *entries = calloc(raw->count, sizeof *entries);
    void **data = calloc(raw->count, sizeof *data);
    size_t at = raw->count;
    for (size_t i = 0; i < raw->count; i++) {
        data[i] = malloc(raw->tensors[i].bytes);
        ck_assert_int_eq(raw->read(raw->ctx, i, 0, raw->tensors[i].bytes, data[i], &err), TACIT_OK);
        entries[i] = (tacit_safetensors_entry){ raw->tensors[i], data[i] };
        if (!strcmp(raw->tensors[i].name, scales))
            at = i;
    }
    ck_assert_uint_lt(at, raw->count);
    for (unsigned way = 0; way < 7; way++) {
        const char *damaged = scratch("damaged.safetensors");
        tacit_weights again;
        tacit_model m;
        tacit_model_options options;
        entries[at] = (tacit_safetensors_entry){ raw->tensors[at], data[at] };
        if (way < 6)
            damage_scales(&entries[at], way);
        else
            entries[at].tensor.name = "blocks.1.mlp.fc1.weight_scala";
        ck_assert_int_eq(tacit_safetensors_write(damaged, entries, raw->count, metadata, &err),
                         TACIT_OK);
        tacit_status st = open_weights(&again, damaged);
        tacit_weights_close(&again);
        if (way < 6) {
            ck_assert_int_eq(st, TACIT_EFORMAT);
            ck_assert_msg(strstr(err.text, scales), "%s", err.text);
        } else { /* found when the network is made */
            tacit_model_defaults(&options);
            options.weights = damaged;
            ck_assert_int_eq(tacit_model_open(&m, &options, false, NULL, &err), TACIT_EFORMAT);
            ck_assert_msg(strstr(err.text, "blocks.1.mlp.fc1.weight"), "%s", err.text);
            tacit_model_close(&m);
        }
    }
    for (size_t i = 0; i < raw->count; i++)
        free(data[i]);
    free(data);
    free(entries);
    tacit_weights_close(&w);
}
END_TEST

/* What its own note says must hold together. */
START_TEST(damaged_notes_are_refused)
{
    clear();
    put_scene();
    const char *to = scratch("note.safetensors");
    tacit_weights w;
    ck_assert_msg(open_weights(&w, model) == TACIT_OK, "%s", err.text);
    json_t *note = tacit_canonical_json(&w.dialect, "x", 1);
    char *whole = json_dumps(note, JSON_COMPACT | JSON_REAL_PRECISION(17));
    tacit_tensor_source source = w.dialect.source;
    for (size_t n = 0; n <= strlen(whole); n++) { /* every prefix */
        char *text = strndup(whole, n);
        const char *metadata[] = { TACIT_CANONICAL_KEY, text, NULL };
        tacit_weights again;
        ck_assert_int_eq(tacit_safetensors_copy(to, &source, metadata, &err), TACIT_OK);
        tacit_status st = open_weights(&again, to);
        ck_assert_int_eq(st, n < strlen(whole) ? TACIT_EFORMAT : TACIT_OK);
        if (st < 0)
            ck_assert_ptr_nonnull(strstr(err.text, "damaged"));
        tacit_weights_close(&again);
        free(text);
    }
    json_t *parts[] = { note, json_object_get(note, "network"),
                        json_object_get(note, "preprocessing") };
    static const char *const free_keys[] = { "version", "source", "name" };
    for (size_t p = 0; p < 3; p++) { /* every member as something else */
        const char *key;
        json_t *value;
        void *next;
        json_object_foreach_safe(parts[p], next, key, value)
        {
            bool matters = true;
            for (size_t k = 0; k < 3; k++)
                matters &= strcmp(key, free_keys[k]) != 0;
            if (!matters)
                continue;
            json_t *saved = json_incref(value);
            json_object_set_new(parts[p], key, json_real(-0.5));
            char *text = json_dumps(note, JSON_COMPACT | JSON_REAL_PRECISION(17));
            tacit_canonical strings;
            tacit_dialect d = { 0 };
            ck_assert_msg(tacit_canonical_parse(text, &d, &strings, &err) == TACIT_EFORMAT, "%s",
                          key);
            free(text);
            json_object_set_new(parts[p], key, saved);
        }
    }
    free(whole);
    json_decref(note);
    tacit_weights_close(&w);
}
END_TEST

/* Floats beyond float16, types that are not floats. */
START_TEST(conversion_says_what_it_cannot_do)
{
    clear();
    put_scene();
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, model, &err), TACIT_OK);
    tacit_tensor_source source = tacit_safetensors_source(file);
    tacit_safetensors_entry *entries = calloc(source.count, sizeof *entries);
    for (size_t i = 0; i < source.count; i++) {
        float *data = malloc(source.tensors[i].bytes);
        ck_assert_int_eq(source.read(source.ctx, i, 0, source.tensors[i].bytes, data, &err),
                         TACIT_OK);
        if (!strcmp(source.tensors[i].name, "blocks.1.norm2.bias"))
            data[3] = 70000;
        entries[i] = (tacit_safetensors_entry){ source.tensors[i], data };
    }
    const char *large = scratch("large.safetensors"), *to = scratch("half.safetensors");
    ck_assert_int_eq(tacit_safetensors_write(large, entries, source.count, NULL, &err), TACIT_OK);
    tacit_weights w;
    ck_assert_msg(open_weights(&w, large) == TACIT_OK, "%s", err.text);
    ck_assert_int_eq(tacit_convert(&w, "x", to, TACIT_F16, kernels, &err), TACIT_ELIMIT);
    ck_assert_msg(strstr(err.text, "blocks.1.norm2.bias holds 70000"), "%s", err.text);
    ck_assert_int_ne(access(to, F_OK), 0);
    ck_assert_int_eq(tacit_convert(&w, "x", to, TACIT_BF16, kernels, &err), TACIT_OK);
    tacit_weights_close(&w);
    ck_assert_int_eq(open_weights(&w, to), TACIT_OK);
    ck_assert_int_eq(w.raw.tensors[0].dtype, TACIT_BF16);
    tacit_weights_close(&w);
    for (size_t i = 0; i < source.count; i++)
        free((void *)(uintptr_t)entries[i].data);
    free(entries);
    tacit_safetensors_close(&file);
}
END_TEST

START_TEST(every_allocation_fails)
{
    clear();
    put_checkpoint("transformers_dinov2", model);
    put_text("config.json", HF("dinov2", ""));
    put_text("preprocessor_config.json", besides[3].processor);
    const char *to = scratch("failing.safetensors");
    unlink(to);
    uint64_t n = 0;
    for (tacit_status st = TACIT_ENOMEM; st != TACIT_OK; n++) {
        tacit_weights w;
        err.text[0] = 0;
        tacit_alloc_fail_at(n + 1, n % 2);
        st = open_weights(&w, model);
        if (st >= 0)
            st = tacit_convert(&w, "x", to, _i ? TACIT_I8 : TACIT_F32, kernels, &err);
        tacit_weights_close(&w);
        if (st >= 0 && _i) { /* and read back */
            st = open_weights(&w, to);
            tacit_weights_close(&w);
            if (st < 0)
                unlink(to);
        }
        tacit_alloc_fail_at(0, false);
        ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && err.text[0]),
                      "call %llu: %d, \"%s\"", (unsigned long long)n, st, err.text);
        ck_assert_int_eq(access(to, F_OK) == 0, st == TACIT_OK);
        ck_assert_uint_lt(n, 10000);
    }
    ck_assert_uint_gt(n, 20);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("weights");
    TCase *t = tcase_create("weights");
    tcase_add_unchecked_fixture(t, setup, scratch_close);
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, the_files_beside_decide, 0, sizeof besides / sizeof *besides);
    tcase_add_test(t, open_clip_has_a_file_of_its_own);
    tcase_add_test(t, a_foreign_config_is_not_used);
    tcase_add_test(t, the_default_is_in_the_program);
    tcase_add_test(t, wrong_files_are_refused);
    tcase_add_test(t, hostile_files_are_refused_at_once);
    tcase_add_loop_test(t, converted_files_give_the_same_bits, 0, (int)DIALECTS);
    tcase_add_loop_test(t, quantised_files_give_the_bits_of_int8, 0, (int)DIALECTS);
    tcase_add_test(t, damaged_scales_are_refused);
    tcase_add_loop_test(t, packed_weights_are_kept, 0, 4);
    tcase_add_test(t, damaged_packed_weights_are_not_used);
    tcase_add_test(t, sums_are_of_the_file_as_it_is);
    tcase_add_test(t, every_allocation_with_a_cache_fails);
    tcase_add_test(t, damaged_notes_are_refused);
    tcase_add_test(t, conversion_says_what_it_cannot_do);
    tcase_add_loop_test(t, every_allocation_fails, 0, 2);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
