/* pickle.c - a stack machine that describes instead of doing. See pickle.h.
 *
 * Values live in blocks that count against the budget, and are freed together. Strings are not
 * copied: they point into the pickle. Containers are lists of cells, so nothing is ever moved, and
 * a container that is reached twice is one container.
 */
#include "pickle.h"

#include "mem.h"

#include <stdio.h>
#include <string.h>

/* The limits. A full training checkpoint of a ViT takes about 150 000 operations. */
#define MAX_OPERATIONS 1000000
#define MAX_MEMO       1000000
#define MAX_VISITS     200000
#define MAX_DEPTH      64   /* of nested containers on the way to a tensor */
#define MAX_NAME       1024 /* bytes of a tensor's name */
#define MAX_LONG       16   /* bytes of an integer */

#define BLOCK ((size_t)16 << 10)

enum kind {
    NOTHING, /* None */
    TRUTH,
    INTEGER,
    LARGE, /* an integer of more than 8 bytes */
    REAL,
    STRING,
    TUPLE,
    LIST,
    DICT,
    GLOBAL,
    STORAGE,
    TENSOR,
    INERT, /* made by something that is not run */
};

/* What a global is good for. */
enum role {
    OTHER,
    MAKES_DICT,
    MAKES_TENSOR,     /* (storage, offset, size, stride, ...)                           */
    MAKES_TENSOR_V3,  /* the same with the element type as the seventh                  */
    MAKES_UNREADABLE, /* a tensor of a kind that is not read: sparse, quantised ...    */
    PASSES_FIRST,     /* a wrapper around its first argument                            */
    APPLIES_FIRST,    /* calls its first argument with its third: a subclass of Tensor  */
    STORAGE_TYPE,
    ELEMENT_TYPE,
};

static const struct global {
    const char *module, *name;
    enum role role;
    tacit_dtype dtype;
} globals[] = {
    { "collections", "OrderedDict", MAKES_DICT, 0 },
    { "collections", "defaultdict", MAKES_DICT, 0 },
    { "collections", "Counter", MAKES_DICT, 0 },
    { "builtins", "dict", MAKES_DICT, 0 },
    { "__builtin__", "dict", MAKES_DICT, 0 },
    { "torch._utils", "_rebuild_tensor", MAKES_TENSOR, 0 },
    { "torch._utils", "_rebuild_tensor_v2", MAKES_TENSOR, 0 },
    { "torch._utils", "_rebuild_tensor_v3", MAKES_TENSOR_V3, 0 },
    { "torch._utils", "_rebuild_parameter", PASSES_FIRST, 0 },
    { "torch._utils", "_rebuild_parameter_with_state", PASSES_FIRST, 0 },
    { "torch", "Size", PASSES_FIRST, 0 },
    { "torch._tensor", "_rebuild_from_type_v2", APPLIES_FIRST, 0 },
    { "torch", "FloatStorage", STORAGE_TYPE, TACIT_F32 },
    { "torch", "DoubleStorage", STORAGE_TYPE, TACIT_F64 },
    { "torch", "HalfStorage", STORAGE_TYPE, TACIT_F16 },
    { "torch", "BFloat16Storage", STORAGE_TYPE, TACIT_BF16 },
    { "torch", "LongStorage", STORAGE_TYPE, TACIT_I64 },
    { "torch", "IntStorage", STORAGE_TYPE, TACIT_I32 },
    { "torch", "ShortStorage", STORAGE_TYPE, TACIT_I16 },
    { "torch", "CharStorage", STORAGE_TYPE, TACIT_I8 },
    { "torch", "ByteStorage", STORAGE_TYPE, TACIT_U8 },
    { "torch", "BoolStorage", STORAGE_TYPE, TACIT_BOOL },
    { "torch.storage", "UntypedStorage", STORAGE_TYPE, TACIT_U8 },
    { "torch", "UntypedStorage", STORAGE_TYPE, TACIT_U8 },
    { "torch", "float32", ELEMENT_TYPE, TACIT_F32 },
    { "torch", "float64", ELEMENT_TYPE, TACIT_F64 },
    { "torch", "float16", ELEMENT_TYPE, TACIT_F16 },
    { "torch", "bfloat16", ELEMENT_TYPE, TACIT_BF16 },
    { "torch", "int64", ELEMENT_TYPE, TACIT_I64 },
    { "torch", "int32", ELEMENT_TYPE, TACIT_I32 },
    { "torch", "int16", ELEMENT_TYPE, TACIT_I16 },
    { "torch", "int8", ELEMENT_TYPE, TACIT_I8 },
    { "torch", "uint8", ELEMENT_TYPE, TACIT_U8 },
    { "torch", "bool", ELEMENT_TYPE, TACIT_BOOL },
};

typedef struct value value;

/* One member of a container; a dictionary's come in pairs. */
typedef struct cell {
    const value *value;
    struct cell *next;
} cell;

typedef struct shape {
    size_t storage;
    tacit_dtype dtype;
    unsigned rank;
    uint64_t offset, count;
    uint64_t sizes[]; /* (rank), then the strides */
} shape;

struct value {
    enum kind kind;
    unsigned role; /* of a global */
    union {
        int64_t integer;
        struct {
            const char *text;
            size_t length;
        };
        struct {
            cell *first, *last;
        };
        struct {
            const char *name; /* of a global, for messages */
            unsigned name_length;
            tacit_dtype dtype;
        };
        size_t storage;
        const shape *shape;
    };
};

struct block {
    struct block *next;
};

struct tacit_pickle {
    size_t budget, spent;
    struct block *blocks;
    unsigned char *at, *end; /* what is left of the newest block */
    const value **stack;
    size_t depth, stack_room;
    size_t *marks;
    size_t mark_count, marks_room;
    const value **memo;
    size_t memo_count, memo_room;
    const value *result;
    const cell *walked; /* by next_string */
    tacit_pickle_storage *storages;
    size_t storage_count, storages_room;
    size_t *table; /* storages by their keys: index + 1, open addressing */
    size_t table_room;
    tacit_tensor *tensors;
    tacit_pickle_place *places;
    size_t count, tensors_room, places_room;
    /* of a run */
    const uint8_t *from, *next, *stop;
    bool cut;
    size_t visits;
    tacit_err *err;
    tacit_status status;
};

static tacit_status fail(tacit_pickle *p, tacit_status status, const char *fmt, ...)
    TACIT_PRINTF(3, 4);

/* The first error stays. */
static tacit_status fail(tacit_pickle *p, tacit_status status, const char *fmt, ...)
{
    if (p->status < 0)
        return p->status;
    char line[512];
    va_list args;
    va_start(args, fmt);
    vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    return p->status = tacit_fail(p->err, status, "pickle: %s", line);
}

/* Memory -------------------------------------------------------------------------------------- */

static bool spend(tacit_pickle *p, size_t size)
{
    if (size > p->budget - p->spent) {
        fail(p, TACIT_ELIMIT, "describes more than its file could hold");
        return false;
    }
    p->spent += size;
    return true;
}

static void *take(tacit_pickle *p, size_t size)
{
    size = (size + 7) / 8 * 8;
    if (size > (size_t)(p->end - p->at)) {
        size_t room = sizeof(struct block) + (size < BLOCK ? BLOCK : size);
        struct block *block = spend(p, room) ? tacit_alloc(room) : NULL;
        if (!block) {
            fail(p, TACIT_ENOMEM, "out of memory");
            return NULL;
        }
        block->next = p->blocks;
        p->blocks = block;
        p->at = (unsigned char *)(block + 1);
        p->end = (unsigned char *)block + room;
    }
    void *taken = p->at;
    p->at += size;
    memset(taken, 0, size);
    return taken;
}

/* Room for one more of the `count` items of `size` bytes. */
static bool grow(tacit_pickle *p, void *items, size_t count, size_t *room, size_t size)
{
    if (count < *room)
        return true;
    size_t more = *room ? 2 * *room : 64;
    void *old, *new;
    memcpy(&old, items, sizeof old);
    if (!spend(p, (more - *room) * size))
        return false;
    new = tacit_realloc(old, *room * size, more * size);
    if (!new) {
        fail(p, TACIT_ENOMEM, "out of memory");
        return false;
    }
    memcpy(items, &new, sizeof new);
    *room = more;
    return true;
}

static value *make(tacit_pickle *p, enum kind kind)
{
    value *v = take(p, sizeof *v);
    if (v)
        v->kind = kind;
    return v;
}

static void reset(tacit_pickle *p)
{
    while (p->blocks) {
        struct block *next = p->blocks->next;
        tacit_free(p->blocks);
        p->blocks = next;
    }
    tacit_free(p->stack);
    tacit_free(p->marks);
    tacit_free(p->memo);
    tacit_free(p->storages);
    tacit_free(p->table);
    tacit_free(p->tensors);
    tacit_free(p->places);
    *p = (tacit_pickle){ .budget = p->budget };
}

tacit_status tacit_pickle_open(tacit_pickle **pickle, size_t budget, tacit_err *err)
{
    *pickle = tacit_calloc(1, sizeof **pickle);
    if (!*pickle)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for a pickle");
    (*pickle)->budget = budget;
    return TACIT_OK;
}

void tacit_pickle_close(tacit_pickle **pickle)
{
    if (!*pickle)
        return;
    reset(*pickle);
    tacit_free(*pickle);
    *pickle = NULL;
}

/* The stack ----------------------------------------------------------------------------------- */

static void push(tacit_pickle *p, const value *v)
{
    if (v && grow(p, &p->stack, p->depth, &p->stack_room, sizeof *p->stack))
        p->stack[p->depth++] = v;
}

/* Values above the last mark. */
static size_t above(const tacit_pickle *p)
{
    return p->depth - (p->mark_count ? p->marks[p->mark_count - 1] : 0);
}

static const value *pop(tacit_pickle *p)
{
    if (!above(p)) {
        fail(p, TACIT_EFORMAT, "takes a value from an empty stack");
        return NULL;
    }
    return p->stack[--p->depth];
}

static const value *top(tacit_pickle *p)
{
    if (!above(p)) {
        fail(p, TACIT_EFORMAT, "looks at an empty stack");
        return NULL;
    }
    return p->stack[p->depth - 1];
}

static void mark(tacit_pickle *p)
{
    if (grow(p, &p->marks, p->mark_count, &p->marks_room, sizeof *p->marks))
        p->marks[p->mark_count++] = p->depth;
}

/* Takes the last mark away; the number of values that were above it. */
static size_t unmark(tacit_pickle *p)
{
    if (!p->mark_count) {
        fail(p, TACIT_EFORMAT, "has no mark where one is needed");
        return 0;
    }
    return p->depth - p->marks[--p->mark_count];
}

static void append(tacit_pickle *p, value *container, const value *member)
{
    cell *c = take(p, sizeof *c);
    if (!c)
        return;
    c->value = member;
    if (container->last)
        container->last->next = c;
    else
        container->first = c;
    container->last = c;
}

/* The last `n` values as members of the container; one that is inert, or not a `kind`, swallows
 * them. */
static void move_members(tacit_pickle *p, const value *container, size_t n, enum kind kind)
{
    if (p->status < 0)
        return;
    /* Containers are made by take(), which gives memory that may be written. */
    if (container->kind == kind)
        for (size_t i = p->depth - n; i < p->depth; i++)
            append(p, (value *)container, p->stack[i]);
    else if (container->kind != INERT && container->kind != DICT && container->kind != LIST)
        fail(p, TACIT_EFORMAT, "puts members into what has none");
    p->depth -= n;
}

static void push_members(tacit_pickle *p, enum kind kind, size_t n)
{
    value *v = p->status < 0 ? NULL : make(p, kind);
    if (!v)
        return;
    move_members(p, v, n, kind);
    push(p, v);
}

static void remember(tacit_pickle *p, uint64_t at)
{
    const value *v = top(p);
    if (!v)
        return;
    if (at >= MAX_MEMO) {
        fail(p, TACIT_ELIMIT, "remembers more than %d values", MAX_MEMO);
        return;
    }
    while (p->memo_count <= at) {
        if (!grow(p, &p->memo, p->memo_count, &p->memo_room, sizeof *p->memo))
            return;
        p->memo[p->memo_count++] = NULL;
    }
    p->memo[at] = v;
}

static void recall(tacit_pickle *p, uint64_t at)
{
    if (at >= p->memo_count || !p->memo[at])
        fail(p, TACIT_EFORMAT, "recalls value %llu, which it never kept", (unsigned long long)at);
    else
        push(p, p->memo[at]);
}

/* Bytes --------------------------------------------------------------------------------------- */

static const uint8_t *bytes(tacit_pickle *p, uint64_t n)
{
    if (n > (uint64_t)(p->stop - p->next)) {
        p->cut = true;
        fail(p, TACIT_EFORMAT, "ends in the middle");
        return NULL;
    }
    p->next += n;
    return p->next - n;
}

/* An unsigned little-endian number of n bytes. */
static uint64_t number(tacit_pickle *p, unsigned n)
{
    const uint8_t *b = bytes(p, n);
    uint64_t x = 0;
    for (unsigned i = 0; b && i < n; i++)
        x |= (uint64_t)b[i] << 8 * i;
    return x;
}

static void push_integer(tacit_pickle *p, enum kind kind, int64_t x)
{
    value *v = make(p, kind);
    if (v)
        v->integer = x;
    push(p, v);
}

static void push_string(tacit_pickle *p, unsigned length_bytes)
{
    uint64_t n = number(p, length_bytes);
    const uint8_t *b = p->status < 0 ? NULL : bytes(p, n);
    value *v = b ? make(p, STRING) : NULL;
    if (v) {
        v->text = (const char *)b;
        v->length = n;
    }
    push(p, v);
}

/* A two's complement integer of n bytes. */
static void push_long(tacit_pickle *p, unsigned length_bytes)
{
    uint64_t n = number(p, length_bytes);
    if (n > MAX_LONG) {
        fail(p, TACIT_ELIMIT, "holds an integer of %llu bytes", (unsigned long long)n);
        return;
    }
    const uint8_t *b = p->status < 0 ? NULL : bytes(p, n);
    value *v = b ? make(p, n > 8 ? LARGE : INTEGER) : NULL;
    if (v && n > 8) {
        v->text = (const char *)b;
        v->length = n;
    } else if (v) {
        uint64_t x = n && b[n - 1] >= 0x80 ? UINT64_MAX : 0;
        for (unsigned i = 0; i < n; i++)
            x = (x & ~((uint64_t)0xff << 8 * i)) | (uint64_t)b[i] << 8 * i;
        v->integer = (int64_t)x;
    }
    push(p, v);
}

/* Up to the next line feed, which is skipped. */
static const char *line(tacit_pickle *p, size_t *length)
{
    const uint8_t *end = memchr(p->next, '\n', (size_t)(p->stop - p->next));
    if (!end) {
        p->cut = true;
        fail(p, TACIT_EFORMAT, "ends in the middle");
        return NULL;
    }
    const char *text = (const char *)p->next;
    *length = (size_t)(end - p->next);
    p->next = end + 1;
    return text;
}

static bool same(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && !memcmp(text, word, length);
}

static void push_global(tacit_pickle *p, const char *module, size_t module_length, const char *name,
                        size_t name_length)
{
    value *v = make(p, GLOBAL);
    if (!v)
        return;
    v->name = name;
    v->name_length = name_length < 200 ? (unsigned)name_length : 200;
    for (size_t i = 0; i < sizeof globals / sizeof globals[0]; i++)
        if (same(name, name_length, globals[i].name) &&
            same(module, module_length, globals[i].module)) {
            v->role = globals[i].role;
            v->dtype = globals[i].dtype;
        }
    bool rebuilds = name_length > 9 && !memcmp(name, "_rebuild_", 9);
    if (v->role == OTHER && rebuilds &&
        (same(module, module_length, "torch._utils") ||
         same(module, module_length, "torch._tensor")))
        v->role = MAKES_UNREADABLE;
    push(p, v);
}

/* Storages and tensors ------------------------------------------------------------------------ */

static size_t hash_key(const char *key, size_t length)
{
    uint64_t h = 0xcbf29ce484222325u; /* FNV-1a */
    for (size_t i = 0; i < length; i++)
        h = (h ^ (unsigned char)key[i]) * 0x100000001b3u;
    return (size_t)(h ^ h >> 32);
}

static bool grow_table(tacit_pickle *p)
{
    if (2 * (p->storage_count + 1) <= p->table_room)
        return true;
    size_t room = p->table_room ? 2 * p->table_room : 64;
    size_t *table = spend(p, room * sizeof *table) ? tacit_calloc(room, sizeof *table) : NULL;
    if (!table) {
        fail(p, TACIT_ENOMEM, "out of memory");
        return false;
    }
    for (size_t i = 0; i < p->storage_count; i++) {
        const char *key = p->storages[i].key;
        size_t at = hash_key(key, strlen(key)) & (room - 1);
        while (table[at])
            at = (at + 1) & (room - 1);
        table[at] = i + 1;
    }
    tacit_free(p->table);
    p->table = table;
    p->table_room = room;
    return true;
}

/* The storage of that key, made where it is new. */
static size_t storage_of(tacit_pickle *p, const value *key, uint64_t elements, uint64_t size)
{
    if (!grow_table(p) ||
        !grow(p, &p->storages, p->storage_count, &p->storages_room, sizeof *p->storages))
        return 0;
    size_t at = hash_key(key->text, key->length) & (p->table_room - 1);
    for (; p->table[at]; at = (at + 1) & (p->table_room - 1)) {
        const tacit_pickle_storage *known = &p->storages[p->table[at] - 1];
        if (!same(key->text, key->length, known->key))
            continue;
        if (known->bytes != size)
            fail(p, TACIT_EFORMAT, "gives storage '%.100s' two sizes", known->key);
        return p->table[at] - 1;
    }
    char *copy = take(p, key->length + 1);
    if (!copy)
        return 0;
    memcpy(copy, key->text, key->length);
    p->storages[p->storage_count] = (tacit_pickle_storage){ copy, elements, size };
    p->table[at] = ++p->storage_count;
    return p->storage_count - 1;
}

/* ('storage', type, key, location, number of elements[, view]) */
static void push_persistent(tacit_pickle *p)
{
    const value *id = pop(p);
    if (!id)
        return;
    const value *part[6] = { NULL };
    size_t n = 0;
    for (const cell *c = id->kind == TUPLE ? id->first : NULL; c && n < 6; c = c->next)
        part[n++] = c->value;
    if (n < 5 || part[0]->kind != STRING || !same(part[0]->text, part[0]->length, "storage") ||
        part[1]->kind != GLOBAL || part[1]->role != STORAGE_TYPE || part[2]->kind != STRING ||
        !part[2]->length || part[2]->length > 200 || memchr(part[2]->text, 0, part[2]->length) ||
        part[4]->kind != INTEGER || part[4]->integer < 0) {
        if (n >= 2 && part[1]->kind == GLOBAL && part[1]->role == OTHER)
            fail(p, TACIT_EUNSUPPORTED, "a storage of type %.*s is not read",
                 (int)part[1]->name_length, part[1]->name);
        else
            fail(p, TACIT_EFORMAT, "a persistent id is not that of a storage");
        return;
    }
    if (n > 5 && part[5]->kind != NOTHING) {
        fail(p, TACIT_EUNSUPPORTED, "a storage that is a view of another is not read");
        return;
    }
    size_t size;
    if (!tacit_mul_size((size_t)part[4]->integer, tacit_dtype_size(part[1]->dtype), &size)) {
        fail(p, TACIT_EFORMAT, "a storage of %lld elements", (long long)part[4]->integer);
        return;
    }
    value *v = make(p, STORAGE);
    if (!v)
        return;
    size_t storage = storage_of(p, part[2], (uint64_t)part[4]->integer, size);
    v->role = part[1]->dtype;
    v->storage = storage;
    push(p, v);
}

/* The integers of a tuple; false where it holds others, or too many. */
static bool integers(const value *v, uint64_t out[TACIT_MAX_RANK], unsigned *n)
{
    *n = 0;
    if (!v || v->kind != TUPLE)
        return false;
    for (const cell *c = v->first; c; c = c->next) {
        if (*n == TACIT_MAX_RANK || c->value->kind != INTEGER || c->value->integer < 0)
            return false;
        out[(*n)++] = (uint64_t)c->value->integer;
    }
    return true;
}

static const value *rebuild_tensor(tacit_pickle *p, const value *args, bool typed)
{
    const value *part[7] = { NULL };
    size_t n = 0;
    for (const cell *c = args->first; c && n < 7; c = c->next)
        part[n++] = c->value;
    uint64_t size[TACIT_MAX_RANK], stride[TACIT_MAX_RANK];
    unsigned rank, strides;
    if (n < 4 || part[0]->kind != STORAGE || part[1]->kind != INTEGER || part[1]->integer < 0 ||
        !integers(part[2], size, &rank) || !integers(part[3], stride, &strides) ||
        strides != rank ||
        (typed && (n < 7 || part[6]->kind != GLOBAL || part[6]->role != ELEMENT_TYPE))) {
        fail(p, TACIT_EFORMAT, "a tensor is put together from the wrong parts");
        return NULL;
    }
    shape *s = take(p, sizeof *s + 2 * rank * sizeof *s->sizes);
    value *v = s ? make(p, TENSOR) : NULL;
    if (!v)
        return NULL;
    memcpy(s->sizes, size, rank * sizeof *size);
    memcpy(s->sizes + rank, stride, rank * sizeof *stride);
    s->rank = rank;
    s->storage = part[0]->storage;
    s->dtype = typed ? part[6]->dtype : (tacit_dtype)part[0]->role;
    s->offset = (uint64_t)part[1]->integer;
    uint64_t elements = p->storages[s->storage].bytes / tacit_dtype_size(s->dtype);
    uint64_t last = s->offset, reach;
    s->count = 1;
    bool fits = true, empty = false;
    for (unsigned i = 0; i < rank; i++)
        empty = empty || !size[i];
    for (unsigned i = 0; i < rank && !empty; i++)
        fits = fits && !__builtin_mul_overflow(size[i] - 1, stride[i], &reach) &&
               !__builtin_add_overflow(last, reach, &last) &&
               !__builtin_mul_overflow(s->count, size[i], &s->count);
    if (empty)
        s->count = 0;
    if (!fits || (s->count && last >= elements) || s->count > elements) {
        fail(p, TACIT_EFORMAT, "a tensor reaches out of its storage '%.100s' of %llu elements",
             p->storages[s->storage].key, (unsigned long long)elements);
        return NULL;
    }
    v->shape = s;
    return v;
}

/* The value of calling `callable`, described. */
static const value *apply(tacit_pickle *p, const value *callable, const value *args)
{
    enum role role = callable->kind == GLOBAL ? callable->role : OTHER;
    const value *part[3] = { NULL };
    size_t n = 0;
    if (args->kind == TUPLE)
        for (const cell *c = args->first; c && n < 3; c = c->next)
            part[n++] = c->value;
    else if (role != OTHER) {
        fail(p, TACIT_EFORMAT, "calls with what is no tuple");
        return NULL;
    }
    switch (role) {
    case MAKES_DICT: {
        value *v = make(p, DICT);
        /* A list of pairs may be given, as old versions wrote OrderedDict. */
        if (v && n && part[0]->kind == LIST)
            for (const cell *c = part[0]->first; c; c = c->next) {
                const cell *key =
                    c->value->kind == LIST || c->value->kind == TUPLE ? c->value->first : NULL;
                if (!key || !key->next) {
                    fail(p, TACIT_EFORMAT, "makes a dictionary of what are no pairs");
                    return NULL;
                }
                append(p, v, key->value);
                append(p, v, key->next->value);
            }
        return v;
    }
    case MAKES_TENSOR: return rebuild_tensor(p, args, false);
    case MAKES_TENSOR_V3: return rebuild_tensor(p, args, true);
    case MAKES_UNREADABLE:
        fail(p, TACIT_EUNSUPPORTED, "a tensor made by %.*s (sparse, quantised ...) is not read",
             (int)callable->name_length, callable->name);
        return NULL;
    case PASSES_FIRST: return n ? part[0] : make(p, INERT);
    case APPLIES_FIRST:
        if (n == 3 && part[0]->kind == GLOBAL && part[0]->role != APPLIES_FIRST)
            return apply(p, part[0], part[2]);
        return make(p, INERT);
    default: return make(p, INERT);
    }
}

static void call(tacit_pickle *p)
{
    const value *args = pop(p), *callable = args ? pop(p) : NULL;
    if (callable)
        push(p, apply(p, callable, args));
}

/* Operations ---------------------------------------------------------------------------------- */

static void step(tacit_pickle *p, uint8_t operation)
{
    const value *v, *w;
    const char *text, *other;
    size_t n, m;
    switch (operation) {
    case 0x80: /* PROTO */
        if ((n = number(p, 1)) > 5)
            fail(p, TACIT_EUNSUPPORTED, "protocol %zu is not known", n);
        break;
    case 0x95: number(p, 8); break; /* FRAME */
    case 'N': push_integer(p, NOTHING, 0); break;
    case 0x88: push_integer(p, TRUTH, 1); break;
    case 0x89: push_integer(p, TRUTH, 0); break;
    case 'J': push_integer(p, INTEGER, (int32_t)(uint32_t)number(p, 4)); break;
    case 'K': push_integer(p, INTEGER, (int64_t)number(p, 1)); break;
    case 'M': push_integer(p, INTEGER, (int64_t)number(p, 2)); break;
    case 0x8a: push_long(p, 1); break;
    case 0x8b: push_long(p, 4); break;
    case 'G': number(p, 8), push_integer(p, REAL, 0); break;
    case 'X': push_string(p, 4); break;  /* BINUNICODE       */
    case 0x8c: push_string(p, 1); break; /* SHORT_BINUNICODE */
    case 0x8d: push_string(p, 8); break; /* BINUNICODE8      */
    case 'T': push_string(p, 4); break;  /* BINSTRING        */
    case 'U': push_string(p, 1); break;  /* SHORT_BINSTRING  */
    case 'B': push_string(p, 4); break;  /* BINBYTES         */
    case 'C': push_string(p, 1); break;  /* SHORT_BINBYTES   */
    case 0x8e: push_string(p, 8); break; /* BINBYTES8        */
    case 0x96: push_string(p, 8); break; /* BYTEARRAY8       */
    case '}': push(p, make(p, DICT)); break;
    case ']': push(p, make(p, LIST)); break;
    case ')': push(p, make(p, TUPLE)); break;
    case 0x8f: push(p, make(p, INERT)); break; /* EMPTY_SET */
    case '(': mark(p); break;
    case 't': push_members(p, TUPLE, unmark(p)); break;
    case 'l': push_members(p, LIST, unmark(p)); break;
    case 'd':
        if ((n = unmark(p)) % 2)
            fail(p, TACIT_EFORMAT, "a dictionary has a key without a value");
        push_members(p, DICT, n);
        break;
    case 0x91: /* FROZENSET */
        p->depth -= unmark(p);
        push(p, make(p, INERT));
        break;
    case 0x85:
    case 0x86:
    case 0x87: /* TUPLE1 to TUPLE3 */
        n = (size_t)operation - 0x84;
        if (above(p) < n)
            fail(p, TACIT_EFORMAT, "takes a value from an empty stack");
        push_members(p, TUPLE, n);
        break;
    case 'a': /* APPEND */
    case 's': /* SETITEM */
        n = operation == 'a' ? 1 : 2;
        if (above(p) < n + 1)
            fail(p, TACIT_EFORMAT, "takes a value from an empty stack");
        else
            move_members(p, p->stack[p->depth - n - 1], n, n == 1 ? LIST : DICT);
        break;
    case 'e':  /* APPENDS  */
    case 'u':  /* SETITEMS */
    case 0x90: /* ADDITEMS */
        n = unmark(p);
        if (p->status == TACIT_OK && above(p) < n + 1)
            fail(p, TACIT_EFORMAT, "takes a value from an empty stack");
        else if (operation == 'u' && n % 2)
            fail(p, TACIT_EFORMAT, "a dictionary has a key without a value");
        else if (p->status == TACIT_OK)
            move_members(p, p->stack[p->depth - n - 1], n, operation == 'u' ? DICT : LIST);
        break;
    case '0': pop(p); break;
    case '1': p->depth -= unmark(p); break;
    case '2': push(p, top(p)); break;
    case 'q': remember(p, number(p, 1)); break;
    case 'r': remember(p, number(p, 4)); break;
    case 0x94: remember(p, p->memo_count); break;
    case 'h': recall(p, number(p, 1)); break;
    case 'j': recall(p, number(p, 4)); break;
    case 'c': /* GLOBAL */
        if ((text = line(p, &n)) && (other = line(p, &m)))
            push_global(p, text, n, other, m);
        break;
    case 0x93: /* STACK_GLOBAL */
        w = pop(p);
        v = w ? pop(p) : NULL;
        if (v && (v->kind != STRING || w->kind != STRING))
            fail(p, TACIT_EFORMAT, "a global has a name that is no string");
        else if (v)
            push_global(p, v->text, v->length, w->text, w->length);
        break;
    case 'R': /* REDUCE */
    case 0x81: /* NEWOBJ */ call(p); break;
    case 0x92: /* NEWOBJ_EX */
        pop(p);
        if (p->status == TACIT_OK)
            call(p);
        break;
    case 'b': /* BUILD: the state of an object, which is inert, or a module version */
        if (pop(p))
            top(p);
        break;
    case 'Q': push_persistent(p); break;
    default:
        fail(p, TACIT_EUNSUPPORTED, "operation 0x%02x at byte %zu is not one of a state dict's",
             operation, (size_t)(p->next - p->from) - 1);
    }
}

tacit_status tacit_pickle_run(tacit_pickle *p, const uint8_t *from, size_t size, size_t *used,
                              bool *cut, tacit_err *err)
{
    reset(p);
    p->from = p->next = from;
    p->stop = from + size;
    p->err = err;
    for (size_t operations = 0; p->status == TACIT_OK; operations++) {
        const uint8_t *operation = bytes(p, 1);
        if (!operation)
            break;
        if (*operation == '.') {
            p->result = pop(p);
            break;
        }
        if (operations == MAX_OPERATIONS)
            fail(p, TACIT_ELIMIT, "has more than %d operations", MAX_OPERATIONS);
        else
            step(p, *operation);
    }
    *used = (size_t)(p->next - from);
    *cut = p->cut;
    p->err = NULL;
    return p->status;
}

/* Results ------------------------------------------------------------------------------------- */

bool tacit_pickle_integer(const tacit_pickle *p, int64_t *x)
{
    if (!p->result || p->result->kind != INTEGER)
        return false;
    *x = p->result->integer;
    return true;
}

bool tacit_pickle_is_magic(const tacit_pickle *p)
{
    return p->result && p->result->kind == LARGE &&
           same(p->result->text, p->result->length, "\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19");
}

const char *tacit_pickle_next_string(tacit_pickle *p)
{
    if (!p->result || p->result->kind != LIST)
        return NULL;
    p->walked = p->walked ? p->walked->next : p->result->first;
    const value *v = p->walked ? p->walked->value : NULL;
    char *copy = v && v->kind == STRING ? take(p, v->length + 1) : NULL;
    if (copy)
        memcpy(copy, v->text, v->length);
    return copy;
}

int tacit_pickle_flag(const tacit_pickle *p, const char *key)
{
    const cell *c = p->result && p->result->kind == DICT ? p->result->first : NULL;
    for (; c && c->next; c = c->next->next)
        if (c->value->kind == STRING && same(c->value->text, c->value->length, key) &&
            c->next->value->kind == TRUTH)
            return (int)c->next->value->integer;
    return -1;
}

/* The name of the value that is being visited. */
struct path {
    char text[MAX_NAME + 1];
    size_t length;
    unsigned depth;
    bool nameless; /* a key on the way is neither a string nor a number */
};

static bool enter(tacit_pickle *p, struct path *path, const char *key, size_t length)
{
    size_t dot = path->length ? 1 : 0;
    if (path->length + dot + length > MAX_NAME) {
        fail(p, TACIT_ELIMIT, "the name of a tensor has more than %d bytes", MAX_NAME);
        return false;
    }
    if (dot)
        path->text[path->length] = '.';
    memcpy(path->text + path->length + dot, key, length);
    path->length += dot + length;
    path->text[path->length] = 0;
    return true;
}

static void list_tensor(tacit_pickle *p, const struct path *path, const shape *s)
{
    if (path->nameless) {
        fail(p, TACIT_EUNSUPPORTED, "a tensor under '%.200s' has a key that is no string or number",
             path->text);
        return;
    }
    const char *name = path->length ? path->text : "tensor";
    if (memchr(name, 0, path->length)) {
        fail(p, TACIT_EFORMAT, "the name of a tensor holds a byte of zero");
        return;
    }
    char *copy = take(p, strlen(name) + 1);
    if (!copy || !grow(p, &p->tensors, p->count, &p->tensors_room, sizeof *p->tensors) ||
        !grow(p, &p->places, p->count, &p->places_room, sizeof *p->places))
        return;
    memcpy(copy, name, strlen(name));
    tacit_tensor *t = &p->tensors[p->count];
    tacit_pickle_place *place = &p->places[p->count++];
    *t = (tacit_tensor){ .name = copy,
                         .dtype = s->dtype,
                         .rank = s->rank,
                         .bytes = s->count * tacit_dtype_size(s->dtype) };
    *place = (tacit_pickle_place){ s->storage, s->offset, s->sizes + s->rank, true };
    uint64_t dense = 1;
    for (unsigned i = s->rank; i-- > 0;) {
        t->shape[i] = s->sizes[i];
        if (s->sizes[i] != 1 && place->strides[i] != dense)
            place->contiguous = false;
        dense *= s->sizes[i];
    }
    if (!s->count)
        place->contiguous = true;
}

static void visit(tacit_pickle *p, struct path *path, const value *v)
{
    if (v->kind == TENSOR) {
        list_tensor(p, path, v->shape);
        return;
    }
    if (v->kind != DICT && v->kind != LIST && v->kind != TUPLE)
        return;
    if (path->depth == MAX_DEPTH) {
        fail(p, TACIT_ELIMIT, "containers are nested more than %d deep", MAX_DEPTH);
        return;
    }
    size_t length = path->length, index = 0;
    bool nameless = path->nameless;
    path->depth++;
    for (const cell *c = v->first; c && p->status == TACIT_OK; c = c->next, index++) {
        if (++p->visits > MAX_VISITS) {
            fail(p, TACIT_ELIMIT, "containers hold more than %d values together", MAX_VISITS);
            break;
        }
        char digits[24];
        const value *key = v->kind == DICT ? c->value : NULL;
        if (v->kind == DICT)
            c = c->next;
        enum kind kind = c->value->kind;
        if (kind != TENSOR && kind != DICT && kind != LIST && kind != TUPLE)
            continue;
        bool named = true;
        if (key && key->kind == STRING)
            named = enter(p, path, key->text, key->length);
        else if (!key || key->kind == INTEGER)
            named = enter(p, path, digits,
                          (size_t)snprintf(digits, sizeof digits, "%lld",
                                           key ? (long long)key->integer : (long long)index));
        else
            path->nameless = true;
        if (named)
            visit(p, path, c->value);
        path->length = length;
        path->text[length] = 0;
        path->nameless = nameless;
    }
    path->depth--;
}

tacit_status tacit_pickle_list(tacit_pickle *p, tacit_err *err)
{
    struct path path = { .length = 0 };
    p->err = err;
    if (p->status == TACIT_OK && p->result)
        visit(p, &path, p->result);
    p->err = NULL;
    return p->status;
}

const tacit_tensor *tacit_pickle_tensors(const tacit_pickle *p, size_t *count)
{
    *count = p->count;
    return p->tensors;
}

const tacit_pickle_place *tacit_pickle_places(const tacit_pickle *p)
{
    return p->places;
}

const tacit_pickle_storage *tacit_pickle_storages(const tacit_pickle *p, size_t *count)
{
    *count = p->storage_count;
    return p->storages;
}
