/* canonical.c - see canonical.h. */
#include "canonical.h"

#include "extractor.h"
#include "meta.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

enum kind { NUMBER, POSITIVE, REAL, FLAG, CHOICE };

/* Choices are stored by name, so that their order may change. */
static const char *const activations[] = {
    [TACIT_GELU] = "gelu", [TACIT_QUICK_GELU] = "quick_gelu", [TACIT_SWIGLU] = "swiglu", NULL
};
static const char *const positions[] = { [TACIT_POSITION_TABLE] = "table",
                                         [TACIT_POSITION_ROTARY] = "rotary",
                                         [TACIT_POSITION_NONE] = "none",
                                         NULL };
static const char *const resamples[] = { [TACIT_RESAMPLE_REFUSE] = "refuse",
                                         [TACIT_RESAMPLE_BICUBIC] = "bicubic",
                                         [TACIT_RESAMPLE_OFFSET] = "offset",
                                         [TACIT_RESAMPLE_ANTIALIAS] = "antialias",
                                         [TACIT_RESAMPLE_BILINEAR] = "bilinear",
                                         [TACIT_RESAMPLE_GEOMETRIC] = "geometric",
                                         NULL };
static const char *const relatives[] = { [TACIT_RELATIVE_NONE] = "none",
                                         [TACIT_RELATIVE_SHARED] = "shared",
                                         [TACIT_RELATIVE_BLOCK] = "block",
                                         NULL };
static const char *const last_norms[] = {
    [TACIT_NORM_TOKENS] = "tokens", [TACIT_NORM_MEAN] = "mean", [TACIT_NORM_NONE] = "none", NULL
};

typedef struct field {
    const char *name;
    enum kind kind;
    size_t at, count; /* several numbers are a list */
    const char *const *choices;
} field;

#define ONE(type, member, kind, choices)                                                           \
    {                                                                                              \
#member, kind, offsetof(type, member), 1, choices                                          \
    }
#define LIST(type, member, kind, count)                                                            \
    {                                                                                              \
#member, kind, offsetof(type, member), count, NULL                                         \
    }

static const field vit_fields[] = {
    ONE(tacit_vit_config, dim, POSITIVE, NULL),
    ONE(tacit_vit_config, depth, POSITIVE, NULL),
    ONE(tacit_vit_config, heads, POSITIVE, NULL),
    ONE(tacit_vit_config, mlp, POSITIVE, NULL),
    ONE(tacit_vit_config, patch, POSITIVE, NULL),
    ONE(tacit_vit_config, height, POSITIVE, NULL),
    ONE(tacit_vit_config, width, POSITIVE, NULL),
    ONE(tacit_vit_config, eps, REAL, NULL),
    ONE(tacit_vit_config, layer_scale, FLAG, NULL),
    ONE(tacit_vit_config, no_cls, FLAG, NULL),
    ONE(tacit_vit_config, registers, NUMBER, NULL),
    ONE(tacit_vit_config, no_patch_bias, FLAG, NULL),
    ONE(tacit_vit_config, pre_norm, FLAG, NULL),
    ONE(tacit_vit_config, no_qkv_bias, FLAG, NULL),
    ONE(tacit_vit_config, qk_norm, FLAG, NULL),
    ONE(tacit_vit_config, activation, CHOICE, activations),
    ONE(tacit_vit_config, position, CHOICE, positions),
    ONE(tacit_vit_config, position_no_cls, FLAG, NULL),
    ONE(tacit_vit_config, relative, CHOICE, relatives),
    LIST(tacit_vit_config, grid, NUMBER, 2),
    ONE(tacit_vit_config, resample, CHOICE, resamples),
    ONE(tacit_vit_config, last_norm, CHOICE, last_norms),
    ONE(tacit_vit_config, projection, NUMBER, NULL),
};

static const field resnet_fields[] = {
    LIST(tacit_resnet_config, blocks, POSITIVE, 4),
    LIST(tacit_resnet_config, width, POSITIVE, 4),
    LIST(tacit_resnet_config, out, POSITIVE, 4),
    ONE(tacit_resnet_config, stem, POSITIVE, NULL),
    ONE(tacit_resnet_config, bottleneck, FLAG, NULL),
    ONE(tacit_resnet_config, small_stem, FLAG, NULL),
    ONE(tacit_resnet_config, height, POSITIVE, NULL),
    ONE(tacit_resnet_config, image_width, POSITIVE, NULL),
};

static const struct {
    const char *name;
    const field *fields;
    size_t count;
} families[] = {
    [TACIT_FAMILY_VIT] = { "vit", vit_fields, sizeof vit_fields / sizeof *vit_fields },
    [TACIT_FAMILY_RESNET] = { "resnet", resnet_fields,
                              sizeof resnet_fields / sizeof *resnet_fields },
};
#define FAMILIES (sizeof families / sizeof *families)

_Static_assert(sizeof(tacit_activation) == sizeof(unsigned), "an enum is read as unsigned");

static json_t *field_json(const field *f, const char *at)
{
    unsigned n[4] = { 0 };
    float real;
    bool flag;
    switch (f->kind) {
    case FLAG: memcpy(&flag, at, sizeof flag); return json_boolean(flag);
    case REAL: memcpy(&real, at, sizeof real); return json_real((double)real);
    default: memcpy(n, at, f->count * sizeof *n);
    }
    if (f->kind == CHOICE)
        return json_string(f->choices[n[0]]);
    if (f->count == 1)
        return json_integer(n[0]);
    return f->count == 2 ? json_pack("[i, i]", (int)n[0], (int)n[1])
                         : json_pack("[i, i, i, i]", (int)n[0], (int)n[1], (int)n[2], (int)n[3]);
}

static json_t *network_json(const tacit_backbone_config *config)
{
    bool vit = config->family == TACIT_FAMILY_VIT;
    const char *at = vit ? (const char *)&config->vit : (const char *)&config->resnet;
    json_t *network = json_pack("{s:s, s:s*}", "family", families[config->family].name, "name",
                                vit ? config->vit.name : config->resnet.name);
    for (size_t i = 0; network && i < families[config->family].count; i++) {
        const field *f = &families[config->family].fields[i];
        if (json_object_set_new(network, f->name, field_json(f, at + f->at))) {
            json_decref(network);
            network = NULL;
        }
    }
    return network;
}

static json_t *floats_json(const float v[3])
{
    return json_pack("[f, f, f]", (double)v[0], (double)v[1], (double)v[2]);
}

json_t *tacit_canonical_json(const tacit_dialect *d, const char *from, uint64_t hash)
{
    const tacit_published *p = &d->published;
    char hex[17];
    snprintf(hex, sizeof hex, "%016llx", (unsigned long long)hash);
    return json_pack(
        "{s:s, s:s, s:{s:s, s:o, s:s}, s:o, s:s, s:{s:f, s:b, s:b, s:b, s:b, s:s, s:o, "
        "s:o}}",
        "version", TACIT_VERSION, "dialect", d->name, "source", "prefix", d->prefix, "name",
        tacit_json_text(from), "xxh3", hex, "network", network_json(&d->config), "features",
        tacit_features_name(d->features), "preprocessing", "ratio", p->ratio, "squash",
        (int)p->squash, "tensor", (int)p->tensor, "tensor_u8", (int)p->tensor_u8, "floor_crop",
        (int)p->floor_crop, "filter", p->filter, "mean", floats_json(p->mean), "std",
        floats_json(p->std));
}

static bool take_number(const json_t *value, unsigned least, unsigned *n)
{
    json_int_t number = json_integer_value(value);
    *n = (unsigned)number;
    return json_is_integer(value) && number >= least && number <= 1 << 20;
}

/* False where the value is not of its kind. */
static bool take_field(const field *f, const json_t *value, char *at)
{
    unsigned n[4] = { 0 };
    if (f->kind == FLAG) {
        bool flag = json_is_true(value);
        memcpy(at, &flag, sizeof flag);
        return json_is_boolean(value);
    }
    if (f->kind == REAL) { /* eps */
        float real = (float)json_number_value(value);
        memcpy(at, &real, sizeof real);
        return json_is_number(value) && real > 0 && real < 1;
    }
    bool good = f->count == 1 || json_array_size(value) == f->count;
    if (f->kind == CHOICE) {
        const char *text = json_string_value(value);
        while (text && f->choices[n[0]] && strcmp(text, f->choices[n[0]]))
            n[0]++;
        good = text && f->choices[n[0]];
    } else {
        for (size_t i = 0; good && i < f->count; i++)
            good = take_number(f->count == 1 ? value : json_array_get(value, i),
                               f->kind == POSITIVE, &n[i]);
    }
    memcpy(at, n, f->count * sizeof *n);
    return good;
}

static bool take_network(const json_t *network, tacit_backbone_config *config)
{
    const char *family = json_string_value(json_object_get(network, "family")),
               *name = json_string_value(json_object_get(network, "name"));
    size_t k = 0;
    while (family && k < FAMILIES && strcmp(family, families[k].name))
        k++;
    if (!family || k == FAMILIES)
        return false;
    tacit_backbone_config named;
    bool known = name && tacit_backbone_find(name, &named) && named.family == (tacit_family)k;
    *config = (tacit_backbone_config){ .family = (tacit_family)k };
    bool vit = config->family == TACIT_FAMILY_VIT;
    char *at = vit ? (char *)&config->vit : (char *)&config->resnet;
    for (size_t i = 0; i < families[k].count; i++) {
        const field *f = &families[k].fields[i];
        if (!take_field(f, json_object_get(network, f->name), at + f->at))
            return false;
    }
    if (known && vit)
        config->vit.name = named.vit.name;
    else if (known)
        config->resnet.name = named.resnet.name;
    return true;
}

static bool take_floats(const json_t *list, float out[3])
{
    for (size_t i = 0; i < 3; i++) {
        const json_t *x = json_array_get(list, i);
        if (json_array_size(list) != 3 || !json_is_number(x))
            return false;
        out[i] = (float)json_number_value(x);
    }
    return true;
}

static bool take_all(const json_t *note, tacit_dialect *d, tacit_canonical *s)
{
    const char *name, *features, *filter;
    double ratio;
    int squash, tensor, tensor_u8, floor_crop;
    json_t *network, *mean, *std;
    if (json_unpack((json_t *)note, "{s:s, s:o, s:s, s:{s:F, s:b, s:b, s:b, s:b, s:s, s:o, s:o}}",
                    "dialect", &name, "network", &network, "features", &features, "preprocessing",
                    "ratio", &ratio, "squash", &squash, "tensor", &tensor, "tensor_u8", &tensor_u8,
                    "floor_crop", &floor_crop, "filter", &filter, "mean", &mean, "std", &std) ||
        !(ratio > 0.01 && ratio <= 100) || strlen(name) >= sizeof s->name ||
        strlen(filter) >= sizeof s->filter || !take_network(network, &d->config))
        return false;
    unsigned feature = 0;
    while (tacit_features_name(feature) && strcmp(tacit_features_name(feature), features))
        feature++;
    d->features = (tacit_features)feature;
    memcpy(s->name, name, strlen(name) + 1);
    memcpy(s->filter, filter, strlen(filter) + 1);
    d->name = s->name;
    d->published = (tacit_published){ .squash = squash,
                                      .tensor = tensor,
                                      .tensor_u8 = tensor_u8,
                                      .ratio = ratio,
                                      .floor_crop = floor_crop,
                                      .filter = s->filter };
    return tacit_features_name(feature) && take_floats(mean, d->published.mean) &&
           take_floats(std, d->published.std);
}

tacit_status tacit_canonical_parse(const char *note, tacit_dialect *d, tacit_canonical *strings,
                                   tacit_err *err)
{
    json_error_t problem;
    json_t *value = json_loads(note, 0, &problem);
    tacit_status st = TACIT_OK;
    if (!value && json_error_code(&problem) == json_error_out_of_memory)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory");
    else if (!value || !take_all(value, d, strings))
        st = tacit_fail(err, TACIT_EFORMAT,
                        "its note \"" TACIT_CANONICAL_KEY "\" of tacit convert is damaged");
    json_decref(value);
    return st;
}
