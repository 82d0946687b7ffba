/* watch.c - see watch.h. */
#include "watch.h"

#include <math.h>
#include <string.h>

#define SWEEPS 12
#define ALIKE  0.02 /* a spread below which all are nearly the same */

tacit_status tacit_watch_open(tacit_watch *w, size_t dim, tacit_err *err)
{
    *w = (tacit_watch){ .room = dim };
    w->unit = tacit_calloc(dim, TACIT_WATCH_ROWS * sizeof *w->unit);
    w->gram = tacit_calloc(TACIT_WATCH_ROWS, TACIT_WATCH_ROWS * sizeof *w->gram);
    return w->unit && w->gram ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory to watch");
}

void tacit_watch_close(tacit_watch *w)
{
    tacit_free(w->unit);
    tacit_free(w->gram);
    *w = (tacit_watch){ 0 };
}

/* The eigenvalues of a symmetric matrix of n rows, TACIT_WATCH_ROWS apart, to its diagonal:
 * Jacobi's rotations, row by row. */
static void eigenvalues(double *a, size_t n)
{
    enum { LD = TACIT_WATCH_ROWS };
    for (int sweep = 0; sweep < SWEEPS; sweep++)
        for (size_t p = 0; p + 1 < n; p++)
            for (size_t q = p + 1; q < n; q++) {
                double apq = a[p * LD + q], d = a[q * LD + q] - a[p * LD + p];
                if (fabs(apq) <= 1e-15 * sqrt(fabs(a[p * LD + p] * a[q * LD + q])))
                    continue;
                double theta = d / (2 * apq);
                double t = (theta < 0 ? -1 : 1) / (fabs(theta) + sqrt(theta * theta + 1));
                double c = 1 / sqrt(t * t + 1), s = t * c;
                for (size_t k = 0; k < n; k++) {
                    double x = a[k * LD + p], y = a[k * LD + q];
                    a[k * LD + p] = c * x - s * y;
                    a[k * LD + q] = s * x + c * y;
                }
                for (size_t k = 0; k < n; k++) {
                    double x = a[p * LD + k], y = a[q * LD + k];
                    a[p * LD + k] = c * x - s * y;
                    a[q * LD + k] = s * x + c * y;
                }
            }
}

static double effective_rank(double *gram, size_t n)
{
    double sum = 0, entropy = 0;
    eigenvalues(gram, n);
    for (size_t i = 0; i < n; i++) {
        double *value = &gram[i * TACIT_WATCH_ROWS + i];
        *value = *value > 0 ? sqrt(*value) : 0;
        sum += *value;
    }
    for (size_t i = 0; sum > 0 && i < n; i++) {
        double share = gram[i * TACIT_WATCH_ROWS + i] / sum;
        entropy -= share > 0 ? share * log(share) : 0;
    }
    return exp(entropy);
}

static double spread(const double *unit, size_t n, size_t dim)
{
    double sum = 0;
    for (size_t d = 0; d < dim; d++) {
        double mean = 0, square = 0;
        for (size_t i = 0; i < n; i++)
            mean += unit[i * dim + d] / (double)n;
        for (size_t i = 0; i < n; i++)
            square += (unit[i * dim + d] - mean) * (unit[i * dim + d] - mean);
        sum += sqrt(square / (double)n);
    }
    return sum / sqrt((double)dim);
}

/* Rows from [0, n / 2) of the first views, and of the second, or n of the first. */
static void take_rows(tacit_watch *w, const tacit_embeddings *e, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        size_t row = e->pairs && i >= n / 2 ? e->count / 2 + i - n / 2 : i;
        const float *x = e->rows + row * e->ld;
        double *u = w->unit + i * e->dim, norm = 0;
        for (size_t d = 0; d < e->dim; d++)
            norm += (double)x[d] * (double)x[d];
        norm = norm > 0 && !e->absolute ? sqrt(norm) : 1;
        for (size_t d = 0; d < e->dim; d++)
            u[d] = (double)x[d] / norm;
    }
}

void tacit_watch_look(tacit_watch *w, const tacit_embeddings *e)
{
    size_t n = e->count < TACIT_WATCH_ROWS ? e->count : TACIT_WATCH_ROWS, others = 0;
    w->seen = n >= 2 && e->dim <= w->room;
    if (!w->seen)
        return;
    w->pairs = e->pairs;
    n -= e->pairs ? n % 2 : 0;
    take_rows(w, e, n);
    w->spread = spread(w->unit, n, e->dim);
    w->alignment = w->uniformity = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double dot = 0, *g = w->gram;
            for (size_t d = 0; d < e->dim; d++)
                dot += w->unit[i * e->dim + d] * w->unit[j * e->dim + d];
            g[i * TACIT_WATCH_ROWS + j] = g[j * TACIT_WATCH_ROWS + i] = dot;
            double distance = 2 - 2 * dot;
            if (e->pairs && j + n / 2 == i) {
                w->alignment += distance / (double)(n / 2);
            } else if (j != i) {
                w->uniformity += exp(-2 * distance);
                others++;
            }
        }
    w->uniformity = others ? log(w->uniformity / (double)others) : 0;
    w->rank = effective_rank(w->gram, n);
}

void tacit_watch_look_outputs(tacit_watch *w, const tacit_embeddings *e)
{
    size_t n = e->count < TACIT_WATCH_ROWS ? e->count : TACIT_WATCH_ROWS;
    w->seen_outputs = n >= 2 && e->dim >= 2 && e->dim <= w->room;
    if (!w->seen_outputs)
        return;
    n -= e->pairs ? n % 2 : 0;
    take_rows(w, e, n);
    w->output_spread = spread(w->unit, n, e->dim) / (e->absolute ? sqrt((double)e->dim) : 1);
    for (size_t d = 0; d < e->dim; d++) {
        double mean = 0;
        for (size_t i = 0; i < n; i++)
            mean += w->unit[i * e->dim + d] / (double)n;
        for (size_t i = 0; i < n; i++)
            w->unit[i * e->dim + d] -= mean;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j <= i; j++) {
            double dot = 0, *g = w->gram;
            for (size_t d = 0; d < e->dim; d++)
                dot += w->unit[i * e->dim + d] * w->unit[j * e->dim + d];
            g[i * TACIT_WATCH_ROWS + j] = g[j * TACIT_WATCH_ROWS + i] = dot;
        }
    w->output_rank = effective_rank(w->gram, n);
}

const char *tacit_watch_collapse(const tacit_watch *w)
{
    if (w->seen && w->spread < ALIKE)
        return "the features of all images are nearly the same";
    if (w->seen_outputs && w->output_spread < ALIKE)
        return "what the loss is of is nearly the same for all images";
    return NULL;
}
