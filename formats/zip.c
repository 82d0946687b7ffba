/* zip.c - the directory of a zip archive. See zip.h. */
#include "zip.h"

#include "atomic_file.h"
#include "mem.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define MAX_ENTRIES   100000
#define MAX_DIRECTORY ((uint64_t)64 << 20)

#define END_SIZE     22 /* end of central directory record, without its comment */
#define LOCATOR_SIZE 20
#define END64_SIZE   56
#define RECORD_SIZE  46 /* of the directory, without name, extra field and comment */
#define LOCAL_SIZE   30
#define MAX_COMMENT  65535

static uint64_t number(const unsigned char *b, unsigned n)
{
    uint64_t x = 0;
    for (unsigned i = 0; i < n; i++)
        x |= (uint64_t)b[i] << 8 * i;
    return x;
}

struct directory {
    uint64_t at, size, count, end; /* end: where what follows it begins */
};

static tacit_status malformed(tacit_err *err, const char *path, const char *what)
{
    return tacit_fail(err, TACIT_EFORMAT, "%s: zip archive: %s", path, what);
}

/* The ZIP64 record that stands before the end record at `end`. */
static tacit_status find_directory64(struct directory *d, int fd, uint64_t end, const char *path,
                                     tacit_err *err)
{
    unsigned char b[END64_SIZE];
    if (end < LOCATOR_SIZE)
        return malformed(err, path, "no room for a ZIP64 record");
    tacit_status st = tacit_pread_all(fd, b, LOCATOR_SIZE, end - LOCATOR_SIZE, path, err);
    if (st < 0)
        return st;
    if (number(b, 4) != 0x07064b50)
        return malformed(err, path, "sizes that need a ZIP64 record, and none");
    uint64_t at = number(b + 8, 8);
    if (at > end - LOCATOR_SIZE || end - LOCATOR_SIZE - at < END64_SIZE)
        return malformed(err, path, "the ZIP64 record lies outside the file");
    st = tacit_pread_all(fd, b, END64_SIZE, at, path, err);
    if (st < 0)
        return st;
    if (number(b, 4) != 0x06064b50 || number(b + 16, 4) || number(b + 20, 4))
        return malformed(err, path, "the ZIP64 record is damaged");
    *d = (struct directory){ number(b + 48, 8), number(b + 40, 8), number(b + 32, 8), at };
    return TACIT_OK;
}

static tacit_status find_directory(struct directory *d, int fd, uint64_t size, const char *path,
                                   tacit_err *err)
{
    unsigned char small[END_SIZE], *tail = small;
    if (size < END_SIZE)
        return malformed(err, path, "too short: cut off, or not finished");
    /* Without a comment it is the last thing of the file; that is how checkpoints are written. */
    size_t have = END_SIZE, at = 0;
    tacit_status st = tacit_pread_all(fd, small, have, size - have, path, err);
    if (st < 0)
        return st;
    if (number(small, 4) != 0x06054b50 || number(small + 20, 2)) {
        have = size < END_SIZE + MAX_COMMENT ? size : END_SIZE + MAX_COMMENT;
        tail = tacit_alloc(have);
        if (!tail)
            return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
        st = tacit_pread_all(fd, tail, have, size - have, path, err);
        for (at = have - END_SIZE; st == TACIT_OK && at > 0; at--)
            if (number(tail + at, 4) == 0x06054b50 &&
                number(tail + at + 20, 2) == have - END_SIZE - at)
                break;
        if (st == TACIT_OK && number(tail + at, 4) != 0x06054b50)
            st = malformed(err, path, "no directory at its end: cut off, or not finished");
    }
    const unsigned char *b = tail + at;
    uint64_t end = size - have + at;
    if (st == TACIT_OK) {
        *d = (struct directory){ number(b + 16, 4), number(b + 12, 4), number(b + 10, 2), end };
        if (number(b + 4, 2) || number(b + 6, 2))
            st = tacit_fail(err, TACIT_EUNSUPPORTED, "%s: zip archive: one of several volumes",
                            path);
        else if (d->at == 0xffffffff || d->size == 0xffffffff || d->count == 0xffff)
            st = find_directory64(d, fd, end, path, err);
    }
    if (tail != small)
        tacit_free(tail);
    if (st < 0)
        return st;
    if (d->count > MAX_ENTRIES || d->size > MAX_DIRECTORY)
        return tacit_fail(err, TACIT_ELIMIT,
                          "%s: zip archive: %llu entries in a directory of %llu bytes: the limits "
                          "are %d and %llu",
                          path, (unsigned long long)d->count, (unsigned long long)d->size,
                          MAX_ENTRIES, (unsigned long long)MAX_DIRECTORY);
    if (d->at > d->end || d->size > d->end - d->at || d->count > d->size / RECORD_SIZE)
        return malformed(err, path, "its directory lies outside the file");
    return TACIT_OK;
}

/* Replaces the sizes that stand as all ones by those of the ZIP64 field, in their order. */
static bool read_extra64(const unsigned char *b, size_t n, uint64_t *size, uint64_t *packed,
                         uint64_t *local)
{
    uint64_t *wanted[3];
    size_t count = 0;
    if (*size == 0xffffffff)
        wanted[count++] = size;
    if (*packed == 0xffffffff)
        wanted[count++] = packed;
    if (*local == 0xffffffff)
        wanted[count++] = local;
    for (size_t at = 0; count && at + 4 <= n;) {
        size_t id = number(b + at, 2), length = number(b + at + 2, 2);
        at += 4;
        if (length > n - at)
            return false;
        if (id == 1) {
            if (length < 8 * count)
                return false;
            for (size_t i = 0; i < count; i++)
                *wanted[i] = number(b + at + 8 * i, 8);
            return true;
        }
        at += length;
    }
    return count == 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const tacit_zip_entry *)a)->name, ((const tacit_zip_entry *)b)->name);
}

static int by_place(const void *a, const void *b)
{
    const tacit_zip_entry *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

/* The record at b, of which n bytes are left; *length: how long it is. Its entry's data is still
 * the offset of the local header. */
static tacit_status read_record(tacit_zip_entry *e, char *name, const unsigned char *b, size_t n,
                                size_t *length, const char *path, tacit_err *err)
{
    if (n < RECORD_SIZE || number(b, 4) != 0x02014b50)
        return malformed(err, path, "its directory is damaged");
    size_t name_length = number(b + 28, 2), extra = number(b + 30, 2), comment = number(b + 32, 2);
    *length = RECORD_SIZE + name_length + extra + comment;
    if (*length > n)
        return malformed(err, path, "its directory is damaged");
    memcpy(name, b + RECORD_SIZE, name_length);
    name[name_length] = 0;
    if (!name_length || memchr(name, 0, name_length))
        return malformed(err, path, "an entry has no proper name");
    uint64_t size = number(b + 24, 4), packed = number(b + 20, 4), local = number(b + 42, 4);
    if (!read_extra64(b + RECORD_SIZE + name_length, extra, &size, &packed, &local))
        return malformed(err, path, "a ZIP64 field is damaged");
    *e = (tacit_zip_entry){ .name = name,
                            .data = local,
                            .size = packed,
                            .crc = (uint32_t)number(b + 16, 4),
                            .stored = number(b + 10, 2) == 0 && !(number(b + 8, 2) & 1) };
    if (e->stored && size != packed)
        return tacit_fail(err, TACIT_EFORMAT, "%s: zip archive: entry '%.200s' has two sizes", path,
                          name);
    return TACIT_OK;
}

/* From the offset of the local header to that of the data, which must end before the directory. */
static tacit_status locate(tacit_zip_entry *e, int fd, uint64_t end, const char *path,
                           tacit_err *err)
{
    unsigned char b[LOCAL_SIZE];
    bool fits = e->data <= end && end - e->data >= LOCAL_SIZE;
    tacit_status st = fits ? tacit_pread_all(fd, b, LOCAL_SIZE, e->data, path, err) : TACIT_OK;
    if (st < 0)
        return st;
    uint64_t skip = LOCAL_SIZE + (fits ? number(b + 26, 2) + number(b + 28, 2) : 0);
    if (!fits || number(b, 4) != 0x04034b50 || skip > end - e->data ||
        e->size > end - e->data - skip)
        return tacit_fail(err, TACIT_EFORMAT,
                          "%s: zip archive: entry '%.200s' lies outside the file", path, e->name);
    e->data += skip;
    return TACIT_OK;
}

static tacit_status check_entries(tacit_zip *zip, int fd, uint64_t end, const char *path,
                                  tacit_err *err)
{
    if (zip->count)
        qsort(zip->entries, zip->count, sizeof zip->entries[0], by_place);
    uint64_t covered = 0;
    for (size_t i = 0; i < zip->count; i++) {
        tacit_zip_entry *e = &zip->entries[i];
        if (e->data < covered)
            return tacit_fail(err, TACIT_EFORMAT,
                              "%s: zip archive: entry '%.200s' overlaps "
                              "another",
                              path, e->name);
        tacit_status st = locate(e, fd, end, path, err);
        if (st < 0)
            return st;
        covered = e->data + e->size;
    }
    if (zip->count)
        qsort(zip->entries, zip->count, sizeof zip->entries[0], by_name);
    for (size_t i = 1; i < zip->count; i++)
        if (!by_name(&zip->entries[i - 1], &zip->entries[i]))
            return tacit_fail(err, TACIT_EFORMAT, "%s: zip archive: entry '%.200s' is there twice",
                              path, zip->entries[i].name);
    return TACIT_OK;
}

tacit_status tacit_zip_open(tacit_zip *zip, int fd, uint64_t size, const char *path, tacit_err *err)
{
    struct directory d = { 0 };
    *zip = (tacit_zip){ 0 };
    tacit_status st = find_directory(&d, fd, size, path, err);
    if (st < 0)
        return st;
    /* A name is shorter than its record, so the directory's size is room for all, each with a 0. */
    unsigned char *bytes = tacit_alloc(d.size);
    zip->names = tacit_alloc(d.size);
    zip->entries = tacit_calloc(d.count, sizeof zip->entries[0]);
    if (!bytes || !zip->names || !zip->entries)
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    if (st == TACIT_OK)
        st = tacit_pread_all(fd, bytes, d.size, d.at, path, err);
    char *name = zip->names;
    for (size_t at = 0, length = 0; st == TACIT_OK && zip->count < d.count; at += length) {
        st = read_record(&zip->entries[zip->count], name, bytes + at, d.size - at, &length, path,
                         err);
        if (st == TACIT_OK)
            name += strlen(zip->entries[zip->count++].name) + 1;
    }
    if (st == TACIT_OK)
        st = check_entries(zip, fd, d.at, path, err);
    tacit_free(bytes);
    if (st < 0)
        tacit_zip_close(zip);
    return st;
}

void tacit_zip_close(tacit_zip *zip)
{
    tacit_free(zip->entries);
    tacit_free(zip->names);
    *zip = (tacit_zip){ 0 };
}

const tacit_zip_entry *tacit_zip_find(const tacit_zip *zip, const char *name)
{
    tacit_zip_entry key = { .name = name };
    return zip->count ? bsearch(&key, zip->entries, zip->count, sizeof key, by_name) : NULL;
}

tacit_status tacit_zip_read(const tacit_zip_entry *entry, int fd, size_t limit, char **bytes,
                            const char *path, tacit_err *err)
{
    *bytes = NULL;
    if (!entry->stored)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "%s: entry '%.200s' is compressed or encrypted",
                          path, entry->name);
    if (entry->size > limit)
        return tacit_fail(err, TACIT_ELIMIT, "%s: entry '%.200s' has %llu bytes, the limit is %zu",
                          path, entry->name, (unsigned long long)entry->size, limit);
    size_t size = (size_t)entry->size;
    *bytes = tacit_alloc(size + 1);
    if (!*bytes)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    tacit_status st = tacit_pread_all(fd, *bytes, size, entry->data, path, err);
    (*bytes)[size] = 0;
    if (st == TACIT_OK && crc32_z(0, (const unsigned char *)*bytes, size) != entry->crc)
        st = tacit_fail(err, TACIT_EFORMAT, "%s: entry '%.200s' is damaged: its CRC is wrong", path,
                        entry->name);
    if (st < 0) {
        tacit_free(*bytes);
        *bytes = NULL;
    }
    return st;
}
