/* test_gate.c - the rule of the regression gate in simulated runs, and its baseline's file. */
#include "baseline.h"
#include "gate.h"
#include "mem.h"
#include "rng.h"
#include "scratch.h"

#include <check.h>
#include <math.h>

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
    { 0.010, 0.10, 0.10, 0.004 }, { 0.002, 0.40, 0.20, 0.003 },
};
#define WORLDS (sizeof worlds / sizeof *worlds)

START_TEST(no_more_than_one_run_in_twenty_cries_wolf)
{
    unsigned runs = 300, wolves = 0;
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
        unsigned runs = 1000, caught = 0;
        for (unsigned r = 0; r < runs; r++)
            caught += simulate(&worlds[w], 1.05, ROWS) == TACIT_SLOWER;
        printf("world %zu: %u of %u caught\n", w, caught, runs);
        ck_assert_uint_ge(caught * 20, runs * 19);
    }
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
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
