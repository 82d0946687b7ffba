/* cpu.h - what this processor can do and how many threads this process may run.
 *
 * Baseline code: compiled without any ISA flag.
 */
#ifndef TACIT_CPU_H
#define TACIT_CPU_H

#include "status.h"

#include <stdbool.h>

/* The rungs, lowest first. A rung implies those below it on the same architecture. */
typedef enum tacit_isa {
    TACIT_ISA_REF,    /* plain C: the definition of every result */
    TACIT_ISA_AVX2,   /* AVX2, FMA, F16C                       */
    TACIT_ISA_AVX512, /* AVX-512 F, BW, DQ, VL                 */
    TACIT_ISA_NEON,   /* AArch64 Advanced SIMD                 */
    TACIT_ISA_COUNT,
} tacit_isa;

const char *tacit_isa_name(tacit_isa isa);

/* TACIT_EINVAL for a name that is none. */
tacit_status tacit_isa_parse(const char *name, tacit_isa *isa, tacit_err *err);

/* Whether this build and this CPU (and its operating system) can run it. */
bool tacit_isa_available(tacit_isa isa);

/* The best rung available, or the one that `forced` (NULL: the environment variable TACIT_CPU)
 * names. A forced rung that this CPU lacks is TACIT_EUNSUPPORTED. */
tacit_status tacit_isa_select(const char *forced, tacit_isa *isa, tacit_err *err);

/* Whether the CPU multiplies and adds four bytes in one instruction that goes with the rung:
 * AVX-512 VNNI, AVX-VNNI, Arm's dot product. */
bool tacit_cpu_dot8(tacit_isa isa);
/* Whether it has AVX512_BF16. Where the rung is not AVX-512, it does not matter. */
bool tacit_cpu_bf16(void);
/* For tests: as if it had neither. */
void tacit__cpu_dots_hide(bool hide);

/* Marketing name of the CPU, "unknown" where the system does not tell. */
void tacit_cpu_name(char *out, unsigned size);

/* CPUs in this process' affinity mask, at least 1. */
unsigned tacit_cpu_count(void);

typedef struct tacit_threads {
    unsigned use;      /* the number to use: at least 1                                       */
    unsigned affinity; /* CPUs in this process' affinity mask                                 */
    double quota;      /* the cgroup's CPU quota in CPUs, the least over its parents; 0 = none */
    const char *why;   /* what decided: "option", "TACIT_THREADS", "quota" or "affinity"      */
} tacit_threads;

/* asked > 0 wins, then TACIT_THREADS, then min(affinity, floor(quota)), at least 1. An unusable
 * TACIT_THREADS is TACIT_EINVAL. */
tacit_status tacit_threads_select(unsigned asked, tacit_threads *threads, tacit_err *err);

/* For tests: the same, with `root` in place of "/" for the files under /proc and /sys. */
tacit_status tacit__cgroup_quota(const char *root, double *quota);

#endif
