/* pool.c - threads that take runs of chunks from shares. See pool.h.
 *
 * Invariants:
 *  (1) `state` holds, in one word, the number of the current job, whether it is open, and how many
 *      workers are inside it. A worker enters only an open job, and only by a compare-and-swap on
 *      the word that says so; the caller closes the job when its chunks are all taken and returns
 *      when nobody is inside.
 *  (2) So the job's fields are written only while it is closed and empty, and a worker that wakes
 *      late (a stolen virtual CPU) finds the door shut and delays nobody.
 *  (3) A waiter spins briefly, then sleeps on a condition variable. It counts itself as a sleeper
 *      before it looks at `state` a last time, and a waker changes `state` before it looks at the
 *      count (both sequentially consistent), so no wake-up is lost.
 */
#include "pool.h"

#include "cpu.h"
#include "mem.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define OPEN   ((uint64_t)1 << 31)
#define INSIDE (OPEN - 1)
#define JOB    ((uint64_t)1 << 32)

/* About 50 microseconds of pauses: longer than the gap between two layers of a small model, far
 * shorter than a scheduling quantum. */
#define SPINS 1000

struct tacit_pool {
    _Alignas(64) _Atomic uint64_t state;
    _Alignas(64) size_t chunks; /* chunks, shares, fn and ctx: the job, see (2) */
    size_t shares;
    tacit_chunk_fn *fn;
    void *ctx;
    int spins; /* none where there are more threads than CPUs: somebody else needs this one */
    _Atomic bool quit;
    _Atomic unsigned sleepers; /* workers that sleep or are about to */
    _Atomic bool caller_sleeps;
    pthread_mutex_t lock;
    pthread_cond_t wake_workers, wake_caller;
    unsigned threads; /* with the caller */
    struct worker {
        tacit_pool *pool;
        pthread_t thread;
        unsigned index;
        _Alignas(64) _Atomic size_t next; /* of the share with this index */
    } workers[];                          /* the first is the caller */
};

static inline void relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

static void run_share(tacit_pool *pool, size_t share, unsigned worker)
{
    _Atomic size_t *next = &pool->workers[share].next;
    size_t end = tacit_pool_share(pool->chunks, share + 1, pool->shares);
    for (;;) {
        /* May be out of date: then the run is a little longer than it should be. */
        size_t chunk = atomic_load_explicit(next, memory_order_relaxed), run;
        if (chunk >= end)
            return;
        run = tacit_pool_run(end - chunk);
        chunk = atomic_fetch_add_explicit(next, run, memory_order_relaxed);
        for (size_t i = 0; i < run && chunk + i < end; i++)
            pool->fn(pool->ctx, chunk + i, worker);
    }
}

static void run_chunks(tacit_pool *pool, unsigned worker)
{
    size_t first = worker * pool->shares / pool->threads;
    for (size_t i = 0; i < pool->shares; i++)
        run_share(pool, (first + i) % pool->shares, worker);
}

/* Waits until the pool quits (false) or a job after `seen` is or was open (true, *state is set). */
static bool wait_for_job(tacit_pool *pool, uint64_t seen, uint64_t *state)
{
    for (int i = 0; i < pool->spins; i++) {
        *state = atomic_load_explicit(&pool->state, memory_order_acquire);
        if (atomic_load_explicit(&pool->quit, memory_order_relaxed))
            return false;
        if (*state / JOB != seen)
            return true;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    for (;;) {
        *state = atomic_load(&pool->state);
        if (*state / JOB != seen || atomic_load(&pool->quit))
            break;
        pthread_cond_wait(&pool->wake_workers, &pool->lock);
    }
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
    return !atomic_load(&pool->quit);
}

static void *worker_main(void *arg)
{
    struct worker *self = arg;
    tacit_pool *pool = self->pool;
    uint64_t seen = 0, state;
    while (wait_for_job(pool, seen, &state)) {
        seen = state / JOB;
        bool entered = false;
        while ((state & OPEN) && state / JOB == seen && !entered)
            entered = atomic_compare_exchange_weak(&pool->state, &state, state + 1);
        if (!entered)
            continue;
        run_chunks(pool, self->index);
        uint64_t left = atomic_fetch_sub(&pool->state, 1) - 1;
        if (!(left & OPEN) && !(left & INSIDE) && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->wake_caller);
            pthread_mutex_unlock(&pool->lock);
        }
    }
    return NULL;
}

tacit_status tacit_pool_open(tacit_pool **out, unsigned threads, tacit_err *err)
{
    *out = NULL;
    if (threads < 1)
        threads = 1;
    size_t size;
    if (!tacit_mul_size(threads, sizeof(struct worker), &size) ||
        !tacit_add_size(size, sizeof(tacit_pool), &size))
        return tacit_fail(err, TACIT_EINVAL, "%u threads are too many", threads);
    tacit_pool *pool = tacit_calloc(1, size);
    if (!pool)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a pool of %u threads", threads);
    if (pthread_mutex_init(&pool->lock, NULL))
        goto no_lock;
    if (pthread_cond_init(&pool->wake_workers, NULL))
        goto no_workers;
    if (pthread_cond_init(&pool->wake_caller, NULL))
        goto no_caller;
    pool->threads = 1;
    pool->spins = threads <= tacit_cpu_count() ? SPINS : 0;
    for (unsigned i = 1; i < threads; i++) {
        struct worker *w = &pool->workers[i];
        *w = (struct worker){ .pool = pool, .index = i };
        if (pthread_create(&w->thread, NULL, worker_main, w))
            break; /* fewer threads, the same results */
        pool->threads = i + 1;
    }
    *out = pool;
    return TACIT_OK;

no_caller:
    pthread_cond_destroy(&pool->wake_workers);
no_workers:
    pthread_mutex_destroy(&pool->lock);
no_lock:
    tacit_free(pool);
    return tacit_fail(err, TACIT_ENOMEM, "the system gives no lock for a pool of threads");
}

void tacit_pool_close(tacit_pool **p)
{
    tacit_pool *pool = *p;
    *p = NULL;
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->quit, true);
    pthread_cond_broadcast(&pool->wake_workers);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 1; i < pool->threads; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->wake_caller);
    pthread_cond_destroy(&pool->wake_workers);
    pthread_mutex_destroy(&pool->lock);
    tacit_free(pool);
}

unsigned tacit_pool_threads(const tacit_pool *pool)
{
    return pool ? pool->threads : 1;
}

static bool somebody_inside(tacit_pool *pool)
{
    return (atomic_load(&pool->state) & INSIDE) != 0;
}

void tacit_parallel_for(tacit_pool *pool, size_t chunks, tacit_chunk_fn *fn, void *ctx)
{
    if (!pool || pool->threads == 1 || chunks < 2) {
        for (size_t chunk = 0; chunk < chunks; chunk++)
            fn(ctx, chunk, 0);
        return;
    }
    pool->fn = fn;
    pool->ctx = ctx;
    pool->chunks = chunks;
    pool->shares = tacit_pool_shares(chunks, pool->threads);
    for (size_t i = 0; i < pool->shares; i++)
        atomic_store_explicit(&pool->workers[i].next, tacit_pool_share(chunks, i, pool->shares),
                              memory_order_relaxed);
    atomic_store(&pool->state, (atomic_load(&pool->state) / JOB + 1) * JOB | OPEN);
    if (atomic_load(&pool->sleepers)) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->wake_workers);
        pthread_mutex_unlock(&pool->lock);
    }

    run_chunks(pool, 0);

    atomic_fetch_and(&pool->state, ~OPEN);
    for (int i = 0; i < pool->spins; i++) {
        if (!somebody_inside(pool))
            return;
        relax();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true);
    while (somebody_inside(pool))
        pthread_cond_wait(&pool->wake_caller, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}
