/* training.c - see training.h. */
#include "training.h"

#include "atomic_file.h"
#include "cpu.h"
#include "mem.h"
#include "meter.h"
#include "trainer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Options that are settings. */
static const char *const settings[][2] = {
    { "images", "images" },
    { "kind", "kind" },
    { "arch", "arch" },
    { "epochs", "epochs" },
    { "batch", "batch" },
    { "seed", "seed" },
    { "checkpoint-steps", "checkpoint_steps" },
};

/* Help ---------------------------------------------------------------------------------------- */

static void list_methods(const tacit_training *t)
{
    for (const tacit_method *const *m = t->all; *m; m++)
        printf("%-12s %s (%s)\n", (*m)->name, (*m)->title, (*m)->paper);
}

/* That the operands name; NULL: none. */
static const tacit_method *method_of(const tacit_training *t, const tacit_args *args)
{
    const char *name = args->operand_count > t->operand ? args->operands[t->operand] : "";
    for (const tacit_method *const *m = t->all; *m; m++)
        if (!strcmp((*m)->name, name))
            return *m;
    return NULL;
}

static void print_setting(const tacit_value *value)
{
    const tacit_setting *s = value->setting;
    char head[128], text[512], range[128] = "";
    if (s->kind == TACIT_SETTING_CHOICE)
        snprintf(range, sizeof range, " (%s)", s->choices);
    else if (s->kind == TACIT_SETTING_FLAG)
        snprintf(range, sizeof range, " (true|false)");
    else if (s->kind != TACIT_SETTING_STRING)
        snprintf(range, sizeof range, " (%.16g to %.16g)", s->min, s->max);
    snprintf(head, sizeof head, "%s = %.80s", s->name, value->text);
    snprintf(text, sizeof text, "%s%s", s->help, range);
    tacit_cli_entry(head, text);
}

bool tacit_training_help(const tacit_training *t, const tacit_args *args)
{
    const tacit_method *m = method_of(t, args);
    tacit_config config;
    if (!m)
        return false;
    printf("Usage: tacit %s %s --images PATH --out DIR [OPTION]...\n\n%s.\n%s\n\n"
           "Settings, with their defaults and ranges (--set KEY=VALUE, --config FILE):\n",
           t->command, m->name, m->title, m->paper);
    if (tacit_config_open(&config, m, NULL) == TACIT_OK) {
        for (size_t i = config.shared; i < config.count; i++)
            print_setting(&config.values[i]);
        printf("\nof every method:\n");
        for (size_t i = 0; i < config.shared; i++)
            print_setting(&config.values[i]);
    }
    tacit_config_close(&config);
    printf("\nPresets:\n");
    for (const tacit_preset *p = m->presets; p->name; p++) {
        char text[1024] = "";
        for (const char *const *one = p->settings; *one; one++)
            snprintf(text + strlen(text), sizeof text - strlen(text), "%s ", *one);
        tacit_cli_entry(p->name, *text ? text : "the defaults");
    }
    return true;
}

/* Settings ------------------------------------------------------------------------------------ */

/* The settings of the run that is to go on; the first line of config.ini tells its method. */
static tacit_status read_run(tacit_config *config, const char *out, tacit_err *err)
{
    char path[4096], mark[128];
    struct stat info;
    if (snprintf(path, sizeof path, "%s/config.ini", out) >= (int)sizeof path)
        return tacit_fail(err, TACIT_EINVAL, "--out: the path is too long");
    if (stat(path, &info) < 0)
        return TACIT_OK; /* nothing has begun */
    char *text = NULL;
    size_t size;
    tacit_status st = tacit_file_read(path, (size_t)1 << 20, &text, &size, err);
    if (st < 0)
        return st;
    snprintf(mark, sizeof mark, " pretrain %s\n", config->method->name);
    const char *end = strchr(text, '\n'), *found = strstr(text, mark);
    if (!strncmp(text, "# tacit ", 8) && end && (!found || found > end))
        st = tacit_fail(err, TACIT_ECONFLICT, "%s: is of another method: '%.60s'", path, text + 2);
    else
        st = tacit_config_parse(config, text, path, err);
    tacit_free(text);
    return st;
}

static tacit_status read_settings(const tacit_args *args, tacit_config *config, tacit_err *err)
{
    const char *file = tacit_arg(args, "config"), *one;
    tacit_status st = TACIT_OK;
    if (tacit_flag(args, "resume"))
        st = read_run(config, tacit_arg(args, "out"), err);
    if (st == TACIT_OK)
        st = tacit_config_preset(config, tacit_arg(args, "preset"), err);
    if (st == TACIT_OK && file)
        st = tacit_config_read(config, file, err);
    for (size_t i = 0; st == TACIT_OK && (one = tacit_arg_each(args, "set", i)); i++)
        st = tacit_config_set(config, one, err);
    for (size_t i = 0; st == TACIT_OK && i < sizeof settings / sizeof *settings; i++) {
        char text[2 * TACIT_SETTING_TEXT];
        const char *value = tacit_arg(args, settings[i][0]);
        if (value &&
            snprintf(text, sizeof text, "%s=%s", settings[i][1], value) >= (int)sizeof text)
            st = tacit_fail(err, TACIT_EINVAL, "--%s: too long", settings[i][0]);
        else if (value)
            st = tacit_config_set(config, text, err);
    }
    return st;
}

/* What is said -------------------------------------------------------------------------------- */

struct report {
    const tacit_args *args;
    const char *method;
    bool terminal;
    double start, shown;
    uint64_t first;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_say(void *ctx, const char *line)
{
    const struct report *report = ctx;
    fprintf(stderr, "%stacit %s: %s\n", report->terminal ? "\r\033[K" : "",
            report->args->command->name, line);
}

static void on_progress(void *ctx, const tacit_progress *p)
{
    struct report *report = ctx;
    double now = seconds();
    if (!report->start) {
        report->start = now;
        report->first = p->step->step;
    }
    if (!report->terminal || now - report->shown < 0.2)
        return;
    report->shown = now;
    char bar[31];
    memset(bar, '.', 30);
    memset(bar, '#', (size_t)(30 * p->step->step / p->steps));
    bar[30] = 0;
    uint64_t done = p->step->step - report->first;
    unsigned long left = done ? (unsigned long)((now - report->start) / (double)done *
                                                (double)(p->steps - p->step->step))
                              : 0;
    fprintf(
        stderr,
        "\r[%s] step %llu/%llu, epoch %llu, loss %.4g, %.0f images/s, %lu:%02lu:%02lu left\033[K",
        bar, (unsigned long long)p->step->step, (unsigned long long)p->steps,
        (unsigned long long)p->step->epoch, p->step->loss, p->images_s, left / 3600, left / 60 % 60,
        left % 60);
}

static json_int_t peak_bytes(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (json_int_t)usage.ru_maxrss * 1024 : 0;
}

static int say_result(const struct report *report, const tacit_trainer_result *r)
{
    const tacit_args *args = report->args;
    if (tacit_flag(args, "json")) {
        json_t *line = json_pack(
            "{s:s, s:s, s:I, s:I, s:I, s:f, s:f, s:f, s:I, s:I}", "method", report->method, "out",
            tacit_arg(args, "out"), "first_step", (json_int_t)r->first, "step", (json_int_t)r->step,
            "steps", (json_int_t)r->steps, "loss", r->loss, "wall_s", r->seconds, "images_s",
            r->images_s, "peak_bytes", peak_bytes(), "bad_images", (json_int_t)r->bad_images);
        if (line && r->knn_rows && json_object_set_new(line, "knn_top1", json_real(r->knn_top1))) {
            json_decref(line);
            line = NULL;
        }
        return tacit_cli_json(args, line) ? tacit_cli_done(args) : TACIT_EXIT_FAILED;
    }
    fprintf(stderr, "tacit %s: %s at step %llu of %llu", args->command->name,
            tacit_arg(args, "out"), (unsigned long long)r->step, (unsigned long long)r->steps);
    if (r->step > r->first)
        fprintf(stderr, ", loss %.6g, %.1f s, %.1f images/s", r->loss, r->seconds, r->images_s);
    if (r->bad_images)
        fprintf(stderr, ", %zu images could not be used", r->bad_images);
    fputc('\n', stderr);
    return tacit_cli_done(args);
}

static int say_estimate(const struct report *report, const tacit_estimate *e)
{
    const tacit_args *args = report->args;
    double total = e->step_s * (double)e->steps;
    if (tacit_flag(args, "json")) {
        json_t *line = json_pack(
            "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:f, s:f}", "method",
            report->method, "arch", e->arch, "images", (json_int_t)e->images, "steps",
            (json_int_t)e->steps, "epoch_steps", (json_int_t)e->epoch_steps, "parameters",
            (json_int_t)e->trained, "backbone_parameters", (json_int_t)e->backbone, "flops_step",
            e->flops, "bytes_step", e->bytes, "parameter_bytes", (json_int_t)e->parameter_bytes,
            "activation_bytes", (json_int_t)e->activation_bytes, "loader_bytes",
            (json_int_t)e->loader_bytes, "peak_bytes", (json_int_t)e->peak_bytes, "step_s",
            e->step_s, "wall_s", total);
        return tacit_cli_json(args, line) ? tacit_cli_done(args) : TACIT_EXIT_FAILED;
    }
    printf("network       %s\n"
           "parameters    %.3f M trained, %.3f M in the backbone\n"
           "steps         %llu, of %llu to an epoch of %llu images\n"
           "a step        %.4g GFLOP, %.4g GB moved at least\n"
           "memory        %.0f MiB: parameters, gradients, optimiser %.0f, activations %.0f, "
           "batches %.0f, the rest the program and the data set\n",
           e->arch, (double)e->trained * 1e-6, (double)e->backbone * 1e-6,
           (unsigned long long)e->steps, (unsigned long long)e->epoch_steps,
           (unsigned long long)e->images, e->flops * 1e-9, e->bytes * 1e-9,
           (double)e->peak_bytes * 0x1p-20, (double)e->parameter_bytes * 0x1p-20,
           (double)e->activation_bytes * 0x1p-20, (double)e->loader_bytes * 0x1p-20);
    unsigned long s = (unsigned long)total;
    if (e->step_s > 0)
        printf("time          %lu:%02lu:%02lu, %.3f s a step, without the data\n", s / 3600,
               s / 60 % 60, s % 60, e->step_s);
    else
        printf("time          unknown: the machine has %.0f MiB of memory; a larger accumulate "
               "needs less\n",
               (double)e->machine_bytes * 0x1p-20);
    return tacit_cli_done(args);
}

/* The run ------------------------------------------------------------------------------------- */

/* Whether the settings fit each other. */
static bool fits(const tacit_trainer_options *o, tacit_err *err)
{
    tacit_engine engine;
    tacit_status st = tacit_engine_declare(&engine, o->config, o->kernels, o->pool, err);
    tacit_engine_close(&engine);
    return st != TACIT_EINVAL; /* of all else the run will tell */
}

static int train(const tacit_args *args, tacit_trainer_options *o)
{
    tacit_err err;
    tacit_trainer_result result;
    tacit_estimate estimate;
    const char *term = getenv("TERM");
    struct report report = { .args = args,
                             .method = o->config->method->name,
                             .terminal = isatty(STDERR_FILENO) && term && strcmp(term, "dumb") };
    o->ctx = &report;
    o->say = on_say;
    o->progress = on_progress;
    if (tacit_flag(args, "dry-run"))
        return tacit_train_estimate(o, &estimate, &err) < 0 ? tacit_cli_failed(args, &err)
                                                            : say_estimate(&report, &estimate);
    tacit_status st = tacit_train(o, &result, &err);
    if (report.terminal)
        fputs("\r\033[K", stderr); /* the bar */
    if (st >= 0)
        return say_result(&report, &result);
    tacit_cli_failed(args, &err);
    if (st != TACIT_ECANCELLED)
        return TACIT_EXIT_FAILED;
    fprintf(stderr, "tacit %s: add --resume to go on from there\n", args->command->name);
    return 128 + atomic_load(o->stop);
}

static tacit_status read_operands(const tacit_training *t, const tacit_args *args,
                                  tacit_trainer_options *o, tacit_err *err)
{
    int count = args->operand_count - t->operand;
    if (count < 1)
        return tacit_fail(err, TACIT_EINVAL,
                          "the name of a %s is missing: 'tacit %s --list' lists them", t->kind,
                          args->command->name);
    if (!method_of(t, args))
        return tacit_fail(err, TACIT_EINVAL, "there is no %s '%.60s': 'tacit %s --list' lists them",
                          t->kind, args->operands[t->operand], args->command->name);
    if (count > 1)
        return tacit_fail(err, TACIT_EINVAL, "unexpected argument '%.200s'",
                          args->operands[t->operand + 1]);
    o->out = tacit_arg(args, "out");
    if ((!o->out || !*o->out) && (!tacit_flag(args, "dry-run") || tacit_flag(args, "resume")))
        return tacit_fail(err, TACIT_EINVAL, "--out is missing: the run's folder");
    return TACIT_OK;
}

int tacit_training_run(const tacit_training *t, const tacit_args *args)
{
    tacit_err err;
    tacit_threads threads;
    tacit_isa isa;
    tacit_pool *pool = NULL;
    tacit_config config;
    unsigned asked = 0, steps = 0;
    tacit_trainer_options o = { .config = &config, .resume = tacit_flag(args, "resume") };
    if (tacit_flag(args, "list")) {
        list_methods(t);
        return tacit_cli_done(args);
    }
    if (read_operands(t, args, &o, &err) < 0 ||
        tacit_arg_unsigned(args, "threads", 1, 1024, &asked, &err) < 0 ||
        tacit_arg_unsigned(args, "steps", 1, 999999999, &steps, &err) < 0 ||
        tacit_threads_select(asked, &threads, &err) < 0 || tacit_isa_select(NULL, &isa, &err) < 0)
        return tacit_cli_usage(args, &err);
    o.stop_after = steps;
    o.kernels = tacit_kernels_for(isa);
    tacit_status st = tacit_config_open(&config, method_of(t, args), &err);
    if (st == TACIT_OK)
        st = read_settings(args, &config, &err);
    int status;
    if (st < 0) {
        status = st == TACIT_EINVAL ? tacit_cli_usage(args, &err) : tacit_cli_failed(args, &err);
    } else if (tacit_pool_open(&pool, threads.use, &err) < 0) {
        status = tacit_cli_failed(args, &err);
    } else {
        o.stop = tacit_catch_signals();
        o.pool = pool;
        status = fits(&o, &err) ? train(args, &o) : tacit_cli_usage(args, &err);
    }
    tacit_pool_close(&pool);
    tacit_config_close(&config);
    return status;
}
