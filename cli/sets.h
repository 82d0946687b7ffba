/* sets.h - what knn and probe have in common: a training set, a test set, their labels, a pool. */
#ifndef TACIT_SETS_H
#define TACIT_SETS_H

#include "cli.h"
#include "labels.h"

typedef struct tacit_sets {
    tacit_isa isa;
    const tacit_kernels *kernels;
    tacit_threads threads;
    tacit_pool *pool;
    bool has_test;
    tacit_vectors train, test;
    tacit_labels train_labels, test_labels; /* of the same classes */
} tacit_sets;

/* The rows of the command's table that tacit_sets_open reads. */
#define TACIT_SETS_OPTIONS(test_required)                                                          \
    { "train", "PATH", NULL, "folder of 'tacit extract', or a .npy of vectors", true },            \
        { "test", "PATH", NULL, "the same, of the images to be classified", test_required },       \
        { "train-labels", "FILE", NULL,                                                            \
          "labels of the training set: one a line, a TSV with a column 'label', or a .npy of "     \
          "integers (default: those of the folder)",                                               \
          false },                                                                                 \
        { "test-labels", "FILE", NULL, "the same of the test set", false },                        \
    {                                                                                              \
        "threads", "N", NULL, "threads (default: what the machine allows this process)", false     \
    }

/* -1 to go on; else what went wrong was printed, nothing is left to close, and it is the exit
 * status. */
int tacit_sets_open(tacit_sets *sets, const tacit_args *args);
void tacit_sets_close(tacit_sets *sets);

/* Two lines on stdout that say what the sets are. */
void tacit_sets_print(const tacit_sets *sets);

/* Adds "train", "test", "classes", "isa", "threads" and "wall_s" to an object; false where memory
 * is short. */
bool tacit_sets_describe(const tacit_sets *sets, json_t *object, double wall);

/* Classes, of which each has how many rows, and how many of them were right. */
void tacit_print_classes(const tacit_labels *labels, const size_t *rows, const size_t *right);

/* Tables of more classes are printed only where they are asked for. */
#define TACIT_FEW_CLASSES 20

double tacit_wall(void); /* seconds, monotonic */

#endif
