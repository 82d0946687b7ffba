/* config.c - see config.h. */
#include "config.h"

#include "atomic_file.h"
#include "mem.h"
#include "method.h"

#include <assert.h>
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILE_LIMIT ((size_t)1 << 20)

static tacit_value *find(const tacit_config *config, const char *name, size_t length)
{
    for (size_t i = 0; i < config->count; i++)
        if (strlen(config->values[i].setting->name) == length &&
            !memcmp(config->values[i].setting->name, name, length))
            return &config->values[i];
    return NULL;
}

/* Values -------------------------------------------------------------------------------------- */

static tacit_status refuse(const tacit_setting *s, const char *text, tacit_err *err)
{
    char want[256] = "";
    switch (s->kind) {
    case TACIT_SETTING_FLAG: snprintf(want, sizeof want, "true or false"); break;
    case TACIT_SETTING_CHOICE: snprintf(want, sizeof want, "one of %s", s->choices); break;
    case TACIT_SETTING_STRING:
        snprintf(want, sizeof want, "one line of less than %d bytes", TACIT_SETTING_TEXT);
        break;
    case TACIT_SETTING_WHOLE:
    case TACIT_SETTING_REAL:
        snprintf(want, sizeof want, "a %snumber from %.12g to %.12g",
                 s->kind == TACIT_SETTING_WHOLE ? "whole " : "", s->min, s->max);
    }
    return tacit_fail(err, TACIT_EINVAL, "%s = '%.80s': use %s", s->name, text, want);
}

static bool is_number(const tacit_setting *s, const char *text, double *number)
{
    char *end;
    if (!*text || isspace((unsigned char)*text))
        return false;
    *number = strtod(text, &end);
    return !*end && *number >= s->min && *number <= s->max &&
           (s->kind == TACIT_SETTING_REAL || *number == floor(*number));
}

static bool is_choice(const char *choices, const char *text, double *number)
{
    size_t length = strlen(text), at = 0;
    for (const char *p = choices;; at++) {
        size_t n = strcspn(p, "|");
        if (n == length && !memcmp(p, text, n)) {
            *number = (double)at;
            return true;
        }
        if (!p[n])
            return false;
        p += n + 1;
    }
}

static tacit_status set_value(tacit_value *value, const char *text, tacit_err *err)
{
    const tacit_setting *s = value->setting;
    double number = 0;
    bool good = strlen(text) < sizeof value->text && !strpbrk(text, "\r\n");
    switch (s->kind) {
    case TACIT_SETTING_FLAG: good = good && is_choice("false|true", text, &number); break;
    case TACIT_SETTING_CHOICE: good = good && is_choice(s->choices, text, &number); break;
    case TACIT_SETTING_WHOLE:
    case TACIT_SETTING_REAL: good = good && is_number(s, text, &number); break;
    case TACIT_SETTING_STRING: break;
    }
    if (!good)
        return refuse(s, text, err);
    value->number = number;
    memcpy(value->text, text, strlen(text) + 1);
    return TACIT_OK;
}

/* Splits a copy of "key = value" in place. */
static bool split(char *line, char **key, char **text)
{
    char *equals = strchr(line, '=');
    if (!equals)
        return false;
    *equals = 0;
    char *parts[] = { line, equals + 1 };
    for (int i = 0; i < 2; i++) {
        while (isspace((unsigned char)*parts[i]))
            parts[i]++;
        size_t n = strlen(parts[i]);
        while (n && isspace((unsigned char)parts[i][n - 1]))
            parts[i][--n] = 0;
    }
    *key = parts[0];
    *text = parts[1];
    return true;
}

/* Opening ------------------------------------------------------------------------------------- */

static size_t count_of(const tacit_setting *rows)
{
    size_t n = 0;
    while (rows[n].name)
        n++;
    return n;
}

static tacit_status take_rows(tacit_config *config, const tacit_setting *rows, tacit_err *err)
{
    for (; rows->name; rows++) {
        tacit_value *value = &config->values[config->count];
        assert(!find(config, rows->name, strlen(rows->name)));
        value->setting = rows;
        tacit_status st = set_value(value, rows->fallback, err);
        if (st < 0)
            return st;
        config->count++;
    }
    return TACIT_OK;
}

static tacit_status set_all(tacit_config *config, const char *const *settings, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    for (; st == TACIT_OK && *settings; settings++)
        st = tacit_config_set(config, *settings, err);
    return st;
}

tacit_status tacit_config_open(tacit_config *config, const tacit_method *method, tacit_err *err)
{
    size_t most = count_of(tacit_trainer_settings);
    for (const tacit_setting *const *rows = method->settings; *rows; rows++)
        most += count_of(*rows);
    *config = (tacit_config){ .method = method };
    config->values = tacit_calloc(most, sizeof *config->values);
    if (!config->values)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu settings", most);
    tacit_status st = take_rows(config, tacit_trainer_settings, err);
    config->shared = config->count;
    for (const tacit_setting *const *rows = method->settings; st == TACIT_OK && *rows; rows++)
        st = take_rows(config, *rows, err);
    return st == TACIT_OK ? set_all(config, method->defaults, err) : st;
}

void tacit_config_close(tacit_config *config)
{
    tacit_free(config->values);
    *config = (tacit_config){ 0 };
}

tacit_status tacit_config_set(tacit_config *config, const char *assignment, tacit_err *err)
{
    char *line = tacit_strdup(assignment), *key, *text;
    tacit_status st;
    if (!line)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a setting");
    if (!split(line, &key, &text)) {
        st = tacit_fail(err, TACIT_EINVAL, "'%.80s': use KEY=VALUE", assignment);
    } else {
        tacit_value *value = find(config, key, strlen(key));
        st = value ? set_value(value, text, err)
                   : tacit_fail(err, TACIT_EINVAL,
                                "there is no setting '%.80s': 'tacit %s %s --help' lists them", key,
                                config->method->tokenizer ? "tokenizer train" : "pretrain",
                                config->method->name);
    }
    tacit_free(line);
    return st;
}

tacit_status tacit_config_preset(tacit_config *config, const char *name, tacit_err *err)
{
    for (const tacit_preset *p = config->method->presets; name && p->name; p++)
        if (!strcmp(p->name, name))
            return set_all(config, p->settings, err);
    return name ? tacit_fail(err, TACIT_EINVAL, "%s has no preset '%.80s'", config->method->name,
                             name)
                : TACIT_OK;
}

/* Files --------------------------------------------------------------------------------------- */

tacit_status tacit_config_parse(tacit_config *config, const char *text, const char *where,
                                tacit_err *err)
{
    char line[TACIT_SETTING_TEXT + 256];
    tacit_status st = TACIT_OK;
    for (size_t number = 1; st == TACIT_OK && *text; number++) {
        size_t n = strcspn(text, "\n");
        if (n >= sizeof line)
            return tacit_fail(err, TACIT_EINVAL, "%s, line %zu: too long", where, number);
        memcpy(line, text, n);
        line[n] = 0;
        text += text[n] ? n + 1 : n;
        const char *start = line + strspn(line, " \t\r");
        if (*start && *start != '#')
            st = tacit_config_set(config, start, err);
        if (st < 0)
            return tacit_fail_at(err, st, "%s, line %zu", where, number);
    }
    return st;
}

tacit_status tacit_config_pin(tacit_config *config, const char *name, const char *text,
                              tacit_err *err)
{
    tacit_value *value = find(config, name, strlen(name));
    assert(value);
    if (!*value->text)
        return set_value(value, text, err);
    return strcmp(value->text, text)
               ? tacit_fail(err, TACIT_ECONFLICT, "the run has %s = %.80s, not '%.80s'", name,
                            value->text, text)
               : TACIT_OK;
}

tacit_status tacit_config_read(tacit_config *config, const char *path, tacit_err *err)
{
    char *text = NULL;
    size_t size = 0;
    tacit_status st = tacit_file_read(path, FILE_LIMIT, &text, &size, err);
    if (st < 0)
        return st;
    st = strlen(text) == size
             ? tacit_config_parse(config, text, path, err)
             : tacit_fail(err, TACIT_EINVAL, "%s: not a text of settings: it holds a 0 byte", path);
    tacit_free(text);
    return st;
}

char *tacit_config_text(const tacit_config *config)
{
    size_t room = 1, at = 0;
    for (size_t i = 0; i < config->count; i++)
        room += strlen(config->values[i].setting->name) + strlen(config->values[i].text) + 4;
    char *text = tacit_alloc(room);
    for (size_t i = 0; text && i < config->count; i++)
        at += (size_t)snprintf(text + at, room - at, "%s = %s\n", config->values[i].setting->name,
                               config->values[i].text);
    return text;
}

tacit_status tacit_config_compare(const tacit_config *config, const char *text, const char *where,
                                  tacit_err *err)
{
    tacit_config before;
    tacit_status st = tacit_config_open(&before, config->method, err);
    if (st == TACIT_OK)
        st = tacit_config_parse(&before, text, where, err);
    for (size_t i = 0; st == TACIT_OK && i < config->count; i++) {
        const tacit_value *a = &before.values[i], *b = &config->values[i];
        bool same = a->setting->kind == TACIT_SETTING_STRING ? !strcmp(a->text, b->text)
                                                             : a->number == b->number;
        if (!same && !a->setting->free)
            st = tacit_fail(err, TACIT_ECONFLICT,
                            "%s was begun with %s = %.80s, not %.80s: leave it, or take another "
                            "folder",
                            where, a->setting->name, a->text, b->text);
    }
    tacit_config_close(&before);
    return st;
}

/* Reading ------------------------------------------------------------------------------------- */

static const tacit_value *value_of(const tacit_config *config, const char *name)
{
    const tacit_value *value = find(config, name, strlen(name));
    assert(value);
    return value;
}

double tacit_config_number(const tacit_config *config, const char *name)
{
    return value_of(config, name)->number;
}

size_t tacit_config_whole(const tacit_config *config, const char *name)
{
    return (size_t)value_of(config, name)->number;
}

bool tacit_config_flag(const tacit_config *config, const char *name)
{
    return value_of(config, name)->number > 0;
}

unsigned tacit_config_choice(const tacit_config *config, const char *name)
{
    return (unsigned)value_of(config, name)->number;
}

const char *tacit_config_string(const tacit_config *config, const char *name)
{
    return value_of(config, name)->text;
}
