/* dataset.h - a set of images, wherever it lies, as a sequence of items.
 *
 * Kinds: a folder with class sub-folders, a flat folder, a text list ("-" is standard input), a tar
 * (webdataset naming; several as shard-{000..012}.tar), CIFAR-10/100 binary files, IDX (also .gz),
 * a pack (pack.h); also one image file, which counts as a list. The order of items is a property of
 * the input alone: folders as torchvision's ImageFolder sorts them, all others keep their own
 * order. Each reader's head comment (dataset_*.c) has its rules.
 */
#ifndef TACIT_DATASET_H
#define TACIT_DATASET_H

#include "status.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum tacit_dataset_kind {
    TACIT_DATASET_AUTO, /* by what the path is and how the file begins */
    TACIT_DATASET_FOLDER,
    TACIT_DATASET_LIST,
    TACIT_DATASET_TAR,
    TACIT_DATASET_CIFAR10,
    TACIT_DATASET_CIFAR100,
    TACIT_DATASET_IDX,
    TACIT_DATASET_PACK,
} tacit_dataset_kind;

typedef enum tacit_item_form {
    TACIT_ITEM_FILE,   /* `path` can be opened (after `root`): load with tacit_item_load      */
    TACIT_ITEM_BYTES,  /* `bytes` holds an encoded image                                      */
    TACIT_ITEM_PIXELS, /* `bytes` holds (height, width, 3) RGB8                               */
    TACIT_ITEM_BAD,    /* listed, but cannot be an image: `problem` says why                  */
} tacit_item_form;

/* One input. Zeroed before its first use, reused by every next; freed by tacit_item_free. All
 * pointers are owned by the item. */
typedef struct tacit_item {
    uint64_t index; /* position in the input, from 0                                         */
    char *path;     /* its name in index.tsv: path under the root, tar member, "file#record"   */
    char *label;    /* NULL where there is none                                              */
    char *file;     /* FILE: the path to open                                                */
    tacit_item_form form;
    tacit_status status; /* BAD: the reason as a status                                      */
    tacit_err problem;   /* BAD: the reason                                                  */
    uint8_t *bytes;
    size_t size, capacity;
    size_t width, height;    /* PIXELS */
    size_t text_capacity[3]; /* behind path, label, file */
} tacit_item;

typedef struct tacit_dataset tacit_dataset;

/* Opens path; kind AUTO detects. TACIT_EINVAL where path is no such thing or holds no input. */
tacit_status tacit_dataset_open(tacit_dataset **set, const char *path, tacit_dataset_kind kind,
                                tacit_err *err);
void tacit_dataset_close(tacit_dataset **set);

/* The kind found, never AUTO. */
tacit_dataset_kind tacit_dataset_kind_of(const tacit_dataset *set);
const char *tacit_dataset_kind_name(tacit_dataset_kind kind);
/* "folder", "list", "tar", "cifar10", "cifar100", "idx", "pack"; TACIT_EINVAL otherwise. */
tacit_status tacit_dataset_kind_parse(const char *name, tacit_dataset_kind *kind, tacit_err *err);

/* Number of items, or UINT64_MAX where only reading to the end tells (tar, standard input). */
uint64_t tacit_dataset_count(const tacit_dataset *set);

/* From here on a wait for what a list on standard input or a FIFO has not been given yet ends with
 * TACIT_ECANCELLED soon after *stop is not 0. stop: NULL, or valid as long as the set is read. */
void tacit_dataset_stop_by(tacit_dataset *set, const atomic_int *stop);

/* The next item; *more is false at the end. An error is one of the container (a tar cut off), after
 * which the set ends; a bad item is an item. Not thread-safe: callers take turns. */
tacit_status tacit_dataset_next(tacit_dataset *set, tacit_item *item, bool *more, tacit_err *err);

/* The same, without reading the item's bytes where the container can pass over them. */
tacit_status tacit_dataset_skip(tacit_dataset *set, tacit_item *item, bool *more, tacit_err *err);

/* FILE: reads the file into bytes/size. Only regular files are opened (after symlinks), without
 * blocking on a FIFO. Other forms: nothing to do. Thread-safe for distinct items. */
tacit_status tacit_item_load(tacit_item *item, tacit_err *err);
void tacit_item_free(tacit_item *item);

#endif
