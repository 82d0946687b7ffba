/* norm_targets.c - see norm_targets.h. */
#include "norm_targets.h"

#include <math.h>
#include <string.h>

size_t tacit_norm_targets_scratch(size_t size)
{
    return 2 * (size + 1) * (size + 1);
}

/* sums[v][u] is that of all pixels above v and left of u, squares likewise. */
static void sum_up(size_t size, const float *x, double *sums, double *squares)
{
    size_t ld = size + 1;
    memset(sums, 0, ld * sizeof *sums);
    memset(squares, 0, ld * sizeof *squares);
    for (size_t v = 0; v < size; v++) {
        double sum = 0, square = 0;
        double *to = sums + (v + 1) * ld, *square_to = squares + (v + 1) * ld;
        to[0] = square_to[0] = 0;
        for (size_t u = 0; u < size; u++) {
            double value = (double)x[v * size + u];
            sum += value;
            square += value * value;
            to[u + 1] = to[u + 1 - ld] + sum;
            square_to[u + 1] = square_to[u + 1 - ld] + square;
        }
    }
}

void tacit_norm_targets(size_t size, size_t window, const float *x, float *y, float *mean,
                        float *root, double *scratch)
{
    size_t ld = size + 1, reach = window / 2;
    double *sums = scratch, *squares = scratch + ld * ld;
    sum_up(size, x, sums, squares);
    for (size_t v = 0; v < size; v++)
        for (size_t u = 0; u < size; u++) {
            size_t v0 = v < reach ? 0 : v - reach, u0 = u < reach ? 0 : u - reach;
            size_t v1 = v + reach < size ? v + reach + 1 : size;
            size_t u1 = u + reach < size ? u + reach + 1 : size;
            size_t a = v0 * ld + u0, b = v0 * ld + u1, c = v1 * ld + u0, d = v1 * ld + u1;
            double n = (double)((v1 - v0) * (u1 - u0));
            double m = (sums[d] - sums[b] - sums[c] + sums[a]) / n;
            double m2 = (squares[d] - squares[b] - squares[c] + squares[a]) / n;
            double variance = (m2 - m * m) * (n / (n - 1));
            double r = sqrt((variance > 0 ? variance : 0) + 1e-6);
            size_t i = v * size + u;
            if (mean)
                mean[i] = (float)m;
            if (root)
                root[i] = (float)r;
            y[i] = (float)(((double)x[i] - m) / r);
        }
}
