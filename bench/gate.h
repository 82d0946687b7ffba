/* gate.h - whether something became slower since a baseline: the statistics, and nothing else.
 *
 * A cost is a time multiplied by a limit that was measured beside it: how much the machine could
 * have computed (GFLOP) or copied (GB) in that time. A repeat is one process; its cost of a row is
 * a low quantile over many short turns, and so of the quiet moments. What a process keeps for its
 * life (where its code, stack and pages lie) and slow spells make repeats differ, now and then by
 * 20 %, and only upwards: the estimate is the lower quartile over repeats, and the bootstrap says
 * how well it is known.
 *
 * The rule, in looks (tacit_gate_look), each with repeats of its own:
 *  (1) a row is a suspect at the first look where it seems slower by half the margin, or may be by
 *      5 %; any other is the same;
 *  (2) a suspect is looked at again, with fresh repeats, from which alone the verdict comes: slower
 *      is what is slower by MARGIN at least, with an interval that lies above 1 at a level that
 *      holds for all rows together;
 *  (3) what cannot be told then gets more repeats, and is undecided where it may still be slower by
 *      5 %;
 *  (4) instructions, where they were counted, decide what time cannot: MARGIN more of them is
 * slower unless the interval of time excludes MARGIN. tests/test_gate.c holds the rule to its rates
 * of false and missed alarms in simulated runs.
 */
#ifndef TACIT_GATE_H
#define TACIT_GATE_H

#include <stdbool.h>
#include <stddef.h>

#define TACIT_GATE_MARGIN   1.03
#define TACIT_GATE_BASELINE 20 /* repeats of a baseline           */
#define TACIT_GATE_FIRST    6  /* of the first look               */
#define TACIT_GATE_SECOND   12 /* of the second                   */
#define TACIT_GATE_LAST     18 /* more of them for the last       */
#define TACIT_GATE_REPEATS  32 /* more are not kept of a row      */

typedef struct tacit_costs {
    unsigned n;
    double fma[TACIT_GATE_REPEATS];  /* GFLOP; each above 0, or all 0: not measured */
    double copy[TACIT_GATE_REPEATS]; /* GB; the same                                */
} tacit_costs;

typedef enum tacit_verdict {
    TACIT_SAME,
    TACIT_SUSPECT, /* only at the first look, and where the second is not conclusive */
    TACIT_SLOWER,
    TACIT_FASTER,
    TACIT_UNDECIDED,
} tacit_verdict;

const char *tacit_verdict_word(tacit_verdict verdict);

/* What the time is of that of the baseline: 1.05 is 5 % slower. */
typedef struct tacit_shift {
    double ratio, low, high;
    bool copy; /* by the limit of copying */
} tacit_shift;

/* Both have repeats. The limit is the one by which the baseline's own repeats agree better. rows:
 * how many are compared in the run; the interval misses the truth for any of them in 5 % of runs.
 */
tacit_shift tacit_gate_shift(const tacit_costs *then, const tacit_costs *now, size_t rows);

typedef enum tacit_look { TACIT_LOOK_FIRST, TACIT_LOOK_SECOND, TACIT_LOOK_LAST } tacit_look;

/* What this look's repeats say; TACIT_SUSPECT asks for the next one, and the last never does. */
tacit_verdict tacit_gate_look(const tacit_shift *now, tacit_look look);

/* The verdict with the counts of instructions, each 0 where there is none. */
tacit_verdict tacit_gate_count(tacit_verdict by_time, const tacit_shift *now, double then_count,
                               double now_count);

#endif
