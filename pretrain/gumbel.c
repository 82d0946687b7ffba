/* gumbel.c - see gumbel.h. */
#include "gumbel.h"

#include "rng.h"

#include <string.h>

#define BLOCK 256

/* log(x) of n normal numbers > 0. x = 2^e m with m from sqrt(1/2) to sqrt(2), and log m = 2 s
 * (1 + s^2 / 3 + s^4 / 5 + ...) with s = (m - 1) / (m + 1): of |s| < 0.172 six terms do. Plain
 * operations alone, so that it is the same everywhere, and a loop that compilers turn to vectors.
 */
static void logs(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits, fraction;
        float m;
        memcpy(&bits, &x[i], sizeof bits);
        int32_t e = (int32_t)(bits - 0x3f3504f3u) >> 23;
        fraction = bits - ((uint32_t)e << 23);
        memcpy(&m, &fraction, sizeof m);
        float s = (m - 1) / (m + 1), z = s * s;
        float series = z * (1.0f / 3 + z * (1.0f / 5 + z * (1.0f / 7 + z * (1.0f / 9 + z / 11))));
        float twice = s + s;
        y[i] = (float)e * 0.693147181f + (twice + twice * series);
    }
}

void tacit_gumbel(uint64_t seed, uint64_t stream, size_t n, float *out)
{
    float u[BLOCK];
    for (size_t first = 0; first < n; first += BLOCK) {
        size_t count = n - first < BLOCK ? n - first : BLOCK;
        for (size_t i = 0; i < BLOCK; i += 4) {
            uint32_t w[4];
            tacit_philox(seed, stream, (first + i) / 4, w);
            for (size_t k = 0; k < 4; k++)
                u[i + k] = ((float)(w[k] >> 9) + 0.5f) * 0x1p-23f;
        }
        logs(BLOCK, u, u);
        for (size_t i = 0; i < BLOCK; i++)
            u[i] = -u[i];
        logs(BLOCK, u, u);
        for (size_t i = 0; i < count; i++)
            out[first + i] = -u[i];
    }
}
