/* cli.h - subcommands as tables.
 *
 * A subcommand is one tacit_command: its options are rows, and from the rows come the parser, the
 * checks of choices, --help, the man page and the completions of bash, zsh and fish. Adding one is
 * a file with such a table and a row in tacit.c.
 */
#ifndef TACIT_CLI_H
#define TACIT_CLI_H

#include "status.h"

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define TACIT_MAX_OPTIONS 32
#define TACIT_MAX_GIVEN   128 /* options on a command line */

/* Exit statuses, the contract of every subcommand. */
enum { TACIT_EXIT_DONE = 0, TACIT_EXIT_FAILED = 1, TACIT_EXIT_USAGE = 2 };

typedef struct tacit_option {
    const char *name;     /* without its dashes                                             */
    const char *arg;      /* NULL: a flag; "a|b|c" in lower case: one of these; else a name  */
    const char *fallback; /* NULL: none                                                     */
    const char *help;     /* one sentence, no full stop                                     */
    bool required;
} tacit_option;

typedef struct tacit_args tacit_args;

typedef struct tacit_command {
    const char *name;
    const char *operands; /* as the synopsis shows them, NULL: none are taken */
    const char *summary;  /* one line, no full stop                           */
    const char *details;  /* further text of --help and the man page, or NULL */
    const tacit_option *options;
    size_t option_count;
    int (*run)(const tacit_args *args);
    /* --help with operands: more than the table says. Returns false where it has nothing to say. */
    bool (*help)(const tacit_args *args);
} tacit_command;

struct tacit_args {
    const tacit_command *command;
    const char *values[TACIT_MAX_OPTIONS]; /* by the order of options; NULL: not given; the last */
    const char *given[TACIT_MAX_GIVEN];    /* all values, in the order of the command line */
    unsigned char given_to[TACIT_MAX_GIVEN];
    size_t given_count;
    int operand_count;
    char **operands;
    int argc; /* the subcommand's own, argv[0] is its name */
    char **argv;
};

/* All subcommands, NULL at the end; in tacit.c. */
extern const tacit_command *const tacit_commands[];

/* Runs the program. */
int tacit_cli_main(int argc, char **argv);

/* The value given, else the fallback, else NULL. name must be a row of the table (asserted). */
const char *tacit_arg(const tacit_args *args, const char *name);
bool tacit_flag(const tacit_args *args, const char *name);

/* The at-th value of an option that may be given several times, NULL past the last. */
const char *tacit_arg_each(const tacit_args *args, const char *name, size_t at);

/* An entry of --help: text wrapped, in a column beside or below head. */
void tacit_cli_entry(const char *head, const char *text);

/* Strict conversions; the error names the option. An absent option without fallback leaves *out. */
tacit_status tacit_arg_unsigned(const tacit_args *args, const char *name, unsigned min,
                                unsigned max, unsigned *out, tacit_err *err);
/* Position in the row's list of choices. */
tacit_status tacit_arg_choice(const tacit_args *args, const char *name, unsigned *out,
                              tacit_err *err);
/* "a,b,c", each finite. */
tacit_status tacit_arg_floats(const tacit_args *args, const char *name, unsigned count, float *out,
                              tacit_err *err);
/* Up to `most` numbers from min to max with commas between, and how many they are. */
tacit_status tacit_arg_numbers(const tacit_args *args, const char *name, double min, double max,
                               bool whole, unsigned most, double *out, unsigned *count,
                               tacit_err *err);
tacit_status tacit_parse_unsigned(const char *text, unsigned min, unsigned max, unsigned *out);

/* Print "tacit COMMAND: line" to stderr and return the exit status; usage adds a hint. */
int tacit_cli_usage(const tacit_args *args, const tacit_err *err);
int tacit_cli_failed(const tacit_args *args, const tacit_err *err);

/* Prints the object as one line on stdout and releases it. NULL, or no memory to print it, is false
 * and an error line; what the system refuses to write is told by tacit_cli_done. */
bool tacit_cli_json(const tacit_args *args, json_t *value);

/* Flushes stdout; a failure (a full disk, a closed pipe) is an error line and status 1. */
int tacit_cli_done(const tacit_args *args);

#endif
