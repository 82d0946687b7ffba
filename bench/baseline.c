/* baseline.c - the baseline's file. See baseline.h. */
#include "baseline.h"
#include "atomic_file.h"
#include "cpu.h"
#include "mem.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#define VERSION      1
#define MOST_BYTES   ((size_t)4 << 20)
#define MOST_THREADS 1024

/* The ground -------------------------------------------------------------------------------- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED ", sanitizers"
#else
#define SANITIZED ""
#endif
#if defined(__OPTIMIZE__)
#define OPTIMIZED "optimised"
#else
#define OPTIMIZED "not optimised"
#endif
#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#else
#define COMPILER "gcc " __VERSION__
#endif

static void tell_cpu_id(char *out, size_t size)
{
    snprintf(out, size, "-");
#if defined(__x86_64__)
    unsigned a, b, c, d;
    if (__get_cpuid(1, &a, &b, &c, &d))
        snprintf(out, size, "%08x", a);
#endif
}

void tacit_ground_here(tacit_ground *g, const char *what, const char *isa, unsigned threads)
{
    *g = (tacit_ground){ .threads = threads };
    snprintf(g->what, sizeof g->what, "%s", what);
    snprintf(g->isa, sizeof g->isa, "%s", isa);
    tacit_cpu_name(g->cpu, sizeof g->cpu);
    tell_cpu_id(g->cpu_id, sizeof g->cpu_id);
    snprintf(g->compiler, sizeof g->compiler, "%s", COMPILER);
    snprintf(g->build, sizeof g->build, "%s", OPTIMIZED SANITIZED);
}

tacit_status tacit_ground_same(const tacit_ground *then, const tacit_ground *now, tacit_err *err)
{
    if (strcmp(then->what, now->what))
        return tacit_fail(err, TACIT_ECONFLICT, "is a baseline of 'bench %s', not of 'bench %s'",
                          then->what, now->what);
    if (strcmp(then->cpu, now->cpu) || strcmp(then->cpu_id, now->cpu_id))
        return tacit_fail(err, TACIT_ECONFLICT,
                          "is of another machine, %s (%s), and this is %s (%s): save one here",
                          then->cpu, then->cpu_id, now->cpu, now->cpu_id);
    if (strcmp(then->isa, now->isa) || then->threads != now->threads)
        return tacit_fail(err, TACIT_ECONFLICT,
                          "is of %s with %u threads, and this is %s with %u: save one for this",
                          then->isa, then->threads, now->isa, now->threads);
    if (strcmp(then->build, now->build))
        return tacit_fail(err, TACIT_ECONFLICT,
                          "is of another build (%s), and this one is %s: save one for this",
                          then->build, now->build);
    return TACIT_OK;
}

/* Rows ---------------------------------------------------------------------------------------- */

tacit_status tacit_baseline_open(tacit_baseline *b, tacit_err *err)
{
    *b = (tacit_baseline){ .rows = tacit_calloc(TACIT_BASELINE_ROWS, sizeof *b->rows) };
    return b->rows ? TACIT_OK : tacit_fail(err, TACIT_ENOMEM, "out of memory for a baseline");
}

void tacit_baseline_close(tacit_baseline *b)
{
    tacit_free(b->rows);
    *b = (tacit_baseline){ 0 };
}

tacit_bench_row *tacit_baseline_find(const tacit_baseline *b, const tacit_bench_row *like)
{
    for (size_t i = 0; i < b->count; i++) {
        tacit_bench_row *row = &b->rows[i];
        if (!strcmp(row->name, like->name) && !strcmp(row->shape, like->shape) &&
            !strcmp(row->isa, like->isa) && row->threads == like->threads)
            return row;
    }
    return NULL;
}

tacit_bench_row *tacit_baseline_add(tacit_baseline *b, const tacit_bench_row *like)
{
    if (b->count == TACIT_BASELINE_ROWS)
        return NULL;
    tacit_bench_row *row = &b->rows[b->count++];
    *row = *like;
    row->costs = (tacit_costs){ 0 };
    return row;
}

/* Writing ------------------------------------------------------------------------------------- */

/* The array, or null where there is no cost. */
static json_t *costs_json(const double *costs, unsigned n)
{
    if (!n || !(costs[0] > 0))
        return json_null();
    json_t *array = json_array();
    for (unsigned i = 0; i < n; i++)
        if (json_array_append_new(array, json_real(costs[i]))) {
            json_decref(array);
            return NULL;
        }
    return array;
}

static json_t *row_json(const tacit_bench_row *r)
{
    return json_pack("{s:s, s:s, s:s, s:i, s:o, s:o, s:o}", "name", r->name, "shape", r->shape,
                     "isa", r->isa, "threads", (int)r->threads, "fma_cost",
                     costs_json(r->costs.fma, r->costs.n), "copy_cost",
                     costs_json(r->costs.copy, r->costs.n), "instructions",
                     r->instructions > 0 ? json_real(r->instructions) : json_null());
}

static json_t *baseline_json(const tacit_baseline *b)
{
    const tacit_ground *g = &b->ground;
    json_t *rows = json_array();
    for (size_t i = 0; i < b->count; i++)
        if (json_array_append_new(rows, row_json(&b->rows[i]))) {
            json_decref(rows);
            return NULL;
        }
    return json_pack("{s:s, s:i, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:o}", "format",
                     "tacit-baseline", "version", VERSION, "what", g->what, "cpu", g->cpu, "cpu_id",
                     g->cpu_id, "isa", g->isa, "threads", (int)g->threads, "compiler", g->compiler,
                     "build", g->build, "rows", rows);
}

tacit_status tacit_baseline_write(const tacit_baseline *b, const char *path, tacit_err *err)
{
    json_t *json = baseline_json(b);
    char *text = json ? json_dumps(json, JSON_INDENT(1) | JSON_REAL_PRECISION(9)) : NULL;
    tacit_status st = text ? tacit_file_replace(path, text, strlen(text), err)
                           : tacit_fail(err, TACIT_ENOMEM, "out of memory for a baseline");
    free(text);
    json_decref(json);
    return st;
}

/* Reading ------------------------------------------------------------------------------------- */

static tacit_status malformed(tacit_err *err, const char *what, const char *of)
{
    return tacit_fail(err, TACIT_EFORMAT, "is not a baseline: '%s'%s%.63s is missing or wrong",
                      what, *of ? " of " : "", of);
}

/* A string of printable characters that fits, not empty. */
static bool take_text(const json_t *object, const char *key, char *out, size_t room)
{
    const char *text = json_string_value(json_object_get(object, key));
    size_t n = text ? strlen(text) : 0;
    if (!n || n >= room || n != json_string_length(json_object_get(object, key)))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 127)
            return false;
    memcpy(out, text, n + 1);
    return true;
}

static bool take_count(const json_t *object, const char *key, unsigned most, unsigned *out)
{
    const json_t *value = json_object_get(object, key);
    json_int_t n = json_integer_value(value);
    *out = (unsigned)n;
    return json_is_integer(value) && n >= 1 && n <= most;
}

static bool take_positive(const json_t *value, double *out)
{
    *out = json_number_value(value);
    return json_is_number(value) && isfinite(*out) && *out >= 1e-30 && *out <= 1e30;
}

/* An array of as many costs as the other has, or null. */
static bool take_costs(const json_t *object, const char *key, double *costs, unsigned *n)
{
    const json_t *array = json_object_get(object, key);
    size_t size = json_array_size(array);
    if (json_is_null(array))
        return true;
    if (!json_is_array(array) || !size || size > TACIT_GATE_REPEATS || (*n && size != *n))
        return false;
    for (size_t i = 0; i < size; i++)
        if (!take_positive(json_array_get(array, i), &costs[i]))
            return false;
    *n = (unsigned)size;
    return true;
}

static tacit_status take_row(tacit_baseline *b, const json_t *json, tacit_err *err)
{
    tacit_bench_row r = { 0 };
    const json_t *count = json_object_get(json, "instructions");
    const char *wrong = !take_text(json, "name", r.name, sizeof r.name)            ? "name"
                        : !take_text(json, "shape", r.shape, sizeof r.shape)       ? "shape"
                        : !take_text(json, "isa", r.isa, sizeof r.isa)             ? "isa"
                        : !take_count(json, "threads", MOST_THREADS, &r.threads)   ? "threads"
                        : !take_costs(json, "fma_cost", r.costs.fma, &r.costs.n)   ? "fma_cost"
                        : !take_costs(json, "copy_cost", r.costs.copy, &r.costs.n) ? "copy_cost"
                        : !json_is_null(count) && !take_positive(count, &r.instructions)
                            ? "instructions"
                            : NULL;
    if (wrong || !r.costs.n)
        return malformed(err, wrong ? wrong : "fma_cost", *r.name ? r.name : "a row");
    if (tacit_baseline_find(b, &r))
        return tacit_fail(err, TACIT_EFORMAT, "is not a baseline: %s %s is there twice", r.name,
                          r.shape);
    tacit_bench_row *row = tacit_baseline_add(b, &r);
    if (!row)
        return tacit_fail(err, TACIT_ELIMIT, "has more than %d rows", TACIT_BASELINE_ROWS);
    *row = r;
    return TACIT_OK;
}

static tacit_status take_ground(tacit_ground *g, const json_t *json, tacit_err *err)
{
    const char *format = json_string_value(json_object_get(json, "format"));
    unsigned version;
    if (!format || strcmp(format, "tacit-baseline"))
        return tacit_fail(err, TACIT_EFORMAT, "is not a baseline: write one by --save-baseline");
    if (!take_count(json, "version", INT32_MAX, &version))
        return malformed(err, "version", "");
    if (version != VERSION)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "is a baseline of version %u, not %d: save anew",
                          version, VERSION);
    const char *wrong = !take_text(json, "what", g->what, sizeof g->what)               ? "what"
                        : !take_text(json, "cpu", g->cpu, sizeof g->cpu)                ? "cpu"
                        : !take_text(json, "cpu_id", g->cpu_id, sizeof g->cpu_id)       ? "cpu_id"
                        : !take_text(json, "isa", g->isa, sizeof g->isa)                ? "isa"
                        : !take_count(json, "threads", MOST_THREADS, &g->threads)       ? "threads"
                        : !take_text(json, "compiler", g->compiler, sizeof g->compiler) ? "compiler"
                        : !take_text(json, "build", g->build, sizeof g->build)          ? "build"
                                                                                        : NULL;
    return wrong ? malformed(err, wrong, "") : TACIT_OK;
}

static tacit_status take_baseline(tacit_baseline *b, const json_t *json, tacit_err *err)
{
    const json_t *rows = json_object_get(json, "rows");
    tacit_status st = take_ground(&b->ground, json, err);
    if (st < 0)
        return st;
    if (!json_is_array(rows) || !json_array_size(rows))
        return malformed(err, "rows", "");
    for (size_t i = 0; st == TACIT_OK && i < json_array_size(rows); i++)
        st = take_row(b, json_array_get(rows, i), err);
    return st;
}

tacit_status tacit_baseline_read(tacit_baseline *b, const char *path, tacit_err *err)
{
    char *bytes;
    size_t size;
    json_error_t told;
    tacit_status st = tacit_baseline_open(b, err);
    if (st < 0)
        return st;
    if ((st = tacit_file_read(path, MOST_BYTES, &bytes, &size, err)) < 0) {
        tacit_baseline_close(b);
        return st;
    }
    json_t *json = json_loadb(bytes, size, JSON_REJECT_DUPLICATES, &told);
    if (json)
        st = take_baseline(b, json, err);
    else
        st = tacit_fail(err, TACIT_EFORMAT, "is not a baseline: line %d is not JSON", told.line);
    json_decref(json);
    tacit_free(bytes);
    if (st < 0) {
        tacit_baseline_close(b);
        return tacit_fail_at(err, st, "%s", path);
    }
    return st;
}
