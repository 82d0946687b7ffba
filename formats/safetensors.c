/* safetensors.c - the safetensors container. See safetensors.h.
 *
 * The header is JSON of one narrow shape, so it is read by a parser of that shape: it streams
 * through a fixed buffer, keeps only what it has accepted, and so a hostile header costs no more
 * memory than the part of it that was right. Every number is checked against the file's real size
 * before it sizes anything.
 */
#include "safetensors.h"

#include "atomic_file.h"
#include "mem.h"

#include <assert.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* For the size of XXH3_state_t: the library's own constructor would pass by mem.h. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

/* The limits. Rank: TACIT_MAX_RANK. */
#define MAX_HEADER   100000000 /* bytes; the reference implementation's limit */
#define MAX_TENSORS  100000
#define MAX_NAME     1024 /* bytes of a tensor's name or of a key, unescaped */
#define MAX_METADATA 10000
#define MAX_TEXT     ((size_t)32 << 20) /* bytes of all names and metadata */

#define HEADER_CHUNK ((size_t)64 << 10)
#define WRITE_CHUNK  ((size_t)1 << 20)
#define HASH_CHUNK   ((size_t)1 << 20)

/* In the order of the reference writer, which lays tensors out from the last to the first. */
static const struct {
    const char *name;
    unsigned bits;
    tacit_dtype dtype;
} dtypes[] = {
    { "BOOL", 8, TACIT_BOOL },
    { "F4", 4, TACIT_DTYPE_OTHER },
    { "F6_E2M3", 6, TACIT_DTYPE_OTHER },
    { "F6_E3M2", 6, TACIT_DTYPE_OTHER },
    { "U8", 8, TACIT_U8 },
    { "I8", 8, TACIT_I8 },
    { "F8_E5M2", 8, TACIT_DTYPE_OTHER },
    { "F8_E4M3", 8, TACIT_DTYPE_OTHER },
    { "F8_E8M0", 8, TACIT_DTYPE_OTHER },
    { "F8_E4M3FNUZ", 8, TACIT_DTYPE_OTHER },
    { "F8_E5M2FNUZ", 8, TACIT_DTYPE_OTHER },
    { "I16", 16, TACIT_I16 },
    { "U16", 16, TACIT_DTYPE_OTHER },
    { "F16", 16, TACIT_F16 },
    { "BF16", 16, TACIT_BF16 },
    { "I32", 32, TACIT_I32 },
    { "U32", 32, TACIT_DTYPE_OTHER },
    { "F32", 32, TACIT_F32 },
    { "C64", 64, TACIT_DTYPE_OTHER },
    { "F64", 64, TACIT_F64 },
    { "I64", 64, TACIT_I64 },
    { "U64", 64, TACIT_DTYPE_OTHER },
};
#define DTYPES (sizeof dtypes / sizeof dtypes[0])

struct entry {
    tacit_tensor tensor;
    size_t name;         /* offset in text, until text has ceased to grow */
    uint64_t begin, end; /* in the data */
};

struct pair {
    const char *key, *value;
};

struct tacit_safetensors {
    int fd;                     /* of a file, or               */
    const unsigned char *bytes; /* what there is of it in memory */
    uint64_t size;              /* of the file          */
    uint64_t data;              /* where the data begin */
    char *path;
    char *text; /* all strings */
    tacit_tensor *tensors;
    uint64_t *begins;
    size_t count;
    struct pair *metadata;
    size_t pairs;
};

/* ---- reading ---- */

struct reader {
    const tacit_safetensors *file;
    const char *path;
    tacit_err *err;
    tacit_status status; /* of the first error; the parser stops at once */

    uint64_t next, end; /* offsets in the file: of the next chunk, of the end of the header */
    size_t at, have;    /* in chunk */

    char *text; /* strings, each with its 0; while it grows, strings are known by offset */
    size_t text_size, text_room;
    struct entry *entries;
    size_t count, entries_room;
    struct {
        size_t key, value;
    } * pairs;
    size_t pair_count, pairs_room;

    bool metadata_seen;
    unsigned char chunk[HEADER_CHUNK];
};

/* Always false. The first error stays: an end of the bytes may be one of the file. */
static bool fail(struct reader *r, tacit_status status, const char *fmt, ...) TACIT_PRINTF(3, 4);

static bool fail(struct reader *r, tacit_status status, const char *fmt, ...)
{
    if (r->status < 0)
        return false;
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    r->status = tacit_fail(r->err, status, "%s: safetensors header: %s", r->path, line);
    return false;
}

/* Offset in the file of the byte that comes next. */
static unsigned long long here(const struct reader *r)
{
    return r->next - (r->have - r->at);
}

static bool expected(struct reader *r, const char *what)
{
    return fail(r, TACIT_EFORMAT, "byte %llu: %s expected", here(r), what);
}

static tacit_status read_at(const tacit_safetensors *file, void *dst, size_t size, uint64_t at,
                            tacit_err *err)
{
    if (!file->bytes)
        return tacit_pread_all(file->fd, dst, size, at, file->path, err);
    memcpy(dst, file->bytes + at, size);
    return TACIT_OK;
}

static bool refill(struct reader *r)
{
    uint64_t left = r->end - r->next;
    r->have = left < HEADER_CHUNK ? (size_t)left : HEADER_CHUNK;
    r->at = 0;
    if (!r->have)
        return false;
    r->status = read_at(r->file, r->chunk, r->have, r->next, r->err);
    if (r->status < 0)
        r->have = 0;
    r->next += r->have;
    return r->have > 0;
}

/* The next byte without taking it, -1 at the end of the header or after an error of the file. */
static int peek(struct reader *r)
{
    if (r->at == r->have && (r->status < 0 || !refill(r)))
        return -1;
    return r->chunk[r->at];
}

static int next(struct reader *r)
{
    int c = peek(r);
    if (c >= 0)
        r->at++;
    return c;
}

static void skip_space(struct reader *r)
{
    int c = peek(r);
    while (c == ' ' || c == '\n' || c == '\t' || c == '\r') {
        r->at++;
        c = peek(r);
    }
}

/* Skips space, then takes c where it comes next. */
static bool take(struct reader *r, char c)
{
    skip_space(r);
    if (peek(r) != c)
        return false;
    r->at++;
    return true;
}

static bool need(struct reader *r, char c, const char *what)
{
    return take(r, c) || expected(r, what);
}

/* Room for one more item of a growing array. */
static bool grow(struct reader *r, void **items, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return true;
    size_t more = *room ? 2 * *room : 64;
    void *grown = tacit_realloc(*items, *room * size, more * size);
    if (!grown)
        return fail(r, TACIT_ENOMEM, "out of memory");
    *items = grown;
    *room = more;
    return true;
}

static bool put(struct reader *r, unsigned char c)
{
    if (r->text_size == MAX_TEXT)
        return fail(r, TACIT_ELIMIT, "more than %zu bytes of names and metadata", MAX_TEXT);
    void *text = r->text;
    bool ok = grow(r, &text, r->text_size, &r->text_room, 1);
    r->text = text;
    if (ok)
        r->text[r->text_size++] = (char)c;
    return ok;
}

static bool put_code(struct reader *r, uint32_t code)
{
    if (code < 0x80)
        return put(r, (unsigned char)code);
    if (code < 0x800)
        return put(r, (unsigned char)(0xc0 | code >> 6)) && put(r, 0x80 | (code & 0x3f));
    if (code < 0x10000)
        return put(r, (unsigned char)(0xe0 | code >> 12)) && put(r, 0x80 | (code >> 6 & 0x3f)) &&
               put(r, 0x80 | (code & 0x3f));
    return put(r, (unsigned char)(0xf0 | code >> 18)) && put(r, 0x80 | (code >> 12 & 0x3f)) &&
           put(r, 0x80 | (code >> 6 & 0x3f)) && put(r, 0x80 | (code & 0x3f));
}

/* The rest of a UTF-8 sequence (RFC 3629: no overlong forms, no surrogates, nothing above
 * U+10FFFF). */
static bool put_sequence(struct reader *r, int first)
{
    unsigned more = 0;
    int low = 0x80, high = 0xbf; /* what the second byte may be */
    if (first >= 0xc2 && first <= 0xdf)
        more = 1;
    else if (first >= 0xe0 && first <= 0xef)
        more = 2;
    else if (first >= 0xf0 && first <= 0xf4)
        more = 3;
    if (first == 0xe0)
        low = 0xa0;
    else if (first == 0xed)
        high = 0x9f;
    else if (first == 0xf0)
        low = 0x90;
    else if (first == 0xf4)
        high = 0x8f;
    if (!more)
        return fail(r, TACIT_EFORMAT, "byte %llu: not UTF-8", here(r) - 1);
    if (!put(r, (unsigned char)first))
        return false;
    for (; more; more--) {
        int c = peek(r);
        if (c < low || c > high)
            return fail(r, TACIT_EFORMAT, "byte %llu: not UTF-8", here(r));
        r->at++;
        low = 0x80;
        high = 0xbf;
        if (!put(r, (unsigned char)c))
            return false;
    }
    return true;
}

static bool take_hex4(struct reader *r, uint32_t *code)
{
    *code = 0;
    for (unsigned i = 0; i < 4; i++) {
        int c = peek(r);
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                                : 16;
        if (digit == 16)
            return expected(r, "a hexadecimal digit");
        r->at++;
        *code = *code << 4 | digit;
    }
    return true;
}

/* What follows a backslash. */
static bool put_escape(struct reader *r)
{
    unsigned long long offset = here(r) - 1;
    int c = next(r);
    switch (c) {
    case '"':
    case '\\':
    case '/': return put(r, (unsigned char)c);
    case 'b': return put(r, '\b');
    case 'f': return put(r, '\f');
    case 'n': return put(r, '\n');
    case 'r': return put(r, '\r');
    case 't': return put(r, '\t');
    case 'u': break;
    default: return fail(r, TACIT_EFORMAT, "byte %llu: no escape of JSON", offset);
    }
    uint32_t code, low;
    if (!take_hex4(r, &code))
        return false;
    if (code == 0)
        return fail(r, TACIT_EFORMAT, "byte %llu: a string holds a NUL", offset);
    if (code >= 0xd800 && code <= 0xdbff) {
        if (next(r) != '\\' || next(r) != 'u')
            return fail(r, TACIT_EFORMAT, "byte %llu: half of a surrogate pair", offset);
        if (!take_hex4(r, &low))
            return false;
        if (low < 0xdc00 || low > 0xdfff)
            return fail(r, TACIT_EFORMAT, "byte %llu: half of a surrogate pair", offset);
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        return fail(r, TACIT_EFORMAT, "byte %llu: half of a surrogate pair", offset);
    }
    return put_code(r, code);
}

/* A string of at most limit bytes goes to the end of text, with a 0 behind; *offset is where. */
static bool take_string(struct reader *r, size_t limit, const char *what, size_t *offset)
{
    skip_space(r);
    unsigned long long begin = here(r);
    if (!need(r, '"', what))
        return false;
    *offset = r->text_size;
    for (;;) {
        if (r->text_size - *offset > limit)
            return fail(r, TACIT_ELIMIT, "byte %llu: a name of more than %zu bytes", begin, limit);
        int c = next(r);
        bool ok = true;
        if (c == '"')
            return put(r, 0);
        if (c < 0)
            return fail(r, TACIT_EFORMAT, "byte %llu: a string does not end", begin);
        if (c < 0x20)
            return fail(r, TACIT_EFORMAT, "byte %llu: a control byte in a string", here(r) - 1);
        if (c == '\\')
            ok = put_escape(r);
        else if (c < 0x80)
            ok = put(r, (unsigned char)c);
        else
            ok = put_sequence(r, c);
        if (!ok)
            return false;
    }
}

/* A non-negative integer as JSON writes it; fractions and exponents are refused. */
static bool take_number(struct reader *r, uint64_t *value)
{
    skip_space(r);
    unsigned long long begin = here(r);
    uint64_t n = 0;
    size_t digits = 0;
    int first = peek(r), c = first;
    for (; c >= '0' && c <= '9'; c = peek(r)) {
        if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(c - '0'), &n))
            return fail(r, TACIT_EFORMAT, "byte %llu: a number that does not fit 64 bits", begin);
        r->at++;
        digits++;
    }
    if (c == '.' || c == 'e' || c == 'E' || (!digits && c == '-'))
        return fail(r, TACIT_EFORMAT, "byte %llu: a number that is no non-negative integer", begin);
    if (!digits)
        return expected(r, "a non-negative integer");
    if (first == '0' && digits > 1)
        return fail(r, TACIT_EFORMAT, "byte %llu: a number that begins with 0", begin);
    *value = n;
    return true;
}

/* After an item: true to go on with another, false at the closing byte or an error. */
static bool another(struct reader *r, char close)
{
    if (take(r, ','))
        return true;
    if (!take(r, close))
        expected(r, close == '}' ? "',' or '}'" : "',' or ']'");
    return false;
}

static bool take_metadata(struct reader *r)
{
    if (r->metadata_seen)
        return fail(r, TACIT_EFORMAT, "'__metadata__' is there twice");
    r->metadata_seen = true;
    if (!need(r, '{', "the '{' of '__metadata__'"))
        return false;
    if (take(r, '}'))
        return true;
    do {
        if (r->pair_count == MAX_METADATA)
            return fail(r, TACIT_ELIMIT, "more than %d items of '__metadata__'", MAX_METADATA);
        void *pairs = r->pairs;
        bool ok = grow(r, &pairs, r->pair_count, &r->pairs_room, sizeof r->pairs[0]);
        r->pairs = pairs;
        if (!ok ||
            !take_string(r, MAX_NAME, "a key of '__metadata__'", &r->pairs[r->pair_count].key) ||
            !need(r, ':', "':'") ||
            !take_string(r, MAX_TEXT, "a string as value in '__metadata__'",
                         &r->pairs[r->pair_count].value))
            return false;
        r->pair_count++;
    } while (another(r, '}'));
    return r->status == TACIT_OK;
}

/* The name of the tensor that is being read; text may move with every string that is read. */
static const char *name_of(const struct reader *r, const struct entry *e)
{
    return r->text + e->name;
}

static bool take_shape(struct reader *r, struct entry *e)
{
    tacit_tensor *t = &e->tensor;
    if (!need(r, '[', "the '[' of a shape"))
        return false;
    if (take(r, ']'))
        return true;
    do {
        if (t->rank == TACIT_MAX_RANK)
            return fail(r, TACIT_ELIMIT, "tensor '%.200s': more than %d dimensions", name_of(r, e),
                        TACIT_MAX_RANK);
        uint64_t n;
        if (!take_number(r, &n))
            return false;
        if (n > SIZE_MAX)
            return fail(r, TACIT_EFORMAT, "tensor '%.200s': a dimension is too large",
                        name_of(r, e));
        t->shape[t->rank++] = (size_t)n;
    } while (another(r, ']'));
    return r->status == TACIT_OK;
}

static bool take_offsets(struct reader *r, struct entry *e)
{
    return need(r, '[', "the '[' of data_offsets") && take_number(r, &e->begin) &&
           need(r, ',', "',' and the end of the data") && take_number(r, &e->end) &&
           need(r, ']', "']' after the two data_offsets");
}

/* A short string that is looked at and not kept: valid until the next one is read. */
static const char *take_token(struct reader *r, const char *what)
{
    size_t offset;
    if (!take_string(r, MAX_NAME, what, &offset))
        return NULL;
    r->text_size = offset;
    return r->text + offset;
}

static bool take_dtype(struct reader *r, struct entry *e, unsigned *bits)
{
    const char *word = take_token(r, "a dtype in quotes");
    if (!word)
        return false;
    for (size_t i = 0; i < DTYPES; i++)
        if (!strcmp(word, dtypes[i].name)) {
            e->tensor.dtype = dtypes[i].dtype;
            *bits = dtypes[i].bits;
            return true;
        }
    return fail(r, TACIT_EFORMAT, "tensor '%.200s': unknown dtype '%.40s'", name_of(r, e), word);
}

/* Sets bytes. Every product of some of the dimensions fits a size_t then, also beside zeros. */
static bool size_tensor(struct reader *r, struct entry *e, unsigned bits)
{
    tacit_tensor *t = &e->tensor;
    size_t bound = bits, total = bits;
    for (unsigned i = 0; i < t->rank; i++) {
        if (!tacit_mul_size(bound, t->shape[i] ? t->shape[i] : 1, &bound))
            return fail(r, TACIT_EFORMAT, "tensor '%.200s': its shape is larger than any memory",
                        name_of(r, e));
        total *= t->shape[i];
    }
    if (total % 8)
        return fail(r, TACIT_EFORMAT, "tensor '%.200s': does not end at a whole byte",
                    name_of(r, e));
    t->bytes = total / 8;
    return true;
}

static bool check_range(struct reader *r, const struct entry *e, uint64_t data_size)
{
    unsigned long long begin = e->begin, end = e->end, data = data_size;
    if (end < begin)
        return fail(r, TACIT_EFORMAT, "tensor '%.200s': ends (%llu) before it begins (%llu)",
                    name_of(r, e), end, begin);
    if (end > data)
        return fail(r, TACIT_EFORMAT, "tensor '%.200s': ends at byte %llu of %llu bytes of data",
                    name_of(r, e), end, data);
    if (end - begin != e->tensor.bytes)
        return fail(r, TACIT_EFORMAT,
                    "tensor '%.200s': has %llu bytes, its shape and dtype need "
                    "%zu",
                    name_of(r, e), end - begin, e->tensor.bytes);
    return true;
}

/* The object behind a tensor's name, which is the last thing in text. */
static bool take_tensor(struct reader *r, size_t name, uint64_t data_size)
{
    if (r->count == MAX_TENSORS)
        return fail(r, TACIT_ELIMIT, "more than %d tensors", MAX_TENSORS);
    void *entries = r->entries;
    bool ok = grow(r, &entries, r->count, &r->entries_room, sizeof r->entries[0]);
    r->entries = entries;
    if (!ok)
        return false;
    struct entry *e = &r->entries[r->count];
    *e = (struct entry){ .name = name };
    static const char *const keys[3] = { "dtype", "shape", "data_offsets" };
    bool seen[3] = { false };
    unsigned bits = 0;
    if (!need(r, '{', "the '{' of a tensor"))
        return false;
    if (!take(r, '}')) {
        do {
            const char *word = take_token(r, "'dtype', 'shape' or 'data_offsets'");
            if (!word)
                return false;
            size_t key = 0;
            while (key < 3 && strcmp(word, keys[key]))
                key++;
            if (key == 3)
                return fail(r, TACIT_EFORMAT, "tensor '%.200s': unknown key '%.40s'", name_of(r, e),
                            word);
            if (seen[key])
                return fail(r, TACIT_EFORMAT, "tensor '%.200s': '%s' is there twice", name_of(r, e),
                            keys[key]);
            seen[key] = true;
            if (!need(r, ':', "':'") || !(key == 0   ? take_dtype(r, e, &bits)
                                          : key == 1 ? take_shape(r, e)
                                                     : take_offsets(r, e)))
                return false;
        } while (another(r, '}'));
        if (r->status < 0)
            return false;
    }
    for (size_t key = 0; key < 3; key++)
        if (!seen[key])
            return fail(r, TACIT_EFORMAT, "tensor '%.200s': '%s' is missing", name_of(r, e),
                        keys[key]);
    r->count++;
    return size_tensor(r, e, bits) && check_range(r, e, data_size);
}

static bool take_header(struct reader *r, uint64_t data_size)
{
    if (peek(r) != '{')
        return expected(r, "'{'");
    r->at++;
    if (!take(r, '}')) {
        do {
            size_t name;
            if (!take_string(r, MAX_NAME, "the name of a tensor", &name) || !need(r, ':', "':'"))
                return false;
            if (!strcmp(r->text + name, "__metadata__")) {
                r->text_size = name;
                if (!take_metadata(r))
                    return false;
            } else if (!take_tensor(r, name, data_size)) {
                return false;
            }
        } while (another(r, '}'));
    }
    while (peek(r) == ' ')
        r->at++;
    return r->status == TACIT_OK && (peek(r) < 0 || expected(r, "nothing but spaces"));
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct entry *)a)->tensor.name, ((const struct entry *)b)->tensor.name);
}

static int by_range(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    if (x->end != y->end)
        return x->end < y->end ? -1 : 1;
    return by_name(a, b);
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct pair *)a)->key, ((const struct pair *)b)->key);
}

/* No name twice; the data covered without a hole or an overlap. Leaves the entries in order of
 * their bytes. */
static bool check_layout(struct reader *r, uint64_t data_size)
{
    for (size_t i = 0; i < r->count; i++)
        r->entries[i].tensor.name = name_of(r, &r->entries[i]);
    if (r->count)
        qsort(r->entries, r->count, sizeof r->entries[0], by_name);
    for (size_t i = 1; i < r->count; i++)
        if (!by_name(&r->entries[i - 1], &r->entries[i]))
            return fail(r, TACIT_EFORMAT, "tensor '%.200s' is there twice",
                        r->entries[i].tensor.name);
    if (r->count)
        qsort(r->entries, r->count, sizeof r->entries[0], by_range);
    uint64_t covered = 0;
    for (size_t i = 0; i < r->count; i++) {
        const struct entry *e = &r->entries[i];
        if (e->begin < covered)
            return fail(r, TACIT_EFORMAT, "tensor '%.200s' overlaps '%.200s'", e->tensor.name,
                        r->entries[i - 1].tensor.name);
        if (e->begin > covered)
            return fail(r, TACIT_EFORMAT,
                        "bytes %llu to %llu of the data, before tensor '%.200s', belong to no "
                        "tensor",
                        (unsigned long long)covered, (unsigned long long)e->begin, e->tensor.name);
        covered = e->end;
    }
    if (covered != data_size)
        return fail(r, TACIT_EFORMAT, "the last %llu bytes of the file belong to no tensor",
                    (unsigned long long)(data_size - covered));
    return true;
}

/* Moves what was read and checked into file. */
static bool hand_over(struct reader *r, tacit_safetensors *file)
{
    file->tensors = tacit_calloc(r->count, sizeof file->tensors[0]);
    file->begins = tacit_calloc(r->count, sizeof file->begins[0]);
    file->metadata = tacit_calloc(r->pair_count, sizeof file->metadata[0]);
    if (!file->tensors || !file->begins || !file->metadata)
        return fail(r, TACIT_ENOMEM, "out of memory");
    for (size_t i = 0; i < r->count; i++) {
        file->tensors[i] = r->entries[i].tensor;
        file->begins[i] = r->entries[i].begin;
    }
    for (size_t i = 0; i < r->pair_count; i++)
        file->metadata[i] = (struct pair){ r->text + r->pairs[i].key, r->text + r->pairs[i].value };
    if (r->pair_count)
        qsort(file->metadata, r->pair_count, sizeof file->metadata[0], by_key);
    for (size_t i = 1; i < r->pair_count; i++)
        if (!by_key(&file->metadata[i - 1], &file->metadata[i]))
            return fail(r, TACIT_EFORMAT, "'%.200s' is twice in '__metadata__'",
                        file->metadata[i].key);
    file->count = r->count;
    file->pairs = r->pair_count;
    file->text = r->text;
    r->text = NULL;
    return true;
}

static tacit_status read_file(tacit_safetensors *file, tacit_err *err)
{
    unsigned char head[9];
    if (file->size < sizeof head)
        return tacit_fail(err, TACIT_EFORMAT, "%s: has %llu bytes, too few for a safetensors file",
                          file->path, (unsigned long long)file->size);
    tacit_status st = read_at(file, head, sizeof head, 0, err);
    if (st < 0)
        return st;
    uint64_t length = 0;
    for (unsigned i = 0; i < 8; i++)
        length |= (uint64_t)head[i] << 8 * i;
    if (head[8] != '{')
        return tacit_fail(err, TACIT_EFORMAT, "%s: is not a safetensors file", file->path);
    if (length > file->size - 8)
        return tacit_fail(err, TACIT_EFORMAT,
                          "%s: its header of %llu bytes is longer than the file: it is cut off, or "
                          "no safetensors file",
                          file->path, (unsigned long long)length);
    if (length > MAX_HEADER)
        return tacit_fail(err, TACIT_ELIMIT, "%s: its header has %llu bytes, the limit is %d",
                          file->path, (unsigned long long)length, MAX_HEADER);
    file->data = 8 + length;
    uint64_t data_size = file->size - file->data;

    struct reader *r = tacit_alloc(sizeof *r);
    if (!r)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", file->path);
    memset(r, 0, offsetof(struct reader, chunk));
    r->file = file;
    r->path = file->path;
    r->err = err;
    r->next = 8;
    r->end = file->data;
    if (take_header(r, data_size) && check_layout(r, data_size))
        hand_over(r, file);
    st = r->status;
    tacit_free(r->text);
    tacit_free(r->entries);
    tacit_free(r->pairs);
    tacit_free(r);
    return st;
}

static tacit_status open_any(tacit_safetensors **out, const char *path, const void *bytes,
                             uint64_t size, tacit_err *err)
{
    *out = NULL;
    tacit_safetensors *file = tacit_calloc(1, sizeof *file);
    if (!file)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    file->fd = -1;
    file->bytes = bytes;
    file->size = size;
    tacit_status st = TACIT_OK;
    file->path = tacit_strdup(path);
    if (!file->path)
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    if (st == TACIT_OK && !bytes)
        st = tacit_open_regular(path, &file->fd, &file->size, err);
    if (st == TACIT_OK)
        st = read_file(file, err);
    if (st < 0)
        tacit_safetensors_close(&file);
    *out = file;
    return st;
}

tacit_status tacit_safetensors_open(tacit_safetensors **file, const char *path, tacit_err *err)
{
    return open_any(file, path, NULL, 0, err);
}

tacit_status tacit_safetensors_open_bytes(tacit_safetensors **file, const char *name,
                                          const void *bytes, size_t size, tacit_err *err)
{
    return open_any(file, name, bytes, size, err);
}

void tacit_safetensors_close(tacit_safetensors **p)
{
    tacit_safetensors *file = *p;
    *p = NULL;
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    tacit_free(file->path);
    tacit_free(file->text);
    tacit_free(file->tensors);
    tacit_free(file->begins);
    tacit_free(file->metadata);
    tacit_free(file);
}

static tacit_status read_tensor(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const tacit_safetensors *file = ctx;
    assert(i < file->count && offset <= file->tensors[i].bytes &&
           size <= file->tensors[i].bytes - offset);
    return read_at(file, dst, size, file->data + file->begins[i] + offset, err);
}

tacit_tensor_source tacit_safetensors_source(const tacit_safetensors *file)
{
    return (tacit_tensor_source){ file->tensors, file->count, read_tensor, (void *)file };
}

const char *tacit_safetensors_metadata(const tacit_safetensors *file, const char *key)
{
    for (size_t i = 0; i < file->pairs; i++)
        if (!strcmp(file->metadata[i].key, key))
            return file->metadata[i].value;
    return NULL;
}

tacit_status tacit_safetensors_hash(const tacit_safetensors *file, uint64_t *hash, tacit_err *err)
{
    tacit_status st = TACIT_OK;
    XXH3_state_t *state = tacit_alloc(sizeof *state);
    unsigned char *chunk = tacit_alloc(HASH_CHUNK);
    if (!state || !chunk) {
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", file->path);
        goto done;
    }
    XXH3_64bits_reset(state);
    for (uint64_t at = 0; at < file->size;) {
        uint64_t left = file->size - at;
        size_t n = left < HASH_CHUNK ? (size_t)left : HASH_CHUNK;
        st = read_at(file, chunk, n, at, err);
        if (st < 0)
            goto done;
        XXH3_64bits_update(state, chunk, n);
        at += n;
    }
    *hash = XXH3_64bits_digest(state);
done:
    tacit_free(chunk);
    tacit_free(state);
    return st;
}

/* ---- writing ---- */

/* Text that grows; after a failed allocation it stays failed. */
struct text {
    char *bytes;
    size_t size, room;
    bool failed;
};

static void append(struct text *t, const char *bytes, size_t n)
{
    if (t->failed || n > t->room - t->size) {
        size_t room = t->room ? t->room : 4096;
        while (!t->failed && room - t->size < n)
            t->failed = !tacit_mul_size(room, 2, &room);
        char *grown = t->failed ? NULL : tacit_realloc(t->bytes, t->size, room);
        t->failed = !grown;
        if (t->failed)
            return;
        t->bytes = grown;
        t->room = room;
    }
    memcpy(t->bytes + t->size, bytes, n);
    t->size += n;
}

static void append_word(struct text *t, const char *word)
{
    append(t, word, strlen(word));
}

static void append_number(struct text *t, size_t n)
{
    char digits[24];
    append(t, digits, (size_t)snprintf(digits, sizeof digits, "%zu", n));
}

static void append_string(struct text *t, const char *s)
{
    append_word(t, "\"");
    for (; *s; s++) {
        char escape[8];
        switch (*s) {
        case '"': append_word(t, "\\\""); break;
        case '\\': append_word(t, "\\\\"); break;
        case '\b': append_word(t, "\\b"); break;
        case '\f': append_word(t, "\\f"); break;
        case '\n': append_word(t, "\\n"); break;
        case '\r': append_word(t, "\\r"); break;
        case '\t': append_word(t, "\\t"); break;
        default:
            if ((unsigned char)*s < 0x20) {
                snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
                append_word(t, escape);
            } else {
                append(t, s, 1);
            }
        }
    }
    append_word(t, "\"");
}

static size_t dtype_row(tacit_dtype dtype)
{
    size_t row = 0;
    while (row < DTYPES && (dtypes[row].dtype != dtype || dtype == TACIT_DTYPE_OTHER))
        row++;
    return row;
}

static int by_layout(const void *a, const void *b)
{
    const tacit_tensor *x = *(const tacit_tensor *const *)a, *y = *(const tacit_tensor *const *)b;
    size_t row_x = dtype_row(x->dtype), row_y = dtype_row(y->dtype);
    if (row_x != row_y)
        return row_x > row_y ? -1 : 1;
    return strcmp(x->name, y->name);
}

/* What is written must be readable: the same limits hold. */
static tacit_status check_entry(const tacit_tensor *t, size_t *bytes, const char *path,
                                tacit_err *err)
{
    if (dtype_row(t->dtype) == DTYPES || t->rank > TACIT_MAX_RANK || strlen(t->name) > MAX_NAME ||
        !strcmp(t->name, "__metadata__"))
        return tacit_fail(err, TACIT_EINVAL,
                          "%s: tensor '%.200s': its name, dtype or rank cannot be written", path,
                          t->name);
    size_t bound = *bytes = dtypes[dtype_row(t->dtype)].bits / 8;
    for (unsigned i = 0; i < t->rank; i++) {
        if (!tacit_mul_size(bound, t->shape[i] ? t->shape[i] : 1, &bound))
            return tacit_fail(err, TACIT_EINVAL, "%s: tensor '%.200s': too large", path, t->name);
        *bytes *= t->shape[i];
    }
    return TACIT_OK;
}

static tacit_status make_header(struct text *t, const tacit_tensor *const *order, size_t count,
                                const char *const *metadata, const char *path, tacit_err *err)
{
    append(t, "\0\0\0\0\0\0\0\0{", 9);
    if (metadata && metadata[0]) {
        append_word(t, "\"__metadata__\":{");
        for (size_t i = 0; metadata[i]; i += 2) {
            append_word(t, i ? "," : "");
            append_string(t, metadata[i]);
            append_word(t, ":");
            append_string(t, metadata[i + 1]);
        }
        append_word(t, count ? "}," : "}");
    }
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const tacit_tensor *tensor = order[i];
        if (i && !strcmp(tensor->name, order[i - 1]->name))
            return tacit_fail(err, TACIT_EINVAL, "%s: tensor '%.200s' is there twice", path,
                              tensor->name);
        size_t bytes;
        tacit_status st = check_entry(tensor, &bytes, path, err);
        if (st < 0)
            return st;
        append_word(t, i ? "," : "");
        append_string(t, tensor->name);
        append_word(t, ":{\"dtype\":\"");
        append_word(t, dtypes[dtype_row(tensor->dtype)].name);
        append_word(t, "\",\"shape\":[");
        for (unsigned d = 0; d < tensor->rank; d++) {
            append_word(t, d ? "," : "");
            append_number(t, tensor->shape[d]);
        }
        append_word(t, "],\"data_offsets\":[");
        append_number(t, at);
        append_word(t, ",");
        if (!tacit_add_size(at, bytes, &at))
            return tacit_fail(err, TACIT_EINVAL, "%s: the tensors are too large together", path);
        append_number(t, at);
        append_word(t, "]}");
    }
    append_word(t, "}");
    while (!t->failed && t->size % 8)
        append_word(t, " ");
    if (t->failed)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory for its header", path);
    uint64_t length = t->size - 8;
    if (length > MAX_HEADER)
        return tacit_fail(err, TACIT_ELIMIT, "%s: the header would have more than %d bytes", path,
                          MAX_HEADER);
    for (unsigned i = 0; i < 8; i++)
        t->bytes[i] = (char)(length >> 8 * i & 0xff);
    return TACIT_OK;
}

static tacit_status write_tensor(int fd, const tacit_tensor_source *source,
                                 const tacit_tensor *tensor, char *chunk, const char *path,
                                 tacit_err *err)
{
    size_t bytes;
    tacit_status st = check_entry(tensor, &bytes, path, err);
    for (size_t at = 0, n; st == TACIT_OK && at < bytes; at += n) {
        n = bytes - at < WRITE_CHUNK ? bytes - at : WRITE_CHUNK;
        st = source->read(source->ctx, (size_t)(tensor - source->tensors), at, n, chunk, err);
        if (st == TACIT_OK)
            st = tacit_write_all(fd, chunk, n, path, err);
    }
    return st;
}

static tacit_status write_file(const char *path, const struct text *header,
                               const tacit_tensor_source *source, const tacit_tensor *const *order,
                               tacit_err *err)
{
    tacit_atomic file;
    char *chunk = tacit_alloc(WRITE_CHUNK);
    if (!chunk)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    tacit_status st = tacit_atomic_open(&file, path, err);
    if (st == TACIT_OK) {
        st = tacit_write_all(file.fd, header->bytes, header->size, path, err);
        for (size_t i = 0; i < source->count && st == TACIT_OK; i++)
            st = write_tensor(file.fd, source, order[i], chunk, path, err);
        if (st == TACIT_OK)
            st = tacit_atomic_commit(&file, err);
        else
            tacit_atomic_abort(&file);
    }
    tacit_free(chunk);
    return st;
}

tacit_status tacit_safetensors_copy(const char *path, const tacit_tensor_source *source,
                                    const char *const *metadata, tacit_err *err)
{
    struct text header = { 0 };
    const tacit_tensor **order = tacit_calloc(source->count, sizeof *order);
    if (!order)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    for (size_t i = 0; i < source->count; i++)
        order[i] = &source->tensors[i];
    if (source->count)
        qsort(order, source->count, sizeof *order, by_layout);
    tacit_status st = make_header(&header, order, source->count, metadata, path, err);
    if (st == TACIT_OK)
        st = write_file(path, &header, source, order, err);
    tacit_free(header.bytes);
    tacit_free(order);
    return st;
}

static tacit_status read_entry(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                               tacit_err *err)
{
    (void)err;
    const tacit_safetensors_entry *entries = ctx;
    memcpy(dst, (const char *)entries[i].data + offset, size);
    return TACIT_OK;
}

tacit_status tacit_safetensors_write(const char *path, const tacit_safetensors_entry *entries,
                                     size_t count, const char *const *metadata, tacit_err *err)
{
    tacit_tensor *tensors = tacit_calloc(count, sizeof *tensors);
    if (!tensors)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    for (size_t i = 0; i < count; i++)
        tensors[i] = entries[i].tensor;
    tacit_tensor_source source = { tensors, count, read_entry, (void *)(uintptr_t)entries };
    tacit_status st = tacit_safetensors_copy(path, &source, metadata, err);
    tacit_free(tensors);
    return st;
}
