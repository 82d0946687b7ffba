/* dataset_records.c - pictures of one size in one file: CIFAR binary and IDX, either also as .gz.
 *
 * CIFAR-10: a label byte, then planes of 32 x 32 red, green, blue. CIFAR-100: a coarse label, the
 * fine one (which is the item's), then the same. IDX: magic 00 00 type rank, sizes as big-endian
 * u32, then the data; images are u8, (N, H, W) gray or (N, H, W, 3). Its labels are looked for
 * beside it, under the name with labels-idx1 for images-idx3.
 *
 * The file's size must be what its header says; of a .gz the end shows it. Records are streamed.
 */
#include "dataset_internal.h"
#include "image.h"
#include "mem.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DEFLATE_MOST 1032 /* a byte cannot stand for more */
enum { CIFAR_SIDE = 32, CIFAR_PLANE = CIFAR_SIDE * CIFAR_SIDE, RECORD_TEXT = 24 };

typedef struct records_set {
    tacit__stream images, labels; /* labels: IDX only, not open where there are none */
    size_t label_bytes;           /* before each picture; the last of them is the label */
    bool planar, gray;
    size_t width, height;
    uint64_t count, at;
    char *name; /* the file's own name, with room for "#record" behind its name_length bytes */
    size_t name_length;
} records_set;

static void records_close(void *state)
{
    records_set *s = state;
    tacit__stream_close(&s->images);
    tacit__stream_close(&s->labels);
    tacit_free(s->name);
    tacit_free(s);
}

/* Exactly size bytes. */
static tacit_status take(tacit__stream *stream, void *bytes, size_t size, tacit_err *err)
{
    size_t got;
    tacit_status st = tacit__stream_read(stream, bytes, size, &got, err);
    if (st == TACIT_OK && got < size)
        return tacit_fail(err, TACIT_EFORMAT, "%s: cut off: it ends inside a record or its header",
                          stream->path);
    return st;
}

static tacit_status fail_size(const tacit__stream *stream, uint64_t expected, tacit_err *err)
{
    return tacit_fail(err, TACIT_EFORMAT,
                      "%s: its header asks for %llu bytes, the file has %llu: cut off or damaged",
                      stream->path, (unsigned long long)expected, (unsigned long long)stream->size);
}

/* The header of u8 data, its sizes to dims; *rank of them, at most 4. */
static tacit_status idx_header(tacit__stream *stream, unsigned *rank, uint64_t dims[4],
                               tacit_err *err)
{
    unsigned char magic[4], sizes[16];
    tacit_status st = take(stream, magic, sizeof magic, err);
    if (st < 0)
        return st;
    if (magic[0] || magic[1] || magic[2] < 0x08 || magic[2] > 0x0e || !magic[3])
        return tacit_fail(err, TACIT_EFORMAT, "%s: no IDX file: it begins %02x %02x %02x %02x",
                          stream->path, magic[0], magic[1], magic[2], magic[3]);
    if (magic[2] != 0x08 || magic[3] > 4)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: IDX type %02x of rank %d: only bytes (08) of rank 1 to 4 are read",
                          stream->path, magic[2], magic[3]);
    *rank = magic[3];
    if ((st = take(stream, sizes, 4 * *rank, err)) < 0)
        return st;
    for (unsigned i = 0; i < *rank; i++)
        dims[i] = (uint64_t)sizes[4 * i] << 24 | (uint64_t)sizes[4 * i + 1] << 16 |
                  (uint64_t)sizes[4 * i + 2] << 8 | sizes[4 * i + 3];
    return TACIT_OK;
}

/* Replaces the last `from` in the file's own name by `to`, of at most the same length. */
static bool replace(char *path, const char *from, const char *to)
{
    char *base = strrchr(path, '/'), *found = NULL;
    for (char *p = base ? base : path; (p = strstr(p, from)); p++)
        found = p;
    if (!found)
        return false;
    size_t n = strlen(from), m = strlen(to);
    memcpy(found, to, m);
    memmove(found + m, found + n, strlen(found + n) + 1);
    return true;
}

/* Opens the labels that lie beside the images, also where only one of both is a .gz. */
static tacit_status open_labels(records_set *s, const char *path, tacit_err *err)
{
    char *name = tacit_alloc(strlen(path) + sizeof ".gz");
    if (!name)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    strcpy(name, path);
    tacit_status st = TACIT_OK;
    bool named = replace(name, "images", "labels") &&
                 (replace(name, "idx3", "idx1") || replace(name, "idx4", "idx1"));
    if (named && access(name, F_OK) < 0 && !replace(name, ".gz", ""))
        strcat(name, ".gz");
    if (named && access(name, F_OK) == 0) {
        unsigned rank;
        uint64_t dims[4];
        st = tacit__stream_open(&s->labels, name, TACIT__STREAM_BYTES, err);
        if (st == TACIT_OK && (st = idx_header(&s->labels, &rank, dims, err)) == TACIT_OK) {
            if (rank != 1)
                st = tacit_fail(err, TACIT_EFORMAT, "%s: labels of rank %u, not 1", name, rank);
            else if (dims[0] != s->count)
                st = tacit_fail(err, TACIT_EFORMAT,
                                "%s: %llu labels for the %llu images of %s: the files do not "
                                "belong together",
                                name, (unsigned long long)dims[0], (unsigned long long)s->count,
                                path);
            else if (!s->labels.zipped && s->labels.size != 8 + dims[0])
                st = fail_size(&s->labels, 8 + dims[0], err);
        }
    }
    tacit_free(name);
    return st;
}

static tacit_status open_idx(records_set *s, const char *path, tacit_err *err)
{
    unsigned rank;
    uint64_t dims[4];
    tacit_status st = idx_header(&s->images, &rank, dims, err);
    if (st < 0)
        return st;
    if (rank < 3 || (rank == 4 && dims[3] != 3))
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: no images: an IDX file of images is (N, H, W) or (N, H, W, 3)",
                          path);
    if (dims[1] == 0 || dims[2] == 0 || dims[1] * dims[2] > TACIT_IMAGE_PIXELS)
        return tacit_fail(err, TACIT_ELIMIT, "%s: pictures of %llu x %llu pixels", path,
                          (unsigned long long)dims[2], (unsigned long long)dims[1]);
    s->count = dims[0];
    s->height = (size_t)dims[1];
    s->width = (size_t)dims[2];
    s->gray = rank == 3;
    /* at most 2^32 * 2^29 */
    uint64_t expected = 4 + 4 * rank + dims[0] * dims[1] * dims[2] * (s->gray ? 1 : 3);
    bool fits =
        s->images.zipped ? expected / DEFLATE_MOST <= s->images.size : expected == s->images.size;
    if (!fits)
        return fail_size(&s->images, expected, err);
    return open_labels(s, path, err);
}

static tacit_status open_cifar(records_set *s, tacit_dataset_kind kind, tacit_err *err)
{
    s->label_bytes = kind == TACIT_DATASET_CIFAR10 ? 1 : 2;
    s->width = s->height = CIFAR_SIDE;
    s->planar = true;
    size_t record = s->label_bytes + 3 * CIFAR_PLANE;
    if (s->images.zipped)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "%s: CIFAR files are read unpacked: gunzip it",
                          s->images.path);
    s->count = s->images.size / record;
    if (s->images.size % record)
        return tacit_fail(err, TACIT_EFORMAT,
                          "%s: %llu bytes are no whole number of records of %zu: cut off, or not a "
                          "%s file",
                          s->images.path, (unsigned long long)s->images.size, record,
                          tacit_dataset_kind_name(kind));
    return TACIT_OK;
}

/* After the last record nothing may follow. */
static tacit_status at_end(records_set *s, tacit_err *err)
{
    tacit__stream *streams[] = { &s->images, &s->labels };
    for (size_t i = 0; i < 2; i++) {
        char byte;
        size_t got = 0;
        tacit_status st = TACIT_OK;
        if (streams[i]->archive)
            st = tacit__stream_read(streams[i], &byte, 1, &got, err);
        if (st < 0)
            return st;
        if (got)
            return tacit_fail(err, TACIT_EFORMAT, "%s: more bytes than its header asks for",
                              streams[i]->path);
    }
    return TACIT_OK;
}

static tacit_status records_next(void *state, tacit_item *item, bool skip, bool *more,
                                 tacit_err *err)
{
    records_set *s = state;
    (void)skip; /* a stream is passed over by reading it */
    if (s->at == s->count)
        return at_end(s, err);
    unsigned char labels[2] = { 0 }, planes[3 * CIFAR_PLANE];
    char text[8];
    size_t pixels = s->width * s->height;
    tacit_status st = tacit__item_reserve(item, 3 * pixels, err);
    if (st == TACIT_OK)
        st = take(&s->images, labels, s->label_bytes, err);
    if (st < 0)
        return st;
    uint8_t *rgb = item->bytes;
    if (s->planar) {
        if ((st = take(&s->images, planes, sizeof planes, err)) < 0)
            return st;
        for (size_t i = 0; i < pixels; i++)
            for (size_t c = 0; c < 3; c++)
                rgb[3 * i + c] = planes[c * pixels + i];
    } else if (s->gray) { /* read to the end of the room and spread from its front */
        const uint8_t *gray = rgb + 2 * pixels;
        if ((st = take(&s->images, rgb + 2 * pixels, pixels, err)) < 0)
            return st;
        for (size_t i = 0; i < pixels; i++) {
            uint8_t v = gray[i];
            rgb[3 * i] = rgb[3 * i + 1] = rgb[3 * i + 2] = v;
        }
    } else if ((st = take(&s->images, rgb, 3 * pixels, err)) < 0)
        return st;
    bool labelled = s->label_bytes || s->labels.archive;
    if (s->labels.archive && (st = take(&s->labels, labels, 1, err)) < 0)
        return st;
    snprintf(text, sizeof text, "%u", labels[s->label_bytes == 2]);
    if ((st = tacit__item_label(item, labelled ? text : NULL, err)) < 0)
        return st;
    snprintf(s->name + s->name_length, RECORD_TEXT, "#%llu", (unsigned long long)s->at);
    if ((st = tacit__item_path(item, "", s->name, err)) < 0)
        return st;
    item->form = TACIT_ITEM_PIXELS;
    item->size = 3 * pixels;
    item->width = s->width;
    item->height = s->height;
    s->at++;
    *more = true;
    return TACIT_OK;
}

tacit_status tacit__records_open(tacit_dataset *set, const char *path, tacit_err *err)
{
    static const tacit__reader reader = { .next = records_next, .close = records_close };
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    records_set *s = tacit_calloc(1, sizeof *s);
    if (!s)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    tacit_status st = tacit__stream_open(&s->images, path, TACIT__STREAM_BYTES, err);
    if (st == TACIT_OK)
        st =
            set->kind == TACIT_DATASET_IDX ? open_idx(s, path, err) : open_cifar(s, set->kind, err);
    if (st == TACIT_OK && s->count == 0)
        st = tacit_fail(err, TACIT_EINVAL, "%s: no image in it", path);
    if (st == TACIT_OK) {
        s->name_length = strlen(name);
        if ((s->name = tacit_alloc(s->name_length + RECORD_TEXT)))
            memcpy(s->name, name, s->name_length);
        else
            st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    }
    if (st < 0) {
        records_close(s);
        return st;
    }
    set->reader = &reader;
    set->state = s;
    set->count = s->count;
    return TACIT_OK;
}
