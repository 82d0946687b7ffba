/* samples.c - see samples.h. */
#include "samples.h"

#include "dataset_internal.h"
#include "mem.h"
#include "pack.h"

#include <string.h>
#include <unistd.h>

#define CHUNK ((size_t)1 << 20)
#define MOST  ((size_t)UINT32_MAX - 1)

typedef struct chunk {
    struct chunk *next;
    uint8_t bytes[];
} chunk;

struct entry {
    const char *name;     /* FILE: to open; else for messages; BAD: the message */
    const uint8_t *bytes; /* BYTES, PIXELS */
    size_t size;
    uint32_t width, height; /* PIXELS */
    tacit_item_form form;
    tacit_status status; /* BAD */
};

struct tacit_samples {
    char *path;
    tacit_pack *pack; /* else NULL; it stands for the entries */
    struct entry *entries;
    size_t count, capacity;
    chunk *chunks;
    size_t chunk_used, chunk_size;
    uint64_t held, most_held;
};

void tacit_samples_close(tacit_samples **samples)
{
    tacit_samples *s = *samples;
    if (!s)
        return;
    while (s->chunks) {
        chunk *next = s->chunks->next;
        tacit_free(s->chunks);
        s->chunks = next;
    }
    tacit_pack_close(&s->pack);
    tacit_free(s->entries);
    tacit_free(s->path);
    tacit_free(s);
    *samples = NULL;
}

static tacit_status no_memory(const tacit_samples *s, tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory after %zu items", s->path, s->count);
}

/* A copy that lives as long as the set. */
static tacit_status keep(tacit_samples *s, const void *bytes, size_t size, const uint8_t **kept,
                         tacit_err *err)
{
    if (size > s->chunk_size - s->chunk_used) {
        size_t want = size > CHUNK ? size : CHUNK;
        if (s->held + want > s->most_held)
            return tacit_fail(
                err, TACIT_ELIMIT,
                "%s: more than %llu MB to hold in memory: make it a pack, which is read "
                "where it lies, with 'tacit pack'",
                s->path, (unsigned long long)(s->most_held >> 20));
        chunk *c = tacit_alloc(sizeof *c + want);
        if (!c)
            return no_memory(s, err);
        c->next = s->chunks;
        s->chunks = c;
        s->chunk_used = 0;
        s->chunk_size = want;
        s->held += want;
    }
    uint8_t *to = s->chunks->bytes + s->chunk_used;
    if (size)
        memcpy(to, bytes, size);
    s->chunk_used += size;
    *kept = to;
    return TACIT_OK;
}

static tacit_status add(tacit_samples *s, const tacit_item *item, tacit_err *err)
{
    if (s->count == MOST)
        return tacit_fail(err, TACIT_ELIMIT, "%s: more than %zu items", s->path, MOST);
    if (s->count == s->capacity) {
        size_t want = s->capacity ? s->capacity : 512, size;
        struct entry *grown = NULL;
        if (tacit_mul_size(want, 2 * sizeof *grown, &size))
            grown = tacit_realloc(s->entries, s->count * sizeof *grown, size);
        if (!grown)
            return no_memory(s, err);
        s->entries = grown;
        s->capacity = 2 * want;
    }
    const char *text = item->form == TACIT_ITEM_FILE  ? item->file
                       : item->form == TACIT_ITEM_BAD ? item->problem.text
                                                      : item->path;
    struct entry e = { .form = item->form, .status = item->status, .size = item->size };
    const uint8_t *name;
    tacit_status st = keep(s, text, strlen(text) + 1, &name, err);
    if (st == TACIT_OK && (e.form == TACIT_ITEM_BYTES || e.form == TACIT_ITEM_PIXELS))
        st = keep(s, item->bytes, item->size, &e.bytes, err);
    if (st < 0)
        return st;
    e.name = (const char *)name;
    e.width = (uint32_t)item->width; /* of PIXELS, whose readers have far lower limits */
    e.height = (uint32_t)item->height;
    s->entries[s->count++] = e;
    return TACIT_OK;
}

tacit_status tacit_samples_open(tacit_samples **out, const char *path, tacit_dataset_kind kind,
                                tacit_err *err)
{
    *out = NULL;
    tacit_item item = { 0 };
    tacit_dataset *set = NULL;
    tacit_samples *s = tacit_calloc(1, sizeof *s);
    if (!s || !(s->path = tacit_strdup(path))) {
        tacit_free(s);
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    }
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    s->most_held = pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page / 2 : UINT64_MAX / 2;
    tacit_status st = tacit_dataset_open(&set, path, kind, err);
    if (st == TACIT_OK && tacit_dataset_kind_of(set) == TACIT_DATASET_PACK) {
        s->pack = tacit__pack_take(set);
        s->count = tacit_pack_count(s->pack);
    }
    for (bool more = true; st == TACIT_OK && !s->pack;) {
        st = tacit_dataset_next(set, &item, &more, err);
        if (st < 0 || !more)
            break;
        st = add(s, &item, err);
    }
    tacit_item_free(&item);
    tacit_dataset_close(&set);
    if (st == TACIT_OK && s->count == 0)
        st = tacit_fail(err, TACIT_EINVAL, "%s: no image in it", path);
    if (st < 0)
        tacit_samples_close(&s);
    *out = s;
    return st;
}

size_t tacit_samples_count(const tacit_samples *samples)
{
    return samples->count;
}

/* Straight from the file, which is in the page cache or soon will be. */
static tacit_status load_packed(const tacit_pack *pack, size_t index, tacit_sample *sample,
                                tacit_err *err)
{
    tacit_pack_sample packed;
    tacit_pack_describe(pack, index, &packed);
    sample->item.size = 0; /* what was there need not be kept */
    tacit_status st = tacit__item_reserve(&sample->item, packed.room, err);
    if (st == TACIT_OK)
        st = tacit_pack_read(pack, index, sample->item.bytes, err);
    sample->rgb = sample->item.bytes;
    sample->width = packed.width;
    sample->height = packed.height;
    return st;
}

/* Encoded bytes to the sample's picture. */
static tacit_status decode(tacit_sample *sample, const uint8_t *bytes, size_t size,
                           const char *name, tacit_err *err)
{
    tacit_status st = tacit_image_decode(&sample->image, bytes, size, NULL, err);
    if (st < 0)
        return tacit_fail_at(err, st, "%s", name);
    sample->rgb = sample->image.rgb;
    sample->width = sample->image.width;
    sample->height = sample->image.height;
    return TACIT_OK;
}

tacit_status tacit_samples_load(const tacit_samples *samples, size_t index, tacit_sample *sample,
                                tacit_err *err)
{
    if (samples->pack)
        return load_packed(samples->pack, index, sample, err);
    const struct entry *e = &samples->entries[index];
    const uint8_t *bytes = e->bytes;
    size_t size = e->size;
    tacit_status st = TACIT_OK;
    switch (e->form) {
    case TACIT_ITEM_BAD: return tacit_fail(err, e->status, "%s", e->name);
    case TACIT_ITEM_PIXELS:
        sample->rgb = e->bytes;
        sample->width = e->width;
        sample->height = e->height;
        return TACIT_OK;
    case TACIT_ITEM_FILE:
        sample->item.form = TACIT_ITEM_FILE;
        sample->item.file = (char *)(uintptr_t)e->name; /* lent: load reads it only */
        st = tacit_item_load(&sample->item, err);
        sample->item.file = NULL;
        if (st < 0)
            return st;
        bytes = sample->item.bytes;
        size = sample->item.size;
        break;
    case TACIT_ITEM_BYTES: break;
    }
    return decode(sample, bytes, size, e->name, err);
}

tacit_status tacit_sample_decode(tacit_sample *sample, tacit_err *err)
{
    tacit_item *item = &sample->item;
    if (item->form == TACIT_ITEM_BAD)
        return tacit_fail(err, item->status, "%s", item->problem.text);
    if (item->form == TACIT_ITEM_PIXELS) {
        sample->rgb = item->bytes;
        sample->width = item->width;
        sample->height = item->height;
        return TACIT_OK;
    }
    tacit_status st = tacit_item_load(item, err);
    return st == TACIT_OK ? decode(sample, item->bytes, item->size, item->path, err) : st;
}

void tacit_sample_free(tacit_sample *sample)
{
    tacit_item_free(&sample->item);
    tacit_image_free(&sample->image);
}
