/* vit_load.c - names, shapes, binding and packing of a ViT's tensors. See vit.h.
 *
 * Every problem with names and shapes is found and reported before a value is read; a model is then
 * either loaded whole or not at all.
 */
#include "vit_internal.h"

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

bool tacit__vit_one_grid(const tacit_vit_config *c)
{
    bool table = c->position == TACIT_POSITION_TABLE;
    return (table || c->relative) &&
           ((table && c->relative) || c->resample == TACIT_RESAMPLE_REFUSE);
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
    size_t pixels = (size_t)3 * c->patch * c->patch, widest = c->mlp > pixels ? c->mlp : pixels;
    size_t tokens = (size_t)(c->height / c->patch) * (c->width / c->patch) + c->registers + 1;
    widest = tokens > widest ? tokens : widest;
    if (c->precision == TACIT_PRECISION_INT8 && widest > TACIT_INT8_MOST)
        return tacit_fail(err, TACIT_ELIMIT, "int8 has products of %d values at most, not of %zu",
                          TACIT_INT8_MOST, widest);
    return TACIT_OK;
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
    const tacit_tensor *pos = tacit__find_tensor(source, "pos_embed"), *shared, *block;
    shared = tacit__find_tensor(source, "rel_pos_bias.relative_position_bias_table");
    block = tacit__find_tensor(source, "blocks.0.attn.relative_position_bias_table");
    c->position = tacit__find_tensor(source, "rope.periods") ? TACIT_POSITION_ROTARY
                  : pos                                      ? TACIT_POSITION_TABLE
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
    const tacit_tensor *patch = tacit__find_tensor(source, "patch_embed.proj.weight");
    const tacit_tensor *fc1 = tacit__find_tensor(source, "blocks.0.mlp.fc1.weight");
    const tacit_tensor *fc2 = tacit__find_tensor(source, "blocks.0.mlp.fc2.weight");
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
    const tacit_tensor *registers = tacit__find_tensor(source, "reg_token");
    const tacit_tensor *head = tacit__find_tensor(source, "head.weight");
    c.no_cls = !tacit__find_tensor(source, "cls_token");
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
    c.layer_scale = tacit__find_tensor(source, "blocks.0.ls1.gamma") != NULL;
    c.no_patch_bias = !tacit__find_tensor(source, "patch_embed.proj.bias");
    c.no_qkv_bias = !tacit__find_tensor(source, "blocks.0.attn.qkv.bias");
    c.qk_norm = tacit__find_tensor(source, "blocks.0.attn.q_norm.weight") != NULL;
    c.pre_norm = tacit__find_tensor(source, "norm_pre.weight") != NULL;
    c.last_norm = tacit__find_tensor(source, "norm.weight")      ? TACIT_NORM_TOKENS
                  : tacit__find_tensor(source, "fc_norm.weight") ? TACIT_NORM_MEAN
                                                                 : TACIT_NORM_NONE;
    if (head && c.pre_norm && !tacit__find_tensor(source, "head.bias") && head->rank == 2 &&
        head->shape[0] <= MAX_DIM)
        c.projection = (unsigned)head->shape[0];
    c.grid[0] = c.grid[1] = (unsigned)side;
    c.height = c.width = side ? (unsigned)side * c.patch : 224 / c.patch * c.patch;
    const tacit_tensor *table = tacit__find_tensor(
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
    if (!same && tacit__vit_one_grid(c))
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

/* What a file may hold beside: heads of what it was trained for, and the blocks behind those that
 * are wanted. */
static bool is_unneeded(const void *config, const char *name)
{
    unsigned block;
    if (sscanf(name, "blocks.%4u.", &block) == 1)
        return block >= ((const tacit_vit_config *)config)->depth;
    return !strncmp(name, "head.", 5) || !strncmp(name, "head_dist.", 10) ||
           !strcmp(name, "mask_token");
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
    size_t most; /* values of a piece */
} loader;

static tacit_status load_piece(void *ctx, size_t i, void *buffer, tacit_err *err)
{
    const loader *l = ctx;
    const piece *p = &l->pieces[i];
    const tacit__slot *slot = &l->slots[p->slot];
    size_t columns = tacit__slot_elements(slot) / slot->shape[0];
    size_t n = p->rows * columns, first = p->first * columns;
    float *floats = buffer, *to = slot->matrix ? floats : *slot->vector + first;
    tacit_status st = tacit__read_floats(l->source, l->index[p->slot], first, n, l->kernels, to,
                                         (uint16_t *)(void *)(floats + l->most), err);
    if (st < 0 || !slot->matrix)
        return st;
    bool pixels = slot->rank == 4 && slot->matrix->precision == TACIT_PRECISION_INT8;
    for (size_t r = 0; pixels && r < p->rows; r++)
        tacit_round_s8(columns, to + r * columns);
    tacit_linear_pack(slot->matrix, l->kernels, p->first, p->rows, to);
    return TACIT_OK;
}

/* All layers are in what is asked for but the projection of a class token at the end, which is
 * little work. */
static tacit_precision precision_of(const tacit_vit *vit, const tacit__slot *slot)
{
    return slot->matrix == &vit->head ? TACIT_PRECISION_FP32 : vit->config.precision;
}

/* Plans (arena NULL) or takes the memory of every slot. */
static bool place_slots(const tacit_vit *vit, tacit__slot *slots, size_t count, size_t *total,
                        tacit_arena *arena)
{
    for (size_t s = 0; s < count; s++) {
        size_t n = tacit__slot_elements(&slots[s]);
        if (slots[s].matrix) {
            if (!tacit_linear_place(slots[s].matrix, precision_of(vit, &slots[s]),
                                    slots[s].shape[0], n / slots[s].shape[0], vit->kernels, total,
                                    arena))
                return false;
        } else if (arena) {
            *slots[s].vector = tacit_arena_take(arena, n, sizeof(float));
        } else if (!tacit_arena_plan(total, n, sizeof(float))) {
            return false;
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
    size_t panel = vit->kernels->gemm_nr, most = 0;
    size_t other = tacit_linear_panel(vit->config.precision, vit->kernels);
    panel = panel > other ? panel : other; /* both are powers of two */
    for (size_t s = 0; s < count; s++) {
        size_t n = tacit__slot_elements(&slots[s]);
        if (slots[s].matrix)
            n = n / slots[s].shape[0] * panel;
        most = n > most ? n : most;
    }
    size_t n = cut_pieces(slots, count, panel, NULL);
    piece *pieces = tacit_calloc(n, sizeof *pieces);
    if (!pieces)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for reading the weights");
    cut_pieces(slots, count, panel, pieces);
    loader l = { .source = source,
                 .kernels = vit->kernels,
                 .slots = slots,
                 .index = index,
                 .pieces = pieces,
                 .most = most };
    tacit_status st =
        tacit__load_pieces(pool, n, most * (sizeof(float) + sizeof(uint16_t)), load_piece, &l, err);
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
    if ((st = tacit__bind(slots, count, source, is_unneeded, config, index, err)) < 0)
        goto end;
    size_t widest = (size_t)3 * config->dim > 2 * (size_t)config->mlp ? (size_t)3 * config->dim
                                                                      : 2 * (size_t)config->mlp;
    widest = config->projection > widest ? config->projection : widest;
    if (!place_slots(vit, slots, count, &total, NULL) ||
        !tacit_arena_plan(&total, widest, sizeof(float))) {
        st = tacit_fail(err, TACIT_ELIMIT, "the model is too large for this machine");
        goto end;
    }
    bool kept;
    if ((st = tacit__take_memory(&vit->arena, total, config->stash, &kept, err)) < 0)
        goto end;
    place_slots(vit, slots, count, NULL, &vit->arena);
    vit->zeros = tacit_arena_take(&vit->arena, widest, sizeof(float));
    if (!kept)
        memset(vit->zeros, 0, widest * sizeof(float));
    for (size_t s = 0; s < count; s++)
        if (slots[s].matrix && !slots[s].matrix->bias)
            slots[s].matrix->bias = vit->zeros;
    if (!kept)
        st = read_all(vit, slots, count, index, source, pool, err);
    if (st >= 0 && !kept && config->stash)
        config->stash->keep(config->stash->ctx, vit->arena.base, total);
    if (st >= 0)
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
