/* vit.c - the forward pass of a Vision Transformer. See vit.h.
 *
 * Activations are rows of tokens, `pad` floats longer than they need to be, so that rows a power of
 * two apart do not fall into one set of the cache. Four buffers hold all of them: the residual
 * stream before and after a sub-layer (x, y), what a sub-layer reads (n), and the widest thing of
 * the moment (wide: patches, then q, k and v, then the hidden layer).
 */
#include "vit_internal.h"

#include <assert.h>
#include <math.h>

#define PAD       16
#define NORM_ROWS 16
/* Queries of a chunk of attention: all, as each chunk packs all keys and values; but where heads
 * are few for the threads, so many at least, and a part. */
#define QUERIES      112
#define QUERIES_PART 3
#define FEW_HEADS    6
/* Where there are more threads than such chunks, they become as small as this. */
#define LEAST_QUERIES 28
/* Rows that are taken through the network together: enough for the products, few enough that the
 * activations stay in the cache. */
#define ROWS 256

typedef struct forward {
    const tacit_vit *vit;
    const tacit_kernels *k;
    tacit_pool *pool;
    size_t batch, tokens, dim, ld, ld_wide;
    const float *images;
    float *x, *y, *n, *wide, *attention;
    tacit_rounded rounded; /* what a layer reads that is not in fp32 */
    size_t attention_size; /* floats for each worker */
} forward;

static size_t max_size(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t wide_columns(const tacit_vit_config *c)
{
    size_t pixels = (size_t)3 * c->patch * c->patch;
    size_t hidden = (c->activation == TACIT_SWIGLU ? 2 : 1) * (size_t)c->mlp;
    return max_size(max_size((size_t)3 * c->dim, hidden), pixels) + PAD;
}

/* Adds up, or hands out where arena is given, what a forward needs. */
static bool plan(const tacit_vit *vit, size_t batch, const tacit_pool *pool, size_t *total,
                 forward *f, tacit_arena *arena)
{
    size_t rows, attention;
    size_t each =
        tacit_attention_scratch(vit->kernels, vit->tokens, vit->config.dim / vit->config.heads);
    size_t ld = (size_t)vit->config.dim + PAD, ld_wide = wide_columns(&vit->config);
    each = (each + 15) / 16 * 16;
    if (!tacit_mul_size(batch, vit->tokens, &rows) ||
        !tacit_mul_size(each, tacit_pool_threads(pool), &attention))
        return false;
    size_t bytes = tacit_rounded_ld(vit->config.precision, ld_wide);
    if (!arena)
        return tacit_arena_plan(total, rows, bytes) &&
               tacit_arena_plan(total, bytes ? rows : 0, sizeof(float)) &&
               tacit_arena_plan(total, rows, ld * sizeof(float)) &&
               tacit_arena_plan(total, rows, ld * sizeof(float)) &&
               tacit_arena_plan(total, rows, ld * sizeof(float)) &&
               tacit_arena_plan(total, rows, ld_wide * sizeof(float)) &&
               tacit_arena_plan(total, attention, sizeof(float));
    f->rounded.rows = tacit_arena_take(arena, rows, bytes);
    f->rounded.scale = tacit_arena_take(arena, bytes ? rows : 0, sizeof(float));
    f->rounded.ld = bytes;
    f->rounded.zero = TACIT_INT8_MIDDLE;
    f->x = tacit_arena_take(arena, rows, ld * sizeof(float));
    f->y = tacit_arena_take(arena, rows, ld * sizeof(float));
    f->n = tacit_arena_take(arena, rows, ld * sizeof(float));
    f->wide = tacit_arena_take(arena, rows, ld_wide * sizeof(float));
    f->attention = tacit_arena_take(arena, attention, sizeof(float));
    f->attention_size = each;
    f->ld = ld;
    f->ld_wide = ld_wide;
    return true;
}

/* Images taken together. */
static size_t group_size(const tacit_vit *vit, size_t batch)
{
    size_t group = ROWS / vit->tokens;
    return group < 1 || batch < 1 ? 1 : batch < group ? batch : group;
}

size_t tacit_vit_scratch(const tacit_vit *vit, size_t batch, const tacit_pool *pool)
{
    size_t total = 0;
    return plan(vit, group_size(vit, batch), pool, &total, NULL, NULL) ? total : 0;
}

/* Outputs [from, out) of a layer, in the precision that it was opened in. */
static void product(const forward *f, const tacit_linear *layer, size_t from, size_t m,
                    const float *x, size_t ldx, float *y, size_t ldy,
                    const tacit_epilogue *epilogue)
{
    tacit_linear_forward(layer, f->k, from, m, x, ldx, &f->rounded, y, ldy, epilogue, f->pool);
}

/* Patch embedding ----------------------------------------------------------------------------- */

static void copy_floats(float *to, const float *from, size_t n)
{
    for (size_t i = 0; i < n; i++)
        to[i] = from[i];
}

/* The rows before the patches: the class token, with its position if it has one, and the
 * registers. */
static void place_prefix(const forward *f, float *x)
{
    const tacit_vit *vit = f->vit;
    if (vit->cls) {
        if (vit->pos && !vit->config.position_no_cls)
            f->k->add_f32(f->dim, vit->cls, vit->pos, x);
        else
            copy_floats(x, vit->cls, f->dim);
        x += f->ld;
    }
    for (size_t r = 0; r < vit->config.registers; r++)
        copy_floats(x + r * f->ld, vit->registers + r * f->dim, f->dim);
}

/* One chunk is one row of patches of one image: gather, then the rows before them if it is the
 * first. */
static void gather_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    forward *f = ctx;
    const tacit_vit_config *c = &f->vit->config;
    size_t grid_h = c->height / c->patch, grid_w = c->width / c->patch;
    size_t image = chunk / grid_h, row = chunk % grid_h, plane = (size_t)c->height * c->width;
    f->k->patchify_f32(c->patch, c->width, c->patch,
                       f->images + image * 3 * plane + row * c->patch * c->width, plane,
                       f->wide + (image * f->vit->patches + row * grid_w) * f->ld_wide, f->ld_wide);
    if (row == 0)
        place_prefix(f, f->x + image * f->tokens * f->ld);
}

static void embed(forward *f)
{
    const tacit_vit *vit = f->vit;
    tacit_parallel_for(f->pool, f->batch * (vit->config.height / vit->config.patch), gather_chunk,
                       f);
    tacit_epilogue add_position = { .ldr = f->dim };
    if (vit->pos)
        add_position.residual = vit->pos + (vit->cls && !vit->config.position_no_cls ? f->dim : 0);
    for (size_t image = 0; image < f->batch; image++)
        product(f, &vit->embed, 0, vit->patches, f->wide + image * vit->patches * f->ld_wide,
                f->ld_wide, f->x + (image * f->tokens + vit->prefix) * f->ld, f->ld, &add_position);
}

/* Blocks -------------------------------------------------------------------------------------- */

typedef struct norm_job {
    const forward *f;
    const tacit__norm *norm;
    size_t rows, ldx;
    const float *x;
    float *y;
    bool rounds; /* y, to f->rounded, in the precision of the layer that reads it */
} norm_job;

static void norm_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const norm_job *j = ctx;
    size_t row = chunk * NORM_ROWS;
    size_t rows = j->rows - row < NORM_ROWS ? j->rows - row : NORM_ROWS;
    j->f->k->layernorm_f32(rows, j->f->dim, j->x + row * j->ldx, j->ldx, j->norm->gamma,
                           j->norm->beta, j->f->vit->config.eps, j->y + row * j->ldx, j->ldx);
    if (j->rounds)
        tacit_round_rows(j->f->vit->config.precision, j->f->k, row, rows, j->f->dim,
                         j->y + row * j->ldx, j->ldx, &j->f->rounded);
}

/* y = norm(x) for rows ld apart */
static void normalise(forward *f, const tacit__norm *norm, size_t rows, size_t ld, const float *x,
                      float *y)
{
    norm_job j = { f, norm, rows, ld, x, y, false };
    tacit_parallel_for(f->pool, (rows + NORM_ROWS - 1) / NORM_ROWS, norm_chunk, &j);
}

/* f->n = norm(f->x), rounded where layers are not in fp32. What such a layer reads then, or NULL:
 * what has been rounded. */
static const float *normalise_input(forward *f, const tacit__norm *norm, size_t rows, size_t ld)
{
    bool rounds = f->vit->config.precision != TACIT_PRECISION_FP32;
    norm_job j = { f, norm, rows, ld, f->x, f->n, rounds };
    tacit_parallel_for(f->pool, (rows + NORM_ROWS - 1) / NORM_ROWS, norm_chunk, &j);
    return rounds ? NULL : f->n;
}

/* What some families do to q and k: a LayerNorm of each head, a rotation of the patches'. */
typedef struct turn_job {
    const forward *f;
    const tacit__block *b;
} turn_job;

/* The halves of a head, x1 and x2, become x1 cos - x2 sin and x2 cos + x1 sin. */
static void turn_head(size_t half, const float *cosines, float *x)
{
    const float *sines = cosines + half;
    for (size_t i = 0; i < half; i++) {
        float a = x[i], b = x[half + i];
        x[i] = a * cosines[i] - b * sines[i];
        x[half + i] = b * cosines[i] + a * sines[i];
    }
}

static void turn_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const turn_job *j = ctx;
    const forward *f = j->f;
    size_t heads = f->vit->config.heads, width = f->dim / heads, prefix = f->vit->prefix;
    size_t end = (chunk + 1) * NORM_ROWS, all = f->batch * f->tokens;
    for (size_t row = chunk * NORM_ROWS; row < end && row < all; row++) {
        float *q = f->wide + row * f->ld_wide, *k = q + f->dim;
        if (j->b->q_norm.gamma) {
            f->k->layernorm_f32(heads, width, q, width, j->b->q_norm.gamma, j->b->q_norm.beta,
                                f->vit->config.eps, q, width);
            f->k->layernorm_f32(heads, width, k, width, j->b->k_norm.gamma, j->b->k_norm.beta,
                                f->vit->config.eps, k, width);
        }
        size_t token = row % f->tokens;
        for (size_t h = 0; f->vit->rotary && token >= prefix && h < heads; h++) {
            const float *cosines = f->vit->rotary + (token - prefix) * width;
            turn_head(width / 2, cosines, q + h * width);
            turn_head(width / 2, cosines, k + h * width);
        }
    }
}

static void turn(forward *f, const tacit__block *b)
{
    turn_job j = { f, b };
    if (b->q_norm.gamma || f->vit->rotary)
        tacit_parallel_for(f->pool, (f->batch * f->tokens + NORM_ROWS - 1) / NORM_ROWS, turn_chunk,
                           &j);
}

typedef struct attention_job {
    const forward *f;
    const float *bias; /* (heads, tokens, tokens), or NULL */
    size_t queries;    /* of each image: all tokens, or the class token alone */
    size_t step, steps;
} attention_job;

/* One chunk is a range of queries of one head of one image. */
static void attention_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const attention_job *j = ctx;
    const forward *f = j->f;
    size_t heads = f->vit->config.heads, width = f->dim / heads;
    size_t first = chunk % j->steps * j->step, head = chunk / j->steps % heads;
    size_t image = chunk / j->steps / heads;
    size_t rows = j->queries - first < j->step ? j->queries - first : j->step;
    const float *q = f->wide + image * f->tokens * f->ld_wide + head * width;
    tacit_attention_f32_fn *const attention[] = { [TACIT_PRECISION_FP32] = f->k->attention_f32,
                                                  [TACIT_PRECISION_INT8] = f->k->attention_u8s8,
                                                  [TACIT_PRECISION_BF16] = f->k->attention_bf16 };
    attention[f->vit->config.precision](
        rows, f->tokens, width, q + first * f->ld_wide, q + f->dim, q + 2 * f->dim, f->ld_wide,
        1.0f / sqrtf((float)width),
        j->bias ? j->bias + (head * f->tokens + first) * f->tokens : NULL, f->tokens,
        f->n + (image * f->tokens + first) * f->ld + head * width, f->ld,
        f->attention + worker * f->attention_size);
}

typedef struct hidden_job {
    const forward *f;
    size_t rows, ld;
} hidden_job;

/* The activations that are no part of a product's epilogue, in place, for NORM_ROWS rows. */
static void hidden_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const hidden_job *j = ctx;
    const tacit_vit_config *c = &j->f->vit->config;
    size_t end = (chunk + 1) * NORM_ROWS;
    for (size_t row = chunk * NORM_ROWS; row < end && row < j->rows; row++) {
        float *x = j->f->wide + row * j->ld;
        if (c->activation == TACIT_SWIGLU)
            j->f->k->swish_f32(c->mlp, 1.0f, x, x + c->mlp, x);
        else
            j->f->k->swish_f32(c->mlp, 1.702f, x, NULL, x);
    }
}

static void swap_streams(forward *f)
{
    float *x = f->x;
    f->x = f->y;
    f->y = x;
}

/* One block. With cls_only, everything after keys and values is done for the class tokens alone,
 * the only rows of the last block that a class-token feature reads: the same bits for them. */
static void run_block(forward *f, const tacit__block *b, bool cls_only)
{
    size_t all = f->batch * f->tokens;
    size_t rows = cls_only ? f->batch : all, step = cls_only ? f->tokens : 1;
    size_t ld = step * f->ld, ld_wide = step * f->ld_wide;

    const float *x = normalise_input(f, &b->norm1, all, f->ld);
    size_t panel = tacit_linear_panel(b->qkv.precision, f->k);
    size_t from = cls_only && f->dim % panel == 0 ? f->dim : 0;
    product(f, &b->qkv, from, all, x, f->ld, f->wide, f->ld_wide, NULL);
    if (from) {
        tacit_linear queries = b->qkv;
        queries.out = f->dim;
        product(f, &queries, 0, rows, f->n, ld, f->wide, ld_wide, NULL);
    }
    turn(f, b);

    attention_job a = { .f = f,
                        .bias = f->vit->bias ? f->vit->bias : b->bias,
                        .queries = cls_only ? 1 : f->tokens };
    size_t part = a.queries / QUERIES_PART, heads = f->batch * f->vit->config.heads;
    part = part > QUERIES ? part : QUERIES;
    size_t threads = tacit_pool_threads(f->pool);
    if (heads % threads == 0 || heads >= FEW_HEADS * threads)
        part = a.queries;
    a.step = tacit_chunk_for(f->pool, a.queries, part, LEAST_QUERIES, 2 * heads);
    a.steps = (a.queries + a.step - 1) / a.step;
    tacit_parallel_for(f->pool, heads * a.steps, attention_chunk, &a);

    tacit_epilogue add1 = { .scale = b->ls1, .residual = f->x, .ldr = ld };
    product(f, &b->proj, 0, rows, f->n, ld, f->y, ld, &add1);
    swap_streams(f);

    x = normalise_input(f, &b->norm2, rows, ld);
    tacit_epilogue gelu = { .gelu = f->vit->config.activation == TACIT_GELU };
    product(f, &b->fc1, 0, rows, x, ld, f->wide, ld_wide, &gelu);
    hidden_job h = { f, rows, ld_wide };
    if (!gelu.gelu)
        tacit_parallel_for(f->pool, (rows + NORM_ROWS - 1) / NORM_ROWS, hidden_chunk, &h);
    tacit_epilogue add2 = { .scale = b->ls2, .residual = f->x, .ldr = ld };
    product(f, &b->fc2, 0, rows, f->wide, ld_wide, f->y, ld, &add2);
    swap_streams(f);
}

/* Features ------------------------------------------------------------------------------------ */

size_t tacit_vit_feature_count(const tacit_vit *vit, tacit_features features)
{
    const tacit_vit_config *c = &vit->config;
    bool cls = !c->no_cls && c->last_norm != TACIT_NORM_MEAN;
    switch (features) {
    case TACIT_FEATURES_CLS: return !cls ? 0 : c->projection ? c->projection : c->dim;
    case TACIT_FEATURES_MEAN: return c->dim;
    case TACIT_FEATURES_CLS_MEAN: return cls ? (size_t)2 * c->dim : 0;
    case TACIT_FEATURES_PATCH: return vit->patches * c->dim;
    case TACIT_FEATURES_LAST4: return cls && c->depth >= 4 ? (size_t)4 * c->dim : 0;
    }
    return 0;
}

/* One row, normalised to out; copied where the network ends without a norm. */
static void normalise_row(const forward *f, const float *x, float *out)
{
    if (f->vit->norm.gamma)
        f->k->layernorm_f32(1, f->dim, x, f->dim, f->vit->norm.gamma, f->vit->norm.beta,
                            f->vit->config.eps, out, f->dim);
    else
        copy_floats(out, x, f->dim);
}

/* The features of the tokens of one image: x as the last block left them, n normalised. */
static void take_features(const forward *f, tacit_features features, const float *x, const float *n,
                          float *out)
{
    const tacit_vit *vit = f->vit;
    size_t patches = vit->patches;
    bool late = vit->config.last_norm == TACIT_NORM_MEAN;
    const float *patch = (late || !vit->norm.gamma ? x : n) + vit->prefix * f->ld;
    if (!vit->norm.gamma)
        n = x;
    if (features == TACIT_FEATURES_CLS && vit->config.projection) {
        tacit_epilogue e = { .bias = vit->head.bias };
        f->k->gemm_f32(1, vit->head.out, f->dim, n, f->ld, vit->head.packed, out, vit->head.out,
                       &e);
        return;
    }
    if (features == TACIT_FEATURES_CLS || features == TACIT_FEATURES_CLS_MEAN) {
        copy_floats(out, n, f->dim);
        out += f->dim;
    }
    if (features == TACIT_FEATURES_MEAN || features == TACIT_FEATURES_CLS_MEAN) {
        f->k->mean_rows_f32(patches, f->dim, patch, f->ld, out);
        if (late)
            normalise_row(f, out, out);
    }
    for (size_t p = 0; features == TACIT_FEATURES_PATCH && p < patches; p++)
        copy_floats(out + p * f->dim, patch + p * f->ld, f->dim);
}

static void forward_group(forward *f, tacit_features features, float *out)
{
    const tacit_vit *vit = f->vit;
    unsigned depth = vit->config.depth;
    size_t count = tacit_vit_feature_count(vit, features);
    bool last4 = features == TACIT_FEATURES_LAST4;
    bool cls_only = features == TACIT_FEATURES_CLS || last4;
    embed(f);
    if (vit->norm_pre.gamma) {
        normalise(f, &vit->norm_pre, f->batch * f->tokens, f->ld, f->x, f->y);
        swap_streams(f);
    }
    for (unsigned i = 0; i < depth; i++) {
        run_block(f, &vit->blocks[i], cls_only && i + 1 == depth);
        for (size_t image = 0; last4 && i + 4 >= depth && image < f->batch; image++)
            normalise_row(f, f->x + image * f->tokens * f->ld,
                          out + image * count + (i + 4 - depth) * f->dim);
    }
    if (last4)
        return;
    if (vit->config.last_norm == TACIT_NORM_TOKENS) {
        size_t step = cls_only ? f->tokens : 1;
        normalise(f, &vit->norm, f->batch * f->tokens / step, step * f->ld, f->x, f->n);
    }
    for (size_t image = 0; image < f->batch; image++) {
        size_t at = image * f->tokens * f->ld;
        take_features(f, features, f->x + at, f->n + at, out + image * count);
    }
}

void tacit_vit_forward(const tacit_vit *vit, const float *images, size_t batch,
                       tacit_features features, float *out, void *scratch, tacit_pool *pool)
{
    size_t pixels = (size_t)3 * vit->config.height * vit->config.width;
    size_t count = tacit_vit_feature_count(vit, features), group = group_size(vit, batch);
    if (!batch)
        return;
    forward f = {
        .vit = vit, .k = vit->kernels, .pool = pool, .tokens = vit->tokens, .dim = vit->config.dim
    };
    tacit_arena arena = { .base = scratch, .size = tacit_vit_scratch(vit, batch, pool) };
    assert(arena.size && (uintptr_t)scratch % TACIT_ALIGN == 0);
    plan(vit, group, pool, NULL, &f, &arena);
    for (size_t done = 0; done < batch; done += f.batch) {
        f.batch = batch - done < group ? batch - done : group;
        f.images = images + done * pixels;
        forward_group(&f, features, out + done * count);
    }
}
