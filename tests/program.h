/* program.h - runs the program as a user would, in the current folder.
 *
 * TACIT_PROGRAM is the program; it is run under MESON_EXE_WRAPPER where there is one.
 */
#ifndef TACIT_TESTS_PROGRAM_H
#define TACIT_TESTS_PROGRAM_H

#include "scratch.h"

#include <stdbool.h>
#include <sys/wait.h>

static char out_text[1 << 16], err_text[1 << 16];

static inline void slurp(const char *path, char *text, size_t room)
{
    size_t size;
    unsigned char *bytes = file_get(path, &size);
    ck_assert_uint_lt(size, room);
    memcpy(text, bytes, size + 1);
    free(bytes);
}

/* Runs "[before] program arguments" in the shell, in the scratch folder; gives the exit status. */
static inline int run(const char *before, const char *arguments)
{
    const char *wrapper = getenv("MESON_EXE_WRAPPER"), *program = getenv("TACIT_PROGRAM");
    ck_assert_ptr_nonnull(program);
    char command[4096];
    snprintf(command, sizeof command, "%s %s %s %s >out.txt 2>err.txt", before,
             wrapper ? wrapper : "", program, arguments);
    int status = system(command);
    slurp("out.txt", out_text, sizeof out_text);
    slurp("err.txt", err_text, sizeof err_text);
    ck_assert_msg(WIFEXITED(status), "%s", command);
    return WEXITSTATUS(status);
}

/* The line of stderr that begins the complaint, which must be one line. */
static inline void fails(int status, const char *before, const char *arguments, const char *says)
{
    int got = run(before, arguments);
    ck_assert_msg(got == status, "tacit %s: status %d, not %d: %s", arguments, got, status,
                  err_text);
    ck_assert_msg(strstr(err_text, says), "tacit %s: \"%s\" lacks \"%s\"", arguments, err_text,
                  says);
    /* One line of the error; before it at most those that name the model and what was chosen,
     * behind it the hint.
     */
    unsigned lines = 0;
    char *save = NULL, text[sizeof err_text];
    memcpy(text, err_text, sizeof text);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        bool model = strstr(line, "; resize ") || strstr(line, ": note: "),
             hint = !strncmp(line, "Try 'tacit", 10);
        lines += !model && !hint && !strstr(line, "what is done is kept");
        ck_assert_int_eq(strncmp(line, hint ? "Try" : "tacit", hint ? 3 : 5), 0);
    }
    ck_assert_msg(lines == 1, "tacit %s: %u lines of errors: %s", arguments, lines, err_text);
    ck_assert_msg(!strchr(err_text, '\033'), "escape codes, and no terminal");
}

#endif
