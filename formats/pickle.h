/* pickle.h - a reader of PyTorch's pickles that executes nothing.
 *
 * A pickle is a program for a stack machine that may call any Python function. This machine runs
 * it on values that are only described: numbers, strings, containers, storages and tensors; every
 * other global is an inert name, and whatever is made by calling one is inert too. Only what would
 * be needed as a tensor must be understood.
 *
 * Format: Python's pickletools.py; the globals: torch/serialization.py, torch/_utils.py.
 *
 * Promises: memory within the budget, time linear in the bytes that were given (and a limit on
 * their number), nothing read outside them.
 */
#ifndef TACIT_PICKLE_H
#define TACIT_PICKLE_H

#include "status.h"
#include "tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Where a tensor's elements lie. */
typedef struct tacit_pickle_place {
    size_t storage;          /* index into storages               */
    uint64_t offset;         /* of the first element, in elements */
    const uint64_t *strides; /* (rank), in elements               */
    bool contiguous;         /* row-major without holes           */
} tacit_pickle_place;

typedef struct tacit_pickle_storage {
    const char *key; /* what the container calls it */
    uint64_t elements, bytes;
} tacit_pickle_storage;

typedef struct tacit_pickle tacit_pickle;

/* budget: bytes of memory that may be used, beyond `bytes` themselves. */
tacit_status tacit_pickle_open(tacit_pickle **pickle, size_t budget, tacit_err *err);
void tacit_pickle_close(tacit_pickle **pickle);

/* Runs the pickle that begins at bytes; *used: how long it is. The value stays in the pickle, in
 * place of the one before. *cut: it failed because the bytes ended. */
tacit_status tacit_pickle_run(tacit_pickle *pickle, const uint8_t *bytes, size_t size, size_t *used,
                              bool *cut, tacit_err *err);

/* What the value is, where it is simple; false where it is something else. */
bool tacit_pickle_integer(const tacit_pickle *pickle, int64_t *value);
bool tacit_pickle_is_magic(const tacit_pickle *pickle); /* the legacy form's first pickle */
/* The next string of a list, from the first; NULL past its end or for another value. */
const char *tacit_pickle_next_string(tacit_pickle *pickle);
/* A truth value of a dictionary: 1 or 0, -1 where there is none of that key. */
int tacit_pickle_flag(const tacit_pickle *pickle, const char *key);

/* Lists all tensors of the value under the names of the keys that lead to them, joined by dots
 * ("teacher.backbone.cls_token"); a value that is a tensor itself has the name "tensor". All
 * storages are listed, also those that no tensor uses. Nothing listed points into the bytes. */
tacit_status tacit_pickle_list(tacit_pickle *pickle, tacit_err *err);
const tacit_tensor *tacit_pickle_tensors(const tacit_pickle *pickle, size_t *count);
const tacit_pickle_place *tacit_pickle_places(const tacit_pickle *pickle);
const tacit_pickle_storage *tacit_pickle_storages(const tacit_pickle *pickle, size_t *count);

#endif
