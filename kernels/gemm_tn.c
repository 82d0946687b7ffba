/* gemm_tn.c - a transposed times b, both as they lie.
 *
 * A step of k broadcasts MR neighbours of a row of a, and loads NR of a row of b: the tile needs
 * neither transposed nor packed. Each step is on another page, which the rows' blocks of TACIT_KC
 * in the second-level cache bear, and a pack of blocks that are used a few times would not pay.
 */
#include "gemm_tile.h"

/* Where the lines of the next block of k are asked for: one in each step, rows ld apart. */
typedef struct tn_ahead {
    const float *at; /* NULL for none */
    size_t ld;
} tn_ahead;

/* rows and vectors are constants at every call; of the last vector `left` columns are valid. */
TACIT_INLINE void tn_fixed(size_t rows, size_t nv, size_t left, size_t k, const float *a,
                           size_t lda, const float *b, size_t ldb, tn_ahead ahead, float *c,
                           size_t ldc, bool more)
{
    vf acc[TACIT_MR][TACIT_NV];
    TACIT_TILE_EACH(acc[i][j] = vf_zero())
    for (size_t p = 0; p < k; p++, a += lda, b += ldb) {
        if (ahead.at) {
            __builtin_prefetch(ahead.at, 0, 2);
            ahead.at += ahead.ld;
        }
        vf column[TACIT_NV];
        _Pragma("GCC unroll 8") for (size_t j = 0; j < nv; j++)
        {
            column[j] = left == VF ? vf_load(b + j * VF) : vf_load_n(b + j * VF, left);
        }
        TACIT_TILE_EACH(acc[i][j] = vf_fma(vf_set1(a[i]), column[j], acc[i][j]))
    }
    if (left == VF) {
        if (more)
            TACIT_TILE_EACH(acc[i][j] = vf_add(vf_load(c + i * ldc + j * VF), acc[i][j]))
        TACIT_TILE_EACH(vf_store(c + i * ldc + j * VF, acc[i][j]))
    } else {
        if (more)
            TACIT_TILE_EACH(acc[i][j] = vf_add(vf_load_n(c + i * ldc + j * VF, left), acc[i][j]))
        TACIT_TILE_EACH(vf_store_n(c + i * ldc + j * VF, acc[i][j], left))
    }
}

/* A panel of NR columns, or (part) one vector of `left`. */
#define TN_TILE(name, nv, left)                                                                    \
    static __attribute__((noinline)) void name(                                                    \
        size_t rows, size_t columns, size_t k, const float *a, size_t lda, const float *b,         \
        size_t ldb, tn_ahead ahead, float *c, size_t ldc, bool more)                               \
    {                                                                                              \
        (void)columns;                                                                             \
        switch (rows) {                                                                            \
            TN_ROWS(nv, left)                                                                      \
        }                                                                                          \
    }
#define ROWS(r, nv, left)                                                                          \
    case r:                                                                                        \
        tn_fixed(r, nv, left, k, a, lda, b, ldb, ahead, c, ldc, more);                             \
        break;
#define FIRST_ROWS(nv, left)                                                                       \
    ROWS(1, nv, left)                                                                              \
    ROWS(2, nv, left)                                                                              \
    ROWS(3, nv, left)                                                                              \
    ROWS(4, nv, left)                                                                              \
    ROWS(5, nv, left)                                                                              \
    ROWS(6, nv, left)
#if TACIT_MR > 6
#define TN_ROWS(nv, left)                                                                          \
    FIRST_ROWS(nv, left)                                                                           \
    ROWS(7, nv, left)                                                                              \
    ROWS(8, nv, left)                                                                              \
    ROWS(9, nv, left)                                                                              \
    ROWS(10, nv, left)                                                                             \
    ROWS(11, nv, left)                                                                             \
    ROWS(12, nv, left)                                                                             \
    ROWS(13, nv, left)                                                                             \
    ROWS(14, nv, left)
#else
#define TN_ROWS FIRST_ROWS
#endif
TN_TILE(tn_whole, TACIT_NV, VF)
TN_TILE(tn_part, 1, columns)

/* Line t of what a block reads of a row of a, then of b; a and b are those of the
 * block that follows. */
TACIT_INLINE tn_ahead line_of(size_t t, size_t m, size_t n, const float *a, size_t lda,
                              const float *b, size_t ldb)
{
    size_t lines = (m + VF - 1) / VF;
    if (t < lines)
        return (tn_ahead){ a + t * VF, lda };
    t -= lines;
    return t < (n + VF - 1) / VF ? (tn_ahead){ b + t * VF, ldb } : (tn_ahead){ NULL, 0 };
}

void TACIT_NAME(tacit_gemm_tn_f32)(size_t m, size_t n, size_t k, const float *a, size_t lda,
                                   const float *b, size_t ldb, float *c, size_t ldc, bool more)
{
    size_t p = 0;
    if (!k && more)
        return;
    do { /* k = 0 still has one (empty) block, which stores zeros */
        size_t kc = k - p < TACIT_KC ? k - p : TACIT_KC, columns, t = 0;
        bool next = p + 2 * kc <= k; /* a whole block follows */
        for (size_t j = 0; j < n; j += columns) {
            bool whole = n - j >= TACIT_NR;
            columns = whole ? TACIT_NR : VF_LEFT(n, j);
            for (size_t i = 0; i < m; i += TACIT_MR) {
                size_t rows = m - i < TACIT_MR ? m - i : TACIT_MR;
                tn_ahead ahead = { NULL, 0 };
                if (next)
                    ahead = line_of(t++, m, n, a + (p + kc) * lda, lda, b + (p + kc) * ldb, ldb);
                (whole ? tn_whole : tn_part)(rows, columns, kc, a + p * lda + i, lda,
                                             b + p * ldb + j, ldb, ahead, c + i * ldc + j, ldc,
                                             more);
            }
        }
        more = true;
        p += kc;
    } while (p < k);
}
