/* packed_cache.h - a network's packed weights in a folder, mapped by the next run that needs them.
 *
 * <folder>/<key>.packed: "TACITPAK", the key, the size and a sum of what follows, and at 64 the
 * network's memory as nn/ laid it out. The key is of the weights' bytes, the network's whole
 * configuration, the instruction set and the version. The sum is the XXH3-64 of those of pieces.
 * A file that is not whole is not used, and is written anew; it is there whole or not at all.
 *
 * <folder>/<name>.sum: the XXH3-64 of a checkpoint that has the device, inode, size and times that
 * are in it, too, so that it need not be read to know the key. It is written where the file's last
 * change is old enough that the next one would show in the times.
 */
#ifndef TACIT_PACKED_CACHE_H
#define TACIT_PACKED_CACHE_H

#include "checkpoint.h"
#include "dialect.h"
#include "pool.h"
#include "stash.h"

typedef struct tacit_packed_cache {
    tacit_stash stash; /* whose ctx is this */
    char path[4096];
    uint64_t key;
    tacit_pool *pool; /* sums up */
    void *map;        /* what was taken, for as long as the network lives */
    size_t map_size;
    char note[256]; /* why nothing could be kept; empty: nothing to tell */
} tacit_packed_cache;

/* tacit_checkpoint_hash, by way of the folder. */
tacit_status tacit_packed_cache_hash(const char *folder, const tacit_checkpoint *checkpoint,
                                     uint64_t *hash, tacit_err *err);

/* config: the network as it will be opened. cache must stay where it is, longer than the network.
 * An error where the folder is none,
 * or its path too long. */
tacit_status tacit_packed_cache_open(tacit_packed_cache *cache, const char *folder,
                                     const tacit_dialect *dialect, uint64_t hash,
                                     const tacit_backbone_config *config,
                                     const tacit_kernels *kernels, tacit_pool *pool,
                                     tacit_err *err);
void tacit_packed_cache_close(tacit_packed_cache *cache);

#endif
