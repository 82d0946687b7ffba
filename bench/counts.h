/* counts.h - instructions of a call of each kernel, counted by valgrind. */
#ifndef TACIT_COUNTS_H
#define TACIT_COUNTS_H

#include "baseline.h"

/* In the process that is counted: calls `run`. What it spends is counted, and nothing else. */
void tacit_bench_counted(void (*run)(void *), void *of, size_t calls);

/* argv: the command line (NULL at the end) of a program that counts, as tacit_bench_kernels does
 * with `count`. Sets `instructions` of the rows of one thread. TACIT_EUNSUPPORTED, which is no
 * failure of the run, where there is no valgrind or it cannot run this: nothing is then set. */
tacit_status tacit_bench_counts(tacit_baseline *baseline, const char *const *argv, tacit_err *err);

#endif
