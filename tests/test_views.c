/* test_views.c - views against torchvision's on PIL images, in golden/views.txt, and their draws.
 */
#include "mem.h"
#include "rng.h"
#include "view_line.h"

#include <check.h>
#include <math.h>
#include <xxhash.h>

static tacit_isa isas[TACIT_ISA_COUNT];
static size_t isa_count;

/* The same picture as make_resize.py's. */
static uint8_t *picture(size_t w, size_t h)
{
    size_t n = w * h * 3;
    uint8_t *rgb = tacit_alloc(n + 16);
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

static FILE *golden(void)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/tests/golden/views.txt", getenv("TACIT_SOURCE"));
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "cannot open %s", path);
    return f;
}

START_TEST(same_pixels_as_torchvision)
{
    const tacit_kernels *kernels = tacit_kernels_for(isas[_i]);
    FILE *f = golden();
    char text[512];
    unsigned lines = 0;
    while (fgets(text, sizeof text, f)) {
        size_t width, height;
        int at = 0;
        unsigned long long bytes_hash, floats_hash;
        tacit_view view;
        tacit_view_draws draws;
        tacit_viewer *viewer;
        if (sscanf(text, "view %zu %zu %n", &width, &height, &at) != 2)
            continue;
        int end = view_line(text + at, &view, &draws);
        ck_assert_msg(end && sscanf(text + at + end, "%llx %llx", &bytes_hash, &floats_hash) == 2,
                      "%s", text);
        uint8_t *rgb = picture(width, height);
        size_t n = 3 * (size_t)view.size * view.size;
        uint8_t *bytes = tacit_alloc(n);
        float *floats = tacit_calloc(n, sizeof *floats);
        ck_assert(bytes && floats);
        ck_assert_int_eq(tacit_viewer_open(&viewer, &view, 1, kernels, NULL), TACIT_OK);
        ck_assert(!tacit_view_pixels(viewer, 0, &draws, rgb, width, height, bytes, NULL));
        ck_assert(!tacit_view_apply(viewer, 0, &draws, rgb, width, height, floats, NULL));
        ck_assert_msg(XXH3_64bits(bytes, n) == bytes_hash, "%s: bytes: %s",
                      tacit_isa_name(kernels->isa), text);
        ck_assert_msg(XXH3_64bits(floats, n * sizeof *floats) == floats_hash, "%s: floats: %s",
                      tacit_isa_name(kernels->isa), text);
        tacit_viewer_close(&viewer);
        tacit_free(rgb);
        tacit_free(bytes);
        tacit_free(floats);
        lines++;
    }
    fclose(f);
    ck_assert_uint_ge(lines, 128);
}
END_TEST

/* All colours whose channels are multiples of 3, and all shifts on some, through hue_u8 as Pillow's
 * own arithmetic has it (libImaging/Convert.c), in double where it takes double. */
static void pillow_hue(const uint8_t in[3], unsigned shift, uint8_t out[3])
{
    int r = in[0], g = in[1], b = in[2], high = r > g ? r : g, low = r < g ? r : g, h = 0, s = 0;
    high = high > b ? high : b;
    low = low < b ? low : b;
    if (high > low) {
        float range = (float)(high - low), hue;
        float rc = (float)(high - r) / range, gc = (float)(high - g) / range;
        float bc = (float)(high - b) / range;
        if (r == high)
            hue = bc - gc;
        else if (g == high)
            hue = (float)(2.0 + (double)rc - (double)bc);
        else
            hue = (float)(4.0 + (double)gc - (double)rc);
        hue = (float)fmod((double)hue / 6.0 + 1.0, 1.0);
        h = (int)((double)hue * 255.0);
        s = (int)((double)(range / (float)high) * 255.0);
    }
    h = (h + (int)shift) & 255;
    double turns = (double)h * 6.0 / 255.0;
    int sector = (int)floor(turns);
    float f = (float)(turns - (double)(float)sector), fs = (float)((double)s / 255.0);
    uint8_t v = (uint8_t)high, p = (uint8_t)round(high * (1.0 - (double)fs));
    uint8_t q = (uint8_t)round(high * (1.0 - (double)(fs * f)));
    uint8_t t = (uint8_t)round(high * (1.0 - (double)fs * (1.0 - (double)f)));
    const uint8_t all[6][3] = { { v, t, p }, { q, v, p }, { p, v, t },
                                { p, q, v }, { t, p, v }, { v, p, q } };
    for (int c = 0; c < 3; c++)
        out[c] = s == 0 ? v : all[sector % 6][c];
}

START_TEST(hue_of_all_colours)
{
    const tacit_kernels *kernels = tacit_kernels_for(isas[_i]);
    uint8_t x[3][256], y[3][256];
    for (unsigned r = 0; r < 256; r += 3)
        for (unsigned g = 0; g < 256; g += 3) {
            unsigned shift = (r * 7 + g * 31) & 255;
            for (unsigned b = 0; b < 256; b++) {
                x[0][b] = (uint8_t)r;
                x[1][b] = (uint8_t)g;
                x[2][b] = (uint8_t)b;
            }
            kernels->hue_u8(256, shift, x[0], 256, y[0], 256);
            for (unsigned b = 0; b < 256; b++) {
                uint8_t want[3], in[3] = { (uint8_t)r, (uint8_t)g, (uint8_t)b };
                pillow_hue(in, shift, want);
                ck_assert_msg(want[0] == y[0][b] && want[1] == y[1][b] && want[2] == y[2][b],
                              "%u %u %u by %u: %u %u %u, Pillow has %u %u %u", r, g, b, shift,
                              y[0][b], y[1][b], y[2][b], want[0], want[1], want[2]);
            }
        }
}
END_TEST

/* Sizes and places of crops have torchvision's means and deviations, and lie inside. */
START_TEST(crops_as_torchvision)
{
    enum { DRAWS = 20000 };
    FILE *f = golden();
    char text[512];
    unsigned lines = 0;
    while (fgets(text, sizeof text, f)) {
        size_t width, height;
        tacit_view view = tacit_view_plain(32);
        double want[8], sum[4] = { 0 }, square[4] = { 0 };
        if (sscanf(text, "crop %zu %zu %f %f %lf %lf %lf %lf %lf %lf %lf %lf", &width, &height,
                   &view.scale[0], &view.scale[1], &want[0], &want[1], &want[2], &want[3], &want[4],
                   &want[5], &want[6], &want[7]) != 12)
            continue;
        for (uint64_t i = 0; i < DRAWS; i++) {
            tacit_view_draws d;
            tacit_view_draw(&view, width, height, 5, 0, i, 0, &d);
            ck_assert(d.width && d.height && d.left + d.width <= width &&
                      d.top + d.height <= height);
            const double got[4] = { d.width, d.height, d.left, d.top };
            for (size_t k = 0; k < 4; k++) {
                sum[k] += got[k] / DRAWS;
                square[k] += got[k] * got[k] / DRAWS;
            }
        }
        for (size_t k = 0; k < 4; k++) {
            /* both sides are samples: five deviations of their difference */
            double deviation = sqrt(fmax(0, square[k] - sum[k] * sum[k]));
            double slack = 5 * sqrt(2.0 / DRAWS) * want[4 + k] + 1e-3;
            ck_assert_msg(fabs(sum[k] - want[k]) <= slack, "%zu: %g, should be %g: %s", k, sum[k],
                          want[k], text);
            ck_assert_msg(fabs(deviation - want[4 + k]) <= 2 * slack, "%zu: deviation %g: %s", k,
                          deviation, text);
        }
        lines++;
    }
    fclose(f);
    ck_assert_uint_eq(lines, 6);
}
END_TEST

static bool same(const tacit_view_draws *a, const tacit_view_draws *b)
{
    return a->left == b->left && a->top == b->top && a->width == b->width &&
           a->height == b->height && a->flip == b->flip && a->sigma == b->sigma;
}

START_TEST(draws_are_independent)
{
    enum { DRAWS = 24000 };
    tacit_view view = tacit_view_plain(32);
    view.jitter = 0.8f;
    view.brightness = 0.4f;
    view.contrast = 1.5f;
    view.saturation = 0.2f;
    view.hue = 0.1f;
    view.gray = 0.2f;
    view.blur = 0.5f;
    view.solarise = 0.1f;
    unsigned flips = 0, grays = 0, blurs = 0, solarised = 0, jittered = 0, orders[256] = { 0 };
    float least[4] = { 9, 9, 9, 9 }, most[4] = { -9, -9, -9, -9 };
    tacit_view_draws d, e;
    for (uint64_t i = 0; i < DRAWS; i++) {
        tacit_view_draw(&view, 100, 80, 1, i % 3, i / 3, 1, &d);
        flips += d.flip;
        grays += d.gray;
        blurs += d.blur;
        solarised += d.solarise;
        ck_assert(!d.blur || (d.sigma >= 0.1f && d.sigma <= 2));
        ck_assert(d.jitters == 0 || d.jitters == 4);
        if (!d.jitters)
            continue;
        jittered++;
        orders[d.jitter[0] * 64 + d.jitter[1] * 16 + d.jitter[2] * 4 + d.jitter[3]]++;
        for (size_t k = 0; k < 4; k++) {
            least[k] = fminf(least[k], d.factor[k]);
            most[k] = fmaxf(most[k], d.factor[k]);
        }
    }
    ck_assert(abs((int)flips - DRAWS / 2) < 400 && abs((int)grays - DRAWS / 5) < 320 &&
              abs((int)blurs - DRAWS / 2) < 400 && abs((int)solarised - DRAWS / 10) < 240 &&
              abs((int)jittered - DRAWS * 4 / 5) < 320);
    unsigned kinds = 0;
    for (size_t i = 0; i < 256; i++) {
        ck_assert(!orders[i] || abs((int)orders[i] - 800) < 150);
        kinds += orders[i] > 0;
    }
    ck_assert_uint_eq(kinds, 24);
    const float low[4] = { 0.6f, 0, 0.8f, -0.1f }, high[4] = { 1.4f, 2.5f, 1.2f, 0.1f };
    for (size_t k = 0; k < 4; k++) {
        float slack = (high[k] - low[k]) * 0.01f;
        ck_assert(least[k] >= low[k] && least[k] < low[k] + slack);
        ck_assert(most[k] <= high[k] && most[k] > high[k] - slack);
    }
    /* the same again, and other ones for another seed, epoch, sample or view */
    const uint64_t other[][4] = {
        { 1, 2, 3, 4 }, { 2, 2, 3, 4 }, { 1, 3, 3, 4 }, { 1, 2, 4, 4 }, { 1, 2, 3, 5 }
    };
    tacit_view_draw(&view, 1000, 800, 1, 2, 3, 4, &d);
    for (size_t i = 0; i < 5; i++) {
        tacit_view_draw(&view, 1000, 800, other[i][0], other[i][1], other[i][2],
                        (unsigned)other[i][3], &e);
        ck_assert(same(&d, &e) == (i == 0));
    }
    /* strengths of 0 are no operations */
    view.contrast = view.hue = 0;
    view.jitter = 1;
    tacit_view_draw(&view, 1000, 800, 1, 2, 3, 4, &d);
    ck_assert_uint_eq(d.jitters, 2);
    ck_assert(d.jitter[0] + d.jitter[1] == 2 && d.jitter[0] != d.jitter[1]);
}
END_TEST

/* As Resize(256) and CenterCrop(224) have it, whatever else is drawn. */
START_TEST(centres)
{
    static const struct {
        size_t width, height;
        uint32_t left, top, side;
    } cases[] = { { 512, 256, 144, 16, 224 }, { 100, 300, 6, 106, 88 }, { 1, 9, 0, 4, 1 } };
    tacit_view view = tacit_view_plain(16);
    view.centre = 0.875f;
    for (uint64_t i = 0; i < 3 * 20; i++) {
        tacit_view_draws d;
        tacit_view_draw(&view, cases[i % 3].width, cases[i % 3].height, 5, 0, i, 1, &d);
        ck_assert_uint_eq(d.left, cases[i % 3].left);
        ck_assert_uint_eq(d.top, cases[i % 3].top);
        ck_assert_uint_eq(d.width, cases[i % 3].side);
        ck_assert_uint_eq(d.height, cases[i % 3].side);
    }
}
END_TEST

START_TEST(checks_settings)
{
    tacit_view view = tacit_view_plain(224);
    tacit_err err;
    ck_assert_int_eq(tacit_view_check(&view, &err), TACIT_OK);
#define REFUSES(change, says)                                                                      \
    do {                                                                                           \
        tacit_view v = view;                                                                       \
        change;                                                                                    \
        ck_assert_int_eq(tacit_view_check(&v, &err), TACIT_EINVAL);                                \
        ck_assert_msg(strstr(err.text, says) != NULL, "%s", err.text);                             \
    } while (0)
    REFUSES(v.size = 0, "size");
    REFUSES(v.size = 100000, "size");
    REFUSES(v.filter = TACIT_FILTER_LANCZOS, "filter");
    REFUSES(v.flip = 1.5f, "flip");
    REFUSES(v.gray = NAN, "gray");
    REFUSES(v.hue = 0.51f, "hue");
    REFUSES(v.scale[0] = 0, "area");
    REFUSES(v.scale[1] = 1.1f, "area");
    REFUSES(v.ratio[0] = 2, "ratio");
    REFUSES(v.sigma[1] = INFINITY, "blur");
    REFUSES(v.threshold = 300, "solarising");
    REFUSES(v.std[1] = 0, "deviation");
}
END_TEST

int main(void)
{
    for (unsigned i = 0; i < TACIT_ISA_COUNT; i++)
        if (tacit_isa_available((tacit_isa)i))
            isas[isa_count++] = (tacit_isa)i;
    Suite *suite = suite_create("views");
    TCase *t = tcase_create("views");
    tcase_set_timeout(t, 0);
    tcase_add_loop_test(t, same_pixels_as_torchvision, 0, (int)isa_count);
    tcase_add_loop_test(t, hue_of_all_colours, 0, (int)isa_count);
    tcase_add_test(t, crops_as_torchvision);
    tcase_add_test(t, draws_are_independent);
    tcase_add_test(t, centres);
    tcase_add_test(t, checks_settings);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
