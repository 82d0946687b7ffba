/* malloc_shim.c - makes the Nth allocation of a whole process fail, libraries and all. For
 * LD_PRELOAD with glibc.
 *
 * TACIT_SHIM_ALLOC    N, from 1: which allocation after main has begun
 * TACIT_SHIM_PERSIST  1: every one after it, too
 * TACIT_SHIM_REPORT   a file that gets the number of allocations counted, at exit
 */
#undef _FILE_OFFSET_BITS
#undef _FORTIFY_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#define SHIM __attribute__((visibility("default")))

/* glibc's own names for its heap. */
void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *p, size_t size);
void *__libc_memalign(size_t align, size_t size);

static unsigned long fail_at;
static bool persist;
static _Atomic bool counting;
static _Atomic unsigned long calls;

static bool fails(void)
{
    if (!atomic_load_explicit(&counting, memory_order_relaxed))
        return false;
    unsigned long n = atomic_fetch_add(&calls, 1) + 1;
    if (n != fail_at && !(persist && fail_at && n > fail_at))
        return false;
    errno = ENOMEM;
    return true;
}

SHIM void *malloc(size_t size)
{
    return fails() ? NULL : __libc_malloc(size);
}

SHIM void *calloc(size_t count, size_t size)
{
    return fails() ? NULL : __libc_calloc(count, size);
}

SHIM void *realloc(void *p, size_t size)
{
    return fails() ? NULL : __libc_realloc(p, size);
}

SHIM void *memalign(size_t align, size_t size)
{
    return fails() ? NULL : __libc_memalign(align, size);
}

SHIM void *aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : __libc_memalign(align, size);
}

SHIM int posix_memalign(void **out, size_t align, size_t size)
{
    void *p = fails() ? NULL : __libc_memalign(align, size);
    if (p)
        *out = p;
    return p ? 0 : ENOMEM;
}

static int (*real_main)(int, char **, char **);

static int counted_main(int argc, char **argv, char **environment)
{
    const char *at = getenv("TACIT_SHIM_ALLOC");
    fail_at = at ? strtoul(at, NULL, 10) : 0;
    persist = getenv("TACIT_SHIM_PERSIST") != NULL;
    atomic_store(&counting, true);
    return real_main(argc, argv, environment);
}

typedef int start_main(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                       void (*)(void), void *);

SHIM int __libc_start_main(int (*main)(int, char **, char **), int argc, char **argv,
                           void (*init)(void), void (*fini)(void), void (*rtld_fini)(void),
                           void *stack_end)
{
    start_main *start;
    void *symbol = dlsym(RTLD_NEXT, "__libc_start_main");
    memcpy(&start, &symbol, sizeof start);
    real_main = main;
    return start(counted_main, argc, argv, init, fini, rtld_fini, stack_end);
}

__attribute__((destructor)) static void report(void)
{
    atomic_store(&counting, false);
    const char *path = getenv("TACIT_SHIM_REPORT");
    int fd =
        path ? (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0666) : -1;
    char text[32];
    int n = snprintf(text, sizeof text, "%lu\n", atomic_load(&calls));
    if (fd >= 0 && syscall(SYS_write, fd, text, n) == n)
        syscall(SYS_close, fd);
}
