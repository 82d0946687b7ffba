/* sets.c - see sets.h. */
#include "sets.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

double tacit_wall(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static tacit_status open_all(tacit_sets *s, const tacit_args *args, tacit_err *err)
{
    const char *test = tacit_arg(args, "test");
    tacit_status st = tacit_pool_open(&s->pool, s->threads.use, err);
    if (st == TACIT_OK)
        st = tacit_vectors_open(&s->train, tacit_arg(args, "train"), s->kernels, s->pool, err);
    if (st == TACIT_OK)
        st = tacit_labels_open(&s->train_labels, tacit_arg(args, "train-labels"), &s->train, err);
    if (st < 0 || !test)
        return st;
    s->has_test = true;
    if ((st = tacit_vectors_open(&s->test, test, s->kernels, s->pool, err)) == TACIT_OK)
        st = tacit_vectors_match(&s->train, &s->test, err);
    if (st == TACIT_OK)
        st = tacit_labels_open(&s->test_labels, tacit_arg(args, "test-labels"), &s->test, err);
    return st == TACIT_OK ? tacit_labels_match(&s->test_labels, &s->train_labels, err) : st;
}

int tacit_sets_open(tacit_sets *s, const tacit_args *args)
{
    tacit_err err;
    unsigned asked = 0;
    *s = (tacit_sets){ .train.npy.fd = -1, .test.npy.fd = -1 };
    if (!tacit_arg(args, "test") && tacit_arg(args, "test-labels")) {
        tacit_fail(&err, TACIT_EINVAL, "--test-labels goes with --test");
        return tacit_cli_usage(args, &err);
    }
    if (tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        tacit_isa_select(NULL, &s->isa, &err) < 0 ||
        tacit_threads_select(asked, &s->threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    s->kernels = tacit_kernels_for(s->isa);
    if (open_all(s, args, &err) == TACIT_OK)
        return -1;
    tacit_sets_close(s);
    return tacit_cli_failed(args, &err);
}

void tacit_sets_close(tacit_sets *s)
{
    tacit_labels_close(&s->train_labels);
    tacit_labels_close(&s->test_labels);
    tacit_vectors_close(&s->train);
    tacit_vectors_close(&s->test);
    tacit_pool_close(&s->pool);
}

static void print_set(const char *name, const tacit_vectors *v, size_t classes)
{
    const json_t *model = json_object_get(v->recipe, "model");
    const char *arch = json_string_value(json_object_get(model, "arch"));
    const char *hash = json_string_value(json_object_get(model, "weights_xxh3"));
    const char *features = json_string_value(json_object_get(v->recipe, "features"));
    printf("%-6s %s: %zu vectors of %zu, %zu classes", name, v->folder ? v->folder : v->path,
           v->rows, v->dim, classes);
    if (arch)
        printf("; %s, weights %s, %s", arch, hash ? hash : "?", features ? features : "?");
    putchar('\n');
}

void tacit_sets_print(const tacit_sets *s)
{
    print_set("train", &s->train, s->train_labels.classes);
    if (s->has_test)
        print_set("test", &s->test, s->train_labels.classes);
}

bool tacit_sets_describe(const tacit_sets *s, json_t *object, double wall)
{
    json_t *rest =
        json_pack("{s:o, s:o, s:I, s:s, s:i, s:f}", "train", tacit_vectors_json(&s->train), "test",
                  s->has_test ? tacit_vectors_json(&s->test) : json_null(), "classes",
                  (json_int_t)s->train_labels.classes, "isa", tacit_isa_name(s->isa), "threads",
                  (int)s->threads.use, "wall_s", wall);
    bool good = rest && object && !json_object_update(object, rest);
    json_decref(rest);
    return good;
}

void tacit_print_classes(const tacit_labels *labels, const size_t *rows, const size_t *right)
{
    printf("\n%8s  %7s  class\n", "rows", "top-1");
    for (size_t c = 0; c < labels->classes; c++)
        if (rows[c])
            printf("%8zu  %7.2f  %s\n", rows[c], 100.0 * (double)right[c] / (double)rows[c],
                   labels->names[c]);
}
