/* vit_load.c - names, shapes, binding and packing of a ViT's tensors. See vit.h.
 *
 * Every problem with names and shapes is found and reported before a value is read; a model is then
 * either loaded whole or not at all.
 */
#include "vit_internal.h"

#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* Far above any published network, low enough that no product of sizes below overflows. */
#define MAX_DIM    16384
#define MAX_DEPTH  256
#define MAX_IMAGE  16384
#define MAX_TOKENS (1 << 20)

static const tacit_vit_config sizes[] = {
#define TACIT_MODEL(name_, dim_, depth_, heads_, mlp_, patch_)                                     \
    { .name = name_,                                                                               \
      .dim = dim_,                                                                                 \
      .depth = depth_,                                                                             \
      .heads = heads_,                                                                             \
      .mlp = mlp_,                                                                                 \
      .patch = patch_,                                                                             \
      .height = 224,                                                                               \
      .width = 224,                                                                                \
      .eps = 1e-6f },
#include "models.inc"
#undef TACIT_MODEL
};

const tacit_vit_config *tacit_vit_row(size_t i)
{
    return i < sizeof sizes / sizeof *sizes ? &sizes[i] : NULL;
}

const tacit_vit_config *tacit_vit_find(const char *name)
{
    for (size_t i = 0; tacit_vit_row(i); i++) {
        size_t n = strlen(sizes[i].name);
        if (!strncmp(name, sizes[i].name, n) && (name[n] == 0 || name[n] == '_'))
            return &sizes[i];
    }
    return NULL;
}

const tacit_vit_config *tacit_vit_config_of(const tacit_vit *vit)
{
    return &vit->config;
}

/* Names and shapes ---------------------------------------------------------------------------- */

size_t tacit__vit_slot_count(const tacit_vit_config *c)
{
    return TACIT__SLOTS_FIXED + (size_t)c->depth * TACIT__SLOTS_BLOCK;
}

size_t tacit__vit_position_rows(const tacit_vit_config *c)
{
    return (size_t)c->grid[0] * c->grid[1] + (c->no_cls || c->position_no_cls ? 0 : 1);
}

size_t tacit__vit_relative_rows(const tacit_vit_config *c)
{
    return (size_t)(2 * c->grid[0] - 1) * (2 * c->grid[1] - 1) + (c->no_cls ? 0 : 3);
}

static tacit__slot *add_vector(tacit__slot *s, const char *prefix, const char *name, size_t n,
                               float **to)
{
    *s = (tacit__slot){ .rank = 1, .shape = { n }, .vector = to };
    snprintf(s->name, sizeof s->name, "%s%s", prefix, name);
    return s + 1;
}

/* name.weight and name.bias, (n) each */
static tacit__slot *add_norm(tacit__slot *s, const char *prefix, const char *name, size_t n,
                             tacit__norm *to)
{
    *s = (tacit__slot){ .rank = 1, .shape = { n }, .vector = to ? &to->gamma : NULL };
    snprintf(s->name, sizeof s->name, "%s%s.weight", prefix, name);
    s++;
    *s = (tacit__slot){ .rank = 1, .shape = { n }, .vector = to ? &to->beta : NULL };
    snprintf(s->name, sizeof s->name, "%s%s.bias", prefix, name);
    return s + 1;
}

/* name.weight (out, in) and, where it has one, name.bias (out) */
static tacit__slot *add_linear(tacit__slot *s, const char *prefix, const char *name, size_t out,
                               size_t in, bool bias, tacit_linear *to)
{
    *s = (tacit__slot){ .rank = 2, .shape = { out, in }, .matrix = to };
    snprintf(s->name, sizeof s->name, "%s%s.weight", prefix, name);
    s++;
    if (!bias)
        return s;
    *s = (tacit__slot){ .rank = 1, .shape = { out }, .vector = to ? &to->bias : NULL };
    snprintf(s->name, sizeof s->name, "%s%s.bias", prefix, name);
    return s + 1;
}

/* name (1, n, dim) */
static tacit__slot *add_tokens(tacit__slot *s, const char *name, size_t n, size_t dim, float **to)
{
    s = add_vector(s, "", name, dim, to);
    s[-1].rank = 3;
    memcpy(s[-1].shape, (size_t[]){ 1, n, dim }, 3 * sizeof(size_t));
    return s;
}

static tacit__slot *add_table(tacit__slot *s, const char *prefix, const char *name,
                              const tacit_vit_config *c, float **to)
{
    s = add_vector(s, prefix, name, tacit__vit_relative_rows(c), to);
    s[-1].rank = 2;
    s[-1].shape[1] = c->heads;
    return s;
}

static tacit__slot *add_block(tacit__slot *s, const tacit_vit_config *c, unsigned i,
                              tacit__block *b)
{
    char prefix[32];
    size_t head = c->dim / c->heads, hidden = c->activation == TACIT_SWIGLU ? 2 : 1;
    snprintf(prefix, sizeof prefix, "blocks.%u.", i);
#define TO(member) (b ? &b->member : NULL)
    s = add_norm(s, prefix, "norm1", c->dim, TO(norm1));
    s = add_linear(s, prefix, "attn.qkv", (size_t)3 * c->dim, c->dim, !c->no_qkv_bias, TO(qkv));
    if (c->qk_norm) {
        s = add_norm(s, prefix, "attn.q_norm", head, TO(q_norm));
        s = add_norm(s, prefix, "attn.k_norm", head, TO(k_norm));
    }
    if (c->relative == TACIT_RELATIVE_BLOCK)
        s = add_table(s, prefix, "attn.relative_position_bias_table", c, TO(table));
    s = add_linear(s, prefix, "attn.proj", c->dim, c->dim, true, TO(proj));
    s = add_norm(s, prefix, "norm2", c->dim, TO(norm2));
    s = add_linear(s, prefix, "mlp.fc1", hidden * c->mlp, c->dim, true, TO(fc1));
    s = add_linear(s, prefix, "mlp.fc2", c->dim, c->mlp, true, TO(fc2));
    if (c->layer_scale) {
        s = add_vector(s, prefix, "ls1.gamma", c->dim, TO(ls1));
        s = add_vector(s, prefix, "ls2.gamma", c->dim, TO(ls2));
    }
#undef TO
    return s;
}

size_t tacit__vit_slots(const tacit_vit_config *config, tacit_vit *vit, tacit__slot *slots)
{
    tacit_vit_config c = *config;
    tacit__slot *s = slots;
    if (!c.grid[0])
        c.grid[0] = c.height / c.patch, c.grid[1] = c.width / c.patch;
#define TO(member) (vit ? &vit->member : NULL)
    if (!c.no_cls)
        s = add_tokens(s, "cls_token", 1, c.dim, TO(cls));
    if (c.registers)
        s = add_tokens(s, "reg_token", c.registers, c.dim, TO(registers));
    if (c.position == TACIT_POSITION_TABLE)
        s = add_tokens(s, "pos_embed", tacit__vit_position_rows(&c), c.dim, TO(stored));
    if (c.position == TACIT_POSITION_ROTARY)
        s = add_vector(s, "", "rope.periods", c.dim / c.heads / 4, TO(periods));
    s = add_linear(s, "", "patch_embed.proj", c.dim, 0, !c.no_patch_bias, TO(embed));
    tacit__slot *embed = s - (c.no_patch_bias ? 1 : 2);
    embed->rank = 4;
    memcpy(embed->shape, (size_t[]){ c.dim, 3, c.patch, c.patch }, 4 * sizeof(size_t));
    if (c.pre_norm)
        s = add_norm(s, "", "norm_pre", c.dim, TO(norm_pre));
    if (c.relative == TACIT_RELATIVE_SHARED)
        s = add_table(s, "", "rel_pos_bias.relative_position_bias_table", &c, TO(table));
    for (unsigned i = 0; i < c.depth; i++)
        s = add_block(s, &c, i, vit ? &vit->blocks[i] : NULL);
    if (c.last_norm != TACIT_NORM_NONE)
        s = add_norm(s, "", c.last_norm == TACIT_NORM_MEAN ? "fc_norm" : "norm", c.dim, TO(norm));
    if (c.projection)
        s = add_linear(s, "", "head", c.projection, c.dim, false, TO(head));
#undef TO
    return (size_t)(s - slots);
}

static size_t slot_elements(const tacit__slot *s)
{
    size_t n = 1;
    for (unsigned i = 0; i < s->rank; i++)
        n *= s->shape[i];
    return n;
}

tacit_status tacit__vit_check(const tacit_vit_config *c, tacit_err *err)
{
    if (!c->dim || c->dim > MAX_DIM || !c->depth || c->depth > MAX_DEPTH || !c->mlp ||
        c->mlp > 8 * MAX_DIM || !c->patch || c->patch > MAX_IMAGE || !c->heads || c->dim % c->heads)
        return tacit_fail(err, TACIT_EINVAL,
                          "no network of dim %u, depth %u, heads %u, mlp %u, patch %u", c->dim,
                          c->depth, c->heads, c->mlp, c->patch);
    if (!c->height || !c->width || c->height > MAX_IMAGE || c->width > MAX_IMAGE ||
        c->height % c->patch || c->width % c->patch)
        return tacit_fail(err, TACIT_EINVAL, "input of %u x %u is no multiple of the patch size %u",
                          c->width, c->height, c->patch);
    if (c->registers > MAX_TOKENS || c->projection > 8 * MAX_DIM || !c->grid[0] != !c->grid[1] ||
        c->grid[0] > MAX_IMAGE || c->grid[1] > MAX_IMAGE)
        return tacit_fail(err, TACIT_EINVAL,
                          "no network with %u registers, %u outputs, and tables of %u x %u",
                          c->registers, c->projection, c->grid[0], c->grid[1]);
    if ((c->position == TACIT_POSITION_ROTARY && c->dim / c->heads % 4) ||
        (c->no_cls && (c->registers || c->projection)))
        return tacit_fail(err, TACIT_EUNSUPPORTED, "a network of parts that do not go together");
    if ((size_t)(c->height / c->patch) * (c->width / c->patch) > MAX_TOKENS)
        return tacit_fail(err, TACIT_ELIMIT, "input of %u x %u has too many patches of %u",
                          c->width, c->height, c->patch);
    return TACIT_OK;
}

static const tacit_tensor *find_tensor(const tacit_tensor_source *source, const char *name)
{
    for (size_t i = 0; i < source->count; i++)
        if (!strcmp(source->tensors[i].name, name))
            return &source->tensors[i];
    return NULL;
}

/* The side of a square of n; 0 where n is none. */
static size_t square_side(size_t n)
{
    size_t side = 0;
    while (side < MAX_IMAGE && (side + 1) * (side + 1) <= n)
        side++;
    return side * side == n ? side : 0;
}

/* The grid of the tables, as a side: that of the position table, else of the relative one. 0 where
 * there is none, SIZE_MAX where it is not that of a square. */
static size_t table_side(const tacit_tensor_source *source, tacit_vit_config *c)
{
    const tacit_tensor *pos = find_tensor(source, "pos_embed"), *shared, *block;
    shared = find_tensor(source, "rel_pos_bias.relative_position_bias_table");
    block = find_tensor(source, "blocks.0.attn.relative_position_bias_table");
    c->position = find_tensor(source, "rope.periods") ? TACIT_POSITION_ROTARY
                  : pos                               ? TACIT_POSITION_TABLE
                                                      : TACIT_POSITION_NONE;
    c->relative = shared  ? TACIT_RELATIVE_SHARED
                  : block ? TACIT_RELATIVE_BLOCK
                          : TACIT_RELATIVE_NONE;
    const tacit_tensor *relative = shared ? shared : block;
    if (c->position == TACIT_POSITION_TABLE) {
        size_t rows = pos->rank == 3 ? pos->shape[1] : 0, side = 0;
        if (!c->no_cls && rows)
            side = square_side(rows - 1);
        if (!side) {
            side = square_side(rows);
            c->position_no_cls = side && !c->no_cls;
        }
        return side ? side : SIZE_MAX;
    }
    if (relative) {
        size_t rows = relative->rank == 2 ? relative->shape[0] : 0, cls = c->no_cls ? 0 : 3;
        size_t side = rows > cls ? square_side(rows - cls) : 0;
        return side % 2 ? (side + 1) / 2 : SIZE_MAX;
    }
    return 0;
}

tacit_status tacit_vit_detect(const tacit_tensor_source *source, unsigned heads,
                              tacit_vit_config *config, tacit_err *err)
{
    const tacit_tensor *patch = find_tensor(source, "patch_embed.proj.weight");
    const tacit_tensor *fc1 = find_tensor(source, "blocks.0.mlp.fc1.weight");
    const tacit_tensor *fc2 = find_tensor(source, "blocks.0.mlp.fc2.weight");
    const tacit_tensor *wanted[] = { patch, fc1, fc2 };
    static const char *const names[] = { "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight",
                                         "blocks.0.mlp.fc2.weight" };
    for (int i = 0; i < 3; i++)
        if (!wanted[i] || wanted[i]->rank != (i ? 2 : 4))
            return tacit_fail(err, TACIT_EUNSUPPORTED,
                              "not a ViT with timm's names: %s is missing or has another rank",
                              names[i]);
    unsigned depth = 0, block;
    for (size_t i = 0; i < source->count; i++)
        if (sscanf(source->tensors[i].name, "blocks.%4u.", &block) == 1 && block >= depth)
            depth = block + 1;
    tacit_vit_config c = { .depth = depth, .eps = 1e-6f };
    const tacit_tensor *registers = find_tensor(source, "reg_token");
    const tacit_tensor *head = find_tensor(source, "head.weight");
    c.no_cls = !find_tensor(source, "cls_token");
    size_t side = table_side(source, &c);
    if (patch->shape[0] > MAX_DIM || !patch->shape[2] || patch->shape[2] != patch->shape[3] ||
        patch->shape[2] > MAX_IMAGE || fc1->shape[0] > 8 * MAX_DIM || side == SIZE_MAX ||
        side * patch->shape[2] > MAX_IMAGE || (registers && registers->rank != 3) ||
        (registers && registers->shape[1] > MAX_TOKENS))
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "not a ViT that can be run: patch_embed.proj.weight (%zu, %zu, %zu, "
                          "%zu), or the tables of positions are of no square",
                          patch->shape[0], patch->shape[1], patch->shape[2], patch->shape[3]);
    c.dim = (unsigned)patch->shape[0];
    c.patch = (unsigned)patch->shape[2];
    c.mlp = (unsigned)(fc2->shape[1] <= fc1->shape[0] ? fc2->shape[1] : fc1->shape[0]);
    c.activation = fc1->shape[0] == 2 * fc2->shape[1] ? TACIT_SWIGLU : TACIT_GELU;
    c.registers = registers ? (unsigned)registers->shape[1] : 0;
    c.layer_scale = find_tensor(source, "blocks.0.ls1.gamma") != NULL;
    c.no_patch_bias = !find_tensor(source, "patch_embed.proj.bias");
    c.no_qkv_bias = !find_tensor(source, "blocks.0.attn.qkv.bias");
    c.qk_norm = find_tensor(source, "blocks.0.attn.q_norm.weight") != NULL;
    c.pre_norm = find_tensor(source, "norm_pre.weight") != NULL;
    c.last_norm = find_tensor(source, "norm.weight")      ? TACIT_NORM_TOKENS
                  : find_tensor(source, "fc_norm.weight") ? TACIT_NORM_MEAN
                                                          : TACIT_NORM_NONE;
    if (head && c.pre_norm && !find_tensor(source, "head.bias") && head->rank == 2 &&
        head->shape[0] <= MAX_DIM)
        c.projection = (unsigned)head->shape[0];
    c.grid[0] = c.grid[1] = (unsigned)side;
    c.height = c.width = side ? (unsigned)side * c.patch : 224 / c.patch * c.patch;
    const tacit_tensor *table = find_tensor(
        source, c.relative == TACIT_RELATIVE_SHARED ? "rel_pos_bias.relative_position_bias_table"
                                                    : "blocks.0.attn.relative_position_bias_table");
    c.heads = c.dim % 64 == 0 ? c.dim / 64 : 0;
    for (const tacit_vit_config *r = sizes; r < sizes + sizeof sizes / sizeof *sizes; r++)
        if (r->dim == c.dim && r->depth == c.depth && r->mlp == c.mlp && r->patch == c.patch) {
            c.name = r->name;
            c.heads = r->heads;
        }
    if (table && table->shape[1] <= MAX_DIM)
        c.heads = (unsigned)table->shape[1];
    if (heads)
        c.heads = heads;
    if (!c.heads)
        return tacit_fail(err, TACIT_EUNSUPPORTED,
                          "a ViT of dim %u: the number of heads cannot be told from the tensors",
                          c.dim);
    *config = c;
    return tacit__vit_check(config, err);
}

tacit_status tacit_vit_set_input(tacit_vit_config *c, unsigned height, unsigned width,
                                 tacit_err *err)
{
    if (height == c->height && width == c->width)
        return TACIT_OK;
    if (!height || !width || height % c->patch || width % c->patch)
        return tacit_fail(err, TACIT_EINVAL, "size %u x %u is no multiple of the patch size %u",
                          height, width, c->patch);
    unsigned rows = c->grid[0] ? c->grid[0] : c->height / c->patch;
    unsigned columns = c->grid[1] ? c->grid[1] : c->width / c->patch;
    bool same = height / c->patch == rows && width / c->patch == columns;
    if (!same && (c->relative || c->position == TACIT_POSITION_TABLE) &&
        c->resample == TACIT_RESAMPLE_REFUSE)
        return tacit_fail(err, TACIT_EINVAL,
                          "size %u x %u does not fit the position table, which is for %u x %u and "
                          "has no published way to another size",
                          height, width, rows * c->patch, columns * c->patch);
    if (c->position == TACIT_POSITION_TABLE || c->relative) {
        c->grid[0] = rows;
        c->grid[1] = columns;
    }
    c->height = height;
    c->width = width;
    return tacit__vit_check(c, err);
}

double tacit_vit_flops(const tacit_vit_config *c)
{
    double patches = (double)(c->height / c->patch) * (c->width / c->patch), dim = c->dim;
    double tokens = patches + c->registers + (c->no_cls ? 0 : 1);
    double mlp = c->activation == TACIT_SWIGLU ? 3.0 * c->mlp : 2.0 * c->mlp;
    double block = 2 * tokens * dim * (4 * dim + mlp) + 4 * tokens * tokens * dim;
    return 2 * patches * dim * 3 * c->patch * c->patch + c->depth * block;
}

/* Binding ------------------------------------------------------------------------------------- */

/* What a timm file may hold beside the backbone. */
static bool is_unneeded(const char *name)
{
    return !strncmp(name, "head.", 5) || !strncmp(name, "head_dist.", 10) ||
           !strcmp(name, "mask_token");
}

/* Appends to the list of complaints, which the message then cuts to what fits. */
static void complain(char *list, size_t size, size_t *count, const char *what, const char *name)
{
    size_t n = strlen(list);
    snprintf(list + n, size - n, "%s%s %s", *count ? ", " : "", what, name);
    ++*count;
}

static void shape_text(char *text, size_t size, const size_t *shape, unsigned rank)
{
    size_t n = 0;
    text[0] = 0;
    for (unsigned i = 0; i < rank && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s%zu", i ? "x" : "", shape[i]);
}

static bool same_shape(const tacit__slot *s, const tacit_tensor *t)
{
    return t->rank == s->rank && !memcmp(t->shape, s->shape, s->rank * sizeof *s->shape);
}

static bool is_float(tacit_dtype dtype)
{
    return dtype == TACIT_F32 || dtype == TACIT_F16 || dtype == TACIT_BF16;
}

/* index[s] becomes the tensor of slot s. */
static tacit_status bind(const tacit__slot *slots, size_t count, const tacit_tensor_source *source,
                         size_t *index, tacit_err *err)
{
    char list[700] = "";
    size_t complaints = 0;
    bool *used = tacit_calloc(source->count ? source->count : 1, sizeof *used);
    if (!used)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %zu tensors", source->count);
    for (size_t s = 0; s < count; s++) {
        const tacit_tensor *t = find_tensor(source, slots[s].name);
        if (!t) {
            complain(list, sizeof list, &complaints, "missing", slots[s].name);
            continue;
        }
        index[s] = (size_t)(t - source->tensors);
        used[index[s]] = true;
        char text[256], have[96], want[96];
        if (!same_shape(&slots[s], t)) {
            shape_text(have, sizeof have, t->shape, t->rank);
            shape_text(want, sizeof want, slots[s].shape, slots[s].rank);
            snprintf(text, sizeof text, "%s (is %s, must be %s)", slots[s].name, have, want);
            complain(list, sizeof list, &complaints, "mis-shaped", text);
        } else if (!is_float(t->dtype)) {
            snprintf(text, sizeof text, "%s (%s; F32, F16 and BF16 are read)", slots[s].name,
                     tacit_dtype_name(t->dtype));
            complain(list, sizeof list, &complaints, "of another type:", text);
        }
    }
    for (size_t i = 0; i < source->count; i++)
        if (!used[i] && !is_unneeded(source->tensors[i].name))
            complain(list, sizeof list, &complaints, "unexpected", source->tensors[i].name);
    tacit_free(used);
    if (complaints)
        return tacit_fail(err, TACIT_EFORMAT, "%zu tensor%s not as the model needs: %s", complaints,
                          complaints > 1 ? "s" : "", list);
    return TACIT_OK;
}

/* Reading and packing ------------------------------------------------------------------------- */

typedef struct piece {
    size_t slot, first, rows; /* of the matrix (or the vector, as one row each) */
} piece;

typedef struct loader {
    const tacit_tensor_source *source;
    const tacit_kernels *kernels;
    const tacit__slot *slots;
    const size_t *index;
    const piece *pieces;
    unsigned char *buffers;
    size_t floats_each, raw_each;
    pthread_mutex_t lock;
    size_t failed; /* lowest piece that failed, SIZE_MAX for none */
    tacit_status status;
    tacit_err err;
} loader;

static bool all_finite(const float *x, size_t n)
{
    uint32_t bad = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, x + i, sizeof bits);
        bad |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !bad;
}

/* n values of tensor t from element `first` on, as floats. raw has room for n half values. */
static tacit_status read_floats(const loader *l, size_t t, size_t first, size_t n, float *to,
                                uint16_t *raw, tacit_err *err)
{
    const tacit_tensor_source *s = l->source;
    if (s->tensors[t].dtype == TACIT_F32)
        return s->read(s->ctx, t, first * 4, n * 4, to, err);
    tacit_status st = s->read(s->ctx, t, first * 2, n * 2, raw, err);
    if (st < 0)
        return st;
    if (s->tensors[t].dtype == TACIT_F16)
        l->kernels->f16_to_f32(n, raw, to);
    else
        l->kernels->bf16_to_f32(n, raw, to);
    return TACIT_OK;
}

static void load_piece(void *ctx, size_t i, unsigned worker)
{
    loader *l = ctx;
    const piece *p = &l->pieces[i];
    const tacit__slot *slot = &l->slots[p->slot];
    size_t columns = slot_elements(slot) / slot->shape[0];
    size_t n = p->rows * columns, first = p->first * columns;
    float *buffer = (float *)(void *)(l->buffers + worker * (l->floats_each + l->raw_each));
    uint16_t *raw = (uint16_t *)(void *)((unsigned char *)buffer + l->floats_each);
    float *to = slot->matrix ? buffer : *slot->vector + first;
    tacit_err err;
    tacit_status st = read_floats(l, l->index[p->slot], first, n, to, raw, &err);
    if (st == TACIT_OK && !all_finite(to, n))
        st = tacit_fail(&err, TACIT_EFORMAT, "tensor %s holds a value that is not finite",
                        slot->name);
    if (st < 0) {
        pthread_mutex_lock(&l->lock);
        if (i < l->failed) {
            l->failed = i;
            l->status = st;
            l->err = err;
        }
        pthread_mutex_unlock(&l->lock);
        return;
    }
    if (slot->matrix)
        l->kernels->gemm_pack_f32(p->rows, columns, buffer, columns, slot->matrix->packed + first);
}

/* Plans (arena NULL) or takes the memory of every slot. */
static bool place_slots(tacit__slot *slots, size_t count, const tacit_kernels *kernels,
                        size_t *total, tacit_arena *arena)
{
    for (size_t s = 0; s < count; s++) {
        size_t n = slot_elements(&slots[s]);
        if (slots[s].matrix)
            n = tacit_gemm_packed_size(kernels, slots[s].shape[0], n / slots[s].shape[0]);
        if (!arena) {
            if (!tacit_arena_plan(total, n, sizeof(float)))
                return false;
            continue;
        }
        float *to = tacit_arena_take(arena, n, sizeof(float));
        if (slots[s].matrix) {
            slots[s].matrix->packed = to;
            slots[s].matrix->out = slots[s].shape[0];
            slots[s].matrix->in = slot_elements(&slots[s]) / slots[s].shape[0];
        } else {
            *slots[s].vector = to;
        }
    }
    return true;
}

/* Matrices in pieces of one panel, vectors whole. pieces NULL counts. */
static size_t cut_pieces(const tacit__slot *slots, size_t count, size_t panel, piece *pieces)
{
    size_t n = 0;
    for (size_t s = 0; s < count; s++) {
        size_t rows = slots[s].shape[0], step = slots[s].matrix ? panel : rows;
        for (size_t first = 0; first < rows; first += step, n++)
            if (pieces)
                pieces[n] = (piece){ s, first, rows - first < step ? rows - first : step };
    }
    return n;
}

static tacit_status read_all(tacit_vit *vit, const tacit__slot *slots, size_t count,
                             const size_t *index, const tacit_tensor_source *source,
                             tacit_pool *pool, tacit_err *err)
{
    size_t panel = vit->kernels->gemm_nr, most = 0, bytes;
    for (size_t s = 0; s < count; s++) {
        size_t n = slot_elements(&slots[s]);
        if (slots[s].matrix)
            n = n / slots[s].shape[0] * panel;
        most = n > most ? n : most;
    }
    loader l = { .source = source,
                 .kernels = vit->kernels,
                 .slots = slots,
                 .index = index,
                 .floats_each = (most * 4 + 63) / 64 * 64,
                 .raw_each = (most * 2 + 63) / 64 * 64,
                 .failed = SIZE_MAX };
    size_t n = cut_pieces(slots, count, panel, NULL);
    piece *pieces = tacit_calloc(n, sizeof *pieces);
    if (tacit_mul_size(l.floats_each + l.raw_each, tacit_pool_threads(pool), &bytes))
        l.buffers = tacit_alloc(bytes);
    tacit_status st = TACIT_OK;
    if (!pieces || !l.buffers) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for reading the weights");
    } else if (pthread_mutex_init(&l.lock, NULL)) {
        st = tacit_fail(err, TACIT_ENOMEM, "the system gives no lock for reading the weights");
    } else {
        cut_pieces(slots, count, panel, pieces);
        l.pieces = pieces;
        tacit_parallel_for(pool, n, load_piece, &l);
        pthread_mutex_destroy(&l.lock);
        st = l.status;
        if (st < 0 && err)
            *err = l.err;
    }
    tacit_free(l.buffers);
    tacit_free(pieces);
    return st;
}

tacit_status tacit_vit_open(tacit_vit **out, const tacit_vit_config *config,
                            const tacit_tensor_source *source, const tacit_kernels *kernels,
                            tacit_pool *pool, tacit_err *err)
{
    *out = NULL;
    tacit_status st = tacit__vit_check(config, err);
    if (st < 0)
        return st;
    size_t count = tacit__vit_slot_count(config), total = 0;
    tacit_vit *vit = tacit_calloc(1, sizeof *vit);
    tacit__slot *slots = tacit_calloc(count, sizeof *slots);
    size_t *index = tacit_calloc(count, sizeof *index);
    if (vit)
        vit->blocks = tacit_calloc(config->depth, sizeof *vit->blocks);
    if (!vit || !slots || !index || !vit->blocks) {
        st = tacit_fail(err, TACIT_ENOMEM, "out of memory for a model of %zu tensors", count);
        goto end;
    }
    vit->config = *config;
    vit->kernels = kernels;
    vit->patches = (size_t)(config->height / config->patch) * (config->width / config->patch);
    vit->prefix = config->registers + (config->no_cls ? 0 : 1);
    vit->tokens = vit->patches + vit->prefix;
    if (!config->grid[0]) {
        vit->config.grid[0] = config->height / config->patch;
        vit->config.grid[1] = config->width / config->patch;
    }
    count = tacit__vit_slots(config, vit, slots);
    if ((st = bind(slots, count, source, index, err)) < 0)
        goto end;
    size_t widest = (size_t)3 * config->dim > 2 * (size_t)config->mlp ? (size_t)3 * config->dim
                                                                      : 2 * (size_t)config->mlp;
    widest = config->projection > widest ? config->projection : widest;
    if (!place_slots(slots, count, kernels, &total, NULL) ||
        !tacit_arena_plan(&total, widest, sizeof(float))) {
        st = tacit_fail(err, TACIT_ELIMIT, "the model is too large for this machine");
        goto end;
    }
    if ((st = tacit_arena_open(&vit->arena, total, err)) < 0)
        goto end;
    place_slots(slots, count, kernels, NULL, &vit->arena);
    vit->zeros = tacit_arena_take(&vit->arena, widest, sizeof(float));
    memset(vit->zeros, 0, widest * sizeof(float));
    for (size_t s = 0; s < count; s++)
        if (slots[s].matrix && !slots[s].matrix->bias)
            slots[s].matrix->bias = vit->zeros;
    if ((st = read_all(vit, slots, count, index, source, pool, err)) >= 0)
        st = tacit__vit_position(vit, err);
end:
    tacit_free(index);
    tacit_free(slots);
    if (st < 0)
        tacit_vit_close(&vit);
    *out = vit;
    return st;
}

void tacit_vit_close(tacit_vit **vit)
{
    if (*vit) {
        tacit_arena_close(&(*vit)->arena);
        tacit_free((*vit)->made);
        tacit_free((*vit)->blocks);
        tacit_free(*vit);
    }
    *vit = NULL;
}
