/* bench_extract.c - from the bytes of a JPEG to its vector, as a user meets it.
 *
 * Images are in memory before the clock starts, except in the cold start, which runs this program
 * anew on one file. The FMA rate is measured in turns with the latency, so that the share of the
 * limit is one of the same minutes.
 */
#include "bench.h"
#include "dataset.h"
#include "extractor.h"
#include "measure.h"
#include "mem.h"

#include <jansson.h>
#include <math.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_IMAGES   256
#define MOST_TURNS    2000
#define COLD_STARTS   11
#define SECONDS       6.0 /* for the latency, and for the throughput */
#define SECONDS_ALONE 2.0 /* for the latency where it is one of many repeats */

extern char **environ;

typedef struct pictures {
    tacit_item items[MOST_IMAGES];
    size_t count;
    char *first_file; /* the first that is a file, NULL where there is none */
} pictures;

/* The first MOST_IMAGES usable images of the data set, loaded. */
static tacit_status load_pictures(const char *path, tacit_session *session, pictures *p,
                                  tacit_err *err)
{
    tacit_dataset *set;
    tacit_status st = tacit_dataset_open(&set, path, TACIT_DATASET_AUTO, err);
    if (st < 0)
        return st;
    bool more = true;
    while (p->count < MOST_IMAGES) {
        tacit_item *item = &p->items[p->count];
        if ((st = tacit_dataset_next(set, item, &more, err)) < 0 || !more)
            break;
        if (item->form == TACIT_ITEM_BAD || item->form == TACIT_ITEM_PIXELS ||
            tacit_item_load(item, NULL) < 0 ||
            tacit_session_put(session, 0, item->bytes, item->size, NULL) < 0)
            continue;
        if (item->form == TACIT_ITEM_FILE && !p->first_file &&
            !(p->first_file = tacit_strdup(item->file))) {
            st = tacit_fail(err, TACIT_ENOMEM, "out of memory for a path");
            break;
        }
        p->count++;
    }
    tacit_dataset_close(&set);
    if (st == TACIT_OK && !p->count)
        st =
            tacit_fail(err, TACIT_EINVAL, "%s: no usable JPEG or PNG images to measure with", path);
    return st;
}

static void free_pictures(pictures *p)
{
    for (size_t i = 0; i < MOST_IMAGES; i++)
        tacit_item_free(&p->items[i]);
    tacit_free(p->first_file);
}

/* What both the report and the cold start need, opened in that order. */
typedef struct subject {
    tacit_pool *pool;
    tacit_model model;
    tacit_session session; /* one image at a time, all threads inside it */
    float *vector;
} subject;

static tacit_status open_subject(subject *s, const tacit_bench_options *o, tacit_err *err)
{
    tacit_threads threads;
    tacit_model_options options;
    tacit_model_defaults(&options);
    options.weights = o->weights;
    options.how.arch = o->arch;
    options.precision = o->precision;
    options.cache = o->cache;
    tacit_status st;
    if ((st = tacit_threads_select(o->threads, &threads, err)) < 0 ||
        (st = tacit_pool_open(&s->pool, threads.use, err)) < 0 ||
        (st = tacit_model_open(&s->model, &options, false, s->pool, err)) < 0 ||
        (st = tacit_session_open(&s->session, &s->model, 1, s->pool, err)) < 0)
        return st;
    s->vector = tacit_calloc(s->model.dim, sizeof *s->vector);
    return s->vector ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory for a vector");
}

static void close_subject(subject *s)
{
    tacit_free(s->vector);
    tacit_session_close(&s->session);
    tacit_model_close(&s->model);
    tacit_pool_close(&s->pool);
}

/* Latency ------------------------------------------------------------------------------------- */

typedef struct latency {
    double p50, p90, p99, decode, preprocess, embed, limit, share;
    double cost; /* from the bytes to the vector, in GFLOP of the limit: see tacit_gate */
    size_t images;
} latency;

static tacit_status measure_latency(tacit_session *session, const pictures *p, double seconds,
                                    float *out, latency *l, tacit_err *err)
{
    static double total[MOST_TURNS], embed[MOST_TURNS], limits[MOST_TURNS], shares[MOST_TURNS];
    double flops = tacit_backbone_flops(session->model->backbone);
    double start = tacit_now();
    size_t n = 0;
    tacit_session_times first = session->times;
    for (; n < MOST_TURNS && (n < 20 || tacit_now() - start < seconds); n++) {
        const tacit_item *item = &p->items[n % p->count];
        limits[n] = tacit_fma_limit(session->model->kernels->isa, session->pool, 0.005);
        double before = session->times.embed, t = tacit_now();
        tacit_status st = tacit_session_put(session, 0, item->bytes, item->size, err);
        if (st < 0)
            return st;
        tacit_session_embed(session, 1, out);
        total[n] = tacit_now() - t;
        embed[n] = session->times.embed - before;
        shares[n] = limits[n] > 0 ? flops / embed[n] * 1e-9 / limits[n] : 0;
    }
    l->images = n;
    l->decode = (session->times.decode - first.decode) / (double)n;
    l->preprocess = (session->times.preprocess - first.preprocess) / (double)n;
    l->embed = tacit_quantile(embed, n, 0.5);
    l->limit = tacit_quantile(limits, n, 0.5);
    l->share = tacit_quantile(shares, n, 0.5);
    l->p50 = tacit_quantile(total, n, 0.5);
    l->p90 = tacit_quantile(total, n, 0.9);
    l->p99 = tacit_quantile(total, n, 0.99);
    l->cost = tacit_quantile(total, n, 0.1) * tacit_quantile(limits, n, 0.9);
    return TACIT_OK;
}

/* Throughput ---------------------------------------------------------------------------------- */

typedef struct throughput {
    tacit_session *sessions; /* one for each worker */
    const pictures *p;
    float *out; /* (workers, batch, dim) */
    size_t batch, dim;
    double start;
    _Atomic size_t images;
} throughput;

static void throughput_chunk(void *ctx, size_t chunk, unsigned worker)
{
    throughput *t = ctx;
    if (tacit_now() - t->start > SECONDS)
        return;
    tacit_session *s = &t->sessions[worker];
    for (size_t i = 0; i < t->batch; i++) {
        const tacit_item *item = &t->p->items[(chunk * t->batch + i) % t->p->count];
        if (tacit_session_put(s, i, item->bytes, item->size, NULL) < 0)
            return; /* it was usable when it was loaded */
    }
    tacit_session_embed(s, t->batch, t->out + worker * t->batch * t->dim);
    atomic_fetch_add(&t->images, t->batch);
}

static tacit_status measure_throughput(const tacit_model *model, const pictures *p, size_t batch,
                                       tacit_pool *pool, double *rate, tacit_err *err)
{
    unsigned workers = tacit_pool_threads(pool);
    throughput t = { .p = p, .batch = batch, .dim = model->dim };
    tacit_status st = TACIT_OK;
    t.sessions = tacit_calloc(workers, sizeof *t.sessions);
    t.out = tacit_calloc(workers * batch, model->dim * sizeof *t.out);
    if (!t.sessions || !t.out)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %u workers", workers);
    for (unsigned i = 0; st == TACIT_OK && i < workers; i++)
        st = tacit_session_open(&t.sessions[i], model, batch, NULL, err);
    if (st == TACIT_OK) {
        t.start = tacit_now();
        tacit_parallel_for(pool, (size_t)1 << 24, throughput_chunk, &t);
        *rate = (double)atomic_load(&t.images) / (tacit_now() - t.start);
    }
    for (unsigned i = 0; t.sessions && i < workers; i++)
        tacit_session_close(&t.sessions[i]);
    tacit_free(t.sessions);
    tacit_free(t.out);
    return st;
}

/* Cold start ---------------------------------------------------------------------------------- */

tacit_status tacit_bench_once(const tacit_bench_options *o, FILE *out, tacit_err *err)
{
    subject s = { 0 };
    tacit_item item = { 0 };
    tacit_dataset *set = NULL;
    bool more = false;
    tacit_status st;
    if ((st = open_subject(&s, o, err)) < 0 ||
        (st = tacit_dataset_open(&set, o->images, TACIT_DATASET_AUTO, err)) < 0 ||
        (st = tacit_dataset_next(set, &item, &more, err)) < 0 ||
        (st = tacit_item_load(&item, err)) < 0 ||
        (st = tacit_session_put(&s.session, 0, item.bytes, item.size, err)) < 0)
        goto end;
    tacit_session_embed(&s.session, 1, s.vector);
    fprintf(out, "%.9g\n", (double)s.vector[0]);
    fflush(out);
end:
    tacit_item_free(&item);
    tacit_dataset_close(&set);
    close_subject(&s);
    return st;
}

/* Seconds from spawn to the first byte of output, and the child's peak resident set. */
static tacit_status cold_start(const tacit_bench_options *o, const char *program, const char *file,
                               unsigned threads, double *seconds, double *peak, tacit_err *err)
{
    char count[16];
    snprintf(count, sizeof count, "%u", threads);
    const char *argv[20] = { program,     "bench",       "extract",
                             "--once",    "--precision", tacit_precision_name(o->precision),
                             "--weights", o->weights,    "--images",
                             file,        "--threads",   count };
    size_t n = 12;
    if (o->arch) {
        argv[n++] = "--arch";
        argv[n++] = o->arch;
    }
    if (o->cache) {
        argv[n++] = "--cache";
        argv[n++] = o->cache;
    }
    int out[2];
    if (pipe(out))
        return tacit_fail_errno(err, "pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_addclose(&actions, out[0]);
    pid_t child;
    double start = tacit_now();
    int bad = posix_spawn(&child, program, &actions, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    char byte;
    ssize_t got = bad ? 0 : read(out[0], &byte, 1);
    *seconds = tacit_now() - start;
    close(out[0]);
    int status = 1;
    struct rusage usage = { 0 };
    if (!bad && wait4(child, &status, 0, &usage) < 0)
        status = 1;
    *peak = (double)usage.ru_maxrss * 1024;
    if (bad || got != 1 || status)
        return tacit_fail(err, TACIT_EIO, "%s: could not be run for the cold start", program);
    return TACIT_OK;
}

/* The report ---------------------------------------------------------------------------------- */

tacit_status tacit_bench_extract(const tacit_bench_options *o, const char *program, FILE *out,
                                 tacit_err *err)
{
    static pictures p;
    subject s = { 0 };
    size_t batch = o->batch ? o->batch : 1;
    tacit_status st;
    if ((st = open_subject(&s, o, err)) < 0 ||
        (st = load_pictures(o->images, &s.session, &p, err)) < 0)
        goto end;
    unsigned threads = tacit_pool_threads(s.pool);
    latency l;
    double rate = 0, cold[COLD_STARTS] = { 0 }, peak = 0;
    if ((st = measure_latency(&s.session, &p, o->latency ? SECONDS_ALONE : SECONDS, s.vector, &l,
                              err)) < 0 ||
        (!o->latency && (st = measure_throughput(&s.model, &p, batch, s.pool, &rate, err)) < 0))
        goto end;
    for (size_t i = 0; p.first_file && !o->latency && i < COLD_STARTS; i++) {
        double one = 0;
        if ((st = cold_start(o, program, p.first_file, threads, &cold[i], &one, err)) < 0)
            goto end;
        peak = one > peak ? one : peak;
    }
    double start = tacit_quantile(cold, COLD_STARTS, 0.5), best = cold[0];
    const char *isa = tacit_isa_name(s.model.kernels->isa);
    if (o->json) {
        json_t *all = json_pack(
            "{s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, "
            "s:f}",
            "model", s.model.arch, "precision", tacit_precision_name(s.model.precision), "isa", isa,
            "threads", (int)threads, "batch", (int)batch, "latency_p50_s", l.p50, "latency_p90_s",
            l.p90, "latency_p99_s", l.p99, "decode_s", l.decode, "preprocess_s", l.preprocess,
            "embed_s", l.embed, "fma_gflops", l.limit, "embed_share", l.share, "images_per_s", rate,
            "cold_start_s", start, "cold_start_min_s", best, "peak_bytes", peak, "fma_cost",
            l.cost);
        if (!all || json_dumpf(all, out, JSON_COMPACT | JSON_REAL_PRECISION(6)))
            st = tacit_fail(err, TACIT_EIO, "the result could not be written");
        json_decref(all);
        fputc('\n', out);
    } else {
        fprintf(out,
                "%s in %s on %s, %u threads, %zu images\n"
                "latency     p50 %.2f ms, p90 %.2f ms, p99 %.2f ms, of %zu: JPEG bytes to vector\n"
                "  of which  decode %.2f ms, preprocess %.2f ms, model %.2f ms\n"
                "limit       %.1f GFLOP/s of FMA in the same turns: the model reaches %.1f %%\n"
                "throughput  %.1f images/s, batch %zu, each thread on its own images\n"
                "cold start  %.1f ms from exec to the first vector, at best %.1f ms\n"
                "peak        %.1f MB resident, one image at a time\n",
                s.model.arch, tacit_precision_name(s.model.precision), isa, threads, p.count,
                1e3 * l.p50, 1e3 * l.p90, 1e3 * l.p99, l.images, 1e3 * l.decode, 1e3 * l.preprocess,
                1e3 * l.embed, l.limit, 100 * l.share, rate, batch, 1e3 * start, 1e3 * best,
                peak * 1e-6);
    }
end:
    free_pictures(&p);
    close_subject(&s);
    return st;
}
