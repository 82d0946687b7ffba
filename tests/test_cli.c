/* test_cli.c - the program as users meet it: exit status, one line for each error, what is left. */
#include "program.h"
#include "scene.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>

/* Settings behind the others of a run in training: a smaller network where a machine is slow. */
static void set_smaller(void)
{
    const char *smaller = getenv("TACIT_SLOW_MACHINE")
                              ? "--set patch=8 --set dim=24 --set depth=1 --set decoder_dim=16"
                              : "";
    ck_assert_int_eq(setenv("SMALLER", smaller, 1), 0);
}

static void setup(void)
{
    set_smaller();
    scratch_open();
    scene_weights(scratch("w.safetensors"), &scene_vit, 7, NULL, 0);
    scene_weights(scratch("nan.safetensors"), &scene_vit, 7, "blocks.1.mlp.fc2.bias", NAN);
    scene_images(scratch("images"), 6);
    ck_assert_int_eq(chdir(scratch_folder), 0);
}

static void teardown(void)
{
    ck_assert_int_eq(chdir("/"), 0);
    scratch_close();
}

#define EXTRACT "extract --weights w.safetensors --images images "
#define DRIFT   "drift --weights w.safetensors --images images "

START_TEST(wrong_usage_is_status_2)
{
    static const char *const table[][2] = {
        { "", "a command is missing" },
        { "frobnicate", "unknown command 'frobnicate'" },
        { "--frobnicate", "unknown option '--frobnicate'" },
        { "extract", "required: 'weights'" },
        { "extract --weights w.safetensors --images images", "required: 'out'" },
        { EXTRACT "--out o --frobnicate", "unknown option '--frobnicate'" },
        { EXTRACT "--out o -x", "unknown option '-x'" },
        { EXTRACT "--out", "value is missing behind '--out'" },
        { EXTRACT "--out ''", "value is empty" },
        { EXTRACT "--out o more", "unexpected argument 'more'" },
        { EXTRACT "--out o --batch 0", "--batch '0'" },
        { EXTRACT "--out o --batch 8x", "--batch '8x'" },
        { EXTRACT "--out o --batch ''", "--batch ''" },
        { EXTRACT "--out o --batch -1", "--batch '-1'" },
        { EXTRACT "--out o --batch 99999999999999999999", "--batch" },
        { EXTRACT "--out o --threads 1.5", "--threads '1.5'" },
        { EXTRACT "--out o --features cl", "--features 'cl': use one of cls|mean" },
        { EXTRACT "--out o --precision int9", "--precision 'int9': use one of fp32|int8|bf16" },
        { EXTRACT "--out o --pillow 11", "--pillow '11'" },
        { EXTRACT "--out o --blocks 0", "--blocks '0'" },
        { EXTRACT "--out o --blocks 3", "3 blocks of a network of 2" },
        { EXTRACT "--out o --kind zip", "--kind 'zip'" },
        { EXTRACT "--out o --shard 0/3", "--shard '0/3'" },
        { EXTRACT "--out o --shard 4/3", "--shard '4/3'" },
        { EXTRACT "--out o --shard 2", "--shard '2'" },
        { EXTRACT "--out o --shard 1/3/4", "--shard" },
        { EXTRACT "--out o --mean 1,2", "--mean '1,2'" },
        { EXTRACT "--out o --mean 1,2,nan", "--mean" },
        { EXTRACT "--out o --std 1,0,1", "--std '1,0,1'" },
        { EXTRACT "--out o --size 33", "no multiple of the patch size 8" },
        { EXTRACT "--out o --size 32x36", "no multiple of the patch size 8" },
        { EXTRACT "--out o --arch alexnet", "unknown architecture 'alexnet'" },
        { EXTRACT "--out o --arch vit_small_patch16_224", "not vit_small_patch16_224" },
        { "merge --out o", "name the folders" },
        { "knn", "required: 'train'" },
        { "knn --train o --k 0", "--k '0': use whole numbers" },
        { "knn --train o --k 5,,6", "--k '5,,6'" },
        { "knn --train o --k 5,", "--k '5,'" },
        { "knn --train o --k 1.5", "--k '1.5'" },
        { "knn --train o --temperature 0", "--temperature '0'" },
        { "knn --train o --temperature nan", "--temperature 'nan'" },
        { "knn --train o --test-labels l", "--test-labels goes with --test" },
        { "probe --train o", "required: 'test'" },
        { "probe --train o --test o --solver adam", "--solver 'adam': use one of lbfgs|sgd" },
        { "probe --train o --test o --c 0", "--c '0'" },
        { "probe --train o --test o --c 1,x", "--c '1,x'" },
        { "probe --train o --test o --solver sgd --lr -1", "--lr '-1'" },
        { "probe --train o --test o --batch-norm", "--batch-norm goes with --solver sgd" },
        { "dups", "name one folder" },
        { "dups a b", "name one folder" },
        { "dups o --threshold 1.5", "--threshold '1.5'" },
        { "dups o --json --out f", "--out is of the table" },
        { "predict --classifier c", "required: 'embeddings'" },
        { "drift --images images", "required: 'weights'" },
        { DRIFT "--k 0", "--k '0'" },
        { DRIFT "--limit 1", "--limit '1'" },
        { DRIFT "--precision int9", "--precision 'int9': use one of fp32|int8|bf16" },
        { DRIFT "--features patch", "use --features cls, mean" },
        { "predict --classifier c --embeddings o --top 0", "--top '0'" },
        { "predict --classifier c --embeddings o --json --out f", "--out is of the table" },
        { "inspect", "name one file" },
        { "convert w.safetensors", "name a checkpoint and the file" },
        { "quantize w.safetensors", "name a checkpoint and the file" },
        { "convert --dtype f64 w.safetensors o", "--dtype 'f64': use one of f32|f16|bf16" },
        { EXTRACT "--out o --size 32x", "--size '32x'" },
        { EXTRACT "--out o --size x32", "--size 'x32'" },
        { EXTRACT "--out o --size 32x32x32", "--size '32x32x32'" },
        { EXTRACT "--out o --resize 0", "--resize '0'" },
        { EXTRACT "--out o --resize 36 --crop-pct 0.9", "use one" },
        { EXTRACT "--out o --crop-pct nan", "--crop-pct 'nan'" },
        { EXTRACT "--out o --crop-pct 1,1", "--crop-pct '1,1'" },
        { EXTRACT "--out o --resize-by torch", "pillow|tensor|tensor-u8" },
        { EXTRACT "--out o --dtype f64", "f32|f16" },
        { "bench", "say what to measure" },
        { "bench extract", "extract needs --images" },
        { "bench kernels --isa sse", "--isa 'sse': use one of" },
        { "bench kernels --rounds 65", "--rounds '65'" },
        { "bench kernels --csv f", "go with --baseline or --save-baseline" },
        { "bench kernels --baseline f --save-baseline g", "use one of" },
        { "bench kernels --baseline f --count", "do not go with a baseline" },
        { EXTRACT "--out o --std 1,0,1", "--std '1,0,1'" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        fails(2, "", table[i][0], table[i][1]);
    fails(2, "TACIT_CPU=mmx", EXTRACT "--out o", "TACIT_CPU: unknown ISA 'mmx'");
    fails(2, "TACIT_THREADS=many", EXTRACT "--out o", "TACIT_THREADS is 'many'");
    ck_assert_int_ne(access("o", F_OK), 0);
}
END_TEST

START_TEST(input_that_is_not_there)
{
    mkdir("nothing", 0777);
    file_put("notes.txt", "missing.png\n", 12);
    fails(1, "", "extract --weights w.safetensors --images nowhere --out o", "nowhere");
    fails(1, "", "extract --weights w.safetensors --images nothing --out o", "nothing");
    fails(1, "", "extract --weights nowhere --images images --out o", "nowhere");
    fails(1, "", "extract --weights images --images images --out o", "images");
    ck_assert_int_ne(access("o", F_OK), 0);
    fails(1, "", "inspect nowhere", "nowhere");
    fails(1, "", "merge --out o nowhere", "nowhere");
    ck_assert_int_ne(access("o", F_OK), 0);
}
END_TEST

/* Each unusable input has its line on stderr and in the index, with its reason; the rest is done.
 */
START_TEST(bad_images_cost_their_line)
{
    char text[8192];
    ck_assert_int_eq(run("", EXTRACT "--out bad --json"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, "6 images embedded, 6 unusable"));
    static const char *const table[][2] = {
        { "a/005 cut.png", "malformed" }, { "a/gone.png", "unreadable" },
        { "a/text.jpg", "malformed" },    { "b/bomb.png", "too-large" },
        { "b/empty.jpg", "malformed" },   { "b/fifo.jpg", "unsupported" },
    };
    slurp("bad/index.tsv", text, sizeof text);
    for (unsigned i = 0; i < 6; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n\t%s\t%c\t%s\t", table[i][0], table[i][0][0], table[i][1]);
        ck_assert_msg(strstr(text, line), "%s lacks %s", text, line + 1);
        ck_assert_msg(strstr(err_text, table[i][0]), "%s lacks %s", err_text, table[i][0]);
    }
    json_t *result = json_loads(out_text, 0, NULL), *counts = json_object_get(result, "counts");
    ck_assert_ptr_nonnull(json_string_value(json_object_get(result, "isa")));
    ck_assert_int_eq(json_integer_value(json_object_get(counts, "inputs")), 12);
    ck_assert_int_eq(json_integer_value(json_object_get(counts, "embedded")), 6);
    ck_assert_int_eq(
        json_integer_value(json_object_get(json_object_get(counts, "reasons"), "malformed")), 3);
    ck_assert_msg(strchr(out_text, '\n') == out_text + strlen(out_text) - 1, "one line");
    json_decref(result);

    fails(1, "", EXTRACT "--out strict --strict --threads 1", "a/005 cut.png");
    ck_assert_ptr_nonnull(strstr(err_text, "add --resume"));
}
END_TEST

START_TEST(only_bad_images_is_status_1)
{
    char text[1024];
    file_put("list.txt", "images/a/text.jpg\tx\nimages/vanished.png\nimages/a/gone.png\n", 58);
    ck_assert_int_eq(run("", "extract --weights w.safetensors --images list.txt --out none"), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "not one image is usable"));
    slurp("none/index.tsv", text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text, "\n\timages/a/text.jpg\tx\tmalformed\t"));
    ck_assert_ptr_nonnull(strstr(text, "\n\timages/vanished.png\t\tunreadable\t\n"));
    slurp("none/embeddings.npy", text, sizeof text);
    ck_assert_ptr_nonnull(strstr(text + 10, "'shape': (0, 64)"));
}
END_TEST

/* A container that is cut off: what lies before the cut is done, and the status tells. */
START_TEST(cut_container_is_status_1)
{
    char text[1024];
    ck_assert_int_eq(system("tar cf all.tar -C images a/000.png b/001.png && "
                            "head -c $(($(wc -c <images/a/000.png) / 512 * 512 + 2048)) all.tar "
                            ">cut.tar"),
                     0);
    ck_assert_int_eq(run("", "extract --weights w.safetensors --images all.tar --out tar"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, "2 images embedded, 0 unusable"));
    ck_assert_int_eq(run("", "extract --weights w.safetensors --images cut.tar --out cut"), 1);
    ck_assert_msg(strstr(err_text, "tacit extract: cut.tar: "), "%s", err_text);
    slurp("cut/index.tsv", text, sizeof text);
    ck_assert_msg(strstr(text, "\n0\ta/000.png\t"), "%s", text);
    ck_assert_ptr_null(strstr(text, "b/001.png"));
}
END_TEST

START_TEST(bad_lines_on_stderr_are_bounded)
{
    FILE *f = fopen("many.txt", "w");
    fprintf(f, "images/a/000.png\n");
    for (unsigned i = 0; i < 50; i++)
        fprintf(f, "images/%u.png\n", i);
    fclose(f);
    ck_assert_int_eq(run("cat many.txt |", "extract --weights w.safetensors --images - --out many"),
                     0);
    unsigned lines = 0;
    for (const char *p = err_text; (p = strstr(p, "extract: skipped: ")); p++)
        lines++;
    ck_assert_uint_eq(lines, 20);
    ck_assert_ptr_nonnull(strstr(err_text, "30 more were skipped"));
}
END_TEST

/* Whether meta.json of a folder says all of these. */
static void meta_says(const char *folder, const char *const *words)
{
    char path[100], text[8192];
    snprintf(path, sizeof path, "%s/meta.json", folder);
    slurp(path, text, sizeof text);
    for (; *words; words++)
        ck_assert_msg(strstr(text, *words), "%s lacks %s: %s", path, *words, text);
}

START_TEST(recipes_are_told)
{
    static const struct {
        const char *options, *words[10];
    } ways[] = {
        { "",
          { "\"resize\": 36", "\"crop_mode\": \"center\"", "\"filter\": \"bicubic\"", "0.485",
            "\"resize_by\": \"pillow\"", "\"features\": \"cls\"", "\"normalize\": false",
            "\"dtype\": \"f32\"" } },
        { "--resize 40x50 --normalize --dtype f16 --features mean",
          { "40,", "50", "\"normalize\": true", "\"dtype\": \"f16\"", "\"features\": \"mean\"" } },
        { "--crop-pct 0.8 --filter bilinear --mean 0.5,0.5,0.5 --std 0.25,0.25,0.25",
          { "\"resize\": 40", "\"filter\": \"bilinear\"", "0.5", "0.25" } },
        { "--crop-mode squash --resize-by tensor",
          { "\"resize\": 32", "\"crop_mode\": \"squash\"", "\"resize_by\": \"tensor\"" } },
        { "--crop-mode squash --crop-pct 0.8 --resize-by tensor-u8",
          { "\"resize\": 40", "\"resize_by\": \"tensor-u8\"" } },
        { "--blocks 1", { "\"blocks\": 1", "\"precision\": \"fp32\"" } },
        { "--precision int8", { "\"precision\": \"int8\"", "\"features\": \"cls\"" } },
        { "--precision bf16", { "\"precision\": \"bf16\"", "\"features\": \"cls\"" } },
    };
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        char arguments[512], folder[32];
        snprintf(folder, sizeof folder, "recipe%zu", i);
        snprintf(arguments, sizeof arguments, EXTRACT "--out %s %s", folder, ways[i].options);
        ck_assert_msg(run("", arguments) == 0, "%s", err_text);
        meta_says(folder, ways[i].words);
    }
}
END_TEST

START_TEST(checkpoints_are_explained)
{
    ck_assert_int_eq(run("", "inspect w.safetensors"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "dialect        timm or DINO\n"));
    ck_assert_ptr_nonnull(strstr(out_text, "parameters     80576\n"));
    ck_assert_ptr_nonnull(strstr(out_text, "resize 36 bicubic as Pillow 13, crop 32 x 32\n"));
    ck_assert_ptr_nonnull(strstr(out_text, "30 used, 0 unneeded, 0 unknown, 0 missing\n"));
    ck_assert_ptr_nonnull(strstr(out_text, "loads          yes\n"));
    ck_assert_ptr_null(strstr(out_text, "blocks.0"));
    ck_assert_int_eq(run("", "inspect --json w.safetensors"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "\"dialect\":\"timm or DINO\""));
    ck_assert_ptr_nonnull(strstr(out_text, "\"loads\":true,\"problem\":null"));
    ck_assert_ptr_nonnull(strstr(out_text, "\"use\":\"used\""));
    ck_assert_ptr_eq(strchr(out_text, '\n'), out_text + strlen(out_text) - 1);
    ck_assert_str_eq(err_text, "");
    fails(1, "", "inspect --json cut.safetensors", "cut.safetensors");
    ck_assert_int_eq(run("", "inspect --json w.safetensors >/dev/full 2>err.txt; exit $?; :"), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "standard output"));
}
END_TEST

START_TEST(converted_checkpoints_extract_the_same)
{
    ck_assert_msg(run("", "convert w.safetensors c.safetensors") == 0, "%s", err_text);
    fails(1, "", "convert w.safetensors c.safetensors", "add --force");
    fails(1, "", "convert nowhere d.safetensors", "nowhere");
    fails(1, "", "convert w.safetensors nowhere/d.safetensors", "nowhere");
    ck_assert_int_eq(run("", "convert --force --dtype f32 w.safetensors c.safetensors"), 0);
    ck_assert_int_eq(run("", "inspect c.safetensors"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "written by tacit convert"));

    fails(1, "", "quantize w.safetensors c.safetensors", "add --force");
    fails(1, "", "quantize nowhere d.safetensors", "nowhere");
    ck_assert_int_eq(run("", "quantize w.safetensors q.safetensors"), 0);
    ck_assert_int_eq(run("", EXTRACT "--out of-w --precision int8"), 0);
    ck_assert_int_eq(run("", "extract --images images --weights q.safetensors --out of-q "
                             "--precision int8"),
                     0);
    ck_assert_int_eq(system("cmp of-w/embeddings.npy of-q/embeddings.npy && mkdir kept"), 0);

    fails(1, "", EXTRACT "--out of-k --cache nowhere", "nowhere: no folder to keep packed weights");
    ck_assert_int_eq(run("", EXTRACT "--out of-k1 --cache kept --precision int8"), 0);
    ck_assert_int_eq(run("", EXTRACT "--out of-k2 --cache kept --precision int8"), 0);
    ck_assert_int_eq(system("cmp of-w/embeddings.npy of-k1/embeddings.npy && "
                            "cmp of-w/embeddings.npy of-k2/embeddings.npy && "
                            "ls kept/*.packed >kept.txt"),
                     0);
    ck_assert_int_eq(run("", EXTRACT "--out from-w"), 0);
    ck_assert_int_eq(run("", "extract --weights c.safetensors --images images --out from-c"), 0);
    ck_assert_int_eq(system("cmp -s from-w/embeddings.npy from-c/embeddings.npy"), 0);
    ck_assert_int_eq(system("cmp -s from-w/index.tsv from-c/index.tsv"), 0);
}
END_TEST

/* A config.json beside the file is followed, and wrong ones are one line. */
START_TEST(a_config_beside_is_followed)
{
    ck_assert_int_eq(system("mkdir -p hub && cp w.safetensors hub/model.safetensors"), 0);
    file_put("hub/config.json",
             "{\"architecture\": \"x\", \"input_size\": [3, 40, 48], "
             "\"crop_pct\": 1, \"interpolation\": \"bilinear\"}",
             92);
    ck_assert_msg(run("", "extract --weights hub --images images --out hub-out") == 0, "%s",
                  err_text);
    ck_assert_ptr_nonnull(strstr(err_text, "(timm), cls,"));
    ck_assert_ptr_nonnull(strstr(err_text, "resize 40 x 48 bilinear as Pillow 13, crop 40 x 48, by "
                                           "config.json\n"));
    ck_assert_ptr_null(strstr(err_text, "note:"));
    meta_says("hub-out", (const char *const[]){ "\"dialect\": \"timm\"", "\"height\": 40", NULL });
    file_put("hub/config.json", "{", 1);
    fails(1, "", "extract --weights hub --images images --out o", "hub/config.json: is not JSON");
    ck_assert_int_eq(run("", "inspect hub"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "loads          no: hub/config.json: is not JSON"));
}
END_TEST

/* The weights' file is damaged, or its values are. */
START_TEST(bad_weights_are_told)
{
    size_t size;
    unsigned char *bytes = file_get("w.safetensors", &size);
    file_put("cut.safetensors", bytes, size - 1);
    fails(1, "", "extract --weights cut.safetensors --images images --out o", "cut.safetensors");
    file_put("head.safetensors", bytes, 100);
    fails(1, "", "extract --weights head.safetensors --images images --out o", "head.safetensors");
    char *name = memmem(bytes, size, "blocks.1.norm2.weight", 21);
    memcpy(name, "blocks.1.morn2.weight", 21);
    file_put("renamed.safetensors", bytes, size);
    fails(1, "", "extract --weights renamed.safetensors --images images --out o",
          "missing blocks.1.norm2.weight");
    ck_assert_ptr_nonnull(strstr(err_text, "blocks.1.morn2.weight"));
    ck_assert_int_eq(run("", "inspect --tensors renamed.safetensors"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "loads          no: renamed.safetensors: 2 tensors"));
    ck_assert_ptr_nonnull(strstr(out_text, "1 unknown, 1 missing"));
    ck_assert_ptr_nonnull(strstr(out_text, "unknown    F32   blocks.1.morn2.weight (64)"));
    ck_assert_ptr_nonnull(strstr(out_text, "missing          blocks.1.norm2.weight"));
    free(bytes);
    fails(1, "", "extract --weights nan.safetensors --images images --out o",
          "blocks.1.mlp.fc2.bias");
    ck_assert_int_ne(access("o", F_OK), 0);
    fails(1, "", "inspect cut.safetensors", "cut.safetensors");
    fails(1, "", "inspect images/a/000.png", "000.png");
}
END_TEST

START_TEST(output_that_cannot_be_written)
{
    file_put("file", "", 0);
    fails(1, "", EXTRACT "--out file", "file");
    fails(1, "", EXTRACT "--out file/below", "file");
    fails(1, "", EXTRACT "--out /proc/nowhere", "/proc/nowhere");
    /* Full after 2 KiB: what fits is kept, and the run goes on when there is room. */
    ck_assert_int_eq(run("ulimit -f 4; ", EXTRACT "--out full --features patch"), 1);
    ck_assert_msg(strstr(err_text, "embeddings.npy.part"), "%s", err_text);
    ck_assert_int_ne(access("full/embeddings.npy", F_OK), 0);
    ck_assert_int_eq(run("", EXTRACT "--out full --features patch --resume"), 0);
    ck_assert_int_eq(run("", EXTRACT "--out whole --features patch"), 0);
    ck_assert_int_eq(system("cmp full/embeddings.npy whole/embeddings.npy && "
                            "cmp full/index.tsv whole/index.tsv"),
                     0);
    /* Standard output is full. */
    ck_assert_int_eq(run("", EXTRACT "--out devfull --json >/dev/full 2>err.txt; exit $?; :"), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "standard output"));
}
END_TEST

START_TEST(folders_of_other_runs_are_refused)
{
    ck_assert_int_eq(run("", EXTRACT "--out twice"), 0);
    fails(1, "", EXTRACT "--out twice", "holds a finished run");
    fails(1, "", EXTRACT "--out twice --resume --features mean", "features is \"mean\" here");
    fails(1, "", EXTRACT "--out twice --resume --precision int8", "precision is \"int8\" here");
    ck_assert_int_eq(run("", EXTRACT "--out twice --resume"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, "is complete"));
    ck_assert_int_eq(run("", EXTRACT "--out half1 --shard 1/2"), 0);
    ck_assert_int_eq(run("", EXTRACT "--out half2 --shard 2/2 --precision int8"), 0);
    fails(1, "", "merge --out both half1 half2", "precision is \"fp32\" here and \"int8\" there");
}
END_TEST

/* A signal ends the run soon, keeps what is done, and says how to go on. */
START_TEST(signals_stop_in_order)
{
    FILE *f = fopen("long.txt", "w");
    for (unsigned i = 0; i < 200000; i++)
        fprintf(f, "images/a/000.png\n");
    fclose(f);
    static const char *const signals[][2] = { { "INT", "130" }, { "TERM", "143" } };
    for (unsigned i = 0; i < 2; i++) {
        char arguments[512];
        snprintf(arguments, sizeof arguments,
                 "extract --weights w.safetensors --images long.txt --out stop%u >out.txt "
                 "2>err.txt & p=$!; while kill -0 $p && [ ! -s stop%u/embeddings.npy.part ]; do "
                 "sleep 0.05; done; sleep 0.2; kill -%s $p; wait $p; exit $?; :",
                 i, i, signals[i][0]);
        int status = run("", arguments);
        ck_assert_msg(status == atoi(signals[i][1]), "%d: %s", status, err_text);
        ck_assert_ptr_nonnull(strstr(err_text, "--resume"));
        char path[64];
        snprintf(path, sizeof path, "stop%u/run.json", i);
        ck_assert_int_eq(access(path, F_OK), 0);
    }
}
END_TEST

/* Also where it waits for a list that nobody goes on with, which a sleep holds open; what had been
 * listed is done. */
START_TEST(signals_stop_a_wait)
{
#ifdef __SANITIZE_THREAD__
    puts("skipped: signals_stop_a_wait: ThreadSanitizer keeps a signal from a thread that waits "
         "for a mutex");
    return;
#endif
    static const char *const commands[] = { "extract --weights w.safetensors --images - --batch 1",
                                            "pack --images -" };
    for (unsigned i = 0; i < 2; i++) {
        char arguments[512];
        snprintf(
            arguments, sizeof arguments,
            "%s --out idle%u <line >out.txt 2>err.txt & p=$!; sleep 100 >line & s=$!; echo "
            "images/a/000.png >line; while kill -0 $p && [ -z \"$(ls -A . | grep idle%u)\" ]; do "
            "sleep 0.05; done; sleep 0.5; kill -TERM $p; (sleep 60; kill -KILL $p) & k=$!; "
            "wait $p; r=$?; kill $s $k; exit $r; :",
            commands[i], i, i);
        int status = run("rm -f line; mkfifo line; ", arguments);
        ck_assert_msg(status == 143, "%d: %s", status, err_text);
    }
    ck_assert_int_eq(access("idle1", F_OK), -1);
    ck_assert_int_eq(run("echo images/a/000.png | ",
                         "extract --weights w.safetensors --images - --out idle0 --batch 1 "
                         "--resume"),
                     0);
    ck_assert_msg(strstr(err_text, "1 images embedded"), "%s", err_text);
}
END_TEST

/* tacit pretrain ------------------------------------------------------------------------------ */

/* The first 256 pictures of a CIFAR-10 that was never taken. */
static void make_records(const char *path)
{
    FILE *f = fopen(path, "w");
    for (unsigned i = 0; i < 256 * 3073; i++)
        fputc(i % 3073 ? (int)(i * 2654435761u >> 24) : (int)(i / 3073 % 10), f);
    fclose(f);
}

/* What holds for any precision, however far it is. */
static void drift_says(unsigned images, unsigned skipped, unsigned k)
{
    json_error_t at;
    json_t *r = json_loads(out_text, 0, &at);
    ck_assert_msg(r != NULL, "%s", out_text);
    ck_assert_int_eq(json_integer_value(json_object_get(r, "images")), images);
    ck_assert_int_eq(json_integer_value(json_object_get(r, "skipped")), skipped);
    ck_assert_int_eq(json_integer_value(json_object_get(r, "k")), k);
    double mean = json_real_value(json_object_get(r, "cosine_mean")),
           worst = json_real_value(json_object_get(r, "cosine_worst"));
    ck_assert_msg(mean > 0.9 && mean <= 1 && worst > 0.8 && worst <= mean, "%s", out_text);
    static const char *const shares[] = { "neighbors_shared", "nearest_same" };
    for (unsigned i = 0; i < 2; i++) {
        const json_t *share = json_object_get(r, shares[i]);
        ck_assert_msg(json_is_real(share) && json_real_value(share) >= 0 &&
                          json_real_value(share) <= 1,
                      "%s", out_text);
    }
    ck_assert(json_is_string(json_object_get(r, "worst_path")));
    const json_t *agreement = json_object_get(r, "knn_agreement");
    double share = json_real_value(agreement);
    ck_assert_msg(json_is_null(agreement) || (share > 0.5 && share <= 1), "%s", out_text);
    json_decref(r);
}

/* The default backbone is a ResNet. */
START_TEST(precisions_of_a_resnet)
{
    static const char *const precisions[] = { "int8", "bf16" };
    char arguments[256];
    for (size_t i = 0; i < 2; i++) {
        snprintf(arguments, sizeof arguments,
                 "drift --weights default --images images --json --precision %s", precisions[i]);
        ck_assert_msg(!run("", arguments), "%s", err_text);
        drift_says(6, 6, 5);
    }
}
END_TEST

#define PRETRAIN "pretrain mae --images records.bin --preset quick --set depth=2 $SMALLER "

START_TEST(pretrain_refuses)
{
    static const struct {
        int status;
        const char *arguments, *says;
    } table[] = {
        { 2, "pretrain", "the name of a method is missing" },
        { 2, "pretrain supervised --images records.bin --out o",
          "there is no method 'supervised'" },
        { 2, "pretrain mae simclr --images records.bin --out o", "unexpected argument 'simclr'" },
        { 2, PRETRAIN, "--out is missing" },
        { 1, "pretrain mae --out o --preset quick", "--images is missing" },
        { 2, PRETRAIN "--out o --preset huge", "--preset 'huge': use one of" },
        { 2, PRETRAIN "--out o --set batch", "KEY=VALUE" },
        { 2, PRETRAIN "--out o --set temperature=1", "there is no setting 'temperature'" },
        { 2, PRETRAIN "--out o --batch 0", "batch = '0'" },
        { 1, PRETRAIN "--out o --batch 257", "256 images are fewer than a batch of 257" },
        { 2, PRETRAIN "--out o --arch resnet18_cifar --set heads=0 --set patch=0",
          "mae trains a ViT" },
        { 2, PRETRAIN "--out o --set accumulate=3", "does not divide" },
        { 1, PRETRAIN "--out o --set warmup_epochs=30", "longer than the run" },
        { 1, PRETRAIN "--out o --set knn=nowhere", "k-NN: nowhere" },
        { 2, PRETRAIN "--out o --kind zip", "--kind 'zip'" },
        { 2, PRETRAIN "--dry-run --set mask_ratio=0.99 --set patch=16", "leaves none" },
        { 1, PRETRAIN "--out o --config nowhere.ini", "nowhere.ini" },
        { 1, PRETRAIN "--out o --set depth=128 --set dim=8192 --set heads=64", "the machine has" },
        { 1, PRETRAIN "--out no/where", "the run's folder cannot be made" },
        { 1, "pretrain mae --images nowhere --out o --preset quick", "nowhere" },
    };
    make_records("records.bin");
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        fails(table[i].status, "", table[i].arguments, table[i].says);
    ck_assert_int_ne(access("o", F_OK), 0);
}
END_TEST

static double number(const char *key)
{
    json_t *row = json_loads(out_text, 0, NULL);
    double value = json_number_value(json_object_get(row, key));
    ck_assert_msg(value > 0, "no %s: %s", key, out_text);
    json_decref(row);
    return value;
}

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define MEMORY_IS_ITS_OWN false
#else
#define MEMORY_IS_ITS_OWN true
#endif

START_TEST(pretrain_from_settings_to_vectors)
{
    make_records("records.bin");
    ck_assert_int_eq(run("", "pretrain --list"), 0);
    ck_assert(strstr(out_text, "simclr ") && strstr(out_text, "mae ") && strstr(out_text, "arXiv"));
    ck_assert_int_eq(run("", "pretrain mae --help"), 0);
    ck_assert(strstr(out_text, "mask_ratio ") && strstr(out_text, "warmup_epochs "));
    ck_assert(!strstr(out_text, "temperature of the softmax") && strstr(out_text, "small32"));

    ck_assert_int_eq(run("", PRETRAIN "--dry-run --json --epochs 4 --threads 2"), 0);
    double said = number("peak_bytes");
    ck_assert_double_eq(number("steps"), 8);
    ck_assert_int_eq(run("", PRETRAIN "--out a --json --epochs 4 --threads 2"), 0);
    ck_assert_double_eq(number("step"), 8);
    bool own = MEMORY_IS_ITS_OWN && !getenv("MESON_EXE_WRAPPER") && !getenv("TACIT_SLOW_MACHINE");
    ck_assert_msg(!own || fabs(number("peak_bytes") / said - 1) < 0.1, "%g bytes, not %g",
                  number("peak_bytes"), said);
    ck_assert_int_eq(run("", PRETRAIN "--dry-run --set depth=128 --set dim=8192 --set heads=64"),
                     0);
    ck_assert_ptr_nonnull(strstr(out_text, "time          unknown: the machine has "));

    /* The settings of a run make it again, but for where it is interrupted. */
    ck_assert_int_eq(run("", "pretrain mae --config a/config.ini --out b --steps 7"), 0);
    ck_assert_int_eq(run("TACIT_CPU=ref", "pretrain mae --out b --resume"), 0);
    ck_assert_int_eq(system("cmp a/checkpoint.safetensors b/checkpoint.safetensors"), 0);
    fails(1, "", "pretrain simclr --out b --resume", "is of another method");
    fails(1, "", "pretrain mae --out b --resume --batch 64", "was begun with batch = 128, not 64");
    fails(1, "", "pretrain mae --config a/config.ini --out b", "holds a run: add --resume");

    ck_assert_int_eq(run("", "inspect a/backbone.safetensors"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "tacit pretrain mae"));
    ck_assert_int_eq(
        run("", "extract --weights a/backbone.safetensors --images records.bin --out a/vectors"),
        0);
    ck_assert_int_eq(run("", PRETRAIN "--out c --epochs 0"), 0);
    ck_assert_int_eq(access("c/backbone.safetensors", F_OK), 0);
}
END_TEST

#define TOKENIZER "tokenizer train dvae --images records.bin --preset quick "

START_TEST(tokenizer_refuses)
{
    static const struct {
        int status;
        const char *arguments, *says;
    } table[] = {
        { 2, "tokenizer", "use 'tacit tokenizer train NAME'" },
        { 2, "tokenizer trian dvae", "use 'tacit tokenizer train NAME'" },
        { 2, "tokenizer train", "the name of a tokenizer is missing" },
        { 2, "tokenizer train mae", "there is no tokenizer 'mae'" },
        { 2, "pretrain dvae --out o", "there is no method 'dvae'" },
        { 2, "tokenizer train dvae dvae", "unexpected argument 'dvae'" },
        { 2, TOKENIZER, "--out is missing" },
        { 2, TOKENIZER "--out o --set code=3", "'tacit tokenizer train dvae --help' lists them" },
        { 2, TOKENIZER "--out o --set stages=6 --set size=48", "do not divide" },
        { 2, TOKENIZER "--out o --arch vit_tiny_patch4_32", "dvae has no backbone" },
        { 2, TOKENIZER "--out o --set size=0", "needs the images' size" },
        { 2, TOKENIZER "--out o --set knn=records.bin", "dvae has no features" },
        { 2, TOKENIZER "--out o --set drop_path=0.1", "a ViT's" },
        { 2, TOKENIZER "--out o --pictures o.png", "--pictures is for encode" },
        { 2, "tokenizer train vqkd --images records.bin --out o --arch resnet18_cifar",
          "vqkd trains a ViT" },
        { 1,
          "tokenizer train vqkd --images records.bin --preset quick --out o --set target=nowhere",
          "nowhere" },
        { 2, "tokenizer encode --images records.bin --out o", "--tokenizer is missing" },
        { 2, "tokenizer encode --tokenizer t --images records.bin --out o --epochs 3",
          "--epochs is for train" },
        { 2, "tokenizer encode mae", "unexpected argument 'mae'" },
        { 1, "tokenizer encode --tokenizer t --images records.bin --out o", "t: " },
        { 1, "tokenizer encode --tokenizer records.bin --images records.bin --out o",
          "records.bin" },
    };
    make_records("records.bin");
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        fails(table[i].status, "", table[i].arguments, table[i].says);
    ck_assert_int_ne(access("o", F_OK), 0);
}
END_TEST

/* Tokens are the same whatever CPU and threads; a row for an image that cannot be used. */
START_TEST(tokenizer_from_settings_to_tokens)
{
    make_records("records.bin");
    ck_assert_int_eq(run("", "tokenizer --list"), 0);
    ck_assert(strstr(out_text, "dvae ") && strstr(out_text, "vqkd ") && strstr(out_text, "arXiv"));
    ck_assert_int_eq(run("", "tokenizer train dvae --help"), 0);
    ck_assert(strstr(out_text, "kl_weight ") && strstr(out_text, "tacit tokenizer train dvae"));
    ck_assert_int_eq(run("", TOKENIZER "--set hidden=8 --dry-run --json"), 0);
    ck_assert_int_eq(
        run("", TOKENIZER "--set hidden=8 --set codes=16 --out t --epochs 2 --threads 2"), 0);
    ck_assert_int_eq(run("", "tokenizer encode --tokenizer t/tokenizer.safetensors --json "
                             "--images records.bin --out a.npy --pictures a.png --threads 2"),
                     0);
    ck_assert_double_eq(number("images"), 256);
    ck_assert_double_eq(number("tokens"), 64);
    ck_assert_double_eq(number("codes"), 16);
    ck_assert(number("codes_used") <= 1 && number("perplexity") <= 16);
    ck_assert_int_eq(run("TACIT_CPU=ref", "tokenizer encode --tokenizer t/tokenizer.safetensors "
                                          "--images records.bin --out b.npy --threads 1"),
                     0);
    ck_assert_int_eq(system("cmp a.npy b.npy"), 0);
    ck_assert_int_eq(run("", "reconstruct t --images records.bin --out b.png"), 0);
    ck_assert_int_eq(system("cmp a.png b.png"), 0);
    fails(1, "",
          "tokenizer encode --tokenizer t/tokenizer.safetensors --images records.bin --out "
          "b.npy",
          "is there already");
    ck_assert_int_eq(system("mkdir -p some && echo no > some/a.png && cp a.png some/b.png"), 0);
    ck_assert_int_eq(run("", "tokenizer encode --tokenizer t/tokenizer.safetensors --json --force "
                             "--images some --out b.npy"),
                     0);
    ck_assert_double_eq(number("images"), 2);
    ck_assert_double_eq(number("bad_images"), 1);
    ck_assert_ptr_nonnull(strstr(err_text, "row of -1: "));
    FILE *f = fopen("b.npy", "r");
    int32_t rows[2][64];
    ck_assert(f && fseek(f, 128, SEEK_SET) == 0 && fread(rows, sizeof rows, 1, f) == 1);
    fclose(f);
    for (size_t i = 0; i < 64; i++)
        ck_assert(rows[0][i] == -1 && rows[1][i] >= 0 && rows[1][i] < 16);
}
END_TEST

START_TEST(pretrain_stops_in_order)
{
    make_records("records.bin");
    static const char *const signals[][2] = { { "INT", "130" }, { "TERM", "143" } };
    for (unsigned i = 0; i < 2; i++) {
        char arguments[512];
        snprintf(arguments, sizeof arguments,
                 PRETRAIN "--epochs 100000 --out stopped%u >out.txt 2>err.txt & p=$!; while [ ! -s "
                          "stopped%u/log.jsonl ]; do sleep 0.05; done; kill -%s $p; wait $p; exit "
                          "$?; :",
                 i, i, signals[i][0]);
        int status = run("", arguments);
        ck_assert_msg(status == atoi(signals[i][1]), "%d: %s", status, err_text);
        ck_assert(strstr(err_text, "stopped and saved at step ") && strstr(err_text, "--resume"));
        char path[64];
        snprintf(path, sizeof path, "stopped%u/checkpoint.safetensors", i);
        ck_assert_int_eq(access(path, F_OK), 0);
    }
}
END_TEST

/* tacit reconstruct --------------------------------------------------------------------------- */

#define RECONSTRUCT "reconstruct m --images records.bin --out o.png "

static void make_runs(void)
{
    make_records("records.bin");
    ck_assert_int_eq(run("", PRETRAIN "--out m --epochs 0 --resume"), 0);
    ck_assert_int_eq(run("",
                         "pretrain simclr --images records.bin --preset quick --out s --epochs 0 "
                         "--resume"),
                     0);
}

START_TEST(reconstruct_refuses)
{
    static const struct {
        int status;
        const char *arguments, *says;
    } table[] = {
        { 2, "reconstruct --images records.bin --out o.png", "name one folder" },
        { 2, RECONSTRUCT "s", "name one folder" },
        { 2, "reconstruct m --out o.png", "required: 'images'" },
        { 2, "reconstruct m --images records.bin", "required: 'out'" },
        { 2, RECONSTRUCT "--count 0", "--count '0'" },
        { 2, RECONSTRUCT "--columns x", "--columns 'x'" },
        { 2, RECONSTRUCT "--kind zip", "--kind 'zip'" },
        { 1, "reconstruct s --images records.bin --out o.png", "simclr does not reconstruct" },
        { 1, "reconstruct nowhere --images records.bin --out o.png", "nowhere/config.ini" },
        { 1, "reconstruct m --images nowhere --out o.png", "nowhere" },
        { 1, RECONSTRUCT "--kind idx", "records.bin" },
        { 1, "reconstruct m --images records.bin --out no/where.png", "no/where.png" },
        { 1, "reconstruct m-cut --images records.bin --out o.png", "m-cut/checkpoint.safetensors" },
        { 1, "reconstruct m-bad --images records.bin --out o.png", "is damaged" },
        { 1, "reconstruct m-none --images records.bin --out o.png",
          "m-none/checkpoint.safetensors" },
        { 1, "reconstruct m-ini --images records.bin --out o.png", "names no method" },
    };
    make_runs();
    size_t size;
    for (const char *const *copy = (const char *const[]){ "cut", "bad", "none", "ini", NULL };
         *copy; copy++) {
        char command[64];
        snprintf(command, sizeof command, "cp -r m m-%s", *copy);
        ck_assert_int_eq(system(command), 0);
    }
    unsigned char *bytes = file_get("m/checkpoint.safetensors", &size);
    file_put("m-cut/checkpoint.safetensors", bytes, size / 2);
    bytes[size - 9] ^= 1;
    file_put("m-bad/checkpoint.safetensors", bytes, size);
    free(bytes);
    remove("m-none/checkpoint.safetensors");
    file_put("m-ini/config.ini", "batch = 128\n", 12);
    for (unsigned i = 0; i < sizeof table / sizeof *table; i++)
        fails(table[i].status, "", table[i].arguments, table[i].says);
    ck_assert_int_ne(access("o.png", F_OK), 0);
}
END_TEST

START_TEST(reconstruct_draws)
{
    make_runs();
    ck_assert_int_eq(run("", RECONSTRUCT "--json --count 3 --threads 1"), 0);
    ck_assert_double_eq(number("images"), 3);
    ck_assert_double_eq(number("width"), 12 + 2 * (3 * 96 + 2 * 4 + 12));
    ck_assert_double_eq(number("height"), 12 + 2 * (96 + 12));
    ck_assert_ptr_nonnull(strstr(out_text, "\"panels\":[\"image\",\"masked\",\"reconstruction\"]"));
    for (unsigned threads = 2; threads <= 3; threads++) {
        char arguments[128];
        snprintf(arguments, sizeof arguments,
                 "reconstruct m --images records.bin --out %u.png --count 3 --threads %u", threads,
                 threads);
        ck_assert_int_eq(run(threads == 3 ? "TACIT_CPU=ref" : "", arguments), 0);
        ck_assert_ptr_nonnull(strstr(err_text, ".png: 3 images of step 0, each as image, masked"));
    }
    ck_assert_int_eq(system("cmp o.png 2.png && cmp o.png 3.png"), 0);
    ck_assert_int_eq(run("", "reconstruct m --images images --out photos.png"), 0);
    ck_assert_msg(strstr(err_text, ": 6 images of step 0") && strstr(err_text, "could not be used"),
                  "%s", err_text);
}
END_TEST

/* The images of a and b as one set, classified by each other and by themselves. */
START_TEST(knn_of_a_folder)
{
    ck_assert_int_eq(run("", EXTRACT "--out emb"), 0);
    ck_assert_int_eq(run("", "knn --train emb --k 1,3,100 --json --neighbors near.npy"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, "there are 5 neighbours"));
    char *save = NULL, first[sizeof out_text];
    static const int ks[] = { 1, 3, 100 };
    unsigned lines = 0;
    memcpy(first, out_text, sizeof first);
    for (char *line = strtok_r(first, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        json_t *result = json_loads(line, 0, NULL);
        ck_assert_int_eq(json_integer_value(json_object_get(result, "k")), ks[lines++]);
        ck_assert(json_is_true(json_object_get(result, "leave_one_out")));
        ck_assert(json_is_real(json_object_get(result, "top1")));
        ck_assert(json_is_real(json_object_get(json_object_get(result, "majority"), "top1")));
        ck_assert_uint_eq(json_array_size(json_object_get(result, "per_class")), 2);
        json_t *meta = json_object_get(json_object_get(result, "train"), "meta");
        ck_assert_str_eq(json_string_value(json_object_get(meta, "features")), "cls");
        json_decref(result);
    }
    ck_assert_uint_eq(lines, 3);
    size_t size;
    unsigned char *npy = file_get("near.npy", &size);
    ck_assert_uint_eq(size, 128 + 6 * 5 * 8);
    ck_assert_ptr_nonnull(
        strstr((char *)npy + 10, "'<i8', 'fortran_order': False, 'shape': (6, 5)"));
    free(npy);
    free(file_get("near-similarities.npy", &size));
    ck_assert_uint_eq(size, 128 + 6 * 5 * 4);

    /* With itself among the neighbours, the nearest is itself. */
    ck_assert_int_eq(run("", "knn --train emb --test emb --k 1 --json --confusion m.tsv"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "\"top1\":100.0"));
    char text[1024];
    slurp("m.tsv", text, sizeof text);
    ck_assert_str_eq(text, "\ta\tb\na\t3\t0\nb\t0\t3\n");
    ck_assert_int_eq(
        run("", "knn --train emb --test emb/embeddings.npy --test-labels emb/index.tsv"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "6 vectors of 64, 2 classes; "));
    ck_assert_ptr_nonnull(strstr(out_text, "majority"));

    fails(1, "", "knn --train nowhere", "nowhere");
    fails(1, "", "knn --train emb --test emb/embeddings.npy", "name a file of them");
    file_put("other.txt", "a\nb\nc\na\nb\na\n", 12);
    fails(1, "", "knn --train emb --test emb --test-labels other.txt",
          "class 'c' of the test set is not in the training set");
    fails(1, "", "knn --train emb --train-labels emb/embeddings.npy", "labels are integers");
    ck_assert_int_eq(run("", EXTRACT "--out emb-mean --features mean"), 0);
    fails(1, "", "knn --train emb --test emb-mean", "features is \"cls\" here");
    ck_assert_int_eq(run("", EXTRACT "--out emb-int8 --precision int8"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, ", cls, int8, "));
    fails(1, "", "knn --train emb --test emb-int8",
          "precision is \"fp32\" here and \"int8\" there");
    fails(1, "", "probe --train emb-int8 --test emb", "precision is \"int8\" here");
    ck_assert_int_eq(run("", EXTRACT "--out emb-patch --features patch"), 0);
    fails(1, "", "knn --train emb-patch", "not one vector a row");
    ck_assert_int_eq(system("head -c 200 emb/embeddings.npy >cut.npy"), 0);
    fails(1, "", "knn --train emb --test cut.npy --test-labels other.txt", "it is cut off");
    fails(1, "", "knn --train emb --k 3 --neighbors images", "images");
    fails(1, "", "knn --train emb --k 3 --confusion nowhere/m.tsv", "nowhere");
}
END_TEST

/* Two classes that six images tell apart, learned by heart, kept and applied. */
START_TEST(probe_and_predict)
{
    char text[1024];
    ck_assert_int_eq(run("", EXTRACT "--out p"), 0);
    static const char *const solvers[] = { "--c 1e4 --save c.safetensors --confusion q.tsv",
                                           "--solver sgd --lr 1,1e9 --batch-norm --epochs 300" };
    for (unsigned i = 0; i < 2; i++) {
        char arguments[200];
        snprintf(arguments, sizeof arguments, "probe --train p --test p --json %s", solvers[i]);
        ck_assert_msg(run("", arguments) == 0, "%s", err_text);
        json_t *result = json_loads(out_text, 0, NULL);
        ck_assert_str_eq(json_string_value(json_object_get(result, "solver")), i ? "sgd" : "lbfgs");
        ck_assert(i || json_real_value(json_object_get(result, "top1")) == 100);
        ck_assert(json_real_value(json_object_get(result, "top5")) == 100);
        ck_assert(json_is_real(json_object_get(result, "train_top1")));
        ck_assert_uint_eq(json_array_size(json_object_get(result, "sweep")), i ? 2 : 0);
        ck_assert_uint_eq(json_array_size(json_object_get(result, "per_class")), 2);
        json_t *meta = json_object_get(json_object_get(result, "train"), "meta");
        ck_assert_str_eq(json_string_value(json_object_get(meta, "features")), "cls");
        json_decref(result);
    }
    slurp("q.tsv", text, sizeof text);
    ck_assert_str_eq(text, "\ta\tb\na\t3\t0\nb\t0\t3\n");
    ck_assert_int_eq(run("", "probe --train p --test p --c 0.1,1"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "1 training rows held out"));
    ck_assert_ptr_nonnull(strstr(out_text, "chosen"));

    ck_assert_int_eq(run("", "predict --classifier c.safetensors --embeddings p --out l.tsv"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, "right: 6 of 6"));
    slurp("l.tsv", text, sizeof text);
    ck_assert_msg(
        !strncmp(text, "row\tpath\trank\tlabel\tprobability\n0\ta/000.png\t1\ta\t0.9", 51), "%s",
        text);
    ck_assert_ptr_nonnull(strstr(text, "\n5\tb/005.png\t1\tb\t0.9"));
    ck_assert_int_eq(run("", "predict --classifier c.safetensors --embeddings p/embeddings.npy "
                             "--top 9 --json"),
                     0);
    json_t *line = json_loads(out_text, JSON_DISABLE_EOF_CHECK, NULL);
    json_t *list = json_object_get(line, "predictions");
    ck_assert_uint_eq(json_array_size(list), 2);
    ck_assert_str_eq(json_string_value(json_object_get(json_array_get(list, 0), "label")), "a");
    json_decref(line);
    ck_assert_ptr_nonnull(strstr(out_text, "\"classifier_meta\":{"));

    fails(1, "", "predict --classifier p/embeddings.npy --embeddings p", "embeddings.npy");
    fails(1, "", "predict --classifier w.safetensors --embeddings p", "is not a classifier");
    ck_assert_int_eq(run("", EXTRACT "--out p-mean --features mean"), 0);
    fails(1, "", "predict --classifier c.safetensors --embeddings p-mean", "features is \"cls\"");
    fails(1, "", "predict --classifier c.safetensors --embeddings p --out nowhere/f", "nowhere");
    file_put("one.txt", "a\na\na\na\na\na\n", 12);
    fails(1, "", "probe --train p --train-labels one.txt --test p --test-labels one.txt",
          "has one class, 'a'");
    fails(1, "", "probe --train p --train-labels one.txt --test p", "class 'b' of the test set");
    fails(1, "", "probe --train p --test p --c 1 --save nowhere/c", "nowhere");
}
END_TEST

START_TEST(dups_are_listed)
{
    char text[2048];
    ck_assert_int_eq(system("mkdir twins && cp images/a/000.png twins/x.png && "
                            "cp images/a/000.png twins/y.png && cp images/b/001.png twins/z.png && "
                            "cp images/a/text.jpg twins/t.jpg && cp images/a/text.jpg twins/u.jpg"),
                     0);
    ck_assert_int_eq(run("", "extract --weights w.safetensors --images twins --out t"), 0);
    ck_assert_int_eq(run("", "dups t --threshold 1 --out d.tsv"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, "5 inputs, 2 groups (2 of equal files), 4 members"));
    slurp("d.tsv", text, sizeof text);
    ck_assert_msg(strstr(text, "0\texact\t\t\tt.jpg\t\t") &&
                      strstr(text, "1\texact\t1.000000\t0\tx.png"),
                  "%s", text);
    ck_assert_int_eq(run("", "dups t --threshold -1 --json"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "\"kind\":\"near\""));
    ck_assert_ptr_nonnull(strstr(out_text, "\"features\":\"cls\""));
    fails(1, "", "dups images", "embeddings.npy");
    fails(1, "", "dups t --out nowhere/d.tsv", "nowhere");
}
END_TEST

START_TEST(drift_is_told)
{
    char first[sizeof out_text], arguments[1024];
    const char *source = getenv("TACIT_SOURCE");
    snprintf(arguments, sizeof arguments,
             "drift --weights w.safetensors --images %s/demo/photos --json", source ? source : ".");
    ck_assert_msg(run("", arguments) == 0, "%s", err_text);
    ck_assert_ptr_nonnull(strstr(err_text, ", int8, "));
    drift_says(30, 0, 10);
    ck_assert_ptr_null(strstr(out_text, "\"knn_agreement\":null"));
    ck_assert_ptr_nonnull(strstr(out_text, "\"precision\":\"int8\""));
    ck_assert_ptr_nonnull(strstr(out_text, ".jpg\""));

    /* Bad images are left out, whatever the turns, batches and threads that they are in. */
    ck_assert_int_eq(run("", DRIFT "--json --k 100"), 0);
    drift_says(6, 6, 5);
    ck_assert_ptr_nonnull(strstr(err_text, "tacit drift: skipped: images/a/text.jpg: "));
    memcpy(first, out_text, sizeof first);
    static const char *const ways[] = { "--threads 1 --batch 1", "--threads 3 --batch 2",
                                        "--threads 2 --batch 100" };
    for (unsigned i = 0; i < sizeof ways / sizeof *ways; i++) {
        snprintf(arguments, sizeof arguments, DRIFT "--json --k 100 %s", ways[i]);
        ck_assert_int_eq(run("", arguments), 0);
        ck_assert_str_eq(out_text, first);
        ck_assert_int_eq(run("", "drift --weights w.safetensors --images images/b --json --k 100"),
                         0);
        ck_assert_ptr_nonnull(strstr(out_text, "\"knn_agreement\":null"));
        drift_says(3, 3, 2);
    }

    /* An input whose length is not known, cut by --limit; the fourth is damaged. */
    ck_assert_int_eq(run("(cd images && find a b -name '0*.png' | sort) | sed s:^:images/: >l.txt;"
                         " cat l.txt l.txt l.txt l.txt l.txt l.txt | ",
                         "drift --weights w.safetensors --images - --json --batch 1 --threads 1"),
                     0);
    drift_says(36, 6, 10);
    ck_assert_int_eq(run("cat l.txt l.txt | ", "drift --weights w.safetensors --images - --json "
                                               "--limit 5 --threads 2 --features cls+mean"),
                     0);
    drift_says(4, 1, 3);
    ck_assert_int_eq(run("", DRIFT "--json --precision bf16"), 0);
    ck_assert_ptr_nonnull(strstr(err_text, ", bf16, "));
    drift_says(6, 6, 5);
    ck_assert_int_eq(run("", DRIFT "--precision fp32 --normalize"), 0);
    ck_assert_msg(strstr(out_text, "images         6 used, 6 skipped\n") &&
                      strstr(out_text, "mean 1.000000, worst 1.000000: a/000.png\n") &&
                      strstr(out_text, "100.00 % of the 5 nearest") &&
                      strstr(out_text, "for 100.00 % of the images\n"),
                  "%s", out_text);

    file_put("one.txt", "images/a/000.png\n", 17);
    fails(1, "", "drift --weights w.safetensors --images one.txt", "one.txt: 1 usable images");
    fails(1, "", "drift --weights w.safetensors --images nowhere", "nowhere");
    fails(1, "", "drift --weights nan.safetensors --images one.txt", "blocks.1.mlp.fc2.bias");
}
END_TEST

START_TEST(help_comes_from_the_table)
{
    ck_assert_int_eq(run("", "--help"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "extract"));
    ck_assert_int_eq(run("", "--version"), 0);
    ck_assert_int_eq(strncmp(out_text, "tacit ", 6), 0);
    ck_assert_int_eq(run("", "extract --help"), 0);
    static const char *const all[] = { "weights", "images", "out",     "arch",      "features",
                                       "size",    "batch",  "threads", "precision", "shard",
                                       "resume",  "strict", "json",    "pillow",    "kind" };
    char help[sizeof out_text];
    memcpy(help, out_text, sizeof help);
    static const char *const forms[] = { "man", "bash", "zsh", "fish" };
    for (unsigned k = 0; k < 4; k++) {
        char arguments[32];
        snprintf(arguments, sizeof arguments, "help %s", forms[k]);
        ck_assert_int_eq(run("", arguments), 0);
        for (unsigned i = 0; i < sizeof all / sizeof *all; i++) {
            char option[32];
            snprintf(option, sizeof option, "--%s", all[i]);
            ck_assert_msg(strstr(help, option) && strstr(out_text, all[i]), "%s lacks %s", forms[k],
                          all[i]);
        }
    }
    ck_assert_int_eq(run("", "help bash"), 0);
    ck_assert_int_eq(system("bash -n out.txt"), 0);
    ck_assert_int_eq(run("", "cpu --json"), 0);
    json_t *cpu = json_loads(out_text, 0, NULL);
    ck_assert_ptr_nonnull(
        json_string_value(json_object_get(json_object_get(cpu, "kernels"), "gemm_f32")));
    json_decref(cpu);
    ck_assert_int_eq(run("TACIT_CPU=ref", "cpu"), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "ISA used   ref"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli");
    TCase *tcase = tcase_create("cli");
    tcase_add_unchecked_fixture(tcase, setup, teardown);
    tcase_set_timeout(tcase, 120);
    tcase_add_test(tcase, wrong_usage_is_status_2);
    tcase_add_test(tcase, input_that_is_not_there);
    tcase_add_test(tcase, bad_images_cost_their_line);
    tcase_add_test(tcase, only_bad_images_is_status_1);
    tcase_add_test(tcase, cut_container_is_status_1);
    tcase_add_test(tcase, bad_lines_on_stderr_are_bounded);
    tcase_add_test(tcase, recipes_are_told);
    tcase_add_test(tcase, bad_weights_are_told);
    tcase_add_test(tcase, checkpoints_are_explained);
    tcase_add_test(tcase, converted_checkpoints_extract_the_same);
    tcase_add_test(tcase, a_config_beside_is_followed);
    tcase_add_test(tcase, output_that_cannot_be_written);
    tcase_add_test(tcase, folders_of_other_runs_are_refused);
    tcase_add_test(tcase, precisions_of_a_resnet);
    tcase_add_test(tcase, signals_stop_in_order);
    tcase_add_test(tcase, signals_stop_a_wait);
    tcase_add_test(tcase, pretrain_refuses);
    tcase_add_test(tcase, pretrain_from_settings_to_vectors);
    tcase_add_test(tcase, pretrain_stops_in_order);
    tcase_add_test(tcase, tokenizer_refuses);
    tcase_add_test(tcase, tokenizer_from_settings_to_tokens);
    tcase_add_test(tcase, reconstruct_refuses);
    tcase_add_test(tcase, reconstruct_draws);
    tcase_add_test(tcase, knn_of_a_folder);
    tcase_add_test(tcase, probe_and_predict);
    tcase_add_test(tcase, dups_are_listed);
    tcase_add_test(tcase, drift_is_told);
    tcase_add_test(tcase, help_comes_from_the_table);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
