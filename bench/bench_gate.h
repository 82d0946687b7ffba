/* bench_gate.h - tacit bench compared with an earlier run of it. */
#ifndef TACIT_BENCH_GATE_H
#define TACIT_BENCH_GATE_H

#include "bench.h"

typedef struct tacit_gate_options {
    const char *what;     /* kernels, extract or pretrain                         */
    const char *baseline; /* the file to compare with; NULL: none                 */
    const char *save;     /* the file to write; NULL: none. One of the two is set */
    const char *csv;      /* a file for one row of each thing measured, or NULL   */
    bool count;           /* instructions, where valgrind is                      */
    bool tell;            /* progress, on standard error                          */
} tacit_gate_options;

/* Runs this program anew for each repeat (gate.h has the rule). With a baseline, one line on out
 * for each thing that became slower, and a summary; with options->json an object for each thing,
 * and no more. *slower: how many they are. TACIT_ECONFLICT: the baseline is not comparable. */
tacit_status tacit_bench_gate(const tacit_bench_options *options, const tacit_gate_options *gate,
                              FILE *out, size_t *slower, tacit_err *err);

#endif
