/* trunk.c - see trunk.h. */
#include "trunk.h"

#include "linear.h"
#include "rng.h"
#include "row_moves.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* Rows are longer than they need to be, so that those a power of two apart do not fall into one set
 * of the cache. */
#define PAD     16
#define QUERIES 112
/* Rows of a chunk that drop path scales. */
#define SCALED 64
/* Floats of a cache line. */
#define LINE 16

static tacit_status declare_gammas(const tacit_trunk_config *config, const char *prefix, unsigned i,
                                   tacit_block *b, tacit_params *params, tacit_err *err)
{
    const tacit_init init = { .kind = TACIT_INIT_CONSTANT, .size = config->layer_scale };
    tacit_param **gammas[] = { &b->gamma1, &b->gamma2 };
    tacit_status st = TACIT_OK;
    for (size_t k = 0; st == TACIT_OK && k < 2; k++) {
        char name[TACIT_PARAM_NAME];
        snprintf(name, sizeof name, "%s.%u.ls%zu.gamma", prefix, i, k + 1);
        st = tacit_params_add(params, name, 1, (const size_t[]){ config->dim }, init, gammas[k],
                              err);
    }
    return st;
}

tacit_status tacit_trunk_declare(tacit_trunk *trunk, const tacit_trunk_config *config,
                                 const char *prefix, const char *norm, size_t max_batch,
                                 size_t max_tokens, tacit_params *params, tacit_work *work,
                                 tacit_err *err)
{
    *trunk = (tacit_trunk){ .config = *config,
                            .work = work,
                            .max_batch = max_batch,
                            .max_tokens = max_tokens,
                            .ld = (size_t)config->dim + PAD,
                            .ld_qkv = 3 * (size_t)config->dim + PAD,
                            .ld_hidden = (size_t)config->mlp + PAD };
    size_t dim = config->dim, mlp = config->mlp, rows;
    if (!dim || !config->depth || !mlp || !config->heads || dim % config->heads)
        return tacit_fail(err, TACIT_EINVAL, "%s: %zu values in %u heads, %u blocks, hidden %zu",
                          prefix, dim, config->heads, config->depth, mlp);
    if (!tacit_mul_size(max_batch, max_tokens, &rows) || tacit_trunk_rows(trunk) > UINT32_MAX)
        return tacit_fail(err, TACIT_ELIMIT, "%s: a batch of %zu is too large", prefix, max_batch);
    rows = tacit_trunk_rows(trunk);
    trunk->blocks = tacit_calloc(config->depth, sizeof *trunk->blocks);
    if (!trunk->blocks)
        return tacit_fail(err, TACIT_ENOMEM, "out of memory for %u blocks", config->depth);
    tacit_status st = TACIT_OK;
    for (unsigned i = 0; st == TACIT_OK && i < config->depth; i++) {
        tacit_block *b = &trunk->blocks[i];
        const struct part {
            const char *name;
            tacit_layernorm *norm;
            tacit_dense *dense;
            size_t in, out;
        } parts[] = {
            { "norm1", &b->norm1, NULL, 0, 0 },        { "attn.qkv", NULL, &b->qkv, dim, 3 * dim },
            { "attn.proj", NULL, &b->proj, dim, dim }, { "norm2", &b->norm2, NULL, 0, 0 },
            { "mlp.fc1", NULL, &b->fc1, dim, mlp },    { "mlp.fc2", NULL, &b->fc2, mlp, dim },
        };
        for (size_t p = 0; st == TACIT_OK && p < sizeof parts / sizeof *parts; p++) {
            const struct part *part = &parts[p];
            char name[TACIT_PARAM_NAME];
            snprintf(name, sizeof name, "%s.%u.%s", prefix, i, part->name);
            tacit_init init =
                config->weight.size > 0 ? config->weight : tacit_init_xavier(part->in, part->out);
            st = part->norm ? tacit_layernorm_declare(part->norm, name, dim, config->eps, rows,
                                                      params, work, err)
                            : tacit_dense_declare(part->dense, name, part->in, part->out, true, 0,
                                                  NULL, init, TACIT_ZEROS, rows, params, work, err);
        }
        if (st == TACIT_OK && config->layer_scale > 0)
            st = declare_gammas(config, prefix, i, b, params, err);
    }
    if (st == TACIT_OK)
        st = tacit_layernorm_declare(&trunk->norm, norm, dim, config->eps, rows, params, work, err);
    size_t width = dim / config->heads;
    tacit_work_need(&work->worker_floats,
                    tacit_attention_scratch(work->kernels, max_tokens, width));
    tacit_work_need(&work->worker_floats,
                    tacit_attention_backward_scratch(work->kernels, max_tokens, width));
    return st;
}

void tacit_trunk_close(tacit_trunk *trunk)
{
    tacit_free(trunk->blocks);
    *trunk = (tacit_trunk){ 0 };
}

size_t tacit_trunk_rows(const tacit_trunk *trunk)
{
    size_t rows = trunk->max_batch * trunk->max_tokens, distinct = trunk->config.max_distinct;
    return rows > distinct ? rows : distinct;
}

static size_t wide_ld(const tacit_trunk *t)
{
    return t->ld_qkv > t->ld_hidden ? t->ld_qkv : t->ld_hidden;
}

/* Adds up the activations, or where arena is given takes them. */
static bool plan(const tacit_trunk *t, size_t *total, tacit_trunk *to, tacit_arena *arena)
{
    size_t rows = tacit_trunk_rows(t), depth = t->config.depth, dim = t->config.dim;
    size_t widest = t->config.mlp > dim ? t->config.mlp : dim; /* input of a branch's last layer */
    for (size_t i = 0; i < depth; i++) {
        bool own = i == 0 || !t->config.recompute; /* else it shares those of block 0 */
        const size_t widths[] = { t->ld, t->ld_qkv, t->ld, t->ld, t->ld_hidden };
        tacit_block *b = arena ? &to->blocks[i] : NULL;
        float **at[] = { b ? &b->x : NULL, b ? &b->qkv_out : NULL, b ? &b->heads : NULL,
                         b ? &b->middle : NULL, b ? &b->hidden : NULL };
        for (size_t w = 0; w < sizeof widths / sizeof *widths; w++) {
            if (arena && (own || w == 0))
                *at[w] = tacit_arena_take(arena, rows, widths[w] * sizeof(float));
            else if ((own || w == 0) && !tacit_arena_plan(total, rows, widths[w] * sizeof(float)))
                return false;
        }
        if (arena && !own) {
            b->qkv_out = to->blocks[0].qkv_out;
            b->heads = to->blocks[0].heads;
            b->middle = to->blocks[0].middle;
            b->hidden = to->blocks[0].hidden;
        }
    }
    size_t origins = t->config.max_distinct;
    if (!arena)
        return tacit_arena_plan(total, origins, t->ld * sizeof(float)) &&
               tacit_arena_plan(total, origins ? origins + 1 : 0, sizeof *t->first) &&
               tacit_arena_plan(total, origins ? rows : 0, sizeof *t->copies) &&
               tacit_arena_plan(total, rows, t->ld * sizeof(float)) &&
               tacit_arena_plan(total, rows, t->ld * sizeof(float)) &&
               tacit_arena_plan(total, rows, wide_ld(t) * sizeof(float)) &&
               tacit_arena_plan(total, 2 * depth * t->max_batch, sizeof(float)) &&
               tacit_arena_plan(total, 2 * rows, sizeof(float)) &&
               (t->config.layer_scale <= 0 || tacit_layer_scale_plan(dim, widest, total));
    to->origin = tacit_arena_take(arena, origins, t->ld * sizeof(float));
    to->first = tacit_arena_take(arena, origins ? origins + 1 : 0, sizeof *t->first);
    to->copies = tacit_arena_take(arena, origins ? rows : 0, sizeof *t->copies);
    to->last = tacit_arena_take(arena, rows, t->ld * sizeof(float));
    to->normed = tacit_arena_take(arena, rows, t->ld * sizeof(float));
    to->wide = tacit_arena_take(arena, rows, wide_ld(t) * sizeof(float));
    to->scales = tacit_arena_take(arena, 2 * depth * t->max_batch, sizeof(float));
    to->row_scales = tacit_arena_take(arena, 2 * rows, sizeof(float));
    if (t->config.layer_scale > 0)
        tacit_layer_scale_take(&to->layer_scale, t->work, dim, widest, arena);
    return true;
}

bool tacit_trunk_plan(const tacit_trunk *trunk, size_t *total)
{
    return plan(trunk, total, NULL, NULL);
}

void tacit_trunk_take(tacit_trunk *trunk, tacit_arena *arena)
{
    plan(trunk, NULL, trunk, arena);
}

void tacit_trunk_draw(tacit_trunk *trunk, size_t image, uint64_t seed, uint64_t stream)
{
    size_t depth = trunk->config.depth;
    for (size_t i = 0; i < 2 * depth; i++) {
        double rate =
            depth > 1 ? trunk->config.drop_path * (double)(i / 2) / (double)(depth - 1) : 0;
        bool keep = (double)tacit_rng_uniform(seed, stream, i) >= rate;
        trunk->scales[i * trunk->max_batch + image] = keep ? (float)(1 / (1 - rate)) : 0;
    }
}

void tacit_trunk_copies(tacit_trunk *trunk, const uint32_t *source, size_t distinct)
{
    assert(distinct <= trunk->config.max_distinct);
    trunk->source = source;
    trunk->distinct = distinct;
}

float *tacit_trunk_input(tacit_trunk *trunk)
{
    return trunk->config.max_distinct ? trunk->origin : trunk->blocks[0].x;
}

/* Attention ----------------------------------------------------------------------------------- */

typedef struct attention_job {
    const tacit_trunk *t;
    const tacit_block *b;
    const float *dheads;
    float *dqkv;
    size_t ld_dqkv, step, steps;
} attention_job;

/* Asks the second-level cache for `count` matrices of a head's rows, `apart` floats one from the
 * other. Each row is short and far from the next: caches do not foresee them. */
static void ask(const tacit_trunk *t, const float *x, size_t count, size_t apart, size_t ld)
{
    size_t width = t->config.dim / t->config.heads;
    for (size_t row = 0; row < t->tokens; row++)
        for (size_t i = 0; i < count; i++)
            for (size_t c = 0; c < width; c += LINE)
                __builtin_prefetch(x + row * ld + i * apart + c, 0, 2);
}

/* Where a head's columns begin in rows ld apart; heads are counted through the batch. */
static size_t head_at(const tacit_trunk *t, size_t head, size_t ld)
{
    size_t heads = t->config.heads;
    return head / heads * t->tokens * ld + head % heads * (t->config.dim / heads);
}

/* One chunk is a range of queries of one head of one image. */
static void attention_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const attention_job *j = ctx;
    const tacit_trunk *t = j->t;
    size_t heads = t->config.heads, dim = t->config.dim, width = dim / heads;
    size_t first = chunk % j->steps * j->step, head = chunk / j->steps % heads;
    size_t row = chunk / j->steps / heads * t->tokens;
    size_t rows = t->tokens - first < j->step ? t->tokens - first : j->step;
    const float *q = j->b->qkv_out + row * t->ld_qkv + head * width, *bias = NULL;
    if (t->relative)
        bias = t->relative->bias + (head * t->tokens + first) * t->tokens;
    size_t next = chunk / j->steps + 1;
    if (!first && next < t->batch * heads)
        ask(t, j->b->qkv_out + head_at(t, next, t->ld_qkv), 3, dim, t->ld_qkv);
    t->work->kernels->attention_f32(rows, t->tokens, width, q + first * t->ld_qkv, q + dim,
                                    q + 2 * dim, t->ld_qkv, 1.0f / sqrtf((float)width), bias,
                                    t->tokens, j->b->heads + (row + first) * t->ld + head * width,
                                    t->ld, t->work->worker + worker * t->work->worker_floats);
}

/* One head of one image. bias and dbias: the head's, or NULL. */
static void attention_back(const attention_job *j, size_t image, size_t head, unsigned worker,
                           const float *bias, float *dbias)
{
    const tacit_trunk *t = j->t;
    size_t dim = t->config.dim, width = dim / t->config.heads, row = image * t->tokens;
    const float *q = j->b->qkv_out + row * t->ld_qkv + head * width;
    float *dq = j->dqkv + row * j->ld_dqkv + head * width;
    size_t next = image * t->config.heads + head + 1;
    if (next < t->batch * t->config.heads) {
        ask(t, j->b->qkv_out + head_at(t, next, t->ld_qkv), 3, dim, t->ld_qkv);
        ask(t, j->dheads + head_at(t, next, t->ld), 1, 0, t->ld);
        ask(t, j->dqkv + head_at(t, next, j->ld_dqkv), 3, dim, j->ld_dqkv);
    }
    t->work->kernels->attention_backward_f32(
        t->tokens, width, q, q + dim, q + 2 * dim, t->ld_qkv, 1.0f / sqrtf((float)width), bias,
        dbias, t->tokens, j->dheads + row * t->ld + head * width, t->ld, dq, dq + dim, dq + 2 * dim,
        j->ld_dqkv, t->work->worker + worker * t->work->worker_floats);
}

/* One chunk is one head of one image. */
static void attention_back_chunk(void *ctx, size_t chunk, unsigned worker)
{
    const attention_job *j = ctx;
    size_t heads = j->t->config.heads;
    attention_back(j, chunk / heads, chunk % heads, worker, NULL, NULL);
}

/* With relative biases one chunk is one head of a slot's images, one after the other. */
static void attention_back_slot(void *ctx, size_t chunk, unsigned worker)
{
    const attention_job *j = ctx;
    const tacit_trunk *t = j->t;
    size_t head = chunk % t->config.heads, pairs = t->tokens * t->tokens;
    size_t from = chunk / t->config.heads * j->step, to = from + j->step;
    for (size_t image = from; image < to && image < t->batch; image++)
        attention_back(j, image, head, worker, t->relative->bias + head * pairs,
                       t->relative->slots + chunk * pairs);
}

static void attention_backward(tacit_trunk *t, attention_job *a)
{
    size_t heads = t->config.heads;
    if (!t->relative) {
        tacit_parallel_for(t->work->pool, t->batch * heads, attention_back_chunk, a);
        return;
    }
    a->step = (t->batch + TACIT_RELATIVE_SLOTS - 1) / TACIT_RELATIVE_SLOTS;
    tacit_parallel_for(t->work->pool, TACIT_RELATIVE_SLOTS * heads, attention_back_slot, a);
}

/* Blocks -------------------------------------------------------------------------------------- */

static size_t all_rows(const tacit_trunk *t)
{
    return t->batch * t->tokens;
}

/* Whether from its attention on a block has wanted rows alone. */
static bool narrows(const tacit_trunk *t, size_t i)
{
    return t->wanted && i + 1 == t->config.depth;
}

/* Drop path's factors for a half of block i: one for `group` rows each. */
static const float *branch_scales(const tacit_trunk *t, size_t i, size_t half, size_t *group)
{
    *group = narrows(t, i) ? 1 : t->tokens;
    return narrows(t, i) ? t->row_scales + half * t->results
                         : t->scales + (2 * i + half) * t->max_batch;
}

/* What follows a branch: drop path's factor, and the residual. */
static tacit_after branch_end(const tacit_trunk *t, size_t i, size_t half, const float *residual)
{
    tacit_after after = { .residual = residual, .ldr = t->ld };
    if (t->drops)
        after.scale = branch_scales(t, i, half, &after.group);
    return after;
}

/* Whether block i begins with rows of which many are copies. */
static bool begins_as_copies(const tacit_trunk *t, size_t i)
{
    return t->config.max_distinct && i == 0;
}

/* The wanted rows of x, in y. */
static const float *gather(const tacit_trunk *t, const float *x, float *y)
{
    tacit_rows_gather(t->work->pool, t->results, t->config.dim, t->ld, t->wanted, x, y);
    return y;
}

/* The wanted rows x in their places in y, zeros in the others. */
static void scatter(const tacit_trunk *t, const float *x, float *y)
{
    tacit_rows_scatter(t->work->pool, all_rows(t), t->results, t->config.dim, t->ld, t->wanted, x,
                       y);
}

/* All rows y (n values, ld apart) from their origins x. */
static void spread(const tacit_trunk *t, size_t n, size_t ld, const float *x, float *y)
{
    tacit_rows_gather(t->work->pool, all_rows(t), n, ld, t->source, x, y);
}

/* Of gradients of all rows, x, the sums that belong to their origins. */
static float *unite(const tacit_trunk *t, size_t n, size_t ld, const float *x, float *y)
{
    tacit_rows_unite(t->work->kernels, t->work->pool, t->distinct, n, ld, t->first, t->copies, x,
                     y);
    return y;
}

/* Rows of gradients from x to y, as they are. */
static void copy(const tacit_trunk *t, size_t rows, const float *x, float *y)
{
    tacit_rows_gather(t->work->pool, rows, t->config.dim, t->ld, NULL, x, y);
}

/* The last layer of a branch, with LayerScale where there is one. */
static const tacit_dense *scaled(tacit_trunk *t, const tacit_dense *dense, const tacit_param *gamma)
{
    return gamma ? tacit_layer_scale_begin(&t->layer_scale, dense, gamma) : dense;
}

/* Block i, from its x to y; with y NULL only what its backward needs. */
static void block_forward(tacit_trunk *t, size_t i, float *y)
{
    const tacit_block *b = &t->blocks[i];
    const tacit_work *work = t->work;
    const float *x = b->x, *heads = b->heads;
    size_t rows = all_rows(t);
    if (begins_as_copies(t, i)) {
        size_t distinct = t->distinct;
        tacit_layernorm_forward(work, &b->norm1, distinct, t->origin, t->ld, t->normed, t->ld);
        tacit_dense_forward(work, &b->qkv, distinct, t->normed, t->ld, t->wide, t->ld_qkv, NULL);
        spread(t, b->qkv.out, t->ld_qkv, t->wide, b->qkv_out);
    } else {
        tacit_layernorm_forward(work, &b->norm1, rows, b->x, t->ld, t->normed, t->ld);
        tacit_dense_forward(work, &b->qkv, rows, t->normed, t->ld, b->qkv_out, t->ld_qkv, NULL);
    }

    attention_job a = { .t = t, .b = b, .step = tacit_even_chunk(t->tokens, QUERIES) };
    a.steps = (t->tokens + a.step - 1) / a.step;
    tacit_parallel_for(work->pool, t->batch * t->config.heads * a.steps, attention_chunk, &a);
    if (narrows(t, i)) {
        rows = t->results;
        x = gather(t, x, t->normed);
        heads = gather(t, heads, t->wide);
    }
    tacit_after after = branch_end(t, i, 0, x);
    tacit_dense_forward(work, scaled(t, &b->proj, b->gamma1), rows, heads, t->ld, b->middle, t->ld,
                        &after);

    tacit_layernorm_forward(work, &b->norm2, rows, b->middle, t->ld, t->normed, t->ld);
    after = (tacit_after){ .gelu = y ? t->wide : NULL, .ldg = t->ld_hidden };
    tacit_dense_forward(work, &b->fc1, rows, t->normed, t->ld, b->hidden, t->ld_hidden, &after);
    if (!y)
        return;
    after = branch_end(t, i, 1, b->middle);
    tacit_dense_forward(work, scaled(t, &b->fc2, b->gamma2), rows, t->wide, t->ld_hidden, y, t->ld,
                        &after);
}

void tacit_trunk_want(tacit_trunk *trunk, const uint32_t *rows, size_t count)
{
    assert(!rows || count);
    trunk->wanted = rows;
    trunk->results = count;
}

/* Of the last block, a factor for each wanted row. */
static void spread_scales(tacit_trunk *t)
{
    const float *scales = t->scales + 2 * (t->config.depth - 1) * t->max_batch;
    for (size_t half = 0; half < 2; half++)
        for (size_t r = 0; r < t->results; r++)
            t->row_scales[half * t->results + r] =
                scales[half * t->max_batch + t->wanted[r] / t->tokens];
}

const float *tacit_trunk_forward(tacit_trunk *trunk, size_t batch, size_t tokens, bool drop)
{
    size_t depth = trunk->config.depth;
    assert(batch <= trunk->max_batch && tokens && tokens <= trunk->max_tokens);
    trunk->batch = batch;
    trunk->tokens = tokens;
    trunk->drops = drop;
    if (!trunk->wanted)
        trunk->results = all_rows(trunk);
    else if (drop)
        spread_scales(trunk);
    if (trunk->config.max_distinct) {
        tacit_rows_members(all_rows(trunk), trunk->source, trunk->distinct, trunk->first,
                           trunk->copies);
        spread(trunk, trunk->config.dim, trunk->ld, trunk->origin, trunk->blocks[0].x);
    }
    for (size_t i = 0; i < depth; i++)
        block_forward(trunk, i, i + 1 < depth ? trunk->blocks[i + 1].x : trunk->last);
    tacit_layernorm_forward(trunk->work, &trunk->norm, trunk->results, trunk->last, trunk->ld,
                            trunk->normed, trunk->ld);
    return trunk->normed;
}

typedef struct scale_job {
    const tacit_trunk *t;
    const float *scale, *x;
    float *y;
    size_t rows, group;
} scale_job;

static void scale_chunk(void *ctx, size_t chunk, unsigned worker)
{
    (void)worker;
    const scale_job *j = ctx;
    const tacit_trunk *t = j->t;
    size_t end = (chunk + 1) * SCALED < j->rows ? (chunk + 1) * SCALED : j->rows;
    for (size_t row = chunk * SCALED; row < end; row++)
        t->work->kernels->scale_add_f32(t->config.dim, j->x + row * t->ld, j->scale[row / j->group],
                                        NULL, j->y + row * t->ld);
}

/* The gradient of a branch's result: d, or under drop path d times the images' factors, in y. */
static const float *branch_gradient(const tacit_trunk *t, size_t i, size_t half, const float *d,
                                    float *y)
{
    if (!t->drops)
        return d;
    scale_job j = { .t = t, .x = d, .y = y, .rows = narrows(t, i) ? t->results : all_rows(t) };
    j.scale = branch_scales(t, i, half, &j.group);
    tacit_parallel_for(t->work->pool, (j.rows + SCALED - 1) / SCALED, scale_chunk, &j);
    return y;
}

/* `last` is free here: it holds gradients of rows. */
static void block_backward(tacit_trunk *t, size_t i, float *d)
{
    const tacit_block *b = &t->blocks[i];
    const tacit_work *work = t->work;
    size_t rows = narrows(t, i) ? t->results : all_rows(t), ld = t->ld;
    float *n = t->normed, *dn = t->last, *wide = t->wide;

    const float *db = branch_gradient(t, i, 1, d, dn);
    tacit_after through = { .gelu_input = b->hidden, .ldg = t->ld_hidden };
    tacit_dense_backward(work, scaled(t, &b->fc2, b->gamma2), rows, db, ld, b->hidden, t->ld_hidden,
                         wide, t->ld_hidden, &through);
    if (b->gamma2)
        tacit_layer_scale_end(&t->layer_scale, &b->fc2, b->gamma2);
    tacit_dense_inputs(work, &b->fc1, rows, wide, t->ld_hidden, dn, ld, NULL);
    tacit_layernorm_backward(work, &b->norm2, rows, b->middle, ld, dn, ld, d, ld, true, n, ld);
    tacit_dense_weights(work, &b->fc1, rows, wide, t->ld_hidden, n, ld);

    db = branch_gradient(t, i, 0, d, n);
    const float *heads = narrows(t, i) ? gather(t, b->heads, wide) : b->heads;
    tacit_dense_backward(work, scaled(t, &b->proj, b->gamma1), rows, db, ld, heads, ld, dn, ld,
                         NULL);
    if (b->gamma1)
        tacit_layer_scale_end(&t->layer_scale, &b->proj, b->gamma1);
    attention_job a = { .t = t, .b = b, .dheads = dn, .dqkv = wide, .ld_dqkv = t->ld_qkv };
    if (narrows(t, i)) {
        scatter(t, dn, n);
        a.dheads = n;
        copy(t, rows, d, dn);
        scatter(t, dn, d);
        rows = all_rows(t);
    }
    attention_backward(t, &a);
    const float *x = b->x, *dqkv = wide;
    float *dx = d;
    if (begins_as_copies(t, i)) { /* what the forward kept of this block is used up */
        rows = t->distinct;
        x = t->origin;
        dqkv = unite(t, b->qkv.out, t->ld_qkv, wide, b->qkv_out);
        dx = unite(t, t->config.dim, ld, d, b->heads);
    }
    tacit_dense_inputs(work, &b->qkv, rows, dqkv, t->ld_qkv, dn, ld, NULL);
    tacit_layernorm_backward(work, &b->norm1, rows, x, ld, dn, ld, dx, ld, true, n, ld);
    tacit_dense_weights(work, &b->qkv, rows, dqkv, t->ld_qkv, n, ld);
    if (dx != d)
        copy(t, rows, dx, d);
}

void tacit_trunk_backward(tacit_trunk *trunk, float *d)
{
    size_t ld = trunk->ld;
    if (trunk->relative)
        tacit_relative_bias_clear(trunk->relative);
    tacit_layernorm_backward(trunk->work, &trunk->norm, trunk->results, trunk->last, ld, d, ld, d,
                             ld, false, NULL, 0);
    for (size_t i = trunk->config.depth; i-- > 0;) {
        if (trunk->config.recompute && i + 1 < trunk->config.depth)
            block_forward(trunk, i, NULL);
        block_backward(trunk, i, d);
        if (trunk->config.no_k_bias) {
            size_t dim = trunk->config.dim;
            memset(trunk->blocks[i].qkv.b->grad + dim, 0, dim * sizeof(float));
        }
    }
    if (trunk->relative)
        tacit_relative_bias_backward(trunk->relative, trunk->work->kernels, trunk->work->pool);
}

/* Each product of a forward has two in the backward; of attention's two there are five, one of
 * which only makes the scores again. Counted is what the gradients need: two each. */
double tacit_trunk_flops(const tacit_trunk_config *c, double tokens, double distinct, double wanted)
{
    double dim = c->dim, head = 3 * dim * dim, tail = dim * (dim + 2 * c->mlp); /* of a token */
    double block = tokens * (head + tail) + 2 * tokens * tokens * dim;
    return 3 * 2 * (c->depth * block - (tokens - distinct) * head - (tokens - wanted) * tail);
}
