/* npy.h - NumPy's .npy: a writer whose file can grow by rows, and a hardened reader.
 *
 * The format: numpy/lib/format.py (NEP 1). Written: version 1.0, a header of 128 bytes.
 */
#ifndef TACIT_NPY_H
#define TACIT_NPY_H

#include "status.h"
#include "tensor.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TACIT_NPY_HEADER 128

/* The header of a C-order array of rank 2 to 4, of a type that tacit_npy_open reads. Room for the
 * first number to grow is left, so that rows can be appended and the header be written again. */
void tacit_npy_header(char header[TACIT_NPY_HEADER], tacit_dtype dtype, const uint64_t *shape,
                      unsigned rank);

typedef struct tacit_npy {
    int fd;
    tacit_dtype dtype; /* F32, F16, F64, I64, I32, I16, I8, U8 or BOOL */
    unsigned rank;
    size_t shape[TACIT_MAX_RANK];
    uint64_t data; /* offset of the first element */
    size_t bytes;  /* of all elements */
    void *map;     /* NULL: not mapped */
} tacit_npy;

/* Reads and checks the header. Object arrays, Fortran order (rank > 1), foreign byte order, wrong
 * sizes, bytes missing or to spare are errors. A failed open leaves nothing to close. */
tacit_status tacit_npy_open(tacit_npy *npy, const char *path, tacit_err *err);
/* The same for bytes [at, at + size) of an open file, which stays the caller's. */
tacit_status tacit_npy_parse(tacit_npy *npy, int fd, uint64_t at, uint64_t size, const char *path,
                             tacit_err *err);
/* Elements as stored: bytes [offset, offset + size) of the data. */
tacit_status tacit_npy_read(const tacit_npy *npy, size_t offset, size_t size, void *dst,
                            tacit_err *err);
/* The elements in memory, until close: pages of the file itself, read when they are touched.
 * Whoever cuts the file off meanwhile ends the process (SIGBUS), so it is for files that are
 * finished. NULL where there are none. */
tacit_status tacit_npy_map(tacit_npy *npy, const char *path, const void **elements, tacit_err *err);
void tacit_npy_close(tacit_npy *npy);

#endif
