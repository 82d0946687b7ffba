/* bench.h - how close the kernels and the whole program come to the machine's limit. */
#ifndef TACIT_BENCH_H
#define TACIT_BENCH_H

#include "cpu.h"
#include "precision.h"

#include <stdbool.h>
#include <stdio.h>

typedef struct tacit_bench_options {
    bool json;                           /* one object a line, else a table                    */
    unsigned threads;                    /* 0: as many as the machine allows this process      */
    unsigned rounds;                     /* turns of each measurement; 0: the default          */
    const char *const *filters;          /* only rows whose name holds one; NULL at the end    */
    const tacit_isa *isa;                /* kernels: only on this one; NULL: on all     */
    bool count;                          /* kernels: a call of each: counts.h           */
    const char *weights, *arch, *images; /* extract                                            */
    const char *cache;                   /* extract: a folder for packed weights, or NULL      */
    tacit_precision precision;           /* extract                                            */
    bool latency;                        /* extract: only that                                 */
    unsigned batch;                      /* 0: 1 for extract, each network's own for pretrain */
} tacit_bench_options;

/* Whether one of the filters is in the text, or there are none. */
bool tacit_bench_chosen(const tacit_bench_options *options, const char *text);

/* Every row of kernels.inc, on every ISA that this CPU has, and the Linear layers of ViTs on the
 * pool: time, GFLOP/s or GB/s, and the share of the limit that was measured in turns with it. */
tacit_status tacit_bench_kernels(const tacit_bench_options *options, FILE *out, tacit_err *err);

/* Whole steps of training, forward, backward and AdamW, of ViTs, masked autoencoders and ResNets:
 * time, images a second, the share of the FMA limit that what a step needs amounts to, and memory.
 * Last, what a masked autoencoder's step is of the full step of its ViT. */
tacit_status tacit_bench_pretrain(const tacit_bench_options *options, FILE *out, tacit_err *err);

/* The same for the first of them that the filters choose: it stays, and does a step for each
 * line of `in`. */
tacit_status tacit_bench_steps(const tacit_bench_options *options, FILE *in, FILE *out,
                               tacit_err *err);

/* Everything from nothing to the vector of the first image, whose first value is printed: what the
 * cold start of tacit_bench_extract runs. */
tacit_status tacit_bench_once(const tacit_bench_options *options, FILE *out, tacit_err *err);

/* JPEG bytes to vector: latency of one image (p50, p90, p99), images a second for many, the time
 * from exec to the first vector, and the peak resident set. program: the path of this binary, run
 * anew for the cold start. */
tacit_status tacit_bench_extract(const tacit_bench_options *options, const char *program, FILE *out,
                                 tacit_err *err);

#endif
