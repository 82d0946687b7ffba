/* fuzz_safetensors.c - arbitrary safetensors files. What opens must cover the data exactly. */
#include "fuzz.h"
#include "fuzz_file.h"
#include "safetensors.h"

#include <string.h>

/* libFuzzer's; not there, and not called, where replay.c is linked. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size) __attribute__((weak));
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);

/* Most inputs get a header length that ends the header behind a brace. */
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    size = LLVMFuzzerMutate(data, size, max_size);
    if (seed % 8 == 0 || size < 10)
        return size;
    uint8_t *brace = memrchr(data + 8, '}', size - 8);
    uint64_t length = brace ? (uint64_t)(brace - data) - 7 : size - 8;
    for (unsigned i = 0; i < 8; i++)
        data[i] = (uint8_t)(length >> 8 * i);
    return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tacit_err err = { "" };
    tacit_safetensors *file;
    tacit_status st = tacit_safetensors_open(&file, fuzz_file(data, size), &err);
    if (st < 0) {
        FUZZ_CHECK(st == TACIT_EFORMAT || st == TACIT_ELIMIT);
        FUZZ_CHECK(err.text[0] && !file);
        return 0;
    }
    tacit_tensor_source s = tacit_safetensors_source(file);
    size_t header = 8, covered = 0;
    for (unsigned i = 0; i < 8; i++)
        header += (size_t)data[i] << 8 * i;
    FUZZ_CHECK(header <= size);
    uint8_t *copy = malloc(size);
    for (size_t i = 0; i < s.count; i++) {
        const tacit_tensor *t = &s.tensors[i];
        size_t elements = 1;
        for (unsigned d = 0; d < t->rank; d++)
            elements *= t->shape[d];
        FUZZ_CHECK(t->rank <= TACIT_MAX_RANK && t->bytes <= size - header - covered);
        FUZZ_CHECK(t->dtype == TACIT_DTYPE_OTHER ||
                   t->bytes == elements * tacit_dtype_size(t->dtype));
        FUZZ_CHECK(s.read(s.ctx, i, 0, t->bytes, copy, &err) == TACIT_OK);
        FUZZ_CHECK(!memcmp(copy, data + header + covered, t->bytes));
        for (size_t k = 0; k < i && s.count < 100; k++)
            FUZZ_CHECK(strcmp(s.tensors[k].name, t->name));
        covered += t->bytes;
    }
    FUZZ_CHECK(header + covered == size);
    free(copy);
    uint64_t hash;
    FUZZ_CHECK(tacit_safetensors_hash(file, &hash, &err) == TACIT_OK);
    (void)tacit_safetensors_metadata(file, "format");
    tacit_safetensors_close(&file);
    return 0;
}
