/* cli.c - parsing, help, man page and completions from the tables of options. See cli.h. */
#include "cli.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static size_t find_option(const tacit_command *command, const char *name)
{
    size_t i = 0;
    while (i < command->option_count && strcmp(command->options[i].name, name))
        i++;
    assert(i < command->option_count);
    return i;
}

const char *tacit_arg(const tacit_args *args, const char *name)
{
    size_t i = find_option(args->command, name);
    return args->values[i] ? args->values[i] : args->command->options[i].fallback;
}

const char *tacit_arg_each(const tacit_args *args, const char *name, size_t at)
{
    size_t option = find_option(args->command, name);
    for (size_t i = 0; i < args->given_count; i++)
        if (args->given_to[i] == option && !at--)
            return args->given[i];
    return NULL;
}

bool tacit_flag(const tacit_args *args, const char *name)
{
    return args->values[find_option(args->command, name)] != NULL;
}

/* Whether arg lists choices: names of values are in upper case. */
static bool is_choice(const char *arg)
{
    return arg && !isupper((unsigned char)arg[0]);
}

/* The position of value in "a|b|c", or -1. */
static int choice_of(const char *choices, const char *value)
{
    size_t length = strlen(value);
    int at = 0;
    for (const char *p = choices;; at++) {
        size_t n = strcspn(p, "|");
        if (n == length && !memcmp(p, value, n))
            return at;
        if (!p[n])
            return -1;
        p += n + 1;
    }
}

tacit_status tacit_parse_unsigned(const char *text, unsigned min, unsigned max, unsigned *out)
{
    unsigned long value = 0;
    if (!*text || strlen(text) > 9)
        return TACIT_EINVAL;
    for (const char *p = text; *p; p++) {
        if (*p < '0' || *p > '9')
            return TACIT_EINVAL;
        value = value * 10 + (unsigned long)(*p - '0');
    }
    if (value < min || value > max)
        return TACIT_EINVAL;
    *out = (unsigned)value;
    return TACIT_OK;
}

tacit_status tacit_arg_unsigned(const tacit_args *args, const char *name, unsigned min,
                                unsigned max, unsigned *out, tacit_err *err)
{
    const char *text = tacit_arg(args, name);
    if (!text || tacit_parse_unsigned(text, min, max, out) == TACIT_OK)
        return TACIT_OK;
    return tacit_fail(err, TACIT_EINVAL, "--%s '%s': use a whole number from %u to %u", name, text,
                      min, max);
}

tacit_status tacit_arg_choice(const tacit_args *args, const char *name, unsigned *out,
                              tacit_err *err)
{
    const char *text = tacit_arg(args, name);
    if (!text)
        return TACIT_OK;
    const char *choices = args->command->options[find_option(args->command, name)].arg;
    int at = choice_of(choices, text);
    if (at < 0)
        return tacit_fail(err, TACIT_EINVAL, "--%s '%s': use one of %s", name, text, choices);
    *out = (unsigned)at;
    return TACIT_OK;
}

tacit_status tacit_arg_floats(const tacit_args *args, const char *name, unsigned count, float *out,
                              tacit_err *err)
{
    const char *text = tacit_arg(args, name);
    if (!text)
        return TACIT_OK;
    const char *p = text;
    for (unsigned i = 0; i < count; i++) {
        char *end;
        out[i] = strtof(p, &end);
        if (end == p || isspace((unsigned char)*p) || !isfinite(out[i]) ||
            *end != (i + 1 < count ? ',' : 0))
            return tacit_fail(err, TACIT_EINVAL,
                              "--%s '%s': use %u numbers with commas between, such as 0.5,0.5,0.5",
                              name, text, count);
        p = end + 1;
    }
    return TACIT_OK;
}

tacit_status tacit_arg_numbers(const tacit_args *args, const char *name, double min, double max,
                               bool whole, unsigned most, double *out, unsigned *count,
                               tacit_err *err)
{
    const char *text = tacit_arg(args, name), *p = text;
    unsigned n = 0;
    if (!text)
        return TACIT_OK;
    for (bool more = true; more; p++) {
        char *end;
        double value = strtod(p, &end);
        more = *end == ',';
        if (end == p || isspace((unsigned char)*p) || (*end && !more) || n == most ||
            !(value >= min && value <= max) || (whole && value != floor(value)))
            return tacit_fail(err, TACIT_EINVAL, "--%s '%s': use %snumbers from %.9g to %.9g%s",
                              name, text, whole ? "whole " : "", min, max,
                              most > 1 ? ", with commas between" : "");
        out[n++] = value;
        p = end;
    }
    *count = n;
    return TACIT_OK;
}

int tacit_cli_usage(const tacit_args *args, const tacit_err *err)
{
    const char *name = args->command->name;
    fprintf(stderr, "tacit %s: %s\nTry 'tacit %s --help'.\n", name, err->text, name);
    return TACIT_EXIT_USAGE;
}

int tacit_cli_failed(const tacit_args *args, const tacit_err *err)
{
    fprintf(stderr, "tacit %s: %s\n", args->command->name, err->text);
    return TACIT_EXIT_FAILED;
}

int tacit_cli_done(const tacit_args *args)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return TACIT_EXIT_DONE;
    tacit_err err;
    tacit_fail_errno(&err, "standard output");
    return tacit_cli_failed(args, &err);
}

bool tacit_cli_json(const tacit_args *args, json_t *value)
{
    tacit_err err;
    bool good = value && !json_dumpf(value, stdout, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(value);
    putchar('\n');
    if (good || ferror(stdout))
        return true;
    tacit_fail(&err, TACIT_ENOMEM, "out of memory for the result");
    tacit_cli_failed(args, &err);
    return false;
}

/* Help ---------------------------------------------------------------------------------------- */

/* text, wrapped at 80 columns; every line after the first starts at column `indent`. */
static void print_wrapped(const char *text, size_t column, size_t indent)
{
    while (*text) {
        size_t word = strcspn(text, " \n");
        if (column > indent && column + 1 + word > 80) {
            printf("\n%*s", (int)indent, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)word, text);
        column += word;
        text += word;
        while (*text == ' ' || *text == '\n')
            text++;
    }
    putchar('\n');
}

static void print_synopsis(const tacit_command *command)
{
    printf("tacit %s", command->name);
    for (size_t i = 0; i < command->option_count; i++)
        if (command->options[i].required)
            printf(" --%s %s", command->options[i].name, command->options[i].arg);
    printf(" [OPTION]...%s%s\n", command->operands ? " " : "",
           command->operands ? command->operands : "");
}

void tacit_cli_entry(const char *head, const char *text)
{
    enum { COLUMN = 26 };
    int n = printf("  %s", head);
    if (n > COLUMN - 2)
        printf("\n%*s", COLUMN, "");
    else
        printf("%*s", COLUMN - n, "");
    print_wrapped(text, COLUMN, COLUMN);
}

static void print_option(const tacit_option *option)
{
    char head[256], text[1024];
    snprintf(head, sizeof head, "--%s%s%s", option->name, option->arg ? " " : "",
             option->arg ? option->arg : "");
    snprintf(text, sizeof text, "%s%s%s%s%s", option->help, option->required ? " (required)" : "",
             option->fallback ? " (default: " : "", option->fallback ? option->fallback : "",
             option->fallback ? ")" : "");
    tacit_cli_entry(head, text);
}

static const tacit_option help_option = { "help", NULL, NULL, "show this help and exit", false };

static void print_command_help(const tacit_command *command)
{
    printf("Usage: ");
    print_synopsis(command);
    putchar('\n');
    print_wrapped(command->summary, 0, 0);
    printf("\nOptions:\n");
    for (size_t i = 0; i < command->option_count; i++)
        print_option(&command->options[i]);
    print_option(&help_option);
    if (command->details) {
        putchar('\n');
        print_wrapped(command->details, 0, 0);
    }
}

static void print_help(void)
{
    printf("Usage: tacit COMMAND [OPTION]...\n\n"
           "Image representations without labels, on ordinary CPUs.\n\nCommands:\n");
    for (const tacit_command *const *c = tacit_commands; *c; c++)
        printf("  %-10s %s\n", (*c)->name, (*c)->summary);
    printf("\n'tacit COMMAND --help' tells the options of one; 'tacit --version' the version.\n"
           "Exit status: 0 done, 1 failed, 2 wrong usage; 130 or 143 stopped by a signal.\n");
}

/* Man page ------------------------------------------------------------------------------------ */

/* Text for troff: backslashes and dashes escaped, no line begins with a dot or an apostrophe. */
static void man_text(const char *text)
{
    bool start = true;
    for (; *text; text++) {
        if (start && (*text == '.' || *text == '\''))
            printf("\\&");
        if (*text == '\\')
            printf("\\e");
        else if (*text == '-')
            printf("\\-");
        else
            putchar(*text);
        start = *text == '\n';
    }
}

static void man_option(const tacit_option *option)
{
    printf(".TP\n\\fB\\-\\-");
    man_text(option->name);
    printf("\\fR");
    if (option->arg) {
        printf(" \\fI");
        man_text(option->arg);
        printf("\\fR");
    }
    putchar('\n');
    man_text(option->help);
    if (option->required)
        printf(" (required)");
    if (option->fallback) {
        printf(" (default: ");
        man_text(option->fallback);
        putchar(')');
    }
    putchar('\n');
}

static void print_man(void)
{
    printf(".TH TACIT 1 \"\" \"tacit " TACIT_VERSION "\"\n.SH NAME\n"
           "tacit \\- image representations without labels, on ordinary CPUs\n.SH SYNOPSIS\n");
    for (const tacit_command *const *c = tacit_commands; *c; c++)
        printf(".B tacit %s\n[\\fIOPTION\\fR]...%s%s\n.br\n", (*c)->name, (*c)->operands ? " " : "",
               (*c)->operands ? (*c)->operands : "");
    printf(".SH COMMANDS\n");
    for (const tacit_command *const *c = tacit_commands; *c; c++) {
        printf(".SS tacit %s\n", (*c)->name);
        man_text((*c)->summary);
        printf(".\n");
        for (size_t i = 0; i < (*c)->option_count; i++)
            man_option(&(*c)->options[i]);
        if ((*c)->details) {
            printf(".PP\n");
            man_text((*c)->details);
            putchar('\n');
        }
    }
    printf(".SH EXIT STATUS\n0 done, 1 failed, 2 wrong usage; 130 or 143 stopped by a signal.\n"
           ".SH ENVIRONMENT\n.TP\n.B TACIT_CPU\nforces an instruction set: ref, avx2, avx512 or "
           "neon\n.TP\n.B TACIT_THREADS\nthe number of threads where no option says it\n");
}

/* Completions --------------------------------------------------------------------------------- */

static bool takes_path(const tacit_option *option)
{
    return option->arg && (!strncmp(option->arg, "FILE", 4) || !strcmp(option->arg, "PATH") ||
                           !strcmp(option->arg, "DIR"));
}

static void print_choices(const char *choices)
{
    for (; *choices; choices++)
        putchar(*choices == '|' ? ' ' : *choices);
}

static void print_bash(void)
{
    printf("_tacit() {\n    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
           "    COMPREPLY=()\n    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
           "        COMPREPLY=($(compgen -W '");
    for (const tacit_command *const *c = tacit_commands; *c; c++)
        printf("%s ", (*c)->name);
    printf("--help --version' -- \"$cur\"))\n        return\n    fi\n"
           "    case \"${COMP_WORDS[1]} $prev\" in\n");
    for (const tacit_command *const *c = tacit_commands; *c; c++)
        for (size_t i = 0; i < (*c)->option_count; i++) {
            const tacit_option *o = &(*c)->options[i];
            if (!o->arg)
                continue;
            printf("    '%s --%s') ", (*c)->name, o->name);
            if (is_choice(o->arg)) {
                printf("COMPREPLY=($(compgen -W '");
                print_choices(o->arg);
                printf("' -- \"$cur\"))");
            } else if (takes_path(o)) {
                printf("COMPREPLY=($(compgen %s -- \"$cur\"))",
                       strcmp(o->arg, "DIR") ? "-f" : "-d");
            } else {
                putchar(':');
            }
            printf("; return ;;\n");
        }
    printf("    esac\n    case \"${COMP_WORDS[1]}\" in\n");
    for (const tacit_command *const *c = tacit_commands; *c; c++) {
        printf("    %s) [[ $cur == -* ]] && COMPREPLY=($(compgen -W '", (*c)->name);
        for (size_t i = 0; i < (*c)->option_count; i++)
            printf("--%s ", (*c)->options[i].name);
        printf("--help' -- \"$cur\")) || COMPREPLY=($(compgen -f -- \"$cur\")) ;;\n");
    }
    printf("    esac\n}\ncomplete -o filenames -F _tacit tacit\n");
}

/* Text inside single quotes of a shell, with `also` escaped by a backslash. */
static void quoted(const char *text, const char *also)
{
    for (; *text; text++) {
        if (*text == '\'')
            printf("'\\''");
        else if (strchr(also, *text))
            printf("\\%c", *text);
        else
            putchar(*text);
    }
}

static void print_zsh(void)
{
    printf("#compdef tacit\n_tacit() {\n    if (( CURRENT == 2 )); then\n        local -a all=(");
    for (const tacit_command *const *c = tacit_commands; *c; c++) {
        printf("\n            '%s:", (*c)->name);
        quoted((*c)->summary, ":");
        putchar('\'');
    }
    printf(")\n        _describe command all\n        return\n    fi\n"
           "    local command=$words[2]\n    shift words\n    (( CURRENT-- ))\n"
           "    case $command in\n");
    for (const tacit_command *const *c = tacit_commands; *c; c++) {
        printf("    %s) _arguments", (*c)->name);
        for (size_t i = 0; i < (*c)->option_count; i++) {
            const tacit_option *o = &(*c)->options[i];
            printf(" \\\n        '--%s[", o->name);
            quoted(o->help, "[]:");
            putchar(']');
            if (is_choice(o->arg)) {
                printf(":value:(");
                print_choices(o->arg);
                putchar(')');
            } else if (o->arg) {
                printf(":%s:%s", o->arg, takes_path(o) ? "_files" : "");
            }
            putchar('\'');
        }
        printf(" \\\n        '--help[show help]' '*:file:_files' ;;\n");
    }
    printf("    esac\n}\n_tacit \"$@\"\n");
}

static void print_fish(void)
{
    printf("complete -c tacit -f -n __fish_use_subcommand -l version -d 'show the version'\n");
    for (const tacit_command *const *c = tacit_commands; *c; c++) {
        printf("complete -c tacit -f -n __fish_use_subcommand -a %s -d '", (*c)->name);
        quoted((*c)->summary, "");
        printf("'\n");
        for (size_t i = 0; i < (*c)->option_count; i++) {
            const tacit_option *o = &(*c)->options[i];
            printf("complete -c tacit -n '__fish_seen_subcommand_from %s' -l %s", (*c)->name,
                   o->name);
            if (is_choice(o->arg)) {
                printf(" -x -a '");
                print_choices(o->arg);
                putchar('\'');
            } else if (o->arg) {
                printf(takes_path(o) ? " -r -F" : " -x");
            }
            printf(" -d '");
            quoted(o->help, "");
            printf("'\n");
        }
    }
}

/* Parsing ------------------------------------------------------------------------------------- */

static int wrong_usage(const char *command, const char *what, const char *name)
{
    fprintf(stderr, "tacit%s%s: %s '%s'\nTry 'tacit%s%s --help'.\n", *command ? " " : "", command,
            what, name, *command ? " " : "", command);
    return TACIT_EXIT_USAGE;
}

/* Fills args; returns -1 to go on, else an exit status. */
static int parse(tacit_args *args)
{
    const tacit_command *command = args->command;
    struct option table[TACIT_MAX_OPTIONS + 2] = { 0 };
    assert(command->option_count <= TACIT_MAX_OPTIONS);
    for (size_t i = 0; i < command->option_count; i++)
        table[i] = (struct option){
            .name = command->options[i].name,
            .has_arg = command->options[i].arg ? required_argument : no_argument,
        };
    table[command->option_count] = (struct option){ .name = "help", .val = 'h' };
    bool asked = false; /* for help */
    opterr = 0;
    optind = 1;
    for (;;) {
        int at = -1;
        int c = getopt_long(args->argc, args->argv, ":h", table, &at);
        if (c == -1)
            break;
        if (c == 'h') {
            asked = true;
            continue;
        }
        if (c == ':')
            return wrong_usage(command->name, "a value is missing behind", args->argv[optind - 1]);
        if (c == '?') {
            const char letter[] = { '-', (char)optopt, 0 };
            return wrong_usage(command->name, "unknown option",
                               optopt ? letter : args->argv[optind - 1]);
        }
        args->values[at] = optarg ? optarg : "";
        if (args->given_count == TACIT_MAX_GIVEN)
            return wrong_usage(command->name, "too many options from", args->argv[optind - 1]);
        args->given_to[args->given_count] = (unsigned char)at;
        args->given[args->given_count++] = args->values[at];
    }
    args->operand_count = args->argc - optind;
    args->operands = args->argv + optind;
    if (asked) {
        if (!command->help || !command->help(args))
            print_command_help(command);
        return tacit_cli_done(args);
    }
    if (args->operand_count && !command->operands)
        return wrong_usage(command->name, "unexpected argument", args->operands[0]);
    for (size_t i = 0; i < command->option_count; i++) {
        const tacit_option *option = &command->options[i];
        if (option->required && !args->values[i])
            return wrong_usage(command->name, "an option is required:", option->name);
        if (option->required && !*args->values[i])
            return wrong_usage(command->name, "the value is empty of", option->name);
        if (is_choice(option->arg)) {
            tacit_err err;
            unsigned unused;
            if (tacit_arg_choice(args, option->name, &unused, &err) < 0)
                return tacit_cli_usage(args, &err);
        }
    }
    return -1;
}

/* "tacit help [COMMAND | man | bash | zsh | fish]": the last four are for the build. */
static int help(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    if (!strcmp(what, "man"))
        print_man();
    else if (!strcmp(what, "bash"))
        print_bash();
    else if (!strcmp(what, "zsh"))
        print_zsh();
    else if (!strcmp(what, "fish"))
        print_fish();
    else if (!*what)
        print_help();
    else {
        const tacit_command *const *c = tacit_commands;
        while (*c && strcmp((*c)->name, what))
            c++;
        if (!*c)
            return wrong_usage("", "unknown command", what);
        print_command_help(*c);
    }
    return tacit_cli_done(&(tacit_args){ .command = &(tacit_command){ .name = "help" } });
}

/* Standard streams that are closed get a file that cannot be read, or written, so that no other
 * file takes their number, and what is meant for them. */
static void hold_standard_streams(void)
{
    for (int fd = 0; fd < 3; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd ? O_RDONLY : O_WRONLY) != fd)
            return; /* there is no /dev/null */
}

int tacit_cli_main(int argc, char **argv)
{
    hold_standard_streams();
    if (argc < 2) {
        fprintf(stderr, "tacit: a command is missing\nTry 'tacit --help'.\n");
        return TACIT_EXIT_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h"))
        return help(1, argv);
    if (!strcmp(name, "help"))
        return help(argc - 1, argv + 1);
    if (!strcmp(name, "--version")) {
        printf("tacit " TACIT_VERSION "\n");
        return tacit_cli_done(&(tacit_args){ .command = &(tacit_command){ .name = "version" } });
    }
    for (const tacit_command *const *c = tacit_commands; *c; c++)
        if (!strcmp((*c)->name, name)) {
            tacit_args args = { .command = *c, .argc = argc - 1, .argv = argv + 1 };
            int status = parse(&args);
            return status >= 0 ? status : (*c)->run(&args);
        }
    return wrong_usage("", *name == '-' ? "unknown option" : "unknown command", name);
}
