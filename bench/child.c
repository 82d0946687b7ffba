/* child.c - spawn, read, wait. See child.h. */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Starts it with both outputs on a pipe, of which *from is our end. */
static tacit_status start(const char *const *argv, pid_t *child, FILE **from, tacit_err *err)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC))
        return tacit_fail_errno(err, "pipe");
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 2);
    int bad = posix_spawnp(child, argv[0], &actions, NULL, (char **)(uintptr_t)argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (bad) {
        close(ends[0]);
        return tacit_fail(err, TACIT_EIO, "%s: cannot be run: %s", argv[0], strerror(bad));
    }
    *from = fdopen(ends[0], "r");
    if (!*from)
        close(ends[0]); /* a child that still writes ends by SIGPIPE */
    return TACIT_OK;
}

tacit_status tacit_child_run(const char *const *argv, tacit_line_fn *each, void *ctx,
                             tacit_err *err)
{
    pid_t child;
    FILE *from = NULL;
    char line[4096] = "", said[512] = "nothing was said";
    tacit_status st = start(argv, &child, &from, err);
    if (st < 0)
        return st;
    while (from && st == TACIT_OK && fgets(line, sizeof line, from)) {
        line[strcspn(line, "\n")] = 0;
        snprintf(said, sizeof said, "%.500s", line);
        st = each(ctx, line, err);
    }
    if (from)
        fclose(from);
    int status = 1;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (st < 0)
        return st;
    if (!from)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a pipe");
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return tacit_fail(err, TACIT_EIO, "%s",
                          strncmp(said, "tacit bench: ", 13) ? said : said + 13);
    return TACIT_OK;
}
