/* zip.h - the entries of a zip archive that are stored as they are, as torch.save and numpy.savez
 * write them.
 *
 * Format: PKWARE's APPNOTE.TXT 6.3, 4.3 and 4.5.3 (ZIP64). Sizes and sums are taken from the
 * central directory, where torch leaves those of the local headers empty. Refused: compressed or
 * encrypted entries that are asked for, entries that overlap or lie outside the file, a name twice.
 */
#ifndef TACIT_ZIP_H
#define TACIT_ZIP_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct tacit_zip_entry {
    const char *name;
    uint64_t data, size; /* where the bytes lie in the file */
    uint32_t crc;        /* CRC-32 of them */
    bool stored;         /* neither compressed nor encrypted: only then size is of the contents */
} tacit_zip_entry;

typedef struct tacit_zip {
    tacit_zip_entry *entries; /* in the order of their names */
    size_t count;
    char *names;
} tacit_zip;

/* Reads and checks the directory of an open file. path is for messages. */
tacit_status tacit_zip_open(tacit_zip *zip, int fd, uint64_t size, const char *path,
                            tacit_err *err);
void tacit_zip_close(tacit_zip *zip);

/* NULL where there is none of that name. */
const tacit_zip_entry *tacit_zip_find(const tacit_zip *zip, const char *name);

/* Reads an entry whole, with a 0 byte behind, and checks its sum; *bytes is freed by tacit_free.
 * TACIT_ELIMIT above limit. */
tacit_status tacit_zip_read(const tacit_zip_entry *entry, int fd, size_t limit, char **bytes,
                            const char *path, tacit_err *err);

#endif
