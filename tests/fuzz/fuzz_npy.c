/* fuzz_npy.c - arbitrary .npy files. What opens must fill its file exactly. */
#include "fuzz.h"
#include "fuzz_file.h"
#include "npy.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tacit_err err = { "" };
    tacit_npy npy;
    tacit_status st = tacit_npy_open(&npy, fuzz_file(data, size), &err);
    if (st < 0) {
        FUZZ_CHECK(st == TACIT_EFORMAT || st == TACIT_ELIMIT || st == TACIT_EUNSUPPORTED);
        FUZZ_CHECK(err.text[0] && npy.fd < 0);
        return 0;
    }
    size_t bytes = tacit_dtype_size(npy.dtype);
    FUZZ_CHECK(bytes && npy.rank <= TACIT_MAX_RANK);
    for (unsigned d = 0; d < npy.rank; d++)
        bytes *= npy.shape[d];
    FUZZ_CHECK(bytes == npy.bytes && npy.data <= size && npy.bytes == size - npy.data);
    uint8_t *copy = malloc(bytes + 1);
    FUZZ_CHECK(tacit_npy_read(&npy, 0, bytes, copy, &err) == TACIT_OK);
    FUZZ_CHECK(!memcmp(copy, data + npy.data, bytes));
    free(copy);
    tacit_npy_close(&npy);
    return 0;
}
