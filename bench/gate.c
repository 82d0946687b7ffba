/* gate.c - quantiles, how well they are known, and the rule. See gate.h. */
#include "gate.h"
#include "measure.h"
#include "rng.h"

#include <math.h>
#include <string.h>

/* What two runs of the same program may differ by (standard deviation of a logarithm) beyond what
 * repeats show: hours lie between them, and repeats only sample minutes. Measured: 0.1 to 0.4 %. */
#define DRIFT 0.003

/* A suspect at the first look: half of what is to be told. */
#define SUSPICIOUS 1.015

const char *tacit_verdict_word(tacit_verdict verdict)
{
    static const char *const words[] = { "same", "suspect", "slower", "faster", "undecided" };
    return words[verdict];
}

/* A lower quantile over repeats: disturbances only add, and may meet most of them. */
#define QUANTILE  0.25
#define RESAMPLES 400

typedef struct level {
    double log, variance; /* of the logarithm of a cost; the variance by the bootstrap */
} level;

/* The quantile of the values of x, ascending, each as often as count says, n in all. */
static double quantile_of(const double *x, const unsigned *count, unsigned n)
{
    double at = QUANTILE * (n - 1), part = at - floor(at);
    unsigned low = 0, seen = count[0];
    while (seen <= (unsigned)at)
        seen += count[++low];
    unsigned high = low;
    while (part > 0 && seen <= (unsigned)at + 1)
        seen += count[++high];
    return x[low] + part * (x[high] - x[low]);
}

static level level_of(const double *costs, unsigned n)
{
    double x[TACIT_GATE_REPEATS], sum = 0, squares = 0;
    for (unsigned i = 0; i < n; i++)
        x[i] = log(costs[i]);
    level l = { .log = tacit_quantile(x, n, QUANTILE) }; /* which sorts them */
    for (unsigned r = 0; r < RESAMPLES; r++) {
        unsigned count[TACIT_GATE_REPEATS] = { 0 };
        for (unsigned i = 0; i < n; i++)
            count[tacit_rng_u32(1, r, i) % n]++;
        double off = quantile_of(x, count, n) - l.log;
        sum += off;
        squares += off * off;
    }
    l.variance = (squares - sum * sum / RESAMPLES) / (RESAMPLES - 1);
    return l;
}

/* z with P(normal > z) = p, for 0 < p < 0.5, within 5e-4: Abramowitz and Stegun 26.2.23. */
static double normal_above(double p)
{
    double t = sqrt(-2 * log(p));
    return t - (2.515517 + t * (0.802853 + t * 0.010328)) /
                   (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
}

static bool measured(const double *costs)
{
    return costs[0] > 0;
}

tacit_shift tacit_gate_shift(const tacit_costs *then, const tacit_costs *now, size_t rows)
{
    bool fma = measured(then->fma) && measured(now->fma);
    bool copy = measured(then->copy) && measured(now->copy);
    if (fma && copy)
        copy = level_of(then->copy, then->n).variance < level_of(then->fma, then->n).variance;
    level a = level_of(copy ? then->copy : then->fma, then->n);
    level b = level_of(copy ? now->copy : now->fma, now->n);
    double shift = b.log - a.log;
    double half = normal_above(0.025 / (double)(rows ? rows : 1)) *
                  sqrt(a.variance + b.variance + 2 * DRIFT * DRIFT);
    return (tacit_shift){ exp(shift), exp(shift - half), exp(shift + half), copy };
}

tacit_verdict tacit_gate_look(const tacit_shift *now, tacit_look look)
{
    /* By 5 % it may be slower, for all that is known. */
    bool unknown = now->high >= 1.05;
    if (look == TACIT_LOOK_FIRST && (now->ratio >= SUSPICIOUS || unknown))
        return TACIT_SUSPECT;
    if (now->ratio >= TACIT_GATE_MARGIN && now->low > 1)
        return TACIT_SLOWER;
    if (now->ratio <= 1 / TACIT_GATE_MARGIN && now->high < 1)
        return TACIT_FASTER;
    return !unknown ? TACIT_SAME : look == TACIT_LOOK_LAST ? TACIT_UNDECIDED : TACIT_SUSPECT;
}

tacit_verdict tacit_gate_count(tacit_verdict by_time, const tacit_shift *now, double then_count,
                               double now_count)
{
    bool more = then_count > 0 && now_count >= TACIT_GATE_MARGIN * then_count;
    return more && now->high >= TACIT_GATE_MARGIN ? TACIT_SLOWER : by_time;
}
