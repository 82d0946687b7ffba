/* resnet_load.c - names, sizes, binding and folding of a ResNet's tensors. See resnet.h. */
#include "conv_tiles.h"
#include "resnet_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define BN_EPS 1e-5 /* of every published one */
/* FLOPs of a transformed weight: of one image, at 16 a byte (they come from memory, which is slow).
 */
#define WEIGHT_COST 64
#define MAX_WIDTH   16384
#define MAX_DEPTH   1000
#define MAX_IMAGE   16384

/* Sizes --------------------------------------------------------------------------------------- */

/* He et al. 2016, table 1. */
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

static tacit_resnet_config standard(size_t i)
{
    tacit_resnet_config c = { .name = sizes[i].name,
                              .stem = 64,
                              .bottleneck = sizes[i].bottleneck };
    memcpy(c.blocks, sizes[i].blocks, sizeof c.blocks);
    for (unsigned s = 0; s < 4; s++) {
        c.width[s] = 64u << s;
        c.out[s] = c.width[s] * (c.bottleneck ? 4 : 1);
    }
    c.height = c.image_width = 224;
    return c;
}

bool tacit_resnet_find(const char *name, tacit_resnet_config *config)
{
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t n = strlen(sizes[i].name);
        if (strncmp(name, sizes[i].name, n) || (name[n] && name[n] != '_' && name[n] != '.'))
            continue;
        *config = standard(i);
        if (strstr(name + n, "cifar")) {
            config->small_stem = true;
            config->height = config->image_width = 32;
        }
        return true;
    }
    return false;
}

tacit_status tacit__resnet_check(const tacit_resnet_config *c, tacit_err *err)
{
    bool fits = c->stem && c->stem <= MAX_WIDTH && c->height && c->height <= MAX_IMAGE &&
                c->image_width && c->image_width <= MAX_IMAGE;
    for (unsigned s = 0; s < 4; s++)
        fits = fits && c->blocks[s] && c->blocks[s] <= MAX_DEPTH && c->width[s] &&
               c->width[s] <= MAX_WIDTH && c->out[s] && c->out[s] <= MAX_WIDTH;
    if (!fits)
        return tacit_fail(err, TACIT_EINVAL, "no ResNet of those sizes for input of %u x %u",
                          c->height, c->image_width);
    for (unsigned s = 0; s < 4; s++) {
        unsigned widest = c->width[s] > c->out[s] ? c->width[s] : c->out[s];
        if (c->precision == TACIT_PRECISION_INT8 && widest > TACIT_INT8_MOST / 9)
            return tacit_fail(err, TACIT_ELIMIT,
                              "int8 has products of %d values at most, not of 9 x %u",
                              TACIT_INT8_MOST, widest);
    }
    return TACIT_OK;
}

tacit_status tacit_resnet_set_input(tacit_resnet_config *c, unsigned height, unsigned width,
                                    tacit_err *err)
{
    c->height = height;
    c->image_width = width;
    return tacit__resnet_check(c, err);
}

/* Outputs of a convolution, padded so that one of stride 1 keeps the size: PyTorch's rule. */
static unsigned strided(unsigned n, unsigned stride)
{
    return (n - 1) / stride + 1;
}

/* Pixels of the maps of stage s along an axis of n. */
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

/* Channels that the convolution of that name gives; 0 where there is none. */
static unsigned channels_of(const tacit_tensor_source *source, unsigned stage, const char *conv)
{
    char name[64];
    snprintf(name, sizeof name, "layer%u.0.%s.weight", stage + 1, conv);
    const tacit_tensor *t = tacit__find_tensor(source, name);
    return t && t->rank == 4 && t->shape[0] <= MAX_WIDTH ? (unsigned)t->shape[0] : 0;
}

tacit_status tacit_resnet_detect(const tacit_tensor_source *source, tacit_resnet_config *config,
                                 tacit_err *err)
{
    tacit_resnet_config c = { 0 };
    const tacit_tensor *stem = tacit__find_tensor(source, "conv1.weight");
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
    c.height = c.image_width = c.small_stem ? 32 : 224;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        tacit_resnet_config known = standard(i);
        if (c.bottleneck == known.bottleneck && c.stem == known.stem &&
            !memcmp(c.blocks, known.blocks, sizeof c.blocks) &&
            !memcmp(c.width, known.width, sizeof c.width) &&
            !memcmp(c.out, known.out, sizeof c.out))
            c.name = known.name;
    }
    *config = c;
    tacit_status st = tacit__resnet_check(config, err);
    return st < 0 ? TACIT_EUNSUPPORTED : st;
}

/* Layers -------------------------------------------------------------------------------------- */

size_t tacit__resnet_ld(size_t channels)
{
    return channels % 256 ? channels : channels + 16;
}

size_t tacit__layer_products(const tacit__layer *l)
{
    return l->side ? (l->side + 2) * (l->side + 2) : 1;
}

size_t tacit__layer_rows(const tacit__layer *l, const tacit_kernels *kernels)
{
    size_t panel = tacit_linear_panel(l->linear.precision, kernels);
    return (l->linear.out + panel - 1) / panel * panel;
}

size_t tacit__layer_tiles(const tacit__layer *l)
{
    const tacit_conv *c = &l->shape;
    return ((c->rows + l->side - 1) / l->side) * ((c->columns + l->side - 1) / l->side);
}

/* In 8 bits tiles of 2 x 2 wherever they have fewer products; those of larger ones would need more
 * than 8. */
static size_t int8_side(const tacit_conv *c)
{
    if (c->kernel != 3 || c->stride != 1 || c->channels <= 3)
        return 0;
    size_t tiles = ((c->rows + 1) / 2) * ((c->columns + 1) / 2);
    return 16 * tiles < 9 * c->rows * c->columns ? 2 : 0;
}

static tacit__layer make_layer(const tacit_resnet_config *config, const char *prefix,
                               const char *conv, const char *norm, const tacit_conv *input,
                               size_t out, size_t kernel, size_t stride)
{
    tacit__layer l = { .shape = *input };
    snprintf(l.conv, sizeof l.conv, "%s%s.weight", prefix, conv);
    snprintf(l.norm, sizeof l.norm, "%s%s", prefix, norm);
    l.shape.kernel = kernel;
    l.shape.stride = stride;
    l.shape.pad = kernel / 2;
    l.shape.rows = tacit_conv_size(input->height, kernel, stride, l.shape.pad);
    l.shape.columns = tacit_conv_size(input->width, kernel, stride, l.shape.pad);
    l.linear = (tacit_linear){ .in = kernel * kernel * input->channels, .out = out };
    if (config->precision == TACIT_PRECISION_INT8)
        l.side = int8_side(&l.shape);
    else
        l.side = tacit__tiles_side(&l.shape, out, WEIGHT_COST);
    /* Tiles in fp32 save as much as the instruction for bf16 does. */
    if (!l.side || config->precision == TACIT_PRECISION_INT8)
        l.linear.precision = config->precision;
    return l;
}

/* The map that the layer gives, as the next one's input. */
static tacit_conv output_of(const tacit__layer *l)
{
    return (tacit_conv){ .height = l->shape.rows,
                         .width = l->shape.columns,
                         .channels = l->linear.out,
                         .ldx = tacit__resnet_ld(l->linear.out) };
}

size_t tacit__resnet_blocks(const tacit_resnet_config *c)
{
    return (size_t)c->blocks[0] + c->blocks[1] + c->blocks[2] + c->blocks[3];
}

size_t tacit__resnet_layers(const tacit_resnet_config *c, tacit__layer *layers,
                            tacit__residual *blocks)
{
    size_t n = 0;
    tacit_conv x = { .height = c->height, .width = c->image_width, .channels = 3, .ldx = 3 };
    tacit__layer l = make_layer(c, "", "conv1", "bn1", &x, c->stem, c->small_stem ? 3 : 7,
                                c->small_stem ? 1 : 2);
    tacit__residual block;
    tacit__layer *stem;
#define ADD(to)                                                                                    \
    do {                                                                                           \
        if (layers) {                                                                              \
            layers[n] = l;                                                                         \
            to = &layers[n];                                                                       \
        }                                                                                          \
        n++;                                                                                       \
    } while (0)
    ADD(stem);
    (void)stem;
    x = output_of(&l);
    if (!c->small_stem) {
        x.height = tacit_conv_size(x.height, 3, 2, 1);
        x.width = tacit_conv_size(x.width, 3, 2, 1);
    }
    for (unsigned s = 0; s < 4; s++)
        for (unsigned j = 0; j < c->blocks[s]; j++) {
            char prefix[32];
            size_t width = c->width[s], out = c->out[s], stride = s && !j ? 2 : 1;
            tacit_conv input = x;
            snprintf(prefix, sizeof prefix, "layer%u.%u.", s + 1, j);
            block = (tacit__residual){ 0 };
            l = make_layer(c, prefix, "conv1", "bn1", &x, width, c->bottleneck ? 1 : 3,
                           c->bottleneck ? 1 : stride);
            ADD(block.conv[0]);
            x = output_of(&l);
            l = make_layer(c, prefix, "conv2", "bn2", &x, c->bottleneck ? width : out, 3,
                           c->bottleneck ? stride : 1);
            ADD(block.conv[1]);
            x = output_of(&l);
            if (c->bottleneck) {
                l = make_layer(c, prefix, "conv3", "bn3", &x, out, 1, 1);
                ADD(block.conv[2]);
                x = output_of(&l);
            }
            if (stride != 1 || input.channels != out) {
                l = make_layer(c, prefix, "downsample.0", "downsample.1", &input, out, 1, stride);
                ADD(block.shortcut);
            }
            if (blocks)
                *blocks++ = block;
        }
#undef ADD
    return n;
}

void tacit__resnet_slots(const tacit__layer *layers, size_t count, tacit__slot *slots)
{
    static const char *const parts[] = { "weight", "bias", "running_mean", "running_var" };
    for (const tacit__layer *l = layers; l < layers + count; l++) {
        *slots = (tacit__slot){ .rank = 4,
                                .shape = { l->linear.out, l->shape.channels, l->shape.kernel,
                                           l->shape.kernel } };
        snprintf(slots->name, sizeof slots->name, "%s", l->conv);
        slots++;
        for (size_t p = 0; p < 4; p++, slots++) {
            *slots = (tacit__slot){ .rank = 1, .shape = { l->linear.out } };
            snprintf(slots->name, sizeof slots->name, "%s.%s", l->norm, parts[p]);
        }
    }
}

/* Reading and folding ------------------------------------------------------------------------- */

/* What a file may hold beside the backbone. */
static bool is_unneeded(const void *config, const char *name)
{
    (void)config;
    const char *end = strstr(name, ".num_batches_tracked");
    return !strncmp(name, "fc.", 3) || (end && !end[20]);
}

/* A panel of a layer's weights. */
typedef struct piece {
    size_t layer, first, rows;
} piece;

typedef struct loader {
    const tacit_tensor_source *source;
    const tacit_kernels *kernels;
    const tacit_resnet *resnet;
    const size_t *index; /* of each slot */
    double **factors;    /* gain / sqrt(variance + eps) of each layer's outputs */
    piece *pieces;
    size_t raw, folded; /* most values of a piece, as they are stored and as they are packed */
} loader;

/* y = (x - mean) / sqrt(variance + eps) * gain + bias is x * factor + (bias - mean * factor). */
static tacit_status load_norm(loader *l, size_t layer, float *values, tacit_err *err)
{
    const tacit__layer *at = &l->resnet->layers[layer];
    size_t n = at->linear.out;
    for (size_t p = 0; p < 4; p++) {
        size_t t = l->index[layer * TACIT__LAYER_SLOTS + 1 + p];
        tacit_status st = tacit__read_floats(l->source, t, 0, n, l->kernels, values + p * n,
                                             (uint16_t *)(void *)(values + 4 * n), err);
        if (st < 0)
            return st;
    }
    const float *gain = values, *bias = gain + n, *mean = bias + n, *variance = mean + n;
    for (size_t i = 0; i < n; i++) {
        if (variance[i] < 0)
            return tacit_fail(err, TACIT_EFORMAT, "%s.running_var is negative", at->norm);
        double factor = (double)gain[i] / sqrt((double)variance[i] + BN_EPS);
        l->factors[layer][i] = factor;
        at->linear.bias[i] = (float)((double)bias[i] - (double)mean[i] * factor);
    }
    if (!tacit__all_finite(at->linear.bias, n))
        return tacit_fail(err, TACIT_EFORMAT, "%s: its values are too large together", at->norm);
    return TACIT_OK;
}

/* Weights (rows, in, y, x) to (rows, y, x, in), times each row's factor; NULL: 1. */
static void fold_windows(size_t rows, size_t in, size_t area, const float *w, const double *factor,
                         float *to)
{
    for (size_t o = 0; o < rows; o++)
        for (size_t i = 0; i < in; i++)
            for (size_t p = 0; p < area; p++)
                to[(o * area + p) * in + i] = (float)((double)*w++ * (factor ? factor[o] : 1));
}

/* Each row of weights as 8 bits have it. */
static void round_weights(const tacit_kernels *kernels, size_t rows, size_t n, float *w,
                          uint8_t *bytes)
{
    for (size_t r = 0; r < rows; r++, w += n) {
        float scale;
        kernels->quantise_u8(1, n, w, n, TACIT_INT8_MIDDLE, bytes, 0, &scale);
        for (size_t i = 0; i < n; i++)
            w[i] = (float)((int)bytes[i] - 128) * scale;
    }
}

/* The same to (products, rows, in). */
static void fold_tiles(size_t side, size_t rows, size_t in, const float *w, const double *factor,
                       float *to)
{
    size_t products = (side + 2) * (side + 2);
    for (size_t o = 0; o < rows; o++)
        for (size_t i = 0; i < in; i++, to++) {
            double g[9], u[36];
            for (size_t p = 0; p < 9; p++)
                g[p] = (double)*w++ * (factor ? factor[o] : 1);
            tacit_winograd_weights(side, g, u, 1);
            for (size_t p = 0; p < products; p++)
                to[p * rows * in] = (float)u[p];
        }
}

static tacit_status load_piece(void *ctx, size_t i, void *buffer, tacit_err *err)
{
    const loader *l = ctx;
    const piece *p = &l->pieces[i];
    const tacit__layer *at = &l->resnet->layers[p->layer];
    size_t in = at->shape.channels, area = at->shape.kernel * at->shape.kernel;
    size_t columns = in * area, n = p->rows * columns, t = l->index[p->layer * TACIT__LAYER_SLOTS];
    float *w = buffer, *folded = w + l->raw;
    uint16_t *raw = (uint16_t *)(void *)(folded + l->folded);
    tacit_status st =
        tacit__read_floats(l->source, t, p->first * columns, n, l->kernels, w, raw, err);
    if (st < 0)
        return st;
    const double *factors = l->factors[p->layer] + p->first;
    /* The numbers of int8 are those of the file, as `tacit quantize` stores them. */
    bool in_scales = at->linear.precision == TACIT_PRECISION_INT8;
    size_t products = tacit__layer_products(at);
    for (size_t r = 0; p->layer == 0 && in_scales && r < p->rows; r++)
        tacit_round_s8(columns, w + r * columns);
    if (at->side && in_scales)
        round_weights(l->kernels, p->rows, columns, w, (uint8_t *)folded);
    if (at->side) {
        fold_tiles(at->side, p->rows, in, w, in_scales ? NULL : factors, folded);
        columns = in;
    } else {
        fold_windows(p->rows, in, area, w, in_scales ? NULL : factors, folded);
    }
    n = p->rows * columns;
    if (!tacit__all_finite(folded, products * n))
        return tacit_fail(err, TACIT_EFORMAT, "%s: its batch norm makes it too large", at->conv);
    tacit_linear packed = at->linear;
    packed.in = columns;
    for (size_t m = 0; m < products; m++) {
        size_t first = m * tacit__layer_rows(at, l->kernels) + p->first;
        tacit_linear_pack(&packed, l->kernels, first, p->rows, folded + m * n);
        float *scale = packed.scale8 + first;
        for (size_t r = 0; in_scales && r < p->rows; r++)
            scale[r] = (float)((double)scale[r] * factors[r]);
        if (in_scales && !tacit__all_finite(scale, p->rows))
            return tacit_fail(err, TACIT_EFORMAT, "%s: its batch norm makes it too large",
                              at->conv);
    }
    return TACIT_OK;
}

/* Plans, or takes where arena is given, the memory of all layers. */
static bool place_layers(tacit_resnet *r, size_t *total, tacit_arena *arena)
{
    for (size_t i = 0; i < r->layer_count; i++) {
        tacit__layer *l = &r->layers[i];
        tacit_linear *to = &l->linear;
        size_t out = tacit__layer_products(l) * tacit__layer_rows(l, r->kernels);
        size_t in = l->side ? l->shape.channels : to->in;
        const tacit_linear whole = *to;
        if (!tacit_linear_place(to, to->precision, out, in, r->kernels, total, arena))
            return false;
        if (arena) {
            to->in = whole.in;
            to->out = whole.out;
            to->bias = tacit_arena_take(arena, to->out, sizeof(float));
        } else if (!tacit_arena_plan(total, to->out, sizeof(float))) {
            return false;
        }
    }
    return true;
}

/* Every layer by panels. pieces NULL counts; what the largest needs is noted. */
static size_t cut_pieces(loader *l, piece *pieces)
{
    size_t n = 0, panel = l->kernels->gemm_nr;
    size_t other = tacit_linear_panel(l->resnet->config.precision, l->kernels);
    panel = panel > other ? panel : other; /* both are powers of two */
    for (size_t i = 0; i < l->resnet->layer_count; i++) {
        const tacit__layer *at = &l->resnet->layers[i];
        size_t out = at->linear.out, most = out < panel ? out : panel;
        size_t raw = most * at->linear.in;
        size_t folded = at->side ? tacit__layer_products(at) * most * at->shape.channels : raw;
        l->raw = raw > l->raw ? raw : l->raw;
        l->folded = folded > l->folded ? folded : l->folded;
        for (size_t first = 0; first < out; first += panel, n++)
            if (pieces)
                pieces[n] = (piece){ i, first, out - first < panel ? out - first : panel };
    }
    return n;
}

static tacit_status read_all(tacit_resnet *r, const tacit_tensor_source *source,
                             const size_t *index, tacit_pool *pool, tacit_err *err)
{
    loader l = { .source = source, .kernels = r->kernels, .resnet = r, .index = index };
    tacit_arena arena = { 0 };
    size_t total = 0, widest = 0, n = cut_pieces(&l, NULL);
    bool fits = tacit_arena_plan(&total, n, sizeof *l.pieces) &&
                tacit_arena_plan(&total, r->layer_count, sizeof *l.factors);
    for (size_t i = 0; i < r->layer_count; i++) {
        size_t out = r->layers[i].linear.out;
        widest = out > widest ? out : widest;
        fits = fits && tacit_arena_plan(&total, out, sizeof(double));
    }
    fits = fits && tacit_arena_plan(&total, 5 * widest, sizeof(float));
    if (!fits)
        return tacit_fail(err, TACIT_ELIMIT, "the model is too large for this machine");
    tacit_status st = tacit_arena_open(&arena, total, err);
    if (st < 0)
        return st;
    l.pieces = tacit_arena_take(&arena, n, sizeof *l.pieces);
    l.factors = tacit_arena_take(&arena, r->layer_count, sizeof *l.factors);
    cut_pieces(&l, l.pieces);
    for (size_t i = 0; i < r->layer_count; i++)
        l.factors[i] = tacit_arena_take(&arena, r->layers[i].linear.out, sizeof(double));
    float *values = tacit_arena_take(&arena, 5 * widest, sizeof(float));
    for (size_t i = 0; st == TACIT_OK && i < r->layer_count; i++)
        st = load_norm(&l, i, values, err);
    if (st == TACIT_OK)
        st = tacit__load_pieces(
            pool, n, l.raw * (sizeof(float) + sizeof(uint16_t)) + l.folded * sizeof(float),
            load_piece, &l, err);
    tacit_arena_close(&arena);
    return st;
}

tacit_status tacit_resnet_open(tacit_resnet **out, const tacit_resnet_config *config,
                               const tacit_tensor_source *source, const tacit_kernels *kernels,
                               tacit_pool *pool, tacit_err *err)
{
    *out = NULL;
    tacit_status st = tacit__resnet_check(config, err);
    if (st < 0)
        return st;
    size_t count = tacit__resnet_layers(config, NULL, NULL), total = 0;
    size_t blocks = tacit__resnet_blocks(config), slot_count = count * TACIT__LAYER_SLOTS;
    tacit_resnet *r = tacit_calloc(1, sizeof *r);
    tacit__slot *slots = tacit_calloc(slot_count, sizeof *slots);
    size_t *index = tacit_calloc(slot_count, sizeof *index);
    if (r) {
        r->layers = tacit_calloc(count, sizeof *r->layers);
        r->blocks = tacit_calloc(blocks, sizeof *r->blocks);
    }
    if (!r || !slots || !index || !r->layers || !r->blocks) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for a model of %zu tensors", slot_count);
        goto end;
    }
    r->config = *config;
    r->kernels = kernels;
    r->layer_count = count;
    r->block_count = blocks;
    tacit__resnet_layers(config, r->layers, r->blocks);
    tacit__resnet_slots(r->layers, count, slots);
    if ((st = tacit__bind(slots, slot_count, source, is_unneeded, config, index, err)) < 0)
        goto end;
    if (!place_layers(r, &total, NULL)) {
        st = tacit_fail(err, TACIT_ELIMIT, "the model is too large for this machine");
        goto end;
    }
    bool kept;
    if ((st = tacit__take_memory(&r->arena, total, config->stash, &kept, err)) < 0)
        goto end;
    place_layers(r, NULL, &r->arena);
    if (!kept)
        st = read_all(r, source, index, pool, err);
    if (st >= 0 && !kept && config->stash)
        config->stash->keep(config->stash->ctx, r->arena.base, total);
end:
    tacit_free(slots);
    tacit_free(index);
    if (st < 0)
        tacit_resnet_close(&r);
    *out = r;
    return st;
}

void tacit_resnet_close(tacit_resnet **resnet)
{
    if (*resnet) {
        tacit_arena_close(&(*resnet)->arena);
        tacit_free((*resnet)->layers);
        tacit_free((*resnet)->blocks);
        tacit_free(*resnet);
    }
    *resnet = NULL;
}

/* Seeded values ------------------------------------------------------------------------------- */

/* Weights of He's variance, gains and variances around 1, the rest around 0. */
static tacit__range range_of(const tacit__slot *slot)
{
    if (slot->rank == 4)
        return (tacit__range){ 0, sqrtf(6.0f / (float)(slot->shape[1] * slot->shape[2] *
                                                       slot->shape[3])) };
    bool one = strstr(slot->name, ".weight") || strstr(slot->name, "_var");
    return (tacit__range){ one ? 1.0f : 0.0f, 0.1f };
}

tacit_status tacit_resnet_seeded(const tacit_resnet_config *config, uint64_t seed,
                                 tacit_tensor_source *source, tacit_err *err)
{
    *source = (tacit_tensor_source){ 0 };
    tacit_status st = tacit__resnet_check(config, err);
    if (st < 0)
        return st;
    size_t count = tacit__resnet_layers(config, NULL, NULL);
    tacit__layer *layers = tacit_calloc(count, sizeof *layers);
    tacit__slot *slots = tacit_calloc(count * TACIT__LAYER_SLOTS, sizeof *slots);
    if (!layers || !slots) {
        tacit_free(layers);
        tacit_free(slots);
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors",
                          count * TACIT__LAYER_SLOTS);
    }
    tacit__resnet_layers(config, layers, NULL);
    tacit__resnet_slots(layers, count, slots);
    tacit_free(layers);
    return tacit__seeded_open(source, slots, count * TACIT__LAYER_SLOTS, range_of, seed, err);
}

void tacit_resnet_seeded_close(tacit_tensor_source *source)
{
    tacit__seeded_close(source);
}
