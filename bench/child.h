/* child.h - another process whose output is read line by line. */
#ifndef TACIT_CHILD_H
#define TACIT_CHILD_H

#include "status.h"

/* Takes a line without its newline; an error ends the reading, and is that of the run. */
typedef tacit_status tacit_line_fn(void *ctx, const char *line, tacit_err *err);

/* Runs argv (NULL at the end; argv[0] is looked for in PATH unless it has a slash) to its end. Both
 * its outputs come to `each`, lines above 4095 bytes in parts. TACIT_EIO where it cannot be run or
 * fails, with the last line it said. */
tacit_status tacit_child_run(const char *const *argv, tacit_line_fn *each, void *ctx,
                             tacit_err *err);

#endif
