/* dialect.c - finds the network in a checkpoint and reads it under canonical names. See dialect.h.
 *
 * First every tensor that only one scheme has, its anchor, is looked for: what stands before it is
 * a way to a network. Of several ways the cheapest is taken. Then the scheme's rules give each
 * tensor on that way its canonical name, tensors that are parts of one are put together, and the
 * sizes are read off the result.
 */
#include "dialect.h"

#include "dialect_rules.h"
#include "mem.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_WAYS 64

/* One raw tensor's share of a canonical one. */
typedef struct share {
    char name[96]; /* canonical */
    enum part part;
    size_t raw;
} share;

enum origin {
    FROM_FILE, /* as it is */
    STACKED,   /* up to three raw tensors (or zeros), one after the other */
    MASKED,    /* the product of two */
    TURNED,    /* transposed */
    MADE_UP,   /* values of our own */
    FILLED,    /* one value for all: a tensor that is allowed to be missing */
};

typedef struct canonical {
    char name[96];
    enum origin origin;
    size_t raw[3]; /* SIZE_MAX: zeros */
    unsigned parts;
    float fill;
} canonical;

typedef struct state {
    tacit_tensor_source raw;
    canonical *items;
    tacit_tensor *tensors;
    size_t count;
    float *made; /* the rotary periods */
    char *text;  /* names of what is missing */
    const char **missing;
} state;

static bool starts_with(const char *text, const char *start)
{
    return !strncmp(text, start, strlen(start));
}

static bool ends_with(const char *text, const char *end)
{
    size_t n = strlen(text), m = strlen(end);
    return n >= m && !strcmp(text + n - m, end);
}

/* Whether the pattern, where a * at the end is any rest, is the whole text. */
static bool is_like(const char *text, const char *pattern)
{
    size_t n = strlen(pattern);
    return n && pattern[n - 1] == '*' ? !strncmp(text, pattern, n - 1) : !strcmp(text, pattern);
}

static bool is_any_of(const char *text, const char *const *patterns)
{
    for (; *patterns; patterns++)
        if (is_like(text, *patterns))
            return true;
    return false;
}

/* The same from the text's begin or behind any of its dots. */
static bool holds_any_of(const char *text, const char *const *patterns)
{
    for (; text; text = strchr(text, '.') ? strchr(text, '.') + 1 : NULL)
        if (is_any_of(text, patterns))
            return true;
    return false;
}

static bool ends_with_any_of(const char *text, const char *const *ends)
{
    for (; *ends; ends++)
        if (ends_with(text, *ends))
            return true;
    return false;
}

/* The way to the network ---------------------------------------------------------------------- */

typedef struct way {
    const scheme *scheme;
    const char *name; /* of which the first `length` characters lead to the network */
    size_t length;
    unsigned cost;
} way;

static unsigned cost_of(const char *name, size_t length)
{
    unsigned cost = 0;
    for (size_t at = 0; at < length;) {
        const char *dot = memchr(name + at, '.', length - at);
        size_t n = dot ? (size_t)(dot - name) - at : length - at;
        for (size_t w = 0; w < sizeof wrappers / sizeof wrappers[0]; w++)
            if (strlen(wrappers[w].word) == n && !memcmp(wrappers[w].word, name + at, n))
                cost += wrappers[w].cost;
        at += n + 1;
    }
    return cost;
}

/* Whether the way goes through `key`, whole words. */
static bool goes_through(const way *w, const char *key)
{
    size_t n = strlen(key);
    for (size_t at = 0; at + n < w->length; at++)
        if ((at == 0 || w->name[at - 1] == '.') && !memcmp(w->name + at, key, n) &&
            w->name[at + n] == '.')
            return true;
    return false;
}

/* Whether the way of that length leads to a tensor `end`, too. */
static bool has_beside(const tacit_tensor_source *raw, const char *name, size_t length,
                       const char *end)
{
    for (size_t i = 0; i < raw->count; i++)
        if (!strncmp(raw->tensors[i].name, name, length) &&
            !strcmp(raw->tensors[i].name + length, end))
            return true;
    return false;
}

static size_t find_ways(const tacit_tensor_source *raw, way ways[MAX_WAYS])
{
    size_t count = 0;
    for (size_t i = 0; i < raw->count && count < MAX_WAYS; i++) {
        const tacit_tensor *t = &raw->tensors[i];
        const scheme *found = NULL;
        size_t length = 0;
        for (size_t s = 0; s < SCHEMES; s++) {
            const char *anchor = schemes[s].anchor;
            size_t n = strlen(t->name), m = strlen(anchor);
            if (n < m || strcmp(t->name + n - m, anchor) || (n > m && t->name[n - m - 1] != '.') ||
                (found && m < strlen(found->anchor)))
                continue;
            if (ends_with(anchor, "weight") && (t->rank != 4 || t->shape[1] != 3))
                continue;
            if (schemes[s].beside && !has_beside(raw, t->name, n - m, schemes[s].beside))
                continue;
            found = &schemes[s];
            length = n - m;
        }
        if (found)
            ways[count++] = (way){ found, t->name, length, cost_of(t->name, length) };
    }
    return count;
}

/* Names --------------------------------------------------------------------------------------- */

/* Fits name to the rule; writes what it is called canonically. */
static bool apply_rule(const rule *r, const char *const *layers, const char *name, char *to,
                       size_t size)
{
    const char *from = r->from;
    unsigned long numbers[2] = { 0 };
    unsigned count = 0;
    if (*from == '#') {
        for (; *layers && !starts_with(name, *layers); layers++)
            ;
        if (!*layers)
            return false;
        name += strlen(*layers);
    }
    for (; *from && *from != '*'; from++) {
        if (*from != '#') {
            if (*name++ != *from)
                return false;
            continue;
        }
        if (*name < '0' || *name > '9' || (*name == '0' && name[1] >= '0' && name[1] <= '9'))
            return false;
        unsigned long x = 0;
        for (; *name >= '0' && *name <= '9' && x < 10000; name++)
            x = 10 * x + (unsigned long)(*name - '0');
        if (from[1] == '+' || from[1] == '-') {
            unsigned long by = (unsigned long)(from[2] - '0');
            if (from[1] == '-' && x < by)
                return false;
            x = from[1] == '+' ? x + by : x - by;
            from += 2;
        }
        numbers[count++ % 2] = x;
    }
    if (*from == '*' ? !*name || strchr(name, '.') != NULL : *name != 0)
        return false;
    size_t n = 0;
    count = 0;
    for (const char *t = r->to ? r->to : r->from; *t && n < size; t++) {
        if (*t == '#')
            n += (size_t)snprintf(to + n, size - n, "%lu", numbers[count++ % 2]);
        else if (*t == '*')
            n += (size_t)snprintf(to + n, size - n, "%s", name);
        else
            to[n++] = *t;
    }
    if (n >= size)
        return false;
    to[n] = 0;
    return true;
}

/* transformers' names begin differently where a layer's rule is tried with each of several
 * beginnings: "encoder." also begins "encoder.layer.". */
static const rule *find_rule(const scheme *s, const char *name, char *to, size_t size)
{
    for (const rule *r = s->rules; r->from; r++) {
        if (*r->from != '#') {
            if (apply_rule(r, NULL, name, to, size))
                return r;
            continue;
        }
        for (const char *const *layer = s->layers; *layer; layer++) {
            const char *const one[] = { *layer, NULL };
            if (apply_rule(r, one, name, to, size))
                return r;
        }
    }
    return NULL;
}

/* DINOv2's chunks of blocks: "blocks.<chunk>.<block>." is "blocks.<block>.". */
static const char *without_chunk(const char *name, char *buffer, size_t size)
{
    unsigned long chunk, block;
    int at = 0;
    if (sscanf(name, "blocks.%lu.%lu.%n", &chunk, &block, &at) != 2 || !at)
        return name;
    snprintf(buffer, size, "blocks.%lu.%s", block, name + at);
    return buffer;
}

/* The name of a raw tensor relative to the network; NULL where it belongs to something else. The
 * final norm of transformers' masked models stands beside the network. */
static const char *relative_name(const way *w, const char *name)
{
    if (!strncmp(name, w->name, w->length))
        return name + w->length;
    size_t up = w->length;
    while (up > 1 && w->name[up - 2] != '.')
        up--;
    if (w->length && up)
        up--;
    if ((w->scheme == &schemes[TRANSFORMERS] || w->scheme == &schemes[DINOV3]) && w->length &&
        !strncmp(name, w->name, up) && starts_with(name + up, "layernorm."))
        return name + up;
    if (w->scheme == &schemes[CLIP] && ends_with(name, "visual_projection.weight"))
        return "visual_projection.weight";
    return NULL;
}

/* Canonical tensors --------------------------------------------------------------------------- */

static int by_share(const void *a, const void *b)
{
    const share *x = a, *y = b;
    int names = strcmp(x->name, y->name);
    return names ? names : (int)x->part - (int)y->part;
}

static bool same_type(const tacit_tensor *a, const tacit_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank &&
           !memcmp(a->shape, b->shape, a->rank * sizeof *a->shape);
}

/* One canonical tensor of its n shares, which are in the order of their parts. */
static tacit_status put_together(state *s, const share *shares, size_t n, tacit_err *err)
{
    canonical *c = &s->items[s->count];
    tacit_tensor *t = &s->tensors[s->count];
    const tacit_tensor *first = &s->raw.tensors[shares[0].raw];
    *c = (canonical){ .raw = { shares[0].raw, SIZE_MAX, SIZE_MAX } };
    memcpy(c->name, shares[0].name, sizeof c->name);
    *t = *first;
    t->name = c->name;
    enum part part = shares[0].part, last = shares[n - 1].part;
    bool fits = true;
    if (n == 1 && (part == WHOLE || part == UP)) {
        c->origin = FROM_FILE;
    } else if (n == 1 && part == TRANSPOSED) {
        c->origin = TURNED;
        fits = t->rank == 2;
        t->shape[0] = first->shape[1];
        t->shape[1] = first->shape[0];
    } else if (n == 2 && part == WHOLE && last == MASK) {
        const tacit_tensor *mask = &s->raw.tensors[shares[1].raw];
        c->origin = MASKED;
        c->raw[1] = shares[1].raw;
        fits = t->rank == 1 && mask->rank == 1 && mask->shape[0] == t->shape[0];
        t->dtype = TACIT_F32;
        t->bytes = t->shape[0] * sizeof(float);
    } else if (part >= Q && part <= UP && last <= UP && (part <= V) == (last <= V)) {
        enum part base = part <= V ? Q : GATE;
        c->origin = STACKED;
        c->parts = base == Q ? 3 : 2;
        c->raw[0] = SIZE_MAX;
        for (size_t i = 0; i < n; i++) {
            size_t *slot = &c->raw[shares[i].part - base];
            fits = fits && *slot == SIZE_MAX && same_type(first, &s->raw.tensors[shares[i].raw]);
            *slot = shares[i].raw;
        }
        /* Only k may be missing, and only its bias. */
        for (unsigned i = 0; i < c->parts; i++)
            fits = fits && (c->raw[i] != SIZE_MAX || (base == Q && i == 1 && t->rank == 1));
        fits = fits && t->rank >= 1 && tacit_mul_size(first->bytes, c->parts, &t->bytes);
        if (fits)
            t->shape[0] *= c->parts;
    } else {
        fits = false;
    }
    if (!fits)
        return tacit_fail(err, TACIT_EFORMAT,
                          "tensors of the file do not make one %s: %s and %zu more", c->name,
                          first->name, n - 1);
    /* Tokens are (1, n, D), however many of the ones are written. */
    if (ends_with(c->name, "_token") || ends_with(c->name, "pos_embed"))
        while (t->rank && t->rank < 3) {
            memmove(t->shape + 1, t->shape, t->rank * sizeof *t->shape);
            t->shape[0] = 1;
            t->rank++;
        }
    s->count++;
    return TACIT_OK;
}

static float value_of(const unsigned char *bytes, tacit_dtype dtype, size_t i)
{
    float x = 0;
    if (dtype == TACIT_F32) {
        memcpy(&x, bytes + 4 * i, 4);
    } else if (dtype == TACIT_BF16) {
        uint32_t bits = (uint32_t)bytes[2 * i + 1] << 24 | (uint32_t)bytes[2 * i] << 16;
        memcpy(&x, &bits, 4);
    } else if (dtype == TACIT_F16) {
        int bits = bytes[2 * i + 1] << 8 | bytes[2 * i], exponent = bits >> 10 & 31;
        int fraction = bits & 0x3ff;
        x = exponent == 31 ? fraction ? NAN : INFINITY
                           : ldexpf((float)(exponent ? fraction + 1024 : fraction),
                                    (exponent ? exponent : 1) - 25);
        x = bits >> 15 ? -x : x;
    }
    return x;
}

/* A tensor that is not in the file as it is, whole. */
static tacit_status make_values(const state *s, size_t at, unsigned char *to, tacit_err *err)
{
    const canonical *c = &s->items[at];
    const tacit_tensor *t = &s->tensors[at], *a = &s->raw.tensors[c->raw[0]];
    const tacit_tensor *b = c->origin == MASKED ? &s->raw.tensors[c->raw[1]] : NULL;
    unsigned char *left = tacit_alloc(a->bytes), *right = b ? tacit_alloc(b->bytes) : NULL;
    tacit_status st = !left || (b && !right)
                          ? tacit_fail(err, TACIT_ENOMEM, "out of memory for %s", c->name)
                          : s->raw.read(s->raw.ctx, c->raw[0], 0, a->bytes, left, err);
    if (st == TACIT_OK && b)
        st = s->raw.read(s->raw.ctx, c->raw[1], 0, b->bytes, right, err);
    size_t width = tacit_dtype_size(t->dtype);
    if (st == TACIT_OK && c->origin == TURNED)
        for (size_t i = 0; i < t->shape[0]; i++)
            for (size_t k = 0; k < t->shape[1]; k++)
                memcpy(to + (i * t->shape[1] + k) * width, left + (k * t->shape[0] + i) * width,
                       width);
    if (st == TACIT_OK && c->origin == MASKED)
        for (size_t i = 0; i < t->shape[0]; i++) {
            /* Where the mask is zero the bias may be anything, as NaN in files of DINOv3. */
            float mask = value_of(right, b->dtype, i);
            float x = mask == 0 ? 0 : value_of(left, a->dtype, i) * mask;
            memcpy(to + i * sizeof x, &x, sizeof x);
        }
    tacit_free(left);
    tacit_free(right);
    return st;
}

static tacit_status read_canonical(void *ctx, size_t at, size_t offset, size_t size, void *dst,
                                   tacit_err *err)
{
    const state *s = ctx;
    const canonical *c = &s->items[at];
    const tacit_tensor *t = &s->tensors[at];
    unsigned char *to = dst;
    switch (c->origin) {
    case FROM_FILE: return s->raw.read(s->raw.ctx, c->raw[0], offset, size, dst, err);
    case STACKED: {
        size_t each = t->bytes / c->parts;
        while (size) {
            size_t part = offset / each, within = offset % each;
            size_t n = each - within < size ? each - within : size;
            tacit_status st = TACIT_OK;
            if (c->raw[part] == SIZE_MAX)
                memset(to, 0, n);
            else
                st = s->raw.read(s->raw.ctx, c->raw[part], within, n, to, err);
            if (st < 0)
                return st;
            to += n;
            offset += n;
            size -= n;
        }
        return TACIT_OK;
    }
    case MADE_UP: memcpy(dst, (unsigned char *)s->made + offset, size); return TACIT_OK;
    case FILLED:
        for (size_t i = 0; i < size; i++) {
            unsigned char bytes[4];
            memcpy(bytes, &c->fill, 4);
            to[i] = bytes[(offset + i) % 4];
        }
        return TACIT_OK;
    default: {
        unsigned char *all = tacit_alloc(t->bytes);
        if (!all)
            return tacit_fail(err, TACIT_ENOMEM, "out of memory for %s", c->name);
        tacit_status st = make_values(s, at, all, err);
        if (st == TACIT_OK)
            memcpy(dst, all + offset, size);
        tacit_free(all);
        return st;
    }
    }
}

static const tacit_tensor *find(const state *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->tensors[i].name, name))
            return &s->tensors[i];
    return NULL;
}

/* What was published -------------------------------------------------------------------------- */

static const float imagenet_mean[3] = { 0.485f, 0.456f, 0.406f };
static const float imagenet_std[3] = { 0.229f, 0.224f, 0.225f };
static const float swav_std[3] = { 0.228f, 0.224f, 0.225f }; /* eval_linear.py */
static const float half[3] = { 0.5f, 0.5f, 0.5f };
static const float clip_mean[3] = { 0.48145466f, 0.4578275f, 0.40821073f };
static const float clip_std[3] = { 0.26862954f, 0.26130258f, 0.27577711f };

/* The facts of a family of files. */
typedef struct family {
    const char *name;
    tacit_features features;
    float eps;
    tacit_resample resample;
    unsigned size; /* of the input; 0: that of the position table */
    tacit_published pixels;
} family;

static void set_pixels(tacit_published *p, bool squash, double ratio, const char *filter,
                       const float mean[3], const float std[3])
{
    *p = (tacit_published){ .squash = squash, .ratio = ratio, .filter = filter };
    memcpy(p->mean, mean, sizeof p->mean);
    memcpy(p->std, std, sizeof p->std);
}

#define RATIO (256.0 / 224.0)

/* Everything that the tensors' names say about who wrote them. */
typedef struct signs {
    const state *s;
    const way *w;
    const tacit_tensor_source *raw;
} signs;

static bool has(const signs *g, const char *name)
{
    return find(g->s, name) != NULL;
}

/* Whether the file has a tensor of that name beside the network's, or on its way. */
static bool has_raw(const signs *g, const char *name)
{
    for (size_t i = 0; i < g->raw->count; i++) {
        const char *r = relative_name(g->w, g->raw->tensors[i].name);
        if (r && is_like(r, name))
            return true;
    }
    return false;
}

/* Whether the file has a tensor that is called so behind its wrappers. */
static bool has_beside_raw(const signs *g, const char *name)
{
    for (size_t i = 0; i < g->raw->count; i++)
        if (ends_with(g->raw->tensors[i].name, name))
            return true;
    return false;
}

static bool on_way(const signs *g, const char *word)
{
    return goes_through(g->w, word);
}

static family tell_transformers(const signs *g, const tacit_hints *hints)
{
    family f = { "transformers ViT", TACIT_FEATURES_CLS, 1e-12f, TACIT_RESAMPLE_BICUBIC, 0, { 0 } };
    set_pixels(&f.pixels, true, 1, "bilinear", half, half);
    bool scale = has(g, "blocks.0.ls1.gamma"), cls = has(g, "cls_token");
    if (g->w->scheme == &schemes[DINOV3]) {
        f = (family){
            "transformers DINOv3ViT", TACIT_FEATURES_CLS, 1e-5f, TACIT_RESAMPLE_REFUSE, 224, { 0 }
        };
        set_pixels(&f.pixels, true, 1, "bilinear", imagenet_mean, imagenet_std);
        f.pixels.tensor = true;
    } else if (!has(g, "pos_embed") || has(g, "rel_pos_bias.relative_position_bias_table") ||
               has(g, "blocks.0.attn.relative_position_bias_table")) {
        f.name = "transformers Beit";
        f.features = has(g, "fc_norm.weight") ? TACIT_FEATURES_MEAN : TACIT_FEATURES_CLS;
        f.resample = TACIT_RESAMPLE_BILINEAR;
        set_pixels(&f.pixels, false, RATIO, "bicubic", half, half);
    } else if (scale) {
        bool registers = has(g, "reg_token");
        f.name = registers ? "transformers Dinov2WithRegisters" : "transformers Dinov2";
        f.eps = 1e-6f;
        f.size = 224;
        f.resample = registers ? TACIT_RESAMPLE_ANTIALIAS : TACIT_RESAMPLE_BICUBIC;
        set_pixels(&f.pixels, false, RATIO, "bicubic", imagenet_mean, imagenet_std);
    } else if (!cls) {
        f.name = "transformers IJepa";
        f.features = TACIT_FEATURES_MEAN;
    } else if (on_way(g, "vit_mae") ||
               (hints->model_type && !strcmp(hints->model_type, "vit_mae")) ||
               has_raw(g, "embeddings.mask_token")) {
        f.name = "transformers ViTMAE";
        set_pixels(&f.pixels, false, RATIO, "bicubic", imagenet_mean, imagenet_std);
    }
    return f;
}

static family tell_timm(const signs *g, char *note, size_t size)
{
    family f = { "timm", TACIT_FEATURES_CLS, 1e-6f, TACIT_RESAMPLE_ANTIALIAS, 0, { 0 } };
    const tacit_tensor *mask = NULL;
    for (size_t i = 0; i < g->raw->count && !mask; i++) {
        const char *r = relative_name(g->w, g->raw->tensors[i].name);
        if (r && !strcmp(r, "mask_token"))
            mask = &g->raw->tensors[i];
    }
    bool relative = has(g, "rel_pos_bias.relative_position_bias_table") ||
                    has(g, "blocks.0.attn.relative_position_bias_table");
    set_pixels(&f.pixels, false, RATIO, "bicubic", imagenet_mean, imagenet_std);
    if (has_beside_raw(g, "quantize.embedding.weight")) {
        f.name = "BEiT v2's tokenizer, VQ-KD";
        f.resample = TACIT_RESAMPLE_OFFSET;
        set_pixels(&f.pixels, false, RATIO, "bicubic", half, half);
    } else if (has(g, "rope.periods")) {
        f.name = "DINOv3";
        f.eps = 1e-5f;
        f.size = 256;
        set_pixels(&f.pixels, true, 1, "bilinear", imagenet_mean, imagenet_std);
        f.pixels.tensor = f.pixels.tensor_u8 = true;
    } else if (!has(g, "pos_embed") && has(g, "reg_token") && !relative) {
        f.name = "timm DINOv3";
        f.eps = 1e-5f;
        f.size = 256;
        set_pixels(&f.pixels, false, 1, "bicubic", imagenet_mean, imagenet_std);
    } else if (relative) {
        bool v2 = has_raw(g, "cls_pt_layers.*"), simmim = on_way(g, "encoder");
        f.name = simmim ? "SimMIM" : v2 ? "BEiT v2" : "BEiT";
        f.resample = TACIT_RESAMPLE_GEOMETRIC;
        f.features = simmim || has(g, "fc_norm.weight") ? TACIT_FEATURES_MEAN : TACIT_FEATURES_CLS;
        if (!simmim && !v2) {
            set_pixels(&f.pixels, false, RATIO, "bicubic", half, half);
            snprintf(note, size,
                     "BEiT and BEiT v2 cannot be told apart here: mean and std 0.5 of "
                     "BEiT are used; BEiT v2 wants ImageNet's");
        }
    } else if (!has(g, "cls_token")) {
        f.name = "I-JEPA";
        f.features = TACIT_FEATURES_MEAN;
        f.resample = TACIT_RESAMPLE_BICUBIC;
    } else if (has_raw(g, "register_tokens")) {
        f.name = "DINOv2 with registers";
        f.size = 224;
    } else if (has(g, "blocks.0.ls1.gamma") &&
               ((mask && mask->rank == 2) || on_way(g, "teacher"))) {
        f.name = "DINOv2";
        f.resample = TACIT_RESAMPLE_OFFSET;
        f.size = 224;
    } else if (on_way(g, "base_encoder") || on_way(g, "momentum_encoder")) {
        f.name = "MoCo v3";
        f.resample = TACIT_RESAMPLE_BICUBIC;
        set_pixels(&f.pixels, false, RATIO, "bilinear", imagenet_mean, imagenet_std);
    } else if (on_way(g, "teacher") || on_way(g, "student")) {
        f.name = "DINO";
        f.resample = TACIT_RESAMPLE_OFFSET;
    } else if (on_way(g, "model_state")) {
        f.name = "MaskFeat";
        f.resample = TACIT_RESAMPLE_BICUBIC;
        f.features = TACIT_FEATURES_MEAN;
    } else if (mask || has_raw(g, "decoder*")) {
        f.name = "MAE";
        f.resample = TACIT_RESAMPLE_BICUBIC;
    } else if (has(g, "fc_norm.weight")) {
        f.name = "MAE, fine-tuned";
        f.features = TACIT_FEATURES_MEAN;
        f.resample = TACIT_RESAMPLE_BICUBIC;
    } else if (has(g, "norm_pre.weight")) {
        f.name = "timm CLIP";
        f.eps = 1e-5f;
        set_pixels(&f.pixels, false, 1 / 0.9, "bicubic", clip_mean, clip_std);
    } else if (has(g, "blocks.0.ls1.gamma")) {
        /* timm's DINOv2 runs at the size of its table. */
        set_pixels(&f.pixels, false, 1, "bicubic", imagenet_mean, imagenet_std);
    } else if (has_raw(g, "head.*")) {
        set_pixels(&f.pixels, false, 1 / 0.9, "bicubic", half, half);
    } else {
        f.name = "timm or DINO";
        f.resample = TACIT_RESAMPLE_OFFSET;
        snprintf(note, size,
                 "headless files of timm's ViT and of DINO look the same: DINO's "
                 "preprocessing is used (resize 256 bicubic, crop 224, ImageNet mean "
                 "and std)");
    }
    return f;
}

static family tell_family(const signs *g, const tacit_hints *hints, char *note, size_t size)
{
    family f = { "mmpretrain", TACIT_FEATURES_CLS, 1e-6f, TACIT_RESAMPLE_BICUBIC, 0, { 0 } };
    switch (g->w->scheme - schemes) {
    case TIMM:
        f = tell_timm(g, note, size);
        if (hints->timm) { /* whoever trained it: timm's ways, and nothing to guess */
            f.name = "timm";
            if (f.resample != TACIT_RESAMPLE_GEOMETRIC)
                f.resample = TACIT_RESAMPLE_ANTIALIAS;
            note[0] = 0;
        }
        return f;
    case TRANSFORMERS:
    case DINOV3: return tell_transformers(g, hints);
    case TORCHVISION:
        f.name = "torchvision";
        f.resample = TACIT_RESAMPLE_REFUSE;
        set_pixels(&f.pixels, false, RATIO, "bilinear", imagenet_mean, imagenet_std);
        return f;
    case OPEN_CLIP:
    case CLIP:
        f.name = g->w->scheme == &schemes[CLIP] ? "transformers CLIP" : "open_clip";
        f.eps = 1e-5f;
        f.resample =
            g->w->scheme == &schemes[CLIP] ? TACIT_RESAMPLE_BICUBIC : TACIT_RESAMPLE_ANTIALIAS;
        set_pixels(&f.pixels, false, 1, "bicubic", clip_mean, clip_std);
        if (!hints->activation)
            snprintf(note, size,
                     "the file does not say which GELU this CLIP has: the exact one is "
                     "used; OpenAI's own weights want quick_gelu");
        return f;
    case RESNET:
    case LIGHTLY:
    case TRANSFORMERS_RESNET: {
        bool hub = g->w->scheme == &schemes[TRANSFORMERS_RESNET];
        /* facebookresearch/swav: of SwAV prototypes.weight, of DeepCluster v2, with several heads,
         * prototypes.prototypes0.weight and so on. */
        bool swav = has_raw(g, "projection_head.*") && has_raw(g, "prototypes.*");
        bool heads = has_raw(g, "prototypes.prototypes0.weight");
        f.name = hub                                 ? "transformers ResNet"
                 : g->w->scheme == &schemes[LIGHTLY] ? "lightly ResNet"
                 : on_way(g, "encoder_q")            ? "MoCo v2"
                 : swav && heads                     ? "DeepCluster v2"
                 : swav                              ? "SwAV"
                                                     : "ResNet";
        f.features = TACIT_FEATURES_MEAN;
        set_pixels(&f.pixels, false, RATIO, hub ? "bicubic" : "bilinear", imagenet_mean,
                   swav ? swav_std : imagenet_std);
        return f;
    }
    default: set_pixels(&f.pixels, false, RATIO, "bicubic", imagenet_mean, imagenet_std); return f;
    }
}

/* DINOv3's rotary periods where the file does not hold them: 100^(2 k / (hd / 2)), in float as
 * transformers and timm compute them. */
static tacit_status add_periods(state *s, unsigned head, tacit_err *err)
{
    size_t n = head / 4;
    s->made = tacit_calloc(n ? n : 1, sizeof *s->made);
    if (!s->made)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for the rotary periods");
    for (size_t k = 0; k < n; k++)
        s->made[k] = (float)pow(100.0, (double)(2 * k) / (double)(head / 2));
    canonical *c = &s->items[s->count];
    *c = (canonical){ .name = "rope.periods", .origin = MADE_UP };
    s->tensors[s->count++] = (tacit_tensor){
        .name = c->name, .dtype = TACIT_F32, .rank = 1, .shape = { n }, .bytes = 4 * n
    };
    return TACIT_OK;
}

/* Configuration ------------------------------------------------------------------------------- */

static tacit_status check_arch(const char *arch, tacit_backbone_config *config, tacit_err *err)
{
    tacit_backbone_config named;
    if (!tacit_backbone_find(arch, &named))
        return tacit_fail(err, TACIT_EINVAL,
                          "unknown architecture '%s': use timm's name, such as %s", arch,
                          tacit_vit_row(0)->name);
    if (named.family != config->family ||
        (named.family == TACIT_FAMILY_RESNET &&
         (memcmp(named.resnet.blocks, config->resnet.blocks, sizeof named.resnet.blocks) ||
          memcmp(named.resnet.out, config->resnet.out, sizeof named.resnet.out))))
        return tacit_fail(err, TACIT_EINVAL, "not %s: the tensors are those of another network",
                          arch);
    if (named.family == TACIT_FAMILY_RESNET)
        return TACIT_OK;
    const tacit_vit_config *row = &named.vit;
    tacit_vit_config *c = &config->vit;
    if (row->dim != c->dim || row->depth != c->depth || row->mlp != c->mlp ||
        row->patch != c->patch)
        return tacit_fail(err, TACIT_EINVAL,
                          "not %s: the tensors have dim %u, depth %u, mlp %u and patch %u, which "
                          "has %u, %u, %u and %u",
                          arch, c->dim, c->depth, c->mlp, c->patch, row->dim, row->depth, row->mlp,
                          row->patch);
    c->name = row->name;
    c->heads = row->heads;
    return TACIT_OK;
}

static tacit_status configure(tacit_dialect *d, const signs *g, const tacit_dialect_options *o,
                              tacit_err *err)
{
    state *s = d->state;
    const tacit_hints *h = &o->hints;
    family f = tell_family(g, h, d->note, sizeof d->note);
    d->name = f.name;
    d->features = f.features;
    d->published = f.pixels;
    d->published.floor_crop = starts_with(f.name, "transformers");
    tacit_backbone_config *config = &d->config;
    tacit_status st = TACIT_OK;
    if (g->w->scheme >= &schemes[RESNET]) {
        tacit_tensor_source all = { s->tensors, s->count, read_canonical, s };
        config->family = TACIT_FAMILY_RESNET;
        st = tacit_resnet_detect(&all, &config->resnet, err);
        if (st == TACIT_OK && o->arch)
            st = check_arch(o->arch, config, err);
        if (st == TACIT_OK && h->size[0])
            st = tacit_resnet_set_input(&config->resnet, h->size[0], h->size[1], err);
        if (st == TACIT_OK && config->resnet.small_stem)
            d->published.ratio = 1;
        return st;
    }
    if (!find(s, "pos_embed") && find(s, "reg_token") && !find(s, "rope.periods")) {
        const tacit_tensor *norm = find(s, "blocks.0.norm1.weight");
        unsigned dim =
            norm && norm->rank == 1 && norm->shape[0] <= 16384 ? (unsigned)norm->shape[0] : 0;
        /* Heads of 64, but for the narrow variants that say so. */
        unsigned heads = h->heads ? h->heads : dim / 64;
        st = heads && dim % heads == 0 && dim / heads % 4 == 0
                 ? add_periods(s, dim / heads, err)
                 : tacit_fail(err, TACIT_EUNSUPPORTED,
                              "the number of heads cannot be told from the tensors");
        if (st < 0)
            return st;
    }
    tacit_tensor_source source = { s->tensors, s->count, read_canonical, s };
    config->family = TACIT_FAMILY_VIT;
    tacit_vit_config *c = &config->vit;
    st = tacit_vit_detect(&source, h->heads, c, err);
    if (st < 0)
        return st;
    if (!strcmp(f.name, "MoCo v3") && c->dim == 384 && !h->heads)
        c->heads = 12; /* its ViT-S has heads of 32: moco-v3, vits.py */
    c->eps = h->eps > 0 ? h->eps : f.eps;
    c->resample = f.resample;
    if (h->activation && !strcmp(h->activation, "quick_gelu") && c->activation == TACIT_GELU)
        c->activation = TACIT_QUICK_GELU;
    if (o->arch && (st = check_arch(o->arch, config, err)) < 0)
        return st;
    unsigned height = h->size[0] ? h->size[0] : f.size, width = h->size[1] ? h->size[1] : f.size;
    if (f.size % c->patch && !h->size[0])
        height = width = c->height;
    if (height && width)
        st = tacit_vit_set_input(c, height, width, err);
    if (st == TACIT_OK && c->last_norm == TACIT_NORM_MEAN)
        d->features = TACIT_FEATURES_MEAN;
    return st;
}

/* Accounts ------------------------------------------------------------------------------------ */

static void name_some(char *list, size_t size, size_t *count, const char *what, const char *name)
{
    size_t n = strlen(list);
    if (*count < 6)
        snprintf(list + n, size - n, "%s%s %.120s", *count ? ", " : "", what, name);
    ++*count;
}

/* What the network wants and the file has not. allow: it is made up. */
static tacit_status find_missing(tacit_dialect *d, bool allow, char *list, size_t size,
                                 size_t *complaints, tacit_err *err)
{
    state *s = d->state;
    tacit_tensor_source wanted;
    tacit_status st = tacit_backbone_seeded(&d->config, 0, &wanted, err);
    if (st < 0)
        return st;
    size_t missing = 0;
    canonical *items = tacit_realloc(s->items, s->count * sizeof *items,
                                     (s->count + wanted.count) * sizeof *items);
    if (items) {
        s->items = items;
        for (size_t i = 0; i < s->count; i++)
            s->tensors[i].name = items[i].name;
    }
    tacit_tensor *tensors = tacit_realloc(s->tensors, s->count * sizeof *tensors,
                                          (s->count + wanted.count) * sizeof *tensors);
    if (tensors)
        s->tensors = tensors;
    s->missing = tacit_calloc(wanted.count + 1, sizeof *s->missing);
    s->text = tacit_calloc(wanted.count + 1, sizeof items->name);
    if (!items || !tensors || !s->missing || !s->text)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", wanted.count);
    for (size_t i = 0; st == TACIT_OK && i < wanted.count; i++) {
        const tacit_tensor *w = &wanted.tensors[i];
        if (find(s, w->name))
            continue;
        char *name = s->text + missing * sizeof items->name;
        snprintf(name, sizeof items->name, "%s", w->name);
        s->missing[missing++] = name;
        if (!allow) {
            name_some(list, size, complaints, "missing", w->name);
            continue;
        }
        canonical *c = &s->items[s->count];
        *c = (canonical){ .origin = FILLED,
                          .fill = strstr(w->name, "norm") && ends_with(w->name, ".weight") };
        snprintf(c->name, sizeof c->name, "%s", w->name);
        s->tensors[s->count] = *w;
        s->tensors[s->count++].name = c->name;
    }
    d->missing = s->missing;
    tacit_backbone_seeded_close(&d->config, &wanted);
    return st;
}

/* timm's CLIP: its head is the projection that makes the embedding, and has no bias. */
static bool is_projected(const tacit_tensor_source *raw, const way *w)
{
    bool pre = false, bias = false;
    for (size_t i = 0; i < raw->count; i++) {
        const char *name = relative_name(w, raw->tensors[i].name);
        pre = pre || (name && !strcmp(name, "norm_pre.weight"));
        bias = bias || (name && !strcmp(name, "head.bias"));
    }
    return w->scheme == &schemes[TIMM] && pre && !bias;
}

static tacit_status take_tensors(tacit_dialect *d, const way *chosen, const way *ways, size_t count,
                                 char *list, size_t size, size_t *complaints, bool allow,
                                 tacit_err *err)
{
    state *s = d->state;
    share *shares = tacit_calloc(s->raw.count + 1, sizeof *shares);
    size_t n = 0;
    bool projects = is_projected(&s->raw, chosen);
    if (!shares)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", s->raw.count);
    for (size_t i = 0; i < s->raw.count; i++) {
        const char *name = s->raw.tensors[i].name, *inside = relative_name(chosen, name);
        char flat[1100];
        if (inside && chosen->scheme == &schemes[TIMM])
            inside = without_chunk(inside, flat, sizeof flat);
        const rule *r = NULL;
        bool counter = ends_with_any_of(name, unneeded_ends);
        bool projection = inside && projects && starts_with(inside, "head.");
        if (projection) {
            static const rule whole = { "head.weight", NULL, WHOLE };
            if (apply_rule(&whole, NULL, inside, shares[n].name, sizeof shares[n].name))
                r = &whole;
        } else if (inside && !counter && !is_any_of(inside, unneeded)) {
            r = find_rule(chosen->scheme, inside, shares[n].name, sizeof shares[n].name);
        }
        if (r) {
            shares[n].part = r->part;
            shares[n++].raw = i;
            d->use[i] = TACIT_USE_USED;
            continue;
        }
        bool other = projection ? false
                     : inside   ? is_any_of(inside, unneeded)
                                : holds_any_of(name, beside);
        for (size_t k = 0; k < count && !inside && !other; k++)
            other = ways[k].length && !strncmp(name, ways[k].name, ways[k].length);
        if (other || counter) {
            d->use[i] = TACIT_USE_UNNEEDED;
            continue;
        }
        if (!allow)
            name_some(list, size, complaints, "unknown", name);
    }
    tacit_status st = TACIT_OK;
    s->items = tacit_calloc(n + 2, sizeof *s->items);
    s->tensors = tacit_calloc(n + 2, sizeof *s->tensors);
    if (!s->items || !s->tensors)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", n);
    qsort(shares, n, sizeof *shares, by_share);
    for (size_t i = 0, end; st == TACIT_OK && i < n; i = end) {
        for (end = i + 1; end < n && !strcmp(shares[i].name, shares[end].name); end++)
            ;
        st = put_together(s, shares + i, end - i, err);
    }
    tacit_free(shares);
    return st;
}

/* Networks that are known and not run. */
static const struct other {
    const char *end, *what;
} others[] = {
    { "layers.0.blocks.0.attn.relative_position_bias_table", "a Swin Transformer" },
    { "cls_attn_blocks.0.attn.qkv.weight", "XCiT or CaiT" },
    { "stages.0.0.dwconv.weight", "a ConvNeXt" },
    { "stages.0.0.conv_dw.weight", "a ConvNeXt" },
    { "downsample_layers.0.0.weight", "a ConvNeXt" },
    { "features.0.weight", "an AlexNet or VGG" },
};
#define OTHERS (sizeof others / sizeof *others)

/* Whether that is what the way leads to: a Swin Transformer has a ViT's first layer. */
static bool is_other(const tacit_tensor_source *raw, const way *w)
{
    for (size_t o = 0; o < OTHERS; o++)
        if (has_beside(raw, w->name, w->length, others[o].end))
            return true;
    return false;
}

static tacit_status refuse(const tacit_tensor_source *raw, const char *key, tacit_err *err)
{
    for (size_t i = 0; i < raw->count; i++)
        for (size_t o = 0; o < OTHERS; o++)
            if (ends_with(raw->tensors[i].name, others[o].end))
                return tacit_fail(
                    err, TACIT_EUNSUPPORTED,
                    "%s (by its tensor %.200s): Vision Transformers and ResNets are read",
                    others[o].what, raw->tensors[i].name);
    if (key)
        return tacit_fail(err, TACIT_EUNSUPPORTED, "no network is found under '%s'", key);
    return tacit_fail(err, TACIT_EUNSUPPORTED,
                      "no network is recognised in %zu tensors, the first of which is %.200s",
                      raw->count, raw->count ? raw->tensors[0].name : "none");
}

tacit_status tacit_dialect_open(tacit_dialect *d, const tacit_tensor_source *raw,
                                const tacit_dialect_options *options, tacit_err *err)
{
    way ways[MAX_WAYS];
    *d = (tacit_dialect){ 0 };
    size_t count = find_ways(raw, ways);
    const way *chosen = NULL;
    for (const way *w = ways; w < ways + count; w++)
        if ((!options->checkpoint_key || goes_through(w, options->checkpoint_key)) &&
            (!chosen || w->cost < chosen->cost))
            chosen = w;
    if (!chosen || is_other(raw, chosen))
        return refuse(raw, options->checkpoint_key, err);
    state *s = tacit_calloc(1, sizeof *s);
    d->state = s;
    d->use = tacit_calloc(raw->count, sizeof *d->use);
    if (!s || !d->use) {
        tacit_dialect_close(d);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", raw->count);
    }
    s->raw = *raw;
    snprintf(d->prefix, sizeof d->prefix, "%.*s", (int)chosen->length, chosen->name);
    char list[700] = "";
    size_t complaints = 0;
    tacit_status st = take_tensors(d, chosen, ways, count, list, sizeof list, &complaints,
                                   options->allow_partial, err);
    signs g = { s, chosen, raw };
    if (st == TACIT_OK)
        st = configure(d, &g, options, err);
    if (st == TACIT_EUNSUPPORTED && complaints) {
        tacit_err why = { "" };
        why = err ? *err : why;
        return tacit_fail(err, TACIT_EFORMAT, "%s, which may be for %s", why.text, list);
    }
    if (st == TACIT_OK)
        st = find_missing(d, options->allow_partial, list, sizeof list, &complaints, err);
    if (st < 0)
        return st;
    if (count > 1 && !options->checkpoint_key && !d->note[0])
        snprintf(d->note, sizeof d->note,
                 "of %zu networks in the file the one under '%s' is taken: --checkpoint-key "
                 "chooses another",
                 count, d->prefix);
    d->source = (tacit_tensor_source){ s->tensors, s->count, read_canonical, s };
    if (complaints)
        return tacit_fail(err, TACIT_EFORMAT, "%zu tensor%s not as a file of %s has them: %s%s",
                          complaints, complaints > 1 ? "s are" : " is", d->name, list,
                          complaints > 6 ? ", ..." : "");
    return TACIT_OK;
}

void tacit_dialect_close(tacit_dialect *d)
{
    state *s = d->state;
    if (s) {
        tacit_free(s->items);
        tacit_free(s->tensors);
        tacit_free(s->made);
        tacit_free(s->text);
        tacit_free(s->missing);
        tacit_free(s);
    }
    tacit_free(d->use);
    *d = (tacit_dialect){ 0 };
}
