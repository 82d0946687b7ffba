/* fuzz_list.c - arbitrary lists. Every path must stand in the input, byte for byte. */
#include "fuzz_dataset.h"

static void look(const tacit_item *item, const uint8_t *data, size_t size)
{
    size_t n = strlen(item->path);
    FUZZ_CHECK(item->form == TACIT_ITEM_FILE || item->form == TACIT_ITEM_BAD);
    FUZZ_CHECK(n == 0 || memmem(data, size, item->path, n));
    FUZZ_CHECK(!item->label || memmem(data, size, item->label, strlen(item->label)));
    FUZZ_CHECK(!item->file || item->file[0]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_dataset(data, size, TACIT_DATASET_LIST, look);
}
