/* status.c - error lines. See status.h. */
#include "status.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void write_line(tacit_err *err, const char *fmt, va_list args)
{
    int n = vsnprintf(err->text, sizeof err->text, fmt, args);
    if (n < 0)
        snprintf(err->text, sizeof err->text, "error text could not be formatted");
    else if ((size_t)n >= sizeof err->text)
        memcpy(err->text + sizeof err->text - 4, "...", 4);
    /* One line, whatever a file name or a library put into it. */
    for (char *p = err->text; *p; p++)
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
}

tacit_status tacit_fail(tacit_err *err, tacit_status status, const char *fmt, ...)
{
    if (err) {
        va_list args;
        va_start(args, fmt);
        write_line(err, fmt, args);
        va_end(args);
    }
    return status;
}

tacit_status tacit_fail_errno(tacit_err *err, const char *fmt, ...)
{
    int saved = errno;
    if (err) {
        tacit_err head;
        va_list args;
        va_start(args, fmt);
        write_line(&head, fmt, args);
        va_end(args);
        tacit_fail(err, TACIT_EIO, "%s: %s", head.text, strerror(saved));
    }
    errno = saved;
    return saved == ENOMEM ? TACIT_ENOMEM : TACIT_EIO;
}

tacit_status tacit_fail_at(tacit_err *err, tacit_status status, const char *fmt, ...)
{
    if (err) {
        tacit_err tail = *err, head;
        va_list args;
        va_start(args, fmt);
        write_line(&head, fmt, args);
        va_end(args);
        tacit_fail(err, status, "%s: %s", head.text, tail.text);
    }
    return status;
}

const char *tacit_status_word(tacit_status status)
{
    switch (status) {
    case TACIT_OK: return "ok";
    case TACIT_EINVAL: return "invalid";
    case TACIT_ENOMEM: return "out-of-memory";
    case TACIT_EIO: return "io-error";
    case TACIT_EFORMAT: return "malformed";
    case TACIT_EUNSUPPORTED: return "unsupported";
    case TACIT_ELIMIT: return "too-large";
    case TACIT_ECONFLICT: return "conflict";
    case TACIT_ECANCELLED: return "cancelled";
    }
    return "unknown";
}
