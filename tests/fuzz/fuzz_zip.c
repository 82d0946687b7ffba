/* fuzz_zip.c - arbitrary zip archives: every entry lies inside the file, and none on another. */
#include "fuzz.h"
#include "fuzz_file.h"
#include "mem.h"
#include "zip.h"

#include <fcntl.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    tacit_err err = { "" };
    tacit_zip zip;
    int fd = open(fuzz_file(data, size), O_RDONLY | O_CLOEXEC);
    FUZZ_CHECK(fd >= 0);
    if (tacit_zip_open(&zip, fd, size, "input", &err) == TACIT_OK) {
        for (size_t i = 0; i < zip.count; i++) {
            const tacit_zip_entry *e = &zip.entries[i];
            char *bytes;
            FUZZ_CHECK(e->data <= size && e->size <= size - e->data);
            FUZZ_CHECK(tacit_zip_find(&zip, e->name) == e);
            if (tacit_zip_read(e, fd, 1 << 16, &bytes, "input", &err) == TACIT_OK)
                tacit_free(bytes);
            else
                FUZZ_CHECK(err.text[0]);
        }
        tacit_zip_close(&zip);
    } else {
        FUZZ_CHECK(err.text[0]);
    }
    close(fd);
    return 0;
}
