/* atomic_file.c - temporary, sync, rename, sync of the folder. See atomic_file.h. */
#include "atomic_file.h"

#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Names left over by a killed process of the same number are passed over. */
#define TEMPORARY_TRIES 1000

/* What read and write may be asked for at once (SSIZE_MAX is the limit that all systems share). */
#define MOST_AT_ONCE ((size_t)1 << 30)

static int open_retry(int folder, const char *path, int flags, mode_t mode)
{
    int fd;
    do
        fd = openat(folder, path, flags | O_CLOEXEC, mode);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int sync_retry(int fd)
{
    int failed;
    do
        failed = fsync(fd);
    while (failed && errno == EINTR);
    return failed;
}

/* Makes the names in a folder durable. Some file systems have no sync for folders and need none. */
static tacit_status sync_folder(int folder, const char *path, tacit_err *err)
{
    if (sync_retry(folder) && errno != EINVAL)
        return tacit_fail_errno(err, "%s: the folder cannot be synced", path);
    return TACIT_OK;
}

static tacit_status open_folder(const char *path, int *folder, tacit_err *err)
{
    const char *slash = strrchr(path, '/');
    char *dir = tacit_strdup(slash ? path : ".");
    if (!dir)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    if (slash)
        dir[slash == path ? 1 : slash - path] = 0;
    *folder = open_retry(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
    tacit_status st = TACIT_OK;
    if (*folder < 0)
        st = tacit_fail_errno(err, "%s: cannot open its folder", path);
    tacit_free(dir);
    return st;
}

tacit_status tacit_atomic_open(tacit_atomic *file, const char *path, tacit_err *err)
{
    *file = (tacit_atomic){ .fd = -1, .folder = -1 };
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    if (!*name)
        return tacit_fail(err, TACIT_EINVAL, "'%s' is no name for a file", path);
    tacit_status st = open_folder(path, &file->folder, err);
    if (st < 0)
        goto fail;
    size_t room = strlen(name) + 64;
    file->name = tacit_strdup(name);
    file->path = tacit_strdup(path);
    file->temporary = tacit_alloc(room);
    if (!file->name || !file->path || !file->temporary) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
        goto fail;
    }
    for (unsigned i = 0; i < TEMPORARY_TRIES && file->fd < 0; i++) {
        /* 200: the suffix must fit the longest name too. */
        snprintf(file->temporary, room, "%.200s.%ld-%u.tmp", name, (long)getpid(), i);
        file->fd = open_retry(file->folder, file->temporary, O_WRONLY | O_CREAT | O_EXCL, 0666);
        if (file->fd < 0 && errno != EEXIST)
            break;
    }
    if (file->fd < 0) {
        st = tacit_fail_errno(err, "%s: cannot create a file beside it", path);
        goto fail;
    }
    return TACIT_OK;

fail:
    tacit_atomic_abort(file);
    return st;
}

tacit_status tacit_atomic_commit(tacit_atomic *file, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    if (sync_retry(file->fd)) {
        st = tacit_fail_errno(err, "%s: cannot be synced", file->path);
        goto done;
    }
    /* EINTR: Linux has closed the descriptor, and the bytes are synced. */
    int failed = close(file->fd);
    file->fd = -1;
    if (failed && errno != EINTR) {
        st = tacit_fail_errno(err, "%s: cannot be closed", file->path);
        unlinkat(file->folder, file->temporary, 0);
        goto done;
    }
    if (renameat(file->folder, file->temporary, file->folder, file->name)) {
        st = tacit_fail_errno(err, "%s: the new file cannot take its place", file->path);
        unlinkat(file->folder, file->temporary, 0);
        goto done;
    }
    st = sync_folder(file->folder, file->path, err);
done:
    tacit_atomic_abort(file);
    return st;
}

void tacit_atomic_abort(tacit_atomic *file)
{
    if (file->fd >= 0) {
        close(file->fd);
        unlinkat(file->folder, file->temporary, 0);
    }
    if (file->folder >= 0)
        close(file->folder);
    tacit_free(file->name);
    tacit_free(file->path);
    tacit_free(file->temporary);
    *file = (tacit_atomic){ .fd = -1, .folder = -1 };
}

tacit_status tacit_file_replace(const char *path, const void *bytes, size_t size, tacit_err *err)
{
    tacit_atomic file;
    tacit_status st = tacit_atomic_open(&file, path, err);
    if (st < 0)
        return st;
    st = tacit_write_all(file.fd, bytes, size, path, err);
    if (st < 0) {
        tacit_atomic_abort(&file);
        return st;
    }
    return tacit_atomic_commit(&file, err);
}

tacit_status tacit_file_rename(const char *from, const char *to, tacit_err *err)
{
    int folder;
    tacit_status st = open_folder(to, &folder, err);
    if (st < 0)
        return st;
    if (rename(from, to))
        st = tacit_fail_errno(err, "%s: cannot be renamed to %s", from, to);
    else
        st = sync_folder(folder, to, err);
    close(folder);
    return st;
}

tacit_status tacit_write_all(int fd, const void *bytes, size_t size, const char *path,
                             tacit_err *err)
{
    const unsigned char *at = bytes;
    while (size) {
        ssize_t put = write(fd, at, size < MOST_AT_ONCE ? size : MOST_AT_ONCE);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return tacit_fail_errno(err, "%s: cannot be written", path);
        at += put;
        size -= (size_t)put;
    }
    return TACIT_OK;
}

tacit_status tacit_pwrite_all(int fd, const void *bytes, size_t size, uint64_t offset,
                              const char *path, tacit_err *err)
{
    const unsigned char *at = bytes;
    while (size) {
        ssize_t put = pwrite(fd, at, size < MOST_AT_ONCE ? size : MOST_AT_ONCE, (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return tacit_fail_errno(err, "%s: cannot be written", path);
        at += put;
        size -= (size_t)put;
        offset += (uint64_t)put;
    }
    return TACIT_OK;
}

tacit_status tacit_pread_all(int fd, void *bytes, size_t size, uint64_t offset, const char *path,
                             tacit_err *err)
{
    unsigned char *at = bytes;
    while (size) {
        ssize_t got = pread(fd, at, size < MOST_AT_ONCE ? size : MOST_AT_ONCE, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return tacit_fail_errno(err, "%s: cannot be read", path);
        if (got == 0)
            return tacit_fail(err, TACIT_EFORMAT,
                              "%s: ends at byte %llu, %zu bytes early: it is cut off or was "
                              "changed while it was read",
                              path, (unsigned long long)offset, size);
        at += got;
        size -= (size_t)got;
        offset += (uint64_t)got;
    }
    return TACIT_OK;
}

tacit_status tacit_open_regular(const char *path, int *out, uint64_t *size, tacit_err *err)
{
    *out = -1;
    *size = 0;
    int fd = open_retry(AT_FDCWD, path, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
    if (fd < 0)
        return tacit_fail_errno(err, "%s: cannot be opened", path);
    struct stat info;
    tacit_status st = TACIT_OK;
    if (fstat(fd, &info))
        st = tacit_fail_errno(err, "%s: cannot be examined", path);
    else if (S_ISDIR(info.st_mode))
        st = tacit_fail(err, TACIT_EUNSUPPORTED, "%s: is a folder, not a file", path);
    else if (!S_ISREG(info.st_mode))
        st = tacit_fail(err, TACIT_EUNSUPPORTED, "%s: is not a regular file", path);
    if (st < 0) {
        close(fd);
        return st;
    }
    *out = fd;
    *size = (uint64_t)info.st_size;
    return TACIT_OK;
}

tacit_status tacit_file_read(const char *path, size_t limit, char **bytes, size_t *size,
                             tacit_err *err)
{
    *bytes = NULL;
    *size = 0;
    int fd;
    uint64_t there;
    tacit_status st = tacit_open_regular(path, &fd, &there, err);
    if (st < 0)
        return st;
    char *text = NULL;
    if (there > limit) {
        st = tacit_fail(err, TACIT_ELIMIT, "%s: has %llu bytes, more than the limit of %zu", path,
                        (unsigned long long)there, limit);
        goto done;
    }
    size_t n = (size_t)there, room;
    text = tacit_add_size(n, 1, &room) ? tacit_alloc(room) : NULL;
    if (!text) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory for its %zu bytes", path, n);
        goto done;
    }
    st = tacit_pread_all(fd, text, n, 0, path, err);
    if (st < 0)
        goto done;
    text[n] = 0;
    *bytes = text;
    *size = n;
    text = NULL;
done:
    tacit_free(text);
    close(fd);
    return st;
}
