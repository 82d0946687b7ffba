/* pool.h - a small pool of threads for chunks of work.
 *
 * How a problem is cut into chunks depends on the problem alone, never on the number of threads;
 * a chunk writes only to memory that belongs to it. Whoever takes which chunk then does not matter,
 * and results have the same bits for any number of threads. The pool is passed in, never global.
 */
#ifndef TACIT_POOL_H
#define TACIT_POOL_H

#include "status.h"

#include <stddef.h>

typedef struct tacit_pool tacit_pool;

/* worker is in [0, tacit_pool_threads): an index for scratch memory, never for results. */
typedef void tacit_chunk_fn(void *ctx, size_t chunk, unsigned worker);

/* A pool of `threads` (at least 1) workers, of which the caller of tacit_parallel_for is one.
 * Where the system gives fewer threads, the pool has fewer; it fails only for lack of memory. */
tacit_status tacit_pool_open(tacit_pool **pool, unsigned threads, tacit_err *err);
void tacit_pool_close(tacit_pool **pool);

/* 1 for NULL. */
unsigned tacit_pool_threads(const tacit_pool *pool);

/* Chunks are dealt out in shares: a thread begins with its own, and then helps with the others'. So
 * the rows of a matrix, which are cut in order, are one thread's in every layer, and in its caches.
 * Of few chunks the shares are fewer than the threads. Share i begins at tacit_pool_share(.., i,
 * ..), and ends where the next begins. */
static inline size_t tacit_pool_shares(size_t chunks, unsigned threads)
{
    return chunks / 4 < threads ? chunks / 4 + 1 : threads;
}

static inline size_t tacit_pool_share(size_t chunks, size_t share, size_t shares)
{
    return chunks / shares * share + (share < chunks % shares ? share : chunks % shares);
}

/* How many chunks a thread takes at once, of `left` of a share: a part that shrinks to one chunk
 * ("guided" scheduling, Polychronopoulos and Kuck 1987). Neighbouring chunks often write
 * to neighbouring memory. If two threads have them at the same time, what the one's cache reads
 * ahead is taken from the other's, line by line, which cost 3 to 16 % of a ViT's training step. */
static inline size_t tacit_pool_run(size_t left)
{
    return left / 4 + 1;
}

/* Calls fn(ctx, c, worker) once for every c in [0, chunks), in any order, and returns when all are
 * done; what one thread had better do comes side by side. pool NULL runs them in order on the
 * caller. One call at a time on a pool, not from inside a chunk of the same pool. */
void tacit_parallel_for(tacit_pool *pool, size_t chunks, tacit_chunk_fn *fn, void *ctx);

#endif
