/* labels.h - the class of each row of a set of vectors, and the names of the classes.
 *
 * Classes are numbered in the order of their names: as numbers where all names are decimal
 * integers, else by their bytes (the order of torchvision's ImageFolder). So a tie that goes to the
 * lower class goes to the same one in every program that sorts.
 */
#ifndef TACIT_LABELS_H
#define TACIT_LABELS_H

#include "vectors.h"

typedef struct tacit_labels {
    size_t rows, classes;
    uint32_t *of;  /* (rows) */
    char **names;  /* (classes) */
    bool integers; /* how they are ordered */
} tacit_labels;

/* The labels of all rows of vectors. path NULL: those of the folder's index.tsv. Else path is an
 * index.tsv; a text with one label a line; a text with tabs, whose first line names the columns,
 * one of them "label"; or a .npy of integers (rows). Rows without a label, or more or fewer labels
 * than rows, are an error. */
tacit_status tacit_labels_open(tacit_labels *labels, const char *path, const tacit_vectors *vectors,
                               tacit_err *err);
void tacit_labels_close(tacit_labels *labels);

/* Gives labels the classes of `known` by name. TACIT_ECONFLICT names those that are not there. */
tacit_status tacit_labels_match(tacit_labels *labels, const tacit_labels *known, tacit_err *err);

#endif
