/* bench_steps.c - our side of peers/train.py: stays alive and does a training step a line.
 *
 *     bench_steps NAME BATCH THREADS
 *
 * NAME is a part of what tacit bench pretrain calls the network, BATCH 0 its own. One step is done
 * before the first line; each line is answered by the JSON of tacit bench pretrain.
 */
#include "bench.h"

#include <stdlib.h>

int main(int argc, char **argv)
{
    tacit_err err;
    if (argc != 4) {
        fprintf(stderr, "usage: bench_steps NAME BATCH THREADS\n");
        return 2;
    }
    const char *const filters[] = { argv[1], NULL };
    tacit_bench_options options = { .json = true,
                                    .filters = filters,
                                    .batch = (unsigned)strtoul(argv[2], NULL, 10),
                                    .threads = (unsigned)strtoul(argv[3], NULL, 10) };
    if (tacit_bench_steps(&options, stdin, stdout, &err) == TACIT_OK)
        return 0;
    fprintf(stderr, "bench_steps: %s\n", err.text);
    return 1;
}
