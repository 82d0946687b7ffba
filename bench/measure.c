/* measure.c - clocks, quantiles, and the machine's limits. See measure.h. */
#include "measure.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

double tacit_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double tacit_thread_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double tacit_quantile(double *values, size_t n, double p)
{
    if (!n)
        return 0;
    qsort(values, n, sizeof *values, ascending);
    double at = p * (double)(n - 1);
    size_t i = (size_t)at;
    if (i + 1 >= n)
        return values[n - 1];
    return values[i] + (at - (double)i) * (values[i + 1] - values[i]);
}

/* CHAINS independent chains hide the latency of an FMA on every core so far (latency 4 or 5, 2 a
 * cycle, 4 a cycle of 128 bits on large Arm cores). */
#define CHAINS 16
#define STEPS  20000

/* Once a step: the compiler may not see through the factor, and so computes every step. (On each
 * chain it would keep the chains in memory.) */
#define OPAQUE(constraint, x) __asm__ volatile("" : "+" constraint(x))

#if defined(__x86_64__)
__attribute__((target("avx512f"))) static double fma_avx512(void)
{
    __m512 chain[CHAINS], x = _mm512_set1_ps(0.999f), y = _mm512_set1_ps(1e-3f);
    for (int i = 0; i < CHAINS; i++)
        chain[i] = _mm512_setzero_ps();
    for (int step = 0; step < STEPS; step++) {
        OPAQUE("v", x);
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            chain[i] = _mm512_fmadd_ps(chain[i], x, y);
    }
    for (int i = 1; i < CHAINS; i++)
        chain[0] = _mm512_add_ps(chain[0], chain[i]);
    OPAQUE("v", chain[0]);
    return 2.0 * 16 * CHAINS * STEPS;
}

/* 12 chains: with x and y, they fit 16 registers. */
__attribute__((target("avx2,fma"))) static double fma_avx2(void)
{
    __m256 chain[12], x = _mm256_set1_ps(0.999f), y = _mm256_set1_ps(1e-3f);
    for (int i = 0; i < 12; i++)
        chain[i] = _mm256_setzero_ps();
    for (int step = 0; step < STEPS; step++) {
        OPAQUE("x", x);
#pragma GCC unroll 12
        for (int i = 0; i < 12; i++)
            chain[i] = _mm256_fmadd_ps(chain[i], x, y);
    }
    for (int i = 1; i < 12; i++)
        chain[0] = _mm256_add_ps(chain[0], chain[i]);
    OPAQUE("x", chain[0]);
    return 2.0 * 8 * 12 * STEPS;
}
#elif defined(__aarch64__)
static double fma_neon(void)
{
    float32x4_t chain[CHAINS], x = vdupq_n_f32(0.999f), y = vdupq_n_f32(1e-3f);
    for (int i = 0; i < CHAINS; i++)
        chain[i] = vdupq_n_f32(0);
    for (int step = 0; step < STEPS; step++) {
        OPAQUE("w", x);
#pragma GCC unroll 16
        for (int i = 0; i < CHAINS; i++)
            chain[i] = vfmaq_f32(y, chain[i], x);
    }
    for (int i = 1; i < CHAINS; i++)
        chain[0] = vaddq_f32(chain[0], chain[i]);
    OPAQUE("w", chain[0]);
    return 2.0 * 4 * CHAINS * STEPS;
}
#endif

typedef struct fma_job {
    tacit_isa isa;
    double flops; /* of one chunk */
} fma_job;

static void fma_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    fma_job *j = ctx;
    double flops = 0;
#if defined(__x86_64__)
    flops = j->isa == TACIT_ISA_AVX512 ? fma_avx512() : fma_avx2();
#elif defined(__aarch64__)
    flops = fma_neon();
#endif
    if (chunk == 0)
        j->flops = flops;
}

double tacit_fma_limit_by(tacit_clock *clock, tacit_isa isa, tacit_pool *pool, double seconds)
{
    if (isa == TACIT_ISA_REF)
        return 0;
    /* Short chunks, taken as threads come free: a thread that loses its CPU for a while costs what
     * it costs a real kernel, not more. */
    fma_job j = { .isa = isa };
    double start = clock();
    fma_chunk(&j, 0, 0);
    double one = clock() - start;
    size_t chunks = (size_t)(seconds / one) * tacit_pool_threads(pool) + 1;
    start = clock();
    tacit_parallel_for(pool, chunks, fma_chunk, &j);
    return (double)chunks * j.flops / (clock() - start) * 1e-9;
}

double tacit_fma_limit(tacit_isa isa, tacit_pool *pool, double seconds)
{
    return tacit_fma_limit_by(tacit_now, isa, pool, seconds);
}

double tacit_copy_limit_by(tacit_clock *clock, void *blocks, size_t bytes, double seconds)
{
    unsigned char *from = blocks, *to = from + bytes / 2;
    double start = clock(), now = start, moved = 0;
    while (now - start < seconds || moved == 0) {
        for (size_t done = 0; done < (size_t)1 << 20; done += bytes + 1) {
            memcpy(to, from, bytes / 2);
            __asm__ volatile("" ::"r"(to) : "memory");
            moved += (double)bytes;
        }
        now = clock();
    }
    return moved / (now - start) * 1e-9;
}
