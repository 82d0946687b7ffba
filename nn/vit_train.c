/* vit_train.c - see vit_train.h. */
#include "vit_train.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#define PAD 16

static size_t side_of(const tacit_vit_train_config *c)
{
    return c->image / c->patch;
}

static tacit_status refuse_positions(const tacit_vit_train_config *c, tacit_err *err)
{
    return tacit_fail(err, TACIT_EINVAL, "fixed positions need a width that 4 divides, not %u",
                      c->dim);
}

static tacit_trunk_config trunk_of(const tacit_vit_train_config *c)
{
    tacit_trunk_config trunk = { .dim = c->dim,
                                 .depth = c->depth,
                                 .heads = c->heads,
                                 .mlp = c->mlp,
                                 .eps = c->eps,
                                 .drop_path = c->drop_path,
                                 .recompute = c->recompute,
                                 .layer_scale = c->layer_scale,
                                 .no_k_bias = c->no_k_bias };
    if (c->init != TACIT_VIT_INIT_MAE)
        trunk.weight = (tacit_init){ .kind = TACIT_INIT_NORMAL, .size = 0.02 };
    return trunk;
}

tacit_status tacit_vit_train_declare(tacit_vit_train *vit, const tacit_vit_train_config *config,
                                     size_t max_batch, size_t max_kept, tacit_params *params,
                                     tacit_work *work, tacit_err *err)
{
    const tacit_vit_train_config *c = config;
    *vit = (tacit_vit_train){ .config = *c, .work = work, .max_batch = max_batch };
    if (!c->patch || !c->dim || c->image < c->patch || c->image % c->patch)
        return tacit_fail(err, TACIT_EINVAL, "images of %u x %u do not divide into patches of %u",
                          c->image, c->image, c->patch);
    if (c->fixed_positions && c->dim % 4)
        return refuse_positions(c, err);
    if (c->relative && c->grid && c->grid != side_of(c))
        return tacit_fail(err, TACIT_EINVAL,
                          "relative positions of %u x %u patches do not fit images of %u x %u",
                          c->grid, c->grid, c->image, c->image);
    assert(!c->relative || !max_kept);
    size_t dim = c->dim, values = (size_t)3 * c->patch * c->patch;
    size_t side = side_of(c), grid = c->grid ? c->grid : side;
    vit->patches = side * side;
    vit->lead = !c->no_cls;
    vit->resampled = !c->no_positions && grid != side;
    vit->regrid = (tacit_regrid){
        .from = { grid, grid }, .to = { side, side }, .dim = dim, .rule = TACIT_RESAMPLE_OFFSET
    };
    vit->max_kept = max_kept && max_kept < vit->patches ? max_kept : vit->patches;
    vit->ld_pixels = values + PAD;
    const tacit_init small = { .kind = TACIT_INIT_NORMAL, .size = 0.02 };
    const tacit_init sincos = { .kind = TACIT_INIT_SINCOS };
    tacit_init weight = c->init == TACIT_VIT_INIT_MAE      ? tacit_init_xavier(values, dim)
                        : c->init == TACIT_VIT_INIT_NORMAL ? small
                                                           : tacit_init_default(values);
    tacit_status st = TACIT_OK;
    if (vit->lead)
        st = tacit_params_add(params, "cls_token", 3, (const size_t[]){ 1, 1, dim }, small,
                              &vit->cls, err);
    if (st == TACIT_OK && !c->no_positions)
        st = tacit_params_add(params, "pos_embed", 3,
                              (const size_t[]){ 1, vit->lead + grid * grid, dim },
                              c->fixed_positions ? sincos : small, &vit->positions, err);
    if (st == TACIT_OK && c->relative)
        st = tacit_relative_bias_declare(&vit->relative, side, vit->lead, c->heads, params, err);
    if (st == TACIT_OK) {
        if (vit->positions)
            vit->positions->frozen = c->fixed_positions;
        st = tacit_dense_declare(&vit->embed, "patch_embed.proj", values, dim, true, 4,
                                 (const size_t[]){ dim, 3, c->patch, c->patch }, weight,
                                 c->init == TACIT_VIT_INIT_NORMAL ? TACIT_ZEROS
                                                                  : tacit_init_default(values),
                                 max_batch * vit->max_kept, params, work, err);
    }
    tacit_trunk_config trunk = trunk_of(c);
    if (st == TACIT_OK)
        st = tacit_trunk_declare(&vit->trunk, &trunk, "blocks", "norm", max_batch,
                                 vit->lead + vit->max_kept, params, work, err);
    tacit_work_need(&work->worker_floats, vit->patches * values);
    return st;
}

tacit_status tacit_vit_train_as_moco(tacit_vit_train *vit, bool freeze, tacit_err *err)
{
    size_t dim = vit->config.dim, mlp = vit->config.mlp;
    if (dim % 4)
        return refuse_positions(&vit->config, err);
    if (vit->lead)
        vit->cls->init = (tacit_init){ .kind = TACIT_INIT_NORMAL, .size = 1e-6 };
    vit->positions->init = (tacit_init){ .kind = TACIT_INIT_SINCOS_ROWS };
    vit->positions->frozen = true;
    vit->embed.w->init = tacit_init_xavier(vit->embed.in, dim);
    vit->embed.b->init = TACIT_ZEROS;
    vit->embed.w->frozen = vit->embed.b->frozen = freeze;
    for (size_t i = 0; i < vit->config.depth; i++) {
        const tacit_block *b = &vit->trunk.blocks[i];
        b->qkv.w->init = b->proj.w->init = tacit_init_xavier(dim, dim);
        b->fc1.w->init = b->fc2.w->init = tacit_init_xavier(dim, mlp);
    }
    return TACIT_OK;
}

void tacit_vit_train_as_mvit(tacit_vit_train *vit)
{
    const tacit_init bias = { .kind = TACIT_INIT_CONSTANT, .size = 0.02 };
    vit->embed.w->init = (tacit_init){ .kind = TACIT_INIT_NORMAL, .size = 0.02 };
    for (size_t i = 0; i < vit->config.depth; i++) {
        const tacit_block *b = &vit->trunk.blocks[i];
        b->norm1.beta->init = b->norm2.beta->init = bias;
        b->qkv.b->init = b->proj.b->init = b->fc1.b->init = b->fc2.b->init = bias;
    }
}

void tacit_vit_train_as_beit(tacit_vit_train *vit)
{
    const tacit_init cut = { .kind = TACIT_INIT_TRUNCATED, .size = 0.02, .cut = 1 };
    tacit_param *tokens[] = { vit->cls, vit->positions, vit->mask_token };
    for (size_t i = 0; i < sizeof tokens / sizeof *tokens; i++)
        if (tokens[i]) {
            tokens[i]->init = cut;
            tokens[i]->no_decay = tokens[i] != vit->mask_token;
        }
    vit->embed.w->init = cut;
    vit->embed.b->init = TACIT_ZEROS;
    for (size_t i = 0; i < vit->config.depth; i++) {
        const tacit_block *b = &vit->trunk.blocks[i];
        b->qkv.w->init = b->proj.w->init = b->fc1.w->init = b->fc2.w->init = cut;
        b->proj.w->init.size = b->fc2.w->init.size = 0.02 / sqrt(2 * (double)(i + 1));
    }
}

tacit_status tacit_vit_train_add_mask_token(tacit_vit_train *vit, tacit_params *params,
                                            tacit_work *work, tacit_err *err)
{
    size_t dim = vit->config.dim;
    tacit_work_need(&work->partial_floats, vit->max_batch * dim);
    return tacit_params_add(params, "mask_token", 3, (const size_t[]){ 1, 1, dim },
                            (tacit_init){ .kind = TACIT_INIT_NORMAL, .size = 0.02 },
                            &vit->mask_token, err);
}

void tacit_vit_train_close(tacit_vit_train *vit)
{
    tacit_trunk_close(&vit->trunk);
    *vit = (tacit_vit_train){ 0 };
}

bool tacit_vit_train_plan(const tacit_vit_train *vit, size_t *total)
{
    size_t rows = vit->max_batch * vit->max_kept;
    size_t tokens = vit->max_batch * (vit->lead + vit->max_kept);
    return tacit_arena_plan(total, rows, vit->ld_pixels * sizeof(float)) &&
           tacit_arena_plan(total, rows, vit->trunk.ld * sizeof(float)) &&
           tacit_arena_plan(total, tokens, vit->trunk.ld * sizeof(float)) &&
           (!vit->resampled ||
            (tacit_arena_plan(total, vit->lead + vit->patches, vit->config.dim * sizeof(float)) &&
             tacit_regrid_plan(&vit->regrid, total))) &&
           (!vit->config.relative || tacit_relative_bias_plan(&vit->relative, total)) &&
           tacit_trunk_plan(&vit->trunk, total);
}

void tacit_vit_train_take(tacit_vit_train *vit, tacit_arena *arena)
{
    size_t rows = vit->max_batch * vit->max_kept;
    size_t tokens = vit->max_batch * (vit->lead + vit->max_kept);
    vit->pixels = tacit_arena_take(arena, rows, vit->ld_pixels * sizeof(float));
    vit->embedded = tacit_arena_take(arena, rows, vit->trunk.ld * sizeof(float));
    vit->d = tacit_arena_take(arena, tokens, vit->trunk.ld * sizeof(float));
    if (vit->resampled) {
        vit->placed =
            tacit_arena_take(arena, vit->lead + vit->patches, vit->config.dim * sizeof(float));
        tacit_regrid_take(&vit->regrid, arena);
    }
    if (vit->config.relative)
        tacit_relative_bias_take(&vit->relative, arena);
    tacit_trunk_take(&vit->trunk, arena);
}

static size_t patch_at(const tacit_vit_train *vit, size_t image, size_t i)
{
    return vit->keep ? vit->keep[image * vit->kept + i] : i;
}

/* The patches of an image that are kept, as rows of pixels. */
static void pixels_chunk(void *ctx, size_t image, unsigned worker)
{
    const tacit_vit_train *vit = ctx;
    size_t side = vit->config.image, plane = side * side, values = vit->embed.in;
    float *all = vit->work->worker + worker * vit->work->worker_floats;
    float *rows = vit->pixels + image * vit->kept * vit->ld_pixels;
    const float *from = vit->images + image * 3 * plane;
    if (!vit->keep) {
        vit->work->kernels->patchify_f32(side, side, vit->config.patch, from, plane, rows,
                                         vit->ld_pixels);
        return;
    }
    vit->work->kernels->patchify_f32(side, side, vit->config.patch, from, plane, all, values);
    for (size_t i = 0; i < vit->kept; i++)
        memcpy(rows + i * vit->ld_pixels, all + patch_at(vit, image, i) * values,
               values * sizeof(float));
}

static bool is_masked(const tacit_vit_train *vit, size_t image, size_t i)
{
    return vit->masked[image * vit->patches + patch_at(vit, image, i)] != 0;
}

/* The mask token in the place of an image's masked embeddings. */
static void mask_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_vit_train *vit = ctx;
    size_t ld = vit->trunk.ld;
    float *row = vit->embedded + image * vit->kept * ld;
    for (size_t i = 0; i < vit->kept; i++, row += ld)
        if (is_masked(vit, image, i))
            memcpy(row, vit->mask_token->value, vit->config.dim * sizeof *row);
}

/* Of their gradients an image's share of the mask token's; the embedding gets 0. */
static void unmask_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_vit_train *vit = ctx;
    size_t dim = vit->config.dim, ld = vit->trunk.ld;
    float *row = vit->embedded + image * vit->kept * ld, *share = vit->work->partial + image * dim;
    memset(share, 0, dim * sizeof *share);
    for (size_t i = 0; i < vit->kept; i++, row += ld)
        if (is_masked(vit, image, i)) {
            vit->work->kernels->add_f32(dim, share, row, share);
            memset(row, 0, dim * sizeof *row);
        }
}

/* The rows of an image's tokens: class token and patches, with their positions. */
static void tokens_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_vit_train *vit = ctx;
    const tacit_kernels *k = vit->work->kernels;
    size_t dim = vit->config.dim, ld = vit->trunk.ld, lead = vit->lead;
    const float *positions = vit->resampled   ? vit->placed
                             : vit->positions ? vit->positions->value
                                              : NULL;
    const float *embedded = vit->embedded + image * vit->kept * ld;
    float *x = tacit_trunk_input(&vit->trunk) + image * (lead + vit->kept) * ld;
    if (!positions) {
        if (lead)
            memcpy(x, vit->cls->value, dim * sizeof *x);
        for (size_t i = 0; i < vit->kept; i++)
            memcpy(x + (lead + i) * ld, embedded + i * ld, dim * sizeof *x);
        return;
    }
    if (lead)
        k->add_f32(dim, vit->cls->value, positions, x);
    for (size_t i = 0; i < vit->kept; i++)
        k->add_f32(dim, embedded + i * ld, positions + (lead + patch_at(vit, image, i)) * dim,
                   x + (lead + i) * ld);
}

const float *tacit_vit_train_forward(tacit_vit_train *vit, const float *images, size_t batch,
                                     const uint32_t *keep, size_t kept, bool drop)
{
    vit->keep = keep;
    vit->kept = keep ? kept : vit->patches;
    vit->batch = batch;
    vit->images = images;
    assert(batch <= vit->max_batch && vit->kept <= vit->max_kept);
    tacit_pool *pool = vit->work->pool;
    if (vit->resampled) {
        size_t cls = vit->lead * vit->config.dim; /* the class token's row is no place */
        tacit_regrid_make(&vit->regrid);          /* a teacher may have had the memory */
        memcpy(vit->placed, vit->positions->value, cls * sizeof *vit->placed);
        tacit_regrid_forward(&vit->regrid, vit->positions->value + cls, vit->placed + cls);
    }
    if (vit->config.relative) {
        vit->trunk.relative = &vit->relative;
        tacit_relative_bias_forward(&vit->relative, pool);
    }
    tacit_parallel_for(pool, batch, pixels_chunk, vit);
    tacit_dense_forward(vit->work, &vit->embed, batch * vit->kept, vit->pixels, vit->ld_pixels,
                        vit->embedded, vit->trunk.ld, NULL);
    if (vit->masked)
        tacit_parallel_for(pool, batch, mask_chunk, vit);
    tacit_parallel_for(pool, batch, tokens_chunk, vit);
    vit->images = NULL;
    return tacit_trunk_forward(&vit->trunk, batch, vit->lead + vit->kept, drop);
}

/* The gradients of an image's embedded patches, without that of its class token. */
static void embedded_chunk(void *ctx, size_t image, unsigned worker)
{
    (void)worker;
    tacit_vit_train *vit = ctx;
    size_t ld = vit->trunk.ld;
    for (size_t i = 0; i < vit->kept; i++)
        memcpy(vit->embedded + (image * vit->kept + i) * ld,
               vit->d + (image * (vit->lead + vit->kept) + vit->lead + i) * ld,
               vit->config.dim * sizeof(float));
}

/* The sums over images of the gradients of positions, at the images' own grid. */
static float *positions_gradient(const tacit_vit_train *vit)
{
    return vit->resampled ? vit->placed : vit->positions->grad;
}

/* Learned positions where all patches are seen: one chunk is one token. */
static void positions_chunk(void *ctx, size_t token, unsigned worker)
{
    (void)worker;
    tacit_vit_train *vit = ctx;
    size_t dim = vit->config.dim, ld = vit->trunk.ld;
    vit->work->kernels->sum_rows_f32(vit->batch, dim, vit->d + token * ld,
                                     (vit->lead + vit->kept) * ld, true,
                                     positions_gradient(vit) + token * dim);
}

static void positions_backward(tacit_vit_train *vit)
{
    const tacit_kernels *k = vit->work->kernels;
    size_t dim = vit->config.dim, ld = vit->trunk.ld, lead = vit->lead, tokens = lead + vit->kept;
    float *to = positions_gradient(vit), *grad = vit->positions->grad;
    if (vit->resampled)
        memset(to, 0, (lead + vit->patches) * dim * sizeof *to);
    if (!vit->keep)
        tacit_parallel_for(vit->work->pool, tokens, positions_chunk, vit);
    for (size_t image = 0; vit->keep && image < vit->batch; image++)
        for (size_t i = 0; i < tokens; i++) {
            float *at = to + (i < lead ? 0 : lead + patch_at(vit, image, i - lead)) * dim;
            k->add_f32(dim, at, vit->d + (image * tokens + i) * ld, at);
        }
    if (vit->resampled) {
        size_t cls = lead * dim;
        k->add_f32(cls, grad, to, grad);
        tacit_regrid_backward(&vit->regrid, to + cls, grad + cls);
    }
}

void tacit_vit_train_backward(tacit_vit_train *vit)
{
    size_t dim = vit->config.dim, ld = vit->trunk.ld, tokens = vit->lead + vit->kept;
    tacit_trunk_backward(&vit->trunk, vit->d);
    if (vit->lead)
        vit->work->kernels->sum_rows_f32(vit->batch, dim, vit->d, tokens * ld, true,
                                         vit->cls->grad);
    if (vit->positions && !vit->positions->frozen)
        positions_backward(vit);
    if (vit->embed.w->frozen && !vit->masked)
        return;
    tacit_parallel_for(vit->work->pool, vit->batch, embedded_chunk, vit);
    if (vit->masked) {
        tacit_parallel_for(vit->work->pool, vit->batch, unmask_chunk, vit);
        vit->work->kernels->sum_rows_f32(vit->batch, dim, vit->work->partial, dim, true,
                                         vit->mask_token->grad);
    }
    if (vit->embed.w->frozen)
        return;
    tacit_dense_backward(vit->work, &vit->embed, vit->batch * vit->kept, vit->embedded, ld,
                         vit->pixels, vit->ld_pixels, NULL, 0, NULL);
}

double tacit_vit_train_flops(const tacit_vit_train_config *config, size_t kept, size_t wanted)
{
    size_t side = side_of(config);
    tacit_trunk_config trunk = trunk_of(config);
    if (!kept)
        kept = side * side;
    double tokens = (double)(!config->no_cls + kept);
    return tacit_trunk_flops(&trunk, tokens, tokens, wanted ? (double)wanted : tokens) +
           2 * 2 * (double)kept * 3 * config->patch * config->patch * config->dim;
}
