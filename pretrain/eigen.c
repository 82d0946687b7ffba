/* eigen.c - see eigen.h. */
#include "eigen.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define SWEEPS 60 /* of QL steps for one value, of which it takes 2 or so */

static double dot(size_t n, const double *x, const double *y)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += x[i] * y[i];
    return sum;
}

static void add_scaled(size_t n, double factor, const double *x, double *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] += factor * x[i];
}

/* The reflection 1 - 2 v v^T, |v| = 1, that makes x (n) a multiple of its first unit vector, which
 * is given; v is put in x's place, 0 where there is nothing to do. */
static double reflect(size_t n, double *x)
{
    double norm = sqrt(dot(n, x, x)), first = x[0] > 0 ? -norm : norm;
    if (dot(n - 1, x + 1, x + 1) == 0) {
        first = x[0];
        memset(x, 0, n * sizeof *x);
        return first;
    }
    x[0] -= first;
    norm = sqrt(dot(n, x, x));
    for (size_t i = 0; i < n; i++)
        x[i] /= norm;
    return first;
}

/* Q^T a Q = T, whose diagonal goes to d and what is beside it to e; vectors = Q^T. v of step k is
 * kept in row k of a. */
static void tridiagonal(size_t n, double *a, double *d, double *e, double *q, double *vectors)
{
    memset(vectors, 0, n * n * sizeof *vectors);
    for (size_t k = 0; k < n; k++) {
        size_t m = n - k - 1;
        double *v = a + k * n + k + 1, *rest = a + (k + 1) * n + k + 1;
        d[k] = a[k * n + k];
        vectors[k * n + k] = 1;
        if (m)
            e[k] = reflect(m, v);
        for (size_t i = 0; i < m; i++)
            q[i] = 2 * dot(m, rest + i * n, v);
        add_scaled(m, -dot(m, q, v), v, q);
        for (size_t i = 0; i < m; i++) {
            add_scaled(m, -q[i], v, rest + i * n);
            add_scaled(m, -v[i], q, rest + i * n);
        }
    }
    for (size_t k = n; k-- > 0;) { /* vectors times the reflections, the last first */
        size_t m = n - k - 1;
        const double *v = a + k * n + k + 1;
        for (size_t i = k + 1; i < n; i++) {
            double *row = vectors + i * n + k + 1;
            add_scaled(m, -2 * dot(m, row, v), v, row);
        }
    }
}

/* Rows a and b turned. */
static void turn(size_t n, double c, double s, double *a, double *b)
{
    for (size_t i = 0; i < n; i++) {
        double x = a[i], y = b[i];
        a[i] = c * x - s * y;
        b[i] = s * x + c * y;
    }
}

/* One implicit QL step on rows [l, m] of T. */
static void step(size_t n, size_t l, size_t m, double *d, double *e, double *vectors)
{
    double g = (d[l + 1] - d[l]) / (2 * e[l]), r = sqrt(g * g + 1), s = 1, c = 1, p = 0;
    g = d[m] - d[l] + e[l] / (g < 0 ? g - r : g + r);
    e[m] = 0;
    for (size_t i = m; i-- > l;) {
        double f = s * e[i], b = c * e[i];
        r = sqrt(f * f + g * g);
        if (i + 1 < m)
            e[i + 1] = r;
        if (r == 0) { /* it has come apart here */
            d[i + 1] -= p;
            return;
        }
        s = f / r;
        c = g / r;
        g = d[i + 1] - p;
        r = (d[i] - g) * s + 2 * c * b;
        p = s * r;
        d[i + 1] = g + p;
        g = c * r - b;
        turn(n, c, s, vectors + i * n, vectors + (i + 1) * n);
    }
    d[l] -= p;
    e[l] = g;
}

void tacit_eigen_symmetric(size_t n, double *a, double *values, double *vectors, double *scratch)
{
    double *e = scratch;
    if (!n)
        return;
    tridiagonal(n, a, values, e, scratch + n, vectors);
    e[n - 1] = 0;
    for (size_t l = 0; l < n; l++)
        for (int sweep = 0; sweep < SWEEPS; sweep++) {
            size_t m = l;
            while (m + 1 < n && fabs(e[m]) > DBL_EPSILON * (fabs(values[m]) + fabs(values[m + 1])))
                m++;
            if (m == l)
                break;
            step(n, l, m, values, e, vectors);
        }
}
