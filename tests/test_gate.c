/* test_gate.c - the rule of the regression gate in simulated runs, and its baseline's file. */
#include "baseline.h"
#include "child.h"
#include "counts.h"
#include "cpu.h"
#include "gate.h"
#include "mem.h"
#include "program.h"
#include "rng.h"

#include <check.h>
#include <math.h>
#include <stddef.h>

/* Simulation ---------------------------------------------------------------------------------- */

static uint64_t draws;

static double uniform(void)
{
    return ((double)tacit_rng_u32(7, 0, draws++) + 0.5) * 0x1p-32;
}

static double normal(void)
{
    double r = sqrt(-2 * log(uniform()));
    return r * cos(2 * acos(-1) * uniform());
}

/* A row as measured ones are: a spread of its own, and a share of repeats that a slow spell meets.
 */
typedef struct world {
    double spread, spells, spell; /* log of a cost; share; the mean of what a spell adds */
    double drift;                 /* between runs */
} world;

static tacit_costs run_of(const world *w, double run, double slower, unsigned n)
{
    tacit_costs c = { .n = n };
    for (unsigned i = 0; i < n; i++) {
        double x = run + w->spread * normal() + log(slower);
        if (uniform() < w->spells)
            x -= w->spell * log(uniform());
        c.fma[i] = 0.02 * exp(x);
    }
    return c;
}

/* What the gate says of one row among `rows`. */
static tacit_verdict simulate(const world *w, double slower, size_t rows)
{
    double then = w->drift * normal(), now = w->drift * normal();
    tacit_costs baseline = run_of(w, then, 1, TACIT_GATE_BASELINE);
    tacit_costs first = run_of(w, now, slower, TACIT_GATE_FIRST);
    tacit_shift shift = tacit_gate_shift(&baseline, &first, rows);
    tacit_verdict v = tacit_gate_look(&shift, TACIT_LOOK_FIRST);
    if (v != TACIT_SUSPECT)
        return v;
    tacit_costs later = run_of(w, now, slower, TACIT_GATE_SECOND + TACIT_GATE_LAST);
    later.n = TACIT_GATE_SECOND;
    shift = tacit_gate_shift(&baseline, &later, rows);
    v = tacit_gate_look(&shift, TACIT_LOOK_SECOND);
    if (v != TACIT_SUSPECT)
        return v;
    later.n = TACIT_GATE_SECOND + TACIT_GATE_LAST;
    shift = tacit_gate_shift(&baseline, &later, rows);
    return tacit_gate_look(&shift, TACIT_LOOK_LAST);
}

#define ROWS 73

/* From quiet to noisier than a machine under load was found to be, where time can decide at all. */
static const world worlds[] = {
    { 0.001, 0.05, 0.10, 0.001 }, { 0.003, 0.20, 0.10, 0.003 }, { 0.005, 0.30, 0.20, 0.003 },
    { 0.010, 0.10, 0.10, 0.004 }, { 0.002, 0.35, 0.20, 0.003 },
};
#define WORLDS (sizeof worlds / sizeof *worlds)

START_TEST(no_more_than_one_run_in_twenty_cries_wolf)
{
    unsigned runs = 100, wolves = 0;
    for (unsigned r = 0; r < runs; r++) {
        bool wolf = false;
        for (size_t i = 0; i < ROWS; i++)
            wolf |= simulate(&worlds[i % WORLDS], 1, ROWS) == TACIT_SLOWER;
        wolves += wolf;
    }
    printf("%u of %u runs cried wolf\n", wolves, runs);
    ck_assert_uint_le(wolves * 20, runs);
}
END_TEST

START_TEST(five_percent_is_caught_19_times_in_20)
{
    for (size_t w = 0; w < WORLDS; w++) {
        unsigned runs = 200, caught = 0;
        for (unsigned r = 0; r < runs; r++)
            caught += simulate(&worlds[w], 1.05, ROWS) == TACIT_SLOWER;
        printf("world %zu: %u of %u caught\n", w, caught, runs);
        ck_assert_uint_ge(caught * 20, runs * 19);
    }
}
END_TEST

/* The rule's parts ---------------------------------------------------------------------------- */

static tacit_costs costs_of(double fma, double copy, unsigned n, double apart)
{
    tacit_costs c = { .n = n };
    for (unsigned i = 0; i < n; i++) {
        c.fma[i] = fma * (1 + apart * ((i * 7) % n));
        c.copy[i] = copy * (1 + 1e-4 * ((i * 7) % n));
    }
    return c;
}

START_TEST(the_limit_that_agrees_with_itself_is_taken)
{
    tacit_costs then = costs_of(1, 2, 20, 0.01), now = costs_of(3, 2.2, 6, 0.01);
    tacit_shift s = tacit_gate_shift(&then, &now, 10);
    ck_assert(s.copy);
    ck_assert_double_eq_tol(s.ratio, 1.1, 1e-3);
    ck_assert(s.low < s.ratio && s.ratio < s.high);
    then = costs_of(1, 0, 20, 0.01); /* no copies then: the other */
    s = tacit_gate_shift(&then, &now, 10);
    ck_assert(!s.copy);
    ck_assert_double_eq_tol(s.ratio, 3, 0.2);
}
END_TEST

START_TEST(the_interval_holds_the_truth)
{
    const world *w = &worlds[2];
    unsigned held = 0, runs = 500;
    for (unsigned r = 0; r < runs; r++) {
        tacit_costs then = run_of(w, 0, 1, TACIT_GATE_BASELINE), now = run_of(w, 0, 1.05, 12);
        tacit_shift s = tacit_gate_shift(&then, &now, 1);
        held += s.low <= 1.05 && 1.05 <= s.high;
    }
    printf("%u of %u intervals hold the truth\n", held, runs);
    ck_assert_uint_ge(held * 20, runs * 18);
}
END_TEST

START_TEST(verdicts)
{
    static const struct {
        tacit_shift shift;
        tacit_look look;
        tacit_verdict verdict;
    } table[] = {
        { { 1.01, 1.00, 1.02, false }, TACIT_LOOK_FIRST, TACIT_SAME },
        { { 1.02, 1.01, 1.03, false }, TACIT_LOOK_FIRST, TACIT_SUSPECT },
        { { 1.30, 1.25, 1.35, false }, TACIT_LOOK_FIRST, TACIT_SUSPECT },
        { { 1.00, 0.94, 1.06, false }, TACIT_LOOK_FIRST, TACIT_SUSPECT },
        { { 0.90, 0.88, 0.92, false }, TACIT_LOOK_FIRST, TACIT_FASTER },
        { { 1.05, 1.02, 1.08, false }, TACIT_LOOK_SECOND, TACIT_SLOWER },
        { { 1.05, 0.99, 1.11, false }, TACIT_LOOK_SECOND, TACIT_SUSPECT },
        { { 1.05, 0.99, 1.11, false }, TACIT_LOOK_LAST, TACIT_UNDECIDED },
        { { 1.02, 1.01, 1.03, false }, TACIT_LOOK_SECOND, TACIT_SAME },
        { { 1.02, 1.01, 1.03, false }, TACIT_LOOK_LAST, TACIT_SAME },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_msg(tacit_gate_look(&table[i].shift, table[i].look) == table[i].verdict, "%zu",
                      i);
    const tacit_shift close = { 1.00, 0.99, 1.01, false }, wide = { 1.01, 0.90, 1.12, false };
    ck_assert_int_eq(tacit_gate_count(TACIT_UNDECIDED, &wide, 1000, 1050), TACIT_SLOWER);
    ck_assert_int_eq(tacit_gate_count(TACIT_UNDECIDED, &wide, 1000, 1020), TACIT_UNDECIDED);
    ck_assert_int_eq(tacit_gate_count(TACIT_UNDECIDED, &wide, 0, 1020), TACIT_UNDECIDED);
    ck_assert_int_eq(tacit_gate_count(TACIT_SLOWER, &wide, 1000, 0), TACIT_SLOWER);
    ck_assert_int_eq(tacit_gate_count(TACIT_SAME, &close, 1000, 1050), TACIT_SAME);
}
END_TEST

/* The file ------------------------------------------------------------------------------------ */

static void make_baseline(tacit_baseline *b)
{
    ck_assert_int_eq(tacit_baseline_open(b, NULL), TACIT_OK);
    tacit_ground_here(&b->ground, "kernels", "avx2", 1);
    static const tacit_bench_row rows[] = {
        { .name = "gemm_f32", .shape = "98 x 128 x 768, warm", .isa = "avx2", .threads = 1 },
        { .name = "gemm_f32", .shape = "98 x 128 x 768, warm", .isa = "avx2", .threads = 2 },
        { .name = "quote\"d", .shape = "3 x 50176", .isa = "avx2", .threads = 1 },
    };
    for (size_t i = 0; i < 3; i++) {
        tacit_bench_row *r = tacit_baseline_add(b, &rows[i]);
        ck_assert_ptr_nonnull(r);
        r->costs = run_of(&worlds[0], 0, 1, 20);
        for (unsigned j = 0; i == 1 && j < 20; j++)
            r->costs.copy[j] = 1 + j;
        r->instructions = i ? 0 : 123456.5;
    }
}

START_TEST(a_baseline_is_read_back)
{
    tacit_baseline b, c;
    tacit_err err;
    make_baseline(&b);
    ck_assert_int_eq(tacit_baseline_write(&b, scratch("b.json"), &err), TACIT_OK);
    ck_assert_msg(tacit_baseline_read(&c, scratch("b.json"), &err) == TACIT_OK, "%s", err.text);
    ck_assert_int_eq(tacit_ground_same(&c.ground, &b.ground, &err), TACIT_OK);
    ck_assert_str_eq(c.ground.compiler, b.ground.compiler);
    ck_assert_uint_eq(c.count, 3);
    for (size_t i = 0; i < 3; i++) {
        const tacit_bench_row *r = tacit_baseline_find(&c, &b.rows[i]);
        ck_assert_ptr_eq(r, &c.rows[i]);
        ck_assert_uint_eq(r->costs.n, 20);
        ck_assert_double_eq_tol(r->instructions, b.rows[i].instructions, 1e-3);
        for (unsigned j = 0; j < 20; j++) {
            ck_assert_double_eq_tol(r->costs.fma[j], b.rows[i].costs.fma[j], 1e-9);
            ck_assert_double_eq_tol(r->costs.copy[j], b.rows[i].costs.copy[j], 1e-6);
        }
    }
    ck_assert_int_eq(tacit_baseline_write(&b, scratch("nowhere/b.json"), &err), TACIT_EIO);
    tacit_baseline_close(&b);
    tacit_baseline_close(&c);
}
END_TEST

START_TEST(rows_have_a_limit)
{
    tacit_baseline b;
    tacit_bench_row like = { .name = "a", .shape = "b", .isa = "avx2" };
    ck_assert_int_eq(tacit_baseline_open(&b, NULL), TACIT_OK);
    while (tacit_baseline_add(&b, &like))
        like.threads++;
    ck_assert_uint_eq(b.count, TACIT_BASELINE_ROWS);
    tacit_baseline_close(&b);
}
END_TEST

START_TEST(other_grounds_are_told)
{
    tacit_ground here, other;
    tacit_err err;
    tacit_ground_here(&here, "kernels", "avx2", 2);
    static const struct {
        size_t field;
        const char *text, *says;
    } table[] = {
        { offsetof(tacit_ground, what), "extract", "bench extract" },
        { offsetof(tacit_ground, cpu), "Zilog Z80", "is of another machine, Zilog Z80 (" },
        { offsetof(tacit_ground, cpu_id), "00000080", "is of another machine, " },
        { offsetof(tacit_ground, isa), "neon", "is of neon with 2 threads" },
        { offsetof(tacit_ground, build), "by hand", "is of another build (by hand)" },
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        other = here;
        memcpy((char *)&other + table[i].field, table[i].text, strlen(table[i].text) + 1);
        ck_assert_int_eq(tacit_ground_same(&other, &here, &err), TACIT_ECONFLICT);
        ck_assert_msg(strstr(err.text, table[i].says), "%s", err.text);
    }
    other = here;
    other.threads = 4;
    ck_assert_int_eq(tacit_ground_same(&other, &here, &err), TACIT_ECONFLICT);
    other = here;
    memcpy(other.compiler, "another", 8); /* is a question to answer */
    ck_assert_int_eq(tacit_ground_same(&other, &here, &err), TACIT_OK);
}
END_TEST

/* Whether the text is refused, in one line that names the file. */
static tacit_status refused(const char *text, size_t size, tacit_err *err)
{
    tacit_baseline b;
    file_put(scratch("bad.json"), text, size);
    tacit_status st = tacit_baseline_read(&b, scratch("bad.json"), err);
    if (st < 0) {
        ck_assert_ptr_null(strchr(err->text, '\n'));
        ck_assert_ptr_nonnull(strstr(err->text, "bad.json: "));
    } else {
        tacit_baseline_close(&b);
    }
    return st;
}

START_TEST(damaged_files_are_refused)
{
    tacit_baseline b;
    tacit_err err;
    size_t size;
    make_baseline(&b);
    ck_assert_int_eq(tacit_baseline_write(&b, scratch("b.json"), &err), TACIT_OK);
    tacit_baseline_close(&b);
    char *text = (char *)file_get(scratch("b.json"), &size);
    ck_assert_int_eq(refused(text, size, &err), TACIT_OK);
    for (size_t n = 0; n < size - 1; n += 1 + n / 100)
        ck_assert_msg(refused(text, n, &err) < 0, "%zu bytes", n);
    for (size_t bit = 0; bit < 8 * size; bit += 5) { /* any answer, and nothing worse */
        text[bit / 8] ^= (char)(1 << bit % 8);
        (void)refused(text, size, &err);
        text[bit / 8] ^= (char)(1 << bit % 8);
    }
    free(text);
}
END_TEST

START_TEST(what_is_no_baseline_is_told)
{
#define HEAD                                                                                       \
    "{\"format\":\"tacit-baseline\",\"version\":1,\"what\":\"kernels\",\"cpu\":\"c\",\"cpu_id\":"  \
    "\"-\","                                                                                       \
    "\"isa\":\"avx2\",\"threads\":1,\"compiler\":\"gcc\",\"build\":\"b\",\"rows\":["
#define ROW(fma, copy, count)                                                                      \
    "{\"name\":\"n\",\"shape\":\"s\",\"isa\":\"avx2\",\"threads\":1,\"fma_cost\":" fma             \
    ",\"copy_cost\":" copy ",\"instructions\":" count "}"
    static const char *const table[][2] = {
        { "", "line 1 is not JSON" },
        { "no", "line 1 is not JSON" },
        { "{}", "write one by --save-baseline" },
        { "[]", "write one by --save-baseline" },
        { "{\"format\":\"tacit-baseline\"}", "'version'" },
        { "{\"format\":\"tacit-baseline\",\"version\":2}", "version 2, not 1" },
        { "{\"format\":\"tacit-baseline\",\"version\":1}", "'what'" },
        { "{\"format\":\"tacit-baseline\",\"format\":\"tacit-baseline\"}", "not JSON" },
        { HEAD "]}", "'rows'" },
        { HEAD "7]}", "'name' of a row" },
        { HEAD ROW("[1]", "null", "null") "," ROW("[1]", "null", "null") "]}", "there twice" },
        { HEAD ROW("null", "null", "null") "]}", "'fma_cost' of n" },
        { HEAD ROW("[]", "null", "null") "]}", "'fma_cost' of n" },
        { HEAD ROW("[0]", "null", "null") "]}", "'fma_cost' of n" },
        { HEAD ROW("[-1]", "null", "null") "]}", "'fma_cost' of n" },
        { HEAD ROW("[1e300]", "null", "null") "]}", "'fma_cost' of n" },
        { HEAD ROW("[\"1\"]", "null", "null") "]}", "'fma_cost' of n" },
        { HEAD ROW("[1,2]", "[1]", "null") "]}", "'copy_cost' of n" },
        { HEAD ROW("[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", "null",
                   "null") "]}",
          "'fma_cost' of n" },
        { HEAD ROW("[1]", "null", "0") "]}", "'instructions' of n" },
    };
    tacit_err err;
    ck_assert_int_eq(
        refused(HEAD ROW("[1]", "[1]", "5") "]}", strlen(HEAD ROW("[1]", "[1]", "5") "]}"), &err),
        TACIT_OK);
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        ck_assert_msg(refused(table[i][0], strlen(table[i][0]), &err) < 0, "%s", table[i][0]);
        ck_assert_msg(strstr(err.text, table[i][1]), "%s: %s", table[i][0], err.text);
    }
    tacit_baseline b;
    ck_assert_int_lt(tacit_baseline_read(&b, scratch("nowhere.json"), &err), 0);
    ck_assert_int_lt(tacit_baseline_read(&b, scratch_folder, &err), 0);
}
END_TEST

START_TEST(no_memory)
{
    tacit_baseline b;
    tacit_err err;
    make_baseline(&b);
    ck_assert_int_eq(tacit_baseline_write(&b, scratch("b.json"), &err), TACIT_OK);
    tacit_baseline_close(&b);
    tacit_status st = TACIT_ENOMEM;
    unsigned n = 1;
    for (; st != TACIT_OK; n++) {
        tacit_alloc_fail_at(n, false);
        st = tacit_baseline_read(&b, scratch("b.json"), &err);
        ck_assert(st == TACIT_OK || st == TACIT_ENOMEM);
    }
    tacit_alloc_fail_at(0, false);
    ck_assert_uint_ge(n, 3);
    tacit_baseline_close(&b);
}
END_TEST

/* The program --------------------------------------------------------------------------------- */

/* In the scratch folder. Where the program cannot run itself, or has no limit, there is no test. */
static bool can_run(void)
{
    tacit_isa isa;
    return getenv("TACIT_PROGRAM") && !getenv("MESON_EXE_WRAPPER") &&
           tacit_isa_select(NULL, &isa, NULL) == TACIT_OK && isa != TACIT_ISA_REF &&
           chdir(scratch_folder) == 0;
}

/* A baseline of one kernel with the same cost in every repeat. */
static void pretend(const char *path, double cost, const char *cpu)
{
    tacit_baseline b;
    tacit_isa isa;
    tacit_bench_row row = { .name = "swish_f32", .shape = "8192", .threads = 1 };
    ck_assert_int_eq(tacit_isa_select(NULL, &isa, NULL), TACIT_OK);
    ck_assert_int_eq(tacit_baseline_open(&b, NULL), TACIT_OK);
    tacit_ground_here(&b.ground, "kernels", tacit_isa_name(isa), 1);
    if (cpu)
        snprintf(b.ground.cpu, sizeof b.ground.cpu, "%s", cpu);
    memcpy(row.isa, b.ground.isa, sizeof row.isa);
    tacit_bench_row *r = tacit_baseline_add(&b, &row);
    r->costs = (tacit_costs){ .n = TACIT_GATE_BASELINE };
    for (unsigned i = 0; i < TACIT_GATE_BASELINE; i++)
        r->costs.fma[i] = cost;
    ck_assert_int_eq(tacit_baseline_write(&b, path, NULL), TACIT_OK);
    tacit_baseline_close(&b);
}

static tacit_status count_line(void *ctx, const char *line, tacit_err *err)
{
    unsigned *lines = ctx;
    return ++*lines < 3 ? TACIT_OK : tacit_fail(err, TACIT_ELIMIT, "%s is too much", line);
}

START_TEST(children_are_read_and_their_ends_told)
{
    tacit_err err;
    unsigned lines = 0;
    ck_assert_int_eq(
        tacit_child_run((const char *const[]){ "sh", "-c", "echo a; echo b >&2", NULL }, count_line,
                        &lines, &err),
        TACIT_OK);
    ck_assert_uint_eq(lines, 2);
    ck_assert_int_eq(
        tacit_child_run((const char *const[]){ "yes", NULL }, count_line, &lines, &err),
        TACIT_ELIMIT);
    ck_assert_str_eq(err.text, "y is too much");
    lines = 0;
    ck_assert_int_eq(
        tacit_child_run((const char *const[]){ "sh", "-c", "echo tacit bench: why; exit 3", NULL },
                        count_line, &lines, &err),
        TACIT_EIO);
    ck_assert_str_eq(err.text, "why");
    ck_assert_int_eq(tacit_child_run((const char *const[]){ "sh", "-c", "kill -9 $$", NULL },
                                     count_line, &lines, &err),
                     TACIT_EIO);
    ck_assert_int_eq(
        tacit_child_run((const char *const[]){ "/nowhere", NULL }, count_line, &lines, &err),
        TACIT_EIO);
    ck_assert_ptr_nonnull(strstr(err.text, "/nowhere: cannot be run: "));
}
END_TEST

#define GATE "bench kernels --rounds 2 --no-counts --filter swish_f32 --baseline "

START_TEST(exit_statuses)
{
    if (!can_run())
        return;
    pretend("slow.json", 1e6, NULL);
    pretend("fast.json", 1e-9, NULL);
    pretend("other.json", 1, "Zilog Z80");
    file_put("bad.json", "{", 1);
    fails(1, "", GATE "bad.json", "bad.json: is not a baseline");
    fails(1, "", GATE "nowhere.json", "nowhere.json");
    fails(2, "", GATE "other.json", "other.json: is of another machine, Zilog Z80");
    fails(2, "TACIT_CPU=ref", GATE "fast.json --isa avx2 --threads 3", "and this is");
    fails(1, "", GATE "fast.json --filter nothing --csv nowhere/f", "nowhere/f");
    fails(1, "TACIT_BENCH_SLOW=none:5", "bench kernels", "use KERNEL:PERCENT");
    fails(1, "TACIT_BENCH_SLOW=swish_f32:5", "bench kernels --save-baseline b.json", "a wrong one");
    ck_assert_msg(run("", GATE "slow.json") == 0, "%s", err_text);
    ck_assert_ptr_nonnull(strstr(out_text, "1 compared: 0 slower, 1 faster, 0 undecided\n"));
    ck_assert_msg(run("", GATE "fast.json --csv f.csv") == 1, "%s", err_text);
    ck_assert_str_eq(err_text, "");
    ck_assert_int_eq(strncmp(out_text, "slower: swish_f32 8192 (", 24), 0);
    ck_assert_ptr_nonnull(strstr(out_text, "\n1 compared: 1 slower, 0 faster, 0 undecided\n"));
    char csv[4096];
    slurp("f.csv", csv, sizeof csv);
    ck_assert_int_eq(strncmp(csv, "date,version,cpu,compiler,what,name,shape,isa,threads,", 54), 0);
    ck_assert_ptr_nonnull(strstr(csv, ",kernels,swish_f32,8192,"));
    ck_assert_ptr_nonnull(strstr(csv, ",slower\n"));
    ck_assert_int_eq(run("", GATE "fast.json --json"), 1);
    ck_assert_ptr_nonnull(strstr(out_text, "\"verdict\":\"slower\"}\n"));
    ck_assert_ptr_eq(strchr(out_text, '\n'), out_text + strlen(out_text) - 1);
}
END_TEST

START_TEST(what_was_saved_is_compared)
{
    tacit_baseline b;
    tacit_err err;
    if (!can_run())
        return;
    ck_assert_msg(run("",
                      "bench kernels --rounds 6 --no-counts --filter swish_f32 --filter gelu_f32 "
                      "--save-baseline b.json --csv b.csv") == 0,
                  "%s", err_text);
    ck_assert_str_eq(out_text, "b.json: 2 rows, 20 repeats\n");
    ck_assert_msg(tacit_baseline_read(&b, "b.json", &err) == TACIT_OK, "%s", err.text);
    ck_assert_uint_eq(b.count, 2);
    ck_assert_uint_eq(b.rows[0].costs.n, TACIT_GATE_BASELINE);
    tacit_baseline_close(&b);
    /* Twice the time is noticed whatever the machine does beside it. */
    ck_assert_int_eq(run("TACIT_BENCH_SLOW=gelu_f32:100", "bench kernels --rounds 6 --no-counts "
                                                          "--filter gelu_f32 --baseline b.json"),
                     1);
    ck_assert_ptr_nonnull(strstr(out_text, "slower: gelu_f32 8192 ("));
}
END_TEST

/* Instructions of a call, 0 where they cannot be counted. */
static double counted(void)
{
    tacit_baseline b;
    tacit_err err;
    pretend("c.json", 1, NULL);
    ck_assert_msg(tacit_baseline_read(&b, "c.json", &err) == TACIT_OK, "%s", err.text);
    const char *const argv[] = { getenv("TACIT_PROGRAM"),
                                 "bench",
                                 "kernels",
                                 "--count",
                                 "--filter",
                                 "swish_f32",
                                 "--isa",
                                 b.ground.isa,
                                 NULL };
    tacit_status st = tacit_bench_counts(&b, argv, &err);
    ck_assert_msg(st == TACIT_OK || st == TACIT_EUNSUPPORTED, "%s", err.text);
    double count = b.rows[0].instructions;
    tacit_baseline_close(&b);
    return count;
}

/* An element of swish takes one to two dozen; sanitizers add their own. */
#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
#define MOST_INSTRUCTIONS 256
#else
#define MOST_INSTRUCTIONS 32
#endif

START_TEST(instructions_are_counted)
{
    if (!can_run())
        return;
    double once = counted();
    if (once <= 0) {
        printf("skipped: instructions: valgrind cannot run this\n");
        return;
    }
    ck_assert_double_ge(once, 8192.0 / 16);
    ck_assert_double_le(once, 8192.0 * MOST_INSTRUCTIONS);
    ck_assert_double_eq(counted(), once);
    ck_assert_int_eq(setenv("TACIT_BENCH_SLOW", "swish_f32:5", 1), 0);
    double slower = counted();
    unsetenv("TACIT_BENCH_SLOW");
    ck_assert_double_eq_tol(slower / once, 1.05, 0.005);
    ck_assert_int_eq(setenv("PATH", "/nowhere", 1), 0);
    ck_assert_double_eq(counted(), 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("gate");
    TCase *tcase = tcase_create("gate");
    tcase_add_unchecked_fixture(tcase, scratch_open, scratch_close);
    tcase_set_timeout(tcase, 300);
    tcase_add_test(tcase, no_more_than_one_run_in_twenty_cries_wolf);
    tcase_add_test(tcase, five_percent_is_caught_19_times_in_20);
    tcase_add_test(tcase, the_limit_that_agrees_with_itself_is_taken);
    tcase_add_test(tcase, the_interval_holds_the_truth);
    tcase_add_test(tcase, verdicts);
    tcase_add_test(tcase, a_baseline_is_read_back);
    tcase_add_test(tcase, rows_have_a_limit);
    tcase_add_test(tcase, other_grounds_are_told);
    tcase_add_test(tcase, damaged_files_are_refused);
    tcase_add_test(tcase, what_is_no_baseline_is_told);
    tcase_add_test(tcase, no_memory);
    tcase_add_test(tcase, children_are_read_and_their_ends_told);
    tcase_add_test(tcase, exit_statuses);
    tcase_add_test(tcase, what_was_saved_is_compared);
    tcase_add_test(tcase, instructions_are_counted);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
