/* tsv.c - escaping of fields. See tsv.h. */
#include "tsv.h"

#include <stdbool.h>
#include <string.h>

static const char hex[] = "0123456789abcdef";

static bool is_control(unsigned char c)
{
    return c < 0x20 || c == 0x7f;
}

/* The letter behind the backslash, 0 for bytes that have none. */
static char short_escape(unsigned char c)
{
    switch (c) {
    case '\t': return 't';
    case '\n': return 'n';
    case '\r': return 'r';
    case '\\': return '\\';
    default: return 0;
    }
}

char *tacit_tsv_escape(char *out, const char *field)
{
    for (; *field; field++) {
        unsigned char c = (unsigned char)*field;
        char letter = short_escape(c);
        if (letter) {
            *out++ = '\\';
            *out++ = letter;
        } else if (is_control(c)) {
            *out++ = '\\';
            *out++ = 'x';
            *out++ = hex[c >> 4];
            *out++ = hex[c & 15];
        } else {
            *out++ = *field;
        }
    }
    *out = 0;
    return out;
}

/* The byte that the escape after a backslash stands for, and the length of the escape; 0 for one
 * that tacit_tsv_escape does not write. */
static unsigned char unescape(const char *text, size_t size, size_t *length)
{
    if (size >= 1) {
        *length = 1;
        switch (text[0]) {
        case 't': return '\t';
        case 'n': return '\n';
        case 'r': return '\r';
        case '\\': return '\\';
        default: break;
        }
    }
    *length = 3;
    if (size < 3 || text[0] != 'x')
        return 0;
    const char *high = memchr(hex, text[1], 16), *low = memchr(hex, text[2], 16);
    if (!high || !low)
        return 0;
    unsigned char c = (unsigned char)((high - hex) << 4 | (low - hex));
    return is_control(c) && !short_escape(c) ? c : 0;
}

tacit_status tacit_tsv_split(char *line, size_t size, char **fields, size_t count, tacit_err *err)
{
    char *out = line;
    size_t found = 0;
    fields[found++] = out;
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)line[i];
        if (c == '\t') {
            if (found == count)
                return tacit_fail(err, TACIT_EFORMAT, "the line has more than %zu fields", count);
            *out++ = 0;
            fields[found++] = out;
            continue;
        }
        if (is_control(c))
            return tacit_fail(err, TACIT_EFORMAT, "byte %zu of the line is a control byte", i);
        if (c == '\\') {
            size_t length = 0;
            c = unescape(line + i + 1, size - i - 1, &length);
            if (!c)
                return tacit_fail(err, TACIT_EFORMAT, "byte %zu of the line begins no escape", i);
            i += length;
        }
        *out++ = (char)c;
    }
    *out = 0;
    if (found != count)
        return tacit_fail(err, TACIT_EFORMAT, "the line has %zu fields, not %zu", found, count);
    return TACIT_OK;
}
