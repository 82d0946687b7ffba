/* trainer.c - see trainer.h.
 *
 * A step's line is in the log before its state is in a checkpoint, so that whatever instant a run
 * is killed at, the lines up to the checkpoint are all there.
 */
#include "trainer.h"

#include "backbone_file.h"
#include "encoder.h"
#include "knn_watch.h"
#include "loader_feed.h"
#include "pictures.h"
#include "rng.h"
#include "run_folder.h"
#include "watch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define LINE 2048
#define SAID 20 /* bad images */

#define PICTURES        16 /* images of a sheet */
#define PICTURE_COLUMNS 2

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

typedef struct trainer {
    const tacit_trainer_options *o;
    const tacit_config *config;
    tacit_trainer_result *result;
    tacit_engine engine;
    tacit_loader_feed images;
    const tacit_feed *batches;
    tacit_feed feed; /* batches, until it is to stop */
    tacit_run_folder folder;
    tacit_watch watch;
    atomic_size_t bad;       /* images */
    bool look, warned;       /* at this step; of a collapse */
    bool warned_epoch;       /* of one that an epoch's end tells */
    double begun, saved_at;  /* when */
    uint64_t end;            /* the step to stop at */
    tacit_step since;        /* times since the last line, and that line's step */
    double line_at, aside_s; /* when it was; seconds since then that went to other things */
} trainer;

static void say(const trainer *t, const char *line)
{
    if (t->o->say)
        t->o->say(t->o->ctx, line);
}

/* By the loader, one at a time. */
static void say_bad(void *ctx, const char *line)
{
    trainer *t = ctx;
    size_t n = atomic_fetch_add(&t->bad, 1);
    if (n < SAID)
        say(t, line);
    else if (n == SAID)
        say(t, "more images that cannot be used are counted, and not told");
}

static bool stopped(const trainer *t)
{
    return t->o->stop && atomic_load(t->o->stop);
}

/* A step of many parts can be long: it is left between two of them, as if it had not begun. */
static tacit_status next_batch(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                               tacit_err *err)
{
    const trainer *t = ctx;
    return stopped(t) ? tacit_fail(err, TACIT_ECANCELLED, "stopped")
                      : t->batches->next(t->batches->ctx, epoch, index, batch, err);
}

/* Opening ------------------------------------------------------------------------------------- */

static void look(void *ctx)
{
    trainer *t = ctx;
    const tacit_method *m = t->engine.method;
    if (!t->look)
        return;
    const tacit_embeddings features = m->embeddings(t->engine.state);
    tacit_watch_look(&t->watch, &features);
    if (m->outputs) {
        const tacit_embeddings outputs = m->outputs(t->engine.state);
        tacit_watch_look_outputs(&t->watch, &outputs);
    }
}

static tacit_status open_watch(trainer *t, tacit_err *err)
{
    const tacit_method *m = t->engine.method;
    size_t dim = m->embeddings(t->engine.state).dim;
    size_t outputs = m->outputs ? m->outputs(t->engine.state).dim : 0;
    return tacit_watch_open(&t->watch, dim > outputs ? dim : outputs, err);
}

static tacit_status open_data(trainer *t, tacit_err *err)
{
    const tacit_trainer_options *o = t->o;
    const char *knn = tacit_config_string(t->config, "knn");
    const char *pictures = tacit_config_string(t->config, "pictures");
    tacit_status st = *knn ? tacit_knn_watch_check(knn, err) : TACIT_OK;
    if (st == TACIT_OK && *pictures)
        st = tacit_pictures_check(pictures, err);
    t->batches = o->feed ? o->feed : &t->images.feed;
    if (st == TACIT_OK && !o->feed)
        st = tacit_loader_feed_open(&t->images, &t->engine, say_bad, t, err);
    t->feed = (tacit_feed){ t, t->batches->parts, next_batch };
    return st == TACIT_OK ? tacit_engine_schedule(&t->engine, t->feed.parts, err) : st;
}

static size_t machine_bytes(void)
{
    return (size_t)sysconf(_SC_PHYS_PAGES) * (size_t)sysconf(_SC_PAGESIZE);
}

/* A run that the system would end for the memory it takes is not begun. */
static tacit_status check_memory(const tacit_engine *e, tacit_err *err)
{
    size_t parameters, rest, machine = machine_bytes();
    tacit_status st = tacit_engine_plan(e, &parameters, &rest, err);
    if (st == TACIT_OK && (parameters >= machine || rest >= machine - parameters))
        st = tacit_fail(err, TACIT_ELIMIT,
                        "the run takes %.0f MiB of memory, the machine has %.0f: a larger "
                        "accumulate needs less",
                        ((double)parameters + (double)rest) * 0x1p-20, (double)machine * 0x1p-20);
    return st;
}

static tacit_status open_run(trainer *t, tacit_err *err)
{
    const tacit_trainer_options *o = t->o;
    tacit_engine *e = &t->engine;
    tacit_status st = tacit_engine_declare(e, o->config, o->kernels, o->pool, err);
    if (st == TACIT_OK)
        st = open_data(t, err);
    if (st == TACIT_OK)
        st = check_memory(e, err);
    if (st == TACIT_OK)
        st = tacit_run_folder_open(&t->folder, o->out, o->resume, err);
    if (st == TACIT_OK)
        st = tacit_engine_open(e, err);
    if (st == TACIT_OK)
        st = open_watch(t, err);
    if (st == TACIT_OK && t->folder.begun)
        st = tacit_run_folder_load(&t->folder, e, o->say, o->ctx, err);
    if (st == TACIT_OK)
        st = tacit_run_folder_describe(&t->folder, t->config, err);
    if (st == TACIT_OK)
        st = tacit_run_folder_log_open(&t->folder, e->step, err);
    if (st < 0)
        return st;
    e->look = look;
    e->ctx = t;
    t->end = o->stop_after && o->stop_after < e->steps ? o->stop_after : e->steps;
    t->result->first = t->result->step = e->step;
    t->result->steps = e->steps;
    t->begun = t->saved_at = t->line_at = now();
    return TACIT_OK;
}

/* What is written ------------------------------------------------------------------------------ */

/* Says where a run that came to an end can begin again. */
static tacit_status kept(const trainer *t, tacit_status st, tacit_err *err)
{
    const tacit_err why = *err;
    return t->folder.has_saved ? tacit_fail(err, st, "%.900s; the checkpoint of step %llu is kept",
                                            why.text, (unsigned long long)t->folder.saved)
                               : st;
}

/* What is not finite is not saved over what was. */
static tacit_status save(trainer *t, tacit_err *err)
{
    double start = now();
    tacit_status st = tacit_engine_check(&t->engine, err);
    if (st < 0)
        return kept(t, tacit_fail_at(err, st, "step %llu", (unsigned long long)t->engine.step),
                    err);
    st = tacit_run_folder_save(&t->folder, &t->engine, tacit_config_whole(t->config, "keep"), err);
    t->saved_at = now();
    t->aside_s += t->saved_at - start;
    return st;
}

/* Adds to a line, whose room is more than all names and numbers take. */
static void add(char *line, const char *format, ...) TACIT_PRINTF(2, 3);

static void add(char *line, const char *format, ...)
{
    size_t n = strlen(line);
    va_list args;
    va_start(args, format);
    vsnprintf(line + n, LINE - n, format, args);
    va_end(args);
}

static double images_per_second(const trainer *t, const tacit_step *r)
{
    double seconds = now() - t->line_at - t->aside_s;
    double images = (double)(r->step - t->since.step) * (double)t->engine.learner.whole;
    return seconds > 0 ? images / seconds : 0;
}

static tacit_status write_line(trainer *t, const tacit_step *r, bool classified, tacit_err *err)
{
    char line[LINE] = "";
    const char *const *names = t->engine.method->loss_parts;
    const tacit_watch *w = &t->watch;
    add(line, "{\"step\":%llu,\"epoch\":%llu,\"loss\":%.9g", (unsigned long long)r->step,
        (unsigned long long)r->epoch, r->loss);
    for (size_t i = 0; names[i]; i++)
        add(line, ",\"%s\":%.9g", names[i], r->parts[i]);
    add(line, ",\"rate\":%.9g,\"weight_decay\":%.9g,\"gradient_norm\":%.9g", r->rate, r->decay,
        r->gradient);
    if (t->look && w->seen)
        add(line, ",\"spread\":%.6g,\"effective_rank\":%.6g,\"uniformity\":%.6g", w->spread,
            w->rank, w->uniformity);
    if (t->look && w->seen && w->pairs)
        add(line, ",\"alignment\":%.6g", w->alignment);
    if (t->look && w->seen_outputs)
        add(line, ",\"output_spread\":%.6g,\"output_rank\":%.6g", w->output_spread, w->output_rank);
    if (classified)
        add(line, ",\"knn_top1\":%.6g,\"knn_rows\":%zu", t->result->knn_top1, t->result->knn_rows);
    add(line,
        ",\"images_s\":%.6g,\"data_s\":%.6g,\"forward_s\":%.6g,\"backward_s\":%.6g,"
        "\"optimiser_s\":%.6g}\n",
        images_per_second(t, r), t->since.data_s, t->since.forward_s, t->since.backward_s,
        t->since.optimiser_s);
    t->since = (tacit_step){ .step = r->step };
    t->aside_s = 0;
    t->line_at = now();
    return tacit_run_folder_log(&t->folder, line, err);
}

/* Every `each` steps, and at the run's end. */
static bool due(const trainer *t, uint64_t each)
{
    uint64_t step = t->engine.step;
    return (each && step % each == 0) || step == t->engine.steps;
}

/* k-NN; where it fails the run goes on without. */
static bool classify(trainer *t)
{
    const tacit_knn_watch_options options = {
        .images = tacit_config_string(t->config, "knn"),
        .k = tacit_config_whole(t->config, "knn_k"),
        .temperature = tacit_config_number(t->config, "knn_temperature"),
        .kernels = t->o->kernels,
        .pool = t->o->pool,
    };
    double start = now();
    tacit_err err = { "out of memory for k-NN" };
    char text[sizeof err.text + 64],
        *path = tacit_run_folder_name(&t->folder, "backbone.safetensors");
    tacit_status st = path ? tacit_backbone_file_write(path, &t->engine, &err) : TACIT_ENOMEM;
    if (st == TACIT_OK)
        st = tacit_knn_watch(&options, path, &t->result->knn_top1, &t->result->knn_rows, &err);
    tacit_free(path);
    t->aside_s += now() - start;
    if (st < 0)
        t->result->knn_rows = 0;
    else
        snprintf(err.text, sizeof err.text, "k-NN (k = %zu) of %zu images: %.2f %%", options.k,
                 t->result->knn_rows, t->result->knn_top1);
    snprintf(text, sizeof text, "step %llu: %s", (unsigned long long)t->engine.step, err.text);
    say(t, text);
    return st == TACIT_OK;
}

static tacit_picture_options pictures_of(const tacit_config *config)
{
    return (tacit_picture_options){ .images = tacit_config_string(config, "pictures"),
                                    .count = PICTURES,
                                    .columns = PICTURE_COLUMNS };
}

/* A sheet of what is reconstructed; where it fails the run goes on without. */
static void draw(trainer *t)
{
    const tacit_picture_options options = pictures_of(t->config);
    unsigned long long step = t->engine.step;
    double start = now();
    tacit_sheet_size size;
    tacit_err err = { "out of memory" };
    char name[64], text[sizeof err.text + 64];
    snprintf(name, sizeof name, "pictures-%llu.png", step);
    char *path = tacit_run_folder_name(&t->folder, name);
    tacit_status st =
        path ? tacit_pictures_write(path, &t->engine, &options, &size, &err) : TACIT_ENOMEM;
    tacit_free(path);
    t->aside_s += now() - start;
    if (st < 0)
        snprintf(text, sizeof text, "step %llu: pictures: %s", step, err.text);
    else
        snprintf(text, sizeof text, "step %llu: %zu images are drawn in %s", step, size.images,
                 name);
    say(t, text);
}

static void warn(trainer *t)
{
    char text[250];
    const tacit_watch *w = &t->watch;
    const char *what = t->look ? tacit_watch_collapse(w) : NULL;
    if (t->warned || !what)
        return;
    t->warned = true;
    int n = snprintf(text, sizeof text, "step %llu: collapse: %s (spread %.3g, effective rank %.3g",
                     (unsigned long long)t->engine.step, what, w->spread, w->rank);
    if (w->seen_outputs)
        snprintf(text + n, sizeof text - (size_t)n, "; there %.3g, %.3g)", w->output_spread,
                 w->output_rank);
    else
        snprintf(text + n, sizeof text - (size_t)n, ")");
    say(t, text);
}

/* At an epoch's end; in the first one much is not yet as it will be. */
static void warn_of_epoch(trainer *t)
{
    const tacit_engine *e = &t->engine;
    char what[128], text[200];
    if (t->warned_epoch || !e->method->collapse || !tacit_config_whole(t->config, "watch_steps") ||
        e->step % e->epoch_steps || e->step == e->epoch_steps ||
        !e->method->collapse(e->state, what, sizeof what))
        return;
    t->warned_epoch = true;
    snprintf(text, sizeof text, "step %llu: collapse: %s", (unsigned long long)e->step, what);
    say(t, text);
}

/* The run ------------------------------------------------------------------------------------- */

/* Behind a step: classification, pictures, log, checkpoint, in this order. */
static tacit_status after_step(trainer *t, const tacit_step *r, tacit_err *err)
{
    const tacit_config *c = t->config;
    uint64_t classify_steps = tacit_config_whole(c, "knn_epochs") * t->engine.epoch_steps;
    uint64_t picture_steps = tacit_config_whole(c, "picture_epochs") * t->engine.epoch_steps;
    bool knn = *tacit_config_string(c, "knn") && due(t, classify_steps);
    double minutes = tacit_config_number(c, "checkpoint_minutes");
    tacit_status st = TACIT_OK;
    t->result->step = r->step;
    t->result->loss = r->loss;
    t->since.data_s += r->data_s;
    t->since.forward_s += r->forward_s;
    t->since.backward_s += r->backward_s;
    t->since.optimiser_s += r->optimiser_s;
    warn(t);
    warn_of_epoch(t);
    if (t->o->progress) {
        tacit_progress progress = { r, t->end, images_per_second(t, r) };
        t->o->progress(t->o->ctx, &progress);
    }
    knn = knn && classify(t);
    if (*tacit_config_string(c, "pictures") && picture_steps && due(t, picture_steps))
        draw(t);
    if (st == TACIT_OK && (knn || t->look || due(t, tacit_config_whole(c, "log_steps"))))
        st = write_line(t, r, knn, err);
    if (st == TACIT_OK && t->engine.step < t->end && !stopped(t) &&
        (due(t, tacit_config_whole(c, "checkpoint_steps")) ||
         (minutes > 0 && now() - t->saved_at > 60 * minutes)))
        st = save(t, err);
    return st;
}

static tacit_status steps(trainer *t, tacit_err *err)
{
    tacit_engine *e = &t->engine;
    uint64_t watch = tacit_config_whole(t->config, "watch_steps");
    tacit_step r;
    tacit_status st = TACIT_OK;
    t->since.step = e->step;
    while (st == TACIT_OK && e->step < t->end && !stopped(t)) {
        t->look = watch && ((e->step + 1) % watch == 0 || e->step + 1 == e->steps);
        t->watch.seen = t->watch.seen_outputs = false;
        st = tacit_engine_step(e, &t->feed, &r, err);
        if (st == TACIT_EFORMAT) /* not finite */
            return kept(t, st, err);
        if (st < 0 && st != TACIT_ECANCELLED) { /* of the data; the last step is still good */
            tacit_err other;
            save(t, &other);
            return kept(t, st, err);
        }
        if (st == TACIT_OK)
            st = after_step(t, &r, err);
    }
    if (st == TACIT_OK || st == TACIT_ECANCELLED)
        st = save(t, err); /* though it be saved: a kill may have come before the backbone */
    if (st == TACIT_OK && stopped(t) && e->step < t->end)
        st = tacit_fail(err, TACIT_ECANCELLED, "stopped and saved at step %llu of %llu",
                        (unsigned long long)e->step, (unsigned long long)e->steps);
    return st;
}

tacit_status tacit_train(const tacit_trainer_options *options, tacit_trainer_result *result,
                         tacit_err *err)
{
    tacit_err own;
    trainer t = { .o = options, .config = options->config, .result = result };
    t.folder = (tacit_run_folder){ .lock = -1, .log = -1 };
    err = err ? err : &own;
    *result = (tacit_trainer_result){ 0 };
    tacit_status st = open_run(&t, err);
    if (st == TACIT_OK)
        st = steps(&t, err);
    result->bad_images = atomic_load(&t.bad);
    result->seconds = t.begun > 0 ? now() - t.begun : 0;
    if (result->seconds > 0)
        result->images_s = (double)(result->step - result->first) * (double)t.engine.learner.whole /
                           result->seconds;
    tacit_watch_close(&t.watch);
    tacit_run_folder_close(&t.folder);
    tacit_loader_feed_close(&t.images);
    tacit_engine_close(&t.engine);
    return st;
}

/* Estimate ------------------------------------------------------------------------------------ */

/* A batch of noise. */
typedef struct noise {
    float *pixels; /* of the largest view; all are the same */
    const float *views[TACIT_METHOD_VIEWS];
    uint32_t *samples;
} noise;

static tacit_status next_noise(void *ctx, uint64_t epoch, uint64_t index, tacit_batch *batch,
                               tacit_err *err)
{
    const noise *n = ctx;
    (void)err;
    *batch = (tacit_batch){ epoch, index, n->samples, n->views };
    return TACIT_OK;
}

static tacit_status noise_open(noise *n, const tacit_engine *e, tacit_err *err)
{
    tacit_view views[TACIT_METHOD_VIEWS];
    size_t count, side = 0, values;
    *n = (noise){ 0 };
    tacit_status st = tacit_loader_feed_views(e, views, &count, err);
    if (st < 0)
        return st;
    for (size_t v = 0; v < count; v++)
        side = views[v].size > side ? views[v].size : side;
    if (tacit_mul_size(e->learner.part * 3 * sizeof(float), side * side, &values))
        n->pixels = tacit_alloc(values);
    n->samples = tacit_calloc(e->learner.part, sizeof *n->samples);
    if (!n->pixels || !n->samples)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a batch");
    for (size_t i = 0; i < values / sizeof(float); i++)
        n->pixels[i] = tacit_rng_uniform(1, 2, i) * 4 - 2;
    for (size_t i = 0; i < e->learner.part; i++)
        n->samples[i] = (uint32_t)i;
    for (size_t v = 0; v < TACIT_METHOD_VIEWS; v++)
        n->views[v] = n->pixels;
    return TACIT_OK;
}

/* Whether each image goes forward twice: in its step, or in it and before its epoch. */
static bool goes_twice(const tacit_method *method, size_t parts)
{
    return (parts > 1 && method->joint) || method->surveys;
}

/* The second of two steps of one part, as many times as a step has parts; within an epoch, so that
 * it is none of what comes before its first. */
static tacit_status time_part(const tacit_trainer_options *o, size_t parts, uint64_t epoch_parts,
                              double *seconds, tacit_err *err)
{
    static const char *const still[] = { "accumulate=1", "lr=0", "warmup_epochs=0" };
    tacit_config config;
    tacit_engine e = { 0 };
    tacit_step r;
    noise n = { 0 };
    size_t part = tacit_config_whole(o->config, "batch") / parts;
    char text[64], *all = tacit_config_text(o->config);
    tacit_status st = tacit_config_open(&config, o->config->method, err);
    if (st == TACIT_OK && !all)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory");
    if (st == TACIT_OK)
        st = tacit_config_parse(&config, all, "settings", err);
    snprintf(text, sizeof text, "batch=%zu", part > 1 || !o->config->method->joint ? part : 2);
    if (st == TACIT_OK)
        st = tacit_config_set(&config, text, err);
    for (size_t i = 0; st == TACIT_OK && i < sizeof still / sizeof *still; i++)
        st = tacit_config_set(&config, still[i], err);
    if (st == TACIT_OK)
        st = tacit_engine_declare(&e, &config, o->kernels, o->pool, err);
    if (st == TACIT_OK)
        st = tacit_engine_schedule(&e, epoch_parts + 3, err);
    if (st == TACIT_OK)
        st = tacit_engine_open(&e, err);
    if (st == TACIT_OK)
        st = noise_open(&n, &e, err);
    const tacit_feed feed = { &n, epoch_parts, next_noise };
    e.step = 1;
    for (int i = 0; st == TACIT_OK && i < 2; i++)
        st = tacit_engine_step(&e, &feed, &r, err);
    if (st == TACIT_OK) {
        double again = goes_twice(config.method, parts) ? r.forward_s : 0;
        *seconds = (double)parts * (r.forward_s + r.backward_s + again) + r.optimiser_s;
    }
    tacit_free(n.pixels);
    tacit_free(n.samples);
    tacit_free(all);
    tacit_engine_close(&e);
    tacit_config_close(&config);
    return st;
}

static size_t backbone_numbers(const tacit_engine *e)
{
    size_t sum = 0;
    for (size_t i = 0; i < e->params.count; i++) {
        const tacit_param *p = e->params.list[i];
        bool head = false;
        for (const char *const *h = e->method->heads; *h; h++)
            head = head || !strncmp(p->name, *h, strlen(*h));
        sum += head || p->buffer ? 0 : p->count;
    }
    return sum;
}

/* The most that the process has held so far: until its first batch, the program and the data set.
 */
static size_t resident(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) == 0 ? (size_t)usage.ru_maxrss * 1024 : 0;
}

tacit_status tacit_train_estimate(const tacit_trainer_options *o, tacit_estimate *estimate,
                                  tacit_err *err)
{
    tacit_engine e;
    tacit_loader_feed images = { 0 };
    double remembered = 0;
    *estimate = (tacit_estimate){ .machine_bytes = machine_bytes() };
    tacit_status st = tacit_engine_declare(&e, o->config, o->kernels, o->pool, err);
    if (st == TACIT_OK)
        st = tacit_loader_feed_open(&images, &e, o->say, o->ctx, err);
    if (st == TACIT_OK)
        st = tacit_engine_schedule(&e, images.feed.parts, err);
    if (st == TACIT_OK)
        st = tacit_engine_plan(&e, &estimate->parameter_bytes, &estimate->activation_bytes, err);
    if (st == TACIT_OK) {
        bool again = goes_twice(e.method, e.parts);
        if (e.method->vit || e.method->resnet)
            tacit_backbone_name(&e.learner.backbone, estimate->arch, sizeof estimate->arch);
        else
            snprintf(estimate->arch, sizeof estimate->arch, "%s", e.method->name);
        estimate->images = tacit_loader_samples(images.loader);
        estimate->steps = e.steps;
        estimate->epoch_steps = e.epoch_steps;
        estimate->trained = tacit_params_trained(&e.params);
        estimate->backbone = backbone_numbers(&e);
        estimate->loader_bytes = tacit_loader_bytes(images.loader);
        estimate->peak_bytes = resident() + estimate->parameter_bytes + estimate->activation_bytes +
                               estimate->loader_bytes;
        const tacit_picture_options pictures = pictures_of(o->config);
        if (*pictures.images)
            tacit_pictures_plan(&e, &pictures, &estimate->peak_bytes);
        estimate->flops =
            (double)e.learner.whole * e.method->flops(e.state) * (again ? 4.0 / 3 : 1);
        /* parameters, gradients and state are read and written once, of the memory little;
         * activations in each part */
        for (size_t i = 0; i < e.memory.count; i++)
            remembered += (double)e.memory.list[i]->count * sizeof(float);
        estimate->bytes = 2 * ((double)estimate->parameter_bytes - remembered +
                               (double)e.parts * (double)estimate->activation_bytes);
    }
    size_t parts = e.parts;
    uint64_t epoch_parts = images.feed.parts;
    tacit_loader_feed_close(&images);
    tacit_engine_close(&e);
    if (st == TACIT_OK && estimate->peak_bytes < estimate->machine_bytes)
        st = time_part(o, parts, epoch_parts, &estimate->step_s, err);
    return st;
}
