/* probe_lbfgs.c - logistic regression over a sweep of penalties. See probe.h.
 *
 * The sweep goes as it is given, each solve from where the one before ended: from strong to weak
 * penalties that is a short way.
 */
#include "logistic.h"
#include "mem.h"
#include "probe.h"

#define SWEEP_TOLERANCE 1e-4 /* enough to compare accuracies */

static tacit_status sweep(const tacit_probe_set *set, const tacit_probe_options *o,
                          tacit_logistic *problem, tacit_classifier *classifier,
                          tacit_probe_result *r, tacit_err *err)
{
    size_t rows = set->vectors->rows;
    bool *held = tacit_calloc(rows, sizeof *held);
    uint32_t *scratch = tacit_calloc(rows, sizeof *scratch);
    tacit_status st = TACIT_OK;
    if (held && scratch)
        r->held_out = tacit_hold_out(held, scratch, rows, o->seed);
    else
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu rows", rows);
    double tolerance = o->tolerance > SWEEP_TOLERANCE ? o->tolerance : SWEEP_TOLERANCE;
    for (unsigned i = 0; st == TACIT_OK && i < o->count; i++) {
        tacit_logistic_fit fit;
        st = tacit_logistic_solve(problem, o->values[i], held, o->max_steps, tolerance, &fit, err);
        if (st < 0)
            break;
        tacit_logistic_result(problem, classifier->weight, classifier->bias);
        st = tacit_probe_try(set, classifier, held, &r->trials[i], err);
    }
    tacit_free(held);
    tacit_free(scratch);
    return st == TACIT_OK ? tacit_probe_choose(r, err) : st;
}

tacit_status tacit_probe_lbfgs(const tacit_probe_set *set, const tacit_probe_options *o,
                               tacit_classifier *classifier, tacit_probe_result *r, tacit_err *err)
{
    tacit_logistic *problem = NULL;
    tacit_logistic_fit fit;
    *r = (tacit_probe_result){ .count = o->count };
    for (unsigned i = 0; i < o->count; i++)
        r->trials[i].value = o->values[i];
    tacit_status st = tacit_classifier_open(classifier, set->labels, set->vectors, err);
    if (st < 0)
        return st;
    st = tacit_logistic_open(&problem, set->vectors, set->labels, set->kernels, set->pool, err);
    if (st == TACIT_OK && o->count > 1)
        st = sweep(set, o, problem, classifier, r, err);
    if (st == TACIT_OK) { /* from zero: what a run with this setting alone gives */
        tacit_logistic_restart(problem);
        st = tacit_logistic_solve(problem, o->values[r->chosen], NULL, o->max_steps, o->tolerance,
                                  &fit, err);
    }
    if (st == TACIT_OK) {
        tacit_logistic_result(problem, classifier->weight, classifier->bias);
        r->loss = fit.objective;
        r->steps = fit.steps;
        r->evaluations = fit.evaluations;
        r->converged = fit.converged;
    }
    tacit_logistic_close(&problem);
    if (st < 0)
        tacit_classifier_close(classifier);
    return st;
}
