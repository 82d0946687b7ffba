/* fuzz_pack.c - arbitrary packs, also with their tables' hash made right. */
#include "fuzz_dataset.h"
#include "pack.h"

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

/* A picture lies in the file as it is. */
static void look(const tacit_item *item, const uint8_t *data, size_t size)
{
    FUZZ_CHECK(item->form == TACIT_ITEM_PIXELS || item->form == TACIT_ITEM_BAD);
    FUZZ_CHECK(item->form == TACIT_ITEM_BAD || (item->width && item->height && item->size < size));
    FUZZ_CHECK(item->form == TACIT_ITEM_BAD || memmem(data, size, item->bytes, item->size));
}

static uint64_t number(const uint8_t *bytes, unsigned size)
{
    uint64_t x = 0;
    for (unsigned i = 0; i < size; i++)
        x |= (uint64_t)bytes[i] << 8 * i;
    return x;
}

/* Right hashes, so that most mutations reach what is behind them. */
static void seal(uint8_t *bytes, size_t size)
{
    uint64_t index = size < 64 ? size : number(bytes + 24, 8);
    if (index >= size)
        return;
    for (size_t at = index; number(bytes + 16, 8) < 1000 && at + 40 <= size; at += 40) {
        uint64_t begin = number(bytes + at, 8);
        uint64_t length = 3 * number(bytes + at + 16, 4) * number(bytes + at + 20, 4);
        if (at - index == 40 * number(bytes + 16, 8) || begin > index || length > index - begin)
            break;
        uint64_t hash = XXH3_64bits(bytes + begin, length);
        for (unsigned i = 0; i < 8; i++)
            bytes[at + 8 + i] = (uint8_t)(hash >> 8 * i);
    }
    XXH3_state_t state;
    XXH3_64bits_reset(&state);
    XXH3_64bits_update(&state, bytes, 56);
    XXH3_64bits_update(&state, bytes + index, size - index);
    uint64_t hash = XXH3_64bits_digest(&state);
    for (unsigned i = 0; i < 8; i++)
        bytes[56 + i] = (uint8_t)(hash >> 8 * i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_dataset(data, size, TACIT_DATASET_PACK, look);
    uint8_t *sealed = malloc(size + 1);
    FUZZ_CHECK(sealed);
    memcpy(sealed, data, size);
    seal(sealed, size);
    if (memcmp(sealed, data, size))
        fuzz_dataset(sealed, size, TACIT_DATASET_PACK, look);
    free(sealed);
    return 0;
}
