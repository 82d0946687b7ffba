/* fuzz_pickle.c - arbitrary pickles: nothing is read outside of them, and memory keeps the budget.
 */
#include "fuzz.h"
#include "mem.h"
#include "pickle.h"

#include <string.h>

#define BUDGET (256 << 10)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tacit_err err = { "" };
    tacit_pickle *p;
    size_t used, count;
    bool cut;
    FUZZ_CHECK(tacit_pickle_open(&p, BUDGET, &err) == TACIT_OK);
    tacit_status st = tacit_pickle_run(p, data, size, &used, &cut, &err);
    FUZZ_CHECK(used <= size && (st == TACIT_OK || err.text[0]));
    if (st == TACIT_OK)
        st = tacit_pickle_list(p, &err);
    if (st == TACIT_OK) {
        const tacit_tensor *t = tacit_pickle_tensors(p, &count);
        const tacit_pickle_place *place = tacit_pickle_places(p);
        size_t storages;
        const tacit_pickle_storage *s = tacit_pickle_storages(p, &storages);
        for (size_t i = 0; i < count; i++) {
            uint64_t last = place[i].offset, elements = 1;
            for (unsigned d = 0; d < t[i].rank; d++) {
                elements *= t[i].shape[d];
                if (t[i].shape[d])
                    last += (t[i].shape[d] - 1) * place[i].strides[d];
            }
            FUZZ_CHECK(place[i].storage < storages && t[i].rank <= TACIT_MAX_RANK);
            FUZZ_CHECK(t[i].bytes == elements * tacit_dtype_size(t[i].dtype));
            FUZZ_CHECK(!elements ||
                       (last + 1) * tacit_dtype_size(t[i].dtype) <= s[place[i].storage].bytes);
        }
        while (tacit_pickle_next_string(p))
            ;
        (void)tacit_pickle_flag(p, "little_endian");
    }
    tacit_pickle_close(&p);
    return 0;
}
