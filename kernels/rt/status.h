/* status.h - how functions that can fail say so.
 *
 * A function that can fail returns a tacit_status (0 is fine, negatives are errors) and may take a
 * tacit_err *, a caller-owned buffer for one line of text; NULL is allowed. The function that knows
 * what failed writes the line; callers that know where may put a prefix before it.
 */
#ifndef TACIT_STATUS_H
#define TACIT_STATUS_H

#include <stdarg.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum tacit_status {
    TACIT_OK = 0,
    TACIT_EINVAL = -1,       /* an argument or option is wrong                      */
    TACIT_ENOMEM = -2,       /* memory could not be had                             */
    TACIT_EIO = -3,          /* the system refused or failed a file operation       */
    TACIT_EFORMAT = -4,      /* bytes from outside are malformed                    */
    TACIT_EUNSUPPORTED = -5, /* well-formed, but of a kind that is not handled      */
    TACIT_ELIMIT = -6,       /* larger than a stated limit                          */
    TACIT_ECONFLICT = -7,    /* what is there already belongs to something else     */
    TACIT_ECANCELLED = -8,   /* stopped on request                                  */
} tacit_status;

typedef struct tacit_err {
    char
        text[1024]; /* one line, no newline at its end; cut with an ellipsis where it is too long */
} tacit_err;

#if defined(__GNUC__)
#define TACIT_PRINTF(fmt_arg, first_arg) __attribute__((format(printf, fmt_arg, first_arg)))
#define TACIT_API                        __attribute__((visibility("default")))
#else
#define TACIT_PRINTF(fmt_arg, first_arg)
#define TACIT_API
#endif

/* Writes the formatted line into err (when not NULL) and returns status. */
TACIT_API tacit_status tacit_fail(tacit_err *err, tacit_status status, const char *fmt, ...)
    TACIT_PRINTF(3, 4);

/* The same with ": <what errno says>" appended. ENOMEM gives TACIT_ENOMEM, all else TACIT_EIO. */
TACIT_API tacit_status tacit_fail_errno(tacit_err *err, const char *fmt, ...) TACIT_PRINTF(2, 3);

/* Puts the formatted text and ": " before the line that is in err. Returns status unchanged. */
TACIT_API tacit_status tacit_fail_at(tacit_err *err, tacit_status status, const char *fmt, ...)
    TACIT_PRINTF(3, 4);

/* A short word for a status, such as "malformed"; never NULL. */
TACIT_API const char *tacit_status_word(tacit_status status);

#ifdef __cplusplus
}
#endif
#endif
