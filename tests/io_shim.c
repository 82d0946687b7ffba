/* io_shim.c - makes the Nth file operation under one folder go wrong. For LD_PRELOAD.
 *
 * TACIT_SHIM_UNDER   the folder, absolute; only paths and descriptors under it count
 * TACIT_SHIM_CALL    N, from 1: which operation
 * TACIT_SHIM_ERRNO   EIO, ENOSPC, EINTR, EMFILE: it fails so; SHORT: it moves one byte less;
 *                    KILL: the process dies before it; TORN: after it, of a write after half of it
 * TACIT_SHIM_REPORT  a file that gets the number of operations counted, at exit
 *
 * Counted: open, openat, read, pread, write, pwrite, fsync, fdatasync, rename, renameat, close,
 * ftruncate, mmap of a file. A failed close has closed, as on Linux.
 */
#undef _FILE_OFFSET_BITS /* both names of each function are defined here */
#undef _FORTIFY_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define SHIM __attribute__((visibility("default")))

enum fault { NONE, FAIL, SHORT, KILL, TORN };

static const char *under;
static unsigned long fail_call;
static enum fault fault;
static int fail_errno;
static _Atomic unsigned long calls;
static _Atomic bool is_under[1024];

__attribute__((constructor)) static void read_environment(void)
{
    static const struct {
        const char *word;
        enum fault fault;
        int number;
    } faults[] = {
        { "EIO", FAIL, EIO },       { "ENOSPC", FAIL, ENOSPC }, { "EINTR", FAIL, EINTR },
        { "EMFILE", FAIL, EMFILE }, { "SHORT", SHORT, 0 },      { "KILL", KILL, 0 },
        { "TORN", TORN, 0 },
    };
    const char *call = getenv("TACIT_SHIM_CALL"), *word = getenv("TACIT_SHIM_ERRNO");
    under = getenv("TACIT_SHIM_UNDER");
    fail_call = call ? strtoul(call, NULL, 10) : 0;
    for (size_t i = 0; word && i < sizeof faults / sizeof faults[0]; i++)
        if (!strcmp(word, faults[i].word)) {
            fault = faults[i].fault;
            fail_errno = faults[i].number;
        }
}

__attribute__((destructor)) static void report(void)
{
    const char *path = getenv("TACIT_SHIM_REPORT");
    int fd =
        path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    char text[32];
    int n = snprintf(text, sizeof text, "%lu\n", atomic_load(&calls));
    if (fd >= 0 && syscall(SYS_write, fd, text, n) == n)
        syscall(SYS_close, fd);
}

static bool known(int fd)
{
    return fd >= 0 && fd < (int)(sizeof is_under / sizeof is_under[0]) && is_under[fd];
}

static bool path_counts(int folder, const char *path)
{
    size_t n = under ? strlen(under) : 0;
    if (path[0] != '/')
        return known(folder);
    return n && !strncmp(path, under, n) && (path[n] == '/' || path[n] == 0);
}

static void die(void)
{
    kill(getpid(), SIGKILL);
}

/* Counts an operation; what is to happen to it. */
static enum fault next(bool counts)
{
    if (!counts || atomic_fetch_add(&calls, 1) + 1 != fail_call)
        return NONE;
    if (fault == KILL)
        die();
    if (fault == FAIL)
        errno = fail_errno;
    return fault;
}

/* Behind an operation. */
static long after(enum fault what, long result)
{
    if (what == TORN)
        die();
    return result;
}

static size_t shorter(enum fault what, size_t size)
{
    return what == SHORT && size > 1 ? size - 1 : size;
}

static int do_open(int folder, const char *path, int flags, mode_t mode)
{
    bool counts = path_counts(folder, path);
    enum fault what = next(counts);
    if (what == FAIL)
        return -1;
    int fd = (int)after(what, syscall(SYS_openat, folder, path, flags, mode));
    if (fd >= 0 && fd < (int)(sizeof is_under / sizeof is_under[0]))
        is_under[fd] = counts;
    return fd;
}

static mode_t mode_of(int flags, va_list args)
{
    return (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(args, mode_t) : 0;
}

#define DEFINE_OPEN(name)                                                                          \
    SHIM int name(const char *path, int flags, ...)                                                \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = mode_of(flags, args);                                                        \
        va_end(args);                                                                              \
        return do_open(AT_FDCWD, path, flags, mode);                                               \
    }
#define DEFINE_OPENAT(name)                                                                        \
    SHIM int name(int folder, const char *path, int flags, ...)                                    \
    {                                                                                              \
        va_list args;                                                                              \
        va_start(args, flags);                                                                     \
        mode_t mode = mode_of(flags, args);                                                        \
        va_end(args);                                                                              \
        return do_open(folder, path, flags, mode);                                                 \
    }
DEFINE_OPEN(open)
DEFINE_OPEN(open64)
DEFINE_OPENAT(openat)
DEFINE_OPENAT(openat64)

/* The names that checked (fortified) calls have. */
SHIM int __open_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

SHIM int __open64_2(const char *path, int flags)
{
    return do_open(AT_FDCWD, path, flags, 0);
}

SHIM int __openat_2(int folder, const char *path, int flags)
{
    return do_open(folder, path, flags, 0);
}

SHIM int __openat64_2(int folder, const char *path, int flags)
{
    return do_open(folder, path, flags, 0);
}

SHIM ssize_t read(int fd, void *bytes, size_t size)
{
    enum fault what = next(known(fd));
    return what == FAIL ? -1 : after(what, syscall(SYS_read, fd, bytes, shorter(what, size)));
}

SHIM ssize_t __read_chk(int fd, void *bytes, size_t size, size_t room)
{
    (void)room;
    return read(fd, bytes, size);
}

static ssize_t do_pread(int fd, void *bytes, size_t size, off_t offset)
{
    enum fault what = next(known(fd));
    return what == FAIL ? -1
                        : after(what, syscall(SYS_pread64, fd, bytes, shorter(what, size), offset));
}

SHIM ssize_t pread(int fd, void *bytes, size_t size, off_t offset)
{
    return do_pread(fd, bytes, size, offset);
}

SHIM ssize_t pread64(int fd, void *bytes, size_t size, off64_t offset)
{
    return do_pread(fd, bytes, size, offset);
}

SHIM ssize_t __pread_chk(int fd, void *bytes, size_t size, off_t offset, size_t room)
{
    (void)room;
    return do_pread(fd, bytes, size, offset);
}

SHIM ssize_t __pread64_chk(int fd, void *bytes, size_t size, off64_t offset, size_t room)
{
    (void)room;
    return do_pread(fd, bytes, size, offset);
}

SHIM ssize_t write(int fd, const void *bytes, size_t size)
{
    enum fault what = next(known(fd));
    size = what == TORN ? size / 2 : shorter(what, size);
    return what == FAIL ? -1 : after(what, syscall(SYS_write, fd, bytes, size));
}

static ssize_t do_pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    enum fault what = next(known(fd));
    size = what == TORN ? size / 2 : shorter(what, size);
    return what == FAIL ? -1 : after(what, syscall(SYS_pwrite64, fd, bytes, size, offset));
}

SHIM ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    return do_pwrite(fd, bytes, size, offset);
}

SHIM ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset)
{
    return do_pwrite(fd, bytes, size, offset);
}

SHIM int fsync(int fd)
{
    enum fault what = next(known(fd));
    return what == FAIL ? -1 : (int)after(what, syscall(SYS_fsync, fd));
}

SHIM int fdatasync(int fd)
{
    enum fault what = next(known(fd));
    return what == FAIL ? -1 : (int)after(what, syscall(SYS_fdatasync, fd));
}

SHIM int renameat(int from_folder, const char *from, int to_folder, const char *to)
{
    enum fault what = next(path_counts(to_folder, to));
    return what == FAIL
               ? -1
               : (int)after(what, syscall(SYS_renameat2, from_folder, from, to_folder, to, 0));
}

SHIM int rename(const char *from, const char *to)
{
    return renameat(AT_FDCWD, from, AT_FDCWD, to);
}

SHIM int close(int fd)
{
    enum fault what = next(known(fd));
    int number = errno;
    if (fd >= 0 && fd < (int)(sizeof is_under / sizeof is_under[0]))
        is_under[fd] = false;
    int result = (int)after(what, syscall(SYS_close, fd));
    if (what == FAIL) {
        errno = number;
        return -1;
    }
    return result;
}

static int do_ftruncate(int fd, off_t size)
{
    enum fault what = next(known(fd));
    return what == FAIL ? -1 : (int)after(what, syscall(SYS_ftruncate, fd, size));
}

SHIM int ftruncate(int fd, off_t size)
{
    return do_ftruncate(fd, size);
}

SHIM int ftruncate64(int fd, off64_t size)
{
    return do_ftruncate(fd, size);
}

static void *do_mmap(void *at, size_t size, int access, int flags, int fd, off_t offset)
{
    enum fault what = next(known(fd));
    if (what == FAIL)
        return MAP_FAILED;
    return (void *)after(what, syscall(SYS_mmap, at, size, access, flags, fd, offset));
}

SHIM void *mmap(void *at, size_t size, int access, int flags, int fd, off_t offset)
{
    return do_mmap(at, size, access, flags, fd, offset);
}

SHIM void *mmap64(void *at, size_t size, int access, int flags, int fd, off64_t offset)
{
    return do_mmap(at, size, access, flags, fd, offset);
}
