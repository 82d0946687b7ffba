/* loader.c - see loader.h.
 *
 * Batches are numbered from where reading began; number b is made in slot b % slots. Under `lock`:
 *  (5) A batch is opened, its samples written down, when its slot is free; its places are taken one
 *      by one, and only of the lowest batch that has any left. Who took a place fills it without
 *      the lock, in memory that no other place has.
 *  (6) A slot is free from the moment that the caller asks for the batch after its own.
 *  (7) seek closes the door, waits until nobody holds a place, and begins anew.
 */
#include "loader.h"

#include "draws.h"
#include "mem.h"
#include "rng.h"
#include "samples.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

struct slot {
    uint64_t epoch, step;
    uint32_t *wanted, *shown; /* (batch): by the order; and whose pictures came */
    float **views;
    size_t taken, done;
};

/* Each thread's own. */
struct worker {
    tacit_loader *loader;
    pthread_t thread;
    tacit_viewer *viewer;
    tacit_sample sample;
};

struct tacit_loader {
    tacit_loader_options options;
    tacit_samples *samples;
    size_t count, steps, bytes;
    uint32_t *order; /* of order_epoch, UINT64_MAX: none */
    uint64_t order_epoch;
    _Atomic bool *bad; /* (count): reported */
    _Atomic size_t bad_count;
    struct worker *workers; /* the threads, then the pool's */
    unsigned worker_count, threads;
    struct slot *slots;
    size_t slot_count;

    pthread_mutex_t lock, report;
    pthread_cond_t work, ready;    /* there may be places to take; a batch is done */
    uint64_t opened, taking, held; /* batch numbers: next to open, to take from, of the caller */
    uint64_t epoch, step;          /* of the next to open */
    size_t inside;                 /* places that are being filled */
    bool closed, quit;
    tacit_status status;
    tacit_err err;
};

/* Order --------------------------------------------------------------------------------------- */

/* Fisher and Yates: place i and one of [0, i] change, for i downwards. */
static void shuffle(tacit_loader *l, uint64_t epoch)
{
    uint64_t stream = tacit_draw_stream(l->options.seed, epoch, 0, TACIT_DRAW_ORDER);
    for (size_t i = 0; i < l->count; i++)
        l->order[i] = (uint32_t)i;
    for (size_t i = l->count; i-- > 1;) {
        uint32_t word[4];
        tacit_philox(l->options.seed, stream, i, word); /* floor(word * (i + 1) / 2^64) */
        uint64_t n = (uint64_t)i + 1;
        size_t j = (size_t)((word[1] * n + (word[0] * n >> 32)) >> 32);
        uint32_t swapped = l->order[j];
        l->order[j] = l->order[i];
        l->order[i] = swapped;
    }
    l->order_epoch = epoch;
}

/* One place ----------------------------------------------------------------------------------- */

static tacit_status report(tacit_loader *l, uint32_t sample, const tacit_err *why, tacit_err *err)
{
    if (atomic_exchange(&l->bad[sample], true))
        return TACIT_OK;
    pthread_mutex_lock(&l->report);
    if (l->options.bad)
        l->options.bad(l->options.ctx, why->text);
    pthread_mutex_unlock(&l->report);
    if (atomic_fetch_add(&l->bad_count, 1) + 1 == l->count)
        return tacit_fail(err, TACIT_EINVAL, "%s: not one of its %zu images can be used",
                          l->options.path, l->count);
    return TACIT_OK;
}

static tacit_status fill(tacit_loader *l, struct worker *w, struct slot *slot, size_t place,
                         tacit_err *err)
{
    uint32_t wanted = slot->wanted[place], shown = wanted;
    tacit_sample *sample = &w->sample;
    tacit_status st;
    for (size_t tries = 0;; shown = shown + 1 == l->count ? 0 : shown + 1) {
        tacit_err why;
        if (tries++ == l->count)
            return tacit_fail(err, TACIT_EINVAL, "%s: none of its images can be used",
                              l->options.path);
        if (atomic_load_explicit(&l->bad[shown], memory_order_relaxed))
            continue;
        st = tacit_samples_load(l->samples, shown, sample, &why);
        if (st == TACIT_OK)
            break;
        if (st == TACIT_ENOMEM) {
            *err = why;
            return st;
        }
        if ((st = report(l, shown, &why, err)) < 0)
            return st;
    }
    slot->shown[place] = shown;
    for (unsigned v = 0; v < l->options.view_count; v++) {
        const tacit_view *view = &l->options.views[v];
        tacit_view_draws draws;
        tacit_view_draw(view, sample->width, sample->height, l->options.seed, slot->epoch, wanted,
                        v, &draws);
        st = tacit_view_apply(w->viewer, v, &draws, sample->rgb, sample->width, sample->height,
                              slot->views[v] + place * 3 * view->size * view->size, err);
        if (st < 0)
            return st;
    }
    return TACIT_OK;
}

/* Taking turns -------------------------------------------------------------------------------- */

/* The slot of the lowest batch, before number `end`, that has a place left; opens it where it has
 * to. NULL where there is none now. */
static struct slot *find(tacit_loader *l, uint64_t end)
{
    if (l->status < 0 || l->closed)
        return NULL;
    if (l->taking < l->opened && l->slots[l->taking % l->slot_count].taken == l->options.batch)
        l->taking++;
    if (l->taking >= end || l->taking >= l->held + l->slot_count)
        return NULL;
    struct slot *slot = &l->slots[l->taking % l->slot_count];
    if (l->taking == l->opened) {
        if (l->order_epoch != l->epoch)
            shuffle(l, l->epoch);
        slot->epoch = l->epoch;
        slot->step = l->step;
        slot->taken = slot->done = 0;
        memcpy(slot->wanted, l->order + l->step * l->options.batch,
               l->options.batch * sizeof *slot->wanted);
        l->opened++;
        if (++l->step == l->steps) {
            l->step = 0;
            l->epoch++;
        }
        if (l->threads)
            pthread_cond_broadcast(&l->work);
    }
    return slot;
}

/* Takes a place, fills it and comes back with the lock held, as it went. */
static void fill_one(tacit_loader *l, struct worker *w, struct slot *slot)
{
    size_t place = slot->taken++;
    l->inside++;
    pthread_mutex_unlock(&l->lock);
    tacit_err err;
    tacit_status st = fill(l, w, slot, place, &err);
    pthread_mutex_lock(&l->lock);
    l->inside--;
    if (st < 0 && l->status == TACIT_OK) {
        l->status = st;
        l->err = err;
    }
    if (++slot->done == l->options.batch || l->status < 0 || l->closed)
        pthread_cond_broadcast(&l->ready);
}

static void *work_ahead(void *arg)
{
    struct worker *w = arg;
    tacit_loader *l = w->loader;
    pthread_mutex_lock(&l->lock);
    while (!l->quit) {
        struct slot *slot = find(l, UINT64_MAX);
        if (slot)
            fill_one(l, w, slot);
        else
            pthread_cond_wait(&l->work, &l->lock);
    }
    pthread_mutex_unlock(&l->lock);
    return NULL;
}

/* One of the pool's threads, on the batch that is waited for. */
static void help(void *ctx, size_t chunk, unsigned worker)
{
    tacit_loader *l = ctx;
    (void)chunk;
    pthread_mutex_lock(&l->lock);
    for (struct slot *slot; (slot = find(l, l->held + 1));)
        fill_one(l, &l->workers[l->threads + worker], slot);
    pthread_mutex_unlock(&l->lock);
}

/* Nobody is inside afterwards, and nothing can be taken before the door opens again. */
static void close_door(tacit_loader *l)
{
    l->closed = true;
    while (l->inside)
        pthread_cond_wait(&l->ready, &l->lock);
}

/* The interface ------------------------------------------------------------------------------- */

void tacit_loader_seek(tacit_loader *l, uint64_t epoch, uint64_t step)
{
    pthread_mutex_lock(&l->lock);
    close_door(l);
    l->epoch = epoch;
    l->step = step;
    l->opened = l->taking = 0;
    l->held = UINT64_MAX; /* next makes it 0 */
    pthread_mutex_unlock(&l->lock);
}

tacit_status tacit_loader_next(tacit_loader *l, tacit_batch *batch, tacit_err *err)
{
    pthread_mutex_lock(&l->lock);
    l->held++;
    l->closed = false;
    if (l->threads)
        pthread_cond_broadcast(&l->work);
    struct slot *slot = &l->slots[l->held % l->slot_count];
    if (find(l, l->held + 1)) {
        pthread_mutex_unlock(&l->lock);
        tacit_parallel_for(l->options.pool, tacit_pool_threads(l->options.pool), help, l);
        pthread_mutex_lock(&l->lock);
    }
    while (l->status == TACIT_OK && (l->opened <= l->held || slot->done < l->options.batch))
        pthread_cond_wait(&l->ready, &l->lock);
    tacit_status st = l->status;
    if (st < 0 && err)
        *err = l->err;
    pthread_mutex_unlock(&l->lock);
    *batch =
        (tacit_batch){ slot->epoch, slot->step, slot->shown, (const float *const *)slot->views };
    return st;
}

uint64_t tacit_loader_samples(const tacit_loader *l)
{
    return l->count;
}

uint64_t tacit_loader_steps(const tacit_loader *l)
{
    return l->steps;
}

size_t tacit_loader_bytes(const tacit_loader *l)
{
    return l->bytes;
}

static tacit_status no_memory(const tacit_loader *l, tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM,
                      "out of memory for %zu batches of %zu samples: use a smaller batch",
                      l->slot_count, l->options.batch);
}

static tacit_status open_slots(tacit_loader *l, tacit_err *err)
{
    const tacit_loader_options *o = &l->options;
    l->slots = tacit_calloc(l->slot_count, sizeof *l->slots);
    if (!l->slots)
        return no_memory(l, err);
    for (size_t i = 0; i < l->slot_count; i++) {
        struct slot *slot = &l->slots[i];
        slot->wanted = tacit_calloc(o->batch, sizeof *slot->wanted);
        slot->shown = tacit_calloc(o->batch, sizeof *slot->shown);
        slot->views = tacit_calloc(o->view_count, sizeof *slot->views);
        if (!slot->wanted || !slot->shown || !slot->views)
            return no_memory(l, err);
        for (size_t v = 0; v < o->view_count; v++) {
            size_t size = 3 * sizeof(float) * o->views[v].size * o->views[v].size;
            if (!tacit_mul_size(size, o->batch, &size) ||
                !tacit_add_size(l->bytes, size, &l->bytes) || !(slot->views[v] = tacit_alloc(size)))
                return no_memory(l, err);
        }
    }
    return TACIT_OK;
}

static tacit_status open_workers(tacit_loader *l, tacit_err *err)
{
    const tacit_loader_options *o = &l->options;
    unsigned threads = o->threads;
    l->worker_count = threads + tacit_pool_threads(o->pool);
    l->workers = tacit_calloc(l->worker_count, sizeof *l->workers);
    if (!l->workers)
        return no_memory(l, err);
    for (unsigned i = 0; i < l->worker_count; i++) {
        l->workers[i].loader = l;
        tacit_status st =
            tacit_viewer_open(&l->workers[i].viewer, o->views, o->view_count, o->kernels, err);
        if (st < 0)
            return st;
    }
    /* Signals are for the threads that know of us. Fewer threads than asked for will do. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (l->threads < threads && !pthread_create(&l->workers[l->threads].thread, NULL, work_ahead,
                                                   &l->workers[l->threads]))
        l->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return TACIT_OK;
}

tacit_status tacit_loader_open(tacit_loader **out, const tacit_loader_options *options,
                               tacit_err *err)
{
    *out = NULL;
    if (!options->batch || !options->view_count || (options->threads && !options->ahead))
        return tacit_fail(err, TACIT_EINVAL, "a batch of nothing");
    tacit_loader *l = tacit_calloc(1, sizeof *l);
    if (!l)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    l->options = *options;
    pthread_mutex_init(&l->lock, NULL);
    pthread_mutex_init(&l->report, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    l->order_epoch = UINT64_MAX;
    l->held = UINT64_MAX;
    l->closed = true; /* until the first next */
    l->slot_count = 1 + (options->threads ? options->ahead : 0);
    tacit_status st = tacit_samples_open(&l->samples, options->path, options->kind, err);
    if (st < 0)
        goto fail;
    l->count = tacit_samples_count(l->samples);
    l->steps = l->count / options->batch;
    if (!l->steps) {
        st = tacit_fail(err, TACIT_EINVAL, "%s: %zu images are fewer than a batch of %zu",
                        options->path, l->count, options->batch);
        goto fail;
    }
    l->order = tacit_calloc(l->count, sizeof *l->order);
    l->bad = tacit_calloc(l->count, sizeof *l->bad);
    if (!l->order || !l->bad) {
        st = no_memory(l, err);
        goto fail;
    }
    if ((st = open_slots(l, err)) == TACIT_OK && (st = open_workers(l, err)) == TACIT_OK) {
        *out = l;
        return TACIT_OK;
    }
fail:
    tacit_loader_close(&l);
    return st;
}

void tacit_loader_close(tacit_loader **loader)
{
    tacit_loader *l = *loader;
    if (!l)
        return;
    pthread_mutex_lock(&l->lock);
    close_door(l);
    l->quit = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->lock);
    for (unsigned i = 0; i < l->threads; i++)
        pthread_join(l->workers[i].thread, NULL);
    for (unsigned i = 0; l->workers && i < l->worker_count; i++) {
        tacit_viewer_close(&l->workers[i].viewer);
        tacit_sample_free(&l->workers[i].sample);
    }
    for (size_t i = 0; l->slots && i < l->slot_count; i++) {
        for (size_t v = 0; l->slots[i].views && v < l->options.view_count; v++)
            tacit_free(l->slots[i].views[v]);
        tacit_free(l->slots[i].views);
        tacit_free(l->slots[i].wanted);
        tacit_free(l->slots[i].shown);
    }
    tacit_free(l->slots);
    tacit_free(l->workers);
    tacit_free(l->order);
    tacit_free(l->bad);
    tacit_samples_close(&l->samples);
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->report);
    pthread_mutex_destroy(&l->lock);
    tacit_free(l);
    *loader = NULL;
}
