/* cmd_serve.c - tacit serve: options, the parts put together, what is said at the end. */
#include "cmd.h"

#include "batch.h"
#include "batcher.h"
#include "clients.h"
#include "cpu.h"
#include "listener.h"
#include "mem.h"
#include "meter.h"
#include "model_args.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static const tacit_option options[] = {
    TACIT_WEIGHTS_OPTION,
    { "socket", "PATH", NULL,
      "serve many clients on a Unix socket of this name, until a signal (default: standard input "
      "and output, until the end of the input)",
      false },
    TACIT_MODEL_OPTIONS,
    { "batch", "N", NULL,
      "images that go through the network together, at most: what waits when it becomes free; "
      "changes no bit of a vector (default: as many as threads, up to 8)",
      false },
    { "queue", "N", "16", "requests of a client that are read ahead of its answers", false },
    { "clients", "N", "64", "connections at a time; further ones wait", false },
    { "threads", "N", NULL, "threads (default: what the machine allows this process)", false },
    TACIT_PRECISION_OPTION("fp32"),
    { "json", NULL, NULL, "print the last line, the latencies, as one JSON object", false },
};

struct serving {
    const tacit_args *args;
    tacit_model_args model_args;
    unsigned batch_most, queue, clients, threads;
    const atomic_int *stop;
    tacit_pool *pool;
    tacit_model model;
    tacit_batch *batch;
    tacit_batcher *batcher;
    tacit_listener listener;
    int wake;
    tacit_clients_result result;
    uint64_t *sizes; /* (batch_most + 1): batches of each size */
};

static tacit_status read_settings(struct serving *s, tacit_err *err)
{
    tacit_status st;
    if ((st = tacit_model_args_read(s->args, &s->model_args, err)) < 0 ||
        (st = tacit_arg_unsigned(s->args, "batch", 1, TACIT_BATCH_MOST, &s->batch_most, err)) < 0 ||
        (st = tacit_arg_unsigned(s->args, "queue", 1, 4096, &s->queue, err)) < 0 ||
        (st = tacit_arg_unsigned(s->args, "clients", 1, 4096, &s->clients, err)) < 0)
        return st;
    return tacit_arg_unsigned(s->args, "threads", 1, 1024, &s->threads, err);
}

static tacit_status open_all(struct serving *s, unsigned threads, tacit_err *err)
{
    tacit_status st;
    const char *path = tacit_arg(s->args, "socket");
    s->batch_most = s->batch_most ? s->batch_most : tacit_batch_default(threads);
    if ((st = tacit_pool_open(&s->pool, threads, err)) < 0 ||
        (st = tacit_model_open(&s->model, &s->model_args.model, false, s->pool, err)) < 0)
        return st;
    tacit_model_say(s->args, &s->model);
    s->sizes = tacit_calloc(s->batch_most + 1, sizeof *s->sizes);
    if (!s->sizes)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    if ((s->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
        return tacit_fail_errno(err, "an event");
    tacit_signals_wake(s->wake);
    if ((st = tacit_batch_open(&s->batch, &s->model, s->batch_most, s->pool, err)) < 0)
        return st;
    tacit_batch_warm(s->batch);
    if (path && (st = tacit_listener_open(&s->listener, path, err)) < 0)
        return st;
    return tacit_batcher_open(&s->batcher, s->batch, err);
}

static void close_all(struct serving *s)
{
    tacit_listener_close(&s->listener);
    tacit_batcher_close(&s->batcher);
    tacit_signals_wake(-1);
    if (s->wake >= 0)
        close(s->wake);
    tacit_batch_close(&s->batch);
    tacit_model_close(&s->model);
    tacit_pool_close(&s->pool);
    tacit_free(s->sizes);
}

static json_t *report_json(const struct serving *s, uint64_t batches)
{
    const tacit_clients_result *r = &s->result;
    json_t *sizes = json_object();
    for (unsigned n = 1; sizes && n <= s->batch_most; n++) {
        char name[16];
        snprintf(name, sizeof name, "%u", n);
        if (s->sizes[n] &&
            json_object_set_new(sizes, name, json_integer((json_int_t)s->sizes[n]))) {
            json_decref(sizes);
            sizes = NULL;
        }
    }
    return json_pack("{s:I, s:I, s:I, s:f, s:f, s:f, s:f, s:I, s:o}", "count",
                     (json_int_t)r->vectors, "errors", (json_int_t)r->errors, "lost",
                     (json_int_t)r->lost, "p50_s", tacit_histogram_quantile(&r->times, 0.5),
                     "p99_s", tacit_histogram_quantile(&r->times, 0.99), "p999_s",
                     tacit_histogram_quantile(&r->times, 0.999), "max_s",
                     1e-9 * (double)r->times.longest, "batches", (json_int_t)batches, "batch_sizes",
                     sizes);
}

/* The last line, on stderr: standard output is for answers. False where memory is short. */
static bool report(struct serving *s)
{
    const tacit_clients_result *r = &s->result;
    uint64_t batches = 0, images = 0;
    unsigned largest = 0;
    tacit_batcher_sizes(s->batcher, s->sizes);
    for (unsigned n = 1; n <= s->batch_most; n++) {
        batches += s->sizes[n];
        images += n * s->sizes[n];
        largest = s->sizes[n] ? n : largest;
    }
    if (tacit_flag(s->args, "json")) {
        json_t *line = report_json(s, batches);
        bool good = line && !json_dumpf(line, stderr, JSON_COMPACT | JSON_REAL_PRECISION(9));
        json_decref(line);
        fputc('\n', stderr);
        return good;
    }
    fprintf(stderr,
            "tacit serve: %llu vectors, %llu errors, %llu lost; latency p50 %.3f ms, p99 %.3f ms, "
            "p99.9 %.3f ms, longest %.3f ms; %llu batches, %.2f images each, at most %u\n",
            (unsigned long long)r->vectors, (unsigned long long)r->errors,
            (unsigned long long)r->lost, 1e3 * tacit_histogram_quantile(&r->times, 0.5),
            1e3 * tacit_histogram_quantile(&r->times, 0.99),
            1e3 * tacit_histogram_quantile(&r->times, 0.999), 1e-6 * (double)r->times.longest,
            (unsigned long long)batches, batches ? (double)images / (double)batches : 0, largest);
    return true;
}

/* With everything open. */
static int serve(struct serving *s)
{
    tacit_err err;
    tacit_clients_options o = {
        .batcher = s->batcher,
        .batch = s->batch_most,
        .dim = s->model.dim,
        .queue = s->queue,
        .clients = s->clients,
        .wake = s->wake,
        .stop = s->stop,
    };
    bool socket = s->listener.fd >= 0;
    if (socket)
        fprintf(stderr, "tacit serve: ready on %s\n", s->listener.path);
    tacit_status st = socket
                          ? tacit_clients_listen(&o, &s->listener, &s->result, &err)
                          : tacit_clients_stream(&o, STDIN_FILENO, STDOUT_FILENO, &s->result, &err);
    if (!report(s) && st >= 0)
        st = tacit_fail(&err, TACIT_ENOMEM, "out of memory for the latencies");
    if (st < 0)
        return tacit_cli_failed(s->args, &err);
    /* A signal is how a server ends; of an input it may have left something. */
    int number = socket ? 0 : atomic_load(s->stop);
    return number ? 128 + number : TACIT_EXIT_DONE;
}

static int run(const tacit_args *args)
{
    struct serving s = { .args = args, .listener.fd = -1, .wake = -1 };
    tacit_threads threads;
    tacit_err err;
    if (read_settings(&s, &err) < 0 || tacit_threads_select(s.threads, &threads, &err) < 0)
        return tacit_cli_usage(args, &err);
    s.stop = tacit_catch_signals();
    tacit_status st = open_all(&s, threads.use, &err);
    int status = st >= 0              ? serve(&s)
                 : st == TACIT_EINVAL ? tacit_cli_usage(args, &err)
                                      : tacit_cli_failed(args, &err);
    close_all(&s);
    return status;
}

const tacit_command tacit_cmd_serve = {
    .name = "serve",
    .summary = "keep a backbone hot: paths or images in, vectors out",
    .details =
        "Each line of input is the path of an image file (from the folder in which the server was "
        "started), or 'bytes N' with N bytes of a JPEG or "
        "PNG right behind it (a file whose name begins so is ./bytes). Each gets one line of JSON, "
        "in the order of the client's requests: path and vector, with all digits that a float32 "
        "needs, or path, status and error; path is null for bytes. A vector has the bits that "
        "'tacit extract' gives. The network takes what waits when it becomes free, so that no "
        "request waits for others to come. Limits: lines of 4095 bytes, 32 MiB of images' bytes of "
        "a client at a time. SIGINT and SIGTERM end it: what was taken up is answered, the socket "
        "removed. The last line on standard error tells the latencies of the vectors, from the "
        "last byte of the request read to the last of the answer written.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
