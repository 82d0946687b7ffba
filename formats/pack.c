/* pack.c - see pack.h. First the reader, then the writer. */
#include "pack.h"

#include "atomic_file.h"
#include "image.h"
#include "mem.h"

#include <stdbool.h>
#include <string.h>
#include <unistd.h>

/* For the size of XXH3_state_t: the library's own constructor would pass by mem.h. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

enum { VERSION = 1, HEADER = 64, HASHED = 56, ENTRY = 40, LABEL = 8 };
#define NONE UINT32_MAX

/* The limits. Pixels of a picture: TACIT_IMAGE_PIXELS. */
#define MOST_SAMPLES ((uint64_t)UINT32_MAX - 1)
#define MOST_TABLES  ((uint64_t)8 << 30) /* bytes */

static uint64_t get(const uint8_t *bytes, unsigned size)
{
    uint64_t x = 0;
    for (unsigned i = 0; i < size; i++)
        x |= (uint64_t)bytes[i] << 8 * i;
    return x;
}

static void put(uint8_t *bytes, unsigned size, uint64_t x)
{
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(x >> 8 * i);
}

/* The next multiple of 64. Sizes and offsets of a file are below 2^63. */
static uint64_t aligned(uint64_t n)
{
    return (n + 63) & ~(uint64_t)63;
}

/* Reading ------------------------------------------------------------------------------------- */

struct tacit_pack {
    int fd;
    char *path;
    uint64_t size, index; /* of the file; where its tables begin */
    size_t count, labels;
    size_t strings_size;
    uint8_t *tables; /* as they are in the file; the next two point into them */
    const uint8_t *label_table;
    const char *strings;
};

static const uint8_t *entry(const tacit_pack *p, size_t index)
{
    return p->tables + index * ENTRY;
}

static size_t picture_bytes(const uint8_t *e)
{
    return (size_t)(3 * get(e + 16, 4) * get(e + 20, 4));
}

static tacit_status damaged(const tacit_pack *p, const char *what, tacit_err *err)
{
    return tacit_fail(err, TACIT_EFORMAT, "%s: %s: the pack is cut off or damaged: pack it anew",
                      p->path, what);
}

/* The header, and the tables as far as it tells of them; whether they are sound is not yet seen. */
static tacit_status read_tables(tacit_pack *p, tacit_err *err)
{
    uint8_t head[HEADER];
    if (p->size < HEADER)
        return tacit_fail(err, TACIT_EFORMAT, "%s: no pack: a header takes %d bytes, the file %llu",
                          p->path, HEADER, (unsigned long long)p->size);
    tacit_status st = tacit_pread_all(p->fd, head, HEADER, 0, p->path, err);
    if (st < 0)
        return st;
    if (memcmp(head, TACIT_PACK_MAGIC, TACIT_PACK_MAGIC_SIZE))
        return tacit_fail(err, TACIT_EFORMAT, "%s: no pack: it begins otherwise", p->path);
    uint64_t version = get(head + 8, 4), labels = get(head + 12, 4), samples = get(head + 16, 8),
             index = get(head + 24, 8), strings = get(head + 32, 8);
    if (version != VERSION)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: a pack of version %llu, and version %d is read: pack it anew",
                          p->path, (unsigned long long)version, VERSION);
    if (samples > MOST_SAMPLES)
        return tacit_fail(err, TACIT_ELIMIT, "%s: %llu samples, more than %llu", p->path,
                          (unsigned long long)samples, (unsigned long long)MOST_SAMPLES);
    if (!samples || labels > samples || strings > p->size || index > p->size)
        return damaged(p, "its header asks for more than there is", err);
    /* Below 2^38, 2^35 and 2^63: the sum does not overflow. */
    uint64_t tables = samples * ENTRY + labels * LABEL + strings;
    if (p->size - index != tables)
        return damaged(p, "it has not the size that its header asks for", err);
    if (tables > MOST_TABLES)
        return tacit_fail(err, TACIT_ELIMIT, "%s: tables of %llu bytes, more than %llu", p->path,
                          (unsigned long long)tables, (unsigned long long)MOST_TABLES);
    p->tables = (size_t)tables == tables ? tacit_alloc((size_t)tables) : NULL;
    if (!p->tables)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory for its tables of %llu bytes",
                          p->path, (unsigned long long)tables);
    p->index = index;
    p->count = (size_t)samples;
    p->labels = (size_t)labels;
    p->strings_size = (size_t)strings;
    p->label_table = p->tables + p->count * ENTRY;
    p->strings = (const char *)p->label_table + p->labels * LABEL;
    if ((st = tacit_pread_all(p->fd, p->tables, (size_t)tables, index, p->path, err)) < 0)
        return st;
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, head, HASHED);
    XXH3_64bits_update(&hash, p->tables, (size_t)tables);
    if (XXH3_64bits_digest(&hash) != get(head + HASHED, 8))
        return damaged(p, "its tables have another hash", err);
    if (get(head + 40, 8) || get(head + 48, 8))
        return damaged(p, "its header holds what is not known", err);
    return TACIT_OK;
}

/* The string table's next string must begin where `field` says; *at goes behind it. */
static bool next_string(const tacit_pack *p, const uint8_t *field, size_t *at)
{
    if (get(field, 8) != *at || *at == p->strings_size)
        return false;
    const char *end = memchr(p->strings + *at, 0, p->strings_size - *at);
    if (end)
        *at = (size_t)(end - p->strings) + 1;
    return end != NULL;
}

/* Everything is where the rules put it, so that nothing overlaps and all is within the file. */
static tacit_status check_tables(const tacit_pack *p, tacit_err *err)
{
    uint64_t next = HEADER; /* at most 2^32 pictures of 2^30 bytes: it does not overflow */
    size_t text = 0, labels = 0;
    for (size_t i = 0; i < p->count; i++) {
        const uint8_t *e = entry(p, i);
        uint64_t width = get(e + 16, 4), height = get(e + 20, 4), label = get(e + 32, 4);
        if (!width || !height || width * height > TACIT_IMAGE_PIXELS)
            return tacit_fail(err, TACIT_ELIMIT,
                              "%s: sample %zu has %llu x %llu pixels: 1 to %llu are read", p->path,
                              i, (unsigned long long)width, (unsigned long long)height,
                              (unsigned long long)TACIT_IMAGE_PIXELS);
        if (get(e, 8) != next || get(e + 36, 4))
            return damaged(p, "its pictures do not lie one behind the other", err);
        next = aligned(next + picture_bytes(e));
        if (label != NONE && label > labels)
            return damaged(p, "its labels are not numbered in order", err);
        labels += label == labels;
        if (!next_string(p, e + 24, &text))
            return damaged(p, "its paths do not lie one behind the other", err);
    }
    if (next != p->index)
        return damaged(p, "its pictures do not end where its tables begin", err);
    for (size_t i = 0; i < p->labels; i++)
        if (!next_string(p, p->label_table + i * LABEL, &text))
            return damaged(p, "its labels do not lie one behind the other", err);
    if (labels != p->labels || text != p->strings_size)
        return damaged(p, "it has labels or names that belong to no sample", err);
    return TACIT_OK;
}

tacit_status tacit_pack_open(tacit_pack **pack, const char *path, tacit_err *err)
{
    *pack = NULL;
    tacit_status st = TACIT_ENOMEM;
    tacit_pack *p = tacit_calloc(1, sizeof *p);
    if (!p)
        return tacit_fail(err, st, "%s: out of memory", path);
    p->fd = -1;
    if (!(p->path = tacit_strdup(path)))
        tacit_fail(err, st, "%s: out of memory", path);
    else if ((st = tacit_open_regular(path, &p->fd, &p->size, err)) == TACIT_OK &&
             (st = read_tables(p, err)) == TACIT_OK && (st = check_tables(p, err)) == TACIT_OK) {
        *pack = p;
        return TACIT_OK;
    }
    tacit_pack_close(&p);
    return st;
}

void tacit_pack_close(tacit_pack **pack)
{
    tacit_pack *p = *pack;
    if (!p)
        return;
    if (p->fd >= 0)
        close(p->fd);
    tacit_free(p->tables);
    tacit_free(p->path);
    tacit_free(p);
    *pack = NULL;
}

size_t tacit_pack_count(const tacit_pack *p)
{
    return p->count;
}

void tacit_pack_describe(const tacit_pack *p, size_t index, tacit_pack_sample *sample)
{
    const uint8_t *e = entry(p, index);
    uint64_t label = get(e + 32, 4);
    sample->path = p->strings + get(e + 24, 8);
    sample->label = label == NONE ? NULL : p->strings + get(p->label_table + label * LABEL, 8);
    sample->width = (size_t)get(e + 16, 4);
    sample->height = (size_t)get(e + 20, 4);
    sample->room = (size_t)aligned(picture_bytes(e));
}

tacit_status tacit_pack_read(const tacit_pack *p, size_t index, uint8_t *rgb, tacit_err *err)
{
    const uint8_t *e = entry(p, index);
    const char *path = p->strings + get(e + 24, 8);
    size_t size = picture_bytes(e), room = (size_t)aligned(size);
    tacit_status st = tacit_pread_all(p->fd, rgb, room, get(e, 8), p->path, err);
    if (st < 0)
        return tacit_fail_at(err, st, "%s", path);
    bool same = XXH3_64bits(rgb, size) == get(e + 8, 8);
    for (size_t i = size; i < room; i++)
        same &= !rgb[i];
    if (!same)
        return tacit_fail(err, TACIT_EFORMAT,
                          "%s: %s: its pixels are not those that were packed: the file is damaged",
                          p->path, path);
    return TACIT_OK;
}

/* Writing ------------------------------------------------------------------------------------- */

/* A table that grows. */
struct table {
    uint8_t *bytes;
    size_t size, room;
};

struct tacit_packer {
    tacit_atomic file;
    bool writing;                       /* file is open */
    uint64_t next;                      /* where the next picture begins */
    struct table entries, paths, names; /* names: the labels' texts */
    struct table begins;                /* where each label begins in names; LABEL bytes each */
    uint32_t *slots;                    /* labels by the hash of their names; NONE where free */
    size_t slot_count;                  /* a power of 2, at least twice the labels */
};

static bool make_room(struct table *t, size_t more)
{
    size_t want, room;
    if (!tacit_add_size(t->size, more, &want))
        return false;
    if (want <= t->room)
        return true;
    uint8_t *grown = NULL;
    if (tacit_add_size(want, want / 2 + 4096, &room))
        grown = tacit_realloc(t->bytes, t->size, room);
    if (!grown)
        return false;
    t->bytes = grown;
    t->room = room;
    return true;
}

/* After make_room. */
static void append(struct table *t, const void *bytes, size_t size)
{
    memcpy(t->bytes + t->size, bytes, size);
    t->size += size;
}

static const char *name_of(const tacit_packer *p, size_t label)
{
    return (const char *)p->names.bytes + get(p->begins.bytes + label * LABEL, 8);
}

/* The slot that holds name, or the free one where it belongs. */
static uint32_t *find_slot(const tacit_packer *p, const char *name)
{
    size_t mask = p->slot_count - 1, at = (size_t)XXH3_64bits(name, strlen(name)) & mask;
    while (p->slots[at] != NONE && strcmp(name_of(p, p->slots[at]), name))
        at = (at + 1) & mask;
    return &p->slots[at];
}

/* Room for one label more. */
static bool grow_slots(tacit_packer *p)
{
    size_t labels = p->begins.size / LABEL, count = p->slot_count ? 2 * p->slot_count : 256, size;
    if (2 * (labels + 1) <= p->slot_count)
        return true;
    uint32_t *slots = tacit_mul_size(count, sizeof *slots, &size) ? tacit_alloc(size) : NULL;
    if (!slots)
        return false;
    memset(slots, 0xff, size);
    tacit_free(p->slots);
    p->slots = slots;
    p->slot_count = count;
    for (size_t i = 0; i < labels; i++)
        *find_slot(p, name_of(p, i)) = (uint32_t)i;
    return true;
}

static uint64_t tables_size(const tacit_packer *p)
{
    return (uint64_t)p->entries.size + p->begins.size + p->paths.size + p->names.size;
}

tacit_status tacit_packer_open(tacit_packer **packer, const char *path, tacit_err *err)
{
    *packer = NULL;
    tacit_packer *p = tacit_calloc(1, sizeof *p);
    if (!p)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    tacit_status st = tacit_atomic_open(&p->file, path, err);
    if (st < 0) {
        tacit_free(p);
        return st;
    }
    p->writing = true;
    p->next = HEADER;
    *packer = p;
    return TACIT_OK;
}

tacit_status tacit_packer_add(tacit_packer *p, const char *path, const char *label,
                              const uint8_t *rgb, size_t width, size_t height, tacit_err *err)
{
    size_t path_size = strlen(path) + 1, name_size = label ? strlen(label) + 1 : 0;
    if (!width || !height || width > TACIT_IMAGE_PIXELS / height)
        return tacit_fail(err, TACIT_ELIMIT, "%zu x %zu pixels: 1 to %llu can be packed", width,
                          height, (unsigned long long)TACIT_IMAGE_PIXELS);
    if (p->entries.size / ENTRY == MOST_SAMPLES ||
        tables_size(p) + ENTRY + LABEL + path_size + name_size > MOST_TABLES)
        return tacit_fail(err, TACIT_ELIMIT, "%s: no room for more than %zu samples: use two packs",
                          p->file.path, p->entries.size / ENTRY);
    if (!make_room(&p->entries, ENTRY) || !make_room(&p->paths, path_size) ||
        (label &&
         (!make_room(&p->names, name_size) || !make_room(&p->begins, LABEL) || !grow_slots(p))))
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory after %zu samples", p->file.path,
                          p->entries.size / ENTRY);
    size_t size = 3 * width * height;
    tacit_status st = tacit_pwrite_all(p->file.fd, rgb, size, p->next, p->file.path, err);
    if (st < 0)
        return st;
    uint32_t number = NONE;
    if (label) {
        uint32_t *slot = find_slot(p, label);
        if (*slot == NONE) {
            uint8_t begin[LABEL];
            put(begin, LABEL, p->names.size);
            *slot = (uint32_t)(p->begins.size / LABEL);
            append(&p->begins, begin, LABEL);
            append(&p->names, label, name_size);
        }
        number = *slot;
    }
    uint8_t e[ENTRY] = { 0 };
    put(e, 8, p->next);
    put(e + 8, 8, XXH3_64bits(rgb, size));
    put(e + 16, 4, width);
    put(e + 20, 4, height);
    put(e + 24, 8, p->paths.size);
    put(e + 32, 4, number);
    append(&p->entries, e, ENTRY);
    append(&p->paths, path, path_size);
    p->next = aligned(p->next + size); /* what is passed over reads as zeros */
    return TACIT_OK;
}

tacit_status tacit_packer_commit(tacit_packer *p, tacit_pack_totals *totals, tacit_err *err)
{
    const struct table *tables[] = { &p->entries, &p->begins, &p->paths, &p->names };
    size_t labels = p->begins.size / LABEL;
    *totals = (tacit_pack_totals){ p->entries.size / ENTRY, labels, p->next + tables_size(p) };
    if (!totals->samples)
        return tacit_fail(err, TACIT_EINVAL, "%s: nothing to pack", p->file.path);
    for (size_t i = 0; i < labels; i++) { /* from names to the string table */
        uint8_t *begin = p->begins.bytes + i * LABEL;
        put(begin, LABEL, p->paths.size + get(begin, LABEL));
    }
    uint8_t head[HEADER] = TACIT_PACK_MAGIC;
    put(head + 8, 4, VERSION);
    put(head + 12, 4, labels);
    put(head + 16, 8, totals->samples);
    put(head + 24, 8, p->next);
    put(head + 32, 8, p->paths.size + p->names.size);
    XXH3_state_t hash;
    XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, head, HASHED);
    uint64_t at = p->next;
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < sizeof tables / sizeof *tables; i++) {
        const struct table *t = tables[i];
        if (!t->size)
            continue;
        XXH3_64bits_update(&hash, t->bytes, t->size);
        st = tacit_pwrite_all(p->file.fd, t->bytes, t->size, at, p->file.path, err);
        at += t->size;
    }
    put(head + HASHED, 8, XXH3_64bits_digest(&hash));
    if (st == TACIT_OK)
        st = tacit_pwrite_all(p->file.fd, head, HEADER, 0, p->file.path, err);
    if (st < 0)
        return st;
    p->writing = false; /* commit closes the file whatever becomes of it */
    return tacit_atomic_commit(&p->file, err);
}

void tacit_packer_close(tacit_packer **packer)
{
    tacit_packer *p = *packer;
    if (!p)
        return;
    if (p->writing)
        tacit_atomic_abort(&p->file);
    tacit_free(p->entries.bytes);
    tacit_free(p->paths.bytes);
    tacit_free(p->names.bytes);
    tacit_free(p->begins.bytes);
    tacit_free(p->slots);
    tacit_free(p);
    *packer = NULL;
}
