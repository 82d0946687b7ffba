/* fuzz_checkpoint.c - arbitrary files, opened as weights; all values of what opens are read. */
#include "checkpoint.h"
#include "fuzz.h"
#include "fuzz_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tacit_err err = { "" };
    tacit_checkpoint *c;
    tacit_status st = tacit_checkpoint_open(&c, fuzz_file(data, size), &err);
    if (st < 0) {
        FUZZ_CHECK(err.text[0] && !c);
        return 0;
    }
    tacit_tensor_source s = tacit_checkpoint_source(c);
    static unsigned char values[1 << 16];
    size_t total = 0;
    for (size_t i = 0; i < s.count && total < sizeof values; i++) {
        const tacit_tensor *t = &s.tensors[i];
        FUZZ_CHECK(t->rank <= TACIT_MAX_RANK && t->bytes <= size);
        if (t->bytes <= sizeof values)
            FUZZ_CHECK(s.read(s.ctx, i, 0, t->bytes, values, &err) == TACIT_OK);
        total += t->bytes;
    }
    uint64_t hash;
    (void)tacit_checkpoint_hash(c, &hash, &err);
    tacit_checkpoint_close(&c);
    return 0;
}
