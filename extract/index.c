/* index.c - lines of index.tsv, out and in. See index.h. */
#include "index.h"

#include "atomic_file.h"
#include "mem.h"
#include "tsv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define COLUMNS 5

/* The longest line that is read: four times the longest path and label, and the rest. */
#define LINE_LIMIT ((size_t)1 << 20)

size_t tacit_index_room(const char *path, const char *label)
{
    return 4 * (strlen(path) + (label ? strlen(label) : 0)) + 256;
}

char *tacit_index_format(char *out, const char *path, const char *label, const char *status,
                         const char *hash)
{
    *out++ = '\t';
    out = tacit_tsv_escape(out, path);
    *out++ = '\t';
    out = tacit_tsv_escape(out, label ? label : "");
    *out++ = '\t';
    out = tacit_tsv_escape(out, status);
    *out++ = '\t';
    out = tacit_tsv_escape(out, hash);
    *out++ = '\n';
    *out = 0;
    return out;
}

struct tacit_index {
    int fd;
    char *path, *buffer;
    size_t begin, end;         /* of what was read and not yet given out */
    uint64_t read, given;      /* offsets in the file                    */
    uint64_t next_row, number; /* number of the line, for messages       */
};

void tacit_index_close(tacit_index **p)
{
    tacit_index *index = *p;
    *p = NULL;
    if (!index)
        return;
    if (index->fd >= 0)
        close(index->fd);
    tacit_free(index->path);
    tacit_free(index->buffer);
    tacit_free(index);
}

/* The bytes of the next line, its newline included; *size 0 at the end of the file. */
static tacit_status next_bytes(tacit_index *index, char **line, size_t *size, tacit_err *err)
{
    index->number++;
    for (size_t seen = index->begin;;) {
        char *newline = memchr(index->buffer + seen, '\n', index->end - seen);
        if (newline) {
            *line = index->buffer + index->begin;
            *size = (size_t)(newline + 1 - *line);
            index->begin += *size;
            index->given += *size;
            return TACIT_OK;
        }
        seen = index->end;
        if (index->end == LINE_LIMIT && index->begin == 0)
            return tacit_fail(err, TACIT_EFORMAT, "%s: line %llu is too long", index->path,
                              (unsigned long long)index->number);
        if (index->end == LINE_LIMIT) {
            seen -= index->begin;
            memmove(index->buffer, index->buffer + index->begin, seen);
            index->begin = 0;
            index->end = seen;
        }
        ssize_t got = pread(index->fd, index->buffer + index->end, LINE_LIMIT - index->end,
                            (off_t)index->read);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tacit_fail_errno(err, "%s: cannot be read", index->path);
        if (got == 0 && index->begin != index->end)
            return tacit_fail(err, TACIT_EFORMAT, "%s: line %llu is cut off", index->path,
                              (unsigned long long)index->number);
        if (got == 0) {
            *size = 0;
            return TACIT_OK;
        }
        index->end += (size_t)got;
        index->read += (uint64_t)got;
    }
}

tacit_status tacit_index_open(tacit_index **out, const char *path, tacit_err *err)
{
    *out = NULL;
    tacit_index *index = tacit_calloc(1, sizeof *index);
    if (!index)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    index->fd = -1;
    uint64_t size;
    tacit_status st = tacit_open_regular(path, &index->fd, &size, err);
    if (st < 0)
        goto fail;
    index->path = tacit_strdup(path);
    index->buffer = tacit_alloc(LINE_LIMIT);
    if (!index->path || !index->buffer) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
        goto fail;
    }
    char *line = NULL;
    size_t length = 0;
    st = next_bytes(index, &line, &length, err);
    if (st < 0)
        goto fail;
    if (length != strlen(TACIT_INDEX_HEADER) || memcmp(line, TACIT_INDEX_HEADER, length)) {
        st = tacit_fail(err, TACIT_EFORMAT, "%s: does not begin as an index.tsv does", path);
        goto fail;
    }
    *out = index;
    return TACIT_OK;

fail:
    tacit_index_close(&index);
    return st;
}

/* A row is the decimal number that is due. */
static bool is_row(const char *text, uint64_t row)
{
    char due[24];
    snprintf(due, sizeof due, "%llu", (unsigned long long)row);
    return !strcmp(text, due);
}

tacit_status tacit_index_next(tacit_index *index, tacit_index_line *line, bool *more,
                              tacit_err *err)
{
    *more = false;
    char *text = NULL, *fields[COLUMNS];
    size_t size = 0;
    tacit_status st = next_bytes(index, &text, &size, err);
    if (st < 0 || !size)
        return st;
    st = tacit_tsv_split(text, size - 1, fields, COLUMNS, err);
    if (st < 0)
        return tacit_fail_at(err, st, "%s: line %llu", index->path,
                             (unsigned long long)index->number);
    *line = (tacit_index_line){
        .usable = *fields[0] != 0,
        .path = fields[1],
        .label = fields[2],
        .status = fields[3],
        .hash = fields[4],
        .end = index->given,
    };
    if (line->usable && !is_row(fields[0], index->next_row))
        return tacit_fail(err, TACIT_EFORMAT, "%s: line %llu has row '%s', where %llu is due",
                          index->path, (unsigned long long)index->number, fields[0],
                          (unsigned long long)index->next_row);
    if (line->usable)
        line->row = index->next_row++;
    *more = true;
    return TACIT_OK;
}
