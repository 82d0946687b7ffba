/* run.c - claims, batches and a ring of results. See run.h.
 *
 * Invariants:
 *  (1) batches are numbered in the order in which their inputs were pulled, and given to the output
 *      in the order of their numbers;
 *  (2) batch b lies in ring slot b % slots and is claimed only when batch b - slots was flushed, so
 *      results that wait are bounded;
 *  (3) the lowest batch that is not flushed is always in the hands of a worker that waits for
 *      nobody, so the ring cannot jam.
 */
#include "run.h"

#include "index.h"
#include "mem.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <xxhash.h>

/* Features of one batch take at most this, in each slot of the ring. */
#define BATCH_BYTES ((size_t)8 << 20)

struct entry {
    tacit_status status;
    char hash[17];
    size_t begin, end; /* of its line in the slot's text */
    tacit_err problem;
};

struct slot {
    float *rows;      /* of the usable entries, one behind the other */
    uint16_t *halves; /* the same as float16 where that is wanted   */
    struct entry *entries;
    size_t count;
    char *text;
    size_t text_capacity;
    bool done, aborted;
};

struct worker {
    tacit_session session;
    tacit_item *items;
    size_t count;
    uint8_t *bytes; /* lent to one item after the other: files are held one at a time */
    size_t bytes_capacity;
};

struct run {
    const tacit_run_options *options;
    tacit_dataset *set;
    tacit_output *output;
    tacit_run_result *result;
    size_t batch, workers_count, slots_count;
    struct worker *workers;
    struct slot *slots;
    uint64_t total; /* lines at the end; 0 = not known */

    pthread_mutex_t input; /* guards set, position, passed and the numbering of batches */
    uint64_t position;     /* index of the input that comes next */
    tacit_item passed;     /* inputs of other shards */

    pthread_mutex_t state; /* guards all below, and slots' done */
    pthread_cond_t flushed_more;
    uint64_t claimed, flushed;
    bool ended, flushing;
    tacit_status status;
    tacit_err err;
};

const char *tacit_reason(tacit_status status)
{
    return status == TACIT_EIO ? "unreadable" : tacit_status_word(status);
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool must_stop(const struct run *run)
{
    return run->options->stop && atomic_load_explicit(run->options->stop, memory_order_relaxed);
}

/* No more claims; the first failure is the one that is told. */
static void end_run(struct run *run, tacit_status status, const tacit_err *err)
{
    pthread_mutex_lock(&run->state);
    if (status < 0 && run->status == TACIT_OK) {
        run->status = status;
        run->err = *err;
    }
    run->ended = true;
    pthread_cond_broadcast(&run->flushed_more);
    pthread_mutex_unlock(&run->state);
}

/* Input --------------------------------------------------------------------------------------- */

/* The next input of this shard. Needs the input lock. */
static tacit_status pull(struct run *run, tacit_item *item, bool skip, bool *more, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    *more = true;
    while (run->position % run->options->shards != run->options->shard - 1) {
        st = tacit_dataset_skip(run->set, &run->passed, more, err);
        if (st < 0 || !*more)
            return st;
        run->position++;
    }
    st = (skip ? tacit_dataset_skip : tacit_dataset_next)(run->set, item, more, err);
    if (st >= 0 && *more)
        run->position++;
    return st;
}

/* Passes over the inputs of the lines that were kept. */
static tacit_status pass_kept(struct run *run, tacit_err *err)
{
    uint64_t rows;
    run->result->kept = tacit_output_kept(run->output, &rows);
    for (uint64_t i = 0; i < run->result->kept; i++) {
        bool more;
        const char *word;
        tacit_item *item = &run->workers[0].items[0];
        tacit_status st = pull(run, item, true, &more, err);
        if (st < 0)
            return st;
        if (!more)
            return tacit_fail(err, TACIT_ECONFLICT,
                              "the input changed since the run began: it now has fewer images; "
                              "choose another output folder");
        st = tacit_output_verify(run->output, item->path, item->label, &word, err);
        if (st < 0)
            return st;
        for (int reason = 0; reason < TACIT_REASONS; reason++)
            run->result->reasons[reason] += !strcmp(word, tacit_reason((tacit_status)-reason));
    }
    run->result->inputs = run->result->kept;
    run->result->embedded = rows;
    return TACIT_OK;
}

/* Waits for room in the ring, see (2). False where the run has ended. */
static bool wait_for_room(struct run *run)
{
    pthread_mutex_lock(&run->state);
    while (!run->ended && run->claimed - run->flushed >= run->slots_count)
        pthread_cond_wait(&run->flushed_more, &run->state);
    bool go_on = !run->ended;
    pthread_mutex_unlock(&run->state);
    return go_on;
}

/* Fills the worker's items with the next batch; NULL where nothing is left. */
static struct slot *claim(struct run *run, struct worker *w)
{
    struct slot *slot = NULL;
    w->count = 0;
    pthread_mutex_lock(&run->input);
    if (must_stop(run))
        end_run(run, TACIT_OK, NULL);
    if (wait_for_room(run)) {
        tacit_err err;
        tacit_status st = TACIT_OK;
        bool more = true;
        while (w->count < run->batch && !must_stop(run)) {
            st = pull(run, &w->items[w->count], false, &more, &err);
            if (st < 0 || !more)
                break;
            w->count++;
        }
        bool fatal = st == TACIT_ENOMEM;
        if (st < 0 && !fatal && st != TACIT_ECANCELLED) {
            run->result->input_status = st;
            run->result->input_error = err;
        }
        if (st < 0 || !more)
            end_run(run, fatal ? st : TACIT_OK, &err);
        if (w->count) {
            pthread_mutex_lock(&run->state);
            slot = &run->slots[run->claimed++ % run->slots_count];
            slot->count = w->count;
            slot->aborted = false;
            pthread_mutex_unlock(&run->state);
        }
    }
    pthread_mutex_unlock(&run->input);
    return slot;
}

/* Work ---------------------------------------------------------------------------------------- */

static tacit_status load(struct worker *w, tacit_item *item, tacit_err *err)
{
    item->bytes = w->bytes;
    item->capacity = w->bytes_capacity;
    return tacit_item_load(item, err);
}

static void take_back(struct worker *w, tacit_item *item)
{
    w->bytes = item->bytes;
    w->bytes_capacity = item->capacity;
    item->bytes = NULL;
    item->size = item->capacity = 0;
}

/* From an input to place `at` of the session. */
static tacit_status prepare(struct worker *w, tacit_item *item, size_t at, char hash[17],
                            tacit_err *err)
{
    hash[0] = 0;
    if (item->form == TACIT_ITEM_BAD) {
        *err = item->problem;
        return item->status;
    }
    tacit_status st = item->form == TACIT_ITEM_FILE ? load(w, item, err) : TACIT_OK;
    if (st >= 0) {
        snprintf(hash, 17, "%016llx", (unsigned long long)XXH3_64bits(item->bytes, item->size));
        st = item->form == TACIT_ITEM_PIXELS
                 ? tacit_session_put_rgb8(&w->session, at, item->bytes, item->width, item->height,
                                          err)
                 : tacit_session_put(&w->session, at, item->bytes, item->size, err);
        if (st < 0)
            tacit_fail_at(err, st, "%s", item->form == TACIT_ITEM_FILE ? item->file : item->path);
    }
    if (item->form == TACIT_ITEM_FILE)
        take_back(w, item);
    return st;
}

static tacit_status write_line(struct slot *slot, struct entry *entry, const tacit_item *item,
                               tacit_err *err)
{
    size_t room = tacit_index_room(item->path, item->label);
    if (entry->begin + room > slot->text_capacity) {
        size_t capacity = 2 * (entry->begin + room) + 1024;
        char *text = tacit_realloc(slot->text, entry->begin, capacity);
        if (!text)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for the index");
        slot->text = text;
        slot->text_capacity = capacity;
    }
    char *end = tacit_index_format(slot->text + entry->begin, item->path, item->label,
                                   tacit_reason(entry->status), entry->hash);
    entry->end = (size_t)(end - slot->text);
    return TACIT_OK;
}

/* The features of an image, which the network left in row `from`, to row `to` as the output has
 * them. TACIT_ELIMIT where float16 cannot hold them: that image is then unusable. */
static tacit_status finish_row(const struct run *run, struct slot *slot, size_t from, size_t to,
                               tacit_err *err)
{
    const tacit_model *model = run->options->model;
    float *row = slot->rows + from * model->dim;
    tacit_status st = tacit_model_finish(model, row, err);
    if (st < 0 || !slot->halves)
        return st; /* without float16 no row is dropped: from is to */
    uint16_t *halves = slot->halves + to * model->dim;
    model->kernels->f32_to_f16(model->dim, row, halves);
    for (size_t i = 0; i < model->dim; i++)
        if ((halves[i] & 0x7fff) == 0x7c00)
            return tacit_fail(err, TACIT_ELIMIT,
                              "its feature %zu is %g, which float16 does not hold: use --dtype f32 "
                              "or --normalize",
                              i, (double)row[i]);
    return TACIT_OK;
}

/* The slot's entries, lines and rows from the worker's items. An error ends the run. */
static tacit_status process(struct run *run, struct worker *w, struct slot *slot, tacit_err *err)
{
    size_t embedded = 0, kept = 0;
    for (size_t i = 0; i < w->count; i++) {
        struct entry *entry = &slot->entries[i];
        if (must_stop(run))
            return TACIT_ECANCELLED;
        entry->status = prepare(w, &w->items[i], embedded, entry->hash, &entry->problem);
        /* Short memory is a fault of the run, not of the image: elsewhere it would be usable. */
        if (entry->status == TACIT_ENOMEM) {
            *err = entry->problem;
            return TACIT_ENOMEM;
        }
        embedded += entry->status == TACIT_OK;
    }
    tacit_session_embed(&w->session, embedded, slot->rows);
    for (size_t i = 0, row = 0; i < w->count; i++) {
        struct entry *entry = &slot->entries[i];
        const tacit_item *item = &w->items[i];
        if (entry->status == TACIT_OK) {
            entry->status = finish_row(run, slot, row++, kept, &entry->problem);
            kept += entry->status == TACIT_OK;
            if (entry->status < 0)
                tacit_fail_at(&entry->problem, entry->status, "%s", item->path);
            if (entry->status == TACIT_EFORMAT) { /* not this image's fault */
                *err = entry->problem;
                return TACIT_EFORMAT;
            }
        }
        entry->begin = i ? slot->entries[i - 1].end : 0;
        tacit_status st = write_line(slot, entry, item, err);
        if (st < 0)
            return st;
    }
    return TACIT_OK;
}

/* Output -------------------------------------------------------------------------------------- */

static tacit_status flush(struct run *run, const struct slot *slot, tacit_err *err)
{
    const tacit_run_options *options = run->options;
    tacit_run_result *result = run->result;
    const char *row = slot->halves ? (const char *)slot->halves : (const char *)slot->rows;
    size_t row_bytes = options->model->dim * tacit_dtype_size(options->dtype);
    for (size_t i = 0; i < slot->count; i++) {
        const struct entry *entry = &slot->entries[i];
        bool usable = entry->status == TACIT_OK;
        if (!usable && options->strict) {
            *err = entry->problem;
            return entry->status;
        }
        tacit_status st =
            tacit_output_add(run->output, usable ? row : NULL, slot->text + entry->begin,
                             entry->end - entry->begin, err);
        if (st < 0)
            return st;
        if (!usable && options->bad)
            options->bad(options->ctx, entry->problem.text);
        row += usable ? row_bytes : 0;
        result->inputs++;
        result->embedded += usable;
        result->reasons[-entry->status]++;
    }
    if (options->progress)
        options->progress(options->ctx, result->inputs, run->total);
    return TACIT_OK;
}

/* Hands a slot in, and flushes what is next in line unless somebody else is at it. */
static void deliver(struct run *run, struct slot *slot)
{
    pthread_mutex_lock(&run->state);
    slot->done = true;
    if (!run->flushing) {
        run->flushing = true;
        for (;;) {
            struct slot *next = &run->slots[run->flushed % run->slots_count];
            if (!next->done || next->aborted)
                break; /* nothing is flushed behind an aborted slot: order and (1) */
            pthread_mutex_unlock(&run->state);
            tacit_err err;
            tacit_status st = flush(run, next, &err);
            if (st < 0)
                end_run(run, st, &err);
            pthread_mutex_lock(&run->state);
            if (st < 0) {
                next->aborted = true;
                break;
            }
            next->done = false;
            run->flushed++;
            pthread_cond_broadcast(&run->flushed_more);
        }
        run->flushing = false;
    }
    pthread_mutex_unlock(&run->state);
}

static void work(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    struct run *run = ctx;
    struct worker *w = &run->workers[chunk];
    for (struct slot *slot; (slot = claim(run, w));) {
        tacit_err err = { "" };
        tacit_status st = process(run, w, slot, &err);
        if (st < 0) {
            slot->aborted = true;
            end_run(run, st == TACIT_ECANCELLED ? TACIT_OK : st, &err);
        }
        deliver(run, slot);
    }
}

/* The whole ----------------------------------------------------------------------------------- */

/* How many workers, and how large their batches. */
static void plan(struct run *run)
{
    const tacit_run_options *options = run->options;
    unsigned threads = tacit_pool_threads(options->pool);
    uint64_t count = tacit_dataset_count(run->set), left = UINT64_MAX, rows;
    run->batch = options->batch;
    run->workers_count = threads;
    if (count != UINT64_MAX) {
        run->total = count / options->shards + (options->shard - 1 < count % options->shards);
        uint64_t kept = tacit_output_kept(run->output, &rows);
        left = run->total > kept ? run->total - kept : 0;
    }
    if (left < threads || threads == 1) {
        run->result->latency = threads > 1;
        run->workers_count = 1;
    }
    /* Two rounds at least, so that the last one leaves few threads idle. */
    uint64_t share = left / (2 * run->workers_count) + 1;
    if (run->batch > share)
        run->batch = (size_t)share;
    while (run->batch > 1 && run->batch * options->model->dim * sizeof(float) > BATCH_BYTES)
        run->batch /= 2;
    if (run->result->latency)
        run->batch = 1;
    run->slots_count = run->workers_count == 1 ? 1 : 2 * run->workers_count + 1;
    run->result->batch = run->batch;
}

static tacit_status open_buffers(struct run *run, tacit_err *err)
{
    run->workers = tacit_calloc(run->workers_count, sizeof *run->workers);
    run->slots = tacit_calloc(run->slots_count, sizeof *run->slots);
    if (!run->workers || !run->slots)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    for (size_t i = 0; i < run->workers_count; i++) {
        struct worker *w = &run->workers[i];
        tacit_status st = tacit_session_open(&w->session, run->options->model, run->batch,
                                             run->result->latency ? run->options->pool : NULL, err);
        if (st < 0)
            return st;
        w->items = tacit_calloc(run->batch, sizeof *w->items);
        if (!w->items)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    }
    for (size_t i = 0; i < run->slots_count; i++) {
        struct slot *slot = &run->slots[i];
        size_t floats;
        bool fits = tacit_mul_size(run->batch, run->options->model->dim, &floats);
        slot->rows = fits ? tacit_calloc(floats, sizeof(float)) : NULL;
        slot->entries = tacit_calloc(run->batch, sizeof *slot->entries);
        bool half = fits && run->options->dtype == TACIT_F16;
        slot->halves = half ? tacit_calloc(floats, sizeof *slot->halves) : NULL;
        if (!slot->rows || !slot->entries || (half && !slot->halves))
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for results: use --batch 1");
    }
    return TACIT_OK;
}

static void close_buffers(struct run *run)
{
    for (size_t i = 0; run->workers && i < run->workers_count; i++) {
        struct worker *w = &run->workers[i];
        run->result->times.decode += w->session.times.decode;
        run->result->times.preprocess += w->session.times.preprocess;
        run->result->times.embed += w->session.times.embed;
        for (size_t k = 0; w->items && k < run->batch; k++)
            tacit_item_free(&w->items[k]);
        tacit_free(w->items);
        tacit_free(w->bytes);
        tacit_session_close(&w->session);
    }
    for (size_t i = 0; run->slots && i < run->slots_count; i++) {
        tacit_free(run->slots[i].rows);
        tacit_free(run->slots[i].halves);
        tacit_free(run->slots[i].entries);
        tacit_free(run->slots[i].text);
    }
    tacit_item_free(&run->passed);
    tacit_free(run->workers);
    tacit_free(run->slots);
}

tacit_status tacit_run(const tacit_run_options *options, tacit_dataset *set, tacit_output *output,
                       tacit_run_result *result, tacit_err *err)
{
    struct run run = { .options = options, .set = set, .output = output, .result = result };
    double start = seconds();
    *result = (tacit_run_result){ .input_status = TACIT_OK };
    tacit_dataset_stop_by(set, options->stop);
    pthread_mutex_init(&run.input, NULL);
    pthread_mutex_init(&run.state, NULL);
    pthread_cond_init(&run.flushed_more, NULL);
    plan(&run);
    tacit_status st = open_buffers(&run, err);
    if (st >= 0)
        st = pass_kept(&run, err);
    if (st >= 0) {
        tacit_parallel_for(result->latency ? NULL : options->pool, run.workers_count, work, &run);
        st = run.status;
        if (st < 0 && err)
            *err = run.err;
        else if (st >= 0 && must_stop(&run))
            st = tacit_fail(err, TACIT_ECANCELLED, "stopped by a signal");
    }
    close_buffers(&run);
    pthread_cond_destroy(&run.flushed_more);
    pthread_mutex_destroy(&run.state);
    pthread_mutex_destroy(&run.input);
    result->wall = seconds() - start;
    return st;
}
