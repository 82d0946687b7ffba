/* bench_gate.c - repeats in processes of their own, looks, and the report. See gate.h for the rule.
 *
 * A repeat is `tacit bench WHAT --json` on one ISA, whose lines have the costs.
 */
#include "bench_gate.h"
#include "atomic_file.h"
#include "baseline.h"
#include "child.h"
#include "counts.h"
#include "extractor.h"
#include "mem.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MOST_ARGUMENTS 160
#define MOST_SUSPECTS  50 /* more are looked at again by looking at all */

/* A row of the report. */
typedef struct result {
    tacit_bench_row *row;        /* what was measured, in `now`  */
    const tacit_bench_row *then; /* NULL: not in the baseline    */
    tacit_shift shift;
    unsigned repeats; /* that the shift comes from */
    tacit_verdict verdict;
} result;

typedef struct gate {
    const tacit_bench_options *o;
    const tacit_gate_options *g;
    char program[1024];
    tacit_baseline then, now, again; /* read; the first look; the later ones */
    result *results;                 /* of the rows of now */
} gate;

/* Command lines ------------------------------------------------------------------------------- */

typedef struct command {
    const char *argv[MOST_ARGUMENTS];
    size_t n;
    char threads[16], batch[16], rounds[16], filters[MOST_SUSPECTS][140];
} command;

static void add(command *c, const char *word)
{
    if (word && c->n + 1 < MOST_ARGUMENTS)
        c->argv[c->n++] = word;
}

static void add_option(command *c, const char *name, const char *value)
{
    if (value) {
        add(c, name);
        add(c, value);
    }
}

/* The options of this run, but for the filters. */
static void begin_command(command *c, const gate *t, const char *mode)
{
    const tacit_bench_options *o = t->o;
    bool kernels = !strcmp(t->g->what, "kernels"), extract = !strcmp(t->g->what, "extract");
    *c = (command){ .n = 0 };
    snprintf(c->threads, sizeof c->threads, "%u", t->now.ground.threads);
    snprintf(c->batch, sizeof c->batch, "%u", o->batch);
    snprintf(c->rounds, sizeof c->rounds, "%u", o->rounds);
    add(c, t->program);
    add(c, "bench");
    add(c, t->g->what);
    add(c, mode);
    add_option(c, "--threads", c->threads);
    add_option(c, "--rounds", o->rounds ? c->rounds : NULL);
    add_option(c, "--isa", kernels ? t->now.ground.isa : NULL);
    add_option(c, "--weights", extract ? o->weights : NULL);
    add_option(c, "--arch", extract ? o->arch : NULL);
    add_option(c, "--precision", extract ? tacit_precision_name(o->precision) : NULL);
    add_option(c, "--images", extract ? o->images : NULL);
    add_option(c, "--batch", o->batch && !kernels ? c->batch : NULL);
    add(c, extract ? "--latency" : NULL);
}

static void add_filters(command *c, const gate *t)
{
    for (const char *const *f = t->o->filters; f && *f; f++)
        add_option(c, "--filter", *f);
}

/* Filters for the suspects alone, where they are few. */
static void add_suspects(command *c, const gate *t)
{
    size_t n = 0;
    bool kernels = !strcmp(t->g->what, "kernels");
    for (size_t i = 0; i < t->now.count; i++)
        n += t->results[i].verdict == TACIT_SUSPECT;
    if (n > MOST_SUSPECTS || !strcmp(t->g->what, "extract")) {
        add_filters(c, t);
        return;
    }
    n = 0;
    for (size_t i = 0; i < t->now.count; i++) {
        const tacit_bench_row *r = t->results[i].row;
        if (t->results[i].verdict != TACIT_SUSPECT)
            continue;
        snprintf(c->filters[n], sizeof c->filters[n], "%s%s%s", r->name, kernels ? " " : "",
                 kernels ? r->shape : "");
        add_option(c, "--filter", c->filters[n++]);
    }
}

/* Repeats ------------------------------------------------------------------------------------- */

static bool copy_text(const json_t *object, const char *key, char *out, size_t room)
{
    const char *text = json_string_value(json_object_get(object, key));
    if (!text || strlen(text) >= room)
        return false;
    memcpy(out, text, strlen(text) + 1);
    return true;
}

/* What a line of --json is about; false where it is about something else. */
static bool row_of(const json_t *line, tacit_bench_row *row)
{
    static const char *const names[] = { "kernel", "step", "model" };
    *row = (tacit_bench_row){ .threads =
                                  (unsigned)json_integer_value(json_object_get(line, "threads")) };
    if (!copy_text(line, "isa", row->isa, sizeof row->isa) || !row->threads)
        return false;
    const char *precision = json_string_value(json_object_get(line, "precision"));
    bool other = precision && strcmp(precision, "fp32") != 0; /* baselines of before have none */
    if (!copy_text(line, "shape", row->shape, sizeof row->shape))
        snprintf(row->shape, sizeof row->shape, "batch %lld%s%.8s",
                 (long long)json_integer_value(json_object_get(line, "batch")), other ? ", " : "",
                 other ? precision : "");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (copy_text(line, names[i], row->name, sizeof row->name))
            return true;
    return false;
}

static tacit_status take_costs(tacit_baseline *into, const json_t *line, tacit_err *err)
{
    tacit_bench_row like, *row;
    if (!row_of(line, &like))
        return TACIT_OK;
    row = tacit_baseline_find(into, &like);
    if (!row && !(row = tacit_baseline_add(into, &like)))
        return tacit_fail(err, TACIT_ELIMIT, "more than %d things to compare", TACIT_BASELINE_ROWS);
    double fma = json_number_value(json_object_get(line, "fma_cost"));
    double copy = json_number_value(json_object_get(line, "copy_cost"));
    tacit_costs *c = &row->costs;
    if (c->n == TACIT_GATE_REPEATS || (fma <= 0 && copy <= 0) ||
        (c->n && ((fma > 0) != (c->fma[0] > 0) || (copy > 0) != (c->copy[0] > 0))))
        return TACIT_OK;
    c->fma[c->n] = fma;
    c->copy[c->n++] = copy;
    return TACIT_OK;
}

static tacit_status take_line(void *ctx, const char *text, tacit_err *err)
{
    json_t *line = *text == '{' ? json_loads(text, 0, NULL) : NULL;
    tacit_status st = line ? take_costs(ctx, line, err) : TACIT_OK;
    json_decref(line);
    return st;
}

static tacit_status repeat(const gate *t, const command *c, unsigned times, tacit_baseline *into,
                           tacit_err *err)
{
    tacit_status st = TACIT_OK;
    for (unsigned i = 0; st == TACIT_OK && i < times; i++) {
        if (t->g->tell)
            fprintf(stderr, "\rtacit bench: repeat %u of %u \033[K", i + 1, times);
        st = tacit_child_run(c->argv, take_line, into, err);
    }
    if (t->g->tell)
        fprintf(stderr, "\r\033[K");
    if (st == TACIT_OK && !into->count)
        st = tacit_fail(err, TACIT_EINVAL, "nothing to measure has a name that holds the filter");
    return st;
}

/* Where it cannot be done: a note, and no counts. */
static void count_instructions(gate *t)
{
    tacit_err err;
    command c;
    if (!t->g->count || strcmp(t->g->what, "kernels"))
        return;
    begin_command(&c, t, "--count");
    add_filters(&c, t);
    if (t->g->tell)
        fprintf(stderr, "\rtacit bench: counting instructions \033[K");
    tacit_status st = tacit_bench_counts(&t->now, c.argv, &err);
    if (t->g->tell)
        fprintf(stderr, "\r\033[K");
    if (st < 0)
        fprintf(stderr, "tacit bench: note: %s\n", err.text);
}

/* Looks --------------------------------------------------------------------------------------- */

static void judge(gate *t, const tacit_baseline *by, tacit_look look)
{
    size_t compared = 0;
    for (size_t i = 0; i < t->now.count; i++)
        compared += t->results[i].then != NULL;
    for (size_t i = 0; i < t->now.count; i++) {
        result *r = &t->results[i];
        const tacit_bench_row *seen = tacit_baseline_find(by, r->row);
        if (!r->then || !seen || !seen->costs.n ||
            (look != TACIT_LOOK_FIRST && r->verdict != TACIT_SUSPECT))
            continue;
        r->shift = tacit_gate_shift(&r->then->costs, &seen->costs, compared);
        r->repeats = seen->costs.n;
        r->verdict = tacit_gate_look(&r->shift, look);
    }
}

static bool any_suspect(const gate *t)
{
    for (size_t i = 0; i < t->now.count; i++)
        if (t->results[i].verdict == TACIT_SUSPECT)
            return true;
    return false;
}

static tacit_status compare(gate *t, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    for (size_t i = 0; i < t->now.count; i++)
        t->results[i] = (result){ .row = &t->now.rows[i],
                                  .then = tacit_baseline_find(&t->then, &t->now.rows[i]) };
    judge(t, &t->now, TACIT_LOOK_FIRST);
    for (tacit_look look = TACIT_LOOK_SECOND; look <= TACIT_LOOK_LAST && any_suspect(t); look++) {
        command c;
        begin_command(&c, t, "--json");
        add_suspects(&c, t);
        if ((st = repeat(t, &c, look == TACIT_LOOK_LAST ? TACIT_GATE_LAST : TACIT_GATE_SECOND,
                         &t->again, err)) < 0)
            return st;
        judge(t, &t->again, look);
    }
    for (size_t i = 0; i < t->now.count; i++) {
        result *r = &t->results[i];
        if (r->then)
            r->verdict = tacit_gate_count(r->verdict, &r->shift, r->then->instructions,
                                          r->row->instructions);
    }
    return st;
}

/* The report ---------------------------------------------------------------------------------- */

static double counts_ratio(const result *r)
{
    return r->then && r->then->instructions > 0 ? r->row->instructions / r->then->instructions : 0;
}

static void print_json(const gate *t, FILE *out, const result *r)
{
    fprintf(out, "{\"what\":\"%s\",\"name\":\"%s\",\"shape\":\"%s\",\"isa\":\"%s\",\"threads\":%u,",
            t->g->what, r->row->name, r->row->shape, r->row->isa, r->row->threads);
    if (r->then)
        fprintf(out,
                "\"limit\":\"%s\",\"repeats\":%u,\"ratio\":%.5g,\"low\":%.5g,\"high\":%.5g,"
                "\"instructions_ratio\":%.6g,\"verdict\":\"%s\"}\n",
                r->shift.copy ? "copy" : "fma", r->repeats, r->shift.ratio, r->shift.low,
                r->shift.high, counts_ratio(r), tacit_verdict_word(r->verdict));
    else
        fprintf(out, "\"verdict\":\"new\"}\n");
}

static void print_slower(FILE *out, const result *r)
{
    fprintf(
        out, "slower: %s %s (%s, %u thread%s): %.3f times the time, %.3f to %.3f, beside the %s",
        r->row->name, r->row->shape, r->row->isa, r->row->threads, r->row->threads > 1 ? "s" : "",
        r->shift.ratio, r->shift.low, r->shift.high, r->shift.copy ? "copy rate" : "FMA rate");
    if (counts_ratio(r) > 0)
        fprintf(out, "; %.3f times the instructions", counts_ratio(r));
    fputc('\n', out);
}

static void print_report(const gate *t, FILE *out, size_t *slower)
{
    size_t count[TACIT_UNDECIDED + 1] = { 0 }, compared = 0;
    for (size_t i = 0; i < t->now.count; i++) {
        const result *r = &t->results[i];
        if (t->o->json)
            print_json(t, out, r);
        else if (r->verdict == TACIT_SLOWER)
            print_slower(out, r);
        compared += r->then != NULL;
        count[r->verdict] += r->then != NULL;
    }
    *slower = count[TACIT_SLOWER];
    if (!t->o->json)
        fprintf(out, "%zu compared: %zu slower, %zu faster, %zu undecided%s\n", compared,
                count[TACIT_SLOWER], count[TACIT_FASTER], count[TACIT_UNDECIDED],
                compared < t->now.count ? "; some are not in the baseline" : "");
}

/* A field of CSV, quoted where it must be. */
static void put_field(FILE *f, const char *text)
{
    if (!strpbrk(text, ",\"\n")) {
        fprintf(f, "%s,", text);
        return;
    }
    fputc('"', f);
    for (; *text; text++)
        fprintf(f, *text == '"' ? "\"\"" : "%c", *text);
    fprintf(f, "\",");
}

static void put_row(FILE *f, const gate *t, const char *date, const result *r)
{
    const tacit_ground *g = &t->now.ground;
    const char *const texts[] = { date,       TACIT_VERSION, g->cpu,        g->compiler,
                                  t->g->what, r->row->name,  r->row->shape, r->row->isa };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        put_field(f, texts[i]);
    fprintf(f, "%u,", r->row->threads);
    if (r->then)
        fprintf(f, "%s,%u,%.5f,%.5f,%.5f,", r->shift.copy ? "copy" : "fma", r->repeats,
                r->shift.ratio, r->shift.low, r->shift.high);
    else
        fprintf(f, ",,,,,");
    if (r->row->instructions > 0)
        fprintf(f, "%.10g", r->row->instructions);
    fputc(',', f);
    if (counts_ratio(r) > 0)
        fprintf(f, "%.6f", counts_ratio(r));
    fprintf(f, ",%s\n", !r->then ? "new" : tacit_verdict_word(r->verdict));
}

static tacit_status write_csv(const gate *t, tacit_err *err)
{
    char *text = NULL, date[32];
    size_t size = 0;
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &utc));
    FILE *f = open_memstream(&text, &size);
    if (!f)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for the results");
    fprintf(f, "date,version,cpu,compiler,what,name,shape,isa,threads,limit,repeats,ratio,low,high,"
               "instructions,instructions_ratio,verdict\n");
    for (size_t i = 0; i < t->now.count; i++)
        put_row(f, t, date, &t->results[i]);
    bool bad = fclose(f) != 0;
    tacit_status st = bad ? tacit_fail(err, TACIT_ENOMEM, "out of memory for the results")
                          : tacit_file_replace(t->g->csv, text, size, err);
    free(text);
    return st;
}

/* The run ------------------------------------------------------------------------------------- */

/* This machine, and with a baseline whether it is of the same. */
static tacit_status open_gate(gate *t, tacit_err *err)
{
    tacit_threads threads;
    tacit_isa isa;
    tacit_status st = tacit_threads_select(t->o->threads, &threads, err);
    if (st < 0 || (st = tacit_isa_select(NULL, &isa, err)) < 0)
        return st;
    if (t->o->isa)
        isa = *t->o->isa;
    if (isa == TACIT_ISA_REF)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "ref has no limit to compare with: use --isa");
    if (t->g->save && getenv("TACIT_BENCH_SLOW"))
        return tacit_fail(err, TACIT_EINVAL,
                          "a baseline with TACIT_BENCH_SLOW would be a wrong one");
    ssize_t n = readlink("/proc/self/exe", t->program, sizeof t->program - 1);
    if (n < 0)
        return tacit_fail_errno(err, "/proc/self/exe");
    t->results = tacit_calloc(TACIT_BASELINE_ROWS, sizeof *t->results);
    if (!t->results)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for results");
    if ((st = tacit_baseline_open(&t->now, err)) < 0 ||
        (st = tacit_baseline_open(&t->again, err)) < 0)
        return st;
    /* Several threads measure the scheduler and the neighbours first: only where they are asked
     * for. */
    bool one = !strcmp(t->g->what, "kernels") && !t->o->threads;
    tacit_ground_here(&t->now.ground, t->g->what, tacit_isa_name(isa), one ? 1 : threads.use);
    t->again.ground = t->now.ground;
    if (!t->g->baseline)
        return TACIT_OK;
    if ((st = tacit_baseline_read(&t->then, t->g->baseline, err)) < 0)
        return st;
    st = tacit_ground_same(&t->then.ground, &t->now.ground, err);
    if (st < 0)
        return tacit_fail_at(err, st, "%s", t->g->baseline);
    if (strcmp(t->then.ground.compiler, t->now.ground.compiler))
        fprintf(stderr, "tacit bench: note: the baseline was compiled by %s, this by %s\n",
                t->then.ground.compiler, t->now.ground.compiler);
    return TACIT_OK;
}

static tacit_status save(gate *t, FILE *out, tacit_err *err)
{
    for (size_t i = 0; i < t->now.count; i++)
        t->results[i].row = &t->now.rows[i];
    tacit_status st = tacit_baseline_write(&t->now, t->g->save, err);
    if (st == TACIT_OK && !t->o->json)
        fprintf(out, "%s: %zu rows, %d repeats\n", t->g->save, t->now.count, TACIT_GATE_BASELINE);
    return st;
}

tacit_status tacit_bench_gate(const tacit_bench_options *o, const tacit_gate_options *g, FILE *out,
                              size_t *slower, tacit_err *err)
{
    gate t = { .o = o, .g = g };
    command c;
    *slower = 0;
    tacit_status st = open_gate(&t, err);
    if (st < 0)
        goto end;
    begin_command(&c, &t, "--json");
    add_filters(&c, &t);
    st = repeat(&t, &c, g->baseline ? TACIT_GATE_FIRST : TACIT_GATE_BASELINE, &t.now, err);
    if (st < 0)
        goto end;
    count_instructions(&t);
    if ((st = g->baseline ? compare(&t, err) : save(&t, out, err)) < 0)
        goto end;
    if (g->baseline)
        print_report(&t, out, slower);
    if (g->csv)
        st = write_csv(&t, err);
end:
    tacit_free(t.results);
    tacit_baseline_close(&t.again);
    tacit_baseline_close(&t.now);
    tacit_baseline_close(&t.then);
    return st;
}
