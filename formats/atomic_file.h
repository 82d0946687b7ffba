/* atomic_file.h - files that are there whole or not at all, and the small file operations behind.
 *
 * Invariants, at every instant and after any crash:
 *  (1) the final name refers to complete, synced bytes, old or new, or does not exist;
 *  (2) the new bytes become visible only by rename, after they were synced;
 *  (3) on any error the temporary is unlinked and the old file is untouched. The one error that
 *      can come later is that of the folder's sync: the new file is then there, whole, and only a
 *      power loss could bring the old one back.
 */
#ifndef TACIT_ATOMIC_FILE_H
#define TACIT_ATOMIC_FILE_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A file that is being written beside its final name. */
typedef struct tacit_atomic {
    int fd;          /* write here                           */
    int folder;      /* the folder of both names             */
    char *name;      /* the final name in it                 */
    char *temporary; /* <name>.<process>-<number>.tmp, in it */
    char *path;      /* as it was given, for messages        */
} tacit_atomic;

/* A failed open leaves nothing behind. After a successful one, exactly one of commit (which syncs,
 * renames, syncs the folder, and on failure aborts) and abort must follow. */
tacit_status tacit_atomic_open(tacit_atomic *file, const char *path, tacit_err *err);
tacit_status tacit_atomic_commit(tacit_atomic *file, tacit_err *err);
void tacit_atomic_abort(tacit_atomic *file);

/* Writes size bytes to path by way of a temporary in the same folder. */
tacit_status tacit_file_replace(const char *path, const void *bytes, size_t size, tacit_err *err);

/* rename(from, to), then a sync of the folder of `to`. Both in one folder. */
tacit_status tacit_file_rename(const char *from, const char *to, tacit_err *err);

/* Loops over short counts and EINTR. path is for the message. */
tacit_status tacit_write_all(int fd, const void *bytes, size_t size, const char *path,
                             tacit_err *err);
tacit_status tacit_pwrite_all(int fd, const void *bytes, size_t size, uint64_t offset,
                              const char *path, tacit_err *err);
/* Exactly size bytes; a file that ends before is TACIT_EFORMAT. */
tacit_status tacit_pread_all(int fd, void *bytes, size_t size, uint64_t offset, const char *path,
                             tacit_err *err);

/* Opens a regular file for reading (symlinks followed; FIFOs, devices and folders refused without
 * blocking) and tells its size. */
tacit_status tacit_open_regular(const char *path, int *fd, uint64_t *size, tacit_err *err);

/* A small file whole, with a 0 byte behind; *bytes is freed by tacit_free. TACIT_ELIMIT above
 * limit. */
tacit_status tacit_file_read(const char *path, size_t limit, char **bytes, size_t *size,
                             tacit_err *err);

#endif
