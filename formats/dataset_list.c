/* dataset_list.c - a text that names one image a line; "-" is standard input. Also the set of one
 * single image file.
 *
 * Line: the path, then optionally a TAB and the label. Bytes pass through untouched; LF or CRLF
 * ends a line, a byte-order mark at the start is passed over, blank lines are skipped. Where the
 * beginning holds a NUL byte (find -print0), NULs end the paths and there are no labels. Relative
 * paths resolve against the list's folder; those of a stream against the current one.
 *
 * Streamed: one buffer, whatever the length. A line that does not fit is a bad item.
 */
#include "dataset_internal.h"
#include "mem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BUFFER ((size_t)64 << 10) /* the longest line, its end included */
#define SHOWN  200                /* bytes of a line that is too long, in the index */
#define LOOK   100                /* milliseconds between looks at *stop */

typedef struct list_set {
    int fd;
    bool owned;   /* fd is ours to close */
    bool nul;     /* the form of find -print0 */
    bool ended;   /* the file has no more */
    char *name;   /* of the list, for messages */
    char *folder; /* what relative paths start from, "" = current */
    char *buffer; /* [begin, end) is read and not used; one byte more than BUFFER */
    size_t begin, end;
    uint64_t line; /* number of the last, from 1 */
    const atomic_int *stop;
} list_set;

static void list_close(void *state)
{
    list_set *s = state;
    if (s->owned)
        close(s->fd);
    tacit_free(s->name);
    tacit_free(s->folder);
    tacit_free(s->buffer);
    tacit_free(s);
}

static void list_stop_by(void *state, const atomic_int *stop)
{
    ((list_set *)state)->stop = stop;
}

/* Reads once behind what the buffer holds, which must leave room. A signal may meet any thread, and
 * this one in its read or just before: so it looks. */
static tacit_status fill(list_set *s, tacit_err *err)
{
    for (;;) {
        struct pollfd wait = { .fd = s->fd, .events = POLLIN };
        while (s->stop && poll(&wait, 1, LOOK) <= 0)
            if (atomic_load(s->stop))
                return tacit_fail(err, TACIT_ECANCELLED, "stopped by a signal");
        ssize_t n = read(s->fd, s->buffer + s->end, BUFFER - s->end);
        if (n >= 0) {
            s->end += (size_t)n;
            s->ended = n == 0;
            return TACIT_OK;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            poll(&wait, 1, -1);
        else if (errno != EINTR)
            return tacit_fail_errno(err, "%s: the list cannot be read", s->name);
    }
}

/* The next line without its end, 0-terminated in the buffer; *line NULL at the end of the list. Of
 * one that does not fit only the front is given, *cut tells. */
static tacit_status next_line(list_set *s, char **line, size_t *size, bool *cut, tacit_err *err)
{
    char *stop;
    *line = NULL;
    *cut = false;
    for (size_t seen = 0;;) { /* bytes after begin that hold no end */
        char *from = s->buffer + s->begin;
        stop = memchr(from + seen, s->nul ? 0 : '\n', s->end - s->begin - seen);
        if (stop || s->ended)
            break;
        if (!*cut && s->begin > 0) {
            memmove(s->buffer, from, s->end - s->begin);
            s->end -= s->begin;
            s->begin = 0;
        }
        if (s->end == BUFFER) { /* the front stays, what follows is passed over */
            *cut = true;
            s->begin = s->end = SHOWN + 1;
        }
        seen = s->end - s->begin;
        tacit_status st = fill(s, err);
        if (st < 0)
            return st;
    }
    if (!stop) { /* the last line may lack its end */
        if (s->begin == s->end && !*cut)
            return TACIT_OK;
        stop = s->buffer + s->end;
    }
    *line = *cut ? s->buffer : s->buffer + s->begin;
    *size = *cut ? SHOWN : (size_t)(stop - *line);
    (*line)[*size] = 0;
    size_t next = (size_t)(stop - s->buffer) + 1;
    s->begin = next < s->end ? next : s->end;
    s->line++;
    return TACIT_OK;
}

/* The next line that is not blank. */
static tacit_status next_entry(list_set *s, char **line, size_t *size, bool *cut, tacit_err *err)
{
    tacit_status st;
    do {
        if ((st = next_line(s, line, size, cut, err)) < 0 || !*line)
            return st;
        if (s->line == 1 && !s->nul && !strncmp(*line, "\xef\xbb\xbf", 3)) {
            *line += 3;
            *size -= 3;
        }
        if (*size && !s->nul && !*cut && (*line)[*size - 1] == '\r')
            (*line)[--*size] = 0;
    } while (s->nul ? *size == 0 : strspn(*line, " ") == *size);
    return TACIT_OK;
}

static tacit_status list_next(void *state, tacit_item *item, bool skip, bool *more, tacit_err *err)
{
    list_set *s = state;
    (void)skip;
    char *line;
    size_t size;
    bool cut;
    tacit_status st = next_entry(s, &line, &size, &cut, err);
    if (st < 0 || !line)
        return st;
    bool broken = strlen(line) != size;
    char *label = s->nul ? NULL : strchr(line, '\t');
    if (label)
        *label++ = 0;
    if (label && !*label)
        label = NULL;
    if ((st = tacit__item_path(item, "", line, err)) < 0 ||
        (st = tacit__item_label(item, label, err)) < 0 ||
        (st = tacit__item_file(item, *line == '/' ? "" : s->folder, line, err)) < 0)
        return st;
    *more = true;
    unsigned long long number = s->line;
    if (cut)
        item->status =
            tacit_fail(&item->problem, TACIT_ELIMIT, "%s:%llu: longer than %zu bytes: no path",
                       s->name, number, BUFFER - 1);
    else if (broken)
        item->status = tacit_fail(&item->problem, TACIT_EFORMAT,
                                  "%s:%llu: a NUL byte inside the line", s->name, number);
    else if (!*line)
        item->status = tacit_fail(&item->problem, TACIT_EFORMAT, "%s:%llu: a label without a path",
                                  s->name, number);
    if (item->status < 0)
        item->form = TACIT_ITEM_BAD;
    return TACIT_OK;
}

/* Opens the list without waiting for a FIFO's other end: one that nobody writes is empty. */
static tacit_status open_stream(list_set *s, const char *path, tacit_err *err)
{
    s->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (s->fd < 0)
        return tacit__fail_open(err, path);
    s->owned = true;
    int flags = fcntl(s->fd, F_GETFL);
    if (flags < 0 || fcntl(s->fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
        return tacit_fail_errno(err, "%s", path);
    return TACIT_OK;
}

static tacit_status no_entry(const list_set *s, tacit_err *err)
{
    return tacit_fail(err, TACIT_EINVAL, "%s: the list names no image: give one path a line",
                      s->name);
}

/* Reads up to the end of the first line that is not blank, so that the form is known and an empty
 * list is told. */
static tacit_status begin_list(list_set *s, tacit_err *err)
{
    tacit_status st;
    size_t blank = 0; /* strchr finds the NUL too */
    do {
        if ((st = fill(s, err)) < 0)
            return st;
        while (blank < s->end && strchr(" \r\n", s->buffer[blank]))
            blank++;
        s->nul = memchr(s->buffer, 0, s->end);
    } while (!s->ended && s->end < BUFFER && !s->nul &&
             !memchr(s->buffer + blank, '\n', s->end - blank));
    return s->ended && blank == s->end ? no_entry(s, err) : TACIT_OK;
}

/* Counts the entries of a list that can be read twice, and goes back to its start. */
static tacit_status count_list(list_set *s, uint64_t *count, tacit_err *err)
{
    char *line;
    size_t size;
    bool cut;
    tacit_status st;
    uint64_t n = 0;
    while ((st = next_entry(s, &line, &size, &cut, err)) == TACIT_OK && line)
        n++;
    if (st < 0)
        return st;
    if (lseek(s->fd, 0, SEEK_SET) < 0)
        return tacit_fail_errno(err, "%s", s->name);
    s->begin = s->end = 0;
    s->line = 0;
    s->ended = false;
    *count = n;
    return n ? TACIT_OK : no_entry(s, err);
}

tacit_status tacit__list_open(tacit_dataset *set, const char *path, tacit_err *err)
{
    static const tacit__reader reader = { .next = list_next,
                                          .close = list_close,
                                          .stop_by = list_stop_by };
    bool standard = !strcmp(path, "-");
    const char *slash = standard ? NULL : strrchr(path, '/');
    struct stat info;
    tacit_status st = TACIT_OK;
    list_set *s = tacit_calloc(1, sizeof *s);
    if (!s || !(s->name = tacit_strdup(standard ? "standard input" : path)) ||
        !(s->folder = tacit_strdup(slash ? path : "")) || !(s->buffer = tacit_alloc(BUFFER + 1))) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
        goto fail;
    }
    if (slash)
        s->folder[slash == path ? 1 : slash - path] = 0;
    s->fd = STDIN_FILENO;
    if (!standard && (st = open_stream(s, path, err)) < 0)
        goto fail;
    if (fstat(s->fd, &info) < 0) {
        st = tacit_fail_errno(err, "%s", s->name);
        goto fail;
    }
    bool twice = !standard && S_ISREG(info.st_mode);
    if (!twice)
        s->folder[0] = 0;
    if ((st = begin_list(s, err)) < 0 || (twice && (st = count_list(s, &set->count, err)) < 0))
        goto fail;
    set->reader = &reader;
    set->state = s;
    return TACIT_OK;
fail:
    if (s)
        list_close(s);
    return st;
}

/* ---------------------------------------------------------------- one image file */

typedef struct single {
    char *path;
    bool given;
} single;

static tacit_status single_next(void *state, tacit_item *item, bool skip, bool *more,
                                tacit_err *err)
{
    single *s = state;
    (void)skip;
    if (s->given)
        return TACIT_OK;
    const char *slash = strrchr(s->path, '/');
    tacit_status st = tacit__item_path(item, "", slash ? slash + 1 : s->path, err);
    if (st < 0 || (st = tacit__item_label(item, NULL, err)) < 0 ||
        (st = tacit__item_file(item, "", s->path, err)) < 0)
        return st;
    *more = s->given = true;
    return TACIT_OK;
}

static void single_close(void *state)
{
    single *s = state;
    tacit_free(s->path);
    tacit_free(s);
}

tacit_status tacit__single_open(tacit_dataset *set, const char *path, tacit_err *err)
{
    static const tacit__reader reader = { .next = single_next, .close = single_close };
    single *s = tacit_calloc(1, sizeof *s);
    if (!s || !(s->path = tacit_strdup(path))) {
        tacit_free(s);
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    }
    set->reader = &reader;
    set->state = s;
    set->count = 1;
    return TACIT_OK;
}
