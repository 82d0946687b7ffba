/* scratch.h - a folder for the files of a test: under TMPDIR; unless told in memory, where there is
 * room, since what is tested syncs each file and folder several times; else under /tmp. */
#ifndef TACIT_TESTS_SCRATCH_H
#define TACIT_TESTS_SCRATCH_H

#include <check.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

static char scratch_folder[256];

static inline void scratch_open(void)
{
    const char *tmp = getenv("TMPDIR"), *memory = "/dev/shm";
    struct statvfs room;
    if (!tmp)
        tmp = access(memory, W_OK | X_OK) == 0 && statvfs(memory, &room) == 0 &&
                      (double)room.f_bavail * (double)room.f_bsize >= 0x1p30
                  ? memory
                  : "/tmp";
    snprintf(scratch_folder, sizeof scratch_folder, "%.200s/tacit-test-XXXXXX", tmp);
    ck_assert_ptr_nonnull(mkdtemp(scratch_folder));
}

static inline int scratch_remove(const char *path, const struct stat *info, int kind,
                                 struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

static inline void scratch_close(void)
{
    nftw(scratch_folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path of a name in the folder; the last 8 results are valid. */
static inline const char *scratch(const char *name)
{
    static char paths[8][1024];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

/* The path of a file in tests/data. */
static inline const char *golden(const char *name)
{
    static char paths[8][1024];
    static unsigned turn;
    char *path = paths[turn++ % 8];
    const char *source = getenv("TACIT_SOURCE");
    snprintf(path, sizeof paths[0], "%s/tests/data/%s", source ? source : ".", name);
    return path;
}

static inline void file_put(const char *path, const void *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    ck_assert_msg(f && fwrite(bytes, 1, size, f) == size && !fclose(f), "cannot write %s", path);
}

/* The file's bytes; freed with free. */
static inline unsigned char *file_get(const char *path, size_t *size)
{
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f != NULL, "cannot read %s", path);
    fseek(f, 0, SEEK_END);
    *size = (size_t)ftell(f);
    rewind(f);
    unsigned char *bytes = malloc(*size + 1);
    ck_assert_uint_eq(fread(bytes, 1, *size, f), *size);
    bytes[*size] = 0;
    fclose(f);
    return bytes;
}

/* How many names are in a folder. */
static inline unsigned count_names(const char *path)
{
    unsigned n = 0;
    DIR *d = opendir(path);
    ck_assert_ptr_nonnull(d);
    for (struct dirent *e; (e = readdir(d));)
        n += strcmp(e->d_name, ".") && strcmp(e->d_name, "..");
    closedir(d);
    return n;
}

/* A file without a name: `path` opens it. */
struct memory_file {
    int fd;
    char path[64];
};

static inline void memory_file_open(struct memory_file *file)
{
    file->fd = memfd_create("test", MFD_CLOEXEC);
    ck_assert_int_ge(file->fd, 0);
    snprintf(file->path, sizeof file->path, "/proc/self/fd/%d", file->fd);
}

static inline void memory_file_set(const struct memory_file *file, const void *bytes, size_t size)
{
    ck_assert_int_eq(ftruncate(file->fd, 0), 0);
    ck_assert_int_eq(pwrite(file->fd, bytes, size, 0), (ssize_t)size);
}

/* CPU time of this thread in seconds: other processes do not count. */
static inline double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
