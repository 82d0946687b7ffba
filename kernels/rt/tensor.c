/* tensor.c - element types. See tensor.h. */
#include "tensor.h"

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [TACIT_F32] = { "F32", 4 },
    [TACIT_F16] = { "F16", 2 },
    [TACIT_BF16] = { "BF16", 2 },
    [TACIT_F64] = { "F64", 8 },
    [TACIT_I64] = { "I64", 8 },
    [TACIT_I32] = { "I32", 4 },
    [TACIT_I16] = { "I16", 2 },
    [TACIT_I8] = { "I8", 1 },
    [TACIT_U8] = { "U8", 1 },
    [TACIT_BOOL] = { "BOOL", 1 },
    [TACIT_DTYPE_OTHER] = { "other", 0 },
};

size_t tacit_dtype_size(tacit_dtype dtype)
{
    return dtypes[dtype].size;
}

const char *tacit_dtype_name(tacit_dtype dtype)
{
    return dtypes[dtype].name;
}
