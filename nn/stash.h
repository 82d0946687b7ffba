/* stash.h - packed weights that are kept between runs, so that the next one need not make them. */
#ifndef TACIT_STASH_H
#define TACIT_STASH_H

#include <stddef.h>

/* To be raised whenever what lies in a network's memory, or in which order, changes. */
#define TACIT_PACKED_LAYOUT 2

/* take: what was kept of a network that needs `size` bytes, TACIT_ALIGN aligned, writable and there
 * until the network is closed; NULL: nothing, and then keep is told of the bytes once they are
 * made. Both know from ctx of which weights and settings they are. */
typedef struct tacit_stash {
    void *(*take)(void *ctx, size_t size);
    void (*keep)(void *ctx, const void *bytes, size_t size);
    void *ctx;
} tacit_stash;

#endif
