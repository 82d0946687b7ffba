/* test_extract.c - one folder of images, however it is computed, gives one pair of files.
 *
 * The reference is a run with the ref kernels, one thread, one image at a time. Every other way
 * (ISA, threads, batch, shards, a stop and a resume, a kill, parts damaged behind a crash) must
 * give its bytes.
 */
#include "dataset.h"
#include "merge.h"
#include "meta.h"
#include "run.h"
#include "scene.h"
#include "tacit.h"

#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <xxhash.h>

#define USABLE 30u
#define INPUTS (USABLE + SCENE_BAD)

static char weights[512], images[512];

static void setup(void)
{
    scratch_open();
    snprintf(weights, sizeof weights, "%s/tiny.safetensors", scratch_folder);
    snprintf(images, sizeof images, "%s/images", scratch_folder);
    scene_weights(weights, &scene_vit, 7, NULL, 0);
    scene_images(images, USABLE);
}

/* How to do it. */
struct way {
    const char *isa; /* NULL: the best */
    unsigned threads;
    size_t batch;
    unsigned shard, shards; /* 0: 1/1 */
    tacit_features features;
    bool resume, strict, half, normalize;
    uint64_t stop_at, sync_at, kill_at; /* when this many inputs are done; 0 = never */
};

struct probe {
    const struct way *way;
    tacit_output *output;
    atomic_int stop;
    unsigned bad;
};

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct probe *p = ctx;
    (void)total;
    if (p->way->stop_at && done >= p->way->stop_at)
        atomic_store(&p->stop, SIGTERM);
    if (p->way->sync_at && done >= p->way->sync_at && done < p->way->kill_at)
        ck_assert_int_eq(tacit_output_sync(p->output, NULL), TACIT_OK);
    if (p->way->kill_at && done >= p->way->kill_at)
        raise(SIGKILL);
}

static void on_bad(void *ctx, const char *line)
{
    ck_assert_ptr_null(strchr(line, '\n'));
    ((struct probe *)ctx)->bad++;
}

/* Runs into out; the status of the first step that fails. */
static tacit_status extract(const char *out, const struct way *way, tacit_run_result *result,
                            tacit_err *err)
{
    if (way->isa)
        setenv("TACIT_CPU", way->isa, 1);
    else
        unsetenv("TACIT_CPU");
    tacit_model_options options;
    tacit_model_defaults(&options);
    options.weights = weights;
    options.features = (int)way->features;
    options.normalize = way->normalize;
    tacit_pool *pool = NULL;
    tacit_model model = { 0 };
    tacit_dataset *set = NULL;
    tacit_output *output = NULL;
    tacit_output_state state = TACIT_OUTPUT_NEW;
    tacit_threads threads = { .use = way->threads, .why = "option" };
    unsigned shards = way->shards ? way->shards : 1, shard = way->shard ? way->shard : 1;
    struct probe probe = { .way = way };
    json_t *recipe = NULL;
    tacit_status st;
    if ((st = tacit_pool_open(&pool, way->threads, err)) < 0 ||
        (st = tacit_model_open(&model, &options, true, pool, err)) < 0 ||
        (st = tacit_dataset_open(&set, images, TACIT_DATASET_AUTO, err)) < 0)
        goto done;
    size_t shape[3];
    unsigned rank = tacit_model_shape(&model, shape);
    tacit_dtype dtype = way->half ? TACIT_F16 : TACIT_F32;
    recipe = tacit_recipe_json(&model, dtype, weights, images, tacit_dataset_kind_of(set), shard,
                               shards);
    st = recipe
             ? tacit_output_open(&output, out, recipe, dtype, shape, rank, way->resume, &state, err)
             : tacit_fail(err, TACIT_ENOMEM, "out of memory");
    probe.output = output;
    tacit_run_options run = {
        .model = &model,
        .pool = pool,
        .dtype = dtype,
        .batch = way->batch,
        .shard = shard,
        .shards = shards,
        .strict = way->strict,
        .stop = &probe.stop,
        .ctx = &probe,
        .bad = on_bad,
        .progress = on_progress,
    };
    if (st == TACIT_OK && state != TACIT_OUTPUT_COMPLETE &&
        (st = tacit_run(&run, set, output, result, err)) == TACIT_OK) {
        json_t *meta = tacit_meta_json(recipe, &model, &threads, result);
        st = meta ? tacit_output_finish(output, meta, err)
                  : tacit_fail(err, TACIT_ENOMEM, "out of memory");
        json_decref(meta);
    }
done:
    tacit_output_close(&output);
    json_decref(recipe);
    tacit_dataset_close(&set);
    tacit_model_close(&model);
    tacit_pool_close(&pool);
    return st;
}

static uint64_t hash_of(const char *folder, const char *name)
{
    char path[1100];
    size_t size;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unsigned char *bytes = file_get(path, &size);
    uint64_t hash = XXH3_64bits(bytes, size);
    free(bytes);
    return hash;
}

static bool is_there(const char *folder, const char *name)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return access(path, F_OK) == 0;
}

static void remove_folder(const char *folder)
{
    nftw(folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* The one hash of embeddings.npy, on every CPU. A change of a kernel's definition changes it, and
 * says so in its commit. */
#define SIGNATURE 0x27c1760ac2171748ull

static const char *reference(void)
{
    const char *out = scratch("reference");
    if (!is_there(out, "meta.json")) {
        struct way way = { .isa = "ref", .threads = 1, .batch = 1 };
        tacit_run_result result;
        tacit_err err;
        ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%s", err.text);
        ck_assert_uint_eq(result.inputs, INPUTS);
        ck_assert_uint_eq(result.embedded, USABLE);
        uint64_t hash = hash_of(out, "embeddings.npy");
        ck_assert_msg(hash == SIGNATURE, "embeddings.npy has the hash %016llx",
                      (unsigned long long)hash);
    }
    return out;
}

static void same_as_reference(const char *out, const char *what)
{
    const char *right = reference();
    ck_assert_msg(hash_of(out, "embeddings.npy") == hash_of(right, "embeddings.npy"),
                  "%s: embeddings differ", what);
    ck_assert_msg(hash_of(out, "index.tsv") == hash_of(right, "index.tsv"), "%s: index differs",
                  what);
    ck_assert_msg(count_names(out) == 3 && is_there(out, "meta.json"), "%s: files are left over",
                  what);
}

static void describe(char *text, size_t size, const struct way *w)
{
    snprintf(text, size, "isa %s, threads %u, batch %zu, stop %llu, kill %llu",
             w->isa ? w->isa : "best", w->threads, w->batch, (unsigned long long)w->stop_at,
             (unsigned long long)w->kill_at);
}

/* ISA x threads x batch. */
START_TEST(same_bits)
{
    static const char *const isas[] = { "ref", "avx2", "avx512", "neon" };
    static const unsigned threads[] = { 1, 2, 3, 8 };
    static const size_t batches[] = { 1, 7, 32 };
    const char *out = scratch("matrix");
    for (unsigned i = 0; i < 4; i++) {
        tacit_isa isa;
        ck_assert_int_eq(tacit_isa_parse(isas[i], &isa, NULL), TACIT_OK);
        for (unsigned t = 0; tacit_isa_available(isa) && t < 4; t++)
            for (unsigned b = 0; b < 3; b++) {
                struct way way = { .isa = isas[i], .threads = threads[t], .batch = batches[b] };
                char text[128];
                tacit_run_result result;
                tacit_err err;
                describe(text, sizeof text, &way);
                ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%s: %s", text,
                              err.text);
                same_as_reference(out, text);
                remove_folder(out);
            }
    }
}
END_TEST

/* More threads than images: all inside one image. */
START_TEST(latency_has_the_same_bits)
{
    const char *out = scratch("latency");
    struct way way = { .threads = INPUTS + 1, .batch = 8 };
    tacit_run_result result;
    tacit_err err;
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
    ck_assert(result.latency);
    same_as_reference(out, "latency");
}
END_TEST

START_TEST(shards_merge_to_the_whole)
{
    static const unsigned counts[] = { 1, 2, 3, 40 };
    for (unsigned c = 0; c < 4; c++) {
        char paths[40][1100], *parts[40];
        tacit_run_result result;
        tacit_err err;
        json_t *meta;
        for (unsigned i = 0; i < counts[c]; i++) {
            struct way way = {
                .threads = 1 + i % 3,
                .batch = 1 + i,
                .shard = i + 1,
                .shards = counts[c],
            };
            parts[counts[c] - 1 - i] = paths[i];
            snprintf(paths[i], sizeof paths[i], "%s/part-%u", scratch_folder, i);
            ck_assert_msg(extract(paths[i], &way, &result, &err) == TACIT_OK, "%s", err.text);
        }
        const char *out = scratch("merged");
        ck_assert_msg(tacit_merge(out, parts, counts[c], &meta, &err) == TACIT_OK, "%s", err.text);
        json_t *counted = json_object_get(meta, "counts");
        ck_assert_int_eq(json_integer_value(json_object_get(counted, "inputs")), INPUTS);
        ck_assert_int_eq(json_integer_value(json_object_get(counted, "embedded")), USABLE);
        json_decref(meta);
        same_as_reference(out, "merged");
        remove_folder(out);
        if (counts[c] == 3) {
            /* A shard missing, one twice, one of another recipe. */
            ck_assert_int_eq(tacit_merge(out, parts, 2, &meta, &err), TACIT_EINVAL);
            char *twice[] = { parts[0], parts[1], parts[1] };
            ck_assert_int_eq(tacit_merge(out, twice, 3, &meta, &err), TACIT_EINVAL);
            struct way way = {
                .threads = 1,
                .batch = 1,
                .shard = 1,
                .shards = 3,
                .features = TACIT_FEATURES_MEAN,
            };
            remove_folder(paths[0]);
            ck_assert_int_eq(extract(paths[0], &way, &result, &err), TACIT_OK);
            ck_assert_int_eq(tacit_merge(out, parts, 3, &meta, &err), TACIT_ECONFLICT);
            ck_assert_ptr_nonnull(strstr(err.text, "features is"));
            ck_assert(!is_there(out, "."));
        }
        for (unsigned i = 0; i < counts[c]; i++)
            remove_folder(paths[i]);
    }
}
END_TEST

/* Shards of two inputs, one longer than the other: their lines do not take turns. */
START_TEST(shards_of_two_inputs_do_not_merge)
{
    char saved[sizeof images], first[512], second[512], path[600];
    tacit_run_result result;
    tacit_err err;
    json_t *meta;
    struct way way = { .threads = 1, .batch = 4, .shard = 1, .shards = 2 };
    snprintf(first, sizeof first, "%s/long-1", scratch_folder);
    snprintf(second, sizeof second, "%s/short-2", scratch_folder);
    ck_assert_int_eq(extract(first, &way, &result, &err), TACIT_OK);
    memcpy(saved, images, sizeof images);
    snprintf(images, sizeof images, "%s/short", scratch_folder);
    mkdir(images, 0777);
    for (unsigned i = 0; i < 6; i++) {
        snprintf(path, sizeof path, "%s/%u.png", images, i);
        scene_png(path, i, 20, 20);
    }
    way.shard = 2;
    ck_assert_int_eq(extract(second, &way, &result, &err), TACIT_OK);
    memcpy(images, saved, sizeof images);
    const char *out = scratch("two");
    ck_assert_int_eq(tacit_merge(out, (char *[]){ first, second }, 2, &meta, &err),
                     TACIT_ECONFLICT);
    ck_assert_msg(strstr(err.text, "not shards of one input"), "%s", err.text);
    ck_assert(!is_there(out, "."));
}
END_TEST

/* Stopped after every few inputs by a signal's flag, and resumed in another way each time. */
START_TEST(stopped_and_resumed)
{
    const char *out = scratch("stopped");
    for (uint64_t stop = 1; stop < INPUTS; stop += 3) {
        tacit_run_result result;
        tacit_err err;
        struct way way = { .threads = 1 + (unsigned)stop % 3,
                           .batch = 1 + stop % 4,
                           .stop_at = stop };
        char text[128];
        describe(text, sizeof text, &way);
        ck_assert_msg(extract(out, &way, &result, &err) == TACIT_ECANCELLED, "%s", text);
        ck_assert(!is_there(out, "embeddings.npy") && !is_there(out, "meta.json"));
        struct way other = { .isa = "ref", .threads = 2, .batch = 5 };
        ck_assert_int_eq(extract(out, &other, &result, &err), TACIT_ECONFLICT);
        other.resume = true;
        ck_assert_msg(extract(out, &other, &result, &err) == TACIT_OK, "%s", err.text);
        ck_assert_uint_ge(result.kept, stop);
        ck_assert_uint_eq(result.embedded, USABLE);
        ck_assert_uint_eq(result.reasons[-TACIT_EIO], 1);
        same_as_reference(out, text);
        remove_folder(out);
    }
}
END_TEST

/* Killed in the middle of a write, with some inputs synced and some not. */
START_TEST(killed_and_resumed)
{
    const char *out = scratch("killed");
    for (uint64_t at = 1; at < INPUTS; at += 4)
        for (uint64_t synced = 0; synced <= at; synced += at < 4 ? at : at - 3) {
            struct way way = { .threads = 1 + (unsigned)at % 3,
                               .batch = 1 + at % 3,
                               .sync_at = synced,
                               .kill_at = at };
            tacit_run_result result;
            tacit_err err;
            char text[128];
            describe(text, sizeof text, &way);
            pid_t child = fork();
            ck_assert_int_ge(child, 0);
            if (child == 0) {
                extract(out, &way, &result, &err);
                _exit(1);
            }
            int status;
            ck_assert_int_eq(waitpid(child, &status, 0), child);
            ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "%s", text);
            struct way resume = { .threads = 2, .batch = 3, .resume = true };
            ck_assert_msg(extract(out, &resume, &result, &err) == TACIT_OK, "%s: %s", text,
                          err.text);
            same_as_reference(out, text);
            remove_folder(out);
        }
}
END_TEST

static void cut(const char *folder, const char *name, size_t size)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    ck_assert_int_eq(truncate(path, (off_t)size), 0);
}

/* The index cut at every byte, and rows that are missing: the resume keeps what holds. */
START_TEST(any_cut_of_the_parts_is_resumed)
{
    const char *out = scratch("cut");
    for (size_t lost = 0; lost < 1000; lost += lost < 120 ? 7 : 131) {
        struct way way = { .threads = 2, .batch = 2, .stop_at = 20 };
        tacit_run_result result;
        tacit_err err;
        ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECANCELLED);
        char path[1100];
        size_t size;
        snprintf(path, sizeof path, "%s/index.tsv.part", out);
        free(file_get(path, &size));
        if (lost % 2)
            cut(out, "index.tsv.part", size > lost ? size - lost : 0);
        else
            cut(out, "embeddings.npy.part", 4000 > 4 * lost ? 4000 - 4 * lost : 0);
        way = (struct way){ .threads = 2, .batch = 3, .resume = true };
        ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%zu: %s", lost, err.text);
        same_as_reference(out, "cut");
        remove_folder(out);
    }
}
END_TEST

/* A crash between the last renames: some parts have their final names already. */
START_TEST(interrupted_finish_is_resumed)
{
    static const char *const moved[] = { "embeddings.npy", "index.tsv", "meta.json" };
    const char *out = scratch("finish");
    for (unsigned n = 1; n <= 3; n++) {
        struct way way = { .threads = 1, .batch = 4, .stop_at = INPUTS };
        tacit_run_result result;
        tacit_err err;
        ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECANCELLED);
        for (unsigned i = 0; i < n; i++) {
            char from[1100], to[1100];
            snprintf(from, sizeof from, "%s/%s.part", out, moved[i]);
            snprintf(to, sizeof to, "%s/%s", out, moved[i]);
            if (i < 2)
                ck_assert_int_eq(rename(from, to), 0);
            else
                file_put(to, "{}", 2);
        }
        way = (struct way){ .threads = 1, .batch = 4, .resume = true };
        ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%s", err.text);
        same_as_reference(out, "finish");
        remove_folder(out);
    }
}
END_TEST

START_TEST(other_runs_are_refused)
{
    const char *out = scratch("refused");
    tacit_run_result result;
    tacit_err err;
    struct way way = { .threads = 1, .batch = 4 }, resume = way, other = way;
    resume.resume = other.resume = true;
    other.features = TACIT_FEATURES_CLS_MEAN;
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
    uint64_t before = hash_of(out, "embeddings.npy");
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECONFLICT);
    ck_assert_int_eq(extract(out, &other, &result, &err), TACIT_ECONFLICT);
    ck_assert_msg(strstr(err.text, "features is \"cls+mean\" here and \"cls\" there"), "%s",
                  err.text);
    ck_assert_int_eq(extract(out, &resume, &result, &err), TACIT_OK); /* complete */
    ck_assert_uint_eq(before, hash_of(out, "embeddings.npy"));
    remove_folder(out);

    /* A changed input shows when the kept lines are verified. */
    way.stop_at = 10;
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECANCELLED);
    char from[600], to[600];
    snprintf(from, sizeof from, "%s/a/000.png", images);
    snprintf(to, sizeof to, "%s/a/001.png", images);
    ck_assert_int_eq(rename(from, to), 0);
    ck_assert_int_eq(extract(out, &resume, &result, &err), TACIT_ECONFLICT);
    ck_assert_int_eq(rename(to, from), 0);
    ck_assert_int_eq(extract(out, &resume, &result, &err), TACIT_OK);
    same_as_reference(out, "refused");
    remove_folder(out);

    /* Embeddings that are not ours. */
    mkdir(out, 0777);
    snprintf(to, sizeof to, "%s/embeddings.npy", out);
    file_put(to, "mine", 4);
    ck_assert_int_eq(extract(out, &resume, &result, &err), TACIT_ECONFLICT);
    size_t size;
    unsigned char *bytes = file_get(to, &size);
    ck_assert(size == 4 && !memcmp(bytes, "mine", 4));
    free(bytes);
}
END_TEST

START_TEST(one_process_at_a_time)
{
    const char *out = scratch("locked");
    mkdir(out, 0777);
    struct way way = { .threads = 1, .batch = 4 };
    tacit_run_result result;
    tacit_err err;
    json_t *recipe = json_object();
    tacit_output *output;
    tacit_output_state state;
    ck_assert_int_eq(
        tacit_output_open(&output, out, recipe, TACIT_F32, (size_t[]){ 4 }, 1, false, &state, &err),
        TACIT_OK);
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECONFLICT);
    ck_assert_ptr_nonnull(strstr(err.text, "another process"));
    tacit_output_close(&output);
    ck_assert_msg(!is_there(out, "."), "an output without a line leaves nothing");
    json_decref(recipe);
}
END_TEST

START_TEST(strict_stops_at_the_first_bad_image)
{
    const char *out = scratch("strict");
    struct way way = { .threads = 2, .batch = 1, .strict = true };
    tacit_run_result result;
    tacit_err err;
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_EFORMAT);
    ck_assert_msg(strstr(err.text, "a/005 cut.png"), "%s", err.text);
    ck_assert_uint_eq(result.inputs, 3); /* a/000, a/002, a/004 */
    way.strict = false;
    way.resume = true;
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
    same_as_reference(out, "strict, then resumed");
}
END_TEST

START_TEST(patch_features_have_the_grid)
{
    const char *out = scratch("patch");
    struct way way = { .threads = 2, .batch = 3, .features = TACIT_FEATURES_PATCH };
    tacit_run_result result;
    tacit_err err;
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
    char path[1100];
    snprintf(path, sizeof path, "%s/embeddings.npy", out);
    size_t size;
    char *bytes = (char *)file_get(path, &size);
    ck_assert_ptr_nonnull(memmem(bytes, 128, "(30, 4, 4, 64)", 14));
    ck_assert_uint_eq(size, 128 + USABLE * 16 * 64 * 4);
    free(bytes);
}
END_TEST

/* float16 rows are the float32 ones, rounded, however they are made; and of length 1 where that is
 * asked for. */
START_TEST(halves_and_normalized)
{
    const char *out = scratch("halves"), *right = reference();
    const char *parts[2] = { scratch("half.1"), scratch("half.2") };
    tacit_run_result result;
    tacit_err err;
    char path[1100];
    size_t size;
    snprintf(path, sizeof path, "%s/embeddings.npy", right);
    unsigned char *floats = file_get(path, &size);
    uint16_t want[USABLE * 64];
    const tacit_kernels *ref = tacit_kernels_for(TACIT_ISA_REF);
    ref->f32_to_f16(USABLE * 64, (const float *)(const void *)(floats + 128), want);
    for (unsigned threads = 1; threads < 4; threads += 2) {
        struct way way = { .threads = threads, .batch = 5, .half = true, .stop_at = 11 };
        ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECANCELLED);
        way.stop_at = 0;
        way.resume = true;
        ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%s", err.text);
        way.half = false;
        ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECONFLICT);
        ck_assert_msg(strstr(err.text, "dtype is \"f32\" here and \"f16\" there"), "%s", err.text);
        way.half = way.normalize = true;
        ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_ECONFLICT);
        ck_assert_msg(strstr(err.text, "normalize"), "%s", err.text);
        snprintf(path, sizeof path, "%s/embeddings.npy", out);
        unsigned char *halves = file_get(path, &size);
        ck_assert_uint_eq(size, 128 + sizeof want);
        ck_assert_ptr_nonnull(memmem(halves, 128, "'<f2'", 5));
        ck_assert_mem_eq(halves + 128, want, sizeof want);
        free(halves);
        uint64_t whole = hash_of(out, "embeddings.npy");
        remove_folder(out);
        for (unsigned i = 0; i < 2; i++) {
            struct way part = {
                .threads = threads, .batch = 3, .half = true, .shard = i + 1, .shards = 2
            };
            ck_assert_int_eq(extract(parts[i], &part, &result, &err), TACIT_OK);
        }
        json_t *meta;
        ck_assert_msg(tacit_merge(out, (char *const *)(const void *)parts, 2, &meta, &err) ==
                          TACIT_OK,
                      "%s", err.text);
        json_decref(meta);
        ck_assert_uint_eq(hash_of(out, "embeddings.npy"), whole);
        remove_folder(out);
        remove_folder(parts[0]);
        remove_folder(parts[1]);
    }
    struct way way = { .threads = 2, .batch = 5, .normalize = true };
    for (int patches = 0; patches < 2; patches++) {
        way.features = patches ? TACIT_FEATURES_PATCH : TACIT_FEATURES_CLS;
        ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
        unsigned char *rows = file_get(path, &size);
        ck_assert_uint_eq(size, 128 + USABLE * (patches ? 16u : 1u) * 64 * sizeof(float));
        const float *at = (const float *)(const void *)(rows + 128);
        for (size_t row = 0; row < USABLE * (patches ? 16u : 1u); row++, at += 64) {
            double length = 0;
            for (size_t i = 0; i < 64; i++)
                length += (double)at[i] * (double)at[i];
            ck_assert_double_le(fabs(length - 1), 1e-6);
        }
        free(rows);
        remove_folder(out);
    }
    free(floats);
}
END_TEST

/* Features that float16 does not hold cost their image, nothing else. The gain of the first one is
 * such that about half of the images have too much of it. */
START_TEST(halves_overflow)
{
    char saved[sizeof weights], path[1100];
    memcpy(saved, weights, sizeof weights);
    snprintf(weights, sizeof weights, "%s/large.safetensors", scratch_folder);
    const char *out = scratch("overflow");
    struct way way = { .threads = 2, .batch = 5 };
    tacit_run_result result;
    tacit_err err;
    size_t size;
    snprintf(path, sizeof path, "%s/embeddings.npy", out);
    scene_weights(weights, &scene_vit, 7, "norm.weight", 1e4f);
    ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%s", err.text);
    const float *floats = (const float *)(const void *)file_get(path, &size);
    float least = INFINITY, most = -INFINITY;
    for (size_t row = 0; row < USABLE; row++) {
        float size0 = fabsf(floats[32 + row * 64]);
        least = size0 < least ? size0 : least;
        most = size0 > most ? size0 : most;
    }
    free((void *)(uintptr_t)floats);
    remove_folder(out);
    /* From 65520 on a number rounds to infinity. */
    scene_weights(weights, &scene_vit, 7, "norm.weight", 1e4f * 65520 / ((least + most) / 2));
    way.half = true;
    ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%s", err.text);
    ck_assert_uint_eq(result.inputs, INPUTS);
    /* One of the scene's own bad images is beyond a limit, too. */
    ck_assert_uint_eq(result.embedded + result.reasons[-TACIT_ELIMIT], USABLE + 1);
    ck_assert_uint_gt(result.embedded, 0);
    ck_assert_uint_gt(result.reasons[-TACIT_ELIMIT], 1);
    uint16_t *rows = (uint16_t *)(void *)file_get(path, &size);
    ck_assert_uint_eq(size, 128 + result.embedded * 64 * sizeof *rows);
    for (size_t i = 0; i < result.embedded * 64; i++)
        ck_assert_uint_lt(rows[64 + i] & 0x7fff, 0x7c00);
    free(rows);
    remove_folder(out);
    way.normalize = true; /* of length 1 all fit */
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
    ck_assert_uint_eq(result.embedded, USABLE);
    memcpy(weights, saved, sizeof weights);
}
END_TEST

/* A photo's bytes. JPEG, because libpng's own state for each image goes through our allocator. */
static unsigned char *photo(size_t *size)
{
    char path[1100];
    const char *source = getenv("TACIT_SOURCE");
    snprintf(path, sizeof path, "%s/demo/photos/dress/07cddef1.jpg", source ? source : ".");
    return file_get(path, size);
}

/* A run of twice the length makes no more calls to the heap. */
START_TEST(nothing_is_allocated_after_the_first_images)
{
    uint64_t counts[2];
    char saved[sizeof images];
    memcpy(saved, images, sizeof images);
    snprintf(images, sizeof images, "%s/equal", scratch_folder);
    mkdir(images, 0777);
    size_t size;
    unsigned char *jpeg = photo(&size);
    for (unsigned n = 0; n < 2; n++) {
        for (unsigned i = n * 60; i < n * 60 + 60; i++) {
            char path[600];
            snprintf(path, sizeof path, "%s/%04u.jpg", images, i);
            file_put(path, jpeg, size);
        }
        const char *out = scratch("equal-out");
        struct way way = { .threads = 2, .batch = 4 };
        tacit_run_result result;
        tacit_err err;
        uint64_t before = tacit_alloc_count();
        ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
        counts[n] = tacit_alloc_count() - before;
        ck_assert_uint_eq(result.embedded, n * 60 + 60);
        remove_folder(out);
    }
    free(jpeg);
    memcpy(images, saved, sizeof images);
    /* The list of names and the held lines grow by doubling. */
    ck_assert_msg(counts[1] <= counts[0] + 8, "%llu heap calls for 60 images, %llu for 120",
                  (unsigned long long)counts[0], (unsigned long long)counts[1]);
}
END_TEST

/* tacit.h: the vector of a file's bytes is its row, and nothing is allocated for a second one. */
START_TEST(the_library_gives_the_rows)
{
    unsetenv("TACIT_CPU");
    const char *right = reference();
    char path[1100];
    size_t size, rows_size;
    snprintf(path, sizeof path, "%s/embeddings.npy", right);
    unsigned char *rows = file_get(path, &rows_size);
    snprintf(path, sizeof path, "%s/a/002.png", images);
    unsigned char *png = file_get(path, &size);

    tacit_err err;
    tacit_options options = TACIT_OPTIONS_INIT;
    options.weights = weights;
    options.threads = 2;
    tacit_extractor *extractor;
    ck_assert_msg(tacit_extractor_open(&extractor, &options, &err) == TACIT_OK, "%s", err.text);
    ck_assert_uint_eq(tacit_extractor_dim(extractor), 64);
    float vector[64];
    ck_assert_int_eq(tacit_extractor_embed(extractor, png, size, vector, &err), TACIT_OK);
    ck_assert_mem_eq(vector, rows + 128 + 64 * sizeof(float), sizeof vector); /* row 1 */

    size_t jpeg_size;
    unsigned char *jpeg = photo(&jpeg_size);
    uint64_t before = 0;
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(tacit_extractor_embed(extractor, jpeg, jpeg_size, vector, &err), TACIT_OK);
        ck_assert(i == 0 || tacit_alloc_count() == before);
        before = tacit_alloc_count();
    }
    free(jpeg);

    ck_assert_int_eq(tacit_extractor_embed(extractor, png, size / 2, vector, &err), TACIT_EFORMAT);
    tacit_image image = { 0 };
    ck_assert_int_eq(tacit_image_decode(&image, png, size, NULL, &err), TACIT_OK);
    memset(vector, 0, sizeof vector);
    ck_assert_int_eq(
        tacit_extractor_embed_rgb8(extractor, image.rgb, image.width, image.height, vector, &err),
        TACIT_OK);
    ck_assert_mem_eq(vector, rows + 128 + 64 * sizeof(float), sizeof vector);
    tacit_extractor_close(&extractor);
    ck_assert_ptr_null(extractor);

    /* What an older program does not know of is not read. */
    options.precision = "int8";
    options.struct_size = offsetof(tacit_options, precision);
    ck_assert_int_eq(tacit_extractor_open(&extractor, &options, &err), TACIT_OK);
    ck_assert_int_eq(tacit_extractor_embed(extractor, png, size, vector, &err), TACIT_OK);
    ck_assert_mem_eq(vector, rows + 128 + 64 * sizeof(float), sizeof vector);
    tacit_extractor_close(&extractor);
    options.struct_size = sizeof options;
    ck_assert_msg(!tacit_extractor_open(&extractor, &options, &err), "%s", err.text);
    ck_assert_int_eq(tacit_extractor_embed(extractor, png, size, vector, &err), TACIT_OK);
    tacit_extractor_close(&extractor);
    options.cache = scratch_folder; /* kept, then taken */
    for (int i = 0; i < 2; i++) {
        float again[64];
        ck_assert_msg(!tacit_extractor_open(&extractor, &options, &err), "%s", err.text);
        ck_assert_int_eq(tacit_extractor_embed(extractor, png, size, again, &err), TACIT_OK);
        ck_assert_mem_eq(again, vector, sizeof vector);
        tacit_extractor_close(&extractor);
    }
    options.cache = scratch("nowhere");
    ck_assert_int_eq(tacit_extractor_open(&extractor, &options, &err), TACIT_EIO);
    options.cache = NULL;
    options.precision = "int9";
    ck_assert_int_eq(tacit_extractor_open(&extractor, &options, &err), TACIT_EINVAL);
    ck_assert_str_eq(err.text, "unknown precision 'int9'");
    options.precision = NULL;

    options.filter = "nearest";
    ck_assert_int_eq(tacit_extractor_open(&extractor, &options, &err), TACIT_EINVAL);
    ck_assert_ptr_null(extractor);
    tacit_image_free(&image);
    free(png);
    free(rows);
}
END_TEST

/* Every call to the heap fails once, and then every one from there on: an error of one line, and
 * what is left can be resumed. */
START_TEST(every_allocation_fails)
{
    char saved[sizeof images];
    memcpy(saved, images, sizeof images);
    snprintf(images, sizeof images, "%s/few", scratch_folder);
    mkdir(images, 0777); /* or it is there */
    for (unsigned i = 0; i < 3; i++) {
        char path[600];
        snprintf(path, sizeof path, "%s/%u.png", images, i);
        scene_png(path, i, 40, 30 + i);
    }
    const char *out = scratch("few-out");
    struct way way = {
        .threads = 2, .batch = 1, .resume = true, .half = _i > 0, .normalize = _i > 0
    };
    tacit_run_result result;
    tacit_err err;
    ck_assert_int_eq(extract(out, &way, &result, &err), TACIT_OK);
    uint64_t right = hash_of(out, "embeddings.npy");
    for (int persist = 0; persist < 2; persist++) {
        uint64_t n = 0;
        for (tacit_status st = TACIT_ENOMEM; st != TACIT_OK; n++) {
            remove_folder(out);
            err.text[0] = 0;
            tacit_alloc_fail_at(n + 1, persist);
            st = extract(out, &way, &result, &err);
            tacit_alloc_fail_at(0, false);
            ck_assert_msg(st == TACIT_OK || (st == TACIT_ENOMEM && err.text[0]),
                          "call %llu: status %d, \"%s\"", (unsigned long long)n, st, err.text);
            if (st == TACIT_OK || n % 10)
                continue;
            ck_assert_msg(extract(out, &way, &result, &err) == TACIT_OK, "%s", err.text);
            ck_assert_uint_eq(hash_of(out, "embeddings.npy"), right);
        }
        ck_assert_uint_gt(n, 30);
        ck_assert_uint_eq(hash_of(out, "embeddings.npy"), right);
    }
    remove_folder(out);
    memcpy(images, saved, sizeof images);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("extract");
    TCase *tcase = tcase_create("extract");
    tcase_add_unchecked_fixture(tcase, setup, scratch_close);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, same_bits);
    tcase_add_test(tcase, latency_has_the_same_bits);
    tcase_add_test(tcase, shards_merge_to_the_whole);
    tcase_add_test(tcase, shards_of_two_inputs_do_not_merge);
    tcase_add_test(tcase, stopped_and_resumed);
    tcase_add_test(tcase, killed_and_resumed);
    tcase_add_test(tcase, any_cut_of_the_parts_is_resumed);
    tcase_add_test(tcase, interrupted_finish_is_resumed);
    tcase_add_test(tcase, other_runs_are_refused);
    tcase_add_test(tcase, one_process_at_a_time);
    tcase_add_test(tcase, strict_stops_at_the_first_bad_image);
    tcase_add_test(tcase, patch_features_have_the_grid);
    tcase_add_test(tcase, halves_and_normalized);
    tcase_add_test(tcase, halves_overflow);
    tcase_add_test(tcase, nothing_is_allocated_after_the_first_images);
    tcase_add_test(tcase, the_library_gives_the_rows);
    tcase_add_loop_test(tcase, every_allocation_fails, 0, 2);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
