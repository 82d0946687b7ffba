/* test_pretrain.c - whole runs, from a file of images to a backbone: the same bytes on every ISA,
 * with 1 to 8 threads, stopped and resumed anywhere; checkpoints that are damaged, folders that are
 * taken, images that do not fit, numbers that are not finite, memory that runs out; pictures.
 */
#include "backbone_file.h"
#include "extractor.h"
#include "pictures.h"
#include "pretrain_run.h"
#include "run_folder.h"
#include "safetensors.h"
#include "snapshot.h"
#include "tokenizer.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/file.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

/* Runs ---------------------------------------------------------------------------------------- */

static void run_whole(size_t method, const char *out, unsigned threads)
{
    run r;
    run_open(&r, method, out);
    ck_assert_msg(!run_go(&r, threads), "%s", r.err.text);
    ck_assert_uint_eq(r.result.step, STEPS);
    tacit_config_close(&r.config);
}

static bool same_files(const char *a, const char *b)
{
    size_t n, m;
    unsigned char *x = file_get(a, &n), *y = file_get(b, &m);
    bool same = n == m && !memcmp(x, y, n);
    free(x), free(y);
    return same;
}

/* What a run is for. */
static const char *product(const char *out)
{
    const char *tokenizer = in(out, "tokenizer.safetensors");
    return access(tokenizer, F_OK) ? in(out, "backbone.safetensors") : tokenizer;
}

static void check_same(const char *a, const char *b)
{
    ck_assert(same_files(in(a, "checkpoint.safetensors"), in(b, "checkpoint.safetensors")));
    ck_assert(same_files(product(a), product(b)));
}

/* The same bytes ------------------------------------------------------------------------------ */

START_TEST(same_bytes)
{
    static const unsigned threads[] = { 2, 3, 8 };
    size_t first = getenv("TACIT_SLOW_MACHINE") ? 1 : 0, end = first ? first + 1 : 3;
    run_whole(_i, scratch("one"), 1);
    for (size_t t = first; t < end; t++) { /* on a slow machine one number of threads must do */
        char name[16];
        snprintf(name, sizeof name, "t%u", threads[t]);
        run_whole(_i, scratch(name), threads[t]);
        check_same(scratch("one"), scratch(name));
    }
    for (size_t i = 0; i + 1 < isa_count; i++) {
        run r;
        run_open(&r, _i, scratch(tacit_isa_name(isas[i])));
        r.o.kernels = tacit_kernels_for(isas[i]);
        ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
        check_same(scratch("one"), r.o.out);
        tacit_config_close(&r.config);
    }
}
END_TEST

/* A line for each step, once, in order; what does not depend on time. */
static void check_log(const char *out, double *losses)
{
    FILE *f = fopen(in(out, "log.jsonl"), "r");
    ck_assert_ptr_nonnull(f);
    char line[4096];
    uint64_t step = 0;
    while (fgets(line, sizeof line, f)) {
        static const char *const reals[] = { "loss",       "rate",        "weight_decay",
                                             "images_s",   "data_s",      "forward_s",
                                             "backward_s", "optimiser_s", "gradient_norm" };
        json_t *row = json_loads(line, 0, NULL);
        ck_assert_msg(row != NULL, "%s", line);
        ck_assert_uint_eq((uint64_t)json_integer_value(json_object_get(row, "step")), ++step);
        ck_assert_uint_eq((uint64_t)json_integer_value(json_object_get(row, "epoch")),
                          (step - 1) / EPOCH);
        for (size_t i = 0; i < sizeof reals / sizeof *reals; i++)
            ck_assert_msg(json_is_number(json_object_get(row, reals[i])), "no %s: %s", reals[i],
                          line);
        ck_assert(step <= STEPS);
        losses[step - 1] = json_number_value(json_object_get(row, "loss"));
        ck_assert_double_gt(losses[step - 1], 0);
        json_decref(row);
    }
    ck_assert_uint_eq(step, STEPS);
    fclose(f);
}

START_TEST(stopped_and_resumed)
{
    static const unsigned threads[] = { 3, 1, 8, 2 };
    double want[STEPS], got[STEPS];
    run r;
    run_whole(_i, scratch("whole"), 2);
    run_open(&r, _i, scratch("parts"));
    r.o.resume = true;
    for (size_t part = 0; part < 4; part++) {
        r.stop_at = part < 2 ? 3 + 5 * part : 0;
        r.o.stop_after = part == 2 ? 14 : 0;
        if (part == 1) { /* lines behind the checkpoint, the last of them torn */
            int fd = open(in(r.o.out, "log.jsonl"), O_WRONLY | O_APPEND);
            ck_assert_int_eq(write(fd, "{\"step\":4,\"loss\":1}\n{\"step\":", 28), 28);
            close(fd);
        }
        tacit_status st = run_go(&r, threads[part]);
        ck_assert_msg(st == (part < 2 ? TACIT_ECANCELLED : TACIT_OK), "%s", r.err.text);
    }
    ck_assert_uint_eq(r.result.first, 14);
    check_same(scratch("whole"), r.o.out);
    check_log(scratch("whole"), want);
    check_log(r.o.out, got);
    for (size_t i = 0; i < STEPS; i++)
        ck_assert(want[i] == got[i]);
    ck_assert_int_eq(run_go(&r, 1), TACIT_OK); /* nothing is left */
    ck_assert_uint_eq(r.result.first, STEPS);
    check_same(scratch("whole"), r.o.out);
    tacit_config_close(&r.config);
}
END_TEST

/* Stops when the n-th part of a step is asked for. */
typedef struct stopping_feed {
    test_feed feed;
    uint64_t asked, stop_at;
    atomic_int *stop;
} stopping_feed;

static tacit_status stopping_next(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                                  tacit_err *err)
{
    stopping_feed *f = ctx;
    if (++f->asked == f->stop_at)
        atomic_store(f->stop, 1);
    return feed_next(&f->feed, epoch, index, batch, err);
}

START_TEST(a_step_left_in_its_middle)
{
    for (uint64_t at = 0; at < 8; at++) { /* a step asks for 8 parts: twice for each */
        run r;
        stopping_feed f = { .stop_at = at ? 8 * 3 + at : 0 };
        char name[16];
        snprintf(name, sizeof name, "at%u", (unsigned)at);
        run_open(&r, TINY_SIMCLR, scratch(name));
        config_set(&r.config, "accumulate=4");
        config_set(&r.config, "max_steps=6");
        feed_open(&f.feed, 12, 8, 4);
        f.stop = &r.stop;
        const tacit_feed feed = { &f, f.feed.feed.parts, stopping_next };
        r.o.feed = &feed;
        r.o.resume = true;
        tacit_status st = run_go(&r, 1);
        ck_assert_msg(st == (at ? TACIT_ECANCELLED : TACIT_OK), "%s", r.err.text);
        ck_assert_uint_eq(r.result.step, at ? 3 : 6);
        if (at) {
            ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
            check_same(scratch("at0"), r.o.out);
        }
        feed_close(&f.feed);
        tacit_config_close(&r.config);
    }
}
END_TEST

/* Before an epoch's first step, in its look at all images and behind it, and in an epoch. A look is
 * at 10 parts, then come 5 steps of 2; of the first DeepCluster, in each epoch. */
START_TEST(an_epoch_left_in_its_middle)
{
    static const struct {
        uint64_t at[2], step[2]; /* the part that is asked for when the run stops, by method */
    } cases[] = { { { 0, 0 }, { 12, 12 } }, { { 1, 1 }, { 0, 0 } },   { { 7, 10 }, { 0, 0 } },
                  { { 11, 11 }, { 0, 0 } }, { { 16, 16 }, { 3, 3 } }, { { 21, 21 }, { 5, 5 } },
                  { { 23, 30 }, { 6, 5 } }, { { 24, 34 }, { 7, 7 } } };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run r;
        uint64_t at = cases[i].at[_i];
        stopping_feed f = { .stop_at = at };
        char name[16];
        snprintf(name, sizeof name, "at%u", (unsigned)at);
        run_open(&r, tiny_of(_i ? "deepcluster1" : "deepcluster"), scratch(name));
        config_set(&r.config, "accumulate=2");
        config_set(&r.config, "max_steps=12");
        feed_open(&f.feed, 12, 8, 2);
        f.stop = &r.stop;
        const tacit_feed feed = { &f, f.feed.feed.parts, stopping_next };
        r.o.feed = &feed;
        r.o.resume = true;
        tacit_status st = run_go(&r, 1);
        ck_assert_msg(st == (at ? TACIT_ECANCELLED : TACIT_OK), "%s", r.err.text);
        ck_assert_msg(r.result.step == cases[i].step[_i], "part %u: step %u", (unsigned)at,
                      (unsigned)r.result.step);
        if (at) {
            ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
            check_same(scratch("at0"), r.o.out);
        }
        feed_close(&f.feed);
        tacit_config_close(&r.config);
    }
}
END_TEST

static tacit_status failing_next(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                                 tacit_err *err)
{
    stopping_feed *f = ctx;
    return ++f->asked == f->stop_at ? tacit_fail(err, TACIT_EIO, "the disk is gone")
                                    : feed_next(&f->feed, epoch, index, batch, err);
}

START_TEST(data_that_fails_costs_no_step)
{
    for (uint64_t at = 0; at < 8; at += 5) {
        run r;
        stopping_feed f = { .stop_at = at ? 8 * 3 + at : 0 };
        run_open(&r, TINY_SIMCLR, scratch(at ? "failed" : "whole"));
        config_set(&r.config, "accumulate=4");
        config_set(&r.config, "max_steps=6");
        feed_open(&f.feed, 12, 8, 4);
        const tacit_feed feed = { &f, f.feed.feed.parts, failing_next };
        r.o.feed = &feed;
        r.o.resume = true;
        tacit_status st = run_go(&r, 1);
        ck_assert_int_eq(st, at ? TACIT_EIO : TACIT_OK);
        if (at) {
            ck_assert_str_eq(r.err.text, "the disk is gone; the checkpoint of step 3 is kept");
            ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
            check_same(scratch("whole"), r.o.out);
        }
        feed_close(&f.feed);
        tacit_config_close(&r.config);
    }
}
END_TEST

START_TEST(nothing_is_allocated_by_a_step)
{
    run r;
    test_feed feed;
    run_open(&r, _i, scratch("run"));
    config_set(&r.config, "watch_steps=3");
    feed_open(&feed, tiny[_i].side, 8, 1);
    r.o.feed = &feed.feed;
    ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
    ck_assert_uint_eq(r.allocations[0], r.allocations[1]);
    ck_assert_uint_gt(r.allocations[0], 10);
    feed_close(&feed);
    tacit_config_close(&r.config);
}
END_TEST

/* Checkpoints --------------------------------------------------------------------------------- */

START_TEST(checkpoints_are_kept)
{
    run r;
    run_open(&r, TINY_MAE, scratch("run"));
    config_set(&r.config, "checkpoint_steps=3");
    config_set(&r.config, "keep=3");
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    ck_assert_int_eq(access(in(r.o.out, "checkpoint-18.safetensors"), F_OK), 0);
    ck_assert_int_eq(access(in(r.o.out, "checkpoint-15.safetensors"), F_OK), 0);
    ck_assert_uint_eq(count_names(r.o.out), 6); /* the last, config, log, backbone */
    tacit_config_close(&r.config);
    run_open(&r, TINY_MAE, scratch("often")); /* by time: behind every step */
    config_set(&r.config, "checkpoint_minutes=1e-9");
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    ck_assert_int_eq(access(in(r.o.out, "checkpoint-19.safetensors"), F_OK), 0);
    tacit_config_close(&r.config);
}
END_TEST

static void flip(const char *path, off_t at)
{
    unsigned char byte;
    int fd = open(path, O_RDWR);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= (unsigned char)(1 << at % 8);
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Damage in any byte, and a cut at any length: an error, or what was saved. */
START_TEST(every_damage_is_seen)
{
    run r;
    tacit_engine e;
    run_open(&r, _i, scratch("run"));
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    engine_ready(&e, &r.config, isas[isa_count - 1], NULL);
    char path[1024];
    size_t size;
    snprintf(path, sizeof path, "%s", in(r.o.out, "checkpoint.safetensors"));
    unsigned char *whole = file_get(path, &size);
    ck_assert_int_eq(tacit_snapshot_load(path, &e, &r.err), TACIT_OK);
    float *want = tacit_alloc(e.params.floats * sizeof *want);
    memcpy(want, e.params.values, e.params.floats * sizeof *want);
    size_t header = 8 + (size_t)(whole[0] | whole[1] << 8 | whole[2] << 16), harmless = 0;
    size_t step = getenv("TACIT_SLOW_MACHINE") ? 7 : 1; /* every byte, or a seventh of them */
    for (size_t at = 0; at < size; at += at < header ? step : 61 * step) {
        flip(path, (off_t)at);
        memset(e.params.values, 0, e.params.floats * sizeof *want);
        tacit_err err = { "" };
        if (tacit_snapshot_load(path, &e, &err) == TACIT_OK) {
            harmless++; /* blanks of the header */
            ck_assert(at < header && e.step == STEPS &&
                      !memcmp(e.params.values, want, e.params.floats * sizeof *want));
        } else {
            ck_assert_msg(strstr(err.text, path) != NULL, "%s", err.text);
        }
        flip(path, (off_t)at);
    }
    ck_assert_uint_lt(harmless, 64);
    for (size_t n = size; n; n -= n > header + 1000 ? 997 : n < step ? n : step) {
        ck_assert_int_eq(truncate(path, (off_t)n - 1), 0);
        ck_assert_int_lt(tacit_snapshot_load(path, &e, &r.err), 0);
    }
    free(whole);
    tacit_free(want);
    tacit_engine_close(&e);
    tacit_config_close(&r.config);
}
END_TEST

START_TEST(a_damaged_checkpoint_costs_little)
{
    run r;
    run_whole(TINY_MAE, scratch("whole"), 1);
    run_open(&r, TINY_MAE, scratch("run"));
    config_set(&r.config, "checkpoint_steps=4");
    r.o.stop_after = 10;
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    flip(in(r.o.out, "checkpoint.safetensors"), 5000);
    r.o.resume = true;
    r.o.stop_after = 0;
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    ck_assert_msg(strstr(r.said, "checkpoint.safetensors: ") != NULL, "%s", r.said);
    ck_assert_uint_eq(r.result.first, 8);
    ck_assert(same_files(in(r.o.out, "backbone.safetensors"),
                         in(scratch("whole"), "backbone.safetensors")));
    double losses[STEPS];
    check_log(r.o.out, losses);
    /* No one is left. */
    flip(in(r.o.out, "checkpoint.safetensors"), 5000);
    flip(in(r.o.out, "checkpoint-16.safetensors"), 5000);
    ck_assert_int_lt(run_go(&r, 1), 0);
    ck_assert_msg(strstr(r.err.text, "no checkpoint can be read: ") == r.err.text, "%s",
                  r.err.text);
    tacit_config_close(&r.config);
}
END_TEST

/* The folder is left as it was. */
static void check_refused(run *r, tacit_status want, const char *says)
{
    size_t n, m;
    const char *path = in(r->o.out, "checkpoint.safetensors");
    unsigned char *before = file_get(path, &n);
    tacit_status st = run_go(r, 1);
    ck_assert_msg(st == want && strstr(r->err.text, says) != NULL, "%d: %s", st, r->err.text);
    unsigned char *after = file_get(path, &m);
    ck_assert(n == m && !memcmp(before, after, n));
    free(before), free(after);
}

START_TEST(other_runs_are_refused)
{
    run r;
    run_whole(TINY_MAE, scratch("run"), 1);
    run_open(&r, TINY_MAE, scratch("run"));
    check_refused(&r, TACIT_ECONFLICT, "holds a run: add --resume");
    r.o.resume = true;
    config_set(&r.config, "lr=0.5");
    check_refused(&r, TACIT_ECONFLICT, "was begun with lr = 2e-3, not 0.5");
    config_set(&r.config, "lr=2e-3");
    make_images(images, 64);
    check_refused(&r, TACIT_ECONFLICT, "was begun with 5 steps to an epoch, not 8");
    make_images(images, IMAGES);
    int lock = open(r.o.out, O_RDONLY | O_DIRECTORY);
    ck_assert_int_eq(flock(lock, LOCK_EX), 0);
    check_refused(&r, TACIT_ECONFLICT, "another process trains there");
    close(lock);
    tacit_config_close(&r.config);
    run_open(&r, TINY_SIMCLR, scratch("run"));
    r.o.resume = true;
    check_refused(&r, TACIT_ECONFLICT, "is of a run of mae, not of simclr");
    tacit_config_close(&r.config);
}
END_TEST

/* A run whose targets a file gives goes on with that file, wherever it lies, and with no other. */
START_TEST(another_teacher_is_refused)
{
    static const char *const names[][2] = { { "target", "frozen_weights.safetensors" },
                                            { "tokenizer", "tokenizer_weights.safetensors" } };
    run r;
    char moved[TACIT_SETTING_TEXT], says[64];
    size_t size, which = _i ? tiny_of("beit") : tiny_of("maskfeat") + 1;
    unsigned char *bytes = file_get(golden(names[_i][1]), &size);
    run_open(&r, which, scratch("run"));
    r.o.stop_after = 7;
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    tacit_config_close(&r.config);

    file_put(scratch("moved"), bytes, size);
    snprintf(moved, sizeof moved, "%s=%s", names[_i][0], scratch("moved"));
    snprintf(says, sizeof says, "was begun with %s_xxh3 = ", names[_i][0]);
    run_open(&r, which, scratch("run"));
    config_set(&r.config, moved);
    r.o.resume = true;
    r.o.stop_after = 9;
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    ck_assert_uint_eq(r.result.first, 7);
    tacit_config_close(&r.config);

    bytes[size - 1] ^= 1; /* of one weight */
    file_put(scratch("moved"), bytes, size);
    run_open(&r, which, scratch("run"));
    config_set(&r.config, moved);
    r.o.resume = true;
    check_refused(&r, TACIT_ECONFLICT, says);
    check_refused(&r, TACIT_ECONFLICT, says);
    tacit_config_close(&r.config);
    free(bytes);
}
END_TEST

START_TEST(a_save_that_fails_costs_nothing)
{
    run r;
    run_open(&r, TINY_MAE, scratch("run"));
    r.o.stop_after = 4;
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    r.o.resume = true;
    r.o.stop_after = 0;
    struct rlimit limit, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    small = limit;
    small.rlim_cur = 20000; /* more than the log, less than a checkpoint */
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    check_refused(&r, TACIT_EIO, "checkpoint.safetensors");
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    ck_assert_uint_eq(r.result.first, 4);
    run_whole(TINY_MAE, scratch("whole"), 1);
    check_same(scratch("whole"), r.o.out);
    tacit_config_close(&r.config);
}
END_TEST

/* Bad input ----------------------------------------------------------------------------------- */

START_TEST(bad_images_are_refused)
{
    static const struct {
        size_t images;
        const char *setting, *says;
    } cases[] = {
        { IMAGES, "images=/nonexistent", "/nonexistent" },
        { IMAGES, "images=", "--images is missing" },
        { IMAGES, "kind=zip", "no kind of input" },
        { IMAGES, "knn=/nonexistent", "k-NN: /nonexistent" },
        { IMAGES, "pictures=/nonexistent", "pictures: /nonexistent" },
        { IMAGES, "batch=44", "43 images are fewer than a batch of 44" },
        { IMAGES, "batch=64", "43 images are fewer than a batch of 64" },
        { 1, "seed=11", "1 images are fewer than a batch of 8" },
        { 0, "seed=11", "images.bin" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        run r;
        make_images(images, cases[i].images);
        run_open(&r, TINY_MAE, scratch("none"));
        config_set(&r.config, cases[i].setting);
        tacit_status st = run_go(&r, 2);
        ck_assert_msg(st < 0 && strstr(r.err.text, cases[i].says) != NULL, "%s: %s",
                      cases[i].setting, r.err.text);
        ck_assert_int_ne(access(r.o.out, F_OK), 0); /* nothing was made */
        tacit_config_close(&r.config);
    }
    run r;
    ck_assert_int_eq(mkdir(scratch("empty"), 0777), 0);
    snprintf(images, sizeof images, "%s", scratch("empty"));
    run_open(&r, TINY_MAE, scratch("none"));
    ck_assert_int_lt(run_go(&r, 1), 0);
    ck_assert_msg(strstr(r.err.text, "/empty") != NULL, "%s", r.err.text);
    tacit_config_close(&r.config);
}
END_TEST

/* An image is not to be held against its own key of an epoch ago. */
START_TEST(a_queue_larger_than_the_data)
{
    run r;
    run_open(&r, tiny_of("moco"), scratch("none"));
    config_set(&r.config, "queue=48");
    ck_assert_int_eq(run_go(&r, 1), TACIT_EINVAL);
    ck_assert_str_eq(r.err.text,
                     "queue = 48 is more than the 40 images of an epoch, which would be "
                     "held against themselves: use 40 at most");
    ck_assert_int_ne(access(r.o.out, F_OK), 0);
    tacit_config_close(&r.config);
}
END_TEST

/* Each bad image once, and no more than a screenful. */
START_TEST(bad_images_are_told)
{
    enum { BAD = 30, GOOD = 10 };
    run r;
    ck_assert_int_eq(mkdir(scratch("photos"), 0777), 0);
    for (unsigned i = 0; i < BAD + GOOD; i++) {
        char name[32];
        size_t n;
        unsigned char *png = file_get(golden("images/pngsuite/basn2c08.png"), &n);
        snprintf(name, sizeof name, "photos/%02u.png", i);
        file_put(scratch(name), png, i < BAD ? n / 2 : n);
        free(png);
    }
    snprintf(images, sizeof images, "%s", scratch("photos"));
    run_open(&r, TINY_MAE, scratch("run"));
    ck_assert_msg(!run_go(&r, 2), "%s", r.err.text);
    ck_assert_uint_gt(r.result.bad_images, 20);
    ck_assert_uint_le(r.result.bad_images, BAD);
    unsigned lines = 0;
    for (const char *p = r.said; (p = strchr(p, '\n')); p++)
        lines++;
    ck_assert_uint_eq(lines, 21);
    ck_assert_ptr_nonnull(strstr(r.said, "\nmore images that cannot be used are counted"));
    tacit_config_close(&r.config);
}
END_TEST

START_TEST(not_finite_keeps_the_last_good)
{
    for (int mae = 0; mae < 2; mae++) {
        run r;
        test_feed feed;
        run_open(&r, mae, scratch(mae ? "m" : "s"));
        config_set(&r.config, "checkpoint_steps=3");
        feed_open(&feed, mae ? 16 : 12, 8, 1);
        feed.poison = 7;
        r.o.feed = &feed.feed;
        ck_assert_int_eq(run_go(&r, 1), TACIT_EFORMAT);
        ck_assert_msg(strstr(r.err.text, "step 8: ") == r.err.text &&
                          strstr(r.err.text, "not finite") != NULL &&
                          strstr(r.err.text, "; the checkpoint of step 6 is kept") != NULL,
                      "%s", r.err.text);
        feed.poison = 0;
        r.o.resume = true;
        ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
        ck_assert_uint_eq(r.result.first, 6);
        feed_close(&feed);
        tacit_config_close(&r.config);
    }
}
END_TEST

/* Each allocation in turn: an error that says so, or a whole run; and then it goes on. */
START_TEST(every_allocation_fails)
{
    tacit_status st = TACIT_ENOMEM;
    uint64_t n = 0, step = 9, failed = 0;
    run_whole(TINY_MAE, scratch("whole"), 1);
    for (bool more = true; more;) {
        run r;
        tacit_pool *pool = NULL;
        run_open(&r, TINY_MAE, scratch("run"));
        config_set(&r.config, "checkpoint_steps=7");
        r.o.resume = true;
        r.o.pool = pool;
        tacit_alloc_fail_at(n += step, false);
        st = tacit_train(&r.o, &r.result, &r.err);
        tacit_alloc_fail_at(0, false);
        ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && *r.err.text), "%llu: %d: %s",
                      (unsigned long long)n, st, r.err.text);
        more = st < 0;
        failed += more;
        if (!access(in(r.o.out, "checkpoint.safetensors"), F_OK)) {
            ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
            ck_assert(same_files(in(r.o.out, "backbone.safetensors"),
                                 in(scratch("whole"), "backbone.safetensors")));
            remove(in(r.o.out, "checkpoint.safetensors"));
            remove(in(r.o.out, "checkpoint-14.safetensors"));
        }
        tacit_config_close(&r.config);
    }
    ck_assert_uint_gt(failed * step, 100);
}
END_TEST

/* Pictures ------------------------------------------------------------------------------------ */

static void run_with_pictures(run *r, const char *out, unsigned threads)
{
    char text[1100];
    run_open(r, TINY_MAE, out);
    snprintf(text, sizeof text, "pictures=%s", images);
    config_set(&r->config, text);
    config_set(&r->config, "picture_epochs=2");
    ck_assert_msg(!run_go(r, threads), "%s", r->err.text);
}

/* All that is trained is the same without them, though the settings are others. */
static void check_trained(run *r, const char *plain)
{
    tacit_engine e;
    tacit_err err;
    double want[STEPS], got[STEPS];
    ck_assert(same_files(in(plain, "backbone.safetensors"), in(r->o.out, "backbone.safetensors")));
    engine_ready(&e, &r->config, isas[isa_count - 1], NULL);
    size_t bytes = e.params.arena.size;
    ck_assert_int_eq(tacit_snapshot_load(in(plain, "checkpoint.safetensors"), &e, &err), TACIT_OK);
    void *before = malloc(bytes); /* values and the optimiser's state */
    memcpy(before, e.params.arena.base, bytes);
    ck_assert_int_eq(tacit_snapshot_load(in(r->o.out, "checkpoint.safetensors"), &e, &err),
                     TACIT_OK);
    ck_assert(!memcmp(before, e.params.arena.base, bytes) && e.step == STEPS);
    free(before);
    tacit_engine_close(&e);
    check_log(plain, want);
    check_log(r->o.out, got);
    ck_assert(!memcmp(want, got, sizeof want));
}

START_TEST(pictures_move_nothing)
{
    run_whole(TINY_MAE, scratch("plain"), 2);
    for (unsigned threads = 1; threads <= 3; threads++) {
        run r;
        char name[16];
        snprintf(name, sizeof name, "p%u", threads);
        run_with_pictures(&r, scratch(name), threads);
        check_trained(&r, scratch("plain"));
        ck_assert_msg(strstr(r.said, "step 10: 16 images are drawn in pictures-10.png\n"), "%s",
                      r.said);
        ck_assert_uint_eq(count_names(r.o.out), 6); /* steps 10 and 20 */
        ck_assert(same_files(in(r.o.out, "pictures-10.png"), in(scratch("p1"), "pictures-10.png")));
        ck_assert(same_files(in(r.o.out, "pictures-20.png"), in(scratch("p1"), "pictures-20.png")));
        ck_assert(!same_files(in(r.o.out, "pictures-10.png"), in(r.o.out, "pictures-20.png")));
        tacit_config_close(&r.config);
    }
}
END_TEST

/* Who looks at a run sees the sheet that it drew itself. */
START_TEST(a_run_is_looked_at)
{
    run r;
    tacit_config config;
    tacit_engine e;
    tacit_sheet_size size;
    tacit_err err;
    const tacit_picture_options o = { .images = images, .count = 16, .columns = 2 };
    run_with_pictures(&r, scratch("run"), 2);
    int lock = open(r.o.out, O_RDONLY | O_DIRECTORY); /* as if it went on */
    ck_assert_int_eq(flock(lock, LOCK_EX), 0);
    ck_assert_msg(!tacit_run_folder_settings(&config, r.o.out, &err), "%s", err.text);
    ck_assert_str_eq(config.method->name, "mae");
    ck_assert_int_eq(tacit_engine_declare(&e, &config, r.o.kernels, NULL, &err), TACIT_OK);
    ck_assert_int_eq(tacit_engine_open(&e, &err), TACIT_OK);
    ck_assert_msg(!tacit_run_folder_peek(&e, r.o.out, &err), "%s", err.text);
    ck_assert_uint_eq(e.step, STEPS);
    ck_assert_int_eq(tacit_pictures_write(scratch("s.png"), &e, &o, &size, &err), TACIT_OK);
    ck_assert(same_files(scratch("s.png"), in(r.o.out, "pictures-20.png")));
    close(lock);
    tacit_engine_close(&e);
    tacit_config_close(&config);
    tacit_config_close(&r.config);
}
END_TEST

START_TEST(pictures_that_fail_cost_a_line)
{
    run r;
    run_whole(TINY_MAE, scratch("plain"), 1);
    ck_assert_int_eq(mkdir(scratch("run"), 0777), 0);
    ck_assert_int_eq(mkdir(scratch("run/pictures-10.png"), 0777), 0); /* in their place */
    run_with_pictures(&r, scratch("run"), 1);
    check_trained(&r, scratch("plain"));
    ck_assert_msg(strstr(r.said, "step 10: pictures: ") == r.said, "%s", r.said);
    ck_assert_msg(strchr(r.said, '\n') + 1 == strstr(r.said, "step 20: 16 images are drawn"), "%s",
                  r.said);
    ck_assert_uint_eq(count_names(r.o.out), 6);
    tacit_config_close(&r.config);
}
END_TEST

/* The backbone -------------------------------------------------------------------------------- */

/* The tokens of an image are those of the network in training, whatever is beside it; and the file
 * tells of nothing that they do not depend on. */
static void check_tokenizer(const run *r, tacit_engine *e)
{
    enum { SIDE = 16, VALUES = 3 * SIDE * SIDE, COUNT = 3 };
    tacit_tokenizer *t;
    tacit_err err;
    uint32_t ids[COUNT * SIDE * SIDE], one[SIDE * SIDE], none[COUNT] = { 0 };
    float *pixels = tacit_alloc((COUNT + 2) * VALUES * sizeof *pixels);
    float *panels = pixels + COUNT * VALUES, *again = pixels;
    ck_assert_ptr_nonnull(pixels);
    for (size_t i = 0; i < COUNT * VALUES; i++)
        pixels[i] = tacit_rng_uniform(5, 6, i) * 2 - 1;
    const char *path = in(r->o.out, "tokenizer.safetensors");
    ck_assert_msg(!tacit_tokenizer_open(&t, path, 0, COUNT, e->work.kernels, NULL, &err), "%s",
                  err.text);
    const tacit_tokenizer_info *info = tacit_tokenizer_info_of(t);
    size_t tokens = info->grid * info->grid;
    ck_assert_str_eq(info->kind, e->method->name);
    ck_assert_uint_eq(info->size, SIDE);
    ck_assert_float_eq(info->mean[1], e->method == &tacit_discrete_vae ? 0.5f : 0.4822f);
    ck_assert_uint_gt(tacit_tokenizer_bytes(t), 1000);
    tacit_tokenizer_encode(t, pixels, COUNT, ids);
    for (size_t i = 0; i < COUNT; i++) {
        tacit_tokenizer_encode(t, pixels + i * VALUES, 1, one);
        ck_assert(!memcmp(one, ids + i * tokens, tokens * sizeof *ids));
    }
    for (size_t i = 0; i < COUNT * tokens; i++)
        ck_assert_uint_lt(ids[i], info->codes);
    if (info->decodes) { /* as the run's own picture */
        const float *views[] = { pixels };
        const tacit_batch batch = { .samples = none, .views = views };
        const tacit_part part = { .batch = &batch, .images = COUNT, .count = 1 };
        e->method->forward(e->state, &part);
        e->method->picture(e->state, &part, 1, panels);
        tacit_tokenizer_decode(t, ids, COUNT, again);
        for (size_t i = 0; i < VALUES; i++)
            ck_assert_float_eq(panels[VALUES + i], again[VALUES + i] * 0.5f + 0.5f);
    }
    tacit_tokenizer_close(&t);
    size_t size;
    char *file = (char *)file_get(path, &size);
    ck_assert_ptr_null(memmem(file, size, "images = ", 9));
    free(file);
    tacit_free(pixels);
}

/* Of a file that is no tokenizer, was cut, or holds what does not fit: an error, no crash. */
START_TEST(bad_tokenizers_are_refused)
{
    run r;
    tacit_tokenizer *t = NULL;
    const tacit_kernels *k = tacit_kernels_for(isas[0]);
    run_open(&r, tiny_of("dvae"), scratch("run"));
    config_set(&r.config, "max_steps=5");
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    size_t size;
    unsigned char *file = file_get(in(r.o.out, "tokenizer.safetensors"), &size);
    static const struct {
        const char *from, *to, *says;
    } changes[] = {
        { "tacit.tokenizer", "tacit.tokeniser", "is no tokenizer" },
        { "\"method\":\"dvae\"", "\"method\":\"mae\" ", "a tokenizer 'mae'" },
        { "codes = 10", "codes = 11", "codebook.weight has another shape" },
        { "hidden = 6", "hidden = 0", "hidden = '0'" },
        { "stages = 2", "stages = 6", "do not divide" },
        { "decoder.1.net.0.bias", "decoder.1.net.9.bias", "there is no decoder.1.net.0.bias" },
    };
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        unsigned char *copy = malloc(size), *at;
        memcpy(copy, file, size);
        at = memmem(copy, size, changes[i].from, strlen(changes[i].from));
        ck_assert_msg(at != NULL, "%s", changes[i].from);
        memcpy(at, changes[i].to, strlen(changes[i].to));
        file_put(scratch("bad"), copy, size);
        tacit_err err = { "" };
        ck_assert_int_lt(tacit_tokenizer_open(&t, scratch("bad"), 0, 2, k, NULL, &err), 0);
        ck_assert_msg(strstr(err.text, changes[i].says) != NULL, "%s", err.text);
        ck_assert_ptr_null(t);
        free(copy);
    }
    for (size_t cut = 0; cut < size; cut += 997) {
        file_put(scratch("bad"), file, cut);
        ck_assert_int_lt(tacit_tokenizer_open(&t, scratch("bad"), 0, 2, k, NULL, NULL), 0);
    }
    tacit_status st = TACIT_ENOMEM;
    for (uint64_t n = 1; st == TACIT_ENOMEM; n++) {
        tacit_err err = { "" };
        tacit_alloc_fail_at(n, false);
        st = tacit_tokenizer_open(&t, in(r.o.out, "tokenizer.safetensors"), 0, 2, k, NULL, &err);
        tacit_alloc_fail_at(0, false);
        ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && *err.text), "%s", err.text);
    }
    tacit_tokenizer_close(&t);
    free(file);
    tacit_config_close(&r.config);
}
END_TEST

/* tacit extract has the features that the network had in training. */
START_TEST(the_backbone_loads)
{
    run r;
    tacit_engine e;
    tacit_model model;
    tacit_model_options options;
    tacit_err err;
    run_open(&r, _i, scratch("run"));
    ck_assert_msg(!run_go(&r, 1), "%s", r.err.text);
    engine_ready(&e, &r.config, isas[isa_count - 1], NULL);
    ck_assert_int_eq(tacit_snapshot_load(in(r.o.out, "checkpoint.safetensors"), &e, &err),
                     TACIT_OK);
    if (e.method->tokenizer) {
        check_tokenizer(&r, &e);
        tacit_engine_close(&e);
        tacit_config_close(&r.config);
        return;
    }
    tacit_model_defaults(&options);
    const char *path = in(r.o.out, "backbone.safetensors");
    options.weights = path;
    ck_assert_msg(!tacit_model_open(&model, &options, false, NULL, &err), "%s", err.text);
    const tacit_backbone_config *backbone = &e.learner.backbone;
    bool vit = backbone->family == TACIT_FAMILY_VIT;
    ck_assert_int_eq(model.features, vit ? e.method->features : TACIT_FEATURES_MEAN);
    ck_assert_uint_eq(model.dim, vit ? backbone->vit.dim : backbone->resnet.out[3]);
    float mean[3], std[3];
    tacit_normalisation(&r.config, mean, std);
    ck_assert_mem_eq(model.recipe.mean, mean, sizeof mean);
    ck_assert_mem_eq(model.recipe.std, std, sizeof std);
    tacit_safetensors *file;
    ck_assert_int_eq(tacit_safetensors_open(&file, path, &err), TACIT_OK);
    tacit_tensor_source source = tacit_safetensors_source(file);
    size_t found = 0;
    for (size_t i = 0; i < source.count; i++) {
        tacit_param *p = tacit_params_find(e.method->by_teacher ? &e.teacher : &e.params,
                                           source.tensors[i].name);
        ck_assert_msg(p != NULL, "%s", source.tensors[i].name);
        float *got = tacit_alloc(2 * p->count * sizeof *got);
        ck_assert_int_eq(source.read(source.ctx, i, 0, p->count * sizeof *got, got, &err), 0);
        tacit_param_copy_out(p, false, got + p->count);
        ck_assert(!memcmp(got, got + p->count, p->count * sizeof *got));
        tacit_free(got);
        found++;
    }
    for (size_t i = 0; i < e.params.count; i++) {
        bool of_head = false;
        for (const char *const *head = e.method->heads; *head; head++)
            of_head = of_head || !strncmp(e.params.list[i]->name, *head, strlen(*head));
        found -= !of_head;
    }
    ck_assert_uint_eq(found, 0); /* all of it, and no head */
    tacit_safetensors_close(&file);
    tacit_model_close(&model);
    tacit_engine_close(&e);
    tacit_config_close(&r.config);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pretrain");
    TCase *tests = tcase_create("pretrain");
    tcase_set_timeout(tests, 300);
    tcase_add_checked_fixture(tests, setup, scratch_close);
    tcase_add_loop_test(tests, same_bytes, 0, TINY_COUNT);
    tcase_add_loop_test(tests, stopped_and_resumed, 0, TINY_COUNT);
    tcase_add_test(tests, a_step_left_in_its_middle);
    tcase_add_loop_test(tests, an_epoch_left_in_its_middle, 0, 2);
    tcase_add_test(tests, data_that_fails_costs_no_step);
    tcase_add_loop_test(tests, nothing_is_allocated_by_a_step, 0, TINY_COUNT);
    tcase_add_test(tests, checkpoints_are_kept);
    tcase_add_loop_test(tests, every_damage_is_seen, 0, 2);
    tcase_add_test(tests, a_damaged_checkpoint_costs_little);
    tcase_add_test(tests, other_runs_are_refused);
    tcase_add_loop_test(tests, another_teacher_is_refused, 0, 2);
    tcase_add_test(tests, a_save_that_fails_costs_nothing);
    tcase_add_test(tests, bad_images_are_refused);
    tcase_add_test(tests, a_queue_larger_than_the_data);
    tcase_add_test(tests, bad_images_are_told);
    tcase_add_test(tests, not_finite_keeps_the_last_good);
    tcase_add_test(tests, every_allocation_fails);
    tcase_add_test(tests, pictures_move_nothing);
    tcase_add_test(tests, a_run_is_looked_at);
    tcase_add_test(tests, pictures_that_fail_cost_a_line);
    tcase_add_loop_test(tests, the_backbone_loads, 0, TINY_COUNT);
    tcase_add_test(tests, bad_tokenizers_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
