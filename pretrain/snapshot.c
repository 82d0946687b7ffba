/* snapshot.c - see snapshot.h; "(3)" below is a promise there. */
#include "snapshot.h"

#include "param_source.h"
#include "safetensors.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For the size of XXH3_state_t: the library's own constructor would pass by mem.h. */
#define XXH_STATIC_LINKING_ONLY
#include <xxhash.h>

#define FORMAT "1"
#define CHUNK  ((size_t)1 << 20) /* bytes */
#define HEX    33

enum key { VERSION, METHOD, STEP, EPOCH, CONFIG, HASH, KEYS };
static const char *const keys[KEYS] = { "tacit.pretrain", "method", "step",
                                        "epoch_steps",    "config", "xxh3" };

typedef struct snapshot {
    tacit_param_source tensors;
    size_t *order; /* by name */
    void *chunk;
    XXH3_state_t *hash;
} snapshot;

static tacit_status out_of_memory(tacit_err *err)
{
    return tacit_fail(err, TACIT_ENOMEM, "out of memory for a checkpoint");
}

static void snapshot_close(snapshot *s)
{
    tacit_param_source_close(&s->tensors);
    tacit_free(s->order);
    tacit_free(s->chunk);
    tacit_free(s->hash);
}

static int compare_names(const void *a, const void *b, void *tensors)
{
    const tacit_tensor *t = *(const tacit_tensor *const *)tensors;
    return strcmp(t[*(const size_t *)a].name, t[*(const size_t *)b].name);
}

static void by_name(const tacit_tensor *tensors, size_t count, size_t *order)
{
    for (size_t i = 0; i < count; i++)
        order[i] = i;
    qsort_r(order, count, sizeof *order, compare_names, &tensors);
}

static tacit_status snapshot_open(snapshot *s, tacit_engine *e, tacit_err *err)
{
    static const char *const states[] = { "state0.", "state1." };
    size_t room = 3 * e->params.count + e->teacher.count + e->memory.count;
    *s = (snapshot){ .order = tacit_calloc(room, sizeof *s->order),
                     .chunk = tacit_alloc(CHUNK),
                     .hash = tacit_alloc(sizeof *s->hash) };
    tacit_status st = tacit_param_source_open(&s->tensors, room, err);
    if (st < 0)
        return st;
    if (!s->order || !s->chunk || !s->hash)
        return out_of_memory(err);
    for (size_t i = 0; i < e->params.count; i++) {
        tacit_param *p = e->params.list[i];
        tacit_param_source_add(&s->tensors, "value.", p, p->value);
        for (size_t k = 0; k < 2 && !p->frozen; k++)
            if (p->state[k])
                tacit_param_source_add(&s->tensors, states[k], p, p->state[k]);
    }
    for (size_t i = 0; i < e->teacher.count; i++) {
        tacit_param *p = e->teacher.list[i];
        tacit_param_source_add(&s->tensors, "teacher.", p, p->value);
    }
    for (size_t i = 0; i < e->memory.count; i++) {
        tacit_param *p = e->memory.list[i];
        tacit_param_source_add(&s->tensors, "memory.", p, p->value);
    }
    by_name(s->tensors.tensors, s->tensors.count, s->order);
    return TACIT_OK;
}

/* Hash ---------------------------------------------------------------------------------------- */

static void hash_text(snapshot *s, const char *text)
{
    XXH3_128bits_update(s->hash, text, strlen(text) + 1);
}

static void hash_tensor(snapshot *s, const tacit_tensor *t)
{
    uint64_t shape[1 + TACIT_MAX_RANK] = { t->rank };
    for (unsigned i = 0; i < t->rank; i++)
        shape[1 + i] = t->shape[i];
    hash_text(s, t->name);
    XXH3_128bits_update(s->hash, shape, (1 + t->rank) * sizeof *shape);
}

/* Takes in the values of tensor i of a source. */
static tacit_status hash_values(snapshot *s, const tacit_tensor_source *source, size_t i,
                                tacit_err *err)
{
    size_t bytes = source->tensors[i].bytes;
    tacit_status st = TACIT_OK;
    for (size_t at = 0, n; st == TACIT_OK && at < bytes; at += n) {
        n = bytes - at < CHUNK ? bytes - at : CHUNK;
        st = source->read(source->ctx, i, at, n, s->chunk, err);
        if (st == TACIT_OK)
            XXH3_128bits_update(s->hash, s->chunk, n);
    }
    return st;
}

/* Of a source whose tensors follow each other by name in `order`. */
static tacit_status hash_all(snapshot *s, const char *const *values,
                             const tacit_tensor_source *source, const size_t *order, char hex[HEX],
                             tacit_err *err)
{
    tacit_status st = TACIT_OK;
    XXH3_128bits_reset(s->hash);
    for (int k = 0; k < HASH; k++)
        hash_text(s, values[k]);
    for (size_t i = 0; st == TACIT_OK && i < source->count; i++) {
        hash_tensor(s, &source->tensors[order[i]]);
        st = hash_values(s, source, order[i], err);
    }
    XXH128_hash_t h = XXH3_128bits_digest(s->hash);
    snprintf(hex, HEX, "%016" PRIx64 "%016" PRIx64, (uint64_t)h.high64, (uint64_t)h.low64);
    return st;
}

/* Saving -------------------------------------------------------------------------------------- */

tacit_status tacit_snapshot_save(const char *path, tacit_engine *e, const char *config,
                                 tacit_err *err)
{
    snapshot s;
    char step[24], epoch[24], hex[HEX];
    const char *values[KEYS] = { FORMAT, e->method->name, step, epoch, config, hex };
    const char *metadata[2 * KEYS + 1];
    snprintf(step, sizeof step, "%" PRIu64, e->step);
    snprintf(epoch, sizeof epoch, "%" PRIu64, e->epoch_steps);
    tacit_status st = snapshot_open(&s, e, err);
    if (st == TACIT_OK) {
        tacit_tensor_source source = tacit_param_source_of(&s.tensors);
        hash_all(&s, values, &source, s.order, hex, NULL); /* reading memory does not fail */
        for (int k = 0; k < KEYS; k++) {
            metadata[2 * k] = keys[k];
            metadata[2 * k + 1] = values[k];
        }
        metadata[2 * KEYS] = NULL;
        st = tacit_safetensors_copy(path, &source, metadata, err);
    }
    snapshot_close(&s);
    return st;
}

/* Loading ------------------------------------------------------------------------------------- */

/* (3): whether these are the bytes that were saved, whatever they are of. */
static tacit_status check_hash(snapshot *s, const char *const *values,
                               const tacit_tensor_source *file, size_t *order, tacit_err *err)
{
    char hex[HEX];
    by_name(file->tensors, file->count, order);
    tacit_status st = hash_all(s, values, file, order, hex, err);
    return st == TACIT_OK && strcmp(hex, values[HASH])
               ? tacit_fail(err, TACIT_EFORMAT, "is damaged: its checksum is wrong")
               : st;
}

static tacit_status check_origin(const tacit_engine *e, const char *const *values, const char *path,
                                 tacit_err *err)
{
    if (strcmp(values[METHOD], e->method->name))
        return tacit_fail(err, TACIT_ECONFLICT, "is of a run of %.40s, not of %s", values[METHOD],
                          e->method->name);
    tacit_status st = tacit_config_compare(e->learner.config, values[CONFIG], path, err);
    if (st < 0)
        return st == TACIT_ENOMEM ? st : TACIT_ECONFLICT;
    if (e->epoch_steps && strtoull(values[EPOCH], NULL, 10) != e->epoch_steps)
        return tacit_fail(err, TACIT_ECONFLICT,
                          "was begun with %s steps to an epoch, not %" PRIu64
                          ": give the same images",
                          values[EPOCH], e->epoch_steps);
    return TACIT_OK;
}

/* The values of our tensors, which the file has, all of them and no others. `order` is that of its
 * names. */
static tacit_status copy_in(snapshot *s, const tacit_tensor_source *file, const size_t *order,
                            tacit_err *err)
{
    tacit_status st = TACIT_OK;
    for (size_t i = 0; st == TACIT_OK && i < s->tensors.count; i++) {
        const tacit_tensor *want = &s->tensors.tensors[s->order[i]],
                           *got = &file->tensors[order[i]];
        const tacit_param *p = s->tensors.params[s->order[i]];
        if (strcmp(got->name, want->name) || got->dtype != TACIT_F32 || got->rank != want->rank ||
            memcmp(got->shape, want->shape, want->rank * sizeof *want->shape))
            return tacit_fail(err, TACIT_EFORMAT, "has no %s of this shape", want->name);
        for (size_t at = 0, n; st == TACIT_OK && at < want->bytes; at += n) {
            n = want->bytes - at < CHUNK ? want->bytes - at : CHUNK;
            st = file->read(file->ctx, order[i], at, n, s->chunk, err);
            for (size_t k = 0; st == TACIT_OK && k < n / sizeof(float); k++)
                s->tensors.values[s->order[i]][tacit_param_place(p, at / sizeof(float) + k)] =
                    ((const float *)s->chunk)[k];
        }
    }
    return st;
}

static tacit_status load(snapshot *s, const tacit_safetensors *file, const char *path,
                         tacit_engine *e, tacit_err *err)
{
    const char *values[KEYS];
    tacit_tensor_source source = tacit_safetensors_source(file);
    for (int k = 0; k < KEYS; k++)
        if (!(values[k] = tacit_safetensors_metadata(file, keys[k])))
            return tacit_fail(err, TACIT_EFORMAT,
                              "is no checkpoint of tacit pretrain: it has no %s", keys[k]);
    if (strcmp(values[VERSION], FORMAT))
        return tacit_fail(err, TACIT_EUNSUPPORTED, "is a checkpoint of format %.20s, not " FORMAT,
                          values[VERSION]);
    size_t *order = tacit_calloc(source.count, sizeof *order);
    if (!order)
        return out_of_memory(err);
    tacit_status st = check_hash(s, values, &source, order, err);
    if (st == TACIT_OK)
        st = check_origin(e, values, path, err);
    if (st == TACIT_OK && source.count != s->tensors.count)
        st = tacit_fail(err, TACIT_EFORMAT, "holds %zu tensors, not %zu", source.count,
                        s->tensors.count);
    if (st == TACIT_OK)
        st = copy_in(s, &source, order, err);
    if (st == TACIT_OK)
        e->step = strtoull(values[STEP], NULL, 10);
    tacit_free(order);
    return st;
}

tacit_status tacit_snapshot_load(const char *path, tacit_engine *e, tacit_err *err)
{
    tacit_safetensors *file = NULL;
    snapshot s;
    tacit_status st = tacit_safetensors_open(&file, path, err);
    if (st < 0)
        return st;
    st = snapshot_open(&s, e, err);
    if (st == TACIT_OK && (st = load(&s, file, path, e, err)) < 0 && err &&
        !strstr(err->text, path))
        tacit_fail_at(err, st, "%s", path);
    snapshot_close(&s);
    tacit_safetensors_close(&file);
    return st;
}
