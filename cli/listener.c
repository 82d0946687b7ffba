/* listener.c - see listener.h. */
#include "listener.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* The folder of path, open and locked; -1 with errno. */
static int lock_folder(const char *path)
{
    char folder[sizeof((struct sockaddr_un *)0)->sun_path];
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - path + 1) : 1,
             slash ? path : ".");
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A file system without locks: (3) is then not kept. */
    while (fd >= 0 && flock(fd, LOCK_EX) < 0 && errno == EINTR)
        ;
    return fd;
}

static int new_socket(void)
{
    return socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

/* Whether somebody listens; a full queue of connections is somebody. */
static tacit_status look(const struct sockaddr_un *name, bool *alive, tacit_err *err)
{
    int fd = new_socket();
    if (fd < 0)
        return tacit_fail_errno(err, "a socket");
    *alive = connect(fd, (const struct sockaddr *)name, sizeof *name) == 0 || errno == EAGAIN;
    tacit_status st = *alive || errno == ECONNREFUSED || errno == ENOENT
                          ? TACIT_OK
                          : tacit_fail_errno(err, "%s", name->sun_path);
    close(fd);
    return st;
}

/* Makes room for a new file; needs the lock. */
static tacit_status clear(const struct sockaddr_un *name, tacit_err *err)
{
    struct stat info;
    bool alive = false;
    if (lstat(name->sun_path, &info) < 0)
        return errno == ENOENT ? TACIT_OK : tacit_fail_errno(err, "%s", name->sun_path);
    if (!S_ISSOCK(info.st_mode))
        return tacit_fail(err, TACIT_ECONFLICT,
                          "%s: is there and is no socket: choose another path", name->sun_path);
    tacit_status st = look(name, &alive, err);
    if (st < 0)
        return st;
    if (alive)
        return tacit_fail(err, TACIT_ECONFLICT,
                          "%s: another server answers there: stop it, or choose another path",
                          name->sun_path);
    return unlink(name->sun_path) < 0 && errno != ENOENT
               ? tacit_fail_errno(err, "%s: cannot be replaced", name->sun_path)
               : TACIT_OK;
}

tacit_status tacit_listener_open(tacit_listener *l, const char *path, tacit_err *err)
{
    struct sockaddr_un name = { .sun_family = AF_UNIX };
    struct stat info;
    *l = (tacit_listener){ .fd = -1, .path = path };
    if (!*path || strlen(path) >= sizeof name.sun_path) /* an empty name would be an abstract one */
        return tacit_fail(err, TACIT_EINVAL, "'%s': the path of a socket has 1 to %zu bytes", path,
                          sizeof name.sun_path - 1);
    strcpy(name.sun_path, path);
    int folder = lock_folder(path);
    if (folder < 0)
        return tacit_fail_errno(err, "%s", path);
    tacit_status st = clear(&name, err);
    if (st >= 0 && (l->fd = new_socket()) < 0)
        st = tacit_fail_errno(err, "a socket");
    if (st >= 0) {
        mode_t before = umask(0177);
        bool bound = bind(l->fd, (struct sockaddr *)&name, sizeof name) == 0;
        umask(before);
        if (!bound || lstat(path, &info) < 0 || listen(l->fd, SOMAXCONN) < 0) {
            st = tacit_fail_errno(err, "%s", path);
            if (bound)
                unlink(path);
        } else {
            l->device = info.st_dev;
            l->node = info.st_ino;
        }
    }
    if (st < 0 && l->fd >= 0) {
        close(l->fd);
        l->fd = -1;
    }
    close(folder);
    return st;
}

void tacit_listener_close(tacit_listener *l)
{
    struct stat info;
    if (l->fd < 0)
        return;
    int folder = lock_folder(l->path);
    if (lstat(l->path, &info) == 0 && info.st_dev == l->device && info.st_ino == l->node)
        unlink(l->path);
    if (folder >= 0)
        close(folder);
    close(l->fd);
    l->fd = -1;
}
