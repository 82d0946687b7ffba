/* sidecar.c - see sidecar.h.
 *
 * Where the keys come from: timm, data/config.py and models/_hub.py; transformers,
 * image_processing_utils.py and models/<name>/configuration_<name>.py; open_clip, factory.py.
 */
#include "sidecar.h"

#include "atomic_file.h"
#include "mem.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* A configuration with the names of 22000 classes has about 2 MiB. */
#define LIMIT    ((size_t)4 << 20)
#define MAX_SIDE 16384

struct reader {
    tacit_sidecar *to;
    const char *path, *name; /* of the file; name is its last part */
    tacit_err *err;
};

/* Values ----------------------------------------------------------------------------------------
 */

static tacit_status wrong(const struct reader *r, const char *key, const char *want)
{
    return tacit_fail(r->err, TACIT_EFORMAT,
                      "%s: \"%s\" is not %s; correct it or move the file away", r->path, key, want);
}

static tacit_status not_done(const struct reader *r, const char *what)
{
    return tacit_fail(r->err, TACIT_EUNSUPPORTED,
                      "%s: %s, which is not done here; move the file away and name the "
                      "preprocessing by options",
                      r->path, what);
}

/* Absent and null are the same: *out stays. A list is that of a network in stages: not for us. */
static tacit_status get_unsigned(const struct reader *r, const json_t *from, const char *key,
                                 unsigned *out)
{
    const json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v) || json_is_array(v))
        return TACIT_OK;
    json_int_t n = json_integer_value(v);
    if (!json_is_integer(v) || n < 1 || n > 65536)
        return wrong(r, key, "a whole number from 1 to 65536");
    *out = (unsigned)n;
    return TACIT_OK;
}

static tacit_status get_double(const struct reader *r, const json_t *from, const char *key,
                               double least, double most, double *out)
{
    const json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v))
        return TACIT_OK;
    double n = json_number_value(v);
    if (!json_is_number(v) || !(n >= least && n <= most))
        return wrong(r, key, "a number in its range");
    *out = n;
    return TACIT_OK;
}

static tacit_status get_bool(const struct reader *r, const json_t *from, const char *key, bool *out)
{
    const json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v))
        return TACIT_OK;
    if (!json_is_boolean(v))
        return wrong(r, key, "true or false");
    *out = json_is_true(v);
    return TACIT_OK;
}

static tacit_status get_text(const struct reader *r, const json_t *from, const char *key, char *out,
                             size_t size)
{
    const json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v))
        return TACIT_OK;
    const char *text = json_string_value(v);
    if (!text || strlen(text) >= size)
        return wrong(r, key, "a short text");
    snprintf(out, size, "%s", text);
    return TACIT_OK;
}

/* Three numbers, all above `least`. */
static tacit_status get_floats(const struct reader *r, const json_t *from, const char *key,
                               double least, float out[3], bool *said)
{
    const json_t *v = json_object_get(from, key);
    if (!v || json_is_null(v))
        return TACIT_OK;
    if (!json_is_array(v) || json_array_size(v) != 3)
        return wrong(r, key, "three numbers");
    for (size_t i = 0; i < 3; i++) {
        const json_t *x = json_array_get(v, i);
        if (!json_is_number(x) || !(json_number_value(x) > least && json_number_value(x) <= 1e6))
            return wrong(r, key, "three numbers in their range");
        out[i] = (float)json_number_value(x);
    }
    *said = true;
    return TACIT_OK;
}

/* n, or {"height": h, "width": w}; {"shortest_edge": n} with *edge. 0: not said. */
static tacit_status get_size(const struct reader *r, const json_t *from, const char *key,
                             unsigned size[2], unsigned *edge)
{
    const json_t *v = json_object_get(from, key);
    tacit_status st = TACIT_OK;
    if (!json_is_object(v)) {
        st = v && json_is_array(v) ? wrong(r, key, "a size") : get_unsigned(r, from, key, &size[0]);
        size[1] = size[0];
    } else if (edge && json_object_get(v, "shortest_edge")) {
        st = get_unsigned(r, v, "shortest_edge", edge);
    } else if ((st = get_unsigned(r, v, "height", &size[0])) >= 0 &&
               (st = get_unsigned(r, v, "width", &size[1])) >= 0 && (!size[0] || !size[1])) {
        st = not_done(r, "its size is neither height and width nor a shortest edge");
    }
    if (st >= 0 && (size[0] > MAX_SIDE || size[1] > MAX_SIDE || (edge && *edge > MAX_SIDE)))
        st = wrong(r, key, "a size of at most 16384 pixels");
    return st;
}

/* transformers' preprocessor_config.json --------------------------------------------------------
 */

static bool is_of(const char *type, const char *word)
{
    return strstr(type, word) != NULL;
}

/* Sizes of the resize and the crop to an input and a ratio. */
static tacit_status set_geometry(const struct reader *r, const unsigned resize[2],
                                 const unsigned crop[2], bool squash, bool floor_crop)
{
    tacit_published *p = &r->to->published;
    p->ratio = (double)resize[0] / crop[0];
    if (squash && floor(crop[1] * p->ratio + 1e-6) != resize[1])
        return not_done(r, "its size and crop_size differ in aspect");
    p->squash = squash;
    p->floor_crop = floor_crop;
    memcpy(r->to->hints.size, crop, sizeof r->to->hints.size);
    r->to->says.geometry = true;
    return TACIT_OK;
}

static tacit_status read_processor_size(const struct reader *r, const json_t *from,
                                        const char *type)
{
    unsigned size[2] = { 0 }, crop[2] = { 0 }, edge = 0;
    bool by_edge = is_of(type, "CLIP") || is_of(type, "Bit") || is_of(type, "ConvNext");
    bool do_resize = true, do_crop = is_of(type, "CLIP") || is_of(type, "Bit");
    double crop_pct = 224.0 / 256;
    tacit_status st;
    if ((st = get_bool(r, from, "do_resize", &do_resize)) < 0 ||
        (st = get_bool(r, from, "do_center_crop", &do_crop)) < 0 ||
        (st = get_size(r, from, "size", size, &edge)) < 0 ||
        (st = get_size(r, from, "crop_size", crop, NULL)) < 0 ||
        (st = get_double(r, from, "crop_pct", 0.01, 1, &crop_pct)) < 0)
        return st;
    if (by_edge && size[0] && size[0] == size[1] && json_is_integer(json_object_get(from, "size")))
        edge = size[0]; /* the old way to write it */
    if (!do_resize)
        return not_done(r, "\"do_resize\" is false");
    if (edge && is_of(type, "ConvNext")) { /* from 384 on it squashes and does not crop */
        unsigned longer = edge < 384 ? (unsigned)(edge / crop_pct) : edge;
        return set_geometry(r, (unsigned[]){ longer, longer }, (unsigned[]){ edge, edge },
                            edge >= 384, true);
    }
    if (edge && do_crop && crop[0] != crop[1])
        return not_done(r, "its shortest edge comes with a crop that is no square");
    if (edge && !(do_crop && crop[0]))
        return not_done(r, "it resizes and does not crop, so that each image has its own size");
    if (edge)
        return set_geometry(r, (unsigned[]){ edge, edge }, crop, false, true);
    if (!size[0])
        return TACIT_OK;
    return set_geometry(r, size, do_crop && crop[0] ? crop : size, true, true);
}

static tacit_status read_processor(const struct reader *r, const json_t *from)
{
    static const char *const filters[] = { "nearest", "lanczos", "bilinear",
                                           "bicubic", "box",     "hamming" };
    tacit_published *p = &r->to->published;
    char type[64] = "";
    unsigned resample = 0;
    bool do_rescale = true, do_normalize = true;
    double factor = 1.0 / 255;
    tacit_status st;
    const json_t *v = json_object_get(from, "resample");
    if ((st = get_text(r, from, "feature_extractor_type", type, sizeof type)) < 0 ||
        (st = get_text(r, from, "image_processor_type", type, sizeof type)) < 0 ||
        (st = get_bool(r, from, "do_rescale", &do_rescale)) < 0 ||
        (st = get_bool(r, from, "do_normalize", &do_normalize)) < 0 ||
        (st = get_double(r, from, "rescale_factor", 0, 1e6, &factor)) < 0 ||
        (st = get_floats(r, from, "image_mean", -1e6, p->mean, &r->to->says.mean)) < 0 ||
        (st = get_floats(r, from, "image_std", 0, p->std, &r->to->says.std)) < 0 ||
        (st = read_processor_size(r, from, type)) < 0)
        return st;
    if (v && !json_is_null(v)) {
        json_int_t n = json_integer_value(v);
        if (!json_is_integer(v) || n < 0 || n >= (json_int_t)(sizeof filters / sizeof *filters))
            return wrong(r, "resample", "a number from 0 to 5");
        resample = (unsigned)n;
        snprintf(r->to->filter, sizeof r->to->filter, "%s", filters[resample]);
        r->to->says.filter = true;
    }
    if (!do_rescale || fabs(factor * 255 - 1) > 1e-6)
        return not_done(r, "values are not rescaled by 1 / 255");
    if (!do_normalize) {
        memcpy(p->mean, (float[]){ 0, 0, 0 }, sizeof p->mean);
        memcpy(p->std, (float[]){ 1, 1, 1 }, sizeof p->std);
        r->to->says.mean = r->to->says.std = true;
    }
    /* The one that resizes floats; of the others the Pillow back end is the reference. */
    p->tensor = is_of(type, "DINOv3ViT");
    r->to->says.resampler = *type != 0;
    r->to->pixels = r->name;
    return TACIT_OK;
}

/* config.json ------------------------------------------------------------------------------------
 */

static tacit_status read_transformers(const struct reader *r, const json_t *from)
{
    tacit_hints *h = &r->to->hints;
    const json_t *tower = json_object_get(from, "vision_config");
    const json_t *c = json_is_object(tower) ? tower : from;
    double eps = 0;
    tacit_status st;
    if ((st = get_unsigned(r, c, "num_attention_heads", &h->heads)) < 0 ||
        (st = get_unsigned(r, c, "hidden_size", &r->to->dim)) < 0 ||
        (st = get_unsigned(r, c, "patch_size", &h->patch)) < 0 ||
        (st = get_double(r, c, "layer_norm_eps", 0, 1, &eps)) < 0 ||
        (st = get_text(r, c, "hidden_act", r->to->activation, sizeof r->to->activation)) < 0)
        return st;
    h->eps = (float)eps;
    h->activation = *r->to->activation ? r->to->activation : NULL;
    h->model_type = r->to->model_type;
    return TACIT_OK;
}

/* timm's resolve_data_config. Older files have the keys of pretrained_cfg at the top. */
static tacit_status read_timm(const struct reader *r, const json_t *from)
{
    tacit_sidecar *to = r->to;
    const json_t *nested = json_object_get(from, "pretrained_cfg");
    const json_t *c = json_is_object(nested) ? nested : from;
    char mode[16] = "center", pool[16] = "";
    double crop_pct = 0.875;
    tacit_status st;
    if ((st = get_unsigned(r, from, "num_features", &to->dim)) < 0 ||
        (st = get_text(r, from, "global_pool", pool, sizeof pool)) < 0 ||
        (st = get_double(r, c, "crop_pct", 0.01, 100, &crop_pct)) < 0 ||
        (st = get_text(r, c, "crop_mode", mode, sizeof mode)) < 0 ||
        (st = get_text(r, c, "interpolation", to->filter, sizeof to->filter)) < 0 ||
        (st = get_floats(r, c, "mean", -1e6, to->published.mean, &to->says.mean)) < 0 ||
        (st = get_floats(r, c, "std", 0, to->published.std, &to->says.std)) < 0)
        return st;
    to->hints.model_type = to->model_type;
    to->hints.timm = true;
    if (strstr(to->model_type, "quickgelu"))
        to->hints.activation = "quick_gelu";
    to->features = !strcmp(pool, "token") ? TACIT_FEATURES_CLS
                   : !strcmp(pool, "avg") ? TACIT_FEATURES_MEAN
                                          : -1;
    const json_t *size = json_object_get(c, "input_size");
    if (!size || json_is_null(size))
        return TACIT_OK;
    json_int_t side[3];
    for (size_t i = 0; i < 3; i++) {
        side[i] = json_integer_value(json_array_get(size, i));
        if (json_array_size(size) != 3 || side[i] < 1 || side[i] > MAX_SIDE)
            return wrong(r, "input_size", "channels, height and width");
    }
    if (strcmp(mode, "center") && strcmp(mode, "squash"))
        return not_done(r, "\"crop_mode\" is neither center nor squash");
    to->hints.size[0] = (unsigned)side[1];
    to->hints.size[1] = (unsigned)side[2];
    to->published.ratio = 1 / crop_pct;
    to->published.squash = !strcmp(mode, "squash");
    to->says.geometry = to->says.resampler = true;
    to->says.filter = *to->filter != 0;
    to->pixels = r->name;
    return TACIT_OK;
}

static tacit_status read_config(const struct reader *r, const json_t *from)
{
    tacit_status st = get_text(r, from, "model_type", r->to->model_type, sizeof r->to->model_type);
    if (st < 0 || *r->to->model_type)
        return st < 0 ? st : read_transformers(r, from);
    st = get_text(r, from, "architecture", r->to->model_type, sizeof r->to->model_type);
    return st < 0 || !*r->to->model_type ? st : read_timm(r, from);
}

static tacit_status read_open_clip(const struct reader *r, const json_t *from)
{
    tacit_sidecar *to = r->to;
    const json_t *model = json_object_get(from, "model_cfg"),
                 *tower = json_object_get(model, "vision_cfg"),
                 *pixels = json_object_get(from, "preprocess_cfg");
    char mode[16] = "shortest";
    bool quick = false;
    unsigned head = 64, size[2] = { 0 };
    tacit_status st;
    if ((st = get_bool(r, model, "quick_gelu", &quick)) < 0 ||
        (st = get_unsigned(r, tower, "width", &to->dim)) < 0 ||
        (st = get_unsigned(r, tower, "head_width", &head)) < 0 ||
        (st = get_size(r, tower, "image_size", size, NULL)) < 0 ||
        (st = get_text(r, pixels, "resize_mode", mode, sizeof mode)) < 0 ||
        (st = get_text(r, pixels, "interpolation", to->filter, sizeof to->filter)) < 0 ||
        (st = get_floats(r, pixels, "mean", -1e6, to->published.mean, &to->says.mean)) < 0 ||
        (st = get_floats(r, pixels, "std", 0, to->published.std, &to->says.std)) < 0)
        return st;
    if (strcmp(mode, "shortest") && strcmp(mode, "squash"))
        return not_done(r, "\"resize_mode\" is neither shortest nor squash");
    snprintf(to->activation, sizeof to->activation, "%s", quick ? "quick_gelu" : "gelu");
    to->hints.activation = to->activation;
    if (to->dim % head == 0)
        to->hints.heads = to->dim / head;
    to->says.filter = *to->filter != 0;
    to->pixels = r->name;
    return size[0] ? set_geometry(r, size, size, !strcmp(mode, "squash"), false) : TACIT_OK;
}

/* Files ------------------------------------------------------------------------------------------
 */

static tacit_status read_file(tacit_sidecar *to, const char *folder, size_t length,
                              const char *name,
                              tacit_status (*take)(const struct reader *, const json_t *),
                              tacit_err *err)
{
    size_t room = length + strlen(name) + 1, size;
    char *path = tacit_alloc(room), *text = NULL;
    if (!path)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory");
    snprintf(path, room, "%.*s%s", (int)length, folder, name);
    tacit_status st = TACIT_OK;
    json_t *value = NULL;
    json_error_t problem;
    struct reader r = { to, path, name, err };
    if (access(path, F_OK) || (st = tacit_file_read(path, LIMIT, &text, &size, err)) < 0)
        goto done;
    value = json_loadb(text, size, 0, &problem);
    if (value && !json_is_object(value))
        st = tacit_fail(err, TACIT_EFORMAT, "%s: is not a JSON object", path);
    else if (value)
        st = take(&r, value);
    else if (json_error_code(&problem) == json_error_out_of_memory)
        st = tacit_fail(err, TACIT_ENOMEM, "%s: out of memory", path);
    else
        st = tacit_fail(err, TACIT_EFORMAT, "%s: is not JSON: line %d: %.100s", path, problem.line,
                        problem.text);
done:
    json_decref(value);
    tacit_free(text);
    tacit_free(path);
    return st;
}

void tacit_sidecar_clear(tacit_sidecar *s)
{
    *s = (tacit_sidecar){ .features = -1 };
}

tacit_status tacit_sidecar_read(tacit_sidecar *s, const char *checkpoint, tacit_err *err)
{
    const char *slash = strrchr(checkpoint, '/'), *base = slash ? slash + 1 : checkpoint;
    size_t length = (size_t)(base - checkpoint);
    tacit_sidecar_clear(s);
    /* The hub's folders of CLIP models hold timm's files and open_clip's side by side. */
    if (!strncmp(base, "open_clip", 9))
        return read_file(s, checkpoint, length, "open_clip_config.json", read_open_clip, err);
    tacit_status st = read_file(s, checkpoint, length, "config.json", read_config, err);
    if (st >= 0 && !s->hints.timm)
        st = read_file(s, checkpoint, length, "preprocessor_config.json", read_processor, err);
    return st;
}

void tacit_sidecar_apply(const tacit_sidecar *s, tacit_published *p)
{
    const tacit_published *said = &s->published;
    if (s->says.geometry) {
        p->ratio = said->ratio;
        p->squash = said->squash;
        p->floor_crop = said->floor_crop;
    }
    if (s->says.resampler) {
        p->tensor = said->tensor;
        p->tensor_u8 = said->tensor_u8;
    }
    if (s->says.filter)
        p->filter = s->filter;
    if (s->says.mean)
        memcpy(p->mean, said->mean, sizeof p->mean);
    if (s->says.std)
        memcpy(p->std, said->std, sizeof p->std);
}
