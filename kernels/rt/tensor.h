/* tensor.h - named tensors as they come from outside.
 *
 * The meeting point of the file formats, which produce tensors, and the models, which consume them:
 * neither knows of the other.
 */
#ifndef TACIT_TENSOR_H
#define TACIT_TENSOR_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

#define TACIT_MAX_RANK 8

typedef enum tacit_dtype {
    TACIT_F32,
    TACIT_F16,
    TACIT_BF16,
    TACIT_F64,
    TACIT_I64,
    TACIT_I32,
    TACIT_I16,
    TACIT_I8,
    TACIT_U8,
    TACIT_BOOL,
    TACIT_DTYPE_OTHER, /* a type that the container allows and no model here reads */
} tacit_dtype;

typedef struct tacit_tensor {
    const char *name; /* owned by the source */
    tacit_dtype dtype;
    unsigned rank;
    size_t shape[TACIT_MAX_RANK]; /* row-major */
    size_t bytes;                 /* product of shape times the size of an element */
} tacit_tensor;

/* A set of tensors. The tensors and names live as long as whatever gave the source. */
typedef struct tacit_tensor_source {
    const tacit_tensor *tensors;
    size_t count;
    /* Copies bytes [offset, offset + size) of tensor i, little-endian, into dst. The range must lie
     * in the tensor. May be called from many threads at once. */
    tacit_status (*read)(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                         tacit_err *err);
    void *ctx;
} tacit_tensor_source;

/* Bytes of one element; 0 for TACIT_DTYPE_OTHER. */
size_t tacit_dtype_size(tacit_dtype dtype);
const char *tacit_dtype_name(tacit_dtype dtype);

#endif
