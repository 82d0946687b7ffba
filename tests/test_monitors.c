/* test_monitors.c - what watches a run: the signs of collapse, told where a method is without what
 * protects it and not where it is with it; the k-NN of a folder of images with classes.
 */
#include "knn_watch.h"
#include "pretrain_run.h"
#include "watch.h"

#include <fcntl.h>
#include <math.h>

/* The signs ------------------------------------------------------------------------------------ */

static void look(tacit_watch *w, const float *rows, size_t count, size_t dim, bool pairs)
{
    const tacit_embeddings e = { rows, count, dim, dim, pairs, false };
    ck_assert_int_eq(tacit_watch_open(w, dim, NULL), TACIT_OK);
    tacit_watch_look(w, &e);
    ck_assert(w->seen);
}

START_TEST(collapse_is_seen)
{
    enum { ROWS = 64, DIM = 16 };
    float rows[ROWS * DIM];
    tacit_watch w;
    for (size_t i = 0; i < ROWS * DIM; i++) /* all alike */
        rows[i] = 1 + 0.001f * tacit_rng_uniform(1, 2, i);
    look(&w, rows, ROWS, DIM, false);
    ck_assert_str_eq(tacit_watch_collapse(&w), "the features of all images are nearly the same");
    ck_assert_double_lt(w.spread, 0.01);
    ck_assert_double_lt(w.rank, 1.1);
    ck_assert_double_gt(w.uniformity, -0.01);
    tacit_watch_close(&w);
    for (size_t i = 0; i < ROWS * DIM; i++) /* a round cloud, and each row twice */
        rows[i] = i < ROWS * DIM / 2 ? 0 : rows[i - ROWS * DIM / 2];
    for (size_t i = 0; i < ROWS / 2; i++)
        rows[i * DIM + i % DIM] = rows[(i + ROWS / 2) * DIM + i % DIM] = i / DIM % 2 ? -2 : 2;
    look(&w, rows, ROWS, DIM, true);
    ck_assert_ptr_null(tacit_watch_collapse(&w));
    ck_assert_double_eq_tol(w.spread, 1, 1e-6);
    ck_assert_double_eq_tol(w.rank, DIM, 1e-4);
    ck_assert_double_eq_tol(w.alignment, 0, 1e-12);
    tacit_watch_close(&w);
    const float two[] = { 3, 0, 0, 5, 0, 1, 7, 0 }; /* at right angles, and their views swapped */
    look(&w, two, 4, 2, true);
    ck_assert_double_eq_tol(w.alignment, 2, 1e-12);
    ck_assert_double_eq_tol(w.uniformity, log((2 + 2 * exp(-4)) / 4), 1e-12);
    tacit_watch_close(&w);
}
END_TEST

/* Of grey pictures, all the same, there is nothing to be told apart. */
START_TEST(collapse_is_told)
{
    static const char *const still[] = { "jitter=0", "gray=0", "watch_steps=3" };
    unsigned char *bytes = malloc(IMAGES * RECORD);
    memset(bytes, 5, IMAGES * RECORD);
    file_put(images, bytes, IMAGES * RECORD);
    free(bytes);
    run r;
    run_open(&r, TINY_SIMCLR, scratch("run"));
    for (size_t i = 0; i < sizeof still / sizeof *still; i++)
        config_set(&r.config, still[i]);
    ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
    const char *told = strstr(r.said, "step 3: collapse: the features of all images are nearly");
    ck_assert_msg(told && !strstr(told + 20, "collapse"), "%s", r.said); /* once */
    tacit_config_close(&r.config);
}
END_TEST

/* A decay that takes from the weights what the loss does not hold: with centring and sharpening
 * DINO keeps its images apart, without either of them it is told that they are all alike. */
START_TEST(dino_collapses_without_centring_or_sharpening)
{
    static const char *const still[] = {
        "outputs=64",
        "head_hidden=32",
        "head_dim=16",
        "norm_last_layer=true",
        "batch=16",
        "schedule=constant",
        "warmup_epochs=0",
        "freeze_last_layer=0",
        "max_steps=300",
        "watch_steps=30",
        "lr=0.003",
        "weight_decay=3",
        "clip_tensor=3",
        "weight_decay_final=-1",
        "teacher_momentum=0.97",
        "teacher_temperature=0.04",
        "jitter=0",
        "gray=0",
        "blur=0",
        "blur_second=0",
        "blur_local=0",
        "solarise_second=0",
        "crop_min=0.5",
        "local_min=0.3",
        "local_max=0.6",
    };
    static const char *const without[][2] = {
        { NULL },
        { "centring=false" },
        { "teacher_temperature=1", "teacher_temperature_start=1" },
    };
    run r;
    run_open(&r, tiny_of("dino"), scratch("run"));
    for (size_t i = 0; i < sizeof still / sizeof *still; i++)
        config_set(&r.config, still[i]);
    for (size_t i = 0; i < 2 && without[_i][i]; i++)
        config_set(&r.config, without[_i][i]);
    ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
    bool told = strstr(r.said, "collapse: the features of all images are nearly the same") != NULL;
    ck_assert_msg(told == (_i > 0), "%s", r.said);
    tacit_config_close(&r.config);
}
END_TEST

/* What is taken away, and settings with which that shows within 40 epochs, or as many as they say.
 */
#define SMALL_VIT                                                                                  \
    "arch=vit_tiny_patch4_32", "size=16", "dim=24", "heads=3", "depth=2", "optimiser=adamw",       \
        "lr=0.01"
static const struct {
    const char *method, *settings[16], *without[3];
} protections[] = {
    { "moco", { SMALL_VIT, "key_momentum=0.5", "head_layers=1" }, { "negatives=false" } },
    { "moco3",
      { SMALL_VIT, "lr=0.04", "warmup_epochs=0", "key_momentum=0", "temperature=0.2",
        "predictor=false", "head_norm=false", "head_layers=1" },
      { "negatives=false" } },
    { "byol",
      { SMALL_VIT, "head_hidden=16", "head_dim=8", "target_momentum=0.5" },
      { "predictor=false" } },
    { "barlow",
      { SMALL_VIT, "bias_rate=1", "head_layers=1", "head_dim=8" },
      { "lambda=0", "standardise=false" } },
    { "vicreg", { SMALL_VIT, "head_hidden=16", "head_dim=8" }, { "variance=0" } },
    { "deepcluster",
      { "optimiser=sgd", "lr=0.3", "temperature=1", "prototypes=16" },
      { "kmeans=false" } },
    { "deepcluster1", /* of this seed all images begin in one cluster of the classifier's */
      { SMALL_VIT, "schedule=constant", "weight_decay=1", "decay_all=false", "seed=1" },
      { "kmeans=false" } },
    { "swav",
      { "optimiser=adamw", "freeze_epochs=0", "jitter=0", "gray=0" },
      { "sinkhorn_iterations=0" } },
    { "ijepa",
      { SMALL_VIT, "lr=0.03", "schedule=constant", "weight_decay=3", "weight_decay_final=-1",
        "target_momentum=0.99", "epochs=80" },
      { "target_momentum=0" } },
};

START_TEST(what_protects_from_collapse)
{
    for (int without = 0; without < 2; without++) {
        run r;
        run_open(&r, tiny_of(protections[_i].method), scratch(without ? "without" : "with"));
        config_set(&r.config, "epochs=40");
        for (const char *const *s = protections[_i].settings; *s; s++)
            config_set(&r.config, *s);
        for (const char *const *s = protections[_i].without; without && *s; s++)
            config_set(&r.config, *s);
        config_set(&r.config, "watch_steps=5");
        ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
        ck_assert_msg((strstr(r.said, ": collapse: ") != NULL) == without, "%s: %s",
                      protections[_i].method, r.said);
        tacit_config_close(&r.config);
    }
}
END_TEST

/* What a tokenizer learns with, and what leaves most of its codes without a token: many more than
 * these images have kinds of patches, and nothing that spreads them. */
static const struct {
    const char *method, *without[3];
} codebooks[] = {
    { "dvae", { "codes=200", "kl_weight=0" } },
    { "vqkd", { "codes=200", "kmeans=false" } },
};

START_TEST(few_codes_are_told)
{
    for (int without = 0; without < 2; without++) {
        run r;
        run_open(&r, tiny_of(codebooks[_i].method), scratch(without ? "without" : "with"));
        for (const char *const *s = codebooks[_i].without; without && *s; s++)
            config_set(&r.config, *s);
        ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
        const char *told = strstr(r.said, ": collapse: all tokens of the epoch are ");
        ck_assert_msg((told != NULL) == without, "%s: %s", codebooks[_i].method, r.said);
        ck_assert(!told || !strstr(told + 20, ": collapse: all tokens")); /* once */
        tacit_config_close(&r.config);
    }
}
END_TEST

START_TEST(a_run_is_watched)
{
    run r;
    char text[1100];
    run_open(&r, _i, scratch("run"));
    snprintf(text, sizeof text, "knn=%s", images);
    config_set(&r.config, text);
    config_set(&r.config, "knn_epochs=3");
    config_set(&r.config, "knn_k=5");
    config_set(&r.config, "watch_steps=6");
    ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
    ck_assert_uint_eq(r.result.knn_rows, IMAGES);
    ck_assert_double_gt(r.result.knn_top1, 90); /* their colours tell them apart */
    ck_assert_ptr_nonnull(strstr(r.said, "step 15: k-NN (k = 5) of 43 images: "));
    size_t n;
    char *log = (char *)file_get(in(r.o.out, "log.jsonl"), &n);
    unsigned knn = 0, spread = 0;
    for (char *p = log; (p = strstr(p, "\"knn_top1\":")); p++)
        knn++;
    for (char *p = log; (p = strstr(p, "\"spread\":")); p++)
        spread++;
    ck_assert_uint_eq(knn, 2);
    ck_assert_uint_eq(spread, 4);
    free(log);
    snprintf(r.out, sizeof r.out, "%s", scratch("other")); /* nothing to tell apart */
    make_images(images, 8);
    for (off_t i = 0; i < 8; i++) {
        int fd = open(images, O_WRONLY);
        ck_assert_int_eq(pwrite(fd, "", 1, i * RECORD), 1);
        close(fd);
    }
    ck_assert_int_eq(run_go(&r, 1), TACIT_OK); /* without */
    ck_assert_msg(strstr(r.said, ": 8 usable images of 1 classes") != NULL, "%s", r.said);
    ck_assert_uint_eq(r.result.knn_rows, 0);
    tacit_config_close(&r.config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("monitors");
    TCase *tests = tcase_create("monitors");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, setup, scratch_close);
    tcase_add_test(tests, collapse_is_seen);
    tcase_add_test(tests, collapse_is_told);
    if (!getenv("TACIT_SLOW_MACHINE")) { /* hundreds of steps, with the same bits everywhere */
        tcase_add_loop_test(tests, what_protects_from_collapse, 0,
                            sizeof protections / sizeof *protections);
        tcase_add_loop_test(tests, dino_collapses_without_centring_or_sharpening, 0, 3);
    }
    TCase *codes = tcase_create("codes");
    tcase_set_timeout(codes, 300);
    tcase_add_checked_fixture(codes, setup, scratch_close);
    if (!getenv("TACIT_SLOW_MACHINE"))
        tcase_add_loop_test(codes, few_codes_are_told, 0, sizeof codebooks / sizeof *codebooks);
    tcase_add_loop_test(tests, a_run_is_watched, 0, 2);
    suite_add_tcase(suite, tests);
    suite_add_tcase(suite, codes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
