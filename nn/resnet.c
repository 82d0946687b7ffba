/* resnet.c - the layers of a ResNet, their weights, and the forward pass. See resnet.h.
 *
 * Activations have channels last and a border of zeros, one pixel wide, so that every convolution
 * finds its inputs where they lie. Convolutions write the inside; the borders are cleared before.
 * Maps: x and y, what a block reads and gives; a and b, between its convolutions; d, the shortcut
 * where that changes its size.
 */
#include "resnet.h"

#include "mem.h"
#include "rng.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define BN_EPS    1e-5 /* of every published one */
#define MAX_WIDTH 16384
#define MAX_DEPTH 1000
#define MAX_IMAGE 16384
#define PIXELS    112 /* outputs of a chunk, about, and their channels */
#define CHANNELS  128
#define STEM      3 /* border of the image: half of a 7 x 7 kernel */

typedef struct layer {
    char conv[80], norm[64]; /* names of the convolution and of its batch norm */
    unsigned in, out, kernel, stride;
    float *packed, *bias;
} layer;

typedef struct block {
    layer conv[3], shortcut; /* shortcut.out 0: none */
} block;

struct tacit_resnet {
    tacit_resnet_config config;
    const tacit_kernels *kernels;
    tacit_arena arena;
    layer stem;
    block *blocks;
    size_t count;
    size_t most; /* floats of the largest map, with its border */
};

/* Sizes --------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    unsigned blocks[4];
    bool bottleneck;
} sizes[] = {
    { "resnet18", { 2, 2, 2, 2 }, false },
    { "resnet34", { 3, 4, 6, 3 }, false },
    { "resnet50", { 3, 4, 6, 3 }, true },
    { "resnet101", { 3, 4, 23, 3 }, true },
};

bool tacit_resnet_find(const char *name, tacit_resnet_config *config)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = strlen(sizes[i].name);
        if (strncmp(name, sizes[i].name, n) || (name[n] && name[n] != '_' && name[n] != '.'))
            continue;
        *config = (tacit_resnet_config){ .name = sizes[i].name,
                                         .stem = 64,
                                         .bottleneck = sizes[i].bottleneck,
                                         .small_stem = strstr(name, "cifar") != NULL };
        memcpy(config->blocks, sizes[i].blocks, sizeof config->blocks);
        for (unsigned s = 0; s < 4; s++) {
            config->width[s] = 64u << s;
            config->out[s] = config->width[s] * (config->bottleneck ? 4 : 1);
        }
        config->height = config->image_width = config->small_stem ? 32 : 224;
        return true;
    }
    return false;
}

/* Outputs of a convolution, padded so that one of stride 1 keeps the size: PyTorch's rule. */
static unsigned strided(unsigned n, unsigned stride)
{
    return (n - 1) / stride + 1;
}

/* Pixels of the maps of stage s; of the stem's output before the pooling for s = 0 with pooled
 * false. */
static unsigned side_of(const tacit_resnet_config *c, unsigned n, unsigned s)
{
    if (!c->small_stem)
        n = strided(strided(n, 2), 2);
    for (unsigned i = 0; i < s; i++)
        n = strided(n, 2);
    return n;
}

void tacit_resnet_grid(const tacit_resnet_config *c, unsigned grid[2])
{
    grid[0] = side_of(c, c->height, 3);
    grid[1] = side_of(c, c->image_width, 3);
}

static tacit_status check(const tacit_resnet_config *c, tacit_err *err)
{
    bool fits = c->stem && c->stem <= MAX_WIDTH && c->height && c->height <= MAX_IMAGE &&
                c->image_width && c->image_width <= MAX_IMAGE;
    for (unsigned s = 0; s < 4; s++)
        fits = fits && c->blocks[s] && c->blocks[s] <= MAX_DEPTH && c->width[s] &&
               c->width[s] <= MAX_WIDTH && c->out[s] && c->out[s] <= MAX_WIDTH;
    if (!fits)
        return tacit_fail(err, TACIT_EINVAL, "no ResNet of those sizes for input of %u x %u",
                          c->height, c->image_width);
    return TACIT_OK;
}

tacit_status tacit_resnet_set_input(tacit_resnet_config *c, unsigned height, unsigned width,
                                    tacit_err *err)
{
    c->height = height;
    c->image_width = width;
    return check(c, err);
}

static const tacit_tensor *find_tensor(const tacit_tensor_source *source, const char *name)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, name))
            return &source->tensors[i];
    return NULL;
}

/* Channels that the convolution of that name gives; 0 where there is none. */
static unsigned channels_of(const tacit_tensor_source *source, unsigned stage, const char *conv)
{
    char name[64];
    snprintf(name, sizeof name, "layer%u.0.%s.weight", stage + 1, conv);
    const tacit_tensor *t = find_tensor(source, name);
    return t && t->rank == 4 && t->shape[0] <= MAX_WIDTH ? (unsigned)t->shape[0] : 0;
}

tacit_status tacit_resnet_detect(const tacit_tensor_source *source, tacit_resnet_config *config,
                                 tacit_err *err)
{
    tacit_resnet_config c = { 0 };
    const tacit_tensor *stem = find_tensor(source, "conv1.weight");
    if (!stem || stem->rank != 4 || stem->shape[1] != 3 || stem->shape[2] != stem->shape[3] ||
        (stem->shape[2] != 7 && stem->shape[2] != 3) || stem->shape[0] > MAX_WIDTH)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "not a ResNet with timm's names: conv1.weight is missing, or neither 7 x "
                          "7 nor 3 x 3 on 3 channels");
    c.stem = (unsigned)stem->shape[0];
    c.small_stem = stem->shape[2] == 3;
    c.bottleneck = channels_of(source, 0, "conv3") != 0;
    for (unsigned s = 0; s < 4; s++) {
        unsigned last;
        c.width[s] = channels_of(source, s, c.bottleneck ? "conv2" : "conv1");
        c.out[s] = channels_of(source, s, c.bottleneck ? "conv3" : "conv2");
        char start[16];
        int n = snprintf(start, sizeof start, "layer%u.", s + 1);
        for (size_t i = 0; i < source->count; i++)
            if (!strncmp(source->tensors[i].name, start, (size_t)n) &&
                sscanf(source->tensors[i].name + n, "%4u.", &last) == 1 && last >= c.blocks[s])
                c.blocks[s] = last + 1;
    }
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (!memcmp(c.blocks, sizes[i].blocks, sizeof c.blocks) &&
            c.bottleneck == sizes[i].bottleneck && c.width[0] == 64 && c.stem == 64)
            c.name = sizes[i].name;
    c.height = c.image_width = c.small_stem ? 32 : 224;
    *config = c;
    tacit_status st = check(config, err);
    return st < 0 ? TACIT_EUNSUPPORTED : st;
}

/* Layers -------------------------------------------------------------------------------------- */

static layer make_layer(const char *prefix, const char *conv, const char *norm, unsigned in,
                        unsigned out, unsigned kernel, unsigned stride)
{
    layer l = { .in = in, .out = out, .kernel = kernel, .stride = stride };
    snprintf(l.conv, sizeof l.conv, "%s%s.weight", prefix, conv);
    snprintf(l.norm, sizeof l.norm, "%s%s", prefix, norm);
    return l;
}

static size_t block_count(const tacit_resnet_config *c)
{
    return (size_t)c->blocks[0] + c->blocks[1] + c->blocks[2] + c->blocks[3];
}

static void make_layers(const tacit_resnet_config *c, layer *stem, block *blocks)
{
    unsigned in = c->stem;
    *stem = make_layer("", "conv1", "bn1", 3, in, c->small_stem ? 3 : 7, c->small_stem ? 1 : 2);
    for (unsigned s = 0; s < 4; s++)
        for (unsigned j = 0; j < c->blocks[s]; j++, blocks++) {
            char prefix[32];
            unsigned width = c->width[s], out = c->out[s], stride = s && !j ? 2 : 1;
            snprintf(prefix, sizeof prefix, "layer%u.%u.", s + 1, j);
            *blocks = (block){ 0 };
            if (c->bottleneck) {
                blocks->conv[0] = make_layer(prefix, "conv1", "bn1", in, width, 1, 1);
                blocks->conv[1] = make_layer(prefix, "conv2", "bn2", width, width, 3, stride);
                blocks->conv[2] = make_layer(prefix, "conv3", "bn3", width, out, 1, 1);
            } else {
                blocks->conv[0] = make_layer(prefix, "conv1", "bn1", in, width, 3, stride);
                blocks->conv[1] = make_layer(prefix, "conv2", "bn2", width, out, 3, 1);
            }
            if (stride != 1 || in != out)
                blocks->shortcut =
                    make_layer(prefix, "downsample.0", "downsample.1", in, out, 1, stride);
            in = out;
        }
}

/* The i-th layer of the network, NULL past the last. */
static layer *layer_at(layer *stem, block *blocks, size_t count, size_t i)
{
    if (i == 0)
        return stem;
    size_t b = (i - 1) / 4, k = (i - 1) % 4;
    if (b >= count)
        return NULL;
    return k < 3 ? &blocks[b].conv[k] : &blocks[b].shortcut;
}

double tacit_resnet_flops(const tacit_resnet_config *c)
{
    double pixels = (double)strided(c->height, c->small_stem ? 1 : 2) *
                    strided(c->image_width, c->small_stem ? 1 : 2);
    double sum = pixels * c->stem * 3 * (c->small_stem ? 9 : 49);
    unsigned in = c->stem;
    for (unsigned s = 0; s < 4; s++) {
        double here = (double)side_of(c, c->height, s) * side_of(c, c->image_width, s);
        double before =
            s ? (double)side_of(c, c->height, s - 1) * side_of(c, c->image_width, s - 1) : here;
        double w = c->width[s], o = c->out[s];
        for (unsigned j = 0; j < c->blocks[s]; j++, in = c->out[s]) {
            sum += c->bottleneck ? (j ? here : before) * in * w + here * (9 * w * w + w * o)
                                 : here * (9.0 * in * w + 9 * w * o);
            if (!j && (s || in != c->out[s]))
                sum += here * in * o;
        }
    }
    return 2 * sum;
}

/* Weights ------------------------------------------------------------------------------------- */

static bool is_float(tacit_dtype dtype)
{
    return dtype == TACIT_F32 || dtype == TACIT_F16 || dtype == TACIT_BF16;
}

/* All values of the tensor as floats; raw has room for them as halves. */
static tacit_status read_floats(const tacit_tensor_source *source, const char *name, unsigned rank,
                                const size_t *shape, const tacit_kernels *k, float *to,
                                uint16_t *raw, tacit_err *err)
{
    const tacit_tensor *t = find_tensor(source, name);
    if (!t)
        return tacit_fail(err, TACIT_EFORMAT, "tensor %s is missing", name);
    size_t i = (size_t)(t - source->tensors), n = 1;
    for (unsigned d = 0; d < rank; d++)
        n *= shape[d];
    if (t->rank != rank || memcmp(t->shape, shape, rank * sizeof *shape) || !is_float(t->dtype))
        return tacit_fail(err, TACIT_EFORMAT,
                          "tensor %s has another shape than the network, or is neither F32, F16 "
                          "nor BF16",
                          name);
    void *into = t->dtype == TACIT_F32 ? (void *)to : (void *)raw;
    tacit_status st = source->read(source->ctx, i, 0, n * tacit_dtype_size(t->dtype), into, err);
    if (st == TACIT_OK && t->dtype == TACIT_F16)
        k->f16_to_f32(n, raw, to);
    if (st == TACIT_OK && t->dtype == TACIT_BF16)
        k->bf16_to_f32(n, raw, to);
    for (size_t e = 0; st == TACIT_OK && e < n; e++)
        if (!isfinite(to[e]))
            st = tacit_fail(err, TACIT_EFORMAT, "tensor %s holds a value that is not finite", name);
    return st;
}

/* Folds the batch norm, y = (x - mean) / sqrt(var + eps) * gamma + beta, into weights and bias, in
 * double, and brings the weights from (out, in, ky, kx) to (out, ky, kx, in). */
static void fold(const layer *l, const float *w, const float *norm, float *to, float *bias)
{
    size_t area = (size_t)l->kernel * l->kernel, n = l->out;
    const float *gamma = norm, *beta = norm + n, *mean = norm + 2 * n, *var = norm + 3 * n;
    for (size_t o = 0; o < n; o++) {
        double factor = (double)gamma[o] / sqrt((double)var[o] + BN_EPS);
        bias[o] = (float)((double)beta[o] - (double)mean[o] * factor);
        for (size_t p = 0; p < area; p++)
            for (size_t i = 0; i < l->in; i++)
                to[(o * area + p) * l->in + i] =
                    (float)((double)w[(o * l->in + i) * area + p] * factor);
    }
}

static tacit_status load_layer(layer *l, const tacit_tensor_source *source, const tacit_kernels *k,
                               float *buffer, size_t most, tacit_err *err)
{
    static const char *const parts[] = { "weight", "bias", "running_mean", "running_var" };
    float *w = buffer, *folded = w + most, *norm = folded + most;
    uint16_t *raw = (uint16_t *)(void *)(norm + 4 * (size_t)l->out);
    const size_t shape[4] = { l->out, l->in, l->kernel, l->kernel };
    tacit_status st = read_floats(source, l->conv, 4, shape, k, w, raw, err);
    for (unsigned p = 0; p < 4 && st == TACIT_OK; p++) {
        char name[96];
        snprintf(name, sizeof name, "%s.%s", l->norm, parts[p]);
        st = read_floats(source, name, 1, shape, k, norm + p * (size_t)l->out, raw, err);
    }
    for (size_t o = 0; st == TACIT_OK && o < l->out; o++)
        if (norm[3 * (size_t)l->out + o] < 0)
            st = tacit_fail(err, TACIT_EFORMAT, "%s.running_var is negative", l->norm);
    if (st < 0)
        return st;
    size_t columns = (size_t)l->in * l->kernel * l->kernel;
    fold(l, w, norm, folded, l->bias);
    k->gemm_pack_f32(l->out, columns, folded, columns, l->packed);
    return TACIT_OK;
}

static size_t weight_count(const layer *l)
{
    return (size_t)l->in * l->out * l->kernel * l->kernel;
}

/* Floats of a map of stage s and n channels, with its border. */
static size_t map_size(const tacit_resnet_config *c, unsigned s, size_t n)
{
    return (size_t)(side_of(c, c->height, s) + 2) * (side_of(c, c->image_width, s) + 2) * n;
}

tacit_status tacit_resnet_open(tacit_resnet **out, const tacit_resnet_config *config,
                               const tacit_tensor_source *source, const tacit_kernels *kernels,
                               tacit_pool *pool, tacit_err *err)
{
    (void)pool;
    *out = NULL;
    tacit_status st = check(config, err);
    if (st < 0)
        return st;
    tacit_resnet *r = tacit_calloc(1, sizeof *r);
    float *buffer = NULL;
    if (r)
        r->blocks = tacit_calloc(block_count(config), sizeof *r->blocks);
    if (!r || !r->blocks) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for a ResNet");
        goto end;
    }
    r->config = *config;
    r->kernels = kernels;
    r->count = block_count(config);
    make_layers(config, &r->stem, r->blocks);
    for (unsigned s = 0; s < 4; s++) {
        size_t widest = config->out[s] > config->width[s] ? config->out[s] : config->width[s];
        if (!s && config->stem > widest) /* what the pooling gives */
            widest = config->stem;
        size_t here = map_size(config, s, widest);
        size_t wide = s ? map_size(config, s - 1, config->width[s]) : 0; /* before the stride */
        r->most = here > r->most ? here : r->most;
        r->most = wide > r->most ? wide : r->most;
    }
    size_t total = 0, most = 0, size, widest = 0;
    bool fits = true;
    for (size_t i = 0; fits && layer_at(&r->stem, r->blocks, r->count, i); i++) {
        const layer *l = layer_at(&r->stem, r->blocks, r->count, i);
        size_t n = weight_count(l);
        most = n > most ? n : most;
        widest = l->out > widest ? l->out : widest;
        fits = tacit_arena_plan(
                   &total,
                   tacit_gemm_packed_size(kernels, l->out, (size_t)l->in * l->kernel * l->kernel),
                   sizeof(float)) &&
               tacit_arena_plan(&total, l->out, sizeof(float));
    }
    fits = fits && tacit_mul_size(most, 2 * sizeof(float) + sizeof(uint16_t), &size) &&
           tacit_add_size(size, 4 * widest * (sizeof(float) + sizeof(uint16_t)), &size);
    if (!fits) {
        st = tacit_fail(err, TACIT_ELIMIT, "the model is too large for this machine");
        goto end;
    }
    if ((st = tacit_arena_open(&r->arena, total, err)) < 0)
        goto end;
    buffer = tacit_alloc(size);
    if (!buffer)
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for reading the weights");
    for (size_t i = 0; st == TACIT_OK && layer_at(&r->stem, r->blocks, r->count, i); i++) {
        layer *l = layer_at(&r->stem, r->blocks, r->count, i);
        if (!l->out)
            continue;
        l->packed = tacit_arena_take(
            &r->arena,
            tacit_gemm_packed_size(kernels, l->out, (size_t)l->in * l->kernel * l->kernel),
            sizeof(float));
        l->bias = tacit_arena_take(&r->arena, l->out, sizeof(float));
        st = load_layer(l, source, kernels, buffer, most, err);
    }
end:
    tacit_free(buffer);
    if (st < 0)
        tacit_resnet_close(&r);
    *out = r;
    return st;
}

void tacit_resnet_close(tacit_resnet **resnet)
{
    if (*resnet) {
        tacit_arena_close(&(*resnet)->arena);
        tacit_free((*resnet)->blocks);
        tacit_free(*resnet);
    }
    *resnet = NULL;
}

/* Seeded values ------------------------------------------------------------------------------- */

typedef struct seeded {
    uint64_t seed;
    layer stem;
    block *blocks;
    tacit_tensor *tensors;
    char (*names)[96];
} seeded;

/* Weights of He's variance, gains and variances around 1, the rest around 0. */
static tacit_status read_seeded(void *ctx, size_t t, size_t offset, size_t size, void *dst,
                                tacit_err *err)
{
    const seeded *s = ctx;
    const tacit_tensor *tensor = &s->tensors[t];
    if (offset > tensor->bytes || size > tensor->bytes - offset)
        return tacit_fail(err, TACIT_EINVAL, "tensor %s: bytes past its end", tensor->name);
    float middle = 0, spread = 0.1f;
    if (tensor->rank == 4)
        spread = sqrtf(6.0f / (float)(tensor->shape[1] * tensor->shape[2] * tensor->shape[3]));
    else if (strstr(tensor->name, ".weight") || strstr(tensor->name, "_var"))
        middle = 1;
    unsigned char *to = dst;
    for (size_t i = 0; i < size; i++) {
        size_t at = offset + i;
        float u = (float)(tacit_rng_u32(s->seed, t, at / 4) >> 8) * 0x1p-23f - 1.0f;
        float x = middle + u * spread;
        unsigned char bytes[4];
        memcpy(bytes, &x, 4);
        to[i] = bytes[at % 4];
    }
    return TACIT_OK;
}

tacit_status tacit_resnet_seeded(const tacit_resnet_config *config, uint64_t seed,
                                 tacit_tensor_source *source, tacit_err *err)
{
    static const char *const parts[] = { "weight", "bias", "running_mean", "running_var" };
    *source = (tacit_tensor_source){ 0 };
    tacit_status st = check(config, err);
    if (st < 0)
        return st;
    size_t blocks = block_count(config), most = 5 * (4 * blocks + 1), count = 0;
    seeded *s = tacit_calloc(1, sizeof *s);
    source->ctx = s;
    if (s) {
        s->seed = seed;
        s->blocks = tacit_calloc(blocks, sizeof *s->blocks);
        s->tensors = tacit_calloc(most, sizeof *s->tensors);
        s->names = tacit_calloc(most, sizeof *s->names);
    }
    if (!s || !s->blocks || !s->tensors || !s->names) {
        tacit_resnet_seeded_close(source);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", most);
    }
    make_layers(config, &s->stem, s->blocks);
    for (size_t i = 0; layer_at(&s->stem, s->blocks, blocks, i); i++) {
        const layer *l = layer_at(&s->stem, s->blocks, blocks, i);
        for (unsigned p = 0; l->out && p < 5; p++, count++) {
            if (p == 0)
                snprintf(s->names[count], sizeof *s->names, "%s", l->conv);
            else
                snprintf(s->names[count], sizeof *s->names, "%s.%s", l->norm, parts[p - 1]);
            s->tensors[count] = (tacit_tensor){
                .name = s->names[count],
                .dtype = TACIT_F32,
                .rank = p ? 1 : 4,
                .shape = { l->out, p ? 0 : l->in, p ? 0 : l->kernel, p ? 0 : l->kernel },
                .bytes = sizeof(float) * (p ? l->out : weight_count(l)),
            };
        }
    }
    *source = (tacit_tensor_source){ s->tensors, count, read_seeded, s };
    return TACIT_OK;
}

void tacit_resnet_seeded_close(tacit_tensor_source *source)
{
    seeded *s = source->ctx;
    if (s) {
        tacit_free(s->blocks);
        tacit_free(s->tensors);
        tacit_free(s->names);
        tacit_free(s);
    }
    *source = (tacit_tensor_source){ 0 };
}

/* Forward ------------------------------------------------------------------------------------- */

/* A map with channels last and a border. */
typedef struct map {
    float *at; /* the first float of the border */
    size_t rows, columns, n, border;
} map;

static size_t line_of(const map *m)
{
    return (m->columns + 2 * m->border) * m->n;
}

static float *inside(const map *m)
{
    return m->at + m->border * (line_of(m) + m->n);
}

static void clear_border(const map *m)
{
    size_t line = line_of(m), lines = m->rows + 2 * m->border, edge = m->border * m->n;
    if (!edge)
        return;
    memset(m->at, 0, m->border * line * sizeof *m->at);
    memset(m->at + (lines - m->border) * line, 0, m->border * line * sizeof *m->at);
    for (size_t i = m->border; i < lines - m->border; i++) {
        memset(m->at + i * line, 0, edge * sizeof *m->at);
        memset(m->at + (i + 1) * line - edge, 0, edge * sizeof *m->at);
    }
}

typedef struct job {
    const tacit_kernels *k;
    const layer *l;
    const map *x, *y, *residual;
    bool relu;
    size_t row_step, row_chunks, column_step;
} job;

static void conv_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const job *j = ctx;
    const layer *l = j->l;
    size_t row = chunk % j->row_chunks * j->row_step;
    size_t channel = chunk / j->row_chunks * j->column_step;
    size_t left = j->y->rows - row, wide = l->out - channel;
    size_t line = line_of(j->x), half = l->kernel / 2;
    const float *x = inside(j->x) + row * l->stride * line - half * (line + l->in);
    tacit_conv g = {
        .rows = left < j->row_step ? left : j->row_step,
        .columns = j->y->columns,
        .n = wide < j->column_step ? wide : j->column_step,
        .taps = l->kernel,
        .k = (size_t)l->kernel * l->in,
        .step = (size_t)l->stride * l->in,
        .ldx = l->stride * line,
        .ldt = line,
        .ldc = j->y->n,
        .ldy = line_of(j->y),
    };
    tacit_epilogue e = { .bias = l->bias + channel, .relu = j->relu };
    if (j->residual) {
        g.ldr = line_of(j->residual);
        e.residual = inside(j->residual) + row * g.ldr + channel;
        e.ldr = j->residual->n;
    }
    j->k->conv_f32(&g, x, l->packed + channel * g.taps * g.k, inside(j->y) + row * g.ldy + channel,
                   &e);
}

/* y = [relu] (conv(x) [+ residual]). The map y gets its size, and a border of zeros. */
static void convolve(const tacit_resnet *r, const layer *l, const map *x, map *y, size_t border,
                     const map *residual, bool relu, tacit_pool *pool)
{
    y->rows = strided((unsigned)x->rows, l->stride);
    y->columns = strided((unsigned)x->columns, l->stride);
    y->n = l->out;
    y->border = border;
    clear_border(y);
    job j = { .k = r->kernels, .l = l, .x = x, .y = y, .residual = residual, .relu = relu };
    size_t nr = r->kernels->gemm_nr;
    j.row_step = (PIXELS + y->columns - 1) / y->columns;
    j.row_chunks = (y->rows + j.row_step - 1) / j.row_step;
    j.column_step = CHANNELS / nr * nr;
    size_t channels = (l->out + j.column_step - 1) / j.column_step;
    tacit_parallel_for(pool, j.row_chunks * channels, conv_chunk, &j);
}

typedef struct pool_job {
    const tacit_kernels *k;
    const map *x, *y;
} pool_job;

/* One row of the pooled map. All values are at least 0, so that a border of zeros is as good as
 * none. */
static void pool_chunk(void *ctx, size_t row, unsigned worker)
{
    (void)worker;
    const pool_job *j = ctx;
    size_t line = line_of(j->x);
    j->k->maxpool_f32(j->y->columns, j->x->n, j->x->at + 2 * row * line, line,
                      inside(j->y) + row * line_of(j->y));
}

/* (3, H, W) to a map with a border of STEM. */
static void interleave(const tacit_resnet_config *c, const float *image, map *x)
{
    size_t plane = (size_t)c->height * c->image_width;
    *x = (map){ x->at, c->height, c->image_width, 3, STEM };
    clear_border(x);
    for (size_t row = 0; row < x->rows; row++) {
        float *to = inside(x) + row * line_of(x);
        const float *from = image + row * x->columns;
        for (size_t i = 0; i < x->columns; i++)
            for (size_t k = 0; k < 3; k++)
                to[3 * i + k] = from[k * plane + i];
    }
}

/* Floats of the image, the stem's output, and each other map. */
static void map_sizes(const tacit_resnet *r, size_t *image, size_t *stem)
{
    const tacit_resnet_config *c = &r->config;
    unsigned stride = c->small_stem ? 1 : 2;
    *image = (size_t)(c->height + 2 * STEM) * (c->image_width + 2 * STEM) * 3;
    *stem =
        (size_t)(strided(c->height, stride) + 2) * (strided(c->image_width, stride) + 2) * c->stem;
}

size_t tacit_resnet_feature_count(const tacit_resnet *r, tacit_features features)
{
    unsigned grid[2];
    tacit_resnet_grid(&r->config, grid);
    if (features == TACIT_FEATURES_MEAN)
        return r->config.out[3];
    return features == TACIT_FEATURES_PATCH ? (size_t)grid[0] * grid[1] * r->config.out[3] : 0;
}

size_t tacit_resnet_scratch(const tacit_resnet *r, size_t batch, const tacit_pool *pool)
{
    (void)batch;
    (void)pool;
    size_t image, stem, total = 0;
    map_sizes(r, &image, &stem);
    bool fits = tacit_arena_plan(&total, image, sizeof(float)) &&
                tacit_arena_plan(&total, stem, sizeof(float));
    for (unsigned i = 0; i < 5; i++)
        fits = fits && tacit_arena_plan(&total, r->most, sizeof(float));
    return fits ? total : 0;
}

static void run_block(const tacit_resnet *r, const block *b, const map *x, map *y, map between[2],
                      map *shortcut, bool last, tacit_pool *pool)
{
    const map *residual = x;
    if (b->shortcut.out) {
        convolve(r, &b->shortcut, x, shortcut, 0, NULL, false, pool);
        residual = shortcut;
    }
    size_t border = last ? 0 : 1;
    convolve(r, &b->conv[0], x, &between[0], 1, NULL, true, pool);
    if (!b->conv[2].out) {
        convolve(r, &b->conv[1], &between[0], y, border, residual, true, pool);
        return;
    }
    convolve(r, &b->conv[1], &between[0], &between[1], 0, NULL, true, pool);
    convolve(r, &b->conv[2], &between[1], y, border, residual, true, pool);
}

static void forward_one(const tacit_resnet *r, const float *image, tacit_features features,
                        float *out, void *scratch, tacit_pool *pool)
{
    size_t pixels, first;
    tacit_arena arena = { .base = scratch, .size = tacit_resnet_scratch(r, 1, pool) };
    map_sizes(r, &pixels, &first);
    map input = { .at = tacit_arena_take(&arena, pixels, sizeof(float)) };
    map stem = { .at = tacit_arena_take(&arena, first, sizeof(float)) }, maps[5];
    for (unsigned i = 0; i < 5; i++)
        maps[i] = (map){ .at = tacit_arena_take(&arena, r->most, sizeof(float)) };
    interleave(&r->config, image, &input);
    convolve(r, &r->stem, &input, &stem, 1, NULL, true, pool);
    map *x = &stem, *y = &maps[0];
    if (!r->config.small_stem) {
        *y = (map){ y->at, strided((unsigned)stem.rows, 2), strided((unsigned)stem.columns, 2),
                    stem.n, 1 };
        clear_border(y);
        pool_job j = { r->kernels, &stem, y };
        tacit_parallel_for(pool, y->rows, pool_chunk, &j);
        x = y;
        y = &maps[1];
    }
    for (size_t i = 0; i < r->count; i++) {
        run_block(r, &r->blocks[i], x, y, maps + 2, &maps[4], i + 1 == r->count, pool);
        x = y;
        y = x == &maps[0] ? &maps[1] : &maps[0];
    }
    size_t n = x->rows * x->columns;
    if (features == TACIT_FEATURES_MEAN)
        r->kernels->mean_rows_f32(n, x->n, x->at, x->n, out);
    else
        memcpy(out, x->at, n * x->n * sizeof *out);
}

void tacit_resnet_forward(const tacit_resnet *r, const float *images, size_t batch,
                          tacit_features features, float *out, void *scratch, tacit_pool *pool)
{
    size_t pixels = (size_t)3 * r->config.height * r->config.image_width;
    size_t count = tacit_resnet_feature_count(r, features);
    assert((uintptr_t)scratch % TACIT_ALIGN == 0);
    for (size_t i = 0; i < batch; i++)
        forward_one(r, images + i * pixels, features, out + i * count, scratch, pool);
}
