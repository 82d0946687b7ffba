/* npy.c - .npy headers. See npy.h.
 *
 * The header is a Python dictionary of three keys. It is read by a parser for exactly that: what
 * NumPy would accept through Python's grammar beyond what its own writer produces (comments,
 * escapes in strings, sums in parentheses) is refused.
 */
#include "npy.h"

#include "atomic_file.h"
#include "mem.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_HEADER 10000 /* the text; NumPy's own limit */

static const char magic[6] = "\x93NUMPY";

static const struct {
    const char *descr;
    tacit_dtype dtype;
} descrs[] = {
    { "<f4", TACIT_F32 }, { "<f2", TACIT_F16 }, { "<f8", TACIT_F64 },
    { "<i8", TACIT_I64 }, { "<i4", TACIT_I32 }, { "<i2", TACIT_I16 },
    { "|i1", TACIT_I8 },  { "|u1", TACIT_U8 },  { "|b1", TACIT_BOOL },
};

void tacit_npy_header(char header[TACIT_NPY_HEADER], tacit_dtype dtype, const uint64_t *shape,
                      unsigned rank)
{
    char text[TACIT_NPY_HEADER - 11];
    size_t type = 0;
    while (descrs[type].dtype != dtype)
        type++;
    int n = snprintf(text, sizeof text, "{'descr': '%s', 'fortran_order': False, 'shape': (",
                     descrs[type].descr);
    for (unsigned i = 0; i < rank; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "%s%llu", i ? ", " : "",
                      (unsigned long long)shape[i]);
    n += snprintf(text + n, sizeof text - (size_t)n, "), }");
    assert((size_t)n < sizeof text);
    memset(header, ' ', TACIT_NPY_HEADER);
    memcpy(header, magic, sizeof magic);
    header[6] = 1;
    header[7] = 0;
    header[8] = TACIT_NPY_HEADER - 10;
    header[9] = 0;
    memcpy(header + 10, text, (size_t)n);
    header[TACIT_NPY_HEADER - 1] = '\n';
}

struct parser {
    const char *at, *end;
    const char *text, *path;
    tacit_err *err;
};

static tacit_status malformed(const struct parser *p, const char *what)
{
    return tacit_fail(p->err, TACIT_EFORMAT, "%s: npy header, character %zu: %s", p->path,
                      (size_t)(p->at - p->text), what);
}

static void skip_spaces(struct parser *p)
{
    while (p->at < p->end && *p->at == ' ')
        p->at++;
}

/* Skips spaces, then takes c where it comes next. */
static bool take(struct parser *p, char c)
{
    skip_spaces(p);
    if (p->at == p->end || *p->at != c)
        return false;
    p->at++;
    return true;
}

static bool take_word(struct parser *p, const char *word)
{
    size_t n = strlen(word);
    skip_spaces(p);
    if ((size_t)(p->end - p->at) < n || memcmp(p->at, word, n))
        return false;
    p->at += n;
    return true;
}

/* A string without escapes in either kind of quotes. */
static tacit_status take_string(struct parser *p, const char **s, size_t *n)
{
    char quote = take(p, '\'') ? '\'' : take(p, '"') ? '"' : 0;
    if (!quote)
        return malformed(p, "a string in quotes was expected");
    *s = p->at;
    while (p->at < p->end && *p->at != quote) {
        if (*p->at < 0x20 || *p->at > 0x7e || *p->at == '\\')
            return malformed(p, "a string holds a byte that none of NumPy's does");
        p->at++;
    }
    if (p->at == p->end)
        return malformed(p, "a string does not end");
    *n = (size_t)(p->at++ - *s);
    return TACIT_OK;
}

static tacit_status take_descr(struct parser *p, tacit_npy *npy)
{
    skip_spaces(p);
    if (p->at < p->end && (*p->at == '[' || *p->at == '('))
        return tacit_fail(p->err, TACIT_EUNSUPPORTED, "%s: is an array of records, not of numbers",
                          p->path);
    const char *s;
    size_t n;
    tacit_status st = take_string(p, &s, &n);
    if (st < 0)
        return st;
    for (size_t i = 0; i < sizeof descrs / sizeof descrs[0]; i++)
        if (n == strlen(descrs[i].descr) && !memcmp(s, descrs[i].descr, n)) {
            npy->dtype = descrs[i].dtype;
            return TACIT_OK;
        }
    const char *why = "is a type that is not read";
    if (n && memchr(s, 'O', n))
        why = "holds Python objects, which only unpickling could read";
    else if (n && *s == '>')
        why = "is of foreign (big-endian) byte order";
    return tacit_fail(p->err, TACIT_EUNSUPPORTED, "%s: its element type '%.*s' %s", p->path,
                      n < 40 ? (int)n : 40, s, why);
}

static tacit_status take_bool(struct parser *p, bool *value)
{
    *value = take_word(p, "True");
    if (!*value && !take_word(p, "False"))
        return malformed(p, "True or False was expected");
    return TACIT_OK;
}

static tacit_status take_number(struct parser *p, size_t *value)
{
    skip_spaces(p);
    const char *begin = p->at;
    size_t n = 0;
    while (p->at < p->end && *p->at >= '0' && *p->at <= '9') {
        if (!tacit_mul_size(n, 10, &n) || !tacit_add_size(n, (size_t)(*p->at - '0'), &n))
            return malformed(p, "a dimension does not fit 64 bits");
        p->at++;
    }
    if (p->at == begin)
        return malformed(p, "a dimension (digits) was expected");
    if (*begin == '0' && p->at - begin > 1)
        return malformed(p, "a dimension begins with 0");
    *value = n;
    return TACIT_OK;
}

/* A tuple: "()", "(3,)", "(3, 4)"; a comma may follow the last of several. */
static tacit_status take_shape(struct parser *p, tacit_npy *npy)
{
    if (!take(p, '('))
        return malformed(p, "a shape in parentheses was expected");
    bool comma = true;
    while (!take(p, ')')) {
        if (!comma)
            return malformed(p, "a comma or a closing parenthesis was expected");
        if (npy->rank == TACIT_MAX_RANK)
            return tacit_fail(p->err, TACIT_ELIMIT, "%s: has more than %d dimensions", p->path,
                              TACIT_MAX_RANK);
        tacit_status st = take_number(p, &npy->shape[npy->rank]);
        if (st < 0)
            return st;
        npy->rank++;
        comma = take(p, ',');
    }
    if (npy->rank == 1 && !comma)
        return malformed(p, "the shape is a number in parentheses, not a tuple");
    return TACIT_OK;
}

static tacit_status take_dictionary(struct parser *p, tacit_npy *npy)
{
    static const char *const keys[3] = { "descr", "fortran_order", "shape" };
    bool seen[3] = { false }, fortran = false, comma = true;
    if (!take(p, '{'))
        return malformed(p, "a dictionary was expected");
    while (!take(p, '}')) {
        if (!comma)
            return malformed(p, "a comma or a closing brace was expected");
        const char *s;
        size_t n, key = 0;
        tacit_status st = take_string(p, &s, &n);
        if (st < 0)
            return st;
        while (key < 3 && (n != strlen(keys[key]) || memcmp(s, keys[key], n)))
            key++;
        if (key == 3)
            return malformed(p, "an unknown key ends here");
        if (seen[key])
            return malformed(p, "a key that was there before ends here");
        seen[key] = true;
        if (!take(p, ':'))
            return malformed(p, "a colon was expected");
        st = key == 0 ? take_descr(p, npy) : key == 1 ? take_bool(p, &fortran) : take_shape(p, npy);
        if (st < 0)
            return st;
        comma = take(p, ',');
    }
    for (size_t key = 0; key < 3; key++)
        if (!seen[key])
            return tacit_fail(p->err, TACIT_EFORMAT, "%s: npy header: key '%s' is missing", p->path,
                              keys[key]);
    while (p->at < p->end && (*p->at == ' ' || *p->at == '\n'))
        p->at++;
    if (p->at < p->end)
        return malformed(p, "something follows the dictionary");
    if (fortran && npy->rank > 1)
        return tacit_fail(p->err, TACIT_EUNSUPPORTED,
                          "%s: is stored by columns (Fortran order); save it with "
                          "numpy.ascontiguousarray",
                          p->path);
    return TACIT_OK;
}

/* npy->bytes from shape and type, checked against what the file holds. */
static tacit_status check_size(tacit_npy *npy, uint64_t there, const char *path, tacit_err *err)
{
    /* Zero dimensions count as 1 at first: then every product of some dimensions fits, too. */
    size_t bound = tacit_dtype_size(npy->dtype), bytes = bound;
    for (unsigned i = 0; i < npy->rank; i++) {
        if (!tacit_mul_size(bound, npy->shape[i] ? npy->shape[i] : 1, &bound))
            return tacit_fail(err, TACIT_EFORMAT, "%s: its shape is larger than any memory", path);
        bytes *= npy->shape[i];
    }
    if (bytes != there)
        return tacit_fail(err, TACIT_EFORMAT,
                          "%s: its shape needs %zu bytes of data, there are %llu: it is cut off, "
                          "or is not what it says",
                          path, bytes, (unsigned long long)there);
    npy->bytes = bytes;
    return TACIT_OK;
}

/* Of `size` bytes from `at`. */
static tacit_status read_header(tacit_npy *npy, uint64_t at, uint64_t size, char *text,
                                const char *path, tacit_err *err)
{
    unsigned char head[12];
    if (size < 10)
        return tacit_fail(err, TACIT_EFORMAT, "%s: is too short for an npy file", path);
    tacit_status st = tacit_pread_all(npy->fd, head, 10, at, path, err);
    if (st < 0)
        return st;
    if (memcmp(head, magic, sizeof magic))
        return tacit_fail(err, TACIT_EFORMAT, "%s: is not an npy file", path);
    if (head[6] < 1 || head[6] > 3 || head[7] != 0)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "%s: is of npy version %u.%u, not 1.0 to 3.0",
                          path, head[6], head[7]);
    size_t start = 10, length = head[8] | (size_t)head[9] << 8;
    if (head[6] > 1) {
        if (size < 12)
            return tacit_fail(err, TACIT_EFORMAT, "%s: is cut off in its header", path);
        st = tacit_pread_all(npy->fd, head + 10, 2, at + 10, path, err);
        if (st < 0)
            return st;
        start = 12;
        length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    }
    if (length > size - start)
        return tacit_fail(err, TACIT_EFORMAT, "%s: its header of %zu bytes does not fit the file",
                          path, length);
    if (length > MAX_HEADER)
        return tacit_fail(err, TACIT_ELIMIT, "%s: its header has %zu bytes, the limit is %d", path,
                          length, MAX_HEADER);
    st = tacit_pread_all(npy->fd, text, length, at + start, path, err);
    if (st < 0)
        return st;
    struct parser p = { text, text + length, text, path, err };
    st = take_dictionary(&p, npy);
    if (st < 0)
        return st;
    npy->data = at + start + length;
    return check_size(npy, size - start - length, path, err);
}

tacit_status tacit_npy_parse(tacit_npy *npy, int fd, uint64_t at, uint64_t size, const char *path,
                             tacit_err *err)
{
    *npy = (tacit_npy){ .fd = fd };
    char *text = tacit_alloc(MAX_HEADER);
    tacit_status st = text ? read_header(npy, at, size, text, path, err)
                           : tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    tacit_free(text);
    return st;
}

tacit_status tacit_npy_open(tacit_npy *npy, const char *path, tacit_err *err)
{
    int fd;
    uint64_t size;
    *npy = (tacit_npy){ .fd = -1 };
    tacit_status st = tacit_open_regular(path, &fd, &size, err);
    if (st < 0)
        return st;
    st = tacit_npy_parse(npy, fd, 0, size, path, err);
    if (st < 0)
        tacit_npy_close(npy);
    return st;
}

tacit_status tacit_npy_read(const tacit_npy *npy, size_t offset, size_t size, void *dst,
                            tacit_err *err)
{
    if (offset > npy->bytes || size > npy->bytes - offset)
        return tacit_fail(err, TACIT_EINVAL, "bytes %zu to %zu are outside of the array", offset,
                          offset + size);
    return tacit_pread_all(npy->fd, dst, size, npy->data + offset, "the npy file", err);
}

tacit_status tacit_npy_map(tacit_npy *npy, const char *path, const void **elements, tacit_err *err)
{
    *elements = NULL;
    if (!npy->bytes)
        return TACIT_OK;
    if (npy->data % tacit_dtype_size(npy->dtype))
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: its data are not aligned; save it again with numpy.save", path);
    void *map = mmap(NULL, npy->data + npy->bytes, PROT_READ, MAP_SHARED, npy->fd, 0);
    if (map == MAP_FAILED)
        return tacit_fail_errno(err, "%s: cannot be mapped", path);
    npy->map = map;
    *elements = (const char *)map + npy->data;
    return TACIT_OK;
}

void tacit_npy_close(tacit_npy *npy)
{
    if (npy->map)
        munmap(npy->map, npy->data + npy->bytes);
    if (npy->fd >= 0)
        close(npy->fd);
    *npy = (tacit_npy){ .fd = -1 };
}
