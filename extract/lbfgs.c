/* lbfgs.c - see lbfgs.h. */
#include "lbfgs.h"

#include "mem.h"

#include <math.h>
#include <string.h>

#define MOST_PAIRS  32
#define DECREASE    1e-4 /* c1 of Armijo's condition */
#define CURVATURE   0.9  /* c2 */
#define MOST_TRIALS 20   /* of a line search */
#define GUESSES     5    /* steps whose length is guessed */
#define NOISE       1e-6 /* of the value: what sums of float32 may be off; below, slopes tell */

typedef struct state {
    const tacit_lbfgs *p;
    tacit_lbfgs_result *result;
    float *gradient, *direction, *work;
    float *next, *next_gradient; /* of a trial */
    float *s[MOST_PAIRS], *y[MOST_PAIRS];
    double rho[MOST_PAIRS], scale;
    unsigned first, count; /* of the ring of pairs, oldest first */
    double slope;
} state;

static double dot(const state *s, const float *x, const float *y)
{
    return s->p->kernels->dot_f64(s->p->n, x, y);
}

/* y += factor * x */
static void add(size_t n, double factor, const float *x, float *y)
{
    float f = (float)factor;
    for (size_t i = 0; i < n; i++)
        y[i] += f * x[i];
}

/* direction = -H gradient by the two loops. */
static void find_direction(state *s)
{
    size_t n = s->p->n;
    double alpha[MOST_PAIRS];
    memcpy(s->work, s->gradient, n * sizeof *s->work);
    for (unsigned i = s->count; i-- > 0;) {
        unsigned at = (s->first + i) % s->p->pairs;
        alpha[i] = s->rho[at] * dot(s, s->s[at], s->work);
        add(n, -alpha[i], s->y[at], s->work);
    }
    s->p->precondition(s->p->ctx, s->work, s->direction);
    float scale = (float)s->scale;
    for (size_t i = 0; i < n; i++)
        s->direction[i] *= scale;
    for (unsigned i = 0; i < s->count; i++) {
        unsigned at = (s->first + i) % s->p->pairs;
        double beta = s->rho[at] * dot(s, s->y[at], s->direction);
        add(n, alpha[i] - beta, s->s[at], s->direction);
    }
    for (size_t i = 0; i < n; i++)
        s->direction[i] = -s->direction[i];
    s->slope = dot(s, s->gradient, s->direction);
}

/* Remembers the step to next, unless the curvature along it is not positive. */
static void remember(state *s, const float *x)
{
    size_t n = s->p->n;
    unsigned at = (s->first + s->count) % s->p->pairs;
    for (size_t i = 0; i < n; i++) {
        s->s[at][i] = s->next[i] - x[i];
        s->y[at][i] = s->next_gradient[i] - s->gradient[i];
    }
    double sy = dot(s, s->s[at], s->y[at]);
    s->p->precondition(s->p->ctx, s->y[at], s->work);
    double yy = dot(s, s->y[at], s->work);
    if (!(sy > 0) || !(yy > 0))
        return;
    s->rho[at] = 1 / sy;
    s->scale = sy / yy;
    if (s->count < s->p->pairs)
        s->count++;
    else
        s->first = (s->first + 1) % s->p->pairs;
}

typedef struct trial {
    double step, value, slope;
} trial;

static trial try(state *s, const float *x, double step)
{
    memcpy(s->next, x, s->p->n * sizeof *x);
    add(s->p->n, step, s->direction, s->next);
    s->result->evaluations++;
    double value = s->p->evaluate(s->p->ctx, s->next, s->next_gradient);
    return (trial){ step, value, dot(s, s->next_gradient, s->direction) };
}

/* Where the cubic through both has its minimum, well inside of the interval. */
static double between(trial a, trial b)
{
    double width = b.step - a.step;
    double d1 = a.slope + b.slope - 3 * (a.value - b.value) / (a.step - b.step);
    double d2 = sqrt(d1 * d1 - a.slope * b.slope);
    d2 = width < 0 ? -d2 : d2;
    double at =
        (b.step - width * (b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2) - a.step) / width;
    return a.step + width * (at >= 0.1 && at <= 0.9 ? at : 0.5);
}

/* Sets next to a point that will do; false where there is none but by the noise of the value. */
static bool search_line(state *s, const float *x, trial *found)
{
    double value = s->result->value, noise = NOISE * fabs(value);
    trial low = { 0, value, s->slope }, high = { 0 };
    bool bracketed = false;
    bool blind = s->result->steps < GUESSES && s->p->guess;
    double step = blind ? s->p->guess(s->p->ctx, x, s->direction, s->slope) : 1;
    for (unsigned i = 0; i < MOST_TRIALS; i++) {
        trial t = *found = try(s, x, step);
        if (!(t.value <= value + DECREASE * step * s->slope + noise) ||
            (low.step > 0 && t.value > low.value + noise)) {
            if (!isfinite(t.value)) { /* too far: nothing to interpolate */
                step = (low.step + step) / 2;
                continue;
            }
            high = t;
            bracketed = true;
        } else if (fabs(t.slope) <= -CURVATURE * s->slope) {
            return true;
        } else {
            if (bracketed ? t.slope * (high.step - low.step) >= 0 : t.slope >= 0) {
                high = low;
                bracketed = true;
            }
            low = t;
        }
        step = bracketed ? between(low, high) : 2 * step;
    }
    return found->value < value;
}

size_t tacit_lbfgs_floats(size_t n, unsigned pairs)
{
    return n * (5 + 2 * (size_t)pairs);
}

tacit_status tacit_lbfgs_minimize(const tacit_lbfgs *p, float *x, tacit_lbfgs_result *result,
                                  tacit_err *err)
{
    size_t n = p->n;
    float *all =
        p->pairs <= MOST_PAIRS ? tacit_calloc(tacit_lbfgs_floats(n, p->pairs), sizeof *all) : NULL;
    if (!all)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory to minimise over %zu variables", n);
    state s = { .p = p,
                .result = result,
                .gradient = all,
                .direction = all + n,
                .work = all + 2 * n,
                .next = all + 3 * n,
                .next_gradient = all + 4 * n,
                .scale = 1 };
    for (unsigned i = 0; i < p->pairs; i++) {
        s.s[i] = all + (5 + 2 * i) * n;
        s.y[i] = all + (6 + 2 * i) * n;
    }
    *result = (tacit_lbfgs_result){ .evaluations = 1 };
    result->value = p->evaluate(p->ctx, x, s.gradient);
    while (result->steps < p->max_steps) {
        find_direction(&s);
        if (!(s.slope < 0) && s.count) { /* rounding has spoilt the model: begin it anew */
            s.count = 0;
            continue;
        }
        result->converged = !(-s.slope / 2 > p->tolerance * fabs(result->value));
        trial t;
        if (result->converged)
            break;
        if (!search_line(&s, x, &t)) { /* as far as the arithmetic goes, or far from it */
            result->converged = !(-s.slope / 2 > NOISE * fabs(result->value));
            break;
        }
        remember(&s, x);
        memcpy(x, s.next, n * sizeof *x);
        float *swap = s.gradient;
        s.gradient = s.next_gradient;
        s.next_gradient = swap;
        result->value = t.value;
        result->steps++;
    }
    tacit_free(all);
    return TACIT_OK;
}
