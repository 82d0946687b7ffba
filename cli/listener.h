/* listener.h - a Unix socket under a name in the file system.
 *
 * Promises:
 *  (1) the file is its owner's alone (mode 0600) from its first instant;
 *  (2) what a dead server left behind is replaced; a name that a server answers under, or that is
 *      no socket, is an error, and nothing is touched;
 *  (3) of two servers that start under one name at once, one gets it: the folder is locked while
 *      they look and bind;
 *  (4) close removes the file if it is still the one that was made.
 */
#ifndef TACIT_LISTENER_H
#define TACIT_LISTENER_H

#include "status.h"

#include <sys/types.h>

typedef struct tacit_listener {
    int fd; /* non-blocking; -1 when closed */
    const char *path;
    dev_t device;
    ino_t node;
} tacit_listener;

/* path is kept, not copied. To be called before other threads make files: the umask is changed for
 * a moment. TACIT_ECONFLICT where another server answers. A failed open leaves nothing to close. */
tacit_status tacit_listener_open(tacit_listener *listener, const char *path, tacit_err *err);
void tacit_listener_close(tacit_listener *listener);

#endif
