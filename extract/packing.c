/* packing.c - see packing.h.
 *
 * Each worker pulls the next input, decodes and resizes it, and hands it in; whoever hands in what
 * is next in line writes it, and all that waits behind it.
 *
 * Invariants:
 *  (1) inputs are numbered in the order in which they were pulled, and written in that order;
 *  (2) input i lies in slot i % slots, and is pulled only when input i - slots was written and the
 *      pictures that wait are at most MOST_WAITING bytes: memory is bounded by that and by what
 *      each worker has in its hands;
 *  (3) the lowest input that is not written is in the hands of a worker that waits for nobody, so
 *      that the ring cannot jam.
 */
#include "packing.h"

#include "image.h"
#include "mem.h"
#include "resize_u8.h"

#include <pthread.h>
#include <time.h>

#define MOST_WAITING ((size_t)256 << 20) /* bytes */
/* A slot keeps buffers up to this size, so that few pictures need new ones. */
#define MOST_KEPT ((size_t)4 << 20)

struct slot {
    tacit_item item;
    tacit_image image; /* what its bytes decode to */
    uint8_t *small;    /* the resized picture, where it is resized */
    size_t small_room;
    const uint8_t *rgb; /* the picture to write, in one of the three */
    size_t width, height;
    bool resized, done;
    tacit_status status;
    tacit_err problem;
};

struct packing {
    const tacit_packing_options *options;
    tacit_packing_result *result;
    tacit_dataset *set;
    tacit_packer *packer;
    uint64_t total; /* inputs, 0: not known */
    tacit_resize_u8 *resizers;
    struct slot *slots;
    size_t workers, slot_count;

    pthread_mutex_t input; /* guards set and the numbering of inputs */
    pthread_mutex_t state; /* guards all below, and slots' done */
    pthread_cond_t room;   /* something was written, or the run has ended */
    uint64_t claimed, written;
    size_t waiting; /* bytes of pictures that are done and not written */
    bool ended, writing;
    tacit_status status;
    tacit_err err;
};

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* No more claims; the first failure is the one that is told. */
static void end_run(struct packing *p, tacit_status status, const tacit_err *err)
{
    pthread_mutex_lock(&p->state);
    if (status < 0 && p->status == TACIT_OK) {
        p->status = status;
        p->err = *err;
    }
    p->ended = true;
    pthread_cond_broadcast(&p->room);
    pthread_mutex_unlock(&p->state);
}

/* Input --------------------------------------------------------------------------------------- */

/* Waits until another input may be pulled, see (2). False where the run has ended. */
static bool wait_for_room(struct packing *p)
{
    pthread_mutex_lock(&p->state);
    while (!p->ended && (p->claimed - p->written >= p->slot_count || p->waiting > MOST_WAITING))
        pthread_cond_wait(&p->room, &p->state);
    bool go_on = !p->ended;
    pthread_mutex_unlock(&p->state);
    return go_on;
}

/* The slot with the next input; NULL where nothing is left to do. */
static struct slot *claim(struct packing *p)
{
    struct slot *slot = NULL;
    pthread_mutex_lock(&p->input);
    if (wait_for_room(p)) {
        const atomic_int *stop = p->options->stop;
        struct slot *next = &p->slots[p->claimed % p->slot_count];
        tacit_err err;
        bool more = false;
        tacit_status st = stop && atomic_load(stop)
                              ? tacit_fail(&err, TACIT_ECANCELLED, "stopped by a signal")
                              : tacit_dataset_next(p->set, &next->item, &more, &err);
        if (st < 0 || !more)
            end_run(p, st, &err);
        else {
            pthread_mutex_lock(&p->state);
            p->claimed++;
            pthread_mutex_unlock(&p->state);
            slot = next;
        }
    }
    pthread_mutex_unlock(&p->input);
    return slot;
}

/* Work ---------------------------------------------------------------------------------------- */

static void drop_bytes(tacit_item *item)
{
    tacit_free(item->bytes);
    item->bytes = NULL;
    item->size = item->capacity = 0;
}

/* Lets go of large buffers that hold nothing of use. */
static void trim(struct slot *s)
{
    if (s->item.capacity > MOST_KEPT && s->rgb != s->item.bytes)
        drop_bytes(&s->item);
    if (s->image.capacity > MOST_KEPT && s->rgb != s->image.rgb)
        tacit_image_free(&s->image);
    if (s->small_room > MOST_KEPT && s->rgb != s->small) {
        tacit_free(s->small);
        s->small = NULL;
        s->small_room = 0;
    }
}

static tacit_status make_smaller(struct packing *p, struct slot *s, unsigned worker, tacit_err *err)
{
    size_t n = p->options->size, shorter = s->width < s->height ? s->width : s->height;
    if (!n || shorter <= n)
        return TACIT_OK;
    size_t width = n * s->width / shorter, height = n * s->height / shorter;
    s->small = tacit_renew(s->small, &s->small_room, 3 * width * height);
    if (!s->small)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory: %zu x %zu pixels", width, height);
    const tacit_resize_way way = { .filter = TACIT_FILTER_BICUBIC, .pillow = p->options->pillow };
    const tacit_resize_source from = { s->rgb, 3 * s->width };
    const tacit_resize_target to = { .rgb = s->small, .width = width, .height = height };
    tacit_span x = { s->width, width, 0, width }, y = { s->height, height, 0, height };
    tacit_status st = tacit_resize_u8_run(&p->resizers[worker], p->options->kernels, &way, &from, x,
                                          y, &to, NULL, err);
    s->rgb = s->small;
    s->width = width;
    s->height = height;
    s->resized = true;
    return st;
}

/* From an input to the picture to write. */
static tacit_status prepare(struct packing *p, struct slot *s, unsigned worker, tacit_err *err)
{
    tacit_item *item = &s->item;
    s->rgb = NULL;
    s->resized = false;
    if (item->form == TACIT_ITEM_BAD) {
        *err = item->problem;
        return item->status;
    }
    tacit_status st = tacit_item_load(item, err);
    if (st < 0)
        return st; /* which names the file */
    if (item->form == TACIT_ITEM_PIXELS) {
        s->rgb = item->bytes;
        s->width = item->width;
        s->height = item->height;
    } else if ((st = tacit_image_decode(&s->image, item->bytes, item->size, NULL, err)) >= 0) {
        s->rgb = s->image.rgb;
        s->width = s->image.width;
        s->height = s->image.height;
    }
    if (st == TACIT_OK)
        st = make_smaller(p, s, worker, err);
    return st < 0 ? tacit_fail_at(err, st, "%s", item->file ? item->file : item->path) : st;
}

/* Output -------------------------------------------------------------------------------------- */

static tacit_status write_one(struct packing *p, const struct slot *s, tacit_err *err)
{
    const tacit_packing_options *o = p->options;
    tacit_packing_result *result = p->result;
    tacit_status st = TACIT_OK;
    if (s->status == TACIT_OK)
        st = tacit_packer_add(p->packer, s->item.path, s->item.label, s->rgb, s->width, s->height,
                              err);
    else if (o->strict) {
        *err = s->problem;
        st = s->status;
    } else if (o->bad)
        o->bad(o->ctx, s->problem.text);
    if (st < 0)
        return st;
    result->inputs++;
    result->resized += s->status == TACIT_OK && s->resized;
    result->reasons[-s->status]++;
    if (o->progress)
        o->progress(o->ctx, result->inputs, p->total);
    return TACIT_OK;
}

static size_t bytes_of(const struct slot *s)
{
    return s->status == TACIT_OK ? 3 * s->width * s->height : 0;
}

/* Hands a slot in, and writes what is next in line unless somebody else is at it. */
static void deliver(struct packing *p, struct slot *slot)
{
    pthread_mutex_lock(&p->state);
    slot->done = true;
    p->waiting += bytes_of(slot);
    if (!p->writing) {
        p->writing = true;
        for (;;) {
            struct slot *next = &p->slots[p->written % p->slot_count];
            if (!next->done || p->status < 0)
                break;
            pthread_mutex_unlock(&p->state);
            tacit_err err;
            tacit_status st = write_one(p, next, &err);
            if (st < 0)
                end_run(p, st, &err);
            next->rgb = NULL;
            trim(next);
            pthread_mutex_lock(&p->state);
            p->waiting -= bytes_of(next);
            next->done = false;
            p->written++;
            pthread_cond_broadcast(&p->room);
        }
        p->writing = false;
    }
    pthread_mutex_unlock(&p->state);
}

static void work(void *ctx, size_t chunk, unsigned worker)
{
    (void)chunk;
    struct packing *p = ctx;
    for (struct slot *slot; (slot = claim(p));) {
        slot->status = prepare(p, slot, worker, &slot->problem);
        /* Short memory is a fault of the run, not of the image: elsewhere it would be usable. */
        if (slot->status == TACIT_ENOMEM)
            end_run(p, TACIT_ENOMEM, &slot->problem);
        trim(slot);
        deliver(p, slot);
    }
}

/* The whole ----------------------------------------------------------------------------------- */

/* With packer, slots and resizers. */
static tacit_status run(struct packing *p, const char *out, tacit_err *err)
{
    const atomic_int *stop = p->options->stop;
    pthread_mutex_init(&p->input, NULL);
    pthread_mutex_init(&p->state, NULL);
    pthread_cond_init(&p->room, NULL);
    tacit_parallel_for(p->options->pool, p->workers, work, p);
    pthread_cond_destroy(&p->room);
    pthread_mutex_destroy(&p->state);
    pthread_mutex_destroy(&p->input);
    if (p->status < 0) {
        if (err)
            *err = p->err;
        return p->status;
    }
    if (stop && atomic_load(stop))
        return tacit_fail(err, TACIT_ECANCELLED, "stopped by a signal");
    if (!p->result->reasons[TACIT_OK])
        return tacit_fail(err, TACIT_EFORMAT, "%s: not written: not one of %llu images is usable",
                          out, (unsigned long long)p->result->inputs);
    return tacit_packer_commit(p->packer, &p->result->totals, err);
}

tacit_status tacit_pack_dataset(const tacit_packing_options *options, tacit_dataset *set,
                                const char *out, tacit_packing_result *result, tacit_err *err)
{
    double start = seconds();
    struct packing p = { .options = options, .result = result, .set = set };
    uint64_t count = tacit_dataset_count(set);
    *result = (tacit_packing_result){ .inputs = 0 };
    tacit_dataset_stop_by(set, options->stop);
    p.total = count == UINT64_MAX ? 0 : count;
    p.workers = tacit_pool_threads(options->pool);
    p.slot_count = 2 * p.workers + 1;
    p.resizers = tacit_calloc(p.workers, sizeof *p.resizers);
    p.slots = tacit_calloc(p.slot_count, sizeof *p.slots);
    tacit_status st = p.resizers && p.slots ? tacit_packer_open(&p.packer, out, err)
                                            : tacit_fail(err, TACIT_ENOMEM, "out of memory");
    if (st == TACIT_OK)
        st = run(&p, out, err);
    tacit_packer_close(&p.packer);
    for (size_t i = 0; p.slots && i < p.slot_count; i++) {
        tacit_item_free(&p.slots[i].item);
        tacit_image_free(&p.slots[i].image);
        tacit_free(p.slots[i].small);
    }
    for (size_t i = 0; p.resizers && i < p.workers; i++)
        tacit_resize_u8_close(&p.resizers[i]);
    tacit_free(p.resizers);
    tacit_free(p.slots);
    result->wall = seconds() - start;
    return st;
}
