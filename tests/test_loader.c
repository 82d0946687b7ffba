/* test_loader.c - batches of views: the same for any threads and from any place, every sample once
 * an epoch, and what bad images do. */
#include "image.h"
#include "loader.h"
#include "mem.h"
#include "rng.h"
#include "samples.h"
#include "scratch.h"

#include <check.h>
#include <sys/stat.h>

#define IMAGES 23
#define BATCH  5

static const tacit_kernels *kernels;
static tacit_view views[2];
static unsigned reports;

/* A folder of small pictures of many sizes; those whose bit is set in `bad` are cut off. */
static const char *make_folder(const char *name, size_t count, uint32_t bad)
{
    static char folder[1024];
    snprintf(folder, sizeof folder, "%s", scratch(name));
    ck_assert_int_eq(mkdir(folder, 0777), 0);
    for (size_t i = 0; i < count; i++) {
        size_t width = 20 + i * 3, height = 50 - i, size;
        uint8_t rgb[3 * 100 * 50];
        for (size_t j = 0; j < 3 * width * height; j++)
            rgb[j] = (uint8_t)tacit_rng_u32(7, i, j / 9);
        void *png;
        ck_assert_int_eq(tacit_png_encode(rgb, width, height, &png, &size, NULL), TACIT_OK);
        char path[2048];
        snprintf(path, sizeof path, "%s/%02zu.png", folder, i);
        file_put(path, png, bad >> i & 1 ? size / 2 : size);
        tacit_free(png);
    }
    return folder;
}

static void count_bad(void *ctx, const char *line)
{
    (void)ctx;
    ck_assert_ptr_nonnull(strstr(line, ".png"));
    reports++;
}

static tacit_loader_options options_for(const char *path)
{
    views[0] = tacit_view_plain(24);
    views[1] = tacit_view_plain(10);
    views[1].filter = TACIT_FILTER_BILINEAR;
    views[1].jitter = 0.8f;
    views[1].brightness = views[1].contrast = views[1].saturation = 0.4f;
    views[1].hue = 0.1f;
    views[1].gray = views[1].solarise = 0.2f;
    views[1].blur = 0.5f;
    return (tacit_loader_options){ .path = path,
                                   .views = views,
                                   .view_count = 2,
                                   .batch = BATCH,
                                   .seed = 11,
                                   .kernels = kernels,
                                   .bad = count_bad };
}

static tacit_loader *open_loader(const tacit_loader_options *o)
{
    tacit_loader *l;
    tacit_err err = { "" };
    ck_assert_msg(tacit_loader_open(&l, o, &err) == TACIT_OK, "%s", err.text);
    return l;
}

static tacit_batch next(tacit_loader *l)
{
    tacit_batch batch;
    tacit_err err = { "" };
    ck_assert_msg(tacit_loader_next(l, &batch, &err) == TACIT_OK, "%s", err.text);
    return batch;
}

/* Samples and pixels as one number. */
static uint64_t digest(const tacit_batch *b)
{
    uint64_t h = b->epoch * 1000 + b->step;
    for (size_t i = 0; i < BATCH; i++)
        h = (h ^ b->samples[i]) * 0x100000001b3;
    for (size_t v = 0; v < 2; v++)
        for (size_t i = 0; i < (size_t)BATCH * 3 * views[v].size * views[v].size; i++) {
            uint32_t bits;
            memcpy(&bits, &b->views[v][i], sizeof bits);
            h = (h ^ bits) * 0x100000001b3;
        }
    return h;
}

START_TEST(same_batches_for_any_threads)
{
    const char *folder = make_folder("threads", IMAGES, 1 << 3 | 1 << 4 | 1 << 22);
    uint64_t want[12] = { 0 };
    static const struct {
        unsigned threads, pool;
        size_t ahead;
    } ways[] = { { 0, 0, 0 }, { 0, 3, 0 }, { 1, 0, 1 }, { 2, 0, 3 }, { 3, 2, 1 }, { 8, 1, 5 } };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        tacit_loader_options o = options_for(folder);
        tacit_pool *pool = NULL;
        if (ways[i].pool)
            ck_assert_int_eq(tacit_pool_open(&pool, ways[i].pool, NULL), TACIT_OK);
        o.pool = pool;
        o.threads = ways[i].threads;
        o.ahead = ways[i].ahead;
        reports = 0;
        tacit_loader *l = open_loader(&o);
        ck_assert_uint_eq(tacit_loader_steps(l), IMAGES / BATCH);
        for (size_t n = 0; n < 12; n++) {
            tacit_batch b = next(l);
            ck_assert_uint_eq(b.epoch, n / 4);
            ck_assert_uint_eq(b.step, n % 4);
            uint64_t h = digest(&b);
            ck_assert_msg(!i || h == want[n], "batch %zu differs in way %zu", n, i);
            want[n] = h;
        }
        for (size_t n = 12; n-- > 0;) { /* from any place, also where others work ahead */
            tacit_loader_seek(l, n / 4, n % 4);
            tacit_batch b = next(l);
            ck_assert_uint_eq(digest(&b), want[n]);
        }
        ck_assert_uint_eq(reports, 3);
        tacit_loader_close(&l);
        tacit_pool_close(&pool);
    }
}
END_TEST

/* An epoch has each sample at most once, epochs and seeds differ, and every sample comes up as
 * often as any other. */
START_TEST(epochs_are_permutations)
{
    const char *folder = make_folder("order", 10, 0);
    tacit_loader_options o = options_for(folder);
    unsigned first[10] = { 0 };
    uint32_t before[2 * BATCH] = { 0 };
    for (o.seed = 0; o.seed < 2; o.seed++) {
        tacit_loader *l = open_loader(&o);
        for (uint64_t epoch = 0; epoch < 200; epoch++) {
            unsigned seen = 0;
            uint32_t order[2 * BATCH];
            for (size_t step = 0; step < 2; step++) {
                tacit_batch b = next(l);
                memcpy(order + step * BATCH, b.samples, sizeof *order * BATCH);
            }
            for (size_t i = 0; i < 10; i++)
                seen |= 1u << order[i];
            ck_assert_uint_eq(seen, 0x3ff);
            ck_assert_int_ne(memcmp(before, order, sizeof order), 0);
            memcpy(before, order, sizeof order);
            first[order[0]]++;
        }
        tacit_loader_close(&l);
    }
    for (size_t i = 0; i < 10; i++) /* 40 expected, deviation 6 */
        ck_assert_msg(first[i] > 16 && first[i] < 64, "sample %zu is first %u times", i, first[i]);
}
END_TEST

/* The next usable one stands in for a bad one, in the draws of the bad one. */
START_TEST(bad_images_are_replaced)
{
    uint32_t bad = 1 << 2 | 1 << 3 | 1 << 9;
    tacit_loader_options o = options_for(make_folder("good", 10, 0));
    tacit_loader *good = open_loader(&o);
    o.path = make_folder("some", 10, bad);
    o.threads = 2;
    o.ahead = 2;
    reports = 0;
    tacit_loader *some = open_loader(&o);
    for (size_t n = 0; n < 20; n++) {
        tacit_batch a = next(good), b = next(some);
        size_t floats = 3 * (size_t)views[0].size * views[0].size;
        for (size_t i = 0; i < BATCH; i++) {
            uint32_t want = a.samples[i];
            while (bad >> want & 1)
                want = (want + 1) % 10;
            ck_assert_uint_eq(b.samples[i], want);
            ck_assert_int_eq(
                !memcmp(a.views[0] + i * floats, b.views[0] + i * floats, floats * sizeof(float)),
                want == a.samples[i]);
        }
    }
    ck_assert_uint_eq(reports, 3);
    tacit_loader_close(&good);
    tacit_loader_close(&some);
}
END_TEST

START_TEST(tells_what_is_wrong)
{
    tacit_loader *l;
    tacit_batch b;
    tacit_err err;
    tacit_loader_options o = options_for(make_folder("none", 6, 0x3f));
    reports = 0;
    for (o.threads = 0; o.threads < 3; o.threads++) {
        o.ahead = o.threads;
        l = open_loader(&o);
        ck_assert_int_eq(tacit_loader_next(l, &b, &err), TACIT_EINVAL);
        ck_assert_msg(strstr(err.text, "images can be used"), "%s", err.text);
        ck_assert_int_eq(tacit_loader_next(l, &b, &err), TACIT_EINVAL);
        tacit_loader_close(&l);
    }
    ck_assert_uint_eq(reports, 18);
    o.batch = 7;
    ck_assert_int_eq(tacit_loader_open(&l, &o, &err), TACIT_EINVAL);
    ck_assert_ptr_null(l);
    ck_assert_msg(strstr(err.text, "6 images are fewer than a batch of 7"), "%s", err.text);
    o.path = scratch("nothing");
    ck_assert_int_eq(tacit_loader_open(&l, &o, &err), TACIT_EINVAL);
    o = options_for(scratch("none"));
    views[1].hue = 0.6f;
    ck_assert_int_eq(tacit_loader_open(&l, &o, &err), TACIT_EINVAL);
    ck_assert_msg(strstr(err.text, "view 2: hue"), "%s", err.text);
}
END_TEST

/* Any item at any time, with the pixels that reading in sequence gives. */
START_TEST(samples_of_every_kind)
{
    const char *paths[] = { golden("datasets/colour.idx"), golden("datasets/gray.idx.gz"),
                            golden("datasets/ustar.tar"), make_folder("kinds", 5, 1 << 2) };
    for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) {
        tacit_err err = { "" }, why;
        tacit_samples *samples;
        tacit_dataset *set;
        tacit_item item = { 0 };
        tacit_image image = { 0 };
        tacit_sample sample = { 0 };
        ck_assert_msg(!tacit_samples_open(&samples, paths[k], TACIT_DATASET_AUTO, &err), "%s",
                      err.text);
        size_t at = 0;
        bool more;
        ck_assert_int_eq(tacit_dataset_open(&set, paths[k], TACIT_DATASET_AUTO, &err), 0);
        for (; !tacit_dataset_next(set, &item, &more, &err) && more; at++) {
            tacit_status st = tacit_item_load(&item, &why);
            const uint8_t *rgb = item.bytes;
            size_t width = item.width, height = item.height;
            if (!st && item.form != TACIT_ITEM_PIXELS) {
                st = tacit_image_decode(&image, item.bytes, item.size, NULL, &why);
                rgb = image.rgb;
                width = image.width;
                height = image.height;
            }
            ck_assert_int_eq(tacit_samples_load(samples, at, &sample, &err), st);
            if (st)
                continue;
            ck_assert_uint_eq(sample.width, width);
            ck_assert_uint_eq(sample.height, height);
            ck_assert_int_eq(memcmp(sample.rgb, rgb, 3 * width * height), 0);
        }
        tacit_dataset_close(&set);
        ck_assert_uint_eq(at, tacit_samples_count(samples));
        tacit_item_free(&item);
        tacit_image_free(&image);
        tacit_sample_free(&sample);
        tacit_samples_close(&samples);
    }
}
END_TEST

/* After the first batch nothing is allocated where the pixels are raw, and every failing
 * allocation before is one error. */
START_TEST(memory)
{
    const char *folder = make_folder("memory", 10, 0);
    tacit_loader_options o = options_for(folder);
    tacit_err err;
    tacit_loader *l;
    for (uint64_t n = 1;; n++) {
        tacit_alloc_fail_at(n, false);
        tacit_status st = tacit_loader_open(&l, &o, &err);
        tacit_batch b;
        for (int i = 0; st == TACIT_OK && i < 2; i++)
            st = tacit_loader_next(l, &b, &err);
        tacit_alloc_fail_at(0, false);
        if (st == TACIT_OK)
            break;
        ck_assert_int_eq(st, TACIT_ENOMEM);
        tacit_loader_close(&l);
        ck_assert_uint_lt(n, 1000);
    }
    tacit_loader_close(&l);
    static uint8_t idx[20 + 10 * 30 * 40 * 3] = { 0, 0,  8, 4, 0, 0,  0, 10, 0, 0,
                                                  0, 30, 0, 0, 0, 40, 0, 0,  0, 3 };
    for (size_t i = 20; i < sizeof idx; i++)
        idx[i] = (uint8_t)tacit_rng_u32(3, 3, i);
    file_put(scratch("raw.idx"), idx, sizeof idx);
    o.path = scratch("raw.idx");
    l = open_loader(&o);
    next(l);
    uint64_t before = tacit_alloc_count();
    for (int i = 0; i < 20; i++)
        next(l);
    ck_assert_uint_eq(tacit_alloc_count(), before);
    tacit_loader_close(&l);
}
END_TEST

int main(void)
{
    tacit_isa isa;
    if (tacit_isa_select(getenv("TACIT_CPU"), &isa, NULL) < 0)
        return 1;
    kernels = tacit_kernels_for(isa);
    Suite *s = suite_create("loader");
    TCase *c = tcase_create("loader");
    tcase_add_test(c, same_batches_for_any_threads);
    tcase_add_test(c, epochs_are_permutations);
    tcase_add_test(c, bad_images_are_replaced);
    tcase_add_test(c, tells_what_is_wrong);
    tcase_add_test(c, samples_of_every_kind);
    tcase_add_test(c, memory);
    tcase_set_timeout(c, 0);
    tcase_add_checked_fixture(c, scratch_open, scratch_close);
    suite_add_tcase(s, c);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
