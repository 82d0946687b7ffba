/* checkpoint.c - tells containers apart and gives their tensors. See checkpoint.h. */
#include "checkpoint.h"

#include "atomic_file.h"
#include "mem.h"
#include "npy.h"
#include "pickle.h"
#include "safetensors.h"
#include "zip.h"

#include <assert.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#define MAX_PICKLE ((size_t)64 << 20)
#define MAX_INDEX  ((size_t)8 << 20)
#define MAX_SHARDS 1000
/* What may be used beyond the size of a file to find out what is in it. */
#define SLACK       ((size_t)768 << 10)
#define FIRST_BYTES ((size_t)64 << 10) /* of a legacy file, to begin with */
#define HASH_CHUNK  ((size_t)1 << 20)

struct shard {
    char *name;
    tacit_safetensors *file;
};

/* Where the values of a tensor are: of a shard, or of the file. */
struct place {
    size_t shard, index; /* of a safetensors file */
    uint64_t data;       /* of the first element */
    const uint64_t *strides;
};

struct tacit_checkpoint {
    char *path;
    const char *container;
    int fd;
    uint64_t size;
    struct shard *shards; /* all of them, or the one safetensors file */
    size_t shard_count;
    tacit_zip zip;
    tacit_pickle *pickle;
    bool swap; /* values are big-endian */
    tacit_tensor *tensors;
    char *names; /* of an npz */
    struct place *places;
    size_t count;
};

static tacit_status no_memory(const tacit_checkpoint *c, tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", c->path);
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* PyTorch ------------------------------------------------------------------------------------- */

/* The tensors of the pickle, with the place of each storage's bytes in the file. */
static tacit_status bind_pickle(tacit_checkpoint *c, const uint64_t *storages, tacit_err *err)
{
    const tacit_tensor *tensors = tacit_pickle_tensors(c->pickle, &c->count);
    const tacit_pickle_place *places = tacit_pickle_places(c->pickle);
    if (!c->count)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: holds no dictionary of tensors: where a whole model was saved, save "
                          "its state_dict() instead",
                          c->path);
    c->tensors = tacit_calloc(c->count, sizeof *c->tensors);
    c->places = tacit_calloc(c->count, sizeof *c->places);
    if (!c->tensors || !c->places)
        return no_memory(c, err);
    for (size_t i = 0; i < c->count; i++) {
        c->tensors[i] = tensors[i];
        c->places[i].data =
            storages[places[i].storage] + places[i].offset * tacit_dtype_size(tensors[i].dtype);
        c->places[i].strides = places[i].contiguous ? NULL : places[i].strides;
    }
    return TACIT_OK;
}

static size_t budget(const tacit_checkpoint *c, uint64_t used)
{
    return (c->size > used ? (size_t)(c->size - used) : 0) + SLACK;
}

/* The place of each storage: the entry <root>data/<key>. */
static tacit_status find_storages(tacit_checkpoint *c, const char *root, size_t root_length,
                                  uint64_t *storages, tacit_err *err)
{
    size_t count;
    const tacit_pickle_storage *storage = tacit_pickle_storages(c->pickle, &count);
    for (size_t i = 0; i < count; i++) {
        char name[1024];
        int n = snprintf(name, sizeof name, "%.*sdata/%s", (int)root_length, root, storage[i].key);
        const tacit_zip_entry *entry =
            n > 0 && (size_t)n < sizeof name ? tacit_zip_find(&c->zip, name) : NULL;
        if (!entry)
            return tacit_fail(err, TACIT_EFORMAT, "%s: the values of storage '%.100s' are missing",
                              c->path, storage[i].key);
        if (!entry->stored)
            return tacit_fail(err, TACIT_EUNSUPPORTED,
                              "%s: entry '%.200s' is compressed: save it again with torch.save",
                              c->path, name);
        if (entry->size < storage[i].bytes)
            return tacit_fail(err, TACIT_EFORMAT,
                              "%s: storage '%.100s' has %llu bytes and should have %llu", c->path,
                              storage[i].key, (unsigned long long)entry->size,
                              (unsigned long long)storage[i].bytes);
        storages[i] = entry->data;
    }
    return TACIT_OK;
}

static tacit_status read_byteorder(tacit_checkpoint *c, const char *root, size_t root_length,
                                   tacit_err *err)
{
    char name[1024], *order;
    snprintf(name, sizeof name, "%.*sbyteorder", (int)root_length, root);
    const tacit_zip_entry *entry = tacit_zip_find(&c->zip, name);
    if (!entry)
        return TACIT_OK;
    tacit_status st = tacit_zip_read(entry, c->fd, 64, &order, c->path, err);
    if (st < 0)
        return st;
    c->swap = !strcmp(order, "big");
    if (!c->swap && strcmp(order, "little"))
        st = tacit_fail(err, TACIT_EFORMAT, "%s: the byte order '%.20s' is not known", c->path,
                        order);
    tacit_free(order);
    return st;
}

static tacit_status read_torch_zip(tacit_checkpoint *c, const tacit_zip_entry *pickle,
                                   tacit_err *err)
{
    size_t root_length = strlen(pickle->name) - strlen("data.pkl"), used, count;
    bool cut;
    char *bytes;
    c->container = "PyTorch zip";
    tacit_status st = read_byteorder(c, pickle->name, root_length, err);
    if (st == TACIT_OK)
        st = tacit_zip_read(pickle, c->fd, MAX_PICKLE, &bytes, c->path, err);
    if (st < 0)
        return st;
    st = tacit_pickle_open(&c->pickle, budget(c, pickle->size + 128 * (uint64_t)c->zip.count), err);
    if (st == TACIT_OK)
        st = tacit_pickle_run(c->pickle, (const uint8_t *)bytes, (size_t)pickle->size, &used, &cut,
                              err);
    if (st == TACIT_OK)
        st = tacit_pickle_list(c->pickle, err);
    tacit_free(bytes);
    if (st < 0)
        return tacit_fail_at(err, st, "%s", c->path);
    tacit_pickle_storages(c->pickle, &count);
    uint64_t *storages = tacit_calloc(count, sizeof *storages);
    st = storages ? find_storages(c, pickle->name, root_length, storages, err) : no_memory(c, err);
    if (st == TACIT_OK)
        st = bind_pickle(c, storages, err);
    tacit_free(storages);
    return st;
}

static int by_key(const void *a, const void *b)
{
    const tacit_pickle_storage *const *x = a, *const *y = b;
    return strcmp((*x)->key, (*y)->key);
}

/* Behind the pickles at `at`: for each key in the order of the list, a count and the values. */
static tacit_status find_legacy_storages(tacit_checkpoint *c, tacit_pickle *keys, uint64_t at,
                                         uint64_t *storages, tacit_err *err)
{
    size_t count, found = 0;
    const tacit_pickle_storage *storage = tacit_pickle_storages(c->pickle, &count), **sorted;
    sorted = tacit_calloc(count, sizeof *sorted);
    if (!sorted)
        return no_memory(c, err);
    for (size_t i = 0; i < count; i++)
        sorted[i] = &storage[i];
    if (count)
        qsort(sorted, count, sizeof *sorted, by_key);
    tacit_status st = TACIT_OK;
    for (const char *key; st == TACIT_OK && (key = tacit_pickle_next_string(keys)); found++) {
        tacit_pickle_storage wanted = { .key = key };
        const tacit_pickle_storage *w = &wanted,
                                   **s = count ? bsearch(&w, sorted, count, sizeof *sorted, by_key)
                                               : NULL;
        unsigned char head[8];
        if (!s || storages[*s - storage] || c->size - at < sizeof head) {
            st = tacit_fail(err, TACIT_EFORMAT, "%s: storage '%.100s' is %s", c->path, key,
                            !s                       ? "used by no tensor"
                            : storages[*s - storage] ? "there twice"
                                                     : "missing: the file is cut off");
            break;
        }
        st = tacit_pread_all(c->fd, head, sizeof head, at, c->path, err);
        uint64_t elements = 0;
        for (unsigned i = 0; i < 8; i++)
            elements |= (uint64_t)head[i] << 8 * i;
        at += sizeof head;
        if (st == TACIT_OK && (elements != (*s)->elements || (*s)->bytes > c->size - at))
            st = tacit_fail(err, TACIT_EFORMAT,
                            "%s: storage '%.100s' has %llu elements and should have %llu, of which "
                            "%llu bytes are left",
                            c->path, key, (unsigned long long)elements,
                            (unsigned long long)(*s)->elements, (unsigned long long)(c->size - at));
        storages[*s - storage] = at;
        at += (*s)->bytes;
    }
    if (st == TACIT_OK && found != count)
        st = tacit_fail(err, TACIT_EFORMAT, "%s: %zu of %zu storages are there", c->path, found,
                        count);
    tacit_free(sorted);
    return st;
}

/* The five pickles at the head of a legacy file, of which `bytes` holds the first `size` bytes.
 * *cut: more are needed. */
static tacit_status read_legacy_head(tacit_checkpoint *c, const uint8_t *bytes, size_t size,
                                     tacit_pickle *keys, uint64_t *end, bool *cut, tacit_err *err)
{
    size_t used, at = 0;
    int64_t protocol;
    tacit_status st = tacit_pickle_run(keys, bytes, size, &used, cut, err);
    if (st == TACIT_OK && !tacit_pickle_is_magic(keys))
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "a plain pickle, not written by torch.save: load it in Python and save "
                          "its tensors as safetensors");
    at += used;
    if (st == TACIT_OK)
        st = tacit_pickle_run(keys, bytes + at, size - at, &used, cut, err);
    if (st == TACIT_OK && (!tacit_pickle_integer(keys, &protocol) || protocol != 1001))
        return tacit_fail(err, TACIT_EUNSUPPORTED, "of a protocol that is not known");
    at += used;
    if (st == TACIT_OK)
        st = tacit_pickle_run(keys, bytes + at, size - at, &used, cut, err);
    c->swap = st == TACIT_OK && tacit_pickle_flag(keys, "little_endian") == 0;
    at += used;
    if (st == TACIT_OK)
        st = tacit_pickle_run(c->pickle, bytes + at, size - at, &used, cut, err);
    at += used;
    if (st == TACIT_OK)
        st = tacit_pickle_list(c->pickle, err);
    if (st == TACIT_OK)
        st = tacit_pickle_run(keys, bytes + at, size - at, &used, cut, err);
    *end = at + used;
    return st;
}

static tacit_status read_torch_legacy(tacit_checkpoint *c, tacit_err *err)
{
    tacit_pickle *keys = NULL;
    uint8_t *bytes = NULL;
    uint64_t *storages = NULL, end = 0;
    size_t have = 0, count;
    bool cut = true;
    c->container = "PyTorch legacy";
    tacit_status st = TACIT_OK;
    /* How long the pickles are shows only when they were run. */
    while (cut) {
        size_t limit = c->size < MAX_PICKLE ? (size_t)c->size : MAX_PICKLE;
        size_t size = have ? 8 * have : FIRST_BYTES;
        size = size < limit ? size : limit;
        uint8_t *more = tacit_realloc(bytes, have, size);
        if (!more) {
            st = no_memory(c, err);
            goto done;
        }
        bytes = more;
        st = tacit_pread_all(c->fd, bytes + have, size - have, have, c->path, err);
        if (st < 0)
            goto done;
        have = size;
        tacit_pickle_close(&keys);
        tacit_pickle_close(&c->pickle);
        size_t room = budget(c, 2 * have);
        st = tacit_pickle_open(&keys, room / 4, err);
        if (st == TACIT_OK)
            st = tacit_pickle_open(&c->pickle, room / 4 * 3, err);
        if (st == TACIT_OK)
            st = read_legacy_head(c, bytes, have, keys, &end, &cut, err);
        if (st == TACIT_OK || have == limit || st == TACIT_ENOMEM)
            cut = false;
    }
    if (st < 0) {
        tacit_fail_at(err, st, "%s", c->path);
        goto done;
    }
    tacit_pickle_storages(c->pickle, &count);
    storages = tacit_calloc(count, sizeof *storages);
    st = storages ? find_legacy_storages(c, keys, end, storages, err) : no_memory(c, err);
    if (st == TACIT_OK)
        st = bind_pickle(c, storages, err);
done:
    tacit_free(storages);
    tacit_free(bytes);
    tacit_pickle_close(&keys);
    return st;
}

/* npz ----------------------------------------------------------------------------------------- */

static tacit_status read_npz(tacit_checkpoint *c, tacit_err *err)
{
    size_t text = 0;
    c->container = "npz";
    c->tensors = tacit_calloc(c->zip.count, sizeof *c->tensors);
    c->places = tacit_calloc(c->zip.count, sizeof *c->places);
    for (size_t i = 0; i < c->zip.count; i++)
        text += strlen(c->zip.entries[i].name) + 1;
    c->names = tacit_alloc(text);
    if (!c->tensors || !c->places || !c->names)
        return no_memory(c, err);
    char *name = c->names;
    for (size_t i = 0; i < c->zip.count; i++) {
        const tacit_zip_entry *entry = &c->zip.entries[i];
        if (!entry->stored)
            return tacit_fail(err, TACIT_EUNSUPPORTED,
                              "%s: entry '%.200s' is compressed: write it with numpy.savez",
                              c->path, entry->name);
        size_t length = strlen(entry->name) - strlen(".npy");
        memcpy(name, entry->name, length);
        name[length] = 0;
        tacit_npy npy;
        tacit_status st = tacit_npy_parse(&npy, c->fd, entry->data, entry->size, entry->name, err);
        if (st < 0)
            return tacit_fail_at(err, st, "%s", c->path);
        c->tensors[i] = (tacit_tensor){
            .name = name, .dtype = npy.dtype, .rank = npy.rank, .bytes = npy.bytes
        };
        memcpy(c->tensors[i].shape, npy.shape, sizeof npy.shape);
        c->places[i].data = npy.data;
        name += length + 1;
        c->count++;
    }
    return TACIT_OK;
}

/* Zip archives -------------------------------------------------------------------------------- */

static tacit_status read_zip(tacit_checkpoint *c, tacit_err *err)
{
    tacit_status st = tacit_zip_open(&c->zip, c->fd, c->size, c->path, err);
    if (st < 0)
        return st;
    const tacit_zip_entry *pickle = NULL;
    bool script = false, arrays = c->zip.count > 0;
    for (size_t i = 0; i < c->zip.count; i++) {
        const char *name = c->zip.entries[i].name, *slash = strrchr(name, '/');
        const char *leaf = slash ? slash + 1 : name;
        bool top = !slash || memchr(name, '/', (size_t)(slash - name)) == NULL;
        script = script || (top && !strcmp(leaf, "constants.pkl"));
        if (top && !strcmp(leaf, "data.pkl"))
            pickle = &c->zip.entries[i];
        arrays = arrays && ends_with(name, ".npy");
    }
    if (script)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: a TorchScript archive, which is a program: in Python, "
                          "torch.save(torch.jit.load(FILE).state_dict(), OUT)",
                          c->path);
    if (pickle)
        return read_torch_zip(c, pickle, err);
    if (arrays)
        return read_npz(c, err);
    return tacit_fail(err, TACIT_EUNSUPPORTED,
                      "%s: a zip archive that is neither torch.save's nor an npz", c->path);
}

/* safetensors --------------------------------------------------------------------------------- */

static int by_shard(const void *a, const void *b)
{
    return strcmp(((const struct shard *)a)->name, ((const struct shard *)b)->name);
}

/* Opens the shards that the index names, each once. */
static tacit_status open_shards(tacit_checkpoint *c, json_t *map, tacit_err *err)
{
    const char *name, *slash = strrchr(c->path, '/');
    json_t *value;
    size_t room = 0;
    json_object_foreach(map, name, value)
    {
        const char *file = json_string_value(value);
        if (!file || !*file || strchr(file, '/') || !strcmp(file, "..") || !strcmp(file, ".") ||
            strlen(file) > 255)
            return tacit_fail(err, TACIT_EFORMAT,
                              "%s: tensor '%.200s' should be in a file of the same folder", c->path,
                              name);
        struct shard key = { .name = (char *)file };
        bool known = false;
        for (size_t i = 0; i < c->shard_count && !known; i++)
            known = !by_shard(&key, &c->shards[i]);
        if (known)
            continue;
        if (c->shard_count == MAX_SHARDS)
            return tacit_fail(err, TACIT_ELIMIT, "%s: names more than %d files", c->path,
                              MAX_SHARDS);
        if (c->shard_count == room) {
            size_t more = room ? 2 * room : 8;
            struct shard *grown =
                tacit_realloc(c->shards, room * sizeof *grown, more * sizeof *grown);
            if (!grown)
                return no_memory(c, err);
            c->shards = grown;
            room = more;
        }
        struct shard *shard = &c->shards[c->shard_count];
        *shard = (struct shard){ .name = tacit_strdup(file) };
        if (!shard->name)
            return no_memory(c, err);
        c->shard_count++;
    }
    if (c->shard_count)
        qsort(c->shards, c->shard_count, sizeof *c->shards, by_shard);
    for (size_t i = 0; i < c->shard_count; i++) {
        char path[4096];
        int n = snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash + 1 - c->path) : 0,
                         c->path, c->shards[i].name);
        if (n < 0 || (size_t)n >= sizeof path)
            return tacit_fail(err, TACIT_EINVAL, "%s: the path is too long", c->path);
        tacit_status st = tacit_safetensors_open(&c->shards[i].file, path, err);
        if (st < 0)
            return st;
        c->count += tacit_safetensors_source(c->shards[i].file).count;
    }
    return TACIT_OK;
}

/* Lists the tensors of all shards; each must be where the index says. */
static tacit_status bind_shards(tacit_checkpoint *c, json_t *map, tacit_err *err)
{
    size_t at = 0;
    c->tensors = tacit_calloc(c->count, sizeof *c->tensors);
    c->places = tacit_calloc(c->count, sizeof *c->places);
    if (!c->tensors || !c->places)
        return no_memory(c, err);
    for (size_t i = 0; i < c->shard_count; i++) {
        tacit_tensor_source source = tacit_safetensors_source(c->shards[i].file);
        for (size_t k = 0; k < source.count; k++, at++) {
            c->tensors[at] = source.tensors[k];
            c->places[at] = (struct place){ .shard = i, .index = k };
            const char *file = json_string_value(json_object_get(map, source.tensors[k].name));
            if (!file || strcmp(file, c->shards[i].name))
                return tacit_fail(err, TACIT_EFORMAT,
                                  "%s: tensor '%.200s' is in %s, where the index does not put it",
                                  c->path, source.tensors[k].name, c->shards[i].name);
        }
    }
    if (at != json_object_size(map))
        return tacit_fail(err, TACIT_EFORMAT,
                          "%s: names %zu tensors, its files hold %zu: one of them is not whole",
                          c->path, json_object_size(map), at);
    return TACIT_OK;
}

static tacit_status read_index(tacit_checkpoint *c, tacit_err *err)
{
    char *text;
    size_t size;
    c->container = "sharded safetensors";
    tacit_status st = tacit_file_read(c->path, MAX_INDEX, &text, &size, err);
    if (st < 0)
        return st;
    json_error_t error;
    json_t *index = json_loadb(text, size, JSON_REJECT_DUPLICATES, &error);
    tacit_free(text);
    json_t *map = json_object_get(index, "weight_map");
    if (!json_is_object(map) || !json_object_size(map))
        st = tacit_fail(err, TACIT_EFORMAT, "%s: no index of safetensors files: %s", c->path,
                        index ? "its weight_map is missing" : error.text);
    if (st == TACIT_OK)
        st = open_shards(c, map, err);
    if (st == TACIT_OK)
        st = bind_shards(c, map, err);
    json_decref(index);
    return st;
}

/* The file, or its bytes. */
static tacit_status read_safetensors(tacit_checkpoint *c, const void *bytes, size_t size,
                                     tacit_err *err)
{
    c->container = "safetensors";
    c->shards = tacit_calloc(1, sizeof *c->shards);
    if (!c->shards)
        return no_memory(c, err);
    c->shard_count = 1;
    return bytes ? tacit_safetensors_open_bytes(&c->shards[0].file, c->path, bytes, size, err)
                 : tacit_safetensors_open(&c->shards[0].file, c->path, err);
}

/* Any ----------------------------------------------------------------------------------------- */

static tacit_status read_any(tacit_checkpoint *c, tacit_err *err)
{
    unsigned char head[512] = { 0 };
    size_t n = c->size < sizeof head ? (size_t)c->size : sizeof head;
    tacit_status st = tacit_pread_all(c->fd, head, n, 0, c->path, err);
    if (st < 0)
        return st;
    if (n >= 4 && !memcmp(head, "PK\3\4", 4))
        return read_zip(c, err);
    if (n >= 9 && head[8] == '{' && (head[0] != '{' || !ends_with(c->path, ".json")))
        return read_safetensors(c, NULL, 0, err);
    if (head[0] == '{')
        return read_index(c, err);
    if (n >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5)
        return read_torch_legacy(c, err);
    if (!memcmp(head + 257, "ustar", 5))
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "%s: a tar archive, as PyTorch wrote them before 0.1.10: load it in "
                          "PyTorch and save it again",
                          c->path);
    static const struct {
        const char *magic, *what;
    } others[] = {
        { "\x89HDF", "an HDF5 file, as Keras writes" },
        { "\x1f\x8b", "compressed by gzip" },
        { "GGUF", "a GGUF file" },
        { "\x93NUMPY", "a single NumPy array" },
        { "version https://git-lfs", "a Git LFS pointer: the file itself was not downloaded" },
        { "<!DOCTYPE", "a web page: the download went wrong" },
        { "<html", "a web page: the download went wrong" },
    };
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        if (n >= strlen(others[i].magic) && !memcmp(head, others[i].magic, strlen(others[i].magic)))
            return tacit_fail(err, TACIT_EUNSUPPORTED, "%s: %s, not a checkpoint that can be read",
                              c->path, others[i].what);
    return tacit_fail(err, TACIT_EFORMAT,
                      "%s: not a checkpoint: neither safetensors nor written by torch.save",
                      c->path);
}

/* In a folder, the file that the hub's tools would take. */
static tacit_status resolve(tacit_checkpoint *c, const char *path, tacit_err *err)
{
    static const char *const names[] = { "model.safetensors", "model.safetensors.index.json",
                                         "pytorch_model.bin" };
    struct stat s;
    char found[4096] = "";
    bool folder = stat(path, &s) == 0 && S_ISDIR(s.st_mode);
    for (size_t i = 0; folder && i < sizeof names / sizeof names[0]; i++) {
        int n = snprintf(found, sizeof found, "%s/%s", path, names[i]);
        if (n > 0 && (size_t)n < sizeof found && stat(found, &s) == 0) {
            c->path = tacit_strdup(found);
            break;
        }
        found[0] = 0;
    }
    if (folder && !found[0])
        return tacit_fail(err, TACIT_EUNSUPPORTED, "%s: a folder without %s, %s or %s", path,
                          names[0], names[1], names[2]);
    if (!folder)
        c->path = tacit_strdup(path);
    if (!c->path)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    return tacit_open_regular(c->path, &c->fd, &c->size, err);
}

static int by_name(const void *a, const void *b)
{
    const tacit_tensor *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Nested dictionaries can lead to one name in two ways. */
static tacit_status check_names(const tacit_checkpoint *c, tacit_err *err)
{
    const tacit_tensor **sorted = tacit_calloc(c->count, sizeof *sorted);
    if (!sorted)
        return no_memory(c, err);
    tacit_status st = TACIT_OK;
    for (size_t i = 0; i < c->count; i++)
        sorted[i] = &c->tensors[i];
    if (c->count)
        qsort(sorted, c->count, sizeof *sorted, by_name);
    for (size_t i = 1; i < c->count && st == TACIT_OK; i++)
        if (!by_name(&sorted[i - 1], &sorted[i]))
            st = tacit_fail(err, TACIT_EFORMAT, "%s: tensor '%.200s' is there twice", c->path,
                            sorted[i]->name);
    tacit_free(sorted);
    return st;
}

tacit_status tacit_checkpoint_open(tacit_checkpoint **checkpoint, const char *path, tacit_err *err)
{
    tacit_checkpoint *c = *checkpoint = tacit_calloc(1, sizeof *c);
    if (!c)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    c->fd = -1;
    tacit_status st = resolve(c, path, err);
    if (st == TACIT_OK)
        st = read_any(c, err);
    if (st == TACIT_OK && c->tensors)
        st = check_names(c, err);
    if (st < 0)
        tacit_checkpoint_close(checkpoint);
    return st;
}

tacit_status tacit_checkpoint_open_bytes(tacit_checkpoint **checkpoint, const char *name,
                                         const void *bytes, size_t size, tacit_err *err)
{
    tacit_checkpoint *c = *checkpoint = tacit_calloc(1, sizeof *c);
    if (!c)
        return tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", name);
    c->fd = -1;
    c->path = tacit_strdup(name);
    tacit_status st = c->path ? read_safetensors(c, bytes, size, err)
                              : tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", name);
    if (st < 0)
        tacit_checkpoint_close(checkpoint);
    return st;
}

void tacit_checkpoint_close(tacit_checkpoint **checkpoint)
{
    tacit_checkpoint *c = *checkpoint;
    if (!c)
        return;
    for (size_t i = 0; i < c->shard_count; i++) {
        tacit_safetensors_close(&c->shards[i].file);
        tacit_free(c->shards[i].name);
    }
    tacit_free(c->shards);
    tacit_zip_close(&c->zip);
    tacit_pickle_close(&c->pickle);
    if (c->fd >= 0)
        close(c->fd);
    tacit_free(c->tensors);
    tacit_free(c->names);
    tacit_free(c->places);
    tacit_free(c->path);
    tacit_free(c);
    *checkpoint = NULL;
}

/* Values -------------------------------------------------------------------------------------- */

/* The place of element `at` of a tensor, in elements from its first. */
static uint64_t element_place(const tacit_tensor *t, const uint64_t *strides, size_t at)
{
    uint64_t place = 0;
    for (unsigned i = t->rank; i-- > 0; at /= t->shape[i])
        place += at % t->shape[i] * strides[i];
    return place;
}

/* Bytes [offset, offset + size) of a tensor whose elements lie apart, or whose bytes are swapped,
 * from all that lies between the first and the last of them. */
static tacit_status gather(const tacit_checkpoint *c, const tacit_tensor *t,
                           const struct place *place, size_t offset, size_t size,
                           unsigned char *dst, tacit_err *err)
{
    size_t width = tacit_dtype_size(t->dtype), first = offset / width;
    size_t end = (offset + size + width - 1) / width;
    uint64_t dense[TACIT_MAX_RANK], low = UINT64_MAX, high = 0;
    const uint64_t *strides = place->strides;
    if (!strides) {
        strides = dense;
        for (unsigned i = t->rank; i-- > 0;)
            dense[i] = i + 1 < t->rank ? dense[i + 1] * t->shape[i + 1] : 1;
    }
    for (size_t e = first; e < end; e++) {
        uint64_t at = element_place(t, strides, e);
        low = at < low ? at : low;
        high = at > high ? at : high;
    }
    size_t span = (size_t)(high - low + 1) * width;
    unsigned char *bytes = tacit_alloc(span);
    if (!bytes)
        return no_memory(c, err);
    tacit_status st = tacit_pread_all(c->fd, bytes, span, place->data + low * width, c->path, err);
    for (size_t e = first; st == TACIT_OK && e < end; e++) {
        const unsigned char *from = bytes + (element_place(t, strides, e) - low) * width;
        for (size_t i = 0; i < width; i++) {
            size_t to = e * width + i;
            if (to >= offset && to - offset < size)
                dst[to - offset] = from[c->swap ? width - 1 - i : i];
        }
    }
    tacit_free(bytes);
    return st;
}

static tacit_status read_values(void *ctx, size_t i, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const tacit_checkpoint *c = ctx;
    assert(i < c->count && offset <= c->tensors[i].bytes && size <= c->tensors[i].bytes - offset);
    const struct place *place = &c->places[i];
    if (c->shards) {
        tacit_tensor_source s = tacit_safetensors_source(c->shards[place->shard].file);
        return s.read(s.ctx, place->index, offset, size, dst, err);
    }
    if (!size)
        return TACIT_OK;
    if (place->strides || (c->swap && tacit_dtype_size(c->tensors[i].dtype) > 1))
        return gather(c, &c->tensors[i], place, offset, size, dst, err);
    return tacit_pread_all(c->fd, dst, size, place->data + offset, c->path, err);
}

tacit_tensor_source tacit_checkpoint_source(const tacit_checkpoint *c)
{
    if (!c->tensors)
        return tacit_safetensors_source(c->shards[0].file);
    return (tacit_tensor_source){ c->tensors, c->count, read_values, (void *)c };
}

const char *tacit_checkpoint_container(const tacit_checkpoint *c)
{
    return c->container;
}

const char *tacit_checkpoint_path(const tacit_checkpoint *c)
{
    return c->path;
}

const char *tacit_checkpoint_metadata(const tacit_checkpoint *c, const char *key)
{
    return c->shard_count == 1 ? tacit_safetensors_metadata(c->shards[0].file, key) : NULL;
}

/* Hash ---------------------------------------------------------------------------------------- */

static int by_place(const void *a, const void *b)
{
    const tacit_zip_entry *x = a, *y = b;
    return x->data < y->data ? -1 : x->data > y->data;
}

/* Carries the sum of the entry that is being passed over n bytes of the file from `at`. */
static tacit_status check_sums(const tacit_checkpoint *c, const tacit_zip_entry *entries,
                               size_t *next, uint32_t *sum, uint64_t at, const unsigned char *bytes,
                               size_t n, tacit_err *err)
{
    uint64_t end = at + n;
    while (*next < c->zip.count && entries[*next].data <= end) {
        const tacit_zip_entry *e = &entries[*next];
        uint64_t stop = e->data + e->size;
        uint64_t from = e->data > at ? e->data : at, to = stop < end ? stop : end;
        if (from < to)
            *sum = (uint32_t)crc32_z(*sum, bytes + (from - at), (size_t)(to - from));
        if (stop > end)
            break;
        if (e->stored && *sum != e->crc)
            return tacit_fail(err, TACIT_EFORMAT, "%s: entry '%.200s' is damaged: its CRC is wrong",
                              c->path, e->name);
        *sum = 0;
        (*next)++;
    }
    return TACIT_OK;
}

static tacit_status hash_file(const tacit_checkpoint *c, uint64_t *hash, tacit_err *err)
{
    size_t next = 0;
    uint32_t sum = 0;
    tacit_status st = TACIT_OK;
    XXH3_state_t *state = tacit_alloc(sizeof *state);
    unsigned char *chunk = tacit_alloc(HASH_CHUNK);
    tacit_zip_entry *entries = tacit_calloc(c->zip.count, sizeof *entries);
    if (!state || !chunk || !entries) {
        st = no_memory(c, err);
        goto done;
    }
    if (c->zip.count) {
        memcpy(entries, c->zip.entries, c->zip.count * sizeof *entries);
        qsort(entries, c->zip.count, sizeof *entries, by_place);
    }
    XXH3_64bits_reset(state);
    for (uint64_t at = 0; st == TACIT_OK && at < c->size;) {
        size_t n = c->size - at < HASH_CHUNK ? (size_t)(c->size - at) : HASH_CHUNK;
        st = tacit_pread_all(c->fd, chunk, n, at, c->path, err);
        if (st < 0)
            break;
        XXH3_64bits_update(state, chunk, n);
        st = check_sums(c, entries, &next, &sum, at, chunk, n, err);
        at += n;
    }
    *hash = XXH3_64bits_digest(state);
done:
    tacit_free(entries);
    tacit_free(chunk);
    tacit_free(state);
    return st;
}

tacit_status tacit_checkpoint_hash(const tacit_checkpoint *c, uint64_t *hash, tacit_err *err)
{
    if (!c->shards)
        return hash_file(c, hash, err);
    if (c->shard_count == 1)
        return tacit_safetensors_hash(c->shards[0].file, hash, err);
    unsigned char all[8 * MAX_SHARDS];
    for (size_t i = 0; i < c->shard_count; i++) {
        uint64_t one;
        tacit_status st = tacit_safetensors_hash(c->shards[i].file, &one, err);
        if (st < 0)
            return st;
        for (unsigned b = 0; b < 8; b++)
            all[8 * i + b] = (unsigned char)(one >> 8 * b);
    }
    *hash = XXH3_64bits(all, 8 * c->shard_count);
    return TACIT_OK;
}
