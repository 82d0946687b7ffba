/* fuzz_tar.c - arbitrary tars, also compressed. */
#include "fuzz_dataset.h"

static void look(const tacit_item *item, const uint8_t *data, size_t size)
{
    (void)data;
    unsigned sum = 0; /* every byte is there to be read */
    for (size_t i = 0; i < item->size; i++)
        sum += item->bytes[i];
    FUZZ_CHECK(item->form == TACIT_ITEM_BYTES || item->form == TACIT_ITEM_BAD);
    FUZZ_CHECK(sum <= 255 * item->size);
    FUZZ_CHECK(item->size <= 1100 * size + 4096);
}

/* Right checksums, so that most mutations reach what is behind them. */
static void seal(uint8_t *bytes, size_t size)
{
    for (uint8_t *h = bytes; size >= 512; h += 512, size -= 512) {
        if (memcmp(h + 257, "ustar", 5))
            continue;
        unsigned total = 0;
        memset(h + 148, ' ', 8);
        for (int i = 0; i < 512; i++)
            total += h[i];
        snprintf((char *)h + 148, 8, "%06o", total);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dataset(data, size, TACIT_DATASET_TAR, look);
    uint8_t *sealed = malloc(size + 1);
    FUZZ_CHECK(sealed);
    memcpy(sealed, data, size);
    seal(sealed, size);
    if (memcmp(sealed, data, size))
        fuzz_dataset(sealed, size, TACIT_DATASET_TAR, look);
    free(sealed);
    return 0;
}
