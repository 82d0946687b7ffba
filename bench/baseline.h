/* baseline.h - the file that a run of the benchmark is compared with: JSON of
 *
 *     format "tacit-baseline", version 1, what, cpu, cpu_id, isa, threads, compiler, build,
 *     rows: [{name, shape, isa, threads, fma_cost: [...], copy_cost: [...], instructions}]
 *
 * with one cost a repeat (see gate.h), null where a cost or a count was not measured. It is written
 * whole or not at all. Reading trusts nothing: sizes, names, numbers and their counts have limits,
 * no two rows are of one thing, and what is not understood is refused.
 */
#ifndef TACIT_BASELINE_H
#define TACIT_BASELINE_H

#include "gate.h"
#include "status.h"

#define TACIT_BASELINE_ROWS 256

/* What ran where. */
typedef struct tacit_ground {
    char what[16];             /* kernels, extract or pretrain                     */
    char cpu[128], cpu_id[16]; /* name; family, model and stepping: names are often vague */
    char isa[8];
    unsigned threads;
    char compiler[128], build[64]; /* its name and version; optimised or not, sanitizers */
} tacit_ground;

typedef struct tacit_bench_row {
    char name[64], shape[64], isa[8];
    unsigned threads;
    tacit_costs costs;
    double instructions; /* of a call; 0: not counted */
} tacit_bench_row;

typedef struct tacit_baseline {
    tacit_ground ground;
    size_t count;
    tacit_bench_row *rows; /* TACIT_BASELINE_ROWS; owned */
} tacit_baseline;

/* This machine and program. threads and isa as tacit_threads_select and tacit_isa_select have it.
 */
void tacit_ground_here(tacit_ground *ground, const char *what, const char *isa, unsigned threads);

/* TACIT_ECONFLICT, and what differs, where runs on the two grounds are not to be compared. (Another
 * compiler is no such thing: whether it makes slower code is a question to answer.) */
tacit_status tacit_ground_same(const tacit_ground *then, const tacit_ground *now, tacit_err *err);

tacit_status tacit_baseline_open(tacit_baseline *baseline, tacit_err *err); /* empty */
void tacit_baseline_close(tacit_baseline *baseline);

/* The row of that name, shape, ISA and threads, or NULL. */
tacit_bench_row *tacit_baseline_find(const tacit_baseline *baseline, const tacit_bench_row *like);
/* An empty row behind the others; NULL where there are TACIT_BASELINE_ROWS. */
tacit_bench_row *tacit_baseline_add(tacit_baseline *baseline, const tacit_bench_row *like);

tacit_status tacit_baseline_write(const tacit_baseline *baseline, const char *path, tacit_err *err);
/* A failed read leaves nothing to close. */
tacit_status tacit_baseline_read(tacit_baseline *baseline, const char *path, tacit_err *err);

#endif
