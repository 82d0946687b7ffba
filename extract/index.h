/* index.h - index.tsv: one line for each input, in input order.
 *
 * Columns: row (empty where the input was unusable), path, label, status, xxh3 of the input's
 * bytes (16 hex digits, empty where they could not be read). Rows count up from 0 without gaps.
 */
#ifndef TACIT_INDEX_H
#define TACIT_INDEX_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TACIT_INDEX_HEADER "row\tpath\tlabel\tstatus\txxh3\n"

/* Bytes that tacit_index_format may write. */
size_t tacit_index_room(const char *path, const char *label);

/* Writes all of a line but its row: "\tpath\tlabel\tstatus\thash\n"; returns its end. label may be
 * NULL; hash is 16 hex digits or empty. */
char *tacit_index_format(char *out, const char *path, const char *label, const char *status,
                         const char *hash);

typedef struct tacit_index tacit_index;

typedef struct tacit_index_line {
    bool usable;
    uint64_t row;                       /* where usable                     */
    char *path, *label, *status, *hash; /* unescaped, valid until the next  */
    uint64_t end;                       /* offset of the byte behind it     */
} tacit_index_line;

/* Opens path and checks its header. */
tacit_status tacit_index_open(tacit_index **index, const char *path, tacit_err *err);
void tacit_index_close(tacit_index **index);

/* The next line; *more is false at the end. A line that is cut off, malformed, or whose row is not
 * the next is TACIT_EFORMAT. */
tacit_status tacit_index_next(tacit_index *index, tacit_index_line *line, bool *more,
                              tacit_err *err);

#endif
