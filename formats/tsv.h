/* tsv.h - one field of a tab-separated line, any bytes to printable bytes and back.
 *
 * Tab, newline, carriage return and backslash are written \t \n \r \\, every other control byte
 * (below 0x20, and 0x7f) as \x and two lower-case hex digits; all else stays as it is, so that
 * names of any encoding survive. A field has exactly one spelling: reading refuses every other.
 */
#ifndef TACIT_TSV_H
#define TACIT_TSV_H

#include "status.h"

#include <stddef.h>

/* Writes field and a 0 byte to out, which has room for 4 * strlen(field) + 1 bytes; returns where
 * the 0 is. */
char *tacit_tsv_escape(char *out, const char *field);

/* Cuts a line of size bytes (without its newline; line[size] is written too) at its tabs and
 * unescapes the fields in place. TACIT_EFORMAT where they are not exactly count, or a field is not
 * what tacit_tsv_escape writes. */
tacit_status tacit_tsv_split(char *line, size_t size, char **fields, size_t count, tacit_err *err);

#endif
