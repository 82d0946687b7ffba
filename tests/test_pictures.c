/* test_pictures.c - sheets of reconstructions: panels with known predictions, the bytes of the PNG,
 * the same for every ISA and number of threads; nothing of the training is moved by them; images
 * that cannot be used, methods that do not reconstruct, memory that runs out.
 */
#include "image.h"
#include "loss_mae.h"
#include "masks.h"
#include "panels.h"
#include "pictures.h"
#include "pixel_match.h"
#include "pretrain_feed.h"
#include "scratch.h"
#include "tokenizer_file.h"
#include "tokenizer.h"

#include <math.h>
#include <sys/stat.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

/* tiny_mae's. */
enum { SIDE = 16, PATCH = 4, ACROSS = SIDE / PATCH, PATCHES = ACROSS * ACROSS, KEPT = PATCHES / 4 };
enum { PLANE = SIDE * SIDE, VALUES = 3 * PLANE, SCALE = 6, WIDE = SIDE * SCALE, GAP = 4 };
enum { MARGIN = 12, GROUP = 3 * WIDE + 2 * GAP };

/* Pixels of a picture of width x SIDE, by its number. */
static uint8_t pixel(unsigned image, size_t i)
{
    return (uint8_t)tacit_rng_u32(5, image, i);
}

/* PNGs of widths around SIDE; the second is cut off. */
static void make_images(unsigned count)
{
    for (unsigned n = 0; n < count; n++) {
        size_t width = SIDE + 2 * n, size;
        uint8_t *rgb = malloc(3 * width * SIDE);
        void *png;
        char name[32];
        for (size_t i = 0; i < 3 * width * SIDE; i++)
            rgb[i] = pixel(n, i);
        ck_assert_int_eq(tacit_png_encode(rgb, width, SIDE, &png, &size, NULL), TACIT_OK);
        snprintf(name, sizeof name, "in/%u.png", n);
        file_put(scratch(name), png, n == 1 ? size / 2 : size);
        tacit_free(png);
        free(rgb);
    }
}

static void setup(void)
{
    scratch_open();
    ck_assert_int_eq(mkdir(scratch("in"), 0777), 0);
    make_images(6);
}

/* An engine whose weights were trained for two steps. */
static void trained(tacit_engine *e, tacit_config *c, tacit_isa isa, tacit_pool *pool)
{
    test_feed feed;
    tacit_step r;
    engine_ready(e, c, isa, pool);
    feed_open(&feed, SIDE, e->learner.whole, e->parts);
    for (int step = 0; step < 2; step++)
        ck_assert_int_eq(tacit_engine_step(e, &feed.feed, &r, NULL), TACIT_OK);
    feed_close(&feed);
}

/* Panels -------------------------------------------------------------------------------------- */

/* What the loss makes of a patch, in double. */
static void normalise(const float *image, size_t index, double patch[3 * PATCH * PATCH],
                      double *mean, double *deviation)
{
    const size_t n = 3 * PATCH * PATCH;
    double sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        size_t c = i % 3, y = index / ACROSS * PATCH + i / 3 / PATCH;
        size_t x = index % ACROSS * PATCH + i / 3 % PATCH;
        sum += patch[i] = (double)image[c * PLANE + y * SIDE + x];
    }
    *mean = sum / (double)n;
    for (size_t i = 0; i < n; i++)
        square += (patch[i] - *mean) * (patch[i] - *mean);
    *deviation = sqrt(square / (double)(n - 1) + 1e-6);
    for (size_t i = 0; i < n; i++)
        patch[i] = (patch[i] - *mean) / *deviation;
}

/* A prediction that is the target gives the image back. */
START_TEST(the_target_is_the_image)
{
    const tacit_mae_target target = { SIDE, PATCH, true }, plain = { SIDE, PATCH, false };
    float image[VALUES], prediction[3 * PATCH * PATCH];
    for (size_t i = 0; i < VALUES; i++) /* the first patch is all of one colour */
        image[i] =
            i % SIDE < PATCH && i / SIDE % SIDE < PATCH ? 0.3f : 4 * tacit_rng_uniform(1, 1, i) - 2;
    for (size_t index = 0; index < PATCHES; index++) {
        double patch[3 * PATCH * PATCH], mean, deviation;
        normalise(image, index, patch, &mean, &deviation);
        for (size_t i = 0; i < 3 * PATCH * PATCH; i++)
            prediction[i] = (float)patch[i];
        tacit_mae_pixels(&target, image, index, prediction);
        for (size_t i = 0; i < 3 * PATCH * PATCH; i++)
            ck_assert_double_eq_tol((double)prediction[i], patch[i] * deviation + mean, 1e-6);
        tacit_mae_pixels(&plain, image, index, prediction);
        ck_assert_double_eq_tol((double)prediction[0], patch[0] * deviation + mean, 1e-6);
    }
}
END_TEST

/* With weights of 0, each prediction is the bias. */
static void predict_bias(tacit_engine *e)
{
    tacit_param *w = tacit_params_find(&e->params, "decoder_pred.weight");
    tacit_param *b = tacit_params_find(&e->params, "decoder_pred.bias");
    memset(w->value, 0, w->count * sizeof *w->value);
    for (size_t i = 0; i < b->count; i++)
        b->value[i] = 2 * tacit_rng_uniform(9, 9, i) - 1;
}

START_TEST(mae_panels)
{
    enum { IMAGES = 3 };
    static const char *const spaces[] = { "normalise=imagenet", "normalise=none" };
    static float inputs[IMAGES * VALUES], panels[3 * VALUES];
    static const uint32_t samples[IMAGES] = { 4, 0, 7 };
    static const double mean[] = { 0.485, 0.456, 0.406 }, std[] = { 0.229, 0.224, 0.225 };
    const float *views[] = { inputs };
    const tacit_batch batch = { .samples = samples, .views = views };
    const tacit_part part = { .batch = &batch, .images = IMAGES, .count = 1, .seed = 11 };
    tacit_config c;
    tacit_engine e;
    bool raw = _i / 2, normalised = _i % 2;
    config_open(&c, "mae", tiny_mae);
    config_set(&c, spaces[raw]);
    config_set(&c, normalised ? "norm_pixels=true" : "norm_pixels=false");
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    predict_bias(&e);
    const float *bias = tacit_params_find(&e.params, "decoder_pred.bias")->value;
    for (size_t i = 0; i < IMAGES * VALUES; i++)
        inputs[i] = raw ? tacit_rng_uniform(1, 2, i) : 4 * tacit_rng_uniform(1, 2, i) - 2;
    e.method->forward(e.state, &part);
    for (size_t n = 0; n < IMAGES; n++) {
        uint32_t keep[KEPT], mask[PATCHES - KEPT];
        const float *image = inputs + n * VALUES, *seen = panels + VALUES, *made = seen + VALUES;
        e.method->picture(e.state, &part, n, panels);
        for (size_t i = 0; i < VALUES; i++) {
            double want =
                (double)image[i] * (raw ? 1 : std[i / PLANE]) + (raw ? 0 : mean[i / PLANE]);
            ck_assert_double_eq_tol((double)panels[i], want, 1e-6);
        }
        tacit_mask_random(11, 0, samples[n], PATCHES, KEPT, keep, mask);
        for (size_t k = 0; k < PATCHES; k++) {
            size_t index = k < KEPT ? keep[k] : mask[k - KEPT];
            double patch[3 * PATCH * PATCH], middle, deviation;
            normalise(image, index, patch, &middle, &deviation);
            for (size_t i = 0; i < 3 * PATCH * PATCH; i++) {
                size_t ch = i % 3, y = index / ACROSS * PATCH + i / 3 / PATCH;
                size_t at = ch * PLANE + y * SIDE + index % ACROSS * PATCH + i / 3 % PATCH;
                double want = normalised ? (double)bias[i] * deviation + middle : (double)bias[i];
                want = raw ? want : want * std[ch] + mean[ch];
                if (k < KEPT)
                    ck_assert(seen[at] == panels[at] && made[at] == panels[at]);
                else
                    ck_assert(seen[at] == 0.5f && fabs((double)made[at] - want) < 2e-6);
            }
        }
    }
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

/* A ramp has one bin, whose edges go upwards; what is predicted, nothing, is black. */
START_TEST(maskfeat_panels)
{
    static float image[VALUES], panels[4 * VALUES];
    static const uint32_t sample = 4;
    const float *views[] = { image };
    const tacit_batch batch = { .samples = &sample, .views = views };
    const tacit_part part = { .batch = &batch, .images = 1, .count = 1, .seed = 11 };
    const tacit_blockwise blocks = { ACROSS, 6, 1, 0.3 };
    uint8_t mask[PATCHES];
    tacit_config c;
    tacit_engine e;
    config_open(&c, "maskfeat", tiny_maskfeat);
    config_set(&c, "cell=4");
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    const tacit_param *w = tacit_params_find(&e.params, "pred_head.weight");
    memset(w->value, 0, w->count * sizeof *w->value);
    for (size_t i = 0; i < VALUES; i++)
        image[i] = (float)(i % SIDE);
    e.method->forward(e.state, &part);
    e.method->picture(e.state, &part, 0, panels);
    ck_assert_uint_gt(tacit_mask_blockwise(&blocks, 11, 0, sample, mask), 0);
    for (size_t i = 0; i < VALUES; i++) {
        size_t patch = i % PLANE / SIDE / PATCH * ACROSS + i % SIDE / PATCH;
        float edge = i % 4 == 1 || i % 4 == 2 ? 0.5f : 0, seen = mask[patch] ? 0.5f : panels[i];
        ck_assert(panels[VALUES + i] == seen);
        ck_assert_double_eq_tol((double)panels[2 * VALUES + i], (double)edge, 1e-6);
        ck_assert(panels[3 * VALUES + i] == (mask[patch] ? 0 : panels[2 * VALUES + i]));
    }
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

/* Of squares of two patches, with channels first in a prediction. */
START_TEST(simmim_panels)
{
    static float input[VALUES], panels[3 * VALUES];
    static const uint32_t sample = 4;
    const float *views[] = { input };
    const tacit_batch batch = { .samples = &sample, .views = views };
    const tacit_part part = { .batch = &batch, .images = 1, .count = 1, .seed = 11 };
    const tacit_unit_masks squares = { ACROSS, 2, 3 };
    uint32_t order[4];
    uint8_t mask[PATCHES];
    tacit_config c;
    tacit_engine e;
    config_open(&c, "simmim", tiny_simmim);
    config_set(&c, "normalise=none");
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    const tacit_param *w = tacit_params_find(&e.params, "decoder.0.weight");
    const tacit_param *b = tacit_params_find(&e.params, "decoder.0.bias");
    memset(w->value, 0, w->count * sizeof *w->value); /* each prediction is the bias */
    for (size_t i = 0; i < b->count; i++)
        b->value[i] = tacit_rng_uniform(9, 9, i);
    for (size_t i = 0; i < VALUES; i++)
        input[i] = tacit_rng_uniform(1, 2, i);
    e.method->forward(e.state, &part);
    e.method->picture(e.state, &part, 0, panels);
    tacit_mask_units(&squares, 11, 0, sample, order, mask);
    for (size_t i = 0; i < VALUES; i++) {
        size_t y = i % PLANE / SIDE, x = i % SIDE;
        bool is = mask[y / PATCH * ACROSS + x / PATCH];
        float bias = b->value[(i / PLANE * PATCH + y % PATCH) * PATCH + x % PATCH];
        ck_assert(panels[i] == input[i]);
        ck_assert(panels[VALUES + i] == (is ? 0.5f : input[i]));
        ck_assert(fabsf(panels[2 * VALUES + i] - (is ? bias : input[i])) < 1e-6f);
    }
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

/* What a tokenizer's decoder makes of tokens, which are all one word where they are masked; in
 * views of the tokenizer's size, and in larger ones. */
START_TEST(beit_panels)
{
    enum { WORD = 7, LARGE = 2 * SIDE, MOST = 3 * LARGE * LARGE };
    static const char *const larger[] = { "size=32", "patch=8" };
    static const float zero[3] = { 0, 0, 0 }, one[3] = { 1, 1, 1 };
    static float input[MOST], panels[4 * MOST], decoded[VALUES];
    static const uint32_t sample = 4;
    const size_t side = _i ? LARGE : SIDE, plane = side * side, values = 3 * plane;
    const float *views[] = { input };
    const tacit_batch batch = { .samples = &sample, .views = views };
    const tacit_part part = { .batch = &batch, .images = 1, .count = 1, .seed = 11 };
    const tacit_blockwise blocks = { ACROSS, 6, 2, 0.3 };
    tacit_work work = { .kernels = tacit_kernels_for(isas[isa_count - 1]) };
    tacit_pixel_match in, out;
    uint32_t words[PATCHES], told[PATCHES];
    uint8_t mask[PATCHES];
    tacit_tokenizer *t;
    tacit_config c;
    tacit_engine e;
    tacit_arena arena;
    size_t total = 0;
    config_open(&c, "beit", tiny_beit);
    config_set(&c, "normalise=none");
    for (size_t i = 0; _i && i < sizeof larger / sizeof *larger; i++)
        config_set(&c, larger[i]);
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    ck_assert_int_eq(tacit_pictures_method(&c, NULL), TACIT_OK);
    ck_assert_int_eq(tacit_tokenizer_open(&t, golden("tokenizer_weights.safetensors"), 0, 1,
                                          work.kernels, NULL, NULL),
                     TACIT_OK);
    const tacit_tokenizer_info *info = tacit_tokenizer_info_of(t);
    tacit_pixel_match_between(&in, zero, one, info->mean, info->std, side, SIDE, 1, &work);
    tacit_pixel_match_between(&out, info->mean, info->std, zero, one, SIDE, side, 1, &work);
    ck_assert(tacit_pixel_match_plan(&in, &total) && tacit_pixel_match_plan(&out, &total));
    ck_assert_int_eq(tacit_arena_open(&arena, total, NULL), TACIT_OK);
    tacit_pixel_match_take(&in, &arena);
    tacit_pixel_match_take(&out, &arena);
    const tacit_param *w = tacit_params_find(&e.params, "lm_head.weight");
    memset(w->value, 0, w->count * sizeof *w->value); /* each prediction is the bias */
    tacit_params_find(&e.params, "lm_head.bias")->value[WORD] = 1;
    for (size_t i = 0; i < values; i++)
        input[i] = tacit_rng_uniform(1, 2, i);
    e.method->forward(e.state, &part);
    e.method->picture(e.state, &part, 0, panels);
    ck_assert_uint_gt(tacit_mask_blockwise(&blocks, 11, 0, sample, mask), 0);
    tacit_tokenizer_encode(t, tacit_pixel_match_forward(&in, input, 1), 1, words);
    for (size_t i = 0; i < PATCHES; i++)
        told[i] = mask[i] ? WORD : words[i];
    ck_assert(memcmp(told, words, sizeof told) != 0);
    for (size_t panel = 2; panel < 4; panel++) {
        tacit_tokenizer_decode(t, panel == 2 ? told : words, 1, decoded);
        const float *want = tacit_pixel_match_forward(&out, decoded, 1);
        ck_assert(!memcmp(panels + panel * values, want, values * sizeof *want));
        for (size_t i = 0; !_i && i < values; i++)
            ck_assert_float_eq_tol(want[i], decoded[i] * 0.5f + 0.5f, 1e-6f);
    }
    for (size_t i = 0; i < values; i++) {
        size_t y = i % plane / side, x = i % side, patch = side / ACROSS;
        ck_assert(panels[i] == input[i]);
        ck_assert(panels[values + i] == (mask[y / patch * ACROSS + x / patch] ? 0.5f : input[i]));
    }
    tacit_tokenizer_close(&t);
    tacit_arena_close(&arena);
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

/* Sheets -------------------------------------------------------------------------------------- */

static tacit_status write_sheet(tacit_engine *e, const char *images, size_t count, size_t columns,
                                const char *name, tacit_sheet_size *size, tacit_err *err)
{
    const tacit_picture_options o = { .images = images, .count = count, .columns = columns };
    return tacit_pictures_write(scratch(name), e, &o, size, err);
}

static void read_sheet(const char *name, tacit_image *image)
{
    size_t size;
    unsigned char *png = file_get(scratch(name), &size);
    ck_assert_int_eq(tacit_image_decode(image, png, size, NULL, NULL), TACIT_OK);
    free(png);
}

/* The images' own bytes, enlarged, where they belong, and white around. */
START_TEST(a_sheet)
{
    static const struct {
        size_t count, columns, images, bad, across, down;
    } cases[] = { { 4, 2, 4, 1, 2, 2 },  { 3, 2, 3, 1, 2, 2 },  { 1, 2, 1, 0, 1, 1 },
                  { 16, 2, 5, 1, 2, 3 }, { 16, 9, 5, 1, 5, 1 }, { 2, 1, 2, 1, 1, 2 },
                  { 5, 5, 5, 1, 5, 1 },  { 100, 1, 5, 1, 1, 5 } };
    static const unsigned usable[] = { 0, 2, 3, 4, 5 };
    tacit_config c;
    tacit_engine e;
    config_open(&c, "mae", tiny_mae);
    config_set(&c, _i ? "accumulate=4" : "accumulate=1"); /* parts of 2 images, of 8 */
    trained(&e, &c, isas[isa_count - 1], NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        tacit_sheet_size size;
        tacit_image sheet = { 0 };
        tacit_err err;
        ck_assert_msg(
            !write_sheet(&e, scratch("in"), cases[i].count, cases[i].columns, "s.png", &size, &err),
            "%s", err.text);
        read_sheet("s.png", &sheet);
        ck_assert_uint_eq(size.images, cases[i].images);
        ck_assert_uint_eq(size.bad, cases[i].bad);
        ck_assert_uint_eq(sheet.width, MARGIN + cases[i].across * (GROUP + MARGIN));
        ck_assert_uint_eq(sheet.height, MARGIN + cases[i].down * (WIDE + MARGIN));
        ck_assert(size.width == sheet.width && size.height == sheet.height);
        for (size_t y = 0; y < sheet.height; y++)
            for (size_t x = 0; x < sheet.width; x++) {
                const uint8_t *got = sheet.rgb + 3 * (y * sheet.width + x);
                /* of which image, and where in its panels; behind them in the margins */
                size_t left = x < MARGIN ? GROUP : (x - MARGIN) % (GROUP + MARGIN);
                size_t top = y < MARGIN ? WIDE : (y - MARGIN) % (WIDE + MARGIN);
                size_t n = left < GROUP && top < WIDE
                               ? (y - MARGIN) / (WIDE + MARGIN) * cases[i].across +
                                     (x - MARGIN) / (GROUP + MARGIN)
                               : SIZE_MAX;
                bool inside = n < cases[i].images && left % (WIDE + GAP) < WIDE;
                if (!inside) {
                    ck_assert(got[0] == 255 && got[1] == 255 && got[2] == 255);
                } else if (left < WIDE) { /* the image; its square begins at usable[n] */
                    size_t width = SIDE + 2 * usable[n];
                    size_t at = top / SCALE * width + usable[n] + left / SCALE;
                    for (size_t ch = 0; ch < 3; ch++)
                        ck_assert_uint_eq(got[ch], pixel(usable[n], 3 * at + ch));
                } else if (left < 2 * WIDE + GAP) { /* what was seen of it, or grey */
                    const uint8_t *whole = got - 3 * (WIDE + GAP);
                    ck_assert(!memcmp(got, whole, 3) ||
                              (got[0] == 128 && got[1] == 128 && got[2] == 128));
                }
            }
        tacit_image_free(&sheet);
    }
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

START_TEST(same_bytes_and_nothing_moves)
{
    static const unsigned threads[] = { 1, 2, 3 };
    tacit_config c;
    size_t n = 0, m;
    unsigned char *want = NULL;
    config_open(&c, "mae", tiny_mae);
    for (size_t i = 0; i < isa_count; i++)
        for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
            tacit_engine e;
            tacit_pool *pool;
            tacit_sheet_size size;
            tacit_err err;
            ck_assert_int_eq(tacit_pool_open(&pool, threads[t], &err), TACIT_OK);
            trained(&e, &c, isas[i], pool);
            size_t bytes = e.params.arena.size;
            void *before = malloc(bytes); /* values, gradients, the optimiser's state */
            memcpy(before, e.params.arena.base, bytes);
            ck_assert_msg(!write_sheet(&e, scratch("in"), 16, 2, "s.png", &size, &err), "%s",
                          err.text);
            ck_assert(!memcmp(before, e.params.arena.base, bytes) && e.step == 2);
            unsigned char *got = file_get(scratch("s.png"), &m);
            ck_assert_msg(!want || (n == m && !memcmp(got, want, n)), "%s with %u threads",
                          tacit_isa_name(isas[i]), threads[t]);
            free(before);
            free(want);
            want = got;
            n = m;
            tacit_engine_close(&e);
            tacit_pool_close(&pool);
        }
    free(want);
    tacit_config_close(&c);
}
END_TEST

/* Trouble ------------------------------------------------------------------------------------- */

START_TEST(bad_sheets_are_refused)
{
    tacit_config c;
    tacit_engine e;
    tacit_sheet_size size;
    tacit_err err;
    size_t bytes = 0;
    const tacit_picture_options some = { .images = "in", .count = 16, .columns = 2 };
    config_open(&c, "simclr", tiny_simclr);
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    ck_assert_int_eq(write_sheet(&e, scratch("in"), 1, 1, "s.png", &size, &err),
                     TACIT_EUNSUPPORTED);
    ck_assert_str_eq(err.text, "simclr does not reconstruct");
    ck_assert(!tacit_pictures_plan(&e, &some, &bytes));
    tacit_engine_close(&e);
    config_set(&c, "pictures=in");
    ck_assert_int_eq(tacit_engine_declare(&e, &c, tacit_kernels_for(isas[0]), NULL, &err),
                     TACIT_EINVAL);
    ck_assert_str_eq(err.text, "simclr does not reconstruct: leave pictures empty");
    tacit_engine_close(&e);
    tacit_config_close(&c);

    config_open(&c, "mae", tiny_mae);
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    ck_assert(tacit_pictures_plan(&e, &some, &bytes));
    ck_assert_uint_gt(bytes, 8 * VALUES * sizeof(float) + 600 * 800 * 3);
    ck_assert_int_eq(write_sheet(&e, scratch("nowhere"), 1, 1, "s.png", &size, &err), TACIT_EINVAL);
    ck_assert_msg(strstr(err.text, "nowhere") != NULL, "%s", err.text);
    ck_assert_int_eq(write_sheet(&e, scratch("in"), 1000000, 1000, "s.png", &size, &err),
                     TACIT_ELIMIT);
    ck_assert_msg(strstr(err.text, "a sheet of 1000000 images") != NULL, "%s", err.text);
    ck_assert_int_eq(write_sheet(&e, scratch("in"), 1, 1, "no/where.png", &size, &err), TACIT_EIO);
    for (unsigned n = 0; n < 6; n++)
        if (n != 1) {
            char name[32];
            snprintf(name, sizeof name, "in/%u.png", n);
            remove(scratch(name));
        }
    ck_assert_int_eq(write_sheet(&e, scratch("in"), 4, 2, "s.png", &size, &err), TACIT_EINVAL);
    ck_assert_msg(strstr(err.text, "/in: not one image can be used: ") && strstr(err.text, "PNG: "),
                  "%s", err.text);
    ck_assert_uint_eq(count_names(scratch_folder), 1); /* nothing was written */
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

/* VQ-KD makes features, not pixels. Of a tokenizer that is not there, its own error comes first. */
START_TEST(beit_without_a_decoder)
{
    char setting[TACIT_SETTING_TEXT];
    tacit_config vqkd, c;
    tacit_engine e;
    tacit_err err;
    config_open(&vqkd, "vqkd", tiny_vqkd);
    engine_ready(&e, &vqkd, isas[isa_count - 1], NULL);
    ck_assert_int_eq(tacit_tokenizer_file_write(scratch("vqkd"), &e, NULL), TACIT_OK);
    tacit_engine_close(&e);
    tacit_config_close(&vqkd);
    config_open(&c, "beit", tiny_beit);
    snprintf(setting, sizeof setting, "tokenizer=%s", scratch("vqkd"));
    config_set(&c, setting);
    ck_assert_int_eq(tacit_pictures_method(&c, &err), TACIT_EUNSUPPORTED);
    ck_assert_str_eq(err.text, "beit does not reconstruct with these settings");
    engine_ready(&e, &c, isas[isa_count - 1], NULL);
    tacit_engine_close(&e);
    config_set(&c, "pictures=in");
    ck_assert_int_eq(tacit_engine_declare(&e, &c, tacit_kernels_for(isas[0]), NULL, &err),
                     TACIT_EINVAL);
    ck_assert_str_eq(err.text,
                     "beit does not reconstruct with these settings: leave pictures empty");
    tacit_engine_close(&e);
    config_set(&c, "tokenizer=nowhere");
    ck_assert_int_lt(tacit_engine_declare(&e, &c, tacit_kernels_for(isas[0]), NULL, &err), 0);
    ck_assert_msg(!strncmp(err.text, "tokenizer: nowhere: ", 20), "%s", err.text);
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

START_TEST(every_allocation_fails)
{
    tacit_config c;
    tacit_engine e;
    config_open(&c, "mae", tiny_mae);
    trained(&e, &c, isas[isa_count - 1], NULL);
    for (int persist = 0; persist < 2; persist++) {
        tacit_status st = TACIT_ENOMEM;
        uint64_t n = 0;
        while (st < 0) {
            tacit_sheet_size size;
            tacit_err err = { "" };
            remove(scratch("s.png"));
            tacit_alloc_fail_at(++n, persist);
            st = write_sheet(&e, scratch("in"), 4, 2, "s.png", &size, &err);
            tacit_alloc_fail_at(0, false);
            ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && *err.text), "%d: %s", (int)n,
                          err.text);
            ck_assert_uint_eq(count_names(scratch_folder), st == TACIT_OK ? 2 : 1);
        }
        ck_assert_uint_gt(n, 10);
    }
    tacit_engine_close(&e);
    tacit_config_close(&c);
}
END_TEST

int main(void)
{
    for (int isa = 0; isa < TACIT_ISA_COUNT; isa++)
        if (tacit_isa_available((tacit_isa)isa))
            isas[isa_count++] = (tacit_isa)isa;
    Suite *suite = suite_create("pictures");
    TCase *tests = tcase_create("pictures");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, setup, scratch_close);
    tcase_add_test(tests, the_target_is_the_image);
    tcase_add_loop_test(tests, mae_panels, 0, 4);
    tcase_add_test(tests, maskfeat_panels);
    tcase_add_test(tests, simmim_panels);
    tcase_add_loop_test(tests, beit_panels, 0, 2);
    tcase_add_loop_test(tests, a_sheet, 0, 2);
    tcase_add_test(tests, same_bytes_and_nothing_moves);
    tcase_add_test(tests, bad_sheets_are_refused);
    tcase_add_test(tests, beit_without_a_decoder);
    tcase_add_test(tests, every_allocation_fails);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
