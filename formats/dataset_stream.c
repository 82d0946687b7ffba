/* dataset_stream.c - files through libarchive, which takes off gzip and reads tar.
 *
 * Reads and skips are ours: libarchive's own skip would go past the end of a cut-off file without a
 * word. Headers are read in the C locale, whatever the program's: names keep their bytes.
 */
#include "atomic_file.h"
#include "dataset_internal.h"
#include "mem.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <string.h>
#include <unistd.h>

#define BUFFER ((size_t)128 << 10)

static la_ssize_t on_read(struct archive *archive, void *ctx, const void **bytes)
{
    tacit__stream *s = ctx;
    ssize_t n;
    do
        n = pread(s->fd, s->buffer, BUFFER, (off_t)s->at);
    while (n < 0 && errno == EINTR);
    if (n < 0) {
        archive_set_error(archive, errno, "cannot be read: %s", strerror(errno));
        return -1;
    }
    s->at += (uint64_t)n;
    *bytes = s->buffer;
    return n;
}

static la_int64_t on_skip(struct archive *archive, void *ctx, la_int64_t request)
{
    tacit__stream *s = ctx;
    (void)archive;
    uint64_t left = s->at < s->size ? s->size - s->at : 0;
    uint64_t n = (uint64_t)request < left ? (uint64_t)request : left;
    s->at += n;
    return (la_int64_t)n;
}

static tacit_status fail_archive(const tacit__stream *s, tacit_err *err)
{
    const char *why = archive_error_string(s->archive);
    if (archive_errno(s->archive) == ENOMEM)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", s->path);
    return tacit_fail(err, archive_errno(s->archive) == EIO ? TACIT_EIO : TACIT_EFORMAT,
                      "%s: %s at about byte %llu", s->path, why ? why : "damaged",
                      (unsigned long long)s->at);
}

void tacit__stream_close(tacit__stream *s)
{
    if (s->archive) {
        archive_read_free(s->archive);
        close(s->fd);
    }
    tacit_free(s->buffer);
    tacit_free(s->path);
    *s = (tacit__stream){ 0 };
}

tacit_status tacit__stream_open(tacit__stream *s, const char *path, tacit__stream_form form,
                                tacit_err *err)
{
    tacit_status st = TACIT_OK;
    s->path = tacit_strdup(path);
    s->buffer = tacit_alloc(BUFFER);
    if (!s->path || !s->buffer || !(s->archive = archive_read_new())) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
        goto fail;
    }
    if ((st = tacit_open_regular(path, &s->fd, &s->size, err)) < 0)
        goto fail;
    if (s->size == 0) {
        st = tacit_fail(err, TACIT_EINVAL, "%s: the file is empty", path);
        goto fail;
    }
    int set = form == TACIT__STREAM_TAR ? archive_read_support_format_tar(s->archive)
                                        : archive_read_support_format_raw(s->archive);
    if (set != ARCHIVE_OK || archive_read_support_filter_gzip(s->archive) != ARCHIVE_OK ||
        archive_read_open2(s->archive, s, NULL, on_read, on_skip, NULL) != ARCHIVE_OK) {
        st = fail_archive(s, err);
        goto fail;
    }
    s->zipped = archive_filter_code(s->archive, 0) == ARCHIVE_FILTER_GZIP;
    bool more = true;
    if (form == TACIT__STREAM_BYTES && (st = tacit__stream_next(s, &more, err)) == TACIT_OK &&
        !more)
        st = tacit_fail(err, TACIT_EINVAL, "%s: there is nothing in it", path);
    if (st == TACIT_OK)
        return TACIT_OK;
fail:
    tacit__stream_close(s);
    return st;
}

tacit_status tacit__stream_next(tacit__stream *s, bool *more, tacit_err *err)
{
    *more = false;
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    locale_t before = plain ? uselocale(plain) : (locale_t)0;
    int r = archive_read_next_header(s->archive, &s->entry);
    if (plain) {
        uselocale(before);
        freelocale(plain);
    }
    if (r == ARCHIVE_EOF)
        return TACIT_OK;
    if (r != ARCHIVE_OK && r != ARCHIVE_WARN) /* it warns of names that are no ASCII */
        return fail_archive(s, err);
    *more = true;
    return TACIT_OK;
}

tacit_status tacit__stream_read(tacit__stream *s, void *bytes, size_t size, size_t *got,
                                tacit_err *err)
{
    for (*got = 0; *got < size;) {
        la_ssize_t n = archive_read_data(s->archive, (char *)bytes + *got, size - *got);
        if (n < 0) /* also ARCHIVE_RETRY: of pieces in a wrong order it would say so for ever */
            return fail_archive(s, err);
        if (n == 0)
            break;
        *got += (size_t)n;
    }
    return TACIT_OK;
}

tacit_status tacit__stream_block(tacit__stream *s, const void **bytes, size_t *size,
                                 uint64_t *offset, tacit_err *err)
{
    la_int64_t at = 0;
    *size = 0;
    int r = archive_read_data_block(s->archive, bytes, size, &at);
    *offset = (uint64_t)at;
    if (r == ARCHIVE_EOF)
        *size = 0;
    else if (r != ARCHIVE_OK && r != ARCHIVE_WARN)
        return fail_archive(s, err);
    return TACIT_OK;
}
