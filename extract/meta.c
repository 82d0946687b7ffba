/* meta.c - recipe and result as JSON. See meta.h. */
#include "meta.h"

#include "mem.h"

#include <stdio.h> /* before jpeglib.h, which needs it */

#include <jpeglib.h>
#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Length of the UTF-8 sequence at p, 0 where there is none (RFC 3629). */
static size_t utf8_length(const unsigned char *p)
{
    size_t n = p[0] < 0x80                   ? 1
               : p[0] >= 0xc2 && p[0] < 0xe0 ? 2
               : (p[0] & 0xf0) == 0xe0       ? 3
               : p[0] >= 0xf0 && p[0] < 0xf5 ? 4
                                             : 0;
    for (size_t i = 1; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    bool overlong = (p[0] == 0xe0 && p[1] < 0xa0) || (p[0] == 0xf0 && p[1] < 0x90);
    bool outside = (p[0] == 0xed && p[1] >= 0xa0) || (p[0] == 0xf4 && p[1] >= 0x90);
    return overlong || outside ? 0 : n;
}

json_t *tacit_json_text(const char *text)
{
    char *copy = tacit_alloc(3 * strlen(text) + 1), *out = copy;
    if (!copy)
        return NULL;
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = utf8_length(p);
        memcpy(out, n ? (const char *)p : "\xef\xbf\xbd", n ? n : 3);
        out += n ? n : 3;
        p += n ? n : 1;
    }
    *out = 0;
    json_t *value = json_string(copy);
    tacit_free(copy);
    return value;
}

char *tacit_json_quote(char *out, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    *out++ = '"';
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        size_t n = utf8_length(p);
        if (*p == '"' || *p == '\\') {
            *out++ = '\\';
        } else if (*p < 0x20) {
            memcpy(out, "\\u00", 4);
            out[4] = hex[*p >> 4];
            out[5] = hex[*p & 15];
            out += 6;
            p++;
            continue;
        }
        memcpy(out, n ? (const char *)p : "\xef\xbf\xbd", n ? n : 3);
        out += n ? n : 3;
        p += n ? n : 1;
    }
    *out++ = '"';
    *out = 0;
    return out;
}

json_t *tacit_json_copy(const json_t *value)
{
    json_t *copy = json_deep_copy(value);
    if (copy && !json_equal(copy, value)) {
        json_decref(copy);
        copy = NULL;
    }
    return copy;
}

struct text {
    char *bytes;
    size_t size, room;
    bool failed;
};

static int append(const char *bytes, size_t n, void *ctx)
{
    struct text *t = ctx;
    if (t->failed || n >= t->room - t->size) {
        size_t room = 2 * (t->size + n) + 4096;
        char *grown = t->failed ? NULL : tacit_realloc(t->bytes, t->size, room);
        t->failed = !grown;
        if (t->failed)
            return -1;
        t->bytes = grown;
        t->room = room;
    }
    memcpy(t->bytes + t->size, bytes, n);
    t->size += n;
    t->bytes[t->size] = 0;
    return 0;
}

/* json_dumps will not do: it passes over a failure inside of a key and leaves the key out. */
char *tacit_json_dump(const json_t *value, size_t flags)
{
    struct text t = { 0 };
    if (json_dump_callback(value, append, &t, flags) || t.failed) {
        tacit_free(t.bytes);
        return NULL;
    }
    return t.bytes;
}

static json_t *hash_json(const tacit_model *model)
{
    char text[17];
    snprintf(text, sizeof text, "%016llx", (unsigned long long)model->hash);
    return json_string(text);
}

/* The double with the fewest digits that is this float: 0.485, not 0.485000014. */
static double shortest(float value)
{
    char text[32];
    for (int digits = 6; digits <= 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, (double)value);
        if (strtof(text, NULL) == value)
            break;
    }
    return strtod(text, NULL);
}

static json_t *floats_json(const float *v)
{
    return json_pack("[f, f, f]", shortest(v[0]), shortest(v[1]), shortest(v[2]));
}

/* Where the input is, so that a resume elsewhere finds the same: its real path. */
static json_t *place_json(const char *path)
{
    char *real = strcmp(path, "-") ? realpath(path, NULL) : NULL;
    json_t *value = tacit_json_text(real ? real : path);
    free(real);
    return value;
}

json_t *tacit_preprocessing_json(const tacit_recipe *r)
{
    json_t *resize = r->resize_height == r->resize_width
                         ? json_integer((json_int_t)r->resize_height)
                         : json_pack("[i, i]", (int)r->resize_height, (int)r->resize_width);
    return json_pack(
        "{s:o, s:s, s:i, s:i, s:s, s:s, s:s, s:o, s:o, s:i}", "resize", resize, "crop_mode",
        tacit_crop_mode_name(r->squash ? TACIT_CROP_SQUASH : TACIT_CROP_CENTER), "height",
        (int)r->height, "width", (int)r->width, "crop_rounding", r->floor_crop ? "down" : "even",
        "filter", tacit_filter_name(r->filter), "resize_by", tacit_resampler_name(r->resampler),
        "mean", floats_json(r->mean), "std", floats_json(r->std), "pillow", (int)r->pillow);
}

json_t *tacit_recipe_json(const tacit_model *model, tacit_dtype dtype, const char *weights,
                          const char *images, tacit_dataset_kind kind, unsigned shard,
                          unsigned shards)
{
    char jpeg[32], slice[32];
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
    snprintf(jpeg, sizeof jpeg, "turbo %d.%d.%d", LIBJPEG_TURBO_VERSION_NUMBER / 1000000,
             LIBJPEG_TURBO_VERSION_NUMBER / 1000 % 1000, LIBJPEG_TURBO_VERSION_NUMBER % 1000);
#else
    snprintf(jpeg, sizeof jpeg, "%d", JPEG_LIB_VERSION);
#endif
    snprintf(slice, sizeof slice, "%u/%u", shard, shards);
    return json_pack("{s:s, s:{s:s, s:s, s:o, s:o, s:o*}, s:o, s:s, s:b, s:s, s:I, s:s, s:{s:s, "
                     "s:s}, s:{s:o, s:s, "
                     "s:s}}",
                     "tacit", TACIT_VERSION, "model", "arch", model->arch, "dialect",
                     model->dialect, "weights", tacit_json_text(weights), "weights_xxh3",
                     hash_json(model), "blocks", model->blocks ? json_integer(model->blocks) : NULL,
                     "preprocessing", tacit_preprocessing_json(&model->recipe), "features",
                     tacit_features_name(model->features), "normalize", (int)model->normalize,
                     "dtype", dtype == TACIT_F16 ? "f16" : "f32", "dim", (json_int_t)model->dim,
                     "precision", tacit_precision_name(model->precision), "libraries", "libjpeg",
                     jpeg, "libpng", png_get_libpng_ver(NULL), "input", "path", place_json(images),
                     "kind", tacit_dataset_kind_name(kind), "shard", slice);
}

json_t *tacit_meta_recipe(const json_t *meta)
{
    static const char *const keys[] = { "tacit", "model", "preprocessing", "features",  "normalize",
                                        "dtype", "dim",   "precision",     "libraries", "input" };
    json_t *recipe = json_object();
    for (size_t i = 0; recipe && i < sizeof keys / sizeof *keys; i++) {
        json_t *value = json_object_get(meta, keys[i]);
        if (value && json_object_set_new(recipe, keys[i], tacit_json_copy(value))) {
            json_decref(recipe);
            recipe = NULL;
        }
    }
    return recipe;
}

json_t *tacit_reasons_json(const uint64_t reasons[TACIT_REASONS])
{
    json_t *object = json_object();
    for (int i = 1; object && i < TACIT_REASONS; i++)
        if (reasons[i] && json_object_set_new(object, tacit_reason((tacit_status)-i),
                                              json_integer((json_int_t)reasons[i]))) {
            json_decref(object);
            object = NULL; /* and so is what it was to go into */
        }
    return object;
}

static json_t *counts_json(const tacit_run_result *result)
{
    return json_pack("{s:I, s:I, s:I, s:o, s:I}", "inputs", (json_int_t)result->inputs, "embedded",
                     (json_int_t)result->embedded, "unusable",
                     (json_int_t)(result->inputs - result->embedded), "reasons",
                     tacit_reasons_json(result->reasons), "resumed", (json_int_t)result->kept);
}

json_t *tacit_meta_json(const json_t *recipe, const tacit_model *model,
                        const tacit_threads *threads, const tacit_run_result *result)
{
    char cpu[128];
    tacit_cpu_name(cpu, sizeof cpu);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    json_t *rest =
        json_pack("{s:s, s:o, s:i, s:s, s:I, s:s, s:o, s:{s:f, s:f, s:f, s:f}, s:I}", "isa",
                  tacit_isa_name(model->kernels->isa), "cpu", tacit_json_text(cpu), "threads",
                  (int)threads->use, "threads_why", threads->why, "batch",
                  (json_int_t)result->batch, "mode", result->latency ? "latency" : "throughput",
                  "counts", counts_json(result), "times", "wall_s", result->wall, "decode_s",
                  result->times.decode, "preprocess_s", result->times.preprocess, "embed_s",
                  result->times.embed, "peak_bytes", (json_int_t)usage.ru_maxrss * 1024);
    json_t *meta = tacit_json_copy(recipe);
    if (!meta || !rest || json_object_update(meta, rest) ||
        (result->input_status < 0 &&
         json_object_set_new(meta, "input_error", tacit_json_text(result->input_error.text)))) {
        json_decref(meta);
        meta = NULL;
    }
    json_decref(rest);
    return meta;
}
