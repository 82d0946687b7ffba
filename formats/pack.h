/* pack.h - pictures that are decoded already, in one file, to be had in any order.
 *
 * The file, little endian, from its first byte to its last:
 *
 *     0  8   magic: 89 'T' 'P' 'K' 0d 0a 1a 0a
 *     8  4   version: 1
 *    12  4   labels: how many, 0 to samples
 *    16  8   samples: how many, 1 to 2^32 - 2
 *    24  8   index: where the tables begin
 *    32  8   strings: bytes of the string table
 *    40  16  zeros
 *    56  8   xxh3-64 of all of the file that is no picture: bytes 0 to 56, then those of the tables
 *    64      pictures: RGB8, (height, width, 3) without padding, in the order of samples, each from
 *            a multiple of 64 on, with zeros up to the next multiple
 * index      samples times 40 bytes:
 *             0  8  where the picture begins
 *             8  8  xxh3-64 of its 3 * width * height bytes
 *            16  4  width
 *            20  4  height
 *            24  8  where its path begins in the string table
 *            32  4  number of its label, ffffffff where it has none
 *            36  4  zeros
 *            labels times 8 bytes: where the label begins in the string table
 *            the string table: paths in the order of samples, then labels; a 0 ends each
 *
 * Labels are numbered in the order of the samples that have them first. No byte of the file is
 * without a hash or a rule: another offset, a gap, or a byte too many is an error. The tables stand
 * behind the pictures so that a stream of unknown length is packed in one pass; pictures are
 * aligned for those who map the file. Here they are read by pread: the page cache serves both
 * alike, and a file that is cut off meanwhile is an error of one picture, not a SIGBUS.
 *
 * A reader holds the tables in memory, and no picture.
 */
#ifndef TACIT_PACK_H
#define TACIT_PACK_H

#include "status.h"

#include <stddef.h>
#include <stdint.h>

#define TACIT_PACK_MAGIC "\x89TPK\r\n\x1a\n"
enum { TACIT_PACK_MAGIC_SIZE = 8 };

typedef struct tacit_pack tacit_pack;

typedef struct tacit_pack_sample {
    const char *path, *label; /* as the input named them; label NULL: none. They are the pack's */
    size_t width, height;
    size_t room; /* bytes that tacit_pack_read writes: the picture's, rounded up to 64 */
} tacit_pack_sample;

/* Opens a regular file and checks all of it but the pictures. TACIT_EFORMAT: no pack, cut off or
 * damaged; TACIT_EUNSUPPORTED: of another version; TACIT_ELIMIT: beyond the limits in pack.c. */
tacit_status tacit_pack_open(tacit_pack **pack, const char *path, tacit_err *err);
void tacit_pack_close(tacit_pack **pack);

/* At least 1. */
size_t tacit_pack_count(const tacit_pack *pack);
/* index < tacit_pack_count. */
void tacit_pack_describe(const tacit_pack *pack, size_t index, tacit_pack_sample *sample);
/* The picture, (height, width, 3), and zeros behind it up to sample.room bytes; its hash is checked
 * each time. An error is one of this picture alone. Thread-safe. */
tacit_status tacit_pack_read(const tacit_pack *pack, size_t index, uint8_t *rgb, tacit_err *err);

/* A pack that is being written, beside its final name: see atomic_file.h. Of each sample its path
 * and 40 bytes are held until the end. */
typedef struct tacit_packer tacit_packer;

typedef struct tacit_pack_totals {
    size_t samples, labels;
    uint64_t bytes; /* of the file */
} tacit_pack_totals;

tacit_status tacit_packer_open(tacit_packer **packer, const char *path, tacit_err *err);
/* Appends a picture, (height, width, 3). label may be NULL. TACIT_ELIMIT where it has no pixels or
 * too many, or the pack too many samples: it is then as it was. After any other error only close is
 * left. */
tacit_status tacit_packer_add(tacit_packer *packer, const char *path, const char *label,
                              const uint8_t *rgb, size_t width, size_t height, tacit_err *err);
/* Makes the file whole, synced and visible. TACIT_EINVAL where nothing was added. After an error
 * only close is left. */
tacit_status tacit_packer_commit(tacit_packer *packer, tacit_pack_totals *totals, tacit_err *err);
/* Before commit, or after it failed, this leaves no file behind. */
void tacit_packer_close(tacit_packer **packer);

#endif
