/* config.h - the settings of a run: what there are, and what they are set to.
 *
 * A setting is a row: from the rows come the parser, the checks, --help and RUN/config.ini. A run
 * has the trainer's rows and its method's. Values are set one over the other: defaults, the
 * method's own defaults, a preset, a file of `key = value` lines, single assignments.
 */
#ifndef TACIT_CONFIG_H
#define TACIT_CONFIG_H

#include "status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TACIT_SETTING_TEXT 1024

typedef enum tacit_setting_kind {
    TACIT_SETTING_WHOLE, /* from min to max */
    TACIT_SETTING_REAL,
    TACIT_SETTING_FLAG,   /* true or false */
    TACIT_SETTING_CHOICE, /* of "a|b|c"    */
    TACIT_SETTING_STRING,
} tacit_setting_kind;

typedef struct tacit_setting {
    const char *name;
    tacit_setting_kind kind;
    const char *fallback; /* as a user would write it */
    double min, max;
    const char *choices;
    const char *help; /* one line, no full stop */
    bool free;        /* no bit of the weights depends on it: it may change at --resume */
} tacit_setting;

typedef struct tacit_preset {
    const char *name;            /* "imagenet", "small32", "quick" */
    const char *const *settings; /* "key=value", NULL at the end   */
} tacit_preset;

typedef struct tacit_value {
    const tacit_setting *setting;
    double number; /* WHOLE, REAL, FLAG, or the CHOICE's place */
    char text[TACIT_SETTING_TEXT];
} tacit_value;

typedef struct tacit_config {
    const struct tacit_method *method;
    tacit_value *values;  /* the trainer's rows, then the method's */
    size_t count, shared; /* shared: how many are the trainer's */
} tacit_config;

/* The settings of every method; as all tables of rows, with a name of NULL at the end. */
extern const tacit_setting tacit_trainer_settings[];

/* All defaults. What was opened, well or badly, must be closed. */
tacit_status tacit_config_open(tacit_config *config, const struct tacit_method *method,
                               tacit_err *err);
void tacit_config_close(tacit_config *config);

/* "key=value", blanks around both allowed. TACIT_EINVAL for an unknown key or a bad value. */
tacit_status tacit_config_set(tacit_config *config, const char *assignment, tacit_err *err);
/* NULL: none. TACIT_EINVAL where the method has none of that name. */
tacit_status tacit_config_preset(tacit_config *config, const char *name, tacit_err *err);
/* A setting that follows from a file: `text` where it is empty, TACIT_ECONFLICT where it is
 * something else. */
tacit_status tacit_config_pin(tacit_config *config, const char *name, const char *text,
                              tacit_err *err);
/* Lines `key = value`; empty ones and those that begin with # are passed over. where is for
 * messages, which tell the line. */
tacit_status tacit_config_parse(tacit_config *config, const char *text, const char *where,
                                tacit_err *err);
tacit_status tacit_config_read(tacit_config *config, const char *path, tacit_err *err);

/* All settings as lines, freed by tacit_free; NULL where memory is short. */
char *tacit_config_text(const tacit_config *config);

/* TACIT_ECONFLICT, naming the first, where a setting that is not free differs from `text`, the
 * lines of a run before. */
tacit_status tacit_config_compare(const tacit_config *config, const char *text, const char *where,
                                  tacit_err *err);

/* The value of a row, which must be there (asserted). */
double tacit_config_number(const tacit_config *config, const char *name);
size_t tacit_config_whole(const tacit_config *config, const char *name);
bool tacit_config_flag(const tacit_config *config, const char *name);
unsigned tacit_config_choice(const tacit_config *config, const char *name);
const char *tacit_config_string(const tacit_config *config, const char *name);

#endif
