/* fuzz_jpeg.c - arbitrary bytes behind a JPEG signature. */
#include "fuzz_image.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t *bytes = malloc(size + 3);
    if (!bytes)
        return 0;
    memcpy(bytes, "\xff\xd8\xff", 3);
    if (size > 3)
        memcpy(bytes + 3, data + 3, size - 3);
    fuzz_image(bytes, size > 3 ? size : 3);
    free(bytes);
    return 0;
}
