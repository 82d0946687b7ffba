/* packed_cache.c - see packed_cache.h. */
#include "packed_cache.h"

#include "atomic_file.h"
#include "canonical.h"
#include "extractor.h"
#include "mem.h"
#include "meta.h"

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#define HEADER 64

typedef struct header {
    char magic[8];
    uint64_t key, size, sum;
    char rest[HEADER - 32];
} header;

#define PIECE ((size_t)4 << 20)

typedef struct summing {
    const char *bytes;
    size_t size;
    uint64_t *sums;
} summing;

static void sum_piece(void *ctx, size_t piece, unsigned worker)
{
    (void)worker;
    const summing *s = ctx;
    size_t at = piece * PIECE, n = s->size - at < PIECE ? s->size - at : PIECE;
    s->sums[piece] = XXH3_64bits(s->bytes + at, n);
}

/* False where memory is short. */
static bool make_header(const tacit_packed_cache *cache, const void *bytes, size_t size, header *h)
{
    size_t pieces = size / PIECE + 1;
    summing s = { bytes, size, tacit_calloc(pieces, sizeof *s.sums) };
    if (!s.sums)
        return false;
    tacit_parallel_for(cache->pool, pieces, sum_piece, &s);
    *h = (header){ .magic = "TACITPAK", .key = cache->key, .size = size };
    h->sum = XXH3_64bits(s.sums, pieces * sizeof *s.sums);
    tacit_free(s.sums);
    return true;
}

static void *take(void *ctx, size_t size)
{
    tacit_packed_cache *cache = ctx;
    struct stat info;
    int fd = open(cache->path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    void *map = MAP_FAILED;
    if (!fstat(fd, &info) && info.st_size >= HEADER && (uint64_t)info.st_size - HEADER == size)
        map = mmap(NULL, size + HEADER, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return NULL;
    char *bytes = (char *)map + HEADER;
    header want;
    if (!make_header(cache, bytes, size, &want) || memcmp(map, &want, sizeof want)) {
        munmap(map, size + HEADER);
        return NULL;
    }
    cache->map = map;
    cache->map_size = size + HEADER;
    return bytes;
}

static void keep(void *ctx, const void *bytes, size_t size)
{
    tacit_packed_cache *cache = ctx;
    tacit_atomic file;
    tacit_err err;
    header h;
    tacit_status st = make_header(cache, bytes, size, &h)
                          ? tacit_atomic_open(&file, cache->path, &err)
                          : tacit_fail(&err, TACIT_ENOMEM, "out of memory");
    if (st >= 0) {
        st = tacit_write_all(file.fd, &h, sizeof h, cache->path, &err);
        if (st >= 0)
            st = tacit_write_all(file.fd, bytes, size, cache->path, &err);
        if (st >= 0)
            st = tacit_atomic_commit(&file, &err);
        else
            tacit_atomic_abort(&file);
    }
    if (st < 0)
        snprintf(cache->note, sizeof cache->note, "packed weights are not kept: %.200s", err.text);
}

/* What a file is known again by. */
typedef struct identity {
    char magic[8];
    uint64_t device, inode, size;
    int64_t changed[2], modified[2]; /* seconds and nanoseconds */
    uint64_t hash, sum;              /* of the file; of this up to here */
} identity;

#define OLD 2 /* seconds: longer than any clock of a file system takes to tick */

static bool identify(const char *folder, const char *path, identity *id, char *name, size_t size)
{
    struct stat info;
    struct timespec now;
    if (stat(path, &info) || !S_ISREG(info.st_mode) || clock_gettime(CLOCK_REALTIME, &now) ||
        now.tv_sec - info.st_ctim.tv_sec < OLD)
        return false;
    *id = (identity){ .magic = "TACITSUM",
                      .device = info.st_dev,
                      .inode = info.st_ino,
                      .size = (uint64_t)info.st_size,
                      .changed = { info.st_ctim.tv_sec, info.st_ctim.tv_nsec },
                      .modified = { info.st_mtim.tv_sec, info.st_mtim.tv_nsec } };
    int n = snprintf(name, size, "%s/%016llx.sum", folder,
                     (unsigned long long)XXH3_64bits(id, offsetof(identity, hash)));
    return n > 0 && (size_t)n < size;
}

tacit_status tacit_packed_cache_hash(const char *folder, const tacit_checkpoint *checkpoint,
                                     uint64_t *hash, tacit_err *err)
{
    identity id, found;
    char name[4096];
    /* Of shards the index alone would be looked at. */
    bool known = !strstr(tacit_checkpoint_container(checkpoint), "sharded") &&
                 identify(folder, tacit_checkpoint_path(checkpoint), &id, name, sizeof name);
    int fd = known ? open(name, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0) {
        ssize_t n = read(fd, &found, sizeof found);
        close(fd);
        if (n == sizeof found && !memcmp(&found, &id, offsetof(identity, hash)) &&
            found.sum == XXH3_64bits(&found, offsetof(identity, sum))) {
            *hash = found.hash;
            return TACIT_OK;
        }
    }
    tacit_status st = tacit_checkpoint_hash(checkpoint, hash, err);
    if (st >= 0 && known) {
        tacit_err unsaid; /* it is only read again */
        id.hash = *hash;
        id.sum = XXH3_64bits(&id, offsetof(identity, sum));
        tacit_file_replace(name, &id, sizeof id, &unsaid);
    }
    return st;
}

/* Of all that decides what the bytes are. */
static char *key_text(const tacit_dialect *dialect, uint64_t hash,
                      const tacit_backbone_config *config, const tacit_kernels *kernels)
{
    tacit_dialect as = *dialect;
    as.config = *config;
    bool vit = config->family == TACIT_FAMILY_VIT;
    unsigned precision = vit ? config->vit.precision : config->resnet.precision;
    unsigned depth = vit ? config->vit.depth : 0, height, width;
    tacit_backbone_input(config, &height, &width);
    json_t *note = tacit_canonical_json(&as, "", hash);
    json_t *all =
        note ? json_pack("{s:o, s:s, s:i, s:s, s:s, s:i, s:i, s:i}", "network", note, "version",
                         TACIT_VERSION, "layout", TACIT_PACKED_LAYOUT, "isa",
                         tacit_isa_name(kernels->isa), "precision", tacit_precision_name(precision),
                         "depth", (int)depth, "height", (int)height, "width", (int)width)
             : NULL;
    char *text =
        all ? tacit_json_dump(all, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION(17)) : NULL;
    json_decref(all);
    return text;
}

tacit_status tacit_packed_cache_open(tacit_packed_cache *cache, const char *folder,
                                     const tacit_dialect *dialect, uint64_t hash,
                                     const tacit_backbone_config *config,
                                     const tacit_kernels *kernels, tacit_pool *pool, tacit_err *err)
{
    *cache = (tacit_packed_cache){ .stash = { take, keep, cache }, .pool = pool };
    struct stat info;
    if (stat(folder, &info) || !S_ISDIR(info.st_mode))
        return tacit_fail(err, TACIT_EIO, "%s: no folder to keep packed weights in", folder);
    char *text = key_text(dialect, hash, config, kernels);
    if (!text)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    cache->key = XXH3_64bits(text, strlen(text));
    tacit_free(text);
    int n = snprintf(cache->path, sizeof cache->path, "%s/%016llx.packed", folder,
                     (unsigned long long)cache->key);
    if (n < 0 || (size_t)n >= sizeof cache->path)
        return tacit_fail(err, TACIT_ELIMIT, "%s: the path is too long", folder);
    return TACIT_OK;
}

void tacit_packed_cache_close(tacit_packed_cache *cache)
{
    if (cache->map)
        munmap(cache->map, cache->map_size);
    *cache = (tacit_packed_cache){ 0 };
}
