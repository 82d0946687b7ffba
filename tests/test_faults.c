/* test_faults.c - whole programs in which one file operation or one allocation goes wrong, for each
 * of them in turn, by io_shim.c and malloc_shim.c; and whole programs that die there.
 *
 * What must hold: no crash; success, or status 1 with a line that says why; final names hold whole
 * files; and --resume then gives the bytes of a run in which nothing went wrong.
 *
 * Environment: TACIT_IO_SHIM, TACIT_MALLOC_SHIM (libraries), TACIT_EXE (the program).
 */
#include "atomic_file.h"
#include "mem.h"
#include "safetensors.h"
#include "scratch.h"
#include "vit.h"

#include <fcntl.h>
#include <jansson.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/wait.h>

extern char **environ;

static char self[1024];

/* ---- children ---- */

struct child {
    const char *preload, *under, *fault; /* under NULL: malloc_shim */
    unsigned long call;                  /* 0: nothing goes wrong, operations are counted */
};

struct outcome {
    int status;          /* of exit; 128 + number of a signal */
    unsigned long calls; /* operations counted, 0 where the child was killed */
    char text[4096];     /* its stderr */
};

static void read_text(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : 0;
    text[n > 0 ? n : 0] = 0;
    if (fd >= 0)
        close(fd);
}

static struct outcome run(const struct child *child, const char *const *argv)
{
    const char *errors = scratch("stderr"), *report = scratch("report");
    remove(report);
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int out = open("/dev/null", O_WRONLY),
            text = open(errors, O_RDWR | O_CREAT | O_TRUNC, 0666);
        dup2(out, 1);
        dup2(text, 2);
        char call[24];
        snprintf(call, sizeof call, "%lu", child->call);
        setenv("TACIT_SHIM_REPORT", report, 1);
        setenv(child->under ? "TACIT_SHIM_CALL" : "TACIT_SHIM_ALLOC", call, 1);
        if (child->under) {
            setenv("TACIT_SHIM_UNDER", child->under, 1);
            setenv("TACIT_SHIM_ERRNO", child->fault, 1);
        } else if (!strcmp(child->fault, "persist")) {
            setenv("TACIT_SHIM_PERSIST", "1", 1);
        }
        setenv("LD_PRELOAD", child->preload, 1);
        alarm(120);
        execv(argv[0], (char *const *)argv);
        _exit(126);
    }
    int status;
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    struct outcome o = { .status =
                             WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status) };
    char number[32];
    read_text(errors, o.text, sizeof o.text);
    read_text(report, number, sizeof number);
    o.calls = strtoul(number, NULL, 10);
    return o;
}

static const char *shim(const char *variable)
{
    const char *path = getenv(variable);
    ck_assert_msg(path && access(path, R_OK) == 0, "%s names no library", variable);
    return path;
}

/* Status 1 comes with a line, 0 and death are what they are, all else is a crash. */
static void expect_orderly(const struct child *child, const struct outcome *o)
{
    bool dies = !strcmp(child->fault, "KILL") || !strcmp(child->fault, "TORN");
    ck_assert_msg(o->status == 0 || (o->status == 1 && o->text[0] && strchr(o->text, '\n')) ||
                      (dies && o->status == 128 + SIGKILL),
                  "%s at operation %lu: status %d: %s", child->fault, child->call, o->status,
                  o->text);
}

static const char *const io_faults[] = {
    "EIO", "ENOSPC", "EINTR", "EMFILE", "SHORT", "KILL", "TORN"
};
static const char *const alloc_faults[] = { "once", "persist" };
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* ---- a small program: read a container, replace a file ---- */

#define NEW_SIZE 100000

/* What the child does: 0 where all went well. */
static int scenario(const char *container, const char *target)
{
    tacit_err err = { "" };
    tacit_safetensors *file = NULL;
    uint64_t hash;
    static char bytes[NEW_SIZE];
    memset(bytes, 'n', sizeof bytes);
    tacit_status st = tacit_safetensors_open(&file, container, &err);
    if (st == TACIT_OK)
        st = tacit_safetensors_hash(file, &hash, &err);
    for (size_t i = 0; st == TACIT_OK && i < 2; i++) {
        tacit_tensor_source s = tacit_safetensors_source(file);
        char data[256];
        st = s.read(s.ctx, i, 0, s.tensors[i].bytes, data, &err);
    }
    if (st == TACIT_OK)
        st = tacit_file_replace(target, bytes, sizeof bytes, &err);
    tacit_safetensors_close(&file);
    if (st < 0)
        fprintf(stderr, "%s\n", err.text);
    return st < 0;
}

/* 1: the new bytes, 0: the old ones; anything else is a failure. */
static bool is_new(const char *path)
{
    size_t size;
    unsigned char *bytes = file_get(path, &size);
    bool fresh = size == NEW_SIZE;
    if (fresh)
        for (size_t i = 0; i < size; i++)
            ck_assert_int_eq(bytes[i], 'n');
    else
        ck_assert_str_eq((char *)bytes, "old");
    free(bytes);
    return fresh;
}

static void small_program(const char *preload, bool io, const char *fault)
{
    char folder[300], container[512], target[512];
    snprintf(folder, sizeof folder, "%s/small", scratch_folder);
    snprintf(container, sizeof container, "%s/in.safetensors", folder);
    snprintf(target, sizeof target, "%s/target", folder);
    const char *argv[] = { self, "--scenario", container, target, NULL };
    struct child child = { preload, io ? folder : NULL, fault, 0 };
    unsigned long failures = 0;
    for (unsigned long n = 0;; n++) {
        mkdir(folder, 0777);
        size_t size;
        unsigned char *bytes = file_get(golden("containers/every.safetensors"), &size);
        file_put(container, bytes, size);
        free(bytes);
        file_put(target, "old", 3);
        child.call = n;
        struct outcome o = run(&child, argv);
        expect_orderly(&child, &o);
        bool fresh = is_new(target), late = strstr(o.text, "the folder cannot be synced") != NULL;
        unsigned names = count_names(folder);
        ck_assert_msg(o.status != 0 || fresh, "%s at %lu", fault, n);
        ck_assert_msg(o.status != 1 || fresh == late, "%s at %lu: %s", fault, n, o.text);
        ck_assert_msg(names == 2 || (names == 3 && o.status > 128), "%s at %lu", fault, n);
        ck_assert_msg(strcmp(fault, "SHORT") || o.status == 0, "short at %lu: %s", n, o.text);
        failures += o.status != 0;
        nftw(folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
        if (o.status == 0 && n > o.calls)
            break;
    }
    /* A short count or an interruption is no error, but for that of rename. */
    bool harmless = !strcmp(fault, "SHORT") || !strcmp(fault, "EINTR");
    ck_assert_msg(harmless ? failures < 2 : failures > 3, "%s: %lu failures", fault, failures);
}

START_TEST(small_program_file_operations)
{
    small_program(shim("TACIT_IO_SHIM"), true, io_faults[_i]);
}
END_TEST

START_TEST(small_program_allocations)
{
    small_program(shim("TACIT_MALLOC_SHIM"), false, alloc_faults[_i]);
}
END_TEST

/* ---- tacit extract ---- */

static char run_folder[300], weights[512], images[512], out[512];
static size_t want_rows_size, want_index_size;
static unsigned char *want_rows, *want_index;
static json_t *want_meta;

static const char *in_out(const char *name)
{
    static char paths[4][1024];
    static unsigned turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", out, name);
    return path;
}

static bool there(const char *name)
{
    return access(in_out(name), F_OK) == 0;
}

/* Joins the shards part1 and part2. */
static struct outcome merge(const struct child *child)
{
    char parts[2][512];
    for (int i = 0; i < 2; i++)
        snprintf(parts[i], sizeof parts[i], "%s/part%d", run_folder, i + 1);
    const char *argv[] = { getenv("TACIT_EXE"), "merge", "--out", out, parts[0], parts[1], NULL };
    return run(child, argv);
}

static struct outcome extract(const struct child *child, bool resume)
{
    const char *program = getenv("TACIT_EXE");
    ck_assert_msg(program != NULL, "TACIT_EXE names no program");
    const char *argv[] = { program,
                           "extract",
                           "--weights",
                           weights,
                           "--images",
                           images,
                           "--out",
                           out,
                           "--threads",
                           "1",
                           resume ? "--resume" : NULL,
                           NULL };
    return run(child, argv);
}

static void clear_out(void)
{
    nftw(out, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
}

static void copy_image(const char *from, const char *name)
{
    char path[1024];
    const char *source = getenv("TACIT_SOURCE");
    snprintf(path, sizeof path, "%s/tests/data/images/%s", source ? source : ".", from);
    size_t size;
    unsigned char *bytes = file_get(path, &size);
    snprintf(path, sizeof path, "%s/%s", images, name);
    file_put(path, bytes, size);
    free(bytes);
}

/* A network small enough for thousands of runs, from the seeded source. */
static void make_weights(void)
{
    const tacit_vit_config config = { .dim = 64,
                                      .depth = 2,
                                      .heads = 1,
                                      .mlp = 128,
                                      .patch = 8,
                                      .height = 16,
                                      .width = 16,
                                      .eps = 1e-6f };
    tacit_err err = { "" };
    tacit_tensor_source s;
    ck_assert_msg(tacit_vit_seeded(&config, 1, &s, &err) == TACIT_OK, "%s", err.text);
    tacit_safetensors_entry *entries = calloc(s.count, sizeof *entries);
    for (size_t i = 0; i < s.count; i++) {
        void *data = malloc(s.tensors[i].bytes);
        ck_assert_int_eq(s.read(s.ctx, i, 0, s.tensors[i].bytes, data, &err), TACIT_OK);
        entries[i] = (tacit_safetensors_entry){ s.tensors[i], data };
    }
    ck_assert_int_eq(tacit_safetensors_write(weights, entries, s.count, NULL, &err), TACIT_OK);
    for (size_t i = 0; i < s.count; i++)
        free((void *)entries[i].data);
    free(entries);
    tacit_vit_seeded_close(&s);
}

static void extract_setup(void)
{
    scratch_open();
    snprintf(run_folder, sizeof run_folder, "%s/run", scratch_folder);
    snprintf(weights, sizeof weights, "%s/model.safetensors", run_folder);
    snprintf(images, sizeof images, "%s/in", run_folder);
    snprintf(out, sizeof out, "%s/out", run_folder);
    mkdir(run_folder, 0777);
    mkdir(images, 0777);
    make_weights();
    copy_image("jpeg-decoder/jpg-size-17x17.jpg", "a.jpg");
    copy_image("pngsuite/basn2c08.png", "b.png");
    copy_image("made/empty.png", "c.png"); /* unusable: it has its line in the index */
    const struct child child = { "", run_folder, "", 0 };
    struct outcome o = extract(&child, false);
    ck_assert_msg(o.status == 0, "%s", o.text);
    want_rows = file_get(in_out("embeddings.npy"), &want_rows_size);
    want_index = file_get(in_out("index.tsv"), &want_index_size);
    want_meta = json_load_file(in_out("meta.json"), 0, NULL);
    ck_assert_ptr_nonnull(want_meta);
    clear_out();
}

static void merge_setup(void)
{
    extract_setup();
    for (int i = 1; i <= 2; i++) {
        char part[512], shard[8];
        snprintf(part, sizeof part, "%s/part%d", run_folder, i);
        snprintf(shard, sizeof shard, "%d/2", i);
        const char *argv[] = { getenv("TACIT_EXE"), "extract", "--weights", weights,
                               "--images",          images,    "--out",     part,
                               "--shard",           shard,     NULL };
        const struct child child = { "", run_folder, "", 0 };
        struct outcome o = run(&child, argv);
        ck_assert_msg(o.status == 0, "%s", o.text);
    }
}

static void extract_teardown(void)
{
    json_decref(want_meta);
    free(want_rows);
    free(want_index);
    want_meta = NULL;
    want_rows = want_index = NULL;
    scratch_close();
}

static bool same_bytes(const char *path, const unsigned char *want, size_t want_size)
{
    size_t size;
    unsigned char *bytes = file_get(path, &size);
    bool same = size == want_size && !memcmp(bytes, want, size);
    free(bytes);
    return same;
}

/* The same keys all through; the values hold times. */
static bool same_keys(const json_t *a, const json_t *b)
{
    if (!a || !b || json_object_size(a) != json_object_size(b))
        return false;
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)a, key, value)
    {
        if (!same_keys(value, json_object_get(b, key)))
            return false;
    }
    return true;
}

/* What is there under a final name is whole. */
static void expect_whole(const struct child *child)
{
    ck_assert_msg(!there("embeddings.npy") ||
                      same_bytes(in_out("embeddings.npy"), want_rows, want_rows_size),
                  "%s at %lu: embeddings.npy", child->fault, child->call);
    ck_assert_msg(!there("index.tsv") ||
                      same_bytes(in_out("index.tsv"), want_index, want_index_size),
                  "%s at %lu: index.tsv", child->fault, child->call);
    json_t *meta = json_load_file(in_out("meta.json"), 0, NULL);
    ck_assert_msg(!there("meta.json") || same_keys(meta, want_meta), "%s at %lu: meta.json",
                  child->fault, child->call);
    json_decref(meta);
}

static void expect_complete(const struct child *child)
{
    expect_whole(child);
    ck_assert_msg(there("embeddings.npy") && there("index.tsv") && there("meta.json") &&
                      count_names(out) == 3,
                  "%s at %lu: not complete", child->fault, child->call);
}

/* What is there after a fault is whole, and resuming gives the rest; also after dying again. */
static void finish(const struct child *child, const struct outcome *o)
{
    const struct child sound = { "", run_folder, "", 0 };
    expect_whole(child);
    if (o->status > 128) {
        struct outcome again = extract(child, true);
        expect_orderly(child, &again);
        expect_whole(child);
    }
    struct outcome last = extract(&sound, true);
    ck_assert_msg(last.status == 0, "resumed after %s at %lu: %s", child->fault, child->call,
                  last.text);
    expect_complete(child);
}

/* For every operation under a folder: the run with the fault, then the resumed one. */
static void extract_faults(const char *under, const char *fault)
{
    const char *preload = shim("TACIT_IO_SHIM");
    struct child child = { preload, under, fault, 0 };
    unsigned long most = 0;
    clear_out(); /* of a test that failed before */
    for (unsigned long n = 0;; n++) {
        child.call = n;
        struct outcome o = extract(&child, false);
        expect_orderly(&child, &o);
        /* An image that cannot be read is a line of its own in the index, not a failure; a short
         * or interrupted call must not be seen at all. */
        bool changed = !strcmp(under, images) && o.status == 0 &&
                       !same_bytes(in_out("index.tsv"), want_index, want_index_size);
        ck_assert_msg(!changed || (strcmp(fault, "SHORT") && strcmp(fault, "EINTR")),
                      "%s at %lu: %s", fault, n, o.text);
        ck_assert_msg(!changed || strstr(o.text, "skipped: "), "%s at %lu: %s", fault, n, o.text);
        most = n == 0 ? o.calls : most;
        ck_assert_msg(strcmp(fault, "SHORT") || o.status == 0, "short at %lu: %s", n, o.text);
        if (o.status == 0 && !changed)
            expect_complete(&child);
        if (!changed)
            finish(&child, &o);
        clear_out();
        if (o.status == 0 && n > o.calls)
            break;
    }
    ck_assert_uint_gt(most, 5);
}

/* Here a fault leaves nothing to resume, but what has its final name must be whole. */
static void merge_faults(const char *preload, const char *under, const char *fault)
{
    struct child child = { preload, under, fault, 0 };
    unsigned long most = 0;
    for (unsigned long n = 0;; n++) {
        clear_out();
        child.call = n;
        struct outcome o = merge(&child);
        expect_orderly(&child, &o);
        if (n == 0) {
            most = o.calls;
            json_decref(want_meta);
            want_meta = json_load_file(in_out("meta.json"), 0, NULL);
        }
        ck_assert_msg(strcmp(fault, "SHORT") || o.status == 0, "short at %lu: %s", n, o.text);
        if (o.status == 0)
            expect_complete(&child);
        else if (access(out, F_OK) == 0)
            expect_whole(&child);
        if (o.status == 0 && n > o.calls)
            break;
    }
    ck_assert_uint_gt(most, 5);
}

START_TEST(merge_operations)
{
    merge_faults(shim("TACIT_IO_SHIM"), run_folder, io_faults[_i]);
}
END_TEST

START_TEST(merge_allocations)
{
    merge_faults(shim("TACIT_MALLOC_SHIM"), NULL, alloc_faults[_i]);
}
END_TEST

START_TEST(extract_output_operations)
{
    extract_faults(out, io_faults[_i]);
}
END_TEST

START_TEST(extract_image_operations)
{
    extract_faults(images, io_faults[_i]);
}
END_TEST

START_TEST(extract_weights_operations)
{
    extract_faults(weights, io_faults[_i]);
}
END_TEST

START_TEST(extract_allocations)
{
    struct child child = { shim("TACIT_MALLOC_SHIM"), NULL, alloc_faults[_i], 0 };
    unsigned long most = 0, failures = 0;
    clear_out();
    for (unsigned long n = 0;; n++) {
        child.call = n;
        struct outcome o = extract(&child, false);
        expect_orderly(&child, &o);
        most = n == 0 ? o.calls : most;
        failures += o.status != 0;
        if (o.status == 0)
            expect_complete(&child);
        finish(&child, &o);
        clear_out();
        if (o.status == 0 && n > o.calls)
            break;
    }
    ck_assert_uint_gt(most, 50);
    ck_assert_uint_gt(failures, most / 2);
}
END_TEST

/* ---- tacit pack ---- */

/* From the images, or from a pack of them, into the folder out. */
static struct outcome pack(const struct child *child, const char *from)
{
    char to[600];
    snprintf(to, sizeof to, "%s/x.pack", out);
    const char *argv[] = {
        getenv("TACIT_EXE"), "pack", "--images", from, "--out", to, "--size", "16",
        "--threads",         "1",    NULL
    };
    return run(child, argv);
}

static char packed[600];

static void pack_setup(void)
{
    scratch_open();
    snprintf(run_folder, sizeof run_folder, "%s/run", scratch_folder);
    snprintf(images, sizeof images, "%s/in", run_folder);
    snprintf(out, sizeof out, "%s/out", run_folder);
    snprintf(packed, sizeof packed, "%s/whole.pack", run_folder);
    mkdir(run_folder, 0777);
    mkdir(images, 0777);
    mkdir(out, 0777);
    copy_image("jpeg-decoder/jpg-size-17x17.jpg", "a.jpg");
    copy_image("pngsuite/basn2c08.png", "b.png");
    copy_image("made/empty.png", "c.png"); /* unusable: it is left out */
    const struct child child = { "", run_folder, "", 0 };
    struct outcome o = pack(&child, images);
    ck_assert_msg(o.status == 0, "%s", o.text);
    want_rows = file_get(in_out("x.pack"), &want_rows_size);
    file_put(packed, want_rows, want_rows_size);
}

/* What has the final name is whole, and but for a death nothing else is there. Only a picture that
 * cannot be read, and is told, makes another pack; after an error there is none, unless it was that
 * of the folder's sync. */
static void pack_faults(const char *preload, const char *under, const char *from, const char *fault)
{
    struct child child = { preload, under, fault, 0 };
    unsigned long most = 0;
    for (unsigned long n = 0;; n++) {
        clear_out();
        mkdir(out, 0777);
        child.call = n;
        struct outcome o = pack(&child, from);
        expect_orderly(&child, &o);
        most = n == 0 ? o.calls : most;
        bool whole = there("x.pack") && same_bytes(in_out("x.pack"), want_rows, want_rows_size);
        bool fewer =
            strstr(o.text, "skipped: ") && (strstr(o.text, "a.jpg: ") || strstr(o.text, "b.png: "));
        bool late = strstr(o.text, "the folder cannot be synced") != NULL;
        ck_assert_msg(o.status != 0 || there("x.pack"), "%s at %lu", fault, n);
        ck_assert_msg(!there("x.pack") || whole || (fewer && strcmp(fault, "SHORT")),
                      "%s at %lu: %s", fault, n, o.text);
        ck_assert_msg(o.status != 1 || there("x.pack") == late, "%s at %lu: %s", fault, n, o.text);
        ck_assert_msg(o.status > 128 || count_names(out) == there("x.pack"), "%s at %lu", fault, n);
        ck_assert_msg(strcmp(fault, "SHORT") || o.status == 0, "short at %lu: %s", n, o.text);
        if (o.status == 0 && n > o.calls)
            break;
    }
    ck_assert_uint_gt(most, 5);
}

START_TEST(pack_output_operations)
{
    pack_faults(shim("TACIT_IO_SHIM"), out, images, io_faults[_i]);
}
END_TEST

START_TEST(pack_image_operations)
{
    pack_faults(shim("TACIT_IO_SHIM"), images, images, io_faults[_i]);
}
END_TEST

START_TEST(pack_of_a_pack_operations)
{
    pack_faults(shim("TACIT_IO_SHIM"), packed, packed, io_faults[_i]);
}
END_TEST

START_TEST(pack_allocations)
{
    pack_faults(shim("TACIT_MALLOC_SHIM"), NULL, images, alloc_faults[_i]);
}
END_TEST

/* ---- tacit pretrain ---- */

#define PRETRAIN_STEPS 6

static char settings[512];

static const char *pretrain_argv[] = { NULL,        "pretrain", "mae",      "--images", images,
                                       "--out",     out,        "--config", settings,   "--resume",
                                       "--threads", "1",        NULL };

static struct outcome pretrain(const struct child *child)
{
    pretrain_argv[0] = getenv("TACIT_EXE");
    return run(child, pretrain_argv);
}

static void pretrain_images(void)
{
    static unsigned char records[26 * 3073];
    scratch_open();
    snprintf(run_folder, sizeof run_folder, "%s/run", scratch_folder);
    snprintf(settings, sizeof settings, "%s/settings.ini", run_folder);
    snprintf(images, sizeof images, "%s/records.bin", run_folder);
    snprintf(out, sizeof out, "%s/out", run_folder);
    mkdir(run_folder, 0777);
    for (size_t i = 0; i < sizeof records; i++)
        records[i] = i % 3073 ? (unsigned char)(i * 2654435761u >> 24) : (unsigned char)(i / 30730);
    file_put(images, records, sizeof records);
}

#define TINY_MAE                                                                                   \
    "arch = vit_tiny_patch4_32\nsize = 16\ndim = 16\ndepth = 1\nheads = 2\ndecoder_dim = 8\n"      \
    "decoder_depth = 1\ndecoder_heads = 2\nbatch = 8\naccumulate = 1\n"
#define SHORT_MAE TINY_MAE "epochs = 2\nwarmup_epochs = 1\ncheckpoint_steps = 2\nwatch_steps = 4\n"
#define TINY_SIMCLR                                                                                \
    "arch = resnet18_cifar\nsize = 12\ndim = 4\ndepth = 1\nhead_hidden = 16\nhead_dim = 8\n"       \
    "batch = 8\naccumulate = 2\n"

/* What an undisturbed run gives. */
static void pretrain_reference(const char *method, const char *text)
{
    const struct child child = { "", run_folder, "", 0 };
    pretrain_argv[2] = method;
    file_put(settings, text, strlen(text));
    clear_out();
    struct outcome o = pretrain(&child);
    ck_assert_msg(o.status == 0, "%s", o.text);
    free(want_rows), free(want_index);
    want_rows = file_get(in_out("checkpoint.safetensors"), &want_rows_size);
    want_index = file_get(in_out("backbone.safetensors"), &want_index_size);
}

static void pretrain_setup(void)
{
    pretrain_images();
    pretrain_reference("mae", SHORT_MAE);
}

/* Goes on from whatever is there to the bytes of a run in which nothing went wrong. */
static void pretrain_finish(const struct child *child, unsigned steps)
{
    const struct child sound = { "", run_folder, "", 0 };
    struct outcome last = pretrain(&sound);
    ck_assert_msg(last.status == 0 && !strstr(last.text, "damaged"), "resumed after %s at %lu: %s",
                  child->fault, child->call, last.text);
    ck_assert_msg(same_bytes(in_out("checkpoint.safetensors"), want_rows, want_rows_size) &&
                      same_bytes(in_out("backbone.safetensors"), want_index, want_index_size),
                  "%s at %lu: other bytes", child->fault, child->call);
    unsigned lines = 0;
    size_t size;
    unsigned char *log = file_get(in_out("log.jsonl"), &size);
    for (size_t i = 0; i < size; i++)
        lines += log[i] == '\n';
    free(log);
    ck_assert_uint_eq(lines, steps);
    /* config, log, two checkpoints, backbone; a sheet that failed is left out */
    ck_assert_uint_eq(count_names(out), 5 + there("pictures-3.png") + there("pictures-6.png"));
}

/* For every operation: the run with the fault, once more with it, then one without. */
static void pretrain_faults(const char *preload, const char *under, const char *fault)
{
    struct child child = { preload, under, fault, 0 };
    unsigned long most = 0;
    clear_out();
    for (unsigned long n = 0;; n++) {
        child.call = n;
        struct outcome o = pretrain(&child);
        expect_orderly(&child, &o);
        most = n == 0 ? o.calls : most;
        ck_assert_msg(strcmp(fault, "SHORT") || o.status == 0, "short at %lu: %s", n, o.text);
        if (o.status > 128) {
            struct outcome again = pretrain(&child);
            expect_orderly(&child, &again);
        }
        pretrain_finish(&child, PRETRAIN_STEPS);
        clear_out();
        if (o.status == 0 && n > o.calls)
            break;
    }
    ck_assert_uint_gt(most, under == images ? 3 : 50);
}

START_TEST(pretrain_output_operations)
{
    pretrain_faults(shim("TACIT_IO_SHIM"), out, io_faults[_i]);
}
END_TEST

/* With sheets after 3 and 6 steps, which a fault may cost, but nothing else. Of the faults one of
 * each sort, since all of them are tried on the run without sheets. */
static const char *const picture_faults[] = { "EIO", "SHORT", "TORN" };

START_TEST(pretrain_picture_operations)
{
    char text[1024];
    size_t sizes[2];
    unsigned char *sheets[2];
    snprintf(text, sizeof text, SHORT_MAE "pictures = %s\npicture_epochs = 1\n", images);
    pretrain_reference("mae", text);
    for (int i = 0; i < 2; i++)
        sheets[i] = file_get(in_out(i ? "pictures-6.png" : "pictures-3.png"), &sizes[i]);
    struct child child = { shim("TACIT_IO_SHIM"), out, picture_faults[_i], 0 };
    clear_out();
    for (unsigned long n = 1;; n++) {
        child.call = n;
        struct outcome o = pretrain(&child);
        expect_orderly(&child, &o);
        pretrain_finish(&child, PRETRAIN_STEPS);
        for (int i = 0; i < 2; i++) {
            const char *name = i ? "pictures-6.png" : "pictures-3.png";
            ck_assert_msg(!there(name) || same_bytes(in_out(name), sheets[i], sizes[i]),
                          "%s at %lu: %s", child.fault, n, name);
            ck_assert_msg(there(name) || strstr(o.text, ": pictures: "), "%s at %lu: no %s: %s",
                          child.fault, n, name, o.text);
        }
        clear_out();
        if (o.status == 0 && n > o.calls)
            break;
    }
    free(sheets[0]), free(sheets[1]);
}
END_TEST

START_TEST(pretrain_image_operations)
{
    pretrain_faults(shim("TACIT_IO_SHIM"), images, io_faults[_i]);
}
END_TEST

/* Of files, as libarchive, which streams go through, does not survive allocations that fail. */
static void files_for_images(void)
{
    size_t end = strlen(images);
    memcpy(images + end - strlen("records.bin"), "in", sizeof "in");
    mkdir(images, 0777);
    for (unsigned i = 0; i < 26; i++) {
        char name[16];
        snprintf(name, sizeof name, "%02u", i);
        copy_image(i % 2 ? "jpeg-decoder/jpg-size-17x17.jpg" : "pngsuite/basn2c08.png",
                   strcat(name, i % 2 ? ".jpg" : ".png"));
    }
}

START_TEST(pretrain_allocations)
{
    files_for_images();
    pretrain_reference("mae", SHORT_MAE);
    pretrain_faults(shim("TACIT_MALLOC_SHIM"), NULL, alloc_faults[_i]);
}
END_TEST

/* ---- tacit reconstruct ---- */

static char sheet[512], sheets[300];

static struct outcome reconstruct(const struct child *child)
{
    const char *argv[] = {
        getenv("TACIT_EXE"), "reconstruct", out,       "--images", images, "--out", sheet,
        "--threads",         "1",           "--count", "6",        NULL
    };
    return run(child, argv);
}

/* For every operation: the sheet is the new one where that is said, or what was there before. */
static void reconstruct_faults(const char *preload, const char *under, const char *fault)
{
    struct child child = { preload, under, fault, 0 };
    unsigned long failures = 0;
    snprintf(sheets, sizeof sheets, "%s/sheets", scratch_folder);
    snprintf(sheet, sizeof sheet, "%s/sheet.png", sheets);
    for (unsigned long n = 0;; n++) {
        mkdir(sheets, 0777);
        file_put(sheet, "old", 3);
        child.call = n;
        struct outcome o = reconstruct(&child);
        expect_orderly(&child, &o);
        if (n == 0) {
            free(want_rows);
            want_rows = file_get(sheet, &want_rows_size);
        }
        bool fresh = same_bytes(sheet, want_rows, want_rows_size);
        bool late = strstr(o.text, "the folder cannot be synced") != NULL;
        ck_assert_msg(fresh || same_bytes(sheet, (const unsigned char *)"old", 3), "%s at %lu",
                      fault, n);
        ck_assert_msg(o.status > 1 || fresh == (o.status == 0 || late), "%s at %lu: %s", fault, n,
                      o.text);
        ck_assert_msg(o.status > 1 || count_names(sheets) == 1, "%s at %lu", fault, n);
        ck_assert_msg(strcmp(fault, "SHORT") || o.status == 0, "short at %lu: %s", n, o.text);
        failures += o.status != 0;
        nftw(sheets, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
        if (o.status == 0 && n > o.calls)
            break;
    }
    bool harmless = !strcmp(fault, "SHORT") || !strcmp(fault, "EINTR");
    ck_assert_msg(harmless ? failures < 2 : failures > 3, "%s: %lu failures", fault, failures);
}

static void reconstruct_setup(void)
{
    pretrain_images();
    pretrain_reference("mae", TINY_MAE "epochs = 0\n");
}

/* Those of the run, of the images and of the sheet. */
START_TEST(reconstruct_operations)
{
    reconstruct_faults(shim("TACIT_IO_SHIM"), scratch_folder, io_faults[_i]);
}
END_TEST

START_TEST(reconstruct_allocations)
{
    files_for_images();
    reconstruct_faults(shim("TACIT_MALLOC_SHIM"), NULL, alloc_faults[_i]);
}
END_TEST

/* ---- killed at random ---- */

/* Runs for `microseconds` at most; gives the signal that ended it, 0 where it came to its end. */
static int pretrain_until(unsigned microseconds, int signal_number, const char *threads, bool ref)
{
    pretrain_argv[0] = getenv("TACIT_EXE");
    pretrain_argv[11] = threads;
    pid_t pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        int nothing = open("/dev/null", O_RDWR);
        dup2(nothing, 1);
        dup2(nothing, 2);
        if (ref)
            setenv("TACIT_CPU", "ref", 1);
        execv(pretrain_argv[0], (char *const *)pretrain_argv);
        _exit(126);
    }
    int status;
    usleep(microseconds);
    kill(pid, signal_number);
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    pretrain_argv[11] = "1";
    int ended = WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status);
    ended -= ended > 128 ? 128 : 0; /* it saved and left */
    ck_assert_msg(ended == 0 || ended == signal_number, "status %d", ended);
    return ended;
}

#define KILLS 80 /* of each method */

/* Killed again and again at random times, resumed with other threads and on another ISA: the bytes
 * of a run that was left alone. */
START_TEST(pretrain_killed_at_random)
{
    static const char *const threads[] = { "1", "2", "3" };
    const unsigned steps = 600;
    uint64_t random = 88172645463325252u;
    const struct child child = { "", run_folder, "kills", 0 };
    pretrain_reference(_i ? "mae" : "simclr",
                       _i ? TINY_MAE "max_steps = 600\nwarmup_epochs = 1\ncheckpoint_steps = 11\n"
                          : TINY_SIMCLR "max_steps = 600\ncheckpoint_steps = 11\n");
    clear_out();
    for (unsigned kills = 0, here = 0; kills < KILLS;) {
        random ^= random << 13, random ^= random >> 7, random ^= random << 17;
        unsigned some = (unsigned)(random >> 20);
        /* longer and longer, so that each gets somewhere on a slow machine, too */
        int ended =
            pretrain_until(some % (50000 + 20000 * here), some >> 20 & 3 ? SIGKILL : SIGTERM,
                           threads[some % 3], some >> 22 & 1);
        kills += ended != 0;
        here++;
        if (!ended) {
            pretrain_finish(&child, steps);
            clear_out();
            here = 0;
        }
    }
    pretrain_finish(&child, steps);
}
END_TEST

/* ---- tacit serve: what fails costs an answer its vector, or is told ---- */

/* Serves the three images and bytes of one as a stream, or where `named` on a socket that nobody
 * can have. Answers go nowhere. */
static struct outcome serve(const struct child *child, bool named)
{
    const char *argv[] = {
        getenv("TACIT_EXE"),       "serve", "--weights", weights, "--threads", "2", "--json",
        named ? "--socket" : NULL, images,  NULL
    };
    int fd = open(in_out("requests"), O_RDONLY | O_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(dup2(fd, 0), 0);
    close(fd);
    return run(child, argv);
}

static void serve_setup(void)
{
    extract_setup();
    mkdir(out, 0777);
    char path[600];
    size_t size;
    snprintf(path, sizeof path, "%s/a.jpg", images);
    unsigned char *jpeg = file_get(path, &size);
    FILE *f = fopen(in_out("requests"), "wb");
    fprintf(f, "%s/a.jpg\n%s/b.png\n%s/c.png\nbytes %zu\n", images, images, images, size);
    ck_assert_uint_eq(fwrite(jpeg, 1, size, f), size);
    ck_assert_int_eq(fclose(f), 0);
    free(jpeg);
}

static void expect_served(const struct child *child, const struct outcome *o)
{
    expect_orderly(child, o);
    if (o->status == 0) /* the last line counts every request */
        ck_assert_msg(strstr(o->text, "{\"count\":") && strstr(o->text, "\"lost\":0"),
                      "%s at %lu: %s", child->fault, child->call, o->text);
}

START_TEST(serve_operations)
{
    struct child child = { shim("TACIT_IO_SHIM"), images, io_faults[_i], 0 };
    unsigned long most = 0;
    for (; child.call <= most; child.call++) {
        struct outcome o = serve(&child, false);
        expect_served(&child, &o);
        if (!child.call)
            most = o.calls;
    }
    ck_assert_uint_gt(most, 5);
}
END_TEST

START_TEST(serve_allocations)
{
    struct child child = { shim("TACIT_MALLOC_SHIM"), NULL, alloc_faults[_i], 0 };
    for (int named = 0; named < 2; named++) {
        unsigned long most = 0;
        for (child.call = 0; child.call <= most; child.call++) {
            struct outcome o = serve(&child, named);
            ck_assert_msg(!named || o.status == 1, "%lu: %s", child.call, o.text);
            expect_served(&child, &o);
            if (!child.call)
                most = o.calls;
        }
        ck_assert_uint_gt(most, 30);
    }
}
END_TEST

int main(int argc, char **argv)
{
    if (argc == 4 && !strcmp(argv[1], "--scenario"))
        return scenario(argv[2], argv[3]);
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n < 0)
        return 1;
    Suite *suite = suite_create("faults");
    TCase *small = tcase_create("small");
    tcase_add_unchecked_fixture(small, scratch_open, scratch_close);
    tcase_set_timeout(small, 0);
    tcase_add_loop_test(small, small_program_file_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(small, small_program_allocations, 0, COUNT(alloc_faults));
    suite_add_tcase(suite, small);
    TCase *whole = tcase_create("extract");
    tcase_add_unchecked_fixture(whole, extract_setup, extract_teardown);
    tcase_set_timeout(whole, 0);
    tcase_add_loop_test(whole, extract_output_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(whole, extract_image_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(whole, extract_weights_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(whole, extract_allocations, 0, COUNT(alloc_faults));
    suite_add_tcase(suite, whole);
    TCase *joined = tcase_create("merge");
    tcase_add_unchecked_fixture(joined, merge_setup, extract_teardown);
    tcase_set_timeout(joined, 0);
    tcase_add_loop_test(joined, merge_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(joined, merge_allocations, 0, COUNT(alloc_faults));
    suite_add_tcase(suite, joined);
    TCase *packs = tcase_create("pack");
    tcase_add_unchecked_fixture(packs, pack_setup, extract_teardown);
    tcase_set_timeout(packs, 0);
    tcase_add_loop_test(packs, pack_output_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(packs, pack_image_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(packs, pack_of_a_pack_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(packs, pack_allocations, 0, COUNT(alloc_faults));
    suite_add_tcase(suite, packs);
    TCase *served = tcase_create("serve");
    tcase_add_unchecked_fixture(served, serve_setup, extract_teardown);
    tcase_set_timeout(served, 0);
    tcase_add_loop_test(served, serve_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(served, serve_allocations, 0, COUNT(alloc_faults));
    suite_add_tcase(suite, served);
    TCase *trained = tcase_create("pretrain");
    tcase_add_checked_fixture(trained, pretrain_setup, extract_teardown);
    tcase_set_timeout(trained, 0);
    tcase_add_loop_test(trained, pretrain_output_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(trained, pretrain_image_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(trained, pretrain_allocations, 0, COUNT(alloc_faults));
    suite_add_tcase(suite, trained);
    TCase *drawn = tcase_create("pictures");
    tcase_add_checked_fixture(drawn, reconstruct_setup, extract_teardown);
    tcase_set_timeout(drawn, 0);
    tcase_add_loop_test(drawn, pretrain_picture_operations, 0, COUNT(picture_faults));
    tcase_add_loop_test(drawn, reconstruct_operations, 0, COUNT(io_faults));
    tcase_add_loop_test(drawn, reconstruct_allocations, 0, COUNT(alloc_faults));
    suite_add_tcase(suite, drawn);
    trained = tcase_create("kills");
    tcase_add_checked_fixture(trained, pretrain_setup, extract_teardown);
    tcase_set_timeout(trained, 0);
    tcase_add_loop_test(trained, pretrain_killed_at_random, 0, 2);
    suite_add_tcase(suite, trained);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
