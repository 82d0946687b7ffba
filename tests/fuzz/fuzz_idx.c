/* fuzz_idx.c - arbitrary IDX files, also compressed. */
#include "fuzz_dataset.h"

static void look(const tacit_item *item, const uint8_t *data, size_t size)
{
    (void)data;
    unsigned sum = 0; /* every byte is there to be read */
    for (size_t i = 0; i < item->size; i++)
        sum += item->bytes[i];
    FUZZ_CHECK(item->form == TACIT_ITEM_PIXELS && item->width && item->height);
    FUZZ_CHECK(sum <= 255 * item->size);
    FUZZ_CHECK(item->size <= 3 * 1100 * size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    return fuzz_dataset(data, size, TACIT_DATASET_IDX, look);
}
