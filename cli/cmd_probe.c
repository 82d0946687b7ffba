/* cmd_probe.c - tacit probe: how well a linear classifier of the vectors tells the class. */
#include "cmd.h"

#include "probe.h"
#include "sets.h"

#include <stdio.h>
#include <stdlib.h>

static const tacit_option options[] = {
    TACIT_SETS_OPTIONS(true),
    { "solver", "lbfgs|sgd", "lbfgs",
      "lbfgs: logistic regression, over a sweep of penalties; sgd: a layer trained by SGD, over a "
      "sweep of learning rates",
      false },
    { "c", "LIST", "0.001,0.01,0.1,1,10,100,1000",
      "lbfgs: strengths C to choose from, as scikit-learn's: a larger C is a weaker penalty",
      false },
    { "lr", "LIST", "0.001,0.003,0.01,0.03,0.1,0.3,1,3,10,30",
      "sgd: learning rates to choose from, for 256 rows", false },
    { "max-steps", "N", "1000", "lbfgs: most steps of a solve", false },
    { "tolerance", "X", "1e-7", "lbfgs: stop where the loss can fall by less than this share",
      false },
    { "epochs", "N", "100", "sgd: passes over the training set", false },
    { "batch", "N", "256", "sgd: rows of a step", false },
    { "batch-norm", NULL, NULL, "sgd: standardise the vectors by batch, as MAE is evaluated",
      false },
    { "seed", "N", "0", "of the rows held out and of the batches", false },
    { "save", "FILE", NULL, "write the classifier as safetensors, for 'tacit predict'", false },
    { "confusion", "FILE", NULL, "write the confusion matrix of the test set as TSV", false },
    { "per-class", NULL, NULL, "print the accuracy of each class also where they are many", false },
    { "json", NULL, NULL, "print the result as one JSON object on standard output", false },
};

typedef struct probe {
    const tacit_args *args;
    tacit_sets *sets;
    tacit_probe_options options;
    bool sgd;
    double start, fit; /* seconds */
    tacit_probe_result result;
    tacit_classifier classifier;
    tacit_score train, test;
} probe;

static const char *setting(const probe *p)
{
    return p->sgd ? "lr" : "c";
}

/* The result without the sets: for --json, and into the classifier's file. */
static json_t *result_json(const probe *p, bool detail)
{
    const tacit_probe_result *r = &p->result;
    json_t *sweep = json_array();
    for (unsigned i = 0; r->held_out && i < r->count; i++)
        json_array_append_new(sweep,
                              json_pack("{s:f, s:f, s:f, s:b}", setting(p), r->trials[i].value,
                                        "top1", r->trials[i].top1, "top5", r->trials[i].top5,
                                        "finite", (int)r->trials[i].finite));
    bool whole = json_array_size(sweep) == (r->held_out ? r->count : 0);
    json_t *result = tacit_score_json(&p->test, detail);
    json_t *rest = json_pack(
        "{s:s, s:f, s:f, s:i, s:f, s:f, s:I, s:f, s:i, s:o}", "solver", p->sgd ? "sgd" : "lbfgs",
        setting(p), r->trials[r->chosen].value, p->sgd ? "loss" : "objective", r->loss, "steps",
        (int)r->steps, "train_top1", tacit_percent(p->train.top1, p->train.rows), "train_top5",
        tacit_percent(p->train.top5, p->train.rows), "held_out", (json_int_t)r->held_out, "fit_s",
        p->fit, "seed", (int)p->options.seed, "sweep", sweep);
    json_t *how =
        p->sgd ? json_pack("{s:i, s:i, s:b}", "epochs", (int)p->options.epochs, "batch",
                           (int)p->options.batch, "batch_norm", (int)p->options.batch_norm)
               : json_pack("{s:i, s:b, s:f}", "evaluations", (int)r->evaluations, "converged",
                           (int)r->converged, "tolerance", p->options.tolerance);
    if (!whole || !result || !rest || !how || json_object_update(result, rest) ||
        json_object_update(result, how)) {
        json_decref(result);
        result = NULL;
    }
    json_decref(rest);
    json_decref(how);
    return result;
}

static void print_text(const probe *p)
{
    const tacit_probe_result *r = &p->result;
    tacit_sets_print(p->sets);
    if (r->held_out) {
        printf("%10s  %9s  %9s  on %zu training rows held out\n", p->sgd ? "lr" : "C", "top-1",
               "top-5", r->held_out);
        for (unsigned i = 0; i < r->count; i++)
            if (r->trials[i].finite)
                printf("%10g  %9.2f  %9.2f%s\n", r->trials[i].value, r->trials[i].top1,
                       r->trials[i].top5, i == r->chosen ? "  chosen" : "");
            else
                printf("%10g   diverged\n", r->trials[i].value);
    }
    printf("%s %g, %s %.6g, %u steps%s, %.2f s\n", p->sgd ? "lr" : "C", r->trials[r->chosen].value,
           p->sgd ? "loss" : "objective", r->loss, r->steps, r->converged ? "" : " (not converged)",
           p->fit);
    printf("%10s  %9s  %9s\n%10s  %9.2f  %9.2f\n%10s  %9.2f  %9.2f\n", "", "top-1", "top-5",
           "train", tacit_percent(p->train.top1, p->train.rows),
           tacit_percent(p->train.top5, p->train.rows), "test",
           tacit_percent(p->test.top1, p->test.rows), tacit_percent(p->test.top5, p->test.rows));
    if (tacit_flag(p->args, "per-class") || p->test.labels->classes <= TACIT_FEW_CLASSES)
        tacit_print_classes(p->test.labels, p->test.count, p->test.right);
}

static tacit_status save(const probe *p, const char *path, tacit_err *err)
{
    json_t *result = result_json(p, false);
    char *how = result ? json_dumps(result, JSON_COMPACT | JSON_REAL_PRECISION(12)) : NULL;
    tacit_status st = how ? tacit_classifier_save(&p->classifier, path, how, err)
                          : tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    free(how);
    json_decref(result);
    return st;
}

static tacit_status report(const probe *p, tacit_err *err)
{
    const char *path = tacit_arg(p->args, "save"), *confusion = tacit_arg(p->args, "confusion");
    tacit_status st = path ? save(p, path, err) : TACIT_OK;
    if (st == TACIT_OK && confusion)
        st = tacit_score_write(&p->test, confusion, err);
    if (st < 0)
        return st;
    if (!p->result.converged)
        fprintf(stderr, "tacit probe: not converged; use more --max-steps\n");
    if (p->result.held_out && (p->result.chosen == 0 || p->result.chosen + 1 == p->result.count))
        fprintf(stderr, "tacit probe: the chosen --%s is at the end of the sweep; look beyond it\n",
                setting(p));
    if (!tacit_flag(p->args, "json")) {
        print_text(p);
        return TACIT_OK;
    }
    json_t *line = result_json(p, true);
    if (tacit_sets_describe(p->sets, line, tacit_wall() - p->start)) {
        json_dumpf(line, stdout, JSON_COMPACT | JSON_REAL_PRECISION(12));
        putchar('\n');
    } else {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for the result");
    }
    json_decref(line);
    return st;
}

static tacit_status train_and_test(probe *p, tacit_err *err)
{
    const tacit_sets *s = p->sets;
    const tacit_probe_set set = { &s->train, &s->train_labels, s->kernels, s->pool };
    bool finite;
    double start = tacit_wall();
    tacit_status st = (p->sgd ? tacit_probe_sgd : tacit_probe_lbfgs)(
        &set, &p->options, &p->classifier, &p->result, err);
    if (st < 0)
        return st;
    p->fit = tacit_wall() - start;
    st = tacit_score_open(&p->train, &s->train_labels, false, err);
    if (st == TACIT_OK)
        st = tacit_score_open(&p->test, &s->test_labels, true, err);
    if (st == TACIT_OK)
        st = tacit_classifier_score(&p->classifier, &s->train, &s->train_labels, NULL, s->kernels,
                                    s->pool, &p->train, &finite, err);
    if (st == TACIT_OK)
        st = tacit_classifier_score(&p->classifier, &s->test, &s->test_labels, NULL, s->kernels,
                                    s->pool, &p->test, &finite, err);
    if (st == TACIT_OK)
        st = report(p, err);
    tacit_score_close(&p->train);
    tacit_score_close(&p->test);
    tacit_classifier_close(&p->classifier);
    return st;
}

static int run(const tacit_args *args)
{
    probe p = { .args = args, .start = tacit_wall() };
    tacit_probe_options *o = &p.options;
    tacit_err err;
    unsigned solver = 0, one, seed = 0;
    tacit_arg_choice(args, "solver", &solver, &err); /* it was checked */
    p.sgd = solver == 1;
    if (tacit_arg_numbers(args, "c", 1e-12, 1e12, false, TACIT_PROBE_TRIALS, o->values, &o->count,
                          &err) < 0 ||
        (p.sgd && tacit_arg_numbers(args, "lr", 1e-9, 1e9, false, TACIT_PROBE_TRIALS, o->values,
                                    &o->count, &err) < 0) ||
        tacit_arg_numbers(args, "tolerance", 1e-12, 1, false, 1, &o->tolerance, &one, &err) < 0 ||
        tacit_arg_unsigned(args, "max-steps", 1, 1000000, &o->max_steps, &err) < 0 ||
        tacit_arg_unsigned(args, "epochs", 1, 100000, &o->epochs, &err) < 0 ||
        tacit_arg_unsigned(args, "batch", 1, 65536, &o->batch, &err) < 0 ||
        tacit_arg_unsigned(args, "seed", 0, 999999999, &seed, &err) < 0)
        return tacit_cli_usage(args, &err);
    o->seed = seed;
    o->batch_norm = tacit_flag(args, "batch-norm");
    if (o->batch_norm && !p.sgd) {
        tacit_fail(&err, TACIT_EINVAL, "--batch-norm goes with --solver sgd");
        return tacit_cli_usage(args, &err);
    }
    tacit_sets sets;
    int status = tacit_sets_open(&sets, args);
    if (status >= 0)
        return status;
    p.sets = &sets;
    tacit_status st = train_and_test(&p, &err);
    tacit_sets_close(&sets);
    return st < 0 ? tacit_cli_failed(args, &err) : tacit_cli_done(args);
}

const tacit_command tacit_cmd_probe = {
    .name = "probe",
    .summary = "train a linear classifier of the vectors, and tell how often it is right",
    .details =
        "The setting (C, or the learning rate) is the one that classifies best a tenth of the "
        "training set that is held out, of equals the first; then all of the training set is "
        "trained on with it. The test set takes no part in either. lbfgs minimises the mean cross "
        "entropy plus |W|^2 / (2 C N), scikit-learn's LogisticRegression: the bias is not "
        "penalised, the vectors are taken as they are. sgd has momentum 0.9, a cosine schedule, "
        "no weight decay, and starts from zero. Labels are matched by name; a test label that "
        "training does not have is an error, and so are a row without a label, one class alone, "
        "and vectors that are not finite.",
    .options = options,
    .option_count = sizeof options / sizeof *options,
    .run = run,
};
